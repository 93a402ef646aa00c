"""Photographs of products with their catalogue pictures: "products:DIR", as LookBook names its files.

A file's name says what it shows, at any depth below DIR:

    PID000123_CLEAN0_IID000001.jpg    a photograph of product 000123: an input
    PID000123_CLEAN1_IID000002.jpg    its catalogue picture: the target of all its photographs

What follows the digit behind CLEAN is free, and a product's number may be any text without "_". One with
several catalogue pictures has its photographs dealt out to them in turn. Where DIR has no folders train/,
val/, test/, a stable hash of the product puts a tenth of the products into the test split, so that no product
is in both.
"""

import itertools
import re
import warnings
from pathlib import Path

import numpy as np

from tf_gan_zoo.data.image_folders import ImageFolder, in_test_split, read_image_folder
from tf_gan_zoo.data.images import ImageFile
from tf_gan_zoo.data.sources import DatasetError, Request, Source, existing_path, register_source

_NAME = re.compile(r"PID(?P<product>[^_]+)_CLEAN(?P<clean>[01])(_.*)?", re.IGNORECASE)
_EXAMPLE = "PID000123_CLEAN0_IID000001.jpg (photograph) and PID000123_CLEAN1_IID000002.jpg (product)"


@register_source("products", views=("triplets", "paired"), needs_path=True)
def read_products(request: Request) -> Source:
    """Each photograph with its product's picture; of products that lack either, a warning tells."""
    root = existing_path(request, "products")
    folder = read_image_folder(root)
    files = _named(folder, request)
    photographs, catalogue = files["0"], files["1"]
    products = sorted(set(photographs) & set(catalogue))
    if not products:
        raise DatasetError(
            f"{root}: no product of split {request.split!r} has both a photograph and a catalogue "
            f"picture ({len(photographs)} have the one, {len(catalogue)} the other). Expected names "
            f"such as {_EXAMPLE}."
        )
    _report_incomplete(root, photographs, catalogue, request.strict)
    inputs, targets, numbers = [], [], []
    for number, product in enumerate(products):
        inputs += photographs[product]
        targets += itertools.islice(itertools.cycle(catalogue[product]), len(photographs[product]))
        numbers += [number] * len(photographs[product])
    images = {"inputs": list(map(ImageFile, inputs)), "targets": list(map(ImageFile, targets))}
    return Source(images, {"products": np.array(numbers, np.int32)}, found=folder.found())


def _named(folder: ImageFolder, request: Request) -> dict[str, dict[str, list[str]]]:
    """Photographs ("0") and catalogue pictures ("1") of a split: product -> files."""
    files, strange = {"0": {}, "1": {}}, []
    for base, name in _split(folder, request.split):
        match = _NAME.fullmatch(name.stem)
        if match is None:
            strange.append(str(name))
        elif folder.splits or _is_in(match["product"], request.split):
            files[match["clean"]].setdefault(match["product"], []).append(str(base / name))
    if strange:
        more = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
        raise DatasetError(
            f"{folder.root}: these names do not say which product they show: "
            f"{', '.join(strange[:5])}{more}. Expected {_EXAMPLE}; rename or remove them."
        )
    return files


def _split(folder: ImageFolder, split: str) -> list[tuple[Path, Path]]:
    if not folder.splits and split == "val":
        raise DatasetError(
            f'{folder.root} has no folder val/: its splits are "train" and "test" (a tenth of the products).'
        )
    return folder.select(split if folder.splits else "all")


def _is_in(product: str, split: str) -> bool:
    return split == "all" or in_test_split(product) == (split == "test")


def _report_incomplete(root: Path, photographs: dict, catalogue: dict, strict: bool) -> None:
    lonely = sorted(set(photographs) ^ set(catalogue))
    if not lonely:
        return
    more = f" and {len(lonely) - 20} more" if len(lonely) > 20 else ""
    message = (
        f"{root}: {len(lonely)} product(s) without a photograph or without a catalogue picture: "
        f"{', '.join(lonely[:20])}{more}."
    )
    if strict:
        raise DatasetError(f"{message} Add the missing pictures, or leave out strict=True.")
    warnings.warn(f"{message} They are left out.", stacklevel=2)
