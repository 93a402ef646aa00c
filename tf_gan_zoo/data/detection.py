"""Pictures with boxes in COCO's format: "coco:DIR" with DIR/train.json and the pictures in DIR/train/.

Likewise test.json and test/, val.json and val/. A file lists `images` (id, file_name, width, height),
`categories` (id, name) and `annotations` (image_id, category_id, bbox: left, top, width, height in
pixels); most detection data can be had or converted so.

* detection: `images`, resized to `image_size` whatever their aspect; `boxes` (num, `num_boxes`, 4), float32
  top, left, bottom, right as parts of the height and width; `labels` (num, `num_boxes`): 0 is no object, k
  the k-th category by id. A picture with more objects keeps the largest.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from tf_gan_zoo.data.images import ImageFile
from tf_gan_zoo.data.sources import DatasetError, Request, Source, existing_path, register_source


@register_source("coco", views=("detection",), needs_path=True)
def read_coco(request: Request, *, num_boxes: int = 32) -> Source:
    """Reads the list of a split; pictures without objects are left out.

    Args:
        request: Split "train", "test" or "val".
        num_boxes: Boxes per picture; fewer are filled up with empty ones.

    Raises:
        DatasetError: If the list is missing, is not in this format, or has no objects.
    """
    root = existing_path(request, "coco")
    content = _content(root / f"{request.split}.json")
    try:
        classes = {c["id"]: k + 1 for k, c in enumerate(sorted(content["categories"], key=_identity))}
        names = ("none", *(c["name"] for c in sorted(content["categories"], key=_identity)))
        objects = defaultdict(list)
        for entry in content["annotations"]:
            objects[entry["image_id"]].append((entry["bbox"], classes[entry["category_id"]]))
        used = [image for image in sorted(content["images"], key=_identity) if objects[image["id"]]]
        filled = [_boxes_of(objects[image["id"]], image, num_boxes) for image in used]
        files = [ImageFile(str(root / request.split / image["file_name"])) for image in used]
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{root / request.split}.json is not in COCO's format: {error!r}.") from error
    if not files:
        raise DatasetError(f"{root / request.split}.json has no picture with an object.")
    boxes, labels = (np.stack(part) for part in zip(*filled))
    return Source({"images": files}, {"boxes": boxes, "labels": labels}, names)


def _content(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise DatasetError(f"There is no {path}: expected a list in COCO's format with that name.")
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise DatasetError(f"{path} is not JSON: {error}.") from error


def _identity(entry: dict[str, Any]) -> int:
    return entry["id"]


def _boxes_of(objects: list, image: dict[str, Any], count: int) -> tuple[np.ndarray, np.ndarray]:
    """The largest `count` of a picture's objects: (count, 4) as parts of its sides, and (count,)."""
    objects = sorted(objects, key=lambda item: -item[0][2] * item[0][3])[:count]
    boxes, labels = np.zeros((count, 4), np.float32), np.zeros(count, np.int32)
    for k, ((left, top, width, height), label) in enumerate(objects):
        corners = np.array([top, left, top + height, left + width], np.float32)
        boxes[k] = np.clip(corners / np.tile([image["height"], image["width"]], 2), 0, 1)
        labels[k] = label
    return boxes, labels
