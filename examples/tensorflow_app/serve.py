"""Serves an exported SavedModel from another TensorFlow program: requests that come together run together.

Needs TensorFlow and NumPy, not tf_gan_zoo:

    tf-gan-zoo export dcgan.fashion_mnist --out exported
    python serve.py exported/dcgan.fashion_mnist --count 32 --out grid.png
    python serve.py exported/dcgan.fashion_mnist --count 32 --seeded --out grid.png

    tf-gan-zoo export pix2pix.emoji --out exported --processing
    python serve.py exported/pix2pix.emoji --pictures a.png b.png --size 64 --out grid.png

In a program of your own:

    with BatchingServer(Path("exported/dcgan.fashion_mnist")) as server:
        future = server.submit(latents)      # from any thread, at any time
        picture = future.result()
"""

from __future__ import annotations

import argparse
import json
import queue
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import tensorflow as tf

TASKS = ("generate", "translate", "upscale")
Range = tuple[float, float]


class BatchingServer:
    """Gathers the requests of a few milliseconds into one call of a signature.

    Args:
        saved_model: the exported folder.
        signature: which to call; by default the first of `TASKS` that the model has.
        max_batch: most requests in one call.
        max_wait: seconds that a request waits for others at most.
    """

    def __init__(
        self, saved_model: Path, signature: str | None = None, max_batch: int = 16, max_wait: float = 0.005
    ) -> None:
        self.loaded = tf.saved_model.load(str(saved_model))  # owns the weights
        self.signature = signature or next(name for name in TASKS if name in self.loaded.signatures)
        self._function = self.loaded.signatures[self.signature]
        (self.input,) = self._function.structured_input_signature[1].values()
        (self.output,) = self._function.structured_outputs
        self._fixed_batch = self.input.shape[0]  # None where the export takes any
        self._max_batch, self._max_wait = self._fixed_batch or max_batch, max_wait
        self.num_calls, self._closed = 0, False
        self._requests: queue.Queue = queue.Queue()
        self._worker = threading.Thread(target=self._work, daemon=True)
        self._worker.start()

    def submit(self, value: np.ndarray) -> Future:
        """Hands in one request: latents (latent_size,) or a picture (height, width, channels).

        Returns:
            A future of its picture.

        Raises:
            ValueError: if the shape or the type does not fit; no other request is touched.
            RuntimeError: after `close`.
        """
        if self._closed:
            raise RuntimeError("the server is closed: make a new one")
        value, shape = np.asarray(value), self.input.shape[1:]
        if not shape.is_compatible_with(value.shape) or value.dtype != self.input.dtype.as_numpy_dtype:
            expected = f"{self.input.dtype.name} {shape}"
            raise ValueError(f"{self.input.name}: expected {expected}, got {value.dtype} {value.shape}.")
        future: Future = Future()
        self._requests.put((value, future))
        return future

    def generate_seeded(self, seed: int, count: int) -> np.ndarray:
        """The model draws its own latents: the same pictures as `model.generate(count, seed)`."""
        function = self.loaded.signatures["generate_seeded"]
        outputs = function(seed=tf.constant(seed, tf.int64), num_samples=tf.constant(count, tf.int32))
        return outputs[self.output].numpy()

    def close(self) -> None:
        """Answers what has been handed in and stops."""
        self._closed = True
        self._requests.put(None)
        self._worker.join()

    def __enter__(self) -> BatchingServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        while (first := self._requests.get()) is not None:
            requests, closing = self._gather(first)
            by_shape: dict[tuple, list] = {}  # only pictures of one size fit into one tensor
            for value, future in requests:
                by_shape.setdefault(value.shape, []).append((value, future))
            for group in by_shape.values():
                self._answer(group)
            if closing:
                return

    def _gather(self, first: tuple) -> tuple[list[tuple], bool]:
        """The requests of the next few milliseconds, and whether the end came among them."""
        requests, deadline = [first], time.monotonic() + self._max_wait
        while len(requests) < self._max_batch:
            try:
                request = self._requests.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if request is None:
                return requests, True
            requests.append(request)
        return requests, False

    def _answer(self, group: list[tuple]) -> None:
        group = [(value, future) for value, future in group if future.set_running_or_notify_cancel()]
        if not group:
            return
        try:
            pictures = self._run(np.stack([value for value, _ in group]))
        except Exception as error:  # whoever waits must hear of it
            for _, future in group:
                future.set_exception(error)
        else:
            for (_, future), picture in zip(group, pictures):
                future.set_result(picture)

    def _run(self, values: np.ndarray) -> np.ndarray:
        if self._fixed_batch:  # fill up with zeros, which nobody gets an answer for
            values = np.pad(values, [(0, self._fixed_batch - len(values))] + [(0, 0)] * (values.ndim - 1))
        self.num_calls += 1
        return self._function(**{self.input.name: tf.constant(values)})[self.output].numpy()


