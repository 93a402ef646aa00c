"""CycleGAN: unpaired image-to-image translation, two generators tied by cycle consistency.

    G_ab, G_ba minimise  (D_b(G_ab(a)) - 1)^2 + (D_a(G_ba(b)) - 1)^2
                         + 10 (|G_ba(G_ab(a)) - a| + |G_ab(G_ba(b)) - b|)
                         + 0.5 * 10 (|G_ab(b) - b| + |G_ba(a) - a|),
    D_b minimises        1/2 [(D_b(b) - 1)^2 + D_b(pool(G_ab(a)))^2],      D_a likewise,

all as means over patches and pixels. The discriminators are shown a history of 50 generated pictures.

Reference: J.-Y. Zhu, T. Park, P. Isola, A. A. Efros, "Unpaired Image-to-Image Translation using
Cycle-Consistent Adversarial Networks", ICCV 2017, arXiv:1703.10593, equations 1-3 and section 7.1. Networks
and the default identity term follow the authors' PyTorch code: instance normalisation without gain, one
optimizer for both generators, then the discriminators.

Departures: biases before a normalisation, which it takes out again, stay 0 (as in the authors' first, Torch
code); the learning rate falls per step instead of per epoch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
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
    ImageSize,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Repeats,
    height_width,
)
from tf_gan_zoo.endpoints import Endpoint
from tf_gan_zoo.gan import GAN
from tf_gan_zoo.layers import ImagePool, InstanceNormalization, ReflectionPadding2D, Zero
from tf_gan_zoo.losses import (
    least_squares_discriminator_loss,
    least_squares_generator_loss,
    non_saturating_discriminator_loss,
    non_saturating_generator_loss,
)
from tf_gan_zoo.metrics import l1, ssim
from tf_gan_zoo.registry import Paper, register
from tf_gan_zoo.schedules import LinearDecay
from tf_gan_zoo.segments import run_in_tiles

#: Receptive field of a discriminator in pixels -> its convolutions with stride 2.
_PATCH_HALVINGS = {16: 1, 34: 2, 70: 3, 142: 4, 286: 5}
_LOSSES = {
    "least_squares": (least_squares_generator_loss, least_squares_discriminator_loss),
    "non_saturating": (non_saturating_generator_loss, non_saturating_discriminator_loss),
}


@dataclass(frozen=True, kw_only=True)
class CycleGANConfig(Config):
    """The paper's 256x256 model, as trained on horse2zebra.

    Attributes:
        image_size: sides that are multiples of 4.
        width: channels of the first layer of each network.
        num_blocks: residual blocks of a generator; None means 6 up to 128 pixels and 9 beyond.
        patch_size: pixels that one output of a discriminator sees.
        adversarial_loss: "least_squares" (section 3.4) or "non_saturating" (equation 1).
        cycle_weight_a: weight of |G_ba(G_ab(a)) - a|; 0 for the ablation "backward".
        cycle_weight_b: weight of |G_ab(G_ba(b)) - b|; 0 for the ablation "forward".
        identity_weight: weight of the identity terms (section 5.2), times that of the cycle of their domain.
        pool_size: generated pictures that each discriminator's history holds; 0 for none.
        decay_epochs: the learning rate falls linearly to 0 over this many last epochs; None means half of
            them, the paper's 100 of 200.
    """

    data: str = "unpaired:horse2zebra"
    data_options: dict[str, Any] = dataclasses.field(
        default_factory=lambda: {"load_scale": 286 / 256, "flip": True}
    )
    batch_size: PositiveInt = 1
    epochs: PositiveInt = 200
    steps_per_epoch: PositiveInt | None = 1334
    image_size: ImageSize = 256
    channels: Channels = 3
    width: PositiveInt = 64
    num_blocks: Repeats | None = None
    patch_size: Literal[16, 34, 70, 142, 286] = 70
    adversarial_loss: Literal["least_squares", "non_saturating"] = "least_squares"
    cycle_weight_a: NonNegativeFloat = 10.0
    cycle_weight_b: NonNegativeFloat = 10.0
    identity_weight: NonNegativeFloat = 0.5
    pool_size: int = 50
    learning_rate: PositiveFloat = 2e-4
    beta_1: Decay = 0.5
    beta_2: Decay = 0.999
    decay_epochs: int | None = None

    def validate(self) -> None:
        if any(side % 4 for side in height_width(self.image_size)):
            raise ConfigError(
                f"CycleGANConfig.image_size: both sides of {self.image_size} must be multiples of 4."
            )
        smallest = 3 * 2 ** _PATCH_HALVINGS[self.patch_size]
        if min(height_width(self.image_size)) < smallest:
            raise ConfigError(
                f"CycleGANConfig.patch_size: {self.patch_size} needs pictures of at least "
                f"{smallest}x{smallest} pixels, got image_size {self.image_size}. Use a smaller patch_size."
            )
        if not 0 <= (self.decay_epochs or 0) <= self.epochs:
            raise ConfigError(
                f"CycleGANConfig.decay_epochs: {self.decay_epochs} must be from 0 to epochs ({self.epochs})."
            )
        if self.pool_size < 0:
            raise ConfigError(f"CycleGANConfig.pool_size: must be 0 or more, got {self.pool_size}.")

    @property
    def blocks(self) -> int:
        """Residual blocks of a generator, by the paper's rule unless `num_blocks` says otherwise."""
        return self.num_blocks or (6 if max(height_width(self.image_size)) <= 128 else 9)


