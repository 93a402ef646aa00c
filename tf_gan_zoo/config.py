"""Typed configs: a frozen dataclass per model holds the paper's defaults; all else only overrides it."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
import reprlib
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import Field, TypeAdapter, ValidationError

from tf_gan_zoo.paths import expand

ConfigT = TypeVar("ConfigT", bound="Config")

#: Floats reach networks as float32, sizes and counts as 32-bit integers.
_LARGEST_FLOAT, _LARGEST_INT = 3.4e38, 2**31 - 1
PositiveInt = Annotated[int, Field(gt=0, le=_LARGEST_INT)]
NonNegativeInt = Annotated[int, Field(ge=0, le=_LARGEST_INT)]
PositiveFloat = Annotated[float, Field(gt=0)]
#: One side of a square picture, or (height, width), in pixels.
ImageSize = PositiveInt | tuple[PositiveInt, PositiveInt]
#: Colour channels of a picture: gray or RGB.
Channels = Literal[1, 3]
NonNegativeFloat = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
#: A decay rate, a moment of Adam or a dropout rate, which 1 would stop or empty.
Decay = Annotated[float, Field(ge=0, lt=1)]
#: How often a network halves its images: sides have at most 31 bits.
Halvings = Annotated[int, Field(gt=0, le=31)]
#: How often a network repeats a block, or a step an update: each is built, so there are few.
Repeats = Annotated[int, Field(gt=0, le=100)]
__all__ = [
    "Channels", "Config", "ConfigError", "Decay", "Fraction", "Halvings", "ImageSize", "NonNegativeFloat",
    "NonNegativeInt", "PositiveFloat", "PositiveInt", "Repeats", "check_recipe_name", "closest",
    "height_width", "is_recipe_name", "load_yaml", "parse_settings", "read_yaml", "shortened",
]  # fmt: skip


class ConfigError(ValueError):
    """A config field that does not exist, has the wrong type or cannot work."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Fields every model has. A subclass adds the model's own, with the paper's values as defaults.

    Attributes:
        data: dataset address, as `zoo.load_dataset` takes it, e.g. "glyphs" or "folder:pictures".
        data_options: keywords for `zoo.load_dataset`.
        epochs: passes over the data.
        steps_per_epoch: training steps in an epoch; None takes the data set's own size.
        batch_size: examples in a global batch (over all replicas).
        seed: seeds initial weights, data order and every random draw; 0 to 2**31 - 1.
        precision: Keras dtype policy of all networks.
        sync_batch_norm: batch normalisation over the global batch instead of each replica's part.
        schedule_steps: training steps that learning-rate schedules last; None takes the length of the run,
            `epochs` x `steps_per_epoch` or what `fit` does.
        accumulation_steps: training steps whose gradients become one update; `batch_size` times this is the
            batch that the optimizers see. Schedules and `total_steps` still count training steps.
    """

    data: str = "glyphs"
    data_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    epochs: PositiveInt = 1
    steps_per_epoch: PositiveInt | None = None
    batch_size: PositiveInt = 64
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    sync_batch_norm: bool = False
    schedule_steps: PositiveInt | None = None
    accumulation_steps: PositiveInt = 1

    def __post_init__(self) -> None:
        for name in self.field_names():
            object.__setattr__(self, name, self._checked(name, getattr(self, name)))
        self.validate()

    def validate(self) -> None:
        """Checks that need several fields; a subclass raises `ConfigError` here."""

    @classmethod
    def field_names(cls) -> list[str]:
        return [field.name for field in dataclasses.fields(cls)]

    @classmethod
    def from_dict(cls: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
        """A config from a mapping of overrides.

        Raises:
            ConfigError: for an unknown field or a value of the wrong type.
        """
        cls._check_names(values)
        return cls(**values)

    def replace(self: ConfigT, **overrides: Any) -> ConfigT:
        """A copy with some fields changed; same errors as `from_dict`."""
        self._check_names(overrides)
        return dataclasses.replace(self, **overrides)

    def to_dict(self) -> dict[str, Any]:
        """Plain values (tuples become lists), ready for YAML and JSON."""
        return {name: _plain(getattr(self, name)) for name in self.field_names()}

    @property
    def has_length(self) -> bool:
        """Whether the config says how long training lasts (`total_steps`)."""
        return self.schedule_steps is not None or self.steps_per_epoch is not None

    @property
    def total_steps(self) -> int:
        """Training steps that learning-rate schedules are measured in: those of the whole run.

        Raises:
            ConfigError: if neither `schedule_steps` nor `steps_per_epoch` is set.
        """
        if self.schedule_steps is not None:
            return self.schedule_steps
        if self.steps_per_epoch is None:
            raise ConfigError(
                f"{type(self).__name__}: this schedule needs steps_per_epoch, which is None. "
                "Set steps_per_epoch to the number of training steps in an epoch."
            )
        return self.epochs * self.steps_per_epoch

    @classmethod
    def _check_names(cls, values: Mapping[str, Any]) -> None:
        known = cls.field_names()
        for name in values:
            if name not in known:
                raise ConfigError(
                    f"{cls.__name__} has no field {name!r}.{closest(name, known)} "
                    f"Valid fields: {', '.join(known)}."
                )

    @classmethod
    def _checked(cls, name: str, value: Any) -> Any:
        try:
            checked = _adapters(cls)[name].validate_python(_tuples(value), strict=True)
            problem = "" if _fits(checked) else "Input should be finite and fit into 32 bits"
        except ValidationError as error:
            problem = "; ".join(sorted({item["msg"] for item in error.errors()}))
        except RecursionError:
            problem = "Input is nested too deeply"
        if problem:
            raise ConfigError(
                f"{cls.__name__}.{name}: {shortened(problem, str)} (got {shortened(value)}, expected "
                f"{cls._type_of(name)}). Valid fields: {', '.join(cls.field_names())}."
            )
        return checked

    @classmethod
    def _type_of(cls, name: str) -> str:
        return next(str(field.type) for field in dataclasses.fields(cls) if field.name == name)


@functools.cache
def _adapters(cls: type[Config]) -> dict[str, TypeAdapter]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {name: TypeAdapter(hints[name]) for name in cls.field_names()}


def _tuples(value: Any) -> Any:
    """YAML and JSON know lists only; configs hold tuples."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _fits(value: Any) -> bool:
    """Whether every number in a value fits into float32 or a 32-bit integer."""
    if isinstance(value, Mapping):
        return all(_fits(item) for item in value.values())
    if isinstance(value, (tuple, list)):
        return all(_fits(item) for item in value)
    if isinstance(value, int):
        return abs(value) <= _LARGEST_INT
    return not isinstance(value, float) or abs(value) <= _LARGEST_FLOAT


