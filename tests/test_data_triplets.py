"""The view "triplets": irrelevant targets, folders named as LookBook's, letters in clutter; pairs parted."""

import numpy as np
import pytest
from PIL import Image

from tf_gan_zoo.data import DatasetError, load_dataset, open_dataset
from tf_gan_zoo.data.image_folders import in_test_split

#: Numbers of products by the split that their hash puts them into.
NUMBERS = {
    split: [n for n in map(str, range(400)) if in_test_split(n) == (split == "test")]
    for split in ("train", "test")
}


def product(folder, number, clean, image, value):
    """A plain gray picture of a product."""
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (value,) * 3).save(folder / f"PID{number}_CLEAN{clean}_IID{image}.png")


@pytest.fixture
def folder(tmp_path):
    """Five products of the train split; number k has k + 1 photographs of gray 10 k and a target 10 k + 5."""
    for k, number in enumerate(NUMBERS["train"][:5]):
        for image in range(k + 1):
            product(tmp_path, number, 0, image, 10 * k)
        product(tmp_path, number, 1, 99, 10 * k + 5)
    return tmp_path


def grays(folder, epochs=1, **kwargs):
    """First pixel of inputs, targets and irrelevant ones, and products, for some epochs in a row."""
    options = {"view": "triplets", "batch_size": 5, "value_range": (0, 255)} | kwargs
    pipeline = open_dataset(f"products:{folder}", **options)
    batches = pipeline.dataset(start_step=0, repeat=True).take(epochs * pipeline.steps_per_epoch)
    columns = zip(*(b.values() for b in batches.as_numpy_iterator()))
    return [np.concatenate(c).reshape(sum(map(len, c)), -1)[:, 0] for c in columns]


def test_targets_belong_to_inputs_and_irrelevant_ones_do_not(folder):
    inputs, targets, irrelevant, products = grays(folder, epochs=20)
    assert len(inputs) == 20 * 15
    np.testing.assert_array_equal(targets, inputs + 5)
    np.testing.assert_array_equal(products, inputs // 10)
    assert not (irrelevant == targets).any()
    assert set(irrelevant) == set(targets)


def test_every_other_product_is_as_likely_however_many_photographs_it_has(folder):
    inputs, _, irrelevant, _ = grays(folder, epochs=60)
    counts = np.unique(irrelevant[inputs == 40], return_counts=True)[1]
    assert len(counts) == 4
    assert counts.min() > 0.6 * counts.mean()


def test_batches_depend_on_seed_and_step_alone(folder):
    whole = grays(folder, epochs=2, seed=3)
    again = grays(folder, epochs=2, seed=3)
    np.testing.assert_array_equal(whole, again)
    assert (whole[2][:15] != whole[2][15:]).any()
    pipeline = open_dataset(f"products:{folder}", view="triplets", batch_size=5, seed=3, value_range=(0, 255))
    resumed = next(iter(pipeline.dataset(start_step=4)))
    np.testing.assert_array_equal(resumed["irrelevant"][:, 0, 0, 0], whole[2][20:25])


def test_products_are_split_whole(folder):
    for number in NUMBERS["test"][:2]:
        product(folder, number, 0, 1, 200)
        product(folder, number, 1, 2, 205)
    assert set(grays(folder)[0]) == {0, 10, 20, 30, 40}
    assert set(grays(folder, split="test", batch_size=2)[0]) == {200}


def test_split_folders_are_taken_as_they_are(folder, tmp_path):
    for split, value in (("train", 1), ("val", 2)):
        for number in NUMBERS["test"][:2]:
            product(tmp_path / "parted" / split, number, 0, 1, value)
            product(tmp_path / "parted" / split, number, 1, 2, value)
    assert set(grays(tmp_path / "parted", split="val", batch_size=2)[0]) == {2}


def test_photographs_are_dealt_out_to_several_catalogue_pictures(folder):
    product(folder, NUMBERS["train"][3], 1, 100, 137)
    _, targets, _, products = grays(folder)
    assert sorted(targets[products == 3]) == [35, 35, 137, 137]


def test_incomplete_products_are_named(folder):
    product(folder, NUMBERS["train"][7], 0, 1, 99)
    with pytest.warns(UserWarning, match=rf"1 product\(s\) without .*{NUMBERS['train'][7]}"):
        assert 99 not in grays(folder)[0]
    with pytest.raises(DatasetError, match="Add the missing pictures"):
        grays(folder, strict=True)


def test_malformed_folders_are_refused(folder, tmp_path):
    with pytest.raises(DatasetError, match=r'folder val/: its splits are "train" and "test"'):
        grays(folder, split="val")
    product(tmp_path / "one", NUMBERS["train"][0], 0, 1, 5)
    with pytest.raises(DatasetError, match="1 have the one, 0 the other"):
        grays(tmp_path / "one")
    product(tmp_path / "one", NUMBERS["train"][0], 1, 2, 5)
    with pytest.raises(DatasetError, match="has 1 product in this split"):
        grays(tmp_path / "one", batch_size=1)
    (folder / "holiday.png").write_bytes((folder / f"PID{NUMBERS['train'][0]}_CLEAN0_IID0.png").read_bytes())
    with pytest.raises(DatasetError, match=r"which product they show: holiday\.png\. Expected PID"):
        grays(folder)


def test_pairs_serve_as_triplets_and_as_unpaired_domains(tmp_path):
    names = [n for n in map(str, range(40)) if not in_test_split(n)][:6]
    for k, name in enumerate(names):
        pair = np.full((8, 16, 3), 10 * k, np.uint8)
        pair[:, 8:] += 5
        Image.fromarray(pair).save(tmp_path / f"{name}.png")
    options = {"batch_size": 6, "value_range": (0, 255), "shuffle": False}

    def values(**kwargs):
        batch = next(iter(load_dataset(f"paired:{tmp_path}", **options | kwargs)))
        return {k: v.numpy().reshape(len(v), -1)[:, 0] for k, v in batch.items()}

    order = np.argsort(sorted(names)), sorted(range(6), key=lambda k: names[k])
    triplets = values(view="triplets")
    np.testing.assert_array_equal(triplets["inputs"], 10 * np.array(order[1]))
    np.testing.assert_array_equal(triplets["products"], np.arange(6))
    assert not (triplets["irrelevant"] == triplets["targets"]).any()
    unpaired = values(view="unpaired", batch_size=3)
    assert not set(unpaired["images_a"]) & set(unpaired["images_b"] - 5)


def test_letters_in_clutter():
    """Targets are the same picture for one product; no product is in both splits."""
    options = {"view": "triplets", "image_size": 16, "num_examples": 120, "batch_size": 120, "shuffle": False}
    train, test = (
        {k: v.numpy() for k, v in next(iter(load_dataset("glyph_products", split=s, **options))).items()}
        for s in ("train", "test")
    )
    for number in np.unique(test["products"]):
        same = test["targets"][test["products"] == number]
        assert (same == same[0]).all()
    assert test["targets"].mean() > 0.5 > np.abs(test["inputs"]).mean()
    distances = np.abs(train["targets"][:, None] - test["targets"][None]).max((2, 3, 4))
    assert distances.min() > 0.05
    with pytest.raises(DatasetError, match="told apart by colour"):
        load_dataset("glyph_products", channels=1, **options)
