"""The zoo's table of contents: importing this package registers every model."""

from tf_gan_zoo.models.acgan import ACGAN
from tf_gan_zoo.models.adversarial_imposters import AdversarialImposters
from tf_gan_zoo.models.ali import ALI
from tf_gan_zoo.models.began import BEGAN
from tf_gan_zoo.models.bigan import BiGAN
from tf_gan_zoo.models.biggan import BigGAN
from tf_gan_zoo.models.bingan import BinGAN
from tf_gan_zoo.models.bre_gan import BREGAN
from tf_gan_zoo.models.caae import CAAE
from tf_gan_zoo.models.cgan import CGAN
from tf_gan_zoo.models.crossing_nets import CrossingNets
from tf_gan_zoo.models.cyclegan import CycleGAN
from tf_gan_zoo.models.dcgan import DCGAN
from tf_gan_zoo.models.discogan import DiscoGAN
from tf_gan_zoo.models.dr_gan import DRGAN
from tf_gan_zoo.models.enhancenet import EnhanceNet
from tf_gan_zoo.models.fgan import FGAN
from tf_gan_zoo.models.gan import OriginalGAN
from tf_gan_zoo.models.gan_cls import GANCLS
from tf_gan_zoo.models.improved_gan import ImprovedGAN
from tf_gan_zoo.models.infogan import InfoGAN
from tf_gan_zoo.models.lapgan import LAPGAN
from tf_gan_zoo.models.lsgan import LSGAN
from tf_gan_zoo.models.midinet import MidiNet
from tf_gan_zoo.models.mvd_3d import MVD3D
from tf_gan_zoo.models.perceptual_gan_small_objects import PerceptualGAN
from tf_gan_zoo.models.pix2pix import Pix2Pix
from tf_gan_zoo.models.pixeldtgan import PixelDTGAN
from tf_gan_zoo.models.pose_guided_pg2 import PoseGuidedPG2
from tf_gan_zoo.models.ppgn import PPGN
from tf_gan_zoo.models.progan import ProGAN
from tf_gan_zoo.models.sagan import SAGAN
from tf_gan_zoo.models.seqgan import SeqGAN
from tf_gan_zoo.models.simgan import SimGAN
from tf_gan_zoo.models.sngan import SNGAN
from tf_gan_zoo.models.srgan import SRGAN
from tf_gan_zoo.models.stackgan import StackGAN
from tf_gan_zoo.models.vae import VAE
from tf_gan_zoo.models.vae_gan import VAEGAN
from tf_gan_zoo.models.wgan import WGAN
from tf_gan_zoo.models.wgan_gp import WGANGP

__all__ = [
    "ACGAN", "ALI", "AdversarialImposters", "BEGAN", "BREGAN", "BiGAN", "BigGAN", "BinGAN", "CAAE", "CGAN",
    "CrossingNets", "CycleGAN", "DCGAN", "DRGAN", "DiscoGAN", "EnhanceNet", "FGAN", "GANCLS", "ImprovedGAN",
    "InfoGAN", "LAPGAN", "LSGAN", "MVD3D", "MidiNet", "OriginalGAN", "PPGN", "PerceptualGAN", "Pix2Pix",
    "PixelDTGAN", "PoseGuidedPG2", "ProGAN", "SAGAN", "SNGAN", "SRGAN", "SeqGAN", "SimGAN", "StackGAN",
    "VAE", "VAEGAN", "WGAN", "WGANGP",
]  # fmt: skip
