"""What every registered model must do, present and future; a new model is tested by being registered."""

import importlib
import itertools
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from conftest import difference, make_dataset, make_fields, snapshot, tiny

import tf_gan_zoo as zoo
from tf_gan_zoo import player_optimizers

PUBLIC = zoo.list_models()
#: The skeleton for new models keeps the contract, too.
MODELS = [*PUBLIC, importlib.import_module("tf_gan_zoo.models._template").Template.zoo_name]

#: Trainable weights at paper size, from the papers' tables (the docstrings say which variant).
PAPER_COUNTS = {
    "lapgan": {
        "generator_8": 1_792_992, "discriminator_8": 477_001,
        "generator_16": 218_179, "discriminator_16": 108_353,
        "generator_32": 218_179, "discriminator_32": 116_545,
    },
    "fgan": {"generator": 2_508_784, "discriminator": 246_481},
    "began": {"generator": 563_395, "discriminator": 4_011_651},
    "gan": {"generator": 2_503_984, "discriminator": 1_231_441},
    "cgan": {"generator": 2_413_984, "discriminator": 1_224_351},
    "lsgan": {"generator": 15_591_427, "discriminator": 4_333_441},
    "dcgan": {"generator": 18_885_760, "discriminator": 17_232_768},
    "wgan": {"generator": 3_576_704, "discriminator": 2_765_568},
    "wgan_gp": {"generator": 1_204_483, "discriminator": 1_053_825},
    "seqgan": {"generator": 333_320, "discriminator": 7_045_402, "pretrained": 0},
    "caae": {
        "encoder": 18_234_034, "generator": 18_473_635,
        "discriminator": 8_669_137, "latent_discriminator": 6_001,
    },
    "pose_guided_pg2": {
        "coarse_generator": 70_795_075, "refiner": 6_058_883, "discriminator": 4_324_737,
    },
    "dr_gan": {"encoder": 2_864_064, "decoder": 7_240_707, "discriminator": 2_931_474},
    "crossing_nets": {
        "pose_encoder": 6_000, "pose_decoder": 5_268, "prior": 0, "alignment": 575,
        "generator": 161_665, "discriminator": 149_441,
        # Three convolutions (36,864 + 64 each), then 512 -> 23 in P or 512 in M, normalized, -> 23.
        "posterior": 123_158, "metric": 385_751,
    },
    "stackgan": {
        "generator_one": 14_264_192, "discriminator_one": 4_029_824,
        "generator_two": 26_290_080, "discriminator_two": 48_603_520, "text_encoder": 1_814_144,
    },
    "gan_cls": {
        "generator": 18_905_472, "discriminator": 4_030_080,
        "text_encoder": 1_814_144, "style_encoder": 4_380_928,
    },
    "adversarial_imposters": {"discriminator": 14_715_201, "detector": 20_423_224, "selector": 0},
    "mvd_3d": {"encoder": 17_655_564, "generator": 25_420_520},
    "midinet": {"generator": 530_625, "discriminator": 312_703},
    "acgan": {"generator": 12_737_859, "discriminator": 3_016_555},
    "bingan": {"generator": 4_933_382, "discriminator": 1_411_140},
    "bre_gan": {"generator": 5_130_819, "discriminator": 4_316_545},
    "improved_gan": {"generator": 4_933_382, "discriminator": 1_406_804},
    "progan": {"generator": 23_079_115, "discriminator": 23_087_249},
    "infogan": {"generator": 6_652_481, "discriminator": 6_559_169, "recognition": 133_262},
    "pix2pix": {"generator": 54_414_019, "discriminator": 2_768_705},
    "pixeldtgan": {
        "converter": 36_530_304, "discriminator": 17_232_768, "domain_discriminator": 17_242_368,
    },
    "cyclegan": {
        "generator_ab": 11_378_179, "generator_ba": 11_378_179,
        "discriminator_a": 2_764_737, "discriminator_b": 2_764_737,
    },
    "discogan": {
        "generator_ab": 5_513_856, "generator_ba": 5_513_856,
        "discriminator_a": 2_765_568, "discriminator_b": 2_765_568,
    },
    "biggan": {"generator": 70_433_988, "discriminator": 87_982_370},
    "simgan": {"refiner": 296_129, "discriminator": 75_906},
    "perceptual_gan_small_objects": {
        "backbone": 6_528_640, "generator": 28_683_008, "adversarial": 79_697_921, "perception": 79_932_646,
    },
    "sagan": {"generator": 42_017_412, "discriminator": 39_448_258},
    "sngan": {"generator": 4_276_739, "discriminator": 1_053_824},
    "enhancenet": {"generator": 852_867, "discriminator": 13_102_881},
    "srgan": {"generator": 1_550_659, "discriminator": 23_565_505},
    "ppgn": {"generator": 56_097_891, "discriminator": 6_129_473, "encoder": 0},
    "bigan": {"generator": 1_902_592, "encoder": 1_902_592, "discriminator": 1_903_616},
    "ali": {"generator": 981_152, "encoder": 3_118_496, "discriminator": 2_611_009},
    "vae": {"encoder": 412_540, "generator": 403_284},
    "vae_gan": {"encoder": 35_112_768, "generator": 4_693_155, "discriminator": 10_953_857},
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLIC)
def test_parameter_counts_equal_the_papers(name):
    assert dict(zoo.info(name).networks) == PAPER_COUNTS[name]
    assert list(zoo.info(name).networks) == list(PAPER_COUNTS[name])


