"""Perceptual GAN: networks, the residual, losses by size, regions and boxes, phases, any backbone."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import make_fields, tiny

import tf_gan_zoo as zoo
from tf_gan_zoo import detection, train
from tf_gan_zoo.layers import RoIAlign
from tf_gan_zoo.models import perceptual_gan_small_objects as pgan
from tf_gan_zoo.models.perceptual_gan_small_objects import PerceptualGANConfig

NAME = "perceptual_gan_small_objects"


# -------------------------------------------------------------------- features of regions


def bilinear(features, row, column):
    """The value at a place in pixels, (channels,); the border's beyond the border."""
    height, width = features.shape[:2]
    row, column = np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)
    top, left = min(int(row), height - 2), min(int(column), width - 2)
    down, right = row - top, column - left
    upper = features[top, left] * (1 - right) + features[top, left + 1] * right
    lower = features[top + 1, left] * (1 - right) + features[top + 1, left + 1] * right
    return upper * (1 - down) + lower * down


def align(features, box, size, samples):
    top, left, bottom, right = box * np.tile(features.shape[:2], 2)
    result = np.zeros((size, size, features.shape[-1]))
    count = size * samples
    for i in range(count):
        for j in range(count):
            row = top + (i + 0.5) / count * (bottom - top) - 0.5
            column = left + (j + 0.5) / count * (right - left) - 0.5
            result[i // samples, j // samples] += bilinear(features, row, column) / samples**2
    return result


def test_roi_align_against_loops():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2, 9, 7, 3)).astype("float32")
    boxes = np.array([[[0, 0, 1, 1], [0.1, 0.3, 0.55, 0.9], [-0.2, 0.5, 0.3, 1.4]]] * 2, "float32")
    boxes[1] += 0.05
    result = RoIAlign(3, 2)([features, boxes]).numpy()
    assert result.shape == (2, 3, 3, 3, 3)
    for k in range(2):
        for n in range(3):
            np.testing.assert_allclose(result[k, n], align(features[k], boxes[k, n], 3, 2), atol=1e-5)
    with pytest.raises(ValueError, match="at least 1"):
        RoIAlign(0)


def test_roi_align_of_a_whole_map_is_the_map():
    features = np.random.default_rng(1).normal(size=(1, 6, 6, 2)).astype("float32")
    whole = np.array([[[0, 0, 1, 1]]], "float32")
    np.testing.assert_allclose(RoIAlign(6, 1)([features, whole])[0, 0], features[0], atol=1e-6)
    copy = RoIAlign.from_config(RoIAlign(6, 1).get_config())
    assert (copy.size, copy.samples) == (6, 1)


# -------------------------------------------------------------------- boxes


def test_offsets_lead_from_regions_to_boxes_and_back():
    rng = np.random.default_rng(0)
    boxes = pgan.background_boxes(rng.uniform(size=(5, 7, 4)).astype("float32"))
    regions = pgan.moved_boxes(boxes, rng.uniform(-1, 1, (5, 7, 4)).astype("float32"))
    decoded = pgan.OFFSETS.decode(pgan.OFFSETS.encode(boxes, regions), regions)
    np.testing.assert_allclose(decoded, boxes, atol=1e-5)
    region, box = np.array([[0.2, 0.2, 0.4, 0.4], [0.3, 0.1, 0.5, 0.5]], "float32")
    half_a_side_down_twice_as_wide = [0.5 / 0.1, 0, 0, np.log(2) / 0.2]
    np.testing.assert_allclose(pgan.OFFSETS.encode(box, region), half_a_side_down_twice_as_wide, atol=1e-4)


def test_moved_boxes_still_show_their_object():
    rng = np.random.default_rng(0)
    boxes = pgan.background_boxes(rng.uniform(size=(1, 500, 4)).astype("float32"))
    moved = pgan.moved_boxes(boxes, rng.uniform(-1, 1, (1, 500, 4)).astype("float32"))
    overlaps = np.diagonal(np.asarray(detection.iou(moved, boxes))[0])
    assert overlaps.min() > 0.5
    assert overlaps.mean() < 0.9


