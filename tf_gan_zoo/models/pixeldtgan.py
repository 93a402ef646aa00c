"""PixelDTGAN: from a photograph to the picture of the thing itself, judged by two discriminators.

For a source s, its associated target t+ and an irrelevant target t-, with the converter C:

    D_R minimises  -1/3 [log D_R(t+) + log D_R(t-) + log(1 - D_R(C(s)))]                 real or converted?
    D_A minimises  -1/3 [log D_A(s, t+) + log(1 - D_A(s, t-)) + log(1 - D_A(s, C(s)))]   does it belong to s?
    C minimises    -1/2 [log D_R(C(s)) + log D_A(s, C(s))]

No pixels are compared (unless one gives `mse_weight`): a target can be right in many ways. D_A sees both
pictures and is what ties the result to its source; irrelevant targets teach it that looking real is not
enough. C squeezes the source through a code of 64 numbers: it has to keep what the thing is, not where it is.

`variant` names the paper's comparisons:

    "mse"           C+MSE: mean squared error to t+ alone, no discriminator
    "rf"            C+RF: D_R alone
    "rf_dd_no_neg"  C+RF+DD without irrelevant targets, whose terms are left out (1/2 in place of 1/3)
    "rf_dd"         C+RF+DD, the full model

Reference: D. Yoo, N. Kim, S. Park, A. S. Paek, I. S. Kweon, "Pixel-Level Domain Transfer", ECCV 2016,
arXiv:1603.07442. The paper shows a discriminator one of the three kinds of pictures at random in each update;
all three with a third each have the same expectation. Its authors released no code. Three choices rest on
re-implementations: 5x5 kernels in the decoder, too, no biases, and a tenth of the rate in the last 5 of 30
epochs. "Momentum 0.5" is taken as Adam's beta_1, as in DCGAN, on which the paper builds; `optimizer="sgd"`
takes it at its word.
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

from tf_gan_zoo.batch_spec import BatchError, BatchSpec, checked_images, image_field
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
from tf_gan_zoo.endpoints import Endpoint
from tf_gan_zoo.gan import GAN
from tf_gan_zoo.losses import non_saturating_generator_loss
from tf_gan_zoo.metrics import ssim
from tf_gan_zoo.metrics.tasks import nearest_neighbours, neighbours_accuracy
from tf_gan_zoo.registry import Paper, register


@dataclass(frozen=True, kw_only=True)
class PixelDTGANConfig(Config):
    """The paper's 64x64 model, as trained on LookBook.

    Attributes:
        image_size: sides that can be halved down to 4 to 7 pixels: 28, 32, 48, 64, 128...
        input_channels: of the sources; `channels` are the targets'.
        width: channels of the first layer of each network; they double with every halving.
        code_size: numbers that the converter's decoder gets to know of a source.
        kernel_size: of all convolutions but those between map and code.
        variant: "rf_dd", or a comparison (see the module).
        mse_weight: of the squared error to the targets, which is added to C's adversarial terms; the paper
            has none, but with few pictures and little time it tells C sooner what belongs to what.
        optimizer: "adam" with beta_1, or "sgd" with that momentum.
        final_epochs: last epochs, at a tenth of the learning rate.
    """

    data: str = "products:lookbook"
    data_options: dict[str, Any] = dataclasses.field(default_factory=lambda: {"crop": "resize"})
    batch_size: PositiveInt = 128
    epochs: PositiveInt = 30
    final_epochs: int = 5
    steps_per_epoch: PositiveInt | None = 527
    image_size: ImageSize = 64
    input_channels: Channels = 3
    channels: Channels = 3
    width: PositiveInt = 128
    code_size: PositiveInt = 64
    kernel_size: PositiveInt = 5
    variant: Literal["rf_dd", "rf_dd_no_neg", "rf", "mse"] = "rf_dd"
    mse_weight: NonNegativeFloat = 0.0
    optimizer: Literal["adam", "sgd"] = "adam"
    learning_rate: PositiveFloat = 2e-4
    beta_1: Decay = 0.5
    beta_2: Decay = 0.999

    def validate(self) -> None:
        if not num_halvings(self.image_size):
            raise ConfigError(
                f"PixelDTGANConfig.image_size: {self.image_size} cannot be halved to 4 or more pixels. "
                "Use sides such as 16, 28, 32, 48 or 64."
            )
        if not 0 <= self.final_epochs <= self.epochs:
            raise ConfigError(
                f"PixelDTGANConfig.final_epochs: must be from 0 to epochs ({self.epochs}), "
                f"got {self.final_epochs}."
            )

    @property
    def base_size(self) -> tuple[int, int]:
        """(height, width) of the smallest feature map, 4x4 for 64x64 pictures."""
        return tuple(side >> num_halvings(self.image_size) for side in height_width(self.image_size))

    @property
    def level_channels(self) -> list[int]:
        """Channels after each halving."""
        return [self.width << level for level in range(num_halvings(self.image_size))]


@register(
    "pixeldtgan",
    task="translation",
    paper=Paper(
        "Pixel-Level Domain Transfer", "D. Yoo, N. Kim, S. Park, A. S. Paek, I. S. Kweon", 2016, "1603.07442"
    ),
    tiny={
        "image_size": 16, "width": 4, "code_size": 8, "kernel_size": 3, "batch_size": 4, "final_epochs": 0,
        "steps_per_epoch": None,
    },
)  # fmt: skip
class PixelDTGAN(GAN):
    """Converter from `inputs` to `targets`, both (batch, height, width, channels) in [-1, 1].

        model.translate(photographs)               # pictures of what they show
        model.encode(photographs)                  # what they show, as 64 numbers each
        model.association(photographs, pictures)   # whether they belong together, by D_A

    A training batch also has `irrelevant` targets, each of another product than its row's; the variants
    without them take batches that lack them. Logs the losses of D_R (d_loss), of D_A (domain_loss) and of C
    (c_loss), as they are minimised, and the mean squared error to the targets (mse), which C is trained on in
    the variant "mse" and with an `mse_weight` only.
    """

    config_cls = PixelDTGANConfig
    view = "triplets"
    log_names = ("d_loss", "domain_loss", "c_loss", "mse")
    public_name = "converter"

    def build_networks(self, config: PixelDTGANConfig) -> dict[str, keras.Model]:
        networks = {"converter": build_converter(config)}
        if config.variant != "mse":
            networks["discriminator"] = build_discriminator(config)
        if config.variant.startswith("rf_dd"):
            networks["domain_discriminator"] = build_discriminator(config, of_pairs=True)
        return networks

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c, rate = self.config, self.config.learning_rate
        if c.final_epochs:
            first = c.total_steps - c.total_steps * c.final_epochs // c.epochs
            rate = keras.optimizers.schedules.PiecewiseConstantDecay([first], [rate, rate / 10])
        if c.optimizer == "sgd":
            return keras.optimizers.SGD(rate, momentum=c.beta_1)
        return keras.optimizers.Adam(rate, beta_1=c.beta_1, beta_2=c.beta_2, epsilon=1e-8)

    @property
    def batch_spec(self) -> BatchSpec:
        size, c = height_width(self.config.image_size), self.config
        return BatchSpec(
            inputs=image_field(size, c.input_channels),
            targets=image_field(size, c.channels),
            irrelevant=image_field(size, c.channels, optional=c.variant in ("mse", "rf_dd_no_neg")),
        )

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        pictures = {"inputs": (-1.0, 1.0), "outputs": (-1.0, 1.0)}
        notes = {"code": "what the picture shows: near for pictures of the same thing"}
        return {"translate": Endpoint(self.converter, pictures, notes=notes)}

    def example_inputs(
        self, endpoint: Endpoint, count: int, sizes: Mapping[str, tuple[int, int]], seed: int = 0
    ) -> dict[str, Any]:
        own_size = {"inputs": height_width(self.config.image_size)}
        return super().example_inputs(endpoint, count, own_size, seed)

    # ---------------------------------------------------------------- training

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        logs = {}
        with tf.GradientTape() as tape:
            fake, _ = self.converter(batch["inputs"], training=True)
            with tape.stop_recording():
                for player, loss_name in self._judges.items():
                    logs[loss_name] = self._train_judge(player, batch, fake)
            logs["c_loss"], mse = self._converter_loss(batch, fake, training=True)
        self.update("converter", tape, logs["c_loss"])
        return self.log(**self._no_losses, **logs, mse=mse)

    def _train_judge(self, player: str, batch: dict[str, tf.Tensor], fake: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = self._judge_loss(player, batch, fake, training=True)
        self.update(player, tape, loss)
        return loss

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        fake, _ = self.converter(batch["inputs"], training=False)
        logs = {loss: self._judge_loss(p, batch, fake, training=False) for p, loss in self._judges.items()}
        logs["c_loss"], mse = self._converter_loss(batch, fake, training=False)
        return self.log(**self._no_losses, **logs, mse=mse)

    @property
    def _judges(self) -> dict[str, str]:
        """The discriminators of this variant and the names of their losses."""
        both = {"discriminator": "d_loss", "domain_discriminator": "domain_loss"}
        return {player: loss for player, loss in both.items() if player in self.networks}

    @property
    def _no_losses(self) -> dict[str, tf.Tensor]:
        """What is logged for the discriminators that this variant does not have."""
        return {loss: tf.constant(0.0) for loss in {"d_loss", "domain_loss"} - set(self._judges.values())}

    def _judge_loss(
        self, player: str, batch: dict[str, tf.Tensor], fake: tf.Tensor, training: bool
    ) -> tf.Tensor:
        """Mean of the cross-entropies of the kinds of pictures."""
        pictures = {"targets": batch["targets"], "converted": fake}
        if self.config.variant != "rf_dd_no_neg":
            pictures["irrelevant"] = batch["irrelevant"]
        losses = []
        for kind, images in pictures.items():
            logits = self._judge(player, batch["inputs"], images, training)
            losses.append(non_saturating_generator_loss(logits if kind in _RIGHT[player] else -logits))
        return tf.add_n(losses) / len(losses)

    def _converter_loss(
        self, batch: dict[str, tf.Tensor], fake: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What C minimises, and the squared error to the targets."""
        mse = tf.reduce_mean(tf.math.squared_difference(fake, batch["targets"]))
        if self.config.variant == "mse":
            return mse, mse
        logits = [self._judge(player, batch["inputs"], fake, training) for player in self._judges]
        adversarial = tf.add_n([non_saturating_generator_loss(x) for x in logits]) / len(logits)
        return adversarial + self.config.mse_weight * mse, mse

    def _judge(self, player: str, inputs: tf.Tensor, images: tf.Tensor, training: bool) -> tf.Tensor:
        seen = images if player == "discriminator" else {"inputs": inputs, "images": images}
        return getattr(self, player)(seen, training=training)

    # ---------------------------------------------------------------- inference

    def translate(self, images: Any, direction: str = "a_to_b", batch_size: int = 64) -> np.ndarray:
        """Pictures of what photographs show.

        Args:
            images: (batch, height, width, input_channels) in [-1, 1] and of the size of training, or one
                photograph without batch axis.
            direction: only "a_to_b", from inputs to targets.
            batch_size: pictures per call of the network.

        Returns:
            float32 (batch, height, width, channels) in [-1, 1].

        Raises:
            ValueError: for another direction.
            BatchError: for images that do not fit.
        """
        if direction != "a_to_b":
            raise ValueError(
                "pixeldtgan converts inputs to targets only (direction='a_to_b'): what it leaves out of a "
                f"photograph cannot be found again. Got {direction!r}."
            )
        return self._converted(images, batch_size)[0]

    def encode(self, images: Any, batch_size: int = 64) -> np.ndarray:
        """What photographs show, as codes that are near for pictures of the same thing.

        Args and Raises: as for `translate`.

        Returns:
            float32 (batch, code_size).
        """
        return self._converted(images, batch_size)[1]

    def _converted(self, images: Any, batch_size: int) -> list[np.ndarray]:
        return self.run(checked_images(images, self.batch_spec["inputs"]), batch_size)

    def association(self, inputs: Any, targets: Any, batch_size: int = 64) -> np.ndarray:
        """How sure D_A is that each target belongs to its input.

        Args:
            inputs: photographs, as for `translate`.
            targets: as many pictures (batch, height, width, channels) in [-1, 1].
            batch_size: pairs per call of the network.

        Returns:
            float32 (batch,), from 0 to 1.

        Raises:
            ValueError: if this variant has no D_A.
            BatchError: for pictures that do not fit.
        """
        if "domain_discriminator" not in self.networks:
            raise ValueError(f"the variant {self.config.variant!r} has no D_A; those with 'rf_dd' have.")
        pair = {
            "inputs": checked_images(inputs, self.batch_spec["inputs"]),
            "images": checked_images(targets, self.batch_spec["targets"]),
        }
        counts = [len(pictures) for pictures in pair.values()]
        if len(set(counts)) > 1:
            raise BatchError(f"expected as many inputs as targets, got {counts[0]} and {counts[1]}.")
        logits = self.run(pair, batch_size, "domain_discriminator")
        return 0.5 + 0.5 * np.tanh(logits[:, 0] / 2)

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """How near the results are to their targets, and what they tell of products.

        Baselines: the input as it is (_baseline) and the mean of all targets (_mean_baseline).

        Returns:
            rmse: root mean squared error of a picture, in pixel values; ssim: to the target;
            retrieval: results that are nearer to their own product's target than to any other's;
            association: inputs whose own target D_A finds likelier than the irrelevant one; chance is 0.5;
            product_accuracy: inputs whose nearest other input by code is of the same product; its baseline
                goes by pixels. Left out where no product is there twice.
        """
        inputs, targets = examples["inputs"], examples["targets"]
        products = np.asarray(examples.get("products", np.arange(len(targets))))
        outputs, codes = self._converted(inputs, 64)
        compared = {"": outputs, "_mean_baseline": np.broadcast_to(targets.mean(axis=0), targets.shape)}
        if inputs.shape == targets.shape:
            compared["_baseline"] = inputs
        results = {}
        for suffix, images in compared.items():
            results[f"rmse{suffix}"] = float(np.sqrt(np.square(images - targets).mean((1, 2, 3))).mean())
            results[f"ssim{suffix}"] = float(ssim(images, targets, 2.0).mean())
            results[f"retrieval{suffix}"] = retrieval(images, targets, products)
        if "domain_discriminator" in self.networks and "irrelevant" in examples:
            own, other = (self.association(inputs, examples[k]) for k in ("targets", "irrelevant"))
            results["association"] = float((own > other).mean())
        if len(np.unique(products)) < len(products):
            results["product_accuracy"] = neighbours_accuracy(codes, products)
            results["product_accuracy_baseline"] = neighbours_accuracy(inputs, products)
        return results


