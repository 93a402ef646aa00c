"""BigGAN: SAGAN made large, with classes and latents in every block, and a knob between quality and variety.

    D minimises  E max(0, 1 - D(x, y)) + E max(0, 1 + D(G(z, y), y)),
    G minimises  -E D(G(z, y), y) + 1e-4 sum_W ||W^T W o (1 - I)||_F^2   over the weights W of G.

* One embedding of the class serves all batch normalisations of G: each makes its gains and biases of it by
  linear layers.
* The latents are cut in equal chunks: the first makes the smallest feature map, each block gets one of the
  others beside the embedding (skip-z).
* The penalty (orthogonal regularisation) makes the filters of a layer orthogonal to each other, but leaves
  their lengths alone. Then truncation works: `generate(truncation=0.5)` draws latents from a normal
  distribution cut off at +-0.5, which gives more typical and less varied pictures.
* Samples come from averaged weights of G with standing statistics: batch norm's means and variances are
  computed anew, as means over 100 batches of samples (`standing_statistics`), as they depend on the weights
  and on the truncation. `fit` does so after every epoch, for latents that are not truncated.

Reference: A. Brock, J. Donahue, K. Simonyan, "Large Scale GAN Training for High Fidelity Natural Image
Synthesis", ICLR 2019, arXiv:1809.11096, section 3 and tables 4 and 5 of appendix B. Where these leave it
open, the author's released code decides: what the first dense layer sees (the first chunk alone), where the
attention sits (64 pixels), batch norm and the start of the averaging. Variants, as settings:

    128x128        the defaults: width 96, so 96 channels at 128 pixels and 1536 at 4
    256x256        image_size 256, latent_size 140, generator_widths 1536 1536 768 768 384 192 96,
                   discriminator_widths 96 192 384 768 768 1536 1536, num_halvings 6
    CIFAR-10       image_size 32, num_classes 10, latent_size 128, generator_widths 256 256 256 256,
                   discriminator_widths the same, num_halvings 2, attention_size none, embedding_size none,
                   skip_latents false
    released code  n_critic 1, learning_rate 1e-4, discriminator_learning_rate 4e-4, orthogonal_weight 0,
                   spectral_epsilon 1e-6, adam_epsilon 1e-6, batch_size 256 with accumulation_steps 8

Batch norm spans all replicas (`sync_batch_norm`); with `accumulation_steps` it sees each of the small batches
by itself, as the released code's does.

Memory: one step of the 128x128 networks with a batch of 2 peaks at 5.1 GiB on a CPU.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from pydantic import Field as Limits

from tf_gan_zoo.batch_spec import BatchSpec, image_field
from tf_gan_zoo.conditional import LabelledGAN, network_inputs, network_of
from tf_gan_zoo.config import (
    Channels,
    Config,
    ConfigError,
    Decay,
    ImageSize,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Repeats,
    height_width,
)
from tf_gan_zoo.layers import ConditionalBatchNormalization, SelfAttention, SpectralNormalization
from tf_gan_zoo.losses import hinge_discriminator_loss as discriminator_loss
from tf_gan_zoo.losses import hinge_generator_loss as generator_loss
from tf_gan_zoo.networks import residual
from tf_gan_zoo.registry import Paper, register

Widths = Annotated[tuple[PositiveInt, ...], Limits(min_length=2)]
#: Samples in a batch that statistics are computed of.
_STANDING_BATCH_SIZE = 64


@dataclass(frozen=True, kw_only=True)
class BigGANConfig(Config):
    """The paper's networks for 128x128 pictures of ImageNet.

    Attributes:
        image_size: halved once for each of `generator_widths` but the first.
        num_classes: labels are integers from 0 to num_classes - 1.
        latent_size: with `skip_latents` a multiple of the number of `generator_widths`.
        generator_widths: channels of the smallest feature map, then of each block that doubles it.
        discriminator_widths: channels of each block.
        num_halvings: D's first blocks halve the picture, so many.
        attention_size: height in pixels of the feature maps with self-attention, one in G and one in D; None
            leaves it out.
        embedding_size: of the class in G; None has a gain and a bias per class in each batch norm instead.
        skip_latents: every block of G gets a chunk of the latents of its own.
        orthogonal_weight: beta of equation 3.
        n_critic: updates of D, each on its own batch, per update of G.
        learning_rate: of G; `discriminator_learning_rate` is D's.
        adam_epsilon: the code's; the paper gives none.
        ema_decay: of G's averaged weights; they begin to average at step `ema_start`.
        standing_batches: `fit` computes statistics of so many batches after every epoch; 0 never does.
    """

    data: str = "tfds:imagenet2012"
    batch_size: PositiveInt = 2048
    sync_batch_norm: bool = True
    epochs: PositiveInt = 150
    steps_per_epoch: PositiveInt | None = 1000
    image_size: ImageSize = 128
    channels: Channels = 3
    num_classes: Annotated[int, Limits(ge=2)] = 1000
    latent_size: PositiveInt = 120
    latent_distribution: Literal["normal", "uniform"] = "normal"
    generator_widths: Widths = (1536, 1536, 768, 384, 192, 96)
    discriminator_widths: Widths = (96, 192, 384, 768, 1536, 1536)
    num_halvings: PositiveInt = 5
    attention_size: PositiveInt | None = 64
    embedding_size: PositiveInt | None = 128
    skip_latents: bool = True
    spectral_epsilon: PositiveFloat = 1e-4
    orthogonal_weight: NonNegativeFloat = 1e-4
    n_critic: Repeats = 2
    learning_rate: PositiveFloat = 5e-5
    discriminator_learning_rate: PositiveFloat = 2e-4
    beta_1: Decay = 0.0
    beta_2: Decay = 0.999
    adam_epsilon: PositiveFloat = 1e-8
    ema_decay: Decay = 0.9999
    ema_start: Annotated[int, Limits(ge=0)] = 20_000
    standing_batches: Annotated[int, Limits(ge=0)] = 100

    def validate(self) -> None:
        if self.num_halvings > len(self.discriminator_widths):
            raise ConfigError(
                f"BigGANConfig.num_halvings: D has {len(self.discriminator_widths)} blocks, which cannot "
                f"halve {self.num_halvings} times. Lower num_halvings or add to discriminator_widths."
            )
        unit = 2 ** max(self.num_halvings, len(self.generator_widths) - 1)
        if any(side % unit for side in height_width(self.image_size)):
            raise ConfigError(
                f"BigGANConfig.image_size: expected multiples of {unit}, which G's blocks and num_halvings "
                f"need, got {self.image_size}. Change image_size, generator_widths or num_halvings."
            )
        if self.attention_size not in (None, *self.common_heights):
            raise ConfigError(
                f"BigGANConfig.attention_size: G and D both have feature maps of {self.common_heights} "
                f"pixels, got {self.attention_size}. Choose one of these, or None."
            )
        if self.latent_size % self.num_chunks:
            raise ConfigError(
                f"BigGANConfig.latent_size: skip_latents cuts the latents in {self.num_chunks} equal chunks, "
                f"got {self.latent_size}. Take a multiple of {self.num_chunks}, or skip_latents=False."
            )
        if self.skip_latents and self.embedding_size is None:
            raise ConfigError(
                "BigGANConfig.skip_latents: the chunks join the class's embedding, which embedding_size=None "
                "leaves out. Set embedding_size, or skip_latents=False."
            )

    @property
    def num_chunks(self) -> int:
        """Parts of the latents: one for the smallest feature map and, with `skip_latents`, one per block."""
        return len(self.generator_widths) if self.skip_latents else 1

    @property
    def common_heights(self) -> list[int]:
        """Heights of feature maps that a block of G and one of D's first blocks both give, rising."""
        height, _ = height_width(self.image_size)
        in_generator = {height >> k for k in range(len(self.generator_widths) - 1)}
        return sorted(in_generator & {height >> k for k in range(1, self.num_halvings + 1)})

    @property
    def base_size(self) -> tuple[int, int]:
        """(height, width) of G's smallest feature map, 4x4 for 128x128 pictures."""
        return tuple(side >> len(self.generator_widths) - 1 for side in height_width(self.image_size))


