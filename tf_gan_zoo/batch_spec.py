"""What a model expects of a batch, and clear errors for batches that are something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

#: Rounding in decoding and resizing may leave a range by this much.
_RANGE_SLACK = 1e-3


class BatchError(ValueError):
    """A batch does not fit the model: says what was expected, what came and what to do."""


@dataclass(frozen=True)
class Field:
    """One named tensor of a batch.

    Attributes:
        shape: shape of one example, without the batch axis; None where any size will do.
        value_range: smallest and largest value, or None.
        dtype: "float32", "int32" or "string"; other floats (or integers) are cast.
        multiple_of: height and width must be multiples of this number of pixels.
        optional: a batch may come without it.
    """

    shape: tuple[int | None, ...]
    value_range: tuple[float, float] | None = None
    dtype: str = "float32"
    multiple_of: int = 1
    optional: bool = False

    def describe(self) -> str:
        shape = ", ".join(["batch", *("any" if side is None else str(side) for side in self.shape)])
        text = f"{self.dtype} ({shape})"
        if self.multiple_of > 1:
            text += f", height and width multiples of {self.multiple_of}"
        return text + (f" in [{self.value_range[0]:g}, {self.value_range[1]:g}]" if self.value_range else "")


def image_field(
    size: tuple[int | None, int | None], channels: int, value_range: tuple[float, float] = (-1.0, 1.0),
    **kwargs: Any,
) -> Field:  # fmt: skip
    """A `Field` of pictures (height, width, channels)."""
    return Field((*size, channels), value_range, **kwargs)


class BatchSpec(dict[str, Field]):
    """Named fields in the order in which a tuple supplies them."""

    def describe(self) -> str:
        rows = [f"{name}: {f.describe()}{' (optional)' * f.optional}" for name, f in self.items()]
        return "; ".join(rows)

    def name_fields(self, batch: Any) -> dict[str, Any]:
        """Maps a tensor, a tuple or a dict to named fields; surplus entries are ignored.

        Raises:
            BatchError: if a required field is missing.
        """
        batch = _unpacked(batch)
        if isinstance(batch, Mapping):
            named = {name: batch[name] for name in self if batch.get(name) is not None}
        else:
            values = batch if isinstance(batch, (tuple, list)) else (batch,)
            named = {n: value for n, value in zip(self, values) if value is not None}
        missing = [name for name, f in self.items() if name not in named and not f.optional]
        if missing:
            came = f"a dict with {sorted(batch)}" if isinstance(batch, Mapping) else _kind(batch)
            raise BatchError(
                f"The batch has no {' and no '.join(repr(m) for m in missing)}; it is {came}. Expected "
                f"{self.describe()}: yield a dict with these names, or a tuple in this order."
            )
        return named

    def check_static(self, named: Mapping[str, Any]) -> None:
        """Checks rank, sizes and dtype, which need no values.

        Raises:
            BatchError: for the first field that does not fit.
        """
        for name, value in named.items():
            self._check_dtype(name, tf.as_dtype(value.dtype))
            self._check_shape(name, [None if s is None else int(s) for s in value.shape])

    def check_values(self, named: Mapping[str, np.ndarray]) -> None:
        """Checks one batch of values: sizes, NaN and range.

        Raises:
            BatchError: for the first field that does not fit, or for a batch without examples.
        """
        self.check_static(named)
        for name, value in named.items():
            value = np.asarray(value)
            if value.shape[0] == 0:
                raise BatchError(f"{name!r} has no examples. Give at least one.")
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                bad = np.flatnonzero(~np.isfinite(value.reshape(len(value), -1)).all(axis=1))
                raise BatchError(
                    f"{name!r} holds NaN or infinite values in example {bad[0]} "
                    f"({len(bad)} of {len(value)} in this batch). Remove or repair these examples."
                )
            self._check_range(name, value)

    def _check_dtype(self, name: str, dtype: tf.DType) -> None:
        expected = self[name].dtype
        kinds = {"float32": dtype.is_floating, "int32": dtype.is_integer, "string": dtype == tf.string}
        fits = kinds[expected]
        if not fits:
            raise BatchError(self._text(name, f"dtype {dtype.name}", self._dtype_hint(name, dtype)))

    def _dtype_hint(self, name: str, dtype: tf.DType) -> str:
        if dtype == tf.uint8 and self[name].value_range:
            rescale = _rescaling("tf.cast(x, tf.float32)", self[name].value_range)
            return f"Scale it: {rescale}, or use zoo.load_dataset, which does."
        if "string" in (dtype, self[name].dtype):
            return "Take another field, or another view of the data set."
        return f"Cast it: tf.cast(x, tf.{self[name].dtype})."

    def _check_shape(self, name: str, shape: list[int | None]) -> None:
        expected = (None, *self[name].shape)
        if len(shape) != len(expected):
            hint = "Add the batch axis: dataset.batch(n) or x[None]."
            if len(shape) == len(expected) - 1 and len(expected) == 4 and shape[-1] not in (1, 3):
                hint = "Add the channel axis: x[..., None]."
            raise BatchError(self._text(name, f"rank {len(shape)}, shape {_shape_text(shape)}", hint))
        if any(e is not None and s is not None and e != s for e, s in zip(expected, shape)):
            raise BatchError(self._text(name, f"shape {_shape_text(shape)}", _size_hint(shape, expected)))
        step = self[name].multiple_of
        if any(s is not None and s % step for s in shape[1:3]):
            hint = f"Resize or pad height and width to multiples of {step}."
            raise BatchError(self._text(name, f"shape {_shape_text(shape)}", hint))

    def _check_range(self, name: str, value: np.ndarray) -> None:
        if self[name].value_range is None:
            return
        low, high = self[name].value_range
        least, most = float(value.min()), float(value.max())
        if least < low - _RANGE_SLACK or most > high + _RANGE_SLACK:
            hint = f"Rescale the values to [{low:g}, {high:g}]."
            if self[name].dtype == "int32":
                hint = f"Use integers from {low:g} to {high:g}."
            elif least >= 0 and most > 2:
                hint = f"They look like 0..255: use {_rescaling('x', (low, high))}."
            raise BatchError(self._text(name, f"values from {least:g} to {most:g}", hint))

    def _text(self, name: str, came: str, what_to_do: str) -> str:
        return f"{name!r}: expected {self[name].describe()}, got {came}. {what_to_do}"


def _unpacked(batch: Any) -> Any:
    """What the user gave, without Keras's wrapping: (x,), or (x, None, None) from `train_on_batch`."""
    while isinstance(batch, (tuple, list)) and batch and all(value is None for value in batch[1:]):
        batch = batch[0]
    return batch


