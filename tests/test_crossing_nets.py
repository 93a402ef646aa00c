"""Crossing Nets' claims: terms by hand, four phases, unknown poses, crossing over; and its two data sets."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import held_out, make_dataset, make_fields, tiny

import tf_gan_zoo as zoo
from tf_gan_zoo import skeletons
from tf_gan_zoo.batch_spec import BatchError
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.data import DatasetError, hand_depth, hands
from tf_gan_zoo.layers import RunningNormal
from tf_gan_zoo.models import crossing_nets
from tf_gan_zoo.models.crossing_nets import CrossingNetsConfig


@pytest.fixture(scope="module")
def model():
    return tiny("crossing_nets")


@pytest.fixture(scope="module")
def batch(model):
    fields = make_fields(model, 4)
    fields["labelled"] = np.array([1, 0, 1, 1], "int32")
    fields["joints"] = (fields["joints"] / 10).astype("float32")
    return {name: tf.constant(value) for name, value in fields.items()}


# -------------------------------------------------------------------- terms


def test_terms_by_hand():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-1, 1, (2, 3, 4, 4, 1)).astype("float32")
    by_hand = np.minimum((x - y) ** 2, 1).mean(axis=(1, 2, 3))
    assert ((x - y) ** 2).max() > 1
    np.testing.assert_allclose(crossing_nets.clipped_error(x, y, 1.0), by_hand, rtol=1e-5)
    np.testing.assert_allclose(
        crossing_nets.feature_difference(x, y), np.abs(x.mean(0) - y.mean(0)).mean(), rtol=1e-5
    )
    own, mixed, places, of_own, of_mixed = rng.normal(size=(5, 3, 6)).astype("float32")
    found = crossing_nets.smoothness(own, mixed, places, np.concatenate([of_own, of_mixed]))
    expected = ((own - mixed) - (places - of_mixed)) ** 2 + (places - of_own) ** 2
    np.testing.assert_allclose(found, expected.mean(axis=1), rtol=1e-4)


def test_the_autoencoders_loss_by_hand(model, batch):
    loss, latents = model._vae_loss("codes", batch, training=False)
    joints = batch["joints"].numpy() / 50
    origins = joints[:, 1]
    poses = (joints - origins[:, None]).reshape(4, -1)
    mean, log_variance = (value.numpy() for value in model.pose_encoder(poses))
    codes = latents.numpy()[:, :2]
    np.testing.assert_allclose(latents.numpy()[:, 2:], origins, rtol=1e-5)
    assert 0 < np.abs(codes - mean).max() < 0.05 * 5
    squares = 0.5 * ((model.pose_decoder(codes).numpy() - poses) ** 2).sum(axis=1)
    divergence = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(axis=1)
    np.testing.assert_allclose(loss, (squares + divergence)[[0, 2, 3]].mean(), rtol=1e-4)


def test_mixes_are_convex_and_of_known_codes_only(model):
    codes = np.eye(4, 5, dtype="float32")
    known = np.array([True, False, True, True])
    mixes = model._mixes("test", codes, known).numpy()
    np.testing.assert_allclose(mixes.sum(axis=1), 1, rtol=1e-5)
    assert mixes.min() >= 0
    assert (mixes[:, [1, 4]] == 0).all()
    assert ((mixes > 0).sum(axis=1) <= 2).all()  # num_mixed of the tiny config
    np.testing.assert_array_equal(model._mixes("test", codes, np.zeros(4, bool)), 0)


def test_unknown_poses_do_not_matter_but_their_depth_maps_do(model, batch):
    def terms(**changes):
        changed = {**batch, **changes}
        codes = model._codes(changed, training=False)
        fakes = model._rendered(codes, training=False)
        losses = model._terms(changed, codes, fakes, training=False)
        losses["reconstruction_loss"] = model._reconstruction_loss(changed, fakes)
        losses["vae_loss"] = model._vae_loss("codes", changed, training=False)[0]
        return {name: float(value) for name, value in losses.items()}

    before = terms()
    hidden = np.array([0, 1, 0, 0], "float32")
    other_pose = terms(joints=batch["joints"] + 70 * hidden[:, None, None])
    assert other_pose == pytest.approx(before, rel=1e-5)
    other_depth = terms(images=batch["images"] * (1 - hidden)[:, None, None, None])
    changed = {name for name in before if other_depth[name] != pytest.approx(before[name], rel=1e-6)}
    assert changed == {"d_loss", "g_loss"}


# -------------------------------------------------------------------- networks


def normalized(x, weights):
    """What inference-time batch norm makes of x; takes gamma, beta, mean and variance off the list."""
    gamma, beta, mean, variance = (weights.pop(0) for _ in range(4))
    return (x - mean) / np.sqrt(variance + 1e-4) * gamma + beta


def leaky(x):
    return np.where(x > 0, x, 0.2 * x)


def of_random_weights(network, seed):
    """The network's weights after they were drawn anew, the statistics, too; variances are positive."""
    rng = np.random.default_rng(seed)
    drawn = [0.3 * rng.normal(size=w.shape).astype("float32") for w in network.get_weights()]
    names = [variable.path for variable in network.weights]
    weights = [np.abs(w) + 0.1 if "variance" in name else w for w, name in zip(drawn, names)]
    network.set_weights(weights)
    return weights


