"""Losses that compare pictures by what VGG19 makes of them: perceptual (L1, L2) and texture (Gram) losses.

References: J. Johnson, A. Alahi, L. Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and
Super-Resolution", ECCV 2016, arXiv:1603.08155; L. Gatys, A. Ecker, M. Bethge, "Texture Synthesis Using
Convolutional Neural Networks", NeurIPS 2015, arXiv:1505.07376.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import tensorflow as tf

from tf_gan_zoo.networks.vgg import VGG19Features


@dataclass(frozen=True)
class FeatureTerm:
    """One distance between the features of two batches.

    Attributes:
        layer: as `VGG19Features` names it: "convB_C" before the ReLU, "reluB_C" after it, "poolB".
        weight: factor of this term.
        distance: "l2" (mean squared difference), "l1" (mean absolute difference) or "gram" (mean squared
            difference of the Gram matrices of patches).
    """

    layer: str
    weight: float = 1.0
    distance: Literal["l1", "l2", "gram"] = "l2"


class FeatureLoss:
    """Weighted distances between VGG19 features; a plain object that no model saves, trains or counts.

    Args:
        terms: what is compared. VGG19 is built up to the deepest layer and run once for all terms.
        weights: VGG19's, as `VGG19Features` takes them.
        scale: features are multiplied by it; 1 / 12.75 in the SRGAN paper.
        normalize: divide each layer's features, of both batches, by the mean activation of the real ones
            over the global batch, so that this mean is 1.
        patch_size: sides of the patches of "gram" terms, in feature pixels.
        seed: decides random weights.

    Raises:
        ValueError: for a layer that VGG19 does not have.
        FeatureWeightsError: if the weights cannot be loaded.
    """

    def __init__(
        self, terms: Sequence[FeatureTerm], weights: str | None = "imagenet", *, scale: float = 1.0,
        normalize: bool = False, patch_size: int = 16, seed: int = 0,
    ) -> None:  # fmt: skip
        self.terms, self.scale, self.normalize = tuple(terms), scale, normalize
        self.patch_size = patch_size
        names = list(dict.fromkeys(term.layer for term in terms))
        self._names, self.features = names, VGG19Features(names, weights, seed)

    def __call__(self, real: tf.Tensor, fake: tf.Tensor) -> tf.Tensor:
        """The sum of all terms, a float32 scalar; pictures are (batch, height, width, 1 or 3) in [-1, 1]."""
        return tf.add_n(self.values(real, fake))

    def values(self, real: tf.Tensor, fake: tf.Tensor) -> list[tf.Tensor]:
        """Each term, weighted; gradients flow to `fake` alone."""
        real_maps = dict(zip(self._names, map(tf.stop_gradient, self._maps(real))))
        fake_maps = dict(zip(self._names, self._maps(fake)))
        factors = {name: self._factor(maps) for name, maps in real_maps.items()}
        return [
            term.weight * self._distance(term)(
                factors[term.layer] * real_maps[term.layer], factors[term.layer] * fake_maps[term.layer]
            )
            for term in self.terms
        ]  # fmt: skip

    def _maps(self, images: tf.Tensor) -> list[tf.Tensor]:
        maps = self.features(images)
        return maps if isinstance(maps, list) else [maps]

    def _factor(self, real: tf.Tensor) -> tf.Tensor | float:
        if not self.normalize:
            return self.scale
        mean = tf.distribute.get_replica_context().all_reduce("MEAN", tf.reduce_mean(real))
        return self.scale / tf.maximum(mean, 1e-6)

    def _distance(self, term: FeatureTerm) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        if term.distance == "gram":
            return lambda a, b: texture_distance(a, b, self.patch_size)
        return {"l1": mean_absolute_difference, "l2": mean_squared_difference}[term.distance]


def mean_squared_difference(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Mean over everything of (a - b)^2, in float32."""
    return tf.reduce_mean(tf.math.squared_difference(tf.cast(a, tf.float32), tf.cast(b, tf.float32)))


def mean_absolute_difference(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Mean over everything of |a - b|, in float32."""
    return tf.reduce_mean(tf.abs(tf.cast(a, tf.float32) - tf.cast(b, tf.float32)))


def texture_distance(a: tf.Tensor, b: tf.Tensor, patch_size: int) -> tf.Tensor:
    """Mean squared difference of the Gram matrices of all patches; 0 for equal statistics in each patch."""
    return mean_squared_difference(gram_matrices(a, patch_size), gram_matrices(b, patch_size))


def gram_matrices(features: tf.Tensor, patch_size: int) -> tf.Tensor:
    """Which features occur together in each patch, wherever in it that may be: F^T F, not divided by a size.

    Args:
        features: (batch, height, width, channels).
        patch_size: sides of the patches, which do not overlap; both sides are multiples of it.

    Returns:
        (batch, patches, channels, channels).

    Raises:
        ValueError: for sides that are no multiples of `patch_size`.
    """
    height, width, channels = features.shape[1:]
    if height % patch_size or width % patch_size:
        raise ValueError(
            f"Gram matrices of {patch_size}x{patch_size} patches need feature maps whose sides are multiples "
            f"of {patch_size}, got {height}x{width}. Use larger pictures or smaller patches."
        )
    rows, columns, area = height // patch_size, width // patch_size, patch_size**2
    patches = tf.reshape(features, (-1, rows, patch_size, columns, patch_size, channels))
    patches = tf.reshape(tf.transpose(patches, [0, 1, 3, 2, 4, 5]), (-1, rows * columns, area, channels))
    return tf.matmul(patches, patches, transpose_a=True)
