"""Invented people in known poses: "figures", a stand-in for data sets of dressed people.

A person is a build, the colours of skin, hair, shirt, trousers and shoes, long or short sleeves, a plain,
striped or buttoned shirt and a coloured backdrop, drawn once. A pose is a chain of angles from the trunk to
the wrists and ankles with human limits, the turn of the head, place and size. Nobody of the test split is in
the training split.

* pose_pairs: `inputs` and `targets`, the same person in two poses; `keypoints` (num, 18, 3) of the targets,
  as the source `people` has them; joints on the far side of a turned head are not visible.

`write_example` writes some to a folder, to see what the source `people` expects.
"""

import dataclasses
import functools
import itertools
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tf_gan_zoo import files, image_writing
from tf_gan_zoo.bodies import JOINTS
from tf_gan_zoo.data.sources import DatasetError, Request, Source, register_source

_CONTENT_SEED = 20_171_206
_SUPERSAMPLING = 4
_NUM_TEST, _TEST_POSES = 50, 5

Color = tuple[int, int, int]


@register_source("figures", views=("pose_pairs",))
def read_figures(request: Request, *, num_people: int = 300, num_poses: int = 8) -> Source:
    """Draws a split's people; all pairs of different poses of a person, in both directions.

    Args:
        request: Split ("train", or "test": 50 other people in 5 poses) and size (64x32 if `None`).
        num_people: In the training split.
        num_poses: Pictures of each.
    """
    if request.split not in ("train", "test"):
        raise DatasetError(f'figures has the splits "train" and "test", got {request.split!r}.')
    if request.channels == 1:
        raise DatasetError("figures are dressed in colours: leave out channels=1.")
    if num_people < 1 or num_poses < 2:
        raise DatasetError(f"figures needs 1 person and 2 poses or more, got {num_people} and {num_poses}.")
    test = request.split == "test"
    if test:
        num_people, num_poses = min(num_people, _NUM_TEST), min(num_poses, _TEST_POSES)
    pictures, keypoints = _draw_all(request.image_size or (64, 32), num_people, num_poses, test)
    pairs = np.array(list(itertools.permutations(range(num_poses), 2)))
    # Neighbours are different people, and the second half of the examples shows other people than the first.
    examples = np.arange(num_people * len(pairs)).reshape(num_people, -1)
    order = [half.T.ravel() for half in np.array_split(examples, 2)]
    person, pair = np.divmod(np.concatenate(order), len(pairs))
    first, second = (num_poses * person + pairs[pair, k] for k in (0, 1))
    images = {"inputs": pictures[first], "targets": pictures[second]}
    return Source(images, {"keypoints": keypoints[second]})


def write_example(
    folder: str | Path, num_people: int = 5, num_poses: int = 3, size: tuple[int, int] = (128, 64)
) -> Path:
    """Writes people of both splits, with keypoints and pairs, as a folder that the source `people` reads.

    Args:
        folder: new, or with nothing in it that is called the same.
        num_people: In each split.
        num_poses: Pictures of each.
        size: (height, width) in pixels.

    Returns:
        The folder.
    """
    folder = Path(folder)
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True, exist_ok=True)
        pictures, keypoints = _draw_all(tuple(size), num_people, num_poses, split == "test")
        names = [f"{k // num_poses:04}_{k % num_poses}.png" for k in range(len(pictures))]
        rows = ["name:keypoints_y:keypoints_x"]
        for name, picture, joints in zip(names, pictures, keypoints):
            image_writing.write_image(picture, folder / split / name)
            pixels = np.where(joints[:, 2:] > 0, joints[:, 1::-1] * size, -1).astype(int)
            rows.append(f"{name}: {pixels[:, 0].tolist()}: {pixels[:, 1].tolist()}")
        same = [pair for pair in itertools.permutations(names, 2) if pair[0][:4] == pair[1][:4]]
        pairs = ["from,to", *(",".join(pair) for pair in same)]
        for kind, lines in (("annotation", rows), ("pairs", pairs)):
            files.write_text(folder / f"example-{kind}-{split}.csv", "\n".join(lines) + "\n")
    return folder


