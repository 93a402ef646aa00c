"""PixelDTGAN: what each discriminator calls right, the converter's loss, its variants, its code, measures."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import make_dataset, make_fields, tiny

import tf_gan_zoo as zoo
from tf_gan_zoo import train
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.models import pixeldtgan
from tf_gan_zoo.models.pixeldtgan import PixelDTGAN, PixelDTGANConfig


@pytest.fixture(scope="module")
def model():
    return tiny("pixeldtgan")


def test_everything_goes_through_64_numbers():
    network = pixeldtgan.build_converter(PixelDTGANConfig(width=2))
    shapes = [x.output.shape[1:] for x in network.layers if isinstance(x, keras.layers.Conv2D)]
    assert shapes == [(32, 32, 2), (16, 16, 4), (8, 8, 8), (4, 4, 16), (1, 1, 64)]
    assert network.output_shape == [(None, 64, 64, 3), (None, 64)]
    assert not any(v.name == "bias" for v in network.trainable_variables)


def test_the_pair_discriminator_sees_six_channels():
    config = PixelDTGANConfig(width=2, image_size=(16, 32))
    judges = [pixeldtgan.build_discriminator(config, of_pairs=pairs) for pairs in (False, True)]
    judges.append(pixeldtgan.build_discriminator(config.replace(channels=1), of_pairs=True))
    assert [judge.trainable_variables[0].shape[2] for judge in judges] == [3, 6, 4]


# -------------------------------------------------------------------- losses


def cross_entropy(logits, label):
    logits = np.asarray(logits, "float64")
    return np.mean(np.log1p(np.exp(-logits if label else logits)))


def logits_of(model, fields):
    """What D_R and D_A say of associated, irrelevant and converted pictures."""
    fake = model.translate(fields["inputs"])
    pictures = {"associated": fields["targets"], "irrelevant": fields["irrelevant"], "converted": fake}
    pairs = {k: {"inputs": fields["inputs"], "images": v} for k, v in pictures.items()}
    return (
        {k: model.discriminator(v) for k, v in pictures.items()},
        {k: model.domain_discriminator(v) for k, v in pairs.items()},
    )


def test_table_of_labels_and_losses_against_numpy(model):
    """D_R calls irrelevant targets real, D_A calls them wrong; C wants to be called right by both."""
    fields = make_fields(model, 4)
    logs = {name: float(value) for name, value in model.test_step(fields).items()}
    real_fake, domain = logits_of(model, fields)
    labels = {"associated": 1, "irrelevant": 1, "converted": 0}
    d_loss = np.mean([cross_entropy(real_fake[k], label) for k, label in labels.items()])
    assert logs["d_loss"] == pytest.approx(d_loss, rel=1e-5)
    labels = {"associated": 1, "irrelevant": 0, "converted": 0}
    domain_loss = np.mean([cross_entropy(domain[k], label) for k, label in labels.items()])
    assert logs["domain_loss"] == pytest.approx(domain_loss, rel=1e-5)
    c_loss = np.mean([cross_entropy(judged["converted"], 1) for judged in (real_fake, domain)])
    assert logs["c_loss"] == pytest.approx(c_loss, rel=1e-5)
    mse = np.mean((model.translate(fields["inputs"]) - fields["targets"]) ** 2)
    assert logs["mse"] == pytest.approx(mse, rel=1e-5)


def test_variants_of_the_paper():
    networks = {v: list(tiny("pixeldtgan", variant=v).networks) for v in ("mse", "rf", "rf_dd_no_neg")}
    assert networks == {
        "mse": ["converter"],
        "rf": ["converter", "discriminator"],
        "rf_dd_no_neg": ["converter", "discriminator", "domain_discriminator"],
    }
    for variant, names in networks.items():
        model = tiny("pixeldtgan", variant=variant)
        fields = make_fields(model, 4)
        if variant != "rf":
            del fields["irrelevant"]
        logs = {name: float(value) for name, value in model.test_step(fields).items()}
        assert [logs[k] == 0 for k in ("d_loss", "domain_loss")] == [len(names) < 2, len(names) < 3]
        if variant == "mse":
            assert logs["c_loss"] == logs["mse"]
        if variant == "rf":
            fake_logits = model.discriminator(model.translate(fields["inputs"]))
            assert logs["c_loss"] == pytest.approx(cross_entropy(fake_logits, 1), rel=1e-5)


def test_squared_error_is_added_on_demand(model):
    fields = make_fields(model, 4)
    plain, with_mse = (
        {k: float(v) for k, v in tiny("pixeldtgan", **options).test_step(fields).items()}
        for options in ({}, {"mse_weight": 3.0})
    )
    assert with_mse["c_loss"] == pytest.approx(plain["c_loss"] + 3 * plain["mse"], rel=1e-5)


def test_without_negatives_two_kinds_share_the_loss():
    model = tiny("pixeldtgan", variant="rf_dd_no_neg")
    fields = make_fields(model, 4)
    judged = logits_of(model, fields)
    logs = model.test_step(fields)
    for scores, name in zip(judged, ("d_loss", "domain_loss")):
        expected = (cross_entropy(scores["associated"], 1) + cross_entropy(scores["converted"], 0)) / 2
        assert float(logs[name]) == pytest.approx(expected, rel=1e-5)


def test_discriminators_move_before_the_converter(model):
    order = []
    object.__setattr__(model, "update", lambda player, tape, loss: order.append(player))
    model.train_step(make_fields(model, 4))
    object.__delattr__(model, "update")
    assert order == ["discriminator", "domain_discriminator", "converter"]


def test_the_pair_discriminator_looks_at_the_source():
    """For one and the same target, what D_A says depends on the photograph."""
    model = tiny("pixeldtgan")
    fields = make_fields(model, 4)
    same = np.repeat(fields["targets"][:1], 4, axis=0)
    assert len(np.unique(model.association(fields["inputs"], same))) == 4


def test_the_rate_falls_to_a_tenth_for_the_last_five_epochs():
    model = PixelDTGAN(PixelDTGANConfig(width=2, image_size=16))
    rate = model.make_optimizer("converter")._learning_rate
    rates = [float(rate(527 * epoch + 1)) for epoch in (0, 24, 25, 29)]
    np.testing.assert_allclose(rates, [2e-4, 2e-4, 2e-5, 2e-5], rtol=1e-5)
    sgd = tiny("pixeldtgan", optimizer="sgd").player_optimizer("converter")
    assert isinstance(sgd, keras.optimizers.SGD)
    assert sgd.momentum == 0.5


# -------------------------------------------------------------------- inference


def test_translate_encode_and_associate(model):
    fields = make_fields(model, 3)
    images, codes = model.converter(fields["inputs"], training=False)
    np.testing.assert_allclose(model.translate(fields["inputs"]), images, atol=1e-6)
    np.testing.assert_allclose(model.encode(fields["inputs"], batch_size=2), codes, atol=1e-6)
    assert model.encode(fields["inputs"][0]).shape == (1, 8)
    logits = model.domain_discriminator({"inputs": fields["inputs"], "images": fields["targets"]})
    scores = model.association(fields["inputs"], fields["targets"])
    np.testing.assert_allclose(scores, tf.sigmoid(logits)[:, 0], atol=1e-6)


def test_bad_calls_are_refused(model):
    fields = make_fields(model, 3)
    with pytest.raises(ValueError, match="inputs to targets only"):
        model.translate(fields["inputs"], "b_to_a")
    with pytest.raises(ValueError, match="16, 16, 3"):
        model.translate(fields["inputs"][:, :8])
    with pytest.raises(ValueError, match="as many inputs as targets, got 3 and 2"):
        model.association(fields["inputs"], fields["targets"][:2])
    with pytest.raises(ValueError, match="'rf' has no D_A"):
        tiny("pixeldtgan", variant="rf").association(fields["inputs"], fields["targets"])
    with pytest.raises(ValueError, match="no 'irrelevant'"):
        model.fit({"inputs": fields["inputs"], "targets": fields["targets"]}, verbose=0)
    with pytest.raises(ConfigError, match="cannot be halved"):
        PixelDTGANConfig(image_size=6)
    with pytest.raises(ConfigError, match="from 0 to epochs"):
        PixelDTGANConfig(final_epochs=31)


def test_measures_against_the_input_and_the_mean_target(model):
    fields = make_fields(model, 6)
    products = np.array([0, 0, 1, 1, 2, 2])
    fields["targets"] = fields["targets"][2 * products]
    measured = model.measure({**fields, "products": products})
    inputs, targets = fields["inputs"], fields["targets"]
    rmse = np.mean([np.sqrt(np.mean((x - y) ** 2)) for x, y in zip(inputs, targets)])
    assert measured["rmse_baseline"] == pytest.approx(rmse, rel=1e-5)
    rmse = np.mean([np.sqrt(np.mean((targets.mean(0) - y) ** 2)) for y in targets])
    assert measured["rmse_mean_baseline"] == pytest.approx(rmse, rel=1e-5)
    assert measured["retrieval_mean_baseline"] == pytest.approx(1 / 3)  # the mean finds one for all
    assert {"association", "product_accuracy", "product_accuracy_baseline"} < set(measured)
    assert "product_accuracy" not in model.measure(fields)


def test_retrieval_by_hand():
    targets = np.array([1.0, 1.0, 5.0, 9.0]).reshape(4, 1, 1, 1)
    images = np.array([0.0, 4.0, 6.0, 8.0]).reshape(4, 1, 1, 1)
    assert pixeldtgan.retrieval(images, targets, np.array([7, 7, 3, 4])) == 0.75


def test_trains_on_triplets_of_letters():
    options = {"view": "triplets", "image_size": 16, "num_examples": 8, "batch_size": 4}
    model = tiny("pixeldtgan")
    model.run_eagerly = True
    history = model.fit(zoo.load_dataset("glyph_products", **options), verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())


def test_the_mse_variant_takes_pairs():
    model = tiny("pixeldtgan", variant="mse")
    model.run_eagerly = True
    before = float(model.test_step(make_fields(model, 4))["mse"])
    for _ in range(5):
        model.fit(make_dataset(model, 1), verbose=0)
    assert float(model.test_step(make_fields(model, 4))["mse"]) < before


# -------------------------------------------------------------------- what was trained


def test_published_weights_find_the_product_of_a_photograph():
    """Products that were never shown, better than by the photograph itself and than by the mean target."""
    model = zoo.get("pixeldtgan.glyph_products", weights="pretrained")
    pipeline = train.open_pipeline(model, "test", batch_size=200, num_examples=200, shuffle=False)
    examples = {name: np.asarray(v) for name, v in next(iter(pipeline.dataset(start_step=0))).items()}
    measured = model.measure(examples)
    baselines = ("_baseline", "_mean_baseline")
    assert measured["retrieval"] > 2 * max(measured[f"retrieval{x}"] for x in baselines)
    assert measured["rmse"] < min(measured[f"rmse{x}"] for x in baselines)
    assert measured["ssim"] > max(measured[f"ssim{x}"] for x in baselines)
    assert measured["association"] > 0.8
    assert measured["product_accuracy"] > 3 * measured["product_accuracy_baseline"]
