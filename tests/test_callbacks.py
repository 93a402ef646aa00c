"""The sentinel against sabotaged models, checkpoints that survive, interruption, history."""

import json
import os
import signal

import numpy as np
import pytest
import tensorflow as tf
from conftest import difference, make_dataset, snapshot, tiny

from tf_gan_zoo import callbacks, checkpoints


def fit(model, used, epochs=1, steps=3):
    model.fit(make_dataset(model, steps).repeat(), epochs=epochs, steps_per_epoch=steps, verbose=0,
              callbacks=used)  # fmt: skip


def quiet_sentinel(**options):
    messages = []
    return callbacks.Sentinel(report=messages.append, **options), messages


class Sabotage(callbacks._StepCallback):
    """Does something to the model after a given step."""

    def __init__(self, step, deed):
        super().__init__()
        self._step, self._deed = step, deed

    def after_step(self, batch, logs):
        if self.step == self._step:
            self._deed(self.model)


def poison(model):
    variable = model.generator.trainable_variables[0]
    variable.assign(tf.fill(variable.shape, np.nan))


# -------------------------------------------------------------------- sentinel


def test_nan_is_named_at_the_step_where_it_appears(tmp_path):
    sentinel, messages = quiet_sentinel()
    checkpoint = callbacks.Checkpoint(tmp_path, every=1, sentinel=sentinel)
    model = tiny("dcgan")
    fit(model, [Sabotage(5, poison), sentinel, checkpoint], epochs=3)
    (failure,) = sentinel.failures
    assert (failure.kind, failure.step) == ("not finite", 6)
    assert "d_loss is NaN" in messages[0]
    assert "step 6" in messages[0]
    assert not sentinel.healthy
    for name in (callbacks.LATEST, callbacks.LAST_GOOD):
        saved = tiny("dcgan")
        saved.load_weights(tmp_path / name)
        assert int(saved.step.numpy()) == 4  # the state after step 5 was poisoned before it could be saved
        assert all(np.isfinite(v.numpy()).all() for v in saved.trainable_variables)


def test_the_sentinel_stops_training_if_asked():
    sentinel, _ = quiet_sentinel(stop=True)
    model = tiny("dcgan")
    fit(model, [Sabotage(4, poison), sentinel], epochs=9)
    assert int(model.step.numpy()) == 5


def test_infinite_losses_are_told_from_nan():
    sentinel, messages = quiet_sentinel()
    sentinel.set_model(tiny("dcgan"))
    sentinel.on_epoch_begin(0)
    sentinel.on_train_batch_end(1, {"d_loss": 1.0, "g_loss": float("inf")})
    sentinel.on_train_batch_end(2, {"d_loss": 1.0, "g_loss": float("inf")})
    assert messages == ["sentinel: not finite at step 2: g_loss is infinite."]


def test_frozen_discriminator_is_noticed():
    model = tiny("dcgan")
    model.discriminator_optimizer.learning_rate = 0.0
    sentinel, messages = quiet_sentinel(patience=2, spread=0.0)
    fit(model, [sentinel], epochs=3)
    assert [(f.kind, f.step) for f in sentinel.failures] == [("discriminator stuck", 6)]
    assert "weights of discriminator have not moved for 2 epochs" in messages[0]


@pytest.mark.parametrize(
    "losses,words",
    [
        ((0.7, 0.69314, 0.69315), "d_loss has stood at 0.69315"),
        ((1e-3, 2e-4, 9e-5), "d_loss has been about 0"),
    ],
)
def test_a_loss_that_stands_still_or_vanishes_is_noticed(losses, words):
    sentinel, messages = quiet_sentinel(patience=2, spread=0.0)
    model = tiny("dcgan")
    sentinel.set_model(model)
    for epoch, loss in enumerate(losses):
        sentinel.on_epoch_begin(epoch)
        model.discriminator_optimizer.iterations.assign_add(1)
        model.discriminator.trainable_variables[0].assign_add(
            tf.ones_like(model.discriminator.trainable_variables[0])
        )
        sentinel.on_epoch_end(epoch, {"d_loss": loss, "g_loss": 1.0})
    assert len(messages) == 1
    assert words in messages[0]


def test_a_phase_without_discriminator_is_not_a_failure():
    sentinel, messages = quiet_sentinel(patience=1, spread=0.0)
    sentinel.set_model(tiny("dcgan"))
    for epoch in range(4):
        sentinel.on_epoch_begin(epoch)
        sentinel.on_epoch_end(epoch, {"d_loss": 0.0, "g_loss": 1.0})
    assert not messages


