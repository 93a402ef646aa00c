"""Shared test helpers: two logical CPUs, and tiny models with batches made from their own specs."""

import os

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
import pytest

import tf_gan_zoo as zoo
from tf_gan_zoo import registry

zoo.list_models()  # imports TensorFlow the quiet way

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from tf_gan_zoo import train  # noqa: E402
from tf_gan_zoo.data import DatasetError  # noqa: E402

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


def tiny(name, **overrides):
    """A compiled model with its registered tiny config."""
    return zoo.get(name, **{**registry.get_spec(name).tiny, **overrides})


def make_fields(model, count, seed=0):
    """`count` random examples that fit the model's batch_spec, as a dict of arrays."""
    rng, fields = np.random.default_rng(seed), {}
    for name, field in model.batch_spec.items():
        shape = (count, *(side or 32 for side in field.shape))
        if field.dtype == "string":
            words = np.array(["red", "blue", "heart", "car"], object)
            fields[name] = np.array([" ".join(rng.choice(words, 3)).encode() for _ in range(count)], object)
            continue
        low, high = field.value_range or (0, 1 if field.dtype == "float32" else 3)
        if field.dtype == "int32" and not field.shape and field.value_range:  # every class, as fit demands
            fields[name] = rng.permutation(np.resize(np.arange(low, high + 1), count)).astype("int32")
            continue
        draw = rng.uniform if field.dtype == "float32" else rng.integers
        values = draw(low, high, shape)
        fields[name] = values.astype(field.dtype)
    return fields


def make_dataset(model, steps, batch_size=4, seed=0, form=dict):
    """An unshuffled dataset of exactly `steps` training steps, its batches as dict, tuple or tensor."""
    fields = make_fields(model, steps * model.batches_per_step * batch_size, seed)
    required = {n: v for n, v in fields.items() if not model.batch_spec[n].optional}
    elements = {dict: fields, tuple: tuple(required.values()), "tensor": next(iter(required.values()))}[form]
    return tf.data.Dataset.from_tensor_slices(elements).batch(batch_size, drop_remainder=True)


def held_out(recipe, count):
    """Test examples of a recipe, with labels if possible; the test is skipped without the data."""
    model = zoo.get(recipe)
    view = "labelled" if model.view == "images" else model.view
    try:
        pipeline = train.open_pipeline(model, "test", view=view, batch_size=count, shuffle=False)
    except DatasetError as error:
        pytest.skip(f"{recipe} has no data here: {error}")
    return {name: np.asarray(value) for name, value in next(iter(pipeline.dataset(start_step=0))).items()}


def snapshot(model):
    """Every number a model holds: weights, step, pools, optimizer slots."""
    optimizers = [model.player_optimizer(player) for player in model.players]
    variables = [*model.weights, *(v for o in optimizers for v in o.variables)]
    return [np.array(keras.ops.convert_to_numpy(v), copy=True) for v in variables]


def difference(a, b):
    """Largest absolute difference between two snapshots."""
    assert len(a) == len(b)
    return max(
        float(np.abs(x.astype("float64") - y.astype("float64")).max(initial=0.0)) for x, y in zip(a, b)
    )


@pytest.fixture(scope="module", autouse=True)
def _forget_graphs():
    """Frees what a test file's models have left behind; a whole run would gather gigabytes."""
    yield
    keras.utils.clear_session()


@pytest.fixture(scope="session")
def mirrored():
    # One for all tests: two strategies over the same devices number their collective operations alike.
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
