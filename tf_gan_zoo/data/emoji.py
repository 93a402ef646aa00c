"""Emoji in two styles: "emoji:DIR", from two npm packages.

The packages are emoji-datasource-google and emoji-datasource-twitter, version 16.0.0. To get them:

    npm pack emoji-datasource-google@16.0.0 emoji-datasource-twitter@16.0.0
    for style in google twitter; do
      mkdir emoji-datasource-$style
      tar xzf emoji-datasource-$style-16.0.0.tgz -C emoji-datasource-$style
    done

DIR holds both folders. Licences of the pictures: Google's (Noto Emoji) Apache License 2.0;
Twitter's (Twemoji) Creative Commons Attribution 4.0, so name "Twemoji, by Twitter and other
contributors" where you show them or what was made of them. The packages' data are under MIT.

The pictures are 64x64, here composited over white. There are 1,911 entries; variants of skin
colour are not among them. A stable hash of the code points puts a tenth into the test split, in
all views alike.

* images, labelled, captioned, super_resolution: one `style`. Labels are categories, captions
  names in lower case.
* paired: `style_a` to `style_b`, emoji that both have; with `style_a="outline"` line drawings made of
  the pictures in `style_b`, to be coloured.
* unpaired: `images_a` in `style_a`, `images_b` in `style_b`. In "train" the two come from
  different emoji (disjoint halves); in "test" the same index is the same emoji (hidden pairs).
"""

import dataclasses
import json
from pathlib import Path

import numpy as np

from tf_gan_zoo.data.image_folders import in_test_split, stable_hash
from tf_gan_zoo.data.images import ImageFile
from tf_gan_zoo.data.sources import (
    DatasetError,
    Request,
    Source,
    existing_path,
    register_source,
    suggestion,
)

STYLES = ("google", "twitter")
_SIZE = 64


@register_source("emoji", needs_path=True)
def read_emoji(
    request: Request, *, style: str = "google", style_a: str = "google", style_b: str = "twitter"
) -> Source:
    """Reads the packages' list of emoji and finds the pictures.

    Args:
        request: The split is "train", "test" or "all".
        style: "google" or "twitter", for views of single pictures.
        style_a: Style of `inputs` or `images_a`; "outline" for line drawings of the targets ("paired").
        style_b: Style of `targets` or `images_b`.
    """
    if request.split not in ("train", "test", "all"):
        raise DatasetError(f'emoji has the splits "train", "test", "all", not {request.split!r}.')
    if request.view == "paired" and style_a == "outline":
        return _drawn(read_emoji(dataclasses.replace(request, view="images"), style=style_b))
    two = request.view in ("paired", "unpaired")
    styles = (style_a, style_b) if two else (style,)
    packages = [_package(existing_path(request, "emoji"), s) for s in styles]
    everything = _entries(packages[0])
    entries = [e for e in everything if _chosen(e, request.split, styles)]
    if request.view == "paired":
        return _pair(entries, styles, packages, ("inputs", "targets"))
    if request.view == "unpaired":
        return _unpaired(entries, styles, packages, request.split)
    names = tuple(sorted({e["category"] for e in everything}))
    labels = np.array([names.index(e["category"]) for e in entries], np.int32)
    captions = np.array([_caption(e) for e in entries], object)
    images = {"images": _files(entries, style, packages[0])}
    return Source(images, {"labels": labels, "captions": captions}, names)


def _package(root: Path, style: str) -> Path:
    """The unpacked package of a style, with npm's inner folder `package` or without."""
    if style not in STYLES:
        raise DatasetError(f"An emoji style is one of {list(STYLES)}, got {style!r}.")
    name = f"emoji-datasource-{style}"
    for folder in (root / name / "package", root / name):
        if (folder / "emoji.json").is_file() and (folder / "img" / style / "64").is_dir():
            return folder
    raise DatasetError(
        f"{root} does not hold the unpacked npm package {name}: expected {name}/package/emoji.json "
        f"and {name}/package/img/{style}/64. Get it with `npm pack {name}@16.0.0` and unpack it "
        f"there."
    )


def _entries(package: Path) -> list[dict]:
    """The emoji in a fixed mixed order: in that of code points all flags stand together."""
    path = package / "emoji.json"
    try:
        entries = json.loads(path.read_text("utf-8"))
        return sorted(entries, key=lambda entry: stable_hash(entry["unified"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path} is not the package's list of emoji: {error!r}.") from error


def emoji_files(root: Path, style: str, short_names: tuple[str, ...]) -> list[Path]:
    """Where the pictures of emoji lie, by their short names in the package's list.

    Raises:
        DatasetError: For a name that is not there, or has no picture in this style.
    """
    package = _package(root, style)
    known = {entry["short_name"]: entry for entry in _entries(package)}
    for name in short_names:
        if name not in known or not known[name].get(f"has_img_{style}"):
            raise DatasetError(
                f"{package / 'emoji.json'} has no emoji with the short name {name!r} in this style."
                f"{suggestion(name, known)}"
            )
    return [package / "img" / style / str(_SIZE) / known[name]["image"] for name in short_names]


def _chosen(entry: dict, split: str, styles: tuple[str, ...]) -> bool:
    if not all(entry.get(f"has_img_{style}") for style in styles):
        return False
    return split == "all" or in_test_split(entry["unified"]) == (split == "test")


def _files(entries: list[dict], style: str, package: Path) -> list[ImageFile]:
    folder = package / "img" / style / str(_SIZE)
    return [ImageFile(str(folder / entry["image"])) for entry in entries]


def _pair(entries, styles, packages, fields) -> Source:
    columns = zip(fields, styles, packages, strict=True)
    return Source({field: _files(entries, style, package) for field, style, package in columns})


def _drawn(source: Source) -> Source:
    """Line drawings of a source's pictures, and the pictures."""
    pictures = source.images["images"]
    drawings = [dataclasses.replace(file, outline=True) for file in pictures]
    return Source({"inputs": drawings, "targets": pictures})


def _unpaired(entries, styles, packages, split: str) -> Source:
    fields = ("images_a", "images_b")
    if split != "train":
        return _pair(entries, styles, packages, fields)
    halves = entries[0::2], entries[1::2]
    columns = zip(fields, halves, styles, packages, strict=True)
    images = {field: _files(half, style, package) for field, half, style, package in columns}
    return Source(images, independent=True)


def _caption(entry: dict) -> str:
    return (entry.get("name") or entry["short_name"].replace("_", " ")).lower()
