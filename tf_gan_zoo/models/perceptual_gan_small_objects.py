"""Perceptual GAN: features of small objects made like those of large ones, so that a detector knows them.

    G(l, f) = f + R(l)
    D_a minimises  -log D_a(f_large) - log(1 - D_a(G(l, f_small)))
    G minimises    -log D_a(G(l, f_small)) + L_cls + [g >= 1] L_loc

f are the features of a region in a deep layer of a frozen backbone, l those of an early layer, which still
has the details. R is a residual network: where it is 0, the plain detector is left. The discriminator has two
branches, both fully connected: the adversarial one, D_a, and the perception branch, which is the detector's
head: class scores and boxes by class, with losses L_cls (cross-entropy) and L_loc (smooth L1, for regions on
an object of class g). Only features of large objects count as real.

Training: first the backbone and the perception branch (`detector_steps`; on large objects, or on all); then G
on small objects by the detector's losses (`pretrain_steps`); then in turns D_a, the perception branch if
`train_perception`, and G. Regions are given: boxes of the data, moved and stretched a little, and others that
hold no object. At inference G works on every region.

Backbones: "vgg_cnn_m_1024" (what re-implementations use), "small", the name of a model in
`keras.applications` or the path of a Keras file with a model; the latter two with `low_layer` and
`high_layer`. For VGG16: `backbone="VGG16", low_layer="block1_conv2", high_layer="block5_conv3", roi_size=7,
fc_units=(4096, 4096), backbone_weights="imagenet"`.

Reference: J. Li, X. Liang, Y. Wei, T. Xu, J. Feng, S. Yan, "Perceptual Generative Adversarial Networks for
Small Object Detection", CVPR 2017, arXiv:1706.05274, section 3 and figure 3.

Choices where the paper leaves room: six residual blocks with batch normalisation, D_a's layers 4096, 1024, 1
and G's 3x3 convolution with 256 channels and stride 2, as in re-implementations; box offsets are divided by
(0.1, 0.1, 0.2, 0.2), as in Fast R-CNN's code. There is no released code; its re-implementations are Detectron
forks. Departures: regions are aligned (Mask R-CNN) instead of pooled by maxima; there is no proposal network;
the middle sizes train the detector alone; biases learn at the rate of kernels (Detectron: twice it).
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from pydantic import Field as Limits

from tf_gan_zoo import detection
from tf_gan_zoo.batch_spec import BatchError, BatchSpec, Field, checked_images, image_field
from tf_gan_zoo.config import (
    Channels,
    Config,
    ConfigError,
    ImageSize,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Repeats,
    height_width,
)
from tf_gan_zoo.endpoints import Endpoint
from tf_gan_zoo.gan import GAN
from tf_gan_zoo.layers import BatchToRegions, LocalResponseNormalization, RegionsToBatch, RoIAlign
from tf_gan_zoo.networks.vgg import VGGInputs, describe_weights
from tf_gan_zoo.optimizers import CoupledDecaySGD
from tf_gan_zoo.paths import expand
from tf_gan_zoo.registry import Paper, register

#: From regions to their objects' boxes, as in Fast R-CNN's code.
OFFSETS = detection.BoxCode((0.1, 0.1, 0.2, 0.2))
#: How far a region of training lies beside its object's box, in parts of its sides, and log of its scale.
_SHIFT, _STRETCH = 0.1, 0.15
#: Sides of regions without an object, as parts of the picture's; those that overlap more count for nothing.
_BACKGROUND_SIDES, _BACKGROUND_IOU = (0.06, 0.5), 0.3
_NO_SIDE = 1e-3  # regions at least this large, so that logarithms exist


@dataclass(frozen=True, kw_only=True)
class PerceptualGANConfig(Config):
    """Tsinghua-Tencent 100K with VGG_CNN_M_1024.

    Attributes:
        num_classes: K; label 0 is no object.
        num_boxes: boxes of a picture in the data, some of them empty.
        boxes_per_object: regions of training made of each box.
        num_background: regions of training without an object, per picture.
        small_size: objects below are small: side in pixels, the root of the area.
        large_size: from here on objects are large.
        backbone, low_layer, high_layer, backbone_weights: see the module; weights are "imagenet", the path of
            a Keras weights file or None (random, with a warning for known backbones).
        preprocessing: what the backbone expects: "vgg" (BGR, 0..255 less the mean) or "none" ([-1, 1]).
        roi_size: cells per side of a region.
        width: channels of G's first convolution, and of the small backbone's first (a quarter of its last).
        num_blocks: residual blocks of G.
        fc_units: units of the two hidden layers of each branch.
        detector_sizes: objects that the detector learns from, "large" or "all".
        detector_steps: steps of backbone and perception branch; with 0 neither moves then.
        pretrain_steps: then steps of G by the detector's losses alone.
        train_perception: the perception branch learns on in the adversarial phase.
        adversarial_weight, perception_weight: of the terms of G's loss.
        optimizer: "sgd" with momentum and coupled weight decay of the kernels, or "adam" (ours).
        learning_rate: falls to a tenth after 60%, to a hundredth after 80% of a player's updates.
    """

    data: str = "coco:tt100k"
    batch_size: PositiveInt = 2
    epochs: PositiveInt = 20
    steps_per_epoch: PositiveInt | None = 3000
    image_size: ImageSize = 1600
    channels: Channels = 3
    num_classes: PositiveInt = 45
    num_boxes: PositiveInt = 32
    boxes_per_object: PositiveInt = 3
    num_background: PositiveInt = 32
    small_size: PositiveFloat = 32.0
    large_size: PositiveFloat = 96.0
    backbone: str = "vgg_cnn_m_1024"
    low_layer: str | None = None
    high_layer: str | None = None
    backbone_weights: str | None = None
    preprocessing: Literal["vgg", "none"] = "vgg"
    roi_size: PositiveInt = 6
    width: PositiveInt = 256
    num_blocks: Repeats = 6
    fc_units: tuple[PositiveInt, PositiveInt] = (4096, 1024)
    detector_sizes: Literal["large", "all"] = "large"
    detector_steps: NonNegativeInt = 20_000
    pretrain_steps: NonNegativeInt = 10_000
    train_perception: bool = True
    adversarial_weight: NonNegativeFloat = 1.0
    perception_weight: NonNegativeFloat = 1.0
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: PositiveFloat = 1e-3
    momentum: Annotated[float, Limits(ge=0, lt=1)] = 0.9
    weight_decay: NonNegativeFloat = 5e-4

    def validate(self) -> None:
        if self.small_size > self.large_size:
            raise ConfigError(
                f"PerceptualGANConfig.small_size: {self.small_size} must not be above large_size "
                f"({self.large_size})."
            )
        named = self.backbone in _BACKBONES
        if not named and not (self.low_layer and self.high_layer):
            raise ConfigError(
                f"PerceptualGANConfig.backbone: for {self.backbone!r} give low_layer and high_layer, names "
                f"of its layers. Without them: {', '.join(_BACKBONES)}."
            )
        if self.preprocessing == "vgg" and self.backbone == "small":
            raise ConfigError("PerceptualGANConfig.preprocessing: the small backbone takes 'none'.")


class Regions(NamedTuple):
    """Regions of training.

    Attributes:
        boxes: (batch, regions, 4).
        labels: (batch, regions), 0 for no object.
        offsets: (batch, regions, 4), from the region to its object's box, see `OFFSETS`.
        sizes: (batch, regions), side in pixels.
        weights: (batch, regions), 0 for those that are neither an object nor clearly none.
    """

    boxes: tf.Tensor
    labels: tf.Tensor
    offsets: tf.Tensor
    sizes: tf.Tensor
    weights: tf.Tensor


@register(
    "perceptual_gan_small_objects",
    task="features",
    paper=Paper(
        "Perceptual Generative Adversarial Networks for Small Object Detection",
        "J. Li, X. Liang, Y. Wei, T. Xu, J. Feng, S. Yan", 2017, "1706.05274",
    ),
    tiny={
        "backbone": "small", "preprocessing": "none", "image_size": 16, "channels": 1, "num_classes": 3,
        "num_boxes": 3, "boxes_per_object": 1, "num_background": 2, "small_size": 6.0, "large_size": 6.0,
        "roi_size": 2, "width": 4, "num_blocks": 1, "fc_units": (6, 5), "detector_steps": 1,
        "pretrain_steps": 1, "batch_size": 4,
    },
)  # fmt: skip
class PerceptualGAN(GAN):
    """Super-resolution of features; images are (batch, height, width, channels) in [-1, 1].

        features = model.super_resolve(images, boxes)     # (batch, regions, cells, cells, channels)
        found = model.detect(images, boxes)               # scores, labels, boxes
        plain = model.detect(images, boxes, super_resolve=False)

    Boxes are (batch, regions, 4): top, left, bottom, right as parts of the height and width.

    Logs: `d_loss` (of D_a), `g_loss` (G's adversarial term), `class_loss` and `box_loss` (L_cls and L_loc: of
    the detector in its own phase, then of small objects behind G). What a phase does not train is 0.
    """

    config_cls = PerceptualGANConfig
    view = "detection"
    log_names = ("d_loss", "g_loss", "class_loss", "box_loss")

    def build_networks(self, config: PerceptualGANConfig) -> dict[str, keras.Model]:
        backbone = build_backbone(config)
        backbone.trainable = config.detector_steps > 0
        low, high = (tensor.shape[-1] for tensor in backbone.outputs)
        return {
            "backbone": backbone,
            "generator": build_generator(config, low, high),
            "adversarial": build_adversarial_branch(config, high),
            "perception": build_perception_branch(config, high),
        }

    @property
    def players(self) -> dict[str, tuple[str, ...]]:
        c, players = self.config, {}
        if c.detector_steps:
            players["detector"] = ("backbone", "perception")
        players |= {"generator": ("generator",), "adversarial": ("adversarial",)}
        return players | ({"perception": ("perception",)} if c.train_perception else {})

    @property
    def phases(self) -> tuple[tuple[str, int], ...]:
        c = self.config
        phases = [("detector", 0, c.detector_steps), ("generator", c.detector_steps, c.pretrain_steps)]
        chosen = [(name, first) for name, first, steps in phases if steps]
        return (*chosen, ("adversarial", c.detector_steps + c.pretrain_steps))

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c, updates = self.config, self._updates_of(player)
        rate = keras.optimizers.schedules.PiecewiseConstantDecay(
            [int(0.6 * updates), int(0.8 * updates)], [c.learning_rate * k for k in (1.0, 0.1, 0.01)]
        )
        if c.optimizer == "adam":
            return keras.optimizers.Adam(rate, epsilon=1e-8)
        return CoupledDecaySGD(rate, momentum=c.momentum, decay=c.weight_decay)

    def _updates_of(self, player: str) -> int:
        """How often a player is updated in the whole run."""
        c = self.config
        if player == "detector":
            return c.detector_steps
        first = c.detector_steps + (0 if player == "generator" else c.pretrain_steps)
        return max(c.total_steps - first, 1)

    @property
    def batch_spec(self) -> BatchSpec:
        c = self.config
        return BatchSpec(
            images=image_field(height_width(c.image_size), c.channels),
            boxes=Field((c.num_boxes, 4), (0.0, 1.0)),
            labels=Field((c.num_boxes,), (0, c.num_classes), "int32"),
        )

    @property
    def data_keywords(self) -> dict[str, Any]:
        """As many boxes as the model takes, where a source fills them up."""
        return {"num_boxes": self.config.num_boxes} if self.config.data.startswith("coco:") else {}

    def before_training(self, last_step: int | None) -> None:
        """Says so if the backbone starts, or even stays, with random weights."""
        c = self.config
        if c.backbone_weights or expand(c.backbone).is_file() or self._is_backbone_trained():
            return
        if not c.detector_steps:
            warnings.warn(
                f"backbone_weights=None and detector_steps=0: {c.backbone} keeps its random weights, so its "
                "features mean little; give weights, or train it with detector_steps.",
                stacklevel=2,
            )
        elif c.backbone != "small":
            warnings.warn(
                f"backbone_weights=None: {c.backbone} starts with random weights. Results are not those of "
                "a paper that uses ImageNet's; give backbone_weights='imagenet' or a file.",
                stacklevel=2,
            )

    def _is_backbone_trained(self) -> bool:
        """Whether it has been trained or loaded: a new one's biases are all 0."""
        return any(np.any(v) for v in self.backbone.variables if v.name == "bias")

    def training_notes(self) -> dict[str, str]:
        """Which weights a backbone from elsewhere began with."""
        c = self.config
        if c.backbone == "small" and c.backbone_weights is None:
            return {}
        name = expand(c.backbone).name
        if expand(c.backbone).is_file() and c.backbone_weights is None:
            return {"backbone": f"the model of the file {name}"}
        return {"backbone": describe_weights(c.backbone_weights, name)}

    # ---------------------------------------------------------------- training

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        regions = self._regions(batch)
        if self.phase == "detector":
            return self._train_detector(batch["images"], regions)
        low, high = self.backbone(batch["images"], training=False)
        features = RoIAlign(self.config.roi_size)([high, regions.boxes])
        small, _ = self._sizes(regions)
        logs, plain = {}, _folded(features)
        with tf.GradientTape() as tape:
            fake = _folded(self.generator([low, regions.boxes, features], training=True))
            if self.phase == "adversarial":
                with tape.stop_recording():
                    logs["d_loss"] = self._train_adversarial(plain, fake, regions)
                    self._train_perception(plain, fake, regions)
                logs["g_loss"] = self._adversarial_loss(fake, regions)
            losses = self._detection_losses(fake, regions, small)
            loss = self._generator_loss(losses, logs.get("g_loss", 0.0))
        self.update("generator", tape, loss)
        return self._log(**logs, **losses)

    def _train_detector(self, images: tf.Tensor, regions: Regions) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            losses = self._detector_losses(images, regions)
            loss = losses["class_loss"] + losses["box_loss"]
        self.update("detector", tape, loss)
        return self._log(**losses)

    def _detector_losses(self, images: tf.Tensor, regions: Regions) -> dict[str, tf.Tensor]:
        """L_cls and L_loc on the backbone's own features."""
        high = self.backbone(images, training=False)[1]
        features = RoIAlign(self.config.roi_size)([high, regions.boxes])
        _, large = self._sizes(regions)
        chosen = large if self.config.detector_sizes == "large" else tf.ones_like(large)
        return self._detection_losses(_folded(features), regions, chosen)

    def _sizes(self, regions: Regions) -> tuple[tf.Tensor, tf.Tensor]:
        """Which regions are small and which are large, as 0 and 1."""
        small, large = regions.sizes < self.config.small_size, regions.sizes >= self.config.large_size
        return tf.cast(small, tf.float32), tf.cast(large, tf.float32)

    def _detection_losses(
        self, features: tf.Tensor, regions: Regions, chosen: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """L_cls and L_loc of the chosen regions, from their features (batch * regions, ...)."""
        scores, offsets = self.perception(features, training=True)
        labels, weights = (tf.reshape(x, [-1]) for x in (regions.labels, regions.weights * chosen))
        class_losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores)
        own = tf.gather(offsets, labels, axis=1, batch_dims=1)
        box_losses = detection.smooth_l1(own - tf.reshape(regions.offsets, (-1, 4)))
        box_losses *= tf.cast(labels > 0, tf.float32)
        return {
            "class_loss": weighted_mean(class_losses, weights),
            "box_loss": weighted_mean(box_losses, weights),
        }

    def _generator_loss(self, losses: Mapping[str, tf.Tensor], adversarial: tf.Tensor) -> tf.Tensor:
        c = self.config
        perception = losses["class_loss"] + losses["box_loss"]
        return c.perception_weight * perception + c.adversarial_weight * adversarial

    def _train_adversarial(self, plain: tf.Tensor, fake: tf.Tensor, regions: Regions) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = self._discriminator_loss(plain, fake, regions)
        self.update("adversarial", tape, loss)
        return loss

    def _discriminator_loss(self, plain: tf.Tensor, fake: tf.Tensor, regions: Regions) -> tf.Tensor:
        """-log D_a of large objects' features, -log(1 - D_a) of small ones' behind G."""
        small, large = (tf.reshape(x * self._objects(regions), [-1]) for x in self._sizes(regions))
        real_logits, fake_logits = (self.adversarial(x, training=True)[:, 0] for x in (plain, fake))
        real_loss = weighted_mean(tf.nn.softplus(-real_logits), large)
        return real_loss + weighted_mean(tf.nn.softplus(fake_logits), small)

    def _adversarial_loss(self, fake: tf.Tensor, regions: Regions) -> tf.Tensor:
        """-log D_a of small objects' features behind G."""
        small = tf.reshape(self._sizes(regions)[0] * self._objects(regions), [-1])
        return weighted_mean(tf.nn.softplus(-self.adversarial(fake, training=True)[:, 0]), small)

    def _objects(self, regions: Regions) -> tf.Tensor:
        return tf.cast(regions.labels > 0, tf.float32)

    def _train_perception(self, plain: tf.Tensor, fake: tf.Tensor, regions: Regions) -> None:
        """The perception branch on what it is shown: large objects as they are, small ones behind G."""
        if not self.config.train_perception:
            return
        small, large = self._sizes(regions)
        features = tf.where(tf.reshape(small, (-1, 1, 1, 1)) > 0, fake, plain)
        with tf.GradientTape() as tape:
            losses = self._detection_losses(features, regions, tf.maximum(small, large))
            loss = losses["class_loss"] + losses["box_loss"]
        self.update("perception", tape, loss)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        regions = self._regions(batch)
        if self.phase == "detector":
            return self._log(**self._detector_losses(batch["images"], regions))
        low, high = self.backbone(batch["images"], training=False)
        features = RoIAlign(self.config.roi_size)([high, regions.boxes])
        plain, fake = (_folded(x) for x in (features, self.generator([low, regions.boxes, features])))
        losses = self._detection_losses(fake, regions, self._sizes(regions)[0])
        if self.phase == "adversarial":
            losses["d_loss"] = self._discriminator_loss(plain, fake, regions)
            losses["g_loss"] = self._adversarial_loss(fake, regions)
        return self._log(**losses)

    def _log(self, **scalars: tf.Tensor) -> dict[str, tf.Tensor]:
        return self.log(**{**dict.fromkeys(self.log_names, 0.0), **scalars})

    def _regions(self, batch: dict[str, tf.Tensor]) -> Regions:
        """This step's regions: each box moved about, and others without an object."""
        c, (count, boxes) = self.config, (tf.shape(batch["images"])[0], ordered_corners(batch["boxes"]))
        draw = self.random_uniform("objects", (count, c.num_boxes, c.boxes_per_object, 4), -1.0, 1.0)
        targets = tf.repeat(boxes, c.boxes_per_object, axis=1)
        labels = tf.repeat(batch["labels"], c.boxes_per_object, axis=1)
        near = moved_boxes(targets, tf.reshape(draw, tf.shape(targets)))
        away = background_boxes(self.random_uniform("background", (count, c.num_background, 4)))
        there = tf.cast(batch["labels"] > 0, tf.float32)[:, None]
        overlap = tf.reduce_max(detection.iou(away, boxes) * there, axis=2)
        regions = tf.concat([near, away], axis=1)
        free = tf.cast(overlap < _BACKGROUND_IOU, tf.float32)
        return Regions(
            boxes=regions,
            labels=tf.concat([labels, tf.zeros(tf.shape(away)[:2], tf.int32)], axis=1),
            offsets=tf.concat([OFFSETS.encode(targets, near), tf.zeros_like(away)], axis=1),
            sizes=side_in_pixels(regions, height_width(c.image_size)),
            weights=tf.concat([tf.cast(labels > 0, tf.float32), free], axis=1),
        )

    # ---------------------------------------------------------------- inference

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        pictures, notes = {"images": (-1.0, 1.0)}, {
            "boxes": "regions to look at: top, left, bottom, right as parts of the height and width",
            "scores": "probabilities of the classes; class 0 is no object",
            "refined_boxes": "the object's box by the most probable class",
        }  # fmt: skip
        networks = {"super_resolve": self._super_resolver, "detect": self._detector}
        return {name: Endpoint(network, pictures, notes=notes) for name, network in networks.items()}

    @functools.cached_property
    def _super_resolver(self) -> keras.Model:
        """Images and boxes -> super-resolved features."""
        images, boxes, features = self._region_features(super_resolve=True)
        features = layers.Activation("linear", dtype="float32", name="features")(features)
        return keras.Model({"images": images, "boxes": boxes}, features, name="super_resolver")

    @functools.cached_property
    def _detector(self) -> keras.Model:
        """Images and boxes -> scores and boxes, by super-resolved features."""
        return self._build_detector(super_resolve=True)

    @functools.cached_property
    def _plain_detector(self) -> keras.Model:
        """The same by the backbone's own features."""
        return self._build_detector(super_resolve=False)

    def _build_detector(self, super_resolve: bool) -> keras.Model:
        images, boxes, features = self._region_features(super_resolve)
        logits, offsets = self.perception(RegionsToBatch()(features))
        scores = BatchToRegions(dtype="float32")([layers.Softmax(dtype="float32")(logits), boxes])
        scores = layers.Activation("linear", dtype="float32", name="scores")(scores)
        offsets = BatchToRegions(dtype="float32")([offsets, boxes])
        refined = RefinedBoxes(dtype="float32", name="refined_boxes")([boxes, offsets, scores])
        return keras.Model({"images": images, "boxes": boxes}, [scores, refined], name="detector")

    def _region_features(self, super_resolve: bool) -> tuple[Any, Any, Any]:
        """Images, boxes and the regions' features, for the networks that other programs call."""
        images = keras.Input((None, None, self.config.channels), name="images")
        boxes = keras.Input((None, 4), name="boxes")
        low, high = self.backbone(images)
        features = RoIAlign(self.config.roi_size)([high, boxes])
        return images, boxes, self.generator([low, boxes, features]) if super_resolve else features

    def example_inputs(
        self, endpoint: Endpoint, count: int, sizes: Mapping[str, tuple[int, int]], seed: int = 0
    ) -> dict[str, Any]:
        draws = np.random.default_rng(seed).uniform(0, 1, (count, self.config.num_boxes, 4))
        boxes = background_boxes(tf.constant(draws, tf.float32)).numpy()
        return {**super().example_inputs(endpoint, count, sizes, seed), "boxes": boxes}

    def super_resolve(self, inputs: Any, boxes: Any, batch_size: int = 8) -> np.ndarray:
        """Features of regions as G makes them.

        Args:
            inputs: images (batch, height, width, channels) in [-1, 1], or (low, high), the backbone's two
                feature maps (batch, height, width, channels).
            boxes: (batch, regions, 4).
            batch_size: pictures per call of the network.

        Returns:
            float32 (batch, regions, roi_size, roi_size, channels of the high layer).

        Raises:
            BatchError: for images or boxes that do not fit.
        """
        if not isinstance(inputs, tuple):
            return self._run(inputs, boxes, batch_size, "_super_resolver")
        low, high = (np.asarray(x, "float32") for x in inputs)
        boxes = self._checked_boxes(boxes, len(low))
        features = RoIAlign(self.config.roi_size)([high, boxes]).numpy()
        results = [
            self.generator([x[start : start + batch_size] for x in (low, boxes, features)]).numpy()
            for start in range(0, len(low), batch_size)
        ]
        return np.concatenate(results)

    def detect(
        self, images: Any, boxes: Any, super_resolve: bool = True, batch_size: int = 8
    ) -> dict[str, np.ndarray]:
        """What given regions show.

        Args:
            images: (batch, height, width, channels) in [-1, 1].
            boxes: (batch, regions, 4).
            super_resolve: False looks at the backbone's features as they are, without G.
            batch_size: pictures per call of the network.

        Returns:
            "scores" (batch, regions, num_classes + 1), probabilities; "labels" (batch, regions), the most
            probable ones, 0 for no object; "boxes" (batch, regions, 4), refined.

        Raises:
            BatchError: for images or boxes that do not fit.
        """
        network = "_detector" if super_resolve else "_plain_detector"
        scores, refined = self._run(images, boxes, batch_size, network)
        return {"scores": scores, "labels": scores.argmax(-1), "boxes": refined}

    def _run(self, images: Any, boxes: Any, batch_size: int, network: str) -> Any:
        images = checked_images(images, image_field((None, None), self.config.channels))
        inputs = {"images": images, "boxes": self._checked_boxes(boxes, len(images))}
        return self.run(inputs, batch_size, network)

    def _checked_boxes(self, boxes: Any, count: int) -> np.ndarray:
        boxes = np.asarray(boxes, "float32")
        BatchSpec(boxes=Field((None, 4))).check_values({"boxes": boxes})
        if len(boxes) != count:
            raise BatchError(f"boxes: expected those of {count} pictures, got {len(boxes)}.")
        return boxes

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Accuracy and overlap by size of objects, with G and without (_baseline: the plain detector).

        Regions are the objects' boxes, moved a little by a fixed draw; one that is taken for no object counts
        as an error. Overlap is the mean intersection over union of refined boxes with the objects'.
        """
        c, boxes = self.config, examples["boxes"]
        draw = np.random.default_rng(0).uniform(-1, 1, boxes.shape).astype("float32")
        regions = moved_boxes(ordered_corners(boxes), draw).numpy()
        results = {}
        for suffix, super_resolve in (("", True), ("_baseline", False)):
            found = self.detect(examples["images"], regions, super_resolve)
            sized = accuracy_by_size(
                found, boxes, examples["labels"], height_width(c.image_size), (c.small_size, c.large_size)
            )
            results |= {f"{name}{suffix}": value for name, value in sized.items()}
        return results


def accuracy_by_size(
    found: Mapping[str, np.ndarray], boxes: np.ndarray, labels: np.ndarray, image_size: tuple[int, int],
    limits: tuple[float, float],
) -> dict[str, float]:  # fmt: skip
    """How many objects of each size are named rightly, and how well their boxes fit.

    Args:
        found: "labels" (batch, regions) and "boxes" (batch, regions, 4), of a region for each box.
        boxes: the objects' boxes (batch, regions, 4).
        labels: (batch, regions); 0 is no object and does not count.
        image_size: height and width in pixels.
        limits: small objects are below the first side in pixels, large ones at least as large as the second.

    Returns:
        accuracy_small, accuracy_medium, accuracy_large and iou_* of the sizes that there are.
    """
    overlaps = np.asarray(detection.iou(found["boxes"], ordered_corners(boxes)))
    overlaps = np.diagonal(overlaps, axis1=1, axis2=2)
    results = {}
    for name, of_this_size in parted_by_size(boxes, image_size, limits).items():
        chosen = of_this_size & (labels > 0)
        if chosen.any():
            results[f"accuracy_{name}"] = float((found["labels"] == labels)[chosen].mean())
            results[f"iou_{name}"] = float(overlaps[chosen].mean())
    return results


def parted_by_size(
    boxes: np.ndarray, image_size: tuple[int, int], limits: tuple[float, float]
) -> dict[str, np.ndarray]:
    """Which boxes (batch, regions, 4) are small, medium and large: booleans (batch, regions).

    Arguments as for `accuracy_by_size`; TT100K's limits are (32, 96).
    """
    sizes = np.asarray(side_in_pixels(ordered_corners(boxes), image_size))
    bounds = {"small": (0, limits[0]), "medium": limits, "large": (limits[1], np.inf)}
    return {name: (sizes >= low) & (sizes < high) for name, (low, high) in bounds.items()}


# -------------------------------------------------------------------- losses


def weighted_mean(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """The mean with weights over the global batch; 0 where all weights are.

    It is this replica's part, scaled so that the mean over replicas is the global mean: replicas may hold
    different numbers of small objects.
    """
    context = tf.distribute.get_replica_context()
    total, replicas = tf.reduce_sum(weights), context.num_replicas_in_sync
    if replicas > 1:
        total = context.all_reduce("SUM", total)
    return tf.reduce_sum(tf.cast(values, tf.float32) * weights) * replicas / tf.maximum(total, 1.0)


# -------------------------------------------------------------------- boxes


def ordered_corners(boxes: tf.Tensor) -> tf.Tensor:
    """Boxes (..., 4) with top above bottom and left before right, and sides above 0."""
    boxes = tf.cast(boxes, tf.float32)
    first, second = boxes[..., :2], boxes[..., 2:]
    start = tf.minimum(first, second)
    return tf.concat([start, tf.maximum(tf.maximum(first, second), start + _NO_SIDE)], axis=-1)


def side_in_pixels(boxes: tf.Tensor, image_size: tuple[int, int]) -> tf.Tensor:
    """The root of the area of boxes (..., 4) -> (...)."""
    sides = detection.centers_and_sides(boxes)[1] * tf.constant(image_size, tf.float32)
    return tf.sqrt(tf.maximum(tf.reduce_prod(sides, axis=-1), 0.0))


def moved_boxes(boxes: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
    """Boxes (..., 4) moved and stretched a little by draws (..., 4) from [-1, 1]."""
    centers, sides = detection.centers_and_sides(boxes)
    return detection.from_centers(
        centers + _SHIFT * draws[..., :2] * sides, sides * tf.exp(_STRETCH * draws[..., 2:])
    )


def background_boxes(draws: tf.Tensor) -> tf.Tensor:
    """Draws (..., 4) from [0, 1) -> boxes anywhere in the picture, small ones as often as large ones."""
    low, high = _BACKGROUND_SIDES
    side = low * (high / low) ** draws[..., 2:3]
    sides = side * tf.exp(0.4 * (draws[..., 3:] - 0.5) * tf.constant([1.0, -1.0]))
    return detection.from_centers(sides / 2 + draws[..., :2] * (1 - sides), sides)


@keras.saving.register_keras_serializable("tf_gan_zoo")
class RefinedBoxes(layers.Layer):
    """[boxes (batch, regions, 4), offsets (batch, regions, K + 1, 4), scores (batch, regions, K + 1)] ->
    boxes moved by the offsets of the object class with the largest score."""

    def call(self, inputs: list[tf.Tensor]) -> tf.Tensor:
        boxes, offsets, scores = inputs
        best = tf.one_hot(tf.argmax(scores[..., 1:], axis=-1), offsets.shape[2] - 1)
        return OFFSETS.decode(tf.reduce_sum(offsets[:, :, 1:] * tf.expand_dims(best, -1), axis=2), boxes)

    def compute_output_shape(self, input_shape: list[tuple]) -> tuple[int | None, ...]:
        return input_shape[0]


# -------------------------------------------------------------------- networks


def _folded(features: tf.Tensor) -> tf.Tensor:
    """(batch, regions, ...) -> (batch * regions, ...)."""
    return tf.reshape(features, (-1, *features.shape[2:]))


def build_generator(config: PerceptualGANConfig, low_channels: int, channels: int) -> keras.Model:
    """[low feature map, boxes, features of regions] -> features of regions, super-resolved.

    Shapes: (batch, height, width, low_channels), (batch, regions, 4) and, twice, (batch, regions, roi_size,
    roi_size, channels).
    """
    low = keras.Input((None, None, low_channels), name="low")
    boxes = keras.Input((None, 4), name="boxes")
    features = keras.Input((None, config.roi_size, config.roi_size, channels), name="features")
    x = layers.Conv2D(config.width, 3, 2, padding="same", activation="relu")(low)
    x = layers.Conv2D(channels, 1, activation="relu")(x)
    x = RegionsToBatch()(RoIAlign(config.roi_size)([x, boxes]))
    for _ in range(config.num_blocks):
        y = layers.ReLU()(_normalized(x, channels, config))
        x = layers.Add()([x, _normalized(y, channels, config)])
    residual = BatchToRegions(dtype="float32")([x, boxes])
    outputs = layers.Add(dtype="float32", name="super_resolved")([features, residual])
    return keras.Model([low, boxes, features], outputs, name="generator")


def _normalized(x: Any, channels: int, config: PerceptualGANConfig) -> Any:
    x = layers.Conv2D(channels, 3, padding="same")(x)
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, synchronized=config.sync_batch_norm)(x)


def _hidden_layers(config: PerceptualGANConfig, channels: int) -> tuple[Any, Any]:
    features = keras.Input((config.roi_size, config.roi_size, channels), name="features")
    x = layers.Flatten()(features)
    for units in config.fc_units:
        x = layers.Dense(units, activation="relu")(x)
    return features, x


def build_adversarial_branch(config: PerceptualGANConfig, channels: int) -> keras.Model:
    """Features (count, roi_size, roi_size, channels) -> logits (count, 1) of being a large object's."""
    features, x = _hidden_layers(config, channels)
    return keras.Model(features, layers.Dense(1, dtype="float32", name="logits")(x), name="adversarial")


