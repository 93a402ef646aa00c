"""What fit does with data that replicas cannot share, and with data that end early."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import make_dataset, tiny

from tf_gan_zoo import fitting
from tf_gan_zoo.batch_spec import BatchError
from tf_gan_zoo.schedules import LinearDecay


def images(count, model):
    shape = (count, *next(iter(model.batch_spec.values())).shape)
    return np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")


def test_a_short_last_batch_is_left_out_on_several_replicas(mirrored):
    with mirrored.scope():
        model = tiny("dcgan")
    history = model.fit(tf.data.Dataset.from_tensor_slices(images(9, model)).batch(4), verbose=0).history
    assert int(model.step.numpy()) == 2
    assert np.isfinite(history["d_loss"]).all()
    assert all(np.isfinite(v).all() for v in model.get_weights())


def test_batches_that_replicas_cannot_share_are_refused(mirrored):
    with mirrored.scope():
        model = tiny("dcgan")
    with pytest.raises(BatchError, match="3 examples cannot be shared equally by 2 replicas"):
        model.fit(tf.data.Dataset.from_tensor_slices(images(9, model)).batch(3), verbose=0)


def test_one_device_uses_the_short_batch(mirrored):
    model = tiny("dcgan")
    model.fit(tf.data.Dataset.from_tensor_slices(images(9, model)).batch(4), verbose=0)
    assert int(model.step.numpy()) == 3


def test_loaded_weights_bring_their_phase(tmp_path):
    trained = tiny("srgan", pretrain_steps=1)
    trained.step.assign(5)
    trained.save_weights(tmp_path / "w.weights.h5")
    model = tiny("srgan", pretrain_steps=1)
    assert model.phase == "srresnet"
    model.load_weights(tmp_path / "w.weights.h5")
    assert model.phase == "gan"
    assert model.evaluate(images(4, model), verbose=0, return_dict=True)["d_loss"] > 0


def rate_of(model, step):
    return float(model.player_optimizer("generator")._learning_rate(step))


def test_a_schedule_lasts_as_long_as_fit_and_is_kept_in_files(tmp_path):
    model = tiny("wgan_gp", epochs=7, steps_per_epoch=11)
    model.run_eagerly = True
    data = make_dataset(model, steps=2)
    model.fit(data, epochs=5, verbose=0, callbacks=[stop_after(1)])
    assert rate_of(model, 5) == pytest.approx(rate_of(model, 0) / 2)
    assert rate_of(model, 10) == 0 < rate_of(model, 9)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    loaded, resumed = keras.models.load_model(tmp_path / "model.keras"), tiny("wgan_gp")
    resumed.load_weights(tmp_path / "model.weights.h5")
    for other in (loaded, resumed):
        assert rate_of(other, 5) == rate_of(model, 5)
        assert other.config.total_steps == 10


def stop_after(epochs):
    def stop(epoch, logs):
        callback.model.stop_training = epoch + 1 >= epochs

    callback = keras.callbacks.LambdaCallback(on_epoch_end=stop)
    return callback


@pytest.mark.parametrize("settings", [{"precision": "mixed_float16"}, {"accumulation_steps": 2}])
def test_a_longer_schedule_keeps_the_state_of_its_optimizers(settings):
    model = tiny("wgan_gp", schedule_steps=2, **settings)
    model.run_eagerly = True
    model.fit(make_dataset(model, steps=2), verbose=0)
    before = [v.numpy() for p in model.players for v in model.player_optimizer(p).variables]
    assert float(model.generator_optimizer.learning_rate) == 0.0
    model.set_schedule_steps(4)
    after = [v.numpy() for p in model.players for v in model.player_optimizer(p).variables]
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
    assert float(model.generator_optimizer.learning_rate) == pytest.approx(1e-5)  # half of the tiny config's


def test_optimizers_of_ones_own_and_an_expressed_length_stay():
    model = tiny("wgan_gp", schedule_steps=100)
    model.run_eagerly = True
    data = make_dataset(model, steps=1)
    model.fit(data, verbose=0)
    assert model.config.total_steps == 100
    model = tiny("wgan_gp")
    mine = LinearDecay(1e-3, 1, 2)
    model.compile({"generator": keras.optimizers.Adam(mine), "discriminator": keras.optimizers.SGD(1e-3)})
    model.run_eagerly = True
    for _ in range(3):  # no length is checked, for none is known
        model.fit(data, verbose=0)
    assert rate_of(model, 2) == pytest.approx(5e-4)


def test_an_unknown_length_is_said():
    model = tiny("wgan_gp")
    model.run_eagerly = True
    data = make_dataset(model, steps=1).filter(lambda batch: True)
    with pytest.warns(UserWarning, match="Pass steps_per_epoch"):
        model.fit(data, verbose=0)


@pytest.mark.parametrize("name", ["dcgan", "wgan_gp"])
def test_nothing_is_said_of_data_that_end_where_they_should(name, mirrored, recwarn):
    for model in (tiny(name), within(mirrored, lambda: tiny(name))):
        model.run_eagerly = True
        for data in (make_dataset(model, steps=1), make_dataset(model, steps=1).filter(lambda batch: True)):
            model.set_schedule_steps(9)
            model.fit(data, verbose=0)
            model.evaluate(data, verbose=0)
    assert not [w for w in recwarn if "ran out of data" in str(w.message)]


def within(strategy, make):
    with strategy.scope():
        return make()


def test_groups_of_batches_keep_their_number():
    model = tiny("wgan_gp")  # two batches in a step
    for batches, groups in ((4, 2), (5, 3)):
        given = make_dataset(model, steps=3).take(batches)
        data = fitting.training_data(model, given, None, None, False, None, 1).dataset
        assert fitting.cardinality(data) == groups == len(list(data))


def test_loops_over_steps_on_several_replicas_are_refused(mirrored):
    with mirrored.scope(), pytest.raises(ValueError, match="must be 1 on 2 mirrored replicas, got 2"):
        tiny("dcgan").compile(steps_per_execution=2)


def test_a_model_that_was_trained_is_let_go():
    """TensorFlow keeps Python functions of input pipelines for ever: they must not hold models."""
    model = tiny("dcgan")
    model.run_eagerly = True
    data = make_dataset(model, steps=1)
    model.fit(data, verbose=0)
    gone = weakref.ref(model.generator)
    del model
    keras.utils.clear_session()
    gc.collect()
    assert gone() is None
