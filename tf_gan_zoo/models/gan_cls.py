"""GAN-CLS, GAN-INT and GAN-INT-CLS: pictures from sentences.

    D minimises  -E log D(x, h) - 1/2 E log(1 - D(x', h)) - 1/2 E log(1 - D(G(z, h), h)),
    G minimises  -E log D(G(z, h), h) - E log D(G(z, m), m),            m = (h + h') / 2,

x a picture, h the embedding of its caption, x' a picture of another class, h' another caption's embedding.
The second term of D (CLS) makes it look at the text, too, and not only for realistic pictures. The second
term of G (INT) fills the gaps between the captions there are; D is never trained on m. `variant` is "gan",
"cls", "int" or "int_cls"; without CLS D's terms have weights 1, 0 and 1.

Three phases in one `fit`. First a character-level network learns the embeddings, as `captioned` explains;
then G and D as above with embeddings fixed; then S, with G fixed, which finds the style of a picture, all
that the caption does not say: S minimises E |z - S(G(z, h))|^2, and G(S(x), h) is another thing in the style
of x.

References: S. Reed, Z. Akata, X. Yan, L. Logeswaran, B. Schiele, H. Lee, "Generative Adversarial Text to
Image Synthesis", ICML 2016, arXiv:1605.05396; S. Reed, Z. Akata, H. Lee, B. Schiele, "Learning Deep
Representations of Fine-grained Visual Descriptions", CVPR 2016, arXiv:1605.05395 (the text network). From
the authors' released code of GAN-INT-CLS for birds and flowers: layers; convolutions without biases that
start from N(0, 0.02), batch norms' gains from N(1, 0.02), dense layers as Torch makes them; Adam with 2e-4,
beta_1 0.5 and a rate that halves every 100 epochs.

Choices where both are silent: S has D's layers for pictures and a linear last one.

Departures beside those of `captioned`: mixed embeddings come from all neighbours in the batch instead of its
two halves, and their term is a mean of its own; the wrong picture is the next one in the batch, left out if
it is of the same class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tf_gan_zoo import replicas
from tf_gan_zoo.captioned import CaptionedConfig, CaptionedGAN, matching_loss
from tf_gan_zoo.config import ConfigError, Decay, NonNegativeFloat, PositiveFloat, PositiveInt, height_width
from tf_gan_zoo.losses import non_saturating_discriminator_loss as plain_loss
from tf_gan_zoo.losses import non_saturating_generator_loss as positive_loss
from tf_gan_zoo.networks.dense import torch_dense
from tf_gan_zoo.networks.matching import bottleneck, conv, halvings, judgement, norm, normal
from tf_gan_zoo.networks.text import build_text_encoder
from tf_gan_zoo.registry import Paper, register


@dataclass(frozen=True, kw_only=True)
class GANCLSConfig(CaptionedConfig):
    """GAN-INT-CLS for birds; see `CaptionedConfig` for the text network's fields.

    Attributes:
        variant: which terms D and G have, see above.
        width: channels of G's last but one layer; the first has 8 times as many.
        discriminator_width: channels of D's first layer.
        text_code_size: numbers that G and D make of an embedding, each by a layer of its own.
        interpolation_weight: of G's term for mixed embeddings.
        style_start: the step from which S is trained, after 600 epochs of G and D; None for never.
        initial_std: standard deviation of convolutions' first weights; narrow networks need a larger one.
        discriminator_learning_rate: of D, if it is another; few pictures need a slower one.
        halving_steps: G's and D's learning rate is halved after so many steps; 100 epochs of birds.
    """

    epochs: PositiveInt = 868
    variant: Literal["gan", "cls", "int", "int_cls"] = "int_cls"
    width: PositiveInt = 128
    discriminator_width: PositiveInt = 64
    text_code_size: PositiveInt = 128
    interpolation_weight: NonNegativeFloat = 1.0
    style_start: PositiveInt | None = 200 * 150 + 600 * 138
    learning_rate: PositiveFloat = 2e-4
    discriminator_learning_rate: PositiveFloat | None = None
    beta_1: Decay = 0.5
    initial_std: PositiveFloat = 0.02
    halving_steps: PositiveInt = 100 * 138

    def validate(self) -> None:
        super().validate()
        if any(side % 16 for side in height_width(self.image_size)):
            raise ConfigError(
                f"GANCLSConfig.image_size: expected multiples of 16, such as 64, got {self.image_size}."
            )
        if self.style_start is not None and self.style_start <= self.text_steps:
            raise ConfigError(
                f"GANCLSConfig.style_start: {self.style_start} must be above text_steps, {self.text_steps}."
            )

    @property
    def interpolates(self) -> bool:
        """Whether G has its second term."""
        return "int" in self.variant

    @property
    def matches(self) -> bool:
        """Whether D has its second term."""
        return "cls" in self.variant


@register(
    "gan_cls",
    task="text_to_image",
    paper=Paper(
        "Generative Adversarial Text to Image Synthesis",
        "S. Reed, Z. Akata, X. Yan, L. Logeswaran, B. Schiele, H. Lee", 2016, "1605.05396",
    ),
    tiny={
        "image_size": 16, "width": 2, "discriminator_width": 4, "latent_size": 4, "text_size": 8,
        "text_code_size": 4, "text_width": 2, "image_features": "random", "text_steps": 1,
        "style_start": None, "batch_size": 4,
    },
)  # fmt: skip
class GANCLS(CaptionedGAN):
    """Pictures by caption; images are (batch, height, width, channels) in [-1, 1], captions strings (batch,).

        model.generate(captions=["red heart", "blue car"])
        model.interpolate("red heart", "blue car", 8)       # pictures on the way from one to the other
        model.match_score(images, captions)                 # does the text say what the picture shows?
        model.style_transfer(images, captions)              # other things in the pictures' style

    Logs the text network's hinge (text_loss), D's loss, G's first term (g_loss) and S's squared error
    (style_loss); what a phase does not train is 0.
    """

    config_cls = GANCLSConfig
    log_names = ("text_loss", "d_loss", "g_loss", "style_loss")

    def build_networks(self, config: GANCLSConfig) -> dict[str, keras.Model]:
        networks = {
            "generator": build_generator(config),
            "discriminator": build_discriminator(config),
            "text_encoder": build_text_encoder(config),
        }
        if config.style_start is not None:
            networks["style_encoder"] = build_style_encoder(config)
        return networks

    @property
    def phases(self) -> tuple[tuple[str, int], ...]:
        c = self.config
        phases = (*self.text_phases, ("adversarial", c.text_steps))
        return phases if c.style_start is None else (*phases, ("style", c.style_start))

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c = self.config
        if player == "text_encoder":
            return self.text_optimizer()
        rate = (player == "discriminator" and c.discriminator_learning_rate) or c.learning_rate
        halved = keras.optimizers.schedules.ExponentialDecay(rate, c.halving_steps, 0.5, staircase=True)
        return keras.optimizers.Adam(halved, beta_1=c.beta_1, epsilon=1e-8)

    # ---------------------------------------------------------------- training

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        if self.phase == "text":
            return self.text_step(batch)
        text = self.embed(batch["captions"])
        return self._style_step(text) if self.phase == "style" else self._adversarial_step(batch, text)

    def _adversarial_step(self, batch: dict[str, tf.Tensor], text: tf.Tensor) -> dict[str, tf.Tensor]:
        fakes = self._pictures("for D", text, training=True)
        with tf.GradientTape() as tape:
            d_loss = self._discriminator_loss(batch, text, fakes, training=True)
        self.update("discriminator", tape, d_loss)
        with tf.GradientTape() as tape:
            g_loss = self._fooling_loss("for G", text, training=True)
            loss = g_loss
            if self.config.interpolates:
                mixed = 0.5 * (text + replicas.rolled(text))
                loss += self.config.interpolation_weight * self._fooling_loss("mixed", mixed, training=True)
        self.update("generator", tape, loss)
        return self.log_some(d_loss=d_loss, g_loss=g_loss)

    def _discriminator_loss(
        self, batch: dict[str, tf.Tensor], text: tf.Tensor, fakes: tf.Tensor, training: bool
    ) -> tf.Tensor:
        """Real pictures with their text, wrong ones with it (CLS), and fakes."""
        real, fake = (self._judge(images, text, training) for images in (batch["images"], fakes))
        if not self.config.matches:
            return plain_loss(real, fake)
        other_class = tf.not_equal(batch["labels"], replicas.rolled(batch["labels"]))
        wrong = self._judge(replicas.rolled(batch["images"]), text, training)
        return matching_loss(real, wrong, fake, other_class)

    def _fooling_loss(self, purpose: str, text: tf.Tensor, training: bool) -> tf.Tensor:
        return positive_loss(self._judge(self._pictures(purpose, text, training), text, training))

    def _style_step(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        latents = self.latents("style", tf.shape(text)[0])
        images = self.generator({"latents": latents, "text": text}, training=False)
        with tf.GradientTape() as tape:
            loss = squared_error(latents, self.style_encoder(images, training=True))
        self.update("style_encoder", tape, loss)
        return self.log_some(style_loss=loss)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        text = self.embed(batch["captions"])
        losses = {
            "d_loss": self._discriminator_loss(batch, text, self._pictures("v", text, False), training=False),
            "g_loss": self._fooling_loss("validation", text, training=False),
        }
        if self.phase == "text":
            losses["text_loss"] = self.text_loss(batch, training=False)
        return self.log_some(**losses)

    def _pictures(self, purpose: str, text: tf.Tensor, training: bool) -> tf.Tensor:
        latents = self.latents(purpose, tf.shape(text)[0])
        return self.generator({"latents": latents, "text": text}, training=training)

    def _judge(self, images: tf.Tensor, text: tf.Tensor, training: bool) -> tf.Tensor:
        return self.discriminator({"images": images, "text": text}, training=training)

    # ---------------------------------------------------------------- styles

    def style_transfer(self, images: Any, captions: Sequence[str], batch_size: int = 64) -> np.ndarray:
        """Pictures of the captions, each in the style of the picture at its place.

        Raises:
            BatchError: if the pictures do not fit the model.
            ValueError: for another number of captions, or a model without a style network.
        """
        if self.config.style_start is None:
            raise ValueError("this model has no style network: its config has style_start=None.")
        images, text = self.pairs(images, captions)
        latents = self.run(images, batch_size, "style_encoder")
        return np.asarray(self.run({"latents": latents, "text": text}, batch_size))


# -------------------------------------------------------------------- losses


def squared_error(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Squared distances of vectors (batch, size), the batch's mean."""
    return tf.reduce_mean(tf.reduce_sum(tf.math.squared_difference(a, tf.cast(b, a.dtype)), axis=1))


