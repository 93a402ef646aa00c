"""LAPGAN: one small GAN for each level of a Laplacian pyramid, from coarse to fine.

    I_0 = I,   I_k+1 = d(I_k),   h_k = I_k - u(I_k+1)             taken apart, h_K = I_K
    I_k = u(I_k+1) + h_k                                          put together, exactly
    J_K = G_K(z_K),   J_k = u(J_k+1) + G_k(z_k, u(J_k+1))         sampled

d shrinks a picture to half its sides (which blurs it) and u enlarges it again. G_K makes small pictures from
noise; every other G_k adds the details that are missing in an enlarged one, of which there are many possible:
hence its own noise, a plane as large as the picture. Each level is an ordinary conditional GAN, trained by
itself with coarse pictures from data. D_k sees the sum, u(I_k+1) + h_k, real or made up:

    D_k minimises  -1/2 E log D_k(l + h) - 1/2 E log(1 - D_k(l + G_k(z, l))),   l = u(I_k+1),
    G_k minimises  -E log D_k(l + G_k(z, l)).

Reference: E. Denton, S. Chintala, A. Szlam, R. Fergus, "Deep Generative Image Models using a Laplacian
Pyramid of Adversarial Networks", NIPS 2015, arXiv:1506.05751, sections 2 and 3. Sizes are those of the
authors' released code for CIFAR-10 (facebook/eyescream), 8 -> 16 -> 32; the paper also goes 8 -> 14 -> 28:
level_sizes=(8, 14, 28). With `num_classes` it is the paper's CC-LAPGAN, whose players are told the class: as
a one-hot vector at the top, as a plane made of it by a layer of each network's own further down.

Choices: d and u are bilinear; momentum rises from 0.5 to 0.8 as in the paper.

Departures: every picture of a batch serves both as real and as the coarse picture of a fake (the released
code has half a batch for either); G trains on the fakes of D's update; real and generated pictures of a step
pass through one dropout mask; biases start at 0; the learning rate and momentum change with every update
instead of every epoch; images are in [-1, 1], where the released code subtracts from each pixel its mean over
the training set and divides by its deviation (a model here knows no more of its data than their range, so
that it can take and give any images). The randomly searched networks for LSUN are left out: its recipe takes
those for CIFAR-10.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from pydantic import Field as Limits

from tf_gan_zoo.batch_spec import BatchSpec, checked_images, image_field
from tf_gan_zoo.conditional import LabelledGAN
from tf_gan_zoo.config import Channels, Config, ConfigError, Decay, PositiveFloat, PositiveInt
from tf_gan_zoo.layers import OneHot, SeededDropout
from tf_gan_zoo.losses import non_saturating_discriminator_loss as discriminator_loss
from tf_gan_zoo.losses import non_saturating_generator_loss as generator_loss
from tf_gan_zoo.optimizers import rising_momentum_sgd
from tf_gan_zoo.registry import Paper, register

#: A discriminator's two 5x5 convolutions without padding, the second with stride 2, need this many pixels.
_SMALLEST_REFINED = 9


@dataclass(frozen=True, kw_only=True)
class LAPGANConfig(Config):
    """The released code's model of CIFAR-10.

    Attributes:
        level_sizes: sides of the (square) pictures at each level, from coarse to fine; each is larger than
            the one before and at most twice as large.
        num_classes: classes that all players are told; None for none.
        top_latent_size: numbers of noise for the coarsest picture; finer levels take one for each pixel.
        top_generator_size: units of G's two hidden layers at the top.
        top_discriminator_size: units of D's two hidden layers at the top.
        width: filters of the convolutions of all other levels.
        dropout: in D, after hidden layers at the top and before the last layer elsewhere.
        optimizer: "sgd" as in the paper, or "adam", which takes fewer steps; of the fields below it takes
            `learning_rate` and `beta_1`.
        learning_rate_divisor: divides the rate at every update, down to `min_learning_rate`; the default is
            1 + 4e-5 in an epoch.
        momentum: in the first epoch.
        final_momentum: from epoch `momentum_epochs` on; it rises in a straight line in between.
    """

    data: str = "tfds:cifar10"
    batch_size: PositiveInt = 128
    epochs: PositiveInt = 400
    steps_per_epoch: PositiveInt | None = 390
    level_sizes: tuple[PositiveInt, ...] = (8, 16, 32)
    channels: Channels = 3
    num_classes: Annotated[int, Limits(ge=2)] | None = None
    top_latent_size: PositiveInt = 100
    latent_distribution: Literal["uniform", "normal"] = "uniform"
    top_generator_size: PositiveInt = 1200
    top_discriminator_size: PositiveInt = 600
    width: PositiveInt = 64
    dropout: Decay = 0.5
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: PositiveFloat = 0.02
    learning_rate_divisor: PositiveFloat = 1.0000001
    min_learning_rate: PositiveFloat = 1e-6
    momentum: Decay = 0.5
    final_momentum: Decay = 0.8
    momentum_epochs: PositiveInt = 375
    beta_1: Decay = 0.5

    def validate(self) -> None:
        sizes = self.level_sizes
        if len(sizes) < 2 or any(not coarse < fine <= 2 * coarse for coarse, fine in pairwise(sizes)):
            raise ConfigError(
                "LAPGANConfig.level_sizes: expected two or more sizes, each larger than the one before and "
                f"at most twice as large, got {sizes}. Use e.g. (8, 16, 32) or (7, 14, 28)."
            )
        if sizes[1] < _SMALLEST_REFINED:
            raise ConfigError(
                f"LAPGANConfig.level_sizes: the second must be {_SMALLEST_REFINED} or more, got {sizes}. "
                "Begin with a larger picture."
            )

    @property
    def image_size(self) -> int:
        """Side of the finished pictures."""
        return self.level_sizes[-1]

    @property
    def noise_sizes(self) -> tuple[int, ...]:
        """How many of a sample's latents belong to each level."""
        return (self.top_latent_size, *(size * size for size in self.level_sizes[1:]))

    @property
    def latent_size(self) -> int:
        """Numbers of noise in a sample, all levels together."""
        return sum(self.noise_sizes)


