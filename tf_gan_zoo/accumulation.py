"""Gradients of several small batches applied as that of one large batch.

Keras's optimizers can accumulate on one device; under several replicas their update sits inside a
conditional, where gradients cannot be summed. Here replicas sum first, so each holds the same mean, and the
conditional stands outside of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf


class GradientAccumulator(keras.layers.Layer):
    """Adds up the gradients of one player's variables over `steps` batches.

    The sums are weights, so a run that is stopped between two updates goes on with them.

    Args:
        variables: the player's trainable variables.
        steps: batches per update.
    """

    def __init__(self, variables: Sequence[keras.Variable], steps: int, **kwargs) -> None:
        super().__init__(dtype="float32", trainable=False, **kwargs)
        self.steps = steps
        kept = {"initializer": "zeros", "trainable": False}
        self.count = self.add_weight(
            shape=(), dtype="int32", name="count", aggregation="only_first_replica", **kept
        )
        self.sums = [self.add_weight(shape=v.shape, name=f"sum_{i}", **kept) for i, v in enumerate(variables)]
        self.built = True

    def update(self, gradients: Sequence[tf.Tensor], apply: Callable[[list[tf.Tensor]], None]) -> None:
        """Adds this replica's gradients; calls `apply` with its share of the mean at every last batch.

        Args:
            gradients: one per variable; their sum over replicas is the batch's gradient.
            apply: takes gradients whose sum over replicas is to be applied.
        """
        context = tf.distribute.get_replica_context()
        replicas = context.num_replicas_in_sync
        totals = context.all_reduce("SUM", list(gradients)) if replicas > 1 else gradients
        for total, gradient in zip(self.sums, totals):
            total.assign_add(tf.cast(gradient, total.dtype))
        self.count.assign((self.count.value + 1) % self.steps)

        def finish() -> None:
            apply([tf.convert_to_tensor(total.value) / (self.steps * replicas) for total in self.sums])
            for total in self.sums:
                total.assign(tf.zeros_like(total.value))

        def in_all_replicas(strategy: tf.distribute.Strategy) -> None:
            count = strategy.experimental_local_results(self.count.value)[0]
            tf.cond(count == 0, lambda: _run(strategy, finish), lambda: None)

        context.merge_call(in_all_replicas)


def _run(strategy: tf.distribute.Strategy, function: Callable[[], None]) -> None:
    strategy.extended.call_for_each_replica(function)
