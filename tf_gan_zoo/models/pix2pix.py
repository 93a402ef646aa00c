"""pix2pix: paired image-to-image translation with a conditional GAN and an L1 term.

    D minimises  -1/2 [E log D(x, y) + E log(1 - D(x, G(x)))],
    G minimises  -E log D(x, G(x)) + 100 E |y - G(x)|.

G is a U-Net whose only noise is dropout, which stays on when translating. D is a PatchGAN: it judges every
70x70 patch of input and output together. Batch normalisation always uses the statistics of what it is given.

Reference: P. Isola, J.-Y. Zhu, T. Zhou, A. A. Efros, "Image-to-Image Translation with Conditional Adversarial
Networks", CVPR 2017, arXiv:1611.07004. Details follow the authors' code: the last two convolutions of D have
stride 1 (the paper's text says 2, which would not see 70 pixels), and G is updated against the D that has
just been updated, as in their PyTorch version.

Departures: at inference each picture is normalised by its own statistics; the authors do this by translating
one at a time, and with their batch size of 1 it is what training does. No learning-rate decay by default
(the paper's and the first code's choice); `decay_epochs` has the later code's, per step instead of per epoch.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tf_gan_zoo.batch_spec import BatchSpec, checked_images, image_field
from tf_gan_zoo.config import (
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
from tf_gan_zoo.gan import GAN
from tf_gan_zoo.layers import BatchStatisticsNormalization, SeededDropout
from tf_gan_zoo.losses import (
    non_saturating_discriminator_loss,
    non_saturating_generator_loss,
)
from tf_gan_zoo.metrics import l1, ssim
from tf_gan_zoo.registry import Paper, register
from tf_gan_zoo.schedules import LinearDecay

#: Receptive field of D in pixels -> convolutions with stride 2 (section 3.2.2, appendix 6.1.2).
_PATCH_HALVINGS = {1: 0, 16: 1, 34: 2, 70: 3, 142: 4, 286: 5}
_MIN_DEPTH = 3
#: The default data: photograph|label map in one file.
_FACADES = "paired:facades"


@dataclass(frozen=True, kw_only=True)
class Pix2PixConfig(Config):
    """The paper's 256x256 model, as trained on facades, from label maps to photographs.

    Attributes:
        data: the facades come as in the authors' run, `direction="b_to_a"`; other pairs from the first image
            to the second, if `data_options` do not say otherwise.
        image_size: sides that are multiples of 8.
        max_depth: the U-Net halves both sides as often as they can be, but not more often than this: by
            default down to 1x1 for 64, 128 and 256.
        input_channels: channels of the pictures to be translated; `channels` are the results'.
        width: channels of the first layer of G and of D; deeper layers have up to 8 times as many.
        dropout: rate in the decoder's first three layers, the model's only noise.
        patch_size: pixels that one output of D sees.
        conditional: D sees the input, too (False: the ablation "GAN").
        norm: "batch" as the paper names it; "instance" normalises each picture by itself in training, too:
            the same for batch size 1, and with larger batches what inference does.
        gan_weight: weight of the adversarial term (0: the ablation "L1").
        l1_weight: weight of the L1 term (0: the ablations "GAN" and "cGAN").
        decay_epochs: the learning rate falls linearly to 0 over this many last epochs.
    """

    data: str = _FACADES
    data_options: dict[str, Any] = dataclasses.field(
        default_factory=lambda: {"load_scale": 286 / 256, "flip": True}
    )
    batch_size: PositiveInt = 1
    epochs: PositiveInt = 200
    image_size: ImageSize = 256
    max_depth: Halvings = 8
    input_channels: PositiveInt = 3
    channels: PositiveInt = 3
    width: PositiveInt = 64
    dropout: Decay = 0.5
    patch_size: Literal[1, 16, 34, 70, 142, 286] = 70
    conditional: bool = True
    norm: Literal["batch", "instance"] = "batch"
    gan_weight: NonNegativeFloat = 1.0
    l1_weight: NonNegativeFloat = 100.0
    learning_rate: PositiveFloat = 2e-4
    beta_1: Decay = 0.5
    beta_2: Decay = 0.999
    decay_epochs: int = 0

    def validate(self) -> None:
        if self.max_depth < _MIN_DEPTH:
            raise ConfigError(
                f"Pix2PixConfig.max_depth: must be {_MIN_DEPTH} or more, got {self.max_depth}."
            )
        if self.depth < _MIN_DEPTH:
            raise ConfigError(
                f"Pix2PixConfig.image_size: both sides of {self.image_size} must be multiples of "
                f"{2**_MIN_DEPTH}, better of 256. Resize the pictures to such a size."
            )
        smallest = next(s for s in range(1, 1000) if patch_map_side(s, self.patch_size) >= 1)
        if min(height_width(self.image_size)) < smallest:
            raise ConfigError(
                f"Pix2PixConfig.patch_size: {self.patch_size} needs pictures of at least "
                f"{smallest}x{smallest} pixels, got image_size {self.image_size}. Use a smaller patch_size."
            )
        if not 0 <= self.decay_epochs <= self.epochs:
            raise ConfigError(
                f"Pix2PixConfig.decay_epochs: {self.decay_epochs} must be from 0 to epochs ({self.epochs})."
            )

    @property
    def depth(self) -> int:
        """How often the U-Net halves its pictures."""
        common_divisor = math.gcd(*height_width(self.image_size))
        return max(d for d in range(self.max_depth + 1) if common_divisor % 2**d == 0)

    def level_channels(self, level: int) -> int:
        """Channels of the U-Net `level` halvings down (1 to `depth`)."""
        return self.width * min(2 ** (level - 1), 8)


@register(
    "pix2pix",
    task="translation",
    paper=Paper(
        "Image-to-Image Translation with Conditional Adversarial Networks",
        "P. Isola, J.-Y. Zhu, T. Zhou, A. A. Efros", 2017, "1611.07004",
    ),
    tiny={"image_size": 16, "width": 4, "patch_size": 16, "batch_size": 4},
)  # fmt: skip
class Pix2Pix(GAN):
    """Conditional GAN from `inputs` to `targets`, both (batch, height, width, channels) in [-1, 1].

    Logs D's halved loss (d_loss), the adversarial term of G (g_loss) and the L1 distance (l1_loss), the last
    two before weighting.
    """

    config_cls = Pix2PixConfig
    view = "paired"
    log_names = ("d_loss", "g_loss", "l1_loss")

    def build_networks(self, config: Pix2PixConfig) -> dict[str, keras.Model]:
        return {"generator": build_generator(config), "discriminator": build_discriminator(config)}

    @functools.cached_property
    def _translate_with_dropout(self) -> Any:
        return tf.function(
            lambda image: self.generator(image, training=True), reduce_retracing=True, autograph=False
        )

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c = self.config
        rate = c.learning_rate
        if c.decay_epochs:
            decay_steps = max(c.total_steps * c.decay_epochs // c.epochs, 1)
            rate = LinearDecay(rate, c.total_steps - decay_steps, decay_steps)
        return keras.optimizers.Adam(rate, beta_1=c.beta_1, beta_2=c.beta_2, epsilon=1e-8)

    @property
    def data_keywords(self) -> dict[str, Any]:
        return {"direction": "b_to_a"} if self.config.data == _FACADES else {}

    @property
    def batch_spec(self) -> BatchSpec:
        size = height_width(self.config.image_size)
        return BatchSpec(
            inputs=image_field(size, self.config.input_channels),
            targets=image_field(size, self.config.channels),
        )

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        pictures = {"inputs": (-1.0, 1.0), "outputs": (-1.0, 1.0)}
        # Devices have no seeded draws.
        notes = {"outputs": "without dropout: translate(images, dropout=False)"}
        unit = 2**self.config.depth
        return {"translate": Endpoint(self.generator, pictures, multiple_of=unit, notes=notes)}

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        inputs, targets = batch["inputs"], batch["targets"]
        with tf.GradientTape() as g_tape:
            outputs = self.generator(inputs, training=True)
            with g_tape.stop_recording(), tf.GradientTape() as d_tape:
                d_loss = self._discriminator_loss(inputs, targets, outputs, training=True)
            with g_tape.stop_recording():
                self.update("discriminator", d_tape, d_loss)
            g_loss, l1_loss = self._generator_losses(inputs, targets, outputs, training=True)
            loss = self.config.gan_weight * g_loss + self.config.l1_weight * l1_loss
        self.update("generator", g_tape, loss)
        return self.log(d_loss=d_loss, g_loss=g_loss, l1_loss=l1_loss)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        inputs, targets = batch["inputs"], batch["targets"]
        outputs = self.generator(inputs, training=False)
        d_loss = self._discriminator_loss(inputs, targets, outputs, training=False)
        g_loss, l1_loss = self._generator_losses(inputs, targets, outputs, training=False)
        return self.log(d_loss=d_loss, g_loss=g_loss, l1_loss=l1_loss)

    def _discriminator_loss(self, inputs, targets, outputs, training: bool) -> tf.Tensor:
        real, fake = (self._judge(inputs, images, training) for images in (targets, outputs))
        return 0.5 * non_saturating_discriminator_loss(real, fake)

    def _generator_losses(self, inputs, targets, outputs, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """The adversarial term and the L1 distance, not weighted."""
        fake_logits = self._judge(inputs, outputs, training)
        return non_saturating_generator_loss(fake_logits), tf.reduce_mean(tf.abs(targets - outputs))

    def _judge(self, inputs: tf.Tensor, images: tf.Tensor, training: bool) -> tf.Tensor:
        seen = [inputs, images] if self.config.conditional else images
        return self.discriminator(seen, training=training)

    def translate(
        self, images: np.ndarray, direction: str = "a_to_b", seed: int = 0, dropout: bool = True
    ) -> np.ndarray:
        """Translates pictures; several seeds give several answers.

        Args:
            images: (batch, height, width, input_channels) in [-1, 1], or one picture without batch axis;
                sides may differ from those of training, but are multiples of 2**depth (256 at paper size).
                A picture goes through in one piece: 4096x3072 pixels took 6.7 GB of memory at paper size.
            direction: only "a_to_b", from inputs to targets.
            seed: of the dropout masks; each picture's result depends on its place in the batch, not on
                the others.
            dropout: False translates without noise.

        Returns:
            float32 (batch, height, width, channels) in [-1, 1].

        Raises:
            ValueError: for another direction.
            BatchError: for images that do not fit.
        """
        if direction != "a_to_b":
            raise ValueError(
                "pix2pix translates from inputs to targets only (direction='a_to_b'), "
                f"got {direction!r}. For the other way train a second model on "
                "data_options={'direction': 'b_to_a'}."
            )
        sides = {"multiple_of": 2**self.config.depth}
        images = checked_images(images, image_field((None, None), self.config.input_channels, **sides))
        if not dropout:
            return self.run(images)
        return np.concatenate([self._sample(images[i : i + 1], seed, i) for i in range(len(images))])

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Nearness to the targets; to be beaten: the untranslated inputs, the targets' mean colour."""
        targets = examples["targets"]
        outputs = {"": self.translate(examples["inputs"])}
        if self.config.input_channels == self.config.channels:
            outputs["_baseline"] = examples["inputs"]
        outputs["_mean_colour_baseline"] = np.broadcast_to(targets.mean((0, 1, 2)), targets.shape)
        results = {}
        for suffix, images in outputs.items():
            results[f"ssim{suffix}"] = float(ssim(images, targets, 2.0).mean())
            results[f"l1{suffix}"] = float(l1(images, targets).mean())
        return results

    def _sample(self, image: np.ndarray, seed: int, place: int) -> np.ndarray:
        """One picture by itself, as in training with batch size 1: own statistics, own masks."""
        self.reseed(seed, place)
        return self._translate_with_dropout(tf.constant(image)).numpy()


