"""Pixel norm: the feature vector of every pixel is brought to the same length."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tf_gan_zoo")
class PixelNorm(keras.layers.Layer):
    """x / sqrt(mean of x^2 over channels + epsilon): every pixel's vector gets the length sqrt(channels).

    There is nothing to learn and no statistic of the batch; it keeps signals from growing out of bounds. On
    latents (batch, size) it is the projection to the sphere of radius sqrt(size).

    Args:
        epsilon: added to the mean square.

    Input and output: (batch, ..., channels).

    Reference: T. Karras, T. Aila, S. Laine, J. Lehtinen, "Progressive Growing of GANs for Improved Quality,
    Stability, and Variation", ICLR 2018, arXiv:1710.10196, section 4.2.
    """

    def __init__(self, epsilon: float = 1e-8, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        x = tf.cast(inputs, tf.float32)  # squares of float16 overflow, and epsilon vanishes in it
        mean_square = tf.reduce_mean(tf.square(x), axis=-1, keepdims=True)
        return tf.cast(x * tf.math.rsqrt(mean_square + self.epsilon), inputs.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}