def first_numbers(networks, count=8):
    """The first numbers of each random weight, shifted and scaled alike, by network, place and name."""
    starts = {}
    for name, network in networks.items():
        for place, variable in enumerate(network.weights):
            start = np.asarray(variable, "float64").ravel()[:count]
            if len(np.unique(start)) > 5:  # constants are no random numbers, and few numbers look alike
                starts[f"{name}[{place}] {variable.path}"] = start
    return starts


def alike(a, b):
    """Whether one random stream, shifted and scaled, begins both."""
    a, b = (x[: min(len(a), len(b))] for x in (a, b))
    return np.allclose((a - a.mean()) / a.std(), (b - b.mean()) / b.std(), atol=1e-3)


def twins(networks):
    """Pairs of weights that begin with the same random numbers, and of layers that draw with one seed."""
    starts = first_numbers(networks).items()
    pairs = [(a, b) for (a, x), (b, y) in itertools.combinations(starts, 2) if alike(x, y)]
    layers = [layer for network in networks.values() for layer in network._flatten_layers()]
    seeds = [
        (f"{layer.path} {kind}", vars(layer)[kind].seed)
        for layer in dict.fromkeys(layers)
        for kind in vars(layer)
        if hasattr(vars(layer)[kind], "seed") and isinstance(vars(layer)[kind], keras.Initializer)
    ]
    return pairs + [(a, b) for (a, x), (b, y) in itertools.combinations(seeds, 2) if x == y]


@pytest.mark.parametrize("name", MODELS)
def test_no_two_weights_of_a_model_begin_with_the_same_numbers(name):
    model, other = tiny(name, seed=1), tiny(name, seed=2)
    assert twins(model.networks) == []
    starts, others = first_numbers(model.networks), first_numbers(other.networks)
    assert [a for a, b in zip(starts, others) if alike(starts[a], others[b])] == []


def test_weights_that_begin_alike_are_found():
    shared = keras.initializers.RandomNormal()
    scaled = keras.initializers.RandomNormal(1.0, 3.0, seed=shared.seed)
    kinds = (shared, shared, scaled, keras.initializers.RandomNormal(seed=shared.seed + 1))
    dense = [keras.layers.Dense(4 + k, kernel_initializer=kind) for k, kind in enumerate(kinds)]
    network = keras.Sequential([keras.Input((6,)), *dense])
    assert len(twins({"network": network})) == 2 * 3  # three layers pairwise, by numbers and by seed


@pytest.mark.parametrize("name", MODELS)
def test_fit_takes_dicts_tuples_tensors_and_arrays(name):
    model = tiny(name, schedule_steps=9)
    required = [field for field in model.batch_spec.values() if not field.optional]
    others = [tuple, *(["tensor"] if len(required) == 1 else [])]
    for form in others:
        fit_eagerly(model, make_dataset(model, steps=2, form=form))
    model.fit(make_fields(model, 4 * model.batches_per_step), batch_size=4, verbose=0)
    assert int(model.step.numpy()) == 2 * len(others) + 1
    model.run_eagerly = False  # once as a graph, which takes most models seconds to trace
    model.make_train_function(force=True)
    history = model.fit(make_dataset(model, steps=2), verbose=0).history
    assert set(model.log_names) <= set(history)
    assert all(np.isfinite(values).all() for values in history.values())
    assert int(model.step.numpy()) == 2 * len(others) + 3


def check_epsilons(model):
    """Adam has the epsilon of its paper, Torch, TensorFlow 1, Chainer and Lasagne, a tenth of Keras's.

    A model whose code has another says so in its config.
    """
    made = [model.make_optimizer(player) for player in model.players]
    epsilons = {optimizer.epsilon for optimizer in made if isinstance(optimizer, keras.optimizers.Adam)}
    assert epsilons <= {getattr(model.config, "adam_epsilon", 1e-8)}