#: Player -> the kinds of pictures to which it shall say yes; no to the others.
_RIGHT = {"discriminator": ("targets", "irrelevant"), "domain_discriminator": ("targets",)}


def retrieval(images: np.ndarray, targets: np.ndarray, products: np.ndarray) -> float:
    """Part of the pictures whose nearest target, one for each product, is of their own product."""
    known, first = np.unique(products, return_index=True)
    nearest, _ = nearest_neighbours(images, targets[first])
    return float((known[nearest] == products).mean())


# -------------------------------------------------------------------- networks


def build_converter(config: PixelDTGANConfig) -> keras.Model:
    """Inputs (batch, height, width, input_channels) -> [outputs (..., channels) in [-1, 1], code]."""
    x = inputs = keras.Input((*height_width(config.image_size), config.input_channels), name="inputs")
    x = _halved(x, config)
    code = layers.LeakyReLU(0.2)(_norm(config)(_conv(config.code_size, config.base_size)(x)))
    top = config.level_channels[-1]
    x = layers.Conv2DTranspose(top, config.base_size, **_weights())(code)
    x = layers.ReLU()(_norm(config)(x))
    for filters in reversed(config.level_channels[:-1]):
        x = layers.ReLU()(_norm(config)(_up_conv(filters, config)(x)))
    outputs = layers.Activation("tanh", dtype="float32", name="outputs")(_up_conv(config.channels, config)(x))
    code = layers.Reshape((config.code_size,), dtype="float32", name="code")(code)
    return keras.Model(inputs, [outputs, code], name="converter")


