"""DR-GAN's claims: objectives by hand, fused features, features that know people and not poses; its data."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import held_out, make_fields, tiny
from PIL import Image

import tf_gan_zoo as zoo
from tf_gan_zoo.batch_spec import BatchError
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.data import DatasetError, faces, heads
from tf_gan_zoo.metrics import identities
from tf_gan_zoo.models import dr_gan
from tf_gan_zoo.models.dr_gan import DRGANConfig


@pytest.fixture(scope="module")
def single():
    return tiny("dr_gan")


@pytest.fixture(scope="module")
def multi():
    return tiny("dr_gan", num_images=3, real_fake="logit", reconstruction_weight=2.0)


def log_softmax(logits):
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def found_by(model, images):
    return {name: logits.numpy() for name, logits in model.discriminator(images).items()}


def picked(logits, classes):
    return -log_softmax(np.float64(logits))[np.arange(len(classes)), classes].mean()


# -------------------------------------------------------------------- networks and objective


def test_feature_is_the_mean_of_the_last_map_without_activation():
    config = DRGANConfig(num_blocks=2, width=8, image_size=8)
    encoder = dr_gan.build_encoder(config)
    assert encoder.output_shape == (None, 80)
    features = encoder(np.random.default_rng(0).uniform(-1, 1, (4, 8, 8, 3))).numpy()
    assert features.min() < 0 < features.max()
    sizes = [layer.filters for layer in encoder.layers if hasattr(layer, "filters")]
    assert sizes == [48, 32, 64, 64, 40, 80]  # a quarter of table 1


def test_confidence_is_of_a_normalized_convolution_of_the_last_map_but_one(multi):
    encoder, images = multi.encoder, make_fields(multi, 2)["images"][:, 0]
    norm = next(x for x in encoder.layers if "BatchNorm" in type(x).__name__ and x.output.shape[-1] == 1)
    convolution = norm.input._keras_history.operation
    assert convolution.kernel_size == (3, 3)
    last = encoder.get_layer("features").input._keras_history.operation.input._keras_history.operation
    assert convolution.input is last.input
    weights = norm.get_weights()
    weights[1][:], weights[2][:] = 0.5, 0.2  # offset and moving mean
    norm.set_weights(weights)
    maps = keras.Model(encoder.input, convolution.output)(images).numpy()
    mean = ((maps - 0.2) / np.sqrt(1 + 1e-5) + 0.5).mean(axis=(1, 2))
    np.testing.assert_allclose(encoder(images)[1], 1 / (1 + np.exp(-mean)), rtol=1e-5)


def test_objective_by_class_against_numpy(single):
    batch = {n: tf.constant(v) for n, v in make_fields(single, 4).items()}
    fakes = tf.constant(make_fields(single, 4, seed=1)["images"])
    poses = np.array([0, 2, 1, 1])
    real, fake = found_by(single, batch["images"]), found_by(single, fakes)
    assert real["identities"].shape == (4, 6)  # five people and one class for fakes
    people = batch["labels"].numpy()
    expected = picked(real["identities"], people) + picked(real["poses"], batch["poses"].numpy())
    expected += picked(fake["identities"], np.full(4, 5))
    found = float(single._discriminator_loss(batch, fakes, training=False))
    assert found == pytest.approx(expected, rel=1e-5)
    wanted = {"labels": batch["labels"], "poses": tf.constant(poses)}
    losses = single._fooling_losses(fakes, wanted, training=False)
    assert float(losses["identity_loss"]) == pytest.approx(picked(fake["identities"], people), rel=1e-5)
    assert float(losses["pose_loss"]) == pytest.approx(picked(fake["poses"], poses), rel=1e-5)
    assert float(losses["g_loss"]) == 0


def test_objective_by_logit_against_numpy(multi):
    batch = {n: tf.constant(v) for n, v in make_fields(multi, 2).items()}
    singles = multi._singles(batch)
    fakes = tf.constant(make_fields(multi, 2, seed=1)["images"].reshape(6, 8, 8, 3))
    real, fake = found_by(multi, singles["images"]), found_by(multi, fakes)
    assert real["identities"].shape == (6, 5)
    expected = picked(real["identities"], np.repeat(batch["labels"], 3))
    expected += picked(real["poses"], batch["poses"].numpy().ravel())
    expected += np.log1p(np.exp(-real["real"])).mean() + np.log1p(np.exp(fake["real"])).mean()
    found = float(multi._discriminator_loss(singles, fakes, training=False))
    assert found == pytest.approx(expected, rel=1e-5)


def test_sets_are_decoded_one_by_one_and_fused(multi):
    batch = {n: tf.constant(v) for n, v in make_fields(multi, 4).items()}
    singles = multi._singles(batch)
    features, every = multi._features(singles["images"], training=False)
    raw, confidence = (x.numpy() for x in multi.encoder(singles["images"]))
    assert ((confidence > 0) & (confidence < 1)).all()
    sets, weights = raw.reshape(4, 3, -1), confidence.reshape(4, 3, 1)
    fused = (sets * weights).sum(axis=1) / weights.sum(axis=1)
    np.testing.assert_allclose(every, np.concatenate([raw, fused]), atol=1e-4)
    fakes, wanted = multi._fakes("test", every, singles["labels"], training=False)
    assert fakes.shape == (16, 8, 8, 3)
    people = batch["labels"].numpy()
    np.testing.assert_array_equal(wanted["labels"], np.concatenate([np.repeat(people, 3), people]))


def test_reconstruction_is_of_the_sets_next_face(multi):
    batch = {n: tf.constant(v) for n, v in make_fields(multi, 2).items()}
    singles = multi._singles(batch)
    features, _ = multi._features(singles["images"], training=False)
    order = [1, 2, 0, 4, 5, 3]
    poses = singles["poses"].numpy()[order]
    inputs = {"features": features, "poses": tf.constant(poses), "latents": tf.zeros((6, 4))}
    expected = np.abs(multi.decoder(inputs) - singles["images"].numpy()[order]).mean()
    found = multi._reconstruction(singles, features, training=False)
    assert float(found) == pytest.approx(expected, rel=1e-4)
    total = multi._total({"reconstruction_loss": tf.constant(3.0), "pose_loss": tf.constant(0.5)})
    assert float(total) == 6.5


# -------------------------------------------------------------------- for users


def test_faces_in_all_poses_and_in_one(single):
    images = make_fields(single, 3)["images"]
    every = single.rotate(images)
    assert every.shape == (3, 3, 8, 8, 3)
    np.testing.assert_allclose(single.rotate(images, [2, 0, 1]), every[[0, 1, 2], [2, 0, 1]], atol=1e-5)
    np.testing.assert_allclose(single.frontalize(images), every[:, 1], atol=1e-5)
    np.testing.assert_allclose(single.frontalize(images[0])[0], every[0, 1], atol=1e-5)
    assert np.abs(single.rotate(images, 1, seed=1) - every[:, 1]).max() > 0
    rotated = single.endpoints["rotate"].run({"images": images, "poses": np.array([2, 0, 1], "int32")})
    np.testing.assert_allclose(rotated["rotated"], every[[0, 1, 2], [2, 0, 1]], atol=1e-5)
    front = single.endpoints["translate"].run({"images": images})["outputs"]
    np.testing.assert_allclose(front, every[:, 1], atol=1e-5)
    np.testing.assert_allclose(single.translate(images), every[:, 1], atol=1e-5)
    with pytest.raises(ValueError, match="Use rotate"):
        single.translate(images, "b_to_a")
    np.testing.assert_allclose(single.similarity(images, images), 1.0, atol=1e-6)


def test_sets_of_any_number(multi):
    faces_ = make_fields(multi, 2)["images"]
    alone, fused = multi.encode(faces_[:, 0]), multi.encode(faces_)
    assert alone.shape == fused.shape == (2, 20)
    np.testing.assert_allclose(multi.encode(faces_[:, :1]), alone, atol=1e-4)  # one face is its own mean
    assert multi.encode(faces_[:, :2]).shape == (2, 20)
    assert multi.confidence(faces_).shape == (2, 3)
    assert multi.rotate(faces_).shape == (2, 3, 8, 8, 3)
    assert multi.confidence(faces_[0, 0]).shape == (1,)


def test_what_does_not_fit_is_refused(single):
    images = make_fields(single, 2)["images"]
    with pytest.raises(BatchError, match="0..255"):
        single.encode(np.round(255 * np.abs(images)))
    with pytest.raises(ValueError, match="from 0 to 2"):
        single.rotate(images, 3)
    with pytest.raises(ValueError, match="num_images=1"):
        single.confidence(images)
    with pytest.raises(ConfigError, match="cannot be halved 4 times"):
        DRGANConfig(image_size=100)
    with pytest.raises(ConfigError, match="num_blocks"):
        DRGANConfig(num_blocks=6)


# -------------------------------------------------------------------- measures


def test_rank1_by_hand():
    labels, poses = np.array([0, 0, 1, 1, 1, 2]), np.array([1, 0, 1, 2, 0, 0])
    vectors = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.2, 1], [1, 0.1], [1, 1]], float)
    found = identities.rank1(vectors, labels, poses, frontal=1)
    assert found["rank1"] == pytest.approx(2 / 3)  # the third of those with a frontal face is taken for 0
    assert identities.rank1(vectors[:1], labels[:1], poses[:1], 1) == {}


def test_rank_correlation_and_linear_accuracy():
    assert identities.rank_correlation([1, 2, 3, 4], [1, 4, 9, 16]) == pytest.approx(1)
    assert identities.rank_correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    assert identities.rank_correlation([1, 1], [1, 2]) == 0
    from scipy.stats import spearmanr

    first, second = np.random.default_rng(0).integers(0, 5, (2, 30))
    assert identities.rank_correlation(first, second) == pytest.approx(spearmanr(first, second).statistic)
    rng = np.random.default_rng(0)
    people, classes = rng.integers(0, 10, 200), rng.integers(0, 3, 200)
    readable = np.eye(3)[classes] + 0.1 * rng.normal(size=(200, 3))
    assert identities.linear_accuracy(readable, classes, people) == 1
    assert identities.linear_accuracy(rng.normal(size=(200, 3)), classes, people) < 0.6


def test_trained_features_know_people_in_any_pose():
    examples = held_out("dr_gan.heads", 500)
    found = zoo.get("dr_gan.heads", weights="pretrained").measure(examples)
    untrained = zoo.get("dr_gan.heads").measure(examples)
    for measure in ("rank1", "rank1_profile", "rank1_fused"):
        assert found[measure] > max(found[f"{measure}_baseline"], untrained[measure]) + 0.2
    assert found["pose_leakage"] < found["pose_leakage_baseline"] - 0.2
    assert found["turned_pose"] > max(untrained["turned_pose"], found["turned_pose_baseline"]) + 0.2
    assert found["turned_pose_baseline"] == pytest.approx(1 / 9, abs=0.02)  # chance


# -------------------------------------------------------------------- data


def load(name, view="posed", **options):
    return zoo.load_dataset(name, view=view, image_size=16, **options)


def test_heads_turn_and_people_differ():
    keywords = {"num_identities": 3, "num_poses": 3, "pictures_per_pose": 2, "split": "train"}
    batch = next(iter(load("heads", batch_size=18, **keywords)))
    images, labels, poses = (batch[n].numpy() for n in ("images", "labels", "poses"))
    assert sorted(zip(labels, poses)) == sorted((k, p) for k in range(3) for p in range(3) for _ in range(2))
    assert images.shape == (18, 16, 16, 3)
    head = heads.make_head(np.random.default_rng(0))
    straight = (np.array([0.0, 0, 1]), np.zeros(2), 100.0)
    front, left, right = (heads.render(head, yaw, (32, 32), *straight).astype(int) for yaw in (0, -60, 60))
    assert np.abs(front - front[:, ::-1]).mean() < 0.5  # faces are symmetric
    assert np.abs(left - right[:, ::-1]).mean() < 0.5
    assert np.abs(front - left).mean() > 5
    test = next(iter(load("heads", batch_size=1, **{**keywords, "split": "test"})))["images"]
    assert np.abs(test - images).max(axis=(1, 2, 3)).min() > 0.1
    with pytest.raises(DatasetError, match="num_poses of 2"):
        load("heads", num_poses=1)


def test_sets_are_of_one_person_and_drawn_anew(tmp_path):
    keywords = {"num_identities": 4, "num_poses": 3, "pictures_per_pose": 1, "set_size": 3, "batch_size": 12}
    everything = next(iter(load("heads", **{k: v for k, v in keywords.items() if k != "set_size"})))
    owner = {x.tobytes(): (k, p) for x, k, p in zip(*(everything[n].numpy() for n in everything))}
    epochs = [next(iter(load("heads", "posed_sets", start_step=s, **keywords))) for s in (0, 0, 1)]
    images, labels, poses = (epochs[0][n].numpy() for n in ("images", "labels", "poses"))
    assert images.shape == (12, 3, 16, 16, 3)
    assert poses.shape == (12, 3)
    for pictures, person, turns in zip(images, labels, poses):
        assert [owner[x.tobytes()] for x in pictures] == [(person, turn) for turn in turns]
        assert sorted(turns) == [0, 1, 2]  # all different
    np.testing.assert_array_equal(images, epochs[1]["images"])
    assert len(np.unique(np.concatenate([poses, epochs[2]["poses"]]), axis=0)) > 3
    with pytest.raises(DatasetError, match="single picture of person"):
        load(f"faces:{lonely_face(tmp_path)}", "posed_sets", split="all", batch_size=1)
    with pytest.raises(DatasetError, match="set_size of 2 or more"):
        load("heads", "posed_sets", **{**keywords, "set_size": 1})
    with pytest.raises(DatasetError, match="flip would turn faces"):
        load("heads", flip=True)
    with pytest.raises(DatasetError, match="is for view='posed_sets'"):
        load("heads", set_size=2)


def lonely_face(folder):
    Image.new("RGB", (20, 20)).save(folder / "a.png")
    (folder / "faces.csv").write_text("file,identity,yaw\na.png,P0,0\n")
    return folder


def test_yaws_become_bins():
    yaws = np.array([-68, -67, -60, -7.6, -7.4, 0, 7.4, 60, 67, 68])
    assert faces.pose_bins(yaws, 9, 60).tolist() == [-1, 0, 0, 3, 4, 4, 4, 8, 8, -1]
    with pytest.raises(DatasetError, match="num_poses must be"):
        faces.pose_bins(yaws, 1, 60)


@pytest.fixture
def folder(tmp_path):
    lines = ["file,identity,yaw"]
    for person in range(20):
        for yaw in (-60, 0, 45):
            name = f"{person:02}_{yaw}.png"
            Image.new("RGB", (20, 20), (12 * person, yaw + 60, 0)).save(tmp_path / name)
            lines.append(f"{name},P{person},{yaw}")
    (tmp_path / "faces.csv").write_text("\n".join(lines))
    return tmp_path


def test_folders_of_faces(folder):
    batch = next(iter(load(f"faces:{folder}", split="all", batch_size=60, shuffle=False)))
    assert batch["poses"].numpy().tolist() == [0, 4, 7] * 20
    names = sorted(f"P{k}" for k in range(20))
    assert batch["labels"].numpy().tolist() == [names.index(f"P{k}") for k in range(20) for _ in range(3)]
    counts = [zoo.data.open_dataset(f"faces:{folder}", view="posed", image_size=16, batch_size=1, split=s)
              for s in ("train", "test")]  # fmt: skip
    assert sum(pipeline.num_examples for pipeline in counts) == 60
    table = folder / "faces.csv"
    rows = table.read_text().splitlines()
    split = [f"{row},{'test' if 'P7' in row else 'train'}" for row in rows[1:]]
    table.write_text("\n".join(["file,identity,yaw,split", *split]))
    batch = next(iter(load(f"faces:{folder}", split="test", batch_size=3)))
    assert batch["labels"].numpy().tolist() == [0, 0, 0]  # numbered from 0 in each split


def test_example_on_disk_is_what_the_loader_expects(tmp_path):
    folder = heads.write_example(tmp_path / "new" / "faces", num_identities=2, size=(16, 16))
    batch = next(iter(load(f"faces:{folder}", split="all", batch_size=18, shuffle=False)))
    assert batch["labels"].numpy().tolist() == [0] * 9 + [1] * 9
    assert batch["poses"].numpy().tolist() == [*range(9)] * 2
    drawn = next(iter(load("heads", num_identities=2, pictures_per_pose=1, batch_size=18)))
    assert {x.tobytes() for x in batch["images"].numpy()} == {x.tobytes() for x in drawn["images"].numpy()}


@pytest.mark.parametrize("change, message", [
    (lambda text: text.replace("identity", "who", 1), "no column 'identity'"),
    (lambda text: text.replace(",P3,", ",,", 1), "line 11: nothing in column 'identity'"),
    (lambda text: text.replace("00_0.png", "none.png"), "line 3: there is no file"),
    (lambda text: text.replace("P0,-60", "P0,left"), "line 2: yaw must be degrees, got 'left'"),
    (lambda text: "file,identity,yaw\n", "no rows"),
])  # fmt: skip
def test_malformed_tables_of_faces(folder, change, message):
    table = folder / "faces.csv"
    table.write_text(change(table.read_text()))
    with pytest.raises(DatasetError, match=message):
        load(f"faces:{folder}", split="all", batch_size=4)


def test_people_and_yaws_that_do_not_fit_the_model(folder):
    with pytest.raises(DatasetError, match="20 people in split 'all', but the model has num_identities=10"):
        load(f"faces:{folder}", split="all", batch_size=4, num_identities=10)
    with pytest.warns(UserWarning, match="20 face.s. are turned too far beyond 50 degrees"):
        load(f"faces:{folder}", split="all", batch_size=4, max_yaw=50.0)
    with pytest.raises(DatasetError, match="There is no table"):
        load(f"faces:{folder.parent}", batch_size=4)


def test_recipes():
    assert "dr_gan" in zoo.list_models("face")
    assert zoo.zoo.resolve("dr_gan.multi_pie")[1] == DRGANConfig(data_options={"load_scale": 1.0417})
    assert zoo.zoo.resolve("dr_gan.casia_webface")[1].num_images == 6
