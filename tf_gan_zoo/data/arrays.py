"""Arrays in files: MNIST's IDX format ("idx:DIR") and NumPy archives ("npz:FILE")."""

from pathlib import Path

import numpy as np

from tf_gan_zoo.data import unpacking
from tf_gan_zoo.data.sources import (
    SINGLE_IMAGE_VIEWS,
    DatasetError,
    Request,
    Source,
    existing_path,
    in_split,
    register_source,
)
from tf_gan_zoo.pixels import ValueWindow

_IDX_PREFIXES = {"train": "train", "test": "t10k"}
_IDX_MAGIC = {"images": 0x00000803, "labels": 0x00000801}


@register_source("idx", views=SINGLE_IMAGE_VIEWS, needs_path=True)
def read_idx(request: Request, *, label_names: tuple[str, ...] = ()) -> Source:
    """MNIST-format files: train-images-idx3-ubyte, t10k-labels-idx1-ubyte, ..., maybe .gz.

    Args:
        request: The wanted split: "train", "test" or "all".
        label_names: A name per label, for captions.
    """
    folder = existing_path(request, "idx")
    prefixes = _split_values(request.split, _IDX_PREFIXES)
    large = request.allow_large
    images = np.concatenate([_read_idx_file(folder, prefix, "images", large) for prefix in prefixes])
    labels = [_read_idx_file(folder, prefix, "labels", large) for prefix in prefixes
              if _idx_path(folder, prefix, "labels")]  # fmt: skip
    if not labels:
        return Source({"images": images[..., None]})
    labels = np.concatenate(labels)
    _check_counts(images, labels, str(folder))
    return Source({"images": images[..., None]}, {"labels": labels}, tuple(label_names))


@register_source("npz", views=SINGLE_IMAGE_VIEWS, needs_path=True)
def read_npz(
    request: Request,
    *,
    images: str | None = None,
    labels: str | None = None,
    label_names: tuple[str, ...] = (),
) -> Source:
    """A NumPy archive with `images` (and `labels`), or with `x_train`, `y_train`, `x_test`, ...

    Images are `(num, height, width[, channels])`: integers in 0..255, or floats in [0, 1], or in
    [-1, 1] if any is negative; others need a `value_window`. Without arrays of their own for a
    split, every tenth example is the test split.

    Args:
        request: The wanted split: "train", "test" or "all".
        images: The name of the array of images, if it is another.
        labels: The name of the array of labels, if it is another.
        label_names: A name per label, for captions.
    """
    path = existing_path(request, "npz", folder=False)
    with unpacking.open_archive(path, request.allow_large) as archive:
        pixels, values = _select_arrays(archive, path, request.split, images, labels)
    source = Source({"images": _to_bytes(pixels, path, request.value_window)})
    if values is not None:
        _check_counts(pixels, values, str(path))
        source.values, source.label_names = {"labels": values}, tuple(label_names)
    return source


def _split_values(split: str, table: dict[str, str]) -> list[str]:
    if split == "all":
        return list(table.values())
    if split not in table:
        raise DatasetError(f"This source has the splits {[*table, 'all']}, got {split!r}.")
    return [table[split]]


def _idx_path(folder: Path, prefix: str, kind: str) -> Path | None:
    rank = 3 if kind == "images" else 1
    for dot in "-.":
        for ending in ("", ".gz"):
            path = folder / f"{prefix}-{kind}{dot}idx{rank}-ubyte{ending}"
            if path.is_file():
                return path
    return None


def _read_idx_file(folder: Path, prefix: str, kind: str, allow_large: bool) -> np.ndarray:
    path = _idx_path(folder, prefix, kind)
    if path is None:
        found = sorted(p.name for p in folder.iterdir())[:8]
        raise DatasetError(
            f"{folder}: no file {prefix}-{kind}-idx{3 if kind == 'images' else 1}-ubyte[.gz]; "
            f"it holds {found or 'nothing'}."
        )
    return unpacking.read_idx(path, _IDX_MAGIC[kind], allow_large)


def _select_arrays(archive, path: Path, split: str, images, labels):
    """The arrays of a split, by their names or by the usual ones."""
    if images is None and {"x_train", "x_test"} & set(archive.files):
        parts = _split_values(split, {"train": "train", "test": "test"})
        pixels = [_array(archive, path, f"x_{part}") for part in parts]
        values = [archive[f"y_{part}"] for part in parts if f"y_{part}" in archive.files]
        values = np.concatenate(values).reshape(-1) if len(values) == len(parts) else None
        return np.concatenate(pixels), values
    pixels = _array(archive, path, images or "images")
    values = _array(archive, path, labels) if labels else None
    if values is None and "labels" in archive.files:
        values = archive["labels"]
    chosen = in_split(len(pixels), split)
    if values is not None:
        _check_counts(pixels, values, str(path))
    return pixels[chosen], None if values is None else values.reshape(-1)[chosen]


def _array(archive, path: Path, name: str) -> np.ndarray:
    if name not in archive.files:
        raise DatasetError(
            f"{path} has no array {name!r}; it has {sorted(archive.files)}. Save it with "
            f'np.savez(file, images=..., labels=...), or name the array with the option "images" '
            f'or "labels".'
        )
    return archive[name]


def _to_bytes(pixels: np.ndarray, path: Path, window: ValueWindow) -> np.ndarray:
    """Images as `uint8` `(num, height, width, channels)`; numbers as they are if there is a window."""
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.ndim != 4 or pixels.shape[-1] not in (1, 3):
        raise DatasetError(
            f"{path}: images must be (num, height, width) or (num, height, width, 1 or 3), "
            f"got {pixels.shape}."
        )
    if pixels.dtype.kind not in "iufb" or not np.isfinite(pixels).all():
        raise DatasetError(f"{path}: images must be finite real numbers, got {pixels.dtype} with others.")
    if window is not None:
        return pixels
    if pixels.dtype == np.uint8 or not pixels.size:
        return pixels.astype(np.uint8)
    low, high = float(pixels.min()), float(pixels.max())
    if pixels.dtype.kind == "f" and low >= -1.0 and high <= 1.0:
        scaled = (pixels + 1.0) * 127.5 if low < 0 else pixels * 255.0
        return np.rint(scaled).astype(np.uint8)
    if low >= 0 and high <= 255:
        return np.rint(pixels).astype(np.uint8)
    raise DatasetError(
        f"{path}: images must be in 0..255, [0, 1] or [-1, 1], got {low:g} to {high:g}. For measured data "
        'give value_window=(low, high), the values that become black and white, or "min_max".'
    )


def _check_counts(images: np.ndarray, labels: np.ndarray, where: str) -> None:
    if len(images) != len(labels):
        raise DatasetError(f"{where}: {len(images)} images but {len(labels)} labels.")
