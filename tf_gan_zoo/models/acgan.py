"""AC-GAN: the discriminator also says which class a picture shows, real or generated.

    L_S = E log P(real | x) + E log P(fake | G(z, c)),   L_C = E log P(c_x | x) + E log P(c | G(z, c));
    D maximises  L_S + L_C,   G maximises  L_C - L_S   (in practice  L_C + E log P(real | G(z, c))).

D is not told the class as a conditional GAN's is: it has a second head that must find it, and G is rewarded
for pictures whose class can be found. The class enters G as a vector with one 1 beside the noise.

Reference: A. Odena, C. Olah, J. Shlens, "Conditional Image Synthesis with Auxiliary Classifier GANs", ICML
2017, arXiv:1610.09585, section 3 and appendix A (tables 1 and 2): the model of 128x128 ImageNet pictures, ten
classes at a time, and that of CIFAR-10 (recipe acgan.cifar10).

The paper's table of ImageNet's G has four transposed convolutions, which make 128x128 pictures of an 8x8 map:
`generator_widths=(768, 384, 256, 192)`. The default adds one of width 64, as re-implementations do,
and starts at 4x4. Where it starts follows from the number of widths.

Departures: D's update and G's update share one forward pass of G.
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

from tf_gan_zoo.batch_spec import BatchSpec, checked_images, image_field
from tf_gan_zoo.conditional import LabelledGAN
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
from tf_gan_zoo.layers import OneHot, SeededDropout, SeededGaussianNoise
from tf_gan_zoo.losses import non_saturating_discriminator_loss as source_loss
from tf_gan_zoo.losses import non_saturating_generator_loss as generator_source_loss
from tf_gan_zoo.registry import Paper, register


@dataclass(frozen=True, kw_only=True)
class ACGANConfig(Config):
    """The paper's ImageNet model: 128x128, one of the hundred that share the thousand classes.

    Attributes:
        image_size: sides that can be halved once per entry of `generator_widths`.
        num_classes: labels are integers from 0 to num_classes - 1.
        generator_widths: channels of G's first map and of its hidden transposed convolutions.
        discriminator_widths: channels of D's convolutions, whose strides are 2, 1, 2, 1...
        class_weight: of L_C beside L_S.
        dropout: in D, behind every convolution, in G's update, too.
        activation_noise: standard deviation of noise on the inputs of D's convolutions, in training.
    """

    data: str = "tfds:imagenet2012"
    batch_size: PositiveInt = 100
    epochs: PositiveInt = 50
    steps_per_epoch: PositiveInt | None = 1000
    image_size: ImageSize = 128
    channels: Channels = 3
    num_classes: Annotated[int, Limits(ge=2)] = 10
    latent_size: PositiveInt = 100
    latent_distribution: Literal["normal", "uniform"] = "normal"
    generator_widths: tuple[PositiveInt, ...] = (768, 384, 256, 192, 64)
    discriminator_widths: tuple[PositiveInt, ...] = (16, 32, 64, 128, 256, 512)
    class_weight: PositiveFloat = 1.0
    dropout: Annotated[float, Limits(ge=0, lt=1)] = 0.5
    activation_noise: NonNegativeFloat = 0.0
    learning_rate: PositiveFloat = 2e-4
    beta_1: Decay = 0.5
    beta_2: Decay = 0.999

    def validate(self) -> None:
        if not self.generator_widths or not self.discriminator_widths:
            raise ConfigError("ACGANConfig: generator_widths and discriminator_widths need an entry each.")
        step = 2 ** len(self.generator_widths)
        if any(side % step for side in height_width(self.image_size)):
            raise ConfigError(
                f"ACGANConfig.image_size: {len(self.generator_widths)} generator_widths make sides that are "
                f"multiples of {step}, got {self.image_size}. Change either."
            )

    @property
    def base_size(self) -> tuple[int, int]:
        """(height, width) of G's first map, 4x4 for 128x128 pictures."""
        return tuple(side >> len(self.generator_widths) for side in height_width(self.image_size))


