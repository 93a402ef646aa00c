"""Pictures with boxes: letters in clutter, and lists in COCO's format."""

import json

import numpy as np
import pytest
from PIL import Image

from tf_gan_zoo.data import DatasetError, load_dataset, open_dataset


def clutter(**keywords):
    options = {"view": "detection", "batch_size": 24, "num_examples": 24, "image_size": 64, **keywords}
    return next(load_dataset("clutter", **options).as_numpy_iterator())


def test_boxes_hold_letters_half_of_which_are_small():
    batch = clutter(num_objects=4, num_lines=0, shuffle=False)
    assert batch["images"].shape == (24, 64, 64, 1)
    boxes, labels = batch["boxes"], batch["labels"]
    assert boxes.shape == (24, 4, 4)
    assert boxes.dtype == np.float32
    assert set(labels.ravel()) <= set(range(9))
    heights = boxes[..., 2] - boxes[..., 0]
    present = labels > 0
    assert present.mean() > 0.9
    assert (heights[:, ::2][present[:, ::2]] < 0.17).all()
    assert (heights[:, 1::2][present[:, 1::2]] > 0.25).all()
    for image, rows, here in zip(batch["images"][..., 0], boxes, present):
        for top, left, bottom, right in np.rint(rows[here] * 64).astype(int):
            assert image[top:bottom, left:right].max() > 0.2  # ink
            assert image[top:bottom, left:right].mean() > np.median(image)


def test_letters_do_not_touch_and_the_same_pictures_come_again():
    first, again, test = clutter(), clutter(), clutter(split="test")
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    assert np.abs(first["images"] - test["images"]).max() > 0.1
    for boxes, labels in zip(first["boxes"], first["labels"]):
        boxes = boxes[labels > 0]
        for k, a in enumerate(boxes):
            for b in boxes[k + 1 :]:
                assert (a[:2] >= b[2:]).any() or (b[:2] >= a[2:]).any()


def test_boxes_cannot_follow_flips():
    with pytest.raises(DatasetError, match="flip, load_scale and load_size"):
        clutter(flip=True)
    with pytest.raises(DatasetError, match="small must be"):
        clutter(small=(0.5, 0.2))


@pytest.fixture
def coco(tmp_path):
    (tmp_path / "train").mkdir()
    for number, size in enumerate([(40, 20), (20, 40), (30, 30)]):
        Image.new("RGB", size, (60 * number, 0, 0)).save(tmp_path / "train" / f"{number}.png")
    content = {
        "images": [{"id": n, "file_name": f"{n}.png", "width": w, "height": h}
                   for n, (w, h) in enumerate([(40, 20), (20, 40), (30, 30)])],
        "categories": [{"id": 7, "name": "sign"}, {"id": 3, "name": "lamp"}],
        "annotations": [
            {"image_id": 0, "category_id": 7, "bbox": [10, 5, 20, 10]},
            {"image_id": 1, "category_id": 3, "bbox": [0, 0, 2, 4]},
            {"image_id": 1, "category_id": 7, "bbox": [10, 20, 10, 20]},
        ],
    }  # fmt: skip
    (tmp_path / "train.json").write_text(json.dumps(content))
    return tmp_path


def test_coco_lists_become_boxes_and_labels(coco):
    pipeline = open_dataset(
        f"coco:{coco}", view="detection", image_size=16, batch_size=2, shuffle=False, num_boxes=3
    )
    assert pipeline.num_examples == 2  # one picture has no object
    assert pipeline.label_names == ("none", "lamp", "sign")
    batch = next(pipeline.dataset().as_numpy_iterator())
    np.testing.assert_allclose(batch["boxes"][0, 0], [0.25, 0.25, 0.75, 0.75])
    np.testing.assert_allclose(batch["boxes"][1, :2], [[0.5, 0.5, 1, 1], [0, 0, 0.1, 0.1]])
    np.testing.assert_array_equal(batch["labels"], [[2, 0, 0], [2, 1, 0]])


def test_coco_lists_that_cannot_be_read(coco):
    options = {"view": "detection", "image_size": 16, "batch_size": 1}
    with pytest.raises(DatasetError, match="There is no .*test.json"):
        load_dataset(f"coco:{coco}", split="test", **options)
    (coco / "train.json").write_text('{"images": []}')
    with pytest.raises(DatasetError, match="not in COCO's format: KeyError"):
        load_dataset(f"coco:{coco}", **options)
    (coco / "train.json").write_text("[")
    with pytest.raises(DatasetError, match="is not JSON"):
        load_dataset(f"coco:{coco}", **options)
