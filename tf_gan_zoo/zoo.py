"""Models by name: `get`, `info`, `list_models`, `list_recipes`, `strategy`."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tf_gan_zoo.models  # noqa: F401  (registers every model)
from tf_gan_zoo import checkpoints, registry, sizing
from tf_gan_zoo.config import Config, closest, load_yaml
from tf_gan_zoo.fetch import WeightsError
from tf_gan_zoo.gan import GAN
from tf_gan_zoo.paths import expand_unless_address
from tf_gan_zoo.registry import Paper, UnknownNameError

#: Where an unfinished run keeps its state.
_LATEST = Path("checkpoints", "latest.weights.h5")
#: Recipes lie beside the package, in a checkout as in an installation.
RECIPE_DIR = Path(__file__).resolve().parent.parent / "zoo_configs"


@dataclass(frozen=True)
class Info:
    """What the zoo knows of one model.

    Attributes:
        name: registry name.
        task: the model's main task; `tasks` has them all.
        paper: title, authors, year and arXiv identifier.
        recipes: names that `get` takes, trained or ready to train.
        networks: network name -> number of trainable weights at paper size.
        config: the paper's config.
    """

    name: str
    tasks: tuple[str, ...]
    paper: Paper
    recipes: tuple[str, ...]
    networks: Mapping[str, int]
    config: Config

    @property
    def task(self) -> str:
        return self.tasks[0]


def list_models(task: str | None = None) -> list[str]:
    """Sorted names of all models, or of those for one task.

    Raises:
        ValueError: for an unknown task, naming the known ones.
    """
    return registry.names(task)


def list_recipes(model: str | None = None) -> list[str]:
    """Sorted names of all recipes, or of one model's."""
    stems = sorted(path.stem for path in RECIPE_DIR.glob("*.yaml"))
    return [stem for stem in stems if model is None or stem.split(".")[0] == model]


def info(name: str) -> Info:
    """The facts of one model; it is built once at paper size to count its weights.

    Raises:
        UnknownNameError: for an unknown name, with the closest ones.
    """
    spec = registry.get_spec(name)
    config = spec.config_cls()
    networks = {
        key: sum(int(tf.size(v)) for v in network.trainable_variables)
        for key, network in spec.cls(config).networks.items()
    }
    return Info(name, spec.tasks, spec.paper, tuple(list_recipes(name)), networks, config)


def resolve(name: str, overrides: Mapping[str, Any] | None = None) -> tuple[registry.ModelSpec, Config]:
    """The spec and config behind a model's or recipe's name: dataclass < YAML < overrides.

    Raises:
        UnknownNameError: for a name that does not exist, with the closest ones.
        ConfigError: for a field that does not exist or a value of the wrong type.
    """
    model, dot, _ = name.partition(".")
    path = RECIPE_DIR / f"{name}.yaml"
    if dot and not path.is_file():
        known = [*list_recipes(), *list_models()]
        raise UnknownNameError(
            f"no recipe named {name!r}.{closest(name, known)} Recipes: {', '.join(list_recipes())}."
        )
    spec = registry.get_spec(model)
    recipe = load_yaml(path) if dot else {}
    return spec, spec.config_cls.from_dict({**recipe, **(overrides or {})})


def get(
    name: str, weights: str | Path | None = None, *, networks: Mapping[str, keras.Model] | None = None,
    allow_large: bool = False, **overrides: Any,
) -> GAN:  # fmt: skip
    """A compiled model, ready for `fit`.

    Args:
        name: a model ("cyclegan": the paper's config) or a recipe ("dcgan.fashion_mnist").
        weights: None for fresh weights, "pretrained" for the recipe's published ones, the path of a weights
            file, run folder or release folder, or an address (https, file, gs, hf), best with its digest:
            "https://host/file.npz#sha256=...".
        networks: network name -> one of your own to take its place, with equal inputs and outputs; see
            `GAN.replace_network`.
        allow_large: build it even if its training needs more memory than the machine has.
        **overrides: config fields.

    Raises:
        UnknownNameError: for a name that does not exist, with the closest ones.
        ConfigError: for a field that does not exist, a value of the wrong type, or a model that is too large.
        WeightsError: if the weights cannot be had, are damaged or do not fit.
        ValueError, TypeError: for a network that does not fit.
    """
    spec, config = resolve(name, overrides)
    with sizing.allowing_large(allow_large):
        model = spec.cls(config)
    for network_name, network in (networks or {}).items():
        model.replace_network(network_name, network)
    model.compile()
    if weights is not None:
        from tf_gan_zoo import weights as weights_module

        weights_module.load(model, name, weights)
    return model


