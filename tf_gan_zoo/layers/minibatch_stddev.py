"""Minibatch standard deviation: lets a discriminator see how varied a batch is."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tf_gan_zoo")
class MinibatchStddev(keras.layers.Layer):
    """Adds a channel that holds the mean standard deviation over a group of examples.

    In each group: the standard deviation of every feature at every pixel over the group's examples, averaged
    to one number, which becomes a constant channel of all examples of the group. Real batches have a larger
    number than those of a generator that makes the same picture again and again.

    Args:
        group_size: examples in a group; neighbours in the batch, so that replicas with a share of whole
            groups see what one device sees. If it does not divide the batch, the largest number below it
            that does is taken.
        epsilon: added to the variance.

    Input (batch, height, width, channels), output (batch, height, width, channels + 1).

    Raises:
        ValueError: for groups of fewer than 2.

    Reference: T. Karras, T. Aila, S. Laine, J. Lehtinen, "Progressive Growing of GANs for Improved Quality,
    Stability, and Variation", ICLR 2018, arXiv:1710.10196, section 3; groups as in the authors' code.
    """

    def __init__(self, group_size: int = 4, epsilon: float = 1e-8, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if group_size < 2:
            raise ValueError(f"group_size must be at least 2, got {group_size}.")
        self.group_size, self.epsilon = group_size, epsilon

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        x = tf.cast(inputs, tf.float32)
        batch, height, width = (tf.shape(x)[axis] for axis in range(3))
        group = self._fitting_group(batch)
        grouped = tf.reshape(x, (batch // group, group, height, width, x.shape[-1]))
        deviations = tf.sqrt(tf.math.reduce_variance(grouped, axis=1) + self.epsilon)
        numbers = tf.repeat(tf.reduce_mean(deviations, axis=[1, 2, 3]), group)
        channel = tf.broadcast_to(numbers[:, None, None, None], (batch, height, width, 1))
        return tf.concat([inputs, tf.cast(channel, inputs.dtype)], axis=-1)

    def _fitting_group(self, batch: tf.Tensor) -> tf.Tensor:
        """The largest divisor of the batch that is not above `group_size`."""
        sizes = tf.range(1, self.group_size + 1)
        return tf.reduce_max(tf.where(batch % sizes == 0, sizes, 1))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], input_shape[-1] + 1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "group_size": self.group_size, "epsilon": self.epsilon}