def build_perception_branch(config: PerceptualGANConfig, channels: int) -> keras.Model:
    """Features (count, roi_size, roi_size, channels) -> class logits (count, K + 1) and offsets by class.

    The offsets are (count, K + 1, 4).
    """
    features, x = _hidden_layers(config, channels)
    count = config.num_classes + 1
    logits, offsets = _small_dense(count, "logits")(x), _small_dense(4 * count, "all_offsets")(x)
    offsets = layers.Reshape((count, 4), dtype="float32", name="offsets")(offsets)
    return keras.Model(features, [logits, offsets], name="perception")


def _small_dense(units: int, name: str) -> layers.Layer:
    """A float32 layer whose first weights are small."""
    initializer = keras.initializers.RandomNormal(0.0, 0.01)
    return layers.Dense(units, kernel_initializer=initializer, dtype="float32", name=name)


# -------------------------------------------------------------------- backbones


def build_backbone(config: PerceptualGANConfig) -> keras.Model:
    """Images (batch, height, width, channels) in [-1, 1] -> [low, high] feature maps, float32.

    Raises:
        ConfigError: if there is no such backbone, layer or weights file.
    """
    x = images = keras.Input((None, None, config.channels), name="images")
    if config.preprocessing == "vgg":
        x = VGGInputs(dtype="float32", name="preprocessing")(images)
    network = _BACKBONES.get(config.backbone, _other_backbone)(config, x.shape[-1])
    maps = [
        layers.Activation("linear", dtype="float32", name=name)(features)
        for name, features in zip(("low", "high"), network(x))
    ]
    return keras.Model(images, maps, name="backbone")


