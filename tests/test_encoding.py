"""Models with an encoder: encode and reconstruct, the exported signature, the KL term, the drawn latents."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import held_out, make_fields, tiny
from scipy import stats

import tf_gan_zoo as zoo
from tf_gan_zoo import published
from tf_gan_zoo.batch_spec import BatchError
from tf_gan_zoo.encoding import EncodingGAN, kl_to_standard_normal, normal_sample
from tf_gan_zoo.metrics import tasks
from tf_gan_zoo.penalties import half_squared_norm
from tf_gan_zoo.registry import get_spec

ENCODING = [name for name in zoo.list_models() if issubclass(get_spec(name).cls, EncodingGAN)]


@pytest.fixture(scope="module", params=ENCODING)
def model(request):
    return tiny(request.param)


def test_encode_and_reconstruct(model):
    images = make_fields(model, 5)["images"]
    latents = model.encode(images, batch_size=2)
    assert latents.shape == (5, model.config.latent_size)
    assert latents.dtype == np.float32
    np.testing.assert_allclose(model.encode(images), latents, atol=1e-6)
    np.testing.assert_allclose(model.encode(images[0]), latents[:1], atol=1e-6)
    pictures = model.reconstruct(images)
    assert pictures.shape == images.shape
    np.testing.assert_allclose(pictures, model.generator(latents, training=False), atol=1e-5)
    low, high = model.batch_spec["images"].value_range
    assert low <= pictures.min() <= pictures.max() <= high


def test_pictures_that_do_not_fit_are_refused(model):
    images = make_fields(model, 2)["images"]
    for method in (model.encode, model.reconstruct):
        with pytest.raises(BatchError, match="They look like 0..255"):
            method(np.round(255 * np.abs(images)))
        with pytest.raises(BatchError, match="Resize the data"):
            method(images[:, :4])
        with pytest.raises(BatchError, match="NaN"):
            method(np.full_like(images, np.nan))


def test_the_signature_encode_gives_what_encode_gives(model):
    endpoint = model.endpoints["encode"]
    images = model.example_inputs(endpoint, 3, {"images": model.batch_spec["images"].shape[:2]})["images"]
    assert images.shape == (3, *model.batch_spec["images"].shape)
    np.testing.assert_allclose(endpoint.run({"images": images})["latents"], model.encode(images), atol=1e-6)
    assert list(model.endpoints) == ["generate", "encode"]


def test_measure_tells_a_generator_that_ignores_its_latents(model):
    examples = {**make_fields(model, 6), "labels": np.array([0, 0, 0, 1, 1, 1])}
    results = model.measure(examples)
    images, pictures = examples["images"], model.reconstruct(examples["images"])
    assert results["reconstruction_l1"] == pytest.approx(np.abs(pictures - images).mean(), rel=1e-4)
    mean_error = np.abs(images - images.mean(axis=0)).mean()
    assert results["reconstruction_l1_baseline"] == pytest.approx(mean_error, rel=1e-4)
    others = np.abs(pictures - images[[5, 0, 1, 2, 3, 4]]).mean()
    assert results["mismatch_l1"] == pytest.approx(others, rel=1e-4)
    assert 0 <= results["code_accuracy"] <= 1


def test_neighbours_accuracy_leaves_the_example_itself_out():
    features = np.array([0.0, 1.0, 3.0, 3.5])[:, None]
    assert tasks.neighbours_accuracy(features, np.array([0, 0, 1, 1])) == 1.0
    assert tasks.neighbours_accuracy(features, np.array([0, 1, 2, 2])) == 0.5


def test_half_squared_norm_is_weight_decay():
    variables = [tf.Variable([[3.0, 0.0]]), tf.Variable([4.0])]
    with tf.GradientTape() as tape:
        value = half_squared_norm(variables)
    assert float(value) == 12.5
    for gradient, variable in zip(tape.gradient(value, variables), variables):
        np.testing.assert_array_equal(gradient, variable)


# -------------------------------------------------------------------- normal latents


def test_kl_by_hand():
    """Of N(1, 4): (1 + 4 - 1 - ln 4) / 2; of N(0, 1): 0."""
    means = np.array([[1.0, 0.0], [0.0, 0.0]], "float32")
    log_variances = np.array([[np.log(4.0), 0.0], [0.0, 0.0]], "float32")
    expected = [(4 - np.log(4)) / 2, 0.0]
    np.testing.assert_allclose(kl_to_standard_normal(means, log_variances), expected, atol=1e-6)


def test_kl_against_monte_carlo():
    rng = np.random.default_rng(0)
    means, log_variances = rng.normal(size=(2, 3)).astype("float32")
    stds = np.exp(log_variances / 2)
    drawn = rng.normal(means, stds, (200_000, 3))
    ratios = (stats.norm.logpdf(drawn, means, stds) - stats.norm.logpdf(drawn)).sum(axis=1)
    estimate, error = ratios.mean(), ratios.std() / np.sqrt(len(ratios))
    value = float(kl_to_standard_normal(means[None], log_variances[None])[0])
    assert value == pytest.approx(estimate, abs=4 * error)


def test_drawn_latents_have_the_gradient_of_an_expectation():
    """E z^2 = mean^2 + variance, so the mean gradient is 2 mean and, by the log-variance, the variance."""
    mean, log_variance = tf.Variable([[0.7]]), tf.Variable([[np.log(0.25).astype("float32")]])
    noise = np.random.default_rng(0).normal(size=(400_000, 1)).astype("float32")
    with tf.GradientTape() as tape:
        drawn = normal_sample(mean, log_variance, noise)
        value = tf.reduce_mean(tf.square(drawn))
    assert (np.mean(drawn), np.std(drawn)) == (pytest.approx(0.7, abs=0.01), pytest.approx(0.5, abs=0.01))
    by_mean, by_log_variance = (float(g[0, 0]) for g in tape.gradient(value, [mean, log_variance]))
    assert by_mean == pytest.approx(1.4, abs=0.01)
    assert by_log_variance == pytest.approx(0.25, abs=0.01)


# -------------------------------------------------------------------- trained weights

TRAINED = [recipe for recipe in published.manifest() if recipe.split(".")[0] in ENCODING]


@pytest.mark.parametrize("recipe", TRAINED)
def test_trained_weights_reconstruct_better_than_none(recipe):
    """Reconstructions are nearer to their own pictures than to others; adversarial ones the least so."""
    examples = held_out(recipe, 400)
    trained = zoo.get(recipe, weights="pretrained").measure(examples)
    untrained = zoo.get(recipe).measure(examples)
    margin = {"ali": 0.9, "bigan": 0.7}.get(recipe.split(".")[0], 0.4)
    assert trained["reconstruction_l1"] < margin * trained["mismatch_l1"]
    assert trained["reconstruction_l1"] < 0.7 * untrained["reconstruction_l1"]
