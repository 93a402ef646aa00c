"""Which devices and machines a run uses, by TensorFlow's own strategies."""

from __future__ import annotations

import json
import os
from typing import Any

import tensorflow as tf

KINDS = ("auto", "one", "mirrored", "multi_worker", "tpu")


class StrategyError(ValueError):
    """A strategy that does not exist or that this machine's settings do not allow."""


def make_strategy(kind: str = "auto") -> tf.distribute.Strategy:
    """See `tf_gan_zoo.zoo.strategy`; a multi-worker one must be made before TensorFlow runs anything."""
    if kind not in KINDS:
        raise StrategyError(f"unknown strategy {kind!r}: expected one of {', '.join(KINDS)}.")
    if kind == "multi_worker" or (kind == "auto" and os.environ.get("TF_CONFIG")):
        return _multi_worker()
    if kind == "tpu" or (kind == "auto" and os.environ.get("TPU_NAME")):
        return _tpu()
    if kind == "one":
        return tf.distribute.get_strategy()
    gpus = [device.name for device in tf.config.list_logical_devices("GPU")]
    if kind == "auto" and len(gpus) < 2:
        return tf.distribute.get_strategy()
    cpus = [device.name for device in tf.config.list_logical_devices("CPU")]
    return tf.distribute.MirroredStrategy(gpus or cpus)


def _multi_worker() -> tf.distribute.Strategy:
    if not _cluster():
        raise StrategyError(
            "multi_worker needs the environment variable TF_CONFIG, a JSON text with the addresses of all "
            'workers and this one\'s index: {"cluster": {"worker": ["host1:port", "host2:port"]}, '
            '"task": {"type": "worker", "index": 0}}.'
        )
    return tf.distribute.MultiWorkerMirroredStrategy()


def _tpu() -> tf.distribute.Strategy:
    """The TPU that TPU_NAME names, or that is attached to this machine."""
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
    except (ValueError, tf.errors.OpError) as error:
        raise StrategyError(
            f"tpu found no TPU ({str(error).splitlines()[0]}). Set TPU_NAME to its name or address "
            "(local on a TPU VM), or choose another strategy."
        ) from None
    return tf.distribute.TPUStrategy(resolver)


def is_chief(kind: str = "auto") -> bool:
    """True in the one process that writes files: the only one, or the cluster's chief or first worker."""
    cluster = _cluster() if kind in ("auto", "multi_worker") else {}
    task, workers = cluster.get("task", {}), cluster.get("cluster", {})
    first = "chief" if "chief" in workers else "worker"
    return not task or (task.get("type"), task.get("index")) == (first, 0)


def _cluster() -> dict[str, Any]:
    """What TF_CONFIG says.

    Raises:
        StrategyError: if it is no JSON object.
    """
    try:
        cluster = json.loads(os.environ.get("TF_CONFIG") or "{}")
    except json.JSONDecodeError as error:
        raise StrategyError(f"TF_CONFIG is not valid JSON: {error}.") from None
    if not isinstance(cluster, dict):
        raise StrategyError(f"TF_CONFIG must be a JSON object, got {cluster!r}.")
    return cluster


def same_on_all_workers(devices: tf.distribute.Strategy, number: int) -> bool:
    """Whether every worker of a cluster holds the same number; all of them must ask."""
    if not isinstance(devices, tf.distribute.MultiWorkerMirroredStrategy):
        return True
    numbers = devices.run(lambda: tf.constant([number], tf.int64))
    return bool(tf.reduce_all(devices.gather(numbers, axis=0) == number))
