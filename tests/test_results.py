"""Records, table and gallery of published recipes: up to date, in step with the weights, offline."""

import dataclasses
import html
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

import tf_gan_zoo as zoo
from tf_gan_zoo import cards, published, train
from tf_gan_zoo.data import DatasetError

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import evaluate_zoo  # noqa: E402
import make_gallery  # noqa: E402
import make_model_table  # noqa: E402
import publish_weights  # noqa: E402
import results  # noqa: E402

RECIPES = sorted(published.manifest())


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """An empty place for records."""
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    return tmp_path


# -------------------------------------------------------------------- records

#: Where trained weights are not better than none; a recipe that has improved must leave this list. Their
#: untrained networks draw one gray picture, which is precise; the trained cgan draws one picture per class.
KNOWN_FAILURES = {
    "began.fashion_mnist": {"precision"},
    "bingan.fashion_mnist": {"precision"},
    "cgan.fashion_mnist": {"precision", "recall"},
    "gan.fashion_mnist": {"precision"},
    "vae_gan.fashion_mnist": {"precision"},
}


def test_every_published_recipe_has_a_record_of_its_weights():
    assert not evaluate_zoo.complaint()


@pytest.mark.parametrize("recipe", RECIPES)
def test_records_are_whole_and_trained_weights_are_better_than_none(recipe):
    record = results.load(recipe)
    assert {"versions", "seed", "pixels", "num_real", "data"} <= record["protocol"].keys()
    assert record["machine"]["cores"] > 0
    assert set(record["untrained"]) <= set(record["metrics"])
    failures = set()
    for key, shown in results.METRICS.items():
        if shown.better in "↓↑" and key in record["metrics"] and key not in ("density", "l1"):
            trained, untrained = record["metrics"][key], record["untrained"][key]
            if not (trained < untrained if shown.better == "↓" else trained > untrained):
                failures.add(key)
    assert failures == KNOWN_FAILURES.get(recipe, set())
    if record["floor"]:
        assert record["floor"]["metrics"]["fid"] < record["metrics"]["fid"]


def test_new_weights_ask_for_a_new_evaluation(folder, monkeypatch):
    recipe = "dcgan.glyphs"
    record = json.loads((ROOT / "docs" / "results" / f"{recipe}.json").read_text())
    evaluate_zoo.write(recipe, record)
    assert recipe not in results.stale()
    evaluate_zoo.write(recipe, record | {"weights": {"file": "x.npz", "sha256": "0" * 64}})
    assert "other weights" in results.stale()[recipe]
    extractor = record["protocol"]["extractor"] | {"sha256": "0" * 64}
    evaluate_zoo.write(recipe, record | {"protocol": record["protocol"] | {"extractor": extractor}})
    assert "glyphs has changed" in results.stale()[recipe]
    (folder / f"{recipe}.json").unlink()
    command = f"Run: python scripts/evaluate_zoo.py {' '.join(RECIPES)}"
    assert evaluate_zoo.complaint().splitlines()[-1] == command


def test_a_small_evaluation_from_weights_to_record(monkeypatch):
    get = zoo.get

    def get_small(name, weights=None):
        options = {"fonts": ["bold"], "rotation": 5.0, "jitter": 0.05, "num_examples": 96}
        return get(name, weights=weights, data_options=options)

    monkeypatch.setattr(zoo, "get", get_small, raising=False)
    record = evaluate_zoo.make_record("dcgan.glyphs")
    assert record["weights"]["sha256"] == published.manifest()["dcgan.glyphs"]["sha256"]
    assert record["protocol"]["num_fake"] == record["protocol"]["num_real"] == 96
    assert record["floor"]["metrics"]["fid"] < record["metrics"]["fid"] < record["untrained"]["fid"]
    assert {"classes", "kid_std", "precision", "is", "swd", "ms_ssim"} <= record["metrics"].keys()
    json.dumps(record)


def test_without_data_the_old_record_stays(folder, monkeypatch, capsys):
    def fail(name):
        raise DatasetError("no folder there.")

    evaluate_zoo.write("dcgan.glyphs", {"old": True})
    monkeypatch.setattr(evaluate_zoo, "make_record", fail)
    assert evaluate_zoo.evaluate_all(["dcgan.glyphs", "pix2pix.emoji"]) == ["dcgan.glyphs", "pix2pix.emoji"]
    shown = capsys.readouterr().out
    assert "skipped, its old record stays: no folder there." in shown
    assert "it gets no record" in shown
    assert json.loads((folder / "dcgan.glyphs.json").read_text()) == {"old": True}


def test_metrics_that_need_features_are_left_out_where_no_classifier_fits():
    spec, config = zoo.zoo.resolve("srgan.emoji")
    names, left_out = evaluate_zoo.choose_metrics(train.unbuilt(spec.cls, config))
    assert names == ["task"]
    assert set(left_out) == {"fid", "kid"}


