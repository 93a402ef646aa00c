"""Paths as users write them: every function and option that takes one passes it through here."""

from __future__ import annotations

import os
from pathlib import Path


def expand(path: str | os.PathLike) -> Path:
    """The path with `~` and `~NAME` expanded to home folders, as a shell does for words of their own."""
    return Path(path).expanduser()


def expand_unless_address(path: str | os.PathLike) -> str | os.PathLike:
    """As `expand`, but an address such as gs://bucket/file stays as it is."""
    return path if "://" in str(path) else expand(path)