@register(
    "biggan",
    task="generation",
    paper=Paper(
        "Large Scale GAN Training for High Fidelity Natural Image Synthesis",
        "A. Brock, J. Donahue, K. Simonyan", 2019, "1809.11096",
    ),
    tiny={
        "image_size": 8, "generator_widths": (8, 8, 8), "discriminator_widths": (8, 8), "num_halvings": 1,
        "attention_size": 4, "num_classes": 3, "latent_size": 6, "embedding_size": 4, "batch_size": 4,
        "ema_start": 1, "standing_batches": 2,
    },
)  # fmt: skip
class BigGAN(LabelledGAN):
    """Class-conditional GAN; images are (batch, height, width, channels) in [-1, 1].

        model.generate(8, labels=3, truncation=0.5)

    Batches have "images" and "labels", int32 (batch,).
    """

    config_cls = BigGANConfig

    def build_networks(self, config: BigGANConfig) -> dict[str, keras.Model]:
        return {"generator": build_generator(config), "discriminator": build_discriminator(config)}

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c = self.config
        rate = c.learning_rate if player == "generator" else c.discriminator_learning_rate
        return keras.optimizers.Adam(rate, beta_1=c.beta_1, beta_2=c.beta_2, epsilon=c.adam_epsilon)

    @property
    def batch_spec(self) -> BatchSpec:
        images = image_field(height_width(self.config.image_size), self.config.channels)
        return BatchSpec(images=images, **self.label_field())

    @property
    def batches_per_step(self) -> int:
        return self.config.n_critic

    @property
    def ema_decays(self) -> dict[str, tf.Tensor]:
        begun = self.step.value >= self.config.ema_start
        return {"generator": tf.where(begun, self.config.ema_decay, 0.0)}

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        batches = self.split_batch(batch)
        d_losses = [self._update_discriminator(b, f"update {k}") for k, b in enumerate(batches)]
        with tf.GradientTape() as tape:
            fake, labels = self.fakes("generator", tf.shape(batches[0]["images"])[0], training=True)
            g_loss = generator_loss(self.logits(fake, labels, training=True))
            loss = g_loss + self._orthogonal_loss()
        self.update("generator", tape, loss)
        return self.log(d_loss=tf.reduce_mean(d_losses), g_loss=g_loss)

    def _update_discriminator(self, batch: dict[str, tf.Tensor], purpose: str) -> tf.Tensor:
        fake, labels = self.fakes(purpose, tf.shape(batch["images"])[0], training=True)
        with tf.GradientTape() as tape:
            real_logits = self.logits(batch["images"], batch["labels"], training=True)
            loss = discriminator_loss(real_logits, self.logits(fake, labels, training=True))
        self.update("discriminator", tape, loss)
        return loss

    def _orthogonal_loss(self) -> tf.Tensor:
        if not self.config.orthogonal_weight:
            return tf.constant(0.0)
        kernels = [v.value for v in self.generator.trainable_variables if v.name == "kernel"]
        return self.config.orthogonal_weight * orthogonal_penalty(kernels)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        fake, labels = self.fakes("validation", tf.shape(batch["images"])[0], training=False)
        real_logits = self.logits(batch["images"], batch["labels"], training=False)
        fake_logits = self.logits(fake, labels, training=False)
        d_loss = discriminator_loss(real_logits, fake_logits)
        return self.log(d_loss=d_loss, g_loss=generator_loss(fake_logits))

    def generate(
        self, num_samples: int = 1, seed: int = 0, batch_size: int = 64, *,
        truncation: float | None = None, **conditions: Any,
    ) -> np.ndarray:  # fmt: skip
        """Samples from the averaged generator.

        Args:
            num_samples: how many.
            seed: the same seed gives the same samples, and similar ones at another truncation.
            batch_size: samples per call of the network.
            truncation: numbers of the latents are drawn anew until they are at most so large, or rather as if
                they were (`tf_gan_zoo.latents.truncated`); None cuts nothing off. Statistics for a strong
                truncation: `standing_statistics`.
            **conditions: labels=, an integer for all samples or (num_samples,).

        Returns:
            float32 (num_samples, height, width, channels) in [-1, 1].

        Raises:
            ValueError: if `num_samples` is below 1, or the truncation not above 0, or labels do not fit.
        """
        if truncation is None or num_samples < 1:
            return super().generate(num_samples, seed, batch_size, **conditions)
        return self.run(self._truncated_inputs(num_samples, seed, truncation, **conditions), batch_size)

    def _truncated_inputs(
        self, num_samples: int, seed: int, truncation: float | None, **conditions: Any
    ) -> Any:
        from tf_gan_zoo import latents

        return latents.sample(self, num_samples, seed, truncation=truncation, **conditions)

    def between_classes(
        self, first: int, second: int, num_steps: int = 8, seed: int = 0, truncation: float | None = None
    ) -> np.ndarray:
        """One sample whose class moves along a line of the shared embedding.

        Args:
            first: class at the beginning.
            second: class at the end.
            num_steps: pictures, with both ends; 2 or more.
            seed: of the latents, which all pictures share.
            truncation: of the latents, as in `generate`.

        Returns:
            float32 (num_steps, height, width, channels) in [-1, 1].

        Raises:
            ValueError: if the model has no shared embedding, or for a number that does not fit.
        """
        if self.config.embedding_size is None or num_steps < 2:
            raise ValueError(
                f"between_classes: expected a model with embedding_size and 2 or more steps, got "
                f"embedding_size={self.config.embedding_size} and {num_steps} steps."
            )
        ends = self._truncated_inputs(2, seed, truncation, labels=[first, second])
        network = self.public_network()
        shared = network.get_layer("shared")
        after = keras.Model([network.input["latents"], shared.output], network.output)
        embedded = np.asarray(shared(ends["labels"]), "float32")
        parts = np.linspace(0.0, 1.0, num_steps, dtype="float32")[:, None]
        line = tf.convert_to_tensor((1.0 - parts) * embedded[0] + parts * embedded[1])
        latents = tf.repeat(tf.convert_to_tensor(ends["latents"])[:1], num_steps, axis=0)
        return np.asarray(after([latents, line], training=False))

    def fit(self, *arguments: Any, callbacks: Any = None, **keywords: Any) -> keras.callbacks.History:
        """`GAN.fit`, with new standing statistics after every epoch (`standing_batches`)."""
        given = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks] * bool(callbacks)
        if self.config.standing_batches:
            renew = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: self.standing_statistics())
            given.insert(0, renew)  # before callbacks that save or sample
        return super().fit(*arguments, callbacks=given, **keywords)

    def standing_statistics(
        self, num_batches: int | None = None, truncation: float | None = None, seed: int = 0
    ) -> None:
        """Gives the averaged generator the batch-norm statistics of its own samples (the paper's appendix).

        Its weights differ from those that the moving statistics of training belong to. The step of the power
        iteration that each batch makes brings its spectral norms up to date, too.

        Args:
            num_batches: batches of 64 samples that the means are over; the config's by default.
            truncation: of the samples, the one that pictures shall be generated with.
            seed: of the samples.
        """
        found = self.generator_ema._flatten_layers()
        norms = [x for x in found if isinstance(x, layers.BatchNormalization)]
        statistics = [v for norm in norms for v in (norm.moving_mean, norm.moving_variance)]
        num_batches = num_batches or self.config.standing_batches or 1
        count = num_batches * _STANDING_BATCH_SIZE
        inputs = self._truncated_inputs(count, seed, truncation)
        batches = tf.data.Dataset.from_tensor_slices(inputs).batch(_STANDING_BATCH_SIZE)
        with _keeping_the_last_batch(norms):
            forward = tf.function(lambda batch: self.generator_ema(batch, training=True), autograph=False)
            means = [np.zeros(v.shape) for v in statistics]
            for batch in batches:
                forward(batch)
                means = [mean + v.numpy() / num_batches for mean, v in zip(means, statistics)]
        for variable, mean in zip(statistics, means):
            variable.assign(mean.astype(variable.dtype))

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """As every labelled model; `truncated_class_accuracy` is that of samples truncated at 0.5."""
        results = super().measure(examples)
        if results:
            labels = np.asarray(examples["labels"])
            samples = self.generate(len(labels), seed=0, labels=labels, truncation=0.5)
            accuracy = self._class_accuracy(samples, labels)
            results.update({f"truncated_{name}": value for name, value in accuracy.items()})
        return results


