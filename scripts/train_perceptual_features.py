"""Trains the narrow VGG19 whose features perceptual losses use where no ImageNet weights are at hand.

    python scripts/train_perceptual_features.py --data emoji:emoji

Two vendors draw every emoji in their own style. The network gets both drawings of 48 emoji, each moved,
resized, mirrored and tinted, and has to say which belong together (the contrastive loss of SimCLR). Its batch
normalisation is folded into the convolutions afterwards: what is written, vgg19_emoji.npz, is a plain VGG19
with a quarter of the filters.

The record says how well its features find an emoji of the test split in the other vendor's style: the
fraction whose nearest neighbour among all of them is the right one, of the float16 weights as they are
shipped, beside that of pixels and of random weights.

Reference: T. Chen, S. Kornblith, M. Norouzi, G. Hinton, "A Simple Framework for Contrastive Learning of
Visual Representations", ICML 2020, arXiv:2002.05709.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_gan_zoo import train, weights
from tf_gan_zoo.data import open_dataset
from tf_gan_zoo.fitting import initial_conditions
from tf_gan_zoo.metrics import classifier, features
from tf_gan_zoo.networks import vgg
from tf_gan_zoo.paths import expand

WIDTH, NUM_PAIRS, LEARNING_RATE, SEED = 16, 48, 2e-3, 0
#: Training crops of the 64x64 pictures, in pixels.
CROP = 48
#: What cosines are divided by in the softmax.
TEMPERATURE = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", default="emoji:emoji", help="where the emoji lie")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--out", type=expand, default=features.FEATURES_DIR, help="folder for the results")
    arguments = parser.parse_args()
    started, path = time.time(), arguments.out / "vgg19_emoji.npz"
    pairs = emoji(arguments.data, "train")
    network = trained(pairs, arguments.steps)
    classifier.save_arrays(folded(network), path)
    record = make_record(path, pairs, emoji(arguments.data, "test"), arguments)
    record["seconds"] = round(time.time() - started, 1)
    path.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=2))


def emoji(data: str, split: str) -> np.ndarray:
    """Every emoji in two styles: float32 (emoji, 2, 64, 64, 3) in [-1, 1]."""
    pipeline = open_dataset(data, split=split, view="paired", image_size=64, batch_size=256, shuffle=False,
                            drop_remainder=False)  # fmt: skip
    batches = list(pipeline.dataset().as_numpy_iterator())
    styles = [np.concatenate([batch[field] for batch in batches]) for field in ("inputs", "targets")]
    return np.stack(styles, axis=1)


# -------------------------------------------------------------------- training


def trained(pairs: np.ndarray, steps: int) -> keras.Model:
    """VGG19 with batch normalisation after `steps` updates."""
    with initial_conditions("float32", SEED):
        network = vgg.build_vgg19(WIDTH, batch_norm=True)
    schedule = keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=1e-4)
    variables = network.trainable_variables
    optimizer.build(variables)

    @tf.function
    def step(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            a, b = tf.split(embedding(network(vgg.vgg_inputs(images), training=True)), 2)
            loss, accuracy = contrast(tf.matmul(a, b, transpose_b=True) / TEMPERATURE)
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss, accuracy

    rng, shown = np.random.default_rng(SEED), []
    for index in range(1, steps + 1):
        chosen = pairs[rng.choice(len(pairs), NUM_PAIRS, replace=False)]
        views = [augmented(chosen[:, style], rng) for style in rng.permutation(2)]
        shown.append([float(v) for v in step(tf.concat(views, axis=0))])
        if index % 50 == 0:
            loss, accuracy = np.mean(shown[-50:], axis=0)
            print(f"step {index}: loss {loss:.3f}, accuracy {accuracy:.3f}", flush=True)
    return network


def contrast(logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Cross-entropy of finding each row's column, and the reverse; and how often the largest is right."""
    right = tf.range(len(logits))
    entropy = tf.nn.sparse_softmax_cross_entropy_with_logits
    loss = entropy(right, logits) + entropy(right, tf.transpose(logits))
    found = tf.argmax(logits, axis=1, output_type=tf.int32) == right
    return tf.reduce_mean(loss) / 2.0, tf.reduce_mean(tf.cast(found, tf.float32))


