"""What a data source is, and the register of their names."""

import dataclasses
import difflib
import functools
import inspect
import os
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from tf_gan_zoo.config import shortened
from tf_gan_zoo.paths import expand
from tf_gan_zoo.pixels import ValueWindow

VIEWS = {
    "images": ("images",),
    "labelled": ("images", "labels"),
    "paired": ("inputs", "targets"),
    "unpaired": ("images_a", "images_b"),
    "triplets": ("inputs", "targets", "irrelevant", "products"),
    "super_resolution": ("low_resolution", "high_resolution"),
    "captioned": ("images", "captions", "labels"),
    "refinement": ("images_a", "images_b", "labels"),
    "detection": ("images", "boxes", "labels"),
    "melodies": ("bars", "previous_bars", "chords"),
    "sequences": ("tokens",),
    "ages": ("images", "ages", "labels"),
    "shapes": ("depth", "labels"),
    "imposters": (
        "images", "boxes", "pool_images", "pool_boxes", "thetas", "indices", "real_thetas",
    ),  # fmt: skip
    "hands": ("images", "joints", "labelled"),
    "posed": ("images", "labels", "poses"),
    "posed_sets": ("images", "labels", "poses"),
    "pose_pairs": ("inputs", "targets", "keypoints"),
}
"""Each view of a data set and the fields of its batches."""

SINGLE_IMAGE_VIEWS = ("images", "labelled", "super_resolution", "captioned")
USUAL_VIEWS = (*SINGLE_IMAGE_VIEWS, "paired", "unpaired")


class DatasetError(ValueError):
    """A data set cannot be read as asked; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What the caller of `load_dataset` wants from a source.

    Attributes:
        path: The text after the colon of the name, `None` without one.
        view: One of `VIEWS`.
        split: "train", "test", "val" or "all"; a source may know fewer.
        image_size: `(height, width)` in pixels, `None` for the source's own.
        channels: 1, 3 or `None` for the source's own.
        strict: Whether incomplete data are an error instead of a warning.
        value_window: The values that become black and white, `None` for those of the data's type.
        allow_large: Whether files may become larger in memory than `unpacking.MAX_UNPACKED`.
    """

    path: str | None
    view: str
    split: str
    image_size: tuple[int, int] | None
    channels: int | None
    strict: bool = False
    value_window: ValueWindow = None
    allow_large: bool = False


@dataclasses.dataclass
class Source:
    """Examples that a source found, pictures not yet decoded or already in memory.

    Attributes:
        images: Field name -> `uint8` array `(num, height, width[, channels])`, any numbers where the
            request has a `value_window`, or a list of `ImageFile`. Views of single pictures have the
            one field "images".
        values: "labels" and "products" (integers), "captions" (strings), aligned with the images.
        label_names: A name per label, where there are names.
        independent: The fields are separate collections, of which each example draws one
            picture each (unpaired training).
        stream: A ready stream of decoded pictures that takes the place of `images` when these
            do not fit into memory; see `tfds.py`.
        found: What was read, as what, and what was left out, in one line; "" where that goes without saying.
    """

    images: dict[str, Any]
    values: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    label_names: tuple[str, ...] = ()
    independent: bool = False
    stream: Any = None
    found: str = ""


@dataclasses.dataclass(frozen=True)
class _Entry:
    function: Callable[..., Source]
    views: tuple[str, ...]
    needs_path: bool


_SOURCES: dict[str, _Entry] = {}


def register_source(
    name: str, *, views: Iterable[str] = USUAL_VIEWS, needs_path: bool = False
) -> Callable:
    """Registers `function(request, **options) -> Source` under a name.

    Args:
        name: The name, or the part of it before the colon, that `load_dataset` shall know.
        views: The views that the source can give.
        needs_path: Whether something must follow the colon.

    Returns:
        The decorator. The function's keyword-only arguments are the options of the source.
    """
    if not name.isidentifier():
        raise DatasetError(f"A source's name must be an identifier, got {name!r}.")

    def decorate(function: Callable[..., Source]) -> Callable[..., Source]:
        if name in _SOURCES:
            raise DatasetError(f"There is a data source {name!r} already; choose another name.")
        _SOURCES[name] = _Entry(function, tuple(views), needs_path)
        return function

    return decorate


