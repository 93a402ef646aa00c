"""Dropout whose mask is a function of (seed, step)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_gan_zoo import random
from tf_gan_zoo.layers.seeded_layer import SeededLayer


@keras.saving.register_keras_serializable("tf_gan_zoo")
class SeededDropout(SeededLayer):
    """Dropout that does not depend on the number of replicas and resumes exactly; see `SeededLayer`.

    Args:
        rate: fraction of values set to zero in training; the others grow by 1 / (1 - rate).

    Raises:
        ValueError: for a rate outside [0, 1).
    """

    def __init__(self, rate: float = 0.5, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be in [0, 1), got {rate}.")
        self.rate = self.strength = rate

    def changed(self, inputs: tf.Tensor, shape: list[tf.Tensor], seed: tf.Tensor) -> tf.Tensor:
        kept = random.uniform(shape, seed) >= self.rate
        return inputs * tf.cast(kept, inputs.dtype) / (1.0 - self.rate)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate}
