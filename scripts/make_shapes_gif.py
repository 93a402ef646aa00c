"""Turns reconstructed shapes around: writes docs/shapes.gif.

    python scripts/make_shapes_gif.py
    python scripts/make_shapes_gif.py --recipe mvd_3d.solids --shapes 7 --out docs/shapes.gif

Each column is a held-out shape: above, the one view that the network sees; in the middle, the surface carved
from the twenty views that it makes of that one; below, the same of the true views.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import tf_gan_zoo as zoo
from tf_gan_zoo import present, shapes, train
from tf_gan_zoo.paths import expand

DOCS = Path(__file__).resolve().parent.parent / "docs"
SIZE, NUM_FRAMES, GRAY = 96, 24, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--recipe", default="mvd_3d.solids", help="a recipe or a run folder")
    parser.add_argument("--shapes", type=int, default=7)
    parser.add_argument("--view", type=int, default=0, help="the camera that the network looks from")
    parser.add_argument("--out", type=expand, default=DOCS / "shapes.gif")
    arguments = parser.parse_args()
    model = train.load_model(arguments.recipe)
    depth = held_out(model, arguments.shapes)
    made = model.reconstruct(depth, views=[arguments.view]).cut
    seen = np.concatenate([enlarged(maps[..., arguments.view]) for maps in depth], axis=1)
    turning = [[turned(shapes.mesh(maps)) for maps in side] for side in (made, depth)]
    rows = [np.concatenate(side, axis=2) for side in turning]
    frames = [np.concatenate([seen, *(row[k] for row in rows)]) for k in range(NUM_FRAMES)]
    present.save_gif(np.repeat(np.stack(frames)[..., None], 3, axis=-1), arguments.out, levels=32)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.2f} MB")


def held_out(model: zoo.GAN, count: int) -> np.ndarray:
    """The first shapes of the recipe's test split."""
    options = {"batch_size": count, "shuffle": False, "drop_remainder": False}
    batch = next(iter(train.open_pipeline(model, "test", **options).dataset(start_step=0)))
    return np.asarray(batch["depth"])


def turned(mesh: shapes.Mesh) -> np.ndarray:
    """A surface from all around: uint8 (frames, height, width)."""
    angles = np.arange(NUM_FRAMES) * 360 / NUM_FRAMES
    return np.stack([shapes.shaded(mesh, angle, 25, SIZE) for angle in angles])


def enlarged(depth: np.ndarray) -> np.ndarray:
    """A depth map as a gray picture, background as in `shapes.shaded`: uint8 (SIZE, SIZE)."""
    rows = (np.arange(SIZE) * len(depth)) // SIZE
    large = depth[rows][:, rows]
    return np.where(large > 0, 255 * large, GRAY).astype(np.uint8)


if __name__ == "__main__":
    main()
