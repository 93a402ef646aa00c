"""Run folders, exact resumption after a kill, and replicas that do not change a run."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from conftest import difference, snapshot
from PIL import Image

import tf_gan_zoo as zoo
from tf_gan_zoo import callbacks, distribution, registry
from tf_gan_zoo import train as training
from tf_gan_zoo.data import DatasetError

REPOSITORY = Path(__file__).parent.parent
PROGRAM = [sys.executable, "-m", "tf_gan_zoo"]


def settings(name="dcgan", **changes):
    """The model's tiny config with a short run on few pictures."""
    options = {} if "data_options" in changes else {"data_options": {"num_examples": 64}}
    short = {"epochs": 2, "steps_per_epoch": 3, **options}
    return {**registry.get_spec(name).tiny, **short, **changes}


def run(out, name="dcgan", resume=False, **changes):
    return training.train(
        name, data="glyphs", settings=settings(name, **changes), out=out, resume=resume, verbose=0,
        strategy="one",
    )  # fmt: skip


def arguments(values):
    return [f"--set={name}={json.dumps(value)}" for name, value in values.items()]


def read_weights(path):
    """Every array in a weights file, by its place there."""
    arrays = {}

    def read(place, item):
        if isinstance(item, h5py.Dataset):
            arrays[place] = np.asarray(item)

    with h5py.File(path) as file:
        file.visititems(read)
    return arrays


def largest_difference(first, second):
    """Over all arrays of two weights files."""
    a, b = read_weights(first), read_weights(second)
    assert a.keys() == b.keys()
    return max(float(np.abs(a[k].astype("f8") - b[k].astype("f8")).max(initial=0.0)) for k in a)


def mean_difference(first, second):
    """Over all numbers of two weights files but the optimizers': Adam makes whole steps of rounding noise.

    Two training steps more or fewer make 1e-3 of it, replicas' rounding 1e-6 at most.
    """
    a, b = read_weights(first), read_weights(second)
    assert a.keys() == b.keys()
    names = [name for name in a if "_optimizer/" not in name]
    gaps = [np.abs(a[k].astype("f8") - b[k].astype("f8")).ravel() for k in names]
    return float(np.concatenate(gaps).mean())


# -------------------------------------------------------------------- the run folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return run(tmp_path_factory.mktemp("runs") / "a")


def test_a_run_folder_holds_everything(finished):
    names = {path.name for path in finished.iterdir()}
    assert {"config.yaml", "history.jsonl", "samples", "checkpoints", "model.weights.h5", "model.keras",
            "record.json"} <= names  # fmt: skip
    samples = sorted(path.name for path in (finished / "samples").iterdir())
    assert samples == ["epoch_0001.png", "epoch_0002.png", "final.png"]
    assert {p.name for p in (finished / "checkpoints").iterdir()} >= {callbacks.LATEST}
    assert not list(finished.rglob(".writing-*"))


def test_the_config_is_written_whole_and_resolved(finished):
    record = yaml.safe_load((finished / "config.yaml").read_text())
    assert record["name"] == "dcgan"
    assert set(record["config"]) == set(registry.get_spec("dcgan").config_cls.field_names())
    assert record["config"]["data"] == "glyphs"
    assert {"tf_gan_zoo", "tensorflow", "keras"} <= set(record["versions"])
    assert os.getcwd() not in (finished / "config.yaml").read_text()


def test_history_has_a_row_per_epoch(finished):
    rows = callbacks.read_history(finished / "history.jsonl")
    assert [(row["epoch"], row["step"], row["steps"]) for row in rows] == [(1, 3, 3), (2, 6, 3)]
    assert all(np.isfinite([row["d_loss"], row["g_loss"], row["seconds"]]).all() for row in rows)
    assert all(row["images_per_second"] > 0 for row in rows)


def test_the_record_says_what_was_measured_where(finished):
    record = json.loads((finished / "record.json").read_text())
    assert record["steps"] == 6
    assert record["epochs"] == 2
    assert set(record["logs"]) == {"d_loss", "g_loss"}
    assert record["machine"]["cpu"]
    assert record["machine"]["cores"] >= 1
    assert os.uname().nodename not in json.dumps(record["machine"])


def test_the_saved_model_draws_the_final_picture(finished):
    import keras

    loaded = training.load_model(str(finished))
    whole = keras.models.load_model(finished / "model.keras")
    assert difference(snapshot(loaded), snapshot(whole)) == 0.0
    sheet = training.sample_grid(loaded, 64, 0)
    np.testing.assert_array_equal(sheet, np.asarray(Image.open(finished / "samples" / "final.png")))