@pytest.mark.parametrize("name", MODELS)
def test_each_update_moves_its_own_player_and_nothing_else(name):
    model, moved = tiny(name), {}
    check_epsilons(model)
    batch = model.named(make_fields(model, 4 * model.batches_per_step))
    plain_update = model.update

    def trainable():
        return {n: [v.numpy() for v in net.trainable_variables] for n, net in model.networks.items()}

    def watched_update(player, tape, loss, **conditions):
        before = trainable()
        plain_update(player, tape, loss, **conditions)
        after = trainable()
        changed = {n for n in before if any((a != b).any() for a, b in zip(before[n], after[n]))}
        moved.setdefault(player, set()).update(changed)

    object.__setattr__(model, "update", watched_update)
    for phase, first_step in model.phases:
        model.step.assign(first_step)
        model.phase = phase
        model.before_training(first_step + 1)
        model.train_step(dict(batch))
    assert moved == {player: set(networks) for player, networks in model.players.items()}


@pytest.mark.parametrize("name", MODELS)
def test_inference_has_the_right_shape_range_and_seed(name):
    model = tiny(name)
    if generates := hasattr(model, "generate"):
        images = model.generate(3, seed=5)
        field = next(iter(model.batch_spec.values()))
        assert images.shape == (3, *field.shape)
        np.testing.assert_array_equal(images, model.generate(3, seed=5))
        assert np.abs(images - model.generate(3, seed=6)).max() > 0
        low, high = field.value_range
    elif hasattr(model, "translate"):
        first = next(iter(model.batch_spec))
        pictures = make_fields(model, 2)[first]
        images, (low, high) = model.translate(pictures), (-1, 1)
        assert images.shape == pictures.shape
        np.testing.assert_array_equal(images, model.translate(pictures))
    elif hasattr(model, "refine"):
        channels = model.batch_spec["images_a"].shape[-1]
        pictures = np.random.default_rng(0).uniform(-1, 1, (2, 10, 14, channels))
        images, (low, high) = model.refine(pictures), (-1, 1)
        assert images.shape == pictures.shape
    elif hasattr(model, "transfer"):
        fields, (low, high) = make_fields(model, 2), (-1, 1)
        images = model.transfer(fields["inputs"], fields["keypoints"])
        assert images.shape == fields["targets"].shape
    elif hasattr(model, "upscale"):
        images, (low, high) = model.upscale(np.random.default_rng(0).uniform(0, 1, (2, 10, 14, 3))), (-1, 1)
        assert images.shape == (2, 10 * model.config.scale, 14 * model.config.scale, 3)
    elif hasattr(model, "realism"):  # boxes around what was found
        fields, (low, high) = make_fields(model, 2), (0, 1)
        images = model.detect(fields["images"], num_boxes=3)["boxes"]
        assert images.shape == (2, 3, 4)
    else:  # features of regions of pictures
        fields, (low, high) = make_fields(model, 2), (-np.inf, np.inf)
        images = model.super_resolve(fields["images"], fields["boxes"])
        assert images.shape[:2] == fields["boxes"].shape[:2]
    assert images.dtype == (next(iter(model.batch_spec.values())).dtype if generates else np.float32)
    assert images.min() >= low
    assert images.max() <= high


