"""GAN-CLS, GAN-INT and GAN-INT-CLS: pictures from sentences.

    D minimises  -E log D(x, h) - 1/2 E log(1 - D(x', h)) - 1/2 E log(1 - D(G(z, h), h)),
    G minimises  -E log D(G(z, h), h) - E log D(G(z, m), m),            m = (h + h') / 2,

x a picture, h the embedding of its caption, x' a picture of another class, h' another caption's embedding.
The second term of D (CLS) makes it look at the text, too, and not only for realistic pictures. The second
term of G (INT) fills the gaps between the captions there are; D is never trained on m. `variant` is "gan",
"cls", "int" or "int_cls"; without CLS D's terms have weights 1, 0 and 1.

Three phases in one `fit`. First a character-level network learns embeddings t = phi(caption) that fit
image features v, by a hinge on all pairs in a batch that are of different classes, in both directions:

    1/N^2 sum_i sum_j max(0, 1 + v_i.t_j - v_i.t_i) + max(0, 1 + t_i.v_j - t_i.v_i);

then G and D as above with phi fixed; then S, with G fixed, which finds the style of a picture, all that the
caption does not say: S minimises E |z - S(G(z, h))|^2, and G(S(x), h) is another thing in the style of x.

References: S. Reed, Z. Akata, X. Yan, L. Logeswaran, B. Schiele, H. Lee, "Generative Adversarial Text to
Image Synthesis", ICML 2016, arXiv:1605.05396; S. Reed, Z. Akata, H. Lee, B. Schiele, "Learning Deep
Representations of Fine-grained Visual Descriptions", CVPR 2016, arXiv:1605.05395 (the text network). Layers
and numbers follow the authors' released code, those of GAN-INT-CLS for birds and flowers.

Choices where both are silent: S has D's layers for pictures and a linear last one.

Departures: image features are MobileNet's 1024 (the code's are GoogLeNet's 1024) or, for trials without a
download, those of a random network minus the batch's mean; one caption goes with a picture where the code
takes the mean of four embeddings; mixed embeddings come from all neighbours in the batch instead of its two
halves, and their term is a mean of its own; the wrong picture is the next one in the batch, left out if it
is of the same class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from pydantic import NonNegativeInt

from tf_gan_zoo import fitting, random, replicas
from tf_gan_zoo.batch_spec import BatchSpec, Field, checked_images, image_field
from tf_gan_zoo.config import (
    Channels,
    Config,
    ConfigError,
    Fraction,
    ImageSize,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    height_width,
)
from tf_gan_zoo.endpoints import Endpoint, ServingFunction
from tf_gan_zoo.gan import AdversarialGAN
from tf_gan_zoo.losses import non_saturating_generator_loss as positive_loss
from tf_gan_zoo.metrics import tasks
from tf_gan_zoo.registry import Paper, register

#: Other characters are left out of a caption's code.
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789-,;.!?:'\"/\\|_@#$%^&*~`+-=<>()[]{} "
_FEATURE_SIZE = 1024  # of MobileNet
_SHORTEST_CAPTIONS = 66  # one step of the recurrent layer


@dataclass(frozen=True, kw_only=True)
class GANCLSConfig(Config):
    """GAN-INT-CLS for birds.

    Attributes:
        variant: which terms D and G have, see above.
        width: channels of G's last but one layer; the first has 8 times as many.
        discriminator_width: channels of D's first layer.
        text_size: numbers in a caption's embedding; those of the image features.
        text_code_size: numbers that G and D make of it, each by a layer of its own.
        text_width: a third, a quarter and half of the channels of the text network's convolutions.
        text_initial_range: the text network's first weights are uniform up to it; narrow ones need more.
        caption_length: captions are read up to so many characters.
        image_features: what captions learn to fit: "mobilenet" with ImageNet's weights, or "random".
        interpolation_weight: of G's term for mixed embeddings.
        text_steps: steps of the text network's training; 200 epochs.
        style_start: the step from which S is trained, after 600 epochs of G and D; None for never.
        text_learning_rate: of the text network's RMSprop.
        initial_std: standard deviation of convolutions' first weights; narrow networks need a larger one.
        halving_steps: G's and D's learning rate is halved after so many steps; 100 epochs of birds.
    """

    data: str = "captions:birds"
    batch_size: PositiveInt = 64
    epochs: PositiveInt = 850
    steps_per_epoch: PositiveInt | None = 138
    variant: Literal["gan", "cls", "int", "int_cls"] = "int_cls"
    image_size: ImageSize = 64
    channels: Channels = 3
    latent_size: PositiveInt = 100
    latent_distribution: Literal["normal"] = "normal"
    width: PositiveInt = 128
    discriminator_width: PositiveInt = 64
    text_size: PositiveInt = _FEATURE_SIZE
    text_code_size: PositiveInt = 128
    text_width: PositiveInt = 128
    text_initial_range: PositiveFloat = 0.08
    caption_length: PositiveInt = 201
    image_features: Literal["mobilenet", "random"] = "mobilenet"
    interpolation_weight: NonNegativeFloat = 1.0
    text_steps: NonNegativeInt = 200 * 138
    style_start: PositiveInt | None = 800 * 138
    text_learning_rate: PositiveFloat = 7e-4
    learning_rate: PositiveFloat = 2e-4
    beta_1: Fraction = 0.5
    initial_std: PositiveFloat = 0.02
    halving_steps: PositiveInt = 100 * 138

    def validate(self) -> None:
        if any(side % 16 for side in height_width(self.image_size)):
            raise ConfigError(
                f"GANCLSConfig.image_size: expected multiples of 16, such as 64, got {self.image_size}."
            )
        if self.image_features == "mobilenet" and self.text_size != _FEATURE_SIZE:
            raise ConfigError(
                f"GANCLSConfig.text_size: MobileNet has {_FEATURE_SIZE} features, got {self.text_size}."
            )
        if self.caption_length < _SHORTEST_CAPTIONS:
            raise ConfigError(
                f"GANCLSConfig.caption_length: {self.caption_length} characters are too few for the text "
                f"network's layers. Use {_SHORTEST_CAPTIONS} or more."
            )
        if self.style_start is not None and self.style_start <= self.text_steps:
            raise ConfigError(
                f"GANCLSConfig.style_start: {self.style_start} must be above text_steps, {self.text_steps}."
            )

    @property
    def interpolates(self) -> bool:
        """Whether G has its second term."""
        return "int" in self.variant

    @property
    def matches(self) -> bool:
        """Whether D has its second term."""
        return "cls" in self.variant


@register(
    "gan_cls",
    task="text_to_image",
    paper=Paper(
        "Generative Adversarial Text to Image Synthesis",
        "S. Reed, Z. Akata, X. Yan, L. Logeswaran, B. Schiele, H. Lee", 2016, "1605.05396",
    ),
    tiny={
        "image_size": 16, "width": 2, "discriminator_width": 4, "latent_size": 4, "text_size": 8,
        "text_code_size": 4, "text_width": 2, "image_features": "random", "text_steps": 1,
        "style_start": None, "batch_size": 4,
    },
)  # fmt: skip
class GANCLS(AdversarialGAN):
    """Pictures by caption; images are (batch, height, width, channels) in [-1, 1], captions strings (batch,).

        model.generate(captions=["red heart", "blue car"])
        model.interpolate("red heart", "blue car", 8)       # pictures on the way from one to the other
        model.match_score(images, captions)                 # does the text say what the picture shows?
        model.style_transfer(images, captions)              # other things in the pictures' style

    Logs the text network's hinge (text_loss), D's loss, G's first term (g_loss) and S's squared error
    (style_loss); what a phase does not train is 0.
    """

    config_cls = GANCLSConfig
    view = "captioned"
    log_names = ("text_loss", "d_loss", "g_loss", "style_loss")

    def build_networks(self, config: GANCLSConfig) -> dict[str, keras.Model]:
        networks = {
            "generator": build_generator(config),
            "discriminator": build_discriminator(config),
            "text_encoder": build_text_encoder(config),
        }
        if config.style_start is not None:
            networks["style_encoder"] = build_style_encoder(config)
        return networks

    def build_state(self, config: GANCLSConfig) -> None:
        self._image_features: ImageFeatures | None = None

    @property
    def phases(self) -> tuple[tuple[str, int], ...]:
        c = self.config
        phases = [("text", 0)] if c.text_steps else []
        phases.append(("adversarial", c.text_steps))
        return tuple(phases if c.style_start is None else [*phases, ("style", c.style_start)])

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c = self.config
        if player == "text_encoder":
            return keras.optimizers.RMSprop(c.text_learning_rate)
        halved = keras.optimizers.schedules.ExponentialDecay(
            c.learning_rate, c.halving_steps, 0.5, staircase=True
        )
        return keras.optimizers.Adam(halved, beta_1=c.beta_1)

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

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        if self.phase == "text":
            return self._text_step(batch)
        text = self.embed(batch["captions"])
        return self._style_step(text) if self.phase == "style" else self._adversarial_step(batch, text)

    def _text_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = self._text_loss(batch, training=True)
        self.update("text_encoder", tape, loss)
        return self._log(text_loss=loss)

    def _text_loss(self, batch: dict[str, tf.Tensor], training: bool) -> tf.Tensor:
        if self._image_features is None:
            self.before_training(None)
        codes = characters_of(batch["captions"], self.config.caption_length)
        text = self.text_encoder(codes, training=training)
        everything = (self._image_features(batch["images"]), text, batch["labels"])
        features, text, labels = map(replicas.gather, everything)
        if self.config.image_features == "random":  # what all pictures have in common outweighs the rest
            features -= tf.reduce_mean(features, axis=0)
        return structured_hinge(features, text, labels)

    def _adversarial_step(self, batch: dict[str, tf.Tensor], text: tf.Tensor) -> dict[str, tf.Tensor]:
        fakes = self._pictures("for D", text, training=True)
        with tf.GradientTape() as tape:
            d_loss = self._discriminator_loss(batch, text, fakes, training=True)
        self.update("discriminator", tape, d_loss)
        with tf.GradientTape() as tape:
            g_loss = self._fooling_loss("for G", text, training=True)
            loss = g_loss
            if self.config.interpolates:
                mixed = 0.5 * (text + replicas.rolled(text))
                loss += self.config.interpolation_weight * self._fooling_loss("mixed", mixed, training=True)
        self.update("generator", tape, loss)
        return self._log(d_loss=d_loss, g_loss=g_loss)

    def _discriminator_loss(
        self, batch: dict[str, tf.Tensor], text: tf.Tensor, fakes: tf.Tensor, training: bool
    ) -> tf.Tensor:
        """Real pictures with their text, wrong ones with it (CLS), and fakes."""
        real, fake = (self._judge(images, text, training) for images in (batch["images"], fakes))
        positive, negative = positive_loss(real), tf.reduce_mean(tf.nn.softplus(fake))
        if not self.config.matches:
            return positive + negative
        other_class = tf.not_equal(batch["labels"], replicas.rolled(batch["labels"]))
        wrong = tf.nn.softplus(self._judge(replicas.rolled(batch["images"]), text, training))[:, 0]
        return positive + 0.5 * replicas.masked_mean(wrong, other_class) + 0.5 * negative

    def _fooling_loss(self, purpose: str, text: tf.Tensor, training: bool) -> tf.Tensor:
        return positive_loss(self._judge(self._pictures(purpose, text, training), text, training))

    def _style_step(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        latents = self.latents("style", tf.shape(text)[0])
        images = self.generator({"latents": latents, "text": text}, training=False)
        with tf.GradientTape() as tape:
            loss = squared_error(latents, self.style_encoder(images, training=True))
        self.update("style_encoder", tape, loss)
        return self._log(style_loss=loss)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        text = self.embed(batch["captions"])
        losses = {
            "d_loss": self._discriminator_loss(batch, text, self._pictures("v", text, False), training=False),
            "g_loss": self._fooling_loss("validation", text, training=False),
        }
        if self.phase == "text":
            losses["text_loss"] = self._text_loss(batch, training=False)
        return self._log(**losses)

    def embed(self, captions: tf.Tensor) -> tf.Tensor:
        """phi: strings (batch,) -> float32 (batch, text_size)."""
        codes = characters_of(captions, self.config.caption_length)
        return self.text_encoder(codes, training=False)

    def _pictures(self, purpose: str, text: tf.Tensor, training: bool) -> tf.Tensor:
        latents = self.latents(purpose, tf.shape(text)[0])
        return self.generator({"latents": latents, "text": text}, training=training)

    def _judge(self, images: tf.Tensor, text: tf.Tensor, training: bool) -> tf.Tensor:
        return self.discriminator({"images": images, "text": text}, training=training)

    def _log(self, **scalars: tf.Tensor) -> dict[str, tf.Tensor]:
        return self.log(**{**dict.fromkeys(self.log_names, 0.0), **scalars})

    # ---------------------------------------------------------------- pictures and texts

    def generate(
        self, num_samples: int | None = None, seed: int = 0, batch_size: int = 64, **conditions: Any
    ) -> np.ndarray:
        """Pictures of captions.

        Args:
            num_samples: how many; by default as many as there are captions, or one.
            seed: the same seed gives the same pictures.
            batch_size: pictures per call of the network.
            **conditions: `captions`, one or a list, or `text`, their embeddings; none for the empty caption.

        Returns:
            float32 (num_samples, height, width, channels) in [-1, 1].

        Raises:
            ValueError: for a number below 1, or if the captions do not fit it.
        """
        given = next(iter(conditions.values()), None)
        listed = given is not None and not isinstance(given, (str, bytes))
        count = num_samples if num_samples is not None else (len(given) if listed else 1)
        return super().generate(count, seed, batch_size, **conditions)

    def sample_inputs(
        self, num_samples: int, seed: int = 0, captions: Any = None, text: Any = None
    ) -> dict[str, tf.Tensor]:
        """Latents, and embeddings of captions (one for all, or one each), or these themselves.

        Raises:
            ValueError: if both are given, or they are neither one nor `num_samples`.
        """
        if text is not None and captions is not None:
            raise ValueError("give captions or text, not both.")
        if text is None:
            text = self.encode_text("" if captions is None else captions)
        text = tf.convert_to_tensor(text, tf.float32)
        text = text[None] if text.shape.rank == 1 else text
        if text.shape[0] not in (1, num_samples):
            raise ValueError(f"expected one caption or {num_samples}, got {text.shape[0]}.")
        latents = super().sample_inputs(num_samples, seed)
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
        images, text = self._paired(images, captions)
        logits = self.run({"images": images, "text": text}, batch_size, "discriminator")
        return tf.sigmoid(logits)[:, 0].numpy()

    def style_transfer(self, images: Any, captions: Sequence[str], batch_size: int = 64) -> np.ndarray:
        """Pictures of the captions, each in the style of the picture at its place.

        Raises:
            BatchError: if the pictures do not fit the model.
            ValueError: for another number of captions, or a model without a style network.
        """
        if self.config.style_start is None:
            raise ValueError("this model has no style network: its config has style_start=None.")
        images, text = self._paired(images, captions)
        latents = self.run(images, batch_size, "style_encoder")
        return np.asarray(self.run({"latents": latents, "text": text}, batch_size))

    def _paired(self, images: Any, captions: Sequence[str]) -> tuple[np.ndarray, tf.Tensor]:
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
            "generate": Endpoint(self.generator, {"images": self.output_range}, notes=notes),
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
            drawn = random.normal(
                (tf.shape(captions)[0], self.config.latent_size), random.make_seed(seed, "samples")
            )
            inputs = {"latents": drawn, "text": self.embed(captions)}
            return {"images": self.generator(inputs, training=False)}

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
        images, labels = np.asarray(examples["images"]), np.asarray(examples["labels"])
        captions = [text_of(caption) for caption in examples["captions"]]
        nearest, _ = tasks.nearest_neighbours(self.generate(captions=captions), images)
        shared = np.array([[tasks.shared_words(a, captions[k]) for k in nearest] for a in captions])
        others = tasks.of_another_class(labels)
        right = self.match_score(images, captions)
        wrong = self.match_score(images, [captions[k] for k in others])[labels[others] != labels]
        return {
            "caption_accuracy": float((labels[nearest] == labels).mean()),
            "caption_accuracy_baseline": float((labels[nearest] == labels[:, None]).mean()),
            "word_accuracy": float(np.diag(shared).mean()),
            "word_accuracy_baseline": float(shared.mean()),
            "match_auroc": float((right[:, None] > wrong).mean() + 0.5 * (right[:, None] == wrong).mean()),
        }


# -------------------------------------------------------------------- losses


def structured_hinge(features: tf.Tensor, text: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """The symmetric structured loss (Reed et al., CVPR 2016, equations 1 to 4), a scalar.

    Args:
        features: of pictures, (batch, size).
        text: embeddings of their captions, (batch, size).
        labels: classes (batch,); pairs of one class are left out.
    """
    scores = tf.matmul(features, text, transpose_b=True)
    own, others = tf.linalg.diag_part(scores), tf.not_equal(labels[:, None], labels)
    by_picture, by_caption = tf.nn.relu(1.0 + scores - own[:, None]), tf.nn.relu(1.0 + scores - own)
    return tf.reduce_mean(tf.where(others, by_picture + by_caption, 0.0))


def text_of(caption: str | bytes) -> str:
    return caption.decode() if isinstance(caption, bytes) else str(caption)


def squared_error(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Squared distances of vectors (batch, size), the batch's mean."""
    return tf.reduce_mean(tf.reduce_sum(tf.math.squared_difference(a, tf.cast(b, a.dtype)), axis=1))


