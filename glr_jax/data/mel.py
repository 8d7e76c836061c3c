"""Audio to log-mel spectrograms: librosa's front end, in decibels below the clip's peak."""

import dataclasses
import functools
import warnings
from collections.abc import Iterator
from typing import Literal

import librosa
import numpy as np
from jaxtyping import Float, Num, UInt8

from glr_jax.data.audio import load_audio
from glr_jax.errors import ClipError, UsageError
from glr_jax.fields import check_fields, option


@dataclasses.dataclass(frozen=True)
class FrontEnd:
    """What turns samples into a mel spectrogram; kept with the dataset and the checkpoint."""

    sample_rate: int = option(22050, 'Hz; every clip is resampled to it', minimum=1)
    n_fft: int = option(2048, 'samples in a window', minimum=2)
    hop_length: int = option(512, 'samples between two frames', minimum=1)
    n_mels: int = option(128, 'mel bands', minimum=1)
    htk: bool = option(False, 'mel scale of the paper (Eq. 2) instead of Slaney')
    ref: float = option(0.0, "power that is 0 dB; 0: each clip's own peak", minimum=0.0)
    top_db: float = option(80.0, 'dB below 0 at which the spectrogram is floored', 1.0)
    mel_dtype: Literal['uint8', 'float32'] = option(
        'uint8', 'how dB are stored: uint8 spans -top_db..0 and no more, float32 has them all'
    )

    def __post_init__(self) -> None:
        check_fields(self)


def check(front_end: FrontEnd) -> None:
    """Raises `UsageError` for values that do not go together."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # librosa's, of empty filters
        empty = int((~_mel_filters(front_end).any(1)).sum())
    if empty:
        raise UsageError(
            f'--n_fft={front_end.n_fft} is too short for --n_mels={front_end.n_mels}: {empty} of '
            'the bands would have no frequency in them; raise the one or lower the other'
        )


def log_mel(
    samples: Float[np.ndarray, ' samples'], front_end: FrontEnd
) -> Float[np.ndarray, 'frames mels']:
    """Log-mel spectrogram in dB, time first: Eq. 1 of the paper, then power to decibels.

    Args:
      samples: mono, at `front_end.sample_rate`.
      front_end: window, hop and mel scale.

    Returns:
      float32 from -top_db up, 0 being the clip's peak or the power `ref`.
      `1 + samples // hop_length` frames.

    Raises:
      ClipError: the clip is shorter than a window, or silent (no peak to refer to).
    """
    if len(samples) < front_end.n_fft:
        raise ClipError(f'is shorter than one window ({len(samples)} of {front_end.n_fft} samples)')
    if np.abs(samples).max() > 1e9:
        raise ClipError('has samples too large to square in float32')
    padded = np.pad(samples, front_end.n_fft // 2)
    power = np.concatenate([_mel_power(part, front_end) for part in _parts(padded, front_end)], 1)
    peak = power.max()
    if peak <= 1e-10:  # power_to_db's own floor
        raise ClipError('is silent')
    decibels = librosa.power_to_db(power, ref=front_end.ref or peak, top_db=None)
    return np.maximum(decibels, -front_end.top_db).T


def _parts(
    padded: Float[np.ndarray, ' samples'], front_end: FrontEnd, frames: int = 2048
) -> Iterator[Float[np.ndarray, ' samples']]:
    """Stretches of so many frames, so that the memory of an hour's transform is that of a minute's.

    30 s are one stretch.
    """
    count = 1 + (len(padded) - front_end.n_fft) // front_end.hop_length
    for start in range(0, count, frames):
        end = min(start + frames, count) - 1
        yield padded[start * front_end.hop_length : end * front_end.hop_length + front_end.n_fft]


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
    """DB as they are stored: float32, or uint8 where 0..255 spans -top_db..0 dB."""
    if front_end.mel_dtype == 'float32':
        return decibels.astype(np.float32)
    scaled = (decibels + front_end.top_db) * (255 / front_end.top_db)
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def decode(
    mel: UInt8[np.ndarray, 'frames mels'] | Float[np.ndarray, 'frames mels'], front_end: FrontEnd
) -> Float[np.ndarray, 'frames mels']:
    """Stored values back to dB; at top_db 80 within 0.16 dB of what `encode` was given."""
    if front_end.mel_dtype == 'float32':
        return mel
    return mel.astype(np.float32) * (front_end.top_db / 255) - front_end.top_db


def mel_of_samples(
    samples: Float[np.ndarray, ' samples'], front_end: FrontEnd
) -> Num[np.ndarray, 'frames mels']:
    """Samples to the stored mel spectrogram."""
    return encode(log_mel(samples, front_end), front_end)


def mel_of_file(path: str, front_end: FrontEnd) -> Num[np.ndarray, 'frames mels']:
    """An audio file to the stored mel spectrogram; raises `ClipError` as its parts do."""
    return mel_of_samples(load_audio(path, front_end.sample_rate), front_end)
