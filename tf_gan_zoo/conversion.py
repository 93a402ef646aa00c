"""Models of the zoo on picture files: what `tf-gan-zoo translate`, `upscale` and `refine` do.

Peak memory and processor time, networks at paper size, TensorFlow and the model included (1.1 to 1.4 GB):

    cyclegan, 4000x3000 in tiles     6.6 GB   230 s
    pix2pix, 4096x3072 in one piece  6.7 GB    42 s
    srgan x4, 1000x752 in tiles      2.9 GB    49 s

Enlarging 4000x3000 pixels four times adds 2.3 GB for the result, and 0.6 GB while it is written.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tf_gan_zoo import pictures
from tf_gan_zoo.endpoints import Endpoint
from tf_gan_zoo.gan import GAN
from tf_gan_zoo.pixels import ValueWindow, check_window
from tf_gan_zoo.tiling import DEFAULT_TILE
from tf_gan_zoo.train import RunError, for_task

#: Task -> what is added to the names of its results.
SUFFIXES = {"translate": "_translated", "upscale": "_upscaled", "refine": "_refined"}
#: Side of a tile's result in pixels that is still cheap to compute, for networks that enlarge.
_LARGEST_RESULT = 1024
#: Tasks whose results show the same colours as their inputs, so that gray stays gray.
_SAME_COLOURS = ("upscale", "refine")


def make_conversion(
    model: GAN,
    task: str,
    *,
    direction: str | None = None,
    size: pictures.Size | int | None = None,
    tile: int | None = None,
    value_window: ValueWindow = None,
) -> pictures.Conversion:
    """A model's task as picture files need it.

    Pictures keep their size where the network takes any. Large ones go through it in tiles if the model's
    method has a `tile` option; the result is that of the whole picture.

    Args:
        model: a model with the method and the endpoint `task`.
        task: "translate", "upscale" or "refine".
        direction: "a_to_b" or "b_to_a", for translation; the model's own default if None.
        size: (height, width), or the shorter side in pixels, to which pictures are resized first.
        tile: side of the tiles, whatever the picture's size; by default for large pictures only.
        value_window: values of files that become black and white, (low, high) or "min_max", as
            `tf_gan_zoo.pixels` says; that of the model's training data by default.

    Raises:
        RunError: if the model cannot do it in this way.
    """
    endpoint = _endpoint(for_task(model, task), task, direction)
    fixed = endpoint.network.inputs[0].shape[1:3]
    if None not in fixed:
        size = _only_size(model, task, tuple(fixed), size)
    low, high = endpoint.pictures[endpoint.input_names[0]]
    return pictures.Conversion(
        _function(model, task, direction, tile), channels=endpoint.network.inputs[0].shape[-1],
        input_range=(low, high), output_range=endpoint.pictures[endpoint.output_names[0]],
        multiple_of=endpoint.multiple_of, size=size, gray_stays_gray=task in _SAME_COLOURS,
        value_window=trained_window(model) if value_window is None else check_window(value_window),
    )  # fmt: skip


def trained_window(model: GAN) -> ValueWindow:
    """The `value_window` of the files that a model's config trains it on."""
    return check_window(model.config.data_options.get("value_window"))


def convert_files(
    model: GAN,
    task: str,
    sources: Iterable[str | Path],
    *,
    out: str | Path | None = None,
    suffix: str | None = None,
    recursive: bool = False,
    kind: str | None = None,
    overwrite: bool = False,
    allow_large: bool = False,
    on_tile: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Iterator[pictures.Outcome]:
    """Translates, upscales or refines picture files, one at a time.

    Args:
        model: a model with the method and the endpoint `task`.
        task: "translate", "upscale" or "refine".
        sources: files, folders or glob patterns.
        out: a folder for the results, or for one file a name whose ending says the format; beside the
            pictures by default.
        suffix: added to each file's name; "_translated" and so on by default.
        recursive: whether folders are meant with their subfolders.
        kind: format and depth of the results, a key of `image_writing.KINDS`.
        overwrite: make results anew that are there already.
        allow_large: whether pictures may be larger than the limits of `tf_gan_zoo.image_files`.
        on_tile: called within a large picture with the number of pieces done and that of all.
        **options: those of `make_conversion`.

    Yields:
        What became of each file.

    Raises:
        RunError: if the model cannot do it in this way.
        PictureError: if there are no pictures, or results would replace them.
    """
    suffix = SUFFIXES[task] if suffix is None else suffix
    conversion = make_conversion(model, task, **options)
    files, targets, chosen = pictures.plan(sources, suffix, out, recursive=recursive, kind=kind)
    return pictures.convert_files(
        conversion, files, targets, kind=chosen, overwrite=overwrite, allow_large=allow_large, on_tile=on_tile
    )


def _only_size(
    model: GAN, task: str, fixed: pictures.Size, size: pictures.Size | int | None
) -> pictures.Size:  # fmt: skip
    """The size of a network that takes no other; None asks for this one."""
    asked = (size, size) if isinstance(size, int) else size
    if asked not in (None, fixed):
        height, width = fixed
        raise RunError(f"{model.zoo_name} can {task} {height}x{width} pixels only: leave out --size.")
    return fixed


def _endpoint(model: GAN, task: str, direction: str | None) -> Endpoint:
    if direction is not None and "direction" not in inspect.signature(getattr(model, task)).parameters:
        raise RunError(f"{model.zoo_name} has no directions: leave out --direction.")
    return model.endpoints.get(f"{task}_{direction}", model.endpoints[task])


def _function(model: GAN, task: str, direction: str | None, tile: int | None) -> Callable[..., np.ndarray]:
    """The model's method with the options that it has."""
    method = getattr(model, task)
    known = inspect.signature(method).parameters
    if tile is not None and "tile" not in known:
        raise RunError(f"{model.zoo_name} takes pictures in one piece: leave out --tile.")
    options = {} if direction is None else {"direction": direction}
    usual = min(DEFAULT_TILE, _LARGEST_RESULT // getattr(model.config, "scale", 1))

    def function(images: np.ndarray, on_tile: Any) -> np.ndarray:
        side = tile or (usual if max(images.shape[1:3]) > 2 * usual else None)
        in_tiles = {"tile": side, "on_tile": on_tile} if side and "tile" in known else {}
        return method(images, **options, **{n: v for n, v in in_tiles.items() if n in known})

    return function