# -------------------------------------------------------------------- networks


def characters_of(captions: tf.Tensor, length: int) -> tf.Tensor:
    """Strings (batch,) -> places of their letters in ALPHABET, int32 (batch, length)."""
    places = np.full(256, len(ALPHABET), "int32")
    for place, letter in enumerate(ALPHABET):
        places[ord(letter)] = place
    letters = tf.io.decode_raw(tf.strings.lower(captions), tf.uint8, fixed_length=length)
    return tf.gather(places, tf.cast(letters, tf.int32))


class ImageFeatures:
    """What captions learn to fit: images (batch, height, width, channels) in [-1, 1] -> (batch, text_size).

    A plain object and no Keras layer: a model holds it without saving, training or counting its weights.
    """

    def __init__(self, config: GANCLSConfig) -> None:
        with fitting.initial_conditions("float32", config.seed):
            if config.image_features == "mobilenet":
                self.network = keras.applications.MobileNet(
                    input_shape=(224, 224, 3), include_top=False, pooling="avg"
                )
            else:
                self.network = _random_features(config)
        self.network.trainable = False

    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        images = tf.image.grayscale_to_rgb(images) if images.shape[-1] == 1 else images
        return self.network(tf.image.resize(images, self.network.input_shape[1:3]), training=False)


