"""Conditional GAN: both players are told the class.

    min_G max_D  E log D(x | y) + E log(1 - D(G(z | y) | y));  in practice G maximises E log D(G(z | y) | y).

A label enters either player as a vector with one 1, through a layer of its own that joins the layer of the
noise or of the picture; fakes get the labels of the batch, so they follow the data's distribution of classes.

Reference: M. Mirza, S. Osindero, "Conditional Generative Adversarial Nets", arXiv:1411.1784, 2014, section
4.1 (MNIST): sizes, learning rate, momentum and dropout.

Choices where the paper says nothing: initial weights U(-0.05, 0.05) in G and U(-0.005, 0.005) in D and half
the objective as D's loss, as in the code of the first GAN; dropout after every hidden layer of both players,
none on their inputs.

Departures: the momentum rises with every update; all 60,000 training pictures are used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import keras
import tensorflow as tf
from keras import layers
from pydantic import Field as Limits

from tf_gan_zoo.batch_spec import BatchSpec, image_field
from tf_gan_zoo.conditional import LabelledGAN
from tf_gan_zoo.config import Channels, Config, Decay, ImageSize, PositiveFloat, PositiveInt, height_width
from tf_gan_zoo.layers import Maxout, OneHot, SeededDropout
from tf_gan_zoo.losses import non_saturating_discriminator_loss as discriminator_loss
from tf_gan_zoo.losses import non_saturating_generator_loss as generator_loss
from tf_gan_zoo.optimizers import rising_momentum_sgd
from tf_gan_zoo.registry import Paper, register


@dataclass(frozen=True, kw_only=True)
class CGANConfig(Config):
    """The paper's MNIST model.

    Attributes:
        num_classes: labels are integers from 0 to num_classes - 1.
        latent_distribution: "uniform" latents come from [-1, 1]; the generator moves them to [0, 1].
        latent_units: G's hidden units of the noise.
        label_units: G's hidden units of the label.
        joint_units: G's hidden units of both.
        image_maxout: (units, pieces) of D's layer of the picture; `label_maxout` and `joint_maxout` likewise.
        dropout: in both players, after hidden layers.
        generator_scale: G's initial weights are uniform in +-this number; D's in +-`discriminator_scale`.
        learning_rate_divisor: divides the rate at every update, down to `min_learning_rate`.
        momentum: in the first epoch.
        final_momentum: from epoch `momentum_epochs` on; it rises in a straight line in between.
    """

    data: str = "tfds:mnist"
    batch_size: PositiveInt = 100
    epochs: PositiveInt = 250
    steps_per_epoch: PositiveInt | None = 600
    image_size: ImageSize = 28
    channels: Channels = 1
    num_classes: Annotated[int, Limits(ge=2)] = 10
    latent_size: PositiveInt = 100
    latent_distribution: Literal["uniform", "normal"] = "uniform"
    latent_units: PositiveInt = 200
    label_units: PositiveInt = 1000
    joint_units: PositiveInt = 1200
    image_maxout: tuple[PositiveInt, PositiveInt] = (240, 5)
    label_maxout: tuple[PositiveInt, PositiveInt] = (50, 5)
    joint_maxout: tuple[PositiveInt, PositiveInt] = (240, 4)
    dropout: Decay = 0.5
    generator_scale: PositiveFloat = 0.05
    discriminator_scale: PositiveFloat = 0.005
    learning_rate: PositiveFloat = 0.1
    learning_rate_divisor: PositiveFloat = 1.00004
    min_learning_rate: PositiveFloat = 1e-6
    momentum: Decay = 0.5
    final_momentum: Decay = 0.7
    momentum_epochs: PositiveInt = 250


@register(
    "cgan",
    task="generation",
    paper=Paper("Conditional Generative Adversarial Nets", "M. Mirza, S. Osindero", 2014, "1411.1784"),
    tiny={
        "image_size": 8, "num_classes": 3, "latent_size": 6, "latent_units": 8, "label_units": 8,
        "joint_units": 16, "image_maxout": (4, 3), "label_maxout": (3, 2), "joint_maxout": (4, 2),
        "generator_scale": 0.5, "discriminator_scale": 0.5, "batch_size": 4,
    },
)  # fmt: skip
class CGAN(LabelledGAN):
    """GAN of dense layers with classes; images are (batch, height, width, channels) in [0, 1].

        model.generate(10, labels=range(10))   # one picture of every class
        model.generate(8, labels=3)            # eight of one

    Batches have "images" and "labels", int32 (batch,).
    """

    config_cls = CGANConfig

    def build_networks(self, config: CGANConfig) -> dict[str, keras.Model]:
        return {"generator": build_generator(config), "discriminator": build_discriminator(config)}

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        return rising_momentum_sgd(self.config)

    @property
    def batch_spec(self) -> BatchSpec:
        c = self.config
        images = image_field(height_width(c.image_size), c.channels, (0.0, 1.0))
        return BatchSpec(images=images, **self.label_field())

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real, labels = batch["images"], batch["labels"]
        latents = self.latents("latents", tf.shape(real)[0])
        with tf.GradientTape(persistent=True) as tape:
            fake = self.generator({"latents": latents, "labels": labels}, training=True)
            real_logits = self.discriminator({"images": real, "labels": labels}, training=True)
            fake_logits = self.discriminator({"images": fake, "labels": labels}, training=True)
            d_loss = 0.5 * discriminator_loss(real_logits, fake_logits)
            g_loss = generator_loss(fake_logits)
        self.update("discriminator", tape, d_loss)
        self.update("generator", tape, g_loss)
        return self.log(d_loss=d_loss, g_loss=g_loss)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        labels = batch["labels"]
        latents = self.latents("validation", tf.shape(labels)[0])
        fake = self.generator({"latents": latents, "labels": labels}, training=False)
        real_logits, fake_logits = (
            self.discriminator({"images": images, "labels": labels}, training=False)
            for images in (batch["images"], fake)
        )
        return self.log(
            d_loss=0.5 * discriminator_loss(real_logits, fake_logits), g_loss=generator_loss(fake_logits)
        )


def build_generator(config: CGANConfig) -> keras.Model:
    """{"latents" (batch, latent_size), "labels" (batch,)} -> images in [0, 1]."""
    shape = (*height_width(config.image_size), config.channels)
    latents = keras.Input((config.latent_size,), name="latents")
    labels = keras.Input((), dtype="int32", name="labels")
    noise = layers.Rescaling(0.5, 0.5)(latents) if config.latent_distribution == "uniform" else latents
    branches = [
        _dense_relu(noise, config.latent_units, config),
        _dense_relu(OneHot(config.num_classes)(labels), config.label_units, config),
    ]
    x = _dense_relu(layers.Concatenate()(branches), config.joint_units, config)
    x = layers.Dense(math.prod(shape), kernel_initializer=_uniform(config.generator_scale))(x)
    x = layers.Activation("sigmoid", dtype="float32")(x)
    images = layers.Reshape(shape, dtype="float32", name="images")(x)
    return keras.Model({"latents": latents, "labels": labels}, images, name="generator")


def build_discriminator(config: CGANConfig) -> keras.Model:
    """{"images" (batch, height, width, channels) in [0, 1], "labels" (batch,)} -> logits (batch, 1)."""
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    labels = keras.Input((), dtype="int32", name="labels")
    branches = [
        _maxout(layers.Flatten()(images), config.image_maxout, config),
        _maxout(OneHot(config.num_classes)(labels), config.label_maxout, config),
    ]
    x = _maxout(layers.Concatenate()(branches), config.joint_maxout, config)
    initializer = _uniform(config.discriminator_scale)
    logits = layers.Dense(1, kernel_initializer=initializer, dtype="float32", name="logits")(x)
    return keras.Model({"images": images, "labels": labels}, logits, name="discriminator")


def _dense_relu(x: keras.KerasTensor, units: int, config: CGANConfig) -> keras.KerasTensor:
    initializer = _uniform(config.generator_scale)
    x = layers.Dense(units, activation="relu", kernel_initializer=initializer)(x)
    return SeededDropout(config.dropout)(x)


def _maxout(x: keras.KerasTensor, sizes: tuple[int, int], config: CGANConfig) -> keras.KerasTensor:
    x = Maxout(*sizes, kernel_initializer=_uniform(config.discriminator_scale))(x)
    return SeededDropout(config.dropout)(x)


def _uniform(limit: float) -> keras.initializers.Initializer:
    return keras.initializers.RandomUniform(-limit, limit)
