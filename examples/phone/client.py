"""What a phone does with an exported .tflite file, in Python: no TensorFlow, no tf_gan_zoo.

Needs `pip install ai-edge-litert numpy pillow`:

    tf-gan-zoo export dcgan.fashion_mnist --out exported --format litert
    python client.py exported/dcgan.fashion_mnist.tflite --seed 0 --out picture.png

    tf-gan-zoo export pix2pix.emoji --out exported --format litert --image-size 64 --processing
    python client.py exported/pix2pix.emoji.tflite --picture in.png --out out.png

Everything it must know is in the file: signature, names, shapes, types. Only the range of float pictures is
not; it is -1 to 1 unless the export's report, beside the file, says otherwise. Files exported with
--processing take and give bytes from 0 to 255.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps

#: What `--picture` takes: Pillow goes by the content, and would hand an EPS file to Ghostscript.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")


class Client:
    """One signature of a .tflite file: one input, one output.

    Args:
        file: the .tflite file.
        signature: which to call; by default the first.
        threads: of the processor.
    """

    def __init__(self, file: Path, signature: str | None = None, threads: int = 2) -> None:
        self._interpreter = Interpreter(model_path=str(file), num_threads=threads)
        self.signature = signature or next(iter(self._interpreter.get_signature_list()))
        self._runner = self._interpreter.get_signature_runner(self.signature)
        ((self.input, details),) = self._runner.get_input_details().items()
        (self.output,) = self._runner.get_output_details()
        self.dtype = np.dtype(details["dtype"])
        self.shape = tuple(int(side) for side in details["shape_signature"])  # -1: any
        self._facts = _report(file).get("signatures", {}).get(self.signature, {})

    def draw_latents(self, seed: int, uniform: bool = False) -> np.ndarray:
        """Latents (1, latent_size) of one picture; the same seed gives the same."""
        rng, shape = np.random.default_rng(seed), (1, *self.shape[1:])
        latents = rng.uniform(-1, 1, shape) if uniform else rng.standard_normal(shape)
        return latents.astype(self.dtype)

    def from_picture(self, picture: Image.Image) -> np.ndarray:
        """A picture as the file takes it, (1, height, width, channels)."""
        picture = self._fit(_on_white(picture)).convert("L" if self.shape[3] == 1 else "RGB")
        pixels = np.asarray(picture).reshape(1, picture.height, picture.width, self.shape[3])
        if self.dtype == np.uint8:
            return pixels
        low, high = self._range("inputs", self.input)
        return (low + (high - low) / 255.0 * pixels).astype(self.dtype)

    def to_picture(self, values: np.ndarray) -> Image.Image:
        """The first picture of the output (batch, height, width, channels)."""
        values = values[0]
        if values.dtype != np.uint8:
            low, high = self._range("outputs", self.output)
            values = np.clip((values - low) * (255.0 / (high - low)), 0, 255).round().astype("uint8")
        return Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values)

    def run(self, values: np.ndarray) -> np.ndarray:
        """One call."""
        # A copy: the runner's array looks into memory that the next call overwrites.
        return np.array(self._runner(**{self.input: values})[self.output])

    def _fit(self, picture: Image.Image) -> Image.Image:
        """Crops and scales to a fixed size; where any size goes, only crops to what the network divides."""
        unit = self._facts.get("inputs", {}).get(self.input, {}).get("multiple_of", 1)
        sides = zip((picture.width, picture.height), (self.shape[2], self.shape[1]))
        size = [fixed if fixed > 0 else max(unit, own // unit * unit) for own, fixed in sides]
        return ImageOps.fit(picture, size, Image.Resampling.LANCZOS)

    def _range(self, kind: str, name: str) -> tuple[float, float]:
        return tuple(self._facts.get(kind, {}).get(name, {}).get("range", (-1.0, 1.0)))


def _report(file: Path) -> dict:
    report = file.with_suffix(".report.json")
    return json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {}


def _on_white(picture: Image.Image) -> Image.Image:
    picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def measure(client: Client, values: np.ndarray, runs: int) -> float:
    """Median milliseconds of a call."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        client.run(values)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", default="picture.png")
    parser.add_argument("--signature", help="by default the file's first")
    parser.add_argument("--seed", type=int, default=0, help="of the latents")
    parser.add_argument("--uniform", action="store_true", help="latents from -1 to 1 instead of normal ones")
    parser.add_argument("--picture", type=Path, help="for a file that translates or upscales")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=10, help="calls to time")
    args = parser.parse_args()

    client = Client(args.file, args.signature, args.threads)
    print(f"{client.signature}: {client.input} {client.dtype} {client.shape} -> {client.output}")
    if len(client.shape) == 4 and args.picture is None:
        raise SystemExit(f"{client.signature!r} takes a picture: name one with --picture.")
    if len(client.shape) == 4:
        values = client.from_picture(Image.open(args.picture, formats=FORMATS))
    else:
        values = client.draw_latents(args.seed, args.uniform)
    picture = client.to_picture(client.run(values))
    picture.save(args.out)
    time_per_call = f"{measure(client, values, args.runs):.2f} ms a call, {args.threads} threads"
    print(f"{args.out}: {picture.width}x{picture.height}, {time_per_call}")


if __name__ == "__main__":
    main()
