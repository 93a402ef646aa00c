"""pix2pix: what the paper and the authors' code say of networks, losses, noise and normalisation."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import held_out, make_dataset, make_fields, tiny
from PIL import Image

import tf_gan_zoo as zoo
from tf_gan_zoo import train
from tf_gan_zoo.models import pix2pix
from tf_gan_zoo.models.pix2pix import Pix2PixConfig

PAPER = Pix2PixConfig()


@pytest.mark.parametrize(
    ("patch_size", "weights", "side"),
    [(1, 9_025, 256), (16, 139_585, 126), (70, 2_768_705, 30), (286, 11_159_361, 6)],
)
def test_discriminators_of_the_paper(patch_size, weights, side):
    config = Pix2PixConfig(patch_size=patch_size)
    network = pix2pix.build_discriminator(config)
    assert network.count_params() == weights
    assert network.compute_output_shape([(1, 256, 256, 3)] * 2) == (1, side, side, 1)
    assert pix2pix.patch_map_side(256, patch_size) == side


@pytest.mark.parametrize("patch_size", [1, 16, 34, 70])
def test_one_logit_sees_exactly_its_patch(patch_size):
    config = Pix2PixConfig(patch_size=patch_size, width=2, channels=1, input_channels=1)
    network = pix2pix.build_discriminator(config)
    images = tf.random.stateless_normal((1, 160, 160, 1), (0, 1))
    # Statistics of the whole picture would let every logit see everything.
    without_norm = {layer: lambda x, **_: x for layer in network.layers if "statistics" in layer.name}
    with tf.GradientTape() as tape:
        tape.watch(images)
        x = tf.concat([tf.zeros_like(images), images], -1)
        for layer in network.layers[3:]:
            x = without_norm.get(layer, layer)(x)
        middle = x.shape[1] // 2
        logit = x[0, middle, middle, 0]
    seen = np.abs(tape.gradient(logit, images).numpy()[0, :, :, 0]) > 0
    assert seen.any(axis=0).sum() == patch_size
    assert seen.any(axis=1).sum() == patch_size


def test_unet_of_the_paper():
    network = pix2pix.build_generator(PAPER)
    assert sum(int(tf.size(v)) for v in network.trainable_variables) == 54_414_019
    shapes = {layer.name: layer for layer in network.layers}
    convolutions = [layer for name, layer in shapes.items() if name.startswith("conv2d")]
    assert [layer.filters for layer in convolutions] == [
        64, 128, 256, 512, 512, 512, 512, 512, 512, 512, 512, 512, 256, 128, 64, 3,
    ]  # fmt: skip
    norms = [layer for layer in network.layers if "statistics" in layer.name]
    assert len(norms) == 13  # none on the first layer, the 1x1 bottleneck and the last
    assert len([layer for layer in network.layers if "dropout" in layer.name]) == 3


def test_facades_go_from_labels_to_photographs_and_other_pairs_as_they_are(tmp_path, monkeypatch):
    """Two pairs, black|white each, in a folder called like the default data and in another."""
    monkeypatch.chdir(tmp_path)
    pair = np.concatenate([np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8)], axis=1)
    for folder in ("facades", "others"):
        (tmp_path / folder / "train").mkdir(parents=True)
        for number in range(2):
            Image.fromarray(pair).save(tmp_path / folder / "train" / f"{number}.png")

    def inputs(**settings):
        options = {"image_size": 16, "patch_size": 16, "data_options": {"flip": True}, **settings}
        model = train.unbuilt(pix2pix.Pix2Pix, Pix2PixConfig(**options))
        return next(iter(train.open_pipeline(model).dataset(start_step=0)))["inputs"].numpy()

    assert PAPER.data == "paired:facades"
    assert (inputs() == 1).all()
    assert (inputs(data_options={"direction": "a_to_b"}) == -1).all()
    assert (inputs(data="paired:others") == -1).all()


@pytest.mark.parametrize(("size", "depth"), [(256, 8), (512, 8), (64, 6), ((64, 96), 5), (128, 7)])
def test_depth_follows_the_size(size, depth):
    assert Pix2PixConfig(image_size=size, width=1).depth == depth
    assert Pix2PixConfig(image_size=size, width=1, max_depth=4).depth == 4


def test_initial_weights():
    network = pix2pix.build_generator(Pix2PixConfig(image_size=64))
    kernel = max((v for v in network.trainable_variables if v.name == "kernel"), key=tf.size)
    gains = np.concatenate([v.numpy() for v in network.trainable_variables if v.name == "gamma"])
    assert float(tf.math.reduce_std(kernel)) == pytest.approx(0.02, rel=0.01)
    assert gains.mean() == pytest.approx(1.0, abs=0.002)
    assert gains.std() == pytest.approx(0.02, rel=0.1)


def bce(logits, label):
    probability = 1 / (1 + np.exp(-np.asarray(logits, "float64")))
    return -np.mean(np.log(probability if label else 1 - probability))


def test_losses_against_numpy():
    model = tiny("pix2pix")
    batch = model.named(make_fields(model, 3))
    inputs, targets = batch["inputs"], batch["targets"]
    outputs = model.generator(inputs, training=False)
    real, fake = (model.discriminator([inputs, y], training=False) for y in (targets, outputs))
    logs = model.test_step(batch)
    assert float(logs["d_loss"]) == pytest.approx(0.5 * (bce(real, 1) + bce(fake, 0)), rel=1e-5)
    assert float(logs["g_loss"]) == pytest.approx(bce(fake, 1), rel=1e-5)
    assert float(logs["l1_loss"]) == pytest.approx(np.abs(targets - outputs).mean(), rel=1e-5)


def test_generator_descends_the_weighted_sum():
    model, losses = tiny("pix2pix", gan_weight=2.0, l1_weight=50.0), {}
    object.__setattr__(model, "update", lambda player, tape, loss: losses.update({player: float(loss)}))
    logs = {name: float(value) for name, value in model.train_step(make_fields(model, 2)).items()}
    assert losses["discriminator"] == pytest.approx(logs["d_loss"])
    assert losses["generator"] == pytest.approx(2 * logs["g_loss"] + 50 * logs["l1_loss"])


def test_the_generator_faces_the_discriminator_that_was_just_updated():
    model = tiny("pix2pix", learning_rate=0.02, dropout=0.0, norm="instance", l1_weight=0.0)
    batch, losses = model.named(make_fields(model, 2)), {}
    images = (batch["inputs"], batch["targets"], model.generator(batch["inputs"], training=True))
    plain_update, before = model.update, float(model._generator_losses(*images, training=True)[0])

    def watched_update(player, tape, loss):
        losses[player] = float(loss)
        if player == "discriminator":
            plain_update(player, tape, loss)

    object.__setattr__(model, "update", watched_update)
    model.train_step(batch)
    after = float(model._generator_losses(*images, training=True)[0])
    assert list(losses) == ["discriminator", "generator"]
    assert losses["generator"] == pytest.approx(after, rel=1e-4)
    assert abs(after - before) > 0.01


def test_unconditional_discriminator_sees_results_only():
    model = tiny("pix2pix", conditional=False)
    assert len(model.discriminator.inputs) == 1
    model.train_step(make_fields(model, 1))


def test_dropout_is_the_noise():
    model = tiny("pix2pix")
    images = make_fields(model, 3)["inputs"]
    first = model.translate(images, seed=1)
    np.testing.assert_array_equal(first, model.translate(images, seed=1))
    assert np.abs(first - model.translate(images, seed=2)).max() > 0
    calm = model.translate(images, seed=1, dropout=False)
    np.testing.assert_array_equal(calm, model.translate(images, seed=2, dropout=False))
    assert np.abs(calm - first).max() > 0


def test_two_equal_pictures_get_different_noise():
    model = tiny("pix2pix")
    image = make_fields(model, 1)["inputs"]
    results = model.translate(np.concatenate([image, image]))
    assert np.abs(results[0] - results[1]).max() > 0


def test_a_translation_does_not_depend_on_the_other_pictures():
    model = tiny("pix2pix")
    model.fit(make_dataset(model, steps=2), verbose=0)
    images = make_fields(model, 4)["inputs"]
    for dropout in (True, False):
        together = model.translate(images, dropout=dropout)
        np.testing.assert_allclose(together[:1], model.translate(images[:1], dropout=dropout), atol=1e-6)


def test_translates_one_picture_and_larger_ones():
    model = tiny("pix2pix", input_channels=1)
    assert model.translate(np.zeros((16, 16, 1))).shape == (1, 16, 16, 3)
    assert model.translate(np.zeros((2, 32, 48, 1))).shape == (2, 32, 48, 3)
    with pytest.raises(ValueError, match="multiples of 16"):
        model.translate(np.zeros((1, 24, 24, 1)))


def test_the_other_direction_needs_another_model():
    with pytest.raises(ValueError, match="from inputs to targets only"):
        tiny("pix2pix").translate(np.zeros((1, 16, 16, 3)), direction="b_to_a")


def test_measures_itself_against_copying_the_input_and_the_mean_colour():
    model = tiny("pix2pix")
    fields = make_fields(model, 2)
    measured = model.measure(fields)
    difference = np.abs(fields["inputs"] - fields["targets"])
    assert measured["l1_baseline"] == pytest.approx(difference.mean(), rel=1e-5)
    difference = np.abs(model.translate(fields["inputs"]) - fields["targets"])
    assert measured["l1"] == pytest.approx(difference.mean(), rel=1e-5)
    difference = np.abs(fields["targets"].mean((0, 1, 2)) - fields["targets"])
    assert measured["l1_mean_colour_baseline"] == pytest.approx(difference.mean(), rel=1e-5)
    kinds = ("", "_baseline", "_mean_colour_baseline")
    assert set(measured) == {f"{name}{kind}" for name in ("ssim", "l1") for kind in kinds}


def test_learning_rate_is_constant_or_decays_as_asked():
    constant = tiny("pix2pix").player_optimizer("generator")
    assert float(constant.learning_rate) == pytest.approx(2e-4)
    model = tiny("pix2pix", epochs=200, decay_epochs=100, steps_per_epoch=7)
    schedule = model.player_optimizer("generator")._learning_rate
    assert [float(schedule(step)) for step in (0, 700, 1050, 1400)] == pytest.approx([2e-4, 2e-4, 1e-4, 0])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"image_size": 100}, "multiples of 8"),
        ({"image_size": 16}, "patch_size: 70 needs pictures of at least 24x24"),
        ({"max_depth": 2}, "max_depth: must be 3 or more"),
        ({"decay_epochs": 201}, "from 0 to epochs"),
        ({"patch_size": 71}, "patch_size"),
    ],
)
def test_what_cannot_work_is_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        zoo.get("pix2pix", **overrides)


def test_the_published_colouring_beats_plain_lines_and_the_mean_colour():
    examples = held_out("pix2pix.emoji_lines", 60)
    measured = zoo.get("pix2pix.emoji_lines", weights="pretrained").measure(examples)
    least = min(measured["l1_baseline"], measured["l1_mean_colour_baseline"])
    assert measured["l1"] < 0.6 * least
    assert measured["ssim"] > 0.1 + measured["ssim_baseline"]
