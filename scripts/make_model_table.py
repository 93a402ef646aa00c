"""Writes the README's tables between their markers: `python scripts/make_model_table.py [--check]`.

The table of models comes from the registry and the published records, that of exports from docs/exports.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import tf_gan_zoo as zoo
from tf_gan_zoo import weights

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
EXPORTS = ROOT / "docs" / "exports.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only tell whether the tables are up to date")
    arguments = parser.parse_args()
    text = README.read_text(encoding="utf-8")
    updated = between_markers(between_markers(text, "models", table()), "exports", exports_table())
    if arguments.check and updated != text:
        sys.exit("README.md: the tables are out of date; run scripts/make_model_table.py.")
    README.write_text(updated, encoding="utf-8")


def between_markers(text: str, name: str, content: str) -> str:
    begin, end = f"<!-- {name}: begin (scripts/make_model_table.py) -->", f"<!-- {name}: end -->"
    before, rest = text.split(begin)
    return f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}"


def exports_table() -> str:
    record = json.loads(EXPORTS.read_text(encoding="utf-8"))
    rows = ["| recipe | weights | size | PSNR to Keras | one call, 1 thread | 2 threads |", "|---" * 6 + "|"]
    for row in record["exports"]:
        times = (f"{row['latency_ms'][threads]:.2f} ms" for threads in ("1", "2"))
        psnr = f"{row['psnr']:.1f} dB" + " (below the limit)" * (not row["passed"])
        cells = [f"`{row['recipe']}`", row["quantize"], f"{row['size'] / 1e6:.2f} MB", psnr, *times]
        rows.append("| " + " | ".join(cells) + " |")
    machine = record["machine"]
    return "\n".join([*rows, "", f"Times on {machine['cpu']}, {machine['cores']} cores."])


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
