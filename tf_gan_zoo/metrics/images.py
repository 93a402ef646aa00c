"""How near pictures are to references, and how sharp they are: plain NumPy, one number per picture.

All functions take arrays (batch, height, width, channels) and return float64 (batch,).
"""

from __future__ import annotations

import numpy as np

_WINDOW_RADIUS, _WINDOW_SIGMA = 5, 1.5


def l1(images: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Mean absolute difference, in the unit of the pixels.

    Raises:
        ValueError: if the arrays are not two batches of pictures of one shape.
    """
    images, references = checked_pair(images, references)
    return np.abs(images - references).mean((1, 2, 3))


def psnr(images: np.ndarray, references: np.ndarray, data_range: float) -> np.ndarray:
    """Peak signal-to-noise ratio in decibels; infinite for equal pictures.

    Args:
        images: what is judged.
        references: what it should be.
        data_range: difference between the largest and the smallest possible value (2 for [-1, 1]).

    Raises:
        ValueError: if the arrays are not two batches of pictures of one shape.
    """
    images, references = checked_pair(images, references)
    squared_error = np.square(images - references).mean((1, 2, 3))
    with np.errstate(divide="ignore"):
        return 10.0 * np.log10(data_range**2 / squared_error)


def ssim(images: np.ndarray, references: np.ndarray, data_range: float) -> np.ndarray:
    """Structural similarity, at most 1; the mean over all positions of the window and all channels.

    The window is Gaussian, 11x11 with a standard deviation of 1.5 pixels, and stays inside the picture; the
    constants are K1 = 0.01, K2 = 0.03.

    Args:
        images: what is judged; at least 11x11 pixels.
        references: what it should be.
        data_range: difference between the largest and the smallest possible value (2 for [-1, 1]).

    Raises:
        ValueError: if the arrays are not two batches of pictures of one shape, or too small.

    Reference: Z. Wang, A. Bovik, H. Sheikh, E. Simoncelli, "Image Quality Assessment: From Error Visibility
    to Structural Similarity", IEEE TIP 2004, equation 13.
    """
    similarity, _ = similarity_and_contrast(*checked_pair(images, references), data_range)
    return similarity.mean(axis=1)


def similarity_and_contrast(
    x: np.ndarray, y: np.ndarray, data_range: float
) -> tuple[np.ndarray, np.ndarray]:
    """SSIM, and its contrast-structure factor alone, of each channel: two arrays (batch, channels).

    Raises:
        ValueError: for pictures below 11x11 pixels.
    """
    if min(x.shape[1:3]) <= 2 * _WINDOW_RADIUS:
        raise ValueError(f"ssim needs pictures of at least 11x11 pixels, got {x.shape[1]}x{x.shape[2]}.")
    mean_x, mean_y = _blur(x), _blur(y)
    variances = _blur(x * x) - mean_x**2 + _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    contrast = (2 * covariance + c2) / (variances + c2)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return (luminance * contrast).mean((1, 2)), contrast.mean((1, 2))


def mean_gradient(images: np.ndarray) -> np.ndarray:
    """Mean length of the gradient of each picture, in pixel values per pixel; it counts faint ripples, too.

    Raises:
        ValueError: if the array is not a batch of pictures of at least 2x2 pixels.
    """
    return _gradient_length(images).mean((1, 2, 3))


def rms_gradient(images: np.ndarray) -> np.ndarray:
    """Root mean square of the gradient's length of each picture: dominated by its edges.

    Raises:
        ValueError: if the array is not a batch of pictures of at least 2x2 pixels.
    """
    return np.sqrt(np.square(_gradient_length(images)).mean((1, 2, 3)))


def _gradient_length(images: np.ndarray) -> np.ndarray:
    """From the differences to the next pixel to the right and to the next one below."""
    images, _ = checked_pair(images, images)
    if min(images.shape[1:3]) < 2:
        raise ValueError(f"a gradient needs pictures of at least 2x2 pixels, got shape {images.shape}.")
    corner = images[:, :-1, :-1]
    return np.hypot(images[:, 1:, :-1] - corner, images[:, :-1, 1:] - corner)


def checked_pair(images: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two batches of pictures of one shape, as float64.

    Raises:
        ValueError: if they are not.
    """
    images, references = np.asarray(images, np.float64), np.asarray(references, np.float64)
    if images.ndim != 4 or images.shape != references.shape:
        raise ValueError(
            "expected two arrays (batch, height, width, channels) of the same shape, "
            f"got {images.shape} and {references.shape}."
        )
    return images, references


def _blur(images: np.ndarray) -> np.ndarray:
    """Gaussian means wherever the window fits, rows first, then columns."""
    taps = np.exp(-0.5 * (np.arange(-_WINDOW_RADIUS, _WINDOW_RADIUS + 1) / _WINDOW_SIGMA) ** 2)
    taps /= taps.sum()
    height, width = (side - 2 * _WINDOW_RADIUS for side in images.shape[1:3])
    rows = sum(tap * images[:, k : k + height] for k, tap in enumerate(taps))
    return sum(tap * rows[:, :, k : k + width] for k, tap in enumerate(taps))
