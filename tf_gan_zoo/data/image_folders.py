"""What lies in a folder of images, and how it is read: as splits, as classes, or as one collection.

Folders train/, test/ and val/ (also training/, testing/, valid/, validation/, in any case) are splits where
they are all that there is. One of these names beside other folders is a folder like the others: a class that
is called "train". Where it could be either, `read_image_folder` asks.

Without folders of splits, a stable hash of each image's name puts a tenth into the test split: the same
images on each machine, and whatever else is added later. Should the hash put all of them there, as may happen
to a handful, they are the train split, and the test split is empty.
"""

import collections
import dataclasses
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from tf_gan_zoo.data.sources import DatasetError
from tf_gan_zoo.image_files import USUAL_EXTENSIONS, list_images

SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation"),
}
_UNPAIRED_FOLDERS = ("traina", "trainb", "testa", "testb", "vala", "valb")


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """The image files below a folder.

    Attributes:
        root: the folder.
        names: paths below `root`, sorted.
        splits: split -> its folders, in the order train, test, val; empty where names decide.
        left_out: what was found but is not read -> how many, e.g. "other files (.txt)".
        domain: the folder below those of splits to which `names` are limited, e.g. "A" in train/A.
    """

    root: Path
    names: tuple[Path, ...]
    splits: dict[str, tuple[str, ...]]
    left_out: dict[str, int]
    domain: str = ""

    def select(self, split: str) -> list[tuple[Path, Path]]:
        """The images of a split as (folder, path below that folder); classes are folders below the former.

        Raises:
            DatasetError: if there is no such split.
        """
        if not self.splits:
            return [(self.root, name) for name in self._hashed(split)]
        bases = {folder: Path(folder, self.domain) for folder in self.folders(split)}
        return [(self.root / base, name.relative_to(base)) for folder, base in bases.items()
                for name in self.names if name.parts[0] == folder]  # fmt: skip

    def folders(self, split: str) -> list[str]:
        """The folders of a split ("all": of all of them).

        Raises:
            DatasetError: if there are none.
        """
        if split not in (*self.splits, "all"):
            folders = [f"{name}/" for names in self.splits.values() for name in names]
            raise DatasetError(
                f"{self.root} has no folder {split}/ with images; it has {folders or 'none of splits'}. Ask "
                "for one of these splits, or make the folder."
            )
        return [f for name, folders in self.splits.items() if split in (name, "all") for f in folders]

    def in_domain(self, domain: str) -> "ImageFolder":
        """Only the images in train/`domain`, test/`domain`, ...; their paths are those below it."""
        names = tuple(name for name in self.names if len(name.parts) > 2 and name.parts[1] == domain)
        return dataclasses.replace(self, names=names, domain=domain)

    def class_names(self) -> list[str]:
        """The class folders of all splits together, so that labels mean the same in each."""
        return sorted({name.parts[0] for _, name in self.select("all") if len(name.parts) > 1})

    def outside_classes(self) -> list[Path]:
        """Images that do not lie in a class folder, of all splits."""
        return [base / name for base, name in self.select("all") if len(name.parts) == 1]

    def found(self, classes: int = 0, what: str | None = None) -> str:
        """One line: how many images (or what else), how they are split, and how much was left out."""
        parts = [what or f"{len(self.names):,} images"]
        if classes:
            parts.append(f"{classes} class{'es' if classes > 1 else ''}")
        parts.append(f"split {'/'.join(self.splits)}" if self.splits else "split train/test by name")
        return ", ".join(parts) + _left_out(self.left_out)

    def _hashed(self, split: str) -> list[Path]:
        if split == "val":
            raise DatasetError(
                f'{self.root} has no folder val/: its splits are "train" and "test" (a tenth, by name).'
            )
        stems = [name.with_suffix("").as_posix() for name in self.names]
        wanted = set(hashed_split(stems, split))
        return [name for name, stem in zip(self.names, stems) if stem in wanted]


def read_image_folder(root: Path, split_folders: bool | None = None) -> ImageFolder:
    """Lists a folder and settles how it is read.

    Args:
        root: the folder.
        split_folders: whether folders named train, test or val are splits (others are then left out) or
            folders like all others; `None` decides by what lies beside them.

    Raises:
        DatasetError: if it could be read in two ways; the message shows both.
    """
    names, left_out = list_images(root)
    tops = collections.Counter(name.parts[0] if len(name.parts) > 1 else "" for name in names)
    splits = {top: split for top in sorted(tops) for split, known in SPLIT_FOLDERS.items()
              if top.lower() in known}  # fmt: skip
    if split_folders is None:
        split_folders = _are_splits(root, names, tops, splits)
    if not (split_folders and splits):
        _check_wanted(root, split_folders, tops)
        return ImageFolder(root, tuple(names), {}, left_out)
    for top in sorted(set(tops) - set(splits)):
        left_out[f"images in {top}/" if top else "images beside the folders of splits"] = tops[top]
    kept = tuple(name for name in names if name.parts[0] in splits)
    by_split = {s: tuple(top for top in splits if splits[top] == s) for s in SPLIT_FOLDERS}
    return ImageFolder(root, kept, {s: folders for s, folders in by_split.items() if folders}, left_out)


