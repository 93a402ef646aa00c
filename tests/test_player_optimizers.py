"""One optimizer per player: what `compile` takes and refuses, and what callbacks do to their rates."""

import keras
import numpy as np
import pytest
from conftest import make_dataset, tiny

import tf_gan_zoo as zoo
from tf_gan_zoo.schedules import LinearDecay, Stretched

Adam = keras.optimizers.Adam


@pytest.fixture(scope="module")
def model():
    """Every test compiles it anew."""
    return tiny("dcgan")


def rates(model):
    return {p: pytest.approx(float(model.player_optimizer(p).learning_rate), rel=1e-6) for p in model.players}


def settings(model):
    return {p: (type(o).__name__, float(o.learning_rate)) for p in model.players
            for o in [model.player_optimizer(p)]}  # fmt: skip


@pytest.mark.parametrize("given, generator, discriminator", [
    ("sgd", ("SGD", 0.01), ("SGD", 0.01)),
    (Adam(0.5), ("Adam", 0.5), ("Adam", 0.5)),
    ({"class_name": "SGD", "config": {"learning_rate": 0.25}}, ("SGD", 0.25), ("SGD", 0.25)),
    ({"generator": "sgd"}, ("SGD", 0.01), None),
    ({"generator": Adam(0.5), "discriminator": "sgd"}, ("Adam", 0.5), ("SGD", 0.01)),
    ({"generator": None}, None, None),
])  # fmt: skip
@pytest.mark.parametrize("keyword", ["optimizers", "optimizer"])
def test_optimizers_are_taken_in_every_form(model, given, generator, discriminator, keyword):
    model.compile()
    papers = settings(model)
    model.compile(**{keyword: given})
    wanted = {"generator": generator, "discriminator": discriminator}
    assert settings(model) == {p: wanted[p] and (wanted[p][0], pytest.approx(wanted[p][1])) or papers[p]
                               for p in papers}  # fmt: skip
    assert model.generator_optimizer is not model.discriminator_optimizer
    model.run_eagerly = True
    before = [v.numpy() for v in model.generator.trainable_variables]
    model.fit(make_dataset(model, 1), verbose=0)
    assert any((v.numpy() != b).any() for v, b in zip(model.generator.trainable_variables, before))


def built_elsewhere():
    optimizer = Adam()
    optimizer.build([keras.Variable(0.0)])
    return optimizer


SHARED = Adam()


@pytest.mark.parametrize("arguments, error, message", [
    ({"optimizers": "adamm"}, ValueError, "expected a keras.optimizers.Optimizer, a name.*got 'adamm'"),
    ({"optimizers": {"generator": 3}}, ValueError, "optimizer of generator: expected .*got 3"),
    ({"optimizers": {"generatr": "adam"}}, ValueError, "'generatr'. Did you mean 'generator'.*discriminator"),
    ({"optimizers": {"generator": SHARED, "discriminator": SHARED}}, ValueError,
     "players generator and discriminator.*'generator': keras.optimizers.Adam"),
    ({"optimizers": built_elsewhere()}, ValueError, "built for the variables of a model.*discriminator"),
    ({"optimizers": {"generator": built_elsewhere()}}, ValueError, "'generator' is built for other var"),
    ({"optimizers": {"generator": Adam(use_ema=True)}}, ValueError, "use_ema=True.*'generator'.*ema_decays"),
    ({"loss": "mse"}, TypeError, "no loss=.*players generator, discriminator"),
    ({"metrics": ["mae"]}, TypeError, "no metrics=.*tf_gan_zoo.evaluate"),
    ({"optimizer": "adam", "optimizers": "adam"}, TypeError, "leave one out"),
    ({"run_eagrly": True}, TypeError, "no run_eagrly=.*run_eagerly="),
])  # fmt: skip
def test_what_has_no_meaning_is_refused_by_name(model, arguments, error, message):
    with pytest.raises(error, match=message):
        model.compile(**arguments)


