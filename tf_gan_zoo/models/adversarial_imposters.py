"""Adversarial imposters: of rendered scenes, train a detector with those that a discriminator takes for real.

    min over S, |S| = K   max over D   sum_i log D(x_i) + sum_{j in S} log(1 - D(G(theta_j))),

x_i real pictures, G a renderer with parameters theta (people, their models, motions and places; background
and light), a black box without gradients, S a part of a pool of N rendered scenes. In turns, S is fixed and
D learns to tell real from rendered, then D is fixed and S becomes the scenes with the highest scores; at
first S is everything, after the last round K scenes. Then the detector learns from S, and after that from
labelled real pictures where there are any. So a prior over theta that knows nothing moves to where the real,
rare cases are.

By `mode`:

    "select"   as above
    "steer"    the prior itself is learnt: p(theta) is the pool's distribution times exp(phi . f(theta)), with
               f the histogram bins that theta falls into. phi goes up E_p[(s - E_p s) grad log p], the score
               function's gradient with s = D's logits, estimated with scenes of the pool that are weighted
               by exp(phi . f); after each round the pool keeps these weights in the place of S.

The detector is RPN+: VGG-16 whose third, fourth and fifth block, brought to one size and one scale, give the
features of nine anchors per cell. VGG-16 begins with ImageNet weights, the detector's first two blocks keep
them (`feature_weights`). One fit() goes through rounds and detector; what was chosen is a network's state,
"selector", and is saved with the rest.

Reference: S. Huang, D. Ramanan, "Expecting the Unexpected: Training Detectors for Unusual Pedestrians with
Adversarial Imposters", CVPR 2017, arXiv:1703.06283; RPN+ as in the authors' code (RPNplus, train.py and
data_engine.py). Compared with it: layers and their first weights, which anchors are people's (overlap 0.5),
which are background (0.2) and how many of both count (42 and five times as many as people's), offsets (top
left corner and sides, times 5), the losses with their divisors, coupled weight decay of kernels, rates.

Choices where the paper leaves room: D is VGG-16's convolutions with the mean over the picture and a dense
layer; both kinds of pictures are blurred and get noise, so that it looks at scenes and not at the renderer's
edges; `crop_size` adds a second one for people that are cut out. K is a fifth of the pool. A scene's score is
the sum over rounds of D's logits, which are taken in a pass of the pool at the end of each round, in which D
rests; S shrinks from round to round, and what has left it stays out. (With S chosen anew from the whole pool
by the last D alone, it jumps to scenes that D has not met for a while: on the stand-in they were further from
the real ones after the second round than before the first.) "steer" reweighs the pool; to render anew from
what it found, draw from `prior` (see `tf_gan_zoo.scenes`).

Departures from the code: images with fewer than ten people's anchors take part, since S has been chosen; one
without any teaches nothing, as there. Boxes found are suppressed by intersection over union, not over the
smaller box, and cut off at the border instead of left out, as is usual where detectors are compared. Anchors
over the border count, as in effect there: the code lists those within, but never uses the list.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from pydantic import Field as Limits

from tf_gan_zoo import detection, random, replicas, scenes
from tf_gan_zoo.batch_spec import BatchSpec, Field, checked_images, image_field
from tf_gan_zoo.config import (
    Config,
    ConfigError,
    ImageSize,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    height_width,
)
from tf_gan_zoo.endpoints import Endpoint
from tf_gan_zoo.gan import GAN
from tf_gan_zoo.networks.vgg import (
    FeatureWeightsError,
    VGGInputs,
    describe_weights,
    load_vgg16,
    vgg16_maps,
)
from tf_gan_zoo.optimizers import CoupledDecaySGD
from tf_gan_zoo.registry import Paper, register

#: Height and width of the released code's anchors, in pixels.
ANCHORS = (
    (100.0, 100.0), (300.0, 300.0), (500.0, 500.0), (200.0, 100.0), (370.0, 185.0), (440.0, 220.0),
    (100.0, 200.0), (185.0, 370.0), (220.0, 440.0),
)  # fmt: skip
#: From anchors to people: of the top left corner and the sides, times 5.
OFFSETS = detection.BoxCode((0.2, 0.2, 0.2, 0.2), corner=True, largest=math.exp(4.0))
#: Blocks of the detector's VGG-16 that keep ImageNet weights.
_FROZEN_BLOCKS = 2
_UNSEEN = -100.0  # score of scenes that D has not looked at


@dataclass(frozen=True, kw_only=True)
class AdversarialImpostersConfig(Config):
    """The paper's pictures and the released detector.

    Attributes:
        mode: "select" or "steer", see above.
        num_pool: N, rendered scenes; the data must have as many.
        keep: K / N.
        num_rounds: of training D and choosing.
        round_steps: training steps of D in a round.
        detector_steps: steps of the detector on imposters; then
        finetune_steps: on real pictures and their boxes.
        num_scene_parameters, num_person_parameters, max_people: numbers of theta, see `scenes.Layout`.
        num_bins: of the histograms of theta.
        max_boxes: boxes of a picture in the data, some of them empty.
        backbone: of both networks: "vgg16" (stride 16) or "small" (stride 8), ours.
        feature_weights: VGG-16's at the beginning: "imagenet", the path of a Keras weights file, or None:
            random, with a warning; then the detector is trained whole.
        width: filters of the first convolution of the small ones.
        anchors: height and width of boxes around each cell, in pixels.
        head_std: standard deviation of the first weights behind the backbone.
        matched_overlap: from here on an anchor is a person's;
        free_overlap: up to here it is background.
        match_nearest: the anchor that overlaps a person most is the person's in any case, as in Faster R-CNN;
            for small images, whose people fit few anchors.
        num_sampled: anchors of an image that count in a step;
        background_ratio: of these, background at most so many times as many as people's.
        box_weight: of the box offsets' loss.
        noise_std: of the noise that D's inputs get, in pixel values.
        crop_size: pixels per side of people that a second discriminator judges, cut out of both kinds of
            pictures, so that the real ones need boxes, too; None for none.
        nms_threshold: of two boxes that overlap by more the better one stays.
        steer_learning_rate: of phi; `steer_decay`, of half its squared norm, ties p to the pool.
        augment: detectors train with pictures that are mirrored half of the time and get D's noise.
        compare: also train two detectors like the first, on K random scenes of the pool and on all.
        discriminator_learning_rate: of D's Adam.
        optimizer: of the detectors: "sgd" with momentum and coupled weight decay of the kernels, or "adam"
            (ours).
        learning_rate: of the detectors; a tenth from 70%, a hundredth from 90% of its steps on.
    """

    data: str = "scenes:precarious"
    batch_size: PositiveInt = 1
    epochs: PositiveInt = 1
    steps_per_epoch: PositiveInt | None = 40_478
    image_size: ImageSize = (720, 960)
    mode: Literal["select", "steer"] = "select"
    num_pool: PositiveInt = 8239
    keep: Annotated[float, Limits(gt=0, le=1)] = 0.2
    num_rounds: PositiveInt = 2
    round_steps: PositiveInt = 2000
    detector_steps: PositiveInt = 10_000
    finetune_steps: NonNegativeInt = 10_000
    num_scene_parameters: PositiveInt = 5
    num_person_parameters: PositiveInt = 9
    max_people: PositiveInt = 5
    num_bins: PositiveInt = 8
    max_boxes: PositiveInt = 16
    backbone: Literal["vgg16", "small"] = "vgg16"
    feature_weights: str | None = "imagenet"
    width: PositiveInt = 16
    anchors: tuple[tuple[PositiveFloat, PositiveFloat], ...] = ANCHORS
    head_std: PositiveFloat = 0.01
    matched_overlap: Annotated[float, Limits(gt=0, le=1)] = 0.5
    free_overlap: Annotated[float, Limits(ge=0, lt=1)] = 0.2
    match_nearest: bool = False
    num_sampled: PositiveInt = 256
    background_ratio: PositiveInt = 5
    box_weight: NonNegativeFloat = 0.5
    noise_std: NonNegativeFloat = 0.04
    crop_size: PositiveInt | None = None
    nms_threshold: Annotated[float, Limits(gt=0, lt=1)] = 0.7
    steer_learning_rate: PositiveFloat = 0.02
    steer_decay: NonNegativeFloat = 0.01
    augment: bool = False
    compare: bool = False
    discriminator_learning_rate: PositiveFloat = 1e-4
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: PositiveFloat = 1e-3
    momentum: Annotated[float, Limits(ge=0, lt=1)] = 0.9
    weight_decay: NonNegativeFloat = 5e-4

    def validate(self) -> None:
        if any(side % self.stride for side in height_width(self.image_size)):
            raise ConfigError(
                f"AdversarialImpostersConfig.image_size: {self.image_size} are no multiples of "
                f"{self.stride}, the backbone's stride."
            )
        if self.num_kept < 1:
            raise ConfigError(f"AdversarialImpostersConfig.keep: {self.keep} of {self.num_pool} is no scene.")
        if self.free_overlap > self.matched_overlap:
            raise ConfigError(
                f"AdversarialImpostersConfig.free_overlap: {self.free_overlap} must not be above "
                f"matched_overlap ({self.matched_overlap})."
            )
        if self.num_sampled <= self.background_ratio:
            raise ConfigError(
                f"AdversarialImpostersConfig.num_sampled: {self.num_sampled} leaves people no anchor beside "
                f"{self.background_ratio} of the background. Use at least {self.background_ratio + 1}."
            )

    @property
    def stride(self) -> int:
        """Pixels from cell to cell of the detector's map."""
        return 16 if self.backbone == "vgg16" else 8

    @property
    def frozen_blocks(self) -> int:
        """Blocks of the detector's VGG-16 that are not trained: none that would stay random."""
        return _FROZEN_BLOCKS if self.feature_weights else 0

    @property
    def num_kept(self) -> int:
        """K."""
        return round(self.keep * self.num_pool)

    @property
    def layout(self) -> scenes.Layout:
        return scenes.Layout(self.num_scene_parameters, self.num_person_parameters, self.max_people)

    @property
    def scoring_steps(self) -> int:
        """Steps at the end of a round in which D rests and the pool is gone through once."""
        return -(-self.num_pool // self.batch_size)

    @property
    def selection_steps(self) -> int:
        """Steps of all rounds."""
        return self.num_rounds * (self.round_steps + self.scoring_steps)


@register(
    "adversarial_imposters",
    task="features",
    paper=Paper(
        "Expecting the Unexpected: Training Detectors for Unusual Pedestrians with Adversarial Imposters",
        "S. Huang, D. Ramanan", 2017, "1703.06283",
    ),
    tiny={
        "image_size": 16, "backbone": "small", "width": 4, "anchors": ((8.0, 8.0), (12.0, 6.0)),
        "num_pool": 4, "keep": 0.5, "num_rounds": 1, "round_steps": 1, "detector_steps": 1,
        "finetune_steps": 1, "num_scene_parameters": 2, "num_person_parameters": 2, "max_people": 2,
        "max_boxes": 2, "num_sampled": 12, "match_nearest": True, "head_std": 0.3, "optimizer": "adam",
        "batch_size": 4,
    },
)  # fmt: skip
class AdversarialImposters(GAN):
    """Chooses scenes and trains a detector; images are (batch, height, width, 3) in [-1, 1].

        found = model.detect(images)           # scores (batch, 50) and boxes (batch, 50, 4)
        model.realism(images)                  # D's logits: high for what looks real
        model.select(400)                      # numbers of the imposters in the pool, best first
        model.imposters(400)                   # their parameters
        model.prior("streets").sample(16)      # parameters of new scenes like the imposters

    Boxes are top, left, bottom, right as parts of the height and width. Logs: d_loss, real_score and
    pool_score (mean logits, those of the pool by its weights), and class_loss and box_loss of the detector.
    What a phase does not train is 0.
    """

    config_cls = AdversarialImpostersConfig
    view = "imposters"
    public_name = "detector"
    log_names = ("d_loss", "real_score", "pool_score", "class_loss", "box_loss")
    _has_features = False

    def build_networks(self, config: AdversarialImpostersConfig) -> dict[str, keras.Model]:
        networks = {"discriminator": build_discriminator(config)}
        if config.crop_size:
            networks["person_discriminator"] = build_person_discriminator(config)
        networks["detector"] = build_detector(config)
        if config.compare:
            networks |= {name: build_detector(config, name) for name in ("random_detector", "all_detector")}
        if config.mode == "steer":
            networks["tilt"] = build_tilt(config)
        return {**networks, "selector": build_selector(config)}

    @property
    def players(self) -> dict[str, tuple[str, ...]]:
        judges = tuple(name for name in self._network_names if name.endswith("discriminator"))
        others = {name: (name,) for name in self._network_names if name not in (*judges, "selector")}
        return {"discriminator": judges, **others}

    @property
    def detectors(self) -> tuple[str, ...]:
        """Names of the detectors."""
        return tuple(name for name in self._network_names if name.endswith("detector"))

    @property
    def pool(self) -> PoolState:
        """What is known of the pool's scenes."""
        return self.selector.get_layer("pool")

    @property
    def phases(self) -> tuple[tuple[str, int], ...]:
        c = self.config
        first = c.selection_steps
        finetuning = (("finetune", first + c.detector_steps),) if c.finetune_steps else ()
        return (("selection", 0), ("detector", first), *finetuning)

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c = self.config
        if player == "discriminator":
            return keras.optimizers.Adam(c.discriminator_learning_rate, beta_1=0.5, epsilon=1e-8)
        if player == "tilt":
            return keras.optimizers.Adam(c.steer_learning_rate, epsilon=1e-8)
        steps, first = [n for n in (c.detector_steps, c.finetune_steps) if n], 0
        ends, rates = [], []
        for count in steps:
            ends += [first + int(part * count) for part in (0.7, 0.9, 1.0)]
            rates += [c.learning_rate * k for k in (1.0, 0.1, 0.01)]
            first += count
        rate = keras.optimizers.schedules.PiecewiseConstantDecay(ends[:-1], rates)
        if c.optimizer == "adam":
            return keras.optimizers.Adam(rate, epsilon=1e-8)
        return CoupledDecaySGD(rate, momentum=c.momentum, decay=c.weight_decay)

    @property
    def batch_spec(self) -> BatchSpec:
        c = self.config
        images, boxes = image_field(height_width(c.image_size), 3), Field((c.max_boxes, 4), (0.0, 1.0))
        thetas = Field((c.layout.size,), (-1.0, 1.0))
        return BatchSpec(
            images=images, boxes=boxes, pool_images=images, pool_boxes=boxes, thetas=thetas,
            indices=Field((), (0, c.num_pool - 1), "int32"),
            real_thetas=Field((c.layout.size,), (-1.0, 1.0), optional=True),
        )  # fmt: skip

    @property
    def data_keywords(self) -> dict[str, Any]:
        return {"num_pool": self.config.num_pool, "max_boxes": self.config.max_boxes}

    @property
    def _has_vgg(self) -> bool:
        return self.config.backbone == "vgg16"

    def before_training(self, last_step: int | None) -> None:
        """Loads VGG-16's weights into networks that have neither been trained nor loaded.

        Raises:
            FeatureWeightsError: if they cannot be loaded.
        """
        weights = self.config.feature_weights
        if self._has_vgg and weights:
            with self.distribute_strategy.scope():
                load_vgg16([getattr(self, name) for name in ("discriminator", *self.detectors)], weights)
            self._has_features = True
        elif self._has_vgg and int(self.step.numpy()) == 0:
            warnings.warn(
                "feature_weights=None: VGG-16 begins with random weights, and the detector is trained whole. "
                "Results are not the paper's; give feature_weights='imagenet' or a file.",
                stacklevel=2,
            )

    def _check_features(self) -> None:
        if self._has_vgg and self.config.feature_weights and not self._has_features:
            raise FeatureWeightsError(
                "VGG-16's weights have not been loaded. fit() does so before it starts; without it, call "
                "model.before_training(None) first."
            )

    def training_notes(self) -> dict[str, str]:
        """Which weights VGG-16 began with, and what of it was trained."""
        if not self._has_vgg:
            return {}
        blocks = f"first {self.config.frozen_blocks}" if self.config.frozen_blocks else "none"
        return {
            "features": describe_weights(self.config.feature_weights, "VGG16"),
            "frozen blocks of the detector": blocks,
        }

    # ---------------------------------------------------------------- choosing

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        self._check_features()
        if self.phase == "selection":
            return self._selection_step(batch)
        pool = self.phase == "detector"
        images, boxes = batch["pool_images" if pool else "images"], batch["pool_boxes" if pool else "boxes"]
        images, boxes = self._augmented(images, boxes)
        logs = {}
        for name in self.detectors:
            weights = self._weights_for(name, batch["indices"]) if pool else tf.ones(tf.shape(images)[:1])
            with tf.GradientTape() as tape:
                losses = self._detection_losses(name, images, boxes, weights, "anchors", training=True)
                loss = losses["class_loss"] + self.config.box_weight * losses["box_loss"]
            self.update(name, tape, loss)
            logs = logs or losses
        return self._log(**logs)

    def _augmented(self, images: tf.Tensor, boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Pictures and boxes as detectors see them in training."""
        if not self.config.augment:
            return images, boxes
        mirrored = self.random_uniform("mirrored", (tf.shape(images)[0], 1, 1, 1)) < 0.5
        top, left, bottom, right = tf.unstack(boxes, axis=-1)
        there = tf.cast(right > left, tf.float32)
        others = tf.stack([top, there * (1.0 - right), bottom, there * (1.0 - left)], axis=-1)
        noise = self.random_normal("noise", tf.unstack(tf.shape(images)))
        images = tf.where(mirrored, images[:, :, ::-1], images) + self.config.noise_std * noise
        return images, tf.where(mirrored[:, 0], others, boxes)

    def _selection_step(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One step of D, or of the pass over the pool that ends a round; the pool's last step chooses."""
        c, count = self.config, tf.shape(batch["images"])[0]
        position = self.step.value % (c.round_steps + c.scoring_steps)
        noise = self.random_normal("noise", (count, 2, *batch["images"].shape[1:]))
        with tf.GradientTape() as tape:
            logs, loss, _ = self._judged(batch, c.noise_std * noise, training=True)
        self.update("discriminator", tape, loss, when=position < c.round_steps)
        scores = self._judged(batch, tf.zeros((count, 2, 1, 1, 1)), training=False)[2]
        if c.mode == "steer":
            self._steer(batch["thetas"], scores)
        self._remember(batch, scores)
        self._choose(when=tf.equal(position + 1, c.round_steps + c.scoring_steps))
        return self._log(**logs)

    def _judged(
        self, batch: Mapping[str, tf.Tensor], noise: tf.Tensor, training: bool
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor, tf.Tensor]:
        """What is logged, D's loss, and the scores of the pool's pictures, (batch,).

        A scene's score is its picture's logit and, with a second discriminator, those of its people.
        """
        weights = self.selector(batch["indices"])
        images = batch["images"] + noise[:, 0], batch["pool_images"] + noise[:, 1]
        real, fake = (self.discriminator(x, training=training)[:, 0] for x in images)
        d_loss = tf.reduce_mean(tf.nn.softplus(-real)) + tf.reduce_mean(weights * tf.nn.softplus(fake))
        logs = {
            "d_loss": d_loss,
            "real_score": tf.reduce_mean(real),
            "pool_score": tf.reduce_mean(weights * fake),
        }
        if not self.config.crop_size:
            return logs, d_loss, fake
        boxes = batch["boxes"], batch["pool_boxes"]
        (real, there), (people, seen) = (
            self._judged_people(*both, training=training) for both in zip(images, boxes)
        )
        shares = [mask / replicas.mean(tf.reduce_mean(mask)) for mask in (there, seen * weights[:, None])]
        loss = tf.reduce_mean(shares[0] * tf.nn.softplus(-real))
        loss += tf.reduce_mean(shares[1] * tf.nn.softplus(people))
        return logs, d_loss + loss, fake + tf.reduce_sum(people * seen, axis=1)

    def _judged_people(
        self, images: tf.Tensor, boxes: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Logits of the people in boxes (batch, num, 4), and 1 where there is one, both (batch, num)."""
        count, number = tf.shape(images)[0], self.config.max_boxes
        there = tf.cast(tf.reduce_all(boxes[..., 2:] > boxes[..., :2], axis=-1), tf.float32)
        size = (self.config.crop_size, self.config.crop_size)
        owners = tf.repeat(tf.range(count), number)
        crops = tf.image.crop_and_resize(images, tf.reshape(boxes, (-1, 4)), owners, size)
        mean, variance = tf.nn.moments(crops, axes=[1, 2, 3], keepdims=True)  # light is the picture's matter
        crops = (crops - mean) / tf.sqrt(variance + 1e-3)
        logits = self.person_discriminator(crops, training=training)
        return tf.reshape(logits, (count, number)), there

    def _steer(self, thetas: tf.Tensor, scores: tf.Tensor) -> None:
        """Moves phi up the score function's gradient of E_p[s]."""
        with tf.GradientTape() as tape:
            exponents = self.tilt(thetas, training=True)[:, 0]
            likelihoods = tf.stop_gradient(tf.exp(tf.minimum(exponents, 20.0)))
            shares = likelihoods / replicas.mean(tf.reduce_mean(likelihoods))
            baseline = replicas.mean(tf.reduce_mean(shares * scores))
            gain = tf.reduce_mean(tf.stop_gradient(shares * (scores - baseline)) * exponents)
            size = tf.add_n([tf.reduce_sum(tf.square(v)) for v in self.player_variables("tilt")])
            loss = 0.5 * self.config.steer_decay * size - gain
        self.update("tilt", tape, loss)

    def _remember(self, batch: Mapping[str, tf.Tensor], scores: tf.Tensor) -> None:
        """Notes scores and parameters of all replicas' scenes."""
        indices, thetas, scores = (
            replicas.gather(tf.stop_gradient(v)) for v in (batch["indices"], batch["thetas"], scores)
        )
        order = tf.range(tf.size(indices))
        same = indices[:, None] == indices[None, :]
        last = tf.reduce_max(tf.where(same, order[None, :], -1), axis=1)  # one that comes twice: the later
        for variable, values in ((self.pool.scores, scores), (self.pool.thetas, thetas)):
            known = tf.convert_to_tensor(variable.value)
            updated = tf.tensor_scatter_nd_update(known, indices[:, None], tf.gather(values, last))
            variable.assign(updated)

    def _choose(self, when: tf.Tensor) -> None:
        """Adds a round's scores to those of the rounds before and weighs the scenes anew."""
        c, pool = self.config, self.pool
        totals = pool.totals.value + tf.where(when, pool.scores.value, 0.0)
        if c.mode == "select":
            ranked = tf.where(pool.weights_of_scenes.value > 0, totals, -np.inf)
            ranks = tf.argsort(tf.argsort(ranked, direction="DESCENDING"))
            weights = self._equal_weights(ranks < self._num_kept_now())
        else:
            exponents = self.tilt(pool.thetas.value, training=False)[:, 0]
            weights = tf.nn.softmax(exponents) * c.num_pool
        pool.totals.assign(totals)
        pool.weights_of_scenes.assign(tf.where(when, weights, pool.weights_of_scenes.value))

    def _num_kept_now(self) -> tf.Tensor:
        """Scenes that are left after the round that this step belongs to, falling geometrically to K."""
        c = self.config
        rounds = tf.cast(self.step.value // (c.round_steps + c.scoring_steps) + 1, tf.float32)
        left = tf.pow(c.num_kept / c.num_pool, tf.minimum(rounds / c.num_rounds, 1.0))
        return tf.cast(tf.round(left * c.num_pool), tf.int32)

    def _equal_weights(self, chosen: tf.Tensor) -> tf.Tensor:
        """0, but the same for the chosen scenes, booleans (num_pool,): (num_pool,) with mean 1."""
        chosen = tf.cast(chosen, tf.float32)
        return chosen / tf.reduce_mean(chosen)

    def _weights_for(self, detector: str, indices: tf.Tensor) -> tf.Tensor:
        """How much scenes (batch,) count in a detector's training."""
        if detector == "all_detector":
            return tf.ones(tf.shape(indices))
        if detector == "random_detector":
            draws = random.global_uniform((self.config.num_pool,), random.make_seed(self.config.seed, "pool"))
            ranks = tf.argsort(tf.argsort(draws))
            return tf.gather(self._equal_weights(ranks < self.config.num_kept), indices)
        return self.selector(indices)

    # ---------------------------------------------------------------- detecting

    @functools.cached_property
    def _anchors(self) -> np.ndarray:
        c = self.config
        return detection.anchors(height_width(c.image_size), c.stride, c.anchors)

    def _detection_losses(
        self, name: str, images: tf.Tensor, boxes: tf.Tensor, weights: tf.Tensor, draw: str, training: bool
    ) -> dict[str, tf.Tensor]:
        """Cross-entropy of sampled anchors and smooth L1 of people's offsets, by the images' weights.

        Each is the mean over those of its image that it is about.
        """
        logits, offsets = getattr(self, name)(images, training=training)
        draws = self.random_uniform(draw, (tf.shape(images)[0], len(self._anchors)))
        person, sampled, targets = matched_anchors(self._anchors, boxes, draws, self.config)
        errors = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(person, tf.int32), logits)
        distances = detection.smooth_l1(offsets - targets)
        return {
            "class_loss": tf.reduce_mean(weights * _mean_of(errors, sampled)),
            "box_loss": tf.reduce_mean(weights * _mean_of(distances, person & sampled)),
        }

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        if self.phase == "selection":
            count = tf.shape(batch["images"])[0]
            return self._log(**self._judged(batch, tf.zeros((count, 2, 1, 1, 1)), training=False)[0])
        weights = tf.ones(tf.shape(batch["images"])[:1])
        return self._log(**self._detection_losses(
            "detector", batch["images"], batch["boxes"], weights, "validation", training=False
        ))  # fmt: skip

    def _log(self, **scalars: tf.Tensor) -> dict[str, tf.Tensor]:
        return self.log(**{**dict.fromkeys(self.log_names, 0.0), **scalars})

    # ---------------------------------------------------------------- inference

    def detect(
        self, images: Any, num_boxes: int = 50, batch_size: int = 8, network: str = "detector"
    ) -> dict[str, np.ndarray]:
        """People in pictures.

        Args:
            images: (batch, height, width, 3) in [-1, 1].
            num_boxes: at most so many of a picture.
            batch_size: pictures per call of the network.
            network: the name of another detector that was trained for comparison.

        Returns:
            "scores" (batch, num_boxes), probabilities, falling, 0 where there are no more; "boxes"
            (batch, num_boxes, 4).

        Raises:
            BatchError: for images that do not fit.
        """
        images = checked_images(images, self.batch_spec["images"])
        logits, offsets = self.run(images, batch_size, network)
        scores = tf.nn.softmax(logits)[..., 1].numpy()
        boxes = OFFSETS.decode(tf.constant(offsets), tf.constant(self._anchors)).numpy()
        scores, boxes = detection.suppressed(scores, boxes, num_boxes, self.config.nms_threshold)
        return {"scores": scores, "boxes": boxes}

    def realism(self, images: Any, batch_size: int = 32) -> np.ndarray:
        """D's logits of pictures, (batch,): high for what looks real.

        Raises:
            BatchError: for images that do not fit.
        """
        images = checked_images(images, self.batch_spec["images"])
        return np.asarray(self.run(images, batch_size, "discriminator"))[:, 0]

    def select(self, count: int | None = None) -> np.ndarray:
        """Numbers of the pool's scenes with the largest weights, then scores, best first; K by default."""
        state = np.asarray(self.pool.weights_of_scenes), np.asarray(self.pool.totals)
        order = np.lexsort((-state[1], -state[0]))
        return order[: self.config.num_kept if count is None else count]

    def imposters(self, count: int | None = None) -> np.ndarray:
        """Parameters of the scenes that `select` names, (count, layout.size)."""
        return np.asarray(self.pool.thetas)[self.select(count)]

    def prior(self, renderer: str) -> scenes.Prior:
        """What the chosen scenes are drawn from: a prior like the renderer's, fitted to their parameters.

        Raises:
            KeyError: if no renderer has this name.
        """
        like = scenes.RENDERERS[renderer].prior
        return scenes.Prior.fitted(np.asarray(self.pool.thetas), like, self.pool.weights_of_scenes.numpy())

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        pictures = {"images": (-1.0, 1.0)}
        notes = {
            "boxes": "of all anchors: top, left, bottom, right as parts of the height and width",
            "scores": "probabilities of a person; of boxes that overlap much keep the best",
        }
        realism = {"realism": "high for what looks real"}
        return {
            "detect": Endpoint(self._exported_detector, pictures, notes=notes),
            "score": Endpoint(self.discriminator, pictures, notes=realism),
        }

    @functools.cached_property
    def _exported_detector(self) -> keras.Model:
        """Images -> scores and boxes of all anchors."""
        c = self.config
        images = keras.Input((*height_width(c.image_size), 3), name="images")
        logits, offsets = self.detector(images)
        scores = layers.Activation("linear", dtype="float32", name="scores")(
            layers.Softmax(dtype="float32")(logits)[..., 1]
        )
        boxes = AnchoredBoxes(height_width(c.image_size), c.stride, c.anchors, dtype="float32", name="boxes")
        return keras.Model(images, [scores, boxes(offsets)], name="exported_detector")

    def held_out_pictures(self, held_out: Mapping[str, np.ndarray]) -> np.ndarray:
        """Three rows: real pictures, pictures of the pool, imposters: (3, height, columns * width, 3).

        Imposters are rendered where the data's renderer is known, else they are the pool's most real ones.
        """
        size, count = height_width(self.config.image_size), len(held_out["images"])
        renderer = scenes.RENDERERS.get(self.config.data.partition(":")[0])
        if renderer:
            best = renderer.render(self.imposters(count), size)[0].astype("float32") / 127.5 - 1.0
        else:
            best = held_out["pool_images"][np.argsort(-self.realism(held_out["pool_images"]))]
        factor = max(96 // size[0], 1)
        rows = [held_out["images"], held_out["pool_images"], best]
        rows = [np.concatenate(list(row), axis=1) for row in rows]
        return np.stack([np.kron(row, np.ones((factor, factor, 1))) for row in rows])

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """How good the detector is on held-out real pictures, and how near imposters are to real scenes.

        Returns:
            average_precision, miss_rate: see `detection.detection_metrics`; with `compare` their baselines
                are a detector trained on as many random scenes, `..._all` one trained on the whole pool;
            theta_distance: total variation of the chosen scenes' parameters and the real ones' (where the
                examples have "real_thetas"), mean over the parameters; its baseline is the whole pool's;
            theta_entropy: of the chosen scenes' parameters, in nats.
        """
        images, boxes = np.asarray(examples["images"]), np.asarray(examples["boxes"])
        suffixes = {"detector": "", "random_detector": "_baseline", "all_detector": "_all"}
        results = {}
        for name in self.detectors:
            found = self.detect(images, batch_size=64, network=name)
            numbers = detection.detection_metrics(found["scores"], found["boxes"], boxes)
            results |= {f"{key}{suffixes[name]}": value for key, value in numbers.items()}
        return results | self._theta_metrics(examples.get("real_thetas"))

    def _theta_metrics(self, real_thetas: np.ndarray | None) -> dict[str, float]:
        c, thetas = self.config, np.asarray(self.pool.thetas)
        weights = np.asarray(self.pool.weights_of_scenes)
        seen = np.asarray(self.pool.scores) > _UNSEEN
        if not seen.any():
            thetas, seen = np.zeros_like(thetas), np.ones_like(seen)
        table = functools.partial(scenes.histograms, layout=c.layout, num_bins=c.num_bins)
        chosen, everything = table(thetas[seen], weights=weights[seen]), table(thetas[seen])
        results = {"theta_entropy": scenes.entropy(chosen)}
        if real_thetas is not None and np.max(real_thetas) >= 0:  # else nobody knows them
            real = table(np.asarray(real_thetas))
            results["theta_distance"] = scenes.total_variation(chosen, real)
            results["theta_distance_baseline"] = scenes.total_variation(everything, real)
        return results


def matched_anchors(
    anchors: np.ndarray, boxes: tf.Tensor, draws: tf.Tensor, config: AdversarialImpostersConfig
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Which anchors are people, which count, and where the people are.

    Of people's and of the background's anchors the ones with the smallest draws count, up to `num_sampled`,
    the background's at most `background_ratio` times as many as people's.

    Args:
        anchors: (num, 4).
        boxes: (batch, objects, 4), those without sides are none.
        draws: (batch, num), uniform.
        config: says which overlaps make an anchor a person's or the background's.

    Returns:
        booleans (batch, num) twice, and offsets (batch, num, 4).
    """
    c = config
    references = tf.constant(anchors)
    there = tf.reduce_all(boxes[..., 2:] > boxes[..., :2], axis=-1)
    overlaps = detection.iou(references[None], boxes) * tf.cast(there, tf.float32)[:, None]
    best = tf.reduce_max(overlaps, axis=2)
    person = best >= c.matched_overlap
    if c.match_nearest:
        most = tf.reduce_max(overlaps, axis=1, keepdims=True)
        person |= tf.reduce_any((overlaps >= most) & (overlaps > 0), axis=2)
    free = (best <= c.free_overlap) & ~person
    taken = _first(person, draws, tf.fill(tf.shape(draws)[:1], c.num_sampled // (c.background_ratio + 1)))
    number = tf.reduce_sum(tf.cast(taken, tf.int32), axis=1)
    rest = _first(free, draws, tf.minimum(c.num_sampled - number, c.background_ratio * number))
    own = tf.gather(boxes, tf.argmax(overlaps, axis=2), batch_dims=1)
    return person, taken | rest, OFFSETS.encode(own, references[None])


def _mean_of(values: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """Each row's mean of the chosen values, both (batch, num); 0 where none is."""
    chosen = tf.cast(chosen, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(values * chosen, axis=1), tf.reduce_sum(chosen, axis=1))


def _first(candidates: tf.Tensor, draws: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """The `count` (batch,) candidates (batch, num) of each row with the smallest draws."""
    ranks = tf.argsort(tf.argsort(tf.where(candidates, draws, 2.0), axis=1), axis=1)
    return candidates & (ranks < count[:, None])


# -------------------------------------------------------------------- networks


@keras.saving.register_keras_serializable("tf_gan_zoo")
class PoolState(layers.Layer):
    """What is known of a pool of scenes; numbers of scenes (batch,) -> their weights (batch,).

    Args:
        num_pool: scenes.
        theta_size: numbers in a scene's parameters.
    """

    def __init__(self, num_pool: int, theta_size: int, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.num_pool, self.theta_size = num_pool, theta_size
        kept = {"trainable": False, "dtype": "float32"}
        self.weights_of_scenes = self.add_weight((num_pool,), "ones", name="weights", **kept)
        unseen = keras.initializers.Constant(_UNSEEN)
        self.scores = self.add_weight((num_pool,), unseen, name="scores", **kept)
        self.totals = self.add_weight((num_pool,), "zeros", name="totals", **kept)
        self.thetas = self.add_weight((num_pool, theta_size), "zeros", name="thetas", **kept)

    def call(self, indices: tf.Tensor) -> tf.Tensor:
        return tf.gather(tf.convert_to_tensor(self.weights_of_scenes.value), indices)

    def compute_output_spec(self, indices: keras.KerasTensor) -> keras.KerasTensor:
        return keras.KerasTensor(indices.shape, dtype="float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_pool": self.num_pool, "theta_size": self.theta_size}


@keras.saving.register_keras_serializable("tf_gan_zoo")
class ThetaBins(layers.Layer):
    """Parameters of scenes (batch, size) -> the bins that they fall into (batch, parameters * bins).

    A scene's own parameters give ones; those of its people the share of people in each bin.

    Args:
        layout: of the rows, see `scenes.Layout`.
        num_bins: equal parts of [0, 1].
    """

    def __init__(self, layout: Any, num_bins: int, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.layout, self.num_bins = scenes.Layout(*layout), num_bins

    def call(self, thetas: tf.Tensor) -> tf.Tensor:
        scene, people = thetas[:, : self.layout.scene], thetas[:, self.layout.scene :]
        people = tf.reshape(people, (-1, self.layout.people, self.layout.person))
        there = tf.cast(people[:, :, 0] >= 0, tf.float32)
        shares = there / tf.maximum(tf.reduce_sum(there, axis=1, keepdims=True), 1.0)
        mixed = tf.reduce_sum(self._bins(people) * shares[:, :, None, None], axis=1)
        both = tf.concat([self._bins(scene), mixed], axis=1)
        return tf.reshape(both, (-1, self.layout.num_parameters * self.num_bins))

    def _bins(self, values: tf.Tensor) -> tf.Tensor:
        last = self.num_bins - 1
        return tf.one_hot(tf.clip_by_value(tf.cast(values * self.num_bins, tf.int32), 0, last), last + 1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], self.layout.num_parameters * self.num_bins)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "layout": list(self.layout), "num_bins": self.num_bins}


@keras.saving.register_keras_serializable("tf_gan_zoo")
class AnchoredBoxes(layers.Layer):
    """Offsets (batch, num, 4) -> boxes (batch, num, 4) of the anchors of `detection.anchors`."""

    def __init__(self, image_size: Any, stride: int, sizes: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.image_size, self.stride = tuple(image_size), stride
        self.sizes = tuple(tuple(size) for size in sizes)

    def call(self, offsets: tf.Tensor) -> tf.Tensor:
        anchors = detection.anchors(self.image_size, self.stride, self.sizes)
        return OFFSETS.decode(offsets, tf.constant(anchors)[None])

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        own = {"image_size": list(self.image_size), "stride": self.stride}
        return {**super().get_config(), **own, "sizes": [list(size) for size in self.sizes]}


@keras.saving.register_keras_serializable("tf_gan_zoo")
class MatchedScale(layers.Layer):
    """[x, reference], maps (batch, h, w, channels) -> x with the reference's root mean square, times gamma.

    Args:
        initial_gamma: gamma, one learnt number, at the beginning.
    """

    def __init__(self, initial_gamma: float, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.initial_gamma = initial_gamma

    def build(self, input_shape: Any) -> None:
        self.gamma = self.add_weight((), keras.initializers.Constant(self.initial_gamma), name="gamma")

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        own, wanted = (tf.reduce_mean(tf.square(x), axis=[1, 2, 3], keepdims=True) for x in inputs)
        return inputs[0] * tf.sqrt((wanted + 1e-6) / (own + 1e-6)) * self.gamma

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return tuple(input_shape[0])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "initial_gamma": self.initial_gamma}


@keras.saving.register_keras_serializable("tf_gan_zoo")
class Blur(layers.Layer):
    """Pictures (batch, height, width, channels) weighted by 1, 2, 1 down and across."""

    def call(self, images: tf.Tensor) -> tf.Tensor:
        kernel = np.outer([1, 2, 1], [1, 2, 1]).astype("float32") / 16
        kernel = np.repeat(kernel[..., None, None], images.shape[-1], axis=2)
        return tf.nn.depthwise_conv2d(images, tf.constant(kernel), (1, 1, 1, 1), "SAME")

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape


def build_discriminator(config: AdversarialImpostersConfig) -> keras.Model:
    """Images -> logits (batch, 1), called "realism". They are blurred first."""
    images = keras.Input((*height_width(config.image_size), 3), name="images")
    x = Blur(dtype="float32")(images)
    if config.backbone == "vgg16":
        x = vgg16_maps(VGGInputs(dtype="float32", name="preprocessing")(x))[-1]
    else:
        for factor in (1, 2, 4, 8):
            x = layers.Conv2D(factor * config.width, 4, 2, padding="same")(x)
            x = layers.LeakyReLU(0.2)(x)
    x = layers.GlobalAveragePooling2D()(x)
    logits = layers.Dense(1, dtype="float32", name="realism")(x)
    return keras.Model(images, logits, name="discriminator")


def build_person_discriminator(config: AdversarialImpostersConfig) -> keras.Model:
    """People (batch, crop_size, crop_size, 3) of mean 0 and variance 1 -> logits (batch, 1)."""
    x = people = keras.Input((config.crop_size, config.crop_size, 3), name="people")
    for factor in (1, 2, 4):
        x = layers.LeakyReLU(0.2)(layers.Conv2D(factor * config.width, 4, 2, padding="same")(x))
    logits = layers.Dense(1, dtype="float32", name="logits")(layers.Flatten()(x))
    return keras.Model(people, logits, name="person_discriminator")


def build_detector(config: AdversarialImpostersConfig, name: str = "detector") -> keras.Model:
    """RPN+: images -> logits (batch, anchors, 2) of nobody and somebody, offsets (batch, anchors, 4)."""
    images = keras.Input((*height_width(config.image_size), 3), name="images")
    if config.backbone == "vgg16":
        inputs = VGGInputs(dtype="float32", name="preprocessing")(images)
        maps = vgg16_maps(inputs, config.frozen_blocks)[2:]
    else:
        maps = _small(images, config.width)
    low, middle, high = maps
    low = MatchedScale(2**0.5)([layers.MaxPooling2D(2)(low), high])
    middle = MatchedScale(1.0)([middle, high])
    columns = [
        layers.Conv2D(x.shape[-1], (5, 2), padding="same", activation="relu", **_head(config))(x)
        for x in (low, middle, high)
    ]
    x = layers.Concatenate()(columns)
    outputs = []
    for name_of, size in (("logits", 2), ("offsets", 4)):
        made = layers.Conv2D(size * len(config.anchors), 1, dtype="float32", **_head(config))(x)
        outputs.append(layers.Reshape((-1, size), dtype="float32", name=name_of)(made))
    return keras.Model(images, outputs, name=name)


def _head(config: AdversarialImpostersConfig) -> dict[str, keras.initializers.Initializer]:
    """First weights of one of the head's layers."""
    return {"kernel_initializer": keras.initializers.RandomNormal(stddev=config.head_std)}


def _small(x: keras.KerasTensor, width: int) -> list[keras.KerasTensor]:
    """Four convolutions: maps of stride 4, 8 and 8; ours, for small pictures."""
    maps = []
    options = {"padding": "same", "activation": "relu", "kernel_initializer": "he_normal"}
    for factor, pooled in ((1, True), (2, True), (4, True), (4, False)):
        x = layers.Conv2D(factor * width, 3, **options)(x)
        x = layers.MaxPooling2D(2)(x) if pooled else x
        maps.append(x)
    return maps[1:]


def build_tilt(config: AdversarialImpostersConfig) -> keras.Model:
    """Parameters (batch, size) -> exponents (batch, 1): how much likelier than in the pool."""
    thetas = keras.Input((config.layout.size,), name="thetas")
    bins = ThetaBins(config.layout, config.num_bins)(thetas)
    exponents = layers.Dense(1, use_bias=False, kernel_initializer="zeros", dtype="float32", name="exponents")
    return keras.Model(thetas, exponents(bins), name="tilt")


def build_selector(config: AdversarialImpostersConfig) -> keras.Model:
    """Numbers of scenes (batch,) -> their weights (batch,)."""
    indices = keras.Input((), dtype="int32", name="indices")
    weights = PoolState(config.num_pool, config.layout.size, name="pool")(indices)
    return keras.Model(indices, weights, name="selector")
