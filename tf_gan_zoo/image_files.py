"""The one place where image files are opened: known formats, bounded sizes, one kind of error.

Pillow tells formats by their content, whatever a file is called, and hands some of them to other programs: an
EPS file named `cat.png` would start Ghostscript. Only the formats in `FORMATS` are decoded here, all of them
by Pillow itself. Left out are EPS (Ghostscript), WMF (Windows draws it), BUFR, GRIB, HDF5 and MPEG (no
decoder), FITS (unpacked without a bound), IPTC (wraps other formats), and what has no usual ending.

A small file can hold an image that fills the memory, so sizes are checked before anything is decoded.
"""

from __future__ import annotations

import collections
import functools
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageOps

from tf_gan_zoo.pixels import note_type

FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".pbm", ".pgm", ".ppm", ".pnm", ".pfm"),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".jpc", ".jpf", ".jpx", ".j2c"),
    "BLP": (".blp",),
    "CUR": (".cur",),
    "DCX": (".dcx",),
    "DDS": (".dds",),
    "DIB": (".dib",),
    "FLI": (".fli", ".flc"),
    "FTEX": (".ftc", ".ftu"),
    "GBR": (".gbr",),
    "ICNS": (".icns",),
    "ICO": (".ico",),
    "IM": (".im",),
    "MSP": (".msp",),
    "PCD": (".pcd",),
    "PCX": (".pcx",),
    "PIXAR": (".pxr",),
    "PSD": (".psd",),
    "QOI": (".qoi",),
    "SGI": (".sgi", ".bw", ".rgb", ".rgba"),
    "SUN": (".ras",),
    "TGA": (".tga", ".icb", ".vda", ".vst"),
    "XBM": (".xbm",),
    "XPM": (".xpm",),
}
"""Pillow's names of the formats that are opened, and the endings of their files."""

EXTENSIONS = tuple(sorted(ending for endings in FORMATS.values() for ending in endings))
"""The endings by which files in folders are taken for images, in lower case."""

USUAL_EXTENSIONS = f".jpg, .png, .webp, .gif, .bmp, .tif, .avif or one of {len(EXTENSIONS) - 7} others"
"""For messages."""

MAX_PIXELS = 2**26
"""Pixels of the largest image that is opened unasked, e.g. 8192x8192."""

MAX_BYTES = 2**29
"""Bytes of the largest file that is opened unasked: an image of `MAX_PIXELS` in RGBA with 16 bits."""

#: Formats without a signature: any bytes could be one, so they are tried for files with their ending only.
_UNSIGNED = ("IM", "PCD", "TGA")
#: EXIF orientations that lay an image on its side.
_TURNED = (5, 6, 7, 8)
#: How chunks of PNG files begin that hold an orientation.
_PNG_EXIF = (
    b"eXIf", b"tEXtRaw profile type exif", b"zTXtRaw profile type exif", b"iTXtRaw profile type exif",
    b"iTXtXML:com.adobe.xmp",
)  # fmt: skip
_PILLOW_LIMIT = threading.Lock()


class ImageFileError(ValueError):
    """A file that is not a whole image of a known format, or too large; the message says which and why."""


def open_image(file: str | Path | BinaryIO, *, allow_large: bool = False) -> Image.Image:
    """Opens an image file; its pixels are decoded when they are asked for.

    Args:
        file: a path, or a file object that can seek.
        allow_large: whether it may have more than `MAX_PIXELS` pixels or `MAX_BYTES` bytes.

    Returns:
        Pillow's image, which is a context manager that closes the file.

    Raises:
        ImageFileError: if it is not an image of one of the `FORMATS`, or larger than allowed.
    """
    try:
        if isinstance(file, (str, os.PathLike)):
            _check_file(Path(file), allow_large)
        image = _open(file, allow_large)
    except ImageFileError:
        raise
    except Exception as error:  # on damaged files Pillow raises almost anything
        raise ImageFileError(_reason(error)) from error
    try:
        _check_pixels(image.size, allow_large)
    except ImageFileError:
        image.close()
        raise
    return image


def load_image(
    file: str | Path | BinaryIO, *, allow_large: bool = False, at_least: tuple[int, int] | None = None
) -> Image.Image:
    """Opens, decodes and closes an image file, and turns it upright (EXIF).

    Args:
        file: a path, or a file object that can seek.
        allow_large: as for `open_image`.
        at_least: (height, width) that are enough; JPEG files may then be decoded at a half, a quarter or an
            eighth of their size, which is still at least this in both directions whatever the orientation.

    Raises:
        ImageFileError: if it is not a whole image of one of the `FORMATS`, or larger than allowed.
    """
    with open_image(file, allow_large=allow_large) as image:
        try:
            if at_least is not None:
                image.draft(None, (max(at_least), max(at_least)))
            image.load()
            note_type(image)
            _check_pixels(image.size, allow_large)  # icons hold images that may be larger than they say
            return ImageOps.exif_transpose(image)
        except ImageFileError:
            raise
        except Exception as error:  # on damaged files Pillow raises almost anything
            raise ImageFileError(_reason(error)) from error


