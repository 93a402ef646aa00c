"""How folders are read: as splits or classes, as pairs or not, what is left out, and what is said of it."""

import contextlib
import os

import numpy as np
import pytest
from PIL import Image

from tf_gan_zoo.data import DatasetError, load_dataset, open_dataset, summarize_source
from tf_gan_zoo.data.image_folders import hashed_split, in_test_split, stable_hash
from tf_gan_zoo.image_files import list_images

NUMBERS = list(map(str, range(200)))
TRAIN = [n for n in NUMBERS if not in_test_split(n)]
TEST = [n for n in NUMBERS if in_test_split(n)]


def fill(root, **counts):
    """Images named 0.png, 1.png, ... in subfolders; "__" in a keyword stands for "/", "_" for the root."""
    for where, count in counts.items():
        folder = root / ("" if where == "_" else where.replace("__", "/"))
        folder.mkdir(parents=True, exist_ok=True)
        for name in NUMBERS[:count]:
            Image.new("L", (8, 4), int(name)).save(folder / f"{name}.png")
    return f"folder:{root}"


def opened(name, **kwargs):
    return open_dataset(name, **{"batch_size": 1, "channels": 1, **kwargs})


# -------------------------------------------------------------------- splits or classes


def test_one_line_says_what_a_folder_holds(tmp_path):
    name = fill(tmp_path, train__cat=8, train__dog=7, train__owl=5, Validation__dog=4)
    (tmp_path / "train" / "notes.txt").write_text("")
    (tmp_path / "train" / ".thumbs").mkdir()
    (tmp_path / "train" / "cat" / "._0.png").write_bytes(b"")
    found = "24 images, 3 classes, split train/val"
    assert summarize_source(name).startswith(found)
    train = opened(name, view="labelled")
    assert train.summary.startswith(f"{name}: {found}; left out: ")
    assert train.summary.endswith("; 20 examples in use")
    for left_out in ("1 hidden files", "1 hidden folders", "1 other files (.txt)"):
        assert left_out in train.summary
    assert opened(name, split="val").num_examples == 4


def test_unusable_images_are_counted(tmp_path):
    name = fill(tmp_path, train=5)
    (tmp_path / "train" / "broken.png").write_text("text")
    with pytest.warns(UserWarning, match=r"broken\.png"):
        assert opened(name).summary.endswith("5 examples in use, 1 unusable ones left out")


def test_a_class_named_like_a_split(tmp_path):
    name = fill(tmp_path, bus=30, plane=30, train=30)
    train = opened(name, view="labelled", split="all")
    assert train.label_names == ("bus", "plane", "train")
    assert train.num_examples == 90
    assert summarize_source(name) == "90 images, 3 classes, split train/test by name"


def test_a_class_named_like_a_split_within_splits(tmp_path):
    name = fill(tmp_path, train__bus=2, train__test=3, test__bus=1, test__test=1)
    assert opened(name, view="labelled").label_names == ("bus", "test")
    assert opened(name).num_examples == 5


@pytest.mark.parametrize("content", [
    {"train": 4, "test": 2, "extra": 3}, {"train__cat": 4, "extra": 3}, {"train": 4, "_": 3},
])  # fmt: skip
def test_two_readings_are_both_shown_and_can_be_chosen(content, tmp_path):
    name = fill(tmp_path, **content)
    with pytest.raises(DatasetError) as raised:
        opened(name)
    message = str(raised.value)
    assert "split_folders=True: splits " in message
    assert "train/ (4)" in message
    assert "split_folders=False" in message
    splits = opened(name, split_folders=True)
    assert splits.num_examples == 4
    assert "3 images " in splits.summary.partition("left out: ")[2]
    assert opened(name, split_folders=False, split="all").num_examples == sum(content.values())


def test_splits_that_are_asked_for_must_be_there(tmp_path):
    with pytest.raises(DatasetError, match=r"no folder train/, test/ or val/ with images.*\['cat'\]"):
        opened(fill(tmp_path, cat=3), split_folders=True)


