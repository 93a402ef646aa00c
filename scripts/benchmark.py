"""Times training and exports: `python scripts/benchmark.py train|export dcgan [pix2pix ...]`, or `all`.

What `export` compares is told by benchmark_export.py. Each row of `train` compares, on the same network,
data and batch:

    fit    our model's plain `fit()`
    bare   a tf.function loop over the same train_step: what fit() itself costs
    plain  the step of the keras.io tutorials (two generator passes, all defaults, oneDNN as TensorFlow
           sets it); for two-player models that draw from latents

Each is a process of its own, started with its own environment; they take turns, so that a machine whose speed
drifts hits all of them alike. Medians over the rounds, and the ratio of medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import benchmark_export

KINDS = ("fit", "bare", "plain")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["train", "export", "worker"])
    parser.add_argument("models", nargs="+", help="models or recipes, or all")
    parser.add_argument("--kind", choices=KINDS, default="fit", help=argparse.SUPPRESS)
    parser.add_argument("--batch-size", type=int, default=None, help="the recipe's by default")
    parser.add_argument("--steps", type=int, default=4, help="steps per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--set", action="append", default=[], help="config field, e.g. image_size=32")
    parser.add_argument("--json", action="store_true", help="print one JSON object per model")
    arguments = parser.parse_args()
    if arguments.what == "worker":
        serve(arguments)
        return
    if arguments.models == ["all"]:
        import tf_gan_zoo as zoo

        arguments.models = zoo.list_models()
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    if arguments.what == "export":
        print(f"{machine}, {arguments.rounds} rounds, milliseconds per call")
        benchmark_export.run_benchmark(arguments.models, arguments.rounds)
        return
    print(f"{machine}, {arguments.rounds} rounds of {arguments.steps} steps, seconds per step")
    for model in arguments.models:
        report(model, compare(model, arguments), arguments.json)


# ------------------------------------------------------------------ the comparing process


def compare(model: str, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Kind -> seconds per step of each round, the kinds taking turns."""
    workers = {kind: start_worker(model, kind, arguments) for kind in KINDS}
    try:
        ready = {kind: json.loads(worker.stdout.readline() or "{}") for kind, worker in workers.items()}
        times: dict[str, list[float]] = {kind: [] for kind in KINDS if ready[kind].get("batch_size")}
        for _ in range(arguments.rounds):
            for kind in times:
                workers[kind].stdin.write("go\n")
                workers[kind].stdin.flush()
                times[kind].append(json.loads(workers[kind].stdout.readline()))
        return {**times, "batch_size": ready["fit"]["batch_size"]}
    finally:
        for worker in workers.values():
            worker.kill()
            worker.wait()


def start_worker(model: str, kind: str, arguments: argparse.Namespace) -> subprocess.Popen:
    command = [sys.executable, __file__, "worker", model, "--kind", kind, "--steps", str(arguments.steps)]
    if arguments.batch_size:
        command += ["--batch-size", str(arguments.batch_size)]
    command += [word for setting in arguments.set for word in ("--set", setting)]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if kind == "plain":
        environment.pop("TF_ENABLE_ONEDNN_OPTS", None)
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=environment,
    )  # fmt: skip


def report(model: str, result: dict, as_json: bool) -> None:
    batch_size = result.pop("batch_size")
    median = {kind: statistics.median(times) for kind, times in result.items()}
    if as_json:
        print(json.dumps({"model": model, "batch_size": batch_size, "seconds": result, "median": median}))
        return
    print(f"\n{model}, batch {batch_size}")
    for kind, times in result.items():
        ratio = f"  fit/{kind} {median['fit'] / median[kind]:.2f}" if kind != "fit" else ""
        print(f"  {kind:<6}{median[kind]:8.4f} s/step ({min(times):.4f} to {max(times):.4f})"
              f"{batch_size / median[kind]:10.1f} images/s{ratio}", flush=True)  # fmt: skip


# ------------------------------------------------------------------ the timed processes


