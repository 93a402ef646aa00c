"""CAAE: a face at any age, from a code of who it is and a label of how old.

    E, G minimise    100 E |x - x'|^2 + 10 TV(x') - E log D_img(x', l) - E log D_z(E(x)),   x' = G(E(x), l),
    D_z minimises    -E log D_z(z*) - E log(1 - D_z(E(x))),          z* uniform on [-1, 1],
    D_img minimises  -E log D_img(x, l) - E log(1 - D_img(x', l)),

x a picture, l its age as one of ten bins, E(x) its code of 50 numbers. D_z makes the codes fill their cube
evenly, so that neighbouring codes are faces, too, and leaves no room in them for the age; D_img makes
pictures look real, and as old as their label. To age a face, encode it and decode it with another label.

Reference: Z. Zhang, Y. Song, H. Qi, "Age Progression/Regression by Conditional Adversarial Autoencoder",
CVPR 2017, arXiv:1702.08423, equation 6, with non-saturating losses of E and G. Kernels, first weights and
bins of ages are those of the authors' released code (github.com/ZZUTK/Face-Aging-CAAE), which has one more
halving (five for 128x128) than the paper: `num_halvings=4`. Ages:

    0-5, 6-10, 11-15, 16-20, 21-30, 31-40, 41-50, 51-60, 61-70, 71 and more years

The released demo weighs its losses quite differently, almost an autoencoder alone: `reconstruction="l1",
reconstruction_weight=1, image_weight=1e-4, latent_weight=0, tv_weight=0`; its last state has no adversarial
term in the loss of E and G at all. As in the paper, faces are conditioned on age alone.

Choices: both reconstruction and TV are means over pixels; TV is the mean squared difference of neighbors.

Departures from that code: it adds the gender and repeats the label, so G's dense layer has 150 inputs there
and 60 here; in its last state the kernels of E and D_img are divided by their spectral norm; the moving
averages of its batch norm take 0.999 of their last value, ours 0.9.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tf_gan_zoo import random
from tf_gan_zoo.batch_spec import BatchSpec, Field, checked_images, image_field
from tf_gan_zoo.conditional import checked_labels
from tf_gan_zoo.config import (
    Channels,
    Config,
    ConfigError,
    Decay,
    Halvings,
    ImageSize,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    height_width,
)
from tf_gan_zoo.endpoints import Endpoint
from tf_gan_zoo.gan import AdversarialGAN
from tf_gan_zoo.layers import OneHot
from tf_gan_zoo.losses import non_saturating_discriminator_loss as discriminator_loss
from tf_gan_zoo.losses import non_saturating_generator_loss as fooling_loss
from tf_gan_zoo.metrics import identities, l1, tasks
from tf_gan_zoo.registry import Paper, register

NUM_AGES = 10
#: Faces whose ink is measured at all ages.
_NUM_INKED = 200


@dataclass(frozen=True, kw_only=True)
class CAAEConfig(Config):
    """The released code's sizes with the paper's objective.

    Attributes:
        latent_size: numbers in a code.
        num_halvings: of the sides, in E and back in G.
        width: channels of E's first convolution; each next one has twice as many.
        generator_width: channels of G's smallest map; each doubling of the sides halves them.
        image_discriminator_width: channels of D_img's first convolution; the others have twice as many, each.
        image_discriminator_size: units of D_img's dense layer.
        latent_discriminator_sizes: units of D_z's hidden layers.
        reconstruction: "l2", the squared difference, or "l1".
        reconstruction_weight: of the reconstruction.
        image_weight: of what D_img says, in the loss of E and G.
        latent_weight: of what D_z says.
        tv_weight: of the total variation.
        initial_std: standard deviation of the first weights; narrow networks need a larger one.
    """

    data: str = "utkface:UTKFace"
    batch_size: PositiveInt = 100
    epochs: PositiveInt = 50
    image_size: ImageSize = 128
    channels: Channels = 3
    latent_size: PositiveInt = 50
    latent_distribution: Literal["uniform"] = "uniform"
    num_halvings: Halvings = 5
    width: PositiveInt = 64
    generator_width: PositiveInt = 1024
    image_discriminator_width: PositiveInt = 16
    image_discriminator_size: PositiveInt = 1024
    latent_discriminator_sizes: tuple[PositiveInt, ...] = (64, 32, 16)
    reconstruction: Literal["l1", "l2"] = "l2"
    reconstruction_weight: NonNegativeFloat = 100.0
    image_weight: NonNegativeFloat = 1.0
    latent_weight: NonNegativeFloat = 1.0
    tv_weight: NonNegativeFloat = 10.0
    initial_std: PositiveFloat = 0.02
    learning_rate: PositiveFloat = 2e-4
    beta_1: Decay = 0.5

    def validate(self) -> None:
        step = 2 ** max(self.num_halvings, 1)
        if any(side % step for side in height_width(self.image_size)):
            raise ConfigError(
                f"CAAEConfig.image_size: {self.image_size} cannot be halved {self.num_halvings} times. Use "
                f"multiples of {step}, or fewer num_halvings."
            )
        if self.generator_width < 2 ** (self.num_halvings + 1):
            raise ConfigError(
                f"CAAEConfig.generator_width: {self.generator_width} cannot be halved "
                f"{self.num_halvings + 1} times. Use {2 ** (self.num_halvings + 1)} or more."
            )

    @property
    def base_size(self) -> tuple[int, int]:
        """(height, width) of the smallest map."""
        return tuple(side >> self.num_halvings for side in height_width(self.image_size))


@register(
    "caae",
    task="face",
    paper=Paper(
        "Age Progression/Regression by Conditional Adversarial Autoencoder",
        "Z. Zhang, Y. Song, H. Qi", 2017, "1702.08423",
    ),
    tiny={
        "image_size": 8, "num_halvings": 1, "width": 4, "generator_width": 8, "latent_size": 4,
        "image_discriminator_width": 4, "image_discriminator_size": 8, "latent_discriminator_sizes": (8,),
        "batch_size": 4,
    },
)  # fmt: skip
class CAAE(AdversarialGAN):
    """Faces by code and age; images are (batch, height, width, channels) in [-1, 1], ages bins from 0 to 9.

        model.age(faces)                  # (count, 10, height, width, channels): each face at all ages
        model.age(faces, ages=7)          # all of them in their fifties
        model.encode(faces)               # who they are, (count, 50) in [-1, 1]
        model.generate(8, ages=range(8))  # faces of nobody

    Logs the losses of both discriminators (d_loss is D_img's) and, before weighting, the reconstruction, what
    D_img and D_z say (g_loss, latent_loss) and the total variation.
    """

    config_cls = CAAEConfig
    view = "ages"
    log_names = (
        "d_loss", "latent_d_loss", "g_loss", "latent_loss", "reconstruction_loss", "tv_loss",
    )  # fmt: skip

    def build_networks(self, config: CAAEConfig) -> dict[str, keras.Model]:
        return {
            "encoder": build_encoder(config),
            "generator": build_generator(config),
            "discriminator": build_discriminator(config),
            "latent_discriminator": build_latent_discriminator(config),
        }

    @property
    def players(self) -> dict[str, tuple[str, ...]]:
        return {
            "autoencoder": ("encoder", "generator"),
            "discriminator": ("discriminator",),
            "latent_discriminator": ("latent_discriminator",),
        }

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        return keras.optimizers.Adam(self.config.learning_rate, beta_1=self.config.beta_1, epsilon=1e-8)

    @property
    def batch_spec(self) -> BatchSpec:
        images = image_field(height_width(self.config.image_size), self.config.channels)
        return BatchSpec(images=images, ages=Field((), (0, NUM_AGES - 1), "int32"))

    # ---------------------------------------------------------------- training

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        drawn = self.latents("prior", tf.shape(batch["images"])[0])
        with tf.GradientTape(persistent=True) as tape:  # all gradients come from the same point
            losses = self._terms(batch, drawn, training=True)
            total = self._weighted(losses)
        self.update("autoencoder", tape, total)
        self.update("discriminator", tape, losses["d_loss"])
        self.update("latent_discriminator", tape, losses["latent_d_loss"])
        return self.log(**losses)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        drawn = self.latents("validation", tf.shape(batch["images"])[0])
        return self.log(**self._terms(batch, drawn, training=False))

    def _terms(
        self, batch: Mapping[str, tf.Tensor], drawn: tf.Tensor, training: bool
    ) -> dict[str, tf.Tensor]:
        """All terms of equation 6, before weighting."""
        images, ages = batch["images"], batch["ages"]
        codes = self.encoder(images, training=training)
        made = self.generator({"latents": codes, "ages": ages}, training=training)
        logits = {
            name: self.discriminator({"images": x, "ages": ages}, training=training)
            for name, x in (("real", images), ("fake", made))
        }
        code_logits, drawn_logits = (self.latent_discriminator(z, training=training) for z in (codes, drawn))
        return {
            "d_loss": discriminator_loss(logits["real"], logits["fake"]),
            "latent_d_loss": discriminator_loss(drawn_logits, code_logits),
            "g_loss": fooling_loss(logits["fake"]),
            "latent_loss": fooling_loss(code_logits),
            "reconstruction_loss": self._distance(images, made),
            "tv_loss": total_variation(made),
        }

    def _distance(self, images: tf.Tensor, made: tf.Tensor) -> tf.Tensor:
        difference = tf.abs(images - made)
        return tf.reduce_mean(difference if self.config.reconstruction == "l1" else tf.square(difference))

    def _weighted(self, losses: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """What E and G minimise."""
        c = self.config
        weights = {
            "reconstruction_loss": c.reconstruction_weight, "g_loss": c.image_weight,
            "latent_loss": c.latent_weight, "tv_loss": c.tv_weight,
        }  # fmt: skip
        return tf.add_n([weight * losses[name] for name, weight in weights.items()])

    # ---------------------------------------------------------------- inference

    def encode(self, images: Any, batch_size: int = 64) -> np.ndarray:
        """Who the faces are, whatever their age: float32 (count, latent_size); arguments as of `age`."""
        images = checked_images(images, self.batch_spec["images"])
        return np.asarray(self.run(images, batch_size, "encoder"))

    def age(self, images: Any, ages: Any = None, batch_size: int = 64) -> np.ndarray:
        """Faces at other ages.

        Args:
            images: (count, height, width, channels) in [-1, 1], or one picture without the first axis.
            ages: bins from 0 to 9, one for all pictures or one for each; all ten by default.
            batch_size: pictures per call of the network.

        Returns:
            float32 in [-1, 1], of the pictures' shape, or (count, 10, height, width, channels) for all ages.

        Raises:
            BatchError: if the pictures do not fit.
            ValueError: if the ages do not.
        """
        codes = self.encode(images, batch_size)
        if ages is not None:
            return self._decode(codes, checked_labels(ages, len(codes), NUM_AGES), batch_size)
        return self._at_all_ages(codes, batch_size)

    def reconstruct(self, images: Any, ages: Any, batch_size: int = 64) -> np.ndarray:
        """What the networks make of pictures with their own ages; see `age`."""
        return self.age(images, ages, batch_size)

    def _at_all_ages(self, codes: np.ndarray, batch_size: int = 64) -> np.ndarray:
        """(count, 10, height, width, channels)."""
        ages = np.tile(np.arange(NUM_AGES), len(codes))
        made = self._decode(np.repeat(codes, NUM_AGES, axis=0), ages, batch_size)
        return made.reshape(len(codes), NUM_AGES, *made.shape[1:])

    def _decode(self, codes: np.ndarray, ages: np.ndarray, batch_size: int) -> np.ndarray:
        return np.asarray(self.run({"latents": codes, "ages": ages.astype("int32")}, batch_size))

    def sample_inputs(self, num_samples: int, seed: int = 0, ages: Any = None) -> dict[str, Any]:
        """Codes drawn evenly from their cube, and ages: given (as for `age`) or drawn."""
        latents = super().sample_inputs(num_samples, seed)
        if ages is None:
            drawn = random.make_seed(seed, "ages of samples")
            return {"latents": latents, "ages": random.integers((num_samples,), drawn, NUM_AGES)}
        given = list(ages) if isinstance(ages, range) else ages
        return {"latents": latents, "ages": checked_labels(given, num_samples, NUM_AGES)}

    @functools.cached_property
    def aging_network(self) -> keras.Model:
        """Images and ages -> the same faces at these ages: E and G as one network."""
        images, ages = self.encoder.input, keras.Input((), dtype="int32", name="ages")
        made = self.generator({"latents": self.encoder(images), "ages": ages})
        made = layers.Activation("linear", dtype="float32", name="aged")(made)
        return keras.Model({"images": images, "ages": ages}, made, name="aging_network")

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        ages = {"ages": "bins from 0 (0-5 years) to 9 (71 and more)"}
        pictures = {"images": self.output_range, "aged": self.output_range}
        return {
            **super().endpoints,
            "encode": Endpoint(self.encoder, {"images": self.output_range}),
            "age": Endpoint(self.aging_network, pictures, notes=ages),
        }

    def example_inputs(
        self, endpoint: Endpoint, count: int, sizes: Mapping[str, tuple[int, int]], seed: int = 0
    ) -> dict[str, Any]:
        inputs = super().example_inputs(endpoint, count, sizes, seed)
        if "ages" in endpoint.input_names and "ages" not in inputs:
            inputs["ages"] = np.arange(count, dtype="int32") % NUM_AGES
        return inputs

    def sample_pictures(self, count: int = 64, seed: int = 0) -> np.ndarray:
        """Drawn codes, a row for each, at all ten ages: (rows, height, 10 * width, channels)."""
        codes = np.asarray(super().sample_inputs(max(count // NUM_AGES, 1), seed))
        return np.stack([np.concatenate(list(row), axis=1) for row in self._at_all_ages(codes)])

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """What becomes of held-out faces at all ages.

        Returns:
            age_accuracy: pictures at an age other than their own whose nearest held-out picture is of that
                age's bin or a neighbouring one; its baseline is chance: any held-out picture. What is said of
                the data (age_accuracy_data) is that of the held-out pictures themselves, each at its own age,
                with the nearest other one: what is nearest in pixels often is of another age, so not much
                more can be reached;
            ink_correlation: rank correlation of age and ink (see `ink`) of a face at all ten ages, a mean
                over the first 200; 1 if each age is darker than the one before, 0 for pictures as they are;
            ink_error: mean difference, over the ages, of their mean ink at that age to that of the held-out
                pictures of that age; its baseline leaves pictures as they are;
            identity_accuracy: the same pictures whose nearest held-out picture has their face's label (with
                "labels", whatever they tell apart); its baseline takes a random picture of that age;
            reconstruction_l1: with the own age; its baseline is the mean picture;
            code_spread: standard deviation of codes, 0.577 for a uniform distribution on [-1, 1].
        """
        images, ages = np.asarray(examples["images"]), np.asarray(examples["ages"])
        codes = self.encode(images)
        targets = (ages + np.arange(len(ages)) % (NUM_AGES - 1) + 1) % NUM_AGES
        aged = self._decode(codes, targets, 64)
        nearest, _ = tasks.nearest_neighbours(aged, images)
        other, _ = tasks.nearest_neighbours(images, images, leave_own_out=True)
        mean = np.broadcast_to(images.mean(axis=0), images.shape)
        results = {
            "age_accuracy": _near(ages[nearest], targets),
            "age_accuracy_baseline": _near(ages[:, None], targets[None]),
            "age_accuracy_data": _near(ages[other], ages),
            **self._ink_of_ages(codes[:_NUM_INKED], images, ages),
            "reconstruction_l1": float(l1(self._decode(codes, ages, 64), images).mean()),
            "reconstruction_l1_baseline": float(l1(mean, images).mean()),
            "code_spread": float(codes.std()),
        }
        if "labels" in examples:
            labels = np.asarray(examples["labels"])
            chosen = np.random.default_rng(0).permutation(len(labels))
            results["identity_accuracy"] = float((labels[nearest] == labels).mean())
            results["identity_accuracy_baseline"] = float((labels[chosen] == labels).mean())
        return results

    def _ink_of_ages(self, codes: np.ndarray, images: np.ndarray, ages: np.ndarray) -> dict[str, float]:
        """The measures of ink, of some faces' codes and all held-out pictures."""
        every = (np.full(len(codes), age) for age in range(NUM_AGES))
        made = np.stack([ink(self._decode(codes, age, 64)) for age in every], axis=1)
        own, present = ink(images), np.unique(ages)
        true = np.array([own[ages == age].mean() for age in present])
        correlations = [identities.rank_correlation(np.arange(NUM_AGES), face) for face in made]
        return {
            "ink_correlation": float(np.mean(correlations)),
            "ink_error": float(np.abs(made[:, present].mean(axis=0) - true).mean()),
            "ink_error_baseline": float(np.abs(own.mean() - true).mean()),
        }


