"""Residual blocks and the conditioning of class-conditional GANs with projection (Miyato et al. 2018).

The blocks take two factories: `conv(filters, kernel_size)` gives a convolution (1x1 ones are shortcuts) and
`norm(x)` a normalised x. What a model does about spectral normalisation, initial weights and classes is in
these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from tf_gan_zoo.layers import ConditionalBatchNormalization, SpectralNormalization

Tensor = keras.KerasTensor
Conv = Callable[[int, int], layers.Layer]
Norm = Callable[[Tensor], Tensor]


def up_block(x: Tensor, filters: int, conv: Conv, norm: Norm) -> Tensor:
    """Norm, ReLU, nearest upsampling, 3x3, norm, ReLU, 3x3, beside an upsampled 1x1 shortcut."""
    y = layers.UpSampling2D(2)(layers.ReLU()(norm(x)))
    y = layers.ReLU()(norm(conv(filters, 3)(y)))
    # A 1x1 convolution commutes with nearest upsampling and mean pooling: do it on the smaller picture.
    shortcut = layers.UpSampling2D(2)(conv(filters, 1)(x))
    return layers.Add()([conv(filters, 3)(y), shortcut])


def down_block(x: Tensor, filters: int, conv: Conv, hidden: int, downsample: bool = True) -> Tensor:
    """ReLU, 3x3 to `hidden` channels, ReLU, 3x3, beside a shortcut; both mean-pooled 2x2 if `downsample`.

    The shortcut is a 1x1 convolution, or x itself where neither size nor channels change.
    """
    y = conv(hidden, 3)(layers.ReLU()(x))
    y = conv(filters, 3)(layers.ReLU()(y))
    if downsample:
        x, y = layers.AveragePooling2D(2)(x), layers.AveragePooling2D(2)(y)
    return layers.Add()([conv(filters, 1)(x) if downsample or filters != x.shape[-1] else x, y])


def first_down_block(images: Tensor, filters: int, conv: Conv) -> Tensor:
    """`down_block` that begins with the convolution: pixels need no ReLU."""
    y = conv(filters, 3)(layers.ReLU()(conv(filters, 3)(images)))
    shortcut = conv(filters, 1)(layers.AveragePooling2D(2)(images))
    return layers.Add()([layers.AveragePooling2D(2)(y), shortcut])


def class_norm(labels: Tensor | None, num_classes: int | None, **options: Any) -> Norm:
    """Batch normalisation with a gain (from 1) and a bias (from 0) per channel and, given labels, per class.

    Args:
        labels: int32 (batch,), or None.
        num_classes: of the labels.
        **options: momentum, epsilon, synchronized.
    """
    if labels is None:
        return lambda x: layers.BatchNormalization(**options)(x)

    def table(initializer: str, channels: int) -> Tensor:
        return layers.Embedding(num_classes, channels, embeddings_initializer=initializer)(labels)

    def norm(x: Tensor) -> Tensor:
        gain, bias = (table(initializer, x.shape[-1]) for initializer in ("ones", "zeros"))
        return ConditionalBatchNormalization(**options)([x, gain, bias])

    return norm


def sum_pooled(x: Tensor) -> Tensor:
    """(batch, height, width, channels) -> float32 sums over height and width (batch, channels)."""
    return keras.ops.sum(keras.ops.cast(layers.ReLU()(x), "float32"), axis=(1, 2))


def projected_logits(
    features: Tensor, labels: Tensor | None, num_classes: int | None, use_bias: bool = True,
    epsilon: float = 1e-12, initializer: str | type[keras.initializers.Initializer] = "glorot_uniform",
) -> Tensor:  # fmt: skip
    """psi(phi) + <v_y, phi>: a dense layer and, given labels, the inner product with the class's embedding.

    Args:
        features: phi, (batch, features).
        labels: int32 (batch,), or None for psi alone.
        num_classes: of the labels.
        use_bias: of the dense layer.
        epsilon: of the spectral normalisation, which both the dense layer and the embeddings have.
        initializer: name or class; both make one of their own, for one instance would repeat its numbers.

    Returns:
        float32 (batch, 1).

    Reference: T. Miyato, M. Koyama, "cGANs with Projection Discriminator", ICLR 2018, arXiv:1802.05637,
    equation 4.
    """
    dense = layers.Dense(1, use_bias=use_bias, kernel_initializer=initializer, dtype="float32", name="psi")
    logits = SpectralNormalization(dense, epsilon)(features)
    if labels is None:
        return logits
    table = layers.Embedding(
        num_classes, features.shape[-1], embeddings_initializer=initializer, dtype="float32",
        name="embeddings",
    )  # fmt: skip
    embedded = SpectralNormalization(table, epsilon)(labels)
    projection = layers.Dot(axes=1, dtype="float32", name="projection")([embedded, features])
    return layers.Add(dtype="float32", name="logits")([logits, projection])
