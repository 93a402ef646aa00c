"""Batch normalisation whose gain and bias depend on the example (Dumoulin et al. 2017)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tf_gan_zoo")
class ConditionalBatchNormalization(keras.layers.BatchNormalization):
    """Batch norm of x, then x * gain + bias with one gain and one bias per example and channel.

    Called with [x, gain, bias]: x (batch, height, width, channels), the others (batch, channels), for example
    from an Embedding of the class (gains start at 1, biases at 0) or a Dense layer.

    Args:
        **kwargs: of `keras.layers.BatchNormalization`, such as momentum, epsilon and synchronized.

    Reference: V. Dumoulin, J. Shlens, M. Kudlur, "A Learned Representation for Artistic Style", ICLR 2017,
    arXiv:1610.07629; H. de Vries et al., "Modulating Early Visual Processing by Language", NIPS 2017,
    arXiv:1707.00683.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "center": False, "scale": False})

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        super().build(input_shape[0])
        self.input_spec = None  # the base expects x alone

    def call(self, inputs: list[tf.Tensor], training: bool | None = None) -> tf.Tensor:
        x, gain, bias = inputs
        gain, bias = gain[:, None, None, :], bias[:, None, None, :]
        if training and self.trainable:
            return super().call(x, training=True) * gain + bias
        # One multiplication and one addition per pixel, the form that mobile runtimes fuse best.
        mean, variance = (tf.cast(v.value, tf.float32) for v in (self.moving_mean, self.moving_variance))
        scale = tf.cast(gain, tf.float32) * tf.math.rsqrt(variance + self.epsilon)
        shifted = tf.cast(x, tf.float32) * scale + (tf.cast(bias, tf.float32) - mean * scale)
        return tf.cast(shifted, x.dtype)

    def compute_output_shape(self, input_shape: list[tuple[int | None, ...]]) -> tuple[int | None, ...]:
        return tuple(input_shape[0])