@pytest.mark.parametrize("name", MODELS)
def test_learning_rates_last_as_long_as_the_run(name, monkeypatch):
    """On a fresh model fit sets the length; a longer run is refused where a rate would be 0 by then."""
    model = tiny(name)
    monkeypatch.setattr(keras.Model, "fit", lambda *arguments, **keywords: None)
    monkeypatch.setattr(type(model), "before_first_step", lambda *arguments: None)
    data = make_dataset(model, steps=2)
    model.fit(data, epochs=5)
    rates = {p: player_optimizers.schedule_of(model.player_optimizer(p)) for p in model.players}
    falling = {p: rate for p, rate in rates.items() if callable(rate)}
    assert all(float(rate(9)) > 0 for rate in falling.values())
    ends_at_zero = any(float(rate(10)) == 0 for rate in falling.values())
    assert not ends_at_zero or model.config.total_steps == 10
    model.step.assign(10)
    if ends_at_zero:
        with pytest.raises(ValueError, match="10 training steps, but training would go on to step 12"):
            model.fit(data)
        model.set_schedule_steps(12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(data)


def fit_eagerly(model, dataset):
    """Trains step by step: no time goes into tracing, and sums are taken in one order every time."""
    model.run_eagerly = True
    return model.fit(dataset, verbose=0).history


@pytest.mark.parametrize("name", MODELS)
def test_keras_file_keeps_everything_and_resumes_exactly(name, tmp_path):
    uninterrupted = tiny(name, schedule_steps=4)
    fit_eagerly(uninterrupted, make_dataset(uninterrupted, steps=2, seed=1))
    uninterrupted.save(tmp_path / "model.keras")
    uninterrupted.save_weights(tmp_path / "model.weights.h5")

    loaded, resumed = keras.models.load_model(tmp_path / "model.keras"), tiny(name, seed=0)
    resumed.load_weights(tmp_path / "model.weights.h5")
    assert loaded.config == uninterrupted.config
    for model in (loaded, resumed):
        assert difference(snapshot(uninterrupted), snapshot(model)) == 0.0
    for model in (uninterrupted, loaded, resumed):
        fit_eagerly(model, make_dataset(model, steps=2, seed=2))
    for model in (loaded, resumed):
        assert difference(snapshot(uninterrupted), snapshot(model)) == 0.0


def train_on_one_and_on_two(name, mirrored, make_optimizer=None, eagerly=False, **overrides):
    """The same three steps on one device and on two replicas: both models and the distance trained."""

    def train():
        model = tiny(name, sync_batch_norm=True, **overrides)
        if make_optimizer:
            model.compile({player: make_optimizer() for player in model.players})
        model.run_eagerly = eagerly
        before = [v.numpy() for network in model.networks.values() for v in network.trainable_variables]
        model.fit(make_dataset(model, steps=3), verbose=0)
        after = [v.numpy() for network in model.networks.values() for v in network.trainable_variables]
        return model, difference(before, after)

    single, moved = train()
    with mirrored.scope():
        double, _ = train()
    return single, double, moved


def gradient_descent():
    """Adam makes whole steps of the rounding noise that is all the gradient of a bias before a batch norm."""
    return keras.optimizers.SGD(1e-3)


@pytest.mark.parametrize("name, eagerly", [
    *((name, True) for name in MODELS),
    ("dcgan", False),
    # TensorFlow needs half a minute or more to trace the steps of some of them twice.
    *(pytest.param(name, False, marks=pytest.mark.slow) for name in MODELS if name != "dcgan"),
])  # fmt: skip
def test_two_replicas_train_to_the_weights_of_one(name, eagerly, mirrored):
    single, double, moved = train_on_one_and_on_two(name, mirrored, gradient_descent, eagerly)
    assert difference(snapshot(single), snapshot(double)) < 1e-5 < moved / 10
    for scalar in single.log_names:
        one, two = (float(getattr(m, f"{scalar}_tracker").result()) for m in (single, double))
        assert one == pytest.approx(two, rel=1e-3, abs=1e-4)


#: wgan_gp's only networks without a bias before a batch norm, which nothing but rounding moves.
UNNORMALIZED = {"architecture": "mnist", "image_size": 28, "channels": 1}


@pytest.mark.parametrize("name, overrides", [
    ("dcgan", {}), *(
        pytest.param(name, overrides, marks=pytest.mark.slow)
        for name, overrides in (("wgan_gp", UNNORMALIZED), ("pix2pix", {}), ("cyclegan", {}))
    ),
])  # fmt: skip
def test_two_replicas_with_the_papers_own_optimizers(name, overrides, mirrored):
    single, double, moved = train_on_one_and_on_two(name, mirrored, **overrides)
    assert difference(snapshot(single), snapshot(double)) < 1e-5 < moved / 5


# VGG19's float16 convolutions take a CPU a minute and a half.
@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[pytest.mark.slow] * (name == "srgan")) for name in MODELS
])  # fmt: skip
def test_mixed_precision_keeps_outputs_float32_and_losses_finite(name):
    model = tiny(name, precision="mixed_float16")
    history = fit_eagerly(model, make_dataset(model, steps=2))
    assert all(np.isfinite(values).all() for values in history.values())
    assert {str(network.outputs[0].dtype) for network in model.networks.values()} == {"float32"}


@pytest.mark.parametrize("name", MODELS)
def test_evaluate_reports_the_same_scalars_and_moves_nothing(name):
    model = tiny(name)
    model.run_eagerly = True
    before = [v.numpy().copy() for network in model.networks.values() for v in network.variables]
    logs = model.evaluate(make_dataset(model, steps=1), verbose=0, return_dict=True)
    assert set(logs) == set(model.log_names)
    after = [v.numpy() for network in model.networks.values() for v in network.variables]
    assert all((a == b).all() for a, b in zip(before, after))


