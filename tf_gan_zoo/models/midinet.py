"""MidiNet: melodies bar by bar, each bar made from the one before and from a chord.

    D minimises  -0.9 E log D(x, c) - 0.1 E log(1 - D(x, c)) - E log(1 - D(G(z, c, x'), c)),
    G minimises  -E log D(G(z, c, x'), c) + lambda_1/2 |E x - E G|^2 + lambda_2/2 |E f(x) - E f(G)|^2,

x a bar (16 sixteenth notes by 128 pitches, one pitch at a time), x' the bar before it, c its chord, f the
first feature map of D; means are over the batch, squared differences are summed over the map. A conditioner
CNN, part of G, turns x' into four feature maps, one for each length in time that G's own maps have (2, 4, 8,
16), beside which they are put. D is kept weak, and G is updated twice per update of D. A melody is made one
bar after the other; the first one follows silence.

Reference: L.-C. Yang, S.-Y. Chou, Y.-H. Yang, "MidiNet: A Convolutional Generative Adversarial Network for
Symbolic-domain Music Generation", ISMIR 2017, arXiv:1703.10847. Its three models, by `variant`:

    1  "melody"    no chords; x' at every layer of G; 256 filters in G and conditioner; lambdas 0.1 and 1
    2  "stable"    chords; x' at the last layer of G only, so that the chord decides; 128 and 16 filters;
                   lambdas 0.01 and 0.1
    3  "creative"  chords; x' at every layer of G; the rest as in model 2

Kernels, norms and the halves in front of the lambdas are those of the authors' released code
(github.com/RichardYang40148/MidiNet, v1), a slight variation of model 3 (second dense layer of 256 units
where the paper has 512); filters and lambdas of model 1 are the paper's, and so is the rate. Both updates of
G use the latents of D's update, as there.

Departure: samples are made with the moving statistics of batch normalization, as a melody is made one bar at
a time; the released code takes those of a batch of melodies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from pydantic import Field as Limits

from tf_gan_zoo import music, random, replicas
from tf_gan_zoo.batch_spec import BatchSpec, Field, image_field
from tf_gan_zoo.config import Config, Decay, NonNegativeFloat, PositiveFloat, PositiveInt
from tf_gan_zoo.endpoints import Endpoint, ServingFunction
from tf_gan_zoo.gan import AdversarialGAN
from tf_gan_zoo.losses import non_saturating_generator_loss
from tf_gan_zoo.registry import Paper, register

_BAR = (music.STEPS, music.PITCHES, 1)


class Variant(NamedTuple):
    """What one of the paper's models is."""

    chords: bool
    previous_everywhere: bool
    generator_filters: int
    conditioner_filters: int
    bar_weight: float
    feature_weight: float


VARIANTS = {
    1: Variant(False, True, 256, 256, 0.1, 1.0),
    2: Variant(True, False, 128, 16, 0.01, 0.1),
    3: Variant(True, True, 128, 16, 0.01, 0.1),
}


