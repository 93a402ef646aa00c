"""`zoo.evaluate`, its protocol, cache and errors; packaged extractors; the callback and the command."""

import json
import re
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf
from conftest import difference, make_dataset, snapshot, tiny

import tf_gan_zoo as zoo
from tf_gan_zoo import callbacks, cli, evaluation, metrics
from tf_gan_zoo import registry as registry_of_models
from tf_gan_zoo import train as training
from tf_gan_zoo.batch_spec import BatchSpec, Field, image_field
from tf_gan_zoo.data import open_dataset
from tf_gan_zoo.metrics import features, gather, registry
from tf_gan_zoo.weights import sha256

GLYPHS = {"data": "glyphs", "data_options": {"num_examples": 120}}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def dcgan():
    return tiny("dcgan", **GLYPHS, channels=1)


class Projection:
    """A cheap extractor that counts the pictures it sees."""

    name, digest, num_features, num_classes, preprocessing = "projection", "0", 6, 4, "none"

    def __init__(self):
        self.seen = 0

    def __call__(self, images):
        self.seen += len(images)
        flat = images.reshape(len(images), -1)
        directions = np.random.default_rng(0).normal(size=(flat.shape[1], 10)) / np.sqrt(flat.shape[1])
        values = flat @ directions
        return values[:, :6], tf.nn.softmax(values[:, 6:]).numpy()


# -------------------------------------------------------------------- numbers and protocol


def test_default_metrics_with_their_protocol(dcgan, tmp_path):
    result = zoo.evaluate(dcgan, num_samples=130, extractor="glyphs")
    assert {"fid", "kid", "kid_std", "precision", "recall", "density", "coverage", "swd", "swd_16", "is",
            "is_std", "ms_ssim", "ms_ssim_real"} == set(result.metrics)  # fmt: skip
    assert all(np.isfinite(value) for value in result.metrics.values())
    protocol = result.protocol
    assert (protocol["num_real"], protocol["num_fake"], protocol["seed"]) == (120, 130, 0)
    assert protocol["data"] | {"sha256": 0} == {
        "address": "glyphs", "split": "test", "view": "images", "field": "images", "image_size": [16, 16],
        "channels": 1, "sha256": 0,
    }  # fmt: skip
    assert protocol["extractor"] == {
        "name": "glyphs", "sha256": sha256(features.FEATURES_DIR / "glyphs.npz"), "num_features": 64,
        "num_classes": 26,
    }  # fmt: skip
    assert "bilinear to 32x32" in protocol["resize"]
    model = protocol["model"]
    assert (model["name"], model["network"], model["ema"]) == ("dcgan", "generator", False)
    assert (model["batch_norm"], model["precision"], model["step"]) == ("moving averages", "float32", 0)
    assert protocol["metrics"]["kid"] == {"num_subsets": 100, "subset_size": 120}
    assert protocol["metrics"]["is"] == {"splits": 10}
    assert {"tensorflow", "keras", "tf_gan_zoo", "numpy"} <= set(protocol["versions"])
    for digest in (model["weights_sha256"], model["config_sha256"], protocol["data"]["sha256"]):
        assert re.fullmatch("[0-9a-f]{64}", digest)
    result.save(tmp_path / "record.json")
    assert json.loads((tmp_path / "record.json").read_text()) == json.loads(json.dumps(result.to_dict()))


def test_the_seed_and_the_weights_decide(dcgan):
    def run(model=dcgan, **options):
        options = {"metrics": "fid", "num_samples": 40, "extractor": Projection(), **options}
        return zoo.evaluate(model, **options)

    assert run()["fid"] == run()["fid"]
    assert run()["fid"] != run(seed=1)["fid"]
    other = tiny("dcgan", **GLYPHS, channels=1, seed=5)
    digests = {run(m).protocol["model"]["weights_sha256"] for m in (dcgan, other)}
    assert len(digests) == 2


