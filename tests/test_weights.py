"""Published weights: what comes back, and what is refused without touching the model."""

import functools
import http.server
import io
import json
import os
import runpy
import sys
import threading
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from conftest import difference, make_dataset, snapshot, tiny

import tf_gan_zoo as zoo
from tf_gan_zoo import train, weights
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


def npy(array, **changes):
    """The bytes of an .npy file; `changes` put lies into its header."""
    header = {**np.lib.format.header_data_from_array_1_0(array), **changes}
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + array.tobytes()


def refused(tmp_path, members, message, method=zipfile.ZIP_DEFLATED):
    """Writes (name, bytes) members; they must be refused in little memory, and the model left as it was."""
    path = tmp_path / "bad.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    model = tiny("dcgan")
    before = snapshot(model)
    del members
    tracemalloc.start()
    with pytest.raises(WeightsError, match=message):
        weights.load(model, "dcgan", path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000
    assert difference(before, snapshot(model)) == 0.0


FLOAT64 = np.zeros((8, 256))


@pytest.mark.parametrize("name, content, message", [
    ("../generator/000.npy", b"", "refused: it names '../generator/000.npy'"),
    ("/generator/000.npy", b"", "refused: it names '/generator/000.npy'"),
    ("C:\\generator\\000.npy", b"", "refused: it names"),
    ("generator/000.pkl", b"", "refused: it names 'generator/000.pkl'"),
    ("generator/000.npy", b"", "not a weights file"),
    ("generator/000.npy", b"\x80\x04pickle", "not a weights file"),
    ("generator/000.npy", bytes(30_000_000), "not a weights file"),
    ("generator/000.npy", npy(np.zeros(30_000_000, "float16")), "another config, first at generator/000"),
    ("generator/000.npy", npy(FLOAT64.astype("float16"), shape=(1 << 40,)), "another config"),
    ("generator/000.npy", npy(FLOAT64), "is float64 .*, expected float16 or float32"),
    ("generator/000.npy", npy(FLOAT64.astype("int32")), "is int32"),
    ("generator/000.npy", npy(FLOAT64, descr="|O"), "plain arrays"),
    ("generator/000.npy", npy(FLOAT64.astype("float16"), fortran_order=True), "plain arrays in C order"),
    ("generator/000.npy", npy(FLOAT64.astype("float16")) + bytes(30_000_000), "claims 30,0.* bytes"),
    ("generator/000.npy", npy(FLOAT64.astype("float16"))[:-2], "claims"),
    ("generator/000.npy", npy(np.full((8, 256), np.nan, "float16")), "NaN or infinite"),
    ("generator/000.npy", npy(np.full((8, 256), -np.inf, "float32")), "NaN or infinite"),
    ("config.json.npy", npy(np.frombuffer(b"[1]", "uint8")), "its config is no mapping"),
    ("config.json.npy", npy(np.frombuffer(b"[" * 60_000, "uint8")), "not a weights file"),
    ("config.json.npy", npy(np.zeros(30_000_000, "uint8")), "holds no config"),
    ("config.json.npy", npy(np.zeros(3)), "its config is no mapping"),
])  # fmt: skip
def test_hostile_archives_are_refused(published, tmp_path, name, content, message):
    with zipfile.ZipFile(published[1]) as archive:
        members = {item: archive.read(item) for item in archive.namelist()}
    assert members["generator/000.npy"][:10] == npy(FLOAT64.astype("float16"))[:10]
    refused(tmp_path, {**members, name: content}.items(), message)


def test_archives_that_lie_as_a_whole_are_refused(published, tmp_path):
    with zipfile.ZipFile(published[1]) as archive:
        members = [(item, archive.read(item)) for item in archive.namelist()]
    with pytest.warns(UserWarning, match="Duplicate name"):
        refused(tmp_path, [*members, members[0]], "names an array twice")
    refused(tmp_path, members, "no compression or DEFLATE", zipfile.ZIP_LZMA)
    content = bytearray(published[1].read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "flipped.npz").write_bytes(content)
    with pytest.raises(WeightsError, match="not a weights file|refused|another config"):
        weights.load(tiny("dcgan"), "dcgan", tmp_path / "flipped.npz")


def test_whole_models_are_refused_as_weights(published, tmp_path):
    published[0].save(tmp_path / "model.keras")
    with pytest.raises(WeightsError, match=r"tf_gan_zoo.load\(path\)"):
        zoo.get("dcgan", weights=tmp_path / "model.keras", **get_spec("dcgan").tiny)


def test_load_runs_no_code(tmp_path):
    inputs = keras.Input((1,))
    layer = keras.layers.Lambda(lambda x: x * len(__import__("os").environ.setdefault("ZOO_HOSTILE", "1")))
    keras.Model(inputs, layer(inputs)).save(tmp_path / "hostile.keras")
    del os.environ["ZOO_HOSTILE"]
    with pytest.raises(WeightsError, match="hostile.keras is refused: it holds the code"):
        zoo.load(tmp_path / "hostile.keras")
    assert "ZOO_HOSTILE" not in os.environ


def test_keras_files_that_do_not_fit_change_nothing(published, tmp_path):
    other = tiny("dcgan", width=16)
    other.fit(make_dataset(other, 1), verbose=0)
    other.save_weights(tmp_path / "other.weights.h5")
    published[0].save_weights(tmp_path / "partial.weights.h5")
    with h5py.File(tmp_path / "partial.weights.h5", "a") as file:
        del file["discriminator/layers/conv2d_1"]
    model = tiny("dcgan")
    before = snapshot(model)
    for name in ("other", "partial"):
        with pytest.raises(WeightsError, match="does not fit dcgan"):
            weights.load(model, "dcgan", tmp_path / f"{name}.weights.h5")
        assert difference(before, snapshot(model)) == 0.0


@pytest.mark.parametrize("damage, message", [
    (lambda a: a.pop("generator/000"), "another config, first at generator/000"),
    (lambda a: a.update({"../../evil": np.zeros(1)}), r"refused: it names '\.\./\.\./evil\.npy'"),
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


def test_configs_that_differ_without_changing_shapes_are_named(published):
    with pytest.warns(UserWarning, match=r"latent_distribution: .uniform. .weights. and .normal. .model."):
        zoo.get("dcgan", weights=published[1], **get_spec("dcgan").tiny, learning_rate=0.02,
                latent_distribution="normal")  # fmt: skip


def test_frozen_layers_stay_frozen_in_a_saved_model(tmp_path):
    model = tiny("dcgan")
    model.generator.layers[1].trainable = False
    model.compile()
    model.fit(make_dataset(model, 1), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = zoo.load(tmp_path / "model.keras")
    assert [layer.trainable for layer in loaded.generator.layers] == [
        layer.trainable for layer in model.generator.layers
    ]
    for each in (model, loaded):
        each.fit(make_dataset(each, 1, seed=2), verbose=0)
    assert difference(snapshot(model), snapshot(loaded)) == 0.0


def test_files_that_are_no_weights_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="no weights at .*nowhere"):
        zoo.get("dcgan", weights=tmp_path / "nowhere.npz", **get_spec("dcgan").tiny)
    for name in ("text.npz", "text.weights.h5"):
        (tmp_path / name).write_text("not weights")
        with pytest.raises(WeightsError, match="not a weights file|does not fit"):
            zoo.get("dcgan", weights=tmp_path / name, **get_spec("dcgan").tiny)
    with pytest.raises(WeightsError, match="no pretrained weights for 'dcgan'"):
        zoo.get("dcgan", weights="pretrained", **get_spec("dcgan").tiny)


def test_optimizers_come_on_request_and_training_goes_on_as_it_would_have(published, tmp_path):
    model, plain = published
    weights.save(model, tmp_path / "all.npz", optimizers=True)
    assert plain.stat().st_size < (tmp_path / "all.npz").stat().st_size
    resumed = tiny("dcgan", learning_rate=0.02)
    weights.load(resumed, "dcgan", tmp_path / "all.npz")
    assert int(resumed.step.numpy()) == 0
    weights.load(resumed, "dcgan", tmp_path / "all.npz", optimizers=True)
    assert int(resumed.step.numpy()) == int(model.step.numpy()) == resumed.origin["step"] > 0
    for player in model.players:
        pairs = zip(model.player_optimizer(player).variables, resumed.player_optimizer(player).variables)
        assert all(np.array_equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_optimizers_that_are_not_there_or_other_ones_are_errors(published, tmp_path, precision):
    model = tiny("dcgan", precision=precision)
    with pytest.raises(WeightsError, match="holds no optimizers.*--optimizers"):
        weights.load(model, "dcgan", published[1], optimizers=True)
    weights.save(model, tmp_path / "all.npz", optimizers=True)
    weights.load(model, "dcgan", tmp_path / "all.npz", optimizers=True)
    model.compile({"generator": keras.optimizers.SGD()})
    before = snapshot(model)
    with pytest.raises(WeightsError, match="other optimizers, first at optimizer/generator"):
        weights.load(model, "dcgan", tmp_path / "all.npz", optimizers=True)
    assert difference(before, snapshot(model)) == 0.0


def test_fine_tuning_with_frozen_layers(published):
    model = zoo.get("dcgan", weights=published[1], **get_spec("dcgan").tiny)
    frozen, *_, last = [layer for layer in model.generator.layers if layer.weights]
    frozen.trainable = False
    model.compile()
    before = [[np.copy(w) for w in layer.get_weights()] for layer in (frozen, last)]
    model.fit(make_dataset(model, 2), verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(before[0], frozen.get_weights()))
    assert all((a != b).any() for a, b in zip(before[1], last.get_weights()))
    assert len(model.player_variables("generator")) == len(model.generator.trainable_variables)


def test_a_model_knows_where_its_weights_came_from(published, tmp_path):
    model = zoo.get("dcgan.fashion_mnist", weights="pretrained")
    entry = weights.manifest()["dcgan.fashion_mnist"]
    assert model.origin["entry"] == entry
    assert (model.origin["source"], model.origin["sha256"]) == ("package", entry["sha256"])
    assert json.loads(Path(model.origin["record"]).read_text())["name"] == "dcgan.fashion_mnist"
    json.dumps(model.origin)
    model = zoo.get("dcgan", weights=published[1], **get_spec("dcgan").tiny)
    assert (model.origin["source"], model.origin["entry"]) == (str(published[1]), None)
    model.save(tmp_path / "model.keras")
    assert difference(snapshot(zoo.load(tmp_path / "model.keras")), snapshot(model)) == 0.0


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """A release folder that the publishing script has made of a tiny run, served by http.server as it is."""
    folder = tmp_path_factory.mktemp("release")
    tiny_run = {**get_spec("dcgan").tiny, "data_options": {"num_examples": 64}, "steps_per_epoch": 1}
    run = train.train("dcgan", data="glyphs", settings=tiny_run, out=folder / "run", verbose=0)
    script = runpy.run_path(str(Path(__file__).parent.parent / "scripts" / "publish_weights.py"))
    words = [str(run), "--release", str(folder / "served"), "--examples=8", "--data-licence=fonts"]
    words.append("--optimizers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["publish_weights.py", *words])
        script["main"]()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder / "served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield folder / "served", f"http://127.0.0.1:{server.server_port}", train.load_model(run)
        server.shutdown()


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_release_folder_is_loaded_by_address_and_by_name(release, cache, monkeypatch):
    folder, address, trained = release
    entry = json.loads((folder / "manifest.json").read_text())["dcgan"]
    fields = get_spec("dcgan").tiny
    pinned = f"{address}/dcgan.npz#sha256={entry['sha256']}"
    monkeypatch.setenv("ZOO_WEIGHTS_URL", address)
    for source in (pinned, address, "pretrained", folder):
        model = zoo.get("dcgan", weights=source, **fields)
        assert np.abs(model.generate(2, seed=1) - trained.generate(2, seed=1)).max() < 5e-3
        assert model.origin["sha256"] == entry["sha256"]
    weights.load(model, "dcgan", "pretrained", optimizers=True)
    assert int(model.step.numpy()) == int(trained.step.numpy()) > 0
    with pytest.raises(WeightsError, match=r"width: 8 \(weights\) and 16 \(model\)"):
        zoo.get("dcgan", weights="pretrained", **{**fields, "width": 16})


def test_a_release_folder_says_what_it_holds(release):
    folder, *_ = release
    entry = json.loads((folder / "manifest.json").read_text())["dcgan"]
    record = json.loads((folder / "dcgan.json").read_text())
    card = (folder / "README.md").read_text()
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "dcgan.json", "dcgan.npz", "dcgan.png", "manifest.json"
    ]  # fmt: skip
    assert entry["overrides"].items() <= get_spec("dcgan").tiny.items()
    measured = [*record["metrics"], *record["failures"], record["machine"]["cpu"], "untrained", "Protocol:"]
    stated = [entry["sha256"], "fonts", "Apache-2.0", "arxiv.org/abs/1511.06434", ", width=8"]
    stated += ["ZOO_WEIGHTS_URL", "## Limits"]
    for fact in [*measured, *stated]:
        assert fact in card
    assert card.startswith("---\nlicense: apache-2.0\n")


@pytest.mark.parametrize("recipe", sorted(weights.manifest()))
def test_every_published_recipe_loads_and_its_record_is_there(recipe):
    entry = weights.manifest()[recipe]
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*trained with another config")
        model = zoo.get(recipe, weights="pretrained")
    assert (weights.PRETRAINED_DIR / entry["file"]).stat().st_size == entry["size"]
    record = json.loads((weights.PRETRAINED_DIR / entry["record"]).read_text())
    assert record["steps"] > 0
    assert record["metrics"]
    if hasattr(model, "generate"):
        assert model.generate(16, seed=0).std(axis=0).max() > 0.1
