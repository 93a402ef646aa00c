"""The programs in examples/ run exports without this package and show what Keras shows."""

import http.client
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from conftest import tiny

import tf_gan_zoo as zoo

EXAMPLES = Path(__file__).parents[1] / "examples"
SERVE, CLIENT, WEB = EXAMPLES / "tensorflow_app/serve.py", EXAMPLES / "phone/client.py", EXAMPLES / "web"

#: Runs programs one after another in a process where some modules cannot be imported.
_RUN_WITHOUT = """
import json, runpy, sys
blocked, program, calls = json.loads(sys.argv[1])
for name in blocked:
    sys.modules[name] = None
    try:
        __import__(name)
    except ImportError:
        continue
    raise SystemExit(f"{name} can be imported")
for arguments in calls:
    sys.argv = [program, *arguments]
    runpy.run_path(program, run_name="__main__")
"""


def run_without(blocked, program, *calls):
    """What a program prints that is called with each of the argument lists, isolated from this checkout."""
    task = json.dumps([blocked, str(program), [[str(word) for word in call] for call in calls]])
    done = subprocess.run(
        [sys.executable, "-I", "-c", _RUN_WITHOUT, task], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def imported(file):
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_png(file):
    return tf.io.decode_png(tf.io.read_file(str(file))).numpy()


def to_bytes(pictures):
    """Pictures from -1 to 1 as signed levels from 0 to 255, for differences."""
    return np.round((np.asarray(pictures) + 1) * 127.5).astype(int)


def translated(pix2pix, pixels):
    """What Keras makes of a uint8 picture, as signed levels; exports have no dropout."""
    values = pixels[None] / np.float32(127.5) - 1
    return to_bytes(pix2pix.generator(values, training=False))[0]


def tiles(file, count, side):
    """The first `count` pictures of a grid."""
    grid = read_png(file).astype(int)
    rows, columns = grid.shape[0] // side, grid.shape[1] // side
    pictures = grid.reshape(rows, side, columns, side, -1).swapaxes(1, 2)
    return pictures.reshape(rows * columns, side, side, -1)[:count]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("examples")


@pytest.fixture(scope="module")
def dcgan():
    return zoo.get("dcgan.fashion_mnist", weights="pretrained")


@pytest.fixture(scope="module")
def pix2pix():
    return zoo.get("pix2pix.emoji", weights="pretrained")


@pytest.fixture(scope="module")
def saved_dcgan(dcgan, folder):
    dcgan.export(folder / "dcgan")
    return folder / "dcgan"


@pytest.fixture(scope="module")
def small_pix2pix():
    """Untrained; takes sides that are multiples of 16."""
    return tiny("pix2pix")


@pytest.fixture(scope="module")
def saved_pix2pix(small_pix2pix, folder):
    small_pix2pix.export(folder / "pix2pix", processing=True)
    return folder / "pix2pix"


@pytest.fixture(scope="module")
def models(dcgan, pix2pix, folder):
    """What examples/web/make_models.sh makes."""
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    options = {"format": "litert", "quantize": "float16", "batch_size": 1}
    dcgan.export(folder / "models/dcgan.fashion_mnist.float16.tflite", **options)
    pix2pix.export(folder / "models/pix2pix.emoji.float16.tflite", image_size=64, **options)
    return folder / "models"


@pytest.fixture(scope="module")
def picture(folder):
    """A PNG file with opacity: an orange disc with a dark spot, (96, 96, 4)."""
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    pixels = np.zeros((96, 96, 4), "uint8")
    pixels[x**2 + y**2 < 0.9] = (250, 160, 40, 255)
    pixels[(x - 0.3) ** 2 + (y + 0.2) ** 2 < 0.05] = (60, 30, 10, 255)
    tf.io.write_file(str(folder / "disc.png"), tf.io.encode_png(pixels))
    return folder / "disc.png"


# ------------------------------------------------------------------------------- the TensorFlow program


def test_a_program_with_only_tensorflow_serves_a_saved_model(dcgan, saved_dcgan, folder):
    plain, seeded = folder / "plain.png", folder / "seeded.png"
    printed = run_without(
        ["tf_gan_zoo", "ai_edge_litert", "PIL"],
        SERVE,
        [saved_dcgan, "--count", 20, "--seed", 3, "--out", plain],
        [saved_dcgan, "--count", 5, "--seed", 7, "--seeded", "--out", seeded],
    )
    assert "20 requests in 2 calls of 'generate'" in printed
    latents = np.random.default_rng(3).standard_normal((20, 64)).astype("float32")
    expected = dcgan.generator(latents, training=False)
    assert np.abs(tiles(plain, 20, 28) - to_bytes(expected)).max() <= 1
    assert np.abs(tiles(seeded, 5, 28) - to_bytes(dcgan.generate(5, seed=7))).max() <= 1


def test_requests_that_come_together_run_together(dcgan, saved_dcgan):
    latents = np.random.default_rng(0).standard_normal((21, 64)).astype("float32")
    with imported(SERVE).BatchingServer(saved_dcgan, max_batch=8, max_wait=0.5) as server:
        futures = [server.submit(row) for row in latents]
        with pytest.raises(ValueError, match="expected float32 .*64.*got float32 .*63"):
            server.submit(latents[0, :63])
        with pytest.raises(ValueError, match="got float64"):
            server.submit(latents[0].astype("float64"))
        pictures = [future.result(timeout=60) for future in futures]
    assert server.num_calls == 3
    np.testing.assert_allclose(pictures, dcgan.generator(latents, training=False), atol=1e-5)


def test_closing_answers_what_was_handed_in(saved_dcgan):
    latents = np.zeros(64, "float32")
    server = imported(SERVE).BatchingServer(saved_dcgan, max_wait=0.2)
    futures = [server.submit(latents) for _ in range(4)]
    assert futures[3].cancel()  # must not keep the others from their answers
    server.close()
    assert all(future.done() and future.result().shape == (28, 28, 1) for future in futures[:3])
    with pytest.raises(RuntimeError, match="closed"):
        server.submit(latents)


def test_pictures_of_several_sizes_are_translated_and_failures_reach_their_caller(
    small_pix2pix, saved_pix2pix
):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (side, side, 3), "uint8") for side in (32, 48, 32)]
    with imported(SERVE).BatchingServer(saved_pix2pix, max_wait=0.5) as server:
        futures = [server.submit(p) for p in [*pictures, np.zeros((50, 50, 3), "uint8")]]
        results = [future.result(timeout=60) for future in futures[:3]]
        with pytest.raises(tf.errors.OpError):  # not a multiple of 16
            futures[3].result(timeout=60)
        assert server.submit(pictures[0]).result(timeout=60).shape == (32, 32, 3)
    for given, result in zip(pictures, results):
        assert np.abs(result - translated(small_pix2pix, given)).max() <= 1


