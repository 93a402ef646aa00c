"""Hands of capsules as depth maps with their joints ("hands"): a stand-in for captured ones.

View "hands": `images`, depth maps; `joints` in millimetres; `labelled`, 1 where the joints are known. What
they mean is said in `hand_depth.py`, which reads the user's own.
"""

import functools

import numpy as np

from tf_gan_zoo.data.hand_depth import CUBE_SIZE, VIEWS_OF_HANDS, pixels_of
from tf_gan_zoo.data.sources import DatasetError, Request, Source, register_source

#: Joints in the order of the MSRA data: the wrist, then of each finger the knuckle, two joints and the tip.
FINGERS = ("index", "middle", "ring", "little", "thumb")
NUM_JOINTS = 1 + 4 * len(FINGERS)
#: Pairs of joints that a bone connects.
BONES = tuple((0 if k % 4 == 1 else k - 1, k) for k in range(1, NUM_JOINTS))

# The hand at rest, in millimetres from the wrist: x to the right, y down, z away from the camera. Its palm
# faces the camera, its fingers point up.
_KNUCKLES = np.array([(24, -84, 0), (3, -88, 0), (-17, -82, 0), (-36, -72, 0), (28, -30, -8)], float)
_LENGTHS = np.array([(43, 26, 21), (47, 30, 22), (43, 28, 22), (34, 21, 19), (40, 33, 27)], float)
_DIRECTIONS = np.radians([4, 0, -4, -9, 48])  # of the fingers in the plane of the palm, from straight up
_RADII = np.array([9, 9, 8.5, 7.5, 10.5])
#: Degrees by which the three joints of a finger bend when it is closed.
_BENDS = np.array([*[(70, 90, 60)] * 4, (25, 40, 55)], float)
#: Towards the camera, and for the thumb towards the fingers, too.
_PALM = np.array([*[(0, 0, -1)] * 4, (-0.48, -0.43, -0.77)])
_PALM_RADIUS = 12.0

_MAX_SPREAD, _MAX_TURN = np.radians(10), np.radians(40)
_MAX_SHIFT, _NOISE = 8.0, 2.0  # millimetres


