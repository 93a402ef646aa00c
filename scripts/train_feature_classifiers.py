"""Trains the small classifiers whose features the zoo's metrics use, and writes weights and records.

    python scripts/train_feature_classifiers.py glyphs fashion_mnist

The accuracy in a record is that of the float16 weights as they are shipped, on the whole test split.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tf_gan_zoo import metrics, train, weights
from tf_gan_zoo.data import open_dataset
from tf_gan_zoo.metrics import classifier, features
from tf_gan_zoo.paths import expand

SEED = 0
BATCH_SIZE = 128
DROPOUT = 0.3


@dataclass(frozen=True)
class Task:
    """What one classifier is trained on, the licence of these data, and whether pictures are mirrored."""

    data: str
    licence: str
    epochs: int
    flip: bool = False


TASKS = {
    "glyphs": Task("glyphs", "made by tf_gan_zoo from the fonts that matplotlib ships", 8),
    "fashion_mnist": Task(
        "idx:/usr/share/datasets/fashion-mnist", "Fashion-MNIST, Zalando SE, MIT", 10, flip=True
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(TASKS), choices=list(TASKS), metavar="NAME")
    parser.add_argument("--epochs", type=int, help="instead of each task's own number")
    parser.add_argument("--out", type=expand, default=features.FEATURES_DIR, help="folder for the results")
    arguments = parser.parse_args()
    for name in arguments.names:
        record = make(name, arguments.out, arguments.epochs or TASKS[name].epochs)
        print(json.dumps(record, indent=2))


def make(name: str, folder: Path, epochs: int) -> dict[str, Any]:
    """Trains one classifier, writes NAME.npz and NAME.json, and returns the record."""
    started, task, facts = time.time(), TASKS[name], features.PACKAGED[name]
    images, labels = examples(name, "train")
    network = build(name, DROPOUT)
    classifier.train_classifier(
        network, images, labels, epochs, batch_size=BATCH_SIZE, flip=task.flip, seed=SEED, verbose=2
    )  # fmt: skip
    path = folder / f"{name}.npz"
    classifier.save_arrays(network, path)
    shipped = build(name)
    classifier.load_arrays(shipped, path)
    test_images, test_labels = examples(name, "test")
    correct = classifier.classify(shipped, test_images) == test_labels
    record = {
        "name": name,
        "data": task.data,
        "data_licence": task.licence,
        "licence": "Apache-2.0",
        "image_size": facts.image_size,
        "channels": 1,
        "num_classes": facts.num_classes,
        "num_features": classifier.NUM_FEATURES,
        "num_weights": network.count_params(),
        "test_accuracy": round(float(correct.mean()), 4),
        "num_train": len(images),
        "num_test": len(test_images),
        "epochs": epochs,
        "batch_size": BATCH_SIZE,
        "dropout": DROPOUT,
        "flip": task.flip,
        "seed": SEED,
        "sha256": weights.sha256(path),
        "command": " ".join(["python", "scripts/train_feature_classifiers.py", *sys.argv[1:]]),
        "seconds": round(time.time() - started, 1),
        "machine": train.machine(),
        "versions": train.versions(),
    }
    (folder / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return record


def build(name: str, dropout: float = 0.0) -> Any:
    facts = features.PACKAGED[name]
    return metrics.classifier.build_classifier(
        facts.image_size, 1, facts.num_classes, dropout=dropout, seed=SEED
    )


def examples(name: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """All pictures in [-1, 1] and labels of a split, in stored order."""
    size = features.PACKAGED[name].image_size
    options = {"view": "labelled", "image_size": size, "channels": 1, "batch_size": 1000}
    pipeline = open_dataset(
        TASKS[name].data, split=split, shuffle=False, drop_remainder=False, **options
    )  # fmt: skip
    batches = list(pipeline.dataset().as_numpy_iterator())
    return tuple(np.concatenate([batch[key] for batch in batches]) for key in ("images", "labels"))


if __name__ == "__main__":
    main()