def test_a_model_of_the_data_itself_scores_best():
    """Real pictures against others of the same kind, with noise, and all alike."""
    pipelines = [open_dataset("glyphs", split=s, image_size=16, channels=1, batch_size=300, shuffle=False,
                              num_examples=300) for s in ("train", "test")]  # fmt: skip
    train, test = (next(iter(p.dataset()))["images"].numpy() for p in pipelines)
    noise = np.random.default_rng(0).normal(0, 0.3, train.shape)
    samples = {"train": train, "noisy": np.clip(train + noise, -1, 1), "one": np.repeat(train[:1], 300, 0)}
    found = {name: zoo.evaluate(Fixed(images), test, "fid,prdc,swd,is,ms_ssim", 300, extractor="glyphs")
             for name, images in samples.items()}  # fmt: skip
    for name in ("fid", "swd"):
        assert found["train"][name] < min(found["noisy"][name], found["one"][name]), name
    for name in ("coverage", "is"):
        assert found["train"][name] > max(found["noisy"][name], found["one"][name]), name
    assert found["train"]["precision"] > found["noisy"]["precision"]
    assert found["one"]["ms_ssim"] == pytest.approx(1)
    assert found["one"]["recall"] == 0


class Fixed:
    """A stand-in for a model: it "generates" given pictures, of given classes if it has labels."""

    zoo_name, view, config = "fixed", "images", zoo.Config(data="none", epochs=1, batch_size=4)
    averaged_networks = {}

    def __init__(self, images, labels=None):
        self.images, self.labels = images, labels
        self.batch_spec = BatchSpec(images=image_field(images.shape[1:3], images.shape[3]))
        self.step, self.name, self._place = tf.constant(0), "fixed", 0
        if labels is not None:
            self.batch_spec["labels"] = Field((), dtype="int32", optional=True)
            self.generate = self._generate_by_label

    def public_network(self):
        return zoo.gan.keras.Sequential(name="nothing")

    def generate(self, num_samples, seed=0):
        self._place += num_samples
        return self.images[self._place - num_samples : self._place]

    def _generate_by_label(self, num_samples, seed=0, labels=None):
        rng = np.random.default_rng(seed)
        return np.stack([self.images[rng.choice(np.flatnonzero(self.labels == k))] for k in labels])


@pytest.mark.parametrize("name", ["cyclegan", "infogan", "pix2pix", "srgan", "wgan_gp"])
def test_every_model_is_evaluated(name):
    model = tiny(name, **GLYPHS)
    result = zoo.evaluate(model, num_samples=30, num_real=40, metrics="task,fid", extractor=Projection())
    assert result["fid"] > 0
    assert len(result.metrics) > 1
    assert result.protocol["num_fake"] == 30
    assert result.protocol["metrics"]["task"]["num_examples"] == 40
    if not hasattr(model, "generate"):
        default = zoo.evaluate(model, num_real=40)
        assert default.metrics == {k: v for k, v in result.metrics.items() if k != "fid"}
        assert default.protocol["extractor"] is None
        assert (default.protocol["num_real"], default.protocol["num_fake"]) == (40, 40)


def test_ema_and_statistics_are_on_record():
    assert evaluation.describe(tiny("pix2pix"))["batch_norm"] == "the picture's own statistics"

    class Averaged(type(tiny("dcgan"))):
        @property
        def ema_decays(self):
            return {"generator": 0.9}

    model = Averaged(tiny("dcgan").config)
    described = evaluation.describe(model)
    assert (described["network"], described["ema"]) == ("generator_ema", True)


# -------------------------------------------------------------------- classes


