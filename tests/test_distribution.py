"""Replicas, accumulated gradients, precision, XLA and clusters: what must not change a run does not."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import difference, make_dataset, snapshot, tiny
from test_train import PROGRAM, REPOSITORY, arguments, largest_difference, run, settings

import tf_gan_zoo as zoo
from tf_gan_zoo import callbacks, distribution, random, schedules
from tf_gan_zoo import train as training
from tf_gan_zoo.config import Config
from tf_gan_zoo.gan import GAN

LAUNCHER = Path(REPOSITORY) / "scripts" / "launch_local.py"


def weights(model):
    return [v.numpy() for network in model.networks.values() for v in network.trainable_variables]


def trained(name, steps=4, make_optimizer=lambda: keras.optimizers.SGD(1e-3), **overrides):
    model = tiny(name, **overrides)
    model.compile({player: make_optimizer() for player in model.players})
    model.fit(make_dataset(model, steps), verbose=0)
    return model


# -------------------------------------------------------------------- strategies and state


def test_a_missing_tpu_is_an_error_that_says_what_to_set(monkeypatch):
    monkeypatch.delenv("TPU_NAME", raising=False)
    with pytest.raises(distribution.StrategyError, match="Set TPU_NAME"):
        zoo.strategy("tpu")


def test_batch_statistics_that_are_not_synchronized_are_still_equal_on_all_replicas(mirrored):
    with mirrored.scope():
        model, start = tiny("dcgan", sync_batch_norm=False), tiny("dcgan")
    model.fit(make_dataset(model, steps=2), verbose=0)
    moving = [v for v in model.generator.variables if "moving" in v.path]
    initial = [v for v in start.generator.variables if "moving" in v.path]
    for variable, before in zip(moving, initial, strict=True):
        first, second = (v.numpy() for v in mirrored.experimental_local_results(variable.value))
        np.testing.assert_array_equal(first, second)
        assert np.abs(first - before.numpy()).max() > 0


# -------------------------------------------------------------------- accumulation


@keras.saving.register_keras_serializable("tests")
class Line(GAN):
    """One weight w with the loss mean((w x - 1)^2)."""

    log_names = ("loss",)

    def build_networks(self, config):
        inputs = keras.Input((1,))
        outputs = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")(inputs)
        return {"generator": keras.Model(inputs, outputs, name="generator")}

    def make_optimizer(self, player):
        return keras.optimizers.SGD(keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.1, 0.01]))

    @property
    def batch_spec(self):
        from tf_gan_zoo.batch_spec import BatchSpec, Field

        return BatchSpec(values=Field((1,)))

    def train_step(self, batch):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self.generator(batch["values"], training=True) - 1.0))
        self.update("generator", tape, loss)
        return self.log(loss=loss)


def line(**overrides):
    model = Line(Config(**overrides))
    model.compile()
    return model


def weight(model):
    return float(model.generator.trainable_variables[0].numpy().item())


def test_accumulated_gradients_are_their_mean_applied_at_every_last_batch():
    model, seen = line(accumulation_steps=2), [1.0]
    values = np.array([2.0, 3.0, 0.5, 1.5], "float32").reshape(4, 1)
    for value in values:
        model.train_on_batch(value[None])
        seen.append(weight(model))
    w, rate = 1.0, 0.1
    for pair in (values[:2, 0], values[2:, 0]):
        w -= rate * np.mean([2 * x * (w * x - 1) for x in pair])
    assert seen[1] == 1.0
    assert seen[3] == seen[2] != 1.0
    assert seen[4] == pytest.approx(w, rel=1e-5)


def test_schedules_count_training_steps():
    model = line(accumulation_steps=2)
    rates = []
    for _ in range(6):
        rates.append(float(model.generator_optimizer.learning_rate))
        model.train_on_batch(np.ones((1, 1), "float32"))
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.01, 0.01])  # the boundary is step 2 of 6
    restored = schedules.Stretched.from_config(model.generator_optimizer._learning_rate.get_config())
    assert float(restored(1)) == pytest.approx(0.1)
    assert float(restored(2)) == pytest.approx(0.01)


def test_a_model_saved_between_two_updates_goes_on_with_the_sums(tmp_path):
    whole = line(accumulation_steps=3)
    for value in (2.0, 3.0):
        whole.train_on_batch(np.full((1, 1), value, "float32"))
    whole.save(tmp_path / "line.keras")
    resumed = keras.models.load_model(tmp_path / "line.keras")
    for model in (whole, resumed):
        model.train_on_batch(np.full((1, 1), 0.5, "float32"))
    assert weight(resumed) == weight(whole) != 1.0


@pytest.mark.parametrize("name", ["dcgan", pytest.param("wgan_gp", marks=pytest.mark.slow)])
def test_two_replicas_accumulate_like_one(name, mirrored):
    options = {"accumulation_steps": 2, "sync_batch_norm": True}
    single = trained(name, steps=2, **options)
    with mirrored.scope():
        double = trained(name, steps=2, **options)
    assert difference(weights(single), weights(double)) < 1e-6
    assert difference(weights(single), weights(tiny(name))) > 1e-4


# -------------------------------------------------------------------- XLA, executions, precision


@pytest.mark.parametrize("draw, tolerance", [(random.uniform, 0.0), (random.normal, 1e-6)])
def test_draws_are_the_same_with_xla(draw, tolerance):
    def values(step):
        return draw((7, 5), random.make_seed(3, "test", step))

    plain, compiled = (tf.function(values, jit_compile=jit, autograph=False) for jit in (False, True))
    for step in range(3):
        step = tf.constant(step, tf.int64)
        assert np.abs(plain(step) - compiled(step)).max() <= tolerance


def test_draws_have_their_distribution_and_the_streams_of_tensorflow():
    seed = random.make_seed(0, "test", 1)
    for ours, theirs in [
        (random.uniform, tf.random.stateless_uniform), (random.normal, tf.random.stateless_normal),
    ]:  # fmt: skip
        expected = theirs((101, 3), seed, alg="philox")  # the CPU kernel
        np.testing.assert_allclose(ours((101, 3), seed), expected, atol=2e-6)
    normal = random.normal((200_000,), seed).numpy()
    assert [normal.mean(), normal.std()] == pytest.approx([0, 1], abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.list_models())
def test_xla_trains_to_the_same_weights(name):
    models = []
    for jit in (False, True):
        model = tiny(name)
        model.compile({p: keras.optimizers.SGD(1e-3) for p in model.players}, jit_compile=jit)
        model.fit(make_dataset(model, 3), verbose=0)
        models.append(model)
    assert difference(snapshot(models[0]), snapshot(models[1])) < 1e-5


def test_steps_per_execution_train_to_the_same_weights(tmp_path):
    plain = run(tmp_path / "plain", steps_per_epoch=4)
    values = settings(steps_per_epoch=4)
    options = {"data": "glyphs", "settings": values, "verbose": 0, "strategy": "one"}
    grouped = training.train("dcgan", out=tmp_path / "grouped", steps_per_execution=2, **options)
    assert largest_difference(plain / "model.weights.h5", grouped / "model.weights.h5") < 1e-6
    with pytest.raises(training.RunError, match=r"3 must divide steps_per_epoch \(4\)"):
        training.train("dcgan", out=tmp_path / "third", steps_per_execution=3, **options)
    with pytest.raises(training.RunError, match="xla: expected 'auto', 'on' or 'off'"):
        training.train("dcgan", out=tmp_path / "xla", xla="yes", **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wgan_gp", "cyclegan"])
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_stays_finite_for_300_steps(name, precision):
    model = tiny(name, precision=precision, steps_per_epoch=150)
    history = model.fit(make_dataset(model, 150).repeat(), steps_per_epoch=150, verbose=0).history
    if precision == "mixed_float16":
        overflow(model)
    before = weights(model)
    more = model.fit(make_dataset(model, 150).repeat(), steps_per_epoch=150, verbose=0).history
    for logs in (history, more):
        assert all(np.isfinite(values).all() for values in logs.values())
    assert all(np.isfinite(value).all() for value in weights(model))
    assert difference(weights(model), before) > 0  # it has recovered


def overflow(model):
    """One step with a loss scale beyond float16: no weight may move, and every scale is halved."""
    before, scale = weights(model), 2.0**40
    for player in model.players:
        model.player_optimizer(player).dynamic_scale.assign(scale)
    model.fit(make_dataset(model, 1), verbose=0)
    assert difference(before, weights(model)) == 0.0
    for player in model.players:
        assert float(model.player_optimizer(player).dynamic_scale.numpy()) < scale


# -------------------------------------------------------------------- clusters on loopback


def launcher():
    spec = importlib.util.spec_from_file_location("launch_local", LAUNCHER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_launcher_restarts_a_cluster_that_failed(monkeypatch, capsys):
    module, commands = launcher(), []
    statuses = iter([-9, 0])
    run_once = lambda command, workers: commands.append(command) or next(statuses)  # noqa: E731
    monkeypatch.setattr(module, "run_once", run_once)
    assert module.run(["train", "dcgan"], workers=2, restarts=3) == 0
    assert commands == [["train", "dcgan"], ["train", "dcgan", "--resume"]]
    assert "starting the cluster again" in capsys.readouterr().out
    monkeypatch.setattr(module, "run_once", lambda command, workers: 2)
    assert module.run(["train", "dcgna"], workers=2, restarts=3) == 2  # a wrong command stays wrong


def test_the_launcher_gives_each_worker_its_place_and_reports_the_failure(monkeypatch, capfd):
    module = launcher()
    program = "import json, os, sys; t = json.loads(os.environ['TF_CONFIG']); i = t['task']['index']; " \
        "print(len(t['cluster']['worker']), 'workers, I am', i, flush=True); " \
        "import time; time.sleep(60 * (i == 0)); sys.exit(7)"  # fmt: skip
    popen = subprocess.Popen
    monkeypatch.setattr(
        module.subprocess, "Popen",
        lambda command, **options: popen([sys.executable, "-c", program], **options),
    )  # fmt: skip
    start = time.time()
    assert module.run_once(["train"], 2) == 7  # the other one is stopped
    assert time.time() - start < 30
    output = capfd.readouterr().out
    assert "[0] 2 workers, I am 0" in output
    assert "[1] 2 workers, I am 1" in output


@pytest.mark.slow
def test_a_cluster_whose_worker_is_killed_ends_with_the_same_weights(tmp_path):
    values = settings(sync_batch_norm=True, epochs=2, steps_per_epoch=40)
    command = ["train", "dcgan", "--data", "glyphs", *arguments(values), "--checkpoint-every", "3"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*PROGRAM, *command, "--strategy", "one", "--out", str(whole)], cwd=REPOSITORY, check=True)
    cluster = subprocess.Popen(
        [sys.executable, str(LAUNCHER), "-n", "2", "--restarts", "2", "--", *command, "--out", str(killed)],
        cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        wait_for_checkpoints(killed / "checkpoints" / callbacks.LATEST, 3)
        os.kill(worker_process(cluster.pid, index=1), signal.SIGKILL)
        output, _ = cluster.communicate(timeout=400)
    finally:
        if cluster.poll() is None:
            os.killpg(cluster.pid, signal.SIGKILL)
    assert cluster.returncode == 0, output
    assert "starting the cluster again" in output
    files = [out / "model.weights.h5" for out in (whole, killed)]
    assert largest_difference(*files, optimizers=False) < 1e-5


def wait_for_checkpoints(path, count):
    seen, deadline = set(), time.time() + 200
    while len(seen) < count and time.time() < deadline:
        if path.exists():
            seen.add(path.stat().st_mtime_ns)
        time.sleep(0.01)
    assert len(seen) == count


def worker_process(launcher_id, index):
    """The process that the launcher started for one worker."""
    children = Path(f"/proc/{launcher_id}/task/{launcher_id}/children").read_text().split()
    for child in map(int, children):
        if f'"index": {index}' in Path(f"/proc/{child}/environ").read_text():
            return child
    raise AssertionError(f"no worker {index} among {children}")
