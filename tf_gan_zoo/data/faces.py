"""Faces with identities and poses: a folder of one's own, "faces:DIR".

DIR/faces.csv, UTF-8, names the pictures, who they show, and the yaw in degrees, 0 for a frontal face:

    file,identity,yaw
    001/041_06.png,001,-45
    001/051_06.png,001,0
    002/190_06.png,002,45

A column `split` with train or test in every row settles the splits; else a stable hash puts a tenth of the
people into the test split, so that nobody is in both. Crop the faces first, eyes and mouth in place.
`tf_gan_zoo.data.heads.write_example("my_faces")` writes such a folder.

* posed: `images`; `labels`, identities numbered from 0 within a split; `poses`, numbers of bins of the yaw:
  the outermost negative one is 0, and the middle one of an odd number is frontal.
* posed_sets: `set_size` pictures of one person in each example.

The data sets of DR-GAN, none of which can be downloaded freely:

* CMU Multi-PIE: 337 people, 15 views, 19 lights; bought from Carnegie Mellon University under a licence for
  research (https://www.cs.cmu.edu/afs/cs/project/PIE/MultiPie/Multi-Pie/Home.html);
* CASIA-WebFace: 494,414 pictures of 10,575 people, for research on request (arXiv:1411.7923); yaws have to
  be estimated;
* CFP: 500 people, frontal and profile, for research (http://www.cfpw.io); IJB-A: on request from NIST.
"""

import warnings

import numpy as np

from tf_gan_zoo.data.image_folders import in_test_split
from tf_gan_zoo.data.images import ImageFile
from tf_gan_zoo.data.sources import DatasetError, Request, Source, existing_path, register_source
from tf_gan_zoo.data.tables import check_files, read_rows

TABLE = "faces.csv"
VIEWS = ("posed", "posed_sets", "images", "labelled")


@register_source("faces", views=VIEWS, needs_path=True)
def read_faces(
    request: Request, *, num_poses: int = 9, max_yaw: float = 60.0, num_identities: int | None = None
) -> Source:
    """Reads the table; faces turned beyond the outermost bins are left out with a warning.

    Args:
        request: Split "train", "test" or "all".
        num_poses: Bins of the yaw.
        max_yaw: Middle of the outermost bin in degrees; the others lie evenly between -max_yaw and max_yaw.
        num_identities: How many people the model was built for; more are an error.
    """
    folder = existing_path(request, "faces")
    if request.split not in ("train", "test", "all"):
        raise DatasetError(f'faces has the splits "train", "test" and "all", got {request.split!r}.')
    rows = read_rows(folder / TABLE, ("file", "identity", "yaw"))
    check_files(folder / TABLE, "file", rows, folder)
    yaws = [_yaw(folder / TABLE, k, row) for k, row in enumerate(rows, 2)]
    poses = pose_bins(np.array(yaws), num_poses, max_yaw)
    chosen = np.array([_in_split(folder / TABLE, k, row, request.split) for k, row in enumerate(rows, 2)])
    _report_turned_away(folder / TABLE, int((chosen & (poses < 0)).sum()), max_yaw, request.strict)
    kept = np.flatnonzero(chosen & (poses >= 0))
    if not len(kept):
        raise DatasetError(
            f"{folder / TABLE} has no usable face in split {request.split!r}. Add people, or a column split."
        )
    names, labels = np.unique([rows[k]["identity"] for k in kept], return_inverse=True)
    _check_count(folder / TABLE, len(names), num_identities, request.split)
    files = [ImageFile(str(folder / rows[k]["file"])) for k in kept]
    return Source({"images": files}, {"labels": labels, "poses": poses[kept]}, tuple(names.tolist()))


def pose_bins(yaws: np.ndarray, num_poses: int, max_yaw: float) -> np.ndarray:
    """Yaws in degrees (num,) -> bins, int32 (num,); -1 for those half a bin or more beyond the outermost.

    Raises:
        DatasetError: For fewer than two bins, or a largest yaw that is not above 0.
    """
    if num_poses < 2 or max_yaw <= 0:
        raise DatasetError(f"num_poses must be 2 or more and max_yaw above 0, got {num_poses} and {max_yaw}.")
    step = 2 * max_yaw / (num_poses - 1)
    bins = np.floor((np.asarray(yaws, float) + max_yaw) / step + 0.5).astype(np.int32)
    return np.where((bins >= 0) & (bins < num_poses), bins, -1).astype(np.int32)


def _yaw(table, number: int, row: dict[str, str]) -> float:
    try:
        return float(row["yaw"])
    except ValueError:
        raise DatasetError(f"{table}, line {number}: yaw must be degrees, got {row['yaw']!r}.") from None


def _in_split(table, number: int, row: dict[str, str], split: str) -> bool:
    own = (row.get("split") or "").strip()
    if "split" in row and own not in ("train", "test"):
        raise DatasetError(f'{table}, line {number}: split must be "train" or "test", got {own!r}.')
    own = own or ("test" if in_test_split(row["identity"]) else "train")
    return split in ("all", own)


def _report_turned_away(table, count: int, max_yaw: float, strict: bool) -> None:
    if not count:
        return
    message = f"{table}: {count} face(s) are turned too far beyond {max_yaw:g} degrees"
    if strict:
        raise DatasetError(f"{message}. Give a larger max_yaw, or leave out strict=True.")
    warnings.warn(f"{message}; they are left out. A larger max_yaw keeps them.", stacklevel=2)


def _check_count(table, found: int, expected: int | None, split: str) -> None:
    if expected is not None and found > expected:
        raise DatasetError(
            f"{table}: {found} people in split {split!r}, but the model has num_identities={expected}. "
            f"Build it with num_identities={found}."
        )
