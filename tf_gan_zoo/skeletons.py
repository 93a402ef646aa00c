"""Skeletons drawn over depth maps of hands."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from tf_gan_zoo.data.hand_depth import CUBE_SIZE
from tf_gan_zoo.data.hands import BONES, NUM_JOINTS

TRUTH, ESTIMATE = (70, 200, 90), (250, 90, 60)


def drawn(
    images: np.ndarray, skeletons: Sequence[tuple[np.ndarray, tuple[int, int, int]]], side: int = 128
) -> np.ndarray:
    """Depth maps, what is near bright, with skeletons as a camera without perspective sees them.

    Args:
        images: depth maps (count, height, width, 1) in [-1, 1] of cubes of 250 mm.
        skeletons: joints (count, num_joints, 3) in millimetres from the cubes' centres, and a colour, one
            over the other. Bones are drawn between joints in the order of the MSRA data; other joints are
            dots alone.
        side: pixels of the result.

    Returns:
        float32 (count, side, side, 3) in [-1, 1].
    """
    pictures = [_drawn(image, [(j[k], c) for j, c in skeletons], side) for k, image in enumerate(images)]
    return np.stack(pictures).astype("float32") / 127.5 - 1.0


def enlarged(images: np.ndarray, side: int = 128) -> np.ndarray:
    """Depth maps (count, height, width, 1), what is near bright, as pictures like those of `drawn`."""
    return drawn(images, [], side)


def _drawn(image: np.ndarray, skeletons: list, side: int) -> np.ndarray:
    brightness = 60.0 if skeletons else 150.0
    gray = np.clip((1.0 - image[..., 0]) * brightness, 0, 255).astype(np.uint8)
    picture = Image.fromarray(gray).convert("RGB").resize((side, side), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(picture)
    for joints, color in skeletons:
        places = (np.asarray(joints)[:, :2] / CUBE_SIZE + 0.5) * side
        if len(places) == NUM_JOINTS:
            for bone in BONES:
                pen.line([tuple(places[k]) for k in bone], color, max(side // 64, 1))
        radius = side / 80
        for x, y in places:
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), color)
    return np.asarray(picture)
