"""Metrics of class-conditional samples: do they look like their class, and can one learn from them?"""

from __future__ import annotations

import numpy as np

from tf_gan_zoo.metrics import classifier
from tf_gan_zoo.metrics.features import FeatureExtractor
from tf_gan_zoo.metrics.frechet import checked_pair, frechet_distance


def class_accuracy(images: np.ndarray, labels: np.ndarray, extractor: FeatureExtractor) -> float:
    """Part of generated pictures that a classifier of real ones takes for the class they were made for.

    Args:
        images: (count, height, width, channels) in [-1, 1].
        labels: integers (count,).
        extractor: its probabilities name the class.

    Raises:
        ValueError: if the labels do not fit.
    """
    labels = _checked_labels(labels, len(images))
    _, probabilities = extractor(images)
    return float((probabilities.argmax(axis=1) == labels).mean())


def classwise_frechet_distance(
    real: np.ndarray, real_labels: np.ndarray, fake: np.ndarray, fake_labels: np.ndarray
) -> float:
    """Mean over classes of `frechet_distance` between the real and the fake ones of a class.

    Args:
        real: features (count, features).
        real_labels: integers (count,).
        fake: features (count, features).
        fake_labels: integers (count,).

    Raises:
        ValueError: if the arrays do not fit, or a class of the real ones has fewer than two of either.

    Reference: Y. Benny et al., "Evaluation Metrics for Conditional Image Generation", IJCV 2021,
    arXiv:2004.12361, equation 8 (within-class FID).
    """
    real, fake = checked_pair(real, fake)
    real_labels = _checked_labels(real_labels, len(real))
    fake_labels = _checked_labels(fake_labels, len(fake))
    distances = []
    for label in np.unique(real_labels):
        a, b = real[real_labels == label], fake[fake_labels == label]
        if min(len(a), len(b)) < 2:
            raise ValueError(f"class {label} has {len(a)} real and {len(b)} fake examples; 2 are needed.")
        distances.append(frechet_distance(a, b))
    return float(np.mean(distances))


def classification_accuracy_score(
    fake_images: np.ndarray, fake_labels: np.ndarray, real_images: np.ndarray, real_labels: np.ndarray, *,
    epochs: int | None = None, seed: int = 0,
) -> float:  # fmt: skip
    """Accuracy on real pictures of a classifier that has seen nothing but fake ones.

    The classifier is the zoo's small one (`metrics/classifier.py`) instead of the paper's ResNet-50.

    Args:
        fake_images: (count, side, side, channels) in [-1, 1].
        fake_labels: the classes they were generated for, integers (count,).
        real_images: the same kind of pictures.
        real_labels: integers (count,).
        epochs: passes over the fakes, 64 at a time; None for 5, or what 100 steps need.
        seed: decides initial weights, order and dropout.

    Returns:
        A part between 0 and 1.

    Raises:
        ValueError: if the arrays do not fit, or the pictures are not square.

    Reference: S. Ravuri, O. Vinyals, "Classification Accuracy Score for Conditional Generative Models",
    NeurIPS 2019, arXiv:1905.10887.
    """
    shapes = np.shape(fake_images), np.shape(real_images)
    if any(len(s) != 4 for s in shapes) or shapes[0][1:] != shapes[1][1:] or shapes[0][1] != shapes[0][2]:
        raise ValueError(f"expected square pictures (count, side, side, channels), got shapes {shapes}.")
    fake_labels = _checked_labels(fake_labels, shapes[0][0])
    real_labels = _checked_labels(real_labels, shapes[1][0])
    num_classes = int(max(fake_labels.max(), real_labels.max())) + 1
    network = classifier.build_classifier(shapes[0][1], shapes[0][3], num_classes, dropout=0.3, seed=seed)
    epochs = epochs or max(5, -(-100 // max(len(fake_labels) // 64, 1)))
    classifier.train_classifier(
        network, np.asarray(fake_images), fake_labels, epochs, batch_size=64, seed=seed
    )  # fmt: skip
    return float((classifier.classify(network, np.asarray(real_images)) == real_labels).mean())


def _checked_labels(labels: np.ndarray, count: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ValueError(f"expected {count} integer labels, got {labels.dtype} of shape {labels.shape}.")
    return labels
