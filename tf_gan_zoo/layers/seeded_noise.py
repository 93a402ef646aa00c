"""Gaussian noise that is a function of (seed, step)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_gan_zoo import random
from tf_gan_zoo.layers.seeded_layer import SeededLayer


@keras.saving.register_keras_serializable("tf_gan_zoo")
class SeededGaussianNoise(SeededLayer):
    """Adds normal noise in training; independent of the number of replicas, see `SeededLayer`.

    Args:
        stddev: standard deviation of the noise, 0 or more.

    Raises:
        ValueError: for a negative standard deviation.
    """

    def __init__(self, stddev: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if stddev < 0:
            raise ValueError(f"stddev must be at least 0, got {stddev}.")
        self.stddev = self.strength = stddev

    def changed(self, inputs: tf.Tensor, shape: list[tf.Tensor], seed: tf.Tensor) -> tf.Tensor:
        return inputs + tf.cast(self.stddev * random.normal(shape, seed), inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "stddev": self.stddev}
