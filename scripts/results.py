"""The records in docs/results: where they lie, whether they are of today's weights, how numbers are shown.

`evaluate_zoo.py` writes them; the README's table and the gallery are made of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tf_gan_zoo import published
from tf_gan_zoo.fetch import digest

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "docs" / "results"
#: What a model's "_baseline" numbers are of, by task.
BASELINES = {
    "translation": "input as it is",
    "super_resolution": "bicubic",
    "refinement": "synthetic as it is",
    "text_to_image": "captions at random, or Stage I enlarged",
    "text": "maximum likelihood alone",
    "music": "another chord, another bar",
    "pose": "mean pose, input as it is",
    "face": "chance, pixels or the mean picture",
    "shape_3d": "mean shape, one class",
}


@dataclass(frozen=True)
class Shown:
    """How a metric is shown.

    Attributes:
        label: its name for readers.
        better: "↓", "↑", or "≈" for numbers that should be those of real pictures.
        brief: it also stands in the README's table.
    """

    label: str
    better: str
    brief: bool = False


METRICS = {
    "psnr": Shown("PSNR (dB)", "↑", True),
    "ssim": Shown("SSIM", "↑", True),
    "psnr_y": Shown("PSNR of the brightness, borders cut (dB)", "↑"),
    "ssim_y": Shown("SSIM of the brightness, borders cut", "↑"),
    "perceptual_distance": Shown("perceptual distance", "↓", True),
    "l1": Shown("L1", "↓", True),
    "ssim_a_to_b": Shown("SSIM a → b", "↑", True),
    "l1_a_to_b": Shown("L1 a → b", "↓"),
    "ssim_b_to_a": Shown("SSIM b → a", "↑", True),
    "l1_b_to_a": Shown("L1 b → a", "↓"),
    "pair_recovery_a_to_b": Shown("hidden pairs found a → b", "↑", True),
    "pair_recovery_b_to_a": Shown("hidden pairs found b → a", "↑", True),
    "rmse": Shown("RMSE", "↓", True),
    "retrieval": Shown("right product nearest", "↑", True),
    "product_accuracy": Shown("nearest by code of the same product", "↑", True),
    "association": Shown("own target likelier than another", "↑"),
    "mean_gradient": Shown("mean gradient / the truth's", "≈"),
    "rms_gradient": Shown("RMS gradient / the truth's", "≈"),
    "fid": Shown("FID", "↓", True),
    "kid": Shown("KID", "↓"),
    "precision": Shown("precision", "↑", True),
    "recall": Shown("recall", "↑", True),
    "density": Shown("density", "↑"),
    "coverage": Shown("coverage", "↑"),
    "is": Shown("Inception Score", "↑", True),
    "swd": Shown("sliced Wasserstein × 1000", "↓"),
    "ms_ssim": Shown("MS-SSIM of pairs", "≈"),
    "classes": Shown("classes found", "↑"),
    "class_entropy": Shown("entropy of classes (nats)", "↑"),
    "neighbour_distance": Shown("distance to nearest real picture", "↓"),
    "neighbour_accuracy": Shown("samples next to a picture of their class", "↑", True),
    "class_accuracy": Shown("samples that a classifier finds to be of their class", "↑", True),
    "reconstruction_l1": Shown("L1 of reconstructions", "↓"),
    "balance": Shown("L1 of samples' reconstructions / pictures'", "≈"),
    "coarse_l1": Shown("L1 between a sample made small and what it was made from", "≈"),
    "accuracy": Shown("accuracy with few labels", "↑", True),
    "real_accuracy": Shown("accuracy on real pictures, trained on refined ones", "↑", True),
    "recognised": Shown("refined pictures that a classifier of real ones reads rightly", "↑"),
    "accuracy_small": Shown("accuracy of small objects", "↑", True),
    "accuracy_large": Shown("accuracy of large objects", "↑"),
    "iou_small": Shown("overlap of small objects' boxes", "↑"),
    "iou_large": Shown("overlap of large objects' boxes", "↑"),
    "chord_tone_rate": Shown("notes of the bar's chord", "↑", True),
    "joint_interval": Shown("semitones from bar to bar", "≈", True),
    "pitch_distance": Shown("distance of pitch classes to the data's", "↓"),
    "certainty": Shown("steps whose strongest note is above 1/2", "≈"),
    "oracle_nll": Shown("-log p by the oracle (nats per token)", "↓", True),
    "bigram_precision": Shown("pairs of tokens that occur in the data", "↑"),
    "distinct_2": Shown("different pairs of tokens", "≈"),
    "age_accuracy": Shown("pictures of the age asked for", "↑", True),
    "ink_correlation": Shown("rank correlation of the age asked for and the ink", "↑", True),
    "ink_error": Shown("error of the mean ink at each age", "↓", True),
    "identity_accuracy": Shown("aged pictures that keep their sign", "↑", True),
    "rank1": Shown("turned faces of unknown people recognised", "↑", True),
    "rank1_profile": Shown("faces in profile of unknown people recognised", "↑"),
    "rank1_fused": Shown("sets of turned faces recognised", "↑", True),
    "pose_leakage": Shown("poses that features give away", "↓"),
    "turned_pose": Shown("turned faces in the pose asked for", "↑", True),
    "turned_identity": Shown("turned faces of the right person", "↑"),
    "mask_ssim": Shown("SSIM of the body", "↑", True),
    "pose_error": Shown("distance of joints from the pose (pixels)", "↓", True),
    "ssim_coarse": Shown("SSIM after stage I", "↑"),
    "mask_ssim_coarse": Shown("SSIM of the body after stage I", "↑"),
    "pose_error_coarse": Shown("distance of joints after stage I (pixels)", "↓"),
    "code_spread": Shown("spread of codes (0.577 is uniform)", "≈"),
    "joint_error": Shown("mean joint error (mm)", "↓", True),
    "frames_within_40": Shown("hands with every joint within 40 mm", "↑"),
    "frames_within_20": Shown("hands with every joint within 20 mm", "↑"),
    "pose_code_error": Shown("joint error of the pose's own code (mm)", "↓"),
    "render_error": Shown("error of depth maps made of poses", "↓", True),
    "caption_accuracy": Shown("pictures next to one of their caption", "↑", True),
    "word_accuracy": Shown("words of the caption in that of the nearest picture", "↑"),
    "match_auroc": Shown("AUROC of right and wrong captions", "↑", True),
    "small_caption_accuracy": Shown("Stage I's pictures next to one of their caption", "↑"),
    "small_word_accuracy": Shown("words of the caption in that of the nearest picture to Stage I's", "↑"),
    "sharpness": Shown("mean difference of neighbouring pixels / the truth's", "≈"),
    "caption_rmse": Shown("RMSE to the nearest picture of the caption", "↓"),
    "retrieval_map": Shown("retrieval mAP", "↑", True),
    "activation_correlation": Shown("likeness of D's activation patterns", "↓"),
    "marginal_entropy_penalty": Shown("imbalance of D's units", "↓"),
    "silhouette_iou": Shown("overlap of silhouettes", "↑", True),
    "voxel_iou": Shown("overlap of carved shapes", "↑", True),
    "depth_l1": Shown("error of depth inside (1 is the ball's diameter)", "↓", True),
    "chamfer": Shown("distance of point clouds (1 is the ball's radius)", "↓"),
    "shape_accuracy": Shown("shapes whose class is told rightly", "↑"),
    "average_precision": Shown("average precision on rare pictures", "↑", True),
    "miss_rate": Shown("log-average miss rate on rare pictures", "↓"),
    "average_precision_all": Shown("average precision, trained on the whole pool", "↑"),
    "miss_rate_all": Shown("log-average miss rate, trained on the whole pool", "↓"),
    "theta_distance": Shown("distance of scenes' parameters to real ones'", "↓", True),
    "theta_entropy": Shown("entropy of scenes' parameters (nats)", "≈"),
    "clustering_accuracy": Shown("clustering accuracy", "↑", True),
}
#: Metric -> another one of the same record that it ought to surpass.
RIVALS = {
    "average_precision": "average_precision_all",
    "miss_rate": "miss_rate_all",
    "ssim": "ssim_coarse",
    "mask_ssim": "mask_ssim_coarse",
    "pose_error": "pose_error_coarse",
    "caption_accuracy": "small_caption_accuracy",
    "word_accuracy": "small_word_accuracy",
}
#: Numbers that are shown within another one's row, or only in the record.
_HIDDEN = ("num_classes", "ms_ssim_real", "confidence_of_yaw")


@dataclass(frozen=True)
class Row:
    """One metric of a record, its numbers as text; "" where there is none.

    Attributes:
        key: its name in the record.
        shown: its label and direction.
        value: of the published weights.
        untrained: of the network before training.
        baseline: of the model's own baseline (`BASELINES`).
        floor: of real training pictures, or other data, in the place of generated ones.
    """

    key: str
    shown: Shown
    value: str
    untrained: str
    baseline: str
    floor: str


def path_of(recipe: str) -> Path:
    return RESULTS / f"{recipe}.json"


def history_of(recipe: str) -> Path:
    """The thinned history that `publish_weights.py` writes."""
    return RESULTS / f"{recipe}.history.json"


def load(recipe: str) -> dict[str, Any] | None:
    """A recipe's record, or None."""
    path = path_of(recipe)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def stale() -> dict[str, str]:
    """Published recipe -> why its record does not do."""
    reasons = {name: _why_stale(load(name), entry) for name, entry in published.manifest().items()}
    return {name: reason for name, reason in reasons.items() if reason}


