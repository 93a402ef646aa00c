"""How well vectors tell people apart whatever the pose: plain NumPy.

Vectors are (count, ...), features or pictures alike, compared by the cosine of what deviates from their mean.
"""

from __future__ import annotations

import numpy as np


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (count, ...) of length 1, float64 (count, size)."""
    flat = np.asarray(vectors, "float64").reshape(len(vectors), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)


def gallery_of(labels: np.ndarray, poses: np.ndarray, frontal: int) -> np.ndarray:
    """Index of each person's first face in the frontal pose; people without one are left out."""
    front = np.flatnonzero(poses == frontal)
    return front[np.unique(labels[front], return_index=True)[1]]


def nearest_labels(probes: np.ndarray, gallery: np.ndarray, gallery_labels: np.ndarray) -> np.ndarray:
    """The label of each probe's nearest vector in a gallery."""
    flat = [np.asarray(x, "float64").reshape(len(x), -1) for x in (probes, gallery)]
    middle = flat[1].mean(axis=0)
    similar = unit(flat[0] - middle) @ unit(flat[1] - middle).T
    return gallery_labels[similar.argmax(axis=1)] if len(probes) else gallery_labels[:0]


def rank1(vectors: np.ndarray, labels: np.ndarray, poses: np.ndarray, frontal: int) -> dict[str, float]:
    """Faces that are not frontal whose nearest frontal one, of one per person, is of the same person.

    Args:
        vectors: (count, ...).
        labels: of people, (count,).
        poses: bins of the yaw, (count,).
        frontal: the bin of frontal faces.

    Returns:
        rank1 of all poses but the frontal one, rank1_profile of the outermost ones; empty without such faces.
    """
    gallery = gallery_of(labels, poses, frontal)
    probes = np.flatnonzero((poses != frontal) & np.isin(labels, labels[gallery]))
    if not len(gallery) or not len(probes):
        return {}
    right = nearest_labels(vectors[probes], vectors[gallery], labels[gallery]) == labels[probes]
    turn = np.abs(poses[probes] - frontal)
    return {"rank1": float(right.mean()), "rank1_profile": float(right[turn == turn.max()].mean())}


def linear_accuracy(
    vectors: np.ndarray, classes: np.ndarray, people: np.ndarray, regularization: float = 1e-2
) -> float:
    """How often ridge regression on one-hot codes finds the classes of people that it was not fitted to.

    Args:
        vectors: (count, ...); each number is brought to unit variance first.
        classes: integers (count,).
        people: who it is, (count,); every second person is fitted to, the others are tested.
        regularization: part of the mean variance that is added to all directions.
    """
    x = np.asarray(vectors, "float64").reshape(len(vectors), -1)
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-6)
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    known, targets = np.unique(people, return_inverse=True)[1] % 2 == 0, np.eye(classes.max() + 1)[classes]
    if known.all():
        return 0.0
    kernel = x[known] @ x[known].T  # as many equations as examples, however long the vectors
    kernel += regularization * np.trace(kernel) / len(kernel) * np.eye(len(kernel))
    scores = x[~known] @ x[known].T @ np.linalg.solve(kernel, targets[known])
    return float((scores.argmax(axis=1) == classes[~known]).mean())


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation of two vectors, ties sharing their mean rank; 0 if one is constant."""
    ranks = [_ranks(np.asarray(values)) for values in (first, second)]
    if min(rank.std() for rank in ranks) == 0:
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[place]
