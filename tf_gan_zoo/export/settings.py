"""What an export is asked for, checked before anything is built."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from tf_gan_zoo.config import ImageSize, closest, height_width
from tf_gan_zoo.endpoints import Endpoint, ServingFunction
from tf_gan_zoo.gan import GAN
from tf_gan_zoo.paths import expand

FORMATS = {"tf_saved_model": "", "litert": ".tflite", "onnx": ".onnx"}
QUANTIZATIONS = ("float16", "dynamic", "int8")
#: What writes and what runs a format, beyond TensorFlow: modules, and the extra that installs them.
_NEEDS = {"litert": (("ai_edge_litert",), "litert"), "onnx": (("tf2onnx", "onnx", "onnxruntime"), "onnx")}


class ExportError(RuntimeError):
    """An export cannot be made, or what was made is not exact enough."""


class ExportArgumentError(ValueError):
    """An argument does not exist or does not go with another; nothing has been built."""


@dataclass(frozen=True)
class Settings:
    """One export: `endpoints` and `functions` by signature name; see `GAN.export` for the other fields."""

    path: Path
    format: str
    quantize: str | None
    processing: bool
    batch_size: int | None
    image_size: tuple[int | None, int | None]
    endpoints: Mapping[str, Endpoint]
    functions: Mapping[str, ServingFunction]

    def input_specs(self, endpoint: Endpoint) -> list[tf.TensorSpec]:
        """The inputs' types: fixed where the export fixes a size, uint8 where pictures are processed."""
        return [
            tf.TensorSpec(self.input_shape(endpoint, tensor), self._dtype(endpoint, tensor), name=tensor.name)
            for tensor in endpoint.network.inputs
        ]

    def input_shape(self, endpoint: Endpoint, tensor) -> tuple[int | None, ...]:
        sides = tuple(tensor.shape[1:])
        if tensor.name in endpoint.pictures:
            height, width, channels = sides
            sides = (height or self.image_size[0], width or self.image_size[1], channels)
        return (self.batch_size, *sides)

    def _dtype(self, endpoint: Endpoint, tensor) -> str:
        return "uint8" if self.processing and tensor.name in endpoint.pictures else tensor.dtype

    @property
    def report_path(self) -> Path:
        """The report lies beside the export: letters.tflite has letters.report.json."""
        stem = self.path.with_suffix("") if FORMATS[self.format] else self.path
        return stem.with_name(stem.name + ".report.json")


def make_settings(
    model: GAN, path: str | Path, format: str | None, quantize: str | None, processing: bool,
    batch_size: int | None, image_size: ImageSize | None, signatures: Sequence[str] | None,
) -> Settings:  # fmt: skip
    """The checked settings of one export.

    Raises:
        ExportArgumentError: for values that do not exist or do not go together.
        ExportError: if a package is missing.
    """
    path = expand(path)
    format = format_of(path, format)
    if quantize is not None:
        check_choice("quantize", quantize, QUANTIZATIONS)
        if format != "litert":
            raise ExportArgumentError(f"quantize={quantize!r} is for format='litert', got format={format!r}.")
    if batch_size is not None and batch_size < 1:
        raise ExportArgumentError(f"batch_size must be 1 or more, or None for any, got {batch_size}.")
    _check_installed(format)
    endpoints = _chosen(model.endpoints, signatures, format)
    functions = dict(model.serving_functions) if format == "tf_saved_model" and signatures is None else {}
    size = (None, None) if image_size is None else height_width(image_size)
    _check_image_size(size, endpoints)
    if processing and not any(endpoint.pictures for endpoint in endpoints.values()):
        names = ", ".join(endpoints)
        raise ExportArgumentError(f"processing: {names} takes and gives no pictures: leave it out.")
    return Settings(path, format, quantize, processing, batch_size, size, endpoints, functions)


def format_of(path: Path, format: str | None = None) -> str:
    """The format that is meant by a path: FILE.tflite is "litert", FILE.onnx "onnx", all else a SavedModel.

    Raises:
        ExportArgumentError: for a format that does not exist or whose files end otherwise.
    """
    ending = path.suffix.lower()
    if ending in (".keras", ".h5", ".hdf5", ".npz"):
        raise ExportArgumentError(
            f"{path.name!r}: an export ends in .tflite or .onnx or is a folder. Whole models for Keras are "
            "written by model.save('x.keras'), weights by model.save_weights('x.weights.h5')."
        )
    named = next((name for name, suffix in FORMATS.items() if suffix == ending and suffix), "tf_saved_model")
    if format is None:
        return named
    check_choice("format", format, FORMATS)
    if format != named:
        wanted = f"FILE{FORMATS[format]}" if FORMATS[format] else "a folder"
        raise ExportArgumentError(f"format={format!r} writes {wanted}: name the path so, got {path.name!r}.")
    return format


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Raises ExportArgumentError, naming the closest choice, for a value that is none of them."""
    choices = list(choices)
    if value not in choices:
        near, known = closest(str(value), choices), ", ".join(map(repr, choices))
        raise ExportArgumentError(f"{name}: {value!r} does not exist.{near} Choose from {known}.")


def _check_installed(format: str) -> None:
    modules, extra = _NEEDS.get(format, ((), ""))
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    if missing:
        raise ExportError(
            f"format={format!r} needs {', '.join(missing)}, with which every export is run and checked. "
            f"Install it: pip install 'tf_gan_zoo[{extra}]'."
        )


def _chosen(endpoints: Mapping[str, Endpoint], names, format: str) -> dict[str, Endpoint]:
    """The endpoints asked for; by default all in a SavedModel and the first in a file for devices."""
    if names is None:
        names = list(endpoints) if format == "tf_saved_model" else list(endpoints)[:1]
    for name in names:
        check_choice("signatures", name, endpoints)
    if format == "onnx" and len(names) > 1:
        raise ExportArgumentError(
            f"an ONNX file holds one signature, got {list(names)}: export them one by one."
        )
    return {name: endpoints[name] for name in names}


def _check_image_size(size: tuple[int | None, int | None], endpoints: Mapping[str, Endpoint]) -> None:
    if size == (None, None):
        return
    for name, endpoint in endpoints.items():
        free = [t for t in endpoint.network.inputs if t.name in endpoint.pictures and None in t.shape[1:3]]
        if not free:
            raise ExportArgumentError(f"image_size: {name!r} does not take pictures of any size.")
        if any(side % endpoint.multiple_of for side in size):
            unit = endpoint.multiple_of
            raise ExportArgumentError(f"image_size: sides must be multiples of {unit}, got {size}.")
