"""Writes docs/gallery/index.html from the published records: `python scripts/make_gallery.py [--check]`.

One page, no network, no script: a card per published recipe with samples, latent pictures, training curves,
numbers with their protocol, and the commands that make them again. Everything comes from docs/results
(records and histories), docs/samples, docs/latents, the package's records and its registry.
"""

from __future__ import annotations

import argparse
import html
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import results

import tf_gan_zoo as zoo
from tf_gan_zoo import published, registry
from tf_gan_zoo.image_files import image_size

DOCS = results.ROOT / "docs"
PAGE = DOCS / "gallery" / "index.html"
STYLE = Path(__file__).with_name("gallery.css")
#: Recipe -> its pictures in docs besides its samples.
PICTURES = {
    "dcgan.fashion_mnist": ["latents/*_fashion.*"],
    "dcgan.glyphs": ["walk.gif", "latents/*_glyphs.*"],
    "infogan.fashion_mnist": ["latents/*_infogan.*"],
    "midinet.melodies": ["melody.*"],
    "mvd_3d.solids": ["shapes.gif"],
}
#: What these show, by their names without the last word.
CAPTIONS = {
    "melody": "a melody over chords; listen to it: ",
    "shapes": "reconstructed shapes, turned",
    "walk": "a closed walk through latent space",
    "interpolate": "each row: from one latent vector to another",
    "arithmetic": "arithmetic with mean latents: A − B + C",
    "neighbours": "samples and the training pictures nearest to them, with distances",
    "sweep_classes": "each row: one category, different noise",
    "sweep_code": "each row: one category, a continuous code from low to high",
    "italic": "letters, from top to bottom moved towards italics",
}
#: Pictures are enlarged by a whole number as far as they fit.
PICTURE_WIDTH = 300
_CURVE = {"width": 220, "height": 84, "left": 4, "right": 216, "top": 16, "bottom": 70}


class Markup(str):
    """Text that is HTML already; any other text is escaped where it enters an element."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only tell whether the page is up to date")
    arguments = parser.parse_args()
    text = page()
    if arguments.check:
        current = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
        sys.exit(0 if current == text else "docs/gallery is out of date: run scripts/make_gallery.py.")
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(text, encoding="utf-8")


def tag(name: str, /, *children: str | Iterable[str], **attributes: Any) -> Markup:
    """An element, its text and attributes escaped; the attribute `class_` is written as "class"."""
    pairs = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    opened = "".join(f' {key}="{html.escape(str(value))}"' for key, value in pairs)
    if name in ("img", "meta", "line", "circle", "polyline"):
        return Markup(f"<{name}{opened}>" if name in ("img", "meta") else f"<{name}{opened}/>")
    return Markup(f"<{name}{opened}>{join(*children)}</{name}>")


def join(*children: str | Iterable[str]) -> Markup:
    """Texts and elements one after the other, texts escaped."""
    flat = (item for child in children for item in ([child] if isinstance(child, str) else child))
    return Markup("".join(item if isinstance(item, Markup) else html.escape(item) for item in flat))


def link(text: str, path: Path | str) -> Markup:
    """A link to a file of the repository, relative to the page, or to an address."""
    return tag("a", text, href=relative(path) if isinstance(path, Path) else path)


def relative(path: Path) -> str:
    """From the page's folder."""
    return Path(*[".."] * 2, path.relative_to(results.ROOT)).as_posix() if path != PAGE else PAGE.name


def page() -> str:
    """The whole page."""
    zoo.list_models()  # registers them
    recipes = published.manifest()
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", "tf_gan_zoo: results"),
        tag("style", Markup("\n" + STYLE.read_text(encoding="utf-8"))),
    )
    cards = (card(name, entry) for name, entry in recipes.items())
    body = tag("body", introduction(recipes), "\n", tag("main", cards), "\n", footer())
    return f"<!DOCTYPE html>\n{tag('html', head, chr(10), body, lang='en')}\n"


def introduction(recipes: Iterable[str]) -> Markup:
    links = (tag("a", tag("b", name), tag("span", headline(name)), href=f"#{name}") for name in recipes)
    return tag(
        "header",
        tag("h1", "tf_gan_zoo: results"),
        tag(
            "p",
            "Every recipe with published weights: what it draws, how it was trained, and its numbers on "
            "held-out data, each task under one protocol. The page is generated from the records in ",
            link("docs/results", results.RESULTS),
            ".",
        ),
        tag("nav", links),
    )


