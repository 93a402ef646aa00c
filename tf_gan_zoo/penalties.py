"""Penalties on a discriminator's gradient."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf


def gradient_penalty(
    critic: Callable[[tf.Tensor], tf.Tensor], real: tf.Tensor, fake: tf.Tensor, factors: tf.Tensor
) -> tf.Tensor:
    """E (||grad f(x_hat)|| - 1)^2 at x_hat = x + factor * (G(z) - x) (Gulrajani et al. 2017, equation 3).

    Args:
        critic: maps images (batch, height, width, channels) to scores (batch, 1).
        real: images; `fake` has the same shape.
        factors: U(0, 1), one per example, shape (batch, 1, 1, 1).

    Returns:
        A float32 scalar, not yet multiplied by its weight.
    """
    real, fake = tf.cast(real, tf.float32), tf.cast(fake, tf.float32)
    mixed = real + factors * (fake - real)
    with tf.GradientTape() as tape:
        tape.watch(mixed)
        scores = tf.cast(critic(mixed), tf.float32)
    gradients = tf.cast(tape.gradient(scores, mixed), tf.float32)
    squares = tf.reduce_sum(tf.square(gradients), axis=list(range(1, real.shape.rank)))
    # The tiny constant keeps the square root's own gradient finite at zero.
    return tf.reduce_mean(tf.square(tf.sqrt(squares + 1e-12) - 1.0))
