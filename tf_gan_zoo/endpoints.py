"""What a model offers to other programs: networks with named inputs and outputs, by signature name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Range = tuple[float, float]


@dataclass(frozen=True)
class Endpoint:
    """One network as other programs call it; runs in every export format.

    Attributes:
        network: a Functional model; its inputs and outputs give the names.
        pictures: name of each input or output that is a picture -> its value range, low and high.
        fields: name of an input -> name of the `batch_spec` field that it takes, where they differ.
        clip: outputs that are pictures are cut off at the ends of their range.
        multiple_of: height and width of input pictures must be multiples of this many pixels.
        notes: name of an input or output -> what a caller must know of it.
    """

    network: keras.Model
    pictures: Mapping[str, Range] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    clip: bool = False
    multiple_of: int = 1
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def input_names(self) -> list[str]:
        return [tensor.name for tensor in self.network.inputs]

    @property
    def output_names(self) -> list[str]:
        return list(self.network.output_names)

    def run(
        self, inputs: Mapping[str, tf.Tensor], network: keras.Model | None = None
    ) -> dict[str, tf.Tensor]:
        """Outputs by name, float32.

        Args:
            inputs: tensors by name, pictures in their float ranges.
            network: an equal form of the network to run instead.
        """
        network = network or self.network
        arguments = keras.tree.map_structure(lambda tensor: inputs[tensor.name], network.input)
        outputs = keras.tree.flatten(network(arguments, training=False))
        named = dict(zip(self.output_names, outputs))
        if self.clip:
            clipped = {n: tf.clip_by_value(named[n], *r) for n, r in self.pictures.items() if n in named}
            named.update(clipped)
        return named


@dataclass(frozen=True)
class ServingFunction:
    """A function that only a SavedModel can hold: it draws random numbers or reads strings.

    Attributes:
        function: takes the inputs as keywords and returns outputs by name.
        inputs: the inputs' types, in order.
        pictures: outputs that are pictures -> value range.
        examples: the inputs of one call to check the export with.
    """

    function: Callable[..., dict[str, tf.Tensor]]
    inputs: tuple[tf.TensorSpec, ...]
    pictures: Mapping[str, Range]
    examples: Mapping[str, Any]


def smooth_pictures(shape: tuple[int, int, int, int], value_range: Range, seed: int) -> np.ndarray:
    """Clouds of colour with some grain, float32 (count, height, width, channels) in the range."""
    (count, *size, channels), (low, high) = shape, value_range
    rng = np.random.default_rng(seed)
    clouds = tf.image.resize(rng.uniform(0, 1, (count, 4, 4, channels)), size, "bicubic").numpy()
    grainy = clouds + rng.normal(0, 0.05, clouds.shape)
    return (low + (high - low) * np.clip(grainy, 0, 1)).astype("float32")
