"""SRGAN and its generator SRResNet: pictures four times as large, sharp rather than close on average.

    stage 1 (SRResNet)   G minimises  E |x - G(y)|^2
    stage 2 (SRGAN)      G minimises  E |phi(x) - phi(G(y))|^2 - 10^-3 E log D(G(y)),
                         D maximises  E log D(x) + E log(1 - D(G(y))),

x a high-resolution picture, y = x made small, phi feature maps of VGG19 (or x itself). Both stages run in
one `fit`: the second begins after `pretrain_steps`, with the generator of the first.

Reference: C. Ledig, L. Theis, F. Huszar, J. Caballero, A. Cunningham, A. Acosta, A. Aitken, A. Tejani,
J. Totz, Z. Wang, W. Shi, "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial
Network", CVPR 2017, arXiv:1609.04802. Equations below are numbered as in its fifth version.

Choices where the paper is silent: PReLU has one slope per channel that starts at 0.25; D(G(y)) enters the
loss as its mean over the batch, not its sum; squared differences are means over channels, too; low
resolution comes from an antialiased bicubic kernel, as in the authors' test pictures. Departure: D
and G use the same batch and the same generator outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from pydantic import NonNegativeInt

from tf_gan_zoo.batch_spec import BatchSpec, checked_images, image_field
from tf_gan_zoo.config import (
    Channels,
    Config,
    ConfigError,
    ImageSize,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    height_width,
)
from tf_gan_zoo.endpoints import Endpoint
from tf_gan_zoo.gan import GAN
from tf_gan_zoo.layers import Zero
from tf_gan_zoo.losses import non_saturating_discriminator_loss as discriminator_loss
from tf_gan_zoo.losses import non_saturating_generator_loss as adversarial_loss
from tf_gan_zoo.metrics import images as metrics
from tf_gan_zoo.networks.vgg import FeatureWeightsError, VGG19Features
from tf_gan_zoo.registry import Paper, register
from tf_gan_zoo.tiling import in_tiles

#: content_loss -> the VGG19 layer compared, after its ReLU (section 2.2.1).
_FEATURE_LAYERS = {"vgg22": "relu2_2", "vgg54": "relu5_4"}


@dataclass(frozen=True, kw_only=True)
class SRGANConfig(Config):
    """The paper's SRGAN-VGG54: a million steps of SRResNet, then 200,000 of SRGAN (section 3.2).

    Attributes:
        scale: how much larger the output is, per side.
        image_size: high-resolution training crops; sides are multiples of 16 (for D) and of `scale`.
        num_blocks: residual blocks of G.
        width: channels of G, and of D's first layer.
        content_loss: stage two's content: pixels ("mse") or VGG19 features ("vgg22", "vgg54").
        content_scale: factor on VGG features, so their squared difference counts 1 / 12.75^2 = 0.00615.
        adversarial_weight: weight of -log D(G(y)) (equation 3).
        tv_weight: weight of the total variation; 2e-8 in arXiv's first version, dropped later.
        feature_weights: VGG19's weights: "imagenet", the path of a Keras weights file, or None (random).
        pretrain_steps: steps of stage one.
        pretrain_learning_rate: of Adam in stage one.
        learning_rate: of both Adams in the first `finetune_after` steps of stage two.
        finetune_learning_rate: of both in the rest of stage two.
    """

    data: str = "tfds:imagenet2012"
    batch_size: PositiveInt = 16
    epochs: PositiveInt = 1200
    steps_per_epoch: PositiveInt | None = 1000
    scale: Literal[2, 4] = 4
    image_size: ImageSize = 96
    channels: Channels = 3
    num_blocks: PositiveInt = 16
    width: PositiveInt = 64
    content_loss: Literal["mse", "vgg22", "vgg54"] = "vgg54"
    content_scale: PositiveFloat = 1 / 12.75
    adversarial_weight: NonNegativeFloat = 1e-3
    tv_weight: NonNegativeFloat = 0.0
    feature_weights: str | None = "imagenet"
    pretrain_steps: NonNegativeInt = 1_000_000
    pretrain_learning_rate: PositiveFloat = 1e-4
    learning_rate: PositiveFloat = 1e-4
    finetune_after: PositiveInt = 100_000
    finetune_learning_rate: PositiveFloat = 1e-5
    beta_1: PositiveFloat = 0.9

    def validate(self) -> None:
        if any(side % 16 for side in height_width(self.image_size)):
            raise ConfigError(
                f"SRGANConfig.image_size: {self.image_size} does not suit the discriminator, which halves "
                "the sides four times. Use multiples of 16, such as 64, 96 or 128."
            )

    @property
    def low_resolution_size(self) -> tuple[int, int]:
        """(height, width) of low-resolution training pictures."""
        return tuple(side // self.scale for side in height_width(self.image_size))

    @property
    def receptive_radius(self) -> int:
        """How far around a low-resolution pixel G looks, in such pixels; 40 at paper size."""
        upsampling = sum(0.5**k for k in range(int(math.log2(self.scale))))
        return math.ceil(4 + 2 * self.num_blocks + 1 + upsampling + 4 / self.scale)


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
class SRGAN(GAN):
    """Super-resolution; low-resolution pictures are in [0, 1], outputs in [-1, 1], as in the paper.

    Logs, on training and validation data alike: `d_loss` (0 in stage one), `g_loss`, its `content_loss`
    (squared pixel difference in stage one), `psnr` (dB, all channels, no border cut) and `sharpness`
    (see the function).
    """

    config_cls = SRGANConfig
    view = "super_resolution"
    log_names = ("d_loss", "g_loss", "content_loss", "psnr", "sharpness")

    def build_networks(self, config: SRGANConfig) -> dict[str, keras.Model]:
        return {"generator": build_generator(config), "discriminator": build_discriminator(config)}

    def build_state(self, config: SRGANConfig) -> None:
        self._features: VGG19Features | None = None

    @property
    def phases(self) -> tuple[tuple[str, int], ...]:
        stage_two = ("gan", self.config.pretrain_steps)
        return (("srresnet", 0), stage_two) if self.config.pretrain_steps else (stage_two,)

    @property
    def players(self) -> dict[str, tuple[str, ...]]:
        # Stage one and two train the same generator, each with an Adam of its own.
        generator = ("generator",)
        return {"pretraining": generator, "generator": generator, "discriminator": ("discriminator",)}

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c = self.config
        if player == "pretraining":
            return keras.optimizers.Adam(c.pretrain_learning_rate, beta_1=c.beta_1)
        falling = keras.optimizers.schedules.PiecewiseConstantDecay(
            [c.finetune_after - 1], [c.learning_rate, c.finetune_learning_rate]
        )
        return keras.optimizers.Adam(falling, beta_1=c.beta_1)

    @property
    def data_keywords(self) -> dict[str, Any]:
        return {"scale": self.config.scale}

    @property
    def batch_spec(self) -> BatchSpec:
        c = self.config
        return BatchSpec(
            high_resolution=image_field(height_width(c.image_size), c.channels),
            low_resolution=image_field(c.low_resolution_size, c.channels, (0.0, 1.0), optional=True),
        )

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        pictures = {"low_resolution": (0.0, 1.0), "images": (-1.0, 1.0)}
        return {"upscale": Endpoint(self.generator, pictures, clip=True)}

    def public_inputs(self, endpoint: Endpoint, batch: Any) -> dict[str, Any]:
        if isinstance(batch, Mapping) and "low_resolution" not in batch:
            batch = {"low_resolution": self.resolutions(self.named(batch))[0]}
        return super().public_inputs(endpoint, batch)

    def before_training(self, last_step: int | None) -> None:
        """Loads VGG19 if this training gets into stage two and needs it.

        Raises:
            FeatureWeightsError: if VGG19's weights cannot be loaded.
        """
        c = self.config
        reaches_stage_two = last_step is None or last_step > c.pretrain_steps
        if reaches_stage_two and c.content_loss != "mse" and self._features is None:
            with self.distribute_strategy.scope():
                self._features = VGG19Features(
                    _FEATURE_LAYERS[c.content_loss], c.feature_weights, c.seed
                )

    # ---------------------------------------------------------------- training

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        low, high = self.resolutions(batch)
        return self._stage_one(low, high) if self.phase == "srresnet" else self._stage_two(low, high)

    def _stage_one(self, low: tf.Tensor, high: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            fake = self.generator(low, training=True)
            loss = mean_squared_difference(high, fake)
        self.update("pretraining", tape, loss)
        return self._log(high, fake, d_loss=0.0, g_loss=loss, content_loss=loss)

    def _stage_two(self, low: tf.Tensor, high: tf.Tensor) -> dict[str, tf.Tensor]:
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
        self, content_loss: tf.Tensor, fake: tf.Tensor, fake_logits: tf.Tensor
    ) -> tf.Tensor:
        """The perceptual loss (equation 3), and the first version's total variation."""
        loss = content_loss + self.config.adversarial_weight * adversarial_loss(fake_logits)
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
        if self._features is None:
            raise FeatureWeightsError(
                f"content_loss={self.config.content_loss!r} compares VGG19 features, which have not been "
                "loaded. fit() does so before it starts; without it, call model.before_training(None) first."
            )
        scale = self.config.content_scale
        return mean_squared_difference(scale * self._features(real), scale * self._features(fake))

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        low, high = self.resolutions(batch)
        fake = self.generator(low, training=False)
        if self.phase == "srresnet":
            loss = mean_squared_difference(high, fake)
            return self._log(high, fake, d_loss=0.0, g_loss=loss, content_loss=loss)
        fake_logits = self.discriminator(fake, training=False)
        d_loss = discriminator_loss(self.discriminator(high, training=False), fake_logits)
        content_loss = self.content_loss(high, fake)
        g_loss = self._generator_loss(content_loss, fake, fake_logits)
        return self._log(high, fake, d_loss=d_loss, g_loss=g_loss, content_loss=content_loss)

    def _log(self, high: tf.Tensor, fake: tf.Tensor, **losses: Any) -> dict[str, tf.Tensor]:
        return self.log(**losses, psnr=psnr(high, fake), sharpness=sharpness(high, fake))

    def resolutions(self, batch: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """(low resolution in [0, 1], high resolution in [-1, 1]); the former is made if it is not there."""
        high = batch["high_resolution"]
        low = batch.get("low_resolution")
        return (self.downsample(high) if low is None else low), high

    def downsample(self, images: tf.Tensor) -> tf.Tensor:
        """Images (batch, *image_size, channels) in [-1, 1] -> antialiased bicubic reduction in [0, 1].

        As matrix products, since TensorFlow's antialiased resizing has no GPU or XLA kernel.
        """
        rows, columns = (bicubic_matrix(side, self.config.scale) for side in images.shape[1:3])
        low = tf.einsum("ah,bhwc->bawc", rows, (images + 1.0) / 2.0)
        low = tf.einsum("aw,bhwc->bhac", columns, low)
        return tf.clip_by_value(low, 0.0, 1.0)

    # ---------------------------------------------------------------- inference

    def upscale(
        self, images: Any, tile: int | None = None, overlap: int | None = None, batch_size: int = 8,
        on_tile: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Pictures of any size, `scale` times as large.

        Args:
            images: low resolution, (batch, height, width, channels) or one picture, in [0, 1].
            tile: work on tiles of at most this side (low-resolution pixels), which bounds the memory;
                None takes the picture whole.
            overlap: pixels of surroundings that each tile sees. By default as far as the generator looks,
                which makes the result that of the whole picture; less is faster.
            batch_size: pictures per call of the network.
            on_tile: called after each tile with the number of tiles done and that of all.

        Returns:
            float32 (batch, scale * height, scale * width, channels) in [-1, 1].

        Raises:
            BatchError: if the pictures do not fit.
            ValueError: for a tile below 1 or an overlap below 0.
        """
        images = checked_images(images, image_field((None, None), self.config.channels, (0.0, 1.0)))
        margin = self.config.receptive_radius if overlap is None else overlap
        return in_tiles(
            lambda part: np.clip(self.run(part, batch_size), -1.0, 1.0), images,
            tile=max(images.shape[1:3]) if tile is None else tile, margin=margin,
            scale=self.config.scale, on_tile=on_tile,
        )  # fmt: skip

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """PSNR and SSIM on all channels, and gradients as parts of the truth's; bicubic as baseline."""
        low, high = examples["low_resolution"], examples["high_resolution"]
        bicubic = tf.image.resize(low, high.shape[1:3], "bicubic").numpy() * 2.0 - 1.0
        results = {}
        for suffix, images in {"": self.upscale(low), "_baseline": np.clip(bicubic, -1.0, 1.0)}.items():
            results[f"psnr{suffix}"] = float(metrics.psnr(images, high, 2.0).mean())
            results[f"ssim{suffix}"] = float(metrics.ssim(images, high, 2.0).mean())
            for name in ("mean_gradient", "rms_gradient"):
                length = getattr(metrics, name)
                results[f"{name}{suffix}"] = float(length(images).mean() / length(high).mean())
        return results


# -------------------------------------------------------------------- losses and scores


def mean_squared_difference(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Mean over everything of (a - b)^2, in float32."""
    return tf.reduce_mean(tf.math.squared_difference(tf.cast(a, tf.float32), tf.cast(b, tf.float32)))


def total_variation(images: tf.Tensor) -> tf.Tensor:
    """Length of the gradient, summed over pixels and channels, mean over the batch (arXiv v1)."""
    return tf.reduce_mean(tf.reduce_sum(gradient_length(images), axis=[1, 2, 3]))


def gradient_length(images: tf.Tensor) -> tf.Tensor:
    """sqrt(dx^2 + dy^2) from forward differences: (batch, height - 1, width - 1, channels)."""
    down = images[:, 1:, :-1] - images[:, :-1, :-1]
    right = images[:, :-1, 1:] - images[:, :-1, :-1]
    # The small number keeps the derivative finite where a picture is flat.
    return tf.sqrt(tf.square(down) + tf.square(right) + 1e-12)


def psnr(real: tf.Tensor, fake: tf.Tensor) -> tf.Tensor:
    """Mean over pictures in [-1, 1] of the peak signal-to-noise ratio in dB, at most 100, on all channels."""
    difference = tf.math.squared_difference(real, tf.clip_by_value(fake, -1.0, 1.0))
    mean = tf.reduce_mean(difference, axis=[1, 2, 3])
    return tf.reduce_mean(10.0 * tf.math.log(4.0 / tf.maximum(mean, 4e-10)) / math.log(10.0))


def sharpness(real: tf.Tensor, fake: tf.Tensor) -> tf.Tensor:
    """Mean over pictures of (root mean square gradient) / (that of the true picture); 1 is as sharp.

    Blurred edges lower it. The square makes edges count and faint ripples in flat regions not.
    """
    images = (real, tf.clip_by_value(fake, -1.0, 1.0))
    true, ours = (tf.reduce_mean(gradient_length(x) ** 2, axis=[1, 2, 3]) for x in images)
    return tf.reduce_mean(tf.sqrt(ours / tf.maximum(true, 1e-4)))


def bicubic_matrix(size: int, scale: int) -> np.ndarray:
    """The float32 (size / scale, size) matrix of antialiased bicubic reduction along one axis.

    Keys's kernel with a = -1/2, stretched by `scale`; at the borders the weights inside are scaled up to 1.
    """
    centers = (np.arange(size // scale) + 0.5) * scale - 0.5
    t = np.abs(np.arange(size) - centers[:, None]) / scale
    near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    weights = np.where(t < 1, near, np.where(t < 2, far, 0.0))
    return (weights / weights.sum(axis=1, keepdims=True)).astype("float32")


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
    for _ in range(int(math.log2(config.scale))):
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