@pytest.mark.parametrize("name", MODELS)
def test_savedmodel_gives_the_same_pictures_by_every_signature(name, tmp_path):
    model = tiny(name)
    report = model.export(tmp_path / "saved")
    assert set(report["signatures"]) == {*model.endpoints, *model.serving_functions}
    stored = tf.train.list_variables(str(tmp_path / "saved/variables/variables"))
    networks = {id(e.network): e.network for e in model.endpoints.values()}.values()
    assert len(stored) - 1 <= sum(len(network.variables) for network in networks)  # each once, and the graph
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    for signature, endpoint in model.endpoints.items():
        inputs = example_inputs(model, endpoint, 3)
        expected, results = endpoint.run(inputs), loaded.signatures[signature](**inputs)
        assert set(results) == set(expected)
        for output in expected:
            np.testing.assert_allclose(results[output], expected[output], atol=1e-5)
    first = next(iter(model.endpoints.values()))
    inputs = example_inputs(model, first, 1)
    served = loaded.signatures["serving_default"](**inputs)
    for output, expected in first.run(inputs).items():
        np.testing.assert_allclose(served[output], expected, atol=1e-5)
    if hasattr(model, "generate"):
        images = loaded.signatures["generate_seeded"](
            seed=tf.constant(7, tf.int64), num_samples=tf.constant(3)
        )
        np.testing.assert_allclose(next(iter(images.values())), model.generate(3, seed=7), atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_litert_file_has_builtin_operators_and_gives_the_same_pictures(name, tmp_path):
    model = tiny(name)
    report = model.export(tmp_path / "model.tflite", "litert")
    assert not any("custom" in operator for operator in report["operators"])
    (signature, endpoint), *_ = model.endpoints.items()
    weights = sum(4 * int(np.prod(v.shape)) for v in endpoint.network.trainable_variables)
    assert report["size"] > weights  # a file without weights is tiny and gives NaN
    runner = Interpreter(str(tmp_path / "model.tflite")).get_signature_runner(signature)
    inputs = example_inputs(model, endpoint, 3)
    expected, results = endpoint.run(inputs), runner(**inputs)
    for output in expected:
        np.testing.assert_allclose(results[output], expected[output], atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_int8_file_takes_and_gives_uint8_pictures(name, tmp_path):
    model, path = tiny(name), tmp_path / "model.tflite"
    data = None if hasattr(model, "generate") else make_dataset(model, steps=6)
    # Integers are exact enough for trained weights (test_export.py); random ones say little.
    pictures = bool(next(iter(model.endpoints.values())).pictures)
    options = {"quantize": "int8", "processing": pictures, "batch_size": 1, "strict": False}
    report = model.export(path, "litert", representative=data, **options)
    (signature, endpoint), *_ = model.endpoints.items()
    runner = Interpreter(str(path)).get_signature_runner(signature)
    for details in (runner.get_input_details(), runner.get_output_details()):
        assert {details[n]["dtype"] for n in details if n in endpoint.pictures} <= {np.uint8}
    assert all(r["psnr"] > 15 for r in report["signatures"][signature]["outputs"].values())


def example_inputs(model, endpoint, count):
    pictures = [tensor for tensor in endpoint.network.inputs if tensor.name in endpoint.pictures]
    sizes = {tensor.name: tuple(side or 16 for side in tensor.shape[1:3]) for tensor in pictures}
    return {n: np.asarray(v) for n, v in model.example_inputs(endpoint, count, sizes, seed=3).items()}


# Those with averages, with several networks per player, with growing ones, with weights of their own.
_REPLACED = ("dcgan", "cyclegan", "improved_gan", "ppgn", "progan", "sngan", "vae")


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[pytest.mark.slow] * (name not in _REPLACED)) for name in MODELS
])  # fmt: skip
def test_replaced_networks_are_the_players_own_and_saved_whole(name, tmp_path):
    model = tiny(name)
    names = {n: network.output_names[0] for n, network in model.networks.items()}
    copies = {n: keras.models.clone_model(network) for n, network in model.networks.items()}
    for network, copy in copies.items():  # of other initial weights
        copy.layers[0].name = copy.inputs[0].name = "any"
        setattr(model, network, copy)
    assert dict(model.networks) == copies
    known = {id(v) for player in model.players for v in model.player_optimizer(player)._trainable_variables}
    assert known == {id(v) for player in model.players for v in model.player_variables(player)}
    model.save(tmp_path / "model.keras")
    loaded = zoo.load(tmp_path / "model.keras")
    assert difference(snapshot(model), snapshot(loaded)) == 0.0
    for networks in (model.networks, loaded.networks):
        assert {n: network.output_names[0] for n, network in networks.items()} == names
