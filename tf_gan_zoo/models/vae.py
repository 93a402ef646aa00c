"""VAE: an encoder and a decoder that together maximise a lower bound of the data's likelihood.

    log p(x)  >=  L(x) = E_{z ~ q(z|x)} log p(x|z) - KL(q(z|x) || N(0, I)).

The encoder gives q(z|x) = N(mean, diag(sigma^2)). Latents are drawn as z = mean + sigma * noise, so that the
gradient of a draw reaches the encoder. There is no discriminator: the model is here as what VAE/GAN begins
with, and because its blurred samples show what an adversary is for.

Reference: D. P. Kingma, M. Welling, "Auto-Encoding Variational Bayes", ICLR 2014, arXiv:1312.6114, equation
10, section 5, appendices B and C. Networks by `architecture`:

    "mlp"   one hidden layer of 500 tanh units in both networks, for MNIST: the defaults
    "conv"  the encoder and decoder of VAE/GAN (arXiv:1512.09300, table 1), whose plain VAE has
            likelihood="gaussian", optimizer="rmsprop", learning_rate=3e-4, latent_size=128

Choices where the paper leaves them open: latents of 20 numbers (it shows 2 to 200); a learning rate of 0.02
(of 0.01, 0.02 and 0.1, by the first steps); as many steps as its longest curves (10^8 pictures).

Departures: gray pixels are taken as probabilities of white ones; the Gaussian likelihood has one fixed
standard deviation, where the paper's decoder of faces predicts one for every pixel.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tf_gan_zoo import random
from tf_gan_zoo.batch_spec import BatchSpec, checked_images, image_field
from tf_gan_zoo.config import (
    Channels,
    Config,
    ImageSize,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    height_width,
)
from tf_gan_zoo.encoding import EncodingGAN, kl_to_standard_normal, normal_sample
from tf_gan_zoo.networks import autoencoder
from tf_gan_zoo.penalties import half_squared_norm
from tf_gan_zoo.registry import Paper, register


@dataclass(frozen=True, kw_only=True)
class VAEConfig(Config):
    """The paper's MNIST model.

    Attributes:
        image_size: any for "mlp"; for "conv" sides that can be halved to 4 or more pixels.
        hidden_size: units of the hidden layer of either network ("conv": of the encoder's, 2048 in VAE/GAN).
        width: channels of the first convolution, for "conv" only.
        likelihood: p(x|z) of a pixel: "bernoulli" for pictures in [0, 1], "gaussian" for such in [-1, 1].
        pixel_std: standard deviation of the Gaussian.
        weight_decay: of half the squared norm of all weights: the prior N(0, I) on them, shared by 60,000
            examples.
    """

    data: str = "tfds:mnist"
    batch_size: PositiveInt = 100
    epochs: PositiveInt = 1667
    image_size: ImageSize = 28
    channels: Channels = 1
    architecture: Literal["mlp", "conv"] = "mlp"
    latent_size: PositiveInt = 20
    latent_distribution: Literal["normal"] = "normal"
    hidden_size: PositiveInt = 500
    width: PositiveInt = 64
    likelihood: Literal["bernoulli", "gaussian"] = "bernoulli"
    pixel_std: PositiveFloat = 1.0
    weight_decay: NonNegativeFloat = 1 / 60_000
    optimizer: Literal["adagrad", "adam", "rmsprop"] = "adagrad"
    learning_rate: PositiveFloat = 0.02

    def validate(self) -> None:
        if self.architecture == "conv":
            autoencoder.check_image_size(self)


@register(
    "vae",
    task="generation",
    paper=Paper("Auto-Encoding Variational Bayes", "D. P. Kingma, M. Welling", 2014, "1312.6114"),
    tiny={"image_size": 8, "hidden_size": 16, "latent_size": 4, "batch_size": 4},
)
class VAE(EncodingGAN):
    """Variational auto-encoder; images are (batch, height, width, channels), [0, 1] or [-1, 1] by likelihood.

        model.reconstruct(images)    # through the mean of q(z|x)
        model.elbo(images)           # L(x) in nats of every picture: low where it is unlike the data

    The logged `elbo` is the mean L(x) in nats, `log_likelihood` - `kl`. Samples are the means of p(x|z).
    """

    config_cls = VAEConfig
    log_names = ("elbo", "log_likelihood", "kl")

    def build_networks(self, config: VAEConfig) -> dict[str, keras.Model]:
        build_encoder, build_decoder = _BUILDERS[config.architecture]
        activation = "sigmoid" if config.likelihood == "bernoulli" else "tanh"
        return {"encoder": build_encoder(config), "generator": build_decoder(config, activation)}

    @property
    def players(self) -> dict[str, tuple[str, ...]]:
        return {"autoencoder": ("encoder", "generator")}

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        kinds = {
            "adagrad": keras.optimizers.Adagrad,
            "adam": functools.partial(keras.optimizers.Adam, epsilon=1e-8),
            "rmsprop": keras.optimizers.RMSprop,
        }
        return kinds[self.config.optimizer](self.config.learning_rate)

    @property
    def batch_spec(self) -> BatchSpec:
        c = self.config
        value_range = (0.0, 1.0) if c.likelihood == "bernoulli" else (-1.0, 1.0)
        return BatchSpec(images=image_field(height_width(c.image_size), c.channels, value_range))

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        images = batch["images"]
        noise = self.latents("posterior", tf.shape(images)[0])
        with tf.GradientTape() as tape:
            log_likelihood, kl = self._terms(images, noise, training=True)
            elbo = tf.reduce_mean(log_likelihood - kl)
            weights = half_squared_norm(self.player_variables("autoencoder"))
            loss = self.config.weight_decay * weights - elbo
        self.update("autoencoder", tape, loss)
        return self._log(log_likelihood, kl)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        noise = self.latents("validation", tf.shape(batch["images"])[0])
        return self._log(*self._terms(batch["images"], noise, training=False))

    def _log(self, log_likelihood: tf.Tensor, kl: tf.Tensor) -> dict[str, tf.Tensor]:
        log_likelihood, kl = tf.reduce_mean(log_likelihood), tf.reduce_mean(kl)
        return self.log(elbo=log_likelihood - kl, log_likelihood=log_likelihood, kl=kl)

    def _terms(self, images: tf.Tensor, noise: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """log p(x|z) for one draw of z, and the divergence, in nats (batch,)."""
        means, log_variances = self.encoder(images, training=training)
        decoded = self._decoder(normal_sample(means, log_variances, noise), training=training)
        if self.config.likelihood == "bernoulli":
            log_likelihood = bernoulli_log_likelihood(images, decoded)
        else:
            log_likelihood = gaussian_log_likelihood(images, decoded, self.config.pixel_std)
        return log_likelihood, kl_to_standard_normal(means, log_variances)

    @functools.cached_property
    def _decoder(self) -> keras.Model:
        """The generator; for Bernoulli pixels without the sigmoid, whose logarithm is inexact near 0 or 1."""
        if self.config.likelihood == "gaussian":
            return self.generator
        return keras.Model(self.generator.input, self.generator.get_layer("logits").output)

    def elbo(self, images: Any, num_draws: int = 1, seed: int = 0, batch_size: int = 64) -> np.ndarray:
        """L(x) of pictures in nats, a lower bound of log p(x).

        Args:
            images: (count, height, width, channels) in the range of training, or one picture.
            num_draws: draws of z per picture that are averaged.
            seed: of these draws.
            batch_size: pictures per call of the networks.

        Returns:
            float32 (count,).

        Raises:
            BatchError: if the pictures do not fit the model.
            ValueError: if `num_draws` is below 1.
        """
        if num_draws < 1:
            raise ValueError(f"num_draws must be at least 1, got {num_draws}.")
        images, totals = checked_images(images, self.batch_spec["images"]), 0.0
        for draw in range(num_draws):
            drawn = random.make_seed(seed, "draws for the bound", draw)
            noise = random.normal((len(images), self.config.latent_size), drawn)
            starts = range(0, len(images), batch_size)
            parts = [self._bound(images[s : s + batch_size], noise[s : s + batch_size]) for s in starts]
            totals = totals + np.concatenate(parts)
        return totals / np.float32(num_draws)

    @functools.cached_property
    def _bound(self) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        @tf.function(reduce_retracing=True, autograph=False)
        def bound(images: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
            log_likelihood, kl = self._terms(images, noise, training=False)
            return log_likelihood - kl

        return bound

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Also `elbo`, the mean bound in nats."""
        return {**super().measure(examples), "elbo": float(self.elbo(examples["images"]).mean())}


def bernoulli_log_likelihood(images: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Sum over pixels of x log p + (1 - x) log(1 - p) with p = sigmoid(logits), in nats (batch,).

    Both arguments are (batch, height, width, channels); the images are in [0, 1].
    """
    return -_sum_over_pixels(tf.nn.sigmoid_cross_entropy_with_logits(images, logits))


def gaussian_log_likelihood(images: tf.Tensor, means: tf.Tensor, std: float) -> tf.Tensor:
    """log N(images; means, std^2 I) in nats (batch,)."""
    squares = tf.square((images - means) / std)
    return _sum_over_pixels(-0.5 * (squares + math.log(2.0 * math.pi)) - math.log(std))


def _sum_over_pixels(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(values, axis=[1, 2, 3])


# -------------------------------------------------------------------- dense networks


def _mlp_encoder(config: VAEConfig) -> keras.Model:
    """Images (batch, height, width, channels) -> means, called "latents", and log-variances."""
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    x = layers.Dense(config.hidden_size, activation="tanh", **_weights())(layers.Flatten()(images))
    return keras.Model(images, autoencoder.normal_heads(x, config, _weights), name="encoder")


def _mlp_decoder(config: VAEConfig, activation: str) -> keras.Model:
    """Latents (batch, latent_size) -> images (batch, height, width, channels)."""
    shape = (*height_width(config.image_size), config.channels)
    latents = keras.Input((config.latent_size,), name="latents")
    x = layers.Dense(config.hidden_size, activation="tanh", **_weights())(latents)
    x = layers.Dense(math.prod(shape), dtype="float32", name="pixels", **_weights())(x)
    x = layers.Reshape(shape, dtype="float32", name="logits")(x)
    images = layers.Activation(activation, dtype="float32", name="images")(x)
    return keras.Model(latents, images, name="generator")


def _weights() -> dict[str, Any]:
    kinds = ("kernel_initializer", "bias_initializer")
    return {kind: keras.initializers.RandomNormal(0.0, 0.01) for kind in kinds}


_BUILDERS = {
    "mlp": (_mlp_encoder, _mlp_decoder),
    "conv": (autoencoder.build_conv_encoder, autoencoder.build_conv_decoder),
}