def image_size(file: str | Path | BinaryIO, *, allow_large: bool = False) -> tuple[int, int]:
    """(height, width) of an image as it is shown (EXIF), without decoding its pixels.

    Raises:
        ImageFileError: as `open_image`.
    """
    with open_image(file, allow_large=allow_large) as image:
        try:
            turned = _has_exif(image) and image.getexif().get(0x0112) in _TURNED
        except Exception as error:  # on damaged files Pillow raises almost anything
            raise ImageFileError(_reason(error)) from error
        return image.size if turned else image.size[::-1]


def list_images(folder: Path) -> tuple[list[Path], dict[str, int]]:
    """The image files at any depth below a folder, and a count of what is passed over.

    Links are followed once. Files and folders that begin with "." and folders that begin with "__" are
    hidden: systems and editors leave them.

    Returns:
        Sorted paths below the folder; what -> how many for all other files.
    """
    found, others, hidden, seen = [], [], collections.Counter(), set()
    for base, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(base)
        if real in seen:
            folders.clear()
            hidden["folders that links lead to again"] += 1
            continue
        seen.add(real)
        shown = [f for f in folders if not f.startswith((".", "__"))]
        hidden["hidden folders"] += len(folders) - len(shown)
        folders[:] = sorted(shown)  # of two links to one folder, the same one is followed each time
        for name in files:
            if name.startswith("."):
                hidden["hidden files"] += 1
            else:
                (found if is_image(name) else others).append(Path(base, name).relative_to(folder))
    if others:
        endings = collections.Counter(name.suffix.lower() or "no ending" for name in others)
        hidden[f"other files ({', '.join(e for e, _ in endings.most_common(5))})"] = len(others)
    return sorted(found), {what: count for what, count in hidden.items() if count}


def is_image(name: str) -> bool:
    """Whether a file's name has the ending of an image."""
    return name.lower().endswith(EXTENSIONS)


def _open(file: str | Path | BinaryIO, allow_large: bool) -> Image.Image:
    name = file if isinstance(file, (str, os.PathLike)) else getattr(file, "name", "")
    formats = _formats(Path(str(name)).suffix.lower())
    if not allow_large:
        return Image.open(file, formats=formats)
    with _PILLOW_LIMIT:  # Pillow has a limit of its own, for the whole process
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file, formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


@functools.cache
def _formats(ending: str) -> list[str]:
    """The formats that a file with this ending may have, as far as this Pillow knows them."""
    Image.init()
    known = [name for name in FORMATS if name in Image.OPEN]
    return [name for name in known if name not in _UNSIGNED or ending in FORMATS[name]]


def _has_exif(image: Image.Image) -> bool:
    """Whether there may be EXIF data; for PNG, Pillow decodes the whole image to look behind the pixels."""
    if image.format != "PNG" or "exif" in image.info:
        return True
    position = image.fp.tell()
    try:
        return any(chunk.startswith(_PNG_EXIF) for chunk in _png_chunks(image.fp))
    finally:
        image.fp.seek(position)


def _png_chunks(file: BinaryIO) -> Iterator[bytes]:
    """How each chunk begins: its name and up to 32 bytes."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length = int.from_bytes(head[:4], "big")
        start = file.read(min(length, 32))
        yield head[4:] + start
        file.seek(length - len(start) + 4, os.SEEK_CUR)


def _check_file(path: Path, allow_large: bool) -> None:
    """Refuses what is no regular file (reading a named pipe would wait for ever), and too many bytes."""
    if path.is_symlink() and not path.exists():
        raise ImageFileError(f"is a link to {os.readlink(path)}, which is not there")
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        kind = "folder" if stat.S_ISDIR(status.st_mode) else "device or pipe"
        raise ImageFileError(f"is a {kind}, not a file")
    if status.st_size > MAX_BYTES and not allow_large:
        raise ImageFileError(
            f"has {status.st_size:,} bytes, more than the {MAX_BYTES:,} that are read unasked: allow_large "
            "(--allow-large) lifts the limit"
        )


def _check_pixels(size: tuple[int, int], allow_large: bool) -> None:
    width, height = size
    if width * height > MAX_PIXELS and not allow_large:
        raise ImageFileError(
            f"has {height}x{width} (height x width) = {height * width:,} pixels, more than the "
            f"{MAX_PIXELS:,} that are decoded unasked: allow_large (--allow-large) lifts the limit"
        )


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "is not there"
    if isinstance(error, Image.UnidentifiedImageError):
        return f"is not an image in a format that is opened ({', '.join(FORMATS)}), or is damaged"
    return f"cannot be decoded: {str(error) or type(error).__name__}"
