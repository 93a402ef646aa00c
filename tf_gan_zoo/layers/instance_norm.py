"""Instance normalisation (Ulyanov et al. 2016, arXiv:1607.08022)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tf_gan_zoo")
class InstanceNormalization(keras.layers.Layer):
    """Normalises each channel of each example over height and width; the same in training and inference.

    Written as one multiplication and one addition per pixel, the form that mobile runtimes fuse best.

    Args:
        epsilon: added to the variance.
        affine: learn a gain and a bias per channel.

    Input and output: (batch, height, width, channels).
    """

    def __init__(
        self, epsilon: float = 1e-5, affine: bool = False, gamma_initializer: Any = "ones", **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.epsilon, self.affine = epsilon, affine
        self.gamma_initializer = keras.initializers.get(gamma_initializer)
        self.gamma = self.beta = None

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if self.affine:
            shape = (input_shape[-1],)
            self.gamma = self.add_weight(shape=shape, initializer=self.gamma_initializer, name="gamma")
            self.beta = self.add_weight(shape=shape, initializer="zeros", name="beta")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        x = tf.cast(inputs, tf.float32)  # float16 would lose the variance
        mean = tf.reduce_mean(x, [1, 2], keepdims=True)
        variance = tf.reduce_mean(tf.math.squared_difference(x, mean), [1, 2], keepdims=True)
        scale, offset = self.scale_and_offset(mean, variance)
        return tf.cast(x * scale + offset, inputs.dtype)

    def scale_and_offset(self, mean: tf.Tensor, variance: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """What each channel is multiplied by and what is added then, float32, given its statistics."""
        scale = tf.math.rsqrt(variance + self.epsilon)
        if not self.affine:
            return scale, -mean * scale
        scale = scale * tf.cast(self.gamma, tf.float32)
        return scale, tf.cast(self.beta, tf.float32) - mean * scale

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        gamma = keras.initializers.serialize(self.gamma_initializer)
        own = {"epsilon": self.epsilon, "affine": self.affine, "gamma_initializer": gamma}
        return {**super().get_config(), **own}
