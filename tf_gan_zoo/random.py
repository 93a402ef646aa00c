"""Random draws that depend on (seed, purpose, step) alone.

A training step draws for the GLOBAL batch and each replica takes its slice, so the number of replicas does
not change a run, and a resumed run continues the same stream. The algorithm is always Philox: TensorFlow's
default differs between XLA and the rest.
"""

from __future__ import annotations

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
    return _slice_of_global(
        lambda s: tf.random.stateless_normal(s, seed, dtype=tf.float32, alg="philox"), shape
    )


def uniform(shape: Sequence, seed: Seed, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
    """Uniform float32 values in [low, high); the first axis of `shape` is this replica's batch."""
    return _slice_of_global(
        lambda s: tf.random.stateless_uniform(s, seed, low, high, dtype=tf.float32, alg="philox"),
        shape,
    )


def integers(shape: Sequence, seed: Seed, high: int, low: int = 0) -> tf.Tensor:
    """Uniform int32 values in [low, high); the first axis of `shape` is this replica's batch."""
    return _slice_of_global(
        lambda s: tf.random.stateless_uniform(s, seed, low, high, dtype=tf.int32, alg="philox"),
        shape,
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
