"""What the numbers in an image file mean: any mode and depth to gray or RGB from 0 to 1.

One rule, for training as for `translate` and `upscale`: **black is the lowest and white the highest value
that the file's type can hold.**

    8 bits a channel (L, RGB, CMYK...)   0 to 255
    1 bit                                0 to 1
    unsigned 16 bits, 12 bits            0 to 65535, 0 to 4095
    signed 16 bits                       -32768 to 32767
    signed, unsigned 32 bits             -2147483648 to 2147483647, 0 to 4294967295
    floating point                       0 to 1; values outside are an error, as is NaN

Measured data seldom fill their type: 12 bits of a camera in a 16-bit file come out almost black. For them
`value_window` says which values become black and white, in the file's own numbers, e.g. `(0, 4095)`; what
lies outside is cut off. "min_max" takes each image's own lowest and highest value, all channels together.

Modes 1, L, LA, La, I, I;16 and F are gray; palettes (P, PA), CMYK, YCbCr, LAB and HSV become RGB.
Transparency, be it a channel, a transparent color or a palette's, is put on white. Colors have 8 bits: Pillow
reads no more of 16-bit RGB, and no RGB in floating point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image

#: Values that become black and white; "min_max" for each image's own; None for the range of the file's type.
ValueWindow = tuple[float, float] | Literal["min_max"] | None

#: Where `note_type` keeps the range of a file's type, since Pillow forgets it when an image is turned.
_TYPE = "range of type"
_WIDE_MODES = ("I", "F")
_GRAY_MODES = ("1", "L", "LA", "La")
_INT32 = (-(2.0**31), 2.0**31 - 1)
#: Rounding may leave the range of floating-point images by this much.
_SLACK = 1e-3
#: Images with more than 8 bits whose values span no more of the range than this are nearly constant.
_LEAST_SPREAD = 1 / 16


class PixelError(ValueError):
    """Numbers that cannot be shown as an image; the message says what to do."""


@dataclass(frozen=True)
class Pixels:
    """An image as numbers.

    Attributes:
        values: float32 (height, width, 1 or 3) in [0, 1]; what is transparent lies on white.
        alpha: float32 (height, width) in [0, 1], or None where all is opaque.
        flat: whether next to nothing can be seen of what the file holds: all values became the same, or,
            from more than 8 bits, lie within a sixteenth of the range.
    """

    values: np.ndarray
    alpha: np.ndarray | None = None
    flat: bool = False


def check_window(window: Any) -> ValueWindow:
    """A `ValueWindow` from what a user gave.

    Raises:
        PixelError: if it is none.
    """
    if window is None or isinstance(window, str) and window == "min_max":
        return window
    pair = tuple(window) if isinstance(window, (tuple, list)) else ()
    numbers = all(isinstance(v, (int, float, np.number)) and np.isfinite(v) for v in pair)
    if len(pair) != 2 or not numbers or not pair[0] < pair[1]:
        raise PixelError(
            f'value_window must be (low, high) with low < high, or "min_max", got {window!r}. Give the '
            "values that shall become black and white, in the numbers of the files."
        )
    return float(pair[0]), float(pair[1])


def note_type(image: Image.Image) -> None:
    """Keeps with an image just opened what its file's type can hold, for `to_pixels`."""
    if image.mode.startswith(_WIDE_MODES):
        image.info[_TYPE] = _range_in_file(image)


def is_plain(image: Image.Image) -> bool:
    """Whether it is opaque gray or RGB with 8 bits, which is what `to_pixels` makes of it anyway."""
    return image.mode in ("L", "RGB") and "transparency" not in image.info


def to_pixels(image: Image.Image, window: ValueWindow = None) -> Pixels:
    """Any image that Pillow opens as gray or RGB.

    Args:
        image: decoded; `note_type` has seen it when it was opened.
        window: the values that become black and white.

    Raises:
        PixelError: for floating-point values outside [0, 1] without a window, or that are not finite.
    """
    if image.mode.startswith(_WIDE_MODES):
        return _wide(image, window)
    alpha, gray = None, image.mode in _GRAY_MODES
    if image.has_transparency_data:
        image = _with_alpha(image)
        alpha = np.asarray(image.getchannel("A"), "float32") / 255
    colors = np.asarray(image.convert("RGB"))[..., : 1 if gray else 3]
    shown, alpha = _on_white(scaled(colors, window), alpha)
    return Pixels(shown, alpha, flat=_spread(shown) == 0 and _spread(np.asarray(image)) > 0)


