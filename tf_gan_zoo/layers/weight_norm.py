"""Weight normalisation with data-dependent initial values (Salimans and Kingma 2016, arXiv:1602.07868).

    w = g v / ||v||   per output unit or channel: length g and direction v are separate parameters.

`initialize_from_data` sets lengths and biases so that the layers' outputs have mean 0 and a chosen standard
deviation on a first batch (section 3 of the paper). As in the code of "Improved Techniques for Training
GANs", lengths stay as they are from then on, unless a layer has `trainable_gain`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class _WeightNorm(keras.layers.Layer):
    """What the layers below share: the gain, the normalised kernel, initial values from data.

    Args:
        trainable_gain: whether g is trained.
        initial_std: standard deviation of the outputs, before the activation, on the first batch.
        **kwargs: of the Keras layer.
    """

    #: Axis of the kernel that counts outputs.
    _output_axis = -1

    def __init__(
        self, *args: Any, trainable_gain: bool = False, initial_std: float = 1.0, **kwargs: Any
    ) -> None:
        normal = keras.initializers.RandomNormal(0.0, 0.05)
        super().__init__(*args, **{"kernel_initializer": normal, **kwargs})
        self.trainable_gain, self.initial_std = trainable_gain, initial_std
        self._takes_initial_values = False

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        super().build(input_shape)
        outputs = self.kernel.shape[self._output_axis]
        self.gain = self.add_weight(
            shape=(outputs,), initializer="ones", trainable=self.trainable_gain, name="gain"
        )

    def normalized_kernel(self) -> tf.Tensor:
        """g v / ||v||, float32."""
        kernel = _float32(self.kernel)
        output_axis = self._output_axis % kernel.shape.rank
        others = [axis for axis in range(kernel.shape.rank) if axis != output_axis]
        squares = tf.reduce_sum(tf.square(kernel), others, keepdims=True)
        return kernel * tf.reshape(_float32(self.gain), squares.shape) * tf.math.rsqrt(squares + 1e-6)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        outputs = self._linear(inputs, tf.cast(self.normalized_kernel(), inputs.dtype))
        if self._takes_initial_values:
            outputs = self._initialized(outputs)
        elif self.use_bias:
            outputs = outputs + tf.cast(tf.convert_to_tensor(self.bias), outputs.dtype)
        return self.activation(outputs)

    def _linear(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        raise TypeError(f"{type(self).__name__} must define _linear(inputs, kernel).")

    def _initialized(self, outputs: tf.Tensor) -> tf.Tensor:
        """Chooses gain and bias by these outputs; returns them as they are with the new values."""
        mean, variance = tf.nn.moments(tf.cast(outputs, tf.float32), list(range(outputs.shape.rank - 1)))
        scale = self.initial_std * tf.math.rsqrt(variance + 1e-8)
        self.gain.assign(_float32(self.gain) * scale)
        shift = -mean * scale if self.use_bias else tf.zeros_like(mean)
        if self.use_bias:
            self.bias.assign(shift)
        return outputs * tf.cast(scale, outputs.dtype) + tf.cast(shift, outputs.dtype)

    # Keras's layers save kernel and bias by themselves, in forms for quantisation, and would forget the gain.
    def save_own_variables(self, store: Any) -> None:
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store: Any) -> None:
        keras.layers.Layer.load_own_variables(self, store)

    def get_config(self) -> dict[str, Any]:
        own = {"trainable_gain": self.trainable_gain, "initial_std": self.initial_std}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("tf_gan_zoo")
class WeightNormDense(_WeightNorm, keras.layers.Dense):
    """`keras.layers.Dense` with normalised weights: (batch, inputs) -> (batch, units)."""

    def _linear(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.matmul(inputs, kernel)


@keras.saving.register_keras_serializable("tf_gan_zoo")
class WeightNormConv2D(_WeightNorm, keras.layers.Conv2D):
    """`keras.layers.Conv2D` with normalised weights; images (batch, height, width, channels)."""

    def _linear(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return tf.nn.conv2d(inputs, kernel, self.strides, self.padding.upper(), dilations=self.dilation_rate)


@keras.saving.register_keras_serializable("tf_gan_zoo")
class WeightNormConv2DTranspose(_WeightNorm, keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose` with normalised weights; images (batch, height, width, channels)."""

    _output_axis = -2

    def _linear(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        return keras.ops.conv_transpose(inputs, kernel, self.strides, self.padding, self.output_padding)


def _float32(variable: keras.Variable) -> tf.Tensor:
    return tf.cast(tf.convert_to_tensor(variable), tf.float32)


def is_untrained(network: keras.Model) -> bool:
    """Whether the weight-norm layers of a network have neither been trained nor initialised: all biases 0."""
    return not any(np.any(layer.bias) for layer in _layers(network) if layer.use_bias)


def initialize_from_data(network: keras.Model, inputs: tf.Tensor) -> None:
    """Gives outputs of all weight-norm layers mean 0 and their `initial_std` on `inputs`, first layer first.

    Other layers with such a rule (`MinibatchDiscrimination`) follow theirs. One pass, in training mode.

    Args:
        network: a Functional model.
        inputs: a batch of some hundred examples.
    """
    with _taking_initial_values(network):
        network(inputs, training=True)


@contextlib.contextmanager
def _taking_initial_values(network: keras.Model) -> Iterator[None]:
    layers = [layer for layer in network._flatten_layers() if hasattr(layer, "_takes_initial_values")]
    for layer in layers:
        layer._takes_initial_values = True
    try:
        yield
    finally:
        for layer in layers:
            layer._takes_initial_values = False


def _layers(network: keras.Model) -> list[_WeightNorm]:
    return [layer for layer in network._flatten_layers() if isinstance(layer, _WeightNorm)]
