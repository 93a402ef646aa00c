"""Pictures from files and arrays: decoding, fitting to a size, keeping in memory.

Decoding goes through Pillow, which knows what people's folders hold: EXIF orientation, palettes,
alpha (composited over white), CMYK; `tf_gan_zoo.pixels` says what the numbers of every mode and
depth mean. Everything is kept as `uint8` until the last step of the pipeline.
"""

import concurrent.futures
import dataclasses
import io
import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from tf_gan_zoo.data.outlines import outline
from tf_gan_zoo.data.sources import DatasetError
from tf_gan_zoo.image_files import image_size, load_image
from tf_gan_zoo.pixels import ValueWindow, advice, scaled, to_bytes

CACHE_LIMIT = 2 * 1024**3
"""Bytes of decoded pictures that `cache="auto"` keeps in memory."""

Size = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class ImageFile:
    """A picture in a file.

    Attributes:
        path: The file.
        half: "left" or "right" for one half of an A|B picture.
        like: A file whose picture's size this one is resized to (the partner in a pair).
        outline: Whether a line drawing is made of it, once it has its size.
    """

    path: str
    half: str | None = None
    like: str | None = None
    outline: bool = False


@dataclasses.dataclass(frozen=True)
class Fit:
    """How a picture is brought to the size in which it is kept.

    Attributes:
        size: `(height, width)`, or `None` to keep the picture's own.
        channels: 1 or 3, or field name -> 1 or 3 where fields differ.
        crop: "center": shorter side resized, middle kept. "resize": both sides resized, whatever
            the aspect. "random": shorter side resized, nothing cut, so that each epoch can cut
            elsewhere. "keep": neither resized nor cut, but at least `size` large.
        window: Which values become black and white; see `tf_gan_zoo.pixels`.
        allow_large: Whether files may be larger than `image_files.MAX_PIXELS` and `MAX_BYTES`.
    """

    size: Size | None
    channels: int | Mapping[str, int]
    crop: str = "center"
    window: ValueWindow = None
    allow_large: bool = False

    def of_field(self, field: str) -> "Fit":
        """The same with the one number of channels that a field has."""
        if isinstance(self.channels, int):
            return self
        return dataclasses.replace(self, channels=self.channels[field])

    @property
    def enough(self) -> Size | None:
        """`(height, width)` at which files may be decoded reduced: half is lost by resizing anyway.

        `None` where every pixel counts.
        """
        if self.size is None or self.crop == "keep" or self.window == "min_max":
            return None
        return 2 * self.size[0], 2 * self.size[1]

    @property
    def same_size(self) -> bool:
        """Whether all pictures come out in one size."""
        return self.size is not None and self.crop in ("center", "resize")


def read_picture(
    file: ImageFile, window: ValueWindow = None, on_flat: Callable[[str], Any] | None = None, *,
    enough: Size | None = None, allow_large: bool = False,
) -> Image.Image:  # fmt: skip
    """Decodes a file to mode "L" or "RGB".

    Args:
        file: The file.
        window: Which values become black and white.
        on_flat: Called with the path if next to nothing can be seen.
        enough: `(height, width)` that the picture (or the half) needs; it may be decoded reduced.
        allow_large: As in `Fit`.

    Raises:
        ImageFileError: For a file that is not a whole picture.
        PixelError: For numbers that need a window.
    """
    if enough is not None:
        enough = None if file.like else (enough[0], enough[1] * (2 if file.half else 1))
    image = load_image(file.path, allow_large=allow_large, at_least=enough)
    picture, flat = to_bytes(image, window)
    if flat and on_flat is not None:
        on_flat(file.path)
    if file.half:
        picture = _half(picture, file.half)
    if file.like:
        size = image_size(file.like, allow_large=allow_large)[::-1]
        picture = picture if picture.size == size else picture.resize(size, Image.BICUBIC)
    return picture


def decode_bytes(data: bytes, fit: Fit) -> np.ndarray:
    """An encoded picture as it is stored, `uint8` `(height, width, channels)`."""
    image = load_image(io.BytesIO(data), allow_large=fit.allow_large, at_least=fit.enough)
    return fit_picture(to_bytes(image, fit.window)[0], fit)


def fit_picture(picture: Image.Image, fit: Fit) -> np.ndarray:
    """A flat picture as `uint8` `(height, width, channels)`, resized as `fit` says.

    Bicubic with antialiasing when it gets smaller.

    Raises:
        ValueError: If the picture is smaller than `fit.size` and must not be enlarged.
    """
    picture = picture.convert("L" if fit.channels == 1 else "RGB")
    if fit.size is not None:
        picture = _resize(picture, fit)
    array = np.asarray(picture, np.uint8)
    return array[..., None] if fit.channels == 1 else array


