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
        image = future.result()

Over HTTP (a reverse proxy in front of it adds TLS and who may ask):

    python serve.py exported/dcgan.fashion_mnist --port 8000
    # POST /, body and answer are arrays as numpy.save writes them; GET / says what is expected.
    # 400: the array does not fit; 413: too large; 429: too many are waiting, ask again later; 503: stopping
"""

from __future__ import annotations

import argparse
import http.server
import io
import json
import math
import queue
import signal
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import tensorflow as tf

TASKS = ("generate", "translate", "upscale")
Range = tuple[float, float]


class Busy(RuntimeError):
    """As many requests are waiting as may; ask again later."""


class BatchingServer:
    """Gathers the requests of a few milliseconds into one call of a signature.

    Args:
        saved_model: the exported folder.
        signature: which to call; by default the first of `TASKS` that the model has.
        max_batch: most requests in one call.
        max_wait: seconds that a request waits for others at most.
        max_waiting: most requests that wait for their turn; more are refused.
    """

    def __init__(
        self, saved_model: Path, signature: str | None = None, max_batch: int = 16, max_wait: float = 0.005,
        max_waiting: int = 1024,
    ) -> None:  # fmt: skip
        self.loaded = tf.saved_model.load(str(saved_model))  # owns the weights
        self.signature = signature or next(name for name in TASKS if name in self.loaded.signatures)
        self._function = self.loaded.signatures[self.signature]
        (self.input,) = self._function.structured_input_signature[1].values()
        (self.output,) = self._function.structured_outputs
        self._fixed_batch = self.input.shape[0]  # None where the export takes any
        self._max_batch, self._max_wait = self._fixed_batch or max_batch, max_wait
        self.num_calls, self._closed = 0, False
        self._requests: queue.Queue = queue.Queue()
        self._max_waiting, self._door = max_waiting, threading.Lock()
        self._worker = threading.Thread(target=self._work, daemon=True)
        self._worker.start()

    def submit(self, value: np.ndarray) -> Future:
        """Hands in one request: latents (latent_size,) or a picture (height, width, channels).

        Returns:
            A future of its picture.

        Raises:
            ValueError: if the shape or the type does not fit, or it holds NaN; no other request is touched.
            Busy: if too many are waiting.
            RuntimeError: after `close`.
        """
        value, shape = np.asarray(value), self.input.shape[1:]
        if not shape.is_compatible_with(value.shape) or value.dtype != self.input.dtype.as_numpy_dtype:
            expected = f"{self.input.dtype.name} {shape}"
            raise ValueError(f"{self.input.name}: expected {expected}, got {value.dtype} {value.shape}.")
        if not np.isfinite(value).all():
            raise ValueError(f"{self.input.name}: expected finite numbers, got NaN or infinite ones.")
        future: Future = Future()
        with self._door:  # between the question and the deed nobody closes
            if self._closed:
                raise RuntimeError("the server is closed: make a new one")
            if self._requests.qsize() >= self._max_waiting:
                raise Busy(f"{self._max_waiting} requests are waiting: ask again later.")
            self._requests.put((value, future))
        return future

    def generate_seeded(self, seed: int, count: int) -> np.ndarray:
        """The model draws its own latents: the same pictures as `model.generate(count, seed)`."""
        function = self.loaded.signatures["generate_seeded"]
        outputs = function(seed=tf.constant(seed, tf.int64), num_samples=tf.constant(count, tf.int32))
        return outputs[self.output].numpy()

    def close(self) -> None:
        """Answers what has been handed in and stops; may be called more than once."""
        with self._door:
            if not self._closed:
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
                future.set_result(picture.copy())  # nobody's changes reach another's answer

    def _run(self, values: np.ndarray) -> np.ndarray:
        if self._fixed_batch:  # fill up with zeros, which nobody gets an answer for
            values = np.pad(values, [(0, self._fixed_batch - len(values))] + [(0, 0)] * (values.ndim - 1))
        self.num_calls += 1
        return self._function(**{self.input.name: tf.constant(values)})[self.output].numpy()


class HTTPServer(http.server.ThreadingHTTPServer):
    """Serves a `BatchingServer` over HTTP; `shutdown` stops it after the requests that are being answered.

    Args:
        server: what answers.
        address: host and port; port 0 takes a free one.
        max_bytes: largest body of a request.
        max_connections: connections at one time; more are told to come back.
        timeout: seconds that a client may be silent, and that an answer may take.
    """

    daemon_threads, block_on_close, request_queue_size = False, True, 128

    def __init__(
        self, server: BatchingServer, address: tuple[str, int] = ("127.0.0.1", 8000), *,
        max_bytes: int = 64 << 20, max_connections: int = 64, timeout: float = 30.0,
    ) -> None:  # fmt: skip
        self.server, self.max_bytes, self.seconds = server, max_bytes, timeout
        self.free = threading.BoundedSemaphore(max_connections)
        super().__init__(address, Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are no error of the server."""


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection: arrays in, arrays out."""

    server: HTTPServer

    def setup(self) -> None:
        self.timeout = self.server.seconds
        super().setup()

    def do_GET(self) -> None:
        expected = self.server.server.input
        text = json.dumps({"dtype": expected.dtype.name, "shape": list(expected.shape[1:])})
        self.reply(200, text.encode(), "application/json")

    def do_POST(self) -> None:
        if not self.server.free.acquire(blocking=False):
            return self.refuse(429, "too many connections")
        try:
            self.answer()
        finally:
            self.server.free.release()
        return None

    def answer(self) -> None:
        """Reads, checks and answers one request."""
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            return self.refuse(411, "expected a Content-Length")
        if int(length) > self.server.max_bytes:
            return self.refuse(413, f"expected at most {self.server.max_bytes} bytes")
        try:
            value = read_array(self.rfile.read(int(length)))
            future = self.server.server.submit(value)
        except ValueError as error:
            return self.refuse(400, str(error))
        except Busy as error:
            return self.refuse(429, str(error))
        except RuntimeError as error:
            return self.refuse(503, str(error))
        try:
            image = future.result(self.server.seconds)
        except Exception as error:
            return self.refuse(500, f"{type(error).__name__}: {error}")
        body = io.BytesIO()
        np.save(body, image)
        return self.reply(200, body.getvalue(), "application/x-npy")

    def refuse(self, status: int, reason: str) -> None:
        """Says why, and ends the connection, since the body may not have been read."""
        self.close_connection = True
        self.reply(status, (reason + "\n").encode(), "text/plain; charset=utf-8")

    def reply(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if status == 429:
            self.send_header("Retry-After", "1")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent: what is to be logged is for the program around it to say."""


