"""What "Improved Techniques for Training GANs" claims: K+1 classes, and each aid by its formula."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import held_out, make_dataset, make_fields, tiny

import tf_gan_zoo as zoo
from tf_gan_zoo import layers, optimizers
from tf_gan_zoo.batch_spec import BatchError
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.layers import weight_norm
from tf_gan_zoo.models import improved_gan
from tf_gan_zoo.models.improved_gan import ImprovedGANConfig, WeightHistory

CONVOLUTIONAL = {
    "architecture": "convolutional", "generator_width": 4, "discriminator_width": 4, "minibatch_kernels": 0,
}  # fmt: skip


def logits(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 2, shape).astype("float32")


def num_weights(network):
    return sum(int(np.prod(v.shape)) for v in network.trainable_variables)


# -------------------------------------------------------------------- sizes and schedule


@pytest.mark.parametrize("overrides, expected", [
    ({"architecture": "dense", "image_size": 28, "channels": 1}, (694_568, 1_538_770)),
    ({"discriminator_width": 64}, (4_933_382, 626_580)),
    ({"minibatch_kernels": 100}, (4_933_382, 1_504_404)),
])  # fmt: skip
def test_other_papers_sizes(overrides, expected):
    config = ImprovedGANConfig(**overrides)
    kernels = (config.minibatch_kernels, config.minibatch_kernel_size)
    networks = (improved_gan.build_generator(config), improved_gan.build_discriminator(config, *kernels))
    assert tuple(map(num_weights, networks)) == expected


def test_learning_rate_is_constant_for_800_epochs_and_falls_to_zero_in_400():
    model = tiny("improved_gan")
    schedule = model.make_optimizer("discriminator").get_config()["learning_rate"]
    rate = keras.saving.deserialize_keras_object(schedule) if isinstance(schedule, dict) else schedule
    steps_per_epoch = model.config.steps_per_epoch
    rates = [float(rate(epoch * steps_per_epoch)) for epoch in (0, 800, 1000, 1200)]
    np.testing.assert_allclose(rates, [3e-4, 3e-4, 1.5e-4, 0.0], atol=1e-9)


@pytest.mark.parametrize("loss, updates", [("feature_matching", 1), ("adversarial", 3)])
def test_an_adversarial_generator_is_updated_three_times_and_its_rate_falls_with_the_others(loss, updates):
    model = tiny("improved_gan", generator_loss=loss, schedule_steps=6, decay_fraction=0.5)
    model.run_eagerly = True
    model.fit(make_dataset(model, steps=2), verbose=0)
    counts = [int(model.player_optimizer(p).iterations) for p in ("discriminator", "generator")]
    assert counts == [2, 2 * updates]
    for player, count in (("discriminator", 1), ("generator", updates)):
        rate = model.make_optimizer(player).get_config()["learning_rate"]["config"]
        assert (rate["constant_steps"], rate["decay_steps"]) == (3 * count, 3 * count)


def test_optimizers_and_initial_weights_are_those_of_the_released_code():
    """nn.py and training scripts: Adam's epsilon inside the root; N(0, 0.05) or, in dense D, N(0, 0.1)."""
    for name in ("improved_gan", "bingan"):
        for player in ("generator", "discriminator"):
            adam = tiny(name).make_optimizer(player)
            assert isinstance(adam, optimizers.InnerEpsilonAdam)
            assert (adam.beta_1, adam.beta_2, adam.epsilon) == (0.5, 0.999, 1e-8)
    for overrides, std in (({}, 0.1), (CONVOLUTIONAL, 0.05)):
        model = tiny("improved_gan", **overrides)
        normed = [x for x in model.discriminator.layers if hasattr(x, "gain")]
        kernels = np.concatenate([np.ravel(x.kernel) for x in normed])
        assert kernels.std() == pytest.approx(std, rel=0.1)
        assert [x.gain.trainable for x in normed] == [False] * (len(normed) - 1) + [True]
        assert next(x for x in model.generator.layers if hasattr(x, "gain")).gain.trainable
        norms = [x for x in model.generator.layers if isinstance(x, keras.layers.BatchNormalization)]
        assert {(x.epsilon, x.scale, x.momentum) for x in norms} == {(1e-6, False, 0.9)}


def test_generator_updates_can_be_chosen():
    assert tiny("improved_gan", generator_loss="adversarial", generator_updates=2).generator_updates == 2


# -------------------------------------------------------------------- the K+1 classes


