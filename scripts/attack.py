"""Attacks the zoo with malformed input for as long as one likes: `python scripts/attack.py --seconds 600`.

Each try draws one malformed thing from a seeded generator and hands it to the zoo: a config, a YAML text, an
archive of weights, a file of Keras, an image, a manifest, an answer of a server, a run folder; `kills` ends a
training at a random moment and resumes it. There are three outcomes:

    fine      it was taken, and nothing else changed (harmless damage, such as to a date)
    refused   an error of the zoo's own said why, and nothing changed
    wrong     anything else: another exception, a changed model, a file where none should be, too long a time

A wrong outcome prints its attack and seed, by which `--only ATTACK --seed SEED --tries 1` shows it again. The
last line has the figures; the exit status is 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import hashlib
import io
import json
import os
import random
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import tf_gan_zoo as zoo
from tf_gan_zoo import callbacks, checkpoints, fetch, image_files, published, registry, train, weights
from tf_gan_zoo.config import Config, ConfigError, parse_settings, read_yaml
from tf_gan_zoo.data import DatasetError, sources
from tf_gan_zoo.fetch import WeightsError

#: Seconds that one try may take; kills train and take longer.
PATIENCE = 10.0
#: The smallest model that has every kind of state.
SMALL = {"image_size": 8, "channels": 1, "width": 2, "latent_size": 4}
NASTY = [
    None, True, False, 0, -1, 1, 2, 3, 7, 28, 64, 2**31 - 1, 2**31, 2**63, 10**12, 10**400, 0.0, -0.0, 0.5,
    1.0, -1.5, 1e-300, 1e300, float("inf"), float("nan"), "", "x", "x" * 10_000, "../../etc", "\x1b[2J", "\0",
    "none", "1e5", b"x", [], [0], [1, 2], [1, 2, 3], [[1], [2]], {}, {"a": 1}, {1: 2}, (), (8, 8), object,
    range(3),
]  # fmt: skip


OWN_ERRORS = (
    ConfigError, WeightsError, DatasetError, train.RunError, checkpoints.CheckpointError,
    registry.UnknownNameError, IsADirectoryError,
)  # fmt: skip
#: Attacks that start programs; each try takes seconds.
SLOW = ("kills",)


class Wrong(Exception):
    """What a try found that should not be."""


Attack = Callable[[random.Random, Path], str]
ATTACKS: dict[str, Attack] = {}


def attack(function: Attack) -> Attack:
    """Adds a function to the attacks: it makes one try in a folder of its own and returns its outcome."""
    ATTACKS[function.__name__.replace("_", "-")] = function
    return function


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to go on (default: 60)")
    parser.add_argument("--tries", type=int, default=10**9, help="stop after so many tries")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the first try; the next has the next one"
    )
    parser.add_argument("--only", action="append", choices=sorted(ATTACKS), help="these attacks; repeatable")
    arguments = parser.parse_args()
    figures = run(arguments.only or list(ATTACKS), arguments.seconds, arguments.tries, arguments.seed)
    print(summary(figures))
    sys.exit(1 if figures["wrong"] else 0)


def run(names: list[str], seconds: float, tries: int, seed: int = 0) -> collections.Counter[str]:
    """Tries the attacks in turn until time or tries are used up; counts outcomes, in all and by attack."""
    figures: collections.Counter[str] = collections.Counter()
    end = time.monotonic() + seconds
    with surroundings() as folder:
        for number in range(tries):
            if time.monotonic() > end:
                break
            name = turn(names, number)
            outcome = one_try(name, seed + number, folder)
            figures.update([outcome, f"{name}: {outcome}"])
    return figures


def turn(names: list[str], number: int) -> str:
    """Which attack a try belongs to: the quick ones in turn, a slow one in its place after each thousand."""
    quick, slow = [n for n in names if n not in SLOW], [n for n in names if n in SLOW]
    if slow and (not quick or number % 1000 == 999):
        return slow[number // 1000 % len(slow)]
    return quick[number % len(quick)]


def one_try(name: str, seed: int, folder: Path) -> str:
    """The outcome of one try; what is wrong is printed."""
    begun = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome = ATTACKS[name](random.Random(f"{name} {seed}"), folder)
        passed = time.monotonic() - begun
        if passed > PATIENCE and name not in SLOW:
            raise Wrong(f"it took {passed:.1f} seconds")
    except Exception as error:
        print(f"wrong: --only {name} --seed {seed} --tries 1: {type(error).__name__}: {str(error)[:500]!r}")
        return "wrong"
    return outcome


def summary(figures: collections.Counter[str]) -> str:
    """One line: how many were tried, by outcome, and how many of each attack."""
    outcomes = ("refused", "fine", "wrong")
    kinds: collections.Counter[str] = collections.Counter()
    for key, count in figures.items():
        if ": " in key:
            kinds[key.partition(": ")[0]] += count
    total = ", ".join(f"{figures[outcome]:,} {outcome}" for outcome in outcomes)
    by_kind = ", ".join(f"{kind} {count:,}" for kind, count in sorted(kinds.items()))
    return f"{sum(kinds.values()):,} tried: {total} ({by_kind})"


@contextlib.contextmanager
def surroundings() -> Iterator[Path]:
    """A folder that goes away; meanwhile nothing reaches the network or the user's cache."""
    limits = {"BACKOFF": 0.001, "CONNECT_TIMEOUT": 1.0, "READ_TIMEOUT": 0.2, "SLOW_SECONDS": 0.5}
    kept = {name: getattr(fetch, name) for name in limits}
    environment = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(ZOO_CACHE=str(Path(folder) / "cache"), NO_PROXY="*")
        for name in ("ZOO_OFFLINE", "ZOO_WEIGHTS_URL", "ZOO_ALLOW_HTTP"):
            os.environ.pop(name, None)
        for name, value in limits.items():
            setattr(fetch, name, value)
        try:
            yield Path(folder)
        finally:
            for name, value in kept.items():
                setattr(fetch, name, value)
            os.environ.clear()
            os.environ.update(environment)
            for cached in (small_model, good_archive, good_keras_weights):
                cached.cache_clear()


