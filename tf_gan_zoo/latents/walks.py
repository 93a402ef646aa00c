"""Ways through latent space: lines, arcs, closed tours and circles, as pictures and frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tf_gan_zoo.latents import inputs as noise
from tf_gan_zoo.latents.inputs import LatentError


def lerp(start: Any, end: Any, fractions: Any) -> np.ndarray:
    """Linear interpolation: along the straight line, whose middle is shorter than a Gaussian's latents are.

    Args:
        start: (..., size), reached at fraction 0.
        end: as `start`, reached at fraction 1.
        fractions: (count,).

    Returns:
        float32 (..., count, size).
    """
    start, end, t = _ends(start, end, fractions)
    return ((1 - t) * start + t * end).astype("float32")


def slerp(start: Any, end: Any, fractions: Any) -> np.ndarray:
    """Spherical interpolation: along the great arc, so the vectors keep a Gaussian's usual length.

    Vectors that are (anti)parallel have no arc of their own: there the straight line is taken.

    Args:
        start: (..., size), reached at fraction 0.
        end: as `start`, reached at fraction 1.
        fractions: (count,).

    Returns:
        float32 (..., count, size).

    Reference: K. Shoemake, "Animating Rotation with Quaternion Curves", SIGGRAPH 1985.
    """
    start, end, t = _ends(start, end, fractions)
    lengths = np.linalg.norm(start, axis=-1) * np.linalg.norm(end, axis=-1)
    cosine = (start * end).sum(-1) / np.maximum(lengths, 1e-12)
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))[..., None]
    straight = np.sin(angle) < 1e-4
    safe = np.where(straight, 1.0, angle)
    arc = (np.sin((1 - t) * safe) * start + np.sin(t * safe) * end) / np.sin(safe)
    return np.where(straight, (1 - t) * start + t * end, arc).astype("float32")


def _ends(start: Any, end: Any, fractions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Float64 (..., 1, size), the same, and (count, 1)."""
    start, end = np.asarray(start, "float64"), np.asarray(end, "float64")
    if start.shape != end.shape or not start.ndim:
        raise LatentError(
            f"start and end: expected latents of one shape (..., size), got {start.shape} and {end.shape}."
        )
    return start[..., None, :], end[..., None, :], np.asarray(fractions, "float64")[:, None]


_INTERPOLATIONS = {"slerp": slerp, "lerp": lerp}


def _interpolation(how: str) -> Callable[..., np.ndarray]:
    if how not in _INTERPOLATIONS:
        raise LatentError(f"how: expected slerp or lerp, got {how!r}.")
    return _INTERPOLATIONS[how]


def interpolate(
    model: Any, start: Any, end: Any, steps: int = 8, how: str = "slerp", seed: int = 0, **conditions: Any
) -> np.ndarray:
    """Pictures on the way from one latent to another, both ends included.

    Args:
        model: a model with latents.
        start: (latent_size,), or (rows, latent_size) for several ways.
        end: as `start`.
        steps: pictures per way, at least 2.
        how: "slerp" along the arc, "lerp" along the line.
        seed: draws conditions that are not given.
        **conditions: as `pictures` takes them.

    Returns:
        float32 (steps, height, width, channels), or (rows, steps, height, width, channels).

    Raises:
        LatentError: for another `how`, too few steps or latents that do not fit.
    """
    interpolation = _interpolation(how)
    if steps < 2:
        raise LatentError(f"steps: an interpolation has at least 2 pictures, got {steps}.")
    path = interpolation(start, end, np.linspace(0.0, 1.0, steps))
    images = noise.pictures(model, path.reshape(-1, path.shape[-1]), seed, **conditions)
    return images.reshape(*path.shape[:-1], *images.shape[1:])


# -------------------------------------------------------------------- closed ways


def closed_walk(keys: np.ndarray, frames_per_leg: int, how: str = "slerp") -> np.ndarray:
    """(keys, size) latents -> (keys * frames_per_leg, size): from each key to the next, and back home.

    Raises:
        LatentError: for another `how` than "slerp" and "lerp".
    """
    fractions = np.arange(frames_per_leg) / frames_per_leg
    legs = _interpolation(how)(keys, np.roll(keys, -1, axis=0), fractions)
    return legs.reshape(-1, legs.shape[-1])