def serve(arguments: argparse.Namespace) -> None:
    """Builds one kind of step, says so, and times a round for every line on the standard input."""
    if arguments.kind == "plain":
        import tensorflow  # noqa: F401  (before tf_gan_zoo, so that it keeps its own defaults)
    import tf_gan_zoo as zoo
    from tf_gan_zoo.config import parse_settings

    overrides = parse_settings(arguments.set)
    if arguments.batch_size:
        overrides["batch_size"] = arguments.batch_size
    model = zoo.get(arguments.models[0], **overrides)
    build = {"fit": fit_round, "bare": bare_round, "plain": plain_round}[arguments.kind]
    run_round = build(model, arguments.steps)
    if run_round is None:
        print(json.dumps({}), flush=True)
        return
    run_round()
    print(json.dumps({"batch_size": model.config.batch_size * model.batches_per_step}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(run_round() / arguments.steps), flush=True)


def random_batch(model, count: int) -> dict:
    import numpy as np

    rng = np.random.default_rng(0)
    fields = {name: field for name, field in model.batch_spec.items() if not field.optional}
    return {
        name: rng.uniform(*field.value_range, (count, *field.shape)).astype(field.dtype)
        for name, field in fields.items()
    }


def timed_fit(model, data, steps: int) -> float:
    """Seconds of `steps` steps inside `fit`, from the first batch to the end of the last."""
    import keras

    times = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: times.append(time.perf_counter()),
        on_train_batch_end=lambda batch, logs: (float(logs["g_loss"]), times.append(time.perf_counter())),
    )
    model.fit(data, steps_per_epoch=steps, verbose=0, callbacks=[note])
    return times[-1] - times[0]


def fit_round(model, steps: int) -> Callable[[], float]:
    import tensorflow as tf

    batch = random_batch(model, model.config.batch_size)
    data = tf.data.Dataset.from_tensors(batch).repeat()
    return lambda: timed_fit(model, data, steps)


def bare_round(model, steps: int) -> Callable[[], float]:
    import tensorflow as tf

    batch = random_batch(model, model.config.batch_size * model.batches_per_step)
    batch = {name: tf.constant(value) for name, value in batch.items()}
    step = tf.function(model.train_step)

    def run() -> float:
        start = time.perf_counter()
        for _ in range(steps):
            float(step(batch)[model.log_names[0]])
        return time.perf_counter() - start

    return run


def plain_round(model, steps: int) -> Callable[[], float] | None:
    import tensorflow as tf

    two_players = list(model.networks) == ["generator", "discriminator"] and hasattr(model, "latents")
    if not two_players or model.batches_per_step > 1:
        return None
    plain = plain_gan(model)
    batch = random_batch(model, model.config.batch_size)["images"]
    data = tf.data.Dataset.from_tensors(batch).repeat()
    return lambda: timed_fit(plain, data, steps)


def plain_gan(model):
    """The usual tutorial's GAN over the same two networks."""
    import keras
    import tensorflow as tf

    class PlainGAN(keras.Model):
        def compile(self, d_optimizer, g_optimizer):
            super().compile()
            self.d_optimizer, self.g_optimizer = d_optimizer, g_optimizer
            self.loss_fn = keras.losses.BinaryCrossentropy(from_logits=True)

        def train_step(self, real):
            batch = tf.shape(real)[0]
            fake = model.generator(tf.random.normal((batch, model.config.latent_size)), training=True)
            with tf.GradientTape() as tape:
                d_loss = self.loss_fn(tf.ones((batch, 1)), model.discriminator(real, training=True))
                d_loss += self.loss_fn(tf.zeros((batch, 1)), model.discriminator(fake, training=True))
            weights = model.discriminator.trainable_weights
            self.d_optimizer.apply_gradients(zip(tape.gradient(d_loss, weights), weights))
            latents = tf.random.normal((batch, model.config.latent_size))
            with tf.GradientTape() as tape:
                fake_logits = model.discriminator(model.generator(latents, training=True), training=True)
                g_loss = self.loss_fn(tf.ones((batch, 1)), fake_logits)
            weights = model.generator.trainable_weights
            self.g_optimizer.apply_gradients(zip(tape.gradient(g_loss, weights), weights))
            return {"d_loss": d_loss, "g_loss": g_loss}

        def call(self, inputs):
            return model.generator(inputs)

    plain = PlainGAN()
    plain.compile(keras.optimizers.Adam(2e-4, beta_1=0.5), keras.optimizers.Adam(2e-4, beta_1=0.5))
    return plain


if __name__ == "__main__":
    main()
