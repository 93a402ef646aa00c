"""What `GAN.fit` does before Keras takes over: check the data, group batches, follow phases."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from tf_gan_zoo.batch_spec import BatchError

if TYPE_CHECKING:
    from tf_gan_zoo.gan import GAN


@contextlib.contextmanager
def initial_conditions(precision: str, seed: int, purpose: str = "") -> Iterator[None]:
    """Networks built inside have this dtype policy and initial weights that depend on seed and purpose alone.

    Keras draws seeds of unseeded initializers from Python's generator, whose state is put back afterwards.

    Args:
        precision: name of the dtype policy.
        seed: of a model's config.
        purpose: keeps networks apart that are built on one seed, but not in one block: without it both would
            begin with the same numbers.
    """
    import random as python_random

    policy, state = keras.config.dtype_policy(), python_random.getstate()
    keras.config.set_dtype_policy(precision)
    python_random.seed(f"{seed} {purpose}" if purpose else seed)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)
        python_random.setstate(state)


def cardinality(dataset: Any) -> int | None:
    """Number of batches, or None if it is infinite or unknown."""
    count = int(dataset.cardinality()) if isinstance(dataset, tf.data.Dataset) else -1
    return count if count >= 0 else None


def as_dataset(model: GAN, x: Any, y: Any, batch_size: int | None, shuffle: bool) -> Any:
    """A checked dataset of batches for `model`.

    Raises:
        BatchError: if the data do not fit the model's `batch_spec`, or there are none.
        TypeError: if `x` is neither a dataset nor arrays.
    """
    if isinstance(x, tf.distribute.DistributedDataset):
        return x
    if not isinstance(x, tf.data.Dataset):
        x = _from_arrays(model, x if y is None else (x, y), batch_size, shuffle)
    elif y is not None or batch_size is not None:
        raise TypeError("a tf.data.Dataset brings its own batches: do not pass y or batch_size with it.")
    first = _check_dataset(model, x)
    replicas = model.distribute_strategy.num_replicas_in_sync
    if replicas > 1:
        x = _equal_batches(x, first, replicas)
    return group_batches(x, first, model.batches_per_step)


def _equal_batches(dataset: tf.data.Dataset, batch_size: int, replicas: int) -> tf.data.Dataset:
    """Leaves out a last short batch: replicas with unequal parts would weigh its examples wrongly."""
    if batch_size % replicas:
        raise BatchError(
            f"A batch of {batch_size} examples cannot be shared equally by {replicas} replicas: "
            f"batch the data by a multiple of {replicas}."
        )
    return dataset.rebatch(batch_size, drop_remainder=True)


def _check_dataset(model: GAN, dataset: tf.data.Dataset) -> int:
    """Checks the element spec and the first batch; returns the examples in that batch."""
    spec = model.batch_spec
    spec.check_static(spec.name_fields(dataset.element_spec))
    first = next(iter(dataset.take(1)), None)
    if first is None:
        raise BatchError(
            f"The dataset is empty: expected batches of {spec.describe()}. Check the path and the "
            "batch size (drop_remainder=True with fewer examples than one batch leaves nothing)."
        )
    named = {name: np.asarray(value) for name, value in spec.name_fields(first).items()}
    spec.check_values(named)
    return len(next(iter(named.values())))


def _from_arrays(model: GAN, arrays: Any, batch_size: int | None, shuffle: bool) -> tf.data.Dataset:
    leaves = [arrays] if not isinstance(arrays, (Mapping, tuple, list)) else tf.nest.flatten(arrays)
    if not leaves or not all(hasattr(leaf, "shape") and hasattr(leaf, "dtype") for leaf in leaves):
        raise TypeError(
            f"fit() takes a tf.data.Dataset or arrays (one, a tuple or a dict), got {type(arrays).__name__}. "
            "Wrap other sources with tf.data.Dataset.from_generator."
        )
    fields = {n: np.asarray(v) for n, v in model.batch_spec.name_fields(arrays).items()}
    model.batch_spec.check_values(fields)
    sizes = {name: len(value) for name, value in fields.items()}
    if len(set(sizes.values())) > 1:
        raise BatchError(f"All arrays must have the same number of examples, got {sizes}.")
    count = next(iter(sizes.values()))
    dtypes = {n: object if f.dtype == "string" else f.dtype for n, f in model.batch_spec.items()}
    fields = {n: v.astype(dtypes[n], copy=False) for n, v in fields.items()}
    dataset = tf.data.Dataset.from_tensor_slices(fields)
    if shuffle:
        dataset = dataset.shuffle(count, seed=model.config.seed, reshuffle_each_iteration=True)
    batch_size = min(batch_size or model.config.batch_size, count)
    return dataset.batch(batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)


def group_batches(dataset: tf.data.Dataset, batch_size: int, count: int) -> tf.data.Dataset:
    """Joins `count` batches into one, for models whose training step consumes several.

    Where the number of batches is no multiple of `count`, the last group is filled up from the data set's
    beginning, so that nothing is left out. Examples are ordered example-major (b0 of every batch, b1 of
    every batch, ...), so that replicas which split the group each get their share of every batch.
    """
    if count == 1:
        return dataset
    known = cardinality(dataset)
    if known:
        dataset = dataset.repeat()
    elif dataset.cardinality() == tf.data.UNKNOWN_CARDINALITY:
        dataset = dataset.concatenate(dataset.repeat().take(count - 1))
    grouped = dataset.rebatch(batch_size * count, drop_remainder=True)
    grouped = grouped.take(-(-known // count)) if known else grouped

    def example_major(value: tf.Tensor) -> tf.Tensor:
        parted = tf.reshape(value, (count, batch_size, *value.shape[1:]))
        order = [1, 0, *range(2, parted.shape.rank)]
        return tf.reshape(tf.transpose(parted, order), (count * batch_size, *value.shape[1:]))

    def regroup(*element: Any) -> Any:
        return tf.nest.map_structure(example_major, element if len(element) > 1 else element[0])

    return grouped.map(regroup, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


class PhaseCallback(keras.callbacks.Callback):
    """Moves the model into its next training phase when the step counter says so."""

    def on_train_begin(self, logs: Any = None) -> None:
        self._step = int(self.model.step.numpy())

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.model.set_phase_at(self._step, training=True)
        self._batch = batch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._step += batch - self._batch + 1
