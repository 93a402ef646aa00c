"""How far shapes, given by twenty depth maps and silhouettes, are from the truth."""

from __future__ import annotations

import numpy as np

from tf_gan_zoo import shapes
from tf_gan_zoo.shapes import Views


def compare_shapes(
    made: Views, depth: np.ndarray, resolution: int = 24, num_clouds: int = 50
) -> dict[str, float]:
    """Errors of shapes against true depth maps (count, size, size, 20), 0 for background.

    Args:
        made: the shapes; depth counts as it is, for all else it is cut to the silhouettes.
        depth: the truth.
        resolution: of the grid that both are carved from.
        num_clouds: shapes whose clouds are compared.

    Returns:
        silhouette_iou: overlap of silhouettes, mean over all views of all shapes;
        depth_l1: mean error of depth inside the true silhouettes;
        voxel_iou: overlap of what is carved from the views;
        chamfer: between point clouds, see `shapes.chamfer_distance`.
    """
    own, inside = made.silhouettes > 0.5, depth > 0
    overlap = (own & inside).sum(axis=(1, 2)) / np.maximum((own | inside).sum(axis=(1, 2)), 1)
    solid = [[shapes.carve(maps, resolution) > 0 for maps in side] for side in (made.cut, depth)]
    volumes = [(a & b).sum() / max((a | b).sum(), 1) for a, b in zip(*solid)]
    pairs = zip(made.cut[:num_clouds], depth[:num_clouds])
    distances = [shapes.chamfer_distance(*map(shapes.point_cloud, pair)) for pair in pairs]
    return {
        "silhouette_iou": float(overlap.mean()),
        "depth_l1": float(np.abs(made.depth - depth)[inside].mean()),
        "voxel_iou": float(np.mean(volumes)),
        "chamfer": float(np.mean(distances)),
    }


def mean_shape(depth: np.ndarray) -> Views:
    """The mean of shapes, pixel by pixel where they are, once for each of them."""
    covered = (depth > 0).mean(axis=0)
    mean = depth.sum(axis=0) / np.maximum((depth > 0).sum(axis=0), 1)
    return Views(*(np.broadcast_to(value, depth.shape).astype("float32") for value in (mean, covered)))
