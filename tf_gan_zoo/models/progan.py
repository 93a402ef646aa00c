"""Progressive growing of GANs: both players start at 4x4 pixels and gain a layer for every doubling.

    D minimises  E D(G(z)) - E D(x) + 10 E (||grad D|| - 1)^2 + 0.001 E D(x)^2,   G minimises  -E D(G(z)).

Learning begins with the large structures of a picture, which a few layers can make, and adds details when
these stand. New layers are not switched on but faded in, so that they do not shock what has been learnt:

    picture = (1 - alpha) enlarged(picture of the old size) + alpha (picture of the new size),  alpha: 0 -> 1.

D fades its new layers in likewise, and real pictures are mixed with their own coarse version. Besides:
weights of one size that are scaled at run time (`EqualizedConv2D`), pixel norm in G, a channel in D that
tells how varied the batch is (`MinibatchStddev`), and an average of G's weights that pictures are made with.

How far a run has grown, and alpha, follow from the step alone: a run that is stopped within a fade-in goes on
with the very next alpha. Networks of all sizes are built at once; a step runs the layers of its size only.

Reference: T. Karras, T. Aila, S. Laine, J. Lehtinen, "Progressive Growing of GANs for Improved Quality,
Stability, and Variation", ICLR 2018, arXiv:1710.10196, sections 2 to 5, appendix A. As in the authors' code
(its preset "v1-1gpu", the paper's experiments), Adam begins anew whenever layers come or go, deviations are
taken over groups of 16, or the whole batch where it is smaller, and the first dense layer has a bias per
channel. Groups of 4 belong to that code's later presets.

Choices: a data set has one batch size, so at large sizes a step uses the first pictures of a batch only
(`batch_limits`, the paper's numbers for one GPU), and the schedule counts pictures used. D's update and G's
update share one forward pass of G. Labels (as in the paper's conditional experiments) are left out.

Memory: one step at 1024x1024 with a batch of 2 peaks at 12.5 GiB on a CPU.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import keras
import tensorflow as tf
from keras import layers
from pydantic import Field as Limits

from tf_gan_zoo.batch_spec import BatchError, BatchSpec, image_field
from tf_gan_zoo.config import (
    Channels,
    Config,
    ConfigError,
    Decay,
    ImageSize,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    height_width,
    num_halvings,
)
from tf_gan_zoo.endpoints import Endpoint
from tf_gan_zoo.gan import AdversarialGAN
from tf_gan_zoo.layers import EqualizedConv2D, EqualizedDense, MinibatchStddev, PixelNorm
from tf_gan_zoo.losses import wasserstein_discriminator_loss as critic_loss
from tf_gan_zoo.losses import wasserstein_generator_loss as generator_loss
from tf_gan_zoo.optimizers import RestartedAdam
from tf_gan_zoo.penalties import gradient_penalty
from tf_gan_zoo.registry import Paper, register

AtLeastTwo = Annotated[int, Limits(ge=2)]


class Stage(NamedTuple):
    """A part of training in which the same layers are used.

    Attributes:
        name: the phase's name, such as "fade_8x8" and "8x8".
        level: 0 for the smallest pictures, 1 for those twice as large...
        fading: whether the layers of this level are being faded in.
        first_step: of the stage.
        num_steps: of the stage by the schedule; the last stage goes on as long as the run does.
    """

    name: str
    level: int
    fading: bool
    first_step: int
    num_steps: int


@dataclass(frozen=True, kw_only=True)
class ProGANConfig(Config):
    """The paper's CelebA-HQ model at 1024x1024, on one GPU (appendix A.1).

    Attributes:
        image_size: full size; the smallest pictures have its sides halved down to 4..7 pixels.
        channel_base: channels of level k are channel_base / 2^(k + 1), but no more than `max_channels`.
        stable_images: real pictures shown at each size, besides those of the fade-in.
        fade_images: real pictures shown while a size is faded in; 0 switches it on at once.
        batch_limits: (size, pictures): from this size on, no more pictures of a batch are used.
        learning_rates: (size, rate): from this size on, another rate than `learning_rate`.
        stddev_group_size: examples whose standard deviation D sees.
        gradient_penalty_target: wanted norm of D's gradient; the paper's CIFAR-10 run has 750.
        drift_weight: of E D(x)^2, which keeps D's scores near 0.
        ema_decay: of G's averaged weights, per step.
    """

    data: str = "tfds:celeb_a_hq/1024"
    batch_size: AtLeastTwo = 16
    epochs: PositiveInt = 3265
    steps_per_epoch: PositiveInt | None = 1000
    image_size: ImageSize = 1024
    channels: Channels = 3
    latent_size: PositiveInt = 512
    latent_distribution: Literal["normal"] = "normal"
    channel_base: PositiveInt = 8192
    max_channels: PositiveInt = 512
    stable_images: PositiveInt = 800_000
    fade_images: NonNegativeInt = 800_000
    batch_limits: tuple[tuple[PositiveInt, AtLeastTwo], ...] = ((256, 14), (512, 6), (1024, 3))
    learning_rate: PositiveFloat = 1e-3
    learning_rates: tuple[tuple[PositiveInt, PositiveFloat], ...] = ()
    beta_1: Decay = 0.0
    beta_2: Decay = 0.99
    stddev_group_size: AtLeastTwo = 16
    gradient_penalty_weight: NonNegativeFloat = 10.0
    gradient_penalty_target: PositiveFloat = 1.0
    drift_weight: NonNegativeFloat = 1e-3
    ema_decay: Annotated[float, Limits(ge=0, lt=1)] = 0.999

    def validate(self) -> None:
        if min(self.level_size(0)) < 4 or self.num_levels < 2:
            raise ConfigError(
                f"ProGANConfig.image_size: {self.image_size} cannot be halved to 4 or more pixels. "
                "Use sides such as 28, 32, 64, 128 or 1024."
            )
        if self.num_channels(self.num_levels - 1) < 1:
            raise ConfigError(
                f"ProGANConfig.channel_base: {self.channel_base} leaves no channels at {self.image_size} "
                f"pixels. Use {2**self.num_levels} or more."
            )

    @property
    def num_levels(self) -> int:
        """How many sizes there are, 9 from 4x4 to 1024x1024."""
        return num_halvings(self.image_size) + 1

    def level_size(self, level: int) -> tuple[int, int]:
        """(height, width) of the pictures of a level."""
        halvings = num_halvings(self.image_size) - level
        return tuple(side >> halvings for side in height_width(self.image_size))

    def num_channels(self, level: int) -> int:
        """Channels of the feature maps of a level."""
        return min(self.channel_base >> (level + 1), self.max_channels)

    def batch_limit(self, level: int) -> int | None:
        """The most pictures of a batch that a step uses, over all replicas; None for all."""
        return _from_size(self.batch_limits, self.level_size(level), None)

    def images_per_step(self, level: int) -> int:
        """Pictures that a step uses if batches have `batch_size`."""
        return min(self.batch_size, self.batch_limit(level) or self.batch_size)

    @functools.cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The schedule: each size is faded in, then trained on; the smallest needs no fade-in."""
        stages, step = [], 0
        for level in range(self.num_levels):
            size = "{}x{}".format(*self.level_size(level))
            for fading, images in ((True, self.fade_images), (False, self.stable_images)):
                if fading and (level == 0 or not images):
                    continue
                num_steps = self._num_steps(images, level)
                stages.append(Stage(f"{'fade_' * fading}{size}", level, fading, step, num_steps))
                step += num_steps
        return tuple(stages)

    def _num_steps(self, images: int, level: int) -> int:
        """Steps that show so many pictures, whole updates where gradients are accumulated."""
        updates = math.ceil(images / (self.images_per_step(level) * self.accumulation_steps))
        return updates * self.accumulation_steps


