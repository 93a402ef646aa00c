"""BinGAN: a discriminator whose narrow layer, cut at 0, is a binary descriptor of a picture.

Two layers of D are tied together on real pictures: the narrow one with K numbers f, and a wide one with M
numbers h. With b = f / (|f| + 0.001), nearly signs, and c = sign(h), through which no gradient flows,

    DMR = mean over pairs of |c_k . c_j / M - b_k . b_j / K|        distances of the wide layer are kept,
    R   = mean over bits of (mean over the batch of b)^2            bits are on half of the time, and
        + mean over pairs of w_kj |b_k . b_j| / K                   descriptors unlike, with less weight
          with w_kj = exp(-|c_k . c_j| / (beta M)),                 where the wide layer sees likeness;

    D descends   1/2 E[-log D(x)] + 1/2 E[-log(1 - D(G(z)))] + dmr_weight DMR + bre_weight R,

with D = sigmoid(logsumexp(two logits)); G matches features, |E f(x) - E f(G(z))|^2 of the layer before the
logits.

    bits = model.describe(images)                         # uint8 (count, num_bits / 8)
    metrics.descriptors.hamming_distances(bits, bits)     # pairs that are alike differ in few bits

Reference: M. Zieba, P. Semberecki, T. El-Gaaly, T. Trzcinski, "BinGAN: Learning Compact Binary Descriptors
with a Regularized GAN", NeurIPS 2018, arXiv:1806.06778. Networks and numbers are those of the authors'
released code, which builds on that of "Improved Techniques for Training GANs": weight normalisation with
initial values from data, dropout, that paper's generator, Adam with epsilon inside the root.
`architecture="retrieval"` is for CIFAR-10 (wide: the pooled last convolution; narrow: a dense layer of 16, 32
or 64 numbers), "patches" for Brown's patches (wide: the 3x3 convolution without padding; narrow: a pooled 1x1
convolution, 256 numbers).

Departures: in "patches" the narrow layer's pooling comes before its activation, so that its signs mean
something; G matches features of the real pictures, with the samples, that D has just seen, in the code of
others; under several replicas pairs are those of the global batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from pydantic import Field as Limits

from tf_gan_zoo import optimizers, penalties
from tf_gan_zoo.batch_spec import BatchError, BatchSpec, checked_images, image_field
from tf_gan_zoo.config import (
    Channels,
    Config,
    ConfigError,
    Decay,
    ImageSize,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    height_width,
)
from tf_gan_zoo.endpoints import Endpoint
from tf_gan_zoo.gan import AdversarialGAN
from tf_gan_zoo.layers import SeededDropout, WeightNormConv2D, WeightNormDense, weight_norm
from tf_gan_zoo.metrics import descriptors
from tf_gan_zoo.models import improved_gan
from tf_gan_zoo.registry import Paper, register

#: One in so many held-out pictures is a query of `measure`; the others are searched.
_QUERY_INTERVAL = 5


@dataclass(frozen=True, kw_only=True)
class BinGANConfig(Config):
    """The paper's CIFAR-10 model with 32 bits.

    Attributes:
        batch_size: 2 or more, since pairs of pictures are compared.
        image_size: sides that can be halved to 4..7 pixels, 28 or 32 for example.
        latent_distribution: latents come from [-1, 1]; the generator moves them to [0, 1].
        num_bits: K, a multiple of 8; 16, 32 and 64 for retrieval and 256 for patches in the paper.
        output_std: standard deviation that the first samples have before their tanh.
        discriminator_width: channels of D's first three convolutions.
        deep_width: channels of its next ones; 128 for patches.
        input_dropout: on pictures, in training; `hidden_dropout` follows the third and sixth convolution. In
            narrow networks dropout makes bits so noisy that they look balanced without being so.
        dmr_weight: 0.05 in the paper.
        bre_weight: 0.001 for retrieval and 0.01 for patches in the paper.
        beta: the larger, the less the wide layer's likeness counts.
        softness: of the soft signs; the larger, the farther from 0 a number still feels the regularisers.
        generator_learning_rate: None for the same as D's.
    """

    data: str = "tfds:cifar10"
    batch_size: Annotated[int, Limits(ge=2)] = 25
    epochs: PositiveInt = 400
    image_size: ImageSize = 32
    channels: Channels = 3
    latent_size: PositiveInt = 100
    latent_distribution: Literal["uniform"] = "uniform"
    architecture: Literal["retrieval", "patches"] = "retrieval"
    num_bits: PositiveInt = 32
    generator_width: PositiveInt = 128
    output_std: PositiveFloat = 0.1
    discriminator_width: PositiveInt = 96
    deep_width: PositiveInt = 192
    input_dropout: Decay = 0.2
    hidden_dropout: Decay = 0.5
    dmr_weight: NonNegativeFloat = 0.05
    bre_weight: NonNegativeFloat = 0.001
    beta: PositiveFloat = 2.0
    softness: PositiveFloat = 0.001
    learning_rate: PositiveFloat = 3e-4
    generator_learning_rate: PositiveFloat | None = None
    beta_1: Decay = 0.5
    beta_2: Decay = 0.999

    def validate(self) -> None:
        improved_gan.check_image_size(self)
        if self.num_bits % 8:
            raise ConfigError(
                f"BinGANConfig.num_bits: descriptors are packed into bytes, so expected a multiple of 8, got "
                f"{self.num_bits}."
            )


@register(
    "bingan",
    task=("generation", "features"),
    paper=Paper(
        "BinGAN: Learning Compact Binary Descriptors with a Regularized GAN",
        "M. Zieba, P. Semberecki, T. El-Gaaly, T. Trzcinski", 2018, "1806.06778",
    ),
    # Small weights, so that runs on one device and on several can be compared: a soft sign is steep at 0.
    tiny={
        "image_size": 16, "channels": 1, "num_bits": 8, "generator_width": 4, "discriminator_width": 4,
        "deep_width": 8, "latent_size": 6, "batch_size": 4, "dmr_weight": 1e-4, "bre_weight": 1e-4,
    },
)  # fmt: skip
class BinGAN(AdversarialGAN):
    """GAN with binary descriptors; images are (batch, height, width, channels) in [-1, 1].

    Logged are the two regularisers before their weights.
    """

    config_cls = BinGANConfig
    log_names = ("d_loss", "g_loss", "dmr_loss", "bre_loss")

    def build_networks(self, config: BinGANConfig) -> dict[str, keras.Model]:
        return {"generator": build_generator(config), "discriminator": build_discriminator(config)}

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c, rate = self.config, self.config.learning_rate
        rate = (c.generator_learning_rate or rate) if player == "generator" else rate
        return optimizers.InnerEpsilonAdam(rate, beta_1=c.beta_1, beta_2=c.beta_2)

    @property
    def batch_spec(self) -> BatchSpec:
        return BatchSpec(images=image_field(height_width(self.config.image_size), self.config.channels))

    # ---------------------------------------------------------------- training

    def before_first_step(self, dataset: tf.data.Dataset) -> None:
        """Takes the initial values of weight-normalised layers from the first pictures.

        Raises:
            BatchError: if a batch has one picture.
        """
        batches = improved_gan.first_batches(self, dataset, improved_gan.NUM_INITIAL)
        if len(batches[0]) < 2:
            raise BatchError(
                "'images': the regularisers compare pairs of pictures, and a batch has 1. "
                "Give a batch_size of at least 2."
            )
        images = tf.concat(batches, axis=0)
        for network, inputs in (
            (self.generator, self.sample_inputs(len(images))), (self.discriminator, images),
        ):  # fmt: skip
            if weight_norm.is_untrained(network):
                weight_norm.initialize_from_data(network, inputs)

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real = batch["images"]
        with tf.GradientTape() as g_tape:
            fake = self.generator(self.latents("latents", tf.shape(real)[0]), training=True)
            with g_tape.stop_recording(), tf.GradientTape() as d_tape:
                logs = self._d_losses(real, fake, training=True)
                d_loss = self._weighted(logs)
            with g_tape.stop_recording():
                self.update("discriminator", d_tape, d_loss)
            g_loss = self._g_loss(real, fake, training=True)
        self.update("generator", g_tape, g_loss)
        return self.log(**logs, g_loss=g_loss)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real = batch["images"]
        fake = self.generator(self.latents("validation", tf.shape(real)[0]), training=False)
        logs = self._d_losses(real, fake, training=False)
        return self.log(**logs, g_loss=self._g_loss(real, fake, training=False))

    def _d_losses(self, real: tf.Tensor, fake: tf.Tensor, training: bool) -> dict[str, tf.Tensor]:
        """The adversarial loss and, of the real pictures, both regularisers."""
        real_logits, codes, wide, _ = self.discriminator(real, training=training)
        fake_logits, *_ = self.discriminator(fake, training=training)
        everyone = tf.ones(tf.shape(real)[:1], tf.bool)
        signs = penalties.soft_signs(codes, self.config.softness)
        narrow, wide = penalties.pair_similarities(signs), penalties.pair_similarities(hard_signs(wide))
        correlation = weighted_correlation(wide, narrow, self.config.beta)
        return {
            "d_loss": improved_gan.unsupervised_loss(real_logits, fake_logits, everyone),
            "dmr_loss": distance_matching(wide, narrow),
            "bre_loss": penalties.marginal_entropy_penalty(signs) + correlation,
        }

    def _weighted(self, logs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """What D descends."""
        c = self.config
        return logs["d_loss"] + c.dmr_weight * logs["dmr_loss"] + c.bre_weight * logs["bre_loss"]

    def _g_loss(self, real: tf.Tensor, fake: tf.Tensor, training: bool) -> tf.Tensor:
        *_, real_features = self.discriminator(real, training=training)
        *_, fake_features = self.discriminator(fake, training=training)
        mean = tf.reduce_mean(tf.cast(real_features, tf.float32), axis=0)
        return improved_gan.feature_matching_loss(mean, fake_features, "squared")

    # ---------------------------------------------------------------- descriptors

    def describe(self, images: Any, batch_size: int = 64) -> np.ndarray:
        """Binary descriptors, eight bits to a byte.

        Args:
            images: (batch, height, width, channels) in [-1, 1], or one picture.
            batch_size: pictures per call of the network.

        Returns:
            uint8 (batch, num_bits / 8); `np.unpackbits(axis=1)` gives the bits, 1 where a code is 0 or more.

        Raises:
            BatchError: for pictures that do not fit.
        """
        images = checked_images(images, self.batch_spec["images"])
        _, codes, *_ = self.run(images, batch_size, "discriminator")
        return np.packbits(codes >= 0, axis=1)

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Class coverage of samples; retrieval by descriptors, and by as many bits that nobody has learnt."""
        results = super().measure(examples)
        if results:
            images = examples["images"]
            unlearnt = descriptors.random_hyperplane_bits(images, self.config.num_bits)
            for name, bits in (("", self.describe(images)), ("_baseline", unlearnt)):
                results[f"retrieval_map{name}"] = _retrieval(bits, np.asarray(examples["labels"]))
        return results

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        pictures = {"images": self.batch_spec["images"].value_range}
        notes = {"codes": "a descriptor's bit is 1 where its number is 0 or more"}
        return {**super().endpoints, "describe": Endpoint(self.discriminator, pictures, notes=notes)}