def to_bytes(image: Image.Image, window: ValueWindow = None) -> tuple[Image.Image, bool]:
    """`to_pixels` rounded to 8 bits, as an image of mode "L" or "RGB", and whether it is flat."""
    if window is None and is_plain(image):
        return image, False
    pixels = to_pixels(image, window)
    rounded = np.rint(pixels.values * 255).astype(np.uint8)
    return Image.fromarray(rounded[..., 0] if rounded.shape[-1] == 1 else rounded), pixels.flat


def scaled(numbers: np.ndarray, window: ValueWindow, full: tuple[float, float] = (0, 255)) -> np.ndarray:
    """Numbers of one image to float32 in [0, 1]: the window, or else the full range; cut off outside."""
    low, high = full if window is None else window if window != "min_max" else _extrema(numbers)
    if low == high:
        return np.zeros(numbers.shape, "float32")
    # Wide integers have more digits than float32.
    numbers = numbers.astype("float64" if numbers.dtype.itemsize > 2 else "float32")
    return np.clip((numbers - low) / (high - low), 0, 1).astype("float32")


def advice(flat: Sequence[str]) -> str:
    """One sentence on images in which next to nothing can be seen, named by their files."""
    more = f" and {len(flat) - 1} more" if len(flat) > 1 else ""
    return (
        f"{len(flat)} image(s) are constant or nearly so when their type's range goes from black to white: "
        f"{flat[0]}{more}. If they hold measured data, give value_window=(low, high) in their own numbers, "
        'or "min_max".'
    )


# -------------------------------------------------------------------- more than 8 bits


def _wide(image: Image.Image, window: ValueWindow) -> Pixels:
    """Gray with more than 8 bits: modes I, I;16 and its kin, F."""
    low, high = image.info.get(_TYPE) or _range_of_mode(image.mode)
    numbers = np.asarray(image)[..., None]
    if high > _INT32[1]:  # Pillow has no unsigned 32 bits
        numbers = numbers.view(np.uint32)
    _check_finite(numbers)
    if window is None and image.mode.startswith("F"):
        _check_inside(numbers)
    key = image.info.get("transparency")
    alpha = None if key is None else np.asarray(numbers[..., 0] != key, "float32")
    shown, alpha = _on_white(scaled(numbers, window, (low, high)), alpha)
    return Pixels(shown, alpha, flat=_spread(shown) <= (_LEAST_SPREAD if window is None else 0))


def _range_in_file(image: Image.Image) -> tuple[float, float]:
    """What the numbers in a file can be, from its header where the mode does not tell."""
    tags = getattr(image, "tag_v2", None)
    if image.mode.startswith("F") or tags is None:
        # Pillow scales PGM of any depth to 16 bits and once read 16-bit PNG in mode I.
        known = image.mode != "I" or image.format in (None, "IM")
        return _range_of_mode(image.mode) if known else (0.0, 65535.0)
    bits, signed = tags.get(258, (16,))[0], tags.get(339, (1,))[0] == 2
    return (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if signed else (0.0, 2.0**bits - 1)


def _range_of_mode(mode: str) -> tuple[float, float]:
    return {"I": _INT32, "F": (0.0, 1.0)}.get(mode, (0.0, 65535.0))


def _check_finite(numbers: np.ndarray) -> None:
    bad = numbers.size - int(np.isfinite(numbers).sum())
    if bad:
        raise PixelError(f"holds {bad} values that are NaN or infinite; replace them")


def _check_inside(numbers: np.ndarray) -> None:
    low, high = _extrema(numbers)
    if low < -_SLACK or high > 1 + _SLACK:
        raise PixelError(
            f"holds floating-point values from {low:g} to {high:g}, expected 0 to 1: give "
            'value_window=(low, high), the values that become black and white, or "min_max"'
        )


# -------------------------------------------------------------------- transparency


def _with_alpha(image: Image.Image) -> Image.Image:
    """Mode "RGBA", whatever says what is transparent."""
    key = image.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 255:  # of 16-bit colors, of which Pillow reads 8 bits
        image = image.copy()
        image.info["transparency"] = tuple(value >> 8 for value in key)
    if image.mode == "La":
        image = image.convert("LA")
    return image.convert("RGBA")


def _on_white(values: np.ndarray, alpha: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """What is seen on white, and alpha where it matters."""
    if alpha is None or alpha.min() == 1:
        return values, None
    return values * alpha[..., None] + (1 - alpha[..., None]), alpha


def _extrema(numbers: np.ndarray) -> tuple[float, float]:
    return float(numbers.min()), float(numbers.max())


def _spread(numbers: np.ndarray) -> float:
    """The largest difference within one channel."""
    low, high = (np.float64(f(numbers, axis=(0, 1))) for f in (np.min, np.max))
    return float(np.max(high - low))
