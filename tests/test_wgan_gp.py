"""What the WGAN-GP paper claims: the penalty, the critic without batch norm, five updates to one."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.models import wgan_gp
from tf_gan_zoo.models.wgan_gp import WGANGP, WGANGPConfig
from tf_gan_zoo.penalties import gradient_penalty

TINY = {"image_size": 16, "width": 4, "latent_size": 6, "batch_size": 4}
ARCHITECTURES = {
    "cifar": {"image_size": 16},
    "good64": {"image_size": 32, "architecture": "good64"},
    "mnist": {"image_size": 28, "architecture": "mnist", "channels": 1},
}


def tiny_model(**overrides):
    model = WGANGP(WGANGPConfig(**{**TINY, **overrides}))
    model.compile()
    return model


def pictures(model, count, seed=0):
    low, high = model.config.value_range
    size = model.generator.output_shape[1:]
    return np.random.default_rng(seed).uniform(low, high, (count, *size)).astype("float32")


def num_weights(network):
    return sum(int(np.prod(v.shape)) for v in network.trainable_variables)


@pytest.mark.parametrize(
    "overrides, generator, critic",
    [
        ({}, 1_204_483, 1_053_825),
        ({"architecture": "good64", "image_size": 64}, 8_540_483, 7_491_841),
        ({"architecture": "mnist", "image_size": 28, "channels": 1}, 1_554_177, 1_030_145),
    ],
)
def test_paper_size(overrides, generator, critic):
    model = WGANGP(WGANGPConfig(**overrides))
    assert num_weights(model.generator) == generator
    assert num_weights(model.discriminator) == critic
    size = (None, *[model.config.image_size] * 2, model.config.channels)
    assert model.generator.output_shape == size
    assert model.discriminator.output_shape == (None, 1)


def test_penalty_on_a_linear_critic_is_exact():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(8 * 8 * 3, 1)).astype("float32")

    def critic(images):
        return tf.reshape(images, (-1, 8 * 8 * 3)) @ weights

    real, fake = rng.uniform(-1, 1, (2, 5, 8, 8, 3)).astype("float32")
    factors = rng.uniform(size=(5, 1, 1, 1)).astype("float32")
    expected = (np.linalg.norm(weights) - 1.0) ** 2
    assert float(gradient_penalty(critic, real, fake, factors)) == pytest.approx(expected, rel=1e-5)


def test_critic_loss_adds_ten_penalties():
    model = tiny_model()
    real, fake = pictures(model, 4), pictures(model, 4, seed=1)
    losses = model._critic_losses(real, fake, "test", training=True)
    scores = [float(tf.reduce_mean(model.discriminator(images))) for images in (real, fake)]
    assert float(losses["wasserstein"]) == pytest.approx(scores[0] - scores[1], abs=1e-5)
    expected = scores[1] - scores[0] + 10 * float(losses["gradient_penalty"])
    assert float(losses["d_loss"]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_penalty_reaches_every_critic_weight(architecture):
    """Second derivatives flow; only an additive constant leaves the input gradient as it is."""
    model = tiny_model(**ARCHITECTURES[architecture])
    for variable in model.discriminator.trainable_variables:
        if variable.name == "bias":  # move pre-activations off zero, as training does
            variable.assign(np.random.default_rng(1).normal(0, 0.1, variable.shape))
    factors = np.random.default_rng(2).uniform(size=(4, 1, 1, 1)).astype("float32")
    with tf.GradientTape() as tape:
        penalty = gradient_penalty(
            model.discriminator, pictures(model, 4), pictures(model, 4, seed=1), factors
        )
    kernels = [v for v in model.discriminator.trainable_variables if v.name in ("kernel", "gamma")]
    gradients = tape.gradient(penalty, kernels)
    assert all(g is not None and float(tf.reduce_max(tf.abs(g))) > 0 for g in gradients)


def test_factors_are_uniform_one_per_example():
    model = tiny_model()
    seen = []
    draw = model.random_uniform

    def recorded(purpose, shape, *bounds):
        values = draw(purpose, shape, *bounds)
        if purpose.startswith("factors"):
            seen.append(values.numpy())
        return values

    model.random_uniform = recorded
    count = 2000
    real, fake = pictures(model, count), pictures(model, count, seed=1)
    model._critic_losses(real, fake, "test", training=True)
    (factors,) = seen
    assert factors.shape == (count, 1, 1, 1)
    deciles, _ = np.histogram(factors, bins=10, range=(0, 1))
    assert deciles.sum() == count
    assert np.abs(deciles - count / 10).max() < 60  # 4.5 standard deviations
    assert len(np.unique(factors)) > 0.99 * count


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_batch_norm_in_the_generator_only(architecture):
    model = tiny_model(**ARCHITECTURES[architecture])

    def num_norms(network):
        return sum(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers)

    assert num_norms(model.discriminator) == 0
    assert (num_norms(model.generator) > 0) == (architecture != "mnist")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scores_do_not_depend_on_the_rest_of_the_batch(architecture):
    model = tiny_model(**ARCHITECTURES[architecture])
    images = pictures(model, 4)
    together = model.discriminator(images, training=True)
    alone = model.discriminator(images[:1], training=True)
    np.testing.assert_allclose(together[:1], alone, atol=1e-5)


def test_layer_norm_counts_all_pixels_and_channels():
    model = tiny_model(**ARCHITECTURES["good64"])
    norm = next(x for x in model.discriminator.layers if isinstance(x, keras.layers.GroupNormalization))
    x = np.random.default_rng(0).normal(2, 3, (2, 32, 32, 4)).astype("float32")
    centred = x - x.mean(axis=(1, 2, 3), keepdims=True)
    expected = centred / np.sqrt(x.var(axis=(1, 2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(norm(x), expected, atol=1e-4)
    assert norm.gamma.shape == (4,)


def test_five_critic_updates_per_generator_update():
    model = tiny_model()
    history = model.fit(pictures(model, 40), epochs=2, verbose=0).history
    assert int(model.step) == 2 * 2
    assert int(model.generator_optimizer.iterations) == 4
    assert int(model.discriminator_optimizer.iterations) == 20
    assert set(history) == set(model.log_names)
    assert np.isfinite([history[name] for name in history]).all()


def test_critic_updates_see_fresh_batches_and_the_generator_twice_as_many_fakes():
    model = tiny_model(dequantize=False)
    seen, generated = [], []
    critic_losses, latents = model._critic_losses, model.latents
    model._critic_losses = lambda real, *a, **k: (seen.append(real), critic_losses(real, *a, **k))[1]
    model.latents = lambda purpose, n: (generated.append((purpose, int(n))), latents(purpose, n))[1]
    batch = pictures(model, 20)
    model.train_step({"images": tf.constant(batch)})
    assert np.array_equal(np.sort(np.concatenate(seen), axis=0), np.sort(batch, axis=0))
    assert [n for _, n in generated] == [4] * 5 + [8]
    assert len({purpose for purpose, _ in generated}) == 6


def test_learning_rates_fall_to_zero_together_and_survive_serialisation():
    model = tiny_model(epochs=2, steps_per_epoch=5)
    for player, updates in (("generator", 10), ("discriminator", 50)):
        optimizer = model.player_optimizer(player)
        restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
        rate = restored._learning_rate
        assert isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)
        np.testing.assert_allclose(
            [rate(0), rate(updates // 2), rate(updates)], [2e-4, 1e-4, 0.0], atol=1e-9
        )
        assert (optimizer.beta_1, optimizer.beta_2) == (0.0, 0.9)


def test_dequantized_levels_fill_the_range():
    """2 (x / 256 - 0.5) + U(0, 1/128) on 8-bit x, as in the released code."""
    model = tiny_model()
    levels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3))
    images = tf.constant(levels / 127.5 - 1, tf.float32)
    noise = model._dequantized(images, "test").numpy() - 2 * (levels / 256 - 0.5)
    assert noise.min() > -1e-6
    assert noise.max() < 1 / 128 + 1e-6
    assert noise.std() == pytest.approx(1 / 128 / np.sqrt(12), rel=0.1)
    assert tiny_model(dequantize=False)._dequantized(images, "test") is images


def released_variance(layer, he_init):
    """What tflib's conv2d.py and deconv2d.py draw: uniform numbers of this variance."""
    transposed, stride = isinstance(layer, keras.layers.Conv2DTranspose), layer.strides[0]
    height, width, *channels = layer.kernel.shape
    outputs, inputs = channels if transposed else reversed(channels)
    fan_in, fan_out = inputs * height * width, outputs * height * width
    fan_in, fan_out = (fan_in / stride**2, fan_out) if transposed else (fan_in, fan_out / stride**2)
    return (4 if he_init else 2) / (fan_in + fan_out)


