"""From a recipe to a run folder: the one place that joins data, model, callbacks and devices.

A run can be killed at any step and resumed to the very weights of an uninterrupted one: batches are a
function of (seed, step), the step lies inside the checkpoint, and a checkpoint is replaced in one move.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import inspect
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
import yaml

import tf_gan_zoo
from tf_gan_zoo import (
    callbacks,
    checkpoints,
    distribution,
    files,
    latents,
    locks,
    present,
    registry,
    replicas,
    zoo,
)
from tf_gan_zoo import weights as zoo_weights
from tf_gan_zoo.batch_spec import BatchSpec, Field
from tf_gan_zoo.config import Config, ConfigError, load_yaml
from tf_gan_zoo.data import DatasetError, Pipeline, open_dataset
from tf_gan_zoo.gan import GAN
from tf_gan_zoo.paths import expand

#: Pictures of the test split that translation and super-resolution models show after every epoch.
NUM_HELD_OUT = 8


class RunError(ValueError):
    """A run that cannot start as asked; the message says what to do."""


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    config.yaml (the resolved config, versions, command), history.jsonl (a row per epoch), samples/ (a picture
    per epoch and final.png, from fixed inputs), checkpoints/ (latest, last_good and, where it is evaluated,
    best), tensorboard/ where TensorBoard is installed; in the end model.weights.h5 (all networks, averages,
    optimizers, seeds, step), model.keras and record.json (times, machine, last logs).
    """

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def history(self) -> Path:
        return self.path / "history.jsonl"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def latest(self) -> Path:
        return self.checkpoints / checkpoints.LATEST

    @property
    def last_good(self) -> Path:
        return self.checkpoints / checkpoints.LAST_GOOD

    @property
    def weights(self) -> Path:
        return self.path / "model.weights.h5"

    @property
    def model(self) -> Path:
        return self.path / "model.keras"

    @property
    def record(self) -> Path:
        return self.path / "record.json"

    def stored(self, resume: bool, chief: bool = True) -> dict[str, Any] | None:
        """What config.yaml says of the run to resume; None where there is none yet.

        The other workers of a cluster do not look whether the folder is empty: the chief is about to fill it.

        Raises:
            RunError: if the folder is not empty and this is no resumption of a run.
        """
        if resume and self.config.is_file():
            return self.read_config()
        if not chief:
            return None
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"--out {self.path} is a file. Name a folder.")
        if self.path.is_dir() and any(self._is_content(path) for path in self.path.iterdir()):
            advice = "It holds no config.yaml, so there is nothing to resume: name another folder."
            if self.config.is_file():
                advice = "Add --resume to go on with the run in it, or name another folder."
            raise RunError(f"the folder {self.path} is not empty. {advice}")
        return None

    def read_config(self) -> dict[str, Any]:
        """What config.yaml says: "name", "model", "config", "command", "num_examples" and more.

        Raises:
            RunError: if it is damaged, or was not written by a run.
        """
        try:
            stored = load_yaml(self.config)
        except (ConfigError, OSError) as error:
            raise RunError(f"{self.config} cannot be read: {error}") from None
        kinds = {"name": str, "model": str, "config": dict}
        kinds |= {"command": (str, type(None)), "num_examples": (int, type(None))}
        wrong = [key for key, kind in kinds.items() if not isinstance(stored.get(key), kind)]
        if wrong:
            raise RunError(
                f"{self.config} is not what a run writes: {wrong[0]!r} is missing or of another kind. Put "
                "the file back, or begin anew in another folder."
            )
        return stored

    def _is_content(self, path: Path) -> bool:
        """Neither the config, which a run begins with, nor what a process leaves that is killed before."""
        return path.name not in (self.config.name, locks.NAME) and not path.name.startswith(files.PREFIX)


# -------------------------------------------------------------------- the run


