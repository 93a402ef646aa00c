"""DiscoGAN: relations between two unpaired domains, found by two GANs that must undo each other.

    G_ab, G_ba minimise  -log D_b(G_ab(a)) + |G_ba(G_ab(a)) - a|^2
                         -log D_a(G_ba(b)) + |G_ab(G_ba(b)) - b|^2,
    D_b minimises        -1/2 [log D_b(b) + log(1 - D_b(G_ab(a)))],     D_a likewise,

the squares as means over pixels in [0, 1]. A generator that maps several pictures to one cannot be undone, so
the maps are drawn towards one-to-one relations. `losses` has two presets:

    "paper"          as above
    "released_code"  each direction's terms are  (1 - r) (0.1 GAN + 0.9 features) + r reconstruction:  the
                     features are squared differences of batch means in layers 2 and up of the discriminator,
                     and r rises from 0.01 to 0.5 after 10,000 iterations. The paper does not mention it.

`variant` has the paper's comparisons: "gan" leaves out the reconstruction, which makes two GANs that know
nothing of each other (the paper's baseline is one of them); "recongan" has a -> b -> a only, with D_b alone.

Of every three iterations, each on a fresh batch, the first updates the discriminators and the others the
generators, as in the released code. `code_size=100` squeezes pictures through one vector, as the code does
where it relates the angles of cars, chairs and faces.

Reference: T. Kim, M. Cha, H. Kim, J. K. Lee, J. Kim, "Learning to Discover Cross-Domain Relations with
Generative Adversarial Networks", ICML 2017, arXiv:1703.05192. Layers, first weights, updates and the terms
of "released_code" are those of the authors' code (github.com/SKTBrain/DiscoGAN, image_translation.py); batch
size and weight decay are the paper's (the code: 64, in its script 500; 1e-5).

Departures: the three iterations are one training step, so one `step` counts three of them; gains of batch
normalisation begin at 1 (at random in PyTorch at that time); edges are not thickened before they are reduced.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tf_gan_zoo import replicas
from tf_gan_zoo.batch_spec import BatchSpec, Field, checked_images, image_field
from tf_gan_zoo.config import (
    Channels,
    Config,
    ConfigError,
    Decay,
    Fraction,
    ImageSize,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Repeats,
    height_width,
    num_halvings,
)
from tf_gan_zoo.endpoints import Endpoint
from tf_gan_zoo.gan import GAN
from tf_gan_zoo.losses import (
    non_saturating_discriminator_loss,
    non_saturating_generator_loss,
)
from tf_gan_zoo.metrics import l1, ssim
from tf_gan_zoo.metrics.tasks import nearest_neighbours
from tf_gan_zoo.penalties import half_squared_norm
from tf_gan_zoo.registry import Paper, register

#: Direction -> (its generator, the one that undoes it, the field of its inputs, that of its targets, the
#: discriminator of its results).
_DIRECTIONS = {
    "a_to_b": ("generator_ab", "generator_ba", "images_a", "images_b", "discriminator_b"),
    "b_to_a": ("generator_ba", "generator_ab", "images_b", "images_a", "discriminator_a"),
}


@dataclass(frozen=True, kw_only=True)
class DiscoGANConfig(Config):
    """The paper's 64x64 model, as trained on edges and photographs of shoes.

    Attributes:
        epochs: the released code's limit; its authors stopped it by eye.
        image_size: sides that can be halved twice or more down to 4 to 7 pixels.
        width: channels of the first layer of each network; deeper ones have up to 8 times as many.
        code_size: the generators squeeze a picture into so many numbers; None leaves it a small map.
        losses: "paper" or "released_code" (see the module).
        variant: "discogan", or the comparisons "recongan" and "gan".
        starting_rate: of "released_code": part of the reconstruction in the loss at first.
        final_rate: of "released_code": its part from `rate_iterations` on.
        rate_iterations: of "released_code": iterations, three to a training step, at the starting rate.
        gan_weight: of "released_code": weight of the adversarial term in the rest.
        feature_weight: of "released_code": weight of the features' differences in the rest.
        generator_updates: iterations that update the generators after one that updates the discriminators.
        weight_decay: of half the squared weights.
    """

    data: str = "paired:edges2shoes"
    data_options: dict[str, Any] = dataclasses.field(default_factory=lambda: {"crop": "resize"})
    batch_size: PositiveInt = 200
    epochs: PositiveInt = 5000
    image_size: ImageSize = 64
    channels: Channels = 3
    width: PositiveInt = 64
    code_size: PositiveInt | None = None
    losses: Literal["paper", "released_code"] = "paper"
    variant: Literal["discogan", "recongan", "gan"] = "discogan"
    starting_rate: Fraction = 0.01
    final_rate: Fraction = 0.5
    rate_iterations: PositiveInt = 10_000
    gan_weight: NonNegativeFloat = 0.1
    feature_weight: NonNegativeFloat = 0.9
    generator_updates: Repeats = 2
    learning_rate: PositiveFloat = 2e-4
    beta_1: Decay = 0.5
    beta_2: Decay = 0.999
    weight_decay: NonNegativeFloat = 1e-4

    def validate(self) -> None:
        if self.depth < 2:
            raise ConfigError(
                f"DiscoGANConfig.image_size: {self.image_size} cannot be halved twice to 4 or more pixels. "
                "Use sides such as 16, 28, 32, 48, 64 or 128."
            )

    @property
    def depth(self) -> int:
        """How often the networks halve their pictures."""
        return num_halvings(self.image_size)

    @property
    def base_size(self) -> tuple[int, int]:
        """(height, width) of the smallest feature map, 4x4 for 64x64 pictures."""
        return tuple(side >> self.depth for side in height_width(self.image_size))

    @property
    def level_channels(self) -> list[int]:
        """Channels after each halving."""
        return [self.width * min(2**level, 8) for level in range(self.depth)]


@register(
    "discogan",
    task="translation",
    paper=Paper(
        "Learning to Discover Cross-Domain Relations with Generative Adversarial Networks",
        "T. Kim, M. Cha, H. Kim, J. K. Lee, J. Kim", 2017, "1703.05192",
    ),
    tiny={"image_size": 16, "width": 4, "batch_size": 4, "losses": "released_code"},
)  # fmt: skip
class DiscoGAN(GAN):
    """Translators between `images_a` and `images_b`, both (batch, height, width, channels) in [0, 1].

    Logs sums over the directions: of the discriminators' halved losses (d_loss) and, before weighting, of the
    adversarial terms (g_loss), the squared errors of reconstructions (reconstruction_loss) and the features'
    differences (feature_loss); the last two are 0 where nothing is trained on them.
    """

    config_cls = DiscoGANConfig
    view = "unpaired"
    log_names = ("d_loss", "g_loss", "reconstruction_loss", "feature_loss")
    public_name = "generator_ab"

    def build_networks(self, config: DiscoGANConfig) -> dict[str, keras.Model]:
        generators = {n: build_generator(config, n) for n in ("generator_ab", "generator_ba")}
        judges = [judge for *_, judge in self.directions.values()]
        return generators | {n: build_discriminator(config, n) for n in sorted(judges)}

    @property
    def directions(self) -> dict[str, tuple[str, ...]]:
        """The directions that are trained adversarially, with the names of their networks and fields."""
        count = 1 if self.config.variant == "recongan" else 2
        return dict(list(_DIRECTIONS.items())[:count])

    @property
    def players(self) -> dict[str, tuple[str, ...]]:
        judges = sorted(judge for *_, judge in self.directions.values())
        return {"discriminators": tuple(judges), "generators": ("generator_ab", "generator_ba")}

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c = self.config
        return keras.optimizers.Adam(c.learning_rate, beta_1=c.beta_1, beta_2=c.beta_2, epsilon=1e-8)

    @property
    def batch_spec(self) -> BatchSpec:
        field = image_field(height_width(self.config.image_size), self.config.channels, (0.0, 1.0))
        return BatchSpec(images_a=field, images_b=field)

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        pictures = {"images": (0.0, 1.0), "outputs": (0.0, 1.0)}
        names = {"translate": ("generator_ab", "images_a"), "translate_b_to_a": ("generator_ba", "images_b")}
        return {
            signature: Endpoint(
                getattr(self, network), pictures, {"images": field}, multiple_of=2**self.config.depth
            )
            for signature, (network, field) in names.items()
        }

    @property
    def batches_per_step(self) -> int:
        return 1 + self.config.generator_updates

    # ---------------------------------------------------------------- training

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        first, *others = self.split_batch(batch)
        with tf.GradientTape() as tape:
            d_loss = self._discriminator_loss(first, training=True)
            loss = d_loss + self._decay("discriminators")
        self.update("discriminators", tape, loss)
        logs = [self._train_generators(part, k) for k, part in enumerate(others, start=1)]
        return self.log(d_loss=d_loss, **{n: tf.reduce_mean([part[n] for part in logs]) for n in logs[0]})

    def _train_generators(self, batch: dict[str, tf.Tensor], place: int) -> dict[str, tf.Tensor]:
        """One update; `place` is the iteration's within the step."""
        with tf.GradientTape() as tape:
            terms = self._generator_terms(batch, training=True)
            loss = self._weighted(terms, self.rate(place)) + self._decay("generators")
        self.update("generators", tape, loss)
        return terms

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        d_loss = self._discriminator_loss(batch, training=False)
        return self.log(d_loss=d_loss, **self._generator_terms(batch, training=False))

    def _discriminator_loss(self, batch: dict[str, tf.Tensor], training: bool) -> tf.Tensor:
        """Halved as in the code; the generators normalise as in training, but are not trained here."""
        loss = tf.constant(0.0)
        for forward, _, source, target, judge in self.directions.values():
            fake = tf.stop_gradient(getattr(self, forward)(batch[source], training=training))
            judge = getattr(self, judge)
            real_logits, *_ = judge(batch[target], training=training)
            fake_logits, *_ = judge(fake, training=training)
            loss += 0.5 * non_saturating_discriminator_loss(real_logits, fake_logits)
        return loss

    def _generator_terms(self, batch: dict[str, tf.Tensor], training: bool) -> dict[str, tf.Tensor]:
        """Sums over the directions, before weighting."""
        c, zero = self.config, tf.constant(0.0)
        terms = {"g_loss": zero, "reconstruction_loss": zero, "feature_loss": zero}
        for forward, back, source, target, judge in self.directions.values():
            fake = getattr(self, forward)(batch[source], training=training)
            logits, *features = getattr(self, judge)(fake, training=training)
            terms["g_loss"] += non_saturating_generator_loss(logits)
            if c.variant != "gan":
                restored = getattr(self, back)(fake, training=training)
                terms["reconstruction_loss"] += _mean_square(restored - batch[source])
            if c.losses == "released_code":
                _, *real_features = getattr(self, judge)(batch[target], training=training)
                terms["feature_loss"] += feature_difference(real_features, features)
        return terms

    def _weighted(self, terms: Mapping[str, tf.Tensor], rate: tf.Tensor) -> tf.Tensor:
        """What the generators minimise: the sum, or the mixture of the released code."""
        c = self.config
        if c.losses == "paper":
            return terms["g_loss"] + terms["reconstruction_loss"]
        adversarial = c.gan_weight * terms["g_loss"] + c.feature_weight * terms["feature_loss"]
        if c.variant == "gan":
            return adversarial
        return (1.0 - rate) * adversarial + rate * terms["reconstruction_loss"]

    def rate(self, place: int = 0) -> tf.Tensor:
        """The reconstruction's part in the released code's loss, in this step's iteration `place`."""
        c = self.config
        iteration = self.step.value * self.batches_per_step + place
        return tf.where(iteration < c.rate_iterations, c.starting_rate, c.final_rate)

    def _decay(self, player: str) -> tf.Tensor:
        if not self.config.weight_decay:
            return tf.constant(0.0)
        return self.config.weight_decay * half_squared_norm(self.player_variables(player))

    # ---------------------------------------------------------------- inference

    def translate(self, images: Any, direction: str = "a_to_b", batch_size: int = 64) -> np.ndarray:
        """Translates pictures of one domain into the other.

        Args:
            images: (batch, height, width, channels) in [0, 1], or one picture without batch axis. Sides may
                differ from those of training (not with a `code_size`), but are multiples of 2**depth.
            direction: "a_to_b" or "b_to_a".
            batch_size: pictures per call of the network.

        Returns:
            float32 of the same shape as a batch, in [0, 1].

        Raises:
            ValueError: for another direction.
            BatchError: for images that do not fit.
        """
        if direction not in _DIRECTIONS:
            raise ValueError(f"direction must be 'a_to_b' or 'b_to_a', got {direction!r}.")
        return self.run(checked_images(images, self._input_field), batch_size, _DIRECTIONS[direction][0])

    def cycle(self, images: Any, direction: str = "a_to_b", batch_size: int = 64) -> np.ndarray:
        """Translates pictures there (in `direction`) and back; arguments and errors as in `translate`."""
        back = "b_to_a" if direction == "a_to_b" else "a_to_b"
        return self.translate(self.translate(images, direction, batch_size), back, batch_size)

    @property
    def _input_field(self) -> Field:
        c = self.config
        size = (None, None) if c.code_size is None else height_width(c.image_size)
        return image_field(size, c.channels, (0.0, 1.0), multiple_of=2**c.depth)

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """How well hidden pairs (same index, same content) are recovered; untouched pictures as baseline.

        Returns:
            for "a_to_b", "b_to_a" and "baseline": pair_recovery, the part of pictures that are nearer to
            their partner than to any other picture of its domain, by pixels; ssim and l1 to the partner.
        """
        a, b = examples["images_a"], examples["images_b"]
        comparisons = {
            "a_to_b": (self.translate(a, "a_to_b"), b),
            "b_to_a": (self.translate(b, "b_to_a"), a),
            "baseline": (a, b),
        }
        results = {}
        for name, (images, references) in comparisons.items():
            results[f"pair_recovery_{name}"] = pair_recovery(images, references)
            results[f"ssim_{name}"] = float(ssim(images, references, 1.0).mean())
            results[f"l1_{name}"] = float(l1(images, references).mean())
        return results


