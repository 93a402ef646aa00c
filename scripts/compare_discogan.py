"""Which hidden pairs do DiscoGAN and its two comparisons find? Writes docs/results/discogan.variants.json.

    python scripts/compare_discogan.py --runs runs
    python scripts/compare_discogan.py --runs runs --steps 2000 --seed 1

The paper sets DiscoGAN against a GAN without reconstruction and one that reconstructs one domain only. All
three get the recipe's settings, data and seed, and the same number of training steps; the recipe's test split
has the same letter in the same pose at the same index of both domains, which no model has been told. A run
that was killed goes on where it was.
"""

from __future__ import annotations

from variants import compare


def schedule(steps: int) -> dict[str, int]:
    return {"epochs": 1, "steps_per_epoch": steps}


if __name__ == "__main__":
    compare(__doc__, "discogan.glyphs", ("discogan", "recongan", "gan"), schedule)
