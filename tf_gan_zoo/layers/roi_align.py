"""Features of regions: cut out of a map at any place and size, always in the same number of cells."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tf_gan_zoo")
class RoIAlign(keras.layers.Layer):
    """Region of interest alignment: bilinear samples, averaged in each cell of a region.

    Each region is parted into `size` x `size` cells; a cell is the mean of `samples` x `samples` values
    interpolated at regular places in it. Places outside the map have the value at its border. Rows and
    columns are interpolated one after the other by matrix products, which every device and runtime has.

    Inputs: [features (batch, height, width, channels), boxes (batch, regions, 4): top, left, bottom, right
    as parts of the height and width]. Output: (batch, regions, size, size, channels).

    Reference: K. He, G. Gkioxari, P. Dollar, R. Girshick, "Mask R-CNN", ICCV 2017, section 3.

    Args:
        size: cells per side.
        samples: interpolated places per cell and side.
    """

    def __init__(self, size: int = 6, samples: int = 2, **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs})  # half floats are too coarse for places
        if size < 1 or samples < 1:
            raise ValueError(f"RoIAlign: size and samples must be at least 1, got {size} and {samples}.")
        self.size, self.samples = size, samples

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        features, boxes = inputs
        batch, height, width, channels = (*tf.unstack(tf.shape(features)[:3]), features.shape[-1])
        regions = tf.shape(boxes)[1]
        rows = self._weights(boxes[..., 0], boxes[..., 2], height)
        columns = self._weights(boxes[..., 1], boxes[..., 3], width)
        x = tf.reshape(rows, (batch, regions * self.size, height))
        x = tf.matmul(x, tf.reshape(features, (batch, height, width * channels)))
        x = tf.reshape(x, (batch, regions, self.size, width, channels))
        x = tf.matmul(tf.expand_dims(columns, 2), x)  # the same columns for each row
        return tf.reshape(x, (batch, regions, self.size, self.size, channels))

    def _weights(self, start: tf.Tensor, end: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
        """How much of each of `length` rows goes into each cell: (batch, regions, size, length)."""
        count = self.size * self.samples
        parts = (tf.range(count, dtype=self.compute_dtype) + 0.5) / count
        pixels = tf.cast(length, self.compute_dtype)
        # expand_dims, since LiteRT has no slice that adds an axis.
        places = tf.expand_dims(start, -1) + parts * tf.expand_dims(end - start, -1)
        places = tf.clip_by_value(places * pixels - 0.5, 0.0, pixels - 1.0)
        distances = tf.abs(tf.expand_dims(places, -1) - tf.range(pixels, dtype=self.compute_dtype))
        weights = tf.nn.relu(1.0 - distances)
        shape = (tf.shape(start)[0], tf.shape(start)[1], self.size, self.samples, length)
        return tf.reduce_mean(tf.reshape(weights, shape), axis=3)

    def compute_output_shape(self, input_shape: list[tuple]) -> tuple[int | None, ...]:
        features, boxes = input_shape
        return (features[0], boxes[1], self.size, self.size, features[-1])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size, "samples": self.samples}


@keras.saving.register_keras_serializable("tf_gan_zoo")
class RegionsToBatch(keras.layers.Layer):
    """(batch, regions, ...) -> (batch * regions, ...), for layers that know one batch axis."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.reshape(inputs, (-1, *inputs.shape[2:]))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (None, *input_shape[2:])


@keras.saving.register_keras_serializable("tf_gan_zoo")
class BatchToRegions(keras.layers.Layer):
    """The way back: [(batch * regions, ...), boxes (batch, regions, 4)] -> (batch, regions, ...)."""

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        values, boxes = inputs
        return tf.reshape(values, (tf.shape(boxes)[0], tf.shape(boxes)[1], *values.shape[1:]))

    def compute_output_shape(self, input_shape: list[tuple]) -> tuple[int | None, ...]:
        values, boxes = input_shape
        return (*boxes[:2], *values[1:])
