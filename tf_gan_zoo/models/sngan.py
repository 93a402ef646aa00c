"""SNGAN: a discriminator whose every layer has Lipschitz constant 1, told classes by an inner product.

    D minimises  E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))),   G minimises  -E D(G(z)),
    with each weight W of D used as W / sigma(W), sigma its largest singular value.

One step of the power iteration per pass through D keeps track of sigma (`layers/spectral_norm.py`); D has no
batch normalisation. With classes (`num_classes`) this is the projection discriminator:

    D(x, y) = <v_y, phi(x)> + psi(phi(x)),

where phi(x) are D's features summed over the picture and v_y is a learned vector per class, and G's batch
normalisations have a gain and a bias per class.

Each training step takes five fresh batches: five updates of D, then one of G.

References: T. Miyato, T. Kataoka, M. Koyama, Y. Yoshida, "Spectral Normalization for Generative Adversarial
Networks", ICLR 2018, arXiv:1802.05957, tables 1 and 3 to 5; T. Miyato, M. Koyama, "cGANs with Projection
Discriminator", ICLR 2018, arXiv:1802.05637. Initial weights, dequantisation, batch norm and which dense layer
has no bias are those of the authors' code (pfnet-research/sngan_projection; tests compare the numbers of
resblocks.py and resnet_small.py with G's, and D's sizes with the papers'). Variants, as settings:

    ResNet, CIFAR-10       the defaults
    ResNet, STL-10         image_size 48, generator_widths 512 256 128 64, discriminator_widths 64 128 256 512
                           1024, num_halvings 4, output_bias
    ResNet, ImageNet 128   image_size 128, generator_widths 1024 1024 512 256 128 64, discriminator_widths 64
                           128 256 512 1024 1024, num_halvings 5, output_bias, num_classes 1000
    CNN, 32 or 48          architecture cnn, generator_widths 512 256 128 64, discriminator_widths 64 128 256
                           512, output_bias, generator_batch_multiplier 1, linear_decay false; optimisers by
                           table 1's rows, C being learning_rate 2e-4, beta_1 0.5, beta_2 0.999, n_critic 1

Departure: D's learning rate falls with each of its own updates, not once per generator update.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Annotated, Literal

import keras
import tensorflow as tf
from keras import layers
from pydantic import Field as Limits

from tf_gan_zoo import losses
from tf_gan_zoo.batch_spec import BatchSpec, image_field
from tf_gan_zoo.conditional import LabelledGAN, network_inputs, network_of
from tf_gan_zoo.config import (
    Channels,
    Config,
    ConfigError,
    Decay,
    ImageSize,
    PositiveFloat,
    PositiveInt,
    Repeats,
    height_width,
)
from tf_gan_zoo.layers import SpectralNormalization
from tf_gan_zoo.networks import residual
from tf_gan_zoo.registry import Paper, register
from tf_gan_zoo.schedules import LinearDecay

Widths = Annotated[tuple[PositiveInt, ...], Limits(min_length=2)]
_LOSSES = {
    "hinge": (losses.hinge_generator_loss, losses.hinge_discriminator_loss),
    "non_saturating": (losses.non_saturating_generator_loss, losses.non_saturating_discriminator_loss),
}


@dataclass(frozen=True, kw_only=True)
class SNGANConfig(Config):
    """The paper's residual networks for CIFAR-10, without classes.

    Attributes:
        image_size: halved once for each of `generator_widths` but the first.
        num_classes: labels are integers from 0 to num_classes - 1; None trains without labels.
        architecture: "resnet" or "cnn", the plain convolutional networks of table 3.
        generator_widths: channels of the smallest feature map, then of each layer that doubles it.
        discriminator_widths: channels of each residual block; of "cnn", of each size of the picture.
        num_halvings: D's first residual blocks halve the picture, so many; "cnn" always halves thrice.
        output_bias: D's last layer has a bias.
        n_critic: updates of D, each on its own batch, per update of G.
        generator_batch_multiplier: examples in an update of G per example in an update of D.
        linear_decay: learning rates fall to 0 over the run's generator updates, from `decay_start` on.
        dequantize: noise of one gray level on real pictures, which come as 256 levels.
    """

    data: str = "tfds:cifar10"
    batch_size: PositiveInt = 64
    epochs: PositiveInt = 50
    steps_per_epoch: PositiveInt | None = 1000
    image_size: ImageSize = 32
    channels: Channels = 3
    num_classes: Annotated[int, Limits(ge=2)] | None = None
    latent_size: PositiveInt = 128
    latent_distribution: Literal["normal", "uniform"] = "normal"
    architecture: Literal["resnet", "cnn"] = "resnet"
    generator_widths: Widths = (256, 256, 256, 256)
    discriminator_widths: Widths = (128, 128, 128, 128)
    num_halvings: PositiveInt = 2
    output_bias: bool = False
    loss: Literal["hinge", "non_saturating"] = "hinge"
    n_critic: Repeats = 5
    generator_batch_multiplier: Repeats = 2
    dequantize: bool = True
    learning_rate: PositiveFloat = 2e-4
    linear_decay: bool = True
    decay_start: Annotated[int, Limits(ge=0)] = 0
    beta_1: Decay = 0.0
    beta_2: Decay = 0.9

    def validate(self) -> None:
        if self.num_halvings > len(self.discriminator_widths):
            raise ConfigError(
                f"SNGANConfig.num_halvings: D has {len(self.discriminator_widths)} blocks, which cannot "
                f"halve {self.num_halvings} times. Lower num_halvings or widen discriminator_widths."
            )
        halvings = self.num_halvings if self.architecture == "resnet" else len(self.discriminator_widths) - 1
        doublings = len(self.generator_widths) - 1
        unit = 2 ** max(halvings, doublings)
        if any(side % unit for side in height_width(self.image_size)):
            raise ConfigError(
                f"SNGANConfig.image_size: {doublings} doublings in G and {halvings} halvings in D take "
                f"multiples of {unit}, got {self.image_size}. Change image_size, generator_widths or "
                "num_halvings."
            )
        if self.linear_decay and self.decay_start >= self.total_steps:
            raise ConfigError(
                f"SNGANConfig.decay_start: the run has {self.total_steps} steps, got {self.decay_start}. "
                "Lower decay_start, or set linear_decay=False."
            )

    @property
    def base_size(self) -> tuple[int, int]:
        """(height, width) of G's smallest feature map, 4x4 for 32x32 pictures."""
        return tuple(side >> len(self.generator_widths) - 1 for side in height_width(self.image_size))