def test_losses_are_those_of_a_softmax_over_one_class_more():
    real, fake, labels = logits(5, 3), logits(4, 3, seed=1), np.array([2, -1, 0, -1, -1], "int32")
    known = labels >= 0

    def probabilities(values):  # of K classes and "generated", whose logit is 0
        exponentials = np.exp(np.concatenate([values, np.zeros((len(values), 1))], axis=1).astype("float64"))
        return exponentials / exponentials.sum(1, keepdims=True)

    is_real, is_fake = 1 - probabilities(real)[~known, 3], probabilities(fake)[:, 3]
    expected = -0.5 * np.log(is_real).mean() - 0.5 * np.log(is_fake).mean()
    loss = improved_gan.unsupervised_loss(tf.constant(real), tf.constant(fake), tf.constant(~known))
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    # D(x) is the sigmoid of LSE, and classes are told apart by an ordinary softmax.
    sums = np.log(np.exp(real.astype("float64")).sum(1))
    np.testing.assert_allclose(1 / (1 + np.exp(-sums[~known])), is_real, rtol=1e-6)
    given_real = probabilities(real)[:, :3] / (1 - probabilities(real)[:, 3:])
    expected = -np.log(given_real[known, labels[known]]).mean()
    assert float(improved_gan.supervised_loss(tf.constant(real), labels)) == pytest.approx(expected, rel=1e-5)


def test_without_labels_there_is_no_supervised_loss():
    assert float(improved_gan.supervised_loss(tf.constant(logits(4, 3)), tf.fill([4], -1))) == 0.0
    np.testing.assert_array_equal(improved_gan.known_labels({"images": tf.zeros((2, 4, 4, 1))}), [-1, -1])


@pytest.mark.parametrize("labels, expected", [
    ([0, -1, 2, -1], [False, True, False, True]), ([-1, -1], [True, True]), ([0, 1], [True, True]),
])  # fmt: skip
def test_real_pictures_are_the_unlabelled_or_else_all(labels, expected):
    np.testing.assert_array_equal(improved_gan.plays_real(tf.constant(labels)), expected)


def test_smoothing_is_one_sided():
    """The target 0.9 is met where D(x) = 0.9; samples' target stays 0."""
    mask = tf.constant([True])

    def loss(real, fake):
        one_class = (tf.constant([[value]], tf.float32) for value in (real, fake))  # LSE is the logit
        return float(improved_gan.unsupervised_loss(*one_class, mask, real_target=0.9))

    best = np.log(0.9 / 0.1)
    assert loss(best, 0.0) < min(loss(best - 0.1, 0.0), loss(best + 0.1, 0.0))
    assert loss(best, -9.0) < loss(best, -4.0)


# -------------------------------------------------------------------- the aids


@pytest.mark.parametrize("distance, power", [("absolute", 1), ("squared", 2)])
def test_feature_matching_is_the_distance_of_batch_means(distance, power):
    real_mean, features = logits(6), tf.constant(logits(5, 6, seed=1))
    with tf.GradientTape() as tape:
        tape.watch(features)
        loss = improved_gan.feature_matching_loss(tf.constant(real_mean), features, distance)
    gap = features.numpy().mean(0) - real_mean
    assert float(loss) == pytest.approx((np.abs(gap) ** power).mean(), rel=1e-5)
    slope = np.sign(gap) if power == 1 else 2 * gap
    np.testing.assert_allclose(tape.gradient(loss, features), np.tile(slope / (5 * 6), (5, 1)), rtol=1e-4)


def test_generator_descends_what_its_loss_says():
    images, labels = make_fields(tiny("improved_gan"), 6).values()
    fake = tf.constant(images[:3])
    by_samples = tiny("improved_gan", generator_loss="adversarial")
    outputs, _ = by_samples.discriminator(fake, training=False)
    sums = np.log(np.exp(outputs.numpy().astype("float64")).sum(1))
    loss = by_samples._g_loss(tf.constant(images), tf.constant(labels), fake, training=False)
    assert float(loss) == pytest.approx(-np.log1p(np.exp(sums)).mean(), rel=1e-5)  # E log(1 - D)


