"""Damaged weights files: loaded whole or not at all, and every refusal is a WeightsError."""

import io
import random
import time
import warnings
import zipfile

import numpy as np
import pytest

import tf_gan_zoo as zoo
from tf_gan_zoo import weights
from tf_gan_zoo.fetch import WeightsError


@pytest.fixture(scope="module")
def model():
    return zoo.get("dcgan", image_size=8, channels=1, width=2, latent_size=4)


@pytest.fixture(scope="module")
def archive(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "good.npz"
    weights.save(model, path, optimizers=True)
    return path


def repacked(archive, name, content):
    """The archive with one of its members replaced, checksums and all."""
    out = io.BytesIO()
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            new.writestr(item.filename, content if item.filename == name else old.read(item))
    return out.getvalue()


def damaged(archive, draw):
    """The archive with random damage: to its bytes, to its length, to the header of one of its arrays."""
    whole, kind = archive.read_bytes(), draw.random()
    if kind < 0.1:
        return whole[: draw.randrange(len(whole))]
    if kind < 0.4:
        return with_noise(whole, len(whole), draw)
    with zipfile.ZipFile(archive) as file:
        name = draw.choice(file.namelist())
        content = file.read(name)
    if kind < 0.5:
        return repacked(archive, name, content[: draw.randrange(len(content))])
    return repacked(archive, name, with_noise(content, 128, draw))


def with_noise(content, within, draw):
    content = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 8])):
        content[draw.randrange(min(within, len(content)))] = draw.choice([draw.randrange(256), *b"0({-',"])
    return bytes(content)


def snapshot(model):
    optimizers = [v for player in model.players for v in model.player_optimizer(player).variables]
    return [np.asarray(v.numpy()).tobytes() for v in [*model.variables, *optimizers]]


def test_random_damage_is_refused_and_changes_nothing(model, archive, tmp_path):
    weights.load(model, "dcgan", archive, optimizers=True)
    draw, path, before = random.Random(0), tmp_path / "x.npz", snapshot(model)
    refused, begun = 0, time.monotonic()
    for _ in range(600):
        path.write_bytes(damaged(archive, draw))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                weights.load(model, "dcgan", path, optimizers=True)
            except WeightsError:
                refused += 1
        assert snapshot(model) == before  # harmless damage, such as to a date, changes nothing either
    assert refused > 400
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("value", [np.int64(-5), np.float32(1), np.int64([1]), np.int32(1)])
@pytest.mark.parametrize("name", ["optimizer/step", "optimizer/generator/000"])
def test_counters_are_checked_before_the_first_weight_is_assigned(model, archive, tmp_path, name, value):
    before, content = snapshot(model), io.BytesIO()
    np.save(content, value)
    (tmp_path / "x.npz").write_bytes(repacked(archive, f"{name}.npy", content.getvalue()))
    with pytest.raises(WeightsError, match=r"counts below 0|other optimizers|expected int64"):
        weights.load(model, "dcgan", tmp_path / "x.npz", optimizers=True)
    assert snapshot(model) == before