def ink(images: np.ndarray) -> np.ndarray:
    """How much darker than its paper a picture is, (count,): a mean over pixels and channels.

    The paper is the median of each channel of (count, height, width, channels). In drawings, this is the
    amount of ink; in photographs it is not age, but hair and shadows.
    """
    paper = np.median(images, axis=(1, 2), keepdims=True)
    return np.maximum(paper - images, 0).mean(axis=(1, 2, 3))


def _near(ages: np.ndarray, targets: np.ndarray) -> float:
    return float((np.abs(ages - targets) <= 1).mean())


def total_variation(images: tf.Tensor) -> tf.Tensor:
    """Mean squared difference of neighbouring pixels, below and to the right, summed over both; a scalar."""
    down, right = images[:, 1:] - images[:, :-1], images[:, :, 1:] - images[:, :, :-1]
    return tf.reduce_mean(tf.square(down)) + tf.reduce_mean(tf.square(right))


# -------------------------------------------------------------------- networks


@keras.saving.register_keras_serializable("tf_gan_zoo")
class AgeCode(OneHot):
    """Ages (batch,), 0 to 9 -> (batch, 10) with 1 for the age and -1 elsewhere."""

    def __init__(self, num_classes: int = NUM_AGES, **kwargs: Any) -> None:
        super().__init__(num_classes, **kwargs)

    def call(self, labels: tf.Tensor) -> tf.Tensor:
        return 2.0 * super().call(labels) - 1.0


