"""The field's toy problem, eight Gaussians on a ring, as pictures of 1x2 pixels, for any model's losses."""

import keras
import numpy as np
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


def on_the_ring(model_class, units=64):
    """A model's losses and updates with dense networks for points; its config says all but the sizes."""

    class OnTheRing(model_class):
        @property
        def batch_spec(self):
            return BatchSpec(images=image_field((1, 2), 1, (-1.0, 1.0)))

        def build_networks(self, config):
            return {"generator": _generator(config, units), "discriminator": _discriminator(units)}

    return OnTheRing


def _generator(config, units):
    latents = keras.Input((config.latent_size,), name="latents")
    points = layers.Dense(2)(_hidden(latents, units))
    return keras.Model(latents, layers.Reshape((1, 2, 1), name="images")(points), name="generator")


def _discriminator(units):
    images = keras.Input((1, 2, 1), name="images")
    x = _hidden(layers.Flatten()(images), units)
    return keras.Model(images, layers.Dense(1, name="scores")(x), name="discriminator")


def _hidden(x, units):
    for _ in range(2):
        x = layers.Dense(units, activation="relu")(x)
    return x
