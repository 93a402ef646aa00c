"""EnhanceNet: one generator for super-resolution, six mixtures of losses, textures instead of blur.

    L_E  mean |x - G(y)|^2                                                pixels
    L_P  mean |phi(x) - phi(G(y))|^2 for pool2, pool5 of VGG19             features
    L_T  mean |gram(phi(x)) - gram(phi(G(y)))|^2 of 16x16 patches          textures
    L_A  -E log D(G(y)), while D minimises -E log D(x) - E log(1 - D(G(y)))

x is a picture, y the same made small. `losses` names the mixture: "E", "P", "EA", "PA", "EAT" or "PAT" (the
paper's best to look at; "E" is best in PSNR). A squared error asks for the mean of all pictures that y may
come from, which is blurred. A Gram matrix says which features occur together but not where: two pictures of
the same texture agree, and patches keep each texture in its place.

G adds what is missing to the bicubic enlargement. It enlarges by repeating pixels and convolving, which
leaves no chequered pattern, and has no batch normalization; nor has D. D is left as it is in steps where it
judged the batch before rightly.

Reference: M. S. M. Sajjadi, B. Schoelkopf, M. Hirsch, "EnhanceNet: Single Image Super-Resolution Through
Automated Texture Synthesis", ICCV 2017, arXiv:1612.07919. G is that of the authors' inference code
(github.com/msmsajjadi/EnhanceNet-Code), with its bicubic enlargement, TensorFlow 1's, see `skip`; D is that
of the supplement's table 1; weights of L_P and L_T are those of the supplement.

Choices where paper and code are silent or vague: "normalised to a mean activation of one" divides each
layer's features by one number, the mean over the batch's true pictures; Gram matrices are sums over a patch
and their differences means over entries and patches, as in tensorpack's reimplementation; D "won" where more
than 90% of the last batch was judged rightly; L_A counts 2 with L_T (as ENet-PAT is said to have) and 1
without; L_E counts 100 for pictures from 0 to 1, which makes it about as large as L_P (in "E" alone Adam does
not see a factor); batches of 32; variants with L_A start from `pretrain_steps` of ENet-E. Departure: D and G
use the same batch and the same outputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tf_gan_zoo.config import (
    ConfigError,
    Decay,
    Fraction,
    ImageSize,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Repeats,
    height_width,
)
from tf_gan_zoo.losses import non_saturating_discriminator_loss as discriminator_loss
from tf_gan_zoo.losses import non_saturating_generator_loss as adversarial_loss
from tf_gan_zoo.perceptual import FeatureLoss, FeatureTerm, mean_squared_difference
from tf_gan_zoo.registry import Paper, register
from tf_gan_zoo.upscaling import Upscaler, UpscalerConfig, keys_kernel, psnr, sharpness

#: Mean red, green and blue of the training pictures, in [0, 1], from the authors' code.
_MEANS = (0.47614917, 0.45001204, 0.40904046)
#: Mean of gray pictures: the brightness of these.
_GRAY_MEAN = (float(np.dot(_MEANS, (0.299, 0.587, 0.114))),)
#: Layers of L_P and of L_T, in the order of their weights.
_PERCEPTUAL_LAYERS, _TEXTURE_LAYERS = ("pool2", "pool5"), ("relu1_1", "relu2_1", "relu3_1")
_DISCRIMINATOR_STAGES = 5


@dataclass(frozen=True, kw_only=True)
class EnhanceNetConfig(UpscalerConfig):
    """The paper's ENet-PAT.

    Attributes:
        losses: E, P, A and T as in the module's docstring.
        num_blocks: residual blocks of G.
        width: channels of G.
        skip: the bicubic enlargement that G adds to: "legacy" is TensorFlow 1's, as released, with a = -3/4
            and the upper left corners of all pixels in place, so that it lies (scale - 1) / 2 pixels too far
            to the upper left, which G learns to undo; "centered" has a = -1/2 and lies where it should.
        discriminator_width: filters in D's first stage; its dense layer has 32 times as many units.
        pixel_weight: of L_E, for pictures in [0, 1].
        perceptual_weights: of L_P, for pool2 and pool5.
        texture_weights: of L_T, for conv1_1, conv2_1 and conv3_1 after their ReLU.
        texture_patch_size: sides of L_T's patches, in pixels of the feature maps.
        adversarial_weight: of L_A; None is the paper's, 2 with L_T and 1 without.
        skip_accuracy: D is not updated where it judged more than this part of the last batch rightly.
        pretrain_steps: steps of ENet-E that come before losses with A.
        pretrain_learning_rate: of Adam in these steps.
    """

    data: str = "tfds:coco/2014"
    batch_size: PositiveInt = 32
    epochs: PositiveInt = 400
    steps_per_epoch: PositiveInt | None = 1000
    image_size: ImageSize = 128
    losses: Literal["E", "P", "EA", "PA", "EAT", "PAT"] = "PAT"
    num_blocks: Repeats = 10
    width: PositiveInt = 64
    skip: Literal["legacy", "centered"] = "legacy"
    discriminator_width: PositiveInt = 32
    pixel_weight: PositiveFloat = 100.0
    perceptual_weights: tuple[NonNegativeFloat, NonNegativeFloat] = (2e-1, 2e-2)
    texture_weights: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat] = (3e-7, 1e-6, 1e-6)
    texture_patch_size: PositiveInt = 16
    adversarial_weight: NonNegativeFloat | None = None
    skip_accuracy: Fraction = 0.9
    pretrain_steps: NonNegativeInt = 200_000
    pretrain_learning_rate: PositiveFloat = 1e-4
    learning_rate: PositiveFloat = 1e-4
    beta_1: Decay = 0.9
    beta_2: Decay = 0.999

    def validate(self) -> None:
        # conv3_1, the deepest layer of L_T, sees the picture halved twice; pool5 halves it five times.
        unit = max(self.scale, 4 * self.texture_patch_size if "T" in self.losses else 1)
        least = 32 if "P" in self.losses else 1
        if any(side % unit or side < least for side in height_width(self.image_size)):
            raise ConfigError(
                f"EnhanceNetConfig.image_size: losses={self.losses!r} with texture_patch_size="
                f"{self.texture_patch_size} needs sides of at least {least} that are multiples of {unit}, "
                f"got {self.image_size}. Use other crops or smaller patches."
            )

    @property
    def receptive_radius(self) -> int:
        """How far around a low-resolution pixel G looks, in such pixels; 23 at paper size."""
        after_doubling = sum(0.5**k for k in range(1, self.num_doublings + 1)) + 2 / self.scale
        return math.ceil(1 + 2 * self.num_blocks + after_doubling)


@register(
    "enhancenet",
    task="super_resolution",
    paper=Paper(
        "EnhanceNet: Single Image Super-Resolution Through Automated Texture Synthesis",
        "M. S. M. Sajjadi, B. Schoelkopf, M. Hirsch", 2017, "1612.07919",
    ),
    tiny={
        "image_size": 16, "num_blocks": 1, "width": 4, "discriminator_width": 2, "losses": "EAT",
        "texture_patch_size": 4, "pretrain_steps": 1, "batch_size": 4, "feature_weights": "emoji",
    },
)  # fmt: skip
class EnhanceNet(Upscaler):
    """Super-resolution; low-resolution pictures are in [0, 1], outputs in [-1, 1].

    Logs, on training and validation data alike: D's loss, the part of the batch that it judges rightly and
    the part of steps that update it (all 0 before L_A plays); L_A before weighting (g_loss); L_E, L_P and L_T
    with their weights (0 where `losses` does not name them); `psnr` (dB, all channels) and `sharpness`.
    """

    config_cls = EnhanceNetConfig
    log_names = (
        "d_loss", "d_accuracy", "d_updates", "g_loss", "pixel_loss", "perceptual_loss", "texture_loss",
        "psnr", "sharpness",
    )  # fmt: skip

    def build_networks(self, config: EnhanceNetConfig) -> dict[str, keras.Model]:
        return {"generator": build_generator(config), "discriminator": build_discriminator(config)}

    def build_state(self, config: EnhanceNetConfig) -> None:
        # Equal in all replicas: a mean over the global batch.
        self.last_accuracy = keras.Variable(
            0.0, dtype="float32", trainable=False, aggregation="only_first_replica", name="last_accuracy"
        )

    @property
    def phases(self) -> tuple[tuple[str, int], ...]:
        """The variants that are trained one after the other, as "enet_e" and "enet_pat"."""
        c = self.config
        own = f"enet_{c.losses.lower()}"
        return (("enet_e", 0), (own, c.pretrain_steps)) if self._is_pretrained else ((own, 0),)

    @property
    def _is_pretrained(self) -> bool:
        return "A" in self.config.losses and self.config.pretrain_steps > 0

    @property
    def players(self) -> dict[str, tuple[str, ...]]:
        # ENet-E and what follows train the same generator, each with an Adam of its own.
        own = {"generator": ("generator",), "discriminator": ("discriminator",)}
        return {"pretraining": ("generator",), **own}

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c = self.config
        rate = c.pretrain_learning_rate if player == "pretraining" else c.learning_rate
        return keras.optimizers.Adam(rate, beta_1=c.beta_1, beta_2=c.beta_2, epsilon=1e-8)

    @property
    def first_step_with_features(self) -> int | None:
        return self.phases[-1][1] if {"P", "T"} & set(self.config.losses) else None

    def make_feature_loss(self) -> FeatureLoss:
        c = self.config
        return FeatureLoss(
            self._feature_terms(), c.feature_weights, normalize=True, patch_size=c.texture_patch_size,
            seed=c.seed,
        )  # fmt: skip

    def _feature_terms(self) -> list[FeatureTerm]:
        c = self.config
        kinds = [
            ("P", "l2", _PERCEPTUAL_LAYERS, c.perceptual_weights),
            ("T", "gram", _TEXTURE_LAYERS, c.texture_weights),
        ]
        return [
            FeatureTerm(layer, weight, distance)
            for letter, distance, names, weights in kinds
            if letter in c.losses
            for layer, weight in zip(names, weights)
        ]

    # ---------------------------------------------------------------- training

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        low, high = self.resolutions(batch)
        if "A" in self._letters:
            return self._adversarial_step(low, high)
        with tf.GradientTape() as tape:
            fake = self.generator(low, training=True)
            terms = self.content_terms(high, fake)
            loss = tf.add_n(list(terms.values()))
        self.update("pretraining" if self._is_pretrained else "generator", tape, loss)
        return self._log(high, fake, terms)

    @property
    def _letters(self) -> str:
        """The losses of the current phase."""
        return self.phase.removeprefix("enet_").upper()

    def _adversarial_step(self, low: tf.Tensor, high: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as g_tape:
            fake = self.generator(low, training=True)
            with g_tape.stop_recording():
                d_logs = self._update_discriminator(high, fake)
            terms = self.content_terms(high, fake)
            g_loss = adversarial_loss(self.discriminator(fake, training=True))
            loss = tf.add_n([self.adversarial_weight * g_loss, *terms.values()])
        self.update("generator", g_tape, loss)
        return self._log(high, fake, terms, g_loss=g_loss, **d_logs)

    def _update_discriminator(self, real: tf.Tensor, fake: tf.Tensor) -> dict[str, tf.Tensor]:
        """Updates D unless it won the last time; returns what to log of it."""
        with tf.GradientTape() as tape:
            real_logits, fake_logits = (self.discriminator(x, training=True) for x in (real, fake))
            loss = discriminator_loss(real_logits, fake_logits)
        lost = self.last_accuracy.value <= self.config.skip_accuracy
        accuracy = self._accuracy(real_logits, fake_logits)
        self.update("discriminator", tape, loss, when=lost)
        self.last_accuracy.assign(accuracy)
        return {"d_loss": loss, "d_accuracy": accuracy, "d_updates": lost}

    @staticmethod
    def _accuracy(real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
        """The part of the global batch, real and generated, that D judges rightly."""
        right = tf.concat([real_logits > 0.0, fake_logits <= 0.0], axis=0)
        mean = tf.reduce_mean(tf.cast(right, tf.float32))
        return tf.distribute.get_replica_context().all_reduce("MEAN", mean)

    def content_terms(self, real: tf.Tensor, fake: tf.Tensor) -> dict[str, tf.Tensor]:
        """L_E, L_P and L_T of the current phase, weighted, by the names under which they are logged.

        Raises:
            FeatureWeightsError: if VGG19 is needed and has not been loaded.
        """
        terms, letters = {}, self._letters
        if "E" in letters:
            # A quarter: pictures in [-1, 1] differ by twice as much as in [0, 1].
            terms["pixel_loss"] = self.config.pixel_weight * mean_squared_difference(real, fake) / 4.0
        if {"P", "T"} & set(letters):
            values = self.feature_loss.values(real, fake)
            count = len(_PERCEPTUAL_LAYERS) if "P" in letters else 0
            named = {"perceptual_loss": values[:count], "texture_loss": values[count:]}
            terms |= {name: tf.add_n(parts) for name, parts in named.items() if parts}
        return terms

    @property
    def adversarial_weight(self) -> float:
        """The weight of L_A."""
        given = self.config.adversarial_weight
        return given if given is not None else 2.0 if "T" in self.config.losses else 1.0

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        low, high = self.resolutions(batch)
        fake = self.generator(low, training=False)
        terms = self.content_terms(high, fake)
        if "A" not in self._letters:
            return self._log(high, fake, terms)
        real_logits, fake_logits = (self.discriminator(x, training=False) for x in (high, fake))
        return self._log(
            high, fake, terms, g_loss=adversarial_loss(fake_logits),
            d_loss=discriminator_loss(real_logits, fake_logits),
            d_accuracy=self._accuracy(real_logits, fake_logits),
        )  # fmt: skip

    def _log(
        self, high: tf.Tensor, fake: tf.Tensor, terms: dict[str, tf.Tensor], **adversarial: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        own = {"psnr": psnr(high, fake), "sharpness": sharpness(high, fake), **terms, **adversarial}
        return self.log(**(dict.fromkeys(self.log_names, 0.0) | own))


# -------------------------------------------------------------------- networks


def build_generator(config: EnhanceNetConfig) -> keras.Model:
    """Low resolution (batch, h, w, channels) in [0, 1] -> images (batch, scale h, scale w, channels)."""
    low = keras.Input((None, None, config.channels), name="low_resolution")
    means = _MEANS if config.channels == 3 else _GRAY_MEAN
    centred = layers.Rescaling(1.0, offset=[-mean for mean in means])(low)
    x = _conv(config.width)(centred)
    for _ in range(config.num_blocks):
        x = layers.Add()([x, _conv(config.width, None)(_conv(config.width)(x))])
    for _ in range(config.num_doublings):
        x = _conv(config.width)(layers.UpSampling2D(2)(x))
    x = _conv(config.width)(x)
    residual = layers.Conv2D(config.channels, 3, padding="same", dtype="float32", name="residual")(x)
    legacy = config.skip == "legacy"
    bicubic = BicubicUpsampling(config.scale, legacy, dtype="float32", name="bicubic")(centred)
    x = layers.Add(dtype="float32")([residual, bicubic])
    # The means are added again, and [0, 1] becomes [-1, 1].
    offset = [2.0 * mean - 1.0 for mean in means]
    images = layers.Rescaling(2.0, offset=offset, dtype="float32", name="images")(x)
    return keras.Model(low, images, name="generator")


def build_discriminator(config: EnhanceNetConfig) -> keras.Model:
    """Images (batch, *image_size, channels) in [-1, 1] -> logits (batch, 1) (supplement, table 1)."""
    x = images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    for stage in range(_DISCRIMINATOR_STAGES):
        filters = config.discriminator_width << stage
        for strides in (1, 2):
            x = layers.Conv2D(filters, 3, strides, "same")(x)
            x = layers.LeakyReLU(0.2)(x)
    x = layers.LeakyReLU(0.2)(layers.Dense(32 * config.discriminator_width)(layers.Flatten()(x)))
    logits = layers.Dense(1, dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name="discriminator")


def _conv(filters: int, activation: str | None = "relu") -> layers.Layer:
    return layers.Conv2D(filters, 3, padding="same", activation=activation)


@keras.saving.register_keras_serializable("tf_gan_zoo")
class BicubicUpsampling(layers.Layer):
    """(batch, h, w, channels) -> (batch, scale h, scale w, channels) by Keys's cubic kernel.

    One convolution and a rearrangement of pixels, which phones have operators for. Borders are repeated.

    Args:
        scale: output pixels per input pixel and side.
        legacy: as `tf.image.resize_bicubic` of TensorFlow 1, see `EnhanceNetConfig.skip`.
    """

    def __init__(self, scale: int, legacy: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale, self.legacy = scale, legacy

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        kernel = bicubic_kernel(self.scale, inputs.shape[-1], self.legacy).astype(self.compute_dtype)
        maps = tf.nn.conv2d(_repeat_borders(inputs, 2), kernel, strides=1, padding="VALID")
        return tf.nn.depth_to_space(maps, self.scale)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, height, width, channels = input_shape
        return (batch, height and height * self.scale, width and width * self.scale, channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale, "legacy": self.legacy}


def bicubic_kernel(scale: int, channels: int, legacy: bool) -> np.ndarray:
    """Convolution kernel (5, 5, channels, scale^2 channels) to the pixels that one pixel becomes.

    Output (scale a + b) channels + k is pixel (a, b) of them in channel k.
    """
    # How far from a pixel's place the pixels that it becomes have theirs: from corner to corner, or between
    # centers.
    places = np.arange(scale) / scale if legacy else (np.arange(scale) + 0.5) / scale - 0.5
    taps = keys_kernel(np.abs(np.arange(-2, 3) - places[:, None]), a=-0.75 if legacy else -0.5)
    kernel = np.einsum("ay,bx,ck->yxcabk", taps, taps, np.eye(channels))
    return kernel.reshape(5, 5, channels, scale * scale * channels).astype("float32")


def _repeat_borders(images: tf.Tensor, count: int) -> tf.Tensor:
    """Pictures with their outermost rows and columns repeated `count` times."""
    rows = tf.concat([*[images[:, :1]] * count, images, *[images[:, -1:]] * count], axis=1)
    return tf.concat([*[rows[:, :, :1]] * count, rows, *[rows[:, :, -1:]] * count], axis=2)
