"""Inception Score: are samples of clear classes, and of many?"""

from __future__ import annotations

import numpy as np


def inception_score(probabilities: np.ndarray, splits: int = 10) -> float:
    """Mean of `inception_scores`: from 1 (all alike, or all unclear) to the number of classes.

    Args and Raises: as there.
    """
    return float(inception_scores(probabilities, splits).mean())


def inception_scores(probabilities: np.ndarray, splits: int = 10) -> np.ndarray:
    """exp(mean over samples of KL(p(y | x) || p(y))) of consecutive parts of the samples.

    Args:
        probabilities: class probabilities (count, classes), rows that add up to 1.
        splits: number of parts, each with its own p(y).

    Returns:
        float64 (splits,).

    Raises:
        ValueError: if rows are no probabilities or there are fewer than `splits`.

    Reference: T. Salimans et al., "Improved Techniques for Training GANs", NeurIPS 2016, arXiv:1606.03498,
    section 4.
    """
    p = np.asarray(probabilities, np.float64)
    if p.ndim != 2 or not 1 <= splits <= len(p):
        raise ValueError(f"expected probabilities (count, classes), count >= {splits}; got shape {p.shape}.")
    if not (np.isfinite(p).all() and (p >= 0).all() and np.allclose(p.sum(axis=1), 1, atol=1e-3)):
        raise ValueError("rows of probabilities must be at least 0 and add up to 1. Apply softmax to logits.")
    bounds = [k * len(p) // splits for k in range(splits + 1)]
    return np.array([_score(p[first:end]) for first, end in zip(bounds, bounds[1:])])


def _score(p: np.ndarray) -> float:
    marginal = p.mean(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * (np.log(p) - np.log(marginal)), 0.0)  # 0 log 0 is 0
    return float(np.exp(terms.sum(axis=1).mean()))
