"""Folders of pictures: "folder:DIR", "outlines:DIR", "paired:DIR" and "unpaired:DIR".

Where DIR has no folders train/, val/, test/, a stable hash of each picture's name puts a tenth
into the test split: the same pictures on each machine, and whatever else is added later.
"""

import hashlib
import os
import warnings
from pathlib import Path

import numpy as np

from tf_gan_zoo.data.images import ImageFile
from tf_gan_zoo.data.sources import (
    SINGLE_IMAGE_VIEWS,
    DatasetError,
    Request,
    Source,
    existing_path,
    register_source,
)
from tf_gan_zoo.image_files import EXTENSIONS

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation"),
}


@register_source("folder", views=SINGLE_IMAGE_VIEWS, needs_path=True)
def read_folder(request: Request, *, label_names: tuple[str, ...] | None = None) -> Source:
    """Pictures at any depth. The first level of subfolders (below train/, test/) names classes.

    Args:
        request: The wanted split.
        label_names: The class folders in the order of their labels; sorted by default.
    """
    root = existing_path(request, "folder")
    pairs = split_files(root, request.split)
    if not pairs:
        raise _no_pictures(root, request.split)
    source = Source({"images": [ImageFile(str(base / name)) for base, name in pairs]})
    classes = [name.parts[0] if len(name.parts) > 1 else None for _, name in pairs]
    if None in classes:  # pictures outside any class folder: the folder has no labels
        return source
    names = tuple(label_names or _class_names(root))
    unknown = sorted(set(classes) - set(names))
    if unknown:
        raise DatasetError(f"{root}: class folder(s) {unknown} are not among {list(names)}.")
    source.values["labels"] = np.array([names.index(c) for c in classes], np.int32)
    source.label_names = names
    return source


@register_source("outlines", views=("paired",), needs_path=True)
def read_outlines(request: Request) -> Source:
    """Line drawings made of the pictures in a folder, at any depth, paired with the pictures."""
    root = existing_path(request, "outlines")
    files = [str(base / name) for base, name in split_files(root, request.split)]
    if not files:
        raise _no_pictures(root, request.split)
    return Source({
        "inputs": [ImageFile(f, outline=True) for f in files],
        "targets": [ImageFile(f) for f in files],
    })  # fmt: skip


@register_source("paired", views=("paired", "unpaired", "triplets"), needs_path=True)
def read_paired(request: Request) -> Source:
    """Pairs of pictures: A|B side by side in one file, or folders A/ and B/ with the same names.

    A/ and B/ may stand in DIR (with train/, ... inside them or not) or in DIR/train/, ....
    Endings may differ between partners; the target takes the size of its input.

    "unpaired" trains on A of the first half of the pairs and B of the second; in "test" and "val"
    the same index is the same pair (hidden pairs). In "triplets" every pair is a product.
    """
    source = _read_pairs(request)
    return _parted(source, request.split) if request.view == "unpaired" else source


def _parted(source: Source, split: str) -> Source:
    a, b = source.images["inputs"], source.images["targets"]
    if split in ("test", "val"):
        return Source({"images_a": a, "images_b": b})
    half = len(a) // 2
    return Source({"images_a": a[:half], "images_b": b[half:]}, independent=True)


def _read_pairs(request: Request) -> Source:
    root = existing_path(request, "paired")
    if not any((base / "A").is_dir() or (base / "B").is_dir() for base in [root, *split_folders(root)]):
        return _side_by_side(root, request.split)
    if (root / "A").is_dir() or (root / "B").is_dir():
        _check_folders(root, [root / "A", root / "B"])
    inputs, targets = (_by_stem(root, request.split, domain) for domain in "AB")
    if not set(inputs) & set(targets):
        raise DatasetError(
            f"{root}: A/ and B/ have no name in common in split {request.split!r} "
            f"({len(inputs)} and {len(targets)} pictures). Partners need the same name."
        )
    _report_missing(root, inputs, targets, request.strict)
    stems = sorted(set(inputs) & set(targets))
    return Source({
        "inputs": [ImageFile(inputs[s]) for s in stems],
        "targets": [ImageFile(targets[s], like=inputs[s]) for s in stems],
    })  # fmt: skip


@register_source("unpaired", views=("unpaired",), needs_path=True)
def read_unpaired(request: Request) -> Source:
    """Two collections, in the folders trainA, trainB, testA, testB.

    An epoch is as long as the larger one; the smaller one has an order of its own.
    """
    root = existing_path(request, "unpaired")
    splits = ("train", "test") if request.split == "all" else (request.split,)
    images = {}
    for domain, field in (("A", "images_a"), ("B", "images_b")):
        folders = [root / f"{split}{domain}" for split in splits]
        _check_folders(root, folders)
        images[field] = [ImageFile(str(f / n)) for f in folders for n in picture_names(f)]
        if not images[field]:
            raise _no_pictures(folders[0], request.split)
    return Source(images, independent=True)


