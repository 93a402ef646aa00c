"""TensorFlow Datasets: mocked builders, and a small one prepared on disk."""

import socket
import sys

import numpy as np
import pytest
import tensorflow as tf

from tf_gan_zoo.data import DatasetError, load_dataset, open_dataset, streamed
from tf_gan_zoo.data import tfds as source

tfds = pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """`shades/1.0.0`: 40 gray pictures of 6x5 in "train"; number, label and pixel agree."""
    root = tmp_path_factory.mktemp("tfds")
    features = tfds.features.FeaturesDict({
        "picture": tfds.features.Image(shape=(6, 5, 1)),
        "other": tfds.features.Image(shape=(None, None, 3)),
        "kind": tfds.features.ClassLabel(names=["dark_one", "light_one"]),
    })  # fmt: skip
    examples = [
        {"picture": np.full((6, 5, 1), i, np.uint8), "kind": i // 20,
         "other": np.full((4 + i % 2, 4, 3), 9, np.uint8)}
        for i in range(40)
    ]  # fmt: skip
    for name, splits in (("shades", ("train",)), ("domains", ("trainA", "trainB", "testA", "testB"))):
        tfds.dataset_builders.store_as_tfds_dataset(
            name=name, version="1.0.0", features=features, data_dir=root, split_datasets={
                split: tf.data.Dataset.from_generator(
                    lambda: iter(examples),
                    output_signature={k: tf.TensorSpec(None, v) for k, v in (
                        ("picture", tf.uint8), ("other", tf.uint8), ("kind", tf.int64))},
                ) for split in splits
            },
        )  # fmt: skip
    return str(root)


def _open(prepared, name="tfds:shades", **kwargs):
    kwargs = {"view": "labelled", "batch_size": 4, "value_range": (0, 255), "data_dir": prepared,
              "image_key": "picture", "download": False} | kwargs  # fmt: skip
    return open_dataset(name, **kwargs)


def _numbers(batches):
    return np.concatenate([b["images"][:, 0, 0, 0] for b in batches]).astype(int)


def test_an_attribute_parts_a_split_into_two_domains(prepared):
    """kind is 0 for the first 20 pictures and 1 for the others; a tenth of all is the test split."""
    pipeline = _open(prepared, view="unpaired", attribute="kind", batch_size=1)
    batches = list(pipeline.dataset().as_numpy_iterator())
    a, b = ({int(batch[f].flat[0]) for batch in batches} for f in ("images_a", "images_b"))
    assert (max(b), min(a), len(a) + len(b)) == (19, 20, 36)
    assert pipeline.num_examples == max(len(a), len(b))
    with pytest.raises(DatasetError, match="has no feature 'kind/male'"):
        _open(prepared, view="unpaired", attribute="kind/male")
    with pytest.raises(DatasetError, match="not one truth value"):
        _open(prepared, view="unpaired", attribute="picture")
    with pytest.raises(DatasetError, match="for view='unpaired', not 'images'"):
        _open(prepared, view="images", attribute="kind")


def test_a_prepared_builder_in_memory(prepared):
    train, test = _open(prepared), _open(prepared, split="test")
    assert (train.num_examples, test.num_examples) == (36, 4)
    assert train.label_names == ("dark_one", "light_one")
    assert train.fields["images"].shape == (4, 6, 5, 1)
    seen = [_numbers(p.dataset()) for p in (train, test)]
    np.testing.assert_array_equal(np.sort(np.concatenate(seen)), np.arange(40))
    batch = next(iter(_open(prepared, view="captioned").dataset()))
    for number, label, caption in zip(_numbers([batch]), batch["labels"], batch["captions"].numpy()):
        assert label == number // 20
        assert caption == (b"light one" if number >= 20 else b"dark one")


@pytest.mark.parametrize("buffer", [10_000, 8])
def test_streaming_resumes_exactly_and_covers_each_epoch(prepared, monkeypatch, buffer):
    monkeypatch.setattr(streamed, "SHUFFLE_BUFFER", buffer)
    stream = _open(prepared, cache=False, view="captioned")
    assert isinstance(stream, streamed.StreamedPipeline)
    assert stream.steps_per_epoch == 9
    whole = list(stream.dataset(repeat=True).take(20))
    numbers = [_numbers(whole[:9]), _numbers(whole[9:18])]
    assert [len(set(n)) for n in numbers] == [36, 36]
    np.testing.assert_array_equal(*np.sort(numbers))
    assert np.any(numbers[0] != numbers[1])
    for start in (4, 11):
        resumed = stream.dataset(start_step=start, repeat=True)
        for expected, batch in zip(whole[start:], resumed):
            np.testing.assert_array_equal(batch["images"], expected["images"])
            np.testing.assert_array_equal(batch["captions"], expected["captions"])
    rest = list(stream.dataset(start_step=11))
    np.testing.assert_array_equal(_numbers(rest), _numbers(whole[11:18]))
    assert stream.dataset().element_spec["images"].shape == (4, 6, 5, 1)


