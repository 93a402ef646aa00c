"""Picture files in and out: every kind of file, sizes, names, stops and restarts; and models on them."""

import errno
import os
import unicodedata

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import tiny
from PIL import Image

from tf_gan_zoo import conversion, image_files, image_writing, pictures
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


def convert_all(folder, how=SAME, suffix="_new", out=None, kind=None, recursive=False, **options):
    files, targets, kind = pictures.plan([folder], suffix, out, kind=kind, recursive=recursive)
    return list(pictures.convert_files(how, files, targets, kind=kind, **options))


def names_of(*sources, **options):
    """The names of files and of their results."""
    files, targets, _ = pictures.plan(sources, **options)
    return [file.name for file in files], [target.name for target in targets]


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
    assert names_of(*every, suffix="_new")[0] == ["a.png", "b.jpg"]
    assert names_of(tmp_path / "a_new.png", suffix="_new")[0] == ["a_new.png"]


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


def test_hundreds_of_pictures_stream_and_go_on_after_a_stop(tmp_path):
    for index in range(300):
        save(tmp_path / f"{index:04}.png", np.full((2, 2, 3), index % 256, np.uint8))
    calls = []

    def function(images, on_tile):
        calls.append(images.shape)
        if len(calls) == 100:
            raise KeyboardInterrupt
        return images

    with pytest.raises(KeyboardInterrupt):
        convert_all(tmp_path, Conversion(function))
    assert len(list(tmp_path.glob("*_new.png"))) == 99
    outcomes = convert_all(tmp_path, Conversion(function))
    assert [o.status for o in outcomes] == ["exists"] * 99 + ["written"] * 201
    assert len(calls) == 301  # one at a time, none twice but the one that was stopped
    assert set(calls) == {(1, 2, 2, 3)}


