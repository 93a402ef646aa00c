"""Exports trained recipes in every quantisation and records what comes out.

`python scripts/measure_exports.py`, run where the recipes' data are found, writes docs/exports.json, from
which make_model_table.py makes the README's table. Files have a batch of one and the size of training
pictures; differences to Keras are measured on test pictures (generators: on seeded latents).
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import tf_gan_zoo as zoo
from tf_gan_zoo import train

RECIPES = ["dcgan.fashion_mnist", "pix2pix.emoji", "cyclegan.glyphs", "srgan.emoji"]
RECORD = Path(__file__).resolve().parent.parent / "docs" / "exports.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*", default=RECIPES)
    arguments = parser.parse_args()
    rows = [row for recipe in arguments.recipes for row in measure(recipe)]
    record = {"machine": train.machine(), "versions": train.versions(), "exports": rows}
    RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def measure(recipe: str) -> list[dict]:
    """One row per quantisation: size in bytes, PSNR in dB, milliseconds by threads."""
    model = zoo.get(recipe, weights="pretrained")
    examples = train.example_batches(model, None, required=True)
    rows = []
    for quantize in (None, "float16", "dynamic", "int8"):
        with tempfile.TemporaryDirectory() as folder:
            report = model.export(
                Path(folder) / "model.tflite", "litert", quantize=quantize, representative=examples,
                batch_size=1, image_size=input_size(model), strict=False, verbose=True,
            )  # fmt: skip
        ((signature, facts),) = report["signatures"].items()
        (output,) = facts["outputs"].values()
        rows.append({
            "recipe": recipe,
            "signature": signature,
            "quantize": quantize or "float32",
            "size": report["size"],
            **{key: output[key] for key in ("max_difference", "psnr")},
            "passed": report["passed"],
            "latency_ms": facts["latency_ms"],
            "examples": report["examples"],
        })
    return rows


def input_size(model: zoo.GAN) -> tuple[int, int] | None:
    """(height, width) of the pictures that the public network was trained with, if it takes pictures."""
    endpoint = next(iter(model.endpoints.values()))
    names = [name for name in endpoint.input_names if name in endpoint.pictures]
    return model.batch_spec[endpoint.fields.get(names[0], names[0])].shape[:2] if names else None


if __name__ == "__main__":
    main()
