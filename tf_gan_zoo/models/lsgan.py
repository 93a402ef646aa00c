"""LSGAN: least squares instead of cross-entropy, so that samples far on the right side are still pulled in.

    D minimises  1/2 E (D(x) - b)^2 + 1/2 E (D(G(z)) - a)^2,   G minimises  1/2 E (D(G(z)) - c)^2,

with D's output linear. For a fixed G the best D is (b p_data + a p_g) / (p_data + p_g). If b - c = 1 and
b - a = 2, as for (a, b, c) = (-1, 1, 0), G then minimises half the Pearson chi-squared divergence between
p_data + p_g and 2 p_g, up to a constant (section 3.2); (0, 1, 1) aims at real pictures directly.

Reference: X. Mao, Q. Li, H. Xie, R. Lau, Z. Wang, S. P. Smolley, "Least Squares Generative Adversarial
Networks", ICCV 2017, arXiv:1611.04076, equations 2, 8 and 9, figure 2. Networks by `architecture`:

    "lsun"        scenes, 112x112x3: the defaults
    "characters"  Chinese characters with 3,740 classes, 64x64x1: image_size=64, channels=1,
                  num_classes=3740, learning_rate=2e-4
    "dcgan"       two up- and down-samplings for small pictures, e.g. image_size=28, learning_rate=2e-4

From the authors' released code: latents uniform on [-1, 1]; LeakyReLU slope 0.2; weights from N(0, 0.02),
truncated in D's convolutions; batch norm with momentum 0.9 and epsilon 1e-5; D and G share the fakes of a
step; a label's embedding is concatenated with every layer of D that the paper names, repeated over the pixels
of its map.

Departures: losses are means over the batch, in the code sums, which Adam makes the same steps of; RMSprop's
running mean begins at 0, in the code at 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import keras
import tensorflow as tf
from keras import layers

from tf_gan_zoo.batch_spec import BatchSpec, image_field
from tf_gan_zoo.conditional import LabelledGAN
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
from tf_gan_zoo.layers import OneHot
from tf_gan_zoo.registry import Paper, register

#: Height and width must be multiples of this many pixels.
_SIZE_UNIT = {"lsun": 16, "characters": 4, "dcgan": 4}


@dataclass(frozen=True, kw_only=True)
class LSGANConfig(Config):
    """The paper's model of scenes.

    Attributes:
        image_size: sides that are multiples of 16 ("lsun") or of 4.
        num_classes: classes that both players are told, for "characters" only.
        embedding_size: numbers that a label becomes.
        width: channels of D's first layer; all others grow with it.
        fake_target: a, what D shall give for samples.
        real_target: b, what D shall give for data.
        generator_target: c, what G wants D to give for samples.
        norm: batch normalisation in both players, in the discriminator only, or in none: the study of
            stability in section 4.3.
        optimizer: "adam", or "rmsprop" as in that study.
    """

    data: str = "tfds:lsun/church_outdoor"
    batch_size: PositiveInt = 64
    epochs: PositiveInt = 25
    image_size: ImageSize = 112
    channels: Channels = 3
    architecture: Literal["lsun", "characters", "dcgan"] = "lsun"
    num_classes: PositiveInt | None = None
    embedding_size: PositiveInt = 256
    latent_size: PositiveInt = 1024
    latent_distribution: Literal["uniform", "normal"] = "uniform"
    width: PositiveInt = 64
    fake_target: float = 0.0
    real_target: float = 1.0
    generator_target: float = 1.0
    norm: Literal["both", "discriminator", "none"] = "both"
    optimizer: Literal["adam", "rmsprop"] = "adam"
    learning_rate: PositiveFloat = 1e-3
    beta_1: Decay = 0.5
    beta_2: Decay = 0.999

    def validate(self) -> None:
        unit = _SIZE_UNIT[self.architecture]
        if any(side % unit for side in height_width(self.image_size)):
            raise ConfigError(
                f"LSGANConfig.image_size: architecture={self.architecture!r} takes multiples of {unit}, got "
                f"{self.image_size}. Change image_size or architecture (lsun, characters, dcgan)."
            )
        if (self.num_classes is not None) != (self.architecture == "characters"):
            raise ConfigError(
                "LSGANConfig.num_classes: architecture 'characters' needs it and the others take none, got "
                f"num_classes={self.num_classes} with {self.architecture!r}."
            )
        if self.fake_target == self.real_target:
            raise ConfigError(
                f"LSGANConfig.fake_target: equals real_target ({self.real_target:g}), so D learns nothing. "
                "Use a=0, b=1, c=1 or a=-1, b=1, c=0."
            )


@register(
    "lsgan",
    task="generation",
    paper=Paper(
        "Least Squares Generative Adversarial Networks",
        "X. Mao, Q. Li, H. Xie, R. Lau, Z. Wang, S. P. Smolley", 2017, "1611.04076",
    ),
    # As in wgan_gp: a bias before a batch norm has no gradient but rounding, which Adam makes whole steps of.
    tiny={
        "architecture": "dcgan", "image_size": 8, "channels": 1, "width": 4, "latent_size": 6,
        "batch_size": 4, "learning_rate": 2e-5,
    },
)  # fmt: skip
class LSGAN(LabelledGAN):
    """Least-squares GAN; images are (batch, height, width, channels) in [-1, 1], [0, 1] for "characters".

    With `num_classes` batches have "images" and "labels", and `generate(labels=...)` takes classes.
    """

    config_cls = LSGANConfig

    def build_networks(self, config: LSGANConfig) -> dict[str, keras.Model]:
        build_generator, build_discriminator = _BUILDERS[config.architecture]
        return {"generator": build_generator(config), "discriminator": build_discriminator(config)}

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c = self.config
        if c.optimizer == "rmsprop":
            return keras.optimizers.RMSprop(c.learning_rate, epsilon=1e-10)  # TensorFlow 1's
        return keras.optimizers.Adam(c.learning_rate, beta_1=c.beta_1, beta_2=c.beta_2, epsilon=1e-8)

    @property
    def batch_spec(self) -> BatchSpec:
        c = self.config
        value_range = (0.0, 1.0) if c.architecture == "characters" else (-1.0, 1.0)
        images = image_field(height_width(c.image_size), c.channels, value_range)
        return BatchSpec(images=images, **self.label_field())

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as g_tape:
            fake = self.generator(self._inputs("latents", batch), training=True)
            with g_tape.stop_recording(), tf.GradientTape() as d_tape:
                real_scores = self._score(batch["images"], batch, training=True)
                d_loss = self._d_loss(real_scores, self._score(fake, batch, training=True))
            with g_tape.stop_recording():
                self.update("discriminator", d_tape, d_loss)
            g_loss = half_square(self._score(fake, batch, training=True), self.config.generator_target)
        self.update("generator", g_tape, g_loss)
        return self.log(d_loss=d_loss, g_loss=g_loss)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        fake = self.generator(self._inputs("validation", batch), training=False)
        real_scores, fake_scores = (self._score(x, batch, training=False) for x in (batch["images"], fake))
        g_loss = half_square(fake_scores, self.config.generator_target)
        return self.log(d_loss=self._d_loss(real_scores, fake_scores), g_loss=g_loss)

    def _d_loss(self, real_scores: tf.Tensor, fake_scores: tf.Tensor) -> tf.Tensor:
        c = self.config
        return half_square(real_scores, c.real_target) + half_square(fake_scores, c.fake_target)

    def _inputs(self, purpose: str, batch: dict[str, tf.Tensor]) -> Any:
        """The generator's inputs; fakes have the labels of the batch."""
        latents = self.latents(purpose, tf.shape(batch["images"])[0])
        return {"latents": latents, "labels": batch["labels"]} if self.config.num_classes else latents

    def _score(self, images: tf.Tensor, batch: dict[str, tf.Tensor], training: bool) -> tf.Tensor:
        inputs = {"images": images, "labels": batch["labels"]} if self.config.num_classes else images
        return self.discriminator(inputs, training=training)