def test_the_generator_by_hand():
    """tanh, dense, norm, ReLU, then convolution, norm, ReLU; a bias and tanh at the end."""
    config = tiny("crossing_nets").config
    network = crossing_nets.build_generator(config)
    np.testing.assert_allclose(network.get_weights()[-1], 0.8)
    weights = of_random_weights(network, 0)
    latents = np.random.default_rng(1).uniform(-2, 2, (3, 5)).astype("float32")
    x = np.maximum(normalized(np.tanh(latents) @ weights.pop(0), weights), 0).reshape(3, 4, 4, 1)
    x = tf.nn.conv2d_transpose(x, weights.pop(0), (3, 8, 8, 2), 2, "SAME").numpy()
    x = np.maximum(normalized(x, weights), 0)
    x = np.tanh(tf.nn.conv2d_transpose(x, weights.pop(0), (3, 16, 16, 1), 2, "SAME") + weights.pop(0))
    np.testing.assert_allclose(network(latents), x, atol=1e-5)
    assert not weights


def test_the_discriminator_and_its_heads_by_hand():
    """Convolution, norm, leaky ReLU; P's hidden layer has as many units as z has numbers, M's 16."""
    model = tiny("crossing_nets", image_size=32)
    weights = of_random_weights(model.discriminator, 0)
    x = images = np.random.default_rng(1).uniform(-1, 1, (3, 32, 32, 1)).astype("float32")
    maps = []
    for _ in range(3):
        x = leaky(normalized(tf.nn.conv2d(x, weights.pop(0), 2, "SAME").numpy(), weights))
        maps.append(x)
    logits = x.reshape(3, -1) @ weights.pop(0) + weights.pop(0)
    for found, expected in zip(model.discriminator(images), (logits, maps[2], maps[1])):
        np.testing.assert_allclose(found, expected, atol=1e-4)
    for head, units in ((model.posterior, 5), (model.metric, 16)):
        weights = of_random_weights(head, 2)
        x = leaky(normalized(tf.nn.conv2d(maps[1], weights.pop(0), 2, "SAME").numpy(), weights))
        assert weights[0].shape == (4 * 4 * 2, units)
        x = leaky(normalized(x.reshape(3, -1) @ weights.pop(0), weights))
        np.testing.assert_allclose(head(maps[1]), x @ weights.pop(0) + weights.pop(0), atol=1e-4)


def test_the_alignment_is_linear_up_to_its_norm(model):
    weights = model.alignment.get_weights()
    codes = np.random.default_rng(0).normal(0, 3, (4, 5)).astype("float32")
    np.testing.assert_allclose(model.alignment(codes), normalized(codes @ weights.pop(0), weights), atol=1e-5)


def test_epochs_of_the_released_code():
    config = CrossingNetsConfig()
    steps = config.vae_steps, config.depth_steps, config.link_steps
    assert [count / config.steps_per_epoch for count in steps] == [201, 1001, 21]
    assert config.epochs == 201 + 1001 + 101


# -------------------------------------------------------------------- training


