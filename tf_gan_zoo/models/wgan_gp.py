"""WGAN-GP: a Wasserstein GAN whose critic is kept 1-Lipschitz by a penalty on its input gradient.

    The critic f minimises  E f(G(z)) - E f(x) + 10 E (||grad f(x_hat)||_2 - 1)^2,   G maximises  E f(G(z)),
    with x_hat = x + factor (G(z) - x) and one factor ~ U(0, 1) per example.

Each training step takes five fresh batches: five updates of the critic, then one of the generator. The
penalty is a statement about single examples, so the critic has no batch normalisation.

Reference: I. Gulrajani, F. Ahmed, M. Arjovsky, V. Dumoulin, A. Courville, "Improved Training of Wasserstein
GANs", NIPS 2017, arXiv:1704.00028, algorithm 1 and appendix F. Networks, initial weights and schedule follow
the authors' released code, which has one script per architecture:

    architecture  pictures  settings
    "cifar"       32x32x3   the defaults: Adam(2e-4, 0, 0.9) decaying to 0, G's batch twice the critic's
    "good64"      64x64x3   image_size=64, learning_rate=1e-4, linear_decay=False, dequantize=False,
                            generator_batch_multiplier=1, steps_per_epoch=2000
    "mnist"       28x28x1   image_size=28, channels=1, and as "good64" with batch_size=50, beta_1=0.5

Compared with that code (gan_cifar_resnet.py, gan_64x64.py, gan_mnist.py and tflib/ops), each by a test: sizes
of networks, variance of initial weights, penalty, dequantisation, updates per step, Adam's numbers.

Departures: samples come from a generator with moving batch statistics (the released code samples with those
of the batch); the critic's rate decays with each of its own updates, not once per generator update. Left out:
classes. The CIFAR-10 script's default is class-conditional batch norm in G and an auxiliary classifier in the
critic (weight 1 on real pictures, 0.1 in G's loss); this is the same script with CONDITIONAL = False, the
paper's unsupervised model. The zoo's models with classes are `acgan`, `sngan`, `sagan` and `biggan`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
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
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Repeats,
    height_width,
)
from tf_gan_zoo.gan import AdversarialGAN
from tf_gan_zoo.losses import wasserstein_discriminator_loss as critic_loss
from tf_gan_zoo.losses import wasserstein_generator_loss as generator_loss
from tf_gan_zoo.penalties import gradient_penalty
from tf_gan_zoo.registry import Paper, register

#: Height and width must be multiples of this many pixels.
_SIZE_UNIT = {"cifar": 8, "good64": 16, "mnist": 28}
_PAPER_WIDTH = {"cifar": 128, "good64": 64, "mnist": 64}


@dataclass(frozen=True, kw_only=True)
class WGANGPConfig(Config):
    """The paper's residual networks for CIFAR-10 (appendix F).

    Attributes:
        image_size: multiples of 8 ("cifar") or of 16 ("good64"); 28 only for "mnist".
        architecture: "cifar" and "good64" are residual networks, "mnist" is a plain convolutional one with
            pictures in [0, 1]; the others work in [-1, 1].
        width: channels of "cifar", of the widest picture in "good64", of the first layer in "mnist"; None
            takes the paper's 128, 64 and 64.
        n_critic: critic updates, each on its own batch, per generator update.
        generator_batch_multiplier: examples in a generator update per example in a critic update.
        linear_decay: learning rates fall to 0 over `epochs` x `steps_per_epoch` generator updates.
        dequantize: noise of one gray level on real pictures, which come as 256 levels.
    """

    data: str = "tfds:cifar10"
    batch_size: PositiveInt = 64
    epochs: PositiveInt = 100
    steps_per_epoch: PositiveInt | None = 1000
    image_size: ImageSize = 32
    channels: Channels = 3
    latent_size: PositiveInt = 128
    latent_distribution: Literal["normal", "uniform"] = "normal"
    architecture: Literal["cifar", "good64", "mnist"] = "cifar"
    width: PositiveInt | None = None
    n_critic: Repeats = 5
    gradient_penalty_weight: NonNegativeFloat = 10.0
    generator_batch_multiplier: Repeats = 2
    dequantize: bool = True
    learning_rate: PositiveFloat = 2e-4
    linear_decay: bool = True
    beta_1: Decay = 0.0
    beta_2: Decay = 0.9

    def validate(self) -> None:
        unit = _SIZE_UNIT[self.architecture]
        size = height_width(self.image_size)
        fits = size == (28, 28) if self.architecture == "mnist" else all(s % unit == 0 for s in size)
        if not fits:
            allowed = "takes 28" if self.architecture == "mnist" else f"takes multiples of {unit}"
            raise ConfigError(
                f"WGANGPConfig.image_size: architecture={self.architecture!r} {allowed}, "
                f"got {self.image_size}. Change image_size or architecture (cifar, good64, mnist)."
            )
        if self.linear_decay and not self.has_length:
            raise ConfigError(
                "WGANGPConfig.steps_per_epoch: linear_decay needs the length of the run, got None. "
                "Set steps_per_epoch, or linear_decay=False."
            )

    @property
    def base_width(self) -> int:
        """`width`, or the paper's for this architecture."""
        return self.width or _PAPER_WIDTH[self.architecture]

    @property
    def value_range(self) -> tuple[float, float]:
        """Smallest and largest value of a picture, real or generated."""
        return (0.0, 1.0) if self.architecture == "mnist" else (-1.0, 1.0)


