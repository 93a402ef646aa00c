"""The convolutional encoder and decoder of the VAE/GAN paper.

Strided 5x5 convolutions with batch normalisation halve the picture up to three times; a dense layer leads to
means and log-variances of the latents, and the decoder goes the same way back. Pictures of 64x64 are the
paper's; smaller ones leave out layers: 32x32 begins and ends at 4x4, 28x28 is halved twice.

Reference: A. B. L. Larsen, S. K. Sønderby, H. Larochelle, O. Winther, "Autoencoding beyond pixels using a
learned similarity metric", ICML 2016, arXiv:1512.09300, table 1.

All functions take a config with `image_size`, `channels`, `latent_size`, `width` (64 in the paper),
`hidden_size` (2048) and `sync_batch_norm`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from tf_gan_zoo import config as configs
from tf_gan_zoo.config import Config, ConfigError

_MAX_HALVINGS = 3


def num_halvings(config: Config) -> int:
    """How often the encoder halves a picture, 1 to 3."""
    return min(configs.num_halvings(config.image_size), _MAX_HALVINGS)


def check_image_size(config: Config) -> None:
    """Raises `ConfigError` for pictures that cannot be halved to 4 or more pixels."""
    if not num_halvings(config):
        raise ConfigError(
            f"{type(config).__name__}.image_size: the convolutions halve a picture to no less than 4 pixels, "
            f"got {config.image_size}. Use sides such as 28, 32 or 64."
        )


def build_conv_encoder(config: Config) -> keras.Model:
    """Images (batch, height, width, channels) -> means, called "latents", and log-variances.

    Both are (batch, latent_size).
    """
    x = images = keras.Input((*configs.height_width(config.image_size), config.channels), name="images")
    for factor in (1, 2, 4)[: num_halvings(config)]:
        x = conv_block(x, factor * config.width, config)
    x = layers.Dense(config.hidden_size, **weights(use_bias=False))(layers.Flatten()(x))
    return keras.Model(images, normal_heads(activated(x, config), config), name="encoder")


def normal_heads(
    x: keras.KerasTensor, config: Config, make_weights: Callable[[], dict[str, Any]] | None = None
) -> list[keras.KerasTensor]:
    """Linear layers "latents" (the means) and "log_variances", both (batch, latent_size).

    Args:
        x: (batch, features).
        config: as above.
        make_weights: gives each of the two its own keywords of `layers.Dense`; `weights` by default.
    """
    make_weights, names = make_weights or weights, ("latents", "log_variances")
    heads = [layers.Dense(config.latent_size, dtype="float32", name=n, **make_weights()) for n in names]
    return [head(x) for head in heads]


def build_conv_decoder(config: Config, activation: str) -> keras.Model:
    """Latents (batch, latent_size) -> images; the layer before the last activation is called "logits"."""
    count, width = num_halvings(config), config.width
    rows, columns = (side >> count for side in configs.height_width(config.image_size))
    latents = keras.Input((config.latent_size,), name="latents")
    x = layers.Dense(rows * columns * 4 * width, **weights(use_bias=False))(latents)
    x = layers.Reshape((rows, columns, 4 * width))(activated(x, config))
    for filters in (4 * width, 2 * width, max(width // 2, 1))[-count:]:
        x = layers.Conv2DTranspose(filters, 5, 2, "same", **weights(use_bias=False))(x)
        x = activated(x, config)
    x = layers.Conv2D(config.channels, 5, 1, "same", dtype="float32", name="logits", **weights())(x)
    images = layers.Activation(activation, dtype="float32", name="images")(x)
    return keras.Model(latents, images, name="generator")


def conv_block(x: keras.KerasTensor, filters: int, config: Config) -> keras.KerasTensor:
    """A 5x5 convolution with stride 2, batch normalisation and ReLU."""
    return activated(layers.Conv2D(filters, 5, 2, "same", **weights(use_bias=False))(x), config)


def activated(x: keras.KerasTensor, config: Config) -> keras.KerasTensor:
    """Batch normalisation with the constants of the released code's convolutions, then ReLU."""
    norm = layers.BatchNormalization(momentum=0.9, epsilon=1e-6, synchronized=config.sync_batch_norm)
    return layers.ReLU()(norm(x))


def weights(use_bias: bool = True) -> dict[str, Any]:
    """Initial weights N(0, 1 / inputs) of one layer; they keep the size of what goes through it."""
    initializer = keras.initializers.VarianceScaling(1.0, "fan_in", "untruncated_normal")
    return {"kernel_initializer": initializer, "use_bias": use_bias}
