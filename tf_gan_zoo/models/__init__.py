"""The zoo's table of contents: importing this package registers every model."""

from tf_gan_zoo.models.dcgan import DCGAN

__all__ = ["DCGAN"]
