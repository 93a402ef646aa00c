"""Latent tools: walks, arithmetic, truncation, neighbours, inversion and sweeps of trained generators."""

from tf_gan_zoo.latents.attributes import (
    LabelledLatents,
    Labels,
    add,
    arithmetic,
    arithmetic_sheet,
    direction_sheet,
    label_by_classifier,
    label_by_neighbours,
    label_samples,
)
from tf_gan_zoo.latents.inputs import (
    LatentError,
    latents_of,
    pictures,
    rescaled,
    sample,
    toward_mean,
    truncated,
    typical_norm,
    with_latents,
)
from tf_gan_zoo.latents.inversion import Inversion, invert
from tf_gan_zoo.latents.neighbours import Neighbours, nearest, neighbour_sheet
from tf_gan_zoo.latents.sweeps import class_sweep, code_sweep, sweep_sheet
from tf_gan_zoo.latents.walks import (
    closed_walk,
    great_circle,
    interpolate,
    latent_walk,
    lerp,
    slerp,
    sphere_walk,
)

__all__ = [
    "Inversion", "LabelledLatents", "Labels", "LatentError", "Neighbours", "add", "arithmetic",
    "arithmetic_sheet", "class_sweep", "closed_walk", "code_sweep", "direction_sheet", "great_circle",
    "interpolate", "invert", "label_by_classifier", "label_by_neighbours", "label_samples",
    "latent_walk", "latents_of", "lerp", "nearest", "neighbour_sheet", "pictures", "rescaled", "sample",
    "slerp", "sphere_walk", "sweep_sheet", "toward_mean", "truncated", "typical_norm", "with_latents",
]  # fmt: skip
