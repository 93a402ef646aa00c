"""Adversarial imposters: the choice of scenes by hand, RPN+'s anchors and losses, priors, data, numbers."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import held_out, make_fields, tiny
from PIL import Image

import tf_gan_zoo as zoo
from tf_gan_zoo import detection, scenes
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.data import DatasetError, streets
from tf_gan_zoo.models import adversarial_imposters as imposters
from tf_gan_zoo.models.adversarial_imposters import AdversarialImpostersConfig
from tf_gan_zoo.networks import vgg
from tf_gan_zoo.scenes import Layout, Prior


@pytest.fixture(scope="module")
def model():
    return tiny("adversarial_imposters", num_pool=8)


def whole_pool(model, seed=0):
    """A batch that has every scene of the pool once."""
    fields = make_fields(model, model.config.num_pool, seed)
    fields["indices"] = np.arange(model.config.num_pool, dtype="int32")[::-1].copy()
    return fields


# -------------------------------------------------------------------- choosing


def test_rounds_halve_the_pool_by_summed_scores():
    model = tiny("adversarial_imposters", num_pool=8, keep=0.25, num_rounds=2, batch_size=8)
    assert model.config.scoring_steps == 1
    model.run_eagerly = True
    batch, totals = whole_pool(model), np.zeros(8)
    for first, left in ((0, 4), (2, 2)):
        for step in (first, first + 1):  # one step of D, one in which it rests
            model.step.assign(step)
            variables = model.discriminator.trainable_variables
            weights = [v.numpy() for v in variables]
            model.train_step(dict(batch))
            same = all((a == b.numpy()).all() for a, b in zip(weights, variables))
            assert same == (step % 2 == 1)
        scores = np.zeros(8)
        scores[batch["indices"]] = model.realism(batch["pool_images"])
        np.testing.assert_allclose(model.pool.scores, scores, atol=1e-5)
        before = set(np.flatnonzero(totals)) or set(range(8))
        totals = totals + scores
        best = sorted(before, key=lambda k: -totals[k])[:left]
        expected = np.zeros(8)
        expected[best] = 8 / left
        np.testing.assert_allclose(model.pool.weights_of_scenes, expected)
        totals = np.where(expected > 0, totals, 0)
    assert model.select().tolist() == best
    thetas = np.zeros_like(batch["thetas"])
    thetas[batch["indices"]] = batch["thetas"]
    np.testing.assert_array_equal(model.imposters(), thetas[best])


def test_a_scene_that_comes_twice_keeps_its_later_score(model):
    batch = {n: tf.constant(v[[0, 1, 0, 2]]) for n, v in whole_pool(model).items()}
    model._remember(batch, tf.constant([1.0, 2.0, 3.0, 4.0]))
    indices = batch["indices"].numpy()
    np.testing.assert_array_equal(model.pool.scores.numpy()[indices], [3, 2, 3, 4])


def test_d_loss_weighs_the_pool(model):
    batch = {n: tf.constant(v) for n, v in whole_pool(model).items()}
    weights = np.array([4, 0, 0, 0, 4, 0, 0, 0], "float32")
    model.pool.weights_of_scenes.assign(weights)
    logs, _, scores = model._judged(batch, tf.zeros((8, 2, 1, 1, 1)), training=False)
    model.pool.weights_of_scenes.assign(np.ones(8))
    real, fake = (model.realism(batch[name]) for name in ("images", "pool_images"))
    kept = fake[np.isin(batch["indices"], (0, 4))]
    expected = np.log(1 + np.exp(-real)).mean() + np.log(1 + np.exp(kept)).mean()
    assert float(logs["d_loss"]) == pytest.approx(expected, rel=1e-4)
    np.testing.assert_allclose(scores, fake, atol=1e-5)


def test_people_are_judged_by_what_is_in_their_boxes():
    model = tiny("adversarial_imposters", crop_size=8, max_boxes=2)
    fields = make_fields(model, 3)
    boxes = np.zeros((3, 2, 4), "float32")
    boxes[:, 0] = (0.25, 0.25, 0.75, 0.75)
    images, other = fields["images"], -fields["images"]
    other[:, 3:13, 3:13] = images[:, 3:13, 3:13]
    logits, there = model._judged_people(images, tf.constant(boxes), training=False)
    same, _ = model._judged_people(other, tf.constant(boxes), training=False)
    lit, _ = model._judged_people(0.3 * images - 0.5, tf.constant(boxes), training=False)
    assert there.numpy().tolist() == [[1, 0]] * 3
    np.testing.assert_allclose(same[:, 0], logits[:, 0], atol=1e-5)  # what is outside does not matter
    np.testing.assert_allclose(lit[:, 0], logits[:, 0], atol=0.02)  # nor does light
    assert model.players["discriminator"] == ("discriminator", "person_discriminator")


def test_steering_goes_up_the_score_functions_gradient():
    model = tiny("adversarial_imposters", mode="steer", num_pool=8, batch_size=8, steer_decay=0.0)
    thetas, scores = whole_pool(model)["thetas"], np.linspace(-1, 1, 8).astype("float32")
    phi = np.random.default_rng(0).normal(0, 0.5, model.tilt.trainable_variables[0].shape).astype("float32")
    model.compile({name: tf.keras.optimizers.SGD(1.0) for name in model.players})
    model.tilt.trainable_variables[0].assign(phi)
    features = np.asarray(imposters.ThetaBins(model.config.layout, model.config.num_bins)(thetas))
    model._steer(tf.constant(thetas), tf.constant(scores))
    odds = np.exp(features @ phi[:, 0])
    p = odds / odds.sum()  # the pool's distribution times exp(phi . f)
    expected = features.T @ (p * (scores - p @ scores))  # gradient of sum p s
    moved = model.tilt.trainable_variables[0].numpy()[:, 0] - phi[:, 0]
    np.testing.assert_allclose(moved, expected, atol=1e-5)
    assert model.players["tilt"] == ("tilt",)


def test_steering_finds_the_scenes_with_high_scores():
    model = tiny("adversarial_imposters", mode="steer", num_pool=64, batch_size=64, steer_learning_rate=0.1)
    batch = {n: tf.constant(v) for n, v in whole_pool(model).items()}
    scores = tf.constant(np.where(batch["thetas"][:, 0] > 0.5, 1.0, -1.0), tf.float32)
    for step in range(30):
        model.step.assign(step)
        model._steer(batch["thetas"], scores)
    model._remember(batch, scores)
    model._choose(when=tf.constant(True))
    weights = model.pool.weights_of_scenes.numpy()
    high = model.pool.thetas.numpy()[:, 0] > 0.5
    assert weights.mean() == pytest.approx(1, rel=1e-4)
    assert weights[high].sum() > 0.9 * weights.sum() > 1.2 * 64 * high.mean()


def test_detectors_for_comparison_learn_from_as_many_scenes():
    model = tiny("adversarial_imposters", num_pool=8, compare=True)
    model.pool.weights_of_scenes.assign([2, 2, 2, 2, 0, 0, 0, 0])
    indices = tf.range(8)
    weights = {name: model._weights_for(name, indices).numpy() for name in model.detectors}
    assert weights["detector"].tolist() == [2, 2, 2, 2, 0, 0, 0, 0]
    assert sorted(weights["random_detector"]) == [0, 0, 0, 0, 2, 2, 2, 2]
    assert (weights["random_detector"] != weights["detector"]).any()
    assert weights["all_detector"].tolist() == [1] * 8


def test_mirrored_pictures_keep_their_boxes():
    model = tiny("adversarial_imposters", augment=True, noise_std=0.0)
    images = np.full((16, 16, 16, 3), -1.0, "float32")
    images[:, 2:6, 1:8] = 1.0
    boxes = np.zeros((16, 2, 4), "float32")
    boxes[:, 0] = np.array([2, 1, 6, 8]) / 16
    images, boxes = (v.numpy() for v in model._augmented(tf.constant(images), tf.constant(boxes)))
    lefts = set()
    for image, (box, empty) in zip(images, boxes):
        rows, columns = np.nonzero(image[..., 0] > 0)
        np.testing.assert_allclose(box * 16, [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])
        assert (empty == 0).all()
        lefts.add(int(columns.min()))
    assert lefts == {1, 8}


# -------------------------------------------------------------------- detecting


def test_anchors_and_offsets():
    anchors = detection.anchors((32, 48), 16, [(8, 8), (16, 4)])
    assert anchors.shape == (2 * 3 * 2, 4)
    np.testing.assert_allclose(anchors[0] * [32, 48, 32, 48], [4, 4, 12, 12])
    np.testing.assert_allclose(anchors[3] * [32, 48, 32, 48], [0, 22, 16, 26])  # second cell, second size
    boxes = np.random.default_rng(0).uniform(0, 0.5, (12, 4)).astype("float32")
    boxes[:, 2:] += boxes[:, :2] + 0.02
    for corner in (True, False):
        code = detection.BoxCode((0.2, 0.1, 0.2, 0.3), corner, largest=100.0)
        offsets = code.encode(tf.constant(boxes), tf.constant(anchors))
        np.testing.assert_allclose(code.decode(offsets, tf.constant(anchors)), boxes.clip(0, 1), atol=1e-5)


def test_offsets_are_those_of_the_top_left_corner():
    anchor, box = np.array([[4, 4, 12, 12], [2, 6, 10, 22]], "float32") / [32, 48, 32, 48]
    offsets = imposters.OFFSETS.encode(tf.constant(box, tf.float32), tf.constant(anchor, tf.float32))
    np.testing.assert_allclose(offsets, [5 * -2 / 8, 5 * 2 / 8, 0, 5 * np.log(2)], atol=1e-5)


def test_overlaps_by_counting_cells():
    rng = np.random.default_rng(0)
    corners = np.sort(rng.integers(0, 13, (6, 2, 2)), axis=1) / 12
    boxes = np.concatenate([corners[:, 0], corners[:, 1]], axis=1)
    at = (np.arange(12) + 0.5) / 12
    inside = [((at > b[0]) & (at < b[2]))[:, None] & ((at > b[1]) & (at < b[3])) for b in boxes]
    expected = [[(a & b).sum() / max((a | b).sum(), 1) for b in inside] for a in inside]
    np.testing.assert_allclose(detection.iou(tf.constant(boxes), tf.constant(boxes)), expected, atol=1e-6)


QUARTERS = detection.anchors((16, 16), 8, [(8, 8)])
PEOPLE = tf.constant([[[0.0, 0.0, 0.5, 0.45], [0.55, 0.7, 0.95, 1.0], [0, 0, 0, 0]]])


def test_matched_anchors_by_hand():
    draws = tf.constant([[0.9, 0.1, 0.2, 0.3]])
    config = AdversarialImpostersConfig(num_sampled=4, background_ratio=1)
    person, counted, offsets = imposters.matched_anchors(QUARTERS, PEOPLE, draws, config)
    # The last quarter overlaps the second person by 0.48: neither a person's nor the background's.
    assert person.numpy().tolist() == [[True, False, False, False]]
    assert counted.numpy().tolist() == [[True, True, False, False]]  # one of each, by the smallest draw
    decoded = imposters.OFFSETS.decode(offsets[0, 3], tf.constant(QUARTERS[3]))
    np.testing.assert_allclose(decoded, PEOPLE[0, 1], atol=1e-6)
    nearest = AdversarialImpostersConfig(num_sampled=4, background_ratio=1, match_nearest=True)
    person, counted, _ = imposters.matched_anchors(QUARTERS, PEOPLE, draws, nearest)
    assert person.numpy().tolist() == [[True, False, False, True]]
    assert counted.numpy().tolist() == [[True, True, True, True]]
    person, counted, _ = imposters.matched_anchors(QUARTERS, tf.zeros((1, 2, 4)), draws, config)
    assert not person.numpy().any() | counted.numpy().any()  # without people nothing counts


def test_anchors_count_as_in_the_released_code():
    """Against loops: people's from 0.5 on, at most a sixth; background up to 0.2, at most five times them."""
    config, rng = AdversarialImpostersConfig(num_sampled=30), np.random.default_rng(0)
    anchors = detection.anchors((64, 64), 8, [(16, 16), (32, 16), (40, 40), (64, 48)])
    boxes = np.sort(rng.uniform(0, 1, (5, 3, 2, 2)), axis=2).reshape(5, 3, 4).astype("float32")
    boxes[0, 0] = (0.1, 0.1, 0.8, 0.8)
    draws = rng.uniform(size=(5, len(anchors))).astype("float32")
    person, counted, _ = (v.numpy() for v in imposters.matched_anchors(anchors, boxes, draws, config))
    numbers = []
    for k in range(5):
        overlaps = [max(iou(anchor, box) for box in boxes[k]) for anchor in anchors]
        people = [n for n, overlap in enumerate(overlaps) if overlap >= 0.5]
        others = [n for n, overlap in enumerate(overlaps) if overlap <= 0.2]
        assert np.flatnonzero(person[k]).tolist() == people
        chosen = sorted(people, key=lambda n: draws[k, n])[:5]
        chosen += sorted(others, key=lambda n: draws[k, n])[: 5 * len(chosen)]
        assert np.flatnonzero(counted[k]).tolist() == sorted(chosen)
        numbers.append(len(people))
    assert min(numbers) < 5 < max(numbers)


