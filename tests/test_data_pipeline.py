"""Order, resumption, augmentation and ranges of batches."""

import numpy as np
import pytest
import tensorflow as tf

from tf_gan_zoo.data import (
    DatasetError,
    ImageFile,
    Source,
    list_sources,
    load_dataset,
    open_dataset,
    register_source,
)
from tf_gan_zoo.data.pipeline import draws

NUM = 23


def _numbered(num: int, start: int = 0, size: int = 6) -> np.ndarray:
    """Pictures that show their own number in every pixel."""
    return np.broadcast_to(
        np.arange(start, start + num, dtype=np.uint8)[:, None, None, None], (num, size, size, 1)
    )


def _ramps(num: int, size: int = 12) -> np.ndarray:
    """Pictures in which each pixel tells where it comes from: `16 * row + column`."""
    ramp = 16 * np.arange(size)[:, None] + np.arange(size)
    return np.broadcast_to(ramp.astype(np.uint8)[None, ..., None], (num, size, size, 1))


@register_source("numbers_for_tests")
def _numbers(request, *, num: int = NUM, num_b: int = 7):
    labels = {"labels": np.arange(num)}
    if request.view == "paired":
        return Source({"inputs": _ramps(num), "targets": _ramps(num)})
    if request.view == "unpaired":
        return Source({"images_a": _numbered(num), "images_b": _numbered(num_b, 100)},
                      independent=True)  # fmt: skip
    return Source({"images": _numbered(num)}, labels, tuple(f"Class_{i}" for i in range(num)))


@register_source("ramps_for_tests")
def _ramp_source(request, *, num: int = 40, size: int = 12):
    if request.view == "unpaired":
        return Source({"images_a": _ramps(num, size), "images_b": _ramps(num, size)},
                      independent=True)  # fmt: skip
    return Source({"images": _ramps(num, size)})


def _open(name: str = "numbers_for_tests", **kwargs):
    kwargs = {"view": "labelled", "batch_size": 4, "value_range": (0, 255), "seed": 3} | kwargs
    return open_dataset(name, **kwargs)


def _labels(dataset: tf.data.Dataset) -> np.ndarray:
    return np.concatenate([batch["labels"] for batch in dataset])


def test_each_epoch_is_a_permutation_of_its_own():
    pipeline = _open(drop_remainder=False)
    batches = pipeline.dataset(repeat=True).take(2 * pipeline.steps_per_epoch)
    first, second = np.split(_labels(batches), 2)
    assert pipeline.steps_per_epoch == 6
    np.testing.assert_array_equal(np.sort(first), np.arange(NUM))
    np.testing.assert_array_equal(np.sort(second), np.arange(NUM))
    assert np.any(first != second)
    assert np.any(first != np.arange(NUM))


def test_images_and_labels_stay_together():
    for batch in _open().dataset():
        np.testing.assert_array_equal(batch["images"][:, 0, 0, 0], batch["labels"])


@pytest.mark.parametrize("start", [0, 2, 5, 7, 13])
def test_a_start_in_the_middle_continues_the_uninterrupted_run(start):
    whole = [b["labels"].numpy() for b in _open().dataset(repeat=True).take(16)]
    resumed = load_dataset("numbers_for_tests", view="labelled", batch_size=4, seed=3,
                           repeat=True, start_step=start)  # fmt: skip
    for expected, batch in zip(whole[start:], resumed):
        np.testing.assert_array_equal(batch["labels"], expected)


def test_without_repeat_the_rest_of_the_epoch_follows():
    pipeline = _open()
    assert pipeline.steps_per_epoch == 5
    assert pipeline.dataset().cardinality() == 5
    assert pipeline.dataset(start_step=8).cardinality() == 2
    assert pipeline.dataset(repeat=True).cardinality() == tf.data.INFINITE_CARDINALITY
    everything = _labels(pipeline.dataset(repeat=True).take(10))
    np.testing.assert_array_equal(_labels(pipeline.dataset(start_step=8)), everything[-8:])


def test_seeds_differ_and_repeat():
    one, again, other = (_labels(_open(seed=s).dataset()) for s in (1, 1, -2))
    np.testing.assert_array_equal(one, again)
    assert np.any(one != other)


def test_order_does_not_depend_on_the_batch_size():
    small, large = (_labels(_open(batch_size=b, drop_remainder=False).dataset()) for b in (3, 10))
    np.testing.assert_array_equal(small, large)


def test_test_split_is_in_order_unless_asked():
    np.testing.assert_array_equal(_labels(_open(split="test").dataset()), np.arange(20))
    assert np.any(_labels(_open(split="test", shuffle=True).dataset()) != np.arange(20))


