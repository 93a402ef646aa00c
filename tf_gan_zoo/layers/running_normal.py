"""Standard normal numbers with the mean and deviation of what was seen in training."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_gan_zoo import replicas


@keras.saving.register_keras_serializable("tf_gan_zoo")
class RunningNormal(keras.layers.Layer):
    """Standard normal noise (batch, size) -> numbers with the running mean and deviation of each.

    Call `follow` in a training step with what the numbers shall look like; a fresh layer returns the noise.

    Args:
        rate: how fast both statistics follow the batches.
    """

    def __init__(self, rate: float = 0.02, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = rate

    def build(self, shape: tuple[int | None, ...]) -> None:
        for name, start in (("means", "zeros"), ("squares", "ones")):
            weight = self.add_weight(
                shape=shape[-1:], initializer=start, dtype="float32", trainable=False, name=name
            )
            setattr(self, name, weight)

    def call(self, noise: tf.Tensor) -> tf.Tensor:
        variances = tf.maximum(self.squares - tf.square(self.means), 0.0)
        return self.means + tf.sqrt(variances) * tf.cast(noise, tf.float32)

    def follow(self, values: tf.Tensor, mask: tf.Tensor) -> None:
        """Moves both statistics towards those of the global batch of values (batch, size) within a mask."""
        present = replicas.mean(tf.reduce_sum(tf.cast(mask, tf.float32))) > 0
        rate = self.rate * tf.cast(present, tf.float32)
        for variable, current in ((self.means, values), (self.squares, tf.square(values))):
            current = replicas.mean(replicas.masked_mean(current, mask))
            variable.assign(variable + rate * (current - variable))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate}