def iou(a, b):
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared)


def test_losses_are_means_over_the_anchors_that_they_are_about(model):
    """Of each image: of the class over all that count, of the box over people's alone."""
    fields, weights = make_fields(model, 3), np.array([0.0, 1.0, 2.0], "float32")
    fields["boxes"][:, 0] = (0.1, 0.2, 0.7, 0.8)
    losses = model._detection_losses(
        "detector", fields["images"], tf.constant(fields["boxes"]), tf.constant(weights), "draw", False
    )
    logits, offsets = (np.asarray(v, "float64") for v in model.detector(fields["images"]))
    draws = model.random_uniform("draw", (3, len(model._anchors)))
    person, counted, targets = (
        v.numpy() for v in imposters.matched_anchors(model._anchors, fields["boxes"], draws, model.config)
    )
    assert (person & counted).any(axis=1).all()
    expected = {"class_loss": 0.0, "box_loss": 0.0}
    for k, weight in enumerate(weights / 3):
        chances = np.exp(logits[k]) / np.exp(logits[k]).sum(-1, keepdims=True)
        errors = -np.log(np.where(person[k], chances[:, 1], chances[:, 0]))
        size = np.abs(offsets[k] - targets[k])
        distances = np.where(size < 1, size**2 / 2, size - 0.5).sum(-1)
        expected["class_loss"] += weight * errors[counted[k]].mean()
        expected["box_loss"] += weight * distances[person[k] & counted[k]].mean()
    for name, value in expected.items():
        assert float(losses[name]) == pytest.approx(value, rel=1e-4)


