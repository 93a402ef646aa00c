"""Invented heads under known poses: "heads", a stand-in for face data sets that cannot be had freely.

A person is a head of ellipsoids - skull, hair, ears, nose, eyes, brows, mouth, some with a beard - whose
sizes, places and colours are drawn once per person. A picture shows it turned to one of the yaws, a little
off, shifted, lit from a random side before a random gray. So the same person looks different across poses,
and different people look alike in one pose: what a model of identity has to sort out.

* posed: `images`; `labels`, persons numbered from 0 within a split; `poses`, from 0 (turned to the left by
  `max_yaw`) to `num_poses - 1`.
* posed_sets: `set_size` pictures of one person in each example.

The persons of the test split are not those of the training split. `write_example` writes some to a folder, to
see what the source `faces` expects.
"""

import dataclasses
import functools
from pathlib import Path

import numpy as np

from tf_gan_zoo import files, image_writing
from tf_gan_zoo.data.faces import TABLE, VIEWS
from tf_gan_zoo.data.sources import DatasetError, Request, Source, register_source

_CONTENT_SEED = 20_170_721
_NUM_TEST = 20  # people
_SUPERSAMPLING = 2
_AMBIENT = 0.5


@register_source("heads", views=VIEWS)
def read_heads(
    request: Request,
    *,
    num_identities: int = 100,
    num_poses: int = 9,
    max_yaw: float = 60.0,
    pictures_per_pose: int = 6,
) -> Source:
    """Draws all pictures of a split; they are kept in the process for the next call.

    Args:
        request: Split ("train", or "test": 20 other people) and size (32x32 if `None`).
        num_identities: People in the training split.
        num_poses: Yaws from -max_yaw to max_yaw.
        max_yaw: In degrees.
        pictures_per_pose: Of each person at each yaw.
    """
    if request.split not in ("train", "test"):
        raise DatasetError(f'heads has the splits "train" and "test", got {request.split!r}.')
    if num_identities < 2 or num_poses < 2 or pictures_per_pose < 1:
        raise DatasetError(
            "heads needs num_identities and num_poses of 2 or more and pictures_per_pose of 1 or more, got "
            f"{num_identities}, {num_poses} and {pictures_per_pose}."
        )
    test = request.split == "test"
    people = min(_NUM_TEST, num_identities) if test else num_identities
    yaws = tuple(np.linspace(-max_yaw, max_yaw, num_poses).tolist())
    images, labels, poses = _draw_all(request.image_size or (32, 32), people, yaws, pictures_per_pose, test)
    if request.channels == 1:
        images = np.rint(images @ [0.299, 0.587, 0.114]).astype(np.uint8)[..., None]
    return Source({"images": images}, {"labels": labels, "poses": poses})


def write_example(folder: str | Path, num_identities: int = 5, size: tuple[int, int] = (96, 96)) -> Path:
    """Writes heads, one of each person in each of nine poses, as a folder that the source `faces` reads.

    Args:
        folder: new, or with nothing in it that is called the same.
        num_identities: People; those of the training split.
        size: (height, width) in pixels.

    Returns:
        The folder.
    """
    folder, yaws = Path(folder), np.linspace(-60, 60, 9)
    images, labels, poses = _draw_all(tuple(size), num_identities, tuple(yaws.tolist()), 1, False)
    rows = ["file,identity,yaw"]
    for image, person, pose in sorted(zip(images, labels, poses), key=lambda row: tuple(row[1:])):
        name = f"{person:03}/{pose}.png"
        image_writing.write_image(image, folder / name)
        rows.append(f"{name},{person:03},{yaws[pose]:g}")
    files.write_text(folder / TABLE, "\n".join(rows) + "\n")
    return folder


