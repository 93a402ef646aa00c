"""PG2's claims: heat maps and masks by hand, both stages' objectives, people in asked-for poses; its data."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import held_out, make_fields, tiny
from PIL import Image

import tf_gan_zoo as zoo
from tf_gan_zoo import bodies
from tf_gan_zoo.batch_spec import BatchError
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.data import DatasetError
from tf_gan_zoo.data import figures as data_figures
from tf_gan_zoo.metrics.pose_error import JointReader, direction_histograms, joint_distance
from tf_gan_zoo.models import pose_guided_pg2
from tf_gan_zoo.models.pose_guided_pg2 import PoseGuidedPG2Config


@pytest.fixture(scope="module")
def model():
    return tiny("pose_guided_pg2")


def one_pose(**places):
    """Keypoints (1, 18, 3) of which only the named joints are visible."""
    keypoints = np.zeros((1, 18, 3), "float32")
    for name, place in places.items():
        keypoints[0, bodies.JOINTS.index(name)] = (*place, 1)
    return keypoints


# -------------------------------------------------------------------- bodies


def test_maps_are_disks_around_visible_joints():
    maps = bodies.pose_maps(one_pose(nose=(0.5, 0.25)), (32, 16), radius=4.0).numpy()
    rows, columns = np.mgrid[:32, :16] + 0.5
    disk = np.where((rows - 8) ** 2 + (columns - 8) ** 2 <= 16, 1, -1)
    np.testing.assert_array_equal(maps[0, ..., 0], disk)
    assert (maps[..., 1:] == -1).all()


def test_mask_is_what_is_near_a_limb_whose_joints_are_visible():
    keypoints = one_pose(neck=(0.25, 0.25), right_shoulder=(0.75, 0.25), left_ankle=(0.5, 0.9))
    mask = bodies.pose_mask(tf.constant(keypoints), (32, 32), radius=3.0).numpy()[0, ..., 0]
    rows, columns = np.mgrid[:32, :32] + 0.5
    gap = np.maximum(np.maximum(8 - columns, columns - 24), 0)
    near = np.hypot(gap, rows - 8) <= 3
    assert set(np.unique(mask)) == {0, 1}
    assert (mask >= near).all()  # closing adds pixels only
    assert mask.sum() <= near.sum() + 8
    from scipy.ndimage import binary_closing

    padded = binary_closing(np.pad(near, 4), np.ones((5, 5)))[4:-4, 4:-4]
    np.testing.assert_array_equal(mask, padded)


def test_every_joint_is_part_of_a_limb():
    assert len(bodies.LIMBS) == 23
    assert {joint for limb in bodies.LIMBS for joint in limb} == set(range(18))


def test_mirror_images_swap_sides_and_come_back():
    keypoints = tf.constant(one_pose(left_wrist=(0.2, 0.6), nose=(0.4, 0.1)))
    other = bodies.mirrored(keypoints).numpy()
    expected = one_pose(right_wrist=(0.8, 0.6), nose=(0.6, 0.1))
    np.testing.assert_allclose(other, expected, atol=1e-6)
    np.testing.assert_allclose(bodies.mirrored(tf.constant(other)), keypoints, atol=1e-6)
    maps = [bodies.pose_maps(k, (16, 16), 2.0).numpy() for k in (keypoints, tf.constant(other))]
    np.testing.assert_array_equal(maps[1], maps[0][:, :, ::-1][..., bodies.COUNTERPARTS])


def test_pixels_become_parts_of_the_picture():
    columns, rows = np.full(18, -1.0), np.full(18, -1.0)
    columns[0], rows[0], columns[1], rows[1], columns[2] = 31, 63, 40, 10, np.nan
    keypoints = bodies.from_pixels(columns, rows, (128, 64))
    np.testing.assert_allclose(keypoints[0], [31.5 / 64, 63.5 / 128, 1])
    np.testing.assert_allclose(keypoints[1], [40.5 / 64, 10.5 / 128, 1])
    assert (keypoints[2:] == 0).all()
    assert (bodies.from_pixels(columns, rows, (64, 32))[1] == 0).all()  # outside
    with pytest.raises(ValueError, match="expected 18 joints in the order nose"):
        bodies.from_pixels(columns[:17], rows[:17], (128, 64))


# -------------------------------------------------------------------- networks and objective


def test_deep_fashions_networks():
    config = PoseGuidedPG2Config(image_size=256, num_blocks=6, full_skip=True, width=8)
    assert pose_guided_pg2.build_coarse_generator(config).output_shape == (None, 256, 256, 3)
    skips = [pose_guided_pg2.build_refiner(config.replace(full_skip=s)) for s in (True, False)]
    extra = 9 * 8 * 8  # the last block's first convolution sees twice as many channels
    assert skips[0].count_params() - skips[1].count_params() == extra


def test_body_weighs_twice(model):
    batch = {n: tf.constant(v) for n, v in make_fields(model, 2).items()}
    images = make_fields(model, 2, seed=1)["inputs"]
    mask = bodies.pose_mask(batch["keypoints"], (16, 8), 2.0).numpy()
    gap = np.abs(images - batch["targets"].numpy())
    expected = gap.mean() + (gap * mask).mean()
    assert float(model._difference(tf.constant(images), batch)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "form, shares",
    [("quartet", (0.5, 0.25, 0.25)), ("triplet", (0.5, 0.25, 0.25)), ("pair", (0.5, 0.5))],
)
def test_adversarial_losses_against_numpy(form, shares):
    model = tiny("pose_guided_pg2", discriminator_input=form)
    batch = {n: tf.constant(v) for n, v in make_fields(model, 4).items()}
    refined, coarse = (make_fields(model, 4, seed=seed)["inputs"] for seed in (1, 2))
    inputs, targets = (batch[n].numpy() for n in ("inputs", "targets"))
    groups = [targets, refined, inputs]
    if form == "pair":
        groups = [np.concatenate([inputs, x], axis=-1) for x in groups[:2]]
    probabilities = [1 / (1 + np.exp(-np.float64(model.discriminator(x)))) for x in groups]
    d_loss = -shares[0] * np.log(probabilities[0]).mean()
    d_loss -= sum(s * np.log(1 - p).mean() for s, p in zip(shares[1:], probabilities[1:]))
    found = model._discriminator_loss(tf.constant(refined), coarse, batch, training=False)
    assert float(found) == pytest.approx(d_loss, rel=1e-4)
    g_loss = float(model._fooling_loss(tf.constant(refined), coarse, batch, training=False))
    assert g_loss == pytest.approx(-np.log(probabilities[1]).mean(), rel=1e-4)


@pytest.mark.parametrize("form", ["quartet", "triplet"])
def test_coarse_images_count_in_the_statistics_alone(form):
    """The first norm's mean after one step at momentum 0.9 is a tenth of that of all groups, as released."""
    model = tiny("pose_guided_pg2", discriminator_input=form)
    batch = {n: tf.constant(v) for n, v in make_fields(model, 4).items()}
    refined, coarse = (make_fields(model, 4, seed=seed)["inputs"] / 2 + 0.3 for seed in (1, 2))
    norm = next(x for x in model.discriminator.layers if type(x).__name__ == "BatchNormalization")
    groups = [batch["targets"], batch["inputs"], refined, *([coarse] if form == "quartet" else [])]
    seen = keras.Model(model.discriminator.input, norm.input)(tf.concat(groups, axis=0)).numpy()
    model._discriminator_loss(refined, coarse, batch, training=True)
    np.testing.assert_allclose(norm.moving_mean, 0.1 * seen.mean(axis=(0, 1, 2)), rtol=1e-3, atol=1e-7)


