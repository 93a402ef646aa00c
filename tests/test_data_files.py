"""Sources that read files: decoding, folders, pairs, IDX, NPZ, emoji, and each of their errors."""

import gzip
import json
import struct
import warnings

import numpy as np
import pytest
from PIL import Image

from tf_gan_zoo.data import DatasetError, ImageFile, coloured_emoji, images, load_dataset, open_dataset
from tf_gan_zoo.data.image_folders import in_test_split
from tf_gan_zoo.data.images import Fit, fit_picture, read_picture


def save(path, color=(200, 100, 50), size=(8, 6), mode="RGB", **kwargs):
    """One plain picture; `size` is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path, **kwargs)
    return path


def first(name, **kwargs):
    """The first batch in bytes' range, in order."""
    kwargs = {"batch_size": 1, "value_range": (0, 255), "shuffle": False} | kwargs
    return {k: v.numpy() for k, v in next(iter(load_dataset(name, **kwargs))).items()}


def train_names(count, ending=".png"):
    """Names that the stable hash puts into the train split."""
    names = (f"picture{i}" for i in range(10_000))
    return [n + ending for n, _ in zip((n for n in names if not in_test_split(n)), range(count))]


# Decoding.


def test_alpha_is_composited_over_white(tmp_path):
    rgba = save(tmp_path / "a.png", (0, 0, 0, 0), mode="RGBA")
    half = save(tmp_path / "b.png", (255, 0, 0, 128), mode="RGBA")
    gray = save(tmp_path / "c.png", (0, 0), mode="LA")
    assert read_picture(ImageFile(str(rgba))).getpixel((0, 0)) == (255, 255, 255)
    assert read_picture(ImageFile(str(half))).getpixel((0, 0)) == (255, 127, 127)
    assert read_picture(ImageFile(str(gray))).getpixel((0, 0)) == 255


def test_palette_with_a_transparent_entry(tmp_path):
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "p.png", transparency=0)
    read = read_picture(ImageFile(str(tmp_path / "p.png")))
    assert [read.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (40, 50, 60)]


def test_sixteen_bits_are_scaled_not_cut(tmp_path):
    wide = np.array([[0, 257 * 100, 65535]], np.uint16)
    Image.fromarray(wide).save(tmp_path / "w.png")
    read = np.asarray(read_picture(ImageFile(str(tmp_path / "w.png"))))
    np.testing.assert_array_equal(read, [[0, 100, 255]])


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees
    save(tmp_path / "e.jpg", size=(20, 10), exif=exif)
    assert read_picture(ImageFile(str(tmp_path / "e.jpg"))).size == (10, 20)


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "P"])
def test_other_modes_become_rgb(tmp_path, mode):
    path = tmp_path / ("m.tif" if mode == "CMYK" else "m.png")
    Image.new("RGB", (5, 4), "white").convert(mode).save(path)
    array = fit_picture(read_picture(ImageFile(str(path))), Fit((4, 5), 3))
    assert array.shape == (4, 5, 3)
    assert array.min() >= 250


