"""Letters in clutter and their clean pictures: "glyph_products", a stand-in for LookBook. No download.

A product is a capital letter in a font and a colour. Its catalogue picture (`targets`) shows it upright and
alone on white; a photograph (`inputs`) shows it turned, shifted and smaller, before large pale or dark
letters. What has to be read off a photograph is letter, font and colour, whatever the pose and the clutter.

The only view is "triplets". A stable hash puts a tenth of the products into the test split, so that no
product is in both. Content does not depend on the `seed` of `load_dataset`.
"""

import functools

import numpy as np

from tf_gan_zoo.data.glyphs import CAPITALS, Studio, choose_fonts, random_poses
from tf_gan_zoo.data.image_folders import in_test_split
from tf_gan_zoo.data.sources import DatasetError, Request, Source, register_source

COLORS = {
    "red": (215, 40, 40), "orange": (240, 140, 20), "green": (30, 150, 60), "teal": (0, 160, 170),
    "blue": (40, 80, 220), "purple": (140, 50, 190), "pink": (240, 90, 160), "black": (25, 25, 25),
}  # fmt: skip
_NUM_CLUTTER = 3
_CONTENT_SEED = 20_262


@register_source("glyph_products", views=("triplets",))
def read_glyph_products(
    request: Request,
    *,
    fonts: str | tuple[str, ...] | None = None,
    rotation: float = 20.0,
    jitter: float = 0.12,
    num_examples: int | None = None,
) -> Source:
    """Renders photographs of a split's products, drawn at random, with the products' pictures.

    Args:
        request: Split ("train" or "test") and size (32x32 if `None`); always three channels.
        fonts: As for "glyphs".
        rotation: Largest rotation either way of a photographed letter, in degrees.
        jitter: Its largest shift either way as a part of the picture's side, and half of the
            largest relative change of size either way.
        num_examples: Photographs: by default 10,000 in "train" and 1,000 in "test".

    Raises:
        DatasetError: For gray pictures, or an unknown font.
    """
    if request.split not in ("train", "test"):
        raise DatasetError(
            f'glyph_products has the splits "train" and "test", got {request.split!r}.'
        )
    if request.channels == 1:
        raise DatasetError("glyph_products are told apart by colour: leave out channels=1.")
    usual = 10_000 if request.split == "train" else 1_000
    return _render(
        request.split, request.image_size or (32, 32), choose_fonts(fonts), float(rotation),
        float(jitter), num_examples or usual,
    )  # fmt: skip


@functools.lru_cache(maxsize=2)
def _render(
    split: str, size: tuple[int, int], fonts: tuple[str, ...], rotation: float, jitter: float,
    num: int,
) -> Source:  # fmt: skip
    studio, rng = Studio(CAPITALS, size), np.random.default_rng([_CONTENT_SEED, split == "test"])
    products = _products(fonts, split)
    chosen = rng.integers(len(products), size=num)
    letters, styles, inks = products[chosen].T
    names = [fonts[style] for style in styles]
    ink = np.array(list(COLORS.values()))[inks]
    poses = random_poses(num, rotation, jitter, rng)
    poses[:, 3] *= 0.8  # leaves room for the clutter
    photographs = _laid_on(_clutter(studio, fonts, num, rng), studio.draw(letters, names, poses), ink)
    upright = np.tile([0.0, 0.0, 0.0, 1.0], (num, 1))
    white = np.full((num, *size, 3), 255.0)
    pictures = _laid_on(white, studio.draw(letters, names, upright), ink)
    images = {"inputs": photographs, "targets": pictures}
    return Source({k: np.rint(v).astype(np.uint8) for k, v in images.items()}, {"products": chosen})


def _products(fonts: tuple[str, ...], split: str) -> np.ndarray:
    """Those of a split as numbers of letter, font and colour, `(num, 3)`."""
    found = [
        (letter, style, ink)
        for letter, character in enumerate(CAPITALS)
        for style, font in enumerate(fonts)
        for ink, color in enumerate(COLORS)
        if in_test_split(f"{character} {font} {color}") == (split == "test")
    ]
    return np.array(found)


def _clutter(
    studio: Studio, fonts: tuple[str, ...], num: int, rng: np.random.Generator
) -> np.ndarray:
    """Backgrounds `(num, height, width, 3)` in 0..255: a plain colour with large letters in others."""
    pictures = np.broadcast_to(_muted(num, rng)[:, None, None], (num, *studio.size, 3))
    for _ in range(_NUM_CLUTTER):
        names = [fonts[k] for k in rng.integers(len(fonts), size=num)]
        poses = random_poses(num, 180.0, 0.45, rng)
        masks = studio.draw(rng.integers(len(CAPITALS), size=num), names, poses)
        pictures = _laid_on(pictures, masks, _muted(num, rng))
    return pictures


def _muted(num: int, rng: np.random.Generator) -> np.ndarray:
    """Colours with little saturation, pale or dark, `(num, 3)`: not those of a product."""
    gray = np.where(rng.random(num) < 0.7, rng.uniform(165, 240, num), rng.uniform(60, 100, num))
    return gray[:, None] + rng.uniform(-14, 14, (num, 3))


def _laid_on(pictures: np.ndarray, masks: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """Pictures with ink `(num, 3)` where the masks, 0..255, say so."""
    share = masks[..., None].astype(np.float32) / 255.0
    return pictures * (1 - share) + ink[:, None, None] * share
