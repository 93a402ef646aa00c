"""What the InfoGAN paper claims: the bound on mutual information, shared features, readable codes."""

import math
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_gan_zoo as zoo
from tf_gan_zoo.batch_spec import BatchError
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.models import infogan
from tf_gan_zoo.models.infogan import (
    Codes,
    InfoGAN,
    InfoGANConfig,
    categorical_information,
    continuous_information,
    information_bounds,
)
from tf_gan_zoo.registry import get_spec

LN_10 = math.log(10)


def tiny_model(**overrides):
    model = InfoGAN(InfoGANConfig(**{**get_spec("infogan").tiny, **overrides}))
    model.compile()
    return model


def pictures(count, seed=0):
    return np.random.default_rng(seed).uniform(0, 1, (count, 8, 8, 1)).astype("float32")


def num_weights(network):
    return sum(int(np.prod(v.shape)) for v in network.trainable_variables)


def test_paper_size():
    model = InfoGAN(InfoGANConfig())
    counts = {name: num_weights(network) for name, network in model.networks.items()}
    assert counts == {"generator": 6_652_481, "discriminator": 6_559_169, "recognition": 133_262}
    assert model.generator.input_shape == (None, 62 + 10 + 2)
    assert model.generator.output_shape == (None, 28, 28, 1)
    assert model.discriminator.output_shape == [(None, 1), (None, 1024)]
    assert model.recognition.output_shape == (None, 10 + 2 * 2)


def test_face_version_has_its_size():
    """The recipe: one category, two continuous codes and 256 numbers of noise by the networks for CelebA."""
    model = zoo.get("infogan.celeb_a")
    counts = {name: num_weights(network) for name, network in model.networks.items()}
    assert counts == {"generator": 2_977_987, "discriminator": 659_264 + 4_097, "recognition": 526_350}
    assert model.generator.input_shape == (None, 256 + 10 + 2)
    assert model.generator.output_shape == (None, 32, 32, 3)
    assert model.recognition.output_shape == (None, 10 + 2 * 2)
    assert (model.config.categorical_weight, model.config.continuous_weight) == (1.0, 0.1)


def test_faces_of_twice_the_size_add_a_convolution_to_either_player():
    small, large = (InfoGANConfig(architecture="celeb_a", image_size=size, width=8) for size in (32, 64))
    assert (small.up_widths, large.up_widths) == ([32, 16, 8], [32, 16, 8, 4])
    assert (small.feature_size, large.feature_size) == (4 * 4 * 32, 4 * 4 * 64)


def test_face_version_trains_and_reads_its_codes():
    model = tiny_model(architecture="celeb_a", channels=3, latent_size=16, width=2)
    images = np.random.default_rng(0).uniform(-1, 1, (8, 8, 8, 3)).astype("float32")
    model.compile(run_eagerly=True)
    history = model.fit(images, batch_size=4, verbose=0).history
    assert np.isfinite([history[name] for name in model.log_names]).all()
    samples = model.generate(6, labels=[0, 1, 2] * 2, codes=[0.5, -0.5])
    assert samples.shape == (6, 8, 8, 3)
    assert model.generator.layers[-1].activation is keras.activations.tanh
    assert model.infer_codes(samples).means.shape == (6, 2)
    gradients = bound_gradients(model, [v for v in model.generator.trainable_variables if v.name == "kernel"])
    assert all(float(tf.reduce_max(tf.abs(g))) > 0 for g in gradients)


