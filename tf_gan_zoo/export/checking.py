"""Runs an export beside Keras on the same inputs and says how far apart they are."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tf_gan_zoo.endpoints import Endpoint, Range
from tf_gan_zoo.export import examples, formats, forms, running
from tf_gan_zoo.export.settings import Settings

#: What an export must reach: float32 in the outputs' unit, float16 in their range, integers in decibels.
MAX_DIFFERENCE = 1e-4
MAX_RELATIVE_DIFFERENCE = 1e-2
MIN_PSNR = 30.0
#: Equal pictures have no finite PSNR; this many dB stand for it.
_MAX_PSNR = 150.0


def check_endpoint(settings: Settings, path: Path, name: str, inputs: examples.Arrays) -> dict[str, dict]:
    """Output name -> comparison with Keras, over all examples (float, as the network takes them)."""
    endpoint = settings.endpoints[name]
    size = settings.batch_size or min(4, len(next(iter(inputs.values()))))
    run = running.open_export(path, settings.format, name)
    # The stock layers, in float32: what Keras computes.
    reference = formats.serving(endpoint, forms.in_float32(endpoint.network), settings.processing)
    pairs = []
    for batch in examples.in_batches(inputs, size):
        batch = examples.in_export_dtype(settings, endpoint, batch)
        expected = reference(**{n: tf.convert_to_tensor(v) for n, v in batch.items()})
        pairs.append((expected, run(batch)))
    return _compared(pairs, endpoint.pictures, settings.quantize)


def check_function(settings: Settings, path: Path, name: str) -> dict[str, dict]:
    """The same for a function that only a SavedModel has."""
    extra = settings.functions[name]
    pictures = extra.pictures if settings.processing else {}
    expected = formats.processed(extra.function, pictures)(**extra.examples)
    run = running.open_export(path, settings.format, name)
    specs = {spec.name: spec.dtype.as_numpy_dtype for spec in extra.inputs}
    actual = run({n: np.asarray(v, specs[n]) for n, v in extra.examples.items()})
    return _compared([(expected, actual)], extra.pictures, None)


def _compared(pairs: list, pictures: Mapping[str, Range], quantize: str | None) -> dict[str, dict]:
    results = {}
    for output in pairs[0][0]:
        expected, actual = (np.concatenate([np.asarray(pair[k][output]) for pair in pairs]) for k in (0, 1))
        results[output] = compare(expected, actual, pictures.get(output), quantize)
    return results


def compare(
    expected: np.ndarray, actual: np.ndarray, value_range: Range | None, quantize: str | None
) -> dict[str, Any]:
    """Differences and whether they are small enough.

    Args:
        expected: what Keras gives.
        actual: what the export gives, of the same shape; uint8 stands for `value_range`.
        value_range: of a picture; else the range of `expected` counts.
        quantize: what the export was asked for, which sets the limit.

    Returns:
        max_difference and mean_difference in the unit of `value_range`, psnr in dB (at most 150), range,
        limit (in words) and passed.
    """
    if expected.shape != actual.shape:
        return {"passed": False, "limit": f"shape {expected.shape}", "shape": list(actual.shape)}
    low, high = value_range or (float(expected.min()), float(expected.max()))
    levels = expected.dtype == np.uint8
    unit = (high - low) / 255 if levels else 1.0
    difference = np.abs(expected.astype("float64") - actual.astype("float64")) * unit
    largest, squares = float(difference.max()), float(np.square(difference).mean())
    psnr = _psnr(squares, high - low)
    limit, passed = _judged(largest, psnr, high - low, unit if levels else 0.0, quantize)
    return {
        "max_difference": largest, "mean_difference": float(difference.mean()), "psnr": psnr,
        "range": [low, high], "limit": limit, "passed": passed,
    }  # fmt: skip


def _psnr(mean_square: float, peak: float) -> float:
    if not mean_square > 0:
        return _MAX_PSNR if mean_square == 0 else math.nan
    return min(_MAX_PSNR, 10 * math.log10(max(peak, 1e-12) ** 2 / mean_square))


def _judged(largest: float, psnr: float, span: float, level: float, quantize: str | None) -> tuple[str, bool]:
    """The limit in words and whether it is kept; rounding to levels may always cost one."""
    if quantize in ("int8", "dynamic"):
        return f"PSNR at least {MIN_PSNR:g} dB", psnr >= MIN_PSNR
    allowed = MAX_DIFFERENCE if quantize is None else MAX_RELATIVE_DIFFERENCE * span
    allowed = max(allowed, level * 1.001)
    return f"largest difference at most {allowed:.3g}", largest <= allowed


def threads_to_time(format: str) -> list[int | None]:
    """1, 2 and 4 threads, as far as there are cores; None where the caller cannot choose."""
    if format == "tf_saved_model":
        return [None]
    return [count for count in (1, 2, 4) if count <= (os.cpu_count() or 1)]


def latencies(settings: Settings, path: Path, name: str, inputs: examples.Arrays) -> dict[str, float]:
    """Threads -> median milliseconds of one call with the export's batch size, 1 if it takes any."""
    endpoint: Endpoint = settings.endpoints[name]
    first = next(examples.in_batches(inputs, settings.batch_size or 1))
    batch, results = examples.in_export_dtype(settings, endpoint, first), {}
    for threads in threads_to_time(settings.format):
        run = running.open_export(path, settings.format, name, threads)
        results[str(threads or "default")] = round(running.latency(run, batch), 3)
    return results
