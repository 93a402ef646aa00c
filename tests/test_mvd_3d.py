"""MVD-3D's claims: three nets by what the encoder sees, sums of errors by hand, shapes from one view."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import make_fields, tiny

import tf_gan_zoo as zoo
from tf_gan_zoo.batch_spec import BatchError
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.models import mvd_3d
from tf_gan_zoo.models.mvd_3d import MVD3DConfig
from tf_gan_zoo.shapes import Views


@pytest.fixture(scope="module")
def model():
    return tiny("mvd_3d", variant="single", num_classes=3, width=4)


@pytest.fixture(scope="module")
def fields(model):
    """Depth maps with background, and labels."""
    fields = make_fields(model, 4)
    fields["depth"] *= fields["depth"] > 0.5
    return fields


@pytest.mark.parametrize("settings, encoder, decoder", [
    ({"variant": "single"}, 17_565_580, 25_420_520),
    ({"num_classes": 57, "latent_size": 40}, 18_992_889, 25_416_968),
])  # fmt: skip
def test_networks_of_the_other_variants(settings, encoder, decoder):
    config = MVD3DConfig(**settings)
    built = mvd_3d.build_encoder(config), mvd_3d.build_decoder(config)
    counts = [sum(int(np.prod(v.shape)) for v in network.trainable_variables) for network in built]
    assert counts == [encoder, decoder]


def test_sizes_of_maps_at_224():
    config = MVD3DConfig(width=2)
    halved = [layer for layer in mvd_3d.build_encoder(config).layers if "add" in layer.name]
    assert [layer.output.shape[1] for layer in halved if "pad" not in layer.name] == [53, 25, 11, 4]
    maps = [layer.output.shape for layer in mvd_3d.build_decoder(config).layers]
    assert sorted({shape[1] for shape in maps if len(shape) == 4}) == [4, 7, 14, 28, 56, 112, 224]


def test_every_second_pixel_makes_a_strided_dilated_convolution():
    """Stride 2 and dilation 2 by the definition, against padding, subsampling and a plain convolution."""
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(1, 11, 11, 2)), rng.normal(size=(4, 4, 2, 3))
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    size = (13 - 6 - 1) // 2 + 1
    expected = np.zeros((1, size, size, 3))
    for row in range(size):
        for column in range(size):
            window = padded[0, 2 * row : 2 * row + 7 : 2, 2 * column : 2 * column + 7 : 2]
            expected[0, row, column] = np.einsum("ijc,ijcd->d", window, kernel)
    seen = mvd_3d._every_second_pixel(tf.constant(x, tf.float32))
    found = tf.nn.conv2d(seen, tf.constant(kernel, tf.float32), 1, "VALID")
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_objective_against_numpy(model, fields):
    losses = model._terms({n: tf.constant(v) for n, v in fields.items()}, "", training=False)
    seen = model._corrupted(tf.constant(fields["depth"]), "")
    means, log_variances, logits = (np.float64(v) for v in model.encoder(seen, training=False))
    noise = np.asarray(model.latents("posterior", 4))
    latents = (means + np.exp(log_variances / 2) * noise).astype("float32")
    depth, silhouettes = model.generator({"latents": latents, "labels": fields["labels"]}, training=False)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = {
        "depth_loss": np.abs(depth - fields["depth"]).sum() / 4,
        "silhouette_loss": np.abs(silhouettes - (fields["depth"] > 0)).sum() / 4,
        "kl": 0.5 * (means**2 + np.exp(log_variances) - 1 - log_variances).sum() / 4,
        "class_loss": -np.log(probabilities[np.arange(4), fields["labels"]]).mean(),
    }
    for name, value in expected.items():
        assert float(losses[name]) == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_an_output_that_overshot_comes_back():
    x = tf.constant([-9.0, -9.0, 9.0, 9.0, 0.5])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = mvd_3d.RecoveringSigmoid()(x)
        loss = tf.reduce_sum(y * [1.0, -1.0, 1.0, -1.0, 1.0])
    np.testing.assert_allclose(y, tf.sigmoid(x))
    slope = 1 / (1 + np.exp(-9)) / (1 + np.exp(9))
    middle = 1 / (1 + np.exp(-0.5)) / (1 + np.exp(0.5))
    np.testing.assert_allclose(tape.gradient(loss, x), [slope, -0.05, 0.05, -slope, middle], rtol=1e-3)


def test_the_weight_of_the_divergence_follows_variant_and_size():
    assert MVD3DConfig().scaled_kl_weight == 240
    assert MVD3DConfig(variant="dropout").scaled_kl_weight == 180
    assert MVD3DConfig(variant="single", image_size=56).scaled_kl_weight == pytest.approx(150 / 16)
    assert MVD3DConfig(kl_weight=32, image_size=112).scaled_kl_weight == 8


def test_what_each_variant_sees(model):
    depth = tf.random.stateless_uniform((64, 28, 28, 20), (1, 2), 0.1, 1.0)
    seen = np.asarray(model._corrupted(depth, ""))
    assert seen.shape == (64, 28, 28, 1)
    matches = (seen == depth.numpy()).all(axis=(1, 2))
    assert (matches.sum(axis=1) == 1).all()
    assert len(set(matches.argmax(axis=1))) > 12  # not always the same view
    dropping = tiny("mvd_3d", variant="dropout")
    dropped = set()
    for step in range(12):
        dropping.step.assign(step)
        kept = (np.asarray(dropping._corrupted(depth, "")) > 0).all(axis=(1, 2))
        assert len(set(kept.sum(axis=1))) == 1  # one number for the batch
        assert len({tuple(row) for row in kept}) > 32  # other views for each shape
        dropped.add(20 - kept[0].sum())
    assert dropped <= {15, 16, 17, 18}
    assert len(dropped) > 1
    depth *= tf.cast(depth > 0.5, tf.float32)
    silhouettes = tiny("mvd_3d", inputs="silhouettes")._corrupted(depth, "")
    np.testing.assert_array_equal(silhouettes, depth > 0.5)


def test_learning_rates_of_the_paper():
    rates = mvd_3d.paper_rates(8.5e-5, 2e-6, 10, 80)
    assert len(rates) == 80
    assert rates[0] == pytest.approx(2e-6)
    assert rates[9] == rates[10] == pytest.approx(8.5e-5)
    assert rates[11] == pytest.approx(8.5e-5 * 0.98)
    assert rates[17] == pytest.approx(rates[16] * 0.98 * 0.35)
    assert rates[18] == pytest.approx(rates[17] * 0.98 * 1.2)
    assert rates[36] == pytest.approx(rates[35] * 1.8)
    assert rates[50] == pytest.approx(rates[49] * 0.6)
    assert rates[79] == rates[50]


def test_shapes_from_one_view(model, fields):
    depth = fields["depth"]
    views = model.reconstruct(depth, views=[7])
    assert isinstance(views, Views)
    assert views.depth.shape == views.silhouettes.shape == depth.shape
    np.testing.assert_allclose(model.reconstruct(depth[..., 7:8]).depth, views.depth, atol=1e-6)
    hidden = np.where(np.arange(20) == 7, depth, 0)  # nothing else was looked at
    np.testing.assert_allclose(model.reconstruct(hidden, views=[7]).depth, views.depth, atol=1e-6)
    assert views.cut.max() <= 1
    assert (views.cut[views.silhouettes <= 0.5] == 0).all()
    probabilities = model.classify(depth, views=[7])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    own = model.reconstruct(depth, views=[7], labels=probabilities.argmax(axis=1))
    np.testing.assert_allclose(own.depth, views.depth, atol=1e-6)
    assert len(model.to_point_cloud(views)) == 4
    for wrong in ([], [1, 2], [20]):
        with pytest.raises(ValueError, match="views"):
            model.reconstruct(depth, views=wrong)
    with pytest.raises(BatchError, match="0..255"):
        model.reconstruct(255 * depth)


def test_samples_and_ways_between_shapes(model, fields):
    depth = fields["depth"]
    labelled = model.sample(3, seed=1, labels=[0, 1, 2])
    assert labelled.depth.shape == (3, 28, 28, 20)
    np.testing.assert_allclose(model.generate(3, seed=1, labels=[0, 1, 2]), labelled.depth, atol=1e-6)
    like = model.sample(50, seed=0, like=depth[:1], labels=0)  # one shape has no variance
    assert like.depth.std(axis=0).max() < 1e-5
    way = model.interpolate(depth[0], depth[1], steps=5, label=1)
    ends = model.reconstruct(depth[:2], labels=1)
    np.testing.assert_allclose(way.depth[[0, 4]], ends.depth, atol=1e-5)
    with pytest.raises(ValueError, match="no classes"):
        tiny("mvd_3d").classify(depth)


def test_impossible_sizes_are_refused():
    for size in (14, 64, 225):
        with pytest.raises(ConfigError, match="maps of 7x7"):
            MVD3DConfig(image_size=size)
    with pytest.raises(ConfigError, match="4 or more"):
        MVD3DConfig(width=3, num_classes=2)


def test_pictures_of_shapes(model, fields):
    assert model.sample_pictures(16).shape == (2, 112, 8 * 112, 1)
    rows = model.held_out_pictures({"depth": fields["depth"][:2]})
    assert rows.shape == (2, 112, 9 * 112, 1)
    assert np.abs(rows).max() <= 1


def test_one_view_beats_the_mean_shape():
    options = {"view": "shapes", "split": "test", "image_size": 56, "value_range": (0, 1), "batch_size": 21}
    batch = next(iter(zoo.load_dataset("solids", num_examples=210, **options)))
    examples = {name: value.numpy() for name, value in batch.items()}
    found = zoo.get("mvd_3d.solids", weights="pretrained").measure(examples)
    for measure, margin in (("silhouette_iou", 0.15), ("voxel_iou", 0.2), ("shape_accuracy", 0.4)):
        assert found[measure] > found[f"{measure}_baseline"] + margin
    assert found["depth_l1"] < 0.9 * found["depth_l1_baseline"]
    assert found["chamfer"] < 0.7 * found["chamfer_baseline"]


def test_listed_for_shapes():
    assert "mvd_3d" in zoo.list_models("shape_3d")
    assert zoo.get("mvd_3d.modelnet40", image_size=28, width=4).config.kl_weight == 120
