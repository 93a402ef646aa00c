"""The embedded glyphs: what is drawn, splits, hidden pairs, captions."""

import time

import numpy as np
import pytest

from tf_gan_zoo.data import DatasetError, Request, glyphs, load_dataset, open_dataset

SMALL = {"num_examples": 260, "batch_size": 260, "value_range": (0, 255), "shuffle": False}


def batch(**kwargs):
    """All of a small split at once, in order."""
    return {k: v.numpy() for k, v in next(iter(load_dataset("glyphs", **SMALL | kwargs))).items()}


def test_default_is_white_on_black_like_mnist():
    images = batch()["images"]
    assert images.shape == (260, 28, 28, 1)
    assert images.min() == 0
    assert images.max() == 255
    assert 0.05 < np.mean(images > 128) < 0.3
    edges = [images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]]
    assert np.mean(np.concatenate([e.ravel() for e in edges]) > 0) < 0.02


def test_default_training_split_is_quick():
    glyphs._render.cache_clear()
    start = time.process_time()
    assert open_dataset("glyphs").num_examples == 20_000
    assert time.process_time() - start < 8.0
    start = time.process_time()
    open_dataset("glyphs", seed=5)
    assert time.process_time() - start < 0.5


def test_every_font_draws_a_different_letter():
    request = Request(None, "images", "train", None, None)
    pose = {"rotation": 0, "jitter": 0, "num_examples": 2}
    for name in glyphs.FONTS:
        source = glyphs.read_glyphs(request, fonts=[name], characters="AB", **pose)
        a, b = source.images["images"]
        assert 20 < np.sum(a > 128) < 400
        assert np.any(a != b)


def test_large_pictures_are_fewer_by_default():
    request = Request(None, "paired", "train", (128, 128), 3)
    assert glyphs._default_examples(request, (128, 128), 3) == 5461
    assert glyphs._default_examples(request, (28, 28), 3) == 20_000


def test_labels_and_letters_agree():
    """Nearest neighbours across fonts and poses name the letter far above chance."""
    train = batch(view="labelled", num_examples=2600, batch_size=2600)
    test = batch(view="labelled", split="test")
    a, b = (d["images"].reshape(len(d["labels"]), -1) / 255 for d in (train, test))
    distances = np.sum(a**2, 1)[None] + np.sum(b**2, 1)[:, None] - 2 * b @ a.T
    accuracy = np.mean(train["labels"][np.argmin(distances, 1)] == test["labels"])
    assert accuracy > 0.6
    np.testing.assert_array_equal(np.bincount(test["labels"]), np.full(26, 10))


def test_splits_share_no_combination_of_character_and_font():
    rng = np.random.default_rng(0)
    pairs = {}
    for split in ("train", "test"):
        pairs[split] = set(zip(*glyphs._combinations(26, len(glyphs.FONTS), split, 5000, rng)))
        assert {character for character, _ in pairs[split]} == set(range(26))
    assert not pairs["train"] & pairs["test"]
    train, test = batch(fonts="mono")["images"], batch(fonts="mono", split="test")["images"]
    assert not {t.tobytes() for t in train} & {t.tobytes() for t in test}


def test_content_does_not_depend_on_the_seed():
    np.testing.assert_array_equal(batch(seed=1)["images"], batch(seed=2)["images"])


