"""What do twenty views, a few or one tell of a shape? Writes docs/results/mvd_3d.variants.json.

    python scripts/compare_mvd_3d.py --runs runs
    python scripts/compare_mvd_3d.py --runs runs --steps 1000 --seed 1

AllVPNet, DropoutNet and SingleVPNet get the recipe's settings, data and seed, and the same number of training
steps; held-out shapes are reconstructed from all views, from three and from one. A run that was killed goes
on where it was.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import results
from publish_weights import NUM_EXAMPLES, held_out, rounded

from tf_gan_zoo import callbacks, train
from tf_gan_zoo.models.mvd_3d import KL_WEIGHTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipe", default="mvd_3d.solids")
    parser.add_argument("--runs", type=Path, required=True, help="folder for the run folders")
    parser.add_argument("--steps", type=int, default=1000, help="training steps of each")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    measured = {}
    for variant in KL_WEIGHTS:
        measured[variant] = run(variant, arguments)
        print(f"{variant}: {measured[variant]}", flush=True)
    write(measured, arguments)


def run(variant: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Trains one of them, or goes on with it, and measures it on held-out shapes."""
    epochs = 10  # the first of them warm up
    settings = {
        "variant": variant, "epochs": epochs, "warm_up_epochs": 1, "seed": arguments.seed,
        "steps_per_epoch": max(arguments.steps // epochs, 1),
    }  # fmt: skip
    folder = arguments.runs / f"{variant}.{arguments.seed}"
    train.train(arguments.recipe, settings=settings, out=folder, resume=True)
    model = train.load_model(folder)
    return rounded(model.measure(held_out(model, NUM_EXAMPLES)))


def write(measured: dict[str, Any], a: argparse.Namespace) -> None:
    record = {
        "recipe": a.recipe,
        "command": f"python scripts/compare_mvd_3d.py --runs RUNS --steps {a.steps} --seed {a.seed}",
        "steps": a.steps,
        "seed": a.seed,
        "split": "test",
        "variants": measured,
        "machine": train.machine(),
        "versions": train.versions(),
    }
    path = results.RESULTS / "mvd_3d.variants.json"
    text = json.dumps(record, indent=2) + "\n"
    callbacks.write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    main()