@register(
    "acgan",
    task="generation",
    paper=Paper(
        "Conditional Image Synthesis with Auxiliary Classifier GANs", "A. Odena, C. Olah, J. Shlens", 2017,
        "1610.09585",
    ),
    tiny={
        "image_size": 8, "num_classes": 3, "latent_size": 6, "generator_widths": (8,),
        "discriminator_widths": (4, 8), "batch_size": 4,
    },
)  # fmt: skip
class ACGAN(LabelledGAN):
    """GAN with an auxiliary classifier; images are (batch, height, width, channels) in [-1, 1].

        model.generate(10, labels=range(10))   # one picture of every class
        model.classify(images)                 # D's other head: probabilities of the classes

    Batches have "images" and "labels", int32 (batch,). `real_accuracy` and `fake_accuracy` are the parts of
    real and generated pictures whose class D finds, with its dropout.
    """

    config_cls = ACGANConfig
    log_names = ("d_loss", "g_loss", "real_accuracy", "fake_accuracy")

    def build_networks(self, config: ACGANConfig) -> dict[str, keras.Model]:
        return {"generator": build_generator(config), "discriminator": build_discriminator(config)}

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c = self.config
        return keras.optimizers.Adam(c.learning_rate, beta_1=c.beta_1, beta_2=c.beta_2, epsilon=1e-8)

    @property
    def batch_spec(self) -> BatchSpec:
        c = self.config
        return BatchSpec(images=image_field(height_width(c.image_size), c.channels), **self.label_field())

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real, labels = batch["images"], batch["labels"]
        with tf.GradientTape() as g_tape:
            fake, fake_labels = self.fakes("training", tf.shape(real)[0], training=True)
            with g_tape.stop_recording(), tf.GradientTape() as d_tape:
                on_real, on_fake = (self.discriminator(x, training=True) for x in (real, fake))
                d_loss = self._d_loss(on_real, labels, on_fake, fake_labels)
            with g_tape.stop_recording():
                self.update("discriminator", d_tape, d_loss)
            g_loss = self._g_loss(self.discriminator(fake, training=True), fake_labels)
        self.update("generator", g_tape, g_loss)
        return self._log(d_loss, g_loss, (on_real[1], labels), (on_fake[1], fake_labels))

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real, labels = batch["images"], batch["labels"]
        fake, fake_labels = self.fakes("validation", tf.shape(real)[0], training=False)
        on_real, on_fake = (self.discriminator(x, training=False) for x in (real, fake))
        d_loss = self._d_loss(on_real, labels, on_fake, fake_labels)
        g_loss = self._g_loss(on_fake, fake_labels)
        return self._log(d_loss, g_loss, (on_real[1], labels), (on_fake[1], fake_labels))

    def _d_loss(self, on_real: Any, labels: tf.Tensor, on_fake: Any, fake_labels: tf.Tensor) -> tf.Tensor:
        """-(L_S + L_C); `on_real` and `on_fake` are D's two outputs."""
        class_loss = cross_entropy(on_real[1], labels) + cross_entropy(on_fake[1], fake_labels)
        return source_loss(on_real[0], on_fake[0]) + self.config.class_weight * class_loss

    def _g_loss(self, on_fake: Any, fake_labels: tf.Tensor) -> tf.Tensor:
        """-(L_C - L_S) as far as it depends on G, its L_S not saturating."""
        class_loss = cross_entropy(on_fake[1], fake_labels)
        return generator_source_loss(on_fake[0]) + self.config.class_weight * class_loss

    def _log(
        self, d_loss: tf.Tensor, g_loss: tf.Tensor, *found: tuple[tf.Tensor, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        real, fake = (accuracy(class_logits, labels) for class_logits, labels in found)
        return self.log(d_loss=d_loss, g_loss=g_loss, real_accuracy=real, fake_accuracy=fake)

    def classify(self, images: Any, batch_size: int = 64) -> np.ndarray:
        """Probabilities (batch, num_classes) of the classes, by D's second head.

        Args:
            images: (batch, height, width, channels) in [-1, 1], or one picture without the batch axis.
            batch_size: pictures per call of the network.

        Raises:
            BatchError: if the pictures do not fit the model.
        """
        images = checked_images(images, self.batch_spec["images"])
        _, class_logits = self.run(images, batch_size, network="discriminator")
        return tf.nn.softmax(class_logits).numpy()

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """What any labelled model measures, and how many of the examples D classifies rightly."""
        results = super().measure(examples)
        if results:
            found = self.classify(examples["images"]).argmax(axis=1)
            results["test_accuracy"] = float((found == np.asarray(examples["labels"])).mean())
        return results


def cross_entropy(class_logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """-E log P(label); class logits (batch, num_classes), labels (batch,)."""
    class_logits = tf.cast(class_logits, tf.float32)
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, class_logits))


def accuracy(class_logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Part of the labels that the largest logit names."""
    found = tf.argmax(class_logits, axis=1, output_type=labels.dtype)
    return tf.reduce_mean(tf.cast(tf.equal(found, labels), tf.float32))


def build_generator(config: ACGANConfig) -> keras.Model:
    """{"latents" (batch, latent_size), "labels" (batch,)} -> images in [-1, 1]."""
    (height, width), (first, *hidden) = config.base_size, config.generator_widths
    latents = keras.Input((config.latent_size,), name="latents")
    labels = keras.Input((), dtype="int32", name="labels")
    x = layers.Concatenate()([latents, OneHot(config.num_classes)(labels)])
    x = layers.Dense(height * width * first, activation="relu", **_weights())(x)
    x = layers.Reshape((height, width, first))(x)
    for filters in hidden:
        x = layers.ReLU()(_norm(config)(_up_conv(filters)(x)))
    images = layers.Activation("tanh", dtype="float32", name="images")(_up_conv(config.channels)(x))
    return keras.Model({"latents": latents, "labels": labels}, images, name="generator")


def build_discriminator(config: ACGANConfig) -> keras.Model:
    """Images (batch, height, width, channels) -> logits (batch, 1), class logits (batch, num_classes)."""
    x = images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    for k, filters in enumerate(config.discriminator_widths):
        x = SeededGaussianNoise(config.activation_noise)(x) if config.activation_noise else x
        x = layers.Conv2D(filters, 3, 1 + (k + 1) % 2, "same", **_weights())(x)
        x = layers.LeakyReLU(0.2)(_norm(config)(x) if k else x)
        x = SeededDropout(config.dropout)(x)
    x = layers.Flatten()(x)
    outputs = [_head(1, "logits")(x), _head(config.num_classes, "class_logits")(x)]
    return keras.Model(images, outputs, name="discriminator")


def _up_conv(filters: int) -> layers.Layer:
    return layers.Conv2DTranspose(filters, 5, 2, "same", **_weights())


def _head(units: int, name: str) -> layers.Layer:
    return layers.Dense(units, dtype="float32", name=name, **_weights())


def _weights() -> dict[str, Any]:
    return {"kernel_initializer": keras.initializers.RandomNormal(0.0, 0.02)}


def _norm(config: ACGANConfig) -> layers.Layer:
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, synchronized=config.sync_batch_norm)
