"""InfoGAN: codes of the generator's input become meaningful by being kept readable from the picture.

    D maximises  V = E log D(x) + E log(1 - D(G(z, c))),   G maximises  E log D(G(z, c)),   and both, with Q,
    maximise  lambda L_I,  where  L_I = E log Q(c | G(z, c)) + H(c)  <=  I(c; G(z, c)).

Q reads the codes from D's last features, so it costs next to nothing. Of a category it predicts logits, of a
continuous code the mean (and log-variance) of a Gaussian. L_I of a ten-way category is at most ln 10 = 2.303
nats, which it reaches when Q reads every code from the picture without doubt.

Reference: X. Chen, Y. Duan, R. Houthooft, J. Schulman, I. Sutskever, P. Abbeel, "InfoGAN: Interpretable
Representation Learning by Information Maximizing Generative Adversarial Nets", NIPS 2016, arXiv:1606.03657,
equations 5 and 6, appendix C.1 (MNIST) and C.3 (CelebA). From the authors' released code: Gaussians have
standard deviation 1 (`fix_std`, where Q's log-variances exist but are not used); every layer of the MNIST
networks has a bias; weights start from N(0, 0.02), truncated for convolutions, and batch norms' gains from
N(1, 0.02). LeakyReLU's slope is the paper's 0.1, the code's 0.01 with `negative_slope=0.01`.

Architectures: "mnist" as in appendix C.1, pictures in [0, 1]; "celeb_a" as in C.3, pictures in [-1, 1], no
biases in front of batch norm. The recipe infogan.celeb_a is no setting of the paper: it has the networks of
C.3 with one ten-way category, two continuous codes and 256 numbers of noise.

Departures: other sizes than the paper's. With "mnist" 7x7 becomes a quarter of the picture's sides; with
"celeb_a" every doubling of 32x32 adds a convolution to either player. D's update and G's update share one
forward pass of G.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tf_gan_zoo import random
from tf_gan_zoo.batch_spec import BatchSpec, checked_images, image_field
from tf_gan_zoo.config import (
    Channels,
    Config,
    ConfigError,
    Decay,
    Fraction,
    ImageSize,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    height_width,
    num_halvings,
)
from tf_gan_zoo.endpoints import Endpoint
from tf_gan_zoo.gan import AdversarialGAN
from tf_gan_zoo.losses import non_saturating_discriminator_loss as discriminator_loss
from tf_gan_zoo.losses import non_saturating_generator_loss as generator_loss
from tf_gan_zoo.metrics.tasks import clustering_accuracy
from tf_gan_zoo.registry import Paper, register


class Codes(NamedTuple):
    """Codes of a batch: `labels` int32 (batch, number of codes), `continuous` (batch, num_continuous)."""

    labels: tf.Tensor
    continuous: tf.Tensor


class InferredCodes(NamedTuple):
    """What Q reads from pictures.

    Attributes:
        probabilities: (batch, sum of num_categories), the categories of the codes one after another.
        means: (batch, num_continuous), means of the continuous codes.
    """

    probabilities: np.ndarray
    means: np.ndarray


@dataclass(frozen=True, kw_only=True)
class InfoGANConfig(Config):
    """The paper's MNIST model (appendix C.1).

    Attributes:
        architecture: the networks of MNIST, or those of CelebA.
        image_size: sides that are multiples of 4 ("mnist"), or that can be halved at least twice down to 2 or
            more pixels, such as 16, 32 and 64 ("celeb_a").
        latent_size: numbers of noise; the generator's input is noise, one-hot categories, continuous codes.
        num_categories: categories of the one categorical code, or of each: (10, 10); () for none.
        num_continuous: codes uniform on [-1, 1].
        categorical_weight: lambda of the categorical codes' part of L_I.
        continuous_weight: lambda of the continuous codes' part.
        fix_std: Gaussians of standard deviation 1; if False, Q predicts it.
        width: channels of D's first and G's last hidden convolution.
        hidden_size: units of the dense layers of D and G; "celeb_a" has none.
        recognition_size: units of Q's hidden layer.
    """

    data: str = "tfds:mnist"
    batch_size: PositiveInt = 128
    epochs: PositiveInt = 50
    steps_per_epoch: PositiveInt | None = 100
    architecture: Literal["mnist", "celeb_a"] = "mnist"
    image_size: ImageSize = 28
    channels: Channels = 1
    latent_size: PositiveInt = 62
    latent_distribution: Literal["uniform", "normal"] = "uniform"
    num_categories: PositiveInt | tuple[PositiveInt, ...] = 10
    num_continuous: Literal[0] | PositiveInt = 2
    categorical_weight: NonNegativeFloat = 1.0
    continuous_weight: NonNegativeFloat = 1.0
    fix_std: bool = True
    width: PositiveInt = 64
    hidden_size: PositiveInt = 1024
    recognition_size: PositiveInt = 128
    negative_slope: Fraction = 0.1
    discriminator_learning_rate: PositiveFloat = 2e-4
    generator_learning_rate: PositiveFloat = 1e-3
    beta_1: Decay = 0.5
    beta_2: Decay = 0.999

    def validate(self) -> None:
        self._check_image_size()
        if any(size < 2 for size in self.categories):
            raise ConfigError(
                f"InfoGANConfig.num_categories: a code needs at least 2 categories, got "
                f"{self.num_categories}. Use e.g. 10, (10, 10), or () for no categorical code."
            )
        if not self.code_size:
            raise ConfigError(
                "InfoGANConfig.num_continuous: there is no code at all (num_categories=(), "
                "num_continuous=0). Give at least one, or use dcgan."
            )

    def _check_image_size(self) -> None:
        if self.architecture == "mnist" and any(side % 4 for side in height_width(self.image_size)):
            raise ConfigError(
                f"InfoGANConfig.image_size: the generator doubles twice, so sides must be multiples of 4, "
                f"got {self.image_size}. Use sides such as 28, 32 or 64."
            )
        if self.architecture == "celeb_a" and (self.num_doublings < 2 or not self.up_widths[-1]):
            raise ConfigError(
                f"InfoGANConfig.image_size: {self.image_size} with width={self.width} does not suit "
                "architecture='celeb_a', which doubles maps at least twice and halves their channels each "
                "time. Use sides such as 16, 32 or 64, or more width."
            )

    @property
    def num_doublings(self) -> int:
        """How often the generator doubles a map's sides: 4 times for 32x32 faces."""
        return 2 if self.architecture == "mnist" else num_halvings(self.image_size, smallest=2)

    @property
    def up_widths(self) -> list[int]:
        """Channels of the hidden transposed convolutions of "celeb_a"."""
        return [4 * self.width >> k for k in range(self.num_doublings - 1)]

    @property
    def value_range(self) -> tuple[float, float]:
        """Smallest and largest value of a picture, real or generated."""
        return (0.0, 1.0) if self.architecture == "mnist" else (-1.0, 1.0)

    @property
    def feature_size(self) -> int:
        """Numbers that D hands to Q."""
        if self.architecture == "mnist":
            return self.hidden_size
        sides = (side >> (self.num_doublings - 1) for side in height_width(self.image_size))
        return math.prod(sides) * self.width << (self.num_doublings - 2)

    @property
    def categories(self) -> tuple[int, ...]:
        """Number of categories of each categorical code."""
        sizes = self.num_categories
        return (sizes,) if isinstance(sizes, int) else sizes

    @property
    def code_size(self) -> int:
        """Numbers that the codes take in the generator's input."""
        return sum(self.categories) + self.num_continuous


