"""What BiGAN's paper claims: D sees pairs, the best pair of maps are inverses, one loss for G and E."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import make_dataset, make_fields, tiny

import tf_gan_zoo as zoo
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.models.bigan import BiGAN, BiGANConfig
from tf_gan_zoo.schedules import ExponentialTail

CONV = {"architecture": "conv", "image_size": 16, "width": 4}
LN_2 = np.log(2.0)


@pytest.fixture(scope="module")
def model():
    return tiny("bigan")


def test_registered_under_both_tasks():
    assert "bigan" in zoo.list_models("features")
    assert "bigan" in zoo.list_models("generation")


def test_dense_networks_have_no_biases_and_no_gains():
    model = BiGAN(BiGANConfig())
    assert {v.name for v in model.trainable_variables} == {"kernel"}
    norms = {
        name: sum(isinstance(x, keras.layers.BatchNormalization) for x in network.layers)
        for name, network in model.networks.items()
    }
    assert norms == {"generator": 2, "encoder": 1, "discriminator": 1}


def test_convolutions_follow_the_code():
    model = BiGAN(BiGANConfig(architecture="conv", image_size=64, channels=3, latent_size=200))
    kernels = [v.shape for v in model.encoder.trainable_variables if v.name == "kernel"]
    assert kernels == [
        (11, 11, 3, 96), (5, 5, 48, 128), (5, 5, 48, 128), (3, 3, 256, 384),
        (3, 3, 192, 192), (3, 3, 192, 192), (3, 3, 192, 128), (3, 3, 192, 128), (4 * 4 * 256, 200),
    ]  # fmt: skip
    projections = [x for x in model.discriminator.layers if isinstance(x, keras.layers.Dense)]
    assert sorted(x.units for x in projections) == [1, 128, 256, 512]
    projected = next(x for x in projections if x.units == 128)
    assert np.std(projected.kernel) == pytest.approx(0.5, rel=0.05)
    assert model.generator.output_shape == (None, 64, 64, 3)
    assert model.batch_spec["images"].value_range == (-1, 1)


def test_rate_falls_to_a_hundredth_in_the_second_half():
    rate = BiGAN(BiGANConfig(hidden_size=8)).make_optimizer("generator")._learning_rate
    halves = 200 * 468
    rates = [float(rate(step)) for step in (0, halves, halves * 3 // 2, 2 * halves, 3 * halves)]
    np.testing.assert_allclose(rates, [2e-4, 2e-4, 2e-5, 2e-6, 2e-6], rtol=1e-3)
    assert float(tiny("bigan").player_optimizer("generator").learning_rate) == pytest.approx(2e-4)


@pytest.mark.parametrize("arguments", [(-1, 5, 0.1), (0, 0, 0.1), (0, 5, 0.0)])
def test_impossible_tails_are_refused(arguments):
    with pytest.raises(ValueError, match="ExponentialTail needs"):
        ExponentialTail(0.1, *arguments)


# -------------------------------------------------------------------- pairs


@pytest.mark.parametrize("overrides", [{}, CONV])
def test_the_discriminator_sees_both_parts(overrides):
    model = tiny("bigan", **overrides)
    images = make_fields(model, 2)["images"]
    latents = np.random.default_rng(0).uniform(-1, 1, (2, 4)).astype("float32")
    pairs = {"images": images[[0, 0, 1, 1]], "latents": latents[[0, 1, 0, 1]]}
    logits = model.discriminator(pairs, training=False).numpy().ravel()
    assert len(np.unique(logits)) == 4
    # Not merely a score of the picture plus a score of the latents.
    trained = model.discriminator({**pairs, "images": 50 * pairs["images"]}, training=True).numpy().ravel()
    assert abs(trained[0] - trained[1] - trained[2] + trained[3]) > 1e-4


def test_pairs_are_data_with_codes_and_samples_with_their_latents(model):
    batch, seen = make_fields(model, 4), []
    discriminator = model.discriminator
    call = discriminator.call
    object.__setattr__(discriminator, "call", lambda x, **k: (seen.append(x), call(x, **k))[1])
    latents = model.latents("latents", 4)
    try:
        model._judge(tf.constant(batch["images"]), latents, training=False)
    finally:
        object.__setattr__(discriminator, "call", call)
    data, samples = seen
    np.testing.assert_array_equal(data["images"], batch["images"])
    np.testing.assert_allclose(data["latents"], model.encode(batch["images"]), atol=1e-6)
    np.testing.assert_array_equal(samples["latents"], latents)
    np.testing.assert_allclose(samples["images"], model.generator(latents, training=False), atol=1e-6)


def best_loss(model, generator, encoder):
    """D's loss at its best for maps between three points and three latents, all equally likely."""
    data = np.zeros((3, 3))
    data[np.arange(3), encoder] = 1 / 3  # p(x, E(x))
    samples = np.zeros((3, 3))
    samples[generator, np.arange(3)] = 1 / 3  # p(G(z), z)
    ratio = np.log(np.maximum(data, 1e-12)) - np.log(np.maximum(samples, 1e-12))  # the best D's logits
    logits = [ratio[np.arange(3), encoder], ratio[generator, np.arange(3)]]
    d_loss, g_loss = model._objectives(*(tf.constant(x[:, None], tf.float32) for x in logits))
    return float(d_loss), float(g_loss)


