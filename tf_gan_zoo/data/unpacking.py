"""Compressed files of arrays, unpacked up to a bound: a megabyte may hold a gigabyte of zeros."""

import contextlib
import gzip
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tf_gan_zoo.data.sources import DatasetError

MAX_UNPACKED = 2**32
"""Bytes that a file may become in memory unasked; `allow_large` lifts the limit."""


def check_unpacked(path: Path, num_bytes: int, allow_large: bool) -> None:
    """Refuses what would be larger than `MAX_UNPACKED`.

    Raises:
        DatasetError: if it is, and `allow_large` is False.
    """
    if num_bytes > MAX_UNPACKED and not allow_large:
        raise DatasetError(
            f"{path} would become {num_bytes:,} bytes in memory, more than the {MAX_UNPACKED:,} that are "
            "unpacked unasked. If it is meant to, give the option allow_large=True."
        )


@contextlib.contextmanager
def open_archive(path: Path, allow_large: bool = False) -> Iterator[Any]:
    """NumPy's archive of arrays; errors while it is open become errors of the data set.

    Raises:
        DatasetError: if it is none, is damaged, holds pickled objects or more than `MAX_UNPACKED` bytes.
    """
    if not zipfile.is_zipfile(path):
        raise DatasetError(f"{path} cannot be read as a NumPy archive: write it with np.savez.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            check_unpacked(path, sum(item.file_size for item in archive.zip.infolist()), allow_large)
            yield archive
    except DatasetError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy each have errors of their own
        raise DatasetError(
            f"{path} cannot be read as a NumPy archive without pickled objects: {error}"
        ) from error


def read_archive(path: Path, allow_large: bool = False) -> dict[str, np.ndarray]:
    """All arrays of a NumPy archive by name.

    Raises:
        DatasetError: as `open_archive`.
    """
    with open_archive(path, allow_large) as archive:
        return {name: archive[name] for name in archive.files}


def read_idx(path: Path, magic: int, allow_large: bool = False) -> np.ndarray:
    """The uint8 array of an IDX file, plain or .gz: a magic number, the sizes, the bytes.

    Args:
        path: the file.
        magic: the number that it must begin with; its last byte is the array's rank.
        allow_large: whether the array may have more than `MAX_UNPACKED` bytes.

    Raises:
        DatasetError: if it is none, is damaged or larger than allowed.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            shape = _idx_shape(path, file.read(4 + 4 * (magic & 0xFF)), magic)
            num_bytes = int(np.prod(shape, dtype=object))
            check_unpacked(path, num_bytes, allow_large)
            data = file.read(num_bytes)
            surplus = bool(file.read(1))
    except DatasetError:
        raise
    except (OSError, EOFError, MemoryError, OverflowError, zlib.error) as error:
        raise DatasetError(f"{path} cannot be read: {error}. Copy it again.") from error
    if surplus or len(data) != num_bytes:
        raise DatasetError(f"{path} is cut off or too long: its shape is {shape}. Copy it again.")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _idx_shape(path: Path, head: bytes, magic: int) -> tuple[int, ...]:
    numbers = np.frombuffer(head[: len(head) // 4 * 4], ">u4")
    if not len(numbers) or numbers[0] != magic:
        found = "too few bytes" if not len(numbers) else f"{numbers[0]:#010x}"
        raise DatasetError(f"{path} does not start with the magic number {magic:#010x} of IDX, but {found}.")
    if len(numbers) != 1 + (magic & 0xFF):
        raise DatasetError(f"{path} is cut off or too long: {len(head)} bytes. Copy it again.")
    return tuple(int(number) for number in numbers[1:])
