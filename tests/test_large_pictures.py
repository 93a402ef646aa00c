"""A camera's photograph through the program at paper size: memory, size, no seams. Minutes each: `slow`."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tf_gan_zoo import zoo

ROOT = Path(__file__).resolve().parent.parent
GIGABYTE = 1024**2  # in the unit of ru_maxrss, kilobytes
Image.MAX_IMAGE_PIXELS = None  # four times a camera's sides are more than Pillow takes from strangers
PROGRAM = """
import resource, sys
from tf_gan_zoo import cli
try:
    cli.main(sys.argv[1:])
except SystemExit as ended:
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    sys.exit(ended.code)
"""


def smooth_photo(path, height, width):
    """Clouds of colour with grain, as large as a camera's picture."""
    rng = np.random.default_rng(0)
    clouds = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((width, height))
    grain = rng.integers(-20, 21, (height, width, 1))
    Image.fromarray(np.clip(np.asarray(clouds) + grain, 0, 255).astype(np.uint8)).save(path)


def run(*arguments):
    """The program's peak memory in gigabytes, in a process of its own."""
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return int(result.stdout.split("peak")[1]) / GIGABYTE


@pytest.mark.slow  # a quarter of an hour for srgan, minutes for the others, on 2 cores
@pytest.mark.parametrize("task, name, scale", [
    ("translate", "pix2pix", 1), ("translate", "cyclegan", 1), ("upscale", "srgan", 4),
])  # fmt: skip
def test_a_photo_of_12_megapixels_needs_less_than_8_gigabytes(task, name, scale, tmp_path):
    smooth_photo(tmp_path / "photo.png", 3000, 4000)
    peak = run(task, name, tmp_path / "photo.png", "--weights", "none", "--out", tmp_path / "result.png")
    print(f"{task} with {name}: {peak:.2f} GB")
    assert peak < 8
    with Image.open(tmp_path / "result.png") as result:
        assert result.size == (4000 * scale, 3000 * scale)


@pytest.mark.slow  # upscales 1.3 megapixels at paper size
def test_no_seam_where_tiles_meet(tmp_path):
    smooth_photo(tmp_path / "photo.png", 1000, 1300)
    run("upscale", "srgan", tmp_path / "photo.png", "--weights", "none", "--out", tmp_path / "result.png")
    photo = np.asarray(Image.open(tmp_path / "photo.png"), "float32") / 255
    # By default tiles of 256 pixels: this part has the corner of four in its middle.
    part = zoo.get("srgan").upscale(photo[512 - 80 : 512 + 80, 512 - 80 : 512 + 80])[0]
    expected = np.clip((part + 1) * 127.5, 0, 255)[160:-160, 160:-160]
    shown = np.asarray(Image.open(tmp_path / "result.png"))[(512 - 40) * 4 : (512 + 40) * 4][:, 1888:2208]
    np.testing.assert_allclose(shown, expected, atol=0.51)
