"""The one list of models: name -> class, task, paper. It imports no model; models register themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import keras

from tf_gan_zoo.config import Config, closest

TASKS = (
    "generation", "translation", "super_resolution", "text_to_image", "music", "text",
    "face", "pose", "shape_3d", "refinement", "features",
)  # fmt: skip


@dataclass(frozen=True)
class Paper:
    """Where a model comes from; `arxiv` is the identifier, e.g. "1511.06434", `url` an address for others."""

    title: str
    authors: str
    year: int
    arxiv: str | None = None
    url: str | None = None

    @property
    def link(self) -> str | None:
        """Address of the paper."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else self.url


@dataclass(frozen=True)
class ModelSpec:
    """One registered model.

    Attributes:
        name: registry name, which is also the module's name.
        cls: the `GAN` subclass.
        tasks: one or more of `TASKS`.
        paper: its source.
        tiny: config overrides that make the smallest working network, for tests and trials.
    """

    name: str
    cls: type
    tasks: tuple[str, ...]
    paper: Paper
    tiny: Mapping[str, Any] = field(default_factory=dict)

    @property
    def config_cls(self) -> type[Config]:
        return self.cls.config_cls


_SPECS: dict[str, ModelSpec] = {}


def register(
    name: str, *, task: str | tuple[str, ...], paper: Paper, tiny: Mapping[str, Any] | None = None
) -> Callable[[type], type]:
    """Class decorator that adds a `GAN` subclass to the zoo and to Keras's serialisation registry.

    Raises:
        ValueError: for an unknown task or a name that is taken.
    """
    tasks = (task,) if isinstance(task, str) else tuple(task)
    for item in tasks:
        if item not in TASKS:
            raise ValueError(f"unknown task {item!r}.{closest(item, TASKS)} Tasks: {', '.join(TASKS)}.")

    def add(cls: type) -> type:
        if name in _SPECS and _SPECS[name].cls.__qualname__ != cls.__qualname__:
            raise ValueError(f"the name {name!r} is taken by {_SPECS[name].cls.__name__}.")
        cls = keras.saving.register_keras_serializable("tf_gan_zoo")(cls)
        cls.zoo_name = name
        _SPECS[name] = ModelSpec(name, cls, tasks, paper, dict(tiny or {}))
        return cls

    return add


def get_spec(name: str) -> ModelSpec:
    """The spec registered under `name`.

    Raises:
        KeyError: for an unknown name, with the closest known ones.
    """
    if name not in _SPECS:
        raise UnknownNameError(
            f"no model named {name!r}.{closest(name, _SPECS)} Models: {', '.join(names())}."
        )
    return _SPECS[name]


class UnknownNameError(KeyError, ValueError):
    """A model, recipe or dataset name that does not exist."""

    def __str__(self) -> str:  # KeyError would show the message in quotes
        return str(self.args[0])


def names(task: str | None = None) -> list[str]:
    """Sorted names of the models registered so far, of one task or of all, without names that begin with _.

    Raises:
        UnknownNameError: for an unknown task, which is a ValueError.
    """
    if task is not None and task not in TASKS:
        raise UnknownNameError(f"unknown task {task!r}.{closest(task, TASKS)} Tasks: {', '.join(TASKS)}.")
    shown = {n: spec for n, spec in _SPECS.items() if not n.startswith("_")}
    return sorted(n for n, spec in shown.items() if task is None or task in spec.tasks)
