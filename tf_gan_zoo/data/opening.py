"""`load_dataset` and `open_dataset`: from a name and wishes to a checked pipeline."""

import dataclasses
import difflib
import typing
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_gan_zoo.data import images as imaging
from tf_gan_zoo.data.few_labels import hide_labels
from tf_gan_zoo.data.images import Fit, Size
from tf_gan_zoo.data.pipeline import BatchPlan, Domain, Pipeline
from tf_gan_zoo.data.sets import SetPipeline
from tf_gan_zoo.data.sources import (
    VIEWS,
    DatasetError,
    Request,
    Source,
    check_options,
    checked_options,
    option_types,
    read_source,
    source_options,
)
from tf_gan_zoo.data.streamed import StreamedPipeline
from tf_gan_zoo.data.triplets import TripletPipeline
from tf_gan_zoo.pixels import PixelError, ValueWindow, advice, check_window

SPLITS = ("train", "test", "val", "all")
CROPS = ("center", "random", "resize")


@dataclasses.dataclass(frozen=True)
class ImageOptions:
    """Options that every source shares, given to `load_dataset` by name.

    Attributes:
        flip: Mirror half of the training pictures left to right, anew in each epoch. Both halves
            of a pair are mirrored together.
        load_scale: Training pictures are resized to so many times `image_size`, and a random window
            of that size is cut out; 1.125 resizes to 72 for windows of 64.
        load_size: The same in pixels: of the shorter side for oblong pictures, or `(height, width)`.
        crop: How a picture of another aspect is made to fit: "center" resizes the shorter side
            and keeps the middle, "random" keeps a random part while training, "resize" squeezes.
        scale: Factor between the two resolutions of "super_resolution".
        direction: "a_to_b", or "b_to_a" to swap inputs and targets of "paired".
        labelled_per_class: Training pictures of each class, drawn by `seed`, that keep their label
            in "labelled"; all pictures come with label -1, and these few are repeated until they
            are half of an epoch.
        set_size: Pictures of one person in each example of "posed_sets".
        value_window: The values `(low, high)` of files or arrays that become black and white, or
            "min_max" for each picture's own: for measured data. The full range of the files' type by
            default; see `tf_gan_zoo.pixels`.
        allow_large: Decode image files of more than `image_files.MAX_PIXELS` pixels or `MAX_BYTES` bytes,
            too, and unpack as large arrays; otherwise they are refused, as a few bytes may hold very many.
    """

    flip: bool = False
    load_scale: float | None = None
    load_size: int | Size | None = None
    crop: str = "center"
    scale: int = 4
    direction: str = "a_to_b"
    labelled_per_class: int | None = None
    set_size: int = 2
    value_window: ValueWindow = None
    allow_large: bool = False


_IMAGE_OPTIONS = tuple(field.name for field in dataclasses.fields(ImageOptions))
_OPTION_OF_VIEW = {
    "scale": "super_resolution", "direction": "paired", "labelled_per_class": "labelled",
    "set_size": "posed_sets",
}  # fmt: skip
#: Views with values that say where something is, or which way it looks, in a picture as it came.
_PLACED_VIEWS = ("detection", "pose_pairs")
_UNMIRRORED_VIEWS = ("posed", "posed_sets")
_LARGEST_LOAD_SCALE = 16


