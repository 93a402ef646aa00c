"""Glyphs: letters rendered from the fonts that matplotlib ships. No download, any size.

Each example is a character in a font, with a pose (rotation, shift, scale) of its own. What the
views hold:

* images, labelled, super_resolution: white on black, gray unless `channels=3` or `colors` is
  given. Labels number the `characters`.
* captioned: coloured, with captions such as "a red bold serif letter q". The style words are
  those of the font; "small" and "capital" are said where `characters` has both.
* paired: `inputs` are thin dark outlines on white; `targets` are the same glyphs, in the same
  pose, filled, on dark blue: orange for sans-serif fonts, teal for serif ones, pink for
  monospaced ones. A network has to fill the inside and to read the family off the outline.
* unpaired: `images_a` are dark blue serif italics on white, `images_b` orange sans-serif bolds on
  black. The training domains have their own examples and poses. In "test" the examples with the
  same index show the same character in the same pose: hidden pairs, so that one can measure
  whether a translation keeps the letter.

The test split shares no example with "train". With ten fonts or more it shares no combination of
character and font either: each character is tested in fonts in which it was never trained.

Content does not depend on the `seed` of `load_dataset`, which decides the order only.
"""

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFilter, ImageFont

from tf_gan_zoo.data.sources import DatasetError, Request, Source, register_source, suggestion

CAPITALS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

FONTS = {
    "DejaVuSans": "sans",
    "DejaVuSans-Bold": "bold sans",
    "DejaVuSans-Oblique": "italic sans",
    "DejaVuSans-BoldOblique": "bold italic sans",
    "DejaVuSerif": "serif",
    "DejaVuSerif-Bold": "bold serif",
    "DejaVuSerif-Italic": "italic serif",
    "DejaVuSerif-BoldItalic": "bold italic serif",
    "DejaVuSansMono": "mono",
    "DejaVuSansMono-Bold": "bold mono",
    "DejaVuSansMono-Oblique": "italic mono",
    "DejaVuSansMono-BoldOblique": "bold italic mono",
    "STIXGeneral": "serif",
    "STIXGeneralBol": "bold serif",
    "STIXGeneralItalic": "italic serif",
    "STIXGeneralBolIta": "bold italic serif",
    "cmr10": "serif",
    "cmb10": "bold serif",
    "cmss10": "sans",
    "cmtt10": "mono",
}
"""Text fonts in matplotlib's data folder, and the words for their styles."""

PALETTE = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "white")
_RGB = {"green": (40, 190, 70), "blue": (70, 110, 255), "purple": (160, 80, 230)}

_FAMILY_COLORS = {"sans": (255, 150, 40), "serif": (40, 200, 180), "mono": (255, 110, 180)}
_PAIR_INK, _PAIR_GROUND = (30, 30, 30), (16, 20, 60)
_DOMAIN_A = {"font": "DejaVuSerif-Italic", "ink": (25, 45, 140), "ground": (255, 255, 255)}
_DOMAIN_B = {"font": "DejaVuSans-Bold", "ink": (255, 150, 30), "ground": (0, 0, 0)}

_TRAIN_EXAMPLES, _TEST_EXAMPLES = 20_000, 2_000
_DEFAULT_BYTES = 512 * 1024**2
_HELD_OUT = 10  # every tenth font of a character, from ten fonts on
_CONTENT_SEED = 20_260


@register_source("glyphs")
def read_glyphs(
    request: Request,
    *,
    characters: str = CAPITALS,
    fonts: str | tuple[str, ...] | None = None,
    rotation: float = 8.0,
    jitter: float = 0.08,
    colors: bool | dict[str, Any] | None = None,
    num_examples: int | None = None,
) -> Source:
    """Renders the examples of a split; kept in the process for the next call.

    Args:
        request: View, split ("train" or "test"), size (28x28 if `None`) and channels.
        characters: What to draw; label k means `characters[k]`.
        fonts: Font names (`FONTS`) or style words ("sans", "bold serif"), in a list or separated
            by commas: a font is taken if one entry names it or has only words of its style.
            `None` takes all. Not for "unpaired", whose two fonts are fixed.
        rotation: Largest rotation either way, in degrees.
        jitter: Largest shift either way as a part of the picture's side, and half of the largest
            relative change of size either way.
        colors: For three channels. True: ink from `PALETTE` on black. A dictionary with the lists
            "foreground" and "background" of colour names or RGB triples. `None`: white on black,
            or True for "captioned".
        num_examples: By default 20,000 in "train" and 2,000 in "test", or as many as 512 MiB hold
            (at 128x128, RGB pairs: 5,461).

    Raises:
        DatasetError: For an unknown font, style or colour, or a font without a character.
    """
    if request.split not in ("train", "test"):
        raise DatasetError(f'glyphs has the splits "train" and "test", got {request.split!r}.')
    _check_numbers(characters, rotation, jitter, num_examples)
    names = choose_fonts(fonts)
    inks, grounds = _palettes(colors, request)
    key = (
        request.view, request.split, request.image_size or (28, 28), _channels(request, inks),
        characters, names, float(rotation), float(jitter), inks, grounds,
    )  # fmt: skip
    return _render(*key, num_examples or _default_examples(request, *key[2:4]))


