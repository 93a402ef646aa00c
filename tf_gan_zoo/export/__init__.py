"""Exports: networks as SavedModel, LiteRT or ONNX, each run and compared before it is handed over."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_gan_zoo import files
from tf_gan_zoo.endpoints import Endpoint
from tf_gan_zoo.export import card, checking, examples, formats, running
from tf_gan_zoo.export.settings import (
    FORMATS,
    QUANTIZATIONS,
    ExportArgumentError,
    ExportError,
    Settings,
    check_choice,
    format_of,
    make_settings,
)

__all__ = [
    "FORMATS", "QUANTIZATIONS", "ExportArgumentError", "ExportError", "export_model", "file_name",
    "format_of", "summary", "target",
]  # fmt: skip

_NUM_CHECKED = 8
_NUM_CALIBRATED = 100


def export_model(
    model: Any,
    path: str | Path,
    format: str | None = None,
    *,
    quantize: str | None = None,
    representative: Any = None,
    processing: bool = False,
    batch_size: int | None = None,
    image_size: Any = None,
    signatures: Sequence[str] | None = None,
    strict: bool = True,
) -> dict[str, Any]:
    """Writes an export with its report and card, as `GAN.export` describes.

    Raises:
        ExportArgumentError: for arguments that do not exist or do not go together, before anything is built.
        ExportError: if a package or calibration data are missing, or the export is not exact enough.
    """
    settings = make_settings(model, path, format, quantize, processing, batch_size, image_size, signatures)
    inputs, source = _example_inputs(model, settings, representative)
    settings.path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=settings.path.parent, prefix=".export-") as folder:
        written = Path(folder) / settings.path.name
        formats.write(settings, written, _calibration(settings, inputs))
        report = _make_report(model, settings, written, inputs, source)
        failure = _failure(report)
        report["passed"] = failure is None
        _write_json(settings.report_path, report)
        if failure and strict:
            raise ExportError(f"{failure} The report is {settings.report_path}; strict=False keeps the file.")
        _put(written, settings.path)
    card_path = settings.report_path.with_name(settings.report_path.name.replace(".report.json", ".md"))
    files.write_text(card_path, card.export_card(model, settings, report))
    return report


def file_name(name: str, format: str, quantize: str | None = None) -> str:
    """The name of an export: dcgan.glyphs.int8.tflite, for example; of a SavedModel, its folder's.

    Raises:
        ExportArgumentError: for a format that does not exist.
    """
    check_choice("format", format, FORMATS)
    return ".".join([name, *([quantize] if quantize else [])]) + FORMATS[format]


def target(out: Path, name: str, format: str | None = None, quantize: str | None = None) -> Path:
    """Where an export goes: to `out` if that is FILE.tflite or FILE.onnx, else into this folder.

    Raises:
        ExportArgumentError: for a format that does not exist or whose files end otherwise.
    """
    if format_of(out) != "tf_saved_model":
        format_of(out, format)
        return out
    return out / file_name(name, format or "tf_saved_model", quantize)


def _example_inputs(
    model: Any, settings: Settings, representative: Any
) -> tuple[dict[str, examples.Arrays], str]:
    """Signature -> inputs of its network, and where they come from."""
    count = _NUM_CHECKED + (_NUM_CALIBRATED if settings.quantize == "int8" else 0)
    count = max(count, settings.batch_size or 1)
    results, source = {}, "seeded" if representative is None else "representative"
    for name, endpoint in settings.endpoints.items():
        if representative is not None:
            results[name] = examples.from_dataset(model, endpoint, representative, count)
        elif settings.quantize == "int8" and any(n in endpoint.pictures for n in endpoint.input_names):
            raise ExportError(
                "quantize='int8' measures the range of every layer on pictures like those to come: pass some "
                "as representative=, a dataset or an array of a hundred."
            )
        else:
            sizes = {n: examples.native_size(model, endpoint, n, settings) for n in _pictures_in(endpoint)}
            results[name] = {
                n: np.asarray(v) for n, v in model.example_inputs(endpoint, count, sizes, seed=0).items()
            }
    return results, source


def _pictures_in(endpoint: Endpoint) -> list[str]:
    return [name for name in endpoint.input_names if name in endpoint.pictures]


def _calibration(settings: Settings, inputs: Mapping[str, examples.Arrays]) -> dict[str, list]:
    """All examples but those to be checked with, one call each."""
    calls = {}
    for name, arrays in inputs.items():
        count = len(next(iter(arrays.values())))
        kept = {n: v[min(_NUM_CHECKED, count // 2) :] for n, v in arrays.items()}
        batches = examples.in_batches(kept, settings.batch_size or 1)
        calls[name] = [examples.in_export_dtype(settings, settings.endpoints[name], b) for b in batches]
    return calls


def _make_report(
    model: Any, settings: Settings, path: Path, inputs: Mapping[str, examples.Arrays], source: str
) -> dict[str, Any]:
    report = {
        "model": model.zoo_name,
        "origin": _origin(model),
        "file": settings.path.name,
        "format": settings.format,
        "quantize": settings.quantize,
        "processing": settings.processing,
        "size": _size(path),
        "examples": f"{source}, {_NUM_CHECKED} per signature",
        "signatures": {},
    }
    for name, endpoint in settings.endpoints.items():
        checked = {n: v[: max(_NUM_CHECKED, settings.batch_size or 1)] for n, v in inputs[name].items()}
        report["signatures"][name] = {
            "inputs": {s.name: _described(s, endpoint, settings) for s in settings.input_specs(endpoint)},
            "outputs": _with_notes(checking.check_endpoint(settings, path, name, checked), endpoint),
            "latency_ms": checking.latencies(settings, path, name, checked),
        }
    for name, extra in settings.functions.items():
        specs = {s.name: {"shape": list(s.shape), "dtype": s.dtype.name} for s in extra.inputs}
        outputs = checking.check_function(settings, path, name)
        report["signatures"][name] = {"inputs": specs, "outputs": outputs}
    report["operators"] = _operators(settings.format, path)
    report["versions"] = {"tensorflow": tf.__version__, "keras": keras.__version__}
    return report


def _with_notes(outputs: dict[str, dict], endpoint: Endpoint) -> dict[str, dict]:
    notes = {name: {"note": endpoint.notes[name]} for name in outputs if name in endpoint.notes}
    return {name: {**facts, **notes.get(name, {})} for name, facts in outputs.items()}


def _origin(model: Any) -> dict[str, Any]:
    """Which weights were exported, as far as they are known."""
    origin = getattr(model, "origin", None) or {}
    return {key: origin[key] for key in ("name", "sha256", "step") if key in origin}


def _described(spec: tf.TensorSpec, endpoint: Endpoint, settings: Settings) -> dict[str, Any]:
    entry = {"shape": list(spec.shape), "dtype": spec.dtype.name}
    if spec.name in endpoint.pictures:
        entry["range"] = [0, 255] if settings.processing else list(endpoint.pictures[spec.name])
        entry["multiple_of"] = endpoint.multiple_of
    if spec.name in endpoint.notes:
        entry["note"] = endpoint.notes[spec.name]
    return entry


def _operators(format: str, path: Path) -> dict[str, int]:
    if format == "litert":
        return running.litert_operators(path)
    return running.onnx_operators(path) if format == "onnx" else {}


def _failure(report: Mapping[str, Any]) -> str | None:
    """What is wrong with an export, in one sentence."""
    custom = [name for name in report["operators"] if name.startswith("custom: ")]
    if custom:
        return f"{report['file']} needs operators that are not built in: {', '.join(custom)}."
    for name, signature in report["signatures"].items():
        for output, result in signature["outputs"].items():
            if not result["passed"]:
                largest, psnr = (result.get(key, float("nan")) for key in ("max_difference", "psnr"))
                return (
                    f"{report['file']}: {output!r} of {name!r} is not what Keras gives: expected "
                    f"{result['limit']}, got a largest difference of {largest:.3g} and {psnr:.1f} dB."
                )
    return None


def _put(written: Path, target: Path) -> None:
    """Moves the export to its place; an earlier SavedModel there is replaced, nothing else."""
    if target.is_dir():
        if any(target.iterdir()) and not (target / "saved_model.pb").is_file():
            raise ExportError(f"{target} is a folder of other things: name a new one.")
        target.rename(written.with_name("replaced"))  # goes with the temporary folder
    written.replace(target)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(file.stat().st_size for file in files)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    files.write_text(path, json.dumps(value, indent=2) + "\n")


def summary(report: Mapping[str, Any]) -> str:
    """The report in a few lines."""
    lines = [f"{report['file']}: {report['size'] / 1e6:.2f} MB"]
    for name, signature in report["signatures"].items():
        for output, result in signature["outputs"].items():
            lines.append(
                f"  {name} -> {output}: largest difference {result.get('max_difference', float('nan')):.2g}, "
                f"PSNR {result.get('psnr', float('nan')):.1f} dB"
            )
        times = [f"{ms:g} ms ({threads} threads)" for threads, ms in signature.get("latency_ms", {}).items()]
        lines.extend([f"  {name}: {', '.join(times)}"] * bool(times))
    return "\n".join(lines)
