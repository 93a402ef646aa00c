"""Folders of images: "folder:DIR", "outlines:DIR", "paired:DIR" and "unpaired:DIR".

Where DIR has no folders train/, val/, test/, a stable hash of each image's name puts a tenth
into the test split; `image_folders.py` has the rules, and `tf-gan-zoo datasets folder:DIR` says how
a folder is read.
"""

import collections
import contextlib
import dataclasses
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tf_gan_zoo.data.image_folders import (
    SPLIT_FOLDERS,
    ImageFolder,
    check_not_unpaired,
    hashed_split,
    in_test_split,
    no_images,
    read_image_folder,
)
from tf_gan_zoo.data.images import ImageFile, in_threads
from tf_gan_zoo.data.sources import (
    SINGLE_IMAGE_VIEWS,
    DatasetError,
    Request,
    Source,
    existing_path,
    register_source,
)
from tf_gan_zoo.image_files import ImageFileError, image_size, list_images

_LABELLED_VIEWS = ("labelled", "captioned")


@register_source("folder", views=SINGLE_IMAGE_VIEWS, needs_path=True)
def read_folder(
    request: Request, *, label_names: tuple[str, ...] | None = None, split_folders: bool | None = None
) -> Source:
    """Images at any depth. The first level of subfolders (below train/, test/) names classes.

    Args:
        request: The wanted split.
        label_names: The class folders in the order of their labels; sorted by default.
        split_folders: Whether folders train/, test/, val/ are splits or classes; decided by what lies
            beside them by default.
    """
    root = existing_path(request, "folder")
    if split_folders is None:
        check_not_unpaired(root, "folder")
    folder = read_image_folder(root, split_folders)
    pairs = folder.select(request.split)
    if not pairs:
        raise no_images(folder, request.split)
    images = {"images": [ImageFile(str(base / name)) for base, name in pairs]}
    if folder.outside_classes():  # the folder has no labels
        _check_no_labels_wanted(folder, request.view)
        return Source(images, found=folder.found())
    names = tuple(label_names or folder.class_names())
    labels = _labels(folder, names, [name.parts[0] for _, name in pairs])
    if request.view in _LABELLED_VIEWS and request.split == "train":
        _report_empty_classes(folder, names, labels)
    return Source(images, {"labels": labels}, names, found=folder.found(len(names)))


def _labels(folder: ImageFolder, names: tuple[str, ...], classes: list[str]) -> np.ndarray:
    unknown = sorted(set(folder.class_names()) - set(names))
    if unknown:
        raise DatasetError(f"{folder.root}: class folder(s) {unknown} are not among {list(names)}.")
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers[c] for c in classes], np.int32)


def _check_no_labels_wanted(folder: ImageFolder, view: str) -> None:
    classes, outside = folder.class_names(), folder.outside_classes()
    if view in _LABELLED_VIEWS and classes:
        raise DatasetError(
            f"{folder.root} has no labels for all images: {len(classes)} class folders "
            f"({', '.join(classes[:10])}), but {len(outside)} image(s) outside them, e.g. {outside[0]}. "
            f"Move these into class folders: one subfolder per class."
        )


def _report_empty_classes(folder: ImageFolder, names: tuple[str, ...], labels: np.ndarray) -> None:
    empty = [name for number, name in enumerate(names) if not np.any(labels == number)]
    if empty:
        warnings.warn(
            f"{folder.root}: the train split has no image of the class(es) {', '.join(empty[:20])}: all are "
            "in other splits. Add images, or make folders train/ and test/.", stacklevel=2,
        )  # fmt: skip


@register_source("outlines", views=("paired",), needs_path=True)
def read_outlines(request: Request, *, split_folders: bool | None = None) -> Source:
    """Line drawings made of the images in a folder, at any depth, paired with the images.

    Args:
        request: The wanted split.
        split_folders: As for "folder".
    """
    folder = read_image_folder(existing_path(request, "outlines"), split_folders)
    files = _files(folder, request.split)
    images = {"inputs": [ImageFile(f, outline=True) for f in files], "targets": [ImageFile(f) for f in files]}
    return Source(images, found=folder.found())


@register_source("paired", views=("paired", "unpaired", "triplets"), needs_path=True)
def read_paired(request: Request, *, halves: bool = False, split_folders: bool | None = None) -> Source:
    """Pairs of images: A|B side by side in one file, or folders A/ and B/ with the same names.

    A/ and B/ may stand in DIR (with train/, ... inside them or not) or in DIR/train/, ....
    Endings may differ between partners; the target takes the size of its input. Files side by side are all
    twice as wide as high, or `halves` is given.

    "unpaired" trains on A of the first half of the pairs and B of the second; in "test" and "val"
    the same index is the same pair (hidden pairs). In "triplets" every pair is a product.

    Args:
        request: The wanted split.
        halves: The files are A|B pairs whatever their aspect.
        split_folders: As for "folder".
    """
    root = existing_path(request, "paired")
    check_not_unpaired(root, "paired")
    source = _read_pairs(root, request, halves, split_folders)
    return _parted(source, request.split) if request.view == "unpaired" else source