def shortened(value: Any, text: typing.Callable[[Any], str] = reprlib.repr) -> str:
    """A value as an error may show it: at most 200 characters, whatever its size."""
    try:
        shown = text(value)
    except ValueError:  # Python does not print an integer of more than 4,300 digits
        return f"a value of type {type(value).__name__} that is too long to print"
    return shown if len(shown) <= 200 else f"{shown[:197]}..."


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def closest(name: str, known: typing.Iterable[str]) -> str:
    """' Did you mean ...?' with the names most like `name`, or an empty string."""
    near = difflib.get_close_matches(str(name), list(known), n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(item) for item in near)}?" if near else ""


_RECIPE_NAME = re.compile(r"[A-Za-z0-9_]\w*(\.\w+)*", re.ASCII)


def is_recipe_name(name: Any) -> bool:
    """Whether a name may be a model's or recipe's, which become part of files' names."""
    return isinstance(name, str) and len(name) <= 100 and bool(_RECIPE_NAME.fullmatch(name))


def check_recipe_name(name: Any) -> str:
    """The name, if it may be a model's or recipe's.

    Raises:
        ConfigError: for any other, such as one that would lead out of a folder.
    """
    if is_recipe_name(name):
        return name
    raise ConfigError(
        f"{str(name)[:100]!r} is not a name for a recipe: expected letters, digits and underscores in parts "
        "joined by dots, at most 100 characters, such as dcgan.fashion_mnist."
    )