def embedding(maps: tf.Tensor) -> tf.Tensor:
    """Maps (batch, height, width, channels) -> their means over the picture, of length 1."""
    return tf.math.l2_normalize(tf.reduce_mean(maps, axis=[1, 2]), axis=1)


def augmented(images: np.ndarray, rng: np.random.Generator) -> tf.Tensor:
    """Each picture cut out at a random place and size, half of them mirrored, the colours changed."""
    count = len(images)
    side = rng.uniform(0.65, 1.05, (count, 1))
    corner = rng.uniform(0.0, 1.0, (count, 2)) * (1.0 - side)
    boxes = np.concatenate([corner, corner + side], axis=1)
    mirrored = rng.random(count) < 0.5
    boxes[mirrored] = boxes[mirrored][:, [0, 3, 2, 1]]
    crops = tf.image.crop_and_resize(images, boxes, tf.range(count), [CROP, CROP], extrapolation_value=1.0)
    tint = rng.uniform(0.7, 1.1, (count, 1, 1, 3)).astype("float32")
    return 1.0 - tint * (1.0 - crops)


def folded(network: keras.Model) -> keras.Model:
    """A plain VGG19 that gives what `network` gives with its moving averages."""
    plain = vgg.build_vgg19(WIDTH)
    for layer in plain.layers:
        if layer.name.startswith("conv"):
            kernel, bias = network.get_layer(layer.name).get_weights()
            norm = network.get_layer(layer.name.replace("conv", "norm"))
            gamma, beta, mean, variance = norm.get_weights()
            gain = gamma / np.sqrt(variance + norm.epsilon)
            layer.set_weights([kernel * gain, beta + (bias - mean) * gain])
    return plain


# -------------------------------------------------------------------- record


def retrieval(pairs: np.ndarray, network: Any) -> float:
    """Fraction of emoji whose nearest neighbour in the other style is the same emoji, both ways."""
    a, b = (np.asarray(network(tf.constant(pairs[:, style]))) for style in (0, 1))
    likeness = a @ b.T
    right = np.arange(len(pairs))
    return float(np.mean([likeness.argmax(axis=axis) == right for axis in (0, 1)]))


def pixels(images: tf.Tensor) -> tf.Tensor:
    flat = tf.reshape(images, (len(images), -1))
    return tf.math.l2_normalize(flat - tf.reduce_mean(flat, axis=1, keepdims=True), axis=1)


def make_record(
    path: Path, pairs: np.ndarray, held_out: np.ndarray, arguments: argparse.Namespace
) -> dict[str, Any]:
    shipped = vgg.VGG19Features("pool5", str(path))
    with initial_conditions("float32", SEED):
        untrained = vgg.build_vgg19(WIDTH)
    return {
        "name": path.stem,
        "data": "emoji in the styles of google and twitter, train split",
        "data_licence": "Noto Emoji (Google, Apache 2.0) and Twemoji (Twitter and other contributors, "
        "CC BY 4.0), npm packages emoji-datasource-google and emoji-datasource-twitter 16.0.0",
        "licence": "Apache-2.0",
        "width": WIDTH,
        "num_weights": vgg.build_vgg19(WIDTH).count_params(),
        "num_train": 2 * len(pairs),
        "num_emoji": len(pairs),
        "num_test": 2 * len(held_out),
        "retrieval": round(retrieval(held_out, lambda x: embedding(shipped(x))), 4),
        "retrieval_of_pixels": round(retrieval(held_out, pixels), 4),
        "retrieval_of_random_weights": round(
            retrieval(held_out, lambda x: embedding(untrained(vgg.vgg_inputs(x)))), 4
        ),
        "steps": arguments.steps,
        "pairs_per_step": NUM_PAIRS,
        "learning_rate": LEARNING_RATE,
        "temperature": TEMPERATURE,
        "crop": CROP,
        "seed": SEED,
        "sha256": weights.sha256(path),
        "command": " ".join(["python", "scripts/train_perceptual_features.py", *sys.argv[1:]]),
        "machine": train.machine(),
        "versions": train.versions(),
    }


if __name__ == "__main__":
    main()
