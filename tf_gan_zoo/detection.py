"""Boxes: anchors, offsets, overlaps, suppression, and how good detections are.

A box is top, left, bottom, right as parts of a picture's height and width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf


def anchors(
    image_size: tuple[int, int], stride: int, sizes: Sequence[tuple[float, float]]
) -> np.ndarray:
    """Boxes of each size (height, width in pixels) around each cell of a map: float32 (num, 4).

    Cells come row by row, each with all sizes.
    """
    rows, columns = (-(-side // stride) for side in image_size)
    down, across = ((np.arange(n) + 0.5) * stride for n in (rows, columns))
    centers = np.stack(np.meshgrid(down, across, indexing="ij"), axis=-1).reshape(-1, 1, 2)
    half = np.asarray(sizes, "float32")[None] / 2
    pixels = np.concatenate([centers - half, centers + half], axis=-1).reshape(-1, 4)
    return (pixels / np.tile(image_size, 2)).astype("float32")


def centers_and_sides(boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Boxes (..., 4) -> centers (..., 2) and sides (..., 2)."""
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, high - low


def from_centers(centers: tf.Tensor, sides: tf.Tensor) -> tf.Tensor:
    """The inverse of `centers_and_sides`."""
    return tf.concat([centers - sides / 2, centers + sides / 2], axis=-1)


def iou(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Intersection over union of all pairs: boxes (..., n, 4) and (..., m, 4) -> (..., n, m).

    Boxes without area overlap nothing.
    """
    a, b = tf.cast(a, tf.float32)[..., :, None, :], tf.cast(b, tf.float32)[..., None, :, :]
    sides = tf.minimum(a[..., 2:], b[..., 2:]) - tf.maximum(a[..., :2], b[..., :2])
    shared = tf.reduce_prod(tf.maximum(sides, 0.0), axis=-1)
    areas = [tf.reduce_prod(tf.maximum(x[..., 2:] - x[..., :2], 0.0), axis=-1) for x in (a, b)]
    return tf.math.divide_no_nan(shared, areas[0] + areas[1] - shared)


@dataclass(frozen=True)
class BoxCode:
    """How four numbers, offsets, lead from one box to another: two shifts and two logarithms of scales.

    Attributes:
        scale: what the offsets are divided by, so that they are about as large as scores.
        corner: shifts are those of the top left corner, else of the center; in parts of the sides.
        largest: decoded sides are at most so many times as large as the reference's, or as small.
    """

    scale: tuple[float, float, float, float]
    corner: bool = False
    largest: float = 4.0

    def encode(self, boxes: tf.Tensor, references: tf.Tensor) -> tf.Tensor:
        """Offsets (..., 4) from references to boxes, both (..., 4)."""
        (goal, wanted), (start, sides) = self._parts(boxes), self._parts(references)
        scales = tf.math.log(tf.maximum(wanted, 1e-4) / sides)
        return tf.concat([(goal - start) / sides, scales], axis=-1) / tf.constant(self.scale)

    def decode(self, offsets: tf.Tensor, references: tf.Tensor) -> tf.Tensor:
        """The boxes that `encode` made offsets of, cut off at the image's border."""
        point, sides = self._parts(references)
        offsets = offsets * tf.constant(self.scale)
        limit = math.log(self.largest)
        point, sides = (
            point + offsets[..., :2] * sides,
            sides * tf.exp(tf.clip_by_value(offsets[..., 2:], -limit, limit)),
        )
        boxes = tf.concat([point, point + sides], axis=-1) if self.corner else from_centers(point, sides)
        return tf.clip_by_value(boxes, 0.0, 1.0)

    def _parts(self, boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The points that shifts move, and the sides."""
        centers, sides = centers_and_sides(boxes)
        return (boxes[..., :2] if self.corner else centers), sides


def smooth_l1(differences: tf.Tensor) -> tf.Tensor:
    """x^2 / 2 where |x| < 1, else |x| - 1/2, summed over the last axis (Girshick 2015, equation 3)."""
    size = tf.abs(differences)
    return tf.reduce_sum(tf.where(size < 1, size**2 / 2, size - 0.5), axis=-1)


def suppressed(
    scores: np.ndarray, boxes: np.ndarray, num_kept: int = 50, threshold: float = 0.7
) -> tuple[np.ndarray, np.ndarray]:
    """The best boxes of each picture, without those that overlap a better one by more than `threshold`.

    Args:
        scores: (batch, num), boxes (batch, num, 4).
        num_kept: at most so many of a picture.
        threshold: intersection over union.

    Returns:
        scores (batch, num_kept), falling, 0 where there are no more; boxes (batch, num_kept, 4).
    """
    kept_scores = np.zeros((len(scores), num_kept), "float32")
    kept_boxes = np.zeros((len(scores), num_kept, 4), "float32")
    for k, (own_scores, own_boxes) in enumerate(zip(scores, boxes)):
        chosen = tf.image.non_max_suppression(own_boxes, own_scores, num_kept, threshold).numpy()
        kept_scores[k, : len(chosen)], kept_boxes[k, : len(chosen)] = own_scores[chosen], own_boxes[chosen]
    return kept_scores, kept_boxes


# -------------------------------------------------------------------- how good detections are


def detection_metrics(
    scores: np.ndarray, boxes: np.ndarray, truth: np.ndarray, overlap: float = 0.5
) -> dict[str, float]:
    """Average precision and log-average miss rate of detections.

    Detections of a picture take the true boxes, best score first, that they overlap most and enough; each
    can be taken once.

    Args:
        scores: (batch, num), boxes (batch, num, 4), of `suppressed`; scores of 0 are none.
        truth: (batch, objects, 4); boxes without area are none.
        overlap: least intersection over union.

    Returns:
        average_precision: area under precision as a function of recall, precision made falling;
        miss_rate: of P. Dollar et al., "Pedestrian Detection: An Evaluation of the State of the Art", PAMI
            2012: geometric mean of the rate of missed objects at 0.01 to 1 false detections per picture.
    """
    real = np.prod(truth[..., 2:] - truth[..., :2], axis=-1) > 0
    overlaps = iou(tf.constant(boxes, tf.float32), tf.constant(truth, tf.float32)).numpy() * real[:, None]
    hits = np.stack([_hits(s, o, overlap) for s, o in zip(scores, overlaps)])
    found = scores > 0
    order = np.argsort(-scores[found], kind="stable")
    right = hits[found][order].cumsum()
    wrong = np.arange(1, len(order) + 1) - right
    recall, precision = right / max(real.sum(), 1), right / np.arange(1, len(order) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.diff(recall, prepend=0.0)
    return {
        "average_precision": float((steps * envelope).sum()),
        "miss_rate": _miss_rate(recall, wrong / len(scores)),
    }


def _hits(scores: np.ndarray, overlaps: np.ndarray, least: float) -> np.ndarray:
    """Which detections (num,) of one picture take an object, by overlaps (num, objects)."""
    hits, free = np.zeros(len(scores), bool), np.ones(overlaps.shape[1], bool)
    for index in np.argsort(-scores, kind="stable"):
        best = int(np.argmax(overlaps[index] * free))
        if overlaps[index, best] * free[best] >= least:
            hits[index], free[best] = True, False
    return hits


def _miss_rate(recall: np.ndarray, false_per_picture: np.ndarray) -> float:
    rates = []
    for limit in np.logspace(-2, 0, 9):
        reached = recall[false_per_picture <= limit]
        rates.append(1 - (reached[-1] if len(reached) else 0.0))
    return float(np.exp(np.log(np.maximum(rates, 1e-10)).mean()))