def _retrieval(bits: np.ndarray, labels: np.ndarray) -> float:
    """mAP of every fifth picture as a query for the others."""
    queries = np.arange(len(bits)) % _QUERY_INTERVAL == 0
    distances = descriptors.hamming_distances(bits[queries], bits[~queries])
    return descriptors.mean_average_precision(distances, labels[queries], labels[~queries])


# -------------------------------------------------------------------- regularisers


def hard_signs(values: tf.Tensor) -> tf.Tensor:
    """+1 where a number is 0 or more, else -1; no gradient. (batch, ...) -> float32 (batch, numbers)."""
    flat = tf.reshape(values, (-1, int(np.prod(values.shape[1:]))))
    return tf.where(flat >= 0, 1.0, -1.0)


def distance_matching(wide: tf.Tensor, narrow: tf.Tensor) -> tf.Tensor:
    """DMR: the mean over pairs of how much similarities in the two layers differ.

    Args:
        wide: similarities (examples, examples) in [-1, 1], as `penalties.pair_similarities` gives them.
        narrow: likewise.
    """
    return _mean_over_pairs(tf.abs(wide - narrow))


def weighted_correlation(wide: tf.Tensor, narrow: tf.Tensor, beta: float) -> tf.Tensor:
    """The adjusted correlation term: |narrow| with weight 1 for pairs that are unlike in the wide layer.

    Args:
        wide: similarities (examples, examples); the weight of a pair is exp(-|wide| / beta).
        narrow: likewise.
        beta: above 0.
    """
    return _mean_over_pairs(tf.exp(-tf.abs(wide) / beta) * tf.abs(narrow))