def refused(
    error: type[Exception] | tuple[type[Exception], ...], function: Callable[..., Any], *args: Any
) -> str:
    """Calls the function: "fine", or "refused" if it raises this error with a message fit for a terminal."""
    try:
        function(*args)
    except error as raised:
        text = str(raised)
        if len(text) > 20_000 or not text.replace("\n", " ").isprintable():
            raise Wrong(f"the message is too long or not printable: {text[:300]!r}") from raised
        return "refused"
    return "fine"


# -------------------------------------------------------------------- configs


@attack
def configs(draw: random.Random, folder: Path) -> str:
    """Some fields of some model's config with values of any kind."""
    config_cls = registry.get_spec(draw.choice(zoo.list_models())).config_cls
    fields = draw.sample(config_cls.field_names(), draw.choice([1, 1, 1, 2, 4]))
    values = {draw.choice([field, field, field, field + "s"]): draw.choice(NASTY) for field in fields}
    made: list[Config] = []
    outcome = refused(ConfigError, lambda: made.append(config_cls.from_dict(values)))
    if made and config_cls.from_dict(made[0].to_dict()) != made[0]:
        raise Wrong(f"{values} does not survive a round trip")
    return outcome


_TOKENS = [
    "a", "b: ", "- ", "\n", "\n  ", "{", "}", "[", "]", ",", ": ", "&x ", "*x", "<<: ", "? ", "| ", "> ", '"',
    "'", "#", "!!python/object:os.system ", "!!binary ", "!!set ", "!!omap ", "2020-99-99", "1e400", "0x",
    "0o7", "1:60:", ".inf", ".nan", "~", "\t", "%YAML 9", "---", "...", "9" * 5000, "\x00", "\u2028",
    "\ud83d",
    "[" * 2000,
]  # fmt: skip


@attack
def yaml_texts(draw: random.Random, folder: Path) -> str:
    """Texts that look like YAML, and lists of settings."""
    text = "".join(draw.choice(_TOKENS) for _ in range(draw.randrange(1, 30)))
    if draw.random() < 0.3:
        return refused(ConfigError, parse_settings, [text, f"epochs={text}"])
    return refused(ConfigError, read_yaml, text)


