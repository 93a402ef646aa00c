"""Numbers that say how good pictures are: functions on arrays, feature extractors, the metric registry."""

from tf_gan_zoo.metrics.classifier import ExtractorError, FeatureWeightsError
from tf_gan_zoo.metrics.conditional import classification_accuracy_score, classwise_frechet_distance
from tf_gan_zoo.metrics.features import (
    ClassifierFeatures,
    FeatureExtractor,
    FID2015Features,
    InceptionV3Features,
    get_extractor,
)
from tf_gan_zoo.metrics.frechet import Moments, frechet_distance, moments_distance
from tf_gan_zoo.metrics.images import l1, mean_gradient, psnr, rms_gradient, ssim
from tf_gan_zoo.metrics.inception_score import inception_score, inception_scores
from tf_gan_zoo.metrics.kid import kernel_inception_distance, kernel_inception_distances
from tf_gan_zoo.metrics.ms_ssim import ms_ssim, pairwise_ms_ssim
from tf_gan_zoo.metrics.perceptual import cropped_luma, perceptual_distance
from tf_gan_zoo.metrics.precision_recall import precision_recall_density_coverage
from tf_gan_zoo.metrics.registry import (
    Evidence,
    FewSamplesWarning,
    MetricError,
    list_metrics,
    register_metric,
)
from tf_gan_zoo.metrics.swd import sliced_wasserstein, sliced_wasserstein_by_size

__all__ = [
    "ClassifierFeatures", "Evidence", "ExtractorError", "FID2015Features", "FeatureExtractor",
    "FeatureWeightsError", "FewSamplesWarning", "InceptionV3Features", "MetricError", "Moments",
    "classification_accuracy_score", "classwise_frechet_distance", "cropped_luma", "frechet_distance",
    "get_extractor", "inception_score", "inception_scores", "kernel_inception_distance",
    "kernel_inception_distances", "l1", "list_metrics", "mean_gradient", "moments_distance", "ms_ssim",
    "pairwise_ms_ssim", "perceptual_distance", "precision_recall_density_coverage", "psnr",
    "register_metric", "rms_gradient", "sliced_wasserstein", "sliced_wasserstein_by_size", "ssim",
]  # fmt: skip
