"""Compares losses on one pair of networks, one data set and one budget: are GANs created equal?

    python scripts/compare_generation.py                # all losses; what has a record is not repeated
    python scripts/compare_generation.py --only wgan_gp hinge_sn --steps 4000 --seeds 0 1 2
    python scripts/compare_generation.py --report       # only table and curves, from the records

Every loss is trained by its own model of the zoo: its training step, its optimizers, its penalty. Only the
networks are replaced, by the same small DCGAN-like pair for all; spectral normalisation, where a loss needs
it, is put around the same layers. The budget is the number of updates of the discriminator, each on a fresh
batch of real pictures, so losses that update the generator once per five of them do so a fifth as often.

A run leaves its run folder in --runs, from where a killed one goes on, and a record in docs/comparison;
docs/comparison.md and docs/comparison.png are made of the records alone.

Reference: M. Lucic, K. Kurach, M. Michalski, S. Gelly, O. Bousquet, "Are GANs Created Equal? A Large-Scale
Study", NeurIPS 2018, arXiv:1711.10337, which unlike this script searches each loss's settings.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras import layers
from results import number

from tf_gan_zoo import callbacks, files, registry, train
from tf_gan_zoo.batch_spec import BatchSpec, image_field
from tf_gan_zoo.config import Config
from tf_gan_zoo.evaluation_callback import BEST_RECORD, EvaluateMetrics
from tf_gan_zoo.gan import AdversarialGAN
from tf_gan_zoo.layers import SpectralNormalization
from tf_gan_zoo.paths import expand

DOCS = Path(__file__).resolve().parent.parent / "docs"
IMAGE_SIZE, LATENT_SIZE = 28, 64
METRICS = ("fid", "kid", "prdc")
#: Numbers of a record's points, as the evaluation names them.
NUMBERS = ("fid", "kid", "precision", "recall")


@dataclass(frozen=True)
class Loss:
    """One row of the comparison.

    Attributes:
        label: its name for readers.
        model: the zoo's model that trains it.
        settings: of that model; networks named in them are replaced.
        optimizer: these settings in words.
        spectral_norm: the discriminator's layers are spectrally normalised.
    """

    label: str
    model: str
    settings: Mapping[str, Any]
    optimizer: str = "Adam(2e-4, 0.5, 0.999)"
    spectral_norm: bool = False


def f_gan(label: str, divergence: str, generator_loss: str = "alternative") -> Loss:
    return Loss(label, "fgan", {"divergence": divergence, "generator_loss": generator_loss})


LOSSES = {
    "non_saturating": Loss("non-saturating", "dcgan", {}),
    "minimax": f_gan("minimax (saturating)", "gan", "bound"),
    "least_squares": Loss("least squares", "lsgan", {"architecture": "dcgan", "learning_rate": 2e-4}),
    "wgan_clip": Loss(
        "Wasserstein, clipped weights", "wgan", {"learning_rate": 2e-4, "num_first_bursts": 5},
        "RMSProp(2e-4), 5 critic updates per generator update, 5 bursts of 100",
    ),
    "wgan_gp": Loss(
        "Wasserstein, gradient penalty", "wgan_gp",
        {
            "architecture": "mnist", "dequantize": False, "generator_batch_multiplier": 1,
            "linear_decay": False, "beta_1": 0.5,
        },
        "Adam(2e-4, 0.5, 0.9), 5 critic updates per generator update",
    ),
    "hinge_sn": Loss(
        "hinge, spectral norm", "sngan",
        {
            "architecture": "cnn", "generator_widths": (8, 8, 8), "discriminator_widths": (8, 8, 8),
            "dequantize": False, "generator_batch_multiplier": 1, "linear_decay": False, "n_critic": 1,
            "beta_1": 0.5, "beta_2": 0.999,
        },
        spectral_norm=True,
    ),
    "kl": f_gan("f-GAN, KL", "kl"),
    "reverse_kl": f_gan("f-GAN, reverse KL", "reverse_kl"),
    "pearson": f_gan("f-GAN, Pearson chi-squared", "pearson"),
    "squared_hellinger": f_gan("f-GAN, squared Hellinger", "squared_hellinger"),
}  # fmt: skip


# -------------------------------------------------------------------- one pair of networks


def build_generator(width: int, sync_batch_norm: bool = False) -> keras.Model:
    """Latents (batch, 64) -> images (batch, 28, 28, 1) in [-1, 1]."""
    latents, side = keras.Input((LATENT_SIZE,), name="latents"), IMAGE_SIZE // 4
    options = {"kernel_initializer": keras.initializers.RandomNormal(0.0, 0.02), "use_bias": False}
    x = layers.Dense(side * side * 2 * width, **options)(latents)
    x = layers.Reshape((side, side, 2 * width))(x)
    for up in (None, width):
        x = x if up is None else layers.Conv2DTranspose(up, 4, 2, "same", **options)(x)
        norm = layers.BatchNormalization(momentum=0.9, epsilon=1e-5, synchronized=sync_batch_norm)
        x = layers.ReLU()(norm(x))
    x = layers.Conv2DTranspose(1, 4, 2, "same", **options)(x)
    images = layers.Activation("tanh", dtype="float32", name="images")(x)
    return keras.Model(latents, images, name="generator")


def build_discriminator(width: int, spectral_norm: bool = False) -> keras.Model:
    """Images (batch, 28, 28, 1) in [-1, 1] -> logits (batch, 1); no batch norm, which a penalty forbids."""
    x = images = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 1), name="images")
    initializer = keras.initializers.RandomNormal(0.0, 0.02)
    wrapped: Callable[[layers.Layer], layers.Layer] = SpectralNormalization if spectral_norm else lambda x: x
    for filters in (width, 2 * width):
        conv = layers.Conv2D(filters, 4, 2, "same", kernel_initializer=initializer)
        x = layers.LeakyReLU(0.2)(wrapped(conv)(x))
    last = layers.Dense(1, dtype="float32", name="logits", kernel_initializer=initializer)
    return keras.Model(images, wrapped(last)(layers.Flatten()(x)), name="discriminator")


def model_of(key: str, width: int) -> type[AdversarialGAN]:
    """The zoo's model of a loss on the common networks."""
    loss = LOSSES[key]
    parent = registry.get_spec(loss.model).cls

    def build_networks(self: AdversarialGAN, config: Config) -> dict[str, keras.Model]:
        return {
            "generator": build_generator(width, config.sync_batch_norm),
            "discriminator": build_discriminator(width, loss.spectral_norm),
        }

    def batch_spec(self: AdversarialGAN) -> BatchSpec:
        return BatchSpec(images=image_field((IMAGE_SIZE, IMAGE_SIZE), 1))

    members = {"build_networks": build_networks, "batch_spec": property(batch_spec), "__module__": __name__}
    return type(f"Compared{key.title().replace('_', '')}", (parent,), members)


