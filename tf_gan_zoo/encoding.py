"""Models with an encoder, which takes pictures back to latents: what all of them share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_gan_zoo.batch_spec import checked_images
from tf_gan_zoo.endpoints import Endpoint
from tf_gan_zoo.gan import AdversarialGAN
from tf_gan_zoo.metrics import tasks
from tf_gan_zoo.metrics.images import l1


class EncodingGAN(AdversarialGAN):
    """A model with a network "encoder" beside its generator.

        latents = model.encode(images)               # float32 (count, latent_size)
        pictures = model.run(latents)                # what the generator makes of them
        pictures = model.reconstruct(images)         # the same in one call

    The encoder takes "images" and gives "latents": those of a picture, or their mean where the encoder gives
    a distribution. Further outputs are the model's own. Exports have a signature `encode` beside `generate`.
    """

    def encode(self, images: Any, batch_size: int = 64) -> np.ndarray:
        """The latents of pictures.

        Args:
            images: (count, height, width, channels) in the range of training, or one without the first axis.
            batch_size: pictures per call of the network.

        Returns:
            float32 (count, latent_size).

        Raises:
            BatchError: if the pictures do not fit the model.
        """
        return self._encoded(images, batch_size)["latents"]

    def reconstruct(self, images: Any, batch_size: int = 64) -> np.ndarray:
        """What the generator makes of the pictures' latents, as float32 pictures of the same shape and range.

        Args and Raises: as for `encode`.
        """
        return np.asarray(self.run(self.encode(images, batch_size), batch_size))

    def attribute_vector(self, images: Any, shown: Any, batch_size: int = 64) -> np.ndarray:
        """The mean latents of pictures that show something minus those of pictures that do not.

        Added to a picture's latents it puts the attribute into the picture, subtracted it takes it away.

        Args:
            images: pictures, as for `encode`.
            shown: whether each picture shows it, booleans (count,).
            batch_size: pictures per call of the network.

        Returns:
            float32 (latent_size,).

        Raises:
            ValueError: if `shown` does not fit, or is the same for all pictures.
        """
        latents, shown = self.encode(images, batch_size), np.asarray(shown)
        if shown.shape != (len(latents),) or shown.dtype != bool:
            raise ValueError(
                f"shown: expected booleans of shape ({len(latents)},), got {shown.dtype} {shown.shape}."
            )
        if shown.all() or not shown.any():
            raise ValueError("shown: expected pictures with the attribute and pictures without it.")
        return latents[shown].mean(axis=0) - latents[~shown].mean(axis=0)

    def _encoded(self, images: Any, batch_size: int) -> dict[str, np.ndarray]:
        """All outputs of the encoder by name."""
        images = checked_images(images, self.batch_spec["images"])
        outputs = tf.nest.flatten(self.run(images, batch_size, "encoder"))
        return dict(zip(self.encoder.output_names, outputs))

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        encode = Endpoint(
            self.encoder, {"images": self.output_range}, notes={"latents": "what `generate` takes"}
        )
        return {**super().endpoints, "encode": encode}

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """What `AdversarialGAN` measures, and how well latents tell a picture.

        Returns:
            reconstruction_l1: mean absolute error of reconstructions, in pixel values; its baseline takes the
                mean picture for every one;
            mismatch_l1: the same error against another picture, which a generator that ignores the latents
                would not make larger;
            code_accuracy: pictures whose nearest neighbour by latents has their label;
            pixel_accuracy: the same by pixels.
        """
        results, images = super().measure(examples), np.asarray(examples["images"])
        codes = self.encode(images)
        pictures = np.asarray(self.run(codes))
        mean = np.broadcast_to(images.mean(axis=0), images.shape)
        results["reconstruction_l1"] = float(l1(pictures, images).mean())
        results["reconstruction_l1_baseline"] = float(l1(mean, images).mean())
        results["mismatch_l1"] = float(l1(pictures, np.roll(images, 1, axis=0)).mean())
        if "labels" in examples:
            labels = np.asarray(examples["labels"])
            results["code_accuracy"] = tasks.neighbours_accuracy(codes, labels)
            results["pixel_accuracy"] = tasks.neighbours_accuracy(images, labels)
        return results


class FeatureGAN(EncodingGAN):
    """An `EncodingGAN` whose encoder gives "features", too: its last hidden layer."""

    def features(self, images: Any, batch_size: int = 64) -> np.ndarray:
        """The encoder's last hidden layer, which classifiers do better with than with latents.

        Args and Raises: as for `encode`.

        Returns:
            float32 (count, features).
        """
        return self._encoded(images, batch_size)["features"]

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Also `feature_accuracy`: pictures whose nearest neighbour by `features` has their label."""
        results = super().measure(examples)
        if "labels" in examples:
            features = self.features(examples["images"])
            results["feature_accuracy"] = tasks.neighbours_accuracy(features, np.asarray(examples["labels"]))
        return results


def normal_sample(means: tf.Tensor, log_variances: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    """mean + sigma * noise: normal numbers whose gradient reaches mean and variance.

    All arguments are (batch, latent_size); the noise is standard normal.

    Reference: D. P. Kingma, M. Welling, "Auto-Encoding Variational Bayes", ICLR 2014, arXiv:1312.6114,
    section 2.4.
    """
    return means + tf.exp(0.5 * log_variances) * noise


def kl_to_standard_normal(means: tf.Tensor, log_variances: tf.Tensor) -> tf.Tensor:
    """KL(N(mean, variance) || N(0, I)) in nats, (batch,) (Kingma and Welling 2014, appendix B).

    Both arguments are (batch, latent_size).
    """
    terms = tf.square(means) + tf.exp(log_variances) - 1.0 - log_variances
    return 0.5 * tf.reduce_sum(terms, axis=1)