@contextlib.contextmanager
def _keeping_the_last_batch(norms: Sequence[layers.BatchNormalization]) -> Iterator[None]:
    """Inside, these layers' moving statistics become those of each batch, on this device alone."""
    before = [(norm.momentum, norm.trainable, norm.synchronized) for norm in norms]
    for norm in norms:
        norm.momentum, norm.trainable, norm.synchronized = 0.0, True, False
    try:
        yield
    finally:
        for norm, values in zip(norms, before):
            norm.momentum, norm.trainable, norm.synchronized = values


def orthogonal_penalty(kernels: Sequence[tf.Tensor]) -> tf.Tensor:
    """sum_W ||W^T W o (1 - I)||_F^2: inner products between different filters, squared (equation 3).

    Args:
        kernels: of convolutions and dense layers, their filters on the last axis.
    """
    return tf.add_n([_squared_products(tf.reshape(kernel, (-1, kernel.shape[-1]))) for kernel in kernels])


def _squared_products(matrix: tf.Tensor) -> tf.Tensor:
    """The sum over ordered pairs of different columns of their squared inner product."""
    rows, columns = matrix.shape
    if columns <= rows:
        products = tf.matmul(matrix, matrix, transpose_a=True)
        return tf.reduce_sum(tf.square(tf.linalg.set_diag(products, tf.zeros(columns))))
    # ||W^T W|| = ||W W^T||, which is small where columns are many (24,576 in the first dense layer).
    squares = tf.reduce_sum(tf.square(tf.matmul(matrix, matrix, transpose_b=True)))
    return squares - tf.reduce_sum(tf.square(tf.reduce_sum(tf.square(matrix), axis=0)))


