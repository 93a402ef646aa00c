"""Grids, strips, animations and picture files."""

import sys

import numpy as np
import pytest
from PIL import Image

from tf_gan_zoo import present


def test_to_uint8_maps_the_range_and_clips_what_is_outside():
    values = np.array([-2.0, -1.0, 0.0, 1.0, 3.0, np.nan])
    np.testing.assert_array_equal(present.to_uint8(values), [0, 0, 128, 255, 255, 0])
    np.testing.assert_array_equal(present.to_uint8(np.array([0, 0.5, 1]), (0, 1)), [0, 128, 255])
    with pytest.raises(present.PictureError, match="low < high"):
        present.to_uint8(values, (1, 1))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_holds_every_picture_at_its_place(channels):
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6, channels)).astype("float32")
    grid = present.image_grid(images, value_range=(0, 255), columns=3, padding=1)
    assert grid.shape == (2 * 5 + 1, 3 * 7 + 1, 3)
    for k, image in enumerate(images):
        top, left = 1 + k // 3 * 5, 1 + k % 3 * 7
        shown = grid[top : top + 4, left : left + 6]
        np.testing.assert_array_equal(shown, np.broadcast_to(image.astype("uint8"), shown.shape))
    assert (grid[6:, 15:] == 255).all()  # no sixth picture: background


def test_a_grid_is_about_square_and_labels_add_room_below_each_picture():
    images = -np.ones((9, 8, 8), "float32")
    assert present.image_grid(images, padding=0).shape == (24, 24, 3)
    labelled = present.image_grid(images, padding=0, labels=list("abcdefghi"))
    assert labelled.shape[0] > 24
    below = labelled[8 : labelled.shape[0] // 3]
    assert below.min() < 128 < below.max()  # ink on background


@pytest.mark.parametrize("bad", [np.zeros((2, 4, 4, 2)), np.zeros((4, 4)), np.zeros((0, 4, 4, 3))])
def test_a_grid_refuses_what_is_no_batch_of_pictures(bad):
    with pytest.raises(present.PictureError, match="batch, height, width, channels"):
        present.image_grid(bad)
    with pytest.raises(present.PictureError, match="one label per picture"):
        present.image_grid(np.zeros((2, 4, 4, 1)), labels=["a"])


def test_strips_enlarge_small_inputs_without_smoothing():
    low = np.array([[[-1.0], [1.0]], [[1.0], [-1.0]]], "float32")[None]
    high = np.zeros((1, 8, 8, 1), "float32")
    sheet = present.strips({"input": low, "output": high}, padding=2)
    shown = sheet[-10:-2, 2:10, 0]
    np.testing.assert_array_equal(shown, np.kron([[0, 255], [255, 0]], np.ones((4, 4))))
    with pytest.raises(present.PictureError, match="same number"):
        present.strips({"a": high, "b": np.zeros((2, 8, 8, 1))})


class _Painter:
    """Generates gray squares."""

    batch_spec = {}

    def generate(self, count, seed=0):
        return np.random.default_rng(seed).uniform(-1, 1, (count, 2, 2, 1)).astype("float32")


def test_frames_become_a_repeating_gif(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (12, 6, 8, 3), dtype=np.uint8)
    path = present.save_animation(frames, tmp_path / "new" / "walk.gif", frames_per_second=20, levels=2)
    with Image.open(path) as gif:
        assert (gif.n_frames, gif.info["loop"], gif.info["duration"]) == (12, 0, 50)
        gif.seek(3)
        np.testing.assert_array_equal(np.asarray(gif.convert("RGB")), np.where(frames[3] > 127, 255, 0))
    with pytest.raises(present.PictureError, match=r"\.gif or \.mp4"):
        present.save_animation(frames, tmp_path / "walk.webm")


def test_gray_frames_keep_their_gray_levels_in_a_gif(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (3, 6, 8, 1), dtype=np.uint8).repeat(3, axis=-1)
    with Image.open(present.save_gif(frames, tmp_path / "walk.gif")) as gif:
        for k in range(3):
            gif.seek(k)
            np.testing.assert_array_equal(np.asarray(gif.convert("RGB")), frames[k])


def test_frames_become_a_video(tmp_path):
    imageio = pytest.importorskip("imageio.v2")
    pytest.importorskip("imageio_ffmpeg")
    frames = np.linspace(0, 255, 10).astype(np.uint8)[:, None, None, None] * np.ones((1, 31, 40, 3), np.uint8)
    path = present.save_animation(frames, tmp_path / "walk.mp4", frames_per_second=10)
    read = np.stack(imageio.mimread(path))
    assert read.shape == (10, 32, 40, 3)  # sides are even
    assert np.abs(read[:, 8:24, 8:32].astype(float) - frames[:, 8:24, 8:32]).mean() < 6


def test_video_without_ffmpeg_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(present.PictureError, match=r"tf_gan_zoo\[mp4\]"):
        present.save_animation(np.zeros((2, 4, 4, 3), np.uint8), tmp_path / "walk.mp4")


def test_enlarged_pictures_repeat_their_pixels():
    picture = np.array([[[1], [2]]])
    np.testing.assert_array_equal(present.enlarged(picture, 2)[..., 0], [[1, 1, 2, 2], [1, 1, 2, 2]])


def test_sample_picture_asks_the_model_for_what_it_can_do():
    assert present.sample_picture(_Painter(), count=4).ndim == 3
    assert present.sample_picture(object()) is None

    class Translator:
        batch_spec = {}

        def translate(self, images, direction="a_to_b"):
            return -images if direction == "a_to_b" else images

    class Upscaler:
        def upscale(self, images):
            return np.repeat(np.repeat(images, 2, 1), 2, 2) * 2 - 1

    pictures = np.zeros((2, 4, 4, 3), "float32")
    pair = present.sample_picture(Translator(), {"inputs": pictures, "targets": pictures})
    cycle = present.sample_picture(Translator(), {"images_a": pictures, "images_b": pictures})
    large = present.sample_picture(
        Upscaler(), {"low_resolution": pictures, "high_resolution": np.zeros((2, 8, 8, 3))}
    )
    assert all(sheet.dtype == np.uint8 and sheet.shape[-1] == 3 for sheet in (pair, cycle, large))
    assert present.sample_picture(Translator()) is None