def build_discriminator(config: PixelDTGANConfig, of_pairs: bool = False) -> keras.Model:
    """Logits (batch, 1) of images (batch, height, width, channels), D_R, or of {"inputs", "images"}, D_A."""
    size = height_width(config.image_size)
    inputs = keras.Input((*size, config.input_channels), name="inputs")
    images = keras.Input((*size, config.channels), name="images")
    x = _halved(layers.Concatenate()([inputs, images]) if of_pairs else images, config)
    logits = layers.Flatten(dtype="float32", name="logits")(_conv(1, config.base_size, dtype="float32")(x))
    name = "domain_discriminator" if of_pairs else "discriminator"
    return keras.Model({"inputs": inputs, "images": images} if of_pairs else images, logits, name=name)


def _halved(x: Any, config: PixelDTGANConfig) -> Any:
    """The convolutions that encoder and discriminators share in form, down to `base_size`."""
    for level, filters in enumerate(config.level_channels):
        x = _conv(filters, config.kernel_size, strides=2, padding="same")(x)
        x = layers.LeakyReLU(0.2)(_norm(config)(x) if level else x)
    return x


def _conv(filters: int, kernel_size: Any, **kwargs: Any) -> layers.Layer:
    return layers.Conv2D(filters, kernel_size, **_weights(), **kwargs)


def _up_conv(filters: int, config: PixelDTGANConfig) -> layers.Layer:
    return layers.Conv2DTranspose(filters, config.kernel_size, 2, "same", **_weights())


def _weights() -> dict[str, Any]:
    return {"kernel_initializer": keras.initializers.RandomNormal(0.0, 0.02), "use_bias": False}


def _norm(config: PixelDTGANConfig) -> layers.Layer:
    return layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, synchronized=config.sync_batch_norm,
        gamma_initializer=keras.initializers.RandomNormal(1.0, 0.02),
    )  # fmt: skip