def train(
    name: str,
    *,
    data: str | None = None,
    settings: Mapping[str, Any] | None = None,
    out: str | Path,
    resume: bool = False,
    resume_from: str | Path | None = None,
    strategy: str = "auto",
    weights: str | Path | None = None,
    checkpoint_every: int | None = None,
    stop_on_failure: bool = False,
    deterministic: bool = False,
    steps_per_execution: int = 1,
    xla: str = "auto",
    verbose: int | None = None,
    command: str | None = None,
    more_callbacks: Sequence[keras.callbacks.Callback] = (),
    networks: Mapping[str, keras.Model] | None = None,
) -> Path:
    """Trains a model or recipe and returns its run folder (see `RunFolder`).

    Args:
        name: a model or recipe, as `zoo.get` takes it.
        data: dataset address; the recipe's by default.
        settings: config fields to override.
        out: the run folder; new or empty unless `resume`.
        resume: go on with the run in `out` from its newest whole checkpoint; starts it if it has not begun.
        resume_from: "latest", "last_good" or a file: resumes from this checkpoint, whatever came after it.
        strategy: "auto", "one", "mirrored", "multi_worker" or "tpu" (see `zoo.strategy`).
        weights: starts from these networks ("pretrained" or a file), with new optimizers at step 0.
        checkpoint_every: training steps between checkpoints, besides the one at the end of each epoch.
        stop_on_failure: end at the first finding of the sentinel.
        deterministic: take TensorFlow's repeatable operations only, at some cost in speed. On CPUs the last
            bit of a convolution's gradients still differed in a few of a hundred equal runs.
        steps_per_execution: training steps per call into TensorFlow, which saves time where steps are short.
        xla: "on", "off" or "auto", Keras's choice.
        verbose: 0 silent, 1 progress bar, 2 one line per epoch; by default 1 on a terminal, else 2.
        command: the shell command that started this, for the record.
        more_callbacks: called before those that write, so that what they add to the logs is in the history
            (`EvaluateMetrics`).
        networks: networks of your own, as `zoo.get` takes them; a resumed run needs them again, which is why
            the shell cannot resume it.

    Raises:
        RunError: for a folder, resumption or batch size that cannot work; also ConfigError, DatasetError,
            BatchError, UnknownNameError, WeightsError, StrategyError, CheckpointError, LockedError: all
            before the first step.
        Interrupted: after Ctrl-C or SIGTERM, once the state has been saved.
    """
    started, folder = time.time(), RunFolder(expand(out))
    chief, resume = distribution.is_chief(strategy), resume or resume_from is not None
    folder.stored(resume, chief)  # refuses a folder before anything is written to it
    with locks.locked(folder.path) if chief else contextlib.nullcontext():
        stored = folder.stored(resume, chief)
        spec, config = _resolve(name, data, settings, stored)
        devices = _devices(strategy, deterministic, config.seed)  # before TensorFlow does anything else
        replicas.check_loops(devices, steps_per_execution)
        compiling = {"steps_per_execution": steps_per_execution, "jit_compile": _xla(xla, devices)}
        checkpoint = _choose_checkpoint(folder, stored, resume_from)
        run = _prepare(_Run(
            folder, name, spec.cls, config, None, devices, chief, stored, compiling, checkpoint,
            settings or {},
        ))  # fmt: skip
        _check_beginning(stored, weights, networks)
        weights = stored.get("weights") if stored else weights  # a run that was resumed keeps its beginning
        model = _build(run, weights, networks or {})
        used = _load_checkpoint(run, model)
        if chief:
            _begin_files(run, model, command, weights, _verbosity(run, verbose))
        _check_steps_per_execution(run, model)
        sentinel = callbacks.Sentinel(stop=stop_on_failure, held_out=_held_out(model))
        with callbacks.Interruption().caught() as interruption:
            used += _watchers(run, model, sentinel, more_callbacks)
            used += [callbacks.Checkpoint(
                folder.checkpoints if chief else None, every=checkpoint_every, sentinel=sentinel,
                interruption=interruption,
            )]  # fmt: skip
            _fit(run, model, used, _verbosity(run, verbose))
        if chief:
            _finish(run, model, sentinel, started)
    return folder.path


def resume_command(name: str, out: str | Path, strategy: str = "auto", *options: str) -> str:
    """The shell command that goes on with the run in `out`."""
    words = ["tf-gan-zoo", "train", name, "--out", str(out), "--resume"]
    return shlex.join([*words, *(["--strategy", strategy] if strategy != "auto" else []), *options])


