"""Writes the README's tables between their markers: `python scripts/make_model_table.py [--check]`.

The table of models comes from the registry and the records of published weights and of their evaluation in
docs/results, that of exports from docs/exports.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import results

import tf_gan_zoo as zoo
from tf_gan_zoo import registry, weights

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
    rows = ["| model | trained recipe | on held-out data | samples |", "|---|---|---|---|"]
    rows += [row for name in zoo.list_models() for row in model_rows(name)]
    return "\n".join([*rows, "", protocol_note()])


def model_rows(name: str) -> list[str]:
    """One row per published recipe; the first one also says what the model is."""
    info = zoo.info(name)
    authors = info.paper.authors.split(",")[0]
    model = [
        f"`{name}`",
        info.task.replace("_", " "),
        cited(f"{authors} et al. {info.paper.year}", info.paper),
        f"{sum(info.networks.values()) / 1e6:.1f} M weights at paper size",
    ]
    trained = [recipe for recipe in info.recipes if recipe in weights.manifest()]
    cells = [row_of(recipe) for recipe in trained] or [" | | "]
    firsts = ["<br>".join(model), *[""] * len(cells)]
    return [f"| {first} | {rest} |" for first, rest in zip(firsts, cells)]


def cited(text: str, paper: registry.Paper) -> str:
    """With a link, where there is one."""
    return f"[{text}]({paper.link})" if paper.link else text


def row_of(recipe: str) -> str:
    """A recipe's cells."""
    training = json.loads((weights.PRETRAINED_DIR / weights.manifest()[recipe]["record"]).read_text())
    cores = training["machine"]["cores"]
    time = f"{training['seconds'] / 60:.0f} min on {cores} cores"
    picture = f'<img src="docs/samples/{recipe}.png" width="220" alt="{recipe}">'
    return f"`{recipe}`<br>{time} | {numbers(recipe)} | {picture}"


def numbers(recipe: str) -> str:
    """The best-known metrics of a recipe, baselines in brackets."""
    record = results.load(recipe)
    if record is None:
        return f"not evaluated: `{results.command([recipe])}`"
    baseline = results.BASELINES.get(record["task"], "baseline")
    lines = []
    for row in (row for row in results.rows(record) if row.shown.brief):
        features = f" ({record['protocol']['extractor']['name']})" if row.key == "fid" else ""
        beside = f" ({baseline}: {row.baseline})" if row.baseline else ""
        lines.append(f"{row.shown.label}{features} {row.value}{beside}")
    lines += [f"not better: {text}" for text in results.behind(record)]
    return "<br>".join(lines)


def protocol_note() -> str:
    """What the numbers were measured on, and what real pictures would get."""
    floors = {}
    for _, record in results.published_records():
        if record["task"] == "generation" and record["floor"]:
            fid = results.number(record["floor"]["metrics"]["fid"])
            protocol = record["protocol"]
            count = f"{protocol['num_fake']:,} samples against {protocol['num_real']:,} real pictures"
            floors[protocol["extractor"]["name"]] = f"{count}, floor {fid}"
    details = "; ".join(f"`{name}`: {text}" for name, text in floors.items())
    return (
        "Test split, seed 0, by `scripts/evaluate_zoo.py`. FID, precision, recall and Inception Score use "
        f"features of the packaged classifier of the data ({details}; the floor is the FID of real training "
        "pictures), so they compare recipes of the same data, not with papers. All numbers with untrained "
        "networks, curves and protocols: open [docs/gallery/index.html](docs/gallery/index.html) in a "
        "browser, or see [docs/results](docs/results)."
    )


if __name__ == "__main__":
    main()
