"""SimGAN: makes synthetic pictures look real and leaves what their labels say as it is.

    R minimises  sum -log(1 - D(R(x)))  +  lambda |psi(R(x)) - psi(x)|_1             (equation 4)
    D minimises  sum -log D(R(x))  -  sum log(1 - D(y))                              (equation 2)

x a synthetic picture, y a real one; D is the probability of being refined, a softmax at each of many
positions that see a part of the picture only, and both losses are sums over the positions. The second term
keeps the refined picture near the synthetic one, so that its labels stay true; it is a sum over pixels. D is
shown refined pictures half from now and half from a history. A training step is K_g updates of R, then K_d of
D, each with a batch of its own; before, R is trained by its second term alone, then D alone.

`psi` is "identity", "mean_color" (over the channels), "gradients" (differences of neighbours), "features" (of
VGG19) or, ours, "blur" (means of 5x5 pixels: lines may move a little, but must not vanish). The paper's
second experiment, depth pictures of hands, has larger kernels, ten blocks and another D: `kernel_size=7,
num_blocks=10, discriminator="hand", image_size=224`.

Reference: A. Shrivastava, T. Pfister, O. Tuzel, J. Susskind, W. Wang, R. Webb, "Learning from Simulated and
Unsupervised Images through Adversarial Training", CVPR 2017, arXiv:1612.07828, section 2, algorithm 1 and
the appendix's tables.

Choices where the paper is silent: lambda = 0.5, a history of 50 batches, batches of 512 and a tanh at the end
of R are those of the TensorFlow implementation by carpedm20 (its reg_scale 0.5, buffer_size 25,600,
batch_size 512); the hand's residual blocks have 3x3 kernels. K_g is 2 (the text says that R is updated twice
for each update of D) where the final version states 50 for gaze: `refiner_updates=50`. Updates before the
adversarial phase use the first batch of each step. Departure: the history begins empty, and until it is full
D sees new pictures alone.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tf_gan_zoo import fitting
from tf_gan_zoo.batch_spec import BatchSpec, checked_images, image_field
from tf_gan_zoo.config import (
    Channels,
    Config,
    ConfigError,
    Decay,
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
from tf_gan_zoo.layers import HistoryBuffer
from tf_gan_zoo.metrics import classifier
from tf_gan_zoo.networks.vgg import VGG19Features
from tf_gan_zoo.registry import Paper, register

#: D's two classes, in the order of its logits.
REAL, REFINED = 0, 1
#: Kernel and stride of D's convolutions; None is the pooling. Widths go 96, 64, 32, 32, 2.
_DISCRIMINATORS = {
    "gaze": ((3, 2), (3, 2), (3, 1), (3, 1), (1, 1)),
    "hand": ((7, 4), (5, 2), (3, 2), (3, 2), (1, 1)),
}
_POOLING = 2


@dataclass(frozen=True, kw_only=True)
class SimGANConfig(Config):
    """The paper's gaze experiment: pictures of eyes, 35x55.

    Attributes:
        labelled: the data come with labels of the synthetic pictures; `measure` needs them.
        width: channels of R.
        num_blocks: residual blocks of R.
        kernel_size: of R's first convolution.
        discriminator: layers of D, "gaze" or "hand".
        discriminator_width: channels of D's first convolution.
        psi: what is compared to keep the labels true; see the module.
        regularization_weight: lambda, for a sum over the pixels of a picture.
        feature_layer: of VGG19 for psi="features"; "relu2_2" is the one after block 2's second convolution.
        feature_weights: VGG19's weights: "imagenet", the path of a Keras weights file, or None (random).
        refiner_steps: steps of R with the second term alone.
        discriminator_steps: then steps of D alone.
        refiner_updates: K_g.
        discriminator_updates: K_d.
        history_size: refined pictures that are kept; 0 for none.
        optimizer: "sgd", the paper's, or "adam" (ours).
    """

    data: str = "unpaired:gaze"
    batch_size: PositiveInt = 512
    epochs: PositiveInt = 10
    steps_per_epoch: PositiveInt | None = 1000
    image_size: ImageSize = (35, 55)
    channels: Channels = 1
    labelled: bool = False
    width: PositiveInt = 64
    num_blocks: Repeats = 4
    kernel_size: PositiveInt = 3
    discriminator: Literal["gaze", "hand"] = "gaze"
    discriminator_width: PositiveInt = 96
    psi: Literal["identity", "mean_color", "gradients", "features", "blur"] = "identity"
    regularization_weight: NonNegativeFloat = 0.5
    feature_layer: str = "relu2_2"
    feature_weights: str | None = "imagenet"
    refiner_steps: NonNegativeInt = 1000
    discriminator_steps: NonNegativeInt = 200
    refiner_updates: PositiveInt = 2
    discriminator_updates: PositiveInt = 1
    history_size: NonNegativeInt = 25_600
    optimizer: Literal["sgd", "adam"] = "sgd"
    learning_rate: PositiveFloat = 1e-3
    beta_1: Decay = 0.5

    def validate(self) -> None:
        if 0 < self.history_size < self.batch_size:
            raise ConfigError(
                f"SimGANConfig.history_size: {self.history_size} must be 0 or at least batch_size "
                f"({self.batch_size})."
            )


@register(
    "simgan",
    task="refinement",
    paper=Paper(
        "Learning from Simulated and Unsupervised Images through Adversarial Training",
        "A. Shrivastava, T. Pfister, O. Tuzel, J. Susskind, W. Wang, R. Webb", 2017, "1612.07828",
    ),
    tiny={
        "image_size": 8, "width": 4, "num_blocks": 1, "discriminator_width": 6, "refiner_steps": 1,
        "discriminator_steps": 1, "refiner_updates": 1, "history_size": 6, "batch_size": 4,
        "regularization_weight": 0.1,
    },
)  # fmt: skip
class SimGAN(GAN):
    """Refiner of synthetic pictures `images_a` by real ones `images_b`, (batch, height, width, channels).

        refined = model.refine(images)             # of any size, in [-1, 1]
        training_set = model.refine_dataset(ds)    # labels and all else as they were
        model.realism_map(images)                  # where D takes pictures for real ones

    Logs per picture, sums over positions and pixels: `d_loss`, `g_loss` (R's first term) and
    `regularization_loss` (its second one, before the weight). What a phase does not train is 0.
    """

    config_cls = SimGANConfig
    log_names = ("d_loss", "g_loss", "regularization_loss")
    public_name = "refiner"

    @property
    def view(self) -> str:
        """Two collections, of which the first may have labels."""
        return "refinement" if self.config.labelled else "unpaired"

    def build_networks(self, config: SimGANConfig) -> dict[str, keras.Model]:
        return {"refiner": build_refiner(config), "discriminator": build_discriminator(config)}

    def build_state(self, config: SimGANConfig) -> None:
        self._features: VGG19Features | None = None
        self.history_buffer = None
        if config.history_size:
            self.history_buffer = HistoryBuffer(config.history_size, name="history_buffer")
            self.history_buffer.build((None, *height_width(config.image_size), config.channels))

    @property
    def phases(self) -> tuple[tuple[str, int], ...]:
        c = self.config
        starts = {"refiner": 0, "discriminator": c.refiner_steps}
        starts["adversarial"] = c.refiner_steps + c.discriminator_steps
        later = list(starts.values())[1:] + [None]
        return tuple((name, first) for (name, first), end in zip(starts.items(), later) if first != end)

    @property
    def batches_per_step(self) -> int:
        return self.config.refiner_updates + self.config.discriminator_updates

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c = self.config
        if c.optimizer == "sgd":
            return keras.optimizers.SGD(c.learning_rate)
        return keras.optimizers.Adam(c.learning_rate, beta_1=c.beta_1, epsilon=1e-8)

    @property
    def batch_spec(self) -> BatchSpec:
        field = image_field(height_width(self.config.image_size), self.config.channels)
        return BatchSpec(images_a=field, images_b=field)

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        pictures = {"images": (-1.0, 1.0), "outputs": (-1.0, 1.0)}
        return {"refine": Endpoint(self.refiner, pictures, {"images": "images_a"})}

    def before_training(self, last_step: int | None) -> None:
        """Loads VGG19 where psi needs it.

        Raises:
            FeatureWeightsError: if its weights cannot be loaded.
        """
        c = self.config
        if c.psi == "features" and self._features is None:
            with self.distribute_strategy.scope():
                self._features = VGG19Features(c.feature_layer, c.feature_weights, c.seed)

    # ---------------------------------------------------------------- training

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        batches, count = self.split_batch(batch), self.config.refiner_updates
        if self.phase == "refiner":
            return self._log(**self._update_refiner(batches[0]))
        if self.phase == "discriminator":
            return self._log(d_loss=self._update_discriminator(batches[0], 0))
        refiner_logs = [self._update_refiner(part) for part in batches[:count]]
        d_losses = [self._update_discriminator(part, k) for k, part in enumerate(batches[count:])]
        return self._log(d_loss=tf.reduce_mean(d_losses), **refiner_logs[-1])

    def _update_refiner(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        synthetic = batch["images_a"]
        with tf.GradientTape() as tape:
            refined = self.refiner(synthetic, training=True)
            loss, logs = self._refiner_loss(synthetic, refined, training=True)
        self.update("refiner", tape, loss)
        return logs

    def _refiner_loss(
        self, synthetic: tf.Tensor, refined: tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Equation 4, in R's own training its second term, and the terms before weighting."""
        regularization = self.regularization_loss(synthetic, refined)
        loss = self.config.regularization_weight * regularization
        if self.phase == "refiner":
            return loss, {"regularization_loss": regularization}
        adversarial = local_loss(self.discriminator(refined, training=training), REAL)
        return loss + adversarial, {"regularization_loss": regularization, "g_loss": adversarial}

    def regularization_loss(self, synthetic: tf.Tensor, refined: tf.Tensor) -> tf.Tensor:
        """|psi(refined) - psi(synthetic)|_1, summed over a picture, the batch's mean."""
        before, after = self._psi(synthetic), self._psi(refined)
        distances = [tf.reduce_sum(tf.abs(a - b), axis=(1, 2, 3)) for a, b in zip(before, after)]
        return tf.reduce_mean(tf.add_n(distances))

    def _psi(self, images: tf.Tensor) -> list[tf.Tensor]:
        """The maps that self-regularisation compares, each (batch, height, width, channels)."""
        if self.config.psi == "mean_color":
            return [tf.reduce_mean(images, axis=-1, keepdims=True)]
        if self.config.psi == "gradients":
            return [images[:, 1:] - images[:, :-1], images[:, :, 1:] - images[:, :, :-1]]
        if self.config.psi == "blur":
            return [tf.nn.avg_pool2d(images, 5, 1, "SAME")]
        return [self._features(images) if self.config.psi == "features" else images]

    def _update_discriminator(self, batch: dict[str, tf.Tensor], number: int) -> tf.Tensor:
        refined = self.refiner(batch["images_a"], training=True)
        if self.history_buffer is not None:
            refined = self.history_buffer(refined, self._seed(f"history {number}"))
        with tf.GradientTape() as tape:
            loss = self._discriminator_loss(batch["images_b"], refined, training=True)
        self.update("discriminator", tape, loss)
        return loss

    def _discriminator_loss(self, real: tf.Tensor, refined: tf.Tensor, training: bool) -> tf.Tensor:
        real_logits, refined_logits = (self.discriminator(x, training=training) for x in (real, refined))
        return local_loss(refined_logits, REFINED) + local_loss(real_logits, REAL)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        refined = self.refiner(batch["images_a"], training=False)
        _, logs = self._refiner_loss(batch["images_a"], refined, training=False)
        return self._log(d_loss=self._discriminator_loss(batch["images_b"], refined, training=False), **logs)

    def _log(self, **scalars: tf.Tensor) -> dict[str, tf.Tensor]:
        return self.log(**{**dict.fromkeys(self.log_names, 0.0), **scalars})

    # ---------------------------------------------------------------- inference

    def refine(self, images: Any, batch_size: int = 64) -> np.ndarray:
        """Refines pictures; the result with an index is of the picture with that index.

        Args:
            images: (batch, height, width, channels) in [-1, 1], or one picture without batch axis, of any
                size.
            batch_size: pictures per call of the network.

        Returns:
            float32 of the same shape as a batch, in [-1, 1].

        Raises:
            BatchError: for images that do not fit.
        """
        return self.run(checked_images(images, self._any_size), batch_size)

    def refine_dataset(self, dataset: tf.data.Dataset, field: str = "images") -> tf.data.Dataset:
        """A labelled synthetic data set with its pictures refined and everything else as it is.

        Args:
            dataset: batches, as dicts or as tuples whose first entry are the pictures.
            field: the pictures' name in a dict.

        Raises:
            KeyError: if the batches are dicts without this field.
        """
        if isinstance(dataset.element_spec, Mapping):
            if field not in dataset.element_spec:
                raise KeyError(f"no field {field!r} in the batches: {', '.join(dataset.element_spec)}.")
            return dataset.map(lambda batch: {**batch, field: self.call(batch[field])})
        return dataset.map(lambda images, *rest: (self.call(images), *rest))

    def realism_map(self, images: Any, batch_size: int = 64) -> np.ndarray:
        """How real D finds each part of pictures.

        Args:
            images: as for `refine`.
            batch_size: pictures per call of the network.

        Returns:
            float32 (batch, rows, columns), probabilities; one per position of D, which sees the part of the
            picture around it (23x23 pixels for "gaze").

        Raises:
            BatchError: for images that do not fit.
        """
        logits = self.run(checked_images(images, self._any_size), batch_size, "discriminator")
        return tf.nn.softmax(logits)[..., REAL].numpy()

    @property
    def _any_size(self) -> Any:
        return image_field((None, None), self.config.channels)

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """What small classifiers learn from refined pictures, and from synthetic ones (_baseline).

        Returns:
            real_accuracy: on real pictures, of classifiers trained on refined ones with their labels;
            recognised: on refined pictures, of classifiers trained on real ones: do they still show what
                their labels say?
            change: mean |R(x) - x|. Without labels that alone.
        """
        synthetic, refined = examples["images_a"], self.refine(examples["images_a"])
        results = {"change": float(np.abs(refined - synthetic).mean())}
        if "labels" not in examples:
            return results
        real, labels = examples["images_b"], examples["labels"]
        return {
            "real_accuracy": reading_accuracy(refined, labels, real),
            "real_accuracy_baseline": reading_accuracy(synthetic, labels, real),
            "recognised": reading_accuracy(real, labels, refined),
            "recognised_baseline": reading_accuracy(real, labels, synthetic),
            **results,
        }


def reading_accuracy(images: np.ndarray, labels: np.ndarray, test_images: np.ndarray) -> float:
    """Mean accuracy on test pictures, with the same labels, of three small classifiers trained on others.

    Args:
        images: (count, height, width, channels) in [-1, 1]; labels are integers (count,).
        test_images: of the same shape.
    """
    readers = _trained_readers(images, labels)
    return float(np.mean([(classifier.classify(reader, test_images) == labels).mean() for reader in readers]))


#: Readers of the last pictures: several states of a model are measured beside the same baselines.
_READERS: OrderedDict[str, list[keras.Model]] = OrderedDict()
_NUM_READERS, _READER_EPOCHS = 3, 10


def _trained_readers(images: np.ndarray, labels: np.ndarray) -> list[keras.Model]:
    """Classifiers of these pictures that differ in initial weights, dropout and order."""
    key = hashlib.sha256(np.ascontiguousarray(images).tobytes() + np.asarray(labels).tobytes()).hexdigest()
    if key not in _READERS:
        _READERS[key] = [_train_reader(images, labels, seed) for seed in range(_NUM_READERS)]
    _READERS.move_to_end(key)
    while len(_READERS) > 3:
        _READERS.popitem(last=False)
    return _READERS[key]


def _train_reader(images: np.ndarray, labels: np.ndarray, seed: int) -> keras.Model:
    """Images (batch, height, width, channels) -> [features (batch, 64), logits]; quick to train."""
    with fitting.initial_conditions("float32", seed):
        x = inputs = keras.Input(images.shape[1:])
        for width in (16, 32, 64):
            x = layers.Conv2D(width, 3, padding="same", activation="relu")(x)
            x = layers.MaxPooling2D(2, padding="same")(x)
        features = layers.Dense(64, activation="relu")(layers.Flatten()(x))
        logits = layers.Dense(int(labels.max()) + 1)(layers.Dropout(0.5, seed=seed)(features))
        reader = keras.Model(inputs, [features, logits])
    classifier.train_classifier(reader, images, labels, _READER_EPOCHS, batch_size=50, seed=seed)
    return reader


def local_loss(logits: tf.Tensor, label: int) -> tf.Tensor:
    """Cross-entropy with `label` at each position of logits (batch, rows, columns, 2), summed over them."""
    logits = tf.cast(logits, tf.float32)
    losses = -tf.nn.log_softmax(logits)[..., label]
    return tf.reduce_mean(tf.reduce_sum(losses, axis=(1, 2)))


def build_refiner(config: SimGANConfig) -> keras.Model:
    """Images (batch, height, width, channels) -> refined ones in [-1, 1]; nothing is made smaller."""
    images = keras.Input((None, None, config.channels), name="images")
    x = layers.Conv2D(config.width, config.kernel_size, padding="same", activation="relu")(images)
    for _ in range(config.num_blocks):
        y = layers.Conv2D(config.width, 3, padding="same", activation="relu")(x)
        y = layers.Conv2D(config.width, 3, padding="same")(y)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.Conv2D(config.channels, 1)(x)
    outputs = layers.Activation("tanh", dtype="float32", name="outputs")(x)
    return keras.Model(images, outputs, name="refiner")


def build_discriminator(config: SimGANConfig) -> keras.Model:
    """Images (batch, height, width, channels) -> logits (batch, rows, columns, 2) for REAL and REFINED.

    The softmax is left to the losses. 35x55 pixels have 9x14 positions.
    """
    x = images = keras.Input((None, None, config.channels), name="images")
    width = config.discriminator_width
    widths = iter((width, 2 * width // 3, width // 3, width // 3))
    for k, (kernel, stride) in enumerate(_DISCRIMINATORS[config.discriminator]):
        if k == _POOLING:
            x = layers.MaxPooling2D(kernel, stride, padding="same")(x)
        else:
            x = layers.Conv2D(next(widths), kernel, stride, padding="same", activation="relu")(x)
    logits = layers.Conv2D(2, 1, dtype="float32", name="logits")(x)
    return keras.Model(images, logits, name="discriminator")
