"""The comparison of losses for super-resolution: its variants, and the page that is made of its records."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import tf_gan_zoo as zoo
from tf_gan_zoo import present

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import compare_super_resolution as comparison  # noqa: E402


@pytest.mark.parametrize("key", comparison.VARIANTS)
def test_variants_are_configs_of_their_recipes(key):
    variant = comparison.VARIANTS[key]
    config = zoo.zoo.resolve(variant.recipe, dict(variant.overrides or {}))[1]
    assert config.feature_weights in ("emoji", None)
    trained = variant.overrides is not None
    assert variant.further_steps(300) == (300 if trained else 0) or variant.weights


def test_page_says_whether_the_papers_order_came_out(tmp_path):
    records = tmp_path / "super_resolution"
    records.mkdir()
    better = {"srresnet": (25.0, 0.3), "srgan_mse": (24.0, 0.1), "srgan_vgg54": (23.0, 0.2)}
    for key, (psnr, distance) in {"bicubic": (20.0, 0.5), **better}.items():
        numbers = dict.fromkeys(comparison.COLUMNS, 0.5) | {"psnr": psnr, "perceptual_distance": distance}
        record = {"variant": key, "steps": 300 if "srgan" in key else 0, "examples": 9, "metrics": numbers}
        record["machine"] = {"cpu": "a processor", "cores": 2}
        comparison.write(records / f"{key}.json", record)
    for key in ("bicubic", "truth", *better):
        present.save_image(np.zeros((8, 16, 3), "uint8"), records / f"{key}.png")
    comparison.report(records, tmp_path)
    page = (tmp_path / "super_resolution.md").read_text()
    assert "best PSNR: SRResNet, as in the paper." in page
    assert "best perceptual distance: SRGAN-MSE, in the paper it is SRGAN-VGG54: not so here." in page
    assert "enhancenet.emoji`: best" not in page
    assert (tmp_path / "super_resolution.png").is_file()


def test_committed_page_is_made_of_the_committed_records(tmp_path):
    records = comparison.DOCS / "super_resolution"
    comparison.report(records, tmp_path)
    page = (tmp_path / "super_resolution.md").read_text(encoding="utf-8")
    assert page == (comparison.DOCS / "super_resolution.md").read_text(encoding="utf-8")
    numbers = {path.stem: json.loads(path.read_text()) for path in records.glob("*.json")}
    assert all(
        record["metrics"]["perceptual_distance"] < numbers["bicubic"]["metrics"]["perceptual_distance"]
        for key, record in numbers.items() if key != "bicubic"
    )  # fmt: skip
