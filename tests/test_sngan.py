"""What the SNGAN and projection papers claim: singular values of 1, hinge, classes by an inner product."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import make_dataset, make_fields, tiny

import tf_gan_zoo as zoo
from tf_gan_zoo import losses
from tf_gan_zoo.batch_spec import BatchError
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.layers import SpectralNormalization
from tf_gan_zoo.models.sngan import SNGAN, SNGANConfig

CNN = {
    "architecture": "cnn", "generator_widths": (512, 256, 128, 64), "output_bias": True,
    "discriminator_widths": (64, 128, 256, 512),
}  # fmt: skip
IMAGENET = {
    "image_size": 128, "generator_widths": (1024, 1024, 512, 256, 128, 64), "output_bias": True,
    "discriminator_widths": (64, 128, 256, 512, 1024, 1024), "num_halvings": 5,
}  # fmt: skip


def num_weights(network):
    return sum(int(np.prod(v.shape)) for v in network.trainable_variables)


@pytest.fixture(scope="module")
def trained():
    model = tiny("sngan", num_classes=3)
    model.compile(run_eagerly=True)
    model.fit(make_dataset(model, 2), verbose=0)
    return model


def test_hinge_losses_by_hand():
    real, fake = tf.constant([[2.0], [0.5], [-1.0]]), tf.constant([[-3.0], [0.0], [1.5]])
    assert float(losses.hinge_discriminator_loss(real, fake)) == pytest.approx((0.5 + 2) / 3 + (1 + 2.5) / 3)
    assert float(losses.hinge_generator_loss(fake)) == pytest.approx(1.5 / 3)
    with tf.GradientTape() as tape:
        tape.watch(real)
        loss = losses.hinge_discriminator_loss(real, fake)
    np.testing.assert_allclose(tape.gradient(loss, real)[:, 0], [0, -1 / 3, -1 / 3])


@pytest.mark.parametrize("overrides, generator, discriminator", [
    ({"num_classes": 10}, 4_304_387, 1_055_104),
    (CNN, 3_812_355, 2_935_873),
    ({**IMAGENET, "num_classes": 1000}, 41_996_931, 30_041_857),
])  # fmt: skip
def test_paper_sizes(overrides, generator, discriminator):
    model = SNGAN(SNGANConfig(**overrides))
    assert num_weights(model.generator) == generator
    assert num_weights(model.discriminator) == discriminator


def test_generator_starts_as_in_the_released_code():
    """Glorot's uniform weights, twice the variance in the branches of blocks; Chainer's batch norm."""
    network = tiny("sngan", num_classes=3, generator_widths=(16, 16, 16)).generator
    gains = {"branch": 2.0, "other": 1.0}
    last = network.layers[-2]
    found = set()
    for layer in network.layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)):
            kernel = layer.kernel.numpy()
            kind = "branch" if kernel.shape[:2] == (3, 3) and layer is not last else "other"
            area = int(np.prod(kernel.shape[:-2]))
            limit = np.sqrt(6 * gains[kind] / (area * sum(kernel.shape[-2:])))
            assert 0.9 * limit < np.abs(kernel).max() <= 1.001 * limit
            assert not np.any(layer.bias)
            found.add(kind)
    assert found == {"branch", "other"}
    norms = [x for x in network.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert {(x.momentum, x.epsilon) for x in norms} == {(0.9, 2e-5)}


def test_table_of_settings():
    c = SNGANConfig()
    steps = ("epochs", "steps_per_epoch", "n_critic", "learning_rate")
    model = tiny("sngan", **{name: getattr(c, name) for name in steps})
    for player, updates in (("generator", 50_000), ("discriminator", 250_000)):
        adam = model.make_optimizer(player)
        fractions = [float(adam._learning_rate(part * updates // 4)) / 2e-4 for part in range(5)]
        np.testing.assert_allclose(fractions, [1, 0.75, 0.5, 0.25, 0], atol=1e-6)
        assert (adam.beta_1, adam.beta_2) == (0.0, 0.9)
    assert (c.batch_size, c.generator_batch_multiplier, c.n_critic) == (64, 2, 5)


def test_every_weight_of_the_discriminator_is_normalised_and_none_of_the_generator(trained):
    kinds = {type(layer) for layer in trained.discriminator.layers if layer.trainable_variables}
    assert kinds == {SpectralNormalization}  # and no batch norm
    assert not any(isinstance(layer, SpectralNormalization) for layer in trained.generator.layers)


def test_singular_values_are_one_after_training(trained):
    """Some passes later, that is: u is one step behind the kernels that the optimizer moves."""
    fields = {name: tf.constant(value) for name, value in make_fields(trained, 4).items()}
    forward = tf.function(lambda: trained.logits(fields["images"], fields["labels"], training=True))
    for _ in range(100):
        forward()
    for layer in trained.discriminator.layers:
        if isinstance(layer, SpectralNormalization):
            kernel = np.asarray(layer.normalized_kernel())
            values = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)
            assert values[0] == pytest.approx(1.0, abs=0.01), layer.name


def features_and_parts(model, images):
    """phi(x), psi(phi(x)) and the normalised embeddings."""
    d = model.discriminator
    psi, embeddings = (d.get_layer(name) for name in ("psi", "embeddings"))
    body = keras.Model(d.inputs, [psi.input, psi.output], name="body")
    phi, logits = body({"images": images, "labels": np.zeros(len(images), "int32")})
    return np.asarray(phi), np.asarray(logits), np.asarray(embeddings.normalized_kernel())


def test_projection_by_hand(trained):
    images = make_fields(trained, 3)["images"]
    phi, psi, embeddings = features_and_parts(trained, images)
    for label in range(3):
        labels = np.full(3, label, "int32")
        expected = psi[:, 0] + phi @ embeddings[label]
        logits = trained.logits(images, labels, False)[:, 0]
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_without_embeddings_the_discriminator_is_the_unconditional_one():
    labelled, plain = (tiny("sngan", num_classes=classes) for classes in (3, None))
    labelled.discriminator.get_layer("embeddings").kernel.assign(tf.zeros((3, 8)))
    own = [v for v in labelled.discriminator.variables if "embeddings" not in v.path]
    plain.discriminator.set_weights([v.numpy() for v in own])
    images, labels = (make_fields(labelled, 4)[name] for name in ("images", "labels"))
    np.testing.assert_allclose(
        labelled.logits(images, labels, False), plain.logits(images, None, False), atol=1e-6
    )


def test_features_are_sums_over_the_picture(trained):
    d = trained.discriminator
    before = [layer for layer in d.layers if isinstance(layer, keras.layers.Add)][-2]  # the last block
    maps = keras.Model(d.inputs, before.output)(make_fields(trained, 3))
    phi = features_and_parts(trained, make_fields(trained, 3)["images"])[0]
    np.testing.assert_allclose(phi, np.maximum(maps, 0).sum((1, 2)), rtol=1e-5)


def test_classes_begin_alike_and_part_in_training(trained):
    def spread(model):
        latents = np.repeat(model.sample_inputs(1)["latents"], 3, axis=0)
        images = model.generator({"latents": latents, "labels": np.arange(3, dtype="int32")}).numpy()
        return np.abs(images[1:] - images[0]).max()

    assert spread(tiny("sngan")) < 1e-6 < 1e-5 < spread(trained)


def test_every_update_has_its_own_batch_latents_and_labels():
    model, seen = tiny("sngan", n_critic=3), []
    draw = model.latents
    object.__setattr__(model, "latents", lambda purpose, count: seen.append(purpose) or draw(purpose, count))
    logits, judged = model.logits, []
    object.__setattr__(
        model, "logits", lambda x, y, training: judged.append(np.asarray(x)) or logits(x, y, training)
    )
    model.train_step(dict(make_fields(model, 12)))
    assert len(seen) == len(set(seen)) == 4
    assert [len(images) for images in judged] == [4] * 6 + [8]  # G's batch is twice D's
    assert len({images.sum() for images in judged}) == 7


def test_dequantized_pictures_stay_in_their_levels():
    model = tiny("sngan")
    levels = np.arange(256, dtype="float32").reshape(1, 16, 16, 1)
    images = np.asarray(model._dequantized(tf.constant(levels / 127.5 - 1), "test"))
    np.testing.assert_array_equal(np.floor((images + 1) * 128), levels)
    assert images.max() < 1.0
    assert 0.3 < ((images + 1) * 128 - levels).mean() < 0.7


def test_cnn_and_cross_entropy_train():
    options = {"generator_widths": (8, 8, 4), "discriminator_widths": (4, 8, 8), "loss": "non_saturating"}
    model = tiny("sngan", architecture="cnn", **options)
    before = [v.numpy() for v in model.generator.trainable_variables]
    model.compile(run_eagerly=True)
    history = model.fit(make_dataset(model, 1), verbose=0).history
    assert np.isfinite(history["d_loss"] + history["g_loss"]).all()
    assert all(np.any(v.numpy() != b) for v, b in zip(model.generator.trainable_variables, before))
    wrapped = [x.layer for x in model.discriminator.layers if isinstance(x, SpectralNormalization)]
    kernels = [x.kernel_size[0] for x in wrapped if isinstance(x, keras.layers.Conv2D)]
    assert kernels == [3, 4, 3, 4, 3]


@pytest.mark.parametrize("overrides, message", [
    ({"image_size": 28}, "3 doublings in G and 2 halvings in D take multiples of 8, got 28"),
    ({"num_halvings": 5}, "D has 4 blocks, which cannot halve 5 times"),
    ({"decay_start": 50_000}, "the run has 50000 steps, got 50000"),
    ({"steps_per_epoch": None}, "needs steps_per_epoch"),
    ({"generator_widths": (8,)}, "generator_widths"),
])  # fmt: skip
def test_impossible_configs_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        SNGANConfig(**({"image_size": 32} | overrides))


def test_training_data_must_have_labels_of_the_model():
    model = tiny("sngan")
    fields = make_fields(model, 8)
    with pytest.raises(BatchError, match="has no 'labels'"):
        model.fit({"images": fields["images"]}, verbose=0)
    with pytest.raises(BatchError, match=r"'labels'.*in \[0, 2\], got values from 3 to 3"):
        model.fit({**fields, "labels": np.full(8, 3, "int32")}, verbose=0)


def test_published_samples_are_of_the_class_asked_for():
    """By the packaged classifier; an untrained network, whose classes are alike, has a tenth."""
    labels = np.arange(400) % 10
    for weights, low, high in (("pretrained", 0.8, 1.0), (None, 0.0, 0.2)):
        model = zoo.get("sngan.fashion_mnist", weights=weights)
        samples = model.generate(400, seed=1, labels=labels)
        assert low <= model._class_accuracy(samples, labels)["class_accuracy"] <= high