def list_sources() -> list[str]:
    """The names of the data sources, sorted."""
    return sorted(_SOURCES)


@dataclasses.dataclass(frozen=True)
class SourceInfo:
    """What a data source says about itself.

    Attributes:
        name: As `load_dataset` takes it, with ":..." where a path or name must follow.
        views: The views that it can give.
        options: The names of its own options and their defaults.
        summary: One line.
        description: The documentation of its module: files, licences, where to get them.
    """

    name: str
    views: tuple[str, ...]
    options: dict[str, Any]
    summary: str
    description: str


def describe_source(name: str) -> SourceInfo:
    """What is known of a source without reading it; `name` may have a path, which is not looked at.

    Raises:
        DatasetError: For an unknown name.
    """
    kind = name.partition(":")[0]
    entry = _find(kind)
    parameters = inspect.signature(entry.function).parameters
    options = {option: parameters[option].default for option in source_options(kind)}
    text = inspect.cleandoc(inspect.getmodule(entry.function).__doc__ or "")
    shown = f"{kind}:..." if entry.needs_path else kind
    return SourceInfo(shown, entry.views, options, text.partition("\n")[0], text)


def read_source(name: str, request: Request, options: dict[str, Any]) -> Source:
    """Calls the source that `name` ("glyphs", "folder:DIR", ...) means.

    Raises:
        DatasetError: For an unknown name, view or option, or when the source cannot be read.
    """
    kind, _, path = name.partition(":")
    entry = _find(kind)
    if entry.needs_path and not path:
        raise DatasetError(
            f'The source {kind!r} needs a path or name after a colon, as in "{kind}:WHERE".'
        )
    if request.view not in entry.views:
        others = [f"{kind}:..." if entry.needs_path else kind for kind, entry in sorted(_SOURCES.items())
                  if request.view in entry.views]  # fmt: skip
        raise DatasetError(
            f"{name!r} has no view {request.view!r}. It has: {', '.join(entry.views)}. "
            f"Sources with the view {request.view!r}: {', '.join(others)}."
        )
    check_options(kind, options, source_options(kind))
    return entry.function(dataclasses.replace(request, path=path or None), **options)


def summarize_source(name: str, *, view: str | None = None, split: str = "all", **options: Any) -> str:
    """What `load_dataset` would read, as what, and what it would leave out; no image is decoded.

    Args:
        name: As for `load_dataset`, e.g. "folder:DIR".
        view: One of the source's views, its first by default.
        split: "train", "test", "val" or "all".
        **options: The source's own.

    Returns:
        One line, e.g. "300 images, 3 classes, split train/val".

    Raises:
        DatasetError: As `load_dataset`.
    """
    view = view or _find(name.partition(":")[0]).views[0]
    source = read_source(name, Request(None, view, split, None, None), options)
    if source.found or source.stream:
        return source.found or f"{name}: a stream of examples"
    count = max(map(len, [*source.images.values(), *source.values.values()]))
    return f"{count:,} examples" + (f", {len(source.label_names)} classes" if source.label_names else "")


def source_options(kind: str) -> list[str]:
    """The names of the options that a source takes."""
    parameters = inspect.signature(_find(kind).function).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]


def check_options(kind: str, given: Iterable[str], valid: Iterable[str]) -> None:
    """Refuses options that a source does not have."""
    unknown = [option for option in given if option not in valid]
    if unknown:
        raise DatasetError(
            f"Unknown option {unknown[0]!r} for the data source {kind!r}."
            f"{suggestion(unknown[0], valid)} Valid options: {', '.join(sorted(valid))}."
        )


