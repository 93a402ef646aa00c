"""The view "posed_sets": several pictures of one person in each example.

One slot of an epoch stands for one picture, as everywhere; the others are drawn anew in every epoch from the
same person's pictures, as a function of (seed, epoch, slot).
"""

from typing import Any

import numpy as np

from tf_gan_zoo.data.pipeline import BatchPlan, Domain, Pipeline, cut, draws
from tf_gan_zoo.data.sources import DatasetError


class SetPipeline(Pipeline):
    """Batches of `images` (batch, set_size, height, width, channels), `labels` (batch,) and `poses`
    (batch, set_size).

    Raises:
        DatasetError: If `set_size` is below 2, or somebody has no second picture.
    """

    def __init__(
        self, name: str, plan: BatchPlan, domains: dict[str, Domain], values: dict[str, np.ndarray],
        *further: Any,
    ):  # fmt: skip
        super().__init__(name, plan, domains, values, *further)
        if plan.set_size < 2:
            raise DatasetError(f'view="posed_sets" needs a set_size of 2 or more, got {plan.set_size}.')
        people, self._person, counts = np.unique(values["labels"], return_inverse=True, return_counts=True)
        if counts.min() < 2:
            raise DatasetError(
                f"{name!r} has a single picture of person {people[counts.argmin()]} in this split; sets "
                f'need two or more of each. Add pictures, leave this person out, or use view="posed".'
            )
        self._members = [np.flatnonzero(self._person == k) for k in range(len(people))]

    def sets(self, epoch: int, slots: np.ndarray, examples: np.ndarray) -> np.ndarray:
        """Each example and others of its person, (batch, set_size), all different if possible."""
        rows = [self._others(epoch, slot, example) for slot, example in zip(slots, examples)]
        return np.concatenate([examples[:, None], np.stack(rows)], axis=1)

    def _others(self, epoch: int, slot: int, example: int) -> np.ndarray:
        others = self._members[self._person[example]]
        others, wanted = others[others != example], self.plan.set_size - 1
        rng = np.random.default_rng([self.plan.seed, int(epoch), int(slot)])
        return rng.choice(others, wanted, replace=len(others) < wanted)

    def _fetch(self, epoch: np.ndarray, slots: np.ndarray, *indices: np.ndarray) -> list:
        chosen = self.sets(int(epoch), slots, indices[0])
        domain, flat = self._domains["images"], chosen.ravel()
        # Each member of a set has a window of its own where windows are cut at random.
        numbers = (slots[:, None] * self.plan.set_size + np.arange(self.plan.set_size)).ravel()
        uniform = draws(self.plan.seed, int(epoch), numbers, 0)
        pictures = cut(domain.pictures.take(domain.kept[flat]), self.plan, uniform)
        pictures = pictures.reshape(*chosen.shape, *pictures.shape[1:])
        per_set = {"labels": indices[0]}
        return [pictures, *(v[per_set.get(name, chosen)] for name, v in self._values.items())]

    def _raw_shape(self, field: str) -> list:
        batch, *rest = super()._raw_shape(field)
        return [batch, *([] if field == "labels" else [self.plan.set_size]), *rest]
