"""Which weights are published, and where they lie: in the package, in the cache, at mirrors.

Environment variables:

    ZOO_CACHE        folder of fetched files; by default $XDG_CACHE_HOME or ~/.cache, then tf_gan_zoo
    ZOO_OFFLINE      1: never touch the network
    ZOO_ALLOW_HTTP   1: take weights over plain http from other machines, too
    ZOO_WEIGHTS_URL  addresses of release folders of one's own, asked before all other mirrors

Trust: the manifest in the package names a digest for each of its recipes, and no mirror can change it. A
recipe that only the manifest of a ZOO_WEIGHTS_URL folder names is taken with the digest that stands there: it
proves that the file arrived whole, and you answer for the folder. In the cache a file lies below its digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from filelock import Timeout

from tf_gan_zoo import fetch
from tf_gan_zoo.config import closest, is_recipe_name
from tf_gan_zoo.fetch import FetchError, WeightsError, is_offline
from tf_gan_zoo.paths import expand

PRETRAINED_DIR = Path(__file__).resolve().parent / "pretrained"
MANIFEST = "manifest.json"
_MAX_MANIFEST = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")
#: Folders of the cache: files with a digest, files of an address without one, manifests.
_SLOT = re.compile(r"[0-9a-f]{64}|(address|manifest)-[0-9a-f]{16}")
_FILE_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*\.npz")
_REFUSED_SUFFIXES = {".h5", ".keras", ".pkl", ".pickle", ".pt", ".ckpt"}


@dataclass(frozen=True)
class Found:
    """A weights file on this machine.

    Attributes:
        path: where it lies.
        source: what led to it: "package", "cache", "mirror", "path" or the address that was given.
        sha256: its digest, if it was checked or computed.
        entry: its item in a manifest, if it is published.
        record: the metrics record beside it, if there is one.
    """

    path: Path
    source: str
    sha256: str | None = None
    entry: Mapping[str, Any] | None = None
    record: Path | None = None


def manifest() -> dict[str, dict[str, Any]]:
    """Recipe name -> file, size, SHA-256, licence, data, config digest, record, mirrors; of the package."""
    path = PRETRAINED_DIR / MANIFEST
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def names() -> list[str]:
    """Every published recipe: of the package, and of the ZOO_WEIGHTS_URL folders."""
    served = [
        name
        for mirror in own_mirrors()
        for name, entry in _served_manifest(mirror).items()
        if _checked_entry(name, entry, mirror)
    ]
    return sorted({*manifest(), *served})


def cache_dir() -> Path:
    """The folder of fetched files."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return expand(os.environ.get("ZOO_CACHE") or Path(home) / "tf_gan_zoo")


def own_mirrors() -> list[str]:
    """The addresses in ZOO_WEIGHTS_URL."""
    return [word for word in re.split(r"[\s,]+", os.environ.get("ZOO_WEIGHTS_URL", "")) if word]


def locate(name: str, source: str | Path) -> Found:
    """The file behind what `zoo.get(name, weights=source)` was given; it is fetched if need be.

    Args:
        name: a recipe.
        source: "pretrained"; the address of an .npz file, with or without "#sha256=DIGEST", or of a release
            folder; or the path of a file, a run folder or a release folder.

    Raises:
        WeightsError: if there is no such file, or it is damaged.
    """
    if str(source) == "pretrained":
        return pretrained(name)
    if isinstance(source, str) and fetch.scheme(source):
        return _at_address(name, source)
    path = expand(source)
    if (path / MANIFEST).is_file():
        return _in_release(name, path.resolve().as_uri())
    path = path / "model.weights.h5" if path.is_dir() else path
    if not path.is_file():
        raise WeightsError(
            f"no weights at {source}: expected 'pretrained', a file, a run folder, or an address such as "
            "https://host/file.npz."
        )
    return Found(path, "path")


def pretrained(name: str) -> Found:
    """A recipe's published weights: from the package, else the cache, else the first mirror that has them.

    Raises:
        WeightsError: if they are not published, or cannot be had; the error says how to get them.
    """
    entry, base = _entry(name)
    packaged = PRETRAINED_DIR / entry["file"]
    if base is None and packaged.is_file():
        if fetch.is_intact(packaged, entry["sha256"]):
            return Found(packaged, "package", entry["sha256"], entry, _record(entry))
        warnings.warn(f"{packaged} is damaged: reinstall tf_gan_zoo.", stacklevel=2)
    first = own_mirrors() if base is None else [base]
    return _in_cache(name, entry, [*first, *entry.get("mirrors", [])])


def file_address(mirror: str, file: str) -> str:
    """The address of a file at a mirror, which is a folder's address or the file's own."""
    return mirror if mirror.endswith(f"/{file}") else f"{mirror.rstrip('/')}/{file}"


