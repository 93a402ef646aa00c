"""Writes metric_references.json: what torch-fidelity, prdc and scikit-image say of arrays that a seed gives.

    python tests/data/make_metric_references.py

It needs packages that tf_gan_zoo does not: torch, torch-fidelity (its formulas alone: no torchvision, no
weights), prdc and scikit-image. The tests make the same arrays again and compare.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import types
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent


# -------------------------------------------------------------------- arrays, the same in the tests


def feature_sets(seed=7, counts=(600, 500), size=24):
    """Correlated features of two distributions: (600, 24) and (500, 24), float64."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(size, size)) / np.sqrt(size)
    a = rng.normal(size=(counts[0], size)) @ mixing
    return a, 0.9 * rng.normal(size=(counts[1], size)) @ mixing + 0.1


def logits(seed=8, shape=(500, 10)):
    """Class logits (500, 10), float64."""
    return 2 * np.random.default_rng(seed).normal(size=shape)


def picture_pairs(seed=9, shape=(3, 40, 32, 3)):
    """Pictures and noisy copies (3, 40, 32, 3) around [-1, 1], float64."""
    rng = np.random.default_rng(seed)
    clean = rng.uniform(-1, 1, shape).cumsum(axis=2) / 10
    return clean, clean + rng.normal(0, 0.1, shape)


def network_arrays(shapes, seed=10):
    """Random weights of the 2015 FID network, drawn in the order of their names."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name in sorted(shapes):
        shape = shapes[name]
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        scale = np.sqrt(2 / fan_in) if len(shape) > 1 else 0.2
        values = scale * rng.standard_normal(shape)
        positive = name.endswith(("running_var", "bn.weight"))
        arrays[name] = (1 + np.abs(values) if positive else values).astype("float32")
    return arrays


def pixels(seed=11, shape=(1, 45, 60, 3)):
    """A picture of random bytes (1, 45, 60, 3), uint8."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# -------------------------------------------------------------------- the other libraries


def main():
    _without_torchvision()
    result = {
        "origin": "made by make_metric_references.py in this folder",
        "versions": {p: importlib.metadata.version(p) for p in _PACKAGES},
        **_feature_metrics(), **_picture_metrics(), "fid2015": _network_outputs(),
    }  # fmt: skip
    path = HERE / "metric_references.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


_PACKAGES = ("torch", "torch-fidelity", "prdc", "scikit-image", "numpy", "scipy")


def _without_torchvision():
    """torch-fidelity imports it for its data sets, which are not used here."""
    class Anything(types.ModuleType):
        __path__ = ()

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return type(name, (), {})

    names = ("torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional")
    for name in ("torchvision", *names):
        module = sys.modules[name] = Anything(name)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)


def _feature_metrics():
    import torch
    from prdc import compute_prdc
    from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc

    a, b = (torch.from_numpy(x) for x in feature_sets())
    quiet = {"verbose": False}
    statistics = [metric_fid.fid_features_to_statistics(x) for x in (a, b)]
    kid = {"kid_subsets": 20, "kid_subset_size": 200, "rng_seed": 2020}
    neighbours = metric_prc.prc_features_to_metric(b, a, prc_neighborhood=3, **quiet)  # (fake, real)
    density = compute_prdc(a.numpy(), b.numpy(), nearest_k=5)
    return {
        "fid": metric_fid.fid_statistics_to_metric(*statistics, False),
        "kid": metric_kid.kid_features_to_metric(a, b, **kid, **quiet),
        "kid_options": kid,
        "isc": metric_isc.isc_features_to_metric(torch.from_numpy(logits()), splits=5, shuffle=False),
        "prc": {k: v for k, v in neighbours.items() if k != "f_score"},
        "density": float(density["density"]),
        "coverage": float(density["coverage"]),
    }


def _picture_metrics():
    from skimage import metrics

    pairs = list(zip(*picture_pairs()))
    options = {"channel_axis": -1, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return {
        "psnr": [float(metrics.peak_signal_noise_ratio(*p, data_range=2.0)) for p in pairs],
        "ssim": [float(metrics.structural_similarity(*p, data_range=2.0, **options)) for p in pairs],
    }


def _network_outputs():
    """Some features and logits of torch-fidelity's network with the random weights."""
    import torch
    from torch_fidelity import feature_extractor_inceptionv3 as module

    class Unloaded(module.FeatureExtractorInceptionV3):
        def load_state_dict(self, state):
            """Leaves the weights for later."""

    module.torch.load = lambda *args, **kwargs: {}
    network = Unloaded("inception", ["2048", "logits_unbiased"], feature_extractor_weights_path="none")
    shapes = {k: tuple(v.shape) for k, v in network.state_dict().items() if "num_batches" not in k}
    arrays = {k: torch.from_numpy(v) for k, v in network_arrays(_without_bias(shapes)).items()}
    torch.nn.Module.load_state_dict(network, arrays, strict=False)
    with torch.no_grad():
        features, logits = network(torch.from_numpy(pixels().transpose(0, 3, 1, 2)))
    return {
        "num_arrays": len(arrays),
        "features": features[0, ::128].tolist(),
        "logits": logits[0, ::63].tolist(),
    }


def _without_bias(shapes):
    return {name: shape for name, shape in shapes.items() if name != "fc.bias"}


if __name__ == "__main__":
    main()