def _mean_over_pairs(values: tf.Tensor) -> tf.Tensor:
    count = tf.cast(tf.shape(values)[0], values.dtype)
    return tf.reduce_sum(penalties.without_diagonal(values)) / (count * (count - 1.0))


# -------------------------------------------------------------------- networks


def build_generator(config: BinGANConfig) -> keras.Model:
    """The generator of "Improved Techniques for Training GANs" for CIFAR-10."""
    shared = ("image_size", "channels", "latent_size", "generator_width", "output_std", "sync_batch_norm")
    own = {name: getattr(config, name) for name in shared}
    return improved_gan.build_generator(improved_gan.ImprovedGANConfig(**own))


def build_discriminator(config: BinGANConfig) -> keras.Model:
    """Images (batch, height, width, channels) -> logits, codes, wide layer, features to match.

    Shapes: (batch, 2), (batch, num_bits), (batch, wide numbers) or a map, (batch, features).
    """
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    x = SeededDropout(config.input_dropout)(images)
    widths = (config.discriminator_width, config.deep_width)
    x = improved_gan.convolutional_trunk(x, *widths, config.hidden_dropout)
    head = _retrieval_head if config.architecture == "retrieval" else _patch_head
    codes, wide, features = head(x, config)
    logits = _dense(2, dtype="float32", name="logits")(features)
    codes = layers.Activation("linear", dtype="float32", name="codes")(codes)
    return keras.Model(images, [logits, codes, wide, features], name="discriminator")


Head = tuple[keras.KerasTensor, keras.KerasTensor, keras.KerasTensor]


def _retrieval_head(x: keras.KerasTensor, config: BinGANConfig) -> Head:
    """Codes, wide layer and features: the codes are matched themselves."""
    for _ in range(2):
        x = improved_gan.leaky_conv(config.deep_width, 1)(x)
    wide = layers.GlobalAveragePooling2D(name="wide")(x)
    codes = _dense(config.num_bits)(wide)
    return codes, wide, codes


def _patch_head(x: keras.KerasTensor, config: BinGANConfig) -> Head:
    """Codes, wide layer and features; `x` is the wide layer's map."""
    narrow = WeightNormConv2D(config.num_bits, 1)(x)
    codes = layers.GlobalAveragePooling2D()(narrow)
    y = improved_gan.leaky_conv(config.deep_width, 1)(layers.Activation(improved_gan.leaky_relu)(narrow))
    return codes, x, layers.GlobalAveragePooling2D(name="features")(y)


def _dense(units: int, **kwargs: Any) -> layers.Layer:
    return WeightNormDense(units, trainable_gain=True, initial_std=0.1, **kwargs)
