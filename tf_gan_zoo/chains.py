"""Chains through a generator's features, step by step toward what is likely and what a condition asks for.

    h  <-  h + eps1 (R(h) - h) + eps2 d log p(y = c | G(h)) / dh + N(0, eps3^2)

is equation 11 of A. Nguyen, J. Clune, Y. Bengio, A. Dosovitskiy, J. Yosinski, "Plug & Play Generative
Networks", CVPR 2017, arXiv:1612.00005; `models/ppgn.py` says what the terms are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import tensorflow as tf

from tf_gan_zoo import random

#: Samples that a chain moves at a time.
CHUNK = 64


class Hole(NamedTuple):
    """Pictures (batch, height, width, channels) of which some pixels are unknown: where the mask is 1."""

    images: tf.Tensor
    mask: tf.Tensor

    def pasted(self, fakes: tf.Tensor) -> tf.Tensor:
        """The known pixels, and others' in the hole."""
        return tf.where(self.mask > 0.5, fakes, self.images)

    def error(self, fakes: tf.Tensor) -> tf.Tensor:
        """Half the squared difference in the known pixels, summed over each picture."""
        difference = (fakes - self.images) * (1.0 - self.mask)
        return 0.5 * tf.reduce_sum(tf.square(difference), axis=[1, 2, 3])


class Path(NamedTuple):
    """Number of steps, (4,) epsilons, mean |dh| of the first step and of the one after the last."""

    steps: tf.Tensor
    epsilons: tf.Tensor
    sizes: tf.Tensor


@dataclass(frozen=True)
class Chain:
    """Equation 11 as a program.

    Attributes:
        decode: h -> images, G.
        look: (h, images) -> R(h), (batch, conditions) log-probabilities.
        bounds: h is cut to this range after each step.
        normalized: steps have a given mean |dh|; else they are the equation's own.
    """

    decode: Callable[[tf.Tensor], tf.Tensor]
    look: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]
    bounds: tuple[float, float]
    normalized: bool = True

    def direction(
        self, h: tf.Tensor, labels: tf.Tensor, epsilons: tf.Tensor, noise: tf.Tensor, hole: Hole | None = None
    ) -> tf.Tensor:
        """eps1 (R(h) - h) + eps2 d log p / dh + eps3 noise - eps4 d error / dh; the last with a hole only.

        Args:
            h: (batch, ...).
            labels: columns of the log-probabilities, int32 (batch,).
            epsilons: (4,).
            noise: standard normal numbers like `h`.
            hole: what is known of the pictures.
        """
        with tf.GradientTape() as tape:
            tape.watch(h)
            images = self.decode(h)
            reconstruction, scores = self.look(h, hole.pasted(images) if hole else images)
            rising = epsilons[1] * tf.gather(tf.cast(scores, tf.float32), labels, batch_dims=1)
            rising -= epsilons[3] * hole.error(images) if hole else 0.0
        gradient = tape.gradient(rising, h, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return epsilons[0] * (reconstruction - h) + gradient + epsilons[2] * noise

    def step(self, h: tf.Tensor, direction: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        """h after a step; where the direction is 0, h stays."""
        if self.normalized:
            axes = list(range(1, h.shape.rank))
            mean = tf.reduce_mean(tf.abs(direction), axis=axes, keepdims=True)
            direction *= size / tf.maximum(mean, 1e-30)
        return tf.clip_by_value(h + direction, *self.bounds)

    def walk(
        self, h: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, path: Path, hole: Hole | None = None
    ) -> tf.Tensor:
        """h after all steps; `seed` is that of the noise."""
        shape = [tf.shape(h)[0], *h.shape[1:]]

        def body(index: tf.Tensor, h: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            noise = random.normal(shape, seed + tf.stack([0, tf.cast(index, tf.int64)]))
            passed = tf.cast(index, tf.float32) / tf.cast(path.steps, tf.float32)
            size = path.sizes[0] + (path.sizes[1] - path.sizes[0]) * passed
            return index + 1, self.step(h, self.direction(h, labels, path.epsilons, noise, hole), size)

        start = (tf.constant(0), tf.ensure_shape(h, h.shape))
        return tf.while_loop(lambda index, _: index < path.steps, body, start, parallel_iterations=1)[1]

    def walk_in_parts(
        self, h: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, path: Path, hole: Hole | None = None
    ) -> tf.Tensor:
        """The same for any number of samples, `CHUNK` at a time, each chunk with noise of its own."""
        count = tf.shape(h)[0]
        num_parts = (count + CHUNK - 1) // CHUNK
        ends = tf.TensorArray(tf.float32, num_parts, element_shape=(None, *h.shape[1:]), infer_shape=False)

        def body(part: tf.Tensor, ends: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            own = slice(part * CHUNK, tf.minimum((part + 1) * CHUNK, count))
            part_seed = random.make_seed(seed, "noise of the chain", tf.cast(part, tf.int64) * 2**32)
            part_hole = Hole(hole.images[own], hole.mask[own]) if hole else None
            return part + 1, ends.write(part, self.walk(h[own], labels[own], part_seed, path, part_hole))

        loop = (lambda part, _: part < num_parts), body, (tf.constant(0), ends)
        return tf.while_loop(*loop, parallel_iterations=1)[1].concat()