def read_array(body: bytes) -> np.ndarray:
    """An array as numpy.save writes it; a header that claims more than there is gets no memory.

    Raises:
        ValueError: for anything else.
    """
    file = io.BytesIO(body)
    try:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("version 1.0 of the format")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file, max_header_size=1024)
        if dtype.hasobject or fortran or len(body) - file.tell() != math.prod(shape) * dtype.itemsize:
            raise ValueError("plain numbers in C order, as many as the shape says")
        return np.frombuffer(body, dtype, offset=file.tell()).reshape(shape)
    except Exception as error:  # damaged headers raise many kinds
        raise ValueError(f"expected an array as numpy.save writes it: {error}") from None


def serve_http(server: BatchingServer, port: int) -> None:
    """Serves until Ctrl-C or SIGTERM, then answers what has been asked and stops."""
    with HTTPServer(server, ("127.0.0.1", port)) as running:
        for number in (signal.SIGTERM, signal.SIGINT):  # shells let background programs ignore the latter
            signal.signal(number, signal.default_int_handler)
        where = f"http://127.0.0.1:{running.server_port}/"
        print(f"{where} serves {server.signature!r}; Ctrl-C stops it", flush=True)
        try:
            running.serve_forever(poll_interval=0.1)
        except KeyboardInterrupt:
            print("stopping")


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
    parser.add_argument("--port", type=int, help="serve over HTTP on this port of 127.0.0.1")
    args = parser.parse_args()

    with BatchingServer(args.saved_model, None, args.max_batch, args.max_wait_ms / 1e3) as server:
        if args.port is not None:
            return serve_http(server, args.port)
        if args.seeded:
            pictures = server.generate_seeded(args.seed, args.count)
        else:
            pictures = ask_all(server, requests(server, args))
        out_range = picture_range(args.saved_model, server.signature, "outputs", server.output)
    write_grid(pictures, args.out, out_range)
    print(f"{args.out}: {len(pictures)} pictures of {pictures.shape[2]}x{pictures.shape[1]}")
    return None


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
