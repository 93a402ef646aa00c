"""WGAN: the critic measures the earth mover's distance, made Lipschitz by clipping its weights.

    The critic f maximises  E f(x) - E f(G(z))  with all weights in [-0.01, 0.01],   G maximises  E f(G(z)).

At the critic's optimum the difference is the Wasserstein-1 distance up to a constant factor, so its fall
follows the quality of the samples, and its gradient does not vanish where pictures and samples have nothing
in common. That needs a trained critic: five updates of it, each on a fresh batch, precede every update of G,
and a hundred in the first 25 iterations and in every 500th.

A training step is `n_critic` updates of the critic and one of G; a burst of a hundred takes twenty steps, in
all but the last of which G stays as it is. Which steps those are follows from the step counter alone.

Reference: M. Arjovsky, S. Chintala, L. Bottou, "Wasserstein GAN", ICML 2017, arXiv:1701.07875, algorithm 1
and section 4. Networks, initial weights, RMSProp and bursts follow the authors' released code (main.py and
models/, each compared by a test), which has two networks for either player: "dcgan" (with or without batch
norm in G, `generator_norm`) and "mlp", three layers of 512.

Departures: weights are clipped after an update, as in the paper's algorithm (the released code clips before
the next); in the first step the critic's weights are as they were drawn; a burst goes on over the end of an
epoch, where the code cuts it short.
"""

from __future__ import annotations

import math
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
    ImageSize,
    PositiveFloat,
    PositiveInt,
    Repeats,
    height_width,
    num_halvings,
)
from tf_gan_zoo.gan import AdversarialGAN
from tf_gan_zoo.losses import wasserstein_discriminator_loss as critic_loss
from tf_gan_zoo.losses import wasserstein_generator_loss as generator_loss
from tf_gan_zoo.networks.dense import torch_dense
from tf_gan_zoo.optimizers import OuterEpsilonRMSprop
from tf_gan_zoo.registry import Paper, register

Architecture = Literal["dcgan", "mlp"]


