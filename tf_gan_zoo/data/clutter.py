"""Letters in clutter, with boxes: "clutter". Small and large ones in one picture, no download, any size.

Each picture holds a few upright letters in front of bent lines, spots and grain; half of the letters
are small. A small letter looks like a large one made smaller.

* detection: `images`; `boxes` (num, objects, 4), float32 top, left, bottom, right as parts of the height
  and width; `labels` (num, objects): 0 is no object (its box is empty), k is `characters[k - 1]`.
"""

import functools

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tf_gan_zoo.data.glyphs import choose_fonts, read_glyphs
from tf_gan_zoo.data.sources import DatasetError, Request, Source, register_source

_CONTENT_SEED = 20_261
_DRAWN = 96  # pixels of a letter before it is made as small as it shall be
_TRAIN_EXAMPLES, _TEST_EXAMPLES = 4000, 500
_TRIES = 30  # places tried for a letter that must not touch others


@register_source("clutter", views=("detection",))
def read_clutter(
    request: Request,
    *,
    characters: str = "ABDEHKRS",
    fonts: str | tuple[str, ...] | None = "sans",
    num_objects: int = 4,
    small: tuple[float, float] = (0.10, 0.14),
    large: tuple[float, float] = (0.28, 0.42),
    num_lines: int = 12,
    num_examples: int | None = None,
) -> Source:
    """Draws the pictures of a split; kept in the process for the next call.

    Args:
        request: Split ("train" or "test"), size (96x96 if `None`) and channels.
        characters: What to look for; label k + 1 means `characters[k]`.
        fonts: As for "glyphs".
        num_objects: Letters in a picture; half of them are small.
        small: Smallest and largest height of a small letter, as a part of the picture's shorter side.
        large: The same for large ones.
        num_lines: Bent lines and spots behind the letters.
        num_examples: By default 4,000 in "train" and 500 in "test".
    """
    if request.split not in ("train", "test"):
        raise DatasetError(f'clutter has the splits "train" and "test", got {request.split!r}.')
    for name, (low, high) in {"small": small, "large": large}.items():
        if not 0 < low <= high < 1:
            raise DatasetError(f"{name} must be (low, high) with 0 < low <= high < 1, got {(low, high)}.")
    count = num_examples or (_TRAIN_EXAMPLES if request.split == "train" else _TEST_EXAMPLES)
    images, boxes, labels = _draw_all(
        request.split, request.image_size or (96, 96), characters, choose_fonts(fonts), num_objects,
        (tuple(small), tuple(large)), num_lines, count,
    )  # fmt: skip
    images = np.repeat(images, request.channels or 1, axis=-1)
    return Source({"images": images}, {"boxes": boxes, "labels": labels}, ("none", *characters))


@functools.lru_cache(maxsize=2)
def _draw_all(
    split: str, size: tuple[int, int], characters: str, fonts: tuple[str, ...], num_objects: int,
    ranges: tuple, num_lines: int, count: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    rng = np.random.default_rng([_CONTENT_SEED, split == "test"])
    letters, classes = _letters(characters, fonts)
    images = np.empty((count, *size, 1), np.uint8)
    boxes, labels = np.zeros((count, num_objects, 4), np.float32), np.zeros((count, num_objects), np.int32)
    for k in range(count):
        canvas, placed = _background(size, num_lines, rng), []
        for number in range(num_objects):
            chosen = rng.integers(len(letters))
            box = _place(canvas, letters[chosen], ranges[number % 2], placed, rng)
            if box is not None:
                placed.append(box)
                boxes[k, number], labels[k, number] = box / np.tile(size, 2), classes[chosen] + 1
        grain = rng.normal(0, 8, size)
        images[k, ..., 0] = np.clip(np.asarray(canvas, np.float32) + grain, 0, 255)
    return images, boxes, labels


def _letters(characters: str, fonts: tuple[str, ...]) -> tuple[list[Image.Image], np.ndarray]:
    """Masks cut to their ink, and which character each is."""
    request = Request(None, "labelled", "train", (_DRAWN, _DRAWN), 1)
    source = read_glyphs(
        request, characters=characters, fonts=fonts, rotation=6.0, jitter=0.0,
        num_examples=len(characters) * len(fonts) * 8,
    )  # fmt: skip
    pictures = [Image.fromarray(mask[..., 0]) for mask in source.images["images"]]
    return [picture.crop(picture.getbbox()) for picture in pictures], source.values["labels"]


def _background(size: tuple[int, int], num_lines: int, rng: np.random.Generator) -> Image.Image:
    """Dark, with soft light spots, and bent lines about as bright as letters."""
    height, width = size
    canvas = Image.new("L", (width, height), int(rng.integers(20, 50)))
    draw, side = ImageDraw.Draw(canvas), min(size)
    for _ in range(num_lines // 3):
        x, y, radius = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.03, 0.15) * side
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=int(rng.integers(40, 110)))
    canvas = canvas.filter(ImageFilter.GaussianBlur(side / 40))
    draw = ImageDraw.Draw(canvas)
    for _ in range(num_lines - num_lines // 3):
        start = rng.uniform(0, [width, height])
        points = start + np.cumsum(rng.normal(0, side / 12, (4, 2)), axis=0)
        draw.line([tuple(p) for p in points], fill=int(rng.integers(70, 190)), width=int(rng.integers(1, 3)))
    return canvas


def _place(
    canvas: Image.Image, letter: Image.Image, heights: tuple[float, float], placed: list[np.ndarray],
    rng: np.random.Generator,
) -> np.ndarray | None:  # fmt: skip
    """Pastes a letter where it touches no other; top, left, bottom, right in pixels, None without room."""
    height = max(round(rng.uniform(*heights) * min(canvas.size)), 3)
    width = max(round(letter.width * height / letter.height), 2)
    for _ in range(_TRIES):
        top = rng.integers(0, max(canvas.height - height, 1))
        left = rng.integers(0, max(canvas.width - width, 1))
        box = np.array([top, left, top + height, left + width])
        if not any(_touch(box, other) for other in placed):
            mask = letter.resize((width, height), Image.LANCZOS)
            canvas.paste(int(rng.integers(180, 256)), (int(left), int(top)), mask)
            return box
    return None


def _touch(a: np.ndarray, b: np.ndarray, margin: int = 2) -> bool:
    return bool(np.all(a[:2] < b[2:] + margin) and np.all(b[:2] < a[2:] + margin))