def test_detection_metrics_by_hand():
    truth = np.array([[[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]], [[0, 0, 0.5, 0.5], [0, 0, 0, 0]]])
    boxes = np.array([[[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.5]], [[0.6, 0.6, 1, 1], [0, 0, 0.5, 0.45]]])
    scores = np.array([[0.9, 0.8], [0.7, 0.6]])  # right, the same again, wrong, right
    found = detection.detection_metrics(scores, boxes, truth)
    assert found["average_precision"] == pytest.approx(1 / 3 + 1 / 3 * 0.5)
    # At 0.5 false ones per picture and more nothing is gained: the fourth comes after two, one per picture.
    assert found["miss_rate"] == pytest.approx(np.exp((8 * np.log(2 / 3) + np.log(1 / 3)) / 9))


def test_vgg16_detector_of_the_paper():
    new = 655_616 + 2_621_952 + 2_621_952 + 23_058 + 46_116  # 5x2 convolutions and heads
    config = AdversarialImpostersConfig()
    network = imposters.build_detector(config)
    frozen = {layer.name for layer in network.layers if layer.weights and not layer.trainable}
    assert frozen == {f"block{block}_conv{index}" for block in (1, 2) for index in (1, 2)}
    counts = [sum(int(np.prod(v.shape)) for v in vs) for vs in (network.weights, network.trainable_variables)]
    assert counts == [14_714_688 + new + 2, 14_714_688 - 260_160 + new + 2]
    assert network.outputs[0].shape == (None, 9 * 45 * 60, 2)


