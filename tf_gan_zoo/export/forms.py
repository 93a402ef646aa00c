"""Equal forms of layers that mobile runtimes run fast.

LiteRT hands what it can to XNNPACK and runs the rest by slow loops. A network is cloned with these layers in
place of the stock ones; weights, inputs and outputs stay the same, up to rounding. Training keeps the stock
layers, which are faster there.

| layer | operator that is slow | form used here |
|---|---|---|
| Conv2DTranspose, stride 2 | TRANSPOSE_CONV | convolutions, one per output parity, and DEPTH_TO_SPACE |
| ReflectionPadding2D | MIRROR_PAD, not delegated | slices and CONCATENATION |
| UpSampling2D, nearest, factor 2 | TILE, not delegated | CONCATENATION and DEPTH_TO_SPACE |

Batch normalisation behind a linear layer goes into that layer's weights, before integers make it inexact.
Spectral normalisation goes there, too: what is exported has plain layers with the normalised weights.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tf_gan_zoo.layers import ReflectionPadding2D

#: With fewer output channels four convolutions cost more than one that also multiplies by zeros.
_MIN_SPLIT_FILTERS = 8
#: Where tanh and sigmoid are as good as flat.
BOUNDS = {"tanh": 4.0, "sigmoid": 8.0}
_LINEAR = (layers.Dense, layers.Conv2D, layers.Conv2DTranspose)


def mobile_form(network: keras.Model, bounded: bool = False) -> keras.Model:
    """A float32 copy of a network in the forms above; one that is not Functional is returned as it is.

    Args:
        network: any network.
        bounded: cut off what goes into a last tanh or sigmoid at +-4 or +-8, which changes the outputs by
            0.0007 or 0.0003 at most. Integers need it: trained networks reach -180 there, and 8 bits for
            such a range leave no shades of gray.
    """
    if not network.inputs:  # a subclass of Model, which cannot be cloned layer by layer
        return network
    network = plain_form(network)
    folds = _batch_norms(network) + (_last_activations(network) if bounded else [])
    replaced = {follower.name: _remainder(follower) for _, follower in folds}
    changes: dict[str, dict[str, Any]] = {}
    for linear, follower in folds:
        changes.setdefault(linear.name, {}).update(_changed(follower))

    def clone_layer(layer: layers.Layer) -> layers.Layer:
        return replaced.get(layer.name) or _mobile_layer(layer, changes.get(layer.name, {}))

    copy = keras.models.clone_model(network, clone_function=clone_layer)
    for layer in network.layers:
        # A network in the network has its weights from its own turn.
        if layer.weights and layer.name not in replaced and not isinstance(layer, keras.Model):
            followers = [follower for linear, follower in folds if linear is layer]
            copy.get_layer(layer.name).set_weights(_folded(layer, followers))
    return copy


def in_float32(network: keras.Model) -> keras.Model:
    """The network itself if it computes in float32, else a copy that does."""
    policies = {layer.dtype_policy.compute_dtype for layer in network._flatten_layers()}
    if policies == {"float32"} or not network.inputs:
        return network
    network = plain_form(network)
    copy = keras.models.clone_model(network, clone_function=_float32_layer)
    copy.set_weights(network.get_weights())
    return copy


def plain_form(network: keras.Model) -> keras.Model:
    """The network itself, or a copy whose layers are replaced by their `plain` forms where they have one.

    Such a layer computes the weights it uses from those it has, like spectral normalisation.
    """
    if not any(hasattr(layer, "plain") for layer in network.layers):
        return network

    def clone_layer(layer: layers.Layer) -> layers.Layer:
        return layer.plain() if hasattr(layer, "plain") else type(layer).from_config(layer.get_config())

    copy = keras.models.clone_model(network, clone_function=clone_layer)
    for layer in network.layers:
        if layer.weights:
            values = layer.plain_weights() if hasattr(layer, "plain") else layer.get_weights()
            copy.get_layer(layer.name).set_weights(values)
    return copy


def _batch_norms(network: keras.Model) -> list[tuple[layers.Layer, layers.Layer]]:
    """Linear layers with the batch normalisation that alone reads their output."""
    norms = [layer for layer in network.layers if type(layer) is layers.BatchNormalization]
    last = [norm for norm in norms if norm.axis in (-1, len(norm.input.shape) - 1)]
    return [pair for norm in last if (pair := _pair(network, norm))]


def _last_activations(network: keras.Model) -> list[tuple[layers.Layer, layers.Layer]]:
    """Linear layers with the tanh or sigmoid that makes an output of them."""
    outputs = [network.get_layer(name) for name in network.output_names]
    bounded = [o for o in outputs if type(o) is layers.Activation and o.activation.__name__ in BOUNDS]
    return [pair for activation in bounded if (pair := _pair(network, activation))]


def _pair(network: keras.Model, follower: layers.Layer) -> tuple[layers.Layer, layers.Layer] | None:
    """The layer in front, if it is linear and nothing else reads it."""
    linear = follower.input._keras_history.operation
    if type(linear) not in _LINEAR or linear.activation is not keras.activations.linear:
        return None
    readers = [node for node in linear._outbound_nodes if node.operation in network.layers]
    alone = len(readers) == len(linear._inbound_nodes) == len(follower._inbound_nodes) == 1
    return (linear, follower) if alone else None


def _changed(follower: layers.Layer) -> dict[str, Any]:
    """What becomes different in the config of the layer that a follower goes into."""
    is_norm = isinstance(follower, layers.BatchNormalization)
    return {"use_bias": True} if is_norm else {"use_bias": True, "activation": "relu6"}


def _remainder(follower: layers.Layer) -> layers.Layer:
    """What stays in the follower's place."""
    if isinstance(follower, layers.BatchNormalization):
        return PassThrough(name=follower.name, dtype="float32")
    return BoundedActivation(follower.activation.__name__, name=follower.name, dtype="float32")


