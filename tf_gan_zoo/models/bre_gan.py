"""BRE-GAN: D's on-off patterns are kept diverse, so that it has more to tell to G.

A ReLU layer turns a batch into binary patterns: each unit is on or off for each picture. If pictures share
patterns, D is linear on all of them alike and G gets the same direction for all. The regulariser keeps the
joint entropy of the patterns high. With soft signs s = h / (|h| + e) of a layer's d pre-activations,

    BRE = R_ME + R_AC,       R_ME = mean over units of (mean over the batch of s)^2,
                             R_AC = mean over pairs of max(0, |s_i . s_j| / d - 3 / sqrt(d)),

    D descends   -E log D(x) - E log(1 - D(G(z))) + bre_weight (BRE of samples + BRE of interpolates),

and G -E log D(G(z)). R_ME asks each unit to be on for half of the batch, R_AC two pictures to have patterns
that are as unlike as random ones. Interpolates lie between a real picture and a sample.

`diagnose(images)` tells how diverse the patterns are. The penalty by itself is
`penalties.binarized_representation_entropy`, which any discriminator can use.

Reference: Y. Cao, G. W. Ding, K. Y.-C. Lui, R. Huang, "Improving GAN Training via Binarized Representation
Entropy (BRE) Regularization", ICLR 2018, arXiv:1805.03644. Sizes, weight decay and schedule are those of the
authors' released code for CIFAR-10 (models/gan_models.py and run.py, compared by tests): batch normalisation
stands behind the activation, so a pre-activation is a convolution's output. `architecture="dcgan"` is its
default, "equal_size" has the same width everywhere but in G's first map, and ReLU in D. `regularized_layers`:
the code's default "middle" leaves out the first and the last convolution, "all_but_last" is the paper's text.
`interpolation`: the paper's "between", or the code's "beyond", which goes from the sample to the real picture
and on.

Departures: the picture's sides may be others than 32; G's update takes the samples of D's last update, in the
code new ones; batch norm has epsilon 1e-5 (the code: 1e-4), and samples are made with its moving statistics
(the code: with those of the batch); no ResNet, DenseNet, Wasserstein losses or semi-supervised training (the
code's other experiments).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from pydantic import Field as Limits

from tf_gan_zoo import penalties
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
    Repeats,
    height_width,
    num_halvings,
)
from tf_gan_zoo.gan import AdversarialGAN
from tf_gan_zoo.losses import non_saturating_discriminator_loss as discriminator_loss
from tf_gan_zoo.losses import non_saturating_generator_loss as generator_loss
from tf_gan_zoo.registry import Paper, register

#: Examples that `diagnose` looks at together: pairs are made within such a batch.
_DIAGNOSED_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class BREGANConfig(Config):
    """The authors' CIFAR-10 model.

    Attributes:
        batch_size: 2 or more, since pairs of pictures are compared.
        image_size: sides that can be halved to 4..7 pixels.
        architecture: "dcgan", or "equal_size": 4 `width` channels in every layer (but 8 `width` in G's first
            map) and ReLU in D.
        width: channels of D's first and G's last hidden convolution.
        discriminator_norm: behind D's activations, from the second on.
        bre_weight: 0 trains without the regulariser.
        regularized_layers: which of D's convolutions.
        interpolation: where interpolates lie.
        regularize_real: the patterns of real pictures, too.
        weight_decay: times the sum of squares of kernels and gains, in both players' losses.
        discriminator_steps: updates of D, each on its own batch, in a training step.
        learning_rate: falls in a straight line to `final_learning_rate` in `decay_steps` updates.
    """

    data: str = "tfds:cifar10"
    batch_size: Annotated[int, Limits(ge=2)] = 64
    epochs: PositiveInt = 52
    image_size: ImageSize = 32
    channels: Channels = 3
    latent_size: PositiveInt = 100
    latent_distribution: Literal["normal", "uniform"] = "normal"
    architecture: Literal["dcgan", "equal_size"] = "dcgan"
    width: PositiveInt = 64
    discriminator_norm: Literal["batch", "layer", "none"] = "batch"
    bre_weight: NonNegativeFloat = 1.0
    regularized_layers: Literal["middle", "all_but_last", "all"] = "middle"
    interpolation: Literal["between", "beyond"] = "between"
    regularize_real: bool = False
    weight_decay: NonNegativeFloat = 1e-4
    discriminator_steps: Repeats = 1
    learning_rate: PositiveFloat = 2e-4
    final_learning_rate: PositiveFloat = 1e-6
    decay_steps: PositiveInt = 40_000
    beta_1: Decay = 0.5
    beta_2: Decay = 0.999

    def validate(self) -> None:
        if self.num_halvings < 1:
            raise ConfigError(
                f"BREGANConfig.image_size: {self.image_size} cannot be halved to 4 or more pixels. "
                "Use sides such as 28, 32 or 64."
            )
        if not self.chosen_layers:
            raise ConfigError(
                f"BREGANConfig.regularized_layers: pictures of {self.image_size} give D "
                f"{self.num_halvings + 1} convolutions, of which none is in the middle. Use 'all_but_last'."
            )

    @property
    def num_halvings(self) -> int:
        """How often both sides can be halved without falling below 4 pixels."""
        return num_halvings(self.image_size)

    @property
    def discriminator_widths(self) -> list[int]:
        """Channels of D's convolutions, the first of which keeps the picture's size."""
        equal = self.architecture == "equal_size"
        return [4 * self.width if equal else self.width << k for k in range(self.num_halvings + 1)]

    @property
    def generator_widths(self) -> list[int]:
        """Channels of G's maps, the smallest first: that one is the same in both architectures."""
        if self.architecture == "equal_size":
            return [8 * self.width] + [4 * self.width] * self.num_halvings
        return self.discriminator_widths[::-1]

    @property
    def chosen_layers(self) -> list[int]:
        """Indices of the convolutions that the regulariser is for."""
        last = self.num_halvings
        stop = last + 1 if self.regularized_layers == "all" else last
        return list(range(1 if self.regularized_layers == "middle" else 0, stop))


