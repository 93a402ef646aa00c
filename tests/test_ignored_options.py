"""Options that would have no effect are refused, or have one."""

import os

import numpy as np
import pytest
from conftest import tiny
from typer.testing import CliRunner

from tf_gan_zoo import cli, conversion, latents, present
from tf_gan_zoo import train as training
from tf_gan_zoo.cli_options import short_name
from tf_gan_zoo.export import ExportArgumentError
from tf_gan_zoo.pictures import PictureError
from tf_gan_zoo.registry import get_spec

FRAMES = np.zeros((2, 4, 4, 3), np.uint8)


@pytest.mark.parametrize("command, message", [
    (["train", "dcgan", "--out", "runs", "--metrics", "kid"], "--evaluate-every"),
    (["sweep", "dcgan", "--low", "-1"], "--code"),
    (["invert", "dcgan", "a.png", "--latents", "a.npz"], "ends in .npy"),
])  # fmt: skip
def test_options_of_other_options_are_refused_without_them(command, message):
    result = CliRunner().invoke(cli.app, command)
    assert result.exit_code == 2
    assert message in result.output


def test_animations_take_what_their_format_has(tmp_path):
    with pytest.raises(PictureError, match="levels are those of a GIF"):
        present.save_animation(FRAMES, tmp_path / "a.mp4", levels=8)
    with pytest.raises(PictureError, match="50 frames per second at most, got 60"):
        present.save_animation(FRAMES, tmp_path / "a.gif", frames_per_second=60)
    assert not list(tmp_path.iterdir())


def test_tours_follow_lines_where_asked_to():
    keys = np.array([[1.0, 0.0], [0.0, 1.0]])
    middle = latents.closed_walk(keys, 2, "lerp")[1]
    np.testing.assert_allclose(middle, [0.5, 0.5])
    np.testing.assert_allclose(latents.closed_walk(keys, 2)[1], [0.5**0.5] * 2, rtol=1e-6)
    with pytest.raises(latents.LatentError, match="expected slerp or lerp"):
        latents.closed_walk(keys, 2, "line")


def test_a_network_of_one_size_takes_no_other():
    model = tiny("pixeldtgan")
    height, width = model.endpoints["translate"].network.inputs[0].shape[1:3]
    with pytest.raises(training.RunError, match=f"can translate {height}x{width} pixels only"):
        conversion.make_conversion(model, "translate", size=height * 2)
    for size in (None, height, (height, width)):
        assert conversion.make_conversion(model, "translate", size=size).size == (height, width)


def test_exports_refuse_pictures_and_processing_where_there_are_none(tmp_path):
    model = tiny("seqgan")
    with pytest.raises(ExportArgumentError, match="processing: step takes and gives no pictures"):
        model.export(tmp_path / "a.tflite", processing=True)
    with pytest.raises(training.RunError, match="leave out --data"):
        training.example_batches(model, "glyphs", required=False)


def test_files_made_of_a_run_folder_are_named_after_it(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    assert [short_name(n) for n in (".", "dcgan.glyphs", "../run/", os.path.join("..", "run"))] == [
        "run", "dcgan.glyphs", "run", "run"
    ]  # fmt: skip


def test_a_resumed_run_keeps_its_weights_and_networks(tmp_path):
    settings = {**get_spec("dcgan").tiny, "steps_per_epoch": 1, "epochs": 1}
    mine = tiny("dcgan", **settings).generator
    options = {"data": "glyphs", "settings": settings, "out": tmp_path / "run", "verbose": 0}
    training.train("dcgan", networks={"generator": mine}, **options)
    moved = [v.numpy() for v in mine.trainable_variables]
    for given, message in [
        ({}, r"has replaced the networks .'generator'., got \[\]. Go on with the same ones"),
        ({"networks": {"generator": mine}, "weights": "pretrained"}, "began with weights=None"),
    ]:
        with pytest.raises(training.RunError, match=message):
            training.train("dcgan", resume=True, **{**options, **given})
    loaded = training.load_model(tmp_path / "run")
    for own, saved in zip(moved, loaded.generator.trainable_variables):
        np.testing.assert_array_equal(own, saved)
    with pytest.raises(training.RunError, match="replaced networks, so it is read whole"):
        training.load_model(tmp_path / "run", weights=None)
    options["settings"]["epochs"] = 2
    training.train("dcgan", resume=True, networks={"generator": mine}, **options)
    assert int(training.load_model(tmp_path / "run").step.numpy()) == 2
