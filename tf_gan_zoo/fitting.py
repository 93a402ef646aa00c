"""What `GAN.fit` does before Keras takes over: check the data, group batches, follow phases."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from tf_gan_zoo import fit_sources
from tf_gan_zoo.batch_check import BatchCheck, fits
from tf_gan_zoo.batch_spec import BatchError, BatchSpec, Field
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.fit_sources import EpochHooks

if TYPE_CHECKING:
    from tf_gan_zoo.gan import GAN


#: Data that come in batches.
_BATCHES = (tf.data.Dataset, tf.distribute.DistributedDataset, keras.utils.PyDataset, Iterator)


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


def advised_spec(model: GAN) -> BatchSpec:
    """The model's `batch_spec`, whose errors advise settings that the model's config accepts."""

    def field_under(name: str, settings: Mapping[str, Any]) -> Field | None:
        held = model.config
        try:
            model.config = held.replace(**settings)
            return model.batch_spec.get(name)
        except ConfigError:
            return None
        finally:
            model.config = held

    spec = model.batch_spec
    spec.field_under = field_under
    return spec


def check_classes(model: GAN, fields: Mapping[str, np.ndarray]) -> None:
    """Checks that arrays hold examples of every class that the model has.

    Raises:
        BatchError: if a class has none, of which the model would learn noise.
    """
    spec = advised_spec(model)
    for name, labels in fields.items():
        classes = model.config.to_dict().get("num_classes")
        changed = classes and spec.field_under(name, {"num_classes": classes + 1})
        if not changed or changed == spec[name] or spec[name].shape or spec[name].optional:
            continue  # no class of the whole example, or one that is known of some only
        found = np.unique(labels[labels >= 0])
        if 0 < len(found) < classes:
            missing = sorted(set(range(classes)) - set(found.tolist()))
            raise BatchError(
                f"{name!r}: {len(found)} of the model's {classes} classes have examples, and none has class "
                f"{', '.join(map(str, missing[:5]))}{', ...' * (len(missing) > 5)}. Build the model with "
                f"num_classes={len(found)} and number the classes 0 to {len(found) - 1}: "
                "np.unique(x, return_inverse=True)[1]."
            )


@dataclass(frozen=True)
class Data:
    """Data in the form in which Keras gets them.

    Attributes:
        dataset: checked batches, grouped for training steps that take several.
        check: what looks at them.
        callbacks: what has to be called around their epochs.
        start: to be called when training begins.
    """

    dataset: Any
    check: BatchCheck
    callbacks: tuple[keras.callbacks.Callback, ...] = ()
    start: Callable[[], None] = lambda: None


def training_data(
    model: GAN, x: Any, y: Any, batch_size: int | None, shuffle: bool, steps: int | None, epochs: int
) -> Data:
    """Checked batches for `fit`, as many together as a training step takes.

    Raises:
        BatchError: if the data do not fit the model's `batch_spec`, or there are none.
        TypeError: if `x` is something that gives no batches.
        ValueError: if a generator would have to begin anew.
    """
    if isinstance(x, Iterator) and steps is None and epochs > 1:
        raise ValueError(
            "a Python generator is gone through once: pass steps_per_epoch= with one that yields batches "
            "for all epochs, or a keras.utils.PyDataset or tf.data.Dataset, which begin anew."
        )
    data = _opened(model, x, y, batch_size, "the training data", shuffle=shuffle, drop_remainder=True)
    if isinstance(x, tf.distribute.DistributedDataset):
        return data
    first, dataset = _check_dataset(model, data), data.check.apply(data.dataset)
    replicas = model.distribute_strategy.num_replicas_in_sync
    if replicas > 1:
        dataset = _equal_batches(dataset, first, replicas)
    dataset = group_batches(dataset, first, model.batches_per_step)
    known = cardinality(dataset)
    if steps and known and steps > known:
        raise BatchError(
            f"steps_per_epoch={steps}, but the data have {known} training steps. Leave it out, or pass "
            "dataset.repeat()."
        )
    return dataclasses.replace(data, dataset=dataset)


def validation_data(model: GAN, x: Any, y: Any, batch_size: int | None, source: str) -> Data:
    """Checked batches for `evaluate`; same errors as `training_data`."""
    with _naming(source):
        data = _opened(model, x, y, batch_size, source, shuffle=False, drop_remainder=False)
        if isinstance(x, tf.distribute.DistributedDataset):
            return data
        _check_dataset(model, data)
    return dataclasses.replace(data, dataset=data.check.apply(data.dataset))


def validation(model: GAN, given: Any, batch_size: int | None) -> Data:
    """Checked `validation_data` of `fit`; no dataset where there is none."""
    source = "validation_data"
    if given is None:
        return Data(None, BatchCheck(model.batch_spec, source))
    has_batches = not isinstance(given, (tuple, list, Mapping)) and not hasattr(given, "__array__")
    return validation_data(model, given, None, None if has_batches else batch_size, source)


def split(model: GAN, x: Any, y: Any, validation_split: float) -> tuple[Any, Any]:
    """Arrays for training and, from their end, for validation.

    Raises:
        TypeError: if `x` is not made of arrays.
        BatchError: if the arrays do not fit.
    """
    if isinstance(x, _BATCHES):
        raise TypeError(
            f"validation_split parts arrays only, not a {type(x).__name__}: pass validation_data=, e.g. "
            "dataset.take(n) with dataset.skip(n) to train on."
        )
    fields = fit_sources.named_arrays(advised_spec(model), x if y is None else (x, y))
    return fit_sources.split_arrays(fields, validation_split)


def callback_list(
    model: GAN, training: Data | None, validation: Data, given: Any
) -> list[keras.callbacks.Callback]:  # fmt: skip
    """The user's callbacks behind those that a model and its data need."""
    own = [PhaseCallback()] if training and len(model.phases) > 1 else []
    own += [*(training.callbacks if training else ()), *validation.callbacks]
    given = given if isinstance(given, (list, tuple)) else [given] * (given is not None)
    return [*own, *given]


