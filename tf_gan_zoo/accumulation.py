"""Updates that do not happen in every step: accumulated gradients, and updates on a condition.

Gradients of several small batches are applied as that of one large batch.

Keras's optimizers can accumulate on one device; under several replicas their update sits inside a
conditional, where gradients cannot be summed. Here replicas sum first, so each holds the same mean, and the
conditional stands outside of them; so it does around a whole update (`apply_if`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

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
        self._ids = [id(v) for v in variables]
        self.sums = [self.add_weight(shape=v.shape, name=f"sum_{i}", **kept) for i, v in enumerate(variables)]
        self.built = True

    def update(
        self, variables: Sequence[keras.Variable], gradients: Sequence[tf.Tensor],
        apply: Callable[[list[tf.Tensor]], None], when: tf.Tensor | None = None,
    ) -> None:  # fmt: skip
        """Adds this replica's gradients; calls `apply` with its share of the mean at every last batch.

        Args:
            variables: those of the player that take part, the same in all steps of one update.
            gradients: one per variable; their sum over replicas is the batch's gradient.
            apply: takes gradients whose sum over replicas is to be applied.
            when: at the last batch, only apply if this holds in all replicas; the sums begin anew anyway.
        """
        context = tf.distribute.get_replica_context()
        replicas = context.num_replicas_in_sync
        totals = context.all_reduce("SUM", list(gradients)) if replicas > 1 else gradients
        sums = [self.sums[self._ids.index(id(v))] for v in variables]
        for total, gradient in zip(sums, totals):
            total.assign_add(tf.cast(gradient, total.dtype))
        self.count.assign((self.count.value + 1) % self.steps)

        is_last = tf.equal(self.count.value, 0)
        due = is_last if when is None else is_last & when
        means = [tf.convert_to_tensor(total.value) / (self.steps * replicas) for total in sums]
        apply_if(due, means, apply)
        apply_if(is_last, [], self._reset)

    def _reset(self, _: Any) -> None:
        for total in self.sums:
            total.assign(tf.zeros_like(total.value))


def apply_if(
    condition: tf.Tensor, gradients: Sequence[tf.Tensor], apply: Callable[[list[tf.Tensor]], None]
) -> None:
    """Calls `apply(gradients)` in every replica if the condition holds, which must be the same in all."""

    def in_all_replicas(strategy: tf.distribute.Strategy, condition: Any, gradients: Any) -> None:
        holds = strategy.experimental_local_results(condition)[0]
        tf.cond(holds, lambda: _run(strategy, apply, gradients), lambda: None)

    context = tf.distribute.get_replica_context()
    context.merge_call(in_all_replicas, args=(condition, list(gradients)))


def _run(strategy: tf.distribute.Strategy, function: Callable[..., None], *arguments: Any) -> None:
    strategy.extended.call_for_each_replica(function, args=arguments)
