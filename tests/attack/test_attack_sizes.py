"""Configs whose networks no memory holds: refused with the numbers, before a weight is made."""

import math
import os
import time

import psutil
import pytest

import tf_gan_zoo as zoo
from tf_gan_zoo import registry, sizing
from tf_gan_zoo.config import ConfigError


@pytest.mark.parametrize("name, values", [
    ("dcgan", {"width": 100_000}),
    ("dcgan", {"image_size": 2**20, "width": 4}),
    ("dcgan", {"latent_size": 2**31 - 1}),
    ("dcgan", {"batch_size": 2**31 - 1}),
    ("cyclegan", {"width": 60_000}),
    ("srgan", {"num_blocks": 20, "width": 30_000}),
])  # fmt: skip
def test_what_the_machine_cannot_hold_is_refused_with_the_numbers(name, values):
    begun, before = time.monotonic(), psutil.Process().memory_info().rss
    with pytest.raises(ConfigError, match=r"at least [\d,]+ GiB .* this machine has \d+ GiB.*--allow-large"):
        zoo.get(name, **values)
    assert time.monotonic() - begun < 60
    assert psutil.Process().memory_info().rss - before < 1 << 30


def test_the_estimate_counts_the_weights_that_are_made():
    spec = registry.get_spec("dcgan")
    config = spec.config_cls(image_size=16, width=8, latent_size=8, batch_size=4)
    size, model = sizing.estimate(spec.cls, config), spec.cls(config)
    assert size.parameters == {name: network.count_params() for name, network in model.networks.items()}
    outputs = [layer.output for network in model.networks.values() for layer in network.layers]
    numbers = sum(math.prod(output.shape[1:]) for output in outputs)
    assert size.activations == 4 * numbers
    assert size.training_bytes == 16 * sum(size.parameters.values()) + 4 * size.activations


@pytest.mark.parametrize("name", registry.names())
def test_every_model_can_be_estimated_by_its_config(name):
    spec = registry.get_spec(name)
    size = sizing.estimate(spec.cls, spec.config_cls(**spec.tiny))
    assert all(count > 0 for network, count in size.parameters.items() if network != "selector")


def test_large_models_can_be_allowed(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"total": 1000})())
    small = {"image_size": 16, "width": 4, "latent_size": 200, "batch_size": 2}  # the paper has 100
    with pytest.raises(ConfigError, match="training would take"):
        zoo.get("dcgan", **small)
    monkeypatch.delenv("ZOO_ALLOW_LARGE", raising=False)
    assert zoo.get("dcgan", allow_large=True, **small).generate(1).shape == (1, 16, 16, 3)
    assert "ZOO_ALLOW_LARGE" not in os.environ
    monkeypatch.setenv("ZOO_ALLOW_LARGE", "1")
    assert zoo.get("dcgan", **small)


def test_configs_within_the_papers_sizes_are_not_built_twice(monkeypatch):
    monkeypatch.setattr(sizing, "estimate", lambda *_: pytest.fail("estimated"))
    zoo.get("dcgan", image_size=16, width=4, epochs=10_000, steps_per_epoch=10**6, seed=10**6)


def test_repeated_blocks_and_updates_are_few():
    for name, field in [("srgan", "num_blocks"), ("wgan_gp", "n_critic"), ("discogan", "generator_updates")]:
        with pytest.raises(ConfigError, match=f"{field}: .*less than or equal to 100"):
            zoo.get(name, **{field: 101})
