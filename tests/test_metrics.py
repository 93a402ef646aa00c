"""Picture metrics against hand values and scikit-image."""

import numpy as np
import pytest

from tf_gan_zoo import metrics


@pytest.fixture
def noisy_pair():
    rng = np.random.default_rng(0)
    clean = rng.uniform(-1, 1, (3, 20, 26, 3)).cumsum(axis=2) / 10
    return clean, clean + rng.normal(0, 0.1, clean.shape)


def test_hand_values():
    black, gray = np.zeros((2, 12, 12, 1)), np.full((2, 12, 12, 1), 0.5)
    np.testing.assert_allclose(metrics.l1(black, gray), [0.5, 0.5])
    # Squared error 0.25 at a range of 1: 10 log10(4).
    np.testing.assert_allclose(metrics.psnr(black, gray, data_range=1.0), [6.0206, 6.0206], atol=1e-4)
    # Without variance only the term of the means is left: c1 / (0.25 + c1).
    np.testing.assert_allclose(metrics.ssim(black, gray, data_range=1.0), [1e-4 / 0.2501] * 2)
    assert np.isinf(metrics.psnr(gray, gray, data_range=1.0)).all()
    np.testing.assert_allclose(metrics.ssim(gray, gray, data_range=1.0), [1, 1])


def test_gradients_are_the_slope_of_a_ramp_and_tell_an_edge_from_ripples():
    rows, columns = np.mgrid[:9, :7]
    ramp = (0.3 * rows + 0.4 * columns)[None, :, :, None]
    edge = np.where(columns < 3, 0.0, 1.5)[None, :, :, None]  # one of six steps to the right
    for length in (metrics.mean_gradient, metrics.rms_gradient):
        np.testing.assert_allclose(length(ramp), [0.5])
        np.testing.assert_allclose(length(np.ones_like(ramp)), [0])
    np.testing.assert_allclose(metrics.mean_gradient(edge), [1.5 / 6])
    np.testing.assert_allclose(metrics.rms_gradient(edge), [1.5 / np.sqrt(6)])


def test_agrees_with_scikit_image(noisy_pair):
    reference = pytest.importorskip("skimage.metrics")
    clean, noisy = noisy_pair
    for k in range(len(clean)):
        expected = reference.structural_similarity(
            clean[k], noisy[k], data_range=2.0, channel_axis=-1, gaussian_weights=True, sigma=1.5,
            use_sample_covariance=False,
        )  # fmt: skip
        np.testing.assert_allclose(metrics.ssim(noisy, clean, data_range=2.0)[k], expected, rtol=1e-10)
        expected = reference.peak_signal_noise_ratio(clean[k], noisy[k], data_range=2.0)
        np.testing.assert_allclose(metrics.psnr(noisy, clean, data_range=2.0)[k], expected, rtol=1e-10)


@pytest.mark.parametrize("metric", [metrics.l1, lambda a, b: metrics.ssim(a, b, 1.0)])
def test_shapes_that_differ_are_refused(metric):
    with pytest.raises(ValueError, match=r"same shape, got \(1, 12, 12, 3\) and \(1, 12, 12, 1\)"):
        metric(np.zeros((1, 12, 12, 3)), np.zeros((1, 12, 12, 1)))


def test_pictures_too_small_for_the_window_are_refused():
    with pytest.raises(ValueError, match="at least 11x11"):
        metrics.ssim(np.zeros((1, 10, 30, 1)), np.zeros((1, 10, 30, 1)), 1.0)
