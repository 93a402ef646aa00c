"""A reader for NPZ archives from anywhere: nothing is unpickled, nothing is larger than what was expected.

NumPy's own reader believes each array's header and allocates what it says. Here the caller says first which
arrays there may be, with which shapes and dtypes, and an archive that claims anything else is refused before
its data are decompressed.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from tf_gan_zoo.fetch import WeightsError

CONFIG, NETWORKS = "config.json", "networks.json"
_NAME = re.compile(r"((?:config|networks)\.json|[A-Za-z_]\w*(/\w+){1,2})\.npy")
_MAX_CONFIG, _MAX_NETWORKS, _MAX_HEADER, _MAX_MEMBERS = 1 << 16, 1 << 20, 1 << 10, 100_000


class Reader:
    """The arrays of one archive, each read when it is asked for.

    Attributes:
        path: the archive.
        names: names of the arrays in it, without its texts.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path, self._archive = path, archive
        self._members = {item.filename.removesuffix(".npy"): item for item in _members(path, archive)}
        self.names = [name for name in self._members if name not in (CONFIG, NETWORKS)]

    def config(self) -> dict[str, Any]:
        """The config of the model that the weights are for.

        Raises:
            WeightsError: if there is none.
        """
        return self._mapping(CONFIG, "config", _MAX_CONFIG)

    def networks(self) -> dict[str, list[str]]:
        """Architectures of the networks that the model had replaced; empty if it had none.

        Raises:
            WeightsError: if they are anything else.
        """
        found = self._mapping(NETWORKS, "networks", _MAX_NETWORKS) if NETWORKS in self._members else {}
        if not all(isinstance(v, list) and all(isinstance(x, str) for x in v) for v in found.values()):
            raise WeightsError(f"{self.path} is not a weights file of the zoo: its networks are no lists.")
        return found

    def _mapping(self, name: str, what: str, limit: int) -> dict[str, Any]:
        """A JSON text that is stored as bytes."""
        item = self._members.get(name)
        if item is None or item.file_size > limit:
            raise WeightsError(f"{self.path} is not a weights file of the zoo: it holds no {what}.")
        with self._archive.open(item) as file:
            shape, dtype = _header(file)
            values = json.loads(file.read(limit)) if dtype == np.uint8 and len(shape) == 1 else None
        if not isinstance(values, dict):
            raise WeightsError(f"{self.path} is not a weights file of the zoo: its {what} is no mapping.")
        return values

    def shape(self, name: str) -> tuple[int, ...] | None:
        """The shape that an array's header claims, or None if there is no such array."""
        if name not in self._members:
            return None
        with self._archive.open(self._members[name]) as file:
            return _header(file)[0]

    def read(self, name: str, shape: tuple[int, ...], dtypes: tuple[str, ...]) -> np.ndarray:
        """One array of exactly this shape and one of these dtypes, floats finite, integers not negative.

        Raises:
            WeightsError: if it is anything else.
        """
        item = self._members[name]
        with self._archive.open(item) as file:
            came, dtype = _header(file)
            size = math.prod(shape) * dtype.itemsize
            if came != shape or dtype not in [np.dtype(d) for d in dtypes]:
                raise WeightsError(
                    f"{self.path}: {name} is {dtype} {came}, expected {' or '.join(dtypes)} {shape}. Write "
                    "the file again with tf_gan_zoo.weights.save."
                )
            if item.file_size != file.tell() + size:
                raise WeightsError(
                    f"{self.path}: {name} claims {item.file_size:,} bytes, expected {file.tell() + size:,}. "
                    "Do not use this file."
                )
            array = np.frombuffer(file.read(size), dtype).reshape(shape)
        if not np.isfinite(array).all():
            raise WeightsError(f"{self.path}: {name} holds NaN or infinite values. Do not use this file.")
        if array.dtype.kind == "i" and (array < 0).any():
            raise WeightsError(f"{self.path}: {name} counts below 0. Do not use this file.")
        return array


@contextmanager
def opened(path: Path) -> Iterator[Reader]:
    """A reader for the archive at `path`.

    Raises:
        WeightsError: if it is not a weights file of the zoo; also from within, if it turns out damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield Reader(path, archive)
    except WeightsError:
        raise
    except Exception as error:  # damaged archives and headers raise some twenty kinds
        raise WeightsError(
            f"{path} is not a weights file of the zoo: {error or type(error).__name__}. Expected an .npz "
            "file that tf_gan_zoo wrote; fetch it again."
        ) from None


def _members(path: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The archive's directory, if its names are those of weights, each once."""
    items = archive.infolist()
    names = [item.orig_filename for item in items]
    wrong = [name for name in names if not _NAME.fullmatch(name)]
    if wrong:
        raise WeightsError(
            f"{path} is refused: it names {wrong[0][:100]!r}, expected names such as 'generator/000.npy' "
            "only. Do not use this file."
        )
    if len(set(names)) < len(names) or len(names) > _MAX_MEMBERS:
        raise WeightsError(f"{path} is refused: it names an array twice, or too many. Do not use this file.")
    if {item.compress_type for item in items} - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise WeightsError(f"{path} is refused: expected no compression or DEFLATE. Do not use this file.")
    return items


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype that an array claims; `file` then stands at its data."""
    if np.lib.format.read_magic(file) != (1, 0):  # later versions allow headers of gigabytes
        raise ValueError("expected version 1.0 of the array format")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file, max_header_size=_MAX_HEADER)
    if dtype.hasobject or (fortran and len(shape) > 1):
        raise ValueError("expected plain arrays in C order")
    return shape, dtype