def test_overlap_by_hand():
    boxes = np.array([[[0, 0, 0.4, 0.4]]], "float32")
    others = np.array([[[0, 0, 0.4, 0.4], [0.2, 0, 0.6, 0.4], [0.5, 0.5, 1, 1]]], "float32")
    np.testing.assert_allclose(detection.iou(boxes, others)[0, 0], [1, 1 / 3, 0], atol=1e-6)


# -------------------------------------------------------------------- networks


def test_generator_without_residual_is_the_plain_detector():
    model = tiny(NAME)
    fields = make_fields(model, 2)
    last = [layer for layer in model.generator.layers if isinstance(layer, keras.layers.Conv2D)]
    for layer in last:
        layer.set_weights([np.zeros_like(w) for w in layer.get_weights()])
    features = RoIAlign(2)([model.backbone(fields["images"])[1], fields["boxes"]])
    np.testing.assert_array_equal(model.super_resolve(fields["images"], fields["boxes"]), features)
    with_g, plain = (model.detect(fields["images"], fields["boxes"], s) for s in (True, False))
    for name in ("scores", "labels", "boxes"):
        np.testing.assert_array_equal(with_g[name], plain[name])


def test_generator_of_the_paper_by_its_layers():
    config = PerceptualGANConfig(width=8, num_blocks=6, roi_size=6)
    network = pgan.build_generator(config, 5, 7)
    convolutions = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
    shapes = [(layer.kernel_size, layer.filters) for layer in convolutions]
    assert shapes == [((3, 3), 8), ((1, 1), 7), *[((3, 3), 7)] * 12]
    sums = [layer for layer in network.layers if isinstance(layer, keras.layers.Add)]
    assert len(sums) == 6 + 1
    assert network.output_shape == (None, None, 6, 6, 7)
    vgg16 = pgan.build_generator(PerceptualGANConfig(num_blocks=1, roi_size=7), 64, 512)
    trainable = sum(int(tf.size(v)) for v in vgg16.trainable_variables)
    assert trainable + 5 * (4_719_616 + 2048) == 28_609_280


def test_adversarial_branch_on_seven_cells():
    network = pgan.build_adversarial_branch(PerceptualGANConfig(roi_size=7), 512)
    assert network.count_params() == 106_960_897


def test_any_backbone_by_name_or_file(tmp_path):
    options = {"low_layer": "block1_conv2", "high_layer": "block2_conv2", "preprocessing": "vgg"}
    model = tiny(NAME, backbone="VGG16", **options)
    assert [t.shape[-1] for t in model.backbone.outputs] == [64, 128]
    with pytest.warns(UserWarning, match="VGG16 starts with random weights"):
        model.before_training(1)
    assert model.training_notes()["backbone"].startswith("a VGG16 with random weights")
    frozen = tiny(NAME, detector_steps=0)
    with pytest.warns(UserWarning, match="detector_steps=0: small keeps its random weights"):
        frozen.before_training(1)
    images = np.random.default_rng(0).uniform(-1, 1, (1, 16, 16, 1)).astype("float32")
    convolutions = [keras.layers.Conv2D(3, 3, name="early"), keras.layers.Conv2D(5, 3, name="late")]
    keras.Sequential([keras.Input((None, None, 1)), *convolutions]).save(tmp_path / "own.keras")
    own = {"backbone": str(tmp_path / "own.keras"), "low_layer": "early", "preprocessing": "none"}
    model = tiny(NAME, **own, high_layer="late")
    assert model.super_resolve(images, np.array([[[0.1, 0.1, 0.5, 0.5]]])).shape == (1, 1, 2, 2, 5)
    assert model.training_notes() == {"backbone": "the model of the file own.keras"}
    network = keras.models.load_model(tmp_path / "own.keras")
    np.testing.assert_allclose(model.backbone(images)[1], network(images), atol=1e-6)
    with pytest.raises(ValueError, match="Layers of .*early, late"):
        tiny(NAME, **own, high_layer="later")


# -------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def model():
    return tiny(NAME)


def sigmoid_losses(logits):
    return np.log1p(np.exp(-np.asarray(logits, "float64"))), np.log1p(np.exp(np.asarray(logits, "float64")))