@pytest.mark.parametrize("architecture, not_he", [
    ("cifar", {"generator": [-1], "discriminator": []}),
    ("good64", {"generator": [], "discriminator": [0]}),
    ("mnist", {"generator": [], "discriminator": []}),
])  # fmt: skip
def test_initial_weights_are_those_of_the_released_code(architecture, not_he):
    """`not_he`: 3x3 convolutions with he_init=False; shortcuts (1x1) always have it."""
    model = tiny_model(**ARCHITECTURES[architecture] | {"width": 32})
    for name, others in not_he.items():
        network = model.networks[name]
        convolutions = [x for x in network.layers if hasattr(x, "kernel") and len(x.kernel.shape) == 4]
        wide = [x for x in convolutions if x.kernel_size != (1, 1)]
        plain = [wide[index] for index in others]
        for layer in convolutions:
            he_init = layer in wide and layer not in plain
            limit = np.sqrt(3 * released_variance(layer, he_init))
            kernel = np.asarray(layer.kernel)
            assert np.abs(kernel).max() == pytest.approx(limit, rel=0.05)
            assert kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.1)
        for dense in (x for x in network.layers if isinstance(x, keras.layers.Dense)):
            assert np.std(dense.kernel) == pytest.approx(np.sqrt(2 / sum(dense.kernel.shape)), rel=0.1)