def load_dataset(
    name: str,
    *,
    view: str = "images",
    image_size: int | Size | None = None,
    channels: int | Mapping[str, int] | None = None,
    batch_size: int = 64,
    split: str = "train",
    seed: int = 0,
    value_range: tuple[float, float] = (-1.0, 1.0),
    shuffle: bool | None = None,
    repeat: bool = False,
    start_step: int = 0,
    drop_remainder: bool = True,
    strict: bool = False,
    cache: bool | str = "auto",
    **options: Any,
) -> tf.data.Dataset:
    """Batches of a data set as dictionaries, prefetched, in deterministic order.

    Images are float32 `(batch, height, width, channels)` in `value_range`, labels int32
    `(batch,)`, captions strings `(batch,)`. `low_resolution` is always in [0, 1].

    Args:
        name: "glyphs", "emoji:DIR", "folder:DIR", "paired:DIR", "unpaired:DIR", "products:DIR",
            "idx:DIR", "npz:FILE", "tfds:NAME[/config]", or another of `list_sources()`.
        view: Which fields a batch has, a key of `VIEWS`.
        image_size: Pixels, one number or `(height, width)`. `None` keeps the source's.
        channels: 1 (gray) or 3 (RGB), or a mapping for fields that differ: `{"inputs": 1, "targets":
            3}`. `None` keeps the source's, 3 for picture files.
        batch_size: Examples per batch, over all replicas.
        split: "train", "test", "val" or "all".
        seed: Decides the order and the augmentation only.
        value_range: Lowest and highest pixel.
        shuffle: A new order in each epoch. `None` means for "train" only.
        repeat: Go on without end instead of for one epoch.
        start_step: The batch to go on with, as an uninterrupted iteration would.
        drop_remainder: Leave out an epoch's last, smaller batch.
        strict: Make unreadable pictures an error instead of a warning.
        cache: Keep decoded pictures in memory: True, False, or "auto" for up to 2 GiB.
        **options: `ImageOptions`, and the source's own (see its module).

    Raises:
        DatasetError: If something does not fit; the message says what to do.
    """
    pipeline = open_dataset(
        name, view=view, image_size=image_size, channels=channels, batch_size=batch_size,
        split=split, seed=seed, value_range=value_range, shuffle=shuffle,
        drop_remainder=drop_remainder, strict=strict, cache=cache, **options,
    )  # fmt: skip
    return pipeline.dataset(start_step=start_step, repeat=repeat)


def open_dataset(
    name: str,
    *,
    view: str = "images",
    image_size: int | Size | None = None,
    channels: int | Mapping[str, int] | None = None,
    batch_size: int = 64,
    split: str = "train",
    seed: int = 0,
    value_range: tuple[float, float] = (-1.0, 1.0),
    shuffle: bool | None = None,
    repeat: bool = False,
    start_step: int = 0,
    drop_remainder: bool = True,
    strict: bool = False,
    cache: bool | str = "auto",
    **options: Any,
) -> Pipeline:
    """Reads a data set and returns it with its facts; see `load_dataset` for the arguments.

    `repeat` and `start_step` become the defaults of `Pipeline.dataset`.
    """
    _check_arguments(view, channels, batch_size, split, value_range, cache)
    size = _size(image_size, "image_size")
    shared, own = _split_options(name, view, options)
    channels = _common_channels(channels)
    asked = max(channels.values()) if isinstance(channels, Mapping) else channels
    request = Request(None, view, split, size, asked, strict, shared.value_window, shared.allow_large)
    source = read_source(name, request, own)
    channels = channels or _source_channels(source)
    _check_fields(name, channels, source)
    fit = _fit(size, channels, view, split == "train", shared)
    plan = BatchPlan(
        view=view, batch_size=batch_size, seed=int(seed),
        shuffle=split == "train" if shuffle is None else bool(shuffle),
        drop_remainder=drop_remainder, value_range=tuple(map(float, value_range)),
        image_size=size, channels=channels, training=split == "train",
        flip=shared.flip, scale=shared.scale, set_size=shared.set_size,
    )  # fmt: skip
    pipeline = _build(name, source, plan, shared, fit, strict, cache)
    pipeline.found = source.found
    pipeline.defaults = {"repeat": repeat, "start_step": start_step}
    _check_plan(name, split, pipeline)
    return pipeline


