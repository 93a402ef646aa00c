"""What the EnhanceNet paper claims: a residual over bicubic, six mixtures of losses, a D that waits."""

import json

import numpy as np
import pytest
import tensorflow as tf

import tf_gan_zoo as zoo
from tf_gan_zoo import published
from tf_gan_zoo.config import ConfigError, load_yaml
from tf_gan_zoo.models import enhancenet
from tf_gan_zoo.models.enhancenet import BicubicUpsampling, EnhanceNet, EnhanceNetConfig
from tf_gan_zoo.networks.vgg import FeatureWeightsError

TINY = {
    "image_size": 32, "num_blocks": 1, "width": 4, "discriminator_width": 2, "batch_size": 2,
    "texture_patch_size": 8, "feature_weights": "emoji", "pretrain_steps": 1,
}  # fmt: skip
VARIANTS = ("E", "P", "EA", "PA", "EAT", "PAT")


def tiny_model(**overrides):
    model = EnhanceNet(EnhanceNetConfig(**{**TINY, **overrides}))
    model.compile(run_eagerly=True)
    return model


def pictures(*shape, low=-1.0, seed=0):
    return np.random.default_rng(seed).uniform(low, 1, shape).astype("float32")


# -------------------------------------------------------------------- networks


@pytest.fixture(scope="module")
def paper_generator():
    return enhancenet.build_generator(EnhanceNetConfig())


def legacy_bicubic(images, scale):
    """TensorFlow 1's bicubic enlargement, pixel by pixel: a = -3/4, corners in place, borders repeated."""
    def weight(t, a=-0.75):
        t = abs(t)
        if t <= 1:
            return (a + 2) * t**3 - (a + 3) * t**2 + 1
        return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a

    def along(size):
        matrix = np.zeros((scale * size, size))
        for target in range(scale * size):
            first = target // scale
            for tap in range(first - 1, first + 3):
                matrix[target, min(max(tap, 0), size - 1)] += weight(target / scale - tap)
        return matrix

    return np.einsum("yh,xw,bhwc->byxc", along(images.shape[1]), along(images.shape[2]), images)


@pytest.mark.parametrize("scale, channels", [(4, 3), (2, 1)])
def test_the_legacy_skip_is_that_of_tensorflow_1(scale, channels):
    images = pictures(2, 5, 6, channels)
    large = BicubicUpsampling(scale, legacy=True)(images)
    np.testing.assert_allclose(large, legacy_bicubic(images, scale), atol=1e-5)
    kernel = tf.raw_ops.ResizeBicubic(  # the same operator as in 2017
        images=images, size=[5 * scale, 6 * scale], align_corners=False, half_pixel_centers=False
    )
    np.testing.assert_allclose(large, kernel, atol=1e-5)
    np.testing.assert_allclose(large[:, ::scale, ::scale], images, atol=1e-6)  # corners stay in place


def test_generator_without_its_residual_is_the_released_skip(paper_generator):
    layer, low = paper_generator.get_layer("residual"), pictures(2, 9, 7, 3, low=0.0)
    weights = layer.get_weights()
    layer.set_weights([np.zeros_like(w) for w in weights])
    images = (paper_generator(low).numpy() + 1) / 2
    layer.set_weights(weights)
    np.testing.assert_allclose(images, legacy_bicubic(low, 4), atol=1e-5)


@pytest.mark.parametrize("scale, channels", [(2, 3), (4, 1)])
def test_the_centered_skip_is_todays_bicubic_enlargement(scale, channels):
    images = pictures(1, 3, 12, channels)
    large = BicubicUpsampling(scale, legacy=False)(images).numpy()
    # Borders are repeated: interpolation of a padded picture gives them, too.
    padded = np.pad(images, [(0, 0), (4, 4), (4, 4), (0, 0)], mode="edge")
    size = [side * scale for side in padded.shape[1:3]]
    cut = slice(4 * scale, -4 * scale)
    np.testing.assert_allclose(large, tf.image.resize(padded, size, "bicubic")[:, cut, cut], atol=1e-5)
    built = enhancenet.build_generator(EnhanceNetConfig(**TINY, skip="centered", scale=scale))
    assert not built.get_layer("bicubic").legacy


