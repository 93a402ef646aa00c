"""Sliced Wasserstein distance between patches of two sets of pictures, one scale at a time."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

PATCH, SMALLEST_SIDE = 7, 16
_TAPS = np.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16


def sliced_wasserstein(
    images_a: np.ndarray, images_b: np.ndarray, *, patches_per_image: int = 128, num_projections: int = 512,
    seed: int = 0,
) -> float:  # fmt: skip
    """Mean over scales of `sliced_wasserstein_by_size`, times 1000 as papers print it.

    Args and Raises: as there.
    """
    distances = sliced_wasserstein_by_size(
        images_a, images_b, patches_per_image=patches_per_image, num_projections=num_projections, seed=seed
    )
    return float(np.mean(list(distances.values())))


def sliced_wasserstein_by_size(
    images_a: np.ndarray, images_b: np.ndarray, *, patches_per_image: int = 128, num_projections: int = 512,
    seed: int = 0,
) -> dict[int, float]:  # fmt: skip
    """Distances between 7x7 patches at each level of a Laplacian pyramid, times 1000.

    Pictures are halved (5x5 binomial filter) while the result has at least 16 pixels a side and sides are
    even; a level holds what the next smaller one lacks, the last level what is left. Random patches of both
    sets are normalised by the mean and standard deviation of their own set per channel, projected on random
    directions, and compared by the mean absolute difference of the sorted projections.

    Args:
        images_a: (count, height, width, channels) in any unit.
        images_b: the same shape.
        patches_per_image: patches cut from each picture at each level.
        num_projections: random directions.
        seed: draws patches and directions.

    Returns:
        Height of the level in pixels -> distance, largest level first; 0 is best.

    Raises:
        ValueError: if the sets differ in shape or the pictures are smaller than a patch.

    Reference: T. Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation",
    ICLR 2018, arXiv:1710.10196, section 5 (its setting: 16,384 pictures, 128 patches, 512 projections).
    """
    a, b = _checked(images_a, images_b)
    rng = np.random.default_rng(seed)
    distances = {}
    for level_a, level_b in zip(laplacian_pyramid(a), laplacian_pyramid(b)):
        patches = [_patches(level, patches_per_image, rng) for level in (level_a, level_b)]
        distances[level_a.shape[1]] = 1000 * _sliced_distance(*patches, num_projections, rng)
    return distances


def laplacian_pyramid(images: np.ndarray) -> list[np.ndarray]:
    """Levels from fine to coarse; upsampled and added up they give the pictures again."""
    levels = [images]
    while all(side % 2 == 0 and side // 2 >= SMALLEST_SIDE for side in levels[-1].shape[1:3]):
        smaller = _filtered(levels[-1])[:, ::2, ::2]
        levels[-1] = levels[-1] - upsampled(smaller)
        levels.append(smaller)
    return levels


def upsampled(images: np.ndarray) -> np.ndarray:
    """Twice the size: zeros in between, then the same filter, which keeps the brightness."""
    count, height, width, channels = images.shape
    spread = np.zeros((count, 2 * height, 2 * width, channels), images.dtype)
    spread[:, ::2, ::2] = images
    return 4 * _filtered(spread)


def _filtered(images: np.ndarray) -> np.ndarray:
    rows = ndimage.convolve1d(images, _TAPS, axis=1, mode="mirror")
    return ndimage.convolve1d(rows, _TAPS, axis=2, mode="mirror")


def _patches(images: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(len(images) * count, 7 * 7 * channels), normalised per channel over the set."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (PATCH, PATCH), axis=(1, 2))
    index = np.repeat(np.arange(len(images)), count)
    top, left = (rng.integers(side, size=len(index)) for side in windows.shape[1:3])
    patches = windows[index, top, left]  # (patches, channels, 7, 7)
    patches = patches - patches.mean(axis=(0, 2, 3), keepdims=True)
    spread = patches.std(axis=(0, 2, 3), keepdims=True)
    return (patches / np.where(spread > 0, spread, 1)).reshape(len(patches), -1)


def _sliced_distance(a: np.ndarray, b: np.ndarray, num_projections: int, rng: np.random.Generator) -> float:
    directions = rng.standard_normal((num_projections, a.shape[1])).astype(a.dtype)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    # One direction at a time: the projections of all would take gigabytes.
    return float(np.mean([np.abs(np.sort(a @ d) - np.sort(b @ d)).mean() for d in directions]))


def _checked(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    if a.ndim != 4 or a.shape != b.shape or not len(a) or min(a.shape[1:3]) < PATCH:
        raise ValueError(
            "expected two sets of as many pictures (count, height, width, channels) of the same shape, at "
            f"least {PATCH}x{PATCH} pixels; got {a.shape} and {b.shape}."
        )
    return a, b
