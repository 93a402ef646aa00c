"""What the PPGN paper claims: the chain's update, its prior, exchangeable conditions, inpainting."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import difference, held_out, make_dataset, make_fields, snapshot, tiny

import tf_gan_zoo as zoo
from tf_gan_zoo.batch_spec import BatchError
from tf_gan_zoo.chains import Chain, Hole, Path
from tf_gan_zoo.config import ConfigError
from tf_gan_zoo.metrics import tasks
from tf_gan_zoo.metrics.classifier import FeatureWeightsError
from tf_gan_zoo.models.ppgn import PPGN, PPGNConfig, denoising_loss, half_square
from tf_gan_zoo.networks import encoders

ALL_VARIANTS = ("noiseless", "joint", "ppgn_h", "dgn_am", "ppgn_x")
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True, scope="module")
def _without_tracing():
    """A few steps of tiny networks are done before TensorFlow has traced them; the contract suite traces."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


# -------------------------------------------------------------------- the chain on a linear toy

#: G(h) = h A as a 2x3x1 picture, R(h) = h W, and log p(c | x) = -|x - t_c|^2 / 2 up to a constant.
A, W = RNG.normal(size=(4, 6)).astype("float32"), RNG.normal(size=(4, 4)).astype("float32")
TARGETS = RNG.normal(size=(3, 6)).astype("float32")


def toy(normalized=False, bounds=(-100.0, 100.0)):
    def decode(h):
        return tf.reshape(h @ A, (-1, 2, 3, 1))

    def look(h, images):
        squares = tf.square(tf.reshape(images, (-1, 1, 6)) - TARGETS)
        return h @ W, -0.5 * tf.reduce_sum(squares, axis=2)

    return Chain(decode, look, bounds, normalized)


def test_the_direction_is_equation_11():
    h, noise = RNG.normal(size=(2, 5, 4)).astype("float32")
    labels, epsilons = np.array([0, 1, 2, 1, 0]), np.array([0.3, 0.7, 0.2, 0.0], "float32")
    ours = toy().direction(tf.constant(h), tf.constant(labels), tf.constant(epsilons), tf.constant(noise))
    gradient = (TARGETS[labels] - h @ A) @ A.T
    np.testing.assert_allclose(ours, 0.3 * (h @ W - h) + 0.7 * gradient + 0.2 * noise, rtol=1e-4, atol=1e-4)


