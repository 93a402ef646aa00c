"""What VAE/GAN's paper claims: the learned similarity, which loss reaches which network, the equilibrium."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import make_fields, tiny

from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.models.vae_gan import VAEGAN, Outputs, VAEGANConfig, half_squared_distance

LN_2 = np.log(2.0)


@pytest.fixture(scope="module")
def model():
    return tiny("vae_gan")


def outputs_of(real, fakes):
    """Outputs with these logits, where nothing else matters."""
    real, *fakes = (tf.constant(logits, shape=(1, 1), dtype=tf.float32) for logits in (real, *fakes))
    return Outputs(tf.zeros(1), tf.zeros(1), real, fakes)


def gradients(loss_of, model, player):
    images = tf.constant(make_fields(model, 4)["images"])
    with tf.GradientTape() as tape:
        loss = loss_of(model._forward(images, "", training=True))
    return tape.gradient(loss, model.player_variables(player))


def test_the_tables_layers():
    model = VAEGAN(VAEGANConfig())
    convs = {
        name: [(x.filters, x.kernel_size[0], x.strides[0]) for x in network.layers if hasattr(x, "filters")]
        for name, network in model.networks.items()
    }
    assert convs == {
        "encoder": [(64, 5, 2), (128, 5, 2), (256, 5, 2)],
        "generator": [(256, 5, 2), (128, 5, 2), (32, 5, 2), (3, 5, 1)],
        "discriminator": [(32, 5, 1), (128, 5, 2), (256, 5, 2), (256, 5, 2)],
    }
    assert model.discriminator.output_shape == [(None, 1), (None, 8, 8, 256)]
    norms = [x for x in model.discriminator.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert len(norms) == 4  # none behind the first convolution
    features = model.discriminator.get_layer("features")
    assert isinstance(features.input._keras_history.operation, keras.layers.Conv2D)
    assert isinstance(model.make_optimizer("encoder"), keras.optimizers.RMSprop)


def test_similarity_by_hand():
    a, b = np.zeros((2, 1, 1, 2), "float32"), np.array([[[[3.0, 4.0]]], [[[0.0, 1.0]]]], "float32")
    np.testing.assert_allclose(half_squared_distance(a, b), [12.5, 0.5])


def test_similarity_is_that_of_the_discriminators_features(model):
    images = tf.constant(make_fields(model, 3)["images"])
    outputs = model._forward(images, "", training=False)
    means, log_variances = model.encoder(images, training=False)
    drawn = means + tf.exp(log_variances / 2) * model.latents("posterior", 3)
    pictures = model.generator(drawn, training=False)
    features = [np.asarray(model.discriminator(x, training=False)[1]) for x in (images, pictures)]
    expected = 0.5 * np.square(features[0] - features[1]).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(outputs.similarity, expected, rtol=1e-4)
    samples = model.generator(model.latents("prior", 3), training=False)
    for logits, made in zip(outputs.fake_logits, (pictures, samples)):
        np.testing.assert_allclose(logits, model.discriminator(made, training=False)[0], atol=1e-5)


def test_losses_by_hand():
    """D weighs data 1/2 and fakes 1/4 each; the decoder maximises -log(1 - Dis) of both, and gamma L."""
    model = tiny("vae_gan", similarity_weight=0.1)
    outputs = outputs_of(1.0, [2.0, -1.0])._replace(similarity=tf.constant([3.0]), kl=tf.constant([5.0]))
    d_loss, g_loss, similarity, kl = (float(x) for x in model._objectives(outputs))
    dis = 1 / (1 + np.exp(-np.array([1.0, 2.0, -1.0])))
    logs = np.log([dis[0], 1 - dis[1], 1 - dis[2]])
    assert d_loss == pytest.approx(-(0.5 * logs[0] + 0.25 * logs[1] + 0.25 * logs[2]), rel=1e-5)
    assert g_loss == pytest.approx(0.3 + logs[1] + logs[2], rel=1e-5)
    assert (similarity, kl) == (3.0, 5.0)
    non_saturating = tiny("vae_gan", similarity_weight=0.1, loss="non_saturating")
    expected = 0.3 - np.log(dis[1]) - np.log(dis[2])
    assert float(non_saturating._objectives(outputs)[1]) == pytest.approx(expected, rel=1e-5)


def test_without_discriminated_reconstructions_samples_alone_are_fakes():
    model = tiny("vae_gan", discriminate_reconstructions=False)
    outputs = model._forward(tf.constant(make_fields(model, 3)["images"]), "", training=False)
    samples = model.generator(model.latents("prior", 3), training=False)
    (logits,) = outputs.fake_logits
    np.testing.assert_allclose(logits, model.discriminator(samples, training=False)[0], atol=1e-5)


def test_each_loss_reaches_its_network_only():
    """One step of gradient descent is algorithm 1: every player follows its own loss and no other."""
    model = tiny("vae_gan", similarity_weight=0.01, weight_decay=0.0, equilibrium_margin=None)
    model.compile({player: keras.optimizers.SGD(1.0) for player in model.players})

    def log_of_fakes(outputs):
        return sum(tf.reduce_mean(tf.math.log(1 - tf.sigmoid(logits))) for logits in outputs.fake_logits)

    def log_of_data(outputs):
        return tf.reduce_mean(tf.math.log(tf.sigmoid(outputs.real_logits)))

    losses = {
        "encoder": lambda o: tf.reduce_mean(o.kl + o.similarity),
        "generator": lambda o: 0.01 * tf.reduce_mean(o.similarity) + log_of_fakes(o),
        "discriminator": lambda o: -0.5 * log_of_data(o) - 0.25 * log_of_fakes(o),
    }
    expected = {player: gradients(loss, model, player) for player, loss in losses.items()}
    before = {p: [v.numpy().copy() for v in model.player_variables(p)] for p in model.players}
    model.train_step({"images": tf.constant(make_fields(model, 4)["images"])})
    for player in model.players:
        for old, new, gradient in zip(before[player], model.player_variables(player), expected[player]):
            scale = max(np.abs(gradient).max(), 1e-3)
            np.testing.assert_allclose(old - new.numpy(), gradient, atol=1e-3 * scale)


def test_decay_and_epsilon_are_those_of_gradients_summed_over_the_batch():
    """As in DeepPy: with g the sum over 4 examples, a weight w moves by rate (g + 2 d w) / (rms + 1e-8)."""
    model = tiny("vae_gan", weight_decay=0.1, learning_rate=0.01)
    for player in model.players:
        optimizer, variables = model.player_optimizer(player), model.player_variables(player)
        with tf.GradientTape() as tape:
            decay = model._decay(player)
        kernels = [v for v in variables if v.name == "kernel"]
        for kernel, gradient in zip(kernels, tape.gradient(decay, kernels), strict=True):
            np.testing.assert_allclose(4 * gradient, 0.2 * kernel, rtol=1e-5)
        mean = np.full((2, 2), 1e-9, "float32")  # not far above epsilon
        kernel = keras.Variable(np.zeros((2, 2)))
        fresh = model.make_optimizer(player)
        fresh.apply([mean], [kernel])
        expected = -0.01 * 4e-9 / (np.sqrt(0.1) * 4e-9 + 1e-8)
        np.testing.assert_allclose(kernel, np.full((2, 2), expected), rtol=1e-4)
        assert type(optimizer) is type(fresh)


@pytest.mark.parametrize("real, fake, learn", [
    (0.0, 0.0, {"generator": True, "discriminator": True}),  # costs ln 2: nobody wins
    (4.0, 0.0, {"generator": True, "discriminator": False}),  # D is sure of the data
    (-4.0, 0.0, {"generator": False, "discriminator": True}),  # D takes data for samples
    (0.0, 4.0, {"generator": False, "discriminator": True}),  # D takes samples for data
    (4.0, 4.0, {"generator": True, "discriminator": True}),  # both would rest, so neither does
])  # fmt: skip
def test_equilibrium_rule(real, fake, learn):
    model = tiny("vae_gan", equilibrium_margin=0.35)
    found = model._learns(outputs_of(real, [fake, fake]))
    assert {player: bool(value) for player, value in found.items()} == learn


@pytest.mark.parametrize("bias, rests", [(0.8, "generator"), (0.0, None)])
def test_a_resting_player_does_not_move(bias, rests):
    model = tiny("vae_gan", equilibrium_margin=0.35)
    logits = model.discriminator.get_layer("logits")
    logits.kernel.assign(tf.zeros_like(logits.kernel))
    logits.bias.assign([bias])  # 0.8 takes everything for data, a little: D must learn, the decoder rests
    before = {p: [v.numpy().copy() for v in model.player_variables(p)] for p in model.players}
    model.train_step({"images": tf.constant(make_fields(model, 4)["images"])})
    moved = {
        player for player, values in before.items()
        if any((old != new.numpy()).any() for old, new in zip(values, model.player_variables(player)))
    }  # fmt: skip
    assert moved == set(model.players) - {rests}


def test_attribute_vector(model):
    images = make_fields(model, 4)["images"]
    shown = np.array([True, False, True, False])
    latents = model.encode(images)
    expected = (latents[0] + latents[2] - latents[1] - latents[3]) / 2
    np.testing.assert_allclose(model.attribute_vector(images, shown), expected, atol=1e-6)
    for wrong, message in [(shown[:3], "booleans of shape"), (np.arange(4), "booleans of shape"),
                           (shown | True, "and pictures without it")]:  # fmt: skip
        with pytest.raises(ValueError, match=message):
            model.attribute_vector(images, wrong)


def test_pictures_too_small_are_refused():
    with pytest.raises(ConfigError, match="no less than 4 pixels, got 6"):
        VAEGANConfig(image_size=6)
