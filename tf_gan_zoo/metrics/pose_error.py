"""How far the body in a picture is from the pose that was asked for: plain NumPy, no pose estimator.

Joints are read off pictures by kernel ridge regression on histograms of the gradients' directions, fitted to
pictures whose joints are known. It is a rough reader: compare its error on made pictures with its error on
real ones in the same poses.
"""

from __future__ import annotations

import numpy as np

from tf_gan_zoo.metrics.images import checked_pair

_NUM_DIRECTIONS, _CELLS_ACROSS = 8, 8


class JointReader:
    """Places of joints in pictures.

    Args:
        images: (count, height, width, channels), to learn from.
        keypoints: their joints (count, joints, 3): across, down (any unit), and whether they are visible.
        regularization: added to the diagonal of the kernel matrix.
    """

    def __init__(self, images: np.ndarray, keypoints: np.ndarray, regularization: float = 0.02) -> None:
        self._known = direction_histograms(images)
        squares = _squared_distances(self._known, self._known)
        self._width = max(float(np.median(squares)), 1e-9)
        places, visible = np.asarray(keypoints, "float64")[..., :2], np.asarray(keypoints)[..., 2:] > 0.5
        count = np.maximum(visible.sum(axis=0), 1)
        self._middle = (places * visible).sum(axis=0) / count
        deviations = np.where(visible, places - self._middle, 0.0).reshape(len(places), -1)
        kernel = np.exp(-squares / self._width) + regularization * np.eye(len(squares))
        self._weights = np.linalg.solve(kernel, deviations)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Joints of pictures, float64 (count, joints, 2)."""
        squares = _squared_distances(direction_histograms(images), self._known)
        deviations = np.exp(-squares / self._width) @ self._weights
        return self._middle + deviations.reshape(len(deviations), *self._middle.shape)


def joint_distance(places: np.ndarray, keypoints: np.ndarray, size: tuple[int, int]) -> float:
    """Mean distance in pixels of joints from where they should be, of those that should be visible.

    Args:
        places: (count, joints, 2), across and down as parts of the picture's width and height.
        keypoints: (count, joints, 3), wanted.
        size: (height, width) in pixels.
    """
    keypoints = np.asarray(keypoints)
    distances = np.linalg.norm((places - keypoints[..., :2]) * [size[1], size[0]], axis=-1)
    return float(distances[keypoints[..., 2] > 0.5].mean())


def direction_histograms(images: np.ndarray) -> np.ndarray:
    """How strong the gradient is in each of eight directions in square cells, eight to the shorter side.

    Args:
        images: (count, height, width, channels).

    Returns:
        float64 (count, size) of length 1.
    """
    images, _ = checked_pair(images, images)
    gray = images.mean(axis=-1)
    down, across = np.gradient(gray, axis=(1, 2))
    strength, direction = np.hypot(down, across), np.arctan2(down, across)
    place = (direction / (2 * np.pi) % 1.0) * _NUM_DIRECTIONS
    cell = max(min(gray.shape[1:]) // _CELLS_ACROSS, 1)
    rows, columns = (side // cell for side in gray.shape[1:])
    cells = []
    for number in range(_NUM_DIRECTIONS):
        gap = np.abs(place - number)
        share = np.maximum(1 - np.minimum(gap, _NUM_DIRECTIONS - gap), 0) * strength
        share = share[:, : rows * cell, : columns * cell].reshape(len(gray), rows, cell, columns, cell)
        cells.append(share.mean(axis=(2, 4)))
    flat = np.sqrt(np.stack(cells, axis=-1)).reshape(len(gray), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)


def _squared_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    products = first @ second.T
    return np.maximum((first**2).sum(1)[:, None] - 2 * products + (second**2).sum(1), 0.0)
