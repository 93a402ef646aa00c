"""Adversarial losses as pure functions of logits, in pairs `x_generator_loss`, `x_discriminator_loss`.

Logits may have any shape (a PatchGAN gives a map); every loss is their mean, a float32 scalar.
"""

from __future__ import annotations

import tensorflow as tf


def non_saturating_generator_loss(fake_logits: tf.Tensor) -> tf.Tensor:
    """-E log D(G(z)) with D = sigmoid(logits) (Goodfellow et al. 2014, section 3)."""
    return tf.reduce_mean(tf.nn.softplus(-tf.cast(fake_logits, tf.float32)))


def non_saturating_discriminator_loss(real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
    """-E log D(x) - E log(1 - D(G(z))) with D = sigmoid(logits) (Goodfellow et al. 2014, equation 1)."""
    real, fake = tf.cast(real_logits, tf.float32), tf.cast(fake_logits, tf.float32)
    return tf.reduce_mean(tf.nn.softplus(-real)) + tf.reduce_mean(tf.nn.softplus(fake))


def wasserstein_generator_loss(fake_scores: tf.Tensor) -> tf.Tensor:
    """-E f(G(z)) (Arjovsky et al. 2017, equation 3)."""
    return -tf.reduce_mean(tf.cast(fake_scores, tf.float32))


def wasserstein_discriminator_loss(real_scores: tf.Tensor, fake_scores: tf.Tensor) -> tf.Tensor:
    """E f(G(z)) - E f(x), minus the estimated Wasserstein distance (Arjovsky et al. 2017, equation 2)."""
    real, fake = tf.cast(real_scores, tf.float32), tf.cast(fake_scores, tf.float32)
    return tf.reduce_mean(fake) - tf.reduce_mean(real)


def least_squares_generator_loss(fake_logits: tf.Tensor) -> tf.Tensor:
    """E (D(G(z)) - 1)^2 (Mao et al. 2017 with c = 1, without the factor 1/2)."""
    return tf.reduce_mean(tf.square(tf.cast(fake_logits, tf.float32) - 1.0))


def least_squares_discriminator_loss(real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
    """E (D(x) - 1)^2 + E D(G(z))^2 (Mao et al. 2017 with a = 0, b = 1, without the factor 1/2)."""
    real, fake = tf.cast(real_logits, tf.float32), tf.cast(fake_logits, tf.float32)
    return tf.reduce_mean(tf.square(real - 1.0)) + tf.reduce_mean(tf.square(fake))


def hinge_generator_loss(fake_logits: tf.Tensor) -> tf.Tensor:
    """-E D(G(z)) (Lim and Ye 2017; Miyato et al. 2018, equation 17)."""
    return -tf.reduce_mean(tf.cast(fake_logits, tf.float32))


def hinge_discriminator_loss(real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
    """E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))) (Lim and Ye 2017; Miyato et al. 2018, equation 16)."""
    real, fake = tf.cast(real_logits, tf.float32), tf.cast(fake_logits, tf.float32)
    return tf.reduce_mean(tf.nn.relu(1.0 - real)) + tf.reduce_mean(tf.nn.relu(1.0 + fake))
