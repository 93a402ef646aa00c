"""f-GAN: a generator can minimise any f-divergence, through a lower bound that a second network tightens.

    F = E g_f(V(x)) - E f*(g_f(V(G(z))))  <=  D_f(P || Q) = sum over x of q f(p / q);

V maximises F, G minimises it. P is the data's distribution with density p and Q that of the samples; f* is
the convex conjugate of f, f*(t) = sup over u of u t - f(u), and g_f maps V's output, any number, into the
domain of f*. At V's optimum T = g_f(V) is f'(p / q) and F is the divergence itself; so T above f'(1) means
"real".
`divergence=` chooses f from `DIVERGENCES`; "gan" is the GAN of 2014. G may maximise E g_f(V(G(z))) instead,
which has the same fixed point and a gradient where V is sure (section 3.2): `generator_loss="alternative"`.

V and G move at the same time from one point, along the gradients of one batch (algorithm 1).

Reference: S. Nowozin, B. Cseke, R. Tomioka, "f-GAN: Training Generative Neural Samplers using Variational
Divergence Minimization", NIPS 2016, arXiv:1606.00709, tables 1, 2 and 6, sections 2.2-3.2 and 4.2. Networks
by `architecture`:

    "mnist"  dense layers, for pictures of any size, in [0, 1]: the defaults
    "lsun"   convolutions for 96x96 pictures in [-1, 1]: image_size=96, channels=3

Activations are written so that they rise with V (the paper gives some of them for -V).

Choices where the paper says nothing: initial weights N(0, 0.02); the filters of "lsun" are those of a public
DCGAN for the same 96x96 pictures (mattya/chainer-DCGAN). Conjugates are computed of V directly, since
f*(g_f(V)) is a plain function of V where each of the two by itself loses digits.

Departures: none known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tf_gan_zoo.batch_spec import BatchSpec, checked_images, image_field
from tf_gan_zoo.config import (
    Channels,
    Config,
    ConfigError,
    Decay,
    Fraction,
    ImageSize,
    PositiveFloat,
    PositiveInt,
    height_width,
)
from tf_gan_zoo.gan import AdversarialGAN
from tf_gan_zoo.registry import Paper, register

Function = Callable[[tf.Tensor], tf.Tensor]


# -------------------------------------------------------------------- divergences


@dataclass(frozen=True)
class Divergence:
    """One row of the paper's tables.

    Attributes:
        f: the convex function, of u > 0.
        activation: g_f, from any number into the domain of f*, rising.
        conjugate: f*.
        conjugate_of_output: f*(g_f(v)).
        threshold: f'(1); T above it means that a picture is more likely real.
    """

    f: Function
    activation: Function
    conjugate: Function
    conjugate_of_output: Function
    threshold: float

    def density_ratio(self, outputs: tf.Tensor) -> tf.Tensor:
        """p / q where T = g_f(outputs) is optimal: the derivative of f* (1 for "total_variation")."""
        t = self.activation(tf.convert_to_tensor(outputs))
        with tf.GradientTape() as tape:
            tape.watch(t)
            conjugate = self.conjugate(t)
        return tape.gradient(conjugate, t)


def _jeffrey_conjugate(t: tf.Tensor) -> tf.Tensor:
    w = lambert_w_of_exp(1.0 - t)
    return w + 1.0 / w + t - 2.0


def lambert_w_of_exp(y: tf.Tensor) -> tf.Tensor:
    """W(e^y), the w > 0 with w + log w = y, by Newton's method."""
    start = tf.where(y > 1.0, tf.maximum(y, 1.0), tf.exp(tf.minimum(y, 1.0)) * 0.5)
    w = tf.stop_gradient(start)
    for _ in range(6):
        w = w * (1.0 + y - tf.math.log(w)) / (1.0 + w)
    w = tf.stop_gradient(w)
    # One more step from a constant has the derivative of W itself, w / (1 + w).
    return w * (1.0 + y - tf.math.log(w)) / (1.0 + w)


