"""BEGAN: the discriminator is an auto-encoder, and a controller keeps the two players in balance.

    D minimises  L(x) - k L(G(z)),   G minimises  L(G(z)),   L(v) = mean over pixels of |v - D(v)|,
    k <- clip(k + lambda (gamma L(x) - L(G(z))), 0, 1)  after every step, from k = 0.

D learns to reconstruct pictures well and samples badly. What is matched is the distribution of these errors,
not that of the pictures (a lower bound of the Wasserstein distance between the errors). The players are in
equilibrium where L(G(z)) = gamma L(x): the diversity ratio gamma says how much of D goes into reconstructing
data instead of finding samples out, and so how varied the samples are. The measure

    M = L(x) + |gamma L(x) - L(G(z))|

falls as the run converges; both learning rates are halved when it stalls.

Reference: D. Berthelot, T. Schumm, L. Metz, "BEGAN: Boundary Equilibrium Generative Adversarial Networks",
arXiv:1703.10717, 2017, sections 3.3-3.5 and 4.1, figure 1. D's decoder has G's architecture with weights of
its own; filters grow linearly in the encoder; no normalisation, no dropout, no transposed convolution. The
paper's 128x128 model is image_size=128, width=128.

Choices where the paper says nothing: 64 filters for 64x64 pictures; Adam's beta_1 0.5, gamma 0.5 and the
least learning rate follow a public reimplementation (carpedm20/BEGAN-tensorflow); "stalls" means that the
mean of M over `plateau_steps` steps is not below the best one so far.

Departures: both players share the fakes of a step (the paper draws two sets of latents); the vanishing
residuals, with which the paper may start, are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tf_gan_zoo.batch_spec import BatchSpec, checked_images, image_field
from tf_gan_zoo.config import (
    Channels,
    Config,
    ConfigError,
    Decay,
    Fraction,
    ImageSize,
    PositiveFloat,
    PositiveInt,
    height_width,
    num_halvings,
)
from tf_gan_zoo.endpoints import Endpoint
from tf_gan_zoo.gan import AdversarialGAN
from tf_gan_zoo.registry import Paper, register

#: Sides of the smallest feature map: 8 for the paper's pictures, 7 for 28x28.
_SMALLEST_BASE = 7


@dataclass(frozen=True, kw_only=True)
class BEGANConfig(Config):
    """The paper's 64x64 model.

    Attributes:
        image_size: sides that can be halved to 7 or more pixels: 28, 32, 64, 128...
        latent_size: numbers in a latent and in D's code of a picture.
        width: n, filters of every layer of G and of the first block of D's encoder.
        loss_exponent: eta; 1 for absolute differences, 2 for squared ones.
        diversity_ratio: gamma, L(G(z)) / L(x) at the equilibrium.
        balance_rate: lambda, how fast k follows.
        skip_connections: every block of a decoder but the first also sees its first feature map.
        plateau_steps: the learning rates are halved, down to `min_learning_rate`, where the mean of M over
            so many steps is not below the best one before; None keeps them.
    """

    data: str = "tfds:celeb_a"
    batch_size: PositiveInt = 16
    epochs: PositiveInt = 40
    image_size: ImageSize = 64
    channels: Channels = 3
    latent_size: PositiveInt = 64
    latent_distribution: Literal["uniform", "normal"] = "uniform"
    width: PositiveInt = 64
    loss_exponent: Literal[1, 2] = 1
    diversity_ratio: Fraction = 0.5
    balance_rate: PositiveFloat = 1e-3
    skip_connections: bool = False
    learning_rate: PositiveFloat = 1e-4
    min_learning_rate: PositiveFloat = 2e-5
    plateau_steps: PositiveInt | None = 25_000
    beta_1: Decay = 0.5
    beta_2: Decay = 0.999

    def validate(self) -> None:
        if min(self.base_size) < _SMALLEST_BASE:
            raise ConfigError(
                f"BEGANConfig.image_size: expected sides of {_SMALLEST_BASE} or more pixels, got "
                f"{self.image_size}. Use 28, 32, 64 or 128."
            )

    @property
    def num_blocks(self) -> int:
        """Blocks of two convolutions in an encoder or decoder, one for each size of feature maps."""
        return num_halvings(self.image_size, _SMALLEST_BASE) + 1

    @property
    def base_size(self) -> tuple[int, int]:
        """(height, width) of the smallest feature map, 8x8 for 64x64 pictures."""
        return tuple(side >> (self.num_blocks - 1) for side in height_width(self.image_size))


@register(
    "began",
    task="generation",
    paper=Paper(
        "BEGAN: Boundary Equilibrium Generative Adversarial Networks",
        "D. Berthelot, T. Schumm, L. Metz", 2017, "1703.10717",
    ),
    tiny={
        "image_size": 16, "channels": 1, "width": 2, "latent_size": 6, "batch_size": 4, "balance_rate": 0.2,
        "plateau_steps": 2,
    },
)  # fmt: skip
class BEGAN(AdversarialGAN):
    """Boundary equilibrium GAN; images are (batch, height, width, channels) in [-1, 1].

    The network "discriminator" gives pictures: `reconstruct(images)`. The logged `k` is the weight of the
    samples in D's loss, `convergence` is M; d_loss and g_loss are means over pixels, before k's update.
    """

    config_cls = BEGANConfig
    log_names = ("d_loss", "g_loss", "k", "convergence")

    def build_networks(self, config: BEGANConfig) -> dict[str, keras.Model]:
        return {"generator": build_generator(config), "discriminator": build_discriminator(config)}

    def build_state(self, config: BEGANConfig) -> None:
        """k, and the means of M over this window (so far) and over the best one."""
        # Every replica computes the same values, from losses that are means over all of them.
        kept = {"dtype": "float32", "trainable": False, "aggregation": "only_first_replica"}
        self.k = keras.Variable(0.0, name="k", **kept)
        self.window_convergence = keras.Variable(0.0, name="window_convergence", **kept)
        self.best_convergence = keras.Variable(tf.float32.max, name="best_convergence", **kept)

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c = self.config
        return keras.optimizers.Adam(c.learning_rate, beta_1=c.beta_1, beta_2=c.beta_2, epsilon=1e-8)

    @property
    def batch_spec(self) -> BatchSpec:
        return BatchSpec(images=image_field(height_width(self.config.image_size), self.config.channels))

    # ---------------------------------------------------------------- training

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real = batch["images"]
        with tf.GradientTape(persistent=True) as tape:
            fake = self.generator(self.latents("latents", tf.shape(real)[0]), training=True)
            real_loss, fake_loss = (self._reconstruction_loss(x, training=True) for x in (real, fake))
            d_loss = real_loss - self.k.value * fake_loss
        self.update("discriminator", tape, d_loss)  # both gradients come from the same point
        self.update("generator", tape, fake_loss)
        logs = self._log(real_loss, fake_loss)
        means = tf.distribute.get_replica_context().all_reduce("MEAN", tf.stack([real_loss, fake_loss]))
        self._control(*tf.unstack(means))
        return logs

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real = batch["images"]
        fake = self.generator(self.latents("validation", tf.shape(real)[0]), training=False)
        return self._log(*(self._reconstruction_loss(x, training=False) for x in (real, fake)))

    def _reconstruction_loss(self, images: tf.Tensor, training: bool) -> tf.Tensor:
        """L, the mean over this replica's pixels."""
        difference = tf.abs(images - self.discriminator(images, training=training))
        return tf.reduce_mean(difference**self.config.loss_exponent)

    def _log(self, real_loss: tf.Tensor, fake_loss: tf.Tensor) -> dict[str, tf.Tensor]:
        k = tf.convert_to_tensor(self.k.value)
        convergence = convergence_measure(real_loss, fake_loss, self.config.diversity_ratio)
        return self.log(d_loss=real_loss - k * fake_loss, g_loss=fake_loss, k=k, convergence=convergence)

    def _control(self, real_loss: tf.Tensor, fake_loss: tf.Tensor) -> None:
        """Moves k, and halves the learning rates where M stalls; the losses are means over all replicas."""
        c = self.config
        k = self.k.value + c.balance_rate * (c.diversity_ratio * real_loss - fake_loss)
        self.k.assign(tf.clip_by_value(k, 0.0, 1.0))
        if c.plateau_steps:
            self._follow(convergence_measure(real_loss, fake_loss, c.diversity_ratio), c.plateau_steps)

    def _follow(self, convergence: tf.Tensor, window: int) -> None:
        mean = self.window_convergence.value + convergence / window
        best = tf.convert_to_tensor(self.best_convergence.value)
        complete = (self.step.value + 1) % window == 0
        stalled = tf.logical_and(complete, mean >= best)
        for player in self.players:
            rate = self.player_optimizer(player).learning_rate
            if isinstance(rate, keras.Variable):  # a schedule given to compile() goes its own way
                halved = tf.minimum(rate.value, tf.maximum(rate.value / 2.0, self.config.min_learning_rate))
                rate.assign(tf.where(stalled, halved, rate.value))
        self.best_convergence.assign(tf.where(complete, tf.minimum(mean, best), best))
        self.window_convergence.assign(tf.where(complete, 0.0, mean))

    # ---------------------------------------------------------------- inference

    def call(self, inputs: Any, training: bool | None = None) -> tf.Tensor:
        """Pictures of latents; G's output is linear, what lies outside [-1, 1] is cut off."""
        return tf.clip_by_value(super().call(inputs, training), *self.output_range)

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        generate = super().endpoints["generate"]
        return {"generate": Endpoint(generate.network, generate.pictures, notes=generate.notes, clip=True)}

    def reconstruct(self, images: Any, batch_size: int = 64) -> np.ndarray:
        """What the auto-encoder makes of pictures.

        Args:
            images: (batch, height, width, channels) or one picture, in [-1, 1].
            batch_size: pictures per call of the network.

        Returns:
            float32, as many pictures of the same size, in [-1, 1].

        Raises:
            BatchError: if the pictures do not fit the model.
        """
        images = checked_images(images, self.batch_spec["images"])
        return np.clip(self.run(images, batch_size, network="discriminator"), -1.0, 1.0)

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Class coverage; the mean absolute error of reconstructions, of samples' over that (which gamma
        sets, for the training pictures), and that of the mean picture as baseline."""
        results, images = super().measure(examples), np.asarray(examples["images"])
        samples = self.generate(len(images), seed=0)
        real_error, fake_error = (float(np.abs(x - self.reconstruct(x)).mean()) for x in (images, samples))
        return {
            **results,
            "reconstruction_l1": real_error,
            "reconstruction_l1_baseline": float(np.abs(images - images.mean(axis=0)).mean()),
            "balance": fake_error / real_error,
        }


def convergence_measure(real_loss: Any, fake_loss: Any, diversity_ratio: float) -> Any:
    """M = L(x) + |gamma L(x) - L(G(z))| (section 3.4.1)."""
    return real_loss + abs(diversity_ratio * real_loss - fake_loss)


# -------------------------------------------------------------------- networks


def build_generator(config: BEGANConfig) -> keras.Model:
    """Latents (batch, latent_size) -> images (batch, height, width, channels), about in [-1, 1]."""
    latents = keras.Input((config.latent_size,), name="latents")
    return keras.Model(latents, _decoded(latents, config, "images"), name="generator")


def build_discriminator(config: BEGANConfig) -> keras.Model:
    """Images (batch, height, width, channels) in [-1, 1] -> their reconstructions."""
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    x = _conv(config.width)(images)
    for block in range(1, config.num_blocks + 1):
        x = _conv(block * config.width)(x)
        x = _conv(block * config.width)(x)
        x = _conv(block * config.width, strides=2)(x) if block < config.num_blocks else x
    code = layers.Dense(config.latent_size)(layers.Flatten()(x))
    return keras.Model(images, _decoded(code, config, "reconstructions"), name="discriminator")


def _decoded(code: keras.KerasTensor, config: BEGANConfig, name: str) -> keras.KerasTensor:
    """Pictures called `name` of codes (batch, latent_size): a generator, or the half of a discriminator."""
    shape = (*config.base_size, config.width)
    x = first = layers.Reshape(shape)(layers.Dense(shape[0] * shape[1] * shape[2])(code))
    for block in range(config.num_blocks):
        x = layers.UpSampling2D(2)(x) if block else x
        if block and config.skip_connections:
            x = layers.Concatenate()([x, layers.UpSampling2D(2**block)(first)])
        x = _conv(config.width)(_conv(config.width)(x))
    return layers.Conv2D(config.channels, 3, padding="same", dtype="float32", name=name)(x)


def _conv(filters: int, strides: int = 1) -> layers.Layer:
    return layers.Conv2D(filters, 3, strides, "same", activation="elu")