@pytest.mark.parametrize("size", [(16, 16), (64, 40), (20, 50), (256, 256)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size(size, channels):
    images = batch(image_size=size, channels=channels, num_examples=4, batch_size=4)["images"]
    assert images.shape == (4, *size, channels)
    assert images.max() > 200
    ink = np.argwhere(images[0, ..., 0] > 64)
    assert np.all(np.abs(ink.mean(0) - np.array(size) / 2) < 0.2 * min(size))


def test_rotation_is_in_degrees():
    """Orientation of the letter I's ink against the largest angle."""
    angles = []
    for image in batch(characters="l", fonts=["DejaVuSans"], rotation=30, jitter=0)["images"]:
        y, x = np.nonzero(image[..., 0] > 64)
        covariance = np.cov(x, y)
        angles.append(0.5 * np.arctan2(2 * covariance[0, 1], covariance[1, 1] - covariance[0, 0]))
    degrees = np.degrees(angles)
    assert 26 < np.max(degrees) < 33
    assert -33 < np.min(degrees) < -26


def test_paired_inputs_are_outlines_of_the_targets():
    pairs = batch(view="paired", image_size=64)
    inputs, targets = pairs["inputs"], pairs["targets"]
    ground = targets[:, :1, :1]
    filled = np.abs(targets - ground).max(-1) > 60
    line = inputs.min(-1) < 140
    assert np.mean(filled[line]) > 0.9  # the line runs inside the fill
    assert line.sum() < 0.75 * filled.sum()
    colors = {tuple(t[f][np.argmax(np.abs(t[f] - t[0, 0]).sum(-1))]) for t, f in
              zip(targets, filled)}  # fmt: skip
    assert colors == {(255, 150, 40), (40, 200, 180), (255, 110, 180)}


def _silhouettes(images):
    return np.abs(images - images[:, :1, :1]).max(-1) > 90


def test_unpaired_test_split_hides_pairs():
    test = batch(view="unpaired", image_size=32, split="test")
    a, b = (_silhouettes(test[f]).reshape(260, -1) * 1.0 for f in ("images_a", "images_b"))
    overlap = a @ b.T / np.sqrt(a.sum(1)[:, None] * b.sum(1)[None])
    assert np.mean(np.argmax(overlap, 1) == np.arange(260)) > 0.6
    train = batch(view="unpaired", image_size=32, shuffle=False)
    for field in ("images_a", "images_b"):
        seen = {t.tobytes() for t in train[field]}
        assert not seen & {t.tobytes() for t in test[field]}
    a, b = (_silhouettes(train[f]).reshape(260, -1) * 1.0 for f in ("images_a", "images_b"))
    apart = np.mean(np.sum(a * b, 1) / np.sqrt(a.sum(1) * b.sum(1)))
    assert apart < 0.8 * np.mean(np.diag(overlap))


def test_captions_name_colour_style_and_letter():
    examples = batch(view="captioned", image_size=24, characters="aQ7")
    assert examples["images"].shape == (260, 24, 24, 3)
    words = [caption.decode().split() for caption in examples["captions"]]
    for image, label, caption in zip(examples["images"], examples["labels"], words):
        assert caption[-1] == "aq7"[label]
        assert caption[0] == ("an" if caption[1][0] in "aeiou" else "a")
        assert {"sans", "serif", "mono"} & set(caption)
        ink = image.reshape(-1, 3)[image.sum(-1).argmax()]
        if caption[1] == "red":
            assert ink[0] > 128
            assert ink[1:].max() < 10
    assert {"small", "capital", "digit"} <= {word for caption in words for word in caption}
    gray = batch(view="captioned", channels=1, characters="A", fonts="bold italic mono")
    assert gray["captions"][0] == b"a bold italic mono letter a"


def test_palettes():
    colors = {"foreground": ["lime"], "background": [(10, 20, 30), "white"]}
    images = batch(colors=colors)["images"]
    assert images.shape[-1] == 3
    assert {tuple(image[0, 0]) for image in images} == {(10, 20, 30), (255, 255, 255)}


def test_font_choice():
    assert glyphs.choose_fonts("bold serif, cmss10") == (
        "DejaVuSerif-Bold", "DejaVuSerif-BoldItalic", "STIXGeneralBol", "STIXGeneralBolIta",
        "cmb10", "cmss10",
    )  # fmt: skip
    assert len(glyphs.choose_fonts(None)) == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fonts": "bolt"}, "Did you mean 'bold'"),
        ({"characters": ""}, "characters must be different"),
        ({"characters": "AA"}, "characters must be different"),
        ({"characters": "A "}, "no visible glyph"),
        ({"characters": "A\u4e00"}, "no visible glyph"),
        ({"rotation": -1}, "rotation must be"),
        ({"jitter": 0.6}, "jitter"),
        ({"num_examples": 0}, "num_examples"),
        ({"colors": {"ink": ["red"]}}, "colors must be"),
        ({"colors": {"foreground": ["rad"]}}, "Unknown colour 'rad'"),
        ({"colors": True, "channels": 1}, "three channels"),
        ({"split": "val"}, "splits"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(DatasetError, match=message):
        load_dataset("glyphs", **options)