@register(
    "wgan_gp",
    task="generation",
    paper=Paper(
        "Improved Training of Wasserstein GANs",
        "I. Gulrajani, F. Ahmed, M. Arjovsky, V. Dumoulin, A. Courville", 2017, "1704.00028",
    ),
    # A bias before a batch norm has no gradient but rounding, which Adam turns into whole steps: small ones
    # keep runs on one and on several devices comparable.
    tiny={
        "image_size": 16, "width": 8, "latent_size": 8, "batch_size": 4, "n_critic": 2, "learning_rate": 2e-5,
    },
)  # fmt: skip
class WGANGP(AdversarialGAN):
    """Wasserstein GAN with gradient penalty; the network "discriminator" is the paper's critic.

    Images are (batch, height, width, channels) in [-1, 1], or [0, 1] for architecture "mnist". The logged
    `wasserstein` is the critic's estimate of the distance between real and generated pictures, E f(x) -
    E f(G(z)): its fall follows the quality of the samples.
    """

    config_cls = WGANGPConfig
    log_names = ("d_loss", "g_loss", "gradient_penalty", "wasserstein")

    def build_networks(self, config: WGANGPConfig) -> dict[str, keras.Model]:
        build_generator, build_critic = _BUILDERS[config.architecture]
        return {"generator": build_generator(config), "discriminator": build_critic(config)}

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c = self.config
        rate = c.learning_rate
        if c.linear_decay:
            updates = c.total_steps * (c.n_critic if player == "discriminator" else 1)
            rate = keras.optimizers.schedules.PolynomialDecay(rate, updates, end_learning_rate=0.0)
        return keras.optimizers.Adam(rate, beta_1=c.beta_1, beta_2=c.beta_2, epsilon=1e-8)

    @property
    def batch_spec(self) -> BatchSpec:
        c = self.config
        return BatchSpec(images=image_field(height_width(c.image_size), c.channels, c.value_range))

    @property
    def batches_per_step(self) -> int:
        return self.config.n_critic

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        batches = self.split_batch(batch)
        critic_logs = [self._update_critic(b["images"], f"update {k}") for k, b in enumerate(batches)]
        count = self.config.generator_batch_multiplier * tf.shape(batches[0]["images"])[0]
        with tf.GradientTape() as tape:
            fake = self.generator(self.latents("generator", count), training=True)
            g_loss = generator_loss(self.discriminator(fake, training=True))
        self.update("generator", tape, g_loss)
        means = {name: tf.reduce_mean([log[name] for log in critic_logs]) for name in critic_logs[0]}
        return self.log(g_loss=g_loss, **means)

    def _update_critic(self, real: tf.Tensor, purpose: str) -> dict[str, tf.Tensor]:
        real = self._dequantized(real, purpose)
        fake = self.generator(self.latents(f"latents of {purpose}", tf.shape(real)[0]), training=True)
        with tf.GradientTape() as tape:
            losses = self._critic_losses(real, fake, purpose, training=True)
        self.update("discriminator", tape, losses["d_loss"])
        return losses

    def _critic_losses(
        self, real: tf.Tensor, fake: tf.Tensor, purpose: str, training: bool
    ) -> dict[str, tf.Tensor]:
        critic = functools.partial(self.discriminator, training=training)
        factors = self.random_uniform(f"factors of {purpose}", (tf.shape(real)[0], 1, 1, 1))
        negative_distance = critic_loss(critic(real), critic(fake))
        penalty = gradient_penalty(critic, real, fake, factors)
        return {
            "d_loss": negative_distance + self.config.gradient_penalty_weight * penalty,
            "gradient_penalty": penalty,
            "wasserstein": -negative_distance,
        }

    def _dequantized(self, images: tf.Tensor, purpose: str) -> tf.Tensor:
        """Pictures of 256 levels -> pictures that may have any value of the range."""
        if not self.config.dequantize:
            return images
        low, high = self.config.value_range
        shape = (tf.shape(images)[0], *images.shape[1:])
        noise = self.random_uniform(f"dequantization of {purpose}", shape)
        levels = (images - low) / (high - low) * 255.0
        return low + (levels + noise) / 256.0 * (high - low)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real = self._dequantized(batch["images"], "validation")
        fake = self.generator(self.latents("validation", tf.shape(real)[0]), training=False)
        losses = self._critic_losses(real, fake, "validation", training=False)
        return self.log(g_loss=generator_loss(self.discriminator(fake, training=False)), **losses)