@pytest.fixture
def narrow(monkeypatch):
    """VGG-16 with a 32nd of its filters, and Keras's of that width, each weight with a number of its own."""
    monkeypatch.setattr(vgg, "WIDTH", 2)
    images = keras.Input((None, None, 3))
    source = keras.Model(images, vgg.vgg16_maps(images)[-1])
    for index, variable in enumerate(source.trainable_variables):
        variable.assign(np.full(variable.shape, 0.01 * (index + 1)))
    asked = []
    monkeypatch.setattr(keras.applications, "VGG16", lambda **words: asked.append(words) or source)
    return source, asked


def vgg_weights(network):
    return {x.name: x.get_weights() for x in network.layers if x.name.startswith("block") and x.weights}


def make_vgg(**overrides):
    return tiny("adversarial_imposters", backbone="vgg16", image_size=32, compare=True, **overrides)


def test_vgg16_begins_with_imagenet_weights_once(narrow):
    source, asked = narrow
    model, expected = make_vgg(), vgg_weights(source)
    with pytest.raises(vgg.FeatureWeightsError, match=r"call model.before_training\(None\) first"):
        model.train_step(make_fields(model, 4))
    model.before_training(1)
    assert asked == [{"include_top": False, "weights": "imagenet"}]
    for name in ("discriminator", *model.detectors):
        for layer, arrays in vgg_weights(getattr(model, name)).items():
            for array, wanted in zip(arrays, expected[layer]):
                np.testing.assert_array_equal(array, wanted)
    frozen = {x.name for x in model.detector.layers if x.weights and not x.trainable}
    assert frozen == {f"block{block}_conv{index}" for block in (1, 2) for index in (1, 2)}
    assert model.training_notes() == {
        "features": "VGG16 with Keras's ImageNet weights", "frozen blocks of the detector": "first 2"
    }  # fmt: skip
    model.detector.get_layer("block3_conv1").bias.assign(np.full(8, 7.0))
    model.before_training(1)  # what has been trained or loaded stays
    assert (model.detector.get_layer("block3_conv1").bias.numpy() == 7).all()


