"""Precision, recall, density and coverage: how good samples are and how much of the data they reach."""

from __future__ import annotations

import numpy as np

from tf_gan_zoo.metrics.frechet import checked_pair

PRECISION_K, DENSITY_K = 3, 5
_ROWS = 1000


def precision_recall_density_coverage(
    real: np.ndarray, fake: np.ndarray, k: int | None = None
) -> dict[str, float]:
    """Counts in balls around features, whose radius is the distance to the k-th neighbour in the same set.

    precision: part of the fakes inside a ball of any real one; recall: part of the real ones inside a ball of
    any fake. density: mean number of real balls that a fake lies in, divided by k (above 1 where fakes sit
    among the densest real ones); coverage: part of the real balls that hold a fake.

    Args:
        real: features (count, features).
        fake: likewise; the counts may differ.
        k: neighbourhood of all four; None takes the papers', 3 for precision and recall and 5 for density
            and coverage.

    Returns:
        The four by name; all in [0, 1] but density, which is at least 0.

    Raises:
        ValueError: if the arrays do not fit each other, or hold no more than k vectors.

    References: T. Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative
    Models", NeurIPS 2019, arXiv:1904.06991, equations 1-3; M. Naeem et al., "Reliable Fidelity and Diversity
    Metrics for Generative Models", ICML 2020, arXiv:2002.09797, equations 4 and 6.
    """
    real, fake = checked_pair(real, fake)
    k_precision, k_density = (k, k) if k is not None else (PRECISION_K, DENSITY_K)
    smallest = min(len(real), len(fake))
    if not 1 <= min(k_precision, k_density) <= max(k_precision, k_density) < smallest:
        raise ValueError(f"k must be from 1 to below the smaller count, {smallest}; got {k or k_density}.")
    real_radius, density_radius = _radii(real, (k_precision, k_density))
    (fake_radius,) = _radii(fake, (k_precision,))
    counts = _count(real, fake, real_radius, fake_radius, density_radius)
    return {**counts, "density": counts["density"] / k_density}


def _count(
    real: np.ndarray, fake: np.ndarray, real_radius: np.ndarray, fake_radius: np.ndarray,
    density_radius: np.ndarray,
) -> dict[str, float]:  # fmt: skip
    """Goes through the distances some rows (real ones) at a time; memory stays small."""
    precise = np.zeros(len(fake), bool)
    recalled = covered = inside = 0
    for start in range(0, len(real), _ROWS):
        rows = slice(start, start + _ROWS)
        distances = squared_distances(real[rows], fake)
        precise |= (distances <= real_radius[rows, None]).any(axis=0)
        recalled += int((distances <= fake_radius).any(axis=1).sum())
        near = distances < density_radius[rows, None]
        inside += int(near.sum())
        covered += int(near.any(axis=1).sum())
    return {
        "precision": float(precise.mean()),
        "recall": recalled / len(real),
        "density": inside / len(fake),
        "coverage": covered / len(real),
    }


def _radii(features: np.ndarray, neighbours: tuple[int, ...]) -> np.ndarray:
    """Squared distance from each vector to its k-th neighbour other than itself: (len(neighbours), count)."""
    radii = np.empty((len(neighbours), len(features)))
    for start in range(0, len(features), _ROWS):
        distances = squared_distances(features[start : start + _ROWS], features)
        rows = np.arange(len(distances))
        distances[rows, start + rows] = 0.0  # rounding must not put a vector beside itself
        nearest = np.partition(distances, neighbours, axis=1)[:, list(neighbours)]
        radii[:, start : start + len(nearest)] = nearest.T
    return radii


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances (len(a), len(b)) between rows."""
    squares = (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)[None]
    return np.maximum(squares, 0.0)
