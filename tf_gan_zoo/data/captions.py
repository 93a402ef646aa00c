"""Pictures with captions of one's own: "captions:FOLDER"."""

import csv

import numpy as np

from tf_gan_zoo.data.folders import in_test_split
from tf_gan_zoo.data.images import ImageFile
from tf_gan_zoo.data.sources import DatasetError, Request, Source, existing_path, register_source

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
    rows = _rows(folder / TABLE)
    names = tuple(sorted({row["class"] for row in rows}))
    classes = {name: k for k, name in enumerate(names)}
    key = "file" if hold_out == "files" else "class"
    chosen = [r for r in rows if request.split in ("all", "test" if in_test_split(r[key]) else "train")]
    values = {
        "labels": np.array([classes[row["class"]] for row in chosen], np.int32),
        "captions": np.array([row["caption"].strip().lower() for row in chosen], object),
    }
    return Source({"images": [ImageFile(str(folder / row["file"])) for row in chosen]}, values, names)


def _rows(table) -> list[dict[str, str]]:
    """The table's rows, checked: all columns, no empty cells, files that are there."""
    if not table.is_file():
        raise DatasetError(f"{table.parent} has no table {TABLE} with the columns {', '.join(_COLUMNS)}.")
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise DatasetError(f"{table} has no column {missing[0]!r}; it needs {', '.join(_COLUMNS)}.")
            rows = list(reader)
    except UnicodeDecodeError as error:
        raise DatasetError(f"{table} is no UTF-8 text: {error}. Save it as UTF-8.") from error
    for number, row in enumerate(rows, start=2):
        empty = [name for name in _COLUMNS if not (row[name] or "").strip()]
        if empty:
            raise DatasetError(f"{table}, line {number}: nothing in column {empty[0]!r}.")
        if not (table.parent / row["file"]).is_file():
            raise DatasetError(f"{table}, line {number}: there is no file {table.parent / row['file']}.")
    return rows
