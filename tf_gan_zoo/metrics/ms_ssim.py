"""Structural similarity over several scales: of pairs, and as a measure of how alike samples are."""

from __future__ import annotations

import numpy as np

from tf_gan_zoo.metrics.images import checked_pair, similarity_and_contrast

#: Exponents of the five scales, fine to coarse (Wang et al. 2003, section 3.2).
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW = 11


def ms_ssim(images: np.ndarray, references: np.ndarray, data_range: float) -> np.ndarray:
    """Multi-scale structural similarity of each picture, at most 1.

        similarity at the coarsest scale ^ w_M  *  product over finer scales of contrast-structure ^ w_j

    Each scale halves the one before (2x2 means). Five scales need sides of 176 pixels; smaller pictures use
    as many as leave 11 pixels at the coarsest (28 to 43 pixels: 2, 44 to 87: 3, 88 to 175: 4), and the
    weights of those are rescaled to a sum of 1, so that numbers of different sizes are not comparable.
    Negative factors count as 0. Channels are judged one by one and averaged.

    Args:
        images: (batch, height, width, channels).
        references: the same shape.
        data_range: difference between the largest and the smallest possible value (2 for [-1, 1]).

    Returns:
        float64 (batch,).

    Raises:
        ValueError: if the arrays are not two batches of pictures of one shape, or below 11x11 pixels.

    Reference: Z. Wang, E. Simoncelli, A. Bovik, "Multi-scale Structural Similarity for Image Quality
    Assessment", Asilomar 2003, equation 7.
    """
    x, y = checked_pair(images, references)
    weights = np.array(WEIGHTS[: num_scales(x.shape[1:3])])
    weights /= weights.sum()
    result = np.ones((len(x), x.shape[-1]))
    for scale, weight in enumerate(weights):
        similarity, contrast = similarity_and_contrast(x, y, data_range)
        factor = similarity if scale == len(weights) - 1 else contrast
        result *= np.maximum(factor, 0) ** weight
        x, y = _halved(x), _halved(y)
    return result.mean(axis=1)


def pairwise_ms_ssim(
    images: np.ndarray, data_range: float, *, labels: np.ndarray | None = None, num_pairs: int = 500,
    seed: int = 0,
) -> float:  # fmt: skip
    """Mean MS-SSIM of random pairs of different pictures: the lower, the more diverse; near 1 is a collapse.

    Args:
        images: (count, height, width, channels).
        data_range: difference between the largest and the smallest possible value.
        labels: integers (count,); pairs are then drawn within classes, as the paper does.
        num_pairs: how many pairs.
        seed: draws them.

    Raises:
        ValueError: for fewer than two pictures, or two of no class.

    Reference: A. Odena, C. Olah, J. Shlens, "Conditional Image Synthesis with Auxiliary Classifier GANs",
    ICML 2017, arXiv:1610.09585, section 4.2 (100 pairs per class).
    """
    images = np.asarray(images)
    first, second = draw_pairs(len(images), labels, num_pairs, np.random.default_rng(seed))
    parts = [slice(start, start + 100) for start in range(0, num_pairs, 100)]
    values = [ms_ssim(images[first[part]], images[second[part]], data_range) for part in parts]
    return float(np.concatenate(values).mean())


def num_scales(size: tuple[int, int]) -> int:
    """Scales that pictures of this (height, width) allow, from 1 to 5.

    Raises:
        ValueError: below 11x11 pixels.
    """
    side = min(size)
    if side < _WINDOW:
        raise ValueError(f"ms_ssim needs pictures of at least 11x11 pixels, got {size[0]}x{size[1]}.")
    return sum(side >> scale >= _WINDOW for scale in range(len(WEIGHTS)))


def _halved(images: np.ndarray) -> np.ndarray:
    """2x2 means; a last odd row or column is left out."""
    height, width = (side // 2 for side in images.shape[1:3])
    images = images[:, : 2 * height, : 2 * width]
    return images.reshape(len(images), height, 2, width, 2, -1).mean(axis=(2, 4))


def draw_pairs(
    count: int, labels: np.ndarray | None, num_pairs: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of `num_pairs` pairs, the two of each pair different and of one class."""
    labels = np.zeros(count, int) if labels is None else np.asarray(labels)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    sizes = np.array([len(m) if len(m) > 1 else 0 for m in members])
    if not sizes.sum():
        raise ValueError(f"pairs need at least two pictures of one class, got {count} pictures in all.")
    classes = rng.choice(len(members), num_pairs, p=sizes / sizes.sum())
    first = rng.integers(sizes[classes])
    second = (first + rng.integers(1, sizes[classes])) % sizes[classes]
    pick = [np.array([members[c][k] for c, k in zip(classes, place)]) for place in (first, second)]
    return pick[0], pick[1]
