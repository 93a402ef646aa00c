"""Evaluates published recipes, each task under one protocol, and writes docs/results/RECIPE.json.

    python scripts/evaluate_zoo.py [RECIPE ...]   # all that are published, unless some are named
    python scripts/evaluate_zoo.py --check        # only tells which records are missing or of other weights

Run it where the recipes' data are found; recipes without data keep the record they have.

Models that generate: Fréchet and kernel distance, precision and recall, Inception Score, sliced Wasserstein
distance, MS-SSIM and the model's own metrics, of 10,000 samples (as many as the test split has, if that is
less) against the test split. Models that convert pictures: their own metrics on held-out pictures with
baselines, and distances where the packaged classifiers fit the data. Beside the published weights stand the
untrained network and a floor: real training pictures in the place of generated ones.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import results

import tf_gan_zoo as zoo
from tf_gan_zoo import files, published, registry, train
from tf_gan_zoo.data import DatasetError
from tf_gan_zoo.evaluation import EvaluationError, Evaluator, generates_pictures
from tf_gan_zoo.metrics import features, gather
from tf_gan_zoo.metrics import registry as metric_registry

NUM_SAMPLES, SEED, SPLIT = 10_000, 0, "test"
#: What models that convert pictures are judged by besides their own metrics.
CONVERSION_METRICS = ("fid", "kid")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE")
    parser.add_argument("--check", action="store_true", help="only tell which records are out of date")
    arguments = parser.parse_args()
    if arguments.check:
        sys.exit(complaint() or 0)
    known = list(published.manifest())
    if unknown := sorted(set(arguments.recipes) - set(known)):
        parser.error(f"no published recipe {unknown[0]!r}; there are {', '.join(known)}.")
    skipped = evaluate_all(arguments.recipes or known)
    if set(skipped) & set(arguments.recipes):
        sys.exit(f"not evaluated: {', '.join(skipped)}.")


def complaint() -> str:
    """What is wrong with the records and what to run; empty if nothing is."""
    stale = results.stale()
    lines = [f"{name}: {reason}." for name, reason in stale.items()]
    return "\n".join([*lines, f"Run: {results.command(stale)}"]) if stale else ""


def evaluate_all(recipes: Sequence[str]) -> list[str]:
    """Writes the records; returns the recipes whose data could not be opened."""
    skipped = []
    for index, name in enumerate(recipes):
        started = time.perf_counter()
        show(f"[{index + 1}/{len(recipes)}] {name}")
        try:
            record = make_record(name)
        except (DatasetError, EvaluationError) as error:
            skipped.append(name)
            kept = "its old record stays" if results.path_of(name).is_file() else "it gets no record"
            show(f"  skipped, {kept}: {error}")
            continue
        record["seconds"] = round(time.perf_counter() - started, 1)
        write(name, record)
        numbers = (f"{row.shown.label} {row.value}" for row in results.rows(record) if row.shown.brief)
        show(f"  {', '.join(numbers)} ({record['seconds']:.0f} s)")
    return skipped


def make_record(name: str) -> dict[str, Any]:
    """The numbers of a recipe's published weights, of its untrained network and of real pictures."""
    entry = published.manifest()[name]
    model = zoo.get(name, weights="pretrained")
    count = min(NUM_SAMPLES, train.open_pipeline(model, SPLIT, drop_remainder=False).num_examples)
    metrics, left_out = choose_metrics(model)
    show("  real pictures")
    evaluator = Evaluator(model, None, metrics, count, split=SPLIT, seed=SEED)
    show(f"  published weights: {', '.join(metrics)}")
    trained = evaluator(model)
    show("  untrained network")
    untrained = evaluator(zoo.get(name))
    return {
        "recipe": name,
        "task": registry.get_spec(name.partition(".")[0]).tasks[0],
        "command": f"python scripts/evaluate_zoo.py {name}",
        "weights": {"file": entry["file"], "sha256": entry["sha256"]},
        "num_examples": trained.protocol["metrics"]["task"]["num_examples"],
        "metrics": rounded(trained.metrics | input_baseline(evaluator)),
        "untrained": rounded(untrained.metrics),
        "floor": make_floor(model, evaluator, count),
        "left_out": left_out,
        "protocol": trained.protocol,
        "machine": train.machine(),
    }


def choose_metrics(model: zoo.GAN) -> tuple[list[str], dict[str, str]]:
    """Names of the metrics that suit a model and its data, and why others are left out."""
    names = metric_registry.DISTRIBUTION_METRICS if generates_pictures(model) else CONVERSION_METRICS
    if features.automatic(model.config.data) in features.PACKAGED:
        return ["task", *names], {}
    reason = "no packaged classifier knows such pictures, and they are too few for Inception's 2048 features"
    from_extractor = [m.name for m in metric_registry.get_metrics(names) if m.needs & gather.FROM_EXTRACTOR]
    return ["task", *(n for n in names if n not in from_extractor)], dict.fromkeys(from_extractor, reason)


def make_floor(model: zoo.GAN, test: Evaluator, count: int) -> dict[str, Any] | None:
    """The same metrics of the first training pictures in the place of generated ones."""
    if test.extractor is None:
        return None
    show("  floor: real training pictures")
    real = Evaluator(model, None, "fid", split="train", num_real=count, seed=SEED).data
    what = f"the first {count} pictures of the train split in the place of generated ones"
    return {"of": what, "metrics": rounded(compare(test, real.pictures()))}


def input_baseline(evaluator: Evaluator) -> dict[str, float]:
    """Distances of what a converting model gets, taken as if it were its result."""
    if evaluator.extractor is None or evaluator.data.conversion is None:
        return {}
    numbers = compare(evaluator, evaluator.data.inputs())
    return {f"{name}_baseline": value for name, value in numbers.items() if not name.endswith("_std")}


def compare(evaluator: Evaluator, pictures: gather.Batches) -> dict[str, float]:
    """All metrics that need no model, of any pictures against an evaluator's real ones."""
    chosen = [metric for metric in evaluator.metrics if "examples" not in metric.needs]
    needs = frozenset().union(*(metric.needs for metric in chosen))
    real = evaluator.data.pictures()
    sides = [gather.gather(side, needs, evaluator.extractor) for side in (real, pictures)]
    numbers = {}
    for metric in chosen:
        numbers |= metric_registry.measure(metric, metric_registry.Evidence(*sides, evaluator.seed))
    return numbers


def rounded(metrics: dict[str, float]) -> dict[str, float]:
    """Six significant digits: more than a second run on another machine repeats."""
    return {name: float(f"{value:.6g}") for name, value in metrics.items()}


def write(name: str, record: dict[str, Any]) -> None:
    path = results.path_of(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(path, json.dumps(record, indent=2) + "\n")


def show(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
