"""Image files that are not what they seem: other programs' formats, bombs, pipes, damaged bytes."""

import ast
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from tf_gan_zoo import image_files, pictures
from tf_gan_zoo.data import DatasetError, ImageFile, images, load_dataset, open_dataset
from tf_gan_zoo.data.images import Fit
from tf_gan_zoo.image_files import EXTENSIONS, FORMATS, ImageFileError, image_size, load_image, open_image
from tf_gan_zoo.pixels import to_bytes

ROOT = Path(__file__).resolve().parent.parent.parent
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(run) print\n%%EOF\n"


def png_header(width, height):
    """The beginning of a PNG file: a bomb's size without its weight."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    chunks = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


# -------------------------------------------------------------------- formats


def test_postscript_named_png_never_reaches_ghostscript(tmp_path, monkeypatch):
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("Ghostscript started"))
    (tmp_path / "cat.png").write_bytes(EPS)
    with pytest.raises(ImageFileError, match="not an image in a format that is opened"):
        load_image(tmp_path / "cat.png")
    with pytest.raises(pictures.PictureError, match="cat.png"):
        pictures.read(tmp_path / "cat.png")
    with pytest.raises(DatasetError), pytest.warns(UserWarning, match="cat.png"):
        load_dataset(f"folder:{tmp_path}", split="all", batch_size=1, image_size=8)


def test_every_format_is_one_of_pillows_with_all_of_its_endings():
    Image.init()
    endings = {}
    for ending, name in Image.registered_extensions().items():
        endings.setdefault(name, set()).add(ending)
    assert not {"EPS", "WMF", "FITS", "IPTC"} & set(FORMATS)
    for name in set(FORMATS) - {"AVIF"}:  # some builds of Pillow are without it
        assert name in Image.OPEN
        assert endings[name] <= set(FORMATS[name])
    assert {".jfif", ".jpe", ".avif", ".jp2", ".psd"} <= set(EXTENSIONS)


@pytest.mark.parametrize("name", [
    "BMP", "GIF", "ICO", "JPEG", "PCX", "PNG", "PPM", "SGI", "TGA", "TIFF", "WEBP",
])  # fmt: skip
def test_formats_are_read_under_each_of_their_endings(name, tmp_path):
    for ending in set(FORMATS[name]) & set(Image.registered_extensions()) - {".pfm"}:
        path = tmp_path / f"a{ending.upper()}"
        Image.new("RGB", (16, 16), (200, 30, 30)).save(path, name)
        loaded = load_image(path).convert("RGB")
        assert loaded.size == (16, 16)
        np.testing.assert_allclose(np.asarray(loaded)[8, 8], (200, 30, 30), atol=8)


def test_formats_without_a_signature_need_their_ending(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.tga")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.tga").read_bytes())
    assert image_size(tmp_path / "a.tga") == (4, 4)
    with pytest.raises(ImageFileError):
        image_size(tmp_path / "b.png")


def _opens_images(tree):
    """Lines of a module that use PIL.Image.open, however it was imported."""
    names, lines = {"Image"}, []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "PIL":
            names |= {alias.asname for alias in node.names if alias.name == "Image" and alias.asname}
        if isinstance(node, ast.ImportFrom) and node.module == "PIL.Image":
            lines += [node.lineno for alias in node.names if alias.name in ("open", "*")]
        if isinstance(node, ast.Attribute) and node.attr == "open":
            owner = node.value
            owner = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", None)
            lines += [node.lineno] if owner in names else []
    return lines


@pytest.mark.parametrize("code, found", [
    ("from PIL import Image\nImage.open('a')", [2]), ("import PIL.Image\nPIL.Image.open('a')", [2]),
    ("from PIL import Image as I\nf = I.open", [2]), ("from PIL.Image import open", [1]), ("open('a')", []),
])  # fmt: skip
def test_the_search_for_openings_finds_them(code, found):
    assert _opens_images(ast.parse(code)) == found


def test_one_module_opens_images():
    files = [*ROOT.glob("tf_gan_zoo/**/*.py"), *ROOT.glob("scripts/**/*.py")]
    found = {str(f.relative_to(ROOT)) for f in files if _opens_images(ast.parse(f.read_text("utf-8")))}
    assert found == {"tf_gan_zoo/image_files.py"}


# -------------------------------------------------------------------- sizes


def test_bombs_are_refused_before_they_are_decoded(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(9400, 9400))  # below Pillow's own limits
    for read in (open_image, load_image, image_size):
        with pytest.raises(ImageFileError, match=r"9400x9400.*88,360,000 pixels.*67,108,864.*allow_large"):
            read(path)
    with pytest.raises(ImageFileError, match="88,360,000"):
        load_image(io.BytesIO(path.read_bytes()))
    path.write_bytes(png_header(30000, 30000))  # above it
    with pytest.raises(ImageFileError):
        image_size(path)


def test_the_limits_can_be_lifted_for_one_call(tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(png_header(30000, 30000))
    limit = Image.MAX_IMAGE_PIXELS
    assert image_size(path, allow_large=True) == (30000, 30000)
    assert limit == Image.MAX_IMAGE_PIXELS
    with pytest.raises(ImageFileError):
        image_size(path)


def test_long_files_are_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "MAX_BYTES", 100)
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 9, 3), "uint8")).save(tmp_path / "a.png")
    with pytest.raises(ImageFileError, match=r"bytes, more than the 100.*allow_large"):
        open_image(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png", allow_large=True).size == (9, 9)


def test_jpeg_is_decoded_reduced_but_never_below_what_is_needed(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (400, 200), "red").save(tmp_path / "a.jpg", exif=turned)
    assert image_size(tmp_path / "a.jpg") == (400, 200)
    assert load_image(tmp_path / "a.jpg").size == (200, 400)
    assert load_image(tmp_path / "a.jpg", at_least=(50, 40)).size == (50, 100)
    assert load_image(tmp_path / "a.jpg", at_least=(60, 40)).size == (100, 200)
    assert load_image(tmp_path / "a.jpg", at_least=(300, 150)).size == (200, 400)


@pytest.mark.parametrize("cache", [True, False])
def test_large_images_are_left_out_of_training_unless_allowed(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(image_files, "MAX_PIXELS", 300)
    for name, side in (("a.png", 16), ("b.png", 20)):
        Image.new("RGB", (side, side)).save(tmp_path / name)
    options = {"split": "all", "batch_size": 1, "image_size": 8, "cache": cache}
    with pytest.warns(UserWarning, match=r"1 unusable[\s\S]*b\.png \(has 20x20"):
        assert open_dataset(f"folder:{tmp_path}", **options).num_examples == 1
    assert open_dataset(f"folder:{tmp_path}", allow_large=True, **options).num_examples == 2


@pytest.mark.parametrize("fit, half, decoded", [
    (Fit((8, 8), 3), None, (32, 16)), (Fit((8, 8), 3), "left", (64, 32)), (Fit(None, 3), None, (128, 64)),
    (Fit((8, 8), 3, "keep"), None, (128, 64)), (Fit((8, 8), 3, window="min_max"), None, (128, 64)),
])  # fmt: skip
def test_training_decodes_no_more_of_jpeg_than_it_needs(fit, half, decoded, tmp_path, monkeypatch):
    Image.new("RGB", (128, 64), "red").save(tmp_path / "a.jpg")
    seen = []
    spy = lambda image, window: (seen.append(image.size), to_bytes(image))[1]  # noqa: E731
    monkeypatch.setattr(images, "to_bytes", spy)
    file = ImageFile(str(tmp_path / "a.jpg"), half=half)
    images.read_picture(file, fit.window, enough=fit.enough)
    assert seen == [decoded]


@pytest.mark.parametrize("marks", [{"exif": True}, {"late": True}, {}])
def test_sizes_of_png_are_known_without_decoding(marks, tmp_path, monkeypatch):
    turned = Image.Exif()
    turned[0x0112] = 6
    path = tmp_path / "a.png"
    Image.new("RGB", (40, 20)).save(path, **({"exif": turned} if "exif" in marks else {}))
    if "late" in marks:  # behind the pixels, as the format allows
        chunk = b"eXIf" + turned.tobytes().removeprefix(b"Exif\0\0")
        chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        path.write_bytes(path.read_bytes()[:-12] + chunk + path.read_bytes()[-12:])
    else:
        monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("decoded"))
    assert image_size(path) == ((40, 20) if marks else (20, 40))


# -------------------------------------------------------------------- no whole files


def test_what_is_no_file_is_said_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    for name, reason in (("pipe", "pipe"), ("folder", "folder"), ("link", "gone.png"), ("none", "not there")):
        with pytest.raises(ImageFileError, match=reason):
            open_image(tmp_path / f"{name}.png")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about damaged tags
@pytest.mark.parametrize("name", ["BMP", "GIF", "JPEG", "PNG", "PPM", "PSD", "TIFF", "WEBP"])
def test_damaged_files_raise_one_kind_of_error(name):
    rng, whole = np.random.default_rng(0), io.BytesIO()
    pixels = rng.integers(0, 255, (12, 12, 3), "uint8")
    Image.fromarray(pixels).save(whole, "TIFF" if name == "PSD" else name)
    data = bytearray(b"8BPS\0\1" + bytes(40) if name == "PSD" else whole.getvalue())
    refused = 0
    for _ in range(40):
        damaged = data.copy()
        for place in rng.integers(0, len(data), 4):
            damaged[place] = rng.integers(256)
        try:
            load_image(io.BytesIO(bytes(damaged[: rng.integers(4, len(data) + 1)])))
        except ImageFileError:
            refused += 1
    assert refused > 10
