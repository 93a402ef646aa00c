"""Numbers that say how good pictures are."""

from tf_gan_zoo.metrics.images import l1, mean_gradient, psnr, rms_gradient, ssim

__all__ = ["l1", "mean_gradient", "psnr", "rms_gradient", "ssim"]