@attack
def data_options(draw: random.Random, folder: Path) -> str:
    """Options of data sources with values of any kind; sizes that fit are kept small."""
    kind = draw.choice(["glyphs", "digits", "clutter", "strokes", "heads", "figures", "solids", "oracle"])
    types = {**sources.option_types(kind), "flip": bool, "load_scale": float | None, "crop": str}
    options = {draw.choice(sorted(types)): draw.choice(NASTY) for _ in range(draw.choice([1, 1, 2]))}
    return refused(DatasetError, sources.checked_options, kind, options, types)


# -------------------------------------------------------------------- weights


@functools.cache
def small_model() -> zoo.GAN:
    return zoo.get("dcgan", **SMALL)


@functools.cache
def good_archive() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "good.npz"
        weights.save(small_model(), path, optimizers=True)
        weights.load(
            small_model(), "dcgan", path, optimizers=True
        )  # rounded, so that loading changes nothing
        return path.read_bytes()


@attack
def archives(draw: random.Random, folder: Path) -> str:
    """Archives of weights: damaged as a whole, in one member's header, or with another array in its place."""
    data, kind = good_archive(), draw.random()
    if kind < 0.1:
        data = data[: draw.randrange(len(data))]
    elif kind < 0.4:
        data = with_noise(data, len(data), draw)
    else:
        data = with_other_member(data, draw)
    return loaded_whole_or_not(data, folder / "x.npz")