def build_generator(config: BigGANConfig) -> keras.Model:
    """{"latents" (batch, latent_size), "labels" (batch,)} -> images (batch, height, width, channels)."""
    inputs = network_inputs(config.num_classes, latents=(config.latent_size,))
    conv, (chunk, *chunks) = _convolution(config), _chunks(inputs["latents"], config)
    (height, width), (first, *rest) = config.base_size, config.generator_widths
    x = _normalized(layers.Dense(height * width * first, kernel_initializer=Orthogonal()), config)(chunk)
    x = layers.Reshape((height, width, first))(x)
    for filters, norm in zip(rest, _norms(inputs["labels"], chunks, config)):
        x = _attended(residual.up_block(x, filters, conv, norm), config)
    x = layers.ReLU()(layers.BatchNormalization(**_norm_options(config))(x))
    x = layers.Activation("tanh", dtype="float32", name="images")(conv(config.channels, 3)(x))
    return network_of(inputs, x, "generator")


def build_discriminator(config: BigGANConfig) -> keras.Model:
    """{"images" (batch, height, width, channels), "labels" (batch,)} -> logits (batch, 1)."""
    shape = (*height_width(config.image_size), config.channels)
    inputs, conv = network_inputs(config.num_classes, images=shape), _convolution(config)
    first, *rest = config.discriminator_widths
    x = _attended(residual.first_down_block(inputs["images"], first, conv), config)
    for index, filters in enumerate(rest, start=1):
        halves = index < config.num_halvings
        x = residual.down_block(x, filters, conv, hidden=filters, downsample=halves)
        x = _attended(x, config) if halves else x
    logits = residual.projected_logits(
        residual.sum_pooled(x), inputs["labels"], config.num_classes,
        epsilon=config.spectral_epsilon, initializer=Orthogonal,
    )  # fmt: skip
    return network_of(inputs, logits, "discriminator")