def test_one_rate_reads_and_sets_those_of_all(model):
    model.compile({"generator": Adam(0.5), "discriminator": "sgd"})
    assert model.optimizer.learning_rates == {"generator": 0.5, "discriminator": pytest.approx(0.01)}
    rate = model.optimizer.learning_rate
    assert (float(rate), rate.numpy(), rate * 2, f"{rate:.2f}") == (0.5, 0.5, 1.0, "0.50")
    assert float(keras.ops.convert_to_numpy(rate)) == 0.5
    with pytest.warns(UserWarning, match="rates of their own.*generator_optimizer.learning_rate"):
        model.optimizer.learning_rate = 0.25
    assert rates(model) == {"generator": 0.25, "discriminator": 0.25}
    model.optimizer.learning_rate.assign(0.125)
    assert rates(model) == {"generator": 0.125, "discriminator": 0.125}
    with pytest.raises(AttributeError, match="model.compile.*generator, discriminator"):
        model.optimizer = Adam()


def test_callbacks_of_keras_change_every_rate_and_log_it(model):
    model.compile({"generator": Adam(0.5), "discriminator": Adam(0.1)}, run_eagerly=True)
    callbacks = [
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5),
        keras.callbacks.ReduceLROnPlateau("d_loss", mode="min", factor=0.1, patience=1, min_delta=1e9),
    ]
    history = model.fit(make_dataset(model, 1), epochs=2, verbose=0, callbacks=callbacks).history
    np.testing.assert_allclose(history["learning_rate_generator"], [0.25, 0.125])
    np.testing.assert_allclose(history["learning_rate_discriminator"], [0.05, 0.025])
    assert model.optimizer.learning_rates == pytest.approx({"generator": 0.0125, "discriminator": 0.0025})


def test_a_rate_that_follows_a_schedule_is_not_set(model):
    model.compile({"generator": "sgd", "discriminator": Adam(LinearDecay(0.5, 0, 10))})
    assert model.optimizer.learning_rates["discriminator"] == 0.5
    with pytest.raises(TypeError, match="'discriminator' follows LinearDecay.*compile"):
        model.optimizer.learning_rate = 1.0
    assert model.optimizer.learning_rates["generator"] == pytest.approx(0.01)  # nothing is half set
    halve = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.5)
    with pytest.raises(TypeError, match="'discriminator' follows LinearDecay"):
        model.fit(make_dataset(model, 1), verbose=0, callbacks=[halve])


def test_rates_and_moments_are_saved_once(model, tmp_path):
    model.compile("adam", run_eagerly=True)
    model.fit(make_dataset(model, 1), verbose=0)
    model.optimizer.learning_rate = 0.125
    model.save(tmp_path / "m.keras")
    loaded = zoo.load(tmp_path / "m.keras")
    assert rates(loaded) == {"generator": 0.125, "discriminator": 0.125}
    assert len(loaded.optimizer.variables) == len(model.optimizer.variables)
    for a, b in zip(model.optimizer.variables, loaded.optimizer.variables):
        np.testing.assert_array_equal(a, b)
    assert int(model.optimizer.iterations) == int(model.step.numpy())


def test_schedules_of_accumulated_updates_are_stretched_once(tmp_path):
    model = tiny("dcgan", accumulation_steps=4, precision="mixed_float16")
    scaled = keras.optimizers.LossScaleOptimizer(Adam(LinearDecay(1.0, 0, 8)))
    model.compile({"generator": scaled, "discriminator": Adam(LinearDecay(1.0, 0, 8))})
    model.save(tmp_path / "m.keras")
    for m in (model, zoo.load(tmp_path / "m.keras")):
        for player in m.players:
            schedule = m.player_optimizer(player).inner_optimizer._learning_rate
            assert isinstance(schedule, Stretched)
            assert float(schedule(1)) == 0.5  # the second update is the fifth batch
