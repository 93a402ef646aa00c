"""PPGN: pictures of a class by walking through features of a classifier; any other can name the class.

    h  <-  h + eps1 (R(h) - h) + eps2 d log p(y = c | G(h)) / dh + N(0, eps3^2)          (equation 11)

G turns features h of a frozen encoder E back into pictures. Each step of the chain moves h toward more likely
features (R(h) - h points up the density of what the autoencoder R was trained on), toward features whose
picture the condition network p(y | x) takes for class c, and a little at random. The condition network is no
part of the training: plug in another one and the same G draws what that one knows.

G is trained as an autoencoder of features, with fakes x' = G(E(x)), h1 an earlier layer of E:

    L_G = L_img(x', x) + L_h1(E1(x'), E1(x)) + L_adv,   L_adv = -log D(x', h),
    L_D = -log D(x, h) - log(1 - D(x', h)),

L_img and L_h1 half squared distances, summed over pixels or features. `variant` chooses what R is and what is
trained:

    "noiseless"  R(h) = E(G(h)): the paper's best, whose generator was released
    "joint"      the same with noise on h, x and h1 while training, and L_h(E(x'), E(x)) as a fourth term
    "ppgn_h"     R is a denoising autoencoder of h, seven layers, trained beside G
    "dgn_am"     R(h) = 0, an L2 penalty on h: Nguyen et al., arXiv:1605.09304
    "ppgn_x"     h is the picture itself (no G and no D); R is a denoising autoencoder of pictures

`architecture` and `encoder` choose the networks: "fc6" inverts 4096 features of "caffenet" (227x227, as in
the paper) or of Keras's "vgg16" (crop_size=224, encoder_weights="imagenet"), "small" those of a "small"
classifier. `encoder_weights` says where E was trained; with `encoder_steps` E is trained by the labels of
the data in the first steps of `fit`, then frozen. E is saved with the model: samples need it.

Reference: A. Nguyen, J. Clune, Y. Bengio, A. Dosovitskiy, J. Yosinski, "Plug & Play Generative Networks:
Conditional Iterative Generation of Images in Latent Space", CVPR 2017, arXiv:1612.00005; losses, their
weights and D from A. Dosovitskiy, T. Brox, arXiv:1602.02644 (DeePSiM). The chain follows the released
sampler: steps are scaled to a mean |dh|, h is cut to [0, 30], an inpainting's known pixels are pasted in
before E and the condition network look at it.

Choices: pictures are RGB in [-1, 1], so weights of squared pixel differences are 127.5^2 times those for
0..255; D has LeakyReLU(0.3) and one logit instead of two classes; noise levels, which the paper does not
give, are parts of what the noise is added to (`noise`); "ppgn_x" has a convolutional autoencoder of ours;
pictures are cropped in the middle. Departure: the released sampler's gradient of log p leaves out the other
classes' logits. The paper has no small model: networks and settings of "small" are ours.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tf_gan_zoo import random
from tf_gan_zoo.batch_spec import BatchSpec, Field, checked_images, image_field
from tf_gan_zoo.chains import Chain, Hole, Path
from tf_gan_zoo.conditional import LabelledGAN, checked_labels
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
    height_width,
)
from tf_gan_zoo.endpoints import Endpoint
from tf_gan_zoo.layers import SeededDropout
from tf_gan_zoo.losses import non_saturating_discriminator_loss as discriminator_loss
from tf_gan_zoo.losses import non_saturating_generator_loss as adversarial_loss
from tf_gan_zoo.metrics import tasks
from tf_gan_zoo.networks import encoders
from tf_gan_zoo.registry import Paper, register

#: Pictures -> (batch, number of conditions): log-probabilities, or any scores that shall rise.
Condition = Callable[[tf.Tensor], tf.Tensor]



@dataclass(frozen=True, kw_only=True)
class PPGNConfig(Config):
    """The released noiseless joint PPGN-h for fc6 of CaffeNet.

    Attributes:
        variant: see the module.
        architecture: networks of G and D, "fc6" (sides are multiples of 64) or "small" (multiples of 4).
        encoder: "caffenet", "vgg16" or "small".
        encoder_weights: see `networks.encoders.load_encoder_weights`; None is random, with a warning.
        encoder_steps: training steps in which E learns the data's labels, before G's training.
        num_classes: what E tells apart.
        crop_size: sides of the middle of a picture that E, D and the losses look at; None takes all of it.
        feature_size: units of h.
        width: channels of the first convolution of the "small" networks.
        prior_sizes: hidden layers of the autoencoder of "ppgn_h".
        output: what G's last layer does, "linear" or "tanh".
        dropout: in D.
        image_weight, hidden_weight, feature_weight, adversarial_weight: of the terms of L_G, on pictures
            in [-1, 1]; `feature_weight` is for "joint".
        noise: standard deviation of the noise on h, x and h1 ("joint"), h ("ppgn_h") or x ("ppgn_x"), as a
            part of the root mean square of what it is added to.
        min_loss_ratio: D pauses where L_D / L_adv is below; `max_loss_ratio`: G pauses where it is above.
        epsilon_1, epsilon_2, epsilon_3: of the chain's prior, condition and noise.
        epsilon_4: of the known pixels' squared error in inpainting, pictures in [-1, 1].
        steps: of the chain; `inpaint_steps` likewise.
        step_size: mean |dh| of a step; None takes equation 11 as it stands.
        feature_limit: h is cut to [0, feature_limit].
        start_scale: h starts at normal numbers of this standard deviation.
    """

    data: str = "tfds:imagenet2012"
    batch_size: PositiveInt = 64
    epochs: PositiveInt = 25
    steps_per_epoch: PositiveInt | None = 20_000
    variant: Literal["noiseless", "joint", "ppgn_h", "dgn_am", "ppgn_x"] = "noiseless"
    architecture: Literal["fc6", "small"] = "fc6"
    encoder: Literal["caffenet", "vgg16", "small"] = "caffenet"
    encoder_weights: str | None = None
    encoder_steps: NonNegativeInt = 0
    encoder_learning_rate: PositiveFloat = 1e-3
    num_classes: PositiveInt = 1000
    image_size: ImageSize = 256
    crop_size: ImageSize | None = 227
    channels: Channels = 3
    feature_size: PositiveInt = 4096
    width: PositiveInt = 32
    prior_sizes: tuple[PositiveInt, ...] = (2048, 1024, 500, 1024, 2048)
    output: Literal["linear", "tanh"] = "linear"
    dropout: Decay = 0.5
    image_weight: NonNegativeFloat = 2e-6 * 127.5**2
    hidden_weight: NonNegativeFloat = 0.01
    feature_weight: NonNegativeFloat = 0.01
    adversarial_weight: NonNegativeFloat = 100.0
    noise: NonNegativeFloat = 0.1
    min_loss_ratio: NonNegativeFloat = 0.1
    max_loss_ratio: PositiveFloat = 10.0
    learning_rate: PositiveFloat = 2e-4
    beta_1: Decay = 0.9
    epsilon_1: NonNegativeFloat = 1e-5
    epsilon_2: NonNegativeFloat = 1.0
    epsilon_3: NonNegativeFloat = 1e-17
    epsilon_4: NonNegativeFloat = 1e-9 * 127.5**2
    steps: NonNegativeInt = 200
    inpaint_steps: NonNegativeInt = 20
    step_size: PositiveFloat | None = 1.0
    feature_limit: PositiveFloat = 30.0
    start_scale: PositiveFloat = 1.0

    def validate(self) -> None:
        unit = {"fc6": 64, "small": 4}[self.architecture]
        if any(side % unit for side in height_width(self.image_size)):
            raise ConfigError(
                f"PPGNConfig.image_size: architecture={self.architecture!r} takes multiples of {unit}, got "
                f"{self.image_size}. Change image_size or architecture (fc6, small)."
            )
        if any(kept > side for kept, side in zip(self.crop, height_width(self.image_size))):
            raise ConfigError(
                f"PPGNConfig.crop_size: {self.crop_size} is larger than image_size {self.image_size}. "
                "Make it smaller, or None to look at whole pictures."
            )
        side, size = (sizes.get(self.encoder) for sizes in (encoders.INPUT_SIZES, encoders.FEATURE_SIZES))
        if side and (self.crop != (side, side) or self.feature_size != size):
            raise ConfigError(
                f"PPGNConfig.encoder: {self.encoder!r} looks at {side}x{side} pixels and gives {size} "
                f"features, got crop_size={self.crop_size}, feature_size={self.feature_size}. Change these, "
                "or take encoder='small'."
            )

    @property
    def crop(self) -> tuple[int, int]:
        """(height, width) of what E looks at."""
        return height_width(self.crop_size or self.image_size)

    @property
    def latent_size(self) -> int:
        """Numbers that a sample is made of: the features."""
        return self.feature_size


@register(
    "ppgn",
    task="generation",
    paper=Paper(
        "Plug & Play Generative Networks: Conditional Iterative Generation of Images in Latent Space",
        "A. Nguyen, J. Clune, Y. Bengio, A. Dosovitskiy, J. Yosinski", 2017, "1612.00005",
    ),
    tiny={
        "architecture": "small", "encoder": "small", "encoder_steps": 1, "num_classes": 3, "image_size": 8,
        "crop_size": None, "channels": 1, "feature_size": 8, "width": 4, "prior_sizes": (4,),
        "image_weight": 1.0, "hidden_weight": 1.0, "feature_weight": 1.0, "adversarial_weight": 1.0,
        "steps": 2, "inpaint_steps": 2, "batch_size": 4,
    },
)  # fmt: skip
class PPGN(LabelledGAN):
    """Plug & play generative network; images are (batch, height, width, channels) in [-1, 1].

        model.generate(8, labels=3)                              # the chain, toward E's class 3
        model.generate(8, labels=1, condition=other_classifier)  # toward another network's class 1
        model.generate(8, steps=0)                               # where the chains start
        model.inpaint(images, mask)                              # fills in where mask is 1
        model.run(model.encode(images))                          # G(E(x))

    `generate` runs the chain, and so do `tf-gan-zoo sample`, evaluations and the exported `generate_seeded`;
    the exported signature `generate` is G alone, features to pictures, and `encode` is E.

    Logs: `d_loss`, `g_loss`, `image_loss`, `hidden_loss` and `feature_loss` (the three distances of
    reconstructions without weights), `prior_loss` (of R where it is a network of its own), `accuracy` (of E
    while it is trained, then how often E sees the same class in a picture and in its reconstruction). What
    a variant or phase does not have is 0.
    """

    config_cls = PPGNConfig
    log_names = (
        "d_loss", "g_loss", "image_loss", "hidden_loss", "feature_loss", "prior_loss", "accuracy",
    )  # fmt: skip

    def build_networks(self, config: PPGNConfig) -> dict[str, keras.Model]:
        shape = (*height_width(config.image_size), config.channels)
        encoder = encoders.build_encoder(
            config.encoder, shape, config.crop, config.num_classes, config.feature_size, config.width,
            config.seed,
        )  # fmt: skip
        encoder.trainable = config.encoder_steps > 0
        if config.variant == "ppgn_x":
            generator, prior = _identity(shape), _image_autoencoder(shape, config)
            return {"generator": generator, "encoder": encoder, "prior": prior}
        generator, discriminator = _BUILDERS[config.architecture]
        networks = {"generator": generator(config), "discriminator": discriminator(config)}
        prior = {"prior": _feature_autoencoder(config)} if config.variant == "ppgn_h" else {}
        return {**networks, "encoder": encoder, **prior}

    @functools.cached_property
    def _compiled(self) -> dict[tuple, Any]:
        """Compiled chains by condition network and kind."""
        return {}

    @property
    def view(self) -> str:
        """Labelled pictures, where E learns their labels."""
        return "labelled" if self.config.encoder_steps else "images"

    @property
    def players(self) -> dict[str, tuple[str, ...]]:
        names = [name for name in self._network_names if name != "encoder" or self.config.encoder_steps]
        without_weights = ["generator"] if self.config.variant == "ppgn_x" else []
        return {name: (name,) for name in names if name not in without_weights}

    @property
    def phases(self) -> tuple[tuple[str, int], ...]:
        main = ("generator", self.config.encoder_steps)
        return (("encoder", 0), main) if self.config.encoder_steps else (main,)

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c = self.config
        if player == "encoder":
            return keras.optimizers.Adam(c.encoder_learning_rate, epsilon=1e-8)
        return keras.optimizers.Adam(c.learning_rate, beta_1=c.beta_1, epsilon=1e-8)

    @property
    def batch_spec(self) -> BatchSpec:
        c = self.config
        labels = Field((), (0, c.num_classes - 1), "int32", optional=not c.encoder_steps)
        return BatchSpec(images=image_field(height_width(c.image_size), c.channels), labels=labels)

    def before_training(self, last_step: int | None) -> None:
        """Loads E's weights if a run begins and E is not trained in it.

        Raises:
            FeatureWeightsError: if they cannot be had or do not fit.
        """
        c = self.config
        if not c.encoder_steps and int(self.step.numpy()) == 0:
            encoders.load_encoder_weights(self.encoder, c.encoder, c.encoder_weights)

    # ---------------------------------------------------------------- training

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        if self.phase == "encoder":
            return self._train_encoder(batch)
        return self._train_prior(batch) if self.config.variant == "ppgn_x" else self._train_generator(batch)

    def _train_encoder(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            logits = self.encoder(batch["images"], training=True)[2]
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch["labels"], logits)
            loss = tf.reduce_mean(losses)
        self.update("encoder", tape, loss)
        return self._log(accuracy=_agreement(logits, batch["labels"]))

    def _train_prior(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return self._log(prior_loss=self._update_prior(batch["images"]))

    def _update_prior(self, clean: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = denoising_loss(self.prior, clean, self._with_noise("prior", clean), training=True)
        self.update("prior", tape, loss)
        return loss

    def _train_generator(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real, encoded = batch["images"], self.encoder(batch["images"], training=False)
        features = encoded[1]
        with tf.GradientTape() as g_tape:
            fake = self.generator(self._with_noise("features", features), training=True)
            with g_tape.stop_recording(), tf.GradientTape() as d_tape:
                real_logits, fake_logits = (self._judge(x, features, training=True) for x in (real, fake))
                d_loss = discriminator_loss(real_logits, fake_logits)
            with g_tape.stop_recording():
                ratio = _mean_of_replicas(d_loss / adversarial_loss(fake_logits))
                self.update("discriminator", d_tape, d_loss, when=ratio >= self.config.min_loss_ratio)
            distances, logits = self._distances(real, encoded, fake)
            adversarial = adversarial_loss(self._judge(fake, features, training=True))
            g_loss = self._generator_loss(distances, adversarial)
        self.update("generator", g_tape, g_loss, when=ratio <= self.config.max_loss_ratio)
        prior = {"prior_loss": self._update_prior(features)} if self.config.variant == "ppgn_h" else {}
        agreement = _agreement(logits, tf.argmax(encoded[2], axis=1))
        return self._log(d_loss=d_loss, g_loss=g_loss, accuracy=agreement, **distances, **prior)

    def _judge(self, images: tf.Tensor, features: tf.Tensor, training: bool) -> tf.Tensor:
        return self.discriminator({"images": images, "features": features}, training=training)

    def _distances(
        self, real: tf.Tensor, encoded: list[tf.Tensor], fake: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """The three distances between pictures and reconstructions, and E's logits of the latter."""
        hidden, features, logits = self._encode_noisy(fake)
        pictures = (_middle(x, self.config.crop) for x in (real, fake))
        distances = {
            "image_loss": half_square(*pictures),
            "hidden_loss": half_square(encoded[0], hidden),
            "feature_loss": half_square(encoded[1], features),
        }
        return distances, logits

    def _encode_noisy(self, images: tf.Tensor) -> list[tf.Tensor]:
        """E's outputs; the second of the three interleaved autoencoders has noise on x and h1."""
        if self.config.variant != "joint":
            return self.encoder(images, training=False)
        hidden, _, logits = self.encoder(self._with_noise("images", images), training=False)
        return [hidden, self._upper_encoder(self._with_noise("hidden", hidden)), logits]

    @functools.cached_property
    def _upper_encoder(self) -> keras.Model:
        """h1 -> h, with the encoder's own layers."""
        return keras.Model(self.encoder.outputs[0], self.encoder.outputs[1])

    def _with_noise(self, purpose: str, values: tf.Tensor) -> tf.Tensor:
        """Values with noise on them, in the variants that are trained with it."""
        if self.config.variant != "joint" and purpose != "prior":
            return values
        draw = self.random_normal(f"noise on {purpose}", [tf.shape(values)[0], *values.shape[1:]])
        values = tf.cast(values, tf.float32)
        axes = list(range(1, values.shape.rank))
        scale = tf.sqrt(tf.reduce_mean(tf.square(values), axis=axes, keepdims=True))
        return values + self.config.noise * tf.stop_gradient(scale) * draw

    def _generator_loss(self, distances: Mapping[str, tf.Tensor], adversarial: tf.Tensor) -> tf.Tensor:
        c = self.config
        loss = c.image_weight * distances["image_loss"] + c.hidden_weight * distances["hidden_loss"]
        loss += c.adversarial_weight * adversarial
        return loss + (c.feature_weight * distances["feature_loss"] if c.variant == "joint" else 0.0)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        real, encoded = batch["images"], self.encoder(batch["images"], training=False)
        if self.phase == "encoder":
            return self._log(accuracy=_agreement(encoded[2], batch["labels"]))
        logs, clean = {}, real if self.config.variant == "ppgn_x" else encoded[1]
        if "prior" in self.networks:
            logs["prior_loss"] = denoising_loss(self.prior, clean, self._with_noise("prior", clean))
        if self.config.variant == "ppgn_x":
            return self._log(**logs)
        fake = self.generator(encoded[1], training=False)
        distances, logits = self._distances(real, encoded, fake)
        real_logits, fake_logits = (self._judge(x, encoded[1], training=False) for x in (real, fake))
        logs |= {**distances, "accuracy": _agreement(logits, tf.argmax(encoded[2], axis=1))}
        g_loss = self._generator_loss(distances, adversarial_loss(fake_logits))
        return self._log(d_loss=discriminator_loss(real_logits, fake_logits), g_loss=g_loss, **logs)

    def _log(self, **scalars: tf.Tensor) -> dict[str, tf.Tensor]:
        return self.log(**{**dict.fromkeys(self.log_names, 0.0), **scalars})

    # ---------------------------------------------------------------- sampling

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Pictures of features, cut off at the ends of [-1, 1]."""
        return tf.clip_by_value(super().call(inputs, training), *self.output_range)

    def generate(
        self, num_samples: int = 1, seed: int = 0, batch_size: int = 64, labels: Any = None,
        condition: Condition | None = None, steps: int | None = None, start: Any = None,
        epsilons: tuple[float, float, float] | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Samples at the end of the chain.

        Args:
            num_samples: how many.
            seed: draws the starting features, the chain's noise, and the labels if they are not given.
            batch_size: samples per call of G behind the chain.
            labels: condition of each sample, an integer for all of them or (num_samples,): a class of E, or
                a column of what `condition` gives.
            condition: a callable or Keras model, images (batch, height, width, channels) in [-1, 1], before
                they are cut to that range, -> log-probabilities (batch, conditions). E's classes by default.
            steps: of the chain; the config's by default, 0 shows where it starts.
            start: features to start from, (num_samples, feature_size), e.g. of `encode`.
            epsilons: eps1, eps2, eps3 of this call; the config's by default.

        Returns:
            float32 (num_samples, height, width, channels) in [-1, 1].

        Raises:
            ValueError: if an argument does not fit.
        """
        given = {
            "labels": labels, "condition": condition, "steps": steps, "start": start, "epsilons": epsilons
        }  # fmt: skip
        given = {name: value for name, value in given.items() if value is not None}
        return super().generate(num_samples, seed, batch_size, **given)

    def sample_inputs(
        self, num_samples: int, seed: int = 0, labels: Any = None, condition: Condition | None = None,
        steps: int | None = None, start: Any = None, epsilons: tuple[float, float, float] | None = None,
    ) -> tf.Tensor:  # fmt: skip
        """The features at the end of the chain, float32 (num_samples, feature_size).

        Args and Raises: as for `generate`.
        """
        c, columns = self.config, self._num_conditions(condition)
        if labels is None:
            drawn = random.make_seed(seed, "labels of samples")
            labels = random.integers((num_samples,), drawn, columns)
        else:
            labels = checked_labels(labels, num_samples, columns)
        path = Path(
            tf.constant(c.steps if steps is None else _checked_steps(steps)),
            tf.constant([*_checked_epsilons(epsilons or (c.epsilon_1, c.epsilon_2, c.epsilon_3)), 0.0]),
            tf.constant([c.step_size or 0.0] * 2),
        )
        return self._walk(self._starts(num_samples, seed, start), labels, seed, path, condition)

    def _starts(self, count: int, seed: int, start: Any) -> tf.Tensor:
        shape = self.generator.input_shape[1:]
        if start is None:
            return self.config.start_scale * random.normal((count, *shape), random.make_seed(seed, "samples"))
        start = np.asarray(start, "float32")
        if start.shape != (count, *shape) or not np.isfinite(start).all():
            raise ValueError(
                f"start: expected finite features of shape {(count, *shape)}, got shape {start.shape}. "
                "encode(images) gives such."
            )
        return tf.constant(start)

    def _num_conditions(self, condition: Condition | None) -> int:
        """How many labels there are; a condition of one's own is tried on a gray picture."""
        if condition is None:
            return self.config.num_classes
        scores = _applied(condition, tf.zeros((1, *self.batch_spec["images"].shape)))
        shape = tuple(getattr(scores, "shape", ()))
        if len(shape) != 2 or shape[0] != 1:
            raise ValueError(
                "condition: expected images (1, height, width, channels) -> log-probabilities "
                f"(1, conditions), got shape {shape}. Wrap it: lambda x: tf.nn.log_softmax(network(x))."
            )
        return int(shape[1])

    def _walk(
        self, start: tf.Tensor, labels: Any, seed: Any, path: Path, condition: Condition | None,
        hole: Hole | None = None,
    ) -> tf.Tensor:  # fmt: skip
        """Runs the chain, compiled once for each condition network (the last one is kept)."""
        arguments = (start, tf.cast(labels, tf.int32), tf.cast(seed, tf.int64), path, hole)
        if not tf.executing_eagerly():
            return self.chain(condition).walk_in_parts(*arguments)
        key = condition, hole is None
        if key not in self._compiled:
            for other in [k for k in self._compiled if k[0] not in (None, condition)]:
                del self._compiled[other]
            walk = self.chain(condition).walk_in_parts
            self._compiled[key] = tf.function(walk, autograph=False, reduce_retracing=True)
        return self._compiled[key](*arguments)

    def chain(self, condition: Condition | None = None) -> Chain:
        """The chain of this model with its own or another condition network."""
        is_feature = self.config.variant != "ppgn_x"
        bounds = (0.0, self.config.feature_limit) if is_feature else self.output_range
        look = functools.partial(self._look, condition)
        decode = functools.partial(self.generator, training=False)
        return Chain(decode, look, bounds, self.config.step_size is not None)

    def _look(
        self, condition: Condition | None, h: tf.Tensor, images: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """R(h) and the conditions' log-probabilities; E is run once where both come from it."""
        variant = self.config.variant
        needs_encoder = condition is None or variant in ("noiseless", "joint")
        _, features, logits = self.encoder(images, training=False) if needs_encoder else (None,) * 3
        scores = tf.nn.log_softmax(logits) if condition is None else _applied(condition, images)
        if variant == "dgn_am":
            return tf.zeros_like(h), scores
        return self.prior(h, training=False) if "prior" in self.networks else features, scores

    def inpaint(
        self, images: Any, mask: Any, labels: Any = None, seed: int = 0,
        condition: Condition | None = None, steps: int | None = None,
        epsilons: tuple[float, float, float, float] | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Fills in parts of pictures; all other pixels stay as they are.

        The chain starts at E's features of the pictures with gray in the holes; its steps shrink down to 0.

        Args:
            images: (batch, height, width, channels) in [-1, 1], or one picture.
            mask: 1 where a pixel is to be filled in, 0 where it is known: (height, width) for all pictures,
                or (batch, height, width).
            labels: as for `generate`; by default what the condition network sees in the starting pictures.
            seed: draws the chain's noise.
            condition: as for `generate`.
            steps: `inpaint_steps` of the config by default.
            epsilons: eps1 to eps4; by default the config's, without noise.

        Returns:
            float32 (batch, height, width, channels).

        Raises:
            BatchError: if the pictures do not fit the model.
            ValueError: if another argument does not.
        """
        c, images = self.config, checked_images(images, self.batch_spec["images"])
        hole = Hole(tf.constant(images), tf.constant(_checked_mask(mask, images.shape)))
        columns, pasted = self._num_conditions(condition), hole.pasted(tf.zeros_like(hole.images))
        start = pasted if c.variant == "ppgn_x" else tf.constant(self.encode(pasted))
        if labels is None:
            labels = tf.argmax(self.chain(condition).look(start, pasted)[1], axis=1)
        else:
            labels = checked_labels(labels, len(images), columns)
        chosen = epsilons or (c.epsilon_1, c.epsilon_2, 0.0, c.epsilon_4)
        path = Path(
            tf.constant(c.inpaint_steps if steps is None else _checked_steps(steps)),
            tf.constant(_checked_epsilons(chosen, 4)),
            tf.constant([c.step_size or 0.0, 0.0]),
        )
        ends = self._walk(start, labels, seed, path, condition, hole)
        return hole.pasted(tf.constant(self.run(ends))).numpy()

    # ---------------------------------------------------------------- encoder

    def encode(self, images: Any, batch_size: int = 64) -> np.ndarray:
        """E's features of pictures, float32 (batch, feature_size).

        Args:
            images: (batch, height, width, channels) in [-1, 1], or one picture.
            batch_size: pictures per call.

        Raises:
            BatchError: if the pictures do not fit the model.
        """
        return self.run(checked_images(images, self.batch_spec["images"]), batch_size, "encoder")[1]

    def classify(self, images: Any, batch_size: int = 64) -> np.ndarray:
        """E's log-probabilities, float32 (batch, num_classes); arguments and errors as of `encode`."""
        images = checked_images(images, self.batch_spec["images"])
        return tf.nn.log_softmax(self.run(images, batch_size, "encoder")[2]).numpy()

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        image = {"images": self.output_range}
        notes = {self.generator.inputs[0].name: "features, such as `encode` gives"}
        return {
            "generate": Endpoint(self.generator, image, clip=True, notes=notes),
            "encode": Endpoint(self.encoder, image),
        }

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """What classes samples are of, by judges that the chain has not seen and by E itself.

        Returns:
            class coverage, and parts of samples that are of the class asked for: neighbour_accuracy by the
            nearest example, class_accuracy by the zoo's classifier of these data, if it has one (_baseline:
            where the chains start), condition_accuracy by E, which the chain obeys; encoder_accuracy is E's
            on the examples. inpainting_l1 is the mean absolute error in a hole, the middle third of both
            sides, without telling the class; its baseline is the mean picture.
        """
        if "labels" not in examples:
            return {}
        images, labels = examples["images"], np.asarray(examples["labels"])
        samples = self.generate(len(labels), seed=0, labels=labels)
        starts = self.generate(len(labels), seed=0, labels=labels, steps=0)
        results = tasks.class_coverage(samples, images, labels)
        nearest, _ = tasks.nearest_neighbours(samples, images)
        results["neighbour_accuracy"] = _share(labels[nearest] == labels)
        results["condition_accuracy"] = _share(self.classify(samples).argmax(1) == labels)
        results["encoder_accuracy"] = _share(self.classify(images).argmax(1) == labels)
        results |= self._class_accuracy(samples, labels)
        baseline = self._class_accuracy(starts, labels)
        results |= {f"{name}_baseline": value for name, value in baseline.items()}
        hole = np.zeros(images.shape[1:3], bool)
        hole[tuple(slice(side // 3, side - side // 3) for side in hole.shape)] = True
        for key, filled in {"": self.inpaint(images, hole), "_baseline": images.mean(axis=0)}.items():
            results[f"inpainting_l1{key}"] = float(np.abs(filled - images)[:, hole].mean())
        return results


# -------------------------------------------------------------------- arguments


def _applied(condition: Condition, images: tf.Tensor) -> tf.Tensor:
    """A condition network's output; Keras's dropout and batch norm behave as in inference."""
    return condition(images, training=False) if isinstance(condition, keras.Layer) else condition(images)


def _checked_steps(steps: Any) -> int:
    if not isinstance(steps, (int, np.integer)) or steps < 0:
        raise ValueError(f"steps: expected an integer from 0 on, got {steps!r}.")
    return int(steps)


def _checked_epsilons(epsilons: Any, count: int = 3) -> list[float]:
    values = [float(value) for value in epsilons]
    if len(values) != count or not all(0 <= value < np.inf for value in values):
        raise ValueError(f"epsilons: expected {count} numbers from 0 on (eps1, eps2...), got {epsilons}.")
    return values


def _checked_mask(mask: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A mask as float32 of the pictures' shape."""
    values = np.asarray(mask, "float32")
    values = values[..., 0] if values.ndim == 4 and values.shape[-1] == 1 else values
    if values.shape not in (shape[1:3], shape[:3]) or not np.isin(values, (0.0, 1.0)).all():
        raise ValueError(
            f"mask: expected 1 (to be filled in) and 0 (known) of shape {shape[1:3]} or {shape[:3]}, got "
            f"shape {values.shape} and values {np.unique(values)[:5].tolist()}."
        )
    return np.broadcast_to(values[..., None], shape).astype("float32")


# -------------------------------------------------------------------- losses


def half_square(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """1/2 |a - b|^2, summed over each example, mean over the batch (Caffe's Euclidean loss)."""
    squares = tf.math.squared_difference(tf.cast(a, tf.float32), tf.cast(b, tf.float32))
    return 0.5 * tf.reduce_mean(tf.reduce_sum(squares, axis=list(range(1, squares.shape.rank))))


def denoising_loss(
    autoencoder: Callable[..., tf.Tensor], clean: tf.Tensor, noisy: tf.Tensor, training: bool = False
) -> tf.Tensor:
    """1/2 |R(noisy) - clean|^2; its minimum has R(h) - h = sigma^2 d log p(h)/dh (Alain and Bengio 2014).

    p is the density of noisy examples, sigma^2 the variance of Gaussian noise.
    """
    return half_square(autoencoder(noisy, training=training), clean)


def _agreement(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    equal = tf.equal(tf.argmax(logits, axis=1), tf.cast(labels, tf.int64))
    return tf.reduce_mean(tf.cast(equal, tf.float32))


def _mean_of_replicas(value: tf.Tensor) -> tf.Tensor:
    return tf.distribute.get_replica_context().all_reduce("MEAN", value)


def _share(equal: np.ndarray) -> float:
    return float(np.mean(equal))


def _middle(images: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """The middle (height, width) of pictures, as E crops it."""
    top, left = ((side - kept) // 2 for side, kept in zip(images.shape[1:3], size))
    return images[:, top : top + size[0], left : left + size[1]]


# -------------------------------------------------------------------- networks for fc6


def _fc6_generator(config: PPGNConfig) -> keras.Model:
    """Features (batch, feature_size) -> images (batch, height, width, channels)."""
    height, width = (side // 64 for side in height_width(config.image_size))
    x = features = keras.Input((config.feature_size,), name="features")
    for units in (config.feature_size, config.feature_size, height * width * 256):
        x = _leaky(layers.Dense(units)(x))
    x = layers.Reshape((height, width, 256))(x)
    for filters, kernel_size, strides in (
        (256, 4, 2), (512, 3, 1), (256, 4, 2), (256, 3, 1), (128, 4, 2), (128, 3, 1), (64, 4, 2), (32, 4, 2),
    ):  # fmt: skip
        x = _leaky(layers.Conv2DTranspose(filters, kernel_size, strides, "same")(x))
    x = layers.Conv2DTranspose(config.channels, 4, 2, "same")(x)
    return keras.Model(features, _pictures(x, config), name="generator")


def _fc6_discriminator(config: PPGNConfig) -> keras.Model:
    """{"images" (batch, height, width, channels), "features" (batch, feature_size)} -> logits (batch, 1)."""
    images, features, x = _discriminator_inputs(config)
    for filters, kernel_size, strides in ((32, 7, 4), (64, 5, 1), (128, 3, 2), (256, 3, 1), (256, 3, 2)):
        x = _leaky(layers.Conv2D(filters, kernel_size, strides)(x))
    y = _leaky(layers.Dense(512)(_leaky(layers.Dense(1024)(features))))
    logits = _joint_head(layers.GlobalAveragePooling2D()(x), y, 512, config)
    return keras.Model({"images": images, "features": features}, logits, name="discriminator")


# -------------------------------------------------------------------- small networks


def _small_generator(config: PPGNConfig) -> keras.Model:
    """Features (batch, feature_size) -> images (batch, height, width, channels)."""
    height, width = (side // 4 for side in height_width(config.image_size))
    features = keras.Input((config.feature_size,), name="features")
    x = _leaky(layers.Dense(config.feature_size)(features))
    x = _leaky(layers.Dense(height * width * 2 * config.width)(x))
    x = layers.Reshape((height, width, 2 * config.width))(x)
    x = _leaky(layers.Conv2DTranspose(config.width, 4, 2, "same")(x))
    x = layers.Conv2DTranspose(config.channels, 4, 2, "same")(x)
    return keras.Model(features, _pictures(x, config), name="generator")


def _small_discriminator(config: PPGNConfig) -> keras.Model:
    """{"images" (batch, height, width, channels), "features" (batch, feature_size)} -> logits (batch, 1)."""
    images, features, x = _discriminator_inputs(config)
    for filters in (config.width, 2 * config.width):
        x = _leaky(layers.Conv2D(filters, 4, 2, "same")(x))
    y = _leaky(layers.Dense(2 * config.width)(features))
    logits = _joint_head(layers.Flatten()(x), y, 4 * config.width, config)
    return keras.Model({"images": images, "features": features}, logits, name="discriminator")


_BUILDERS = {
    "fc6": (_fc6_generator, _fc6_discriminator),
    "small": (_small_generator, _small_discriminator),
}


# -------------------------------------------------------------------- autoencoders


def _identity(shape: tuple[int, int, int]) -> keras.Model:
    images = keras.Input(shape, name="features")
    return keras.Model(images, layers.Identity(dtype="float32", name="images")(images), name="generator")


def _feature_autoencoder(config: PPGNConfig) -> keras.Model:
    """Features (batch, feature_size) -> features, through a bottleneck."""
    x = features = keras.Input((config.feature_size,), name="features")
    for units in config.prior_sizes:
        x = layers.Dense(units, activation="relu")(x)
    x = layers.Dense(config.feature_size, dtype="float32", name="reconstruction")(x)
    return keras.Model(features, x, name="prior")


def _image_autoencoder(shape: tuple[int, int, int], config: PPGNConfig) -> keras.Model:
    """Images (batch, height, width, channels) -> images, through a quarter of their height and width."""
    x = images = keras.Input(shape, name="images")
    for filters in (config.width, 2 * config.width):
        x = layers.Conv2D(filters, 4, 2, "same", activation="relu")(x)
    x = layers.Conv2DTranspose(config.width, 4, 2, "same", activation="relu")(x)
    x = layers.Conv2DTranspose(config.channels, 4, 2, "same", dtype="float32", name="reconstruction")(x)
    return keras.Model(images, x, name="prior")


# -------------------------------------------------------------------- their parts


def _leaky(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.LeakyReLU(0.3)(x)


def _pictures(x: keras.KerasTensor, config: PPGNConfig) -> keras.KerasTensor:
    return layers.Activation(config.output, dtype="float32", name="images")(x)


def _discriminator_inputs(
    config: PPGNConfig,
) -> tuple[keras.KerasTensor, keras.KerasTensor, keras.KerasTensor]:
    """D's two inputs, and the part of the pictures that it looks at."""
    images = keras.Input((*height_width(config.image_size), config.channels), name="images")
    features = keras.Input((config.feature_size,), name="features")
    return images, features, encoders.center_crop(images, config.crop)


def _joint_head(
    x: keras.KerasTensor, y: keras.KerasTensor, units: int, config: PPGNConfig
) -> keras.KerasTensor:
    """A hidden layer over both vectors, between dropouts, and the logit."""
    x = SeededDropout(config.dropout)(layers.Concatenate()([x, y]))
    x = SeededDropout(config.dropout)(_leaky(layers.Dense(units)(x)))
    return layers.Dense(1, dtype="float32", name="logits")(x)
