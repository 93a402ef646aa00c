"""Dropout whose masks are a function of (seed, step)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_gan_zoo import random


@keras.saving.register_keras_serializable("tf_gan_zoo")
class SeededDropout(keras.layers.Layer):
    """Dropout that does not depend on the number of replicas and resumes exactly.

    Keras's own Dropout draws the same mask on every replica and forgets its state when saved. Here the model
    sets the seed before each step (`GAN.reseed`), and the mask is drawn for the global batch.

    Args:
        rate: fraction of values set to zero in training; the others grow by 1 / (1 - rate).

    Input and output: any shape with a leading batch axis. With `training=False` values pass unchanged.
    """

    def __init__(self, rate: float = 0.5, **kwargs: Any):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be in [0, 1), got {rate}.")
        self.rate = rate

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.seed = self.add_weight(
            shape=(2,), dtype="int64", initializer="zeros", trainable=False, name="seed",
            aggregation="only_first_replica",
        )  # fmt: skip

    def reseed(self, seed: tf.Tensor) -> None:
        """Sets the (2,) int64 seed of the masks to come."""
        self.seed.assign(seed)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if not training or not self.rate:
            return inputs
        shape = [tf.shape(inputs)[0], *(tf.shape(inputs)[i] for i in range(1, inputs.shape.rank))]
        kept = random.uniform(shape, tf.convert_to_tensor(self.seed.value)) >= self.rate
        return inputs * tf.cast(kept, inputs.dtype) / (1.0 - self.rate)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate}
