"""What the LSGAN paper claims: the codings, the best discriminator, Pearson's divergence, the gradient."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import make_dataset, make_fields, tiny
from gaussians import train_on_the_ring

from tf_gan_zoo.batch_spec import BatchError
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.models.lsgan import LSGAN, LSGANConfig, half_square

CODINGS = {
    "pearson": {"fake_target": -1.0, "real_target": 1.0, "generator_target": 0.0},
    "practical": {"fake_target": 0.0, "real_target": 1.0, "generator_target": 1.0},
}
CHARACTERS = {"architecture": "characters", "image_size": 16, "channels": 1, "num_classes": 3}
P, Q = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.2, 0.7])


def scores_of(density, scores):
    """Ten examples stand for a density on three points."""
    return tf.constant(np.repeat(scores, np.round(10 * density).astype(int))[:, None], tf.float32)


def best_scores(config, p, q):
    return (config.real_target * p + config.fake_target * q) / (p + q)


@pytest.mark.parametrize("coding", CODINGS)
def test_losses_are_half_squares(coding):
    model = tiny("lsgan", **CODINGS[coding])
    c, rng = model.config, np.random.default_rng(0)
    real, fake = rng.normal(size=(2, 5, 1)).astype("float32")
    expected = 0.5 * np.mean((real - c.real_target) ** 2) + 0.5 * np.mean((fake - c.fake_target) ** 2)
    assert float(model._d_loss(tf.constant(real), tf.constant(fake))) == pytest.approx(expected, rel=1e-5)
    expected = 0.5 * np.mean((fake - c.generator_target) ** 2)
    assert float(half_square(tf.constant(fake), c.generator_target)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("coding", CODINGS)
def test_the_best_discriminator(coding):
    model = tiny("lsgan", **CODINGS[coding])
    best = best_scores(model.config, P, Q)

    def loss(scores):
        return float(model._d_loss(scores_of(P, scores), scores_of(Q, scores)))

    rng = np.random.default_rng(0)
    assert all(loss(best + rng.normal(0, 0.1, 3)) > loss(best) for _ in range(10))
    balanced = best_scores(model.config, P, P)
    assert balanced == pytest.approx(0.0 if coding == "pearson" else 0.5)


def test_pearson_coding_minimises_its_divergence():
    """2 C(G) = 2 x (1/2 E_p (D* - c)^2 + 1/2 E_q (D* - c)^2) is chi2(p + q || 2 q), equation 8."""
    config = LSGANConfig(**CODINGS["pearson"])
    assert config.real_target - config.generator_target == 1
    assert config.real_target - config.fake_target == 2

    def criterion(p, q):
        best = best_scores(config, p, q)
        values = (half_square(scores_of(w, best), config.generator_target) for w in (p, q))
        return 2 * float(sum(values))

    for p, q in ((P, Q), (Q, P), (P, P)):
        pearson = ((2 * q - (p + q)) ** 2 / (p + q)).sum()
        assert criterion(p, q) == pytest.approx(pearson, abs=1e-6)
    assert criterion(P, P) == 0.0


def test_samples_far_on_the_right_side_are_still_pulled():
    logits = tf.Variable([[9.0]])
    with tf.GradientTape(persistent=True) as tape:
        squares = half_square(logits, 1.0)
        cross_entropy = tf.reduce_mean(tf.nn.softplus(-logits))
    assert float(tape.gradient(squares, logits)[0, 0]) == pytest.approx(8.0)
    assert abs(float(tape.gradient(cross_entropy, logits)[0, 0])) < 2e-4


@pytest.mark.slow  # a quarter of a minute
def test_all_modes_of_a_ring_are_found_without_batch_norm():
    modes, share = train_on_the_ring(LSGAN, 4000, learning_rate=5e-4)
    assert modes == 8
    assert share > 0.8


def test_scenes_have_the_tables_layers():
    model = LSGAN(LSGANConfig())
    kinds = (keras.layers.Conv2DTranspose, keras.layers.Conv2D)
    shapes = [x.output.shape[1:] for x in model.generator.layers if isinstance(x, kinds[0])]
    expected = [(14, 256), (14, 256), (28, 256), (28, 256), (56, 128), (112, 64), (112, 3)]
    assert shapes == [(side, side, filters) for side, filters in expected]
    shapes = [x.output.shape[1:] for x in model.discriminator.layers if type(x) is kinds[1]]
    assert shapes == [(56, 56, 64), (28, 28, 128), (14, 14, 256), (7, 7, 512)]
    assert model.discriminator.layers[-1].activation is keras.activations.linear
    adam = model.make_optimizer("generator")
    assert (float(adam.learning_rate), adam.beta_1) == (pytest.approx(1e-3), 0.5)
    assert isinstance(LSGAN(LSGANConfig(optimizer="rmsprop", image_size=16)).make_optimizer("generator"),
                      keras.optimizers.RMSprop)  # fmt: skip


@pytest.mark.parametrize("norm, expected", [("both", (True, True)), ("discriminator", (False, True)),
                                            ("none", (False, False))])  # fmt: skip
def test_study_without_batch_norm(norm, expected):
    model = tiny("lsgan", norm=norm)
    found = [
        any(isinstance(x, keras.layers.BatchNormalization) for x in network.layers)
        for network in model.networks.values()
    ]
    assert tuple(found) == expected


def test_characters_train_and_sample_by_class(tmp_path):
    model = tiny("lsgan", embedding_size=4, **CHARACTERS)
    history = model.fit(make_dataset(model, 2), verbose=0).history
    assert np.isfinite(history["d_loss"]).all()
    images = model.generate(3, labels=[0, 1, 2])
    assert images.shape == (3, 16, 16, 1)
    assert 0 <= images.min() <= images.max() <= 1
    with pytest.raises(ValueError, match="integers from 0 to 2"):
        model.generate(1, labels=3)
    with pytest.raises(BatchError, match="has no 'labels'"):
        model.fit(make_fields(model, 4)["images"], verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.generate(3, labels=[0, 1, 2]), images)


def test_characters_at_paper_size():
    paper = {**CHARACTERS, "image_size": 64, "num_classes": 3740, "latent_size": 100}
    model = LSGAN(LSGANConfig(**paper))
    embeddings = [x for x in model.generator.layers if x.name.startswith("dense")]
    assert embeddings[0].weights[0].shape == (3740, 256)
    assert [x.units for x in model.discriminator.layers if hasattr(x, "units")] == [256, 1024, 1]
    convs = [x.filters for x in model.discriminator.layers if type(x) is keras.layers.Conv2D]
    assert convs == [257, 320]


@pytest.mark.parametrize("overrides, message", [
    ({"image_size": 100}, "takes multiples of 16, got 100"),
    ({"image_size": 30, "architecture": "dcgan"}, "takes multiples of 4, got 30"),
    ({"num_classes": 10}, "'characters' needs it and the others take none"),
    ({"architecture": "characters", "image_size": 64}, "'characters' needs it"),
    ({"fake_target": 1.0}, "D learns nothing"),
])  # fmt: skip
def test_impossible_configs_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        LSGANConfig(**overrides)


def test_a_model_without_classes_takes_no_labels():
    with pytest.raises(ValueError, match="no classes: leave labels out"):
        tiny("lsgan").generate(2, labels=1)


def test_first_weights_and_the_studys_optimizer_are_those_of_the_released_code():
    """N(0, 0.02), cut at two deviations in D's convolutions."""
    model = tiny("lsgan", width=32, latent_size=32, optimizer="rmsprop")
    kernels = {type(x): np.array(x.kernel) for n in model.networks.values() for x in n.layers if x.weights
               and hasattr(x, "kernel")}  # fmt: skip
    assert 0.03 < np.abs(kernels[keras.layers.Conv2D]).max() <= 0.04
    for kind in (keras.layers.Conv2DTranspose, keras.layers.Dense):
        assert kernels[kind].std() == pytest.approx(0.02, rel=0.15)
    optimizer = model.player_optimizer("generator")
    assert (optimizer.rho, optimizer.epsilon, optimizer.momentum) == (0.9, 1e-10, 0)
