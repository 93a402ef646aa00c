"""StackGAN: a small picture from a sentence, then a large one from both.

    D minimises  -E log D(x, h) - 1/2 E log(1 - D(x', h)) - 1/2 E log(1 - D(G, h)),
    G minimises  -E log D(G, h) + 2 KL(N(mu(h), sigma(h)) || N(0, 1)),

for two pairs of networks. h is a caption's embedding, x a picture, x' one of another class. Stage I draws
s = G1(z, c1), a quarter of the size, from noise z; Stage II draws G2(s, c2) at full size, from s and the
same caption, and mends what is wrong in s. c = mu(h) + sigma(h) e with e ~ N(0, 1) is the conditioning
augmentation, of each stage its own: it fills the gaps between captions, and the KL term, a mean over its 128
numbers and the batch, keeps it smooth. Both D see h itself and a picture that does not belong to it, as in
GAN-CLS.

Three phases in one `fit`: the text network learns embeddings, as `captioned` explains; then Stage I, with
pictures made small; then Stage II, with all else fixed.

Reference: H. Zhang, T. Xu, H. Li, S. Zhang, X. Wang, X. Huang, D. Metaxas, "StackGAN: Text to Photo-realistic
Image Synthesis with Stacked Generative Adversarial Networks", ICCV 2017, arXiv:1612.03242. From the authors'
released code: layers, dense ones starting from N(0, 0.02) and batch norms' gains from N(1, 0.02); the KL
term's form and weight 2; Adam with 2e-4, beta_1 0.5 and a rate that halves every 50 epochs of Stage I and 100
of Stage II.

Departures beside those of `captioned`: e and convolutions' first weights are normal (there truncated at two
standard deviations); Stage II gets what Stage I draws with moving averages in its batch
norm, as it does later in use (there with statistics of the batch); the wrong picture is the next one in the
batch, left out if it is of the same class; Stage I's pictures are Stage II's made small (there crops of their
own).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tf_gan_zoo import replicas
from tf_gan_zoo.batch_spec import checked_images, image_field
from tf_gan_zoo.captioned import CaptionedConfig, CaptionedGAN, caption_accuracies, matching_loss, text_of
from tf_gan_zoo.config import (
    ConfigError,
    Decay,
    ImageSize,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Repeats,
    height_width,
)
from tf_gan_zoo.losses import non_saturating_generator_loss as fooling_loss
from tf_gan_zoo.metrics import tasks
from tf_gan_zoo.networks.matching import bottleneck, conv, halvings, judgement, norm, normal
from tf_gan_zoo.networks.text import build_text_encoder
from tf_gan_zoo.registry import Paper, register


@dataclass(frozen=True, kw_only=True)
class StackGANConfig(CaptionedConfig):
    """The paper's model for birds; see `CaptionedConfig` for the text network's fields.

    Attributes:
        image_size: pixels of Stage II's pictures.
        enlargement: how many times larger they are than Stage I's: a power of 2.
        code_size: numbers of the conditioning augmentation.
        text_code_size: numbers that each D makes of an embedding.
        width: channels of Stage I's last but one layer; its first has 8 times as many.
        discriminator_width: channels of the first layer of each D.
        num_residual_blocks: of Stage II; the paper's takes 2 for 128 pixels.
        kl_weight: of the KL term.
        stage_two_start: the step from which Stage II is trained, after 600 epochs of Stage I.
        initial_std: standard deviation of the first weights; narrow networks need a larger one.
        discriminator_learning_rate: of D, if it is another; few pictures need a slower one.
        halving_steps: the learning rate is halved after so many steps of Stage I, 50 epochs, and of Stage II,
            100 epochs.
    """

    epochs: PositiveInt = 1418
    image_size: ImageSize = 256
    enlargement: Literal[2, 4, 8] = 4
    code_size: PositiveInt = 128
    text_code_size: PositiveInt = 128
    width: PositiveInt = 128
    discriminator_width: PositiveInt = 64
    num_residual_blocks: Repeats = 4
    kl_weight: NonNegativeFloat = 2.0
    stage_two_start: PositiveInt = 200 * 150 + 600 * 138
    learning_rate: PositiveFloat = 2e-4
    discriminator_learning_rate: PositiveFloat | None = None
    beta_1: Decay = 0.5
    initial_std: PositiveFloat = 0.02
    halving_steps: tuple[PositiveInt, PositiveInt] = (50 * 138, 100 * 138)

    def validate(self) -> None:
        super().validate()
        step = 16 * self.enlargement
        if any(side % step for side in height_width(self.image_size)):
            raise ConfigError(
                f"StackGANConfig.image_size: expected multiples of {step}, 16 times enlargement, got "
                f"{self.image_size}."
            )
        if self.width % self.enlargement:
            raise ConfigError(
                f"StackGANConfig.width: {self.width} must be a multiple of enlargement, {self.enlargement}."
            )
        if self.stage_two_start <= self.text_steps:
            raise ConfigError(
                f"StackGANConfig.stage_two_start: {self.stage_two_start} must be above text_steps, "
                f"{self.text_steps}."
            )

    @property
    def small_size(self) -> tuple[int, int]:
        """(height, width) of Stage I's pictures."""
        return tuple(side // self.enlargement for side in height_width(self.image_size))

    @property
    def doublings(self) -> int:
        """Of the sides, from Stage I to Stage II."""
        return self.enlargement.bit_length() - 1


@register(
    "stackgan",
    task="text_to_image",
    paper=Paper(
        "StackGAN: Text to Photo-realistic Image Synthesis with Stacked Generative Adversarial Networks",
        "H. Zhang, T. Xu, H. Li, S. Zhang, X. Wang, X. Huang, D. Metaxas", 2017, "1612.03242",
    ),
    tiny={
        "image_size": 32, "enlargement": 2, "width": 2, "discriminator_width": 4, "latent_size": 4,
        "code_size": 4, "text_size": 8, "text_code_size": 4, "text_width": 2, "caption_length": 66,
        "image_features": "random", "text_steps": 1, "text_initial_range": 0.5, "num_residual_blocks": 1,
        "stage_two_start": 2, "initial_std": 0.1, "batch_size": 4,
    },
)  # fmt: skip
class StackGAN(CaptionedGAN):
    """Pictures by caption, in two stages; (batch, height, width, channels) in [-1, 1], captions are strings.

        model.generate(captions=["red heart", "blue car"])
        model.stages(["red heart", "blue car"])           # (small pictures, large ones made of them)
        model.refine(small, ["red heart", "blue car"])    # Stage II alone, on any small pictures
        model.interpolate("red heart", "blue car", 8)

    `latents` of exports and `sample_inputs` are z and the draws of both stages' augmentations, one behind the
    other. Logs the text network's hinge (text_loss) and of the stage being trained D's loss, G's first term
    (g_loss) and its KL term before weighting (kl_loss).
    """

    config_cls = StackGANConfig
    judge_name = "discriminator_two"
    log_names = ("text_loss", "d_loss", "g_loss", "kl_loss")

    def build_networks(self, config: StackGANConfig) -> dict[str, keras.Model]:
        return {
            "generator_one": build_generator_one(config),
            "discriminator_one": build_discriminator_one(config),
            "generator_two": build_generator_two(config),
            "discriminator_two": build_discriminator_two(config),
            "text_encoder": build_text_encoder(config),
        }

    @property
    def phases(self) -> tuple[tuple[str, int], ...]:
        c = self.config
        return (*self.text_phases, ("stage_one", c.text_steps), ("stage_two", c.stage_two_start))

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c = self.config
        if player == "text_encoder":
            return self.text_optimizer()
        steps = c.halving_steps[player.endswith("two")]
        rate = (player.startswith("discriminator") and c.discriminator_learning_rate) or c.learning_rate
        halved = keras.optimizers.schedules.ExponentialDecay(rate, steps, 0.5, staircase=True)
        return keras.optimizers.Adam(halved, beta_1=c.beta_1, epsilon=1e-8)

    @property
    def latent_size(self) -> int:
        return self.config.latent_size + 2 * self.config.code_size

    # ---------------------------------------------------------------- training

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        if self.phase == "text":
            return self.text_step(batch)
        text, stage = self.embed(batch["captions"]), self.phase.removeprefix("stage_")
        images, labels = self._pictures_of(batch, stage), batch["labels"]
        fakes, _ = self._draw(stage, text, "for D", training=True)
        with tf.GradientTape() as tape:
            d_loss = self._discriminator_loss(stage, images, labels, text, fakes, training=True)
        self.update(f"discriminator_{stage}", tape, d_loss)
        with tf.GradientTape() as tape:
            g_loss, kl_loss = self._generator_losses(stage, text, "for G", training=True)
            loss = g_loss + self.config.kl_weight * kl_loss
        self.update(f"generator_{stage}", tape, loss)
        return self.log_some(d_loss=d_loss, g_loss=g_loss, kl_loss=kl_loss)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        if self.phase == "text":
            return self.log_some(text_loss=self.text_loss(batch, training=False))
        text, stage = self.embed(batch["captions"]), self.phase.removeprefix("stage_")
        images, labels = self._pictures_of(batch, stage), batch["labels"]
        fakes, _ = self._draw(stage, text, "validation", training=False)
        d_loss = self._discriminator_loss(stage, images, labels, text, fakes, training=False)
        g_loss, kl_loss = self._generator_losses(stage, text, "validation", training=False)
        return self.log_some(d_loss=d_loss, g_loss=g_loss, kl_loss=kl_loss)

    def _pictures_of(self, batch: Mapping[str, tf.Tensor], stage: str) -> tf.Tensor:
        return batch["images"] if stage == "two" else self.shrink(batch["images"])

    def shrink(self, images: tf.Tensor) -> tf.Tensor:
        """Pictures at Stage I's size, by means of squares."""
        return tf.nn.avg_pool2d(images, self.config.enlargement, self.config.enlargement, "VALID")

    def _draw(
        self, stage: str, text: tf.Tensor, purpose: str, training: bool
    ) -> tuple[tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        """Pictures, and mean and log sigma of the trained stage's augmentation."""
        latents = self.latents(purpose, tf.shape(text)[0])
        if stage == "one":
            made = self._first(latents, text, training)
        else:
            small = self._first(latents, text, training=False)["images"]
            made = self._second(small, latents, text, training)
        return made["images"], (made["mean"], made["log_sigma"])

    def _first(self, latents: tf.Tensor, text: tf.Tensor, training: bool) -> dict[str, tf.Tensor]:
        own = latents[:, : -self.config.code_size]
        return self.generator_one({"latents": own, "text": text}, training=training)

    def _second(
        self, small: tf.Tensor, latents: tf.Tensor, text: tf.Tensor, training: bool
    ) -> dict[str, tf.Tensor]:
        own = latents[:, -self.config.code_size :]
        return self.generator_two({"small": small, "noise": own, "text": text}, training=training)

    def _discriminator_loss(
        self, stage: str, images: tf.Tensor, labels: tf.Tensor, text: tf.Tensor, fakes: tf.Tensor,
        training: bool,
    ) -> tf.Tensor:  # fmt: skip
        """Real pictures with their text, wrong ones with it, and fakes."""
        pictures = {"real": images, "wrong": replicas.rolled(images), "fake": fakes}
        logits = {name: self._judge(stage, x, text, training) for name, x in pictures.items()}
        other_class = tf.not_equal(labels, replicas.rolled(labels))
        return matching_loss(**logits, other_class=other_class)

    def _generator_losses(
        self, stage: str, text: tf.Tensor, purpose: str, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What D says of new pictures, and the KL term."""
        images, code = self._draw(stage, text, purpose, training)
        return fooling_loss(self._judge(stage, images, text, training)), kl_to_standard_normal(*code)

    def _judge(self, stage: str, images: tf.Tensor, text: tf.Tensor, training: bool) -> tf.Tensor:
        network = getattr(self, f"discriminator_{stage}")
        return network({"images": images, "text": text}, training=training)

    # ---------------------------------------------------------------- pictures

    @functools.cached_property
    def stacked_network(self) -> keras.Model:
        """Latents and embeddings -> pictures of both stages: both generators as one network."""
        c = self.config
        latents = keras.Input((self.latent_size,), name="latents")
        text = keras.Input((c.text_size,), name="text")
        first = self.generator_one({"latents": latents[:, : -c.code_size], "text": text})
        noise = latents[:, -c.code_size :]
        second = self.generator_two({"small": first["images"], "noise": noise, "text": text})
        named = {"images": second["images"], "small": first["images"]}
        outputs = {
            name: layers.Activation("linear", dtype="float32", name=name)(x) for name, x in named.items()
        }
        return keras.Model({"latents": latents, "text": text}, outputs, name="stacked_network")

    @functools.cached_property
    def generator(self) -> keras.Model:
        """Latents and embeddings -> Stage II's pictures."""
        stacked = self.stacked_network
        return keras.Model(stacked.input, stacked.output["images"], name="generator")

    def stages(
        self, captions: str | Sequence[str], seed: int = 0, batch_size: int = 64
    ) -> tuple[np.ndarray, np.ndarray]:
        """Stage I's pictures of captions and what Stage II makes of them, as `generate` gives it."""
        text = self.encode_text(captions)
        inputs = self.sample_inputs(len(text), seed, text=text)
        made = self.run(inputs, batch_size, "stacked_network")
        return made["small"], made["images"]

    def refine(
        self, small: Any, captions: str | Sequence[str], seed: int = 0, batch_size: int = 64
    ) -> np.ndarray:
        """Stage II alone.

        Args:
            small: pictures at Stage I's size, (count, height, width, channels) in [-1, 1].
            captions: one for all or one for each.
            seed: of the conditioning augmentation.
            batch_size: pictures per call of the network.

        Raises:
            BatchError: if the pictures do not fit.
            ValueError: for another number of captions.
        """
        small = checked_images(small, image_field(self.config.small_size, self.config.channels))
        inputs = self.sample_inputs(len(small), seed, captions=captions)
        noise = inputs["latents"][:, -self.config.code_size :]
        given = {"small": small, "noise": noise, "text": inputs["text"]}
        return self.run(given, batch_size, "generator_two")["images"]

    def sample_pictures(self, count: int = 64, seed: int = 0) -> np.ndarray:
        """Rows of up to eight captions, Stage I above Stage II: (rows, 2 * height, 8 * width, channels)."""
        known, number = self.config.sample_captions, max(count // 16, 1) * 8
        captions = [known[k % len(known)] for k in range(number)]
        small, large = self.stages(captions, seed)
        shown = np.concatenate([enlarge(small, self.config.enlargement), large], axis=1)
        rows = shown.reshape(-1, 8, *shown.shape[1:])
        return np.concatenate(np.moveaxis(rows, 1, 0), axis=2)

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Whether pictures are of their captions, and what Stage II adds.

        Returns:
            what `CaptionedGAN.measure` does, of Stage II;
            small_caption_accuracy, small_word_accuracy: the same of Stage I's pictures, enlarged;
            sharpness: mean difference of neighbouring pixels, as a share of the held-out pictures';
            caption_rmse: distance to the nearest held-out picture of the same caption, per pixel value; the
                baselines of both are Stage I's pictures, enlarged smoothly.
        """
        captions = [text_of(caption) for caption in examples["captions"]]
        images, labels = np.asarray(examples["images"]), np.asarray(examples["labels"])
        small, large = self.stages(captions)
        smooth = tf.image.resize(small, images.shape[1:3], "bicubic").numpy()
        of_small = caption_accuracies(smooth, examples)
        return {
            **super().measure(examples),
            **{f"small_{name}": of_small[name] for name in ("caption_accuracy", "word_accuracy")},
            "sharpness": roughness(large) / roughness(images),
            "sharpness_baseline": roughness(smooth) / roughness(images),
            "caption_rmse": rmse_within_classes(large, images, labels),
            "caption_rmse_baseline": rmse_within_classes(smooth, images, labels),
        }


# -------------------------------------------------------------------- losses and measures


def kl_to_standard_normal(mean: tf.Tensor, log_sigma: tf.Tensor) -> tf.Tensor:
    """KL(N(mean, sigma) || N(0, 1)) of one number, the mean over all of (batch, size), a scalar."""
    squares = tf.exp(2.0 * log_sigma) + tf.square(mean)
    return tf.reduce_mean(0.5 * (squares - 1.0) - log_sigma)


def enlarge(images: np.ndarray, factor: int) -> np.ndarray:
    """Each pixel of (count, height, width, channels) as a square."""
    return images.repeat(factor, axis=1).repeat(factor, axis=2)


def roughness(images: np.ndarray) -> float:
    """Mean absolute difference of neighbouring pixels of (count, height, width, channels)."""
    return float(sum(np.abs(np.diff(images, axis=axis)).mean() for axis in (1, 2)) / 2)


def rmse_within_classes(made: np.ndarray, images: np.ndarray, labels: np.ndarray) -> float:
    """Mean distance of what is `made` for each example to the nearest of the images of its class."""
    distances = []
    for label in np.unique(labels):
        own = labels == label
        distances.extend(tasks.nearest_neighbours(made[own], images[own])[1])
    return float(np.mean(distances))


# -------------------------------------------------------------------- networks


def augmented(
    text: keras.KerasTensor, noise: keras.KerasTensor, config: StackGANConfig
) -> tuple[keras.KerasTensor, dict[str, keras.KerasTensor]]:
    """The conditioning augmentation's code, and its float32 "mean" and "log_sigma"."""
    both = layers.LeakyReLU(0.2)(_dense(config, 2 * config.code_size)(text))
    halves = {"mean": both[:, : config.code_size], "log_sigma": both[:, config.code_size :]}
    named = {n: layers.Activation("linear", dtype="float32", name=n)(half) for n, half in halves.items()}
    sigma = layers.Activation("exponential", dtype="float32")(named["log_sigma"])
    return layers.Add()([named["mean"], layers.Multiply()([sigma, noise])]), named


def build_generator_one(config: StackGANConfig) -> keras.Model:
    """z and noise, embeddings -> small images, in [-1, 1], and mean and log_sigma of the code."""
    latents = keras.Input((config.latent_size + config.code_size,), name="latents")
    text = keras.Input((config.text_size,), name="text")
    z, noise = latents[:, : config.latent_size], latents[:, config.latent_size :]
    code, normal_code = augmented(text, noise, config)
    (height, width), filters = (side // 16 for side in config.small_size), 8 * config.width
    x = norm(config)(_dense(config, height * width * filters)(layers.Concatenate()([code, z])))
    x = layers.Reshape((height, width, filters))(x)
    x = bottleneck(x, 2 * config.width, layers.ReLU(), config)
    x = norm(config)(_doubled(x, 4 * config.width, config))
    x = bottleneck(x, config.width, layers.ReLU(), config)
    for filters in (2 * config.width, config.width):
        x = layers.ReLU()(norm(config)(_doubled(x, filters, config)))
    images = layers.Activation("tanh", dtype="float32", name="images")(_doubled(x, config.channels, config))
    inputs = {"latents": latents, "text": text}
    return keras.Model(inputs, {"images": images, **normal_code}, name="generator_one")


def build_discriminator_one(config: StackGANConfig) -> keras.Model:
    """Small images and embeddings -> logits (batch, 1)."""
    images = keras.Input((*config.small_size, config.channels), name="images")
    text = keras.Input((config.text_size,), name="text")
    x = halvings(images, config)
    x = bottleneck(x, 2 * config.discriminator_width, layers.LeakyReLU(0.2), config)
    code = _dense(config, config.text_code_size)(text)
    logits = judgement(x, code, config, normalize_code=False)
    return keras.Model({"images": images, "text": text}, logits, name="discriminator_one")


def build_generator_two(config: StackGANConfig) -> keras.Model:
    """Small images, noise, embeddings -> images, in [-1, 1], and mean and log_sigma of the code."""
    small = keras.Input((*config.small_size, config.channels), name="small")
    noise = keras.Input((config.code_size,), name="noise")
    text = keras.Input((config.text_size,), name="text")
    code, normal_code = augmented(text, noise, config)
    x, width = layers.ReLU()(conv(config, config.width, 3)(small)), config.width
    for filters in (2 * width, 4 * width):
        x = layers.ReLU()(norm(config)(conv(config, filters, 4, 2)(x)))
    planes = layers.UpSampling2D(x.shape[1:3])(layers.Reshape((1, 1, config.code_size))(code))
    x = layers.ReLU()(norm(config)(conv(config, 4 * width, 3)(layers.Concatenate()([x, planes]))))
    for _ in range(config.num_residual_blocks):
        x = _residual(x, config)
    for k in range(2 + config.doublings):
        x = layers.ReLU()(norm(config)(_doubled(x, 2 * width >> k, config)))
    x = conv(config, config.channels, 3)(x)
    images = layers.Activation("tanh", dtype="float32", name="images")(x)
    inputs = {"small": small, "noise": noise, "text": text}
    return keras.Model(inputs, {"images": images, **normal_code}, name="generator_two")


def build_discriminator_two(config: StackGANConfig) -> keras.Model:
    """Images and embeddings -> logits (batch, 1).

    As many more halvings than Stage I's D has, and as many 1x1 convolutions back to its channels.
    """
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    text = keras.Input((config.text_size,), name="text")
    width, leaky = config.discriminator_width, layers.LeakyReLU(0.2)
    x = leaky(conv(config, width, 4, 2)(images))
    for k in range(1, 4 + config.doublings):
        x = leaky(norm(config)(conv(config, width << k, 4, 2)(x)))
    for k in reversed(range(config.doublings)):
        x = norm(config)(conv(config, 8 * width << k, 1)(x))
        x = leaky(x) if k else x
    x = bottleneck(x, 2 * width, layers.LeakyReLU(0.2), config)
    code = _dense(config, config.text_code_size)(text)
    logits = judgement(x, code, config, normalize_code=False)
    return keras.Model({"images": images, "text": text}, logits, name="discriminator_two")


def _residual(x: keras.KerasTensor, config: StackGANConfig) -> keras.KerasTensor:
    y = layers.ReLU()(norm(config)(conv(config, x.shape[-1], 3)(x)))
    y = norm(config)(conv(config, x.shape[-1], 3)(y))
    return layers.ReLU()(layers.Add()([x, y]))


def _doubled(x: keras.KerasTensor, filters: int, config: StackGANConfig) -> keras.KerasTensor:
    return conv(config, filters, 3)(layers.UpSampling2D()(x))


def _dense(config: StackGANConfig, units: int) -> layers.Layer:
    return layers.Dense(units, kernel_initializer=normal(config))