@register(
    "infogan",
    task="generation",
    paper=Paper(
        "InfoGAN: Interpretable Representation Learning by Information Maximizing Generative Adversarial "
        "Nets",
        "X. Chen, Y. Duan, R. Houthooft, J. Schulman, I. Sutskever, P. Abbeel", 2016, "1606.03657",
    ),
    tiny={
        "image_size": 8, "width": 4, "hidden_size": 16, "recognition_size": 8, "latent_size": 6,
        "num_categories": 3, "batch_size": 4,
    },
)  # fmt: skip
class InfoGAN(AdversarialGAN):
    """GAN with readable codes; images are (batch, height, width, channels) in [0, 1] or [-1, 1].

    Sample with chosen codes and read them from pictures:

        model.generate(10, labels=range(10))                      # one picture of every category
        model.generate(8, labels=3, codes=[[c, 0] for c in np.linspace(-2, 2, 8)])
        model.infer_codes(images).probabilities.argmax(axis=1)    # clusters, found without labels

    The logged `mutual_information` and `continuous_information` are L_I in nats of the categorical codes and
    of the continuous ones; with `fix_std` the latter cannot exceed ln 2 - ln(2 pi) / 2 = -0.226 per code.
    """

    config_cls = InfoGANConfig
    log_names = ("d_loss", "g_loss", "mutual_information", "continuous_information")

    def build_networks(self, config: InfoGANConfig) -> dict[str, keras.Model]:
        return {
            "generator": _GENERATORS[config.architecture](config),
            "discriminator": _DISCRIMINATORS[config.architecture](config),
            "recognition": build_recognition(config),
        }

    @property
    def players(self) -> dict[str, tuple[str, ...]]:
        return {"generator": ("generator",), "discriminator": ("discriminator", "recognition")}

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c = self.config
        rate = c.generator_learning_rate if player == "generator" else c.discriminator_learning_rate
        return keras.optimizers.Adam(rate, beta_1=c.beta_1, beta_2=c.beta_2, epsilon=1e-8)

    @property
    def batch_spec(self) -> BatchSpec:
        c = self.config
        return BatchSpec(images=image_field(height_width(c.image_size), c.channels, c.value_range))

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        c = self.config
        parts = [f"{c.latent_size} numbers of noise", f"one-hot categories of {list(c.categories)}"]
        parts.append(f"{c.num_continuous} continuous codes from -1 to 1")
        generate = super().endpoints["generate"]
        return {"generate": dataclasses.replace(generate, notes={"latents": ", then ".join(parts)})}

    # ---------------------------------------------------------------- training

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real = batch["images"]
        inputs, codes = self._inputs("latents", tf.shape(real)[0])
        with tf.GradientTape() as g_tape:
            fake = self.generator(inputs, training=True)
            with g_tape.stop_recording(), tf.GradientTape() as d_tape:
                real_logits, _ = self.discriminator(real, training=True)
                fake_logits, information = self._read(fake, codes, training=True)
                d_loss = discriminator_loss(real_logits, fake_logits) - self._weighted(information)
            with g_tape.stop_recording():
                self.update("discriminator", d_tape, d_loss)
            fake_logits, information = self._read(fake, codes, training=True)
            g_loss = generator_loss(fake_logits) - self._weighted(information)
        self.update("generator", g_tape, g_loss)
        return self._log(d_loss, g_loss, information)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        inputs, codes = self._inputs("validation", tf.shape(batch["images"])[0])
        real_logits, _ = self.discriminator(batch["images"], training=False)
        fake_logits, information = self._read(self.generator(inputs, training=False), codes, training=False)
        weighted = self._weighted(information)
        d_loss = discriminator_loss(real_logits, fake_logits) - weighted
        return self._log(d_loss, generator_loss(fake_logits) - weighted, information)

    def _inputs(self, purpose: str, count: tf.Tensor) -> tuple[tf.Tensor, Codes]:
        """The generator's inputs in this step, and the codes in them."""
        codes = self._draw_codes(count, lambda part: self._seed(f"{part} of {purpose}"))
        return self._joined(self.latents(purpose, count), codes), codes

    def _read(
        self, images: tf.Tensor, codes: Codes, training: bool
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        """D's logits, and L_I of the categorical and of the continuous codes."""
        logits, features = self.discriminator(images, training=training)
        predicted = self.recognition(features, training=training)
        return logits, information_bounds(codes, predicted, self.config)

    def _weighted(self, information: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        categorical, continuous = information
        return self.config.categorical_weight * categorical + self.config.continuous_weight * continuous

    def _log(
        self, d_loss: tf.Tensor, g_loss: tf.Tensor, information: tuple[tf.Tensor, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        categorical, continuous = information
        return self.log(
            d_loss=d_loss, g_loss=g_loss, mutual_information=categorical, continuous_information=continuous
        )

    # ---------------------------------------------------------------- codes

    def _draw_codes(self, count: int | tf.Tensor, seed_of: Callable[[str], tf.Tensor]) -> Codes:
        """Codes from their priors; `seed_of` gives the seed of each part's draw."""
        sizes = tf.constant(self.config.categories, tf.float32)
        fractions = random.uniform((count, len(self.config.categories)), seed_of("categories"))
        continuous = random.uniform((count, self.config.num_continuous), seed_of("continuous"), -1.0, 1.0)
        return Codes(tf.cast(fractions * sizes, tf.int32), continuous)

    def _joined(self, noise: tf.Tensor, codes: Codes) -> tf.Tensor:
        """The generator's input (batch, latent_size + code_size): noise, one-hot categories, continuous."""
        sizes = enumerate(self.config.categories)
        one_hot = [tf.one_hot(codes.labels[:, k], size) for k, size in sizes]
        return tf.concat([noise, *one_hot, codes.continuous], axis=1)

    def sample_inputs(
        self, num_samples: int, seed: int = 0, labels: Any = None, codes: Any = None
    ) -> tf.Tensor:
        """What the generator turns into `num_samples` samples; `generate` takes the same keywords.

        Args:
            num_samples: how many.
            seed: draws the noise, and the codes that are not given.
            labels: category of each sample: an integer for all of them or (num_samples,); with several
                categorical codes (num_samples, number of codes).
            codes: continuous codes, (num_samples, num_continuous) or (num_continuous,) for all of them; may
                lie outside the [-1, 1] of training. Or a dict with "labels" and "continuous".

        Returns:
            float32 (num_samples, latent_size + code_size).

        Raises:
            ValueError: if `labels` or `codes` do not fit.
        """
        if isinstance(codes, Mapping):
            labels, codes = _unpacked(codes, labels)
        drawn = self._draw_codes(num_samples, lambda part: random.make_seed(seed, f"{part} of samples"))
        chosen = Codes(
            drawn.labels if labels is None else self._checked_labels(labels, num_samples),
            drawn.continuous if codes is None else self._checked_continuous(codes, num_samples),
        )
        return self._joined(super().sample_inputs(num_samples, seed), chosen)

    def _checked_labels(self, labels: Any, count: int) -> np.ndarray:
        sizes = self.config.categories
        values = _as_array(labels, "labels")
        if len(sizes) == 1 and values.ndim < 2:
            values = values.reshape(-1, 1)
            values = np.repeat(values, count, axis=0) if np.ndim(labels) == 0 else values
        expected = f"({count},)" if len(sizes) == 1 else f"({count}, {len(sizes)})"
        if values.shape != (count, len(sizes)):
            text = self._labels_text()
            raise ValueError(f"labels: expected shape {expected}, got {np.shape(labels)}. {text}")
        if values.dtype.kind not in "iu" or (values < 0).any() or (values >= np.array(sizes)).any():
            raise ValueError(f"labels: got {np.unique(values).tolist()[:8]}. {self._labels_text()}")
        return values.astype("int32")

    def _labels_text(self) -> str:
        if not self.config.categories:
            return "The model has no categorical code: leave labels out."
        ranges = ", ".join(f"0 to {size - 1}" for size in self.config.categories)
        return f"Give integers, by categorical code: {ranges}."

    def _checked_continuous(self, codes: Any, count: int) -> np.ndarray:
        values = _as_array(codes, "codes")
        shape = (count, self.config.num_continuous)
        if values.ndim == 1 and values.shape == shape[1:]:
            values = np.tile(values, (count, 1))
        if values.shape != shape:
            raise ValueError(
                f"codes: expected continuous codes of shape {shape}, got {values.shape}. Categories go into "
                "labels=, or pass a dict with 'labels' and 'continuous'."
            )
        if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
            raise ValueError("codes: expected finite numbers, usually from -1 to 1.")
        return values.astype("float32")

    def infer_codes(self, images: Any, batch_size: int = 64) -> InferredCodes:
        """The codes that Q reads from pictures; the largest probability names a picture's cluster.

        Args:
            images: (batch, height, width, channels) as in training, or one picture without the batch axis.
            batch_size: pictures per call of the networks.

        Raises:
            BatchError: if the pictures do not fit the model.
        """
        images = checked_images(images, self.batch_spec["images"])
        starts = range(0, len(images), batch_size)
        parts = [self._inference_of_codes(tf.constant(images[s : s + batch_size])) for s in starts]
        return InferredCodes(*(np.concatenate(part) for part in zip(*parts)))

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Class coverage, and how well the first categorical code clusters the pictures by their labels."""
        results = super().measure(examples)
        if results and self.config.categories:
            probabilities = self.infer_codes(examples["images"]).probabilities
            clusters = probabilities[:, : self.config.categories[0]].argmax(axis=1)
            results["clustering_accuracy"] = clustering_accuracy(clusters, examples["labels"])
        return results

    @functools.cached_property
    def _inference_of_codes(self) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
        @tf.function(reduce_retracing=True, autograph=False)
        def infer(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            _, features = self.discriminator(images, training=False)
            logits, means, _ = split_outputs(self.recognition(features, training=False), self.config)
            empty = tf.zeros((tf.shape(images)[0], 0))
            return tf.concat([empty, *(tf.nn.softmax(part) for part in logits)], axis=1), means

        return infer


def _unpacked(codes: Mapping[str, Any], labels: Any) -> tuple[Any, Any]:
    """(labels, continuous codes) of a dict of codes."""
    unknown = sorted(set(codes) - set(Codes._fields))
    if unknown:
        raise ValueError(f"codes: a dict has 'labels' and 'continuous', got {unknown[0]!r}.")
    if labels is not None and codes.get("labels") is not None:
        raise ValueError("labels: given twice, as labels= and in codes. Give them once.")
    return (codes.get("labels") if labels is None else labels), codes.get("continuous")


def _as_array(values: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError:
        raise ValueError(f"{name}: expected an array, got rows of different lengths.") from None


# -------------------------------------------------------------------- the bound L_I


def information_bounds(
    codes: Codes, predicted: tf.Tensor, config: InfoGANConfig
) -> tuple[tf.Tensor, tf.Tensor]:
    """L_I of the categorical and of the continuous codes in nats, summed over codes (equation 5).

    Args:
        codes: the codes that the pictures were generated with.
        predicted: Q's outputs for these pictures.
    """
    logits, means, log_variances = split_outputs(predicted, config)
    categorical = [categorical_information(codes.labels[:, k], part) for k, part in enumerate(logits)]
    if config.fix_std:
        log_variances = tf.zeros_like(means)
    return (
        tf.add_n(categorical) if categorical else tf.constant(0.0),
        continuous_information(codes.continuous, means, log_variances),
    )


def categorical_information(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """ln K - cross-entropy, for a uniform code; labels (batch,), logits (batch, K)."""
    logits = tf.cast(logits, tf.float32)
    cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    return math.log(logits.shape[-1]) - tf.reduce_mean(cross_entropy)


def continuous_information(codes: tf.Tensor, means: tf.Tensor, log_variances: tf.Tensor) -> tf.Tensor:
    """ln 2 + E log N(code; mean, variance), summed over codes uniform on [-1, 1].

    All arguments are (batch, num_continuous).
    """
    squares = tf.square(codes - means) * tf.exp(-log_variances)
    log_densities = -0.5 * (math.log(2.0 * math.pi) + log_variances + squares)
    return tf.reduce_mean(tf.reduce_sum(math.log(2.0) + log_densities, axis=1))


def split_outputs(
    outputs: tf.Tensor, config: InfoGANConfig
) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
    """Q's outputs as logits of each categorical code, means and log-variances of the continuous ones."""
    sizes = [*config.categories, config.num_continuous, config.num_continuous]
    *logits, means, log_variances = tf.split(outputs, sizes, axis=1)
    return logits, means, log_variances


# -------------------------------------------------------------------- networks for MNIST


def _mnist_generator(config: InfoGANConfig) -> keras.Model:
    """Noise and codes (batch, latent_size + code_size) -> images (batch, height, width, channels)."""
    height, width = (side // 4 for side in height_width(config.image_size))
    x = inputs = _generator_input(config)
    for units in (config.hidden_size, height * width * 2 * config.width):
        x = layers.ReLU()(_norm(config)(_dense(units)(x)))
    x = layers.Reshape((height, width, 2 * config.width))(x)
    x = layers.ReLU()(_norm(config)(_up_conv(config.width)(x)))
    images = layers.Activation("sigmoid", dtype="float32", name="images")(_up_conv(config.channels)(x))
    return keras.Model(inputs, images, name="generator")


def _mnist_discriminator(config: InfoGANConfig) -> keras.Model:
    """Images (batch, height, width, channels) -> logits (batch, 1) and features (batch, hidden_size)."""
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    x = _leaky(config)(_down_conv(config.width)(images))
    x = _leaky(config)(_norm(config)(_down_conv(2 * config.width)(x)))
    x = layers.Flatten()(x)
    features = _leaky(config)(_norm(config)(_dense(config.hidden_size)(x)))
    logits = _dense(1, dtype="float32", name="logits")(features)
    return keras.Model(images, [logits, features], name="discriminator")


# -------------------------------------------------------------------- networks for CelebA


def _celeb_a_generator(config: InfoGANConfig) -> keras.Model:
    """Noise and codes (batch, latent_size + code_size) -> images (batch, height, width, channels)."""
    height, width = (side >> config.num_doublings for side in height_width(config.image_size))
    inputs, channels = _generator_input(config), 7 * config.width
    x = _norm(config)(_dense(height * width * channels, use_bias=False)(inputs))
    x = layers.Reshape((height, width, channels))(layers.ReLU()(x))
    first, *others = config.up_widths
    x = layers.ReLU()(_norm(config)(_up_conv(first, use_bias=False)(x)))
    for filters in others:
        x = layers.ReLU()(_up_conv(filters)(x))  # without batch norm, as in the paper's table
    images = layers.Activation("tanh", dtype="float32", name="images")(_up_conv(config.channels)(x))
    return keras.Model(inputs, images, name="generator")


def _celeb_a_discriminator(config: InfoGANConfig) -> keras.Model:
    """Images (batch, height, width, channels) -> logits (batch, 1) and features (batch, feature_size)."""
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    x = _leaky(config)(_down_conv(config.width)(images))
    for k in range(1, config.num_doublings - 1):
        x = _leaky(config)(_norm(config)(_down_conv(config.width << k, use_bias=False)(x)))
    features = layers.Flatten(name="features")(x)
    logits = _dense(1, dtype="float32", name="logits")(features)
    return keras.Model(images, [logits, features], name="discriminator")


_GENERATORS = {"mnist": _mnist_generator, "celeb_a": _celeb_a_generator}
_DISCRIMINATORS = {"mnist": _mnist_discriminator, "celeb_a": _celeb_a_discriminator}


# -------------------------------------------------------------------- Q and the networks' parts


def build_recognition(config: InfoGANConfig) -> keras.Model:
    """Q's head: D's features (batch, feature_size) -> outputs (batch, code_size + num_continuous).

    The outputs are logits of each categorical code, then means, then log-variances of the continuous codes.
    """
    features = keras.Input((config.feature_size,), name="features")
    hidden = _dense(config.recognition_size, use_bias=config.architecture == "mnist")(features)
    x = _leaky(config)(_norm(config)(hidden))
    outputs = _dense(config.code_size + config.num_continuous, dtype="float32", name="codes")(x)
    return keras.Model(features, outputs, name="recognition")


def _generator_input(config: InfoGANConfig) -> keras.KerasTensor:
    return keras.Input((config.latent_size + config.code_size,), name="latents")


def _dense(units: int, **kwargs: Any) -> layers.Layer:
    return layers.Dense(units, kernel_initializer=keras.initializers.RandomNormal(0.0, 0.02), **kwargs)


def _down_conv(filters: int, **kwargs: Any) -> layers.Layer:
    initializer = keras.initializers.TruncatedNormal(0.0, 0.02)
    return layers.Conv2D(filters, 4, 2, "same", kernel_initializer=initializer, **kwargs)


def _up_conv(filters: int, **kwargs: Any) -> layers.Layer:
    initializer = keras.initializers.RandomNormal(0.0, 0.02)
    return layers.Conv2DTranspose(filters, 4, 2, "same", kernel_initializer=initializer, **kwargs)


def _leaky(config: InfoGANConfig) -> layers.Layer:
    return layers.LeakyReLU(config.negative_slope)


def _norm(config: InfoGANConfig) -> layers.Layer:
    return layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, synchronized=config.sync_batch_norm,
        gamma_initializer=keras.initializers.RandomNormal(1.0, 0.02),
    )  # fmt: skip