def test_a_fixed_batch_is_filled_up(dcgan, folder):
    dcgan.export(folder / "fixed", batch_size=4, signatures=["generate"])
    latents = np.random.default_rng(0).standard_normal((6, 64)).astype("float32")
    with imported(SERVE).BatchingServer(folder / "fixed", max_wait=0.2) as server:
        pictures = [f.result(timeout=60) for f in [server.submit(row) for row in latents]]
    assert server.num_calls == 2
    np.testing.assert_allclose(pictures, dcgan.generator(latents, training=False), atol=1e-5)


def test_picture_files_are_read_onto_white(saved_pix2pix, picture, folder):
    serve = imported(SERVE)
    with serve.BatchingServer(saved_pix2pix) as server:
        pixels = serve.read_picture(str(picture), server, 64, (-1.0, 1.0))
    assert pixels.shape == (64, 64, 3)
    assert pixels.dtype == np.uint8
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[50, 32].tolist() == [250, 160, 40]
    serve.write_grid(np.stack([pixels] * 3), str(folder / "three.png"), (-1.0, 1.0))
    assert np.array_equal(tiles(folder / "three.png", 4, 64)[:3], [pixels] * 3)


# --------------------------------------------------------------------------------------- the phone


def test_a_program_with_only_litert_runs_the_files(dcgan, pix2pix, small_pix2pix, models, picture, folder):
    pytest.importorskip("PIL", reason="Pillow is not installed")
    small_pix2pix.export(folder / "bytes.tflite", "litert", processing=True)  # any size, uint8
    files = [folder / name for name in ("garment.png", "float.png", "uint8.png")]
    printed = run_without(
        ["tf_gan_zoo", "tensorflow", "keras"],
        CLIENT,
        [models / "dcgan.fashion_mnist.float16.tflite", "--seed", 2, "--out", files[0], "--threads", 1],
        [models / "pix2pix.emoji.float16.tflite", "--picture", picture, "--out", files[1], "--runs", 2],
        [folder / "bytes.tflite", "--picture", picture, "--out", files[2], "--runs", 2],
    )
    assert printed.count("ms a call") == 3
    latents = np.random.default_rng(2).standard_normal((1, 64)).astype("float32")
    assert np.abs(read_png(files[0]) - to_bytes(dcgan.generator(latents))[0]).max() <= 2  # float16
    for file, network, side in [(files[1], pix2pix, 64), (files[2], small_pix2pix, 96)]:
        expected = translated(network, _fitted(picture, side))
        assert np.abs(read_png(file) - expected).max() <= 2, file


