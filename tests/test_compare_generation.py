"""The comparison of losses: one pair of networks for all, records, going on, table and curves."""

import json
import shutil
import sys
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
from conftest import make_fields

from tf_gan_zoo import registry, train

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import compare_generation as comparison  # noqa: E402

OPTIONS = {"fonts": ["bold"], "rotation": 5.0, "num_examples": 96}
SMALL = comparison.Budget(
    steps=20, points=2, samples=32, width=4, batch_size=8, data="glyphs", data_options=OPTIONS
)  # fmt: skip


@pytest.mark.parametrize("key", comparison.LOSSES)
def test_every_loss_trains_the_same_networks(key):
    config = registry.get_spec(comparison.LOSSES[key].model).config_cls.from_dict(SMALL.settings(key, 0))
    model = comparison.model_of(key, 4)(config)
    model.compile(run_eagerly=True)
    generator, discriminator = comparison.build_generator(4), comparison.build_discriminator(4)
    for own, common in ((model.generator, generator), (model.discriminator, discriminator)):
        shapes = [[v.shape for v in network.trainable_variables] for network in (own, common)]
        assert shapes[0] == shapes[1]
    before = [v.numpy() for v in model.player_variables("discriminator")]
    history = model.fit(make_fields(model, 8 * model.batches_per_step), batch_size=8, verbose=0).history
    assert np.isfinite(history["d_loss"]).all()
    assert any((v.numpy() != old).any() for v, old in zip(model.player_variables("discriminator"), before))
    assert model.generate(2).min() >= -1


def test_budgets_are_updates_of_the_discriminator():
    assert {key: comparison.generator_updates(key, comparison.Budget()) for key in comparison.LOSSES} == {
        **dict.fromkeys(comparison.LOSSES, 2000), "wgan_gp": 400, "wgan_clip": 305,
    }  # fmt: skip
    with pytest.raises(SystemExit, match="wgan_gp needs a multiple of 40"):
        comparison.Budget(steps=2008).settings("wgan_gp", 0)


def test_from_runs_to_records_table_and_curves(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(comparison, "METRICS", ("fid", "prdc"))
    runs, records = tmp_path / "runs", tmp_path / "docs" / "comparison"
    trained = MagicMock(side_effect=train.train)
    monkeypatch.setattr(train, "train", trained)
    comparison.run("non_saturating", 0, SMALL, runs, records)
    assert trained.call_args.kwargs["resume"]  # a run that was killed goes on
    path = records / "non_saturating.0.json"
    record = json.loads(path.read_text())
    assert [point["step"] for point in record["points"]] == [10, 20]
    assert all(point["fid"] > 0 and point["seconds"] > 0 for point in record["points"])
    assert (record["generator_updates"], record["model"], record["seed"]) == (20, "dcgan", 0)
    assert record["protocol"]["extractor"]["name"] == "glyphs"

    monkeypatch.setattr(train, "train", lambda *args, **kwargs: pytest.fail("trained again"))
    comparison.run("non_saturating", 0, SMALL, runs, records)
    assert "is there" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="steps \\(20 there, 40 asked for\\)"):
        comparison.run("non_saturating", 0, comparison.Budget(**{**vars(SMALL), "steps": 40}), runs, records)

    for key, seed, fid in (("wgan_gp", 0, 10.0), ("wgan_gp", 1, 14.0), ("kl", 0, None)):
        other = {**record, "loss": key, "seed": seed, "model": comparison.LOSSES[key].model}
        other["points"] = [{**point, "fid": fid} for point in record["points"]]
        (records / f"{key}.{seed}.json").write_text(json.dumps(other))
    comparison.main(["--report", "--out", str(tmp_path / "docs")])
    text = (tmp_path / "docs" / "comparison.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[0][2:] for row in rows] == [
        "Wasserstein, gradient penalty", "non-saturating", "f-GAN, KL"
    ]  # fmt: skip
    assert "| 12 (10 to 14) |" in rows[0]
    assert "| failed |" in rows[-1]
    assert (tmp_path / "docs" / "comparison.png").stat().st_size > 10_000
    shutil.copy(path, records / "broken.json")
    path.write_text(json.dumps({**record, "budget": {**record["budget"], "steps": 1}}))
    with pytest.raises(SystemExit, match="2 budgets"):
        comparison.report(records, tmp_path)
    with pytest.raises(SystemExit, match="has no records"):
        comparison.report(tmp_path / "empty", tmp_path)