def weighted_jensen_shannon(weight: float) -> Divergence:
    """pi KL(P || M) + (1 - pi) KL(Q || M) with M = pi P + (1 - pi) Q."""
    rest, entropy = 1.0 - weight, -weight * math.log(weight)

    def one_minus_power(v: tf.Tensor) -> tf.Tensor:
        """1 - sigmoid(v)^(1 / pi), above 0 for any v."""
        return tf.maximum(-tf.math.expm1(-tf.nn.softplus(-v) / weight), 1e-37)

    return Divergence(
        f=lambda u: weight * u * tf.math.log(u) - (rest + weight * u) * tf.math.log(rest + weight * u),
        activation=lambda v: entropy - tf.nn.softplus(-v),
        conjugate=lambda t: rest * tf.math.log(rest / (1.0 - weight * tf.exp(t / weight))),
        conjugate_of_output=lambda v: rest * (math.log(rest) - tf.math.log(one_minus_power(v))),
        threshold=0.0,
    )


def alpha_divergence(alpha: float) -> Divergence:
    """Amari's family: alpha = 2 is half of Pearson's; near 1 and 0 it approaches both KL divergences."""
    power = alpha / (alpha - 1.0)

    def conjugate(t: tf.Tensor) -> tf.Tensor:
        # Below its least slope f has no tangent: f* stays -f(0) = -1 / alpha.
        return (tf.maximum(t * (alpha - 1.0) + 1.0, 0.0) ** power - 1.0) / alpha

    def activation(v: tf.Tensor) -> tf.Tensor:
        return v if alpha > 1.0 else 1.0 / (1.0 - alpha) - tf.nn.softplus(-v)

    def conjugate_of_output(v: tf.Tensor) -> tf.Tensor:
        return conjugate(v) if alpha > 1.0 else (((1.0 - alpha) * tf.nn.softplus(-v)) ** power - 1.0) / alpha

    return Divergence(
        f=lambda u: (u**alpha - 1.0 - alpha * (u - 1.0)) / (alpha * (alpha - 1.0)),
        activation=activation, conjugate=conjugate, conjugate_of_output=conjugate_of_output, threshold=0.0,
    )  # fmt: skip


