"""Minibatch discrimination (Salimans et al. 2016, section 3.2)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_gan_zoo import replicas

#: A distance that makes a picture no neighbour of itself.
_FAR = 1e6


@keras.saving.register_keras_serializable("tf_gan_zoo")
class MinibatchDiscrimination(keras.layers.Layer):
    """Appends to each example's features how close the other examples of its batch are.

    M_i = f(x_i) T is a (num_kernels, kernel_size) matrix of example i, and

        o(x_i)_b = sum over j != i of exp(-||M_ib - M_jb||_1)  +  a bias.

    A discriminator with this layer sees when a generator always makes the same picture. Under several
    replicas an example's neighbours are those of the global batch, so the number of replicas does not change
    a run. Real and generated pictures must go through in separate batches.

    As in the authors' code, T's columns are normalised with a trained scale exp(s), the bias starts at -1,
    and `weight_norm.initialize_from_data` divides distances by half the mean distance to the nearest
    neighbour and sets the bias to minus the mean of o.

    Args:
        num_kernels: B, the numbers appended.
        kernel_size: C, numbers that are compared for each of them.

    Input (batch, features), output (batch, features + num_kernels). A batch of one has no neighbours.
    """

    def __init__(self, num_kernels: int = 100, kernel_size: int = 5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_kernels < 1 or kernel_size < 1:
            raise ValueError(
                f"MinibatchDiscrimination needs num_kernels and kernel_size of at least 1, got {num_kernels} "
                f"and {kernel_size}."
            )
        self.num_kernels, self.kernel_size = num_kernels, kernel_size
        self._takes_initial_values = False

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (self.num_kernels, self.kernel_size)
        normal = keras.initializers.RandomNormal(0.0, 0.05)
        self.kernel = self.add_weight(shape=(input_shape[-1], *shape), initializer=normal, name="kernel")
        self.log_scale = self.add_weight(shape=shape, initializer="zeros", name="log_scale")
        start = keras.initializers.Constant(-1.0)
        self.bias = self.add_weight(shape=(self.num_kernels,), initializer=start, name="bias")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        features = tf.cast(inputs, tf.float32)  # sums of small exponentials
        matrices = tf.tensordot(features, self.tensor(), 1)
        if self._takes_initial_values:
            self._take_initial_values(matrices)
            matrices = tf.tensordot(features, self.tensor(), 1)
        closeness = self._closeness(self._distances(matrices)) + tf.cast(self.bias, tf.float32)
        return tf.concat([inputs, tf.cast(closeness, inputs.dtype)], axis=1)

    def tensor(self) -> tf.Tensor:
        """T, float32 (features, num_kernels, kernel_size)."""
        kernel = tf.cast(tf.convert_to_tensor(self.kernel), tf.float32)
        lengths = tf.reduce_sum(tf.square(kernel), axis=0, keepdims=True)
        return kernel * tf.exp(tf.cast(self.log_scale, tf.float32)) * tf.math.rsqrt(lengths + 1e-12)

    def _distances(self, matrices: tf.Tensor) -> tf.Tensor:
        """L1 distances (batch, global batch, num_kernels); from an example to itself beyond reach."""
        everyone, local = replicas.gather(matrices), tf.shape(matrices)[0]
        gaps = tf.reduce_sum(tf.abs(matrices[:, None] - everyone[None]), axis=-1)
        context = tf.distribute.get_replica_context()
        first = tf.cast(context.replica_id_in_sync_group, tf.int32) * local if context else 0
        itself = tf.range(local)[:, None] + first == tf.range(tf.shape(everyone)[0])[None]
        return gaps + _FAR * tf.cast(itself, gaps.dtype)[..., None]

    @staticmethod
    def _closeness(distances: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.exp(-distances), axis=1)

    def _take_initial_values(self, matrices: tf.Tensor) -> None:
        distances = self._distances(matrices)
        half_nearest = 0.5 * tf.reduce_mean(tf.reduce_min(distances, axis=1), axis=0) + 1e-8
        self.log_scale.assign(self.log_scale - tf.math.log(half_nearest)[:, None])
        self.bias.assign(-tf.reduce_mean(self._closeness(distances / half_nearest), axis=0))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], input_shape[-1] + self.num_kernels)

    def get_config(self) -> dict[str, Any]:
        own = {"num_kernels": self.num_kernels, "kernel_size": self.kernel_size}
        return {**super().get_config(), **own}
