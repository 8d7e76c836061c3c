"""Audio to log-mel spectrograms: librosa's front end, in decibels below the clip's peak."""

import dataclasses
import os
from typing import Literal

import librosa
import numpy as np
import soundfile
from jaxtyping import Float, Num, UInt8

from glr_jax.cli import option


@dataclasses.dataclass(frozen=True)
class FrontEnd:
    """What turns samples into a mel spectrogram; kept with the dataset and the checkpoint."""

    sample_rate: int = option(22050, 'Hz; every clip is resampled to it', minimum=1)
    n_fft: int = option(2048, 'samples in a window', minimum=2)
    hop_length: int = option(512, 'samples between two frames', minimum=1)
    n_mels: int = option(128, 'mel bands', minimum=1)
    htk: bool = option(False, 'mel scale of the paper (Eq. 2) instead of Slaney')
    top_db: float = option(80.0, 'dB below the peak at which the spectrogram is floored', 1.0)
    mel_dtype: Literal['uint8', 'float32'] = option(
        'uint8', 'how dB are stored: uint8 spans -top_db..0, float32 keeps them as they are'
    )


class ClipError(Exception):
    """A clip that cannot be used; the message says why."""


def load_audio(path: str, sample_rate: int) -> Float[np.ndarray, ' samples']:
    """Reads a file of any format, channel count and rate that libsndfile knows, as mono.

    Args:
      path: wav, flac, ogg, mp3, au, aiff, ...
      sample_rate: the rate to resample to, in Hz.

    Raises:
      ClipError: the file cannot be read, is empty, or holds NaN or infinite samples.
    """
    try:
        with open(path, 'rb') as file:
            # By a name libsndfile takes the word of a suffix: any bytes at all named .au are audio.
            # An mp3 alone needs its name, since tags and junk may come before the first frame.
            source = os.fsencode(path) if path.lower().endswith('.mp3') else file
            samples, rate = soundfile.read(source, dtype='float32', always_2d=True)
    except (soundfile.LibsndfileError, TypeError):  # TypeError: headerless .raw
        raise ClipError('cannot be decoded as audio') from None
    except OSError as error:
        raise ClipError(f'cannot be read: {error.strerror}') from None
    if samples.shape[0] == 0:
        raise ClipError('has no samples')
    mono = samples.mean(axis=1)
    if not np.isfinite(mono).all():
        raise ClipError('has NaN or infinite samples')
    if rate != sample_rate:
        mono = librosa.resample(mono, orig_sr=rate, target_sr=sample_rate)
    return mono


def log_mel(
    samples: Float[np.ndarray, ' samples'], front_end: FrontEnd
) -> Float[np.ndarray, 'frames mels']:
    """Log-mel spectrogram in dB, time first: Eq. 1 of the paper, then power to decibels.

    Args:
      samples: mono, at `front_end.sample_rate`.
      front_end: window, hop and mel scale.

    Returns:
      float32 in -top_db..0, 0 being the clip's peak. `1 + samples // hop_length` frames.

    Raises:
      ClipError: the clip is shorter than a window, or silent (no peak to refer to).
    """
    if len(samples) < front_end.n_fft:
        raise ClipError(f'is shorter than one window ({len(samples)} of {front_end.n_fft} samples)')
    if np.abs(samples).max() > 1e9:
        raise ClipError('has samples too large to square in float32')
    power = librosa.feature.melspectrogram(
        y=samples,
        sr=front_end.sample_rate,
        n_fft=front_end.n_fft,
        hop_length=front_end.hop_length,
        n_mels=front_end.n_mels,
        htk=front_end.htk,
    )
    peak = power.max()
    if peak <= 1e-10:  # power_to_db's own floor
        raise ClipError('is silent')
    return librosa.power_to_db(power, ref=peak, top_db=front_end.top_db).T


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