def test_the_report_beside_a_file_tells_the_range_of_its_pictures(picture, folder):
    """srgan takes pictures from 0 to 1 and gives some from -1 to 1."""
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    srgan = tiny("srgan")
    srgan.export(folder / "srgan.tflite", "litert")
    client = imported(CLIENT).Client(folder / "srgan.tflite", threads=1)
    values = client.from_picture(image.open(picture).resize((20, 12)))
    assert values.shape == (1, 12, 20, 3)
    assert values.min() >= 0
    assert values.max() == 1
    upscaled = np.asarray(client.to_picture(client.run(values)))
    expected = to_bytes(np.clip(srgan.generator(values, training=False)[0], -1, 1))
    assert np.abs(upscaled - expected).max() <= 1


def _fitted(file, size):
    """The picture as a phone would hand it over, by Pillow."""
    from PIL import Image, ImageOps

    picture = Image.open(file)
    white = Image.new("RGBA", picture.size, "white")
    fitted = ImageOps.fit(Image.alpha_composite(white, picture).convert("RGB"), (size, size), Image.LANCZOS)
    return np.asarray(fitted)


# ----------------------------------------------------------------------------------------- the page


@pytest.fixture(scope="module")
def page(models):
    """The address of the page, served by Node."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    if not (WEB / "node_modules/.package-lock.json").is_file():  # npm writes it last
        install = ["npm", "install", "--no-audit", "--no-fund", "--fetch-retries=0"]
        done = subprocess.run(install, cwd=WEB, capture_output=True, text=True, timeout=300)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("npm error")]
            pytest.skip(f"npm cannot install LiteRT.js: {' '.join(errors[:2])}")
    server = subprocess.Popen(
        ["node", str(WEB / "server.mjs"), "0", str(models)], stdout=subprocess.PIPE, text=True
    )
    yield server.stdout.readline().strip()
    server.kill()
    server.communicate()


def test_web_page_shows_the_pictures_that_litert_gives_in_python(page, models, folder):
    browse = imported(WEB / "browse.py")
    if (program := browse.find_browser()) is None:
        pytest.skip(f"Chromium is not installed: none of {', '.join(browse.PROGRAMS)}")
    with browse.Browser(program) as browser:
        browser.open(f"{page}?seed=5&check")
        state = browser.wait_for("document.documentElement.dataset.state")
        assert state == "ready", browser.evaluate("document.getElementById('status').textContent")
        numbers = json.loads(browser.evaluate("document.getElementById('numbers').textContent"))
        shown = [browser.evaluate(_PIXELS % name) for name in ("garment", "translated")]
        first = browser.evaluate("document.getElementById('garment').toDataURL()")
        browser.evaluate("document.getElementById('new').click()")
        browser.wait_for(f"document.getElementById('garment').toDataURL() !== '{first}'")
        browser.screenshot(folder / "page.png")
    _check_latents(np.array(numbers["latents"]))
    garment = _run(models / "dcgan.fashion_mnist.float16.tflite", numbers["latents"])
    translated = _run(models / "pix2pix.emoji.float16.tflite", numbers["picture"])
    np.testing.assert_allclose(np.reshape(numbers["garment"], garment.shape), garment, atol=1e-4)
    np.testing.assert_allclose(np.reshape(numbers["translated"], translated.shape), translated, atol=1e-4)
    for pixels, values in zip(shown, (garment, translated)):
        pixels = np.reshape(pixels, (*values.shape[1:3], 4))[:, :, :3]
        assert np.abs(pixels - to_bytes(values[0])).max() <= 1
    assert read_png(folder / "page.png").shape[:2] >= (500, 900)


#: A canvas's bytes as a list.
_PIXELS = """(() => {
    const canvas = document.getElementById("%s");
    return [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data];
})()"""


def _check_latents(latents):
    assert latents.shape == (64,)
    assert abs(latents.mean()) < 0.5
    assert 0.7 < latents.std() < 1.3


def _run(file, values):
    """The output of a file with one input, for one example."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(file))
    runner = interpreter.get_signature_runner()
    ((name, details),) = runner.get_input_details().items()
    (output,) = runner(**{name: np.reshape(values, details["shape"]).astype("float32")}).values()
    return np.array(output)


@pytest.mark.parametrize(
    "path",
    ["/../README.md", "/%2e%2e/README.md", "/..%2fREADME.md", "/models/..%2f..%2fREADME.md", "/models/none"],
)
def test_the_server_keeps_to_its_folders(page, path):
    connection = http.client.HTTPConnection("127.0.0.1", int(page.rstrip("/").rpartition(":")[2]))
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    assert response.status == 404 or body == (WEB / "README.md").read_bytes()
