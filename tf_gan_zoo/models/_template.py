"""NAME: one sentence on what the paper's idea is.

    D maximises  E log D(x) + E log(1 - D(G(z))),   G maximises  E log D(G(z)).

Copy this file to models/NAME.py and change it from top to bottom; it runs as it is (a small GAN of dense
layers), and the tests run it. The README has the checklist.

Reference: authors, "title", venue and year, arXiv number; which tables and equations the numbers are from.

Departures: what differs from the paper, and why. "None" is the best entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import keras
import tensorflow as tf
from keras import layers

from tf_gan_zoo import losses
from tf_gan_zoo.batch_spec import BatchSpec, image_field
from tf_gan_zoo.config import (
    Channels,
    Config,
    ConfigError,
    ImageSize,
    PositiveFloat,
    PositiveInt,
    height_width,
)
from tf_gan_zoo.gan import AdversarialGAN
from tf_gan_zoo.registry import Paper, register


@dataclass(frozen=True, kw_only=True)
class TemplateConfig(Config):
    """The paper's setting. Fields that every model has (data, epochs, batch_size...) come from `Config`.

    Attributes:
        width: units of each hidden layer (table or section of the paper).
    """

    batch_size: PositiveInt = 64
    image_size: ImageSize = 28
    channels: Channels = 1
    latent_size: PositiveInt = 64
    latent_distribution: Literal["uniform", "normal"] = "normal"
    width: PositiveInt = 256
    learning_rate: PositiveFloat = 2e-4

    def validate(self) -> None:
        """What one field's type cannot say. Leave it out if there is nothing."""
        if min(height_width(self.image_size)) < 4:
            raise ConfigError(f"TemplateConfig.image_size: expected 4 or more pixels, got {self.image_size}.")


# A new model takes the decorator's name as its registry name. The smallest config that works goes into
# `tiny`: the contract suite trains with it.
@register(
    "_template",
    task="generation",
    paper=Paper("Title", "A. Author, B. Author", 2014, "0000.00000"),
    tiny={"image_size": 8, "width": 8, "latent_size": 4, "batch_size": 4},
)
class Template(AdversarialGAN):
    """One line; images are (batch, height, width, channels) in [-1, 1]."""

    config_cls = TemplateConfig

    def build_networks(self, config: TemplateConfig) -> dict[str, keras.Model]:
        return {"generator": build_generator(config), "discriminator": build_discriminator(config)}

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        # Keras's own epsilon is 1e-7; state that of the paper's code.
        return keras.optimizers.Adam(self.config.learning_rate, beta_1=0.5, epsilon=1e-8)

    @property
    def batch_spec(self) -> BatchSpec:
        return BatchSpec(images=image_field(height_width(self.config.image_size), self.config.channels))

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real = batch["images"]
        latents = self.latents("latents", tf.shape(real)[0])  # the same draw for any number of replicas
        with tf.GradientTape(persistent=True) as tape:
            fake = self.generator(latents, training=True)
            real_logits = self.discriminator(real, training=True)
            fake_logits = self.discriminator(fake, training=True)
            d_loss = losses.non_saturating_discriminator_loss(real_logits, fake_logits)
            g_loss = losses.non_saturating_generator_loss(fake_logits)
        self.update("discriminator", tape, d_loss)  # moves this player's variables and no others
        self.update("generator", tape, g_loss)
        return self.log(d_loss=d_loss, g_loss=g_loss)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real = batch["images"]
        fake = self.generator(self.latents("validation", tf.shape(real)[0]), training=False)
        real_logits, fake_logits = (self.discriminator(x, training=False) for x in (real, fake))
        return self.log(
            d_loss=losses.non_saturating_discriminator_loss(real_logits, fake_logits),
            g_loss=losses.non_saturating_generator_loss(fake_logits),
        )


def build_generator(config: TemplateConfig) -> keras.Model:
    """Latents (batch, latent_size) -> images (batch, height, width, channels) in [-1, 1]."""
    shape = (*height_width(config.image_size), config.channels)
    latents = keras.Input((config.latent_size,), name="latents")
    x = layers.Dense(config.width, activation="relu")(latents)
    x = layers.Dense(shape[0] * shape[1] * shape[2], activation="tanh", dtype="float32")(x)
    images = layers.Reshape(shape, dtype="float32", name="images")(x)
    return keras.Model(latents, images, name="generator")


def build_discriminator(config: TemplateConfig) -> keras.Model:
    """Images (batch, height, width, channels) -> logits (batch, 1)."""
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    x = layers.Dense(config.width)(layers.Flatten()(images))
    x = layers.LeakyReLU(0.2)(x)
    logits = layers.Dense(1, dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name="discriminator")