def picture_range(saved_model: Path, signature: str, kind: str, name: str) -> Range:
    """The range of a picture's numbers, from the export's report if it lies beside it; else -1 to 1."""
    report = saved_model.with_name(f"{saved_model.name}.report.json")
    if not report.is_file():
        return -1.0, 1.0
    facts = json.loads(report.read_text(encoding="utf-8"))["signatures"][signature][kind][name]
    return tuple(facts.get("range", (-1.0, 1.0)))


def read_picture(file: str, server: BatchingServer, size: int, value_range: Range) -> np.ndarray:
    """A picture file as the signature takes it: scaled to its size, or to `size` where it takes any."""
    _, height, width, channels = server.input.shape
    pixels = on_white(tf.io.decode_image(tf.io.read_file(file), expand_animations=False))
    pixels = tf.reduce_mean(pixels, axis=-1, keepdims=True) if channels == 1 else pixels
    pixels = tf.image.resize(pixels, (height or size, width or size), antialias=True)
    pixels = np.broadcast_to(np.clip(pixels, 0, 255), (*pixels.shape[:2], channels))
    if server.input.dtype == tf.uint8:
        return pixels.round().astype("uint8")
    low, high = value_range
    return (low + (high - low) / 255.0 * pixels).astype("float32")


def on_white(pixels: tf.Tensor) -> tf.Tensor:
    """Float pixels without opacity: grey (1 channel) or colour (3)."""
    pixels = tf.cast(pixels, tf.float32)
    if pixels.shape[2] in (1, 3):
        return pixels
    opacity = pixels[:, :, -1:] / 255.0
    return opacity * pixels[:, :, :-1] + (1.0 - opacity) * 255.0


def write_grid(pictures: np.ndarray, file: str, value_range: Range) -> None:
    """Writes pictures (count, height, width, channels) as one PNG, about as wide as high."""
    if pictures.dtype != np.uint8:
        low, high = value_range
        pictures = np.clip((pictures - low) * (255.0 / (high - low)), 0, 255).round().astype("uint8")
    count, height, width, channels = pictures.shape
    columns = int(np.ceil(np.sqrt(count)))
    rows = -(-count // columns)
    padded = np.full((rows * columns, height, width, channels), 255, "uint8")
    padded[:count] = pictures
    grid = padded.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    tf.io.write_file(file, tf.io.encode_png(grid.reshape(rows * height, columns * width, channels)))


def ask_all(server: BatchingServer, values: list[np.ndarray]) -> np.ndarray:
    """Plays clients that all ask at once, and says how their requests were batched."""
    server.submit(values[0]).result()  # the first call prepares the model
    server.num_calls, start = 0, time.perf_counter()
    futures = [server.submit(value) for value in values]
    pictures = np.stack([future.result() for future in futures])
    took = f"{1e3 * (time.perf_counter() - start):.1f} ms"
    print(f"{len(values)} requests in {server.num_calls} calls of {server.signature!r}, {took}")
    return pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("saved_model", type=Path)
    parser.add_argument("--out", default="grid.png")
    parser.add_argument("--count", type=int, default=32, help="pictures to generate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeded", action="store_true", help="let the model draw its latents")
    parser.add_argument("--uniform", action="store_true", help="latents from -1 to 1 instead of normal ones")
    parser.add_argument("--pictures", nargs="+", default=[], help="picture files for a model that takes some")
    parser.add_argument("--size", type=int, default=64, help="their side, where the model takes any")
    parser.add_argument("--max-batch", type=int, default=16)
    parser.add_argument("--max-wait-ms", type=float, default=5.0)
    args = parser.parse_args()

    with BatchingServer(args.saved_model, None, args.max_batch, args.max_wait_ms / 1e3) as server:
        if args.seeded:
            pictures = server.generate_seeded(args.seed, args.count)
        else:
            pictures = ask_all(server, requests(server, args))
        out_range = picture_range(args.saved_model, server.signature, "outputs", server.output)
    write_grid(pictures, args.out, out_range)
    print(f"{args.out}: {len(pictures)} pictures of {pictures.shape[2]}x{pictures.shape[1]}")


def requests(server: BatchingServer, args: argparse.Namespace) -> list[np.ndarray]:
    """One value for each client: the picture files, or seeded latents."""
    if server.input.shape.rank == 4:
        if not args.pictures:
            raise SystemExit(f"{server.signature!r} takes pictures: name some with --pictures.")
        value_range = picture_range(args.saved_model, server.signature, "inputs", server.input.name)
        return [read_picture(file, server, args.size, value_range) for file in args.pictures]
    rng, shape = np.random.default_rng(args.seed), (args.count, server.input.shape[1])
    latents = rng.uniform(-1, 1, shape) if args.uniform else rng.standard_normal(shape)
    return list(latents.astype("float32"))


if __name__ == "__main__":
    main()
