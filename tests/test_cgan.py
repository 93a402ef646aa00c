"""What the conditional GAN's paper claims: both players use the class, samples are of the class asked for."""

import numpy as np
import pytest
from conftest import make_fields, tiny

from tf_gan_zoo.batch_spec import BatchError
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.layers import Maxout, SeededDropout
from tf_gan_zoo.models.cgan import CGAN, CGANConfig


@pytest.fixture(scope="module")
def model():
    return tiny("cgan")


def test_paper_networks():
    paper = CGAN(CGANConfig())
    units = [x.units for x in paper.generator.layers if type(x).__name__ == "Dense"]
    assert sorted(units) == [200, 784, 1000, 1200]
    maxouts = [x for x in paper.discriminator.layers if isinstance(x, Maxout)]
    assert sorted((x.maxout_units, x.pieces) for x in maxouts) == [(50, 5), (240, 4), (240, 5)]
    dropouts = [x.rate for net in paper.networks.values() for x in net.layers if isinstance(x, SeededDropout)]
    assert dropouts == [0.5] * 6
    for name, limit in (("generator", 0.05), ("discriminator", 0.005)):  # those of the first GAN's code
        network = paper.networks[name]
        kernels = [v.numpy() for v in network.trainable_variables if len(v.shape) > 1]
        assert all(0.95 * limit < np.abs(kernel).max() <= limit for kernel in kernels)
    rate = paper.make_optimizer("generator")._learning_rate
    assert float(rate(10_000)) == pytest.approx(0.1 / 1.00004**10_000, rel=1e-4)
    assert float(rate(10**7)) == pytest.approx(1e-6)


def test_generator_against_numpy(model):
    """The label's branch is one row of its kernel, and both branches meet in the joint layer."""
    inputs = model.sample_inputs(5, seed=1)
    first, second, joint, pixels = (
        [np.asarray(v) for v in layer.weights] for layer in model.generator.layers if len(layer.weights) == 2
    )
    by_label = first if first[0].shape[0] == 3 else second
    by_noise = second if by_label is first else first
    labels, latents = (np.asarray(inputs[name]) for name in ("labels", "latents"))
    branches = [(latents + 1) / 2 @ by_noise[0] + by_noise[1], by_label[0][labels] + by_label[1]]
    hidden = np.maximum(np.concatenate(branches, axis=1), 0)
    hidden = np.maximum(hidden @ joint[0] + joint[1], 0)
    expected = 1 / (1 + np.exp(-(hidden @ pixels[0] + pixels[1])))
    np.testing.assert_allclose(model.generator(inputs), expected.reshape(5, 8, 8, 1), atol=1e-5)


def test_both_players_see_the_label(model):
    latents = np.repeat(model.sample_inputs(1)["latents"], 3, axis=0)
    labels = np.arange(3, dtype="int32")
    images = model.generator({"latents": latents, "labels": labels}).numpy()
    assert np.abs(images[1:] - images[:1]).max(axis=(1, 2, 3)).min() > 1e-3
    logits = model.discriminator({"images": images[[0, 0, 0]], "labels": labels}).numpy()
    assert len(np.unique(logits)) == 3


def test_fakes_get_the_labels_of_the_batch():
    model, seen = tiny("cgan"), []
    generator = model.generator
    batch = make_fields(model, 4)

    def recorded(inputs, training):
        seen.append(np.asarray(inputs["labels"]))
        return generator(inputs, training=training)

    object.__setattr__(model, "generator", recorded)
    model.test_step(batch)
    np.testing.assert_array_equal(seen, [batch["labels"]])


def test_labels_are_those_asked_for(model):
    chosen = model.sample_inputs(4, labels=[2, 0, 1, 1])
    np.testing.assert_array_equal(chosen["labels"], [2, 0, 1, 1])
    np.testing.assert_array_equal(chosen["latents"], model.sample_inputs(4)["latents"])
    np.testing.assert_array_equal(model.sample_inputs(3, labels=2)["labels"], [2, 2, 2])
    counts = np.bincount(model.sample_inputs(3000)["labels"])
    assert np.abs(counts - 1000).max() < 120  # 4.6 standard deviations
    np.testing.assert_array_equal(model.generate(4, labels=[2, 0, 1, 1]), model.run(chosen))


@pytest.mark.parametrize("labels, message", [
    ([0, 1, 3], r"integers from 0 to 2, got \[0, 1, 3\]"),
    ([0, 1, -1], "integers from 0 to 2"),
    ([0.0, 1.0, 2.0], "integers from 0 to 2"),
    ([0, 1], r"one integer or shape \(3,\), got shape \(2,\)"),
    ([[0], [1, 2]], "different lengths"),
])  # fmt: skip
def test_impossible_labels_are_refused(model, labels, message):
    with pytest.raises(ValueError, match=message):
        model.generate(3, labels=labels)


def test_training_data_must_have_labels_of_the_model(model):
    fields = make_fields(model, 4)
    with pytest.raises(BatchError, match="has no 'labels'"):
        model.fit({"images": fields["images"]}, verbose=0)
    with pytest.raises(BatchError, match=r"'labels'.*in \[0, 2\], got values from 0 to 7"):
        model.fit({**fields, "labels": np.array([0, 1, 2, 7], "int32")}, verbose=0)
    with pytest.raises(ConfigError, match="num_classes"):
        CGANConfig(num_classes=1)


def test_measure_counts_obeyed_labels():
    model = tiny("cgan")
    images = model.generate(12, seed=5, labels=np.arange(12) % 3)
    model.generate = lambda count, seed=0, labels=None: images[:count]
    measured = model.measure({"images": images, "labels": np.arange(12) % 3})
    assert measured["neighbour_accuracy"] == 1.0
    measured = model.measure({"images": images, "labels": (np.arange(12) + 1) % 3})
    assert measured["neighbour_accuracy"] == 1.0
    model.generate = lambda count, seed=0, labels=None: np.roll(images, 1, axis=0)
    assert model.measure({"images": images, "labels": np.arange(12) % 3})["neighbour_accuracy"] == 0.0


def test_generator_learns_what_the_labels_mean():
    """Bright pictures are of class 1, dark ones of class 0."""
    sizes = {"latent_units": 16, "joint_maxout": (16, 2), "image_maxout": (16, 3), "label_maxout": (8, 2)}
    model = tiny("cgan", num_classes=2, dropout=0.0, discriminator_scale=0.2, seed=1, **sizes)
    labels = np.arange(64, dtype="int32") % 2
    rng = np.random.default_rng(0)
    images = (0.8 * labels[:, None, None, None] + 0.2 * rng.uniform(size=(64, 8, 8, 1))).astype("float32")

    def contrast():
        brightness = model.generate(200, labels=np.arange(200) % 2).mean(axis=(1, 2, 3))
        return brightness[1::2].mean() - brightness[::2].mean()

    assert abs(contrast()) < 0.2
    model.fit({"images": images, "labels": labels}, batch_size=16, epochs=50, verbose=0)
    assert contrast() > 0.4
