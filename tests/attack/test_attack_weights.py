"""Damaged weights files: loaded whole or not at all; random damage is tried by the standing attack."""

import io
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import tf_gan_zoo as zoo
from tf_gan_zoo import weights
from tf_gan_zoo.fetch import WeightsError

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "scripts"))

from attack import SMALL, state_of  # noqa: E402


@pytest.fixture(scope="module")
def model():
    return zoo.get("dcgan", **SMALL)


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


@pytest.mark.parametrize("value", [np.int64(-5), np.float32(1), np.int64([1]), np.int32(1)])
@pytest.mark.parametrize("name", ["optimizer/step", "optimizer/generator/000"])
def test_counters_are_checked_before_the_first_weight_is_assigned(model, archive, tmp_path, name, value):
    before, content = state_of(model), io.BytesIO()
    np.save(content, value)
    (tmp_path / "x.npz").write_bytes(repacked(archive, f"{name}.npy", content.getvalue()))
    with pytest.raises(WeightsError, match=r"counts below 0|other optimizers|expected int64"):
        weights.load(model, "dcgan", tmp_path / "x.npz", optimizers=True)
    assert state_of(model) == before


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "lambda_calculus.keras"  # a word that once was refused
    model.save(path)
    return path


def test_whole_models_come_back_and_damaged_ones_are_refused(model, saved, tmp_path):
    loaded = zoo.load(saved)
    assert state_of(loaded) == state_of(model)
    content, draw = saved.read_bytes(), np.random.default_rng(0)
    for place in draw.integers(0, len(content) - 150, 40):
        changed = bytearray(content)
        changed[place] ^= 1 << int(draw.integers(8))
        (tmp_path / "x.keras").write_bytes(changed)
        with pytest.raises(WeightsError, match="does not fit its checksum"):
            zoo.load(tmp_path / "x.keras")


@pytest.mark.parametrize("change", [
    lambda content: b"", lambda content: content[:1000], lambda content: b"PK\x03\x04" + content[4:2000],
    lambda content: content.replace(b"config.json", b"confog.json"),
])  # fmt: skip
def test_damage_without_a_checksum_is_one_kind_of_error(saved, tmp_path, change):
    (tmp_path / "x.keras").write_bytes(change(unsealed(saved)))
    with pytest.raises(WeightsError, match=r"x.keras is refused: "):
        zoo.load(tmp_path / "x.keras")


def unsealed(saved):
    return saved.read_bytes()[: saved.read_bytes().rindex(b"\ntf_gan_zoo checkpoint")]


def test_files_without_a_checksum_load_with_a_note(model, saved, tmp_path):
    (tmp_path / "old.keras").write_bytes(unsealed(saved))
    with pytest.warns(UserWarning, match="has no checksum"):
        assert state_of(zoo.load(tmp_path / "old.keras")) == state_of(model)


def test_models_of_another_kind_and_weights_of_a_failed_run_are_refused(tmp_path):
    other = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])
    other.save(tmp_path / "other.keras")
    with pytest.raises(WeightsError, match="holds a Sequential, not a model of the zoo"):
        zoo.load(tmp_path / "other.keras")
    failed = zoo.get("dcgan", **SMALL)
    kernel = failed.generator.trainable_variables[0]
    kernel.assign(np.full(kernel.shape, np.nan))
    failed.save(tmp_path / "failed.keras")
    with pytest.raises(WeightsError, match="NaN or infinite weights of generator"):
        zoo.load(tmp_path / "failed.keras")
