"""Bars of melody with chords: composed by rule ("melodies"), from "bars:FILE.npz", from "midi:FOLDER".

Each example of the view "melodies" is a bar, the bar before it (silent before a song's first one), both
(16, 128, 1) piano rolls of sixteenth notes by MIDI pitches, and the number of the bar's chord (see
`tf_gan_zoo.music`).
"""

from pathlib import Path

import numpy as np

from tf_gan_zoo import music
from tf_gan_zoo.data.sources import DatasetError, Request, Source, existing_path, in_split, register_source
from tf_gan_zoo.data.unpacking import read_archive

_VIEWS = ("melodies",)
_BARS_PER_SONG = 8

#: Degrees of the major scale, in semitones, and the chords that songs are made of: I, ii, IV, V, vi.
_SCALE = (0, 2, 4, 5, 7, 9, 11)
_CHORDS = {"I": 0, "ii": 12 + 2, "IV": 5, "V": 7, "vi": 12 + 9}
_PROGRESSIONS = tuple(tuple(_CHORDS[c] for c in row.split()) for row in (
    "I V vi IV", "I vi IV V", "vi IV I V", "I IV V I", "I ii V I", "IV V I vi", "I IV ii V", "vi ii V I",
))  # fmt: skip
#: Where notes begin in a bar, in sixteenths.
_RHYTHMS = (
    (0, 4, 8, 12), (0, 2, 4, 8, 12), (0, 4, 6, 8, 12, 14), (0, 6, 8, 14), (0, 2, 4, 6, 8, 10, 12, 14),
    (0, 8, 12),
)  # fmt: skip
_STRONG = (0, 8)