def headline(name: str) -> str:
    """The recipe's first number."""
    record = results.load(name)
    if record is None:
        return "not evaluated yet"
    first = next(row for row in results.rows(record) if row.shown.brief)
    return f"{first.shown.label} {first.value}"


def footer() -> Markup:
    return tag(
        "footer",
        tag(
            "p",
            "↓ lower is better, ↑ higher is better, ≈ best where real pictures are. FID, KID, precision, "
            "recall and Inception Score depend on the feature extractor: those of the packaged classifiers "
            "compare recipes of the same data with one another, not with numbers in papers. They are strict: "
            "classifiers trained on clean pictures place a malformed letter far from every real one. Recall "
            "forgives more than precision, since scattered samples have wide neighbourhoods.",
        ),
        tag("p", "Written by scripts/make_gallery.py; loads nothing from the network."),
    )


# -------------------------------------------------------------------- one recipe


def card(name: str, entry: dict[str, Any]) -> Markup:
    training = json.loads((published.PRETRAINED_DIR / entry["record"]).read_text(encoding="utf-8"))
    spec = registry.get_spec(name.partition(".")[0])
    facts = [tag("h2", name), source_line(spec), tag("p", description(name), class_="what")]
    samples = figure(DOCS / "samples" / f"{name}.png", "samples at the end of training")
    moving = [captioned(path) for path in more_pictures(name) if path.suffix == ".gif"]
    still = [captioned(path) for path in more_pictures(name) if path.suffix == ".png"]
    columns = [
        tag("div", samples, moving, class_="pictures"),
        tag("div", numbers(name), curves(name), reproduce(name, entry, training), class_="facts"),
    ]
    below = [tag("div", still, class_="wide pictures")] if still else []
    return Markup("\n" + tag("article", facts, tag("div", columns, class_="columns"), below, id=name))


def source_line(spec: registry.ModelSpec) -> Markup:
    paper = spec.paper
    text = f"{paper.authors}: {paper.title} ({paper.year})"
    source = link(text, paper.link) if paper.link else text
    code = results.ROOT / "tf_gan_zoo" / "models" / f"{spec.name}.py"
    task = spec.tasks[0].replace("_", " ")
    return tag("p", task, " · ", source, " · ", link("code", code), class_="source")


