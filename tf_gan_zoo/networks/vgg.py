"""VGG: frozen VGG19 features, which perceptual losses compare images in, and VGG16's convolutions.

Reference: K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
Recognition", ICLR 2015, arXiv:1409.1556.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers as keras_layers

from tf_gan_zoo.fitting import initial_conditions
from tf_gan_zoo.metrics.classifier import FeatureWeightsError as FileError
from tf_gan_zoo.metrics.classifier import load_arrays, read_arrays
from tf_gan_zoo.metrics.features import FEATURES_DIR
from tf_gan_zoo.paths import expand

#: What the Caffe model that the ImageNet weights come from subtracts: mean blue, green, red of 0..255.
MEAN_BGR = (103.939, 116.779, 123.68)
#: Convolutions in each of the five blocks of VGG19 and VGG16, and their filters as multiples of the first's.
_CONVOLUTIONS, _CONVOLUTIONS_16, _WIDTHS = (2, 2, 4, 4, 4), (2, 2, 3, 3, 3), (1, 2, 4, 8, 8)
#: Filters of the first convolution in the paper.
WIDTH = 64
#: Weights that ship with the zoo, by the value of `feature_weights` that names them.
PACKAGED = {"emoji": FEATURES_DIR / "vgg19_emoji.npz"}


class FeatureWeightsError(RuntimeError):
    """VGG's weights cannot be loaded or do not fit; the message says how to go on."""


class VGG19Features:
    """Feature maps of VGG19; gradients reach the pictures, never the weights.

    It is a plain object and no Keras layer: a model may hold it in an attribute without saving,
    training or counting its weights.

    Args:
        layers: "convB_C" is the C-th convolution of block B before its ReLU, "reluB_C" after it
            ("relu5_4" is the SRGAN paper's phi_{5,4}), "poolB" the block's pooling. One name, or several.
        weights: "imagenet" (Keras's, downloaded once); "emoji", a narrow VGG19 that ships with the zoo and
            was trained to tell emoji apart; the path of a weights file for
            `keras.applications.VGG19(include_top=False)` (.h5 or .weights.h5), or of an .npz file of
            `scripts/train_perceptual_features.py`; or None for random weights, a function of `seed`.
        seed: decides random weights.

    Raises:
        ValueError: for a layer that VGG19 does not have.
        FeatureWeightsError: if the weights cannot be loaded.
    """

    def __init__(self, layers: str | Sequence[str], weights: str | None = "imagenet", seed: int = 0) -> None:
        names = [layers] if isinstance(layers, str) else list(layers)
        depth = max(_position(name) for name in names)
        # Always float32: features of 0..255 pictures reach thousands, too much for float16's squares.
        with initial_conditions("float32", seed, "vgg19"):
            whole = _load(weights, depth)
        outputs = [whole.get_layer(name).output for name in names]
        self.network = keras.Model(whole.input, outputs[0] if isinstance(layers, str) else outputs)
        self.network.trainable = False

    def __call__(self, images: tf.Tensor) -> tf.Tensor | list[tf.Tensor]:
        """Images (batch, height, width, 1 or 3) in [-1, 1] -> float32 features (batch, h, w, channels)."""
        return self.network(vgg_inputs(images), training=False)


def vgg_inputs(images: tf.Tensor) -> tf.Tensor:
    """Images (batch, height, width, 1 or 3) in [-1, 1] -> VGG's input: BGR, 0..255 minus the mean.

    Gray pictures are repeated to three channels.
    """
    images = tf.cast(images, tf.float32)
    if images.shape[-1] == 1:
        images = tf.repeat(images, 3, axis=-1)
    return (images[..., ::-1] + 1.0) * 127.5 - tf.constant(MEAN_BGR)


