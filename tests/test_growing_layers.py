"""Layers and the optimizer of progressive growing, against NumPy and against stock ones."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_gan_zoo import layers, optimizers


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 2, shape).astype("float32")


def test_equalised_dense_against_numpy():
    layer, x = layers.EqualizedDense(5, gain=1.5), numbers(4, 7)
    layer.build(x.shape)
    layer.bias.assign(numbers(5))
    expected = x @ layer.kernel.numpy() * 1.5 / np.sqrt(7) + numbers(5)
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)


def test_equalised_convolution_is_one_with_smaller_weights():
    x = numbers(2, 6, 5, 3)
    layer = layers.EqualizedConv2D(4, 3, padding="same", activation="leaky_relu")
    plain = keras.layers.Conv2D(4, 3, padding="same")
    layer.build(x.shape), plain.build(x.shape)
    plain.set_weights([layer.kernel.numpy() * np.sqrt(2 / 27), layer.bias.numpy()])
    expected = np.asarray(plain(x))
    np.testing.assert_allclose(layer(x), np.maximum(expected, 0.2 * expected), atol=1e-5)


def test_equalised_weights_have_one_size_and_keep_signals_at_theirs():
    """Kernels are N(0, 1) whatever their shape; the output's variance is that of the input times gain^2."""
    x = np.random.default_rng(0).normal(0, 1, (500, 300)).astype("float32")
    layer = layers.EqualizedDense(200, gain=1.0)
    assert float(np.std(layer(x))) == pytest.approx(1.0, abs=0.05)
    assert float(np.std(layer.kernel)) == pytest.approx(1.0, abs=0.02)
    wide = layers.EqualizedConv2D(64, 3)
    wide.build((None, 8, 8, 100))
    assert float(np.std(wide.kernel)) == pytest.approx(1.0, abs=0.02)


def test_equalised_gradient_is_scaled():
    """The same step in the weights moves the output as many times less as `scale` says."""
    layer, x = layers.EqualizedDense(1, gain=1.0), numbers(3, 16)
    layer.build(x.shape)
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(x))
    np.testing.assert_allclose(tape.gradient(total, layer.kernel.value)[:, 0], x.sum(0) / 4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 8), (2, 4, 5, 6)])
def test_pixel_norm_against_numpy(shape):
    x = numbers(*shape)
    y = layers.PixelNorm()(x).numpy()
    np.testing.assert_allclose(y, x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-8), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(y, axis=-1), np.sqrt(shape[-1]), rtol=1e-5)
    assert np.isfinite(layers.PixelNorm(dtype="float16")(300 * x.astype("float16"))).all()


@pytest.mark.parametrize("batch, group", [(8, 4), (4, 4), (6, 3), (14, 2), (3, 3), (5, 1)])
def test_minibatch_stddev_against_numpy(batch, group):
    """Groups are neighbours; a batch that 4 does not divide has smaller ones."""
    x = numbers(batch, 3, 4, 5)
    expected = [np.sqrt(part.var(axis=0) + 1e-8).mean() for part in np.split(x, batch // group)]
    y = layers.MinibatchStddev()(x).numpy()
    np.testing.assert_array_equal(y[..., :5], x)
    channel = np.repeat(expected, group)[:, None, None]
    np.testing.assert_allclose(y[..., 5], np.broadcast_to(channel, (batch, 3, 4)), atol=1e-5)


def test_minibatch_stddev_tells_one_picture_from_many():
    layer, x = layers.MinibatchStddev(), numbers(4, 3, 3, 2)
    assert float(layer(x)[0, 0, 0, 2]) > 1
    assert float(layer(np.repeat(x[:1], 4, axis=0))[0, 0, 0, 2]) < 1e-3
    with pytest.raises(ValueError, match="at least 2, got 1"):
        layers.MinibatchStddev(1)


@pytest.mark.parametrize(
    "layer",
    [
        layers.EqualizedConv2D(4, 3, gain=1.0, activation="leaky_relu"),
        layers.EqualizedDense(4, use_bias=False),
        layers.PixelNorm(1e-6),
        layers.MinibatchStddev(2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_come_back_from_their_config(layer):
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()


def moved(optimizer, gradients):
    """Where a variable is after each gradient."""
    variable, positions = keras.Variable([1.0, -2.0]), []
    optimizer.build([variable])
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient)], [variable])
        positions.append(variable.numpy())
    return np.array(positions)


def test_restarted_adam_is_adam_and_then_a_new_one():
    gradients, options = numbers(7, 2), {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-8}
    positions = moved(optimizers.RestartedAdam(0.1, (3, 5), **options), gradients)
    starts = [np.array([1.0, -2.0]), positions[2], positions[4]]
    for start, (first, end) in zip(starts, ((0, 3), (3, 5), (5, 7))):
        plain = moved(keras.optimizers.Adam(0.1, **options), gradients[first:end])
        np.testing.assert_allclose(positions[first:end] - start, plain - [1.0, -2.0], atol=1e-5)


def test_restarted_adam_comes_back_from_its_config_and_refuses_what_cannot_be():
    optimizer = optimizers.RestartedAdam(0.1, (3, 5), beta_1=0.0)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert (again.restarts, again.beta_1) == ((3, 5), 0.0)
    for restarts in ((0, 2), (3, 3)):
        with pytest.raises(ValueError, match="rising restarts above 0"):
            optimizers.RestartedAdam(0.1, restarts)