def _from_size(pairs: tuple[tuple[int, Any], ...], size: tuple[int, int], default: Any) -> Any:
    """The value of the largest entry that is not above the size's shorter side."""
    fitting = [pair for pair in pairs if pair[0] <= min(size)]
    return max(fitting)[1] if fitting else default


@register(
    "progan",
    task="generation",
    paper=Paper(
        "Progressive Growing of GANs for Improved Quality, Stability, and Variation",
        "T. Karras, T. Aila, S. Laine, J. Lehtinen", 2018, "1710.10196",
    ),
    # One step at 4x4, two of fading 8x8 in. Groups of 2, so that two replicas have whole ones.
    tiny={
        "image_size": 8, "latent_size": 6, "channel_base": 16, "max_channels": 8, "stable_images": 4,
        "fade_images": 8, "stddev_group_size": 2, "batch_size": 4,
    },
)  # fmt: skip
class ProGAN(AdversarialGAN):
    """Progressively grown GAN; images are (batch, height, width, channels) in [-1, 1], of the full size.

        model.fit(dataset)      # grows while it trains; real pictures are made smaller within the step
        model.generate(16)      # in the middle of training: what there is so far, enlarged to the full size
        model.run(model.sample_inputs(16), network="generator_ema")   # pictures of every size

    G's output is linear, so pictures are cut off at -1 and 1 where users get them. The network "generator"
    gives pictures of all sizes and "discriminator" takes pictures of all sizes, each size by itself; layers
    of unlike sizes meet in the training step, while one of them is faded in. Before the first step,
    `generate` shows the full size: that is how published weights are loaded.

    The logged `wasserstein` is E D(x) - E D(G(z)).
    """

    config_cls = ProGANConfig
    log_names = ("d_loss", "g_loss", "gradient_penalty", "wasserstein")

    def build_networks(self, config: ProGANConfig) -> dict[str, keras.Model]:
        return {"generator": build_generator(config), "discriminator": build_discriminator(config)}

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c = self.config
        firsts = [stage.first_step for stage in c.stages[1:]]
        rates = [_from_size(c.learning_rates, c.level_size(s.level), c.learning_rate) for s in c.stages]
        rate = rates[0]
        if c.learning_rates:
            rate = keras.optimizers.schedules.PiecewiseConstantDecay([f - 1 for f in firsts], rates)
        restarts = [first // c.accumulation_steps for first in firsts]
        return RestartedAdam(rate, restarts, beta_1=c.beta_1, beta_2=c.beta_2, epsilon=1e-8)

    @property
    def batch_spec(self) -> BatchSpec:
        return BatchSpec(images=image_field(height_width(self.config.image_size), self.config.channels))

    @property
    def ema_decays(self) -> dict[str, float]:
        return {"generator": self.config.ema_decay}

    # ---------------------------------------------------------------- growing

    @property
    def phases(self) -> tuple[tuple[str, int], ...]:
        return tuple((stage.name, stage.first_step) for stage in self.config.stages)

    @property
    def stage(self) -> Stage:
        """The stage that training is in."""
        return next(stage for stage in self.config.stages if stage.name == self.phase)

    def alpha(self, stage: Stage) -> tf.Tensor:
        """How far the layers of a stage have been faded in at this step, from 0 to 1."""
        passed = tf.cast(self.step.value - stage.first_step, tf.float32) / stage.num_steps
        return tf.clip_by_value(passed, 0.0, 1.0) if stage.fading else tf.constant(1.0)

    def updated_variables(self, player: str) -> list[keras.Variable]:
        network, names = getattr(self, player), layer_names(player, self.stage, self.config)
        return [v for name in names for v in network.get_layer(name).trainable_variables]

    def before_training(self, last_step: int | None) -> None:
        last = self.config.stages[-1]
        if last_step is not None and last_step <= last.first_step:
            warnings.warn(
                f"training ends at step {last_step}, before the full size ({last.name}) is reached at step "
                f"{last.first_step}: train longer, or lower stable_images and fade_images.",
                stacklevel=3,
            )

    def before_first_step(self, dataset: tf.data.Dataset) -> None:
        """Refuses batches that are too small for statistics.

        Raises:
            BatchError: for fewer than two pictures per replica.
        """
        first = self.batch_spec.name_fields(next(iter(dataset.take(1))))["images"]
        replicas = self.distribute_strategy.num_replicas_in_sync
        if len(first) < 2 * replicas:
            raise BatchError(
                f"ProGAN's discriminator compares the pictures of a batch: expected at least 2 for each of "
                f"{replicas} replica(s), got {len(first)}. Batch the data by more."
            )

    # ---------------------------------------------------------------- training

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real = self.real_pictures(batch["images"])
        latents = self.latents("latents", tf.shape(real)[0])
        with tf.GradientTape() as g_tape:
            fake = self.pictures(self.generator, latents, self.stage, training=True)
            with g_tape.stop_recording(), tf.GradientTape() as d_tape:
                losses = self._critic_losses(real, fake, "factors", training=True)
            with g_tape.stop_recording():
                self.update("discriminator", d_tape, losses["d_loss"])
            g_loss = generator_loss(self.scores(fake, self.stage, training=True))
        self.update("generator", g_tape, g_loss)
        return self.log(g_loss=g_loss, **losses)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real = self.real_pictures(batch["images"])
        latents = self.latents("validation", tf.shape(real)[0])
        fake = self.pictures(self.generator, latents, self.stage, training=False)
        losses = self._critic_losses(real, fake, "validation factors", training=False)
        return self.log(g_loss=generator_loss(self.scores(fake, self.stage, training=False)), **losses)

    def _critic_losses(
        self, real: tf.Tensor, fake: tf.Tensor, purpose: str, training: bool
    ) -> dict[str, tf.Tensor]:
        c, critic = self.config, functools.partial(self.scores, stage=self.stage, training=training)
        real_scores, fake_scores = critic(real), critic(fake)
        factors = self.random_uniform(purpose, (tf.shape(real)[0], 1, 1, 1))
        penalty = gradient_penalty(critic, real, fake, factors, c.gradient_penalty_target)
        drift = tf.reduce_mean(tf.square(real_scores))
        negative_distance = critic_loss(real_scores, fake_scores)
        return {
            "d_loss": negative_distance + c.gradient_penalty_weight * penalty + c.drift_weight * drift,
            "gradient_penalty": penalty,
            "wasserstein": -negative_distance,
        }

    def real_pictures(self, images: tf.Tensor) -> tf.Tensor:
        """A batch of the full size -> what this stage uses of it, in its size and as blurred as its fakes."""
        stage = self.stage
        limit, context = self.config.batch_limit(stage.level), tf.distribute.get_replica_context()
        if limit:  # at least two per replica: one picture alone would show no variety
            images = images[: max(-(-limit // context.num_replicas_in_sync), 2)]
        real = shrunk(images, 2 ** (self.config.num_levels - 1 - stage.level))
        return mixed(enlarged(shrunk(real, 2), 2), real, self.alpha(stage)) if stage.fading else real

    def pictures(
        self, generator: keras.Model, latents: tf.Tensor, stage: Stage, training: bool
    ) -> tf.Tensor:
        """What a generator makes of latents at a stage: (batch, height, width, channels) of its size."""
        x, *names = latents, *(_name("block", level, self.config) for level in range(stage.level + 1))
        for name in names:
            previous, x = x, generator.get_layer(name)(x, training=training)
        new = self._colours(generator, stage.level, x)
        if not stage.fading:
            return new
        old = enlarged(self._colours(generator, stage.level - 1, previous), 2)
        return mixed(old, new, self.alpha(stage))

    def _colours(self, generator: keras.Model, level: int, features: tf.Tensor) -> tf.Tensor:
        return generator.get_layer(_name("to_rgb", level, self.config))(features)

    def scores(self, images: tf.Tensor, stage: Stage, training: bool) -> tf.Tensor:
        """D's scores (batch, 1) of pictures of the stage's size."""
        x = self._layer("from_rgb", stage.level)(images)
        x = self._layer("block", stage.level)(x, training=training)
        if stage.fading:
            old = self._layer("from_rgb", stage.level - 1)(shrunk(images, 2))
            x = mixed(old, x, tf.cast(self.alpha(stage), x.dtype))
        for level in reversed(range(stage.level)):
            x = self._layer("block", level)(x, training=training)
        return x

    def _layer(self, part: str, level: int) -> keras.layers.Layer:
        return self.discriminator.get_layer(_name(part, level, self.config))

    # ---------------------------------------------------------------- what users get

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Pictures of what has grown so far, enlarged to the full size, in [-1, 1]; the averaged G's."""
        stages = self.config.stages
        firsts = tf.constant([stage.first_step for stage in stages], tf.int64)
        step = tf.cast(self.step.value, tf.int64)
        entered = tf.reduce_sum(tf.cast(firsts <= step, tf.int32)) - 1
        index = tf.where(step == 0, len(stages) - 1, entered)
        return tf.switch_case(index, [functools.partial(self._shown, inputs, stage) for stage in stages])

    def _shown(self, latents: tf.Tensor, stage: Stage) -> tf.Tensor:
        small = self.pictures(self.generator_ema, latents, stage, training=False)
        full = enlarged(small, 2 ** (self.config.num_levels - 1 - stage.level))
        return tf.clip_by_value(full, *self.output_range)

    def public_network(self) -> keras.Model:
        """Latents (batch, latent_size) -> images: the averaged G as it is now, the smaller sizes left out."""
        step = int(self.step.numpy())
        stages = [s for s in self.config.stages if s.first_step <= step or not step]
        stage, network = stages[-1], self.generator_ema
        images = network.outputs[stage.level]
        if stage.fading:
            old = layers.UpSampling2D(2)(network.outputs[stage.level - 1])
            images = FadeIn(float(self.alpha(stage)), dtype="float32")([old, images])
        factor = 2 ** (self.config.num_levels - 1 - stage.level)
        images = layers.UpSampling2D(factor)(images) if factor > 1 else images
        images = layers.Activation("linear", dtype="float32", name="images")(images)
        return keras.Model(network.inputs[0], images, name="generator")

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        # G's output is linear.
        return {"generate": dataclasses.replace(super().endpoints["generate"], clip=True)}


# -------------------------------------------------------------------- fading


def mixed(old: tf.Tensor, new: tf.Tensor, alpha: tf.Tensor) -> tf.Tensor:
    """`old` at alpha 0, `new` at alpha 1."""
    return (1.0 - alpha) * old + alpha * new


def shrunk(images: tf.Tensor, factor: int) -> tf.Tensor:
    """Means of factor x factor pixels; images (batch, height, width, channels)."""
    return tf.nn.avg_pool2d(images, factor, factor, "VALID") if factor > 1 else images


def enlarged(images: tf.Tensor, factor: int) -> tf.Tensor:
    """Every pixel becomes factor x factor equal ones; images (batch, height, width, channels)."""
    return tf.repeat(tf.repeat(images, factor, axis=1), factor, axis=2) if factor > 1 else images


# -------------------------------------------------------------------- networks


def _name(part: str, level: int, config: ProGANConfig) -> str:
    """Name of the layers of a level: "block_8x8", "to_rgb_8x8", "from_rgb_8x8"."""
    return "{}_{}x{}".format(part, *config.level_size(level))


def layer_names(player: str, stage: Stage, config: ProGANConfig) -> list[str]:
    """The layers of a player's network that a stage uses."""
    colours = "to_rgb" if player == "generator" else "from_rgb"
    blocks = [_name("block", level, config) for level in range(stage.level + 1)]
    levels = range(stage.level - stage.fading, stage.level + 1)
    return [*blocks, *(_name(colours, level, config) for level in levels)]


def build_generator(config: ProGANConfig) -> keras.Model:
    """Latents (batch, latent_size) -> a list of pictures (batch, height, width, channels), small to large."""
    x = latents = keras.Input((config.latent_size,), name="latents")
    pictures = []
    for level in range(config.num_levels):
        block = _generator_block(level, config) if level else _first_generator_block(config)
        x = block(x)
        to_rgb = EqualizedConv2D(
            config.channels, 1, gain=1.0, dtype="float32", name=_name("to_rgb", level, config)
        )
        pictures.append(to_rgb(x))
    return keras.Model(latents, pictures, name="generator")


def build_discriminator(config: ProGANConfig) -> keras.Model:
    """A list of pictures (batch, height, width, channels), small to large -> a list of scores (batch, 1)."""
    blocks = [_last_discriminator_block(config)]
    blocks += [_discriminator_block(level, config) for level in range(1, config.num_levels)]
    pictures, scores = [], []
    for level in range(config.num_levels):
        size = config.level_size(level)
        pictures.append(keras.Input((*size, config.channels), name="images_{}x{}".format(*size)))
        x = _conv(config.num_channels(level), 1, name=_name("from_rgb", level, config))(pictures[-1])
        for block in reversed(blocks[: level + 1]):
            x = block(x)
        scores.append(x)
    return keras.Model(pictures, scores, name="discriminator")


def _first_generator_block(config: ProGANConfig) -> keras.Model:
    """Latents -> features of the smallest size."""
    (height, width), channels = config.level_size(0), config.num_channels(0)
    latents = keras.Input((config.latent_size,))
    x = PixelNorm()(latents)
    x = EqualizedDense(height * width * channels, gain=math.sqrt(2.0) / 4.0, use_bias=False)(x)
    x = ChannelBias()(layers.Reshape((height, width, channels))(x))
    x = PixelNorm()(layers.LeakyReLU(0.2)(x))
    x = PixelNorm()(_conv(channels)(x))
    return keras.Model(latents, x, name=_name("block", 0, config))


def _generator_block(level: int, config: ProGANConfig) -> keras.Model:
    """Features of the size before -> features of this size."""
    size, channels = config.level_size(level - 1), config.num_channels(level)
    features = keras.Input((*size, config.num_channels(level - 1)))
    x = layers.UpSampling2D(2)(features)
    for _ in range(2):
        x = PixelNorm()(_conv(channels)(x))
    return keras.Model(features, x, name=_name("block", level, config))


def _discriminator_block(level: int, config: ProGANConfig) -> keras.Model:
    """Features of this size -> features of the size below."""
    channels = config.num_channels(level)
    features = keras.Input((*config.level_size(level), channels))
    x = _conv(config.num_channels(level - 1))(_conv(channels)(features))
    return keras.Model(features, layers.AveragePooling2D(2)(x), name=_name("block", level, config))


def _last_discriminator_block(config: ProGANConfig) -> keras.Model:
    """Features of the smallest size -> scores (batch, 1)."""
    channels = config.num_channels(0)
    features = keras.Input((*config.level_size(0), channels))
    x = _conv(channels)(MinibatchStddev(config.stddev_group_size)(features))
    x = EqualizedDense(channels, activation="leaky_relu")(layers.Flatten()(x))
    scores = EqualizedDense(1, gain=1.0, dtype="float32", name="scores")(x)
    return keras.Model(features, scores, name=_name("block", 0, config))


def _conv(filters: int, kernel_size: int = 3, **kwargs: Any) -> layers.Layer:
    """A convolution with LeakyReLU(0.2), Keras's default."""
    return EqualizedConv2D(filters, kernel_size, padding="same", activation="leaky_relu", **kwargs)


@keras.saving.register_keras_serializable("tf_gan_zoo")
class FadeIn(layers.Layer):
    """[old, new] -> their mixture at a fixed alpha: what a network exported within a fade-in needs."""

    def __init__(self, alpha: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = alpha

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        return mixed(*inputs, self.alpha)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "alpha": self.alpha}


@keras.saving.register_keras_serializable("tf_gan_zoo")
class ChannelBias(layers.Layer):
    """Adds a learned number to each channel; input and output (batch, height, width, channels)."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.bias = self.add_weight(shape=(input_shape[-1],), initializer="zeros", name="bias")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return inputs + tf.cast(self.bias, inputs.dtype)
