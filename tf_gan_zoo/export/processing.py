"""Pictures as programs hold them, uint8 from 0 to 255, turned into a network's range and back."""

from __future__ import annotations

import tensorflow as tf

from tf_gan_zoo.endpoints import Range


def to_range(pictures: tf.Tensor, value_range: Range) -> tf.Tensor:
    """uint8 pictures -> float32 in `value_range`."""
    low, high = value_range
    return tf.cast(pictures, tf.float32) * ((high - low) / 255.0) + low


def to_uint8(pictures: tf.Tensor, value_range: Range) -> tf.Tensor:
    """float32 pictures in `value_range` -> uint8, rounded to the nearest; values outside are cut off."""
    low, high = value_range
    levels = (pictures - low) * (255.0 / (high - low))
    return tf.cast(tf.round(tf.clip_by_value(levels, 0.0, 255.0)), tf.uint8)
