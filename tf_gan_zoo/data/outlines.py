"""Line drawings made of pictures: dark lines one pixel wide where colours change.

As in J. Canny, "A Computational Approach to Edge Detection", IEEE PAMI 1986: smoothing, gradients, of
which only the local maxima across the line are kept; with one threshold instead of two.
"""

import numpy as np

#: Least change of a channel along a pixel that makes a line, as a part of the whole range.
THRESHOLD = 0.04
#: The two neighbours across a line, by the direction of its gradient: steps of 45 degrees from the right.
_ACROSS = ((0, 1), (1, 1), (1, 0), (1, -1))
_INK, _PAPER = 0, 255


def outline(picture: np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
    """Lines of a picture, black on white; the same picture always gives the same lines.

    Args:
        picture: uint8 (height, width, channels).
        threshold: least change that makes a line, from 0 to 1.

    Returns:
        uint8 of the same shape, all channels equal.
    """
    length, direction = _gradients(picture / np.float32(255))
    is_line = (length >= threshold) & _is_largest_across(length, direction)
    lines = np.where(is_line, _INK, _PAPER).astype(np.uint8)
    return np.repeat(lines[..., None], picture.shape[-1], axis=-1)


def _gradients(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Length and direction (0 to 3, in steps of 45 degrees) of the steepest channel's gradient."""
    smooth = _weighted(_weighted(pixels, 0, (1, 2, 1)), 1, (1, 2, 1)) / 16
    down, right = _weighted(smooth, 0, (-1, 0, 1)) / 2, _weighted(smooth, 1, (-1, 0, 1)) / 2
    lengths = np.hypot(down, right)
    steepest = lengths.argmax(-1)[..., None]
    down, right, length = (np.take_along_axis(x, steepest, -1)[..., 0] for x in (down, right, lengths))
    return length, np.rint(np.arctan2(down, right) / (np.pi / 4)).astype(int) % 4


def _is_largest_across(length: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Whether a gradient is longer than the one before it on its line, and not shorter than the next."""
    padded = np.pad(length, 1)
    height, width = length.shape
    result = np.zeros(length.shape, bool)
    for number, (down, right) in enumerate(_ACROSS):
        before, after = (
            padded[1 + sign * down :, 1 + sign * right :][:height, :width] for sign in (-1, 1)
        )
        result |= (direction == number) & (length > before) & (length >= after)
    return result


def _weighted(pixels: np.ndarray, axis: int, weights: tuple[int, int, int]) -> np.ndarray:
    """Weighted sum of each pixel with its two neighbours along an axis; the border is repeated."""
    padded = np.pad(pixels, [(int(k == axis),) * 2 for k in range(3)], mode="edge")
    length = pixels.shape[axis]
    parts = (np.take(padded, range(k, k + length), axis) * np.float32(w) for k, w in enumerate(weights))
    return sum(parts)
