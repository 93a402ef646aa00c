"""What the ProGAN paper claims: sizes, the schedule, fading in, the losses; and runs stopped in a fade-in."""

import resource
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import difference, held_out, make_dataset, make_fields, snapshot, tiny

import tf_gan_zoo as zoo
from tf_gan_zoo.batch_spec import BatchError
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.layers import MinibatchStddev
from tf_gan_zoo.models import progan
from tf_gan_zoo.models.progan import ProGAN, ProGANConfig, enlarged, shrunk
from tf_gan_zoo.penalties import gradient_penalty

FADE, FULL = 1, 2  # indices of the tiny model's stages: 4x4, then 8x8 faded in, then 8x8


@pytest.fixture(scope="module")
def model():
    return tiny("progan")


def latents(count=4):
    return tf.constant(np.random.default_rng(0).normal(size=(count, 6)), tf.float32)


def at(model, step):
    """The model at a step, in its phase."""
    model.step.assign(step)
    model.set_phase_at(step)
    return model


def num_weights(network):
    return sum(int(np.prod(v.shape)) for v in network.trainable_variables)


# ---------------------------------------------------------------- networks


@pytest.mark.parametrize("size, g_count, d_count", [
    (32, 20_719_628, 20_726_785), (64, 22_490_383, 22_498_049),
])  # fmt: skip
def test_networks_have_the_papers_sizes(size, g_count, d_count):
    config = ProGANConfig(image_size=size)
    generator, discriminator = progan.build_generator(config), progan.build_discriminator(config)
    assert (num_weights(generator), num_weights(discriminator)) == (g_count, d_count)
    sizes = [4 << k for k in range(config.num_levels)]
    assert [output.shape[1:] for output in generator.outputs] == [(s, s, 3) for s in sizes]
    assert [image.shape[1:] for image in discriminator.inputs] == [(s, s, 3) for s in sizes]


def test_pixel_norm_in_g_and_the_batch_s_deviation_in_d(model):
    def kinds(network):
        return [type(layer).__name__ for layer in network._flatten_layers()]

    assert kinds(model.generator).count("PixelNorm") == 1 + 2 + 2  # of the latents, then behind each layer
    assert kinds(model.discriminator).count("MinibatchStddev") == 1
    (layer,) = (x for x in model.discriminator._flatten_layers() if isinstance(x, MinibatchStddev))
    assert layer.group_size == model.config.stddev_group_size
    assert ProGANConfig().stddev_group_size == 16  # preset v1-1gpu, whose batches are 16, 14, 6 and 3
    fitting = [int(MinibatchStddev(16)._fitting_group(tf.constant(n))) for n in (16, 14, 6, 3)]
    assert fitting == [16, 14, 6, 3]
    assert not {"PixelNorm", "BatchNormalization"} & set(kinds(model.discriminator))


def test_channels_halve_from_64_pixels_on():
    config = ProGANConfig()
    assert [config.num_channels(k) for k in range(9)] == [512, 512, 512, 512, 256, 128, 64, 32, 16]


# ---------------------------------------------------------------- the schedule


def test_schedule_of_the_paper():
    """800,000 pictures at 4x4, then 800,000 in each fade-in and at each size; 19 million in all."""
    config = ProGANConfig()
    stages = config.stages
    assert [s.name for s in stages[:3]] == ["4x4", "fade_8x8", "8x8"]
    assert len(stages) == 17
    for stage, following in zip(stages, stages[1:]):
        assert following.first_step == stage.first_step + stage.num_steps
        shown = stage.num_steps * config.images_per_step(stage.level)
        assert 800_000 <= shown < 800_000 + 16
    assert [config.images_per_step(k) for k in range(9)] == [16] * 6 + [14, 6, 3]
    rest = (config.total_steps - stages[-1].first_step) * 3
    assert 800_000 * 16 + rest == pytest.approx(19e6, abs=3e3)


def test_a_size_can_be_switched_on_at_once_and_accumulated_updates_stay_whole():
    config = ProGANConfig(image_size=16, batch_size=4, fade_images=0, stable_images=10, accumulation_steps=2)
    assert [(s.name, s.first_step) for s in config.stages] == [("4x4", 0), ("8x8", 4), ("16x16", 8)]


def test_optimizers_follow_the_schedule():
    model = tiny("progan", learning_rates=((8, 2e-3),))
    optimizer = model.make_optimizer("generator")
    assert optimizer.restarts == (1, 3)
    assert (optimizer.beta_1, optimizer.beta_2, optimizer.epsilon) == (0.0, 0.99, 1e-8)
    assert [float(optimizer._learning_rate(k)) for k in (0, 1, 9)] == pytest.approx([1e-3, 2e-3, 2e-3])
    assert ProGANConfig().learning_rate == 1e-3
    assert model.ema_decays == {"generator": 0.999}