@pytest.mark.parametrize("loss", ["adversarial", "feature_matching"])
def test_minibatch_discrimination_sees_batches_of_one_size(loss):
    """Else D would tell real pictures by how many there are: sums over neighbours grow with a batch."""
    model = tiny("improved_gan", generator_loss=loss, batch_size=8)
    fields, sizes = make_fields(model, 8), []
    plain = model.discriminator.call
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.discriminator, "call", lambda x, **kw: sizes.append(len(x)) or plain(x, **kw))
        model.train_step(model.named(fields))
    assert set(sizes) == {4}
    same = tf.fill((8, *fields["images"].shape[1:]), 0.25)
    real, features = model._judge_real(same, training=False)
    fake, _ = model.discriminator(same[:4], training=False)
    np.testing.assert_allclose(real, tf.concat([fake, fake], axis=0), atol=1e-6)
    assert len(features) == 8


@pytest.mark.parametrize("count", [6, 5])
def test_halves_of_a_batch_come_back_in_its_order(count):
    model = tiny("improved_gan")
    images = make_fields(model, count)["images"]
    outputs = model._judge_real(tf.constant(images), training=False)
    for k in range(2):
        for got, expected in zip(outputs, model.discriminator(images[k::2], training=False)):
            np.testing.assert_allclose(got[k::2], expected, atol=1e-6)


def test_historical_averaging_by_hand():
    weight = keras.Variable([1.0, 2.0])
    history = WeightHistory([weight])
    assert float(history.squared_distance([weight])) == 0.0
    for values in ([1.0, 2.0], [3.0, 2.0], [5.0, 8.0]):
        weight.assign(values)
        history.add([weight])
    np.testing.assert_allclose(history.means[0], [3.0, 4.0])
    with tf.GradientTape() as tape:
        distance = history.squared_distance([weight])
    assert float(distance) == pytest.approx((5 - 3) ** 2 + (8 - 4) ** 2)
    np.testing.assert_allclose(tape.gradient(distance, weight.value), [4.0, 8.0])


def test_virtual_batch_norm_makes_samples_independent_of_their_batch():
    for virtual in (True, False):
        generator = tiny("improved_gan", virtual_batch_norm=virtual, reference_size=5).generator
        latents = np.random.default_rng(0).uniform(-1, 1, (6, 6)).astype("float32")
        together, alone = (np.asarray(generator(x, training=True)) for x in (latents, latents[:2]))
        assert (np.abs(together[:2] - alone).max() < 1e-6) == virtual


