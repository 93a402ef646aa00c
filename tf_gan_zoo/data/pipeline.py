"""From a source's pictures to shuffled, augmented, scaled batches.

The order of examples is a pure function of the seed and the step, so a run that is killed goes on
with the very batches that it would have seen: step `s` belongs to epoch `s // steps_per_epoch`;
slot `j` of the epoch holds the example `index_shuffle(j, (seed, field, epoch))`. Augmentation
draws come from a counter-based hash of (seed, epoch, slot), hence do not depend on the batch size
or on the number of workers either. Slots are batched before anything is looked up: one gather
fetches a batch.
"""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from tf_gan_zoo.data.images import Pictures, Size
from tf_gan_zoo.data.sources import VIEWS, DatasetError

_CROP_TOP, _CROP_LEFT, _FLIP = range(3)
_NUM_PURPOSES = 3


@dataclasses.dataclass(frozen=True)
class BatchPlan:
    """Everything about batches that is not pictures.

    Attributes:
        image_size: `(height, width)` of the pictures in a batch.
        channels: 1 or 3, or field name -> 1 or 3 where fields differ.
        training: Whether crops and flips are random.
        set_size: Pictures in an example of the view "posed_sets".
        num_kinds: Kinds of examples that take turns, example `i` being of kind `i % num_kinds`;
            shuffling keeps the turns.
    """

    view: str
    batch_size: int
    seed: int
    shuffle: bool
    drop_remainder: bool
    value_range: tuple[float, float]
    image_size: Size
    channels: int | Mapping[str, int]
    training: bool
    flip: bool
    scale: int
    set_size: int = 2
    num_kinds: int = 1

    def channels_of(self, field: str) -> int:
        """Channels of an image field."""
        return self.channels if isinstance(self.channels, int) else self.channels[field]


@dataclasses.dataclass
class Domain:
    """One image field: its pictures, and which of them are good."""

    pictures: Pictures
    kept: np.ndarray

    def __len__(self) -> int:
        return len(self.kept)


class Pipeline:
    """An opened data set.

    Attributes:
        name: As given to `open_dataset`.
        plan: Sizes, seed and the like.
        num_examples: Examples in an epoch, unreadable ones not counted. For unpaired domains the
            larger one's.
        steps_per_epoch: Batches in an epoch.
        label_names: A name per label, where the source has names.
        found: What the source found and left out, in one line; "" where that goes without saying.
        num_bad: Examples that cannot be read, which are left out.
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
        self.found, self.num_bad = "", 0
        self._domains, self._values, self._independent = domains, values, independent
        columns = domains or values  # sequences come without pictures
        self.num_examples = max(map(len, columns.values()))
        self._lengths = [len(domain) for domain in domains.values()] or [self.num_examples]
        divide = math.floor if plan.drop_remainder else math.ceil
        self.steps_per_epoch = divide(self.num_examples / plan.batch_size)

    @property
    def fields(self) -> dict[str, tf.TensorSpec]:
        """What a batch holds, in the order of the view."""
        return {field: self._spec(field) for field in VIEWS[self.plan.view]}

    @property
    def num_classes(self) -> int | None:
        """How many classes the labels of its examples are of, where each has one class."""
        labels = self._values.get("labels")
        if "labels" not in VIEWS[self.plan.view] or labels is None or labels.ndim != 1:
            return None
        return max(len(self.label_names), int(labels.max(initial=-1)) + 1) or None

    @property
    def summary(self) -> str:
        """One line: what was read, as what, and how much of it an epoch has."""
        classes = f", {len(self.label_names)} classes" if self.label_names and not self.found else ""
        bad = f", {self.num_bad:,} unusable ones left out" if self.num_bad else ""
        found = f"{self.found}; " if self.found else ""
        line = f"{self.name}: {found}{self.num_examples:,} examples in use{classes}{bad}"
        return line.encode("utf-8", "backslashreplace").decode("utf-8")  # names of files may not be UTF-8

    def dataset(self, start_step: int | None = None, repeat: bool | None = None) -> tf.data.Dataset:
        """The batches from a step on: to the end of its epoch, or without end."""
        start, repeat = self._range(start_step, repeat)
        if repeat:
            steps = tf.data.Dataset.counter(start)
        else:
            end = (start // self.steps_per_epoch + 1) * self.steps_per_epoch
            steps = tf.data.Dataset.range(start, end)
        return with_options(steps.map(self._batch, num_parallel_calls=tf.data.AUTOTUNE))

    def _range(self, start_step: int | None, repeat: bool | None) -> tuple[int, bool]:
        start = self.defaults["start_step"] if start_step is None else int(start_step)
        if start < 0:
            raise DatasetError(f"start_step must not be negative, got {start}.")
        return start, self.defaults["repeat"] if repeat is None else bool(repeat)

    def _batch(self, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """The batch of a step, as a function of nothing else."""
        epoch, slots = self._slots(step)
        indices = [self._indices(epoch, slots, i) for i in range(len(self._lengths))]
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
        num = self._lengths[number]
        draws = slots if num == self.num_examples else epoch * self.num_examples + slots
        rounds = epoch if num == self.num_examples else draws // num
        if not self.plan.shuffle:
            return slots % num
        salt = number if self._independent else 0
        kinds = self.plan.num_kinds
        place, kind = draws % num // kinds, draws % kinds
        return kinds * shuffled_index(place, num // kinds, self.plan.seed, salt + kind, rounds) + kind

    def _fetch(self, epoch: np.ndarray, slots: np.ndarray, *indices: np.ndarray) -> list:
        """NumPy side of a batch: look up, cut, flip."""
        out = []
        for number, (domain, index) in enumerate(zip(self._domains.values(), indices)):
            salt = number if self._independent else 0
            pictures = domain.pictures.take(domain.kept[index])
            out.append(cut(pictures, self.plan, draws(self.plan.seed, epoch, slots, salt)))
        return out + [values[indices[0]] for values in self._values.values()]

    def _raw_shape(self, field: str) -> list:
        batch = self.plan.batch_size if self.plan.drop_remainder else None
        if field in self._domains:
            return [batch, *self.plan.image_size, self.plan.channels_of(field)]
        return [batch, *self._values[field].shape[1:]]

    def _spec(self, field: str) -> tf.TensorSpec:
        if field in self._values:
            return tf.TensorSpec(self._raw_shape(field), _tf_type(self._values[field]), name=field)
        shape = self._raw_shape(field if field in self._domains else next(iter(self._domains)))
        if field == "low_resolution":
            shape[1:3] = [side // self.plan.scale for side in shape[1:3]]
        return tf.TensorSpec(shape, tf.float32, name=field)


def shuffled_index(
    position: tf.Tensor, num: int, seed: int, salt: int | tf.Tensor, rounds: tf.Tensor
) -> tf.Tensor:
    """A permutation of `range(num)` per (seed, salt, round), evaluated at positions.

    `tf.random.experimental.index_shuffle` for a vector of positions, each with its own salt and round.
    """
    key = np.int64(np.uint64(seed % 2**64))
    seeds = [tf.broadcast_to(tf.cast(v, tf.int64), tf.shape(position)) for v in (key, salt, rounds)]
    seeds = tf.stack(seeds, axis=1)
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
    return tf.string if values.dtype == object else tf.as_dtype(values.dtype)