def test_images_outside_the_classes_are_named(tmp_path):
    name = fill(tmp_path, cat=3, dog=3, _=1)
    with pytest.raises(DatasetError, match=r"2 class folders \(cat, dog\), but 1 image.*0\.png"):
        opened(name, view="labelled", split="all")
    assert opened(name, split="all").num_examples == 7


def test_classes_without_a_training_image_are_named(tmp_path):
    name = fill(tmp_path, cat=9)
    (tmp_path / "dog").mkdir()
    (lonely,) = [n for n in NUMBERS if in_test_split(f"dog/{n}")][:1]
    Image.new("L", (8, 4)).save(tmp_path / "dog" / f"{lonely}.png")
    with pytest.warns(UserWarning, match=r"no image of the class\(es\) dog"):
        assert opened(name, view="labelled").label_names == ("cat", "dog")


def test_folders_of_unpaired_domains_are_no_classes(tmp_path):
    name = fill(tmp_path, trainA=2, trainB=2)
    with pytest.raises(DatasetError, match=r"trainA/, trainB/ hold two collections.*unpaired:"):
        opened(name)
    assert opened(name, split_folders=False, split="all").num_examples == 4


def test_links_that_lead_in_circles_are_counted(tmp_path):
    fill(tmp_path, cat=2)
    (tmp_path / "cat" / "up").symlink_to(tmp_path)
    names, left_out = list_images(tmp_path)
    assert len(names) == 2
    assert left_out == {"folders that links lead to again": 1}


# -------------------------------------------------------------------- few images


def test_a_single_image_is_trained_on_whatever_its_name(tmp_path):
    Image.new("L", (8, 4), 7).save(tmp_path / f"{TEST[0]}.png")
    assert opened(f"folder:{tmp_path}").num_examples == 1
    with pytest.raises(DatasetError, match=r"all 1 images are in the train split.*split=\"all\""):
        opened(f"folder:{tmp_path}", split="test")


def test_the_hash_decides_as_soon_as_it_leaves_something_to_train_on():
    assert hashed_split(TEST[:3], "train") == TEST[:3]
    assert hashed_split(TEST[:3], "test") == []
    names = [*TEST[:3], TRAIN[0]]
    assert hashed_split(names, "train") == TRAIN[:1]
    assert hashed_split(names, "test") == TEST[:3]
    assert hashed_split(names, "all") == names


@pytest.mark.parametrize("only_in_a", [[], TRAIN[:1]])
def test_a_single_pair_is_trained_on(only_in_a, tmp_path):
    for domain, names in (("A", [TEST[0], *only_in_a]), ("B", [TEST[0]])):
        (tmp_path / domain).mkdir()
        for name in names:
            Image.new("L", (4, 4)).save(tmp_path / domain / f"{name}.png")
    with pytest.warns(UserWarning, match="without a partner") if only_in_a else contextlib.nullcontext():
        pairs = opened(f"paired:{tmp_path}", view="paired")
    assert pairs.num_examples == 1
    assert "1 pairs in A and B" in pairs.summary


# -------------------------------------------------------------------- pairs


def test_images_are_halved_only_if_all_are_twice_as_wide_as_high(tmp_path):
    fill(tmp_path, train=3)
    name = f"paired:{tmp_path}"
    assert "3 pairs side by side" in opened(name, view="paired").summary
    Image.new("L", (7, 4)).save(tmp_path / "train" / "photo.png")  # one pixel of rounding
    assert opened(name, view="paired", image_size=4).num_examples == 4
    Image.new("L", (20, 30)).save(tmp_path / "train" / "photo.png")
    with pytest.raises(DatasetError, match=r"1 of 4 images are not, e\.g\. .*photo\.png is 30x20.*halves=T"):
        opened(name, view="paired", image_size=4)
    assert opened(name, view="paired", image_size=4, halves=True).num_examples == 4