def pair_recovery(images: np.ndarray, references: np.ndarray) -> float:
    """Part of the pictures (count, height, width, channels) whose nearest reference has their index."""
    nearest, _ = nearest_neighbours(images, references)
    return float((nearest == np.arange(len(nearest))).mean())


def feature_difference(real: list[tf.Tensor], fake: list[tf.Tensor]) -> tf.Tensor:
    """Sum over layers of the mean squared difference of means over the global batch (the released code).

    Args:
        real: features of real pictures, each (batch, height, width, channels).
        fake: of generated ones.
    """
    means = (map(replicas.batch_mean, features) for features in (real, fake))
    return tf.add_n([_mean_square(x - y) for x, y in zip(*means)])


def _mean_square(difference: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.square(difference))


# -------------------------------------------------------------------- networks


def build_generator(config: DiscoGANConfig, name: str) -> keras.Model:
    """Images (batch, height, width, channels) -> the same in the other domain, both in [0, 1]."""
    size = (None, None) if config.code_size is None else height_width(config.image_size)
    x = images = keras.Input((*size, config.channels), name="images")
    for level, filters in enumerate(config.level_channels):
        x = _conv(filters)(x)
        x = layers.LeakyReLU(0.2)(_norm(config)(x) if level else x)
    x = x if config.code_size is None else _through_code(x, config)
    for filters in reversed(config.level_channels[:-1]):
        x = layers.ReLU()(_norm(config)(_up_conv(filters)(x)))
    x = _up_conv(config.channels)(x)
    outputs = layers.Activation("sigmoid", dtype="float32", name="outputs")(x)
    return keras.Model(images, outputs, name=name)


