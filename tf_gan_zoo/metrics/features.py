"""Feature extractors: networks that turn pictures into the vectors and class probabilities metrics compare.

An extractor is any object with the attributes of `FeatureExtractor`. `get_extractor` knows:

* "glyphs" and "fashion_mnist": small classifiers that ship with the zoo (64 features).
* "inception": Keras's InceptionV3 with ImageNet weights (2048 features), where they can be had.
* "fid2015:PATH": the network that published FIDs were computed with (see `metrics/inception.py`).

Numbers of different extractors cannot be compared with each other; records name extractor and digest.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import keras
import numpy as np
import tensorflow as tf

from tf_gan_zoo.config import closest
from tf_gan_zoo.metrics import classifier, inception
from tf_gan_zoo.metrics.classifier import ExtractorError, FeatureWeightsError
from tf_gan_zoo.paths import expand

FEATURES_DIR = Path(__file__).resolve().parent.parent / "pretrained" / "features"

#: Brightness of red, green and blue in gray (ITU-R BT.601).
_LUMA = (0.299, 0.587, 0.114)


@runtime_checkable
class FeatureExtractor(Protocol):
    """What metrics need of an extractor.

    Attributes:
        name: how records call it.
        digest: SHA-256 of its weights.
        num_features: length of a feature vector.
        num_classes: length of a row of probabilities.
        preprocessing: how pictures of any size and colour become its input, in words.
    """

    name: str
    digest: str
    num_features: int
    num_classes: int
    preprocessing: str

    def __call__(self, images: Any) -> tuple[np.ndarray, np.ndarray]:
        """Images (batch, height, width, 1 or 3) in [-1, 1] -> features, probabilities; both (batch, ...)."""


@dataclass(frozen=True)
class Packaged:
    """A classifier that ships with the zoo."""

    image_size: int
    num_classes: int


PACKAGED = {"glyphs": Packaged(32, 26), "fashion_mnist": Packaged(28, 10)}


class _NetworkFeatures:
    """An extractor made of a Keras network with the outputs (features, logits)."""

    def __init__(
        self, name: str, network: keras.Model, image_size: int, channels: int, digest: str, batch_size: int
    ) -> None:
        self.name, self.digest, self.network = name, digest, network
        self.num_features, self.num_classes = (output.shape[-1] for output in network.outputs)
        self._size, self._channels, self._batch_size = (image_size, image_size), channels, batch_size
        network.trainable = False
        self._graphs = tf.function(self._infer, autograph=False)

    @property
    def preprocessing(self) -> str:
        colour = "gray (0.299 R + 0.587 G + 0.114 B)" if self._channels == 1 else "RGB (gray repeated)"
        height, width = self._size
        return f"{colour}, then antialiased bilinear to {height}x{width} unless they have that size"

    def __call__(self, images: Any) -> tuple[np.ndarray, np.ndarray]:
        images = checked(images)
        # One graph for batches of all sizes: an evaluation must leave nothing behind.
        run = self._graphs.get_concrete_function(tf.TensorSpec((None, *images.shape[1:]), tf.float32))
        parts = []
        for start in range(0, len(images), self._batch_size):
            parts.append(run(tf.constant(images[start : start + self._batch_size])))
        features, probabilities = zip(*parts)
        return np.concatenate(features), np.concatenate(probabilities)

    def _infer(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features, logits = self.network(self._prepare(images), training=False)
        return features, tf.nn.softmax(logits)

    def _prepare(self, images: tf.Tensor) -> tf.Tensor:
        images = to_channels(images, self._channels)
        if tuple(images.shape[1:3]) != self._size:
            images = tf.image.resize(images, self._size, "bilinear", antialias=True)
        return images


class ClassifierFeatures(_NetworkFeatures):
    """A small classifier that ships with the zoo; `record` says how it was trained and its accuracy.

    Args:
        name: "glyphs" (26 capital letters, 32x32) or "fashion_mnist" (10 kinds of clothes, 28x28).

    Raises:
        FeatureWeightsError: if the packaged file is missing or damaged.
    """

    def __init__(self, name: str) -> None:
        facts, path = PACKAGED[name], FEATURES_DIR / f"{name}.npz"
        network = classifier.build_classifier(facts.image_size, 1, facts.num_classes)
        classifier.load_arrays(network, path)
        self.record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        digest = inception.file_digest(path)
        super().__init__(name, network, facts.image_size, 1, digest, batch_size=256)


class InceptionV3Features(_NetworkFeatures):
    """Keras's InceptionV3: 2048 features after its global average pooling, 1000 ImageNet classes.

    It is not the network of published FIDs (other weights, pooling and resizing): use "fid2015:PATH" to
    compare with those.

    Args:
        weights: "imagenet" (Keras's own, downloaded once), the path of a weights file for
            `keras.applications.InceptionV3()`, or None for random weights.

    Raises:
        FeatureWeightsError: if the weights cannot be had or do not fit.
    """

    def __init__(self, weights: str | Path | None = "imagenet") -> None:
        whole = _keras_inception(weights)
        network = keras.Model(whole.input, [whole.get_layer("avg_pool").output, whole.output])
        digest = classifier.digest_of(network)
        super().__init__("inception", network, 299, 3, digest, batch_size=32)


class FID2015Features(_NetworkFeatures):
    """The Inception network of 2015-12-05 that published FIDs, KIDs and Inception Scores were computed with.

    Pictures are rounded to 8 bits, resized to 299x299 as TensorFlow 1 did (bilinear, no antialiasing, corners
    not aligned, pixel centres at whole numbers) and scaled by (x - 128) / 128. The probabilities leave out
    the last layer's bias, as the original Inception Score does.

    Args:
        path: an .npz file of the network's arrays (see `inception.load_arrays`); the zoo ships none.

    Raises:
        FeatureWeightsError: if the file is missing, damaged or of another network.
    """

    def __init__(self, path: str | Path) -> None:
        path = expand(path)
        if not path.is_file():
            raise FeatureWeightsError(
                f"there is no file {path}. Convert the weights of torch-fidelity or pytorch-fid, "
                "weights-inception-2015-12-05-6726825d.pth, in Python with PyTorch: "
                "numpy.savez('fid2015.npz', **{k: v.numpy() for k, v in torch.load(FILE).items()}); "
                "then use 'fid2015:fid2015.npz'."
            )
        network = inception.build_network()
        inception.load_arrays(network, path)
        super().__init__("fid2015", network, 299, 3, inception.file_digest(path), batch_size=32)

    @property
    def preprocessing(self) -> str:
        return (
            "RGB (gray repeated), rounded to 8 bits, bilinear to 299x299 as in TensorFlow 1 "
            "(no antialiasing, half_pixel_centers=False, align_corners=False), (x - 128) / 128"
        )

    def _prepare(self, images: tf.Tensor) -> tf.Tensor:
        return inception.prepare(to_channels(images, 3))


def get_extractor(extractor: Any = "auto", data: str = "") -> FeatureExtractor:
    """An extractor by name; the same one for the same name, loaded once.

    Args:
        extractor: "glyphs", "fashion_mnist", "inception", "fid2015:PATH", an object that is an extractor, or
            "auto": the packaged classifier that was trained on the data, else "inception".
        data: the data set's address, for "auto".

    Raises:
        ExtractorError: for an unknown name or an object that is no extractor.
        FeatureWeightsError: if the weights cannot be had.
    """
    if not isinstance(extractor, (str, Path)):
        if not isinstance(extractor, FeatureExtractor):
            attributes = "name, digest, num_features, num_classes, preprocessing"
            raise ExtractorError(f"an extractor is callable and has {attributes}; got {extractor!r}.")
        return extractor
    name = automatic(data) if extractor == "auto" else str(extractor)
    known = [*PACKAGED, "inception", "fid2015:PATH", "auto"]
    if name not in known[:-2] and not name.startswith("fid2015:"):
        raise ExtractorError(f"no extractor {name!r}.{closest(name, known)} Extractors: {', '.join(known)}.")
    return _loaded(name)


def automatic(data: str) -> str:
    """The extractor for a data set's address: the classifier trained on such pictures, or Inception."""
    plain = data.lower().replace("-", "_")
    return next((name for name in PACKAGED if name in plain), "inception")


@functools.lru_cache(maxsize=4)
def _loaded(name: str) -> FeatureExtractor:
    if name in PACKAGED:
        return ClassifierFeatures(name)
    return InceptionV3Features() if name == "inception" else FID2015Features(name.partition(":")[2])


def checked(images: Any) -> np.ndarray:
    """Pictures as float32.

    Raises:
        ExtractorError: unless they are (batch, height, width, 1 or 3), at least one, finite and in [-1, 1].
    """
    images = np.asarray(images, np.float32)
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not len(images):
        raise ExtractorError(f"expected pictures (batch, height, width, 1 or 3), got shape {images.shape}.")
    if not np.isfinite(images).all() or np.abs(images).max() > 1.001:
        raise ExtractorError(
            f"expected pictures in [-1, 1], got values from {images.min():g} to {images.max():g}: "
            "rescale them."
        )
    return images


def to_channels(images: tf.Tensor, channels: int) -> tf.Tensor:
    """Gray repeated to RGB, or RGB to gray by its luma; untouched if the number is right."""
    if images.shape[-1] == channels:
        return images
    if channels == 3:
        return tf.repeat(images, 3, axis=-1)
    return tf.tensordot(images, tf.constant(_LUMA), 1)[..., None]


def _keras_inception(weights: str | Path | None) -> keras.Model:
    """Linear last layer, so that the outputs are logits."""
    name = weights if weights in (None, "imagenet") else str(expand(weights))
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        network = keras.applications.InceptionV3(weights=name, classifier_activation=None)
    except Exception as error:  # downloads, h5py and Keras raise many kinds
        raise FeatureWeightsError(_without_imagenet(name, error)) from error
    finally:
        keras.config.set_dtype_policy(policy)
    return network


def _without_imagenet(weights: str | None, error: Exception) -> str:
    file = "inception_v3_weights_tf_dim_ordering_tf_kernels.h5"
    return (
        f"InceptionV3's weights ({weights}) cannot be had: {error}. On a machine with a network, "
        f"keras.applications.InceptionV3() saves {file} under ~/.keras/models: copy it to the same place "
        "here, or pass extractor=InceptionV3Features(PATH). Without it use a packaged extractor: "
        f"{', '.join(PACKAGED)}."
    )
