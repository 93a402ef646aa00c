"""Keras callbacks of a training run: exact checkpoints, pictures, history, speed, and a sentinel.

All of them work with plain `fit`; `train.py` puts them together in this order: what adds to the logs, what
judges, what draws, what writes, and the checkpoint last, so that whatever a checkpoint stands for has been
written before it.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import keras
import numpy as np

from tf_gan_zoo import checkpoints, files, present
from tf_gan_zoo.checkpoints import LAST_GOOD, LATEST
from tf_gan_zoo.paths import expand


@contextmanager
def goes_on(what: str, advice: str = "") -> Iterator[None]:
    """Training survives a file that cannot be written in the block: the reason is printed.

    Args:
        what: the file's meaning.
        advice: what becomes of it.
    """
    try:
        yield
    except files.WriteError as error:
        _to_stderr(f"{what} not written: {error} Training goes on.{advice and ' ' + advice}")


class _StepCallback(keras.callbacks.Callback):
    """Knows the model's step on the host, without asking the device after every batch.

    Attributes:
        step: training steps done so far, over all runs that led here.
    """

    step = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.step = self._epoch_start = int(self.model.step.numpy())

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.step = self._epoch_start + batch + 1
        self.after_step(batch, logs or {})

    def after_step(self, batch: int, logs: dict[str, float]) -> None:
        """Called after each step, when `self.step` is up to date."""


# -------------------------------------------------------------------- interruption


class Interrupted(Exception):
    """Training was stopped by a signal after its state had been saved.

    Attributes:
        signum: the signal's number.
        step: training steps in the checkpoint.
    """

    def __init__(self, signum: int, step: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name} after step {step}")
        self.signum, self.step = signum, step


class Interruption:
    """Catches Ctrl-C and SIGTERM, so that the running step can end and be saved.

    A second signal acts as if nothing had been caught.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.signum: int | None = None

    @contextmanager
    def caught(self) -> Iterator[Interruption]:
        """Catches signals inside the `with` block; outside the main thread it does nothing."""
        try:
            before = {number: signal.signal(number, self._catch) for number in self.SIGNALS}
        except ValueError:  # Python lets only the main thread handle signals
            before = {}
        self._before = before
        try:
            yield self
        finally:
            self._restore()

    def _catch(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


# -------------------------------------------------------------------- checkpoints


class Checkpoint(_StepCallback):
    """Keeps the whole state of a run in `latest`, and the last state found healthy in `last_good`.

    Both are complete weights files (networks, averages, optimizers, seeds, step and the running means of the
    epoch) and each is replaced in one step. A state that holds NaN is never written. One that cannot be
    written, as the disk is full, is reported; the last one stays, and training goes on to the next.

    Args:
        folder: where the files go; None writes nothing (workers other than the chief).
        every: training steps between checkpoints; the end of each epoch always is one.
        sentinel: says whether a state is healthy; without one every finite state is.
        interruption: when it has caught a signal, the state is saved and `Interrupted` raised.
    """

    def __init__(
        self, folder: Path | None, *, every: int | None = None, sentinel: Sentinel | None = None,
        interruption: Interruption | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.folder = None if folder is None else expand(folder)
        self.every = every
        self._sentinel = sentinel
        self._interruption = interruption or Interruption()
        self._saved: int | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        self._saved = int(self.model.step.numpy()) if self._saved is None else self._saved

    def after_step(self, batch: int, logs: dict[str, float]) -> None:
        if batch + 1 == self.params.get("steps"):
            return  # the end of the epoch saves this step, after the epoch's record has been written
        if self._interruption.signum or (self.every and self.step % self.every == 0):
            self._save()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._save()

    def _save(self) -> None:
        if self.folder is not None:
            self._write()
        if self._interruption.signum:
            raise Interrupted(self._interruption.signum, self.step if self.folder is None else self._saved)

    def _write(self) -> None:
        if not is_finite(self.model):
            return
        latest = self.folder / LATEST
        with goes_on(f"checkpoint of step {self.step}", f"The last one is of step {self._saved}."):
            checkpoints.save(self.model, latest)
            self._saved = self.step
            if self._sentinel is None or self._sentinel.healthy:
                files.link(latest, self.folder / LAST_GOOD)


class PhaseCheckpoint(keras.callbacks.Callback):
    """Keeps the weights with which each training phase ended, as PHASE.weights.h5.

    Args:
        folder: where the files go.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = expand(folder)

    def on_train_begin(self, logs: Any = None) -> None:
        last_step = max(int(self.model.step.numpy()) - 1, 0)
        self._phase = [name for name, first in self.model.phases if first <= last_step][-1]

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self.model.phase != self._phase:
            with goes_on(f"weights of phase {self._phase}"):
                checkpoints.save(self.model, self.folder / f"{self._phase}.weights.h5")
            self._phase = self.model.phase


def is_finite(model: keras.Model) -> bool:
    """Whether all weights and statistics are numbers."""
    networks = [*model.networks.values(), *model.averaged_networks.values()]
    floats = [v for network in networks for v in network.variables if "float" in v.dtype]
    return all(np.isfinite(np.asarray(v, "float32")).all() for v in floats)


class RunningMeans(keras.callbacks.Callback):
    """Goes on with an epoch that was interrupted: its running means, which Keras begins anew, and its number.

    Args:
        checkpoint: the file that the run goes on from.
        epochs: epochs of the whole run, for progress bars; this `fit` may be for the one epoch only.
    """

    def __init__(self, checkpoint: Path, epochs: int) -> None:
        super().__init__()
        self._epochs = epochs
        self._values = checkpoints.stored_means(checkpoint)

    def set_params(self, params: dict[str, Any]) -> None:
        params["epochs"] = self._epochs
        super().set_params(params)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        for variable, value in zip(checkpoints.running_means(self.model), self._values):
            variable.assign(value)
        self._values = []


# -------------------------------------------------------------------- speed, history, pictures


class Throughput(keras.callbacks.Callback):
    """Adds `images_per_second` to the logs, where progress bars and other callbacks find it.

    The first step of a run, which traces and compiles, does not count.

    Args:
        images_per_step: examples in one training step, over all replicas.
    """

    def __init__(self, images_per_step: int) -> None:
        super().__init__()
        self._images_per_step = images_per_step
        self._warm = False

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start, self._first, self._last = time.perf_counter(), -1, -1

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._last = batch
        if logs is not None:
            logs["images_per_second"] = self._rate()
        if not self._warm:
            self._warm, self._start, self._first = True, time.perf_counter(), batch

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if logs is not None:
            logs["images_per_second"] = self._rate()

    def _rate(self) -> float:
        steps = self._last - self._first
        return round(steps * self._images_per_step / max(time.perf_counter() - self._start, 1e-9), 1)


class HistoryFile(_StepCallback):
    """Appends one JSON row per epoch: epoch (from 1), step, the logs, and seconds for how many steps.

    Args:
        path: the file, one JSON object per line.
        sentinel: its findings of the epoch go into the row.
    """

    def __init__(self, path: Path, sentinel: Sentinel | None = None) -> None:
        super().__init__()
        self.path = expand(path)
        self._sentinel = sentinel
        self._unwritten: list[str] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        super().on_epoch_begin(epoch, logs)
        self._clock = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        scalars = {name: _json_number(value) for name, value in (logs or {}).items()}
        seconds = round(time.perf_counter() - self._clock, 3)
        timed = {"steps": self.step - self._epoch_start, "seconds": seconds}
        row = {"epoch": epoch + 1, "step": self.step, **scalars, **timed}
        found = [] if self._sentinel is None else self._sentinel.found_since(self._epoch_start)
        if found:
            row["failures"] = [failure.message for failure in found]
        self._unwritten.append(json.dumps(row) + "\n")
        with goes_on("history", "The row is written with the next one."):
            files.append_lines(self.path, self._unwritten)
            self._unwritten.clear()


def read_history(path: Path) -> list[dict[str, Any]]:
    """The rows of a history file; what is none, such as a line that a killed process began, is left out."""
    return [row for row in map(_row, _lines(path)) if row is not None]


def trim_history(path: Path, step: int) -> None:
    """Drops the rows of epochs that ended after `step`, which are about to be trained again.

    Lines that are no rows are moved to a file beside it, and reported.
    """
    lines = _lines(path)
    strange = [line for line in lines if _row(line) is None]
    if strange:
        kept = expand(path).with_suffix(".unreadable.txt")
        files.append_lines(kept, [f"{line}\n" for line in strange])
        first = lines.index(strange[0]) + 1
        count = f"{len(strange)} line(s) are no rows, the first is line {first}"
        _to_stderr(f"{path}: {count}; they are now in {kept}.")
    rows = [line for line in lines if line not in strange and _row(line)["step"] <= step]
    files.write_text(path, "".join(f"{line}\n" for line in rows))


def _lines(path: Path) -> list[str]:
    path = expand(path)
    text = path.read_bytes().decode("utf-8", "backslashreplace") if path.exists() else ""
    return [line for line in text.split("\n") if line.strip()]


def _row(line: str) -> dict[str, Any] | None:
    """What a line of the history says, or None if it says nothing."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int) else None


def _json_number(value: Any) -> float | None:
    """JSON has no NaN; a scalar that is not finite becomes null."""
    value = float(np.asarray(value).reshape(()))
    return value if np.isfinite(value) else None


class SampleGrid(keras.callbacks.Callback):
    """Draws what the model makes of the same inputs after every epoch, as epoch_0001.png and so on.

    Args:
        folder: where the pictures go.
        held_out: fields of a batch, for models that turn pictures into pictures.
        count: samples of a model that needs no input.
        seed: of the samples' inputs.
    """

    def __init__(
        self, folder: Path, held_out: Mapping[str, np.ndarray] | None = None, *, count: int = 64,
        seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.folder, self._held_out = expand(folder), held_out
        self._count, self._seed = count, seed

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.draw(self.model, f"epoch_{epoch + 1:04d}.png")

    def draw(self, model: keras.Model, name: str) -> None:
        """Writes one picture now."""
        picture = present.sample_picture(model, self._held_out, count=self._count, seed=self._seed)
        if picture is not None:
            with goes_on(f"sample {name}"):
                present.save_image(picture, self.folder / name)


# -------------------------------------------------------------------- sentinel


@dataclass(frozen=True)
class Failure:
    """One way in which training went wrong.

    Attributes:
        kind: "not finite", "discriminator stuck" or "collapsed".
        step: the training step at which it was seen.
        message: what was seen, with names and numbers.
    """

    kind: str
    step: int
    message: str


class Sentinel(_StepCallback):
    """Watches for the ways in which GAN training dies quietly.

    * not finite: a logged scalar is NaN or infinite (looked at after every step; Keras logs the epoch's
      running means, which a single NaN makes NaN at that very step);
    * discriminator stuck: for `patience` epochs in which its optimizer worked, its weights did not move, or
      its loss stayed within `tolerance`, or below `zero`, where the generator has nothing left to learn from;
    * collapsed: samples from different latents have become one and the same picture, or still are after
      `patience` epochs (an untrained generator draws the same gray from all); phases in which nobody trains
      the network that draws do not count.

    Each finding is reported once, when it begins. `healthy` turns true again when stuck or collapsed training
    recovers; NaN stays.

    Args:
        stop: end training at the first failure.
        patience: epochs for which a discriminator must look stuck, or a generator may draw one picture.
        tolerance: a loss that moves by less than this part of its size stands still.
        zero: a discriminator loss below this is no loss.
        spread: samples whose standard deviation over the batch, averaged over pixels, is below this part of
            the output range are one picture.
        num_samples: how many samples are compared.
        held_out: fields of a batch, whose pictures are compared once translated or upscaled.
        report: receives each message; standard error by default.
    """

    def __init__(
        self, *, stop: bool = False, patience: int = 3, tolerance: float = 1e-4, zero: float = 1e-3,
        spread: float = 0.005, num_samples: int = 16, held_out: Mapping[str, np.ndarray] | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.stop, self.patience, self.tolerance, self.zero = stop, patience, tolerance, zero
        self.spread, self.num_samples, self.held_out = spread, num_samples, held_out
        self._report = report or _to_stderr
        self.failures: list[Failure] = []
        self._current: set[str] = set()
        self._losses: dict[str, list[float]] = {}
        self._frozen_epochs: dict[str, int] = {}
        self._epochs_left_to_spread = patience

    @property
    def healthy(self) -> bool:
        """True while nothing is wrong."""
        return not self._current

    def found_since(self, step: int) -> list[Failure]:
        """The failures seen after `step`."""
        return [failure for failure in self.failures if failure.step > step]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        super().on_epoch_begin(epoch, logs)
        self._before = {player: self._state(player) for player in self._judges()}
        self._drawing_updates = self._updates_of_drawing()

    def after_step(self, batch: int, logs: dict[str, float]) -> None:
        bad = next((name for name, value in logs.items() if not np.isfinite(value)), None)
        if bad is not None:
            self._set("not finite", f"{bad} is {_kind_of(logs[bad])}")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if "not finite" in self._current:
            return
        self._set("discriminator stuck", self._stuck(logs or {}))
        if self._updates_of_drawing() > self._drawing_updates:
            self._set("collapsed", self._collapsed())

    def _set(self, kind: str, problem: str | None) -> None:
        """Notes that a kind of failure is there, or is not; reports it when it begins."""
        if problem is None:
            self._current.discard(kind)
        elif kind not in self._current:
            self._current.add(kind)
            self.failures.append(Failure(kind, self.step, f"{kind} at step {self.step}: {problem}"))
            self._report(f"sentinel: {self.failures[-1].message}.{' Training stops.' * self.stop}")
        if problem is not None and self.stop:
            self.model.stop_training = True

    def _judges(self) -> list[str]:
        return [p for p in self.model.players if "discriminator" in p or "critic" in p]

    def _updates_of_drawing(self) -> int:
        """How often optimizers have worked on the network that users get pictures from."""
        model = self.model
        players = [p for p, networks in model.players.items() if model.public_name in networks]
        return sum(int(np.asarray(model.player_optimizer(player).iterations)) for player in players)

    def _state(self, player: str) -> tuple[int, tuple[int, ...]]:
        """How often a player's optimizer worked, and numbers that change when its weights do."""
        weights = tuple(zlib.crc32(np.asarray(v).tobytes()) for v in self.model.player_variables(player))
        return int(np.asarray(self.model.player_optimizer(player).iterations)), weights

    def _stuck(self, logs: Mapping[str, float]) -> str | None:
        states = {player: self._state(player) for player in self._judges()}
        trained = [player for player in states if states[player][0] > self._before[player][0]]
        if not trained:  # a phase in which only the generator learns
            self._losses.clear()
            return None
        for player in trained:
            frozen = states[player][1] == self._before[player][1]
            self._frozen_epochs[player] = self._frozen_epochs.get(player, 0) + 1 if frozen else 0
            if self._frozen_epochs[player] >= self.patience:
                return f"the weights of {player} have not moved for {self.patience} epochs"
        return self._still_loss(logs)

    def _still_loss(self, logs: Mapping[str, float]) -> str | None:
        for name in filter(_is_judge_loss, logs):
            values = self._losses.setdefault(name, [])
            values.append(float(logs[name]))
            recent = values[-self.patience :]
            if len(recent) < self.patience:
                continue
            if max(map(abs, recent)) < self.zero:
                return f"{name} has been about 0 for {self.patience} epochs, so the generator learns nothing"
            if max(recent) - min(recent) <= self.tolerance * max(map(abs, recent)):
                return f"{name} has stood at {recent[-1]:.6g} for {self.patience} epochs"
        return None

    def _samples(self) -> np.ndarray | None:
        """Pictures that ought to differ."""
        if hasattr(self.model, "generate"):
            return np.asarray(self.model.generate(self.num_samples, seed=0))
        convert = getattr(self.model, "translate", None) or getattr(self.model, "upscale", None)
        if self.held_out is None or convert is None:
            return None
        small = self.held_out.get("low_resolution")
        return convert(self.held_out[next(iter(self.model.batch_spec))] if small is None else small)

    def _collapsed(self) -> str | None:
        samples = self._samples()
        if samples is None or samples.ndim < 3 or not np.issubdtype(samples.dtype, np.floating):
            return None
        low, high = present.output_range(self.model)
        spread = float(samples.std(axis=0).mean()) / (high - low)
        if spread >= self.spread:
            self._epochs_left_to_spread = 0
            return None
        self._epochs_left_to_spread -= 1
        if self._epochs_left_to_spread > 0:
            return None
        return (
            f"{len(samples)} samples are one picture (they differ by {spread:.2%} of the range, "
            f"at least {self.spread:.2%} is expected)"
        )


def _is_judge_loss(name: str) -> bool:
    return re.fullmatch(r"(d|c|critic|discriminator)_(\w+_)?loss", name) is not None


def _kind_of(value: float) -> str:
    return "NaN" if np.isnan(value) else "infinite"


def _to_stderr(message: str) -> None:
    print(f"\n{message}", file=sys.stderr, flush=True)