def test_without_weights_nothing_of_vgg16_is_frozen(narrow):
    model = make_vgg(feature_weights=None)
    with pytest.warns(UserWarning, match="begins with random weights, and the detector is trained whole"):
        model.before_training(1)
    assert not narrow[1]  # nothing was downloaded
    assert all(x.trainable for name in model.detectors for x in getattr(model, name).layers)
    assert model.training_notes() == {
        "features": "a VGG16 with random weights, which is not what the paper used",
        "frozen blocks of the detector": "none",
    }
    assert tiny("adversarial_imposters").training_notes() == {}


def test_weights_that_cannot_be_loaded_are_an_error_before_training(narrow, monkeypatch):
    def fail(**words):
        raise OSError("no network")

    monkeypatch.setattr(keras.applications, "VGG16", fail)
    with pytest.raises(vgg.FeatureWeightsError, match="could not be downloaded: no network.*To go on"):
        make_vgg().before_training(1)
    with pytest.raises(vgg.FeatureWeightsError, match="there is no file 'nowhere.h5'"):
        make_vgg(feature_weights="nowhere.h5").before_training(1)


def test_matched_scale_has_the_references_size():
    x, reference = (np.random.default_rng(k).normal(0, 3 + k, (2, 4, 4, 3)).astype("float32") for k in (0, 1))
    scaled = imposters.MatchedScale(2**0.5)([x, reference])
    sizes = [np.sqrt((np.asarray(v) ** 2).mean(axis=(1, 2, 3))) for v in (scaled, reference)]
    np.testing.assert_allclose(sizes[0], 2**0.5 * sizes[1], rtol=1e-4)