def test_inpainting_adds_the_known_pixels_and_hides_them_from_the_condition():
    h = RNG.normal(size=(5, 4)).astype("float32")
    known, mask = RNG.normal(size=(5, 2, 3, 1)).astype("float32"), np.zeros((5, 2, 3, 1), "float32")
    mask[:, 1] = 1.0
    labels, epsilons = np.arange(5) % 3, np.array([0.0, 0.7, 0.0, 0.4], "float32")
    hole = Hole(tf.constant(known), tf.constant(mask))
    ours = toy().direction(tf.constant(h), tf.constant(labels), tf.constant(epsilons), tf.zeros((5, 4)), hole)
    flat_mask, flat_known = mask.reshape(5, 6), known.reshape(5, 6)
    condition = ((TARGETS[labels] - h @ A) * flat_mask) @ A.T
    context = ((flat_known - h @ A) * (1 - flat_mask)) @ A.T
    np.testing.assert_allclose(ours, 0.7 * condition + 0.4 * context, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("normalized", [False, True])
def test_a_step_has_the_asked_for_length_and_stays_in_bounds(normalized):
    h, direction = RNG.uniform(1, 2, (2, 5, 4)).astype("float32")
    moved = toy(normalized).step(tf.constant(h), tf.constant(direction), 0.25).numpy() - h
    lengths = np.abs(direction).mean(1, keepdims=True)
    np.testing.assert_allclose(moved, direction * (0.25 / lengths if normalized else 1), rtol=1e-4, atol=1e-6)
    bounded = toy(normalized, bounds=(0.0, 1.5)).step(tf.constant(h), tf.constant(direction), 0.25)
    assert bounded.numpy().max() <= 1.5
    still = toy(normalized).step(tf.constant(h), tf.zeros((5, 4)), 0.25)
    np.testing.assert_array_equal(still, h)


def test_a_fixed_point_of_the_prior_stays_without_condition_and_noise():
    matrix = np.diag([1.0, 1.0, 1.0, 0.5]).astype("float32")  # R(h) = h where the last number is 0

    def look(h, images):
        return h @ matrix, tf.zeros((tf.shape(h)[0], 2))

    chain = Chain(toy().decode, look, (-10.0, 10.0), normalized=True)
    path = Path(tf.constant(6), tf.constant([1.0, 0.0, 0.0, 0.0]), tf.constant([0.1, 0.1]))
    fixed, other = np.array([[1.0, -2.0, 3.0, 0.0]], "float32"), np.array([[0.0, 0.0, 0.0, 4.0]], "float32")
    ends = chain.walk(tf.constant(np.concatenate([fixed, other])), tf.zeros(2, tf.int32), seed_of(0), path)
    np.testing.assert_array_equal(ends[:1], fixed)
    assert abs(ends[1, 3]) < 4.0  # R(h) - h pulls it in
    noisy = path._replace(epsilons=tf.constant([0.0, 0.0, 1.0, 0.0]))
    assert np.abs(chain.walk(tf.constant(fixed), tf.zeros(1, tf.int32), seed_of(0), noisy) - fixed).max() > 0


def seed_of(seed):
    return tf.constant([seed, 0], tf.int64)


def test_an_autoencoder_that_denoises_points_up_the_density():
    """Of N(mu, s^2) and noise sigma the best R has R(h) - h = sigma^2 (mu - h) / (s^2 + sigma^2)."""
    mean, deviation, sigma = np.array([1.0, -2.0]), np.array([1.0, 0.5]), 0.3
    clean = (mean + deviation * RNG.normal(size=(4000, 2))).astype("float32")
    noisy = clean + sigma * RNG.normal(size=clean.shape).astype("float32")
    linear = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    optimizer = keras.optimizers.SGD(0.2, momentum=0.8)
    for _ in range(60):
        with tf.GradientTape() as tape:
            loss = denoising_loss(linear, tf.constant(clean), tf.constant(noisy), training=True)
        optimizer.apply(tape.gradient(loss, linear.trainable_variables), linear.trainable_variables)
    h = RNG.uniform(-3, 3, (50, 2)).astype("float32")
    score = (mean - h) / (deviation**2 + sigma**2)  # of the noisy examples
    np.testing.assert_allclose(linear(h) - h, sigma**2 * score, atol=0.08)


# -------------------------------------------------------------------- the model


def brightness(images):
    """Condition 0 wants dark pictures, condition 1 bright ones."""
    mean = tf.reduce_mean(images, axis=[1, 2, 3])
    return tf.nn.log_softmax(tf.stack([-mean, mean], axis=1) * 10.0)


@pytest.fixture(scope="module")
def model():
    return tiny("ppgn", steps=4, inpaint_steps=2)


def test_another_condition_network_makes_other_pictures_with_the_same_generator(model):
    before = snapshot(model)
    start = model.generate(6, seed=1, steps=0).mean(axis=(1, 2, 3))
    dark, bright = (
        model.generate(6, seed=1, labels=k, condition=brightness).mean(axis=(1, 2, 3)) for k in (0, 1)
    )
    assert (dark < start).all()
    assert (start < bright).all()
    assert all((a == b).all() for a, b in zip(before, snapshot(model)))
    network = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(5)])
    assert model.generate(2, labels=4, condition=network).shape == (2, 8, 8, 1)
    with pytest.raises(ValueError, match="integers from 0 to 4"):
        model.generate(2, labels=5, condition=network)


def test_the_chain_raises_the_probability_of_the_class(model):
    labels = np.arange(60) % 3
    shares = [
        np.exp(model.classify(model.generate(60, labels=labels, steps=steps)))[np.arange(60), labels].mean()
        for steps in (0, 1, 4)
    ]
    assert shares[0] < shares[1] < shares[2]


def test_samples_do_not_depend_on_how_many_there_are_and_steps_go_on(model):
    settings = {"seed": 3, "labels": 1, "epsilons": (0.1, 1.0, 0.1)}
    many, few = model.generate(70, **settings), model.generate(4, **settings)
    np.testing.assert_allclose(few, many[:4], atol=1e-5)
    settings["epsilons"] = (0.1, 1.0, 0.0)  # the noise of a chain begins anew with it
    start = model.sample_inputs(4, steps=2, **settings)
    whole = model.generate(4, **settings)
    np.testing.assert_allclose(model.generate(4, steps=2, start=start, **settings), whole, atol=1e-5)


