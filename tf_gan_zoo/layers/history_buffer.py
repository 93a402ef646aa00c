"""A history of refined pictures that gives a discriminator half of its batch (Shrivastava et al. 2017)."""

from __future__ import annotations

import keras
import tensorflow as tf

from tf_gan_zoo import random
from tf_gan_zoo.layers.image_pool import ImagePool


@keras.saving.register_keras_serializable("tf_gan_zoo")
class HistoryBuffer(ImagePool):
    """Keeps `size` earlier pictures; half of each batch is shown from there (section 2.3, figure 4).

    Until `size` pictures have come in, all are stored and handed back as they are. From then on the first
    half of a batch is handed back with as many different stored pictures, which are chosen before anything
    is replaced; then the first half takes the place of as many random stored pictures.

    `ImagePool` is what later papers made of it: it decides picture by picture. Replicas and saving are the
    same: one buffer, filled and read as by one device with the global batch.

    Args:
        size: how many pictures are kept; at least a global batch.

    Input and output: images (batch, height, width, channels) of one fixed size.
    """

    def choices(self, count: tf.Tensor | int, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """`count` different slots to show and `count` different slots to replace."""
        draws = random.global_uniform((2, self.size), seed)
        shown, replaced = tf.unstack(tf.argsort(draws, axis=-1)[:, :count])
        return shown, replaced

    def _exchange(self, images: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        count = tf.shape(images)[0]
        order, pool = tf.range(count), tf.convert_to_tensor(self.images.value)
        full, fresh = self.count.value >= self.size, order < count - count // 2
        shown, replaced = self.choices(count, seed)
        results = tf.where(_per_image(full & ~fresh), tf.gather(pool, shown), images)
        # A batch that is more than fills the buffer begins anew at its start.
        slots = tf.where(full, replaced, (self.count.value + order) % self.size)
        kept = tf.where(_per_image(full & ~fresh), tf.gather(pool, slots), images)
        with tf.control_dependencies([results]):  # read before the buffer changes
            self.images.assign(tf.tensor_scatter_nd_update(pool, slots[:, None], kept))
            self.count.assign(tf.minimum(self.count.value + count, self.size))
        return results


def _per_image(condition: tf.Tensor) -> tf.Tensor:
    return tf.reshape(condition, (-1, 1, 1, 1))
