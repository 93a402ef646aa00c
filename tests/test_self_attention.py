"""Self-attention against NumPy; gamma 0 makes it the identity."""

import keras
import numpy as np
import pytest

from tf_gan_zoo.layers import SelfAttention

CHANNELS = 16


def pictures(size=(6, 4)):
    return np.random.default_rng(0).normal(size=(2, *size, CHANNELS)).astype("float32")


def layer_with(gamma, **options):
    layer = SelfAttention(**options)
    layer.build((None, None, None, CHANNELS))
    layer.gamma.assign(gamma)
    return layer


def pooled(x):
    """Maxima over 2x2 pixels; an odd last row or column is left out."""
    count, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(count, height // 2, 2, width // 2, 2, channels).max((2, 4))


def attention_of(x, queries, keys):
    q = (x @ queries).reshape(len(x), -1, CHANNELS // 8)
    k = pooled(x @ keys).reshape(len(x), -1, CHANNELS // 8)
    weights = np.exp(q @ k.transpose(0, 2, 1))
    return weights / weights.sum(-1, keepdims=True)


@pytest.mark.parametrize("size", [(6, 4), (7, 5)])
@pytest.mark.parametrize("spectral_norm", [True, False])
def test_equals_the_formula(size, spectral_norm):
    x, layer = pictures(size), layer_with(0.7, spectral_norm=spectral_norm)
    gamma, *kernels = layer.plain_weights()
    queries, keys, values, outputs = (np.asarray(kernel)[0, 0] for kernel in kernels)
    weights = attention_of(x, queries, keys)
    mixed = weights @ pooled(x @ values).reshape(2, -1, CHANNELS // 2)
    expected = x + gamma * (mixed @ outputs).reshape(x.shape)
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)
    np.testing.assert_allclose(layer.attention(x), weights, atol=1e-5)
    assert layer.attention(x).shape == (2, size[0] * size[1], (size[0] // 2) * (size[1] // 2))
    np.testing.assert_allclose(np.sum(layer.attention(x), -1), 1.0, rtol=1e-5)


def test_starts_as_the_identity():
    layer = SelfAttention()
    np.testing.assert_array_equal(layer(pictures()), pictures())
    assert float(layer.gamma) == 0.0


def test_plain_form_is_equal():
    layer = layer_with(0.5)
    layer(pictures(), training=True)
    plain = layer.plain()
    plain.build((None, None, None, CHANNELS))
    plain.set_weights(layer.plain_weights())
    np.testing.assert_allclose(plain(pictures()), layer(pictures()), atol=1e-5)


@pytest.mark.parametrize("channels, weights", [(256, 81_921), (128, 20_481), (64, 5_121)])
def test_weights_of_the_papers_sizes(channels, weights):
    layer = SelfAttention()
    layer.build((None, 32, 32, channels))
    assert layer.count_params() - sum(v.shape[0] for v in layer.non_trainable_variables) == weights


def test_mixed_precision_and_config():
    layer = SelfAttention(dtype="mixed_float16", epsilon=1e-6, kernel_initializer="orthogonal")
    assert layer(pictures()).dtype == "float16"
    assert layer.attention(pictures()).dtype == "float32"
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert again.get_config() == layer.get_config()


def test_too_few_channels_are_refused():
    with pytest.raises(ValueError, match="8 or more channels, got 4"):
        SelfAttention().build((None, 8, 8, 4))
