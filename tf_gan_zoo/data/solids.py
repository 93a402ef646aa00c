"""Shapes by twenty depth maps: drawn at random ("solids"), from "shapes:FILE.npz", from "meshes:FOLDER".

The view "shapes" has `depth` (num, size, size, 20), float32 in [0, 1] as `tf_gan_zoo.shapes` explains it, and
`labels` (num,). ShapeNetCore (https://shapenet.org: registration, for research) and ModelNet40
(https://modelnet.cs.princeton.edu: for academic use) come as meshes: OBJ files, in one folder per class.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tf_gan_zoo import shapes
from tf_gan_zoo.data.sources import DatasetError, Request, Source, existing_path, in_split, register_source
from tf_gan_zoo.data.unpacking import read_archive
from tf_gan_zoo.shape_files import ShapeFileError, read_obj

_VIEWS = ("shapes",)
_RADIUS = 0.9  # of the ball around a shape
_CONTENT_SEED = 20_170_721
#: Points on a mesh per pixel of a picture, more than enough that none is missed.
_POINTS_PER_PIXEL = 60

Distance = Callable[[np.ndarray], np.ndarray]


@register_source("solids", views=_VIEWS)
def read_solids(request: Request, *, num_examples: int = 1000) -> Source:
    """Boxes, cylinders, cones, ellipsoids, rings, tables and chairs of many proportions, all upright.

    Boxes and ellipsoids are wider than deep and deeper than high, and rings lie: turned ones would look
    almost alike from the next camera. Shapes are kept in the process for the next call.

    Args:
        request: split "train", or "test": other draws.
        num_examples: a tenth as many in "test".
    """
    if request.split not in ("train", "test"):
        raise DatasetError(f'solids has the splits "train" and "test", got {request.split!r}.')
    test = request.split == "test"
    size = _side(request.image_size or (56, 56), "solids")
    count = max(num_examples // 10, 1) if test else num_examples
    depth, labels = _render_all(size, count, test)
    return Source({}, {"depth": depth, "labels": labels}, tuple(_SOLIDS))


@register_source("shapes", views=_VIEWS, needs_path=True)
def read_shapes(request: Request, *, label_names: tuple[str, ...] = ()) -> Source:
    """A NumPy archive with `depth` (num, size, size, 20) and, for conditional models, `labels` (num,).

    Depth is float in [0, 1], or uint8 or uint16 over their whole range; without labels all are 0. Every tenth
    shape is the test split.

    Args:
        request: split "train", "test" or "all".
        label_names: a name per label.
    """
    path = existing_path(request, "shapes", folder=False)
    arrays = read_archive(path, request.allow_large)
    depth = _checked_depth(arrays, path, request)
    labels = arrays.get("labels", np.zeros(len(depth), np.int32))
    if labels.shape != (len(depth),) or labels.dtype.kind not in "iu":
        raise DatasetError(
            f"{path}: labels must be {len(depth)} integers, one per shape, got {labels.dtype} {labels.shape}."
        )
    chosen = in_split(len(depth), request.split)
    return Source({}, {"depth": depth[chosen], "labels": labels[chosen]}, tuple(label_names))


@register_source("meshes", views=_VIEWS, needs_path=True)
def read_meshes(request: Request) -> Source:
    """Wavefront OBJ files in one folder per class, rendered here; y is up. Every tenth is the test split.

    Shapes are moved and scaled into the ball of radius 0.9. Rendering takes about a second per shape of 224
    pixels: keep the result with `numpy.savez_compressed("shapes.npz", depth=..., labels=...)`.
    """
    folder = existing_path(request, "meshes")
    files = sorted(path for path in folder.rglob("*.obj") if path.parent != folder)
    if not files:
        raise DatasetError(f"{folder}: no .obj files in folders of it, such as chair/0001.obj.")
    names = sorted({path.relative_to(folder).parts[0] for path in files})
    files = [path for path, chosen in zip(files, in_split(len(files), request.split)) if chosen]
    size = _side(request.image_size or (224, 224), "meshes")
    try:
        depth = np.stack([render_mesh(read_obj(path), size) for path in files])
    except ShapeFileError as error:
        raise DatasetError(f"{error} Remove the file, or repair it.") from error
    labels = np.array([names.index(path.relative_to(folder).parts[0]) for path in files], np.int32)
    return Source({}, {"depth": depth, "labels": labels}, tuple(names))


def render_mesh(mesh: shapes.Mesh, size: int) -> np.ndarray:
    """Depth maps (size, size, 20) of a surface of triangles, moved and scaled into the ball."""
    vertices = mesh.vertices - (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2
    vertices = vertices * (_RADIUS / max(float(np.linalg.norm(vertices, axis=1).max()), 1e-9))
    a, b, c = np.moveaxis(vertices[mesh.faces], 1, 0)
    areas = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    rng = np.random.default_rng(0)
    num_points = int(_POINTS_PER_PIXEL * size**2 * max(areas.sum() / 2, 0.1) / 4)
    chosen = rng.choice(len(areas), num_points, p=areas / areas.sum())
    s, t = rng.random((2, num_points, 1), dtype=np.float32)
    s, t = np.where(s + t > 1, 1 - s, s), np.where(s + t > 1, 1 - t, t)
    points = a[chosen] + s * (b - a)[chosen] + t * (c - a)[chosen]
    return shapes.render_points(points, size)


def _side(size: tuple[int, int], kind: str) -> int:
    if size[0] != size[1]:
        raise DatasetError(f"{kind}: depth maps are square, got image_size {size}.")
    return size[0]


def _checked_depth(arrays: dict[str, np.ndarray], path: Path, request: Request) -> np.ndarray:
    if "depth" not in arrays:
        raise DatasetError(f"{path} has no array 'depth'; it has {sorted(arrays)}.")
    depth = arrays["depth"]
    size = request.image_size or depth.shape[1:3]
    if depth.ndim != 4 or depth.shape[1:] != (*size, shapes.NUM_VIEWS):
        raise DatasetError(
            f"{path}: depth must be (num, {size[0]}, {size[1]}, {shapes.NUM_VIEWS}), got {depth.shape}. "
            "Render the shapes in this size, or build the model with another image_size."
        )
    if depth.dtype.kind == "u":
        return (depth / np.float32(np.iinfo(depth.dtype).max)).astype(np.float32)
    depth = depth.astype(np.float32)
    if not (np.isfinite(depth).all() and depth.min(initial=0) >= 0 and depth.max(initial=0) <= 1):
        raise DatasetError(f"{path}: depth must be in [0, 1], 0 for background; or uint8, uint16.")
    return depth


# -------------------------------------------------------------------- sphere tracing


@functools.lru_cache(maxsize=4)
def _render_all(size: int, count: int, test: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([_CONTENT_SEED, test])
    kinds = list(_SOLIDS.values())
    labels = (np.arange(count) % len(kinds)).astype(np.int32)
    depth = np.stack([render(*kinds[label](rng), size) for label in labels])
    return depth, labels


def render(distance: Distance, radius: float, size: int) -> np.ndarray:
    """Depth maps (size, size, 20) of a solid, by sphere tracing all rays of all cameras at once.

    Args:
        distance: points (3, num) -> signed distances (num,), at most the true ones where they are positive.
        radius: of a ball around the origin that the solid is in; it is scaled to 0.9.
        size: pixels per side.
    """
    rays, directions, points = _rays(size)
    scale, precision = np.float32(radius / _RADIUS), 0.2 / size
    depth = np.zeros(size * size * shapes.NUM_VIEWS, np.float32)
    for _ in range(40):
        ahead = distance(points * scale) / scale
        hit = ahead < precision
        depth[rays[hit]] = (1 + (points[:, hit] * directions[:, hit]).sum(axis=0)) / 2
        points = points - ahead * directions
        # A ray that has passed the centre and left the ball sees nothing.
        gone = ((points**2).sum(axis=0) > _RADIUS**2) & ((points * directions).sum(axis=0) < 0)
        left = ~(hit | gone)
        rays, directions, points = rays[left], directions[:, left], points[:, left]
        if not len(rays):
            break
    return depth.reshape(size, size, shapes.NUM_VIEWS)


@functools.lru_cache(maxsize=4)
def _rays(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rays that meet the ball: their pixels' numbers, unit vectors (3, num) to the cameras, first points."""
    at = shapes.pixel_coordinates(size)
    x, y = np.meshgrid(at, -at)
    right, up, towards = np.moveaxis(shapes.camera_axes(), 1, 0)
    pixels = np.flatnonzero(x**2 + y**2 < _RADIUS**2)
    x, y = x.reshape(-1)[pixels, None, None], y.reshape(-1)[pixels, None, None]
    points = x * right + y * up + np.sqrt(_RADIUS**2 - x**2 - y**2) * towards
    rays = (pixels[:, None] * shapes.NUM_VIEWS + np.arange(shapes.NUM_VIEWS)).reshape(-1)
    directions = np.tile(towards.T, len(pixels))
    return rays, directions, np.ascontiguousarray(points.reshape(-1, 3).T, "float32")


