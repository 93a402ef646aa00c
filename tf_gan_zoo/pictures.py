"""Picture files in, picture files out: any kind of file, one or thousands, of any size.

Files are read upright (EXIF), their numbers as in training (`tf_gan_zoo.pixels`), but at full precision where
there are more than 8 bits. Gray pictures are repeated for networks that take colours, colours are weighted
for networks that take gray. Transparency does not go through the network: it sees the colours on white, as in
training; the result gets the alpha channel back, enlarged if need be, and colours which look on white as the
network made them.

Results are PNG with 8 bits per channel, or what `tf_gan_zoo.image_writing` knows besides. They are written
under another name and renamed when they are whole, so whatever has its final name is finished, and a run that
was stopped goes on with the others. What cannot be read, converted or written is reported and passed over.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tf_gan_zoo import image_writing
from tf_gan_zoo.files import opened, remove_unfinished
from tf_gan_zoo.image_files import ImageFileError, load_image
from tf_gan_zoo.image_writing import KINDS, Kind
from tf_gan_zoo.paths import expand
from tf_gan_zoo.picture_names import PictureError, picture_files, plan
from tf_gan_zoo.pixels import PixelError, ValueWindow, to_pixels

Range = tuple[float, float]
Size = tuple[int, int]

#: Weights of red, green and blue in gray (ITU-R BT.601), as in Pillow.
_LUMA = np.array([0.299, 0.587, 0.114], "float32")
#: Networks that halve their maps get at least this side, since they mirror a few pixels of the smallest map.
_LEAST_SIDE = 16
#: Rows of a result that become bytes at a time.
_ROWS = 256


#: What the system says where one file is at fault, and the next one may be written.
_OF_ONE_FILE = (
    errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.ELOOP,
    errno.EFBIG,
)  # fmt: skip

__all__ = [
    "Conversion", "Outcome", "Picture", "PictureError", "convert", "convert_files", "picture_files", "plan",
    "read", "read_pixels", "resized", "with_channels",
]  # fmt: skip


# -------------------------------------------------------------------- reading


@dataclass(frozen=True)
class Picture:
    """What a file holds.

    Attributes:
        pixels: float32 (height, width, 1 or 3) in [0, 1]; what is transparent lies on white.
        alpha: float32 (height, width) in [0, 1], or None where all is opaque.
        profile: the colour profile (ICC) of these channels, or None.
        flat: whether next to nothing can be seen; see `pixels.Pixels`.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    profile: bytes | None = None
    flat: bool = False


def read(path: str | Path, value_window: ValueWindow = None, allow_large: bool = False) -> Picture:
    """Reads one picture file.

    Args:
        path: the file.
        value_window: the values that become black and white; see `tf_gan_zoo.pixels`.
        allow_large: whether it may be larger than the limits of `tf_gan_zoo.image_files`.

    Raises:
        PictureError: if the file is not a whole picture.
    """
    try:
        return _decoded(load_image(expand(path), allow_large=allow_large), value_window)
    except (ImageFileError, PixelError) as error:
        raise PictureError(f"{str(path)!r} cannot be read as a picture: {error}") from None


def _decoded(image: Image.Image, window: ValueWindow) -> Picture:
    profile = None if image.mode in ("CMYK", "LAB") else image.info.get("icc_profile")
    pixels = to_pixels(image, window)
    return Picture(pixels.values, pixels.alpha, profile, pixels.flat)


def read_pixels(
    path: str | Path, *, size: Size | None = None, channels: int = 3, value_range: Range = (-1.0, 1.0),
    value_window: ValueWindow = None,
) -> np.ndarray:  # fmt: skip
    """One picture file as float32 (1, height, width, channels) in `value_range`, transparency on white.

    Args:
        path: the file.
        size: (height, width) to resize to; None keeps the picture's.
        channels: 1 for gray, 3 for RGB.
        value_range: lowest and highest value of a pixel.
        value_window: the file's values that become these two; see `tf_gan_zoo.pixels`.

    Raises:
        PictureError: if the file is not a picture.
    """
    pixels = with_channels(read(path, value_window).pixels, channels)
    low, high = value_range
    return (pixels if size is None else resized(pixels, size))[None] * (high - low) + low


