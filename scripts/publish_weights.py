"""Publishes a finished run: weights, manifest entry, metrics record, sample picture and recipe header.

    python scripts/publish_weights.py runs/dcgan.glyphs --licence Apache-2.0 --note "..."

Everything it writes comes from the run folder and from measurements made here on held-out examples, with the
published float16 weights; the same measurements of the untrained network stand beside them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np

import tf_gan_zoo as zoo
from tf_gan_zoo import train, weights
from tf_gan_zoo.config import load_yaml
from tf_gan_zoo.data import DatasetError

PICTURES = Path(__file__).resolve().parent.parent / "docs" / "samples"
NUM_EXAMPLES = 1000
_MARK = "# Trained:"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--licence", default="Apache-2.0", help="licence of the weights")
    parser.add_argument("--data-licence", default="", help="what the training data are and their licence")
    parser.add_argument("--examples", type=int, default=NUM_EXAMPLES, help="held-out examples to measure on")
    arguments = parser.parse_args()

    run = train.RunFolder(arguments.run)
    name = load_yaml(run.config)["name"]
    weights.PRETRAINED_DIR.mkdir(exist_ok=True)
    PICTURES.mkdir(parents=True, exist_ok=True)
    file = weights.PRETRAINED_DIR / f"{name}.npz"
    weights.save(train.load_model(arguments.run), file)
    record = make_record(run, name, arguments.examples)
    write_json(weights.PRETRAINED_DIR / f"{name}.json", record)
    add_to_manifest(name, file, record, arguments.licence, arguments.data_licence)
    shutil.copy(run.samples / "final.png", PICTURES / f"{name}.png")
    write_header(zoo.zoo.RECIPE_DIR / f"{name}.yaml", record)
    print(json.dumps(record, indent=2))


def make_record(run: train.RunFolder, name: str, num_examples: int) -> dict:
    """The run's own record with the measurements of its weights, of each earlier phase, and of none."""
    stored, record = load_yaml(run.config), json.loads(run.record.read_text())
    overrides = stored["config"]
    examples = held_out(zoo.get(name, **overrides), num_examples)
    record["command"] = stored["command"]
    record["config_sha256"] = hashlib.sha256(json.dumps(overrides, sort_keys=True).encode()).hexdigest()
    record["protocol"] = {
        "split": "test",
        "examples": len(next(iter(examples.values()))),
        "weights": "float16",
        "sample_seed": 0,
    }
    final = zoo.get(name, weights=weights.PRETRAINED_DIR / f"{name}.npz", **overrides)
    record["metrics"] = rounded(final.measure(examples))
    record["untrained"] = rounded(zoo.get(name, **overrides).measure(examples))
    for phase, _ in final.phases[:-1]:
        earlier = zoo.get(name, weights=run.checkpoints / f"{phase}.weights.h5", **overrides)
        record.setdefault("phases", {})[phase] = rounded(earlier.measure(examples))
    return record


def held_out(model: zoo.GAN, count: int) -> dict[str, np.ndarray]:
    """Up to `count` test examples, with labels where the data have them and the model samples freely."""
    options = {"batch_size": count, "shuffle": False, "drop_remainder": False}
    views = ["labelled", model.view] if model.view == "images" else [model.view]
    for view in views:
        try:
            pipeline = train.open_pipeline(model, "test", view=view, **options)
        except DatasetError:
            continue
        batch = next(iter(pipeline.dataset(start_step=0)))
        return {field: np.asarray(value) for field, value in batch.items()}
    raise DatasetError(f"{model.config.data} has no test split to measure on.")


def rounded(metrics: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in metrics.items()}


def add_to_manifest(name: str, file: Path, record: dict, licence: str, data_licence: str) -> None:
    entries = weights.manifest()
    entries[name] = {
        "file": file.name,
        "size": file.stat().st_size,
        "sha256": weights.sha256(file),
        "licence": licence,
        "data_licence": data_licence,
        "config_sha256": record["config_sha256"],
        "record": f"{name}.json",
    }
    write_json(weights.PRETRAINED_DIR / "manifest.json", dict(sorted(entries.items())))


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def write_header(path: Path, record: dict) -> None:
    """Puts command, machine, time and result on top of the recipe, below its own description."""
    lines = path.read_text(encoding="utf-8").splitlines()
    description = [line for line in lines if line.startswith("#")]
    if _MARK in description:
        description = description[: description.index(_MARK)]
    machine = record["machine"]
    devices = ", ".join(machine["gpus"]) or f"{machine['cpu']}, {machine['cores']} cores"
    header = [
        _MARK,
        f"#   command: {record['command']}",
        f"#   machine: {devices}; TensorFlow {record['versions']['tensorflow']}",
        f"#   time: {record['seconds'] / 60:.1f} minutes for {record['steps']} steps",
        f"#   result: {summary(record['metrics'])}",
        *(f"#   result after {phase}: {summary(m)}" for phase, m in record.get("phases", {}).items()),
    ]
    body = [line for line in lines if not line.startswith("#")]
    path.write_text("\n".join([*description, *header, *body]) + "\n", encoding="utf-8")


def summary(metrics: dict[str, float]) -> str:
    return ", ".join(f"{key} {value:g}" for key, value in metrics.items())


if __name__ == "__main__":
    main()