def picture_names(folder: Path) -> list[Path]:
    """Relative paths of all pictures under a folder, sorted; links are followed once."""
    found, seen = [], set()
    for base, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(base)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [f for f in folders if not f.startswith((".", "__"))]
        found += [
            Path(base, f).relative_to(folder)
            for f in files
            if f.lower().endswith(EXTENSIONS) and not f.startswith(".")
        ]
    return sorted(found)


def in_test_split(name: str) -> bool:
    """Whether the stable hash of a name puts it into the test split (one in ten)."""
    return stable_hash(name) % 10 == 0


def stable_hash(name: str) -> int:
    """A number that depends on the name alone: not on the process, machine or version."""
    return int(hashlib.sha256(name.encode("utf-8")).hexdigest()[:8], 16)


def split_files(root: Path, split: str) -> list[tuple[Path, Path]]:
    """Pictures of a split as (folder, path below that folder)."""
    if split_folders(root):
        return [(b, n) for b in _split_bases(root, split) for n in picture_names(b)]
    return [(root, n) for n in picture_names(root) if _hashed(root, split, n)]


def _hashed(root: Path, split: str, name: Path) -> bool:
    if split == "val":
        raise DatasetError(
            f'{root} has no folder val/: its splits are "train" and "test" (a tenth, by name).'
        )
    return split == "all" or in_test_split(name.with_suffix("").as_posix()) == (split == "test")


def split_folders(root: Path) -> list[Path]:
    """The folders of splits that there are."""
    return [root / name for names in SPLIT_FOLDERS.values() for name in names
            if (root / name).is_dir()]  # fmt: skip


def _split_bases(root: Path, split: str) -> list[Path]:
    if split == "all":
        return split_folders(root)
    bases = [base for base in split_folders(root) if base.name in SPLIT_FOLDERS[split]]
    if not bases:
        raise DatasetError(
            f"{root} has no folder {split}/; it has {[b.name + '/' for b in split_folders(root)]}. "
            f"Ask for one of these splits, or make the folder."
        )
    return bases


def _class_names(root: Path) -> list[str]:
    """All class folders of all splits, so that labels mean the same in each."""
    names = {name.parts[0] for _, name in split_files(root, "all") if len(name.parts) > 1}
    return sorted(names)


def _side_by_side(root: Path, split: str) -> Source:
    files = [str(base / name) for base, name in split_files(root, split)]
    if not files:
        raise _no_pictures(root, split)
    return Source({
        "inputs": [ImageFile(f, half="left") for f in files],
        "targets": [ImageFile(f, half="right") for f in files],
    })  # fmt: skip


def _by_stem(root: Path, split: str, domain: str) -> dict[str, str]:
    """Name without ending -> file, for one half of the pairs."""
    if (root / domain).is_dir():
        pairs = split_files(root / domain, split)
    else:
        folders = [base / domain for base in _split_bases(root, split)]
        _check_folders(root, folders)
        pairs = [(folder, name) for folder in folders for name in picture_names(folder)]
    return {name.with_suffix("").as_posix(): str(base / name) for base, name in pairs}


def _report_missing(root: Path, inputs: dict, targets: dict, strict: bool) -> None:
    lonely = [inputs.get(s) or targets[s] for s in sorted(set(inputs) ^ set(targets))]
    if not lonely:
        return
    more = f" and {len(lonely) - 20} more" if len(lonely) > 20 else ""
    message = (
        f"{root}: {len(lonely)} picture(s) without a partner: {', '.join(lonely[:20])}{more}."
    )
    if strict:
        raise DatasetError(f"{message} Add the partners, or leave out strict=True.")
    warnings.warn(f"{message} They are left out.", stacklevel=2)


def _check_folders(root: Path, folders: list[Path]) -> None:
    missing = [str(folder.relative_to(root)) for folder in folders if not folder.is_dir()]
    if missing:
        found = sorted(p.name for p in root.iterdir() if p.is_dir())[:10]
        raise DatasetError(
            f"{root} has no folder {' and no '.join(missing)}; it has {found or 'no folders'}. "
            f"Both domains need a folder for the split."
        )


def _no_pictures(folder: Path, split: str) -> DatasetError:
    return DatasetError(
        f"{folder} has 0 pictures for split {split!r}. Expected files that end in "
        f"{', '.join(EXTENSIONS)}, at any depth."
    )
