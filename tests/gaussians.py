"""The field's toy problem, eight Gaussians on a ring, as pictures of 1x2 pixels, for any model's losses."""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tf_gan_zoo.batch_spec import BatchSpec, image_field

NUM_MODES, RADIUS, DEVIATION = 8, 0.7, 0.04
_ANGLES = 2 * np.pi * np.arange(NUM_MODES) / NUM_MODES
CENTRES = RADIUS * np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


def ring(count, seed=0):
    """Points as "pictures", float32 (count, 1, 2, 1) in [-1, 1]."""
    rng = np.random.default_rng(seed)
    points = CENTRES[rng.integers(NUM_MODES, size=count)] + rng.normal(0, DEVIATION, (count, 2))
    return points.astype("float32").reshape(count, 1, 2, 1)


def coverage(samples, deviations=4):
    """How many Gaussians have a quarter of their share of samples; the share of samples on any of them."""
    distances = np.linalg.norm(samples.reshape(-1, 1, 2) - CENTRES, axis=2)
    on_mode = distances.min(axis=1) < deviations * DEVIATION
    counts = np.bincount(distances.argmin(axis=1)[on_mode], minlength=NUM_MODES)
    return int((counts >= len(samples) / NUM_MODES / 4).sum()), float(on_mode.mean())


def train_on_the_ring(model_class, steps, batch_size=256, **settings):
    """`coverage` after training with a model's losses and updates, but dense networks for points."""

    class OnTheRing(model_class):
        @property
        def batch_spec(self):
            return BatchSpec(images=image_field((1, 2), 1, (-1.0, 1.0)))

        def build_networks(self, config):
            return {"generator": _generator(config), "discriminator": _discriminator()}

    noise = {"latent_size": 8, "latent_distribution": "normal"}
    model = OnTheRing(model_class.config_cls(**noise, **settings))
    model.compile(steps_per_execution=50)
    points = tf.data.Dataset.from_tensor_slices(ring(20_000)).shuffle(20_000, seed=0).repeat()
    model.fit(points.batch(batch_size), steps_per_epoch=steps, verbose=0)
    return coverage(model.generate(2000, batch_size=2000))


def _generator(config):
    latents = keras.Input((config.latent_size,), name="latents")
    points = layers.Dense(2)(_hidden(latents))
    return keras.Model(latents, layers.Reshape((1, 2, 1), name="images")(points), name="generator")


def _discriminator():
    images = keras.Input((1, 2, 1), name="images")
    x = _hidden(layers.Flatten()(images))
    return keras.Model(images, layers.Dense(1, name="scores")(x), name="discriminator")


def _hidden(x):
    for _ in range(2):
        x = layers.Dense(64, activation="relu")(x)
    return x