def _left_red(width, height):
    """Red left third, blue rest."""
    picture = Image.new("RGB", (width, height), "blue")
    picture.paste("red", (0, 0, width // 3, height))
    return picture


def test_ways_to_fit_another_aspect():
    wide = _left_red(30, 10)
    center = fit_picture(wide, Fit((10, 10), 3, "center"))
    squeezed = fit_picture(wide, Fit((10, 12), 3, "resize"))
    covering = fit_picture(wide, Fit((20, 10), 3, "random"))
    assert center[5, 5, 2] == 255
    assert center[5, 5, 0] == 0  # the middle third is blue
    assert squeezed.shape == (10, 12, 3)
    assert squeezed[5, 1, 0] == 255  # the red third is still there
    assert covering.shape == (20, 60, 3)
    with pytest.raises(ValueError, match="smaller than the crop"):
        fit_picture(wide, Fit((12, 12), 3, "keep"))


def test_random_crop_differs_while_training_and_is_central_in_test(tmp_path):
    for name in train_names(30):
        (tmp_path / "train").mkdir(exist_ok=True)
        _left_red(30, 10).save(tmp_path / "train" / name)
    _left_red(30, 10).resize((30, 10)).save(tmp_path / "train" / "z.png")
    (tmp_path / "test").mkdir()
    _left_red(30, 10).save(tmp_path / "test" / "t.png")
    options = {"image_size": 10, "crop": "random"}
    crops = first(f"folder:{tmp_path}", batch_size=31, **options)["images"]
    reds = {int(np.sum(c[5, :, 0] > 128)) for c in crops}
    assert len(reds) > 5
    assert first(f"folder:{tmp_path}", split="test", **options)["images"][0, 5, 5, 2] == 255


# Folders.


def test_folder_with_classes(tmp_path):
    for index, name in enumerate(train_names(6)):
        animal = ("cat", "ant")[index % 2]
        save(tmp_path / animal / "deeper" / name, (index, 0, 0))
    (tmp_path / "cat" / "notes.txt").write_text("not a picture")
    (tmp_path / "cat" / "._hidden.png").write_text("not a picture either")
    pipeline = open_dataset(f"folder:{tmp_path}", view="labelled", batch_size=1, split="all")
    assert pipeline.label_names == ("ant", "cat")
    assert pipeline.num_examples == 6
    batch = first(f"folder:{tmp_path}", view="captioned", batch_size=6, split="all")
    np.testing.assert_array_equal(batch["labels"], [0, 0, 0, 1, 1, 1])
    assert batch["captions"][5] == b"cat"
    named = first(f"folder:{tmp_path}", view="labelled", split="all", batch_size=6,
                  label_names=("cat", "ant"))  # fmt: skip
    np.testing.assert_array_equal(named["labels"], [1, 1, 1, 0, 0, 0])


def test_folder_split_is_stable_and_disjoint(tmp_path):
    for index in range(60):
        save(tmp_path / f"p{index}.png", (index, 0, 0))

    def pixels(split):
        batches = load_dataset(f"folder:{tmp_path}", split=split, batch_size=1, value_range=(0, 255))
        return {int(b["images"][0, 0, 0, 0]) for b in batches}

    train, test = pixels("train"), pixels("test")
    assert train | test == set(range(60))
    assert not train & test
    assert 1 <= len(test) <= 15
    save(tmp_path / "newcomer.png", (99, 0, 0))
    assert pixels("train") - {99} == train


def test_folder_with_split_folders(tmp_path):
    save(tmp_path / "train" / "x" / "a.png", (1, 0, 0))
    save(tmp_path / "train" / "y" / "a.png", (1, 0, 0))
    save(tmp_path / "valid" / "y" / "b.png", (2, 0, 0))
    batch = first(f"folder:{tmp_path}", split="val", view="labelled")
    assert batch["images"][0, 0, 0, 0] == 2
    assert batch["labels"] == [1]
    with pytest.raises(DatasetError, match=r"no folder test/.*train/.*valid/"):
        load_dataset(f"folder:{tmp_path}", split="test")


def test_home_and_relative_paths(tmp_path, monkeypatch):
    save(tmp_path / "pictures" / train_names(1)[0])
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for path in ("~/pictures", "pictures", "./pictures"):
        assert first(f"folder:{path}")["images"].shape == (1, 6, 8, 3)


def test_folder_errors(tmp_path):
    with pytest.raises(DatasetError, match="there is no folder"):
        load_dataset(f"folder:{tmp_path / 'nothing'}")
    with pytest.raises(DatasetError, match=r"0 images.*Expected files that end in"):
        load_dataset(f"folder:{tmp_path}")
    for name in train_names(2):
        save(tmp_path / name)
    with pytest.raises(DatasetError, match=r"only 2 usable.*batch needs 64.*lower batch_size"):
        load_dataset(f"folder:{tmp_path}")
    with pytest.raises(DatasetError, match="no labels.*one subfolder"):
        load_dataset(f"folder:{tmp_path}", view="labelled", batch_size=1)
    with pytest.raises(DatasetError, match="no folder val/"):
        load_dataset(f"folder:{tmp_path}", split="val", batch_size=1)
    save(tmp_path / train_names(3)[2], size=(9, 9))
    for cache in (True, False):
        with pytest.raises(DatasetError, match="differ in size.*Give image_size"):
            load_dataset(f"folder:{tmp_path}", batch_size=1, cache=cache)


def _folder_with_bad_files(folder):
    """Five good pictures, one cut short, one that is text, one empty."""
    names = train_names(8)
    rng = np.random.default_rng(0)
    for index, name in enumerate(names[:6]):
        picture = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
        picture[0, 0] = index
        Image.fromarray(picture).save(folder / name)
    whole = (folder / names[5]).read_bytes()
    (folder / names[5]).write_bytes(whole[: len(whole) // 2])
    (folder / names[6]).write_text("this is text")
    (folder / names[7]).write_bytes(b"")
    return names


def test_corrupt_files_are_named_counted_and_skipped(tmp_path):
    names = _folder_with_bad_files(tmp_path)
    with pytest.warns(UserWarning, match="3 unusable") as caught:
        pipeline = open_dataset(f"folder:{tmp_path}", batch_size=1, value_range=(0, 255))
    assert len(caught) == 1
    assert all(name in str(caught[0].message) for name in names[5:])
    assert pipeline.num_examples == 5
    good = {int(b["images"][0, 0, 0, 0]) for b in pipeline.dataset()}
    assert good == set(range(5))
    with pytest.raises(DatasetError, match=f"3 unusable[^$]*{names[6]}"):
        load_dataset(f"folder:{tmp_path}", batch_size=1, strict=True)


def test_without_cache_pictures_are_the_same(tmp_path):
    for index, name in enumerate(train_names(9)):
        save(tmp_path / name, (index, 0, 0), size=(8 + index, 7))
    options = {"batch_size": 3, "image_size": 6, "load_size": 7, "flip": True}
    kept, read = (open_dataset(f"folder:{tmp_path}", cache=c, **options) for c in (True, False))
    for one, other in zip(kept.dataset(repeat=True).take(7), read.dataset(repeat=True).take(7)):
        np.testing.assert_array_equal(one["images"], other["images"])


def test_without_cache_a_neighbour_stands_in_for_a_broken_picture(tmp_path):
    names = _folder_with_bad_files(tmp_path)
    with pytest.warns(UserWarning, match="2 unusable"):
        pipeline = open_dataset(f"folder:{tmp_path}", batch_size=1, cache=False, image_size=40)
    assert pipeline.num_examples == 6  # the file cut short has a good head
    with pytest.warns(UserWarning, match=names[5]):
        assert len(list(pipeline.dataset())) == 6


def test_auto_cache_follows_the_limit(tmp_path, monkeypatch):
    for name in train_names(4):
        save(tmp_path / name)
    column = [ImageFile(str(p)) for p in sorted(tmp_path.iterdir())]
    assert images.prepare(column, Fit(None, 3), "auto")[0].in_memory
    monkeypatch.setattr(images, "CACHE_LIMIT", 4 * 8 * 6 * 3 - 1)
    assert not images.prepare(column, Fit(None, 3), "auto")[0].in_memory


def test_super_resolution_keeps_pixels_and_names_small_pictures(tmp_path):
    names = train_names(3)
    for name in names[:2]:
        save(tmp_path / name, size=(30, 20))
    save(tmp_path / names[2], size=(10, 20))
    for cache in (True, False):
        with pytest.warns(UserWarning, match=rf"1 unusable[\s\S]*{names[2]}"):
            pipeline = open_dataset(f"folder:{tmp_path}", view="super_resolution", image_size=16,
                                    batch_size=2, cache=cache)  # fmt: skip
        batch = next(iter(pipeline.dataset()))
        assert batch["low_resolution"].shape == (2, 4, 4, 3)


# Pairs.


def _two_halves(path, left, right, width=6):
    picture = Image.new("RGB", (2 * width, 5), right)
    picture.paste(left, (0, 0, width, 5))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def test_pairs_side_by_side_and_both_directions(tmp_path):
    _two_halves(tmp_path / "train" / "a.png", "red", "blue")
    batch = first(f"paired:{tmp_path}", view="paired", halves=True)
    assert batch["inputs"].shape == batch["targets"].shape == (1, 5, 6, 3)
    np.testing.assert_array_equal(batch["inputs"][0, 0, 5], [255, 0, 0])
    np.testing.assert_array_equal(batch["targets"][0, 0, 0], [0, 0, 255])
    swapped = first(f"paired:{tmp_path}", view="paired", direction="b_to_a", halves=True)
    np.testing.assert_array_equal(swapped["inputs"], batch["targets"])


@pytest.mark.parametrize("layout", ["{domain}/{split}", "{split}/{domain}", "{domain}"])
def test_pairs_in_two_folders(tmp_path, layout):
    name = train_names(1)[0]
    for domain, color, ending in (("A", "red", ".png"), ("B", "blue", ".bmp")):
        for split in ("train", "test"):
            folder = tmp_path / layout.format(domain=domain, split=split)
            save(folder / name.replace(".png", ending), color, size=(8, 8 if domain == "A" else 4))
    batch = first(f"paired:{tmp_path}", view="paired")
    assert batch["targets"].shape == batch["inputs"].shape == (1, 8, 8, 3)
    np.testing.assert_array_equal(batch["inputs"][0, 0, 0], [255, 0, 0])
    np.testing.assert_array_equal(batch["targets"][0, 0, 0], [0, 0, 255])


def test_missing_partners_are_named(tmp_path):
    names = train_names(3)
    for domain, missing in (("A", names[2]), ("B", names[1])):
        for name in names:
            if name != missing:
                save(tmp_path / domain / name)
    with pytest.warns(UserWarning, match=rf"2 image.*without a partner.*{names[1]}"):
        assert open_dataset(f"paired:{tmp_path}", view="paired", batch_size=1).num_examples == 1
    with pytest.raises(DatasetError, match=names[2]):
        load_dataset(f"paired:{tmp_path}", view="paired", batch_size=1, strict=True)


def test_a_bad_half_drops_the_pair(tmp_path):
    names = train_names(2)
    for domain in "AB":
        for index, name in enumerate(names):
            save(tmp_path / domain / name, (index + 1, 0, 0))
    (tmp_path / "B" / names[0]).write_text("broken")
    with pytest.warns(UserWarning, match="1 unusable"):
        batch = first(f"paired:{tmp_path}", view="paired")
    assert batch["inputs"][0, 0, 0, 0] == batch["targets"][0, 0, 0, 0] == 2


def test_pair_errors(tmp_path):
    with pytest.raises(DatasetError, match="0 images"):
        load_dataset(f"paired:{tmp_path}", view="paired")
    save(tmp_path / "A" / "one.png")
    with pytest.raises(DatasetError, match="no folder B; it has"):
        load_dataset(f"paired:{tmp_path}", view="paired", split="all")
    save(tmp_path / "B" / "other.png")
    with pytest.raises(DatasetError, match="no name in common"):
        load_dataset(f"paired:{tmp_path}", view="paired", split="all")
    with pytest.raises(DatasetError, match="no view 'images'"):
        load_dataset(f"paired:{tmp_path}")


def test_unpaired_folders(tmp_path):
    for domain, count in (("A", 5), ("B", 3)):
        for index in range(count):
            save(tmp_path / f"train{domain}" / f"{index}.png", (index, 0, 0))
    pipeline = open_dataset(f"unpaired:{tmp_path}", view="unpaired", batch_size=2)
    assert pipeline.num_examples == 5
    batch = next(iter(pipeline.dataset()))
    assert batch["images_a"].shape == batch["images_b"].shape == (2, 6, 8, 3)
    with pytest.raises(DatasetError, match="no folder testA and no folder testB; it has"):
        load_dataset(f"unpaired:{tmp_path}", view="unpaired", split="test")
    (tmp_path / "testA").mkdir()
    (tmp_path / "testB").mkdir()
    with pytest.raises(DatasetError, match="0 images"):
        load_dataset(f"unpaired:{tmp_path}", view="unpaired", split="test")


# Arrays.


def _write_idx(path, array, magic=None, opener=open):
    magic = 0x0800 + array.ndim if magic is None else magic
    head = struct.pack(f">{1 + array.ndim}I", magic, *array.shape)
    with opener(path, "wb") as file:
        file.write(head + array.tobytes())


def _digits(num=6):
    pixels = np.arange(num * 12, dtype=np.uint8).reshape(num, 3, 4)
    return pixels, np.arange(num, dtype=np.uint8)


def test_idx_files_plain_and_compressed(tmp_path):
    pixels, labels = _digits()
    _write_idx(tmp_path / "train-images-idx3-ubyte", pixels)
    _write_idx(tmp_path / "train-labels-idx1-ubyte.gz", labels, opener=gzip.open)
    _write_idx(tmp_path / "t10k-images.idx3-ubyte.gz", pixels[:2], opener=gzip.open)
    batch = first(f"idx:{tmp_path}", view="labelled", batch_size=6)
    np.testing.assert_array_equal(batch["images"][..., 0], pixels)
    np.testing.assert_array_equal(batch["labels"], labels)
    assert open_dataset(f"idx:{tmp_path}", split="test", batch_size=2).num_examples == 2
    with pytest.raises(DatasetError, match="has no labels"):
        load_dataset(f"idx:{tmp_path}", split="test", view="labelled", batch_size=2)
    with pytest.raises(DatasetError, match="has no captions"):
        load_dataset(f"idx:{tmp_path}", view="captioned", batch_size=2)


def test_idx_errors(tmp_path):
    pixels, labels = _digits()
    with pytest.raises(DatasetError, match="no file train-images-idx3-ubyte"):
        load_dataset(f"idx:{tmp_path}")
    path = tmp_path / "train-images-idx3-ubyte"
    _write_idx(path, pixels, magic=0x0801)
    with pytest.raises(DatasetError, match="magic number 0x00000803.*0x00000801"):
        load_dataset(f"idx:{tmp_path}")
    _write_idx(path, pixels)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DatasetError, match="cut off"):
        load_dataset(f"idx:{tmp_path}")
    _write_idx(path, pixels)
    _write_idx(tmp_path / "train-labels-idx1-ubyte", labels[:4])
    with pytest.raises(DatasetError, match="6 images but 4 labels"):
        load_dataset(f"idx:{tmp_path}", view="labelled", batch_size=1)
    with pytest.raises(DatasetError, match="splits"):
        load_dataset(f"idx:{tmp_path}", split="val")
    path.unlink()
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(DatasetError, match="cannot be read"):
        load_dataset(f"idx:{tmp_path}")


def test_npz_with_keras_names_and_with_plain_names(tmp_path):
    pixels, labels = _digits(20)
    np.savez(tmp_path / "k.npz", x_train=pixels, y_train=labels[:, None], x_test=pixels[:3])
    batch = first(f"npz:{tmp_path}/k.npz", view="labelled", batch_size=20)
    np.testing.assert_array_equal(batch["images"][..., 0], pixels)
    np.testing.assert_array_equal(batch["labels"], labels)
    assert open_dataset(f"npz:{tmp_path}/k.npz", split="test", batch_size=1).num_examples == 3
    np.savez(tmp_path / "p.npz", images=pixels / 255.0, mine=labels)
    options = {"view": "labelled", "labels": "mine", "split": "test", "batch_size": 2}
    batch = first(f"npz:{tmp_path}/p.npz", **options)
    np.testing.assert_array_equal(batch["labels"], [9, 19])
    np.testing.assert_array_equal(batch["images"][..., 0], pixels[[9, 19]])


def test_npz_errors(tmp_path):
    pixels, labels = _digits()
    path = tmp_path / "a.npz"
    with pytest.raises(DatasetError, match="there is no file"):
        load_dataset(f"npz:{path}")
    np.savez(path, pictures=pixels)
    with pytest.raises(DatasetError, match=r"no array 'images'.*pictures"):
        load_dataset(f"npz:{path}")
    with pytest.raises(DatasetError, match="has no labels"):
        load_dataset(f"npz:{path}", images="pictures", view="labelled")
    np.savez(path, images=pixels, labels=labels[:2])
    with pytest.raises(DatasetError, match="6 images but 2 labels"):
        load_dataset(f"npz:{path}", view="labelled")
    np.savez(path, images=pixels.reshape(6, 12))
    with pytest.raises(DatasetError, match=r"must be \(num, height, width\)"):
        load_dataset(f"npz:{path}")
    np.savez(path, images=pixels.astype(float) * 100)
    with pytest.raises(DatasetError, match="0..255"):
        load_dataset(f"npz:{path}")
    np.savez(path, images=np.array([{}], object))
    with pytest.raises(DatasetError, match="without pickled objects"):
        load_dataset(f"npz:{path}")
    path.write_text("text")
    with pytest.raises(DatasetError, match="cannot be read as a NumPy archive"):
        load_dataset(f"npz:{path}")


# Emoji.


@pytest.fixture
def emoji(tmp_path):
    """Two packages with forty plain emoji; the red channel is the number, blue the style."""
    entries = []
    for index in range(40):
        entries.append({
            "name": f"EMOJI {index}", "unified": f"1F{index:03X}", "image": f"1f{index:03x}.png",
            "category": ("Food", "Animals")[index % 2], "short_name": f"e{index}",
            "has_img_google": index != 7, "has_img_twitter": index != 9,
        })  # fmt: skip
    for style, blue in (("google", 10), ("twitter", 20)):
        package = tmp_path / f"emoji-datasource-{style}"
        package = package / "package" if style == "google" else package
        for index, entry in enumerate(entries):
            if entry[f"has_img_{style}"]:
                save(package / "img" / style / "64" / entry["image"], (index, 0, blue), (4, 4))
        (package / "emoji.json").write_text(json.dumps(entries))
    return tmp_path


def _emoji_numbers(root, view, split, field):
    dataset = load_dataset(f"emoji:{root}", view=view, split=split, batch_size=1,
                           value_range=(0, 255), shuffle=False)  # fmt: skip
    pixels = np.array([b[field][0, 0, 0].numpy() for b in dataset])
    return pixels[:, 0].astype(int).tolist(), set(pixels[:, 2].astype(int))


def test_emoji_pairs_are_the_same_emoji(emoji):
    inputs, google = _emoji_numbers(emoji, "paired", "train", "inputs")
    targets, twitter = _emoji_numbers(emoji, "paired", "train", "targets")
    assert inputs == targets
    assert (google, twitter) == ({10}, {20})
    assert not {7, 9} & set(inputs)
    assert not set(inputs) & set(_emoji_numbers(emoji, "paired", "test", "inputs")[0])


def test_emoji_unpaired_halves_are_disjoint_and_test_is_aligned(emoji):
    a = _emoji_numbers(emoji, "unpaired", "train", "images_a")[0]
    b = _emoji_numbers(emoji, "unpaired", "train", "images_b")[0]
    assert not set(a) & set(b)
    fields = [_emoji_numbers(emoji, "unpaired", "test", f)[0] for f in ("images_a", "images_b")]
    assert fields[0] == fields[1]
    assert not set(a + b) & set(fields[0])


def test_emoji_are_drawn_as_lines_for_colouring(emoji):
    options = {"view": "paired", "style_a": "outline", "style_b": "twitter", "split": "all"}
    batches = list(load_dataset(f"emoji:{emoji}", batch_size=1, **options))
    assert len(batches) == 39
    for batch in batches:  # pictures of one colour have no lines
        assert float(batch["inputs"].numpy().min()) == 1.0
        assert round((float(batch["targets"][0, 0, 0, 2]) + 1) * 127.5) == 20


def test_emoji_labels_and_captions(emoji):
    pipeline = open_dataset(f"emoji:{emoji}", view="captioned", style="twitter", batch_size=1)
    assert pipeline.label_names == ("Animals", "Food")
    for batch in pipeline.dataset():
        number = round((float(batch["images"][0, 0, 0, 0]) + 1) * 127.5)
        assert batch["captions"][0] == f"emoji {number}".encode()
        assert batch["labels"][0] == (number + 1) % 2


def test_coloured_emoji_hold_out_pairs_of_known_words(emoji):
    options = {"view": "captioned", "batch_size": 1, "nouns": ("e0", "e1", "e20"), "value_range": (0, 255)}
    captions = {}
    for split in ("train", "test"):
        pipeline = open_dataset(f"coloured_emoji:{emoji}", split=split, **options)
        examples = [(b["captions"][0].numpy().decode(), int(b["labels"][0])) for b in pipeline.dataset()]
        assert all(pipeline.label_names[label] == caption for caption, label in examples)
        captions[split] = [caption for caption, _ in examples]
    assert {split: len(names) for split, names in captions.items()} == {"train": 42, "test": 6}  # two styles
    held_out = set(captions["test"])
    assert held_out == {"white e0", "pink e1", "purple e20"}
    assert not held_out & set(captions["train"])
    for place in (0, 1):
        known = {caption.split()[place] for caption in captions["train"]}
        assert {caption.split()[place] for caption in held_out} <= known


def test_emoji_are_dyed():
    """The mean brightness becomes the colour, lighter parts are lighter; gray where nothing is drawn."""
    drawing = np.zeros((1, 4, 4))
    drawing[0, :3] = [[0.2, 0.2, 0.2, 1], [0.4, 0.4, 0.4, 1], [0.6, 0.6, 0.6, 1]]
    dark, middle, light, nothing = coloured_emoji.dye(drawing, (200, 40, 100))[0]
    assert middle.tolist() == [200, 40, 100]
    assert (dark < middle).all()
    assert (light > middle).all()
    assert nothing.tolist() == [128, 128, 128]


def test_coloured_emoji_errors(emoji):
    name = f"coloured_emoji:{emoji}"
    with pytest.raises(DatasetError, match="no emoji with the short name 'heart'"):
        load_dataset(name, nouns=("heart",))
    with pytest.raises(DatasetError, match="short name 'e7' in this style"):
        load_dataset(name, nouns=("e7",))
    assert load_dataset(name, nouns=("e7",), styles=("twitter",), batch_size=1).cardinality() == 7
    with pytest.raises(DatasetError, match='"train", "test", "all"'):
        load_dataset(name, split="val", nouns=("e1",))


def test_emoji_errors(emoji, tmp_path):
    with pytest.raises(DatasetError, match="style is one of"):
        load_dataset(f"emoji:{emoji}", style="apple")
    (emoji / "emoji-datasource-twitter" / "emoji.json").unlink()
    with pytest.raises(DatasetError, match="npm pack emoji-datasource-twitter@16.0.0"):
        load_dataset(f"emoji:{emoji}", view="paired")
    (emoji / "emoji-datasource-google" / "package" / "emoji.json").write_text("[1]")
    with pytest.raises(DatasetError, match="list of emoji"):
        load_dataset(f"emoji:{emoji}")


def test_good_data_give_no_warning(emoji):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        first(f"emoji:{emoji}", view="paired")
