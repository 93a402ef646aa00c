"""Task metrics of single models, on arrays."""

from __future__ import annotations

import numpy as np


def nearest_neighbours(
    queries: np.ndarray, references: np.ndarray, leave_own_out: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Index of each query's nearest reference and the Euclidean distance per pixel value (root mean square).

    Both are (count, height, width, channels), or any equal shapes behind the first axis. `leave_own_out` does
    not look at the reference of a query's own index: for queries that are the references.
    """
    q, r = (x.reshape(len(x), -1).astype("float64") for x in (queries, references))
    squares = (q**2).sum(1)[:, None] - 2 * q @ r.T + (r**2).sum(1)[None]
    if leave_own_out:
        np.fill_diagonal(squares, np.inf)
    index = squares.argmin(1)
    least = np.maximum(squares[np.arange(len(q)), index], 0)
    return index, np.sqrt(least / q.shape[1])


def class_coverage(samples: np.ndarray, images: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Labels samples by their nearest neighbour among labelled images.

    Returns:
        classes: classes that at least a quarter of their fair share of samples fall into;
        num_classes: classes among the labels;
        class_entropy: entropy in nats of the samples' classes (ln num_classes is the most);
        neighbour_distance: mean root-mean-square distance to the neighbour, in pixel values.
    """
    index, distance = nearest_neighbours(samples, images)
    known = np.unique(labels)
    shares = np.array([(labels[index] == label).mean() for label in known])
    present = shares[shares > 0]
    return {
        "classes": int((shares >= 0.25 / len(known)).sum()),
        "num_classes": len(known),
        "class_entropy": float((present * np.log(1 / present)).sum()),
        "neighbour_distance": float(distance.mean()),
    }


def clustering_accuracy(clusters: np.ndarray, labels: np.ndarray) -> float:
    """Fraction of examples whose cluster's label is right under the best one-to-one assignment.

    Args:
        clusters: integers (count,); `labels` likewise.

    Raises:
        ImportError: if SciPy is missing.
    """
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((int(clusters.max()) + 1, int(labels.max()) + 1), int)
    np.add.at(counts, (clusters, labels), 1)
    rows, columns = linear_sum_assignment(-counts)
    return float(counts[rows, columns].sum() / len(labels))


def neighbours_accuracy(features: np.ndarray, labels: np.ndarray) -> float:
    """Fraction of examples whose nearest other example has their label.

    Args:
        features: (count, ...), compared by Euclidean distance.
        labels: integers (count,).
    """
    x = features.reshape(len(features), -1).astype("float64")
    squares = np.square(x).sum(1)
    distances = squares[:, None] - 2 * x @ x.T + squares[None]
    np.fill_diagonal(distances, np.inf)
    return float((labels[distances.argmin(1)] == labels).mean())


def shared_words(caption: str, other: str) -> float:
    """Fraction of a caption's different words that stand in another one, too."""
    words = set(caption.split())
    return len(words & set(other.split())) / max(len(words), 1)


def of_another_class(labels: np.ndarray) -> np.ndarray:
    """For each example the index of one with another label, each taken once, where no class has most.

    Args:
        labels: integers (count,).
    """
    order = np.argsort(labels, kind="stable")
    others = np.empty_like(order)
    others[order] = np.roll(order, np.unique(labels, return_counts=True)[1].max())
    return others
