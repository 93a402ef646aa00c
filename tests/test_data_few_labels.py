"""Semi-supervised data: `labelled_per_class` of `load_dataset`."""

import numpy as np
import pytest

from tf_gan_zoo.data import DatasetError, Source, open_dataset, register_source

NUM, CLASSES = 60, 3


@register_source("few_labels_for_tests")
def _numbered(request):
    """Pictures that show their own number; the number modulo 3 is their class."""
    numbers = np.arange(NUM, dtype=np.uint8)
    pictures = np.broadcast_to(numbers[:, None, None, None], (NUM, 4, 4, 1))
    return Source({"images": pictures}, {"labels": numbers % CLASSES}, ("a", "b", "c"))


def epoch(**kwargs):
    """Numbers on the pictures, and labels, of one epoch."""
    options = {"view": "labelled", "batch_size": 20, "value_range": (0, 255), "labelled_per_class": 2}
    pipeline = open_dataset("few_labels_for_tests", **options | kwargs)
    batches = list(pipeline.dataset())
    numbers = np.concatenate([batch["images"][:, 0, 0, 0] for batch in batches]).round().astype(int)
    return numbers, np.concatenate([batch["labels"] for batch in batches]), pipeline


def test_an_epoch_is_all_pictures_without_labels_and_as_many_labelled_ones():
    numbers, labels, pipeline = epoch()
    assert pipeline.num_examples == 2 * NUM
    np.testing.assert_array_equal(np.sort(numbers[labels < 0]), np.arange(NUM))
    known = numbers[labels >= 0]
    np.testing.assert_array_equal(labels[labels >= 0], known % CLASSES)
    values, counts = np.unique(known, return_counts=True)
    np.testing.assert_array_equal(np.bincount(values % CLASSES), [2, 2, 2])
    assert set(counts) == {NUM // 6}


def test_half_of_every_batch_has_labels_and_rounds_differ():
    """So that the two kinds can pass a network as batches of equal size."""
    numbers, labels, pipeline = epoch()
    np.testing.assert_array_equal(labels >= 0, np.arange(2 * NUM) % 2 == 1)
    later = np.concatenate([b["images"][:, 0, 0, 0] for b in pipeline.dataset(start_step=6)]).round()
    np.testing.assert_array_equal(np.sort(later), np.sort(numbers))
    assert (later[0::2] != numbers[0::2]).mean() > 0.5
    partners = [set(zip(n[0::2], n[1::2])) for n in (numbers, later)]
    assert len(partners[0] & partners[1]) < 20  # the two kinds are shuffled apart


def test_the_seed_decides_which_labels_are_known():
    def known(seed):
        numbers, labels, _ = epoch(seed=seed)
        return set(numbers[labels >= 0])

    assert known(0) == known(0) != known(1)


def test_held_out_pictures_keep_their_labels():
    numbers, labels, _ = epoch(split="test")
    np.testing.assert_array_equal(labels, numbers % CLASSES)


@pytest.mark.parametrize("options, message", [
    ({"labelled_per_class": 21}, "only 20 pictures of one class"),
    ({"labelled_per_class": 0}, "must be a positive integer, got 0"),
    ({"view": "images"}, "is for view='labelled'"),
])  # fmt: skip
def test_bad_options_are_named(options, message):
    with pytest.raises(DatasetError, match=message):
        epoch(**options)
