"""Metrics of distributions against hand values, torch-fidelity, prdc and scikit-image."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from scipy.linalg import sqrtm

from tf_gan_zoo import metrics
from tf_gan_zoo.metrics import inception, swd
from tf_gan_zoo.metrics.ms_ssim import draw_pairs, num_scales

DATA = Path(__file__).resolve().parent / "data"
REFERENCE = json.loads((DATA / "metric_references.json").read_text())


def _arrays():
    spec = importlib.util.spec_from_file_location("references", DATA / "make_metric_references.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ARRAYS = _arrays()


def normal(count, mean=0.0, scale=1.0, seed=0, size=8):
    return mean + scale * np.random.default_rng(seed).normal(size=(count, size))


def one_hot(classes, num_classes):
    return np.eye(num_classes)[np.asarray(classes)]


def textures(count, seed=0, size=32, channels=1):
    """Smooth random pictures in about [-1, 1]."""
    noise = np.random.default_rng(seed).normal(size=(count, size, size, channels))
    return np.tanh(swd.ndimage.gaussian_filter(noise, (0, 2, 2, 0)) * 4)


# -------------------------------------------------------------------- other libraries


def test_agrees_with_torch_fidelity_and_prdc():
    a, b = ARRAYS.feature_sets()
    near = {"rel": 1e-4}
    distance = REFERENCE["fid"]["frechet_inception_distance"]
    assert metrics.frechet_distance(a, b) == pytest.approx(distance, **near)
    options = REFERENCE["kid_options"]
    subsets = metrics.kernel_inception_distances(
        a, b, num_subsets=options["kid_subsets"], subset_size=options["kid_subset_size"],
        seed=options["rng_seed"],
    )  # fmt: skip
    assert subsets.mean() == pytest.approx(REFERENCE["kid"]["kernel_inception_distance_mean"], **near)
    assert subsets.std() == pytest.approx(REFERENCE["kid"]["kernel_inception_distance_std"], **near)
    scores = metrics.inception_scores(tf.nn.softmax(ARRAYS.logits()).numpy(), splits=5)
    assert scores.mean() == pytest.approx(REFERENCE["isc"]["inception_score_mean"], **near)
    assert scores.std() == pytest.approx(REFERENCE["isc"]["inception_score_std"], **near)
    counted = metrics.precision_recall_density_coverage(a, b)
    expected = {**REFERENCE["prc"], "density": REFERENCE["density"], "coverage": REFERENCE["coverage"]}
    assert counted == pytest.approx(expected, **near)


def test_agrees_with_recorded_scikit_image():
    clean, noisy = ARRAYS.picture_pairs()
    np.testing.assert_allclose(metrics.psnr(noisy, clean, 2.0), REFERENCE["psnr"], rtol=1e-4)
    np.testing.assert_allclose(metrics.ssim(noisy, clean, 2.0), REFERENCE["ssim"], rtol=1e-4)


def test_ms_ssim_agrees_with_tensorflow():
    clean = textures(3, size=192, channels=3)
    noisy = clean + 0.1 * normal(clean.size, size=1).reshape(clean.shape)
    expected = tf.image.ssim_multiscale(tf.constant(clean), tf.constant(noisy), 2.0)
    np.testing.assert_allclose(metrics.ms_ssim(noisy, clean, 2.0), expected, rtol=1e-4)


# -------------------------------------------------------------------- hand values


def test_frechet_distance_of_two_gaussians():
    # Exact moments: mean shift 3 in one direction, variances 1 and 4 in the other: 9 + (2 - 1)^2.
    corners = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1.0]])
    a, b = corners, corners * [1, 2] + [3, 0]
    scale = 4 / 3  # the unbiased variance of four corners
    assert metrics.frechet_distance(a, b) == pytest.approx(9 + scale, rel=1e-9)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_of_known_covariances():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(2, 5, 5))
    a, b = (rng.normal(size=(200, 5)) @ m for m in mixing)
    c_a, c_b = np.cov(a.T), np.cov(b.T)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(c_a + c_b - 2 * sqrtm(c_a @ c_b).real)
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)


def test_moments_do_not_depend_on_batches_and_keep_their_precision():
    features = normal(1000, mean=1e6, seed=3)
    moments = metrics.Moments(8)
    for start, end in ((0, 1), (1, 400), (400, 1000)):
        moments.update(features[start:end])
    other = metrics.Moments.of(features[:300])
    other.merge(metrics.Moments.of(features[300:]))
    for candidate in (moments, other, metrics.Moments.from_state(moments.state())):
        assert candidate.count == 1000
        np.testing.assert_allclose(candidate.mean, features.mean(0), rtol=1e-12)
        np.testing.assert_allclose(candidate.covariance, np.cov(features.T), rtol=1e-6, atol=1e-8)


def test_inception_score_bounds():
    assert metrics.inception_score(one_hot(np.arange(100) % 5, 5), splits=1) == pytest.approx(5)
    assert metrics.inception_score(one_hot(np.zeros(100, int), 5), splits=4) == pytest.approx(1)
    assert metrics.inception_score(np.full((100, 5), 0.2)) == pytest.approx(1)


def test_kid_by_its_definition():
    a, b = normal(6, seed=1), normal(6, mean=0.3, seed=2)
    kernel = lambda x, y: (x @ y / 8 + 1) ** 3  # noqa: E731
    pairs = [(i, j) for i in range(6) for j in range(6)]
    within = np.mean([kernel(x[i], x[j]) for x in (a, b) for i, j in pairs if i != j]) * 2
    between = np.mean([kernel(a[i], b[j]) for i, j in pairs])
    value = metrics.kernel_inception_distance(a, b, num_subsets=3, subset_size=6)
    assert value == pytest.approx(within - 2 * between)


def test_precision_recall_density_coverage_on_a_line():
    real = np.array([[0.0], [1], [2], [10], [11], [12]])
    fake = np.array([[0.5], [1.5], [0.9], [1.1], [1.2], [30]])
    # k = 1: every real ball has radius 1. The fakes lie in the left ones: 0.5 in two (0, 1), and so on.
    counted = metrics.precision_recall_density_coverage(real, fake, k=1)
    inside = sum(int((np.abs(real - f) < 1).sum()) for f in fake)
    assert counted["precision"] == pytest.approx(5 / 6)
    assert counted["density"] == pytest.approx(inside / 6)
    assert counted["coverage"] == pytest.approx(3 / 6)
    assert counted["recall"] == pytest.approx(5 / 6)  # the far fake's ball reaches 28.5 to the left


def test_the_pyramid_adds_up_and_patches_of_equal_sets_are_equal():
    images = textures(6, size=64, channels=3).astype("float32")
    levels = swd.laplacian_pyramid(images)
    assert [level.shape[1] for level in levels] == [64, 32, 16]
    whole = levels[2]
    for level in levels[1::-1]:
        whole = level + swd.upsampled(whole)
    np.testing.assert_allclose(whole, images, atol=1e-5)
    flat = swd.upsampled(np.ones((1, 8, 8, 1)))
    np.testing.assert_allclose(flat, 1, atol=1e-12)
    points = np.zeros((9, 1)), np.full((9, 1), 2.0)
    assert swd._sliced_distance(*points, 4, np.random.default_rng(0)) == pytest.approx(2)


def test_ms_ssim_uses_the_scales_that_fit():
    sizes = [(11, 1), (22, 2), (28, 2), (32, 2), (44, 3), (64, 3), (88, 4), (176, 5), (512, 5)]
    assert [(side, num_scales((side, side))) for side, _ in sizes] == sizes
    image = textures(2, size=28)
    np.testing.assert_allclose(metrics.ms_ssim(image, image, 2.0), 1)


def test_pairs_are_of_different_pictures_of_one_class():
    labels = np.array([0, 1, 1, 0, 2, 1])  # class 2 has no pair
    first, second = draw_pairs(6, labels, 300, np.random.default_rng(0))
    assert (first != second).all()
    assert (labels[first] == labels[second]).all()
    assert set(labels[first]) == {0, 1}


# -------------------------------------------------------------------- more noise is worse


def test_all_metrics_rise_or_fall_with_noise():
    features, clean = normal(400, seed=1), textures(40, seed=1)
    noises, small = (0.0, 0.5, 2.0), {"num_projections": 32, "patches_per_image": 32}
    worse = {"fid": [], "kid": [], "precision": [], "coverage": [], "swd": []}
    other = textures(40, seed=2)
    for noise in noises:
        fake = normal(400, seed=2) + noise * normal(400, seed=3)
        counted = metrics.precision_recall_density_coverage(features, fake)
        worse["fid"].append(metrics.frechet_distance(features, fake))
        worse["kid"].append(metrics.kernel_inception_distance(features, fake, num_subsets=4, subset_size=300))
        worse["coverage"].append(-counted["coverage"])
        worse["precision"].append(-counted["precision"])
        noisy = other + noise * normal(other.size, size=1, seed=4).reshape(other.shape)
        worse["swd"].append(metrics.sliced_wasserstein(clean, noisy, **small))
    for name, values in worse.items():
        assert values == sorted(values), name
        assert values[0] < values[-1], name


def test_pairwise_ms_ssim_sees_a_collapse():
    diverse = textures(30)
    collapsed = np.repeat(diverse[:1], 30, axis=0)
    assert metrics.pairwise_ms_ssim(collapsed, 2.0, num_pairs=20) == pytest.approx(1)
    assert metrics.pairwise_ms_ssim(diverse, 2.0, num_pairs=50) < 0.3


# -------------------------------------------------------------------- errors


@pytest.mark.parametrize("call, words", [
    (lambda: metrics.frechet_distance(normal(9), normal(9, size=4)), "differ in features: 8 and 4"),
    (lambda: metrics.frechet_distance(np.zeros(5), normal(9)), r"expected features \(count, features\)"),
    (lambda: metrics.frechet_distance(np.full((4, 8), np.nan), normal(9)), "NaN or infinite"),
    (lambda: metrics.frechet_distance(normal(1), normal(9)), "at least 2 feature vectors"),
    (lambda: metrics.Moments(8).update(normal(3, size=4)), "vectors of 8 features, got 4"),
    (lambda: metrics.kernel_inception_distance(normal(9), normal(9)), "from 2 to the smaller count, 9"),
    (lambda: metrics.inception_score(normal(20)), "add up to 1"),
    (lambda: metrics.inception_score(one_hot([0, 1], 2)), "count >= 10"),
    (lambda: metrics.precision_recall_density_coverage(normal(5), normal(9)), "below the smaller count, 5"),
    (lambda: metrics.sliced_wasserstein(textures(2), textures(3)), "as many pictures"),
    (lambda: metrics.ms_ssim(textures(2, size=8), textures(2, size=8), 2.0), "at least 11x11"),
    (lambda: metrics.pairwise_ms_ssim(textures(1), 2.0), "at least two pictures"),
])  # fmt: skip
def test_bad_arrays_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# -------------------------------------------------------------------- the network of 2015


@pytest.fixture(scope="module")
def network():
    return inception.build_network()


def test_the_2015_network_computes_what_torch_fidelity_computes(network):
    arrays = ARRAYS.network_arrays(inception.torch_shapes(network))
    assert len(arrays) == REFERENCE["fid2015"]["num_arrays"]
    inception.set_arrays(network, arrays)
    images = tf.constant(ARRAYS.pixels() / 127.5 - 1, tf.float32)
    features, logits = network(inception.prepare(images), training=False)
    np.testing.assert_allclose(features[0, ::128], REFERENCE["fid2015"]["features"], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(logits[0, ::63], REFERENCE["fid2015"]["logits"], rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_the_2015_extractor_from_a_file(network, tmp_path):
    np.savez(tmp_path / "fid2015.npz", **ARRAYS.network_arrays(inception.torch_shapes(network)))
    extractor = metrics.get_extractor(f"fid2015:{tmp_path / 'fid2015.npz'}")
    features, probabilities = extractor(ARRAYS.pixels() / 127.5 - 1)
    np.testing.assert_allclose(features[0, ::128], REFERENCE["fid2015"]["features"], rtol=1e-3, atol=1e-4)
    assert probabilities.shape == (1, 1008)
    assert extractor.digest == inception.file_digest(tmp_path / "fid2015.npz")
    assert "TensorFlow 1" in extractor.preprocessing


def test_its_size_and_shapes(network):
    assert [tuple(output.shape[1:]) for output in network.outputs] == [(2048,), (1008,)]
    # torchvision's Inception-V3 without its auxiliary head has 21,785,568 below the last layer.
    convolutions = sum(int(np.prod(v.shape)) for v in network.trainable_variables) - 2048 * 1008
    assert convolutions == 21_785_568


def test_its_quirks():
    ramp = tf.reshape(tf.range(9.0), (1, 3, 3, 1))
    mean = inception.mean_without_padding(ramp)[0, :, :, 0].numpy()
    assert mean[0, 0] == pytest.approx((0 + 1 + 3 + 4) / 4)  # four pixels, not nine
    assert mean[1, 1] == pytest.approx(4)
    black_and_white = tf.constant([[-1.0, 1.0]])[:, :, None, None] * tf.ones((1, 2, 2, 3))
    rows = inception.prepare(black_and_white)[0, :, 0, 0].numpy() * 128 + 128
    # TensorFlow 1: row k looks at k * 2 / 299, and the last half of the rows is the last pixel.
    np.testing.assert_allclose(rows[:150], 255 * np.arange(150) * 2 / 299, atol=1e-3)
    np.testing.assert_allclose(rows[150:], 255, atol=1e-3)


def test_only_the_last_block_pools_by_maximum(network):
    pools = [layer for layer in network.layers if "pooling" in layer.name and "global" not in layer.name]
    kinds = [type(layer).__name__.replace("Pooling2D", "") for layer in pools if layer.strides == (1, 1)]
    assert kinds == ["Average"] * 8 + ["Max"]


def test_foreign_arrays_are_refused(network, tmp_path):
    np.savez(tmp_path / "w.npz", **{"fc.weight": np.zeros((1000, 2048))})
    with pytest.raises(metrics.FeatureWeightsError, match="not the 2015 FID network"):
        inception.load_arrays(network, tmp_path / "w.npz")
    (tmp_path / "broken.npz").write_bytes(b"no archive")
    with pytest.raises(metrics.FeatureWeightsError, match="not an .npz file"):
        inception.load_arrays(network, tmp_path / "broken.npz")
    with pytest.raises(metrics.FeatureWeightsError, match="torch.load"):
        metrics.get_extractor(f"fid2015:{tmp_path / 'none.npz'}")