def test_the_best_maps_are_inverses_of_each_other(model):
    """Of all 27 x 27 pairs of maps those that D can tell least are the six inverses (theorem 2)."""
    maps = list(itertools.product(range(3), repeat=3))
    losses = {(g, e): best_loss(model, g, e) for g in maps for e in maps}
    best = [pair for pair, (d_loss, _) in losses.items() if d_loss > LN_2 - 1e-4]
    inverses = [(g, e) for g, e in losses if all(e[g[z]] == z for z in range(3))]
    assert sorted(best) == sorted(inverses)
    assert len(inverses) == 6
    least = min(g_loss for _, g_loss in losses.values())
    assert [pair for pair, (_, g_loss) in losses.items() if g_loss < least + 1e-4] == best


def test_losses_by_hand(model):
    real, fake = tf.constant([[1.0]]), tf.constant([[-0.5]])
    d = 1 / (1 + np.exp([-1.0, 0.5]))
    d_loss, g_loss = (float(x) for x in model._objectives(real, fake))
    assert d_loss == pytest.approx(-0.5 * (np.log(d[0]) + np.log(1 - d[1])), rel=1e-5)
    assert g_loss == pytest.approx(-0.5 * (np.log(1 - d[0]) + np.log(d[1])), rel=1e-5)


def test_the_encoder_learns_from_data_and_the_generator_from_samples(model):
    """The encoder's gradient is that of -log(1 - D(x, E(x))), the generator's that of -log D(G(z), z)."""
    images, latents = tf.constant(make_fields(model, 4)["images"]), model.latents("latents", 4)
    with tf.GradientTape(persistent=True) as tape:
        real_logits, fake_logits = model._judge(images, latents, training=True)
        _, g_loss = model._objectives(real_logits, fake_logits)
        parts = {
            "encoder": 0.5 * tf.reduce_mean(tf.nn.softplus(real_logits)),
            "generator": 0.5 * tf.reduce_mean(tf.nn.softplus(-fake_logits)),
        }
    for name, part in parts.items():
        variables = model.networks[name].trainable_variables
        for a, b in zip(tape.gradient(g_loss, variables), tape.gradient(part, variables)):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)
            assert np.abs(a).max() > 0


# -------------------------------------------------------------------- the encoder


def test_codes_are_in_the_range_of_the_prior():
    model = tiny("bigan")
    dense = [x for x in model.encoder.layers if isinstance(x, keras.layers.Dense)][-1]
    dense.kernel.assign(10_000 * dense.kernel)
    images = make_fields(model, 8)["images"]
    codes, features = model.encode(images), model.features(images)
    assert features.shape == (8, 16)
    assert 0.9 < np.abs(codes).max() <= 1
    np.testing.assert_allclose(codes, np.tanh(features @ np.array(dense.kernel) / 2), atol=1e-4)
    normal = tiny("bigan", latent_distribution="normal")
    assert normal.encoder.get_layer("latents").activation is keras.activations.linear


def test_convolutions_train():
    model = tiny("bigan", **CONV)
    model.compile(run_eagerly=True)
    history = model.fit(make_dataset(model, 2), verbose=0).history
    assert np.isfinite(history["g_loss"]).all()
    images = make_fields(model, 2)["images"]
    assert model.reconstruct(images).shape == images.shape
    assert model.features(images).shape == (2, 16)


@pytest.mark.parametrize("overrides, message", [
    ({"decay_epochs": 401}, "401 of 400 epochs"),
    ({"architecture": "conv", "image_size": 30, "width": 6}, "got 30 and 6"),
    ({"architecture": "conv", "image_size": 7}, "got 7 and 64"),
])  # fmt: skip
def test_impossible_configs_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        BiGANConfig(**overrides)
