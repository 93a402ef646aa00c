"""3-D shapes as twenty depth maps: cameras, point clouds, carving, surfaces, shaded pictures.

The cameras sit at the corners of a regular dodecahedron on the unit sphere and look at its centre, without
perspective; y points up. A depth map is (height, width) in [0, 1]: (1 + z) / 2 with z the surface's
coordinate towards the camera, so that nearer is larger, and 0 where there is nothing. A pixel is 2 / size
wide. Depth maps of a shape are (size, size, 20), one channel for each camera.

Reference for the cameras: A. A. Soltani et al., "Synthesizing 3D Shapes via Modeling Multi-View Depth Maps
and Silhouettes with Deep Generative Networks", CVPR 2017.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

_GOLDEN = (1 + 5**0.5) / 2


def _corners() -> np.ndarray:
    """The corners of a dodecahedron, (20, 3): those of a cube first."""
    signs, (a, b) = (1, -1), (_GOLDEN, 1 / _GOLDEN)
    cube = list(itertools.product(signs, repeat=3))
    pairs = list(itertools.product(signs, repeat=2))
    others = [(a * s, b * t, 0) for s, t in pairs]
    others += [(0, a * s, b * t) for s, t in pairs]
    others += [(b * s, 0, a * t) for s, t in pairs]
    return np.array([*cube, *others], "float32") / np.float32(3**0.5)


#: Unit vectors from the centre to the cameras, (20, 3).
CAMERAS = _corners()
NUM_VIEWS = len(CAMERAS)


def camera_axes(directions: np.ndarray = CAMERAS) -> np.ndarray:
    """Right, up and towards the camera for each direction (num, 3): orthonormal rows, (num, 3, 3)."""
    directions = np.asarray(directions, "float32")
    right = np.cross(np.array([0, 1, 0], "float32"), directions)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    return np.stack([right, np.cross(directions, right), directions], axis=1)


_AXES = camera_axes()


class Views(NamedTuple):
    """Depth maps and silhouettes of shapes, both float32 (count, size, size, 20) in [0, 1]."""

    depth: np.ndarray
    silhouettes: np.ndarray

    @property
    def cut(self) -> np.ndarray:
        """The depth maps, 0 outside of the silhouettes."""
        return np.where(self.silhouettes > 0.5, self.depth, 0).astype("float32")


def pixel_coordinates(size: int) -> np.ndarray:
    """Where the centres of `size` pixels lie, from left to right in (-1, 1)."""
    return ((2 * np.arange(size) + 1) / size - 1).astype("float32")


# -------------------------------------------------------------------- points


def back_project(depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every pixel of depth maps (size, size, 20) that shows something, as a point.

    Returns:
        points (num, 3), and the number of the camera that saw each.
    """
    rows, columns, views = np.nonzero(depth > 0)
    at = pixel_coordinates(depth.shape[0])
    local = np.stack([at[columns], -at[rows], 2 * depth[rows, columns, views] - 1], axis=1)
    return np.einsum("nk,nkc->nc", local.astype("float32"), _AXES[views]), views


def point_cloud(depth: np.ndarray, agreement: float = 0.9, tolerance: float | None = None) -> np.ndarray:
    """One cloud of the twenty views: points that most of the other cameras could see or have hidden.

    Args:
        depth: (size, size, 20), 0 outside of the silhouettes.
        agreement: part of the cameras that must allow a point: it lies in their silhouette, and not in front
            of what they see there.
        tolerance: by how much it may lie in front; 1.5 pixels by default.

    Returns:
        float32 (num, 3) in the unit sphere.
    """
    points, _ = back_project(depth)
    slack = 3 / depth.shape[0] if tolerance is None else tolerance
    allowed = np.zeros(len(points), int)
    for view in range(NUM_VIEWS):
        surface, z = _looked_up(depth[..., view], points, _AXES[view])
        allowed += (surface > 0) & (z <= 2 * surface - 1 + slack)
    return points[allowed >= agreement * NUM_VIEWS]


def _seen(points: np.ndarray, axes: np.ndarray) -> list[np.ndarray]:
    """Points (num, 3) as a camera has them: right, up, towards it; each (num,)."""
    x, y, z = points.T  # for so few columns much faster than a product of matrices
    return [x * a + y * b + z * c for a, b, c in axes]


