"""Writes the formats: SavedModel by Keras's own archive, LiteRT and ONNX from TensorFlow's graph of it."""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_gan_zoo import _quiet, files
from tf_gan_zoo.endpoints import Endpoint
from tf_gan_zoo.export import forms, processing
from tf_gan_zoo.export.settings import ExportError, Settings

#: Calls of the network to calibrate with, by signature: inputs by name.
Calibration = Mapping[str, Iterable[Mapping[str, np.ndarray]]]


def write(settings: Settings, path: Path, calibration: Calibration | None = None) -> None:
    """Writes the export to `path`."""
    if settings.format == "tf_saved_model":
        _write_saved_model(settings, path, forms.in_float32)
    elif settings.format == "litert":
        files.write_bytes(path, _litert(settings, calibration))
    else:
        _write_onnx(settings, path)


def serving(endpoint: Endpoint, network: keras.Model, process: bool) -> Callable[..., dict[str, tf.Tensor]]:
    """The function of a signature, its parameters named like the network's inputs.

    Args:
        endpoint: names, ranges and structure.
        network: the form of the endpoint's network to run.
        process: pictures are uint8, in and out.
    """
    ranges = endpoint.pictures if process else {}

    def call(*values: tf.Tensor, **named: tf.Tensor) -> dict[str, tf.Tensor]:
        named = {**dict(zip(endpoint.input_names, values)), **named}
        inputs = {n: processing.to_range(v, ranges[n]) if n in ranges else v for n, v in named.items()}
        outputs = endpoint.run(inputs, network)
        return {n: processing.to_uint8(v, ranges[n]) if n in ranges else v for n, v in outputs.items()}

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    call.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in endpoint.input_names])
    return call


def _write_saved_model(settings: Settings, path: Path, form: Callable[[keras.Model], keras.Model]) -> None:
    archive = keras.export.ExportArchive()
    for name, endpoint in settings.endpoints.items():
        # The archive finds the variables by itself; tracking the network, too, would save them twice.
        function = serving(endpoint, form(endpoint.network), settings.processing)
        archive.add_endpoint(name, function, input_signature=settings.input_specs(endpoint))
    for name, extra in settings.functions.items():
        function = processed(extra.function, extra.pictures if settings.processing else {})
        archive.add_endpoint(name, function, input_signature=list(extra.inputs))
    with contextlib.redirect_stdout(io.StringIO()):
        archive.write_out(str(path), verbose=False)


def processed(function: Callable, pictures: Mapping) -> Callable:
    """The function with uint8 outputs where these are pictures, given with their ranges."""

    def call(*values: tf.Tensor, **named: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = function(*values, **named)
        return {n: processing.to_uint8(v, pictures[n]) if n in pictures else v for n, v in outputs.items()}

    call.__signature__ = inspect.signature(function)
    return call


def _litert(settings: Settings, calibration: Calibration | None) -> bytes:
    form = functools.partial(forms.mobile_form, bounded=settings.quantize == "int8")
    # Converting a Keras 3 model's functions directly writes a file without weights: go by a SavedModel.
    with tempfile.TemporaryDirectory() as folder:
        _write_saved_model(settings, Path(folder), form)
        names = list(settings.endpoints)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=names)
        _quantize(converter, settings.quantize, calibration)
        with _quiet_tensorflow():
            return converter.convert()


def _quantize(converter: Any, quantize: str | None, calibration: Calibration | None) -> None:
    if quantize is None:
        return
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    # A scale for each of a dense layer's thousands of outputs would take a tenth of a small file.
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    if quantize == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if quantize == "int8":
        calls = {name: list(inputs) for name, inputs in calibration.items()}
        converter.representative_dataset = lambda: (
            (name, dict(inputs)) for name, batches in calls.items() for inputs in batches
        )


def _write_onnx(settings: Settings, path: Path) -> None:
    import onnx
    import tf2onnx

    ((_, endpoint),) = settings.endpoints.items()
    network = forms.in_float32(endpoint.network)
    function = tf.function(serving(endpoint, network, settings.processing), autograph=False)
    with _quiet_tensorflow():
        model, _ = tf2onnx.convert.from_function(function, input_signature=settings.input_specs(endpoint))
    # Dicts are flattened in the order of their keys.
    _rename_outputs(model.graph, sorted(endpoint.output_names))
    onnx.checker.check_model(model)
    files.write_bytes(path, model.SerializeToString())


def _rename_outputs(graph: Any, names: list[str]) -> None:
    if len(graph.output) != len(names):
        raise ExportError(f"ONNX has {len(graph.output)} outputs where {len(names)} were expected.")
    new = {output.name: name for output, name in zip(graph.output, names)}
    for output in graph.output:
        output.name = new[output.name]
    for node in graph.node:
        node.output[:] = [new.get(name, name) for name in node.output]
        node.input[:] = [new.get(name, name) for name in node.input]


@contextlib.contextmanager
def _quiet_tensorflow():
    """Converters tell of every step they take, as a warning; errors are raised anyway."""
    chatter = [rb"^W\d{4} .*(tfl_flatbuffer|flatbuffer_export)", rb"^fully_quantize: "]
    loggers = [logging.getLogger(name) for name in ("tensorflow", "tf2onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with _quiet.filtered_stderr(*chatter), contextlib.redirect_stdout(io.StringIO()):
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="(?s).*tf.lite.Interpreter is deprecated")
                yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
