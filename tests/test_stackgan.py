"""StackGAN's claims: the augmentation and its KL term by hand, what each phase trains, and both stages."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import make_dataset, make_fields, tiny

import tf_gan_zoo as zoo
from tf_gan_zoo.batch_spec import BatchError
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.models import stackgan
from tf_gan_zoo.models.stackgan import StackGANConfig


@pytest.fixture(scope="module")
def model():
    """Tiny, its first weights large enough for pictures to differ."""
    return tiny("stackgan", initial_std=0.3)


def test_kl_term_against_numerical_integration():
    mean, log_sigma = np.array([[0.7, -1.2]]), np.array([[0.3, -0.5]])
    x = np.linspace(-12, 12, 200_001)[:, None]
    sigma = np.exp(log_sigma)
    density = np.exp(-0.5 * ((x - mean) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    log_ratio = -0.5 * ((x - mean) / sigma) ** 2 - log_sigma + 0.5 * x**2
    expected = (density * log_ratio).sum(0) * (x[1, 0] - x[0, 0])
    kl = stackgan.kl_to_standard_normal(tf.constant(mean), tf.constant(log_sigma))
    np.testing.assert_allclose(kl, expected.mean(), rtol=1e-6)
    assert stackgan.kl_to_standard_normal(tf.zeros((2, 3)), tf.zeros((2, 3))) == 0


def test_augmentation_is_mean_plus_sigma_times_noise(model):
    """The same z gives other pictures with other noise, and both stages have noise of their own."""
    text = model.encode_text(["red heart"])
    latents = np.random.default_rng(0).normal(0, 1, (1, model.latent_size)).astype("float32")
    assert latents.shape[1] == 4 + 4 + 4
    stacked = model.run({"latents": latents, "text": text}, network="stacked_network")
    for place, name in ((5, "small"), (9, "images")):  # a number of the noise of Stage I, of Stage II
        moved = latents.copy()
        moved[:, place] += 3
        other = model.run({"latents": moved, "text": text}, network="stacked_network")
        assert np.abs(other[name] - stacked[name]).max() > 1e-4
        assert place == 5 or (other["small"] == stacked["small"]).all()
    made = model.run({"latents": latents[:, :8], "text": text}, network="generator_one")
    assert made["mean"].shape == made["log_sigma"].shape == (1, 4)


def test_losses_against_numpy():
    model = tiny("stackgan", initial_std=0.1)
    fields = make_fields(model, 4)
    labels, text = np.array([0, 0, 1, 1], "int32"), model.embed(tf.constant(fields["captions"]))
    real = fields["images"]
    images = {"real": real, "wrong": np.roll(real, -1, axis=0), "fake": real[::-1].copy()}
    p = {n: model.match_score(x, list(fields["captions"])).astype("float64") for n, x in images.items()}
    of_another = np.array([False, True, False, True])
    negative = np.log(1 - p["wrong"])[of_another].mean() + np.log(1 - p["fake"]).mean()
    given = (*map(tf.constant, (real, labels)), text, tf.constant(images["fake"]))
    loss = model._discriminator_loss("two", *given, training=False)
    np.testing.assert_allclose(loss, -np.log(p["real"]).mean() - 0.5 * negative, rtol=1e-4)


def test_each_stage_moves_only_its_own_weights():
    """Stage I, its batch norm's moving averages included, stands still while Stage II learns."""
    model = tiny("stackgan", initial_std=0.1)
    model.run_eagerly = True
    batches = make_dataset(model, steps=3)
    trained = ("text_encoder", "generator_one discriminator_one", "generator_two discriminator_two")
    for step, (batch, names) in enumerate(zip(batches, map(str.split, trained))):
        model.set_phase_at(step)
        before = {n: network.get_weights() for n, network in model.networks.items()}
        model.train_on_batch(batch)
        for name, network in model.networks.items():
            same = all((a == b).all() for a, b in zip(before[name], network.get_weights()))
            assert same == (name not in names), (step, name)


