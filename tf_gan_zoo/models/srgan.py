"""SRGAN and its generator SRResNet: pictures four times as large, sharp rather than close on average.

    stage 1 (SRResNet)   G minimises  E |x - G(y)|^2
    stage 2 (SRGAN)      G minimises  E |phi(x) - phi(G(y))|^2 - 10^-3 E log D(G(y)),
                         D maximises  E log D(x) + E log(1 - D(G(y))),

x a high-resolution picture, y = x made small, phi feature maps of VGG19 (or x itself). Both stages run in
one `fit`: the second begins after `pretrain_steps`, with the generator of the first. `PRESETS` has the
paper's variants, to be given to `zoo.get("srgan", **PRESETS["srgan_vgg22"])`; the recipes srgan.div2k_NAME
are the same for the shell.

Reference: C. Ledig, L. Theis, F. Huszar, J. Caballero, A. Cunningham, A. Acosta, A. Aitken, A. Tejani,
J. Totz, Z. Wang, W. Shi, "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial
Network", CVPR 2017, arXiv:1609.04802. Equations below are numbered as in its fifth version.

Choices where the paper is silent: PReLU has one slope per channel that starts at 0.25; D(G(y)) enters the
loss as its mean over the batch, not its sum; squared differences are means over channels, too; low
resolution comes from an antialiased bicubic kernel, how the paper's "bicubic kernel" is read. Departures: D
and G use the same batch and the same generator outputs; "srgan_v1" has the loss and the 15 blocks of
arXiv's first version, but pixel shuffle instead of its transposed convolutions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import keras
import tensorflow as tf
from keras import layers

from tf_gan_zoo.config import (
    ConfigError,
    Decay,
    ImageSize,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Repeats,
    height_width,
)
from tf_gan_zoo.layers import Zero
from tf_gan_zoo.losses import non_saturating_discriminator_loss as discriminator_loss
from tf_gan_zoo.losses import non_saturating_generator_loss as adversarial_loss
from tf_gan_zoo.perceptual import FeatureLoss, FeatureTerm, mean_squared_difference
from tf_gan_zoo.registry import Paper, register
from tf_gan_zoo.upscaling import Upscaler, UpscalerConfig, gradient_length, psnr, sharpness

#: content_loss -> the VGG19 layer compared, after its ReLU (section 2.2.1).
_FEATURE_LAYERS = {"vgg22": "relu2_2", "vgg54": "relu5_4"}

#: The variants of the paper's table 1, and the loss of arXiv's first version, as fields of `SRGANConfig`.
PRESETS = {
    "srresnet": {"content_loss": "mse", "adversarial_weight": 0.0},
    "srresnet_vgg22": {"content_loss": "vgg22", "adversarial_weight": 0.0},
    "srgan_mse": {"content_loss": "mse"},
    "srgan_vgg22": {"content_loss": "vgg22"},
    "srgan_vgg54": {"content_loss": "vgg54"},
    "srgan_v1": {"content_loss": "vgg54", "num_blocks": 15, "tv_weight": 2e-8},
}


@dataclass(frozen=True, kw_only=True)
class SRGANConfig(UpscalerConfig):
    """The paper's SRGAN-VGG54: a million steps of SRResNet, then 200,000 of SRGAN (section 3.2).

    Attributes:
        image_size: high-resolution training crops; sides are multiples of 16, for D.
        num_blocks: residual blocks of G.
        width: channels of G, and of D's first layer.
        content_loss: stage two's content: pixels ("mse") or VGG19 features ("vgg22", "vgg54").
        content_scale: factor on VGG features, so their squared difference counts 1 / 12.75^2 = 0.00615.
        adversarial_weight: weight of -log D(G(y)) (equation 3); 0 leaves D out.
        tv_weight: weight of the total variation; 2e-8 in arXiv's first version, dropped later.
        pretrain_steps: steps of stage one.
        pretrain_learning_rate: of Adam in stage one.
        learning_rate: of both Adams in the first `finetune_after` steps of stage two.
        finetune_learning_rate: of both in the rest of stage two.
    """

    data: str = "tfds:imagenet2012"
    batch_size: PositiveInt = 16
    epochs: PositiveInt = 1200
    steps_per_epoch: PositiveInt | None = 1000
    image_size: ImageSize = 96
    num_blocks: Repeats = 16
    width: PositiveInt = 64
    content_loss: Literal["mse", "vgg22", "vgg54"] = "vgg54"
    content_scale: PositiveFloat = 1 / 12.75
    adversarial_weight: NonNegativeFloat = 1e-3
    tv_weight: NonNegativeFloat = 0.0
    pretrain_steps: NonNegativeInt = 1_000_000
    pretrain_learning_rate: PositiveFloat = 1e-4
    learning_rate: PositiveFloat = 1e-4
    finetune_after: PositiveInt = 100_000
    finetune_learning_rate: PositiveFloat = 1e-5
    beta_1: Decay = 0.9

    def validate(self) -> None:
        if any(side % 16 for side in height_width(self.image_size)):
            raise ConfigError(
                f"SRGANConfig.image_size: {self.image_size} does not suit the discriminator, which halves "
                "the sides four times. Use multiples of 16, such as 64, 96 or 128."
            )

    @property
    def receptive_radius(self) -> int:
        """How far around a low-resolution pixel G looks, in such pixels; 40 at paper size."""
        upsampling = sum(0.5**k for k in range(self.num_doublings))
        return math.ceil(4 + 2 * self.num_blocks + 1 + upsampling + 4 / self.scale)

    @property
    def is_srresnet(self) -> bool:
        """Whether stage one is all there is: nothing but pixels is compared, and nothing judged."""
        return self.content_loss == "mse" and not self.adversarial_weight


@register(
    "srgan",
    task="super_resolution",
    paper=Paper(
        "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network",
        "C. Ledig, L. Theis, F. Huszar, J. Caballero, A. Cunningham, A. Acosta, A. Aitken, A. Tejani, "
        "J. Totz, Z. Wang, W. Shi", 2017, "1609.04802",
    ),
    tiny={
        "image_size": 16, "num_blocks": 1, "width": 4, "pretrain_steps": 1, "batch_size": 4,
        "content_loss": "mse",
    },
)  # fmt: skip
class SRGAN(Upscaler):
    """Super-resolution; low-resolution pictures are in [0, 1], outputs in [-1, 1], as in the paper.

    Logs, on training and validation data alike: `d_loss` (0 where D does not play), `g_loss`, its
    `content_loss` (squared pixel difference in stage one), `psnr` (dB, all channels, no border cut) and
    `sharpness` (see `upscaling`).
    """

    config_cls = SRGANConfig
    log_names = ("d_loss", "g_loss", "content_loss", "psnr", "sharpness")

    def build_networks(self, config: SRGANConfig) -> dict[str, keras.Model]:
        return {"generator": build_generator(config), "discriminator": build_discriminator(config)}

    @property
    def phases(self) -> tuple[tuple[str, int], ...]:
        """"srresnet" is stage one; stage two is "gan", or "content" without an adversarial term."""
        c = self.config
        if c.is_srresnet:
            return (("srresnet", 0),)
        stage_two = ("gan" if c.adversarial_weight else "content", c.pretrain_steps)
        return (("srresnet", 0), stage_two) if c.pretrain_steps else (stage_two,)

    @property
    def players(self) -> dict[str, tuple[str, ...]]:
        # Stage one and two train the same generator, each with an Adam of its own.
        generator = ("generator",)
        return {"pretraining": generator, "generator": generator, "discriminator": ("discriminator",)}

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c = self.config
        if player == "pretraining":
            return keras.optimizers.Adam(c.pretrain_learning_rate, beta_1=c.beta_1, epsilon=1e-8)
        falling = keras.optimizers.schedules.PiecewiseConstantDecay(
            [c.finetune_after - 1], [c.learning_rate, c.finetune_learning_rate]
        )
        return keras.optimizers.Adam(falling, beta_1=c.beta_1, epsilon=1e-8)

    @property
    def first_step_with_features(self) -> int | None:
        return None if self.config.content_loss == "mse" else self.config.pretrain_steps

    def make_feature_loss(self) -> FeatureLoss:
        c = self.config
        terms = [FeatureTerm(_FEATURE_LAYERS[c.content_loss])]
        return FeatureLoss(terms, c.feature_weights, scale=c.content_scale, seed=c.seed)

    # ---------------------------------------------------------------- training

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        low, high = self.resolutions(batch)
        if self.phase == "gan":
            return self._adversarial_step(low, high)
        player = "pretraining" if self.phase == "srresnet" else "generator"
        with tf.GradientTape() as tape:
            fake = self.generator(low, training=True)
            content_loss, loss = self._content_losses(high, fake)
        self.update(player, tape, loss)
        return self._log(high, fake, d_loss=0.0, g_loss=loss, content_loss=content_loss)

    def _content_losses(self, high: tf.Tensor, fake: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(content loss, G's whole loss) where D does not play."""
        if self.phase == "srresnet":
            loss = mean_squared_difference(high, fake)
            return loss, loss
        content_loss = self.content_loss(high, fake)
        return content_loss, self._generator_loss(content_loss, fake)

    def _adversarial_step(self, low: tf.Tensor, high: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as g_tape:
            fake = self.generator(low, training=True)
            with g_tape.stop_recording(), tf.GradientTape() as d_tape:
                real_logits = self.discriminator(high, training=True)
                d_loss = discriminator_loss(real_logits, self.discriminator(fake, training=True))
            with g_tape.stop_recording():
                self.update("discriminator", d_tape, d_loss)
            content_loss = self.content_loss(high, fake)
            g_loss = self._generator_loss(content_loss, fake, self.discriminator(fake, training=True))
        self.update("generator", g_tape, g_loss)
        return self._log(high, fake, d_loss=d_loss, g_loss=g_loss, content_loss=content_loss)

    def _generator_loss(
        self, content_loss: tf.Tensor, fake: tf.Tensor, fake_logits: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The perceptual loss (equation 3), and the first version's total variation."""
        loss = content_loss
        if fake_logits is not None:
            loss += self.config.adversarial_weight * adversarial_loss(fake_logits)
        if self.config.tv_weight:
            loss += self.config.tv_weight * total_variation(fake)
        return loss

    def content_loss(self, real: tf.Tensor, fake: tf.Tensor) -> tf.Tensor:
        """Squared difference of pixels (equation 4) or of scaled VGG19 features (equation 5).

        Raises:
            FeatureWeightsError: if VGG19 is needed and has not been loaded.
        """
        if self.config.content_loss == "mse":
            return mean_squared_difference(real, fake)
        return self.feature_loss(real, fake)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        low, high = self.resolutions(batch)
        fake = self.generator(low, training=False)
        if self.phase != "gan":
            content_loss, loss = self._content_losses(high, fake)
            return self._log(high, fake, d_loss=0.0, g_loss=loss, content_loss=content_loss)
        fake_logits = self.discriminator(fake, training=False)
        d_loss = discriminator_loss(self.discriminator(high, training=False), fake_logits)
        content_loss = self.content_loss(high, fake)
        g_loss = self._generator_loss(content_loss, fake, fake_logits)
        return self._log(high, fake, d_loss=d_loss, g_loss=g_loss, content_loss=content_loss)

    def _log(self, high: tf.Tensor, fake: tf.Tensor, **losses: Any) -> dict[str, tf.Tensor]:
        return self.log(**losses, psnr=psnr(high, fake), sharpness=sharpness(high, fake))


# -------------------------------------------------------------------- losses


def total_variation(images: tf.Tensor) -> tf.Tensor:
    """Length of the gradient, summed over pixels and channels, mean over the batch (arXiv v1)."""
    return tf.reduce_mean(tf.reduce_sum(gradient_length(images), axis=[1, 2, 3]))


# -------------------------------------------------------------------- networks


def build_generator(config: SRGANConfig) -> keras.Model:
    """SRResNet (figure 4): (batch, h, w, channels) in [0, 1] -> (batch, scale h, scale w, channels)."""
    low = keras.Input((None, None, config.channels), name="low_resolution")
    x = head = _prelu()(layers.Conv2D(config.width, 9, padding="same")(low))
    for _ in range(config.num_blocks):
        y = _prelu()(_norm(config)(_normalized_conv(config.width)(x)))
        y = _norm(config)(_normalized_conv(config.width)(y))
        x = layers.Add()([x, y])
    x = _norm(config)(_normalized_conv(config.width)(x))
    x = layers.Add()([x, head])
    for _ in range(config.num_doublings):
        x = layers.Conv2D(4 * config.width, 3, padding="same")(x)
        x = _prelu()(PixelShuffle(2)(x))
    images = SplitConv2D(config.channels, 9, padding="same", dtype="float32", name="images")(x)
    return keras.Model(low, images, name="generator")


def build_discriminator(config: SRGANConfig) -> keras.Model:
    """Images (batch, height, width, channels) in [-1, 1] -> logits (batch, 1) (figure 4)."""
    x = images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    for k in range(8):
        filters, strides = config.width << k // 2, 1 + k % 2
        if k:
            x = _norm(config)(_normalized_conv(filters, strides)(x))
        else:
            x = layers.Conv2D(filters, 3, strides, "same")(x)
        x = layers.LeakyReLU(0.2)(x)
    x = layers.LeakyReLU(0.2)(layers.Dense(16 * config.width)(layers.Flatten()(x)))
    logits = layers.Dense(1, dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name="discriminator")


def _normalized_conv(filters: int, strides: int = 1) -> layers.Layer:
    """A 3x3 convolution with a normalisation behind it, which would take out any bias but 0."""
    return layers.Conv2D(filters, 3, strides, "same", bias_constraint=Zero())


def _norm(config: SRGANConfig) -> layers.Layer:
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, synchronized=config.sync_batch_norm)


def _prelu() -> layers.Layer:
    """PReLU with one slope per channel, starting at 0.25 (He et al. 2015)."""
    return layers.PReLU(alpha_initializer=keras.initializers.Constant(0.25), shared_axes=[1, 2])


@keras.saving.register_keras_serializable("tf_gan_zoo")
class PixelShuffle(layers.Layer):
    """(batch, h, w, factor^2 c) -> (batch, factor h, factor w, c): channels become neighbouring pixels.

    Output pixel (factor i + a, factor j + b, k) is input channel (factor a + b) c + k at (i, j).
    """

    def __init__(self, factor: int = 2, **kwargs: Any):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.nn.depth_to_space(inputs, self.factor)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch, height, width, channels = input_shape
        sides = (side and side * self.factor for side in (height, width))
        return (batch, *sides, channels // self.factor**2)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable("tf_gan_zoo")
class SplitConv2D(layers.Conv2D):
    """A "same" convolution with few output channels and a large odd kernel, in a form that runs faster.

    Each column of the kernel becomes output channels of a (kernel, 1) convolution; its maps are then shifted
    and added. Weights, sums and FLOPs are those of `Conv2D`.
    """

    # SRResNet's tail, 9x9 from 64 to 3 channels, on 2 CPU cores, plain form against this one (seconds):
    # one 512x512 picture 0.12 / 0.04 with oneDNN and AVX-512, 1.3 / 0.14 with oneDNN limited to AVX2,
    # 0.27 / 0.07 without oneDNN; forward and backward of 16 pictures of 96x96 0.14 / 0.11, 0.32 / 0.39
    # and 1.0 / 0.19.
    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        height, width, depth, filters = kernel.shape
        columns = tf.reshape(tf.transpose(kernel, [0, 2, 1, 3]), [height, 1, depth, width * filters])
        maps = tf.nn.conv2d(inputs, columns, strides=1, padding="SAME")
        maps = tf.pad(maps, [[0, 0], [0, 0], [width // 2, width // 2], [0, 0]])
        shifted = [
            maps[:, :, k : (k + 1 - width) or None, k * filters : (k + 1) * filters]
            for k in range(width)
        ]
        return tf.add_n(shifted)