@dataclass(frozen=True)
class _Run:
    """Everything that is settled before a model is built."""

    folder: RunFolder
    name: str
    cls: type[GAN]
    config: Config
    pipeline: Pipeline | None
    devices: tf.distribute.Strategy
    chief: bool
    stored: dict[str, Any] | None
    compiling: dict[str, Any]
    checkpoint: checkpoints.Choice | None
    settings: Mapping[str, Any]

    @property
    def has_own_data(self) -> bool:
        """Whether the data of a new run are others than the recipe's."""
        recipe = zoo.resolve(self.name)[1]
        return self.stored is None and not _same_data(self.config.data, recipe.data)


def _resolve(
    name: str, data: str | None, settings: Mapping[str, Any] | None, stored: dict[str, Any] | None
) -> tuple[registry.ModelSpec, Config]:
    """Dataclass < YAML < settings; a resumed run keeps the config it was started with."""
    overrides = {**(settings or {}), **({} if data is None else {"data": data})}
    if stored is None:
        return zoo.resolve(name, overrides)
    if name != stored["name"]:
        raise RunError(f"the folder holds a run of {stored['name']!r}, not of {name!r}. Name another folder.")
    spec = registry.get_spec(stored["model"])
    before = spec.config_cls.from_dict(stored["config"])
    config = before.replace(**overrides)
    changed = [f for f in before.field_names() if getattr(before, f) != getattr(config, f)]
    if config.epochs > before.epochs:
        changed.remove("epochs")
    if changed:
        fields = ", ".join(f"{f} ({getattr(before, f)!r} -> {getattr(config, f)!r})" for f in changed)
        raise RunError(
            f"a resumed run keeps its config, but these fields differ: {fields}. Only epochs may grow. "
            "Leave these settings out, or start a new run in another folder."
        )
    return spec, config


def _check_beginning(
    stored: Mapping[str, Any] | None, weights: str | Path | None, networks: Mapping[str, Any] | None
) -> None:  # fmt: skip
    """Refuses a resumption that names other weights to begin with, or other networks."""
    if stored is None:
        return
    if weights is not None and str(weights) != stored.get("weights"):
        raise RunError(
            f"the run began with weights={stored.get('weights')!r} and goes on from its own checkpoint, got "
            f"weights={str(weights)!r}. Leave them out, or start a new run in another folder."
        )
    before, now = stored.get("networks", []), sorted(networks or {})
    if before != now:
        raise RunError(
            f"the run has replaced the networks {before}, got {now}. Go on with the same ones: "
            "tf_gan_zoo.train.train(..., resume=True, networks={NAME: NETWORK}); the shell cannot."
        )


def steps_follow_data(name: str, config: Config, settings: Mapping[str, Any]) -> bool:
    """Whether an epoch is a pass over the data, though the recipe has a number of steps.

    That number belongs to the recipe's own data; with others it would be any number of passes.

    Args:
        name: a model or recipe.
        config: the resolved config of the run.
        settings: what the user has set; `steps_per_epoch` among them wins.
    """
    return "steps_per_epoch" not in settings and not _same_data(config.data, zoo.resolve(name)[1].data)


def _same_data(first: str, second: str) -> bool:
    """Whether two addresses are one, or name a file or folder of one kind and name in two places."""
    (kind, _, path), (other_kind, _, other_path) = first.partition(":"), second.partition(":")
    return kind == other_kind and Path(path).name == Path(other_path).name


def _steps_text(run: _Run, model: GAN) -> str:
    """One line on the length of an epoch."""
    steps, count = run.config.steps_per_epoch, model.batches_per_step
    of = f" of {count} batches" if count > 1 else ""
    text = f"{steps} training steps{of} in an epoch (batch_size {run.config.batch_size})"
    recipe = zoo.resolve(run.name)[1]
    set_by_user = "steps_per_epoch" in run.settings
    if not run.has_own_data or set_by_user or recipe.steps_per_epoch is None:
        return text
    return f"{text}: a pass over these data, not the {recipe.steps_per_epoch} steps for {recipe.data}"


def _devices(strategy: str, deterministic: bool, seed: int) -> tf.distribute.Strategy:
    devices = distribution.make_strategy(strategy)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
        keras.utils.set_random_seed(seed)
    return devices