def _rescaling(values: str, value_range: tuple[float, float]) -> str:
    """The expression that takes 0..255 to `value_range`."""
    low, high = value_range
    return f"{values} / {255 / (high - low):g}" + (f" {'-' if low < 0 else '+'} {abs(low):g}" if low else "")


def _size_hint(shape: Sequence[int | None], expected: Sequence[int | None]) -> str:
    if shape[-1] != expected[-1] and expected[-1] is not None:
        return (
            f"The last axis must be {expected[-1]}: convert the pictures, "
            f"or build the model with channels={shape[-1]}."
        )
    return "Resize the data (zoo.load_dataset takes image_size=), or build the model with this image_size."


def _shape_text(shape: Sequence[int | None]) -> str:
    return "(" + ", ".join("?" if side is None else str(side) for side in shape) + ")"


def _kind(batch: Any) -> str:
    if isinstance(batch, (tuple, list)):
        return f"a tuple of {len(batch)}"
    return f"one tensor of shape {_shape_text(list(getattr(batch, 'shape', ())))}"


def checked_images(images: Any, field: Field) -> np.ndarray:
    """User's pictures as a float32 batch; one picture (height, width, channels) becomes a batch of one.

    Raises:
        BatchError: if they do not fit `field`.
    """
    images = np.asarray(images)
    if images.ndim == len(field.shape):
        images = images[None]
    BatchSpec(images=field).check_values({"images": images})
    return images.astype("float32", copy=False)