def with_other_member(data: bytes, draw: random.Random) -> bytes:
    """The archive with one member damaged, replaced, renamed, twice or missing; checksums are right."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {item.filename: archive.read(item) for item in archive.infolist()}
    name, out = draw.choice(list(members)), io.BytesIO()
    content, change = members[name], draw.randrange(6)
    names = [name]
    if change == 0:
        content = with_noise(content, 128, draw)
    elif change == 1:
        content = content[: draw.randrange(len(content))]
    elif change == 2:
        content = array_bytes(
            draw.choice([np.array(-5), np.zeros((2, 2)), np.array(np.nan, "float16"), np.array("x")])
        )
    elif change == 3:
        names = [
            draw.choice(["../x.npy", "/x.npy", "x", "generator/999.npy", "a/b/c/d.npy", "\x1b.npy", "."])
        ]
    else:
        names = [name, name] if change == 4 else []
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for other, value in members.items():
            for written in names if other == name else [other]:
                archive.writestr(written, content if other == name else value)
    return out.getvalue()


def array_bytes(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def with_noise(content: bytes, within: int, draw: random.Random) -> bytes:
    """Some of the first `within` bytes changed."""
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 8])):
        changed[draw.randrange(min(within, len(changed)))] = draw.choice([draw.randrange(256), *b"0({-',"])
    return bytes(changed)


def loaded_whole_or_not(data: bytes, path: Path, optimizers: bool = True) -> str:
    """Loads a file into the small model, which must be as it was afterwards."""
    model = small_model()
    path.write_bytes(data)
    before = state_of(model)
    try:
        outcome = refused(
            WeightsError, functools.partial(weights.load, model, "dcgan", path, optimizers=optimizers)
        )
        if state_of(model) != before:
            raise Wrong("the model has changed")
    finally:
        path.unlink(missing_ok=True)
    return outcome


def state_of(model: zoo.GAN) -> list[bytes]:
    optimizers = [v for player in model.players for v in model.player_optimizer(player).variables]
    return [np.asarray(v.numpy()).tobytes() for v in [*model.variables, *optimizers]]


@functools.cache
def good_keras_weights() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "good.weights.h5"
        small_model().save_weights(path)
        return path.read_bytes()


@attack
def keras_weights(draw: random.Random, folder: Path) -> str:
    """Weights as `save_weights` writes them, damaged or cut; the checksum tells."""
    good_archive()  # the model's numbers are rounded from here on
    data = good_keras_weights()
    if draw.random() < 0.2:
        data = data[: draw.randrange(len(data))]
    else:
        data = with_noise(data, len(data) - 200, draw) if draw.random() < 0.8 else data + b"more"
    return loaded_whole_or_not(data, folder / "x.weights.h5", optimizers=False)


# -------------------------------------------------------------------- run folders


@functools.cache
def good_run() -> Path:
    """The folder of a short finished run."""
    out = Path(tempfile.mkdtemp(prefix="attacked-")) / "run"
    short = {"data_options": {"num_examples": 40}, "steps_per_epoch": 2, "epochs": 1, "batch_size": 4}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        train.train("dcgan", data="glyphs", out=out, settings={**SMALL, **short}, strategy="one", verbose=0)
    return out


@attack
def run_folders(draw: random.Random, folder: Path) -> str:
    """A run folder with a file damaged, empty, missing, or a folder in its place."""
    run_folder = folder / "run"
    shutil.copytree(good_run(), run_folder)
    try:
        names = ["config.yaml", "history.jsonl", "model.weights.h5", "record.json"]
        files = [run_folder / name for name in names]
        damage(draw.choice([*files, *files, *(run_folder / "checkpoints").iterdir()]), draw)
        loaded = refused(OWN_ERRORS, train.load_model, str(run_folder))
        return "refused" if "refused" in (loaded, refused(OWN_ERRORS, look_at, run_folder)) else "fine"
    finally:
        shutil.rmtree(run_folder)


def damage(file: Path, draw: random.Random) -> None:
    content, change = file.read_bytes(), draw.randrange(5)
    file.unlink()
    if change == 0:
        file.mkdir()
    elif change != 1:
        file.write_bytes(b"" if change == 2 or not content else with_noise(content, len(content), draw))


def look_at(run_folder: Path) -> None:
    """What a resumption reads before it builds a model."""
    folder = train.RunFolder(run_folder)
    folder.stored(resume=True)
    rows = callbacks.read_history(folder.history)
    checkpoints.choose(folder.checkpoints, max([row["step"] for row in rows], default=0))


@attack
def kills(draw: random.Random, folder: Path) -> str:
    """A training that is killed twice at random moments ends with the same weights as one that is not."""
    settings = {**SMALL, "batch_size": 4, "steps_per_epoch": 60, "epochs": 2}
    settings["data_options"] = "{num_examples: 200}"
    command = [
        sys.executable, "-m", "tf_gan_zoo", "train", "dcgan", "--data", "glyphs", "--strategy", "one",
        "--deterministic", "--checkpoint-every", "3", "--resume",
        *(word for key, value in settings.items() for word in ("--set", f"{key}={value}")), "--out",
    ]  # fmt: skip
    whole, killed = folder / "whole", folder / "killed"
    if not (whole / "model.weights.h5").is_file():
        subprocess.run([*command, str(whole)], check=True, capture_output=True)
    for _ in range(2):
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        program = subprocess.Popen([*command, str(killed)], **silent)
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(draw.uniform(3, 14))
        program.kill()
        program.wait()
    subprocess.run([*command, str(killed)], check=True, capture_output=True)
    states = [digest_of_weights(run_folder / "model.weights.h5") for run_folder in (whole, killed)]
    shutil.rmtree(killed)
    if states[0] != states[1]:
        raise Wrong("the killed run ended with other weights")
    return "fine"


def digest_of_weights(path: Path) -> str:
    """Of all arrays in a file of Keras, which also holds times."""
    total = hashlib.sha256()
    with h5py.File(path) as file:
        file.visititems(lambda name, item: total.update(name.encode() + array_of(item)))
    return total.hexdigest()


def array_of(item: Any) -> bytes:
    return np.asarray(item).tobytes() if isinstance(item, h5py.Dataset) else b""


# -------------------------------------------------------------------- images


@functools.cache
def good_images() -> list[bytes]:
    """Small images in the usual formats."""
    from PIL import Image

    pixels, files = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8), []
    for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "TGA", "ICO", "SGI", "PCX"):
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, form)
        files.append(out.getvalue())
    return files


@attack
def images(draw: random.Random, folder: Path) -> str:
    """Image files: damaged, cut, of another kind than their name, larger than they are."""
    data, kind = draw.choice(good_images()), draw.random()
    if kind < 0.5:
        data = with_noise(data, draw.choice([40, len(data)]), draw)
    elif kind < 0.7:
        data = data[: draw.randrange(len(data))]
    elif kind < 0.8:
        data = huge_png(draw)
    elif kind < 0.9:
        data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/tmp/owned) (w) file\n" + data
    path = folder / f"x{draw.choice(['.png', '.jpg', '.tif', '.gif', '.tga', '.jfif', ''])}"
    path.write_bytes(data)
    try:
        return refused(image_files.ImageFileError, image_files.load_image, path)
    finally:
        path.unlink()


def huge_png(draw: random.Random) -> bytes:
    """A PNG whose header claims more pixels than any memory holds."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    size = draw.choice([10_000, 60_000, 2**31 - 1])
    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


