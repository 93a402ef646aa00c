"""Batches of a data set that is too large for memory."""

from typing import Any

import numpy as np
import tensorflow as tf

from tf_gan_zoo.data.images import Fit, Pictures, decode_bytes
from tf_gan_zoo.data.pipeline import BatchPlan, Domain, Pipeline, cut, draws, finish, with_options
from tf_gan_zoo.data.sources import VIEWS

SHUFFLE_BUFFER = 10_000
"""Encoded examples among which a streamed data set is shuffled."""


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
        start, repeat = self._range(start_step, repeat)
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