# -------------------------------------------------------------------- solids


def _box_distance(points: Sequence[np.ndarray], center: tuple, half: tuple) -> np.ndarray:
    beyond = [np.abs(x - np.float32(c)) - np.float32(h) for x, c, h in zip(points, center, half)]
    outside = np.sqrt(sum(np.square(np.maximum(b, 0)) for b in beyond))
    return outside + np.minimum(functools.reduce(np.maximum, beyond), 0)


def _around_y(points: np.ndarray) -> np.ndarray:
    """Distance of points (3, num) from the y axis."""
    return np.sqrt(points[0] ** 2 + points[2] ** 2)


def _lying(sides: np.ndarray) -> np.ndarray:
    """Three numbers as width, height and depth: the largest, the least and the other."""
    return np.sort(sides)[[2, 0, 1]]


def _box(rng: np.random.Generator) -> tuple[Distance, float]:
    half = _lying(rng.uniform(0.25, 1, 3))
    return lambda p: _box_distance(p, (0, 0, 0), half), float(np.linalg.norm(half))


def _cylinder(rng: np.random.Generator) -> tuple[Distance, float]:
    radius, half = rng.uniform(0.25, 1, 2).astype("float32")

    def distance(p: np.ndarray) -> np.ndarray:
        return np.maximum(_around_y(p) - radius, np.abs(p[1]) - half)

    return distance, float(np.hypot(radius, half))


