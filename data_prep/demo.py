"""The built-in demo music: synthesised clips in eight styles that a listener can tell apart.

Whatever a style (`styles.py`) leaves open is drawn at random: tempo, key, tuning, instruments,
register, levels, room, equaliser and noise. So the energy in a frequency band does not give a style
away; the way the music moves does.
"""

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import fft

from data_prep.styles import CHORDS, NOTES, STYLES, TIMBRES, Style, Timbre

Signal = Float[np.ndarray, ' samples']


class _Beat(NamedTuple):
    """A symbol of a rhythm pattern, placed in time; the chords are its bar's and the next bar's."""

    sign: str
    onset: float
    seconds: float
    chord: tuple[int, ...]
    following: tuple[int, ...]


class _Note(NamedTuple):
    """A note for an instrument; the pitch is a MIDI number."""

    onset: float
    seconds: float
    pitch: int


def synthesise(
    style: str,
    seed: int,
    sample_rate: int = 22050,
    narrow: Callable[[Style], Style] | None = None,
) -> Signal:
    """Synthesises a clip; the same style, seed and sample rate always give the same samples.

    Args:
      style: a key of `STYLES`.
      seed: at least 0; each seed gives another clip.
      sample_rate: in Hz.
      narrow: takes choices from the style before they are made; see `demo_clips.Traits`.

    Returns:
      float32 mono in -1..1, 10 to 15 s long.

    Raises:
      ValueError: the style is unknown.
    """
    if style not in STYLES:
        raise ValueError(f'unknown style {style!r}; choose one of {", ".join(STYLES)}')
    rng = np.random.default_rng([list(STYLES).index(style), seed])
    table = _borrow(STYLES[style], rng)
    if narrow is not None:
        table = narrow(table)
    seconds = rng.uniform(10, 15)
    bar = 60 / rng.uniform(*table.tempo) * table.beats
    key = int(rng.integers(12))
    chords = _harmony(table.progressions, key, 1 + int(seconds / bar), rng)
    scale = {(key + NOTES[name]) % 12 for name in table.scale.split()}
    bass, middle, top = (int(rng.integers(low, low + 9)) for low in (29, 50, 60))
    scores = (
        _accompany(_rhythm(table.bass, chords, bar, rng), bass),
        _accompany(_rhythm(table.chords, chords, bar, rng), middle),
        _improvise(_rhythm(table.lead, chords, bar, rng), top, scale, rng),
    )
    size, tuning = int(seconds * sample_rate), rng.uniform(-0.5, 0.5)
    steps = np.arange(size) * (len(table.volume) / bar / sample_rate)
    decibels = [3 * int(digit) - 27 for digit in table.volume]
    swell = 10 ** (np.interp(steps, np.arange(len(decibels)), decibels, period=len(decibels)) / 20)
    parts = [2 * _strike(table.drums, bar, size, sample_rate, rng)]
    for notes, pool in zip(scores, table.instruments, strict=True):
        timbre = TIMBRES[rng.choice(pool.split())]
        parts.append(swell * _play(notes, timbre, table.touch, tuning, size, sample_rate, rng))
    gains = (1.6, 0.7, 1.0, 1.0)
    levelled = [_level(part, rng) * gain for gain, part in zip(gains, parts, strict=True)]
    mix = _record(np.sum(levelled, axis=0), sample_rate, rng)
    return mix * np.float32(rng.uniform(0.3, 0.95) / np.abs(mix).max())


def _borrow(style: Style, rng: np.random.Generator) -> Style:
    """Now and then takes one trait from the neighbouring style, as musicians do."""
    field = str(rng.choice(['bass', 'chords', 'drums', 'instruments']))
    if rng.random() > 0.12:
        return style
    return dataclasses.replace(style, **{field: getattr(STYLES[style.neighbour], field)})


def _harmony(
    progressions: Sequence[str], key: int, bars: int, rng: np.random.Generator
) -> list[tuple[int, ...]]:
    """One chord per bar and one more to lead to, from anywhere in a progression; roots first."""
    symbols = str(rng.choice(progressions)).split()
    start = int(rng.integers(len(symbols)))
    chords = []
    for bar in range(bars + 1):
        symbol = symbols[(start + bar) % len(symbols)]
        root = key + NOTES[symbol[0]]
        chords.append(tuple(root + interval for interval in CHORDS[symbol[1:]]))
    return chords


