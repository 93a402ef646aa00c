"""Results as image files: format and depth as the name says, whole or not at all.

| kind    | ending                     | numbers                                                        |
|---------|----------------------------|----------------------------------------------------------------|
| `png`   | `.png`                     | 8 bits, with alpha                                             |
| `png16` | `.png`                     | 16 bits, with alpha                                            |
| `jpg`   | `.jpg`, `.jpeg`, `.jfif`   | 8 bits, quality 95; what is transparent lies on white          |
| `webp`  | `.webp`                    | 8 bits, without loss, with alpha                               |
| `tif`   | `.tif`, `.tiff`            | 8 bits, with alpha                                             |
| `bmp`   | `.bmp`                     | 8 bits; what is transparent lies on white                      |
| `pfm`   | `.pfm`                     | float32, not rounded; what is transparent lies on white        |
| `npy`   | `.npy`                     | float32, not rounded, NumPy's (height, width, channels)        |

Files are written by `tf_gan_zoo.files`: whole or not at all.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from tf_gan_zoo import files
from tf_gan_zoo.image_files import EXTENSIONS, ImageFileError


@dataclass(frozen=True)
class Kind:
    """A format and depth of results.

    Attributes:
        name: as in the table above.
        endings: of file names, the usual one first.
        dtype: of its numbers: "uint8" and "uint16" over their whole range, "float32" from 0 to 1.
        alpha: whether it can be transparent.
        pillow: Pillow's name of the format; "" for those that are written here.
        options: for Pillow.
    """

    name: str
    endings: tuple[str, ...]
    dtype: str = "uint8"
    alpha: bool = True
    pillow: str = ""
    options: dict[str, Any] = field(default_factory=dict)


KINDS = {
    kind.name: kind
    for kind in (
        Kind("png", (".png",), pillow="PNG"),
        Kind("png16", (".png",), "uint16"),
        Kind("jpg", (".jpg", ".jpeg", ".jfif"), alpha=False, pillow="JPEG",
             options={"quality": 95, "subsampling": 0}),
        Kind("webp", (".webp",), pillow="WEBP", options={"lossless": True}),
        Kind("tif", (".tif", ".tiff"), pillow="TIFF", options={"compression": "tiff_adobe_deflate"}),
        Kind("bmp", (".bmp",), alpha=False, pillow="BMP"),
        Kind("pfm", (".pfm",), "float32", alpha=False),
        Kind("npy", (".npy",), "float32"),
    )
}  # fmt: skip
_ROWS = 256


def kind_of(name: str | Path) -> Kind | None:
    """The kind that a file name says, `None` for names that are no image's; ".png" says 8 bits.

    Raises:
        ImageFileError: for the ending of an image that can be read only.
    """
    ending = Path(name).suffix.lower()
    kind = next((kind for kind in KINDS.values() if ending in kind.endings), None)
    if kind is None and ending in EXTENSIONS:
        endings = ", ".join(ending for kind in KINDS.values() for ending in kind.endings)
        raise ImageFileError(f"{str(name)!r}: images are not written as {ending}, but as {endings}.")
    return kind


def write_image(
    pixels: np.ndarray, target: Path, kind: Kind | None = None, profile: bytes | None = None
) -> None:
    """Writes an image; the file has its name when it is whole. Folders are made.

    Args:
        pixels: (height, width, 1 to 4 channels) or (height, width), of the kind's dtype.
        target: the file.
        kind: by default as the name says (`kind_of`), PNG if it says nothing.
        profile: the colour profile (ICC) of the channels, for formats that hold one.

    Raises:
        WriteError: if it cannot be written.
        ValueError: if the format cannot hold it, such as 70,000 pixels in a row of a JPEG file.
    """
    with files.opened(target) as file:
        encode(pixels, file, kind or kind_of(target) or KINDS["png"], profile)


def encode(pixels: np.ndarray, file: BinaryIO, kind: Kind, profile: bytes | None = None) -> None:
    """Writes an image into an open file, as `write_image`."""
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.dtype != kind.dtype:
        raise ValueError(f"{kind.name} files hold {kind.dtype}, got {pixels.dtype}.")
    packed = io.BytesIO()  # Pillow and NumPy do not say why a file on disk could not be written
    if kind.pillow:
        flat = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
        Image.fromarray(flat).save(packed, format=kind.pillow, icc_profile=profile, **kind.options)
        file.write(packed.getbuffer())
    elif kind.name == "npy":
        np.save(packed, pixels, allow_pickle=False)
        file.write(packed.getbuffer())
    elif kind.name == "pfm":
        _encode_pfm(pixels, file)
    else:
        _encode_png16(pixels, file, profile)


def _encode_pfm(pixels: np.ndarray, file: BinaryIO) -> None:
    """Portable float map: gray or RGB, rows from the bottom up, little-endian."""
    height, width, channels = pixels.shape
    if channels not in (1, 3):
        raise ValueError(f"pfm files hold 1 or 3 channels, got {channels}.")
    file.write(f"{'Pf' if channels == 1 else 'PF'}\n{width} {height}\n-1.0\n".encode())
    file.write(np.ascontiguousarray(pixels[::-1], "<f4").tobytes())


def _encode_png16(pixels: np.ndarray, file: BinaryIO, profile: bytes | None) -> None:
    """PNG with 16 bits per channel, which Pillow writes of gray images only."""
    height, width, channels = pixels.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    file.write(b"\x89PNG\r\n\x1a\n")
    _write_chunk(file, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    if profile is not None:
        _write_chunk(file, b"iCCP", b"icc\0\0" + zlib.compress(profile))
    packer = zlib.compressobj()
    for top in range(0, height, _ROWS):
        rows = pixels[top : top + _ROWS].astype(">u2").reshape(-1, width * channels)
        lines = np.pad(np.ascontiguousarray(rows).view(np.uint8), ((0, 0), (1, 0)))  # each row is unfiltered
        _write_chunk(file, b"IDAT", packer.compress(lines.tobytes()))
    _write_chunk(file, b"IDAT", packer.flush())
    _write_chunk(file, b"IEND", b"")


def _write_chunk(file: BinaryIO, name: bytes, data: bytes) -> None:
    file.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)))
