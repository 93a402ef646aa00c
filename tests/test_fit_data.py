"""Data of every kind in fit and evaluate: what is taken, what is refused, and that every batch is checked."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import make_dataset, make_fields, tiny

from tf_gan_zoo.batch_spec import BatchError


@pytest.fixture(scope="module")
def model():
    """One model for all of these tests, run step by step; none of them looks at its weights."""
    model = tiny("dcgan")
    model.run_eagerly = True
    return model


@pytest.fixture(scope="module")
def images(model):
    return make_fields(model, 12)["images"]


class Batches(keras.utils.PyDataset):
    """Batches of 4 images; counts the epochs."""

    def __init__(self, images, **options):
        super().__init__(**options)
        self.images, self.begun, self.ended = images, 0, 0

    def __len__(self):
        return len(self.images) // 4

    def __getitem__(self, index):
        return self.images[4 * index : 4 * index + 4]

    def on_epoch_begin(self):
        self.begun += 1

    def on_epoch_end(self):
        self.ended += 1


def steps_of(model, *arguments, **keywords):
    """How many training steps fit does, and its history."""
    before = int(model.step.numpy())
    history = model.fit(*arguments, verbose=0, **keywords).history
    return int(model.step.numpy()) - before, history


def images_of(model, *arguments, **keywords):
    """The batches that the training steps of fit get."""
    seen, step = [], model.train_step
    object.__setattr__(model, "train_step", lambda data: (seen.append(data["images"].numpy()), step(data))[1])
    model.make_train_function(force=True)
    try:
        model.fit(*arguments, verbose=0, **keywords)
    finally:
        object.__delattr__(model, "train_step")
        model.make_train_function(force=True)
    return seen


# ---------------------------------------------------------------- what fit takes


def test_validation_split_keeps_the_last_part_of_arrays(model, images):
    last = images[9:].copy()
    seen, evaluated = [], model.evaluate
    steps, history = steps_of(model, images, batch_size=3, validation_split=0.25)
    assert steps == 3
    assert "val_d_loss" in history
    expected = evaluated(last, batch_size=3, verbose=0, return_dict=True)
    assert set(expected) == set(model.log_names)
    seen = np.concatenate(images_of(model, images, batch_size=3, validation_split=0.25))
    assert {x.tobytes() for x in seen} == {x.tobytes() for x in images[:9]}
    with pytest.raises(ValueError, match="leaves 0 to train on and 12 to validate on"):
        model.fit(images, validation_split=0.95, verbose=0)
    with pytest.raises(TypeError, match="validation_split parts arrays only, not a _BatchDataset"):
        model.fit(make_dataset(model, 1), validation_split=0.5, verbose=0)


@pytest.mark.parametrize("name", ["sample_weight", "class_weight"])
def test_weights_are_refused_by_name(name, model, images):
    for call in (model.fit, model.train_on_batch):
        with pytest.raises(TypeError, match=f"takes no {name}="):
            call(images, **{name: {0: 1.0} if name == "class_weight" else np.ones(12)})
    if name == "sample_weight":
        for call in (model.evaluate, model.test_on_batch):
            with pytest.raises(TypeError, match="takes no sample_weight="):
                call(images, sample_weight=np.ones(12))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_py_dataset_gives_every_batch_once_an_epoch(workers, model, images):
    data, validation = Batches(images, workers=workers), Batches(images[:4])
    seen = images_of(model, data, epochs=2, shuffle=False, validation_data=validation)
    np.testing.assert_array_equal(np.concatenate(seen), np.concatenate([images, images]))
    assert (data.begun, data.ended, validation.begun, validation.ended) == (2, 2, 2, 2)
    shuffled = images_of(model, data)
    assert {x.tobytes() for x in shuffled} == {x.tobytes() for x in seen}
    with pytest.raises(BatchError, match=r"values from -1\.9\d* to 1\.9\d*\. Rescale"):
        model.fit(Batches(images * 2 / np.abs(images).max()), verbose=0)
    assert set(model.evaluate(data, verbose=0, return_dict=True)) == set(model.log_names)


def test_a_generator_gives_every_batch_once(model, images):
    def batches(epochs=1):
        for k in range(3 * epochs):
            yield (images[4 * (k % 3) : 4 * (k % 3) + 4],)

    np.testing.assert_array_equal(np.concatenate(images_of(model, batches())), images)
    seen = images_of(model, batches(2), epochs=2, steps_per_epoch=3)
    np.testing.assert_array_equal(np.concatenate(seen), np.concatenate([images, images]))
    with pytest.raises(ValueError, match="gone through once: pass steps_per_epoch="):
        model.fit(batches(), epochs=2, verbose=0)
    with pytest.raises(TypeError, match=r"got function \(call it\)"):
        model.fit(batches, verbose=0)
    used = batches()
    list(used)
    with pytest.raises(BatchError, match="yields no batches"):
        model.fit(used, verbose=0)


def test_a_generator_loses_nothing_to_starting_values():
    """ALI starts from the pixels' means, for which it reads batches before training."""
    model = tiny("ali")
    model.run_eagerly = True
    images = make_fields(model, 12)["images"]
    seen = images_of(model, (images[4 * k : 4 * k + 4] for k in range(3)))
    np.testing.assert_array_equal(np.concatenate(seen), images)


