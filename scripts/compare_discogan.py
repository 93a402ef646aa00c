"""Which hidden pairs do DiscoGAN and its two comparisons find? Writes docs/results/discogan.variants.json.

    python scripts/compare_discogan.py --runs runs
    python scripts/compare_discogan.py --runs runs --steps 2000 --seed 1

The paper sets DiscoGAN against a GAN without reconstruction and one that reconstructs one domain only. All
three get the recipe's settings, data and seed, and the same number of training steps; the recipe's test split
has the same letter in the same pose at the same index of both domains, which no model has been told. A run
that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import results
from publish_weights import NUM_EXAMPLES, held_out, rounded

from tf_gan_zoo import callbacks, train

VARIANTS = ("discogan", "recongan", "gan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipe", default="discogan.glyphs")
    parser.add_argument("--runs", type=Path, required=True, help="folder for the run folders")
    parser.add_argument("--steps", type=int, default=1000, help="training steps of each")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    measured = {}
    for variant in VARIANTS:
        measured[variant] = run(variant, arguments)
        print(f"{variant}: {measured[variant]}", flush=True)
    write(measured, arguments)


def run(variant: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Trains one of them, or goes on with it, and measures it on held-out examples."""
    settings = {
        "variant": variant, "epochs": 1, "steps_per_epoch": arguments.steps, "seed": arguments.seed
    }  # fmt: skip
    folder = arguments.runs / f"{variant}.{arguments.seed}"
    train.train(arguments.recipe, settings=settings, out=folder, resume=True)
    model = train.load_model(folder)
    return rounded(model.measure(held_out(model, NUM_EXAMPLES)))


def write(measured: dict[str, Any], a: argparse.Namespace) -> None:
    record = {
        "recipe": a.recipe,
        "command": f"python scripts/compare_discogan.py --runs RUNS --steps {a.steps} --seed {a.seed}",
        "steps": a.steps,
        "seed": a.seed,
        "split": "test",
        "num_examples": NUM_EXAMPLES,
        "variants": measured,
        "machine": train.machine(),
        "versions": train.versions(),
    }
    path = results.RESULTS / "discogan.variants.json"
    text = json.dumps(record, indent=2) + "\n"
    callbacks.write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


if __name__ == "__main__":
    main()