# -------------------------------------------------------------------- pyramids


def resized(images: tf.Tensor, size: int) -> tf.Tensor:
    """d and u: bilinear; half the size is the mean of every 2x2 pixels."""
    return keras.ops.image.resize(images, (size, size), "bilinear")


def gaussian_pyramid(images: tf.Tensor, sizes: Sequence[int]) -> list[tf.Tensor]:
    """The pictures I_K, ..., I_0, from coarse to fine.

    Args:
        images: (batch, size, size, channels) with the last of the sizes.
        sizes: sides of the levels, from coarse to fine.
    """
    pyramid = [tf.convert_to_tensor(images)]
    for size in reversed(sizes[:-1]):
        pyramid.insert(0, resized(pyramid[0], size))
    return pyramid


def laplacian_pyramid(images: tf.Tensor, sizes: Sequence[int]) -> list[tf.Tensor]:
    """The coarsest picture I_K and the details h_K-1, ..., h_0 of the finer ones.

    Args:
        images: (batch, size, size, channels) with the last of the sizes.
        sizes: sides of the levels, from coarse to fine.
    """
    pictures = gaussian_pyramid(images, sizes)
    details = [fine - resized(coarse, fine.shape[1]) for coarse, fine in pairwise(pictures)]
    return [pictures[0], *details]


def reconstructed(pyramid: Sequence[tf.Tensor]) -> tf.Tensor:
    """The pictures (batch, size, size, channels) of a Laplacian pyramid."""
    images = pyramid[0]
    for details in pyramid[1:]:
        images = resized(images, details.shape[1]) + details
    return images


# -------------------------------------------------------------------- model