def test_first_critic_layer_at_paper_size_and_the_way_back_from_its_config():
    """27 inputs, 1152 outputs: He's rule alone would make the weights 4.7 times as wide."""
    initializer = wgan_gp.StridedGlorotUniform(gain=2, strides=1, seed=3)
    assert np.std(initializer((3, 3, 3, 128))) == pytest.approx(np.sqrt(4 / (27 + 1152)), rel=0.05)
    again = keras.initializers.deserialize(keras.initializers.serialize(initializer))
    np.testing.assert_array_equal(again((3, 3, 3, 4)), initializer((3, 3, 3, 4)))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_samples(architecture):
    model = tiny_model(**ARCHITECTURES[architecture])
    images = model.generate(3, seed=1)
    low, high = model.config.value_range
    assert images.min() >= low
    assert images.max() <= high
    assert np.array_equal(images, model.generate(3, seed=1))


def test_sizes_that_are_no_square():
    model = tiny_model(image_size=(16, 24))
    assert model.generate(2).shape == (2, 16, 24, 3)


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"image_size": 20}, "multiples of 8, got 20"),
        ({"image_size": 24, "architecture": "good64"}, "multiples of 16, got 24"),
        ({"image_size": 32, "architecture": "mnist"}, "takes 28, got 32"),
        ({"steps_per_epoch": None}, "Set steps_per_epoch, or linear_decay=False"),
        ({"architecture": "resnet"}, "architecture"),
    ],
)
def test_impossible_configs_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        WGANGPConfig(**overrides)