def test_upright_images_count_as_they_are_shown(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("L", (4, 8)).save(tmp_path / "0.jpg", exif=turned)  # shown as 8 wide and 4 high
    assert opened(f"paired:{tmp_path}", view="paired", split="all").num_examples == 1


def test_unpaired_folders_are_no_pairs(tmp_path):
    fill(tmp_path, trainA=3, trainB=3)
    with pytest.raises(DatasetError, match=r"trainA/, trainB/ hold two collections.*\"unpaired:.*train/A"):
        opened(f"paired:{tmp_path}", view="paired")


def test_single_images_are_no_pairs(tmp_path):
    name = fill(tmp_path, train=2)
    with pytest.raises(DatasetError, match=r"has no view 'paired'.*Sources with.*outlines:.*paired:"):
        opened(name, view="paired")


@pytest.mark.parametrize("content, reading", [
    ({"train": 2}, "each image is an A|B pair"),
    ({"train__A": 2, "train__B": 2}, "those in A/ and B/ are pairs"),
])  # fmt: skip
def test_pairs_are_no_unpaired_folders(content, reading, tmp_path):
    fill(tmp_path, **content)
    with pytest.raises(DatasetError) as raised:
        opened(f"unpaired:{tmp_path}", view="unpaired")
    assert "no folder trainA and no folder trainB" in str(raised.value)
    assert f'If {reading}, use "paired:{tmp_path}"' in str(raised.value)
    assert opened(f"paired:{tmp_path}", view="unpaired").num_examples == 1


def test_pairs_in_folders_are_whole_images(tmp_path):
    fill(tmp_path, A=2, B=2)
    with pytest.raises(DatasetError, match="leave out halves=True"):
        opened(f"paired:{tmp_path}", view="paired", halves=True)


def test_partners_with_two_candidates_are_refused(tmp_path):
    fill(tmp_path, train__A=1, train__B=1)
    Image.new("L", (8, 4)).save(tmp_path / "train" / "B" / "0.bmp")
    with pytest.raises(DatasetError, match=r"0\.(bmp|png) .*0\.(bmp|png) have the same name"):
        opened(f"paired:{tmp_path}", view="paired")


def test_equal_names_in_several_splits_are_different_pairs(tmp_path):
    fill(tmp_path, A__train=2, B__train=2, A__test=1, B__test=1)
    assert opened(f"paired:{tmp_path}", view="paired", split="all").num_examples == 3
    assert opened(f"paired:{tmp_path}", view="paired", split="test").num_examples == 1


def test_what_is_beside_the_pairs_is_counted(tmp_path):
    fill(tmp_path, train__A=3, train__B=2, train=1, extra=4)
    with pytest.warns(UserWarning, match="without a partner"):
        found = opened(f"paired:{tmp_path}", view="paired").found
    left_out = "1 images without a partner, 5 images elsewhere"
    assert found == f"2 pairs in A and B, split train; left out: {left_out}"


def test_unpaired_summary(tmp_path):
    fill(tmp_path, trainA=3, trainB=2, testA=1, testB=1)
    assert summarize_source(f"unpaired:{tmp_path}") == "4 images in A and 3 in B, split train/test"


# -------------------------------------------------------------------- names


def test_names_that_are_not_utf_8(tmp_path):
    folder = os.path.join(os.fsencode(tmp_path), b"caf\xe9")
    os.mkdir(folder)
    for number in range(3):
        Image.new("L", (8, 4), number).save(tmp_path / "0.png")
        os.rename(tmp_path / "0.png", os.path.join(folder, b"\xff%d.png" % number))
    batch = next(iter(load_dataset(f"folder:{tmp_path}", view="captioned", split="all", batch_size=3)))
    assert batch["captions"].numpy()[0] == rb"caf\udce9"
    np.testing.assert_array_equal(batch["labels"], [0, 0, 0])
    assert stable_hash("\udcff0") != stable_hash("\udcff1")
