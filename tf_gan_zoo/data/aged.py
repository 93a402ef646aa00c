"""Pictures with ages: faces with UTKFace's file names ("utkface:FOLDER"), or thickening strokes ("strokes").

View "ages": `images`; `ages`, bins from 0 to 9; `labels`, of what stays the same: UTKFace's gender (0 male, 1
female), or which of ten signs a stroke is.
"""

import functools
import re

import numpy as np
from PIL import Image, ImageDraw

from tf_gan_zoo.data.images import ImageFile
from tf_gan_zoo.data.sources import DatasetError, Request, Source, existing_path, in_split, register_source

#: First year of each bin of ages, as in CAAE.
FIRST_YEARS = (0, 6, 11, 16, 21, 31, 41, 51, 61, 71)
_VIEWS = ("ages", "images", "labelled")
_NAME = re.compile(r"(\d{1,3})_([01])_.*\.(jpe?g|png)(\.chip\.jpg)?$", re.IGNORECASE)


def bin_of(years: np.ndarray) -> np.ndarray:
    """Ages in years (num,) as bins, int32 (num,)."""
    return (np.searchsorted(FIRST_YEARS, years, side="right") - 1).astype(np.int32)


@register_source("utkface", views=_VIEWS, needs_path=True)
def read_utkface(request: Request) -> Source:
    """Faces in files called AGE_GENDER_RACE_DATE.jpg, as UTKFace's aligned and cropped ones are.

    UTKFace (23,708 faces) is for non-commercial research; see https://susanqq.github.io/UTKFace. Files with
    other names are left out. Every tenth file is the test split.
    """
    folder = existing_path(request, "utkface")
    found = [(path, _NAME.match(path.name)) for path in sorted(folder.rglob("*")) if path.is_file()]
    named = [(path, match) for path, match in found if match]
    if not named:
        raise DatasetError(
            f"{folder}: none of {len(found)} files is called AGE_GENDER_RACE_DATE.jpg, such as "
            "25_1_0_20170116174525125.jpg.chip.jpg."
        )
    chosen = in_split(len(named), request.split)
    named = [pair for pair, take in zip(named, chosen) if take]
    values = {
        "ages": bin_of(np.array([int(match[1]) for _, match in named])),
        "labels": np.array([int(match[2]) for _, match in named], np.int32),
    }
    return Source({"images": [ImageFile(path) for path, _ in named]}, values, ("male", "female"))


@register_source("strokes", views=_VIEWS)
def read_strokes(request: Request, *, num_examples: int = 20_000) -> Source:
    """Ten signs drawn with a brush that grows with age: a stand-in for faces whose age can be measured.

    Sign, hue (in colour), slant, size and place are who somebody is; the width of the strokes, from 2 to 11
    hundredths of the picture, is the age, drawn evenly from the ten bins. Light gray background.

    Args:
        request: split "train", or "test": other draws.
        num_examples: a tenth as many in "test".
    """
    if request.split not in ("train", "test"):
        raise DatasetError(f'strokes has the splits "train" and "test", got {request.split!r}.')
    test = request.split == "test"
    size, count = request.image_size or (32, 32), max(num_examples // 10, 1) if test else num_examples
    images, ages, labels = _draw_all(size, request.channels or 1, count, test)
    return Source({"images": images}, {"ages": ages, "labels": labels}, tuple(_SIGNS))


#: Strokes of each sign: points (across, down) in [-1, 1].
_SIGNS = {
    "cross": [[(-1, -1), (1, 1)], [(1, -1), (-1, 1)]],
    "plus": [[(0, -1), (0, 1)], [(-1, 0), (1, 0)]],
    "triangle": [[(0, -1), (1, 1), (-1, 1), (0, -1)]],
    "square": [[(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]],
    "zigzag": [[(-1, -1), (1, -1), (-1, 1), (1, 1)]],
    "angle": [[(-1, -1), (-1, 1), (1, 1)]],
    "arrow": [[(0, 1), (0, -1)], [(-1, 0), (0, -1), (1, 0)]],
    "gate": [[(-1, 1), (-1, -1), (1, -1), (1, 1)]],
    "fork": [[(0, 1), (0, 0)], [(-1, -1), (0, 0), (1, -1)]],
    "wave": [[(-1, 0.5), (-0.5, -0.7), (0, 0.5), (0.5, -0.7), (1, 0.5)]],
}
_SUPERSAMPLING = 4
_PAPER = (200, 200, 200)  # light gray: networks that end in tanh learn white slowly


@functools.lru_cache(maxsize=4)
def _draw_all(
    size: tuple[int, int], channels: int, count: int, test: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng([20170414, test])
    labels, ages = rng.integers(len(_SIGNS), size=count), rng.integers(10, size=count)
    signs = list(_SIGNS.values())
    years = (ages + rng.random(count)) / 10
    pictures = [_draw(rng, signs[k], age, size, channels) for k, age in zip(labels, years)]
    return np.stack(pictures), ages.astype(np.int32), labels.astype(np.int32)


def _draw(
    rng: np.random.Generator, strokes: list, age: float, size: tuple[int, int], channels: int
) -> np.ndarray:
    """One sign, uint8 (height, width, channels); age from 0 to 1."""
    large = np.array(size[::-1]) * _SUPERSAMPLING
    scale, slant, place = rng.uniform(0.5, 0.65), rng.uniform(-0.3, 0.3), rng.uniform(-0.1, 0.1, 2)
    color = _color(rng.random()) if channels == 3 else 0
    picture = Image.new("RGB" if channels == 3 else "L", tuple(large), _PAPER if channels == 3 else _PAPER[0])
    pen, brush = ImageDraw.Draw(picture), (0.02 + 0.09 * age) * large.min()
    for points in strokes:
        slanted = [(x - slant * y, y) for x, y in points]
        pixels = [tuple((scale * np.array(p) + place + 1) / 2 * large) for p in slanted]
        pen.line(pixels, color, max(round(brush), 1))
        for x, y in pixels:  # round ends and joints
            pen.ellipse((x - brush / 2, y - brush / 2, x + brush / 2, y + brush / 2), color)
    small = np.asarray(picture.resize(size[::-1], Image.Resampling.BOX))
    return small.reshape(*size, channels)


def _color(hue: float) -> tuple[int, int, int]:
    """A strong colour, rather dark."""
    phases = 2 * np.pi * (hue + np.array([0, 1 / 3, 2 / 3]))
    return tuple(int(v) for v in 90 + 85 * np.cos(phases))