#: The rows without a parameter; P is the data's distribution, Q the samples'.
DIVERGENCES = {
    "kl": Divergence(
        f=lambda u: u * tf.math.log(u),
        activation=lambda v: v,
        conjugate=lambda t: tf.exp(t - 1.0),
        conjugate_of_output=lambda v: tf.exp(v - 1.0),
        threshold=1.0,
    ),
    "reverse_kl": Divergence(
        f=lambda u: -tf.math.log(u),
        activation=lambda v: -tf.exp(-v),
        conjugate=lambda t: -1.0 - tf.math.log(-t),
        conjugate_of_output=lambda v: v - 1.0,
        threshold=-1.0,
    ),
    "pearson": Divergence(  # f* as for u of either sign, which keeps it smooth below t = -2
        f=lambda u: (u - 1.0) ** 2,
        activation=lambda v: v,
        conjugate=lambda t: 0.25 * t**2 + t,
        conjugate_of_output=lambda v: 0.25 * v**2 + v,
        threshold=0.0,
    ),
    "neyman": Divergence(
        f=lambda u: (1.0 - u) ** 2 / u,
        activation=lambda v: -tf.math.expm1(-v),
        conjugate=lambda t: 2.0 - 2.0 * tf.sqrt(1.0 - t),
        conjugate_of_output=lambda v: 2.0 - 2.0 * tf.exp(-0.5 * v),
        threshold=0.0,
    ),
    "squared_hellinger": Divergence(
        f=lambda u: (tf.sqrt(u) - 1.0) ** 2,
        activation=lambda v: -tf.math.expm1(-v),
        conjugate=lambda t: t / (1.0 - t),
        conjugate_of_output=lambda v: tf.math.expm1(v),
        threshold=0.0,
    ),
    "jeffrey": Divergence(  # KL in both directions
        f=lambda u: (u - 1.0) * tf.math.log(u),
        activation=lambda v: v,
        conjugate=_jeffrey_conjugate,
        conjugate_of_output=_jeffrey_conjugate,
        threshold=0.0,
    ),
    "jensen_shannon": Divergence(  # 2 JSD
        f=lambda u: -(u + 1.0) * tf.math.log((1.0 + u) / 2.0) + u * tf.math.log(u),
        activation=lambda v: math.log(2.0) - tf.nn.softplus(-v),
        conjugate=lambda t: -tf.math.log(2.0 - tf.exp(t)),
        conjugate_of_output=lambda v: tf.nn.softplus(v) - math.log(2.0),
        threshold=0.0,
    ),
    "gan": Divergence(  # 2 JSD - log 4
        f=lambda u: u * tf.math.log(u) - (u + 1.0) * tf.math.log(u + 1.0),
        activation=lambda v: -tf.nn.softplus(-v),
        conjugate=lambda t: -tf.math.log(1.0 - tf.exp(t)),
        conjugate_of_output=tf.nn.softplus,
        threshold=-math.log(2.0),
    ),
    "total_variation": Divergence(
        f=lambda u: 0.5 * tf.abs(u - 1.0),
        activation=lambda v: 0.5 * tf.tanh(v),
        conjugate=lambda t: t,
        conjugate_of_output=lambda v: 0.5 * tf.tanh(v),
        threshold=0.0,
    ),
}  # fmt: skip


def divergence_of(config: FGANConfig) -> Divergence:
    """The row that a config names, with its parameter."""
    if config.divergence == "weighted_jensen_shannon":
        return weighted_jensen_shannon(config.data_weight)
    if config.divergence == "alpha":
        return alpha_divergence(config.alpha)
    return DIVERGENCES[config.divergence]


# -------------------------------------------------------------------- model


@dataclass(frozen=True, kw_only=True)
class FGANConfig(Config):
    """The paper's MNIST model.

    Attributes:
        image_size: any for "mnist"; sides that are multiples of 16 for "lsun".
        divergence: a row of the table.
        alpha: of divergence "alpha", above 0 and not 1.
        data_weight: pi of "weighted_jensen_shannon", between 0 and 1.
        generator_loss: what G descends: "alternative" -E g_f(V(G(z))) or "bound" -E f*(g_f(V(G(z)))).
        hidden_size: units of G's two hidden layers ("mnist").
        variational_size: units of V's two hidden layers ("mnist").
        width: filters next to the picture ("lsun").
    """

    data: str = "tfds:mnist"
    batch_size: PositiveInt = 4096
    epochs: PositiveInt = 1000
    image_size: ImageSize = 28
    channels: Channels = 1
    architecture: Literal["mnist", "lsun"] = "mnist"
    divergence: Literal[
        "kl", "reverse_kl", "pearson", "neyman", "squared_hellinger", "jeffrey", "jensen_shannon",
        "weighted_jensen_shannon", "gan", "alpha", "total_variation",
    ] = "kl"  # fmt: skip
    alpha: PositiveFloat = 2.0
    data_weight: Fraction = 0.5
    generator_loss: Literal["alternative", "bound"] = "alternative"
    latent_size: PositiveInt = 100
    latent_distribution: Literal["uniform", "normal"] = "uniform"
    hidden_size: PositiveInt = 1200
    variational_size: PositiveInt = 240
    width: PositiveInt = 64
    learning_rate: PositiveFloat = 2e-4
    beta_1: Decay = 0.5
    beta_2: Decay = 0.999

    def validate(self) -> None:
        if self.alpha == 1.0:
            raise ConfigError(
                "FGANConfig.alpha: the limit at 1 is divergence='kl'. Use that, or another alpha."
            )
        if not 0.0 < self.data_weight < 1.0:
            raise ConfigError(f"FGANConfig.data_weight: must lie between 0 and 1, got {self.data_weight:g}.")
        if self.architecture == "lsun" and any(side % 16 for side in height_width(self.image_size)):
            raise ConfigError(
                f"FGANConfig.image_size: architecture 'lsun' takes multiples of 16, got {self.image_size}. "
                "Use 32, 64 or 96, or architecture 'mnist'."
            )

    @property
    def value_range(self) -> tuple[float, float]:
        """Of the pictures: [0, 1] for "mnist", [-1, 1] for "lsun"."""
        return (0.0, 1.0) if self.architecture == "mnist" else (-1.0, 1.0)


