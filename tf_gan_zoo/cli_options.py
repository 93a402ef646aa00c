"""Arguments and options that several commands of `tf-gan-zoo` share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from tf_gan_zoo.paths import expand


def path_option(*names: str, help: str) -> Any:
    """An option that takes a path, in which ~ is expanded: shells do so in words that begin with it only."""
    return typer.Option(*names, parser=expand, metavar="PATH", help=help)


def path_argument(help: str) -> Any:
    """The same as an argument."""
    return typer.Argument(parser=expand, metavar="PATH", help=help)


Name = Annotated[str, typer.Argument(help="A model (dcgan), a recipe (dcgan.glyphs) or a run folder.")]
Weights = Annotated[str, typer.Option(help='"pretrained", "none", or the path or address of a file.')]
OutPath = Annotated[Optional[Path], path_option("--out", help="Where the result goes.")]  # noqa: UP045
Truncation = Annotated[
    Optional[float], typer.Option(help="Largest size of a number in the latents; less is more typical.")  # noqa: UP045
]


def no_weights(weights: str) -> str | None:
    """What `load_model` takes for the option --weights."""
    return None if weights == "none" else weights


def short_name(name: str) -> str:
    """The last part of the name of a model, recipe or run folder, for files that are made of it."""
    return os.path.basename(os.path.abspath(expand(name)))


def integers(text: str | None) -> list[int] | None:
    """The numbers of e.g. "0,1,2".

    Raises:
        BadParameter: for anything else.
    """
    try:
        return None if text is None else [int(word) for word in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"expected whole numbers, e.g. 0,1,2, got {text!r}.") from None
