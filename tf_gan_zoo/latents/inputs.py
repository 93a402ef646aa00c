"""Latents inside a generator's inputs: drawing, truncating, replacing, and turning them into pictures."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from scipy import special

from tf_gan_zoo import present


class LatentError(ValueError):
    """What cannot be done with a model's latents; the message says what to do."""


def sample(
    model: Any, num_samples: int, seed: int = 0, *, truncation: float | None = None, **conditions: Any
) -> Any:
    """Generator inputs, as `model.generate` draws them.

    Args:
        model: a model of the zoo with latents.
        num_samples: how many.
        seed: the same seed gives the same inputs, and with a truncation similar ones.
        truncation: the largest size of a number in the latents (see `truncated`); None cuts nothing off.
        **conditions: what the model takes besides noise (labels=, codes=).

    Returns:
        float32 (num_samples, latent_size + codes), or a dict with "latents"; what `model.run` takes.

    Raises:
        LatentError: for a model without latents, or conditions that it does not take.
    """
    require_latents(model)
    unknown = sorted(set(conditions) - set(condition_names(model)))
    if unknown:
        taken = " and ".join(condition_names(model)) or "no conditions"
        raise LatentError(f"{_name(model)} takes {taken}, not {unknown[0]!r}: leave it out.")
    try:
        inputs = model.sample_inputs(num_samples, seed, **conditions)
    except ValueError as error:
        raise LatentError(str(error)) from None
    if truncation is None:
        return inputs
    return with_latents(model, inputs, truncated(latents_of(model, inputs), truncation, distribution(model)))


def pictures(model: Any, latents: Any, seed: int = 0, **conditions: Any) -> np.ndarray:
    """Pictures of latents.

    Args:
        model: a model with latents.
        latents: (count, latent_size), or (latent_size,) for one picture.
        seed: draws conditions that are not given.
        **conditions: those of one picture (labels=3, codes=[0.0, 1.0]); they hold for all.

    Returns:
        float32 (count, height, width, channels) in the range of the model's output.

    Raises:
        LatentError: if the latents do not fit.
    """
    inputs = sample(model, 1, seed, **conditions)
    return np.asarray(model.run(with_latents(model, inputs, latents)))


def latents_of(model: Any, inputs: Any) -> np.ndarray:
    """The noise in generator inputs, float32 (count, latent_size)."""
    if isinstance(inputs, Mapping):
        return np.asarray(inputs["latents"], "float32")
    return np.asarray(inputs[:, : latent_size(model)], "float32")


def with_latents(model: Any, inputs: Any, latents: Any) -> Any:
    """Generator inputs with other noise; inputs of one picture are repeated for all latents.

    Args:
        model: a model with latents.
        inputs: of `sample`, for as many pictures as there are latents or for one.
        latents: (count, latent_size), or (latent_size,); arrays or tensors.

    Raises:
        LatentError: if the shape is another.
    """
    latents = checked_latents(model, latents)
    count = latents.shape[0]

    def rows(values: Any) -> Any:
        return tf.repeat(values, count, axis=0) if values.shape[0] == 1 and count != 1 else values

    if isinstance(inputs, Mapping):
        return {name: latents if name == "latents" else rows(values) for name, values in inputs.items()}
    return tf.concat([latents, rows(inputs[:, latent_size(model) :])], axis=1)


def checked_latents(model: Any, latents: Any) -> tf.Tensor:
    """Latents as a float32 tensor (count, latent_size).

    Raises:
        LatentError: if they have another shape or are not finite.
    """
    size = latent_size(require_latents(model))
    if not tf.is_tensor(latents):
        latents = np.asarray(latents, "float32")
        if not np.isfinite(latents).all():
            raise LatentError("latents: expected finite numbers, got NaN or infinite ones.")
    latents = tf.convert_to_tensor(latents, tf.float32)
    latents = latents[None] if latents.shape.rank == 1 else latents
    if latents.shape.rank != 2 or latents.shape[1] != size or not latents.shape[0]:
        shape = tuple(latents.shape)
        raise LatentError(
            f"latents: expected shape (count, {size}) or ({size},) for {_name(model)}, got {shape}. "
            "Codes and labels are no latents: give them as codes= and labels=."
        )
    return latents


# -------------------------------------------------------------------- the prior


def latent_size(model: Any) -> int:
    """Numbers of noise per picture."""
    return int(model.config.latent_size)


def distribution(model: Any) -> str:
    """What each number of the noise is drawn from: "normal" (mean 0, deviation 1) or "uniform" on [-1, 1]."""
    return getattr(model.config, "latent_distribution", "normal")


