"""What the numbers in image files mean, against values worked out by hand: modes, depths, windows."""

import struct
import warnings
import zlib

import numpy as np
import pytest
import typer
from conftest import tiny
from PIL import Image, TiffImagePlugin

from tf_gan_zoo import cli_pictures, conversion, pictures, pixels
from tf_gan_zoo.data import DatasetError, ImageFile, load_dataset, open_dataset
from tf_gan_zoo.data.images import read_picture
from tf_gan_zoo.image_files import load_image

ORANGE = (200, 100, 50)
#: Gray of ORANGE by ITU-R BT.601: (299 * 200 + 587 * 100 + 114 * 50) / 1000, rounded.
GRAY = 124


def tiff(path, numbers):
    """A gray TIFF of any type of numbers, one strip, as other programs write it."""
    kind = {"u": 1, "i": 2, "f": 3}[numbers.dtype.kind]
    height, width = numbers.shape
    data = numbers.astype(numbers.dtype.newbyteorder("<")).tobytes()
    tags = [(256, 4, width), (257, 4, height), (258, 3, numbers.itemsize * 8), (259, 3, 1), (262, 3, 1),
            (273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, len(data)), (339, 3, kind)]  # fmt: skip
    head = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    entries = b"".join(struct.pack("<HHII", tag, form, 1, value) for tag, form, value in tags)
    path.write_bytes(head + data + struct.pack("<H", len(tags)) + entries + bytes(4))
    return path


