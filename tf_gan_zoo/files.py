"""Files that are whole or not there: the one place where the zoo writes.

A file is made beside its target, flushed to the disk, and moved to its name in one step; then its folder is
flushed, too. Whatever fails on the way (a full disk, a quota, a killed process), an older file under the name
stays as it was, and the unfinished one is removed. Failures of the system are a `WriteError`, which says how
much space is missing where that is the reason.

HDF5 is made in memory: its library writes through C, and a full disk would end the whole process.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from tf_gan_zoo.paths import expand

#: What unfinished files are called: this, the process's number, the file's name, and perhaps ".part".
PREFIX = ".writing-"
#: The disk, a quota, or a limit on the size of files.
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class WriteError(OSError):
    """A file that could not be written; the old one under its name, if there is one, is whole.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, reason: OSError, needed: int) -> None:
        super().__init__(reason.errno, _explanation(path, reason, needed))
        self.path = path

    def __str__(self) -> str:
        return self.strerror


class MemoryFile(io.BytesIO):
    """A file in memory that Keras takes for a path by its ending: `model.save_weights(MemoryFile())`."""

    def __str__(self) -> str:
        return "memory.weights.h5"

    __fspath__ = __str__


@contextmanager
def opened(path: str | Path) -> Iterator[BinaryIO]:
    """A file open for writing under another name, which gets its own when the block has ended well.

    Raises:
        WriteError: if the system refuses.
    """
    with _unfinished(expand(path)) as temporary, open(temporary, "wb") as file:
        yield file


def write(path: str | Path, make: Callable[[BinaryIO], Any]) -> None:
    """Has `make` write a file into an open binary file object; errors as `opened`."""
    with opened(path) as file:
        make(file)


def write_path(path: str | Path, make: Callable[[Path], Any]) -> None:
    """Has `make` write a file under a path, with the same ending, for libraries that open files themselves.

    Raises:
        WriteError: if the system refuses.
    """
    with _unfinished(expand(path), ending="") as temporary:
        make(temporary)


def write_bytes(path: str | Path, data: bytes | memoryview) -> None:
    """Writes a file of these bytes; errors as `write`."""
    with _unfinished(expand(path), len(data)) as temporary, open(temporary, "wb") as file:
        file.write(data)


def extend(unfinished: Path, data: bytes) -> None:
    """Adds bytes to a file that is being made, within `write_path`."""
    with open(unfinished, "ab") as file:
        file.write(data)


def write_text(path: str | Path, text: str) -> None:
    """Writes a file of this text in UTF-8; errors as `write`."""
    write_bytes(path, text.encode())


def append_lines(path: str | Path, lines: list[str]) -> None:
    """Adds whole lines to a file, all or none; a line that was left unfinished there is ended first.

    Raises:
        WriteError: if the system refuses.
    """
    path, data = expand(path), "".join(lines).encode()
    size = _size(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+", buffering=0) as file:
            file.seek(max(size - 1, 0))
            data = b"\n" * (file.read(1) not in (b"", b"\n")) + data
            if file.write(data) != len(data):  # what fits is written before a full disk is an error
                file.write(data)
            os.fsync(file.fileno())
    except OSError as error:
        if path.exists():
            os.truncate(path, size)
        raise WriteError(path, error, len(data)) from error


def put(unfinished: Path, path: Path) -> None:
    """Moves a file that is whole to its name: flushed before, its folder afterwards."""
    _flush(unfinished)
    os.replace(unfinished, path)
    _flush_folder(path.parent)


def link(source: Path, path: Path) -> None:
    """A second name for a file that is only ever replaced; a copy where the file system has no links."""

    def make(temporary: Path) -> None:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)

    write_path(path, make)


def remove_unfinished(folder: Path, below: bool = False) -> None:
    """Removes what processes that are no more left in a folder, and in those below it if asked.

    Before this process writes there: what bears its own number is of an earlier process.
    """
    leftovers = folder.rglob(f"{PREFIX}*") if below else folder.glob(f"{PREFIX}*")
    for leftover in leftovers:
        number = leftover.name.removeprefix(PREFIX).partition("-")[0]
        if leftover.is_file() and not (number.isdigit() and _is_alive(int(number))):
            leftover.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    """Whether another process has this number; where the system does not tell, none has."""
    if process == os.getpid() or os.name != "posix":
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True


@contextmanager
def _unfinished(path: Path, needed: int = 0, ending: str = ".part") -> Iterator[Path]:
    """The path under which a file is made; it gets its name at the end of the block, or is removed.

    Its ending is another one where it can be, so that no pattern for whole files fits it.
    """
    temporary = path.with_name(f"{PREFIX}{os.getpid()}-{path.name}{ending}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)
        yield temporary
        put(temporary, path)
    except OSError as error:
        needed = max(needed, _size(temporary), _size(path))
        temporary.unlink(missing_ok=True)  # before the free space is measured
        raise WriteError(path, error, needed) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _explanation(path: Path, reason: OSError, needed: int) -> str:
    kept = "The file that was there is whole." if path.exists() else "Nothing is left of it."
    if reason.errno not in _NO_SPACE:
        return f"{path} cannot be written: {reason.strerror or reason}. {kept}"
    free = shutil.disk_usage(path.parent).free if path.parent.is_dir() else 0
    missing = needed - free
    if missing > 0:
        return (
            f"{path} cannot be written: it needs {_megabytes(needed)} or more, the disk has "
            f"{_megabytes(free)} left, so {_megabytes(missing)} or more are missing. {kept}"
        )
    return (
        f"{path} cannot be written: {reason.strerror}. It needs {_megabytes(needed)} or more; the disk has "
        f"{_megabytes(free)} left, but a quota or a limit on the size of files is below that. {kept}"
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _flush(path: Path) -> None:
    """Has the disk write what it still holds back."""
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_folder(folder: Path) -> None:
    """The same for the names in a folder, where the system lets folders be opened."""
    if os.name == "posix":
        _flush(folder)
