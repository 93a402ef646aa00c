"""A network in the place of another one with equal inputs and outputs: checks, names, descriptions."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import tensorflow as tf

from tf_gan_zoo.fetch import WeightsError

Architecture = list[str]
#: Settings of layers that say how they begin or what they are called, not what they compute.
_NO_ARCHITECTURE = re.compile(r"name|trainable|dtype|seed|.*_initializer|.*_regularizer")


# -------------------------------------------------------------------- what may take a network's place


def fitted(network: Any, stock: keras.Model, name: str, others: Mapping[str, keras.Model]) -> keras.Model:
    """`network` as a model can use it in the place of `stock`: Functional, with the stock network's names.

    Args:
        network: a built Functional or Sequential model; a Sequential one becomes a Functional of its layers.
        stock: the network that it replaces, whose inputs and outputs it must have.
        name: the name of the network in the model.
        others: the model's other networks.

    Raises:
        TypeError: for anything else than a built Functional or Sequential model.
        ValueError: for other inputs or outputs, naming both shapes, or variables of another network.
    """
    network = _as_functional(network, name)
    for kind in ("inputs", "outputs"):
        wanted, came = (_layout(getattr(n, kind.removesuffix("s"))) for n in (stock, network))
        if wanted != came:
            raise ValueError(f"{name}: expected the {kind} {_shown(wanted)}, got {_shown(came)}.")
    _check_variables(network, name, others)
    _adopt_names(network, stock, name)
    return network


def _as_functional(network: Any, name: str) -> keras.Model:
    if isinstance(network, keras.Sequential) and network.built:
        return keras.Model(network.inputs[0], network.outputs[0], name=network.name)
    if "Functional" in (cls.__name__ for cls in type(network).__mro__):
        return network
    advice = "Join a layer or model of another kind to an input: keras.Model(inputs, network(inputs))."
    if isinstance(network, keras.Sequential):
        advice = "It is not built: let it begin with keras.Input(shape)."
    raise TypeError(
        f"{name}: expected a Functional or a built Sequential keras.Model, got {type(network).__name__}. "
        f"{advice}"
    )


def _layout(tensors: Any) -> Any:
    """Shape and dtype of each tensor, in the structure in which the network takes or gives them."""
    if isinstance(tensors, (list, tuple)) and len(tensors) > 1:
        return [_layout(tensor) for tensor in tensors]
    if isinstance(tensors, Mapping):
        return {key: _layout(tensor) for key, tensor in sorted(tensors.items())}
    if isinstance(tensors, (list, tuple)):
        return [_layout(tensors[0])]
    return f"{tuple(tensors.shape)} {tensors.dtype}"


def _shown(layout: Any) -> str:
    return str(layout).replace("'", "")


def _check_variables(network: keras.Model, name: str, others: Mapping[str, keras.Model]) -> None:
    """A player updates its own networks only, in the scope that the model was built in."""
    own, strategy = {id(v) for v in network.variables}, tf.distribute.get_strategy()
    for other, its in others.items():
        if own & {id(v) for v in its.variables}:
            raise ValueError(f"{name}: it shares variables with {other!r}. Give it layers of its own.")
    created = strategy.extended.variable_created_in_scope
    if not all(created(v.value) for v in network.variables):
        raise ValueError(
            f"{name}: its variables do not belong to the model's distribution strategy. Build it, and put it "
            "in its place, inside of `with strategy.scope():`."
        )
    regular = [v.path for v in network.variables if v.regularizer is not None]
    regular += [layer.name for layer in network._flatten_layers() if layer.activity_regularizer is not None]
    if regular:
        warnings.warn(
            f"{name}: the regularizer of {regular[0]} has no effect, as the model's losses are those of its "
            "paper. Use weight_decay= of the player's optimizer.", stacklevel=5,
        )  # fmt: skip


def _adopt_names(network: keras.Model, stock: keras.Model, name: str) -> None:
    """Inputs and outputs are called as in the stock network, as exports and endpoints know them."""
    for tensor, wanted in zip(network.inputs, stock.inputs):
        _rename(network, tensor._keras_history.operation, wanted.name, stock, name)
        tensor.name = wanted.name
    pairs = [
        (own._keras_history.operation, wanted._keras_history.operation)
        for own, wanted in zip(network.outputs, stock.outputs)
    ]
    for own, wanted in pairs:
        if not _named_by_keras(wanted) and len({id(w) for o, w in pairs if o is own}) == 1:
            _rename(network, own, wanted.name, stock, name)
    network.output_names = [own.name for own, _ in pairs]


def _named_by_keras(layer: keras.layers.Layer) -> bool:
    kind = re.sub(r"\W|_", "", type(layer).__name__).lower()
    return re.sub(r"_\d+$", "", layer.name).replace("_", "").lower() == kind


def _rename(
    network: keras.Model, layer: keras.layers.Layer, wanted: str, stock: keras.Model, name: str
) -> None:  # fmt: skip
    for other in network.layers:
        if other.name == wanted and other is not layer:
            if other not in stock.layers:  # else the stock network, which ends here, has been prolonged
                raise ValueError(
                    f"{name}: one of its inner layers is called {wanted!r}, as an input or output has to be. "
                    "Call it otherwise."
                )
            other.name = f"{wanted}_inner"
    layer.name = wanted


# -------------------------------------------------------------------- what tells networks apart


def describe(network: keras.Model) -> Architecture:
    """A line for each layer: its class, its settings, and the numbers of the layers that it reads."""
    return _described(network.get_config())


def difference(theirs: Architecture, ours: Architecture) -> str:
    """Where two networks first differ; empty if they compute the same from equal weights."""
    for index in range(max(len(theirs), len(ours))):
        came, own = ((*lines[index : index + 1], "no layer")[0] for lines in (theirs, ours))
        if came != own:
            return f"layer {index} is {came[:200]} in the file and {own[:200]} in the model"
    return ""


def check_same(stock: Mapping[str, Architecture], networks: Mapping[str, keras.Model], saved: Any) -> None:
    """Checks that weights come from networks like the model's, where either side has replaced some.

    Args:
        stock: the stock architecture of each network that the model has replaced.
        networks: all networks of the model.
        saved: name -> architecture of each network that was replaced where the weights come from.

    Raises:
        WeightsError: for a network of another architecture, with the first difference.
    """
    for name in [n for n in networks if n in stock or n in saved]:
        ours = describe(networks[name])
        if different := difference(saved.get(name) or stock[name], ours):
            own = [f"{name} is replaced in the {where}" for where, names in
                   (("file", saved), ("model", stock)) if name in names]  # fmt: skip
            raise WeightsError(
                f"the weights are of another {name}: {different} ({' and '.join(own)}). Put the same network "
                f"in its place first: model.{name} = ..., or get(..., networks={{{name!r}: ...}})."
            )


def check_savable(network: keras.Model, name: str) -> None:
    """Raises ValueError for a network that `load` would refuse, as it holds code."""
    for layer in network._flatten_layers():
        if isinstance(layer, keras.layers.Lambda) and getattr(layer.function, "__name__", "") == "<lambda>":
            raise ValueError(
                f"{name}: its layer {layer.name!r} holds the code of a Python lambda, which load() refuses. "
                "Make it a layer class with get_config, or save the weights only: "
                "model.save_weights('x.weights.h5')."
            )


def _described(config: Mapping[str, Any]) -> Architecture:
    indices = {item["config"]["name"]: index for index, item in enumerate(config["layers"])}
    lines = []
    for item in config["layers"]:
        inputs = ", ".join(_arguments(item.get("inbound_nodes", []), indices))
        lines.append(f"{_kind(item)}({_settings(item['config'])}) of [{inputs}]")
    return [*lines, f"outputs {', '.join(_arguments(config.get('output_layers', []), indices))}"]


def _kind(item: Mapping[str, Any]) -> str:
    return item.get("registered_name") or item["class_name"]


def _settings(config: Mapping[str, Any]) -> str:
    if config.get("layers") and isinstance(config["layers"][0], Mapping):  # a network within
        return "; ".join(_described(config))
    kept = {k: v for k, v in config.items() if not _NO_ARCHITECTURE.fullmatch(k) and v is not None}
    return ", ".join(f"{key}={_plain(value)}" for key, value in sorted(kept.items()))


def _plain(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
    if "class_name" not in value:
        return f"({_settings(value)})"
    config = value.get("config")
    return f"{_kind(value)}({_settings(config)})" if isinstance(config, Mapping) else str(config)


def _arguments(value: Any, indices: Mapping[str, int]) -> Iterator[str]:
    """What a layer is called with: tensors as LAYER.OUTPUT by their numbers, all else as it is."""
    if isinstance(value, Mapping):
        tensor = value.get("class_name") == "__keras_tensor__"
        items = [value["config"]["keras_history"]] if tensor else value.values()
        for item in items:
            yield from _arguments(item, indices)
    elif isinstance(value, (list, tuple)):
        if len(value) == 3 and isinstance(value[0], str) and value[0] in indices:
            yield f"{indices[value[0]]}.{value[2]}"
        else:
            for item in value:
                yield from _arguments(item, indices)
    elif value is not None:
        yield str(value)