def _looked_up(picture: np.ndarray, points: np.ndarray, axes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a picture shows where points are projected to, 0 beside it; and the points' z."""
    x, y, z = _seen(points, axes)
    size = len(picture)
    column = np.floor((x + 1) * (size / 2)).astype(np.int32)
    row = np.floor((1 - y) * (size / 2)).astype(np.int32)
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    values = picture[np.clip(row, 0, size - 1), np.clip(column, 0, size - 1)]
    return np.where(inside, values, 0), z


def render_points(points: np.ndarray, size: int, axes: np.ndarray = _AXES) -> np.ndarray:
    """Depth maps (size, size, views) of points in the unit sphere, each one pixel large."""
    depth = np.zeros((len(axes), size * size), "float32")
    for picture, own in zip(depth, axes):
        x, y, z = _seen(points, own)
        column = np.clip(((x + 1) / 2 * size).astype(int), 0, size - 1)
        row = np.clip(((1 - y) / 2 * size).astype(int), 0, size - 1)
        np.maximum.at(picture, row * size + column, ((1 + z) / 2).astype("float32"))
    return np.moveaxis(depth.reshape(-1, size, size), 0, -1)


def chamfer_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean distance from a point of one cloud to the nearest of the other, averaged over both directions.

    Clouds are (num, 3); an empty one is 1, the sphere's radius, away from all others.
    """
    from scipy.spatial import cKDTree

    if not len(a) or not len(b):
        return 1.0
    return float((cKDTree(a).query(b)[0].mean() + cKDTree(b).query(a)[0].mean()) / 2)


# -------------------------------------------------------------------- volumes and surfaces


def carve(depth: np.ndarray, resolution: int = 32, votes: int = 5) -> np.ndarray:
    """How deep inside a shape the points of a grid lie, as the views tell.

    Each camera says how far behind its surface a point is; where it sees nothing, or the surface further
    back, the point is outside. The `votes`-th lowest word counts: a few wrong views carve nothing away.

    Args:
        depth: (size, size, 20), 0 outside of the silhouettes.
        resolution: grid points along a side of the cube [-1, 1]^3.
        votes: cameras that must find a point outside.

    Returns:
        float32 (resolution, resolution, resolution) over x, y, z: above 0 inside, below outside.
    """
    at = pixel_coordinates(resolution)
    grid = np.stack(np.meshgrid(at, at, at, indexing="ij")).reshape(3, -1).T
    lowest = np.full((votes, len(grid)), 2 / resolution, "float32")
    for view, axes in enumerate(_AXES):
        surface, z = _looked_up(depth[..., view], grid, axes)
        word = np.where(surface > 0, 2 * surface - 1 - z, -2).astype("float32")
        for kept in lowest:  # keeps them sorted
            kept[:], word = np.minimum(kept, word), np.maximum(kept, word)
    return np.maximum(lowest[-1], -2 / resolution).reshape((resolution,) * 3)


class Mesh(NamedTuple):
    """A surface: vertices float32 (num, 3), faces int (num, 3 or 4), counter-clockwise from outside."""

    vertices: np.ndarray
    faces: np.ndarray


def surface(field: np.ndarray) -> Mesh:
    """The surface where a field over a grid in [-1, 1]^3 changes its sign, by surface nets.

    Each cell of eight grid points that the surface passes through gets one vertex, the mean of the points
    where it cuts the cell's edges; each cut edge gets a quadrangle of the four cells around it (S. Gibson,
    "Constrained Elastic Surface Nets", MICCAI 1998, without the relaxation).

    Args:
        field: (n, n, n), above 0 inside.
    """
    field = np.pad(np.asarray(field, "float32"), 1, constant_values=-1e-3)
    cells = tuple(side - 1 for side in field.shape)
    total, count, quads = np.zeros((*cells, 3), "float32"), np.zeros(cells, int), []
    for axis in range(3):
        corner, point, rising = _crossings(field, axis)
        around = _cells_around(corner, axis)
        for cell in around:
            np.add.at(total, tuple(cell.T), point)
            np.add.at(count, tuple(cell.T), 1)
        ring = np.stack(around, axis=1)
        quads.append(np.where(rising[:, None, None], ring[:, ::-1], ring))
    used = count > 0
    number = np.cumsum(used).reshape(cells) - 1
    vertices = total[used] / count[used][:, None]  # in grid steps; grid point k is at (2 k + 1) / n - 1
    faces = number[tuple(np.moveaxis(np.concatenate(quads), -1, 0))]
    return Mesh((2 * (vertices - 1) + 1) / (field.shape[0] - 2) - 1, faces)


def _crossings(field: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges along an axis that the surface cuts: lower ends, points of the cut, whether they end inside."""
    lower, upper = np.moveaxis(field, axis, 0)[:-1], np.moveaxis(field, axis, 0)[1:]
    moved = np.argwhere((lower > 0) != (upper > 0))
    a, b = lower[tuple(moved.T)], upper[tuple(moved.T)]
    corner = np.insert(moved[:, 1:], axis, moved[:, 0], axis=1)
    point = corner.astype("float32")
    point[:, axis] += a / (a - b)
    return corner, point, b > 0