def _build(
    name: str, source: Source, plan: BatchPlan, shared: ImageOptions, fit: Fit, strict: bool,
    cache: bool | str,
) -> Pipeline:  # fmt: skip
    """In memory or file by file, or, for an encoded stream that does not fit, streamed."""
    if source.stream:
        if not all(stream.fits(fit.of_field(f), cache) for f, stream in source.stream.items()):
            return _streamed(name, source, plan, fit, shared)
        source = _gathered(source, fit)
    source = _complete(source, name, plan.view, shared)
    domains, values = _domains(name, source, fit, strict, cache)
    num_bad = max((len(domain.pictures) - len(domain) for domain in domains.values()), default=0)
    if shared.labelled_per_class is not None and plan.training:
        domains["images"], values["labels"] = hide_labels(
            name, domains["images"], values["labels"], shared.labelled_per_class, plan.seed
        )
        plan = dataclasses.replace(plan, num_kinds=2)
    plan = dataclasses.replace(plan, image_size=plan.image_size or _common_size(domains))
    pipeline = {"triplets": TripletPipeline, "posed_sets": SetPipeline}.get(plan.view, Pipeline)
    opened = pipeline(name, plan, domains, values, source.label_names, source.independent)
    opened.num_bad = num_bad
    return opened


def _gathered(source: Source, fit: Fit) -> Source:
    """Decodes encoded streams into memory."""
    gathered = {field: stream.gather(fit.of_field(field)) for field, stream in source.stream.items()}
    images = {field: pictures for field, (pictures, _) in gathered.items()}
    labels = next(iter(gathered.values()))[1]
    values = {} if labels is None else {"labels": labels}
    return dataclasses.replace(source, images=images, values=values, stream=None)


def _streamed(
    name: str, source: Source, plan: BatchPlan, fit: Fit, shared: ImageOptions
) -> StreamedPipeline:
    few_labels = shared.labelled_per_class is not None and plan.training
    if plan.view == "unpaired" or few_labels:
        what = "labelled_per_class" if few_labels else "view='unpaired'"
        raise DatasetError(
            f"{name!r} is too large to be kept in memory, which {what} needs. Give a "
            f"smaller image_size, or cache=True to keep it anyway."
        )
    stream = source.stream["images"]
    size = plan.image_size or stream.shape[:2]
    if stream.num_examples is None or None in size:
        raise DatasetError(
            f"{name!r} can only be streamed with a known number of examples and one size: give "
            f"image_size, or cache=True to keep all pictures in memory."
        )
    return StreamedPipeline(
        name, dataclasses.replace(plan, image_size=tuple(size)), fit, stream, source.label_names
    )


def _check_arguments(view, channels, batch_size, split, value_range, cache) -> None:
    _check_choice("view", view, VIEWS)
    _check_choice("split", split, SPLITS)
    for count in channels.values() if isinstance(channels, Mapping) else [channels or 3]:
        _check_choice("channels", count, (1, 3))
    _check_choice("cache", cache, (True, False, "auto"))
    if not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise DatasetError(f"batch_size must be a positive integer, got {batch_size!r}.")
    if len(value_range) != 2 or not value_range[0] < value_range[1]:
        raise DatasetError(f"value_range must be (low, high) with low < high, got {value_range}.")


def _common_channels(channels: int | Mapping[str, int] | None) -> int | Mapping[str, int] | None:
    """One number where all fields have the same."""
    counts = set(channels.values()) if isinstance(channels, Mapping) else {channels}
    return counts.pop() if len(counts) == 1 else dict(channels)


def _check_fields(name: str, channels: int | Mapping[str, int], source: Source) -> None:
    """Channels by field must name every image field."""
    fields = source.stream or source.images
    missing = [] if isinstance(channels, int) else [field for field in fields if field not in channels]
    if missing:
        raise DatasetError(
            f"{name!r}: channels {dict(channels)} must have a number for each of {list(fields)}, or be one "
            "number."
        )