def typical_norm(model: Any) -> float:
    """Root mean square length of the model's latents: sqrt(size) if normal, sqrt(size / 3) if uniform.

    In many dimensions nearly all latents are about that long, so a generator has seen hardly any other.
    """
    variance = 1.0 if distribution(model) == "normal" else 1.0 / 3.0
    return math.sqrt(latent_size(model) * variance)


def rescaled(model: Any, latents: Any) -> np.ndarray:
    """Latents (..., latent_size) brought to the typical length; uniform ones are then cut to [-1, 1].

    Means of latents are short, and sums are long: neither is what a generator was trained on.
    """
    latents = np.asarray(latents, "float64")
    lengths = np.linalg.norm(latents, axis=-1, keepdims=True)
    scaled = latents * (typical_norm(model) / np.maximum(lengths, 1e-12))
    if distribution(model) == "uniform":
        scaled = np.clip(scaled, -1.0, 1.0)
    return scaled.astype("float32")


def truncated(latents: Any, threshold: float, distribution: str = "normal") -> np.ndarray:
    """The truncation trick: latents as if numbers beyond +-threshold had been drawn again until they fit.

    Small thresholds give more typical and less varied pictures. Instead of being drawn again, each number
    moves to the same quantile of the truncated distribution: the result has exactly that distribution, and
    a picture changes gradually with the threshold. For uniform latents this is a multiplication by the
    threshold, which is `toward_mean`.

    Args:
        latents: (..., size), standard normal or uniform on [-1, 1].
        threshold: above 0; 2 is mild, 0.5 strong for normal latents. From 1 on uniform ones do not change.
        distribution: "normal" or "uniform".

    Returns:
        float32, of the same shape.

    Raises:
        LatentError: for a threshold that is not above 0.

    Reference: A. Brock, J. Donahue, K. Simonyan, "Large Scale GAN Training for High Fidelity Natural Image
    Synthesis", ICLR 2019, arXiv:1809.11096, section 3.1.
    """
    if not threshold > 0:
        raise LatentError(f"truncation: expected a number above 0, e.g. 1.0, got {threshold}.")
    latents = np.asarray(latents, "float64")
    if distribution == "uniform":
        return toward_mean(latents, min(threshold, 1.0))
    outside = special.ndtr(-threshold)
    quantiles = outside + special.ndtr(latents) * (1.0 - 2.0 * outside)
    return np.clip(special.ndtri(quantiles), -threshold, threshold).astype("float32")


def toward_mean(latents: Any, psi: float, mean: Any = 0.0) -> np.ndarray:
    """mean + psi (latents - mean): psi 1 changes nothing, 0 leaves the mean alone.

    StyleGAN's truncation; there the latents are those behind its mapping network, whose mean is estimated.
    For noise the mean is 0, and shorter normal latents are unlike those of training: prefer `truncated`.

    Args:
        latents: (..., size).
        psi: usually from 0 to 1.
        mean: (size,).

    Reference: T. Karras, S. Laine, T. Aila, "A Style-Based Generator Architecture for Generative Adversarial
    Networks", CVPR 2019, arXiv:1812.04948, appendix B.
    """
    latents, mean = np.asarray(latents, "float64"), np.asarray(mean, "float64")
    return (mean + psi * (latents - mean)).astype("float32")


# -------------------------------------------------------------------- what a model takes


def require_latents(model: Any) -> Any:
    """`model`, if it makes pictures of latents.

    Raises:
        LatentError: if it does not, with what it does instead.
    """
    if not hasattr(model, "sample_inputs"):
        instead = [task for task in ("translate", "upscale") if hasattr(model, task)]
        use = f"use its {instead[0]}" if instead else "it makes no pictures"
        raise LatentError(
            f"{_name(model)} has no latents, it works on pictures: {use}, or take a generator such as dcgan."
        )
    return model


def condition_names(model: Any) -> list[str]:
    """Keywords that the model's `sample_inputs` takes besides the number of samples and the seed."""
    return list(inspect.signature(model.sample_inputs).parameters)[2:]


def sheet(model: Any, images: Any, **layout: Any) -> np.ndarray:
    """A uint8 grid (height, width, 3) of a model's pictures; keywords of `present.image_grid`."""
    return present.image_grid(np.asarray(images), value_range=present.output_range(model), **layout)


def _name(model: Any) -> str:
    return getattr(model, "zoo_name", type(model).__name__)
