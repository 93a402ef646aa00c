"""Crossing Nets: a hand's pose from a depth map, and a depth map of a pose, through one shared code.

A small variational autoencoder gives each pose y a code of 20 numbers, to which the position of one joint is
added: z, 23 numbers. A linear layer A aligns z with the noise of a GAN of depth maps, so that G(A(z)) is what
a camera sees of the pose; D, besides telling real from made, has two heads: P estimates the code of a depth
map, M its place relative to other codes. The pose of a depth map x is the decoder's of P(x).

    D, P, M minimise  -E log D(x) - E log(1 - D(x'))  +  L_post + L_smooth,
    G, A minimise     mean |E f(x) - E f(x')|  +  L_recons + L_smooth,

    L_recons = E min((x - G(A(z)))^2, 1),        L_post = E (P(x) - z)^2,
    L_smooth = E ((z - m) - (M(x) - M(G(A(m)))))^2 + (M(x) - M(G(A(z))))^2,

x' all of G(A(z)) and G(A(m)), m convex mixes of five codes of the batch, f the last map of D; squares are
means over pixels or numbers. Poses are needed for z alone: depth maps without one (`labelled` 0) enter D's
first two terms and f(x), the mixes take the place of their codes, and all else leaves them out.

Four phases in one `fit`: "vae" (1/2 |y - y'|^2 + KL, with noise of 0.05 instead of 1 on the codes), "depth"
(G and D alone, noise uniform on [-1, 1]), "link" (A by L_recons; P and M by L_post + L_smooth), "joint" (all
of the above; the autoencoder stays as it is). Poses are in units of 50 mm, relative to the joint whose
position is in z.

Reference: C. Wan, T. Probst, L. Van Gool, A. Yao, "Crossing Nets: Combining GANs and VAEs with a Shared
Latent Space for Hand Pose Estimation", CVPR 2017, arXiv:1702.03431. Layers, losses, rates and epochs are
those of the authors' released code (github.com/melonwan/crossingNet): 201 epochs of "vae", 1,001 of "depth",
21 of "link" and 80 of "joint". Its batch norm, Lasagne's, stands between a layer and its nonlinearity; G
begins with a tanh, for noise and codes alike. P is the one it has for the ICVL and MSRA data; the larger one
that it mentions for the NYU data is not in it.

Choices: samples are drawn from a normal distribution with the mean and deviation that each number of z had in
the first phase, as codes with noise of 0.05 are far from a standard normal one.

Departures: one batch size, 200, where "depth" has 100, so its 1,001 epochs are half as many steps here; the
autoencoder's rate falls with every step, not every epoch; Adam goes on from one phase to the next; in "link"
the heads' update takes the depth maps of A's; all that D or G gets in a step is one batch, where the code
normalizes real, rendered and mixed depth maps apart, so that poses are estimated with training's statistics.
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

from tf_gan_zoo import losses as adversarial
from tf_gan_zoo import replicas, skeletons
from tf_gan_zoo.batch_spec import BatchSpec, Field, checked_images, image_field
from tf_gan_zoo.config import (
    Config,
    ConfigError,
    Decay,
    ImageSize,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    height_width,
)
from tf_gan_zoo.encoding import kl_to_standard_normal, normal_sample
from tf_gan_zoo.endpoints import Endpoint
from tf_gan_zoo.gan import AdversarialGAN
from tf_gan_zoo.layers import RunningNormal
from tf_gan_zoo.registry import Paper, register

_NYU_STEPS = 363  # batches of 200 in 72,757 frames


@dataclass(frozen=True, kw_only=True)
class CrossingNetsConfig(Config):
    """The released code's setting for the NYU data.

    Attributes:
        num_joints: joints of a pose.
        center_joint: the one whose position is part of z.
        evaluated_joints: those that errors are of; None for all.
        pose_unit: millimetres that are 1 for the networks.
        code_size: numbers in a pose's code.
        hidden_size: units of the autoencoder's hidden layers; their first weights are principal components.
        noise_std: standard deviation of the noise on codes, in units of the encoder's own.
        width: channels of all convolutions.
        dense_size: units of G's and M's dense layers; P's has as many as z has numbers.
        num_mixed: codes in a mix.
        error_limit: squared differences in L_recons are cut off here.
        reconstruction_weight, posterior_weight: of L_recons and L_post in the joint phase.
        vae_steps, depth_steps, link_steps: steps of the first three phases.
        vae_learning_rate, depth_learning_rate, link_learning_rate, joint_learning_rate: rates by phase; the
            first falls by a twentieth in 10,000 steps.
    """

    data: str = "hand_depth:nyu"
    batch_size: PositiveInt = 200
    epochs: PositiveInt = 1303
    steps_per_epoch: PositiveInt | None = _NYU_STEPS
    image_size: ImageSize = 128
    num_joints: PositiveInt = 36
    center_joint: NonNegativeInt = 32
    evaluated_joints: tuple[NonNegativeInt, ...] | None = (
        0, 3, 6, 9, 12, 15, 18, 21, 24, 25, 27, 30, 31, 32,
    )  # fmt: skip
    pose_unit: PositiveFloat = 50.0
    code_size: PositiveInt = 20
    hidden_size: PositiveInt = 40
    noise_std: NonNegativeFloat = 0.05
    width: PositiveInt = 32
    dense_size: PositiveInt = 512
    num_mixed: PositiveInt = 5
    error_limit: PositiveFloat = 1.0
    reconstruction_weight: NonNegativeFloat = 1.0
    posterior_weight: NonNegativeFloat = 1.0
    vae_steps: NonNegativeInt = 201 * _NYU_STEPS
    depth_steps: NonNegativeInt = 1001 * _NYU_STEPS
    link_steps: NonNegativeInt = 21 * _NYU_STEPS
    vae_learning_rate: PositiveFloat = 3e-4
    depth_learning_rate: PositiveFloat = 3e-4
    link_learning_rate: PositiveFloat = 1e-2
    joint_learning_rate: PositiveFloat = 1e-3
    beta_1: Decay = 0.5
    latent_distribution: Literal["normal"] = "normal"

    def validate(self) -> None:
        sides = height_width(self.image_size)
        if sides[0] != sides[1] or sides[0] not in (16, 32, 64, 128, 256):
            raise ConfigError(
                f"CrossingNetsConfig.image_size: expected 16, 32, 64, 128 or 256, got {self.image_size}."
            )
        if self.dense_size % 16:
            raise ConfigError(
                f"CrossingNetsConfig.dense_size: expected a multiple of 16, which is G's map of 4x4, got "
                f"{self.dense_size}."
            )
        if max(self.center_joint, *self.joints_to_evaluate) >= self.num_joints:
            raise ConfigError(
                f"CrossingNetsConfig: center_joint {self.center_joint} and evaluated_joints "
                f"{self.evaluated_joints} must be below num_joints, {self.num_joints}."
            )

    @property
    def latent_size(self) -> int:
        """Numbers in z: a code and a position."""
        return self.code_size + 3

    @property
    def num_halvings(self) -> int:
        """From a depth map to D's last map of 4x4."""
        return (height_width(self.image_size)[0] // 4).bit_length() - 1

    @property
    def joints_to_evaluate(self) -> list[int]:
        return list(self.evaluated_joints or range(self.num_joints))


@register(
    "crossing_nets",
    task="pose",
    paper=Paper(
        "Crossing Nets: Combining GANs and VAEs with a Shared Latent Space for Hand Pose Estimation",
        "C. Wan, T. Probst, L. Van Gool, A. Yao", 2017, "1702.03431",
    ),
    tiny={
        "image_size": 16, "num_joints": 3, "center_joint": 1, "evaluated_joints": None, "code_size": 2,
        "hidden_size": 4, "width": 2, "dense_size": 16, "num_mixed": 2, "vae_steps": 1, "depth_steps": 0,
        "link_steps": 0, "batch_size": 4,
    },
)  # fmt: skip
class CrossingNets(AdversarialGAN):
    """Poses of hands; depth maps are (batch, size, size, 1) in [-1, 1], joints (batch, num_joints, 3) in mm.

        joints = model.estimate_pose(images)        # (count, num_joints, 3), from the cube's centre
        images = model.render(joints)               # what a camera would see
        joints, images = model.generate_pairs(8)    # hands of nobody with their poses
        joints, images = model.interpolate(joints[0], joints[1], 10)

    `tf_gan_zoo.data.hand_depth` says what depth maps and joints mean. Logs the autoencoder's loss, D's, G's
    feature matching (g_loss) and the three terms above; what a phase does not have is 0.
    """

    config_cls = CrossingNetsConfig
    view = "hands"
    log_names = (
        "vae_loss", "d_loss", "g_loss", "reconstruction_loss", "posterior_loss", "smoothness_loss",
    )  # fmt: skip

    def build_networks(self, config: CrossingNetsConfig) -> dict[str, keras.Model]:
        return {
            "pose_encoder": build_pose_encoder(config),
            "pose_decoder": build_pose_decoder(config),
            "prior": build_prior(config),
            "alignment": build_alignment(config),
            "generator": build_generator(config),
            "discriminator": build_discriminator(config),
            "posterior": build_head(config, config.latent_size, "posterior"),
            "metric": build_head(config, config.dense_size, "metric"),
        }

    @property
    def players(self) -> dict[str, tuple[str, ...]]:
        return {
            "vae": ("pose_encoder", "pose_decoder"),
            "alignment": ("alignment",),
            "generator": ("generator",),
            "discriminator": ("discriminator",),
            "heads": ("posterior", "metric"),
        }

    @property
    def phases(self) -> tuple[tuple[str, int], ...]:
        c, phases, first = self.config, [], 0
        for name, steps in (("vae", c.vae_steps), ("depth", c.depth_steps), ("link", c.link_steps)):
            phases += [(name, first)] if steps else []
            first += steps
        return (*phases, ("joint", first))

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c, schedules = self.config, keras.optimizers.schedules
        before = {
            "generator": (c.depth_steps, c.depth_learning_rate),
            "discriminator": (c.depth_steps, c.depth_learning_rate),
            "alignment": (c.link_steps, c.link_learning_rate),
            "heads": (c.link_steps, c.link_learning_rate),
        }
        if player == "vae":
            rate = schedules.ExponentialDecay(c.vae_learning_rate, 10_000, 0.95)
        elif not before[player][0]:
            rate = c.joint_learning_rate
        else:  # the rate counts the player's own updates; one at step n - 1 is the last of n
            steps, first = before[player]
            rate = schedules.PiecewiseConstantDecay([steps - 1], [first, c.joint_learning_rate])
        return keras.optimizers.Adam(rate, beta_1=c.beta_1, epsilon=1e-8)

    @property
    def batch_spec(self) -> BatchSpec:
        c = self.config
        return BatchSpec(
            images=image_field(height_width(c.image_size), 1),
            joints=Field((c.num_joints, 3), (-500.0, 500.0)),
            labelled=Field((), dtype="int32", optional=True),
        )

    def before_first_step(self, dataset: tf.data.Dataset) -> None:
        """Principal components of poses become the autoencoder's outer weights."""
        batches = [self.named(batch) for batch in dataset.take(20)]
        poses = [self._parted(b["joints"])[0].numpy()[self._known(b).numpy()] for b in batches]
        poses = np.concatenate(poses)
        if not self.config.vae_steps or len(poses) < 2:
            return
        components = np.linalg.svd(poses - poses.mean(axis=0), full_matrices=False)[2]
        outer = self.pose_encoder.get_layer("hidden").kernel, self.pose_decoder.get_layer("poses").kernel
        count = min(len(components), self.config.hidden_size)
        for kernel, axis in zip(outer, (1, 0)):
            values = np.moveaxis(np.array(kernel), axis, 0)
            values[:count] = components[:count]
            kernel.assign(np.moveaxis(values, 0, axis))

    # ---------------------------------------------------------------- codes

    def _parted(self, joints: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Millimetres -> poses (batch, 3 * num_joints) and positions (batch, 3), in the networks' unit."""
        scaled = tf.cast(joints, tf.float32) / self.config.pose_unit
        origins = scaled[:, self.config.center_joint]
        return tf.reshape(scaled - origins[:, None], (-1, 3 * self.config.num_joints)), origins

    def _known(self, batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Which examples have joints, booleans (batch,): those with `labelled` other than 0, or all."""
        if "labelled" in batch:
            return tf.not_equal(batch["labelled"], 0)
        return tf.fill(tf.shape(batch["images"])[:1], True)

    def _encoded(
        self, purpose: str, batch: Mapping[str, tf.Tensor], training: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tuple[tf.Tensor, tf.Tensor]]:
        """z (batch, latent_size), the poses, and mean and log variance of the codes."""
        poses, origins = self._parted(batch["joints"])
        means, log_variances = self.pose_encoder(poses, training=training)
        noise = self.config.noise_std * self.random_normal(
            purpose, (tf.shape(poses)[0], self.config.code_size)
        )
        codes = normal_sample(means, log_variances, noise)
        return tf.concat([codes, origins], axis=1), poses, (means, log_variances)

    def _codes(self, batch: Mapping[str, tf.Tensor], training: bool) -> tf.Tensor:
        """z of the batch, and below it as many mixes: (2 * batch, latent_size).

        A mix stands in for the z of an example without joints.
        """
        known = self._known(batch)
        own = self._encoded("codes", batch, training=False)[0]
        mixed = self._mixes("mixes", own, known)
        own = tf.where(known[:, None], own, self._mixes("in place of unknown", own, known))
        return tf.concat([own, mixed], axis=0)

    def _mixes(self, purpose: str, latents: tf.Tensor, known: tf.Tensor) -> tf.Tensor:
        """Convex combinations of a few of the global batch's z, (batch, latent_size)."""
        everything, known = replicas.gather(latents), replicas.gather(tf.cast(known, tf.float32))
        shape = (tf.shape(latents)[0], tf.shape(everything)[0])
        keys = known + self.random_uniform(f"which of {purpose}", shape)
        least = tf.math.top_k(keys, tf.minimum(self.config.num_mixed, shape[1])).values[:, -1:]
        weights = self.random_uniform(f"shares of {purpose}", shape)
        weights *= known * tf.cast(keys >= least, tf.float32)
        return tf.math.divide_no_nan(weights, tf.reduce_sum(weights, axis=1, keepdims=True)) @ everything

    # ---------------------------------------------------------------- training

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        steps = {"vae": self._vae_step, "depth": self._depth_step, "link": self._link_step}
        return self._log(**steps.get(self.phase, self._joint_step)(batch))

    def _vae_step(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            loss, latents = self._vae_loss("codes", batch, training=True)
        self.update("vae", tape, loss)
        self.prior.get_layer("prior").follow(latents, self._known(batch))
        return {"vae_loss": loss}

    def _vae_loss(
        self, purpose: str, batch: Mapping[str, tf.Tensor], training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """1/2 |y - y'|^2 + KL, a mean over poses; and z."""
        latents, poses, moments = self._encoded(purpose, batch, training)
        decoded = self.pose_decoder(latents[:, : self.config.code_size], training=training)
        squares = 0.5 * tf.reduce_sum(tf.math.squared_difference(decoded, poses), axis=1)
        return replicas.masked_mean(squares + kl_to_standard_normal(*moments), self._known(batch)), latents

    def _depth_step(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        shape = (tf.shape(batch["images"])[0], self.config.latent_size)
        with tf.GradientTape() as tape:
            fakes = self.generator(self.random_uniform("noise", shape, -1.0, 1.0), training=True)
            with tape.stop_recording():
                d_loss = self._discriminate(batch["images"], fakes)
            real, fake = self._judged(batch["images"], fakes, training=True)
            g_loss = feature_difference(real["features"], fake["features"])
        self.update("generator", tape, g_loss)
        return {"d_loss": d_loss, "g_loss": g_loss}

    def _discriminate(self, images: tf.Tensor, fakes: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            real, fake = self._judged(images, fakes, training=True)
            loss = adversarial.non_saturating_discriminator_loss(real["logits"], fake["logits"])
        self.update("discriminator", tape, loss)
        return loss

    def _link_step(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        codes = self._codes(batch, training=True)
        with tf.GradientTape() as tape:
            fakes = self._rendered(codes, training=True)
            reconstruction = self._reconstruction_loss(batch, fakes)
        self.update("alignment", tape, reconstruction)
        with tf.GradientTape() as tape:
            losses = self._terms(batch, codes, fakes, training=True)
            loss = losses["posterior_loss"] + losses["smoothness_loss"]
        self.update("heads", tape, loss)
        chosen = ("posterior_loss", "smoothness_loss")
        return {"reconstruction_loss": reconstruction, **{name: losses[name] for name in chosen}}

    def _joint_step(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        codes = self._codes(batch, training=True)
        with tf.GradientTape(persistent=True) as tape:
            fakes = self._rendered(codes, training=True)
            with tape.stop_recording():
                logged = self._discriminate_and_estimate(batch, codes, fakes)
            terms = self._terms(batch, codes, fakes, training=True)
            reconstruction = self._reconstruction_loss(batch, fakes)
            loss = terms["g_loss"] + terms["smoothness_loss"]
            loss += self.config.reconstruction_weight * reconstruction
        self.update("generator", tape, loss)
        self.update("alignment", tape, loss)
        return {**logged, "g_loss": terms["g_loss"], "reconstruction_loss": reconstruction}

    def _discriminate_and_estimate(
        self, batch: Mapping[str, tf.Tensor], codes: tf.Tensor, fakes: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        with tf.GradientTape(persistent=True) as tape:
            losses = self._terms(batch, codes, fakes, training=True)
            loss = losses["d_loss"] + losses["smoothness_loss"]
            loss += self.config.posterior_weight * losses["posterior_loss"]
        self.update("discriminator", tape, loss)
        self.update("heads", tape, loss)
        return losses

    def _terms(
        self, batch: Mapping[str, tf.Tensor], codes: tf.Tensor, fakes: tf.Tensor, training: bool
    ) -> dict[str, tf.Tensor]:
        """All terms that D's trunk and heads take part in, before weighting (all weights are 1)."""
        known = self._known(batch)
        real, fake = self._judged(batch["images"], fakes, training)
        own, mixed = tf.split(codes, 2)
        estimated = self.posterior(real["maps"], training=training)
        places = self.metric(tf.concat([real["maps"], fake["maps"]], axis=0), training=training)
        places, fake_places = tf.split(places, [tf.shape(own)[0], tf.shape(codes)[0]])
        return {
            "d_loss": adversarial.non_saturating_discriminator_loss(real["logits"], fake["logits"]),
            "g_loss": feature_difference(real["features"], fake["features"]),
            "posterior_loss": replicas.masked_mean(mean_square(estimated - own), known),
            "smoothness_loss": replicas.masked_mean(smoothness(own, mixed, places, fake_places), known),
        }

    def _judged(
        self, images: tf.Tensor, fakes: tf.Tensor, training: bool
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """D's outputs for both, which it gets as one batch."""
        outputs = self.discriminator(tf.concat([images, fakes], axis=0), training=training)
        sizes = [tf.shape(images)[0], tf.shape(fakes)[0]]
        parts = zip(*(tf.split(output, sizes) for output in outputs))
        real, fake = (dict(zip(("logits", "features", "maps"), part)) for part in parts)
        return real, fake

    def _rendered(self, codes: tf.Tensor, training: bool) -> tf.Tensor:
        """G(A(z))."""
        return self.generator(self.alignment(codes, training=training), training=training)

    def _reconstruction_loss(self, batch: Mapping[str, tf.Tensor], fakes: tf.Tensor) -> tf.Tensor:
        errors = clipped_error(batch["images"], tf.split(fakes, 2)[0], self.config.error_limit)
        return replicas.masked_mean(errors, self._known(batch))

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        codes = self._codes(batch, training=False)
        fakes = self._rendered(codes, training=False)
        terms = self._terms(batch, codes, fakes, training=False)
        vae_loss, _ = self._vae_loss("validation", batch, training=False)
        reconstruction = self._reconstruction_loss(batch, fakes)
        return self._log(vae_loss=vae_loss, reconstruction_loss=reconstruction, **terms)

    def _log(self, **scalars: tf.Tensor) -> dict[str, tf.Tensor]:
        return self.log(**{**dict.fromkeys(self.log_names, 0.0), **scalars})

    # ---------------------------------------------------------------- inference

    def estimate_pose(self, images: Any, batch_size: int = 64) -> np.ndarray:
        """The poses of hands.

        Args:
            images: depth maps (count, size, size, 1) in [-1, 1], or one without the first axis.
            batch_size: depth maps per call of the network.

        Returns:
            float32 (count, num_joints, 3), millimetres from the cubes' centres.

        Raises:
            BatchError: if the depth maps do not fit.
        """
        images = checked_images(images, self.batch_spec["images"])
        return np.asarray(self.run(images, batch_size, "estimator"))

    def render(self, joints: Any, batch_size: int = 64) -> np.ndarray:
        """Depth maps of poses, float32 (count, size, size, 1) in [-1, 1].

        Args:
            joints: (count, num_joints, 3) in millimetres, or one pose without the first axis.
            batch_size: poses per call of the network.

        Raises:
            BatchError: if the joints do not fit.
        """
        return np.asarray(self.run(self._checked_joints(joints), batch_size, "renderer"))

    def _checked_joints(self, joints: Any) -> np.ndarray:
        joints = np.asarray(joints, "float32")
        joints = joints[None] if joints.ndim == 2 else joints
        BatchSpec(joints=self.batch_spec["joints"]).check_values({"joints": joints})
        return joints

    def generate_pairs(self, num_samples: int = 1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Drawn poses, as joints in millimetres, and their depth maps, which are those of `generate`."""
        joints = self.run(np.asarray(self.sample_inputs(num_samples, seed)), 64, "pose_sampler")
        return np.asarray(joints), self.generate(num_samples, seed)

    def interpolate(self, start: Any, end: Any, steps: int = 8) -> tuple[np.ndarray, np.ndarray]:
        """Poses on the way from one (num_joints, 3) to another through the shared code, and depth maps.

        Returns:
            float32 (steps, num_joints, 3) in millimetres and (steps, size, size, 1).

        Raises:
            BatchError: if the joints do not fit.
        """
        first, last = self.run(self._checked_joints(np.stack([start, end])), 64, "pose_coder")
        codes = first + np.linspace(0, 1, steps, dtype="float32")[:, None] * (last - first)
        return np.asarray(self.run(codes, 64, "decoder")), np.asarray(self.run(codes, 64, "code_renderer"))

    def public_network(self) -> keras.Model:
        """The sampler: standard normal numbers (batch, latent_size) -> depth maps."""
        return self.sampler

    @functools.cached_property
    def pose_coder(self) -> keras.Model:
        """Joints in millimetres (batch, num_joints, 3) -> z, without noise."""
        c, joints = self.config, keras.Input((self.config.num_joints, 3), name="joints")
        scaled = layers.Rescaling(1.0 / c.pose_unit)(joints)
        origins = scaled[:, c.center_joint : c.center_joint + 1]
        poses = layers.Reshape((3 * c.num_joints,))(scaled - origins)
        codes = [self.pose_encoder(poses)[0], layers.Reshape((3,))(origins)]
        return keras.Model(joints, layers.Concatenate()(codes), name="pose_coder")

    @functools.cached_property
    def decoder(self) -> keras.Model:
        """z -> joints in millimetres."""
        c, codes = self.config, keras.Input((self.config.latent_size,), name="codes")
        poses = layers.Reshape((c.num_joints, 3))(self.pose_decoder(codes[:, : c.code_size]))
        joints = poses + layers.Reshape((1, 3))(codes[:, c.code_size :])
        return keras.Model(codes, layers.Rescaling(c.pose_unit)(joints), name="decoder")

    @functools.cached_property
    def code_renderer(self) -> keras.Model:
        """z -> depth maps."""
        codes = keras.Input((self.config.latent_size,), name="codes")
        return keras.Model(codes, self.generator(self.alignment(codes)), name="code_renderer")

    @functools.cached_property
    def estimator(self) -> keras.Model:
        """Depth maps -> joints in millimetres."""
        maps = self.discriminator(self.discriminator.input)[2]
        joints = self.decoder(self.posterior(maps))
        return self._chain("estimator", self.discriminator.input, joints, "joints")

    @functools.cached_property
    def renderer(self) -> keras.Model:
        """Joints in millimetres -> depth maps."""
        joints = self.pose_coder.input
        return self._chain("renderer", joints, self.code_renderer(self.pose_coder(joints)), "images")

    @functools.cached_property
    def sampler(self) -> keras.Model:
        noise = self.prior.input
        return self._chain("sampler", noise, self.code_renderer(self.prior(noise)), "images")

    @functools.cached_property
    def pose_sampler(self) -> keras.Model:
        """The noise of `sampler` -> joints in millimetres."""
        noise = self.prior.input
        return self._chain("pose_sampler", noise, self.decoder(self.prior(noise)), "joints")

    @staticmethod
    def _chain(name: str, inputs: Any, outputs: Any, output: str) -> keras.Model:
        named = layers.Activation("linear", dtype="float32", name=output)(outputs)
        return keras.Model(inputs, named, name=name)

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        pictures = {"images": self.output_range}
        notes = {"joints": "millimetres from the cube's centre: x right, y down, z away from the camera"}
        return {
            **super().endpoints,
            "estimate_pose": Endpoint(self.estimator, pictures, notes=notes),
            "render": Endpoint(self.renderer, pictures, notes=notes),
        }

    def example_inputs(
        self, endpoint: Endpoint, count: int, sizes: Mapping[str, tuple[int, int]], seed: int = 0
    ) -> dict[str, Any]:
        if endpoint.input_names == ["joints"]:
            shape = (count, self.config.num_joints, 3)
            return {"joints": np.random.default_rng(seed).normal(0, 30, shape).astype("float32")}
        return super().example_inputs(endpoint, count, sizes, seed)

    # ---------------------------------------------------------------- pictures and numbers

    def sample_pictures(self, count: int = 64, seed: int = 0) -> np.ndarray:
        """Drawn poses: each depth map beside its skeleton; rows of four, (rows, 128, 1024, 3)."""
        rows = max(count // 4, 1)
        joints, images = self.generate_pairs(4 * rows, seed)
        pairs = [skeletons.enlarged(images), skeletons.drawn(images, [(joints, skeletons.ESTIMATE)])]
        pictures = np.concatenate(pairs, axis=2)
        return pictures.reshape(rows, 4, *pictures.shape[1:]).swapaxes(1, 2).reshape(rows, 128, -1, 3)

    def held_out_pictures(self, held_out: Mapping[str, np.ndarray]) -> np.ndarray:
        """Rows (count, 128, 384, 3): depth; true (green) and estimated (red) joints; the estimate's depth."""
        images = np.asarray(held_out["images"])
        estimated = self.estimate_pose(images)
        both = [(np.asarray(held_out["joints"]), skeletons.TRUTH), (estimated, skeletons.ESTIMATE)]
        columns = [
            skeletons.enlarged(images), skeletons.drawn(images, both),
            skeletons.enlarged(self.render(estimated)),
        ]  # fmt: skip
        return np.concatenate(columns, axis=2)

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """How well poses and depth maps of held-out hands cross over.

        Returns:
            joint_error: mean distance of estimated joints, in millimetres; its baseline is the pose of the
                autoencoder's mean code;
            frames_within_40, frames_within_20: frames whose worst joint is not further off, in millimetres;
            pose_code_error: joint_error of the autoencoder's own reconstruction, the least P could reach;
            render_error: clipped squared error of depth maps made of true poses; its baseline takes another
                hand's depth map.
        """
        images, joints = (np.asarray(examples[name]) for name in ("images", "joints"))
        mean = self.run(np.zeros((1, self.config.latent_size), "float32"), 1, "pose_sampler")
        distances = self._distances(self.estimate_pose(images), joints)
        coded = self.run(self.run(joints, 64, "pose_coder"), 64, "decoder")
        made, other = self.render(joints), np.roll(images, 1, axis=0)
        limit = self.config.error_limit
        return {
            "joint_error": float(distances.mean()),
            "joint_error_baseline": float(self._distances(mean, joints).mean()),
            "frames_within_40": float((distances.max(axis=1) <= 40).mean()),
            "frames_within_20": float((distances.max(axis=1) <= 20).mean()),
            "pose_code_error": float(self._distances(coded, joints).mean()),
            "render_error": float(np.mean(clipped_error(images, made, limit))),
            "render_error_baseline": float(np.mean(clipped_error(images, other, limit))),
        }

    def _distances(self, estimated: np.ndarray, joints: np.ndarray) -> np.ndarray:
        """Millimetres between the joints that are evaluated, (count, num)."""
        return np.linalg.norm(np.asarray(estimated) - joints, axis=-1)[:, self.config.joints_to_evaluate]


# -------------------------------------------------------------------- terms


def clipped_error(images: tf.Tensor, made: tf.Tensor, limit: float) -> tf.Tensor:
    """min((x - x')^2, limit), means over the pixels of each depth map, (batch,)."""
    return tf.reduce_mean(tf.minimum(tf.math.squared_difference(images, made), limit), axis=(1, 2, 3))


def feature_difference(real: tf.Tensor, fake: tf.Tensor) -> tf.Tensor:
    """mean |E f(x) - E f(x')|, expectations over the global batch, a mean over the map; a scalar."""
    return tf.reduce_mean(tf.abs(replicas.batch_mean(real) - replicas.batch_mean(fake)))


def mean_square(difference: tf.Tensor) -> tf.Tensor:
    """(batch, size) -> (batch,)."""
    return tf.reduce_mean(tf.square(difference), axis=1)


def smoothness(own: tf.Tensor, mixed: tf.Tensor, places: tf.Tensor, fake_places: tf.Tensor) -> tf.Tensor:
    """L_smooth of each example, (batch,).

    Args:
        own: z, (batch, latent_size); `mixed` likewise.
        places: M(x), (batch, latent_size).
        fake_places: M of the depth maps of z and, below, of the mixes, (2 * batch, latent_size).
    """
    of_own, of_mixed = tf.split(fake_places, 2)
    return mean_square((own - mixed) - (places - of_mixed)) + mean_square(places - of_own)


# -------------------------------------------------------------------- networks


def build_pose_encoder(config: CrossingNetsConfig) -> keras.Model:
    """Poses (batch, 3 * num_joints) -> means and log variances of codes, (batch, code_size) each."""
    poses = keras.Input((3 * config.num_joints,), name="poses")
    x = _dense(config.hidden_size, 0.01, activation="relu", name="hidden")(poses)
    outputs = [_dense(config.code_size, 0.01, dtype="float32", name=n)(x) for n in ("means", "log_variances")]
    return keras.Model(poses, outputs, name="pose_encoder")


def build_pose_decoder(config: CrossingNetsConfig) -> keras.Model:
    """Codes (batch, code_size) -> poses (batch, 3 * num_joints)."""
    codes = keras.Input((config.code_size,), name="codes")
    x = layers.LeakyReLU(0.01)(_dense(config.hidden_size, 0.01)(codes))
    poses = _dense(3 * config.num_joints, 0.01, dtype="float32", name="poses")(x)
    return keras.Model(codes, poses, name="pose_decoder")


def build_prior(config: CrossingNetsConfig) -> keras.Model:
    """Standard normal numbers (batch, latent_size) -> z."""
    noise = keras.Input((config.latent_size,), name="latents")
    return keras.Model(noise, RunningNormal(dtype="float32", name="prior")(noise), name="prior")


def build_alignment(config: CrossingNetsConfig) -> keras.Model:
    """A: z (batch, latent_size) -> what G takes, of the same shape."""
    codes = keras.Input((config.latent_size,), name="codes")
    x = _norm(config)(_dense(config.latent_size, 0.02, use_bias=False)(codes))
    return keras.Model(codes, layers.Activation("linear", dtype="float32")(x), name="alignment")


def build_generator(config: CrossingNetsConfig) -> keras.Model:
    """Numbers (batch, latent_size), of which it takes the tanh -> depth maps."""
    latents = keras.Input((config.latent_size,), name="latents")
    x = layers.Activation("tanh")(latents)
    x = layers.ReLU()(_norm(config)(_dense(config.dense_size, 0.05, use_bias=False)(x)))
    x = layers.Reshape((4, 4, config.dense_size // 16))(x)
    for _ in range(config.num_halvings - 1):
        x = layers.ReLU()(_norm(config)(_up_conv(config.width, use_bias=False)(x)))
    x = _up_conv(1, bias_initializer=keras.initializers.Constant(0.8))(x)
    images = layers.Activation("tanh", dtype="float32", name="images")(x)
    return keras.Model(latents, images, name="generator")


def build_discriminator(config: CrossingNetsConfig) -> keras.Model:
    """Depth maps -> logits (batch, 1), the last map (batch, 4, 4, width), and the second for the heads."""
    x = images = keras.Input((*height_width(config.image_size), 1), name="images")
    maps = []
    for _ in range(config.num_halvings):
        x = _leaky_norm(config, _conv(config)(x))
        maps.append(x)
    logits = _dense(1, 0.05, dtype="float32", name="logits")(layers.Flatten()(x))
    return keras.Model(images, [logits, x, maps[1]], name="discriminator")


def build_head(config: CrossingNetsConfig, hidden_size: int, name: str) -> keras.Model:
    """D's second map -> latent_size numbers (batch, latent_size)."""
    side = height_width(config.image_size)[0] // 4
    x = maps = keras.Input((side, side, config.width), name="maps")
    for _ in range(config.num_halvings - 2):
        x = _leaky_norm(config, _conv(config)(x))
    x = _leaky_norm(config, _dense(hidden_size, 0.05, use_bias=False)(layers.Flatten()(x)))
    codes = _dense(config.latent_size, 0.05, dtype="float32", name="codes")(x)
    return keras.Model(maps, codes, name=name)


def _leaky_norm(config: CrossingNetsConfig, x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.LeakyReLU(0.2)(_norm(config)(x))


def _dense(units: int, std: float, **kwargs: Any) -> layers.Layer:
    return layers.Dense(units, kernel_initializer=keras.initializers.RandomNormal(stddev=std), **kwargs)


def _conv(config: CrossingNetsConfig) -> layers.Layer:
    initializer = keras.initializers.RandomNormal(stddev=0.05)
    return layers.Conv2D(config.width, 6, 2, padding="same", use_bias=False, kernel_initializer=initializer)


def _up_conv(filters: int, **kwargs: Any) -> layers.Layer:
    initializer = keras.initializers.RandomNormal(stddev=0.05)
    return layers.Conv2DTranspose(filters, 6, 2, padding="same", kernel_initializer=initializer, **kwargs)


def _norm(config: CrossingNetsConfig) -> layers.Layer:
    return layers.BatchNormalization(
        momentum=0.9, epsilon=1e-4, synchronized=config.sync_batch_norm,
        gamma_initializer=keras.initializers.RandomNormal(1.0, 0.02),
    )  # fmt: skip