def test_more_steps_than_the_data_have_are_refused(model):
    with pytest.raises(BatchError, match="steps_per_epoch=3, but the data have 2 training steps"):
        model.fit(make_dataset(model, 2), steps_per_epoch=3, verbose=0)


# ---------------------------------------------------------------- what fit refuses


def test_unknown_ranks_and_ragged_sizes_are_refused(model, images):
    data = make_dataset(model, 2)
    unknown = data.map(lambda b: tf.numpy_function(lambda x: x, [b["images"]], tf.float32))
    with pytest.raises(BatchError, match=r"unknown rank\. Say it .* tf.ensure_shape\(x, \[None, "):
        model.fit(unknown, verbose=0)
    known = unknown.map(lambda x: tf.ensure_shape(x, [None] * 4))
    assert steps_of(model, known)[0] == 2
    ragged = tf.data.Dataset.from_tensor_slices(images).map(tf.RaggedTensor.from_tensor).ragged_batch(4)
    with pytest.raises(BatchError, match="a ragged tensor. Give all examples one size"):
        model.fit(ragged, verbose=0)


def spoilt(images, how):
    """The images, of which the eighth is spoilt."""
    images = images.copy()
    images[7].flat[5] = {"range": 3.0, "nan": np.nan, "infinite": np.inf}[how]
    return images


@pytest.mark.parametrize("how, found", [
    ("range", r"batch 1 of the training data .* values from -0\.99\d* to 3\. Rescale"),
    ("nan", "batch 1 of the training data .* NaN or infinite values in example 3"),
    ("infinite", "batch 1 of the training data .* NaN or infinite values in example 3"),
])  # fmt: skip
def test_later_batches_are_checked(how, found, model, images):
    data = tf.data.Dataset.from_tensor_slices(spoilt(images, how)).batch(4)
    before = int(model.step.numpy())
    with pytest.raises(BatchError, match=found):
        model.fit(data, verbose=0)
    assert int(model.step.numpy()) == before + 1


def test_sizes_of_later_batches_are_checked(model, images):
    sizes = (images[:4], images[4:8, :-1], images[8:])
    with pytest.raises(BatchError, match=r"batch 1 of the training data .* got shape \(4, 15, 16"):
        model.fit((x for x in sizes), verbose=0)


def test_validation_data_and_evaluate_are_checked(model, images):
    bad = tf.data.Dataset.from_tensor_slices(spoilt(images, "nan")).batch(4)
    with pytest.raises(BatchError, match="batch 1 of validation_data"):
        model.fit(images, batch_size=12, validation_data=bad, verbose=0)
    with pytest.raises(BatchError, match="validation_data: 'images': expected .*0..255"):
        model.fit(images, validation_data=(images + 1) * 127.5, verbose=0)
    with pytest.raises(BatchError, match="batch 1 of the data of evaluate"):
        model.evaluate(bad, verbose=0)
    with pytest.raises(BatchError, match="the data of evaluate: 'images': expected .*0..255"):
        model.evaluate((images + 1) * 127.5, verbose=0)


def test_single_batches_are_checked(model, images):
    assert set(model.train_on_batch(images, return_dict=True)) == set(model.log_names)
    assert set(model.test_on_batch(tf.constant(images), return_dict=True)) == set(model.log_names)
    for call in (model.train_on_batch, model.test_on_batch):
        for how in ("nan", "range"):
            with pytest.raises(BatchError, match="'images'"):
                call(spoilt(images, how))
        with pytest.raises(BatchError, match="dtype uint8"):
            call(((images + 1) * 127).astype("uint8"))
    grouped = tiny("wgan_gp")  # two batches in a step
    with pytest.raises(BatchError, match="a multiple of 2, got images: 3"):
        grouped.train_on_batch(make_fields(grouped, 3)["images"])
    grouped.run_eagerly = True
    grouped.set_schedule_steps(1)
    grouped.train_on_batch(make_fields(grouped, 4)["images"])
    with pytest.raises(ValueError, match="1 training steps, but training would go on to step 2"):
        grouped.train_on_batch(make_fields(grouped, 4)["images"])