@register(
    "cyclegan",
    task="translation",
    paper=Paper(
        "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks",
        "J.-Y. Zhu, T. Park, P. Isola, A. A. Efros", 2017, "1703.10593",
    ),
    tiny={
        "image_size": 16, "width": 4, "num_blocks": 1, "patch_size": 16, "batch_size": 4, "pool_size": 6,
        "cycle_weight_a": 1.0, "cycle_weight_b": 1.0,
    },
)  # fmt: skip
class CycleGAN(GAN):
    """Translators between `images_a` and `images_b`, both (batch, height, width, channels) in [-1, 1].

    Logs the sum of the discriminators' halved losses (d_loss), and before weighting the sums over both
    directions of the generators' adversarial terms (g_loss), of the cycle's (cycle_loss) and of the
    identity's L1 distances (identity_loss, 0 if `identity_weight` is).
    """

    config_cls = CycleGANConfig
    view = "unpaired"
    log_names = ("d_loss", "g_loss", "cycle_loss", "identity_loss")
    public_name = "generator_ab"

    def build_networks(self, config: CycleGANConfig) -> dict[str, keras.Model]:
        return {
            "generator_ab": build_generator(config, "generator_ab"),
            "generator_ba": build_generator(config, "generator_ba"),
            "discriminator_a": build_discriminator(config, "discriminator_a"),
            "discriminator_b": build_discriminator(config, "discriminator_b"),
        }

    def build_state(self, config: CycleGANConfig) -> None:
        self.pool_a, self.pool_b = (self._new_pool(config, f"pool_{domain}") for domain in "ab")

    def _new_pool(self, config: CycleGANConfig, name: str) -> ImagePool | None:
        if not config.pool_size:
            return None
        pool = ImagePool(config.pool_size, name=name)
        pool.build((None, *height_width(config.image_size), config.channels))
        return pool

    @property
    def players(self) -> dict[str, tuple[str, ...]]:
        return {
            "generators": ("generator_ab", "generator_ba"),
            "discriminator_a": ("discriminator_a",),
            "discriminator_b": ("discriminator_b",),
        }

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c = self.config
        rate = c.learning_rate
        decay_epochs = c.epochs / 2 if c.decay_epochs is None else c.decay_epochs
        if decay_epochs:
            decay_steps = max(int(c.total_steps * decay_epochs / c.epochs), 1)
            rate = LinearDecay(rate, c.total_steps - decay_steps, decay_steps)
        return keras.optimizers.Adam(rate, beta_1=c.beta_1, beta_2=c.beta_2, epsilon=1e-8)

    @property
    def batch_spec(self) -> BatchSpec:
        field = image_field(height_width(self.config.image_size), self.config.channels)
        return BatchSpec(images_a=field, images_b=field)

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        pictures = {"images": (-1.0, 1.0), "outputs": (-1.0, 1.0)}
        return {
            name: Endpoint(network, pictures, {"images": field}, multiple_of=4)
            for name, network, field in [
                ("translate", self.generator_ab, "images_a"),
                ("translate_b_to_a", self.generator_ba, "images_b"),
            ]
        }

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        a, b = batch["images_a"], batch["images_b"]
        with tf.GradientTape() as tape:
            fake_b, fake_a = self.generator_ab(a, training=True), self.generator_ba(b, training=True)
            loss, parts = self._generator_losses(a, b, fake_a, fake_b, training=True)
        self.update("generators", tape, loss)
        d_loss_a = self._train_discriminator("discriminator_a", a, self._pooled("pool_a", fake_a))
        d_loss_b = self._train_discriminator("discriminator_b", b, self._pooled("pool_b", fake_b))
        return self.log(d_loss=d_loss_a + d_loss_b, **parts)

    def _generator_losses(self, a, b, fake_a, fake_b, training: bool) -> tuple[tf.Tensor, dict]:
        """What the generators minimise, and its parts before weighting."""
        c = self.config
        generator_loss, _ = _LOSSES[c.adversarial_loss]
        g_loss = generator_loss(self.discriminator_b(fake_b, training=training)) + generator_loss(
            self.discriminator_a(fake_a, training=training)
        )
        cycle_a = _l1(self.generator_ba(fake_b, training=training), a)
        cycle_b = _l1(self.generator_ab(fake_a, training=training), b)
        same_a = same_b = tf.constant(0.0)
        if c.identity_weight:
            same_a = _l1(self.generator_ba(a, training=training), a)
            same_b = _l1(self.generator_ab(b, training=training), b)
        loss = g_loss + c.cycle_weight_a * (cycle_a + c.identity_weight * same_a)
        loss += c.cycle_weight_b * (cycle_b + c.identity_weight * same_b)
        return loss, {"g_loss": g_loss, "cycle_loss": cycle_a + cycle_b, "identity_loss": same_a + same_b}

    def _pooled(self, name: str, fake: tf.Tensor) -> tf.Tensor:
        pool = getattr(self, name)
        return pool(fake, self._seed(name)) if pool is not None else fake

    def _train_discriminator(self, player: str, real: tf.Tensor, fake: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = self._discriminator_loss(player, real, fake, training=True)
        self.update(player, tape, loss)
        return loss

    def _discriminator_loss(self, name: str, real: tf.Tensor, fake: tf.Tensor, training: bool) -> tf.Tensor:
        _, discriminator_loss = _LOSSES[self.config.adversarial_loss]
        judge = getattr(self, name)
        return 0.5 * discriminator_loss(judge(real, training=training), judge(fake, training=training))

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        a, b = batch["images_a"], batch["images_b"]
        fake_b, fake_a = self.generator_ab(a, training=False), self.generator_ba(b, training=False)
        _, parts = self._generator_losses(a, b, fake_a, fake_b, training=False)
        d_loss = self._discriminator_loss("discriminator_a", a, fake_a, training=False)
        d_loss += self._discriminator_loss("discriminator_b", b, fake_b, training=False)
        return self.log(d_loss=d_loss, **parts)

    def translate(
        self, images: np.ndarray, direction: str = "a_to_b", batch_size: int = 16, tile: int | None = None,
        on_tile: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Translates pictures of one domain into the other.

        Args:
            images: (batch, height, width, channels) in [-1, 1], or one picture without batch axis; sides may
                differ from those of training, but are multiples of 4.
            direction: "a_to_b" or "b_to_a".
            batch_size: pictures per call of the network.
            tile: work on tiles of about this side, for large pictures; None takes pictures in one piece. The
                result is the same, since normalisation uses the whole picture either way. At paper size with
                tiles of 512, 4000x3000 pixels took 6.6 GB of memory and 4 minutes of processor time.
            on_tile: called after each tile with the number of tiles done and that of all.

        Returns:
            float32 of the same shape as a batch, in [-1, 1].

        Raises:
            ValueError: for another direction or a tile below 1.
            BatchError: for images that do not fit.
        """
        network = _network_for(direction)
        field = image_field((None, None), self.config.channels, multiple_of=4)
        images = checked_images(images, field)
        if tile is None:
            return self.run(images, batch_size, network)
        return run_in_tiles(getattr(self, network), images, tile, on_tile)

    def cycle(self, images: np.ndarray, direction: str = "a_to_b", batch_size: int = 16) -> np.ndarray:
        """Translates pictures there (in `direction`) and back; arguments and errors as in `translate`."""
        back = "b_to_a" if direction == "a_to_b" else "a_to_b"
        return self.translate(self.translate(images, direction, batch_size), back, batch_size)

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """How well hidden pairs (same index, same content) are recovered; untouched pictures as baseline."""
        a, b = examples["images_a"], examples["images_b"]
        comparisons = {
            "a_to_b": (self.translate(a, "a_to_b"), b),
            "b_to_a": (self.translate(b, "b_to_a"), a),
            "baseline": (a, b),
        }
        results = {}
        for name, (images, references) in comparisons.items():
            results[f"ssim_{name}"] = float(ssim(images, references, 2.0).mean())
            results[f"l1_{name}"] = float(l1(images, references).mean())
        return results


def _network_for(direction: str) -> str:
    networks = {"a_to_b": "generator_ab", "b_to_a": "generator_ba"}
    if direction not in networks:
        raise ValueError(f"direction must be 'a_to_b' or 'b_to_a', got {direction!r}.")
    return networks[direction]


def _l1(images: tf.Tensor, references: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.abs(images - references))


def build_generator(config: CycleGANConfig, name: str) -> keras.Model:
    """Images (batch, height, width, channels) -> the same in the other domain's style, in [-1, 1]."""
    x = images = keras.Input((None, None, config.channels), name="images")
    x = _normalized(layers.Conv2D(config.width, 7, **_weights(normalized=True))(ReflectionPadding2D(3)(x)))
    for k in (1, 2):
        x = layers.ZeroPadding2D(1)(x)
        x = _normalized(layers.Conv2D(config.width << k, 3, 2, **_weights(normalized=True))(x))
    for _ in range(config.blocks):
        x = _residual_block(x, config.width * 4)
    for k in (1, 0):
        x = layers.Conv2DTranspose(config.width << k, 3, 2, **_weights(normalized=True))(x)
        # Undoes the padding of the strided convolutions: outputs lie where their inputs lay.
        x = _normalized(layers.Cropping2D(((1, 0), (1, 0)))(x))
    x = layers.Conv2D(config.channels, 7, **_weights())(ReflectionPadding2D(3)(x))
    outputs = layers.Activation("tanh", dtype="float32", name="outputs")(x)
    return keras.Model(images, outputs, name=name)


def _residual_block(x: Any, channels: int) -> Any:
    y = _normalized(layers.Conv2D(channels, 3, **_weights(normalized=True))(ReflectionPadding2D(1)(x)))
    y = layers.Conv2D(channels, 3, **_weights(normalized=True))(ReflectionPadding2D(1)(y))
    return layers.Add()([x, InstanceNormalization()(y)])


def _normalized(x: Any) -> Any:
    return layers.ReLU()(InstanceNormalization()(x))


def build_discriminator(config: CycleGANConfig, name: str) -> keras.Model:
    """PatchGAN: images (batch, height, width, channels) -> scores (batch, rows, columns, 1)."""
    x = images = keras.Input((None, None, config.channels), name="images")
    halvings = _PATCH_HALVINGS[config.patch_size]
    for k in range(halvings + 1):
        x = layers.ZeroPadding2D(1)(x)  # "same" would pad unevenly where the stride is 1
        stride = 2 if k < halvings else 1
        x = layers.Conv2D(config.width * min(2**k, 8), 4, stride, **_weights(normalized=k > 0))(x)
        x = layers.LeakyReLU(0.2)(InstanceNormalization()(x) if k else x)
    scores = layers.Conv2D(1, 4, dtype="float32", name="scores", **_weights())(layers.ZeroPadding2D(1)(x))
    return keras.Model(images, scores, name=name)


def _weights(normalized: bool = False) -> dict[str, Any]:
    """Initial weights N(0, 0.02); a layer with a normalisation behind it keeps its bias at 0."""
    kernel = keras.initializers.RandomNormal(0.0, 0.02)
    return {"kernel_initializer": kernel, "bias_constraint": Zero() if normalized else None}
