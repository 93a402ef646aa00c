"""The one list of metrics that `zoo.evaluate` knows by name.

    @register_metric("brightness", needs=("images",))
    def brightness(evidence):
        return {"brightness_gap": float(abs(evidence.real.images.mean() - evidence.fake.images.mean()))}
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tf_gan_zoo.config import closest
from tf_gan_zoo.metrics import conditional, kid, swd
from tf_gan_zoo.metrics.frechet import moments_distance
from tf_gan_zoo.metrics.gather import FEW_IMAGES, NEEDS, Gathered
from tf_gan_zoo.metrics.inception_score import inception_scores
from tf_gan_zoo.metrics.ms_ssim import num_scales, pairwise_ms_ssim
from tf_gan_zoo.metrics.precision_recall import DENSITY_K, PRECISION_K, precision_recall_density_coverage

#: What a model that samples freely is judged by unless told otherwise.
DISTRIBUTION_METRICS = ("fid", "kid", "prdc", "swd", "is", "ms_ssim")
#: Neighbours are searched among so many of each side at most: the time grows with the square.
MAX_NEIGHBOURS = 10_000


class MetricError(ValueError):
    """A metric that does not exist, or that cannot be computed of what there is."""


class FewSamplesWarning(UserWarning):
    """A number that is biased because there are too few samples."""


@dataclass
class Evidence:
    """What a metric is computed from; only what it `needs` is sure to be there.

    Attributes:
        real: what was kept of the real pictures.
        fake: what was kept of the generated ones.
        seed: for whatever a metric draws.
        model: the model, for task metrics.
        examples: held-out examples, fields of the model's batch_spec and "labels" where there are any.
        settings: filled by `note`; part of the protocol record.
    """

    real: Gathered
    fake: Gathered
    seed: int = 0
    model: Any = None
    examples: Mapping[str, np.ndarray] | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def note(self, **settings: Any) -> None:
        """Puts what the number depends on into the record."""
        self.settings.update(settings)


@dataclass(frozen=True)
class Metric:
    """A registered metric.

    Attributes:
        name: what `zoo.evaluate(metrics=...)` takes.
        needs: some of `gather.NEEDS`.
        measure: evidence -> numbers by name.
    """

    name: str
    needs: frozenset[str]
    measure: Callable[[Evidence], Mapping[str, float]]


_METRICS: dict[str, Metric] = {}


def register_metric(name: str, *, needs: Iterable[str]) -> Callable[[Callable], Callable]:
    """Decorator that adds a function (evidence -> numbers by name) to the metrics.

    Args:
        name: what `zoo.evaluate(metrics=...)` takes.
        needs: what is gathered for it: "moments", "features" and "probabilities" of the extractor, "images"
            (the first 2,048) or "all_images", "labels", "examples" (held-out examples for the model).

    Raises:
        MetricError: for a name that is taken or a need that does not exist.
    """
    wrong = sorted(set(needs) - set(NEEDS))
    if wrong:
        raise MetricError(f"no need {wrong[0]!r}.{closest(wrong[0], NEEDS)} Needs: {', '.join(NEEDS)}.")

    def add(function: Callable) -> Callable:
        taken = _METRICS.get(name)
        if taken is not None and taken.measure.__qualname__ != function.__qualname__:
            raise MetricError(f"the name {name!r} is taken by {taken.measure.__qualname__}.")
        _METRICS[name] = Metric(name, frozenset(needs), function)
        return function

    return add


def list_metrics() -> list[str]:
    """Sorted names of all metrics."""
    return sorted(_METRICS)


def get_metrics(names: Iterable[str]) -> list[Metric]:
    """The metrics of these names, each once.

    Raises:
        MetricError: for an unknown name, with the closest ones, or for none at all.
    """
    names = list(dict.fromkeys(names))
    for name in names:
        if name not in _METRICS:
            known = list_metrics()
            raise MetricError(f"no metric {name!r}.{closest(name, known)} Metrics: {', '.join(known)}.")
    if not names:
        raise MetricError(f"name at least one metric: {', '.join(list_metrics())}.")
    return [_METRICS[name] for name in names]


def measure(metric: Metric, evidence: Evidence) -> dict[str, float]:
    """A metric's numbers.

    Raises:
        MetricError: if the evidence does not do, saying of which metric.
    """
    try:
        return {name: float(value) for name, value in metric.measure(evidence).items()}
    except ValueError as error:
        raise MetricError(f"{metric.name}: {error}") from error


# -------------------------------------------------------------------- the metrics


@register_metric("fid", needs=("moments",))
def fid(evidence: Evidence) -> dict[str, float]:
    """Fréchet distance of all pictures; "FID" proper with the extractor fid2015."""
    real, fake = evidence.real.moments, evidence.fake.moments
    fewest = min(real.count, fake.count)
    if fewest < len(real.mean):
        warnings.warn(
            f"FID of {fewest} pictures with {len(real.mean)} features is biased upwards: the covariance has "
            "not full rank. Take more samples, or compare by KID.",
            FewSamplesWarning,
            stacklevel=2,
        )
    return {"fid": moments_distance(real, fake)}


@register_metric("kid", needs=("features",))
def kernel_distance(evidence: Evidence) -> dict[str, float]:
    """Kernel inception distance and its standard deviation over subsets."""
    real, fake = evidence.real.features, evidence.fake.features
    options = {"num_subsets": kid.NUM_SUBSETS, "subset_size": min(kid.SUBSET_SIZE, len(real), len(fake))}
    evidence.note(**options)
    values = kid.kernel_inception_distances(real, fake, seed=evidence.seed, **options)
    return {"kid": values.mean(), "kid_std": values.std()}


@register_metric("prdc", needs=("features",))
def neighbours(evidence: Evidence) -> dict[str, float]:
    """Precision, recall, density and coverage."""
    real, fake = (side.features[:MAX_NEIGHBOURS] for side in (evidence.real, evidence.fake))
    evidence.note(k=PRECISION_K, k_density=DENSITY_K, num_real=len(real), num_fake=len(fake))
    return precision_recall_density_coverage(real, fake)


@register_metric("swd", needs=("images",))
def patches(evidence: Evidence) -> dict[str, float]:
    """Sliced Wasserstein distance of patches, times 1000: mean over scales, and each scale."""
    count = min(evidence.real.count, evidence.fake.count, FEW_IMAGES)
    options = {"patches_per_image": 16, "num_projections": 256}
    evidence.note(num_images=count, **options)
    real, fake = (side.images[:count] for side in (evidence.real, evidence.fake))
    sizes = swd.sliced_wasserstein_by_size(real, fake, seed=evidence.seed, **options)
    return {"swd": np.mean(list(sizes.values())), **{f"swd_{size}": value for size, value in sizes.items()}}


@register_metric("is", needs=("probabilities",))
def score(evidence: Evidence) -> dict[str, float]:
    """Inception Score of the samples and its standard deviation over splits."""
    probabilities = evidence.fake.probabilities
    splits = min(10, len(probabilities))
    evidence.note(splits=splits)
    order = np.random.default_rng(evidence.seed).permutation(len(probabilities))
    values = inception_scores(probabilities[order], splits)
    return {"is": values.mean(), "is_std": values.std()}


@register_metric("ms_ssim", needs=("images",))
def likeness(evidence: Evidence) -> dict[str, float]:
    """Mean MS-SSIM of pairs of samples, and of real pictures: far above theirs is a collapse.

    Pairs are of one class where samples have classes.
    """
    fake, real, options = evidence.fake, evidence.real, {"num_pairs": 500}
    evidence.note(
        num_images=min(FEW_IMAGES, fake.count, real.count), num_scales=num_scales(fake.images.shape[1:3]),
        within_classes=fake.labels is not None, **options,
    )  # fmt: skip
    return {
        # The formula is made for brightness from 0 on.
        name: pairwise_ms_ssim(
            (side.images[:FEW_IMAGES] + 1) / 2, 1.0, seed=evidence.seed,
            labels=None if fake.labels is None else side.labels[:FEW_IMAGES], **options,
        )  # fmt: skip
        for name, side in (("ms_ssim", fake), ("ms_ssim_real", real))
    }


@register_metric("class_fid", needs=("features", "labels"))
def class_distance(evidence: Evidence) -> dict[str, float]:
    """Fréchet distance within classes, mean over classes."""
    real, fake = evidence.real, evidence.fake
    value = conditional.classwise_frechet_distance(real.features, real.labels, fake.features, fake.labels)
    return {"class_fid": value}


@register_metric("cas", needs=("all_images", "labels"))
def accuracy_score(evidence: Evidence) -> dict[str, float]:
    """Classification accuracy score."""
    real, fake = evidence.real, evidence.fake
    value = conditional.classification_accuracy_score(
        fake.images, fake.labels, real.images, real.labels, seed=evidence.seed
    )
    return {"cas": value}


@register_metric("task", needs=("examples",))
def task(evidence: Evidence) -> dict[str, float]:
    """The model's own task metrics on held-out examples (`GAN.measure`)."""
    evidence.note(num_examples=len(next(iter(evidence.examples.values()))))
    numbers = evidence.model.measure(evidence.examples)
    if not numbers:
        fields = ", ".join(evidence.examples)
        raise ValueError(f"{evidence.model.name} measures nothing on examples with the fields {fields}.")
    return numbers
