"""Batch normalisation that never uses moving averages (Isola et al. 2017, section 6.2)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tf_gan_zoo")
class BatchStatisticsNormalization(keras.layers.Layer):
    """Normalises each channel by the statistics of the pictures at hand, then applies a gain and a bias.

    In training these are the statistics of the batch, at inference those of each picture by itself. The two
    are the same for a batch of one, with which pix2pix is trained; and a picture's translation does not
    depend on what else is in the batch. There is no moving average, hence no state.

    Args:
        epsilon: added to the variance.
        per_image: statistics of each picture in training, too, whatever the batch size.
        synchronized: batch statistics over all replicas instead of each replica's part.
        gamma_initializer: initial gain.

    Input and output: (batch, height, width, channels).
    """

    def __init__(
        self, epsilon: float = 1e-5, per_image: bool = False, synchronized: bool = False,
        gamma_initializer: Any = "ones", **kwargs: Any,
    ):  # fmt: skip
        super().__init__(**kwargs)
        self.epsilon, self.per_image, self.synchronized = epsilon, per_image, synchronized
        self.gamma_initializer = keras.initializers.get(gamma_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (input_shape[-1],)
        self.gamma = self.add_weight(shape=shape, initializer=self.gamma_initializer, name="gamma")
        self.beta = self.add_weight(shape=shape, initializer="zeros", name="beta")

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        x = tf.cast(inputs, tf.float32)  # float16 would lose the variance
        over_batch = bool(training) and not self.per_image
        mean, variance = self._moments(x, [0, 1, 2] if over_batch else [1, 2], over_batch)
        scale, offset = self.scale_and_offset(mean, variance)
        return tf.cast(x * scale + offset, inputs.dtype)

    def scale_and_offset(self, mean: tf.Tensor, variance: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """What each channel is multiplied by and what is added then, float32, given its statistics."""
        scale = tf.math.rsqrt(variance + self.epsilon) * tf.cast(self.gamma, tf.float32)
        return scale, tf.cast(self.beta, tf.float32) - mean * scale

    def _moments(self, x: tf.Tensor, axes: list[int], over_batch: bool) -> tuple[tf.Tensor, tf.Tensor]:
        reduce = _mean_over_replicas if over_batch and self.synchronized else tf.identity
        mean = reduce(tf.reduce_mean(x, axes, keepdims=True))
        return mean, reduce(tf.reduce_mean(tf.math.squared_difference(x, mean), axes, keepdims=True))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "epsilon": self.epsilon,
            "per_image": self.per_image,
            "synchronized": self.synchronized,
            "gamma_initializer": keras.initializers.serialize(self.gamma_initializer),
        }


def _mean_over_replicas(value: tf.Tensor) -> tf.Tensor:
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.MEAN, value)
