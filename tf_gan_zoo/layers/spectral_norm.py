"""Spectral normalisation: weights divided by their largest singular value (Miyato et al. 2018)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tf_gan_zoo")
class SpectralNormalization(keras.layers.Wrapper):
    """Runs a layer with W / sigma(W) in place of its kernel W, so that its Lipschitz constant is near 1.

    sigma(W) is the largest singular value of W as a matrix (everything else, outputs). A vector u of the
    outputs is kept between calls, and each call in training makes a step of the power iteration:

        v = normalised W u,   u = normalised W^T v,   sigma = v^T W u,

    with u and v constant, so that the gradient flows through W and sigma = v^T W u alone. Without training u
    stays as it is and sigma = |W u|. The kernel itself is never overwritten, and the computation is in
    float32 whatever the policy is. Replicas hold equal kernels, so they keep equal vectors.

    Args:
        layer: a layer with a `kernel` (Dense, Conv2D, Conv2DTranspose) or `embeddings`.
        epsilon: the smallest number that vectors and kernels are divided by.

    Reference: T. Miyato, T. Kataoka, M. Koyama, Y. Yoshida, "Spectral Normalization for Generative
    Adversarial Networks", ICLR 2018, arXiv:1802.05957, algorithm 1.
    """

    def __init__(self, layer: keras.layers.Layer, epsilon: float = 1e-12, **kwargs: Any) -> None:
        # The wrapper works in float32 on any policy; the wrapped layer casts for itself.
        super().__init__(layer, autocast=False, **{"name": layer.name, **kwargs, "dtype": "float32"})
        self.epsilon = epsilon

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        super().build(input_shape)
        names = [name for name in ("kernel", "embeddings") if hasattr(self.layer, name)]
        if not names:
            kind = type(self.layer).__name__
            raise ValueError(f"SpectralNormalization needs a layer with a kernel or embeddings, got {kind}.")
        self.kernel = getattr(self.layer, names[0])
        # A transposed convolution has its outputs on the last axis but one.
        self._outputs_axis = -2 if isinstance(self.layer, keras.layers.Conv2DTranspose) else -1
        self.u = self.add_weight(
            shape=(self.kernel.shape[self._outputs_axis], 1), trainable=False, name="u",
            initializer=keras.initializers.RandomNormal(0.0, 1.0),
        )  # fmt: skip

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        with keras.StatelessScope([(self.kernel, self.normalized_kernel(bool(training)))]):
            return self.layer(inputs)

    def normalized_kernel(self, training: bool = False) -> tf.Tensor:
        """W / sigma(W), of the kernel's shape; makes a step of the power iteration if `training`."""
        kernel = tf.convert_to_tensor(self.kernel.value)
        return kernel / self._sigma(self._as_matrix(kernel), training)

    def _sigma(self, matrix: tf.Tensor, training: bool) -> tf.Tensor:
        constant, u = tf.stop_gradient(matrix), tf.convert_to_tensor(self.u.value)
        v = self._unit(constant @ u)
        if training:
            u = self._unit(tf.transpose(constant) @ v)
            self.u.assign(u)
        return tf.maximum(tf.reduce_sum(v * (matrix @ u)), self.epsilon)

    def _as_matrix(self, kernel: tf.Tensor) -> tf.Tensor:
        if self._outputs_axis == -2:
            kernel = tf.transpose(kernel, [0, 1, 3, 2])
        return tf.reshape(kernel, (-1, kernel.shape[-1]))

    def _unit(self, vector: tf.Tensor) -> tf.Tensor:
        return vector / tf.maximum(tf.norm(vector), self.epsilon)

    def plain(self) -> keras.layers.Layer:
        """An equal layer for inference, without the wrapper; `plain_weights` are its weights."""
        return type(self.layer).from_config({**self.layer.get_config(), "name": self.name})

    def plain_weights(self) -> list[Any]:
        """The wrapped layer's weights with the normalised kernel."""
        normalized = self.normalized_kernel().numpy()
        return [normalized if v is self.kernel else v.numpy() for v in self.layer.weights]

    def compute_output_spec(
        self, inputs: keras.KerasTensor, training: bool | None = None
    ) -> keras.KerasTensor:
        return self.layer.compute_output_spec(inputs)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return self.layer.compute_output_shape(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epsilon": self.epsilon}
