"""CycleGAN: networks, losses, the order of updates, the history of generated pictures, both directions."""

import keras
import numpy as np
import pytest
from conftest import make_fields, tiny

import tf_gan_zoo as zoo
from tf_gan_zoo.models import cyclegan
from tf_gan_zoo.models.cyclegan import CycleGANConfig


@pytest.mark.parametrize(
    ("size", "blocks", "weights"),
    [(256, 9, 11_378_179), ((512, 256), 9, 11_378_179), (128, 6, 7_837_699), ((64, 128), 6, 7_837_699)],
)
def test_generators_of_the_paper(size, blocks, weights):
    config = CycleGANConfig(image_size=size, patch_size=34)
    assert config.blocks == blocks
    network = cyclegan.build_generator(config, "generator")
    assert network.count_params() == weights
    assert len([layer for layer in network.layers if isinstance(layer, keras.layers.Add)]) == blocks
    assert len([layer for layer in network.layers if "reflection" in layer.name]) == 2 + 2 * blocks


def test_discriminator_of_the_paper():
    network = cyclegan.build_discriminator(CycleGANConfig(), "discriminator")
    assert network.count_params() == 2_764_737
    assert network.compute_output_shape((1, 256, 256, 3)) == (1, 30, 30, 1)


def test_generator_keeps_places():
    """With kernels that only copy, a bright pixel stays where it is: paddings and croppings match."""
    config = CycleGANConfig(image_size=64, width=2, num_blocks=1, channels=1, patch_size=16)
    network = cyclegan.build_generator(config, "generator")
    for layer in network.layers:
        if hasattr(layer, "kernel"):
            kernel = np.zeros(layer.kernel.shape)
            kernel[kernel.shape[0] // 2, kernel.shape[1] // 2, 0, 0] = 1
            layer.kernel.assign(kernel)
    images = np.zeros((1, 64, 64, 1), "float32")
    images[0, 20, 40] = 1
    result = network(images).numpy()[0, :, :, 0]
    assert np.unravel_index(result.argmax(), result.shape) == (20, 40)


def mean_square(values, target):
    return np.mean((np.asarray(values, "float64") - target) ** 2)


def distance(x, y):
    return np.abs(np.asarray(x) - np.asarray(y)).mean()


@pytest.fixture(scope="module")
def model():
    return tiny("cyclegan")


def test_losses_against_numpy(model):
    fields = make_fields(model, 3)
    a, b = fields["images_a"], fields["images_b"]
    g_ab, g_ba, d_a, d_b = model.networks.values()
    fake_a, fake_b = g_ba(b), g_ab(a)
    logs = {name: float(value) for name, value in model.test_step(fields).items()}
    d_loss = mean_square(d_a(a), 1) + mean_square(d_a(fake_a), 0)
    d_loss += mean_square(d_b(b), 1) + mean_square(d_b(fake_b), 0)
    assert logs["d_loss"] == pytest.approx(d_loss / 2, rel=1e-5)
    g_loss = mean_square(d_a(fake_a), 1) + mean_square(d_b(fake_b), 1)
    assert logs["g_loss"] == pytest.approx(g_loss, rel=1e-5)
    cycle_loss = distance(g_ba(fake_b), a) + distance(g_ab(fake_a), b)
    assert logs["cycle_loss"] == pytest.approx(cycle_loss, rel=1e-4)
    assert logs["identity_loss"] == pytest.approx(distance(g_ba(a), a) + distance(g_ab(b), b), rel=1e-4)


def recorded_updates(model, batch):
    """(player, loss) of each update of a training step in which nothing moves, and the step's logs."""
    updates = []
    object.__setattr__(model, "update", lambda player, tape, loss: updates.append((player, float(loss))))
    logs = model.train_step(batch)
    return updates, {name: float(value) for name, value in logs.items()}


def test_generators_move_first_and_descend_the_weighted_sum():
    model = tiny("cyclegan", cycle_weight_a=10.0, cycle_weight_b=10.0, identity_weight=0.5)
    updates, logs = recorded_updates(model, make_fields(model, 2))
    assert [player for player, _ in updates] == ["generators", "discriminator_a", "discriminator_b"]
    expected = logs["g_loss"] + 10 * logs["cycle_loss"] + 5 * logs["identity_loss"]
    assert updates[0][1] == pytest.approx(expected, rel=1e-5)
    assert updates[1][1] + updates[2][1] == pytest.approx(logs["d_loss"], rel=1e-5)


def test_one_adam_moves_both_generators(model):
    assert model.players["generators"] == ("generator_ab", "generator_ba")
    assert len(model.players) == 3


def test_ablations_and_the_other_loss():
    model = tiny(
        "cyclegan", cycle_weight_a=0.0, cycle_weight_b=3.0, identity_weight=0.0, pool_size=0,
        adversarial_loss="non_saturating",
    )  # fmt: skip
    updates, logs = recorded_updates(model, make_fields(model, 2))
    assert logs["identity_loss"] == 0
    assert updates[0][1] < logs["g_loss"] + 3 * logs["cycle_loss"]
    assert logs["g_loss"] == pytest.approx(2 * np.log(2), abs=0.1)  # both discriminators undecided


def test_discriminators_train_on_the_pool_and_generators_do_not():
    model = tiny("cyclegan", pool_size=2)
    shown, own, from_history = {}, {}, 0
    plain_loss, plain_losses = type(model)._discriminator_loss, type(model)._generator_losses

    def watched(name, real, fake, training):
        shown[name] = np.array(fake)
        return plain_loss(model, name, real, fake, training)

    def watched_generators(a, b, fake_a, fake_b, training):
        own["discriminator_b"] = np.array(fake_b)
        return plain_losses(model, a, b, fake_a, fake_b, training)

    object.__setattr__(model, "_discriminator_loss", watched)
    object.__setattr__(model, "_generator_losses", watched_generators)
    for step in range(4):
        fields = make_fields(model, 2, seed=step)
        fresh = model.generator_ab(fields["images_a"]).numpy()
        before = model.pool_b.images.numpy()
        model.train_step(fields)
        np.testing.assert_allclose(own["discriminator_b"], fresh, atol=1e-5)
        for image in shown["discriminator_b"]:
            old, new = (min(np.abs(image - c).max() for c in pictures) for pictures in (before, fresh))
            assert min(old, new) < 1e-5
            from_history += old < 1e-5 < new
        if step == 0:  # the pool fills first, and hands back what it stores
            assert from_history == 0
    assert from_history > 0
    assert int(model.pool_a.count) == int(model.pool_b.count) == 2


def test_biases_that_have_no_effect_stay_zero():
    model = tiny("cyclegan")
    model.train_step(make_fields(model, 2))
    biases = {v.path: v.numpy() for v in model.generator_ab.trainable_variables if v.name == "bias"}
    *normalized, last = biases.values()
    assert len(normalized) == 7
    assert all((bias == 0).all() for bias in normalized)
    assert (last != 0).all()


def test_pools_are_saved_with_the_weights(tmp_path):
    model, other = tiny("cyclegan"), tiny("cyclegan", seed=9)
    model.pool_a(make_fields(model, 4)["images_a"], seed=[0, 0])
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    assert (int(other.pool_a.count), int(other.pool_b.count)) == (4, 0)
    np.testing.assert_array_equal(other.pool_a.images, model.pool_a.images)


def test_learning_rate_is_constant_for_half_of_the_run():
    schedule = zoo.get("cyclegan", width=1, num_blocks=1).player_optimizer("generators")._learning_rate
    epoch = 1334
    rates = [float(schedule(e * epoch)) for e in (0, 100, 150, 200)]
    assert rates == pytest.approx([2e-4, 2e-4, 1e-4, 0])


def test_translates_both_ways_at_any_size(model):
    images = np.random.default_rng(0).uniform(-1, 1, (3, 20, 28, 3)).astype("float32")
    there = model.translate(images)
    np.testing.assert_allclose(there, model.generator_ab(images), atol=1e-6)
    np.testing.assert_allclose(model.translate(images, "b_to_a"), model.generator_ba(images), atol=1e-6)
    np.testing.assert_allclose(model.cycle(images), model.generator_ba(there), atol=1e-5)
    np.testing.assert_allclose(model.translate(images, batch_size=1), there, atol=1e-6)
    assert model.translate(images[0]).shape == (1, 20, 28, 3)


def test_measures_hidden_pairs_against_the_untouched_pictures(model):
    fields = make_fields(model, 2)
    measured = model.measure(fields)
    a, b = fields["images_a"], fields["images_b"]
    assert measured["l1_baseline"] == pytest.approx(distance(a, b), rel=1e-5)
    assert measured["l1_b_to_a"] == pytest.approx(distance(model.generator_ba(b), a), rel=1e-5)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"image_size": 30}, "multiples of 4"),
        ({"image_size": 16}, "patch_size: 70 needs pictures of at least 24x24"),
        ({"decay_epochs": 201}, "from 0 to epochs"),
        ({"pool_size": -1}, "0 or more"),
        ({"steps_per_epoch": None}, "steps_per_epoch"),
    ],
)
def test_what_cannot_work_is_refused(overrides, message):
    with pytest.raises(ValueError, match=message):
        zoo.get("cyclegan", **{"width": 1, "num_blocks": 1, **overrides})


def test_bad_calls_are_refused(model):
    with pytest.raises(ValueError, match="'a_to_b' or 'b_to_a', got 'AtoB'"):
        model.translate(np.zeros((1, 16, 16, 3)), "AtoB")
    with pytest.raises(ValueError, match="multiples of 4"):
        model.translate(np.zeros((1, 18, 16, 3)))