# -------------------------------------------------------------------- numbers as text


@pytest.mark.parametrize("value, text", [
    (None, ""), (0.0, "0"), (10.0, "10"), (27.04, "27.0"), (6.338, "6.34"), (0.8886, "0.889"),
    (0.0272, "0.0272"), (-0.5, "−0.500"), (108.3, "108"), (1234.5, "1,234"),
])  # fmt: skip
def test_numbers_are_readable(value, text):
    assert results.number(value) == text


def test_rows_put_deviations_and_baselines_beside_their_metric():
    metrics = {"ssim_a_to_b": 0.9, "ssim_baseline": 0.1, "is": 6.338, "is_std": 0.0812, "classes": 9.0}
    metrics |= {"rank1_fused": 1.0, "rank1_baseline": 0.5}
    metrics |= {"num_classes": 10.0, "swd": 1.5, "swd_28": 1.5, "own_metric": 3.0}
    record = {"metrics": metrics, "untrained": {"is": 1.0}, "floor": None}
    shown = {row.key: row for row in results.rows(record)}
    assert list(shown) == ["ssim_a_to_b", "is", "swd", "classes", "rank1_fused", "own_metric"]
    assert shown["rank1_fused"].baseline == ""  # another measure's is none
    assert (shown["ssim_a_to_b"].baseline, shown["is"].value) == ("0.100", "6.34 ± 0.08")
    assert (shown["is"].untrained, shown["is"].baseline, shown["is"].floor) == ("1", "", "")
    assert (shown["classes"].value, shown["own_metric"].shown.label) == ("9 of 10", "own metric")


def test_every_published_metric_has_its_own_baseline():
    """No baseline hangs in the air: its metric is there, or both directions of a translation."""
    for recipe in RECIPES:
        metrics = results.load(recipe)["metrics"]
        names = {name.removesuffix("_baseline") for name in metrics if name.endswith("_baseline")}
        for name in names:
            own = name.removesuffix("_mean").removesuffix("_mean_colour")
            assert {own, f"{own}_a_to_b"} & metrics.keys(), f"{recipe}: {name}_baseline"
            if name in metrics:
                assert results.baseline_of(name, metrics) == metrics[f"{name}_baseline"]


def test_numbers_that_lose_are_said():
    metrics = {"accuracy_large": 0.9, "accuracy_large_baseline": 0.95, "average_precision": 0.6}
    metrics |= {"average_precision_baseline": 0.5, "average_precision_all": 0.8, "pose_error": 1.0}
    metrics |= {"pose_error_coarse": 1.2, "mean_gradient": 1.2, "mean_gradient_baseline": 1.2}
    record = {"metrics": metrics, "untrained": {}, "floor": None, "task": "features"}
    assert results.behind(record) == [
        "accuracy of large objects 0.900 (baseline: 0.950)",
        "average precision on rare pictures 0.600 (average precision, trained on the whole pool: 0.800)",
    ]
    for recipe in RECIPES:
        for text in results.behind(results.load(recipe)):
            assert f"not better: {text}" in make_model_table.numbers(recipe)
            assert html.escape(text) in "".join(make_gallery.numbers(recipe))


def test_papers_without_arxiv_have_another_address():
    assert make_model_table.cited("A 2000", zoo.info("dcgan").paper).endswith("(https://arxiv.org/abs/1511.06434)")
    for name in zoo.list_models():
        assert zoo.info(name).paper.link.startswith("https://")
    paper = dataclasses.asdict(zoo.info("dr_gan").paper)
    assert "](https://openaccess.thecvf.com/" in cards.paper_line(paper)
    assert "/None" not in (ROOT / "README.md").read_text(encoding="utf-8") + make_gallery.page()


def test_the_table_says_what_was_measured_beside_its_baseline():
    assert re.match(r"PSNR \(dB\) [\d.]+ \(bicubic: [\d.]+\)<br>", make_model_table.numbers("srgan.emoji"))
    assert make_model_table.numbers("dcgan.fashion_mnist").startswith("FID (fashion_mnist) ")
    assert "10,000 samples against 10,000 real pictures, floor 0" in make_model_table.protocol_note()


# -------------------------------------------------------------------- the gallery


