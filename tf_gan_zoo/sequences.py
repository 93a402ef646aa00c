"""Sequences of tokens: the oracle of synthetic experiments, words as numbers, and measures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

#: The token that every sequence is thought to begin with; it is a word like others, too (as in SeqGAN).
START = 0
#: What a line shorter than a sequence is filled up with, and words that are not in a vocabulary become.
PAD, UNKNOWN = "<end>", "<unknown>"
_CHUNK = 1000


class Oracle:
    """An LSTM with random parameters that stands for the truth: what it draws are data, and it can tell how
    probable any sequence is.

    Reference: L. Yu et al., "SeqGAN", AAAI 2017, arXiv:1609.05473, section 5.1: all parameters are standard
    normal numbers.

    Args:
        vocabulary_size: tokens are numbers below it.
        units: of the LSTM, and numbers that stand for a token.
        seed: decides the parameters.
    """

    def __init__(self, vocabulary_size: int = 5000, units: int = 32, seed: int = 0) -> None:
        rng, self.units = np.random.default_rng([seed, vocabulary_size, units]), units
        self.embedding = rng.normal(size=(vocabulary_size, units))
        self.kernel = rng.normal(size=(2 * units, 4 * units))
        self.bias = rng.normal(size=4 * units)
        self.output = rng.normal(size=(units, vocabulary_size))
        self.output_bias = rng.normal(size=vocabulary_size)

    def sample(self, count: int, length: int, seed: Any = 0) -> np.ndarray:
        """int32 (count, length) sequences."""
        rng = np.random.default_rng(seed)
        parts = range(0, count, _CHUNK)
        return np.concatenate([self._sample(min(_CHUNK, count - k), length, rng) for k in parts])

    def nll(self, tokens: Any) -> float:
        """Mean of -log p(token | those before) over all tokens of sequences (count, length), in nats."""
        tokens = np.asarray(tokens)
        parts = [tokens[k : k + _CHUNK] for k in range(0, len(tokens), _CHUNK)]
        return float(sum(self._nll(part).sum() for part in parts) / tokens.size)

    def _sample(self, count: int, length: int, rng: np.random.Generator) -> np.ndarray:
        state, last, tokens = self._first(count), np.full(count, START), []
        for _ in range(length):
            log_probabilities, state = self._step(last, state)
            last = (log_probabilities + rng.gumbel(size=log_probabilities.shape)).argmax(axis=1)
            tokens.append(last)
        return np.stack(tokens, axis=1).astype("int32")

    def _nll(self, tokens: np.ndarray) -> np.ndarray:
        state, last, results = self._first(len(tokens)), np.full(len(tokens), START), []
        for token in tokens.T:
            log_probabilities, state = self._step(last, state)
            results.append(-log_probabilities[np.arange(len(token)), token])
            last = token
        return np.stack(results, axis=1)

    def _first(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((count, self.units)), np.zeros((count, self.units))

    def _step(self, token: np.ndarray, state: tuple) -> tuple[np.ndarray, tuple]:
        """Log-probabilities (count, vocabulary_size) of the next token, and the new state."""
        hidden, cell = state
        gates = np.concatenate([self.embedding[token], hidden], axis=1) @ self.kernel + self.bias
        take, keep, give = (1 / (1 + np.exp(-g)) for g in np.split(gates[:, : 3 * self.units], 3, axis=1))
        cell = keep * cell + take * np.tanh(gates[:, 3 * self.units :])
        hidden = give * np.tanh(cell)
        logits = hidden @ self.output + self.output_bias
        logits -= logits.max(axis=1, keepdims=True)
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)), (hidden, cell)


# -------------------------------------------------------------------- words


def vocabulary_of(lines: Iterable[Sequence[str]], size: int) -> tuple[str, ...]:
    """The `size` - 2 most frequent words, after PAD and UNKNOWN; ties in alphabetical order."""
    counts = Counter(word for line in lines for word in line)
    words = sorted(counts, key=lambda word: (-counts[word], word))
    return (PAD, UNKNOWN, *words[: max(size - 2, 0)])


def encode(lines: Sequence[Sequence[str]], vocabulary: Sequence[str], length: int) -> np.ndarray:
    """Lines of words as int32 (num, length): cut off, or filled up with PAD."""
    numbers = {word: k for k, word in enumerate(vocabulary)}
    tokens = np.full((len(lines), length), numbers[PAD], "int32")
    for row, line in zip(tokens, lines):
        known = [numbers.get(word, numbers[UNKNOWN]) for word in line[:length]]
        row[: len(known)] = known
    return tokens


def decode(tokens: Any, vocabulary: Sequence[str], joint: str = " ") -> list[str]:
    """Sequences (count, length) as lines of text, each up to its first PAD."""
    words = [[vocabulary[token] for token in row] for row in np.asarray(tokens)]
    return [joint.join(row[: row.index(PAD)] if PAD in row else row) for row in words]


# -------------------------------------------------------------------- measures


def distinct(tokens: Any, n: int = 2) -> float:
    """Part of the runs of n tokens, in all sequences (count, length) together, that are different."""
    runs = _runs(tokens, n)
    return len(set(runs)) / len(runs)


def run_precision(tokens: Any, references: Any, n: int = 2) -> float:
    """Part of the runs of n tokens that occur in reference sequences, too."""
    known, runs = set(_runs(references, n)), _runs(tokens, n)
    return sum(run in known for run in runs) / len(runs)


def _runs(tokens: Any, n: int) -> list[tuple[int, ...]]:
    tokens = np.asarray(tokens)
    if tokens.ndim != 2 or tokens.shape[1] < n:
        raise ValueError(f"expected sequences (count, length) of {n} tokens or more, got {tokens.shape}.")
    return [tuple(row[k : k + n]) for row in tokens.tolist() for k in range(tokens.shape[1] - n + 1)]
