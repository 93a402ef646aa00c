"""TensorFlow Datasets: "tfds:NAME" or "tfds:NAME/config", any builder with an image feature.

`pip install tensorflow-datasets`. Data sets are read from disk; one that is not there is an error at once,
and only `download=True` (`tf-gan-zoo datasets tfds:NAME --download`) gets and prepares it. Pictures that fit
into memory are decoded once and served like those of every other source. Larger data sets are streamed:
shuffled through a buffer with a fixed seed, still in an order that a resumed run finds again.
"""

import concurrent.futures
import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_gan_zoo.data.images import CACHE_LIMIT, Fit, Pictures, decode_bytes, stack
from tf_gan_zoo.data.sources import (
    SINGLE_IMAGE_VIEWS,
    DatasetError,
    Request,
    Source,
    register_source,
    without_files,
)
from tf_gan_zoo.paths import expand

_SPLIT_NAMES = {"train": ("train",), "test": ("test",), "val": ("validation", "valid", "val")}


@dataclasses.dataclass(frozen=True)
class EncodedStream:
    """Undecoded pictures of one split.

    Attributes:
        open: Returns a data set of `{"picture": bytes}`, with "label" where there are labels.
        num_examples: `None` if the builder does not say.
        shape: `(height, width, channels)` of the image feature, unknown sides `None`.
    """

    open: Callable[[], tf.data.Dataset]
    num_examples: int | None
    shape: tuple[int | None, int | None, int | None]

    def fits(self, fit: Fit, cache: bool | str) -> bool:
        """Whether the decoded pictures shall be kept in memory."""
        if cache != "auto" or self.num_examples is None:
            return bool(cache)
        if fit.same_size:
            pixels = fit.size[0] * fit.size[1]
        else:
            first = next(self.open().take(1).as_numpy_iterator(), None)
            pixels = 0 if first is None else np.prod(decode_bytes(first["picture"], fit).shape[:2])
        return self.num_examples * int(pixels) * fit.channels <= CACHE_LIMIT

    def gather(self, fit: Fit) -> tuple[Pictures, np.ndarray | None]:
        """Decodes everything: pictures and labels."""
        labels, pictures = [], []
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for batch in self.open().batch(256).as_numpy_iterator():
                pictures += pool.map(lambda data: decode_bytes(data, fit), batch["picture"])
                labels += list(batch.get("label", ()))
        array = stack(pictures)
        kept = Pictures(pictures if array is None else array, None, len(pictures))
        return kept, np.array(labels, np.int32) if labels else None


@register_source("tfds", views=(*SINGLE_IMAGE_VIEWS, "unpaired"), needs_path=True)
def read_tfds(
    request: Request,
    *,
    data_dir: str | None = None,
    image_key: str | None = None,
    label_key: str | None = None,
    attribute: str | None = None,
    download: bool = False,
) -> Source:
    """A TensorFlow Datasets builder.

    Without a test split, "train" is the first nine tenths of the train split and "test" the rest.
    "unpaired" needs the splits trainA and trainB, as in cycle_gan, or an `attribute`.

    Args:
        request: View and split.
        data_dir: Where prepared data sets are, TFDS's own default if `None`.
        image_key: The image feature; the supervised input or the only image by default.
        label_key: The class label feature; the supervised target or the only one by default.
        attribute: For "unpaired": a feature that is true of the pictures in domain A and false of
            those in B, "/" between levels: "attributes/Male" for celeb_a. Both are kept in memory.
        download: Whether to download and prepare what is not there.
    """
    builder = _builder(request, data_dir, download)
    image_key = image_key or _only_key(builder, "Image", 0, request.path)
    _check_image(builder, image_key, request.path)
    if attribute is not None:
        return _by_attribute(builder, request, image_key, attribute)
    if request.view == "unpaired":
        fields = (("images_a", "A"), ("images_b", "B"))
        streams = {f: _stream(builder, _domain_split(builder, request, d), image_key, None)
                   for f, d in fields}  # fmt: skip
        return Source({}, independent=True, stream=streams, found=_found(builder, streams, request.split))
    if request.view in ("labelled", "captioned"):
        label_key = label_key or _only_key(builder, "ClassLabel", 1, request.path)
        _check_label(builder, label_key, request.path)
    else:
        label_key = None
    names = tuple(getattr(_feature(builder, label_key), "names", None) or ())
    if request.view == "captioned" and not names:
        raise DatasetError(f"{request.path}: {label_key!r} has no class names to make captions of.")
    split = _split_name(builder, request)
    streams = {"images": _stream(builder, split, image_key, label_key)}
    return Source({}, label_names=names, stream=streams, found=_found(builder, streams, split, len(names)))


def _found(builder: Any, streams: dict[str, EncodedStream], split: str, classes: int = 0) -> str:
    counts = [stream.num_examples for stream in streams.values()]
    shown = " and ".join("?" if count is None else f"{count:,}" for count in counts)
    labels = f", {classes} classes" if classes else ""
    splits = "/".join(builder.info.splits)
    return f"{builder.info.full_name}: {shown} images{labels}, split {split} of {splits}"


def _by_attribute(builder: Any, request: Request, image_key: str, attribute: str) -> Source:
    """Two domains of one split: what has the attribute, and what has not."""
    if request.view != "unpaired":
        raise DatasetError(f"The option 'attribute' is for view='unpaired', not {request.view!r}.")
    _check_attribute(builder, attribute, request.path)

    def has(example: dict) -> tf.Tensor:
        return tf.cast(functools.reduce(lambda value, key: value[key], attribute.split("/"), example), bool)

    split, streams = _split_name(builder, request), {}
    for field, keep in (("images_a", has), ("images_b", lambda example: tf.logical_not(has(example)))):
        streams[field] = _stream(builder, split, image_key, None, keep)
    return Source({}, independent=True, stream=streams, found=_found(builder, streams, split))


