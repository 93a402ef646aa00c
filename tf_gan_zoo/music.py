"""Bars of melody as arrays, chords as numbers, and both as MIDI files (which need the package mido).

A bar is a (16, 128) piano roll: sixteenth notes by MIDI pitches, 1 where a pitch sounds, one pitch at a time.
A chord is one of 24 triads, `root + 12 * minor`: C is 0, C sharp 1, A minor 21.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tf_gan_zoo import files
from tf_gan_zoo.paths import expand

STEPS, PITCHES, NUM_CHORDS = 16, 128, 24
#: Notes of the melodies that models learn: two octaves, C4 to B5.
LOWEST, HIGHEST = 60, 83

_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_TRIADS = ((0, 4, 7), (0, 3, 7))
_TICKS = 480  # of MIDI, in a quarter note


class MusicError(ValueError):
    """Notes, chords or a MIDI file that cannot be used; the message says what to do."""


# -------------------------------------------------------------------- chords


def chord_name(chord: int) -> str:
    """0 -> "C", 21 -> "Am"."""
    return _NAMES[chord % 12] + "m" * (chord // 12)


def parse_chord(chord: str | int) -> int:
    """ "C" -> 0, "F#m" -> 18, "Bb" -> 10; a number from 0 to 23 stays.

    Raises:
        MusicError: for anything else.
    """
    if isinstance(chord, (int, np.integer)) and 0 <= chord < NUM_CHORDS:
        return int(chord)
    match = re.fullmatch(r"([A-G])(#|b)?(m)?", str(chord))
    if not match:
        raise MusicError(
            f"{chord!r} is no chord: expected a major or minor triad such as 'C', 'F#m' or 'Bb', or a number "
            f"from 0 (C) to {NUM_CHORDS - 1} (Bm)."
        )
    letter, accidental, minor = match.groups()
    root = (_LETTERS[letter] + {"#": 1, "b": -1, None: 0}[accidental]) % 12
    return root + 12 * bool(minor)


def chord_tones(chord: int) -> tuple[int, ...]:
    """The three pitch classes (0 is C) of a chord."""
    return tuple((chord % 12 + interval) % 12 for interval in _TRIADS[chord // 12])


# -------------------------------------------------------------------- notes and rolls


def roll_of(pitches: Any) -> np.ndarray:
    """MIDI pitches (..., 16) -> piano rolls, uint8 (..., 16, 128) of 0 and 1."""
    return (np.asarray(pitches)[..., None] == np.arange(PITCHES)).astype(np.uint8)


def pitches_of(bars: Any) -> np.ndarray:
    """Piano rolls (..., 16, 128[, 1]) -> the strongest pitch of each step, int64 (..., 16)."""
    bars = np.asarray(bars)
    return (bars[..., 0] if bars.shape[-1] == 1 else bars).argmax(axis=-1)


def checked_bars(bars: Any) -> np.ndarray:
    """One bar or several as float32 (num, 16, 128, 1); an axis of length 1 may be missing.

    Raises:
        MusicError: for another shape, or numbers outside [0, 1].
    """
    values = np.asarray(bars, "float32")
    values = values[..., None] if values.shape[-1] != 1 else values
    values = values[None] if values.ndim == 3 else values
    if values.ndim != 4 or values.shape[1:] != (STEPS, PITCHES, 1):
        raise MusicError(
            f"expected bars of shape (num, {STEPS}, {PITCHES}[, 1]), sixteenth notes by MIDI pitches, "
            f"got {np.shape(bars)}."
        )
    if not (values.min() >= 0 and values.max() <= 1):
        raise MusicError(f"bars hold 0 or 1, got values from {values.min():g} to {values.max():g}.")
    return values


def piano_roll(bars: Any, lowest: int = LOWEST - 3, highest: int = HIGHEST + 3) -> np.ndarray:
    """A melody as a picture, float32 (rows, columns, 1) in [-1, 1]: time to the right, high notes above.

    Four pixels to a step and to a semitone; a gray line begins each bar.

    Args:
        bars: piano rolls (num, 16, 128) or (num, 16, 128, 1).
        lowest: MIDI pitch of the lowest row.
        highest: MIDI pitch of the highest row.
    """
    notes = checked_bars(bars).reshape(-1, PITCHES)[:, lowest : highest + 1]
    picture = 1.0 - 2.0 * notes.T[::-1].repeat(4, axis=0).repeat(4, axis=1)
    picture[:, :: 4 * STEPS] = 0.6
    return picture[..., None]


def infer_chord(pitches: Any, durations: Any = None) -> int:
    """The triad that shares most time with some notes; the lowest number of those that share as much.

    Args:
        pitches: MIDI pitches, (num,).
        durations: how long each sounds; all the same by default.
    """
    weights = np.bincount(np.asarray(pitches) % 12, durations, minlength=12)
    return int(np.argmax([weights[list(chord_tones(chord))].sum() for chord in range(NUM_CHORDS)]))


# -------------------------------------------------------------------- measures


def chord_tone_rate(pitches: Any, chords: Any) -> float:
    """Part of the steps (num, 16) whose note belongs to the chord (num,) of its bar."""
    tones = np.array([np.isin(np.arange(12), chord_tones(chord)) for chord in range(NUM_CHORDS)])
    return float(tones[np.asarray(chords)[:, None], np.asarray(pitches) % 12].mean())


def joint_interval(pitches: Any, previous: Any) -> float:
    """Mean distance, in semitones, from the last notes of previous bars (num, 16) to the first of bars."""
    return float(np.abs(np.asarray(pitches)[:, 0] - np.asarray(previous)[:, -1]).mean())


def pitch_histogram_distance(a: Any, b: Any) -> float:
    """Half the L1 distance between the shares of the twelve pitch classes in two sets of notes: 0 to 1."""
    shares = [np.bincount(np.ravel(x) % 12, minlength=12) / np.size(x) for x in (a, b)]
    return float(np.abs(shares[0] - shares[1]).sum() / 2)


# -------------------------------------------------------------------- MIDI


def write_midi(
    bars: Any, path: str | Path, *, chords: Sequence[str | int] | None = None, tempo: float = 120.0
) -> Path:
    """Writes bars, one after the other, as a MIDI file; equal notes side by side become one long note.

    Args:
        bars: piano rolls (num, 16, 128) or (num, 16, 128, 1).
        path: of the file to write.
        chords: one per bar, played as triads below the melody on a second track.
        tempo: quarter notes per minute.

    Raises:
        MusicError: for bars or chords that do not fit, or if mido is not installed.
    """
    mido, pitches = _mido(), pitches_of(checked_bars(bars))
    file = mido.MidiFile(ticks_per_beat=_TICKS)
    melody = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(tempo), time=0)])
    file.tracks.append(melody)
    _write_notes(mido, melody, [((int(p),), n) for p, n in _runs(pitches.ravel())], 96)
    if chords is not None:
        if len(chords) != len(pitches):
            raise MusicError(f"expected one chord per bar, got {len(chords)} for {len(pitches)} bars.")
        triads = [_low_triad(parse_chord(chord)) for chord in chords]
        file.tracks.append(mido.MidiTrack())
        _write_notes(mido, file.tracks[-1], [(triad, STEPS) for triad in triads], 56)
    files.write(path, lambda opened: file.save(file=opened))
    return expand(path)


def read_midi(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """A melody with chords from a MIDI file, in 4/4.

    The melody is the highest note of the first track (or channel) that has notes, at each sixteenth;
    rests are filled by the note before, and the whole is moved by octaves so that most of it lies between C4
    and B5; single notes outside follow. A bar's chord is the triad that shares most time with the notes of
    the other tracks, or with those of the melody if there are no others.

    Returns:
        Pitches, int64 (num_bars, 16), and chords, int64 (num_bars,).

    Raises:
        MusicError: for a file that is no MIDI file or has no notes, or if mido is not installed.
    """
    mido = _mido()
    try:
        file = mido.MidiFile(expand(path))
    except (OSError, EOFError, ValueError, KeyError, IndexError) as error:
        raise MusicError(f"{path} cannot be read as a MIDI file: {error or type(error).__name__}.") from error
    voices = [notes for notes in _voices(file) if notes]
    if not voices:
        raise MusicError(f"{path} has no notes.")
    melody = _melody(voices[0])
    others = [note for notes in voices[1:] for note in notes]
    bars = melody.reshape(-1, STEPS)
    return bars, np.array([_chord_of_bar(k, bars[k], others) for k in range(len(bars))])


def _mido() -> Any:
    try:
        import mido
    except ImportError as error:
        raise MusicError(
            "MIDI files need the package mido: pip install 'tf_gan_zoo[music]', or pip install mido."
        ) from error
    return mido


def _runs(values: np.ndarray) -> list[tuple[int, int]]:
    """(value, length) of each run of equal values."""
    starts = np.flatnonzero(np.diff(values, prepend=values[0] - 1))
    return list(zip(values[starts].tolist(), np.diff(starts, append=len(values)).tolist()))


def _low_triad(chord: int) -> tuple[int, ...]:
    root = 48 + chord % 12
    return tuple(root + interval for interval in _TRIADS[chord // 12])


def _write_notes(mido: Any, track: Any, notes: Iterable[tuple[Sequence[int], int]], velocity: int) -> None:
    """Adds (pitches, sixteenths) one after the other."""
    for pitches, length in notes:
        for pitch in pitches:
            track.append(mido.Message("note_on", note=pitch, velocity=velocity, time=0))
        for k, pitch in enumerate(pitches):
            time = length * _TICKS // 4 if k == 0 else 0
            track.append(mido.Message("note_off", note=pitch, velocity=0, time=time))


Note = tuple[float, float, int]


def _voices(file: Any) -> list[list[Note]]:
    """(start, end, pitch) of the notes of each track and channel, in sixteenths; drums are left out."""
    voices: dict[tuple[int, int], list[Note]] = {}
    for number, track in enumerate(file.tracks):
        time, sounding = 0, {}
        for message in track:
            time += message.time
            if message.type not in ("note_on", "note_off") or message.channel == 9:
                continue
            key, now = (number, message.channel), time * 4 / file.ticks_per_beat
            start = sounding.pop((key, message.note), None)
            if start is not None and now > start:
                voices.setdefault(key, []).append((start, now, message.note))
            if message.type == "note_on" and message.velocity:
                sounding[key, message.note] = now
    return [voices[key] for key in sorted(voices)]


def _melody(notes: Sequence[Note]) -> np.ndarray:
    """The highest note at each sixteenth from the first note's bar on, whole bars, without rests."""
    first = int(min(start for start, _, _ in notes) + 0.5) // STEPS * STEPS
    end = max(end for _, end, _ in notes)
    length = int(np.ceil((end - first) / STEPS)) * STEPS
    line = np.full(length, -1)
    for start, stop, pitch in notes:
        begin = int(round(start)) - first
        span = slice(begin, max(int(round(stop)) - first, begin + 1))
        line[span] = np.maximum(line[span], pitch)
    sounding = line >= 0
    before = np.maximum.accumulate(np.where(sounding, np.arange(length), -1))
    line = np.where(before >= 0, line[before], line[sounding][0])
    octaves = int(np.round((np.median(line) - (LOWEST + HIGHEST) / 2) / 12))
    line = line - 12 * octaves
    line = np.where(line < LOWEST, LOWEST + line % 12, line)
    return np.where(line > HIGHEST, LOWEST + 12 + line % 12, line)


def _chord_of_bar(number: int, melody: np.ndarray, others: Sequence[Note]) -> int:
    start, end = number * STEPS, (number + 1) * STEPS
    shared = [(pitch, min(stop, end) - max(begin, start)) for begin, stop, pitch in others]
    shared = [(pitch, time) for pitch, time in shared if time > 0]
    return infer_chord(*zip(*shared)) if shared else infer_chord(melody)
