"""Spectral normalisation against NumPy's singular values: divides by the largest and learns through it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tf_gan_zoo.export import forms
from tf_gan_zoo.layers import SelfAttention, SpectralNormalization


def built(layer, shape):
    wrapped = SpectralNormalization(layer)
    wrapped.build((None, *shape))
    return wrapped


def example(kind):
    """A wrapped layer and an input for it."""
    rng = np.random.default_rng(0)
    if kind == "dense":
        return built(layers.Dense(5), (7,)), rng.normal(size=(3, 7)).astype("float32")
    if kind == "embedding":
        return built(layers.Embedding(4, 6), ()), np.array([0, 3, 1], "int32")
    convolution = layers.Conv2DTranspose if kind == "transposed" else layers.Conv2D
    wrapped = built(convolution(5, 3, padding="same"), (6, 6, 4))
    return wrapped, rng.normal(size=(2, 6, 6, 4)).astype("float32")


KINDS = ("dense", "convolution", "transposed", "embedding")


def matrix(kernel, kind):
    """The kernel with its outputs as columns."""
    kernel = np.asarray(kernel)
    kernel = kernel.transpose(0, 1, 3, 2) if kind == "transposed" else kernel
    return kernel.reshape(-1, kernel.shape[-1])


def largest_singular_value(kernel, kind):
    return np.linalg.svd(matrix(kernel, kind), compute_uv=False)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_after_many_passes_the_largest_singular_value_is_one(kind):
    layer, inputs = example(kind)
    before = np.array(layer.kernel)
    for _ in range(100):
        layer(inputs, training=True)
    np.testing.assert_array_equal(layer.kernel, before)  # the kernel itself is never overwritten
    assert largest_singular_value(layer.normalized_kernel(), kind) == pytest.approx(1.0, abs=1e-3)
    sigma = largest_singular_value(before, kind)
    np.testing.assert_allclose(layer.normalized_kernel(), before / sigma, rtol=2e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_are_those_of_the_divided_kernel(kind):
    layer, inputs = example(kind)
    plain = type(layer.layer).from_config(layer.layer.get_config())
    plain(inputs)
    plain.set_weights([np.asarray(layer.normalized_kernel()), *map(np.asarray, layer.layer.weights[1:])])
    np.testing.assert_allclose(layer(inputs), plain(inputs), atol=1e-6)
    copy = layer.plain()
    copy(inputs)
    copy.set_weights(layer.plain_weights())
    np.testing.assert_allclose(copy(inputs), plain(inputs), atol=1e-6)


def test_one_step_of_the_power_iteration_by_hand():
    layer, inputs = example("dense")
    w, u = np.asarray(layer.kernel), np.asarray(layer.u)
    v = w @ u / np.linalg.norm(w @ u)
    u = w.T @ v / np.linalg.norm(w.T @ v)
    sigma = (v.T @ w @ u).item()
    np.testing.assert_allclose(layer(inputs, training=True), inputs @ w / sigma, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.u, u, rtol=1e-5)


def test_the_vector_moves_in_training_only():
    layer, inputs = example("convolution")
    before = np.array(layer.u)
    layer(inputs), layer(inputs, training=False), layer.normalized_kernel()
    np.testing.assert_array_equal(layer.u, before)
    layer(inputs, training=True)
    assert np.abs(np.asarray(layer.u) - before).max() > 0
    assert [v.name for v in layer.non_trainable_variables] == ["u"]


def test_the_gradient_flows_through_sigma():
    """Equation 12: the kernel's gradient has no part along the kernel, whose length does not matter."""
    layer, inputs = example("dense")
    for _ in range(100):
        layer(inputs, training=True)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(inputs, training=True) ** 2)
    gradient = tape.gradient(loss, layer.kernel.value).numpy()
    assert np.abs((gradient * np.asarray(layer.kernel)).sum()) < 1e-4 < np.abs(gradient).max()

    def loss_at(kernel):
        return ((inputs @ (kernel / np.linalg.svd(kernel)[1][0])) ** 2).sum()

    kernel, change = np.asarray(layer.kernel, "float64"), np.random.default_rng(1).normal(size=(7, 5))
    numeric = (loss_at(kernel + 1e-5 * change) - loss_at(kernel - 1e-5 * change)) / 2e-5
    assert (gradient * change).sum() == pytest.approx(numeric, rel=1e-2)