def _chunks(latents: keras.KerasTensor, config: BigGANConfig) -> list[keras.KerasTensor]:
    if config.num_chunks == 1:
        return [latents]
    return keras.ops.split(latents, config.num_chunks, axis=1)


def _norms(
    labels: keras.KerasTensor, chunks: Sequence[keras.KerasTensor], config: BigGANConfig
) -> list[residual.Norm]:
    """The batch normalisation of each block of G, told the class and the block's latents."""
    num_blocks, options = len(config.generator_widths) - 1, _norm_options(config)
    if config.embedding_size is None:
        return [residual.class_norm(labels, config.num_classes, **options)] * num_blocks
    table = layers.Embedding(
        config.num_classes, config.embedding_size, embeddings_initializer=Orthogonal(), name="shared"
    )
    shared = table(labels)
    told = [layers.Concatenate()([shared, chunk]) for chunk in chunks] or [shared] * num_blocks
    return [_linear_norm(vector, config) for vector in told]


def _linear_norm(vector: keras.KerasTensor, config: BigGANConfig) -> residual.Norm:
    """Batch norm whose gain is 1 + A v and whose bias is B v."""

    def linear(channels: int) -> keras.KerasTensor:
        dense = layers.Dense(channels, use_bias=False, kernel_initializer=Orthogonal())
        return _normalized(dense, config)(vector)

    def norm(x: keras.KerasTensor) -> keras.KerasTensor:
        gain, bias = 1.0 + linear(x.shape[-1]), linear(x.shape[-1])
        return ConditionalBatchNormalization(**_norm_options(config))([x, gain, bias])

    return norm