def test_replicas_get_the_parts_of_one_global_batch():
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    plain = _labels(_open().dataset())
    distributed = strategy.experimental_distribute_dataset(_open().dataset())
    np.testing.assert_array_equal(_labels(distributed), plain)
    policy = _open().dataset().options().experimental_distribute.auto_shard_policy
    assert policy == tf.data.experimental.AutoShardPolicy.DATA


def test_unpaired_epoch_is_the_longer_domain_and_the_shorter_has_its_own_order():
    pipeline = _open(view="unpaired", batch_size=1)
    assert pipeline.num_examples == pipeline.steps_per_epoch == NUM
    a, b = [], []
    for batch in pipeline.dataset(repeat=True).take(3 * NUM):
        a.append(int(batch["images_a"][0, 0, 0, 0]))
        b.append(int(batch["images_b"][0, 0, 0, 0]) - 100)
    for epoch in range(3):
        assert sorted(a[epoch * NUM : (epoch + 1) * NUM]) == list(range(NUM))
    rounds = np.array(b[: 9 * 7]).reshape(9, 7)
    np.testing.assert_array_equal(np.sort(rounds, axis=1), np.tile(np.arange(7), (9, 1)))
    assert len({tuple(r) for r in rounds}) > 5


def test_equal_domains_are_drawn_independently():
    batches = _open(view="unpaired", num_b=NUM).dataset()
    assert any(np.any(b["images_a"] != b["images_b"] - 100) for b in batches)


def test_both_halves_of_a_pair_get_the_same_crop_and_flip():
    pipeline = _open(view="paired", image_size=8, load_size=12, flip=True, num=64)
    corners = set()
    for batch in pipeline.dataset():
        np.testing.assert_array_equal(batch["inputs"], batch["targets"])
        corners |= {(float(p[0, 0, 0]), float(p[0, 7, 0])) for p in batch["inputs"].numpy()}
    assert len(corners) > 20  # of 2 * 25
    assert {left < right for left, right in corners} == {True, False}


def test_unpaired_domains_get_crops_of_their_own():
    pipeline = _open("ramps_for_tests", view="unpaired", image_size=8, load_size=12)
    assert any(np.any(b["images_a"] != b["images_b"]) for b in pipeline.dataset())


def test_augmentation_resumes_and_changes_between_epochs():
    pipeline = _open("ramps_for_tests", view="images", image_size=8, load_size=12, flip=True,
                     shuffle=False)  # fmt: skip
    whole = [b["images"].numpy() for b in pipeline.dataset(repeat=True).take(20)]
    for expected, batch in zip(whole[13:], pipeline.dataset(13, repeat=True)):
        np.testing.assert_array_equal(batch["images"], expected)
    assert np.any(whole[0] != whole[10])


def test_augmentation_does_not_depend_on_the_batch_size():
    pictures = []
    for size in (5, 8):
        pipeline = _open("ramps_for_tests", view="images", image_size=8, load_size=12, flip=True,
                         batch_size=size)  # fmt: skip
        pictures.append(np.concatenate([b["images"] for b in pipeline.dataset()]))
    np.testing.assert_array_equal(*pictures)


def test_test_pictures_are_not_augmented():
    pipeline = _open("ramps_for_tests", view="images", split="test", image_size=12, load_size=16,
                     flip=True)  # fmt: skip
    for batch in pipeline.dataset():
        np.testing.assert_array_equal(batch["images"], _ramps(4))


def test_draws_are_uniform_and_independent_of_one_another():
    uniform = draws(0, 5, np.arange(20_000), 0)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    np.testing.assert_allclose(uniform.mean(axis=1), 0.5, atol=0.01)
    np.testing.assert_allclose(uniform.var(axis=1), 1 / 12, atol=0.003)
    np.testing.assert_allclose(np.corrcoef(uniform), np.eye(3), atol=0.03)
    assert abs(np.corrcoef(uniform[0], draws(1, 5, np.arange(20_000), 0)[0])[0, 1]) < 0.03
    assert abs(np.corrcoef(uniform[0, 1:], uniform[0, :-1])[0, 1]) < 0.03


@register_source("span_for_tests")
def _span(request):
    return Source({"images": np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)})


@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 1.0), (0, 255), (-0.3, 0.7)])
def test_value_range_is_met_exactly(value_range):
    batch = next(iter(load_dataset("span_for_tests", batch_size=1, value_range=value_range)))
    images = batch["images"].numpy()
    low, high = np.float32(value_range)
    assert images.dtype == np.float32
    assert images.min() == low
    assert images.max() == high
    expected = np.linspace(low, high, 256).reshape(images.shape)
    np.testing.assert_allclose(images, expected, atol=1e-6 * 255)


