"""The Inception network of 2015-12-05, with which published FIDs were computed, in Keras.

It differs from the Inception-V3 that libraries ship (and the weights only make sense with these differences):

* the average pooling of the blocks' pool branches does not count the zeros at the border;
* the very last block pools by maximum instead of average;
* 1008 logits, of which the Inception Score uses the matrix product without the bias;
* pictures are resized as TensorFlow 1 resized them.

References: C. Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016,
arXiv:1512.00567; M. Heusel et al., "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
Equilibrium", NeurIPS 2017, arXiv:1706.08500. Layer names are those of pytorch-fid and torch-fidelity.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tf_gan_zoo.metrics.classifier import FeatureWeightsError, read_arrays

IMAGE_SIZE, NUM_FEATURES, NUM_LOGITS = 299, 2048, 1008
#: (channels, kernel) of a chain of convolutions; "same" padding and stride 1.
_Chain = Sequence[tuple[str, int, int | tuple[int, int]]]


def prepare(images: tf.Tensor) -> tf.Tensor:
    """RGB pictures in [-1, 1] -> the network's input (batch, 299, 299, 3), by way of 8 bits."""
    pixels = tf.round((images + 1.0) * 127.5)
    resized = tf.compat.v1.image.resize_bilinear(
        pixels, (IMAGE_SIZE, IMAGE_SIZE), align_corners=False, half_pixel_centers=False
    )
    return (resized - 128.0) / 128.0


def build_network() -> keras.Model:
    """Prepared images (batch, 299, 299, 3) -> [features (batch, 2048), logits without bias (batch, 1008)].

    The bias of the last layer, which a weights file has, is not part of it.
    """
    x = images = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3), name="images")
    x = _conv(x, "Conv2d_1a_3x3", 32, 3, 2, "valid")
    x = _conv(x, "Conv2d_2a_3x3", 32, 3, 1, "valid")
    x = _reduce(_conv(x, "Conv2d_2b_3x3", 64, 3))
    x = _conv(x, "Conv2d_3b_1x1", 80, 1, 1, "valid")
    x = _reduce(_conv(x, "Conv2d_4a_3x3", 192, 3, 1, "valid"))
    for name, pooled in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
        x = _block_a(x, name, pooled)
    x = _block_b(x, "Mixed_6a")
    for name, narrow in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
        x = _block_c(x, name, narrow)
    x = _block_d(x, "Mixed_7a")
    x = _block_e(x, "Mixed_7b", mean_without_padding)
    x = _block_e(x, "Mixed_7c", layers.MaxPooling2D(3, 1, "same", dtype="float32"))
    features = layers.GlobalAveragePooling2D(dtype="float32", name="features")(x)
    logits = layers.Dense(NUM_LOGITS, use_bias=False, dtype="float32", name="fc")(features)
    return keras.Model(images, [features, logits], name="fid2015")


def load_arrays(network: keras.Model, path: str | Path) -> None:
    """Fills the network from an .npz file.

    Its arrays are those of PyTorch's state dictionary of weights-inception-2015-12-05 by name and shape:
    BLOCK[.BRANCH].conv.weight (out, in, height, width), BLOCK[.BRANCH].bn.weight, .bias, .running_mean and
    .running_var, and fc.weight (1008, 2048), e.g. "Mixed_5b.branch5x5_1.conv.weight". Others are ignored.

    Raises:
        FeatureWeightsError: if an array is missing or has another shape; the network is left as it was.
    """
    set_arrays(network, read_arrays(path), str(path))


def set_arrays(network: keras.Model, arrays: dict[str, np.ndarray], source: str = "the arrays") -> None:
    """As `load_arrays`, from a dictionary."""
    variables = named_variables(network)
    values = {name: _keras_layout(arrays[name]) for name in variables if name in arrays}
    for name, variable in variables.items():
        came = values[name].shape if name in values else None
        if came != tuple(variable.shape):
            expected = _torch_shape(variable)
            came = arrays[name].shape if name in values else "nothing"
            raise FeatureWeightsError(
                f"{source} is not the 2015 FID network: {name} is {came}, expected {expected}."
            )
    for name, variable in variables.items():
        variable.assign(values[name].astype("float32"))


def named_variables(network: keras.Model) -> dict[str, keras.Variable]:
    """PyTorch's name -> Keras's variable."""
    parts = {
        "kernel": "weight", "gamma": "weight", "beta": "bias", "moving_mean": "running_mean",
        "moving_variance": "running_var",
    }  # fmt: skip
    return {f"{layer.name}.{parts[v.name]}": v for layer in network.layers for v in layer.variables}


