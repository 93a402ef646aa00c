"""Dense layers as other frameworks make them."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import layers


def torch_dense(x: keras.KerasTensor, units: int, **options: Any) -> keras.KerasTensor:
    """A dense layer with Torch's default first weights and biases: uniform up to 1 / sqrt(inputs).

    Args:
        x: (batch, inputs).
        units: numbers that the layer gives.
        **options: of `keras.layers.Dense`.

    Returns:
        (batch, units).
    """
    limit = 1.0 / math.sqrt(x.shape[-1])
    kernel, bias = (keras.initializers.RandomUniform(-limit, limit) for _ in range(2))
    return layers.Dense(units, kernel_initializer=kernel, bias_initializer=bias, **options)(x)
