"""How results are shown: grids, strips of pictures side by side, animations. NumPy and Pillow do it."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tf_gan_zoo import files, image_writing
from tf_gan_zoo.paths import expand
from tf_gan_zoo.picture_names import PictureError

_BACKGROUND, _INK = 255, 0
_TEXT_HEIGHT = 14


# -------------------------------------------------------------------- pictures


def to_uint8(images: np.ndarray, value_range: tuple[float, float] = (-1.0, 1.0)) -> np.ndarray:
    """Pictures in `value_range` -> uint8 0..255, rounded; what lies outside (or is NaN) is clipped.

    Raises:
        PictureError: if the range is empty.
    """
    low, high = value_range
    if not high > low:
        raise PictureError(f"value_range must be (low, high) with low < high, got {value_range}.")
    scaled = (np.asarray(images, "float32") - low) * (255.0 / (high - low))
    return np.clip(np.nan_to_num(np.rint(scaled), nan=0.0), 0, 255).astype(np.uint8)


def image_grid(
    images: np.ndarray,
    *,
    value_range: tuple[float, float] = (-1.0, 1.0),
    columns: int | None = None,
    labels: Sequence[Any] | None = None,
    padding: int = 2,
) -> np.ndarray:
    """Pictures in rows, filled from the top left.

    Args:
        images: (batch, height, width, channels), gray or RGB, or (batch, height, width).
        value_range: lowest and highest value of a pixel.
        columns: pictures in a row; about a square by default.
        labels: one text per picture, written below it.
        padding: pixels between pictures and around them.

    Returns:
        uint8 (height, width, 3).

    Raises:
        PictureError: for another shape, or another number of labels than pictures.
    """
    tiles = _tiles(images, value_range)
    if labels is not None and len(labels) != len(tiles):
        raise PictureError(f"expected one label per picture, got {len(labels)} for {len(tiles)} pictures.")
    columns = min(columns or math.ceil(math.sqrt(len(tiles))), len(tiles))
    rows = math.ceil(len(tiles) / columns)
    caption = _TEXT_HEIGHT if labels is not None else 0
    height, width = tiles.shape[1] + padding + caption, tiles.shape[2] + padding
    sheet = np.full((rows * height + padding, columns * width + padding, 3), _BACKGROUND, np.uint8)
    corners = [(padding + k // columns * height, padding + k % columns * width) for k in range(len(tiles))]
    for tile, (top, left) in zip(tiles, corners):
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    if labels is None:
        return sheet
    return _write(sheet, [(left, top + tiles.shape[1]) for top, left in corners], labels)


def strips(
    columns: Mapping[str, np.ndarray],
    *,
    value_range: tuple[float, float] = (-1.0, 1.0),
    padding: int = 2,
) -> np.ndarray:
    """One row per example, one titled column per kind of picture, e.g. input | output | truth.

    Args:
        columns: title -> (batch, height, width, channels). Smaller pictures (a low-resolution input) are
            enlarged without smoothing to the size of the largest.
        value_range: lowest and highest value of a pixel in every column.
        padding: pixels between pictures.

    Returns:
        uint8 (height, width, 3).

    Raises:
        PictureError: if the columns differ in length.
    """
    tiles = {title: _tiles(images, value_range) for title, images in columns.items()}
    counts = {title: len(images) for title, images in tiles.items()}
    if len(set(counts.values())) != 1:
        raise PictureError(f"every column needs the same number of pictures, got {counts}.")
    size = tuple(max(images.shape[axis] for images in tiles.values()) for axis in (1, 2))
    enlarged = [_enlarge(images, size) for images in tiles.values()]
    count, width = len(enlarged), size[1] + padding
    ordered = np.stack(enlarged, axis=1).reshape(-1, *size, 3)
    sheet = image_grid(ordered, value_range=(0, 255), columns=count, padding=padding)
    titled = np.full((sheet.shape[0] + _TEXT_HEIGHT, sheet.shape[1], 3), _BACKGROUND, np.uint8)
    titled[_TEXT_HEIGHT:] = sheet
    return _write(titled, [(padding + k * width, 0) for k in range(count)], list(tiles))


def side_by_side(sheets: Iterable[np.ndarray], gap: int = 8) -> np.ndarray:
    """Joins uint8 sheets (height, width, 3) from left to right."""
    sheets = list(sheets)
    height = max(sheet.shape[0] for sheet in sheets)
    padded = [
        np.pad(s, ((0, height - len(s)), (0, gap * (k + 1 < len(sheets))), (0, 0)),
               constant_values=_BACKGROUND)
        for k, s in enumerate(sheets)
    ]  # fmt: skip
    return np.concatenate(padded, axis=1)


def enlarged(pictures: np.ndarray, factor: int) -> np.ndarray:
    """Pictures (..., height, width, channels) with every pixel `factor` times as large."""
    return np.asarray(pictures).repeat(factor, axis=-3).repeat(factor, axis=-2)


def legible(pictures: np.ndarray, least: int = 56) -> np.ndarray:
    """Pictures (..., height, width, channels) enlarged to `least` pixels or more in width, for texts."""
    return enlarged(pictures, math.ceil(least / np.shape(pictures)[-2]))


def _tiles(images: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    """Anything that is a batch of pictures -> uint8 (batch, height, width, 3)."""
    images = np.asarray(images)
    images = images[..., None] if images.ndim == 3 else images
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or not len(images):
        raise PictureError(
            "expected at least one picture as (batch, height, width, channels) with 1 or 3 channels, "
            f"got shape {images.shape}."
        )
    return np.repeat(to_uint8(images, value_range), 3 // images.shape[-1], axis=-1)


def _enlarge(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if images.shape[1:3] == size:
        return images
    return np.stack([np.asarray(Image.fromarray(i).resize(size[::-1], Image.NEAREST)) for i in images])


def _write(sheet: np.ndarray, corners: Sequence[tuple[int, int]], texts: Sequence[Any]) -> np.ndarray:
    picture = Image.fromarray(sheet)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=10)
    for (left, top), text in zip(corners, texts):
        draw.text((left, top + 1), str(text), fill=(_INK,) * 3, font=font)
    return np.asarray(picture)


# -------------------------------------------------------------------- a model's pictures


def sample_picture(
    model: Any, held_out: Mapping[str, np.ndarray] | None = None, *, count: int = 64, seed: int = 0
) -> np.ndarray | None:
    """What `model` makes of fixed inputs, as one sheet.

    Args:
        model: a model of the zoo, which has `generate`, `translate`, `upscale`, `refine` or `detect`, or a
            `comparison` of its own: a method that makes titled columns of pictures from `held_out`.
        held_out: fields of a batch that the model was not trained on; models that turn pictures into
            pictures need it.
        count: samples of a model that needs no input.
        seed: the same seed gives the same inputs.

    Returns:
        uint8 (height, width, 3), or None for a model that makes no pictures, or none without `held_out`.
    """
    if held_out is not None and hasattr(model, "held_out_pictures"):  # rows such as input, output, truth
        return image_grid(model.held_out_pictures(held_out), columns=1)
    if hasattr(model, "sample_pictures"):  # what the model makes are no pictures: it draws them itself
        return image_grid(model.sample_pictures(count, seed), columns=1)
    if hasattr(model, "generate"):
        samples = np.asarray(model.generate(count, seed=seed))
        return image_grid(samples, value_range=output_range(model)) if samples.ndim == 4 else None
    if held_out is None:
        return None
    if hasattr(model, "comparison"):
        columns = model.comparison(held_out)
        return strips({t: legible(x) for t, x in columns.items()}, value_range=output_range(model))
    if hasattr(model, "translate"):
        return _translation_picture(model, held_out)
    if hasattr(model, "refine"):
        return _refinement_picture(model, held_out)
    if hasattr(model, "detect"):
        return _detection_picture(model, held_out)
    return _upscaling_picture(model, held_out) if hasattr(model, "upscale") else None


def output_range(model: Any) -> tuple[float, float]:
    """Lowest and highest value in the pictures that a model makes."""
    fields = [model.batch_spec.get(name) for name in ("images", "targets", "images_b")]
    return next((f.value_range for f in fields if f is not None and f.value_range), (-1.0, 1.0))


def _translation_picture(model: Any, held_out: Mapping[str, np.ndarray]) -> np.ndarray:
    shown = functools.partial(strips, value_range=output_range(model))
    if "inputs" in held_out:
        inputs = held_out["inputs"]
        return shown({"input": inputs, "output": model.translate(inputs), "truth": held_out["targets"]})
    a, b = held_out["images_a"], held_out["images_b"]
    there = model.translate(a, direction="a_to_b")
    back = model.translate(b, direction="b_to_a")
    return side_by_side([shown({"a": a, "a to b": there}), shown({"b": b, "b to a": back})])


def _refinement_picture(model: Any, held_out: Mapping[str, np.ndarray]) -> np.ndarray:
    synthetic, real = held_out["images_a"], held_out["images_b"]
    columns = {"synthetic": synthetic, "refined": model.refine(synthetic), "real": real}
    return strips({title: legible(pictures) for title, pictures in columns.items()})


def _detection_picture(model: Any, held_out: Mapping[str, np.ndarray], least: int = 160) -> np.ndarray:
    """Objects in boxes, green where they are named rightly; by plain features and by super-resolved ones."""
    images, boxes, labels = (held_out[name][:4] for name in ("images", "boxes", "labels"))
    tiles = legible(_tiles(images, (-1.0, 1.0)), least)
    columns = {"objects": labels}
    for title, super_resolve in (("plain", False), ("super-resolved", True)):
        columns[title] = model.detect(images, boxes, super_resolve)["labels"]
    drawn = {t: _boxed(tiles, boxes, found == labels, labels > 0) for t, found in columns.items()}
    return strips(drawn, value_range=(0, 255))


def _boxed(tiles: np.ndarray, boxes: np.ndarray, right: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """uint8 pictures with frames around the boxes (batch, boxes, 4) that are shown."""
    results = []
    for tile, *rows in zip(tiles, boxes, right, shown):
        picture = Image.fromarray(tile)
        draw = ImageDraw.Draw(picture)
        for box, good, visible in zip(*rows):
            top, left, bottom, other = box * np.tile(tile.shape[:2], 2)
            if visible:
                color = (60, 200, 60) if good else (240, 60, 60)
                draw.rectangle((left, top, other, bottom), outline=color, width=2)
        results.append(np.asarray(picture))
    return np.stack(results)


def _upscaling_picture(model: Any, held_out: Mapping[str, np.ndarray]) -> np.ndarray:
    low, high = held_out["low_resolution"], held_out["high_resolution"]
    return strips({"input": low * 2.0 - 1.0, "output": model.upscale(low), "truth": high})


# -------------------------------------------------------------------- files


def save_image(picture: np.ndarray, path: str | Path) -> Path:
    """Writes a uint8 (height, width, 3) picture; folders are made.

    The format is that of the name (`tf_gan_zoo.image_writing`), PNG if it says none.
    """
    path = expand(path)
    kind = image_writing.kind_of(path)
    if kind is not None and kind.dtype != "uint8":
        picture = (picture / 255).astype(kind.dtype)
    image_writing.write_image(picture, path, kind)
    return path


def save_gif(
    frames: np.ndarray, path: str | Path, *, frames_per_second: int = 15, levels: int = 256
) -> Path:
    """Writes uint8 (frames, height, width, 3) as a GIF that repeats without end.

    A frame lasts a whole number of hundredths of a second: 15 frames per second become 14.3.

    Args:
        frames: the pictures.
        path: the file; folders are made.
        frames_per_second: at most 50, which is what browsers show.
        levels: different values of a channel; 32 hardly show in small pictures and halve the file.

    Raises:
        PictureError: for more frames per second.
    """
    if frames_per_second > 50:
        raise PictureError(f"a GIF shows 50 frames per second at most, got {frames_per_second}: use .mp4.")
    frames = np.rint(np.rint(frames * ((levels - 1) / 255)) * (255 / (levels - 1))).astype(np.uint8)
    gray = bool((frames == frames[..., :1]).all())  # gray frames need no palette of their own
    first, *rest = [Image.fromarray(frame[..., 0] if gray else frame) for frame in frames]
    duration = 10 * max(round(100 / frames_per_second), 2)  # browsers slow down what is faster
    options = {"save_all": True, "append_images": rest, "loop": 0, "duration": duration}
    files.write(path, lambda file: first.save(file, format="GIF", **options))
    return expand(path)


def save_mp4(frames: np.ndarray, path: str | Path, *, frames_per_second: int = 15) -> Path:
    """Writes uint8 (frames, height, width, 3) as H.264 video; odd sides get a line of background.

    Raises:
        PictureError: if imageio or its ffmpeg is missing.
    """
    try:
        import imageio.v2 as imageio
        import imageio_ffmpeg  # noqa: F401
    except ImportError:
        raise PictureError(
            "MP4 needs imageio with ffmpeg: pip install 'tf_gan_zoo[mp4]' (or 'imageio[ffmpeg]'), or name a "
            ".gif file."
        ) from None
    odd = [(0, side % 2) for side in frames.shape[1:3]]  # H.264 halves the resolution of colours
    frames = np.pad(frames, [(0, 0), *odd, (0, 0)], constant_values=_BACKGROUND)
    options = {"format": "FFMPEG", "fps": frames_per_second, "quality": 8, "macro_block_size": 1}
    files.write_path(path, lambda temporary: imageio.mimwrite(temporary, frames, **options))
    return expand(path)


def save_animation(
    frames: np.ndarray, path: str | Path, *, frames_per_second: int = 15, levels: int | None = None
) -> Path:
    """Writes uint8 (frames, height, width, 3) as .gif or .mp4, after the name's ending; `levels` are for GIF.

    Raises:
        PictureError: for another ending, MP4 without ffmpeg or with `levels`.
    """
    ending = Path(path).suffix.lower()
    if ending == ".gif":
        return save_gif(frames, path, frames_per_second=frames_per_second, levels=levels or 256)
    if ending == ".mp4" and levels is not None:
        raise PictureError("levels are those of a GIF: leave them out, or name a .gif file.")
    if ending == ".mp4":
        return save_mp4(frames, path, frames_per_second=frames_per_second)
    raise PictureError(f"an animation's name ends in .gif or .mp4, got {str(path)!r}.")