def test_published_weights_are_those_of_the_mnist_networks():
    """They are older than the face version, which must not make them look like another model's."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = zoo.get("infogan.fashion_mnist", weights="pretrained")
    assert model.config.architecture == "mnist"


def test_optimizers_are_the_papers():
    model = InfoGAN(InfoGANConfig())
    rates = {player: model.make_optimizer(player) for player in model.players}
    assert float(rates["generator"].learning_rate) == pytest.approx(1e-3)
    assert float(rates["discriminator"].learning_rate) == pytest.approx(2e-4)
    assert {optimizer.beta_1 for optimizer in rates.values()} == {0.5}


# ---------------------------------------------------------------- the bound


def test_categorical_information_by_hand():
    """Q gives the right category 0.5 and 0.1: L_I = ln 4 + (ln 0.5 + ln 0.1) / 2."""
    logits = np.log([[0.5, 0.2, 0.2, 0.1], [0.3, 0.3, 0.3, 0.1]]).astype("float32")
    value = categorical_information(tf.constant([0, 3]), logits)
    assert float(value) == pytest.approx(math.log(4) + (math.log(0.5) + math.log(0.1)) / 2, abs=1e-6)


def test_categorical_information_is_between_zero_and_ln_10():
    labels = tf.constant(np.arange(10))
    assert float(categorical_information(labels, tf.zeros((10, 10)))) == pytest.approx(0, abs=1e-6)
    assert float(categorical_information(labels, 100 * tf.eye(10))) == pytest.approx(LN_10, abs=1e-6)
    random_logits = np.random.default_rng(0).normal(0, 3, (10, 10)).astype("float32")
    assert float(categorical_information(labels, random_logits)) < LN_10


def test_continuous_information_by_hand():
    """Codes off by 0 and by 1 at standard deviation 1, by 2 at standard deviation 2."""
    codes, means = tf.constant([[0.5, 0.0, 1.0]]), tf.constant([[0.5, 1.0, -1.0]])
    log_variances = tf.constant([[0.0, 0.0, math.log(4)]])
    log_densities = [-0.5 * math.log(2 * math.pi) - 0.5 * square for square in (0, 1, 1)]
    expected = sum(log_densities) - math.log(2) + 3 * math.log(2)
    assert float(continuous_information(codes, means, log_variances)) == pytest.approx(expected, abs=1e-6)


def test_bounds_add_up_over_codes_and_fixed_std_ignores_log_variances():
    config = InfoGANConfig(num_categories=(2, 3), num_continuous=1)
    codes = Codes(tf.constant([[1, 2]]), tf.constant([[0.25]]))
    outputs = tf.constant([[0.0, 2.0, 1.0, -1.0, 0.5, 0.75, 7.0]])
    categorical, continuous = information_bounds(codes, outputs, config)
    first = math.log(2) + 2 - math.log(1 + math.exp(2))
    second = math.log(3) + 0.5 - math.log(math.exp(1) + math.exp(-1) + math.exp(0.5))
    assert float(categorical) == pytest.approx(first + second, abs=1e-6)
    expected = math.log(2) - 0.5 * math.log(2 * math.pi) - 0.5 * 0.5**2
    assert float(continuous) == pytest.approx(expected, abs=1e-6)
    _, learned = information_bounds(codes, outputs, config.replace(fix_std=False))
    assert float(learned) == pytest.approx(
        math.log(2) - 0.5 * (math.log(2 * math.pi) + 7 + 0.25 * math.exp(-7)), abs=1e-5
    )


# ---------------------------------------------------------------- where the term goes


def bound_gradients(model, variables):
    """Gradients of the weighted bound on freshly generated pictures."""
    inputs, codes = model._inputs("test", 8)
    with tf.GradientTape() as tape:
        _, information = model._read(model.generator(inputs, training=True), codes, training=True)
        total = model._weighted(information)
    return tape.gradient(total, variables)


def test_recognition_shares_the_discriminators_trunk():
    """The bound moves every weight of Q and of D but those of D's last layer."""
    model = tiny_model()
    *trunk, kernel, bias = model.discriminator.trainable_variables
    assert kernel is model.discriminator.get_layer("logits").kernel
    gradients = bound_gradients(model, [*trunk, *model.recognition.trainable_variables])
    assert all(g is not None for g in gradients)
    assert bound_gradients(model, [kernel, bias]) == [None, None]


def test_the_bound_reaches_the_generator():
    model = tiny_model()
    kernels = [v for v in model.generator.trainable_variables if v.name == "kernel"]
    assert all(float(tf.reduce_max(tf.abs(g))) > 0 for g in bound_gradients(model, kernels))