def _parted(source: Source, split: str) -> Source:
    a, b = source.images["inputs"], source.images["targets"]
    if split in ("test", "val"):
        return Source({"images_a": a, "images_b": b}, found=source.found)
    half = len(a) // 2
    return Source({"images_a": a[:half], "images_b": b[half:]}, independent=True, found=source.found)


def _read_pairs(root: Path, request: Request, halves: bool, split_folders: bool | None) -> Source:
    if not list(_domain_folders(root)):
        return _side_by_side(read_image_folder(root, split_folders), request.split, halves)
    if halves:
        raise DatasetError(f"{root} has folders A/ and B/, whose images are whole: leave out halves=True.")
    a, b = _two_domains(root, request.split, split_folders)
    inputs, targets = _partners(a, b, request.split)
    if not set(inputs) & set(targets):
        raise DatasetError(
            f"{root}: A/ and B/ have no name in common in split {request.split!r} "
            f"({len(inputs)} and {len(targets)} images). Partners need the same name."
        )
    _report_missing(root, inputs, targets, request.strict)
    stems, all_pairs = sorted(set(inputs) & set(targets)), set(_by_stem(a, "all")) & set(_by_stem(b, "all"))
    return Source({
        "inputs": [ImageFile(inputs[s]) for s in stems],
        "targets": [ImageFile(targets[s], like=inputs[s]) for s in stems],
    }, found=_found_pairs(root, a, b, len(all_pairs)))  # fmt: skip


def _found_pairs(root: Path, a: ImageFolder, b: ImageFolder, count: int) -> str:
    names, left_out = list_images(root)
    in_domains = len(a.names) + len(b.names)
    images = {"without a partner": in_domains - 2 * count, "elsewhere": len(names) - in_domains}
    left_out |= {f"images {where}": number for where, number in images.items() if number}
    return dataclasses.replace(a, left_out=left_out).found(what=f"{count:,} pairs in A and B")


def _domain_folders(root: Path) -> Iterable[Path]:
    """The folders A/ and B/ that there are, in DIR or one level below."""
    below = [path for path in root.iterdir() if path.is_dir()]
    return (base / domain for base in [root, *below] for domain in "AB" if (base / domain).is_dir())


def _two_domains(root: Path, split: str, split_folders: bool | None) -> tuple[ImageFolder, ImageFolder]:
    """The folders A/ and B/, each with train/, ... in it or not, or those in train/, ...."""
    if (root / "A").is_dir() or (root / "B").is_dir():
        _check_folders(root, [root / "A", root / "B"])
        a, b = (read_image_folder(root / domain, split_folders) for domain in "AB")
        if bool(a.splits) != bool(b.splits):
            raise DatasetError(f"{root}: only one of A/ and B/ has folders train/, ...; give both the same.")
        return a, b
    folder = read_image_folder(root, True if split_folders is None else split_folders)
    _check_folders(root, [root / name / domain for name in folder.folders(split) for domain in "AB"])
    return folder.in_domain("A"), folder.in_domain("B")


def _by_stem(folder: ImageFolder, split: str) -> dict[str, str]:
    """Name without ending -> file; with its split before it, as several splits may have it."""
    files: dict[str, str] = {}
    for one in folder.splits if folder.splits and split == "all" else [split]:
        for base, name in folder.select(one):
            stem, file = name.with_suffix("").as_posix(), str(base / name)
            stem = f"{one}/{stem}" if folder.splits else stem
            if stem in files:
                raise DatasetError(f"{files[stem]} and {file} have the same name: rename or remove one.")
            files[stem] = file
    return files


def _partners(a: ImageFolder, b: ImageFolder, split: str) -> tuple[dict[str, str], dict[str, str]]:
    """Both domains' files of a split; without folders of splits, names that both have are split together."""
    if a.splits:
        return _by_stem(a, split), _by_stem(b, split)
    inputs, targets = _by_stem(a, "all"), _by_stem(b, "all")
    both, lonely = sorted(set(inputs) & set(targets)), sorted(set(inputs) ^ set(targets))
    a.select(split)  # raises for splits that there are not
    wanted = {*hashed_split(both, split), *(s for s in lonely if split in ("all", _split_of(s)))}
    return tuple({s: f for s, f in files.items() if s in wanted} for files in (inputs, targets))


def _split_of(name: str) -> str:
    return "test" if in_test_split(name) else "train"