@register(
    "sngan",
    task="generation",
    paper=Paper(
        "Spectral Normalization for Generative Adversarial Networks",
        "T. Miyato, T. Kataoka, M. Koyama, Y. Yoshida", 2018, "1802.05957",
    ),
    tiny={
        "image_size": 8, "generator_widths": (8, 8), "discriminator_widths": (8, 8), "num_halvings": 1,
        "num_classes": 3, "latent_size": 6, "batch_size": 4, "n_critic": 2,
    },
)  # fmt: skip
class SNGAN(LabelledGAN):
    """GAN with spectral normalisation in D; images are (batch, height, width, channels) in [-1, 1].

    With `num_classes` batches have "labels", int32 (batch,), and `generate` takes labels=.
    """

    config_cls = SNGANConfig

    def build_networks(self, config: SNGANConfig) -> dict[str, keras.Model]:
        return {"generator": build_generator(config), "discriminator": build_discriminator(config)}

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c = self.config
        rate = c.learning_rate
        if c.linear_decay:
            updates = c.n_critic if player == "discriminator" else 1
            rate = LinearDecay(rate, updates * c.decay_start, updates * (c.total_steps - c.decay_start))
        return keras.optimizers.Adam(rate, beta_1=c.beta_1, beta_2=c.beta_2, epsilon=1e-8)

    @property
    def batch_spec(self) -> BatchSpec:
        images = image_field(height_width(self.config.image_size), self.config.channels)
        return BatchSpec(images=images, **self.label_field())

    @property
    def batches_per_step(self) -> int:
        return self.config.n_critic

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        generator_loss, _ = _LOSSES[self.config.loss]
        batches = self.split_batch(batch)
        d_losses = [self._update_discriminator(b, f"update {k}") for k, b in enumerate(batches)]
        count = self.config.generator_batch_multiplier * tf.shape(batches[0]["images"])[0]
        with tf.GradientTape() as tape:
            fake, labels = self.fakes("generator", count, training=True)
            g_loss = generator_loss(self.logits(fake, labels, training=True))
        self.update("generator", tape, g_loss)
        return self.log(d_loss=tf.reduce_mean(d_losses), g_loss=g_loss)

    def _update_discriminator(self, batch: dict[str, tf.Tensor], purpose: str) -> tf.Tensor:
        _, discriminator_loss = _LOSSES[self.config.loss]
        real = self._dequantized(batch["images"], purpose)
        fake, labels = self.fakes(purpose, tf.shape(real)[0], training=True)
        with tf.GradientTape() as tape:
            real_logits = self.logits(real, batch.get("labels"), training=True)
            loss = discriminator_loss(real_logits, self.logits(fake, labels, training=True))
        self.update("discriminator", tape, loss)
        return loss

    def _dequantized(self, images: tf.Tensor, purpose: str) -> tf.Tensor:
        """Pictures of 256 levels -> pictures that may have any value of the range."""
        if not self.config.dequantize:
            return images
        shape = (tf.shape(images)[0], *images.shape[1:])
        noise = self.random_uniform(f"dequantization of {purpose}", shape)
        return ((images + 1.0) * 127.5 + noise) / 128.0 - 1.0

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        generator_loss, discriminator_loss = _LOSSES[self.config.loss]
        fake, labels = self.fakes("validation", tf.shape(batch["images"])[0], training=False)
        real_logits = self.logits(batch["images"], batch.get("labels"), training=False)
        fake_logits = self.logits(fake, labels, training=False)
        d_loss = discriminator_loss(real_logits, fake_logits)
        return self.log(d_loss=d_loss, g_loss=generator_loss(fake_logits))


