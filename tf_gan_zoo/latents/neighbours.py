"""The training pictures nearest to given ones: do samples repeat what the model has seen?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_gan_zoo import present
from tf_gan_zoo.latents.inputs import LatentError


class Neighbours(NamedTuple):
    """What `nearest` finds; the nearest comes first.

    Attributes:
        pictures: float32 (count, k, height, width, channels).
        distances: float64 (count, k); the root mean square difference of pixels, or of features.
        indices: int64 (count, k), places in the data set as it was read.
        values: further fields of these examples by name, each (count, k).
    """

    pictures: np.ndarray
    distances: np.ndarray
    indices: np.ndarray
    values: dict[str, np.ndarray]


def nearest(
    pictures: np.ndarray,
    dataset: Iterable[Any],
    k: int = 5,
    *,
    features: Callable[[np.ndarray], np.ndarray] | None = None,
    fields: Sequence[str] = (),
) -> Neighbours:
    """The k nearest pictures of a data set, read batch by batch: only k per query are kept.

    Args:
        pictures: queries, (count, height, width, channels).
        dataset: finite; batches of pictures, or dicts with "images" (`zoo.load_dataset`).
        k: neighbours per query.
        features: pictures -> (batch, size) vectors to compare instead of pixels, e.g.
            lambda x: extractor(x)[0].
        fields: names of further fields to report, e.g. ("labels",).

    Raises:
        LatentError: if the data never end, are of another shape, or are fewer than k.
    """
    pictures = np.asarray(pictures, "float32")
    _check_finite(dataset)
    queries = _vectors(pictures, features)
    if k < 1:
        raise LatentError(f"k: expected at least 1 neighbour, got {k}.")
    found, offset = None, 0
    for batch in dataset:
        images, values = _parts(batch, fields)
        if images.shape[1:] != pictures.shape[1:]:
            raise LatentError(
                f"the data have pictures of shape {images.shape[1:]}, the queries {pictures.shape[1:]}: "
                "load the data with the model's image_size and channels."
            )
        found = _merged(found, _best_of_batch(queries, images, values, features, k, offset), k)
        offset += len(images)
    if offset < k:
        raise LatentError(f"the data hold {offset} pictures, but k={k} neighbours are asked for.")
    return _measured(queries, found, features)


def neighbour_sheet(
    pictures: np.ndarray, neighbours: Neighbours, value_range: tuple[float, float] = (-1.0, 1.0)
) -> np.ndarray:
    """One row per query: the query, then its neighbours with their distances; uint8 (height, width, 3)."""
    rows = np.concatenate([np.asarray(pictures)[:, None], neighbours.pictures], axis=1)
    texts = [text for row in neighbours.distances for text in ("sample", *(f"{d:.3f}" for d in row))]
    images = present.legible(rows.reshape(-1, *rows.shape[2:]))
    return present.image_grid(images, value_range=value_range, columns=rows.shape[1], labels=texts)


class _Found(NamedTuple):
    """Candidates: squared distances, places, pictures and values; all (count, up to k, ...)."""

    squares: np.ndarray
    indices: np.ndarray
    pictures: np.ndarray
    values: dict[str, np.ndarray]


def _best_of_batch(queries, images, values, features, k: int, offset: int) -> _Found:
    references = _vectors(images, features)
    squares = np.square(references).sum(1)[None] - 2 * queries @ references.T
    order = np.argpartition(squares, k - 1, axis=1)[:, :k] if k < len(images) else _all_places(squares)
    return _Found(
        np.take_along_axis(squares, order, 1), order + offset, images[order],
        {name: column[order] for name, column in values.items()},
    )  # fmt: skip


def _all_places(squares: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.arange(squares.shape[1]), squares.shape)


def _merged(a: _Found | None, b: _Found, k: int) -> _Found:
    """The k best of both, a's first where they are equal."""
    if a is None:
        a = _Found(*(x[:, :0] for x in b[:3]), {name: x[:, :0] for name, x in b.values.items()})
    order = np.argsort(np.concatenate([a.squares, b.squares], 1), axis=1, kind="stable")[:, :k]
    rows = np.arange(len(order))[:, None]

    def best(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return np.concatenate([x, y], axis=1)[rows, order]

    values = {name: best(a.values[name], b.values[name]) for name in a.values}
    return _Found(*(best(x, y) for x, y in zip(a[:3], b[:3])), values)


def _measured(queries: np.ndarray, found: _Found, features: Callable | None) -> Neighbours:
    """Exact distances, in float64: differences of large squares would not resolve small ones."""
    count, k = found.indices.shape
    references = _vectors(found.pictures.reshape(count * k, *found.pictures.shape[2:]), features)
    differences = references.reshape(count, k, -1).astype("float64") - queries[:, None]
    distances = np.sqrt(np.square(differences).mean(-1))
    return Neighbours(found.pictures, distances, found.indices, found.values)


def _vectors(images: np.ndarray, features: Callable | None) -> np.ndarray:
    vectors = images if features is None else np.asarray(features(images))
    return vectors.reshape(len(images), -1).astype("float32")


def _parts(batch: Any, fields: Sequence[str]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    if not isinstance(batch, Mapping):
        batch = {"images": batch}
    missing = [name for name in ("images", *fields) if name not in batch]
    if missing:
        raise LatentError(f"a batch of the data has no {missing[0]!r}, only {', '.join(batch)}.")
    return np.asarray(batch["images"], "float32"), {name: np.asarray(batch[name]) for name in fields}


def _check_finite(dataset: Any) -> None:
    if isinstance(dataset, tf.data.Dataset) and dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise LatentError("the data never end: load them with repeat=False, or use dataset.take(n).")
