"""Real pictures beside rendered scenes: "scenes:FOLDER", with a table of parameters or a renderer.

FOLDER/real.json lists the real pictures, FOLDER/pool.json the rendered ones:

    [{"file": "real/1.jpg", "boxes": [[12, 40, 30, 85]]}, ...]
    [{"file": "pool/1.png", "boxes": [[...], ...], "scene": [3, 4, 1.7, -20, 11],
      "people": [[0, 12, 0.3, -4, 170, 2, 5.5, 0.1, 0.4], ...]}, ...]

Boxes are left, top, width, height in pixels; a real picture's may be missing. "scene" holds the numbers
that describe a scene, "people" those of each person in it; all scenes and all people have as many, in any
units. Without pool.json a renderer that `scenes.register_renderer` knows draws the pool (`renderer=`). Fields
of the view "imposters" as in `tf_gan_zoo.data.streets`; the real pictures' own parameters are unknown, -1.

The paper's Precarious and Synthetic sets are linked at https://github.com/huangshiyu13/RPNplus, which asks
to cite the paper and names no other terms for them; the synthetic pictures' parameters have to be extracted.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tf_gan_zoo import scenes
from tf_gan_zoo.data.images import ImageFile
from tf_gan_zoo.data.sources import DatasetError, Request, Source, existing_path, in_split, register_source
from tf_gan_zoo.image_files import image_size
from tf_gan_zoo.scenes import Layout


@register_source("scenes", views=("imposters",), needs_path=True)
def read_scenes(
    request: Request, *, num_pool: int | None = None, max_boxes: int = 16, max_people: int = 5,
    renderer: str | None = None,
) -> Source:  # fmt: skip
    """Reads the lists; every tenth real picture is the test split, the pool is the same in both.

    Args:
        request: split "train", "test" or "all".
        num_pool: scenes of the pool: as many as are listed, or as shall be rendered.
        max_boxes: boxes of a picture; fewer are filled up with empty ones, of more the largest stay.
        max_people: people in a scene at most.
        renderer: draws the pool where it is not listed.

    Raises:
        DatasetError: if a list is missing or malformed, or has another number of scenes.
    """
    folder = existing_path(request, "scenes")
    real = _entries(folder / "real.json")
    real = [entry for entry, chosen in zip(real, in_split(len(real), request.split)) if chosen]
    if (folder / "pool.json").is_file():
        pictures, boxes, thetas = _listed(folder, num_pool, max_boxes, max_people)
    else:
        pictures, boxes, thetas = _rendered(folder, renderer, num_pool, request, max_boxes)
    count = max(len(thetas), len(real))
    own, shown = np.arange(count) % len(thetas), np.arange(count) % max(len(real), 1)
    if not real:
        raise DatasetError(f"{folder / 'real.json'} has too few pictures for the split {request.split!r}.")
    files = [ImageFile(str(folder / entry["file"])) for entry in real]
    real_boxes = np.stack([_boxes(folder, entry, max_boxes) for entry in real])
    rendered = isinstance(pictures, np.ndarray)
    images = {"pool_images": pictures[own] if rendered else [pictures[k] for k in own]}
    values = {
        "pool_boxes": boxes[own], "thetas": thetas[own], "indices": own.astype(np.int32),
        "boxes": real_boxes[shown], "real_thetas": np.full_like(thetas[own], -1),
    }  # fmt: skip
    return Source({**images, "images": [files[k] for k in shown]}, values)


def _listed(
    folder: Path, num_pool: int | None, max_boxes: int, max_people: int
) -> tuple[list[ImageFile], np.ndarray, np.ndarray]:
    """Pictures, boxes and parameters of pool.json."""
    pool = _entries(folder / "pool.json")
    if num_pool not in (None, len(pool)):
        raise DatasetError(f"{folder / 'pool.json'} lists {len(pool)} scenes: set num_pool={len(pool)}.")
    files = [ImageFile(str(folder / entry["file"])) for entry in pool]
    boxes = np.stack([_boxes(folder, entry, max_boxes) for entry in pool])
    return files, boxes, _table(folder / "pool.json", pool, max_people)


def _rendered(
    folder: Path, name: str | None, num_pool: int | None, request: Request, max_boxes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same, drawn by a renderer."""
    if name not in scenes.RENDERERS:
        raise DatasetError(
            f"{folder} has no pool.json, and there is no renderer {name!r}. Write the list, or name one of "
            f"{sorted(scenes.RENDERERS)} with renderer=, or add yours with scenes.register_renderer."
        )
    renderer, size = scenes.RENDERERS[name], request.image_size
    if num_pool is None or size is None:
        raise DatasetError("scenes: a renderer needs num_pool and image_size.")
    thetas = renderer.prior.sample(num_pool, 0, renderer.accept)
    images, boxes = renderer.render(thetas, size)
    empty = ((0, 0), (0, max(max_boxes - boxes.shape[1], 0)), (0, 0))
    return images, np.pad(boxes, empty)[:, :max_boxes].astype(np.float32), thetas


def _entries(path: Path) -> list[dict[str, Any]]:
    """A list of objects with a "file".

    Raises:
        DatasetError: if it is none.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        if not entries or not all(isinstance(entry["file"], str) for entry in entries):
            raise ValueError("it must be a list of objects with a \"file\"")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: expected a list of pictures in JSON: {error!r}.") from error
    return entries


def _boxes(folder: Path, entry: dict[str, Any], count: int) -> np.ndarray:
    """The largest boxes of a picture (count, 4): top, left, bottom, right as parts of its sides."""
    try:
        given = np.array(entry.get("boxes", []), np.float32).reshape(-1, 4)
        sides = np.array(image_size(folder / entry["file"], allow_large=True), np.float32)
    except (OSError, ValueError) as error:
        path = folder / entry["file"]
        raise DatasetError(f"{path}: the picture or its boxes cannot be read: {error}.") from error
    given = given[np.argsort(-given[:, 2] * given[:, 3])][:count]
    corners = np.concatenate([given[:, [1, 0]], given[:, [1, 0]] + given[:, [3, 2]]], axis=1)
    boxes = np.zeros((count, 4), np.float32)
    boxes[: len(given)] = np.clip(corners / np.tile(sides, 2), 0, 1)
    return boxes


def _table(path: Path, pool: list[dict[str, Any]], max_people: int) -> np.ndarray:
    """Parameters (num, size) in [0, 1], from the smallest to the largest number that the list has."""
    try:
        globals_ = np.array([entry["scene"] for entry in pool], np.float32)
        people = [np.array(entry["people"], np.float32)[:max_people] for entry in pool]
        everybody = np.concatenate([p for p in people if len(p)])
        layout = Layout(globals_.shape[1], everybody.shape[1], max_people)
        rows = [
            layout.row(_scaled(own, globals_), _scaled(p, everybody) if len(p) else p)
            for own, p in zip(globals_, people)
        ]
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise DatasetError(
            f"{path}: every scene needs \"scene\", a list of numbers, and \"people\", a list of such lists, "
            f"all equally long: {error!r}."
        ) from error
    return np.stack(rows)


def _scaled(values: np.ndarray, everything: np.ndarray) -> np.ndarray:
    low, high = everything.min(axis=0), everything.max(axis=0)
    return (values - low) / np.maximum(high - low, 1e-9)
