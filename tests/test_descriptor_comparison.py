"""The script that compares descriptors with OpenCV's: pairs, protocol, a perfect and a useless descriptor."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import evaluate_descriptors as script  # noqa: E402

pytest.importorskip("cv2", reason="SIFT and ORB need OpenCV: pip install tf_gan_zoo[features]")


def squares(count, size=28, seed=0):
    """Gray pictures of coarse random squares, in [-1, 1]."""
    coarse = np.random.default_rng(seed).uniform(-1, 1, (count, 4, 4, 1))
    return np.kron(coarse, np.ones((1, size // 4, size // 4, 1))).astype("float32")


def test_views_are_the_same_picture_moved_and_relit():
    images, views = script.make_pairs(squares(30))
    assert views.shape == images.shape
    assert views.dtype == np.float32
    assert -1 <= views.min() <= views.max() <= 1
    likeness = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(images, views)]
    others = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(images, np.roll(views, 1, axis=0))]
    assert 0.3 < np.mean(likeness) < 0.98
    assert abs(np.mean(others)) < 0.15
    np.testing.assert_array_equal(script.make_pairs(squares(3))[1], script.make_pairs(squares(3))[1])


@pytest.mark.parametrize("kind, shape, dtype", [("SIFT", (4, 128), np.float32), ("ORB", (4, 32), np.uint8)])
def test_opencv_describes_a_picture_as_a_whole(kind, shape, dtype):
    images = squares(4)
    rows = script.opencv_descriptors(images, kind)
    assert rows.shape == shape
    assert rows.dtype == dtype
    changed = images.copy()
    changed[:, 20:, 20:] *= -1  # far from the middle
    assert (script.opencv_descriptors(changed, kind) != rows).any(axis=1).all()


def test_sift_and_orb_beat_guessing_and_random_bits_on_the_pairs():
    images, labels = squares(40), np.arange(40) % 4
    sides = ({"images": images[:10], "labels": labels[:10]}, {"images": images[10:], "labels": labels[10:]})
    pairs = script.make_pairs(squares(200, seed=1))
    results = {
        name: script.measure(*method, *sides, pairs) for name, method in script.methods_of({}, 32).items()
    }
    assert {name: r["bits"] for name, r in results.items()} == {
        "random_hyperplanes": 32, "sift": 1024, "orb": 256,
    }  # fmt: skip
    assert results["sift"]["fpr_at_95"] < results["random_hyperplanes"]["fpr_at_95"] < 1
    assert all(0 <= r["retrieval_map"] <= 1 for r in results.values())


def test_squared_distances_by_hand():
    first, second = np.array([[0.0, 3.0]]), np.array([[4.0, 0.0], [0.0, 3.0]])
    np.testing.assert_allclose(script.squared_distances(first, second), [[25, 0]])
    np.testing.assert_allclose(script.paired_distances(first, second[:1]), [25])
