"""Exports: equal forms, exactness and its limits, what is refused, and what lies beside the file."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from conftest import make_dataset, make_fields, tiny
from keras import layers
from typer.testing import CliRunner

import tf_gan_zoo as zoo
from tf_gan_zoo import cli, published
from tf_gan_zoo.export import ExportArgumentError, ExportError, checking, formats, forms, processing
from tf_gan_zoo.layers import ReflectionPadding2D

RNG = np.random.default_rng(0)


def largest(a, b):
    return float(np.abs(np.asarray(a, "float64") - np.asarray(b, "float64")).max())


# -------------------------------------------------------------------- forms


@pytest.mark.parametrize("filters", [3, 9])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("kernel", [2, 3, 4, 5, 6, (3, 4)])
def test_transposed_convolutions_equal_keras(kernel, padding, filters):
    inputs = keras.Input((None, None, 5))
    layer = layers.Conv2DTranspose(
        filters, kernel, 2, padding, activation="relu", bias_initializer="normal"
    )
    network = keras.Model(inputs, layer(inputs))
    copy = forms.mobile_form(network)
    assert isinstance(copy.layers[1], forms.SubpixelConv2DTranspose)
    images = RNG.normal(size=(2, 6, 7, 5)).astype("float32")
    assert network(images).shape == copy(images).shape
    assert largest(network(images), copy(images)) < 1e-5


@pytest.mark.parametrize("layer", [
    ReflectionPadding2D(1), ReflectionPadding2D(3), layers.UpSampling2D(2),
])  # fmt: skip
def test_padding_and_upsampling_equal_keras(layer):
    inputs = keras.Input((None, None, 5))
    network = keras.Model(inputs, layer(inputs))
    copy = forms.mobile_form(network)
    assert type(copy.layers[1]) is not type(layer)
    images = RNG.normal(size=(2, 6, 7, 5)).astype("float32")
    assert largest(network(images), copy(images)) == 0.0


def network_with_norms(activation="tanh"):
    """Dense, convolution and transposed convolution, each with a batch norm that has seen data."""
    inputs = keras.Input((6,), name="latents")
    x = layers.BatchNormalization(scale=False)(layers.Dense(4 * 4 * 8)(inputs))
    x = layers.Reshape((4, 4, 8))(layers.ReLU()(x))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2DTranspose(9, 4, 2, "same")(x)))
    x = layers.LeakyReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, use_bias=False)(x)))
    x = layers.Conv2DTranspose(1, 5, 2, "same", name="last")(x)
    network = keras.Model(inputs, layers.Activation(activation, name="images")(x))
    for layer in network.layers:
        layer.set_weights([RNG.uniform(0.2, 1.2, w.shape) - 0.5 * (w.ndim > 1) for w in layer.get_weights()])
    return network


def test_batch_norms_go_into_the_layer_before():
    network = network_with_norms()
    copy = forms.mobile_form(network)
    assert not any(isinstance(layer, layers.BatchNormalization) for layer in copy.layers)
    latents = RNG.normal(size=(8, 6)).astype("float32") / 10
    assert largest(network(latents), copy(latents)) < 2e-5


def test_a_norm_whose_input_is_read_twice_stays():
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(3, 3, padding="same")(inputs)
    network = keras.Model(inputs, layers.Add()([x, layers.BatchNormalization()(x)]))
    copy = forms.mobile_form(network)
    assert any(isinstance(layer, layers.BatchNormalization) for layer in copy.layers)
    images = RNG.normal(size=(2, 4, 4, 3)).astype("float32")
    assert largest(network(images), copy(images)) < 1e-5


@pytest.mark.parametrize("activation, bound", [("tanh", 4.0), ("sigmoid", 8.0)])
def test_bounded_activations_change_little_however_large_the_logits(activation, bound):
    network = network_with_norms(activation)
    latents = [RNG.normal(size=(8, 6)).astype("float32") * 3]
    logits = keras.Model(network.inputs, network.get_layer("last").output)(latents).numpy()
    assert np.abs(logits).max() > 3 * bound  # far beyond the bound
    cut_off = {"tanh": 1 - np.tanh(4), "sigmoid": 1 - 1 / (1 + np.exp(-8))}[activation]
    difference = largest(network(latents), forms.mobile_form(network, bounded=True)(latents))
    assert cut_off / 2 < difference < 1.01 * cut_off


def test_half_precision_networks_are_exported_in_float32(tmp_path):
    model = tiny("dcgan", precision="mixed_float16")
    report = model.export(tmp_path / "a.tflite", "litert")
    assert report["signatures"]["generate"]["outputs"]["images"]["max_difference"] < 1e-5
    full = tiny("dcgan")
    full.generator.set_weights(model.generator.get_weights())
    runner = Interpreter(str(tmp_path / "a.tflite")).get_signature_runner("generate")
    latents = np.asarray(full.sample_inputs(2))
    np.testing.assert_allclose(runner(latents=latents)["images"], full.run(latents), atol=1e-5)


# -------------------------------------------------------------------- processing and comparing


@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 1.0)])
def test_uint8_pictures_come_back_as_they_were(value_range):
    levels = np.arange(256, dtype=np.uint8)
    values = processing.to_range(tf.constant(levels), value_range).numpy()
    assert (values[0], values[255]) == pytest.approx(value_range)
    np.testing.assert_array_equal(processing.to_uint8(values, value_range), levels)
    outside = tf.constant([value_range[0] - 9, value_range[1] + 9])
    np.testing.assert_array_equal(processing.to_uint8(outside, value_range), [0, 255])


def test_compare_against_hand_values():
    expected = np.array([0.0, 1.0, -1.0, 0.5], "float32")
    result = checking.compare(expected, expected + np.array([0, 0.1, 0, -0.3], "float32"), (-1, 1), None)
    assert result["max_difference"] == pytest.approx(0.3)
    assert result["mean_difference"] == pytest.approx(0.1)
    assert result["psnr"] == pytest.approx(10 * np.log10(4 / ((0.01 + 0.09) / 4)), abs=1e-4)
    assert not result["passed"]
    assert checking.compare(expected, expected, None, None)["psnr"] == 150.0


@pytest.mark.parametrize("quantize, error, passed", [
    (None, 9e-5, True), (None, 1.2e-4, False), ("float16", 0.019, True), ("float16", 0.021, False),
    ("int8", 0.06, True), ("int8", 0.07, False), ("dynamic", 0.07, False),
])  # fmt: skip
def test_limits(quantize, error, passed):
    expected = np.zeros(1000, "float32")
    assert checking.compare(expected, expected + error, (-1, 1), quantize)["passed"] == passed


def test_one_level_of_rounding_is_no_difference_but_two_are():
    expected = np.full(10, 100, np.uint8)
    for step, passed in [(1, True), (2, False)]:
        result = checking.compare(expected, expected + np.uint8(step), (-1, 1), None)
        assert result["passed"] == passed
        assert result["max_difference"] == pytest.approx(step * 2 / 255)


def test_nan_and_other_shapes_never_pass():
    expected = np.zeros((2, 3), "float32")
    for quantize in (None, "float16", "int8"):
        assert not checking.compare(expected, expected * np.nan, (-1, 1), quantize)["passed"]
    assert not checking.compare(expected, expected[:1], (-1, 1), None)["passed"]


# -------------------------------------------------------------------- whole exports


@pytest.mark.parametrize("recipe", sorted(published.manifest()))
def test_pretrained_networks_pass_in_both_formats(recipe, tmp_path):
    model = zoo.get(recipe, weights="pretrained")
    for path, format in [("saved", "tf_saved_model"), ("model.tflite", "litert")]:
        report = model.export(tmp_path / path, format)
        assert report["passed"]
        assert report["origin"]["sha256"] == published.manifest()[recipe]["sha256"]


def test_quantized_files_of_a_trained_model(tmp_path):
    model, sizes = zoo.get("dcgan.fashion_mnist", weights="pretrained"), {}
    for quantize in (None, "float16", "dynamic", "int8"):
        report = model.export(tmp_path / "a.tflite", "litert", quantize=quantize)
        assert report["passed"]
        sizes[quantize] = report["size"]
    assert sizes["float16"] < 0.52 * sizes[None]
    assert sizes["dynamic"] < 0.28 * sizes[None]
    assert sizes["int8"] < 0.28 * sizes[None]


def test_an_export_that_is_wrong_is_an_error_and_leaves_no_file(tmp_path, monkeypatch):
    model, path = tiny("dcgan"), tmp_path / "wrong.tflite"
    other = tiny("dcgan", seed=1).generator
    mobile_form = forms.mobile_form
    monkeypatch.setattr(formats.forms, "mobile_form", lambda network, bounded: mobile_form(other))
    with pytest.raises(ExportError, match=r"not what Keras gives: expected largest difference at most"):
        model.export(path, "litert")
    assert not path.exists()
    report = json.loads((tmp_path / "wrong.report.json").read_text())
    assert not report["passed"]
    assert model.export(path, "litert", strict=False)["passed"] is False
    assert path.is_file()


def test_networks_that_take_any_size_still_do(tmp_path):
    model = tiny("pix2pix")
    model.export(tmp_path / "any.tflite", "litert")
    run = Interpreter(str(tmp_path / "any.tflite")).get_signature_runner("translate")
    for shape in [(1, 16, 16, 3), (2, 32, 48, 3)]:
        images = RNG.uniform(-1, 1, shape).astype("float32")
        np.testing.assert_allclose(run(inputs=images)["outputs"], model.run(images), atol=1e-4)
    report = model.export(tmp_path / "fixed.tflite", "litert", image_size=(32, 16), batch_size=2)
    assert report["signatures"]["translate"]["inputs"]["inputs"]["shape"] == [2, 32, 16, 3]


def test_files_for_devices_hold_the_signatures_asked_for(tmp_path):
    model = tiny("cyclegan")
    signatures = ["translate", "translate_b_to_a"]
    report = model.export(tmp_path / "both.tflite", "litert", signatures=signatures)
    images = RNG.uniform(-1, 1, (1, 16, 16, 3)).astype("float32")
    interpreter = Interpreter(str(tmp_path / "both.tflite"))
    for name, direction in zip(signatures, ["a_to_b", "b_to_a"]):
        results = interpreter.get_signature_runner(name)(images=images)["outputs"]
        np.testing.assert_allclose(results, model.translate(images, direction), atol=1e-4)
    assert set(report["signatures"]) == set(signatures)


def test_processing_takes_and_gives_what_picture_files_hold(tmp_path):
    model = tiny("srgan")
    model.export(tmp_path / "saved", processing=True)
    pictures = RNG.integers(0, 256, (2, 12, 8, 3)).astype(np.uint8)
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    results = loaded.signatures["upscale"](low_resolution=tf.constant(pictures))["images"]
    expected = np.round((model.upscale(pictures / np.float32(255)) + 1) * 127.5)
    assert largest(results, expected) <= 1


def test_onnx_gives_the_same_pictures(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    pytest.importorskip("tf2onnx", reason="the extra onnx is not installed")
    model = tiny("pix2pix")
    report = model.export(tmp_path / "a.onnx", "onnx")
    assert report["passed"]
    assert report["operators"]["Conv"] > 0
    session = onnxruntime.InferenceSession(str(tmp_path / "a.onnx"))
    images = RNG.uniform(-1, 1, (3, 32, 16, 3)).astype("float32")
    results = session.run(["outputs"], {"inputs": images})[0]
    np.testing.assert_allclose(results, model.run(images), atol=1e-4)


def test_report_and_card_lie_beside_the_file(tmp_path):
    model = zoo.get("dcgan.fashion_mnist", weights="pretrained")
    returned = model.export(tmp_path / "garments.tflite", "litert", quantize="float16")
    report = json.loads((tmp_path / "garments.report.json").read_text())
    assert report == json.loads(json.dumps(returned))
    assert report["size"] == (tmp_path / "garments.tflite").stat().st_size
    assert report["operators"]["CONV_2D"] > 0
    assert set(report["signatures"]["generate"]["latency_ms"]) >= {"1"}
    card = (tmp_path / "garments.md").read_text()
    languages = ("```kotlin", "```swift", "```cpp")
    for text in ("float16", "MIT licence", *languages, "GetSignatureRunner", "classes"):
        assert text in card
    assert str(tmp_path) not in card


def test_an_earlier_saved_model_is_replaced_but_no_other_folder(tmp_path):
    model = tiny("dcgan")
    model.export(tmp_path / "saved")
    model.export(tmp_path / "saved")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "to_mother.txt").write_text("dear")
    with pytest.raises(ExportError, match="a folder of other things"):
        model.export(tmp_path / "letters")
    assert (tmp_path / "letters" / "to_mother.txt").read_text() == "dear"


# -------------------------------------------------------------------- calibration data and arguments


def as_dict(model):
    return make_dataset(model, steps=3)


def as_tuple(model):
    return make_dataset(model, steps=3, form=tuple)


def as_array(model):
    return make_fields(model, 12)["inputs"]


def as_named_array(model):
    return {"inputs": make_fields(model, 12)["inputs"]}


@pytest.mark.parametrize("form", [as_dict, as_tuple, as_array, as_named_array])
def test_representative_data_come_in_the_forms_of_training(form, tmp_path):
    model = tiny("pix2pix")
    report = model.export(tmp_path / "a.tflite", "litert", representative=form(model))
    assert report["examples"].startswith("representative")
    assert report["passed"]


def test_srgan_makes_low_resolution_of_a_data_set_without_it(tmp_path):
    model = tiny("srgan")
    data = tf.data.Dataset.from_tensors({"high_resolution": make_fields(model, 8)["high_resolution"]})
    report = model.export(
        tmp_path / "a.tflite", "litert", quantize="int8", representative=data, strict=False
    )
    assert report["signatures"]["upscale"]["inputs"]["low_resolution"]["range"] == [0, 1]


@pytest.mark.parametrize("representative, message", [
    (np.zeros((4, 16, 16), "float32"), r"shape \(4, 16, 16\), expected \(None, None, None, 3\)"),
    (np.full((4, 16, 16, 3), 255.0, "float32"), r"lies in \[255, 255\], expected \[-1, 1\]"),
    ({"pictures": np.zeros((4, 16, 16, 3), "float32")}, "found no 'inputs' among"),
    (tf.data.Dataset.range(0), "the dataset is empty"),
])  # fmt: skip
def test_unfit_representative_data_are_refused(representative, message, tmp_path):
    with pytest.raises(ExportError, match=message):
        tiny("pix2pix").export(tmp_path / "a.tflite", "litert", representative=representative)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments, message", [
    ({"format": "tflite"}, "Did you mean 'litert'"),
    ({"format": "litert", "filepath": "model.lite"}, "writes FILE.tflite"),
    ({"format": "litert", "quantize": "int4"}, "quantize: 'int4' does not exist"),
    ({"quantize": "int8", "filepath": "model"}, "is for format='litert'"),
    ({"batch_size": 0}, "must be 1 or more"),
    ({"signatures": ["translat"]}, "Did you mean 'translate'"),
    ({"image_size": 20}, "multiples of 16"),
])  # fmt: skip
def test_arguments_are_checked_before_anything_is_built(arguments, message, tmp_path):
    path = tmp_path / arguments.pop("filepath", "model.tflite")
    with pytest.raises(ExportArgumentError, match=message):
        tiny("pix2pix").export(path, **arguments)
    assert not list(tmp_path.iterdir())


def test_other_refusals(tmp_path, monkeypatch):
    with pytest.raises(ExportArgumentError, match="'generate' does not take pictures of any size"):
        tiny("dcgan").export(tmp_path / "a", image_size=32)
    with pytest.raises(ExportError, match="pass some as representative="):
        tiny("pix2pix").export(tmp_path / "a.tflite", "litert", quantize="int8")
    model = tiny("dcgan")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r"needs ai_edge_litert.*pip install 'tf_gan_zoo\[litert\]'"):
        model.export(tmp_path / "a.tflite", "litert")


def test_command_line(tmp_path):
    command = ["export", "dcgan.fashion_mnist", "--format=litert", "--quantize=dynamic"]
    command += ["--out", str(tmp_path)]
    result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 0
    assert "PSNR" in result.output
    names = {path.name.removeprefix("dcgan.fashion_mnist.dynamic.") for path in tmp_path.iterdir()}
    assert names == {"tflite", "md", "report.json"}
