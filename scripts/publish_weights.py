"""Publishes a finished run: weights, manifest entry, metrics record, sample picture and thinned history.

    python scripts/publish_weights.py runs/dcgan.glyphs --data-licence "..."
    python scripts/publish_weights.py runs/dcgan.glyphs --data-licence "..." --release releases/letters
    python scripts/publish_weights.py runs/dcgan.glyphs --only-history   # curves of what is published already
    python scripts/publish_weights.py --predates "padding is now symmetric; the weights ..." dcgan.glyphs

Without --release they go into this checkout: the package, docs/samples, docs/results, and the header of the
recipe; `scripts/evaluate_zoo.py` then has to evaluate it. With --release only the release folder is written,
which any static host or model hub can serve as it is: manifest.json, and for each run NAME.npz, NAME.json
(record), NAME.png and its model card in README.md. A folder may hold several runs; publish them one after the
other. Whoever sets ZOO_WEIGHTS_URL to the folder's address has its recipes.

With --predates it says of published weights that the model has changed since, and why they are still right to
ship: in the package's record, which model card and gallery show, and in the recipe's header. A reason of ""
takes the sentence back, and so does publishing the recipe anew.

Everything it writes comes from the run folder and from measurements made here on held-out examples, with the
published float16 weights; the same measurements of the untrained network stand beside them.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

import tf_gan_zoo as zoo
from tf_gan_zoo import callbacks, cards, files, registry, train, weights
from tf_gan_zoo.config import Config, check_recipe_name, load_yaml
from tf_gan_zoo.data import DatasetError
from tf_gan_zoo.paths import expand

DOCS = Path(__file__).resolve().parent.parent / "docs"
PICTURES, HISTORIES = DOCS / "samples", DOCS / "results"
NUM_EXAMPLES = 1000
#: Most points of a published curve.
NUM_POINTS = 120
_MARK = "# Trained:"


def main() -> None:
    arguments = parse_arguments()
    if arguments.predates is not None:
        note_predates(str(arguments.run), arguments.predates)
        return
    run = train.RunFolder(arguments.run)
    name = check_recipe_name(load_yaml(run.config)["name"])
    if arguments.only_history:
        write_history(run, name)
        return
    folder = arguments.release or weights.PRETRAINED_DIR
    pictures = arguments.release or PICTURES
    for path in (folder, pictures):
        path.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.npz"
    weights.save(train.load_model(arguments.run), file, optimizers=arguments.optimizers)
    record = make_record(run, name, file, arguments.examples)
    write_json(folder / f"{name}.json", record)
    shutil.copy(run.samples / "final.png", pictures / f"{name}.png")
    entries = add_to_manifest(name, file, make_entry(file, record, run, arguments))
    if arguments.release:
        write_card(folder, entries)
    else:
        write_header(zoo.zoo.RECIPE_DIR / f"{name}.yaml", record)
        write_history(run, name)
    print(json.dumps(record, indent=2))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("run", type=expand, help="run folder; with --predates the name of a published recipe")
    parser.add_argument("--licence", default="Apache-2.0", help="licence of the weights")
    parser.add_argument("--data-licence", default="", help="what the training data are and their licence")
    parser.add_argument("--examples", type=int, default=NUM_EXAMPLES, help="held-out examples to measure on")
    parser.add_argument("--optimizers", action="store_true", help="publish optimizers and step, too")
    parser.add_argument("--only-history", action="store_true", help="write NAME.history.json alone")
    parser.add_argument("--predates", metavar="REASON", help="what changed in the model since")
    parser.add_argument("--release", type=expand, metavar="DIR", help="write this folder and nothing else")
    parser.add_argument(
        "--mirror", action="append", default=[], metavar="URL", dest="mirrors",
        help="folder or file address that will serve the weights (http, file, gs, hf); repeatable",
    )  # fmt: skip
    return parser.parse_args()


def make_record(run: train.RunFolder, name: str, file: Path, num_examples: int) -> dict:
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
    final = zoo.get(name, weights=file, **overrides)
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


def make_entry(
    file: Path, record: dict, run: train.RunFolder, arguments: argparse.Namespace
) -> dict[str, Any]:
    """What a manifest says of these weights."""
    entry = {
        "file": file.name,
        "size": file.stat().st_size,
        "sha256": weights.sha256(file),
        "licence": arguments.licence,
        "data_licence": arguments.data_licence,
        "config_sha256": record["config_sha256"],
        "record": f"{file.stem}.json",
        "mirrors": arguments.mirrors,
    }
    extras = {"overrides": network_overrides(run), "optimizers": arguments.optimizers}
    return {**entry, **{key: value for key, value in extras.items() if value}}


def network_overrides(run: train.RunFolder) -> dict[str, Any]:
    """The model's fields in which the run differs from its recipe; to load the weights they are needed."""
    stored = load_yaml(run.config)
    recipe = zoo.zoo.resolve(stored["name"])[1].to_dict()
    return {
        field: value
        for field, value in stored["config"].items()
        if recipe[field] != value and field not in Config.field_names()
    }


