"""DR-GAN: who somebody is, apart from how the head is turned; and the face turned to any pose.

The encoder makes an identity feature f of a face x; the decoder makes a face x' = G(f, c, z) of it, of a pose
c that one chooses and noise z. The discriminator tells identities and poses of real faces, and fakes:

    D minimises      -E log D_id(y | x) - E log D_pose(p | x) - E log D_id(fake | x'),
    G, E minimise    -E log D_id(y | x') - E log D_pose(c | x'),

y and p the identity and pose of x, c drawn evenly: the turned face must pass for the SAME person in ANOTHER
pose. No pixels are compared. "fake" is one class more among the identities; `real_fake="logit"` is the
journal paper's form, an output of its own with the usual cross-entropies, beside which both classifiers stay.

With `num_images` n above 1 an example is n faces of one person. The encoder also says how much each can be
trusted, w in (0, 1), and the features are fused to f = sum w_i f_i / sum w_i. G is then trained on n + 1
faces, made of each feature and of the fused one, each of its own pose and noise; D on single faces as before.

Reference: L. Tran, X. Yin, X. Liu, "Disentangled Representation Learning GAN for Pose-Invariant Face
Recognition", CVPR 2017; "Representation Learning by Rotating Your Faces", PAMI 2018, arXiv:1705.11136
(`real_fake="logit"`). Defaults are the setting for Multi-PIE: 200 people, 9 yaws.

Choices: the weight w is the sigmoid of the mean of a normalized 3x3 convolution of the last map but one, as
in a co-author's later code (github.com/tranluan/DR-GAN); the dense layer has no activation;
`generator_updates` is how often G is updated per update of D: the paper goes from 1 to 4 once D is strong,
that code takes 2. The terms of the n + 1 faces are averaged, which Adam does not tell from their sum.

Departures: a multi-image model starts from random weights, the paper's from a trained single-image one; there
is an optional `reconstruction_weight`, by default 0 as in the paper: see the config.
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

from tf_gan_zoo import random
from tf_gan_zoo.batch_spec import BatchSpec, Field, checked_images
from tf_gan_zoo.conditional import checked_labels
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
from tf_gan_zoo.layers import OneHot
from tf_gan_zoo.losses import non_saturating_generator_loss
from tf_gan_zoo.metrics import identities, tasks
from tf_gan_zoo.registry import Paper, register

_RANGE = (-1.0, 1.0)
#: Channels of the encoder's and D's convolutions for width 32, block by block; all but the first block halve.
_TRUNK = ((32, 64), (64, 64, 128), (128, 96, 192), (192, 128, 256), (256, 160, 320))
#: The decoder's, from the smallest map to the picture: each block but the first doubles the sides.
_DECODER = ((160, 256), (256, 128, 192), (192, 96, 128), (128, 64, 64), (64, 32))


@dataclass(frozen=True, kw_only=True)
class DRGANConfig(Config):
    """The single-image model for Multi-PIE.

    Attributes:
        num_identities: people to learn from.
        num_poses: bins of the yaw.
        num_images: faces of one person in an example; the paper's multi-image model has 6.
        num_blocks: of the encoder, D and the decoder, 5 for 96x96; all but one halve or double the sides.
            Small pictures take fewer, the last ones of the encoder.
        width: channels of the first convolution of five blocks; all others, and the feature, in proportion.
        latent_size: numbers of z, uniform on [-1, 1].
        real_fake: "class" or "logit", see the module.
        generator_updates: of G in each step, with new poses and noise.
        reconstruction_weight: of the mean absolute difference to a real picture, when each feature is decoded
            with the pose of the next picture of its example (its own if there is one). Not in the paper; it
            makes up for having few pictures and little time.
        initial_std: standard deviation of the first weights.
    """

    data: str = "faces:multi_pie"
    batch_size: PositiveInt = 64
    epochs: PositiveInt = 100
    image_size: ImageSize = 96
    channels: Channels = 3
    num_identities: PositiveInt = 200
    num_poses: PositiveInt = 9
    num_images: PositiveInt = 1
    num_blocks: Repeats = 5
    width: PositiveInt = 32
    latent_size: PositiveInt = 50
    real_fake: Literal["class", "logit"] = "class"
    generator_updates: Repeats = 1
    reconstruction_weight: NonNegativeFloat = 0.0
    initial_std: PositiveFloat = 0.02
    learning_rate: PositiveFloat = 2e-4
    beta_1: Decay = 0.5

    def validate(self) -> None:
        if self.num_blocks > len(_TRUNK):
            raise ConfigError(f"DRGANConfig.num_blocks: at most {len(_TRUNK)}, got {self.num_blocks}.")
        step = 2 ** (self.num_blocks - 1)
        if any(side % step for side in height_width(self.image_size)):
            raise ConfigError(
                f"DRGANConfig.image_size: {self.image_size} cannot be halved {self.num_blocks - 1} times. "
                f"Use multiples of {step}, or fewer num_blocks."
            )
        if min(self.num_identities, self.num_poses) < 2:
            raise ConfigError(
                "DRGANConfig: num_identities and num_poses must be 2 or more, got "
                f"{self.num_identities} and {self.num_poses}."
            )

    def scaled(self, channels: int) -> int:
        """Channels of a layer that has `channels` at width 32."""
        return max(channels * self.width // 32, 1)

    @property
    def feature_size(self) -> int:
        return self.scaled(_TRUNK[-1][-1])

    @property
    def base_size(self) -> tuple[int, int]:
        """(height, width) of the smallest map, 6x6 for 96x96."""
        return tuple(side >> self.num_blocks - 1 for side in height_width(self.image_size))


@register(
    "dr_gan",
    task="face",
    paper=Paper(
        "Disentangled Representation Learning GAN for Pose-Invariant Face Recognition",
        "L. Tran, X. Yin, X. Liu", 2017,
        url="https://openaccess.thecvf.com/content_cvpr_2017/papers/"
        "Tran_Disentangled_Representation_Learning_CVPR_2017_paper.pdf",
    ),
    tiny={
        "image_size": 8, "num_blocks": 2, "width": 2, "latent_size": 4, "num_identities": 5, "num_poses": 3,
        "initial_std": 0.1, "batch_size": 4,
    },
)  # fmt: skip
class DRGAN(GAN):
    """Faces by identity and pose; images are (batch, height, width, channels) in [-1, 1].

        model.rotate(faces)              # (count, num_poses, height, width, channels): each face in all poses
        model.frontalize(faces)          # looking straight ahead
        features = model.encode(faces)   # who they are, (count, feature_size)
        model.similarity(faces, others)  # how sure the same person, from -1 to 1

    A model with `num_images` above 1 takes sets, too, wherever it takes faces: (count, any number, height,
    width, channels), pictures of one person, which it fuses; `confidence` says how it weighs them. Poses are
    numbers of bins; those of the data sources go from left to right, the middle one is frontal.

    Logs the losses of D (d_loss, the sum of its terms) and of G and E (g_loss: passing for real, in the form
    "class" within identity_loss; identity_loss; pose_loss; reconstruction_loss, before its weight).
    """

    config_cls = DRGANConfig
    log_names = ("d_loss", "g_loss", "identity_loss", "pose_loss", "reconstruction_loss")

    @property
    def view(self) -> str:
        return "posed" if self.config.num_images == 1 else "posed_sets"

    @property
    def data_keywords(self) -> dict[str, Any]:
        c = self.config
        keywords = {"num_identities": c.num_identities, "num_poses": c.num_poses}
        height, width = height_width(c.image_size)
        keywords["image_size"], keywords["channels"] = (height, width), c.channels
        return keywords | ({"set_size": c.num_images} if c.num_images > 1 else {})

    def build_networks(self, config: DRGANConfig) -> dict[str, keras.Model]:
        return {
            "encoder": build_encoder(config),
            "decoder": build_decoder(config),
            "discriminator": build_discriminator(config),
        }

    @property
    def players(self) -> dict[str, tuple[str, ...]]:
        return {"generator": ("encoder", "decoder"), "discriminator": ("discriminator",)}

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        return keras.optimizers.Adam(self.config.learning_rate, beta_1=self.config.beta_1, epsilon=1e-8)

    @property
    def batch_spec(self) -> BatchSpec:
        c = self.config
        several = () if c.num_images == 1 else (c.num_images,)
        return BatchSpec(
            images=Field((*several, *height_width(c.image_size), c.channels), _RANGE),
            labels=Field((), (0, c.num_identities - 1), "int32"),
            poses=Field(several, (0, c.num_poses - 1), "int32"),
        )

    # ---------------------------------------------------------------- training

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        singles = self._singles(batch)
        for number in range(self.config.generator_updates):
            with tf.GradientTape() as tape:
                features, every = self._features(singles["images"], training=True)
                fakes, wanted = self._fakes(f"turned {number}", every, singles["labels"], training=True)
                if number == 0:
                    with tape.stop_recording():
                        d_loss = self._train_discriminator(singles, fakes)
                losses = self._fooling_losses(fakes, wanted, training=True)
                losses["reconstruction_loss"] = self._reconstruction(singles, features, training=True)
                total = self._total(losses)
            self.update("generator", tape, total)
        return self.log(d_loss=d_loss, **losses)

    def _train_discriminator(self, singles: Mapping[str, tf.Tensor], fakes: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = self._discriminator_loss(singles, fakes, training=True)
        self.update("discriminator", tape, loss)
        return loss

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        singles = self._singles(batch)
        features, every = self._features(singles["images"], training=False)
        fakes, wanted = self._fakes("validation", every, singles["labels"], training=False)
        losses = self._fooling_losses(fakes, wanted, training=False)
        losses["reconstruction_loss"] = self._reconstruction(singles, features, training=False)
        return self.log(d_loss=self._discriminator_loss(singles, fakes, training=False), **losses)

    def _singles(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The faces of all sets one behind the other, each with its person and pose."""
        count = self.config.num_images
        if count == 1:
            return dict(batch)
        images, poses = batch["images"], batch["poses"]
        return {
            "images": tf.reshape(images, (-1, *images.shape[2:])),
            "labels": tf.repeat(batch["labels"], count),
            "poses": tf.reshape(poses, (-1,)),
        }

    def _features(self, images: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """Features of the single faces, and with those of the fused sets behind them."""
        if self.config.num_images == 1:
            features = self.encoder(images, training=training)
            return features, features
        features, confidence = self.encoder(images, training=training)
        in_sets = (-1, self.config.num_images)
        fused = fuse(
            tf.reshape(features, (*in_sets, features.shape[-1])), tf.reshape(confidence, (*in_sets, 1))
        )
        return features, tf.concat([features, fused], axis=0)

    def _fakes(
        self, purpose: str, features: tf.Tensor, labels: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Each feature decoded in a pose drawn for it; the pictures, and what D shall find in them."""
        n = self.config.num_images
        several = 1 if n == 1 else n + 1
        # Drawn per example, so that it does not depend on how the batch is shared by replicas.
        count = tf.shape(features)[0] // several
        poses = self.random_integers(f"pose {purpose}", (count, several), self.config.num_poses)
        size = self.config.latent_size
        latents = self.random_uniform(f"noise {purpose}", (count, several, size), -1.0, 1.0)
        if n > 1:
            poses, latents = _singles_then_fused(poses), _singles_then_fused(latents)
            labels = tf.concat([labels, labels[::n]], axis=0)
        poses, latents = tf.reshape(poses, (-1,)), tf.reshape(latents, (-1, size))
        inputs = {"features": features, "poses": poses, "latents": latents}
        return self.decoder(inputs, training=training), {"labels": labels, "poses": poses}

    def _discriminator_loss(
        self, singles: Mapping[str, tf.Tensor], fakes: tf.Tensor, training: bool
    ) -> tf.Tensor:
        """Identity and pose of real faces; that fakes are fakes."""
        real, fake = (self.discriminator(x, training=training) for x in (singles["images"], fakes))
        loss = cross_entropy(real["identities"], singles["labels"])
        loss += cross_entropy(real["poses"], singles["poses"])
        if self.config.real_fake == "class":
            fake_class = tf.fill(tf.shape(fakes)[:1], self.config.num_identities)
            return loss + cross_entropy(fake["identities"], fake_class)
        return loss + sum(map(non_saturating_generator_loss, (real["real"], -fake["real"])))

    def _fooling_losses(
        self, fakes: tf.Tensor, wanted: Mapping[str, tf.Tensor], training: bool
    ) -> dict[str, tf.Tensor]:
        """The same person, in the pose drawn, and real."""
        found = self.discriminator(fakes, training=training)
        logit = self.config.real_fake == "logit"
        return {
            "g_loss": non_saturating_generator_loss(found["real"]) if logit else tf.constant(0.0),
            "identity_loss": cross_entropy(found["identities"], wanted["labels"]),
            "pose_loss": cross_entropy(found["poses"], wanted["poses"]),
        }

    def _reconstruction(
        self, singles: Mapping[str, tf.Tensor], features: tf.Tensor, training: bool
    ) -> tf.Tensor:
        """Mean absolute difference to the set's next face of what features make in that face's pose."""
        if not self.config.reconstruction_weight:
            return tf.constant(0.0)
        images, poses = (_next_of_set(singles[name], self.config.num_images) for name in ("images", "poses"))
        inputs = {"features": features, "poses": poses, "latents": self._no_noise(features)}
        return tf.reduce_mean(tf.abs(images - self.decoder(inputs, training=training)))

    def _total(self, losses: Mapping[str, tf.Tensor]) -> tf.Tensor:
        weights = {"reconstruction_loss": self.config.reconstruction_weight}
        return tf.add_n([weights.get(name, 1.0) * loss for name, loss in losses.items()])

    def _no_noise(self, features: tf.Tensor) -> tf.Tensor:
        """The middle of the noise, for results that do not depend on chance."""
        return tf.zeros((tf.shape(features)[0], self.config.latent_size), features.dtype)

    # ---------------------------------------------------------------- inference

    def encode(self, images: Any, batch_size: int = 64) -> np.ndarray:
        """Who faces or sets of faces show, whatever their pose: compare features by their cosine.

        Args:
            images: (count, height, width, channels) in [-1, 1], or one face; with `num_images` above 1 also
                sets (count, any number, height, width, channels), whose features are fused.
            batch_size: pictures per call of the network.

        Returns:
            float32 (count, feature_size).

        Raises:
            BatchError: if the pictures do not fit.
        """
        return self._encoded(images, batch_size)[0]

    def confidence(self, images: Any, batch_size: int = 64) -> np.ndarray:
        """How much each face is trusted where several are fused, from 0 to 1.

        Args: as of `encode`.

        Returns:
            float32 (count,), or (count, number) for sets.

        Raises:
            BatchError: if the pictures do not fit.
            ValueError: for a model of single images.
        """
        if self.config.num_images == 1:
            raise ValueError("a model with num_images=1 has no confidence: it fuses nothing.")
        return self._encoded(images, batch_size)[1]

    def _encoded(self, images: Any, batch_size: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Features, fused where sets were given, and weights in the shape of what was given."""
        images, field = np.asarray(images), self._face_field
        if self.config.num_images == 1:
            return np.asarray(self.run(checked_images(images, field), batch_size, "encoder")), None
        if images.ndim < 5:
            features, weights = self.run(checked_images(images, field), batch_size, "encoder")
            return features, weights[:, 0]
        shape, faces = images.shape[:2], checked_images(images.reshape(-1, *images.shape[2:]), field)
        features, weights = self.run(faces, batch_size, "encoder")
        fused = fuse(features.reshape(*shape, -1), weights.reshape(*shape, 1))
        return np.asarray(fused), weights.reshape(shape)

    @property
    def _face_field(self) -> Field:
        c = self.config
        return Field((*height_width(c.image_size), c.channels), _RANGE)

    def rotate(
        self, images: Any, poses: Any = None, seed: int | None = None, batch_size: int = 64
    ) -> np.ndarray:
        """Faces in other poses.

        Args:
            images: as of `encode`.
            poses: bins from 0 to num_poses - 1, one for all faces or one for each; all of them by default.
            seed: of the noise; without one it is 0, the middle of its range.
            batch_size: pictures per call of the network.

        Returns:
            float32 (count, height, width, channels) in [-1, 1]; all poses have an axis behind the first.

        Raises:
            BatchError: if the pictures do not fit.
            ValueError: if the poses do not.
        """
        features, num_poses = self.encode(images, batch_size), self.config.num_poses
        if poses is not None:
            return self._decode(features, checked_labels(poses, len(features), num_poses), seed, batch_size)
        every = np.tile(np.arange(num_poses), len(features))
        made = self._decode(np.repeat(features, num_poses, axis=0), every, seed, batch_size)
        return made.reshape(len(features), num_poses, *made.shape[1:])

    def frontalize(self, images: Any, batch_size: int = 64) -> np.ndarray:
        """Faces that look straight ahead: in the middle one of the poses; see `rotate`."""
        return self.rotate(images, self.config.num_poses // 2, batch_size=batch_size)

    def translate(self, images: Any, direction: str = "a_to_b", batch_size: int = 64) -> np.ndarray:
        """`frontalize`, under the name by which all models that turn pictures into pictures are called.

        Raises:
            ValueError: for another direction than "a_to_b".
        """
        if direction != "a_to_b":
            raise ValueError(f'dr_gan frontalizes faces (direction="a_to_b"); got {direction!r}. Use rotate.')
        return self.frontalize(images, batch_size)

    def similarity(self, images: Any, others: Any, batch_size: int = 64) -> np.ndarray:
        """Cosines of the features of faces (or sets) and the others with the same index, float32 (count,)."""
        first, second = (identities.unit(self.encode(x, batch_size)) for x in (images, others))
        return (first * second).sum(axis=1)

    def _decode(
        self, features: np.ndarray, poses: np.ndarray, seed: int | None, batch_size: int
    ) -> np.ndarray:
        latents = np.zeros((len(features), self.config.latent_size), "float32")
        if seed is not None:
            latents = random.uniform(latents.shape, random.make_seed(seed, "rotate"), -1.0, 1.0).numpy()
        inputs = {"features": features, "poses": poses.astype("int32"), "latents": latents}
        return np.asarray(self.run(inputs, batch_size, "decoder"))

    # ---------------------------------------------------------------- what others see

    @functools.cached_property
    def rotation_network(self) -> keras.Model:
        """Images and poses -> the faces in these poses, without noise: encoder and decoder as one network."""
        poses = keras.Input((), dtype="int32", name="poses")
        made = self._decoded_symbolically(poses, "rotated")
        return keras.Model({"images": self.encoder.input, "poses": poses}, made, name="rotation_network")

    @functools.cached_property
    def frontal_network(self) -> keras.Model:
        """Images -> the faces as seen from in front."""
        front = keras.ops.cast(0.0 * self.encoder.outputs[0][:, 0], "int32") + self.config.num_poses // 2
        made = self._decoded_symbolically(front, "outputs")
        return keras.Model(self.encoder.input, made, name="frontal_network")

    def _decoded_symbolically(self, poses: keras.KerasTensor, name: str) -> keras.KerasTensor:
        """What the decoder makes of the encoder's feature, without noise."""
        features = self.encoder.outputs[0]
        latents = keras.ops.tile(0.0 * features[:, :1], (1, self.config.latent_size))
        made = self.decoder({"features": features, "poses": poses, "latents": latents})
        return layers.Activation("linear", dtype="float32", name=name)(made)

    def public_network(self) -> keras.Model:
        return self.rotation_network

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        num_poses = self.config.num_poses
        poses = {"poses": f"bins from 0 to {num_poses - 1}; {num_poses // 2} is frontal"}
        pictures = {"images": _RANGE, "rotated": _RANGE}
        who = {"features": "who it is: compare by the cosine", "confidence": "weight when features are fused"}
        return {
            "rotate": Endpoint(self.rotation_network, pictures, notes=poses),
            "encode": Endpoint(self.encoder, {"images": _RANGE}, notes=who),
            "translate": Endpoint(self.frontal_network, {"images": _RANGE, "outputs": _RANGE}),
        }

    def public_inputs(self, endpoint: Endpoint, batch: Any) -> dict[str, Any]:
        """The faces of sets one by one."""
        inputs = super().public_inputs(endpoint, batch)
        if self.config.num_images > 1:
            return {n: np.asarray(v).reshape(-1, *np.shape(v)[2:]) for n, v in inputs.items()}
        return inputs

    def example_inputs(
        self, endpoint: Endpoint, count: int, sizes: Mapping[str, tuple[int, int]], seed: int = 0
    ) -> dict[str, Any]:
        sizes = {"images": height_width(self.config.image_size)}
        inputs = super().example_inputs(endpoint, count, sizes, seed)
        if "poses" in endpoint.input_names:
            inputs["poses"] = np.arange(count, dtype="int32") % self.config.num_poses
        return inputs

    def comparison(self, examples: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Held-out faces (of a set the first), and turned through all poses, by column title."""
        images = np.asarray(examples["images"])
        turned = self.rotate(images)
        columns = {"input": images if images.ndim == 4 else images[:, 0]}
        return columns | {f"pose {k + 1}": turned[:, k] for k in range(turned.shape[1])}

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Whether features tell held-out people, whatever the pose, and whether turned faces are right.

        Every person's first frontal face is in the gallery; all that are not frontal are looked up there.
        Baselines go by the pixels: by their cosine, or taking a face as it is for its turned version.

        Returns:
            rank1: faces whose nearest one in the gallery is of the same person; rank1_profile: of those in
                the outermost poses alone; rank1_fused: of sets (with `num_images` above 1 only), whose
                baseline is the mean picture;
            pose_leakage: how often a linear classifier reads the pose off the feature, on people it was not
                fitted to; its baseline reads the pixels;
            turned_pose, turned_identity: faces turned to another pose whose nearest held-out picture (in
                pixels) is in that pose, or of that person;
            confidence_of_yaw: rank correlation of weight and turn away from the front; below 0 if frontal
                faces count more.
        """
        images, poses = np.asarray(examples["images"]), np.asarray(examples["poses"])
        labels, faces = np.asarray(examples["labels"]), images
        if images.ndim == 5:
            faces, poses = images[:, 0], poses[:, 0]
        features, frontal = self.encode(faces), self.config.num_poses // 2
        results = {}
        for suffix, vectors in (("", features), ("_baseline", faces)):
            found = identities.rank1(vectors, labels, poses, frontal)
            results |= {f"{name}{suffix}": value for name, value in found.items()}
            results[f"pose_leakage{suffix}"] = identities.linear_accuracy(vectors, poses, labels)
        if images.ndim == 5:
            results |= self._measure_sets(images, np.asarray(examples["poses"]), labels, features)
        return results | self._measure_turning(faces, features, labels, poses)

    def _measure_sets(
        self, images: np.ndarray, poses: np.ndarray, labels: np.ndarray, features: np.ndarray
    ) -> dict[str, float]:
        """Sets without a frontal face against the gallery, and what weights have to do with the yaw."""
        frontal, weights = self.config.num_poses // 2, self.confidence(images)
        turned = (poses != frontal).all(axis=1)
        results = {
            "confidence_of_yaw": identities.rank_correlation(weights.ravel(), np.abs(poses - frontal).ravel())
        }
        pairs = (("", self.encode(images), features), ("_baseline", images.mean(axis=1), images[:, 0]))
        for suffix, fused, singles in pairs:
            gallery = identities.gallery_of(labels, poses[:, 0], frontal)
            found = identities.nearest_labels(fused[turned], singles[gallery], labels[gallery])
            results[f"rank1_fused{suffix}"] = float((found == labels[turned]).mean()) if len(found) else 0.0
        return results

    def _measure_turning(
        self, faces: np.ndarray, features: np.ndarray, labels: np.ndarray, poses: np.ndarray
    ) -> dict[str, float]:
        num_poses = self.config.num_poses
        targets = (poses + 1 + np.arange(len(poses)) % (num_poses - 1)) % num_poses
        nearest, _ = tasks.nearest_neighbours(self._decode(features, targets, None, 64), faces)
        return {
            "turned_pose": float((poses[nearest] == targets).mean()),
            "turned_pose_baseline": float((poses[:, None] == targets[None]).mean()),  # chance: any picture
            "turned_identity": float((labels[nearest] == labels).mean()),
        }


# -------------------------------------------------------------------- losses and features


def cross_entropy(logits: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """-E log softmax(logits)[class] of logits (batch, classes) and integers (batch,), a scalar."""
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(classes, logits))


def fuse(features: tf.Tensor, confidence: tf.Tensor) -> tf.Tensor:
    """Weighted means (batch, size) of features (batch, number, size) by weights (batch, number, 1)."""
    return tf.reduce_sum(features * confidence, axis=1) / (tf.reduce_sum(confidence, axis=1) + 1e-6)


def _next_of_set(values: tf.Tensor, count: int) -> tf.Tensor:
    """(sets * count, ...) -> the value of the next member of the same set; the last one's is the first."""
    rest = values.shape[1:]
    return tf.reshape(tf.roll(tf.reshape(values, (-1, count, *rest)), -1, axis=1), (-1, *rest))


def _singles_then_fused(drawn: tf.Tensor) -> tf.Tensor:
    """(sets, n + 1, ...) in the order of `_features`: each set's first n, then the last ones of all sets."""
    singles = tf.reshape(drawn[:, :-1], (-1, *drawn.shape[2:]))
    return tf.concat([singles, drawn[:, -1]], axis=0)


# -------------------------------------------------------------------- networks


def build_encoder(config: DRGANConfig) -> keras.Model:
    """Images -> features (batch, feature_size), and with sets confidence (batch, 1)."""
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    last, before = _trunk(images, config)
    features = layers.GlobalAveragePooling2D(dtype="float32", name="features")(last)
    if config.num_images == 1:
        return keras.Model(images, features, name="encoder")
    x = _norm(config)(_conv(1, 1, config)(before))
    x = layers.GlobalAveragePooling2D(dtype="float32")(x)
    confidence = layers.Activation("sigmoid", dtype="float32", name="confidence")(x)
    return keras.Model(images, [features, confidence], name="encoder")


def build_discriminator(config: DRGANConfig) -> keras.Model:
    """Images -> logits: "identities" (batch, num_identities, and 1 for fakes), "poses" (batch, num_poses)."""
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    x = layers.GlobalAveragePooling2D()(_trunk(images, config)[0])
    by_class = config.real_fake == "class"
    sizes = {"identities": config.num_identities + by_class, "poses": config.num_poses}
    sizes |= {} if by_class else {"real": 1}
    heads = {
        name: layers.Dense(size, kernel_initializer=_normal(config), dtype="float32", name=name)(x)
        for name, size in sizes.items()
    }
    return keras.Model(images, heads, name="discriminator")


def build_decoder(config: DRGANConfig) -> keras.Model:
    """Features, poses and latents -> images (batch, height, width, channels) in [-1, 1]."""
    features = keras.Input((config.feature_size,), name="features")
    poses = keras.Input((), dtype="int32", name="poses")
    latents = keras.Input((config.latent_size,), name="latents")
    x = layers.Concatenate()([features, OneHot(config.num_poses)(poses), latents])
    height, width = config.base_size
    x = layers.Dense(height * width * config.feature_size, kernel_initializer=_normal(config))(x)
    x = layers.Reshape((height, width, config.feature_size))(x)
    for block, channels in enumerate(_DECODER[: config.num_blocks]):
        for number, size in enumerate(channels):
            x = _up_conv(config.scaled(size), 2 if block and not number else 1, config)(x)
            x = layers.ELU()(_norm(config)(x))
    x = _up_conv(config.channels, 1, config)(x)
    made = layers.Activation("tanh", dtype="float32", name="decoded")(x)
    return keras.Model({"features": features, "poses": poses, "latents": latents}, made, name="decoder")


def _trunk(x: keras.KerasTensor, config: DRGANConfig) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """The last map, normalised and no more, and the one before it."""
    blocks = enumerate(_TRUNK[-config.num_blocks :])
    plan = [(size, 2 if block and not k else 1) for block, row in blocks for k, size in enumerate(row)]
    for size, strides in plan[:-1]:
        x = layers.ELU()(_norm(config)(_conv(config.scaled(size), strides, config)(x)))
    return _norm(config)(_conv(config.feature_size, 1, config)(x)), x


def _conv(filters: int, strides: int, config: DRGANConfig) -> layers.Layer:
    return layers.Conv2D(filters, 3, strides, padding="same", kernel_initializer=_normal(config))


def _up_conv(filters: int, strides: int, config: DRGANConfig) -> layers.Layer:
    return layers.Conv2DTranspose(filters, 3, strides, padding="same", kernel_initializer=_normal(config))


def _norm(config: DRGANConfig) -> layers.Layer:
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, synchronized=config.sync_batch_norm)


def _normal(config: DRGANConfig) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=config.initial_std)
