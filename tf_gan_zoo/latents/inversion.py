"""Inversion: the latents of a given picture, by gradient descent."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tf_gan_zoo import present
from tf_gan_zoo.batch_spec import checked_images
from tf_gan_zoo.latents import inputs as noise
from tf_gan_zoo.latents.inputs import LatentError
from tf_gan_zoo.metrics.images import psnr

#: Pictures that are searched for at a time.
_CHUNK = 16


class Inversion(NamedTuple):
    """What `invert` finds for each picture.

    Attributes:
        inputs: generator inputs, as `model.run` takes them.
        latents: the noise in them, float32 (count, latent_size).
        pictures: what the generator makes of them, float32 (count, height, width, channels).
        psnr: decibels between these and the pictures that were given, float64 (count,).
    """

    inputs: Any
    latents: np.ndarray
    pictures: np.ndarray
    psnr: np.ndarray


def invert(
    model: Any,
    pictures: Any,
    *,
    num_steps: int = 400,
    num_starts: int = 6,
    num_candidates: int = 1024,
    learning_rate: float = 0.1,
    features: Callable[[tf.Tensor], tf.Tensor] | None = None,
    feature_weight: float = 1.0,
    seed: int = 0,
    **conditions: Any,
) -> Inversion:
    """Finds latents whose pictures are like the given ones.

    Adam descends the mean squared difference of pixels from several starts at once: of many random inputs
    those whose pictures are nearest. Its rate falls to 0 as a cosine. After each step the latents go back
    to where the prior has them: normal ones into the ball that holds 99.9 % of all, uniform ones into
    [-1, 1]. Labels and codes are those of the start; only the noise moves.

    Args:
        model: a model with latents.
        pictures: (count, height, width, channels) in the range of the model's output, or one picture.
        num_steps: of Adam.
        num_starts: per picture; the one that ends nearest counts.
        num_candidates: random inputs that starts are chosen from.
        learning_rate: of the first step.
        features: differentiable, pictures -> (batch, ...); its mean squared difference is added to the loss.
        feature_weight: of this part.
        seed: draws the candidates.
        **conditions: labels=, codes= of all candidates, where they are known.

    Raises:
        LatentError: for a model without latents or impossible numbers.
        BatchError: if the pictures do not fit the model.

    Reference: J.-Y. Zhu, P. Krähenbühl, E. Shechtman, A. A. Efros, "Generative Visual Manipulation on the
    Natural Image Manifold", ECCV 2016, arXiv:1609.03552, equation 2.
    """
    noise.require_latents(model)
    if not 1 <= num_starts <= num_candidates or num_steps < 1:
        raise LatentError(
            "expected num_steps >= 1 and 1 <= num_starts <= num_candidates, got "
            f"num_steps={num_steps}, num_starts={num_starts}, num_candidates={num_candidates}."
        )
    images = checked_images(pictures, model.batch_spec["images"])
    candidates = noise.sample(model, num_candidates, seed, **conditions)
    search = _Search(model, num_steps, num_starts, learning_rate, features, feature_weight)
    previews = np.asarray(model.run(candidates))
    parts = [
        search.run(images[first : first + _CHUNK], candidates, previews)
        for first in range(0, len(images), _CHUNK)
    ]
    inputs = tf.nest.map_structure(lambda *rows: np.concatenate(rows), *parts)
    found = np.asarray(model.run(inputs))
    low, high = present.output_range(model)
    return Inversion(inputs, noise.latents_of(model, inputs), found, psnr(found, images, high - low))


def longest(model: Any) -> float:
    """The length that 99.9 % of normal latents stay below (their length is nearly N(sqrt(size), 1/2))."""
    return math.sqrt(noise.latent_size(model)) + 3.09 * math.sqrt(0.5)


class _Search(NamedTuple):
    """The settings of `invert`."""

    model: Any
    num_steps: int
    num_starts: int
    learning_rate: float
    features: Callable | None
    feature_weight: float

    def run(self, images: np.ndarray, candidates: Any, previews: np.ndarray) -> Any:
        """Generator inputs of the best end for each picture."""
        starts = _nearest(images, previews, self.num_starts).ravel()
        held = tf.nest.map_structure(lambda values: tf.gather(values, starts), candidates)
        targets = tf.repeat(images, self.num_starts, axis=0)
        latents, errors = self._descend(held, targets)
        best = errors.reshape(-1, self.num_starts).argmin(1) + np.arange(len(images)) * self.num_starts
        inputs = noise.with_latents(self.model, held, latents)
        return tf.nest.map_structure(lambda values: tf.gather(values, best).numpy(), inputs)

    def _descend(self, held: Any, targets: tf.Tensor) -> tuple[tf.Tensor, np.ndarray]:
        """The latents (rows, latent_size) after all steps, and their losses (rows,)."""
        variable = keras.Variable(noise.latents_of(self.model, held), name="latents")
        schedule = keras.optimizers.schedules.CosineDecay(self.learning_rate, self.num_steps)
        optimizer = keras.optimizers.Adam(schedule)
        optimizer.build([variable])

        @tf.function(autograph=False)
        def step() -> None:
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(self._losses(held, variable.value, targets))
            optimizer.apply([tape.gradient(loss, variable.value)], [variable])
            variable.assign(self._inside_prior(variable.value))

        for _ in range(self.num_steps):
            step()
        latents = tf.convert_to_tensor(variable.value)
        return latents, np.asarray(self._losses(held, latents, targets))

    def _losses(self, held: Any, latents: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        found = self.model(noise.with_latents(self.model, held, latents), training=False)
        losses = _mean_squares(found - targets)
        if self.features is None:
            return losses
        return losses + self.feature_weight * _mean_squares(self.features(found) - self.features(targets))

    def _inside_prior(self, latents: tf.Tensor) -> tf.Tensor:
        if noise.distribution(self.model) == "uniform":
            return tf.clip_by_value(latents, -1.0, 1.0)
        return tf.clip_by_norm(latents, longest(self.model), axes=[1])


def _nearest(images: np.ndarray, previews: np.ndarray, count: int) -> np.ndarray:
    """Indices (len(images), count) of the previews with the least squared difference."""
    x, y = (pictures.reshape(len(pictures), -1) for pictures in (images, previews))
    squares = np.square(y).sum(1)[None] - 2 * x @ y.T
    return np.argsort(squares, axis=1)[:, :count]


def _mean_squares(differences: tf.Tensor) -> tf.Tensor:
    """Mean over everything but the first axis."""
    return tf.reduce_mean(tf.square(differences), axis=list(range(1, differences.shape.rank)))
