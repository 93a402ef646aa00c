"""SeqGAN: a generator of token sequences trained as a policy, with the discriminator's opinion as its reward.

    G maximises   E sum_t log G(y_t | y_<t) Q(y_<t, y_t),        y drawn by G,
    Q(y_<t, y_t) = mean of D(y_1..t and a completion drawn by G) over 16 completions,    D(y) for the last t,
    D minimises   -E log D(x) - E log(1 - D(y)),

x sequences of data. Tokens are drawn, so no gradient goes from D through them to G; the policy gradient
(REINFORCE) needs none. A reward for an unfinished sequence comes from Monte Carlo: it is finished several
times, and D looks at the results. One `fit` goes through three phases: G learns by maximum likelihood, D
learns to tell data from G's sequences, then both go on as above, one update of G, then many of D.

G is an LSTM, kept as the network of one step: token and state in, logits of the next token and state out. D
is a text CNN: convolutions of many widths, their maxima over time, one highway layer.

Reference: L. Yu, W. Zhang, J. Wang, Y. Yu, "SeqGAN: Sequence Generative Adversarial Nets with Policy
Gradient", AAAI 2017, arXiv:1609.05473, algorithm 1; networks, numbers and the sum (not mean) over batch and
time are those of the authors' released code for the synthetic experiment.

Choices: completions are drawn by G as it is. (The paper's roll-out policy is a copy that is renewed after
each update of G, which is the same; the code names a slower renewal that it does not carry out.)

Departures: an update of D takes a batch of data and as many new sequences of G, 64 and 64, where the code
draws 10,000, mixes them with the data, and goes over both three times in batches of 64: D sees as many
sequences in half as many updates, 23,400 in its own phase (46,800 in the code) and 2,340 in a round (4,680).
With several replicas each one clips its share of G's gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from pydantic import Field as Limits

from tf_gan_zoo import random, sequences
from tf_gan_zoo.batch_spec import BatchSpec, Field
from tf_gan_zoo.config import (
    Config,
    ConfigError,
    Decay,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)
from tf_gan_zoo.endpoints import Endpoint, ServingFunction
from tf_gan_zoo.gan import GAN
from tf_gan_zoo.layers import SeededDropout
from tf_gan_zoo.penalties import half_squared_norm
from tf_gan_zoo.registry import Paper, register

#: D's two classes, in the order of its logits.
FAKE, REAL = 0, 1


@dataclass(frozen=True, kw_only=True)
class SeqGANConfig(Config):
    """The synthetic experiment: 10,000 sequences of an oracle.

    Attributes:
        vocabulary_size: tokens are numbers below it.
        length: tokens in a sequence.
        units: of G's LSTM.
        embedding_size: numbers that stand for a token in G.
        filter_widths: tokens that D's convolutions see.
        num_filters: of each of them.
        discriminator_embedding_size: numbers that stand for a token in D.
        dropout: in D, before its last layer.
        weight_penalty: on half the squared weights of D's last layer.
        num_rollouts: completions that a reward is the mean of.
        pretraining_steps: of G by maximum likelihood; 120 epochs of 10,000 sequences.
        discriminator_steps: then of D alone; 50 rounds of three epochs.
        discriminator_updates: of D for one of G; five rounds of three epochs.
        learning_rate: of both of G's Adams.
        discriminator_learning_rate: of D's Adam.
        clip_norm: largest norm of G's gradient.
    """

    data: str = "oracle"
    batch_size: PositiveInt = 64
    epochs: PositiveInt = 3270
    steps_per_epoch: PositiveInt | None = 156
    vocabulary_size: Annotated[int, Limits(ge=2)] = 5000
    length: Annotated[int, Limits(ge=2)] = 20
    units: PositiveInt = 32
    embedding_size: PositiveInt = 32
    filter_widths: tuple[PositiveInt, ...] = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20)
    num_filters: tuple[PositiveInt, ...] = (100, 200, 200, 200, 200, 100, 100, 100, 100, 100, 160, 160)
    discriminator_embedding_size: PositiveInt = 64
    dropout: Decay = 0.25
    weight_penalty: NonNegativeFloat = 0.2
    num_rollouts: PositiveInt = 16
    pretraining_steps: NonNegativeInt = 120 * 156
    discriminator_steps: NonNegativeInt = 50 * 3 * 156
    discriminator_updates: PositiveInt = 5 * 3 * 156
    learning_rate: PositiveFloat = 0.01
    discriminator_learning_rate: PositiveFloat = 1e-4
    clip_norm: PositiveFloat = 5.0

    def validate(self) -> None:
        if len(self.filter_widths) != len(self.num_filters) or max(self.filter_widths) > self.length:
            raise ConfigError(
                f"SeqGANConfig.filter_widths: expected as many as num_filters, none above length "
                f"({self.length}), got {self.filter_widths} for {self.num_filters}."
            )


@register(
    "seqgan",
    task="text",
    paper=Paper(
        "SeqGAN: Sequence Generative Adversarial Nets with Policy Gradient",
        "L. Yu, W. Zhang, J. Wang, Y. Yu", 2017, "1609.05473",
    ),
    tiny={
        "vocabulary_size": 6, "length": 4, "units": 4, "embedding_size": 4, "filter_widths": (1, 2),
        "num_filters": (4, 4), "discriminator_embedding_size": 4, "num_rollouts": 2, "pretraining_steps": 1,
        "discriminator_steps": 1, "discriminator_updates": 1, "batch_size": 4,
    },
)  # fmt: skip
class SeqGAN(GAN):
    """Sequences of tokens, int32 (batch, length), numbers from 0 to vocabulary_size - 1.

        tokens = model.generate(100)
        model.generate(10, prefix=[3, 17])          # that begin so
        model.log_prob(tokens)                      # (100,), of whole sequences

    Logs `nll`, the mean of -log G(x_t | x_<t) over data, in nats per token; D's loss without its penalty; and
    `reward`, the mean of D(y) over new sequences (0 before the second phase).
    """

    config_cls = SeqGANConfig
    view = "sequences"
    log_names = ("nll", "d_loss", "reward")

    def build_networks(self, config: SeqGANConfig) -> dict[str, keras.Model]:
        networks = {"generator": build_generator(config), "discriminator": build_discriminator(config)}
        # G as maximum likelihood left it, to compare with.
        networks["pretrained"] = build_generator(config, "pretrained")
        networks["pretrained"].trainable = False
        return networks

    @property
    def phases(self) -> tuple[tuple[str, int], ...]:
        c = self.config
        starts = [("pretraining", 0), ("discriminator", c.pretraining_steps)]
        starts.append(("adversarial", c.pretraining_steps + c.discriminator_steps))
        later = [first for _, first in starts[1:]] + [None]
        return tuple((name, first) for (name, first), end in zip(starts, later) if first != end)

    @property
    def players(self) -> dict[str, tuple[str, ...]]:
        generator = ("generator",)
        return {"pretraining": generator, "generator": generator, "discriminator": ("discriminator",)}

    def make_optimizer(self, player: str) -> keras.optimizers.Optimizer:
        c = self.config
        if player == "discriminator":
            return keras.optimizers.Adam(c.discriminator_learning_rate, epsilon=1e-8)
        return keras.optimizers.Adam(c.learning_rate, global_clipnorm=c.clip_norm, epsilon=1e-8)

    @property
    def batch_spec(self) -> BatchSpec:
        c = self.config
        return BatchSpec(tokens=Field((c.length,), (0, c.vocabulary_size - 1), "int32"))

    # ---------------------------------------------------------------- training

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        tokens = batch["tokens"]
        if self.phase == "pretraining":
            return self._likelihood_step(tokens)
        if self.phase == "adversarial":
            self._policy_step(tokens)
        d_loss, reward = self._discriminator_step(tokens)
        return self.log(nll=self._nll(tokens), d_loss=d_loss, reward=reward)

    def _likelihood_step(self, tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            nll = self._nll(tokens)
        self.update("pretraining", tape, nll)
        for copy, value in zip(self.pretrained.variables, self.generator.variables):
            copy.assign(value)
        return self.log(nll=nll, d_loss=0.0, reward=0.0)

    def _policy_step(self, tokens: tf.Tensor) -> None:
        """G's update, in every step that begins a round of `discriminator_updates`."""
        round_length, first = self.config.discriminator_updates, dict(self.phases)["adversarial"]
        due = (self.step.value - first) % round_length == 0
        with tf.GradientTape() as tape:
            # Where it is not due, nothing is drawn; the loss is 0 times G, so that it has gradients.
            loss = tf.cond(due, lambda: self._policy_loss(tf.shape(tokens)[0]), self._zero)
        self.update("generator", tape, loss, when=due)

    def _policy_loss(self, count: tf.Tensor) -> tf.Tensor:
        """-sum over batch and time of log G(y_t | y_<t) Q (equation 8); as a mean over replicas."""
        drawn = self._drawn("policy", count)
        rewards = tf.stop_gradient(self.rewards(drawn))
        log_probabilities = self.token_log_probabilities(drawn)
        return -self.config.batch_size * tf.reduce_mean(tf.reduce_sum(log_probabilities * rewards, axis=1))

    def _zero(self) -> tf.Tensor:
        return tf.add_n([0.0 * tf.reduce_sum(v) for v in self.generator.trainable_variables])

    def rewards(self, tokens: tf.Tensor) -> tf.Tensor:
        """Q of each token, float32 (batch, length), with this step's draws (equation 4)."""
        c, count = self.config, tf.shape(tokens)[0]
        noise = self.random_uniform("rollouts", (count, c.length - 1, c.num_rollouts, c.length))
        noise = tf.reshape(tf.transpose(noise, (1, 0, 2, 3)), (c.length - 1, -1, c.length))
        repeated = tf.repeat(tokens, c.num_rollouts, axis=0)

        def of_prefix(given: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            num_given, draws = given
            opinions = self.realness(self.complete(draws, repeated, num_given))
            return tf.reduce_mean(tf.reshape(opinions, (-1, c.num_rollouts)), axis=1)

        unfinished = tf.map_fn(of_prefix, (tf.range(1, c.length), noise), fn_output_signature=tf.float32)
        return tf.concat([tf.transpose(unfinished), self.realness(tokens)[:, None]], axis=1)

    def _discriminator_step(self, tokens: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        fakes = self._drawn("negatives", tf.shape(tokens)[0])
        with tf.GradientTape() as tape:
            d_loss = self._discriminator_loss(tokens, fakes, training=True)
            loss = d_loss + self.config.weight_penalty * half_squared_norm(
                self.discriminator.get_layer("logits").trainable_variables
            )
        self.update("discriminator", tape, loss)
        return d_loss, tf.reduce_mean(self.realness(fakes))

    def _discriminator_loss(self, real: tf.Tensor, fake: tf.Tensor, training: bool) -> tf.Tensor:
        """Cross-entropy, the mean over both kinds."""
        terms = [
            -tf.reduce_mean(tf.nn.log_softmax(self.discriminator(tokens, training=training))[:, label])
            for label, tokens in ((FAKE, fake), (REAL, real))
        ]
        return 0.5 * tf.add_n(terms)

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        fakes = self._drawn("validation", tf.shape(batch["tokens"])[0])
        d_loss = self._discriminator_loss(batch["tokens"], fakes, training=False)
        return self.log(
            nll=self._nll(batch["tokens"]), d_loss=d_loss, reward=tf.reduce_mean(self.realness(fakes))
        )

    def _nll(self, tokens: tf.Tensor) -> tf.Tensor:
        return -tf.reduce_mean(self.token_log_probabilities(tokens))

    def _drawn(self, purpose: str, count: tf.Tensor) -> tf.Tensor:
        return self.complete(self.random_uniform(purpose, (count, self.config.length)))

    # ---------------------------------------------------------------- sequences

    def realness(self, tokens: tf.Tensor) -> tf.Tensor:
        """D's probability that sequences (batch, length) are data, without dropout: (batch,)."""
        return tf.nn.softmax(self.discriminator(tokens, training=False))[:, REAL]

    def token_log_probabilities(self, tokens: tf.Tensor) -> tf.Tensor:
        """log G(y_t | y_<t) of sequences (batch, length): float32 (batch, length)."""
        last, state, results = self._first(tf.shape(tokens)[0]), self._state(tf.shape(tokens)[0]), []
        for token in tf.unstack(tokens, axis=1):
            logits, *state = self._step(self.generator, last, state)
            chosen = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=token, logits=logits)
            results.append(-chosen)
            last = token
        return tf.stack(results, axis=1)

    def complete(
        self, noise: tf.Tensor, tokens: tf.Tensor | None = None, num_given: tf.Tensor | int = 0,
        temperature: float = 1.0, network: keras.Model | None = None,
    ) -> tf.Tensor:  # fmt: skip
        """Draws sequences, or the rest of given ones.

        Args:
            noise: uniform numbers in [0, 1), (batch, length): the t-th decides the t-th token.
            tokens: (batch, length), of which the first `num_given` are kept.
            num_given: how many are kept.
            temperature: divides the logits; below 1 for more likely sequences.
            network: G, or `pretrained`.
        """
        count = tf.shape(noise)[0]
        last, state, drawn = self._first(count), self._state(count), []
        for place in range(self.config.length):
            logits, *state = self._step(network or self.generator, last, state)
            bounds = tf.cumsum(tf.nn.softmax(logits / temperature), axis=1)
            last = tf.reduce_sum(tf.cast(bounds[:, :-1] <= noise[:, place, None], tf.int32), axis=1)
            if tokens is not None:
                last = tf.where(place < num_given, tokens[:, place], last)
            drawn.append(last)
        return tf.stack(drawn, axis=1)

    def generate(
        self, num_samples: int = 1, seed: int = 0, *, prefix: Any = None, temperature: float = 1.0,
        pretrained: bool = False,
    ) -> np.ndarray:  # fmt: skip
        """Sequences drawn by G.

        Args:
            num_samples: how many.
            seed: the same seed gives the same sequences.
            prefix: tokens that all of them begin with.
            temperature: below 1 for more likely and less varied sequences.
            pretrained: by G as it was before adversarial training.

        Returns:
            int32 (num_samples, length).

        Raises:
            ValueError: for a number below 1, a temperature not above 0, or a prefix that does not fit.
        """
        if num_samples < 1 or not temperature > 0:
            raise ValueError(
                f"expected num_samples >= 1 and temperature > 0, got {num_samples} and {temperature}."
            )
        given = np.zeros((num_samples, self.config.length), "int32")
        prefix = self._checked_prefix([] if prefix is None else prefix)
        given[:, : len(prefix)] = prefix
        network = self.pretrained if pretrained else self.generator
        drawn = tf.function(self.complete, autograph=False)(
            self.sample_inputs(num_samples, seed), given, len(prefix), temperature, network
        )
        return drawn.numpy()

    def sample_inputs(self, num_samples: int, seed: int = 0) -> tf.Tensor:
        """The uniform numbers, (num_samples, length), that decide the tokens of `num_samples` sequences."""
        return random.uniform((num_samples, self.config.length), random.make_seed(seed, "samples"))

    def log_prob(self, tokens: Any) -> np.ndarray:
        """log G(y) of whole sequences (batch, length), in nats: float32 (batch,).

        Raises:
            BatchError: if they do not fit the model.
        """
        tokens = np.asarray(tokens)
        self.batch_spec.check_values({"tokens": tokens})
        return tf.reduce_sum(self.token_log_probabilities(tf.cast(tokens, tf.int32)), axis=1).numpy()

    def _checked_prefix(self, prefix: Any) -> np.ndarray:
        prefix = np.asarray(prefix, "int64").reshape(-1)
        c = self.config
        if len(prefix) > c.length or (prefix < 0).any() or (prefix >= c.vocabulary_size).any():
            raise ValueError(
                f"prefix: expected up to {c.length} numbers from 0 to {c.vocabulary_size - 1}, "
                f"got {prefix.tolist()}."
            )
        return prefix

    @staticmethod
    def _first(count: tf.Tensor) -> tf.Tensor:
        return tf.fill([count], sequences.START)

    def _state(self, count: tf.Tensor) -> list[tf.Tensor]:
        return [tf.zeros((count, self.config.units))] * 2

    @staticmethod
    def _step(network: keras.Model, last: tf.Tensor, state: list[tf.Tensor]) -> list[tf.Tensor]:
        hidden, cell = state
        return network({"tokens": last, "hidden": hidden, "cell": cell})

    # ---------------------------------------------------------------- export and measures

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        notes = {
            "tokens": f"the last token; {sequences.START} at first",
            "hidden": "of the last step; 0 at first",
            "cell": "of the last step; 0 at first",
            "logits": "softmax makes them the next token's probabilities",
        }
        return {"step": Endpoint(self.generator, notes=notes)}

    def example_inputs(
        self, endpoint: Endpoint, count: int, sizes: Mapping[str, tuple[int, int]], seed: int = 0
    ) -> dict[str, Any]:
        rng, c = np.random.default_rng(seed), self.config
        states = {name: rng.normal(0, 0.3, (count, c.units)).astype("float32") for name in ("hidden", "cell")}
        return {"tokens": rng.integers(0, c.vocabulary_size, count).astype("int32"), **states}

    @property
    def serving_functions(self) -> dict[str, ServingFunction]:
        def generate_seeded(seed: tf.Tensor, num_samples: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"tokens": self.complete(self.sample_inputs(num_samples, seed))}

        types = (tf.TensorSpec((), tf.int64, name="seed"), tf.TensorSpec((), tf.int32, name="num_samples"))
        examples = {"seed": tf.constant(3, tf.int64), "num_samples": tf.constant(2)}
        return {"generate_seeded": ServingFunction(generate_seeded, types, {}, examples)}

    def sample_pictures(self, count: int = 64, seed: int = 0) -> np.ndarray:
        """Sequences as rows of one picture, each token a gray square: equal rows are a collapse."""
        rows = self.generate(count, seed) * (2.0 / (self.config.vocabulary_size - 1)) - 1.0
        return rows.repeat(8, axis=0).repeat(8, axis=1)[None, ..., None]

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Ten times as many new sequences as there are examples; _baseline is G by maximum likelihood alone.

        Returns:
            oracle_nll: -log p per token by the oracle, where the data come from one; `oracle_nll_data` is its
                opinion of its own sequences;
            bigram_precision: pairs of neighbours that occur in the examples;
            distinct_2: part of the pairs that are different, `distinct_2_data` in the examples.
        """
        real = np.asarray(examples["tokens"])
        results = {"distinct_2_data": sequences.distinct(real)}
        for suffix, pretrained in {"": False, "_baseline": True}.items():
            drawn = self.generate(10 * len(real), seed=1, pretrained=pretrained)
            results[f"bigram_precision{suffix}"] = sequences.run_precision(drawn, real)
            results[f"distinct_2{suffix}"] = sequences.distinct(drawn[: len(real)])
            if self.config.data == "oracle":
                results[f"oracle_nll{suffix}"] = self.oracle().nll(drawn)
        if self.config.data == "oracle":
            results["oracle_nll_data"] = self.oracle().nll(real)
        return results

    def oracle(self) -> sequences.Oracle:
        """The oracle that the config's data come from."""
        names = {"units": "units", "oracle_seed": "seed"}
        given = {names[k]: value for k, value in self.config.data_options.items() if k in names}
        return sequences.Oracle(self.config.vocabulary_size, **given)

    @property
    def data_keywords(self) -> dict[str, Any]:
        return {"vocabulary_size": self.config.vocabulary_size, "length": self.config.length}


# -------------------------------------------------------------------- networks


def build_generator(config: SeqGANConfig, name: str = "generator") -> keras.Model:
    """Tokens (batch,) and the LSTM's hidden and cell state (batch, units) -> logits and the new states."""
    tokens = keras.Input((), dtype="int32", name="tokens")
    hidden, cell = (keras.Input((config.units,), name=n) for n in ("hidden", "cell"))
    size = config.embedding_size
    x = layers.Embedding(config.vocabulary_size, size, embeddings_initializer=_normal())(tokens)
    lstm = layers.LSTMCell(
        config.units, kernel_initializer=_normal(), recurrent_initializer=_normal(),
        bias_initializer=_normal(), unit_forget_bias=False,
    )  # fmt: skip
    x, states = lstm(x, [hidden, cell])
    logits = layers.Dense(
        config.vocabulary_size, kernel_initializer=_normal(), bias_initializer=_normal(), dtype="float32",
        name="logits",
    )(x)  # fmt: skip
    names = ("next_hidden", "next_cell")
    states = [layers.Activation("linear", dtype="float32", name=n)(s) for n, s in zip(names, states)]
    return keras.Model({"tokens": tokens, "hidden": hidden, "cell": cell}, [logits, *states], name=name)


def build_discriminator(config: SeqGANConfig) -> keras.Model:
    """Tokens (batch, length) -> logits (batch, 2) for FAKE and REAL."""
    uniform = keras.initializers.RandomUniform(-1.0, 1.0)
    tokens = keras.Input((config.length,), dtype="int32", name="tokens")
    size = config.discriminator_embedding_size
    embedded = layers.Embedding(config.vocabulary_size, size, embeddings_initializer=uniform)(tokens)
    maxima = [
        layers.GlobalMaxPooling1D()(layers.Conv1D(filters, width, activation="relu", **_weights())(embedded))
        for width, filters in zip(config.filter_widths, config.num_filters)
    ]
    x = highway(layers.Concatenate()(maxima) if len(maxima) > 1 else maxima[0])
    x = SeededDropout(config.dropout)(x)
    logits = layers.Dense(2, dtype="float32", name="logits", **_weights())(x)
    return keras.Model(tokens, logits, name="discriminator")


def _normal() -> keras.initializers.Initializer:
    """Of all of G's weights and biases."""
    return keras.initializers.RandomNormal(stddev=0.1)


def _weights() -> dict[str, keras.initializers.Initializer]:
    """Of D's convolutions and its last layer."""
    kernel, bias = keras.initializers.TruncatedNormal(stddev=0.1), keras.initializers.Constant(0.1)
    return {"kernel_initializer": kernel, "bias_initializer": bias}


def highway(x: keras.KerasTensor) -> keras.KerasTensor:
    """t g + (1 - t) x with g = relu(W x + b), t = sigmoid(W' x + b') (Srivastava et al. 2015)."""
    changed = layers.Dense(x.shape[-1], activation="relu")(x)
    gate = layers.Dense(x.shape[-1], activation="sigmoid")(x)
    return layers.Add()([x, layers.Multiply()([gate, layers.Subtract()([changed, x])])])
