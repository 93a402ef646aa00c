"""The zoo's own layers against NumPy, plain Python and central differences of their definitions."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_gan_zoo import layers, optimizers, random, schedules


def pictures(count, size=(6, 5), channels=3, seed=0):
    return np.random.default_rng(seed).normal(1.0, 2.0, (count, *size, channels)).astype("float32")


def normalized(x, axes):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5)


def test_instance_norm_is_per_picture_and_channel():
    x = pictures(4)
    np.testing.assert_allclose(layers.InstanceNormalization()(x), normalized(x, (1, 2)), atol=1e-5)
    affine = layers.InstanceNormalization(affine=True)
    affine.build(x.shape)
    affine.gamma.assign([1, 2, 3]), affine.beta.assign([0, 5, 6])
    np.testing.assert_allclose(affine(x), normalized(x, (1, 2)) * [1, 2, 3] + [0, 5, 6], atol=1e-4)


def test_reflection_padding():
    x = pictures(2)
    expected = np.pad(x, ((0, 0), (3, 3), (3, 3), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(layers.ReflectionPadding2D(3)(x), expected)


def test_dropout_is_a_function_of_its_seed():
    layer, x = layers.SeededDropout(0.25), tf.ones((8, 10, 10, 3))
    layer.build(x.shape)

    def masks(seed):
        layer.reseed(random.make_seed(seed, "test"))
        return layer(x, training=True).numpy()

    np.testing.assert_array_equal(masks(1), masks(1))
    assert np.any(masks(1) != masks(2))
    np.testing.assert_array_equal(layer(x, training=False), x)
    assert set(np.unique(masks(1))) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs(masks(1).mean() - 1) < 0.03


def test_maxout_is_the_largest_of_its_pieces():
    layer, x = layers.Maxout(4, 3), np.random.default_rng(0).normal(size=(5, 7)).astype("float32")
    layer.build(x.shape)
    layer.bias.assign(np.random.default_rng(1).normal(size=12))
    kernel, bias = (np.asarray(v) for v in (layer.kernel, layer.bias))
    pieces = [x @ kernel[:, k::3] + bias[k::3] for k in range(3)]
    np.testing.assert_allclose(layer(x), np.maximum.reduce(pieces), atol=1e-5)
    copy = layers.Maxout.from_config(layer.get_config())
    assert (copy.maxout_units, copy.pieces, copy.units) == (4, 3, 12)


def test_one_hot_labels():
    expected = [[0, 0, 1], [1, 0, 0], [0, 0, 0]]
    np.testing.assert_array_equal(layers.OneHot(3)(np.array([2, 0, 3])), expected)


def test_batch_statistics_in_training_and_per_picture_at_inference():
    x = pictures(4)
    layer = layers.BatchStatisticsNormalization()
    np.testing.assert_allclose(layer(x, training=True), normalized(x, (0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(layer(x, training=False), normalized(x, (1, 2)), atol=1e-5)
    # The two agree for a batch of one, and nothing is remembered.
    np.testing.assert_array_equal(layer(x[:1], training=True), layer(x[:1], training=False))
    assert not layer.non_trainable_variables
    per_image = layers.BatchStatisticsNormalization(per_image=True)
    np.testing.assert_allclose(per_image(x, training=True), normalized(x, (1, 2)), atol=1e-5)


def on_replicas(strategy, function, batch):
    """`function` under a strategy, each replica with its part of the batch; the parts joined again."""
    count = len(batch) // strategy.num_replicas_in_sync
    parts = strategy.experimental_distribute_values_from_function(
        lambda c: tf.constant(batch[c.replica_id_in_sync_group * count :][:count])
    )
    results = strategy.run(tf.function(function), args=(parts,))
    return np.concatenate(strategy.experimental_local_results(results))


def test_synchronized_batch_statistics_span_replicas(mirrored):
    x = pictures(4)
    with mirrored.scope():
        layer = layers.BatchStatisticsNormalization(synchronized=True)
        layer.build(x.shape)
    result = on_replicas(mirrored, lambda part: layer(part, training=True), x)
    np.testing.assert_allclose(result, normalized(x, (0, 1, 2)), atol=1e-5)


class PlainPool:
    """The paper's pool, one picture after the other."""

    def __init__(self, size):
        self.size, self.images = size, []

    def exchange(self, images, swaps, slots):
        returned = []
        for image, swap, slot in zip(images, swaps, slots):
            if len(self.images) < self.size:
                self.images.append(image)
                returned.append(image)
            elif swap:
                returned.append(self.images[slot])
                self.images[slot] = image
            else:
                returned.append(image)
        return np.stack(returned)


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_pool_is_the_plain_python_one(batch_size):
    pool, plain = layers.ImagePool(5), PlainPool(5)
    for step in range(12):  # 8 is more than the pool holds: slots are swapped twice within a batch
        images, seed = pictures(batch_size, seed=step), random.make_seed(0, "pool", step)
        returned = pool(images, seed).numpy()
        swaps, slots = (choice.numpy() for choice in pool.choices(batch_size, seed))
        np.testing.assert_array_equal(returned, plain.exchange(images, swaps, slots))
        stored = len(plain.images)
        assert int(pool.count) == stored
        np.testing.assert_array_equal(pool.images.numpy()[:stored], plain.images)