def test_generator_is_as_released(paper_generator):
    names = [type(layer).__name__ for layer in paper_generator.layers]
    assert names.count("Conv2D") == 1 + 2 * 10 + 4
    assert names.count("UpSampling2D") == 2
    assert not {"BatchNormalization", "Conv2DTranspose"} & set(names)
    enlarging = [layer for layer in paper_generator.layers if "UpSampling2D" in type(layer).__name__]
    assert [layer.interpolation for layer in enlarging] == ["nearest", "nearest"]
    # A block's second convolution is linear, and so is the sum.
    convolutions = [layer for layer in paper_generator.layers if type(layer).__name__ == "Conv2D"]
    assert [layer.activation.__name__ for layer in convolutions] == ["relu", *["relu", "linear"] * 10,
                                                                     *["relu"] * 3, "linear"]  # fmt: skip
    assert {layer.kernel_size for layer in convolutions} == {(3, 3)}


def test_discriminator_has_no_batch_norm():
    discriminator = enhancenet.build_discriminator(EnhanceNetConfig(**TINY))
    assert not [layer for layer in discriminator.layers if "Normalization" in type(layer).__name__]


@pytest.mark.parametrize("scale", [2, 4])
def test_receptive_radius_is_how_far_the_generator_looks(scale):
    model = tiny_model(losses="E", scale=scale, num_blocks=2)
    radius, center = model.config.receptive_radius, 20
    for variable in model.generator.trainable_variables:  # all weights positive: nothing cancels
        variable.assign(tf.abs(variable) + 0.05)
    image = np.full((2, 2 * center + 1, 2 * center + 1, 3), 0.5, "float32")
    image[1, center, center] = 1.0
    flat, point = model.generator(image, training=False).numpy()
    reached = np.flatnonzero(np.abs(point - flat).max(axis=(1, 2)) > 1e-6) // scale
    assert reached.min() >= center - radius
    assert reached.max() <= center + radius
    assert reached.max() >= center + radius - 1


def test_tiles_equal_the_whole_picture():
    model, images = tiny_model(losses="E", num_blocks=2), pictures(1, 19, 23, 3, low=0.0)
    whole = model.upscale(images)
    assert whole.shape == (1, 76, 92, 3)
    np.testing.assert_allclose(model.upscale(images, tile=6), whole, atol=1e-5)


# -------------------------------------------------------------------- losses


@pytest.mark.parametrize("losses", VARIANTS)
def test_a_variant_has_the_losses_that_it_is_named_after(losses):
    model = tiny_model(losses=losses, pretrain_steps=0)
    assert model.phases == ((f"enet_{losses.lower()}", 0),)
    logs = model.fit(pictures(2, 32, 32, 3), verbose=0).history
    names = {"E": "pixel_loss", "P": "perceptual_loss", "T": "texture_loss", "A": "g_loss"}
    for letter, name in names.items():
        assert (logs[name][0] > 0) == (letter in losses)
    assert (logs["d_loss"][0] > 0) == ("A" in losses)
    assert model.training_notes().keys() == ({"features"} if {"P", "T"} & set(losses) else set())


def test_weights_are_the_papers():
    model = EnhanceNet.__new__(EnhanceNet)
    object.__setattr__(model, "config", EnhanceNetConfig())
    terms = {term.layer: (term.weight, term.distance) for term in model._feature_terms()}
    assert terms == {
        "pool2": (2e-1, "l2"), "pool5": (2e-2, "l2"),
        "relu1_1": (3e-7, "gram"), "relu2_1": (1e-6, "gram"), "relu3_1": (1e-6, "gram"),
    }  # fmt: skip
    assert model.adversarial_weight == 2.0
    object.__setattr__(model, "config", EnhanceNetConfig(losses="PA"))
    assert model.adversarial_weight == 1.0
    rates = [float(model.make_optimizer(player).learning_rate) for player in model.players]
    assert rates == pytest.approx([1e-4] * 3)