def test_detected_boxes(model):
    images = make_fields(model, 3)["images"]
    found = model.detect(images, num_boxes=4)
    assert found["scores"].shape == (3, 4)
    assert (np.diff(found["scores"], axis=1) <= 0).all()
    every = model.endpoints["detect"].run({"images": images})
    best = np.asarray(every["scores"]).max(axis=1)
    np.testing.assert_allclose(found["scores"][:, 0], best, atol=1e-5)
    scores = model.endpoints["score"].run({"images": images})["realism"]
    np.testing.assert_allclose(model.realism(images), scores[:, 0], atol=1e-6)
    assert model.held_out_pictures({"images": images, "pool_images": images}).shape == (3, 96, 3 * 96, 3)


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match="no multiples of 16"):
        AdversarialImpostersConfig(image_size=100)
    for overrides, message in [
        ({"keep": 1e-5}, "no scene"),
        ({"free_overlap": 0.6}, "0.6 must not be above matched_overlap"),
        ({"num_sampled": 5}, "Use at least 6"),
    ]:
        with pytest.raises(ConfigError, match=message):
            AdversarialImpostersConfig(**overrides)


# -------------------------------------------------------------------- priors and data


def test_priors_are_fitted_to_tables():
    layout = Layout(2, 2, 3)
    everything = Prior(np.full((4, 8), 1 / 8), layout, count=1, kinds={0: 4})
    thetas = everything.sample(500, seed=1)
    scene, people = layout.parts(thetas)
    assert set(np.unique(scene[:, 0])) == {0.125, 0.375, 0.625, 0.875}
    assert ((people[:, :, 0] >= 0).sum(axis=1) == (scene[:, 1] * 3).astype(int) + 1).all()
    wanted = scene[:, 0] > 0.5
    fitted = Prior.fitted(thetas, everything, weights=wanted, smoothing=0.0)
    again = layout.parts(fitted.sample(300, seed=2))[0]
    assert (again[:, 0] > 0.5).all()
    table = scenes.histograms(thetas, layout, 8, weights=wanted)
    np.testing.assert_allclose(table.sum(axis=1), 1)
    counts = np.bincount((scene[wanted, 0] * 8).astype(int), minlength=8)
    np.testing.assert_allclose(table[0], counts / wanted.sum())
    assert scenes.total_variation(table, table) == 0
    assert scenes.total_variation(np.eye(2)[:1], np.eye(2)[1:]) == 1
    assert scenes.entropy(np.full((1, 8), 1 / 8)) == pytest.approx(np.log(8))
    model = tiny("adversarial_imposters", num_person_parameters=8, num_scene_parameters=5, max_people=5)
    assert model.prior("streets").sample(2).shape == (2, 45)


def test_bins_of_the_tilt_are_the_histograms_bins():
    layout = Layout(1, 2, 2)
    thetas = Prior(np.full((3, 4), 1 / 4), layout, count=0).sample(40)
    features = imposters.ThetaBins(layout, 4)(thetas).numpy().reshape(40, 3, 4)
    np.testing.assert_allclose(features.sum(axis=2), 1, atol=1e-6)
    single = thetas[:, 3] < 0
    expected = scenes.histograms(thetas[single], layout, 4)
    np.testing.assert_allclose(features[single].mean(axis=0), expected, atol=1e-6)


def test_streets_hide_a_prior_and_put_boxes_around_people():
    batch = next(iter(zoo.load_dataset(
        "streets", view="imposters", image_size=32, batch_size=200, num_pool=200, num_real=150, shuffle=False,
    )))  # fmt: skip
    batch = {name: value.numpy() for name, value in batch.items()}
    assert batch["indices"].tolist() == list(range(200))
    np.testing.assert_array_equal(batch["images"][150:], batch["images"][:50])  # real ones come again
    assert batch["images"].mean() < batch["pool_images"].mean() - 0.1  # in the dark
    again, boxes = streets.render(batch["thetas"][:4], (32, 32))
    np.testing.assert_allclose(again / 127.5 - 1, batch["pool_images"][:4], atol=1e-5)
    np.testing.assert_allclose(boxes, batch["pool_boxes"][:4], atol=1e-6)
    people = (batch["pool_boxes"][..., 2] > 0).sum(axis=1)
    assert people.tolist() == ((batch["thetas"][:, 1] * 5).astype(int) + 1).tolist()
    alone = batch["thetas"][:1].copy()
    alone[0, 1], alone[0, 13:] = 0.1, -1  # without the others, and then without the first
    nobody = alone.copy()
    nobody[0, 5:] = -1
    with_one, without = (streets.render(thetas, (32, 32))[0][0] for thetas in (alone, nobody))
    rows, columns = np.nonzero((with_one != without).any(axis=-1))
    top, left, bottom, right = streets.render(alone, (32, 32))[1][0, 0] * 32
    assert top - 1 <= rows.min() <= rows.max() <= bottom + 1
    assert left - 1 <= columns.min() <= columns.max() <= right + 1


