"""A network of one's own in the place of a model's: trained, saved, loaded and exported like any other."""

import json
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import difference, make_dataset, snapshot, tiny
from keras import layers

import tf_gan_zoo as zoo
from tf_gan_zoo import weights
from tf_gan_zoo.registry import get_spec
from tf_gan_zoo.weights import WeightsError

TINY = get_spec("dcgan").tiny


def decoder(stock, kind="functional", activation="relu", middle=None, inputs=None, channels=None):
    """A generator of another architecture, without names."""
    size, *shape = (*stock.input_shape[1:], *stock.output_shape[1:])
    shape[-1] = channels or shape[-1]
    stack = [
        layers.Dense(6, activation=activation), *([middle] if middle else []),
        layers.Dense(int(np.prod(shape)), activation="tanh", dtype="float32"),
        layers.Reshape(shape, dtype="float32"),
    ]  # fmt: skip
    if kind == "sequential":
        return keras.Sequential([keras.Input((inputs or size,)), *stack])
    x = start = keras.Input((inputs or size,))
    for layer in stack:
        x = layer(x)
    return keras.Model(start, x)


def trained(**options):
    model = tiny("dcgan")
    model.generator = decoder(model.generator, **options)
    model.run_eagerly = True
    model.fit(make_dataset(model, 1), verbose=0)
    return model


@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_a_replaced_network_is_trained_saved_and_loaded_whole(kind, tmp_path):
    model = tiny("dcgan")
    stock = model.generate(3)  # functions of the old network are compiled by now
    model.run(model.sample_inputs(100))
    mine = decoder(model.generator, kind)
    model.generator = mine
    assert np.abs(model.generate(3) - stock).max() > 1e-3
    np.testing.assert_allclose(model.generate(100)[:3], mine(model.sample_inputs(100)[:3]), atol=1e-6)
    assert [id(v) for v in model.generator.variables] == [id(v) for v in mine.variables]
    before = [v.numpy() for v in mine.trainable_variables]
    model.run_eagerly = True
    model.fit(make_dataset(model, 1), verbose=0)
    assert all((v.numpy() != b).any() for v, b in zip(mine.trainable_variables, before))

    model.save(tmp_path / "m.keras")
    loaded = zoo.load(tmp_path / "m.keras")
    assert difference(snapshot(model), snapshot(loaded)) == 0.0
    for m in (model, loaded):
        m.run_eagerly = True
        m.fit(make_dataset(m, 1, seed=1), verbose=0)
    assert difference(snapshot(model), snapshot(loaded)) == 0.0
    np.testing.assert_array_equal(model.generate(3), loaded.generate(3))


def test_get_takes_networks_and_the_old_ones_are_gone():
    mine = decoder(tiny("dcgan").generator)
    model = zoo.get("dcgan", networks={"generator": mine}, **TINY)
    assert model.generator is mine
    nets = [*mine.variables, *model.discriminator.variables]
    assert len(model.weights) == len(nets) + len(tiny("dcgan").weights) - sum(
        len(n.variables) for n in tiny("dcgan").networks.values()
    )
    assert model.generator_optimizer._trainable_variables == mine.trainable_variables
    with pytest.raises(ValueError, match="no network named 'genrator'. Did you mean 'generator'"):
        zoo.get("dcgan", networks={"genrator": mine}, **TINY)


def test_weights_of_other_networks_are_refused_with_the_difference(tmp_path):
    relu, stock = trained(), tiny("dcgan")
    for model, name in ((relu, "relu"), (stock, "stock")):
        model.save_weights(tmp_path / f"{name}.weights.h5")
        weights.save(model, tmp_path / f"{name}.npz")
    same, tanh = trained(), trained(activation="tanh")
    for ending in ("npz", "weights.h5"):
        weights.load(same, "dcgan", tmp_path / f"relu.{ending}")
        np.testing.assert_allclose(same.generate(2), relu.generate(2), atol=2e-3)
        for model, file, message in [
            (tanh, "relu", "layer 1 is Dense.*activation=relu.* in the file and Dense.*activation=tanh"),
            (stock, "relu", "other generator.*in the file and .*generator is replaced in the file"),
            (relu, "stock", "other generator.*generator is replaced in the model"),
        ]:
            before = snapshot(model)
            with pytest.raises(WeightsError, match=message):
                weights.load(model, "dcgan", tmp_path / f"{file}.{ending}")
            assert difference(before, snapshot(model)) == 0.0
    with pytest.raises(ValueError, match="activation=relu"):  # Keras's own way
        tanh.load_weights(tmp_path / "relu.weights.h5")


def subclassed():
    class Mine(keras.Model):
        pass

    return Mine()


@pytest.mark.parametrize("make, error, message", [
    (lambda s: decoder(s, inputs=5), ValueError,
     r"generator: expected the inputs \(None, 8\) float32, got \(None, 5\)"),
    (lambda s: decoder(s, channels=2), ValueError,
     r"expected the outputs \(None, 16, 16, 3\).*got \(None, 16, 16, 2\)"),
    (lambda s: keras.Model(s.input, [s.output]), ValueError, r"expected the outputs \(None.*got \[\(None"),
    (lambda s: keras.Sequential([layers.Dense(3)]), TypeError, "got Sequential. It is not built"),
    (lambda s: subclassed(), TypeError, "got Mine. Join"),
    (lambda s: "dcgan", TypeError, "expected a Functional or a built Sequential keras.Model, got str"),
])  # fmt: skip
def test_networks_that_do_not_fit_are_refused(make, error, message):
    model = tiny("dcgan")
    before = snapshot(model)
    with pytest.raises(error, match=message):
        model.generator = make(model.generator)
    assert difference(before, snapshot(model)) == 0.0