def test_market_and_deep_fashion_have_their_own_groups():
    assert PoseGuidedPG2Config().discriminator_input == "quartet"
    assert zoo.zoo.resolve("pose_guided_pg2.deep_fashion")[1].discriminator_input == "triplet"


def test_refined_is_coarse_and_difference(model):
    fields = make_fields(model, 3)
    stages = model.stages(fields["inputs"], fields["keypoints"])
    coarse = model.coarse_generator({n: fields[n] for n in ("inputs", "keypoints")}).numpy()
    difference = model.refiner({"coarse": coarse, "inputs": fields["inputs"]}).numpy()
    np.testing.assert_allclose(stages["difference"], difference, atol=1e-5)
    np.testing.assert_allclose(stages["refined"], np.clip(coarse + difference, -1, 1), atol=1e-5)
    np.testing.assert_allclose(stages["coarse"], np.clip(coarse, -1, 1), atol=1e-5)


def test_stage_ones_rate_can_fall():
    decayed = tiny("pose_guided_pg2", coarse_decay=True, coarse_steps=10, learning_rate=1e-3)
    rates = {player: decayed.player_optimizer(player)._learning_rate for player in decayed.players}
    assert [float(rates["coarse_generator"](step)) for step in (0, 5, 10)] == pytest.approx([1e-3, 5e-4, 0])
    assert float(rates["refiner"]) == float(rates["discriminator"]) == pytest.approx(1e-3)


