"""Audio to log-mel spectrograms with librosa, in decibels below the clip's peak."""

import functools
import warnings
from collections.abc import Iterator
from typing import Any

import librosa
import numpy as np
from jaxtyping import Float, Num, UInt8

from glr_jax.data.audio import open_audio
from glr_jax.data.front_end import FrontEnd
from glr_jax.data.limits import MAX_VALUES
from glr_jax.data.waveform import resample, waveform
from glr_jax.errors import ClipError, UsageError


def check(front_end: FrontEnd) -> None:
    """Raises `UsageError` if the window is so short that mel bands would be empty."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # librosa warns of empty filters too
        empty = int((~_mel_filters(front_end).any(1)).sum())
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
    pieces, peak = _powers(iter([samples]), front_end)
    return np.concatenate([_decibels(piece, peak, front_end) for piece in pieces])


def _powers(
    blocks: Iterator[Float[np.ndarray, ' _']], front_end: FrontEnd
) -> tuple[list[Float[np.ndarray, 'mels _']], np.floating]:
    """The mel powers of a clip, some thousand frames per piece, and their maximum."""
    powers: list[np.ndarray] = []
    frames, peak = 0, np.float32(0)
    for piece in _pieces(_padded(blocks, front_end), front_end):
        power = _mel_power(piece, front_end)
        powers.append(power)
        frames, peak = frames + power.shape[1], max(peak, power.max())
        if frames * front_end.n_mels > MAX_VALUES:
            raise ClipError(
                f'is too long for --hop_length={front_end.hop_length} and --n_mels='
                f'{front_end.n_mels}: a spectrogram may have {MAX_VALUES:,} values'
            )
    if peak <= 1e-10:  # librosa's floor in power_to_db
        raise ClipError('is silent')
    return powers, peak


def _decibels(
    power: Float[np.ndarray, 'mels frames'], peak: Any, front_end: FrontEnd
) -> Float[np.ndarray, 'frames mels']:
    decibels = librosa.power_to_db(power, ref=front_end.ref or peak, top_db=None)
    return np.maximum(decibels, -front_end.top_db).T


def _padded(
    blocks: Iterator[Float[np.ndarray, ' _']], front_end: FrontEnd
) -> Iterator[Float[np.ndarray, ' _']]:
    """The samples, with half a window of zeros before and after them.

    Raises:
      ClipError: there is less than one window, or samples are above 1e9.
    """
    edge, count = np.zeros(front_end.n_fft // 2, np.float32), 0
    yield edge
    for block in blocks:
        if len(block) and np.abs(block).max() > 1e9:
            raise ClipError('has samples too large for float32 (above 1e9)')
        count += len(block)
        yield block
    if count < front_end.n_fft:
        raise ClipError(f'is shorter than one window ({count} of {front_end.n_fft} samples)')
    yield edge


def _pieces(
    blocks: Iterator[Float[np.ndarray, ' _']], front_end: FrontEnd, frames: int = 2048
) -> Iterator[Float[np.ndarray, ' _']]:
    """The samples of a few thousand frames at a time, so that long clips need little memory.

    A clip of 30 s is one piece.
    """
    hop, overlap = front_end.hop_length, front_end.n_fft - front_end.hop_length
    held: list[np.ndarray] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += len(block)
        while count >= frames * hop + max(0, overlap):
            whole = np.concatenate(held)
            yield whole[: frames * hop + overlap]
            held = [whole[frames * hop :]]
            count = len(held[0])
    last = np.concatenate(held) if held else np.zeros(0, np.float32)
    if len(last) >= front_end.n_fft:
        count = 1 + (len(last) - front_end.n_fft) // hop
        yield last[: (count - 1) * hop + front_end.n_fft]


def _mel_power(
    samples: Float[np.ndarray, ' samples'], front_end: FrontEnd
) -> Float[np.ndarray, 'mels frames']:
    spectrum = librosa.stft(
        samples, n_fft=front_end.n_fft, hop_length=front_end.hop_length, center=False
    )
    return _mel_filters(front_end) @ np.abs(spectrum) ** 2


@functools.lru_cache(maxsize=1)
def _mel_filters(front_end: FrontEnd) -> Float[np.ndarray, 'mels bins']:
    return librosa.filters.mel(
        sr=front_end.sample_rate,
        n_fft=front_end.n_fft,
        n_mels=front_end.n_mels,
        htk=front_end.htk,
    )


def encode(
    decibels: Float[np.ndarray, 'frames mels'], front_end: FrontEnd
) -> Num[np.ndarray, 'frames mels']:
    """Decibels to stored values: float32, or uint8 with 0..255 for -top_db..0 dB."""
    if front_end.mel_dtype == 'float32':
        return decibels.astype(np.float32)
    scaled = (decibels + front_end.top_db) * (255 / front_end.top_db)
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
    powers, peak = _powers(blocks, front_end)
    powers.reverse()  # so that each piece can be freed at once
    encoded = []
    while powers:
        encoded.append(encode(_decibels(powers.pop(), peak, front_end), front_end))
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