def _builder(request: Request, data_dir: str | None, download: bool) -> Any:
    """The prepared data set; the network is used if `download` is true only.

    Raises:
        DatasetError: if it is not on disk, or cannot be prepared.
    """
    name, other = request.path, without_files(request.view)
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DatasetError(
            f'"tfds:{name}" needs TensorFlow Datasets: pip install tensorflow-datasets.{other}'
        ) from error
    where = None if data_dir is None else str(expand(data_dir))
    if not download:
        return _on_disk(name, where, other)
    try:
        builder = tfds.builder(name, data_dir=where)
        builder.download_and_prepare()
    except Exception as error:  # TFDS has many errors of its own: not found, checksum, network
        raise DatasetError(f'"tfds:{name}" cannot be prepared: {error}{other}') from error
    return builder


def _on_disk(name: str, where: str | None, other: str) -> Any:
    """A data set from its files alone: the class in TFDS would ask a server about it."""
    from tensorflow_datasets.core import constants, read_only_builder

    try:
        return read_only_builder.builder_from_files(name, data_dir=where)
    except Exception as error:  # not found is one of many errors
        raise DatasetError(
            f'"tfds:{name}" is not prepared in {where or constants.DATA_DIR} (data_dir or TFDS_DATA_DIR name '
            f"another place), and nothing is downloaded unasked: tf-gan-zoo datasets tfds:{name} --download "
            f"gets it, in Python download=True.{other}"
        ) from error


def _stream(
    builder: Any, split: str, image_key: str, label_key: str | None, keep: Callable | None = None
) -> EncodedStream:
    """A split's pictures; `keep` tells of an example whether it is among them."""
    import tensorflow_datasets as tfds

    def open_stream() -> tf.data.Dataset:
        try:
            dataset = builder.as_dataset(
                split=split,
                shuffle_files=False,
                decoders={image_key: tfds.decode.SkipDecoding()},
                read_config=tfds.ReadConfig(try_autocache=False),
            )
        except (AssertionError, ValueError, OSError) as error:
            raise DatasetError(
                f"{builder.name}: split {split!r} cannot be read: {error} Prepare the data set "
                f"(download=True) or check data_dir."
            ) from error
        return (dataset if keep is None else dataset.filter(keep)).map(select)

    def select(example: dict) -> dict:
        chosen = {"picture": example[image_key]}
        return chosen if label_key is None else chosen | {"label": example[label_key]}

    try:
        num = builder.info.splits[split].num_examples if keep is None else None
    except (KeyError, ValueError):
        num = None
    return EncodedStream(open_stream, num, tuple(builder.info.features[image_key].shape))


def _split_name(builder: Any, request: Request) -> str:
    """TFDS's name for the wanted split; a tenth of "train" where there is no test split."""
    known = list(builder.info.splits)
    if request.split == "all":
        return "+".join(known) or "all"
    if not known:
        return _SPLIT_NAMES[request.split][0]
    for name in _SPLIT_NAMES[request.split]:
        if name in known:
            whole = name != "train" or "test" in known
            return name if whole else "train[:90%]"
    if request.split == "test" and "train" in known:
        return "train[90%:]"
    raise DatasetError(f"{request.path} has no split {request.split!r}; it has {known}.")


def _domain_split(builder: Any, request: Request, domain: str) -> str:
    split, known = f"{request.split}{domain}", list(builder.info.splits)
    if split not in known:
        raise DatasetError(
            f"{request.path} has no split {split!r} for view='unpaired'; it has {known}."
        )
    return split


def _only_key(builder: Any, kind: str, supervised: int, name: str) -> str:
    """The feature of a kind: the supervised one, or the only one."""
    features = dict(builder.info.features.items())
    found = [key for key, feature in features.items() if type(feature).__name__ == kind]
    keys = builder.info.supervised_keys
    if keys and keys[supervised] in found:
        return keys[supervised]
    if len(found) == 1:
        return found[0]
    option = "image_key" if kind == "Image" else "label_key"
    raise DatasetError(
        f"{name} has {len(found) or 'no'} {kind} features {found or ''}; name the one to use with "
        f"the option {option}. Features: {list(features)}."
    )


def _feature(builder: Any, key: str | None) -> Any:
    """A feature, or `None`: TFDS's own dictionary has no `get`."""
    return dict(builder.info.features.items()).get(key)


def _check_image(builder: Any, key: str, name: str) -> None:
    feature = _feature(builder, key)
    if type(feature).__name__ != "Image" or feature.np_dtype not in (np.uint8, np.uint16):
        raise DatasetError(
            f"{name}: {key!r} is not a feature of 8 or 16 bit images, but {feature!r}. "
            f"Features: {list(builder.info.features)}."
        )


def _check_attribute(builder: Any, attribute: str, name: str) -> None:
    known = builder.info.features
    for key in attribute.split("/"):
        if key not in dict(getattr(known, "items", dict)()):
            raise DatasetError(f"{name} has no feature {attribute!r}. Features: {builder.info.features}.")
        known = known[key]
    if tuple(known.shape) != () or known.np_dtype.__name__[:3] not in ("boo", "int"):
        raise DatasetError(f"{name}: {attribute!r} is not one truth value per example, but {known!r}.")


def _check_label(builder: Any, key: str, name: str) -> None:
    feature = _feature(builder, key)
    if feature is None or tuple(feature.shape) != () or feature.np_dtype.__name__[:3] != "int":
        raise DatasetError(
            f"{name}: {key!r} is not a feature with one integer per example, but {feature!r}. "
            f"Features: {list(builder.info.features)}."
        )
