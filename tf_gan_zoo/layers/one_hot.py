"""Class labels as vectors."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tf_gan_zoo")
class OneHot(keras.layers.Layer):
    """Integer labels (batch,) -> vectors (batch, num_classes) with one 1; all 0 for a label out of range.

    Args:
        num_classes: length of a vector.
    """

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = num_classes

    def call(self, labels: tf.Tensor) -> tf.Tensor:
        # A comparison: integer runtimes have no quantised form of the operator ONE_HOT.
        classes = tf.range(self.num_classes, dtype=labels.dtype)
        return tf.cast(tf.equal(labels[:, None], classes), self.compute_dtype)

    def compute_output_spec(self, labels: keras.KerasTensor) -> keras.KerasTensor:
        return keras.KerasTensor((labels.shape[0], self.num_classes), dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_classes": self.num_classes}
