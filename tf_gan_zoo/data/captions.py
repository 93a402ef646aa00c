"""Pictures with captions of one's own: "captions:FOLDER"."""

import numpy as np

from tf_gan_zoo.data.image_folders import in_test_split
from tf_gan_zoo.data.images import ImageFile
from tf_gan_zoo.data.sources import DatasetError, Request, Source, existing_path, register_source
from tf_gan_zoo.data.tables import check_files, read_rows

TABLE = "captions.csv"
_COLUMNS = ("file", "caption", "class")


@register_source("captions", views=("images", "labelled", "captioned"), needs_path=True)
def read_captions(request: Request, *, hold_out: str = "files") -> Source:
    """A folder with pictures and a table captions.csv, UTF-8, with the columns file, caption and class:

        file,caption,class
        cardinal_01.jpg,a red bird with a black face,cardinal
        cardinal_01.jpg,a small bird on a branch,cardinal

    A picture with several captions is as many examples. Classes are what texts must not be mixed up between.

    Args:
        request: split "train", "test" or "all".
        hold_out: a stable hash of names puts a tenth into the test split: of "files", or of "classes", whose
            captions have then never been seen.
    """
    folder = existing_path(request, "captions")
    if hold_out not in ("files", "classes"):
        raise DatasetError(f'hold_out: expected "files" or "classes", got {hold_out!r}.')
    if request.split not in ("train", "test", "all"):
        raise DatasetError(f'captions has the splits "train", "test", "all", got {request.split!r}.')
    rows = read_rows(folder / TABLE, _COLUMNS)
    check_files(folder / TABLE, "file", rows, folder)
    names = tuple(sorted({row["class"] for row in rows}))
    classes = {name: k for k, name in enumerate(names)}
    key = "file" if hold_out == "files" else "class"
    chosen = [r for r in rows if request.split in ("all", "test" if in_test_split(r[key]) else "train")]
    values = {
        "labels": np.array([classes[row["class"]] for row in chosen], np.int32),
        "captions": np.array([row["caption"].strip().lower() for row in chosen], object),
    }
    return Source({"images": [ImageFile(str(folder / row["file"])) for row in chosen]}, values, names)
