"""Audio to log-mel spectrograms equal to librosa's, in decibels below the clip's peak.

The filters are librosa's; the transform is SciPy's, since librosa's takes twice as long.
"""

import functools
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.fft
from jaxtyping import Float, Num, UInt8

from glr_jax.data.audio import open_audio
from glr_jax.data.front_end import FrontEnd
from glr_jax.data.limits import MAX_VALUES
from glr_jax.data.mel_filters import Block, in_blocks, mel_filters
from glr_jax.data.waveform import resample, waveform
from glr_jax.errors import ClipError, UsageError

FLOOR = 1e-10  # of a power, as in librosa.power_to_db
Precision = type[np.float32] | type[np.float64]
_PIECE = 1 << 18  # samples of all frames that are transformed at once: they stay in the cache


def check(front_end: FrontEnd) -> None:
    """Raises `UsageError` if the window is so short that mel bands would be empty."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # librosa warns of empty filters too
        empty = int((~mel_filters(front_end).any(1)).sum())
    if empty:
        raise UsageError(
            f'--n_fft={front_end.n_fft} is too short for --n_mels={front_end.n_mels}: {empty} of '
            'the bands would be empty; give a larger --n_fft or a smaller --n_mels'
        )


def log_mel(
    samples: Float[np.ndarray, ' samples'], front_end: FrontEnd
) -> Float[np.ndarray, 'frames mels']:
    """Log-mel spectrogram in dB, time first: Eq. 1 of the paper, then power to decibels.

    Args:
      samples: mono, at `front_end.sample_rate`.
      front_end: window, hop, mel scale and range of dB.

    Returns:
      float32, at least -top_db; 0 dB is the clip's peak or the power `ref`. There are
      `1 + samples // hop_length` frames.

    Raises:
      ClipError: the clip is silent, shorter than one window, or has samples above 1e9.
    """
    powers, peak = _powers(iter([samples]), front_end, np.float64)
    return np.concatenate([decibels(piece, peak, front_end) for piece in powers])


def _powers(
    blocks: Iterator[Float[np.ndarray, ' _']], front_end: FrontEnd, precision: Precision
) -> tuple[list[Float[np.ndarray, '_ mels']], np.floating]:
    """The mel powers of a clip, some frames per piece, and their maximum."""
    powers: list[np.ndarray] = []
    frames, peak = 0, np.float32(0)
    for piece in pieces(blocks, front_end):
        power = in_bands(power_spectra(piece, front_end, precision), front_end)
        powers.append(power)
        frames, peak = frames + len(power), max(peak, power.max())
        if frames * front_end.n_mels > MAX_VALUES:
            raise ClipError(
                f'is too long for --hop_length={front_end.hop_length} and --n_mels='
                f'{front_end.n_mels}: a spectrogram may have {MAX_VALUES:,} values'
            )
    if peak <= FLOOR:
        raise ClipError('is silent')
    return powers, peak


def _padded(
    blocks: Iterator[Float[np.ndarray, ' _']], front_end: FrontEnd
) -> Iterator[Float[np.ndarray, ' _']]:
    """The samples, with half a window of zeros before and after them.

    Raises:
      ClipError: there is less than one window, or samples are not finite or above 1e9.
    """
    edge, count = np.zeros(front_end.n_fft // 2, np.float32), 0
    yield edge
    for block in blocks:
        peak = np.abs(block).max(initial=0)
        if not np.isfinite(peak):
            raise ClipError('has NaN or infinite samples')
        if peak > 1e9:
            raise ClipError('has samples too large for float32 (above 1e9)')
        count += len(block)
        yield block
    if count < front_end.n_fft:
        raise ClipError(f'is shorter than one window ({count} of {front_end.n_fft} samples)')
    yield edge


def pieces(
    blocks: Iterator[Float[np.ndarray, ' _']], front_end: FrontEnd
) -> Iterator[Float[np.ndarray, ' _']]:
    """The samples of a clip, a piece of some frames at a time, so that they stay in the cache.

    Raises:
      ClipError: there is less than one window, or samples are not finite or above 1e9.
    """
    n_fft, hop = front_end.n_fft, front_end.hop_length
    frames = max(1, _PIECE // max(n_fft, hop))
    size, step = (frames - 1) * hop + n_fft, frames * hop
    rest = np.zeros(0, np.float32)
    for block in _padded(blocks, front_end):
        samples, start = np.concatenate([rest, block]), 0
        while len(samples) - start >= max(size, step):
            yield samples[start : start + size]
            start += step
        rest = samples[start:]
    if len(rest) >= n_fft:
        yield rest[: (len(rest) - n_fft) // hop * hop + n_fft]


def power_spectra(
    samples: Float[np.ndarray, ' samples'], front_end: FrontEnd, precision: Precision
) -> Float[np.ndarray, 'frames bins']:
    """|STFT|^2 of as many frames as fit into the samples, in float32.

    Args:
      samples: mono.
      front_end: its window and hop.
      precision: of the transform. float64 is librosa's. float32 takes half the time and is off by
        up to 0.002 dB in bins 80 dB below the loudest, much less than the step between two bytes.
    """
    frames = np.lib.stride_tricks.sliding_window_view(samples, front_end.n_fft)
    # SciPy keeps float32 and transforms several frames at once; NumPy takes twice as long.
    window: np.ndarray = hann(front_end.n_fft).astype(precision)
    spectra = scipy.fft.rfft(frames[:: front_end.hop_length] * window)
    return np.square(np.abs(spectra)).astype(np.float32, copy=False)


@functools.lru_cache(maxsize=1)
def hann(n_fft: int) -> Float[np.ndarray, ' n_fft']:
    """The periodic Hann window."""
    return np.hanning(n_fft + 1)[:-1]


def in_bands(
    power: Float[np.ndarray, 'frames bins'], front_end: FrontEnd
) -> Float[np.ndarray, 'frames mels']:
    """The power in each mel band."""
    mel = np.zeros((len(power), front_end.n_mels), np.float32)
    for bands, bins, weights in _filters(front_end):
        np.matmul(power[:, bins], weights, out=mel[:, bands])
    return mel


@functools.lru_cache(maxsize=1)
def _filters(front_end: FrontEnd) -> list[Block]:
    return in_blocks(mel_filters(front_end))


def decibels(
    power: Float[np.ndarray, 'frames mels'], peak: Any, front_end: FrontEnd
) -> Float[np.ndarray, 'frames mels']:
    """Power to decibels below the peak, or below the power `ref`, at least -top_db."""
    values = 10 * np.log10(np.maximum(power, FLOOR))
    values -= 10 * np.log10(max(front_end.ref or peak, FLOOR))
    return np.maximum(values, -front_end.top_db)


def encode(
    values: Float[np.ndarray, 'frames mels'], front_end: FrontEnd
) -> Num[np.ndarray, 'frames mels']:
    """Decibels to stored values: float32, or uint8 with 0..255 for -top_db..0 dB."""
    if front_end.mel_dtype == 'float32':
        return values.astype(np.float32)
    scaled = (values + front_end.top_db) * (255 / front_end.top_db)
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def decode(
    mel: UInt8[np.ndarray, 'frames mels'] | Float[np.ndarray, 'frames mels'], front_end: FrontEnd
) -> Float[np.ndarray, 'frames mels']:
    """Stored values to decibels; with uint8 and a top_db of 80 they are exact to 0.16 dB."""
    if front_end.mel_dtype == 'float32':
        return mel
    return mel.astype(np.float32) * (front_end.top_db / 255) - front_end.top_db


def mel_of_samples(
    samples: Float[np.ndarray, ' samples'], front_end: FrontEnd
) -> Num[np.ndarray, 'frames mels']:
    """Samples to a mel spectrogram as it is stored."""
    return _mel_of_blocks(iter([samples]), front_end)


def _mel_of_blocks(
    blocks: Iterator[Float[np.ndarray, ' _']], front_end: FrontEnd
) -> Num[np.ndarray, 'frames mels']:
    """Blocks of samples to a mel spectrogram as it is stored, without the whole in decibels."""
    precision: Precision = np.float64 if front_end.mel_dtype == 'float32' else np.float32
    powers, peak = _powers(blocks, front_end, precision)
    powers.reverse()  # so that each piece can be freed at once
    encoded = []
    while powers:
        encoded.append(encode(decibels(powers.pop(), peak, front_end), front_end))
    return np.concatenate(encoded)


def mel_of_file(path: str, front_end: FrontEnd) -> Num[np.ndarray, 'frames mels']:
    """An audio file to a mel spectrogram as it is stored.

    Raises:
      ClipError: as in `stream_audio` and `log_mel`, or the spectrogram would be too large.
    """
    return mel_and_stated_seconds(path, front_end)[0]


def mel_and_stated_seconds(
    path: str, front_end: FrontEnd
) -> tuple[Num[np.ndarray, 'frames mels'], float]:
    """The same, and the length that the header of the file states; NaN if it states none.

    Raises:
      ClipError: as in `mel_of_file`.
    """
    with open_audio(path) as audio:
        blocks = resample(audio, front_end.sample_rate)
        return _mel_of_blocks(blocks, front_end), audio.stated_seconds


def mel_of_waveform(
    samples: np.ndarray, rate: int, front_end: FrontEnd
) -> Num[np.ndarray, 'frames mels']:
    """Samples at any rate to a mel spectrogram as it is stored, as if they were read from a file.

    Args:
      samples: as in `waveform`.
      rate: in Hz.
      front_end: how samples become a spectrogram.

    Raises:
      ClipError: as in `waveform`, `stream_audio` and `log_mel`.
    """
    return _mel_of_blocks(resample(waveform(samples, rate), front_end.sample_rate), front_end)
