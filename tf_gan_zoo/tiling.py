"""Large pictures through a network piece by piece, without seams.

A network that looks `margin` pixels far gives every pixel of a tile the value that it has in the whole
picture, if the tile comes with `margin` pixels of its surroundings. Memory is then that of one tile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

#: Side of a tile where nobody chose one: about 0.5 GB for 64 float32 maps, and small margins in comparison.
DEFAULT_TILE = 512

Slices = tuple[slice, slice]


class Window(NamedTuple):
    """A tile and its surroundings, as (rows, columns) of the picture.

    Attributes:
        seen: the tile with its margin, cut off at the picture's borders.
        tile: what the tile covers of the picture.
        inside: where the tile lies within `seen`.
    """

    seen: Slices
    tile: Slices
    inside: Slices


def windows(height: int, width: int, tile: int, margin: int) -> Iterator[Window]:
    """Tiles that cover a picture, row by row, each with its surroundings.

    Args:
        height: of the picture, in pixels.
        width: of the picture.
        tile: side of the tiles; the last ones are smaller.
        margin: pixels of surroundings on each side; fewer at the picture's borders, where a network that
            pads shall pad just as it does for the whole picture.

    Raises:
        ValueError: for a tile below 1 or a margin below 0.
    """
    if tile < 1 or margin < 0:
        raise ValueError(
            f"expected a tile of at least 1 and a margin of at least 0, got {tile} and {margin}."
        )
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            parts = (_along(top, height, tile, margin), _along(left, width, tile, margin))
            yield Window(*zip(*parts))


def _along(start: int, length: int, tile: int, margin: int) -> tuple[slice, slice, slice]:
    """`seen`, `tile` and `inside` of a `Window` along one axis."""
    end = min(start + tile, length)
    first = max(start - margin, 0)
    seen = slice(first, min(end + margin, length))
    return seen, slice(start, end), slice(start - first, end - first)


def in_tiles(
    function: Callable[..., np.ndarray],
    images: np.ndarray | Sequence[np.ndarray],
    *,
    tile: int,
    margin: int,
    scale: int | Fraction = 1,
    on_tile: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """`function(images)`, computed tile by tile into one array.

    Args:
        function: pictures (batch, height, width, channels) -> (batch, scale height, scale width, any).
        images: (batch, height, width, channels); or several such arrays that differ in channels at most,
            if `function` takes several.
        tile: side of the tiles, in input pixels. For a network with strides `tile` and `margin` are
            multiples of their product, as the sides of the pictures are.
        margin: how far around an output pixel `function` looks, in input pixels.
        scale: how much larger the results are, per side; 1 for the same size, Fraction(1, 2) for half of it.
        on_tile: called after each tile with the number of tiles done and that of all.

    Returns:
        (batch, scale height, scale width, channels of the results), in the results' dtype.

    Raises:
        ValueError: for a tile below 1 or a margin below 0, or if the results are not `scale` times as large.
    """
    inputs = [images] if isinstance(images, np.ndarray) else list(images)
    count, height, width, _ = inputs[0].shape
    places = list(windows(height, width, tile, margin))
    result = None
    for done, window in enumerate(places, 1):
        seen = [array[:, window.seen[0], window.seen[1]] for array in inputs]
        part = function(*seen)
        _check_size(part, seen[0], scale)
        if result is None:
            result = np.empty((count, *_sides(inputs[0], scale), part.shape[-1]), part.dtype)
        rows, columns = _scaled(window.inside, scale)
        target = _scaled(window.tile, scale)
        result[:, target[0], target[1]] = part[:, rows, columns]
        if on_tile is not None:
            on_tile(done, len(places))
    return result


def _check_size(part: np.ndarray, seen: np.ndarray, scale: int | Fraction) -> None:
    expected = _sides(seen, scale)
    if part.shape[1:3] != expected:
        raise ValueError(
            f"a tile of {seen.shape[1]}x{seen.shape[2]} pixels at scale {scale} should become "
            f"{expected[0]}x{expected[1]}, but became {part.shape[1]}x{part.shape[2]}: check scale=, and "
            "for a network with strides that tile= and margin= are multiples of their product."
        )


def _sides(images: np.ndarray, scale: int | Fraction) -> tuple[int, int]:
    return tuple(int(side * scale) for side in images.shape[1:3])


def _scaled(slices: Slices, scale: int | Fraction) -> Slices:
    return tuple(slice(int(part.start * scale), int(part.stop * scale)) for part in slices)
