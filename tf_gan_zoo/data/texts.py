"""Sequences of tokens: drawn by an oracle ("oracle"), or the lines of a text ("text:FILE")."""

import functools

import numpy as np

from tf_gan_zoo import sequences
from tf_gan_zoo.data.sources import DatasetError, Request, Source, existing_path, in_split, register_source

_VIEWS = ("sequences",)


@register_source("oracle", views=_VIEWS)
def read_oracle(
    request: Request,
    *,
    vocabulary_size: int = 5000,
    length: int = 20,
    units: int = 32,
    num_examples: int = 10_000,
    oracle_seed: int = 0,
) -> Source:
    """Sequences drawn by `sequences.Oracle`.

    Args:
        request: split "train", or "test": other draws.
        vocabulary_size: tokens are numbers below it.
        length: tokens in a sequence.
        units: of the oracle's LSTM.
        num_examples: in "test" a tenth as many, or 1,000 if that is more.
        oracle_seed: decides the oracle's parameters.
    """
    if request.split not in ("train", "test"):
        raise DatasetError(f'oracle has the splits "train" and "test", got {request.split!r}.')
    test = request.split == "test"
    count = max(num_examples // 10, 1000) if test else num_examples
    tokens = _drawn(vocabulary_size, length, units, count, oracle_seed, test)
    return Source({}, {"tokens": tokens})


@functools.lru_cache(maxsize=4)
def _drawn(vocabulary_size: int, length: int, units: int, count: int, seed: int, test: bool) -> np.ndarray:
    return sequences.Oracle(vocabulary_size, units, seed).sample(count, length, [seed, test])


@register_source("text", views=_VIEWS, needs_path=True)
def read_text(
    request: Request,
    *,
    vocabulary_size: int = 5000,
    length: int = 20,
    by: str = "word",
    lower: bool = True,
) -> Source:
    """The lines of a UTF-8 text file as sequences of words or characters; empty lines are left out.

    The vocabulary, the source's `label_names`, is the most frequent words of all lines, after one that fills
    up short lines and one for words that are too rare. Every tenth line is the test split.

    Args:
        request: split "train", "test" or "all".
        vocabulary_size: words that are told apart, those two included.
        length: tokens in a sequence; longer lines are cut off.
        by: "word" (what blanks part) or "character".
        lower: no capital letters.
    """
    path = existing_path(request, "text", folder=False)
    if by not in ("word", "character"):
        raise DatasetError(f'by: expected "word" or "character", got {by!r}.')
    lines = [line.split() if by == "word" else list(line) for line in _lines(path, lower)]
    if not lines:
        raise DatasetError(f"{path} has no lines of text.")
    vocabulary = sequences.vocabulary_of(lines, vocabulary_size)
    tokens = sequences.encode(lines, vocabulary, length)
    return Source({}, {"tokens": tokens[in_split(len(tokens), request.split)]}, vocabulary)


def _lines(path, lower: bool) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is no UTF-8 text: {error}. Save it as UTF-8.") from error
    lines = [line.strip() for line in (text.lower() if lower else text).splitlines()]
    return [line for line in lines if line]