def _why_stale(record: Mapping[str, Any] | None, entry: Mapping[str, Any]) -> str:
    if record is None:
        return "it has no record"
    if record["weights"]["sha256"] != entry["sha256"]:
        return "its record is of other weights than the manifest's"
    extractor = record["protocol"]["extractor"]
    if extractor and extractor["sha256"] != _packaged_digest(extractor["name"]):
        return f"the feature extractor {extractor['name']} has changed since"
    return ""


def _packaged_digest(extractor: str) -> str:
    path = published.PRETRAINED_DIR / "features" / f"{extractor}.npz"
    return digest(path) if path.is_file() else ""


def command(recipes: Iterable[str]) -> str:
    """What writes these records anew."""
    return f"python scripts/evaluate_zoo.py {' '.join(sorted(recipes))}"


# -------------------------------------------------------------------- numbers as text


def rows(record: Mapping[str, Any]) -> list[Row]:
    """What is to be shown of a record: best-known metrics first, unknown ones last."""
    order = {key: index for index, key in enumerate(METRICS)}
    keys = [key for key in record["metrics"] if not _is_part(key)]
    return [_row(key, record) for key in sorted(keys, key=lambda key: order.get(key, len(order)))]


def _is_part(key: str) -> bool:
    """Whether another row says it: baselines, deviations, the data's own, single sizes of the SWD."""
    is_size = key.startswith("swd_") and key.removeprefix("swd_").isdigit()
    return key in _HIDDEN or is_size or key.endswith(("_baseline", "_std", "_data"))