def test_no_half_file_stays(tmp_path, monkeypatch):
    save(tmp_path / "a.png", noise(4, 4, 3))

    def fail(pixels, file, *_):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(image_writing, "encode", fail)
    with pytest.raises(OSError, match=r"a_new\.png cannot be written: .*quota"):
        convert_all(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_globs_and_folders_keep_their_subfolders_apart(tmp_path):
    for name in ("x/1.png", "y/1.png", "y/2.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save(tmp_path / name, noise(2, 2, 3))
    sources = [tmp_path / "**" / "*.*", tmp_path / "x"]
    files, targets, _ = pictures.plan(sources, "_t", tmp_path / "out")
    assert [file.name for file in files] == ["1.png", "1.png", "2.jpg"]
    assert [str(t.relative_to(tmp_path)) for t in targets] == [
        "out/x/1_t.png", "out/y/1_t.png", "out/y/2_t.png",
    ]  # fmt: skip
    with pytest.raises(PictureError, match="name a folder"):
        pictures.plan(sources, "", "all.png")
    assert names_of(files[0], out="one.png")[1] == ["one.png"]


def test_pictures_of_one_name_do_not_share_a_result(tmp_path):
    for name in ("a.png", "a.jpg", "b.jpg"):
        save(tmp_path / name, noise(2, 2, 3))
    assert names_of(tmp_path, suffix="_t")[1] == ["a_jpg_t.png", "a_png_t.png", "b_t.png"]
    save(tmp_path / "a_jpg.png", noise(2, 2, 3))  # whose result would have the name of a.jpg's
    for _ in range(2):
        files, targets = names_of(tmp_path, suffix="_t")
        assert files == ["a.jpg", "a.png", "a_jpg.png", "b.jpg"]
        assert targets == ["a_jpg_t.png", "a_png_t.png", "a_jpg_png_t.png", "b_t.png"]
        convert_all(tmp_path, suffix="_t")  # results are no new pictures
    assert [o.status for o in convert_all(tmp_path, suffix="_t")] == ["exists"] * 4


def test_results_differ_where_systems_do_not_tell_small_letters_from_capitals(tmp_path):
    for name in ("A.png", "a.PNG", "a.png", "\u00e9.png", "e\u0301.png"):
        save(tmp_path / name, noise(2, 2, 3), format="PNG")
    targets = names_of(tmp_path, suffix="_t")[1]
    assert len({unicodedata.normalize("NFC", target).casefold() for target in targets}) == 5
    assert targets == names_of(tmp_path, suffix="_t")[1]


def test_subfolders_are_entered_when_told_and_keep_their_places(tmp_path):
    for name in ("x/1.png", "x/y/1.png", "x/y/z/.hidden/1.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        save(tmp_path / name, noise(2, 2, 3))
    with pytest.raises(PictureError, match=r"no images.*--recursive"):
        convert_all(tmp_path)
    outcomes = convert_all(tmp_path, suffix="", out=tmp_path / "x" / "out", recursive=True)
    assert [str(o.target.relative_to(tmp_path)) for o in outcomes] == ["x/out/x/1.png", "x/out/x/y/1.png"]
    again = convert_all(tmp_path, suffix="", out=tmp_path / "x" / "out", recursive=True)
    assert [o.status for o in again] == ["exists", "exists"]


def test_what_looks_like_an_image_but_is_none_does_not_end_a_job(tmp_path):
    save(tmp_path / "z.png", noise(2, 2, 3))
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to("nowhere.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    for sources in ([tmp_path], sorted(tmp_path.glob("l*.png")) + [tmp_path / "z.png"]):
        files, targets, _ = pictures.plan(sources, "_new")
        outcomes = list(pictures.convert_files(SAME, files, targets, overwrite=True))
        assert {o.status for o in outcomes[:-1]} == {"unreadable"}
        assert outcomes[-1].status == "written"
    problems = "\n".join(o.problem for o in convert_all(tmp_path))
    for reason in ("is a folder", "a link to nowhere.png", "a link to loop.png", "device or pipe"):
        assert reason in problems


def test_what_cannot_be_converted_or_written_is_reported(tmp_path):
    for name in ("a", "b", "c"):
        save(tmp_path / f"{name}.png", noise(2, 2, 3))
    (tmp_path / "b_new.png").mkdir()  # in the place of a result
    calls = []

    def function(images, on_tile):
        calls.append(1)
        if len(calls) == 1:
            raise MemoryError("1 TB")
        return images

    outcomes = convert_all(tmp_path, Conversion(function))
    assert [o.status for o in outcomes] == ["failed", "failed", "written"]
    assert "MemoryError: 1 TB" in outcomes[0].problem
    assert "b_new.png" in outcomes[1].problem
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_large_pictures_need_permission(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "MAX_PIXELS", 100)
    save(tmp_path / "a.png", noise(20, 20, 3))
    (outcome,) = convert_all(tmp_path)
    assert outcome.status == "unreadable"
    assert "400 pixels" in outcome.problem
    assert "--allow-large" in outcome.problem
    assert convert_all(tmp_path, allow_large=True)[0].status == "written"


# -------------------------------------------------------------------- formats and depths


@pytest.mark.parametrize("name, kind", [
    ("r.jpg", "JPEG"), ("r.JPEG", "JPEG"), ("r.jfif", "JPEG"), ("r.webp", "WEBP"), ("r.tif", "TIFF"),
    ("r.bmp", "BMP"), ("r.png", "PNG"),
])  # fmt: skip
def test_the_format_is_that_of_the_name(name, kind, tmp_path):
    pixels = np.full((6, 5, 3), (200, 60, 20), np.uint8)
    save(tmp_path / "a.png", pixels)
    (outcome,) = convert_all(tmp_path / "a.png", out=tmp_path / name)
    assert outcome.target == tmp_path / name
    with Image.open(outcome.target) as written:
        assert written.format == kind
    np.testing.assert_allclose(load(outcome.target), pixels, atol=3 if kind == "JPEG" else 0)


@pytest.mark.parametrize("kind", ["png", "webp", "tif", "png16", "npy"])
def test_transparency_is_kept_where_the_format_has_it(kind, tmp_path):
    pixels = noise(6, 5, 4)
    save(tmp_path / "a.png", pixels)
    (outcome,) = convert_all(tmp_path, kind=kind)
    if kind == "npy":
        alpha = np.load(outcome.target)[..., 3] * 255
    else:
        alpha = tf.io.decode_png(outcome.target.read_bytes(), dtype="uint16")[..., 3] / 257 if (
            kind == "png16") else load(outcome.target)[..., 3]  # fmt: skip
    np.testing.assert_allclose(alpha, pixels[..., 3], atol=1e-3)


@pytest.mark.parametrize("kind", ["jpg", "bmp"])
def test_transparency_lies_on_white_where_the_format_has_none(kind, tmp_path):
    save(tmp_path / "a.png", np.zeros((6, 5, 4), np.uint8))
    (outcome,) = convert_all(tmp_path, kind=kind)
    assert outcome.target.name == f"a_new.{kind}"
    np.testing.assert_allclose(pictures.read(outcome.target).pixels, 1, atol=1e-3)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_per_channel(channels, tmp_path):
    pixels = RNG.integers(0, 65536, (300, 7, channels), dtype=np.uint16)
    image_writing.write_image(pixels, tmp_path / "a.png", image_writing.KINDS["png16"], b"profile")
    read = tf.io.decode_png((tmp_path / "a.png").read_bytes(), dtype="uint16").numpy()
    np.testing.assert_array_equal(read, pixels)
    with Image.open(tmp_path / "a.png") as opened:
        assert opened.info["icc_profile"] == b"profile"


def test_sixteen_bits_go_in_and_out(tmp_path):
    wide = RNG.integers(0, 65536, (5, 7), dtype=np.uint16)
    save(tmp_path / "a.png", wide)
    how = Conversion(lambda images, on_tile: images, channels=1)
    for kind, read in (("png16", load), ("npy", lambda path: np.load(path)[..., 0] * 65535)):
        (outcome,) = convert_all(tmp_path / "a.png", how, kind=kind)
        np.testing.assert_allclose(read(outcome.target), wide, atol=0.02)


@pytest.mark.parametrize("shape", [(4, 6, 3), (4, 6, 1)])
def test_floats_are_not_rounded(shape, tmp_path):
    pixels = RNG.random(shape, "float32")
    image_writing.write_image(pixels, tmp_path / "a.pfm")
    image_writing.write_image(pixels, tmp_path / "a.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), pixels)
    head, size, scale, data = (tmp_path / "a.pfm").read_bytes().split(b"\n", 3)
    assert (head, size, scale) == (b"PF" if shape[-1] == 3 else b"Pf", b"6 4", b"-1.0")
    np.testing.assert_array_equal(np.frombuffer(data, "<f4").reshape(shape)[::-1], pixels)


def test_formats_that_do_not_fit_are_refused(tmp_path):
    save(tmp_path / "a.png", noise(2, 2, 3))
    with pytest.raises(ValueError, match=r"not written as \.gif, but as \.png, "):
        convert_all(tmp_path / "a.png", out="b.gif")
    with pytest.raises(PictureError, match="no format 'gif'; there are png, png16"):
        convert_all(tmp_path, kind="gif")
    with pytest.raises(PictureError, match=r"'b.png' is no name for jpg: it ends in \.jpg or"):
        convert_all(tmp_path / "a.png", out="b.png", kind="jpg")
    assert names_of(tmp_path / "a.png", out="b.png", kind="png16")[1] == ["b.png"]
    assert names_of(tmp_path / "a.png", out="v1.2")[1] == ["a.png"]  # a folder


def test_sources_that_are_not_there_are_named(tmp_path):
    with pytest.raises(PictureError, match="no file or folder"):
        pictures.plan([tmp_path / "missing"])
    with pytest.raises(PictureError, match=r"the pattern .*\*\.png' has no images"):
        pictures.plan([tmp_path / "*.png"])
    with pytest.raises(PictureError, match="the folder .* has no images"):
        pictures.plan([tmp_path])


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
