"""What the VAE's paper claims: the bound, its gradient, learning by it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import make_dataset, make_fields, tiny
from scipy import special, stats

from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.models.vae import VAE, VAEConfig, bernoulli_log_likelihood, gaussian_log_likelihood

CONV = {"architecture": "conv", "width": 4, "likelihood": "gaussian"}


def num_weights(network):
    return sum(int(np.prod(v.shape)) for v in network.trainable_variables)


def test_paper_optimizer_and_weights():
    model = VAE(VAEConfig())
    assert isinstance(model.make_optimizer("autoencoder"), keras.optimizers.Adagrad)
    kernels = [v for v in model.trainable_variables if v.name == "kernel"]
    assert len(kernels) == 5
    assert all(np.std(kernel) == pytest.approx(0.01, rel=0.05) for kernel in kernels)


def test_convolutions_have_the_vae_gans_counts():
    config = {"architecture": "conv", "image_size": 64, "channels": 3, "latent_size": 128}
    model = VAE(VAEConfig(hidden_size=2048, likelihood="gaussian", **config))
    counts = [num_weights(network) for network in model.networks.values()]
    assert counts == [35_112_768, 4_693_155]


def test_bernoulli_pixels_by_hand_and_where_a_sigmoid_would_be_0():
    images, logits = np.array([0.0, 1.0, 0.25]), np.array([-1.0, 2.0, 0.5])
    p = special.expit(logits)
    expected = (images * np.log(p) + (1 - images) * np.log(1 - p)).sum()
    shaped = (tf.constant(x.reshape(1, 3, 1, 1), tf.float32) for x in (images, logits))
    assert float(bernoulli_log_likelihood(*shaped)[0]) == pytest.approx(expected, abs=1e-6)
    one, far = tf.ones((1, 1, 1, 1)), tf.fill((1, 1, 1, 1), -200.0)
    assert float(bernoulli_log_likelihood(one, far)[0]) == -200.0


def test_gaussian_pixels_against_scipy():
    images, means = np.random.default_rng(0).normal(size=(2, 3, 4, 4, 2)).astype("float32")
    expected = stats.norm.logpdf(images, means, 0.3).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(gaussian_log_likelihood(images, means, 0.3), expected, rtol=1e-5)


@pytest.mark.parametrize("overrides", [{}, {"image_size": 16, **CONV}])
def test_the_bound_against_numpy(overrides):
    """L = log p(x|z) - KL with p's parameter from the public generator, whose pictures are the means."""
    model = tiny("vae", **overrides)
    images = make_fields(model, 3)["images"]
    noise = np.random.default_rng(1).normal(size=(3, 4)).astype("float32")
    means, log_variances = (np.asarray(x, "float64") for x in model.encoder(images, training=False))
    decoded = np.asarray(model.generator(means + np.exp(log_variances / 2) * noise, training=False))
    if overrides:
        log_likelihood = stats.norm.logpdf(images, decoded, 1.0)
    else:
        log_likelihood = images * np.log(decoded) + (1 - images) * np.log(1 - decoded)
    kl = -0.5 * (1 + log_variances - means**2 - np.exp(log_variances)).sum(axis=1)
    found = model._terms(tf.constant(images), tf.constant(noise), training=False)
    np.testing.assert_allclose(found[0], log_likelihood.sum(axis=(1, 2, 3)), rtol=1e-4)
    np.testing.assert_allclose(found[1], kl, atol=1e-5)


def test_elbo_is_below_the_true_likelihood():
    """Of a decoder that ignores z, p(x) is p(x|z): the bound falls short by exactly the KL term."""
    model = tiny("vae")
    images = make_fields(model, 3)["images"]
    for v in model.encoder.trainable_variables:
        v.assign(10 * v)  # a posterior that is not the prior
    dense = next(x for x in model.generator.layers if isinstance(x, keras.layers.Dense))
    dense.kernel.assign(tf.zeros_like(dense.kernel))
    log_likelihood, kl = model._terms(tf.constant(images), tf.zeros((3, 4)), training=False)
    assert float(tf.reduce_min(kl)) > 1e-3
    np.testing.assert_allclose(model.elbo(images, num_draws=3), log_likelihood - kl, rtol=1e-5)


