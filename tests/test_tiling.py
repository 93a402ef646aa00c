"""Tiles against the whole picture, at any scale, with the pieces' borders where they should be."""

from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf

from tf_gan_zoo import tiling


def pictures(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype("float32")


def looking(radius, scale=1):
    """A linear function that looks `radius` pixels far, pads with zeros and enlarges `scale` times."""
    side = 2 * radius + 1
    kernel = np.random.default_rng(1).normal(size=(side, side, 3, 2)).astype("float32")

    def function(images):
        maps = tf.nn.conv2d(images, kernel, 1, "SAME").numpy()
        return maps.repeat(scale, axis=1).repeat(scale, axis=2)

    return function


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("tile", [1, 5, 8, 100])
def test_tiles_equal_the_whole_picture(scale, tile):
    images, function = pictures(2, 13, 10, 3), looking(2, scale)
    tiled = tiling.in_tiles(function, images, tile=tile, margin=2, scale=scale)
    assert tiled.shape == (2, 13 * scale, 10 * scale, 2)
    np.testing.assert_allclose(tiled, function(images), atol=1e-5)


def test_a_margin_too_small_shows_at_the_seams_only():
    images, function = pictures(1, 8, 32, 3), looking(3)
    difference = np.abs(tiling.in_tiles(function, images, tile=16, margin=2) - function(images))
    assert difference[:, :, 13:19].max() > 1e-2
    assert np.delete(difference, range(13, 19), axis=2).max() < 1e-5


def test_windows_cover_each_pixel_once_and_end_with_the_picture():
    covered = np.zeros((11, 7), int)
    for seen, tile, inside in tiling.windows(11, 7, tile=4, margin=3):
        covered[tile] += 1
        picture = np.arange(77).reshape(11, 7)
        np.testing.assert_array_equal(picture[seen][inside], picture[tile])
        for part, whole, length in zip(seen, tile, (11, 7)):
            assert part == slice(max(whole.start - 3, 0), min(whole.stop + 3, length))
    assert (covered == 1).all()


def test_dtype_is_kept_and_tiles_are_counted():
    counts = []
    images = pictures(1, 6, 6, 3)
    tiled = tiling.in_tiles(
        lambda x: np.uint8(100 * np.abs(x)), images, tile=4, margin=1, on_tile=lambda *n: counts.append(n)
    )
    assert tiled.dtype == np.uint8
    assert counts == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_several_arrays_and_results_of_half_the_size():
    images, others = pictures(2, 16, 12, 3), pictures(2, 16, 12, 1)

    def function(colours, gray):
        return tf.nn.avg_pool2d(looking(1)(colours * gray), 2, 2, "SAME").numpy()

    tiled = tiling.in_tiles(function, [images, others], tile=4, margin=2, scale=Fraction(1, 2))
    assert tiled.shape == (2, 8, 6, 2)
    np.testing.assert_allclose(tiled, function(images, others), atol=1e-5)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="tile of at least 1 and a margin of at least 0, got 0 and 2"):
        list(tiling.windows(5, 5, 0, 2))
    with pytest.raises(ValueError, match="5x5 pixels at scale 2 should become 10x10, but became 5x5"):
        tiling.in_tiles(looking(1), pictures(1, 5, 5, 3), tile=8, margin=1, scale=2)