def _opened(
    model: GAN, x: Any, y: Any, batch_size: int | None, source: str, *, shuffle: bool, drop_remainder: bool
) -> Data:
    """Data of any kind as a dataset that is not checked yet."""
    check = BatchCheck(advised_spec(model), source)
    batches = isinstance(x, _BATCHES)
    if batches and (y is not None or batch_size is not None):
        raise TypeError(f"a {type(x).__name__} brings its own batches: do not pass y or batch_size with it.")
    if isinstance(x, keras.utils.PyDataset):
        hooks = EpochHooks(x, validation=not drop_remainder)
        return Data(fit_sources.from_py_dataset(x, shuffle, model.config.seed), check, (hooks,))
    if isinstance(x, Iterator):
        rewound = fit_sources.Rewound(x)
        return Data(rewound.dataset(), check, start=rewound.start)
    if batches:
        return Data(x, check)
    fields = fit_sources.named_arrays(advised_spec(model), x if y is None else (x, y))
    if drop_remainder:
        check_classes(model, fields)
    return Data(fit_sources.from_arrays(model, fields, batch_size, shuffle, drop_remainder), check)


@contextlib.contextmanager
def _naming(source: str) -> Iterator[None]:
    """Errors in data say which data they are in."""
    try:
        yield
    except BatchError as error:
        raise BatchError(f"{source}: {error}") from None


def check_batch(model: GAN, x: Any, y: Any, count: int = 1) -> None:
    """Checks a batch for one training step (`count` batches together) or validation step.

    Raises:
        BatchError: if it does not fit.
    """
    spec = advised_spec(model)
    named = spec.name_fields((x, y))
    spec.check_static(named)
    sizes = {int(value.shape[0]) for value in named.values()}
    if len(sizes) > 1 or min(sizes) % count:
        raise BatchError(
            f"expected equally many examples in all fields{f', a multiple of {count}' * (count > 1)}, got "
            f"{', '.join(f'{name}: {value.shape[0]}' for name, value in named.items())}."
        )
    if not fits(spec, named):
        spec.check_values({name: np.asarray(value) for name, value in named.items()})


def refuse_weights(**given: Any) -> None:
    """Refuses Keras's weights of examples and classes, which would have no effect.

    Raises:
        TypeError: for one that is not None.
    """
    for name in (name for name, value in given.items() if value is not None):
        raise TypeError(
            f"a model of the zoo takes no {name}=: its losses are means over a batch, as in its paper. To "
            "give some examples or classes more weight, let the data hold them more often, e.g. by "
            "tf.data.Dataset.sample_from_datasets."
        )


@contextlib.contextmanager
def data_may_end(steps_per_epoch: int | None) -> Iterator[None]:
    """Where the data's own end ends an epoch, Keras warns of it if it did not know their length before."""
    with warnings.catch_warnings():
        if steps_per_epoch is None:
            warnings.filterwarnings("ignore", message="Your input ran out of data")
        yield


def _equal_batches(dataset: tf.data.Dataset, batch_size: int, replicas: int) -> tf.data.Dataset:
    """Leaves out a last short batch: replicas with unequal parts would weigh its examples wrongly."""
    if batch_size % replicas:
        raise BatchError(
            f"A batch of {batch_size} examples cannot be shared equally by {replicas} replicas: "
            f"batch the data by a multiple of {replicas}."
        )
    equal, number = dataset.rebatch(batch_size, drop_remainder=True), cardinality(dataset)
    if number and all(spec.shape[0] == batch_size for spec in tf.nest.flatten(dataset.element_spec)):
        return equal.apply(tf.data.experimental.assert_cardinality(number))
    return equal


def _check_dataset(model: GAN, data: Data) -> int:
    """Checks the element spec and the first batch; returns the examples in that batch."""
    spec = advised_spec(model)
    spec.check_static(spec.name_fields(data.dataset.element_spec))
    first = next(iter(data.dataset.take(1)), None)
    if first is None:
        raise BatchError(
            f"The dataset is empty: expected batches of {spec.describe()}. Check the path and the "
            "batch size (drop_remainder=True with fewer examples than one batch leaves nothing)."
        )
    named = {name: np.asarray(value) for name, value in spec.name_fields(first).items()}
    spec.check_values(named)
    spec.warn_of_range(named)
    return len(next(iter(named.values())))


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
    if known:
        number = -(-known // count)  # which rebatch() forgets
        grouped = grouped.take(number).apply(tf.data.experimental.assert_cardinality(number))

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
