"""Networks that normalise by the whole picture, tile by tile: the same result as in one piece."""

import keras
import numpy as np
import pytest
from conftest import tiny
from keras import layers

from tf_gan_zoo.layers import BatchStatisticsNormalization, InstanceNormalization, ReflectionPadding2D
from tf_gan_zoo.segments import run_in_tiles


def pictures(*shape):
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, shape).astype("float32")
    images[:, : shape[1] // 2] *= 0.1  # halves with other statistics
    return images


def with_weights(network):
    rng = np.random.default_rng(1)
    for variable in network.variables:
        variable.assign(rng.uniform(0.5, 1.5, variable.shape) * rng.choice([-0.3, 0.3], variable.shape))
    return network


@pytest.mark.parametrize("tile", [8, 36, 512])
def test_cyclegan_in_tiles_equals_cyclegan_in_one_piece(tile):
    model = tiny("cyclegan")
    with_weights(model.generator_ab)
    images, counts = pictures(2, 44, 60, 3), []
    whole = model.translate(images)
    tiled = model.translate(images, tile=tile, on_tile=lambda *count: counts.append(count))
    np.testing.assert_allclose(tiled, whole, atol=2e-5)
    part = model.translate(images[:, :20], tile=tile)
    assert np.abs(whole[:, :8] - part[:, :8]).max() > 0.01  # statistics of the whole picture do matter
    total = counts[-1][1]
    assert counts == [(k, total) for k in range(1, total + 1)]


def test_other_layers_and_learned_gains():
    x = images = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, dilation_rate=2, padding="same")(x)
    x = skip = BatchStatisticsNormalization(gamma_initializer="random_normal")(x)
    x = layers.AveragePooling2D(2)(ReflectionPadding2D(2)(layers.LeakyReLU(0.2)(x)))
    x = InstanceNormalization(affine=True)(layers.Conv2D(6, 3)(x))
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    x = layers.Concatenate()([layers.Conv2DTranspose(4, 4, 1, "same")(x), skip])
    network = with_weights(keras.Model(images, layers.Conv2D(2, 5, padding="same")(x)))
    batch = pictures(1, 40, 28, 3)
    np.testing.assert_allclose(run_in_tiles(network, batch, 12), network(batch), atol=2e-5)


def test_a_u_net_joins_maps_of_many_sizes():
    network = with_weights(tiny("pix2pix", image_size=16).generator)
    images = pictures(1, 64, 48, 3)
    np.testing.assert_allclose(run_in_tiles(network, images, 16), network(images), atol=2e-5)


def test_a_network_without_normalisation_runs_in_one_segment():
    images = keras.Input((None, None, 1))
    network = keras.Model(images, layers.Conv2D(1, 3, padding="same", activation="tanh")(images))
    counts = []
    tiled = run_in_tiles(network, pictures(1, 10, 10, 1), 5, lambda *count: counts.append(count))
    np.testing.assert_allclose(tiled, network(pictures(1, 10, 10, 1)), atol=1e-6)
    assert counts[-1] == (4, 4)


def test_networks_that_cannot_run_in_tiles_are_refused():
    images = keras.Input((None, None, 3))
    two = keras.Model(images, [images, layers.ReLU()(images)])
    with pytest.raises(ValueError, match="several inputs or outputs"):
        run_in_tiles(two, pictures(1, 8, 8, 3))
    with pytest.raises(ValueError, match="tile of at least 1 pixel, got 0"):
        tiny("cyclegan").translate(pictures(1, 16, 16, 3), tile=0)
