"""Compares BinGAN's descriptors with OpenCV's and with the same network without its regularisers.

    python scripts/evaluate_descriptors.py bingan.fashion_mnist --plain runs/bingan.fashion_mnist.plain

writes docs/descriptors.json. --plain is the folder of a run of the same recipe with

    tf-gan-zoo train bingan.fashion_mnist --set dmr_weight=0 --set bre_weight=0 --out ...

Needs OpenCV (pip install tf_gan_zoo[features]) and the recipe's data. Two questions, all with the same
pictures:

Retrieval: for each of the first pictures of the test split, the 1,000 nearest of the training split;
mAP@1000 of their classes.

Matching: pairs of a test picture and the same picture seen through a known homography (rotation, scale,
shear, perspective, shift, another brightness and contrast, noise), and as many pairs of different pictures;
false positive rate at 95% of the true pairs (FPR@95). These pairs stand in for Brown's patches, which are
not free to be had: the numbers are not comparable with the paper's.

SIFT and ORB describe a picture at one upright keypoint in its middle, as large as the picture: enlarged so
that the grid of SIFT's 16 histograms, or ORB's patch of 31 pixels, covers it. SIFT is compared by Euclidean
distance, everything else by Hamming distance.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tf_gan_zoo as zoo
from tf_gan_zoo import train
from tf_gan_zoo.metrics import descriptors
from tf_gan_zoo.paths import expand

RECORD = Path(__file__).resolve().parent.parent / "docs" / "descriptors.json"
NUM_QUERIES, NUM_DATABASE, NUM_PAIRS, TOP = 1000, 10_000, 2000, 1000
#: Kind of descriptor -> side in pixels of the enlarged picture, diameter of the keypoint in it. SIFT's
#: histograms reach three diameters to each side.
KEYPOINTS = {"SIFT": (64, 64 / 6), "ORB": (36, 31)}

Describe = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", nargs="?", default="bingan.fashion_mnist")
    parser.add_argument("--weights", default="pretrained", help="other weights: a file or a run folder")
    parser.add_argument("--plain", type=expand, metavar="RUN", help="run without regularisers")
    parser.add_argument("--out", type=expand, default=RECORD)
    arguments = parser.parse_args()
    record = make_record(arguments.recipe, arguments.weights, arguments.plain)
    arguments.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(record["methods"], indent=2))


def make_record(recipe: str, weights: str, plain: Path | None) -> dict[str, Any]:
    """The numbers of every method and what they depend on."""
    model = zoo.get(recipe, weights=weights)
    networks = {"bingan": model, "untrained": zoo.get(recipe)}
    if plain:
        networks["without_regularisers"] = train.load_model(str(plain))
    methods = methods_of(networks, model.config.num_bits)
    queries, database = pictures(model, "test", NUM_QUERIES), pictures(model, "train", NUM_DATABASE)
    pairs = make_pairs(pictures(model, "test", NUM_PAIRS)["images"])
    return {
        "recipe": recipe,
        "data": model.config.data,
        "protocol": {
            "queries": NUM_QUERIES, "database": NUM_DATABASE, "top": TOP, "pairs": NUM_PAIRS, "seed": 0,
        },
        "methods": {
            name: measure(*method, queries, database, pairs) for name, method in methods.items()
        },
        "machine": train.machine(),
        "versions": train.versions(),
    }  # fmt: skip


def methods_of(networks: dict[str, Any], num_bits: int) -> dict[str, tuple[Describe, bool]]:
    """Name -> (pictures in [-1, 1] to descriptors, whether these are packed bits)."""
    learnt = {name: (network.describe, True) for name, network in networks.items()}
    return learnt | {
        "random_hyperplanes": (lambda x: descriptors.random_hyperplane_bits(x, num_bits), True),
        "sift": (lambda x: opencv_descriptors(x, "SIFT"), False),
        "orb": (lambda x: opencv_descriptors(x, "ORB"), True),
    }


def pictures(model: zoo.GAN, split: str, count: int) -> dict[str, np.ndarray]:
    """The first pictures and labels of a split."""
    options = {"view": "labelled", "batch_size": count, "shuffle": False}
    batch = next(iter(train.open_pipeline(model, split, **options).dataset(start_step=0)))
    return {name: np.asarray(value) for name, value in batch.items()}


def measure(
    describe: Describe, binary: bool, queries: dict[str, np.ndarray], database: dict[str, np.ndarray],
    pairs: tuple[np.ndarray, np.ndarray],
) -> dict[str, float]:  # fmt: skip
    """Retrieval and matching by one kind of descriptor."""
    found, searched = (describe(side["images"]) for side in (queries, database))
    of_all = descriptors.hamming_distances if binary else squared_distances
    labels = (queries["labels"], database["labels"])
    precision = descriptors.mean_average_precision(of_all(found, searched), *labels, TOP)
    first, second = (describe(side) for side in pairs)
    others = np.roll(second, 1, axis=0)  # each picture with the view of another one
    between = descriptors.paired_hamming_distances if binary else paired_distances
    rate = descriptors.false_positive_rate_at_95(between(first, second), between(first, others))
    bits = 8 * found.shape[1]  # SIFT's 128 numbers are bytes by their range
    return {"bits": bits, "retrieval_map": round(precision, 4), "fpr_at_95": round(rate, 4)}


def squared_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances of all pairs."""
    return (first**2).sum(1)[:, None] - 2 * first @ second.T + (second**2).sum(1)[None]


