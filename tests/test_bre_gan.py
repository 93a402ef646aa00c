"""What the BRE paper claims: which layers and batches are regularised, and that patterns get more diverse."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import make_fields, tiny

from tf_gan_zoo import penalties
from tf_gan_zoo.batch_spec import BatchError
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.models import bre_gan
from tf_gan_zoo.models.bre_gan import BREGANConfig


def pictures(count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, 16, 16, 1)).astype("float32")


@pytest.mark.parametrize("layers, chosen", [
    ("middle", [1, 2]), ("all_but_last", [0, 1, 2]), ("all", [0, 1, 2, 3]),
])  # fmt: skip
def test_regularised_layers_of_four(layers, chosen):
    assert BREGANConfig(regularized_layers=layers).chosen_layers == chosen


def test_outputs_of_d_are_what_its_activations_get():
    model = tiny("bre_gan", regularized_layers="all")
    convolutions = [x for x in model.discriminator.layers if type(x) is keras.layers.Conv2D]
    images = pictures(3)
    _, *outputs = model.discriminator(images)
    assert [tuple(h.shape) for h in outputs] == [(3, 16, 16, 4), (3, 8, 8, 8), (3, 4, 4, 16)]
    for layer, output in zip(convolutions, outputs):
        by_hand = keras.Model(model.discriminator.input, layer.output)(images)
        np.testing.assert_allclose(output, by_hand, atol=1e-6)
        assert float(tf.reduce_min(output)) < 0 < float(tf.reduce_max(output))
    batch_norms = [x for x in model.discriminator.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert [x.input._keras_history.operation.__class__ for x in batch_norms] == [keras.layers.Maximum] * 2


@pytest.mark.parametrize("kind, low, high", [("between", 0.0, 1.0), ("beyond", 1.0, 2.0)])
def test_interpolates_of_paper_and_code(kind, low, high):
    """With samples 0 and real pictures 1 an interpolate shows where between them it lies."""
    factors = np.random.default_rng(0).uniform(0, 1, (50, 1, 1, 1)).astype("float32")
    real, fake = tf.ones((50, 4, 4, 1)), tf.zeros((50, 4, 4, 1))
    mixed = bre_gan.interpolated(real, fake, factors, kind).numpy()
    assert low <= mixed.min() < mixed.max() <= high
    np.testing.assert_allclose(mixed[:, 0, 0, 0], low + factors.ravel(), rtol=1e-6)
    assert np.ptp(mixed, axis=(1, 2, 3)).max() == 0  # one factor per picture


def test_d_descends_bre_of_samples_and_interpolates_and_weight_decay():
    model = tiny("bre_gan", bre_weight=2.0, weight_decay=0.01, discriminator_norm="none")
    real, fake, factors = pictures(4), pictures(4, seed=1), np.full((4, 1, 1, 1), 0.25, "float32")
    _, bre_loss = model._d_losses(tf.constant(real), tf.constant(fake), factors, training=True)

    def entropy(images):
        _, *activations = model.discriminator(images)
        return np.mean([float(penalties.binarized_representation_entropy(h)) for h in activations])

    expected = entropy(fake) + entropy(fake + 0.25 * (real - fake))
    assert float(bre_loss) == pytest.approx(expected, rel=1e-4)
    decaying = [v for v in model.generator.trainable_variables if v.name not in ("bias", "beta")]
    assert {v.name for v in decaying} == {"kernel", "gamma"}  # what Lasagne calls regularizable
    squares = sum((v.numpy() ** 2).sum() for v in decaying)
    assert float(model._weight_decay("generator")) == pytest.approx(0.01 * squares, rel=1e-4)
    with_real = tiny("bre_gan", regularize_real=True, discriminator_norm="none")
    with_real.discriminator.set_weights(model.discriminator.get_weights())
    _, more = with_real._d_losses(tf.constant(real), tf.constant(fake), factors, training=True)
    assert float(more) == pytest.approx(expected + entropy(real), rel=1e-4)


def test_the_regulariser_makes_patterns_more_diverse():
    """The same pictures and steps, with and without: fewer correlated pairs, more balanced units."""
    rng = np.random.default_rng(0)
    images = np.clip(0.8 + rng.normal(0, 0.1, (64, 16, 16, 1)), -1, 1).astype("float32")  # much alike
    found = {}
    for weight in (0.0, 1.0):
        model = tiny("bre_gan", bre_weight=weight, learning_rate=1e-3)
        model.fit(images, batch_size=16, epochs=10, verbose=0, shuffle=False)
        found[weight] = model.diagnose(images)
    assert found[1.0]["activation_correlation"] < 0.8 * found[0.0]["activation_correlation"]
    assert found[1.0]["marginal_entropy_penalty"] < 0.9 * found[0.0]["marginal_entropy_penalty"]


def test_diagnosis_of_random_and_of_equal_pictures():
    model = tiny("bre_gan")
    equal = model.diagnose(np.repeat(pictures(1), 8, axis=0))
    assert equal["marginal_entropy_penalty"] == pytest.approx(1.0, abs=0.02)
    units = [np.prod(h.shape[1:]) for h in model.discriminator.outputs[1:]]
    ends = np.mean([(1 - 3 / np.sqrt(d)) * 7 / 8 for d in units])
    assert equal["activation_correlation"] == pytest.approx(ends, abs=0.02)
    different = model.diagnose(pictures(8))
    assert different["activation_correlation"] < equal["activation_correlation"]
    assert different["saturated_bits"] > 0.95


def test_several_discriminator_steps_and_the_equal_sizes(tmp_path):
    model = tiny("bre_gan", architecture="equal_size", discriminator_steps=3, discriminator_norm="layer")
    model.run_eagerly = True
    history = model.fit(make_fields(model, 12), batch_size=4, verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    optimizers = (model.discriminator_optimizer, model.generator_optimizer)
    assert [int(optimizer.iterations.numpy()) for optimizer in optimizers] == [3, 1]
    convolutions = [x.filters for x in model.discriminator.layers if hasattr(x, "filters")]
    assert convolutions == [16, 16, 16]
    slopes = {x.scale for x in model.discriminator.layers if isinstance(x, keras.layers.Rescaling)}
    assert slopes == {0.0}


def test_equal_sizes_of_the_released_code():
    """dcgan_equal_size: 256 channels everywhere, but 128 x g_width_factor = 512 in G's first map."""
    config = BREGANConfig(architecture="equal_size")
    assert config.discriminator_widths == [256] * 4
    shapes = [x.output.shape[1:] for x in bre_gan.build_generator(config).layers if hasattr(x, "kernel")]
    assert shapes == [(4 * 4 * 512,), (8, 8, 256), (16, 16, 256), (32, 32, 256), (32, 32, 3)]


def test_learning_rate_falls_to_its_end_in_40000_updates():
    optimizer = tiny("bre_gan").make_optimizer("discriminator")
    schedule = optimizer._learning_rate
    rates = [float(schedule(step)) for step in (0, 20_000, 40_000, 60_000)]
    np.testing.assert_allclose(rates, [2e-4, 1.005e-4, 1e-6, 1e-6], rtol=1e-4)


def test_one_picture_has_no_pair():
    with pytest.raises(BatchError, match="compares pairs of pictures, and a batch has 1"):
        tiny("bre_gan").fit(pictures(3), batch_size=1, verbose=0)


@pytest.mark.parametrize("overrides, message", [
    ({"image_size": 7}, "cannot be halved to 4"),
    ({"image_size": 8}, "none is in the middle"),
    ({"batch_size": 1}, "greater than or equal to 2"),
])  # fmt: skip
def test_impossible_configs_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        BREGANConfig(**overrides)
