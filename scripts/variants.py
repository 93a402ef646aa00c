"""Trains the variants of a recipe alike and writes what they measure, for the scripts compare_MODEL.py."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import results
from publish_weights import NUM_EXAMPLES, held_out, rounded

from tf_gan_zoo import files, train
from tf_gan_zoo.paths import expand


def compare(
    description: str, recipe: str, variants: Iterable[str], schedule: Callable[[int], dict[str, int]]
) -> None:
    """A comparison's whole program: writes docs/results/MODEL.variants.json.

    Args:
        description: the script's documentation.
        recipe: what all variants have in common, unless --recipe says otherwise.
        variants: values of the config's `variant`.
        schedule: training steps -> the config fields that make a run of so many.
    """
    arguments = parse(description, recipe)
    measured = {}
    for variant in variants:
        measured[variant] = run(variant, schedule(arguments.steps), arguments)
        print(f"{variant}: {measured[variant]}", flush=True)
    write(measured, arguments)


def parse(description: str, recipe: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--recipe", default=recipe)
    parser.add_argument("--runs", type=expand, required=True, help="folder for the run folders")
    parser.add_argument("--steps", type=int, default=1000, help="training steps of each")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def run(variant: str, schedule: dict[str, int], arguments: argparse.Namespace) -> dict[str, float]:
    """Trains one of them, or goes on with it, and measures it on held-out examples."""
    folder = arguments.runs / f"{variant}.{arguments.seed}"
    settings = {"variant": variant, "seed": arguments.seed, **schedule}
    train.train(arguments.recipe, settings=settings, out=folder, resume=True)
    model = train.load_model(folder)
    return rounded(model.measure(held_out(model, NUM_EXAMPLES)))


def write(measured: dict[str, Any], a: argparse.Namespace) -> None:
    script = Path(sys.argv[0]).name
    record = {
        "recipe": a.recipe,
        "command": f"python scripts/{script} --runs RUNS --steps {a.steps} --seed {a.seed}",
        "steps": a.steps,
        "seed": a.seed,
        "split": "test",
        "num_examples": NUM_EXAMPLES,
        "variants": measured,
        "machine": train.machine(),
        "versions": train.versions(),
    }
    path = results.RESULTS / f"{a.recipe.partition('.')[0]}.variants.json"
    text = json.dumps(record, indent=2) + "\n"
    files.write_text(path, text)
