"""Self-attention over the pixels of a feature map (Zhang et al. 2019)."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tf_gan_zoo.layers.spectral_norm import SpectralNormalization


@keras.saving.register_keras_serializable("tf_gan_zoo")
class SelfAttention(layers.Layer):
    """x + gamma * attention(x): every pixel sees a weighted mean of all.

    Queries, keys and values are 1x1 convolutions of x to channels / 8, channels / 8 and channels / 2, without
    biases; keys and values are max-pooled 2x2. A pixel's weights are the softmax over the keys of its query's
    inner products, and a 1x1 convolution takes the weighted mean of the values back to all channels. gamma
    starts at 0, so that the layer starts as the identity.

    Args:
        spectral_norm: all four convolutions are spectrally normalised.
        epsilon: of that normalisation.
        kernel_initializer: of the convolutions.

    Input and output: (batch, height, width, channels), at least 8 channels and 2x2 pixels.

    Reference: H. Zhang, I. Goodfellow, D. Metaxas, A. Odena, "Self-Attention Generative Adversarial
    Networks", ICML 2019, arXiv:1805.08318, section 3; sizes and pooling as in the authors' released code.
    """

    def __init__(
        self, spectral_norm: bool = True, epsilon: float = 1e-12,
        kernel_initializer: Any = "glorot_uniform", **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.spectral_norm, self.epsilon = spectral_norm, epsilon
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        channels = input_shape[-1]
        if channels < 8:
            raise ValueError(f"SelfAttention needs 8 or more channels, got {channels}.")
        reduced = (*input_shape[:-1], channels // 2)
        self.query = self._conv(channels // 8, "query", input_shape)
        self.key = self._conv(channels // 8, "key", input_shape)
        self.value = self._conv(channels // 2, "value", input_shape)
        self.output_conv = self._conv(channels, "output", reduced)
        self.gamma = self.add_weight(shape=(), initializer="zeros", name="gamma")

    def _conv(self, filters: int, name: str, input_shape: tuple[int | None, ...]) -> layers.Layer:
        initializer = self.kernel_initializer.clone()
        conv = layers.Conv2D(
            filters, 1, use_bias=False, kernel_initializer=initializer, name=name, dtype=self.dtype_policy
        )
        conv = SpectralNormalization(conv, self.epsilon) if self.spectral_norm else conv
        conv.build(input_shape)
        return conv

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        weights = self.attention(inputs, training)
        values = _pixels(_pooled(_run(self.value, inputs, training)))
        mixed = tf.cast(weights, values.dtype) @ values
        shape = tf.shape(inputs)
        mixed = tf.reshape(mixed, (shape[0], *_sides(inputs, shape), values.shape[-1]))
        return inputs + tf.cast(self.gamma, inputs.dtype) * _run(self.output_conv, mixed, training)

    def attention(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Weights float32 (batch, height * width queries, pooled height * width keys); rows sum to 1."""
        queries = _pixels(_run(self.query, inputs, training))
        keys = _pixels(_pooled(_run(self.key, inputs, training)))
        products = tf.matmul(queries, keys, transpose_b=True)
        return tf.nn.softmax(tf.cast(products, tf.float32))  # float16 would lose small weights

    def plain(self) -> SelfAttention:
        """An equal layer for inference without spectral normalisation; `plain_weights` are its weights."""
        return SelfAttention.from_config({**self.get_config(), "spectral_norm": False})

    def plain_weights(self) -> list[np.ndarray]:
        """The four kernels as they are used, and gamma, in the order of `plain().weights`."""
        convs = (self.query, self.key, self.value, self.output_conv)
        kernels = [c.normalized_kernel() if self.spectral_norm else c.kernel for c in convs]
        return [np.asarray(self.gamma), *(np.asarray(kernel) for kernel in kernels)]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "spectral_norm": self.spectral_norm,
            "epsilon": self.epsilon,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }


def _run(conv: layers.Layer, inputs: tf.Tensor, training: bool | None) -> tf.Tensor:
    return conv(inputs, training=training) if isinstance(conv, SpectralNormalization) else conv(inputs)


def _pooled(x: tf.Tensor) -> tf.Tensor:
    return tf.nn.max_pool2d(x, 2, 2, "VALID")


def _pixels(x: tf.Tensor) -> tf.Tensor:
    """(batch, height, width, channels) -> (batch, height * width, channels)."""
    shape = tf.shape(x)
    height, width = _sides(x, shape)
    return tf.reshape(x, (shape[0], height * width, x.shape[-1]))


def _sides(x: tf.Tensor, shape: tf.Tensor) -> tuple[Any, Any]:
    """Height and width, as numbers where they are known."""
    return tuple(shape[axis] if x.shape[axis] is None else x.shape[axis] for axis in (1, 2))
