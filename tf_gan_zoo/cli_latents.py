"""Commands of `tf-gan-zoo` around latents; `cli` puts them into the program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from tf_gan_zoo.cli_options import (
    Name,
    OutPath,
    Truncation,
    Weights,
    integers,
    no_weights,
    path_argument,
    path_option,
    short_name,
)
from tf_gan_zoo.files import write as write_file

Seed = Annotated[int, typer.Option(help="The same seed gives the same result.")]
Data = Annotated[Optional[str], typer.Option(help="Data set; the recipe's by default.")]  # noqa: UP045
Labels = Annotated[Optional[str], typer.Option(help="Classes, e.g. 0,1,2; all by default.")]  # noqa: UP045


def add_commands(app: typer.Typer) -> None:
    """Adds interpolate, walk, arithmetic, invert, neighbours and sweep."""
    for command in (interpolate, walk, arithmetic, invert, neighbours, sweep):
        app.command()(command)


def interpolate(
    name: Name,
    out: OutPath = None,
    weights: Weights = "pretrained",
    seed: Seed = 0,
    how: Annotated[str, typer.Option(help="slerp (along arcs) or lerp (along lines).")] = "slerp",
    rows: Annotated[int, typer.Option(min=1, help="Ways side by side.")] = 16,
    steps: Annotated[int, typer.Option(min=2, help="Pictures from one latent to the next.")] = 12,
    truncation: Truncation = None,
) -> None:
    """Morph between random samples: a closed tour as GIF or MP4, or for --out NAME.png a sheet."""
    from tf_gan_zoo import latents, present

    model, target = _model(name, weights), out or Path(f"{short_name(name)}.gif")
    if target.suffix.lower() == ".png":
        ends = latents.latents_of(model, latents.sample(model, 2 * rows, seed, truncation=truncation))
        images = latents.interpolate(model, ends[:rows], ends[rows:], steps, how, seed)
        picture = latents.sweep_sheet(model, images)
        typer.echo(str(present.save_image(picture, target)))
        return
    frames = latents.latent_walk(
        model, seed=seed, num_walks=rows, frames_per_leg=steps, how=how, truncation=truncation
    )  # fmt: skip
    typer.echo(str(present.save_animation(frames, target)))


def walk(
    name: Name,
    out: Annotated[Optional[Path], path_option(help="NAME.gif or NAME.mp4.")] = None,  # noqa: UP045
    weights: Weights = "pretrained",
    seed: Seed = 0,
    frames: Annotated[int, typer.Option(min=3, help="Frames of the round trip.")] = 96,
    walks: Annotated[int, typer.Option(min=1, help="Circles side by side.")] = 16,
    enlarge: Annotated[int, typer.Option(min=1, help="How many pixels wide a pixel is shown.")] = 2,
    fps: Annotated[int, typer.Option(min=1, help="Frames per second.")] = 15,
    levels: Annotated[
        Optional[int], typer.Option(min=2, max=256, help="Gray levels of a GIF; 256 by default.")  # noqa: UP045
    ] = None,
) -> None:
    """Walk around a sphere in latent space and back to the start, as GIF or MP4."""
    from tf_gan_zoo import latents, present

    model, target = _model(name, weights), out or Path(f"{short_name(name)}.walk.gif")
    images = latents.sphere_walk(model, num_frames=frames, num_walks=walks, seed=seed)
    shown = present.enlarged(images, enlarge)
    typer.echo(str(present.save_animation(shown, target, frames_per_second=fps, levels=levels)))


def arithmetic(
    name: Name,
    a: Annotated[str, typer.Argument(help='What A shows: a class, or words of captions: "italic h".')],
    b: Annotated[str, typer.Argument(help='What is taken off: "h not italic".')],
    c: Annotated[str, typer.Argument(help='What is added: "k not italic".')],
    out: OutPath = None,
    weights: Weights = "pretrained",
    seed: Seed = 0,
    data: Data = None,
    samples: Annotated[int, typer.Option(min=1, help="Pictures that are drawn and labelled.")] = 4000,
    over: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Average A - B over these words, e.g. h,k,t, and add it to C with each of them."),
    ] = None,
) -> None:
    """Add and subtract mean latents of labelled samples: A - B + C, as a sheet with examples."""
    from tf_gan_zoo import latents, present

    model = _model(name, weights)
    labeller = latents.label_by_neighbours(*_labelled_data(model, data))
    labelled = latents.label_samples(model, labeller, samples, seed)
    target = out or Path(f"{short_name(name)}.arithmetic.png")
    if over is not None:
        picture = latents.direction_sheet(model, labelled, (a, b, c), over.split(","), seed=seed)
        typer.echo(str(present.save_image(picture, target)))
        return
    present.save_image(latents.arithmetic_sheet(model, labelled, (a, b, c), seed=seed), target)
    result = latents.arithmetic(model, *(labelled.mean(term) for term in (a, b, c)))
    found = labeller(latents.pictures(model, result, seed))
    typer.echo(f"nearest to the result: {str(found.labels[0])!r}, distance {found.doubts[0]:.3f}")
    typer.echo(str(target))


def invert(
    name: Name,
    source: Annotated[Path, path_argument(help="A picture, or a folder of pictures.")],
    out: OutPath = None,
    weights: Weights = "pretrained",
    seed: Seed = 0,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the search.")] = 400,
    starts: Annotated[int, typer.Option(min=1, help="Starts of the search per picture.")] = 6,
    save_latents: Annotated[
        Optional[Path], path_option("--latents", help="Also write the latents, as .npy.")  # noqa: UP045
    ] = None,
) -> None:
    """Find the latents of pictures; shows each beside what the generator makes of its latents."""
    import numpy as np

    from tf_gan_zoo import latents, pictures, present

    if save_latents is not None and save_latents.suffix not in ("", ".npy"):
        raise typer.BadParameter(f"expected a name that ends in .npy, got {save_latents.name!r}.")
    model = _model(name, weights)
    sources = pictures.picture_files(source)
    images = np.concatenate([_read(model, file) for file in sources])
    found = latents.invert(model, images, num_steps=steps, num_starts=starts, seed=seed)
    for file, decibels in zip(sources, found.psnr):
        typer.echo(f"{file}: {decibels:.1f} dB")
    if save_latents is not None:
        write_file(save_latents.with_suffix(".npy"), lambda file: np.save(file, found.latents))
        typer.echo(str(save_latents.with_suffix(".npy")))
    columns = {"given": images, "found": found.pictures}
    picture = present.strips(columns, value_range=present.output_range(model))
    typer.echo(str(present.save_image(picture, out or Path(f"{short_name(name)}.inverted.png"))))


def neighbours(
    name: Name,
    out: OutPath = None,
    weights: Weights = "pretrained",
    seed: Seed = 0,
    count: Annotated[int, typer.Option(min=1, help="Generated pictures.")] = 8,
    k: Annotated[int, typer.Option("-k", min=1, help="Neighbours of each.")] = 5,
    data: Data = None,
    split: Annotated[str, typer.Option(help="train, test, val or all.")] = "train",
    extractor: Annotated[
        Optional[str], typer.Option(help="Compare features instead of pixels: glyphs, fashion_mnist...")  # noqa: UP045
    ] = None,
) -> None:
    """Show generated pictures beside the training pictures that are nearest to them."""
    from tf_gan_zoo import latents, present

    model = _model(name, weights)
    dataset = _data(model, data, split=split).dataset(start_step=0, repeat=False)
    images = model.run(latents.sample(model, count, seed))
    features = _features(extractor, present.output_range(model))
    found = latents.nearest(images, dataset, k, features=features)
    picture = latents.neighbour_sheet(images, found, present.output_range(model))
    typer.echo(f"distance of the nearest: {found.distances[:, 0].mean():.3f} on average, "
               f"{found.distances.min():.3f} at least")  # fmt: skip
    typer.echo(str(present.save_image(picture, out or Path(f"{short_name(name)}.neighbours.png"))))


def sweep(
    name: Name,
    out: OutPath = None,
    weights: Weights = "pretrained",
    seed: Seed = 0,
    code: Annotated[Optional[int], typer.Option(min=0, help="Vary this continuous code.")] = None,  # noqa: UP045
    low: Annotated[Optional[float], typer.Option(help="First value of the code; -2 by default.")] = None,  # noqa: UP045
    high: Annotated[Optional[float], typer.Option(help="Last value of the code; 2 by default.")] = None,  # noqa: UP045
    columns: Annotated[int, typer.Option(min=2, help="Values of the code, or noises.")] = 10,
    labels: Labels = None,
) -> None:
    """Show what classes do (rows), under several noises or with --code under values of a code (columns)."""
    import numpy as np

    from tf_gan_zoo import latents, present

    if code is None and (low is not None or high is not None):
        raise typer.BadParameter("--low and --high are values of a code: name it by --code.")
    model, chosen = _model(name, weights), integers(labels)
    if code is None:
        cells = latents.class_sweep(model, chosen, columns, seed)
    else:
        values = np.linspace(-2.0 if low is None else low, 2.0 if high is None else high, columns)
        cells = latents.code_sweep(model, code, values, chosen, seed=seed)
    target = out or Path(f"{short_name(name)}.sweep.png")
    typer.echo(str(present.save_image(latents.sweep_sheet(model, cells), target)))


# -------------------------------------------------------------------- parts of commands


def _model(name: str, weights: str) -> Any:
    from tf_gan_zoo import train as training
    from tf_gan_zoo.latents.inputs import require_latents

    return require_latents(training.load_model(name, no_weights(weights)))


def _data(model: Any, data: str | None, **changes: Any) -> Any:
    """Each picture of a data set once, as the model was trained on them."""
    from tf_gan_zoo import train as training

    if data is not None:
        model = training.unbuilt(type(model), model.config.replace(data=data, data_options={}))
    return training.open_pipeline(model, shuffle=False, drop_remainder=False, batch_size=1024,
                                  **{"split": "train", **changes})  # fmt: skip


def _labelled_data(model: Any, data: str | None) -> tuple[Any, str]:
    """A data set with captions if it has any, else with labels; and the field's name."""
    from tf_gan_zoo.data import DatasetError

    try:
        return _data(model, data, view="captioned").dataset(start_step=0, repeat=False), "captions"
    except DatasetError:
        return _data(model, data, view="labelled").dataset(start_step=0, repeat=False), "labels"


def _read(model: Any, file: Path) -> Any:
    """A picture file in the model's size, channels and range."""
    from tf_gan_zoo import conversion, pictures, present

    height, width, channels = model.batch_spec["images"].shape
    value_range = present.output_range(model)
    return pictures.read_pixels(
        file, size=(height, width), channels=channels, value_range=value_range,
        value_window=conversion.trained_window(model),
    )  # fmt: skip


def _features(extractor: str | None, value_range: tuple[float, float]) -> Any:
    """Pictures in `value_range` -> feature vectors; None for pixels."""
    if extractor is None:
        return None
    from tf_gan_zoo.metrics.features import get_extractor

    network, (low, high) = get_extractor(extractor), value_range
    return lambda images: network((images - low) * (2.0 / (high - low)) - 1.0)[0]
