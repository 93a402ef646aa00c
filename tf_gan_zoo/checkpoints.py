"""Checkpoints of a run: whole states with a checksum, and the choice of the one that a run goes on from.

A checkpoint is a `.weights.h5` file of Keras with the running means of its epoch, and one line behind its
last byte, which HDF5 passes over: the step, and a SHA-256 of all that stands before. So a file that lost or
changed a byte is known before anything is loaded. Files without that line, of earlier versions or of Keras,
are loaded with a note.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import tensorflow as tf

from tf_gan_zoo import files
from tf_gan_zoo.paths import expand

LATEST = "latest.weights.h5"
LAST_GOOD = "last_good.weights.h5"
#: What `--resume-from` calls them.
NAMES = {"latest": LATEST, "last_good": LAST_GOOD}

_MEANS = "running_means"
_SEAL = re.compile(rb"\ntf_gan_zoo checkpoint 1 step (\d{20}) sha256 ([0-9a-f]{64})\n")
_SEAL_SIZE = len("\ntf_gan_zoo checkpoint 1 step  sha256 \n") + 20 + 64
_CHUNK = 2**20
_MISSING = "is not there"


class CheckpointError(ValueError):
    """Checkpoints that a run cannot go on from as asked; the message says what to do."""


# -------------------------------------------------------------------- writing


def save(model: keras.Model, path: Path, means: bool = True) -> None:
    """Writes weights, optimizers, seeds and step, and the epoch's running means, which Keras leaves out.

    Args:
        model: the model.
        path: the file.
        means: whether to write the running means. In a cluster they are left out anyway: each read of one
            would need all workers, and only the chief writes.

    Raises:
        WriteError: if the system refuses; an older checkpoint is whole.
    """
    memory = files.MemoryFile()
    model.save_weights(memory)
    if means and not isinstance(model.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy):
        with h5py.File(memory, "a") as file:
            for index, variable in enumerate(running_means(model)):
                file[f"{_MEANS}/{index}"] = np.asarray(variable)
    seal(memory, int(model.step.numpy()))
    with memory.getbuffer() as content:
        files.write_bytes(path, content)


def seal(memory: files.MemoryFile, step: int) -> None:
    """Adds the line with step and checksum to a whole HDF5 file."""
    with memory.getbuffer() as content:
        line = _seal_line(hashlib.sha256(content), step)
    memory.seek(0, 2)
    memory.write(line)


def seal_file(unfinished: Path, step: int) -> None:
    """The same to a whole file on disk, within `files.write_path`; ZIP archives pass over it, too."""
    digest = hashlib.sha256()
    with open(unfinished, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    files.extend(unfinished, _seal_line(digest, step))


def _seal_line(digest: Any, step: int) -> bytes:
    """The line, given the digest of what stands before it."""
    head = f"\ntf_gan_zoo checkpoint 1 step {step:020d} sha256 ".encode()
    digest.update(head)
    return head + f"{digest.hexdigest()}\n".encode()


def running_means(model: keras.Model) -> list[keras.Variable]:
    """The variables of a model's metrics."""
    return [variable for metric in model.metrics for variable in metric.variables]


def stored_means(path: Path) -> list[np.ndarray]:
    """Their values in a checkpoint."""
    with h5py.File(path) as file:
        saved = file.get(_MEANS, {})
        return [np.asarray(saved[str(index)]) for index in range(len(saved))]


# -------------------------------------------------------------------- checking


@dataclass(frozen=True)
class Checked:
    """What is known of a checkpoint before it is loaded.

    Attributes:
        path: the file.
        step: its training steps; None if it does not say.
        problem: why it cannot be used, or None.
        sealed: whether it has a checksum.
    """

    path: Path
    step: int | None = None
    problem: str | None = None
    sealed: bool = False


def check(path: Path) -> Checked:
    """Reads a checkpoint once and compares it with its checksum."""
    try:
        digest, seal = _digest(path)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            return Checked(path, problem=_MISSING)
        return Checked(path, problem=f"cannot be read ({error.strerror or error})")
    found = _SEAL.fullmatch(seal)
    if found is None:
        return Checked(path, problem=_structural_problem(path))
    step = int(found[1])
    if found[2].decode() != digest:
        return Checked(path, step, "is damaged: its content does not fit its checksum", sealed=True)
    return Checked(path, step, sealed=True)


def _digest(path: Path) -> tuple[str, bytes]:
    """SHA-256 of what the seal covers, and the bytes where the seal should be."""
    digest, rest = hashlib.sha256(), max(path.stat().st_size - _SEAL_SIZE, 0)
    with open(path, "rb") as file:
        while rest:
            chunk = file.read(min(rest, _CHUNK))
            if not chunk:
                break
            digest.update(chunk)
            rest -= len(chunk)
        seal = file.read()
    digest.update(seal[: -64 - 1])  # the seal is signed, too, but for the digest itself
    return digest.hexdigest(), seal


