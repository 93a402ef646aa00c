"""Commands that turn picture files into picture files: translate, upscale, refine."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tf_gan_zoo.cli_options import Name, Weights, no_weights, path_option

#: Pictures without a result that the summary names.
_SHOWN_FAILURES = 20

Sources = Annotated[
    list[str], typer.Argument(help="Pictures, folders of pictures, or patterns such as 'trip/**/*.jpg'.")
]
Out = Annotated[
    Optional[Path],  # noqa: UP045
    path_option("--out", help="Folder, or name.png, .jpg, ... for one; beside the pictures by default."),
]
Format = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--format", help="png (default), png16, jpg, webp, tif, bmp, pfm or npy."),
]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Read folders with their subfolders.")]
AllowLarge = Annotated[
    bool, typer.Option("--allow-large", help="Read pictures of more than 67 million pixels or 512 MiB, too.")
]
Suffix = Annotated[Optional[str], typer.Option(help="Added to each file's name.")]  # noqa: UP045
Resize = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--size", help="Resize first: the shorter side, or HEIGHTxWIDTH. Kept by default."),
]
Tile = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(min=1, help="Work on tiles of this side; large pictures do so by default."),
]
ValueWindow = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--value-window", metavar="LOW,HIGH|min_max",
        help="Values of files that become black and white; by default as in training, else the type's range.",
    ),
]  # fmt: skip
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Make results anew that are there, or replace the pictures.")
]


def add_commands(app: typer.Typer) -> None:
    """Adds this module's commands to the program."""
    for command in (translate, upscale, refine):
        app.command()(command)


def translate(
    name: Name, sources: Sources, out: Out = None, weights: Weights = "pretrained",
    direction: Annotated[Optional[str], typer.Option(help="a_to_b or b_to_a.")] = None,  # noqa: UP045
    size: Resize = None, tile: Tile = None, suffix: Suffix = None, format: Format = None,
    recursive: Recursive = False, overwrite: Overwrite = False, allow_large: AllowLarge = False,
    value_window: ValueWindow = None,
) -> None:  # fmt: skip
    """Turn pictures into the other domain; results lie beside them unless --out names a folder."""
    _convert(
        name, "translate", sources, weights, out=out, suffix=suffix, kind=format, recursive=recursive,
        overwrite=overwrite, allow_large=allow_large, direction=direction, size=_size(size), tile=tile,
        value_window=_window(value_window),
    )  # fmt: skip


def upscale(
    name: Name, sources: Sources, out: Out = None, weights: Weights = "pretrained",
    tile: Tile = None, suffix: Suffix = None, format: Format = None, recursive: Recursive = False,
    overwrite: Overwrite = False, allow_large: AllowLarge = False, value_window: ValueWindow = None,
) -> None:  # fmt: skip
    """Enlarge pictures of any size; results lie beside them unless --out names a folder."""
    _convert(
        name, "upscale", sources, weights, out=out, suffix=suffix, kind=format, recursive=recursive,
        overwrite=overwrite, allow_large=allow_large, tile=tile, value_window=_window(value_window),
    )  # fmt: skip


def refine(
    name: Name, sources: Sources, out: Out = None, weights: Weights = "pretrained",
    size: Resize = None, tile: Tile = None, suffix: Suffix = None, format: Format = None,
    recursive: Recursive = False, overwrite: Overwrite = False, allow_large: AllowLarge = False,
    value_window: ValueWindow = None,
) -> None:  # fmt: skip
    """Make synthetic pictures look real; results lie beside them unless --out names a folder."""
    _convert(
        name, "refine", sources, weights, out=out, suffix=suffix, kind=format, recursive=recursive,
        overwrite=overwrite, allow_large=allow_large, size=_size(size), tile=tile,
        value_window=_window(value_window),
    )  # fmt: skip


def _convert(name: str, task: str, sources: list[str], weights: str, **options: Any) -> None:
    """Converts all files; exit status 3 if some have no result, which a last summary names."""
    from tf_gan_zoo import conversion, pictures
    from tf_gan_zoo import train as training

    if options["suffix"] is None:
        options["suffix"] = conversion.SUFFIXES[task]
    where = {key: options[key] for key in ("suffix", "out", "recursive", "kind")}
    files = pictures.plan(sources, **where)[0]
    model = training.load_model(name, no_weights(weights))
    outcomes: list = []
    try:
        with _progress(task, len(files)) as advance:
            for outcome in conversion.convert_files(model, task, sources, on_tile=advance, **options):
                outcomes.append(outcome)
                _report(outcome)
                advance(1, 1, whole=True)
    finally:  # also after Ctrl-C or on a full disk
        _summarize(outcomes, len(files))
    if any(outcome.problem for outcome in outcomes):
        raise typer.Exit(3)


def _report(outcome: Any) -> None:
    if outcome.status == "written":
        typer.echo(str(outcome.target))
    elif outcome.problem:
        typer.echo(f"skipped: {outcome.problem}", err=True)


def _summarize(outcomes: list, planned: int) -> None:
    """Counts, what failed, and what could hardly be seen, on stderr."""
    from tf_gan_zoo.pixels import advice

    typer.echo(_counts(Counter(outcome.status for outcome in outcomes), planned), err=True)
    failed = [f"  {outcome.problem}" for outcome in outcomes if outcome.problem]
    if failed:
        more = [f"  and {len(failed) - _SHOWN_FAILURES} more"] if len(failed) > _SHOWN_FAILURES else []
        typer.echo("\n".join(["without a result:", *failed[:_SHOWN_FAILURES], *more]), err=True)
    flat = [str(outcome.source) for outcome in outcomes if outcome.flat]
    if flat:
        typer.echo(f"warning: {advice(flat)} (--value-window LOW,HIGH or min_max)", err=True)


@contextmanager
def _progress(task: str, count: int) -> Iterator[Any]:
    """A bar on stderr if that is a terminal; yields what moves it on by a part of a picture."""
    columns = (TextColumn(task), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(
        *columns, console=Console(stderr=True), disable=not sys.stderr.isatty(),
        redirect_stdout=sys.stdout.isatty(),
    )  # fmt: skip
    finished = 0

    def advance(done: int, total: int, whole: bool = False) -> None:
        nonlocal finished
        bar.update(shown, completed=finished + done / total)
        finished += whole

    with bar:
        shown = bar.add_task(task, total=count)
        yield advance


def _counts(outcomes: Counter, planned: int) -> str:
    text = f"{outcomes['written']} written"
    if outcomes["exists"]:
        text += f", {outcomes['exists']} there already (--overwrite makes them anew)"
    text += "".join(f", {outcomes[what]} {what}" for what in ("unreadable", "failed") if outcomes[what])
    left = planned - outcomes.total()
    return f"{text}, {left} left: the same command goes on with them" if left else text


def _window(text: str | None) -> Any:
    """The option --value-window: "0,4095" gives (0.0, 4095.0), "min_max" itself."""
    from tf_gan_zoo.pixels import PixelError, check_window

    try:
        return check_window(text if text in (None, "min_max") else tuple(map(float, text.split(","))))
    except (PixelError, ValueError):
        raise typer.BadParameter(f"expected LOW,HIGH (0,4095 for example) or min_max: {text!r}.") from None


def _size(text: str | None) -> Any:
    """The option --size: "256" gives 256, "480x640" gives (480, 640)."""
    if text is None:
        return None
    sides = text.split("x")
    if len(sides) > 2 or not all(side.isdigit() and int(side) for side in sides):
        raise typer.BadParameter(f"expected 256 or 480x640 (height x width), got {text!r}.")
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))