def _folded(layer: layers.Layer, followers: list[layers.Layer]) -> list[np.ndarray]:
    """A layer's weights, with those of the layers that went into it."""
    if not followers:
        return layer.get_weights()
    kernel, *bias = (np.asarray(v, "float64") for v in layer.weights)
    bias = bias[0] if bias else 0.0
    for follower in followers:
        scale, offset = _affine(follower)
        transposed = isinstance(layer, layers.Conv2DTranspose)  # (rows, columns, filters, input channels)
        kernel = kernel * (np.reshape(scale, (-1, 1)) if transposed else scale)
        bias = bias * scale + offset
    filters = kernel.shape[-2 if isinstance(layer, layers.Conv2DTranspose) else -1]
    return [kernel.astype("float32"), np.broadcast_to(bias, filters).astype("float32")]


def _affine(follower: layers.Layer) -> tuple[Any, Any]:
    """(scale, offset) by which the layer in front is changed."""
    if not isinstance(follower, layers.BatchNormalization):
        return 3.0 / BOUNDS[follower.activation.__name__], 3.0
    values = {v.name: np.asarray(v, "float64") for v in follower.weights}
    scale = values.get("gamma", 1.0) / np.sqrt(values["moving_variance"] + follower.epsilon)
    return scale, values.get("beta", 0.0) - values["moving_mean"] * scale


def _mobile_layer(layer: layers.Layer, changes: Mapping[str, Any]) -> layers.Layer:
    if isinstance(layer, keras.Model):
        return mobile_form(layer)
    form = next((f for kind, f in _FORMS.items() if type(layer) is kind and f.fits(layer)), type(layer))
    return form.from_config({**_float32_config(layer), **changes})


def _float32_layer(layer: layers.Layer) -> layers.Layer:
    if isinstance(layer, keras.Model):
        return in_float32(layer)
    return type(layer).from_config(_float32_config(layer))


def _float32_config(layer: layers.Layer) -> dict[str, Any]:
    """Operations such as keras.ops.split are no layers: they compute in what they are given."""
    is_layer = isinstance(layer, layers.Layer)
    return {**layer.get_config(), "dtype": "float32"} if is_layer else layer.get_config()


class PassThrough(layers.Layer):
    """What is left of a normalisation whose numbers are in another layer's weights."""

    def call(self, inputs: tf.Tensor, training: bool | None = None, mask: Any = None) -> tf.Tensor:
        return inputs