def build_generator(config: Pix2PixConfig) -> keras.Model:
    """U-Net: images (batch, height, width, input_channels) -> (batch, height, width, channels) in [-1, 1]."""
    x = images = keras.Input((None, None, config.input_channels), name="inputs")
    skips = []
    for level in range(1, config.depth + 1):
        x = layers.LeakyReLU(0.2)(x) if skips else x
        x = layers.Conv2D(config.level_channels(level), 4, 2, "same", **_weights(level == 1))(x)
        x = _norm(config)(x) if 1 < level < config.depth else x
        skips.append(x)
    for level in range(config.depth - 1, 0, -1):
        x = layers.ReLU()(x)
        x = layers.Conv2DTranspose(config.level_channels(level), 4, 2, "same", **_weights(False))(x)
        x = _norm(config)(x)
        x = SeededDropout(config.dropout)(x) if level >= config.depth - 3 else x
        x = layers.Concatenate()([x, skips[level - 1]])
    x = layers.Conv2DTranspose(config.channels, 4, 2, "same", **_weights(True))(layers.ReLU()(x))
    outputs = layers.Activation("tanh", dtype="float32", name="outputs")(x)
    return keras.Model(images, outputs, name="generator")


def build_discriminator(config: Pix2PixConfig) -> keras.Model:
    """PatchGAN: [inputs, images], or images alone if not conditional -> logits (batch, rows, columns, 1)."""
    condition = keras.Input((None, None, config.input_channels), name="inputs")
    images = keras.Input((None, None, config.channels), name="images")
    seen = [condition, images] if config.conditional else images
    x = layers.Concatenate()(seen) if config.conditional else images
    kernel, halvings = (1 if config.patch_size == 1 else 4), _PATCH_HALVINGS[config.patch_size]
    for k in range(halvings + 1 if halvings else 2):
        x = _pad(kernel)(x)
        x = layers.Conv2D(
            config.width * min(2**k, 8), kernel, 2 if k < halvings else 1, **_weights(k == 0)
        )(x)
        x = layers.LeakyReLU(0.2)(_norm(config)(x) if k else x)
    logits = layers.Conv2D(1, kernel, dtype="float32", name="logits", **_weights(True))(_pad(kernel)(x))
    return keras.Model(seen, logits, name="discriminator")


def patch_map_side(side: int, patch_size: int) -> int:
    """Side of D's map of logits for pictures of that side: 30 for 256 and a patch size of 70."""
    if patch_size == 1:
        return side
    halvings = _PATCH_HALVINGS[patch_size]
    for stride in [2] * halvings + [1, 1]:
        side = (side + 2 - 4) // stride + 1
    return side


def _pad(kernel: int) -> layers.Layer:
    """One pixel of zeros around 4x4 convolutions: "same" would add two at one side for stride 1."""
    return layers.ZeroPadding2D(1 if kernel == 4 else 0)


def _weights(use_bias: bool) -> dict[str, Any]:
    return {"kernel_initializer": keras.initializers.RandomNormal(0.0, 0.02), "use_bias": use_bias}


def _norm(config: Pix2PixConfig) -> layers.Layer:
    return BatchStatisticsNormalization(
        epsilon=1e-5, per_image=config.norm == "instance", synchronized=config.sync_batch_norm,
        gamma_initializer=keras.initializers.RandomNormal(1.0, 0.02),
    )  # fmt: skip
