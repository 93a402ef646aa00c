"""Writes a melody of the shipped weights for the documentation: docs/melody.mid and docs/melody.png.

    python scripts/make_melody.py [--seed 3] [--chords C G Am F C G F C] [--out docs]

The file plays melody and chords; the picture is its piano roll with the chords above.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import tf_gan_zoo as zoo
from tf_gan_zoo import music, present
from tf_gan_zoo.paths import expand

DOCS = Path(__file__).resolve().parent.parent / "docs"
CHORDS = ("C", "G", "Am", "F", "C", "G", "F", "C")
_HEADER = 16  # pixels for the names of chords


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipe", default="midinet.melodies", help="a published recipe of midinet")
    parser.add_argument("--chords", nargs="+", default=list(CHORDS), help="one per bar")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=expand, default=DOCS)
    arguments = parser.parse_args()
    model = zoo.get(arguments.recipe, weights="pretrained")
    bars = model.generate(len(arguments.chords), seed=arguments.seed, chords=arguments.chords)
    music.write_midi(bars, arguments.out / "melody.mid", chords=arguments.chords)
    present.save_image(picture(bars, arguments.chords), arguments.out / "melody.png")
    numbers = [music.parse_chord(chord) for chord in arguments.chords]
    rate = music.chord_tone_rate(music.pitches_of(bars), numbers)
    print(f"{len(bars)} bars, {rate:.0%} of the notes belong to their chord: {arguments.out / 'melody.mid'}")


def picture(bars: np.ndarray, chords: list[str]) -> np.ndarray:
    """The piano roll, its chords' names above: uint8 (height, width, 3)."""
    roll = Image.fromarray(present.to_uint8(music.piano_roll(bars))[..., 0]).convert("RGB")
    sheet = Image.new("RGB", (roll.width, roll.height + _HEADER), (255, 255, 255))
    sheet.paste(roll, (0, _HEADER))
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=11)
    for bar, chord in enumerate(chords):
        pen.text((bar * roll.width // len(chords) + 3, 1), chord, (0, 0, 0), font)
    return np.asarray(sheet)


if __name__ == "__main__":
    main()
