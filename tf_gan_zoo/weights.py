"""Published weights: small compressed files of float16 arrays, listed with their digests in a manifest.

A file is an NPZ archive of plain arrays (never pickled), one per variable, named NETWORK/INDEX, plus the
config as JSON text. It holds every network of the model, batch statistics included, and no optimizer.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tf_gan_zoo.config import Config, closest
from tf_gan_zoo.gan import GAN

PRETRAINED_DIR = Path(__file__).resolve().parent / "pretrained"
_CONFIG_KEY = "config.json"
_RUN_FIELDS = frozenset(Config.field_names())


class WeightsError(ValueError):
    """Weights are missing, damaged or made for another config; the model is left as it was."""


def manifest() -> dict[str, dict[str, Any]]:
    """Recipe name -> file, size, SHA-256, licence, data and config of the weights that ship with the zoo."""
    path = PRETRAINED_DIR / "manifest.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def load(model: GAN, name: str, source: str | Path) -> None:
    """Loads weights into a model.

    Args:
        model: a model whose config fits.
        name: the recipe that "pretrained" refers to.
        source: "pretrained", an .npz file of `save`, a .weights.h5 file of Keras, or a run folder.

    Raises:
        WeightsError: if there are no such weights, they are damaged, or they are for another config.
    """
    if str(source) == "pretrained":
        _load_arrays(model, _pretrained_file(name))
        return
    path = Path(source).expanduser()
    path = path / "model.weights.h5" if path.is_dir() else path
    if not path.is_file():
        raise WeightsError(f"no weights at {source}: expected 'pretrained', a file or a run folder.")
    if path.suffix == ".npz":
        _load_arrays(model, path)
    else:
        _load_keras_file(model, path)


def save(model: GAN, path: str | Path) -> None:
    """Writes all networks (averaged ones too) as float16 arrays to an .npz file."""
    arrays = {key: np.asarray(v, np.float16) for key, v in _variables(model).items()}
    too_large = [key for key, value in arrays.items() if not np.isfinite(value).all()]
    if too_large:
        raise WeightsError(f"{too_large[0]} does not fit into float16; are these weights of a failed run?")
    config = np.frombuffer(json.dumps(model.config.to_dict()).encode(), np.uint8)
    np.savez_compressed(path, **arrays, **{_CONFIG_KEY: config})


def sha256(path: str | Path) -> str:
    """The file's SHA-256 digest in hexadecimal."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _pretrained_file(name: str) -> Path:
    entries = manifest()
    if name not in entries:
        raise WeightsError(
            f"no pretrained weights for {name!r}.{closest(name, entries)} "
            f"Published: {', '.join(sorted(entries)) or 'none'}."
        )
    path = PRETRAINED_DIR / entries[name]["file"]
    if not path.is_file() or sha256(path) != entries[name]["sha256"]:
        raise WeightsError(f"{path} is missing or damaged: reinstall tf_gan_zoo.")
    return path


def _variables(model: GAN) -> dict[str, Any]:
    """NETWORK/INDEX -> variable; integers, such as the seeds of dropout, are no weights."""
    networks = {**model.networks, **model.averaged_networks}
    return {
        f"{name}/{index:03d}": variable
        for name, network in networks.items()
        for index, variable in enumerate(network.variables)
        if "float" in variable.dtype
    }


def _load_arrays(model: GAN, path: Path) -> None:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (OSError, ValueError, zipfile.BadZipFile, KeyError, EOFError) as error:
        raise WeightsError(f"{path} is not a weights file of the zoo: {error}") from None
    variables = _variables(model)
    saved_config = _read_config(arrays.pop(_CONFIG_KEY, None), path)
    wrong = [k for k in {*variables, *arrays} if _shape(variables.get(k)) != _shape(arrays.get(k))]
    if wrong:
        raise WeightsError(_mismatch(model, path, saved_config, sorted(wrong)[0]))
    for key, variable in variables.items():
        variable.assign(arrays[key].astype("float32"))


def _load_keras_file(model: GAN, path: Path) -> None:
    before = model.get_weights()
    try:
        model.load_weights(path)
    except Exception as error:  # Keras and h5py raise many kinds
        model.set_weights(before)
        raise WeightsError(f"{path} does not fit {model.name}: {error}") from error


def _shape(value: Any) -> tuple[int, ...] | None:
    return None if value is None else tuple(value.shape)


def _read_config(text: np.ndarray | None, path: Path) -> Mapping[str, Any]:
    try:
        return json.loads(text.tobytes().decode())
    except (AttributeError, ValueError):
        raise WeightsError(f"{path} is not a weights file of the zoo: it holds no config.") from None


def _mismatch(model: GAN, path: Path, saved: Mapping[str, Any], key: str) -> str:
    own = model.config.to_dict()
    fields = sorted((set(own) | set(saved)) - _RUN_FIELDS)
    differences = [
        f"{field}: {saved.get(field)!r} (weights) and {own.get(field)!r} (model)"
        for field in fields
        if saved.get(field) != own.get(field)
    ]
    return (
        f"{path.name} is for another config, first at {key}. It differs in "
        f"{'; '.join(differences) or 'its networks'}. Build the model with the weights' values."
    )