@functools.lru_cache(maxsize=4)
def _draw_all(
    size: tuple[int, int], people: int, yaws: tuple[float, ...], count: int, test: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures, people and poses, in no order."""
    rng = np.random.default_rng([_CONTENT_SEED, test, people])
    order = rng.permutation(people * len(yaws) * count)
    labels, poses = (part.ravel()[order] for part in np.mgrid[:people, : len(yaws), :count][:2])
    images = np.empty((len(labels), *size, 3), np.uint8)
    heads = [make_head(np.random.default_rng([_CONTENT_SEED, test, person])) for person in range(people)]
    for k, (person, pose) in enumerate(zip(labels, poses)):
        yaw, shift = yaws[pose] + rng.uniform(-4, 4), rng.uniform(-0.05, 0.05, 2)
        light = _direction(rng.uniform(-50, 50), rng.uniform(-10, 40))
        images[k] = render(heads[person], yaw, size, light, shift, gray=rng.uniform(105, 150))
    return images, labels.astype(np.int32), poses.astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Head:
    """Ellipsoids in the head's own space: x to its left as seen from in front, y up, z out of the face.

    Attributes:
        centers: (parts, 3); the skull is about 1 high from its middle to the top.
        radii: (parts, 3).
        colors: (parts, 3), 0 to 255.
    """

    centers: np.ndarray
    radii: np.ndarray
    colors: np.ndarray


def make_head(rng: np.random.Generator) -> Head:
    """A person: everything about the head that stays when it turns."""
    skull = np.array([rng.uniform(0.58, 0.72), rng.uniform(0.78, 0.95), rng.uniform(0.7, 0.8)])
    skin = np.array([1.0, rng.uniform(0.7, 0.8), rng.uniform(0.5, 0.66)]) * rng.uniform(110, 245)
    hair = _colored(rng, 0.75) * rng.uniform(0.15, 1.0)
    parts = [((0, 0, 0), skull, skin), *_hair(rng, skull, hair)]
    eye_x, eye_y = rng.uniform(0.2, 0.32), rng.uniform(0.02, 0.2)
    eye, brow = rng.uniform(0.08, 0.14), rng.uniform(0.02, 0.06)
    iris, lips = _colored(rng, 0.6) * 0.6, skin * [1.0, 0.45, 0.5] * rng.uniform(0.6, 1.0)
    for side in (-1, 1):
        x = side * eye_x
        parts += [
            (_on(skull, x, eye_y), (eye, 0.7 * eye, 0.06), (240, 240, 240)),
            (_on(skull, x, eye_y, 0.03), (0.55 * eye, 0.6 * eye, 0.06), iris),
            (_on(skull, x, eye_y + 0.12 + eye), (1.3 * eye, brow, 0.07), hair * 0.7),
            ((side * skull[0], 0, -0.05), (0.08, rng.uniform(0.14, 0.24), 0.12), skin * 0.9),
        ]
    nose = (rng.uniform(0.06, 0.13), rng.uniform(0.12, 0.22), rng.uniform(0.14, 0.34))
    mouth = (rng.uniform(0.13, 0.28), rng.uniform(0.04, 0.09), 0.08)
    parts += [
        (_on(skull, 0, eye_y - 0.25), nose, skin * 0.92),
        (_on(skull, 0, rng.uniform(-0.5, -0.38)), mouth, lips),
    ]
    return Head(*(np.array([part[k] for part in parts], float) for k in range(3)))


def _hair(rng: np.random.Generator, skull: np.ndarray, color: np.ndarray) -> list:
    """A cap for all; long hair for some, a beard for others."""
    cap = ((0, rng.uniform(0.1, 0.25), rng.uniform(-0.3, -0.18)), skull * rng.uniform(1.02, 1.15), color)
    kind = rng.integers(4)
    if kind == 0:
        return [cap, ((0, -0.45, -0.4), (skull[0] * 1.15, 0.75, 0.45), color)]
    if kind == 1:
        return [cap, ((0, -0.62, 0.3), (0.42, rng.uniform(0.25, 0.4), 0.42), color * 0.8)]
    return [cap]


def _on(skull: np.ndarray, x: float, y: float, out: float = 0.0) -> tuple[float, float, float]:
    """The point of the face above (x, y)."""
    depth = 1 - (x / skull[0]) ** 2 - (y / skull[1]) ** 2
    return x, y, skull[2] * np.sqrt(max(depth, 0.0)) + out


def render(
    head: Head, yaw: float, size: tuple[int, int], light: np.ndarray, shift: np.ndarray, gray: float
) -> np.ndarray:
    """A picture, uint8 (height, width, 3), by parallel rays.

    Args:
        head: whom.
        yaw: degrees; above 0 the face looks to the right of the picture.
        size: (height, width) in pixels.
        light: unit vector towards the light; z points at the viewer.
        shift: to the right and upwards, as parts of half the picture.
        gray: of the background, 0 to 255.
    """
    rows, columns = (side * _SUPERSAMPLING for side in size)
    unit = 1.2 / min(rows, columns) * 2  # half the picture is 1.2 head heights
    x = (np.arange(columns) + 0.5 - columns / 2) * unit - 1.2 * shift[0]
    y = (rows / 2 - np.arange(rows) - 0.5) * unit - 1.2 * shift[1]
    points = np.stack([part.ravel() for part in np.meshgrid(x, y)], axis=-1).astype(np.float32)
    nearest, normals, hit = _first_hits(head, np.deg2rad(yaw), points)
    shade = _AMBIENT + (1 - _AMBIENT) * np.clip(normals @ light, 0, None)
    colors = np.where(hit[:, None], head.colors[nearest] * shade[:, None], gray)
    pixels = colors.reshape(size[0], _SUPERSAMPLING, size[1], _SUPERSAMPLING, 3).mean((1, 3))
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def _first_hits(head: Head, yaw: float, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which part each ray (num, 2) meets first, the surface's normal there, and whether it meets any.

    A turned ellipsoid is (p - c)' Q (p - c) = 1 with Q = R diag(1 / r^2) R'; along a ray only z is unknown.
    """
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    q = ((turn * head.radii[:, None] ** -2.0) @ turn.T).astype(np.float32)
    centers = (head.centers @ turn.T).astype(np.float32)
    x, y = (points.T[axis] - centers[:, axis, None] for axis in (0, 1))
    a, b = q[:, 2, 2, None], q[:, 2, 0, None] * x + q[:, 2, 1, None] * y
    c = (q[:, 0, 0, None] * x + 2 * q[:, 0, 1, None] * y) * x + q[:, 1, 1, None] * y * y - 1
    inside = b * b - a * c
    height = np.where(inside > 0, (np.sqrt(np.maximum(inside, 0)) - b) / a + centers[:, 2, None], -np.inf)
    nearest, rays = height.argmax(axis=0), np.arange(len(points))
    top = height[nearest, rays]
    hit = np.isfinite(top)
    place = np.stack([points[:, 0], points[:, 1], np.where(hit, top, 0)], axis=1) - centers[nearest]
    normals = np.einsum("nij,nj->ni", q[nearest], place)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    return nearest, normals, hit


def _direction(azimuth: float, elevation: float) -> np.ndarray:
    """Unit vector from angles in degrees."""
    a, e = np.deg2rad([azimuth, elevation])
    return np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])


def _colored(rng: np.random.Generator, strength: float) -> np.ndarray:
    """A random hue, 0 to 255."""
    phases = 2 * np.pi * (rng.random() + np.array([0, 1 / 3, 2 / 3]))
    return 255 * (1 - strength + strength * (0.5 + 0.5 * np.cos(phases)))
