"""Local response normalization of the first deep networks (Krizhevsky et al. 2012, section 3.3)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tf_gan_zoo")
class LocalResponseNormalization(keras.layers.Layer):
    """x / (bias + alpha * sum of the squares of five neighboring channels)^0.75; maps keep their shape.

    Args:
        bias: 1 in CaffeNet, 2 in VGG_CNN_M.
        alpha: 2e-5 in CaffeNet, whose 1e-4 is of the mean; 1e-4 in VGG_CNN_M.
    """

    def __init__(self, bias: float = 1.0, alpha: float = 1e-4 / 5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bias, self.alpha = bias, alpha

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.nn.local_response_normalization(inputs, 2, bias=self.bias, alpha=self.alpha, beta=0.75)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bias": self.bias, "alpha": self.alpha}
