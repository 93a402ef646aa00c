"""Draws captions by the published weights, the words beneath: writes docs/captions.png.

    python scripts/make_captions.py
    python scripts/make_captions.py --recipes gan_cls.emoji --captions "red heart" "blue car" --seed 1

Without --captions all recipes draw the sample captions of the first, rows of eight.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import tf_gan_zoo as zoo
from tf_gan_zoo import present
from tf_gan_zoo.paths import expand

DOCS = Path(__file__).resolve().parent.parent / "docs"
RECIPES = ("gan_cls.emoji", "stackgan.emoji")
COLUMNS, SIDE, LINE = 8, 96, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), help="published caption models")
    parser.add_argument("--captions", nargs="+", help="what to draw")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=expand, default=DOCS / "captions.png")
    arguments = parser.parse_args()
    models = [zoo.get(recipe, weights="pretrained") for recipe in arguments.recipes]
    captions = arguments.captions or list(models[0].config.sample_captions)
    rows = []
    for model in models:
        pictures = present.to_uint8(model.generate(seed=arguments.seed, captions=captions))
        for first in range(0, len(captions), COLUMNS):
            part = slice(first, first + COLUMNS)
            rows.append(labelled_row(pictures[part], captions[part]))
    present.save_image(np.concatenate(rows), arguments.out)
    print(arguments.out)


def labelled_row(pictures: np.ndarray, captions: Sequence[str]) -> np.ndarray:
    """Enlarged pictures with their captions beneath: uint8 (height, width, 3)."""
    sheet = Image.new("RGB", (SIDE * COLUMNS, SIDE + LINE), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for column, (picture, caption) in enumerate(zip(pictures, captions)):
        large = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        sheet.paste(large, (column * SIDE, 0))
        pen.text((column * SIDE + SIDE // 2, SIDE + LINE // 2), caption, "black", font, anchor="mm")
    return np.asarray(sheet)


if __name__ == "__main__":
    main()