# -------------------------------------------------------------------- manifests and servers


@attack
def manifests(draw: random.Random, folder: Path) -> str:
    """Manifests of a release folder of somebody else's."""
    entry: dict[str, Any] = {
        "file": "x.npz", "size": 3, "sha256": "0" * 64, "licence": "MIT", "data_licence": "", "mirrors": [],
    }  # fmt: skip
    plain = [
        value for value in NASTY if not isinstance(value, (bytes, range, type, dict)) and value != 10**400
    ]
    for key in draw.sample(sorted(entry), draw.choice([1, 1, 2])):
        entry[key] = draw.choice(
            [*plain, "../x.npz", "x.npz/../../y", "x.h5", ["file:///etc/passwd"], ["\x07"]]
        )
    name = draw.choice(["dcgan.mine", "dcgan.mine", "../x", "x\x1b[2J", "", "dcgan"])
    text = json.dumps({name: entry}).encode()
    text = with_noise(text, len(text), draw) if draw.random() < 0.4 else text
    release = folder / "release"
    release.mkdir(exist_ok=True)
    (release / published.MANIFEST).write_bytes(text)
    os.environ["ZOO_WEIGHTS_URL"] = release.as_uri()
    try:
        before = set(published.PRETRAINED_DIR.iterdir())
        outcome = refused(WeightsError, published.names)
        refused(WeightsError, published.locate, "dcgan.mine", "pretrained")
        if set(published.PRETRAINED_DIR.iterdir()) != before:
            raise Wrong("a file appeared in the package")
        return outcome
    finally:
        del os.environ["ZOO_WEIGHTS_URL"]


_STATUS = [
    b"HTTP/1.1 200 OK", b"HTTP/1.0 206 Partial", b"HTTP/1.1 302 Found", b"HTTP/9.9 999", b"", b"\x00",
    b"HTTP/1.1 200 \x1b[2J", b"HTTP/1.1 500 no", b"ICY 200 OK",
]  # fmt: skip
_LENGTHS = [
    b"Content-Length: 1000", b"Content-Length: -1", b"Content-Length: 99999999999999", b"Content-Length: x",
    b"Transfer-Encoding: chunked", b"X" * 70_000, b"No colon", b"",
]  # fmt: skip
_HEADERS = [
    b"Location: http://[::1", b"Location: //", b"Location: file:///etc/passwd", b'ETag: "a"', b"",
    b"Location: http://198.51.100.1/", b"Content-Range: bytes 5-1/3", b"Content-Encoding: gzip",
]  # fmt: skip


@attack
def server_answers(draw: random.Random, folder: Path) -> str:
    """What a server sends: nonsense, lies about lengths and ranges, redirects, silence."""
    body = b"x" * draw.choice([0, 1, 1000])
    lines = [draw.choice(_STATUS), draw.choice(_LENGTHS), draw.choice(_HEADERS)]
    answer = b"\r\n".join(lines) + draw.choice([b"\r\n\r\n", b"\n\n", b""]) + body
    target = folder / "slot" / "x.npz"
    with answering(answer) as address:
        outcome = refused(
            WeightsError, functools.partial(fetch.fetch, sha256="0" * 64, size=1000), target, [address]
        )
    if target.exists():
        raise Wrong("a file with a wrong digest got its name")
    return outcome


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server on this machine that answers everything with these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    with client, contextlib.suppress(OSError):
                        client.settimeout(1.0)
                        client.recv(65_536)
                        client.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/x.npz"
        server.shutdown(socket.SHUT_RDWR)
    thread.join(2.0)


if __name__ == "__main__":
    main()
