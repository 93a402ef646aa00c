"""Which files a job reads, and where their results go: no result takes the place of another."""

from __future__ import annotations

import glob
import os
import unicodedata
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tf_gan_zoo.image_files import USUAL_EXTENSIONS, is_image, list_images
from tf_gan_zoo.image_writing import KINDS, Kind, kind_of
from tf_gan_zoo.paths import expand


class PictureError(ValueError):
    """Pictures that cannot be found, read, written or shown; the message says what to do."""


class Found(NamedTuple):
    """A picture file, and the folder below which its result keeps its place."""

    file: Path
    base: Path


def picture_files(path: str | Path, recursive: bool = False) -> list[Path]:
    """The picture files of a folder or of a glob pattern, sorted, or the one file.

    Args:
        path: a file, a folder or a pattern.
        recursive: whether folders are meant with their subfolders.

    Raises:
        PictureError: if there is no such file, or the folder has no pictures.
    """
    return [found.file for found in _find(path, recursive)]


def plan(
    sources: Iterable[str | Path], suffix: str = "", out: str | Path | None = None, *,
    recursive: bool = False, kind: str | None = None,
) -> tuple[list[Path], list[Path], Kind]:  # fmt: skip
    """The picture files that sources mean, each once, and the files of their results.

    "a.jpg" becomes "a<suffix>.png". Files that are results of others are left out, so that a second run does
    not take them for new pictures.

    Args:
        sources: files, folders or patterns.
        suffix: added to the names of results.
        out: a folder, in which files keep their subfolders; or for one file a name with an ending of
            `image_writing`. Beside the pictures by default.
        recursive: whether folders are meant with their subfolders.
        kind: format and depth of results, a key of `image_writing.KINDS`; "png" by default, or as `out` says.

    Returns:
        Files, their targets, and the kind of these.

    Raises:
        PictureError: for a source without pictures, an unknown kind, or a file's name for several results.
    """
    out = None if out is None else expand(out)
    found = list({os.path.abspath(f.file): f for s in sources for f in _find(s, recursive)}.values())
    named = None if out is None or out.is_dir() else kind_of(out)
    chosen = _chosen_kind(kind, named, out)
    if named is not None:
        if len(found) > 1:
            raise PictureError(f"{len(found)} pictures cannot all go to {str(out)!r}: name a folder.")
        return [f.file for f in found], [out], chosen
    found = _without_results(found, suffix, out, chosen.endings[0])
    return [f.file for f in found], name_targets(found, suffix, out, chosen.endings[0]), chosen


def _chosen_kind(kind: str | None, named: Kind | None, out: Path | None) -> Kind:
    if kind is not None and kind not in KINDS:
        raise PictureError(f"there is no format {kind!r}; there are {', '.join(KINDS)}.")
    chosen = KINDS[kind] if kind is not None else named or KINDS["png"]
    if named is not None and not set(named.endings) & set(chosen.endings):
        raise PictureError(f"{str(out)!r} is no name for {kind}: it ends in {' or '.join(chosen.endings)}.")
    return chosen


def _find(path: str | Path, recursive: bool) -> list[Found]:
    path = expand(path)
    if path.is_file() or path.is_symlink() and not path.exists():  # reading reports a link to nothing
        return [Found(path, path.parent)]
    if path.is_dir():
        base, what = path, "the folder"
        files = [path / name for name in list_images(path)[0]] if recursive else path.iterdir()
    elif glob.has_magic(str(path)):
        base, what = _before_magic(path), "the pattern"
        files = map(Path, glob.glob(str(path), recursive=True))
    else:
        raise PictureError(f"there is no file or folder {str(path)!r}.")
    pictures = sorted(file for file in files if is_image(file.name) and not file.name.startswith("."))
    if not pictures:
        deeper = " Its subfolders are read with recursive=True (--recursive)." if path.is_dir() else ""
        expected = f"files that end in {USUAL_EXTENSIONS}"
        raise PictureError(f"{what} {str(path)!r} has no images ({expected}).{deeper}")
    return [Found(file, base) for file in pictures]


def _before_magic(pattern: Path) -> Path:
    """The folder of a pattern down to the first part with a wildcard."""
    parts = pattern.parts
    count = next(k for k, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:count])


def _without_results(found: list[Found], suffix: str, out: Path | None, ending: str) -> list[Found]:
    """Those that are not results of others: by their names, or since others' results would go there."""
    known = {(f.file.parent, f.file.stem) for f in found}
    found = [f for f in found if not _has_original(f.file, suffix, known)]
    while True:
        pairs = zip(found, name_targets(found, suffix, out, ending))
        results = {os.path.abspath(t) for f, t in pairs if os.path.abspath(t) != os.path.abspath(f.file)}
        kept = [f for f in found if os.path.abspath(f.file) not in results]
        if len(kept) == len(found):
            return found
        found = kept


def _has_original(file: Path, suffix: str, known: set[tuple[Path, str]]) -> bool:
    original = file.stem.removesuffix(suffix)
    return original != file.stem and (file.parent, original) in known


def name_targets(
    found: Sequence[Found], suffix: str, out: Path | None = None, ending: str = ".png"
) -> list[Path]:
    """Where results go, all different, also for systems that do not tell "a" from "A".

    "a.jpg" beside "a.png" become "a_jpg<suffix>.png" and "a_png<suffix>.png"; what still has the name of
    another gets the hash of its own. Names depend on the files alone.

    Args:
        found: the pictures.
        suffix: added to their names.
        out: a folder; beside the pictures by default.
        ending: of the results.
    """
    folders = _folders(found, out)
    levels = [0] * len(found)
    while True:
        stems = [_stem(f.file, level) for f, level in zip(found, levels)]
        targets = [folder / f"{stem}{suffix}{ending}" for folder, stem in zip(folders, stems)]
        keys = [unicodedata.normalize("NFC", str(target)).casefold() for target in targets]
        raised = _raised(levels, keys)
        if raised == levels:
            return targets
        levels = raised


def _raised(levels: list[int], keys: list[str]) -> list[int]:
    """Longer names for those of equal names that have the shortest kind of name, up to the longest kind."""
    count, least = Counter(keys), {}
    for level, key in zip(levels, keys):
        least[key] = min(level, least.get(key, level))
    return [
        min(level + (count[key] > 1 and level == least[key]), 2) for level, key in zip(levels, keys)
    ]


def _folders(found: Sequence[Found], out: Path | None) -> list[Path]:
    if out is None or not found:
        return [f.file.parent for f in found]
    common = os.path.commonpath({os.path.abspath(f.base) for f in found})
    return [out / os.path.relpath(os.path.abspath(f.file.parent), common) for f in found]


def _stem(file: Path, level: int) -> str:
    """A file's name without ending, with it, or with a hash."""
    ending = f"_{file.suffix[1:]}" if level and file.suffix else ""
    return f"{file.stem}{ending}" + (f"_{zlib.crc32(os.fsencode(file.name)):08x}" if level == 2 else "")