def test_inpainting_keeps_known_pixels_and_fills_in_the_others(model):
    images, mask = make_fields(model, 5)["images"], np.zeros((8, 8))
    mask[2:6, 2:6] = 1
    filled = model.inpaint(images, mask, epsilons=(1e-5, 1.0, 0.0, 1.0))
    np.testing.assert_array_equal(filled[:, mask == 0], images[:, mask == 0])
    hidden = np.where(mask[..., None] == 1, np.float32(0.9), images)
    np.testing.assert_array_equal(model.inpaint(hidden, mask), model.inpaint(images, mask))
    bright, dark = (model.inpaint(images, mask, labels=k, condition=brightness) for k in (1, 0))
    assert (bright - dark)[:, mask == 1].mean() > 0
    one = model.inpaint(images[0], mask)
    np.testing.assert_allclose(one, model.inpaint(images, mask)[:1], atol=1e-5)


def test_known_pixels_draw_the_chain_to_them(model):
    hole = Hole(tf.constant(make_fields(model, 4)["images"]), tf.zeros((4, 8, 8, 1)))
    start = tf.abs(tf.random.stateless_normal((4, 8), (0, 1)))
    path = Path(tf.constant(8), tf.constant([0.0, 0.0, 0.0, 1.0]), tf.constant([0.1, 0.0]))
    end = model._walk(start, np.zeros(4), 0, path, None, hole)
    assert (hole.error(model.generator(end)) < hole.error(model.generator(start))).numpy().all()


@pytest.mark.parametrize("variant", [v for v in ALL_VARIANTS if v != "noiseless"])
def test_every_variant_trains_and_samples(variant):
    model = tiny("ppgn", variant=variant, encoder_steps=0)
    added = {"ppgn_h": {"discriminator", "prior"}, "ppgn_x": {"prior"}}.get(variant, {"discriminator"})
    assert set(model.networks) == {"generator", "encoder", *added}
    with pytest.warns(UserWarning, match="keeps the weights it has"):
        history = model.fit(make_dataset(model, 1), verbose=0).history
    assert all(np.isfinite(v).all() for v in history.values())
    assert (history["prior_loss"][0] > 0) == ("prior" in added)
    assert (history["g_loss"][0] > 0) == (variant != "ppgn_x")
    assert model.generate(2, labels=[0, 2]).shape == (2, 8, 8, 1)
    assert model.inpaint(make_fields(model, 2)["images"], np.ones((8, 8))).shape == (2, 8, 8, 1)


