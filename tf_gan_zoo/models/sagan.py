"""SAGAN: every pixel of one feature map sees all others, in G and in D.

    y = x + gamma * attention(x),   gamma = 0 at first,
    D minimises  E max(0, 1 - D(x, y)) + E max(0, 1 + D(G(z, y), y)),   G minimises  -E D(G(z, y), y).

Convolutions are local; the attention (`layers/self_attention.py`) lets distant parts of a picture agree. Two
more things keep the training stable: spectral normalisation of all weights of both players, and a learning
rate of D four times that of G, which makes one update of D per update of G enough. Classes enter as in SNGAN:
G's batch normalisations have a gain and a bias per class, D adds the inner product of a class's vector and
its features.

Reference: H. Zhang, I. Goodfellow, D. Metaxas, A. Odena, "Self-Attention Generative Adversarial Networks",
ICML 2019, arXiv:1805.08318. Compared with the authors' code (brain-research/self-attention-gan; ops.py,
non_local.py, generator.py, discriminator.py): blocks and their filters, pooled keys and values of the
attention, no biases there, Glorot's uniform weights, no biases at first, epsilons. Where the attention sits
is `attention_size`: 64 pixels there and in the paper's final results, 32 does as well (table 1). The second
moment's decay is the paper's 0.9 (the code leaves it at 0.999).

Choices where the paper says nothing: fakes of a step serve both updates. Departure: samples are normalised
by moving averages (momentum 0.9), so that none depends on the others; the code keeps none, and normalises
samples by the batch that they are drawn in.

Memory: one step of the 128x128 networks with a batch of 2 peaks at 3.0 GiB on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from pydantic import Field as Limits

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
    height_width,
)
from tf_gan_zoo.layers import SelfAttention, SpectralNormalization
from tf_gan_zoo.losses import hinge_discriminator_loss as discriminator_loss
from tf_gan_zoo.losses import hinge_generator_loss as generator_loss
from tf_gan_zoo.networks import residual
from tf_gan_zoo.registry import Paper, register

Widths = Annotated[tuple[PositiveInt, ...], Limits(min_length=2)]


@dataclass(frozen=True, kw_only=True)
class SAGANConfig(Config):
    """The paper's networks for 128x128 pictures of ImageNet.

    Attributes:
        image_size: halved once for each of `generator_widths` but the first.
        num_classes: labels are integers from 0 to num_classes - 1; None trains without labels.
        generator_widths: channels of the smallest feature map, then of each block that doubles it.
        discriminator_widths: channels of each block.
        num_halvings: D's first blocks halve the picture, so many.
        attention_size: height in pixels of the feature maps with self-attention, one in G and one in D; None
            leaves it out.
        learning_rate: of G; `discriminator_learning_rate` is D's.
        ema_decay: keep averaged weights of G to sample from; None, as in the paper, keeps none.
    """

    data: str = "tfds:imagenet2012"
    batch_size: PositiveInt = 256
    epochs: PositiveInt = 1000
    steps_per_epoch: PositiveInt | None = 1000
    image_size: ImageSize = 128
    channels: Channels = 3
    num_classes: Annotated[int, Limits(ge=2)] | None = 1000
    latent_size: PositiveInt = 128
    latent_distribution: Literal["normal", "uniform"] = "normal"
    generator_widths: Widths = (1024, 1024, 512, 256, 128, 64)
    discriminator_widths: Widths = (64, 128, 256, 512, 1024, 1024)
    num_halvings: PositiveInt = 5
    attention_size: PositiveInt | None = 64
    learning_rate: PositiveFloat = 1e-4
    discriminator_learning_rate: PositiveFloat = 4e-4
    beta_1: Decay = 0.0
    beta_2: Decay = 0.9
    ema_decay: Decay | None = None

    def validate(self) -> None:
        if self.num_halvings > len(self.discriminator_widths):
            raise ConfigError(
                f"SAGANConfig.num_halvings: D has {len(self.discriminator_widths)} blocks, which cannot "
                f"halve {self.num_halvings} times. Lower num_halvings or add to discriminator_widths."
            )
        unit = 2 ** max(self.num_halvings, len(self.generator_widths) - 1)
        height, width = height_width(self.image_size)
        if height % unit or width % unit:
            raise ConfigError(
                f"SAGANConfig.image_size: expected multiples of {unit}, which G's blocks and num_halvings "
                f"need, got {self.image_size}. Change image_size, generator_widths or num_halvings."
            )
        of_both = sorted({height >> k for k in range(1, self.num_halvings + 1)} & set(self.heights))
        if self.attention_size not in (None, *of_both):
            raise ConfigError(
                f"SAGANConfig.attention_size: G and D both have feature maps of {of_both} pixels, "
                f"got {self.attention_size}. Choose one of these, or None."
            )

    @property
    def heights(self) -> tuple[int, ...]:
        """Heights of G's feature maps behind each block."""
        height, _ = height_width(self.image_size)
        return tuple(height >> k for k in reversed(range(len(self.generator_widths) - 1)))

    @property
    def base_size(self) -> tuple[int, int]:
        """(height, width) of G's smallest feature map, 4x4 for 128x128 pictures."""
        return tuple(side >> len(self.heights) for side in height_width(self.image_size))


