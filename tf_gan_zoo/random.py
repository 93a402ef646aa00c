"""Random draws that depend on (seed, purpose, step) alone.

A training step draws for the GLOBAL batch and each replica takes its slice, so the number of replicas does
not change a run, and a resumed run continues the same stream.

TensorFlow's stateless floats differ between XLA and the rest, its Philox integers do not. So floats are made
of integers here, the way TensorFlow's CPU kernels make them: uniform ones are bit for bit the same with XLA
and without, normal ones up to the rounding of logarithm, sine and cosine.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence

import tensorflow as tf

Seed = tf.Tensor | Sequence[int]


def make_seed(seed: int | tf.Tensor, purpose: str, step: int | tf.Tensor = 0) -> tf.Tensor:
    """The (2,) int64 seed of one draw; `purpose` keeps the draws of one step apart."""
    high = tf.cast(seed, tf.int64) % 2**31 * 2**32
    return tf.stack([high + zlib.crc32(purpose.encode()), tf.cast(step, tf.int64)])


def normal(shape: Sequence, seed: Seed) -> tf.Tensor:
    """Standard normal float32 values; the first axis of `shape` is this replica's batch."""
    return _slice_of_global(lambda s: _normal(s, seed), shape)


def uniform(shape: Sequence, seed: Seed, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
    """Uniform float32 values in [low, high); the first axis of `shape` is this replica's batch."""
    return _slice_of_global(lambda s: global_uniform(s, seed, low, high), shape)


def global_uniform(shape: Sequence, seed: Seed, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
    """Uniform float32 values in [low, high), the same on all replicas."""
    bits = _bits(shape, seed)
    fractions = tf.cast(tf.bitwise.bitwise_and(bits, 2**23 - 1), tf.float32) * 2.0**-23
    return fractions * (high - low) + low


def _normal(shape: Sequence, seed: Seed) -> tf.Tensor:
    """Box and Muller's transformation of pairs of uniform values."""
    count = tf.reduce_prod(tf.stack([tf.cast(side, tf.int32) for side in shape]))
    pairs = global_uniform(((count + 1) // 2, 2), seed)
    radius = tf.sqrt(-2.0 * tf.math.log(tf.maximum(pairs[:, 0], 1e-7)))
    angle = 2.0 * math.pi * pairs[:, 1]
    values = tf.stack([tf.sin(angle) * radius, tf.cos(angle) * radius], axis=1)
    return tf.reshape(tf.reshape(values, [-1])[:count], shape)


def _bits(shape: Sequence, seed: Seed) -> tf.Tensor:
    return tf.random.stateless_uniform(shape, seed, None, None, dtype=tf.int32, alg="philox")


def integers(shape: Sequence, seed: Seed, high: int, low: int = 0) -> tf.Tensor:
    """Uniform int32 values in [low, high); the first axis of `shape` is this replica's batch."""
    return _slice_of_global(
        lambda s: tf.random.stateless_uniform(s, seed, low, high, dtype=tf.int32, alg="philox"), shape
    )


def _slice_of_global(draw: Callable[[Sequence], tf.Tensor], shape: Sequence) -> tf.Tensor:
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync if context else 1
    if replicas == 1:
        return draw(shape)
    local = shape[0]
    values = draw((local * replicas, *shape[1:]))
    first = tf.cast(context.replica_id_in_sync_group, tf.int32) * local
    return values[first : first + local]