def _xla(choice: str, devices: tf.distribute.Strategy) -> bool | str:
    """Keras's `jit_compile`."""
    if choice not in ("auto", "on", "off"):
        raise RunError(f"xla: expected 'auto', 'on' or 'off', got {choice!r}.")
    if choice == "on" and devices.num_replicas_in_sync > 1:
        raise RunError("xla='on' needs one device: TensorFlow compiles no step over several. Use 'auto'.")
    return {"auto": "auto", "on": True, "off": False}[choice]


def _check_steps_per_execution(run: _Run, model: GAN) -> None:
    """Executions must not reach over the end of an epoch or the beginning of a phase."""
    count, steps = run.compiling["steps_per_execution"], run.config.steps_per_epoch
    limits = {f"the beginning of phase {name!r}": first for name, first in model.phases}
    limits |= {"steps_per_epoch": steps, "the step to resume from": int(model.step.numpy())}
    for what, limit in limits.items():
        if count < 1 or limit % count:
            raise RunError(f"steps_per_execution {count} must divide {what} ({limit}).")


def _prepare(run: _Run) -> _Run:
    """Opens the data and checks that they, the config and the devices fit together."""
    config, replicas = run.config, run.devices.num_replicas_in_sync
    if config.batch_size % replicas:
        raise RunError(
            f"batch_size {config.batch_size} cannot be shared equally by {replicas} replicas: "
            f"choose a multiple of {replicas}."
        )
    model = unbuilt(run.cls, config)
    pipeline = open_pipeline(model)
    before = run.stored["num_examples"] if run.stored else pipeline.num_examples
    if before != pipeline.num_examples:
        raise RunError(
            f"the data set {config.data!r} has changed: {before} examples when the run began, "
            f"{pipeline.num_examples} now. Restore it, or start a new run in another folder."
        )
    config = _with_classes(run, pipeline, config)
    follows = run.has_own_data and "steps_per_epoch" not in run.settings
    if config.steps_per_epoch is None or follows:
        steps = max(pipeline.steps_per_epoch // model.batches_per_step, 1)
        config = config.replace(steps_per_epoch=steps)
    return dataclasses.replace(run, config=config, pipeline=pipeline)


def _with_classes(run: _Run, pipeline: Pipeline, config: Config) -> Config:
    """The config with as many classes as other data than the recipe's have, unless they are set.

    Raises:
        RunError: if the model has another number of classes than the data.
    """
    own, found = config.to_dict().get("num_classes"), pipeline.num_classes
    if not own or not found or own == found:
        return config
    if run.has_own_data and "num_classes" not in run.settings:
        return config.replace(num_classes=found)
    raise RunError(
        f"the data {config.data!r} have {found} classes, but the model has {own}: set num_classes={found}"
        f"{' in a new run' * (run.stored is not None)}, or take other data."
    )


def unbuilt(cls: type[GAN], config: Config) -> GAN:
    """An instance without networks: its batch spec depends on the config alone, and needs no building."""
    model = cls.__new__(cls)
    object.__setattr__(model, "config", config)
    return model


def open_pipeline(model: GAN, split: str = "train", **changes: Any) -> Pipeline:
    """The data set that a model's config names, in the sizes and range of its batch spec.

    Args:
        model: a model of the zoo.
        split: "train", "test", "val" or "all".
        **changes: keywords of `load_dataset` that replace the config's.

    Raises:
        DatasetError: if the data do not fit.
    """
    config = model.config
    keywords = {
        "view": model.view,
        **_picture_keywords(model.batch_spec),
        "batch_size": config.batch_size,
        "seed": config.seed,
        **model.data_keywords,
        **config.data_options,
        **changes,
    }
    return open_dataset(config.data, split=split, **keywords)


def example_batches(model: GAN, data: str | None, required: bool) -> Any:
    """Batches of the model's own test pictures, or of another source's, to try an export with.

    Args:
        model: a model of the zoo; one that makes pictures of latents needs none.
        data: a data source; the config's by default.
        required: raise an error rather than return None if the config's data are not there.

    Raises:
        RunError: for a data source and a model that needs none.
    """
    if hasattr(model, "sample_inputs"):
        if data:
            raise RunError(f"{model.zoo_name} is tried with noise, not with pictures: leave out --data.")
        return None
    changes = {"shuffle": False, "drop_remainder": False, "batch_size": 16}
    try:
        if data:
            model = unbuilt(type(model), model.config.replace(data=data, data_options={}))
        return open_pipeline(model, "all" if data else "test", **changes).dataset(start_step=0)
    except (DatasetError, ImportError):
        if data or required:
            raise
        return None


def picture_field(spec: BatchSpec) -> Field | None:
    """The field whose size a data set is opened in: the largest picture, e.g. "high_resolution"."""
    pictures = [field for field in spec.values() if len(field.shape) == 3]
    return max(pictures, key=lambda field: field.shape[0] or 0, default=None)


def _picture_keywords(spec: BatchSpec) -> dict[str, Any]:
    """Sizes and range of the pictures in a data set, if the model takes pictures."""
    field = picture_field(spec)
    if field is None:
        return {}
    height, width, _ = field.shape
    channels = {name: f.shape[-1] for name, f in spec.items() if len(f.shape) == 3}
    size = None if height is None or width is None else (height, width)
    return {"image_size": size, "channels": channels, "value_range": field.value_range or (-1.0, 1.0)}


def _build(run: _Run, weights: str | Path | None, networks: Mapping[str, keras.Model]) -> GAN:
    with run.devices.scope():
        model = run.cls(run.config)
        for name, network in networks.items():
            model.replace_network(name, network)
        model.get_config()  # what could not be saved at the end fails now
        model.compile(**run.compiling)
        if weights is not None and not (run.checkpoint and run.checkpoint.path):
            zoo_weights.load(model, run.name, weights)
            model.step.assign(0)
            model.config = run.config  # a file of Keras brings the length of its own run, too
            # This config's optimizers: a weights file brings rates and moments of its own.
            model.compile(**run.compiling)
        last_step = run.config.epochs * run.config.steps_per_epoch
        model.before_training(last_step)  # what only a later phase needs fails now, if it does
    return model


def _fit(run: _Run, model: GAN, used: list[keras.callbacks.Callback], verbose: int) -> None:
    """Trains to the end of the epoch that was interrupted, if one was, then through the others."""
    epochs, steps = run.config.epochs, run.config.steps_per_epoch
    epoch, done = divmod(int(model.step.numpy()), steps)
    model.stop_training = False
    if done:
        _fit_epochs(run, model, epoch, epoch + 1, steps - done, used, verbose)
    if not model.stop_training and epoch + bool(done) < epochs:
        _fit_epochs(run, model, epoch + bool(done), epochs, steps, used, verbose)


def _fit_epochs(
    run: _Run, model: GAN, first: int, end: int, steps: int, used: list[keras.callbacks.Callback],
    verbose: int,
) -> None:  # fmt: skip
    start = int(model.step.numpy()) * model.batches_per_step
    model.fit(
        run.pipeline.dataset(start_step=start, repeat=True), initial_epoch=first, epochs=end,
        steps_per_epoch=steps, callbacks=used, verbose=verbose,
    )  # fmt: skip


def _verbosity(run: _Run, verbose: int | None) -> int:
    """Keras's levels; a bar on a terminal, a line per epoch in a file, one process's output in a cluster."""
    if not run.chief:
        return 0
    return verbose if verbose is not None else 1 if sys.stdout.isatty() else 2


# -------------------------------------------------------------------- checkpoints and records


def _choose_checkpoint(
    folder: RunFolder, stored: dict[str, Any] | None, resume_from: str | Path | None
) -> checkpoints.Choice | None:
    """What a resumed run goes on from; None for a new run."""
    if stored is None:
        if resume_from is not None:
            raise RunError(f"--resume-from: {folder.path} holds no run. Name its folder, or use --weights.")
        return None
    trained = max((row["step"] for row in callbacks.read_history(folder.history)), default=0)
    return checkpoints.choose(folder.checkpoints, trained, resume_from)


def _load_checkpoint(run: _Run, model: GAN) -> list[keras.callbacks.Callback]:
    """Puts a resumed model into the chosen state; returns what must go on with its running means."""
    path = run.checkpoint and run.checkpoint.path
    if path is not None:
        checkpoints.load(model, path)
    step = int(model.step.numpy())
    if not distribution.same_on_all_workers(run.devices, step):
        raise RunError("the workers have different checkpoints: --out must be one folder that all share.")
    if path is None or not step % run.config.steps_per_epoch:
        return []
    return [callbacks.RunningMeans(path, run.config.epochs)]


def _begin_files(
    run: _Run, model: GAN, command: str | None, weights: str | Path | None, verbose: int
) -> None:
    """The config first, as it makes the folder a run's; no leftovers, no rows of what is trained again."""
    _write_config(run, command, weights, sorted(model.stock_architectures))
    files.remove_unfinished(run.folder.path, below=True)
    callbacks.trim_history(run.folder.history, int(model.step.numpy()))
    if verbose:
        print(run.pipeline.summary, _steps_text(run, model), sep="\n")
        if run.checkpoint is not None:
            print(run.checkpoint.reason)


def _watchers(
    run: _Run, model: GAN, sentinel: callbacks.Sentinel, more: Sequence[keras.callbacks.Callback]
) -> list[keras.callbacks.Callback]:
    """All callbacks but the checkpoint; only the chief's write files."""
    watchers = [callbacks.Throughput(run.config.batch_size * model.batches_per_step), sentinel, *more]
    if not run.chief:
        return watchers
    watchers += [_sample_grid(run, sentinel), callbacks.HistoryFile(run.folder.history, sentinel)]
    if len(model.phases) > 1:
        watchers.append(callbacks.PhaseCheckpoint(run.folder.checkpoints))
    if importlib.util.find_spec("tensorboard"):
        board = keras.callbacks.TensorBoard(run.folder.path / "tensorboard", write_graph=False)
        watchers.append(board)
    return watchers


def _sample_grid(run: _Run, sentinel: callbacks.Sentinel) -> callbacks.SampleGrid:
    return callbacks.SampleGrid(run.folder.samples, sentinel.held_out)


def _held_out(model: GAN) -> dict[str, np.ndarray] | None:
    """For models that turn pictures into pictures the first of the test split, or of the training split."""
    if hasattr(model, "generate") and not hasattr(model, "held_out_pictures"):
        return None
    options = {"batch_size": NUM_HELD_OUT, "shuffle": False, "drop_remainder": False}
    try:
        pipeline = open_pipeline(model, "test", **options)
    except DatasetError:
        pipeline = open_pipeline(model, "train", **options)
    batch = next(iter(pipeline.dataset(start_step=0)))
    return {name: np.asarray(value) for name, value in batch.items()}


def _write_config(
    run: _Run, command: str | None, weights: str | Path | None, replaced: list[str]
) -> None:  # fmt: skip
    record = {
        "name": run.name,
        "model": run.cls.zoo_name,
        "config": run.config.to_dict(),
        "num_examples": run.pipeline.num_examples,
        "versions": versions(),
        "command": run.stored["command"] if run.stored else command,
        "weights": None if weights is None else str(weights),
        **({"networks": replaced} if replaced else {}),
    }
    text = yaml.safe_dump(record, sort_keys=False, allow_unicode=True)
    files.write_text(run.folder.config, text)


def versions() -> dict[str, str]:
    """The versions that a run's numbers depend on."""
    return {
        "tf_gan_zoo": tf_gan_zoo.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def machine() -> dict[str, Any]:
    """What a run's times depend on; no names or addresses of this machine."""
    details = [tf.config.experimental.get_device_details(d) for d in tf.config.list_physical_devices("GPU")]
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpus": [gpu.get("device_name", "unknown") for gpu in details],
        "system": platform.system(),
    }


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _finish(run: _Run, model: GAN, sentinel: callbacks.Sentinel, started: float) -> None:
    """Writes the trained model, the last picture and the record.

    Raises:
        RunError: if they cannot be written; the training is not lost.
    """
    try:
        _write_results(run, model, sentinel, started)
    except files.WriteError as error:
        raise RunError(
            f"{error} The training is done and lies in {run.folder.checkpoints}: make room, then --resume "
            "writes what is missing."
        ) from error


def _write_results(run: _Run, model: GAN, sentinel: callbacks.Sentinel, started: float) -> None:
    if not callbacks.is_finite(model) and run.folder.last_good.is_file():
        model.load_weights(run.folder.last_good)
        print(f"The weights are no longer finite: keeping those of step {int(model.step.numpy())}.")
    checkpoints.save(model, run.folder.weights, means=False)
    files.write_path(run.folder.model, model.save)
    _sample_grid(run, sentinel).draw(model, "final.png")
    rows = callbacks.read_history(run.folder.history)
    record = {
        "name": run.name,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(sum(row.get("seconds", 0) for row in rows), 1),
        "seconds_with_start": round(time.time() - started, 1),
        "epochs": len(rows),
        "steps": int(model.step.numpy()),
        "logs": {k: v for k, v in (rows[-1] if rows else {}).items() if k in model.log_names},
        "images_per_second": float(np.median([row["images_per_second"] for row in rows])) if rows else None,
        "failures": [failure.message for failure in sentinel.failures],
        **({"notes": notes} if (notes := model.training_notes()) else {}),
        "machine": machine(),
        "versions": versions(),
    }
    text = json.dumps(record, indent=2) + "\n"
    files.write_text(run.folder.record, text)


# -------------------------------------------------------------------- a trained model


def load_model(name: str, weights: str | Path | None = "pretrained") -> GAN:
    """The model behind a name or a run folder, with trained weights.

    Args:
        name: a model, a recipe, or the folder of a run.
        weights: "pretrained" or a file; for a run folder "pretrained" means its own (the finished ones, or
            the latest checkpoint); None leaves fresh weights.

    Raises:
        RunError: for a run folder without weights.
        UnknownNameError, WeightsError: as `zoo.get` raises them.
    """
    folder = RunFolder(expand(name))
    if not folder.config.is_file():
        return zoo.get(name, weights=weights)
    stored = folder.read_config()
    if stored.get("networks"):
        return _with_own_networks(folder, weights)
    spec = registry.get_spec(stored["model"])
    model = spec.cls(spec.config_cls.from_dict(stored["config"]))
    model.compile()
    own = [path for path in (folder.weights, folder.latest, folder.last_good) if path.is_file()]
    if weights == "pretrained" and not own:
        raise RunError(f"the run in {name} has saved no weights yet.")
    if weights is not None:
        zoo_weights.load(model, stored["name"], own[0] if weights == "pretrained" else weights)
    return model


def _with_own_networks(folder: RunFolder, weights: str | Path | None) -> GAN:
    """The model of a run whose networks were replaced, which only its model.keras holds."""
    if weights == "pretrained" and folder.model.is_file():
        return zoo.load(folder.model)
    raise RunError(
        f"the run in {folder.path} has replaced networks, so it is read whole from {folder.model.name} only, "
        "which is there when it has finished: leave out other weights."
    )


#: What models do for users: a method (and, where it takes pictures, an endpoint) -> the registry's task.
_TASKS = {
    "generate": "generation", "translate": "translation", "upscale": "super_resolution",
    "refine": "refinement",
}  # fmt: skip


def for_task(model: GAN, method: str) -> GAN:
    """`model`, if it has the method of that task.

    Raises:
        RunError: if it has not, naming what it can do and the models that have it.
    """
    can = [m for m in _TASKS if hasattr(model, m) and (m == "generate" or m in model.endpoints)]
    if method not in can:
        able = ", ".join(zoo.list_models(_TASKS[method]))
        raise RunError(
            f"{model.zoo_name} cannot {method}; it can {' and '.join(can) or 'only be trained'}. Models for "
            f"this task: {able}."
        )
    return model


def sample_grid(
    model: GAN, count: int, seed: int, labels: list[int] | None = None, truncation: float | None = None
) -> np.ndarray:
    """A uint8 sheet of generated pictures; `labels` are repeated to `count` and written below.

    Raises:
        RunError: if the model does not generate, or takes no labels.
        LatentError: for a truncation that is not above 0.
    """
    for_task(model, "generate")
    if labels is not None and "labels" not in inspect.signature(model.sample_inputs).parameters:
        raise RunError(f"{model.zoo_name} is not conditioned on labels: leave out --labels.")
    if hasattr(model, "sample_pictures") and truncation is None:
        return present.sample_picture(model, count=count, seed=seed)
    chosen = None if labels is None else list(np.resize(np.asarray(labels, "int32"), count))
    conditions = {} if labels is None else {"labels": np.array(chosen)}
    samples = model.run(latents.sample(model, count, seed, truncation=truncation, **conditions))
    return present.image_grid(samples, value_range=present.output_range(model), labels=chosen)