def test_streamed_pictures_equal_those_in_memory(prepared):
    options = {"split": "test", "image_size": 4, "channels": 3, "image_key": "other"}
    kept, streamed = (next(iter(_open(prepared, cache=c, **options).dataset())) for c in (True, False))
    np.testing.assert_array_equal(kept["images"], streamed["images"])
    np.testing.assert_array_equal(kept["labels"], streamed["labels"])


def test_unpaired_splits(prepared):
    domains = _open(prepared, "tfds:domains", view="unpaired")
    assert domains.num_examples == 40
    assert any(np.any(b["images_a"] != b["images_b"]) for b in domains.dataset())
    test = _open(prepared, "tfds:domains", view="unpaired", split="test").dataset()
    for field in ("images_a", "images_b"):
        numbers = np.concatenate([b[field][:, 0, 0, 0] for b in test])
        np.testing.assert_array_equal(np.sort(numbers), np.arange(40))
    with pytest.raises(DatasetError, match="no split 'trainA' for view='unpaired'"):
        _open(prepared, view="unpaired")
    with pytest.raises(DatasetError, match="too large to be kept in memory"):
        _open(prepared, "tfds:domains", view="unpaired", cache=False)


def test_mocked_builder():
    with tfds.testing.mock_data(num_examples=6, policy=tfds.testing.MockPolicy.USE_CODE):
        data = load_dataset("tfds:mnist", view="labelled", batch_size=3, download=True)
        batches = list(data)
    assert len(batches) == 2
    assert batches[0]["images"].shape == (3, 28, 28, 1)
    assert batches[0]["labels"].dtype == tf.int32


def test_errors(prepared, monkeypatch):
    with pytest.raises(DatasetError, match="cannot be prepared"):
        load_dataset("tfds:no_such_dataset_here", download=True)
    with pytest.raises(DatasetError, match="2 Image features.*image_key"):
        _open(prepared, image_key=None)
    with pytest.raises(DatasetError, match="'kind' is not a feature of 8 or 16 bit images"):
        _open(prepared, image_key="kind")
    with pytest.raises(DatasetError, match="'other' is not a feature with one integer"):
        _open(prepared, label_key="other")
    with pytest.raises(DatasetError, match="has no split 'val'; it has"):
        _open(prepared, split="val")
    with pytest.raises(DatasetError, match="differ in size"):
        _open(prepared, image_key="other")
    with pytest.raises(DatasetError, match="give image_size"):
        _open(prepared, image_key="other", cache=False)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(DatasetError, match="pip install tensorflow-datasets"):
        _open(prepared)


def test_what_is_not_on_disk_is_an_error_at_once_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setattr(socket, "socket", lambda *_, **__: pytest.fail("the network was used"))
    monkeypatch.setattr(tfds, "builder", lambda *_, **__: pytest.fail("TFDS may ask a server"))
    with pytest.raises(DatasetError) as raised:
        load_dataset("tfds:cifar10", data_dir=str(tmp_path))
    for part in (f'"tfds:cifar10" is not prepared in {tmp_path}', "--data glyphs", "download=True",
                 "tf-gan-zoo datasets tfds:cifar10 --download"):  # fmt: skip
        assert part in str(raised.value)


def test_summary(prepared):
    summary = _open(prepared).summary
    assert "shades/1.0.0: 36 images, 2 classes, split train[:90%] of train; 36 examples in use" in summary


def test_auto_cache_counts_bytes(prepared, monkeypatch):
    monkeypatch.setattr(source, "CACHE_LIMIT", 36 * 30)
    assert not isinstance(_open(prepared), streamed.StreamedPipeline)
    monkeypatch.setattr(source, "CACHE_LIMIT", 36 * 30 - 1)
    assert isinstance(_open(prepared), streamed.StreamedPipeline)
