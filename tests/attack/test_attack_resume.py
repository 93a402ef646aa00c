"""Defends resumed runs: against checkpoints that are missing, cut off, changed or without optimizers.

What a run goes on from is whole and the newest, and the run says which and why; whatever would lose work is
asked about, and rows of the history that cannot be read are kept.
"""

import io
import shutil

import h5py
import keras
import numpy as np
import pytest
from conftest import tiny

from tf_gan_zoo import callbacks, checkpoints, files
from tf_gan_zoo import train as training
from tf_gan_zoo.checkpoints import LAST_GOOD, LATEST, CheckpointError
from tf_gan_zoo.registry import get_spec

SETTINGS = {
    **get_spec("dcgan").tiny, "data": "glyphs", "data_options": {"num_examples": 16}, "epochs": 1,
    "steps_per_epoch": 2,
}  # fmt: skip


def write_checkpoint(path, step, sealed=True):
    """A small HDF5 file as a checkpoint of a step."""
    memory = files.MemoryFile()
    with h5py.File(memory, "w") as file:
        file["vars/0"] = np.arange(1000.0) + step
    if sealed:
        checkpoints.seal(memory, step)
    path.write_bytes(memory.getvalue())
    return path


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-500])


# -------------------------------------------------------------------- checksums


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model and its checkpoint of step 7."""
    model, path = tiny("dcgan"), tmp_path_factory.mktemp("saved") / "a.weights.h5"
    model.step.assign(7)
    checkpoints.save(model, path)
    return model, path


def test_every_changed_or_missing_byte_is_noticed(saved, tmp_path):
    _, original = saved
    content, rng, path = original.read_bytes(), np.random.default_rng(0), tmp_path / "a.weights.h5"
    assert checkpoints.check(original) == checkpoints.Checked(original, 7, sealed=True)
    for _ in range(150):
        changed, place = bytearray(content), rng.integers(len(content) - checkpoints._SEAL_SIZE + 50)
        changed[place] ^= 1 << rng.integers(8)
        path.write_bytes(changed)
        assert checkpoints.check(path).problem
    for length in (0, 1, 100, len(content) // 2, *(len(content) - rng.integers(200, 5000, 5))):
        path.write_bytes(content[:length])
        assert "cut off" in checkpoints.check(path).problem


def test_a_checkpoint_is_loaded_whole_or_not_at_all(saved, tmp_path):
    model, original = saved
    loaded = tiny("dcgan", seed=5)
    for lost in ("generator_optimizer", "discriminator", "vars"):
        before = [np.copy(v) for v in loaded.variables]
        memory = files.MemoryFile(original.read_bytes())
        with h5py.File(memory, "a") as file:
            del file[lost]
        checkpoints.seal(memory, 7)
        (tmp_path / "a.weights.h5").write_bytes(memory.getvalue())
        with pytest.raises(CheckpointError, match=f"missing or of another shape, first '{lost}"):
            checkpoints.load(loaded, tmp_path / "a.weights.h5")
        assert all(np.array_equal(a, b) for a, b in zip(before, loaded.variables))
    with pytest.raises(CheckpointError, match="missing or of another shape"):
        checkpoints.load(tiny("dcgan", width=4), original)
    checkpoints.load(loaded, original)
    assert int(loaded.step.numpy()) == 7
    assert all(np.array_equal(a, b) for a, b in zip(model.variables, loaded.variables))


# -------------------------------------------------------------------- which one


def test_without_checkpoints_only_an_untrained_run_begins(tmp_path):
    assert checkpoints.choose(tmp_path, trained=0).path is None
    with pytest.raises(CheckpointError, match="holds no checkpoint, but the run was trained for 12 steps"):
        checkpoints.choose(tmp_path, trained=12)


def test_the_newest_whole_one_is_taken_and_named(tmp_path):
    write_checkpoint(tmp_path / LATEST, 9)
    write_checkpoint(tmp_path / LAST_GOOD, 6)
    choice = checkpoints.choose(tmp_path, trained=8)
    assert choice.path.name == LATEST
    assert choice.reason == "Going on from latest.weights.h5, step 9: it is the newest."
    write_checkpoint(tmp_path / LATEST, 9, sealed=False)
    choice = checkpoints.choose(tmp_path, trained=8)
    assert choice.path.name == LATEST
    assert "no checksum, as an earlier version wrote it" in choice.reason


def test_a_missing_latest_is_no_beginning(tmp_path):
    """It used to begin at step 0 without a word."""
    write_checkpoint(tmp_path / LAST_GOOD, 6)
    choice = checkpoints.choose(tmp_path, trained=6)
    assert choice.path.name == LAST_GOOD
    assert choice.reason == "Going on from last_good.weights.h5, step 6: latest.weights.h5 is not there."
    message = "step 6. The run's history goes on to step 9.*--resume-from last_good"
    with pytest.raises(CheckpointError, match=message):
        checkpoints.choose(tmp_path, trained=9)
    asked = checkpoints.choose(tmp_path, trained=9, wanted="last_good")
    assert asked.path.name == LAST_GOOD
    assert "it was asked for" in asked.reason


def test_a_damaged_latest_is_asked_about(tmp_path):
    cut_off(write_checkpoint(tmp_path / LATEST, 9))
    write_checkpoint(tmp_path / LAST_GOOD, 6)
    message = "latest.weights.h5 is cut off.*of step 6.*--resume-from last_good"
    with pytest.raises(CheckpointError, match=message):
        checkpoints.choose(tmp_path, trained=6)
    with pytest.raises(CheckpointError, match=r"--resume-from latest: .*is cut off"):
        checkpoints.choose(tmp_path, trained=6, wanted="latest")
    cut_off(tmp_path / LAST_GOOD)
    with pytest.raises(CheckpointError, match="latest.weights.h5 is cut.*last_good.weights.h5 is cut"):
        checkpoints.choose(tmp_path, trained=6)
    own = write_checkpoint(tmp_path / "mine.weights.h5", 3)
    assert checkpoints.choose(tmp_path, trained=6, wanted=own).path == own
    with pytest.raises(CheckpointError, match="other.weights.h5 is not there"):
        checkpoints.choose(tmp_path, trained=6, wanted=tmp_path / "other.weights.h5")


# -------------------------------------------------------------------- whole runs


def test_a_run_goes_on_from_what_was_asked_for(tmp_path, capsys):
    """One run of two steps, of which the latest checkpoint is lost and the history damaged."""
    run = {"settings": SETTINGS, "out": tmp_path / "run", "verbose": 2, "strategy": "one"}
    training.train("dcgan", **run)
    folder = training.RunFolder(tmp_path / "run")
    assert checkpoints.check(folder.weights).sealed
    assert checkpoints.check(folder.latest).step == 2
    folder.latest.unlink()
    with open(folder.history, "a", encoding="utf-8") as file:
        file.write('{"epoch": 2, "st\n{"epoch": 3, "step": 6}\n')
    with pytest.raises(CheckpointError, match="step 2. The run's history goes on to step 6"):
        training.train("dcgan", resume=True, **run)
    assert len(folder.history.read_text().splitlines()) == 3  # nothing was touched
    capsys.readouterr()
    training.train("dcgan", resume_from="last_good", **run)
    assert "Going on from last_good.weights.h5, step 2: it was asked for." in capsys.readouterr().out
    assert [row["step"] for row in callbacks.read_history(folder.history)] == [2]
    assert folder.history.with_suffix(".unreadable.txt").read_text() == '{"epoch": 2, "st\n'
    with pytest.raises(training.RunError, match="holds no run"):
        training.train("dcgan", resume_from="latest", **{**run, "out": tmp_path / "other"})
    assert not (tmp_path / "other").exists()


def test_keras_still_loads_a_checkpoint(saved):
    model, path = saved
    other = tiny("dcgan", seed=5)
    keras.Model.load_weights(other, path)
    assert all(np.array_equal(a, b) for a, b in zip(model.variables, other.variables))
    with h5py.File(io.BytesIO(path.read_bytes())) as file:
        assert "generator_optimizer" in file


def test_weights_that_users_save_have_a_checksum_too(saved, tmp_path):
    model, path = saved[0], tmp_path / "mine.weights.h5"
    model.save_weights(path)
    assert checkpoints.check(path) == checkpoints.Checked(path, 7, sealed=True)
    other = tiny("dcgan", seed=5)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="does not fit its checksum. Take another copy"):
        other.load_weights(path)
    with pytest.raises(ValueError, match="weights.h5"):
        model.save_weights(tmp_path / "mine.h5")


def test_a_copied_checkpoint_is_the_same(saved, tmp_path):
    _, path = saved
    shutil.copyfile(path, tmp_path / "b.weights.h5")
    assert checkpoints.check(tmp_path / "b.weights.h5").step == 7