def _default_examples(request: Request, size: tuple[int, int], channels: int) -> int:
    usual = _TRAIN_EXAMPLES if request.split == "train" else _TEST_EXAMPLES
    fields = 2 if request.view in ("paired", "unpaired") else 1
    return max(1, min(usual, _DEFAULT_BYTES // (size[0] * size[1] * channels * fields)))


def choose_fonts(fonts: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """The names of the fonts that a selection means, in the order of `FONTS`."""
    if fonts is None:
        return tuple(FONTS)
    wanted = [w.strip() for w in fonts.split(",")] if isinstance(fonts, str) else list(fonts)
    chosen = set()
    for entry in wanted:
        found = [n for n, style in FONTS.items()
                 if n == entry or (entry and set(entry.split()) <= set(style.split()))]  # fmt: skip
        if not found:
            words = sorted({w for style in FONTS.values() for w in style.split()})
            raise DatasetError(
                f"No font has the name or style {entry!r}.{suggestion(entry, [*FONTS, *words])} "
                f"Styles: {', '.join(words)}; names: {', '.join(FONTS)}."
            )
        chosen |= set(found)
    return tuple(name for name in FONTS if name in chosen)


@functools.lru_cache(maxsize=2)
def _render(
    view: str, split: str, size: tuple[int, int], channels: int, characters: str,
    fonts: tuple[str, ...], rotation: float, jitter: float, inks: tuple, grounds: tuple, num: int,
) -> Source:  # fmt: skip
    """The whole split. The parts differ in which masks are drawn and how they are coloured."""
    studio = Studio(characters, size)
    rng = np.random.default_rng([_CONTENT_SEED, split == "test"])
    if view == "unpaired":
        return _unpaired(studio, split, num, channels, rotation, jitter)
    labels, styles = _combinations(len(characters), len(fonts), split, num, rng)
    poses = random_poses(num, rotation, jitter, rng)
    names = [fonts[style] for style in styles]
    fill = studio.draw(labels, names, poses)
    if view == "paired":
        return _paired(studio, labels, names, poses, fill, channels)
    ink, ground = rng.integers(len(inks), size=num), rng.integers(len(grounds), size=num)
    images = _colour(fill, _table(inks)[ink], _table(grounds)[ground], channels)
    values = {"labels": labels}
    if view == "captioned":
        values["captions"] = [
            _caption(characters, characters[k], name, inks[i][0] if channels == 3 else "")
            for k, name, i in zip(labels, names, ink, strict=True)
        ]
    return Source({"images": images}, values, tuple(characters))


def _paired(studio, labels, names, poses, fill, channels: int) -> Source:
    families = [FONTS[name].split()[-1] for name in names]
    filled = np.array([_FAMILY_COLORS[family] for family in families])
    line = studio.draw(labels, names, poses, outline=True)
    white = np.full_like(filled, 255)
    return Source({
        "inputs": _colour(line, np.broadcast_to(_PAIR_INK, filled.shape), white, channels),
        "targets": _colour(fill, filled, np.broadcast_to(_PAIR_GROUND, filled.shape), channels),
    })  # fmt: skip


def _unpaired(studio, split: str, num: int, channels: int, rotation, jitter) -> Source:
    images = {}
    for number, (field, style) in enumerate([("images_a", _DOMAIN_A), ("images_b", _DOMAIN_B)]):
        # One stream for both domains makes the hidden pairs of the test split.
        stream = [_CONTENT_SEED, 7] if split == "test" else [_CONTENT_SEED, 8, number]
        rng = np.random.default_rng(stream)
        labels = np.arange(num) % len(studio.characters)
        poses = random_poses(num, rotation, jitter, rng)
        mask = studio.draw(labels, [style["font"]] * num, poses)
        ink, ground = (np.broadcast_to(style[k], (num, 3)) for k in ("ink", "ground"))
        images[field] = _colour(mask, ink, ground, channels)
    return Source(images, independent=split == "train")


def _combinations(
    num_characters: int, num_fonts: int, split: str, num: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A character and a font for each example; characters in turn, fonts at random."""
    labels = np.arange(num) % num_characters
    if num_fonts < _HELD_OUT:
        return labels, rng.integers(num_fonts, size=num)
    table = []
    for character in range(num_characters):
        held_out = (np.arange(num_fonts) + 3 * character) % _HELD_OUT == 0
        table.append(np.flatnonzero(held_out == (split == "test")))
    draws = rng.random(num)
    fonts = [table[k][int(u * len(table[k]))] for k, u in zip(labels, draws, strict=True)]
    return labels, np.array(fonts)


def random_poses(num: int, rotation: float, jitter: float, rng: np.random.Generator) -> np.ndarray:
    """Angle in radians, shifts as parts of the side, relative size: `(num, 4)`."""
    unit = rng.uniform(-1.0, 1.0, (num, 4))
    return unit * [math.radians(rotation), jitter, jitter, jitter / 2] + [0, 0, 0, 1]


class Studio:
    """Draws characters at one size: each glyph once from its font, then moved about."""

    def __init__(self, characters: str, size: tuple[int, int]):
        self.characters, self.size = characters, size
        self._factor = 2 if min(size) < 256 else 1  # drawn larger and reduced: smooth edges
        self._side = max(24, self._factor * min(size))
        self._masters: dict = {}

    def draw(self, labels, names, poses: np.ndarray, outline: bool = False) -> np.ndarray:
        """Masks `(num, height, width)` in 0..255."""
        out = np.empty((len(labels), *self.size), np.uint8)
        for i, (label, name) in enumerate(zip(labels, names, strict=True)):
            out[i] = self._posed(self._master(name, int(label), outline), poses[i])
        return out

    def _posed(self, master: Image.Image, pose: np.ndarray) -> Image.Image:
        """The affine map takes an output point back to the master's."""
        angle, dx, dy, zoom = pose
        height, width = (self._factor * s for s in self.size)
        ratio = self._side / (min(height, width) * zoom)
        cos, sin = math.cos(angle) * ratio, math.sin(angle) * ratio
        x, y = width / 2 + dx * min(height, width), height / 2 + dy * min(height, width)
        middle = self._side / 2
        data = (cos, sin, middle - cos * x - sin * y, -sin, cos, middle + sin * x - cos * y)
        large = master.transform((width, height), Image.AFFINE, data, Image.BILINEAR)
        return large.reduce(self._factor) if self._factor > 1 else large

    def _master(self, name: str, label: int, outline: bool) -> Image.Image:
        key = name, label, outline
        if key not in self._masters:
            self._masters[key] = self._make_master(name, label, outline)
        return self._masters[key]

    def _make_master(self, name: str, label: int, outline: bool) -> Image.Image:
        if outline:
            fill = self._master(name, label, False)
            width = 2 * max(1, round(self._side / 64)) + 1
            inner = fill.filter(ImageFilter.MinFilter(width))
            edge = np.asarray(fill, np.int16) - np.asarray(inner, np.int16)
            return Image.fromarray(edge.astype(np.uint8))
        character, font = self.characters[label], _sized_font(name, self.characters, self._side)
        box = font.getbbox(character)
        master = Image.new("L", (self._side, self._side))
        at = [(self._side - box[i] - box[i + 2]) / 2 for i in (0, 1)]
        ImageDraw.Draw(master).text(at, character, fill=255, font=font)
        return master


@functools.lru_cache(maxsize=256)
def _sized_font(name: str, characters: str, side: int) -> ImageFont.FreeTypeFont:
    """A font so large that its largest character fills three quarters of the side."""
    path = str(_font_folder() / f"{name}.ttf")
    try:
        trial = ImageFont.truetype(path, 100)
    except OSError as error:
        raise DatasetError(
            f"matplotlib's font {name} cannot be opened ({error}). Reinstall matplotlib, or name "
            f"other fonts with the option fonts."
        ) from error
    boxes = [trial.getbbox(c) for c in characters]
    blank = [c for c, b in zip(characters, boxes, strict=True) if b[2] <= b[0] or b[3] <= b[1]]
    blank += _missing(trial, characters)
    if blank:
        raise DatasetError(f"The font {name} has no visible glyph for {blank}; leave them out.")
    extent = max(max(b[2] - b[0], b[3] - b[1]) for b in boxes)
    return ImageFont.truetype(path, max(4, round(100 * 0.74 * side / extent)))


def _missing(font: ImageFont.FreeTypeFont, characters: str) -> list[str]:
    """Characters that the font draws as its box for unknown ones."""
    unknown = bytes(font.getmask("\U0010fffe"))
    return [c for c in characters if bytes(font.getmask(c)) == unknown]


def _font_folder() -> Path:
    try:
        import matplotlib
    except ImportError as error:
        raise DatasetError(
            "The glyphs are drawn with matplotlib's fonts: pip install matplotlib."
        ) from error
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def _colour(mask: np.ndarray, ink: np.ndarray, ground: np.ndarray, channels: int) -> np.ndarray:
    """Masks to pictures `(num, height, width, channels)`: ink where the mask is 255.

    A table of the 256 mixtures per pair of colours: a look-up is quicker than arithmetic.
    """
    out = np.empty((*mask.shape, channels), np.uint8)
    tables: dict = {}
    for i, colors in enumerate(zip(map(tuple, ink), map(tuple, ground), strict=True)):
        if colors not in tables:
            tables[colors] = _mixtures(*colors, channels)
        np.take(tables[colors], mask[i], axis=0, out=out[i], mode="clip")
    return out


def _mixtures(ink: tuple, ground: tuple, channels: int) -> np.ndarray:
    """From ground to ink in 256 steps, `uint8` `(256, channels)`."""
    if channels == 1:
        ink, ground = ([_luma(color)] for color in (ink, ground))
    return np.rint(np.linspace(ground, ink, 256)).astype(np.uint8)


def _luma(rgb: tuple) -> float:
    return float(np.dot(rgb, [0.299, 0.587, 0.114]))


def _caption(characters: str, character: str, font: str, color: str) -> str:
    cases = {c.isupper() for c in characters if c.isalpha()}
    if character.isdigit():
        noun = "digit"
    elif not character.isalpha():
        noun = "character"
    elif len(cases) == 2:
        noun = "capital letter" if character.isupper() else "small letter"
    else:
        noun = "letter"
    words = " ".join(filter(None, [color, FONTS[font], noun, character.lower()]))
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _channels(request: Request, inks: tuple) -> int:
    coloured = request.view in ("paired", "unpaired") or inks != (("", (255, 255, 255)),)
    return request.channels or (3 if coloured else 1)


def _palettes(colors: bool | dict | None, request: Request) -> tuple[tuple, tuple]:
    """Inks and grounds as tuples of (name, RGB)."""
    if colors and request.channels == 1:
        raise DatasetError("colors needs three channels: leave out channels=1 or colors.")
    if colors is None:
        colors = request.view == "captioned" and request.channels != 1
    if colors is True:
        colors = {"foreground": PALETTE}
    elif colors is False:
        return (("", (255, 255, 255)),), (("", (0, 0, 0)),)
    if not isinstance(colors, dict) or not set(colors) <= {"foreground", "background"}:
        raise DatasetError(
            f'colors must be True, False or {{"foreground": [...], "background": [...]}}, '
            f"got {colors!r}."
        )
    inks, grounds = colors.get("foreground", PALETTE), colors.get("background", ("black",))
    return tuple(map(_named_color, inks)), tuple(map(_named_color, grounds))


def _named_color(color: Any) -> tuple[str, tuple]:
    if not isinstance(color, str):
        if len(color) != 3 or not all(0 <= c <= 255 for c in color):
            raise DatasetError(f"A colour is a name or three numbers in 0..255, got {color!r}.")
        return "", tuple(int(c) for c in color)
    try:
        return color, _RGB.get(color) or ImageColor.getrgb(color)[:3]
    except ValueError as error:
        raise DatasetError(f"Unknown colour {color!r}; use a CSS name or an RGB triple.") from error


def _table(palette: tuple) -> np.ndarray:
    return np.array([rgb for _, rgb in palette])


def _check_numbers(characters, rotation, jitter, num_examples) -> None:
    if not characters or len(set(characters)) != len(characters):
        raise DatasetError(f"characters must be different and not none, got {characters!r}.")
    if not 0 <= rotation <= 180 or not 0 <= jitter < 0.5:
        raise DatasetError(
            f"rotation must be in 0..180 degrees and jitter in [0, 0.5), got {rotation}, {jitter}."
        )
    if num_examples is not None and (not isinstance(num_examples, int) or num_examples < 1):
        raise DatasetError(f"num_examples must be a positive integer, got {num_examples!r}.")
