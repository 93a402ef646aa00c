"""Every batch is checked before it is trained on, inside the input pipeline, beside the training steps.

The pipeline computes one boolean per batch; only a batch that does not fit goes to `BatchSpec.check_values`,
which says why. Batches, their order and their number stay as they are.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_gan_zoo.batch_spec import RANGE_SLACK, BatchError, BatchSpec, Field


class BatchCheck:
    """Names the fields of a dataset's batches, and stops at the first batch that does not fit.

    Args:
        spec: what a batch must be.
        source: what the data are, for messages.

    Attributes:
        error: what was found, if something was.
    """

    def __init__(self, spec: BatchSpec, source: str) -> None:
        self._spec, self._source = spec, source
        self.error: BatchError | None = None

    def apply(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """The same batches as dicts of named fields, checked one by one."""
        return dataset.enumerate().map(self._checked).prefetch(tf.data.AUTOTUNE)

    @contextlib.contextmanager
    def reporting(self) -> Iterator[None]:
        """Raises what was found, in the place of TensorFlow's own error."""
        try:
            yield
        except Exception:
            if self.error is not None:
                raise self.error from None
            raise

    @tf.autograph.experimental.do_not_convert
    def _checked(self, index: tf.Tensor, element: Any) -> dict[str, tf.Tensor]:
        named = self._spec.name_fields(element)
        names, check = list(named), weakref.ref(self)

        def explain_unless_gone(*arrays: np.ndarray) -> np.bool_:
            alive = check()
            return np.bool_(False) if alive is None else alive._explain(names, *arrays)

        def explain() -> tf.Tensor:
            # TensorFlow keeps Python functions as long as the program runs: this one must not hold the model.
            fitting = tf.numpy_function(explain_unless_gone, [index, *named.values()], tf.bool)
            with tf.control_dependencies([tf.debugging.Assert(fitting, ["a batch does not fit"])]):
                return tf.constant(True)

        with tf.control_dependencies([tf.cond(fits(self._spec, named), lambda: True, explain)]):
            return {name: _with_shape(value, self._spec[name]) for name, value in named.items()}

    def _explain(self, names: list[str], index: np.ndarray, *values: np.ndarray) -> np.bool_:
        try:
            self._spec.check_values(dict(zip(names, values)))
        except BatchError as error:
            self.error = BatchError(f"batch {index} of {self._source} (the first is 0): {error}")
        return np.bool_(self.error is None)


def fits(spec: BatchSpec, named: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """A boolean scalar: sizes that are unknown before, finite values, and ranges of all fields."""
    found = [condition for name, value in named.items() for condition in _conditions(spec[name], value)]
    return tf.reduce_all(tf.stack(found)) if found else tf.constant(True)


def _conditions(field: Field, value: tf.Tensor) -> list[tf.Tensor]:
    value = tf.convert_to_tensor(value)
    sizes, static = tf.shape(value), value.shape.as_list()
    conditions = [sizes[0] > 0] if static[0] is None else []
    for axis, side in enumerate(field.shape, start=1):
        if static[axis] is None and side is not None:
            conditions.append(sizes[axis] == side)
        elif static[axis] is None and field.multiple_of > 1 and axis in (1, 2):
            conditions.append(sizes[axis] % field.multiple_of == 0)
    if field.value_range and value.dtype.is_integer:
        low, high = (int(limit) for limit in field.value_range)
        value = tf.cast(value, tf.int64)
        conditions.append(tf.reduce_all((value >= low) & (value <= high)))
    elif field.value_range:  # NaN is in no range
        low, high = field.value_range[0] - RANGE_SLACK, field.value_range[1] + RANGE_SLACK
        conditions.append(tf.reduce_all((value >= low) & (value <= high)))
    elif value.dtype.is_floating:
        conditions.append(tf.reduce_all(tf.math.is_finite(value)))
    return conditions


def _with_shape(value: tf.Tensor, field: Field) -> tf.Tensor:
    """The checked sizes, for pipelines that do not know them."""
    value = tf.identity(value)  # waits for the check
    value.set_shape([None, *field.shape])
    return value