def load(path: str | Path, *, custom_objects: Mapping[str, Any] | None = None) -> GAN:
    """A model saved with `model.save(path)`: networks, optimizers, seeds and the step.

    `keras.models.load_model` does the same where the zoo's models have been imported.

    Args:
        path: the .keras file, or the folder of a finished run.
        custom_objects: name -> class of layers that are not registered with Keras, where a network of one's
            own holds some.

    Raises:
        WeightsError: if there is no such file, it is damaged, or it is of another kind, saying what reads it;
            if it holds Python code, which Keras's safe mode does not run, a class that is neither registered
            nor among `custom_objects`, or weights that are not finite.
    """
    path = expand_unless_address(path)
    path = _model_file(path) if isinstance(path, Path) else path
    sealed = isinstance(path, Path) and path.is_file() and _is_sealed(path)
    try:
        model = keras.saving.load_model(path, custom_objects=custom_objects, safe_mode=True)
    except Exception as error:  # damaged files raise some twenty kinds
        if type(error).__module__.startswith("tf_gan_zoo"):
            raise
        problem = str(error).replace(str(path), "")  # a path may hold any word
        reason = _refusal(problem) or f"{type(error).__name__}: {problem}"
        raise WeightsError(f"{path} is refused: {reason}") from error
    _check_loaded(path, model)
    if not sealed:
        note = "has no checksum: another program or an earlier version wrote it."
        warnings.warn(f"{path} {note}", stacklevel=2)
    return model


def _is_sealed(path: Path) -> bool:
    """Whether a file has a checksum.

    Raises:
        WeightsError: if its content does not fit it.
    """
    checked = checkpoints.check(path)
    if checked.sealed and checked.problem:
        raise WeightsError(f"{path} {checked.problem}. Take another copy.")
    return checked.sealed


def _check_loaded(path: Any, model: Any) -> None:
    if not isinstance(model, GAN):
        raise WeightsError(
            f"{path} holds a {type(model).__name__}, not a model of the zoo: keras.saving.load_model "
            "reads it."
        )
    networks = {**model.networks, **model.averaged_networks}
    for name, network in networks.items():
        if not all(np.isfinite(value).all() for value in network.get_weights()):
            raise WeightsError(f"{path} holds NaN or infinite weights of {name}: do not use this file.")


def _model_file(path: Path) -> Path:
    """`path`, or the model in a run folder.

    Raises:
        WeightsError: for what is no saved model, saying what reads it.
    """
    if (path / "model.keras").is_file():
        return path / "model.keras"
    if not path.exists():
        raise WeightsError(f"there is no file or folder {str(path)!r}.")
    if path.suffix != ".keras" and not (path / "config.json").is_file():
        raise WeightsError(f"{path} is no model that model.save('x.keras') wrote. {_reader(path)}")
    return path


def _reader(path: Path) -> str:
    """What to call for a file or folder of another kind."""
    if (path / "config.yaml").is_file():
        latest = str(path / _LATEST)
        return f"Its run has not finished; its last state: tf_gan_zoo.get(NAME, weights={latest!r})."
    if (path / "saved_model.pb").is_file():
        return "It is a SavedModel: tf.saved_model.load(path)."
    if path.suffix in (".tflite", ".onnx"):
        return "It is an export: LiteRT and ONNX Runtime run such files."
    if path.suffix in (".h5", ".hdf5", ".npz"):
        return "It holds weights, not a model: tf_gan_zoo.get(NAME, weights=path)."
    return "Expected a .keras file or the folder of a finished run."


def _refusal(problem: str) -> str | None:
    """Why Keras cannot make a file's objects, and what to do, where that is known."""
    unknown = re.search(r"Could not locate class '(\w+)'", problem)
    if unknown:
        name = unknown[1]
        return (
            f"it holds a {name}, which is not known here. Import the module that registers it with "
            f"@keras.saving.register_keras_serializable(), or pass custom_objects={{{name!r}: {name}}}."
        )
    if "lambda" in problem.lower():
        return (
            "it holds the code of a Python lambda, which could do anything. Expected a file that "
            "model.save(path) wrote, of a model without Lambda layers; do not use this one."
        )
    return None


def strategy(kind: str = "auto") -> tf.distribute.Strategy:
    """A TensorFlow distribution strategy.

    Args:
        kind: "auto" (multi_worker if TF_CONFIG is set, tpu if TPU_NAME is, mirrored if there are several
            GPUs, else one), "one", "mirrored" (all GPUs, or all logical CPUs where there are none),
            "multi_worker" (the cluster that TF_CONFIG describes) or "tpu".

    Raises:
        ValueError: for another kind, multi_worker without TF_CONFIG, or tpu without one.
    """
    from tf_gan_zoo import distribution

    return distribution.make_strategy(kind)
