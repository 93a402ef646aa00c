"""From a source's pictures to shuffled, augmented, scaled batches.

The order of examples is a pure function of the seed and the step, so a run that is killed goes on
with the very batches that it would have seen: step `s` belongs to epoch `s // steps_per_epoch`;
slot `j` of the epoch holds the example `index_shuffle(j, (seed, field, epoch))`. Augmentation
draws come from a counter-based hash of (seed, epoch, slot), hence do not depend on the batch size
or on the number of workers either. Slots are batched before anything is looked up: one gather
fetches a batch.
"""

import dataclasses
import difflib
import math
import warnings
from typing import Any

import numpy as np
import tensorflow as tf

from tf_gan_zoo.data import images as imaging
from tf_gan_zoo.data.images import Fit, Pictures, Size, decode_bytes
from tf_gan_zoo.data.sources import (
    VIEWS,
    DatasetError,
    Request,
    Source,
    check_options,
    read_source,
    source_options,
)

SPLITS = ("train", "test", "val", "all")
CROPS = ("center", "random", "resize")

SHUFFLE_BUFFER = 10_000
"""Encoded examples among which a streamed data set is shuffled."""

_CROP_TOP, _CROP_LEFT, _FLIP = range(3)
_NUM_PURPOSES = 3


@dataclasses.dataclass(frozen=True)
class ImageOptions:
    """Options that every source shares, given to `load_dataset` by name.

    Attributes:
        flip: Mirror half of the training pictures left to right, anew in each epoch. Both halves
            of a pair are mirrored together.
        load_size: Side in pixels (of the shorter side for oblong pictures), or `(height, width)`:
            training pictures are resized to it and a random `image_size` window is cut out.
        crop: How a picture of another aspect is made to fit: "center" resizes the shorter side
            and keeps the middle, "random" keeps a random part while training, "resize" squeezes.
        scale: Factor between the two resolutions of "super_resolution".
        direction: "a_to_b", or "b_to_a" to swap inputs and targets of "paired".
    """

    flip: bool = False
    load_size: int | Size | None = None
    crop: str = "center"
    scale: int = 4
    direction: str = "a_to_b"


_IMAGE_OPTIONS = tuple(field.name for field in dataclasses.fields(ImageOptions))


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """Everything about batches that is not pictures.

    Attributes:
        image_size: `(height, width)` of the pictures in a batch.
        channels: 1 or 3.
        training: Whether crops and flips are random.
    """

    view: str
    batch_size: int
    seed: int
    shuffle: bool
    drop_remainder: bool
    value_range: tuple[float, float]
    image_size: Size
    channels: int
    training: bool
    flip: bool
    scale: int


@dataclasses.dataclass
class Domain:
    """One image field: its pictures, and which of them are good."""

    pictures: Pictures
    kept: np.ndarray

    def __len__(self) -> int:
        return len(self.kept)