def build_encoder(config: CAAEConfig) -> keras.Model:
    """Images (batch, height, width, channels) -> codes (batch, latent_size) in [-1, 1]."""
    x = images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    for level in range(config.num_halvings):
        x = layers.ReLU()(_conv(config.width << level, config)(x))
    codes = _dense(config.latent_size, config)(layers.Flatten()(x))
    codes = layers.Activation("tanh", dtype="float32", name="latents")(codes)
    return keras.Model(images, codes, name="encoder")


def build_generator(config: CAAEConfig) -> keras.Model:
    """Codes and ages -> images (batch, height, width, channels) in [-1, 1]."""
    latents, ages = keras.Input((config.latent_size,), name="latents"), _age_input()
    (height, width), filters = config.base_size, config.generator_width
    x = layers.Concatenate()([latents, AgeCode()(ages)])
    x = layers.ReLU()(_dense(height * width * filters, config)(x))
    x = layers.Reshape((height, width, filters))(x)
    for level in range(1, config.num_halvings + 2):
        strides = 2 if level <= config.num_halvings else 1
        x = layers.ReLU()(_up_conv(filters >> level, strides, config)(x))
    x = _up_conv(config.channels, 1, config)(x)
    made = layers.Activation("tanh", dtype="float32", name="images")(x)
    return keras.Model({"latents": latents, "ages": ages}, made, name="generator")