@register(
    "sagan",
    task="generation",
    paper=Paper(
        "Self-Attention Generative Adversarial Networks",
        "H. Zhang, I. Goodfellow, D. Metaxas, A. Odena", 2019, "1805.08318",
    ),
    tiny={
        "image_size": 8, "generator_widths": (8, 8, 8), "discriminator_widths": (8, 8), "num_halvings": 1,
        "attention_size": 4, "num_classes": 3, "latent_size": 6, "batch_size": 4,
    },
)  # fmt: skip
class SAGAN(LabelledGAN):
    """GAN with self-attention; images are (batch, height, width, channels) in [-1, 1].

    With `num_classes` batches have "labels", int32 (batch,), and `generate` takes labels=.
    """

    config_cls = SAGANConfig

    def build_networks(self, config: SAGANConfig) -> dict[str, keras.Model]:
        return {"generator": build_generator(config), "discriminator": build_discriminator(config)}

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c = self.config
        rate = c.learning_rate if player == "generator" else c.discriminator_learning_rate
        return keras.optimizers.Adam(rate, beta_1=c.beta_1, beta_2=c.beta_2, epsilon=1e-8)

    @property
    def batch_spec(self) -> BatchSpec:
        images = image_field(height_width(self.config.image_size), self.config.channels)
        return BatchSpec(images=images, **self.label_field())

    @property
    def ema_decays(self) -> dict[str, float]:
        return {"generator": self.config.ema_decay} if self.config.ema_decay else {}

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real = batch["images"]
        with tf.GradientTape() as g_tape:
            fake, labels = self.fakes("step", tf.shape(real)[0], training=True)
            with g_tape.stop_recording(), tf.GradientTape() as d_tape:
                real_logits = self.logits(real, batch.get("labels"), training=True)
                d_loss = discriminator_loss(real_logits, self.logits(fake, labels, training=True))
            with g_tape.stop_recording():
                self.update("discriminator", d_tape, d_loss)
            g_loss = generator_loss(self.logits(fake, labels, training=True))
        self.update("generator", g_tape, g_loss)
        return self.log(d_loss=d_loss, g_loss=g_loss)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        fake, labels = self.fakes("validation", tf.shape(batch["images"])[0], training=False)
        real_logits = self.logits(batch["images"], batch.get("labels"), training=False)
        fake_logits = self.logits(fake, labels, training=False)
        d_loss = discriminator_loss(real_logits, fake_logits)
        return self.log(d_loss=d_loss, g_loss=generator_loss(fake_logits))

    def attention_maps(self, num_samples: int = 1, seed: int = 0, **conditions: Any) -> np.ndarray:
        """Where each pixel of G's attended feature map looks, in the samples that `generate` gives.

        Args:
            num_samples: how many.
            seed: that of `generate`.
            **conditions: those of `generate`, such as labels=.

        Returns:
            float32 (num_samples, height, width, height // 2, width // 2) of the feature map: for each query
            pixel the weights of the pooled keys, which sum to 1.

        Raises:
            ValueError: if the model has no attention.
        """
        network = self.public_network()
        found = [layer for layer in network.layers if isinstance(layer, SelfAttention)]
        if not found:
            raise ValueError("attention_maps: this model has none, it was built with attention_size=None.")
        features = keras.Model(network.input, found[0].input)
        drawn = self.sample_inputs(num_samples, seed, **conditions)
        inputs = tf.nest.map_structure(tf.convert_to_tensor, drawn)
        x = features(inputs, training=False)
        _, height, width, _ = x.shape
        return np.reshape(found[0].attention(x), (num_samples, height, width, height // 2, width // 2))


def build_generator(config: SAGANConfig) -> keras.Model:
    """Latents (batch, latent_size), with classes {"latents", "labels" (batch,)} -> images in [-1, 1]."""
    inputs = network_inputs(config.num_classes, latents=(config.latent_size,))
    labels, options = inputs.get("labels"), _norm_options(config)
    (height, width), (first, *rest) = config.base_size, config.generator_widths
    x = SpectralNormalization(layers.Dense(height * width * first))(inputs["latents"])
    x = layers.Reshape((height, width, first))(x)
    for filters in rest:
        norm = residual.class_norm(labels, config.num_classes, **options)
        x = _attended(residual.up_block(x, filters, _conv, norm), config)
    x = layers.ReLU()(layers.BatchNormalization(**options)(x))
    x = layers.Activation("tanh", dtype="float32", name="images")(_conv(config.channels, 3)(x))
    return network_of(inputs, x, "generator")


def build_discriminator(config: SAGANConfig) -> keras.Model:
    """Images (batch, height, width, channels), with classes {"images", "labels"} -> logits (batch, 1)."""
    shape = (*height_width(config.image_size), config.channels)
    inputs = network_inputs(config.num_classes, images=shape)
    first, *rest = config.discriminator_widths
    x = _attended(residual.first_down_block(inputs["images"], first, _conv), config)
    for index, filters in enumerate(rest, start=1):
        halves = index < config.num_halvings
        x = residual.down_block(x, filters, _conv, hidden=filters, downsample=halves)
        x = _attended(x, config) if halves else x
    logits = residual.projected_logits(residual.sum_pooled(x), inputs.get("labels"), config.num_classes)
    return network_of(inputs, logits, "discriminator")


def _attended(x: keras.KerasTensor, config: SAGANConfig) -> keras.KerasTensor:
    return SelfAttention()(x) if x.shape[1] == config.attention_size else x


def _conv(filters: int, kernel_size: int) -> layers.Layer:
    return SpectralNormalization(layers.Conv2D(filters, kernel_size, padding="same"))


def _norm_options(config: SAGANConfig) -> dict[str, Any]:
    return {"momentum": 0.9, "epsilon": 1e-5, "synchronized": config.sync_batch_norm}