def cached_path(sha256: str, file: str) -> Path:
    """Where the cache keeps a file: below its whole digest, so that it can always be checked."""
    return cache_dir() / sha256 / file


def verify() -> Iterator[tuple[Path, str]]:
    """(file, problem) for every packaged and every cached file; the problem is empty if it is intact."""
    for entry in manifest().values():
        path = PRETRAINED_DIR / entry["file"]
        if path.is_file() or not entry.get("mirrors"):
            yield path, _problem(path, entry["sha256"], "reinstall tf_gan_zoo")
    for slot in _slots():
        for path in sorted(slot.iterdir()):
            if _DIGEST.fullmatch(slot.name) and path.suffix != fetch.PART:
                yield path, _problem(path, slot.name, "delete it; it is fetched again when it is needed")


def prune(dry_run: bool = False) -> Iterator[tuple[Path, int]]:
    """(file, bytes) of each cached file that no manifest names and each left part; they are removed.

    Files that another process is fetching are left alone, as is all that the zoo has not put there.
    """
    named = {entry["sha256"] for entry in [*manifest().values(), *_cached_entries()]}
    for slot in _slots():
        try:
            with fetch.lock(slot, timeout=0):
                yield from _prune_slot(slot, named, dry_run)
        except Timeout:
            continue


def _entry(name: str) -> tuple[Mapping[str, Any], str | None]:
    """The entry of a recipe, and the ZOO_WEIGHTS_URL folder whose manifest names it (None: the package's)."""
    entries, problems = manifest(), []
    if name in entries:
        return entries[name], None
    for mirror in own_mirrors():
        try:
            served = _served_manifest(mirror)
        except WeightsError as error:
            problems.append(str(error))
            continue
        if name in served:
            return _checked_entry(name, served[name], mirror), mirror
        entries.update(served)
    raise WeightsError(
        f"no pretrained weights for {name!r}.{closest(name, entries)} "
        f"Published: {', '.join(sorted(entries)) or 'none'}.{''.join(f' {problem}' for problem in problems)}"
    )


def _served_manifest(folder: str) -> dict[str, Any]:
    """The manifest of a release folder; offline, the copy that the last visit left."""
    address = file_address(folder, MANIFEST)
    path = cache_dir() / f"manifest-{_key(address)}" / MANIFEST
    if _reachable([address]) or not path.is_file():
        _get(path, [address], max_size=_MAX_MANIFEST)
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{address} is not a manifest of weights: {error}. Check the address.") from None
    if not isinstance(entries, dict):
        raise WeightsError(f"{address} is not a manifest of weights: expected an object. Check the address.")
    return entries


def _checked_entry(name: str, entry: Any, origin: str) -> Mapping[str, Any]:
    """An entry that someone else wrote: its file may only be a plain name."""
    entry = entry if isinstance(entry, dict) else {}
    mirrors = entry.get("mirrors", [])
    good = (
        _FILE_NAME.fullmatch(str(entry.get("file")))
        and _DIGEST.fullmatch(str(entry.get("sha256")))
        and type(entry.get("size")) is int and entry["size"] > 0
        and isinstance(mirrors, list) and all(isinstance(mirror, str) for mirror in mirrors)
        and is_recipe_name(name) and _is_printable(entry)
    )  # fmt: skip
    if not good:
        raise WeightsError(
            f"the manifest at {origin} has a bad entry for {name[:100]!r}: expected a recipe's name, a file "
            "name ending in .npz, a size in bytes, a SHA-256 digest, a list of mirrors and plain text, got "
            f"{str(entry)[:300]}."
        )
    return entry


def _is_printable(value: Any) -> bool:
    """Whether no text in a manifest's entry holds control characters, which could act on a terminal."""
    if isinstance(value, Mapping):
        return all(_is_printable(item) for pair in value.items() for item in pair)
    if isinstance(value, list):
        return all(_is_printable(item) for item in value)
    return not isinstance(value, str) or value.isprintable()


def _record(entry: Mapping[str, Any]) -> Path | None:
    """The packaged record of an entry."""
    path = PRETRAINED_DIR / Path(str(entry.get("record", ""))).name
    return path if path.is_file() else None


def _in_cache(name: str, entry: Mapping[str, Any], mirrors: list[str]) -> Found:
    file, sha256 = entry["file"], entry["sha256"]
    path = cached_path(sha256, file)
    if fetch.is_intact(path, sha256):
        return Found(path, "cache", sha256, entry, _record(entry))
    if not mirrors:
        raise WeightsError(
            f"{PRETRAINED_DIR / file} is missing or damaged and has no mirror: reinstall tf_gan_zoo, name a "
            f"release folder in ZOO_WEIGHTS_URL, or put the file (SHA-256 {sha256}) at {path}."
        )
    addresses = [file_address(mirror, file) for mirror in mirrors]
    _get(path, addresses, sha256=sha256, size=entry["size"], command=f"tf-gan-zoo fetch {name}")
    return Found(path, "mirror", sha256, entry, _record(entry))