@pytest.mark.parametrize("overrides, message", [
    ({"image_size": 6}, "cannot be halved"),
    ({"batch_size": 1}, "greater than or equal to 2"),
    ({"channel_base": 64}, "leaves no channels at 1024 pixels. Use 512 or more"),
])  # fmt: skip
def test_impossible_configs_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        ProGANConfig(**overrides)


def test_batches_without_company_are_refused():
    with pytest.raises(BatchError, match="at least 2"):
        tiny("progan").fit(np.zeros((1, 8, 8, 3), "float32"), verbose=0)


def test_a_run_that_ends_too_early_is_warned():
    with pytest.warns(UserWarning, match=r"ends at step 3, before the full size \(8x8\) is reached"):
        tiny("progan").before_training(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny("progan").before_training(4)


# ---------------------------------------------------------------- fading in


def test_generator_at_both_ends_of_a_fade_in(model):
    small, fade, full = model.config.stages

    def pictures(stage):
        return model.pictures(model.generator, latents(), stage, training=False).numpy()

    at(model, fade.first_step)
    np.testing.assert_array_equal(pictures(fade), enlarged(pictures(small), 2))
    at(model, fade.first_step + fade.num_steps)
    np.testing.assert_array_equal(pictures(fade), pictures(full))
    at(model, fade.first_step + 1)
    halfway = (enlarged(pictures(small), 2) + pictures(full)) / 2
    np.testing.assert_allclose(pictures(fade), halfway, atol=1e-6)


def test_discriminator_at_both_ends_of_a_fade_in(model):
    small, fade, full = model.config.stages
    images = tf.constant(make_fields(model, 4)["images"])
    at(model, fade.first_step)
    before = model.scores(shrunk(images, 2), small, training=False)
    np.testing.assert_allclose(model.scores(images, fade, training=False), before, atol=1e-6)
    at(model, fade.first_step + fade.num_steps)
    after = model.scores(images, full, training=False)
    np.testing.assert_allclose(model.scores(images, fade, training=False), after, atol=1e-6)
    assert np.abs(np.asarray(before) - after).max() > 1e-3


def test_discriminator_takes_every_size_by_itself(model):
    images = tf.constant(make_fields(model, 4)["images"])
    scores = model.discriminator([shrunk(images, 2), images])
    for stage, result in zip((model.config.stages[0], model.config.stages[FULL]), scores):
        picture = shrunk(images, 2) if stage.level == 0 else images
        np.testing.assert_allclose(model.scores(picture, stage, training=False), result, atol=1e-6)


def test_real_pictures_fade_in_with_the_fake_ones(model):
    images = make_fields(model, 4)["images"]
    means = images.reshape(4, 4, 2, 4, 2, 3).mean(axis=(2, 4))
    coarse = means.repeat(2, axis=1).repeat(2, axis=2)
    for step, expected in ((0, means), (1, coarse), (2, (coarse + images) / 2), (3, images)):
        np.testing.assert_allclose(at(model, step).real_pictures(images), expected, atol=1e-6)


def test_large_sizes_use_a_part_of_the_batch():
    model = tiny("progan", batch_limits=((8, 2),))
    images = make_fields(model, 4)["images"]
    assert [at(model, step).real_pictures(images).shape for step in (0, 9)] == [(4, 4, 4, 3), (2, 8, 8, 3)]
    assert [s.num_steps for s in model.config.stages] == [1, 4, 2]


def test_a_step_runs_and_updates_the_layers_of_its_size_only():
    model = tiny("progan")
    model.train_step(make_fields(model, 4))
    for player in model.players:
        used = {id(v) for v in model.updated_variables(player)}
        fresh = getattr(tiny("progan"), player)
        pairs = zip(getattr(model, player).trainable_variables, fresh.trainable_variables)
        for variable, untouched in pairs:
            assert id(variable) in used or (variable.numpy() == untouched.numpy()).all(), variable.path
    names = [progan.layer_names("generator", stage, model.config) for stage in model.config.stages]
    assert names[0] == ["block_4x4", "to_rgb_4x4"]
    assert names[FADE] == ["block_4x4", "block_8x8", "to_rgb_4x4", "to_rgb_8x8"]
    assert names[FULL] == ["block_4x4", "block_8x8", "to_rgb_8x8"]


def test_a_step_at_4x4_is_traced_without_the_other_sizes():
    model = tiny("progan", image_size=64, channel_base=64)
    images = tf.constant(make_fields(model, 4)["images"])

    def operations(step):
        traced = tf.function(at(model, step).test_step).get_concrete_function({"images": images})
        return [op.type for op in traced.graph.get_operations()].count("Conv2D")

    # G's hidden convolutions and to_rgb; from_rgb and D's, of real, fake (twice) and mixed pictures.
    assert operations(0) == 2 + 4 * 2
    assert operations(model.config.stages[-1].first_step) == 10 + 4 * 10


# ---------------------------------------------------------------- losses


def test_penalty_measures_the_norm_against_its_target():
    """The critic 3 (sum of pixels) has a gradient of norm 3 sqrt(12) everywhere."""
    x = tf.constant(np.random.default_rng(0).normal(size=(2, 2, 2, 3)), tf.float32)
    norm = 3 * np.sqrt(12)

    def critic(images):
        return 3.0 * tf.reduce_sum(images, axis=[1, 2, 3])[:, None]

    for target in (1.0, 750.0):
        penalty = gradient_penalty(critic, x, x + 1.0, tf.fill((2, 1, 1, 1), 0.3), target)
        assert float(penalty) == pytest.approx((norm - target) ** 2 / target**2, rel=1e-5)


def test_critic_loss_has_penalty_and_drift(model):
    real, fake = (tf.constant(make_fields(model, 4, seed)["images"]) for seed in (1, 2))
    at(model, model.config.stages[FULL].first_step)
    losses = {n: float(v) for n, v in model._critic_losses(real, fake, "x", training=False).items()}
    real_scores, fake_scores = (model.scores(x, model.stage, training=False).numpy() for x in (real, fake))
    assert losses["wasserstein"] == pytest.approx(real_scores.mean() - fake_scores.mean(), abs=1e-5)
    expected = 10 * losses["gradient_penalty"] + 1e-3 * np.mean(real_scores**2) - losses["wasserstein"]
    assert losses["d_loss"] == pytest.approx(expected, abs=1e-4)


# ---------------------------------------------------------------- stopping, resuming, showing


def test_a_run_goes_on_exactly_in_the_middle_of_a_fade_in(tmp_path):
    """Eight steps of fading in, stopped after three of them; alpha, phase, weights and pictures go on."""
    def train(model, steps, seed):
        model.compile(run_eagerly=True) if not int(model.step.numpy()) else None
        model.fit(make_dataset(model, steps=steps, seed=seed), verbose=0)

    whole = tiny("progan", fade_images=32)
    train(whole, 4, seed=1)
    whole.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.phase == whole.phase == "fade_8x8"
    assert float(loaded.alpha(loaded.stage)) == 3 / 8
    np.testing.assert_array_equal(loaded.generate(2), whole.generate(2))
    loaded.run_eagerly = True
    for model in (whole, loaded):
        train(model, 2, seed=2)
        assert float(model.alpha(model.stage)) == 5 / 8
    assert difference(snapshot(whole), snapshot(loaded)) == 0.0


def test_what_has_grown_so_far_is_shown_enlarged(model):
    small = model.generator_ema(latents())[0].numpy()
    model.sample_inputs = lambda count, seed=0: latents(count)
    images = {step: at(model, step).call(latents()).numpy() for step in (0, 1, 2, 3)}
    np.testing.assert_allclose(images[1], np.clip(enlarged(small, 2), -1, 1), atol=1e-6)
    np.testing.assert_array_equal(images[0], images[3])  # before the first step: published weights
    for step, expected in images.items():
        exported = at(model, step).endpoints["generate"].run({"latents": latents()})["images"]
        np.testing.assert_allclose(exported, expected, atol=1e-6)
        assert np.abs(expected).max() <= 1


def test_a_fade_in_can_be_exported(tmp_path):
    report = at(tiny("progan"), 2).export(tmp_path / "faded.tflite", "litert")
    assert report["signatures"]["generate"]["outputs"]["images"]["max_difference"] < 1e-4


def test_exported_network_has_the_layers_of_the_full_size_only(model):
    network = at(model, 0).public_network()
    assert len(network.variables) == len(model.generator_ema.variables) - 2  # no to_rgb_4x4
    assert network.output_names == ["images"]


# ---------------------------------------------------------------- at paper size


@pytest.mark.slow
def test_a_step_at_1024_pixels(record_property):
    """Minutes and gigabytes: the paper's model takes a step of two pictures at its full size."""
    model = ProGAN(ProGANConfig(batch_size=2))
    model.compile(run_eagerly=True)
    at(model, model.config.stages[-1].first_step)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 1024, 1024, 3)).astype("float32")
    before = model.generator.get_layer("block_1024x1024").get_weights()
    logs = model.train_step({"images": tf.constant(images)})
    assert all(np.isfinite(float(value)) for value in logs.values())
    after = model.generator.get_layer("block_1024x1024").get_weights()
    assert all((a != b).any() for a, b in zip(before, after))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    record_property("peak_memory_gib", round(peak, 1))
    print(f"peak memory {peak:.1f} GiB")
    assert model.generate(1).shape == (1, 1024, 1024, 3)


# ---------------------------------------------------------------- the published weights


def test_published_generator_makes_clothes():
    """Far closer to test pictures than an untrained one, and of most classes."""
    examples = held_out("progan.fashion_mnist", 500)
    found = zoo.get("progan.fashion_mnist", weights="pretrained").measure(examples)
    untrained = zoo.get("progan.fashion_mnist").measure(examples)
    assert found["classes"] >= 7
    assert found["neighbour_distance"] < 0.6 * untrained["neighbour_distance"]
