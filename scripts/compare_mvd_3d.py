"""What do twenty views, a few or one tell of a shape? Writes docs/results/mvd_3d.variants.json.

    python scripts/compare_mvd_3d.py --runs runs
    python scripts/compare_mvd_3d.py --runs runs --steps 1000 --seed 1

AllVPNet, DropoutNet and SingleVPNet get the recipe's settings, data and seed, and the same number of training
steps; held-out shapes are reconstructed from all views, from three and from one. A run that was killed goes
on where it was.
"""

from __future__ import annotations

from variants import compare

from tf_gan_zoo.models.mvd_3d import KL_WEIGHTS


def schedule(steps: int) -> dict[str, int]:
    return {"epochs": 10, "warm_up_epochs": 1, "steps_per_epoch": max(steps // 10, 1)}


if __name__ == "__main__":
    compare(__doc__, "mvd_3d.solids", KL_WEIGHTS, schedule)