@register(
    "lapgan",
    task="generation",
    paper=Paper(
        "Deep Generative Image Models using a Laplacian Pyramid of Adversarial Networks",
        "E. Denton, S. Chintala, A. Szlam, R. Fergus", 2015, "1506.05751",
    ),
    tiny={
        "level_sizes": (6, 12), "channels": 1, "top_latent_size": 4, "top_generator_size": 8,
        "top_discriminator_size": 8, "width": 4, "batch_size": 4,
    },
)  # fmt: skip
class LAPGAN(LabelledGAN):
    """Pyramid of GANs; images are (batch, height, width, channels) in [-1, 1].

        model.generate(16)                     # noise of all levels
        model.generate_levels(16)              # the same, with the coarser pictures on the way
        model.refine(small_pictures)           # details for given coarse pictures

    Networks are called generator_SIZE and discriminator_SIZE. Logged losses are means over the levels, and
    d_loss_SIZE and g_loss_SIZE of each one. A sample's latents are the noise of all levels, one after the
    other, from coarse to fine. With `num_classes` batches have "images" and "labels".
    """

    config_cls = LAPGANConfig

    @property
    def log_names(self) -> tuple[str, ...]:
        """Mean losses, then those of each level."""
        sizes = self.config.level_sizes
        return ("d_loss", "g_loss", *(f"{player}_loss_{size}" for size in sizes for player in "dg"))

    def build_networks(self, config: LAPGANConfig) -> dict[str, keras.Model]:
        top, *others = config.level_sizes
        networks = {
            f"generator_{top}": build_top_generator(config),
            f"discriminator_{top}": build_top_discriminator(config),
        }
        for size in others:
            networks[f"generator_{size}"] = build_generator(config, size)
            networks[f"discriminator_{size}"] = build_discriminator(config, size)
        return networks

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        if self.config.optimizer == "adam":
            return keras.optimizers.Adam(self.config.learning_rate, beta_1=self.config.beta_1, epsilon=1e-8)
        return rising_momentum_sgd(self.config)

    @property
    def batch_spec(self) -> BatchSpec:
        size = self.config.image_size
        return BatchSpec(images=image_field((size, size), self.config.channels), **self.label_field())

    # ---------------------------------------------------------------- training

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        losses = []
        for size, (given, real) in self._examples("noise", batch).items():
            with tf.GradientTape() as g_tape:
                fake = self._fake(size, given, training=True)
                with g_tape.stop_recording(), tf.GradientTape() as d_tape:
                    real_logits = self._judge(size, real, batch, training=True)
                    fake_logits = self._judge(size, fake, batch, training=True)
                    d_loss = 0.5 * discriminator_loss(real_logits, fake_logits)
                with g_tape.stop_recording():
                    self.update(f"discriminator_{size}", d_tape, d_loss)
                g_loss = generator_loss(self._judge(size, fake, batch, training=True))
            self.update(f"generator_{size}", g_tape, g_loss)
            losses.append((d_loss, g_loss))
        return self._log(losses)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        losses = []
        for size, (given, real) in self._examples("validation", batch).items():
            fake = self._fake(size, given, training=False)
            real_logits, fake_logits = (self._judge(size, x, batch, training=False) for x in (real, fake))
            losses.append((0.5 * discriminator_loss(real_logits, fake_logits), generator_loss(fake_logits)))
        return self._log(losses)

    def _examples(
        self, purpose: str, batch: dict[str, tf.Tensor]
    ) -> dict[int, tuple[dict[str, tf.Tensor], tf.Tensor]]:
        """By level: the inputs of its generator, with coarse pictures from data, and the real pictures."""
        c, labels = self.config, _labels_of(batch)
        pictures = gaussian_pyramid(batch["images"], c.level_sizes)
        noise = split_latents(self.latents(purpose, tf.shape(batch["images"])[0]), c)
        examples = {c.level_sizes[0]: ({"latents": noise[0], **labels}, pictures[0])}
        for size, plane, (coarse, fine) in zip(c.level_sizes[1:], noise[1:], pairwise(pictures)):
            examples[size] = ({"noise": plane, "coarse": resized(coarse, size), **labels}, fine)
        return examples

    def _fake(self, size: int, given: Mapping[str, tf.Tensor], training: bool) -> tf.Tensor:
        """A level's pictures: what its generator makes, added to the coarse ones where there are any."""
        made = getattr(self, f"generator_{size}")(given, training=training)
        return made + given["coarse"] if "coarse" in given else made

    def _judge(self, size: int, images: tf.Tensor, batch: dict[str, tf.Tensor], training: bool) -> tf.Tensor:
        inputs = {"images": images, **_labels_of(batch)}
        return getattr(self, f"discriminator_{size}")(inputs, training=training)

    def _log(self, losses: Sequence[tuple[tf.Tensor, tf.Tensor]]) -> dict[str, tf.Tensor]:
        by_level = {
            f"{player}_loss_{size}": loss
            for size, pair in zip(self.config.level_sizes, losses)
            for player, loss in zip("dg", pair)
        }
        d_losses, g_losses = zip(*losses)
        return self.log(d_loss=tf.reduce_mean(d_losses), g_loss=tf.reduce_mean(g_losses), **by_level)

    # ---------------------------------------------------------------- sampling

    @functools.cached_property
    def levels_network(self) -> keras.Model:
        """Latents (and labels) -> the list of pictures of all levels, from coarse to fine."""
        return build_levels_network(self.config, self.networks)

    @functools.cached_property
    def sampler(self) -> keras.Model:
        """Latents (and labels) -> images (batch, height, width, channels) in [-1, 1]."""
        chain = self.levels_network
        images = keras.ops.clip(chain.outputs[-1], *self.output_range)
        images = layers.Identity(dtype="float32", name="images")(images)
        return keras.Model(chain.input, images, name="generator")

    def public_network(self) -> keras.Model:
        """The generators of all levels as one network."""
        return self.sampler

    def generate_levels(
        self, num_samples: int = 1, seed: int = 0, labels: Any = None, batch_size: int = 64
    ) -> list[np.ndarray]:
        """Samples and the coarser pictures they are made from.

        Args:
            num_samples: how many.
            seed: the same seed gives the same samples, which are those of `generate`.
            labels: class of each sample, if the model has classes.
            batch_size: samples per call of the networks.

        Returns:
            float32 (num_samples, size, size, channels) for every level, from coarse to fine, in [-1, 1].
        """
        inputs = self.sample_inputs(num_samples, seed, **({} if labels is None else {"labels": labels}))
        pictures = self.run(inputs, batch_size, network="levels_network")
        return [np.clip(images, *self.output_range) for images in pictures]

    def refine(self, images: Any, seed: int = 0, labels: Any = None, batch_size: int = 64) -> np.ndarray:
        """Finished pictures for given coarse ones, with details from every level but the first.

        Args:
            images: (batch, size, size, channels) or one picture, of the coarsest size, in [-1, 1].
            seed: draws the noise, so another seed gives other details.
            labels: class of each picture, if the model has classes; drawn if not given.
            batch_size: pictures per call of a network.

        Returns:
            float32 (batch, image_size, image_size, channels) in [-1, 1].

        Raises:
            BatchError: if the pictures do not fit.
        """
        top, c = self.config.level_sizes[0], self.config
        images = checked_images(images, image_field((top, top), c.channels))
        inputs = self.sample_inputs(len(images), seed, **({} if labels is None else {"labels": labels}))
        inputs = inputs if isinstance(inputs, Mapping) else {"latents": inputs}
        given = _labels_of(inputs)
        for size, plane in zip(c.level_sizes[1:], split_latents(inputs["latents"], c)[1:]):
            coarse = resized(images, size)
            named = {"noise": plane, "coarse": coarse, **given}
            images = coarse + self.run(named, batch_size, network=f"generator_{size}")
        return np.clip(images, *self.output_range)

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Class coverage; how much a sample, made small again, differs from the picture it was made from:
        mean absolute difference, and that between two samples as baseline."""
        *_, coarse, fine = self.generate_levels(min(len(examples["images"]), 500))
        small = np.asarray(resized(fine, coarse.shape[1]))
        return {
            **super().measure(examples),
            "coarse_l1": float(np.abs(small - coarse).mean()),
            "coarse_l1_baseline": float(np.abs(small - np.roll(coarse, 1, axis=0)).mean()),
        }


def _labels_of(batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return {"labels": batch["labels"]} if "labels" in batch else {}


# -------------------------------------------------------------------- networks


def build_top_generator(config: LAPGANConfig) -> keras.Model:
    """{"latents" (batch, top_latent_size)} and labels -> coarsest images."""
    size, *_ = config.level_sizes
    shape = (size, size, config.channels)
    latents, labels = keras.Input((config.top_latent_size,), name="latents"), _label_input(config)
    x = _with_one_hot(latents, labels, config)
    for _ in range(2):
        x = _dense(config.top_generator_size, activation="relu")(x)
    images = layers.Reshape(shape, dtype="float32", name="images")(_dense(math.prod(shape))(x))
    return keras.Model({"latents": latents, **labels}, images, name=f"generator_{size}")


def build_top_discriminator(config: LAPGANConfig) -> keras.Model:
    """{"images" (batch, size, size, channels)} of the coarsest size and labels -> logits (batch, 1)."""
    size, *_ = config.level_sizes
    images, labels = _image_input(size, config), _label_input(config)
    x = _with_one_hot(layers.Flatten()(images), labels, config)
    for _ in range(2):
        x = _dense(config.top_discriminator_size, activation="relu")(x)
        x = SeededDropout(config.dropout)(x)
    return keras.Model({"images": images, **labels}, _logits(x), name=f"discriminator_{size}")


def build_generator(config: LAPGANConfig, size: int) -> keras.Model:
    """{"noise" (batch, size, size, 1), "coarse" (batch, size, size, channels)}, labels -> details."""
    noise, labels = keras.Input((size, size, 1), name="noise"), _label_input(config)
    coarse = keras.Input((size, size, config.channels), name="coarse")
    x = layers.Concatenate()([noise, coarse, *_class_planes(labels, size, config)])
    for _ in range(2):
        x = _conv(config.width, 7, padding="same", activation="relu")(x)
    details = _conv(config.channels, 5, padding="same", dtype="float32", name="details")(x)
    return keras.Model({"noise": noise, "coarse": coarse, **labels}, details, name=f"generator_{size}")


def build_discriminator(config: LAPGANConfig, size: int) -> keras.Model:
    """{"images" (batch, size, size, channels)}, coarse picture and details added, labels -> logits."""
    images, labels = _image_input(size, config), _label_input(config)
    planes = _class_planes(labels, size, config)
    x = layers.Concatenate()([images, *planes]) if planes else images
    x = _conv(config.width, 5, activation="relu")(x)
    x = _conv(config.width, 5, strides=2, activation="relu")(x)
    x = SeededDropout(config.dropout)(layers.Flatten()(x))
    return keras.Model({"images": images, **labels}, _logits(x), name=f"discriminator_{size}")


def build_levels_network(config: LAPGANConfig, networks: Mapping[str, keras.Model]) -> keras.Model:
    """Latents (batch, latent_size) and labels -> pictures of all levels; the generators are those given."""
    latents, labels = keras.Input((config.latent_size,), name="latents"), _label_input(config)
    top, *others = config.level_sizes
    noise, *planes = split_latents(latents, config)
    pictures = [networks[f"generator_{top}"]({"latents": noise, **labels})]
    for size, plane in zip(others, planes):
        coarse = resized(pictures[-1], size)
        details = networks[f"generator_{size}"]({"noise": plane, "coarse": coarse, **labels})
        pictures.append(coarse + details)
    inputs = {"latents": latents, **labels} if labels else latents
    return keras.Model(inputs, pictures, name="levels")


def split_latents(latents: Any, config: LAPGANConfig) -> list[Any]:
    """Noise of every level: (batch, top_latent_size), then planes (batch, size, size, 1)."""
    ends = np.cumsum(config.noise_sizes)[:-1].tolist()
    top, *others = keras.ops.split(latents, ends, axis=1)
    sizes = config.level_sizes[1:]
    return [top, *(keras.ops.reshape(x, (-1, size, size, 1)) for x, size in zip(others, sizes))]


def _image_input(size: int, config: LAPGANConfig) -> keras.KerasTensor:
    return keras.Input((size, size, config.channels), name="images")


def _label_input(config: LAPGANConfig) -> dict[str, keras.KerasTensor]:
    return {"labels": keras.Input((), dtype="int32", name="labels")} if config.num_classes else {}


def _with_one_hot(
    x: keras.KerasTensor, labels: dict[str, keras.KerasTensor], config: LAPGANConfig
) -> keras.KerasTensor:
    return layers.Concatenate()([x, OneHot(config.num_classes)(labels["labels"])]) if labels else x


def _class_planes(
    labels: dict[str, keras.KerasTensor], size: int, config: LAPGANConfig
) -> list[keras.KerasTensor]:
    """A plane (batch, size, size, 1) made of the class, or none."""
    if not labels:
        return []
    plane = _dense(size * size, activation="relu")(OneHot(config.num_classes)(labels["labels"]))
    return [layers.Reshape((size, size, 1))(plane)]


def _dense(units: int, **kwargs: Any) -> layers.Layer:
    return layers.Dense(units, kernel_initializer=_initializer(), **kwargs)


def _conv(filters: int, kernel_size: int, **kwargs: Any) -> layers.Layer:
    return layers.Conv2D(filters, kernel_size, kernel_initializer=_initializer(), **kwargs)


def _initializer() -> keras.initializers.Initializer:
    """Torch's: uniform within +-1 / sqrt(inputs of a unit)."""
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


def _logits(x: keras.KerasTensor) -> keras.KerasTensor:
    return _dense(1, dtype="float32", name="logits")(x)