def load_dataset(
    name: str,
    *,
    view: str = "images",
    image_size: int | Size | None = None,
    channels: int | None = None,
    batch_size: int = 64,
    split: str = "train",
    seed: int = 0,
    value_range: tuple[float, float] = (-1.0, 1.0),
    shuffle: bool | None = None,
    repeat: bool = False,
    start_step: int = 0,
    drop_remainder: bool = True,
    strict: bool = False,
    cache: bool | str = "auto",
    **options: Any,
) -> tf.data.Dataset:
    """Batches of a data set as dictionaries, ready for `fit`.

    Images are float32 `(batch, height, width, channels)` in `value_range`, labels int32
    `(batch,)`, captions strings `(batch,)`. `low_resolution` is always in [0, 1].

    Args:
        name: "glyphs", "emoji:DIR", "folder:DIR", "paired:DIR", "unpaired:DIR", "idx:DIR",
            "npz:FILE", "tfds:NAME[/config]", or a name given to `register_source`.
        view: Which fields a batch has, a key of `VIEWS`.
        image_size: Pixels, one number or `(height, width)`. `None` keeps the source's.
        channels: 1 (gray) or 3 (RGB). `None` keeps the source's, 3 for picture files.
        batch_size: Examples per batch, over all replicas.
        split: "train", "test", "val" or "all".
        seed: Decides the order and the augmentation, nothing else.
        value_range: Lowest and highest value of a pixel.
        shuffle: A new order in each epoch. `None` means for "train" only.
        repeat: Go on without end instead of for one epoch.
        start_step: The batch to start with: `start_step=k` gives what an uninterrupted iteration
            gives from its k-th batch on. Without `repeat`, the rest of that batch's epoch.
        drop_remainder: Leave out an epoch's last, smaller batch.
        strict: Make unreadable pictures an error instead of a warning.
        cache: Keep decoded pictures in memory: True, False, or "auto" for up to 2 GiB.
        **options: `ImageOptions`, and the source's own (see its module).

    Returns:
        The data set, with known cardinality, prefetched, in deterministic order.

    Raises:
        DatasetError: If something does not fit; the message says what to do.
    """
    pipeline = open_dataset(
        name, view=view, image_size=image_size, channels=channels, batch_size=batch_size,
        split=split, seed=seed, value_range=value_range, shuffle=shuffle,
        drop_remainder=drop_remainder, strict=strict, cache=cache, **options,
    )  # fmt: skip
    return pipeline.dataset(start_step=start_step, repeat=repeat)


def open_dataset(
    name: str,
    *,
    view: str = "images",
    image_size: int | Size | None = None,
    channels: int | None = None,
    batch_size: int = 64,
    split: str = "train",
    seed: int = 0,
    value_range: tuple[float, float] = (-1.0, 1.0),
    shuffle: bool | None = None,
    repeat: bool = False,
    start_step: int = 0,
    drop_remainder: bool = True,
    strict: bool = False,
    cache: bool | str = "auto",
    **options: Any,
) -> "Pipeline":
    """Reads a data set and returns it with its facts; see `load_dataset` for the arguments.

    `repeat` and `start_step` become the defaults of `Pipeline.dataset`.
    """
    _check_arguments(view, channels, batch_size, split, value_range, cache)
    size = _size(image_size, "image_size")
    shared, own = _split_options(name, view, options)
    source = read_source(name, Request(None, view, split, size, channels, strict), own)
    channels = channels or _source_channels(source)
    fit = _fit(size, channels, view, split == "train", shared)
    plan = BatchPlan(
        view=view, batch_size=batch_size, seed=int(seed),
        shuffle=split == "train" if shuffle is None else bool(shuffle),
        drop_remainder=drop_remainder, value_range=tuple(map(float, value_range)),
        image_size=size, channels=channels, training=split == "train",
        flip=shared.flip, scale=shared.scale,
    )  # fmt: skip
    pipeline = _build(name, source, plan, shared, fit, strict, cache)
    pipeline.defaults = {"repeat": repeat, "start_step": start_step}
    _check_plan(name, split, pipeline)
    return pipeline


def _build(
    name: str, source: Source, plan: BatchPlan, shared: ImageOptions, fit: Fit, strict: bool,
    cache: bool | str,
) -> "Pipeline":  # fmt: skip
    """In memory or file by file, or, for an encoded stream that does not fit, streamed."""
    if source.stream:
        if not all(stream.fits(fit, cache) for stream in source.stream.values()):
            return _streamed(name, source, plan, fit)
        source = _gathered(source, fit)
    source = _complete(source, name, plan.view, shared)
    domains, values = _domains(name, source, fit, strict, cache)
    plan = dataclasses.replace(plan, image_size=plan.image_size or _common_size(domains))
    return Pipeline(name, plan, domains, values, source.label_names, source.independent)


def _gathered(source: Source, fit: Fit) -> Source:
    """Decodes encoded streams into memory."""
    gathered = {field: stream.gather(fit) for field, stream in source.stream.items()}
    images = {field: pictures for field, (pictures, _) in gathered.items()}
    labels = next(iter(gathered.values()))[1]
    values = {} if labels is None else {"labels": labels}
    return dataclasses.replace(source, images=images, values=values, stream=None)