def test_mixed_precision_finds_sigma_in_float32():
    layer = SpectralNormalization(layers.Dense(5, dtype="mixed_float16"))
    inputs = tf.random.stateless_normal((3, 7), (0, 1))
    assert layer(inputs, training=True).dtype == tf.float16
    for variable in (layer.kernel, layer.u):
        assert variable.dtype == "float32"
    for _ in range(300):
        layer(tf.cast(inputs, tf.float16), training=True)
    assert layer.normalized_kernel().dtype == tf.float32
    assert largest_singular_value(layer.normalized_kernel(), "dense") == pytest.approx(1.0, abs=2e-5)


def test_inside_a_functional_network_of_mixed_precision():
    inputs = keras.Input((7,))
    layer = SpectralNormalization(layers.Dense(5, dtype="mixed_float16"))
    network = keras.Model(inputs, layer(inputs))
    network.dtype_policy = keras.DTypePolicy("mixed_float16")
    for _ in range(300):
        network(tf.ones((2, 7)), training=True)
    assert largest_singular_value(layer.normalized_kernel(), "dense") == pytest.approx(1.0, abs=2e-5)


def test_replicas_keep_equal_vectors(mirrored):
    with mirrored.scope():
        layer = built(layers.Dense(5), (7,))
    examples = np.random.default_rng(0).normal(size=(2, 3, 7)).astype("float32")
    parts = mirrored.experimental_distribute_values_from_function(
        lambda context: tf.constant(examples[context.replica_id_in_sync_group])
    )
    step = tf.function(lambda x: layer(x, training=True))
    for _ in range(3):
        mirrored.run(step, args=(parts,))
    first, second = mirrored.experimental_local_results(layer.u.value)
    np.testing.assert_array_equal(first, second)


def test_the_vector_is_saved(tmp_path):
    inputs = keras.Input((6, 6, 8))
    network = keras.Model(inputs, SelfAttention()(SpectralNormalization(layers.Conv2D(8, 3))(inputs)))
    for _ in range(3):
        network(tf.ones((2, 6, 6, 8)), training=True)
    network.save(tmp_path / "network.keras")
    network.save_weights(tmp_path / "network.weights.h5")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    fresh = keras.models.clone_model(network)
    fresh.load_weights(tmp_path / "network.weights.h5")
    vectors = [v.numpy() for v in network.variables if v.name == "u"]
    assert len(vectors) == 5
    for copy in (loaded, fresh):
        for variable, vector in zip((v for v in copy.variables if v.name == "u"), vectors):
            np.testing.assert_array_equal(variable, vector)


def test_exports_get_plain_layers():
    inputs = keras.Input((6, 6, 8))
    x = SpectralNormalization(layers.Conv2D(8, 3, padding="same"))(inputs)
    network = keras.Model(inputs, SpectralNormalization(layers.Dense(3))(SelfAttention()(layers.ReLU()(x))))
    pictures = np.random.default_rng(0).normal(size=(2, 6, 6, 8)).astype("float32")
    network.layers[3].gamma.assign(0.5)
    network(pictures, training=True)
    plain = forms.plain_form(network)
    kinds = [type(layer).__name__ for layer in plain.layers]
    assert kinds == ["InputLayer", "Conv2D", "ReLU", "SelfAttention", "Dense"]
    assert not plain.layers[3].spectral_norm
    np.testing.assert_allclose(plain(pictures), network(pictures), atol=1e-5)


def test_layers_without_a_matrix_are_refused():
    with pytest.raises(ValueError, match="a kernel or embeddings, got ReLU"):
        built(layers.ReLU(), (7,))
