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


def settled(sigmoid, starts, targets, steps=250):
    """Where gradient descent on an L1 loss takes outputs that begin at sigmoid(starts); targets are rows."""
    x = tf.Variable(starts)

    @tf.function
    def descend():
        for _ in tf.range(steps):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(tf.reduce_mean(tf.abs(sigmoid(x) - targets), axis=0))
            x.assign_sub(tape.gradient(loss, x))

    descend()
    return tf.sigmoid(x).numpy()


def test_descent_brings_back_what_overshot():
    """From saturation to targets in the middle and at the other end; to 0 and 1 it still comes close."""
    starts, targets = [9.0, -9.0, 9.0, -9.0, 0.0, 0.0], tf.constant([[0.5, 0.3, 0.0, 1.0, 0.0, 1.0]])
    stuck = settled(tf.sigmoid, starts, targets)
    np.testing.assert_allclose(stuck[:4], [1, 0, 1, 0], atol=1e-3)
    found = settled(mvd_3d.RecoveringSigmoid(), starts, targets)
    np.testing.assert_allclose(found, targets[0], atol=0.08)
    disputed = settled(mvd_3d.RecoveringSigmoid(), [0.0], tf.constant([[0.0], [0.0], [0.0], [1.0], [1.0]]))
    assert 0.02 < disputed[0] < 0.05


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


def released_rates(first, peak, epochs, modelnet40):
    """The released loop over epochs in few words: a counter lets four cuts pass, and no rise after them."""
    rate, cuts, rates = first, 0, []
    begin, every, rise_begin, rise_every = (30, 10, 24, 8) if modelnet40 else (18, 6, 18, 6)
    decay, jump, last = (22, 60, 80) if modelnet40 else (12, 37, 50)
    warm_up, points = (16, 38) if modelnet40 else (10, 26)
    for epoch in range(1, epochs + 1):
        rates.append(rate)
        if cuts <= 3 and epoch >= begin and epoch % every == 0:
            rate, cuts = 0.35 * rate, cuts + 1
        if epoch <= warm_up:
            rate = np.linspace(first, peak, points)[2 * (epoch + 1) - 1]
        elif epoch == warm_up + 1:
            rate = peak
        if epoch >= decay:
            rate *= 0.98 if epoch < jump else 1.5 if epoch == jump else 0.97 if epoch <= last else 1
            rate *= 0.6 if epoch == last + 1 else 1
        if cuts <= 3 and epoch >= rise_begin and epoch % rise_every == 1:
            rate *= 1.2
    return rates


@pytest.mark.parametrize("name, peak, epochs", [("shapenet", 8.5e-5, 80), ("modelnet40", 9.2e-5, 105)])
def test_learning_rates_of_the_released_code(name, peak, epochs):
    rates = mvd_3d.SCHEDULES[name].rates(2e-6, peak, epochs)
    np.testing.assert_allclose(rates, released_rates(2e-6, peak, epochs, name == "modelnet40"), rtol=1e-9)


def test_milestones_by_hand():
    rates = [None, *mvd_3d.SCHEDULES["shapenet"].rates(2e-6, 8.5e-5, 80)]
    assert rates[1:3] == pytest.approx([2e-6, 2e-6 + 83e-6 * 3 / 25])
    assert rates[11:14] == pytest.approx([2e-6 + 83e-6 * 21 / 25, 8.5e-5, 8.5e-5 * 0.98])
    changes = {epoch: rates[epoch] / rates[epoch - 1] for epoch in (18, 19, 20, 37, 38, 39, 52)}
    assert changes == pytest.approx(
        {18: 0.98, 19: 0.98 * 0.35, 20: 0.98 * 1.2, 37: 0.98 * 0.35, 38: 1.5, 39: 0.97, 52: 0.6}
    )
    rates = [None, *mvd_3d.SCHEDULES["modelnet40"].rates(2e-6, 9.2e-5, 105)]
    assert rates[17:19] == pytest.approx([2e-6 + 90e-6 * 33 / 37, 9.2e-5])
    changes = {epoch: rates[epoch] / rates[epoch - 1] for epoch in (22, 23, 31, 58, 61, 62, 82)}
    assert changes == pytest.approx(
        {22: 1, 23: 0.98, 31: 0.98 * 0.35, 58: 0.98 * 1.2, 61: 1.5 * 0.35, 62: 0.97, 82: 0.6}
    )


def test_rates_change_with_the_first_step_of_an_epoch():
    schedule = tiny("mvd_3d", epochs=3, steps_per_epoch=2).player_optimizer("autoencoder")._learning_rate
    rates = np.repeat(mvd_3d.SCHEDULES["shapenet"].rates(2e-6, 8.5e-5, 3), 2)
    np.testing.assert_allclose([float(schedule(step)) for step in range(6)], rates, rtol=1e-6)
    modelnet40 = zoo.get("mvd_3d.modelnet40", image_size=28, width=4).player_optimizer("autoencoder")
    assert float(modelnet40._learning_rate(2459)) == pytest.approx(2e-6)
    assert float(modelnet40._learning_rate(2460)) == pytest.approx(2e-6 + 9e-5 * 3 / 37)


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
    model = zoo.get("mvd_3d.solids", weights="pretrained")
    found = model.measure(examples)
    for measure, margin in (("silhouette_iou", 0.15), ("voxel_iou", 0.2), ("shape_accuracy", 0.4)):
        assert found[measure] > found[f"{measure}_baseline"] + margin
    assert found["depth_l1"] < 0.9 * found["depth_l1_baseline"]
    assert found["chamfer"] < 0.7 * found["chamfer_baseline"]
    made = model.reconstruct(examples["depth"], views=[0]).depth[examples["depth"] > 0]
    assert examples["depth"].max() < 0.96  # no solid reaches 1: an output of 1 is a sigmoid that is stuck
    assert (made > 0.98).mean() < 0.002


def test_listed_for_shapes():
    assert "mvd_3d" in zoo.list_models("shape_3d")
    assert zoo.get("mvd_3d.modelnet40", image_size=28, width=4).config.kl_weight == 120
