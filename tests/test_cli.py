"""The program: fast help, one-line errors, files in and files out."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import tiny
from PIL import Image

from tf_gan_zoo import cli, registry
from tf_gan_zoo import train as training

REPOSITORY = Path(__file__).parent.parent
TINY = [f"--set={name}={value}" for name, value in registry.get_spec("dcgan").tiny.items()]


def call(capsys, *arguments):
    """Runs the program in this process: (exit status, standard output, standard error)."""
    with pytest.raises(SystemExit) as ended:
        cli.main([str(word) for word in arguments])
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


@pytest.fixture
def use(monkeypatch):
    """Makes commands use this model, so that they need no trained weights."""

    def put(model):
        monkeypatch.setattr(training, "load_model", lambda name, weights: model)

    return put


def test_help_answers_without_tensorflow():
    check = (
        "import sys, tf_gan_zoo.cli as c\n"
        "try: c.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('tensorflow', 'keras', 'numpy') if m in sys.modules])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", check], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    assert printed.strip().endswith("[]")
    assert all(command in printed for command in ("train", "list", "info", "sample", "translate", "upscale"))


def test_help_takes_less_than_a_second():
    before = os.times()
    subprocess.run(
        [sys.executable, "-m", "tf_gan_zoo", "--help"], cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL
    )
    after = os.times()  # processor time, since other work on the machine stretches the wall clock
    used = after.children_user - before.children_user + after.children_system - before.children_system
    assert used < 1.0


def test_dry_run_prints_the_resolved_recipe(capsys, tmp_path):
    status, printed, _ = call(
        capsys, "train", "dcgan", "--data", "folder:x", "--set", "epochs=7", "--set", "learning_rate=1e-3",
        "--dry-run", "--out", tmp_path / "run",
    )  # fmt: skip
    recipe = yaml.safe_load(printed)
    assert status == 0
    assert (recipe["data"], recipe["epochs"], recipe["learning_rate"]) == ("folder:x", 7, 0.001)
    assert set(recipe) == set(registry.get_spec("dcgan").config_cls.field_names())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments,words",
    [
        (["train", "dcgn", "--out", "x"], "Did you mean 'dcgan'"),
        (["train", "dcgan", "--set", "epoch=3", "--out", "x"], "Did you mean 'epochs'"),
        (["train", "dcgan", "--set", "epochs=many", "--out", "x"], "DCGANConfig.epochs"),
        (["train", "dcgan", "--set", "epochs", "--out", "x"], "expected NAME=VALUE"),
        (["train", "dcgan", "--data", "folder:/no/such", "--out", "x"], "/no/such"),
        (["train", "dcgan", "--data", "glyphs", "--strategy", "two", "--out", "x"], "auto, one, mirrored"),
        (["sample", "dcgan", "--weights", "/no/such.npz"], "/no/such.npz"),
        (["list", "--task", "generatoin"], "Did you mean 'generation'"),
        (["info", "nothing"], "nothing"),
    ],
)
def test_our_errors_are_one_line_and_exit_with_2(arguments, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, error = call(capsys, *arguments)
    assert status == 2
    assert error.startswith("error: ")
    assert words in error
    assert "Traceback" not in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_debug_shows_the_traceback():
    from tf_gan_zoo.registry import UnknownNameError

    with pytest.raises(UnknownNameError):
        cli.main(["info", "nothing", "--debug"])


def test_train_needs_a_folder(capsys):
    status, _, error = call(capsys, "train", "dcgan")
    assert status == 2
    assert "--out" in error


def test_train_then_sample_from_the_run_folder(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = ["train", "dcgan", "--data", "glyphs", *TINY, "--set=data_options={num_examples: 64}",
           "--set=steps_per_epoch=2", "--out", "runs/a"]  # fmt: skip
    status, printed, _ = call(capsys, *run)
    assert status == 0
    assert "Finished: runs/a" in printed
    assert "images_per_second" in printed
    assert printed.startswith("glyphs: 64 examples in use")
    status, _, error = call(capsys, *run)
    assert status == 2
    assert "--resume" in error
    status, printed, _ = call(capsys, "sample", "runs/a", "--count", 4, "--seed", 3)
    assert (status, printed.strip()) == (0, "a.png")
    expected = training.sample_grid(training.load_model("runs/a"), 4, 3)
    np.testing.assert_array_equal(np.asarray(Image.open("a.png")), expected)


def test_list_info_and_datasets(capsys, tmp_path):
    for name in ("train", "extra"):
        (tmp_path / name).mkdir()
        Image.new("L", (2, 2)).save(tmp_path / name / "a.png")
    status, printed, _ = call(capsys, "list", "--task", "generation")
    assert status == 0
    assert "dcgan" in printed
    assert "pix2pix" not in printed
    status, printed, _ = call(capsys, "info", "dcgan")
    assert status == 0
    assert "generator: 18,885,760" in printed
    assert "https://arxiv.org/abs/1511.06434" in printed
    status, printed, _ = call(capsys, "datasets")
    assert status == 0
    assert {"glyphs", "folder:...", "idx:..."} <= set(printed.split())
    status, printed, _ = call(capsys, "datasets", "emoji")
    assert status == 0
    assert "emoji:..." in printed
    assert "npm" in printed
    status, printed, _ = call(capsys, "datasets", f"folder:{tmp_path}", "--set", "split_folders=false")
    assert (status, printed) == (0, f"folder:{tmp_path}: 2 images, 2 classes, split train/test by name\n")
    status, _, error = call(capsys, "datasets", "tfds:no_such_set")
    assert status == 2
    assert "tf-gan-zoo datasets tfds:no_such_set --download" in error
    status, _, error = call(capsys, "datasets", "emojis")
    assert status == 2
    assert "Did you mean 'emoji'" in error


def test_sample_refuses_labels_of_an_unconditional_model(capsys, use):
    use(tiny("dcgan"))
    status, _, error = call(capsys, "sample", "dcgan", "--labels", "0,1")
    assert status == 2
    assert "not conditioned on labels" in error
    status, _, error = call(capsys, "sample", "dcgan", "--labels", "a")
    assert status == 2
    assert "whole numbers" in error


def test_interpolate_writes_a_gif(capsys, use, tmp_path):
    use(tiny("dcgan"))
    status, _, _ = call(capsys, "interpolate", "dcgan", "--out", tmp_path / "walk.gif")
    assert status == 0
    with Image.open(tmp_path / "walk.gif") as gif:
        assert gif.n_frames == 72


@pytest.fixture
def photos(tmp_path):
    """A folder with two pictures and a file that is none."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 10, 14, 3), dtype=np.uint8)
    for name, picture in zip("ab", pixels):
        Image.fromarray(picture).save(tmp_path / f"{name}.png")
    (tmp_path / "c.jpg").write_text("no picture")
    return tmp_path


