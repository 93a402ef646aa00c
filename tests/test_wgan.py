"""What the WGAN paper claims: clipped weights, a trained critic before each update of G, no saturation."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import difference, make_dataset, make_fields, snapshot, tiny

from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.models.wgan import WGAN, WGANConfig, updates_generator


def critic_updates_before_each(num_iterations, config):
    """Algorithm of the released code: how many critic updates precede each update of G."""
    return [
        config.burst_critic_updates
        if i < config.num_first_bursts or i % config.burst_interval == 0 else config.n_critic
        for i in range(num_iterations)
    ]  # fmt: skip


@pytest.mark.parametrize("overrides", [
    {}, {"num_first_bursts": 1}, {"n_critic": 1, "burst_interval": 30}, {"burst_critic_updates": 5},
    {"n_critic": 4, "num_first_bursts": 7, "burst_interval": 7, "burst_critic_updates": 8},
])  # fmt: skip
def test_bursts_are_those_of_the_released_code(overrides):
    config = WGANConfig(**overrides)
    expected = critic_updates_before_each(1700, config)
    due = updates_generator(np.arange(sum(expected) // config.n_critic), config).numpy()
    steps = np.flatnonzero(due)
    counts = np.diff(np.concatenate([[-1], steps])) * config.n_critic
    np.testing.assert_array_equal(counts, expected)


def test_weights_stay_inside_the_clip_and_the_generator_waits():
    model = tiny("wgan", clip=0.01, burst_critic_updates=6, num_first_bursts=1, burst_interval=4)
    batches = make_dataset(model, 7)
    largest, moved = [], []

    class Watch(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.before = [v.numpy() for v in model.generator.trainable_variables]

        def on_train_batch_end(self, batch, logs=None):
            after = [v.numpy() for v in model.generator.trainable_variables]
            moved.append(difference(self.before, after) > 0)
            largest.append(max(np.abs(v).max() for v in model.discriminator.trainable_variables))

    model.fit(batches, callbacks=[Watch()], verbose=0)
    assert moved == [False, False, True, True, True, True, False]
    assert max(largest) <= np.float32(0.01)
    assert min(largest) == np.float32(0.01)
    assert int(model.discriminator_optimizer.iterations) == 14
    assert int(model.generator_optimizer.iterations) == 4


def test_two_replicas_wait_together(mirrored):
    def train():
        model = tiny(
            "wgan", sync_batch_norm=True, burst_critic_updates=4, num_first_bursts=1, burst_interval=3
        )
        model.compile({player: keras.optimizers.SGD(1e-2) for player in model.players})
        model.fit(make_dataset(model, 4), verbose=0)
        return model

    single = train()
    with mirrored.scope():
        double = train()
    assert int(double.generator_optimizer.iterations.numpy()) == 3
    assert difference(snapshot(single), snapshot(double)) < 1e-5


def test_accumulated_gradients_wait_for_the_burst():
    """Two batches make an update, so a burst of four updates takes four steps instead of two."""
    model = tiny("wgan", accumulation_steps=2, burst_critic_updates=4, num_first_bursts=1, burst_interval=3)
    iterations = []
    for _ in range(4):
        model.fit(make_dataset(model, 2), verbose=0)
        iterations.append(int(model.generator_optimizer.iterations))
    assert iterations == [0, 1, 2, 3]


def test_a_run_is_resumed_in_the_middle_of_a_burst(tmp_path):
    settings = {"burst_critic_updates": 8, "num_first_bursts": 2, "burst_interval": 3}
    model = tiny("wgan", **settings)
    model.fit(make_dataset(model, 5), verbose=0)
    model.save_weights(tmp_path / "model.weights.h5")
    resumed = tiny("wgan", **settings)
    resumed.load_weights(tmp_path / "model.weights.h5")
    for each in (model, resumed):
        each.fit(make_dataset(each, 4, seed=1), verbose=0)
    assert int(resumed.generator_optimizer.iterations) == 3
    assert difference(snapshot(model), snapshot(resumed)) == 0.0


def test_every_critic_update_sees_a_fresh_batch_and_fresh_fakes():
    model, seen, purposes = tiny("wgan"), [], []
    update = model._update_critic
    model._update_critic = lambda real, purpose: (
        seen.append(np.asarray(real)), purposes.append(purpose), update(real, purpose)
    )[2]  # fmt: skip
    images = make_fields(model, 8)["images"]
    model.train_step({"images": tf.constant(images)})
    assert np.array_equal(np.sort(np.concatenate(seen), axis=0), np.sort(images, axis=0))
    assert len(set(purposes)) == 2


def test_the_estimate_falls_with_the_distance_where_other_divergences_do_not():
    """Clouds with nothing in common: JSD is log 2 for all, the estimate follows the distance."""
    estimates = []
    for shift in (0.1, 0.4, 1.6):
        model = tiny("wgan", learning_rate=1e-3, clip=0.1)
        noise = np.random.default_rng(0).uniform(-0.02, 0.02, (2, 16, 8, 8, 1)).astype("float32")
        real, fake = tf.constant(noise[0] + shift / 2), tf.constant(noise[1] - shift / 2)
        object.__setattr__(model, "generator", lambda latents, training, fake=fake: fake)
        update = tf.function(model._update_critic, autograph=False)
        for _ in range(100):
            loss = update(real, "test")
        estimates.append(-float(loss))
    assert estimates[0] > 0
    assert estimates[1] > 2 * estimates[0]
    assert estimates[2] > 2 * estimates[1]


def test_rmsprop_is_torchs():
    optimizer, variable = WGAN(WGANConfig()).make_optimizer("generator"), keras.Variable([0.0, 0.0])
    value, square = np.zeros(2), 0.0
    for gradient in (np.array([1e-4, 3.0]), np.array([-2e-4, 1.0])):
        square = 0.99 * square + 0.01 * gradient**2
        value = value - 5e-5 * gradient / (np.sqrt(square) + 1e-8)
        optimizer.apply([tf.constant(gradient, tf.float32)], [variable])
    np.testing.assert_allclose(variable, value, rtol=1e-4)  # Keras's own epsilon would count here


def test_dense_networks_have_the_sheets_size():
    model = WGAN(WGANConfig(generator_architecture="mlp", critic_architecture="mlp"))
    assert model.generator.count_params() == 6_880_768
    assert model.discriminator.count_params() == 6_817_793
    assert all(layer.activation is keras.activations.linear for layer in
               (model.generator.layers[-2], model.discriminator.layers[-1]))  # fmt: skip


def test_initial_weights_are_those_of_the_released_code():
    """Torch's default in "mlp": uniform up to 1 / sqrt(inputs), biases too; N(0, 0.02) in "dcgan"."""
    model = tiny("wgan", generator_architecture="mlp", hidden_size=200)
    for network in (model.generator, model.discriminator):
        for layer in (x for x in network.layers if isinstance(x, keras.layers.Dense)):
            limit = 1 / np.sqrt(layer.kernel.shape[0])
            numbers = np.concatenate([np.ravel(layer.kernel), np.ravel(layer.bias)])
            assert 0.9 * limit < np.abs(numbers).max() <= limit
            assert numbers.std() == pytest.approx(limit / np.sqrt(3), rel=0.1)
            assert np.any(layer.bias)
    kernels = [x.kernel for x in tiny("wgan", width=16).generator.layers if hasattr(x, "kernel")]
    assert [float(np.std(k)) for k in kernels] == pytest.approx([0.02] * len(kernels), rel=0.15)


def test_generator_without_batch_norm():
    model = tiny("wgan", generator_norm=False)
    assert not any(isinstance(x, keras.layers.BatchNormalization) for x in model.generator.layers)
    history = model.fit(make_dataset(model, 2), verbose=0).history
    assert history["wasserstein"] == [-x for x in history["d_loss"]]


@pytest.mark.parametrize("overrides, message", [
    ({"image_size": 6}, "6 cannot be halved"),
    ({"burst_critic_updates": 7}, r"7 is no multiple of n_critic \(5\)"),
    ({"num_first_bursts": 501}, "501 bursts reach beyond burst_interval"),
])  # fmt: skip
def test_impossible_configs_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        WGANConfig(**overrides)
