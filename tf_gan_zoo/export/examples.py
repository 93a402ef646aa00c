"""Inputs to check and to calibrate exports with: the user's own, or seeded ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_gan_zoo.endpoints import Endpoint
from tf_gan_zoo.export import processing
from tf_gan_zoo.export.settings import ExportError, Settings

Arrays = dict[str, np.ndarray]


def from_dataset(model: Any, endpoint: Endpoint, representative: Any, count: int) -> Arrays:
    """Up to `count` examples of the network's inputs from a dataset, an array or a dict of arrays.

    Raises:
        ExportError: if there are none, or the data do not fit the network.
    """
    parts: list[Arrays] = []
    for batch in _batches(representative):
        parts.append(_inputs_of(model, endpoint, batch))
        if sum(len(next(iter(part.values()))) for part in parts) >= count:
            break
    if not parts:
        raise ExportError("representative: the dataset is empty.")
    joined = {n: np.concatenate([part[n] for part in parts])[:count] for n in endpoint.input_names}
    for name, pictures in joined.items():
        _check(name, pictures, endpoint)
    return joined


def _batches(representative: Any) -> Iterator[Any]:
    if isinstance(representative, tf.data.Dataset):
        yield from representative.take(1000)
    elif isinstance(representative, (np.ndarray, tf.Tensor, Mapping)):
        yield representative
    else:
        yield from representative


def _inputs_of(model: Any, endpoint: Endpoint, batch: Any) -> Arrays:
    fields = model.public_inputs(endpoint, batch)
    missing = [name for name in endpoint.input_names if name not in fields]
    if missing:
        raise ExportError(
            f"representative: found no {missing[0]!r} among {sorted(fields)}: give a dict with that name."
        )
    return {name: np.asarray(fields[name]) for name in endpoint.input_names}


def _check(name: str, values: np.ndarray, endpoint: Endpoint) -> None:
    tensor = next(t for t in endpoint.network.inputs if t.name == name)
    fits = values.ndim == len(tensor.shape) and all(
        side in (None, size) for side, size in zip(tensor.shape[1:], values.shape[1:])
    )
    if not fits:
        raise ExportError(
            f"representative: {name!r} has shape {values.shape}, expected {tuple(tensor.shape)}: "
            "give batches of examples."
        )
    low, high = endpoint.pictures.get(name, (-np.inf, np.inf))
    if not (values.min() >= low - 1e-3 and values.max() <= high + 1e-3):
        raise ExportError(
            f"representative: {name!r} lies in [{values.min():g}, {values.max():g}], expected "
            f"[{low:g}, {high:g}]."
        )


def native_size(model: Any, endpoint: Endpoint, name: str, settings: Settings) -> tuple[int, int]:
    """(height, width) of the pictures that input is made for: the export's, the network's or training's."""
    tensor = next(t for t in endpoint.network.inputs if t.name == name)
    field = model.batch_spec.get(endpoint.fields.get(name, name))
    trained = field.shape[:2] if field else (None, None)
    choices = zip(settings.input_shape(endpoint, tensor)[1:3], trained)
    return tuple(fixed or own or 16 * endpoint.multiple_of for fixed, own in choices)


def in_export_dtype(settings: Settings, endpoint: Endpoint, inputs: Mapping[str, np.ndarray]) -> Arrays:
    """The inputs as the export takes them: pictures as uint8 if it processes them."""
    return {
        spec.name: processing.to_uint8(inputs[spec.name], endpoint.pictures[spec.name]).numpy()
        if spec.dtype == tf.uint8
        else np.asarray(inputs[spec.name], spec.dtype.as_numpy_dtype)
        for spec in settings.input_specs(endpoint)
    }


def in_batches(inputs: Mapping[str, np.ndarray], size: int) -> Iterator[Arrays]:
    """Batches of exactly `size` examples; a last, smaller one is left out."""
    count = len(next(iter(inputs.values())))
    for start in range(0, count - size + 1, size):
        yield {name: value[start : start + size] for name, value in inputs.items()}
