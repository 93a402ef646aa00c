"""Layers of networks that see pictures together with the embedding of a caption.

Configs have `discriminator_width`, `text_code_size`, `initial_std` and `sync_batch_norm`.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from tf_gan_zoo.config import Config


def halvings(images: keras.KerasTensor, config: Config, count: int = 4) -> keras.KerasTensor:
    """Halves the sides `count` times and doubles the channels as often; behind the third no activation."""
    width = config.discriminator_width
    x = layers.LeakyReLU(0.2)(conv(config, width, 4, 2)(images))
    x = layers.LeakyReLU(0.2)(norm(config)(conv(config, 2 * width, 4, 2)(x)))
    for k in range(2, count):
        x = norm(config)(conv(config, width << k, 4, 2)(x))
    return x


def bottleneck(
    x: keras.KerasTensor, filters: int, activation: layers.Layer, config: Config
) -> keras.KerasTensor:
    """x plus 1x1, 3x3 and 3x3 convolutions of it, normalised; the activation is between and behind them."""
    y = activation(norm(config)(conv(config, filters, 1)(x)))
    y = activation(norm(config)(conv(config, filters, 3)(y)))
    y = norm(config)(conv(config, x.shape[-1], 3)(y))
    return activation(layers.Add()([x, y]))


def judgement(
    x: keras.KerasTensor, code: keras.KerasTensor, config: Config, normalize_code: bool
) -> keras.KerasTensor:
    """Logits (batch, 1) of an image's last map and an embedding, whose code stands at each of its places.

    Args:
        x: (batch, height, width, channels).
        code: what a dense layer makes of embeddings, (batch, text_code_size), before its activation.
        normalize_code: batch norm in the code's layer.
    """
    code = layers.LeakyReLU(0.2)(norm(config)(code) if normalize_code else code)
    planes = layers.UpSampling2D(x.shape[1:3])(layers.Reshape((1, 1, config.text_code_size))(code))
    joined = layers.Concatenate()([x, planes])
    x = layers.LeakyReLU(0.2)(norm(config)(conv(config, 8 * config.discriminator_width, 1)(joined)))
    x = conv(config, 1, x.shape[1:3], padding="valid")(x)
    return layers.Reshape((1,), dtype="float32", name="logits")(x)


def conv(
    config: Config, filters: int, kernel_size: Any, strides: int = 1, padding: str = "same"
) -> layers.Layer:
    """A convolution without bias, its first weights normal."""
    options = {"kernel_initializer": normal(config), "use_bias": False}
    return layers.Conv2D(filters, kernel_size, strides, padding, **options)


def norm(config: Config) -> layers.Layer:
    """Batch norm whose first gains are drawn around 1."""
    gain = keras.initializers.RandomNormal(1.0, 0.02)
    return layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, gamma_initializer=gain, synchronized=config.sync_batch_norm
    )


def normal(config: Config) -> keras.initializers.Initializer:
    """The first weights of convolutions."""
    return keras.initializers.RandomNormal(stddev=config.initial_std)