def great_circle(start: Any, toward: Any, num_frames: int) -> np.ndarray:
    """The circle around the origin through `start` in the direction of `toward`, walked once.

    Every step has the same length, also the one from the last latent to the first.

    Args:
        start: (size,); its length is the circle's radius.
        toward: (size,), another direction.
        num_frames: latents on the circle.

    Returns:
        float32 (num_frames, size).

    Raises:
        LatentError: if the two vectors are parallel, and give no plane.
    """
    start, toward = np.asarray(start, "float64"), np.asarray(toward, "float64")
    radius = np.linalg.norm(start)
    across = toward - start * (start @ toward) / max(radius**2, 1e-12)
    if np.linalg.norm(across) < 1e-6 * max(np.linalg.norm(toward), 1e-12):
        raise LatentError("start and toward: parallel vectors, or zeros, span no circle. Give two others.")
    angles = 2 * np.pi * np.arange(num_frames)[:, None] / num_frames
    circle = np.cos(angles) * start + np.sin(angles) * across * (radius / np.linalg.norm(across))
    return circle.astype("float32")


def latent_walk(
    model: Any, *, num_keys: int = 6, frames_per_leg: int = 12, num_walks: int = 16, seed: int = 0,
    how: str = "slerp", truncation: float | None = None, **conditions: Any,
) -> np.ndarray:  # fmt: skip
    """Frames of a closed tour through latent space, several walks side by side.

    Each walk visits `num_keys` random latents and ends where it began. What the
    model takes besides noise (labels, codes) keeps the value of the first key.

    Args:
        model: a model with latents.
        num_keys: random latents on each tour.
        frames_per_leg: frames from one to the next.
        num_walks: tours side by side.
        seed: the same seed gives the same tours.
        how: "slerp" along great arcs, "lerp" along lines.
        truncation: of the keys (see `sample`).
        **conditions: labels=, codes=.

    Returns:
        uint8 (frames, height, width, 3) with frames = num_keys * frames_per_leg.
    """
    walks = []
    for walk in range(num_walks):
        keys = noise.sample(model, num_keys, seed + walk, truncation=truncation, **conditions)
        path = closed_walk(noise.latents_of(model, keys), frames_per_leg, how)
        walks.append(noise.with_latents(model, _first(keys), path))
    return _frames(model, walks)


def sphere_walk(
    model: Any, *, num_frames: int = 96, num_walks: int = 16, seed: int = 0, **conditions: Any
) -> np.ndarray:
    """Frames of circles around the origin of latent space, at the latents' typical length and one speed.

    Uniform latents leave the cube [-1, 1] a little in some places: a sphere of their typical length does.

    Args:
        model: a model with latents.
        num_frames: frames of the round trip; the last leads to the first.
        num_walks: circles side by side.
        seed: the same seed gives the same circles.
        **conditions: labels=, codes=; those not given are drawn for each circle.

    Returns:
        uint8 (num_frames, height, width, 3).

    Raises:
        LatentError: for fewer than 3 frames or no walk, or a model without latents.
    """
    if num_frames < 3 or num_walks < 1:
        raise LatentError(
            f"a walk needs 3 frames and 1 circle at least, got {num_frames} frames and {num_walks} circles."
        )
    walks = []
    for walk in range(num_walks):
        ends = noise.sample(model, 2, seed + walk, **conditions)
        start, toward = noise.rescaled(model, noise.latents_of(model, ends))
        walks.append(noise.with_latents(model, _first(ends), great_circle(start, toward, num_frames)))
    return _frames(model, walks)


def _first(inputs: Any) -> Any:
    """Generator inputs of the first picture only."""
    if isinstance(inputs, dict):
        return {name: np.asarray(values)[:1] for name, values in inputs.items()}
    return np.asarray(inputs)[:1]


def _frames(model: Any, walks: list[Any]) -> np.ndarray:
    """Inputs of each walk's frames -> uint8 (frames, height, width, 3), one grid of all walks per frame."""
    images = np.stack([np.asarray(model.run(inputs)) for inputs in walks], axis=1)
    return np.stack([noise.sheet(model, frame) for frame in images])
