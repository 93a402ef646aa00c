"""Writes the README's table of models between its markers: `python scripts/make_model_table.py [--check]`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import tf_gan_zoo as zoo
from tf_gan_zoo import weights

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
BEGIN, END = "<!-- models: begin (scripts/make_model_table.py) -->", "<!-- models: end -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only tell whether the table is up to date")
    arguments = parser.parse_args()
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    updated = f"{before}{BEGIN}\n{table()}\n{END}{after}"
    if arguments.check and updated != text:
        sys.exit("README.md: the table of models is out of date; run scripts/make_model_table.py.")
    README.write_text(updated, encoding="utf-8")


def table() -> str:
    columns = ["model", "task", "paper", "weights at paper size", "trained recipes", "samples"]
    rows = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    return "\n".join([*rows, *(row(name) for name in zoo.list_models())])


def row(name: str) -> str:
    info = zoo.info(name)
    paper = f"[{info.paper.authors.split(',')[0]} et al. {info.paper.year}](https://arxiv.org/abs/{info.paper.arxiv})"
    networks = "<br>".join(f"{network} {count:,}" for network, count in info.networks.items())
    trained = [recipe for recipe in info.recipes if recipe in weights.manifest()]
    recipes = "<br>".join(describe(recipe) for recipe in trained)
    pictures = "<br>".join(
        f'<img src="docs/samples/{recipe}.png" width="220" alt="{recipe}">' for recipe in trained
    )
    return f"| `{name}` | {info.task} | {paper} | {networks} | {recipes} | {pictures} |"


def describe(recipe: str) -> str:
    record = json.loads((weights.PRETRAINED_DIR / weights.manifest()[recipe]["record"]).read_text())
    metrics = ", ".join(f"{key} {value:g}" for key, value in record["metrics"].items())
    return f"`{recipe}`: {record['seconds'] / 60:.0f} min on {record['machine']['cores']} cores; {metrics}"


if __name__ == "__main__":
    main()