def test_tensorboard_gets_the_curves(finished):
    pytest.importorskip("tensorboard")
    assert list((finished / "tensorboard").rglob("events.out.tfevents.*"))


def test_steps_per_epoch_comes_from_the_data(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (11, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=images)
    out = training.train(
        "dcgan", data=f"npz:{tmp_path / 'data.npz'}",
        settings=settings(steps_per_epoch=None, epochs=1, data_options={}),
        out=tmp_path / "run", verbose=0, strategy="one",
    )  # fmt: skip
    record = yaml.safe_load((out / "config.yaml").read_text())
    assert 8 <= record["num_examples"] <= 11  # some may be held out for testing
    assert record["config"]["steps_per_epoch"] == 2  # in batches of 4, the remainder left out


def test_an_epoch_is_a_pass_over_other_data_than_the_recipes(tmp_path, capsys):
    """gan's default is 500 steps, for MNIST."""
    size = registry.get_spec("gan").tiny.get("image_size", 28)
    images = np.random.default_rng(0).integers(0, 255, (40, size, size, 1), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=images)
    wanted = {**registry.get_spec("gan").tiny, "batch_size": 16, "epochs": 1}
    data = f"npz:{tmp_path / 'data.npz'}"
    out = training.train("gan", data=data, settings=wanted, out=tmp_path / "run", verbose=2, strategy="one")
    config = yaml.safe_load((out / "config.yaml").read_text())["config"]
    assert config["steps_per_epoch"] == 2 == callbacks.read_history(out / "history.jsonl")[-1]["step"]
    printed = capsys.readouterr().out
    assert "2 training steps in an epoch (batch_size 16): a pass over these data, not the 500" in printed
    with pytest.raises(training.RunError, match="steps_per_epoch"):
        training.train("gan", settings={"steps_per_epoch": 3}, out=out, resume=True, strategy="one")


def test_a_model_has_the_classes_of_its_data_unless_their_number_is_set(tmp_path):
    tiny_config = dict(registry.get_spec("cgan").tiny)
    tiny_config.pop("num_classes")
    size = tiny_config["image_size"]
    images = np.random.default_rng(0).integers(0, 255, (40, size, size, 1), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=images, labels=np.arange(40) % 4)
    data, wanted = f"npz:{tmp_path / 'data.npz'}", {**tiny_config, "batch_size": 16, "epochs": 1}
    options = {"data": data, "strategy": "one", "verbose": 0}
    out = training.train("cgan", settings=wanted, out=tmp_path / "run", **options)
    config = yaml.safe_load((out / "config.yaml").read_text())["config"]
    assert config["num_classes"] == 4  # not the paper's 10
    training.train("cgan", settings={"epochs": 1}, out=out, resume=True, strategy="one", verbose=0)
    for classes in (3, 10):
        changed = {**wanted, "num_classes": classes}
        with pytest.raises(training.RunError, match=f"have 4 classes, but the model has {classes}"):
            training.train("cgan", settings=changed, out=tmp_path / "other", **options)
    assert not (tmp_path / "other").exists()


def test_a_number_of_steps_that_is_set_wins_and_so_does_the_recipes_own_data():
    follow = training.steps_follow_data
    config = training.zoo.resolve("cyclegan.horse2zebra")[1]
    assert not follow("cyclegan.horse2zebra", config, {})
    other = config.replace(data="unpaired:mine")
    assert follow("cyclegan.horse2zebra", other, {"data": "unpaired:mine"})
    assert not follow("cyclegan.horse2zebra", other, {"steps_per_epoch": 5})
    emoji = training.zoo.resolve("pix2pix.emoji")[1]
    assert not follow("pix2pix.emoji", emoji.replace(data="emoji:/elsewhere/emoji"), {})


def test_a_run_can_start_from_weights(finished, tmp_path):
    out = training.train(
        "dcgan", data="glyphs", settings=settings(epochs=1, steps_per_epoch=1, learning_rate=1e-12),
        out=tmp_path / "b", weights=finished / "model.weights.h5", verbose=0, strategy="one",
    )  # fmt: skip
    before, after = training.load_model(str(finished)), training.load_model(str(out))
    for old, new in zip(before.generator.trainable_variables, after.generator.trainable_variables):
        np.testing.assert_allclose(old.numpy(), new.numpy(), atol=1e-6)
    assert int(after.step.numpy()) == 1


def test_translation_models_show_held_out_pictures(tmp_path):
    out = run(tmp_path / "run", "pix2pix", epochs=1, steps_per_epoch=1)
    with Image.open(out / "samples" / "epoch_0001.png") as picture:
        assert picture.height > picture.width  # eight rows of input | output | truth


# -------------------------------------------------------------------- what is refused


def test_a_folder_in_use_is_refused(finished, tmp_path):
    with pytest.raises(training.RunError, match="not empty.*--resume"):
        run(finished)
    (tmp_path / "notes.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(training.RunError, match="nothing to resume"):
            run(tmp_path, resume=resume)
    with pytest.raises(training.RunError, match="is a file"):
        run(tmp_path / "notes.txt")


def test_a_resumed_run_keeps_its_config(finished):
    with pytest.raises(training.RunError, match=r"learning_rate \(0\.0002 -> 0\.1\).*epochs \(2 -> 1\)|"
                                                r"epochs \(2 -> 1\).*learning_rate \(0\.0002 -> 0\.1\)"):
        run(finished, resume=True, learning_rate=0.1, epochs=1)  # fmt: skip
    with pytest.raises(training.RunError, match="holds a run of 'dcgan'"):
        training.train("wgan_gp", out=finished, resume=True)


def test_a_changed_data_set_is_noticed(tmp_path):
    images = np.random.default_rng(0).integers(0, 255, (12, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=images)
    keywords = {"data": f"npz:{tmp_path / 'data.npz'}", "out": tmp_path / "run", "verbose": 0}
    training.train("dcgan", settings=settings(epochs=1, data_options={}), **keywords)
    np.savez(tmp_path / "data.npz", images=images[:8])
    with pytest.raises(training.RunError, match="examples when the run began"):
        training.train("dcgan", settings=settings(epochs=2, data_options={}), resume=True, **keywords)


def test_errors_come_before_anything_is_written(tmp_path):
    values = settings(data_options={})
    with pytest.raises(DatasetError):
        training.train("dcgan", data="folder:/no/such", settings=values, out=tmp_path / "run")
    with pytest.raises(distribution.StrategyError):
        training.train("dcgan", strategy="two", settings=settings(), out=tmp_path / "run")
    with pytest.raises(zoo.ConfigError, match="batchsize"):
        training.train("dcgan", settings={"batchsize": 3}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_must_divide_among_replicas(tmp_path, monkeypatch, mirrored):
    monkeypatch.setattr(distribution, "make_strategy", lambda kind: mirrored)
    with pytest.raises(training.RunError, match="batch_size 3 .* multiple of 2"):
        training.train("dcgan", data="glyphs", settings=settings(batch_size=3), out=tmp_path / "run")


def test_strategies_explain_themselves(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(distribution.StrategyError, match="auto, one, mirrored, multi_worker"):
        zoo.strategy("several")
    with pytest.raises(distribution.StrategyError, match="TF_CONFIG"):
        zoo.strategy("multi_worker")
    monkeypatch.setenv("TF_CONFIG", "{")
    with pytest.raises(distribution.StrategyError, match="not valid JSON"):
        zoo.strategy("multi_worker")


def test_the_chief_is_the_chief_or_the_first_worker(monkeypatch):
    def cluster(kind, index, **jobs):
        return json.dumps({"cluster": jobs, "task": {"type": kind, "index": index}})

    monkeypatch.delenv("TF_CONFIG", raising=False)
    assert distribution.is_chief()
    monkeypatch.setenv("TF_CONFIG", cluster("worker", 0, worker=["a:1", "b:1"]))
    assert distribution.is_chief()
    monkeypatch.setenv("TF_CONFIG", cluster("worker", 0, chief=["c:1"], worker=["a:1"]))
    assert not distribution.is_chief()
    assert distribution.is_chief("one")


# -------------------------------------------------------------------- resumption


def test_a_finished_run_goes_on_when_epochs_grow(tmp_path):
    whole = run(tmp_path / "whole", epochs=3)
    parts = run(tmp_path / "parts", epochs=2)
    run(parts, resume=True, epochs=3)
    assert largest_difference(whole / "model.weights.h5", parts / "model.weights.h5") < 1e-6
    assert [row["epoch"] for row in callbacks.read_history(parts / "history.jsonl")] == [1, 2, 3]


def test_resuming_what_is_finished_changes_nothing(tmp_path):
    out = run(tmp_path / "run")
    before = read_weights(out / "model.weights.h5")
    run(out, resume=True)
    after = read_weights(out / "model.weights.h5")
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_resume_starts_a_run_that_has_not_begun(tmp_path):
    assert (run(tmp_path / "new", resume=True, epochs=1) / "record.json").is_file()


RESUMED = [
    pytest.param("dcgan", (signal.SIGKILL, signal.SIGKILL), id="dcgan"),
    pytest.param("wgan_gp", (signal.SIGKILL, signal.SIGINT), id="wgan_gp", marks=pytest.mark.slow),
    pytest.param("cyclegan", (signal.SIGKILL, signal.SIGTERM), id="cyclegan", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("name,signals", RESUMED)
def test_a_killed_run_ends_with_the_same_weights(name, signals, tmp_path):
    values = settings(name, epochs=2, steps_per_epoch=40)
    command = [*PROGRAM, "train", name, "--data", "glyphs", *arguments(values), "--deterministic",
               "--checkpoint-every", "3", "--strategy", "one"]  # fmt: skip
    whole = subprocess.Popen([*command, "--out", str(tmp_path / "whole")], cwd=REPOSITORY,
                             stdout=subprocess.DEVNULL)  # fmt: skip
    resumed = [*command, "--out", str(tmp_path / "killed"), "--resume"]
    for signum in signals:
        printed = stop_in_mid_epoch(resumed, signum, tmp_path / "killed" / "checkpoints" / callbacks.LATEST)
    if signals[-1] != signal.SIGKILL:
        resumed = [*PROGRAM, *shlex.split(printed.strip().splitlines()[-1])[1:]]
    subprocess.run(resumed, cwd=REPOSITORY, check=True, timeout=300, stdout=subprocess.DEVNULL)
    assert whole.wait(timeout=300) == 0
    weights = [tmp_path / which / "model.weights.h5" for which in ("whole", "killed")]
    assert largest_difference(*weights) == 0.0
    histories = [callbacks.read_history(tmp_path / which / "history.jsonl") for which in ("whole", "killed")]
    for expected, row in zip(*histories, strict=True):
        untimed = [key for key in expected if key not in ("steps", "seconds", "images_per_second")]
        assert {key: row[key] for key in untimed} == {key: expected[key] for key in untimed}


def stop_in_mid_epoch(command, signum, checkpoint):
    """Runs until two new checkpoints have been written, then sends the signal; returns what was printed."""

    def written():
        return checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0

    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    times, deadline = {written()}, time.time() + 300
    while len(times) < 3 and process.poll() is None and time.time() < deadline:
        times.add(written())
        time.sleep(0.002)
    time.sleep(np.random.default_rng().uniform(0, 0.05))
    process.send_signal(signum)
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == (-signum if signum == signal.SIGKILL else 128 + signum)
    return printed


# -------------------------------------------------------------------- replicas


def test_two_replicas_end_with_the_weights_of_one(tmp_path, monkeypatch, mirrored):
    one = run(tmp_path / "one", sync_batch_norm=True)
    monkeypatch.setattr(distribution, "make_strategy", lambda kind: mirrored)
    two = run(tmp_path / "two", sync_batch_norm=True)
    weights = [out / "model.weights.h5" for out in (one, two)]
    assert mean_difference(*weights) < 1e-5


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.mark.parametrize("name", [
    "dcgan", *(pytest.param(n, marks=pytest.mark.slow) for n in ("wgan_gp", "cyclegan", "srgan")),
])  # fmt: skip
def test_two_workers_end_with_the_weights_of_one_device(name, tmp_path):
    values = settings(name, sync_batch_norm=True)
    one = run(tmp_path / "one", name, sync_batch_norm=True)
    command = [*PROGRAM, "train", name, "--data", "glyphs", *arguments(values), "--out",
               str(tmp_path / "two"), "--strategy", "multi_worker"]  # fmt: skip
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    workers = []
    for index in range(2):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        workers.append(subprocess.Popen(
            ["timeout", "-s", "KILL", "240", *command], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True,
            stdout=subprocess.DEVNULL, env={**os.environ, "TF_CONFIG": json.dumps(task)},
        ))  # fmt: skip
    errors = [worker.communicate()[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], errors
    weights = [out / "model.weights.h5" for out in (one, tmp_path / "two")]
    assert mean_difference(*weights) < 1e-5
