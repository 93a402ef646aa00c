"""How well descriptors find pictures of a class, and tell matching pairs of patches from others."""

from __future__ import annotations

import numpy as np

#: Number of ones in each byte.
_ONES = np.array([bin(byte).count("1") for byte in range(256)], np.uint16)


def hamming_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Number of differing bits of all pairs.

    Args:
        first: packed bits, uint8 (count, bytes), as `np.packbits` makes them.
        second: uint8 (other count, bytes).

    Returns:
        Integers (count, other count).

    Raises:
        ValueError: for another dtype or lengths that differ.
    """
    first, second = np.asarray(first), np.asarray(second)
    if {first.dtype, second.dtype} != {np.dtype(np.uint8)} or first.shape[-1] != second.shape[-1]:
        raise ValueError(
            f"expected packed bits of one length, uint8 (count, bytes), got {first.dtype} {first.shape} and "
            f"{second.dtype} {second.shape}."
        )
    distances = np.zeros((len(first), len(second)), np.uint16)
    for a, b in zip(first.T, second.T):  # byte by byte: all bytes of all pairs would not fit into memory
        distances += _ONES[a[:, None] ^ b[None]]
    return distances.astype(int)


def paired_hamming_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Number of differing bits of each row of `first` and the same row of `second`, packed bits."""
    return _ONES[np.bitwise_xor(first, second)].sum(axis=1).astype(int)


def mean_average_precision(
    distances: np.ndarray, query_labels: np.ndarray, labels: np.ndarray, top: int = 1000
) -> float:
    """mAP@top: how early pictures of a query's class come in the list of its nearest ones.

    Of each query: the mean, over the right pictures among the `top` nearest, of the precision up to there; 0
    if none is right. Equally near ones keep their order.

    Args:
        distances: (queries, database).
        query_labels: (queries,).
        labels: (database,).
        top: length of the list.
    """
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :top]
    right = np.asarray(labels)[nearest] == np.asarray(query_labels)[:, None]
    precision = np.cumsum(right, axis=1) / np.arange(1, right.shape[1] + 1)
    return float(((precision * right).sum(1) / np.maximum(right.sum(1), 1)).mean())


def false_positive_rate_at_95(matching: np.ndarray, others: np.ndarray) -> float:
    """FPR@95: the fraction of wrong pairs that pass a threshold which 95% of matching pairs pass.

    The threshold is the distance at the 95th percentile of the matching pairs; equal distances pass.

    Args:
        matching: distances of pairs that show the same thing.
        others: distances of pairs that do not.
    """
    threshold = np.sort(matching)[int(np.ceil(0.95 * len(matching))) - 1]
    return float((np.asarray(others) <= threshold).mean())


def random_hyperplane_bits(images: np.ndarray, num_bits: int, seed: int = 0) -> np.ndarray:
    """Packed bits without learning: on which side of random planes through the middle gray a picture lies.

    Args:
        images: (count, height, width, channels) in [-1, 1].
        num_bits: number of planes.
        seed: draws them.
    """
    flat = np.asarray(images, "float64").reshape(len(images), -1)
    planes = np.random.default_rng(seed).normal(size=(flat.shape[1], num_bits))
    return np.packbits(flat @ planes >= 0, axis=1)
