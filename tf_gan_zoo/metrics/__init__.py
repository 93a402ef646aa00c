"""Numbers that say how good pictures are."""

from tf_gan_zoo.metrics.images import l1, psnr, sharpness, ssim

__all__ = ["l1", "psnr", "sharpness", "ssim"]