def test_pool_swaps_half_of_the_pictures():
    swaps, slots = layers.ImagePool(50).choices(20_000, [1, 2])
    assert abs(np.mean(swaps) - 0.5) < 0.015
    counts = np.bincount(slots, minlength=50)
    assert len(counts) == 50
    assert counts.min() > 320  # 400 expected


def test_pool_does_not_depend_on_the_number_of_replicas(mirrored):
    single = layers.ImagePool(3)
    with mirrored.scope():
        pool = layers.ImagePool(3)
        pool.build((None, 6, 5, 3))
    for step in range(6):
        images, seed = pictures(4, seed=step), random.make_seed(0, "pool", step)
        shared = on_replicas(mirrored, lambda part, seed=seed: pool(part, seed), images)
        np.testing.assert_array_equal(shared, single(images, seed))
        for copy in mirrored.experimental_local_results(pool.images.value):
            np.testing.assert_array_equal(copy, single.images.numpy())


def test_pool_without_room_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        layers.ImagePool(0)


@pytest.mark.parametrize(
    "layer",
    [
        layers.BatchStatisticsNormalization(1e-3, per_image=True, synchronized=True),
        layers.InstanceNormalization(1e-3, affine=True),
        layers.ReflectionPadding2D(2),
        layers.SeededDropout(0.3),
        layers.ImagePool(7),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_come_back_from_their_config(layer):
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()


def test_linear_decay():
    schedule = schedules.LinearDecay(2e-4, constant_steps=100, decay_steps=50)
    rates = [float(schedule(step)) for step in (0, 100, 125, 150, 999)]
    np.testing.assert_allclose(rates, [2e-4, 2e-4, 1e-4, 0, 0], atol=1e-10)
    serialize = keras.optimizers.schedules.serialize
    again = keras.optimizers.schedules.deserialize(serialize(schedule))
    assert again.get_config() == schedule.get_config()
    with pytest.raises(ValueError, match="decay_steps >= 1"):
        schedules.LinearDecay(2e-4, 0, 0)


def test_geometric_decay_and_its_minimum():
    schedule = schedules.GeometricDecay(0.1, 1.000004, 0.05)
    restored = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    for rates in (schedule, restored):
        actual = [float(rates(step)) for step in (0, 1, 100_000, 10_000_000)]
        assert actual == pytest.approx([0.1, 0.1 / 1.000004, 0.1 * 1.000004**-100_000, 0.05], rel=1e-5)
    with pytest.raises(ValueError, match="divisor of at least 1"):
        schedules.GeometricDecay(0.1, 0.9)


def test_rising_momentum_moves_like_its_recursion():
    optimizer = optimizers.RisingMomentumSGD(0.1, 0.5, 0.7, first_update=2, last_update=4)
    optimizer = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    variable = keras.Variable([1.0, -2.0])
    value, velocity = np.array([1.0, -2.0]), 0.0
    for momentum in (0.5, 0.5, 0.5, 0.6, 0.7, 0.7):
        velocity = momentum * velocity - 0.1 * 3 * value
        value = value + velocity
        optimizer.apply([3 * variable.value], [variable])
        np.testing.assert_allclose(variable, value, rtol=1e-5)
    with pytest.raises(ValueError, match="last_update > first_update"):
        optimizers.RisingMomentumSGD(first_update=3, last_update=3)


@pytest.mark.parametrize("bias, alpha", [(1.0, 2e-5), (2.0, 1e-4)])
def test_local_response_normalization_by_hand(bias, alpha):
    """CaffeNet's and VGG_CNN_M's: five neighboring channels, fewer at the ends."""
    x = np.random.default_rng(0).normal(0, 100, (1, 2, 1, 7)).astype("float32")
    layer = layers.LocalResponseNormalization(bias, alpha)
    sums = np.stack([(x[..., max(c - 2, 0) : c + 3] ** 2).sum(-1) for c in range(7)], axis=-1)
    np.testing.assert_allclose(layer(x), x / (bias + alpha * sums) ** 0.75, rtol=1e-5)
    again = layers.LocalResponseNormalization.from_config(layer.get_config())
    assert (again.bias, again.alpha) == (bias, alpha)
