"""GAN: a generator learns from a discriminator that learns to tell its samples from data.

    min_G max_D  V(D, G) = E log D(x) + E log(1 - D(G(z))).

For a fixed G the best D is p_data / (p_data + p_g); then V = -log 4 + 2 JSD(p_data || p_g), whose least value
-log 4 = -1.386 is reached when samples cannot be told from data and D is 1/2 everywhere (section 4.1). As G's
part of V is flat where D is sure, G maximises E log D(G(z)) instead (section 3): `loss="non_saturating"`.

Reference: I. Goodfellow, J. Pouget-Abadie, M. Mirza, B. Xu, D. Warde-Farley, S. Ozair, A. Courville, Y.
Bengio, "Generative Adversarial Nets", NIPS 2014, arXiv:1406.2661. Sizes, initial weights and schedule are
those of the authors' released code for MNIST: a ReLU generator, a maxout discriminator with dropout, no
normalisation; the last bias of G starts at the log-odds of the training pixels' means.

Departures: the momentum rises with every update instead of every epoch of 500; all 60,000 training pictures
are used, 10,000 of which the paper keeps for validation; real and generated pictures of a step pass through
one dropout mask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tf_gan_zoo.batch_spec import BatchSpec, image_field
from tf_gan_zoo.config import Channels, Config, Decay, ImageSize, PositiveFloat, PositiveInt, height_width
from tf_gan_zoo.gan import AdversarialGAN
from tf_gan_zoo.layers import Maxout, SeededDropout
from tf_gan_zoo.losses import non_saturating_discriminator_loss, non_saturating_generator_loss
from tf_gan_zoo.optimizers import rising_momentum_sgd
from tf_gan_zoo.registry import Paper, register

#: Batches whose mean gives the generator's first bias.
_NUM_BATCHES_FOR_MEAN = 100


@dataclass(frozen=True, kw_only=True)
class OriginalGANConfig(Config):
    """The paper's MNIST model.

    Attributes:
        latent_distribution: "uniform" latents come from [-1, 1]; the generator scales them to variance 1.
        hidden_size: units of each of G's two hidden layers.
        maxout_units: units of each of D's two hidden layers.
        maxout_pieces: linear functions per maxout unit.
        loss: what G descends: "non_saturating" -E log D(G(z)), or "minimax" E log(1 - D(G(z))).
        generator_scale: G's initial weights are uniform in +-this number; D's in +-`discriminator_scale`.
        learning_rate_divisor: divides the rate at every update, down to `min_learning_rate`.
        momentum: in the first epoch.
        final_momentum: from epoch `momentum_epochs` on; it rises in a straight line in between.
    """

    data: str = "tfds:mnist"
    batch_size: PositiveInt = 100
    epochs: PositiveInt = 250
    steps_per_epoch: PositiveInt | None = 500
    image_size: ImageSize = 28
    channels: Channels = 1
    latent_size: PositiveInt = 100
    latent_distribution: Literal["uniform", "normal"] = "uniform"
    hidden_size: PositiveInt = 1200
    maxout_units: PositiveInt = 240
    maxout_pieces: PositiveInt = 5
    input_dropout: Decay = 0.2
    hidden_dropout: Decay = 0.5
    loss: Literal["non_saturating", "minimax"] = "non_saturating"
    generator_scale: PositiveFloat = 0.05
    discriminator_scale: PositiveFloat = 0.005
    learning_rate: PositiveFloat = 0.1
    learning_rate_divisor: PositiveFloat = 1.000004
    min_learning_rate: PositiveFloat = 1e-6
    momentum: Decay = 0.5
    final_momentum: Decay = 0.7
    momentum_epochs: PositiveInt = 250


@register(
    "gan",
    task="generation",
    paper=Paper(
        "Generative Adversarial Nets",
        "I. Goodfellow, J. Pouget-Abadie, M. Mirza, B. Xu, D. Warde-Farley, S. Ozair, A. Courville, "
        "Y. Bengio", 2014, "1406.2661",
    ),
    tiny={
        "image_size": 8, "hidden_size": 16, "maxout_units": 4, "maxout_pieces": 3, "latent_size": 6,
        "generator_scale": 0.5, "discriminator_scale": 0.5, "batch_size": 4,
    },
)  # fmt: skip
class OriginalGAN(AdversarialGAN):
    """The GAN of 2014, all layers dense; images are (batch, height, width, channels) in [0, 1].

    The logged `value` is V(D, G): -1.386 where D cannot tell samples from data, 0 where it always can.
    """

    config_cls = OriginalGANConfig
    log_names = ("d_loss", "g_loss", "value")

    def build_networks(self, config: OriginalGANConfig) -> dict[str, keras.Model]:
        return {"generator": build_generator(config), "discriminator": build_discriminator(config)}

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        return rising_momentum_sgd(self.config)

    @property
    def batch_spec(self) -> BatchSpec:
        c = self.config
        return BatchSpec(images=image_field(height_width(c.image_size), c.channels, (0.0, 1.0)))

    def before_first_step(self, dataset: tf.data.Dataset) -> None:
        """Starts G at the pixels' means, unless its bias has been set by training or by hand."""
        bias = self.generator.get_layer("pixels").bias
        if not np.any(bias):
            batches = (self.named(batch)["images"] for batch in dataset.take(_NUM_BATCHES_FOR_MEAN))
            bias.assign(log_odds(np.mean([np.mean(images, axis=0) for images in batches], axis=0)))

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real = batch["images"]
        with tf.GradientTape(persistent=True) as tape:
            fake = self.generator(self.latents("latents", tf.shape(real)[0]), training=True)
            real_logits = self.discriminator(real, training=True)
            fake_logits = self.discriminator(fake, training=True)
            losses = self._objectives(real_logits, fake_logits)
        self.update("discriminator", tape, losses["d_loss"])  # both gradients come from the same point
        self.update("generator", tape, losses["g_loss"])
        return self.log(**losses)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        fake = self.generator(self.latents("validation", tf.shape(batch["images"])[0]), training=False)
        logits = (self.discriminator(images, training=False) for images in (batch["images"], fake))
        return self.log(**self._objectives(*logits))

    def _objectives(self, real_logits: tf.Tensor, fake_logits: tf.Tensor) -> dict[str, tf.Tensor]:
        cross_entropy = non_saturating_discriminator_loss(real_logits, fake_logits)  # -V
        minimax = self.config.loss == "minimax"
        generator_loss = minimax_generator_loss if minimax else non_saturating_generator_loss
        return {
            "d_loss": 0.5 * cross_entropy,
            "g_loss": generator_loss(fake_logits),
            "value": -cross_entropy,
        }


