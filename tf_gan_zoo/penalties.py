"""Penalties: on a discriminator's gradient, on weights, on binary activation patterns that are alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import keras
import tensorflow as tf

from tf_gan_zoo import replicas


def gradient_penalty(
    critic: Callable[[tf.Tensor], tf.Tensor], real: tf.Tensor, fake: tf.Tensor, factors: tf.Tensor,
    target: float = 1.0,
) -> tf.Tensor:  # fmt: skip
    """E (||grad f(x_hat)|| - 1)^2 at x_hat = x + factor * (G(z) - x) (Gulrajani et al. 2017, equation 3).

    Args:
        critic: maps images (batch, height, width, channels) to scores (batch, 1).
        real: images; `fake` has the same shape.
        factors: U(0, 1), one per example, shape (batch, 1, 1, 1).
        target: the norm wanted, in place of 1; the penalty is of the norm's ratio to it.

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
    return tf.reduce_mean(tf.square(tf.sqrt(squares + 1e-12) / target - 1.0))


def half_squared_norm(variables: Iterable[keras.Variable]) -> tf.Tensor:
    """Half the sum of all squared weights; times r, its gradient is the classic weight decay r * w."""
    return tf.add_n([tf.nn.l2_loss(tf.convert_to_tensor(variable)) for variable in variables])


def soft_signs(pre_activations: tf.Tensor, softness: float | tf.Tensor | None = None) -> tf.Tensor:
    """h / (|h| + softness): nearly +1 or -1, with a gradient (Cao et al. 2018).

    Args:
        pre_activations: h of any shape.
        softness: by default a thousandth of mean |h|, through which no gradient flows: else the penalties
            could be met by growing h instead of changing signs.

    Returns:
        float32 of the same shape, in (-1, 1).
    """
    h = tf.cast(pre_activations, tf.float32)
    if softness is None:
        mean = replicas.mean(tf.reduce_mean(tf.abs(tf.stop_gradient(h))))
        softness = 1e-3 * mean + 1e-12
    return h / (tf.abs(h) + softness)


def marginal_entropy_penalty(signs: tf.Tensor) -> tf.Tensor:
    """R_ME: the mean over units of (mean over the global batch of s)^2 (Cao et al. 2018).

    Args:
        signs: float32 (batch, units) in [-1, 1].

    Returns:
        0 where every unit is on for half of the examples, 1 where each is always on or always off.
    """
    return tf.reduce_mean(tf.square(replicas.batch_mean(signs)))


def pair_similarities(signs: tf.Tensor) -> tf.Tensor:
    """s_i . s_j / units of all pairs of the global batch: (examples, examples), 1 where signs are alike."""
    everyone = replicas.gather(signs)
    units = tf.cast(tf.shape(everyone)[1], signs.dtype)
    return tf.matmul(everyone, everyone, transpose_b=True) / units


def without_diagonal(pairs: tf.Tensor) -> tf.Tensor:
    """A square matrix with zeros on its diagonal, where examples meet themselves."""
    return tf.linalg.set_diag(pairs, tf.zeros(tf.shape(pairs)[:1], pairs.dtype))


def activation_correlation_penalty(signs: tf.Tensor, margin: float | None = None) -> tf.Tensor:
    """R_AC: the mean over pairs of max(0, |s_i . s_j| / units - margin) (Cao et al. 2018).

    As in the authors' code, an example with itself counts as a pair with 0.

    Args:
        signs: float32 (batch, units) in [-1, 1].
        margin: by default three standard deviations of the similarity of random signs, 3 / sqrt(units).
    """
    margin = 3.0 / float(signs.shape[1]) ** 0.5 if margin is None else margin
    excess = tf.nn.relu(tf.abs(pair_similarities(signs)) - margin)
    return tf.reduce_mean(without_diagonal(excess))


def binarized_representation_entropy(pre_activations: tf.Tensor) -> tf.Tensor:
    """BRE = R_ME + R_AC of one layer: the smaller, the more diverse are its on-off patterns over the batch.

    Y. Cao, G. W. Ding, K. Y.-C. Lui, R. Huang, "Improving GAN Training via Binarized Representation Entropy
    (BRE) Regularization", ICLR 2018, arXiv:1805.03644. The batch is that of all replicas.

    Args:
        pre_activations: a layer's values before its ReLU, (batch, ...).

    Returns:
        A float32 scalar, not yet multiplied by its weight.
    """
    units = math.prod(pre_activations.shape[1:])
    signs = tf.reshape(soft_signs(pre_activations), (-1, units))
    return marginal_entropy_penalty(signs) + activation_correlation_penalty(signs)
