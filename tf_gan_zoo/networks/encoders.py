"""Classifiers whose features a generator can be trained to invert: images -> [hidden, features, logits].

"caffenet" is BVLC's reference CaffeNet (AlexNet with pooling before normalisation), "vgg16" Keras's, "small"
two convolutions for pictures of 28x28. All take pictures in [-1, 1], preprocess them on their own, and
always compute in float32.

References: A. Krizhevsky, I. Sutskever, G. Hinton, "ImageNet Classification with Deep Convolutional Neural
Networks", NIPS 2012; K. Simonyan, A. Zisserman, arXiv:1409.1556.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
from keras import layers

from tf_gan_zoo.fitting import initial_conditions
from tf_gan_zoo.layers import LocalResponseNormalization
from tf_gan_zoo.metrics.classifier import FeatureWeightsError, read_arrays
from tf_gan_zoo.networks.vgg import MEAN_BGR, vgg16_maps
from tf_gan_zoo.paths import expand

#: Units of the features that these encoders give.
FEATURE_SIZES = {"caffenet": 4096, "vgg16": 4096}
#: Side of the square picture, in pixels, that they take.
INPUT_SIZES = {"caffenet": 227, "vgg16": 224}


def build_encoder(
    kind: str, image_shape: tuple[int, int, int], crop_size: tuple[int, int], num_classes: int,
    feature_size: int, width: int = 32, seed: int = 0,
) -> keras.Model:  # fmt: skip
    """A classifier with random weights.

    Args:
        kind: "caffenet" (hidden is pool5, features are fc6), "vgg16" (block5_pool and fc1) or "small".
        image_shape: (height, width, channels); gray is repeated where the network takes colours.
        crop_size: (height, width) of the middle that the network looks at.
        num_classes: length of the logits.
        feature_size: units of the features, for "small"; the others have 4096.
        width: channels of the first convolution of "small".
        seed: decides the weights.

    Returns:
        Images (batch, height, width, channels) in [-1, 1] -> hidden (batch, h, w, c), features
        (batch, feature_size) and logits (batch, num_classes), all float32, the first two behind a ReLU.
    """
    with initial_conditions("float32", seed, "encoder"):
        images = keras.Input(image_shape, name="images")
        x = center_crop(images, crop_size)
        if kind == "small":
            outputs = _small(x, num_classes, feature_size, width)
        else:
            outputs = {"caffenet": _caffenet, "vgg16": _vgg16}[kind](_caffe_inputs(x), num_classes)
        return keras.Model(images, outputs, name="encoder")


def center_crop(x: keras.KerasTensor, size: tuple[int, int]) -> keras.KerasTensor:
    """The middle (height, width) of feature maps."""
    margins = [side - kept for side, kept in zip(x.shape[1:3], size)]
    if not any(margins):
        return x
    return layers.Cropping2D([(m // 2, m - m // 2) for m in margins])(x)


def load_encoder_weights(encoder: keras.Model, kind: str, weights: str | None) -> None:
    """Fills an encoder with weights trained elsewhere.

    Args:
        encoder: of `build_encoder`.
        kind: as there.
        weights: "imagenet" for "vgg16" (downloaded by Keras); the path of a .weights.h5 file of such an
            encoder; for "caffenet" an .npz file of Caffe's own arrays (see `caffe_arrays`); None leaves
            the encoder as it is, with a warning.

    Raises:
        FeatureWeightsError: if the weights cannot be had or do not fit.
    """
    if weights is None:
        warnings.warn(
            "encoder_weights=None and encoder_steps=0: the encoder keeps the weights it has. Unless some "
            "were loaded, these are random, and its features and classes mean nothing.", stacklevel=3,
        )  # fmt: skip
        return
    if weights == "imagenet":
        _copy_keras_vgg16(encoder, kind)
        return
    weights = str(expand(weights))
    if not Path(weights).is_file():
        raise FeatureWeightsError(f"encoder_weights: there is no file {weights!r}. {_ADVICE}")
    if weights.endswith(".npz") and kind == "caffenet":
        _assign(encoder, caffe_arrays(read_arrays(weights)), weights)
    else:
        _load_keras_file(encoder, weights)


_ADVICE = (
    "Give a .weights.h5 file of the encoder, for caffenet an .npz file of Caffe's arrays "
    "(numpy.savez(FILE, **{f'{n}/{i}': b.data for n, bs in net.params.items() for i, b in enumerate(bs)})), "
    "for vgg16 'imagenet', or train the encoder with encoder_steps."
)


# -------------------------------------------------------------------- networks

Outputs = list[keras.KerasTensor]


def _small(x: keras.KerasTensor, num_classes: int, feature_size: int, width: int) -> Outputs:
    x = layers.MaxPooling2D(2)(layers.Conv2D(width, 3, padding="same", activation="relu")(x))
    x = layers.Conv2D(2 * width, 3, padding="same", activation="relu")(x)
    hidden = layers.MaxPooling2D(2, name="hidden")(x)
    features = layers.Dense(feature_size, activation="relu", name="features")(layers.Flatten()(hidden))
    return [hidden, features, layers.Dense(num_classes, name="logits")(features)]


def _caffe_inputs(x: keras.KerasTensor) -> keras.KerasTensor:
    """Pictures in [-1, 1] -> blue, green, red of 0..255 minus the mean."""
    x = layers.Concatenate()([x] * 3) if x.shape[-1] == 1 else keras.ops.flip(x, axis=-1)
    return layers.Rescaling(127.5, [127.5 - mean for mean in MEAN_BGR])(x)


def _caffenet(x: keras.KerasTensor, num_classes: int) -> Outputs:
    x = layers.MaxPooling2D(3, 2)(layers.Conv2D(96, 11, 4, activation="relu", name="conv1")(x))
    x = _two_groups(LocalResponseNormalization()(x), 256, 5, "conv2")
    x = LocalResponseNormalization()(layers.MaxPooling2D(3, 2)(x))
    x = layers.Conv2D(384, 3, padding="same", activation="relu", name="conv3")(x)
    x = _two_groups(_two_groups(x, 384, 3, "conv4"), 256, 3, "conv5")
    hidden = layers.MaxPooling2D(3, 2, name="hidden")(x)
    return _caffe_head(hidden, "fc7", num_classes)


def _two_groups(x: keras.KerasTensor, filters: int, kernel_size: int, name: str) -> keras.KerasTensor:
    """A convolution in two groups, as two: TensorFlow has no gradient of grouped ones on CPUs."""
    options = {"padding": "same", "activation": "relu"}
    halves = [
        layers.Conv2D(filters // 2, kernel_size, name=f"{name}_{part}", **options)(half)
        for part, half in zip("ab", keras.ops.split(x, 2, axis=-1))
    ]
    return layers.Concatenate(name=name)(halves)


def _vgg16(x: keras.KerasTensor, num_classes: int) -> Outputs:
    hidden = layers.MaxPooling2D(2, name="hidden")(vgg16_maps(x)[-1])
    return _caffe_head(hidden, "fc2", num_classes)


def _caffe_head(hidden: keras.KerasTensor, second: str, num_classes: int) -> Outputs:
    features = layers.Dense(4096, activation="relu", name="features")(layers.Flatten()(hidden))
    x = layers.Dense(4096, activation="relu", name=second)(features)
    return [hidden, features, layers.Dense(num_classes, name="logits")(x)]


# -------------------------------------------------------------------- weights

Arrays = dict[str, list[np.ndarray]]


def caffe_arrays(arrays: Mapping[str, np.ndarray]) -> Arrays:
    """Caffe's arrays of CaffeNet, named LAYER/0 (weights) and LAYER/1 (biases) -> layer -> [kernel, bias].

    Caffe orders a convolution (out, in, height, width) and a dense layer (out, in), and flattens maps channel
    by channel.

    Raises:
        FeatureWeightsError: if a layer is missing.
    """
    names = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
    missing = [f"{n}/{i}" for n in names for i in (0, 1) if f"{n}/{i}" not in arrays]
    if missing:
        raise FeatureWeightsError(f"encoder_weights: the file has no array {missing[0]!r}. {_ADVICE}")
    results: Arrays = {}
    for name in names:
        kernel, bias = np.asarray(arrays[f"{name}/0"]), np.asarray(arrays[f"{name}/1"]).reshape(-1)
        if name == "fc6":
            kernel = kernel.reshape(-1, 256, 6, 6).transpose(2, 3, 1, 0).reshape(9216, -1)
        else:
            kernel = kernel.transpose(2, 3, 1, 0) if name.startswith("conv") else kernel.T
        if name in ("conv2", "conv4", "conv5"):
            kernels, biases = np.split(kernel, 2, axis=-1), np.split(bias, 2)
            results |= {f"{name}_{part}": [kernels[i], biases[i]] for i, part in enumerate("ab")}
        else:
            results[{"fc6": "features", "fc8": "logits"}.get(name, name)] = [kernel, bias]
    return results


def _copy_keras_vgg16(encoder: keras.Model, kind: str) -> None:
    if kind != "vgg16":
        raise FeatureWeightsError(f"encoder_weights: 'imagenet' is for vgg16, not for {kind!r}. {_ADVICE}")
    try:
        with initial_conditions("float32", 0):
            source = keras.applications.VGG16(weights="imagenet")
    except Exception as error:  # Keras raises a bare Exception where a download fails
        raise FeatureWeightsError(f"VGG16's weights cannot be had: {error} {_ADVICE}") from error
    ours = {"fc1": "features", "predictions": "logits"}
    arrays = {ours.get(x.name, x.name): x.get_weights() for x in source.layers if x.weights}
    _assign(encoder, arrays, "imagenet")


def _assign(encoder: keras.Model, arrays: Arrays, source: str) -> None:
    wanted = {x.name: [tuple(w.shape) for w in x.weights] for x in encoder.layers if x.weights}
    came = {name: [value.shape for value in values] for name, values in arrays.items()}
    wrong = [name for name in wanted if wanted[name] != came.get(name)]
    if wrong:
        raise FeatureWeightsError(
            f"encoder_weights: {source!r} does not fit at {wrong[0]}: expected {wanted[wrong[0]]}, got "
            f"{came.get(wrong[0])}. {_ADVICE}"
        )
    for name in wanted:
        encoder.get_layer(name).set_weights(arrays[name])


def _load_keras_file(encoder: keras.Model, path: str) -> None:
    try:
        encoder.load_weights(path)
    except Exception as error:  # Keras and h5py raise many kinds
        raise FeatureWeightsError(f"encoder_weights: {path!r} does not fit: {error} {_ADVICE}") from error