def _row(key: str, record: Mapping[str, Any]) -> Row:
    metrics = record["metrics"]
    shown = METRICS.get(key, Shown(key.replace("_", " "), ""))
    columns = (metrics, record["untrained"], record["floor"]["metrics"] if record["floor"] else {})
    value, untrained, floor = (_text(key, numbers) for numbers in columns)
    floor = floor or number(metrics.get(f"{key}_data"))  # what the model measures of the data themselves
    return Row(key, shown, value, untrained, number(baseline_of(key, metrics)), floor)


def baseline_of(key: str, metrics: Mapping[str, float]) -> float | None:
    """The metric's own baseline or, of one direction of a translation, that of both."""
    both = key.removesuffix("_a_to_b").removesuffix("_b_to_a")
    return metrics.get(f"{key}_baseline", metrics.get(f"{both}_baseline"))


def behind(record: Mapping[str, Any]) -> list[str]:
    """Numbers that are not better than their baseline or their rival (`RIVALS`), in words."""
    metrics, baseline = record["metrics"], BASELINES.get(record["task"], "baseline")
    found = []
    for key, shown in METRICS.items():
        others = {baseline: baseline_of(key, metrics)}
        if key in RIVALS:
            others[METRICS[RIVALS[key]].label] = metrics.get(RIVALS[key])
        for name, other in others.items():
            if key in metrics and other is not None and not _is_better(metrics[key], other, shown.better):
                found.append(f"{shown.label} {number(metrics[key])} ({name}: {number(other)})")
    return found


def _is_better(value: float, other: float, better: str) -> bool:
    """Whether a value surpasses another one; where neither direction is better, it does."""
    return value > other if better == "↑" else value < other if better == "↓" else True


def _text(key: str, numbers: Mapping[str, float]) -> str:
    text = number(numbers.get(key))
    if text and key == "classes":
        return f"{text} of {number(numbers.get('num_classes'))}"
    deviation = numbers.get(f"{key}_std")
    return text if deviation is None else f"{text} ± {deviation:.{len(text.partition('.')[2])}f}"


def number(value: float | None) -> str:
    """About three significant digits, at most four decimals; whole numbers as such."""
    if value is None:
        return ""
    limits = {100: 0, 10: 1, 1: 2, 0.1: 3}
    decimals = next((digits for limit, digits in limits.items() if abs(value) >= limit), 4)
    decimals = 0 if float(value).is_integer() else decimals
    return f"{value:,.{decimals}f}".replace("-", "−")


def protocol_line(record: Mapping[str, Any]) -> str:
    """What the numbers were measured on, in a sentence."""
    protocol = record["protocol"]
    split, extractor = protocol["data"]["split"], protocol["extractor"]
    made = f"{protocol['num_fake']:,} generated pictures against {protocol['num_real']:,} real ones"
    if record["task"] != "generation":
        made = f"{record['num_examples']:,} held-out pictures"
        made += f" (FID, KID: {protocol['num_fake']:,})" if extractor else ""
    features = f"; features of the {extractor['name']} classifier" if extractor else ""
    return f"{made} of the {split} split, 8 bits, seed {protocol['seed']}{features}."


def published_records() -> Iterator[tuple[str, dict[str, Any]]]:
    """(recipe, record) of every published recipe that has one."""
    for name in published.manifest():
        record = load(name)
        if record is not None:
            yield name, record