# -------------------------------------------------------------------- residual networks for 32x32


def _cifar_generator(config: WGANGPConfig) -> keras.Model:
    """Latents (batch, latent_size) -> images (batch, height, width, channels) in [-1, 1]."""
    norm = functools.partial(_batch_norm, config)
    latents, x = _projected_latents(config, shrink=8, filters=config.base_width)
    for _ in range(3):
        x = _residual_block(x, config.base_width, norm, "up")
    x = _activated(x, norm)
    return keras.Model(latents, _images(_conv(config.channels, gain=1)(x), "tanh"), name="generator")


def _cifar_critic(config: WGANGPConfig) -> keras.Model:
    """Images (batch, height, width, channels) in [-1, 1] -> scores (batch, 1)."""
    width = config.base_width
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    x = _first_critic_block(images, width)
    for resample in ("down", None, None):
        x = _residual_block(x, width, None, resample)
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    return keras.Model(images, _score(x), name="discriminator")


def _first_critic_block(images: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    """A residual block that halves the picture and starts with a convolution: pixels need no ReLU."""
    x = layers.ReLU()(_conv(filters)(images))
    x = layers.AveragePooling2D(2)(_conv(filters)(x))
    return layers.Add()([x, _conv(filters, 1, gain=1)(layers.AveragePooling2D(2)(images))])


# -------------------------------------------------------------------- residual networks for 64x64


def _good64_generator(config: WGANGPConfig) -> keras.Model:
    """Latents (batch, latent_size) -> images (batch, height, width, channels) in [-1, 1]."""
    norm = functools.partial(_batch_norm, config)
    latents, x = _projected_latents(config, shrink=16, filters=8 * config.base_width)
    for factor in (8, 4, 2, 1):
        x = _residual_block(x, factor * config.base_width, norm, "up", first_bias=False)
    x = _activated(x, norm)
    return keras.Model(latents, _images(_conv(config.channels)(x), "tanh"), name="generator")


def _good64_critic(config: WGANGPConfig) -> keras.Model:
    """Images (batch, height, width, channels) in [-1, 1] -> scores (batch, 1)."""
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    x = _conv(config.base_width, gain=1)(images)
    for factor in (2, 4, 8, 8):
        x = _residual_block(x, factor * config.base_width, _layer_norm, "down", first_bias=False)
    return keras.Model(images, _score(layers.Flatten()(x)), name="discriminator")


# -------------------------------------------------------------------- plain networks for MNIST


def _mnist_generator(config: WGANGPConfig) -> keras.Model:
    """Latents (batch, latent_size) -> images (batch, 28, 28, channels) in [0, 1]."""
    latents, x = _projected_latents(config, shrink=7, filters=4 * config.base_width)
    x = _up_conv(2 * config.base_width)(layers.ReLU()(x))
    x = layers.Cropping2D(((0, 1), (0, 1)))(layers.ReLU()(x))  # 8x8 -> 7x7, a quarter of 28x28
    x = layers.ReLU()(_up_conv(config.base_width)(x))
    x = _up_conv(config.channels)(x)
    return keras.Model(latents, _images(x, "sigmoid"), name="generator")


def _mnist_critic(config: WGANGPConfig) -> keras.Model:
    """Images (batch, 28, 28, channels) in [0, 1] -> scores (batch, 1)."""
    x = images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    for factor in (1, 2, 4):
        x = layers.LeakyReLU(0.2)(_conv(factor * config.base_width, 5, strides=2)(x))
    return keras.Model(images, _score(layers.Flatten()(x)), name="discriminator")


_BUILDERS = {
    "cifar": (_cifar_generator, _cifar_critic),
    "good64": (_good64_generator, _good64_critic),
    "mnist": (_mnist_generator, _mnist_critic),
}


# -------------------------------------------------------------------- their parts


@keras.saving.register_keras_serializable("tf_gan_zoo")
class StridedGlorotUniform(keras.initializers.VarianceScaling):
    """Uniform with variance 2 gain / (fan_in + fan_out), for strided layers, too.

    A pixel of a strided layer's larger map meets only 1 / strides^2 of the kernel, so one fan is divided by
    that: fan_out of a convolution, fan_in of a transposed one. Either belongs to the kernel's last axis.

    Args:
        gain: 2 in place of He's rule, 1 for Glorot's.
        strides: of the layer.
        seed: see `keras.initializers.VarianceScaling`.
    """

    def __init__(self, gain: float = 1, strides: int = 1, seed: Any = None) -> None:
        super().__init__(scale=gain, mode="fan_avg", distribution="uniform", seed=seed)
        self.gain, self.strides = gain, strides

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> tf.Tensor:
        *window, first, last = shape
        fans = math.prod(window) * (first + last / self.strides**2)
        limit = math.sqrt(3.0 * 2.0 * self.gain / fans)
        return keras.random.uniform(shape, -limit, limit, dtype=dtype, seed=self.seed)

    def get_config(self) -> dict[str, Any]:
        seed = super().get_config()["seed"]
        return {"gain": self.gain, "strides": self.strides, "seed": seed}


Norm = Callable[[], layers.Layer]


def _residual_block(
    x: keras.KerasTensor, filters: int, norm: Norm | None, resample: str | None, first_bias: bool = True
) -> keras.KerasTensor:
    """Norm, ReLU, convolution, twice, beside a shortcut; "up" doubles the picture, "down" halves it."""
    hidden = x.shape[-1] if resample == "down" else filters
    y = _activated(x, norm)
    y = layers.UpSampling2D(2)(y) if resample == "up" else y
    y = _conv(hidden, use_bias=first_bias)(y)
    y = _conv(filters)(_activated(y, norm))
    y = layers.AveragePooling2D(2)(y) if resample == "down" else y
    return layers.Add()([_shortcut(x, filters, resample), y])


def _shortcut(x: keras.KerasTensor, filters: int, resample: str | None) -> keras.KerasTensor:
    # A 1x1 convolution commutes with nearest upsampling and mean pooling: do it on the smaller picture.
    if resample == "up":
        return layers.UpSampling2D(2)(_conv(filters, 1, gain=1)(x))
    if resample == "down":
        return _conv(filters, 1, gain=1)(layers.AveragePooling2D(2)(x))
    return x


def _projected_latents(
    config: WGANGPConfig, shrink: int, filters: int
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """The generator's input and its smallest feature map, (height, width) // shrink."""
    height, width = (side // shrink for side in height_width(config.image_size))
    latents = keras.Input((config.latent_size,), name="latents")
    x = layers.Dense(height * width * filters)(latents)
    return latents, layers.Reshape((height, width, filters))(x)


def _activated(x: keras.KerasTensor, norm: Norm | None) -> keras.KerasTensor:
    return layers.ReLU()(norm()(x) if norm else x)


def _conv(
    filters: int, kernel_size: int = 3, strides: int = 1, gain: float = 2, use_bias: bool = True
) -> layers.Layer:
    """A convolution; `gain` 1 stands for he_init=False in the released code."""
    return layers.Conv2D(
        filters, kernel_size, strides, "same", use_bias=use_bias,
        kernel_initializer=StridedGlorotUniform(gain, strides),
    )  # fmt: skip


def _up_conv(filters: int) -> layers.Layer:
    return layers.Conv2DTranspose(filters, 5, 2, "same", kernel_initializer=StridedGlorotUniform(2, 2))


def _batch_norm(config: WGANGPConfig) -> layers.Layer:
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, synchronized=config.sync_batch_norm)


def _layer_norm() -> layers.Layer:
    """Statistics over height, width and channels of one example; a gain and a bias per channel."""
    return layers.GroupNormalization(groups=1, epsilon=1e-5)


def _images(x: keras.KerasTensor, activation: str) -> keras.KerasTensor:
    return layers.Activation(activation, dtype="float32", name="images")(x)


def _score(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.Dense(1, dtype="float32", name="scores")(x)