def _vgg_cnn_m(config: PerceptualGANConfig, channels: int) -> keras.Model:
    """Chatfield et al. 2014: five convolutions; the low map is behind the first one."""
    x = images = keras.Input((None, None, channels))
    x = low = layers.Conv2D(96, 7, 2, padding="same", activation="relu", name="conv1")(x)
    x = layers.MaxPooling2D(3, 2, padding="same")(_response_norm()(x))
    x = layers.Conv2D(256, 5, 2, padding="same", activation="relu", name="conv2")(x)
    x = layers.MaxPooling2D(3, 2, padding="same")(_response_norm()(x))
    for number in (3, 4, 5):
        x = layers.Conv2D(512, 3, padding="same", activation="relu", name=f"conv{number}")(x)
    network = keras.Model(images, [low, x], name="vgg_cnn_m_1024")
    return _with_weights(network, config)


def _response_norm() -> layers.Layer:
    return LocalResponseNormalization(bias=2.0, alpha=1e-4, dtype="float32")


def _small(config: PerceptualGANConfig, channels: int) -> keras.Model:
    """Five convolutions, stride 16 in the end as VGG_CNN_M's; ours, for small pictures."""
    x = images = keras.Input((None, None, channels))
    maps = []
    for factor, stride in ((1, 1), (2, 2), (4, 2), (4, 2), (4, 2)):
        x = layers.Conv2D(config.width * factor, 3, stride, padding="same", activation="relu")(x)
        maps.append(x)
    return _with_weights(keras.Model(images, [maps[0], x], name="small"), config)