@dataclass(frozen=True, kw_only=True)
class MidiNetConfig(Config):
    """The paper's model 3; where a field is None, `variant` decides.

    Attributes:
        variant: 1, 2 or 3, see above.
        generator_filters: of G's transposed convolutions.
        conditioner_filters: of the conditioner.
        hidden_sizes: units of G's two dense layers; the second makes two maps of one step each.
        discriminator_filters: of D's two convolutions.
        discriminator_size: units of D's dense layer.
        judge_previous: D sees x', too, as a further channel: as in the paper's figure, though not in the
            released code, where no term of the objective asks for bars that follow from x'.
        mirror_previous: G and D get x' backwards in time. As G's kernels are as wide as their strides, the
            first half of a bar depends on the first half of x' alone; mirrored, that is the half next to it.
        bar_weight: lambda_1.
        feature_weight: lambda_2.
        real_target: D's target for data, below 1 for one-sided label smoothing.
    """

    data: str = "melodies"
    batch_size: PositiveInt = 72
    epochs: PositiveInt = 20
    variant: Literal[1, 2, 3] = 3
    latent_size: PositiveInt = 100
    latent_distribution: Literal["normal"] = "normal"
    generator_filters: PositiveInt | None = None
    conditioner_filters: PositiveInt | None = None
    hidden_sizes: tuple[PositiveInt, PositiveInt] = (1024, 256)
    discriminator_filters: tuple[PositiveInt, PositiveInt] = (14, 77)
    discriminator_size: PositiveInt = 1024
    judge_previous: bool = False
    mirror_previous: bool = False
    bar_weight: NonNegativeFloat | None = None
    feature_weight: NonNegativeFloat | None = None
    real_target: Annotated[float, Limits(gt=0.5, le=1)] = 0.9
    learning_rate: PositiveFloat = 2e-4
    beta_1: Decay = 0.5

    @property
    def model(self) -> Variant:
        """The variant, with this config's own numbers where it has any."""
        own = {name: getattr(self, name, None) for name in Variant._fields}
        return VARIANTS[self.variant]._replace(**{n: v for n, v in own.items() if v is not None})


