"""What the BinGAN paper claims: both regularisers at known points, packed descriptors, what they are for."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import held_out, make_dataset, tiny

import tf_gan_zoo as zoo
from tf_gan_zoo import penalties
from tf_gan_zoo.batch_spec import BatchError
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.metrics import descriptors
from tf_gan_zoo.models import bingan
from tf_gan_zoo.models.bingan import BinGANConfig

PATCHES = {"architecture": "patches", "num_bits": 256, "deep_width": 128}


def pictures(count, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (count, 16, 16, 1)).astype("float32")


def signs(*shape, seed=0):
    return tf.constant(np.sign(np.random.default_rng(seed).normal(size=shape)).astype("float32"))


# -------------------------------------------------------------------- sizes


@pytest.mark.parametrize("overrides, expected", [
    ({"num_bits": 16}, 1_408_004), ({"num_bits": 64}, 1_417_412), (PATCHES, 788_420),
])  # fmt: skip
def test_other_papers_sizes(overrides, expected):
    network = bingan.build_discriminator(BinGANConfig(**overrides))
    assert sum(int(np.prod(v.shape)) for v in network.trainable_variables) == expected


def test_layers_that_are_tied_together():
    shapes = [o.shape for o in bingan.build_discriminator(BinGANConfig()).outputs]
    assert shapes == [(None, 2), (None, 32), (None, 192), (None, 32)]
    shapes = [o.shape for o in bingan.build_discriminator(BinGANConfig(**PATCHES)).outputs]
    assert shapes == [(None, 2), (None, 256), (None, 6, 6, 128), (None, 128)]


# -------------------------------------------------------------------- regularisers


def test_distance_matching_is_zero_where_similarities_agree():
    narrow = penalties.pair_similarities(signs(6, 16))
    wide = penalties.pair_similarities(tf.repeat(signs(6, 16), 4, axis=1))  # the same bits, four times
    assert float(bingan.distance_matching(wide, narrow)) == pytest.approx(0.0, abs=1e-6)
    other = penalties.pair_similarities(signs(6, 64, seed=1))
    pairs = np.abs(other.numpy() - narrow.numpy()) * (1 - np.eye(6))
    assert float(bingan.distance_matching(other, narrow)) == pytest.approx(pairs.sum() / 30, rel=1e-5)


@pytest.mark.parametrize("wide, weight", [
    ([[1, 1, 1, 1], [1, 1, -1, -1]], 1.0),  # orthogonal
    ([[1, 1, 1, 1], [1, 1, 1, 1]], np.exp(-1 / 2.0)),  # identical
])  # fmt: skip
def test_correlation_counts_by_how_unlike_the_wide_layer_finds_a_pair(wide, weight):
    narrow = penalties.pair_similarities(tf.constant([[1.0, 1, 1, -1], [1, 1, 1, 1]]))  # likeness 1/2
    wide = penalties.pair_similarities(tf.constant(wide, tf.float32))
    value = bingan.weighted_correlation(wide, narrow, beta=2.0)
    assert float(value) == pytest.approx(0.5 * weight, rel=1e-5)


def test_signs_of_the_wide_layer():
    flat = bingan.hard_signs(tf.constant([[[0.0, -0.1]], [[3.0, 0.2]]]))
    np.testing.assert_array_equal(flat, [[1, -1], [1, 1]])  # 0 counts as on


def test_d_descends_the_weighted_sum_on_real_pictures_only():
    model = tiny("bingan", dmr_weight=0.5, bre_weight=0.25)
    real, fake = tf.constant(pictures(6)), tf.constant(pictures(6, seed=1))
    logs = model._d_losses(real, fake, training=False)
    _, codes, wide, _ = (np.asarray(x) for x in model.discriminator(real, training=False))
    b, c = codes / (np.abs(codes) + 0.001), np.where(wide >= 0, 1.0, -1.0)
    low, high, off = b @ b.T / 8, c @ c.T / 8, 1 - np.eye(6)
    dmr = (np.abs(high - low) * off).sum() / 30
    bre = (b.mean(0) ** 2).mean() + (np.exp(-np.abs(high) / 2) * np.abs(low) * off).sum() / 30
    assert float(logs["dmr_loss"]) == pytest.approx(dmr, rel=1e-4)
    assert float(logs["bre_loss"]) == pytest.approx(bre, rel=1e-4)
    expected = float(logs["d_loss"]) + 0.5 * dmr + 0.25 * bre
    assert float(model._weighted(logs)) == pytest.approx(expected, rel=1e-4)
    again = model._d_losses(real, tf.constant(pictures(6, seed=2)), training=False)
    assert float(again["dmr_loss"]) == float(logs["dmr_loss"])  # whatever the samples are
    assert float(again["d_loss"]) != float(logs["d_loss"])


def test_no_gradient_flows_through_the_wide_layers_signs():
    model = tiny("bingan")
    images = tf.constant(pictures(4))
    with tf.GradientTape() as tape:
        _, _, wide, _ = model.discriminator(images)
        total = tf.reduce_sum(bingan.hard_signs(wide))
    assert tape.gradient(total, model.discriminator.trainable_variables[:1]) == [None]


def test_generator_matches_the_layer_before_the_logits():
    model = tiny("bingan")
    real, fake = tf.constant(pictures(4)), tf.constant(pictures(4, seed=1))
    features = [np.asarray(model.discriminator(x, training=False)[3]).mean(0) for x in (real, fake)]
    expected = ((features[0] - features[1]) ** 2).mean()
    assert float(model._g_loss(real, fake, training=False)) == pytest.approx(expected, rel=1e-4)


# -------------------------------------------------------------------- descriptors


def test_descriptors_are_packed_bits_of_the_codes():
    model = tiny("bingan", num_bits=16)
    images = pictures(5)
    bits = model.describe(images)
    assert bits.dtype == np.uint8
    assert bits.shape == (5, 2)
    codes = np.asarray(model.discriminator(images, training=False)[1])
    np.testing.assert_array_equal(np.unpackbits(bits, axis=1), codes >= 0)
    np.testing.assert_array_equal(model.describe(images[0])[0], bits[0])
    with pytest.raises(BatchError, match="expected float32"):
        model.describe(images[:, :8])


def test_patches_have_256_bits_of_a_pooled_map(tmp_path):
    model = tiny("bingan", architecture="patches", num_bits=64)
    model.run_eagerly = True
    assert np.isfinite(model.fit(make_dataset(model, 1), verbose=0).history["dmr_loss"]).all()
    bits = model.describe(pictures(3))
    assert bits.shape == (3, 8)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.describe(pictures(3)), bits)


def test_hamming_distances_by_hand():
    first = np.array([[0b10110000, 0b00000001], [0, 0]], np.uint8)
    second = np.array([[0b10110000, 0b00000001], [0b11111111, 0b11111111], [0, 0b00000011]], np.uint8)
    expected = [[0, 12, 4], [4, 16, 2]]
    np.testing.assert_array_equal(descriptors.hamming_distances(first, second), expected)
    np.testing.assert_array_equal(descriptors.paired_hamming_distances(first, second[:2]), [0, 16])
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (2, 9, 24), np.uint8)
    plain = (bits[0][:, None] != bits[1][None]).sum(-1)
    packed = np.packbits(bits, axis=-1)
    np.testing.assert_array_equal(descriptors.hamming_distances(*packed), plain)
    with pytest.raises(ValueError, match="packed bits of one length"):
        descriptors.hamming_distances(first, second[:, :1])


def test_average_precision_by_hand():
    """Classes in the order of distance: right, wrong, right | wrong, wrong, wrong -> (1 + 2/3) / 2 and 0."""
    distances = np.array([[3, 1, 2, 0], [0, 1, 2, 3]])
    labels = np.array([9, 5, 7, 7])
    value = descriptors.mean_average_precision(distances, np.array([7, 8]), labels, top=3)
    assert value == pytest.approx((1 + 2 / 3) / 2 / 2)
    perfect = descriptors.mean_average_precision(np.eye(3), np.arange(3), np.array([1, 2, 0]), top=3)
    assert perfect == pytest.approx(np.mean([1 / 3, 1 / 1, 1 / 2]), abs=0.5)


def test_false_positives_at_95_percent_by_hand():
    matching = np.arange(100)  # 95 of them are at most 94
    assert descriptors.false_positive_rate_at_95(matching, np.array([94, 95, 200, 10])) == 0.5
    assert descriptors.false_positive_rate_at_95(np.zeros(20), np.zeros(10)) == 1.0  # ties pass


def test_regularisers_keep_descriptors_apart_and_make_them_find_more():
    """Eight noisy pictures, the same steps with and without: untied bits tell few of them apart."""
    rng = np.random.default_rng(0)
    centres, labels = rng.normal(0, 0.6, (8, 16, 16, 1)), np.arange(128) % 8
    images = np.clip(centres[labels] + rng.normal(0, 0.3, (128, 16, 16, 1)), -1, 1).astype("float32")
    penalty, precision = {}, {}
    for weight in (0.0, 1.0):
        model = tiny(
            "bingan", dmr_weight=weight, bre_weight=weight, softness=0.1, num_bits=16, learning_rate=2e-3,
            input_dropout=0.0, hidden_dropout=0.0,
        )  # fmt: skip
        model.fit(images, batch_size=32, epochs=8, verbose=0, shuffle=False)
        logs = model._d_losses(tf.constant(images), tf.constant(images), training=False)
        penalty[weight] = float(logs["bre_loss"])
        precision[weight] = bingan._retrieval(model.describe(images), labels)
    assert penalty[1.0] < 0.5 * penalty[0.0]
    assert precision[1.0] > 1.5 * precision[0.0]


# -------------------------------------------------------------------- use and misuse


def test_one_picture_has_no_pair():
    with pytest.raises(BatchError, match="compare pairs of pictures, and a batch has 1"):
        tiny("bingan").fit(pictures(3), batch_size=1, verbose=0)


@pytest.mark.parametrize("overrides, message", [
    ({"num_bits": 12}, "a multiple of 8, got 12"),
    ({"image_size": 30}, "30 cannot be had"),
    ({"batch_size": 1}, "greater than or equal to 2"),
])  # fmt: skip
def test_impossible_configs_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        BinGANConfig(**overrides)


def test_listed_for_features_too():
    assert "bingan" in zoo.list_models("features")
    assert "bingan" in zoo.list_models("generation")


def test_published_descriptors_find_pictures_of_a_class():
    """Better than as many random bits of pixels, and than the untrained network, on the test split."""
    batch = held_out("bingan.fashion_mnist", 500)
    trained = zoo.get("bingan.fashion_mnist", weights="pretrained").measure(batch)
    untrained = zoo.get("bingan.fashion_mnist").measure(batch)
    assert trained["retrieval_map"] > trained["retrieval_map_baseline"] + 0.02
    assert trained["retrieval_map"] > untrained["retrieval_map"] + 0.1
