"""SeqGAN's claims: a proper distribution over sequences, its rewards and policy loss by hand, its oracle."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from conftest import held_out, make_fields, tiny

import tf_gan_zoo as zoo
from tf_gan_zoo import data, sequences, train
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.data import DatasetError
from tf_gan_zoo.models.seqgan import REAL, SeqGANConfig


@pytest.fixture(scope="module")
def model():
    model = tiny("seqgan", vocabulary_size=3, length=3)
    rng = np.random.default_rng(0)
    for network in model.networks.values():  # far from uniform
        network.set_weights([rng.normal(0, 0.7, w.shape) for w in network.get_weights()])
    model.step.assign(2)
    return model


def all_sequences(vocabulary_size=3, length=3):
    return np.array(list(itertools.product(range(vocabulary_size), repeat=length)), "int32")


# -------------------------------------------------------------------- distribution


def test_probabilities_of_all_sequences_sum_to_one(model):
    assert np.exp(model.log_prob(all_sequences())).sum() == pytest.approx(1, abs=1e-5)
    assert np.exp(sum_of_oracle(sequences.Oracle(3, 4))).sum() == pytest.approx(1, abs=1e-9)


def sum_of_oracle(oracle):
    return -oracle._nll(all_sequences()).sum(axis=1)


def test_sequences_are_drawn_as_often_as_they_are_probable(model):
    drawn = model.generate(20_000, seed=0)
    index = drawn @ [9, 3, 1]
    frequencies = np.bincount(index, minlength=27) / len(drawn)
    np.testing.assert_allclose(frequencies, np.exp(model.log_prob(all_sequences())), atol=0.015)
    oracle = sequences.Oracle(3, 4)
    frequencies = np.bincount(oracle.sample(20_000, 3) @ [9, 3, 1], minlength=27) / 20_000
    np.testing.assert_allclose(frequencies, np.exp(sum_of_oracle(oracle)), atol=0.015)


def test_prefix_and_temperature(model):
    assert (model.generate(50, prefix=[2, 1])[:, :2] == [2, 1]).all()
    cold = model.generate(50, seed=3, temperature=1e-3)
    assert (cold == cold[0]).all()
    last, state, likeliest = tf.constant([0]), [tf.zeros((1, 4))] * 2, []
    for _ in range(3):
        logits, *state = model.generator({"tokens": last, "hidden": state[0], "cell": state[1]})
        last = tf.argmax(logits, axis=1, output_type=tf.int32)
        likeliest.append(int(last[0]))
    assert cold[0].tolist() == likeliest
    for arguments in ({"prefix": [3]}, {"prefix": [0, 0, 0, 0]}, {"temperature": 0}, {"num_samples": 0}):
        with pytest.raises(ValueError, match="expected"):
            model.generate(**arguments)


# -------------------------------------------------------------------- rewards and losses


def test_rewards_are_means_over_completions(model):
    """Against all completions, weighted by their probability; the last one is D's opinion itself."""
    patient = tiny("seqgan", vocabulary_size=3, length=3, num_rollouts=4000)
    for name, network in patient.networks.items():
        network.set_weights(getattr(model, name).get_weights())
    tokens = np.array([[0, 1, 2], [2, 2, 0]], "int32")
    rewards = patient.rewards(tokens).numpy()
    every, probabilities = all_sequences(), np.exp(model.log_prob(all_sequences()))
    opinions = model.realness(every).numpy()
    for row, expected_row in zip(tokens, rewards):
        for place in (1, 2):
            fits = (every[:, :place] == row[:place]).all(axis=1)
            expected = (probabilities * opinions)[fits].sum() / probabilities[fits].sum()
            assert expected_row[place - 1] == pytest.approx(expected, abs=0.02)
    np.testing.assert_allclose(rewards[:, -1], model.realness(tokens), rtol=1e-5)
    assert np.ptp(opinions) > 0.1


def test_policy_loss_is_a_sum_over_batch_and_time(model):
    tokens = model._drawn("policy", 4).numpy()
    log_probabilities, rewards = model.token_log_probabilities(tokens), model.rewards(tokens)
    expected = -(log_probabilities.numpy() * rewards.numpy()).sum()
    assert model.config.batch_size == 4
    np.testing.assert_allclose(model._policy_loss(tf.constant(4)), expected, rtol=1e-5)


def test_discriminator_loss_against_numpy(model):
    real, fake = all_sequences()[:5], all_sequences()[10:15]
    opinions = {name: model.realness(x).numpy() for name, x in (("real", real), ("fake", fake))}
    expected = -0.5 * (np.log(opinions["real"]).mean() + np.log(1 - opinions["fake"]).mean())
    np.testing.assert_allclose(model._discriminator_loss(real, fake, training=False), expected, rtol=1e-4)
    assert REAL == 1


def test_the_policy_learns_at_the_beginning_of_each_round_only():
    model = tiny("seqgan", discriminator_updates=3)
    model.run_eagerly, model.phase = True, "adversarial"
    model.step.assign(2)
    moved = []
    for seed in range(6):
        before = model.generator.get_weights()
        model.train_on_batch(make_fields(model, 4, seed))
        moved.append(any((a != b).any() for a, b in zip(before, model.generator.get_weights())))
    assert moved == [True, False, False, True, False, False]
    updates = {p: int(model.player_optimizer(p).iterations.numpy()) for p in model.players}
    assert updates == {"pretraining": 0, "generator": 2, "discriminator": 6}