def _other_backbone(config: PerceptualGANConfig, channels: int) -> keras.Model:
    """A model of keras.applications or of a file, up to two of its layers."""
    if expand(config.backbone).is_file():
        network = keras.models.load_model(expand(config.backbone))
    else:
        network = _application(config, channels)
    try:
        outputs = [network.get_layer(name).output for name in (config.low_layer, config.high_layer)]
    except ValueError as error:
        names = ", ".join(layer.name for layer in network.layers)
        raise ConfigError(f"PerceptualGANConfig: {error} Layers of {config.backbone}: {names}.") from None
    return keras.Model(network.inputs, outputs, name="layers")


def _application(config: PerceptualGANConfig, channels: int) -> keras.Model:
    build = getattr(keras.applications, config.backbone, None)
    if not callable(build):
        raise ConfigError(
            f"PerceptualGANConfig.backbone: {config.backbone!r} is no file and not in keras.applications. "
            f"Use one of {', '.join(_BACKBONES)}, 'VGG16', 'ResNet50', ... or a .keras file."
        )
    network = build(include_top=False, weights=None, input_shape=(None, None, channels))
    if config.backbone_weights == "imagenet":
        return build(include_top=False, weights="imagenet", input_shape=(None, None, channels))
    return _with_weights(network, config)


def _with_weights(network: keras.Model, config: PerceptualGANConfig) -> keras.Model:
    """The network with the weights of a file, if one is given."""
    if config.backbone_weights is None:
        return network
    try:
        network.load_weights(expand(config.backbone_weights))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"PerceptualGANConfig.backbone_weights: {config.backbone_weights!r} does not fit "
            f"{config.backbone}: {error}"
        ) from None
    return network


_BACKBONES = {"vgg_cnn_m_1024": _vgg_cnn_m, "small": _small}
