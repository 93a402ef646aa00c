"""How differently a trained network sees two pictures; and the brightness that papers compare."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_gan_zoo.metrics.features import ClassifierFeatures
from tf_gan_zoo.metrics.images import checked_pair

#: (batch, height, width, channels) in [-1, 1] -> feature maps, each (batch, h, w, features).
FeatureMaps = Callable[[tf.Tensor], Sequence[tf.Tensor]]

_BATCH_SIZE = 64


def perceptual_distance(
    images: np.ndarray, references: np.ndarray, features: FeatureMaps | None = None
) -> np.ndarray:
    """How far apart pictures are in the feature maps of a network, one number per picture.

    At each position and layer the vectors of features are brought to length 1; their squared distance is
    averaged over positions and summed over layers. This is the untuned form of LPIPS.

    Args:
        images: what is judged, (batch, height, width, channels) in [-1, 1].
        references: what it should be.
        features: gives the maps, e.g. `VGG19Features(["relu1_2", "relu2_2", "relu3_4", "relu4_4"])` with
            ImageNet's weights, which comes near to published numbers. By default the four convolutional
            layers of the classifier of letters that ships with the zoo, on each colour channel: a network
            that no loss of the zoo uses. Numbers of different features cannot be compared.

    Returns:
        float64 (batch,).

    Raises:
        ValueError: if the arrays are not two batches of pictures of one shape.

    Reference: R. Zhang, P. Isola, A. Efros, E. Shechtman, O. Wang, "The Unreasonable Effectiveness of Deep
    Features as a Perceptual Metric", CVPR 2018, arXiv:1801.03924, equation 1 with all weights 1.
    """
    images, references = checked_pair(images, references)
    extract = features or letter_maps
    distances = []
    for start in range(0, len(images), _BATCH_SIZE):
        pair = (x[start : start + _BATCH_SIZE].astype("float32") for x in (images, references))
        distances.append(_distance(*(extract(tf.constant(x)) for x in pair)))
    return np.concatenate(distances)


def _distance(a: Sequence[tf.Tensor], b: Sequence[tf.Tensor]) -> np.ndarray:
    total = 0.0
    for ours, true in zip(a, b):
        ours, true = (tf.math.l2_normalize(x, axis=-1, epsilon=1e-10) for x in (ours, true))
        squares = tf.reduce_sum(tf.math.squared_difference(ours, true), axis=-1)
        total += tf.reduce_mean(squares, axis=[1, 2]).numpy().astype("float64")
    return total


def letter_maps(images: tf.Tensor) -> list[tf.Tensor]:
    """Maps of the packaged classifier of letters, whose input is gray: those of all channels side by side."""
    network, channels = _letter_network(), tf.unstack(images, axis=-1)
    maps = [network(channel[..., None], training=False) for channel in channels]
    return [tf.concat(layer, axis=-1) for layer in zip(*maps)]


@functools.lru_cache(maxsize=1)
def _letter_network() -> keras.Model:
    """The classifier's convolutional part, for pictures of any size."""
    trained = ClassifierFeatures("glyphs").network
    x, maps = keras.Input((None, None, 1), name="images"), []
    images = x
    for k in range(4):
        for kind in ("conv", "norm", "relu"):
            x = trained.get_layer(f"{kind}_{k}")(x)
        maps.append(x)
        x = trained.get_layer(f"pool_{k}")(x)
    return keras.Model(images, maps)


def cropped_luma(images: np.ndarray, border: int) -> np.ndarray:
    """The brightness Y of YCbCr, from 16 to 235, as papers on super-resolution compare it.

    Args:
        images: (batch, height, width, 1 or 3) in [-1, 1]; gray is taken as equal red, green and blue.
        border: pixels that are left out at each side; by convention as many as the scale.

    Returns:
        float64 (batch, height - 2 border, width - 2 border, 1): of 8-bit colours, as if saved to a file.
    """
    inside: Any = slice(border, -border or None)
    images = np.asarray(images, np.float64)[:, inside, inside]
    colours = np.round(np.clip((images + 1.0) * 127.5, 0, 255))
    # ITU-R BT.601 with its head room, as MATLAB's rgb2ycbcr does.
    weights = np.array([65.481, 128.553, 24.966]) / 255.0
    return 16.0 + (colours * weights).sum(axis=-1, keepdims=True)
