"""Semi-supervised training data: many pictures, few labels."""

import numpy as np

from tf_gan_zoo.data.pipeline import Domain
from tf_gan_zoo.data.sources import DatasetError

UNLABELLED = -1
"""The label of a picture whose class the model is not to know."""


def hide_labels(
    name: str, domain: Domain, labels: np.ndarray, per_class: int, seed: int
) -> tuple[Domain, np.ndarray]:
    """Every picture without its label, in turn with repetitions of a few labelled ones.

    So an epoch is twice as long. Examples 0, 2, 4... have no label and examples 1, 3, 5... have one; a
    pipeline with `num_kinds` = 2 keeps these turns, so half of every batch of an even size is labelled.

    Args:
        name: The data set, for errors.
        domain: All pictures.
        labels: Their classes, integers `(num,)`.
        per_class: Pictures of each class that keep their label.
        seed: Decides which.

    Raises:
        DatasetError: If a class has fewer pictures, or `per_class` is no positive integer.
    """
    if not isinstance(per_class, (int, np.integer)) or per_class < 1:
        raise DatasetError(f"labelled_per_class must be a positive integer, got {per_class!r}.")
    rng = np.random.default_rng(seed)
    classes = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    smallest = min(map(len, classes))
    if smallest < per_class:
        raise DatasetError(
            f"{name!r} has only {smallest} pictures of one class, so labelled_per_class={per_class} "
            f"is too many."
        )
    known = np.concatenate([rng.choice(members, per_class, replace=False) for members in classes])
    known = np.resize(known, len(labels))  # repeats them
    hidden = np.full(len(labels), UNLABELLED, np.int32)
    kept, labels = (
        np.stack(turns, axis=1).reshape(-1)
        for turns in ((domain.kept, domain.kept[known]), (hidden, labels[known]))
    )
    return Domain(domain.pictures, kept), labels