def test_each_phase_trains_its_own_networks():
    model = tiny("crossing_nets", depth_steps=1, link_steps=1)
    model.run_eagerly = True
    fields = make_fields(model, 4)
    fields["labelled"][:] = 1
    assert model.phases == (("vae", 0), ("depth", 1), ("link", 2), ("joint", 3))
    expected = {
        "vae": {"pose_encoder", "pose_decoder"},
        "depth": {"generator", "discriminator"},
        "link": {"alignment", "posterior", "metric"},
        "joint": {"generator", "discriminator", "alignment", "posterior", "metric"},
    }
    for phase, _ in model.phases:
        before = {n: [v.numpy() for v in net.trainable_variables] for n, net in model.networks.items()}
        model.set_phase_at(int(model.step.numpy()))
        assert model.phase == phase
        model.train_on_batch(fields)
        moved = {
            name for name, network in model.networks.items()
            if any((v.numpy() != old).any() for v, old in zip(network.trainable_variables, before[name]))
        }  # fmt: skip
        assert moved == expected[phase]


def test_rates_of_the_phases():
    model = tiny("crossing_nets", depth_steps=3, link_steps=2)
    for player, steps, rate in (("generator", 3, 3e-4), ("discriminator", 3, 3e-4), ("heads", 2, 1e-2)):
        schedule = model.player_optimizer(player)._learning_rate
        rates = [float(schedule(step)) for step in range(steps + 1)]
        np.testing.assert_allclose(rates, [rate] * steps + [1e-3], rtol=1e-6)


def test_principal_components_begin_the_autoencoder():
    model = tiny("crossing_nets")
    model.before_first_step(make_dataset(model, 8))
    first = model.pose_encoder.get_layer("hidden").kernel.numpy()
    last = model.pose_decoder.get_layer("poses").kernel.numpy()
    np.testing.assert_allclose(first, last.T, rtol=1e-6)
    np.testing.assert_allclose(first.T @ first, np.eye(4), atol=1e-5)


def test_the_prior_follows_the_codes_that_are_known():
    layer = RunningNormal(rate=1.0)
    layer.build((None, 2))
    codes = np.array([[1, 2], [3, 6], [100, 100]], "float32")
    layer.follow(codes, np.array([True, True, False]))
    noise = np.array([[0, 0], [1, -1]], "float32")
    np.testing.assert_allclose(layer(noise), [[2, 4], [3, 2]], rtol=1e-5)
    layer.follow(codes, np.zeros(3, bool))
    np.testing.assert_allclose(layer(noise), [[2, 4], [3, 2]], rtol=1e-5)


# -------------------------------------------------------------------- crossing over


