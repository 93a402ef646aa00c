"""Losses and distances over features: VGG19's layers and weights, Gram matrices, the perceptual distance."""

import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_gan_zoo import cards, metrics
from tf_gan_zoo.metrics import classifier
from tf_gan_zoo.networks import vgg
from tf_gan_zoo.networks.vgg import FeatureWeightsError, VGG19Features
from tf_gan_zoo.perceptual import FeatureLoss, FeatureTerm, gram_matrices, texture_distance

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import train_perceptual_features as training  # noqa: E402


def pictures(*shape, low=-1.0, seed=0):
    return np.random.default_rng(seed).uniform(low, 1, shape).astype("float32")


# -------------------------------------------------------------------- VGG19


def test_vgg19_has_the_papers_weights():
    counts = {name: vgg.build_vgg19(depth=depth).count_params() for name, depth in
              {"relu2_2": 9, "relu5_4": 36}.items()}  # fmt: skip
    assert counts == {"relu2_2": 260_160, "relu5_4": 20_024_384}


def test_layers_before_and_after_the_relu():
    before, after, pooled = VGG19Features(["conv2_1", "relu2_1", "pool1"], "emoji")(pictures(2, 16, 16, 3))
    assert float(tf.reduce_min(before)) < 0
    np.testing.assert_array_equal(after, np.maximum(before, 0))
    assert pooled.shape == (2, 8, 8, 16)


def test_packaged_weights_are_read_as_far_as_they_are_needed():
    assert VGG19Features("relu1_2", "emoji").network.count_params() == 3 * 16 * 9 + 16 + 16 * 16 * 9 + 16
    described = vgg.describe_weights("emoji")
    assert "not the ImageNet weights" in described
    assert "random" in vgg.describe_weights(None)
    assert vgg.describe_weights("/a/b/mine.h5") == "VGG19 weights from the file mine.h5"


def test_model_cards_name_the_features():
    notes = {"features": vgg.describe_weights(None)}
    assert "Features: a VGG19 with random weights" in cards.training_section({"notes": notes})


def test_own_narrow_weights_by_path(tmp_path):
    keras.utils.set_random_seed(0)
    network = vgg.build_vgg19(width=2)
    classifier.save_arrays(network, tmp_path / "own.npz")
    images = pictures(1, 32, 32, 3)
    features = VGG19Features("relu5_4", str(tmp_path / "own.npz"))
    expected = keras.Model(network.input, network.get_layer("relu5_4").output)(vgg.vgg_inputs(images))
    # The file holds half-precision numbers, whose rounding adds up over sixteen layers.
    np.testing.assert_allclose(features(images), expected, atol=0.05 * float(np.max(expected)))
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(FeatureWeightsError, match="holds no VGG19.*To go on"):
        VGG19Features("relu1_1", str(tmp_path / "other.npz"))


def test_batch_normalisation_is_folded_into_the_convolutions(monkeypatch):
    monkeypatch.setattr(training, "WIDTH", 2)
    network, rng = vgg.build_vgg19(2, batch_norm=True), np.random.default_rng(0)
    for variable in network.variables:  # statistics, gains and biases other than at the start
        if len(variable.shape) == 1:
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    images = vgg.vgg_inputs(pictures(1, 32, 32, 3))
    expected = network(images, training=False)
    np.testing.assert_allclose(training.folded(network)(images), expected, rtol=1e-3, atol=1e-3)
    assert float(tf.reduce_max(expected)) > 0.1


def test_contrast_by_hand():
    logits = np.array([[2.0, 0.0], [1.0, -1.0]], "float32")
    rows = -np.log([np.exp(2) / (np.exp(2) + 1), np.exp(-1) / (np.exp(1) + np.exp(-1))])
    columns = -np.log([np.exp(2) / (np.exp(2) + np.exp(1)), np.exp(-1) / (1 + np.exp(-1))])
    loss, accuracy = training.contrast(tf.constant(logits))
    assert float(loss) == pytest.approx((rows.mean() + columns.mean()) / 2, rel=1e-5)
    assert float(accuracy) == 0.5


def test_trained_features_tell_emoji_better_than_random_ones():
    record = (vgg.PACKAGED["emoji"].with_suffix(".json")).read_text()
    numbers = {line.split('"')[1]: line for line in record.splitlines() if "retrieval" in line}
    trained, random = (float(numbers[k].split(":")[1].strip(" ,"))
                       for k in ("retrieval", "retrieval_of_random_weights"))  # fmt: skip
    assert trained > random + 0.1


# -------------------------------------------------------------------- losses


def test_terms_by_hand():
    squares, distances = FeatureTerm("relu1_2", 2.0), FeatureTerm("conv2_1", 3.0, "l1")
    terms = [squares, distances, FeatureTerm("pool1", 1.0, "gram")]
    loss = FeatureLoss(terms, "emoji", scale=0.5, patch_size=4)
    real, fake = pictures(2, 16, 16, 3), pictures(2, 16, 16, 3, seed=1)
    maps = VGG19Features(["relu1_2", "conv2_1", "pool1"], "emoji")
    (a, b, c), (d, e, f) = ([0.5 * x.numpy() for x in maps(images)] for images in (real, fake))
    gram = np.mean((gram_by_hand(c, 4) - gram_by_hand(f, 4)) ** 2)
    expected = [2 * np.mean((a - d) ** 2), 3 * np.mean(np.abs(b - e)), gram]
    np.testing.assert_allclose(loss.values(real, fake), expected, rtol=1e-4)
    assert float(loss(real, fake)) == pytest.approx(sum(expected), rel=1e-4)


