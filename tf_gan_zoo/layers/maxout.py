"""Maxout: a dense layer whose units are the largest of several linear functions."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tf_gan_zoo")
class Maxout(keras.layers.Dense):
    """Each unit is the largest of `pieces` linear functions of the input: a learned convex activation.

    Args:
        maxout_units: numbers that the layer gives.
        pieces: linear functions per unit; those of one unit are neighbours in the kernel.
        **kwargs: of `keras.layers.Dense`, which holds the weights (inputs, maxout_units * pieces).

    Input (batch, inputs), output (batch, maxout_units).

    Reference: I. Goodfellow, D. Warde-Farley, M. Mirza, A. Courville, Y. Bengio, "Maxout Networks", ICML
    2013, arXiv:1302.4389, section 2.
    """

    def __init__(self, maxout_units: int, pieces: int, **kwargs: Any) -> None:
        super().__init__(maxout_units * pieces, **kwargs)
        self.maxout_units, self.pieces = maxout_units, pieces

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        parts = tf.reshape(super().call(inputs), (-1, self.maxout_units, self.pieces))
        return tf.reduce_max(parts, axis=-1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.maxout_units)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["units"]
        return {**config, "maxout_units": self.maxout_units, "pieces": self.pieces}