def test_poses_and_depth_maps_cross_over(model):
    fields = make_fields(model, 3)
    joints = model.estimate_pose(fields["images"])
    assert joints.shape == (3, 3, 3)
    codes = model.posterior(model.discriminator(fields["images"], training=False)[2], training=False).numpy()
    poses = model.pose_decoder(codes[:, :2]).numpy().reshape(3, 3, 3)
    np.testing.assert_allclose(joints, 50 * (poses + codes[:, None, 2:]), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(model.estimate_pose(fields["images"][0])[0], joints[0], rtol=1e-4)
    images = model.render(joints)
    assert images.shape == (3, 16, 16, 1)
    way, pictures = model.interpolate(joints[0], joints[1], 5)
    np.testing.assert_allclose(pictures[0], images[0], atol=1e-5)
    np.testing.assert_allclose(pictures[-1], images[1], atol=1e-5)
    assert way.shape == (5, 3, 3)
    drawn, generated = model.generate_pairs(3, seed=4)
    np.testing.assert_allclose(model.generate(3, seed=4), generated)
    assert drawn.shape == (3, 3, 3)
    with pytest.raises(BatchError, match="joints"):
        model.render(np.zeros((2, 4, 3)))
    with pytest.raises(BatchError, match="0..255"):
        model.estimate_pose(np.full((2, 16, 16, 1), 200.0))


def test_pictures_have_a_row_per_hand(model):
    fields = make_fields(model, 3)
    assert model.held_out_pictures(fields).shape == (3, 128, 384, 3)
    assert model.sample_pictures(8).shape == (2, 128, 1024, 3)
    joints = np.zeros((1, 2, 3))
    joints[0, 1, :2] = 62.5, -62.5  # up and to the right
    picture = skeletons.drawn(np.ones((1, 16, 16, 1)), [(joints, (255, 0, 0))])[0]
    red = np.argwhere((picture[..., 0] > 0) & (picture[..., 1] < 0))
    assert picture[32, 96, 0] == picture[64, 64, 0] == 1
    np.testing.assert_allclose(red.min(axis=0), [31, 63], atol=1)
    np.testing.assert_allclose(red.max(axis=0), [65, 97], atol=1)


def test_impossible_settings_are_refused():
    for settings, message in (
        ({"image_size": 48}, "expected 16, 32, 64, 128 or 256"),
        ({"num_joints": 21}, "must be below num_joints"),
        ({"dense_size": 100}, "multiple of 16"),
    ):
        with pytest.raises(ConfigError, match=message):
            CrossingNetsConfig(**settings)


def test_trained_nets_read_hands():
    """Less than half the error of the mean pose, and depth maps far nearer than another hand's."""
    examples = held_out("crossing_nets.hands", 300)
    found = zoo.get("crossing_nets.hands", weights="pretrained").measure(examples)
    untrained = zoo.get("crossing_nets.hands").measure(examples)
    assert found["joint_error"] < 0.5 * min(found["joint_error_baseline"], untrained["joint_error"])
    assert found["render_error"] < 0.7 * min(found["render_error_baseline"], untrained["render_error"])
    assert found["pose_code_error"] < found["joint_error"]


# -------------------------------------------------------------------- data


def load(name, **options):
    options = {"batch_size": 10, "image_size": 32, **options}
    return zoo.load_dataset(name, view="hands", channels=1, shuffle=False, **options)


def test_a_straight_hand_keeps_its_bones():
    straight, bent = (hands.hand_joints(np.full((1, 5), part), np.zeros((1, 5)))[0] for part in (0.0, 1.0))
    lengths = [[np.linalg.norm(joints[a] - joints[b]) for a, b in hands.BONES] for joints in (straight, bent)]
    np.testing.assert_allclose(lengths[0], lengths[1])
    assert (straight[4::4][:4, 1] < -120).all()  # tips are up
    assert (bent[4::4][:4, 2] < -5).all()  # and in front of the palm once they are bent
    turned = hands.rotations(np.array([[0.3, -0.5, 0.2]]))[0]
    np.testing.assert_allclose(turned @ turned.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(turned), 1)


def test_rendered_spheres_lie_where_they_should():
    spheres = np.array([[[50.0, -25.0, 10.0], [50.0, -25.0, 90.0]]])
    depth = hands.render(spheres, np.array([20.0, 20.0]), (100, 100))[0]
    seen = np.isfinite(depth)
    np.testing.assert_allclose(np.argwhere(seen).mean(axis=0), [39.5, 69.5], atol=0.5)
    assert seen.sum() * 2.5**2 == pytest.approx(np.pi * 20**2, rel=0.05)
    assert depth.min() == pytest.approx(-10, abs=0.2)


def test_joints_of_rendered_hands_lie_behind_their_surface():
    batch = next(iter(load("hands", image_size=64, num_examples=10)))
    images, joints = batch["images"].numpy()[..., 0], batch["joints"].numpy()
    assert batch["labelled"].numpy().tolist() == [1] * 10
    columns, rows = np.floor((joints[..., :2] / 250 + 0.5) * 64).astype(int).transpose(2, 0, 1)
    surface = 125 * images[np.arange(10)[:, None], rows, columns]
    assert (joints[..., 2] - surface > -3).mean() > 0.99  # noise of 2 mm, and a pixel's width
    assert (images == 1).mean() > 0.6
    few = next(iter(load("hands", num_examples=10, num_labelled=3)))
    assert few["labelled"].numpy().tolist() == [1] * 3 + [0] * 7
    assert np.abs(few["joints"].numpy()[3:]).max() == 0
    with pytest.raises(DatasetError, match="splits"):
        load("hands", split="val")


CAMERA = np.array([240.0, 240.0, 79.5, 59.5])


def frames_of(joints, center):
    """A camera's frames (num, 120, 160) of a plate at a place, and joints around it in its coordinates."""
    depth = np.zeros((len(joints), 120, 160), np.float32)
    for frame in depth:
        place = CAMERA[:2] * center[:2] / center[2] + CAMERA[2:]
        left, top = np.rint(place - 12).astype(int)
        frame[top : top + 25, left : left + 25] = center[2]
    return depth, joints + center


def test_the_users_frames_are_cropped(tmp_path):
    rng, center = np.random.default_rng(0), np.array([60.0, -40.0, 500.0])
    joints = rng.uniform(-40, 40, (20, 5, 3))
    depth, seen = frames_of(joints, center)
    depth[:, :3, :3] = 2000.0  # something far behind
    seen[3] = np.nan
    centers = np.broadcast_to(center, (20, 3))
    np.savez(tmp_path / "hands.npz", depth=depth, joints=seen, camera=CAMERA, centers=centers)
    batch = next(iter(load(f"hand_depth:{tmp_path / 'hands.npz'}", batch_size=18)))
    assert batch["labelled"].numpy().tolist() == [1, 1, 1, 0, *[1] * 14]
    np.testing.assert_allclose(batch["joints"][0], joints[0], atol=1e-3)
    image = batch["images"].numpy()[0, ..., 0]
    plate = np.argwhere(image < 1)
    np.testing.assert_allclose(plate.mean(axis=0), [15.5, 15.5], atol=0.6)
    assert image.min() == pytest.approx(0, abs=0.01)
    assert len(plate) * (250 / 32) ** 2 == pytest.approx((25 * 500 / 240) ** 2, rel=0.2)
    found = hand_depth.center_of_mass(depth[0, 3:], CAMERA - [0, 0, 0, 3])
    np.testing.assert_allclose(found, center, atol=2.5)


def test_folders_and_crops(tmp_path):
    crops = np.full((6, 16, 16), 255, np.uint8)
    crops[:, 4:8, 8:12] = 100
    joints = np.random.default_rng(0).uniform(-50, 50, (6, 2, 3))
    for name in ("train_1", "train_2", "test"):
        np.savez(tmp_path / f"{name}.npz", crops=crops, joints=joints)
    batch = next(iter(load(f"hand_depth:{tmp_path}", batch_size=12)))
    np.testing.assert_allclose(batch["joints"], np.concatenate([joints, joints]), rtol=1e-5)
    np.testing.assert_array_equal(np.argwhere(batch["images"][0, ..., 0] < 1).min(axis=0), [8, 16])
    assert next(iter(load(f"hand_depth:{tmp_path}", split="test", batch_size=6)))["images"].shape[0] == 6


@pytest.mark.parametrize("changes, message", [
    ({"crops": None}, "expected joints and crops, or joints, depth and camera"),
    ({"joints": np.ones((6, 6))}, "joints \\(num, num_joints, 3\\)"),
    ({"crops": np.zeros((6, 16, 16))}, "crops must be uint8"),
    ({"joints": np.random.default_rng(0).uniform(-0.05, 0.05, (6, 2, 3))}, "in metres"),
    ({"joints": np.random.default_rng(0).uniform(-50, 50, (6, 2, 3)) + 700}, "700 mm|7\\d\\d mm"),
    ({"crops": None, "depth": np.zeros((6, 9, 9))}, "camera = \\[fx, fy, cx, cy\\]"),
    ({"crops": None, "depth": np.zeros((6, 9, 9)), "camera": CAMERA}, "frame 0: a depth map is empty"),
])  # fmt: skip
def test_malformed_archives(tmp_path, changes, message):
    arrays = {"crops": np.zeros((6, 16, 16), np.uint8), "joints": np.zeros((6, 2, 3)), **changes}
    np.savez(tmp_path / "hands.npz", **{name: a for name, a in arrays.items() if a is not None})
    with pytest.raises(DatasetError, match=message):
        load(f"hand_depth:{tmp_path / 'hands.npz'}")


def test_missing_files(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(DatasetError, match="no file called train"):
        load(f"hand_depth:{tmp_path}")
    (tmp_path / "train.npz").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match="cannot be read"):
        load(f"hand_depth:{tmp_path}")
    with pytest.raises(DatasetError, match="there is no folder"):
        load(f"hand_depth:{tmp_path / 'missing'}")


def test_listed_for_poses():
    assert "crossing_nets" in zoo.list_models("pose")
    configs = {name: zoo.zoo.resolve(f"crossing_nets.{name}", {})[1] for name in ("nyu", "msra", "icvl")}
    assert configs["nyu"] == CrossingNetsConfig()
    assert [configs[name].num_joints for name in ("nyu", "msra", "icvl")] == [36, 21, 16]
