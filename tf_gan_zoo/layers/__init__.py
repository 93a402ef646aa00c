"""Keras layers that Keras does not have, one per file."""

from tf_gan_zoo.layers.batch_statistics_norm import BatchStatisticsNormalization
from tf_gan_zoo.layers.image_pool import ImagePool
from tf_gan_zoo.layers.instance_norm import InstanceNormalization
from tf_gan_zoo.layers.maxout import Maxout
from tf_gan_zoo.layers.one_hot import OneHot
from tf_gan_zoo.layers.reflection_padding import ReflectionPadding2D
from tf_gan_zoo.layers.seeded_dropout import SeededDropout
from tf_gan_zoo.layers.zero import Zero

__all__ = [
    "BatchStatisticsNormalization",
    "ImagePool",
    "InstanceNormalization",
    "Maxout",
    "OneHot",
    "ReflectionPadding2D",
    "SeededDropout",
    "Zero",
]
