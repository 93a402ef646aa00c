"""Conditional batch normalisation against Keras's plain one with gathered gains and biases."""

import keras
import numpy as np
import pytest
from keras import layers

from tf_gan_zoo.layers import ConditionalBatchNormalization

RNG = np.random.default_rng(0)
GAINS, BIASES = RNG.normal(size=(2, 4, 3)).astype("float32")


def pictures():
    return np.random.default_rng(1).normal(1.0, 2.0, (6, 5, 4, 3)).astype("float32")


@pytest.mark.parametrize("training", [True, False])
def test_is_keras_batch_norm_with_gathered_gains(training):
    x, labels = pictures(), np.array([0, 3, 1, 1, 2, 0])
    kinds = (ConditionalBatchNormalization, layers.BatchNormalization)
    conditional, plain = (kind(momentum=0.9, epsilon=1e-3) for kind in kinds)
    plain(x, training=True), conditional([x, GAINS[labels], BIASES[labels]], training=True)
    gain, bias = GAINS[labels][:, None, None], BIASES[labels][:, None, None]
    result = conditional([x, GAINS[labels], BIASES[labels]], training=training)
    np.testing.assert_allclose(result, plain(x, training=training) * gain + bias, atol=1e-5)
    for name in ("moving_mean", "moving_variance"):
        np.testing.assert_allclose(getattr(conditional, name), getattr(plain, name), rtol=1e-6)
    assert not conditional.trainable_variables  # gains and biases come from outside


def test_mixed_precision_keeps_the_moments_in_float32():
    layer = ConditionalBatchNormalization(dtype="mixed_float16")
    x = pictures() * 1e3  # squares of these leave float16
    for training in (True, False):
        result = layer([x, GAINS[[0] * 6], BIASES[[0] * 6]], training=training)
        assert result.dtype == "float16"
        assert np.isfinite(result).all()


def test_comes_back_from_its_config():
    layer = ConditionalBatchNormalization(momentum=0.7, epsilon=2e-5, synchronized=True)
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert again.get_config() == layer.get_config()
    assert type(again) is ConditionalBatchNormalization