def _at_address(name: str, address: str) -> Found:
    if fetch.scheme(address) not in fetch.SCHEMES:
        raise WeightsError(f"expected an address with one of {', '.join(fetch.SCHEMES)}://, got {address}.")
    bare, _, fragment = address.partition("#")
    try:
        path = urlsplit(bare).path
    except ValueError as error:
        raise WeightsError(f"{address} is not an address: {error}. Check its spelling.") from None
    file = unquote(path).rpartition("/")[2].partition("@")[0]
    suffix = Path(file).suffix
    if suffix in _REFUSED_SUFFIXES:
        raise WeightsError(
            f"from an address only .npz files are loaded, got {file}: download it, and give its path if you "
            "trust it."
        )
    if suffix == ".npz":
        return _npz_at_address(bare, file if _FILE_NAME.fullmatch(file) else "weights.npz", fragment)
    return _in_release(name, bare.removesuffix(MANIFEST).rstrip("/"))


def _npz_at_address(address: str, file: str, fragment: str) -> Found:
    if not fragment:
        path = cache_dir() / f"address-{_key(address)}" / file
        _get(path, [address])
        came = fetch.digest(path)
        warnings.warn(
            f"{address} came without a digest, so nothing tells whether it is the right file. To have it "
            f"checked and kept, write {address}#sha256={came} (if you trust it now).", stacklevel=2,
        )  # fmt: skip
        return Found(path, address, came)
    sha256 = fragment.removeprefix("sha256=").lower()
    if not fragment.startswith("sha256=") or not _DIGEST.fullmatch(sha256):
        raise WeightsError(f"expected {address}#sha256= and 64 hexadecimal digits, got #{fragment}.")
    path = cached_path(sha256, file)
    if not fetch.is_intact(path, sha256):
        _get(path, [address], sha256=sha256)
    return Found(path, address, sha256)


def _in_release(name: str, folder: str) -> Found:
    """A recipe's weights in a release folder, with the digest in its manifest."""
    served = _served_manifest(folder)
    if name not in served:
        raise WeightsError(
            f"the manifest at {folder} names no {name!r}.{closest(name, served)} It has: "
            f"{', '.join(sorted(served)) or 'nothing'}."
        )
    entry = _checked_entry(name, served[name], folder)
    return _in_cache(name, entry, [folder, *entry.get("mirrors", [])])


def _get(path: Path, addresses: list[str], command: str | None = None, **checks: Any) -> None:
    """Fetches into the cache, from what ZOO_OFFLINE leaves of the addresses."""
    reachable = _reachable(addresses)
    if not reachable:
        digest = f" (SHA-256 {checks['sha256']})" if checks.get("sha256") else ""
        how = f"run {command!r}" if command else "try again"
        raise FetchError(
            f"ZOO_OFFLINE is set, and {path.name} is missing or damaged on this machine. Unset it and {how}, "
            f"or put the file{digest} at {path}. Its addresses: {', '.join(addresses)}."
        )
    fetch.fetch(path, reachable, **checks)


def _reachable(addresses: list[str]) -> list[str]:
    return [a for a in addresses if fetch.scheme(a) == "file" or not is_offline()]


def _key(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:16]


def _slots() -> list[Path]:
    root = cache_dir()
    paths = sorted(root.iterdir()) if root.is_dir() else []
    return [p for p in paths if _SLOT.fullmatch(p.name) and p.is_dir() and not p.is_symlink()]


def _problem(path: Path, sha256: str, advice: str) -> str:
    if not path.is_file():
        return f"missing: {advice}"
    came = fetch.digest(path)
    return "" if came == sha256 else f"damaged (SHA-256 {came}, expected {sha256}): {advice}"


def _cached_entries() -> Iterator[Mapping[str, Any]]:
    """The entries of every manifest that has been fetched."""
    for path in cache_dir().glob(f"manifest-*/{MANIFEST}"):
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
            yield from (_checked_entry(name, entry, str(path)) for name, entry in entries.items())
        except (ValueError, AttributeError, RecursionError):  # damaged: it names nothing
            continue


def _prune_slot(slot: Path, named: set[str], dry_run: bool) -> Iterator[tuple[Path, int]]:
    keep = slot.name in named or slot.name.startswith("manifest-")
    for path in sorted(slot.iterdir()):
        if path.is_dir() and not path.is_symlink():
            continue  # the zoo makes no folders here
        if not keep or path.suffix == fetch.PART:
            yield path, path.lstat().st_size
            if not dry_run:
                path.unlink()
    if not dry_run and not any(slot.iterdir()):
        slot.rmdir()
