"""Compares what super-resolution is trained to minimise: pixels, features, textures, a discriminator's doubt.

    python scripts/compare_super_resolution.py                   # all variants; what has a record stays
    python scripts/compare_super_resolution.py --only srgan_vgg54 enet_pat --steps 300
    python scripts/compare_super_resolution.py --report          # only table and pictures, from the records

The variants of SRGAN start from the SRResNet that the recipe srgan.emoji trains first, those of EnhanceNet
from the ENet-E of enhancenet.emoji: the run folders of both recipes must lie in --runs. Each gets the same
number of further steps. Both papers report that the squared error gives the best PSNR, and features with a
discriminator (SRGAN-VGG54, ENet-PAT) the pictures that look best; the page says whether that came out here.

A run leaves its run folder in --runs, and its record and pictures in docs/super_resolution, of which
docs/super_resolution.md and docs/super_resolution.png are made.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

import tf_gan_zoo as zoo
from tf_gan_zoo import files, metrics, present, train, upscaling
from tf_gan_zoo.image_files import load_image
from tf_gan_zoo.networks.vgg import VGG19Features, describe_weights
from tf_gan_zoo.paths import expand

DOCS = Path(__file__).resolve().parent.parent / "docs"
#: Layers of the distance in the features that some of the variants are trained on.
SEEN_LAYERS = ("relu1_2", "relu2_2", "relu3_4", "relu4_4", "relu5_4")
#: Held-out pictures that are shown, by their place in the test split.
SHOWN = (3, 8, 13, 21, 34, 40, 55, 61)
COLUMNS = {
    "psnr": "PSNR ↑",
    "ssim": "SSIM ↑",
    "psnr_y": "PSNR, Y ↑",
    "ssim_y": "SSIM, Y ↑",
    "perceptual_distance": "perceptual distance ↓",
    "seen_distance": "distance in the losses' features ↓",
    "rms_gradient": "RMS gradient / the truth's ≈ 1",
}


@dataclass(frozen=True)
class Variant:
    """One row of the comparison.

    Attributes:
        label: its name in the papers.
        recipe: the run that it starts from.
        overrides: of the recipe's config; None if nothing is trained.
        weights: where to start, in the recipe's run folder: what its first phase has left, or its end.
    """

    label: str
    recipe: str
    overrides: Mapping[str, Any] | None = field(default_factory=dict)
    weights: str = ""

    def start(self, runs: Path) -> Path:
        first = {"srgan.emoji": "srresnet", "enhancenet.emoji": "enet_e"}[self.recipe]
        return runs / self.recipe / (self.weights or f"checkpoints/{first}.weights.h5")

    def further_steps(self, steps: int) -> int:
        """Steps after the first phase, if each variant that is trained here gets `steps`."""
        config = zoo.zoo.resolve(self.recipe)[1]
        own = config.total_steps - config.pretrain_steps if self.weights else 0
        return own if self.overrides is None else steps


def srgan(label: str, **overrides: Any) -> Variant:
    return Variant(label, "srgan.emoji", {"feature_weights": "emoji", **overrides})


def enhancenet(losses: str) -> Variant:
    return Variant(f"ENet-{losses}", "enhancenet.emoji", {"losses": losses})


# The factors on features make their squared differences as large as those of pixels: these features are not
# those that the paper's 1/12.75 is for.
VARIANTS = {
    "srresnet": Variant("SRResNet", "srgan.emoji", None),
    "srresnet_further": srgan("SRResNet, further", content_loss="mse", adversarial_weight=0.0),
    "srgan_mse": srgan("SRGAN-MSE", content_loss="mse"),
    "srresnet_vgg22": srgan(
        "SRResNet-VGG22", content_loss="vgg22", content_scale=0.5, adversarial_weight=0.0
    ),
    "srgan_vgg22": srgan("SRGAN-VGG22", content_loss="vgg22", content_scale=0.5),
    "srgan_vgg54": srgan("SRGAN-VGG54", content_loss="vgg54", content_scale=1.0),
    "srgan_published": Variant("SRGAN-MSE, published", "srgan.emoji", None, "model.weights.h5"),
    "enet_e": Variant("ENet-E", "enhancenet.emoji", None),
    "enet_e_further": Variant("ENet-E, further", "enhancenet.emoji", {"losses": "E"}),
    **{f"enet_{losses.lower()}": enhancenet(losses) for losses in ("P", "EA", "PA", "EAT", "PAT")},
    "enet_published": Variant("ENet-PAT, published", "enhancenet.emoji", None, "model.weights.h5"),
}


# -------------------------------------------------------------------- runs and records


def run(key: str, steps: int, runs: Path, records: Path) -> None:
    """Trains and measures one variant, or goes on where it was stopped, and writes record and pictures."""
    variant, path = VARIANTS[key], records / f"{key}.json"
    if path.is_file():
        show(f"{path.name} is there")
        return
    start = variant.start(runs)
    if not start.is_file():
        first = f"tf-gan-zoo train {variant.recipe} --out {runs / variant.recipe}"
        raise SystemExit(f"{start} is missing. Train its recipe first: {first}")
    if variant.overrides is None:
        model = zoo.get(variant.recipe, weights=start)
    else:
        folder = runs / "super_resolution" / key
        settings = {**variant.overrides, "pretrain_steps": 0, "steps_per_epoch": steps // 2, "epochs": 2}
        train.train(variant.recipe, settings=settings, weights=start, out=folder, resume=True, verbose=2)
        model = train.load_model(folder)
    examples = held_out(model)
    images = model.upscale(examples["low_resolution"])
    records.mkdir(parents=True, exist_ok=True)
    present.save_image(present.image_grid(images[list(SHOWN)], columns=len(SHOWN)), records / f"{key}.png")
    record = make_record(key, steps, measured(images, examples["high_resolution"]))
    write(path, record)
    write_references(examples, records)


def held_out(model: zoo.GAN) -> dict[str, np.ndarray]:
    """All pictures of the test split, in both sizes."""
    options = {"batch_size": 1000, "shuffle": False, "drop_remainder": False}
    batch = next(iter(train.open_pipeline(model, "test", **options).dataset(start_step=0)))
    return {name: np.asarray(value) for name, value in batch.items()}


def measured(images: np.ndarray, references: np.ndarray) -> dict[str, float]:
    """The models' own scores, and the distance in the features of the losses."""
    numbers = upscaling.scores(images, references, border=4)
    seen = metrics.perceptual_distance(images, references, VGG19Features(SEEN_LAYERS, "emoji")).mean()
    return {name: round(float(value), 4) for name, value in {**numbers, "seen_distance": seen}.items()}