def test_the_policy_gradient_raises_what_the_discriminator_likes():
    """With D's taste fixed, token 1 everywhere, G comes to draw it, and `pretrained` stays as it was."""
    model = tiny("seqgan", vocabulary_size=3, length=3, batch_size=32, num_rollouts=4, learning_rate=0.05)
    taste = lambda tokens: tf.reduce_mean(tf.cast(tf.equal(tokens, 1), tf.float32), axis=1)  # noqa: E731
    object.__setattr__(model, "realness", taste)
    before = model.generate(200, pretrained=True)
    for step in range(15):
        model.step.assign(2 + step)
        with tf.GradientTape() as tape:
            loss = model._policy_loss(tf.constant(32))
        model.update("generator", tape, loss)
    assert (model.generate(200) == 1).mean() > 0.8 > 0.5 > (before == 1).mean()
    np.testing.assert_array_equal(model.generate(200, pretrained=True), before)


def test_what_the_pretrained_network_keeps():
    model = tiny("seqgan", pretraining_steps=2)
    model.run_eagerly = True
    model.train_on_batch(make_fields(model, 4))
    for kept, value in zip(model.pretrained.get_weights(), model.generator.get_weights()):
        np.testing.assert_array_equal(kept, value)


def test_impossible_filters_are_refused():
    for values in ({"filter_widths": (1, 2)}, {"length": 10}):
        with pytest.raises(ConfigError, match="filter_widths"):
            SeqGANConfig(**values)


# -------------------------------------------------------------------- sequences and data


def test_words_become_numbers_and_words_again():
    lines = [["a", "b", "a"], ["c", "a"]]
    vocabulary = sequences.vocabulary_of(lines, 4)
    assert vocabulary == (sequences.PAD, sequences.UNKNOWN, "a", "b")
    tokens = sequences.encode(lines, vocabulary, 3)
    assert tokens.tolist() == [[2, 3, 2], [1, 2, 0]]
    assert sequences.decode(tokens, vocabulary) == ["a b a", f"{sequences.UNKNOWN} a"]


def test_measures_by_hand():
    tokens = [[1, 2, 1], [2, 1, 2]]
    assert sequences.distinct(tokens) == 2 / 4
    assert sequences.run_precision(tokens, [[1, 2, 2]]) == 2 / 4
    with pytest.raises(ValueError, match="3 tokens or more"):
        sequences.distinct([[1, 2]], 3)


def test_texts_come_as_sequences(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(f"The number {k % 3} is here" for k in range(20)), encoding="utf-8")
    opened = data.open_dataset(f"text:{path}", view="sequences", length=6, batch_size=18, shuffle=False)
    tokens = next(iter(opened.dataset()))["tokens"]
    assert tokens.shape == (18, 6)
    assert tokens.dtype == tf.int32
    assert sequences.decode(tokens, opened.label_names)[1] == "the number 1 is here"
    model = tiny("seqgan", data=f"text:{path}", vocabulary_size=9, length=6)
    batch = next(iter(train.open_pipeline(model).dataset()))
    model.fit(train.open_pipeline(model).dataset().take(1), verbose=0)
    assert batch["tokens"].shape == (4, 6)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DatasetError, match="UTF-8"):
        zoo.load_dataset(f"text:{path}", view="sequences")
    path.write_text("\n")
    with pytest.raises(DatasetError, match="no lines"):
        zoo.load_dataset(f"text:{path}", view="sequences")


def test_adversarial_training_beat_maximum_likelihood():
    """The paper's claim, by the oracle; untrained sequences are far off."""
    examples = held_out("seqgan.small_oracle", 200)
    found = zoo.get("seqgan.small_oracle", weights="pretrained").measure(examples)
    untrained = zoo.get("seqgan.small_oracle").measure(examples)
    assert found["oracle_nll"] < found["oracle_nll_baseline"] - 0.02
    assert found["oracle_nll"] < untrained["oracle_nll"] - 0.5


def test_the_discriminator_sees_as_many_sequences_as_in_the_released_code():
    """There 312 updates of 64 mixed sequences in an epoch; three epochs in each of 50 and of 5 rounds."""
    c = SeqGANConfig()
    seen = {name: 2 * c.batch_size * getattr(c, f"discriminator_{name}") for name in ("steps", "updates")}
    assert seen == {"steps": 50 * 3 * 312 * 64, "updates": 5 * 3 * 312 * 64}


def test_first_weights_and_optimizers_are_those_of_the_released_code():
    """G all N(0, 0.1); D: embedding U(-1, 1), kernels cut at 0.2 and biases 0.1 but in the highway layer."""
    model = tiny("seqgan", units=32, embedding_size=32, num_filters=(32, 32), vocabulary_size=64)
    for weight in model.generator.get_weights():
        assert weight.std() == pytest.approx(0.1, rel=0.3)
    embedding, *convolutions = model.discriminator.get_weights()
    assert 0.9 < np.abs(embedding).max() <= 1
    last = model.discriminator.get_layer("logits")
    for kernel, bias in (convolutions[:2], convolutions[2:4], last.get_weights()):
        assert 0.15 < np.abs(kernel).max() <= 0.2
        np.testing.assert_allclose(bias, 0.1)
    rates = {player: float(model.make_optimizer(player).learning_rate) for player in model.players}
    assert rates == pytest.approx({"pretraining": 0.01, "generator": 0.01, "discriminator": 1e-4})
    assert model.make_optimizer("generator").global_clipnorm == 5
    assert model.make_optimizer("discriminator").global_clipnorm is None
