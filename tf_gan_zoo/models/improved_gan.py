"""Improved GAN: five training aids, and a discriminator that is a classifier which needs few labels.

    D gives K logits l of the classes; "generated" is one more class, of logit 0. With LSE = logsumexp(l),

        p(class | x) = softmax(l),      D(x) = p(x is real) = sigmoid(LSE(x)).

    D descends   E_labelled[-l_y + LSE] + 1/2 E_real[-log D(x)] + 1/2 E_z[-log(1 - D(G(z)))].

So a real picture without a label must belong to some class, a generated one to none, and both teach the
classifier what pictures look like. The aids, each with a switch of its own:

1. Feature matching (`generator_loss="feature_matching"`): G descends the distance of batch means
   |E f(x) - E f(G(z))| of D's last hidden layer f, which makes the best classifier. Or "adversarial": it
   descends E log(1 - D(G(z))) = -E softplus(LSE(G(z))), as the authors' code does where samples matter.
2. Minibatch discrimination (`minibatch_kernels`): D sees how close the examples of a batch are. What it
   sees grows with the batch, so labelled, other real and generated pictures pass D as three batches of equal
   size: the real ones are those at even and at odd places.
3. Historical averaging (`historical_averaging_weight`): each player's loss gains the squared distance of its
   weights to their mean over all past steps.
4. One-sided label smoothing (`real_target` below 1): the target of D(x) is 0.9, say; that of samples stays 0.
5. Virtual batch normalisation (`virtual_batch_norm`): G's statistics come from a batch chosen once.

Batches are pictures with labels, where -1 means that the class is not known, or pictures alone:

    data = zoo.load_dataset("tfds:mnist", view="labelled", labelled_per_class=10, batch_size=200, ...)

makes half of each batch of 10 labelled pictures per class and half of all pictures without labels, in turn.
If all pictures of a batch have labels, they are its real pictures, too.

Reference: T. Salimans, I. Goodfellow, W. Zaremba, V. Cheung, A. Radford, X. Chen, "Improved Techniques for
Training GANs", NIPS 2016, arXiv:1606.03498, sections 3 and 5. Networks, weight normalisation with initial
values from data, noise, losses, the number of G's updates, schedules and Adam (epsilon inside the root) are
those of the authors' released code: `architecture="convolutional"` for CIFAR-10 (and SVHN, with
`discriminator_width=64`), "dense" for MNIST.

Departures: G matches features of the real pictures that D has just seen, not of others; initial values come
from the first pictures of all kinds, in the code from 500 labelled ones; the average of D's weights begins
with them, in the code with 0; samples are drawn with the moving statistics of batch normalisation, in the
code with those of their batch; under several replicas means and neighbours are those of the global batch.
The code for 128x128 ImageNet is not here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from pydantic import Field as Limits

from tf_gan_zoo import optimizers, replicas
from tf_gan_zoo.batch_spec import BatchError, BatchSpec, Field, checked_images, image_field
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
from tf_gan_zoo.gan import GAN, AdversarialGAN
from tf_gan_zoo.layers import (
    MinibatchDiscrimination,
    ReferenceBatch,
    SeededDropout,
    SeededGaussianNoise,
    VirtualBatchNormalization,
    WeightNormConv2D,
    WeightNormConv2DTranspose,
    WeightNormDense,
    WithoutReference,
    weight_norm,
)
from tf_gan_zoo.registry import Paper, register
from tf_gan_zoo.schedules import LinearDecay

#: Pictures that initial values of weight-normalised layers are taken from.
NUM_INITIAL = 500
#: Pictures of a batch, of which half as many samples follow: a mean and a spread need two.
_MIN_BATCH_SIZE = 3
#: G's updates for each of D's in the authors' code.
_GENERATOR_UPDATES = {"feature_matching": 1, "adversarial": 3}


@dataclass(frozen=True, kw_only=True)
class ImprovedGANConfig(Config):
    """The paper's CIFAR-10 classifier.

    Attributes:
        batch_size: pictures of a batch, half of them labelled; half as many samples are generated. Even with
            minibatch discrimination.
        image_size: "convolutional" takes sides that can be halved to 4..7 pixels, 28 or 32 for example.
        num_classes: K; labels are integers from 0 to K - 1, and -1 where the class is unknown.
        latent_distribution: latents come from [-1, 1]; the generator moves them to [0, 1].
        generator_width: channels of a convolutional G's last hidden layer.
        discriminator_width: channels of a convolutional D's first three layers; the others have twice that.
        output_std: standard deviation that the first samples of a convolutional G have before their tanh.
        generator_units: units of a dense G's two hidden layers.
        discriminator_units: units of a dense D's hidden layers.
        generator_loss: what G descends.
        generator_updates: of G for each update of D, each with samples of its own; None for the authors'
            number: 1 for "feature_matching", 3 for "adversarial".
        feature_distance: of mean features: mean "absolute" (CIFAR-10) or "squared" (MNIST) difference.
        minibatch_kernels: features that minibatch discrimination adds; 0 for none (the paper's number: 100).
        minibatch_kernel_size: numbers that are compared for each of them.
        historical_averaging_weight: 0 for none.
        real_target: target of D for real pictures; below 1 smooths it.
        virtual_batch_norm: in G, instead of batch normalisation.
        reference_size: examples of its reference batch.
        unlabelled_weight: factor of the loss of pictures without labels and of samples.
        decay_fraction: in this last part of the run the learning rate falls in a straight line to 0.
        averaging_decay: of the average of D's weights with which it classifies.
        train_baseline: also trains a classifier like D on the labelled pictures alone, to compare with.
    """

    data: str = "tfds:cifar10"
    batch_size: PositiveInt = 200
    epochs: PositiveInt = 1200
    steps_per_epoch: PositiveInt | None = 500
    image_size: ImageSize = 32
    channels: Channels = 3
    num_classes: Annotated[int, Limits(ge=2)] = 10
    latent_size: PositiveInt = 100
    latent_distribution: Literal["uniform"] = "uniform"
    architecture: Literal["convolutional", "dense"] = "convolutional"
    generator_width: PositiveInt = 128
    output_std: PositiveFloat = 0.1
    discriminator_width: PositiveInt = 96
    generator_units: PositiveInt = 500
    discriminator_units: tuple[PositiveInt, ...] = (1000, 500, 250, 250, 250)
    generator_loss: Literal["feature_matching", "adversarial"] = "feature_matching"
    generator_updates: Repeats | None = None
    feature_distance: Literal["absolute", "squared"] = "absolute"
    minibatch_kernels: Literal[0] | PositiveInt = 0
    minibatch_kernel_size: PositiveInt = 5
    historical_averaging_weight: NonNegativeFloat = 0.0
    real_target: Fraction = 1.0
    virtual_batch_norm: bool = False
    reference_size: Annotated[int, Limits(ge=2)] = 100
    unlabelled_weight: NonNegativeFloat = 1.0
    learning_rate: PositiveFloat = 3e-4
    beta_1: Decay = 0.5
    beta_2: Decay = 0.999
    decay_fraction: Fraction = 1 / 3
    averaging_decay: Decay = 0.9999
    train_baseline: bool = False

    def validate(self) -> None:
        if self.architecture == "convolutional":
            check_image_size(self)
        if self.batch_size < _MIN_BATCH_SIZE:
            raise ConfigError(f"ImprovedGANConfig.batch_size: {_too_small(self.batch_size)}")
        if self.minibatch_kernels and self.batch_size % 2:
            raise ConfigError(f"ImprovedGANConfig.batch_size: {_not_in_halves(self.batch_size)}")


def check_image_size(config: Any) -> None:
    """Whether the convolutional networks take pictures of `config.image_size`.

    Raises:
        ConfigError: if not.
    """
    sides = height_width(config.image_size)
    if num_halvings(sides) < 1 or any(side % 4 or side < 12 for side in sides):
        raise ConfigError(
            f"{type(config).__name__}.image_size: G doubles maps of 4 to 7 pixels, D halves pictures twice "
            f"and then needs 3 pixels: {config.image_size} cannot be had. Use sides such as 16, 28, 32 or 64."
        )


@register(
    "improved_gan",
    task="generation",
    paper=Paper(
        "Improved Techniques for Training GANs",
        "T. Salimans, I. Goodfellow, W. Zaremba, V. Cheung, A. Radford, X. Chen", 2016, "1606.03498",
    ),
    tiny={
        "architecture": "dense", "image_size": 16, "channels": 1, "num_classes": 3, "generator_units": 8,
        "discriminator_units": (16, 8), "latent_size": 6, "batch_size": 4, "minibatch_kernels": 3,
        "minibatch_kernel_size": 2, "averaging_decay": 0.9,
    },
)  # fmt: skip
class ImprovedGAN(AdversarialGAN):
    """GAN whose discriminator classifies; images are (batch, height, width, channels).

    Values are in [-1, 1] for the convolutional networks and in [0, 1] for the dense ones.

        model.classify(images).argmax(axis=1)

    Logged are the two parts of D's loss, and the accuracy on the labelled pictures of the batches.
    """

    config_cls = ImprovedGANConfig
    view = "labelled"
    log_names = ("d_loss", "g_loss", "supervised_loss", "unsupervised_loss", "accuracy")

    def build_networks(self, config: ImprovedGANConfig) -> dict[str, keras.Model]:
        kernels = (config.minibatch_kernels, config.minibatch_kernel_size)
        networks = {
            "generator": build_generator(config),
            "discriminator": build_discriminator(config, *kernels),
        }
        if config.train_baseline:
            networks["baseline"] = build_discriminator(config, name="baseline")
        if config.historical_averaging_weight:
            for player in ("generator", "discriminator"):
                setattr(self, f"{player}_history", WeightHistory(networks[player].trainable_variables))
        return networks

    def after_replacement(self, name: str) -> None:
        if f"{name}_history" in vars(self):
            self._exchange(f"{name}_history", WeightHistory(self.player_variables(name)))

    @property
    def ema_decays(self) -> dict[str, float]:
        names = ("discriminator", "baseline") if self.config.train_baseline else ("discriminator",)
        return dict.fromkeys(names, self.config.averaging_decay)

    @property
    def generator_updates(self) -> int:
        """How often G is updated in a step."""
        return self.config.generator_updates or _GENERATOR_UPDATES[self.config.generator_loss]

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c, rate = self.config, self.config.learning_rate
        if c.decay_fraction:
            updates = c.total_steps * (self.generator_updates if player == "generator" else 1)
            falling = max(round(c.decay_fraction * updates), 1)
            rate = LinearDecay(c.learning_rate, updates - falling, falling)
        return optimizers.InnerEpsilonAdam(rate, beta_1=c.beta_1, beta_2=c.beta_2)

    @property
    def batch_spec(self) -> BatchSpec:
        c = self.config
        low = -1.0 if c.architecture == "convolutional" else 0.0
        return BatchSpec(
            images=image_field(height_width(c.image_size), c.channels, (low, 1.0)),
            labels=Field((), (-1, c.num_classes - 1), "int32", optional=True),
        )

    # ---------------------------------------------------------------- training

    def before_first_step(self, dataset: tf.data.Dataset) -> None:
        """Takes the initial values of weight-normalised layers from the first pictures.

        Raises:
            BatchError: if the batches are too small for statistics over a batch, or have no halves.
        """
        batches = first_batches(self, dataset, NUM_INITIAL)
        self._check_batch_size(len(batches[0]))
        images = tf.concat(batches, axis=0)
        if self.config.architecture == "convolutional" and weight_norm.is_untrained(self.generator):
            weight_norm.initialize_from_data(self.generator, self.sample_inputs(len(images)))
        for name in self.ema_decays:
            network = getattr(self, name)
            if weight_norm.is_untrained(network):
                weight_norm.initialize_from_data(network, images)
                getattr(self, f"{name}_ema").set_weights(network.get_weights())

    def _check_batch_size(self, count: int) -> None:
        share = count // self.distribute_strategy.num_replicas_in_sync
        if count < _MIN_BATCH_SIZE:
            raise BatchError(f"'images': {_too_small(count)}")
        if self.config.minibatch_kernels and share % 2:
            raise BatchError(f"'images': {_not_in_halves(share)}")

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real, labels, samples = batch["images"], known_labels(batch), _num_samples(batch["images"])
        fake = self.generator(self.latents("latents", samples), training=True)
        with tf.GradientTape() as d_tape:
            logs = self._d_losses(real, labels, fake, training=True)
            d_loss = logs["d_loss"] + self._distance_from_past("discriminator")
        self._update("discriminator", d_tape, d_loss)
        for k in range(self.generator_updates):
            with tf.GradientTape() as g_tape:
                fake = self.generator(self.latents(f"latents {k}", samples), training=True)
                g_loss = self._g_loss(real, labels, fake, training=True)
                total = g_loss + self._distance_from_past("generator")
            self._update("generator", g_tape, total)
        if self.config.train_baseline:
            self._train_baseline(real, labels)
        return self.log(**logs, g_loss=g_loss)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real, labels = batch["images"], known_labels(batch)
        fake = self.generator(self.latents("validation", _num_samples(real)), training=False)
        logs = self._d_losses(real, labels, fake, training=False)
        return self.log(**logs, g_loss=self._g_loss(real, labels, fake, training=False))

    def _judge_real(self, real: tf.Tensor, training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """D's logits and features of a batch's real pictures, in their order.

        With minibatch discrimination pictures at even places pass as one batch, those at odd places as
        another: where labels come in turn (see `zoo.load_dataset`), the two kinds do not meet.
        """
        if not self.config.minibatch_kernels:
            return self.discriminator(real, training=training)
        halves = [self.discriminator(real[k::2], training=training) for k in range(2)]
        places = tf.range(tf.shape(real)[0])
        in_order = places % 2 * tf.shape(real[0::2])[0] + places // 2
        return tuple(tf.gather(tf.concat(outputs, axis=0), in_order) for outputs in zip(*halves))

    def _d_losses(
        self, real: tf.Tensor, labels: tf.Tensor, fake: tf.Tensor, training: bool
    ) -> dict[str, tf.Tensor]:
        real_logits, _ = self._judge_real(real, training)
        fake_logits, _ = self.discriminator(fake, training=training)
        supervised = supervised_loss(real_logits, labels)
        unsupervised = unsupervised_loss(
            real_logits, fake_logits, plays_real(labels), self.config.real_target
        )
        right = tf.equal(tf.argmax(real_logits, axis=1, output_type=tf.int32), labels)
        return {
            "d_loss": supervised + self.config.unlabelled_weight * unsupervised,
            "supervised_loss": supervised,
            "unsupervised_loss": unsupervised,
            "accuracy": replicas.masked_mean(tf.cast(right, tf.float32), labels >= 0),
        }

    def _g_loss(self, real: tf.Tensor, labels: tf.Tensor, fake: tf.Tensor, training: bool) -> tf.Tensor:
        fake_logits, fake_features = self.discriminator(fake, training=training)
        if self.config.generator_loss == "adversarial":
            return -tf.reduce_mean(tf.nn.softplus(tf.reduce_logsumexp(fake_logits, axis=1)))
        _, real_features = self._judge_real(real, training)
        picked = replicas.masked_mean(tf.cast(real_features, tf.float32), plays_real(labels))
        return feature_matching_loss(picked, fake_features, self.config.feature_distance)

    def _train_baseline(self, real: tf.Tensor, labels: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            logits, _ = self.baseline(real, training=True)
            loss = supervised_loss(logits, labels)
        self.update("baseline", tape, loss)

    def _distance_from_past(self, player: str) -> tf.Tensor:
        """Historical averaging's part of a player's loss."""
        weight = self.config.historical_averaging_weight
        history = getattr(self, f"{player}_history", None)
        return weight * history.squared_distance(self.player_variables(player)) if weight else 0.0

    def _update(self, player: str, tape: tf.GradientTape, loss: tf.Tensor) -> None:
        self.update(player, tape, loss)
        if self.config.historical_averaging_weight:
            getattr(self, f"{player}_history").add(self.player_variables(player))

    # ---------------------------------------------------------------- classification

    def classify(
        self, images: Any, batch_size: int | None = None, network: str = "discriminator_ema"
    ) -> np.ndarray:
        """Probabilities of the classes, by the averaged weights.

        With minibatch discrimination they depend on what else is in a batch, and on how much.

        Args:
            images: (batch, height, width, channels) in the range of `batch_spec`, or one picture.
            batch_size: pictures per call of the network; by default half of the config's, as D saw them in
                training.
            network: "baseline_ema" asks the classifier that saw labelled pictures only.

        Returns:
            float32 (batch, num_classes), rows that sum to 1.

        Raises:
            BatchError: for pictures that do not fit.
        """
        images = checked_images(images, self.batch_spec["images"])
        logits, _ = self.run(images, batch_size or (self.config.batch_size + 1) // 2, network)
        return np.asarray(tf.nn.softmax(logits))

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Class coverage of samples; accuracy, and that of a classifier trained on the labels alone."""
        results = super().measure(examples)
        if results:
            labels = np.asarray(examples["labels"])
            for network in self.ema_decays:
                predicted = self.classify(examples["images"], network=f"{network}_ema").argmax(axis=1)
                name = "accuracy_baseline" if network == "baseline" else "accuracy"
                results[name] = float((predicted == labels).mean())
        return results

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        pictures = {"images": self.batch_spec["images"].value_range}
        notes = {"logits": "one number per class, of which softmax makes probabilities"}
        return {**super().endpoints, "classify": Endpoint(self.discriminator_ema, pictures, notes=notes)}


class WeightHistory(keras.layers.Layer):
    """The mean of some weights over all past steps, for historical averaging (section 3.3).

    Args:
        variables: the weights.
    """

    def __init__(self, variables: list[keras.Variable], **kwargs: Any) -> None:
        super().__init__(dtype="float32", trainable=False, **kwargs)
        kept = {"initializer": "zeros", "trainable": False}
        self.count = self.add_weight(shape=(), name="count", aggregation="only_first_replica", **kept)
        shapes = [variable.shape for variable in variables]
        self.means = [self.add_weight(shape=s, name=f"mean_{i}", **kept) for i, s in enumerate(shapes)]
        self.built = True

    def squared_distance(self, variables: list[keras.Variable]) -> tf.Tensor:
        """||theta - mean of the past||^2; 0 before the first step."""
        squares = [
            tf.reduce_sum(tf.square(tf.convert_to_tensor(variable.value) - tf.convert_to_tensor(mean.value)))
            for variable, mean in zip(variables, self.means)
        ]
        return tf.add_n(squares) * tf.cast(self.count > 0, tf.float32)

    def add(self, variables: list[keras.Variable]) -> None:
        """Takes one more step's weights into the mean."""
        share = 1.0 / (tf.convert_to_tensor(self.count.value) + 1.0)
        for variable, mean in zip(variables, self.means):
            mean.assign(mean + share * (tf.cast(variable.value, tf.float32) - mean))
        self.count.assign(self.count + 1.0)


# -------------------------------------------------------------------- losses


def supervised_loss(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Cross-entropy -l_y + LSE of the labelled examples; 0 if there are none.

    Args:
        logits: (batch, num_classes).
        labels: int32 (batch,), -1 where the class is unknown.
    """
    entropies = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(labels, 0), logits)
    return replicas.masked_mean(entropies, labels >= 0)


def unsupervised_loss(
    real_logits: tf.Tensor, fake_logits: tf.Tensor, mask: tf.Tensor, real_target: float = 1.0
) -> tf.Tensor:
    """Half the cross-entropy of D = sigmoid(LSE): real pictures towards `real_target`, samples towards 0.

    Args:
        real_logits: (batch, num_classes).
        fake_logits: (samples, num_classes).
        mask: boolean (batch,), the real pictures that count.
        real_target: below 1 for one-sided label smoothing (section 3.4).
    """
    real, fake = (tf.reduce_logsumexp(logits, axis=1) for logits in (real_logits, fake_logits))
    real_loss = replicas.masked_mean(tf.nn.softplus(real) - real_target * real, mask)
    return 0.5 * real_loss + 0.5 * tf.reduce_mean(tf.nn.softplus(fake))


def feature_matching_loss(
    real_mean: tf.Tensor, fake_features: tf.Tensor, distance: Literal["absolute", "squared"]
) -> tf.Tensor:
    """Mean difference of batch means of features (section 3.1), over the global batch.

    Args:
        real_mean: this replica's share of the real pictures' mean (features,); gets no gradient.
        fake_features: (samples, features).
        distance: "absolute" or "squared".
    """
    fake_mean = tf.reduce_mean(tf.cast(fake_features, tf.float32), axis=0)
    difference = replicas.mean(tf.stop_gradient(real_mean)) - replicas.mean(fake_mean)
    return tf.reduce_mean(tf.abs(difference) if distance == "absolute" else tf.square(difference))


def known_labels(batch: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """The batch's labels; -1 throughout where it has none."""
    if "labels" in batch:
        return batch["labels"]
    return tf.fill(tf.shape(batch["images"])[:1], -1)


def plays_real(labels: tf.Tensor) -> tf.Tensor:
    """The examples that stand for real pictures: those without labels, or all if all have one."""
    unlabelled = labels < 0
    some = replicas.mean(tf.reduce_mean(tf.cast(unlabelled, tf.float32))) > 0
    return unlabelled | ~some


def first_batches(model: GAN, dataset: tf.data.Dataset, count: int) -> list[tf.Tensor]:
    """The pictures of the batches that training begins with, about `count` altogether."""
    batches, found = [], 0
    for batch in dataset:
        batches.append(model.named(batch)["images"])
        found += len(batches[-1])
        if found >= count:
            break
    return batches


def _too_small(count: int) -> str:
    return (
        "statistics are taken over a batch and over half as many samples: expected at least "
        f"{_MIN_BATCH_SIZE} pictures in a batch, got {count}. Give a larger batch_size."
    )


def _not_in_halves(count: int) -> str:
    return (
        "with minibatch discrimination the real pictures pass D as two batches of equal size: expected an "
        f"even number of pictures in a batch (per replica), got {count}. Give an even batch_size."
    )


def _num_samples(real: tf.Tensor) -> tf.Tensor:
    return (tf.shape(real)[0] + 1) // 2


# -------------------------------------------------------------------- networks


def build_generator(config: Any) -> keras.Model:
    """Latents (batch, latent_size) in [-1, 1] -> images (batch, height, width, channels).

    The config has architecture, image_size, channels, latent_size, virtual_batch_norm, reference_size,
    sync_batch_norm, and generator_width or generator_units.
    """
    body = _convolutional_generator if config.architecture == "convolutional" else _dense_generator
    latents = keras.Input((config.latent_size,), name="latents")
    x = layers.Rescaling(0.5, 0.5)(latents)
    if config.virtual_batch_norm:
        x = ReferenceBatch(config.reference_size, 0.0, 1.0)(x)
    x = body(x, config)
    x = WithoutReference(config.reference_size)(x) if config.virtual_batch_norm else x
    activation = "tanh" if config.architecture == "convolutional" else "sigmoid"
    images = layers.Activation(activation, dtype="float32", name="images")(x)
    return keras.Model(latents, images, name="generator")


def _convolutional_generator(x: keras.KerasTensor, config: Any) -> keras.KerasTensor:
    halvings = num_halvings(config.image_size)
    height, width = (side >> halvings for side in height_width(config.image_size))
    top = config.generator_width << (halvings - 1)
    x = layers.Dense(height * width * top, use_bias=False, kernel_initializer=_normal())(x)
    x = layers.Reshape((height, width, top))(layers.ReLU()(_norm(config)(x)))
    for k in range(1, halvings):
        x = layers.Conv2DTranspose(top >> k, 5, 2, "same", use_bias=False, kernel_initializer=_normal())(x)
        x = layers.ReLU()(_norm(config)(x))
    return WeightNormConv2DTranspose(
        config.channels, 5, 2, "same", trainable_gain=True, initial_std=config.output_std
    )(x)  # fmt: skip


def _dense_generator(x: keras.KerasTensor, config: Any) -> keras.KerasTensor:
    shape = (*height_width(config.image_size), config.channels)
    for _ in range(2):
        x = layers.Dense(config.generator_units, use_bias=False)(x)
        x = layers.Activation("softplus")(_norm(config)(x))
    last = WeightNormDense(math.prod(shape), trainable_gain=True, kernel_initializer="glorot_uniform")
    return layers.Reshape(shape)(last(x))


def build_discriminator(
    config: ImprovedGANConfig, kernels: int = 0, kernel_size: int = 1, name: str = "discriminator"
) -> keras.Model:
    """Images (batch, height, width, channels) -> logits (batch, num_classes), features (batch, features).

    Args:
        config: architecture and sizes.
        kernels: of minibatch discrimination; 0 for none.
        kernel_size: likewise.
        name: of the network.
    """
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    convolutional = config.architecture == "convolutional"
    features, x = (_convolutional_features if convolutional else _dense_features)(images, config)
    x = MinibatchDiscrimination(kernels, kernel_size)(x) if kernels else x
    logits = WeightNormDense(
        config.num_classes, trainable_gain=True, initial_std=0.1 if convolutional else 1.0,
        kernel_initializer=_normal(0.05 if convolutional else 0.1), dtype="float32", name="logits",
    )(x)  # fmt: skip
    features = layers.Activation("linear", dtype="float32", name="features")(features)
    return keras.Model(images, [logits, features], name=name)


def _convolutional_features(
    images: keras.KerasTensor, config: ImprovedGANConfig
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Features to match, and the same for the layers to come."""
    corruption = SeededGaussianNoise(0.2) if config.minibatch_kernels else SeededDropout(0.2)
    width = config.discriminator_width
    x = convolutional_trunk(corruption(images), width, 2 * width)
    for _ in range(2):
        x = leaky_conv(2 * width, 1)(x)
    features = layers.GlobalAveragePooling2D()(x)
    return features, features


def convolutional_trunk(
    x: keras.KerasTensor, width: int, deep_width: int, dropout: float = 0.5
) -> keras.KerasTensor:
    """Pictures -> maps (batch, height / 4 - 2, width / 4 - 2, deep_width)."""
    for filters in (width, deep_width):
        for strides in (1, 1, 2):
            x = leaky_conv(filters, 3, strides, "same")(x)
        x = SeededDropout(dropout)(x)
    return leaky_conv(deep_width, 3)(x)


def leaky_conv(filters: int, kernel_size: int, strides: int = 1, padding: str = "valid") -> layers.Layer:
    """A weight-normalised convolution with leaky ReLU."""
    return WeightNormConv2D(filters, kernel_size, strides, padding, activation=leaky_relu)


@keras.saving.register_keras_serializable("tf_gan_zoo")
def leaky_relu(x: tf.Tensor) -> tf.Tensor:
    """max(x, 0.2 x), in a form that TensorFlow's graph optimizer does not try to merge, which fails here."""
    return 0.6 * x + 0.4 * tf.abs(x)


def _dense_features(
    images: keras.KerasTensor, config: ImprovedGANConfig
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Features to match, and the same with noise for the layers to come."""
    x = SeededGaussianNoise(0.3)(layers.Flatten()(images))
    for units in config.discriminator_units:
        features = WeightNormDense(units, activation="relu", kernel_initializer=_normal(0.1))(x)
        x = SeededGaussianNoise(0.5)(features)
    return features, x


def _norm(config: Any) -> layers.Layer:
    """A normalisation with bias and without gain."""
    if config.virtual_batch_norm:
        return VirtualBatchNormalization(config.reference_size, scale=False)
    return layers.BatchNormalization(
        momentum=0.9, epsilon=1e-6, scale=False, synchronized=config.sync_batch_norm
    )


def _normal(std: float = 0.05) -> keras.initializers.Initializer:
    """A new one for each layer. Lengths are normalised away, but long vectors turn slowly."""
    return keras.initializers.RandomNormal(0.0, std)