@register(
    "midinet",
    task="music",
    paper=Paper(
        "MidiNet: A Convolutional Generative Adversarial Network for Symbolic-domain Music Generation",
        "L.-C. Yang, S.-Y. Chou, Y.-H. Yang", 2017, "1703.10847",
    ),
    tiny={
        "latent_size": 4, "generator_filters": 4, "conditioner_filters": 2, "hidden_sizes": (8, 8),
        "discriminator_filters": (2, 4), "discriminator_size": 8, "batch_size": 4,
    },
)  # fmt: skip
class MidiNet(AdversarialGAN):
    """Melodies; bars are (batch, 16, 128, 1) piano rolls in [0, 1], chords numbers from 0 to 23.

        bars = model.generate(8, chords=["C", "G", "Am", "F"] * 2)      # one melody of eight bars
        music.write_midi(bars, "melody.mid", chords=["C", "G", "Am", "F"] * 2)
        model.continue_melody(bars, 4)                                  # four more bars

    D judges a bar with its chord. Logs d_loss, G's adversarial term g_loss, and both squared differences
    before weighting.
    """

    config_cls = MidiNetConfig
    view = "melodies"
    log_names = ("d_loss", "g_loss", "bar_difference", "feature_difference")

    def build_networks(self, config: MidiNetConfig) -> dict[str, keras.Model]:
        return {"generator": build_generator(config), "discriminator": build_discriminator(config)}

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        return keras.optimizers.Adam(self.config.learning_rate, beta_1=self.config.beta_1, epsilon=1e-8)

    @property
    def batch_spec(self) -> BatchSpec:
        roll = image_field(_BAR[:2], 1, (0.0, 1.0))
        chords = {"chords": Field((), (0, music.NUM_CHORDS - 1), "int32")} if self.takes_chords else {}
        return BatchSpec(bars=roll, previous_bars=roll, **chords)

    @property
    def takes_chords(self) -> bool:
        """Whether both players are told the chord."""
        return self.config.model.chords

    # ---------------------------------------------------------------- training

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        latents = self.latents("latents", tf.shape(batch["bars"])[0])
        with tf.GradientTape() as tape:
            real_logits, _ = self._judge(batch["bars"], batch, training=True)
            fake_logits, _ = self._judge(self._bars(latents, batch, training=True), batch, training=True)
            d_loss = self.discriminator_loss(real_logits, fake_logits)
        self.update("discriminator", tape, d_loss)
        for _ in range(2):
            with tf.GradientTape() as tape:
                fakes = self._bars(latents, batch, training=True)
                losses = self._generator_losses(fakes, batch, training=True)
                loss = self._weighted(*losses)
            self.update("generator", tape, loss)
        return self.log(d_loss=d_loss, **dict(zip(self.log_names[1:], losses)))

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        fakes = self._bars(self.latents("validation", tf.shape(batch["bars"])[0]), batch, training=False)
        logits = (self._judge(bars, batch, training=False)[0] for bars in (batch["bars"], fakes))
        losses = self._generator_losses(fakes, batch, training=False)
        return self.log(d_loss=self.discriminator_loss(*logits), **dict(zip(self.log_names[1:], losses)))

    def discriminator_loss(self, real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
        """D's loss with one-sided label smoothing, a scalar."""
        real, fake = tf.nn.softplus(-real_logits), tf.nn.softplus(fake_logits)
        smoothed = real + (1.0 - self.config.real_target) * real_logits  # log(1 - D) = log D - logits
        return tf.reduce_mean(smoothed) + tf.reduce_mean(fake)

    def _generator_losses(
        self, fakes: tf.Tensor, batch: Mapping[str, tf.Tensor], training: bool
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The adversarial term and both halved squared differences."""
        _, real_features = self._judge(batch["bars"], batch, training)
        logits, features = self._judge(fakes, batch, training)
        return (
            non_saturating_generator_loss(logits),
            half_squared_difference_of_means(batch["bars"], fakes),
            half_squared_difference_of_means(real_features, features),
        )

    def _weighted(self, g_loss: tf.Tensor, bars: tf.Tensor, features: tf.Tensor) -> tf.Tensor:
        c = self.config.model
        return g_loss + c.bar_weight * bars + c.feature_weight * features

    def _bars(self, latents: tf.Tensor, batch: Mapping[str, tf.Tensor], training: bool) -> tf.Tensor:
        given = {name: batch[name] for name in ("previous_bars", "chords") if name in batch}
        return self.generator({"latents": latents, **given}, training=training)

    def _judge(
        self, bars: tf.Tensor, batch: Mapping[str, tf.Tensor], training: bool
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Logits and the first feature map."""
        given = {name: batch[name] for name in self.discriminator.input if name != "bars"}
        logits, features = self.discriminator({"bars": bars, **given}, training=training)
        return logits, features

    # ---------------------------------------------------------------- melodies

    def generate(
        self, bars: int = 8, seed: int = 0, *, chords: Sequence[str | int] | None = None,
        first_bar: Any = None,
    ) -> np.ndarray:  # fmt: skip
        """A melody, bar by bar.

        Args:
            bars: how many.
            seed: the same seed gives the same melody.
            chords: one per bar, such as "C", "F#m" or a number from 0 to 23; drawn by default.
            first_bar: the melody goes on from this bar, (16, 128[, 1]), which is not part of the result.

        Returns:
            float32 (bars, 16, 128, 1): 1 where a note sounds, one note at a time, else 0.

        Raises:
            ValueError: if `bars` is below 1.
            MusicError: for a chord or bar that is none, or chords that the model does not take.
        """
        if bars < 1:
            raise ValueError(f"bars must be at least 1, got {bars}.")
        inputs = dict(self.sample_inputs(bars, seed, chords=chords))
        if first_bar is not None:
            inputs["previous_bars"] = tf.repeat(music.checked_bars(first_bar)[-1:], bars, axis=0)
        return self._melody(inputs).numpy()

    def continue_melody(
        self, bars: Any, num_bars: int = 4, seed: int = 0, chords: Sequence[str | int] | None = None
    ) -> np.ndarray:
        """What comes after the last of some bars: float32 (num_bars, 16, 128, 1); see `generate`."""
        return self.generate(num_bars, seed, chords=chords, first_bar=music.checked_bars(bars)[-1])

    def sample_inputs(self, num_samples: int, seed: int = 0, chords: Any = None) -> dict[str, tf.Tensor]:
        """Latents, silent previous bars and chords of `num_samples` bars; `generate` says more."""
        inputs = {
            "latents": super().sample_inputs(num_samples, seed),
            "previous_bars": tf.zeros((num_samples, *_BAR)),
        }
        if self.takes_chords:
            drawn = random.make_seed(seed, "chords of samples")
            inputs["chords"] = (
                random.integers((num_samples,), drawn, music.NUM_CHORDS)
                if chords is None
                else _chord_numbers(chords, num_samples)
            )
        elif chords is not None:
            raise music.MusicError("this model takes no chords (variant 1): leave them out.")
        return inputs

    def _melody(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """One bar after the other, each from its latents and chord and the bar before."""
        steps = {name: value[:, None] for name, value in inputs.items() if name != "previous_bars"}

        def next_bar(previous: tf.Tensor, given: Mapping[str, tf.Tensor]) -> tf.Tensor:
            return monophonic(self.generator({**given, "previous_bars": previous}, training=False))

        return tf.scan(next_bar, steps, inputs["previous_bars"][:1])[:, 0]

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        notes = {
            "latents": "standard normal numbers",
            "previous_bars": "0 and 1; all 0 before a first bar",
            "bars": "the strongest pitch of each step is its note",
        }
        if self.takes_chords:
            notes["chords"] = "root (0 is C), plus 12 for minor"
        return {"generate": Endpoint(self.generator, {"bars": (0.0, 1.0)}, notes=notes)}

    @property
    def serving_functions(self) -> dict[str, ServingFunction]:
        drawn = super().serving_functions["generate_seeded"]

        def generate_seeded(seed: tf.Tensor, num_samples: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"bars": self._melody(self.sample_inputs(num_samples, seed))}

        return {
            "generate_seeded": ServingFunction(generate_seeded, drawn.inputs, drawn.pictures, drawn.examples)
        }

    def example_inputs(
        self, endpoint: Endpoint, count: int, sizes: Mapping[str, tuple[int, int]], seed: int = 0
    ) -> dict[str, Any]:
        """Those of the bars of one melody: a bar that follows silence says little of the others."""
        inputs = super().example_inputs(endpoint, count, sizes, seed)
        melody = self._melody(inputs)
        return {**inputs, "previous_bars": tf.concat([inputs["previous_bars"][:1], melody[:-1]], axis=0)}

    def sample_pictures(self, count: int = 64, seed: int = 0) -> np.ndarray:
        """Piano rolls in [-1, 1] of `count` bars, as melodies of eight: (num, rows, columns, 1)."""
        melodies = [self.generate(8, seed + k) for k in range(max(count // 8, 1))]
        return np.stack([music.piano_roll(melody) for melody in melodies])

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """What bars made after held-out bars, with their chords, have of the music they were learnt from.

        Returns:
            chord_tone_rate: steps whose note belongs to the bar's chord (with chords); its baseline is that
                of the same bars under other chords, `chord_tone_rate_data` that of the examples;
            joint_interval: semitones from the last note before a bar to its first; its baseline, to be
                undercut, takes the bars for other ones' continuations; `joint_interval_data` as above;
            pitch_distance: half the L1 distance of pitch-class shares, made and held-out bars;
            certainty: steps in which the strongest pitch is above 1/2.
        """
        real = music.pitches_of(examples["bars"])
        previous, sounding = music.pitches_of(examples["previous_bars"]), _sounding(examples["previous_bars"])
        given = {name: examples[name] for name in self.generator.input if name in examples}
        rolls = np.asarray(self.run({**self.sample_inputs(len(real)), **given}))
        made = music.pitches_of(rolls)
        others = np.roll(previous[sounding], 1, axis=0)
        results = {
            "joint_interval": music.joint_interval(made[sounding], previous[sounding]),
            "joint_interval_baseline": music.joint_interval(made[sounding], others),
            "joint_interval_data": music.joint_interval(real[sounding], previous[sounding]),
            "pitch_distance": music.pitch_histogram_distance(made, real),
            "certainty": float((rolls.max(axis=2) > 0.5).mean()),
        }
        if self.takes_chords:
            chords = np.asarray(examples["chords"])
            results["chord_tone_rate"] = music.chord_tone_rate(made, chords)
            others = np.roll(chords, len(chords) // 2)
            results["chord_tone_rate_baseline"] = music.chord_tone_rate(made, others)
            results["chord_tone_rate_data"] = music.chord_tone_rate(real, chords)
        return results


def monophonic(bars: tf.Tensor) -> tf.Tensor:
    """Keeps the strongest pitch of each step: (batch, 16, 128, 1) in [0, 1] -> the same with 0 and 1."""
    strongest = tf.argmax(bars[..., 0], axis=-1)
    return tf.one_hot(strongest, music.PITCHES, dtype=bars.dtype)[..., None]


def half_squared_difference_of_means(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """|E a - E b|^2 / 2, means over the global batch, summed over the rest; a scalar."""
    return 0.5 * tf.reduce_sum(tf.math.squared_difference(replicas.batch_mean(a), replicas.batch_mean(b)))


def _sounding(bars: np.ndarray) -> np.ndarray:
    """Which bars are not silent, (num,)."""
    return np.asarray(bars).reshape(len(bars), -1).max(axis=1) > 0


def _chord_numbers(chords: Any, count: int) -> tf.Tensor:
    numbers = [music.parse_chord(chord) for chord in chords]
    if len(numbers) != count:
        raise music.MusicError(f"expected one chord per bar, got {len(numbers)} for {count} bars.")
    return tf.constant(numbers, tf.int32)


# -------------------------------------------------------------------- networks


@keras.saving.register_keras_serializable("tf_gan_zoo")
class ChordCode(layers.Layer):
    """Chords (batch,), 0 to 23 -> (batch, 13): the root as one of twelve, then 1 for minor."""

    def call(self, chords: tf.Tensor) -> tf.Tensor:
        # Comparisons: integer runtimes have no quantised division.
        chosen = tf.equal(chords[:, None], tf.range(music.NUM_CHORDS, dtype=chords.dtype))
        return tf.linalg.matmul(tf.cast(chosen, self.compute_dtype), tf.constant(_CODES, self.compute_dtype))

    def compute_output_spec(self, chords: keras.KerasTensor) -> keras.KerasTensor:
        return keras.KerasTensor((chords.shape[0], _CODES.shape[1]), dtype=self.compute_dtype)


_CODES = np.concatenate([np.tile(np.eye(12), (2, 1)), np.arange(24)[:, None] >= 12], axis=1)


@keras.saving.register_keras_serializable("tf_gan_zoo")
class KeyboardConvolution(layers.Conv2DTranspose):
    """A transposed convolution of maps (batch, time, 1, channels) whose kernel is as wide as the keyboard.

    As a matrix product it takes a fortieth of the time on a CPU.
    """

    def call(self, x: tf.Tensor) -> tf.Tensor:
        kernel = tf.reshape(tf.cast(self.kernel, x.dtype), (music.PITCHES, x.shape[-1]))
        notes = tf.linalg.matmul(tf.reshape(x, (-1, x.shape[-1])), kernel, transpose_b=True)
        return tf.reshape(notes, (-1, x.shape[1], music.PITCHES, 1)) + tf.cast(self.bias, x.dtype)


def build_generator(config: MidiNetConfig) -> keras.Model:
    """Latents, previous bars and chords -> bars (batch, 16, 128, 1) in [0, 1]."""
    c = config.model
    inputs = {
        "latents": keras.Input((config.latent_size,), name="latents"),
        "previous_bars": keras.Input(_BAR, name="previous_bars"),
        **_chord_input(c),
    }
    code = _code_of(inputs)
    conditions = conditioner_maps(inputs["previous_bars"], config)
    x = inputs["latents"]
    for size in config.hidden_sizes:
        x = layers.ReLU()(_norm(config)(layers.Dense(size, kernel_initializer=_normal())(_beside(x, code))))
    x = layers.Reshape((2, 1, config.hidden_sizes[1] // 2))(x)
    for condition in reversed(conditions[1:]):
        x = _beside(x, code, condition if c.previous_everywhere else None)
        x = layers.Conv2DTranspose(c.generator_filters, (2, 1), (2, 1), kernel_initializer=_normal())(x)
        x = layers.ReLU()(_norm(config)(x))
    x = _beside(x, code, conditions[0])
    x = KeyboardConvolution(1, (1, music.PITCHES), kernel_initializer=_normal())(x)
    bars = layers.Activation("sigmoid", dtype="float32", name="bars")(x)
    return keras.Model(inputs, bars, name="generator")


def conditioner_maps(bars: keras.KerasTensor, config: MidiNetConfig) -> list[keras.KerasTensor]:
    """The conditioner CNN: bars (batch, 16, 128, 1) -> maps (batch, t, 1, filters) for t = 16, 8, 4, 2."""
    filters, maps = config.model.conditioner_filters, []
    bars = _in_order(bars, config)
    for k in range(4):
        kernel, strides = ((2, 1), (2, 1)) if k else ((1, music.PITCHES), (1, 1))
        x = layers.Conv2D(filters, kernel, strides, kernel_initializer=_truncated())(maps[-1] if k else bars)
        maps.append(layers.LeakyReLU(0.2)(_norm(config)(x)))
    return maps


def build_discriminator(config: MidiNetConfig) -> keras.Model:
    """Bars (previous ones, chords) -> logits (batch, 1), and the first feature map (batch, 8, 1, filters)."""
    first, second = config.discriminator_filters
    rolls = ["bars", *(["previous_bars"] * config.judge_previous)]
    inputs = {**{name: keras.Input(_BAR, name=name) for name in rolls}, **_chord_input(config.model)}
    code = _code_of(inputs)
    previous = _in_order(inputs["previous_bars"], config) if config.judge_previous else None
    x = _beside(inputs["bars"], code, previous)
    # The kernel is as wide as the keyboard: as channels, pitches take a third of the time.
    x = layers.Reshape((music.STEPS, 1, music.PITCHES * x.shape[-1]))(x)
    x = layers.Conv2D(first, (2, 1), (2, 1), kernel_initializer=_truncated())(x)
    features = layers.LeakyReLU(0.2, name="features")(x)
    x = layers.Conv2D(second, (4, 1), (2, 1), kernel_initializer=_truncated())(_beside(features, code))
    x = layers.Flatten()(layers.LeakyReLU(0.2)(_norm(config)(x)))
    x = layers.Dense(config.discriminator_size, kernel_initializer=_normal())(_beside(x, code))
    x = layers.LeakyReLU(0.2)(_norm(config)(x))
    logits = layers.Dense(1, kernel_initializer=_normal(), dtype="float32", name="logits")(_beside(x, code))
    return keras.Model(inputs, [logits, features], name="discriminator")


def _in_order(previous_bars: keras.KerasTensor, config: MidiNetConfig) -> keras.KerasTensor:
    return keras.ops.flip(previous_bars, axis=1) if config.mirror_previous else previous_bars


def _chord_input(variant: Variant) -> dict[str, keras.KerasTensor]:
    return {"chords": keras.Input((), dtype="int32", name="chords")} if variant.chords else {}


def _code_of(inputs: Mapping[str, keras.KerasTensor]) -> keras.KerasTensor | None:
    return ChordCode()(inputs["chords"]) if "chords" in inputs else None


def _beside(
    x: keras.KerasTensor, code: keras.KerasTensor | None, condition: keras.KerasTensor | None = None
) -> keras.KerasTensor:
    """x with the chord at every place and a conditioner's map as further channels."""
    parts = [x]
    if code is not None and len(x.shape) == 2:
        parts.append(code)
    elif code is not None:
        planes = layers.Reshape((1, 1, code.shape[-1]))(code)
        parts.append(layers.UpSampling2D(x.shape[1:3])(planes))
    parts += [] if condition is None else [condition]
    return layers.Concatenate()(parts) if len(parts) > 1 else x


def _norm(config: MidiNetConfig) -> layers.Layer:
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, synchronized=config.sync_batch_norm)


def _normal() -> keras.initializers.Initializer:
    return keras.initializers.RandomNormal(stddev=0.02)


def _truncated() -> keras.initializers.Initializer:
    return keras.initializers.TruncatedNormal(stddev=0.02)
