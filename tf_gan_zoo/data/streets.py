"""People in streets, drawn from parameters: "streets", the stand-in for a game engine and rare photographs.

The pool is drawn from everything that the renderer can do; the "real" pictures come from a prior that no
model is told: people who lie, crouch, stand on their hands or tumble, one or two of them, mostly in the dark
and before two of five backgrounds; and they are slightly blurred and noisy. View "imposters":

* `images`, `boxes`: a real picture and its people, (num, 5, 4): top, left, bottom, right as parts of the
  sides, 0 where there is nobody; `real_thetas`, its parameters, which only a stand-in knows;
* `pool_images`, `pool_boxes`, `thetas`, `indices`: the same of a rendered one, which is the `indices`-th of
  the pool; see `tf_gan_zoo.scenes`. Real pictures come as often as the pool is larger than they are many.
"""

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tf_gan_zoo import scenes
from tf_gan_zoo.data.sources import DatasetError, Request, Source, register_source
from tf_gan_zoo.scenes import Layout, Prior, Renderer

#: Of a scene: background, number of people, light, its angles across and down; of a person: see `_PERSON`.
LAYOUT = Layout(scene=5, person=8, people=5)
_PERSON = ("model", "clip", "time", "tilt", "turn", "distance", "across", "down")
_BACKGROUNDS, _MODELS = 5, 6
_USUAL, _UNUSUAL = ("walk", "stand", "run", "wave"), ("lie", "crouch", "handstand", "tumble")
_CLIPS = (*_USUAL, *_UNUSUAL)
_BINS, _SUPERSAMPLING = 40, 2  # 40 has every number of kinds as a divisor but 6
_CONTENT_SEED = 20_170_318
_KINDS = {0: _BACKGROUNDS, 5: _MODELS, 6: len(_CLIPS)}