def test_translate_goes_through_a_folder_and_goes_on(capsys, use, photos):
    use(tiny("cyclegan"))
    status, printed, error = call(capsys, "translate", "cyclegan", photos)
    results = [photos / f"{name}_translated.png" for name in "ab"]
    assert (status, printed.split()) == (3, [str(path) for path in results])
    assert "skipped: " in error
    assert "c.jpg' cannot be read as a picture" in error
    assert "2 written, 1 unreadable\nwithout a result:\n  " in error
    assert Image.open(results[0]).size == (14, 10)
    status, printed, error = call(capsys, "translate", "cyclegan", photos / "*.png")
    assert (status, printed) == (0, "")
    assert "0 written, 2 there already (--overwrite makes them anew)" in error
    status, printed, _ = call(
        capsys, "translate", "cyclegan", photos / "a.png", photos / "b.png", "--direction", "b_to_a",
        "--out", photos / "out", "--size", "16x8", "--suffix", "_back",
    )  # fmt: skip
    assert (status, len(printed.split())) == (0, 2)
    assert Image.open(photos / "out" / "a_back.png").size == (8, 16)


def test_names_that_are_not_utf_8_go_in_and_out(capfd, use, photos):
    use(tiny("cyclegan"))
    folder = os.path.join(os.fsencode(photos), b"caf\xe9")
    os.mkdir(folder)
    os.rename(photos / "a.png", os.path.join(folder, b"\xff.jfif"))  # PNG in truth, which is no matter
    for status, written in ((3, "1 written"), (3, "1 there already")):
        words = ["translate", "cyclegan", os.fsdecode(folder), photos / "c.jpg", "--out", photos / "out"]
        ended, _, error = call(capfd, *words, "--recursive", "--allow-large", "--format", "jpg")
        assert ended == status
        assert written in error
    assert os.listdir(os.path.join(os.fsencode(photos), b"out", b"caf\xe9")) == [b"\xff_translated.jpg"]


def test_upscale_takes_any_size(capsys, use, photos):
    use(tiny("srgan"))
    status, _, _ = call(capsys, "upscale", "srgan", photos / "a.png", "--suffix", "_x4", "--tile", 8)
    assert status == 0
    assert Image.open(photos / "a_x4.png").size == (56, 40)


def test_pictures_are_not_replaced_by_accident(capsys, use, photos):
    use(tiny("cyclegan"))
    before = (photos / "a.png").read_bytes()
    status, _, error = call(capsys, "translate", "cyclegan", photos / "a.png", "--suffix", "")
    assert status == 2
    assert "would replace the picture" in error
    assert (photos / "a.png").read_bytes() == before
    status, _, error = call(capsys, "translate", "cyclegan", photos / "a.png", "--size", "big")
    assert status == 2
    assert "256 or 480x640" in error
    status, _, error = call(capsys, "translate", "cyclegan", photos / "d.png")
    assert status == 2
    assert "no file or folder" in error


def test_a_task_that_a_model_cannot_do_is_refused(capsys, use, tmp_path):
    use(tiny("dcgan"))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    for task in ("translate", "upscale", "refine"):
        status, _, error = call(capsys, task, "dcgan", tmp_path)
        assert status == 2
        assert f"dcgan cannot {task}; it can generate" in error