def description(name: str) -> str:
    """The comment on top of the recipe, without what training added."""
    lines = (zoo.zoo.RECIPE_DIR / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    comments = [line.lstrip("# ") for line in lines if line.startswith("#")]
    return " ".join(comments[: comments.index("Trained:") if "Trained:" in comments else None])


def more_pictures(name: str) -> list[Path]:
    """What docs hold of a recipe besides its samples."""
    return [path for pattern in PICTURES.get(name, ()) for path in sorted(DOCS.glob(pattern))]


def captioned(path: Path) -> Markup:
    """A picture with its caption, and with a link to the sound of the same name."""
    what = path.stem.rpartition("_")[0] or path.stem
    sound = path.with_suffix(".mid")
    heard = link(sound.name, sound) if sound.is_file() else ""
    return figure(path, CAPTIONS.get(what, what.replace("_", " ")), heard)


def figure(path: Path, caption: str, more: str = "") -> Markup:
    height, width = image_size(path)
    factor = max(1, PICTURE_WIDTH // width)
    shown = {"width": width * factor, "height": height * factor}
    picture = tag("img", src=relative(path), alt=caption, **shown)
    return tag("figure", picture, tag("figcaption", caption, more))


def numbers(name: str) -> Iterator[Markup]:
    """The table of metrics and the protocol behind it."""
    record = results.load(name)
    if record is None:
        yield tag("p", f"Not evaluated yet: {results.command([name])}")
        return
    yield metrics_table(record)
    if behind := results.behind(record):
        yield tag("p", f"Not better than what it is compared with: {'; '.join(behind)}.", class_="note")
    notes = [results.protocol_line(record)]
    if record["floor"]:
        notes.append(f"Floor: {record['floor']['of']}.")
    yield tag("p", " ".join(notes), class_="note")
    full = json.dumps(record["protocol"], indent=2, ensure_ascii=False)
    yield tag("details", tag("summary", "whole protocol"), tag("pre", full))


def metrics_table(record: dict[str, Any]) -> Markup:
    """One row per metric; columns that are empty throughout vanish."""
    rows = results.rows(record)
    heads = {
        "value": "these weights",
        "untrained": "untrained",
        "baseline": results.BASELINES.get(record["task"], "baseline"),
        "floor": "floor",
    }
    used = [key for key in heads if any(getattr(row, key) for row in rows)]
    head = tag("tr", tag("th", "metric", scope="col"), (tag("th", heads[key], scope="col") for key in used))
    lines = (
        tag(
            "tr",
            tag("th", row.shown.label, " ", tag("i", row.shown.better), scope="row"),
            (tag("td", getattr(row, key)) for key in used),
        )
        for row in rows
    )
    return tag("div", tag("table", tag("thead", head), tag("tbody", lines)), class_="scroll")


def reproduce(name: str, entry: dict[str, Any], training: dict[str, Any]) -> Iterator[Markup]:
    machine = training["machine"]
    device = ", ".join(machine["gpus"]) or f"{machine['cores']} cores of {machine['cpu']}"
    commands = [training["command"], f"tf-gan-zoo sample {name} --count 64", results.command([name])]
    if registry.get_spec(name.partition(".")[0]).tasks[0] != "generation":
        del commands[1]
    yield tag("h3", "Reproduce")
    yield tag("pre", "\n".join(commands), class_="commands")
    yield tag(
        "p",
        f"Trained in {training['seconds'] / 60:.0f} minutes ({training['steps']:,} steps) on {device}. ",
        link("Recipe", zoo.zoo.RECIPE_DIR / f"{name}.yaml"),
        ", ",
        link("training record", published.PRETRAINED_DIR / entry["record"]),
        *([", ", link("evaluation record", results.path_of(name))] if results.load(name) else []),
        f". {predates(training)}Weights: {entry['size'] / 1e6:.1f} MB, {entry['licence']}. ",
        f"Data: {entry['data_licence']}.",
        class_="note",
    )


def predates(training: dict[str, Any]) -> str:
    """What has changed in the model since, or nothing; see `publish_weights.py --predates`."""
    reason = training.get("predates")
    return f"These weights predate a change of the model: {reason.rstrip('.')}. " if reason else ""


# -------------------------------------------------------------------- curves


def curves(name: str) -> Iterator[Markup]:
    """One small chart per logged number, each with a scale of its own."""
    path = results.history_of(name)
    if not path.is_file():
        return
    history = json.loads(path.read_text(encoding="utf-8"))
    steps = history.pop("step")
    yield tag("h3", "Training")
    yield tag("div", (curve(key, steps, values) for key, values in history.items()), class_="curves")
    yield tag("p", f"Means over epochs, from step {steps[0]:,} to {steps[-1]:,}.", class_="note")


def curve(name: str, steps: list[int], values: list[float | None]) -> Markup:
    """A line through the finite values, with the lowest, the highest and the last one in numbers."""
    points = [(step, value) for step, value in zip(steps, values) if value is not None]
    if not points:
        return tag("figure", tag("figcaption", tag("code", name), " no finite value"))
    box, last = _CURVE, points[-1][1]
    low, high = min(value for _, value in points), max(value for _, value in points)
    placed = [(_x(step, steps), _y(value, low, high)) for step, value in points]
    drawing = [
        _rule(box["top"]), _rule(box["bottom"]),
        tag("text", results.number(high), x=box["left"], y=box["top"] - 4),
        tag("text", results.number(low), x=box["left"], y=box["bottom"] + 12),
        tag("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in placed)),
        tag("circle", cx=f"{placed[-1][0]:.1f}", cy=f"{placed[-1][1]:.1f}", r=3),
    ]  # fmt: skip
    label = f"{name} from {results.number(points[0][1])} to {results.number(last)}"
    size = f"0 0 {box['width']} {box['height']}"
    drawn = tag("svg", drawing, viewBox=size, role="img", aria_label=label)
    return tag("figure", tag("figcaption", tag("code", name), " ", tag("b", results.number(last))), drawn)


def _rule(y: float) -> Markup:
    return tag("line", x1=_CURVE["left"], x2=_CURVE["right"], y1=y, y2=y)


def _x(step: int, steps: list[int]) -> float:
    part = (step - steps[0]) / max(steps[-1] - steps[0], 1)
    return _CURVE["left"] + part * (_CURVE["right"] - _CURVE["left"])


def _y(value: float, low: float, high: float) -> float:
    part = (value - low) / (high - low) if high > low else 0.5
    return _CURVE["bottom"] - part * (_CURVE["bottom"] - _CURVE["top"])


if __name__ == "__main__":
    main()
