"""What the first GAN's paper claims: the optimal discriminator and the value -log 4; and its MNIST recipe."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import make_fields, tiny

from tf_gan_zoo.layers import Maxout, SeededDropout
from tf_gan_zoo.models.gan import OriginalGAN, OriginalGANConfig, log_odds, minimax_generator_loss

P, Q = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.2, 0.7])


def divergence(p, q):
    return float((p * np.log(p / q)).sum())


def value_of(p, q, logits):
    """V(D, G) of densities on three points, through the model's own losses: 10 examples stand for 1."""
    real, fake = (np.repeat(logits, np.round(10 * w).astype(int)).astype("float32") for w in (p, q))
    return float(tiny("gan")._objectives(tf.constant(real[:, None]), tf.constant(fake[:, None]))["value"])


def test_the_best_discriminator_measures_the_jensen_shannon_divergence():
    optimum = np.log(P / Q)  # logits of p / (p + q)
    middle = (P + Q) / 2
    jensen_shannon = (divergence(P, middle) + divergence(Q, middle)) / 2
    best = value_of(P, Q, optimum)
    assert best == pytest.approx(-np.log(4) + 2 * jensen_shannon, abs=1e-5)
    rng = np.random.default_rng(0)
    assert all(value_of(P, Q, optimum + rng.normal(0, 0.3, 3)) < best for _ in range(5))


def test_the_value_is_minus_log_4_where_samples_are_like_data():
    assert value_of(P, P, np.zeros(3)) == pytest.approx(-np.log(4), abs=1e-6)


def test_an_untrained_discriminator_is_near_one_half():
    model = OriginalGAN(OriginalGANConfig())
    model.compile()
    logs = model.evaluate(make_fields(model, 20), batch_size=20, verbose=0, return_dict=True)
    assert logs["value"] == pytest.approx(-np.log(4), abs=0.05)
    assert logs["d_loss"] == pytest.approx(-logs["value"] / 2, rel=1e-5)
    assert logs["g_loss"] == pytest.approx(np.log(2), abs=0.05)


def test_minimax_gradient_vanishes_where_the_discriminator_is_sure():
    logits = tf.Variable([[-8.0], [-9.0]])
    slopes = {}
    for loss in ("minimax", "non_saturating"):
        model = tiny("gan", loss=loss)
        with tf.GradientTape() as tape:
            g_loss = model._objectives(tf.zeros((2, 1)), logits)["g_loss"]
        slopes[loss] = float(tf.norm(tape.gradient(g_loss, logits)))
    assert slopes["minimax"] < 1e-3 < 0.5 < slopes["non_saturating"]
    assert float(minimax_generator_loss(tf.zeros((3, 1)))) == pytest.approx(np.log(0.5))


def test_paper_networks():
    model = OriginalGAN(OriginalGANConfig())
    maxouts = [x for x in model.discriminator.layers if isinstance(x, Maxout)]
    assert [(x.maxout_units, x.pieces) for x in maxouts] == [(240, 5)] * 2
    dropouts = [x.rate for x in model.discriminator.layers if isinstance(x, SeededDropout)]
    assert dropouts == [0.2, 0.5, 0.5]
    limits = {"generator": 0.05, "discriminator": 0.005}
    for player, limit in limits.items():
        for kernel in (v for v in model.player_variables(player) if v.name == "kernel"):
            assert 0.9 * limit < np.abs(kernel).max() <= limit
    rescaling = next(x for x in model.generator.layers if isinstance(x, keras.layers.Rescaling))
    latents = rescaling(model.sample_inputs(1000))
    assert float(np.abs(latents).max()) <= np.sqrt(3)
    assert float(np.std(latents)) == pytest.approx(1, abs=0.01)


def test_generator_starts_at_the_mean_picture():
    model = tiny("gan", generator_scale=0.05)
    images = make_fields(model, 40)["images"] * np.linspace(0, 1, 8, dtype="float32")[:, None]
    model.compile({player: keras.optimizers.SGD(0.0) for player in model.players})
    model.fit(images, batch_size=4, verbose=0)
    bias = model.generator.get_layer("pixels").bias
    np.testing.assert_allclose(1 / (1 + np.exp(-np.asarray(bias))), images.mean(axis=0).ravel(), atol=1e-5)
    assert np.abs(model.generate(50).mean(axis=0) - images.mean(axis=0)).max() < 0.1
    model.step.assign(0)
    model.fit(1 - images, batch_size=4, verbose=0)  # a bias that is set stays
    np.testing.assert_allclose(1 / (1 + np.exp(-np.asarray(bias))), images.mean(axis=0).ravel(), atol=1e-5)
    assert np.isfinite(log_odds(np.array([0.0, 1.0]))).all()


def test_schedules_of_the_released_code():
    optimizer = OriginalGAN(OriginalGANConfig()).make_optimizer("generator")
    rate = optimizer._learning_rate
    assert float(rate(0)) == pytest.approx(0.1)
    assert float(rate(125_000)) == pytest.approx(0.1 / 1.000004**125_000, rel=1e-4)
    assert float(rate(10**8)) == pytest.approx(1e-6)
    momenta = [float(optimizer.momentum_at(500 * epoch)) for epoch in (0, 1, 250, 400)]
    assert momenta == pytest.approx([0.5, 0.5, 0.7, 0.7])


def test_both_gradients_are_taken_at_the_same_point():
    """G's update must not see the discriminator that the same step has made."""
    updated, frozen = tiny("gan"), tiny("gan")
    batch = make_fields(updated, 4)
    frozen.compile({"discriminator": keras.optimizers.SGD(0.0), "generator": keras.optimizers.SGD(0.1)})
    updated.compile({"discriminator": keras.optimizers.SGD(9.0), "generator": keras.optimizers.SGD(0.1)})
    for model in (updated, frozen):
        model.train_step(dict(batch))
    for a, b in zip(updated.player_variables("generator"), frozen.player_variables("generator")):
        np.testing.assert_array_equal(a, b)
