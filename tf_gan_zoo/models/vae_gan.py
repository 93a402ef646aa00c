"""VAE/GAN: a VAE whose reconstruction error is measured by what a discriminator sees in pictures.

    L_prior = KL(q(z|x) || N(0, I)),        L_similarity = 1/2 ||Dis_l(x) - Dis_l(x~)||^2,
    L_GAN = log Dis(x) + log(1 - Dis(x~)) + log(1 - Dis(x_p)),

with x~ = Dec(z), z ~ q(z|x), and x_p = Dec(z_p), z_p ~ N(0, I). Dis_l are the features of a hidden layer of
the discriminator. Algorithm 1 says which loss reaches which network:

    encoder         minimises  L_prior + L_similarity,
    decoder         minimises  gamma L_similarity - L_GAN,
    discriminator   minimises  -L_GAN.

So the decoder of the VAE is the generator of the GAN; features do not learn to be easy to reconstruct, and
the encoder is not asked to fool anybody.

Reference: A. B. L. Larsen, S. K. Sønderby, H. Larochelle, O. Winther, "Autoencoding beyond pixels using a
learned similarity metric", ICML 2016, arXiv:1512.09300, algorithm 1, equations 6 to 8, table 1. From the
authors' released code: Dis_l is the last strided convolution before its batch normalisation, sums over
features, gamma 1e-6, D's loss with weights 1/2 for data and 1/4 for each kind of fake, weight decay, and the
equilibrium rule: D rests while one of its costs is below `equilibrium` - `equilibrium_margin`, the decoder
while one is above their sum, neither if both would. RMSprop and the weight decay act as there, on gradients
that are sums over the batch, epsilon outside the root.

Choices: the paper's learning rate and encoder (2048 dense units; the code has 1024 and a larger, decaying
rate). The code for faces discriminates only x_p: `discriminate_reconstructions=False`.

Departures: x, x~ and x_p pass the discriminator as batches of their own, not as one (in trials D told them by
the joint statistics and won at once), each giving logits and features; no 1e-3 inside the logarithms; initial
weights are N(0, 1 / inputs), three times as wide as there; dense layers' batch norm has the epsilon of the
convolutions'; Keras pads "same".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import keras
import tensorflow as tf
from keras import layers

from tf_gan_zoo import replicas
from tf_gan_zoo.batch_spec import BatchSpec, image_field
from tf_gan_zoo.config import (
    Channels,
    Config,
    ImageSize,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    height_width,
)
from tf_gan_zoo.encoding import EncodingGAN, kl_to_standard_normal, normal_sample
from tf_gan_zoo.losses import non_saturating_generator_loss
from tf_gan_zoo.models.gan import minimax_generator_loss
from tf_gan_zoo.networks import autoencoder
from tf_gan_zoo.optimizers import OuterEpsilonRMSprop
from tf_gan_zoo.penalties import half_squared_norm
from tf_gan_zoo.registry import Paper, register


@dataclass(frozen=True, kw_only=True)
class VAEGANConfig(Config):
    """The paper's model of faces.

    Attributes:
        image_size: sides that can be halved to 4 or more pixels; 64x64 is halved three times.
        width: channels of the encoder's first convolution; all others grow with it.
        hidden_size: units of the encoder's dense layer.
        similarity_weight: gamma, of L_similarity against L_GAN in the decoder's loss.
        discriminate_reconstructions: L_GAN has the term of x~.
        loss: the decoder's part of -L_GAN, as it is ("minimax") or with -log Dis ("non_saturating").
        equilibrium: the costs that D's two halves have when neither side wins, near ln 2.
        equilibrium_margin: see above; None updates everybody in every step.
        weight_decay: twice this times a kernel is added to its gradient, summed over the batch; all of this
            model's losses are means, so their share is 2 weight_decay / batch_size.
    """

    data: str = "tfds:celeb_a"
    batch_size: PositiveInt = 64
    epochs: PositiveInt = 250
    steps_per_epoch: PositiveInt | None = 250
    image_size: ImageSize = 64
    channels: Channels = 3
    latent_size: PositiveInt = 128
    latent_distribution: Literal["normal"] = "normal"
    width: PositiveInt = 64
    hidden_size: PositiveInt = 2048
    similarity_weight: NonNegativeFloat = 1e-6
    discriminate_reconstructions: bool = True
    loss: Literal["minimax", "non_saturating"] = "minimax"
    equilibrium: PositiveFloat = 0.68
    equilibrium_margin: PositiveFloat | None = 0.35
    weight_decay: NonNegativeFloat = 1e-5
    learning_rate: PositiveFloat = 3e-4

    def validate(self) -> None:
        autoencoder.check_image_size(self)


class Outputs(NamedTuple):
    """What a step's forward pass gives.

    Attributes:
        kl: of every example's q(z|x), (batch,).
        similarity: L_similarity of every example, (batch,).
        real_logits: D's of x, (batch, 1).
        fake_logits: D's of every kind of fake in L_GAN, each (batch, 1).
    """

    kl: tf.Tensor
    similarity: tf.Tensor
    real_logits: tf.Tensor
    fake_logits: list[tf.Tensor]


@register(
    "vae_gan",
    task="generation",
    paper=Paper(
        "Autoencoding beyond pixels using a learned similarity metric",
        "A. B. L. Larsen, S. K. Sønderby, H. Larochelle, O. Winther", 2016, "1512.09300",
    ),
    tiny={
        "image_size": 8, "width": 4, "hidden_size": 8, "latent_size": 4, "batch_size": 4,
        "equilibrium_margin": 0.6,
    },
)  # fmt: skip
class VAEGAN(EncodingGAN):
    """VAE with a learned similarity; images are (batch, height, width, channels) in [-1, 1].

        model.reconstruct(images)
        smile = model.attribute_vector(faces, smiling)         # smiling: a boolean for every face
        model.run(model.encode(faces) + smile)                 # the same faces, smiling

    The logged `similarity` and `kl` are means in nats; `d_loss` is ln 2 where D cannot tell.
    """

    config_cls = VAEGANConfig
    log_names = ("d_loss", "g_loss", "similarity", "kl")

    def build_networks(self, config: VAEGANConfig) -> dict[str, keras.Model]:
        return {
            "encoder": autoencoder.build_conv_encoder(config),
            "generator": autoencoder.build_conv_decoder(config, "tanh"),
            "discriminator": build_discriminator(config),
        }

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        # DeepPy's, for gradients summed over the batch: means are compared with a smaller epsilon.
        return OuterEpsilonRMSprop(self.config.learning_rate, epsilon=1e-8 / self.config.batch_size)

    @property
    def batch_spec(self) -> BatchSpec:
        return BatchSpec(images=image_field(height_width(self.config.image_size), self.config.channels))

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        with tf.GradientTape(persistent=True) as tape:  # all gradients come from the same point
            outputs = self._forward(batch["images"], "", training=True)
            d_loss, g_loss, similarity, kl = self._objectives(outputs)
            losses = {
                "encoder": kl + similarity + self._decay("encoder"),
                "generator": g_loss + self._decay("generator"),
                "discriminator": d_loss + self._decay("discriminator"),
            }
        learns = self._learns(outputs)
        for player, loss in losses.items():
            self.update(player, tape, loss, when=learns.get(player))
        return self.log(d_loss=d_loss, g_loss=g_loss, similarity=similarity, kl=kl)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        losses = self._objectives(self._forward(batch["images"], "validation ", training=False))
        return self.log(**dict(zip(self.log_names, losses)))

    def _forward(self, images: tf.Tensor, purpose: str, training: bool) -> Outputs:
        count = tf.shape(images)[0]
        means, log_variances = self.encoder(images, training=training)
        drawn = normal_sample(means, log_variances, self.latents(f"{purpose}posterior", count))
        latents = tf.concat([drawn, self.latents(f"{purpose}prior", count)], axis=0)
        kinds = [images, *tf.split(self.generator(latents, training=training), 2)]
        logits, features = zip(*(self.discriminator(x, training=training) for x in kinds))
        similarity = half_squared_distance(features[0], features[1])
        fake_logits = logits[1:] if self.config.discriminate_reconstructions else logits[2:]
        kl = kl_to_standard_normal(means, log_variances)
        return Outputs(kl, similarity, logits[0], list(fake_logits))

    def _objectives(self, outputs: Outputs) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """D's loss, the decoder's, L_similarity and L_prior: means over the batch."""
        similarity, kl = tf.reduce_mean(outputs.similarity), tf.reduce_mean(outputs.kl)
        d_loss = 0.5 * sum(_costs(outputs))
        fooling = tf.add_n([self._fooling(logits) for logits in outputs.fake_logits])
        return d_loss, self.config.similarity_weight * similarity + fooling, similarity, kl

    def _fooling(self, fake_logits: tf.Tensor) -> tf.Tensor:
        if self.config.loss == "non_saturating":
            return non_saturating_generator_loss(fake_logits)
        return minimax_generator_loss(fake_logits)

    def _decay(self, player: str) -> tf.Tensor:
        kernels = (v for v in self.player_variables(player) if v.name == "kernel")
        return 2.0 * self.config.weight_decay / self.config.batch_size * half_squared_norm(kernels)

    def _learns(self, outputs: Outputs) -> dict[str, tf.Tensor]:
        """Whether the equilibrium rule lets decoder and discriminator learn from this batch."""
        c = self.config
        if c.equilibrium_margin is None:
            return {}
        costs = replicas.mean(tf.stack(_costs(outputs)))
        discriminator = tf.reduce_all(costs >= c.equilibrium - c.equilibrium_margin)
        generator = tf.reduce_all(costs <= c.equilibrium + c.equilibrium_margin)
        neither = ~(generator | discriminator)
        return {"generator": generator | neither, "discriminator": discriminator | neither}


def half_squared_distance(features: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
    """1/2 ||a - b||^2 of every example, (batch,): -log N(a; b, I) without its constant (equation 7)."""
    squares = tf.square(tf.cast(features, tf.float32) - tf.cast(others, tf.float32))
    return 0.5 * tf.reduce_sum(squares, axis=list(range(1, squares.shape.rank)))


def _costs(outputs: Outputs) -> tuple[tf.Tensor, tf.Tensor]:
    """-E log Dis(x), and -E log(1 - Dis) of all fakes together."""
    fake_logits = tf.concat(outputs.fake_logits, axis=0)
    return (
        tf.reduce_mean(tf.nn.softplus(-outputs.real_logits)),
        tf.reduce_mean(tf.nn.softplus(fake_logits)),
    )


def build_discriminator(config: VAEGANConfig) -> keras.Model:
    """Images (batch, height, width, channels) -> logits (batch, 1) and the features Dis_l.

    The features are (batch, height >> n, width >> n, channels), with n the number of halvings.
    """
    x = images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    first = max(config.width // 2, 1)
    x = layers.Conv2D(first, 5, 1, "same", activation="relu", **autoencoder.weights())(x)
    *inner, last = (2, 4, 4)[: autoencoder.num_halvings(config)]
    for factor in inner:
        x = autoencoder.conv_block(x, factor * config.width, config)
    x = layers.Conv2D(last * config.width, 5, 2, "same", **autoencoder.weights(use_bias=False))(x)
    features = layers.Activation("linear", dtype="float32", name="features")(x)
    x = layers.Flatten()(autoencoder.activated(x, config))
    x = layers.Dense(8 * config.width, **autoencoder.weights(use_bias=False))(x)
    x = autoencoder.activated(x, config)
    logits = layers.Dense(1, dtype="float32", name="logits", **autoencoder.weights())(x)
    return keras.Model(images, [logits, features], name="discriminator")