@register(
    "fgan",
    task="generation",
    paper=Paper(
        "f-GAN: Training Generative Neural Samplers using Variational Divergence Minimization",
        "S. Nowozin, B. Cseke, R. Tomioka", 2016, "1606.00709",
    ),
    tiny={
        "image_size": 8, "hidden_size": 16, "variational_size": 8, "latent_size": 6, "batch_size": 4,
    },
)  # fmt: skip
class FGAN(AdversarialGAN):
    """GAN for any f-divergence; images are (batch, height, width, channels) in [0, 1], [-1, 1] for "lsun".

    The network "discriminator" is the paper's V: any number for a picture. The logged `divergence` is F, the
    lower bound of D_f(P || Q); `true_positive_rate` is the share of pictures and `false_positive_rate` that
    of samples with T above f'(1), which is 1/2 for both where V cannot tell them apart.
    """

    config_cls = FGANConfig
    log_names = ("d_loss", "g_loss", "divergence", "true_positive_rate", "false_positive_rate")

    def build_networks(self, config: FGANConfig) -> dict[str, keras.Model]:
        build_generator, build_discriminator = _BUILDERS[config.architecture]
        return {"generator": build_generator(config), "discriminator": build_discriminator(config)}

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c = self.config
        return keras.optimizers.Adam(c.learning_rate, beta_1=c.beta_1, beta_2=c.beta_2, epsilon=1e-8)

    @property
    def batch_spec(self) -> BatchSpec:
        c = self.config
        return BatchSpec(images=image_field(height_width(c.image_size), c.channels, c.value_range))

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real = batch["images"]
        with tf.GradientTape(persistent=True) as tape:
            fake = self.generator(self.latents("latents", tf.shape(real)[0]), training=True)
            real_outputs = self.discriminator(real, training=True)
            fake_outputs = self.discriminator(fake, training=True)
            d_loss, g_loss = self._objectives(real_outputs, fake_outputs)
        self.update("discriminator", tape, d_loss)  # both gradients come from the same point
        self.update("generator", tape, g_loss)
        return self._log(d_loss, g_loss, real_outputs, fake_outputs)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        fake = self.generator(self.latents("validation", tf.shape(batch["images"])[0]), training=False)
        outputs = [self.discriminator(images, training=False) for images in (batch["images"], fake)]
        return self._log(*self._objectives(*outputs), *outputs)

    def _objectives(self, real_outputs: tf.Tensor, fake_outputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """V's loss -F, and G's."""
        row = divergence_of(self.config)
        conjugate = tf.reduce_mean(row.conjugate_of_output(fake_outputs))
        d_loss = conjugate - tf.reduce_mean(row.activation(real_outputs))
        bound = self.config.generator_loss == "bound"
        return d_loss, -conjugate if bound else -tf.reduce_mean(row.activation(fake_outputs))

    def _log(
        self, d_loss: tf.Tensor, g_loss: tf.Tensor, real_outputs: tf.Tensor, fake_outputs: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        row = divergence_of(self.config)
        true_rate, false_rate = (
            tf.reduce_mean(tf.cast(row.activation(outputs) > row.threshold, tf.float32))
            for outputs in (real_outputs, fake_outputs)
        )
        return self.log(
            d_loss=d_loss, g_loss=g_loss, divergence=-d_loss,
            true_positive_rate=true_rate, false_positive_rate=false_rate,
        )  # fmt: skip

    def density_ratio(self, images: Any, batch_size: int = 64) -> np.ndarray:
        """How much more likely pictures are as data than as samples, p / q, as far as V knows.

        Args:
            images: (batch, height, width, channels) or one picture, in the range of the training pictures.
            batch_size: pictures per call of the network.

        Returns:
            float32 (batch,), 0 or more.

        Raises:
            BatchError: if the pictures do not fit the model.
        """
        images = checked_images(images, self.batch_spec["images"])
        outputs = self.run(images, batch_size, network="discriminator")
        return divergence_of(self.config).density_ratio(outputs[:, 0]).numpy()


# -------------------------------------------------------------------- networks for MNIST


def _mnist_generator(config: FGANConfig) -> keras.Model:
    """Latents (batch, latent_size) -> images (batch, height, width, channels) in [0, 1]."""
    shape = (*height_width(config.image_size), config.channels)
    x = latents = keras.Input((config.latent_size,), name="latents")
    for _ in range(2):
        x = layers.ReLU()(_norm(config)(layers.Dense(config.hidden_size, **_weights())(x)))
    x = layers.Dense(math.prod(shape), **_weights())(x)
    x = layers.Activation("sigmoid", dtype="float32")(x)
    return keras.Model(latents, layers.Reshape(shape, dtype="float32", name="images")(x), name="generator")


def _mnist_discriminator(config: FGANConfig) -> keras.Model:
    """Images (batch, height, width, channels) in [0, 1] -> V (batch, 1)."""
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    x = layers.Flatten()(images)
    for _ in range(2):
        x = layers.Dense(config.variational_size, activation="elu", **_weights())(x)
    return keras.Model(images, _output(x), name="discriminator")


# -------------------------------------------------------------------- networks for LSUN


def _lsun_generator(config: FGANConfig) -> keras.Model:
    """Latents (batch, latent_size) -> images (batch, height, width, channels) in [-1, 1]."""
    shape = (*(side // 16 for side in height_width(config.image_size)), 8 * config.width)
    latents = keras.Input((config.latent_size,), name="latents")
    x = layers.Reshape(shape)(layers.Dense(math.prod(shape), **_weights())(latents))
    for factor in (4, 2, 1):
        x = layers.ReLU()(_norm(config)(x))
        x = layers.Conv2DTranspose(factor * config.width, 4, 2, "same", **_weights())(x)
    x = layers.ReLU()(_norm(config)(x))
    x = layers.Conv2DTranspose(config.channels, 4, 2, "same", **_weights())(x)
    images = layers.Activation("tanh", dtype="float32", name="images")(x)
    return keras.Model(latents, images, name="generator")


def _lsun_discriminator(config: FGANConfig) -> keras.Model:
    """Images (batch, height, width, channels) in [-1, 1] -> V (batch, 1)."""
    x = images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    for factor in (1, 2, 4, 8):
        x = layers.Conv2D(factor * config.width, 4, 2, "same", **_weights())(x)
        x = layers.ELU()(_norm(config)(x) if factor > 1 else x)
    return keras.Model(images, _output(layers.Flatten()(x)), name="discriminator")


_BUILDERS = {
    "mnist": (_mnist_generator, _mnist_discriminator),
    "lsun": (_lsun_generator, _lsun_discriminator),
}


def _weights() -> dict[str, Any]:
    return {"kernel_initializer": keras.initializers.RandomNormal(0.0, 0.02)}


def _norm(config: FGANConfig) -> layers.Layer:
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, synchronized=config.sync_batch_norm)


def _output(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.Dense(1, dtype="float32", name="variational", **_weights())(x)