def torch_shapes(network: keras.Model) -> dict[str, tuple[int, ...]]:
    """PyTorch's name -> the shape that an array of a weights file has."""
    return {name: _torch_shape(v) for name, v in named_variables(network).items()}


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file in hexadecimal."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def mean_without_padding(x: Any) -> Any:
    """3x3 average, stride 1, "same" size; only real pixels count, as Keras's own pooling does it."""
    return layers.AveragePooling2D(3, 1, "same", dtype="float32")(x)


def _torch_shape(variable: keras.Variable) -> tuple[int, ...]:
    shape = tuple(variable.shape)
    return (shape[3], shape[2], *shape[:2]) if len(shape) == 4 else shape[::-1]


def _keras_layout(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T


def _conv(
    x: Any, name: str, channels: int, kernel: int | tuple[int, int], stride: int = 1, padding: str = "same"
) -> Any:
    options = {"use_bias": False, "dtype": "float32", "name": f"{name}.conv"}
    x = layers.Conv2D(channels, kernel, stride, padding, **options)(x)
    x = layers.BatchNormalization(epsilon=1e-3, dtype="float32", name=f"{name}.bn")(x)
    return layers.ReLU(dtype="float32")(x)


def _chain(x: Any, block: str, convolutions: _Chain) -> Any:
    for name, channels, kernel in convolutions:
        x = _conv(x, f"{block}.{name}", channels, kernel)
    return x


def _reduce(x: Any) -> Any:
    return layers.MaxPooling2D(3, 2, dtype="float32")(x)


def _joined(*branches: Any) -> Any:
    return layers.Concatenate(dtype="float32")(list(branches))


def _block_a(x: Any, name: str, pooled: int) -> Any:
    return _joined(
        _chain(x, name, [("branch1x1", 64, 1)]),
        _chain(x, name, [("branch5x5_1", 48, 1), ("branch5x5_2", 64, 5)]),
        _chain(x, name, [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3), ("branch3x3dbl_3", 96, 3)]),
        _chain(mean_without_padding(x), name, [("branch_pool", pooled, 1)]),
    )


def _block_b(x: Any, name: str) -> Any:
    double = _chain(x, name, [("branch3x3dbl_1", 64, 1), ("branch3x3dbl_2", 96, 3)])
    return _joined(
        _conv(x, f"{name}.branch3x3", 384, 3, 2, "valid"),
        _conv(double, f"{name}.branch3x3dbl_3", 96, 3, 2, "valid"),
        _reduce(x),
    )


def _block_c(x: Any, name: str, narrow: int) -> Any:
    row, column = (1, 7), (7, 1)
    single = [("1", narrow, 1), ("2", narrow, row), ("3", 192, column)]
    double = [("1", narrow, 1), ("2", narrow, column), ("3", narrow, row), ("4", narrow, column)]
    double.append(("5", 192, row))
    return _joined(
        _chain(x, name, [("branch1x1", 192, 1)]),
        _chain(x, name, [(f"branch7x7_{n}", *rest) for n, *rest in single]),
        _chain(x, name, [(f"branch7x7dbl_{n}", *rest) for n, *rest in double]),
        _chain(mean_without_padding(x), name, [("branch_pool", 192, 1)]),
    )


def _block_d(x: Any, name: str) -> Any:
    single = _chain(x, name, [("branch3x3_1", 192, 1)])
    parts = [("branch7x7x3_1", 192, 1), ("branch7x7x3_2", 192, (1, 7)), ("branch7x7x3_3", 192, (7, 1))]
    return _joined(
        _conv(single, f"{name}.branch3x3_2", 320, 3, 2, "valid"),
        _conv(_chain(x, name, parts), f"{name}.branch7x7x3_4", 192, 3, 2, "valid"),
        _reduce(x),
    )


def _block_e(x: Any, name: str, pool: Any) -> Any:
    single = _chain(x, name, [("branch3x3_1", 384, 1)])
    double = _chain(x, name, [("branch3x3dbl_1", 448, 1), ("branch3x3dbl_2", 384, 3)])
    return _joined(
        _chain(x, name, [("branch1x1", 320, 1)]),
        *_fork(single, name, "branch3x3_2"),
        *_fork(double, name, "branch3x3dbl_3"),
        _chain(pool(x), name, [("branch_pool", 192, 1)]),
    )


def _fork(x: Any, block: str, name: str) -> tuple[Any, Any]:
    """A row and a column convolution side by side."""
    row = _conv(x, f"{block}.{name}a", 384, (1, 3))
    return row, _conv(x, f"{block}.{name}b", 384, (3, 1))
