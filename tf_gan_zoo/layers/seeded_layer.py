"""What layers with random numbers share: draws that are a function of (seed, step)."""

from __future__ import annotations

import keras
import tensorflow as tf


class SeededLayer(keras.layers.Layer):
    """A layer that changes its input at random in training, and resumes exactly.

    Keras's own layers draw the same numbers on every replica and forget their state when saved. Here the
    model sets the seed before each step (`GAN.reseed`), and numbers are drawn for the global batch.

    Subclasses set the number `strength` and write `changed`. Input and output: any shape with a leading batch
    axis. With `training=False`, or at strength 0, values pass unchanged.
    """

    strength: float

    def changed(self, inputs: tf.Tensor, shape: list[tf.Tensor], seed: tf.Tensor) -> tf.Tensor:
        """The inputs changed by numbers of that shape, drawn with that seed from `tf_gan_zoo.random`."""
        raise TypeError(f"{type(self).__name__} must define changed(inputs, shape, seed).")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.seed = self.add_weight(
            shape=(2,), dtype="int64", initializer="zeros", trainable=False, name="seed",
            aggregation="only_first_replica",
        )  # fmt: skip

    def reseed(self, seed: tf.Tensor) -> None:
        """Sets the (2,) int64 seed of the draws to come."""
        self.seed.assign(seed)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        if not training or not self.strength:
            return inputs
        shape = [tf.shape(inputs)[0], *(tf.shape(inputs)[i] for i in range(1, inputs.shape.rank))]
        return self.changed(inputs, shape, tf.convert_to_tensor(self.seed.value))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape
