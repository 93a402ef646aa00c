"""The program `tf-gan-zoo`. Commands import TensorFlow when they run, so that `--help` answers at once."""

from __future__ import annotations

import contextlib
import errno
import inspect
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, Optional

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tf_gan_zoo import cli_latents, cli_pictures
from tf_gan_zoo.cli_options import (
    Name,
    OutPath,
    Truncation,
    Weights,
    integers,
    no_weights,
    path_option,
    short_name,
)

app = typer.Typer(
    name="tf-gan-zoo", help="Generative adversarial networks as Keras models.", no_args_is_help=True,
    add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip


@app.callback()
def _program(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    """Generative adversarial networks as Keras models: train, look, use."""


@app.command("list")
def list_models(
    task: Annotated[Optional[str], typer.Option(help="Only models for this task.")] = None,  # noqa: UP045
) -> None:
    """Models with their task, paper and recipes."""
    from tf_gan_zoo import registry, zoo

    table = Table("model", "task", "paper", "recipes", box=None)
    for name in zoo.list_models(task):
        spec = registry.get_spec(name)
        paper = f"{spec.paper.title} ({spec.paper.year})"
        table.add_row(name, ", ".join(spec.tasks), paper, "\n".join(zoo.list_recipes(name)))
    Console().print(table)


@app.command()
def info(name: Annotated[str, typer.Argument(help="A model.")]) -> None:
    """Paper, networks, recipes and default config of a model."""
    import yaml

    from tf_gan_zoo import zoo

    facts = zoo.info(name.partition(".")[0])
    where = f", {facts.paper.link}" if facts.paper.link else ""
    typer.echo(f"{facts.name}: {', '.join(facts.tasks)}")
    typer.echo(f"paper: {facts.paper.authors}, {facts.paper.title!r}, {facts.paper.year}{where}")
    typer.echo(f"recipes: {', '.join(facts.recipes) or 'none'}")
    typer.echo("trainable weights at paper size:")
    for network, count in facts.networks.items():
        typer.echo(f"  {network}: {count:,}")
    config = zoo.resolve(name)[1]
    typer.echo("config:\n" + _indented(yaml.safe_dump(config.to_dict(), sort_keys=False)))


@app.command()
def datasets(
    name: Annotated[
        Optional[str], typer.Argument(help="A source, to read about its files; with a path, what is there.")  # noqa: UP045
    ] = None,
    settings: Annotated[Optional[list[str]], typer.Option("--set", help="OPTION=VALUE for it.")] = None,  # noqa: UP045
    download: Annotated[bool, typer.Option("--download", help="Get tfds:NAME if it is not there.")] = False,
) -> None:
    """The data sources that --data takes; of one its files and options; of folder:DIR how DIR is read."""
    from tf_gan_zoo import config, data

    if name is None:
        table = Table("source", "what it reads or draws", box=None)
        for source in map(data.describe_source, data.list_sources()):
            table.add_row(source.name, escape(source.summary))
        Console().print(table)
        return
    if ":" in name:
        options = config.parse_settings(settings or []) | ({"download": True} if download else {})
        typer.echo(f"{name}: {data.summarize_source(name, **options)}")
        return
    source = data.describe_source(name)
    options = ", ".join(f"{key}={value!r}" for key, value in source.options.items())
    typer.echo(f"{source.name}: views {', '.join(source.views)}; options {options or 'none'}\n")
    typer.echo(source.description)


# Options of `train`.
Precision = Annotated[
    Optional[str], typer.Option(help="float32, mixed_float16 or mixed_bfloat16; the recipe's by default.")  # noqa: UP045
]
Accumulate = Annotated[
    Optional[int], typer.Option(min=1, help="Steps whose gradients become one update.")  # noqa: UP045
]
StepsPerExecution = Annotated[
    int, typer.Option(min=1, help="Steps per call into TensorFlow; more are faster if steps are short.")
]
ResumeFrom = Annotated[
    Optional[str], typer.Option(help="Go on from latest, last_good or FILE, and train again what came after.")  # noqa: UP045
]
CheckpointEvery = Annotated[
    Optional[int], typer.Option(min=1, help="Steps between checkpoints (also every epoch).")  # noqa: UP045
]
StopOnFailure = Annotated[
    bool, typer.Option("--stop-on-failure", help="Stop on NaN, a stuck discriminator or a collapse.")
]
Deterministic = Annotated[
    bool,
    typer.Option("--deterministic", help="Only repeatable operations; slower. On CPUs rounding can differ."),
]
EvaluateEvery = Annotated[
    Optional[int], typer.Option(min=1, help="Epochs between evaluations; the best weights are kept.")  # noqa: UP045
]
Metrics = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="What --evaluate-every computes, fid by default; the first one chooses the best."),
]


@app.command()
def train(
    name: Annotated[str, typer.Argument(help="A model or a recipe.")],
    out: Annotated[Optional[Path], path_option(help="Run folder.")] = None,  # noqa: UP045
    data: Annotated[Optional[str], typer.Option(help="Data set, e.g. glyphs or folder:DIR.")] = None,  # noqa: UP045
    settings: Annotated[Optional[list[str]], typer.Option("--set", help="FIELD=VALUE.")] = None,  # noqa: UP045
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    resume_from: ResumeFrom = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe only.")] = False,
    strategy: Annotated[str, typer.Option(help="auto, one, mirrored, multi_worker or tpu.")] = "auto",
    precision: Precision = None,
    accumulate: Accumulate = None,
    steps_per_execution: StepsPerExecution = 1,
    xla: Annotated[str, typer.Option(help="on, off or auto (Keras's choice).")] = "auto",
    weights: Annotated[Optional[str], typer.Option(help='Start from "pretrained" or a file.')] = None,  # noqa: UP045
    checkpoint_every: CheckpointEvery = None,
    stop_on_failure: StopOnFailure = False,
    deterministic: Deterministic = False,
    evaluate_every: EvaluateEvery = None,
    metrics: Metrics = None,
    download: Annotated[bool, typer.Option("--download", help="Get tfds: data that are not there.")] = False,
    allow_large: Annotated[bool, typer.Option("--allow-large", help="Even beyond this memory.")] = False,
) -> None:  # fmt: skip
    """Train a model or recipe into a run folder."""
    from tf_gan_zoo import config, zoo

    if allow_large:
        os.environ["ZOO_ALLOW_LARGE"] = "1"
    values = config.parse_settings(settings or [])
    given = {"precision": precision, "accumulation_steps": accumulate}
    values.update({field: value for field, value in given.items() if value is not None})
    if dry_run:
        _print_recipe(name, *zoo.resolve(name, {**values, **({"data": data} if data else {})}), values)
        return
    if out is None:
        raise typer.BadParameter("name a folder for the run, e.g. --out runs/a.", param_hint="--out")
    if download:
        _download(*zoo.resolve(name, {**values, **({"data": data} if data else {})}))
    if metrics is not None and evaluate_every is None:
        advice = "say how often they are computed, e.g. --evaluate-every 1."
        raise typer.BadParameter(advice, param_hint="--metrics")
    from tf_gan_zoo import callbacks
    from tf_gan_zoo import train as training

    more = [_evaluating(training.RunFolder(out), evaluate_every, metrics)] if evaluate_every else []
    try:
        folder = training.train(
            name, data=data, settings=values, out=out, resume=resume, resume_from=resume_from,
            strategy=strategy, weights=weights, checkpoint_every=checkpoint_every,
            stop_on_failure=stop_on_failure, deterministic=deterministic,
            command=_command_line(), more_callbacks=more, steps_per_execution=steps_per_execution, xla=xla,
        )  # fmt: skip
    except callbacks.Interrupted as interrupted:
        options = _non_defaults(
            checkpoint_every=checkpoint_every, stop_on_failure=stop_on_failure, deterministic=deterministic,
            steps_per_execution=steps_per_execution, xla=xla, evaluate_every=evaluate_every, metrics=metrics,
        )  # fmt: skip
        typer.echo(f"\nSaved after step {interrupted.step}. To go on:")
        typer.echo(training.resume_command(name, out, strategy, *options))
        raise typer.Exit(128 + interrupted.signum) from None
    typer.echo(f"Finished: {folder}")


@app.command()
def sample(
    name: Name,
    out: OutPath = None,
    weights: Weights = "pretrained",
    seed: Annotated[int, typer.Option(help="The same seed gives the same pictures.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="Number of pictures.")] = 64,
    labels: Annotated[Optional[str], typer.Option(help="Classes, e.g. 0,1,2; repeated as needed.")] = None,  # noqa: UP045
    truncation: Truncation = None,
) -> None:
    """Write a grid of generated pictures as PNG."""
    from tf_gan_zoo import present
    from tf_gan_zoo import train as training

    model = training.load_model(name, no_weights(weights))
    target = out or Path(f"{short_name(name)}.png")
    present.save_image(training.sample_grid(model, count, seed, integers(labels), truncation), target)
    typer.echo(str(target))


cli_latents.add_commands(app)
cli_pictures.add_commands(app)


@app.command()
def fetch(
    name: Annotated[Optional[str], typer.Argument(help="A recipe, e.g. dcgan.glyphs.")] = None,  # noqa: UP045
    everything: Annotated[bool, typer.Option("--all", help="Every published recipe.")] = False,
) -> None:
    """Have pretrained weights on this machine, for use without a network; prints where they lie."""
    from tf_gan_zoo import published

    if everything == bool(name):
        raise typer.BadParameter("name one recipe, or say --all.")
    for recipe in published.names() if everything else [name]:
        typer.echo(str(published.pretrained(recipe).path))


@app.command()
def verify() -> None:
    """Check every packaged and fetched file of weights against its SHA-256 digest."""
    from tf_gan_zoo import published

    problems = dict(published.verify())
    for path, problem in problems.items():
        typer.echo(f"{path}: {problem or 'intact'}")
    if any(problems.values()):
        raise typer.Exit(1)


@app.command()
def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
) -> None:
    """Remove fetched files that no manifest names any more, and parts that broken downloads left."""
    from tf_gan_zoo import published

    total = 0
    for path, size in published.prune(dry_run):
        total += size
        typer.echo(f"{path}: {size:,} bytes")
    typer.echo(f"{'Would free' if dry_run else 'Freed'} {total:,} bytes in {published.cache_dir()}.")


@app.command()
def evaluate(
    name: Name,
    metrics: Annotated[Optional[str], typer.Option(help="Names, e.g. fid,kid,prdc.")] = None,  # noqa: UP045
    num_samples: Annotated[int, typer.Option(min=2, help="Generated pictures.")] = 10_000,
    data: Annotated[Optional[str], typer.Option(help="Data set, e.g. glyphs or folder:DIR.")] = None,  # noqa: UP045
    split: Annotated[str, typer.Option(help="train, test, val or all.")] = "test",
    extractor: Annotated[
        str, typer.Option(help="glyphs, fashion_mnist, inception, fid2015:PATH, or auto by the data.")
    ] = "auto",
    weights: Weights = "pretrained",
    seed: Annotated[int, typer.Option(help="The same seed gives the same numbers.")] = 0,
    out: OutPath = None,
) -> None:
    """Measure a model on held-out data; --out writes the numbers with their protocol as JSON."""
    from tf_gan_zoo import evaluation
    from tf_gan_zoo import train as training

    model = training.load_model(name, no_weights(weights))
    result = evaluation.evaluate(
        model, data, metrics, num_samples, extractor=extractor, split=split, seed=seed
    )  # fmt: skip
    table = Table("metric", "value", box=None)
    for metric, value in result.metrics.items():
        table.add_row(metric, f"{value:.5g}")
    Console().print(table)
    typer.echo(result.summary())
    if out is not None:
        result.save(out)
        typer.echo(str(out))


@app.command()
def export(
    name: Name,
    out: Annotated[
        Path, path_option(help="Folder for the export, its report and its card; or FILE.tflite, FILE.onnx.")
    ],
    format: Annotated[
        Optional[str], typer.Option(help="tf_saved_model (usual), litert or onnx.")  # noqa: UP045
    ] = None,
    quantize: Annotated[Optional[str], typer.Option(help="float16, dynamic or int8 (litert).")] = None,  # noqa: UP045
    processing: Annotated[
        bool, typer.Option("--processing", help="Pictures are uint8 from 0 to 255, in and out.")
    ] = False,
    batch_size: Annotated[Optional[int], typer.Option(min=1, help="Fixed batch; any by default.")] = None,  # noqa: UP045
    image_size: Annotated[Optional[int], typer.Option(min=1, help="Fixed sides; any by default.")] = None,  # noqa: UP045
    data: Annotated[
        Optional[str], typer.Option(help="Pictures to calibrate and check with; the recipe's by default.")  # noqa: UP045
    ] = None,
    weights: Weights = "pretrained",
    allow_inaccurate: Annotated[
        bool, typer.Option("--allow-inaccurate", help="Keep a file that differs too much from Keras.")
    ] = False,
) -> None:
    """Write a model for other programs; the file is run and compared with Keras before it is kept."""
    from tf_gan_zoo import export as exporting
    from tf_gan_zoo import train as training

    model = training.load_model(name, no_weights(weights))
    target = exporting.target(out, short_name(name), format, quantize)
    examples = training.example_batches(model, data, required=quantize == "int8")
    report = model.export(
        target, format, quantize=quantize, processing=processing, batch_size=batch_size,
        image_size=image_size, representative=examples, strict=not allow_inaccurate,
    )  # fmt: skip
    typer.echo(exporting.summary(report))
    origin = getattr(model, "origin", None) or {"source": "none, the network is untrained"}
    typer.echo(f"  weights: {origin['source']}")
    typer.echo(f"  {target}, with report and card beside it")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the program; errors of ours and the system's become one line and exit status 2.

    With --debug they show their traceback. Ctrl-C ends with status 1, and so does a reader that has gone.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may not be UTF-8
    debug = "--debug" in arguments
    try:
        app(args=[word for word in arguments if word != "--debug"], prog_name="tf-gan-zoo")
    except KeyboardInterrupt:
        _fail("interrupted", 1)
    except SystemExit as ended:  # typer ends with 130 after Ctrl-C in some of its versions
        raise SystemExit(1 if ended.code == 130 else ended.code) from None
    except OSError as error:
        if debug:
            raise
        _fail(f"error: {_of_system(error)}", 2)
    except Exception as error:
        if debug or not type(error).__module__.startswith("tf_gan_zoo"):
            raise
        _fail(f"error: {error}", 2)


def _fail(message: str, status: int) -> NoReturn:
    """Says why on the error stream, if somebody listens, and ends the program."""
    with contextlib.suppress(OSError):
        console = Console(stderr=True, soft_wrap=True)
        console.print(f"[red]{escape(message)}[/red]", highlight=False)
    raise SystemExit(status) from None


_ADVICE = {
    errno.EACCES: "Choose a place that you may read or write.",
    errno.EPERM: "Choose a place that you may read or write.",
    errno.EROFS: "Choose a place that can be written.",
    errno.ENOSPC: "Free space on the disk, or write to another one.",
    errno.EDQUOT: "Free space on the disk, or write to another one.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.EISDIR: "It is a folder: name a file.",
    errno.ENOTDIR: "A part of the path is a file: name a folder.",
    errno.EEXIST: "Choose another name, or remove it.",
    errno.ENOENT: "Check the path.",
}


def _of_system(error: OSError) -> str:
    """What the operating system refused, of which file, and what to do."""
    files = " -> ".join(str(f) for f in (error.filename, error.filename2) if f is not None)
    what = (error.strerror or str(error) or type(error).__name__).rstrip(".")
    return " ".join(filter(None, [f"{files}: {what}." if files else f"{what}.", _ADVICE.get(error.errno)]))


def _print_recipe(name: str, spec, config, settings: Mapping[str, Any]) -> None:
    import yaml

    from tf_gan_zoo import train as training

    fields = config.to_dict()
    if training.steps_follow_data(name, config, settings):
        fields["steps_per_epoch"] = None
        typer.echo(f"# steps_per_epoch: a pass over {config.data}, counted when it is opened")
    typer.echo(f"# {name}: {spec.paper.title} ({spec.paper.year})")
    typer.echo(yaml.safe_dump(fields, sort_keys=False, allow_unicode=True), nl=False)


def _download(spec: Any, config: Any) -> None:
    """Gets a config's data; training then reads them from disk."""
    from tf_gan_zoo import data
    from tf_gan_zoo import train as training

    own = data.describe_source(config.data).options
    options = {key: value for key, value in config.data_options.items() if key in own}
    options["download"] = True
    view = training.unbuilt(spec.cls, config).view
    typer.echo(data.summarize_source(config.data, view=view, split="train", **options))


def _evaluating(folder: Any, every: int, metrics: str | None) -> Any:
    """The callback behind --evaluate-every; best.weights.h5 lies beside the run's checkpoints."""
    from tf_gan_zoo.evaluation_callback import EvaluateMetrics

    return EvaluateMetrics(folder.checkpoints, every=every, metrics=metrics or "fid")


def _non_defaults(**options: Any) -> list[str]:
    """Those options of `train` as words that are not its defaults, to go on with a run as it began."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(train).parameters.items()}
    given = {f"--{n.replace('_', '-')}": v for n, v in options.items() if v != defaults[n]}
    return [word if value is True else f"{word}={value}" for word, value in given.items()]


def _command_line() -> str:
    return shlex.join(["tf-gan-zoo", *sys.argv[1:]])


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())
