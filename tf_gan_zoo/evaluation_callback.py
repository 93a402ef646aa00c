"""Evaluation during `fit`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tf_gan_zoo import callbacks, checkpoints, distribution, files
from tf_gan_zoo.evaluation import EvaluationError, Evaluator
from tf_gan_zoo.paths import expand

BEST = "best.weights.h5"
BEST_RECORD = "best.json"
#: Numbers of which more is better, by the beginning of their name; of all others less is.
_MORE_IS_BETTER = (
    "is", "precision", "recall", "density", "coverage", "cas", "classes", "class_entropy", "clustering",
    "psnr", "ssim",
)  # fmt: skip


class EvaluateMetrics(keras.callbacks.Callback):
    """Evaluates every few epochs, adds the numbers to the logs, and keeps the best weights.

    Put it before callbacks that read the logs (history files, TensorBoard, EarlyStopping). Each evaluation
    has the same data, samples and seed, and draws nothing that training draws, so a run with it ends with
    the weights of a run without. In a cluster the chief alone evaluates and writes; the others' logs lack
    the numbers.

    Args:
        folder: keeps best.weights.h5 (all networks, averages, optimizers, seeds and the step) and best.json
            (number, epoch, step, protocol), each replaced in one step; None keeps nothing. A resumed run goes
            on from best.json, and forgets a best that lies ahead of it.
        every: epochs between evaluations, counted from the run's first.
        monitor: the number by which the best is chosen; by default the first metric's first number.
        mode: "min" or "max"; by default what the number's name says.
        ds, metrics, num_samples, extractor, split, seed: as for `zoo.evaluate`.

    Raises:
        ValueError: for a mode that does not exist, or an interval below 1.
    """

    def __init__(
        self, folder: str | Path | None = None, *, every: int = 1, monitor: str | None = None,
        mode: str | None = None, ds: Any = None, metrics: Sequence[str] | str | None = None,
        num_samples: int = 2000, extractor: Any = "auto", split: str = "test", seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        if every < 1 or mode not in (None, "min", "max"):
            raise ValueError(f"expected every >= 1 and mode 'min', 'max' or None; got {every} and {mode!r}.")
        self.folder = None if folder is None else expand(folder)
        self.every, self.monitor, self._mode = every, monitor, mode
        self._options = {
            "ds": ds, "metrics": metrics, "num_samples": num_samples, "extractor": extractor, "split": split,
            "seed": seed,
        }  # fmt: skip
        self._evaluator: Evaluator | None = None
        self.best: dict[str, Any] | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Opens the data and the extractor, so that what is missing is missed before training."""
        self._chief = distribution.is_chief()
        if not self._chief:
            return
        if self._evaluator is None:
            self._evaluator = Evaluator(self.model, **self._options)
        self.best = self._stored()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if not self._chief or (epoch + 1) % self.every:
            return
        if not callbacks.is_finite(self.model):  # a failed run: there is nothing to evaluate
            return
        result = self._evaluator(self.model)
        if logs is not None:
            logs.update(result.metrics)
        name = self.monitor = self.monitor or next(iter(result.metrics))
        if name not in result.metrics:
            raise EvaluationError(f"no number {name!r} to monitor; there are {', '.join(result.metrics)}.")
        if self._improves(result[name]):
            step = int(self.model.step.numpy())
            self.best = {"monitor": name, "value": result[name], "epoch": epoch + 1, "step": step}
            self._keep(result.to_dict())

    def _improves(self, value: float) -> bool:
        if not np.isfinite(value):
            return False
        if self.best is None:
            return True
        mode = self._mode or ("max" if self.monitor.startswith(_MORE_IS_BETTER) else "min")
        return value > self.best["value"] if mode == "max" else value < self.best["value"]

    def _keep(self, record: dict[str, Any]) -> None:
        if self.folder is None:
            return
        text = json.dumps({**self.best, **record}, indent=2) + "\n"
        with callbacks.goes_on("best weights"):
            checkpoints.save(self.model, self.folder / BEST)
            files.write_text(self.folder / BEST_RECORD, text)

    def _stored(self) -> dict[str, Any] | None:
        """The best of the run that is resumed, unless it lies ahead of its checkpoint."""
        path = None if self.folder is None else self.folder / BEST_RECORD
        if path is None or not path.is_file() or not (self.folder / BEST).is_file():
            return self.best
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["step"] > int(self.model.step.numpy()):
            return None
        self.monitor = self.monitor or stored["monitor"]
        return {key: stored[key] for key in ("monitor", "value", "epoch", "step")}