def test_mirrored_examples_stay_together(model):
    fields = {n: tf.constant(v) for n, v in make_fields(model, 2).items()}
    mirrored = pose_guided_pg2.mirrored_where(tf.constant([True, False]), fields)
    for name, values in fields.items():
        np.testing.assert_array_equal(mirrored[name][1], values[1])
    np.testing.assert_array_equal(mirrored["inputs"][0], fields["inputs"][0, :, ::-1])
    np.testing.assert_array_equal(mirrored["keypoints"][0], bodies.mirrored(fields["keypoints"])[0])


def test_one_pose_for_all_and_what_does_not_fit(model):
    fields = make_fields(model, 3)
    pose = fields["keypoints"][0]
    every = model.transfer(fields["inputs"], np.stack([pose] * 3))
    np.testing.assert_allclose(model.transfer(fields["inputs"], pose), every, atol=1e-6)
    assert model.transfer(fields["inputs"][0], pose).shape == (1, 16, 8, 3)
    with pytest.raises(BatchError, match="one pose or 3"):
        model.transfer(fields["inputs"], fields["keypoints"][:2])
    with pytest.raises(BatchError, match="keypoints"):
        model.transfer(fields["inputs"], 64 * pose)
    with pytest.raises(BatchError, match="keypoints"):
        model.transfer(fields["inputs"], pose[:17])
    with pytest.raises(ConfigError, match="multiples of 16"):
        PoseGuidedPG2Config(image_size=(120, 64))
    with pytest.raises(ConfigError, match="3 or more"):
        PoseGuidedPG2Config(num_blocks=2)


# -------------------------------------------------------------------- measures


def figures(split, count):
    batch = next(iter(zoo.load_dataset(
        "figures", view="pose_pairs", image_size=(64, 32), split=split, batch_size=count, shuffle=False,
        num_people=25, num_poses=4,
    )))  # fmt: skip
    return {name: value.numpy() for name, value in batch.items()}


def test_joints_are_read_off_pictures():
    known, unseen = figures("train", 300), figures("test", 150)
    read = JointReader(known["targets"], known["keypoints"])
    error = joint_distance(read(unseen["targets"]), unseen["keypoints"], (64, 32))
    copied = joint_distance(read(unseen["inputs"]), unseen["keypoints"], (64, 32))
    assert error < 0.65 * copied
    offset = unseen["keypoints"][..., :2] + [3 / 32, 4 / 64]
    assert joint_distance(offset, unseen["keypoints"], (64, 32)) == pytest.approx(5, rel=1e-5)


def test_direction_histograms_see_directions():
    ramp = np.linspace(-1, 1, 16)
    across = np.broadcast_to(ramp[None, None, :, None], (1, 16, 16, 1))
    down = np.broadcast_to(ramp[None, :, None, None], (1, 16, 16, 1))
    cells = [direction_histograms(x).reshape(8, 8, 8) for x in (across, down)]
    assert [set(np.flatnonzero(cell.sum((0, 1)) > 1e-6)) for cell in cells] == [{0}, {2}]


def test_trained_people_take_the_pose():
    examples = held_out("pose_guided_pg2.figures", 200)
    found = zoo.get("pose_guided_pg2.figures", weights="pretrained").measure(examples)
    untrained = zoo.get("pose_guided_pg2.figures").measure(examples)
    for baseline in ("_baseline", "_mean_baseline"):
        assert found["mask_ssim"] > found[f"mask_ssim{baseline}"] + 0.05
        assert found["ssim"] > found[f"ssim{baseline}"] + 0.1
        assert found["pose_error"] < 0.75 * found[f"pose_error{baseline}"]
    assert found["pose_error"] < 0.75 * untrained["pose_error"]


# -------------------------------------------------------------------- data


def test_figures_are_pairs_of_one_person():
    batch = figures("train", 24)
    backdrops = [batch[name][:, :, 0].mean(axis=1) for name in ("inputs", "targets")]
    for first, second in zip(*backdrops):
        assert np.abs(first - second).max() < 0.5  # an arm may cover some of it
    assert np.abs(batch["inputs"] - batch["targets"]).mean(axis=(1, 2, 3)).min() > 0.01
    assert batch["keypoints"].shape == (24, 18, 3)
    people = {tuple(np.round(x[0, 0], 3)) for x in figures("test", 12 * 25)["targets"]}
    assert not people & {tuple(np.round(x[0, 0], 3)) for x in batch["targets"]}
    with pytest.raises(DatasetError, match="leave out channels=1"):
        zoo.load_dataset("figures", view="pose_pairs", channels=1)
    with pytest.raises(DatasetError, match="leave the keypoints behind"):
        zoo.load_dataset("figures", view="pose_pairs", flip=True, image_size=(64, 32))