def _check_choice(what: str, given: Any, valid: Any) -> None:
    if given not in valid:
        close = difflib.get_close_matches(str(given), [v for v in valid if isinstance(v, str)], n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise DatasetError(f"{what} must be one of {list(valid)}, got {given!r}.{hint}")


def _size(size: int | Size | None, what: str) -> Size | None:
    if size is None:
        return None
    pair = size if isinstance(size, (tuple, list)) else (size, size)
    if len(pair) != 2 or not all(isinstance(s, (int, np.integer)) and s > 0 for s in pair):
        raise DatasetError(f"{what} must be pixels or (height, width) in pixels, got {size!r}.")
    return int(pair[0]), int(pair[1])


def _split_options(name: str, view: str, options: dict) -> tuple[ImageOptions, dict]:
    kind = name.partition(":")[0]
    check_options(kind, options, [*source_options(kind), *_IMAGE_OPTIONS])
    options = checked_options(kind, options, {**option_types(kind), **typing.get_type_hints(ImageOptions)})
    shared = ImageOptions(**{k: v for k, v in options.items() if k in _IMAGE_OPTIONS})
    for option, only in _OPTION_OF_VIEW.items():
        if option in options and view != only:
            raise DatasetError(f"The option {option!r} is for view={only!r}; here it is {view!r}.")
    _check_choice("crop", shared.crop, CROPS)
    _check_choice("direction", shared.direction, ("a_to_b", "b_to_a"))
    try:
        shared = dataclasses.replace(shared, value_window=check_window(shared.value_window))
    except PixelError as error:
        raise DatasetError(str(error)) from None
    return shared, {k: v for k, v in options.items() if k not in _IMAGE_OPTIONS}


def _complete(source: Source, name: str, view: str, shared: ImageOptions) -> Source:
    """Adds captions made of label names, swaps a pair, checks that the view's values are there."""
    values = dict(source.values)
    if view == "captioned" and "captions" not in values and source.label_names:
        names = np.array([n.lower().replace("_", " ") for n in source.label_names], object)
        values["captions"] = names[values["labels"]]
    missing = {"labels", "captions", "boxes"} & set(VIEWS[view]) - set(values)
    if missing:
        raise DatasetError(
            f"{name!r} has no {' and no '.join(sorted(missing))}, which view={view!r} needs. "
            f'Use view="images", or a source with class names (for "folder:DIR": one subfolder '
            f"per class)."
        )
    if view == "triplets" and "products" not in values:  # every pair is one
        values["products"] = np.arange(len(source.images["inputs"]))
    values = {k: _value_array(v) for k, v in values.items() if k in VIEWS[view]}
    images = source.images
    if shared.direction == "b_to_a":
        images = {"inputs": images["targets"], "targets": images["inputs"]}
    return dataclasses.replace(source, images=images, values=values)


def _value_array(values: Any) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.kind in "iubf":
        return values.astype(np.float32 if values.dtype.kind == "f" else np.int32)
    return np.array([str(v).encode("utf-8", "backslashreplace") for v in values], object)


def _source_channels(source: Source) -> int:
    if not (source.stream or source.images):
        return 3  # there are no pictures
    if source.stream:
        return 1 if next(iter(source.stream.values())).shape[-1] == 1 else 3
    column = next(iter(source.images.values()))
    return column.shape[-1] if isinstance(column, np.ndarray) and column.ndim == 4 else (
        1 if isinstance(column, np.ndarray) else 3)  # fmt: skip


def _fit(
    size: Size | None, channels: int | Mapping[str, int], view: str, training: bool, shared: ImageOptions
) -> Fit:
    """How pictures are stored, before any random window is cut."""
    fit = Fit(size, channels, shared.crop, shared.value_window, shared.allow_large)
    load = _load_size(size, shared)
    if view in _PLACED_VIEWS:
        if shared.flip or load is not None:
            what = "boxes" if view == "detection" else "keypoints"
            raise DatasetError(
                f"view={view!r}: flip, load_scale and load_size would leave the {what} behind."
            )
        return dataclasses.replace(fit, crop="resize")
    if view in _UNMIRRORED_VIEWS and shared.flip:
        raise DatasetError(f"view={view!r}: flip would turn faces the other way, but not their poses.")
    if load is not None and training:
        return dataclasses.replace(fit, size=load)
    if view == "super_resolution":
        return dataclasses.replace(fit, crop="keep")
    random = shared.crop == "random"
    return fit if training or not random else dataclasses.replace(fit, crop="center")


def _load_size(size: Size | None, shared: ImageOptions) -> Size | None:
    """(height, width) of training pictures before a window is cut out, `None` if none is cut."""
    scale, load = shared.load_scale, shared.load_size
    if scale is None and load is None:
        return None
    if scale is not None and load is not None:
        raise DatasetError("load_scale and load_size say the same twice: leave out one of them.")
    if size is None:
        raise DatasetError("load_scale and load_size need image_size: the size of what is cut out.")
    if scale is not None:
        if not isinstance(scale, (int, float)) or not 1 <= scale <= _LARGEST_LOAD_SCALE:
            raise DatasetError(f"load_scale must be a number from 1 to {_LARGEST_LOAD_SCALE}, got {scale!r}.")
        return tuple(round(side * scale) for side in size)
    if isinstance(load, (int, np.integer)):
        load = tuple(round(side * load / min(size)) for side in size)
    load = _size(load, "load_size")
    if load[0] < size[0] or load[1] < size[1]:
        raise DatasetError(
            f"load_size {load} must not be smaller than image_size {size}. Give load_scale instead, which "
            "follows image_size: 1.125 for an eighth more."
        )
    return load


def _domains(
    name: str, source: Source, fit: Fit, strict: bool, cache: bool | str
) -> tuple[dict[str, Domain], dict[str, np.ndarray]]:
    """Decodes all fields; an example of linked fields is good if all its pictures are."""
    if not source.images:
        return {}, source.values
    pictures, bad = {}, {}
    for field, column in source.images.items():
        if not len(column):
            raise DatasetError(f"{name!r}: no pictures for {field!r}. Check the folder and split.")
        pictures[field], bad[field] = imaging.prepare(column, fit.of_field(field), cache)
    _report_bad(name, bad, strict)
    flat = sorted({file for columns in pictures.values() for file in columns.flat_files()})
    if flat:
        warnings.warn(f"{name!r}: {advice(flat)}", stacklevel=4)
    if not source.independent:
        every = set().union(*bad.values())
        bad = dict.fromkeys(bad, every)
    domains = {
        field: Domain(p, np.array([i for i in range(len(p)) if i not in bad[field]], np.int64))
        for field, p in pictures.items()
    }
    kept = next(iter(domains.values())).kept
    return domains, {k: v[kept] for k, v in source.values.items()}


def _report_bad(name: str, bad: dict[str, dict[int, str]], strict: bool) -> None:
    reasons = list(dict.fromkeys(reason for field in bad.values() for reason in field.values()))
    if not reasons:
        return
    shown = "\n  ".join(reasons[:20])
    more = f"\n  and {len(reasons) - 20} more" if len(reasons) > 20 else ""
    message = f"{name!r}: {len(reasons)} unusable picture(s):\n  {shown}{more}"
    if strict:
        raise DatasetError(f"{message}\nRemove or replace them, or leave out strict=True.")
    warnings.warn(f"{message}\nThey are skipped; strict=True makes this an error.", stacklevel=4)


def _common_size(domains: dict[str, Domain]) -> Size:
    """The one size of pictures that are kept as they are."""
    sizes = set()
    for domain in domains.values():
        size = domain.pictures.size
        if size is None and len(domain):
            # What is not in memory has been scanned for its sizes.
            some = domain.kept if domain.pictures.in_memory else domain.kept[:1]
            sizes |= {picture.shape[:2] for picture in domain.pictures.take(some)}
        elif size:
            sizes.add(size)
    if len(sizes) > 1:
        raise DatasetError(
            f"The pictures differ in size, e.g. {sorted(sizes)[:3]} (height, width). "
            f"Give image_size."
        )
    return sizes.pop() if sizes else (1, 1)


def _check_plan(name: str, split: str, pipeline: Pipeline) -> None:
    plan, num = pipeline.plan, pipeline.num_examples
    need = plan.batch_size if plan.drop_remainder else 1
    if num < need or not all(len(d) for d in pipeline._domains.values()):
        what = "none" if num == 0 else f"only {num}"
        raise DatasetError(
            f"{name!r}: {what} usable example(s) in split {split!r}, but a batch needs {need}. "
            f"Add pictures, lower batch_size, or use drop_remainder=False."
        )
    if plan.view == "super_resolution" and any(side % plan.scale for side in plan.image_size):
        raise DatasetError(
            f"image_size {plan.image_size} must be a multiple of scale {plan.scale}."
        )
