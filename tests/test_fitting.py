"""What fit does with data that replicas cannot share, and with data that end early."""

import numpy as np
import pytest
import tensorflow as tf
from conftest import tiny

from tf_gan_zoo.batch_spec import BatchError


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