def test_super_resolution_low_is_the_antialiased_reduction_of_high():
    from PIL import Image

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (8, 12, 12, 3), dtype=np.uint8)
    pictures = np.stack([np.asarray(Image.fromarray(c).resize((48, 48))) for c in coarse])

    @register_source("noise_for_tests")
    def _noise(request):
        return Source({"images": pictures})

    pipeline = open_dataset("noise_for_tests", view="super_resolution", image_size=32, scale=4,
                            batch_size=8, split="test")  # fmt: skip
    batch = next(iter(pipeline.dataset()))
    assert list(batch) == ["low_resolution", "high_resolution"]
    assert batch["low_resolution"].shape == (8, 8, 8, 3)
    np.testing.assert_allclose(batch["high_resolution"], pictures[:, 8:40, 8:40] / 127.5 - 1,
                               atol=1e-5)  # fmt: skip
    for low, picture in zip(batch["low_resolution"].numpy(), pictures):
        small = Image.fromarray(picture[8:40, 8:40]).resize((8, 8), Image.BICUBIC)
        np.testing.assert_allclose(low, np.asarray(small) / 255.0, atol=2 / 255)
        assert low.min() >= 0
        assert low.max() <= 1


def test_fields_tell_the_batches():
    for view in ("images", "labelled", "captioned", "unpaired", "paired", "super_resolution"):
        options = {"image_size": 4, "scale": 2} if view == "super_resolution" else {}
        pipeline = _open(view=view, **options)
        assert pipeline.dataset().element_spec.keys() == pipeline.fields.keys()
        for field, spec in pipeline.dataset().element_spec.items():
            assert pipeline.fields[field].is_compatible_with(spec)
            assert spec.shape == pipeline.fields[field].shape


def test_captions_come_from_class_names():
    batch = next(iter(_open(view="captioned").dataset()))
    for label, caption in zip(batch["labels"].numpy(), batch["captions"].numpy()):
        assert caption == f"class {label}".encode()


def test_gray_and_rgb_and_oblong_sizes():
    batch = next(iter(_open(channels=3, image_size=(5, 9), crop="resize").dataset()))
    assert batch["images"].shape == (4, 5, 9, 3)
    np.testing.assert_array_equal(batch["images"][..., 0], batch["images"][..., 2])


def test_unknown_names_give_the_closest():
    with pytest.raises(DatasetError, match="Did you mean 'glyphs'"):
        load_dataset("glpyhs")
    with pytest.raises(DatasetError, match="needs a path"):
        load_dataset("folder")
    with pytest.raises(DatasetError, match="Did you mean 'rotation'"):
        load_dataset("glyphs", rotatoin=3)
    with pytest.raises(DatasetError, match="no view 'paired'"):
        load_dataset("idx:/nowhere", view="paired")
    assert {"emoji", "folder", "glyphs", "idx", "npz", "paired", "tfds", "unpaired"} <= set(
        list_sources()
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"view": "imags"}, "view must be one of.*'images'"),
        ({"split": "tset"}, "split must be one of"),
        ({"channels": 4}, "channels must be one of"),
        ({"batch_size": 0}, "batch_size must be a positive integer"),
        ({"image_size": (3, 4, 5)}, "image_size must be pixels"),
        ({"image_size": 2.5}, "image_size must be pixels"),
        ({"value_range": (1, -1)}, "low < high"),
        ({"start_step": -1}, "start_step must not be negative"),
        ({"batch_size": 64}, "only 23 usable example.*batch needs 64"),
        ({"scale": 2}, "for view='super_resolution'"),
        ({"direction": "b_to_a"}, "for view='paired'"),
        ({"crop": "middle"}, "crop must be one of"),
        ({"load_size": 9}, "need image_size"),
        ({"load_size": 9, "image_size": 12}, "must not be smaller"),
        ({"view": "super_resolution", "image_size": 6}, "multiple of scale 4"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(DatasetError, match=message):
        load_dataset("numbers_for_tests", **{"batch_size": 4} | arguments)


def test_sources_register_once():
    with pytest.raises(DatasetError, match="already"):
        register_source("glyphs")(lambda request: None)
    with pytest.raises(DatasetError, match="identifier"):
        register_source("a:b")


def test_image_files_can_be_a_users_own_source(tmp_path):
    from PIL import Image

    Image.new("RGB", (4, 4), "red").save(tmp_path / "a.png")

    @register_source("mine_for_tests")
    def _mine(request):
        return Source({"images": [ImageFile(str(tmp_path / "a.png"))]})

    batch = next(iter(load_dataset("mine_for_tests", batch_size=1)))
    np.testing.assert_allclose(batch["images"][0, 0, 0], [1, -1, -1])