def registered(key: str, width: int) -> str:
    """Registers that model for this process, in no list of models, and returns its name."""
    name = f"_compared_{key}"
    paper = registry.get_spec(LOSSES[key].model).paper
    registry.register(name, task="generation", paper=paper)(model_of(key, width))
    return name


# -------------------------------------------------------------------- runs and records


@dataclass(frozen=True)
class Budget:
    """What all losses get.

    Attributes:
        steps: updates of the discriminator, each on a batch of real pictures.
        points: evaluations of a run, at equal distances, the last one at its end.
        samples: generated pictures in an evaluation.
        width: channels of the first convolution.
        data, data_options: as `zoo.load_dataset` takes them.
    """

    steps: int = 2000
    points: int = 8
    samples: int = 2000
    width: int = 32
    batch_size: int = 64
    data: str = "idx:/usr/share/datasets/fashion-mnist"
    data_options: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """What a record says of it; where the data lie is nobody's business."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return values | {"data": Path(self.data).name, "data_options": dict(self.data_options)}

    def settings(self, key: str, seed: int) -> dict[str, Any]:
        """The model's config: of its own steps, which may take several batches, so many as the budget has."""
        loss = LOSSES[key]
        chosen = {
            "data": self.data, "data_options": dict(self.data_options), "batch_size": self.batch_size,
            "image_size": IMAGE_SIZE, "channels": 1, "latent_size": LATENT_SIZE,
            "latent_distribution": "normal", "seed": seed, "epochs": self.points, **loss.settings,
        }  # fmt: skip
        config = registry.get_spec(loss.model).config_cls.from_dict(chosen)
        batches = self.points * getattr(config, "n_critic", 1)
        if self.steps % batches:
            raise SystemExit(f"--steps: {key} needs a multiple of {batches} (--points x n_critic).")
        return {**chosen, "steps_per_epoch": self.steps // batches}


def run(key: str, seed: int, budget: Budget, runs: Path, records: Path) -> None:
    """Trains and evaluates one loss, or goes on where it was stopped, and writes its record."""
    path = records / f"{key}.{seed}.json"
    if path.is_file():
        check_same(path, json.loads(path.read_text(encoding="utf-8"))["budget"], budget.to_dict())
        show(f"{path.name} is there")
        return
    folder, settings = runs / f"{key}.{seed}", budget.settings(key, seed)
    evaluation = EvaluateMetrics(folder / "best", metrics=METRICS, num_samples=budget.samples)
    name = registered(key, budget.width)
    train.train(name, settings=settings, out=folder, resume=True, verbose=0, more_callbacks=[evaluation])
    records.mkdir(parents=True, exist_ok=True)
    text = json.dumps(make_record(key, seed, budget, train.RunFolder(folder)), indent=2) + "\n"
    files.write_text(path, text)


def check_same(path: Path, stored: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    differing = [name for name in asked if stored.get(name) != asked[name]]
    if differing:
        pairs = ", ".join(f"{n} ({stored.get(n)!r} there, {asked[n]!r} asked for)" for n in differing)
        raise SystemExit(f"{path} is of another budget: {pairs}. Name another --out and --runs.")


def make_record(key: str, seed: int, budget: Budget, folder: train.RunFolder) -> dict[str, Any]:
    """What a finished run has left, of one loss and seed."""
    own, best = json.loads(folder.record.read_text()), folder.path / "best" / BEST_RECORD
    protocol = json.loads(best.read_text(encoding="utf-8"))["protocol"] if best.is_file() else {}
    kept = ("num_real", "num_fake", "extractor", "pixels", "seed", "metrics")
    loss = LOSSES[key]
    return {
        "loss": key,
        "seed": seed,
        "budget": budget.to_dict(),
        "model": loss.model,
        "settings": dict(loss.settings),
        "optimizer": loss.optimizer,
        "command": shlex.join(["python", f"scripts/{Path(__file__).name}", *sys.argv[1:]]),
        "points": points(callbacks.read_history(folder.history), budget),
        "generator_updates": generator_updates(key, budget),
        "failures": own["failures"],
        "protocol": {name: protocol[name] for name in kept if name in protocol},
        "machine": own["machine"],
        "versions": own["versions"],
    }


def points(rows: Sequence[Mapping[str, Any]], budget: Budget) -> list[dict[str, Any]]:
    """Steps of the budget, seconds of training alone, and numbers, at each evaluation."""
    results, seconds, share = [], 0.0, budget.steps // budget.points
    for index, row in enumerate(rows, start=1):
        seconds += share * budget.batch_size / row["images_per_second"]
        numbers = {name: row.get(name) for name in NUMBERS}
        results.append({"step": index * share, "seconds": round(seconds, 3), **numbers})
    return results


def generator_updates(key: str, budget: Budget) -> int:
    """Updates of G in the whole budget."""
    config = registry.get_spec(LOSSES[key].model).config_cls.from_dict(budget.settings(key, 0))
    count = budget.steps // getattr(config, "n_critic", 1)
    if LOSSES[key].model == "wgan":
        from tf_gan_zoo.models.wgan import updates_generator

        return int(tf.reduce_sum(tf.cast(updates_generator(tf.range(count), config), tf.int32)))
    return count


# -------------------------------------------------------------------- table and curves


def report(records: Path, docs: Path) -> None:
    """Writes comparison.md and comparison.png from the records."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(records.glob("*.json"))]
    if not found:
        raise SystemExit(f"{records} has no records. Run this script without --report first.")
    budgets = {json.dumps(record["budget"], sort_keys=True) for record in found}
    if len(budgets) > 1:
        raise SystemExit(f"{records} has records of {len(budgets)} budgets, which cannot be compared.")
    groups = {key: [r for r in found if r["loss"] == key] for key in LOSSES}
    groups = {key: group for key, group in groups.items() if group}
    docs.mkdir(parents=True, exist_ok=True)
    draw(groups, docs / "comparison.png")
    (docs / "comparison.md").write_text(markdown(groups), encoding="utf-8")
    show(f"{docs / 'comparison.md'} and comparison.png, of {len(found)} records")


def markdown(groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """The page: what was compared, the table by FID, and how to repeat it."""
    first = next(iter(groups.values()))[0]
    budget, protocol, machine = first["budget"], first["protocol"], first["machine"]
    seeds = sorted({record["seed"] for group in groups.values() for record in group})
    ordered = sorted(groups, key=lambda key: mean(last(groups[key], "fid")) or float("inf"))
    extractor = (protocol.get("extractor") or {}).get("name", "?")
    head = [
        "# One architecture, one budget, many losses", "",
        f"Every loss trains the same generator and discriminator (width {budget['width']}, 28x28 gray) on "
        f"{budget['data']} with {budget['steps']:,} updates of the discriminator on batches of "
        f"{budget['batch_size']}. Only the optimizer's settings, the updates of the generator and, where a "
        "loss is named after it, spectral normalisation differ. Settings are those of the zoo's recipes and "
        "were not searched: this ranks losses as they come, not at their best.", "",
        f"{seeds_text(seeds)} {protocol.get('num_fake', 0):,} samples against "
        f"{protocol.get('num_real', 0):,} real pictures of the test split, features of the "
        f"{extractor} classifier; {machine['cpu']}, {machine['cores']} cores, seconds of training alone.", "",
        "| loss | model | FID ↓ | KID × 1000 ↓ | precision ↑ | recall ↑ | best FID (at step) | updates of G "
        "| seconds | optimizer |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    tail = [
        "", "![FID over steps and over seconds; precision and recall](comparison.png)", "",
        "Made by `scripts/compare_generation.py --report` from the records in `comparison/`; without "
        "`--report` it first trains what has no record.", "",
    ]  # fmt: skip
    return "\n".join([*head, *(table_row(key, groups[key]) for key in ordered), *tail])


def seeds_text(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return f"One run each (seed {seeds[0]}), so small differences mean nothing."
    return f"Means over seeds {', '.join(map(str, seeds))}, with the smallest and largest FID."


def table_row(key: str, group: Sequence[Mapping[str, Any]]) -> str:
    fids, kids = last(group, "fid"), [1000 * value for value in last(group, "kid")]
    fid = number(mean(fids)) or "failed"
    fid += f" ({number(min(fids))} to {number(max(fids))})" if len(fids) > 1 else ""
    best = min(
        ((p["fid"], p["step"]) for record in group for p in record["points"] if p["fid"] is not None),
        default=None,
    )
    cells = [
        LOSSES[key].label, f"`{group[0]['model']}`", fid, number(mean(kids)),
        *(number(mean(last(group, name))) for name in ("precision", "recall")),
        f"{number(best[0])} ({best[1]:,})" if best else "",
        f"{group[0]['generator_updates']:,}", number(mean(last(group, "seconds"))), group[0]["optimizer"],
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def last(group: Iterable[Mapping[str, Any]], name: str) -> list[float]:
    """A number at the end of each run that has it."""
    values = [record["points"][-1].get(name) for record in group if record["points"]]
    return [value for value in values if value is not None]


def mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def draw(groups: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """FID over steps and over seconds, and precision and recall at the end."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    over_steps, over_seconds, scatter = figure.subplots(1, 3)
    for index, (key, group) in enumerate(groups.items()):
        style = {"color": f"C{index % 10}", "linestyle": "-" if index < 10 else "--"}
        for run_index, record in enumerate(group):
            shown = [p for p in record["points"] if p["fid"] is not None]
            label = LOSSES[key].label if run_index == 0 else None
            for axes, x in ((over_steps, "step"), (over_seconds, "seconds")):
                axes.plot([p[x] for p in shown], [p["fid"] for p in shown], label=label, **style)
        scatter.scatter(last(group, "recall"), last(group, "precision"), color=style["color"])
    for axes, x in ((over_steps, "updates of the discriminator"), (over_seconds, "seconds of training")):
        axes.set(xlabel=x, ylabel="FID", yscale="log")
        axes.grid(alpha=0.3)
    scatter.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
    scatter.grid(alpha=0.3)
    figure.legend(*over_steps.get_legend_handles_labels(), loc="outside right center", frameon=False)
    figure.savefig(path, dpi=80)


# -------------------------------------------------------------------- program


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    records = options.out / "comparison"
    if not options.report:
        names = ("steps", "points", "samples", "width", "batch_size", "data")
        budget = Budget(**{name: getattr(options, name) for name in names})
        chosen = options.only or list(LOSSES)
        for key in chosen:
            budget.settings(key, 0)  # what cannot work fails before hours of training
        for seed in options.seeds:
            for index, key in enumerate(chosen):
                show(f"seed {seed}, {index + 1}/{len(chosen)}: {LOSSES[key].label}")
                run(key, seed, budget, options.runs, records)
    report(records, options.out)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    default = Budget()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(LOSSES), metavar="LOSS", help=", ".join(LOSSES))
    parser.add_argument("--steps", type=int, default=default.steps, help="updates of the discriminator")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--points", type=int, default=default.points, help="evaluations of a run")
    parser.add_argument("--samples", type=int, default=default.samples, help="pictures in an evaluation")
    parser.add_argument("--width", type=int, default=default.width, help="channels of the first convolution")
    parser.add_argument("--batch-size", type=int, default=default.batch_size)
    parser.add_argument("--data", default=default.data, help="data source with a packaged classifier")
    parser.add_argument("--runs", type=expand, default=Path("runs/comparison"), help="folder of run folders")
    parser.add_argument("--out", type=expand, default=DOCS, help="folder of records, table and curves")
    parser.add_argument("--report", action="store_true", help="only make table and curves")
    return parser.parse_args(arguments)


def show(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
