"""Models that make pictures of captions: what all of them share besides their networks and losses.

First a character-level network learns embeddings t = phi(caption) that fit image features v, by a hinge on
all pairs in a batch that are of different classes, in both directions (Reed et al. 2016, arXiv:1605.05395):

    1/N^2 sum_i sum_j max(0, 1 + v_i.t_j - v_i.t_i) + max(0, 1 + t_i.v_j - t_i.v_i);

then generators and discriminators are trained with phi fixed. From the authors' released code for birds
(train_cub_hybrid.sh) are phi's layers, its first weights and biases, uniform up to 0.08, and its training:
30,000 steps of Torch's RMSprop with a rate of 7e-4, times 0.98 every 150 steps.

Departures: image features are MobileNet's 1024 (the authors' are GoogLeNet's 1024) or, for trials without a
download, those of a random network minus the batch's mean. A batch of phi's training is as large as those of
the other phases, as one `fit` has one size of batch, and its images are any; there it is 40 images of as many
classes. One caption goes with an image where the authors take the mean of several embeddings. The bias of
phi's recurrent layer acts in its first step, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import keras
import numpy as np
import tensorflow as tf

from tf_gan_zoo import random, replicas
from tf_gan_zoo.batch_spec import BatchSpec, Field, checked_images, image_field
from tf_gan_zoo.config import (
    Channels,
    Config,
    ConfigError,
    ImageSize,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    height_width,
)
from tf_gan_zoo.endpoints import Endpoint, ServingFunction
from tf_gan_zoo.gan import AdversarialGAN
from tf_gan_zoo.metrics import tasks
from tf_gan_zoo.networks.text import (
    ALPHABET,
    FEATURE_SIZE,
    SHORTEST_CAPTIONS,
    ImageFeatures,
    characters_of,
    structured_hinge,
)
from tf_gan_zoo.optimizers import OuterEpsilonRMSprop


@dataclass(frozen=True, kw_only=True)
class CaptionedConfig(Config):
    """Captions, their embeddings, and how these are learnt.

    Attributes:
        text_size: numbers in a caption's embedding; those of the image features.
        text_width: a third, a quarter and half of the channels of the text network's convolutions.
        text_initial_range: the text network's first weights and biases are uniform up to it; narrow networks
            need more.
        caption_length: captions are read up to so many characters.
        image_features: what captions learn to fit: "mobilenet" with ImageNet's weights, or "random".
        text_steps: steps of the text network's training; 200 epochs of birds, of one step per class.
        text_learning_rate: of the text network's RMSprop.
        text_decay_steps: it is multiplied by 0.98 after so many steps, an epoch of birds.
        sample_captions: what samples show, in turn, where no captions are given.
    """

    data: str = "captions:birds"
    batch_size: PositiveInt = 64
    steps_per_epoch: PositiveInt | None = 138
    image_size: ImageSize = 64
    channels: Channels = 3
    latent_size: PositiveInt = 100
    latent_distribution: Literal["normal"] = "normal"
    text_size: PositiveInt = FEATURE_SIZE
    text_width: PositiveInt = 128
    text_initial_range: PositiveFloat = 0.08
    caption_length: PositiveInt = 201
    image_features: Literal["mobilenet", "random"] = "mobilenet"
    text_steps: NonNegativeInt = 200 * 150
    text_learning_rate: PositiveFloat = 7e-4
    text_decay_steps: PositiveInt = 150
    sample_captions: tuple[str, ...] = (
        "a small red bird with a black face", "a brown bird with white wings and a long beak",
        "a blue bird with a white belly", "a black bird with yellow eyes",
    )  # fmt: skip

    def validate(self) -> None:
        name = type(self).__name__
        if self.image_features == "mobilenet" and self.text_size != FEATURE_SIZE:
            raise ConfigError(
                f"{name}.text_size: MobileNet has {FEATURE_SIZE} features, got {self.text_size}."
            )
        if self.caption_length < SHORTEST_CAPTIONS:
            raise ConfigError(
                f"{name}.caption_length: {self.caption_length} characters are too few for the text network's "
                f"layers. Use {SHORTEST_CAPTIONS} or more."
            )
        if not self.sample_captions:
            raise ConfigError(f"{name}.sample_captions: expected at least one caption, got none.")


class CaptionedGAN(AdversarialGAN):
    """A GAN whose generator takes {"latents", "text"} and whose batches have "images", "captions", "labels".

    Labels are the classes between which texts must not be mixed up. A subclass has a network "text_encoder",
    puts `text_phases` before its own, and does `text_step` in the phase "text".
    """

    config_cls = CaptionedConfig
    view = "captioned"
    #: The network that judges whether a picture is real and of its caption.
    judge_name: ClassVar[str] = "discriminator"

    def build_state(self, config: CaptionedConfig) -> None:
        self._image_features: ImageFeatures | None = None

    @property
    def text_phases(self) -> tuple[tuple[str, int], ...]:
        """The phase in which the text network learns, if it does."""
        return (("text", 0),) if self.config.text_steps else ()

    @property
    def latent_size(self) -> int:
        """Random numbers behind a picture."""
        return self.config.latent_size

    def text_optimizer(self) -> keras.optimizers.Optimizer:
        """A new optimizer of the text network."""
        c = self.config
        rate = keras.optimizers.schedules.ExponentialDecay(
            c.text_learning_rate, c.text_decay_steps, 0.98, staircase=True
        )
        return OuterEpsilonRMSprop(rate, rho=0.99)  # Torch's

    @property
    def batch_spec(self) -> BatchSpec:
        c = self.config
        return BatchSpec(
            images=image_field(height_width(c.image_size), c.channels),
            captions=Field((), dtype="string"),
            labels=Field((), dtype="int32"),
        )

    def before_training(self, last_step: int | None) -> None:
        """Loads the network of image features, if this training gets to need it."""
        if self.config.text_steps and self._image_features is None:
            with self.distribute_strategy.scope():
                self._image_features = ImageFeatures(self.config)

    # ---------------------------------------------------------------- training

    def text_step(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One update of the text network, logged as text_loss."""
        with tf.GradientTape() as tape:
            loss = self.text_loss(batch, training=True)
        self.update("text_encoder", tape, loss)
        return self.log_some(text_loss=loss)

    def text_loss(self, batch: Mapping[str, tf.Tensor], training: bool) -> tf.Tensor:
        """The hinge on a batch, a scalar."""
        if self._image_features is None:
            self.before_training(None)
        codes = characters_of(batch["captions"], self.config.caption_length)
        text = self.text_encoder(codes, training=training)
        everything = (self._image_features(batch["images"]), text, batch["labels"])
        features, text, labels = map(replicas.gather, everything)
        if self.config.image_features == "random":  # what all pictures have in common outweighs the rest
            features -= tf.reduce_mean(features, axis=0)
        return structured_hinge(features, text, labels)

    def embed(self, captions: tf.Tensor) -> tf.Tensor:
        """phi: strings (batch,) -> float32 (batch, text_size)."""
        codes = characters_of(captions, self.config.caption_length)
        return self.text_encoder(codes, training=False)

    def log_some(self, **scalars: tf.Tensor) -> dict[str, tf.Tensor]:
        """`log` where the names that are not given are 0: a phase has not all of them."""
        return self.log(**{**dict.fromkeys(self.log_names, 0.0), **scalars})

    # ---------------------------------------------------------------- pictures and texts

    def _latents(self, count: int | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return random.normal((count, self.latent_size), seed)

    def generate(
        self, num_samples: int | None = None, seed: int = 0, batch_size: int = 64, **conditions: Any
    ) -> np.ndarray:
        """Pictures of captions.

        Args:
            num_samples: how many; by default as many as there are captions, or one.
            seed: the same seed gives the same pictures.
            batch_size: pictures per call of the network.
            **conditions: `captions`, one or a list, or `text`, their embeddings; none for the config's
                `sample_captions` in turn.

        Returns:
            float32 (num_samples, height, width, channels) in [-1, 1].

        Raises:
            ValueError: for a number below 1, or if the captions do not fit it.
        """
        return super().generate(_count(num_samples, conditions), seed, batch_size, **conditions)

    def sample_inputs(
        self, num_samples: int, seed: int = 0, captions: Any = None, text: Any = None
    ) -> dict[str, tf.Tensor]:
        """Latents, and embeddings of captions (one for all, or one each), or these themselves.

        Raises:
            ValueError: if both are given, or they are neither one nor `num_samples`.
        """
        latents = super().sample_inputs(num_samples, seed)
        if text is not None and captions is not None:
            raise ValueError("give captions or text, not both.")
        if text is None and captions is None:
            known = self.config.sample_captions
            turns = tf.range(num_samples) % len(known)
            return {"latents": latents, "text": tf.gather(self.encode_text(known), turns)}
        text = tf.convert_to_tensor(self.encode_text(captions) if text is None else text, tf.float32)
        text = text[None] if text.shape.rank == 1 else text
        if text.shape[0] not in (1, num_samples):
            raise ValueError(f"expected one caption or {num_samples}, got {text.shape[0]}.")
        return {"latents": latents, "text": text + tf.zeros((num_samples, 1))}

    def encode_text(self, captions: str | Sequence[str]) -> tf.Tensor:
        """Embeddings, float32 (count, text_size), of a caption or several."""
        captions = [captions] if isinstance(captions, (str, bytes)) else list(captions)
        return self.embed(tf.constant(captions, tf.string))

    def interpolate(self, a: str, b: str, steps: int = 8, seed: int = 0) -> np.ndarray:
        """Pictures (steps, height, width, channels) of embeddings on a line from caption a to caption b."""
        first, last = self.encode_text([a, b])
        shares = tf.linspace(0.0, 1.0, steps)[:, None]
        latents = tf.repeat(super().sample_inputs(1, seed), steps, axis=0)
        return np.asarray(self.run({"latents": latents, "text": first + shares * (last - first)}))

    def match_score(self, images: Any, captions: Sequence[str], batch_size: int = 64) -> np.ndarray:
        """D's probability that pictures are real and their captions say what they show: float32 (count,).

        Raises:
            BatchError: if the pictures do not fit the model.
            ValueError: for another number of captions.
        """
        images, text = self.pairs(images, captions)
        logits = self.run({"images": images, "text": text}, batch_size, self.judge_name)
        return tf.sigmoid(logits)[:, 0].numpy()

    def pairs(self, images: Any, captions: Sequence[str]) -> tuple[np.ndarray, tf.Tensor]:
        """Checked pictures and the embeddings of their captions; raises as `match_score`."""
        images, text = checked_images(images, self.batch_spec["images"]), self.encode_text(captions)
        if len(images) != len(text):
            raise ValueError(f"expected a caption per picture, got {len(text)} for {len(images)} pictures.")
        return images, text

    # ---------------------------------------------------------------- export and measures

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        notes = {"latents": "standard normal numbers", "text": "an embedding, such as `encode_text` gives"}
        letters = {
            "characters": f"places of {self.config.caption_length} lower-case letters in {ALPHABET!r} (the "
            f"last place if there are two); {len(ALPHABET)} for others and behind the end"
        }
        return {
            "generate": Endpoint(self.public_network(), {"images": self.output_range}, notes=notes),
            "encode_text": Endpoint(self.text_encoder, notes=letters),
        }

    def example_inputs(
        self, endpoint: Endpoint, count: int, sizes: Mapping[str, tuple[int, int]], seed: int = 0
    ) -> dict[str, Any]:
        if "characters" not in endpoint.input_names:
            return super().example_inputs(endpoint, count, sizes, seed)
        captions = tf.constant([f"caption {k + seed}" for k in range(count)])
        return {"characters": characters_of(captions, self.config.caption_length)}

    @property
    def serving_functions(self) -> dict[str, ServingFunction]:
        def generate_from_captions(captions: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
            latents = self._latents(tf.shape(captions)[0], random.make_seed(seed, "samples"))
            return {"images": self.call({"latents": latents, "text": self.embed(captions)})}

        types = (tf.TensorSpec((None,), tf.string, name="captions"), tf.TensorSpec((), tf.int64, name="seed"))
        examples = {"captions": tf.constant(["red heart", "star"]), "seed": tf.constant(3, tf.int64)}
        function = ServingFunction(generate_from_captions, types, {"images": self.output_range}, examples)
        return {**super().serving_functions, "generate_from_captions": function}

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Whether pictures are of their captions, and whether D can tell.

        Returns:
            caption_accuracy: pictures made of held-out captions whose nearest held-out picture is of the
                caption's class;
            word_accuracy: the captions' words that are among those of the nearest picture's caption; the
                baselines of both deal out the pictures to the captions at random;
            match_auroc: how surely a real picture with its caption scores above one with a caption of another
                class, 0.5 for a guess (the area under the ROC curve).
        """
        captions = [text_of(caption) for caption in examples["captions"]]
        numbers = caption_accuracies(self.generate(captions=captions), examples)
        images, labels = np.asarray(examples["images"]), np.asarray(examples["labels"])
        others = tasks.of_another_class(labels)
        right = self.match_score(images, captions)
        wrong = self.match_score(images, [captions[k] for k in others])[labels[others] != labels]
        ties = 0.5 * (right[:, None] == wrong).mean()
        return {**numbers, "match_auroc": float((right[:, None] > wrong).mean() + ties)}


def caption_accuracies(pictures: np.ndarray, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
    """caption_accuracy and word_accuracy of `CaptionedGAN.measure`, with their baselines.

    Args:
        pictures: made of the examples' captions, (count, height, width, channels).
        examples: held-out images, captions and labels.
    """
    labels = np.asarray(examples["labels"])
    captions = [text_of(caption) for caption in examples["captions"]]
    nearest, _ = tasks.nearest_neighbours(pictures, np.asarray(examples["images"]))
    shared = np.array([[tasks.shared_words(a, captions[k]) for k in nearest] for a in captions])
    return {
        "caption_accuracy": float((labels[nearest] == labels).mean()),
        "caption_accuracy_baseline": float((labels[nearest] == labels[:, None]).mean()),
        "word_accuracy": float(np.diag(shared).mean()),
        "word_accuracy_baseline": float(shared.mean()),
    }


def text_of(caption: str | bytes) -> str:
    """A caption as a data set or a user gives it, as text."""
    return caption.decode() if isinstance(caption, bytes) else str(caption)


def _count(num_samples: int | None, conditions: Mapping[str, Any]) -> int:
    """How many pictures are asked for by a number, or else by the captions or embeddings."""
    given = next(iter(conditions.values()), None)
    listed = given is not None and not isinstance(given, (str, bytes))
    return num_samples if num_samples is not None else (len(given) if listed else 1)


def matching_loss(
    real: tf.Tensor, wrong: tf.Tensor, fake: tf.Tensor, other_class: tf.Tensor
) -> tf.Tensor:
    """-E log D(x, h) - 1/2 E log(1 - D(x', h)) - 1/2 E log(1 - D(G(h), h)), of logits (batch, 1), a scalar.

    Args:
        real: of pictures with their captions.
        wrong: of other pictures with these captions.
        fake: of generated pictures.
        other_class: boolean (batch,): whether the wrong picture is of another class; others do not count.
    """
    right = tf.reduce_mean(tf.nn.softplus(-real))
    mismatched = replicas.masked_mean(tf.nn.softplus(wrong)[:, 0], other_class)
    return right + 0.5 * mismatched + 0.5 * tf.reduce_mean(tf.nn.softplus(fake))
