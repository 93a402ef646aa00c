"""Parameters of rendered scenes: tables of them, priors fitted to tables, renderers by name.

A row of a table describes a scene: its own parameters (background, light, ...), then those of each person in
it, in [0, 1]; -1 where there is no further person. A parameter with k kinds has (j + 0.5) / k for the j-th.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Layout(NamedTuple):
    """What a row of a table holds: `scene` numbers, then `person` numbers for each of `people`."""

    scene: int
    person: int
    people: int

    @property
    def size(self) -> int:
        """Numbers in a row."""
        return self.scene + self.person * self.people

    @property
    def num_parameters(self) -> int:
        """Different parameters: all people have the same."""
        return self.scene + self.person

    def parts(self, thetas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows (num, size) as scenes (num, scene) and people (num, people, person)."""
        thetas = np.asarray(thetas, "float32")
        return thetas[:, : self.scene], thetas[:, self.scene :].reshape(-1, self.people, self.person)

    def row(self, scene: np.ndarray, people: np.ndarray) -> np.ndarray:
        """One row of a scene (scene,) and the people in it (count, person)."""
        absent = np.full((self.people - len(people), self.person), -1.0)
        return np.concatenate([scene, np.reshape(people, -1), np.reshape(absent, -1)]).astype("float32")


def histograms(
    thetas: np.ndarray, layout: Layout, num_bins: int = 8, weights: np.ndarray | None = None
) -> np.ndarray:
    """How often each parameter takes which values: (num_parameters, num_bins), rows that sum to 1.

    Args:
        thetas: (num, layout.size).
        layout: of the rows.
        num_bins: equal parts of [0, 1].
        weights: of the rows (num,); all the same by default.
    """
    scene, people = layout.parts(thetas)
    weights = np.ones(len(scene)) if weights is None else np.asarray(weights, "float64")
    each = np.repeat(weights, layout.people)
    people = people.reshape(-1, layout.person)
    there = people[:, 0] >= 0
    columns = [(column, weights) for column in scene.T]
    columns += [(column, each[there]) for column in people[there].T]
    counts = [np.bincount(bins_of(c, num_bins), w, num_bins)[:num_bins] for c, w in columns]
    return np.stack([count / max(count.sum(), 1e-12) for count in counts])


def bins_of(values: np.ndarray, num_bins: int) -> np.ndarray:
    """Which of equal parts of [0, 1] values lie in."""
    return np.clip((np.asarray(values) * num_bins).astype(int), 0, num_bins - 1)


def total_variation(a: np.ndarray, b: np.ndarray) -> float:
    """Half the L1 distance of distributions (num_parameters, num_bins), mean over the parameters."""
    return float(np.abs(a - b).sum(axis=-1).mean() / 2)


def entropy(distributions: np.ndarray) -> float:
    """Entropy in nats of (num_parameters, num_bins), mean over the parameters."""
    p = np.asarray(distributions)
    return float(-(p * np.log(np.maximum(p, 1e-12))).sum(axis=-1).mean())


class Prior:
    """Independent distributions of the parameters: histograms, uniform within a bin.

    Args:
        distributions: (num_parameters, num_bins), rows that sum to 1.
        layout: of the rows of tables.
        count: which of the scene's parameters is the number of people, 1 to `layout.people`.
        kinds: parameter -> how many kinds it has; others are continuous.
    """

    def __init__(
        self, distributions: np.ndarray, layout: Layout, count: int, kinds: dict[int, int] | None = None
    ) -> None:
        self.distributions, self.layout = np.asarray(distributions, "float64"), layout
        self.count, self.kinds = count, {count: layout.people, **(kinds or {})}

    @classmethod
    def fitted(
        cls, thetas: np.ndarray, like: Prior, weights: np.ndarray | None = None, smoothing: float = 0.02
    ) -> Prior:
        """The prior of a table's rows, with the form of another one.

        Args:
            thetas: (num, layout.size).
            like: says layout, bins and kinds.
            weights: of the rows.
            smoothing: part of `like`'s distributions that stays, so that nothing becomes impossible.
        """
        found = histograms(thetas, like.layout, like.distributions.shape[1], weights)
        mixed = (1 - smoothing) * found + smoothing * like.distributions
        return cls(mixed, like.layout, like.count, like.kinds)

    def sample(
        self, num: int, seed: int | list[int] = 0,
        accept: Callable[[np.ndarray, np.ndarray], bool] | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Rows (num, layout.size).

        Args:
            num: how many scenes.
            seed: the same seed gives the same scenes.
            accept: (person (person,), people before (count, person)) -> whether both can be; else the person
                is drawn anew, and left out after ten times.
        """
        rng = np.random.default_rng(seed)
        return np.stack([self._scene(rng, accept) for _ in range(num)])

    def _scene(self, rng: np.random.Generator, accept: Callable | None) -> np.ndarray:
        scene = self._draw(rng, range(self.layout.scene))
        people: list[np.ndarray] = []
        for _ in range(int(scene[self.count] * self.layout.people) + 1):
            for _ in range(10):
                person = self._draw(rng, range(self.layout.scene, self.layout.num_parameters))
                if accept is None or accept(person, np.array(people)):
                    people.append(person)
                    break
        scene[self.count] = (len(people) - 0.5) / self.layout.people
        return self.layout.row(scene, np.array(people))

    def _draw(self, rng: np.random.Generator, parameters: range) -> np.ndarray:
        """One value of each parameter."""
        chosen = self.distributions[parameters.start : parameters.stop]
        num_bins = chosen.shape[1]
        bins = (chosen.cumsum(axis=1) < rng.random(len(chosen))[:, None]).sum(axis=1).clip(0, num_bins - 1)
        values = (bins + rng.random(len(chosen))) / num_bins
        for index, parameter in enumerate(parameters):
            kinds = self.kinds.get(parameter)
            if kinds:
                values[index] = (np.floor(values[index] * kinds) + 0.5) / kinds
        return values


# -------------------------------------------------------------------- renderers


@dataclass(frozen=True)
class Renderer:
    """A black box from parameters to pictures.

    Attributes:
        render: (rows (num, layout.size), (height, width)) -> uint8 (num, height, width, 3) and boxes
            (num, layout.people, 4): top, left, bottom, right as parts of the sides, 0 where there is nobody.
        prior: what scenes are drawn from before any choice.
        accept: which people can be in one scene; see `Prior.sample`.
    """

    render: Callable[[np.ndarray, tuple[int, int]], tuple[np.ndarray, np.ndarray]]
    prior: Prior
    accept: Callable[[np.ndarray, np.ndarray], bool] | None = None


#: Name -> renderer.
RENDERERS: dict[str, Renderer] = {}


def register_renderer(name: str, renderer: Renderer) -> Renderer:
    """Makes a renderer known by name, for the data source "scenes" and for models' pictures.

    Raises:
        ValueError: if the name is taken.
    """
    if name in RENDERERS:
        raise ValueError(f"there is a renderer {name!r} already; choose another name.")
    RENDERERS[name] = renderer
    return renderer
