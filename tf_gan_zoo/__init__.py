"""tf_gan_zoo: generative adversarial networks as Keras models.

    import tf_gan_zoo as zoo
    model = zoo.get("dcgan", image_size=32, channels=1)
    model.fit(zoo.load_dataset("glyphs", image_size=32), epochs=3)
    pictures = model.generate(16, seed=0)

Importing this package sets two environment defaults for TensorFlow (a value that is already set wins, and
nothing is touched once TensorFlow is imported) and imports TensorFlow itself only on first use.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from typing import TYPE_CHECKING, Any

from tf_gan_zoo import _quiet

__version__ = "0.2.0"

if "tensorflow" not in sys.modules:
    # oneDNN halves a training step on CPUs where TensorFlow leaves it off (AVX2 without AVX-512).
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # 1 hides the start-up information; warnings and errors stay.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")

_EXPORTS = {
    "get": "zoo",
    "info": "zoo",
    "load": "zoo",
    "list_models": "zoo",
    "list_recipes": "zoo",
    "evaluate": "evaluation",
    "EvaluateMetrics": "evaluation_callback",
    "strategy": "zoo",
    "load_dataset": "data",
    "GAN": "gan",
    "AdversarialGAN": "gan",
    "register": "registry",
    "Paper": "registry",
    "Config": "config",
    "ConfigError": "config",
}

_WITHOUT_TENSORFLOW = {
    "cards", "cli", "cli_latents", "cli_options", "cli_pictures", "config", "fetch", "image_files",
    "image_writing", "npz", "paths", "picture_names", "pictures", "pixels", "published",
}  # fmt: skip

__all__ = [
    "GAN", "AdversarialGAN", "Config", "ConfigError", "EvaluateMetrics", "Paper", "evaluate", "get", "info",
    "list_models", "list_recipes", "load", "load_dataset", "register", "strategy",
]  # fmt: skip

if TYPE_CHECKING:
    from tf_gan_zoo.config import Config, ConfigError
    from tf_gan_zoo.data import load_dataset
    from tf_gan_zoo.evaluation import evaluate
    from tf_gan_zoo.evaluation_callback import EvaluateMetrics
    from tf_gan_zoo.gan import GAN, AdversarialGAN
    from tf_gan_zoo.registry import Paper, register
    from tf_gan_zoo.zoo import get, info, list_models, list_recipes, load, strategy


def __getattr__(name: str) -> Any:
    module = _EXPORTS.get(name, name)
    if not importlib.util.find_spec(f"{__name__}.{module}"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if module not in _WITHOUT_TENSORFLOW:
        _quiet.import_tensorflow()
    loaded = importlib.import_module(f"{__name__}.{module}")
    return getattr(loaded, name) if name in _EXPORTS else loaded


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