def minimax_generator_loss(fake_logits: tf.Tensor) -> tf.Tensor:
    """E log(1 - D(G(z))) with D = sigmoid(logits) (equation 1)."""
    return -tf.reduce_mean(tf.nn.softplus(tf.cast(fake_logits, tf.float32)))


def log_odds(means: np.ndarray) -> np.ndarray:
    """The biases, flat, with which sigmoid gives these means of pixels in [0, 1]."""
    means = np.clip(np.ravel(means).astype("float64"), 1e-7, 1 - 1e-7)
    return np.log(means / (1 - means)).astype("float32")


def build_generator(config: OriginalGANConfig) -> keras.Model:
    """Latents (batch, latent_size) -> images (batch, height, width, channels) in [0, 1]."""
    shape = (*height_width(config.image_size), config.channels)
    x = latents = keras.Input((config.latent_size,), name="latents")
    if config.latent_distribution == "uniform":
        x = layers.Rescaling(math.sqrt(3.0))(x)  # variance 1
    for _ in range(2):
        weights = _uniform(config.generator_scale)
        x = layers.Dense(config.hidden_size, activation="relu", kernel_initializer=weights)(x)
    weights = _uniform(config.generator_scale)
    x = layers.Dense(math.prod(shape), kernel_initializer=weights, name="pixels")(x)
    x = layers.Activation("sigmoid", dtype="float32")(x)
    return keras.Model(latents, layers.Reshape(shape, dtype="float32", name="images")(x), name="generator")


def build_discriminator(config: OriginalGANConfig) -> keras.Model:
    """Images (batch, height, width, channels) in [0, 1] -> logits (batch, 1)."""
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    x = SeededDropout(config.input_dropout)(layers.Flatten()(images))
    for _ in range(2):
        weights = _uniform(config.discriminator_scale)
        x = Maxout(config.maxout_units, config.maxout_pieces, kernel_initializer=weights)(x)
        x = SeededDropout(config.hidden_dropout)(x)
    weights = _uniform(config.discriminator_scale)
    logits = layers.Dense(1, kernel_initializer=weights, dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name="discriminator")


def _uniform(limit: float) -> keras.initializers.Initializer:
    return keras.initializers.RandomUniform(-limit, limit)