def height_width(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of an `ImageSize`."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def num_halvings(size: int | tuple[int, int], smallest: int = 4) -> int:
    """How often both sides of an `ImageSize` can be halved without falling below `smallest` pixels."""
    sides, count = height_width(size), 0
    while all(side % 2 == 0 and side >= 2 * smallest for side in sides):
        sides, count = tuple(side // 2 for side in sides), count + 1
    return count


#: Values that a document may have, each alias counted as what it stands for.
_MAX_VALUES = 10_000


class _Loader(yaml.SafeLoader):
    """Reads 1e-4 as a number, where YAML 1.1 wants a dot in it; refuses what would be lost or grow.

    A key that stands twice in a mapping is an error that names both lines, and so is a document whose
    aliases stand for more than 10,000 values, or for themselves.
    """

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _count_values(node, {}, set())
            _refuse_repeated_keys(node)
        return node


def _count_values(node: yaml.Node, counts: dict[yaml.Node, int], above: set[yaml.Node]) -> int:
    """How many values a node stands for, its aliases followed.

    Raises:
        yaml.MarkedYAMLError: if they are too many, or it contains itself.
    """
    if node not in counts:
        if node in above:
            raise _refusal("an alias that stands for itself", node)
        children = () if isinstance(node, yaml.ScalarNode) else _children(node)
        counts[node] = 1 + sum(_count_values(child, counts, above | {node}) for child in children)
        if counts[node] > _MAX_VALUES:
            raise _refusal(f"more than {_MAX_VALUES:,} values (aliases count as what they stand for)", node)
    return counts[node]


def _children(node: yaml.Node) -> list[yaml.Node]:
    """The nodes directly below a mapping or a sequence."""
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return node.value


def _refuse_repeated_keys(node: yaml.Node) -> None:
    if isinstance(node, yaml.MappingNode):
        first: dict[str, yaml.Node] = {}
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if name and name in first:
                lines = f"lines {first[name].start_mark.line + 1} and {key.start_mark.line + 1}"
                raise _refusal(f"the key {shortened(name)} twice, in {lines}; keep one of them", key)
            first[name] = key
    if not isinstance(node, yaml.ScalarNode):
        for child in _children(node):
            _refuse_repeated_keys(child)


def _refusal(what: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=f"it has {what}", problem_mark=node.start_mark)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Reads a YAML mapping.

    Raises:
        ConfigError: if the file is not a mapping of field names to values.
    """
    try:
        values = read_yaml(expand(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path} is not valid YAML: {shortened(error, str)}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of field names to values, got {shortened(values)}.")
    return values


def read_yaml(text: str) -> Any:
    """The value that a YAML text stands for: plain values only.

    Raises:
        ConfigError: for a text that is not YAML, names a key twice, or grows beyond 10,000 values.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        context = f"{error.context}: " if error.context else ""
        raise ConfigError(shortened(f"{context}{error.problem}{where}", str)) from None
    except yaml.YAMLError as error:
        raise ConfigError(shortened(" ".join(str(error).split()), str)) from None
    except (RecursionError, ValueError, OverflowError, TypeError) as error:
        raise ConfigError(f"{type(error).__name__}: {shortened(error, str)}") from None


def parse_settings(settings: typing.Iterable[str]) -> dict[str, Any]:
    """Turns ["epochs=2", "image_size=[32, 48]"] into a dict; values are read as YAML.

    Raises:
        ConfigError: for a setting that is not NAME=VALUE.
    """
    values = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"expected NAME=VALUE, got {setting!r}, e.g. epochs=2.")
        try:
            values[name.strip()] = read_yaml(text)
        except ConfigError:
            raise ConfigError(
                f"{name.strip()}: {shortened(text)} is not a value that YAML can read."
            ) from None
    return values
