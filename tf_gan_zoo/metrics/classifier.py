"""The small convolutional classifier: packaged feature extractor, and judge of class-conditional samples."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from tf_gan_zoo import files
from tf_gan_zoo.paths import expand

NUM_FEATURES = 64


class ExtractorError(ValueError):
    """An extractor that does not exist, or pictures that it cannot take."""


class FeatureWeightsError(ExtractorError):
    """Weights of a feature extractor cannot be had or do not fit; the message says how to go on."""


def build_classifier(
    image_size: int, channels: int, num_classes: int, dropout: float = 0.0, seed: int = 0
) -> keras.Model:
    """Images (batch, image_size, image_size, channels) in [-1, 1] -> [features (batch, 64), logits].

    Four 3x3 convolutions (32, 64, 96, 96 channels; batch norm, ReLU), each halving the picture, then a layer
    of 64 ReLU units, the features, and the logits (batch, num_classes). Flattening keeps where things are.

    Args:
        dropout: rate between features and logits while it is trained.
        seed: decides the initial weights.
    """
    x = images = keras.Input((image_size, image_size, channels), name="images")
    for k, width in enumerate((32, 64, 96, 96)):
        options = {"padding": "same", "use_bias": False, **_layer(seed + k)}
        x = layers.Conv2D(width, 3, name=f"conv_{k}", **options)(x)
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-3, dtype="float32", name=f"norm_{k}")(x)
        x = layers.ReLU(dtype="float32", name=f"relu_{k}")(x)
        x = layers.MaxPooling2D(2, padding="same", dtype="float32", name=f"pool_{k}")(x)
    x = layers.Flatten(dtype="float32", name="flat")(x)
    features = layers.Dense(NUM_FEATURES, activation="relu", name="features", **_layer(seed + 4))(x)
    dropped = layers.Dropout(dropout, seed=seed, dtype="float32", name="dropout")(features)
    logits = layers.Dense(num_classes, name="logits", **_layer(seed + 5))(dropped)
    return keras.Model(images, [features, logits], name="classifier")


def _layer(seed: int) -> dict[str, Any]:
    return {"dtype": "float32", "kernel_initializer": keras.initializers.GlorotUniform(seed)}


def train_classifier(
    network: keras.Model, images: np.ndarray, labels: np.ndarray, epochs: int, *, batch_size: int = 128,
    learning_rate: float = 1e-3, flip: bool = False, seed: int = 0, verbose: int = 0,
) -> None:  # fmt: skip
    """Trains with Adam and a cosine schedule down to zero, in an order that `seed` decides.

    Args:
        network: of `build_classifier`.
        images: (count, height, width, channels) in [-1, 1].
        labels: integers (count,).
        flip: mirror a new half of the pictures in each epoch.
    """
    batches = _Batches(images, labels, min(batch_size, len(images)), flip, seed)
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, epochs * len(batches))
    head = keras.Model(network.input, network.output[1])
    head.compile(
        keras.optimizers.Adam(schedule), keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )  # fmt: skip
    head.fit(batches, epochs=epochs, shuffle=False, verbose=verbose)


class _Batches(keras.utils.PyDataset):
    """Pictures in a new order in each epoch, a new half of them mirrored if `flip`."""

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, batch_size: int, flip: bool, seed: int
    ) -> None:
        super().__init__()
        self._images, self._labels, self._size, self._flip = images, labels, batch_size, flip
        self._rng = np.random.default_rng(seed)
        self.on_epoch_end()

    def __len__(self) -> int:
        return len(self._images) // self._size

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self._order[index * self._size : (index + 1) * self._size]
        images = self._images[chosen]
        if self._flip:
            mirrored = self._mirrored[index * self._size : (index + 1) * self._size]
            images = np.where(mirrored[:, None, None, None], images[:, :, ::-1], images)
        return images, self._labels[chosen]

    def on_epoch_end(self) -> None:
        self._order = self._rng.permutation(len(self._images))[: len(self) * self._size]
        self._mirrored = self._rng.random(len(self._order)) < 0.5 if self._flip else None


def classify(network: keras.Model, images: np.ndarray, batch_size: int = 500) -> np.ndarray:
    """The class with the largest logit of each picture, int64 (count,)."""
    parts = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
    return np.concatenate([np.argmax(network(part, training=False)[1], axis=1) for part in parts])


def save_arrays(network: keras.Model, path: str | Path) -> None:
    """Writes all weights as float16 arrays named LAYER/VARIABLE to an .npz file."""
    arrays = {name: np.asarray(v, np.float16) for name, v in _variables(network).items()}
    files.write(path, lambda file: np.savez_compressed(file, **arrays))


def load_arrays(network: keras.Model, path: str | Path) -> None:
    """Fills a network of the same shape from a file of `save_arrays`.

    Raises:
        FeatureWeightsError: if the file is missing, damaged, or of another network.
    """
    variables, arrays = _variables(network), read_arrays(path)
    wrong = [k for k, v in variables.items() if k not in arrays or arrays[k].shape != tuple(v.shape)]
    if wrong:
        raise FeatureWeightsError(f"{path} does not fit {network.name}, first at {wrong[0]}.")
    for name, variable in variables.items():
        variable.assign(arrays[name].astype("float32"))


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, never pickled objects.

    Raises:
        FeatureWeightsError: if it is missing or damaged.
    """
    try:
        with np.load(expand(path), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise FeatureWeightsError(f"{path} is not an .npz file of arrays: {error}") from None


def digest_of(network: keras.Model) -> str:
    """SHA-256 of all weights, in order, in hexadecimal."""
    state = hashlib.sha256()
    for variable in network.variables:
        state.update(np.ascontiguousarray(variable).tobytes())
    return state.hexdigest()


def _variables(network: keras.Model) -> dict[str, keras.Variable]:
    """LAYER/VARIABLE -> variable; seeds of dropout are no weights."""
    named = {f"{layer.name}/{v.name}": v for layer in network.layers for v in layer.variables}
    return {name: v for name, v in named.items() if "float" in v.dtype}
