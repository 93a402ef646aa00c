"""ALI: inference learned by the game between pictures with inferred latents and samples with drawn ones.

    D minimises      softplus(-D(x, z^)) + softplus(D(x~, z)),      z^ = mean(x) + sigma(x) noise,  x~ = G(z),
    G and E          softplus(D(x, z^)) + softplus(-D(x~, z)),

where D gives logits. The two joint distributions q(x) q(z|x) and p(z) p(x|z) agree at the optimum, so the
encoder becomes the posterior of the generator. It is the game of BiGAN, found at the same time, with an
encoder that draws its latents.

Reference: V. Dumoulin, I. Belghazi, B. Poole, O. Mastropietro, A. Lamb, M. Arjovsky, A. Courville,
"Adversarially Learned Inference", ICLR 2017, arXiv:1606.00704, algorithm 1, tables 3 to 6; from the authors'
released code layers, first weights N(0, 0.01), Adam's 1e-4 and beta_1 0.5, batch norm's momentum 0.95, the
places and rates of dropout. Networks by `architecture`:

    "cifar10"   32x32, D with maxout and much dropout: the defaults
    "svhn"      32x32, the same convolutions with batch normalisation and LeakyReLU in D: latent_size=256
    "celeb_a"   64x64: latent_size=256

No convolution pads; encoder and generator have no biases but one per pixel and channel at the end, which in
the generator starts at the log-odds of the training pixels' means. Each update of D and that of G and E come
from the same point.

Departures: dropout in front of every inner convolution of D's branch for pictures ("cifar10": the code's list
of layers misses two of them); layers on 1x1 maps are dense.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
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
)
from tf_gan_zoo.encoding import FeatureGAN, normal_sample
from tf_gan_zoo.layers import SeededDropout
from tf_gan_zoo.losses import non_saturating_discriminator_loss as discriminator_loss
from tf_gan_zoo.models.gan import log_odds
from tf_gan_zoo.registry import Paper, register

_NUM_BATCHES_FOR_MEAN = 5


class Sizes(NamedTuple):
    """One of the paper's tables; convolutions are (kernel size, stride, channels).

    Attributes:
        image_size: side of the pictures in pixels, which the convolutions without padding bring to 1.
        encoder: convolutions of the encoder and of D's branch for pictures.
        dense: units of the encoder's further layers.
        generator: transposed convolutions.
        latent_units: of D's branch for latents.
        joint_units: of D's layers for both.
        maxout: D has maxout of two neighbouring channels instead of batch norm and LeakyReLU.
        slope: of LeakyReLU.
        input_dropout: on what D's branches get.
        dropout: on what D's inner layers get.
    """

    image_size: int
    encoder: tuple[tuple[int, int, int], ...]
    dense: tuple[int, ...]
    generator: tuple[tuple[int, int, int], ...]
    latent_units: tuple[int, int]
    joint_units: tuple[int, int]
    maxout: bool
    slope: float
    input_dropout: float
    dropout: float


_CIFAR10 = Sizes(
    image_size=32,
    encoder=((5, 1, 32), (4, 2, 64), (4, 1, 128), (4, 2, 256), (4, 1, 512)),
    dense=(512,),
    generator=((4, 1, 256), (4, 2, 128), (4, 1, 64), (4, 2, 32), (5, 1, 32), (1, 1, 32)),
    latent_units=(512, 512),
    joint_units=(1024, 1024),
    maxout=True,
    slope=0.1,
    input_dropout=0.2,
    dropout=0.5,
)
_SIZES = {
    "cifar10": _CIFAR10,
    "svhn": _CIFAR10._replace(maxout=False, slope=0.01, dropout=0.2),
    "celeb_a": Sizes(
        image_size=64,
        encoder=((2, 1, 64), (7, 2, 128), (5, 2, 256), (7, 2, 256), (4, 1, 512)),
        dense=(),
        generator=((4, 1, 512), (7, 2, 256), (5, 2, 256), (7, 2, 128), (2, 1, 64)),
        latent_units=(1024, 1024),
        joint_units=(2048, 2048),
        maxout=False,
        slope=0.02,
        input_dropout=0.2,
        dropout=0.2,
    ),
}


@dataclass(frozen=True, kw_only=True)
class ALIConfig(Config):
    """The paper's CIFAR-10 model.

    Attributes:
        image_size: what the architecture's convolutions bring to one pixel: 32, for "celeb_a" 64.
        shrink: divides the channels and units of all hidden layers.
        initial_std: standard deviation of initial weights; small networks start faster with a larger one.
    """

    data: str = "tfds:cifar10"
    batch_size: PositiveInt = 100
    epochs: PositiveInt = 6475
    image_size: ImageSize = 32
    channels: Channels = 3
    architecture: Literal["cifar10", "svhn", "celeb_a"] = "cifar10"
    latent_size: PositiveInt = 64
    latent_distribution: Literal["normal"] = "normal"
    shrink: Literal[1, 2, 4, 8, 16] = 1
    initial_std: PositiveFloat = 0.01
    learning_rate: PositiveFloat = 1e-4
    beta_1: Decay = 0.5
    beta_2: Decay = 0.999

    def validate(self) -> None:
        size = self.sizes.image_size
        if height_width(self.image_size) != (size, size):
            raise ConfigError(
                f"ALIConfig.image_size: architecture {self.architecture!r} takes pictures of {size}x{size}, "
                f"got {self.image_size}. Use image_size={size} or another architecture."
            )

    @property
    def sizes(self) -> Sizes:
        """The table of the architecture."""
        return _SIZES[self.architecture]


@register(
    "ali",
    task=("generation", "features"),
    paper=Paper(
        "Adversarially Learned Inference",
        "V. Dumoulin, I. Belghazi, B. Poole, O. Mastropietro, A. Lamb, M. Arjovsky, A. Courville",
        2017, "1606.00704",
    ),
    tiny={
        "architecture": "svhn", "shrink": 16, "initial_std": 0.2, "channels": 1, "latent_size": 4,
        "batch_size": 4,
    },
)  # fmt: skip
class ALI(FeatureGAN):
    """GAN with learned inference; images are (batch, height, width, channels) in [0, 1].

        model.encode(images)         # the mean of q(z|x)
        model.reconstruct(images)    # like the picture in what it shows, rarely in every pixel
        model.features(images)       # for classifiers

    The logged losses are 2 ln 2 = 1.386 each where D cannot tell the pairs.
    """

    config_cls = ALIConfig

    def build_networks(self, config: ALIConfig) -> dict[str, keras.Model]:
        return {
            "generator": build_generator(config),
            "encoder": build_encoder(config),
            "discriminator": build_discriminator(config),
        }

    @property
    def players(self) -> dict[str, tuple[str, ...]]:
        return {"generator": ("generator", "encoder"), "discriminator": ("discriminator",)}

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c = self.config
        return keras.optimizers.Adam(c.learning_rate, beta_1=c.beta_1, beta_2=c.beta_2, epsilon=1e-8)

    @property
    def batch_spec(self) -> BatchSpec:
        c = self.config
        return BatchSpec(images=image_field(height_width(c.image_size), c.channels, (0.0, 1.0)))

    def before_first_step(self, dataset: tf.data.Dataset) -> None:
        """Starts G at the pixels' means, unless its bias has been set by training or by hand."""
        bias = self.generator.get_layer("logits").bias
        if not np.any(bias):
            batches = (self.named(batch)["images"] for batch in dataset.take(_NUM_BATCHES_FOR_MEAN))
            means = np.mean([np.mean(images, axis=0) for images in batches], axis=0)
            bias.assign(log_odds(means).reshape(bias.shape))

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        with tf.GradientTape(persistent=True) as tape:
            real_logits, fake_logits = self._judge(batch["images"], "", training=True)
            d_loss = discriminator_loss(real_logits, fake_logits)
            g_loss = discriminator_loss(fake_logits, real_logits)  # the labels swapped
        self.update("discriminator", tape, d_loss)  # both gradients come from the same point
        self.update("generator", tape, g_loss)
        return self.log(d_loss=d_loss, g_loss=g_loss)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real_logits, fake_logits = self._judge(batch["images"], "validation ", training=False)
        return self.log(
            d_loss=discriminator_loss(real_logits, fake_logits),
            g_loss=discriminator_loss(fake_logits, real_logits),
        )

    def _judge(self, real: tf.Tensor, purpose: str, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """D's logits of the pairs (x, z^) and of the pairs (x~, z), which pass it as one batch."""
        noise, latents = (self.latents(f"{purpose}{of}", tf.shape(real)[0]) for of in ("posterior", "prior"))
        means, log_stds, _ = self.encoder(real, training=training)
        codes = normal_sample(means, 2.0 * log_stds, noise)
        fake = self.generator(latents, training=training)
        pairs = {"images": interleaved(real, fake), "latents": interleaved(codes, latents)}
        logits = tf.reshape(self.discriminator(pairs, training=training), (-1, 2))
        return logits[:, :1], logits[:, 1:]


def interleaved(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """a0, b0, a1, b1, ...: with this order replicas that share a batch draw the dropout masks of one."""
    return tf.reshape(tf.stack([first, second], axis=1), (-1, *first.shape[1:]))


# -------------------------------------------------------------------- networks


def build_generator(config: ALIConfig) -> keras.Model:
    """Latents (batch, latent_size) -> images (batch, height, width, channels) in [0, 1]."""
    latents = keras.Input((config.latent_size,), name="latents")
    x = layers.Reshape((1, 1, config.latent_size))(latents)
    for kernel_size, strides, filters in config.sizes.generator:
        x = layers.Conv2DTranspose(filters // config.shrink, kernel_size, strides, **_weights(config))(x)
        x = _normalized(x, config)
    shape = (*height_width(config.image_size), config.channels)
    # A 1x1 convolution with a bias for every pixel.
    x = layers.EinsumDense(
        "bhwi,io->bhwo", shape, bias_axes="hwo", dtype="float32", name="logits",
        kernel_initializer=_initializer(config),
    )(x)  # fmt: skip
    images = layers.Activation("sigmoid", dtype="float32", name="images")(x)
    return keras.Model(latents, images, name="generator")


def build_encoder(config: ALIConfig) -> keras.Model:
    """Images (batch, height, width, channels) -> means, called "latents", log_stds, features.

    Means and logarithms of sigma are (batch, latent_size); features are the last hidden layer.
    """
    x = images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    for kernel_size, strides, filters in config.sizes.encoder:
        x = layers.Conv2D(filters // config.shrink, kernel_size, strides, **_weights(config))(x)
        x = _normalized(x, config)
    x = layers.Flatten()(x)
    for units in config.sizes.dense:
        x = _normalized(layers.Dense(units // config.shrink, **_weights(config))(x), config)
    heads = [
        layers.Dense(config.latent_size, dtype="float32", name=name, **_weights(config, use_bias=True))(x)
        for name in ("latents", "log_stds")
    ]
    features = layers.Activation("linear", dtype="float32", name="features")(x)
    return keras.Model(images, [*heads, features], name="encoder")


def build_discriminator(config: ALIConfig) -> keras.Model:
    """{"images", "latents"} -> logits (batch, 1)."""
    sizes = config.sizes
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    latents = keras.Input((config.latent_size,), name="latents")
    x = _convolved(images, config)
    z = SeededDropout(sizes.input_dropout)(latents)
    for index, units in enumerate(sizes.latent_units):
        z = SeededDropout(sizes.dropout)(z) if index else z
        z = _activated(layers.Dense(units // config.shrink, **_weights(config))(z), config)
    x = layers.Concatenate()([layers.Flatten()(x), z])
    for units in sizes.joint_units:
        x = SeededDropout(sizes.dropout)(x)
        x = _activated(layers.Dense(units // config.shrink, **_weights(config, use_bias=True))(x), config)
    x = SeededDropout(sizes.dropout)(x)
    logits = layers.Dense(1, dtype="float32", name="logits", **_weights(config, use_bias=True))(x)
    return keras.Model({"images": images, "latents": latents}, logits, name="discriminator")


def _convolved(x: keras.KerasTensor, config: ALIConfig) -> keras.KerasTensor:
    """D's branch for pictures. Without maxout, batch norm follows all convolutions but the first."""
    sizes = config.sizes
    for index, (kernel_size, strides, filters) in enumerate(sizes.encoder):
        x = SeededDropout(sizes.dropout if index else sizes.input_dropout)(x)
        normalized = index > 0 and not sizes.maxout
        options = _weights(config, use_bias=not normalized)
        x = layers.Conv2D(filters // config.shrink, kernel_size, strides, **options)(x)
        x = _normalized(x, config) if normalized else _activated(x, config)
    return x


def _normalized(x: keras.KerasTensor, config: ALIConfig) -> keras.KerasTensor:
    """Batch norm with the released code's momentum and its framework's epsilon, then LeakyReLU."""
    norm = layers.BatchNormalization(momentum=0.95, epsilon=1e-4, synchronized=config.sync_batch_norm)
    return layers.LeakyReLU(config.sizes.slope)(norm(x))


def _activated(x: keras.KerasTensor, config: ALIConfig) -> keras.KerasTensor:
    """D's activation: the larger of each two neighbouring channels, or LeakyReLU."""
    if not config.sizes.maxout:
        return layers.LeakyReLU(config.sizes.slope)(x)
    *map_size, channels = x.shape[1:]
    return keras.ops.max(layers.Reshape((*map_size, channels // 2, 2))(x), axis=-1)


def _weights(config: ALIConfig, use_bias: bool = False) -> dict[str, Any]:
    return {"kernel_initializer": _initializer(config), "use_bias": use_bias}


def _initializer(config: ALIConfig) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(0.0, config.initial_std)