def half_square(scores: tf.Tensor, target: float) -> tf.Tensor:
    """1/2 E (score - target)^2."""
    return 0.5 * tf.reduce_mean(tf.square(tf.cast(scores, tf.float32) - target))


# -------------------------------------------------------------------- scenes


def _lsun_generator(config: LSGANConfig) -> keras.Model:
    """Latents (batch, latent_size) -> images (batch, height, width, channels) in [-1, 1]."""
    width = config.width
    latents, x = _projected(config, shrink=16, filters=4 * width)
    for filters, strides in ((4, 2), (4, 1), (4, 2), (4, 1), (2, 2), (1, 2)):
        x = _g_activated(_up_conv(filters * width, 3, strides)(x), config)
    x = _up_conv(config.channels, 3, 1)(x)
    return keras.Model(latents, _images(x, "tanh"), name="generator")


def _lsun_discriminator(config: LSGANConfig) -> keras.Model:
    """Images (batch, height, width, channels) -> scores (batch, 1)."""
    return _plain_discriminator(config, (1, 2, 4, 8))


def _plain_discriminator(config: LSGANConfig, factors: tuple[int, ...]) -> keras.Model:
    x = images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    for index, factor in enumerate(factors):
        x = _d_activated(_down_conv(factor * config.width)(x), config, normalized=index > 0)
    return keras.Model(images, _scores(layers.Flatten()(x)), name="discriminator")


# -------------------------------------------------------------------- small pictures