def build_discriminator(config: CAAEConfig) -> keras.Model:
    """D_img: images and ages -> logits (batch, 1)."""
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    ages, width = _age_input(), config.image_discriminator_width
    x = layers.ReLU()(_norm(config)(_conv(width, config)(images)))
    planes = layers.UpSampling2D(x.shape[1:3])(layers.Reshape((1, 1, NUM_AGES))(AgeCode()(ages)))
    x = layers.Concatenate()([x, planes])
    for level in range(1, min(4, config.num_halvings + 1)):
        x = layers.ReLU()(_norm(config)(_conv(width << level, config)(x)))
    x = layers.LeakyReLU(0.2)(_dense(config.image_discriminator_size, config)(layers.Flatten()(x)))
    logits = layers.Dense(1, kernel_initializer=_normal(config), dtype="float32", name="logits")(x)
    return keras.Model({"images": images, "ages": ages}, logits, name="discriminator")


def build_latent_discriminator(config: CAAEConfig) -> keras.Model:
    """D_z: codes (batch, latent_size) -> logits (batch, 1)."""
    x = latents = keras.Input((config.latent_size,), name="latents")
    for size in config.latent_discriminator_sizes:
        x = layers.ReLU()(_norm(config)(_dense(size, config)(x)))
    logits = layers.Dense(1, kernel_initializer=_normal(config), dtype="float32", name="logits")(x)
    return keras.Model(latents, logits, name="latent_discriminator")


def _age_input() -> keras.KerasTensor:
    return keras.Input((), dtype="int32", name="ages")


def _conv(filters: int, config: CAAEConfig) -> layers.Layer:
    initializer = keras.initializers.TruncatedNormal(stddev=config.initial_std)
    return layers.Conv2D(filters, 5, 2, padding="same", kernel_initializer=initializer)


def _up_conv(filters: int, strides: int, config: CAAEConfig) -> layers.Layer:
    return layers.Conv2DTranspose(filters, 5, strides, padding="same", kernel_initializer=_normal(config))


def _dense(units: int, config: CAAEConfig) -> layers.Layer:
    return layers.Dense(units, kernel_initializer=_normal(config))


def _norm(config: CAAEConfig) -> layers.Layer:
    """Without a scale and with TensorFlow 1's epsilon, as in the released code."""
    return layers.BatchNormalization(
        momentum=0.9, epsilon=1e-3, scale=False, synchronized=config.sync_batch_norm
    )


def _normal(config: CAAEConfig) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=config.initial_std)
