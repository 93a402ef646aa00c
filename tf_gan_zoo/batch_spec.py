"""What a model expects of a batch, and clear errors for batches that are something else."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

#: Rounding in decoding and resizing may leave a range by this much.
RANGE_SLACK = 1e-3


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

    def takes(self, shape: Sequence[int | None]) -> bool:
        """Whether the shape of a batch fits, as far as it is known."""
        expected = (None, *self.shape)
        return (
            len(shape) == len(expected)
            and all(e is None or s is None or e == s for e, s in zip(expected, shape))
            and not any(s is not None and s % self.multiple_of for s in shape[1:3])
        )

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
    """Named fields in the order in which a tuple supplies them.

    Attributes:
        field_under: (name, settings) -> the field of a model with these config fields changed; None where the
            config cannot have them. Errors advise settings that it knows to help.
    """

    field_under: Callable[[str, Mapping[str, Any]], Field | None] = staticmethod(lambda name, settings: None)

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
            self._check_kind(name, value)
            self._check_shape(name, [None if s is None else int(s) for s in value.shape])
            self._check_dtype(name, tf.as_dtype(value.dtype))

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

    def warn_of_range(self, named: Mapping[str, np.ndarray]) -> None:
        """Warns of images that look as if they were in [0, 1] where the range begins below 0."""
        for name, value in named.items():
            field = self[name]
            is_image = len(field.shape) == 3 and field.dtype == "float32" and field.value_range
            if is_image and field.value_range[0] < 0 and 0 <= value.min() < value.max() <= 1:
                low, high = field.value_range
                warnings.warn(
                    f"{name!r}: no value of the first batch is below 0, and the model expects images in "
                    f"[{low:g}, {high:g}]. If yours are in [0, 1], use x * {high - low:g} - {-low:g}.",
                    stacklevel=5,
                )  # fmt: skip

    def _check_kind(self, name: str, value: Any) -> None:
        if isinstance(value, (tf.RaggedTensorSpec, tf.RaggedTensor)):
            hint = "Give all examples one size, e.g. tf.image.resize, before dataset.batch."
            raise BatchError(self._text(name, "a ragged tensor", hint))
        if isinstance(value, (tf.SparseTensorSpec, tf.SparseTensor)):
            raise BatchError(self._text(name, "a sparse tensor", "Use tf.sparse.to_dense."))
        if getattr(value.dtype, "kind", "") == "O" and self[name].dtype != "string" and not _is_text(value):
            hint = "Give all examples one size and dtype, then np.stack them."
            raise BatchError(self._text(name, "an array of objects", hint))
        if isinstance(value.shape, tf.TensorShape) and value.shape.rank is None:
            hint = f"Say it in dataset.map: tf.ensure_shape(x, [None{', None' * len(self[name].shape)}])."
            raise BatchError(self._text(name, "a tensor of unknown rank", hint))

    def _check_dtype(self, name: str, dtype: tf.DType) -> None:
        expected = self[name].dtype
        kinds = {"float32": dtype.is_floating, "int32": dtype.is_integer, "string": dtype == tf.string}
        fits = kinds[expected]
        if not fits:
            raise BatchError(self._text(name, f"dtype {dtype.name}", self._dtype_hint(name, dtype)))

    def _dtype_hint(self, name: str, dtype: tf.DType) -> str:
        field = self[name]
        if dtype == tf.string and field.dtype == "int32":
            return "Number the classes: np.unique(x, return_inverse=True)[1]."
        if "string" in (dtype, field.dtype):
            return "Take another field, or another view of the data set."
        if dtype == tf.uint8 and field.value_range:
            rescale = _rescaling("tf.cast(x, tf.float32)", field.value_range)
            return f"Scale it: {rescale}, or use zoo.load_dataset, which does."
        if dtype.is_integer and field.value_range:
            low, high = field.value_range
            return f"Scale it to [{low:g}, {high:g}]; 0..255 by {_rescaling('x', field.value_range)}."
        return f"Cast it: tf.cast(x, tf.{field.dtype})."

    def _check_shape(self, name: str, shape: list[int | None]) -> None:
        if self[name].takes(shape):
            return
        expected = (None, *self[name].shape)
        if len(shape) != len(expected):
            came, hint = f"rank {len(shape)}, shape {_shape_text(shape)}", _rank_hint(shape, expected)
        else:
            came = f"shape {_shape_text(shape)}"
            hint = f"{_size_hint(shape, expected, self[name].multiple_of)}{self._settings_hint(name, shape)}."
        raise BatchError(self._text(name, came, hint))

    def _settings_hint(self, name: str, shape: list[int | None]) -> str:
        """The first settings with which a model takes this shape, as part of a sentence."""
        if len(shape) != 4 or _channels_first(shape, (None, *self[name].shape)):
            return ""
        size = shape[1] if shape[1] == shape[2] else tuple(shape[1:3])
        channels = [{key: shape[3]} for key in ("channels", "input_channels")]
        sizes = [{key: size} for key in ("image_size", "high_resolution_size")]
        for settings in (*channels, *sizes, *({**c, **i} for c in channels for i in sizes)):
            field = self.field_under(name, settings)
            if field is not None and field.takes(shape):
                return f", or build the model with {', '.join(f'{k}={v}' for k, v in settings.items())}"
        return ""

    def _check_range(self, name: str, value: np.ndarray) -> None:
        if self[name].value_range is None:
            return
        low, high = self[name].value_range
        least, most = float(value.min()), float(value.max())
        if least < low - RANGE_SLACK or most > high + RANGE_SLACK:
            hint = f"Rescale the values to [{low:g}, {high:g}]."
            if self[name].dtype == "int32":
                hint = f"Use integers from {low:g} to {high:g}{self._classes_hint(name, least, most)}."
            elif least >= 0 and most > 2:
                hint = f"They look like 0..255: use {_rescaling('x', (low, high))}."
            raise BatchError(self._text(name, f"values from {least:g} to {most:g}", hint))

    def _classes_hint(self, name: str, least: float, most: float) -> str:
        settings = {"num_classes": int(most) + 1}
        field = self.field_under(name, settings)
        fits = field is not None and field.value_range[0] <= least and most <= field.value_range[1]
        return f", or build the model with num_classes={settings['num_classes']}" if fits else ""

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


def _rank_hint(shape: Sequence[int | None], expected: Sequence[int | None]) -> str:
    if len(expected) == 1 and len(shape) == 2:
        if shape[1] == 1:
            return "Leave out the last axis: x[:, 0]."
        return "If it is one-hot, take the classes' numbers: np.argmax(x, axis=-1)."
    if len(shape) == len(expected) - 1 and len(expected) == 4 and shape[-1] not in (1, 3, None):
        return "Add the channel axis: x[..., None]."
    if len(shape) > len(expected):
        return "Leave out an axis: the data may have been batched twice."
    return "Add the batch axis: dataset.batch(n) or x[None]."


#: (channels that came, channels expected) -> how images are converted.
_CONVERSIONS = {
    (4, 3): "Leave out the alpha channel: x[..., :3]",
    (2, 1): "Leave out the alpha channel: x[..., :1]",
    (1, 3): "Convert the images: tf.image.grayscale_to_rgb(x)",
    (3, 1): "Convert the images: tf.image.rgb_to_grayscale(x)",
    (4, 1): "Convert the images: tf.image.rgb_to_grayscale(x[..., :3])",
}


def _channels_first(shape: Sequence[int | None], expected: Sequence[int | None]) -> bool:
    return len(expected) == 4 and shape[1] == expected[-1] != shape[-1]


def _size_hint(shape: Sequence[int | None], expected: Sequence[int | None], multiple_of: int) -> str:
    if _channels_first(shape, expected):
        return "The channels come first; move them to the end: np.moveaxis(x, 1, -1)"
    if shape[-1] != expected[-1] and expected[-1] is not None:
        general = f"The last axis must be {expected[-1]}: convert the data"
        return _CONVERSIONS.get((shape[-1], expected[-1]), general) if len(expected) == 4 else general
    if multiple_of > 1 and all(e is None for e in expected[1:3]):
        return f"Resize or pad height and width to multiples of {multiple_of}"
    if len(expected) == 4:
        return "Resize the data (tf.image.resize; zoo.load_dataset takes image_size=)"
    return "Give the data this size"


def _is_text(value: np.ndarray) -> bool:
    return all(isinstance(item, (str, bytes)) for item in value.flat)


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