def with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Pixels (height, width, 1 or 3) as gray (1) or RGB (3)."""
    if pixels.shape[-1] == channels:
        return pixels
    return (pixels @ _LUMA)[..., None] if channels == 1 else np.repeat(pixels, channels, axis=-1)


def resized(pixels: np.ndarray, size: Size) -> np.ndarray:
    """Pixels (height, width, channels) in [0, 1] at another size: bicubic, antialiased when smaller."""
    if pixels.shape[:2] == tuple(size):
        return pixels
    maps = [Image.fromarray(np.ascontiguousarray(pixels[..., k])) for k in range(pixels.shape[-1])]
    enlarged = [np.asarray(channel.resize(size[::-1], Image.BICUBIC)) for channel in maps]
    return np.clip(np.stack(enlarged, axis=-1), 0, 1)


# -------------------------------------------------------------------- converting one picture


@dataclass(frozen=True)
class Conversion:
    """A network as picture files need it.

    Attributes:
        function: float32 (1, height, width, channels), and a callback for progress or None ->
            (1, scale height, scale width, any channels).
        channels: of the function's input.
        input_range: its lowest and highest value.
        output_range: those of the result.
        multiple_of: height and width must be multiples of this; pictures are continued by reflection, and
            results cut back.
        size: to which pictures are resized first: (height, width), the length of the shorter side, or None
            for their own size.
        gray_stays_gray: results for gray pictures are gray, too.
        value_window: values of files that become black and white; see `tf_gan_zoo.pixels`.
    """

    function: Callable[..., np.ndarray]
    channels: int = 3
    input_range: Range = (-1.0, 1.0)
    output_range: Range = (-1.0, 1.0)
    multiple_of: int = 1
    size: Size | int | None = None
    gray_stays_gray: bool = False
    value_window: ValueWindow = None


def convert(
    conversion: Conversion, picture: Picture, on_tile: Callable[[int, int], None] | None = None,
    kind: Kind = KINDS["png"],
) -> np.ndarray:  # fmt: skip
    """Sends a picture through a network.

    Args:
        conversion: the network.
        picture: any picture.
        on_tile: called for large pictures with the number of pieces done and that of all.
        kind: of the file that it is for.

    Returns:
        (height, width, channels) in the kind's dtype: gray or RGB, with alpha as last channel if the picture
        and the kind have it.
    """
    pixels, alpha = picture.pixels, picture.alpha
    if conversion.size is not None:
        pixels = resized(pixels, _target_size(pixels.shape[:2], conversion.size))
    result = _through_network(conversion, with_channels(pixels, conversion.channels), on_tile)
    if conversion.gray_stays_gray and pixels.shape[-1] == 1:
        result = result.mean(axis=-1, keepdims=True)
    alpha = resized(alpha[..., None], result.shape[:2]) if alpha is not None and kind.alpha else None
    return _as_numbers(result, conversion.output_range, alpha, np.dtype(kind.dtype))


def _target_size(size: Size, wanted: Size | int) -> Size:
    if not isinstance(wanted, int):
        return tuple(wanted)
    return tuple(max(round(side * wanted / min(size)), 1) for side in size)


def _through_network(conversion: Conversion, pixels: np.ndarray, on_tile: Any) -> np.ndarray:
    """The result in the network's range, cut to the part that belongs to the picture."""
    height, width = pixels.shape[:2]
    low, high = conversion.input_range
    padded = _continued(pixels * (high - low) + low, conversion.multiple_of)
    result = conversion.function(padded[None], on_tile)[0]
    scale = result.shape[0] / padded.shape[0]
    return result[: round(height * scale), : round(width * scale)]