def _structural_problem(path: Path) -> str | None:
    """Of a file without a checksum: whether HDF5 can read all of it."""
    try:
        _layout(path)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        return f"is cut off or damaged ({error})"
    return None


def _layout(file: Any) -> dict[str, tuple[int, ...]]:
    """Name -> shape of everything in an HDF5 file; every value is read once."""
    shapes = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            shapes[name] = np.asarray(item).shape

    with h5py.File(file, "r") as opened:
        opened.visititems(visit)
    return shapes


# -------------------------------------------------------------------- loading


def load(model: keras.Model, path: Path) -> None:
    """Puts a model into a checkpoint's state, if the checkpoint holds all of it.

    Raises:
        CheckpointError: for a file that is damaged, of another model, or lacks something, such as optimizers.
    """
    checked = check(path)
    if checked.problem:
        raise CheckpointError(f"the checkpoint {path} {checked.problem}.")
    memory = files.MemoryFile()
    model.save_weights(memory)
    wanted, found = _layout(memory), _layout(path)
    wrong = sorted(name for name, shape in wanted.items() if found.get(name) != shape)
    if wrong:
        raise CheckpointError(
            f"the checkpoint {path} is not a whole state of this run: {len(wrong)} of {len(wanted)} arrays "
            f"are missing or of another shape, first {wrong[0]!r}. Go on from another one (--resume-from), "
            "or start a new run from its networks: --weights FILE."
        )
    model.load_weights(path)


# -------------------------------------------------------------------- choosing


@dataclass(frozen=True)
class Choice:
    """The checkpoint that a run goes on from.

    Attributes:
        path: the file, or None to begin at step 0.
        reason: a sentence that says which and why.
    """

    path: Path | None
    reason: str


def choose(folder: Path, trained: int, wanted: str | Path | None = None) -> Choice:
    """Which checkpoint of a run to go on from: the newest whole one, unless that loses work unasked.

    Args:
        folder: of the checkpoints.
        trained: training steps that the run's history knows of.
        wanted: "latest", "last_good" or a file, to choose oneself.

    Raises:
        CheckpointError: if the wanted one cannot be used, if none can, or if what can be used is older than
            what was trained.
    """
    if wanted is not None:
        name = NAMES.get(str(wanted))
        return _asked_for(folder / name if name else expand(wanted), wanted)
    found = [check(folder / name) for name in NAMES.values() if (folder / name).exists()]
    if not found and trained:
        raise CheckpointError(
            f"{folder} holds no checkpoint, but the run was trained for {trained} steps. Put one back, name "
            "a file with --resume-from FILE, or begin anew in another folder."
        )
    if not found:
        return Choice(None, "There is no checkpoint yet: the run begins at step 0.")
    whole = [checked for checked in found if not checked.problem]
    if not whole:
        raise CheckpointError(
            f"no checkpoint can be used: {_problems(found)}. Put one back, name a file with --resume-from "
            "FILE, or begin anew in another folder."
        )
    best = max(whole, key=lambda checked: (_at_least(checked), checked.path.name == LATEST))
    _refuse_loss(folder, best, trained)
    newest = "it is the newest" if best.path.name == LATEST else f"{LATEST} {_MISSING}"
    return Choice(best.path, _reason(best, [newest]))


def _asked_for(path: Path, wanted: str | Path) -> Choice:
    checked = check(path)
    if checked.problem:
        raise CheckpointError(f"--resume-from {wanted}: {path} {checked.problem}. Choose another checkpoint.")
    return Choice(path, _reason(checked, ["it was asked for"]))


def _refuse_loss(folder: Path, best: Checked, trained: int) -> None:
    """Going on from an older state than the run had reached has to be asked for."""
    if best.path.name == LATEST:
        return
    latest = check(folder / LATEST)
    damaged, behind = latest.problem != _MISSING, trained > _at_least(best)
    if damaged or behind:
        reached = f" The run's history goes on to step {trained}." if behind else ""
        raise CheckpointError(
            f"the latest checkpoint {latest.path} {latest.problem}. The newest whole one is "
            f"{best.path.name}, of {_steps(best)}.{reached} To go on from there, and train again what came "
            "after it, say --resume-from last_good; --resume-from FILE takes any other file."
        )


def _reason(checked: Checked, reasons: Sequence[str]) -> str:
    note = [] if checked.sealed else ["it has no checksum, as an earlier version wrote it"]
    return f"Going on from {checked.path.name}, {_steps(checked)}: {'; '.join([*reasons, *note])}."


def _steps(checked: Checked) -> str:
    return "a step that it does not name" if checked.step is None else f"step {checked.step}"


def _at_least(checked: Checked) -> int:
    """For the order; a file that does not say its step is the newest if it is `latest`."""
    if checked.step is not None:
        return checked.step
    return 2**62 if checked.path.name == LATEST else 0


def _problems(found: Sequence[Checked]) -> str:
    return "; ".join(f"{checked.path.name} {checked.problem}" for checked in found)