def _attended(x: keras.KerasTensor, config: BigGANConfig) -> keras.KerasTensor:
    if x.shape[1] != config.attention_size:
        return x
    return SelfAttention(epsilon=config.spectral_epsilon, kernel_initializer=Orthogonal())(x)


def _convolution(config: BigGANConfig) -> residual.Conv:
    def conv(filters: int, kernel_size: int) -> layers.Layer:
        plain = layers.Conv2D(filters, kernel_size, padding="same", kernel_initializer=Orthogonal())
        return _normalized(plain, config)

    return conv


def _normalized(layer: layers.Layer, config: BigGANConfig) -> layers.Layer:
    return SpectralNormalization(layer, config.spectral_epsilon)


def _norm_options(config: BigGANConfig) -> dict[str, Any]:
    return {"momentum": 0.9, "epsilon": 1e-5, "synchronized": config.sync_batch_norm}


@keras.saving.register_keras_serializable("tf_gan_zoo")
class Orthogonal(keras.initializers.Orthogonal):
    """Keras's orthogonal weights, from one matrix product instead of reflections where that is exact enough.

    Q = A R^-1 with R^T R = A^T A is the orthogonal factor of the normal matrix A; for tall matrices, which
    are well conditioned, it takes a tenth of the time, and BigGAN has 158 million weights.
    """

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> tf.Tensor:
        sides = sorted((math.prod(shape[:-1]), shape[-1]))
        if sides[1] < 4 * sides[0]:
            return super().__call__(shape, dtype)
        tall = keras.random.normal(sides[::-1], seed=self.seed, dtype=dtype)
        factor = tf.linalg.cholesky(tf.matmul(tall, tall, transpose_a=True))
        rows = tf.linalg.triangular_solve(factor, tf.transpose(tall))  # orthonormal ones
        matrix = rows if shape[-1] == sides[1] else tf.transpose(rows)
        return self.gain * tf.reshape(matrix, shape)