def _continued(pixels: np.ndarray, multiple_of: int) -> np.ndarray:
    """Reflected at the right and lower border until the sides are multiples."""
    least = _LEAST_SIDE if multiple_of > 1 else 1
    sides = [-(-max(side, least) // multiple_of) * multiple_of for side in pixels.shape[:2]]
    missing = [(0, wanted - side) for wanted, side in zip(sides, pixels.shape[:2])]
    return np.pad(pixels, [*missing, (0, 0)], mode="reflect") if any(m for _, m in missing) else pixels


def _as_numbers(
    result: np.ndarray, value_range: Range, alpha: np.ndarray | None, dtype: np.dtype
) -> np.ndarray:
    """A result in a file's numbers, a few rows at a time: it may be most of the memory."""
    low, high = value_range
    height, width, channels = result.shape
    picture = np.empty((height, width, channels + (alpha is not None)), dtype)
    for top in range(0, height, _ROWS):
        rows = slice(top, top + _ROWS)
        colours = np.clip((result[rows] - low) / (high - low), 0, 1)
        if alpha is not None:
            # What lies on white so that colours * alpha + 1 - alpha is the result.
            covered = np.maximum(alpha[rows], 1 / 255)
            colours = np.clip((colours - 1 + covered) / covered, 0, 1)
            picture[rows, :, -1:] = _scaled(alpha[rows], dtype)
        picture[rows, :, :channels] = _scaled(colours, dtype)
    return picture


def _scaled(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Values from 0 to 1 over the whole range of integers, as they are for floats."""
    return np.rint(values * np.iinfo(dtype).max) if dtype.kind == "u" else values


# -------------------------------------------------------------------- files


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Attributes:
        source: the picture.
        target: the file of its result.
        status: "written", "exists" (there already, left as it is), "unreadable", or "failed" where the
            picture could not be converted or its result not be written.
        problem: why there is no result.
        flat: whether next to nothing can be seen in the picture.
    """

    source: Path
    target: Path
    status: str
    problem: str = ""
    flat: bool = False


def convert_files(
    conversion: Conversion, files: Sequence[Path], targets: Sequence[Path], *, kind: Kind = KINDS["png"],
    overwrite: bool = False, allow_large: bool = False, on_tile: Callable[[int, int], None] | None = None,
) -> Iterator[Outcome]:  # fmt: skip
    """Converts files one after the other; only one picture is in memory at a time.

    Args:
        conversion: the network.
        files: the pictures.
        targets: files for the results, one per picture, as `plan` names them; folders are made.
        kind: format and depth of the results.
        overwrite: convert pictures whose result is there already, and let results replace their pictures.
        allow_large: whether pictures may be larger than the limits of `tf_gan_zoo.image_files`.
        on_tile: called within a large picture with the number of pieces done and that of all.

    Yields:
        What became of each file, when it is done.

    Raises:
        PictureError: before the first picture, if a result would replace a picture and `overwrite` is False.
        OSError: if the next results could not be written either, such as on a full disk.
    """
    originals = {os.path.realpath(file) for file in files}
    replaced = [target for target in targets if os.path.realpath(target) in originals]
    if replaced and not overwrite:
        raise PictureError(
            f"the result would replace the picture {str(replaced[0])!r}: give a suffix or another folder, or "
            "say overwrite."
        )
    for folder in {target.parent for target in targets}:
        remove_unfinished(folder)
    options = (kind, overwrite, allow_large, on_tile)
    return (_convert_file(conversion, *pair, *options) for pair in zip(files, targets))


def _convert_file(
    conversion: Conversion, file: Path, target: Path, kind: Kind, overwrite: bool, allow_large: bool,
    on_tile: Any,
) -> Outcome:  # fmt: skip
    if target.is_file() and not overwrite:
        return Outcome(file, target, "exists")
    try:
        picture = read(file, conversion.value_window, allow_large)
    except PictureError as error:
        return Outcome(file, target, "unreadable", str(error))
    flat = picture.flat
    try:
        _convert_into(conversion, picture, target, kind, on_tile)
    except Exception as error:  # a network may refuse a picture in many ways, or find no memory for it
        if isinstance(error, OSError) and error.errno not in (None, *_OF_ONE_FILE):
            raise
        what = f"{type(error).__name__}: {error}".partition("\n")[0]
        problem = f"{str(file)!r} could not become {str(target)!r}: {what}"
        return Outcome(file, target, "failed", problem, flat)
    return Outcome(file, target, "written", flat=flat)


def _convert_into(conversion: Conversion, picture: Picture, target: Path, kind: Kind, on_tile: Any) -> None:
    """Opens the target first: where nothing can be written, nothing need be computed."""
    with opened(target) as file:
        converted = convert(conversion, picture, on_tile, kind)
        channels = converted.shape[-1] - (kind.alpha and picture.alpha is not None)
        profile = picture.profile if channels == picture.pixels.shape[-1] else None
        image_writing.encode(converted, file, kind, profile)
