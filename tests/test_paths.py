"""Paths as users write them: `~` everywhere, endings that say what is meant, files of another kind."""

import typing
from pathlib import Path

import numpy as np
import pytest
from conftest import difference, snapshot, tiny

import tf_gan_zoo as zoo
from tf_gan_zoo import cli, evaluation, music, paths, pictures, present, shape_files, train, weights
from tf_gan_zoo.export import ExportArgumentError, target
from tf_gan_zoo.registry import get_spec
from tf_gan_zoo.weights import WeightsError


@pytest.fixture(scope="module")
def model():
    return tiny("dcgan")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder and another working directory, in which no folder called ~ may turn up."""
    for name in ("home", "work"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    yield tmp_path / "home"
    assert not list((tmp_path / "work").iterdir())


def test_home_is_expanded_in_every_path_of_the_program(home):
    found = []
    for command in cli.app.registered_commands:
        for name, hint in typing.get_type_hints(command.callback, include_extras=True).items():
            kind, *notes = typing.get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
            if Path in (kind, *typing.get_args(kind)):
                found.append((command.callback.__name__, name))
                assert notes[0].parser("~/x") == home / "x", found[-1]
    assert {("train", "out"), ("export", "out"), ("invert", "source"), ("invert", "save_latents")} < {*found}


def test_models_and_weights_are_saved_to_and_loaded_from_home(model, home):
    model.save("~/m.keras")
    model.save_weights("~/m.weights.h5")
    weights.save(model, "~/m.npz")
    assert {path.name for path in home.iterdir()} == {"m.keras", "m.weights.h5", "m.npz"}
    assert difference(snapshot(zoo.load("~/m.keras")), snapshot(model)) == 0.0
    for source in ("~/m.weights.h5", "~/m.npz"):
        assert zoo.get("dcgan", weights=source, **get_spec("dcgan").tiny).origin["source"] == source
    tiny("dcgan").load_weights("~/m.weights.h5")


def test_results_go_to_home(home):
    picture = np.zeros((4, 4, 3), np.uint8)
    present.save_image(picture, "~/a/p.png")
    present.save_animation(np.stack([picture] * 2), "~/a/p.gif")
    shape_files.write_ply("~/a/p.ply", np.zeros((2, 3)))
    evaluation.Evaluation(metrics={}, protocol={}).save("~/a/e.json")
    music.write_midi(np.zeros((1, 16, 128)), "~/a/m.mid")
    assert {path.name for path in (home / "a").iterdir()} == {"p.png", "p.gif", "p.ply", "e.json", "m.mid"}
    assert pictures.read("~/a/p.png").pixels.shape[:2] == (4, 4)
    assert pictures.picture_files("~/a")[0].parent == home / "a"
    for out, result in (("~/b", "b/p_y.png"), ("~/b.png", "b.png")):
        assert pictures.plan(["~/a/p.png"], "_y", out)[1] == [home / result]
    with pytest.raises(train.RunError, match=f"{home}/a is not empty"):
        train.train("dcgan", out="~/a")


def test_addresses_are_no_paths():
    assert paths.expand_unless_address("gs://bucket/~/x") == "gs://bucket/~/x"


@pytest.mark.parametrize("name, message", [
    ("x.h5", r"NAME.keras.*save_weights\('NAME.weights.h5'\)"),
    ("x.weights.h5", r"model.save_weights\(path\)"),
    ("x.npz", "tf_gan_zoo.weights.save"),
    ("x", r"model.export\(path\)"),
])  # fmt: skip
def test_save_says_what_writes_other_files(model, name, message, home):
    with pytest.raises(ValueError, match=message):
        model.save(name)


@pytest.mark.parametrize("name, message", [
    ("x.weights.h5", r"holds weights.*tf_gan_zoo.get\(NAME, weights=path"),
    ("x.npz", "holds weights"), ("x.h5", "holds weights"),
    ("x.tflite", "LiteRT"), ("x.txt", "Expected a .keras file"),
    ("run/config.yaml", "run has not finished.*latest.weights.h5"),
    ("saved/saved_model.pb", "tf.saved_model.load"),
    (None, "there is no file or folder"),
])  # fmt: skip
def test_load_says_what_reads_other_files(tmp_path, name, message):
    path = tmp_path / (name or "missing.keras")
    if name:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    with pytest.raises(WeightsError, match=message):
        zoo.load(path if path.parent == tmp_path else path.parent)


def test_load_takes_the_folder_of_a_finished_run(model, tmp_path):
    (tmp_path / "config.yaml").write_text("name: dcgan\n")
    model.save(tmp_path / "model.keras")
    assert difference(snapshot(zoo.load(tmp_path)), snapshot(model)) == 0.0


def test_an_export_has_the_format_of_its_name(model, home):
    report = model.export("~/x.tflite")
    assert (report["format"], (home / "x.tflite").is_file()) == ("litert", True)
    folder = Path("exports")
    assert target(folder / "x.onnx", "dcgan") == folder / "x.onnx"
    assert target(folder, "dcgan", "litert", "int8") == folder / "dcgan.int8.tflite"
    assert target(folder, "dcgan") == folder / "dcgan"
    for path, format, message in [
        ("x.keras", None, r"model.save\('x.keras'\)"), ("x.tflite", "tf_saved_model", "writes a folder"),
        ("x.onnx", "litert", "writes FILE.tflite"), ("x", "onnx", "writes FILE.onnx"),
    ]:  # fmt: skip
        with pytest.raises(ExportArgumentError, match=message):
            model.export(path, format)
    with pytest.raises(ExportArgumentError, match="writes FILE.onnx"):
        target(Path("x.tflite"), "dcgan", "onnx")


def test_a_task_that_a_model_lacks_names_the_models_that_have_it():
    lapgan = tiny("lapgan")  # whose method `refine` adds details to its own samples
    with pytest.raises(train.RunError, match="lapgan cannot refine; it can generate. .*: simgan"):
        train.for_task(lapgan, "refine")
    with pytest.raises(train.RunError, match="cannot upscale.*: .*srgan"):
        train.for_task(lapgan, "upscale")
    assert train.for_task(lapgan, "generate") is lapgan


def test_scripts_take_paths_alike():
    files = sorted(Path(__file__).parents[1].glob("scripts/*.py"))
    assert len(files) > 10
    assert [file.name for file in files if "type=Path" in file.read_text(encoding="utf-8")] == []