@functools.lru_cache(maxsize=4)
def _draw_all(size: tuple[int, int], people: int, poses: int, test: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (people * poses, height, width, 3) and keypoints (people * poses, 18, 3)."""
    pictures, keypoints = [], []
    for number in range(people):
        rng = np.random.default_rng([_CONTENT_SEED, test, number])
        person = draw_person(rng)
        for _ in range(poses):
            joints, turn = draw_pose(rng, person, size[1] / size[0])
            pictures.append(paint(person, joints, turn, size))
            keypoints.append(visible_keypoints(joints, turn, size[1] / size[0]))
    return np.stack(pictures), np.stack(keypoints)


@dataclasses.dataclass(frozen=True)
class Person:
    """What stays when somebody moves; lengths are parts of the picture's height."""

    skin: Color
    hair: Color
    shirt: Color
    trim: Color
    trousers: Color
    shoes: Color
    backdrop: tuple[Color, Color]
    pattern: str
    sleeves: str
    long_hair: bool
    shoulders: float
    thickness: float


def draw_person(rng: np.random.Generator) -> Person:
    """Somebody."""
    skin = np.array([1.0, rng.uniform(0.72, 0.82), rng.uniform(0.55, 0.7)]) * rng.uniform(110, 245)
    gray = rng.uniform(120, 210)
    backdrop = [tuple(_bytes(gray + rng.uniform(-25, 25) + rng.uniform(-15, 15, 3))) for _ in range(2)]
    return Person(
        skin=_bytes(skin), hair=_bytes(_hue(rng, 0.6) * rng.uniform(0.1, 0.9)), shirt=_bytes(_hue(rng, 0.9)),
        trim=_bytes(_hue(rng, 0.5)), trousers=_bytes(_hue(rng, 0.7) * rng.uniform(0.25, 0.9)),
        shoes=_bytes(_hue(rng, 0.4) * rng.uniform(0.1, 0.8)), backdrop=tuple(backdrop),
        pattern=str(rng.choice(["plain", "stripes", "buttons"])), sleeves=str(rng.choice(["long", "short"])),
        long_hair=bool(rng.random() < 0.4), shoulders=rng.uniform(0.075, 0.1),
        thickness=rng.uniform(0.035, 0.05),
    )  # fmt: skip


def draw_pose(rng: np.random.Generator, person: Person, aspect: float) -> tuple[np.ndarray, float]:
    """The joints (18, 2), across and down in parts of the picture's height, and the head's turn, -1 to 1."""
    lean, turn, size = rng.uniform(-0.12, 0.12), rng.uniform(-1, 1), rng.uniform(0.88, 1.0)
    joints = np.zeros((len(JOINTS), 2))
    up = np.array([np.sin(lean), -np.cos(lean)])
    side = np.array([-up[1], up[0]])  # to the right of the picture: the person's left
    hip = np.array([0.0, 0.02])
    joints[1] = hip + 0.26 * up
    head = joints[1] + 0.1 * up
    _set_face(joints, head, up, side, turn)
    for sign, shoulder, hip_joint in ((-1, 2, 8), (1, 5, 11)):
        joints[shoulder] = joints[1] + 0.015 * -up + sign * person.shoulders * side
        joints[hip_joint] = hip + sign * 0.7 * person.shoulders * side
        raised = rng.uniform(0.1, 2.5) if rng.random() < 0.5 else rng.uniform(0.05, 0.7)
        _set_limb(joints, shoulder, sign, lean, raised, raised + rng.uniform(-0.3, 1.6), 0.115, 0.1)
        thigh = rng.uniform(-0.05, 0.5)
        _set_limb(joints, hip_joint, sign, 0.0, thigh, thigh - rng.uniform(0.0, 0.5), 0.2, 0.19)
    place = np.array([aspect / 2 + rng.uniform(-0.04, 0.04) * aspect, 0.5 + rng.uniform(-0.02, 0.02)])
    return size * joints + place, turn


def _set_face(joints: np.ndarray, head: np.ndarray, up: np.ndarray, side: np.ndarray, turn: float) -> None:
    joints[0] = head + 0.04 * turn * side
    for sign, eye, ear in ((-1, 14, 16), (1, 15, 17)):
        joints[eye] = head + 0.018 * up + (0.02 * sign + 0.03 * turn) * side
        joints[ear] = head + 0.008 * up + (0.05 * sign - 0.01 * turn) * side


def _set_limb(
    joints: np.ndarray, start: int, sign: int, lean: float, first: float, second: float, *lengths: float
) -> None:
    """The two joints behind `start`; angles from hanging straight down, outwards."""
    for number, (angle, length) in enumerate(zip((first, second), lengths), start=1):
        direction = np.array([sign * np.sin(angle) - 0.5 * np.sin(lean), np.cos(angle)])
        joints[start + number] = joints[start + number - 1] + length * direction


def visible_keypoints(joints: np.ndarray, turn: float, aspect: float) -> np.ndarray:
    """Joints in parts of width and height, and whether they can be seen, float32 (18, 3)."""
    places = joints / [aspect, 1.0]
    visible = ((places >= 0) & (places <= 1)).all(axis=1)
    for sign, far in ((-1, (14, 16)), (1, (15, 17))):
        visible[list(far)] &= turn * sign < 0.6  # the side that the face turns to is the far one
    places = np.where(visible[:, None], places, 0.0)
    return np.concatenate([places, visible[:, None]], axis=1).astype(np.float32)


def paint(person: Person, joints: np.ndarray, turn: float, size: tuple[int, int]) -> np.ndarray:
    """A picture, uint8 (height, width, 3)."""
    height, width = (side * _SUPERSAMPLING for side in size)
    mix = np.linspace(0, 1, height)[:, None, None]
    top, bottom = (np.array(color) for color in person.backdrop)
    backdrop = np.broadcast_to(top + mix * (bottom - top), (height, width, 3))
    canvas = Image.fromarray(np.rint(backdrop).astype(np.uint8))
    brush = _Brush(ImageDraw.Draw(canvas), height, joints)
    head, thick = joints[[16, 17]].mean(axis=0), person.thickness
    if person.long_hair:
        brush.line([head, joints[1]], 0.115, person.hair)
    for hip in (8, 11):
        brush.line(joints[hip : hip + 3], 1.25 * thick, person.trousers)
        brush.disk(joints[hip + 2] + [0, 0.008], 0.62 * thick, person.shoes)
    _paint_trunk(brush, person)
    brush.line([joints[1], head], 0.05, person.skin)
    for shoulder in (2, 5):
        brush.line(joints[shoulder : shoulder + 3], 0.85 * thick, person.skin)
        covered = 3 if person.sleeves == "long" else 2
        brush.line(joints[shoulder : shoulder + covered], thick, person.shirt)
        brush.disk(joints[shoulder + 2], 0.5 * thick, person.skin)
    _paint_head(brush, person, head, turn)
    return np.asarray(canvas.resize(size[::-1], Image.Resampling.BOX))


@dataclasses.dataclass(frozen=True)
class _Brush:
    """Draws in parts of the picture's height."""

    pen: ImageDraw.ImageDraw
    height: int
    joints: np.ndarray

    def disk(self, place: np.ndarray, radius: float, color: Color) -> None:
        (x, y), r = np.asarray(place) * self.height, radius * self.height
        self.pen.ellipse((x - r, y - r, x + r, y + r), color)

    def line(self, places: list | np.ndarray, width: float, color: Color) -> None:
        """With round ends."""
        points = [tuple(np.asarray(place) * self.height) for place in places]
        self.pen.line(points, color, max(round(width * self.height), 1))
        for place in places:
            self.disk(place, width / 2, color)

    def area(self, places: list | np.ndarray, color: Color) -> None:
        self.pen.polygon([tuple(np.asarray(place) * self.height) for place in places], color)


def _paint_trunk(brush: _Brush, person: Person) -> None:
    shoulders, hips = brush.joints[[2, 5]], brush.joints[[8, 11]]
    corners = [shoulders[0], shoulders[1], hips[1], hips[0]]
    brush.area(corners, person.shirt)
    for a, b in zip(corners, [*corners[1:], corners[0]]):
        brush.line([a, b], person.thickness, person.shirt)
    brush.line(hips, 1.2 * person.thickness, person.trousers)
    steps = np.linspace(0.1, 0.75, 4)
    for step in steps if person.pattern != "plain" else ():
        left, right = (shoulders[k] + step * (hips[k] - shoulders[k]) for k in (0, 1))
        if person.pattern == "stripes":
            brush.line([left, right], 0.022, person.trim)
        else:
            brush.disk((left + right) / 2, 0.014, person.trim)


def _paint_head(brush: _Brush, person: Person, head: np.ndarray, turn: float) -> None:
    up = head - brush.joints[1]
    up = up / np.linalg.norm(up)
    brush.disk(head + 0.015 * up - [0.012 * turn, 0], 0.062, person.hair)
    brush.disk(head - 0.008 * up + [0.012 * turn, 0], 0.052, person.skin)
    brush.line([head + 0.047 * up + [x, 0] for x in (-0.028, 0.028)], 0.03, person.hair)
    for eye, sign in ((14, -1), (15, 1)):
        if turn * sign < 0.6:
            brush.disk(brush.joints[eye], 0.011, (30, 30, 40))
    brush.disk(brush.joints[0] - 0.012 * up, 0.009, tuple(int(0.8 * c) for c in person.skin))


def _hue(rng: np.random.Generator, strength: float) -> np.ndarray:
    phases = 2 * np.pi * (rng.random() + np.array([0, 1 / 3, 2 / 3]))
    return 250 * (1 - strength + strength * (0.5 + 0.5 * np.cos(phases)))


def _bytes(color: np.ndarray) -> Color:
    return tuple(int(v) for v in np.clip(np.rint(color), 0, 255))
