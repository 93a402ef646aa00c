"""Large pictures through networks that normalise by the whole picture, in little memory and exactly.

Instance normalisation makes every pixel depend on all others, so tiles cannot be computed one after the
other from input to output: their statistics would differ, and their seams would show. But between two such
layers a network looks only a few pixels far. So it is cut into segments there (and where maps are joined or
used twice, as beside a residual block). Each segment goes over the whole picture tile by tile; then the
statistics of its result are those of the whole picture. What is kept in memory are the maps between
segments, of which a network in one piece holds several times as many.
"""

from __future__ import annotations

import functools
import math
import weakref
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_gan_zoo import tiling

#: Rows that are normalised at a time.
_ROWS = 64
#: Network -> its segments.
_NETWORKS: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def run_in_tiles(
    network: keras.Model,
    images: np.ndarray,
    tile: int = tiling.DEFAULT_TILE,
    on_tile: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """What `network` makes of pictures, at inference, up to rounding.

    Memory and time of one large picture are measured in `CycleGAN.translate`.

    Args:
        network: a fully convolutional Functional model with one input and one output. Layers that look at
            the whole picture are those with a method `scale_and_offset(mean, variance)`.
        images: (batch, height, width, channels), taken one by one; sides as the network needs them.
        tile: side of the tiles, in pixels of the pictures; fewer of a smaller map.
        on_tile: called after each tile with the number of tiles done and that of all.

    Returns:
        float32 (batch, rows, columns, channels).

    Raises:
        ValueError: for a tile below 1, or a network with several inputs or outputs.
    """
    if tile < 1:
        raise ValueError(f"expected a tile of at least 1 pixel, got {tile}.")
    if network not in _NETWORKS:
        _NETWORKS[network] = _segments(network)
    segments = _NETWORKS[network]
    parts = []
    for number, image in enumerate(images):
        count = _Count(number, len(images), on_tile)
        parts.append(_run(segments, np.asarray(image[None], "float32"), tile, count))
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


@dataclass(frozen=True, eq=False)
class _Segment:
    """Layers between maps that are kept.

    Attributes:
        nodes: the calls of layers, in order.
        inputs: the symbolic tensors that it begins with.
        output: the one that it ends with.
        name: under which the result is kept for others, that of the normalised map if there is a `norm`.
        norm: the normalisation of the result.
    """

    nodes: Sequence[Any]
    inputs: Sequence[Any]
    output: Any
    name: int
    norm: Any


class _Count:
    """Tiles done of all, over all segments of all pictures."""

    def __init__(self, number: int, num_images: int, on_tile: Callable[[int, int], None] | None):
        self._number, self._num_images, self._on_tile = number, num_images, on_tile
        self.total = self._done = 0

    def __call__(self, *_: int) -> None:
        self._done += 1
        if self._on_tile is not None:
            self._on_tile(self._number * self.total + self._done, self._num_images * self.total)


# -------------------------------------------------------------------- cutting a network


def _segments(network: keras.Model) -> list[_Segment]:
    """The network's segments in the order in which they can run."""
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise ValueError(f"{network.name} has several inputs or outputs and cannot run in tiles.")
    nodes = [n for depth in sorted(network._nodes_by_depth, reverse=True)
             for n in network._nodes_by_depth[depth] if not n.is_input]  # fmt: skip
    producers = {id(output): node for node in nodes for output in node.outputs}
    uses = Counter(id(tensor) for node in nodes for tensor in node.input_tensors)
    joined = {id(tensor) for node in nodes if len(node.input_tensors) > 1 for tensor in node.input_tensors}
    ends = {name for name, count in uses.items() if count > 1} | joined | {id(network.outputs[0])}
    kept = {id(network.inputs[0])}
    segments = []
    for node in nodes:
        norm = node.operation if hasattr(node.operation, "scale_and_offset") else None
        if norm is not None or id(node.outputs[0]) in ends:
            ending = node.input_tensors[0] if norm is not None else node.outputs[0]
            segments.append(_segment(ending, id(node.outputs[0]), norm, producers, kept))
            kept.add(id(node.outputs[0]))
    return segments


def _segment(output: Any, name: int, norm: Any, producers: Mapping[int, Any], kept: set[int]) -> _Segment:
    """What leads from kept maps to `output`."""
    nodes, inputs = [], {}

    def collect(tensor: Any) -> None:
        if id(tensor) in kept:
            inputs[id(tensor)] = tensor
        elif producers[id(tensor)] not in nodes:
            for source in producers[id(tensor)].input_tensors:
                collect(source)
            nodes.append(producers[id(tensor)])

    collect(output)
    return _Segment(nodes, tuple(inputs.values()), output, name, norm)


# -------------------------------------------------------------------- running the segments


def _run(segments: Sequence[_Segment], image: np.ndarray, tile: int, count: _Count) -> np.ndarray:
    first = segments[0].inputs[0]
    plans = _plans(segments, {id(first): image.shape}, tile)
    count.total = sum(plan.num_tiles for plan in plans)
    last_use = {id(t): k for k, segment in enumerate(segments) for t in segment.inputs}
    maps = {id(first): image}
    for k, (segment, plan) in enumerate(zip(segments, plans)):
        inputs = [maps[id(tensor)] for tensor in segment.inputs]
        result = tiling.in_tiles(
            functools.partial(_compute, segment), inputs,
            tile=plan.tile, margin=plan.margin, scale=plan.scale, on_tile=count,
        )  # fmt: skip
        maps[segment.name] = result if segment.norm is None else _normalized(result, segment.norm)
        del inputs
        maps = {name: m for name, m in maps.items() if last_use.get(name, len(segments)) > k}
    return maps[segments[-1].name]


def _compute(segment: _Segment, *tiles: np.ndarray) -> np.ndarray:
    """The segment's result for tiles of its inputs; each value goes once it has been used."""
    values = {id(symbol): tf.convert_to_tensor(tile) for symbol, tile in zip(segment.inputs, tiles)}
    for node in segment.nodes:
        arguments, keywords = node.arguments.fill_in(values)
        for symbol in node.input_tensors:
            del values[id(symbol)]
        values[id(node.outputs[0])] = node.operation(*arguments, **keywords)
    return np.asarray(values[id(segment.output)], "float32")


@dataclass(frozen=True)
class _Plan:
    """How a segment's tiles are cut: sides in pixels of its inputs, `scale` as for `in_tiles`."""

    tile: int
    margin: int
    scale: Fraction
    num_tiles: int


def _plans(segments: Sequence[_Segment], shapes: dict[int, tuple[int, ...]], tile: int) -> list[_Plan]:
    """One plan per segment, from the shape of the picture on."""
    plans, height = [], next(iter(shapes.values()))[1]
    for segment in segments:
        specs = {id(t): keras.KerasTensor(shapes[id(t)]) for t in segment.inputs}
        for node in segment.nodes:
            arguments, keywords = node.arguments.fill_in(specs)
            specs[id(node.outputs[0])] = node.operation.compute_output_spec(*arguments, **keywords)
        shapes[segment.name] = specs[id(segment.output)].shape
        size = shapes[id(segment.inputs[0])][1:3]
        plans.append(_plan(segment, specs, size, math.ceil(tile * size[0] / height)))
    return plans


def _plan(segment: _Segment, specs: Mapping[int, Any], size: tuple[int, int], tile: int) -> _Plan:
    margin, unit = 0, 1
    for node in segment.nodes:
        # Pixels of the segment's input per pixel of what this layer takes and of what it gives.
        steps = [Fraction(size[0], specs[id(t)].shape[1]) for t in (*node.input_tensors, *node.outputs)]
        margin += _reach(node.operation) * max(steps)
        unit = math.lcm(unit, *(math.ceil(step) for step in steps))
    tile, margin = (math.ceil(side / unit) * unit for side in (tile, margin))
    scale = Fraction(specs[id(segment.output)].shape[1], size[0])
    return _Plan(tile, margin, scale, math.ceil(size[0] / tile) * math.ceil(size[1] / tile))


def _reach(layer: Any) -> int:
    """At least as many pixels as a layer looks to each side."""
    window = getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", None) or (1,)
    return max(window) * max(getattr(layer, "dilation_rate", None) or (1,))


def _normalized(maps: np.ndarray, norm: Any) -> np.ndarray:
    """Maps (1, height, width, channels) normalised by their own statistics, in place."""
    mean = _mean(maps, lambda rows: rows)
    variance = _mean(maps, lambda rows: np.square(rows - mean))
    scale, offset = (np.asarray(value) for value in norm.scale_and_offset(mean, variance))
    for rows in _rows(maps):
        rows *= scale
        rows += offset
    return maps


def _mean(maps: np.ndarray, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Mean of a function of the pixels per channel, float32 (channels,)."""
    total = sum(function(rows).sum((0, 1, 2), dtype="float64") for rows in _rows(maps))
    return (total / (maps.shape[1] * maps.shape[2])).astype("float32")


def _rows(maps: np.ndarray) -> list[np.ndarray]:
    return [maps[:, start : start + _ROWS] for start in range(0, maps.shape[1], _ROWS)]
