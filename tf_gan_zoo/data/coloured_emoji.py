"""Emoji dyed in named colours, with captions: "coloured_emoji:DIR", DIR as for "emoji:DIR".

A noun and a colour make a caption, "red heart", "blue car": by default 32 nouns in 8 colours. Google's and
Twitter's drawings are a picture each. Each noun is held out in one colour, each colour in an eighth of the
nouns: the test split's captions are new, but both of their words are known.

A picture keeps its lights and shadows: its mean brightness becomes the colour, brighter parts are mixed with
white, darker ones with black. The background is gray, as networks that end in tanh learn white slowly.
"""

import functools
from pathlib import Path

import numpy as np

from tf_gan_zoo.data.emoji import STYLES, emoji_files
from tf_gan_zoo.data.sources import (
    SINGLE_IMAGE_VIEWS,
    DatasetError,
    Request,
    Source,
    existing_path,
    register_source,
)
from tf_gan_zoo.image_files import load_image

COLOURS = {
    "red": (214, 38, 56), "orange": (246, 140, 20), "yellow": (252, 214, 60), "green": (70, 160, 70),
    "blue": (50, 110, 210), "purple": (135, 65, 180), "pink": (245, 140, 185), "white": (240, 240, 240),
}  # fmt: skip
#: Short names of emoji with an outline that says what they are.
NOUNS = (
    "airplane", "apple", "balloon", "banana", "bell", "bird", "boat", "butterfly", "car", "cat", "cloud",
    "crown", "dog", "elephant", "fish", "gem", "ghost", "guitar", "heart", "house", "key", "lock", "mushroom",
    "pear", "rabbit", "rocket", "shirt", "skull", "snail", "star", "tulip", "umbrella",
)  # fmt: skip
_BACKGROUND = 128
_CONTRAST = 1.1


@register_source("coloured_emoji", views=SINGLE_IMAGE_VIEWS, needs_path=True)
def read_coloured_emoji(
    request: Request, *, nouns: tuple[str, ...] = NOUNS, styles: tuple[str, ...] = STYLES
) -> Source:
    """Reads the emoji and dyes them.

    Args:
        request: split "train", "test" (captions not in "train") or "all". Labels number the captions.
        nouns: the emoji's short names in the packages' emoji.json; "_" becomes a blank.
        styles: whose drawings, "google", "twitter" or both; each is a picture of its own.
    """
    if request.split not in ("train", "test", "all"):
        raise DatasetError(f'coloured_emoji has the splits "train", "test", "all", got {request.split!r}.')
    pictures = _dyed(existing_path(request, "coloured_emoji"), tuple(nouns), tuple(styles))
    places, count = np.arange(len(nouns) * len(COLOURS)), len(COLOURS)
    held_out = (places // count + places % count) % count == count - 1
    wanted = {"train": ~held_out, "test": held_out, "all": np.full(len(places), True)}[request.split]
    captions = [f"{colour} {noun.replace('_', ' ')}" for noun in nouns for colour in COLOURS]
    chosen = np.repeat(places[wanted], len(styles))
    values = {
        "labels": chosen.astype(np.int32),
        "captions": np.array([captions[k] for k in chosen], object),
    }
    flat = pictures.reshape(-1, *pictures.shape[-3:])
    return Source({"images": flat[np.repeat(wanted, len(styles))]}, values, tuple(captions))


@functools.lru_cache(maxsize=2)
def _dyed(root: Path, nouns: tuple[str, ...], styles: tuple[str, ...]) -> np.ndarray:
    """All pictures, uint8 (nouns, colours, styles, height, width, 3)."""
    files = [emoji_files(root, style, nouns) for style in styles]
    drawings = [[_drawing(path) for path in paths] for paths in zip(*files)]
    rows = [[[dye(d, rgb) for d in several] for rgb in COLOURS.values()] for several in drawings]
    return np.array(rows, np.uint8)


def _drawing(path: Path) -> np.ndarray:
    """RGBA, float64 (height, width, 4) from 0 to 1."""
    return np.asarray(load_image(path).convert("RGBA"), np.float64) / 255


def dye(drawing: np.ndarray, rgb: tuple[int, int, int]) -> np.ndarray:
    """A drawing in one colour on gray.

    Args:
        drawing: RGBA from 0 to 1, (height, width, 4).
        rgb: the colour, from 0 to 255.

    Returns:
        uint8 (height, width, 3).
    """
    alpha, luma = drawing[..., 3], drawing[..., :3] @ np.array([0.299, 0.587, 0.114])
    mean = (alpha * luma).sum() / max(alpha.sum(), 1)
    shade = _CONTRAST * np.clip(luma - mean, -0.6, 0.6)[..., None]
    colour = np.array(rgb, np.float64)
    dyed = np.where(shade > 0, colour + shade * (255 - colour), (1 + shade) * colour)
    mixed = alpha[..., None] * dyed + (1 - alpha[..., None]) * _BACKGROUND
    return np.rint(mixed).astype(np.uint8)
