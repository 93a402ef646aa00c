"""Datasets: one name in, dictionaries of float32 batches out.

`load_dataset("glyphs")` needs no download; `list_sources()` names the others, and
`register_source` adds one's own. `opening.py` checks what is asked for, `pipeline.py` explains the
order of examples, `images.py` how pictures are decoded; each source has a file of its own.
"""

from tf_gan_zoo.data import (
    aged,
    arrays,
    captions,
    clutter,
    coloured_emoji,
    detection,
    digits,
    emoji,
    faces,
    figures,
    folders,
    glyph_products,
    glyphs,
    hand_depth,
    hands,
    heads,
    melodies,
    people,
    products,
    rendered,
    solids,
    streets,
    texts,
    tfds,
)
from tf_gan_zoo.data.images import ImageFile
from tf_gan_zoo.data.opening import load_dataset, open_dataset
from tf_gan_zoo.data.pipeline import Pipeline
from tf_gan_zoo.data.sources import (
    VIEWS,
    DatasetError,
    Request,
    Source,
    SourceInfo,
    describe_source,
    list_sources,
    register_source,
    summarize_source,
)

__all__ = [
    "VIEWS",
    "DatasetError",
    "ImageFile",
    "Pipeline",
    "Request",
    "Source",
    "SourceInfo",
    "aged",
    "arrays",
    "captions",
    "clutter",
    "coloured_emoji",
    "detection",
    "describe_source",
    "digits",
    "emoji",
    "faces",
    "figures",
    "folders",
    "glyph_products",
    "glyphs",
    "hand_depth",
    "hands",
    "heads",
    "list_sources",
    "melodies",
    "load_dataset",
    "open_dataset",
    "people",
    "products",
    "register_source",
    "rendered",
    "solids",
    "streets",
    "summarize_source",
    "texts",
    "tfds",
]
