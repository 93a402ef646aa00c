"""Weights of a model in a file: small NPZ archives of plain arrays, saved and loaded whole or not at all.

An archive holds one float16 array per variable, named NETWORK/INDEX, batch statistics included, and the
config as JSON text. On request it also holds every optimizer's variables, named optimizer/PLAYER/INDEX, in
float32, and the step. `published` finds the files that others share; `npz` reads them without trusting them.

Fine-tuning: freeze layers, then compile, which gives each player a new optimizer over what is left to train.

    model = zoo.get("dcgan.fashion_mnist", weights="pretrained")
    model.generator.layers[1].trainable = False
    model.compile()
    model.fit(my_dataset)
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tf_gan_zoo import files, npz, published
from tf_gan_zoo.config import Config
from tf_gan_zoo.fetch import FetchError, WeightsError
from tf_gan_zoo.fetch import digest as sha256
from tf_gan_zoo.gan import GAN
from tf_gan_zoo.published import PRETRAINED_DIR, manifest

__all__ = ["FetchError", "PRETRAINED_DIR", "WeightsError", "load", "manifest", "save", "sha256"]
_FLOATS, _STEP, _OPTIMIZER = ("float16", "float32"), "optimizer/step", "optimizer/"
_RUN_FIELDS = frozenset(Config.field_names())


def load(model: GAN, name: str, source: str | Path, *, optimizers: bool = False) -> None:
    """Loads weights into a model, and notes in `model.origin` where they came from.

    `model.origin` has "name", "source", "sha256", "entry" and "record" (of published weights, else None) and
    "step" (the model's step after loading, by which training since then shows).

    Args:
        model: a model whose config fits.
        name: the recipe that "pretrained" refers to.
        source: "pretrained", an .npz file of `save`, a .weights.h5 file of Keras, a run or release folder, or
            an address of one (see `published.locate`).
        optimizers: also restore the optimizers and the step from an .npz file, to go on training.

    Raises:
        WeightsError: if there are no such weights, they are damaged, or they are for another config; the
            model is left as it was.
    """
    found = published.locate(name, source)
    if found.path.suffix == ".keras":
        raise WeightsError(
            f"{found.path} is a whole model, which may hold code: open it with tf_gan_zoo.load(path), which "
            "refuses code, or save its weights with model.save_weights('x.weights.h5')."
        )
    if found.path.suffix == ".npz":
        _load_arrays(model, found.path, optimizers)
    else:
        _load_keras_file(model, found.path)
    _note_origin(model, name, source, found)


def save(model: GAN, path: str | Path, *, optimizers: bool = False) -> None:
    """Writes all networks (averaged ones too) as float16 arrays to an .npz file.

    Args:
        model: the model.
        path: the file.
        optimizers: also write the optimizers' variables in float32, and the step.

    Raises:
        WeightsError: for values that are not finite in float16.
    """
    arrays = {key: np.asarray(v, np.float16) for key, v in _variables(model).items()}
    if optimizers:
        state = _optimizer_variables(model)
        arrays |= {key: np.asarray(v, "float32" if _is_float(v) else "int64") for key, v in state.items()}
    wrong = [key for key, value in arrays.items() if not np.isfinite(value).all()]
    if wrong:
        raise WeightsError(f"{wrong[0]} does not fit into float16; are these weights of a failed run?")
    texts = {npz.CONFIG: model.config.to_dict()}
    if replaced := model.replaced_architectures:
        texts[npz.NETWORKS] = replaced
    texts = {name: np.frombuffer(json.dumps(text).encode(), np.uint8) for name, text in texts.items()}
    path = path if str(path).endswith(".npz") else Path(f"{path}.npz")  # as NumPy does
    files.write(path, lambda file: np.savez_compressed(file, **arrays, **texts))


def _is_float(variable: keras.Variable) -> bool:
    return "float" in variable.dtype


def _variables(model: GAN) -> dict[str, keras.Variable]:
    """NETWORK/INDEX -> variable; integers, such as the seeds of dropout, are no weights."""
    networks = {**model.networks, **model.averaged_networks}
    return {
        f"{name}/{index:03d}": variable
        for name, network in networks.items()
        for index, variable in enumerate(network.variables)
        if _is_float(variable)
    }


def _optimizer_variables(model: GAN) -> dict[str, keras.Variable]:
    """optimizer/PLAYER/INDEX -> variable, and the step."""
    slots = {
        f"{_OPTIMIZER}{player}/{index:03d}": variable
        for player in model.players
        for index, variable in enumerate(model.player_optimizer(player).variables)
    }
    return {**slots, _STEP: model.step}


def _load_arrays(model: GAN, path: Path, optimizers: bool) -> None:
    """Reads and checks every array before the first is assigned."""
    wanted = _variables(model)
    with npz.opened(path) as reader:
        saved, networks = reader.config(), [n for n in reader.names if not n.startswith(_OPTIMIZER)]
        model.check_architectures(reader.networks())
        wrong = [k for k in {*wanted, *networks} if reader.shape(k) != _shape(wanted.get(k))]
        if wrong:
            raise WeightsError(_mismatch(model, path, saved, sorted(wrong)[0]))
        if optimizers:
            wanted |= _wanted_state(model, reader)
        arrays = {
            key: reader.read(key, tuple(v.shape), _FLOATS if _is_float(v) else ("int64",))
            for key, v in wanted.items()
        }
    for key, variable in wanted.items():
        variable.assign(arrays[key].astype(variable.dtype))
    if different := _differences(model, saved):
        warnings.warn(
            f"{path.name} fits, but was trained with another config; it differs in {different}.", stacklevel=5
        )
    if optimizers:
        model.set_phase_at(int(model.step.numpy()))


def _wanted_state(model: GAN, reader: npz.Reader) -> dict[str, keras.Variable]:
    """The optimizers' variables, if the archive has just these."""
    wanted = _optimizer_variables(model)
    stored = [name for name in reader.names if name.startswith(_OPTIMIZER)]
    wrong = [k for k in {*wanted, *stored} if reader.shape(k) != _shape(wanted.get(k))]
    if not wrong:
        return wanted
    what = f"other optimizers, first at {sorted(wrong)[0]}" if stored else "no optimizers"
    raise WeightsError(
        f"{reader.path} holds {what}. Load it without optimizers, or have it published with --optimizers "
        "from a model that was compiled like this one."
    )


def _load_keras_file(model: GAN, path: Path) -> None:
    optimizers = [getattr(model, f"{player}_optimizer", None) for player in model.players]
    variables = [*model.variables, *(v for optimizer in optimizers if optimizer for v in optimizer.variables)]
    before = [np.copy(keras.ops.convert_to_numpy(variable)) for variable in variables]
    try:
        _load_every_variable(model, path)
    except Exception as error:  # Keras and h5py raise many kinds
        for variable, value in zip(variables, before):
            variable.assign(value)
        model.set_phase_at(int(model.step.numpy()))
        raise WeightsError(
            f"{path} does not fit {model.name}: {error} Build the model with the config of its run."
        ) from error


def _load_every_variable(model: GAN, path: Path) -> None:
    """Keras passes over layers that a file lacks: what is NaN afterwards was not in it."""
    wanted = _variables(model)
    for variable in wanted.values():
        variable.assign(np.full(variable.shape, np.nan, "float32"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Skipping nested container")
        model.load_weights(path)
    unread = [key for key, v in wanted.items() if not np.isfinite(keras.ops.convert_to_numpy(v)).all()]
    if unread:
        raise ValueError(f"it has no finite values for {unread[0]}.")


def _note_origin(model: GAN, name: str, source: str | Path, found: published.Found) -> None:
    """Past Keras, which would track the dictionary and save it with the model."""
    origin = {
        "name": name,
        "source": found.source if str(source) == "pretrained" else str(source),
        "sha256": found.sha256,
        "entry": found.entry and dict(found.entry),
        "record": found.record and str(found.record),
        "step": int(model.step.numpy()),
    }
    object.__setattr__(model, "origin", origin)


def _shape(variable: keras.Variable | None) -> tuple[int, ...] | None:
    return None if variable is None else tuple(variable.shape)


def _mismatch(model: GAN, path: Path, saved: Mapping[str, Any], key: str) -> str:
    return (
        f"{path.name} is for another config, first at {key}. It differs in "
        f"{_differences(model, saved) or 'its networks'}. Build the model with the weights' values."
    )


def _differences(model: GAN, saved: Mapping[str, Any]) -> str:
    own = model.config.to_dict()
    return "; ".join(
        f"{field}: {saved.get(field)!r} (weights) and {own.get(field)!r} (model)"
        for field in sorted((set(own) & set(saved)) - _RUN_FIELDS)  # weights may be older than a field
        if saved.get(field) != own.get(field)
    )