def test_shared_variables_and_regularizers_are_not_silent():
    model = tiny("cyclegan")
    with pytest.raises(ValueError, match="generator_ba: it shares variables with 'generator_ab'"):
        model.generator_ba = model.generator_ab
    model = tiny("dcgan")
    with pytest.warns(UserWarning, match="regularizer of .*kernel has no effect.*weight_decay"):
        model.generator = decoder(model.generator, middle=layers.Dense(4, kernel_regularizer="l2"))


def test_averages_optimizers_and_sums_follow():
    model = tiny("biggan", accumulation_steps=2)
    model.compile({"generator": keras.optimizers.SGD(0.125)})
    mine = keras.models.clone_model(model.generator)
    model.run_eagerly = True
    model.fit(make_dataset(model, 2), verbose=0)
    with pytest.warns(UserWarning, match="player 'generator' begins anew after 1 updates"):
        model.generator = mine
    for own, mean in zip(mine.variables, model.generator_ema.variables):
        np.testing.assert_array_equal(own, mean)
    assert not model.generator_ema.trainable_variables
    assert model.generator_optimizer._trainable_variables == mine.trainable_variables
    assert float(model.generator_optimizer.learning_rate) == 0.125
    before = mine.trainable_variables[0].numpy()
    model.fit(make_dataset(model, 2), verbose=0)
    assert (mine.trainable_variables[0].numpy() != before).any()
    assert (model.generator_ema.variables[0].numpy() != before).any()
    with pytest.raises(AttributeError, match="generator_ema follows generator"):
        model.generator_ema = mine


def test_replaced_networks_keep_what_is_frozen(tmp_path):
    model = tiny("dcgan")
    model.generator = decoder(model.generator)
    model.generator.layers[1].trainable = False
    model.compile()
    model.save(tmp_path / "m.keras")
    loaded = zoo.load(tmp_path / "m.keras")
    assert [layer.trainable for layer in loaded.generator.layers] == [
        layer.trainable for layer in model.generator.layers
    ]
    assert not loaded.generator.layers[1].trainable


class Doubled(layers.Layer):
    """Not registered with Keras."""

    def call(self, inputs):
        return inputs * 2.0


def test_layers_of_ones_own_come_back_with_custom_objects(tmp_path):
    class Hidden(Doubled):  # not to be found by its module's name
        pass

    model = tiny("biggan")  # with an averaged copy
    inputs = model.generator.input
    model.generator = keras.Model(inputs, Hidden()(model.generator.output))
    model.save(tmp_path / "m.keras")
    with pytest.raises(WeightsError, match=r"Hidden.*custom_objects=\{'Hidden': Hidden\}"):
        zoo.load(tmp_path / "m.keras")
    loaded = zoo.load(tmp_path / "m.keras", custom_objects={"Hidden": Hidden})
    np.testing.assert_array_equal(loaded.generate(2), model.generate(2))


def test_code_is_refused_before_it_is_saved(tmp_path):
    model = tiny("dcgan")
    model.generator = decoder(model.generator, middle=layers.Lambda(lambda x: x * 2))
    with pytest.raises(ValueError, match="generator: its layer 'lambda.*' holds the code.*save_weights"):
        model.save(tmp_path / "m.keras")


def test_safe_mode_holds_for_what_is_in_a_file(tmp_path, monkeypatch):
    model = tiny("dcgan")
    model.generator = decoder(model.generator, middle=layers.Lambda(lambda x: x * 2))
    monkeypatch.setattr("tf_gan_zoo.replacing.check_savable", lambda *_: None)  # as another program may
    model.save(tmp_path / "m.keras")
    with pytest.raises(WeightsError, match="refused: it holds the code of a Python lambda"):
        zoo.load(tmp_path / "m.keras")


def test_networks_of_another_strategy_are_refused(mirrored):
    with mirrored.scope():
        model = tiny("dcgan")
    mine = decoder(model.generator)
    with mirrored.scope(), pytest.raises(ValueError, match="strategy. Build it, .*strategy.scope"):
        model.generator = mine


def test_exports_have_the_stock_names(tmp_path):
    stock = tiny("dcgan")
    model = trained()
    report, expected = (m.export(tmp_path / n) for m, n in ((model, "a"), (stock, "b")))
    facts = [r["signatures"]["generate"] for r in (report, expected)]
    assert [list(f["inputs"]) + list(f["outputs"]) for f in facts] == [["latents", "images"]] * 2
    loaded = tf.saved_model.load(str(tmp_path / "a"))
    latents = model.sample_inputs(2)
    np.testing.assert_allclose(
        loaded.signatures["generate"](latents=latents)["images"], model.generator(latents), atol=1e-5
    )


def test_published_weights_are_not_said_to_be_those_of_a_replaced_network(tmp_path):
    weights.save(tiny("dcgan"), tmp_path / "x.npz")
    model = zoo.get("dcgan", weights=tmp_path / "x.npz", **TINY)
    assert model.origin["name"] == "dcgan"
    model.generator = decoder(model.generator)
    assert not hasattr(model, "origin")


def test_a_model_without_replaced_networks_is_saved_as_before(tmp_path):
    model = tiny("dcgan")
    assert "networks" not in model.get_config()
    weights.save(model, tmp_path / "x.npz")
    assert "networks.json" not in np.load(tmp_path / "x.npz")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        json.dumps(model.get_config())