def _dcgan_generator(config: LSGANConfig) -> keras.Model:
    """Latents (batch, latent_size) -> images (batch, height, width, channels) in [-1, 1]."""
    latents, x = _projected(config, shrink=4, filters=2 * config.width)
    x = _g_activated(_up_conv(config.width, 4, 2)(x), config)
    return keras.Model(latents, _images(_up_conv(config.channels, 4, 2)(x), "tanh"), name="generator")


def _dcgan_discriminator(config: LSGANConfig) -> keras.Model:
    """Images (batch, height, width, channels) -> scores (batch, 1)."""
    return _plain_discriminator(config, (1, 2))


# -------------------------------------------------------------------- characters by class


def _character_generator(config: LSGANConfig) -> keras.Model:
    """{"latents" (batch, latent_size), "labels" (batch,)} -> images in [0, 1]."""
    height, width = (side // 4 for side in height_width(config.image_size))
    latents, (labels, embedding) = _latents(config), _embedded_labels(config)
    x = _dense(height * width * 2 * config.width)(layers.Concatenate()([latents, embedding]))
    x = _g_activated(layers.Reshape((height, width, 2 * config.width))(x), config)
    x = _g_activated(_up_conv(2 * config.width, 5, 2)(x), config)
    images = _images(_up_conv(config.channels, 5, 2)(x), "sigmoid")
    return keras.Model({"latents": latents, "labels": labels}, images, name="generator")


def _character_discriminator(config: LSGANConfig) -> keras.Model:
    """{"images" (batch, height, width, channels), "labels" (batch,)} -> scores (batch, 1)."""
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    labels, embedding = _embedded_labels(config)
    x = _down_conv(config.channels + config.embedding_size)(images)
    x = _with_maps(_d_activated(x, config, normalized=False), embedding)
    x = _d_activated(_down_conv(config.width + config.embedding_size)(x), config)
    x = layers.Concatenate()([layers.Flatten()(x), embedding])
    x = _d_activated(_dense(16 * config.width)(x), config)
    scores = _scores(layers.Concatenate()([x, embedding]))
    return keras.Model({"images": images, "labels": labels}, scores, name="discriminator")


def _embedded_labels(config: LSGANConfig) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """The input of the labels and their embeddings (batch, embedding_size)."""
    labels = keras.Input((), dtype="int32", name="labels")
    return labels, _dense(config.embedding_size)(OneHot(config.num_classes)(labels))


def _with_maps(x: keras.KerasTensor, embedding: keras.KerasTensor) -> keras.KerasTensor:
    """Adds the embedding to every pixel as further channels."""
    _, height, width, _ = x.shape
    repeated = layers.RepeatVector(height * width)(embedding)
    maps = layers.Reshape((height, width, embedding.shape[-1]))(repeated)
    return layers.Concatenate()([x, maps])


_BUILDERS = {
    "lsun": (_lsun_generator, _lsun_discriminator),
    "characters": (_character_generator, _character_discriminator),
    "dcgan": (_dcgan_generator, _dcgan_discriminator),
}


# -------------------------------------------------------------------- their parts


def _latents(config: LSGANConfig) -> keras.KerasTensor:
    return keras.Input((config.latent_size,), name="latents")


def _projected(
    config: LSGANConfig, shrink: int, filters: int
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """The generator's input and its smallest feature map, (height, width) // shrink."""
    height, width = (side // shrink for side in height_width(config.image_size))
    latents = _latents(config)
    x = layers.Reshape((height, width, filters))(_dense(height * width * filters)(latents))
    return latents, _g_activated(x, config)


def _g_activated(x: keras.KerasTensor, config: LSGANConfig) -> keras.KerasTensor:
    return layers.ReLU()(_norm(config)(x) if config.norm == "both" else x)


def _d_activated(x: keras.KerasTensor, config: LSGANConfig, normalized: bool = True) -> keras.KerasTensor:
    return layers.LeakyReLU(0.2)(_norm(config)(x) if normalized and config.norm != "none" else x)


def _norm(config: LSGANConfig) -> layers.Layer:
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, synchronized=config.sync_batch_norm)


def _initializer() -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(0.0, 0.02)


def _dense(units: int, **kwargs: Any) -> layers.Layer:
    return layers.Dense(units, kernel_initializer=_initializer(), **kwargs)


def _down_conv(filters: int) -> layers.Layer:
    initializer = keras.initializers.TruncatedNormal(0.0, 0.02)
    return layers.Conv2D(filters, 5, 2, "same", kernel_initializer=initializer)


def _up_conv(filters: int, kernel_size: int, strides: int) -> layers.Layer:
    return layers.Conv2DTranspose(
        filters, kernel_size, strides, "same", kernel_initializer=_initializer()
    )


def _images(x: keras.KerasTensor, activation: str) -> keras.KerasTensor:
    return layers.Activation(activation, dtype="float32", name="images")(x)


def _scores(x: keras.KerasTensor) -> keras.KerasTensor:
    return _dense(1, dtype="float32", name="scores")(x)