def png16(path, numbers, key):
    """A 16-bit gray PNG in which one value is transparent."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    height, width = numbers.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in numbers)
    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"tRNS", struct.pack(">H", key))
        + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )  # fmt: skip
    return path


def read_both_ways(path, window=None):
    """As `translate` reads a file, and as training does: values from 0 to 255, (height, width, channels)."""
    read = pictures.read(path, window).pixels * 255
    trained = np.asarray(read_picture(ImageFile(str(path)), window), "float32")
    trained = trained[..., None] if trained.ndim == 2 else trained
    np.testing.assert_allclose(trained, read, atol=0.5 + 1e-3)
    return read


def image_of(mode):
    """Two pixels of a mode: ORANGE (or its gray) and one that is transparent or white."""
    whites = {"LA": (0, 0), "La": (0, 0), "RGBA": (0, 0, 0, 0), "RGBa": (0, 0, 0, 0)}
    direct = {
        "1": (0, 1), "L": (GRAY, 255), "LA": ((GRAY, 255), whites["LA"]), "La": ((GRAY, 255), whites["La"]),
        "RGB": (ORANGE, (255, 255, 255)), "RGBA": ((*ORANGE, 255), whites["RGBA"]),
        "RGBa": ((*ORANGE, 255), whites["RGBa"]), "RGBX": ((*ORANGE, 0), (255, 255, 255, 9)),
        "CMYK": ((55, 155, 205, 0), (0, 0, 0, 0)), "HSV": ((14, 191, 200), (0, 0, 255)),
        "YCbCr": ((124, 86, 182), (255, 128, 128)), "I": (-(2**31), 2**31 - 1), "F": (0.0, 1.0),
        "I;16": (0, 65535), "I;16L": (0, 65535), "I;16B": (0, 65535), "I;16N": (0, 65535),
        # D50 Lab of ORANGE: L 54.2 of 100, a and b 38.2 and 46.2 from the middle, 128.
        "LAB": ((138, 166, 174), (255, 128, 128)),
    }  # fmt: skip
    if mode in ("P", "PA"):
        image = Image.new("P", (2, 1), 0)
        image.putpalette([*ORANGE, 255, 255, 255])
        image.putpixel((1, 0), 1)
        return image.convert(mode)
    image = Image.new(mode, (2, 1))
    for x, value in enumerate(direct[mode]):
        image.putpixel((x, 0), value)
    return image


@pytest.mark.parametrize("mode", sorted({*Image.MODES, "I;16N"}))
def test_every_mode_of_pillow(mode):
    """The table covers what this Pillow has, so that a new mode is noticed."""
    shown = pixels.to_pixels(image_of(mode)).values * 255
    black = mode == "1" or mode[0] in "IF"
    gray = mode in ("L", "LA", "La")
    expected = [0] if black else [GRAY] if gray else list(ORANGE)
    # Two conversions between color spaces with 8 bits between them.
    tolerance = {"LAB": 2, "YCbCr": 2, "HSV": 2}.get(mode, 0.01)
    np.testing.assert_allclose(shown[0, 0], expected, atol=tolerance)
    np.testing.assert_allclose(shown[0, 1], 255, atol=tolerance)
    flat, _ = pixels.to_bytes(image_of(mode))
    assert flat.mode == ("L" if black or gray else "RGB")
    np.testing.assert_allclose(np.asarray(flat).reshape(shown.shape), shown, atol=0.501)


@pytest.mark.parametrize("dtype, numbers, window, expected", [
    ("uint8", [0, 51, 255], None, [0, 51, 255]),
    ("uint8", [0, 51, 255], (51, 102), [0, 0, 255]),
    ("uint16", [0, 13107, 65535], None, [0, 51, 255]),
    ("uint16", [0, 819, 4095], (0, 4095), [0, 51, 255]),
    ("int16", [-32768, -19661, 32767], None, [0, 51, 255]),
    ("int16", [-1000, -200, 3000], (-1000, 3000), [0, 51, 255]),
    ("uint32", [0, 858993459, 4294967295], None, [0, 51, 255]),
    ("uint32", [4294967000, 4294967051, 4294967255], "min_max", [0, 51, 255]),
    ("int32", [-2147483648, -1288490189, 2147483647], None, [0, 51, 255]),
    ("int32", [10, 20, 60], "min_max", [0, 51, 255]),
    ("float32", [0, 0.2, 1], None, [0, 51, 255]),
    ("float32", [-40, -20, 60], (-40, 60), [0, 51, 255]),
    ("float32", [-50, -20, 70], (-40, 60), [0, 51, 255]),
    ("float32", [1e-6, 1.2e-6, 2e-6], "min_max", [0, 51, 255]),
])  # fmt: skip
def test_depths_and_windows_of_files(tmp_path, dtype, numbers, window, expected):
    path = tiff(tmp_path / "a.tif", np.array([numbers], dtype))
    np.testing.assert_allclose(read_both_ways(path, window)[0, :, 0], expected, atol=0.01)


def test_types_are_known_of_other_formats_and_turned_files(tmp_path):
    numbers = np.array([[0, 13107, 65535]], np.uint16)
    Image.fromarray(numbers).save(tmp_path / "a.png")
    Image.fromarray(numbers).save(tmp_path / "a.pgm")
    (tmp_path / "b.pgm").write_bytes(b"P2 3 1 1000 0 200 1000\n")
    for name in ("a.png", "a.pgm", "b.pgm"):
        np.testing.assert_allclose(read_both_ways(tmp_path / name)[0, :, 0], [0, 51, 255], atol=0.01)
    turned = TiffImagePlugin.ImageFileDirectory_v2()
    turned[274], turned[339] = 6, 2  # lies on its side
    Image.fromarray(np.array([[-(2**31), 2**31 - 1]], np.int32)).save(tmp_path / "t.tif", tiffinfo=turned)
    assert load_image(tmp_path / "t.tif").size == (1, 2)
    np.testing.assert_allclose(read_both_ways(tmp_path / "t.tif")[:, 0, 0], [0, 255])


def test_transparency_of_every_kind_lies_on_white(tmp_path):
    palette = image_of("P")
    palette.save(tmp_path / "key.png", transparency=0)
    palette.save(tmp_path / "table.png", transparency=bytes([51, 255]))
    Image.new("L", (1, 1), 7).save(tmp_path / "gray.png", transparency=7)
    Image.new("RGB", (1, 1), ORANGE).save(tmp_path / "color.png", transparency=ORANGE)
    png16(tmp_path / "deep.png", np.array([[1000, 1001]]), key=1000)
    assert read_both_ways(tmp_path / "gray.png").tolist() == [[[255]]]
    for name in ("key.png", "color.png"):
        np.testing.assert_allclose(read_both_ways(tmp_path / name)[0, 0], 255, atol=1e-3)
    partly = [0.2 * color + 0.8 * 255 for color in ORANGE]
    np.testing.assert_allclose(read_both_ways(tmp_path / "table.png")[0, 0], partly, atol=1e-3)
    deep = pictures.read(tmp_path / "deep.png")
    np.testing.assert_allclose(deep.pixels[0, :, 0], [1, 1001 / 65535], atol=1e-6)
    np.testing.assert_array_equal(deep.alpha, [[0, 1]])
    half = Image.new("LA", (2, 1), (100, 51))
    np.testing.assert_allclose(pixels.to_pixels(half).values * 255, 0.2 * 100 + 0.8 * 255, atol=1e-3)
    np.testing.assert_allclose(pixels.to_pixels(half.convert("La")).values * 255, 224, atol=1)


def test_floats_outside_zero_to_one_need_a_window(tmp_path):
    path = tiff(tmp_path / "a.tif", np.array([[-40, 60]], "float32"))
    with pytest.raises(pictures.PictureError, match=r"from -40 to 60, expected 0 to 1.*value_window"):
        pictures.read(path)
    tiff(path, np.array([[0, np.nan]], "float32"))
    with pytest.raises(pictures.PictureError, match="1 values that are NaN"):
        pictures.read(path, "min_max")


@pytest.mark.parametrize("window", [(1, 1), (2, 1), (0, float("nan")), (0, 1, 2), "minmax", 3, ("0", "1")])
def test_windows_that_cannot_be(window):
    with pytest.raises(DatasetError, match="value_window"):
        open_dataset("glyphs", value_window=window)
    with pytest.raises(pixels.PixelError, match=r"value_window must be \(low, high\)"):
        pixels.check_window(window)


# -------------------------------------------------------------------- training and conversion


def measured_folder(folder, count=4):
    for k in range(count):
        numbers = np.tile(np.linspace(0, 4000, 8), (8, 1)) + 10 * k
        tiff(folder / f"{k}.tif", numbers.astype("int16"))
    return folder


def test_training_applies_the_window_and_says_what_would_be_flat(tmp_path):
    measured_folder(tmp_path)
    options = {"channels": 1, "batch_size": 1, "split": "all", "shuffle": False}
    message = r"4 image\(s\) are constant or nearly so.*0.tif and 3 more"
    with pytest.warns(UserWarning, match=message) as caught:
        open_dataset(f"folder:{tmp_path}", **options)
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batches = [*load_dataset(f"folder:{tmp_path}", value_window=[0, 4000], **options)]
    expected = np.linspace(-1, 1, 8)
    np.testing.assert_allclose(batches[0]["images"][0, 0, :, 0], expected, atol=1 / 255)


def test_without_cache_the_first_flat_image_is_named_once(tmp_path):
    measured_folder(tmp_path, count=12)
    options = {"channels": 1, "batch_size": 1, "split": "all", "cache": False}
    with pytest.warns(UserWarning, match="constant or nearly so") as caught:
        assert len([*load_dataset(f"folder:{tmp_path}", **options)]) == 12
    assert len(caught) == 1
    for path in tmp_path.iterdir():
        tiff(path, np.full((8, 8), 7, "float32"))
    with pytest.raises(DatasetError, match=r"None of the pictures.*floating-point values from 7 to 7"):
        open_dataset(f"folder:{tmp_path}", **options)


def test_windows_of_arrays(tmp_path):
    images = np.arange(3 * 4, dtype="int32").reshape(3, 2, 2) * 100 - 400
    np.savez(tmp_path / "a.npz", images=images)
    options = {"batch_size": 3, "split": "all", "shuffle": False, "value_range": (0, 1)}
    with pytest.raises(DatasetError, match="got -400 to 700. For measured data give value_window"):
        open_dataset(f"npz:{tmp_path / 'a.npz'}", **options)
    for window, low, width in (((-400, 700), -400, 1100), ("min_max", images[:, :1, :1], 300)):
        (batch,) = load_dataset(f"npz:{tmp_path / 'a.npz'}", value_window=window, **options)
        np.testing.assert_allclose(batch["images"][..., 0], (images - low) / width, atol=0.51 / 255)


@pytest.mark.parametrize("task, name", [("translate", "pix2pix"), ("upscale", "srgan")])
def test_conversion_takes_the_window_of_training(tmp_path, task, name):
    """The same file is the same to a network, whether it is trained on it or converts it."""
    model = tiny(name, channels=1, data_options={"value_window": [0, 4000]})
    own = conversion.make_conversion(model, task)
    assert own.value_window == (0, 4000)
    other = conversion.make_conversion(model, task, value_window="min_max")
    measured_folder(tmp_path, count=1)
    (flat,) = conversion.convert_files(tiny(name, channels=1), task, [tmp_path], out=tmp_path / "new")
    assert flat.flat
    for how in (own, other):
        picture = pictures.read(tmp_path / "0.tif", how.value_window)
        np.testing.assert_allclose(picture.pixels[0, :, 0], np.linspace(0, 1, 8), atol=1e-3)
        assert not picture.flat


def test_windows_from_the_shell():
    assert cli_pictures._window("0,4095") == (0, 4095)
    assert cli_pictures._window("min_max") == "min_max"
    assert cli_pictures._window(None) is None
    for text in ("0", "0,a", "5,1", "maximum", "1,2,3"):
        with pytest.raises(typer.BadParameter, match="expected LOW,HIGH"):
            cli_pictures._window(text)
