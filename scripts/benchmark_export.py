"""The rows of `python scripts/benchmark.py export`: exported files against TensorFlow and PyTorch.

    tf.function   the public network at paper size, one picture
    litert        the exported float32 file, as many threads as there are cores
    pytorch       the same layers in PyTorch, channels_last (CycleGAN's generator; where PyTorch is installed,
                  or an interpreter that has it is named by BENCHMARK_TORCH_PYTHON)

They take turns, so that a machine whose speed drifts hits all alike. Goals: litert over tf.function at most
1.0, better 0.7; over PyTorch 0.85, better 0.70; generate(1) over tf.function 1.3, better 1.1; an int8 file of
trained weights at most 0.28 of the float32 file, better 0.26, with 30 dB PSNR, better 35.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[[], object]
#: Quotient -> (must be at most, better at most).
GOALS = {
    "litert / tf.function": (1.0, 0.7),
    "litert / pytorch": (0.85, 0.70),
    "generate(1) / tf.function": (1.3, 1.1),
    "int8 size / float32 size": (0.28, 0.26),
}
MIN_PSNR = (30.0, 35.0)


def run_benchmark(models: list[str], rounds: int) -> None:
    """Prints the rows of some models, of recipes with pretrained weights also what int8 makes of them."""
    import tf_gan_zoo as zoo
    from tf_gan_zoo import published

    for name in models:
        model = zoo.get(name)
        print(f"\n{name}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            report_latency(model, Path(folder), rounds)
            recipes = [recipe for recipe in zoo.list_recipes(name) if recipe in published.manifest()]
            for recipe in recipes:
                report_int8(zoo.get(recipe, weights="pretrained"), recipe, Path(folder))


def report_latency(model: Any, folder: Path, rounds: int) -> None:
    path = folder / "model.tflite"
    endpoint = next(iter(model.endpoints.values()))
    size = picture_size(model, endpoint)
    report = model.export(path, "litert", batch_size=1, image_size=size, strict=False)
    error = max(o["max_difference"] for s in report["signatures"].values() for o in s["outputs"].values())
    print(f"  largest difference to Keras {error:.1e}, {report['size'] / 1e6:.2f} MB")
    runs = timed_runs(model, endpoint, path, size)
    times = interleaved(runs, rounds)
    for kind, values in times.items():
        print(f"  {kind:<12}{statistics.median(values):9.2f} ms ({min(values):.2f} to {max(values):.2f})")
    median = {kind: statistics.median(values) for kind, values in times.items()}
    print_quotient("litert / tf.function", median["litert"] / median["tf.function"])
    if "pytorch" in median:
        print_quotient("litert / pytorch", median["litert"] / median["pytorch"])
    if "generate(1)" in median:
        print_quotient("generate(1) / tf.function", median["generate(1)"] / median["tf.function"])


def picture_size(model: Any, endpoint: Any) -> tuple[int, int] | None:
    """The size of training pictures, for networks that take any."""
    for tensor in endpoint.network.inputs:
        if tensor.name in endpoint.pictures and None in tensor.shape[1:3]:
            return model.batch_spec[endpoint.fields.get(tensor.name, tensor.name)].shape[:2]
    return None


def timed_runs(model: Any, endpoint: Any, path: Path, size: tuple[int, int] | None) -> dict[str, Run]:
    import numpy as np
    import tensorflow as tf

    from tf_gan_zoo.export import running

    sizes = {n: size for n in endpoint.input_names if n in endpoint.pictures}
    inputs = {n: np.asarray(v) for n, v in model.example_inputs(endpoint, 1, sizes).items()}
    function = tf.function(lambda named: endpoint.run(named), autograph=False)
    signature = next(iter(model.endpoints))
    exported = running.open_export(path, "litert", signature, os.cpu_count())
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    runs: dict[str, Run] = {
        "tf.function": lambda: [v.numpy() for v in function(tensors).values()],
        "litert": lambda: exported(inputs),
    }
    if hasattr(model, "generate"):
        runs["generate(1)"] = lambda: model.generate(1)
    if model.zoo_name == "cyclegan" and (worker := TorchWorker.start(size[0])):
        runs["pytorch"] = worker
    return runs


def interleaved(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each run's calls; a run that times itself returns its seconds."""
    times: dict[str, list[float]] = {kind: [] for kind in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for kind, run in runs.items():
            start = time.perf_counter()
            own = run()
            seconds = own if isinstance(own, float) else time.perf_counter() - start
            times[kind].append(1e3 * seconds)
    return times


def report_int8(model: Any, recipe: str, folder: Path) -> None:
    from tf_gan_zoo import train
    from tf_gan_zoo.data import DatasetError

    try:
        examples = train.example_batches(model, None, required=True)
    except DatasetError as error:
        print(f"  {recipe}, int8: not measured, its data are not here ({error})")
        return
    exports = {
        quantize: model.export(
            folder / "trained.tflite", "litert", quantize=quantize, representative=examples, strict=False
        )
        for quantize in (None, "int8")
    }
    psnr = min(o["psnr"] for s in exports["int8"]["signatures"].values() for o in s["outputs"].values())
    must, better = MIN_PSNR
    verdict = "better" if psnr >= better else "met" if psnr >= must else f"missed by {must - psnr:.1f} dB"
    print(f"  {recipe}, int8: {psnr:.1f} dB (goal {must:g}, better {better:g}: {verdict})")
    print_quotient("int8 size / float32 size", exports["int8"]["size"] / exports[None]["size"])


def print_quotient(name: str, value: float) -> None:
    must, better = GOALS[name]
    verdict = "better" if value <= better else "met" if value <= must else f"missed by {value / must - 1:.0%}"
    print(f"  {name} {value:.2f} (goal {must:g}, better {better:g}: {verdict})", flush=True)


class TorchWorker:
    """A process with PyTorch that runs CycleGAN's generator once per call and returns the seconds it took."""

    def __init__(self, process: subprocess.Popen):
        self.process = process

    @classmethod
    def start(cls, size: int) -> TorchWorker | None:
        python = os.environ.get("BENCHMARK_TORCH_PYTHON", sys.executable)
        process = subprocess.Popen(
            [python, "-c", _TORCH_PROGRAM, str(size), str(os.cpu_count())], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        if process.stdout.readline().strip() == "ready":
            return cls(process)
        print("  pytorch: not measured, it is not installed (see BENCHMARK_TORCH_PYTHON)")
        return None

    def __call__(self) -> float:
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def __del__(self) -> None:
        self.process.kill()


_TORCH_PROGRAM = """
import sys, time, torch
from torch import nn

size, threads = int(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(threads)

def conv(inputs, outputs, kernel, stride=1, pad=0):
    return [nn.Conv2d(inputs, outputs, kernel, stride, pad), nn.InstanceNorm2d(outputs), nn.ReLU()]

class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReflectionPad2d(1), *conv(width, width, 3), nn.ReflectionPad2d(1), *conv(width, width, 3)[:2])
    def forward(self, x):
        return x + self.layers(x)

def up(inputs, outputs):
    return [nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, 1), nn.InstanceNorm2d(outputs), nn.ReLU()]

network = nn.Sequential(
    nn.ReflectionPad2d(3), *conv(3, 64, 7), *conv(64, 128, 3, 2, 1), *conv(128, 256, 3, 2, 1),
    *[Block(256) for _ in range(9 if size > 128 else 6)], *up(256, 128), *up(128, 64),
    nn.ReflectionPad2d(3), nn.Conv2d(64, 3, 7), nn.Tanh(),
).eval().to(memory_format=torch.channels_last)
picture = torch.rand(1, 3, size, size).to(memory_format=torch.channels_last)
with torch.inference_mode():
    network(picture)
    print("ready", flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        network(picture)
        print(time.perf_counter() - start, flush=True)
"""