def _cone(rng: np.random.Generator) -> tuple[Distance, float]:
    radius, half = rng.uniform(0.35, 1), rng.uniform(0.4, 1)
    across, along = np.float32(np.array([2 * half, radius]) / np.hypot(2 * half, radius))

    def distance(p: np.ndarray) -> np.ndarray:
        side = _around_y(p) * across + (p[1] - np.float32(half)) * along
        return np.maximum(side, -p[1] - np.float32(half))

    return distance, float(max(np.hypot(radius, half), half))


def _ellipsoid(rng: np.random.Generator) -> tuple[Distance, float]:
    axes = _lying(rng.uniform(0.3, 1, 3)).astype("float32")[:, None]

    def distance(p: np.ndarray) -> np.ndarray:
        scaled = np.sqrt(np.square(p / axes).sum(axis=0))
        slope = np.sqrt(np.square(p / axes**2).sum(axis=0))
        return 0.9 * scaled * (scaled - 1) / np.maximum(slope, 1e-6)

    return distance, float(axes.max())


def _ring(rng: np.random.Generator) -> tuple[Distance, float]:
    tube = np.float32(rng.uniform(0.12, 0.42))
    return lambda p: np.hypot(_around_y(p) - (1 - tube), p[1]) - tube, 1.0


def _table(rng: np.random.Generator) -> tuple[Distance, float]:
    wide, deep, high = rng.uniform(0.5, 1), rng.uniform(0.4, 0.9), rng.uniform(0.35, 0.9)
    top, leg = rng.uniform(0.1, 0.17), rng.uniform(0.1, 0.16)

    def distance(p: np.ndarray) -> np.ndarray:
        board = _box_distance(p, (0, high - top, 0), (wide, top, deep))
        return np.minimum(board, _legs(p, wide, deep, -high, high - top, leg))

    return distance, float(np.linalg.norm([wide, deep, high]))


def _chair(rng: np.random.Generator) -> tuple[Distance, float]:
    wide, deep, high = rng.uniform(0.35, 0.6), rng.uniform(0.35, 0.6), rng.uniform(0.8, 1)
    seat, board, leg = rng.uniform(-0.25, 0.15), rng.uniform(0.09, 0.15), rng.uniform(0.08, 0.13)

    def distance(p: np.ndarray) -> np.ndarray:
        parts = _box_distance(p, (0, seat, 0), (wide, board, deep))
        back = _box_distance(p, (0, (seat + high) / 2, board - deep), (wide, (high - seat) / 2, board))
        return np.minimum(np.minimum(parts, back), _legs(p, wide, deep, -high, seat, leg))

    return distance, float(np.linalg.norm([wide, deep, high]))


def _legs(p: np.ndarray, wide: float, deep: float, low: float, high: float, leg: float) -> np.ndarray:
    """Four legs at the corners: one, mirrored."""
    mirrored = (np.abs(p[0]), p[1], np.abs(p[2]))
    return _box_distance(
        mirrored, (wide - leg, (low + high) / 2, deep - leg), (leg, (high - low) / 2, leg)
    )  # fmt: skip


_SOLIDS = {
    "box": _box, "cylinder": _cylinder, "cone": _cone, "ellipsoid": _ellipsoid, "ring": _ring,
    "table": _table, "chair": _chair,
}  # fmt: skip
