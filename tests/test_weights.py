"""Published weights: what comes back, and what is refused without touching the model."""

import json

import numpy as np
import pytest
from conftest import difference, make_dataset, snapshot, tiny

import tf_gan_zoo as zoo
from tf_gan_zoo import weights
from tf_gan_zoo.registry import get_spec
from tf_gan_zoo.weights import WeightsError


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A tiny trained dcgan and its .npz file."""
    model = tiny("dcgan", learning_rate=0.02)
    model.fit(make_dataset(model, 2), verbose=0)
    path = tmp_path_factory.mktemp("weights") / "dcgan.npz"
    weights.save(model, path)
    return model, path


def test_float16_weights_give_nearly_the_same_pictures(published):
    model, path = published
    fresh = zoo.get("dcgan", weights=path, **get_spec("dcgan").tiny)
    assert np.abs(fresh.generate(4, seed=1) - model.generate(4, seed=1)).max() < 5e-3
    assert np.abs(tiny("dcgan").generate(4, seed=1) - model.generate(4, seed=1)).max() > 5e-3


def test_seeds_of_dropout_are_no_weights(tmp_path):
    model = tiny("pix2pix")
    model.fit(make_dataset(model, 1), verbose=0)  # leaves seeds beyond float16
    weights.save(model, tmp_path / "pix2pix.npz")
    fresh = zoo.get("pix2pix", weights=tmp_path / "pix2pix.npz", **get_spec("pix2pix").tiny)
    images = np.random.default_rng(0).uniform(-1, 1, (2, 16, 16, 3)).astype("float32")
    np.testing.assert_allclose(fresh.translate(images), model.translate(images), atol=1e-2)


def test_discriminator_comes_too_and_training_goes_on(published):
    model, path = published
    fresh = zoo.get("dcgan", weights=path, **get_spec("dcgan").tiny)
    for a, b in zip(fresh.discriminator.variables, model.discriminator.variables):
        np.testing.assert_allclose(a, b, atol=1e-3)
    fresh.fit(make_dataset(fresh, 1), verbose=0)


def test_keras_weights_and_run_folders_load(published, tmp_path):
    model, _ = published
    model.save_weights(tmp_path / "model.weights.h5")
    for source in (tmp_path, tmp_path / "model.weights.h5"):
        fresh = zoo.get("dcgan", weights=source, **get_spec("dcgan").tiny)
        assert difference(snapshot(fresh), snapshot(model)) == 0.0


@pytest.mark.parametrize("damage, message", [
    (lambda a: a.pop("generator/000"), "another config, first at generator/000"),
    (lambda a: a.update({"../../evil": np.zeros(1)}), "refused: it names '\.\./\.\./evil\.npy'"),
    (lambda a: a.pop("config.json"), "holds no config"),
    (lambda a: a.update({"generator/000": np.array([object()])}), "not a weights file"),
])  # fmt: skip
def test_damaged_archives_are_refused_and_leave_the_model_alone(published, tmp_path, damage, message):
    with np.load(published[1]) as archive:
        arrays = dict(archive)
    damage(arrays)
    np.savez(tmp_path / "bad.npz", **arrays)
    model = tiny("dcgan")
    before = snapshot(model)
    with pytest.raises(WeightsError, match=message):
        weights.load(model, "dcgan", tmp_path / "bad.npz")
    assert difference(before, snapshot(model)) == 0.0


def test_other_configs_are_refused_with_the_difference(published):
    with pytest.raises(WeightsError, match=r"width: 8 \(weights\) and 16 \(model\)"):
        zoo.get("dcgan", weights=published[1], **{**get_spec("dcgan").tiny, "width": 16})


def test_files_that_are_no_weights_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="no weights at .*nowhere"):
        zoo.get("dcgan", weights=tmp_path / "nowhere.npz", **get_spec("dcgan").tiny)
    for name in ("text.npz", "text.weights.h5"):
        (tmp_path / name).write_text("not weights")
        with pytest.raises(WeightsError, match="not a weights file|does not fit"):
            zoo.get("dcgan", weights=tmp_path / name, **get_spec("dcgan").tiny)
    with pytest.raises(WeightsError, match="no pretrained weights for 'dcgan'"):
        zoo.get("dcgan", weights="pretrained", **get_spec("dcgan").tiny)


@pytest.mark.parametrize("recipe", sorted(weights.manifest()))
def test_every_published_recipe_loads_and_its_record_is_there(recipe):
    entry = weights.manifest()[recipe]
    model = zoo.get(recipe, weights="pretrained")
    assert (weights.PRETRAINED_DIR / entry["file"]).stat().st_size == entry["size"]
    record = json.loads((weights.PRETRAINED_DIR / entry["record"]).read_text())
    assert record["steps"] > 0
    assert record["metrics"]
    if hasattr(model, "generate"):
        assert model.generate(16, seed=0).std(axis=0).max() > 0.1
