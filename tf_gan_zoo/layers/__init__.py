"""Keras layers that Keras does not have, one per file."""

from tf_gan_zoo.layers.instance_norm import InstanceNormalization
from tf_gan_zoo.layers.reflection_padding import ReflectionPadding2D
from tf_gan_zoo.layers.seeded_dropout import SeededDropout

__all__ = ["InstanceNormalization", "ReflectionPadding2D", "SeededDropout"]
