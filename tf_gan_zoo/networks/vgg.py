"""Frozen VGG19 features, which perceptual losses compare pictures in.

Reference: K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
Recognition", ICLR 2015, arXiv:1409.1556.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import keras
import tensorflow as tf

from tf_gan_zoo.fitting import initial_conditions

#: What the Caffe model that the ImageNet weights come from subtracts: mean blue, green, red of 0..255.
_MEAN_BGR = (103.939, 116.779, 123.68)


class FeatureWeightsError(RuntimeError):
    """VGG19's weights cannot be had or do not fit; the message says how to go on."""


class VGG19Features:
    """Feature maps of VGG19, after their ReLU; gradients reach the pictures, never the weights.

    It is a plain object and no Keras layer: a model may hold it in an attribute without saving,
    training or counting its weights.

    Args:
        layers: "reluB_C" is the C-th convolution of block B after its ReLU ("relu5_4" is the SRGAN
            paper's phi_{5,4}), "poolB" the block's pooling. One name, or several.
        weights: "imagenet" (Keras's, downloaded once), the path of a weights file for
            `keras.applications.VGG19(include_top=False)` (.h5 or .weights.h5), or None for random
            weights, which are a function of `seed`.
        seed: decides random weights.

    Raises:
        ValueError: for a layer that VGG19 does not have.
        FeatureWeightsError: if the weights cannot be loaded.
    """

    def __init__(
        self, layers: str | Sequence[str], weights: str | None = "imagenet", seed: int = 0
    ) -> None:
        names = [layers] if isinstance(layers, str) else list(layers)
        keras_names = [_keras_name(name) for name in names]
        # Always float32: features of 0..255 pictures reach thousands, too much for float16's squares.
        with initial_conditions("float32", seed):
            vgg = _load(weights)
        outputs = [vgg.get_layer(name).output for name in keras_names]
        self.network = keras.Model(vgg.input, outputs[0] if isinstance(layers, str) else outputs)
        self.network.trainable = False

    def __call__(self, images: tf.Tensor) -> tf.Tensor | list[tf.Tensor]:
        """Images (batch, height, width, 1 or 3) in [-1, 1] -> float32 features (batch, h, w, channels)."""
        return self.network(vgg_inputs(images), training=False)


def vgg_inputs(images: tf.Tensor) -> tf.Tensor:
    """Images (batch, height, width, 1 or 3) in [-1, 1] -> VGG19's input: BGR, 0..255 minus the mean.

    Gray pictures are repeated to three channels.
    """
    images = tf.cast(images, tf.float32)
    if images.shape[-1] == 1:
        images = tf.repeat(images, 3, axis=-1)
    return (images[..., ::-1] + 1.0) * 127.5 - tf.constant(_MEAN_BGR)


def _keras_name(name: str) -> str:
    """Our name of a layer -> Keras's."""
    sizes = {1: 2, 2: 2, 3: 4, 4: 4, 5: 4}
    relu, pool = re.fullmatch(r"relu(\d)_(\d)", name), re.fullmatch(r"pool([1-5])", name)
    if pool:
        return f"block{pool[1]}_pool"
    if relu and 1 <= int(relu[2]) <= sizes.get(int(relu[1]), 0):
        return f"block{relu[1]}_conv{relu[2]}"
    raise ValueError(f"VGG19 has no layer {name!r}. Its layers are relu1_1 to relu5_4 and pool1 to pool5.")


def _load(weights: str | None) -> keras.Model:
    if weights is None:
        warnings.warn(
            "feature_weights=None: perceptual features come from a VGG19 with random weights. Results "
            "are not those of a paper that uses ImageNet features.",
            stacklevel=3,
        )
    elif weights != "imagenet" and not Path(weights).is_file():
        raise FeatureWeightsError(f"VGG19 weights: there is no file {weights!r}. {_ADVICE}")
    try:
        return keras.applications.VGG19(include_top=False, weights=weights)
    except Exception as error:  # Keras raises a bare Exception where a download fails
        came = "could not be downloaded" if weights == "imagenet" else f"could not be read from {weights!r}"
        raise FeatureWeightsError(f"VGG19 weights {came}: {error} {_ADVICE}") from error


_ADVICE = (
    "To go on: feature_weights=PATH with the file vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5 "
    "of Keras (or any weights saved from keras.applications.VGG19(include_top=False)), "
    'feature_weights=None for random features, or content_loss="mse" for none.'
)
