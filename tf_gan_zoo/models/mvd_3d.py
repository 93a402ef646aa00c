"""MVD-3D: 3-D shapes as twenty depth maps and silhouettes, from twenty, a few or one of them, or from noise.

    minimise  sum |D' - D| + sum |S' - S| + w KL(q(z|x) || N(0, I)) [+ CE(c', c)],

D the depth maps of a shape from the corners of a dodecahedron, S = [D > 0] the silhouettes, D' and S' what
the decoder makes of z (and of the class c, where the model is conditional), q(z|x) = N(mean(x), variance(x))
what the encoder says. Sums are over pixels, views and batch. There is no adversary: it is a variational
auto-encoder. The three nets of the paper, by `variant`, differ in what x is, and in w:

    "all"      AllVPNet: all twenty views                                                         w = 240
    "dropout"  DropoutNet: 15 to 18 views are 0, a number drawn for each batch, views for each shape  180
    "single"   SingleVPNet: one view, and no word of which                                            150

D and S are always all of them. The twenty views lie in one coordinate system, so a point cloud or a surface
is a matter of geometry (`tf_gan_zoo.shapes`). A conditional model's encoder also tells the class.

Reference: A. A. Soltani, H. Huang, J. Wu, T. D. Kulkarni, J. B. Tenenbaum, "Synthesizing 3D Shapes via
Modeling Multi-View Depth Maps and Silhouettes with Deep Generative Networks", CVPR 2017; networks, weights
and learning rates are those of the authors' released code for ShapeNet Core
(github.com/Amir-Arsalan/Synthesize3DviaDepthOrSil). For ModelNet40 it has `width=70, kl_weight=200, 150 or
120, learning_rate=9.2e-5, schedule="modelnet40", epochs=105`, and one dense layer in the place of two in
AllVPNet, which is left out here.

Departures: the batch stays at 4 (the code goes up to 8); noise on inputs and gradients and the permutation of
views in mid-training are left out, which the authors found to matter little; Adam keeps its moments after the
warm-up, where the code clears them, as 11,750 updates an epoch soon replace them. For pictures smaller than
224 w shrinks with the number of pixels, as the sums do, and stages of both networks are left out. The last
sigmoids' gradients are kept from vanishing, as small networks got stuck, see `RecoveringSigmoid`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tf_gan_zoo import random, shapes
from tf_gan_zoo.batch_spec import BatchSpec, Field, checked_images
from tf_gan_zoo.conditional import LabelledGAN, checked_labels, network_inputs
from tf_gan_zoo.config import Config, ConfigError, NonNegativeFloat, PositiveFloat, PositiveInt
from tf_gan_zoo.encoding import kl_to_standard_normal, normal_sample
from tf_gan_zoo.endpoints import Endpoint, ServingFunction
from tf_gan_zoo.layers import OneHot, Zero
from tf_gan_zoo.metrics import tasks
from tf_gan_zoo.metrics.shape_errors import compare_shapes, mean_shape
from tf_gan_zoo.registry import Paper, register
from tf_gan_zoo.shapes import NUM_VIEWS, Views

#: Side of a picture, in pixels, that the released weights of the divergence are for.
_FULL_SIZE = 224
#: Weights of the divergence by variant (ShapeNet Core).
KL_WEIGHTS = {"all": 240.0, "dropout": 180.0, "single": 150.0}
#: Fewest and most views that DropoutNet's encoder does not see.
_DROPPED = (15, 18)


@dataclass(frozen=True, kw_only=True)
class Milestones:
    """The released code's learning rates for one data set.

    Epochs count from 1; what happens at an epoch happens at its end, so the next epoch has the new rate.

    Attributes:
        steps_per_epoch: training steps of an epoch in batches of 4, for configs that do not say.
        warm_up: epochs at whose ends the rate climbs along a straight line.
        line_points: points of that line, of which every second one is used; the peak follows the last.
        slow_decay: first and last epoch with a factor of 0.98.
        jump: epoch with a factor of 1.5.
        fast_decay: first and last epoch with a factor of 0.97.
        last_cut: epoch with a factor of 0.6.
        cuts: epochs with a further factor of 0.35.
        rises: epochs with a further factor of 1.2. The code has none after the fourth cut.
    """

    steps_per_epoch: int
    warm_up: int
    line_points: int
    slow_decay: tuple[int, int]
    jump: int
    fast_decay: tuple[int, int]
    last_cut: int
    cuts: tuple[int, ...]
    rises: tuple[int, ...]

    def rates(self, first: float, peak: float, epochs: int) -> list[float]:
        """The rate of each epoch, `first` that of the first one."""
        rates = [first]
        for ended in range(1, epochs):
            if ended <= self.warm_up:
                rates.append(first + (peak - first) * (2 * ended + 1) / (self.line_points - 1))
            elif ended == self.warm_up + 1:
                rates.append(peak)
            else:
                rates.append(rates[-1] * self._factor(ended))
        return rates

    def _factor(self, ended: int) -> float:
        """By what the rate is multiplied at the end of an epoch after the warm-up."""
        factor = {self.jump: 1.5, self.last_cut: 0.6}.get(ended, 1.0)
        for (start, end), decay in ((self.slow_decay, 0.98), (self.fast_decay, 0.97)):
            factor *= decay if start <= ended <= end else 1.0
        factor *= 0.35 if ended in self.cuts else 1.0
        return factor * (1.2 if ended in self.rises else 1.0)


#: By `schedule`: ShapeNet Core (47,000 shapes) and ModelNet40 (9,843).
SCHEDULES = {
    "shapenet": Milestones(
        steps_per_epoch=11_750, warm_up=10, line_points=26, slow_decay=(12, 36), jump=37, fast_decay=(38, 50),
        last_cut=51, cuts=(18, 24, 30, 36), rises=(19, 25, 31),
    ),
    "modelnet40": Milestones(
        steps_per_epoch=2_460, warm_up=16, line_points=38, slow_decay=(22, 59), jump=60, fast_decay=(61, 80),
        last_cut=81, cuts=(30, 40, 50, 60), rises=(25, 33, 41, 49, 57),
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MVD3DConfig(Config):
    """The released code's setting for ShapeNet Core, without classes.

    Attributes:
        variant: "all", "dropout" or "single", see above.
        inputs: what the encoder sees: "depth" maps or "silhouettes".
        image_size: pixels per side, 7 * 2^k from 28 on.
        num_classes: makes the model conditional; None for none.
        latent_size: numbers in z; 40 in conditional models.
        width: n, in multiples of which all layers are sized.
        kl_weight: w for pictures of 224 pixels; by default the variant's.
        initial_std: standard deviation of the first weights of convolutions.
        schedule: "shapenet" or "modelnet40", the released code's rates by epoch, see `SCHEDULES`; or
            "cosine", which climbs for `warm_up_epochs` and then falls to 0.
        learning_rate: at the end of the warm-up.
        first_learning_rate: at its beginning.
        warm_up_epochs: of "cosine"; the other schedules have their own.
    """

    data: str = "meshes:ShapeNetCore"
    batch_size: PositiveInt = 4
    epochs: PositiveInt = 80
    variant: Literal["all", "dropout", "single"] = "all"
    inputs: Literal["depth", "silhouettes"] = "depth"
    image_size: PositiveInt = _FULL_SIZE
    num_classes: PositiveInt | None = None
    latent_size: PositiveInt = 100
    latent_distribution: Literal["normal"] = "normal"
    width: PositiveInt = 74
    kl_weight: NonNegativeFloat | None = None
    initial_std: PositiveFloat = 0.02
    schedule: Literal["shapenet", "modelnet40", "cosine"] = "shapenet"
    learning_rate: PositiveFloat = 8.5e-5
    first_learning_rate: PositiveFloat = 2e-6
    warm_up_epochs: PositiveInt = 10

    def validate(self) -> None:
        halvings = math.log2(self.image_size / 7)
        if halvings < 2 or not halvings.is_integer():
            raise ConfigError(
                f"MVD3DConfig.image_size: the decoder grows maps of 7x7, got {self.image_size}. Use 28, 56, "
                "112 or 224."
            )
        if self.num_classes and 16 * self.width <= 50:
            raise ConfigError(f"MVD3DConfig.width: with classes 4 or more, got {self.width}.")

    @property
    def num_stages(self) -> int:
        """Halvings of a picture down to 4x4; 5 in the paper."""
        return int(math.log2(self.image_size / 7))

    @property
    def scaled_kl_weight(self) -> float:
        """w for pictures of this size."""
        full = KL_WEIGHTS[self.variant] if self.kl_weight is None else self.kl_weight
        return full * (self.image_size / _FULL_SIZE) ** 2


@register(
    "mvd_3d",
    task="shape_3d",
    paper=Paper(
        "Synthesizing 3D Shapes via Modeling Multi-View Depth Maps and Silhouettes with Deep Generative "
        "Networks",
        "A. A. Soltani, H. Huang, J. Wu, T. D. Kulkarni, J. B. Tenenbaum", 2017,
        url="https://openaccess.thecvf.com/content_cvpr_2017/papers/"
        "Soltani_Synthesizing_3D_Shapes_CVPR_2017_paper.pdf",
    ),
    tiny={"image_size": 28, "width": 2, "latent_size": 4, "batch_size": 4},
)  # fmt: skip
class MVD3D(LabelledGAN):
    """Shapes as depth maps (batch, size, size, 20) in [0, 1], 0 for background; see `tf_gan_zoo.shapes`.

        views = model.reconstruct(depth, views=[3])    # from one of the cameras: Views(depth, silhouettes)
        views = model.sample(8, seed=0)                # shapes of nobody; labels= in conditional models
        model.interpolate(depth[0], depth[1])          # from one shape to another
        model.classify(depth)                          # probabilities, in conditional models
        clouds = model.to_point_cloud(views)           # for shape_files.write_ply(path, cloud)
        mesh = shapes.mesh(views.cut[0])               # for shape_files.write_obj(path, mesh)

    `views` are numbers of cameras, 0 to 19: all twenty for "all", any for "dropout", one for "single". Logs
    what is minimised, sums over pixels and views, means over the batch: depth_loss, silhouette_loss, kl in
    nats before weighting, class_loss (0 without classes).
    """

    config_cls = MVD3DConfig
    view = "shapes"
    log_names = ("depth_loss", "silhouette_loss", "kl", "class_loss")

    def build_networks(self, config: MVD3DConfig) -> dict[str, keras.Model]:
        return {"encoder": build_encoder(config), "generator": build_decoder(config)}

    @property
    def players(self) -> dict[str, tuple[str, ...]]:
        return {"autoencoder": ("encoder", "generator")}

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        cosine = self.config.schedule == "cosine"
        return keras.optimizers.Adam(self._cosine() if cosine else self._by_epochs(), epsilon=1e-8)

    def _cosine(self) -> keras.optimizers.schedules.LearningRateSchedule:
        c = self.config
        warm_up = c.warm_up_epochs * c.total_steps // c.epochs
        return keras.optimizers.schedules.CosineDecay(
            c.first_learning_rate, max(c.total_steps - warm_up, 1), warmup_target=c.learning_rate,
            warmup_steps=warm_up,
        )  # fmt: skip

    def _by_epochs(self) -> float | keras.optimizers.schedules.LearningRateSchedule:
        c, milestones = self.config, SCHEDULES[self.config.schedule]
        rates = milestones.rates(c.first_learning_rate, c.learning_rate, c.epochs)
        steps = c.steps_per_epoch or milestones.steps_per_epoch
        lasts = [epoch * steps - 1 for epoch in range(1, c.epochs)]  # counted from 0
        return keras.optimizers.schedules.PiecewiseConstantDecay(lasts, rates) if lasts else rates[0]

    @property
    def batch_spec(self) -> BatchSpec:
        side = self.config.image_size
        return BatchSpec(depth=Field((side, side, NUM_VIEWS), (0.0, 1.0)), **self.label_field())

    @property
    def data_keywords(self) -> dict[str, Any]:
        return {"channels": None}  # twenty, which is no kind of picture

    # ---------------------------------------------------------------- training

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            losses = self._terms(batch, "", training=True)
            loss = losses["depth_loss"] + losses["silhouette_loss"] + losses["class_loss"]
            loss += self.config.scaled_kl_weight * losses["kl"]
            loss /= self.config.image_size**2  # Adam does not notice; float16 and others do
        self.update("autoencoder", tape, loss)
        return self.log(**losses)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return self.log(**self._terms(batch, "validation ", training=False))

    def _terms(self, batch: Mapping[str, tf.Tensor], draw: str, training: bool) -> dict[str, tf.Tensor]:
        """All terms before weighting: sums over pixels and views, means over this replica's shapes."""
        depth = batch["depth"]
        means, log_variances, *logits = self.encoder(self._corrupted(depth, draw), training=training)
        noise = self.latents(f"{draw}posterior", tf.shape(depth)[0])
        inputs = self._given(normal_sample(means, log_variances, noise), batch.get("labels"))
        made, silhouettes = self.generator(inputs, training=training)
        losses = {
            "depth_loss": _summed_l1(made, depth),
            "silhouette_loss": _summed_l1(silhouettes, tf.cast(depth > 0, tf.float32)),
            "kl": tf.reduce_mean(kl_to_standard_normal(means, log_variances)),
            "class_loss": tf.constant(0.0),
        }
        if logits:
            errors = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["labels"], logits[0])
            losses["class_loss"] = tf.reduce_mean(errors)
        return losses

    def _corrupted(self, depth: tf.Tensor, draw: str) -> tf.Tensor:
        """What the encoder sees of (batch, size, size, 20) in training."""
        count = tf.shape(depth)[0]
        if self.config.variant == "single":
            chosen = self.random_integers(f"{draw}view", (count,), NUM_VIEWS)
            depth = tf.gather(depth, chosen, axis=-1, batch_dims=1)[..., None]
        elif self.config.variant == "dropout":
            fewest, most = _DROPPED
            number = random.global_uniform((), self._seed(f"{draw}number of views"), fewest, most + 1)
            ranks = tf.argsort(tf.argsort(self.random_uniform(f"{draw}views", (count, NUM_VIEWS))))
            kept = tf.cast(ranks >= tf.cast(number, tf.int32), tf.float32)
            depth = depth * kept[:, None, None, :]
        return self._seen(depth)

    def _seen(self, depth: Any) -> Any:
        return depth if self.config.inputs == "depth" else tf.cast(depth > 0, tf.float32)

    def _given(self, latents: Any, labels: Any) -> Any:
        """The decoder's inputs."""
        return {"latents": latents, "labels": labels} if self.config.num_classes else latents

    # ---------------------------------------------------------------- inference

    def encode(self, depth: Any, views: Sequence[int] | None = None, batch_size: int = 64) -> np.ndarray:
        """Mean latents of shapes: float32 (count, latent_size); arguments as of `reconstruct`."""
        return self._encoded(depth, views, batch_size)[0]

    def reconstruct(
        self, depth: Any, views: Sequence[int] | None = None, labels: Any = None, batch_size: int = 64
    ) -> Views:
        """All views of shapes from some.

        Args:
            depth: (count, size, size, 20) in [0, 1], or one shape without the first axis; what is not in
                `views` is not looked at. For "single" one view each will do: (count, size, size, 1).
            views: numbers of the cameras to look from. By default all, or for "single" the first.
            labels: classes for the decoder; by default what the encoder takes the shapes for.
            batch_size: shapes per call of a network.

        Returns:
            Depth maps and silhouettes, float32 (count, size, size, 20) in [0, 1].

        Raises:
            BatchError: if the depth maps do not fit.
            ValueError: if the views or labels do not.
        """
        latents, *probabilities = self._encoded(depth, views, batch_size)
        if labels is None and probabilities:
            labels = probabilities[0].argmax(axis=1)
        return self._decoded(latents, labels, batch_size)

    def classify(self, depth: Any, views: Sequence[int] | None = None, batch_size: int = 64) -> np.ndarray:
        """Probabilities of classes, float32 (count, num_classes); arguments as of `reconstruct`.

        Raises:
            ValueError: if the model has no classes.
        """
        if not self.config.num_classes:
            raise ValueError("classify: this model has no classes; build it with num_classes=.")
        return self._encoded(depth, views, batch_size)[1]

    def sample(
        self, num_samples: int = 1, seed: int = 0, labels: Any = None, like: Any = None,
        views: Sequence[int] | None = None, batch_size: int = 64,
    ) -> Views:  # fmt: skip
        """Shapes from noise.

        Args:
            num_samples: how many.
            seed: the same seed gives the same shapes.
            labels: in conditional models the classes, one or one for each; drawn by default.
            like: depth maps of shapes; latents are drawn from the mean and variance of theirs instead of
                N(0, I).
            views: of `like`, as for `reconstruct`.
            batch_size: shapes per call of the network.
        """
        inputs = self.sample_inputs(num_samples, seed, labels=labels)
        if like is not None:
            known = self.encode(like, views, batch_size)
            noise = np.asarray(inputs["latents"] if isinstance(inputs, Mapping) else inputs)
            drawn = (known.mean(axis=0) + known.std(axis=0) * noise).astype("float32")
            inputs = {**inputs, "latents": drawn} if isinstance(inputs, Mapping) else drawn
        return Views(*self.run(inputs, batch_size))

    def generate(self, num_samples: int = 1, seed: int = 0, batch_size: int = 64, **conditions: Any) -> Any:
        """Depth maps of `sample`, which has the silhouettes, too: float32 (num_samples, size, size, 20)."""
        if num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {num_samples}.")
        return self.sample(num_samples, seed, batch_size=batch_size, **conditions).depth

    def interpolate(
        self, start: Any, end: Any, steps: int = 8, views: Sequence[int] | None = None, label: Any = None
    ) -> Views:
        """Shapes on the way from one to another, along a straight line between their latents.

        Args:
            start, end: depth maps of one shape each, (size, size, 20).
            steps: shapes, with both ends.
            views: as for `reconstruct`.
            label: of all shapes in conditional models; by default `start`'s for the first half.
        """
        ends = np.stack([np.asarray(start), np.asarray(end)])
        (first, last), *probabilities = self._encoded(ends, views, 2)
        share = np.linspace(0, 1, steps, dtype="float32")[:, None]
        if label is None and probabilities:
            label = np.where(share[:, 0] < 0.5, *probabilities[0].argmax(axis=1))
        return self._decoded((1 - share) * first + share * last, label, 64)

    def to_point_cloud(self, views: Views, agreement: float = 0.9) -> list[np.ndarray]:
        """Point clouds (num, 3) of reconstructed or sampled shapes; see `shapes.point_cloud`."""
        return [shapes.point_cloud(depth, agreement) for depth in views.cut]

    def _encoded(self, depth: Any, views: Sequence[int] | None, batch_size: int) -> list[np.ndarray]:
        """Mean latents and, with classes, probabilities."""
        depth = self._checked_depth(depth)
        if depth.shape[-1] == NUM_VIEWS:
            depth = self._chosen(depth, np.tile(self._checked_views(views), (len(depth), 1)))
        return self._encoded_views(depth, batch_size)

    def _encoded_views(self, seen: np.ndarray, batch_size: int = 64) -> list[np.ndarray]:
        means, _, *logits = self.run(np.asarray(self._seen(seen)), batch_size, "encoder")
        return [means, *(np.asarray(tf.nn.softmax(values)) for values in logits)]

    def _checked_depth(self, depth: Any) -> np.ndarray:
        field, depth = self.batch_spec["depth"], np.asarray(depth, "float32")
        if self.config.variant == "single" and depth.shape[-1:] == (1,):
            field = Field((*field.shape[:2], 1), field.value_range)
        return checked_images(depth, field)

    def _checked_views(self, views: Sequence[int] | None) -> np.ndarray:
        """Booleans (20,): the cameras to look from.

        Raises:
            ValueError: if they are none, or not as many as the variant takes.
        """
        single = self.config.variant == "single"
        if views is None:
            views = [0] if single else range(NUM_VIEWS)
        chosen = np.isin(np.arange(NUM_VIEWS), list(views))
        wanted = {"single": (1, 1), "dropout": (1, NUM_VIEWS), "all": (NUM_VIEWS, NUM_VIEWS)}
        fewest, most = wanted[self.config.variant]
        if not fewest <= chosen.sum() <= most or chosen.sum() != len(set(views)):
            count = f"{fewest}" if fewest == most else f"{fewest} to {most}"
            raise ValueError(
                f"views: variant {self.config.variant!r} takes {count} of the cameras 0 to {NUM_VIEWS - 1}, "
                f"got {list(views)}."
            )
        return chosen

    def _chosen(self, depth: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """The encoder's input: depth maps where `chosen` (count, 20), or the one of each shape."""
        if self.config.variant == "single":
            return np.take_along_axis(depth, chosen.argmax(axis=1)[:, None, None, None], axis=-1)
        return depth * chosen[:, None, None, :].astype("float32")

    def _decoded(self, latents: np.ndarray, labels: Any, batch_size: int) -> Views:
        if self.config.num_classes:
            labels = checked_labels(labels, len(latents), self.config.num_classes)
        return Views(*self.run(self._given(latents, labels), batch_size))

    # ---------------------------------------------------------------- export, pictures, numbers

    @property
    def output_range(self) -> tuple[float, float]:
        return (0.0, 1.0)

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        notes = {**super().endpoints["generate"].notes, "depth": "channel = camera, 0 for background"}
        seen = self.encoder.inputs[0].name
        encoded = {seen: "one view" if self.config.variant == "single" else "channel = camera"}
        made = dict.fromkeys(self.generator.output_names, self.output_range)
        return {
            "generate": Endpoint(self.generator, made, notes=notes),
            "encode": Endpoint(self.encoder, {seen: self.output_range}, notes=encoded),
        }

    @property
    def serving_functions(self) -> dict[str, ServingFunction]:
        drawn = super().serving_functions["generate_seeded"]
        pictures = self.endpoints["generate"].pictures
        return {
            "generate_seeded": ServingFunction(drawn.function, drawn.inputs, pictures, drawn.examples)
        }

    def sample_pictures(self, count: int = 64, seed: int = 0) -> np.ndarray:
        """Shaded surfaces of sampled shapes, rows of eight (one class each): (rows, height, width, 1)."""
        rows, classes = max(count // 8, 1), self.config.num_classes
        labels = np.repeat(np.arange(rows) % (classes or 1), 8).astype("int32") if classes else None
        pictures = [_shaded(depth) for depth in self.sample(8 * rows, seed, labels).cut]
        return np.stack([np.concatenate(pictures[8 * k : 8 * k + 8], axis=1) for k in range(rows)])

    def held_out_pictures(self, held_out: Mapping[str, np.ndarray]) -> np.ndarray:
        """A row per shape: a view that was seen; three others as made and as they are; surfaces of both."""
        depth = np.asarray(held_out["depth"])
        chosen = self._measured_views(len(depth))
        latents, *probabilities = self._encoded_views(self._chosen(depth, chosen))
        made = self._decoded(latents, probabilities[0].argmax(axis=1) if probabilities else None, 64).cut
        factor = max(112 // self.config.image_size, 1)
        rows = []
        for seen, own, truth in zip(chosen.argmax(axis=1), made, depth):
            others = [(seen + k) % NUM_VIEWS for k in (5, 10, 15)]
            maps = [truth[..., seen], *(own[..., k] for k in others), *(truth[..., k] for k in others)]
            tiles = [np.kron(2 * m - 1, np.ones((factor, factor)))[..., None] for m in maps]
            side = tiles[0].shape[0]
            rows.append(np.concatenate([*tiles, _shaded(own, side), _shaded(truth, side)], axis=1))
        return np.stack(rows)

    def _measured_views(self, count: int) -> np.ndarray:
        """Which views the encoder sees of held-out shapes, booleans (count, 20): one, three or all."""
        number = {"single": 1, "dropout": 3, "all": NUM_VIEWS}[self.config.variant]
        ranks = np.random.default_rng(0).random((count, NUM_VIEWS)).argsort(axis=1).argsort(axis=1)
        return ranks < number

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """How well held-out shapes are reconstructed from a random view (three for "dropout", else all).

        Returns:
            silhouette_iou: overlap of silhouettes, mean over all views;
            depth_l1: mean error of depth inside the true silhouettes, where 1 is the ball's diameter;
            voxel_iou: overlap of the carved shapes; their baselines take the mean shape for every one;
            chamfer: between the point clouds of the first 50 shapes, in radii of the ball, with baseline;
            shape_accuracy: shapes whose class is told rightly (with classes), its baseline is one class;
            neighbour_accuracy: samples whose nearest held-out shape is of the class asked for.
        """
        depth = np.asarray(examples["depth"])
        latents, *probabilities = self._encoded_views(self._chosen(depth, self._measured_views(len(depth))))
        made = self._decoded(latents, probabilities[0].argmax(axis=1) if probabilities else None, 64)
        mean = mean_shape(depth)
        results = compare_shapes(made, depth)
        results |= {f"{name}_baseline": value for name, value in compare_shapes(mean, depth).items()}
        if probabilities:
            labels = np.asarray(examples["labels"])
            results["shape_accuracy"] = float((probabilities[0].argmax(axis=1) == labels).mean())
            results["shape_accuracy_baseline"] = float(np.bincount(labels).max() / len(labels))
            nearest, _ = tasks.nearest_neighbours(self.sample(len(labels), 0, labels).cut, depth)
            results["neighbour_accuracy"] = float((labels[nearest] == labels).mean())
        return results


def _summed_l1(made: tf.Tensor, truth: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.reduce_sum(tf.abs(made - truth), axis=[1, 2, 3]))


def _shaded(depth: np.ndarray, size: int = 112) -> np.ndarray:
    """A picture (size, size, 1) in [-1, 1] of the surface of (size, size, 20)."""
    picture = shapes.shaded(shapes.mesh(depth, 40), size=size)
    return picture[..., None].astype("float32") / 127.5 - 1.0


# -------------------------------------------------------------------- networks


@keras.saving.register_keras_serializable("tf_gan_zoo")
class RecoveringSigmoid(layers.Layer):
    """A sigmoid whose slope counts as 0.05 or more for gradients that lead back to its middle.

    Under an L1 loss a plain sigmoid that has overshot to 0 or 1 has next to no gradient left to come back.
    The price: a pixel that most examples pull to 0 or 1, and some away from it, ends up to 0.05 short of it.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return _recovering_sigmoid(tf.cast(inputs, tf.float32))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape


@tf.custom_gradient
def _recovering_sigmoid(x: tf.Tensor) -> tuple[tf.Tensor, Any]:
    y = tf.sigmoid(x)

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        slope = y * (1.0 - y)
        return upstream * tf.where(upstream * x > 0, tf.maximum(slope, 0.05), slope)

    return y, gradient


def build_encoder(config: MVD3DConfig) -> keras.Model:
    """Views (batch, size, size, 20 or 1) -> means, called "latents", log-variances and maybe class logits."""
    n, single = config.width, config.variant == "single"
    side, channels = config.image_size, 1 if single else NUM_VIEWS
    x = views = keras.Input((side, side, channels), name="seen" if single else "depth")
    x = layers.Conv2D(4 * n, 4, **_weights(config, Zero()))(_every_second_pixel(x))
    x = _activated(x, config)
    widths = [*(6 * n, 8 * n, 6 * n)[: config.num_stages - 2], n]
    for index, filters in enumerate(widths):
        x = _down(x if index == 0 else _activated(x, config), filters, config)
    x = layers.Flatten()(_norm(config)(x))
    heads = [_head(x, 8 * n, config.latent_size, name) for name in ("latents", "log_variances")]
    if config.num_classes:
        heads.append(_head(x, 16 * n - 50, config.num_classes, "logits"))
    return keras.Model(views, heads, name="encoder")


def build_decoder(config: MVD3DConfig) -> keras.Model:
    """Latents, and labels if there are classes -> [depth, silhouettes], (batch, size, size, 20) in [0, 1]."""
    n = config.width
    inputs = network_inputs(config.num_classes, latents=(config.latent_size,))
    x = inputs["latents"]
    if config.num_classes:
        x = layers.Concatenate()([x, OneHot(config.num_classes)(inputs["labels"])])
    x = layers.ReLU()(layers.Dense(16 * n)(x))
    x = layers.Reshape((4, 4, 2 * n))(layers.Dense(32 * n, bias_constraint=Zero())(x))
    x = _up(_activated(x, config), 6 * n, 1, config)
    blocks, plain = (8 * n, 7 * n)[: config.num_stages - 1], (6 * n, 4 * n)[: max(config.num_stages - 3, 0)]
    for filters in blocks:
        x = _up(_activated(x, config), filters, 2, config)
    x = _norm(config)(x)
    for filters in plain:
        x = layers.Conv2DTranspose(filters, 4, 2, padding="same", **_weights(config, Zero()))(x)
        x = _activated(x, config)
    outputs = []
    for name in ("depth", "silhouettes"):
        made = layers.Conv2DTranspose(NUM_VIEWS, 4, 2, padding="same", **_weights(config))(x)
        outputs.append(RecoveringSigmoid(dtype="float32", name=name)(made))
    return keras.Model(inputs if config.num_classes else inputs["latents"], outputs, name="generator")


def _down(x: keras.KerasTensor, filters: int, config: MVD3DConfig) -> keras.KerasTensor:
    """A residual block that halves an activated map; its 4x4 and 3x3 kernels are columns and rows."""
    x = _every_second_pixel(x)
    shortcut = layers.Conv2D(filters, (4, 1), **_weights(config))(x)
    shortcut = layers.Conv2D(filters, (1, 4), **_weights(config))(shortcut)
    x = layers.Conv2D(filters, (4, 1), **_weights(config))(x)
    x = _activated(layers.Conv2D(filters, (1, 4), **_weights(config, Zero()))(x), config)
    x = layers.Conv2D(filters, (3, 1), padding="same", **_weights(config))(x)
    x = layers.Conv2D(filters, (1, 3), padding="same", **_weights(config))(x)
    return layers.Add()([x, shortcut])


def _up(x: keras.KerasTensor, filters: int, stride: int, config: MVD3DConfig) -> keras.KerasTensor:
    """The same the other way round; with stride 1 a map of 4x4 becomes one of 7x7."""
    padding = "valid" if stride == 1 else "same"

    def enlarged(constraint: Any = None) -> keras.KerasTensor:
        options = {"padding": padding, **_weights(config)}
        row = layers.Conv2DTranspose(filters, (1, 4), (1, stride), **options)(x)
        options |= _weights(config, constraint)
        return layers.Conv2DTranspose(filters, (4, 1), (stride, 1), **options)(row)

    y = _activated(enlarged(Zero()), config)
    y = layers.Conv2D(filters, (1, 3), padding="same", **_weights(config))(y)
    y = layers.Conv2D(filters, (3, 1), padding="same", **_weights(config))(y)
    return layers.Add()([y, enlarged()])


def _every_second_pixel(x: keras.KerasTensor) -> keras.KerasTensor:
    """Padded by a pixel, in both directions every second one.

    A convolution over them is the released code's with stride 2 and dilation 2, which Keras does not have.
    """
    return layers.MaxPooling2D(1, 2)(layers.ZeroPadding2D(1)(x))


def _head(x: keras.KerasTensor, hidden_size: int, size: int, name: str) -> keras.KerasTensor:
    hidden = layers.ReLU()(layers.Dense(hidden_size)(x))
    return layers.Dense(size, dtype="float32", name=name)(hidden)


def _norm(config: MVD3DConfig) -> layers.Layer:
    return layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, synchronized=config.sync_batch_norm,
        gamma_initializer=keras.initializers.RandomNormal(1.0, 0.02),
    )  # fmt: skip


def _activated(x: keras.KerasTensor, config: MVD3DConfig) -> keras.KerasTensor:
    return layers.ReLU()(_norm(config)(x))


def _weights(config: MVD3DConfig, bias_constraint: Any = None) -> dict[str, Any]:
    initializer = keras.initializers.RandomNormal(stddev=config.initial_std)
    return {"kernel_initializer": initializer, "bias_constraint": bias_constraint}