def _streamed(name: str, source: Source, plan: BatchPlan, fit: Fit) -> "StreamedPipeline":
    if plan.view == "unpaired":
        raise DatasetError(
            f"{name!r} is too large to be kept in memory, which view='unpaired' needs. Give a "
            f"smaller image_size, or cache=True to keep it anyway."
        )
    stream = source.stream["images"]
    size = plan.image_size or stream.shape[:2]
    if stream.num_examples is None or None in size:
        raise DatasetError(
            f"{name!r} can only be streamed with a known number of examples and one size: give "
            f"image_size, or cache=True to keep all pictures in memory."
        )
    return StreamedPipeline(
        name, dataclasses.replace(plan, image_size=tuple(size)), fit, stream, source.label_names
    )


class Pipeline:
    """An opened data set.

    Attributes:
        name: As given to `open_dataset`.
        plan: Sizes, seed and the like.
        num_examples: Examples in an epoch, unreadable ones not counted. For unpaired domains the
            larger one's.
        steps_per_epoch: Batches in an epoch.
        label_names: A name per label, where the source has names.
        fields: Field name -> `tf.TensorSpec` of a batch.
    """

    def __init__(
        self,
        name: str,
        plan: BatchPlan,
        domains: dict[str, Domain],
        values: dict[str, np.ndarray],
        label_names: tuple[str, ...] = (),
        independent: bool = False,
    ):
        self.name, self.plan, self.label_names = name, plan, tuple(label_names)
        self.defaults = {"repeat": False, "start_step": 0}
        self._domains, self._values, self._independent = domains, values, independent
        self.num_examples = max(map(len, domains.values()))
        divide = math.floor if plan.drop_remainder else math.ceil
        self.steps_per_epoch = divide(self.num_examples / plan.batch_size)

    @property
    def fields(self) -> dict[str, tf.TensorSpec]:
        """What a batch holds, in the order of the view."""
        return {field: self._spec(field) for field in VIEWS[self.plan.view]}

    def dataset(self, start_step: int | None = None, repeat: bool | None = None) -> tf.data.Dataset:
        """The batches from a step on: to the end of its epoch, or without end."""
        start = self.defaults["start_step"] if start_step is None else int(start_step)
        repeat = self.defaults["repeat"] if repeat is None else repeat
        if start < 0:
            raise DatasetError(f"start_step must not be negative, got {start}.")
        if repeat:
            steps = tf.data.Dataset.counter(start)
        else:
            end = (start // self.steps_per_epoch + 1) * self.steps_per_epoch
            steps = tf.data.Dataset.range(start, end)
        return with_options(steps.map(self._batch, num_parallel_calls=tf.data.AUTOTUNE))

    def _batch(self, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """The batch of a step, as a function of nothing else."""
        epoch, slots = self._slots(step)
        indices = [self._indices(epoch, slots, i) for i in range(len(self._domains))]
        types = [tf.uint8] * len(self._domains) + [_tf_type(v) for v in self._values.values()]
        arrays = tf.numpy_function(self._fetch, [epoch, slots, *indices], types, stateful=False)
        raw = dict(zip([*self._domains, *self._values], arrays, strict=True))
        for field, tensor in raw.items():
            tensor.set_shape(self._raw_shape(field))
        return finish(raw, self.plan)

    def _slots(self, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        epoch = step // self.steps_per_epoch
        begin = step % self.steps_per_epoch * self.plan.batch_size
        end = tf.minimum(begin + self.plan.batch_size, self.num_examples)
        return epoch, tf.range(begin, end)

    def _indices(self, epoch: tf.Tensor, slots: tf.Tensor, number: int) -> tf.Tensor:
        """Which example of image field `number` fills each slot.

        Unpaired domains have their own orders, and the smaller one is gone through as often as
        the larger one needs: a draw is counted over all epochs.
        """
        num = len(list(self._domains.values())[number])
        draws = slots if num == self.num_examples else epoch * self.num_examples + slots
        rounds = epoch if num == self.num_examples else draws // num
        if not self.plan.shuffle:
            return slots % num
        salt = number if self._independent else 0
        return shuffled_index(draws % num, num, self.plan.seed, salt, rounds)

    def _fetch(self, epoch: np.ndarray, slots: np.ndarray, *indices: np.ndarray) -> list:
        """NumPy side of a batch: look up, cut, flip."""
        out = []
        for number, (domain, index) in enumerate(zip(self._domains.values(), indices, strict=True)):
            salt = number if self._independent else 0
            pictures = domain.pictures.take(domain.kept[index])
            out.append(cut(pictures, self.plan, draws(self.plan.seed, epoch, slots, salt)))
        return out + [values[indices[0]] for values in self._values.values()]

    def _raw_shape(self, field: str) -> list:
        batch = self.plan.batch_size if self.plan.drop_remainder else None
        return [batch, *self.plan.image_size, self.plan.channels] if (
            field in self._domains) else [batch]  # fmt: skip

    def _spec(self, field: str) -> tf.TensorSpec:
        if field in self._values:
            return tf.TensorSpec(self._raw_shape(field), _tf_type(self._values[field]), name=field)
        shape = self._raw_shape(next(iter(self._domains)))
        if field == "low_resolution":
            shape[1:3] = [side // self.plan.scale for side in shape[1:3]]
        return tf.TensorSpec(shape, tf.float32, name=field)


class StreamedPipeline(Pipeline):
    """A data set too large for memory: read in its stored order, shuffled through a buffer.

    The order is still a function of (seed, step): a start in the middle reads on from the
    beginning, but skips encoded bytes and decodes nothing.
    """

    def __init__(
        self, name: str, plan: BatchPlan, fit: Fit, stream: Any, label_names: tuple[str, ...] = ()
    ):
        domain = Domain(Pictures(None, None, stream.num_examples), range(stream.num_examples))
        labels = {"labels": np.zeros(0, np.int32)} if "labels" in VIEWS[plan.view] else {}
        captions = {"captions": np.zeros(0, object)} if plan.view == "captioned" else {}
        super().__init__(name, plan, {"images": domain}, labels | captions, label_names)
        self._stream, self._fit = stream, fit

    def dataset(self, start_step: int | None = None, repeat: bool | None = None) -> tf.data.Dataset:
        """The batches from a step on: to the end of its epoch, or without end."""
        start = self.defaults["start_step"] if start_step is None else int(start_step)
        repeat = self.defaults["repeat"] if repeat is None else repeat
        if start < 0:
            raise DatasetError(f"start_step must not be negative, got {start}.")
        examples = self._stream.open()
        if self.plan.shuffle:
            buffer = min(self.num_examples, SHUFFLE_BUFFER)
            examples = examples.shuffle(buffer, self.plan.seed, reshuffle_each_iteration=True)
        batches = examples.batch(self.plan.batch_size, self.plan.drop_remainder)
        batches = batches.take(self.steps_per_epoch).repeat().skip(start)
        numbered = tf.data.Dataset.zip(tf.data.Dataset.counter(start), batches)
        if not repeat:
            numbered = numbered.take(self.steps_per_epoch - start % self.steps_per_epoch)
        return with_options(numbered.map(self._decoded, num_parallel_calls=tf.data.AUTOTUNE))

    def _decoded(self, step: tf.Tensor, encoded: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        epoch, slots = self._slots(step)
        pixels = tf.numpy_function(
            self._decode, [epoch, slots, encoded["picture"]], tf.uint8, stateful=False
        )
        pixels.set_shape(self._raw_shape("images"))
        raw = {"images": pixels}
        if "label" in encoded:
            raw["labels"] = tf.cast(encoded["label"], tf.int32)
        if self.plan.view == "captioned":
            names = [name.lower().replace("_", " ") for name in self.label_names]
            raw["captions"] = tf.gather(tf.constant(names), raw["labels"])
        return finish(raw, self.plan)

    def _decode(self, epoch: np.ndarray, slots: np.ndarray, encoded: np.ndarray) -> np.ndarray:
        pictures = [decode_bytes(data, self._fit) for data in encoded]
        return cut(pictures, self.plan, draws(self.plan.seed, epoch, slots, 0))


def shuffled_index(
    position: tf.Tensor, num: int, seed: int, salt: int, rounds: tf.Tensor
) -> tf.Tensor:
    """A permutation of `range(num)` per (seed, salt, round), evaluated at positions.

    `tf.random.experimental.index_shuffle` for a vector of positions, each with its own round.
    """
    key = np.int64(np.uint64(seed % 2**64))
    rounds = tf.broadcast_to(tf.cast(rounds, tf.int64), tf.shape(position))
    seeds = tf.stack([tf.fill(tf.shape(position), key), tf.fill(tf.shape(position), np.int64(salt)),
                      rounds], axis=1)  # fmt: skip
    return tf.raw_ops.RandomIndexShuffle(
        index=position, seed=seeds, max_index=tf.constant(num - 1, tf.int64), rounds=4
    )


def draws(seed: int, epoch: int, slots: np.ndarray, salt: int) -> np.ndarray:
    """Uniform numbers in [0, 1) for augmentation, `(3, batch)`: crop top, crop left, flip.

    A counter-based generator (the mixing function of SplitMix64), so that a slot's draw is found
    without drawing those before it.
    """
    state = _mix(np.uint64(seed % 2**64))
    state = _mix(state ^ np.uint64(salt))
    state = _mix(state ^ np.uint64(epoch))
    state = _mix(state ^ np.asarray(slots).astype(np.uint64))
    purposes = np.arange(_NUM_PURPOSES, dtype=np.uint64)[:, None]
    return (_mix(state[None] ^ purposes) >> np.uint64(11)) / float(2**53)


def _mix(state: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        state = state + np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))


def cut(pictures: np.ndarray | list, plan: BatchPlan, uniform: np.ndarray) -> np.ndarray:
    """Crops pictures to `plan.image_size`, at random while training, and flips half of them."""
    whole = isinstance(pictures, np.ndarray) and pictures.shape[1:3] == plan.image_size
    flips = plan.flip and plan.training and uniform[_FLIP] < 0.5
    if not whole:
        pictures = np.stack([
            _window(picture, plan, top, left)
            for picture, top, left in zip(pictures, *uniform[:2], strict=True)
        ])  # fmt: skip
    if np.any(flips):
        pictures = np.where(flips[:, None, None, None], pictures[:, :, ::-1], pictures)
    return np.ascontiguousarray(pictures)


def _window(picture: np.ndarray, plan: BatchPlan, top: float, left: float) -> np.ndarray:
    height, width = plan.image_size
    free = picture.shape[0] - height, picture.shape[1] - width
    if not plan.training:
        y, x = free[0] // 2, free[1] // 2
    else:
        y, x = int(top * (free[0] + 1)), int(left * (free[1] + 1))
    return picture[y : y + height, x : x + width]


def finish(raw: dict[str, tf.Tensor], plan: BatchPlan) -> dict[str, tf.Tensor]:
    """Bytes to float32 in the wanted range, and the view's fields in their order."""
    batch = {name: v for name, v in raw.items() if v.dtype != tf.uint8}
    for field, pixels in raw.items():
        if pixels.dtype == tf.uint8:
            batch[field] = to_range(pixels, plan.value_range)
    if plan.view == "super_resolution":
        batch["high_resolution"] = batch.pop("images")
        batch["low_resolution"] = downsample(raw["images"], plan.scale)
    return {field: batch[field] for field in VIEWS[plan.view]}


def to_range(pixels: tf.Tensor, value_range: tuple[float, float]) -> tf.Tensor:
    """`uint8` 0..255 to float32 low..high; never outside, whatever the rounding."""
    low, high = value_range
    values = tf.cast(pixels, tf.float32) * ((high - low) / 255.0) + low
    return tf.clip_by_value(values, low, high)


def downsample(pixels: tf.Tensor, scale: int) -> tf.Tensor:
    """Antialiased bicubic reduction of `uint8` pictures, float32 in [0, 1]."""
    size = [side // scale for side in pixels.shape[1:3]]
    small = tf.image.resize(pixels, size, method="bicubic", antialias=True)
    return tf.clip_by_value(small / 255.0, 0.0, 1.0)


def with_options(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Deterministic order, sharding by batch for several workers, prefetching."""
    options = tf.data.Options()
    options.deterministic = True
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )  # fmt: skip
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def _tf_type(values: np.ndarray) -> tf.DType:
    return tf.string if values.dtype == object else tf.int32


def _check_arguments(view, channels, batch_size, split, value_range, cache) -> None:
    _check_choice("view", view, VIEWS)
    _check_choice("split", split, SPLITS)
    _check_choice("channels", channels, (None, 1, 3))
    _check_choice("cache", cache, (True, False, "auto"))
    if not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
        raise DatasetError(f"batch_size must be a positive integer, got {batch_size!r}.")
    if len(value_range) != 2 or not value_range[0] < value_range[1]:
        raise DatasetError(f"value_range must be (low, high) with low < high, got {value_range}.")


def _check_choice(what: str, given: Any, valid: Any) -> None:
    if given not in valid:
        close = difflib.get_close_matches(str(given), [v for v in valid if isinstance(v, str)], n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise DatasetError(f"{what} must be one of {list(valid)}, got {given!r}.{hint}")


def _size(size: int | Size | None, what: str) -> Size | None:
    if size is None:
        return None
    pair = size if isinstance(size, (tuple, list)) else (size, size)
    if len(pair) != 2 or not all(isinstance(s, (int, np.integer)) and s > 0 for s in pair):
        raise DatasetError(f"{what} must be pixels or (height, width) in pixels, got {size!r}.")
    return int(pair[0]), int(pair[1])


def _split_options(name: str, view: str, options: dict) -> tuple[ImageOptions, dict]:
    kind = name.partition(":")[0]
    check_options(kind, options, [*source_options(kind), *_IMAGE_OPTIONS])
    shared = ImageOptions(**{k: v for k, v in options.items() if k in _IMAGE_OPTIONS})
    for option, only in (("scale", "super_resolution"), ("direction", "paired")):
        if option in options and view != only:
            raise DatasetError(f"The option {option!r} is for view={only!r}; here it is {view!r}.")
    _check_choice("crop", shared.crop, CROPS)
    _check_choice("direction", shared.direction, ("a_to_b", "b_to_a"))
    return shared, {k: v for k, v in options.items() if k not in _IMAGE_OPTIONS}


def _complete(source: Source, name: str, view: str, shared: ImageOptions) -> Source:
    """Adds captions made of label names, swaps a pair, checks that the view's values are there."""
    values = dict(source.values)
    if view == "captioned" and "captions" not in values and source.label_names:
        names = np.array([n.lower().replace("_", " ") for n in source.label_names], object)
        values["captions"] = names[values["labels"]]
    missing = {"labels", "captions"} & set(VIEWS[view]) - set(values)
    if missing:
        raise DatasetError(
            f"{name!r} has no {' and no '.join(sorted(missing))}, which view={view!r} needs. "
            f'Use view="images", or a source with class names (for "folder:DIR": one subfolder '
            f"per class)."
        )
    values = {k: _value_array(v) for k, v in values.items() if k in VIEWS[view]}
    images = source.images
    if shared.direction == "b_to_a":
        images = {"inputs": images["targets"], "targets": images["inputs"]}
    return dataclasses.replace(source, images=images, values=values)


def _value_array(values: Any) -> np.ndarray:
    values = np.asarray(values)
    if values.dtype.kind in "iub":
        return values.astype(np.int32)
    return np.array([str(v).encode("utf-8") for v in values], object)


def _source_channels(source: Source) -> int:
    if source.stream:
        return 1 if next(iter(source.stream.values())).shape[-1] == 1 else 3
    column = next(iter(source.images.values()))
    return column.shape[-1] if isinstance(column, np.ndarray) and column.ndim == 4 else (
        1 if isinstance(column, np.ndarray) else 3)  # fmt: skip


def _fit(
    size: Size | None, channels: int, view: str, training: bool, shared: ImageOptions
) -> Fit:
    """How pictures are stored, before any random window is cut."""
    if shared.load_size is not None and size is None:
        raise DatasetError("load_size needs image_size: the size of the window that is cut out.")
    if shared.load_size is not None and training:
        load = shared.load_size
        if isinstance(load, (int, np.integer)):
            load = tuple(round(side * load / min(size)) for side in size)
        load = _size(load, "load_size")
        if load[0] < size[0] or load[1] < size[1]:
            raise DatasetError(f"load_size {load} must not be smaller than image_size {size}.")
        return Fit(load, channels, shared.crop)
    if view == "super_resolution":
        return Fit(size, channels, "keep")
    random = shared.crop == "random"
    return Fit(size, channels, shared.crop if training or not random else "center")


def _domains(
    name: str, source: Source, fit: Fit, strict: bool, cache: bool | str
) -> tuple[dict[str, Domain], dict[str, np.ndarray]]:
    """Decodes all fields; an example of linked fields is good if all its pictures are."""
    pictures, bad = {}, {}
    for field, column in source.images.items():
        if not len(column):
            raise DatasetError(f"{name!r}: no pictures for {field!r}. Check the folder and split.")
        pictures[field], bad[field] = imaging.prepare(column, fit, cache)
    _report_bad(name, bad, strict)
    if not source.independent:
        every = set().union(*bad.values())
        bad = dict.fromkeys(bad, every)
    domains = {
        field: Domain(p, np.array([i for i in range(len(p)) if i not in bad[field]], np.int64))
        for field, p in pictures.items()
    }
    kept = next(iter(domains.values())).kept
    return domains, {k: v[kept] for k, v in source.values.items()}


def _report_bad(name: str, bad: dict[str, dict[int, str]], strict: bool) -> None:
    reasons = list(dict.fromkeys(reason for field in bad.values() for reason in field.values()))
    if not reasons:
        return
    shown = "\n  ".join(reasons[:20])
    more = f"\n  and {len(reasons) - 20} more" if len(reasons) > 20 else ""
    message = f"{name!r}: {len(reasons)} unusable picture(s):\n  {shown}{more}"
    if strict:
        raise DatasetError(f"{message}\nRemove or replace them, or leave out strict=True.")
    warnings.warn(f"{message}\nThey are skipped; strict=True makes this an error.", stacklevel=4)


def _common_size(domains: dict[str, Domain]) -> Size:
    """The one size of pictures that are kept as they are."""
    sizes = set()
    for domain in domains.values():
        size = domain.pictures.size
        if size is None and len(domain):
            shapes = {p.shape[:2] for p in domain.pictures.take(domain.kept[:512])}
            sizes |= shapes
        elif size:
            sizes.add(size)
    if len(sizes) > 1:
        raise DatasetError(
            f"The pictures differ in size, e.g. {sorted(sizes)[:3]} (height, width). "
            f"Give image_size."
        )
    return sizes.pop() if sizes else (1, 1)


def _check_plan(name: str, split: str, pipeline: Pipeline) -> None:
    plan, num = pipeline.plan, pipeline.num_examples
    need = plan.batch_size if plan.drop_remainder else 1
    if num < need or not all(len(d) for d in pipeline._domains.values()):
        what = "none" if num == 0 else f"only {num}"
        raise DatasetError(
            f"{name!r}: {what} usable example(s) in split {split!r}, but a batch needs {need}. "
            f"Add pictures, lower batch_size, or use drop_remainder=False."
        )
    if plan.view == "super_resolution" and any(side % plan.scale for side in plan.image_size):
        raise DatasetError(
            f"image_size {plan.image_size} must be a multiple of scale {plan.scale}."
        )
