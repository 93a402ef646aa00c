"""Keras layers that Keras does not have, one per file."""

from tf_gan_zoo.layers.batch_statistics_norm import BatchStatisticsNormalization
from tf_gan_zoo.layers.conditional_batch_norm import ConditionalBatchNormalization
from tf_gan_zoo.layers.equalized import EqualizedConv2D, EqualizedDense
from tf_gan_zoo.layers.history_buffer import HistoryBuffer
from tf_gan_zoo.layers.image_pool import ImagePool
from tf_gan_zoo.layers.instance_norm import InstanceNormalization
from tf_gan_zoo.layers.local_response_norm import LocalResponseNormalization
from tf_gan_zoo.layers.maxout import Maxout
from tf_gan_zoo.layers.minibatch_discrimination import MinibatchDiscrimination
from tf_gan_zoo.layers.minibatch_stddev import MinibatchStddev
from tf_gan_zoo.layers.one_hot import OneHot
from tf_gan_zoo.layers.pixel_norm import PixelNorm
from tf_gan_zoo.layers.reflection_padding import ReflectionPadding2D
from tf_gan_zoo.layers.roi_align import BatchToRegions, RegionsToBatch, RoIAlign
from tf_gan_zoo.layers.running_normal import RunningNormal
from tf_gan_zoo.layers.seeded_dropout import SeededDropout
from tf_gan_zoo.layers.seeded_noise import SeededGaussianNoise
from tf_gan_zoo.layers.self_attention import SelfAttention
from tf_gan_zoo.layers.spectral_norm import SpectralNormalization
from tf_gan_zoo.layers.virtual_batch_norm import (
    ReferenceBatch,
    VirtualBatchNormalization,
    WithoutReference,
)
from tf_gan_zoo.layers.weight_norm import (
    WeightNormConv2D,
    WeightNormConv2DTranspose,
    WeightNormDense,
)
from tf_gan_zoo.layers.zero import Zero

__all__ = [
    "BatchStatisticsNormalization",
    "BatchToRegions",
    "ConditionalBatchNormalization",
    "EqualizedConv2D",
    "EqualizedDense",
    "HistoryBuffer",
    "ImagePool",
    "InstanceNormalization",
    "LocalResponseNormalization",
    "Maxout",
    "MinibatchDiscrimination",
    "MinibatchStddev",
    "OneHot",
    "PixelNorm",
    "ReferenceBatch",
    "ReflectionPadding2D",
    "RegionsToBatch",
    "RoIAlign",
    "RunningNormal",
    "SeededDropout",
    "SelfAttention",
    "SpectralNormalization",
    "SeededGaussianNoise",
    "VirtualBatchNormalization",
    "WeightNormConv2D",
    "WeightNormConv2DTranspose",
    "WeightNormDense",
    "WithoutReference",
    "Zero",
]