@pytest.mark.parametrize("part", ["categorical", "continuous"])
def test_weights_put_the_bound_into_both_losses(part):
    def losses(weight):
        weights = {"categorical_weight": 0.0, "continuous_weight": 0.0, f"{part}_weight": weight}
        logs = tiny_model(**weights).test_step({"images": tf.constant(pictures(8))})
        return {name: float(value) for name, value in logs.items()}

    without, with_term = losses(0.0), losses(2.0)
    information = without["mutual_information" if part == "categorical" else "continuous_information"]
    for loss in ("d_loss", "g_loss"):
        assert with_term[loss] == pytest.approx(without[loss] - 2 * information, abs=1e-5)


def test_one_generator_pass_per_step():
    model, calls = tiny_model(), []
    call = model.generator.call
    object.__setattr__(model.generator, "call", lambda *a, **k: (calls.append(1), call(*a, **k))[1])
    model.train_step({"images": tf.constant(pictures(4))})
    assert len(calls) == 1


@pytest.mark.slow
def test_codes_become_readable_only_with_the_bound():
    """On noise pictures the two-way code is learnt within seconds; without the term it is not."""
    rates = {"generator_learning_rate": 1e-3, "discriminator_learning_rate": 2e-3}
    found = {}
    for weight in (0.0, 1.0):
        model = tiny_model(categorical_weight=weight, continuous_weight=weight, width=8, **rates)
        history = model.fit(pictures(256), batch_size=32, epochs=30, verbose=0).history
        found[weight] = history["mutual_information"][-1]
    assert found[1.0] > 0.8 * math.log(3)
    assert found[0.0] < 0.2 * math.log(3)


# ---------------------------------------------------------------- codes in and out


def test_generator_input_is_noise_then_categories_then_continuous():
    model = tiny_model(num_categories=(3, 2), num_continuous=2)
    labels, codes = [[2, 0], [1, 1]], [[0.5, -0.5], [2.0, -2.0]]
    inputs = model.sample_inputs(2, seed=1, labels=labels, codes=codes).numpy()
    expected = [[0, 0, 1, 1, 0, 0.5, -0.5], [0, 1, 0, 0, 1, 2.0, -2.0]]
    np.testing.assert_array_equal(inputs[:, 6:], expected)
    np.testing.assert_array_equal(inputs[:, :6], model.sample_inputs(2, seed=1).numpy()[:, :6])


def test_drawn_codes_follow_their_priors():
    model = tiny_model(num_categories=(10, 3))
    labels, continuous = model._draw_codes(6000, lambda part: [1, len(part)])
    for column, size in zip(labels.numpy().T, (10, 3)):
        counts = np.bincount(column, minlength=size)
        assert len(counts) == size
        assert np.abs(counts - 6000 / size).max() < 5 * math.sqrt(6000 / size)
    assert np.abs(continuous).max() <= 1
    assert float(np.var(continuous)) == pytest.approx(1 / 3, rel=0.05)


def test_labels_and_codes_in_their_forms():
    model = tiny_model()
    full = {"labels": np.array([1, 1]), "codes": np.array([[0.5, 0.0], [0.5, 0.0]])}
    images = model.generate(2, seed=3, **full)
    assert images.shape == (2, 8, 8, 1)
    for conditions in (
        {"labels": 1, "codes": [0.5, 0.0]},
        {"codes": {"labels": [1, 1], "continuous": [0.5, 0.0]}},
        {"labels": 1, "codes": {"continuous": [0.5, 0.0]}},
    ):
        np.testing.assert_array_equal(images, model.generate(2, seed=3, **conditions))
    assert np.abs(images - model.generate(2, seed=3, labels=2, codes=[0.5, 0.0])).max() > 0


