"""Equalised learning rate: weights of one size, scaled when they are used."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

_HE_GAIN = math.sqrt(2.0)


class _Equalized:
    """Of a Keras layer with a kernel: weights start as N(0, 1) and are used times `scale`.

    He's initialisation puts gain / sqrt(fan_in) into the first weights; here it is a factor at run time.
    Optimizers such as Adam move every weight about as fast, whatever its size: with weights of the same size
    in all layers, all layers learn at the same pace.

    Reference: T. Karras, T. Aila, S. Laine, J. Lehtinen, "Progressive Growing of GANs for Improved Quality,
    Stability, and Variation", ICLR 2018, arXiv:1710.10196, section 4.1.
    """

    def __init__(self, *args: Any, gain: float = _HE_GAIN, **kwargs: Any) -> None:
        kwargs.setdefault("kernel_initializer", keras.initializers.RandomNormal(0.0, 1.0))
        super().__init__(*args, **kwargs)
        self.gain = gain

    @property
    def scale(self) -> float:
        """gain / sqrt(inputs of one unit), the factor that the kernel is used with."""
        return self.gain / math.sqrt(math.prod(self.kernel.shape[:-1]))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "gain": self.gain}


@keras.saving.register_keras_serializable("tf_gan_zoo")
class EqualizedDense(_Equalized, keras.layers.Dense):
    """A dense layer with equalised learning rate.

    Args:
        units: as of `keras.layers.Dense`.
        gain: of the activation that follows; sqrt(2) for ReLU and its like, 1 for none.
        **kwargs: of `keras.layers.Dense`.

    Input (batch, inputs), output (batch, units).
    """

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        x = tf.matmul(inputs, self.kernel * self.scale)
        x = tf.nn.bias_add(x, self.bias) if self.use_bias else x
        return self.activation(x)


@keras.saving.register_keras_serializable("tf_gan_zoo")
class EqualizedConv2D(_Equalized, keras.layers.Conv2D):
    """A convolution with equalised learning rate.

    Args:
        filters: as of `keras.layers.Conv2D`, like `kernel_size`.
        gain: of the activation that follows; sqrt(2) for ReLU and its like, 1 for none.
        **kwargs: of `keras.layers.Conv2D`.

    Input (batch, height, width, channels), output (batch, height, width, filters) for padding "same".
    """

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return super().convolution_op(inputs, kernel * self.scale)