def silence(model):
    """Makes the generator draw one picture whatever the latents."""
    for variable in model.generator.trainable_variables:
        variable.assign(tf.zeros_like(variable))


def test_collapse_is_noticed_and_the_last_good_checkpoint_stays(tmp_path):
    sentinel, messages = quiet_sentinel(spread=1e-6)
    checkpoint = callbacks.Checkpoint(tmp_path, sentinel=sentinel)
    model = tiny("dcgan")
    fit(model, [Sabotage(6, silence), sentinel, checkpoint], epochs=2)
    assert [(f.kind, f.step) for f in sentinel.failures] == [("collapsed", 6)]
    assert "16 samples are one picture" in messages[0]
    steps = {}
    for name in (callbacks.LATEST, callbacks.LAST_GOOD):
        saved = tiny("dcgan")
        saved.load_weights(tmp_path / name)
        steps[name] = int(saved.step.numpy())
    assert steps == {callbacks.LATEST: 6, callbacks.LAST_GOOD: 3}


def test_an_untrained_generator_gets_time_to_spread():
    sentinel, _ = quiet_sentinel(patience=2, spread=1.0)
    fit(tiny("dcgan"), [sentinel], epochs=3)
    assert [(f.kind, f.step) for f in sentinel.failures] == [("collapsed", 6)]


def test_a_phase_in_which_nobody_trains_the_generator_does_not_count():
    sentinel, messages = quiet_sentinel(patience=1, spread=1.0)
    model = tiny("dcgan")
    sentinel.set_model(model)
    for epoch in range(2):
        sentinel.on_epoch_begin(epoch)
        sentinel.on_epoch_end(epoch, {})
    assert not messages
    sentinel.on_epoch_begin(2)
    model.generator_optimizer.iterations.assign_add(1)
    sentinel.on_epoch_end(2, {})
    assert [failure.kind for failure in sentinel.failures] == ["collapsed"]


def test_healthy_training_is_left_in_peace():
    sentinel, messages = quiet_sentinel(spread=1e-6)
    fit(tiny("dcgan"), [sentinel], epochs=4)
    assert not messages
    assert sentinel.healthy


# -------------------------------------------------------------------- checkpoints, interruption


def test_a_checkpoint_holds_everything(tmp_path):
    model = tiny("dcgan")
    fit(model, [callbacks.Checkpoint(tmp_path)])
    loaded = tiny("dcgan")
    loaded.load_weights(tmp_path / callbacks.LATEST)
    assert difference(snapshot(model), snapshot(loaded)) == 0.0
    assert int(loaded.step.numpy()) == 3


def test_running_means_go_on_where_the_epoch_was_left(tmp_path):
    class SaveAtStepTwo(callbacks._StepCallback):
        def after_step(self, batch, logs):
            if self.step == 2:
                checkpoints.save(self.model, tmp_path / "two.weights.h5")

    whole, resumed = tiny("dcgan"), tiny("dcgan")
    data = make_dataset(whole, steps=4)
    expected = whole.fit(data, verbose=0, callbacks=[SaveAtStepTwo()]).history
    resumed.load_weights(tmp_path / "two.weights.h5")
    means = callbacks.RunningMeans(tmp_path / "two.weights.h5", epochs=1)
    found = resumed.fit(data.skip(2), verbose=0, callbacks=[means]).history
    for name in whole.log_names:
        assert found[name] == pytest.approx(expected[name], abs=1e-6)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_running_step_and_saves(signum, tmp_path):
    model, before = tiny("dcgan"), signal.getsignal(signum)
    with callbacks.Interruption().caught() as interruption:
        used = [Sabotage(2, lambda m: os.kill(os.getpid(), signum)),
                callbacks.Checkpoint(tmp_path, interruption=interruption)]  # fmt: skip
        with pytest.raises(callbacks.Interrupted) as caught:
            fit(model, used)
    assert (caught.value.signum, caught.value.step) == (signum, 2)
    assert signal.getsignal(signum) is before
    saved = tiny("dcgan")
    saved.load_weights(tmp_path / callbacks.LATEST)
    assert difference(snapshot(model), snapshot(saved)) == 0.0