def _resize(picture: Image.Image, fit: Fit) -> Image.Image:
    size = fit.size[::-1]
    if fit.crop == "keep":
        if picture.width < size[0] or picture.height < size[1]:
            raise ValueError(
                f"is {picture.height}x{picture.width}, smaller than the crop of "
                f"{size[1]}x{size[0]} (height x width)"
            )
        return picture
    if picture.size == size:
        return picture
    if fit.crop == "resize":
        return picture.resize(size, Image.BICUBIC)
    if fit.crop == "center":
        return ImageOps.fit(picture, size, Image.BICUBIC)
    ratio = max(size[0] / picture.width, size[1] / picture.height)
    cover = [max(s, round(side * ratio)) for s, side in zip(size, picture.size, strict=True)]
    return picture.resize(cover, Image.BICUBIC)


def _half(picture: Image.Image, half: str) -> Image.Image:
    width = picture.width // 2
    if width == 0:
        raise ValueError("is one pixel wide and cannot hold an A|B pair")
    left = 0 if half == "left" else picture.width - width
    return picture.crop((left, 0, left + width, picture.height))


class Pictures:
    """Decoded pictures by index: all in memory, or decoded at each access.

    Attributes:
        size: `(height, width)` where all are equal, else `None`.
        flat: Files in which next to nothing can be seen, as far as they have been decoded.
    """

    def __init__(
        self, stored: np.ndarray | Sequence | None, load: Callable | None, num: int,
        flat: dict[str, None] | None = None,
    ):  # fmt: skip
        self._stored, self._load, self._num = stored, load, num
        self.flat = {} if flat is None else flat
        self._warned = False
        self.size = tuple(stored.shape[1:3]) if isinstance(stored, np.ndarray) else None

    def __len__(self) -> int:
        return self._num

    @property
    def in_memory(self) -> bool:
        """Whether the decoded pictures are kept."""
        return self._stored is not None

    def take(self, indices: np.ndarray) -> np.ndarray | list[np.ndarray]:
        """The pictures at these indices, one array where they have one size."""
        if isinstance(self._stored, np.ndarray):
            return self._stored[indices]
        if self._stored is not None:
            return [self._stored[i] for i in indices]
        return [self._substitute(int(i)) for i in indices]

    def _substitute(self, index: int) -> np.ndarray:
        """The picture, or the next readable one where the file has broken since the scan."""
        for offset in range(min(self._num, 100)):
            try:
                return self._noted(self._load((index + offset) % self._num))
            except _UNREADABLE as error:
                if offset == 0:
                    warnings.warn(f"Cannot be read, a neighbour stands in: {error}", stacklevel=2)
        raise DatasetError("100 pictures in a row cannot be read any more; check the disk.")

    def _noted(self, picture: np.ndarray) -> np.ndarray:
        """The same picture, after a warning if a first flat one was found since the scan."""
        if self.flat and not self._warned:
            self._warned = True
            warnings.warn(advice(list(self.flat)), stacklevel=2)
        return picture

    def flat_files(self) -> list[str]:
        """The flat files known by now, which need no further warning."""
        self._warned = bool(self.flat)
        return sorted(self.flat)


_UNREADABLE = (OSError, ValueError)


def prepare(
    column: np.ndarray | list[ImageFile] | Pictures, fit: Fit, cache: bool | str
) -> tuple[Pictures, dict[int, str]]:
    """Decodes a column (or scans it when it shall not be kept).

    Args:
        column: `uint8` array `(num, height, width, channels)`, a list of `ImageFile`, or pictures
            that are decoded and fitted already.
        fit: How pictures are stored.
        cache: True, False, or "auto" for up to `CACHE_LIMIT` bytes.

    Returns:
        The pictures, under the column's own indices, and the bad ones: index -> reason. Bad ones
        must not be taken.
    """
    if isinstance(column, Pictures):
        return column, {}
    if isinstance(column, np.ndarray):
        column = _bytes(column, fit.window)
        stored = _matching_array(column, fit)
        if stored is not None:
            return Pictures(stored, None, len(stored)), {}
        cache = True

    flat: dict[str, None] = {}

    def load(index: int) -> np.ndarray:
        return _load(column, index, fit, flat.setdefault)

    if cache is not True:
        num_bytes = _stored_bytes(load, len(column), required=not cache)
        cache = cache and num_bytes <= CACHE_LIMIT
    if not cache:
        return Pictures(None, load, len(column), flat), _scan(column, fit)
    shape = (*fit.size, fit.channels) if fit.same_size else None
    return _decode_all(load, len(column), shape, flat)


def picture_name(column: np.ndarray | list[ImageFile], index: int) -> str:
    """How to name a picture to the user."""
    return f"number {index}" if isinstance(column, np.ndarray) else column[index].path


def _matching_array(column: np.ndarray, fit: Fit) -> np.ndarray | None:
    """The array itself if it needs no resizing, with the wanted channels."""
    column = column[..., None] if column.ndim == 3 else column
    keep = fit.crop == "keep" and fit.size and np.all(np.array(column.shape[1:3]) >= fit.size)
    if not (fit.size is None or keep or tuple(column.shape[1:3]) == tuple(fit.size)):
        return None
    if column.shape[-1] == fit.channels:
        return column
    if column.shape[-1] == 1:
        return np.repeat(column, fit.channels, axis=-1)
    return None