def add_to_manifest(name: str, file: Path, entry: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Adds an entry to the manifest beside the file; returns all entries."""
    path = file.parent / "manifest.json"
    entries = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    entries = dict(sorted({**entries, name: entry}.items()))
    write_json(path, entries)
    return entries


def write_history(run: train.RunFolder, name: str) -> None:
    """The run's curves in a small file, for the gallery.

    Raises:
        SystemExit: if other weights than this run's are published under the name.
    """
    published = weights.PRETRAINED_DIR / f"{name}.json"
    own = json.loads(run.record.read_text())
    if json.loads(published.read_text(encoding="utf-8"))["finished"] != own["finished"]:
        raise SystemExit(f"{published.name} is of another run than {run.record.parent}: publish it first.")
    curves = thinned(callbacks.read_history(run.history), list(own["logs"]))
    HISTORIES.mkdir(parents=True, exist_ok=True)
    lines = [f"  {json.dumps(key)}: {json.dumps(values)}" for key, values in curves.items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    files.write_text(HISTORIES / f"{name}.history.json", text)


def thinned(rows: list[dict[str, Any]], names: list[str]) -> dict[str, list]:
    """Rows of a history as columns of four digits, at most `NUM_POINTS` long, first and last row kept."""
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), NUM_POINTS)).round().astype(int))
    kept = [rows[index] for index in chosen]
    digits = {name: [row.get(name) for row in kept] for name in names}
    return {
        "step": [row["step"] for row in kept],
        **{n: [v if v is None else float(f"{v:.4g}") for v in values] for n, values in digits.items()},
    }


def note_predates(name: str, reason: str, published: Path | None = None, recipes: Path | None = None) -> None:
    """Writes into a published recipe's record and header that its weights predate a change of the model.

    Args:
        name: of the recipe.
        reason: what has changed and why the weights are still right to ship; "" removes the note.
        published: folder of the records; the package's.
        recipes: folder of the YAML files; the package's.

    Raises:
        SystemExit: if the recipe has no published weights.
    """
    file = (published or weights.PRETRAINED_DIR) / f"{name}.json"
    if not file.is_file():
        raise SystemExit(f"{name} has no published weights: there is no {file}.")
    record = json.loads(file.read_text(encoding="utf-8"))
    record.pop("predates", None)
    if sentence := " ".join(reason.split()):
        record["predates"] = sentence
    write_json(file, record)
    write_header((recipes or zoo.zoo.RECIPE_DIR) / f"{name}.yaml", record)


def write_card(folder: Path, entries: dict[str, dict[str, Any]]) -> None:
    """README.md of a release folder, from the records in it."""
    texts = []
    for name, entry in entries.items():
        record = json.loads((folder / entry["record"]).read_text(encoding="utf-8"))
        paper = registry.get_spec(name.partition(".")[0]).paper
        texts.append(cards.weights_card(name, entry, record, dataclasses.asdict(paper)))
    files.write_text(folder / "README.md", cards.release_card(texts, entries))


def write_json(path: Path, value: dict) -> None:
    files.write_text(path, json.dumps(value, indent=2) + "\n")


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
        *([f"#   weights predate: {record['predates']}"] if "predates" in record else []),
    ]
    body = [line for line in lines if not line.startswith("#")]
    files.write_text(path, "\n".join([*description, *header, *body]) + "\n")


def summary(metrics: dict[str, float]) -> str:
    return ", ".join(f"{key} {value:g}" for key, value in metrics.items())


if __name__ == "__main__":
    main()
