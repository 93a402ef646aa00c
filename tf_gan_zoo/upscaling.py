"""What super-resolution models share: two resolutions, enlarging pictures of any size, scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from tf_gan_zoo import metrics
from tf_gan_zoo.batch_spec import BatchSpec, checked_images, image_field
from tf_gan_zoo.config import Channels, Config, ImageSize, height_width
from tf_gan_zoo.endpoints import Endpoint
from tf_gan_zoo.gan import GAN
from tf_gan_zoo.networks.vgg import FeatureWeightsError, describe_weights
from tf_gan_zoo.perceptual import FeatureLoss
from tf_gan_zoo.tiling import in_tiles


@dataclass(frozen=True, kw_only=True)
class UpscalerConfig(Config):
    """Fields of every super-resolution model.

    Attributes:
        scale: how much larger the output is, per side.
        image_size: high-resolution training crops.
        feature_weights: VGG19's, for losses that compare features: "imagenet", "emoji" (the zoo's own), the
            path of a weights file, or None (random); see `VGG19Features`.
    """

    scale: Literal[2, 4] = 4
    image_size: ImageSize = 96
    channels: Channels = 3
    feature_weights: str | None = "imagenet"

    @property
    def low_resolution_size(self) -> tuple[int, int]:
        """(height, width) of low-resolution training pictures."""
        return tuple(side // self.scale for side in height_width(self.image_size))

    @property
    def num_doublings(self) -> int:
        """How often the generator doubles both sides."""
        return int(math.log2(self.scale))

    @property
    def receptive_radius(self) -> int:
        """How far around a low-resolution pixel the generator looks, in such pixels."""
        raise TypeError(f"{type(self).__name__} must define receptive_radius.")


class Upscaler(GAN):
    """Base of super-resolution models: low resolution is in [0, 1], high resolution in [-1, 1].

    A subclass has an `UpscalerConfig`, a public network from low to high resolution, and defines
    `make_feature_loss` and `first_step_with_features` if a loss of its compares features.
    """

    config_cls = UpscalerConfig
    view = "super_resolution"
    _feature_loss: FeatureLoss | None = None

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
        return {"upscale": Endpoint(self.public_network(), pictures, clip=True)}

    def public_inputs(self, endpoint: Endpoint, batch: Any) -> dict[str, Any]:
        if isinstance(batch, Mapping) and "low_resolution" not in batch:
            batch = {"low_resolution": self.resolutions(self.named(batch))[0]}
        return super().public_inputs(endpoint, batch)

    # ---------------------------------------------------------------- features

    @property
    def first_step_with_features(self) -> int | None:
        """The first training step whose loss compares features; None if there is none."""
        return None

    def make_feature_loss(self) -> FeatureLoss:
        """The loss that compares features, with VGG19's weights loaded."""
        raise TypeError(f"{type(self).__name__} must define make_feature_loss().")

    def before_training(self, last_step: int | None) -> None:
        """Loads VGG19 if this training gets as far as to need it.

        Raises:
            FeatureWeightsError: if VGG19's weights cannot be loaded.
        """
        first = self.first_step_with_features
        needed = first is not None and (last_step is None or last_step > first)
        if needed and self._feature_loss is None:
            with self.distribute_strategy.scope():
                self._feature_loss = self.make_feature_loss()

    @property
    def feature_loss(self) -> FeatureLoss:
        """The loss that `before_training` has loaded.

        Raises:
            FeatureWeightsError: if it has not been loaded.
        """
        if self._feature_loss is None:
            raise FeatureWeightsError(
                "this loss compares VGG19 features, which have not been loaded. fit() does so before it "
                "starts; without it, call model.before_training(None) first."
            )
        return self._feature_loss

    def training_notes(self) -> dict[str, str]:
        """Which weights the features came from, if a loss compares any."""
        if self.first_step_with_features is None:
            return {}
        return {"features": describe_weights(self.config.feature_weights)}

    # ---------------------------------------------------------------- resolutions

    def resolutions(self, batch: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
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
        """`scores` of the enlarged pictures; those of bicubic enlargement as baseline."""
        low, high = examples["low_resolution"], examples["high_resolution"]
        bicubic = tf.image.resize(low, high.shape[1:3], "bicubic").numpy() * 2.0 - 1.0
        results = {}
        for suffix, images in {"": self.upscale(low), "_baseline": np.clip(bicubic, -1.0, 1.0)}.items():
            found = scores(images, high, border=self.config.scale)
            results |= {f"{name}{suffix}": value for name, value in found.items()}
        return results


# -------------------------------------------------------------------- scores


def scores(images: np.ndarray, references: np.ndarray, border: int) -> dict[str, float]:
    """How near enlarged pictures are to the true ones, and how sharp; means over pictures in [-1, 1].

    Returns:
        psnr, ssim: on all channels, whole pictures;
        psnr_y, ssim_y: on the brightness, `border` pixels cut off at each side, as papers report them; left
            out for pictures of which less than SSIM's 11x11 pixels remain;
        perceptual_distance: see `metrics.perceptual_distance`;
        mean_gradient, rms_gradient: as parts of the true pictures'.
    """
    results = {
        "psnr": metrics.psnr(images, references, 2.0).mean(),
        "ssim": metrics.ssim(images, references, 2.0).mean(),
    }
    ours, true = (metrics.cropped_luma(x, border) for x in (images, references))
    if min(ours.shape[1:3]) >= 11:
        results["psnr_y"] = metrics.psnr(ours, true, 255.0).mean()
        results["ssim_y"] = metrics.ssim(ours, true, 255.0).mean()
    results["perceptual_distance"] = metrics.perceptual_distance(images, references).mean()
    for name in ("mean_gradient", "rms_gradient"):
        length = getattr(metrics, name)
        results[name] = length(images).mean() / length(references).mean()
    return {name: float(value) for name, value in results.items()}


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


def gradient_length(images: tf.Tensor) -> tf.Tensor:
    """sqrt(dx^2 + dy^2) from forward differences: (batch, height - 1, width - 1, channels)."""
    down = images[:, 1:, :-1] - images[:, :-1, :-1]
    right = images[:, :-1, 1:] - images[:, :-1, :-1]
    # The small number keeps the derivative finite where a picture is flat.
    return tf.sqrt(tf.square(down) + tf.square(right) + 1e-12)


# -------------------------------------------------------------------- bicubic interpolation


def keys_kernel(distance: np.ndarray, a: float = -0.5) -> np.ndarray:
    """Keys's cubic kernel of slope `a` at absolute distances in pixels; 0 from 2 on."""
    t = distance
    near, far = (a + 2) * t**3 - (a + 3) * t**2 + 1, a * (t**3 - 5 * t**2 + 8 * t - 4)
    return np.where(t < 1, near, np.where(t < 2, far, 0.0))


def bicubic_matrix(size: int, scale: int) -> np.ndarray:
    """The float32 (size / scale, size) matrix of antialiased bicubic reduction along one axis.

    The kernel is stretched by `scale`; at the borders the weights inside are scaled up to 1.
    """
    centers = (np.arange(size // scale) + 0.5) * scale - 0.5
    weights = keys_kernel(np.abs(np.arange(size) - centers[:, None]) / scale)
    return (weights / weights.sum(axis=1, keepdims=True)).astype("float32")