def make_record(key: str, steps: int, numbers: Mapping[str, float]) -> dict[str, Any]:
    variant = VARIANTS[key]
    return {
        "variant": key,
        "recipe": variant.recipe,
        "settings": dict(variant.overrides or {}),
        "steps": variant.further_steps(steps),
        "features": describe_weights("emoji"),
        "metrics": dict(numbers),
        "command": f"python scripts/{Path(__file__).name} --only {key} --steps {steps}",
        "machine": train.machine(),
        "versions": train.versions(),
    }


def write_references(examples: Mapping[str, np.ndarray], records: Path) -> None:
    """Record and pictures of bicubic enlargement, and pictures of the truth."""
    low, high = examples["low_resolution"], examples["high_resolution"]
    bicubic = np.clip(tf.image.resize(low, high.shape[1:3], "bicubic").numpy() * 2.0 - 1.0, -1.0, 1.0)
    numbers = {"variant": "bicubic", "steps": 0, "examples": len(high), "metrics": measured(bicubic, high)}
    write(records / "bicubic.json", numbers)
    for name, images in {"bicubic": bicubic, "truth": high}.items():
        sheet = present.image_grid(images[list(SHOWN)], columns=len(SHOWN))
        present.save_image(sheet, records / f"{name}.png")


def write(path: Path, record: Mapping[str, Any]) -> None:
    text = json.dumps(record, indent=2) + "\n"
    files.write_text(path, text)


# -------------------------------------------------------------------- page


def report(records: Path, docs: Path) -> None:
    """Writes super_resolution.md and super_resolution.png from what lies in `records`."""
    paths = sorted(records.glob("*.json"))
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    keys = [key for key in ("bicubic", *VARIANTS) if key in found]
    if len(keys) < 2:
        raise SystemExit(f"{records} has no records. Run this script without --report first.")
    (docs / "super_resolution.md").write_text(markdown({key: found[key] for key in keys}), encoding="utf-8")
    draw([*keys, "truth"], records, docs / "super_resolution.png")
    show(f"{docs / 'super_resolution.md'} and super_resolution.png, of {len(keys)} records")