def test_the_priors_of_the_variants():
    h = tf.constant(RNG.uniform(0, 1, (3, 8)), tf.float32)
    model, penalty = tiny("ppgn"), tiny("ppgn", variant="dgn_am")
    images = model.generator(h)
    reconstruction, scores = model.chain().look(h, images)
    np.testing.assert_allclose(reconstruction, model.encoder(images)[1], atol=1e-6)
    np.testing.assert_allclose(np.exp(scores).sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(penalty.chain().look(h, penalty.generator(h))[0], 0 * h)
    learned = tiny("ppgn", variant="ppgn_h")
    np.testing.assert_allclose(learned.chain().look(h, images)[0], learned.prior(h), atol=1e-6)


def test_losses_are_the_papers():
    model = tiny("ppgn", image_weight=2.0, hidden_weight=3.0, feature_weight=5.0, adversarial_weight=7.0)
    real = tf.constant(make_fields(model, 4)["images"])
    encoded, fake = model.encoder(real), real * 0.5
    distances, _ = model._distances(real, encoded, fake)
    expected = {"image_loss": (real, fake)}
    outputs = enumerate(("hidden", "feature"))
    expected |= {f"{name}_loss": (encoded[i], model.encoder(fake)[i]) for i, name in outputs}
    for name, (a, b) in expected.items():
        value = 0.5 * np.square(np.asarray(a) - np.asarray(b)).reshape(4, -1).sum(1).mean()
        assert float(distances[name]) == pytest.approx(value, rel=1e-5)
        assert float(half_square(a, b)) == pytest.approx(value, rel=1e-5)
    three = 2 * distances["image_loss"] + 3 * distances["hidden_loss"] + 7 * 0.5
    assert float(model._generator_loss(distances, tf.constant(0.5))) == pytest.approx(float(three), rel=1e-5)
    four = tiny("ppgn", variant="joint", **{k: getattr(model.config, k) for k in (
        "image_weight", "hidden_weight", "feature_weight", "adversarial_weight")})  # fmt: skip
    value = float(four._generator_loss(distances, tf.constant(0.5)))
    assert value == pytest.approx(float(three + 5 * distances["feature_loss"]), rel=1e-5)


@pytest.mark.parametrize("limits, moved", [
    ({}, {"generator", "discriminator"}),
    ({"min_loss_ratio": 50.0, "max_loss_ratio": 100.0}, {"generator"}),
    ({"max_loss_ratio": 0.01}, {"discriminator"}),
])  # fmt: skip
def test_the_stronger_player_pauses(limits, moved):
    model = tiny("ppgn", **limits)
    model.step.assign(1)
    model.set_phase_at(1)
    players = ("generator", "discriminator")
    before = {name: [v.numpy() for v in model.player_variables(name)] for name in players}
    model.fit(make_dataset(model, 1), verbose=0)
    after = {name: [v.numpy() for v in model.player_variables(name)] for name in players}
    assert {n for n in players if any((a != b).any() for a, b in zip(before[n], after[n]))} == moved


def test_the_encoder_learns_first_and_is_frozen_then():
    model = tiny("ppgn", encoder_steps=2)
    assert model.view == "labelled"
    model.fit(make_dataset(model, 2), verbose=0)
    trained, fresh = model.encoder.get_weights(), tiny("ppgn", encoder_steps=2)
    assert difference(trained, fresh.encoder.get_weights()) > 0
    assert difference(model.generator.get_weights(), fresh.generator.get_weights()) == 0
    model.fit(make_dataset(model, 1), verbose=0)
    assert model.phase == "generator"
    assert difference(trained, model.encoder.get_weights()) == 0


# -------------------------------------------------------------------- paper size


def test_the_generator_for_fc6_has_the_released_layers():
    model = PPGN(PPGNConfig(encoder="small", feature_size=64, width=4))
    kinds = (keras.layers.Dense, keras.layers.Conv2DTranspose)
    shapes = [x.output.shape[1:] for x in model.generator.layers if isinstance(x, kinds)]
    maps = [(8, 256), (8, 512), (16, 256), (16, 256), (32, 128), (32, 128), (64, 64), (128, 32), (256, 3)]
    assert shapes == [(64,), (64,), (4096,)] + [(side, side, filters) for side, filters in maps]
    slopes = {x.negative_slope for x in model.generator.layers if isinstance(x, keras.layers.LeakyReLU)}
    assert slopes == {0.3}
    assert model.generator.layers[-1].activation is keras.activations.linear
    assert model.view == "images"


def test_caffenet_takes_caffes_own_arrays(tmp_path):
    encoder = encoders.build_encoder("caffenet", (256, 256, 3), (227, 227), 1000, 4096)
    assert sum(int(np.prod(v.shape)) for v in encoder.variables) == 60_965_224
    assert [tuple(x.shape[1:]) for x in encoder.outputs] == [(6, 6, 256), (4096,), (1000,)]
    arrays = {}
    for name, layer in (("fc6", "features"), ("fc7", "fc7"), ("fc8", "logits")):
        kernel, bias = encoder.get_layer(layer).weights
        arrays |= {f"{name}/0": np.zeros(kernel.shape[::-1], "float32"), f"{name}/1": np.zeros(bias.shape)}
    for name, shape in (("conv1", (96, 3, 11, 11)), ("conv2", (256, 48, 5, 5)), ("conv3", (384, 256, 3, 3)),
                        ("conv4", (384, 192, 3, 3)), ("conv5", (256, 192, 3, 3))):  # fmt: skip
        arrays |= {f"{name}/0": np.zeros(shape, "float32"), f"{name}/1": np.zeros(shape[0], "float32")}
    arrays["conv2/0"][200, 5, 1, 2] = 7.0  # of the second group
    arrays["fc6/0"][9, 3 * 36 + 4 * 6 + 5] = 1.0  # unit 9 reads map 3 at (4, 5)
    np.savez(tmp_path / "caffenet.npz", **arrays)
    encoders.load_encoder_weights(encoder, "caffenet", str(tmp_path / "caffenet.npz"))
    assert encoder.get_layer("conv2_b").get_weights()[0][1, 2, 5, 200 - 128] == 7.0
    maps = RNG.uniform(size=(1, 6, 6, 256)).astype("float32")
    upper = keras.Model(encoder.outputs[0], encoder.outputs[1])
    assert upper(maps)[0, 9] == maps[0, 4, 5, 3]


@pytest.mark.slow  # 138 million random numbers
def test_vgg16_has_keras_layers():
    encoder = encoders.build_encoder("vgg16", (256, 256, 1), (224, 224), 1000, 4096)
    own = {x.name: [tuple(w.shape) for w in x.weights] for x in encoder.layers if x.weights}
    assert sum(int(np.prod(shape)) for shapes in own.values() for shape in shapes) == 138_357_544
    assert own["block5_conv3"] == [(3, 3, 512, 512), (512,)]
    assert own["features"] == [(25088, 4096), (4096,)]


# -------------------------------------------------------------------- errors


@pytest.mark.parametrize("overrides, message", [
    ({"image_size": 100, "crop_size": None, "encoder": "small"}, "takes multiples of 64, got 100"),
    ({"image_size": 192}, "larger than image_size"),
    ({"crop_size": 224}, "'caffenet' looks at 227x227 pixels and gives 4096"),
    ({"feature_size": 100}, "got crop_size=227, feature_size=100"),
])  # fmt: skip
def test_impossible_configs_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        PPGNConfig(**overrides)


@pytest.mark.parametrize("arguments, message", [
    ({"labels": 3}, "integers from 0 to 2"),
    ({"steps": -1}, "steps: expected an integer from 0"),
    ({"epsilons": (1.0, 1.0)}, "epsilons: expected 3 numbers"),
    ({"start": np.zeros((2, 7))}, "start: expected finite features"),
    ({"condition": lambda images: tf.reduce_mean(images)}, "condition: expected images"),
])  # fmt: skip
def test_bad_arguments_of_the_chain(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        model.generate(2, **arguments)


@pytest.mark.parametrize("mask", [np.ones((4, 4)), np.full((8, 8), 0.5), np.ones((3, 8, 8))])
def test_bad_masks(model, mask):
    with pytest.raises(ValueError, match="mask: expected 1"):
        model.inpaint(make_fields(model, 2)["images"], mask)


def test_bad_pictures_and_missing_labels(model):
    with pytest.raises(BatchError, match="expected float32"):
        model.inpaint(np.zeros((1, 9, 9, 1)), np.ones((9, 9)))
    with pytest.raises(BatchError, match="has no 'labels'"):
        model.fit(make_fields(model, 4)["images"], verbose=0)


@pytest.mark.parametrize("weights, message", [
    ("nowhere.h5", "there is no file 'nowhere.h5'"),
    ("imagenet", "'imagenet' is for vgg16, not for 'small'"),
])  # fmt: skip
def test_encoder_weights_that_cannot_be_had(weights, message):
    model = tiny("ppgn", encoder_steps=0, encoder_weights=weights)
    with pytest.raises(FeatureWeightsError, match=message):
        model.fit(make_fields(model, 4), verbose=0)


def test_encoder_weights_from_a_file_survive_saving(tmp_path):
    trained = tiny("ppgn", seed=3)
    path = tmp_path / "encoder.weights.h5"
    trained.encoder.save_weights(path)
    model = tiny("ppgn", encoder_steps=0, encoder_weights=str(path))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="Even though the .*run_functions_eagerly")  # of tf.data
        model.fit(make_dataset(model, 1), verbose=0)
    model.save(tmp_path / "model.keras")
    path.unlink()
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert all((a == b).all() for a, b in zip(loaded.encoder.get_weights(), trained.encoder.get_weights()))
    np.testing.assert_array_equal(loaded.generate(2, seed=1), model.generate(2, seed=1))


# -------------------------------------------------------------------- trained weights


def test_trained_samples_are_of_their_class_by_a_judge_the_chain_has_not_seen():
    tf.config.run_functions_eagerly(False)  # a hundred samples of full size are worth the tracing
    examples = held_out("ppgn.fashion_mnist", 100)
    measured = zoo.get("ppgn.fashion_mnist", weights="pretrained").measure(examples)
    assert measured["class_accuracy"] > 0.8 > 0.4 > measured["class_accuracy_baseline"]
    assert measured["inpainting_l1"] < 0.6 * measured["inpainting_l1_baseline"]
    untrained = zoo.get("ppgn.fashion_mnist")
    pictures = untrained.generate(100, labels=examples["labels"])
    nearest, _ = tasks.nearest_neighbours(pictures, examples["images"])
    by_chance = (examples["labels"][nearest] == examples["labels"]).mean()
    assert measured["neighbour_accuracy"] > by_chance + 0.3