class BoundedActivation(layers.Layer):
    """tanh or sigmoid of x, given relu6(3 + 3 x / bound), the one cut-off that runtimes fuse."""

    def __init__(self, activation: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.bound, self.activation = BOUNDS[activation], keras.activations.get(activation)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self.activation((inputs - 3.0) * (self.bound / 3.0))


class SubpixelConv2DTranspose(layers.Conv2DTranspose):
    """A transposed convolution of stride 2 as convolutions whose outputs are woven together.

    Output pixels of one parity, (even, odd) for example, see every second tap of the kernel only: each of
    the four parities is a small convolution of the input.
    """

    @staticmethod
    def fits(layer: layers.Conv2DTranspose) -> bool:
        plain = layer.output_padding is None and set(layer.dilation_rate) == {1}
        return plain and set(layer.strides) == {2} and min(layer.kernel_size) >= 2 and _channels_last(layer)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        axes = [_parities(size, self.padding) for size in self.kernel_size]
        if self.filters < _MIN_SPLIT_FILTERS:
            axes = [[_filled_up(taps, parities) for taps in parities] for parities in axes]
            kernels = [self._kernel(rows, columns) for rows in axes[0] for columns in axes[1]]
            maps = self._convolved(inputs, axes[0][0], axes[1][0], tf.concat(kernels, axis=-1))
        else:
            parts = [
                self._convolved(inputs, rows, columns, self._kernel(rows, columns))
                for rows in axes[0] for columns in axes[1]
            ]  # fmt: skip
            maps = tf.concat(parts, axis=-1)
        return self._cropped(tf.nn.depth_to_space(maps, 2))

    def _kernel(self, rows: dict[int, int | None], columns: dict[int, int | None]) -> tf.Tensor:
        """Those taps of the kernel as (rows, columns, input channels, filters); None is a tap of zeros."""
        kernel = tf.pad(tf.convert_to_tensor(self.kernel), [[0, 1], [0, 1], [0, 0], [0, 0]])
        for axis, taps in enumerate((rows, columns)):
            zero = self.kernel_size[axis]
            chosen = [zero if taps[offset] is None else taps[offset] for offset in sorted(taps)]
            kernel = tf.gather(kernel, chosen, axis=axis)
        return tf.transpose(kernel, [0, 1, 3, 2])

    def _convolved(self, inputs: tf.Tensor, rows: dict, columns: dict, kernel: tf.Tensor) -> tf.Tensor:
        surplus = [self._surplus(size) for size in self.kernel_size]
        margins = [[-min(taps), max(taps) + more] for taps, more in zip((rows, columns), surplus)]
        if any(map(any, margins)):
            inputs = tf.pad(inputs, [[0, 0], *margins, [0, 0]])
        maps = tf.nn.conv2d(inputs, kernel, 1, "VALID")
        if self.use_bias:
            maps = maps + tf.tile(self.bias, [kernel.shape[-1] // self.filters])
        return self.activation(maps)  # before the weaving, where runtimes fuse it into the convolution

    def _surplus(self, size: int) -> int:
        """How many positions per parity there are beyond the input's: "valid" outputs reach further."""
        return 0 if self.padding == "same" else (size - 1) // 2

    def _cropped(self, outputs: tf.Tensor) -> tf.Tensor:
        """Without the last row or column, if "valid" gives an odd number of them."""
        if self.padding == "same":
            return outputs
        rows, columns = (None if size % 2 == 0 else -1 for size in self.kernel_size)
        return outputs[:, :rows, :columns]


def _parities(size: int, padding: str) -> list[dict[int, int]]:
    """For even and odd outputs along one axis: input offset -> tap of the kernel."""
    before = (size - 2) // 2 if padding == "same" else 0
    taps: list[dict[int, int]] = [{}, {}]
    for tap in range(size):
        parity = (tap - before) % 2
        taps[parity][(parity + before - tap) // 2] = tap
    return taps


def _filled_up(taps: dict[int, int], parities: list[dict[int, int]]) -> dict[int, int | None]:
    """The same taps over the offsets of both parities."""
    return {offset: taps.get(offset) for offset in sorted({*parities[0], *parities[1]})}


class SlicedReflectionPadding2D(ReflectionPadding2D):
    """Reflection by slices."""

    @staticmethod
    def fits(layer: ReflectionPadding2D) -> bool:
        return layer.padding > 0

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self._reflected(self._reflected(inputs, 1), 2)

    def _reflected(self, x: tf.Tensor, axis: int) -> tf.Tensor:
        part = functools.partial(_slice, x, axis)
        start = [part(k, k + 1) for k in range(self.padding, 0, -1)]
        end = [part(-k - 1, -k) for k in range(1, self.padding + 1)]
        # Margins are joined first: XNNPACK takes concatenations of few inputs only.
        margins = [tf.concat(pieces, axis) if len(pieces) > 1 else pieces[0] for pieces in (start, end)]
        return tf.concat([margins[0], x, margins[1]], axis)


def _slice(x: tf.Tensor, axis: int, start: int, stop: int) -> tf.Tensor:
    return x[(slice(None),) * axis + (slice(start, stop),)]


class WovenUpSampling2D(layers.UpSampling2D):
    """Doubles both sides by repeating pixels."""

    @staticmethod
    def fits(layer: layers.UpSampling2D) -> bool:
        doubles = tuple(layer.size) == (2, 2) and layer.interpolation == "nearest"
        return doubles and _channels_last(layer)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.nn.depth_to_space(tf.concat([inputs] * 4, axis=-1), 2)


def _channels_last(layer: Any) -> bool:
    return layer.data_format == "channels_last"


_FORMS = {
    layers.Conv2DTranspose: SubpixelConv2DTranspose,
    ReflectionPadding2D: SlicedReflectionPadding2D,
    layers.UpSampling2D: WovenUpSampling2D,
}