def test_a_signal_in_the_last_step_waits_for_the_epochs_record(tmp_path):
    model = tiny("dcgan")
    with callbacks.Interruption().caught() as interruption:
        used = [Sabotage(3, lambda m: os.kill(os.getpid(), signal.SIGTERM)),
                callbacks.HistoryFile(tmp_path / "history.jsonl"),
                callbacks.Checkpoint(tmp_path, interruption=interruption)]  # fmt: skip
        with pytest.raises(callbacks.Interrupted):
            fit(model, used)
    assert [row["step"] for row in callbacks.read_history(tmp_path / "history.jsonl")] == [3]


# -------------------------------------------------------------------- history, speed


def test_history_is_trimmed_to_the_checkpoint_and_keeps_what_is_no_row(tmp_path, capsys):
    path = tmp_path / "history.jsonl"
    damaged = [b'{"epoch": 2, "st\xff', b"7", b'{"epoch": 4, "st']
    rows = [b'{"epoch": 1, "step": 3}', damaged[0], b'{"epoch": 3, "step": 9}', *damaged[1:]]
    path.write_bytes(b"\n".join(rows))
    assert [row["epoch"] for row in callbacks.read_history(path)] == [1, 3]
    callbacks.trim_history(path, 9)
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [1, 3]
    kept = (tmp_path / "history.unreadable.txt").read_text().splitlines()
    assert kept == ['{"epoch": 2, "st\\xff', "7", '{"epoch": 4, "st']
    assert "3 line(s) are no rows, the first is line 2" in capsys.readouterr().err
    callbacks.trim_history(path, 5)
    assert [row["epoch"] for row in callbacks.read_history(path)] == [1]
    assert callbacks.read_history(tmp_path / "none.jsonl") == []


def test_history_stays_valid_json_when_losses_are_not(tmp_path):
    sentinel, _ = quiet_sentinel()
    used = [Sabotage(1, poison), sentinel, callbacks.HistoryFile(tmp_path / "h.jsonl", sentinel)]
    fit(tiny("dcgan"), used)
    (row,) = callbacks.read_history(tmp_path / "h.jsonl")
    assert row["d_loss"] is None
    assert "NaN" not in json.dumps({k: v for k, v in row.items() if k != "failures"})
    assert "not finite at step 2" in row["failures"][0]


def test_throughput_leaves_out_the_compiling_step(monkeypatch):
    clock = iter([0.0, 10.0, 10.0, 11.0, 12.0])
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: next(clock))
    speed, logs = callbacks.Throughput(images_per_step=8), {}
    speed.on_epoch_begin(0)
    speed.on_train_batch_end(0, logs)
    assert logs["images_per_second"] == 0.8
    speed.on_train_batch_end(1, logs)
    assert logs["images_per_second"] == 8.0
    speed.on_epoch_end(0, logs)
    assert logs["images_per_second"] == 4.0


def test_sample_grids_use_the_same_inputs_every_time(tmp_path):
    model = tiny("dcgan")
    grid = callbacks.SampleGrid(tmp_path, count=4)
    grid.draw(model, "a.png")
    grid.draw(model, "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    fit(model, [grid])
    assert (tmp_path / "epoch_0001.png").read_bytes() != (tmp_path / "a.png").read_bytes()


def test_the_weights_that_end_a_phase_are_kept(tmp_path):
    model = tiny("srgan", pretrain_steps=2)
    keep = callbacks.PhaseCheckpoint(tmp_path)
    model.fit(make_dataset(model, 2), verbose=0)
    stage_one = [v.numpy() for v in model.generator.variables]
    assert not list(tmp_path.iterdir())
    model.fit(make_dataset(model, 1), verbose=0, callbacks=[keep])  # the phase begins with this fit
    resumed = tiny("srgan", pretrain_steps=2)
    resumed.load_weights(tmp_path / "srresnet.weights.h5")
    for kept, expected in zip(resumed.generator.variables, stage_one):
        np.testing.assert_array_equal(kept, expected)
    model.fit(make_dataset(model, 1), verbose=0, callbacks=[callbacks.PhaseCheckpoint(tmp_path / "again")])
    assert not (tmp_path / "again").exists()


def test_translators_that_draw_one_picture_are_noticed():
    model = tiny("pix2pix")
    inputs = {n: v.numpy() for n, v in next(iter(make_dataset(model, 1))).items()}
    sentinel, messages = quiet_sentinel(patience=1, held_out=inputs)
    object.__setattr__(model, "translate", lambda images: np.zeros_like(images))
    fit(model, [sentinel])
    assert "collapsed" in {failure.kind for failure in sentinel.failures}
    assert any("samples are one picture" in message for message in messages)
