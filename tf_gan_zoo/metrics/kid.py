"""Kernel inception distance: an unbiased squared maximum mean discrepancy of features."""

from __future__ import annotations

import numpy as np

from tf_gan_zoo.metrics.frechet import checked_pair

NUM_SUBSETS, SUBSET_SIZE = 100, 1000


def kernel_inception_distance(
    features_a: np.ndarray, features_b: np.ndarray, *, num_subsets: int = NUM_SUBSETS,
    subset_size: int = SUBSET_SIZE, seed: int = 0,
) -> float:  # fmt: skip
    """Mean of `kernel_inception_distances`; about 0 for sets of one distribution, and may be negative.

    Args and Raises: as there.
    """
    return float(
        kernel_inception_distances(
            features_a, features_b, num_subsets=num_subsets, subset_size=subset_size, seed=seed
        ).mean()
    )


def kernel_inception_distances(
    features_a: np.ndarray, features_b: np.ndarray, *, num_subsets: int = NUM_SUBSETS,
    subset_size: int = SUBSET_SIZE, seed: int = 0,
) -> np.ndarray:  # fmt: skip
    """The unbiased squared MMD of random subsets, with the kernel (x.y / features + 1)^3.

        mean of k(a, a') over a != a'  +  mean of k(b, b') over b != b'  -  2 mean of k(a, b)

    Args:
        features_a: (count, features).
        features_b: likewise; the counts may differ.
        num_subsets: how many subsets are drawn.
        subset_size: vectors from each set per subset, without replacement.
        seed: draws the subsets, as torch-fidelity does for the same seed.

    Returns:
        float64 (num_subsets,); its mean is the distance, its standard deviation the usual plus-minus.

    Raises:
        ValueError: if the arrays do not fit each other, or hold fewer than `subset_size` vectors.

    Reference: M. Binkowski et al., "Demystifying MMD GANs", ICLR 2018, arXiv:1801.01401, section 4.
    """
    a, b = checked_pair(features_a, features_b)
    if not 2 <= subset_size <= min(len(a), len(b)):
        raise ValueError(
            f"subset_size must be from 2 to the smaller count, {min(len(a), len(b))}; got {subset_size}."
        )
    draws = np.random.RandomState(seed)
    return np.array([
        _squared_mmd(*(x[draws.choice(len(x), subset_size, replace=False)] for x in (a, b)))
        for _ in range(num_subsets)
    ])  # fmt: skip


def _squared_mmd(a: np.ndarray, b: np.ndarray) -> float:
    count = len(a)
    within = sum(k.sum() - np.trace(k) for k in (_kernel(a, a), _kernel(b, b))) / (count * (count - 1))
    return within - 2 * _kernel(a, b).mean()


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    k = x @ y.T / x.shape[1] + 1.0
    return k * k * k  # NumPy's power is ten times slower
