"""What ALI's paper claims: latents drawn by the encoder, one game over pairs, the tables of its networks."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import make_fields, tiny

import tf_gan_zoo as zoo
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.layers import SeededDropout
from tf_gan_zoo.models.ali import ALI, ALIConfig, _activated


@pytest.fixture(scope="module")
def model():
    return tiny("ali")


def maps_of(network, kind):
    return [x.output.shape[1] for x in network.layers if type(x) is kind]


@pytest.mark.parametrize("architecture, down, up", [
    ("cifar10", [28, 13, 10, 4, 1], [4, 10, 13, 28, 32, 32]),
    ("celeb_a", [63, 29, 13, 4, 1], [4, 13, 29, 63, 64]),
])  # fmt: skip
def test_convolutions_without_padding_meet_one_pixel(architecture, down, up):
    size = 64 if architecture == "celeb_a" else 32
    model = ALI(ALIConfig(architecture=architecture, image_size=size, shrink=16))
    assert maps_of(model.encoder, keras.layers.Conv2D) == down
    assert maps_of(model.discriminator, keras.layers.Conv2D) == down
    assert maps_of(model.generator, keras.layers.Conv2DTranspose) == up
    assert model.generator.output_shape == (None, size, size, 3)


def test_only_the_ends_have_biases():
    model = tiny("ali", architecture="cifar10", channels=3)
    biases = {
        name: [v.shape for v in network.trainable_variables if v.name == "bias"]
        for name, network in model.networks.items()
    }
    assert biases["generator"] == [(32, 32, 3)]
    assert biases["encoder"] == [(4,), (4,)]
    norms = [x for x in model.discriminator.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert not norms
    svhn = tiny("ali")
    assert len([x for x in svhn.discriminator.layers if isinstance(x, keras.layers.BatchNormalization)]) == 4
    slopes = {x.negative_slope for x in svhn.encoder.layers if isinstance(x, keras.layers.LeakyReLU)}
    assert slopes == {0.01}


@pytest.mark.parametrize("architecture, rates", [
    ("cifar10", [0.2, 0.2, *[0.5] * 8]), ("svhn", [0.2] * 10),
])  # fmt: skip
def test_dropout(architecture, rates):
    model = tiny("ali", architecture=architecture)
    found = [x.rate for x in model.discriminator.layers if isinstance(x, SeededDropout)]
    assert sorted(found) == rates


def test_numbers_of_the_released_code():
    model = tiny("ali", architecture="cifar10", channels=3, initial_std=ALIConfig().initial_std)
    for network in model.networks.values():
        kernels = [np.ravel(x.kernel) for x in network.layers if hasattr(x, "kernel")]
        assert np.std(np.concatenate(kernels)) == pytest.approx(0.01, rel=0.1)
        norms = [x for x in network.layers if isinstance(x, keras.layers.BatchNormalization)]
        assert {(x.momentum, x.epsilon) for x in norms} <= {(0.95, 1e-4)}
    optimizer = ALI(ALIConfig(shrink=16)).make_optimizer("generator")
    numbers = (float(optimizer.learning_rate), optimizer.beta_1, optimizer.beta_2, optimizer.epsilon)
    assert numbers == pytest.approx((1e-4, 0.5, 0.999, 1e-8))


def test_maxout_takes_neighbouring_channels():
    values = np.random.default_rng(0).normal(size=(2, 3, 3, 6)).astype("float32")
    inputs = keras.Input((3, 3, 6))
    layer = keras.Model(inputs, _activated(inputs, ALIConfig()))
    expected = np.maximum(values[..., ::2], values[..., 1::2])
    np.testing.assert_array_equal(layer(values), expected)


def test_generator_starts_at_the_mean_picture():
    model = tiny("ali", initial_std=0.01)
    images = make_fields(model, 8)["images"]
    model.before_first_step(tf.data.Dataset.from_tensor_slices({"images": images}).batch(4))
    for picture in model.generate(2):
        np.testing.assert_allclose(picture, images.mean(axis=0), atol=1e-3)
    model.before_first_step(tf.data.Dataset.from_tensor_slices({"images": 0 * images}).batch(4))
    np.testing.assert_allclose(model.generate(1)[0], images.mean(axis=0), atol=1e-3)


# -------------------------------------------------------------------- the game


def watched(model, images, training=False):
    """The pairs that D gets in a step, and its logits."""
    seen, call = [], model.discriminator.call
    object.__setattr__(model.discriminator, "call", lambda x, **k: (seen.append(x), call(x, **k))[1])
    try:
        logits = model._judge(tf.constant(images), "", training=training)
    finally:
        object.__setattr__(model.discriminator, "call", call)
    return seen, logits


def test_pairs_pass_the_discriminator_as_one_batch(model):
    images = make_fields(model, 3)["images"]
    (pairs,), logits = watched(model, images)
    latents = model.latents("prior", 3)
    np.testing.assert_array_equal(pairs["images"][::2], images)
    np.testing.assert_array_equal(pairs["latents"][1::2], latents)
    np.testing.assert_allclose(pairs["images"][1::2], model.generator(latents, training=False), atol=1e-6)
    both = model.discriminator(pairs, training=False)
    np.testing.assert_allclose(np.concatenate(logits), np.concatenate([both[::2], both[1::2]]), atol=1e-6)


def test_codes_are_drawn_with_the_encoders_sigma():
    """z^ = mean + exp(log sigma) noise: with log sigma 1 and noise of variance 1, a deviation of e."""
    model = tiny("ali")
    head = model.encoder.get_layer("log_stds")
    head.kernel.assign(tf.zeros_like(head.kernel))
    head.bias.assign(tf.ones_like(head.bias))
    images = make_fields(model, 100)["images"]
    (pairs,), _ = watched(model, images)
    drawn = np.asarray(pairs["latents"][::2]) - model.encode(images)
    assert drawn.std() == pytest.approx(np.e, rel=0.1)
    noise = np.asarray(model.latents("posterior", 100))
    np.testing.assert_allclose(drawn, np.e * noise, rtol=1e-3, atol=1e-5)


def test_losses_are_softplus_with_the_labels_swapped():
    model = tiny("ali")
    images = make_fields(model, 4)["images"]
    real, fake = (np.asarray(x) for x in model._judge(tf.constant(images), "validation ", training=False))
    logs = model.test_step({"images": tf.constant(images)})

    def softplus(x):
        return np.log1p(np.exp(x)).mean()

    assert float(logs["d_loss"]) == pytest.approx(softplus(-real) + softplus(fake), rel=1e-5)
    assert float(logs["g_loss"]) == pytest.approx(softplus(real) + softplus(-fake), rel=1e-5)


@pytest.mark.parametrize("architecture", ["cifar10", "svhn"])
def test_the_discriminator_sees_both_parts(architecture):
    model = tiny("ali", architecture=architecture, initial_std=0.5)
    images = make_fields(model, 2)["images"]
    latents = np.random.default_rng(0).normal(size=(2, 4)).astype("float32")
    pairs = {"images": images[[0, 0, 1, 1]], "latents": latents[[0, 1, 0, 1]]}
    logits = model.discriminator(pairs, training=False).numpy().ravel()
    assert len(np.unique(logits)) == 4


def test_features_are_the_last_hidden_layer(model):
    images = make_fields(model, 3)["images"]
    features = model.features(images)
    assert features.shape == (3, 512 // 16)
    head = model.encoder.get_layer("latents")
    np.testing.assert_allclose(features @ np.array(head.kernel), model.encode(images), rtol=1e-4, atol=1e-5)


def test_maxout_trains():
    model = tiny("ali", architecture="cifar10")
    logs = model.train_step({"images": tf.constant(make_fields(model, 4)["images"])})
    assert all(np.isfinite(float(value)) for value in logs.values())


@pytest.mark.parametrize("overrides, message", [
    ({"image_size": 28}, "takes pictures of 32x32, got 28"),
    ({"architecture": "celeb_a"}, "takes pictures of 64x64, got 32"),
])  # fmt: skip
def test_other_sizes_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        ALIConfig(**overrides)


def test_registered_under_both_tasks():
    assert "ali" in zoo.list_models("features")
    assert "ali" in zoo.list_models("generation")