@keras.saving.register_keras_serializable("tf_gan_zoo")
class VGGInputs(keras_layers.Layer):
    """`vgg_inputs` as a layer."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return vgg_inputs(inputs)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], 3)


def describe_weights(weights: str | None, network: str = "VGG19") -> str:
    """What `feature_weights` stands for, in words for a record."""
    if weights is None:
        return f"a {network} with random weights, which is not what the paper used"
    if weights in PACKAGED:
        return f"the zoo's own narrow VGG19 trained on {weights}, not the ImageNet weights of the paper"
    if weights == "imagenet":
        return f"{network} with Keras's ImageNet weights"
    return f"{network} weights from the file {Path(weights).name}"


def build_vgg19(width: int = WIDTH, depth: int | None = None, batch_norm: bool = False) -> keras.Model:
    """VGG19's convolutions: inputs of `vgg_inputs` -> the last layer's maps. Layers: convB_C, reluB_C, poolB.

    Args:
        width: filters of the first convolution; 64 in the paper.
        depth: how many convolutions, ReLUs and poolings to build; all 37 by default.
        batch_norm: put layers normB_C between convolutions and ReLUs, to train with.
    """
    x = images = keras.Input((None, None, 3), name="images")
    for name in _LAYERS[:depth]:
        kind, block = name[:4], int(name[4])
        if kind == "conv":
            filters = width * _WIDTHS[block - 1]
            x = keras_layers.Conv2D(filters, 3, padding="same", kernel_initializer="he_normal", name=name)(x)
        elif kind == "relu":
            if batch_norm:
                x = keras_layers.BatchNormalization(momentum=0.95, name=name.replace("relu", "norm"))(x)
            x = keras_layers.ReLU(name=name)(x)
        else:
            x = keras_layers.MaxPooling2D(2, name=name)(x)
    return keras.Model(images, x, name="vgg19")


def vgg16_maps(x: keras.KerasTensor, frozen_blocks: int = 0) -> list[keras.KerasTensor]:
    """VGG16's convolutions: inputs of `vgg_inputs` -> the maps behind four poolings, and the last block's.

    Layers are named as in `keras.applications`: blockB_convC, blockB_pool.

    Args:
        x: (batch, height, width, 3).
        frozen_blocks: so many blocks from the first on are not trained.
    """
    maps = []
    for block, count in enumerate(_CONVOLUTIONS_16, 1):
        for index in range(1, count + 1):
            x = keras_layers.Conv2D(
                WIDTH * _WIDTHS[block - 1], 3, padding="same", activation="relu",
                kernel_initializer="he_normal", name=f"block{block}_conv{index}",
                trainable=block > frozen_blocks,
            )(x)  # fmt: skip
        x = keras_layers.MaxPooling2D(2, name=f"block{block}_pool")(x) if block < 5 else x
        maps.append(x)
    return maps


def load_vgg16(networks: Sequence[keras.Model], weights: str) -> None:
    """Fills the convolutions of `vgg16_maps` in these networks.

    Args:
        networks: those whose convolutions have been trained or loaded before (a bias is not 0) stay.
        weights: "imagenet" (Keras's, downloaded once) or the path of a weights file for
            `keras.applications.VGG16(include_top=False)` (.h5 or .weights.h5).

    Raises:
        FeatureWeightsError: if the weights cannot be loaded.
    """
    parts = [[layer for layer in n.layers if _VGG16_NAME.fullmatch(layer.name)] for n in networks]
    untrained = [part for part in parts if not any(np.any(layer.bias) for layer in part)]
    if not untrained:
        return
    weights = weights if weights == "imagenet" else str(expand(weights))
    if weights != "imagenet" and not Path(weights).is_file():
        raise FeatureWeightsError(f"VGG16 weights: there is no file {weights!r}. {_ADVICE_16}")
    trained = _keras_vgg("VGG16", weights, _ADVICE_16)
    for layer in (layer for part in untrained for layer in part):
        layer.set_weights(trained.get_layer(layer.name).get_weights())


_VGG16_NAME = re.compile(r"block\d_conv\d")


def _all_layers() -> list[str]:
    names = []
    for block, count in enumerate(_CONVOLUTIONS, 1):
        for index in range(1, count + 1):
            names += [f"conv{block}_{index}", f"relu{block}_{index}"]
        names.append(f"pool{block}")
    return names


_LAYERS = _all_layers()


def _position(name: str) -> int:
    """How many layers a network must have to end with this one."""
    if name not in _LAYERS:
        raise ValueError(
            f"VGG19 has no layer {name!r}. Its layers are conv1_1 to conv5_4 (before the ReLU), relu1_1 to "
            "relu5_4 (after it) and pool1 to pool5."
        )
    return _LAYERS.index(name) + 1


def _load(weights: str | None, depth: int) -> keras.Model:
    """VGG19 up to `depth`, with weights."""
    if weights is None:
        warnings.warn(
            "feature_weights=None: perceptual features come from a VGG19 with random weights. Results "
            "are not those of a paper that uses ImageNet features.",
            stacklevel=3,
        )
        return build_vgg19(depth=depth)
    if weights == "imagenet":
        return _from_keras(weights, depth)
    path = PACKAGED[weights] if weights in PACKAGED else expand(weights)
    if not Path(path).is_file():
        raise FeatureWeightsError(f"VGG19 weights: there is no file {str(path)!r}. {_ADVICE}")
    return _from_arrays(Path(path), depth) if Path(path).suffix == ".npz" else _from_keras(str(path), depth)


def _from_arrays(path: Path, depth: int) -> keras.Model:
    """As wide as the file says."""
    try:
        first = read_arrays(path).get("conv1_1/kernel")
        if first is None or first.ndim != 4:
            raise FileError(f"{path} holds no VGG19.")
        network = build_vgg19(first.shape[-1], depth)
        load_arrays(network, path)
    except FileError as error:
        raise FeatureWeightsError(f"VGG19 weights: {error} {_ADVICE}") from error
    return network


def _from_keras(weights: str, depth: int) -> keras.Model:
    trained = _keras_vgg("VGG19", weights, _ADVICE)
    network = build_vgg19(depth=depth)
    for layer in network.layers:
        if layer.name.startswith("conv"):
            name = re.sub(r"conv(\d)_(\d)", r"block\1_conv\2", layer.name)
            layer.set_weights(trained.get_layer(name).get_weights())
    return network


def _keras_vgg(name: str, weights: str, advice: str) -> keras.Model:
    """Keras's convolutions with weights."""
    try:
        return getattr(keras.applications, name)(include_top=False, weights=weights)
    except Exception as error:  # Keras raises a bare Exception where a download fails
        came = "could not be downloaded" if weights == "imagenet" else f"could not be read from {weights!r}"
        raise FeatureWeightsError(f"{name} weights {came}: {error} {advice}") from error


_ADVICE_16 = (
    "To go on: feature_weights=PATH with the file vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5 of Keras "
    "(or any weights saved from keras.applications.VGG16(include_top=False)), or feature_weights=None to "
    "begin with random weights."
)
_ADVICE = (
    "To go on: feature_weights=PATH with the file vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5 "
    "of Keras (or any weights saved from keras.applications.VGG19(include_top=False)), "
    'feature_weights="emoji" for the zoo\'s own, or feature_weights=None for random features; or a loss '
    'that needs none, such as content_loss="mse".'
)
