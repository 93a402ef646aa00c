"""Runs exported files the way other programs do: each format by its own runtime, by signature and name."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

Arrays = Mapping[str, np.ndarray]
Run = Callable[[Arrays], dict[str, np.ndarray]]


def open_export(path: Path, format: str, signature: str, threads: int | None = None) -> Run:
    """A function from named inputs to named outputs that runs one signature of an exported file."""
    return _OPENERS[format](str(path), signature, threads)


def _open_saved_model(path: str, signature: str, threads: int | None) -> Run:
    loaded = tf.saved_model.load(path)  # owns the variables: the closure keeps it alive
    function = loaded.signatures[signature]

    def run(inputs: Arrays) -> dict[str, np.ndarray]:
        outputs = function(**{name: tf.convert_to_tensor(value) for name, value in inputs.items()})
        return {name: value.numpy() for name, value in outputs.items()} if loaded else {}

    return run


def _open_litert(path: str, signature: str, threads: int | None) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=threads)
    runner = interpreter.get_signature_runner(signature)

    def run(inputs: Arrays) -> dict[str, np.ndarray]:
        # The runner's arrays look into the interpreter's memory, which it owns.
        outputs = runner(**inputs) if interpreter else {}
        return {name: np.array(value) for name, value in outputs.items()}

    return run


def _open_onnx(path: str, signature: str, threads: int | None) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(names, dict(inputs))))


_OPENERS = {"tf_saved_model": _open_saved_model, "litert": _open_litert, "onnx": _open_onnx}


def latency(run: Run, inputs: Arrays, seconds: float = 0.3, max_runs: int = 20) -> float:
    """Median milliseconds of a call, over up to `max_runs` calls or `seconds`, at least three."""
    run(inputs)
    times, start = [], time.perf_counter()
    while len(times) < 3 or (len(times) < max_runs and time.perf_counter() - start < seconds):
        before = time.perf_counter()
        run(inputs)
        times.append(time.perf_counter() - before)
    return 1e3 * statistics.median(times)


def litert_operators(path: Path) -> dict[str, int]:
    """Operator -> how often a .tflite file uses it; one that is not built in as "custom: NAME"."""
    from ai_edge_litert import schema_py_generated as schema

    names = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))

    def name(index: int) -> str:
        code = model.operatorCodes[index]
        builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
        custom = builtin == schema.BuiltinOperator.CUSTOM
        return f"custom: {code.customCode.decode()}" if custom else names[builtin]

    used = Counter(name(op.opcodeIndex) for graph in model.subgraphs for op in graph.operators)
    return dict(sorted(used.items()))


def onnx_operators(path: Path) -> dict[str, int]:
    """Operator -> how often an .onnx file uses it."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    return dict(sorted(Counter(node.op_type for node in graph.node).items()))