#: More examples, people or songs than any source could hold.
_MAX_COUNT = 10**8


def checked_options(kind: str, given: Mapping[str, Any], types: Mapping[str, Any]) -> dict[str, Any]:
    """The options, if their values have the types that the source's function says and a sane size.

    Lists do for tuples, and numbers of NumPy become Python's; options without a type are not looked at.

    Raises:
        DatasetError: for the first value that does not fit.
    """
    options = {k: v.item() if isinstance(v, np.generic) else v for k, v in given.items()}
    for option, value in options.items():
        if option in types:
            problem = _problem(_plain(value), types[option])
            if problem:
                hint = types[option]
                expected = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
                raise DatasetError(
                    f"The option {option!r} of the data source {kind!r}: {problem} (got {shortened(value)}, "
                    f"expected {expected})."
                )
    return options


def option_types(kind: str) -> dict[str, Any]:
    """The types of the options that a source takes, as far as it says them."""
    hints = typing.get_type_hints(_find(kind).function)
    return {option: hints[option] for option in source_options(kind) if option in hints}


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return tuple(_plain(item) for item in value)
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _problem(value: Any, hint: Any) -> str:
    """What is wrong with a value, or nothing."""
    try:
        _adapter(hint).validate_python(value, strict=True)
    except ValidationError as error:
        return shortened("; ".join(sorted({item["msg"] for item in error.errors()})), str)
    numbers = [n for n in (value if isinstance(value, tuple) else (value,)) if isinstance(n, (int, float))]
    if any(not abs(number) <= _MAX_COUNT for number in numbers):
        return f"numbers must be finite and at most {_MAX_COUNT:,}"
    return ""


@functools.cache
def _adapter(hint: Any) -> TypeAdapter:
    return TypeAdapter(hint, config={"arbitrary_types_allowed": True})


def suggestion(word: str, valid: Iterable[str]) -> str:
    """' Did you mean ...?' with the closest valid words, or nothing."""
    close = difflib.get_close_matches(word, list(valid), n=2, cutoff=0.5)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


def existing_path(request: Request, kind: str, *, folder: bool = True) -> Path:
    """The request's path with `~` expanded, checked to be there."""
    path = expand(request.path)
    if folder and not path.is_dir() or not folder and not path.is_file():
        what = "folder" if folder else "file"
        raise DatasetError(
            f'"{kind}:{request.path}": there is no {what} {path.absolute()}. '
            f"Check the path (relative ones start at the working directory).{without_files(request.view)}"
        )
    return path


def without_files(view: str) -> str:
    """" Data that need no files: ..." with the sources that draw a view, or nothing."""
    names = sorted(_SOURCES, key=lambda name: (name != "glyphs", name))
    first, *others = [
        name for name in names if view in _SOURCES[name].views and not _SOURCES[name].needs_path
    ] or [""]
    more = f" (or {', '.join(others[:3])})" if others else ""
    return f" Data that need no files or downloads: --data {first}{more}." if first else ""


def in_split(count: int, split: str) -> np.ndarray:
    """Which of `count` examples are in a split, booleans `(count,)`: every tenth is the test split.

    Raises:
        DatasetError: For another split than "train", "test" and "all".
    """
    if split not in ("train", "test", "all"):
        raise DatasetError(f'This source has the splits "train", "test" and "all", got {split!r}.')
    test = np.arange(count) % 10 == 9
    return {"train": ~test, "test": test, "all": np.ones(count, bool)}[split]


def _find(kind: str) -> _Entry:
    if kind not in _SOURCES:
        raise DatasetError(
            f"Unknown data source {kind!r}.{suggestion(kind, _SOURCES)} "
            f"Sources: {', '.join(list_sources())}; all but those that need no path are written "
            f'with it, as in "folder:my_pictures".'
        )
    return _SOURCES[kind]