def write_scenes(folder, num_real=20, num_pool=6):
    for kind, count in (("real", num_real), ("pool", num_pool)):
        (folder / kind).mkdir()
        entries = []
        for k in range(count):
            Image.new("RGB", (40, 20), (10 * k, 0, 0)).save(folder / kind / f"{k}.png")
            entry = {"file": f"{kind}/{k}.png", "boxes": [[10, 5, 20, 10]]}
            if kind == "pool":
                entry |= {"scene": [k, 7 - k], "people": [[k, 3.0]] * (1 + k % 2)}
            entries.append(entry)
        (folder / f"{kind}.json").write_text(json.dumps(entries))


def load_scenes(folder, **options):
    common = {"batch_size": 6, "image_size": 16, "max_boxes": 2, "max_people": 2, "shuffle": False}
    options = {**common, **options}
    return next(iter(zoo.load_dataset(f"scenes:{folder}", view="imposters", **options)))


def test_scenes_of_the_user(tmp_path):
    write_scenes(tmp_path)
    batch = {name: value.numpy() for name, value in load_scenes(tmp_path).items()}
    np.testing.assert_allclose(batch["boxes"][0], [[0.25, 0.25, 0.75, 0.75], [0, 0, 0, 0]])
    np.testing.assert_allclose(batch["thetas"][1], [0.2, 0.8, 0.2, 0, 0.2, 0], atol=1e-6)
    np.testing.assert_allclose(batch["thetas"][0], [0, 1, 0, 0, -1, -1], atol=1e-6)
    assert (batch["real_thetas"] == -1).all()
    model = tiny("adversarial_imposters", num_pool=6)
    model.run_eagerly = True
    model.fit(batch, batch_size=6, verbose=0)
    assert "theta_distance" not in model._theta_metrics(batch["real_thetas"])
    with pytest.raises(DatasetError, match="set num_pool=6"):
        load_scenes(tmp_path, num_pool=5)
    (tmp_path / "pool.json").unlink()
    drawn = load_scenes(tmp_path, num_pool=18, renderer="streets", max_boxes=5)
    assert drawn["thetas"].shape == (6, 45)
    with pytest.raises(DatasetError, match="register_renderer"):
        load_scenes(tmp_path)
    (tmp_path / "pool.json").write_text(json.dumps([{"file": "pool/0.png", "boxes": []}]))
    with pytest.raises(DatasetError, match="people"):
        load_scenes(tmp_path)
    (tmp_path / "real.json").write_text("{}")
    with pytest.raises(DatasetError, match="list of pictures in JSON"):
        load_scenes(tmp_path)


def test_imposters_are_near_to_rare_scenes_and_teach_a_detector():
    """The recipe's detector is not better than one of as many random scenes, which its header says."""
    examples = held_out("adversarial_imposters.streets", 500)
    found = zoo.get("adversarial_imposters.streets", weights="pretrained").measure(examples)
    untrained = zoo.get("adversarial_imposters.streets").measure(examples)
    assert found["theta_distance"] < 0.6 * found["theta_distance_baseline"]
    assert found["average_precision"] > untrained["average_precision"] + 0.5
    assert found["miss_rate"] < untrained["miss_rate"] - 0.3


def test_listed_among_features():
    assert "adversarial_imposters" in zoo.list_models("features")
