"""What the AC-GAN paper claims: tables of layers, the two losses, classes that G and D both work for."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import held_out, make_fields, tiny

import tf_gan_zoo as zoo
from tf_gan_zoo.batch_spec import BatchError
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.layers import SeededDropout, SeededGaussianNoise
from tf_gan_zoo.models.acgan import ACGANConfig, accuracy, build_discriminator, build_generator, cross_entropy


@pytest.fixture(scope="module")
def model():
    return tiny("acgan")


def num_weights(network):
    return sum(int(np.prod(v.shape)) for v in network.trainable_variables)


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


# ---------------------------------------------------------------- networks


def test_cifar10_networks_have_the_papers_sizes():
    config = zoo.get("acgan.cifar10").config
    assert (config.batch_size, config.total_steps, config.num_classes) == (100, 50_000, 10)
    assert num_weights(build_generator(config)) == 2_994_051
    assert num_weights(build_discriminator(config)) == 1_664_875


def test_the_papers_table_starts_at_8x8():
    config = ACGANConfig(generator_widths=(768, 384, 256, 192))
    assert config.base_size == (8, 8)
    assert num_weights(build_generator(config)) == 16_531_971


def test_discriminator_follows_its_table():
    network = build_discriminator(ACGANConfig(activation_noise=0.1))
    rows = [type(layer).__name__ for layer in network.layers]
    strides = [layer.strides[0] for layer in network.layers if type(layer).__name__ == "Conv2D"]
    assert strides == [2, 1, 2, 1, 2, 1]
    assert rows.count("BatchNormalization") == 5  # none behind the first
    assert [x.rate for x in network.layers if isinstance(x, SeededDropout)] == [0.5] * 6
    assert [x.stddev for x in network.layers if isinstance(x, SeededGaussianNoise)] == [0.1] * 6
    assert [output.shape[1] for output in network.outputs] == [1, 10]


@pytest.mark.parametrize("overrides, message", [
    ({"image_size": 100}, "multiples of 32, got 100"),
    ({"generator_widths": ()}, "need an entry each"),
    ({"num_classes": 1}, "num_classes"),
])  # fmt: skip
def test_impossible_configs_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        ACGANConfig(**overrides)


# ---------------------------------------------------------------- losses


def test_losses_by_hand(model):
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(2, 4, 1)).astype("float32")
    real_classes, fake_classes = rng.normal(size=(2, 4, 3)).astype("float32")
    labels, fake_labels = np.array([0, 1, 2, 1]), np.array([2, 2, 0, 1])
    rows = np.arange(4)
    source = np.mean(np.log1p(np.exp(-real))) + np.mean(np.log1p(np.exp(fake)))
    on_real = -log_softmax(real_classes)[rows, labels].mean()
    on_fake = -log_softmax(fake_classes)[rows, fake_labels].mean()
    d_loss = model._d_loss((real, real_classes), labels, (fake, fake_classes), fake_labels)
    assert float(d_loss) == pytest.approx(source + on_real + on_fake, abs=1e-5)
    g_loss = model._g_loss((fake, fake_classes), fake_labels)
    assert float(g_loss) == pytest.approx(np.mean(np.log1p(np.exp(-fake))) + on_fake, abs=1e-5)


def test_cross_entropy_and_accuracy_of_known_logits():
    logits = tf.constant(np.log([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8]]), tf.float32)
    labels = tf.constant([1, 2])
    assert float(cross_entropy(logits, labels)) == pytest.approx(-np.log([0.3, 0.8]).mean(), abs=1e-6)
    assert float(accuracy(logits, labels)) == 0.5


def test_class_of_fakes_reaches_the_generator(model):
    """The class term alone moves every layer of G, the branch of the label included."""
    with tf.GradientTape() as tape:
        fake, labels = model.fakes("test", 8, training=True)
        loss = cross_entropy(model.discriminator(fake, training=True)[1], labels)
    kernels = [v for v in model.generator.trainable_variables if v.name == "kernel"]
    gradients = tape.gradient(loss, kernels)
    assert all(float(tf.reduce_max(tf.abs(g))) > 0 for g in gradients)
    assert float(tf.reduce_max(tf.abs(gradients[0][-3:]))) > 0


def test_labels_of_fakes_are_drawn_uniformly(model):
    _, labels = model.fakes("test", 3000, training=False)
    assert np.abs(np.bincount(labels, minlength=3) - 1000).max() < 120  # 4.6 standard deviations


# ---------------------------------------------------------------- the classifier


def test_classify_gives_probabilities(model):
    images = make_fields(model, 5)["images"]
    probabilities = model.classify(images, batch_size=2)
    expected = np.exp(log_softmax(model.discriminator(images)[1].numpy()))
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    assert model.classify(images[0]).shape == (1, 3)
    with pytest.raises(BatchError, match="expected"):
        model.classify(np.zeros((2, 9, 9, 3), "float32"))


def test_training_data_must_have_labels(model):
    fields = make_fields(model, 4)
    with pytest.raises(BatchError, match="has no 'labels'"):
        model.fit({"images": fields["images"]}, verbose=0)


def test_samples_become_of_their_class():
    """Bright pictures are of class 1, dark ones of class 0."""
    model = tiny("acgan", num_classes=2, dropout=0.0, channels=1, learning_rate=2e-3)
    labels = np.arange(64, dtype="int32") % 2
    rng = np.random.default_rng(0)
    noise = 0.2 * rng.uniform(size=(64, 8, 8, 1))
    images = (1.4 * labels[:, None, None, None] - 0.9 + noise).astype("float32")

    def contrast():
        brightness = model.generate(100, labels=np.arange(100) % 2).mean(axis=(1, 2, 3))
        return brightness[1::2].mean() - brightness[::2].mean()

    assert abs(contrast()) < 0.1
    model.fit({"images": images, "labels": labels}, batch_size=16, epochs=25, verbose=0)
    assert contrast() > 0.5
    assert (model.classify(images).argmax(axis=1) == labels).mean() > 0.95


# ---------------------------------------------------------------- the published weights


def test_published_samples_are_of_their_class():
    """By the packaged classifier, which has seen real clothes only: far above chance and the untrained G."""
    examples = held_out("acgan.fashion_mnist", 500)
    found = zoo.get("acgan.fashion_mnist", weights="pretrained").measure(examples)
    untrained = zoo.get("acgan.fashion_mnist").measure(examples)
    assert found["class_accuracy"] > 0.8 > 0.3 > untrained["class_accuracy"]
    assert found["test_accuracy"] > 0.75 > 0.3 > untrained["test_accuracy"]