def striped(count, seed, right=True):
    """Stripes whose direction is the class, or not."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=count).astype("int32")
    stripes = np.sin(np.arange(16) * 1.2 + rng.uniform(0, 6, (count, 1)))[:, None, :, None]
    images = np.repeat(stripes, 16, axis=1)
    turned = labels if right else rng.integers(2, size=count)
    images = np.where(turned[:, None, None, None] == 1, images.transpose(0, 2, 1, 3), images)
    return np.clip(images + rng.normal(0, 0.2, images.shape), -1, 1).astype("float32"), labels


def test_class_metrics_see_whether_labels_are_obeyed():
    images, labels = striped(640, seed=0)
    numbers = {}
    for right in (True, False):
        model, names = Fixed(*striped(640, seed=1, right=right)), ["fid", "class_fid", *["cas"] * right]
        ds = {"images": images, "labels": labels}
        result = zoo.evaluate(model, ds, ["ms_ssim", *names], 640, extractor=Projection())
        assert result.protocol["metrics"]["ms_ssim"]["within_classes"]
        numbers[right] = result.metrics
    assert numbers[True]["class_fid"] < 0.5 * numbers[False]["class_fid"]
    assert numbers[True]["cas"] > 0.9
    assert numbers[True]["fid"] == pytest.approx(numbers[False]["fid"], abs=0.1)


def test_classwise_distance_is_the_mean_over_classes():
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(60, 3)), rng.normal(size=(40, 3))
    a, b = np.arange(60) % 2, np.arange(40) % 2
    expected = np.mean([metrics.frechet_distance(real[a == k], fake[b == k]) for k in (0, 1)])
    assert metrics.classwise_frechet_distance(real, a, fake, b) == pytest.approx(expected)
    with pytest.raises(ValueError, match="class 1 has 30 real and 0 fake"):
        metrics.classwise_frechet_distance(real, a, fake, 0 * b)
    with pytest.raises(ValueError, match="expected 60 integer labels"):
        metrics.classwise_frechet_distance(real, b, fake, b)


# -------------------------------------------------------------------- streams and cache


def test_fid_keeps_moments_only():
    images = np.random.default_rng(0).uniform(-1, 1, (500, 8, 8, 1)).astype("float32")
    extractor = Projection()
    kept = gather.gather(((images[k : k + 100], None) for k in range(0, 500, 100)), {"moments"}, extractor)
    assert (kept.count, kept.features, kept.images) == (500, None, None)
    np.testing.assert_allclose(kept.moments.covariance, np.cov(extractor(images)[0].T), rtol=1e-6)


def test_real_statistics_are_computed_once(dcgan, tmp_path):
    def run(metric="fid", **options):
        extractor = Projection()
        result = zoo.evaluate(dcgan, metrics=metric, num_samples=10, extractor=extractor, **options)
        return result.metrics, extractor.seen

    first, seen = run()
    assert seen == 120 + 10
    assert run() == (first, 10)  # from memory
    evaluation._cache_in.cache_clear()
    assert run() == (first, 10)  # from the file
    (path,) = (tmp_path / "cache" / "statistics").iterdir()
    content = path.read_bytes()
    for damaged in (b"", content[: len(content) // 2], b"\0" * len(content)):
        path.write_bytes(damaged)
        evaluation._cache_in.cache_clear()
        assert run() == (first, 130)
        assert path.read_bytes() == content
    assert run("kid")[1] == 130  # needs features, which moments do not give
    assert run(num_real=50)[1] == 60  # other pictures
    assert run(cache=False) == (first, 130)


def test_data_of_all_kinds(dcgan):
    pipeline = training.open_pipeline(dcgan, "test", batch_size=50, shuffle=False, drop_remainder=False)
    images = np.concatenate([b["images"] for b in pipeline.dataset().as_numpy_iterator()])
    options = {"metrics": "fid", "num_samples": 20}

    def run(ds):
        return zoo.evaluate(dcgan, ds, extractor=Projection(), **options)

    batches = tf.data.Dataset.from_tensor_slices(images).batch(32)
    results = [run(ds) for ds in (None, "glyphs", pipeline, images, {"images": images}, batches)]
    assert [r.protocol["data"]["sha256"] for r in results[2:]] == [results[0].protocol["data"]["sha256"]] * 4
    np.testing.assert_allclose([r["fid"] for r in results], results[0]["fid"], rtol=1e-6)
    assert results[2].protocol["data"]["split"] is None
    shuffled = tf.data.Dataset.from_tensor_slices(images).shuffle(120).batch(32)
    result = run(shuffled)
    assert result.protocol["data"]["sha256"] is None  # no name for data without an order
    assert result["fid"] == pytest.approx(results[0]["fid"], rel=1e-6)
    with pytest.raises(evaluation.EvaluationError, match="never ends: give num_real"):
        run(batches.repeat())


def test_digests_do_not_depend_on_batches():
    values = {"images": np.arange(24.0).reshape(6, 4), "captions": np.array([b"a", b"b"] * 3, object)}
    cut = [{n: v[k : k + 2] for n, v in values.items()} for k in (0, 2, 4)]
    assert gather.batches_digest([values]) == gather.batches_digest(cut)
    changed = {**values, "captions": np.array([b"ab", b""] * 3, object)}
    assert gather.batches_digest([values]) != gather.batches_digest([changed])


@pytest.mark.slow
def test_memory_does_not_grow(dcgan):
    resource = pytest.importorskip("resource")  # not on Windows

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # of kilobytes, on Linux

    for call in range(55):
        if call == 5:
            before = peak()
        zoo.evaluate(dcgan, num_samples=300, extractor="glyphs", seed=call)
    grown = peak() - before
    print(f"50 evaluations grew memory by {grown:.1f} MB")
    assert grown < 50


# -------------------------------------------------------------------- registry and errors


def test_metrics_can_be_added(dcgan):
    @metrics.register_metric("brightness", needs=("images",))
    def brightness(evidence):
        evidence.note(unit="half ranges")
        return {"gap": abs(evidence.real.images.mean() - evidence.fake.images.mean())}

    try:
        result = zoo.evaluate(dcgan, metrics=["brightness"], num_samples=10)
    finally:
        registry._METRICS.pop("brightness")
    assert result["gap"] > 0
    assert result.protocol["metrics"] == {"brightness": {"unit": "half ranges"}}
    with pytest.raises(metrics.MetricError, match="'fid' is taken"):
        metrics.register_metric("fid", needs=())(brightness)
    with pytest.raises(metrics.MetricError, match="no need 'image'. Did you mean 'images'"):
        metrics.register_metric("new", needs=("image",))


def test_few_samples_warn(dcgan):
    with pytest.warns(metrics.FewSamplesWarning, match="FID of 20 pictures with 64 features is biased"):
        zoo.evaluate(dcgan, metrics="fid", num_samples=20, extractor="glyphs")


@pytest.mark.parametrize("options, words", [
    ({"metrics": "fidd"}, "no metric 'fidd'. Did you mean 'fid'"),
    ({"metrics": []}, "name at least one metric"),
    ({"metrics": "cas"}, "cas is for models that are trained with labels"),
    ({"num_samples": 1}, "at least 2, got 1"),
    ({"extractor": "glyph"}, "no extractor 'glyph'. Did you mean 'glyphs'"),
    ({"extractor": 5}, "an extractor is callable and has name, digest"),
    ({"split": "val"}, r"glyphs has the splits .* Or give another data set \(ds=, --data\)"),
    ({"ds": np.zeros((0, 16, 16, 1), "float32")}, "the data set is empty"),
    ({"ds": np.zeros((9, 16, 16, 3), "float32")}, "rgb_to_grayscale"),
    ({"ds": np.zeros((1, 16, 16, 1), "float32")}, "the data hold 1 examples"),
    ({"metrics": "kid", "num_real": 120, "num_samples": 2, "ds": np.zeros((9, 16, 16, 2))}, "alpha channel"),
])  # fmt: skip
def test_what_cannot_be_evaluated(dcgan, options, words):
    with pytest.raises(ValueError, match=words):
        zoo.evaluate(dcgan, **{"metrics": "fid", "num_samples": 10, **options})


def test_labels_must_be_there():
    images, labels = striped(10, seed=0)
    with pytest.raises(evaluation.EvaluationError, match="the data have no labels"):
        zoo.evaluate(Fixed(images, labels), images, "class_fid", 10, extractor=Projection())


def test_failed_runs_are_named():
    model = tiny("dcgan", **GLYPHS, channels=1)
    model.generator.trainable_variables[0].assign(model.generator.trainable_variables[0] * np.nan)
    with pytest.raises(evaluation.EvaluationError, match="NaN or infinite"):
        zoo.evaluate(model, metrics="swd", num_samples=10)


# -------------------------------------------------------------------- packaged extractors


@pytest.mark.parametrize("name, accuracy", [("glyphs", 0.95), ("fashion_mnist", 0.9)])
def test_packaged_classifiers_are_as_their_records_say(name, accuracy):
    extractor = metrics.get_extractor(name)
    assert extractor is metrics.get_extractor(name)
    record, path = extractor.record, features.FEATURES_DIR / f"{name}.npz"
    assert record["sha256"] == extractor.digest == sha256(path)
    assert path.stat().st_size < 2**20
    assert record["test_accuracy"] >= accuracy
    assert record["data_licence"]
    assert (record["num_features"], record["num_classes"]) == (extractor.num_features, extractor.num_classes)


def test_glyphs_are_read():
    pipeline = open_dataset("glyphs", view="labelled", split="test", image_size=32, channels=3,
                            batch_size=300, num_examples=300, shuffle=False)  # fmt: skip
    batch = next(iter(pipeline.dataset()))
    extractor = metrics.get_extractor("glyphs")
    vectors, probabilities = extractor(batch["images"])
    assert (vectors.shape, probabilities.shape) == ((300, 64), (300, 26))
    assert (probabilities.argmax(1) == batch["labels"].numpy()).mean() > 0.97
    larger = tf.image.resize(batch["images"], (48, 40))  # squeezed back into 32x32
    assert (extractor(larger)[1].argmax(1) == batch["labels"].numpy()).mean() > 0.9


def test_extractors_prepare_pictures_as_they_say():
    rgb = tf.constant([[[[1.0, -1.0, 0.0]]]])
    np.testing.assert_allclose(features.to_channels(rgb, 1), [[[[0.299 - 0.587]]]], rtol=1e-6)
    np.testing.assert_array_equal(features.to_channels(rgb[..., :1], 3), np.ones((1, 1, 1, 3)))
    extractor = metrics.get_extractor("glyphs")
    for bad, words in ((np.zeros((2, 8, 8, 2)), "1 or 3"), (np.full((2, 8, 8, 1), 255.0), "rescale")):
        with pytest.raises(metrics.ExtractorError, match=words):
            extractor(bad)
    values = gather.to_8_bits(np.array([-1.5, -1, 0.001, 1, 3]))
    np.testing.assert_allclose(values, [-1, -1, 0.5 / 127.5, 1, 1], atol=1e-6)


@pytest.mark.parametrize("data, name", [
    ("glyphs", "glyphs"), ("idx:/data/fashion-mnist", "fashion_mnist"),
    ("tfds:fashion_mnist", "fashion_mnist"), ("tfds:celeb_a", "inception"), ("", "inception"),
])  # fmt: skip
def test_automatic_choice(data, name):
    assert features.automatic(data) == name


def test_inception_without_weights_says_what_to_do(monkeypatch, tmp_path):
    def refuse(**options):
        raise OSError("no network")

    monkeypatch.setattr(features.keras.applications, "InceptionV3", refuse)
    with pytest.raises(metrics.FeatureWeightsError, match=r"copy it .*packaged extractor: glyphs, fashion"):
        metrics.InceptionV3Features()


@pytest.mark.slow
def test_inception_of_keras():
    extractor = metrics.InceptionV3Features(weights=None)
    images = np.random.default_rng(0).uniform(-1, 1, (3, 40, 30, 1))
    vectors, probabilities = extractor(images)
    assert (vectors.shape, probabilities.shape) == ((3, 2048), (3, 1000))
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)


# -------------------------------------------------------------------- during fit


def fit(model, used, epochs=4, first=0):
    return model.fit(make_dataset(model, 2), epochs=epochs, initial_epoch=first, verbose=0, callbacks=used)


def callback(folder, **options):
    options = {"metrics": "fid", "num_samples": 10, "extractor": Projection(), **options}
    return zoo.EvaluateMetrics(folder, **options)


def test_the_best_checkpoint_is_kept_and_training_is_not_touched(tmp_path):
    plain, watched = (tiny("dcgan", **GLYPHS, channels=1) for _ in range(2))
    fit(plain, [])
    evaluate = callback(tmp_path, every=2)
    history = fit(watched, [evaluate])
    assert difference(snapshot(plain), snapshot(watched)) == 0
    assert len(history.history["fid"]) == 2
    record = json.loads((tmp_path / "best.json").read_text())
    assert record["value"] == min(history.history["fid"]) == record["metrics"]["fid"]
    assert record["protocol"]["model"]["step"] == record["step"]
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["best.json", "best.weights.h5"]
    best = tiny("dcgan", **GLYPHS, channels=1)
    best.load_weights(tmp_path / "best.weights.h5")
    assert int(best.step.numpy()) == record["step"]
    again = zoo.evaluate(best, metrics="fid", num_samples=10, extractor=Projection())
    assert again["fid"] == pytest.approx(record["value"], rel=1e-6)


def test_resuming_goes_on_from_the_best(tmp_path):
    model = tiny("dcgan", **GLYPHS, channels=1)
    fit(model, [callback(tmp_path)], epochs=2)
    stored = json.loads((tmp_path / "best.json").read_text())
    unbeatable = {**stored, "value": 0.0}
    (tmp_path / "best.json").write_text(json.dumps(unbeatable))
    later = callback(tmp_path)
    fit(model, [later], epochs=3, first=2)
    assert json.loads((tmp_path / "best.json").read_text()) == unbeatable
    fresh = tiny("dcgan", **GLYPHS, channels=1)  # its step 0 lies before that best
    fit(fresh, [callback(tmp_path)], epochs=1)
    assert json.loads((tmp_path / "best.json").read_text())["step"] == 2


def test_direction_failures_and_workers(tmp_path, monkeypatch):
    assert not callback(None, mode="max", monitor="fid")._improves(np.nan)
    for monitor, better in (("fid", 1.0), ("coverage", 3.0), ("is", 3.0), ("ms_ssim", 1.0), ("psnr", 3.0)):
        judge = callback(None, monitor=monitor)
        judge.best = {"value": 2.0}
        assert judge._improves(better), monitor
        assert not judge._improves(4.0 - better), monitor
    with pytest.raises(ValueError, match="mode 'min', 'max' or None"):
        callback(None, mode="lowest")
    model = tiny("dcgan", **GLYPHS, channels=1)
    with pytest.raises(evaluation.EvaluationError, match="no number 'kid' to monitor; there are fid"):
        fit(model, [callback(None, monitor="kid")], epochs=1)
    monkeypatch.setenv("TF_CONFIG", json.dumps({
        "cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}))  # fmt: skip
    history = fit(model, [callback(tmp_path)], epochs=1)
    assert "fid" not in history.history
    assert not any(path.is_file() for path in tmp_path.iterdir())


# -------------------------------------------------------------------- the command


def test_the_command_prints_and_writes(dcgan, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(training, "load_model", lambda name, weights: dcgan)
    out = tmp_path / "record.json"

    def call(*options):
        with pytest.raises(SystemExit) as ended:
            cli.main(["evaluate", "dcgan.glyphs", "--num-samples", "70", *options])
        return ended.value.code, capsys.readouterr()

    status, printed = call("--metrics", "fid,is", "--extractor", "glyphs", "--out", str(out))
    assert status == 0
    assert re.search(r"fid +[\d.]+", printed.out)
    assert "70 generated by generator, 120 real of glyphs (test), features of glyphs" in printed.out
    assert set(json.loads(out.read_text())["metrics"]) == {"fid", "is", "is_std"}
    status, printed = call("--metrics", "fads")
    assert status == 2
    assert "no metric 'fads'" in printed.err


def test_training_with_evaluation_is_resumed_to_the_same_history(capsys, tmp_path):
    overrides = {**registry_of_models.get_spec("dcgan").tiny, **GLYPHS, "channels": 1, "steps_per_epoch": 2}

    def run(out, epochs, *options):
        settings = [f"--set={key}={value}" for key, value in {**overrides, "epochs": epochs}.items()]
        command = ["train", "dcgan", "--out", str(tmp_path / out), *settings, *options]
        with pytest.raises(SystemExit) as ended:
            cli.main([*command, "--evaluate-every", "1", "--metrics", "swd,ms_ssim"])
        assert ended.value.code == 0, capsys.readouterr().err
        rows = callbacks.read_history(tmp_path / out / "history.jsonl")
        best = json.loads((tmp_path / out / "checkpoints" / "best.json").read_text())
        return [(row["swd"], row["ms_ssim"]) for row in rows], (best["monitor"], best["value"], best["step"])

    run("parts", 1)
    assert run("parts", 2, "--resume") == run("whole", 2)


def test_nothing_is_left_behind(dcgan):
    """Python's own memory, in the default suite; the process's is measured by a slow test."""
    options = {"metrics": "fid,kid,is", "num_samples": 20, "extractor": Projection()}
    evaluator = evaluation.Evaluator(dcgan, **options)
    evaluator(dcgan)
    tracemalloc.start()
    try:
        sizes = []
        for _ in range(3):
            evaluator(dcgan)
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[-1] - sizes[0] < 200_000