def markdown(found: Mapping[str, Mapping[str, Any]]) -> str:
    steps = sorted({r["steps"] for key, r in found.items() if r["steps"] and VARIANTS[key].overrides})
    machine = next(record for record in found.values() if "machine" in record)["machine"]
    head = [
        "# One start, many losses: super-resolution", "",
        f"Emoji from 16x16 to 64x64, {found['bicubic']['examples']} pictures of the test split. All variants "
        "of a model start from the same network, trained on the squared error (the recipes `srgan.emoji` and "
        f"`enhancenet.emoji`), and get {' or '.join(map(str, steps))} further steps, those of the published "
        "recipes more; SRResNet and ENet-E are shown without them as well. "
        f"One run each, on {machine['cpu']}, {machine['cores']} cores. So short a training ranks "
        "losses by their first effect; small differences mean nothing.", "",
        "Perceptual losses compare features of the zoo's own narrow VGG19, trained on emoji, not ImageNet's. "
        "The perceptual distance takes features that no loss has seen (the packaged classifier of letters, "
        "on each colour); the distance in the losses' features favours what was trained on them. Y is the "
        "brightness, 4 pixels cut off at the borders.", "",
        f"| | {' | '.join(COLUMNS.values())} | further steps |",
        f"|---|{'---|' * len(COLUMNS)}---|",
    ]  # fmt: skip
    rows = [row(key, record) for key, record in found.items()]
    missing = [variant.label for key, variant in VARIANTS.items() if key not in found]
    left_out = [f"* Not trained for this page: {', '.join(missing)}."] if missing else []
    tail = ["", *verdicts(found), *left_out, "",
            "![The same emoji by every variant](super_resolution.png)", "",
            "Made by `scripts/compare_super_resolution.py --report` from the records in `super_resolution/`; "
            "without `--report` it first trains what has no record.", ""]  # fmt: skip
    return "\n".join([*head, *rows, *tail])


def row(key: str, record: Mapping[str, Any]) -> str:
    digits = {name: 2 if name.startswith("psnr") else 3 for name in COLUMNS}
    numbers = [f"{record['metrics'][name]:.{count}f}" for name, count in digits.items()]
    return f"| {label(key)} | {' | '.join(numbers)} | {record['steps'] or ''} |"


def label(key: str) -> str:
    return VARIANTS[key].label if key in VARIANTS else key


def verdicts(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Which variant of each model is best by which number, and what the papers say."""
    expected = {"srgan.emoji": ("SRResNet", "SRGAN-VGG54"), "enhancenet.emoji": ("ENet-E", "ENet-PAT")}
    lines = []
    for recipe, names in expected.items():
        keys = [key for key in found if key in VARIANTS and VARIANTS[key].recipe == recipe]
        own = {key: VARIANTS[key].label.partition(",")[0] for key in keys}
        # Published weights have had more steps: they only count where nothing else shows a variant.
        own = {k: n for k, n in own.items() if not VARIANTS[k].weights or list(own.values()).count(n) == 1}
        if not set(names) <= set(own.values()):
            continue
        sharpest = max(own, key=lambda key: found[key]["metrics"]["psnr"])
        nearest = min(own, key=lambda key: found[key]["metrics"]["perceptual_distance"])
        for number, best, name in (("PSNR", sharpest, names[0]), ("perceptual distance", nearest, names[1])):
            outcome = "as in the paper" if own[best] == name else f"in the paper it is {name}: not so here"
            lines.append(f"* `{recipe}`: best {number}: {own[best]}, {outcome}.")
    return lines


def draw(keys: Sequence[str], records: Path, path: Path) -> None:
    """One row of enlarged pictures per variant, its name before it."""
    from PIL import Image, ImageDraw, ImageFont

    rows = [(label(key), load_image(records / f"{key}.png").convert("RGB")) for key in keys]
    margin, (width, height) = 170, (2 * side for side in rows[0][1].size)
    sheet = Image.new("RGB", (margin + width, height * len(rows)), "white")
    for index, (name, pictures) in enumerate(rows):
        sheet.paste(pictures.resize((width, height), Image.Resampling.NEAREST), (margin, index * height))
        place = (6, index * height + height // 2 - 8)
        ImageDraw.Draw(sheet).text(place, name, fill="black", font=ImageFont.load_default(14))
    sheet.save(path, optimize=True)


# -------------------------------------------------------------------- program


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    records = options.out / "super_resolution"
    if not options.report:
        for key in options.only or VARIANTS:
            show(VARIANTS[key].label)
            run(key, options.steps, options.runs, records)
    report(records, options.out)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), metavar="NAME", help=", ".join(VARIANTS))
    parser.add_argument("--steps", type=int, default=300, help="further steps of each variant")
    parser.add_argument("--runs", type=expand, default=Path("runs"), help="folder of run folders")
    parser.add_argument("--out", type=expand, default=DOCS, help="folder of records, table and pictures")
    parser.add_argument("--report", action="store_true", help="only make table and pictures")
    return parser.parse_args(arguments)


def show(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