def test_more_draws_agree_and_a_seed_repeats():
    model = tiny("vae")
    images = make_fields(model, 5)["images"]
    np.testing.assert_array_equal(model.elbo(images, seed=1), model.elbo(images, seed=1))
    assert np.abs(model.elbo(images, seed=1) - model.elbo(images, seed=2)).max() > 0
    np.testing.assert_allclose(model.elbo(images, batch_size=2), model.elbo(images), rtol=1e-5)
    with pytest.raises(ValueError, match="num_draws must be at least 1"):
        model.elbo(images, num_draws=0)


def test_the_update_goes_down_the_bound_and_the_weights():
    """One step of gradient descent against the gradient of -L + r/2 |w|^2 by central differences."""
    model = tiny("vae", weight_decay=0.1)
    model.compile({"autoencoder": keras.optimizers.SGD(1.0)})
    batch = {"images": tf.constant(make_fields(model, 4)["images"])}
    noise = model.latents("posterior", 4)
    biases = [model.generator.get_layer("pixels").bias, model.encoder.get_layer("latents").bias]

    def loss():
        log_likelihood, kl = model._terms(batch["images"], noise, training=True)
        weights = sum(float(tf.reduce_sum(v**2)) for v in model.trainable_variables)
        return float(tf.reduce_mean(kl - log_likelihood)) + 0.05 * weights

    slopes, before = [], [np.array(bias)[0] for bias in biases]
    for bias, value in zip(biases, before):
        sides = []
        for shift in (0.05, -0.05):
            bias.assign(np.concatenate([[value + shift], np.array(bias)[1:]]))
            sides.append(loss())
        bias.assign(np.concatenate([[value], np.array(bias)[1:]]))
        slopes.append((sides[0] - sides[1]) / 0.1)
    model.train_step(batch)
    moved = [np.array(bias)[0] - value for bias, value in zip(biases, before)]
    np.testing.assert_allclose(moved, -np.array(slopes), rtol=0.02, atol=1e-3)


def test_training_makes_reconstructions_beat_the_mean_picture():
    """Pictures of two kinds: the latents tell them apart, so the mean picture is no longer the best guess."""
    model = tiny("vae", optimizer="adam", learning_rate=0.01)
    kinds = np.zeros((2, 8, 8, 1), "float32")
    kinds[0, :4], kinds[1, 4:] = 1, 1
    images = kinds[np.random.default_rng(0).integers(0, 2, 256)]
    before, elbo = model.measure({"images": images[:32]}), model.elbo(images[:32]).mean()
    model.fit(images, batch_size=16, epochs=12, verbose=0)
    after = model.measure({"images": images[:32]})
    assert before["reconstruction_l1"] > 0.9 * before["reconstruction_l1_baseline"]
    assert after["reconstruction_l1"] < 0.2 * after["reconstruction_l1_baseline"]
    assert after["mismatch_l1"] > 0.3
    assert after["elbo"] > elbo + 20


@pytest.mark.parametrize("overrides", [
    {"image_size": 16}, {"image_size": (16, 8), "likelihood": "bernoulli"},
])  # fmt: skip
def test_convolutions_train(overrides):
    model = tiny("vae", **{**CONV, **overrides})
    model.compile(run_eagerly=True)
    history = model.fit(make_dataset(model, 2), verbose=0).history
    assert np.isfinite(history["elbo"]).all()
    assert model.generate(2).shape == (2, *model.batch_spec["images"].shape)


def test_pictures_too_small_for_the_convolutions_are_refused():
    with pytest.raises(ConfigError, match="no less than 4 pixels, got 7"):
        VAEConfig(architecture="conv", image_size=7)