def test_pixel_loss_is_the_squared_error_of_pictures_from_0_to_1():
    model = tiny_model(losses="E")
    real, fake = pictures(2, 32, 32, 3), pictures(2, 32, 32, 3, seed=1)
    expected = 100 * np.mean((real / 2 - fake / 2) ** 2)
    assert float(model.content_terms(real, fake)["pixel_loss"]) == pytest.approx(expected, rel=1e-5)


def test_features_that_were_not_loaded_are_an_error():
    with pytest.raises(FeatureWeightsError, match="before_training"):
        tiny_model(losses="P").train_on_batch({"high_resolution": pictures(2, 32, 32, 3)})


@pytest.mark.parametrize(
    "changes, message",
    [({"image_size": 48}, "multiples of 32"), ({"image_size": 16, "losses": "P"}, "at least 32"),
     ({"image_size": 30, "losses": "E"}, "multiples of 4")],
)  # fmt: skip
def test_crops_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        EnhanceNetConfig(**{**TINY, **changes})


# -------------------------------------------------------------------- training


def test_one_fit_goes_from_enet_e_to_enet_pat():
    model = tiny_model(losses="PAT", pretrain_steps=2)
    assert model.phases == (("enet_e", 0), ("enet_pat", 2))
    model.fit(pictures(6, 32, 32, 3), shuffle=False, verbose=0)
    updates = {player: int(model.player_optimizer(player).iterations.numpy()) for player in model.players}
    assert updates == {"pretraining": 2, "generator": 1, "discriminator": 1}
    assert model.phase == "enet_pat"


@pytest.mark.parametrize("accuracy, updates", [(0.5, 1), (0.95, 0)])
def test_a_discriminator_that_won_the_last_batch_waits(accuracy, updates):
    model = tiny_model(losses="EA", pretrain_steps=0)
    model.last_accuracy.assign(accuracy)
    before = [v.numpy() for v in model.discriminator.trainable_variables]
    logs = model.train_on_batch({"high_resolution": pictures(2, 32, 32, 3)}, return_dict=True)
    moved = any((a != v.numpy()).any() for a, v in zip(before, model.discriminator.trainable_variables))
    assert moved == bool(updates)
    assert float(logs["d_updates"]) == updates
    assert float(model.last_accuracy.value) == float(logs["d_accuracy"])


def test_accuracy_is_the_part_of_both_halves_that_is_judged_rightly():
    real, fake = tf.constant([[1.0], [-1.0], [2.0]]), tf.constant([[-3.0], [-1.0], [-0.1]])
    assert float(EnhanceNet._accuracy(real, fake)) == pytest.approx(5 / 6)


# -------------------------------------------------------------------- the published recipe


def test_recipes_name_the_papers_data():
    config = load_yaml(zoo.zoo.RECIPE_DIR / "enhancenet.coco.yaml")
    assert config["data"].startswith("tfds:coco/")
    assert zoo.zoo.resolve("enhancenet.coco")[1].losses == "PAT"


@pytest.mark.skipif("enhancenet.emoji" not in published.manifest(), reason="not published")
def test_published_weights_beat_bicubic_in_every_score():
    numbers = json.loads(published.pretrained("enhancenet.emoji").record.read_text())
    for found in (numbers["metrics"], numbers["phases"]["enet_e"]):
        assert found["psnr"] > found["psnr_baseline"] + 1
        assert found["perceptual_distance"] < 0.7 * found["perceptual_distance_baseline"]
    assert "not the ImageNet weights" in numbers["notes"]["features"]
