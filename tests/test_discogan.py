"""DiscoGAN: networks, both losses, the rate's curriculum, which iteration trains whom, its comparisons."""

import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import make_fields, tiny
from PIL import Image

import tf_gan_zoo as zoo
from tf_gan_zoo import conversion, present, train
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.models import discogan
from tf_gan_zoo.models.discogan import DiscoGANConfig

CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.Conv2DTranspose)


@pytest.fixture(scope="module")
def model():
    return tiny("discogan")


# -------------------------------------------------------------------- networks


def test_generator_through_a_vector_is_the_papers_for_angles():
    network = discogan.build_generator(DiscoGANConfig(code_size=100), "generator")
    assert sum(int(np.prod(v.shape)) for v in network.trainable_variables) == 7_153_480
    assert [x.output.shape[1:3] for x in network.layers if isinstance(x, CONVOLUTIONS)] == [
        (32, 32), (16, 16), (8, 8), (4, 4), (1, 1), (4, 4), (8, 8), (16, 16), (32, 32), (64, 64),
    ]  # fmt: skip


def test_layers_have_no_biases_and_the_codes_first_weights():
    config = DiscoGANConfig()
    generator = discogan.build_generator(config, "generator")
    norms = [x for x in generator.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert len(norms) == 6  # every layer but the first and the last
    for layer in generator.layers:
        if isinstance(layer, CONVOLUTIONS):
            assert not layer.use_bias
            inputs = layer.kernel.shape[3 if isinstance(layer, keras.layers.Conv2DTranspose) else 2]
            assert np.abs(layer.kernel).max() == pytest.approx((16 * inputs) ** -0.5, rel=0.05)
    logits, *features = discogan.build_discriminator(config, "discriminator").output_shape
    assert logits == (None, 1)
    assert features == [(None, 16, 16, 128), (None, 8, 8, 256), (None, 4, 4, 512)]


def test_odd_shapes_of_pictures():
    config = DiscoGANConfig(image_size=(28, 56), width=2)
    assert (config.depth, config.base_size) == (2, (7, 14))
    assert discogan.build_generator(config, "g").compute_output_shape((1, 28, 56, 3)) == (1, 28, 56, 3)
    with pytest.raises(ConfigError, match="cannot be halved twice"):
        DiscoGANConfig(image_size=10)


# -------------------------------------------------------------------- losses


def cross_entropy(logits, label):
    logits = np.asarray(logits, "float64")
    return np.mean(np.log1p(np.exp(-logits if label else logits)))


def squares(x, y):
    return np.mean((np.asarray(x, "float64") - np.asarray(y)) ** 2)


def test_losses_against_numpy(model):
    fields = make_fields(model, 3)
    a, b = fields["images_a"], fields["images_b"]
    g_ab, g_ba, d_a, d_b = model.networks.values()
    fake_a, fake_b = g_ba(b), g_ab(a)
    logs = {name: float(value) for name, value in model.test_step(fields).items()}
    judged = [(d_a(a), d_a(fake_a)), (d_b(b), d_b(fake_b))]
    d_loss = sum(cross_entropy(real[0], 1) + cross_entropy(fake[0], 0) for real, fake in judged)
    assert logs["d_loss"] == pytest.approx(d_loss / 2, rel=1e-5)
    g_loss = sum(cross_entropy(fake[0], 1) for _, fake in judged)
    assert logs["g_loss"] == pytest.approx(g_loss, rel=1e-5)
    restored = squares(g_ba(fake_b), a) + squares(g_ab(fake_a), b)
    assert logs["reconstruction_loss"] == pytest.approx(restored, rel=1e-4)
    means = [[[np.mean(x, 0) for x in side[1:]] for side in pair] for pair in judged]
    features = sum(squares(x, y) for real, fake in means for x, y in zip(real, fake))
    assert logs["feature_loss"] == pytest.approx(features, rel=1e-4)


def test_features_differ_by_their_means_only():
    """Swapping pictures within a batch changes nothing; a shift of all by 2 in one of two layers costs 4."""
    rng = np.random.default_rng(0)
    real = [tf.constant(rng.normal(size=(4, 2, 2, 3)), tf.float32) for _ in range(2)]
    assert float(discogan.feature_difference(real, [x[::-1] for x in real])) == pytest.approx(0, abs=1e-12)
    assert float(discogan.feature_difference(real, [real[0], real[1] + 2])) == pytest.approx(4, rel=1e-5)


TERMS = {"g_loss": 2.0, "reconstruction_loss": 3.0, "feature_loss": 5.0}


@pytest.mark.parametrize(("overrides", "expected"), [
    ({"losses": "paper"}, 2 + 3),
    ({}, 0.75 * (0.1 * 2 + 0.9 * 5) + 0.25 * 3),
    ({"variant": "gan"}, 0.1 * 2 + 0.9 * 5),
])  # fmt: skip
def test_weights_of_the_terms(overrides, expected):
    assert float(tiny("discogan", **overrides)._weighted(TERMS, tf.constant(0.25))) == pytest.approx(expected)


def test_the_rate_jumps_after_ten_thousand_iterations(model):
    rates = {}
    for step in (0, 3333):
        model.step.assign(step)
        rates[step] = [float(model.rate(place)) for place in range(3)]
    model.step.assign(0)
    assert rates == {0: pytest.approx([0.01] * 3), 3333: pytest.approx([0.01, 0.5, 0.5])}


def recorded_step(**overrides):
    """(player, loss) of the updates of a step in which nothing moves, the step's logs, model and batches."""
    model, updates = tiny("discogan", weight_decay=0.0, **overrides), []
    object.__setattr__(model, "update", lambda player, tape, loss: updates.append((player, float(loss))))
    fields = make_fields(model, 3 * 3)
    logs = model.train_step(fields)
    return updates, {name: float(value) for name, value in logs.items()}, model, fields


def test_one_iteration_of_three_trains_the_discriminators_each_on_a_batch_of_its_own():
    updates, logs, model, fields = recorded_step(losses="paper")
    assert [player for player, _ in updates] == ["discriminators", "generators", "generators"]
    batches = model.split_batch(model.named(fields))
    d_loss = float(model._discriminator_loss(batches[0], training=True))
    assert updates[0][1] == pytest.approx(d_loss, rel=1e-4)
    for (_, loss), batch in zip(updates[1:], batches[1:]):
        terms = model._generator_terms(batch, training=True)
        assert loss == pytest.approx(float(terms["g_loss"] + terms["reconstruction_loss"]), rel=1e-4)
    assert logs["g_loss"] + logs["reconstruction_loss"] == pytest.approx(
        np.mean([loss for _, loss in updates[1:]]), rel=1e-4
    )
    assert logs["feature_loss"] == 0


def test_comparisons_reduce_to_their_losses():
    _, both, *_ = recorded_step()
    _, alone, model, _ = recorded_step(variant="gan")
    assert alone["reconstruction_loss"] == 0
    assert both["g_loss"] == pytest.approx(alone["g_loss"], rel=1e-5)
    assert list(model.networks) == ["generator_ab", "generator_ba", "discriminator_a", "discriminator_b"]
    _, logs, model, fields = recorded_step(variant="recongan")
    assert list(model.networks) == ["generator_ab", "generator_ba", "discriminator_b"]
    assert 0 < logs["reconstruction_loss"] < both["reconstruction_loss"]
    assert 0 < logs["g_loss"] < both["g_loss"]
    assert model.translate(fields["images_b"], "b_to_a").shape == fields["images_b"].shape


def test_weight_decay_shrinks_every_weight():
    """With nothing else to descend, Adam's gradient is the decay times the weight."""
    model, decayed = tiny("discogan", weight_decay=0.0), tiny("discogan", weight_decay=0.5)
    assert float(model._decay("generators")) == 0
    with tf.GradientTape() as tape:
        loss = decayed._decay("generators")
    for variable, gradient in zip(
        decayed.player_variables("generators"), tape.gradient(loss, decayed.player_variables("generators"))
    ):
        np.testing.assert_allclose(gradient, 0.5 * np.array(variable), rtol=1e-5)


# -------------------------------------------------------------------- inference


def test_translates_both_ways_at_any_size(model):
    images = np.random.default_rng(0).uniform(0, 1, (3, 20, 28, 3)).astype("float32")
    there = model.translate(images)
    np.testing.assert_allclose(there, model.generator_ab(images), atol=1e-6)
    np.testing.assert_allclose(model.cycle(images), model.generator_ba(there), atol=1e-5)
    assert model.translate(images[0], "b_to_a").shape == (1, 20, 28, 3)
    with pytest.raises(ValueError, match="multiples of 4"):
        model.translate(images[:, :18])
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        model.translate(2 * images - 1)
    with pytest.raises(ValueError, match="'a_to_b' or 'b_to_a', got 'AtoB'"):
        model.translate(images, "AtoB")
    with pytest.raises(ValueError, match="16, 16"):
        tiny("discogan", code_size=5).translate(images)


def test_files_and_sheets_keep_the_range_of_zero_to_one(model, tmp_path):
    """A picture that a generator only copies comes out as it went in."""
    assert present.output_range(model) == (0.0, 1.0)
    copying = tiny("discogan")
    object.__setattr__(copying, "translate", lambda images, *_, **__: images)
    gray = np.full((16, 16, 3), 51, np.uint8)
    source = present.save_image(gray, tmp_path / "gray.png")
    (outcome,) = conversion.convert_files(copying, "translate", [source])
    assert (np.asarray(Image.open(outcome.target)) == 51).all()
    sheet = present.sample_picture(copying, {"images_a": gray[None] / 255, "images_b": gray[None] / 255})
    assert (sheet == 51).all(-1).sum() == 4 * 16 * 16


def test_measures_hidden_pairs_against_the_untouched_pictures(model):
    fields = make_fields(model, 4)
    measured = model.measure(fields)
    a, b = fields["images_a"], fields["images_b"]
    assert measured["l1_baseline"] == pytest.approx(np.abs(a - b).mean(), rel=1e-5)
    assert measured["l1_b_to_a"] == pytest.approx(np.abs(model.generator_ba(b) - a).mean(), rel=1e-5)
    assert {name.rsplit("_", 1)[0] for name in measured if name.endswith("_baseline")} == {
        "pair_recovery", "ssim", "l1"
    }  # fmt: skip


def test_pair_recovery_by_hand():
    references = np.arange(4.0).reshape(4, 1, 1, 1)
    images = np.array([0.2, 1.6, 2.4, 9.0]).reshape(4, 1, 1, 1)  # the second is nearer to the third
    assert discogan.pair_recovery(images, references) == 0.75


# -------------------------------------------------------------------- what was trained


def test_published_weights_find_hidden_pairs():
    """Untouched pictures find none of 130: the domains have different colours."""
    model = zoo.get("discogan.glyphs", weights="pretrained")
    pipeline = train.open_pipeline(model, "test", batch_size=130, num_examples=130, shuffle=False)
    examples = next(iter(pipeline.dataset(start_step=0)))
    measured = model.measure({name: np.asarray(value) for name, value in examples.items()})
    assert measured["pair_recovery_baseline"] < 0.1
    for direction in ("a_to_b", "b_to_a"):
        assert measured[f"pair_recovery_{direction}"] > 0.6
        assert measured[f"ssim_{direction}"] > 0.8


def test_recorded_comparison_has_the_papers_order():
    """In the same time more reconstruction finds more pairs: "gan" few, "recongan" many, "discogan" most."""
    path = pathlib.Path(__file__).parent.parent / "docs" / "results" / "discogan.variants.json"
    variants = json.loads(path.read_text(encoding="utf-8"))["variants"]
    for direction in ("a_to_b", "b_to_a"):
        gan, recongan, full = (
            variants[name][f"pair_recovery_{direction}"] for name in ("gan", "recongan", "discogan")
        )
        assert full > recongan > gan + 0.1
        assert full > variants["discogan"]["pair_recovery_baseline"] + 0.2