@register_source("melodies", views=_VIEWS)
def read_melodies(
    request: Request, *, num_songs: int = 200, chord_tones: float = 0.9, transpose: bool = True
) -> Source:
    """Songs of eight bars over common progressions.

    Strong beats take a note of the chord, weak ones mostly a step along the scale; a bar begins near the
    note that the last one ended with.

    Args:
        request: split "train", or "test": other songs.
        num_songs: a tenth as many in "test".
        chord_tones: part of the strong beats whose note belongs to the chord.
        transpose: every song in all twelve keys.
    """
    if request.split not in ("train", "test"):
        raise DatasetError(f'melodies has the splits "train" and "test", got {request.split!r}.')
    test = request.split == "test"
    rng = np.random.default_rng([20170327, test])
    songs = [_compose(rng, chord_tones) for _ in range(max(num_songs // 10, 1) if test else num_songs)]
    keys = range(12) if transpose else (0,)
    pitches = np.stack([_in_range(song + key) for song, _ in songs for key in keys])
    chords = np.stack([_moved(chords, key) for _, chords in songs for key in keys])
    return _source(list(pitches), list(chords))


@register_source("bars", views=_VIEWS, needs_path=True)
def read_bars(request: Request) -> Source:
    """A NumPy archive with `bars` (num, 16, 128), `chords` and `prev`.

    `chords` are numbers (num,) or codes (num, 13): the root as one of twelve, and 1 for minor. `prev`, the
    bars before, may be missing: then the bars are consecutive ones of one song, or of those that `songs`
    (num,), a number per bar, tells apart. Every tenth bar is the test split.
    """
    path = existing_path(request, "bars", folder=False)
    arrays = read_archive(path, request.allow_large)
    try:
        bars = music.checked_bars(_array(arrays, "bars", path))[..., 0]
        previous = music.checked_bars(arrays["prev"])[..., 0] if "prev" in arrays else _shifted(bars, arrays)
        chords = _chord_numbers(_array(arrays, "chords", path), path)
    except music.MusicError as error:
        raise DatasetError(f"{path}: {error}") from error
    if not len(bars) == len(previous) == len(chords):
        raise DatasetError(f"{path}: {len(bars)} bars, {len(previous)} prev and {len(chords)} chords.")
    chosen = in_split(len(bars), request.split)
    return _bytes(bars[chosen], previous[chosen], chords[chosen])


@register_source("midi", views=_VIEWS, needs_path=True)
def read_midi_folder(request: Request, *, transpose: bool = True) -> Source:
    """The MIDI files of a folder and its subfolders; see `music.read_midi`. Needs the package mido.

    Args:
        request: split "train", "test" (every tenth file) or "all".
        transpose: training songs in all twelve keys.
    """
    folder = existing_path(request, "midi")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".mid", ".midi"))
    if not files:
        raise DatasetError(f"{folder}: no .mid or .midi files in it or its subfolders.")
    files = [file for file, chosen in zip(files, in_split(len(files), request.split)) if chosen]
    songs = [_read(file) for file in files]
    keys = range(12) if transpose and request.split != "test" else (0,)
    return _source(
        [_in_range(pitches + key) for pitches, _ in songs for key in keys],
        [_moved(chords, key) for _, chords in songs for key in keys],
    )


def _read(file: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        return music.read_midi(file)
    except music.MusicError as error:
        raise DatasetError(f"{error} Remove the file, or repair it.") from error


def _source(songs: list[np.ndarray], chords: list[np.ndarray]) -> Source:
    """Songs, each as pitches (num_bars, 16) and chords (num_bars,), as examples."""
    rolls = [music.roll_of(song) for song in songs]
    previous = [np.concatenate([np.zeros_like(roll[:1]), roll[:-1]]) for roll in rolls]
    return _bytes(*map(np.concatenate, (rolls, previous, chords)))


def _bytes(bars: np.ndarray, previous: np.ndarray, chords: np.ndarray) -> Source:
    rolls = {"bars": bars, "previous_bars": previous}
    images = {name: (255 * (roll > 0.5)).astype(np.uint8)[..., None] for name, roll in rolls.items()}
    names = tuple(music.chord_name(chord) for chord in range(music.NUM_CHORDS))
    return Source(images, {"chords": np.asarray(chords, np.int32)}, names)


def _moved(chords: np.ndarray, semitones: int) -> np.ndarray:
    return chords // 12 * 12 + (chords + semitones) % 12


def _in_range(pitches: np.ndarray) -> np.ndarray:
    """A song moved an octave if that keeps more of its notes in the two octaves; stragglers by themselves."""
    if np.median(pitches) > (music.LOWEST + music.HIGHEST) / 2 + 6:
        pitches = pitches - 12
    pitches = np.where(pitches > music.HIGHEST, pitches - 12, pitches)
    return np.where(pitches < music.LOWEST, pitches + 12, pitches)


# -------------------------------------------------------------------- composing


def _compose(rng: np.random.Generator, chord_tones: float) -> tuple[np.ndarray, np.ndarray]:
    """A song in C: pitches (8, 16) and chords (8,)."""
    progression = _PROGRESSIONS[rng.integers(len(_PROGRESSIONS))]
    chords = np.array([progression[k % len(progression)] for k in range(_BARS_PER_SONG)])
    favourites = rng.choice(len(_RHYTHMS), 2, replace=False)
    note, bars = int(rng.integers(64, 77)), []
    for chord in chords:
        rhythm = _RHYTHMS[favourites[rng.integers(2)]]
        bar = np.empty(music.STEPS, int)
        for onset, end in zip(rhythm, (*rhythm[1:], music.STEPS)):
            note = _next_note(rng, note, chord, onset in _STRONG, chord_tones)
            bar[onset:end] = note
        bars.append(bar)
    return np.stack(bars), chords


def _next_note(rng: np.random.Generator, note: int, chord: int, strong: bool, chord_tones: float) -> int:
    """A chord tone at most a third or so away, or a step or two along the scale."""
    allowed = music.chord_tones(chord) if strong and rng.random() < chord_tones else _SCALE
    pitches = [p for p in range(music.LOWEST + 2, music.HIGHEST - 5) if p % 12 in allowed]
    near = [p for p in pitches if abs(p - note) <= 4] or [min(pitches, key=lambda p: abs(p - note))]
    return int(rng.choice(near))


# -------------------------------------------------------------------- archives


def _array(arrays: dict[str, np.ndarray], name: str, path: Path) -> np.ndarray:
    if name not in arrays:
        raise DatasetError(f"{path} has no array {name!r}; it has {sorted(arrays)}.")
    return arrays[name]


def _shifted(bars: np.ndarray, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """The bar before each one, silent where a song begins."""
    songs = arrays.get("songs", np.zeros(len(bars), int))
    if songs.shape != (len(bars),):
        raise DatasetError(f"songs: expected a number per bar, ({len(bars)},), got shape {songs.shape}.")
    previous = np.concatenate([np.zeros_like(bars[:1]), bars[:-1]])
    previous[1:][songs[1:] != songs[:-1]] = 0
    return previous


def _chord_numbers(chords: np.ndarray, path: Path) -> np.ndarray:
    if chords.ndim == 2 and chords.shape[1] == 13:
        chords = chords[:, :12].argmax(axis=1) + 12 * (chords[:, 12] > 0.5)
    numbers = np.asarray(chords)
    fits = numbers.ndim == 1 and (numbers == np.round(numbers)).all()
    if not fits or (len(numbers) and not 0 <= numbers.min() <= numbers.max() < music.NUM_CHORDS):
        raise DatasetError(
            f"{path}: chords must be numbers from 0 to 23, (num,), or codes (num, 13); got {chords.dtype} "
            f"{chords.shape}."
        )
    return numbers.astype(np.int32)