def test_losses_of_each_size_against_numpy(model):
    model.set_phase_at(2)
    fields = make_fields(model, 3)
    regions = model._regions(model.named(fields))
    logs = {name: float(value) for name, value in model.test_step(fields).items()}
    low, high = model.backbone(fields["images"])
    features = RoIAlign(2)([high, regions.boxes])
    fake = pgan._folded(model.generator([low, regions.boxes, features]))
    flat = {name: np.reshape(value, (-1, *value.shape[2:])) for name, value in regions._asdict().items()}
    small = flat["sizes"] < 6
    is_object = flat["labels"] > 0
    assert 0 < (small & is_object).sum() < is_object.sum()

    real, _ = sigmoid_losses(model.adversarial(pgan._folded(features))[:, 0])
    away, generated = sigmoid_losses(model.adversarial(fake)[:, 0])
    d_loss = real[~small & is_object].mean() + generated[small & is_object].mean()
    assert logs["d_loss"] == pytest.approx(d_loss, rel=1e-5)
    assert logs["g_loss"] == pytest.approx(away[small & is_object].mean(), rel=1e-5)

    scores, offsets = (np.asarray(x, "float64") for x in model.perception(fake))
    chances = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    rows, chosen = np.arange(len(scores)), small & (flat["weights"] > 0)
    class_loss = -np.log(chances[rows, flat["labels"]])[chosen].mean()
    assert logs["class_loss"] == pytest.approx(class_loss, rel=1e-4)
    size = np.abs(offsets[rows, flat["labels"]] - flat["offsets"])
    smooth = np.where(size < 1, size**2 / 2, size - 0.5).sum(-1) * is_object
    assert logs["box_loss"] == pytest.approx(smooth[chosen].mean(), rel=1e-4)


def test_regions_on_objects_and_regions_without(model):
    fields = make_fields(model, 50)
    fields["labels"][:, 0] = 0
    regions = model._regions(model.named(fields))
    objects, boxes = model.config.num_boxes, pgan.ordered_corners(fields["boxes"])
    labels, weights = np.asarray(regions.labels), np.asarray(regions.weights)
    np.testing.assert_array_equal(labels[:, :objects], fields["labels"])
    assert (labels[:, objects:] == 0).all()
    assert (weights[:, 0] == 0).all()  # boxes of nothing teach nothing
    overlaps = np.asarray(detection.iou(regions.boxes[:, objects:], boxes)) * (fields["labels"] > 0)[:, None]
    np.testing.assert_array_equal(weights[:, objects:] > 0, overlaps.max(-1) < 0.3)
    goals = pgan.OFFSETS.decode(regions.offsets[:, :objects], regions.boxes[:, :objects])
    np.testing.assert_allclose(goals, boxes, atol=1e-4)


def updates_of(model, phase):
    """The players of a step's updates, in order; none moves anything."""
    players, model.phase = [], phase
    object.__setattr__(model, "update", lambda player, tape, loss: players.append(player))
    model.train_step(make_fields(model, 4))
    return players


def test_phases_and_who_moves_in_them():
    model = tiny(NAME)
    assert model.phases == (("detector", 0), ("generator", 1), ("adversarial", 2))
    assert updates_of(model, "detector") == ["detector"]
    assert updates_of(model, "generator") == ["generator"]
    assert updates_of(model, "adversarial") == ["adversarial", "perception", "generator"]
    frozen = tiny(NAME, train_perception=False, detector_steps=0, backbone_weights=None)
    assert list(frozen.players) == ["generator", "adversarial"]
    assert updates_of(frozen, "adversarial") == ["adversarial", "generator"]


def test_both_branches_teach_the_generator():
    model = tiny(NAME)
    model.set_phase_at(2)
    losses = {"class_loss": tf.constant(2.0), "box_loss": tf.constant(3.0)}
    assert float(model._generator_loss(losses, tf.constant(5.0))) == 10.0
    weighed = tiny(NAME, adversarial_weight=0.5, perception_weight=2.0)
    assert float(weighed._generator_loss(losses, tf.constant(5.0))) == 12.5


def test_detector_learns_from_large_objects_or_from_all():
    losses = []
    for sizes in ("large", "all"):
        model = tiny(NAME, detector_sizes=sizes)
        fields = make_fields(model, 4)
        regions = model._regions(model.named(fields))
        large = regions._replace(weights=regions.weights * tf.cast(regions.sizes >= 6, tf.float32))
        both = (model._detector_losses(fields["images"], r)["class_loss"] for r in (regions, large))
        losses.append([float(loss) for loss in both])
    assert losses[0][0] == pytest.approx(losses[0][1])
    assert losses[1][0] != pytest.approx(losses[1][1])