@pytest.fixture
def folder(tmp_path):
    """Two people in three pictures each, in the published form."""
    lines = ["name:keypoints_y:keypoints_x"]
    (tmp_path / "train").mkdir()
    for person in (1, 2):
        for k in range(3):
            name = f"000{person}_c1_{k}.jpg"
            Image.new("RGB", (32, 64), (80 * person, 40 * k, 0)).save(tmp_path / "train" / name, quality=95)
            rows, columns = [16 + k] * 17 + [-1], [8 * person] * 17 + [-1]
            lines.append(f"{name}: {rows}: {columns}")
    (tmp_path / "market-annotation-train.csv").write_text("\n".join(lines))
    (tmp_path / "market-pairs-train.csv").write_text(
        "from,to\n0001_c1_0.jpg,0001_c1_2.jpg\n0002_c1_1.jpg,0002_c1_0.jpg\n"
    )
    return tmp_path


def load(folder, count, **options):
    return next(iter(zoo.load_dataset(
        f"people:{folder}", view="pose_pairs", image_size=(16, 16), batch_size=count, shuffle=False, **options
    )))  # fmt: skip


def test_folders_of_people(folder):
    batch = load(folder, 2)
    keypoints = batch["keypoints"].numpy()
    np.testing.assert_allclose(keypoints[:, 0], [[8.5 / 32, 18.5 / 64, 1], [16.5 / 32, 16.5 / 64, 1]])
    assert (keypoints[:, 17] == 0).all()
    reds = 127.5 * (batch["inputs"].numpy()[:, 8, 8, 0] + 1)
    np.testing.assert_allclose(reds, [80, 160], atol=6)
    (folder / "market-pairs-train.csv").unlink()
    assert load(folder, 12)["inputs"].shape == (12, 16, 16, 3)  # six pairs of each person
    assert load(folder, 5, max_pairs=5)["inputs"].shape == (5, 16, 16, 3)


def test_example_on_disk_is_what_the_loader_expects(tmp_path):
    folder = data_figures.write_example(tmp_path / "new" / "people", num_people=2, num_poses=2, size=(64, 32))
    keywords = {"view": "pose_pairs", "image_size": (64, 32), "batch_size": 4, "split": "test"}
    written = next(iter(zoo.load_dataset(f"people:{folder}", **keywords)))
    drawn = next(iter(zoo.load_dataset("figures", num_people=2, num_poses=2, **keywords)))
    for field in ("inputs", "targets"):
        np.testing.assert_array_equal(written[field], drawn[field])
    np.testing.assert_allclose(written["keypoints"], drawn["keypoints"], atol=0.5 / 32)  # whole pixels


@pytest.mark.parametrize("file, change, message", [
    ("annotation", lambda t: t.replace("keypoints_x", "x", 1), "no column 'keypoints_x'"),
    ("annotation", lambda t: t.replace("[16,", "[", 1), "line 2: keypoints_y must have 18 numbers, got 17"),
    ("annotation", lambda t: t.replace("[16", "[left", 1), "line 2: keypoints_y is no list of numbers"),
    ("annotation", lambda t: t.replace("0001_c1_1", "0009_c1_1"), "line 3: there is no file"),
    ("pairs", lambda t: t.replace("0002_c1_0", "0007_c1_0"), "line 3: 0007_c1_0.jpg has no keypoints"),
    ("pairs", lambda t: "from,to\n", "no rows"),
])  # fmt: skip
def test_malformed_folders_of_people(folder, file, change, message):
    path = folder / f"market-{file}-train.csv"
    path.write_text(change(path.read_text()))
    with pytest.raises(DatasetError, match=message):
        load(folder, 1)


def test_missing_and_doubled_files_of_people(folder):
    with pytest.raises(DatasetError, match="no file .annotation-test.csv"):
        load(folder, 1, split="test")
    (folder / "old-annotation-train.csv").write_text("")
    with pytest.raises(DatasetError, match="several files fit"):
        load(folder, 1)


def test_recipes():
    assert "pose_guided_pg2" in zoo.list_models("pose")
    assert zoo.zoo.resolve("pose_guided_pg2.market")[1] == PoseGuidedPG2Config()
    assert zoo.zoo.resolve("pose_guided_pg2.deep_fashion")[1].reconstruction_weight == 50
