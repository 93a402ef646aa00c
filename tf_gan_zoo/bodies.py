"""The body as 18 joints: their names, heat maps and masks made of them, mirror images.

Keypoints are float32 (batch, 18, 3): how far a joint is across and down the picture, as parts of its width
and height, and 1 if it is visible, else 0. `from_pixels` makes them of what a pose estimator finds.

Reference: L. Ma et al., "Pose Guided Person Image Generation", NIPS 2017, section 3.1; the limbs are those of
the authors' released code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

#: In OpenPose's order for COCO.
JOINTS = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
    "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
    "right_eye", "left_eye", "right_ear", "left_ear",
)  # fmt: skip
#: Pairs of joints whose connections cover the body, trunk and head included.
LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13),
    (1, 0), (0, 14), (14, 16), (0, 15), (15, 17), (1, 16), (1, 17), (8, 11), (11, 5), (8, 2), (16, 17),
)  # fmt: skip
#: Each joint's counterpart on the other side.
COUNTERPARTS = tuple(
    JOINTS.index(name.replace("right", "?").replace("left", "right").replace("?", "left")) for name in JOINTS
)
_CLOSING = 5  # pixels


def pose_maps(keypoints: tf.Tensor, size: tuple[int, int], radius: float = 4.0) -> tf.Tensor:
    """One map per joint: a disk of 1 around it, -1 elsewhere and wherever the joint is not visible.

    Args:
        keypoints: float32 (batch, 18, 3).
        size: (height, width) of the maps in pixels.
        radius: of the disks in pixels.

    Returns:
        float32 (batch, height, width, 18), -1 or 1.
    """
    (across, down), visible = _offsets(keypoints[..., 0], keypoints[..., 1], size), keypoints[..., 2]
    # Far away is far enough: small numbers stay exact where a network is quantised.
    across, down = (tf.clip_by_value(part, -radius - 1, radius + 1) for part in (across, down))
    inside = tf.square(across) + tf.square(down) <= radius**2
    return 2.0 * tf.cast(inside & (visible > 0.5)[:, None, None], tf.float32) - 1.0


def pose_mask(keypoints: tf.Tensor, size: tuple[int, int], radius: float = 4.0) -> tf.Tensor:
    """Where the body is: within `radius` of a limb whose two joints are visible, small gaps closed.

    Args: as of `pose_maps`.

    Returns:
        float32 (batch, height, width, 1), 0 or 1.
    """
    first, second = (tf.gather(keypoints, [limb[k] for limb in LIMBS], axis=1) for k in (0, 1))
    across, down = _offsets(first[..., 0], first[..., 1], size)
    height, width = size
    right, below = ((second - first)[:, None, None, :, k] * side for k, side in enumerate((width, height)))
    length = tf.maximum(tf.square(right) + tf.square(below), 1e-6)
    along = tf.clip_by_value((across * right + down * below) / length, 0.0, 1.0)
    distance = tf.square(across - along * right) + tf.square(down - along * below)
    visible = (first[..., 2] > 0.5) & (second[..., 2] > 0.5)
    body = tf.reduce_any((distance <= radius**2) & visible[:, None, None], axis=-1, keepdims=True)
    grown = tf.nn.max_pool2d(tf.cast(body, tf.float32), _CLOSING, 1, "SAME")
    return -tf.nn.max_pool2d(-grown, _CLOSING, 1, "SAME")


def _offsets(across: tf.Tensor, down: tf.Tensor, size: tuple[int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Pixels from points (batch, points) to columns' middles, (batch, 1, width, points), and to rows'."""
    height, width = size
    columns, rows = (tf.range(side, dtype=tf.float32) + 0.5 for side in (width, height))
    return (
        columns[None, None, :, None] - across[:, None, None] * width,
        rows[None, :, None, None] - down[:, None, None] * height,
    )


def mirrored(keypoints: tf.Tensor) -> tf.Tensor:
    """Keypoints of the picture that is mirrored left to right: right joints are the left ones there."""
    across, down, visible = tf.unstack(tf.gather(keypoints, COUNTERPARTS, axis=1), axis=-1)
    return tf.stack([visible * (1.0 - across), down, visible], axis=-1)


def from_pixels(across: Any, down: Any, size: tuple[int, int]) -> np.ndarray:
    """Keypoints from places in pixels, as pose estimators give them.

    Args:
        across: columns (..., 18), 0 for the leftmost one; below 0 or NaN for a joint that was not found.
        down: rows (..., 18).
        size: (height, width) of the picture.

    Returns:
        float32 (..., 18, 3); joints that were not found, or lie outside of the picture, are 0.

    Raises:
        ValueError: for another number of joints.
    """
    places = np.stack([np.asarray(across, "float64"), np.asarray(down, "float64")], axis=-1)
    if places.shape[-2] != len(JOINTS):
        order = ", ".join(JOINTS)
        raise ValueError(f"expected {len(JOINTS)} joints in the order {order}, got {places.shape[-2]}.")
    parts = (places + 0.5) / np.array([size[1], size[0]])
    with np.errstate(invalid="ignore"):
        found = ((places >= 0) & (parts <= 1)).all(axis=-1, keepdims=True)
    return np.concatenate([np.where(found, parts, 0.0), found], axis=-1).astype("float32")
