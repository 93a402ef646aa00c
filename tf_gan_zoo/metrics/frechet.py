"""Fréchet distance between two sets of features, from running means and covariances."""

from __future__ import annotations

import numpy as np


class Moments:
    """Mean and covariance of feature vectors that come in batches; O(features^2) memory, float64.

    Batches are merged as T. Chan et al. 1979 merge partial sums of squares: no precision is lost where the
    mean is large, and the result does not depend on how vectors are batched (up to rounding).

    Attributes:
        count: vectors so far.
        mean: (features,).
    """

    def __init__(self, num_features: int) -> None:
        self.count = 0
        self.mean = np.zeros(num_features)
        self._squares = np.zeros((num_features, num_features))

    @classmethod
    def of(cls, features: np.ndarray) -> Moments:
        """The moments of an array (count, features)."""
        moments = cls(checked_features(features).shape[1])
        moments.update(features)
        return moments

    def update(self, features: np.ndarray) -> None:
        """Adds vectors (count, features).

        Raises:
            ValueError: if they have another length than the ones before.
        """
        features = checked_features(features)
        if features.shape[1] != len(self.mean):
            raise ValueError(f"expected vectors of {len(self.mean)} features, got {features.shape[1]}.")
        count = len(features)
        mean = features.mean(axis=0)
        centred = features - mean
        self._merge(count, mean, centred.T @ centred)

    def merge(self, other: Moments) -> None:
        """Adds what another one has counted."""
        self._merge(other.count, other.mean, other._squares)

    def _merge(self, count: int, mean: np.ndarray, squares: np.ndarray) -> None:
        total = self.count + count
        if not total:
            return
        shift = mean - self.mean
        self._squares += squares + np.outer(shift, shift) * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total

    @property
    def covariance(self) -> np.ndarray:
        """Unbiased covariance (features, features).

        Raises:
            ValueError: for fewer than two vectors.
        """
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 feature vectors, got {self.count}.")
        return self._squares / (self.count - 1)

    def state(self) -> dict[str, np.ndarray]:
        """Arrays from which `from_state` makes the same moments."""
        return {"count": np.int64(self.count), "mean": self.mean, "squares": self._squares}

    @classmethod
    def from_state(cls, state: dict[str, np.ndarray]) -> Moments:
        """The inverse of `state`."""
        moments = cls(len(state["mean"]))
        moments.count = int(state["count"])
        moments.mean, moments._squares = np.array(state["mean"]), np.array(state["squares"])
        return moments


def frechet_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Fréchet distance of two sets of features, taken as Gaussians; "FID" with Inception's features.

        |mean_a - mean_b|^2 + trace(C_a + C_b - 2 (C_a C_b)^(1/2))

    Args:
        features_a: (count, features), any counts from 2 on; with fewer vectors than features the distance is
            biased upwards.
        features_b: likewise.

    Returns:
        0 for equal sets, else positive, in squared units of the features.

    Raises:
        ValueError: if the arrays are not finite, not (count, features), or differ in features.

    Reference: M. Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
    Equilibrium", NeurIPS 2017, arXiv:1706.08500, equation 6.
    """
    return moments_distance(Moments.of(features_a), Moments.of(features_b))


def moments_distance(a: Moments, b: Moments) -> float:
    """`frechet_distance` of sets of which only the moments are known."""
    if len(a.mean) != len(b.mean):
        raise ValueError(f"the sets differ in features: {len(a.mean)} and {len(b.mean)}.")
    root = _square_root(a.covariance)
    # (C_a C_b) has the eigenvalues of the symmetric C_a^(1/2) C_b C_a^(1/2), which are found more exactly.
    overlap = np.sqrt(np.clip(np.linalg.eigvalsh(root @ b.covariance @ root), 0, None)).sum()
    distance = np.square(a.mean - b.mean).sum() + np.trace(a.covariance) + np.trace(b.covariance)
    return float(max(distance - 2 * overlap, 0.0))


def _square_root(matrix: np.ndarray) -> np.ndarray:
    """The symmetric square root of a covariance."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def checked_features(features: np.ndarray) -> np.ndarray:
    """Features as float64.

    Raises:
        ValueError: unless they are (count, features) with at least one of each, and finite.
    """
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or not features.size:
        raise ValueError(f"expected features (count, features), got shape {features.shape}.")
    if not np.isfinite(features).all():
        raise ValueError("the features hold NaN or infinite values: check the pictures they come from.")
    return features


def checked_pair(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of features with vectors of one length, as float64.

    Raises:
        ValueError: if they are not.
    """
    a, b = checked_features(a), checked_features(b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"the sets differ in features: {a.shape[1]} and {b.shape[1]}.")
    return a, b