def build_generator(config: SNGANConfig) -> keras.Model:
    """Latents (batch, latent_size), with classes {"latents", "labels" (batch,)} -> images in [-1, 1]."""
    inputs = network_inputs(config.num_classes, latents=(config.latent_size,))
    (height, width), first = config.base_size, config.generator_widths[0]
    x = layers.Dense(height * width * first, kernel_initializer=_initializer(config))(inputs["latents"])
    x = layers.Reshape((height, width, first))(x)
    grow = _resnet_grown if config.architecture == "resnet" else _cnn_grown
    x = grow(x, inputs.get("labels"), config)
    x = layers.Conv2D(config.channels, 3, padding="same", kernel_initializer=_initializer(config))(x)
    return network_of(inputs, layers.Activation("tanh", dtype="float32", name="images")(x), "generator")


def _resnet_grown(
    x: keras.KerasTensor, labels: keras.KerasTensor | None, config: SNGANConfig
) -> keras.KerasTensor:
    for filters in config.generator_widths[1:]:
        x = residual.up_block(x, filters, functools.partial(_conv, config), _norm(config, labels))
    return layers.ReLU()(_norm(config, None)(x))


def _cnn_grown(
    x: keras.KerasTensor, labels: keras.KerasTensor | None, config: SNGANConfig
) -> keras.KerasTensor:
    for filters in config.generator_widths[1:]:
        x = layers.Conv2DTranspose(filters, 4, 2, "same", kernel_initializer=_initializer(config))(x)
        x = layers.ReLU()(_norm(config, labels)(x))
    return x


def build_discriminator(config: SNGANConfig) -> keras.Model:
    """Images (batch, height, width, channels), with classes {"images", "labels"} -> logits (batch, 1)."""
    shape = (*height_width(config.image_size), config.channels)
    inputs = network_inputs(config.num_classes, images=shape)
    features = _resnet_features if config.architecture == "resnet" else _cnn_features
    logits = residual.projected_logits(
        features(inputs["images"], config), inputs.get("labels"), config.num_classes, config.output_bias
    )
    return network_of(inputs, logits, "discriminator")


def _resnet_features(images: keras.KerasTensor, config: SNGANConfig) -> keras.KerasTensor:
    """Residual blocks, then sums over the picture (batch, discriminator_widths[-1])."""
    first, *rest = config.discriminator_widths
    conv = functools.partial(_normalized_conv, config)
    x = residual.first_down_block(images, first, conv)
    for index, filters in enumerate(rest, start=1):
        halves = index < config.num_halvings
        x = residual.down_block(x, filters, conv, hidden=x.shape[-1], downsample=halves)
    return residual.sum_pooled(x)


def _cnn_features(images: keras.KerasTensor, config: SNGANConfig) -> keras.KerasTensor:
    """A 3x3 convolution per size of the picture and a 4x4 one to halve it; all units of the last map."""
    x, (*widths, last) = images, config.discriminator_widths
    for filters in widths:
        x = layers.LeakyReLU(0.1)(_normalized_conv(config, filters, 3)(x))
        x = layers.LeakyReLU(0.1)(_normalized_conv(config, filters, 4, strides=2)(x))
    x = layers.LeakyReLU(0.1)(_normalized_conv(config, last, 3)(x))
    return layers.Flatten(dtype="float32")(x)


def _normalized_conv(config: SNGANConfig, filters: int, kernel_size: int, strides: int = 1) -> layers.Layer:
    return SpectralNormalization(_conv(config, filters, kernel_size, strides))


def _conv(config: SNGANConfig, filters: int, kernel_size: int, strides: int = 1) -> layers.Layer:
    # Larger weights in the branches of residual blocks; 1x1 convolutions are shortcuts.
    initializer = _initializer(config, gain=1.0 if kernel_size == 1 else math.sqrt(2.0))
    return layers.Conv2D(filters, kernel_size, strides, "same", kernel_initializer=initializer)


def _initializer(config: SNGANConfig, gain: float = 1.0) -> keras.initializers.Initializer:
    """Glorot's uniform weights times `gain`; normal ones with deviation 0.02 for "cnn"."""
    if config.architecture == "cnn":
        return keras.initializers.RandomNormal(0.0, 0.02)
    return keras.initializers.VarianceScaling(gain**2, "fan_avg", "uniform")


def _norm(config: SNGANConfig, labels: keras.KerasTensor | None) -> residual.Norm:
    return residual.class_norm(
        labels, config.num_classes, momentum=0.9, epsilon=2e-5, synchronized=config.sync_batch_norm
    )