def test_normalised_features_have_a_mean_activation_of_one():
    real, fake = pictures(4, 16, 16, 3), pictures(4, 16, 16, 3, seed=1)
    loss = FeatureLoss([FeatureTerm("relu2_2", 1.0)], "emoji", normalize=True)
    a, b = (VGG19Features("relu2_2", "emoji")(x).numpy() for x in (real, fake))
    assert float(loss(real, fake)) == pytest.approx(np.mean((a - b) ** 2) / a.mean() ** 2, rel=1e-4)


def test_gradients_reach_the_fake_pictures_alone():
    real, fake = tf.constant(pictures(1, 8, 8, 3)), tf.constant(pictures(1, 8, 8, 3, seed=1))
    loss = FeatureLoss([FeatureTerm("relu1_1")], "emoji", normalize=True)
    with tf.GradientTape() as tape:
        tape.watch([real, fake])
        value = loss(real, fake)
    to_real, to_fake = tape.gradient(value, [real, fake])
    assert to_real is None
    assert float(tf.reduce_max(tf.abs(to_fake))) > 0


def gram_by_hand(maps, patch):
    rows, columns = maps.shape[1] // patch, maps.shape[2] // patch
    result = []
    for picture in maps:
        for r in range(rows):
            for c in range(columns):
                x = picture[r * patch : (r + 1) * patch, c * patch : (c + 1) * patch]
                result.append(np.einsum("ijk,ijl->kl", x, x))
    return np.reshape(result, (len(maps), rows * columns, maps.shape[-1], maps.shape[-1]))


def test_gram_matrices_of_patches_by_hand():
    maps = pictures(2, 8, 12, 3)
    np.testing.assert_allclose(gram_matrices(maps, 4), gram_by_hand(maps, 4), rtol=1e-4, atol=1e-4)


def test_textures_are_equal_wherever_they_lie_within_a_patch():
    maps = pictures(1, 8, 8, 4)
    moved = maps.copy()
    for r in (0, 4):
        for c in (0, 4):
            moved[:, r : r + 4, c : c + 4] = np.roll(maps[:, r : r + 4, c : c + 4], (1, 2), axis=(1, 2))
    assert float(texture_distance(maps, moved, 4)) == pytest.approx(0, abs=1e-6)
    # The same texture in another patch is another picture.
    assert float(texture_distance(maps, np.roll(maps, 4, axis=1), 4)) > 0.01


def test_patches_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="multiples of 4, got 8x10"):
        gram_matrices(tf.zeros((1, 8, 10, 2)), 4)


# -------------------------------------------------------------------- metrics


def test_perceptual_distance_by_hand():
    a, b = pictures(3, 4, 4, 2), pictures(3, 4, 4, 2, seed=1)

    def maps(images):
        return [images, 2.0 * images[:, ::2, ::2]]

    def normalised(x):
        return x / np.linalg.norm(x, axis=-1, keepdims=True)

    expected = sum(
        np.sum((normalised(x) - normalised(y)) ** 2, axis=-1).mean((1, 2))
        for x, y in ((a, b), (a[:, ::2, ::2], b[:, ::2, ::2]))
    )
    np.testing.assert_allclose(metrics.perceptual_distance(a, b, maps), expected, rtol=1e-4)


def test_perceptual_distance_takes_a_shift_for_less_than_a_blur():
    """PSNR says the opposite: that is what the distance is for."""
    rng = np.random.default_rng(0)
    images = np.repeat(np.repeat(rng.uniform(-1, 1, (4, 12, 12, 3)), 4, axis=1), 4, axis=2).astype("float32")
    shifted = np.roll(images, 1, axis=2)
    small = tf.image.resize(images, (24, 24), antialias=True)
    blurred = tf.image.resize(small, (48, 48), "bicubic").numpy()
    psnr = [metrics.psnr(x, images, 2.0).mean() for x in (shifted, blurred)]
    distance = [metrics.perceptual_distance(x, images).mean() for x in (shifted, blurred)]
    assert psnr[0] < psnr[1]
    assert distance[0] < distance[1]
    np.testing.assert_array_equal(metrics.perceptual_distance(images, images), 0.0)


def test_brightness_is_that_of_papers():
    colours = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0], [10, 20, 30]]) / 127.5 - 1
    luma = metrics.cropped_luma(colours.reshape(1, 2, 2, 3), border=0).ravel()
    # MATLAB's rgb2ycbcr of these colours, before its rounding.
    np.testing.assert_allclose(luma, [16, 235, 81.481, 16 + (654.81 + 2571.06 + 748.98) / 255], atol=1e-3)
    gray = metrics.cropped_luma(np.full((1, 6, 8, 1), 1.0), border=2)
    assert gray.shape == (1, 2, 4, 1)
    np.testing.assert_allclose(gray, 235.0)
