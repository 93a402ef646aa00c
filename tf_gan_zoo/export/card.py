"""The model card of an export: what it is, how exact and how fast, and how to call it from four languages."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tf_gan_zoo import cards, registry
from tf_gan_zoo.export.settings import Settings

_KINDS = {"tf_saved_model": "TensorFlow SavedModel", "litert": "LiteRT (TFLite) file", "onnx": "ONNX file"}


def export_card(model: Any, settings: Settings, report: Mapping[str, Any]) -> str:
    """Markdown from the report, and from the published record where the weights came from there."""
    origin = getattr(model, "origin", None) or {}
    entry, record = origin.get("entry"), _record(origin)
    paper = dataclasses.asdict(registry.get_spec(model.zoo_name).paper)
    return cards.join_sections(
        cards.title_section(f"{report['file']}: {origin.get('name', model.zoo_name)}", paper),
        _file_section(report),
        _signatures_section(report),
        _exactness_section(report),
        _usage_section(settings, report),
        cards.licence_section(entry) if entry else "",
        cards.training_section(record) if record else "",
        cards.metrics_section(record) if record else "",
    )


def _record(origin: Mapping[str, Any]) -> dict[str, Any]:
    """What training and publishing measured, if the weights came with it."""
    path = Path(origin.get("record") or "")
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _file_section(report: Mapping[str, Any]) -> str:
    quantized = f", {report['quantize']}" if report["quantize"] else ""
    lines = [f"* {_KINDS[report['format']]}{quantized}, {report['size'] / 1e6:.2f} MB"]
    origin = report["origin"]
    if origin.get("sha256"):
        lines.append(f"* Weights: {origin['name']}, SHA-256 `{origin['sha256']}`")
    if report["operators"]:
        used = ", ".join(f"{name} ({count})" for name, count in report["operators"].items())
        lines.append(f"* Operators: {used}")
    return "## File\n\n" + "\n".join(lines)


def _signatures_section(report: Mapping[str, Any]) -> str:
    rows = []
    for name, signature in report["signatures"].items():
        for kind in ("inputs", "outputs"):
            for tensor, facts in signature[kind].items():
                rows.append((f"`{name}`", kind[:-1], f"`{tensor}`", _tensor(facts, report["processing"])))
    return "## Signatures\n\n" + cards.table(("signature", "", "name", "what"), rows)


def _tensor(facts: Mapping[str, Any], processed: bool) -> str:
    parts = []
    if "dtype" in facts:
        shape = ", ".join("any" if side is None else str(side) for side in facts["shape"])
        parts.append(f"{facts['dtype']} ({shape})")
    if "range" in facts:
        low, high = (0, 255) if processed and "limit" in facts else facts["range"]
        parts.append(f"from {low:.4g} to {high:.4g}")
    if facts.get("multiple_of", 1) > 1:
        parts.append(f"height and width multiples of {facts['multiple_of']}")
    return ", ".join([*parts, *([facts["note"]] if "note" in facts else [])])


def _exactness_section(report: Mapping[str, Any]) -> str:
    rows = []
    for name, signature in report["signatures"].items():
        for output, facts in signature["outputs"].items():
            times = ", ".join(f"{ms:g} ms ({t} threads)" for t, ms in signature.get("latency_ms", {}).items())
            rows.append((
                f"`{name}` `{output}`", f"{facts['max_difference']:.2g}", f"{facts['mean_difference']:.2g}",
                f"{facts['psnr']:.1f} dB", times,
            ))  # fmt: skip
    header = ("output", "largest difference", "mean difference", "PSNR", "one call")
    return (
        f"## Compared with Keras\n\nOn the same inputs ({report['examples']}), differences in the output's "
        f"range; times on the machine that made the export.\n\n{cards.table(header, rows)}"
    )


def _usage_section(settings: Settings, report: Mapping[str, Any]) -> str:
    name = next(iter(settings.endpoints))
    endpoint = settings.endpoints[name]
    spec = settings.input_specs(endpoint)[0]
    names = {
        "file": report["file"], "signature": name, "input": spec.name, "output": endpoint.output_names[0],
        "shape": ", ".join(str(side or 1) for side in spec.shape), "dtype": spec.dtype.name,
        "type": {"uint8": "uint8_t"}.get(spec.dtype.name, "float"),
    }  # fmt: skip
    return "## How to call it\n\n" + "\n\n".join(
        f"{language}:\n\n```{fence}\n{_filled(text, names)}\n```"
        for language, (fence, text) in _USAGE[settings.format].items()
    )


def _filled(text: str, names: Mapping[str, str]) -> str:
    for key, value in names.items():
        text = text.replace(f"<{key}>", value)
    return text.strip()


_USAGE = {
    "tf_saved_model": {
        "Python": ("python", """
import tensorflow as tf

loaded = tf.saved_model.load("<file>")   # keep it: it owns the weights
result = loaded.signatures["<signature>"](<input>=tf.zeros((<shape>), tf.<dtype>))["<output>"]
"""),
        "C++": ("cpp", """
tensorflow::SavedModelBundleLite bundle;
TF_CHECK_OK(tensorflow::LoadSavedModel({}, {}, "<file>", {"serve"}, &bundle));
const auto& signature = bundle.GetSignatures().at("<signature>");
std::vector<tensorflow::Tensor> outputs;
TF_CHECK_OK(bundle.GetSession()->Run({{signature.inputs().at("<input>").name(), input}},
                                     {signature.outputs().at("<output>").name()}, {}, &outputs));
"""),
    },
    "litert": {
        "Python": ("python", """
import numpy as np
from ai_edge_litert.interpreter import Interpreter

run = Interpreter("<file>").get_signature_runner("<signature>")
result = run(<input>=np.zeros((<shape>), np.<dtype>))["<output>"]
"""),
        "Kotlin": ("kotlin", """
val model = FileUtil.loadMappedFile(context, "<file>")
val interpreter = Interpreter(model, Interpreter.Options().setNumThreads(4))
val shape = interpreter.getOutputTensorFromSignature("<output>", "<signature>").shape()
val result = TensorBuffer.createFixedSize(shape, interpreter.getOutputTensor(0).dataType())
interpreter.runSignature(mapOf("<input>" to inputBuffer), mapOf("<output>" to result.buffer), "<signature>")
"""),
        "Swift": ("swift", """
let interpreter = try Interpreter(modelPath: path)   // of <file>
try interpreter.allocateTensors()
try interpreter.copy(inputData, toInputAt: 0)         // <input>: <dtype> (<shape>)
try interpreter.invoke()
let result = try interpreter.output(at: 0).data       // <output>
"""),
        "C++": ("cpp", """
auto model = tflite::FlatBufferModel::BuildFromFile("<file>");
tflite::ops::builtin::BuiltinOpResolver resolver;
std::unique_ptr<tflite::Interpreter> interpreter;
tflite::InterpreterBuilder(*model, resolver)(&interpreter);
tflite::SignatureRunner* runner = interpreter->GetSignatureRunner("<signature>");
runner->AllocateTensors();
std::copy(data.begin(), data.end(), runner->input_tensor("<input>")->data.raw);   // bytes of <type>
runner->Invoke();
const TfLiteTensor* result = runner->output_tensor("<output>");
"""),
    },
    "onnx": {
        "Python": ("python", """
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("<file>")
result = session.run(["<output>"], {"<input>": np.zeros((<shape>), np.<dtype>)})[0]
"""),
    },
}  # fmt: skip
