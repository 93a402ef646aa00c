"""Sweeps: the same noise under other classes and codes, so that a picture shows what each of them does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tf_gan_zoo.latents import inputs as noise
from tf_gan_zoo.latents.inputs import LatentError


def class_sweep(
    model: Any, labels: Sequence[int] | None = None, num_columns: int = 8, seed: int = 0, **conditions: Any
) -> np.ndarray:
    """Rows are classes (or categories of InfoGAN's first code), columns are noises.

    Args:
        model: a model whose `sample_inputs` takes labels=.
        labels: one per row; all that the model has by default.
        num_columns: different noises, each the same in all rows.
        seed: draws the noises.
        **conditions: codes= of all pictures; zeros by default.

    Returns:
        float32 (rows, num_columns, height, width, channels).

    Raises:
        LatentError: if the model takes no labels, or not these.
    """
    labels = _labels(model, labels)
    if not labels:
        raise LatentError("the model takes no labels: use a class-conditional model, a code sweep or a walk.")
    latents = noise.latents_of(model, noise.sample(model, num_columns, seed))
    codes = conditions or _codes(model, np.zeros((1, _num_codes(model))))
    return _cells(model, np.tile(latents, (len(labels), 1)), labels, num_columns, seed, codes)


def code_sweep(
    model: Any, code: int = 0, values: Sequence[float] | None = None, labels: Sequence[int] | None = None,
    num_rows: int = 8, seed: int = 0,
) -> np.ndarray:  # fmt: skip
    """Rows are categories, columns are values of one continuous code; noise and the other codes stay.

    Args:
        model: a model whose `sample_inputs` takes codes=, such as infogan.
        code: number of the continuous code; the others are 0.
        values: of the code; ten from -2 to 2 by default, as in the paper, which trains on [-1, 1].
        labels: category of each row; all by default.
        num_rows: rows of a model without categories, which then differ in their noise.
        seed: draws the noise.

    Returns:
        float32 (rows, len(values), height, width, channels).

    Raises:
        LatentError: if the model takes no codes, or has not this one.

    Reference: X. Chen et al., "InfoGAN", NIPS 2016, arXiv:1606.03657, figure 2.
    """
    values = np.linspace(-2.0, 2.0, 10) if values is None else np.asarray(values, "float64")
    labels, count = _labels(model, labels), _num_codes(model)
    if not 0 <= code < count:
        has = f"the continuous codes 0 to {count - 1}" if count else "no continuous codes"
        advice = "" if count else " Use a class sweep, a walk, or infogan."
        raise LatentError(f"code {code} does not exist: the model has {has}.{advice}")
    rows = len(labels) if labels else num_rows
    codes = np.zeros((rows * len(values), count))
    codes[:, code] = np.tile(values, rows)
    latents = noise.latents_of(model, noise.sample(model, 1 if labels else rows, seed))
    latents = np.repeat(latents, len(codes) // len(latents), axis=0)
    return _cells(model, latents, labels, len(values), seed, _codes(model, codes))


def sweep_sheet(model: Any, cells: np.ndarray) -> np.ndarray:
    """Cells (rows, columns, height, width, channels) of a sweep as a uint8 picture (height, width, 3)."""
    return noise.sheet(model, cells.reshape(-1, *cells.shape[2:]), columns=cells.shape[1])


def _cells(
    model: Any, latents: np.ndarray, labels: list[int], columns: int, seed: int, codes: dict[str, Any]
) -> np.ndarray:
    if labels:
        codes = {**codes, "labels": _label_rows(model, np.repeat(labels, columns))}
    if len(np.shape(codes.get("codes"))) == 2 and len(codes["codes"]) == 1:
        codes["codes"] = np.repeat(codes["codes"], len(latents), axis=0)
    inputs = noise.sample(model, len(latents), seed, **codes)
    images = np.asarray(model.run(noise.with_latents(model, inputs, latents)))
    return images.reshape(-1, columns, *images.shape[1:])


def _labels(model: Any, labels: Sequence[int] | None) -> list[int]:
    """Labels of the rows; none for a model that takes none."""
    noise.require_latents(model)
    known = _num_labels(model)
    if labels is None:
        return list(range(known or 0))
    if "labels" not in noise.condition_names(model):
        raise LatentError(f"{model.zoo_name} is not conditioned on labels: leave them out.")
    wrong = [label for label in labels if known is not None and not 0 <= label < known]
    if wrong or not len(labels):
        raise LatentError(f"labels: expected integers from 0 to {(known or 0) - 1}, got {list(labels)}.")
    return [int(label) for label in labels]


def _num_labels(model: Any) -> int | None:
    """Number of classes, or of the first code's categories; None if the model takes no labels."""
    if "labels" not in noise.condition_names(model):
        return None
    categories = getattr(model.config, "categories", None)
    if categories is not None:
        return categories[0] if categories else 0
    return getattr(model.config, "num_classes", None)


def _label_rows(model: Any, labels: np.ndarray) -> np.ndarray:
    """Labels as the model takes them: with several categorical codes the others are 0."""
    others = len(getattr(model.config, "categories", ())) - 1
    return labels if others < 1 else np.pad(labels[:, None], ((0, 0), (0, others)))


def _num_codes(model: Any) -> int:
    return int(getattr(model.config, "num_continuous", 0)) if "codes" in noise.condition_names(model) else 0


def _codes(model: Any, codes: np.ndarray) -> dict[str, Any]:
    """The keyword codes=, if the model takes it."""
    return {"codes": codes} if "codes" in noise.condition_names(model) else {}