def test_first_weights_and_rates_are_those_of_the_released_code():
    """Dense layers N(0, 0.02) without Torch's biases; Adam, halved every 50 and 100 epochs of 138 steps."""
    model = tiny("stackgan", initial_std=0.02, text_code_size=64, code_size=64)
    for name in ("generator_one", "generator_two", "discriminator_one", "discriminator_two"):
        dense = next(x for x in getattr(model, name).layers if isinstance(x, keras.layers.Dense))
        assert np.std(dense.kernel) == pytest.approx(0.02, rel=0.15)
        assert not np.any(dense.bias)
        optimizer, steps = model.make_optimizer(name), 138 * (100 if name.endswith("two") else 50)
        rates = [float(optimizer._learning_rate(k)) for k in (0, steps - 1, steps)]
        np.testing.assert_allclose(rates, [2e-4, 2e-4, 1e-4], rtol=1e-6)
        assert (optimizer.beta_1, optimizer.epsilon) == (0.5, 1e-8)


def test_kl_weight_pulls_the_augmentation_to_the_normal_distribution():
    model = tiny("stackgan", text_steps=0, stage_two_start=200, kl_weight=50.0, learning_rate=5e-2)
    model.run_eagerly = True
    network = model.generator_one.layers[1 + [x.name for x in model.generator_one.layers].index("text")]
    assert network.weights[0].shape == (8, 8)  # the augmentation's dense layer
    network.weights[1].assign([1.0] * 8)
    batch = next(iter(make_dataset(model, steps=1)))
    logs = []
    for _ in range(12):
        logs.append(float(model.train_on_batch(batch, return_dict=True)["kl_loss"]))
        model.reset_metrics()
    assert logs[-1] < 0.5 * logs[0]


def test_two_stages_from_captions(model):
    captions = ["red heart", "blue car", "star"]
    small, large = model.stages(captions, seed=4)
    assert (small.shape, large.shape) == ((3, 16, 16, 3), (3, 32, 32, 3))
    np.testing.assert_allclose(large, model.generate(captions=captions, seed=4), atol=1e-6)
    np.testing.assert_allclose(large, model.refine(small, captions, seed=4), atol=1e-5)
    assert model.sample_pictures(16).shape == (1, 64, 256, 3)
    with pytest.raises(BatchError, match="'images': expected"):
        model.refine(large, captions)
    with pytest.raises(ValueError, match="one caption or 3"):
        model.refine(small, captions[:2])


def test_small_pictures_are_means_of_squares(model):
    images = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype("float32")
    expected = images.reshape(2, 16, 2, 16, 2, 3).mean((2, 4))
    np.testing.assert_allclose(model.shrink(images), expected, atol=1e-6)
    assert stackgan.enlarge(expected, 2).shape == images.shape


def test_measures_prefer_the_truth():
    images = np.random.default_rng(1).uniform(-1, 1, (6, 8, 8, 3))
    labels = np.array([0, 0, 1, 1, 2, 2])
    blurred = tf.image.resize(tf.image.resize(images, (4, 4)), (8, 8)).numpy()
    assert stackgan.roughness(blurred) < stackgan.roughness(images)
    assert stackgan.rmse_within_classes(images, images, labels) == pytest.approx(0, abs=1e-6)
    swapped = stackgan.rmse_within_classes(images[::-1], images, labels)
    assert swapped > stackgan.rmse_within_classes(blurred, images, labels) > 0


def test_configs_that_do_not_fit_are_refused():
    wrong = {
        "multiples of 64": {"image_size": 100}, "multiple of enlargement": {"width": 6},
        "above text_steps": {"stage_two_start": 5}, "1024": {"text_size": 8},
    }  # fmt: skip
    for message, values in wrong.items():
        with pytest.raises(ConfigError, match=message):
            StackGANConfig(**values)


def test_listed_for_text_to_image():
    assert "stackgan" in zoo.list_models("text_to_image")
