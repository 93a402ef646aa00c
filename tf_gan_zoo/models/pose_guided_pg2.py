"""PG2: the same person in another pose, first roughly, then with the details.

Stage I is a network with skips that gets the person a and 18 heat maps of the pose, and paints all of the
target b at once; stage II gets what came of it, and a, and learns what to ADD:

    I_1 = G_1(a, pose),   G_1 minimises   E mean(|I_1 - b| (1 + M)),
    I_2 = I_1 + G_2(I_1, a),   G_2 minimises   10 E mean(|I_2 - b| (1 + M)) - E log D(I_2),
    D minimises   -1/2 E log D(b) - 1/4 E log(1 - D(I_2)) - 1/4 E log(1 - D(a)).

M is 1 on the body in the target's pose, so that people count twice as much as what is behind them. G_1 alone
is trained first, then it stays as it is while G_2 and D take turns. D(a) counts as a fake, so that copying
the person does not pay.

Heat maps are disks of 4 pixels around the joints, 1 inside and -1 outside; M is all that is as near to one of
23 limbs, small gaps closed.

Reference: L. Ma, X. Jia, Q. Sun, B. Schiele, T. Tuytelaars, L. Van Gool, "Pose Guided Person Image
Generation", NIPS 2017, arXiv:1705.09368, with layers, weights of losses, rates and steps of the authors'
released code for Market-1501 (github.com/charliememory/Pose-Guided-Person-Image-Generation). What D gets is
one batch to its batch normalization. In that code I_1 is part of it, too, and counts in the statistics alone:
`discriminator_input="quartet"`. The code for DeepFashion leaves it out: "triplet". "pair" is the paper's form
of D, which sees (a, b) and (a, I_2) instead of single images.

Choices: all convolutions have a ReLU, but each network's last one; half of the examples are mirrored, drawn
in each step.

Departures: D is updated with the batch of G_2's update and the I_2 made for it, which saves a pass; the code
draws another batch, for which the new G_2 makes I_2. The first weights of G_1 and G_2 are He's, as they have
no normalization (the code has Glorot's), those of D normal (the code's are uniform, of the same deviation).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tf_gan_zoo import bodies
from tf_gan_zoo.batch_spec import BatchError, BatchSpec, Field, checked_images, image_field
from tf_gan_zoo.config import (
    Config,
    ConfigError,
    Decay,
    Halvings,
    ImageSize,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    height_width,
)
from tf_gan_zoo.endpoints import Endpoint
from tf_gan_zoo.gan import GAN
from tf_gan_zoo.losses import non_saturating_generator_loss as positive_loss
from tf_gan_zoo.metrics import ssim
from tf_gan_zoo.metrics.pose_error import JointReader, joint_distance
from tf_gan_zoo.registry import Paper, register

_RANGE = (-1.0, 1.0)
_NUM_JOINTS = len(bodies.JOINTS)


@dataclass(frozen=True, kw_only=True)
class PoseGuidedPG2Config(Config):
    """The model for Market-1501.

    Attributes:
        image_size: (height, width); fixed, for G_1 has dense layers.
        width: h, the channels that those of all maps of G_1 and G_2 are multiples of.
        num_blocks: of G_1 on either side, all but one halve or double; G_2 has two fewer.
        code_size: numbers between G_1's dense layers.
        discriminator_widths: channels of D's convolutions; one more 512 for 256x256.
        full_skip: G_2 has a skip at full size, too (DeepFashion).
        radius: of the disks and around the limbs, in pixels.
        discriminator_input: "quartet", "triplet" or "pair", see the module.
        coarse_steps: steps of stage I.
        coarse_decay: in stage I the learning rate falls to 0 along a cosine (ours, for short runs).
        reconstruction_weight: of G_2's reconstruction; 50 for DeepFashion.
        mask_weight: of the body, beyond the weight 1 of the whole picture.
        flip: mirror half of the examples left to right.
        initial_std: standard deviation of D's first weights; G_1 and G_2 have He's, see `_conv`.
    """

    data: str = "people:market"
    batch_size: PositiveInt = 16
    epochs: PositiveInt = 60
    steps_per_epoch: PositiveInt | None = 1000
    image_size: ImageSize = (128, 64)
    width: PositiveInt = 128
    num_blocks: Halvings = 5
    code_size: PositiveInt = 64
    discriminator_widths: tuple[PositiveInt, ...] = (64, 128, 256, 512)
    full_skip: bool = False
    radius: PositiveFloat = 4.0
    discriminator_input: Literal["quartet", "triplet", "pair"] = "quartet"
    coarse_steps: NonNegativeInt = 22_000
    coarse_decay: bool = False
    reconstruction_weight: NonNegativeFloat = 10.0
    mask_weight: NonNegativeFloat = 1.0
    flip: bool = True
    initial_std: PositiveFloat = 0.02
    learning_rate: PositiveFloat = 2e-5
    beta_1: Decay = 0.5

    def validate(self) -> None:
        if self.num_blocks < 3:
            raise ConfigError(f"PoseGuidedPG2Config.num_blocks: must be 3 or more, got {self.num_blocks}.")
        step = 2 ** max(self.num_blocks - 1, len(self.discriminator_widths))
        if any(side % step for side in height_width(self.image_size)):
            raise ConfigError(
                f"PoseGuidedPG2Config.image_size: {self.image_size} cannot be halved often enough. Use "
                f"multiples of {step}, or fewer num_blocks and discriminator_widths."
            )

    @property
    def size(self) -> tuple[int, int]:
        return height_width(self.image_size)


@register(
    "pose_guided_pg2",
    task="pose",
    paper=Paper(
        "Pose Guided Person Image Generation",
        "L. Ma, X. Jia, Q. Sun, B. Schiele, T. Tuytelaars, L. Van Gool", 2017, "1705.09368",
    ),
    tiny={
        "image_size": (16, 8), "width": 2, "num_blocks": 3, "code_size": 4, "discriminator_widths": (4, 4),
        "radius": 2.0, "coarse_steps": 1, "batch_size": 4, "steps_per_epoch": None,
    },
)  # fmt: skip
class PoseGuidedPG2(GAN):
    """People in other poses; pictures are (batch, height, width, 3) in [-1, 1].

        keypoints = bodies.from_pixels(columns, rows, size)     # (batch, 18, 3), of any pose estimator
        model.transfer(people, keypoints)                       # the people in these poses
        model.stages(people, keypoints)                         # "coarse", "difference" and "refined"

    Keypoints are those of `tf_gan_zoo.bodies`: across and down as parts of width and height, and if visible.

    Logs the masked differences of both stages (coarse_loss, refined_loss), G_2's adversarial term (g_loss)
    and d_loss; in stage I the others are 0.
    """

    config_cls = PoseGuidedPG2Config
    view = "pose_pairs"
    log_names = ("coarse_loss", "refined_loss", "g_loss", "d_loss")

    def build_networks(self, config: PoseGuidedPG2Config) -> dict[str, keras.Model]:
        return {
            "coarse_generator": build_coarse_generator(config),
            "refiner": build_refiner(config),
            "discriminator": build_discriminator(config),
        }

    @property
    def phases(self) -> tuple[tuple[str, int], ...]:
        steps = self.config.coarse_steps
        return (("coarse", 0), ("refinement", steps)) if steps else (("refinement", 0),)

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c, rate = self.config, self.config.learning_rate
        if c.coarse_decay and player == "coarse_generator":
            rate = keras.optimizers.schedules.CosineDecay(rate, max(c.coarse_steps, 1))
        return keras.optimizers.Adam(rate, beta_1=c.beta_1, epsilon=1e-8)

    @property
    def batch_spec(self) -> BatchSpec:
        pictures = image_field(self.config.size, 3)
        return BatchSpec(inputs=pictures, targets=pictures, keypoints=Field((_NUM_JOINTS, 3), (0.0, 1.0)))

    # ---------------------------------------------------------------- training

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        if self.config.flip:
            drawn = self.random_uniform("flip", (tf.shape(batch["inputs"])[0],))
            batch = mirrored_where(drawn < 0.5, batch)
        return self._coarse_step(batch) if self.phase == "coarse" else self._refinement_step(batch)

    def _coarse_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = self._difference(self._coarse(batch, training=True), batch)
        self.update("coarse_generator", tape, loss)
        return self._log(coarse_loss=loss)

    def _refinement_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        coarse = self._coarse(batch, training=False)
        with tf.GradientTape() as tape:
            refined = self._refined(coarse, batch, training=True)
            refined_loss = self._difference(refined, batch)
            g_loss = self._fooling_loss(refined, coarse, batch, training=True)
            total = self.config.reconstruction_weight * refined_loss + g_loss
        self.update("refiner", tape, total)
        with tf.GradientTape() as tape:
            d_loss = self._discriminator_loss(refined, coarse, batch, training=True)
        self.update("discriminator", tape, d_loss)
        coarse_loss = self._difference(coarse, batch)
        return self._log(coarse_loss=coarse_loss, refined_loss=refined_loss, g_loss=g_loss, d_loss=d_loss)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        coarse = self._coarse(batch, training=False)
        coarse_loss = self._difference(coarse, batch)
        if self.phase == "coarse":
            return self._log(coarse_loss=coarse_loss)
        refined = self._refined(coarse, batch, training=False)
        return self._log(
            coarse_loss=coarse_loss,
            refined_loss=self._difference(refined, batch),
            g_loss=self._fooling_loss(refined, coarse, batch, training=False),
            d_loss=self._discriminator_loss(refined, coarse, batch, training=False),
        )

    def _coarse(self, batch: Mapping[str, tf.Tensor], training: bool) -> tf.Tensor:
        inputs = {"inputs": batch["inputs"], "keypoints": batch["keypoints"]}
        return self.coarse_generator(inputs, training=training)

    def _refined(self, coarse: tf.Tensor, batch: Mapping[str, tf.Tensor], training: bool) -> tf.Tensor:
        return coarse + self.refiner({"coarse": coarse, "inputs": batch["inputs"]}, training=training)

    def _difference(self, images: tf.Tensor, batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Mean absolute difference to the targets, the body's weighing more."""
        mask = bodies.pose_mask(batch["keypoints"], self.config.size, self.config.radius)
        weights = 1.0 + self.config.mask_weight * mask
        return tf.reduce_mean(tf.abs(images - batch["targets"]) * weights)

    def _judged(
        self, refined: tf.Tensor, coarse: tf.Tensor, batch: Mapping[str, tf.Tensor], training: bool
    ) -> list[tf.Tensor]:
        """D's logits of the targets, of refined images and, where it sees single images, of the inputs."""
        inputs, groups = batch["inputs"], [batch["targets"], refined]
        if self.config.discriminator_input == "pair":
            groups = [tf.concat([inputs, images], axis=-1) for images in groups]
        else:
            groups.append(inputs)
        unjudged = [coarse] if self.config.discriminator_input == "quartet" else []
        together = tf.concat([*groups, *unjudged], axis=0)
        logits = tf.split(self.discriminator(together, training=training), len(groups) + len(unjudged))
        return logits[: len(groups)]

    def _fooling_loss(
        self, refined: tf.Tensor, coarse: tf.Tensor, batch: Mapping[str, tf.Tensor], training: bool
    ) -> tf.Tensor:
        return positive_loss(self._judged(refined, coarse, batch, training)[1])

    def _discriminator_loss(
        self, refined: tf.Tensor, coarse: tf.Tensor, batch: Mapping[str, tf.Tensor], training: bool
    ) -> tf.Tensor:
        real, *fakes = self._judged(refined, coarse, batch, training)
        negative = tf.add_n([positive_loss(-logits) for logits in fakes]) / len(fakes)
        return 0.5 * positive_loss(real) + 0.5 * negative

    def _log(self, **scalars: tf.Tensor) -> dict[str, tf.Tensor]:
        return self.log(**{**dict.fromkeys(self.log_names, 0.0), **scalars})

    # ---------------------------------------------------------------- inference

    def transfer(self, images: Any, keypoints: Any, batch_size: int = 64) -> np.ndarray:
        """People in other poses.

        Args:
            images: (count, height, width, 3) in [-1, 1] and of the size of training, or one picture.
            keypoints: the poses, (count, 18, 3) or (18, 3) for all of them, see `tf_gan_zoo.bodies`.
            batch_size: pictures per call of the network.

        Returns:
            float32 (count, height, width, 3) in [-1, 1].

        Raises:
            BatchError: if pictures or keypoints do not fit.
        """
        return self.stages(images, keypoints, batch_size)["refined"]

    def stages(self, images: Any, keypoints: Any, batch_size: int = 64) -> dict[str, np.ndarray]:
        """What comes of each stage, arguments as of `transfer`.

        Returns:
            "coarse" and "refined", in [-1, 1], and "difference", what stage II adds before they are cut off.
        """
        images = checked_images(images, self.batch_spec["inputs"])
        inputs = {"inputs": images, "keypoints": self._checked_keypoints(keypoints, len(images))}
        refined, coarse = self.run(inputs, batch_size)
        clipped = {name: np.clip(x, *_RANGE) for name, x in (("coarse", coarse), ("refined", refined))}
        return {**clipped, "difference": refined - coarse}

    def _checked_keypoints(self, keypoints: Any, count: int) -> np.ndarray:
        keypoints = np.asarray(keypoints, "float32")
        if keypoints.ndim == 2:
            keypoints = np.broadcast_to(keypoints, (count, *keypoints.shape))
        BatchSpec(keypoints=self.batch_spec["keypoints"]).check_values({"keypoints": keypoints})
        if len(keypoints) != count:
            raise BatchError(f"expected one pose or {count}, as many as pictures, got {len(keypoints)}.")
        return keypoints

    @functools.cached_property
    def transfer_network(self) -> keras.Model:
        """Inputs and keypoints -> refined and coarse pictures: both stages as one network."""
        inputs = keras.Input((*self.config.size, 3), name="inputs")
        keypoints = keras.Input((_NUM_JOINTS, 3), name="keypoints")
        coarse = self.coarse_generator({"inputs": inputs, "keypoints": keypoints})
        refined = layers.Add(dtype="float32", name="outputs")(
            [coarse, self.refiner({"coarse": coarse, "inputs": inputs})]
        )
        coarse = layers.Activation("linear", dtype="float32", name="coarse_outputs")(coarse)
        return keras.Model(
            {"inputs": inputs, "keypoints": keypoints}, [refined, coarse], name="transfer_network"
        )

    def public_network(self) -> keras.Model:
        return self.transfer_network

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        joints = "18 joints: across and down as parts of width and height, 1 if visible, else 0; in order "
        return {
            "transfer": Endpoint(
                self.transfer_network,
                {"inputs": _RANGE, "outputs": _RANGE, "coarse_outputs": _RANGE},
                clip=True,
                notes={"keypoints": joints + ", ".join(bodies.JOINTS)},
            )
        }

    def example_inputs(
        self, endpoint: Endpoint, count: int, sizes: Mapping[str, tuple[int, int]], seed: int = 0
    ) -> dict[str, Any]:
        inputs = super().example_inputs(endpoint, count, {"inputs": self.config.size}, seed)
        places = np.random.default_rng(seed).uniform(0.1, 0.9, (count, _NUM_JOINTS, 2))
        visible = np.ones((count, _NUM_JOINTS, 1))
        return {**inputs, "keypoints": np.concatenate([places, visible], axis=-1).astype("float32")}

    def comparison(self, examples: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Held-out people, the poses, what comes of both stages, and the truth, by column title."""
        made = self.stages(examples["inputs"], examples["keypoints"])
        keypoints = tf.convert_to_tensor(examples["keypoints"], tf.float32)
        maps = bodies.pose_maps(keypoints, self.config.size, self.config.radius)
        pose = np.repeat(tf.reduce_max(maps, axis=-1, keepdims=True).numpy(), 3, axis=-1)
        return {
            "person": examples["inputs"], "pose": pose, "coarse": made["coarse"], "refined": made["refined"],
            "truth": examples["targets"],
        }  # fmt: skip

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """How near held-out people are to their targets, and how well they keep to the poses.

        Baselines: the input as it is (_baseline) and the mean target (_mean_baseline); "_coarse" is stage I
        alone. Joints are read off pictures by a `JointReader` that is fitted to the targets of the first
        half; pose errors are of the second half.

        Returns:
            ssim: to the target;
            mask_ssim: of both pictures with all but the body in the target's pose black;
            pose_error: distance of joints from where they should be, in pixels; pose_error_data is that of
                the targets themselves, the reader's own error.
        """
        inputs, targets, keypoints = (np.asarray(examples[n]) for n in ("inputs", "targets", "keypoints"))
        size, made = self.config.size, self.stages(inputs, keypoints)
        mask = bodies.pose_mask(tf.convert_to_tensor(keypoints), size, self.config.radius).numpy()
        compared = {
            "": made["refined"], "_coarse": made["coarse"], "_baseline": inputs,
            "_mean_baseline": np.broadcast_to(targets.mean(axis=0), targets.shape),
        }  # fmt: skip
        results = {}
        for suffix, images in compared.items():
            results[f"ssim{suffix}"] = float(ssim(images, targets, 2.0).mean())
            black = [mask * (x + 1) - 1 for x in (images, targets)]
            results[f"mask_ssim{suffix}"] = float(ssim(*black, 2.0).mean())
        half = len(targets) // 2
        if half:
            reader = JointReader(targets[:half], keypoints[:half])
            for suffix, images in (compared | {"_data": targets}).items():
                error = joint_distance(reader(images[half:]), keypoints[half:], size)
                results[f"pose_error{suffix}"] = error
        return results


def mirrored_where(chosen: tf.Tensor, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """The batch with the chosen examples (batch,) mirrored left to right, poses and all."""
    results = {}
    for name, values in batch.items():
        other = bodies.mirrored(values) if name == "keypoints" else tf.reverse(values, [2])
        results[name] = tf.where(tf.reshape(chosen, (-1, *[1] * (values.shape.rank - 1))), other, values)
    return results


# -------------------------------------------------------------------- networks


@keras.saving.register_keras_serializable("tf_gan_zoo")
class PoseMaps(layers.Layer):
    """Keypoints (batch, 18, 3) -> heat maps (batch, height, width, 18), -1 or 1.

    Args:
        size: (height, width) in pixels.
        radius: of the disks in pixels.
    """

    def __init__(self, size: tuple[int, int], radius: float, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})  # places would be rounded in float16
        self.size, self.radius = tuple(size), radius

    def call(self, keypoints: tf.Tensor) -> tf.Tensor:
        return bodies.pose_maps(keypoints, self.size, self.radius)

    def compute_output_spec(self, keypoints: keras.KerasTensor) -> keras.KerasTensor:
        return keras.KerasTensor((keypoints.shape[0], *self.size, _NUM_JOINTS), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size, "radius": self.radius}


def build_coarse_generator(config: PoseGuidedPG2Config) -> keras.Model:
    """G_1: inputs and keypoints -> coarse pictures (batch, height, width, 3), not bounded."""
    inputs = keras.Input((*config.size, 3), name="inputs")
    keypoints = keras.Input((_NUM_JOINTS, 3), name="keypoints")
    maps = PoseMaps(config.size, config.radius)(keypoints)
    x, skips = _conv(config.width)(layers.Concatenate()([inputs, maps])), []
    for block in range(1, config.num_blocks + 1):
        x = _residual(x)
        skips.append(x)
        if block < config.num_blocks:
            x = _conv((block + 1) * config.width, strides=2)(x)
    x = _through_code(x, config)
    for block in reversed(range(1, config.num_blocks + 1)):
        x = _residual(layers.Concatenate()([x, skips.pop()]))
        if block > 1:
            x = _conv((block - 1) * config.width, kernel_size=1)(layers.UpSampling2D()(x))
    coarse = _last_conv(x, "coarse")
    return keras.Model({"inputs": inputs, "keypoints": keypoints}, coarse, name="coarse_generator")


def _residual(x: keras.KerasTensor) -> keras.KerasTensor:
    """x plus two convolutions of it, of as many channels."""
    y = _conv(x.shape[-1])(_conv(x.shape[-1])(x))
    return layers.Add()([x, y])


def _through_code(x: keras.KerasTensor, config: PoseGuidedPG2Config) -> keras.KerasTensor:
    """The smallest map through a code of a few numbers, in which the whole figure is at hand."""
    height, width = x.shape[1:3]
    code = layers.Dense(config.code_size)(layers.Flatten()(x))
    return layers.Reshape((height, width, config.width))(layers.Dense(height * width * config.width)(code))


def build_refiner(config: PoseGuidedPG2Config) -> keras.Model:
    """G_2: coarse pictures and inputs -> what to add, (batch, height, width, 3)."""
    coarse, inputs = (keras.Input((*config.size, 3), name=name) for name in ("coarse", "inputs"))
    x, skips = _conv(config.width)(layers.Concatenate()([coarse, inputs])), []
    num_blocks = config.num_blocks - 2
    for block in range(1, num_blocks + 1):
        x = _conv(block * config.width)(_conv(block * config.width)(x))
        skips.append(x)
        if block < num_blocks:
            x = _conv(block * config.width, strides=2)(x)
    for block in reversed(range(1, num_blocks + 1)):
        if block > 1 or config.full_skip:
            x = layers.Concatenate()([x, skips[block - 1]])
        x = _conv(config.width)(_conv(config.width)(x))
        x = layers.UpSampling2D()(x) if block > 1 else x
    return keras.Model({"coarse": coarse, "inputs": inputs}, _last_conv(x, "difference"), name="refiner")


def build_discriminator(config: PoseGuidedPG2Config) -> keras.Model:
    """Images (batch, height, width, 3, or 6 in the form "pair") -> logits (batch, 1)."""
    channels = 6 if config.discriminator_input == "pair" else 3
    x = images = keras.Input((*config.size, channels), name="images")
    for level, filters in enumerate(config.discriminator_widths):
        x = layers.Conv2D(filters, 5, 2, padding="same", kernel_initializer=_normal(config))(x)
        if level:
            x = layers.BatchNormalization(
                momentum=0.9, epsilon=1e-5, synchronized=config.sync_batch_norm
            )(x)  # fmt: skip
        x = layers.LeakyReLU(0.2)(x)
    dense = layers.Dense(1, kernel_initializer=_normal(config), dtype="float32", name="logits")
    return keras.Model(images, dense(layers.Flatten()(x)), name="discriminator")


def _normal(config: PoseGuidedPG2Config) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=config.initial_std)


def _conv(filters: int, kernel_size: int = 3, strides: int = 1) -> layers.Layer:
    """He's weights: there is no normalization to make up for small ones."""
    return layers.Conv2D(
        filters, kernel_size, strides, padding="same", activation="relu", kernel_initializer="he_normal"
    )


def _last_conv(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    x = layers.Conv2D(3, 3, padding="same")(x)
    return layers.Activation("linear", dtype="float32", name=name)(x)