class References(HTMLParser):
    """Collects what a page refers to, and its identifiers and tags."""

    def __init__(self, text):
        super().__init__()
        self.sources, self.links, self.ids, self.tags = [], [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.add(tag)
        self.sources += [found["src"]] if "src" in found else []
        self.links += [found["href"]] if "href" in found else []
        self.ids += [found["id"]] if "id" in found else []


def test_the_gallery_is_up_to_date():
    assert make_gallery.PAGE.read_text(encoding="utf-8") == make_gallery.page(), "run scripts/make_gallery.py"


def test_the_gallery_needs_no_network_and_its_links_lead_somewhere():
    text = make_gallery.PAGE.read_text(encoding="utf-8")
    page = References(text)
    assert page.ids == RECIPES
    assert not page.tags & {"script", "link", "iframe", "object", "base"}
    assert not re.search(r"url\(|@import|srcset|\son\w+=", text)
    here = make_gallery.PAGE.parent
    inside = [href for href in page.links if not href.startswith(("https://", "#"))]
    for reference in [*page.sources, *inside]:
        assert (here / reference).resolve().is_relative_to(ROOT)
        assert (here / reference).exists(), reference
    assert {href[1:] for href in page.links if href.startswith("#")} == set(RECIPES)
    assert len(page.sources) >= len(RECIPES)


def test_texts_and_attributes_are_escaped():
    made = make_gallery.tag("p", '<b> & "x"', make_gallery.tag("i", "<"), title='"><script>')
    assert made == '<p title="&quot;&gt;&lt;script&gt;">&lt;b&gt; &amp; &quot;x&quot;<i>&lt;</i></p>'


def test_curves_are_drawn_to_scale():
    drawn = ElementTree.fromstring(make_gallery.curve("loss", [0, 50, 75, 100], [3.0, 1.0, None, 2.0]))
    line = drawn.find("svg/polyline").get("points")
    assert line == "4.0,16.0 110.0,70.0 216.0,43.0"
    assert [text.text for text in drawn.findall("svg/text")] == ["3", "1"]
    assert drawn.find("figcaption/b").text == "2"
    assert "no finite value" in make_gallery.curve("loss", [1], [None])
    assert "4.0,43.0" in make_gallery.curve("loss", [1], [5.0])


def test_published_histories_are_thin():
    rows = [{"step": 10 * (k + 1), "d_loss": k / 3, "seconds": 1.0} for k in range(1000)]
    rows[-1]["d_loss"] = None
    curves = publish_weights.thinned(rows, ["d_loss"])
    assert len(curves["step"]) == len(curves["d_loss"]) == publish_weights.NUM_POINTS
    assert (curves["step"][0], curves["step"][-1]) == (10, 10_000)
    assert curves["d_loss"][-1] is None
    assert publish_weights.thinned(rows[:3], ["d_loss"])["d_loss"] == [0.0, 0.3333, 0.6667]
    for recipe in RECIPES:
        assert results.history_of(recipe).stat().st_size < 20_000


def test_weights_that_predate_a_change_say_so_until_they_are_published_anew(monkeypatch, tmp_path):
    name, entry = "dcgan.glyphs", published.manifest()["dcgan.glyphs"]
    record_file, recipe_file = tmp_path / f"{name}.json", tmp_path / f"{name}.yaml"
    record_file.write_bytes((published.PRETRAINED_DIR / record_file.name).read_bytes())
    recipe_file.write_text((zoo.zoo.RECIPE_DIR / recipe_file.name).read_text())

    def note(reason):
        publish_weights.note_predates(name, reason, published=tmp_path, recipes=tmp_path)

    note("")  # what it may say today
    before, recipe = record_file.read_bytes(), recipe_file.read_text()
    assert "predate" not in recipe
    note("padding changed;\n nothing  else did.")
    note("D pads otherwise; G is as it was.")  # in the place of the first
    record = json.loads(record_file.read_text())
    header = "#   weights predate: D pads otherwise; G is as it was.\n"
    assert recipe_file.read_text().count("weights predate") == 1
    assert recipe_file.read_text().replace(header, "") == recipe
    sentence = "These weights predate a change of the model: D pads otherwise; G is as it was."
    paper = {"authors": "A", "title": "T", "year": 2000}
    assert sentence in cards.weights_card(name, {**entry, "file": "x.npz"}, record, paper)
    assert f"{sentence} Weights:" in "".join(make_gallery.reproduce(name, entry, record))
    publish_weights.write_header(recipe_file, json.loads(before))  # what publishing anew does
    assert recipe_file.read_text() == recipe
    note("again")
    note("")
    assert (record_file.read_bytes(), recipe_file.read_text()) == (before, recipe)
    with pytest.raises(SystemExit, match="gan.nowhere has no published weights"):
        publish_weights.note_predates("gan.nowhere", "x", published=tmp_path, recipes=tmp_path)
    monkeypatch.setattr(sys, "argv", ["publish_weights.py", "--predates", "so it is", name])
    calls = []
    monkeypatch.setattr(publish_weights, "note_predates", lambda *words: calls.append(words))
    publish_weights.main()
    assert calls == [(name, "so it is")]
