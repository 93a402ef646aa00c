"""Which devices and machines a run uses, by TensorFlow's own strategies."""

from __future__ import annotations

import os

import tensorflow as tf

KINDS = ("auto", "one", "mirrored", "multi_worker")


def make_strategy(kind: str = "auto") -> tf.distribute.Strategy:
    """See `tf_gan_zoo.zoo.strategy`."""
    if kind not in KINDS:
        raise ValueError(f"unknown strategy {kind!r}: expected one of {', '.join(KINDS)}.")
    gpus = tf.config.list_logical_devices("GPU") if kind != "multi_worker" else []
    if kind == "auto":
        kind = "multi_worker" if os.environ.get("TF_CONFIG") else "mirrored" if len(gpus) > 1 else "one"
    if kind == "one":
        return tf.distribute.get_strategy()
    if kind == "mirrored":
        return tf.distribute.MirroredStrategy([d.name for d in gpus or tf.config.list_logical_devices("CPU")])
    if not os.environ.get("TF_CONFIG"):
        raise ValueError(
            "multi_worker needs the environment variable TF_CONFIG, a JSON text with the addresses of all "
            'workers and this one\'s index: {"cluster": {"worker": ["host1:port", "host2:port"]}, '
            '"task": {"type": "worker", "index": 0}}.'
        )
    return tf.distribute.MultiWorkerMirroredStrategy()


def is_chief() -> bool:
    """True in the one process that writes files: the only one, or the cluster's first worker."""
    resolver = tf.distribute.get_strategy().cluster_resolver
    return resolver is None or not resolver.task_type or (resolver.task_type, resolver.task_id) in (
        ("worker", 0), ("chief", 0),
    )  # fmt: skip
