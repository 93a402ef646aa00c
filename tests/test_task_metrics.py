"""Task metrics against hand values."""

import numpy as np
import pytest

from tf_gan_zoo.metrics import tasks


def test_nearest_neighbours_by_brute_force():
    rng = np.random.default_rng(0)
    queries, references = rng.normal(size=(5, 2, 2, 1)), rng.normal(size=(7, 2, 2, 1))
    index, distance = tasks.nearest_neighbours(queries, references)
    for q, i, d in zip(queries, index, distance):
        distances = [np.sqrt(np.mean((q - r) ** 2)) for r in references]
        assert i == int(np.argmin(distances))
        assert d == pytest.approx(min(distances))
    index, distance = tasks.nearest_neighbours(queries, queries, leave_own_out=True)
    for own, (q, i, d) in enumerate(zip(queries, index, distance)):
        distances = [np.inf if k == own else np.sqrt(np.mean((q - r) ** 2)) for k, r in enumerate(queries)]
        assert i == int(np.argmin(distances))
        assert d == pytest.approx(min(distances))


def test_class_coverage_of_all_classes_and_of_a_collapse():
    images = np.arange(4.0).reshape(4, 1, 1, 1)
    labels = np.array([0, 1, 2, 3])
    full = tasks.class_coverage(np.repeat(images, 3, axis=0), images, labels)
    assert full["classes"] == full["num_classes"] == 4
    assert full["class_entropy"] == pytest.approx(np.log(4))
    assert full["neighbour_distance"] == 0.0
    collapsed = tasks.class_coverage(np.full((8, 1, 1, 1), 2.1), images, labels)
    assert collapsed["classes"] == 1
    assert collapsed["class_entropy"] == 0.0
    assert collapsed["neighbour_distance"] == pytest.approx(0.1)


def test_clustering_accuracy_takes_the_best_assignment():
    labels = np.array([0, 0, 0, 1, 1, 2])
    assert tasks.clustering_accuracy(np.array([2, 2, 2, 0, 0, 1]), labels) == 1.0
    assert tasks.clustering_accuracy(np.array([0, 0, 1, 1, 1, 1]), labels) == pytest.approx(4 / 6)