def _kinds(weights: list[float]) -> np.ndarray:
    return np.repeat(np.array(weights) / sum(weights) * len(weights) / _BINS, _BINS // len(weights))


def _uniform_prior() -> Prior:
    return Prior(np.full((LAYOUT.num_parameters, _BINS), 1 / _BINS), LAYOUT, count=1, kinds=_KINDS)


def hidden_prior() -> Prior:
    """What the "real" pictures of the stand-in are drawn from."""
    distributions = _uniform_prior().distributions.copy()
    distributions[0] = _kinds([0.04, 0.46, 0.04, 0.42, 0.04])
    distributions[1] = _kinds([0.5, 0.35, 0.09, 0.04, 0.02])
    distributions[2] = _kinds([0.42, 0.38, 0.12, 0.05, 0.03])  # light from 0.3 to 2.2: mostly dim
    distributions[6] = _kinds([0.03, 0.03, 0.03, 0.03, 0.22, 0.22, 0.22, 0.22])
    return Prior(distributions, LAYOUT, count=1, kinds=_KINDS)


@register_source("streets", views=("imposters",))
def read_streets(
    request: Request, *, num_pool: int = 4000, num_real: int = 500, max_boxes: int = LAYOUT.people
) -> Source:
    """Draws a split; kept in the process for the next call.

    Args:
        request: split "train", or "test": other real pictures beside other scenes, `num_real` of both.
        num_pool: rendered scenes of the pool.
        num_real: real pictures.
        max_boxes: boxes of a picture, 5 or more; those behind its people's are empty.
    """
    if request.split not in ("train", "test"):
        raise DatasetError(f'streets has the splits "train" and "test", got {request.split!r}.')
    if request.channels == 1:
        raise DatasetError("streets are coloured: channels must be 3.")
    test, size = request.split == "test", request.image_size or (64, 64)
    if max_boxes < LAYOUT.people:
        raise DatasetError(f"streets: max_boxes must be {LAYOUT.people} or more, got {max_boxes}.")
    images, values = _drawn(size, num_real if test else num_pool, num_real, num_pool, test)
    empty = ((0, 0), (0, max_boxes - LAYOUT.people), (0, 0))
    padded = {name: np.pad(values[name], empty) for name in ("boxes", "pool_boxes")}
    return Source(images, {**values, **padded})


@functools.lru_cache(maxsize=4)
def _drawn(size: tuple[int, int], count: int, num_real: int, num_pool: int, test: bool) -> tuple[dict, dict]:
    real_thetas = hidden_prior().sample(num_real, [_CONTENT_SEED, 1, test], _apart)
    thetas = _uniform_prior().sample(count, [_CONTENT_SEED, 0, test], _apart)
    real, real_boxes = render(real_thetas, size)
    real = photographed(real, np.random.default_rng([_CONTENT_SEED, 2, test]))
    pool, boxes = render(thetas, size)
    shown = np.arange(count) % num_real
    images = {"pool_images": pool, "images": real[shown]}
    values = {
        "pool_boxes": boxes, "thetas": thetas, "indices": np.arange(count, dtype=np.int32) % num_pool,
        "boxes": real_boxes[shown], "real_thetas": real_thetas[shown],
    }  # fmt: skip
    return images, values


def photographed(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rendered pictures as a camera has them: a little blurred, with sensor noise."""
    blurred = [np.asarray(Image.fromarray(i).filter(ImageFilter.GaussianBlur(0.5))) for i in images]
    return np.clip(np.stack(blurred) + rng.normal(0, 5, images.shape), 0, 255).astype(np.uint8)


# -------------------------------------------------------------------- drawing


def render(thetas: np.ndarray, size: tuple[int, int] = (64, 64)) -> tuple[np.ndarray, np.ndarray]:
    """Rows of parameters (num, 45) -> uint8 pictures and boxes, as `scenes.Renderer` wants them.

    The same row always gives the same picture.
    """
    drawn = [_draw(scene, people, size) for scene, people in zip(*LAYOUT.parts(thetas))]
    images, boxes = zip(*drawn)
    return np.stack(images), np.stack(boxes).astype(np.float32)


def _draw(scene: np.ndarray, people: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    height, width = (side * _SUPERSAMPLING for side in size)
    picture = _background(int(scene[0] * _BACKGROUNDS), height, width)
    pen, boxes = ImageDraw.Draw(picture), np.zeros((LAYOUT.people, 4))
    there = [k for k in range(LAYOUT.people) if people[k, 0] >= 0]
    for k in sorted(there, key=lambda k: -people[k, 5]):  # near ones last
        limbs, boxes[k] = _limbs(people[k])
        _draw_limbs(pen, limbs, _COLORS[int(people[k, 0] * _MODELS)], height, width)
    pixels = np.asarray(picture.resize(size[::-1], Image.Resampling.BOX), np.float32)
    light = 0.3 + 1.9 * scene[2]
    across, down = np.sin(np.radians(100 * scene[3:5] - 50))
    x, y = np.linspace(-0.5, 0.5, size[1]), np.linspace(-0.5, 0.5, size[0])[:, None]
    lit = pixels * (light * (1 + 0.8 * (across * x + down * y)))[..., None]
    return np.clip(lit, 0, 255).astype(np.uint8), boxes


def _background(kind: int, height: int, width: int) -> Image.Image:
    """One of five streets, darker than the middle so that strong light does not wash it out."""
    picture = Image.new("RGB", (width, height), _GROUNDS[kind])
    pen = ImageDraw.Draw(picture)
    wall, line = _WALLS[kind]
    pen.rectangle((0, 0, width, round(0.55 * height)), fill=wall)
    if kind == 0:  # bricks
        for k in range(7):
            pen.line((0, 0.08 * k * height, width, 0.08 * k * height), fill=line, width=1)
    elif kind == 1:  # windows
        for k in range(4):
            left = (0.06 + 0.25 * k) * width
            pen.rectangle((left, 0.1 * height, left + 0.12 * width, 0.35 * height), fill=line)
    elif kind == 2:  # trees
        for k in range(3):
            left = (0.1 + 0.33 * k) * width
            pen.ellipse((left, 0.05 * height, left + 0.25 * width, 0.4 * height), fill=line)
            trunk = (left + 0.1 * width, 0.4 * height, left + 0.14 * width, 0.6 * height)
            pen.rectangle(trunk, fill=(50, 36, 26))
    elif kind == 3:  # fence
        for k in range(12):
            pen.line((k * width / 12, 0.2 * height, k * width / 12, 0.6 * height), fill=line, width=2)
    else:  # crossing
        for k in range(5):
            left = 0.2 * k * width
            pen.rectangle((left, 0.75 * height, left + 0.1 * width, 0.95 * height), fill=line)
    return picture


_GROUNDS = ((74, 74, 78), (84, 78, 70), (60, 84, 56), (92, 86, 80), (70, 70, 74))
_WALLS = (
    ((104, 66, 54), (84, 54, 46)), ((88, 92, 100), (54, 60, 72)), ((96, 108, 120), (48, 84, 44)),
    ((100, 98, 90), (64, 56, 48)), ((92, 94, 100), (132, 132, 128)),
)  # fmt: skip
#: Shirt, trousers and skin of each model.
_COLORS = (
    ((150, 40, 40), (40, 44, 60), (176, 136, 112)), ((40, 84, 150), (60, 52, 44), (128, 92, 70)),
    ((140, 130, 50), (36, 36, 40), (188, 150, 124)), ((50, 120, 70), (90, 84, 76), (104, 72, 54)),
    ((140, 140, 140), (44, 60, 90), (168, 126, 100)), ((110, 60, 120), (30, 30, 36), (150, 110, 86)),
)  # fmt: skip


def _draw_limbs(
    pen: ImageDraw.ImageDraw, limbs: list[np.ndarray], colors: tuple, height: int, width: int
) -> None:
    """Arms and legs, trunk and head, as strokes with round ends."""
    shirt, trousers, skin = colors
    paints = (trousers, trousers, trousers, trousers, shirt, shirt, skin, shirt, skin, skin)
    for limb, color in zip(limbs, paints):
        (x0, y0, x1, y1), thick = limb[:4] * [width, height, width, height], limb[4] * height
        pen.line((x0, y0, x1, y1), fill=color, width=max(round(2 * thick), 1))
        for x, y in ((x0, y0), (x1, y1)):
            pen.ellipse((x - thick, y - thick, x + thick, y + thick), fill=color)


def _limbs(person: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Strokes (from across, down, to across, down, half width) as parts of the picture, and their box."""
    tall = 2.4 / (4 + 5 * person[5])  # distance from 4 to 9
    strokes = np.array(_pose(_CLIPS[int(person[1] * len(_CLIPS))], float(person[2])))
    points = strokes[:, :4].reshape(-1, 2, 2)
    turn = np.cos(np.radians(360 * person[4] - 180))
    points = points * [np.sign(turn) * max(abs(turn), 0.45), 1]
    tilt = np.radians(40 * person[3] - 20)
    points = points @ np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    low, high = points.min(axis=(0, 1)), points.max(axis=(0, 1))
    margin = strokes[:, 4].max() * tall + 0.01
    extent = (high - low) * tall
    free = np.maximum(1 - 2 * margin - extent, 0) * [1, 0.6]
    start = margin + free * person[6:8] + [0, 1] * np.maximum(1 - 2 * margin - extent - free, 0)
    placed = start + (points - low) * tall
    limbs = [np.array([*p.reshape(-1), thick * tall]) for p, thick in zip(placed, strokes[:, 4])]
    thick = strokes[:, 4, None, None] * tall
    top_left, bottom_right = (placed - thick).min(axis=(0, 1)), (placed + thick).max(axis=(0, 1))
    return limbs, np.clip([*top_left[::-1], *bottom_right[::-1]], 0, 1)


def _pose(clip: str, time: float) -> list[tuple[float, ...]]:
    """Strokes of a person one unit tall, hip at the origin, down positive; angles are from straight down."""
    swing = np.sin(2 * np.pi * time)
    trunk, thighs, shins, arms, hands = _ANGLES[clip](swing, time)
    turned = {"handstand": np.pi + 0.2 * swing, "tumble": 2 * np.pi * time, "lie": np.pi / 2}.get(clip, 0.0)
    strokes, neck = [], _end((0, 0), trunk + np.pi, 0.32)
    for thigh, shin in zip(thighs, shins):
        knee = _end((0, 0), thigh, 0.25)
        strokes += [(0, 0, *knee, 0.05), (*knee, *_end(knee, shin, 0.25), 0.042)]
    strokes.append((0, 0, *neck, 0.075))
    for arm, hand in zip(arms, hands):
        elbow = _end(neck, arm, 0.17)
        strokes += [(*neck, *elbow, 0.038), (*elbow, *_end(elbow, hand, 0.16), 0.032)]
    head = _end(neck, trunk + np.pi, 0.11)
    strokes.append((*head, *head, 0.075))
    c, s = np.cos(turned), np.sin(turned)
    return [(c * a - s * b, s * a + c * b, c * d - s * e, s * d + c * e, w) for a, b, d, e, w in strokes]


def _end(start: tuple, angle: float, length: float) -> tuple[float, float]:
    return (start[0] + length * np.sin(angle), start[1] + length * np.cos(angle))


#: Clip -> (swing from -1 to 1, time) -> angles of trunk, thighs, shins, upper and lower arms.
_ANGLES = {
    "walk": lambda s, t: (0.05, (0.4 * s, -0.4 * s), (0.4 * s - 0.2, -0.4 * s - 0.2), (-0.4 * s, 0.4 * s),
                          (-0.3 * s + 0.2, 0.3 * s + 0.2)),
    "stand": lambda s, t: (0.0, (0.1, -0.1), (0.08, -0.08), (0.15, -0.15), (0.1, -0.1)),
    "run": lambda s, t: (-0.25, (0.8 * s, -0.8 * s), (0.8 * s - 0.7, -0.8 * s - 0.7), (-0.8 * s, 0.8 * s),
                         (-0.8 * s + 1.2, 0.8 * s + 1.2)),
    "wave": lambda s, t: (0.0, (0.12, -0.12), (0.1, -0.1), (2.4 + 0.3 * s, -0.15), (2.9 + 0.4 * s, -0.1)),
    "lie": lambda s, t: (0.1 * s, (0.3 + 0.3 * s, -0.2), (0.1, -0.3 + 0.3 * s), (1.2 * s, 0.5),
                         (1.4 * s, 0.9)),
    "crouch": lambda s, t: (-0.6 - 0.2 * s, (1.7, 1.4), (-0.5, -0.7), (0.6 + 0.3 * s, 0.3), (1.0, 0.8)),
    "handstand": lambda s, t: (0.0, (0.5 * s + 0.3, -0.5 * s - 0.3), (0.4 * s, -0.4 * s), (2.9, -2.9),
                               (3.0, -3.0)),
    "tumble": lambda s, t: (-0.5, (1.3 + 0.4 * s, 0.4), (0.2, -0.6), (2.2, -1.4 * s), (2.6, -1.8 * s)),
}  # fmt: skip


def _apart(person: np.ndarray, others: np.ndarray) -> bool:
    """No two people overlap by more than a fifth of either's box."""
    top, left, bottom, right = _limbs(person)[1]
    for other in others:
        start, end = np.split(_limbs(other)[1], 2)
        shared = np.prod(np.maximum(np.minimum((bottom, right), end) - np.maximum((top, left), start), 0))
        if shared > 0.2 * min((bottom - top) * (right - left), np.prod(end - start)):
            return False
    return True


scenes.register_renderer("streets", Renderer(render, _uniform_prior(), _apart))
