"""DCGAN: design rules that made convolutional GANs train.

    D maximises  E log D(x) + E log(1 - D(G(z))),   G maximises  E log D(G(z)).

Strided convolutions instead of pooling, batch normalisation everywhere but at G's output and D's input, no
hidden dense layers, ReLU in G with tanh at the end, LeakyReLU(0.2) in D.

Reference: A. Radford, L. Metz, S. Chintala, "Unsupervised Representation Learning with Deep Convolutional
Generative Adversarial Networks", ICLR 2016, arXiv:1511.06434. Sizes are those of the authors' code
(Newmu/dcgan_code), by the numbers of their weights, 18,885,760 in G and 17,232,768 in D: width 128, 5x5
kernels, no convolution biases, the first batch normalisation over the flat units.

Departures: D and G train on every batch and share its fakes (the released code alternates batches); no L2
weight penalty (1e-5 in the released code); Keras pads "same" where the code pads symmetrically.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import keras
import tensorflow as tf
from keras import layers

from tf_gan_zoo.batch_spec import BatchSpec, image_field
from tf_gan_zoo.config import (
    Channels,
    Config,
    ConfigError,
    Decay,
    ImageSize,
    PositiveFloat,
    PositiveInt,
    height_width,
    num_halvings,
)
from tf_gan_zoo.gan import AdversarialGAN
from tf_gan_zoo.losses import (
    non_saturating_discriminator_loss as discriminator_loss,
)
from tf_gan_zoo.losses import (
    non_saturating_generator_loss as generator_loss,
)
from tf_gan_zoo.registry import Paper, register


@dataclass(frozen=True, kw_only=True)
class DCGANConfig(Config):
    """The paper's 64x64 model.

    Attributes:
        image_size: sides that can be halved down to 4..7 pixels: 28, 32, 48, 64, 96, 128...
        width: channels of D's first layer; they double with every halving of the picture.
        biases: "none" (authors' code), "unnormalized" (only where no batch norm follows) or "all".
        flat_norm: first batch norm over all units of the projection instead of its channels.
    """

    data: str = "tfds:celeb_a"
    batch_size: PositiveInt = 128
    epochs: PositiveInt = 25
    image_size: ImageSize = 64
    channels: Channels = 3
    latent_size: PositiveInt = 100
    latent_distribution: Literal["uniform", "normal"] = "uniform"
    width: PositiveInt = 128
    kernel_size: PositiveInt = 5
    biases: Literal["none", "unnormalized", "all"] = "none"
    flat_norm: bool = True
    learning_rate: PositiveFloat = 2e-4
    beta_1: Decay = 0.5
    beta_2: Decay = 0.999

    def validate(self) -> None:
        if min(self.base_size) < 4 or self.num_halvings < 1:
            raise ConfigError(
                f"DCGANConfig.image_size: {self.image_size} cannot be halved to 4 or more pixels. "
                "Use sides such as 28, 32, 48, 64, 96 or 128."
            )

    @property
    def num_halvings(self) -> int:
        """How often both sides can be halved without falling below 4 pixels."""
        return num_halvings(self.image_size)

    @property
    def base_size(self) -> tuple[int, int]:
        """(height, width) of the smallest feature map, 4x4 for 64x64 pictures."""
        return tuple(side >> self.num_halvings for side in height_width(self.image_size))


@register(
    "dcgan",
    task="generation",
    paper=Paper(
        "Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks",
        "A. Radford, L. Metz, S. Chintala", 2016, "1511.06434",
    ),
    tiny={"image_size": 16, "width": 8, "latent_size": 8, "batch_size": 4},
)  # fmt: skip
class DCGAN(AdversarialGAN):
    """Deep convolutional GAN; images are (batch, height, width, channels) in [-1, 1]."""

    config_cls = DCGANConfig

    def build_networks(self, config: DCGANConfig) -> dict[str, keras.Model]:
        return {"generator": build_generator(config), "discriminator": build_discriminator(config)}

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c = self.config
        return keras.optimizers.Adam(c.learning_rate, beta_1=c.beta_1, beta_2=c.beta_2, epsilon=1e-8)

    @property
    def batch_spec(self) -> BatchSpec:
        return BatchSpec(images=image_field(height_width(self.config.image_size), self.config.channels))

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real = batch["images"]
        with tf.GradientTape() as g_tape:
            fake = self.generator(self.latents("latents", tf.shape(real)[0]), training=True)
            with g_tape.stop_recording(), tf.GradientTape() as d_tape:
                real_logits = self.discriminator(real, training=True)
                fake_logits = self.discriminator(fake, training=True)
                d_loss = discriminator_loss(real_logits, fake_logits)
            with g_tape.stop_recording():
                self.update("discriminator", d_tape, d_loss)
            g_loss = generator_loss(self.discriminator(fake, training=True))
        self.update("generator", g_tape, g_loss)
        return self.log(d_loss=d_loss, g_loss=g_loss)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        fake = self.generator(self.latents("validation", tf.shape(batch["images"])[0]), training=False)
        fake_logits = self.discriminator(fake, training=False)
        d_loss = discriminator_loss(self.discriminator(batch["images"], training=False), fake_logits)
        return self.log(d_loss=d_loss, g_loss=generator_loss(fake_logits))


def build_generator(config: DCGANConfig) -> keras.Model:
    """Latents (batch, latent_size) -> images (batch, height, width, channels) in [-1, 1]."""
    (height, width), top = config.base_size, config.width << (config.num_halvings - 1)
    latents = keras.Input((config.latent_size,), name="latents")
    x = layers.Dense(height * width * top, **_weights(config, normalized=True))(latents)
    x = _norm(config)(x) if config.flat_norm else x
    x = layers.Reshape((height, width, top))(x)
    x = x if config.flat_norm else _norm(config)(x)
    x = layers.ReLU()(x)
    for k in range(1, config.num_halvings):
        x = layers.Conv2DTranspose(top >> k, config.kernel_size, 2, "same", **_weights(config, True))(x)
        x = layers.ReLU()(_norm(config)(x))
    x = layers.Conv2DTranspose(
        config.channels, config.kernel_size, 2, "same", **_weights(config, normalized=False)
    )(x)
    images = layers.Activation("tanh", dtype="float32", name="images")(x)
    return keras.Model(latents, images, name="generator")


def build_discriminator(config: DCGANConfig) -> keras.Model:
    """Images (batch, height, width, channels) -> logits (batch, 1)."""
    x = images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    for k in range(config.num_halvings):
        x = layers.Conv2D(config.width << k, config.kernel_size, 2, "same", **_weights(config, k > 0))(x)
        x = layers.LeakyReLU(0.2)(_norm(config)(x) if k else x)
    x = layers.Flatten()(x)
    logits = layers.Dense(1, dtype="float32", name="logits", **_weights(config, normalized=False))(x)
    return keras.Model(images, logits, name="discriminator")


def _weights(config: DCGANConfig, normalized: bool) -> dict[str, Any]:
    """Initial weights N(0, 0.02), and whether a layer has a bias."""
    use_bias = config.biases == "all" or (config.biases == "unnormalized" and not normalized)
    return {"kernel_initializer": keras.initializers.RandomNormal(0.0, 0.02), "use_bias": use_bias}


def _norm(config: DCGANConfig) -> layers.Layer:
    return layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, synchronized=config.sync_batch_norm,
        gamma_initializer=keras.initializers.RandomNormal(1.0, 0.02),
    )  # fmt: skip
