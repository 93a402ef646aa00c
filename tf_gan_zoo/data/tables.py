"""Tables beside pictures: CSV files read with errors that name the line and what it lacks."""

import csv
from pathlib import Path

from tf_gan_zoo.data.sources import DatasetError


def read_rows(table: Path, columns: tuple[str, ...], delimiter: str = ",") -> list[dict[str, str]]:
    """The rows of a table with a header; further columns are kept, too.

    Args:
        table: UTF-8 text.
        columns: which it must have, with something in every row.
        delimiter: between columns.

    Raises:
        DatasetError: For a missing file, another encoding, a missing column, an empty cell or no rows.
    """
    form = delimiter.join(columns)
    if not table.is_file():
        raise DatasetError(f"There is no table {table}: expected UTF-8 text that begins with the line {form}")
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter=delimiter)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise DatasetError(f"{table} has no column {missing[0]!r}; its first line must be {form}")
            rows = list(reader)
    except UnicodeDecodeError as error:
        raise DatasetError(f"{table} is no UTF-8 text: {error}. Save it as UTF-8.") from error
    for number, row in enumerate(rows, start=2):
        empty = [name for name in columns if not (row[name] or "").strip()]
        if empty:
            raise DatasetError(f"{table}, line {number}: nothing in column {empty[0]!r}.")
    if not rows:
        raise DatasetError(f"{table} has no rows below its header.")
    return rows


def check_files(table: Path, column: str, rows: list[dict[str, str]], folder: Path) -> None:
    """Checks that the pictures which a table names are there.

    Raises:
        DatasetError: Naming the first missing file and its line.
    """
    for number, row in enumerate(rows, start=2):
        if not (folder / row[column]).is_file():
            raise DatasetError(f"{table}, line {number}: there is no file {folder / row[column]}.")