def _check_wanted(root: Path, split_folders: bool, tops: Iterable[str]) -> None:
    if split_folders:
        raise DatasetError(
            f"{root} has no folder train/, test/ or val/ with images, which split_folders=True asks for; it "
            f"has {sorted(filter(None, tops))[:10] or 'no folders'}."
        )


def _are_splits(root: Path, names: list[Path], tops: dict[str, int], splits: dict[str, str]) -> bool:
    """Whether the folders named like splits are splits: alone yes, one among its like no, else who knows."""
    if not splits or set(tops) == set(splits):
        return bool(splits)
    nested = {top: any(len(n.parts) > 2 for n in names if n.parts[0] == top) for top in tops}
    others = [top for top in tops if top not in splits]
    alike = "" not in tops and all(nested[top] <= nested[other] for top in splits for other in others)
    if len(splits) == 1 and alike:
        return False
    raise DatasetError(_two_readings(root, tops, splits))


def _two_readings(root: Path, tops: dict[str, int], splits: dict[str, str]) -> str:
    def listed(some: Iterable[str]) -> str:
        return ", ".join(f"{f'{top}/' if top else 'directly in it'} ({tops[top]:,})" for top in sorted(some))

    others = set(tops) - set(splits)
    return (
        f"{root} can be read in two ways:\n"
        f"  split_folders=True: splits {listed(splits)}; left out: {listed(others)}\n"
        f"  split_folders=False: {sum(tops.values()):,} images in {listed(tops)}, where folders are classes "
        f"and a tenth is the test split by name\n"
        "Give the option split_folders (from the shell --set 'data_options={split_folders: true}'), or move "
        "the folders apart."
    )


def check_not_unpaired(root: Path, kind: str) -> None:
    """Refuses folders trainA/, trainB/, ...: two collections, neither classes nor pairs."""
    found = sorted(p.name for p in root.iterdir() if p.is_dir() and p.name.lower() in _UNPAIRED_FOLDERS)
    classes = " To take them for classes all the same, give split_folders=False." if kind == "folder" else ""
    if found:
        raise DatasetError(
            f'"{kind}:{root}": the folders {", ".join(f"{name}/" for name in found)} hold two collections '
            f'without partners. Use "unpaired:{root}" with a model for unpaired images (e.g. cyclegan), or '
            f'"folder:{root / found[0]}" for one of them. If files of equal names are pairs, name the '
            f"folders train/A, train/B, test/A, test/B and use paired:.{classes}"
        )


def hashed_split(names: Sequence[str], split: str) -> list[str]:
    """Those of these names that are in "train", "test" or "all"; all are in "train" rather than none."""
    if split == "all":
        return list(names)
    test = {name for name in names if in_test_split(name)}
    if len(test) == len(set(names)):
        test = set()
    return [name for name in names if (name in test) == (split == "test")]


def in_test_split(name: str) -> bool:
    """Whether the stable hash of a name puts it into the test split (one in ten)."""
    return stable_hash(name) % 10 == 0


def stable_hash(name: str) -> int:
    """A number that depends on the name alone: not on the process, machine or version.

    Bytes of file names that are not UTF-8 count as the escapes that Python gives them.
    """
    return int(hashlib.sha256(name.encode("utf-8", "backslashreplace")).hexdigest()[:8], 16)


def no_images(folder: ImageFolder, split: str) -> DatasetError:
    """The error for a split without images."""
    if folder.names and not folder.splits:
        return DatasetError(
            f"{folder.root}: all {len(folder.names)} images are in the train split, none in {split!r}: names "
            'decide, and about a tenth are in "test". Add images, use split="all", or make folders train/ '
            "and test/."
        )
    return DatasetError(
        f"{folder.root} has 0 images for split {split!r}{_left_out(folder.left_out)}. Expected files "
        f"that end in {USUAL_EXTENSIONS}, at any depth."
    )


def _left_out(counts: dict[str, int]) -> str:
    return "; left out: " + ", ".join(f"{n:,} {what}" for what, n in counts.items()) if counts else ""