def _random_features(config: GANCLSConfig) -> keras.Model:
    x = images = keras.Input((*height_width(config.image_size), 3))
    for filters in (16, 32, 64):
        x = layers.Conv2D(filters, 4, 2, padding="same", activation="relu", kernel_initializer="he_normal")(x)
    features = layers.Dense(config.text_size, kernel_initializer="lecun_normal")(layers.Flatten()(x))
    return keras.Model(images, features)


@keras.saving.register_keras_serializable("tf_gan_zoo")
class CharacterCode(layers.Layer):
    """Places in ALPHABET (batch, length) -> (batch, length, 70), one 1 per letter, all 0 for others."""

    def call(self, places: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.equal(places[..., None], tf.range(len(ALPHABET))), self.compute_dtype)

    def compute_output_spec(self, places: keras.KerasTensor) -> keras.KerasTensor:
        return keras.KerasTensor((*places.shape, len(ALPHABET)), dtype=self.compute_dtype)


def build_text_encoder(config: GANCLSConfig) -> keras.Model:
    """The char-CNN-RNN: letters (batch, caption_length) -> embeddings (batch, text_size)."""
    x = letters = keras.Input((config.caption_length,), dtype="int32", name="characters")
    x, width = CharacterCode()(x), config.text_width
    limit = config.text_initial_range
    uniform = keras.initializers.RandomUniform(-limit, limit)
    for filters, stride in ((3 * width, 3), (4 * width, 3), (2 * width, 2)):
        x = layers.Conv1D(filters, 4, activation="relu", kernel_initializer=uniform)(x)
        x = layers.MaxPooling1D(3, stride)(x)
    inputs = layers.Dense(2 * width, kernel_initializer=uniform)(x)
    recurrent = layers.Dense(2 * width, kernel_initializer=uniform)
    states = [keras.ops.zeros_like(inputs[:, 0])]
    for step in range(inputs.shape[1]):
        states.append(layers.ReLU()(layers.Add()([inputs[:, step], recurrent(states[-1])])))
    mean = layers.Average()(states[1:])
    text = layers.Dense(config.text_size, kernel_initializer=uniform, dtype="float32", name="text")(mean)
    return keras.Model(letters, text, name="text_encoder")