# -------------------------------------------------------------------- networks


def build_generator(config: GANCLSConfig) -> keras.Model:
    """Latents and embeddings -> images (batch, height, width, channels) in [-1, 1]."""
    latents = keras.Input((config.latent_size,), name="latents")
    text = keras.Input((config.text_size,), name="text")
    code = layers.LeakyReLU(0.2)(torch_dense(text, config.text_code_size))
    x = layers.Concatenate()([latents, code])
    x = layers.Reshape((1, 1, x.shape[-1]))(x)
    base = tuple(side // 16 for side in height_width(config.image_size))
    first = layers.Conv2DTranspose(8 * config.width, base, kernel_initializer=normal(config), use_bias=False)
    x = norm(config)(first(x))
    x = bottleneck(x, 2 * config.width, layers.ReLU(), config)
    x = norm(config)(_up_conv(config, 4 * config.width)(x))
    x = bottleneck(x, config.width, layers.ReLU(), config)
    for filters in (2 * config.width, config.width):
        x = layers.ReLU()(norm(config)(_up_conv(config, filters)(x)))
    images = layers.Activation("tanh", dtype="float32", name="images")(_up_conv(config, config.channels)(x))
    return keras.Model({"latents": latents, "text": text}, images, name="generator")


def build_discriminator(config: GANCLSConfig) -> keras.Model:
    """Images and embeddings -> logits (batch, 1)."""
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    text = keras.Input((config.text_size,), name="text")
    code = torch_dense(text, config.text_code_size)
    logits = judgement(_picture_layers(images, config), code, config, normalize_code=True)
    return keras.Model({"images": images, "text": text}, logits, name="discriminator")


def build_style_encoder(config: GANCLSConfig) -> keras.Model:
    """Images (batch, height, width, channels) -> latents (batch, latent_size)."""
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    x = _picture_layers(images, config)
    x = conv(config, config.latent_size, x.shape[1:3], padding="valid")(x)
    latents = layers.Reshape((config.latent_size,), dtype="float32", name="latents")(x)
    return keras.Model(images, latents, name="style_encoder")


def _picture_layers(images: keras.KerasTensor, config: GANCLSConfig) -> keras.KerasTensor:
    """D's layers 1 to 5; the last two halvings have no activation."""
    x = halvings(images, config)
    return bottleneck(x, 2 * config.discriminator_width, layers.LeakyReLU(0.2), config)


def _up_conv(config: GANCLSConfig, filters: int) -> layers.Layer:
    options = {"kernel_initializer": normal(config), "use_bias": False}
    return layers.Conv2DTranspose(filters, 4, 2, "same", **options)
