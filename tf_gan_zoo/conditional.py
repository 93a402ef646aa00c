"""Models that generate by class label: what all of them share besides their networks and losses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_gan_zoo import random
from tf_gan_zoo.batch_spec import Field
from tf_gan_zoo.endpoints import Endpoint
from tf_gan_zoo.gan import AdversarialGAN
from tf_gan_zoo.metrics import features, tasks
from tf_gan_zoo.metrics.conditional import class_accuracy


class LabelledGAN(AdversarialGAN):
    """A GAN whose generator takes {"latents", "labels"} and whose batches have "labels".

    The config has `num_classes`; None, where a model can do without, makes it an ordinary GAN whose
    generator takes latents alone.
    """

    @property
    def view(self) -> str:
        """Labelled pictures, where the model has classes."""
        return "labelled" if self.config.num_classes else "images"

    def label_field(self) -> dict[str, Field]:
        """The field of `batch_spec` that the labels come in, if the model has classes."""
        classes = self.config.num_classes
        return {"labels": Field((), (0, classes - 1), "int32")} if classes else {}

    def fakes(
        self, purpose: str, count: int | tf.Tensor, training: bool
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """`count` pictures of this step's draw called `purpose`, with their labels, drawn uniformly."""
        latents, labels = self.latents(f"latents of {purpose}", count), None
        if self.config.num_classes:
            labels = self.random_integers(f"labels of {purpose}", (count,), self.config.num_classes)
        return self.generator(_with_labels(labels, latents=latents), training=training), labels

    def logits(self, images: tf.Tensor, labels: tf.Tensor | None, training: bool) -> tf.Tensor:
        """What the discriminator says of pictures, with their labels if the model has classes."""
        return self.discriminator(_with_labels(labels, images=images), training=training)

    def sample_inputs(self, num_samples: int, seed: int = 0, labels: Any = None) -> Any:
        """What the generator turns into `num_samples` samples; `generate` takes the same keywords.

        Args:
            num_samples: how many.
            seed: draws the noise, and the labels if they are not given.
            labels: class of each sample: an integer for all of them, or (num_samples,).

        Returns:
            "latents" float32 (num_samples, latent_size) and "labels" int32 (num_samples,).

        Raises:
            ValueError: if the labels do not fit.
        """
        latents = super().sample_inputs(num_samples, seed)
        if labels is not None:
            labels = checked_labels(labels, num_samples, self.config.num_classes)
        elif self.config.num_classes:
            drawn = random.make_seed(seed, "labels of samples")
            labels = random.integers((num_samples,), drawn, self.config.num_classes)
        return latents if labels is None else {"latents": latents, "labels": labels}

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        generate = super().endpoints["generate"]
        if not self.config.num_classes:
            return {"generate": generate}
        drawn = next(iter(generate.notes.values()))
        notes = {"latents": drawn, "labels": f"classes, integers from 0 to {self.config.num_classes - 1}"}
        return {"generate": dataclasses.replace(generate, notes=notes)}

    def measure(self, examples: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Class coverage of samples and, with classes, how many of them are of the class asked for.

        `neighbour_accuracy` goes by the nearest example, `class_accuracy` by the zoo's classifier of these
        data, where it has one.
        """
        results = super().measure(examples)
        if results and self.config.num_classes:
            labels = np.asarray(examples["labels"])
            samples = self.generate(len(labels), seed=0, labels=labels)
            nearest, _ = tasks.nearest_neighbours(samples, examples["images"])
            results["neighbour_accuracy"] = float((labels[nearest] == labels).mean())
            results.update(self._class_accuracy(samples, labels))
        return results

    def _class_accuracy(self, samples: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        name = features.automatic(self.config.data)
        if name not in features.PACKAGED or features.PACKAGED[name].num_classes != self.config.num_classes:
            return {}
        low, high = self.output_range
        scaled = (np.clip(samples, low, high) - low) / (high - low) * 2.0 - 1.0
        return {"class_accuracy": class_accuracy(scaled, labels, features.get_extractor(name))}


def network_inputs(num_classes: int | None, **shapes: tuple[int, ...]) -> dict[str, keras.KerasTensor]:
    """Inputs of a network by name, and "labels", int32 (batch,), where there are classes."""
    inputs = {name: keras.Input(shape, name=name) for name, shape in shapes.items()}
    return {**inputs, "labels": keras.Input((), dtype="int32", name="labels")} if num_classes else inputs


def network_of(inputs: Mapping[str, keras.KerasTensor], output: keras.KerasTensor, name: str) -> keras.Model:
    """The network from inputs of `network_inputs`; without classes it takes the one tensor alone."""
    return keras.Model(dict(inputs) if "labels" in inputs else next(iter(inputs.values())), output, name=name)


def _with_labels(labels: tf.Tensor | None, **inputs: tf.Tensor) -> Any:
    return next(iter(inputs.values())) if labels is None else {**inputs, "labels": labels}


def checked_labels(labels: Any, count: int, num_classes: int | None) -> np.ndarray:
    """Labels as int32 (count,); an integer stands for `count` of them.

    Raises:
        ValueError: for another shape or dtype, or a label that is no class.
    """
    if num_classes is None:
        raise ValueError("labels: this model has no classes: leave labels out.")
    try:
        values = np.asarray(labels)
    except ValueError:
        raise ValueError("labels: expected an array, got rows of different lengths.") from None
    values = np.repeat(values, count) if values.ndim == 0 else values
    if values.shape != (count,):
        raise ValueError(f"labels: expected one integer or shape ({count},), got shape {values.shape}.")
    if values.dtype.kind not in "iu" or (values < 0).any() or (values >= num_classes).any():
        raise ValueError(
            f"labels: expected integers from 0 to {num_classes - 1}, got {np.unique(values).tolist()[:8]}."
        )
    return values.astype("int32")