@dataclass(frozen=True, kw_only=True)
class WGANConfig(Config):
    """The paper's model of bedrooms.

    Attributes:
        image_size: for "dcgan" sides that can be halved down to 4..7 pixels: 28, 32, 64, 128...
        generator_architecture: "dcgan", or "mlp" with a linear output.
        critic_architecture: "dcgan" or "mlp".
        generator_norm: batch normalisation in a "dcgan" generator.
        width: channels of the convolutions next to the picture.
        hidden_size: units of the three hidden layers of an "mlp".
        n_critic: critic updates, each on its own batch, in a training step.
        burst_critic_updates: critic updates before G's in the first `num_first_bursts` iterations and in
            every `burst_interval`-th; a multiple of n_critic.
        clip: c; after every update the critic's weights are in [-c, c].
    """

    data: str = "tfds:lsun/bedroom"
    batch_size: PositiveInt = 64
    epochs: PositiveInt = 25
    image_size: ImageSize = 64
    channels: Channels = 3
    latent_size: PositiveInt = 100
    latent_distribution: Literal["normal", "uniform"] = "normal"
    generator_architecture: Architecture = "dcgan"
    critic_architecture: Architecture = "dcgan"
    generator_norm: bool = True
    width: PositiveInt = 64
    hidden_size: PositiveInt = 512
    n_critic: Repeats = 5
    burst_critic_updates: PositiveInt = 100
    num_first_bursts: PositiveInt = 25
    burst_interval: PositiveInt = 500
    clip: PositiveFloat = 0.01
    learning_rate: PositiveFloat = 5e-5

    def validate(self) -> None:
        if min(self.base_size) < 4 or self.num_halvings < 1:
            raise ConfigError(
                f"WGANConfig.image_size: {self.image_size} cannot be halved to 4 or more pixels. "
                "Use sides such as 28, 32, 64 or 128."
            )
        if self.burst_critic_updates % self.n_critic:
            raise ConfigError(
                f"WGANConfig.burst_critic_updates: {self.burst_critic_updates} is no multiple of n_critic "
                f"({self.n_critic}), the critic updates of a training step. Choose one that is."
            )
        if self.num_first_bursts > self.burst_interval:
            raise ConfigError(
                f"WGANConfig.num_first_bursts: {self.num_first_bursts} bursts reach beyond burst_interval "
                f"({self.burst_interval}). Choose a smaller number."
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
    "wgan",
    task="generation",
    paper=Paper("Wasserstein GAN", "M. Arjovsky, S. Chintala, L. Bottou", 2017, "1701.07875"),
    # Repeated runs with the convolutional critic differ by rounding at times (1e-5 after two steps), of which
    # RMSProp makes steps; those with a dense one do not.
    tiny={
        "image_size": 8, "channels": 1, "width": 4, "critic_architecture": "mlp", "hidden_size": 8,
        "latent_size": 6, "batch_size": 4, "n_critic": 2, "burst_critic_updates": 2, "clip": 0.5,
    },
)  # fmt: skip
class WGAN(AdversarialGAN):
    """Wasserstein GAN with clipped weights; the network "discriminator" is the paper's critic.

    Images are (batch, height, width, channels) in [-1, 1]. The logged `wasserstein` is E f(x) - E f(G(z)),
    the mean over the step's critic updates.
    """

    config_cls = WGANConfig
    log_names = ("d_loss", "g_loss", "wasserstein")

    def build_networks(self, config: WGANConfig) -> dict[str, keras.Model]:
        generators = {"dcgan": _dcgan_generator, "mlp": _mlp_generator}
        critics = {"dcgan": _dcgan_critic, "mlp": _mlp_critic}
        return {
            "generator": generators[config.generator_architecture](config),
            "discriminator": critics[config.critic_architecture](config),
        }

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        return OuterEpsilonRMSprop(self.config.learning_rate, rho=0.99)  # Torch's

    @property
    def batch_spec(self) -> BatchSpec:
        return BatchSpec(images=image_field(height_width(self.config.image_size), self.config.channels))

    @property
    def batches_per_step(self) -> int:
        return self.config.n_critic

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        batches = self.split_batch(batch)
        d_losses = [self._update_critic(b["images"], f"latents of update {k}") for k, b in enumerate(batches)]
        with tf.GradientTape() as tape:
            latents = self.latents("generator", tf.shape(batches[0]["images"])[0])
            g_loss = generator_loss(self.discriminator(self.generator(latents, training=True), training=True))
        due = updates_generator(self.step.value // self.config.accumulation_steps, self.config)
        self.update("generator", tape, g_loss, when=due)
        return self._log(tf.reduce_mean(d_losses), g_loss)

    def _update_critic(self, real: tf.Tensor, purpose: str) -> tf.Tensor:
        fake = self.generator(self.latents(purpose, tf.shape(real)[0]), training=True)
        with tf.GradientTape() as tape:
            real_scores, fake_scores = (self.discriminator(x, training=True) for x in (real, fake))
            loss = critic_loss(real_scores, fake_scores)
        self.update("discriminator", tape, loss)
        for weight in self.player_variables("discriminator"):
            # A read of its own: without it, about one run in a hundred lost an update of a tensor here.
            current = weight.value.read_value()
            weight.assign(tf.clip_by_value(current, -self.config.clip, self.config.clip))
        return loss

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real = batch["images"]
        fake = self.generator(self.latents("validation", tf.shape(real)[0]), training=False)
        real_scores, fake_scores = (self.discriminator(x, training=False) for x in (real, fake))
        return self._log(critic_loss(real_scores, fake_scores), generator_loss(fake_scores))

    def _log(self, d_loss: tf.Tensor, g_loss: tf.Tensor) -> dict[str, tf.Tensor]:
        return self.log(d_loss=d_loss, g_loss=g_loss, wasserstein=-d_loss)


def updates_generator(step: int | tf.Tensor, config: WGANConfig) -> tf.Tensor:
    """Whether G is updated at the end of this training step, from 0: in a burst in its last step only.

    Args:
        step: integers of any shape.
        config: says how long bursts are and which iterations of G are preceded by one.
    """
    step = tf.cast(step, tf.int64)
    burst = config.burst_critic_updates // config.n_critic
    first = config.num_first_bursts * burst  # steps of the bursts at the beginning
    # Then cycles of a burst and single steps; the first one is entered behind its first iterations.
    in_cycle = (step - first + burst - 1 + config.num_first_bursts) % (burst - 1 + config.burst_interval)
    return tf.where(step < first, step % burst == burst - 1, in_cycle >= burst - 1)


# -------------------------------------------------------------------- DCGAN's networks


def _dcgan_generator(config: WGANConfig) -> keras.Model:
    """Latents (batch, latent_size) -> images (batch, height, width, channels) in [-1, 1]."""
    (height, width), top = config.base_size, config.width << (config.num_halvings - 1)
    latents = keras.Input((config.latent_size,), name="latents")
    x = layers.Dense(height * width * top, **_weights())(latents)
    x = _g_activated(layers.Reshape((height, width, top))(x), config)
    for k in range(1, config.num_halvings):
        x = _g_activated(layers.Conv2DTranspose(top >> k, 4, 2, "same", **_weights())(x), config)
    x = layers.Conv2DTranspose(config.channels, 4, 2, "same", **_weights())(x)
    images = layers.Activation("tanh", dtype="float32", name="images")(x)
    return keras.Model(latents, images, name="generator")


def _dcgan_critic(config: WGANConfig) -> keras.Model:
    """Images (batch, height, width, channels) -> scores (batch, 1)."""
    x = images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    for k in range(config.num_halvings):
        x = layers.Conv2D(config.width << k, 4, 2, "same", **_weights())(x)
        x = layers.LeakyReLU(0.2)(_norm(config)(x) if k else x)
    scores = layers.Dense(1, dtype="float32", name="scores", **_weights())(layers.Flatten()(x))
    return keras.Model(images, scores, name="discriminator")


def _g_activated(x: keras.KerasTensor, config: WGANConfig) -> keras.KerasTensor:
    return layers.ReLU()(_norm(config)(x) if config.generator_norm else x)


def _weights() -> dict[str, Any]:
    return {"kernel_initializer": keras.initializers.RandomNormal(0.0, 0.02), "use_bias": False}


def _norm(config: WGANConfig) -> layers.Layer:
    return layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, synchronized=config.sync_batch_norm,
        gamma_initializer=keras.initializers.RandomNormal(1.0, 0.02),
    )  # fmt: skip


# -------------------------------------------------------------------- dense networks


def _mlp_generator(config: WGANConfig) -> keras.Model:
    """Latents (batch, latent_size) -> images (batch, height, width, channels), any numbers."""
    shape = (*height_width(config.image_size), config.channels)
    latents = keras.Input((config.latent_size,), name="latents")
    x = _hidden(latents, config)
    x = torch_dense(x, math.prod(shape), dtype="float32")
    return keras.Model(latents, layers.Reshape(shape, dtype="float32", name="images")(x), name="generator")


def _mlp_critic(config: WGANConfig) -> keras.Model:
    """Images (batch, height, width, channels) -> scores (batch, 1)."""
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    x = _hidden(layers.Flatten()(images), config)
    return keras.Model(images, torch_dense(x, 1, dtype="float32", name="scores"), name="discriminator")


def _hidden(x: keras.KerasTensor, config: WGANConfig) -> keras.KerasTensor:
    for _ in range(3):
        x = torch_dense(x, config.hidden_size, activation="relu")
    return x
