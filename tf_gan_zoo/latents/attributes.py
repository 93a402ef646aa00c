"""Attribute arithmetic: mean latents of samples that show something, added and subtracted.

Generators have no encoder, so the latents of "an italic A" are found the other way round: draw many latents,
say what each picture shows, and take the mean of those that show it.

    labeller = latents.label_by_neighbours(zoo.load_dataset("glyphs", view="captioned", ...), "captions")
    labelled = latents.label_samples(model, labeller)
    a, b, c = (labelled.mean(words) for words in ("italic a", "a not italic", "e not italic"))
    picture = latents.pictures(model, latents.arithmetic(model, a, b, c))

Reference: A. Radford, L. Metz, S. Chintala, "Unsupervised Representation Learning with Deep Convolutional
Generative Adversarial Networks", ICLR 2016, arXiv:1511.06434, section 6.3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tf_gan_zoo import present, random
from tf_gan_zoo.config import closest
from tf_gan_zoo.latents import inputs as noise
from tf_gan_zoo.latents.inputs import LatentError
from tf_gan_zoo.latents.neighbours import nearest
from tf_gan_zoo.metrics.features import get_extractor

#: Pixels that a title needs.
_TITLE_WIDTH = 112


class Labels(NamedTuple):
    """What a labeller says of pictures: a label each, and how doubtful it is (smaller is surer)."""

    labels: np.ndarray
    doubts: np.ndarray


Labeller = Callable[[np.ndarray], Labels]


def label_by_neighbours(
    dataset: Iterable[Any], field: str = "labels", features: Callable[[np.ndarray], np.ndarray] | None = None
) -> Labeller:
    """A labeller that gives each picture the label of the nearest example; the distance is its doubt.

    Args:
        dataset: finite, of batches with "images" and `field`, in the model's size and range.
        field: "labels", "captions", ...
        features: what is compared instead of pixels (see `nearest`).
    """

    def label(pictures: np.ndarray) -> Labels:
        found = nearest(pictures, dataset, k=1, features=features, fields=[field])
        return Labels(_text(found.values[field][:, 0]), found.distances[:, 0])

    return label


def label_by_classifier(extractor: Any, value_range: tuple[float, float] = (-1.0, 1.0)) -> Labeller:
    """A labeller that takes a classifier's likeliest class; its doubt is 1 - probability.

    Args:
        extractor: "glyphs", "fashion_mnist" or another that `metrics.features.get_extractor` takes.
        value_range: that of the pictures.
    """
    network, (low, high) = get_extractor(extractor), value_range

    def label(pictures: np.ndarray) -> Labels:
        scaled = (np.asarray(pictures) - low) * (2.0 / (high - low)) - 1.0
        probabilities = network(np.clip(scaled, -1.0, 1.0))[1]
        return Labels(probabilities.argmax(1), 1.0 - probabilities.max(1))

    return label


@dataclass(frozen=True)
class LabelledLatents:
    """Latents and what their pictures show.

    Attributes:
        latents: float32 (count, latent_size).
        labels: (count,), numbers or texts.
        doubts: (count,), smaller is surer.
    """

    latents: np.ndarray
    labels: np.ndarray
    doubts: np.ndarray

    def surest(self, term: Any, limit: int | None = 16) -> np.ndarray:
        """Latents (at most `limit`, latent_size) that show `term`, the surest first.

        Args:
            term: a label; or words of a text label in any order, "not" before those that it must not have:
                "italic a", "a not italic".
            limit: None takes all.

        Raises:
            LatentError: if no sample shows it.
        """
        chosen = np.flatnonzero(self._shows(term))
        if not len(chosen):
            raise LatentError(self._nothing_shows(term))
        return self.latents[chosen[np.argsort(self.doubts[chosen], kind="stable")][:limit]]

    def mean(self, term: Any, limit: int | None = 16) -> np.ndarray:
        """Mean (latent_size,) of the surest latents that show `term`; see `surest`."""
        return self.surest(term, limit).mean(0)

    def has(self, term: Any) -> bool:
        """Whether any sample shows `term`."""
        return bool(self._shows(term).any())

    def direction(self, a: str, b: str, contexts: Iterable[str], limit: int | None = 16) -> np.ndarray:
        """Mean over contexts of (mean of A - mean of B): what A and B differ in whatever else is shown.

        With contexts "a" to "z", direction("italic", "not italic", ...) averages "italic a" - "not italic a"
        and so on, so that letters which are more often italic do not weigh in. Contexts without samples are
        left out.

        Args:
            a: words, as `surest` takes them.
            b: words.
            contexts: more words, one context each.
            limit: samples in each mean.

        Returns:
            (latent_size,).

        Raises:
            LatentError: if no context has both.
        """
        pairs = [(f"{a} {context}", f"{b} {context}") for context in contexts]
        both = [pair for pair in pairs if all(map(self.has, pair))]
        if not both:
            raise LatentError(f"no context has samples of {a!r} and of {b!r}: draw more, or name others.")
        return np.mean([self.mean(x, limit) - self.mean(y, limit) for x, y in both], axis=0)

    def _shows(self, term: Any) -> np.ndarray:
        if self.labels.dtype.kind not in "US":
            return self.labels == _number(term)
        wanted, unwanted = _split_phrase(str(term))
        sets = {label: set(_words(label)) for label in np.unique(self.labels)}
        fitting = [label for label, words in sets.items() if wanted <= words and not unwanted & words]
        return np.isin(self.labels, fitting)

    def _nothing_shows(self, term: Any) -> str:
        known, counts = np.unique(self.labels, return_counts=True)
        if self.labels.dtype.kind not in "US":
            return (
                f"no sample of {len(self.labels)} shows {term!r}. Labels that samples show: {known.tolist()}."
            )
        vocabulary = sorted({word for label in known for word in _words(label)})
        strange = [w for part in _split_phrase(str(term)) for w in sorted(part) if w not in vocabulary]
        if strange:
            hint = closest(strange[0], vocabulary)
            return f"no label has the word {strange[0]!r}.{hint} Words: {', '.join(vocabulary)}."
        common = known[np.argsort(-counts)][:3].tolist()
        return (
            f"no sample of {len(self.labels)} shows {term!r}: draw more, or ask for less. Common: {common}."
        )


def label_samples(
    model: Any, labeller: Labeller, num_samples: int = 4000, seed: int = 0, **conditions: Any
) -> LabelledLatents:
    """Draws latents and labels their pictures.

    Args:
        model: a model with latents.
        labeller: pictures -> `Labels`; of `label_by_neighbours`, `label_by_classifier`, or your own.
        num_samples: how many; a mean of fewer than about ten is noisy.
        seed: the same seed gives the same latents.
        **conditions: labels=, codes= that hold for all.
    """
    inputs = noise.sample(model, num_samples, seed, **conditions)
    return LabelledLatents(noise.latents_of(model, inputs), *labeller(np.asarray(model.run(inputs))))


def arithmetic(model: Any, a: Any, b: Any, c: Any) -> np.ndarray:
    """Latents of "A - B + C", brought to the typical length (`rescaled`).

    The more latents a mean is of, the shorter it is: take A, B and C of equally many.

    Args:
        model: a model with latents.
        a: (latent_size,), or (count, latent_size); `b` and `c` likewise.

    Returns:
        float32, as `a`.
    """
    terms = [noise.checked_latents(model, x).numpy() for x in (a, b, c)]
    return noise.rescaled(model, terms[0] - terms[1] + terms[2]).reshape(np.shape(a))


def add(model: Any, latents: Any, direction: Any, strength: float = 0.6) -> np.ndarray:
    """Latents with more of an attribute, brought to the typical length.

    Args:
        model: a model with latents.
        latents: (latent_size,), or (count, latent_size).
        direction: (latent_size,), such as of `LabelledLatents.direction`; only where it points matters.
        strength: length of what is added, as a part of the latents' own; negative for less of the attribute.

    Returns:
        float32, as `latents`.
    """
    step = noise.rescaled(model, noise.checked_latents(model, direction))
    return noise.rescaled(model, noise.rescaled(model, latents) + strength * step.reshape(-1))


def arithmetic_sheet(
    model: Any, labelled: LabelledLatents, terms: Sequence[Any], *, num_examples: int = 3,
    spread: float = 0.25, seed: int = 0,
) -> np.ndarray:  # fmt: skip
    """Columns A, B, C and A - B + C as in the paper: the means in the first row, examples below.

    Args:
        model: a model with latents.
        labelled: of `label_samples`.
        terms: A, B and C.
        num_examples: rows of samples that the means were taken of; in the last column the result with
            noise, uniform on +-`spread`.
        spread: 0.25 in the paper.
        seed: draws the noise.

    Returns:
        uint8 (height, width, 3).
    """
    means = [labelled.mean(term) for term in terms]
    examples = [np.resize(labelled.surest(t, num_examples), (num_examples, len(means[0]))) for t in terms]
    result = arithmetic(model, *means)
    draw = random.uniform((num_examples, len(result)), random.make_seed(seed, "spread"), -spread, spread)
    columns = {
        f"{letter}: {term}": [noise.rescaled(model, mean), *rows]
        for letter, term, mean, rows in zip("ABC", terms, means, examples)
    }
    columns["A - B + C"] = [result, *(result + np.asarray(draw))]
    images = {title: noise.pictures(model, rows, seed) for title, rows in columns.items()}
    legible = {title: present.legible(shown, _TITLE_WIDTH) for title, shown in images.items()}
    return present.strips(legible, value_range=present.output_range(model))


def direction_sheet(
    model: Any, labelled: LabelledLatents, terms: Sequence[str], contexts: Sequence[str],
    strengths: Sequence[float] = (0.0, 0.4, 0.8), seed: int = 0,
) -> np.ndarray:  # fmt: skip
    """Columns are contexts; rows are C in that context and C with more and more of the direction A - B.

    Args:
        model: a model with latents.
        labelled: of `label_samples`.
        terms: A, B and C, such as ("italic", "not italic", "not italic").
        contexts: such as the letters; those without samples are left out.
        strengths: of each row (see `add`).
        seed: draws conditions that are not given.

    Returns:
        uint8 (height, width, 3).

    Raises:
        LatentError: if no context has samples.
    """
    a, b, c = terms
    direction = labelled.direction(a, b, contexts)
    shown = [context for context in contexts if labelled.has(f"{c} {context}")]
    if not shown:
        raise LatentError(f"no context has samples of {c!r}: draw more, or name others.")
    starts = np.stack([labelled.mean(f"{c} {context}") for context in shown])
    rows = [noise.pictures(model, add(model, starts, direction, s), seed) for s in strengths]
    return noise.sheet(model, present.legible(np.concatenate(rows)), columns=len(shown))


def _number(term: Any) -> int | None:
    try:
        return int(term)
    except ValueError:
        return None


def _text(labels: np.ndarray) -> np.ndarray:
    """Byte strings, as TensorFlow has them, as text."""
    if labels.dtype.kind in "OS":
        return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in labels])
    return labels


def _split_phrase(phrase: str) -> tuple[set[str], set[str]]:
    """Words that must be there, and those after a "not"."""
    words, wanted, unwanted = iter(phrase.lower().split()), set(), set()
    for word in words:
        if word == "not":
            unwanted |= {next(words, "not")}
        else:
            wanted.add(word)
    return wanted, unwanted


def _words(label: str) -> list[str]:
    """Words of a caption without its article, which would pass for a letter."""
    words = label.lower().split()
    return words[1:] if len(words) > 1 and words[0] in ("a", "an") else words