def _cells_around(corner: np.ndarray, axis: int) -> list[np.ndarray]:
    """The four cells that share an edge, in a ring, counter-clockwise as seen from its upper end."""
    u, v = np.eye(3, dtype=int)[[(axis + 1) % 3, (axis + 2) % 3]]
    return [corner, corner - u, corner - u - v, corner - v]


def mesh(depth: np.ndarray, resolution: int = 64, votes: int = 5) -> Mesh:
    """The surface of a shape from its depth maps; see `carve`. The pixels' steps are smoothed."""
    from scipy.ndimage import gaussian_filter

    return surface(gaussian_filter(carve(depth, resolution, votes), 0.7))


# -------------------------------------------------------------------- pictures


def shaded(shape: Mesh, azimuth: float = 30.0, elevation: float = 20.0, size: int = 96) -> np.ndarray:
    """A gray picture of a surface under light from the upper left: uint8 (size, size).

    Args:
        shape: a surface of quadrangles or triangles in the unit sphere.
        azimuth: degrees around the y axis from which it is seen; 0 is from +z.
        elevation: degrees above the horizon.
        size: pixels per side.
    """
    picture = np.full(size * size, 128, np.uint8)
    if not len(shape.faces):
        return picture.reshape(size, size)
    yaw, pitch = np.radians([azimuth, elevation])
    seen_from = [np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)]
    axes = camera_axes(np.array([seen_from]))[0]
    points, normals = _samples(shape)
    x, y, z = _seen(points, axes)
    light = np.array([-0.5, 0.7, 0.6], "float32") / np.linalg.norm([-0.5, 0.7, 0.6])
    brightness = 40 + 190 * np.clip(_seen(normals, (axes.T @ light)[None])[0], 0, 1)
    column, row = ((np.array([x, -y]) + 1) / 2 * size).astype(int).clip(0, size - 1)
    nearest_last = np.argsort(z)
    picture[(row * size + column)[nearest_last]] = brightness[nearest_last]
    return picture.reshape(size, size)


def _samples(shape: Mesh, per_side: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Points all over the faces, and the smooth surface's normals there, both (num, 3)."""
    corners = shape.faces if shape.faces.shape[1] == 4 else shape.faces[:, [0, 1, 2, 2]]
    known = np.concatenate([shape.vertices, _vertex_normals(shape.vertices, corners)], axis=1)
    a, b, c, d = np.moveaxis(known[corners], 1, 0)
    at = (np.arange(per_side) + 0.5) / per_side
    mixed = [(1 - s) * ((1 - t) * a + t * b) + s * ((1 - t) * d + t * c) for s in at for t in at]
    points, normals = np.split(np.concatenate(mixed), 2, axis=1)
    return points, _unit(normals)


def _vertex_normals(vertices: np.ndarray, corners: np.ndarray) -> np.ndarray:
    a, b, c, d = np.moveaxis(vertices[corners], 1, 0)
    normals = np.zeros_like(vertices)
    across = np.cross(c - a, d - b) + np.cross(b - a, c - a)  # a triangle's last two corners are one
    for column in corners.T:
        np.add.at(normals, column, across)
    return _unit(normals)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
