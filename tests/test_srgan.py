"""What the SRGAN paper claims: sizes, pixel shuffle, perceptual loss, two stages; and our tiles."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_gan_zoo as zoo
from tf_gan_zoo import upscaling
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.models import srgan
from tf_gan_zoo.models.srgan import SRGAN, SRGANConfig
from tf_gan_zoo.networks.vgg import FeatureWeightsError, VGG19Features, vgg_inputs

TINY = {"image_size": 16, "num_blocks": 1, "width": 4, "batch_size": 2, "content_loss": "mse"}


def tiny_model(run_eagerly=False, **overrides):
    model = SRGAN(SRGANConfig(**{**TINY, **overrides}))
    model.compile(run_eagerly=run_eagerly)
    return model


def pictures(*shape, low=-1.0, seed=0):
    return np.random.default_rng(seed).uniform(low, 1, shape).astype("float32")


def weights_of(network):
    return [v.numpy().copy() for v in network.trainable_variables]


def moved(before, network):
    return [bool((a != v.numpy()).any()) for a, v in zip(before, network.trainable_variables)]


# -------------------------------------------------------------------- networks


@pytest.mark.parametrize("scale, count", [(4, 1_550_659), (2, 1_401_749 + 18 * 63)])
def test_generator_at_paper_size(scale, count):
    # The x2 figure is known for one PReLU slope per layer; this has 64 in each of 18 layers.
    generator = srgan.build_generator(SRGANConfig(scale=scale))
    assert sum(int(tf.size(v)) for v in generator.trainable_variables) == count
    assert generator.input_shape == (None, None, None, 3)
    assert generator(tf.zeros((1, 6, 5, 3))).shape == (1, 6 * scale, 5 * scale, 3)


def test_discriminator_at_paper_size():
    discriminator = srgan.build_discriminator(SRGANConfig())
    assert sum(int(tf.size(v)) for v in discriminator.trainable_variables) == 23_565_505
    assert not [layer for layer in discriminator.layers if "pool" in layer.name.lower()]


def test_pixel_shuffle_puts_channels_beside_each_other():
    maps = pictures(2, 3, 4, 8)
    shuffled = srgan.PixelShuffle(2)(maps).numpy()
    by_hand = maps.reshape(2, 3, 4, 2, 2, 2).transpose(0, 1, 3, 2, 4, 5).reshape(2, 6, 8, 2)
    np.testing.assert_array_equal(shuffled, by_hand)


@pytest.mark.parametrize("size", [(7, 11), (16, 16)])
def test_split_convolution_is_a_convolution(size):
    split, plain = srgan.SplitConv2D(3, 9, padding="same"), keras.layers.Conv2D(3, 9, padding="same")
    images = tf.constant(pictures(2, *size, 5))
    split(images), plain(images)
    assert [w.shape for w in split.get_weights()] == [w.shape for w in plain.get_weights()]
    plain.set_weights(split.get_weights())
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(images)
        losses = [tf.reduce_sum(tf.sin(layer(images))) for layer in (split, plain)]
    np.testing.assert_allclose(split(images), plain(images), atol=1e-5)
    ours, theirs = (
        tape.gradient(loss, [images, *layer.trainable_variables])
        for loss, layer in zip(losses, (split, plain))
    )
    for one, two in zip(ours, theirs):
        np.testing.assert_allclose(one, two, atol=1e-4)


def test_low_resolution_is_antialiased_bicubic():
    model, high = tiny_model(image_size=(32, 48)), pictures(2, 32, 48, 3)
    expected = tf.image.resize((high + 1) / 2, (8, 12), "bicubic", antialias=True)
    low = model.downsample(tf.constant(high)).numpy()
    np.testing.assert_allclose(low, np.clip(expected, 0, 1), atol=1e-5)
    assert low.min() >= 0
    assert low.max() <= 1


def test_given_low_resolution_is_used():
    model = tiny_model()
    high, low = tf.constant(pictures(2, 16, 16, 3)), tf.constant(pictures(2, 4, 4, 3, low=0.0))
    assert model.resolutions({"high_resolution": high, "low_resolution": low})[0] is low
    assert model.resolutions({"high_resolution": high})[0].shape == low.shape


@pytest.mark.parametrize("size", [40, (32, 24)])
def test_sizes_that_do_not_work_are_refused(size):
    with pytest.raises(ConfigError, match="multiples of 16"):
        SRGANConfig(image_size=size)


# -------------------------------------------------------------------- losses


def test_total_variation_by_hand():
    image = np.zeros((1, 3, 3, 1), "float32")
    image[0, 1, 1, 0] = 4.0
    # Forward differences: 4 right of (1, 0), 4 below (0, 1), and 4 both ways at (1, 1).
    assert float(srgan.total_variation(tf.constant(image))) == pytest.approx(4 + 4 + 4 * 2**0.5, rel=1e-5)


def test_total_variation_has_a_gradient_where_the_picture_is_flat():
    image = tf.zeros((1, 4, 4, 3))
    with tf.GradientTape() as tape:
        tape.watch(image)
        loss = srgan.total_variation(image)
    assert np.isfinite(tape.gradient(loss, image)).all()


def test_scores_against_tensorflow_and_by_hand():
    real, fake = pictures(3, 16, 16, 3), pictures(3, 16, 16, 3, seed=1)
    expected = tf.reduce_mean(tf.image.psnr(real, fake, max_val=2.0))
    assert float(upscaling.psnr(real, fake)) == pytest.approx(float(expected), rel=1e-5)
    assert float(upscaling.psnr(real, real)) == pytest.approx(100.0, rel=1e-5)
    assert float(upscaling.sharpness(real, real / 2)) == pytest.approx(0.5, rel=1e-4)


@pytest.mark.filterwarnings("ignore:feature_weights=None")
def test_content_loss_is_the_scaled_difference_of_vgg_features():
    model = tiny_model(content_loss="vgg22", feature_weights=None)
    model.before_training(None)
    real, fake = pictures(2, 16, 16, 3), pictures(2, 16, 16, 3, seed=1)
    # A second implementation of VGG19 up to relu2_2, from the network's own weights.
    kernels = model.feature_loss.features.network.get_weights()

    def phi(images):
        x = (images[..., ::-1] + 1) * 127.5 - np.array([103.939, 116.779, 123.68], "float32")
        for k in range(4):
            x = tf.nn.relu(tf.nn.conv2d(x, kernels[2 * k], 1, "SAME") + kernels[2 * k + 1])
            x = tf.nn.max_pool2d(x, 2, 2, "VALID") if k == 1 else x
        return x.numpy() / 12.75

    expected = np.mean((phi(real) - phi(fake)) ** 2)
    assert float(model.content_loss(real, fake)) == pytest.approx(expected, rel=1e-4)


def test_generator_loss_is_the_weighted_sum():
    model = tiny_model(tv_weight=0.5)
    fake, logits = tf.constant(pictures(2, 16, 16, 3)), tf.constant([[0.3], [-1.2]])
    adversarial = -np.mean(np.log(1 / (1 + np.exp([-0.3, 1.2]))))
    expected = 7.0 + 1e-3 * adversarial + 0.5 * float(srgan.total_variation(fake))
    assert float(model._generator_loss(tf.constant(7.0), fake, logits)) == pytest.approx(expected, rel=1e-5)


def test_learning_rate_falls_after_the_given_updates():
    model = tiny_model(finetune_after=3, pretrain_learning_rate=2e-4)
    for player in ("generator", "discriminator"):
        schedule = model.make_optimizer(player)._learning_rate
        assert [float(schedule(k)) for k in range(5)] == pytest.approx([1e-4] * 3 + [1e-5] * 2)
    assert float(model.make_optimizer("pretraining").learning_rate) == pytest.approx(2e-4)


@pytest.mark.parametrize("name, phases, adversarial", [
    ("srresnet", ["srresnet"], False), ("srresnet_vgg22", ["srresnet", "content"], False),
    ("srgan_mse", ["srresnet", "gan"], True), ("srgan_vgg22", ["srresnet", "gan"], True),
    ("srgan_vgg54", ["srresnet", "gan"], True), ("srgan_v1", ["srresnet", "gan"], True),
])  # fmt: skip
def test_presets_are_the_papers_variants(name, phases, adversarial):
    preset = {**srgan.PRESETS[name], "num_blocks": 1}
    model = tiny_model(True, **{**preset, "pretrain_steps": 1, "feature_weights": "emoji"})
    assert [phase for phase, _ in model.phases] == phases
    generator = weights_of(model.generator)
    logs = model.fit(pictures(4, 16, 16, 3), shuffle=False, verbose=0).history
    assert any(moved(generator, model.generator))
    assert (logs["d_loss"][0] > 0) == adversarial
    trained = [p for p in model.players if int(model.player_optimizer(p).iterations.numpy())]
    expected = {"srresnet": ["pretraining"], "content": ["pretraining", "generator"]}
    assert trained == expected.get(phases[-1], ["pretraining", "generator", "discriminator"])


def test_first_version_of_the_paper_adds_total_variation():
    config = SRGANConfig(**srgan.PRESETS["srgan_v1"])
    assert (config.tv_weight, config.num_blocks, config.content_loss) == (2e-8, 15, "vgg54")
    assert SRGANConfig() == SRGANConfig(**srgan.PRESETS["srgan_vgg54"])


def test_recipes_are_the_presets():
    for recipe, preset in {
        "div2k": "srgan_vgg54", "div2k_mse": "srgan_mse", "div2k_vgg22": "srgan_vgg22",
        "div2k_srresnet": "srresnet", "div2k_v1": "srgan_v1",
    }.items():  # fmt: skip
        config, expected = zoo.zoo.resolve(f"srgan.{recipe}")[1], SRGANConfig(**srgan.PRESETS[preset])
        same = ("content_loss", "adversarial_weight", "tv_weight", "num_blocks", "scale", "batch_size")
        assert all(getattr(config, field) == getattr(expected, field) for field in same)
    assert zoo.zoo.resolve("srgan.div2k_x2")[1].scale == 2


def test_the_record_says_which_feature_weights_were_used():
    assert tiny_model().training_notes() == {}
    notes = tiny_model(content_loss="vgg22", feature_weights=None).training_notes()
    assert "random weights" in notes["features"]


# -------------------------------------------------------------------- scores


def test_scores_against_scikit_image():
    """Y and all channels; SSIM with the settings of its paper."""
    skimage = pytest.importorskip("skimage")
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    real = np.round((pictures(2, 32, 28, 3) + 1) * 127.5)
    fake = np.clip(np.round(real + np.random.default_rng(1).normal(0, 9, real.shape)), 0, 255)
    found = upscaling.scores(*(x / 127.5 - 1 for x in (fake, real)), border=4)
    inside = np.s_[:, 4:-4, 4:-4]
    a, b = (skimage.color.rgb2ycbcr(x[inside].astype("uint8"))[..., 0] for x in (real, fake))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    crop = np.s_[5:-5, 5:-5]  # scikit-image also averages where the window leaves the picture
    ssim = [structural_similarity(x, y, full=True, **options)[1][crop].mean() for x, y in zip(a, b)]
    psnr = [peak_signal_noise_ratio(x, y, data_range=255) for x, y in zip(a, b)]
    assert found["psnr_y"] == pytest.approx(np.mean(psnr), abs=1e-3)
    assert found["ssim_y"] == pytest.approx(np.mean(ssim), abs=1e-4)
    assert found["psnr"] == pytest.approx(float(tf.reduce_mean(tf.image.psnr(real, fake, 255))), rel=1e-4)


def test_scores_of_small_pictures_leave_the_brightness_out():
    images = pictures(1, 16, 16, 3)
    assert "psnr_y" not in upscaling.scores(images, images, border=4)


# -------------------------------------------------------------------- stages


def test_stage_one_moves_the_generator_only():
    model = tiny_model(True, pretrain_steps=2)
    generator, discriminator = weights_of(model.generator), weights_of(model.discriminator)
    history = model.fit(pictures(4, 16, 16, 3), shuffle=False, verbose=0).history
    # A bias in front of a normalisation has no gradient but rounding, and is kept at 0.
    free = [v.constraint is None for v in model.generator.trainable_variables]
    assert moved(generator, model.generator) == free
    assert free.count(False) == 2 * model.config.num_blocks + 1
    assert not any(moved(discriminator, model.discriminator))
    assert history["d_loss"] == [0.0]
    assert model.phase == "srresnet"


def test_one_fit_goes_through_both_stages_with_one_generator():
    model, data = tiny_model(pretrain_steps=3), pictures(4, 16, 16, 3)
    model.fit(data, epochs=2, validation_data={"high_resolution": data}, verbose=0)
    updates = {p: int(model.player_optimizer(p).iterations.numpy()) for p in model.players}
    assert updates == {"pretraining": 3, "generator": 1, "discriminator": 1}
    assert model.phase == "gan"
    assert model.evaluate(data, verbose=0, return_dict=True)["d_loss"] > 0


def test_a_resumed_run_is_in_the_second_stage(tmp_path):
    model, data = tiny_model(True, pretrain_steps=2), pictures(6, 16, 16, 3)
    model.fit(data, shuffle=False, verbose=0)
    model.save_weights(tmp_path / "srgan.weights.h5")
    resumed = tiny_model(True, pretrain_steps=2, seed=1)
    resumed.load_weights(tmp_path / "srgan.weights.h5")
    for one in (model, resumed):
        one.fit(data, shuffle=False, verbose=0)
    assert int(resumed.player_optimizer("pretraining").iterations.numpy()) == 2
    assert int(resumed.player_optimizer("discriminator").iterations.numpy()) == 4
    for a, b in zip(model.weights, resumed.weights):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


# -------------------------------------------------------------------- VGG19


def test_vgg_inputs_are_keras_preprocessing():
    images = pictures(2, 8, 8, 3)
    expected = keras.applications.vgg19.preprocess_input((images + 1) * 127.5)
    np.testing.assert_allclose(vgg_inputs(images), expected, atol=1e-3)
    gray = images[..., :1]
    np.testing.assert_array_equal(vgg_inputs(gray), vgg_inputs(np.repeat(gray, 3, axis=-1)))


def test_features_from_a_file_are_used_and_stay_out_of_the_model(tmp_path):
    path = tmp_path / "vgg19.weights.h5"
    keras.utils.set_random_seed(3)
    vgg = keras.applications.VGG19(include_top=False, weights=None)
    vgg.save_weights(path)
    model = tiny_model(True, content_loss="vgg54", feature_weights=str(path), pretrain_steps=0)
    num_weights = len(model.weights)
    model.fit(pictures(2, 16, 16, 3), verbose=0)
    features = model.feature_loss.features
    assert len(model.weights) == num_weights
    images = pictures(1, 32, 32, 3)
    block5 = keras.Model(vgg.input, vgg.get_layer("block5_conv4").output)
    np.testing.assert_allclose(features(images), block5(vgg_inputs(images)), atol=1e-5)
    assert float(tf.reduce_min(features(images))) == 0.0


def test_random_features_warn_and_depend_on_the_seed_alone():
    with pytest.warns(UserWarning, match="random weights"):
        one, two, other = (VGG19Features("relu2_2", None, seed) for seed in (0, 0, 1))
    images = pictures(1, 16, 16, 3)
    np.testing.assert_array_equal(one(images), two(images))
    assert np.abs(one(images) - other(images)).max() > 0


def test_unknown_feature_layers_are_refused():
    for name in ("relu3_5", "relu6_1", "conv_1_1", "pool6"):
        with pytest.raises(ValueError, match="conv1_1 to conv5_4"):
            VGG19Features(name, None)


@pytest.fixture
def offline(monkeypatch):
    def no_network(*args, **kwargs):
        raise Exception("URL fetch failure")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", no_network)


def test_offline_a_run_that_needs_imagenet_fails_before_its_first_step(offline):
    model = tiny_model(content_loss="vgg22", pretrain_steps=1)
    with pytest.raises(FeatureWeightsError, match='(?s)URL fetch.*feature_weights=None.*"mse"'):
        model.fit(pictures(4, 16, 16, 3), verbose=0)
    assert int(model.step.numpy()) == 0


def test_offline_stage_one_alone_works(offline):
    model = tiny_model(True, content_loss="vgg54", pretrain_steps=2)
    model.fit(pictures(4, 16, 16, 3), verbose=0)
    assert int(model.step.numpy()) == 2


def test_a_missing_weights_file_is_named():
    model = tiny_model(content_loss="vgg22", pretrain_steps=0, feature_weights="nowhere.h5")
    with pytest.raises(FeatureWeightsError, match="no file 'nowhere.h5'"):
        model.fit(pictures(2, 16, 16, 3), verbose=0)


def test_train_on_batch_without_features_says_what_to_do():
    model = tiny_model(content_loss="vgg22", pretrain_steps=0)
    with pytest.raises(FeatureWeightsError, match="before_training"):
        model.train_on_batch({"high_resolution": pictures(2, 16, 16, 3)})


# -------------------------------------------------------------------- inference


@pytest.fixture(scope="module")
def upscaler():
    model = tiny_model(num_blocks=2)
    for variable in model.generator.variables:  # statistics and slopes other than at the start
        values = np.random.default_rng(variable.shape.rank).uniform(0.5, 1.5, variable.shape)
        variable.assign(variable * values)
    return model


@pytest.mark.parametrize("scale", [2, 4])
def test_receptive_radius_is_how_far_the_generator_looks(scale):
    model = tiny_model(num_blocks=2, scale=scale)
    radius, center = model.config.receptive_radius, 40
    for variable in model.generator.trainable_variables:  # all weights positive: nothing cancels
        variable.assign(tf.abs(variable) + 0.05)
    image = np.zeros((2, 2 * center + 1, 2 * center + 1, 3), "float32")
    image[1, center, center] = 1.0
    flat, point = model.generator(image, training=False).numpy()
    reached = np.flatnonzero(np.abs(point - flat).max(axis=(1, 2)) > 1e-6) // scale
    assert reached.min() >= center - radius
    assert reached.max() <= center + radius
    assert reached.max() >= center + radius - 1


@pytest.mark.parametrize("tile", [5, 16, 100])
def test_tiles_equal_the_whole_picture(upscaler, tile):
    images = pictures(2, 37, 23, 3, low=0.0)
    whole = upscaler.upscale(images)
    assert whole.shape == (2, 148, 92, 3)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(upscaler.upscale(images, tile=tile), whole, atol=1e-5)


def test_a_smaller_overlap_differs_at_the_seams_only(upscaler):
    images = pictures(1, 8, 64, 3, low=0.0)
    difference = np.abs(upscaler.upscale(images, tile=32, overlap=1) - upscaler.upscale(images))
    radius = upscaler.config.receptive_radius
    assert difference[:, :, : (32 - radius) * 4].max() < 1e-5
    assert difference[:, :, (32 + radius) * 4 :].max() < 1e-5
    assert difference.max() > 1e-4


def test_upscale_takes_one_picture_and_clips(upscaler):
    image = pictures(6, 9, 3, low=0.0)
    images = upscaler.upscale(image)
    assert images.shape == (1, 24, 36, 3)
    assert np.abs(images).max() <= 1.0


def test_upscale_uses_moving_averages(upscaler):
    images = pictures(3, 6, 6, 3, low=0.0)
    np.testing.assert_allclose(upscaler.upscale(images)[:1], upscaler.upscale(images[:1]), atol=1e-5)


@pytest.mark.parametrize("options", [{"tile": 0}, {"tile": 8, "overlap": -1}])
def test_tiles_that_do_not_work_are_refused(upscaler, options):
    with pytest.raises(ValueError, match="tile of at least 1 and a margin of at least 0"):
        upscaler.upscale(pictures(6, 6, 3, low=0.0), **options)
