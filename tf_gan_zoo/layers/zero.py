"""A constraint for biases that a normalisation takes out again."""

from __future__ import annotations

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tf_gan_zoo")
class Zero(keras.constraints.Constraint):
    """Keeps a weight at 0.

    The gradient of a bias in front of a normalisation is nothing but rounding error, which Adam would turn
    into steps of full size, different ones on every machine. The bias stays in the parameter count.
    """

    def __call__(self, value: tf.Tensor) -> tf.Tensor:
        return tf.zeros_like(value)