def _side_by_side(folder: ImageFolder, split: str, halves: bool) -> Source:
    files = _files(folder, split)
    if not halves:
        _check_halves(folder.root, files)
    return Source({
        "inputs": [ImageFile(f, half="left") for f in files],
        "targets": [ImageFile(f, half="right") for f in files],
    }, found=folder.found(what=f"{len(folder.names):,} pairs side by side"))  # fmt: skip


def _check_halves(root: Path, files: list[str]) -> None:
    """Refuses images that are not twice as wide as high, and so no two squares side by side."""
    sizes: dict[int, tuple[int, int]] = {}

    def measure(index: int) -> None:
        with contextlib.suppress(ImageFileError):  # reported later, with all that cannot be read
            sizes[index] = image_size(files[index], allow_large=True)

    in_threads(measure, len(files), "measuring")
    wrong = [index for index, (height, width) in sorted(sizes.items()) if abs(width - 2 * height) > 1]
    if wrong:
        height, width = sizes[wrong[0]]
        raise DatasetError(
            f'"paired:{root}": expected A/ and B/, or pairs side by side, all twice as wide as high; '
            f"{len(wrong)} of {len(files)} images are not, e.g. {files[wrong[0]]} is {height}x{width} "
            "(height x width). If they are pairs of another aspect, give halves=True (from the shell --set "
            f"'data_options={{halves: true}}'). Single images have no "
            f'partners: "outlines:{root}" makes line drawings of them, "folder:{root}" is for models that '
            "take single images."
        )


def _files(folder: ImageFolder, split: str) -> list[str]:
    files = [str(base / name) for base, name in folder.select(split)]
    if not files:
        raise no_images(folder, split)
    return files


@register_source("unpaired", views=("unpaired",), needs_path=True)
def read_unpaired(request: Request) -> Source:
    """Two collections, in the folders trainA, trainB, testA, testB.

    An epoch is as long as the larger one; the smaller one has an order of its own.
    """
    root = existing_path(request, "unpaired")
    splits = _unpaired_splits(root, request.split)
    images, left_out = {}, collections.Counter()
    for domain, field in (("A", "images_a"), ("B", "images_b")):
        folders = [root / f"{split}{domain}" for split in splits]
        listed = [(folder, *list_images(folder)) for folder in folders]
        images[field] = [ImageFile(str(folder / name)) for folder, names, _ in listed for name in names]
        for *_, counts in listed:
            left_out.update(counts)
        if not images[field]:
            raise no_images(ImageFolder(folders[0], (), {}, dict(left_out)), request.split)
    a, b = map(len, images.values())
    both = ImageFolder(root, (), dict.fromkeys(splits, ()), dict(left_out))
    return Source(images, independent=True, found=both.found(what=f"{a:,} images in A and {b:,} in B"))


def _unpaired_splits(root: Path, wanted: str) -> list[str]:
    """The splits to read, of which each has both domains.

    Raises:
        DatasetError: if a folder is missing; advises what is there.
    """
    there = [s for s in SPLIT_FOLDERS if any((root / f"{s}{domain}").is_dir() for domain in "AB")]
    splits = there if wanted == "all" else [wanted]
    advice = "Both domains need a folder for the split."
    if not there:
        splits = ["train"] if wanted == "all" else splits
        advice = _unpaired_advice(root)
    _check_folders(root, [root / f"{split}{domain}" for split in splits for domain in "AB"], advice)
    return splits


def _unpaired_advice(root: Path) -> str:
    advice = "Put the images of the two domains into trainA/ and trainB/ (and testA/, testB/)."
    names, _ = list_images(root)
    if not names:
        return advice
    which = "those in A/ and B/ are pairs" if list(_domain_folders(root)) else "each image is an A|B pair"
    return f'{advice} If {which}, use "paired:{root}", which serves unpaired models, too.'


def _report_missing(root: Path, inputs: dict, targets: dict, strict: bool) -> None:
    lonely = [inputs.get(s) or targets[s] for s in sorted(set(inputs) ^ set(targets))]
    if not lonely:
        return
    more = f" and {len(lonely) - 20} more" if len(lonely) > 20 else ""
    message = f"{root}: {len(lonely)} image(s) without a partner: {', '.join(lonely[:20])}{more}."
    if strict:
        raise DatasetError(f"{message} Add the partners, or leave out strict=True.")
    warnings.warn(f"{message} They are left out.", stacklevel=2)


def _check_folders(
    root: Path, folders: list[Path], advice: str = "Both domains need a folder for the split."
) -> None:
    missing = [str(folder.relative_to(root)) for folder in folders if not folder.is_dir()]
    if missing:
        found = sorted(p.name for p in root.iterdir() if p.is_dir())[:10] or "no folders"
        names = " and no folder ".join(missing)
        raise DatasetError(f"{root} has no folder {names}; it has {found}. {advice}")
