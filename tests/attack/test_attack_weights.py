"""Damaged weights files: loaded whole or not at all; random damage is tried by the standing attack."""

import io
import sys
import zipfile
from pathlib import Path

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