@register(
    "bre_gan",
    task="generation",
    paper=Paper(
        "Improving GAN Training via Binarized Representation Entropy (BRE) Regularization",
        "Y. Cao, G. W. Ding, K. Y.-C. Lui, R. Huang", 2018, "1805.03644",
    ),
    # A soft sign is steep where a pre-activation is near 0, which makes much of rounding: a small weight, so
    # that runs on one device and on several can be compared.
    tiny={
        "image_size": 16, "channels": 1, "width": 4, "latent_size": 6, "batch_size": 4, "bre_weight": 0.01,
    },
)  # fmt: skip
class BREGAN(AdversarialGAN):
    """GAN with diverse activation patterns; images are (batch, height, width, channels) in [-1, 1].

    The logged `bre_loss` is the regulariser before its weight, the sum over samples and interpolates.
    """

    config_cls = BREGANConfig
    log_names = ("d_loss", "g_loss", "bre_loss")

    def build_networks(self, config: BREGANConfig) -> dict[str, keras.Model]:
        return {"generator": build_generator(config), "discriminator": build_discriminator(config)}

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c = self.config
        rate = keras.optimizers.schedules.PolynomialDecay(
            c.learning_rate, c.decay_steps, c.final_learning_rate
        )
        return keras.optimizers.Adam(rate, beta_1=c.beta_1, beta_2=c.beta_2, epsilon=1e-8)

    @property
    def batch_spec(self) -> BatchSpec:
        return BatchSpec(images=image_field(height_width(self.config.image_size), self.config.channels))

    @property
    def batches_per_step(self) -> int:
        return self.config.discriminator_steps

    # ---------------------------------------------------------------- training

    def before_first_step(self, dataset: tf.data.Dataset) -> None:
        """Looks whether there are pairs to compare.

        Raises:
            BatchError: if a batch has one picture.
        """
        count = len(self.named(next(iter(dataset)))["images"]) // self.batches_per_step
        if count < 2:
            raise BatchError(
                f"'images': the regulariser compares pairs of pictures, and a batch has {count}. "
                "Give a batch_size of at least 2."
            )

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        *earlier, last = [b["images"] for b in self.split_batch(batch)]
        for index, real in enumerate(earlier):
            latents = self.latents(f"latents {index}", tf.shape(real)[0])
            self._update_discriminator(real, self.generator(latents, training=True), index)
        with tf.GradientTape() as tape:
            fake = self.generator(self.latents("latents", tf.shape(last)[0]), training=True)
            with tape.stop_recording():
                d_loss, bre_loss = self._update_discriminator(last, fake, len(earlier))
            fake_logits, *_ = self.discriminator(fake, training=True)
            g_loss = generator_loss(fake_logits)
            total = g_loss + self._weight_decay("generator")
        self.update("generator", tape, total)
        return self.log(d_loss=d_loss, g_loss=g_loss, bre_loss=bre_loss)

    def _update_discriminator(
        self, real: tf.Tensor, fake: tf.Tensor, index: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """One update of D; its adversarial loss and the regulariser."""
        factors = self.random_uniform(f"interpolation {index}", (tf.shape(real)[0], 1, 1, 1))
        with tf.GradientTape() as tape:
            d_loss, bre_loss = self._d_losses(real, fake, factors, training=True)
            total = d_loss + self.config.bre_weight * bre_loss + self._weight_decay("discriminator")
        self.update("discriminator", tape, total)
        return d_loss, bre_loss

    def _d_losses(
        self, real: tf.Tensor, fake: tf.Tensor, factors: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        mixed = interpolated(real, fake, factors, self.config.interpolation)
        real_logits, *of_real = self.discriminator(real, training=training)
        fake_logits, *of_fake = self.discriminator(fake, training=training)
        _, *of_mixed = self.discriminator(mixed, training=training)
        bre_loss = layers_entropy(of_fake) + layers_entropy(of_mixed)
        if self.config.regularize_real:
            bre_loss += layers_entropy(of_real)
        return discriminator_loss(real_logits, fake_logits), bre_loss

    def _weight_decay(self, player: str) -> tf.Tensor:
        decaying = [v for v in self.player_variables(player) if v.name in ("kernel", "gamma")]
        return 2.0 * self.config.weight_decay * penalties.half_squared_norm(decaying)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real = batch["images"]
        fake = self.generator(self.latents("validation", tf.shape(real)[0]), training=False)
        factors = self.random_uniform("validation", (tf.shape(real)[0], 1, 1, 1))
        d_loss, bre_loss = self._d_losses(real, fake, factors, training=False)
        g_loss = generator_loss(self.discriminator(fake, training=False)[0])
        return self.log(d_loss=d_loss, g_loss=g_loss, bre_loss=bre_loss)

    # ---------------------------------------------------------------- diagnosis

    def diagnose(self, images: Any) -> dict[str, float]:
        """How diverse D's activation patterns are on some pictures, the mean over regularised layers.

        Args:
            images: (batch, height, width, channels) in [-1, 1], at least 2.

        Returns:
            activation_correlation: R_AC; marginal_entropy_penalty: R_ME; saturated_bits: the fraction of soft
            signs beyond 0.9, whose binary pattern is what the penalties see.

        Raises:
            BatchError: for pictures that do not fit.
        """
        images = checked_images(images, self.batch_spec["images"])
        _, *activations = self.run(images, _DIAGNOSED_BATCH, "discriminator")
        starts = range(0, max(len(images) - _DIAGNOSED_BATCH, 0) + 1, _DIAGNOSED_BATCH)
        parts = [
            _diversity(h[start : start + _DIAGNOSED_BATCH]) for h in activations for start in starts
        ]
        return {name: float(np.mean([part[name] for part in parts])) for name in parts[0]}

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Class coverage of samples, and the diversity of D's patterns on real pictures."""
        results = super().measure(examples)
        if results:
            results |= self.diagnose(examples["images"])
        return results


def interpolated(
    real: tf.Tensor, fake: tf.Tensor, factors: tf.Tensor, kind: Literal["between", "beyond"]
) -> tf.Tensor:
    """Pictures between real ones and samples, or as far beyond the real ones.

    Args:
        real: (batch, height, width, channels).
        fake: of the same shape.
        factors: U(0, 1), (batch, 1, 1, 1).
        kind: "between" or "beyond".
    """
    start = fake if kind == "between" else real
    return start + factors * (real - fake)


def layers_entropy(pre_activations: Sequence[tf.Tensor]) -> tf.Tensor:
    """The mean of BRE over layers; each has a margin of its own."""
    terms = [penalties.binarized_representation_entropy(h) for h in pre_activations]
    return tf.add_n(terms) / len(terms)


def _diversity(pre_activations: np.ndarray) -> dict[str, float]:
    signs = penalties.soft_signs(pre_activations.reshape(len(pre_activations), -1))
    return {
        "activation_correlation": float(penalties.activation_correlation_penalty(signs)),
        "marginal_entropy_penalty": float(penalties.marginal_entropy_penalty(signs)),
        "saturated_bits": float((np.abs(signs) > 0.9).mean()),
    }


# -------------------------------------------------------------------- networks


def build_generator(config: BREGANConfig) -> keras.Model:
    """Latents (batch, latent_size) -> images (batch, height, width, channels) in [-1, 1]."""
    first, *others = config.generator_widths
    height, width = (side >> config.num_halvings for side in height_width(config.image_size))
    latents = keras.Input((config.latent_size,), name="latents")
    x = layers.Dense(height * width * first, activation="relu")(latents)
    x = layers.Reshape((height, width, first))(x)
    for filters in others:
        x = layers.Conv2DTranspose(filters, 5, 2, "same", activation="relu", use_bias=False)(x)
        x = _batch_norm(config)(x)
    x = layers.Conv2DTranspose(config.channels, 3, 1, "same")(x)
    images = layers.Activation("tanh", dtype="float32", name="images")(x)
    return keras.Model(latents, images, name="generator")


def build_discriminator(config: BREGANConfig) -> keras.Model:
    """Images (batch, height, width, channels) -> logits (batch, 1), then the chosen pre-activations."""
    x = images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    pre_activations = []
    for k, filters in enumerate(config.discriminator_widths):
        x = layers.Conv2D(filters, 5, 2 if k else 1, "same")(x)
        pre_activations.append(x)
        x = _leaky_relu(x, 0.0 if config.architecture == "equal_size" else 0.2)
        x = _discriminator_norm(config)(x) if k and config.discriminator_norm != "none" else x
    logits = layers.Dense(1, dtype="float32", name="logits")(layers.Flatten()(x))
    chosen = [pre_activations[k] for k in config.chosen_layers]
    return keras.Model(images, [logits, *chosen], name="discriminator")


def _leaky_relu(x: keras.KerasTensor, slope: float) -> keras.KerasTensor:
    # Not LeakyReLU: where a convolution's output is used elsewhere, too, TensorFlow's graph optimizer fails
    # to merge the two and reports an error.
    return layers.Maximum()([x, layers.Rescaling(slope)(x)])


def _discriminator_norm(config: BREGANConfig) -> layers.Layer:
    if config.discriminator_norm == "layer":
        return layers.GroupNormalization(groups=1, epsilon=1e-5)
    return _batch_norm(config)


def _batch_norm(config: BREGANConfig) -> layers.Layer:
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, synchronized=config.sync_batch_norm)
