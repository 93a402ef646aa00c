"""Gaussian noise that is a function of (seed, step)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_gan_zoo import random


@keras.saving.register_keras_serializable("tf_gan_zoo")
class SeededGaussianNoise(keras.layers.Layer):
    """Adds normal noise in training; does not depend on the number of replicas and resumes exactly.

    Keras's own GaussianNoise draws the same values on every replica and forgets its state when saved. Here
    the model sets the seed before each step (`GAN.reseed`), and the noise is drawn for the global batch.

    Args:
        stddev: standard deviation of the noise, 0 or more.

    Input and output: any shape with a leading batch axis. With `training=False` values pass unchanged.

    Raises:
        ValueError: for a negative standard deviation.
    """

    def __init__(self, stddev: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if stddev < 0:
            raise ValueError(f"stddev must be at least 0, got {stddev}.")
        self.stddev = stddev

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.seed = self.add_weight(
            shape=(2,), dtype="int64", initializer="zeros", trainable=False, name="seed",
            aggregation="only_first_replica",
        )  # fmt: skip

    def reseed(self, seed: tf.Tensor) -> None:
        """Sets the (2,) int64 seed of the noise to come."""
        self.seed.assign(seed)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if not training or not self.stddev:
            return inputs
        shape = [tf.shape(inputs)[0], *(tf.shape(inputs)[i] for i in range(1, inputs.shape.rank))]
        noise = random.normal(shape, tf.convert_to_tensor(self.seed.value))
        return inputs + tf.cast(self.stddev * noise, inputs.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "stddev": self.stddev}