def test_labels_of_later_batches_are_checked():
    model = tiny("cgan")
    fields = make_fields(model, 8)
    fields["labels"][6] = 10 * model.config.num_classes
    with pytest.raises(BatchError, match="batch 1 of the training data .*'labels'"):
        model.fit(tf.data.Dataset.from_tensor_slices(fields).batch(4), verbose=0)


def test_checked_batches_are_the_same_on_two_replicas_and_in_compiled_loops(mirrored, images):
    data = tf.data.Dataset.from_tensor_slices(spoilt(images, "nan")).batch(4)
    with mirrored.scope():
        double = tiny("dcgan")
    double.run_eagerly = True
    with pytest.raises(BatchError, match="batch 1 of the training data"):
        double.fit(data, verbose=0)


def test_images_from_0_to_1_are_warned_of(model, images, recwarn):
    with pytest.warns(UserWarning, match=r"no value of the first batch is below 0.* use x \* 2 - 1"):
        model.fit((images + 1) / 2, batch_size=12, verbose=0)
    recwarn.clear()
    model.fit(images, batch_size=12, verbose=0)
    assert not [w for w in recwarn if "below 0" in str(w.message)]


# ---------------------------------------------------------------- advice


def advice(model, **changes):
    """What fit says of fields that are changed."""
    fields = {**make_fields(model, 12), **changes}
    with pytest.raises(BatchError) as error:
        model.fit(fields, verbose=0)
    return str(error.value)


def test_advice_on_images_names_what_the_config_takes(model, images):
    said = advice(model, images=np.concatenate([images, images[..., :1]], axis=-1))
    assert "Leave out the alpha channel: x[..., :3]." in said
    assert "channels=" not in said  # there is no model of four
    said = advice(model, images=images[..., :1])
    assert said.endswith("tf.image.grayscale_to_rgb(x), or build the model with channels=1.")
    said = advice(model, images=np.moveaxis(images, -1, 1))
    assert said.endswith("np.moveaxis(x, 1, -1).")
    said = advice(model, images=np.resize(images, (12, 32, 32, 3)))
    assert said.endswith("or build the model with image_size=32.")
    said = advice(model, images=np.resize(images, (12, 17, 17, 3)))
    assert "build the model" not in said
    ragged = np.empty(12, object)
    ragged[:] = [np.zeros((k + 1, 2, 3)) for k in range(12)]
    assert "Give all examples one size" in advice(model, images=ragged)
    assert "Scale it to [-1, 1]; 0..255 by x / 127.5 - 1" in advice(model, images=images.astype("int64"))


@pytest.fixture(scope="module")
def labelled():
    model = tiny("cgan")
    model.run_eagerly = True
    return model


def test_labels_of_every_kind_are_taken_or_refused_with_advice(labelled):
    labels = make_fields(labelled, 12)["labels"]
    for dtype in ("int64", "uint8", "int8"):
        assert steps_of(labelled, {**make_fields(labelled, 12), "labels": labels.astype(dtype)})[0] == 3
    assert advice(labelled, labels=labels[:, None]).endswith("Leave out the last axis: x[:, 0].")
    one_hot = np.eye(3, dtype="float32")[labels]
    assert "np.argmax(x, axis=-1)" in advice(labelled, labels=one_hot)
    assert "Cast it: tf.cast(x, tf.int32)" in advice(labelled, labels=labels > 0)
    words = np.array(["cat", "dog", "fox"])[labels]
    for strings in (words, words.astype(object)):
        assert "Number the classes: np.unique(x, return_inverse=True)[1]." in advice(labelled, labels=strings)


def test_more_classes_than_the_model_has_and_fewer_are_refused(labelled):
    labels = make_fields(labelled, 12)["labels"]
    said = advice(labelled, labels=labels + 2)
    assert said.endswith("Use integers from 0 to 2, or build the model with num_classes=5.")
    said = advice(labelled, labels=np.minimum(labels, 1))
    assert "2 of the model's 3 classes have examples, and none has class 2" in said
    assert "num_classes=2" in said
