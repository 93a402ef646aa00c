"""Trains the recipe dcgan.glyphs, then writes a grid, a latent walk and two exports; see quickstart.sh."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import tf_gan_zoo as zoo
from tf_gan_zoo import latents, present
from tf_gan_zoo.paths import expand

RECIPE = "dcgan.glyphs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=expand, default=Path("quickstart"), help="folder for the results")
    parser.add_argument("--set", action="append", default=[], help="recipe field, e.g. epochs=2")
    arguments = parser.parse_args()

    train(arguments.out / "run", arguments.set)
    model = load(arguments.out / "run")
    grid, walk = arguments.out / "letters.png", arguments.out / "walk.gif"
    present.save_image(present.enlarged(present.image_grid(model.generate(64, seed=0)), 2), grid)
    present.save_gif(present.enlarged(latents.latent_walk(model), 2), walk)
    saved_model, tflite = export(model, arguments.out)

    print("\nTrained, drawn and exported:")
    for what, where in [
        ("sample grid", grid), ("latent walk", walk), ("run folder", arguments.out / "run"),
        ("SavedModel", saved_model), ("TFLite", tflite),
    ]:  # fmt: skip
        print(f"  {what:<12} {where}")


def train(run: Path, settings: list[str]) -> None:
    """Trains in a process of its own, as a user would from the shell; a stopped run goes on."""
    command = [sys.executable, "-m", "tf_gan_zoo", "train", RECIPE, "--out", str(run)]
    command += [word for setting in settings for word in ("--set", setting)]
    command += ["--resume"] if (run / "config.yaml").is_file() else []
    print("$ tf-gan-zoo", *command[3:], flush=True)
    code = subprocess.run(command, check=False).returncode
    if code:
        sys.exit(code)


def load(run: Path) -> zoo.GAN:
    """The model that the run trained."""
    from tf_gan_zoo.train import load_model

    return load_model(str(run))


def export(model: zoo.GAN, out: Path) -> tuple[Path, Path]:
    """Writes the generator in both formats; each file is run and compared with Keras."""
    saved_model, tflite = out / "saved_model", out / "generator.tflite"
    model.export(saved_model, verbose=True)
    model.export(tflite, format="litert", verbose=True)
    return saved_model, tflite


if __name__ == "__main__":
    main()
