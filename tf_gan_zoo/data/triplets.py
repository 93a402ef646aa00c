"""The view "triplets": a picture, the target that belongs to it, and a target of another product.

Which picture is the irrelevant one is drawn anew in every epoch, as a function of (seed, epoch, slot) like
everything else about a batch: first another product, each as likely as the others, then one of its targets.
"""

import dataclasses
from typing import Any

import numpy as np

from tf_gan_zoo.data.pipeline import BatchPlan, Domain, Pipeline, draws
from tf_gan_zoo.data.sources import DatasetError

#: Sets these draws apart from those of augmentation.
_SALT = 1


class TripletPipeline(Pipeline):
    """Batches of "inputs", "targets", "irrelevant" and the products' numbers.

    Raises:
        DatasetError: If there are fewer than two products.
    """

    def __init__(
        self, name: str, plan: BatchPlan, domains: dict[str, Domain], values: dict[str, np.ndarray],
        *further: Any,
    ):  # fmt: skip
        domains = {**domains, "irrelevant": domains["targets"]}
        if not isinstance(plan.channels, int):
            channels = {**plan.channels, "irrelevant": plan.channels["targets"]}
            plan = dataclasses.replace(plan, channels=channels)
        super().__init__(name, plan, domains, values, *further)
        known, self._product = np.unique(values["products"], return_inverse=True)
        if len(known) < 2:
            raise DatasetError(
                f"{name!r} has {len(known)} product in this split; an irrelevant target needs a "
                f"second one. Add pictures of other products."
            )
        self._by_product = np.argsort(self._product, kind="stable")
        self._count = np.bincount(self._product)
        self._start = np.cumsum(self._count) - self._count

    def others(self, epoch: int, slots: np.ndarray, examples: np.ndarray) -> np.ndarray:
        """An example of another product for each of `examples`, which stand in these slots."""
        which, member = draws(self.plan.seed, epoch, slots, _SALT)[:2]
        own = self._product[examples]
        product = (which * (len(self._count) - 1)).astype(np.int64)
        product += product >= own  # all but one's own
        place = (member * self._count[product]).astype(np.int64)
        return self._by_product[self._start[product] + place]

    def _fetch(self, epoch: np.ndarray, slots: np.ndarray, *indices: np.ndarray) -> list:
        inputs, targets, _ = indices
        return super()._fetch(epoch, slots, inputs, targets, self.others(int(epoch), slots, targets))