def paired_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances, row by row."""
    return ((first - second) ** 2).sum(1)


# -------------------------------------------------------------------- OpenCV


def opencv_descriptors(images: np.ndarray, kind: str) -> np.ndarray:
    """One descriptor for the whole of each picture.

    Args:
        images: (count, height, width, channels) in [-1, 1].
        kind: "SIFT", float32 (count, 128), or "ORB", uint8 (count, 32).
    """
    cv2, (side, diameter) = opencv(), KEYPOINTS[kind]
    extractor = cv2.SIFT_create() if kind == "SIFT" else cv2.ORB_create(edgeThreshold=side // 2 - 2)
    rows = []
    for gray in to_gray(images):
        large = cv2.resize(gray, (side, side), interpolation=cv2.INTER_LINEAR)
        _, row = extractor.compute(large, [cv2.KeyPoint(side / 2, side / 2, diameter, 0.0)])
        if row is None:
            raise SystemExit(f"{kind} describes no keypoint of {side}x{side} pixels in this OpenCV.")
        rows.append(row[0])
    return np.stack(rows)


def to_gray(images: np.ndarray) -> np.ndarray:
    """uint8 (count, height, width)."""
    return np.clip((images.mean(-1) + 1) * 127.5, 0, 255).round().astype(np.uint8)


def make_pairs(images: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures, and each as another view of it: a known homography, other light, noise.

    Args:
        images: (count, height, width, channels) in [-1, 1].
        seed: draws the views.
    """
    cv2, rng = opencv(), np.random.default_rng(seed)
    height, width = images.shape[1:3]
    views = []
    for image in images:
        matrix = homography(rng, height, width)
        view = cv2.warpPerspective(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
        light = rng.uniform(0.8, 1.2) * (view.reshape(image.shape) + 1) - 1 + rng.uniform(-0.1, 0.1)
        views.append(np.clip(light + rng.normal(0, 0.05, image.shape), -1, 1))
    return images, np.stack(views).astype("float32")


def homography(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A random 3x3 matrix: up to 15 degrees, 15% of scale, 10% of shear and shift, some perspective."""
    angle, scale = np.radians(rng.uniform(-15, 15)), rng.uniform(0.85, 1.15)
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[cosine, -sine + rng.uniform(-0.1, 0.1), 0], [sine, cosine, 0], [0, 0, 1]])
    turn[2, :2] = rng.uniform(-0.1, 0.1, 2) / (height, width)
    middle = np.array([[1, 0, width / 2], [0, 1, height / 2], [0, 0, 1]])
    shift = np.eye(3)
    shift[:2, 2] = rng.uniform(-0.1, 0.1, 2) * (width, height)
    return middle @ shift @ turn @ np.linalg.inv(middle)


def opencv() -> Any:
    """The module cv2.

    Raises:
        SystemExit: if it is not installed.
    """
    try:
        import cv2
    except ImportError:
        raise SystemExit(
            "SIFT and ORB come from OpenCV: pip install opencv-python-headless (extra 'features')."
        ) from None
    return cv2


if __name__ == "__main__":
    main()