def test_learning_rates_fall_by_the_updates_of_each_player():
    model = tiny(NAME, detector_steps=100, pretrain_steps=100, epochs=1, steps_per_epoch=1200)
    rates = {p: model.player_optimizer(p)._learning_rate for p in model.players}
    assert [float(rates["detector"](k)) for k in (60, 61, 81)] == pytest.approx([1e-3, 1e-4, 1e-5])
    assert [float(rates["generator"](k)) for k in (660, 661)] == pytest.approx([1e-3, 1e-4])
    assert [float(rates["adversarial"](k)) for k in (600, 601)] == pytest.approx([1e-3, 1e-4])


# -------------------------------------------------------------------- use


def test_features_may_be_given_instead_of_pictures(model):
    fields = make_fields(model, 3)
    maps = tuple(x.numpy() for x in model.backbone(fields["images"]))
    expected = model.super_resolve(fields["images"], fields["boxes"])
    np.testing.assert_allclose(model.super_resolve(maps, fields["boxes"], batch_size=2), expected, atol=1e-5)


def test_pictures_of_any_size_and_any_number_of_boxes(model):
    images = np.random.default_rng(0).uniform(-1, 1, (2, 40, 24, 1)).astype("float32")
    found = model.detect(images, np.tile([0.1, 0.2, 0.6, 0.7], (2, 5, 1)))
    assert found["scores"].shape == (2, 5, 4)
    np.testing.assert_allclose(found["scores"].sum(-1), 1, atol=1e-5)
    assert found["boxes"].shape == (2, 5, 4)
    np.testing.assert_allclose(found["scores"][:, :1], found["scores"][:, 4:], atol=1e-6)
    with pytest.raises(ValueError, match="those of 2 pictures, got 1"):
        model.detect(images, np.zeros((1, 5, 4)))
    with pytest.raises(ValueError, match="'boxes': expected"):
        model.detect(images, np.zeros((2, 5, 3)))


def test_accuracy_by_size():
    boxes = np.array([[[0, 0, 0.1, 0.1], [0.5, 0.5, 1, 1], [0, 0.5, 0.2, 0.7], [0, 0, 0, 0]]])
    labels, found = np.array([[1, 2, 3, 0]]), np.array([[1, 2, 1, 1]])
    result = pgan.accuracy_by_size({"labels": found, "boxes": boxes}, boxes, labels, (100, 100), (15, 30))
    assert result["accuracy_small"] == 1
    assert result["accuracy_medium"] == 0
    assert result["accuracy_large"] == 1
    assert result["iou_large"] == pytest.approx(1)
    parts = pgan.parted_by_size(boxes, (100, 100), (15, 30))
    np.testing.assert_array_equal(sum(parts.values()), 1)  # each box has one size
    np.testing.assert_array_equal(parts["small"], [[True, False, False, True]])


def test_what_cannot_work_is_refused():
    for overrides, message in [
        ({"small_size": 7.0}, "small_size: 7.0 must not be above large_size"),
        ({"backbone": "VGG16"}, "for 'VGG16' give low_layer and high_layer"),
        ({"backbone": "VGG61", "low_layer": "a", "high_layer": "b"}, "is no file and not in keras.app"),
        ({"preprocessing": "vgg"}, "the small backbone takes 'none'"),
        ({"backbone_weights": "nowhere.weights.h5"}, "does not fit small"),
    ]:
        with pytest.raises(ValueError, match=message):
            tiny(NAME, **overrides)


def test_in_the_list_of_feature_models():
    assert NAME in zoo.list_models("features")


@pytest.mark.slow  # half a minute of drawing and looking at pictures
def test_small_objects_gain_over_the_frozen_detector():
    """The shipped weights, on pictures that neither part has seen."""
    model = zoo.get(f"{NAME}.clutter", weights="pretrained")
    pipeline = train.open_pipeline(model, "test", batch_size=200, shuffle=False)
    examples = next(pipeline.dataset(start_step=0).as_numpy_iterator())
    measured = model.measure(examples)
    assert measured["accuracy_small"] > measured["accuracy_small_baseline"] + 0.15
    assert measured["accuracy_large"] > measured["accuracy_large_baseline"] - 0.1
