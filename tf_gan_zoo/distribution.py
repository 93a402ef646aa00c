"""Which devices and machines a run uses, by TensorFlow's own strategies."""

from __future__ import annotations

import os

import tensorflow as tf

KINDS = ("auto", "one", "mirrored", "multi_worker")


class StrategyError(ValueError):
    """A strategy that does not exist or that this machine's settings do not allow."""


def make_strategy(kind: str = "auto") -> tf.distribute.Strategy:
    """See `tf_gan_zoo.zoo.strategy`; a multi-worker one must be made before TensorFlow runs anything."""
    if kind not in KINDS:
        raise StrategyError(f"unknown strategy {kind!r}: expected one of {', '.join(KINDS)}.")
    if kind == "multi_worker" or (kind == "auto" and os.environ.get("TF_CONFIG")):
        return _multi_worker()
    if kind == "one":
        return tf.distribute.get_strategy()
    gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
    if kind == "auto" and len(gpus) < 2:
        return tf.distribute.get_strategy()
    cpus = [device.name for device in tf.config.list_logical_devices("CPU")]
    return tf.distribute.MirroredStrategy(gpus or cpus)


def _multi_worker() -> tf.distribute.Strategy:
    if not os.environ.get("TF_CONFIG"):
        raise StrategyError(
            "multi_worker needs the environment variable TF_CONFIG, a JSON text with the addresses of all "
            'workers and this one\'s index: {"cluster": {"worker": ["host1:port", "host2:port"]}, '
            '"task": {"type": "worker", "index": 0}}.'
        )
    return tf.distribute.MultiWorkerMirroredStrategy()


def is_chief(strategy: tf.distribute.Strategy | None = None) -> bool:
    """True in the one process that writes files: the only one, or the cluster's first worker."""
    strategy = strategy or tf.distribute.get_strategy()
    resolver = getattr(strategy, "cluster_resolver", None)
    if resolver is None or not resolver.task_type:
        return True
    has_chief = "chief" in resolver.cluster_spec().jobs
    return (resolver.task_type, resolver.task_id) == ("chief" if has_chief else "worker", 0)
