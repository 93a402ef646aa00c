"""Pictures of people with keypoints, in pairs of the same person: a folder of one's own, "people:DIR".

The files are those that the research on pose transfer has come to share, under their own names:

    DIR/train/, DIR/test/        the pictures
    DIR/*annotation-train.csv    name:keypoints_y:keypoints_x     (and *annotation-test.csv)
    DIR/*pairs-train.csv         from,to                          (and *pairs-test.csv; may be left out)

A line of the first is a picture and two lists of 18 pixel rows and columns, -1 for joints that were not
found, in OpenPose's order (`tf_gan_zoo.bodies.JOINTS`):

    0002_c1s1_000451_03.jpg: [17, 32, ..., -1]: [31, 30, ..., -1]

Without pairs, all pairs of pictures whose names are the same up to the first "_" are taken, both ways.
`tf_gan_zoo.data.figures.write_example("my_people")` writes such a folder.

* pose_pairs: `inputs` and `targets`, resized to `image_size` whatever their aspect; `keypoints` (num, 18, 3)
  of the targets: across and down as parts of width and height, and whether the joint is visible.

The data sets of PG2:

* Market-1501: 32,668 pictures of 1,501 pedestrians, 128x64, for research (L. Zheng et al., ICCV 2015);
* DeepFashion, In-shop Clothes Retrieval: 52,712 pictures, 256x256, for non-commercial research under an
  agreement (https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion.html).

Keypoints come from a pose estimator such as OpenPose, or with published annotations in this very form.
"""

import collections
import itertools
import json
from pathlib import Path

import numpy as np

from tf_gan_zoo.bodies import JOINTS, from_pixels
from tf_gan_zoo.data.images import ImageFile
from tf_gan_zoo.data.sources import DatasetError, Request, Source, existing_path, register_source
from tf_gan_zoo.data.tables import check_files, read_rows
from tf_gan_zoo.image_files import ImageFileError, image_size

_COLUMNS = ("name", "keypoints_y", "keypoints_x")
_EXAMPLE = "an annotation file whose first line is name:keypoints_y:keypoints_x"


@register_source("people", views=("pose_pairs",), needs_path=True)
def read_people(request: Request, *, max_pairs: int | None = None) -> Source:
    """Reads the annotations and pairs of a split.

    Args:
        request: Split "train" or "test".
        max_pairs: Take so many of the pairs only, spread over all of them.
    """
    root, split = existing_path(request, "people"), request.split
    if split not in ("train", "test"):
        raise DatasetError(f'people has the splits "train" and "test", got {split!r}.')
    table = _only(root, f"*annotation-{split}.csv")
    if table is None:
        raise DatasetError(f"{root} has no file *annotation-{split}.csv: expected {_EXAMPLE}.")
    rows = read_rows(table, _COLUMNS, delimiter=":")
    check_files(table, "name", rows, root / split)
    keypoints = {r["name"]: _keypoints(table, k, r, root / split) for k, r in enumerate(rows, start=2)}
    pairs = _pairs(root, split, list(keypoints))
    if max_pairs and len(pairs) > max_pairs:
        pairs = [pairs[k] for k in np.linspace(0, len(pairs) - 1, max_pairs).astype(int)]
    columns = [[ImageFile(str(root / split / pair[k])) for pair in pairs] for k in (0, 1)]
    values = {"keypoints": np.stack([keypoints[target] for _, target in pairs])}
    return Source(dict(zip(("inputs", "targets"), columns)), values)


def _only(root: Path, pattern: str) -> Path | None:
    """The one file that a pattern fits."""
    found = sorted(root.glob(pattern))
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise DatasetError(f"{root}: several files fit {pattern} ({names}). Leave only one of them.")
    return found[0] if found else None


def _keypoints(table: Path, number: int, row: dict[str, str], folder: Path) -> np.ndarray:
    """(18, 3) of one line."""
    places = []
    for name in ("keypoints_x", "keypoints_y"):
        try:
            values = np.array(json.loads(row[name]), float)
        except (ValueError, TypeError):
            message = f"{table}, line {number}: {name} is no list of numbers: {row[name]!r}."
            raise DatasetError(message) from None
        if values.shape != (len(JOINTS),):
            raise DatasetError(
                f"{table}, line {number}: {name} must have {len(JOINTS)} numbers, got {values.size}. The "
                f"order is {', '.join(JOINTS)}."
            )
        places.append(values)
    try:
        return from_pixels(*places, image_size(folder / row["name"], allow_large=True))
    except ImageFileError as error:
        raise DatasetError(f"{table}, line {number}: {folder / row['name']} {error}.") from error


def _pairs(root: Path, split: str, names: list[str]) -> list[tuple[str, str]]:
    table = _only(root, f"*pairs-{split}.csv")
    if table is None:
        people = collections.defaultdict(list)
        for name in names:
            people[name.partition("_")[0]].append(name)
        pairs = [pair for person in people.values() for pair in itertools.permutations(person, 2)]
        if not pairs:
            raise DatasetError(
                f"{root} has no *pairs-{split}.csv, and no two pictures whose names are the same up to the "
                'first "_". Write the pairs into such a file; its first line is from,to'
            )
        return pairs
    rows, known = read_rows(table, ("from", "to")), set(names)
    for number, row in enumerate(rows, start=2):
        unknown = [row[side] for side in ("from", "to") if row[side] not in known]
        if unknown:
            raise DatasetError(f"{table}, line {number}: {unknown[0]} has no keypoints in the annotations.")
    return [(row["from"], row["to"]) for row in rows]
