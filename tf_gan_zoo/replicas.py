"""Statistics over the global batch, from within one replica; gradients flow back to all replicas.

Outside of a strategy, and with one replica, they are those of the batch at hand.
"""

from __future__ import annotations

import tensorflow as tf


def check_loops(strategy: tf.distribute.Strategy, steps_per_execution: int) -> None:
    """Refuses what Keras cannot do: several steps in one call into TensorFlow, each on several replicas.

    Raises:
        ValueError: for mirrored replicas with more than one step per execution.
    """
    mirrored = (tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy)
    if steps_per_execution > 1 and isinstance(strategy, mirrored) and strategy.num_replicas_in_sync > 1:
        raise ValueError(
            f"steps_per_execution must be 1 on {strategy.num_replicas_in_sync} mirrored replicas, got "
            f"{steps_per_execution}: Keras cannot loop over steps there. Leave it out, or use one device."
        )


def mean(value: tf.Tensor) -> tf.Tensor:
    """The mean of a tensor over replicas."""
    return value if count() == 1 else tf.distribute.get_replica_context().all_reduce("MEAN", value)


def batch_mean(value: tf.Tensor) -> tf.Tensor:
    """The mean of (batch, ...) over the examples of the global batch, float32 (...)."""
    return mean(tf.reduce_mean(tf.cast(value, tf.float32), axis=0))


def gather(value: tf.Tensor) -> tf.Tensor:
    """Each replica's (batch, ...) tensor, one behind the other, the same on all replicas."""
    if count() == 1:
        return value
    context = tf.distribute.get_replica_context()
    place = tf.one_hot(context.replica_id_in_sync_group, count(), dtype=value.dtype)
    # A sum in which all replicas but one have zeros: unlike all_gather's, its gradient is sure to be right.
    placed = tf.reshape(place, (-1, *[1] * value.shape.rank)) * value[None]
    return tf.reshape(context.all_reduce("SUM", placed), (-1, *value.shape[1:]))


def rolled(value: tf.Tensor) -> tf.Tensor:
    """Each example's neighbour in the global batch: (batch, ...), the last one's is the first."""
    everything = tf.roll(gather(value), -1, axis=0)
    if count() == 1:
        return everything
    first = tf.distribute.get_replica_context().replica_id_in_sync_group * tf.shape(value)[0]
    return everything[first : first + tf.shape(value)[0]]


def masked_mean(values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """This replica's share of the mean over the examples that a mask picks; 0 if it picks none.

    The mean over replicas of what they get is the mean over the picked examples of the global batch.

    Args:
        values: float32 (batch, ...).
        mask: boolean (batch,).
    """
    picked = tf.cast(mask, values.dtype)
    total = tf.tensordot(picked, values, 1)
    return tf.math.divide_no_nan(total, mean(tf.reduce_sum(picked)))


def count() -> int:
    """How many replicas work on a step."""
    context = tf.distribute.get_replica_context()
    return context.num_replicas_in_sync if context else 1
