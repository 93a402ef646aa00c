"""Layers and penalties that compare the examples of a batch, against NumPy and values by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_gan_zoo import layers, penalties, random, replicas
from tf_gan_zoo.layers import weight_norm


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def on_replicas(strategy, function, *batches):
    """`function` under a strategy, each replica with its part of the batches; the parts joined again."""
    count = strategy.num_replicas_in_sync

    def part(batch):
        size = len(batch) // count
        return strategy.experimental_distribute_values_from_function(
            lambda c: tf.constant(batch[c.replica_id_in_sync_group * size :][:size])
        )

    results = strategy.run(tf.function(function), args=[part(batch) for batch in batches])
    return [np.asarray(r) for r in strategy.experimental_local_results(results)]


# -------------------------------------------------------------------- over replicas


def test_global_statistics_have_the_gradients_of_one_device(mirrored):
    """Of any function of the gathered batch: each replica gets its part of the gradient."""
    x, weights = numbers(4, 3), tf.constant(numbers(4, 4, seed=1))

    def gradient(part):
        with tf.GradientTape() as tape:
            tape.watch(part)
            everyone = replicas.gather(part)
            loss = tf.reduce_sum(weights * tf.matmul(everyone, everyone, transpose_b=True))
            loss += tf.reduce_sum(tf.abs(replicas.mean(tf.reduce_mean(part, axis=0))))
        # Each replica's share of the loss, as GAN.update takes it.
        return tape.gradient(loss, part, output_gradients=tf.constant(1.0 / replicas.count()))

    parts = on_replicas(mirrored, gradient, x)
    np.testing.assert_allclose(np.concatenate(parts), gradient(tf.constant(x)), rtol=1e-5)


def test_masked_mean_is_over_the_picked_values_of_all_replicas(mirrored):
    values, mask = np.float32([1, 2, 3, 10]), np.array([True, True, True, False])
    shares = on_replicas(mirrored, replicas.masked_mean, values, mask)
    assert np.mean(shares) == pytest.approx(2.0)
    assert float(replicas.masked_mean(tf.constant(values), tf.constant(mask))) == pytest.approx(2.0)
    assert float(replicas.masked_mean(tf.constant(values), tf.constant([False] * 4))) == 0.0


# -------------------------------------------------------------------- minibatch discrimination


def plain_minibatch_features(x, kernels, bias):
    """Section 3.2 of the paper, one pair after the other."""
    matrices = np.einsum("na,abc->nbc", x.astype("float64"), kernels)
    result = np.zeros((len(x), kernels.shape[1]))
    for i in range(len(x)):
        for j in range(len(x)):
            if i != j:
                result[i] += np.exp(-np.abs(matrices[i] - matrices[j]).sum(-1))
    return np.concatenate([x, result + bias], axis=1)


def minibatch_layer(features=6, kernels=4, size=3):
    layer = layers.MinibatchDiscrimination(kernels, size)
    layer.build((None, features))
    layer.kernel.assign(numbers(features, kernels, size, seed=1))
    layer.log_scale.assign(numbers(kernels, size, seed=2))
    layer.bias.assign(numbers(kernels, seed=3))
    return layer


def tensor_of(layer):
    kernel = np.asarray(layer.kernel).astype("float64")
    return kernel * np.exp(np.asarray(layer.log_scale)) / np.sqrt((kernel**2).sum(0))


def test_minibatch_discrimination_is_the_papers_double_sum(mirrored):
    layer, x = minibatch_layer(), numbers(6, 6)
    expected = plain_minibatch_features(x, tensor_of(layer), np.asarray(layer.bias))
    np.testing.assert_allclose(layer(x), expected, atol=1e-5)
    with mirrored.scope():
        double = minibatch_layer()
    # Under replicas the neighbours are those of the global batch.
    np.testing.assert_allclose(np.concatenate(on_replicas(mirrored, double, x)), expected, atol=1e-5)


def test_identical_examples_are_as_close_as_can_be():
    layer = minibatch_layer()
    layer.bias.assign(tf.zeros(4))
    np.testing.assert_allclose(layer(np.ones((2, 6), "float32"))[:, 6:], 1.0)  # c_b = 1
    np.testing.assert_allclose(layer(np.ones((5, 6), "float32"))[:, 6:], 4.0)
    np.testing.assert_allclose(layer(np.ones((1, 6), "float32"))[:, 6:], 0.0)  # no neighbours
    with pytest.raises(ValueError, match="at least 1, got 0"):
        layers.MinibatchDiscrimination(0)


def test_minibatch_features_start_centred_with_the_nearest_neighbour_at_distance_two():
    inputs = keras.Input((6,))
    layer = layers.MinibatchDiscrimination(4, 3)
    network, x = keras.Model(inputs, layer(inputs)), numbers(32, 6)
    weight_norm.initialize_from_data(network, tf.constant(x))
    np.testing.assert_allclose(np.asarray(network(x))[:, 6:].mean(0), 0.0, atol=1e-4)
    matrices = np.einsum("na,abc->nbc", x, tensor_of(layer))
    distances = np.abs(matrices[:, None] - matrices[None]).sum(-1) + 1e6 * np.eye(32)[..., None]
    np.testing.assert_allclose(distances.min(1).mean(0), 2.0, rtol=1e-4)


# -------------------------------------------------------------------- virtual batch norm


def test_virtual_batch_norm_mixes_the_references_statistics_with_the_examples_own():
    n, (reference, x) = 5, (numbers(5, 4, 3, 2), 2 + 3 * numbers(3, 4, 3, 2, seed=1))
    layer = layers.VirtualBatchNormalization(n)
    layer.build((None, 4, 3, 2))
    layer.gamma.assign([1, 2]), layer.beta.assign([0, 5])
    result = np.asarray(layer(np.concatenate([reference, x])))

    old_mean, old_square = reference.mean((0, 1, 2)), (reference**2).mean((0, 1, 2))
    for got, example in zip(result[n:], x):
        mean = (n * old_mean + example.mean((0, 1))) / (n + 1)
        square = (n * old_square + (example**2).mean((0, 1))) / (n + 1)
        expected = (example - mean) / np.sqrt(square - mean**2 + 1e-5) * [1, 2] + [0, 5]
        np.testing.assert_allclose(got, expected, atol=1e-4)
    expected = (reference - old_mean) / np.sqrt(old_square - old_mean**2 + 1e-5) * [1, 2] + [0, 5]
    np.testing.assert_allclose(result[:n], expected, atol=1e-4)


def test_an_examples_result_does_not_depend_on_its_batch():
    inputs = keras.Input((4,))
    x = layers.VirtualBatchNormalization(8, scale=False)(layers.ReferenceBatch(8)(inputs))
    network = keras.Model(inputs, layers.WithoutReference(8)(x))
    x = numbers(6, 4)
    together, alone = (np.asarray(network(v, training=True)) for v in (x, x[2:3]))
    assert together.shape == (6, 4)
    np.testing.assert_allclose(together[2:3], alone, atol=1e-6)
    np.testing.assert_array_equal(together, network(x, training=False))
    with pytest.raises(ValueError, match="size of at least 2, got 1"):
        layers.ReferenceBatch(1)


# -------------------------------------------------------------------- weight normalisation


def test_normalised_kernels_have_length_g():
    cases = [
        (layers.WeightNormDense(5), (None, 7), 0),
        (layers.WeightNormConv2D(5, 3), (None, 8, 8, 7), (0, 1, 2)),
        (layers.WeightNormConv2DTranspose(5, 3), (None, 8, 8, 7), (0, 1, 3)),
    ]
    for layer, shape, axes in cases:
        layer.build(shape)
        layer.gain.assign([1, 2, 3, 4, 5])
        lengths = np.sqrt((np.asarray(layer.normalized_kernel()) ** 2).sum(axes))
        np.testing.assert_allclose(lengths, [1, 2, 3, 4, 5], rtol=1e-3)
        assert len(layer.trainable_variables) == 2  # not the gain


@pytest.mark.parametrize("kind, arguments", [
    ("Dense", (5,)), ("Conv2D", (5, 3, 2, "same")), ("Conv2D", (5, 3)),
    ("Conv2DTranspose", (5, 5, 2, "same")),
])  # fmt: skip
def test_weight_norm_layers_are_keras_layers_with_that_kernel(kind, arguments):
    x = numbers(2, 7) if kind == "Dense" else numbers(2, 8, 8, 7)
    layer = getattr(layers, f"WeightNorm{kind}")(*arguments, activation="relu")
    plain = getattr(keras.layers, kind)(*arguments, activation="relu")
    layer.build(x.shape), plain.build(x.shape)
    layer.bias.assign(numbers(5)), layer.gain.assign(1 + numbers(5, seed=1) ** 2)
    plain.kernel.assign(layer.normalized_kernel()), plain.bias.assign(layer.bias)
    np.testing.assert_allclose(layer(x), plain(x), atol=1e-5)
    assert layer.compute_output_shape(x.shape) == plain(x).shape


def test_initial_values_from_data_give_mean_zero_and_the_chosen_deviation():
    x = inputs = keras.Input((8, 8, 2))
    for filters in (6, 5):
        x = layers.WeightNormConv2D(filters, 3)(x)
        x = keras.layers.LeakyReLU(0.2)(x)
    outputs = layers.WeightNormDense(4, initial_std=0.1, trainable_gain=True)(keras.layers.Flatten()(x))
    network = keras.Model(inputs, outputs)
    images = 3 + 2 * numbers(64, 8, 8, 2)
    assert weight_norm.is_untrained(network)
    weight_norm.initialize_from_data(network, tf.constant(images))
    assert not weight_norm.is_untrained(network)
    for layer, deviation in ((network.layers[1], 1.0), (network.layers[3], 1.0), (network.layers[-1], 0.1)):
        outputs = np.asarray(keras.Model(inputs, layer.output)(images))
        axes = tuple(range(outputs.ndim - 1))
        np.testing.assert_allclose(outputs.mean(axes), 0.0, atol=1e-3)
        np.testing.assert_allclose(outputs.std(axes), deviation, rtol=1e-3)


def test_noise_is_a_function_of_its_seed():
    layer, x = layers.SeededGaussianNoise(0.5), tf.ones((8, 10, 10, 3))
    layer.build(x.shape)
    layer.reseed(random.make_seed(1, "test"))
    noisy = layer(x, training=True).numpy()
    np.testing.assert_array_equal(noisy, layer(x, training=True))
    np.testing.assert_array_equal(layer(x, training=False), x)
    assert noisy.std() == pytest.approx(0.5, rel=0.05)
    with pytest.raises(ValueError, match="at least 0, got -1"):
        layers.SeededGaussianNoise(-1)


@pytest.mark.parametrize("layer", [
    layers.MinibatchDiscrimination(7, 3), layers.ReferenceBatch(4, 0.0, 1.0), layers.WithoutReference(4),
    layers.VirtualBatchNormalization(4, 1e-3, scale=False), layers.SeededGaussianNoise(0.3),
    layers.WeightNormDense(3, initial_std=0.1, trainable_gain=True), layers.WeightNormConv2D(3, 3),
    layers.WeightNormConv2DTranspose(3, 5, 2, "same"),
], ids=lambda layer: type(layer).__name__)  # fmt: skip
def test_layers_come_back_from_their_config(layer):
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()


# -------------------------------------------------------------------- binarised representation entropy


def test_random_signs_cost_nearly_nothing_and_equal_ones_nearly_everything():
    """The two ends of the scale: independent patterns, and one pattern for the whole batch."""
    batch, units = 16, 4096
    random_signs = np.sign(numbers(batch, units))
    assert float(penalties.activation_correlation_penalty(tf.constant(random_signs))) < 1e-4
    assert float(penalties.marginal_entropy_penalty(tf.constant(random_signs))) == pytest.approx(
        1 / batch, rel=0.1
    )
    same = tf.constant(np.repeat(random_signs[:1], batch, axis=0))
    margin = 3 / np.sqrt(units)
    correlation = float(penalties.activation_correlation_penalty(same))
    assert correlation == pytest.approx((1 - margin) * (batch - 1) / batch, rel=1e-5)
    assert float(penalties.marginal_entropy_penalty(same)) == pytest.approx(1.0)


def test_penalty_of_a_layer_against_numpy_and_over_replicas(mirrored):
    h = numbers(6, 3, 2, 2) + 0.5
    soft = h / (np.abs(h) + 1e-3 * np.abs(h).mean())
    s = soft.reshape(6, 12)
    pairs = np.maximum(np.abs(s @ s.T) / 12 - 3 / np.sqrt(12), 0) * (1 - np.eye(6))
    expected = (s.mean(0) ** 2).mean() + pairs.sum() / 36
    value = penalties.binarized_representation_entropy(tf.constant(h))
    assert float(value) == pytest.approx(expected, rel=1e-5)
    values = on_replicas(mirrored, penalties.binarized_representation_entropy, h)
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_soft_signs_are_saturated_and_no_gradient_flows_through_their_softness():
    h = tf.constant(numbers(64, 64))
    signs = np.abs(penalties.soft_signs(h).numpy())
    assert (signs > 0.9).mean() > 0.99
    with tf.GradientTape() as tape:
        tape.watch(h)
        total = tf.reduce_sum(penalties.soft_signs(h))
    softness = 1e-3 * np.abs(h).mean()
    expected = softness / (np.abs(h) + softness) ** 2  # d/dh of h / (|h| + c) with c held still
    np.testing.assert_allclose(tape.gradient(total, h), expected, rtol=1e-3)
