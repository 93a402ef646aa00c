"""Picture files in and out: every kind of file, sizes, names, stops and restarts; and models on them."""

import keras
import numpy as np
import pytest
from conftest import tiny
from PIL import Image

from tf_gan_zoo import conversion, pictures
from tf_gan_zoo.config import Config
from tf_gan_zoo.endpoints import Endpoint
from tf_gan_zoo.pictures import Conversion, Picture, PictureError

RNG = np.random.default_rng(0)
SAME = Conversion(lambda images, on_tile: images)
DOUBLE = Conversion(lambda images, on_tile: images.repeat(2, 1).repeat(2, 2), gray_stays_gray=True)


def noise(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def convert_all(folder, how=SAME, suffix="_new", out=None, **options):
    files = pictures.find_sources([folder], suffix)
    return list(pictures.convert_files(how, files, pictures.name_targets(files, suffix, out), **options))


def load(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


# -------------------------------------------------------------------- reading


def test_rotation_is_undone(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side: the first row is the right column
    path = save(tmp_path / "a.png", noise(4, 6, 3), exif=exif)
    np.testing.assert_allclose(pictures.read(path).pixels, np.rot90(load(path), -1) / 255, atol=1e-6)


def test_sixteen_bits_keep_their_precision(tmp_path):
    wide = RNG.integers(0, 65536, (5, 7), dtype=np.uint16)
    picture = pictures.read(save(tmp_path / "wide.png", wide))
    np.testing.assert_allclose(picture.pixels[..., 0], wide / 65535, atol=1e-6)


def test_palettes_are_resolved(tmp_path):
    colours = Image.fromarray(noise(6, 6, 3)).quantize(8)
    colours.save(tmp_path / "p.png")
    colours.save(tmp_path / "t.png", transparency=0)
    expected = np.asarray(colours.convert("RGB")) / 255
    np.testing.assert_allclose(pictures.read(tmp_path / "p.png").pixels, expected, atol=1e-6)
    holes = pictures.read(tmp_path / "t.png")
    np.testing.assert_array_equal(holes.alpha, np.asarray(colours) != 0)
    assert (holes.pixels[holes.alpha == 0] == 1).all()


@pytest.mark.parametrize("mode, channels", [("L", 1), ("1", 1), ("LA", 1), ("RGB", 3), ("CMYK", 3)])
def test_gray_is_one_channel(tmp_path, mode, channels):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(noise(4, 5, 3)).convert(mode).save(path)
    assert pictures.read(path).pixels.shape == (4, 5, channels)


def test_channels_are_adapted_as_pillow_does():
    colours = noise(4, 5, 3)
    gray = pictures.with_channels((colours / 255).astype("float32"), 1)
    expected = np.asarray(Image.fromarray(colours).convert("L"))
    np.testing.assert_allclose(gray[..., 0] * 255, expected, atol=0.6)
    np.testing.assert_array_equal(pictures.with_channels(gray, 3), np.repeat(gray, 3, -1))


def test_pixels_come_in_the_wanted_form(tmp_path):
    path = save(tmp_path / "a.png", noise(4, 6, 3))
    pixels = pictures.read_pixels(path, size=(8, 12), channels=1, value_range=(-1, 1))
    assert pixels.shape == (1, 8, 12, 1)
    assert -1 <= pixels.min() < 0 < pixels.max() <= 1
    np.testing.assert_allclose(pictures.read_pixels(path), load(path)[None] / 127.5 - 1, atol=1e-6)


# -------------------------------------------------------------------- converting


@pytest.mark.parametrize("side", [(1, 1), (5, 7), (16, 24), (3, 40)])
def test_odd_sizes_are_continued_by_reflection_and_cut_back(side):
    seen = []

    def function(images, on_tile):
        seen.append(images)
        return images.repeat(2, 1).repeat(2, 2)

    pixels = (noise(*side, 3) / 255).astype("float32")
    result = pictures.convert(Conversion(function, multiple_of=8), Picture(pixels))
    assert all(length % 8 == 0 for length in seen[0].shape[1:3])
    np.testing.assert_allclose(result[::2, ::2], pixels * 255, atol=0.51)
    assert result.shape == (2 * side[0], 2 * side[1], 3)
    if side == (5, 7):
        np.testing.assert_array_equal(seen[0][0, 5], seen[0][0, 3])


def test_ranges_and_sizes():
    def function(images, on_tile):
        assert 0 <= images.min() <= images.max() <= 1
        return images * 4 - 2

    picture = Picture((noise(20, 30, 3) / 255).astype("float32"))
    own = Conversion(function, input_range=(0, 1), output_range=(-2, 2))
    np.testing.assert_array_equal(pictures.convert(own, picture), np.rint(picture.pixels * 255))
    for size, expected in ((10, (10, 15, 3)), ((8, 8), (8, 8, 3))):
        sized = Conversion(function, input_range=(0, 1), output_range=(-2, 2), size=size)
        assert pictures.convert(sized, picture).shape == expected


def test_alpha_is_kept_beside_the_colours():
    rgba = noise(6, 8, 4)
    rgba[0, :, 3], rgba[1, :, 3], rgba[2:, :, 3] = 0, 255, np.maximum(rgba[2:, :, 3], 40)
    alpha = rgba[..., 3:] / np.float32(255)
    picture = Picture(rgba[..., :3] / np.float32(255) * alpha + 1 - alpha, alpha[..., 0])
    result = pictures.convert(SAME, picture)
    np.testing.assert_array_equal(result[..., 3], rgba[..., 3])
    np.testing.assert_allclose(result[1:], rgba[1:], atol=1)
    large = pictures.convert(DOUBLE, picture)
    assert large.shape == (12, 16, 4)
    # On white it looks as the network made it, wherever the enlarged alpha can show that.
    opaque = large[..., 3:] == 255
    on_white = picture.pixels.repeat(2, 0).repeat(2, 1) * 255
    np.testing.assert_allclose(np.where(opaque, large[..., :3] - on_white, 0), 0, atol=0.51)


def test_gray_stays_gray_for_tasks_that_keep_colours():
    gray = Picture((noise(4, 4, 1) / 255).astype("float32"))
    assert pictures.convert(DOUBLE, gray).shape == (8, 8, 1)
    assert pictures.convert(SAME, gray).shape == (4, 4, 3)
    colour = Picture((noise(4, 4, 3) / 255).astype("float32"))
    one = Conversion(lambda images, on_tile: images, channels=1)
    assert pictures.convert(one, colour).shape == (4, 4, 1)


# -------------------------------------------------------------------- files


def test_results_lie_beside_pictures_and_are_no_pictures_of_the_next_run(tmp_path):
    save(tmp_path / "a.png", noise(4, 4, 3))
    save(tmp_path / "b.jpg", noise(4, 4, 3))
    (tmp_path / "notes.txt").write_text("no picture")
    outcomes = convert_all(tmp_path)
    assert [o.target.name for o in outcomes] == ["a_new.png", "b_new.png"]
    assert {o.status for o in outcomes} == {"written"}
    np.testing.assert_array_equal(load(tmp_path / "a_new.png"), load(tmp_path / "a.png"))
    times = [o.target.stat().st_mtime_ns for o in outcomes]
    again = convert_all(tmp_path)
    assert [o.status for o in again] == ["exists", "exists"]
    assert [o.target.stat().st_mtime_ns for o in again] == times
    assert [o.status for o in convert_all(tmp_path, overwrite=True)] == ["written", "written"]
    every = sorted(tmp_path.glob("*.*g"))  # as a shell names them
    assert [file.name for file in pictures.find_sources(every, "_new")] == ["a.png", "b.jpg"]
    assert pictures.find_sources([tmp_path / "a_new.png"], "_new") == [tmp_path / "a_new.png"]


def test_a_picture_is_replaced_only_when_told(tmp_path):
    path = save(tmp_path / "a.png", noise(4, 4, 3))
    before = load(path)
    with pytest.raises(PictureError, match="would replace the picture"):
        convert_all(tmp_path, suffix="")
    np.testing.assert_array_equal(load(path), before)
    negative = Conversion(lambda images, on_tile: -images)
    assert convert_all(tmp_path, negative, suffix="", overwrite=True)[0].status == "written"
    np.testing.assert_array_equal(load(path), 255 - before)


def test_unreadable_files_are_reported_and_skipped(tmp_path):
    whole = save(tmp_path / "a.png", noise(40, 40, 3)).read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "c.jpg").write_text("no picture")
    save(tmp_path / "d.png", noise(4, 4, 3))
    outcomes = convert_all(tmp_path)
    assert [o.status for o in outcomes] == ["written", "unreadable", "unreadable", "written"]
    assert "c.jpg' cannot be read as a picture" in outcomes[2].problem
    assert not (tmp_path / "b_new.png").exists()


def test_a_thousand_pictures_stream_and_go_on_after_a_stop(tmp_path):
    for index in range(1000):
        save(tmp_path / f"{index:04}.png", np.full((2, 2, 3), index % 256, np.uint8))
    calls = []

    def function(images, on_tile):
        calls.append(images.shape)
        if len(calls) == 300:
            raise KeyboardInterrupt
        return images

    with pytest.raises(KeyboardInterrupt):
        convert_all(tmp_path, Conversion(function))
    assert len(list(tmp_path.glob("*_new.png"))) == 299
    outcomes = convert_all(tmp_path, Conversion(function))
    assert [o.status for o in outcomes] == ["exists"] * 299 + ["written"] * 701
    assert len(calls) == 1001  # one at a time, none twice but the one that was stopped
    assert set(calls) == {(1, 2, 2, 3)}


def test_no_half_file_stays(tmp_path, monkeypatch):
    save(tmp_path / "a.png", noise(4, 4, 3))

    def fail(self, path, **options):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        convert_all(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_globs_and_folders_keep_their_subfolders_apart(tmp_path):
    for name in ("x/1.png", "y/1.png", "y/2.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save(tmp_path / name, noise(2, 2, 3))
    files = pictures.find_sources([tmp_path / "**" / "*.*", tmp_path / "x"])
    assert [file.name for file in files] == ["1.png", "1.png", "2.jpg"]
    targets = pictures.name_targets(files, "_t", tmp_path / "out")
    assert [str(t.relative_to(tmp_path)) for t in targets] == [
        "out/x/1_t.png", "out/y/1_t.png", "out/y/2_t.png",
    ]  # fmt: skip
    with pytest.raises(PictureError, match="name a folder"):
        pictures.name_targets(files, "", "all.png")
    assert pictures.name_targets(files[:1], "", "one.png")[0].name == "one.png"


def test_pictures_of_one_name_do_not_share_a_result(tmp_path):
    for name in ("a.png", "a.jpg", "b.jpg"):
        save(tmp_path / name, noise(2, 2, 3))
    targets = pictures.name_targets(pictures.find_sources([tmp_path]), "_t")
    assert [t.name for t in targets] == ["a_jpg_t.png", "a_png_t.png", "b_t.png"]


def test_sources_that_are_not_there_are_named(tmp_path):
    with pytest.raises(PictureError, match="no file or folder"):
        pictures.find_sources([tmp_path / "missing"])
    with pytest.raises(PictureError, match=r"the pattern .*\*\.png' has no images"):
        pictures.find_sources([tmp_path / "*.png"])
    with pytest.raises(PictureError, match="the folder .* has no pictures"):
        pictures.find_sources([tmp_path])


def test_colour_profiles_go_with_the_colours(tmp_path):
    save(tmp_path / "a.png", noise(4, 4, 3), icc_profile=b"profile")
    save(tmp_path / "g.png", noise(4, 4), icc_profile=b"gray profile")
    outcomes = convert_all(tmp_path)
    profiles = [Image.open(outcome.target).info.get("icc_profile") for outcome in outcomes]
    assert profiles == [b"profile", None]  # the gray one became RGB


# -------------------------------------------------------------------- models


class Refiner:
    """A stand-in for a refinement model: turns pictures dark side up, of any size."""

    zoo_name, config = "refiner", Config()

    def __init__(self, size=(None, None)):
        images = keras.Input((*size, 1), name="images")
        outputs = keras.layers.Rescaling(-1.0, name="outputs")(images)
        self.network = keras.Model(images, outputs)
        ranges = {"images": (-1.0, 1.0), "outputs": (-1.0, 1.0)}
        self.endpoints = {"refine": Endpoint(self.network, ranges)}

    def refine(self, images):
        return self.network(images).numpy()


def test_refining_keeps_the_size_and_gray(tmp_path):
    path = save(tmp_path / "a.png", noise(9, 7))
    (outcome,) = conversion.convert_files(Refiner(), "refine", [path])
    assert outcome.target.name == "a_refined.png"
    np.testing.assert_array_equal(load(outcome.target), 255 - load(path))
    (outcome,) = conversion.convert_files(Refiner((4, 6)), "refine", [path], suffix="_small")
    assert load(outcome.target).shape == (4, 6)


@pytest.mark.parametrize("name, unit", [("pix2pix", 16), ("cyclegan", 4)])
def test_translation_keeps_the_own_size_of_a_picture(name, unit, tmp_path):
    model = tiny(name)
    path = save(tmp_path / "a.png", noise(33, 21, 3))
    (outcome,) = conversion.convert_files(model, "translate", [path])
    sides = [-(-side // unit) * unit for side in (33, 21)]
    missing = [(0, wanted - side) for wanted, side in zip(sides, (33, 21))]
    padded = np.pad(load(path) / np.float32(127.5) - 1, [*missing, (0, 0)], mode="reflect")
    expected = (model.translate(padded)[0, :33, :21] + 1) * 127.5
    np.testing.assert_allclose(load(outcome.target), expected, atol=0.51)
    (outcome,) = conversion.convert_files(model, "translate", [path], size=16, suffix="_16")
    assert load(outcome.target).shape == (25, 16, 3)


def test_directions_and_tiles_reach_the_model(tmp_path, monkeypatch):
    model, counts = tiny("cyclegan"), []
    path = save(tmp_path / "a.png", noise(32, 32, 3))
    there, back, tiled = (
        load(next(conversion.convert_files(model, "translate", [path], suffix=suffix, **options)).target)
        for suffix, options in [
            ("_there", {}), ("_back", {"direction": "b_to_a"}),
            ("_tiled", {"tile": 8, "on_tile": lambda *count: counts.append(count)}),
        ]
    )  # fmt: skip
    assert np.abs(there.astype(int) - back).max() > 0
    np.testing.assert_allclose(tiled, there, atol=1)
    assert counts[-1][0] == counts[-1][1] > 1
    monkeypatch.setattr(conversion, "DEFAULT_TILE", 8)  # so that this picture is a large one
    counts.clear()
    options = {"suffix": "_large", "on_tile": lambda *count: counts.append(count)}
    (outcome,) = conversion.convert_files(model, "translate", [path], **options)
    np.testing.assert_allclose(load(outcome.target), there, atol=1)
    assert len(counts) > 1
    with pytest.raises(ValueError, match="no directions"):
        conversion.make_conversion(Refiner(), "refine", direction="b_to_a")
    with pytest.raises(ValueError, match="one piece"):
        conversion.make_conversion(Refiner(), "refine", tile=64)


def test_upscaling_a_large_picture_in_tiles(tmp_path):
    model, counts = tiny("srgan"), []
    path = save(tmp_path / "a.png", noise(18, 26, 4))
    how = conversion.make_conversion(model, "upscale", tile=8)
    result = pictures.convert(how, pictures.read(path), lambda *count: counts.append(count))
    whole = pictures.convert(conversion.make_conversion(model, "upscale"), pictures.read(path))
    assert result.shape == (72, 104, 4)
    assert counts[-1] == (12, 12)
    np.testing.assert_allclose(result.astype(int), whole, atol=1)