@register_source("hands", views=VIEWS_OF_HANDS)
def read_hands(request: Request, *, num_examples: int = 12_000, num_labelled: int | None = None) -> Source:
    """One hand in random poses, seen by a camera without perspective, with noise of 2 mm.

    Each of five fingers bends by an angle of its own, which all its joints share, and spreads by up to 10
    degrees; the hand turns by up to 40 degrees about each axis. The cube's centre is the hand's centre of
    mass, missed by up to 8 mm in each direction.

    Args:
        request: split "train", or "test": other poses.
        num_examples: a tenth as many in "test".
        num_labelled: training examples whose joints are known; all by default.
    """
    if request.split not in ("train", "test"):
        raise DatasetError(f'hands has the splits "train" and "test", got {request.split!r}.')
    test = request.split == "test"
    count = max(num_examples // 10, 1) if test else num_examples
    images, joints = _make(request.image_size or (128, 128), count, test)
    known = np.arange(count) < (count if num_labelled is None or test else num_labelled)
    values = {"joints": joints * known[:, None, None], "labelled": known.astype(np.int32)}
    return Source({"images": images}, values)


@functools.lru_cache(maxsize=2)
def _make(size: tuple[int, int], count: int, test: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([20170721, test])
    joints = draw_poses(rng, count)
    spheres = np.einsum("sj,njd->nsd", _PLACES, joints)
    center = spheres.mean(axis=1, keepdims=True) + rng.uniform(-_MAX_SHIFT, _MAX_SHIFT, (count, 1, 3))
    depth = render(spheres - center, _SPHERE_RADII, size)
    hand = np.isfinite(depth)
    depth[hand] += rng.uniform(-_NOISE, _NOISE, np.count_nonzero(hand))
    return pixels_of(depth)[..., None], (joints - center).astype(np.float32)


# -------------------------------------------------------------------- poses


def draw_poses(rng: np.random.Generator, count: int) -> np.ndarray:
    """Joints of random poses, (count, 21, 3) in millimetres; the wrist is the origin."""
    bends = rng.random((count, len(FINGERS)))
    spreads = rng.uniform(-_MAX_SPREAD, _MAX_SPREAD, (count, len(FINGERS)))
    joints = hand_joints(bends, spreads)
    turns = rotations(rng.uniform(-_MAX_TURN, _MAX_TURN, (count, 3)))
    return joints @ turns.swapaxes(1, 2)


def hand_joints(bends: np.ndarray, spreads: np.ndarray) -> np.ndarray:
    """Forward kinematics of a hand that is not turned.

    Args:
        bends: (count, 5), 0 for a straight finger, 1 for a closed one.
        spreads: (count, 5), radians to the side.

    Returns:
        float64 (count, 21, 3).
    """
    angles = _DIRECTIONS + spreads
    ahead = np.stack([np.sin(angles), -np.cos(angles), np.zeros_like(angles)], axis=-1)
    bent = np.radians(np.cumsum(_BENDS, axis=1)) * bends[..., None]  # (count, fingers, 3)
    bones = np.cos(bent)[..., None] * ahead[..., None, :] + np.sin(bent)[..., None] * _PALM[:, None]
    bones *= (_LENGTHS / np.linalg.norm(bones, axis=-1))[..., None]
    start = np.broadcast_to(_KNUCKLES[:, None], (*bends.shape, 1, 3))
    fingers = np.concatenate([start, start + np.cumsum(bones, axis=2)], axis=2)
    wrist = np.zeros((len(bends), 1, 3))
    return np.concatenate([wrist, fingers.reshape(len(bends), -1, 3)], axis=1)


def rotations(angles: np.ndarray) -> np.ndarray:
    """Angles (count, 3) about x, y and z, in this order -> rotation matrices (count, 3, 3)."""
    x, y, z = (_rotation(angles[:, axis], axis) for axis in range(3))
    return z @ y @ x


def _rotation(angles: np.ndarray, axis: int) -> np.ndarray:
    matrix = np.zeros((len(angles), 3, 3))
    i, j = [k for k in range(3) if k != axis]
    matrix[:, axis, axis] = 1
    matrix[:, i, i] = matrix[:, j, j] = np.cos(angles)
    matrix[:, j, i] = np.sin(angles)
    matrix[:, i, j] = -np.sin(angles)
    return matrix


# -------------------------------------------------------------------- surface


def _sphere_places() -> tuple[np.ndarray, np.ndarray]:
    """The spheres that fill a hand: weights of its joints (num, 21), and radii (num,)."""
    unit, places, radii = np.eye(NUM_JOINTS), [], []

    def fill(start: np.ndarray, end: np.ndarray, count: int, radius: float) -> None:
        for part in np.linspace(0, 1, count):
            places.append((1 - part) * start + part * end)
            radii.append(radius)

    knuckles = [unit[1 + 4 * k] for k in range(len(FINGERS))]
    between = [(a + b) / 2 for a, b in zip(knuckles[:3], knuckles[1:4])]
    web = 0.45 * knuckles[0] + 0.55 * knuckles[4]
    for knuckle in [*knuckles, *between, web]:
        fill(unit[0], knuckle, 7, _PALM_RADIUS)
    for finger, radius in enumerate(_RADII):
        for bone in range(3):
            joint = 1 + 4 * finger + bone
            fill(unit[joint], unit[joint + 1], 5, radius)
    return np.stack(places), np.array(radii)


_PLACES, _SPHERE_RADII = _sphere_places()


def render(spheres: np.ndarray, radii: np.ndarray, size: tuple[int, int], chunk: int = 500) -> np.ndarray:
    """The surface of spheres that is nearest to the camera, seen without perspective.

    Args:
        spheres: centres (count, num, 3), millimetres from the cube's centre.
        radii: (num,), millimetres.
        size: pixels, (height, width), over the whole cube.
        chunk: scenes that are drawn at once.

    Returns:
        Depth behind the cube's centre in millimetres, float32 (count, height, width); infinite where there
        is nothing.
    """
    parts = [_render(spheres[k : k + chunk], radii, size) for k in range(0, len(spheres), chunk)]
    return np.concatenate(parts)


def _render(spheres: np.ndarray, radii: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    height, width = size
    pixel = np.array([CUBE_SIZE / width, CUBE_SIZE / height])
    reach = np.ceil(radii.max() / pixel).astype(int) + 1
    margin = reach[::-1]  # spheres may reach over the edge
    depth = np.full((len(spheres), height + 2 * margin[0], width + 2 * margin[1]), np.inf, np.float32)
    across, down = (grid.ravel() for grid in np.meshgrid(*(np.arange(-r, r + 1) for r in reach)))
    scene = np.arange(len(spheres))[:, None]
    for centers, radius in zip(spheres.swapaxes(0, 1), radii):
        place = (centers[:, :2] + CUBE_SIZE / 2) / pixel - 0.5  # in pixels, the first one's centre is 0
        nearest = np.clip(np.rint(place), 0, (width - 1, height - 1)).astype(int)
        columns, rows = nearest[:, :1] + across, nearest[:, 1:] + down
        offsets = (np.stack([columns, rows], axis=-1) - place[:, None]) * pixel
        inside = radius**2 - np.square(offsets).sum(axis=-1)
        near = np.where(inside > 0, centers[:, 2:] - np.sqrt(np.maximum(inside, 0)), np.inf)
        index = scene, rows + margin[0], columns + margin[1]
        depth[index] = np.minimum(depth[index], near)
    return depth[:, margin[0] : margin[0] + height, margin[1] : margin[1] + width]
