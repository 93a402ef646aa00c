"""How large a model will be, told from its config before a weight is made, and a guard against typing errors.

The networks are built without values: Keras then knows every shape and takes no memory. What training needs
at least is the weights, a gradient and two moments for each, and one batch of every layer's output; real
steps need more. A config that already at that needs more than the machine has is refused.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import psutil
import tensorflow as tf

from tf_gan_zoo import fitting
from tf_gan_zoo.config import Config, ConfigError

if TYPE_CHECKING:
    from tf_gan_zoo.gan import GAN

#: Weight, gradient and two moments of Adam, each in float32.
_BYTES_PER_PARAMETER = 4 * 4
#: Fields that make a run longer and not its networks larger.
_OF_RUNS = frozenset(Config.field_names()) - {"batch_size"}


@dataclass(frozen=True)
class Size:
    """What a config leads to.

    Attributes:
        parameters: network name -> number of weights, trained or not.
        activations: numbers in one batch of all layers' outputs, as far as their shapes are known.
    """

    parameters: Mapping[str, int]
    activations: int

    @property
    def training_bytes(self) -> int:
        """Bytes that a training step needs at least."""
        return sum(self.parameters.values()) * _BYTES_PER_PARAMETER + 4 * self.activations


def estimate(cls: type[GAN], config: Config) -> Size:
    """The size of a model of this class and config; no weights are made."""
    model = cls.__new__(cls)  # for `build_networks`, which needs the config alone
    object.__setattr__(model, "config", config)
    # Outside of eager execution initial values are recipes that nobody follows.
    conditions = fitting.initial_conditions(config.precision, config.seed)
    with tf.Graph().as_default(), keras.StatelessScope(), conditions:
        networks = model.build_networks(config)
        parameters = {
            name: sum(math.prod(variable.shape) for variable in network.variables)
            for name, network in networks.items()
        }
        layers = [n for network in networks.values() for n in network._flatten_layers(include_self=False)]
        numbers = sum(map(_numbers, layers))
    return Size(parameters, config.batch_size * numbers)


def _numbers(layer: keras.Layer) -> int:
    """Numbers of one example in a layer's outputs; sides that may be any count as 1."""
    with contextlib.suppress(AttributeError, ValueError):  # never called, or called more than once
        outputs = layer.output if isinstance(layer.output, (list, tuple)) else [layer.output]
        return sum(math.prod(side or 1 for side in output.shape[1:]) for output in outputs)
    return 0


def require_fits(cls: type[GAN], config: Config) -> None:
    """Refuses a config whose training needs more memory than the machine has.

    Configs within the paper's sizes are not estimated, which would take as long as building them.

    Raises:
        ConfigError: with the numbers.
    """
    if _is_allowed() or not _is_beyond(config, type(config)()):
        return
    size, memory = estimate(cls, config), psutil.virtual_memory().total
    if size.training_bytes > memory:
        networks = ", ".join(f"{name} {count:,}" for name, count in size.parameters.items())
        raise ConfigError(
            f"{type(config).__name__}: training would take at least {size.training_bytes / 2**30:,.0f} GiB "
            f"({networks} weights; batches of {config.batch_size}), and this machine has "
            f"{memory / 2**30:,.0f} GiB. Use smaller values, or allow it: --allow-large, "
            "zoo.get(allow_large=True), or ZOO_ALLOW_LARGE=1."
        )


def _is_beyond(config: Config, paper: Config) -> bool:
    """Whether some whole number of a config is larger than the paper's."""
    fields = [name for name in config.field_names() if name not in _OF_RUNS]
    return any(_largest(getattr(config, name)) > _largest(getattr(paper, name)) for name in fields)


def _largest(value: Any) -> int:
    if isinstance(value, (tuple, list)):
        return max([_largest(item) for item in value], default=0)
    return value if isinstance(value, int) else 0


def _is_allowed() -> bool:
    return os.environ.get("ZOO_ALLOW_LARGE", "").lower() not in ("", "0", "false", "no")


@contextlib.contextmanager
def allowing_large(allow: bool = True) -> Iterator[None]:
    """Inside, configs of any size are built."""
    before = os.environ.get("ZOO_ALLOW_LARGE")
    if allow:
        os.environ["ZOO_ALLOW_LARGE"] = "1"
    try:
        yield
    finally:
        if allow:
            os.environ.pop("ZOO_ALLOW_LARGE")
            if before is not None:
                os.environ["ZOO_ALLOW_LARGE"] = before