@pytest.mark.parametrize(
    "conditions, message",
    [
        ({"labels": 3}, r"got \[3\]. Give integers, by categorical code: 0 to 2"),
        ({"labels": [0, -1]}, "0 to 2"),
        ({"labels": [0.0, 1.0]}, "integers"),
        ({"labels": [0, 1, 2]}, r"expected shape \(2,\), got \(3,\)"),
        ({"labels": [[0, 1], [1]]}, "different lengths"),
        ({"codes": [[0.0, 0.0, 0.0]] * 2}, r"shape \(2, 2\), got \(2, 3\)"),
        ({"codes": [[0.0, np.nan]] * 2}, "finite"),
        ({"codes": {"rotation": 1}}, "'rotation'"),
        ({"labels": 1, "codes": {"labels": 1}}, "given twice"),
    ],
)
def test_bad_conditions_are_refused(conditions, message):
    with pytest.raises(ValueError, match=message):
        tiny_model().generate(2, **conditions)


def test_infer_codes_gives_probabilities_and_means():
    model = tiny_model(num_categories=(3, 2))
    images = pictures(5)
    probabilities, means = model.infer_codes(images, batch_size=2)
    assert probabilities.shape == (5, 3 + 2)
    assert means.shape == (5, 2)
    np.testing.assert_allclose(probabilities[:, :3].sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(probabilities[:, 3:].sum(1), 1, atol=1e-6)
    outputs = model.recognition(model.discriminator(images)[1]).numpy()
    np.testing.assert_allclose(probabilities[:, :3], keras.ops.softmax(outputs[:, :3]), atol=1e-6)
    np.testing.assert_allclose(means, outputs[:, 5:7], atol=1e-6)


def test_infer_codes_refuses_other_pictures():
    with pytest.raises(BatchError, match="expected"):
        tiny_model().infer_codes(np.zeros((2, 10, 10, 1), "float32"))


@pytest.mark.parametrize("codes", [{"num_categories": ()}, {"num_continuous": 0}])
def test_one_kind_of_code_is_enough(codes):
    model = tiny_model(**codes)
    history = model.fit(pictures(8), verbose=0).history
    assert np.isfinite([history[name] for name in model.log_names]).all()
    assert model.infer_codes(pictures(2)).probabilities.shape == (2, sum(model.config.categories))


def test_face_version_of_other_sizes_builds():
    model = tiny_model(image_size=(16, 24), channels=3, latent_size=256, num_categories=10)
    assert model.generator.input_shape == (None, 268)
    assert model.generate(1).shape == (1, 16, 24, 3)


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"image_size": 30}, "multiples of 4, got 30"),
        ({"architecture": "celeb_a", "image_size": 6}, "Use sides such as 16, 32 or 64"),
        ({"architecture": "celeb_a", "image_size": 64, "width": 1}, "or more width"),
        ({"num_categories": 1}, "at least 2 categories"),
        ({"num_categories": (), "num_continuous": 0}, "no code at all"),
    ],
)
def test_impossible_configs_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        InfoGANConfig(**overrides)


def test_first_weights_are_those_of_the_released_code():
    """N(0, 0.02), cut at two deviations in D's convolutions; gains of batch norms N(1, 0.02), biases 0."""
    networks = [infogan._mnist_generator(InfoGANConfig()), infogan._mnist_discriminator(InfoGANConfig())]
    seen = []
    for layer in (layer for network in networks for layer in network.layers if layer.weights):
        kind = type(layer).__name__
        weight, bias = (np.array(w) for w in layer.weights[:2])
        seen.append(kind)
        assert not bias.any()
        center, deviation = (1, 0.02) if kind == "BatchNormalization" else (0, 0.02)
        shifted = weight.ravel() - center
        assert abs(shifted.mean()) < 0.02
        if kind == "Conv2D":
            assert 0.03 < np.abs(shifted).max() <= 0.04
        else:
            assert shifted.std() == pytest.approx(deviation, rel=0.3)
    assert [seen.count(kind) for kind in ("BatchNormalization", "Conv2D", "Conv2DTranspose")] == [5, 2, 2]