def _bytes(column: np.ndarray, window: ValueWindow) -> np.ndarray:
    """An array of pictures with the window's values from 0 to 255, `uint8` as it is without a window."""
    if window is None:
        return column
    out = np.empty(column.shape, np.uint8)
    for index, picture in enumerate(column):
        out[index] = np.rint(scaled(picture, window) * 255)
    return out


def _load(
    column: np.ndarray | list[ImageFile], index: int, fit: Fit, on_flat: Callable[[str], Any]
) -> np.ndarray:
    if isinstance(column, np.ndarray):
        array = column[index]
        return fit_picture(Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array), fit)
    try:
        options = {"enough": fit.enough, "allow_large": fit.allow_large}
        picture = fit_picture(read_picture(column[index], fit.window, on_flat, **options), fit)
        return outline(picture) if column[index].outline else picture
    except _UNREADABLE as error:
        raise ValueError(f"{column[index].path} ({error})") from error


def _stored_bytes(load: Callable, num: int, required: bool) -> int:
    """What all pictures would take, estimated from a few of them, of which one is `required` to be good."""
    sizes, reason = [], ""
    for index in np.unique(np.linspace(0, num - 1, min(num, 8)).astype(int)):
        try:
            sizes.append(load(int(index)).nbytes)
        except _UNREADABLE as error:
            reason = reason or str(error)
    if required and not sizes and reason:
        raise DatasetError(f"None of the pictures that were tried can be used: {reason}.")
    return int(np.mean(sizes) * num) if sizes else 0


def _decode_all(
    load: Callable, num: int, shape: tuple | None, flat: dict[str, None]
) -> tuple[Pictures, dict]:
    array = np.empty((num, *shape), np.uint8) if shape else None
    ragged: list = [None] * num
    bad: dict[int, str] = {}

    def work(index: int) -> None:
        try:
            picture = load(index)
        except _UNREADABLE as error:
            bad[index] = str(error)
            return
        if array is None:
            ragged[index] = picture
        else:
            array[index] = picture

    in_threads(work, num, "decoding")
    if array is None:
        array = stack(ragged)
    return Pictures(ragged if array is None else array, None, num, flat), bad


def stack(pictures: list[np.ndarray | None]) -> np.ndarray | None:
    """One array where all pictures have one shape."""
    shapes = {picture.shape for picture in pictures if picture is not None}
    if len(shapes) != 1:
        return None
    blank = np.zeros(shapes.pop(), np.uint8)
    return np.stack([blank if picture is None else picture for picture in pictures])


def _scan(column: list[ImageFile], fit: Fit) -> dict[int, str]:
    """Opens every file without decoding it whole."""
    bad: dict[int, str] = {}
    sizes: dict[int, Size] = {}

    def work(index: int) -> None:
        try:
            sizes[index] = image_size(column[index].path, allow_large=fit.allow_large)
        except _UNREADABLE as error:
            bad[index] = f"{column[index].path} ({error})"

    in_threads(work, len(column), "checking")
    if fit.size is None:
        check_one_size(sizes, column)
    if fit.crop == "keep" and fit.size:
        small = {i: s for i, s in sizes.items() if s[0] < fit.size[0] or s[1] < fit.size[1]}
        bad |= {i: f"{column[i].path} (is {s[0]}x{s[1]}, too small)" for i, s in small.items()}
    return bad


def check_one_size(sizes: dict[int, Size], column: Sequence) -> None:
    """Refuses pictures of several sizes, which no batch can hold."""
    first = min(sizes, default=None)
    for index, size in sizes.items():
        if size != sizes[first]:
            raise DatasetError(
                f"The pictures differ in size: {picture_name(column, first)} is {sizes[first]} "
                f"and {picture_name(column, index)} is {size} (height, width). Give image_size."
            )


def in_threads(work: Callable[[int], None], num: int, what: str) -> None:
    """Runs `work` for every index on all cores; a progress line if it takes long."""
    progress = _Progress(what, num)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(work, range(num), chunksize=64), start=1):
            progress.update(done)
    progress.close()


class _Progress:
    """A line on stderr, from the third second on."""

    def __init__(self, what: str, total: int):
        self._what, self._total = what, total
        self._next, self._shown = time.monotonic() + 3.0, False

    def update(self, done: int) -> None:
        if time.monotonic() < self._next:
            return
        end = "" if sys.stderr.isatty() else "\n"
        sys.stderr.write(f"\r{self._what} pictures: {done:,} of {self._total:,}{end}")
        sys.stderr.flush()
        self._next, self._shown = time.monotonic() + (0.5 if not end else 10.0), True

    def close(self) -> None:
        if self._shown and sys.stderr.isatty():
            sys.stderr.write("\n")
