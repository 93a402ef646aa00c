"""Virtual batch normalisation (Salimans et al. 2016, section 3.5)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tf_gan_zoo")
class ReferenceBatch(keras.layers.Layer):
    """Puts a fixed batch, chosen once, in front of every batch: the start of a network with virtual norms.

    Args:
        size: examples of the reference batch.
        low: it is drawn uniformly from [low, high) when the layer is built, and saved with the weights.
        high: see `low`.

    Input (batch, ...), output (size + batch, ...).
    """

    def __init__(self, size: int, low: float = -1.0, high: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if size < 2:
            raise ValueError(f"ReferenceBatch: a variance needs a size of at least 2, got {size}.")
        self.size, self.low, self.high = size, low, high

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        drawn = keras.initializers.RandomUniform(self.low, self.high)
        shape = (self.size, *input_shape[1:])
        self.reference = self.add_weight(shape=shape, initializer=drawn, trainable=False, name="reference")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.concat([tf.cast(self.reference, inputs.dtype), inputs], axis=0)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch = input_shape[0]
        return (None if batch is None else batch + self.size, *input_shape[1:])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size, "low": self.low, "high": self.high}


@keras.saving.register_keras_serializable("tf_gan_zoo")
class WithoutReference(keras.layers.Layer):
    """Takes the reference batch off again: the end of a network with virtual norms.

    Args:
        size: examples of the reference batch.

    Input (size + batch, ...), output (batch, ...).
    """

    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.size = size

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs[self.size :]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        batch = input_shape[0]
        return (None if batch is None else batch - self.size, *input_shape[1:])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}


@keras.saving.register_keras_serializable("tf_gan_zoo")
class VirtualBatchNormalization(keras.layers.Layer):
    """Normalises each example by the statistics of a reference batch and its own, in training and after.

    The first `reference_size` examples of the input are the reference batch (see `ReferenceBatch`): with n of
    them, mean and mean square are those of the reference times n / (n + 1) plus the example's own times
    1 / (n + 1). Reference examples are normalised by the reference batch alone. So an example's result does
    not depend on the others of its batch, and there is no moving average.

    Args:
        reference_size: n.
        epsilon: added to the variance.
        scale: learn a gain per channel.

    Input and output: (reference_size + batch, ..., channels). An example's own statistics are over the axes
    between the first and the last.
    """

    def __init__(
        self, reference_size: int, epsilon: float = 1e-5, scale: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.reference_size, self.epsilon, self.scale = reference_size, epsilon, scale

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (input_shape[-1],)
        self.gamma = self.add_weight(shape=shape, initializer="ones", name="gamma") if self.scale else None
        self.beta = self.add_weight(shape=shape, initializer="zeros", name="beta")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        x = tf.cast(inputs, tf.float32)  # float16 would lose the variance
        reference, examples = x[: self.reference_size], x[self.reference_size :]
        moments = tf.nn.moments(reference, list(range(x.shape.rank - 1)), keepdims=True)
        normalized = [self._normalized(reference, *moments)]
        normalized.append(self._normalized(examples, *self._combined(examples, *moments)))
        return tf.cast(tf.concat(normalized, axis=0), inputs.dtype)

    def _combined(
        self, examples: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Each example's mean and variance, from the reference's and its own."""
        share = 1.0 / (self.reference_size + 1)
        axes = list(range(1, examples.shape.rank - 1))
        own_mean, own_variance = tf.nn.moments(examples, axes, keepdims=True)
        mixed = (1 - share) * mean + share * own_mean
        # The variance of a mixture, in the form that rounding cannot make negative.
        spread = (1 - share) * (variance + tf.square(mean - mixed))
        return mixed, spread + share * (own_variance + tf.square(own_mean - mixed))

    def _normalized(self, x: tf.Tensor, mean: tf.Tensor, variance: tf.Tensor) -> tf.Tensor:
        scale = tf.math.rsqrt(variance + self.epsilon)
        scale = scale * tf.cast(self.gamma, tf.float32) if self.scale else scale
        return x * scale + (tf.cast(self.beta, tf.float32) - mean * scale)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        own = {"reference_size": self.reference_size, "epsilon": self.epsilon, "scale": self.scale}
        return {**super().get_config(), **own}
