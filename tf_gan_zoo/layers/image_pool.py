"""A history of generated pictures for the discriminator (Shrivastava et al. 2017, section 2.3)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tf_gan_zoo import random


@keras.saving.register_keras_serializable("tf_gan_zoo")
class ImagePool(keras.layers.Layer):
    """Keeps `size` earlier pictures and trades them for new ones.

    The first `size` pictures are stored and handed back as they are. From then on each picture is, with
    probability 1/2, swapped for a randomly chosen stored one, else handed back. Pictures of a batch take
    their turns one after the other, so a batch of n gives what n batches of one give.

    All replicas make the same update with the pictures of all of them: the pool is the same everywhere, is
    saved whole with the weights, and does not depend on the number of replicas.

    Args:
        size: how many pictures are kept.

    Input and output: images (batch, height, width, channels) of one fixed size.
    """

    def __init__(self, size: int = 50, **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs})
        if size < 1:
            raise ValueError(f"ImagePool: size must be at least 1, got {size}.")
        self.size = size

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        kept = {"trainable": False, "initializer": "zeros"}
        self.images = self.add_weight(shape=(self.size, *input_shape[1:]), name="images", **kept)
        self.count = self.add_weight(shape=(), dtype="int32", name="count", **kept)

    def call(self, inputs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """The pictures for the discriminator to train on, as many as came in.

        Args:
            inputs: this replica's newly generated images.
            seed: (2,) integers, the same on all replicas; the choices depend on nothing else.
        """
        context = tf.distribute.get_replica_context()
        if context.num_replicas_in_sync == 1:
            return self._exchange(inputs, seed)
        exchanged = self._exchange(context.all_gather(inputs, axis=0), seed)
        local = tf.shape(inputs)[0]
        first = tf.cast(context.replica_id_in_sync_group, tf.int32) * local
        return exchanged[first : first + local]

    def choices(self, count: tf.Tensor | int, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """For each of `count` pictures: whether it is swapped (if the pool is full), and for which slot."""
        # Two columns of one draw: a (2,) seed makes one stream.
        draws = random.global_uniform((count, 2), seed)
        slots = tf.cast(draws[:, 1] * self.size, tf.int32)
        return draws[:, 0] < 0.5, tf.minimum(slots, self.size - 1)

    def _exchange(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        pool, order = tf.convert_to_tensor(self.images.value), tf.range(tf.shape(images)[0])
        swaps, slots = self.choices(tf.shape(images)[0], seed)
        fills = self.count.value + order < self.size
        slots = tf.where(fills, self.count.value + order, slots)
        writes = tf.logical_and(slots[:, None] == slots[None, :], tf.logical_or(fills, swaps)[None, :])

        def held_after(turns: tf.Tensor) -> tf.Tensor:
            """What is in each picture's slot after those turns (a row of the matrix) have been taken."""
            last = tf.reduce_max(tf.where(tf.logical_and(writes, turns), order[None, :], -1), axis=1)
            newest = tf.gather(images, tf.maximum(last, 0))
            return tf.where(_per_image(last >= 0), newest, tf.gather(pool, slots))

        before = held_after(order[None, :] < order[:, None])
        # Pictures that share a slot all write its final content, so the order of writing is irrelevant.
        updated = tf.tensor_scatter_nd_update(pool, slots[:, None], held_after(tf.constant(True)))
        exchanged = tf.where(_per_image(tf.logical_and(swaps, ~fills)), before, images)
        with tf.control_dependencies([exchanged]):  # read before the pool changes
            self.images.assign(updated)
            self.count.assign(tf.minimum(self.count.value + tf.size(order), self.size))
        return exchanged

    def compute_output_shape(self, input_shape: tuple[int | None, ...], **_: Any) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}


def _per_image(condition: tf.Tensor) -> tf.Tensor:
    return tf.reshape(condition, (-1, 1, 1, 1))