def _through_code(x: Any, config: DiscoGANConfig) -> Any:
    """The whole map to one vector and back."""
    options = {"kernel_size": config.base_size, "strides": 1, "padding": "valid"}
    x = layers.LeakyReLU(0.2)(_norm(config)(_conv(config.code_size, **options)(x)))
    return layers.ReLU()(_norm(config)(_up_conv(config.level_channels[-1], **options)(x)))


def build_discriminator(config: DiscoGANConfig, name: str) -> keras.Model:
    """Images (batch, *image_size, channels) -> [logits (batch, 1), features of each layer but the first]."""
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    x, features = images, []
    for level, filters in enumerate(config.level_channels):
        x = _conv(filters)(x)
        x = layers.LeakyReLU(0.2)(_norm(config)(x) if level else x)
        features += [x] if level else []
    x = _conv(1, kernel_size=config.base_size, strides=1, padding="valid", dtype="float32")(x)
    logits = layers.Flatten(dtype="float32", name="logits")(x)
    return keras.Model(images, [logits, *features], name=name)


def _conv(filters: int, kernel_size: Any = 4, strides: int = 2, padding: str = "same", **kwargs: Any) -> Any:
    initializer = _within_root_of_inputs("fan_in")
    return layers.Conv2D(
        filters, kernel_size, strides, padding, use_bias=False, kernel_initializer=initializer, **kwargs
    )


def _up_conv(filters: int, kernel_size: Any = 4, strides: int = 2, padding: str = "same") -> layers.Layer:
    initializer = _within_root_of_inputs("fan_out")  # Keras calls a transposed kernel's inputs so
    return layers.Conv2DTranspose(
        filters, kernel_size, strides, padding, use_bias=False, kernel_initializer=initializer
    )


def _within_root_of_inputs(mode: str) -> keras.initializers.Initializer:
    """Uniform up to 1 / sqrt(inputs) either way: the code's framework's default."""
    return keras.initializers.VarianceScaling(1 / 3, mode, "uniform")


def _norm(config: DiscoGANConfig) -> layers.Layer:
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, synchronized=config.sync_batch_norm)
