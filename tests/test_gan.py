"""The base contract on the smallest GAN there can be; each Keras behaviour it relies on has a test."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import difference, make_dataset, snapshot, tiny

from tf_gan_zoo import random
from tf_gan_zoo.batch_spec import BatchError, BatchSpec, Field, image_field
from tf_gan_zoo.config import Config
from tf_gan_zoo.fitting import group_batches
from tf_gan_zoo.gan import GAN
from tf_gan_zoo.layers import SeededDropout


@keras.saving.register_keras_serializable("tests")
class Averaged(GAN):
    """One player, dropout, stock dropout with its own seed generator, and averaged weights."""

    log_names = ("loss",)

    def build_networks(self, config):
        x = inputs = keras.Input((3,))
        x = keras.layers.Dropout(0.5)(SeededDropout(0.5)(keras.layers.Dense(4)(x)))
        x = keras.layers.BatchNormalization()(x)
        outputs = keras.layers.Dense(1, dtype="float32")(x)
        return {"generator": keras.Model(inputs, outputs, name="generator")}

    def make_optimizer(self, player):
        return keras.optimizers.SGD(0.1)

    @property
    def ema_decays(self):
        return {"generator": 0.9}

    @property
    def batch_spec(self):
        return BatchSpec(values=Field((3,)))

    @property
    def phases(self):
        return (("first", 0), ("second", 3))

    def train_step(self, batch):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(self.generator(batch["values"], training=True)))
            loss = loss if self.phase == "first" else -loss
        self.update("generator", tape, loss)
        return self.log(loss=loss)


def averaged():
    model = Averaged(Config())
    model.compile()
    return model


def values(count=8, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 3)).astype("float32")


def test_ema_follows_its_formula_and_copies_statistics():
    model, mean = averaged(), None
    for _ in range(3):
        mean = mean if mean is not None else model.generator.trainable_variables[0].numpy().copy()
        model.train_on_batch(values())
        mean = 0.9 * mean + 0.1 * model.generator.trainable_variables[0].numpy()
    np.testing.assert_allclose(model.generator_ema.variables[0], mean, atol=1e-6)
    moving = [v for v in model.generator.variables if "moving" in v.path]
    averaged_moving = [v for v in model.generator_ema.variables if "moving" in v.path]
    assert len(moving) == 2
    for a, b in zip(moving, averaged_moving):
        np.testing.assert_array_equal(a, b)
    assert model.public_network() is model.generator_ema


def test_seed_generators_of_stock_layers_are_saved(tmp_path):
    whole, model = averaged(), averaged()
    for m in (whole, model):
        m.fit(values(), batch_size=4, shuffle=False, verbose=0)
    model.save_weights(tmp_path / "w.weights.h5")
    resumed = averaged()
    resumed.load_weights(tmp_path / "w.weights.h5")
    for m in (whole, resumed):
        m.fit(values(seed=1), batch_size=4, shuffle=False, verbose=0)
    assert difference(snapshot(whole), snapshot(resumed)) == 0.0


def test_phases_change_inside_one_fit():
    model = averaged()
    seen = []
    watch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda b, logs: seen.append(model.phase))
    model.fit(values(20), batch_size=4, verbose=0, callbacks=[watch])
    assert seen == ["first"] * 3 + ["second"] * 2


def test_dataset_of_unknown_length_runs_no_phantom_step():
    model = averaged()
    dataset = tf.data.Dataset.from_tensor_slices(values(16)).batch(4).filter(lambda x: True)
    model.fit(dataset, epochs=2, verbose=0)
    assert int(model.step.numpy()) == 8
    assert int(model.generator_optimizer.iterations.numpy()) == 8


def test_steps_per_execution_counts_every_step():
    model = averaged()
    model.compile(steps_per_execution=2)
    model.fit(values(16), batch_size=4, verbose=0)
    assert int(model.step.numpy()) == 4
    with pytest.raises(ValueError, match="no player named 'critic'.*generator"):
        model.compile({"critic": keras.optimizers.SGD()})


def test_logs_are_means_over_the_epoch():
    model = averaged()
    losses = []
    plain_log = model.log
    object.__setattr__(model, "log", lambda loss: losses.append(float(loss)) or plain_log(loss=loss))
    model.compile(run_eagerly=True)
    history = model.fit(values(12), batch_size=4, verbose=0).history
    assert history["loss"][0] == pytest.approx(np.mean(losses), rel=1e-5)


def test_overflow_on_one_replica_is_skipped_on_all(mirrored):
    with mirrored.scope():
        model = tiny("dcgan", precision="mixed_float16")
    batch = make_dataset(model, steps=1)
    model.fit(batch, verbose=0)
    before = [v.numpy() for v in model.discriminator.trainable_variables]
    scale = float(model.discriminator_optimizer.dynamic_scale.numpy())
    images = np.array(next(iter(batch))["images"])
    images[-1] = np.inf  # the second replica's half
    poisoned = mirrored.experimental_distribute_dataset(tf.data.Dataset.from_tensors({"images": images}))
    model.fit(poisoned, steps_per_epoch=1, verbose=0)
    after = [v.numpy() for v in model.discriminator.trainable_variables]
    assert all((a == b).all() for a, b in zip(before, after))
    assert float(model.discriminator_optimizer.dynamic_scale.numpy()) == scale / 2


def test_loss_without_gradient_is_named():
    class Blind(Averaged):
        def train_step(self, batch):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(batch["values"])
            self.update("generator", tape, loss)
            return self.log(loss=loss)

    model = Blind(Config())
    model.compile()
    with pytest.raises(ValueError, match=r"player .generator. does not depend on dense\w*/kernel"):
        model.fit(values(), verbose=0)


@pytest.mark.parametrize("known", [True, False])
def test_grouped_batches_leave_nothing_out_and_interleave_examples(known):
    dataset = tf.data.Dataset.range(10).batch(2)
    dataset = dataset if known else dataset.filter(lambda x: True)
    groups = [g.numpy().reshape(2, 3) for g in group_batches(dataset, batch_size=2, count=3)]
    assert len(groups) == 2
    # column k is the k-th batch of the group
    np.testing.assert_array_equal(groups[0], [[0, 2, 4], [1, 3, 5]])
    assert set(np.concatenate(groups).ravel()) == set(range(10))


def test_draws_do_not_depend_on_replicas_and_are_uniform(mirrored):
    seed = random.make_seed(3, "latents", 7)
    whole = random.normal((6, 2), seed).numpy()
    parts = mirrored.run(lambda: random.normal((3, 2), seed))
    np.testing.assert_array_equal(np.concatenate(mirrored.experimental_local_results(parts)), whole)
    draws = random.uniform((20_000,), seed, -1.0, 1.0).numpy()
    assert abs(draws.mean()) < 0.02
    assert draws.std() == pytest.approx(2 / np.sqrt(12), rel=0.02)
    assert (random.normal((4,), random.make_seed(3, "other", 7)).numpy() != whole[:4, 0]).all()
    counts = np.bincount(random.integers((9_000,), seed, 3).numpy())
    assert counts.min() > 2_800


def test_draws_agree_with_and_without_xla():
    def draw():
        return random.normal((8,), random.make_seed(0, "x", 1))

    np.testing.assert_allclose(tf.function(draw, jit_compile=True)(), draw(), atol=1e-6)


def test_seeded_dropout_keeps_the_mean_and_repeats_with_its_seed():
    layer, ones = SeededDropout(0.25), tf.ones((4, 5_000))
    layer(ones)
    layer.reseed([1, 2])
    first = layer(ones, training=True).numpy()
    assert set(np.unique(first.round(4))) == {0.0, np.float32(1.3333)}
    assert first.mean() == pytest.approx(1.0, abs=0.02)
    np.testing.assert_array_equal(first, layer(ones, training=True))
    layer.reseed([1, 3])
    assert (first != layer(ones, training=True).numpy()).any()
    np.testing.assert_array_equal(layer(ones, training=False), ones)


def test_same_seed_same_initial_weights_and_global_state_is_untouched():
    import random as python_random

    python_random.seed(11)
    expected = python_random.random()
    python_random.seed(11)
    a, b, c = tiny("dcgan"), tiny("dcgan"), tiny("dcgan", seed=1)
    assert python_random.random() == expected
    assert keras.config.dtype_policy().name == "float32"
    assert difference(snapshot(a), snapshot(b)) == 0.0
    assert difference(snapshot(a), snapshot(c)) > 0.0


def test_unsaved_precision_comes_back_from_the_config(tmp_path):
    model = tiny("dcgan", precision="mixed_bfloat16")
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.generator.layers[1].compute_dtype == "bfloat16"


LABELS = Field((), (0, 9), "int32", optional=True)
SPEC = BatchSpec(images=image_field((8, 8), 3, multiple_of=4), labels=LABELS)
GOOD = np.zeros((2, 8, 8, 3), "float32")


@pytest.mark.parametrize(
    "batch, message",
    [
        (GOOD[0], "Add the batch axis"),
        (GOOD[..., 0], "Add the channel axis"),
        (GOOD[..., :1], r"grayscale_to_rgb\(x\)\.$"),
        (GOOD[:, :4], "expected float32 .batch, 8, 8, 3.*got shape .2, 4, 8, 3."),
        (GOOD.astype("uint8"), "got dtype uint8.*/ 127.5 - 1"),
        (GOOD + 200, "values from 200 to 200.*0..255"),
        (GOOD - 1.5, "values from -1.5 to -1.5.*Rescale"),
        (np.where(np.arange(2)[:, None, None, None] == 1, np.nan, GOOD), "NaN.*example 1 .1 of 2"),
        (GOOD[:0], "no examples"),
        ({"pictures": GOOD}, "no 'images'.*dict with .'pictures'"),
        ((GOOD, np.array([1, 12])), "'labels'.*values from 1 to 12"),
        ((GOOD, np.array([0.5, 1.0])), "'labels'.*got dtype float64.*Cast it"),
    ],
)
def test_bad_batches_are_refused_with_what_to_do(batch, message):
    with pytest.raises(BatchError, match=message):
        SPEC.check_values({n: np.asarray(v) for n, v in SPEC.name_fields(batch).items()})


def test_sizes_that_are_no_multiple_are_refused():
    with pytest.raises(BatchError, match="multiples of 4"):
        BatchSpec(images=image_field((None, None), 3, multiple_of=4)).check_values({"images": GOOD[:, :6]})


def test_fit_refuses_before_the_first_step():
    model = tiny("dcgan")
    good = next(iter(make_dataset(model, 1)))["images"].numpy()
    before = snapshot(model)
    dataset = tf.data.Dataset.from_tensor_slices(good)
    for bad, error, message in [
        (dataset.batch(8, drop_remainder=True), BatchError, "dataset is empty"),
        (dataset, BatchError, "Add the batch axis"),
        (dataset.batch(2).map(lambda x: x * float("nan")), BatchError, "NaN"),
        ((item for item in good), BatchError, "Add the batch axis"),
        ("pictures/", TypeError, "expected a tf.data.Dataset, arrays"),
        ({"images": good, "labels": 3}, TypeError, "expected a tf.data.Dataset, arrays"),
    ]:
        with pytest.raises(error, match=message):
            model.fit(bad, verbose=0)
    with pytest.raises(TypeError, match="do not pass y or batch_size"):
        model.fit(dataset.batch(2), batch_size=2)
    assert difference(before, snapshot(model)) == 0.0