def _rhythm(
    patterns: Sequence[str], chords: Sequence[tuple[int, ...]], bar: float, rng: np.random.Generator
) -> Iterator[_Beat]:
    """Reads one pattern per bar, mostly the clip's favourite."""
    favourite = str(rng.choice(patterns))
    for number, (chord, following) in enumerate(itertools.pairwise(chords)):
        pattern = favourite if rng.random() < 0.6 else str(rng.choice(patterns))
        step = bar / len(pattern)
        for match in re.finditer(r'[^.-]-*', pattern):
            onset, seconds = number * bar + match.start() * step, len(match[0]) * step
            yield _Beat(match[0][0], onset, seconds, chord, following)


def _accompany(beats: Iterable[_Beat], lowest: int) -> Iterator[_Note]:
    """Chord tones at or above the MIDI pitch `lowest`."""
    for beat in beats:
        root = beat.chord[0]
        bottom = _raise(root, lowest)
        match beat.sign:
            case 'x':
                # Folded into one octave, so that the tones move little from chord to chord.
                pitches = [_raise(tone, lowest) + (tone - root) // 12 * 12 for tone in beat.chord]
            case '>':
                pitches = [_raise(beat.following[0] - 1, lowest)]
            case '8':
                pitches = [bottom + 12]
            case digit:
                pitches = [bottom + beat.chord[int(digit) // 2] - root]
        for pitch in pitches:
            yield _Note(beat.onset, beat.seconds, pitch)


def _improvise(
    beats: Iterable[_Beat], lowest: int, scale: set[int], rng: np.random.Generator
) -> Iterator[_Note]:
    """A melody that wanders over the scale and lands on a chord tone when the chord changes."""
    ladder = [pitch for pitch in range(lowest, lowest + 20) if pitch % 12 in scale]
    place, chord = len(ladder) // 2, None
    for beat in beats:
        place = int(np.clip(place + rng.choice([-2, -1, -1, 0, 1, 1, 2]), 0, len(ladder) - 1))
        if beat.chord is not chord:
            chord = beat.chord
            tones = {tone % 12 for tone in chord}
            meeting = [i for i, pitch in enumerate(ladder) if pitch % 12 in tones]
            place = min(meeting or [place], key=lambda i: abs(i - place))
        yield _Note(beat.onset, beat.seconds, ladder[place])


def _raise(tone: int, lowest: int) -> int:
    return lowest + (tone - lowest) % 12


def _play(
    notes: Iterable[_Note],
    timbre: Timbre,
    touch: tuple[float, float],
    tuning: float,
    size: int,
    sample_rate: int,
    rng: np.random.Generator,
) -> Signal:
    """Plays notes; each pitch is rendered once, and its shorter notes are cut from the longest."""
    notes = [n._replace(seconds=n.seconds * touch[1]) for n in notes]
    release = np.linspace(1, 0, int(0.025 * sample_rate), dtype=np.float32)
    longest: dict[int, float] = {}
    for note in notes:
        longest[note.pitch] = max(note.seconds, longest.get(note.pitch, 0))
    colour = rng.uniform(-0.3, 0.3)
    timbre = dataclasses.replace(
        timbre,
        slope=timbre.slope + colour,
        attack=max(timbre.attack, touch[0]),
        decay=timbre.decay * rng.uniform(0.6, 1.6),
        mellow=timbre.mellow * rng.uniform(0.6, 1.6),
    )
    tones = {
        pitch: _tone(timbre, pitch + tuning, int(seconds * sample_rate) + len(release), sample_rate)
        for pitch, seconds in longest.items()
    }
    part = np.zeros(size, np.float32)
    for note in notes:
        start = int((note.onset + abs(rng.normal(0, 0.006))) * sample_rate)
        held = int(note.seconds * sample_rate)
        sound = tones[note.pitch][: held + len(release)] * np.float32(rng.uniform(0.6, 1))
        sound[held:] *= release
        _add(part, sound, start)
    return part


def _tone(timbre: Timbre, pitch: float, size: int, sample_rate: int) -> Signal:
    """A note by wavetable synthesis: a bright waveform that fades into a mellow one."""
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    partial = np.arange(1, 201)
    amplitude = partial**-timbre.slope * np.where(partial % 2, 1, timbre.even)
    amplitude *= partial * frequency < 0.45 * sample_rate
    amplitude /= np.sqrt(np.sum(amplitude**2))
    bright, mellow = (_cycle(amplitude / partial**fade) for fade in (0, 1.5))
    time = np.arange(size) / sample_rate
    wobble = timbre.vibrato / (2 * np.pi * 5.5) * np.sin(2 * np.pi * 5.5 * time)
    index = (frequency * (time + wobble) * len(bright)).astype(np.int32) % len(bright)
    time = time.astype(np.float32)
    wave = mellow[index] + np.exp(time / -timbre.mellow) * (bright - mellow)[index]
    return wave * np.minimum(time / timbre.attack, 1) * np.exp(time / -timbre.decay)


def _cycle(amplitudes: Float[np.ndarray, ' partials']) -> Float[np.ndarray, ' samples']:
    spectrum = np.zeros(1025, np.complex64)
    spectrum[1 : len(amplitudes) + 1] = -1j * amplitudes
    return fft.irfft(spectrum) * 1024


def _strike(
    patterns: Sequence[str], bar: float, size: int, sample_rate: int, rng: np.random.Generator
) -> Signal:
    """Drums: a sweep for the kick, a tone and noise for the snare, bright noise for the hat."""
    time = np.arange(int(0.3 * sample_rate)) / sample_rate
    noise = rng.standard_normal(len(time))
    sweep = rng.uniform(45, 65) * time + rng.uniform(1, 3) * (1 - np.exp(time / -0.03))
    kick = np.sin(2 * np.pi * sweep) * np.exp(time / -rng.uniform(0.06, 0.14))
    shell = np.sin(2 * np.pi * rng.uniform(170, 420) * time) * np.exp(time / -0.04)
    snare = shell + rng.uniform(0.1, 0.6) * noise * np.exp(time / -rng.uniform(0.03, 0.1))
    hat = np.diff(noise, 2, append=[0, 0]) * np.exp(time / -rng.uniform(0.01, 0.05))
    kit = kick, rng.uniform(0.4, 1) * snare, 10 ** rng.uniform(-1.5, -0.5) * hat
    part = np.zeros(size, np.float32)
    for drum, pattern in zip(kit, patterns, strict=True):
        for first in np.arange(0, size / sample_rate, bar):
            for match in re.finditer('x', pattern):
                onset = first + match.start() * bar / len(pattern)
                if rng.random() < 0.95:
                    _add(part, drum * rng.uniform(0.7, 1), int(onset * sample_rate))
    return part


def _add(part: Signal, sound: Float[np.ndarray, ' sound_samples'], start: int) -> None:
    """Mixes a sound into a part, in place; cuts it off at the end of the part."""
    room = part[start : start + len(sound)]
    room += sound[: len(room)]


def _level(part: Signal, rng: np.random.Generator) -> Signal:
    """Scales a part to a random loudness, however loud its instrument is."""
    loudness = np.sqrt(np.mean(part**2)) or 1
    return part * np.float32(10 ** (rng.uniform(-8, 0) / 20) / loudness)


def _record(mix: Signal, sample_rate: int, rng: np.random.Generator) -> Signal:
    """Adds a room, an equaliser and a noise floor, in one pass through the spectrum."""
    echo = rng.standard_normal(sample_rate // 2, np.float32)
    echo *= np.exp(np.arange(len(echo)) / (-rng.uniform(0.03, 0.12) * sample_rate))
    echo *= rng.uniform(0.05, 0.25) / np.linalg.norm(echo)
    echo[0] += 1
    size = fft.next_fast_len(len(mix) + len(echo), real=True)
    octave = np.log2(np.maximum(fft.rfftfreq(size, 1 / sample_rate), 30) / 700)
    decibels = rng.uniform(-2, 2) * octave
    for _ in range(5):
        bump = (octave - rng.uniform(-4, 4)) / rng.uniform(0.3, 1.2)
        decibels += rng.uniform(-10, 10) * np.exp(-(bump**2))
    spectrum = fft.rfft(mix, size) * fft.rfft(echo, size) * 10 ** (decibels / 20)
    hiss = rng.standard_normal((2, len(octave)), np.float32)
    hiss = (hiss[0] + 1j * hiss[1]) * 10 ** (rng.uniform(-5, 2) * octave / 20)
    floor = 10 ** (rng.uniform(-60, -35) / 20)
    spectrum += hiss * np.float32(floor * np.linalg.norm(spectrum) / np.linalg.norm(hiss))
    return fft.irfft(spectrum, size)[: len(mix)].astype(np.float32)