def build_generator(config: GANCLSConfig) -> keras.Model:
    """Latents and embeddings -> images (batch, height, width, channels) in [-1, 1]."""
    latents = keras.Input((config.latent_size,), name="latents")
    text = keras.Input((config.text_size,), name="text")
    code = layers.LeakyReLU(0.2)(layers.Dense(config.text_code_size)(text))
    x = layers.Concatenate()([latents, code])
    x = layers.Reshape((1, 1, x.shape[-1]))(x)
    base = tuple(side // 16 for side in height_width(config.image_size))
    first = layers.Conv2DTranspose(8 * config.width, base, kernel_initializer=_normal(config), use_bias=False)
    x = _norm(config)(first(x))
    x = bottleneck(x, 2 * config.width, layers.ReLU(), config)
    x = _norm(config)(_up_conv(config, 4 * config.width)(x))
    x = bottleneck(x, config.width, layers.ReLU(), config)
    for filters in (2 * config.width, config.width):
        x = layers.ReLU()(_norm(config)(_up_conv(config, filters)(x)))
    images = layers.Activation("tanh", dtype="float32", name="images")(_up_conv(config, config.channels)(x))
    return keras.Model({"latents": latents, "text": text}, images, name="generator")


def build_discriminator(config: GANCLSConfig) -> keras.Model:
    """Images and embeddings -> logits (batch, 1)."""
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    text = keras.Input((config.text_size,), name="text")
    x = _picture_layers(images, config)
    code = layers.LeakyReLU(0.2)(_norm(config)(layers.Dense(config.text_code_size)(text)))
    planes = layers.UpSampling2D(x.shape[1:3])(layers.Reshape((1, 1, config.text_code_size))(code))
    x = _conv(config, 8 * config.discriminator_width, 1)(layers.Concatenate()([x, planes]))
    x = layers.LeakyReLU(0.2)(_norm(config)(x))
    x = _conv(config, 1, x.shape[1:3], padding="valid")(x)
    logits = layers.Reshape((1,), dtype="float32", name="logits")(x)
    return keras.Model({"images": images, "text": text}, logits, name="discriminator")


def build_style_encoder(config: GANCLSConfig) -> keras.Model:
    """Images (batch, height, width, channels) -> latents (batch, latent_size)."""
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    x = _picture_layers(images, config)
    x = _conv(config, config.latent_size, x.shape[1:3], padding="valid")(x)
    latents = layers.Reshape((config.latent_size,), dtype="float32", name="latents")(x)
    return keras.Model(images, latents, name="style_encoder")


def _picture_layers(images: keras.KerasTensor, config: GANCLSConfig) -> keras.KerasTensor:
    """D's layers 1 to 5: the sides are halved four times; the last two halvings have no activation."""
    width = config.discriminator_width
    x = layers.LeakyReLU(0.2)(_conv(config, width, 4, 2)(images))
    x = layers.LeakyReLU(0.2)(_norm(config)(_conv(config, 2 * width, 4, 2)(x)))
    x = _norm(config)(_conv(config, 4 * width, 4, 2)(x))
    x = _norm(config)(_conv(config, 8 * width, 4, 2)(x))
    return bottleneck(x, 2 * width, layers.LeakyReLU(0.2), config)


def bottleneck(
    x: keras.KerasTensor, filters: int, activation: layers.Layer, config: GANCLSConfig
) -> keras.KerasTensor:
    """x plus 1x1, 3x3 and 3x3 convolutions of it, normalised; the activation is between and behind them."""
    y = activation(_norm(config)(_conv(config, filters, 1)(x)))
    y = activation(_norm(config)(_conv(config, filters, 3)(y)))
    y = _norm(config)(_conv(config, x.shape[-1], 3)(y))
    return activation(layers.Add()([x, y]))


def _conv(
    config: GANCLSConfig, filters: int, kernel_size: Any, strides: int = 1, padding: str = "same"
) -> layers.Layer:
    options = {"kernel_initializer": _normal(config), "use_bias": False}
    return layers.Conv2D(filters, kernel_size, strides, padding, **options)


def _up_conv(config: GANCLSConfig, filters: int) -> layers.Layer:
    options = {"kernel_initializer": _normal(config), "use_bias": False}
    return layers.Conv2DTranspose(filters, 4, 2, "same", **options)


def _norm(config: GANCLSConfig) -> layers.Layer:
    gain = keras.initializers.RandomNormal(1.0, 0.02)
    return layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, gamma_initializer=gain, synchronized=config.sync_batch_norm
    )


def _normal(config: GANCLSConfig) -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=config.initial_std)
