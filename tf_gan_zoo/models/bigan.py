"""BiGAN: an encoder learns to invert the generator, as the discriminator sees pictures with their latents.

    min_{G,E} max_D  V(D, E, G) = E_x log D(x, E(x)) + E_z log(1 - D(G(z), z)).

D looks at pairs: data with what the encoder says of them, samples with what they were made of. For the best
D, V = -log 4 + 2 JSD of the two distributions of pairs; they can only agree where G(E(x)) = x and E(G(z)) =
z. No loss compares a picture with its reconstruction. G and E descend the same loss, D's with the labels
swapped, from the same point as D.

Reference: J. Donahue, P. Krähenbühl, T. Darrell, "Adversarial Feature Learning", ICLR 2017, arXiv:1605.09782,
equation 3, theorem 2, appendix C; constants from the authors' released code. Networks by `architecture`:

    "mlp"    permutation-invariant MNIST: the defaults
    "conv"   ImageNet at 64x64: a DCGAN generator, AlexNet's convolutions as encoder, and a discriminator that
             adds a projection of the latents to every layer but the first

From the code alone: the encoder's output is squashed into the range of uniform latents, 2 sigmoid(a) - 1,
which the paper does not mention; classifiers use the layer below it (`features`); the rate falls
exponentially to a hundredth in the second half.

Departures: the code's generators also add projections of z to hidden layers, which the paper does not have;
the rate falls with every update instead of every epoch; Keras pads "same"; batch normalisation has epsilon
1e-5 (1e-8 in the code), and moving averages where the code takes statistics anew before it evaluates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import keras
import tensorflow as tf
from keras import layers

from tf_gan_zoo.batch_spec import BatchSpec, image_field
from tf_gan_zoo.config import (
    Channels,
    Config,
    ConfigError,
    Decay,
    ImageSize,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    height_width,
    num_halvings,
)
from tf_gan_zoo.encoding import FeatureGAN
from tf_gan_zoo.losses import non_saturating_discriminator_loss as discriminator_loss
from tf_gan_zoo.penalties import half_squared_norm
from tf_gan_zoo.registry import Paper, register
from tf_gan_zoo.schedules import ExponentialTail

#: Channels of AlexNet's convolutions.
_ALEXNET = (96, 256, 384, 384, 256)


@dataclass(frozen=True, kw_only=True)
class BiGANConfig(Config):
    """The paper's permutation-invariant MNIST model.

    Attributes:
        image_size: any for "mlp"; for "conv" sides that can be halved to 4 to 7 pixels, 64 in the paper.
        hidden_size: units of all hidden layers, for "mlp" only.
        width: channels of D's first convolution, a multiple of 4, for "conv" only; all others grow with it.
        decay_epochs: the last so many epochs, in which the rate falls to `final_rate_factor` of itself.
        weight_decay: of half the squared kernels.
    """

    data: str = "tfds:mnist"
    batch_size: PositiveInt = 128
    epochs: PositiveInt = 400
    decay_epochs: Literal[0] | PositiveInt = 200
    steps_per_epoch: PositiveInt | None = 468
    image_size: ImageSize = 28
    channels: Channels = 1
    architecture: Literal["mlp", "conv"] = "mlp"
    latent_size: PositiveInt = 50
    latent_distribution: Literal["uniform", "normal"] = "uniform"
    hidden_size: PositiveInt = 1024
    width: PositiveInt = 64
    learning_rate: PositiveFloat = 2e-4
    final_rate_factor: PositiveFloat = 0.01
    beta_1: Decay = 0.5
    beta_2: Decay = 0.999
    weight_decay: NonNegativeFloat = 2.5e-5

    def validate(self) -> None:
        if self.decay_epochs > self.epochs:
            raise ConfigError(
                f"BiGANConfig.decay_epochs: {self.decay_epochs} of {self.epochs} epochs. Use at most epochs; "
                "0 keeps the rate."
            )
        if self.architecture == "conv" and (not num_halvings(self.image_size) or self.width % 4):
            raise ConfigError(
                "BiGANConfig.image_size, width: architecture 'conv' takes sides that can be halved to 4 or "
                f"more pixels and a width that is a multiple of 4, got {self.image_size} and {self.width}."
            )


@register(
    "bigan",
    task=("generation", "features"),
    paper=Paper(
        "Adversarial Feature Learning", "J. Donahue, P. Krähenbühl, T. Darrell", 2017, "1605.09782"
    ),
    tiny={
        "image_size": 8, "hidden_size": 16, "latent_size": 4, "batch_size": 4, "decay_epochs": 0,
        "steps_per_epoch": None,
    },
)  # fmt: skip
class BiGAN(FeatureGAN):
    """GAN with an inverse; images are (batch, height, width, channels) in [0, 1], [-1, 1] for "conv".

        model.encode(images)         # what the generator would make them of
        model.reconstruct(images)    # like the picture in what it shows, rarely in every pixel
        model.features(images)       # for classifiers

    The logged losses are ln 2 = 0.693 each where D cannot tell the pairs.
    """

    config_cls = BiGANConfig

    def build_networks(self, config: BiGANConfig) -> dict[str, keras.Model]:
        build_generator, build_encoder, build_discriminator = _BUILDERS[config.architecture]
        return {
            "generator": build_generator(config),
            "encoder": build_encoder(config),
            "discriminator": build_discriminator(config),
        }

    @property
    def players(self) -> dict[str, tuple[str, ...]]:
        return {"generator": ("generator", "encoder"), "discriminator": ("discriminator",)}

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c, rate = self.config, self.config.learning_rate
        if c.decay_epochs:
            tail = max(c.total_steps * c.decay_epochs // c.epochs, 1)
            rate = ExponentialTail(rate, c.total_steps - tail, tail, c.final_rate_factor)
        return keras.optimizers.Adam(rate, beta_1=c.beta_1, beta_2=c.beta_2, epsilon=1e-8)

    @property
    def batch_spec(self) -> BatchSpec:
        c = self.config
        value_range = (0.0, 1.0) if c.architecture == "mlp" else (-1.0, 1.0)
        return BatchSpec(images=image_field(height_width(c.image_size), c.channels, value_range))

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        latents = self.latents("latents", tf.shape(batch["images"])[0])
        with tf.GradientTape(persistent=True) as tape:  # both gradients come from the same point
            d_loss, g_loss = self._objectives(*self._judge(batch["images"], latents, training=True))
            losses = {
                "discriminator": d_loss + self._decay("discriminator"),
                "generator": g_loss + self._decay("generator"),
            }
        for player, loss in losses.items():
            self.update(player, tape, loss)
        return self.log(d_loss=d_loss, g_loss=g_loss)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        latents = self.latents("validation", tf.shape(batch["images"])[0])
        d_loss, g_loss = self._objectives(*self._judge(batch["images"], latents, training=False))
        return self.log(d_loss=d_loss, g_loss=g_loss)

    def _judge(self, real: tf.Tensor, latents: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """D's logits of the pairs (x, E(x)) and of the pairs (G(z), z)."""
        codes, _ = self.encoder(real, training=training)
        fake = self.generator(latents, training=training)
        pairs = ({"images": real, "latents": codes}, {"images": fake, "latents": latents})
        return tuple(self.discriminator(pair, training=training) for pair in pairs)

    def _objectives(self, real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """D's loss -V / 2, and that of G and E, which is the same with the labels swapped."""
        return (
            0.5 * discriminator_loss(real_logits, fake_logits),
            0.5 * discriminator_loss(fake_logits, real_logits),
        )

    def _decay(self, player: str) -> tf.Tensor:
        kernels = (v for v in self.player_variables(player) if v.name == "kernel")
        return self.config.weight_decay * half_squared_norm(kernels)


# -------------------------------------------------------------------- dense networks


def _mlp_generator(config: BiGANConfig) -> keras.Model:
    """Latents (batch, latent_size) -> images (batch, height, width, channels) in [0, 1]."""
    shape = (*height_width(config.image_size), config.channels)
    x = latents = keras.Input((config.latent_size,), name="latents")
    for _ in range(2):
        x = layers.ReLU()(_norm(config, affine=False)(_dense(config.hidden_size)(x)))
    x = layers.Activation("sigmoid", dtype="float32")(_dense(math.prod(shape))(x))
    return keras.Model(latents, layers.Reshape(shape, dtype="float32", name="images")(x), name="generator")


def _mlp_encoder(config: BiGANConfig) -> keras.Model:
    """Images (batch, height, width, channels) -> latents (batch, latent_size), features."""
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    x = _leaky(_dense(config.hidden_size)(layers.Flatten()(images)))
    x = _leaky(_norm(config, affine=False)(_dense(config.hidden_size)(x)))
    return keras.Model(images, _codes(x, config), name="encoder")


def _mlp_discriminator(config: BiGANConfig) -> keras.Model:
    """{"images", "latents"} -> logits (batch, 1)."""
    images, latents = _pair_inputs(config)
    x = _leaky(_dense(config.hidden_size)(layers.Flatten()(images)))
    x = layers.Add()([_dense(config.hidden_size)(x), _dense(config.hidden_size)(latents)])
    x = _leaky(_norm(config, affine=False)(x))
    return keras.Model({"images": images, "latents": latents}, _logits(x), name="discriminator")


# -------------------------------------------------------------------- convolutional networks


def _conv_generator(config: BiGANConfig) -> keras.Model:
    """Latents (batch, latent_size) -> images (batch, height, width, channels) in [-1, 1]."""
    count = num_halvings(config.image_size)
    rows, columns = (side >> count for side in height_width(config.image_size))
    top = config.width << (count - 1)
    latents = keras.Input((config.latent_size,), name="latents")
    x = layers.ReLU()(_norm(config)(_dense(rows * columns * top)(latents)))
    x = layers.Reshape((rows, columns, top))(x)
    for k in range(1, count):
        x = layers.ReLU()(_norm(config)(_up_conv(top >> k)(x)))
    images = layers.Activation("tanh", dtype="float32", name="images")(_up_conv(config.channels)(x))
    return keras.Model(latents, images, name="generator")


def _conv_encoder(config: BiGANConfig) -> keras.Model:
    """Images (batch, height, width, channels) -> latents (batch, latent_size), features."""
    first, second, *middle, last = (filters * config.width // 64 for filters in _ALEXNET)
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    x = layers.MaxPooling2D(3, 2, "same")(_leaky(_conv(first, 11, 4)(images)))
    x = layers.MaxPooling2D(3, 2, "same")(_leaky(_norm(config)(_two_groups(x, second, 5))))
    x = _leaky(_norm(config)(_conv(middle[0], 3, 1)(x)))
    for filters in (middle[1], last):
        x = _leaky(_norm(config)(_two_groups(x, filters, 3)))
    return keras.Model(images, _codes(layers.Flatten()(x), config), name="encoder")


def _conv_discriminator(config: BiGANConfig) -> keras.Model:
    """{"images", "latents"} -> logits (batch, 1)."""
    images, latents = _pair_inputs(config)
    x = _leaky(_conv(config.width, 5, 2)(images))
    for k in range(1, num_halvings(config.image_size)):
        filters = config.width << k
        projected = layers.Reshape((1, 1, filters))(_dense(filters, std=0.5)(latents))
        x = layers.Add()([_conv(filters, 5, 2)(x), projected])
        x = _leaky(_norm(config)(x))
    logits = _logits(layers.Flatten()(x))
    return keras.Model({"images": images, "latents": latents}, logits, name="discriminator")


_BUILDERS = {
    "mlp": (_mlp_generator, _mlp_encoder, _mlp_discriminator),
    "conv": (_conv_generator, _conv_encoder, _conv_discriminator),
}


# -------------------------------------------------------------------- their parts


def _pair_inputs(config: BiGANConfig) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    shape = (*height_width(config.image_size), config.channels)
    return keras.Input(shape, name="images"), keras.Input((config.latent_size,), name="latents")


def _codes(x: keras.KerasTensor, config: BiGANConfig) -> list[keras.KerasTensor]:
    """An encoder's outputs "latents", in the range of the prior, and "features"."""
    codes = _dense(config.latent_size, dtype="float32")(x)
    if config.latent_distribution == "uniform":
        codes = layers.Activation("sigmoid", dtype="float32")(codes)
        latents = layers.Rescaling(2.0, -1.0, dtype="float32", name="latents")(codes)
    else:
        latents = layers.Activation("linear", dtype="float32", name="latents")(codes)
    return [latents, layers.Activation("linear", dtype="float32", name="features")(x)]


def _logits(x: keras.KerasTensor) -> keras.KerasTensor:
    return _dense(1, dtype="float32", name="logits")(x)


def _leaky(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.LeakyReLU(0.2)(x)


def _norm(config: BiGANConfig, affine: bool = True) -> layers.Layer:
    return layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, center=affine, scale=affine, synchronized=config.sync_batch_norm
    )


def _dense(units: int, std: float = 0.02, **kwargs: Any) -> layers.Layer:
    initializer = keras.initializers.RandomNormal(0.0, std)
    return layers.Dense(units, kernel_initializer=initializer, use_bias=False, **kwargs)


def _conv(filters: int, kernel_size: int, strides: int) -> layers.Layer:
    initializer = keras.initializers.RandomNormal(0.0, 0.02)
    return layers.Conv2D(
        filters, kernel_size, strides, "same", kernel_initializer=initializer, use_bias=False
    )


def _two_groups(x: keras.KerasTensor, filters: int, kernel_size: int) -> keras.KerasTensor:
    """A convolution in two groups, as two: TensorFlow has no gradient of grouped ones on CPUs."""
    halves = keras.ops.split(x, 2, axis=-1)
    return layers.Concatenate()([_conv(filters // 2, kernel_size, 1)(half) for half in halves])


def _up_conv(filters: int) -> layers.Layer:
    initializer = keras.initializers.RandomNormal(0.0, 0.02)
    return layers.Conv2DTranspose(filters, 5, 2, "same", kernel_initializer=initializer, use_bias=False)
