"""What an evaluation keeps of the pictures it sees, and the cache of what it has kept of real ones."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tf_gan_zoo import files
from tf_gan_zoo.metrics.features import FeatureExtractor
from tf_gan_zoo.metrics.frechet import Moments

#: What a metric may need of both sides; "examples" are held-out examples for the model itself.
NEEDS = ("moments", "features", "probabilities", "images", "all_images", "labels", "examples")
#: Pictures kept for "images"; only "all_images" keeps them all.
FEW_IMAGES = 2048
#: Those that come from the extractor.
FROM_EXTRACTOR = frozenset({"moments", "features", "probabilities"})

#: Yields (images (batch, height, width, channels) in [-1, 1], labels (batch,) or None).
Batches = Iterable[tuple[np.ndarray, np.ndarray | None]]


@dataclass
class Gathered:
    """One side's pictures, real or fake, as far as some metric needs them; the rest is None.

    Attributes:
        count: pictures seen.
        moments: of their features.
        features: (count, features).
        probabilities: (count, classes).
        images: float32 in [-1, 1] in steps of 8 bits; the first `FEW_IMAGES`, or all.
        labels: integers (count,).
    """

    count: int = 0
    moments: Moments | None = None
    features: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    images: np.ndarray | None = None
    labels: np.ndarray | None = None


def to_8_bits(images: np.ndarray) -> np.ndarray:
    """Pictures in [-1, 1] clipped and rounded to the 256 values that a file could hold; float32."""
    return np.round(np.clip(images, -1, 1) * 127.5 + 127.5).astype(np.float32) / 127.5 - 1


def gather(batches: Batches, needs: Iterable[str], extractor: FeatureExtractor | None) -> Gathered:
    """Goes once through batches of pictures; of "moments" alone it keeps O(features^2).

    Args:
        batches: pictures and labels.
        needs: some of `NEEDS`.
        extractor: may be None if none of the needs comes from one.
    """
    needs, count = set(needs), 0
    kept = {name: [] for name in ("features", "probabilities", "images", "labels")}
    moments = Moments(extractor.num_features) if "moments" in needs else None
    for images, labels in batches:
        limit = None if "all_images" in needs else max(FEW_IMAGES - count, 0)
        count += len(images)
        if needs & {"images", "all_images"}:
            kept["images"].append(images[:limit])
        if "labels" in needs and labels is not None:
            kept["labels"].append(np.asarray(labels))
        if needs & FROM_EXTRACTOR:
            features, probabilities = extractor(images)
            if moments is not None:
                moments.update(features)
            kept["features"] += [features] * ("features" in needs)
            kept["probabilities"] += [probabilities] * ("probabilities" in needs)
    arrays = {name: np.concatenate(parts) for name, parts in kept.items() if parts}
    return Gathered(count, moments, **arrays)


def gather_real(
    open_batches: Callable[[], Batches], digest: str, needs: Iterable[str],
    extractor: FeatureExtractor | None, cache: StatisticsCache | None,
) -> Gathered:  # fmt: skip
    """`gather`, but what comes from the extractor is taken from the cache if it is there.

    Args:
        open_batches: begins the pictures anew.
        digest: of the pictures; empty if they come in another order each time, which rules out the cache.
        needs: some of `NEEDS`.
        extractor: as for `gather`.
        cache: None keeps nothing.
    """
    needs = set(needs)
    computed = needs & FROM_EXTRACTOR
    if not computed or cache is None or not digest:
        return gather(open_batches(), needs, extractor)
    key = _key(digest, extractor)
    known = cache.load(key)
    if known is None or any(getattr(known, name) is None for name in computed):
        known = gather(open_batches(), computed, extractor)
        cache.store(key, known)
    rest = gather(open_batches(), needs - computed, None) if needs - computed - {"examples"} else Gathered()
    return Gathered(known.count, known.moments, known.features, known.probabilities, rest.images, rest.labels)


def batches_digest(batches: Iterable[Mapping[str, np.ndarray]]) -> tuple[str, int]:
    """SHA-256 of all fields of all examples, however they are batched, and the number of examples."""
    states: dict[str, hashlib._Hash] = {}
    count = 0
    for batch in batches:
        for name, values in ((n, np.asarray(v)) for n, v in batch.items()):
            kind = f"{values.shape[1:]} {values.dtype}".encode()
            states.setdefault(name, hashlib.sha256(kind)).update(_bytes(values))
        count += len(next(iter(batch.values())))
    text = "\n".join(f"{name} {state.hexdigest()}" for name, state in sorted(states.items()))
    return hashlib.sha256(text.encode()).hexdigest(), count


def _bytes(values: np.ndarray) -> bytes:
    if values.dtype == object:
        return b"\0".join(bytes(v) if isinstance(v, bytes) else str(v).encode() for v in values) + b"\0"
    return np.ascontiguousarray(values).tobytes()


def _key(digest: str, extractor: FeatureExtractor) -> str:
    """What real statistics depend on; the number is that of the file format."""
    text = "\n".join(["1", digest, extractor.name, extractor.digest, extractor.preprocessing])
    return hashlib.sha256(text.encode()).hexdigest()


class StatisticsCache:
    """Features, probabilities and moments of real pictures, in memory and as files of a folder.

    Files are written beside their place and moved there in one step. One that cannot be read is as good as
    none: it is computed and written again.

    Args:
        folder: where files go; None keeps the statistics in memory alone.
        size: how many data sets memory holds.
    """

    def __init__(self, folder: Path | None, size: int = 4) -> None:
        self.folder, self._size = folder, size
        self._memory: OrderedDict[str, Gathered] = OrderedDict()

    def load(self, key: str) -> Gathered | None:
        """What is known under a key, or None."""
        if key not in self._memory and self.folder is not None:
            found = _read(self.folder / f"{key}.npz")
            if found is not None:
                self._remember(key, found)
        if key in self._memory:
            self._memory.move_to_end(key)
        return self._memory.get(key)

    def store(self, key: str, gathered: Gathered) -> None:
        """Keeps it; a folder that cannot be written is no reason to fail."""
        self._remember(key, gathered)
        if self.folder is not None:
            try:
                _write(self.folder / f"{key}.npz", gathered)
            except OSError:
                self.folder = None

    def _remember(self, key: str, gathered: Gathered) -> None:
        self._memory[key] = gathered
        self._memory.move_to_end(key)
        while len(self._memory) > self._size:
            self._memory.popitem(last=False)


def _write(path: Path, gathered: Gathered) -> None:
    arrays = {"count": np.int64(gathered.count)}
    arrays |= {n: getattr(gathered, n) for n in ("features", "probabilities")}
    arrays |= {f"moments_{n}": v for n, v in gathered.moments.state().items()} if gathered.moments else {}
    files.write(path, lambda file: np.savez(file, **{n: v for n, v in arrays.items() if v is not None}))


def _read(path: Path) -> Gathered | None:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        moments = {n.removeprefix("moments_"): v for n, v in arrays.items() if n.startswith("moments_")}
        return Gathered(
            int(arrays["count"]), Moments.from_state(moments) if moments else None,
            arrays.get("features"), arrays.get("probabilities"),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None


def rebatched(batches: Iterator, limit: int | None) -> Iterator:
    """The first `limit` examples of batches of dictionaries."""
    left = limit
    for batch in batches:
        count = len(next(iter(batch.values())))
        if left is not None and count >= left:
            yield {name: values[:left] for name, values in batch.items()}
            return
        left = None if left is None else left - count
        yield batch
