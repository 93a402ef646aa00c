"""What `fit` and `evaluate` take besides tf.data: arrays, `keras.utils.PyDataset` and Python generators."""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from tf_gan_zoo.batch_spec import BatchError, BatchSpec

if TYPE_CHECKING:
    from tf_gan_zoo.gan import GAN

_END = object()


# -------------------------------------------------------------------- arrays


def named_arrays(spec: BatchSpec, arrays: Any) -> dict[str, np.ndarray]:
    """Whole arrays by field, checked.

    Raises:
        BatchError: if they do not fit, or have different numbers of examples.
        TypeError: for something else than arrays.
    """
    leaves = [arrays] if not isinstance(arrays, (Mapping, tuple, list)) else tf.nest.flatten(arrays)
    leaves = [leaf for leaf in leaves if leaf is not None]
    if not leaves or not all(hasattr(leaf, "shape") and hasattr(leaf, "dtype") for leaf in leaves):
        raise TypeError(
            "expected a tf.data.Dataset, arrays (one, a tuple or a dict), a keras.utils.PyDataset or a "
            f"Python generator of batches, got {_kind(arrays)}. Wrap other sources in a generator."
        )
    fields = {n: np.asarray(v) for n, v in spec.name_fields(arrays).items()}
    spec.check_values(fields)
    sizes = {name: len(value) for name, value in fields.items()}
    if len(set(sizes.values())) > 1:
        raise BatchError(f"All arrays must have the same number of examples, got {sizes}.")
    return fields


def split_arrays(
    fields: Mapping[str, np.ndarray], validation_split: float
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """All but the last part of each array, and that part, as Keras splits them.

    Raises:
        ValueError: if either would be empty.
    """
    count = len(next(iter(fields.values())))
    first = int(count * (1.0 - validation_split))
    if not 0 < first < count:
        raise ValueError(
            f"validation_split={validation_split} of {count} examples leaves {first} to train on and "
            f"{count - first} to validate on; both need at least 1."
        )
    return {n: v[:first] for n, v in fields.items()}, {n: v[first:] for n, v in fields.items()}


def from_arrays(
    model: GAN, fields: Mapping[str, np.ndarray], batch_size: int | None, shuffle: bool, drop_remainder: bool
) -> tf.data.Dataset:
    """Batches of checked arrays; with `shuffle` in another order every time."""
    count, spec = len(next(iter(fields.values()))), model.batch_spec
    dtypes = {n: object if spec[n].dtype == "string" else spec[n].dtype for n in fields}
    fields = {n: v.astype(dtypes[n], copy=False) for n, v in fields.items()}
    dataset = tf.data.Dataset.from_tensor_slices(fields)
    if shuffle:
        dataset = dataset.shuffle(count, seed=model.config.seed, reshuffle_each_iteration=True)
    batch_size = min(batch_size or model.config.batch_size, count)
    return dataset.batch(batch_size, drop_remainder=drop_remainder).prefetch(tf.data.AUTOTUNE)


# -------------------------------------------------------------------- Python objects that make batches


def from_py_dataset(data: keras.utils.PyDataset, shuffle: bool, seed: int) -> tf.data.Dataset:
    """The batches of a `keras.utils.PyDataset`, fetched by as many threads as it has workers.

    Raises:
        BatchError: if it has none.
    """
    count = data.num_batches
    if count == 0:
        raise BatchError("the PyDataset has no batches: its num_batches (or len) is 0.")
    if data.use_multiprocessing:
        warnings.warn("use_multiprocessing has no effect here: threads fetch the batches.", stacklevel=4)
    signature = _signature(data[0])

    def fetch(index: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(leaf) for leaf in tf.nest.flatten(_as_element(data[int(index)]))]

    def load(index: tf.Tensor) -> Any:
        specs = tf.nest.flatten(signature)
        leaves = tf.numpy_function(fetch, [index], [spec.dtype for spec in specs])
        shaped = [tf.ensure_shape(leaf, spec.shape) for leaf, spec in zip(leaves, specs)]
        return tf.nest.pack_sequence_as(signature, shaped)

    order = tf.data.Dataset.counter() if count is None else tf.data.Dataset.range(count)
    if shuffle and count:
        order = order.shuffle(count, seed=seed, reshuffle_each_iteration=True)
    return order.map(load, num_parallel_calls=max(data.workers, 1))


class EpochHooks(keras.callbacks.Callback):
    """Calls a PyDataset's `on_epoch_begin` and `on_epoch_end` around its epochs."""

    def __init__(self, data: keras.utils.PyDataset, validation: bool) -> None:
        super().__init__()
        self._data, self._validation = data, validation

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if not self._validation:
            self._data.on_epoch_begin()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not self._validation:
            self._data.on_epoch_end()

    def on_test_begin(self, logs: Any = None) -> None:
        if self._validation:
            self._data.on_epoch_begin()

    def on_test_end(self, logs: Any = None) -> None:
        if self._validation:
            self._data.on_epoch_end()


class Rewound:
    """A Python generator whose first batches can be looked at and are still there when training begins.

    Args:
        batches: the generator.
    """

    def __init__(self, batches: Iterator[Any]) -> None:
        self._batches, self._held, self._started = batches, deque(), False
        self._lock = threading.Lock()  # a pipeline that was looked at may still be reading ahead

    def dataset(self) -> tf.data.Dataset:
        """The batches: from the first one as long as training has not begun, then each once.

        Raises:
            BatchError: if there are none.
        """
        first = next(self._peeked(), _END)
        if first is _END:
            raise BatchError("the generator yields no batches; one that is used up needs a new one.")
        signature = _signature(first)
        return tf.data.Dataset.from_generator(self._iterate, output_signature=signature)

    def start(self) -> None:
        """Training begins: what is read from now on is gone."""
        self._started = True

    def _iterate(self) -> Iterator[Any]:
        return map(_as_element, self._taken() if self._started else self._peeked())

    def _peeked(self) -> Iterator[Any]:
        position = 0
        while not self._started:
            with self._lock:
                if position == len(self._held):
                    self._held.append(next(self._batches, _END))
                batch = self._held[position]
            if batch is _END:
                return
            yield batch
            position += 1

    def _taken(self) -> Iterator[Any]:
        while True:
            with self._lock:
                batch = self._held.popleft() if self._held else next(self._batches, _END)
            if batch is _END:
                return
            yield batch


def _as_element(batch: Any) -> Any:
    """tf.data's form of a batch: lists are tensors there."""
    return tuple(batch) if isinstance(batch, list) else batch


def _signature(batch: Any) -> Any:
    """Types and ranks of a batch; sizes may differ in others."""

    def spec(leaf: Any) -> tf.TensorSpec:
        leaf = leaf if tf.is_tensor(leaf) else np.asarray(leaf)
        text = getattr(leaf.dtype, "kind", "") in ("U", "S", "O")
        return tf.TensorSpec([None] * len(leaf.shape), tf.string if text else leaf.dtype)

    return tf.nest.map_structure(spec, _as_element(batch))


def _kind(value: Any) -> str:
    called = " (call it)" if isinstance(value, Callable) and hasattr(value, "__code__") else ""
    return f"{type(value).__name__}{called}"
