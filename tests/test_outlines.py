"""Line drawings made of pictures, and the pairs that data sources make of them."""

import numpy as np
import pytest
from PIL import Image

from tf_gan_zoo.data import DatasetError, load_dataset, open_dataset
from tf_gan_zoo.data.outlines import outline


def square(ground=(255, 255, 255), colour=(200, 30, 30), size=20):
    picture = np.empty((size, size, 3), np.uint8)
    picture[:] = ground
    picture[5:15, 5:15] = colour
    return picture


def test_a_square_becomes_a_thin_closed_line():
    ink = outline(square())[..., 0] == 0
    assert set(np.unique(outline(square()))) == {0, 255}
    assert ink[4:16, 4:16].sum() == ink.sum()  # at the edge of the square only
    assert not ink[7:13, 7:13].any()
    for line in (ink[10], ink[:, 10]):  # one pixel on each side
        assert line.sum() == 2
    np.testing.assert_array_equal(outline(square()), outline(square()))


def test_lines_follow_the_channel_that_changes_and_not_the_brightness():
    gray = round(0.299 * 200 + 0.587 * 30 + 0.114 * 30)
    equally_bright = square(ground=(gray,) * 3)
    assert (outline(equally_bright) == 0).any()
    assert (outline(square(ground=(200, 30, 30))) == 255).all()


def test_a_higher_threshold_leaves_faint_edges_out():
    faint = square(colour=(235, 235, 235))
    assert (outline(faint, threshold=0.02) == 0).any()
    assert (outline(faint, threshold=0.2) == 255).all()


@pytest.fixture
def folder(tmp_path):
    for index in range(12):
        picture = square(colour=(index * 20, 255 - index * 20, 90), size=40)
        Image.fromarray(picture).save(tmp_path / f"{index}.png")
    return tmp_path


@pytest.mark.parametrize("cache", [True, False])
def test_any_folder_gives_drawings_with_their_pictures(folder, cache):
    pipeline = open_dataset(
        f"outlines:{folder}", view="paired", split="all", image_size=20, batch_size=1, cache=cache,
        value_range=(0, 255),
    )  # fmt: skip
    assert pipeline.num_examples == 12
    for batch in pipeline.dataset(start_step=0):
        drawing, picture = (batch[name][0].numpy().astype(np.uint8) for name in ("inputs", "targets"))
        # Drawn after resizing, so that the lines are one pixel wide.
        np.testing.assert_array_equal(drawing, outline(picture))
        assert (drawing == 0).any()


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(DatasetError, match="0 images"):
        load_dataset(f"outlines:{tmp_path}", view="paired")