def test_all_aids_together_train_a_convolutional_model(tmp_path):
    model = tiny(
        "improved_gan", **CONVOLUTIONAL | {"minibatch_kernels": 3}, virtual_batch_norm=True,
        reference_size=4, historical_averaging_weight=0.1, real_target=0.9, train_baseline=True,
    )  # fmt: skip
    model.run_eagerly = True
    history = model.fit(make_fields(model, 4), verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    assert float(model.generator_history.count.numpy()) == 1
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    images = make_fields(model, 3)["images"]
    np.testing.assert_array_equal(loaded.classify(images), model.classify(images))
    np.testing.assert_array_equal(loaded.generator_history.means[0], model.generator_history.means[0])


def test_switches_choose_the_layers():
    def kinds(network):
        return {type(layer) for layer in network.layers}

    plain, aided = (tiny("improved_gan", **CONVOLUTIONAL | o) for o in (
        {}, {"minibatch_kernels": 2, "virtual_batch_norm": True},
    ))  # fmt: skip
    assert layers.SeededGaussianNoise not in kinds(plain.discriminator)  # dropout on the pictures
    assert {layers.MinibatchDiscrimination, layers.SeededGaussianNoise} <= kinds(aided.discriminator)
    assert layers.VirtualBatchNormalization in kinds(aided.generator)
    assert keras.layers.BatchNormalization not in kinds(aided.generator)
    assert keras.layers.BatchNormalization in kinds(plain.generator)


# -------------------------------------------------------------------- training


def test_initial_values_come_from_data_once():
    model = tiny("improved_gan", minibatch_kernels=0)
    images = make_fields(model, 64)["images"]
    model.before_first_step(tf.data.Dataset.from_tensor_slices(images).batch(16))
    first = model.discriminator.layers[3]
    outputs = images.reshape(64, -1) @ np.asarray(first.normalized_kernel()) + np.asarray(first.bias)
    np.testing.assert_allclose(outputs.mean(0), 0.0, atol=0.3)  # but for the noise on the pictures
    for averaged, own in zip(model.discriminator_ema.variables, model.discriminator.variables):
        np.testing.assert_array_equal(averaged, own)
    before = model.discriminator.get_weights()
    model.before_first_step(tf.data.Dataset.from_tensor_slices(images[:16] * 0.1).batch(16))
    assert all((a == b).all() for a, b in zip(before, model.discriminator.get_weights()))
    assert not weight_norm.is_untrained(model.discriminator)


def test_the_baseline_learns_from_labelled_pictures_only():
    model = tiny("improved_gan", train_baseline=True, schedule_steps=6)
    model.run_eagerly = True
    fields = make_fields(model, 8)
    fields["labels"][:] = -1
    model.fit(fields, verbose=0)
    before = model.baseline.get_weights()
    model.fit(fields, verbose=0)
    after = model.baseline.get_weights()
    assert all((a == b).all() for a, b in zip(before, after) if a.dtype != "int64")  # seeds of noise
    fields["labels"][:4] = 1
    model.fit(fields, verbose=0)
    assert any((a != b).any() for a, b in zip(before, model.baseline.get_weights()) if a.dtype != "int64")
    results = model.measure({"images": fields["images"], "labels": np.arange(8) % 3})
    assert {"accuracy", "accuracy_baseline"} <= set(results)


def test_a_few_labels_and_many_pictures_beat_the_few_labels():
    """Two noisy blobs, one labelled picture each; the classes differ in many weak pixels."""
    rng, side = np.random.default_rng(0), 16
    pattern = rng.choice([-1.0, 1.0], (side, side, 1))
    labels = np.arange(256) % 2
    images = 0.5 + 0.12 * np.where(labels[:, None, None, None] == 1, pattern, -pattern)
    images = np.clip(images + rng.normal(0, 0.15, images.shape), 0, 1).astype("float32")
    model = tiny(
        "improved_gan", num_classes=2, minibatch_kernels=0, train_baseline=True, learning_rate=3e-3,
        discriminator_units=(32, 16), generator_units=32, averaging_decay=0.9,
    )  # fmt: skip
    known = np.concatenate([np.full(256, -1), np.resize([0, 1], 256)])
    pictures = np.concatenate([images, images[np.resize([0, 1], 256)]])
    model.fit({"images": pictures, "labels": known}, batch_size=64, epochs=20, verbose=0)
    results = model.measure({"images": images, "labels": labels})
    assert results["accuracy"] > 0.95


# -------------------------------------------------------------------- use and misuse


def test_classify_gives_probabilities():
    model = tiny("improved_gan")
    images = make_fields(model, 5)["images"]
    probabilities = model.classify(images)
    assert probabilities.shape == (5, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1.0, rtol=1e-5)
    assert model.classify(images[0]).shape == (1, 3)
    with pytest.raises(BatchError, match="expected float32"):
        model.classify(images[:, :8])


@pytest.mark.parametrize("change, message", [
    (lambda f: {**f, "labels": f["labels"] + 7}, "Use integers from -1 to 2"),
    (lambda f: {n: v[:2] for n, v in f.items()}, "at least 3 pictures in a batch, got 2"),
    (lambda f: {n: v[:3] for n, v in f.items()}, "an even number of pictures .*got 3"),
    (lambda f: {"labels": f["labels"]}, "has no 'images'"),
])  # fmt: skip
def test_bad_batches_are_refused_before_training(change, message):
    model = tiny("improved_gan")
    with pytest.raises(BatchError, match=message):
        model.fit(change(make_fields(model, 4)), verbose=0)
    assert int(model.step.numpy()) == 0


@pytest.mark.parametrize("overrides, message", [
    ({"image_size": 30}, "30 cannot be had"),
    ({"batch_size": 2}, "at least 3 pictures in a batch, got 2"),
    ({"batch_size": 5, "minibatch_kernels": 2}, "expected an even number of pictures .*got 5"),
    ({"generator_loss": "hinge"}, "generator_loss"),
])  # fmt: skip
def test_impossible_configs_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        ImprovedGANConfig(**overrides)


def test_published_classifier_beats_the_labels_alone():
    """100 labels of Fashion-MNIST, on the whole test split; 1,000 pictures leave a point or two to chance."""
    batch = held_out("improved_gan.fashion_mnist", 10_000)
    images, labels = batch["images"], batch["labels"]
    model = zoo.get("improved_gan.fashion_mnist", weights="pretrained")

    def accuracy(model, network):
        return (model.classify(images, 500, network).argmax(axis=1) == labels).mean()

    trained = accuracy(model, "discriminator_ema")
    assert trained > accuracy(model, "baseline_ema") + 0.03
    assert trained > accuracy(zoo.get("improved_gan.fashion_mnist"), "discriminator_ema") + 0.5
