"""One process per folder: a lock that the system takes back when its holder ends, however that happens."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

#: The file in the folder; it is there as long as a process works in it, or was killed while it did.
NAME = ".lock"


class LockedError(RuntimeError):
    """Another process works in the folder; the message says which one, and since when."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps all others out of a folder, which is made if need be, and removed again if it stays empty.

    Raises:
        LockedError: if another process, or another thread, is in it.
    """
    made = not folder.exists()
    path = folder / NAME
    handle = _acquire(path)
    try:
        _write_holder(handle)
        yield
    finally:
        _release(handle, path)
        if made:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


def _acquire(path: Path) -> int:
    """An open and locked handle of the file that bears the name now."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # its last holder removed the empty folder
            continue
        try:
            _lock(handle)
        except OSError:
            os.close(handle)
            raise LockedError(_who(path)) from None
        if _is_at(handle, path):
            return handle
        os.close(handle)  # its last holder removed it


def _release(handle: int, path: Path) -> None:
    """Removes the file while it is still locked, so that it can be nobody else's; Windows first closes it."""
    if fcntl is None:
        os.close(handle)
    with suppress(OSError):
        path.unlink()
    if fcntl is not None:
        os.close(handle)


def _lock(handle: int) -> None:
    if fcntl is not None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    import msvcrt

    os.lseek(handle, 2**30, os.SEEK_SET)  # far behind the text, which others shall read
    msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)


def _is_at(handle: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    own = os.fstat(handle)
    return (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino)


def _write_holder(handle: int) -> None:
    started = time.strftime("%Y-%m-%d %H:%M:%S %z")
    text = json.dumps({"process": os.getpid(), "host": platform.node(), "started": started})
    os.ftruncate(handle, 0)
    os.lseek(handle, 0, os.SEEK_SET)
    os.write(handle, text.encode())


def _who(path: Path) -> str:
    holder: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        holder = json.loads(path.read_text(encoding="utf-8"))
    who = f"process {holder.get('process', '?')} on {holder.get('host', '?')}"
    return (
        f"another run writes to {path.parent}: {who}, which began at {holder.get('started', '?')}. Wait for "
        "it, stop it, or name another folder."
    )
