"""Audio files: which files are audio, and their samples as mono."""

import contextlib
import os
from collections.abc import Iterator

import librosa
import numpy as np
import soundfile
from jaxtyping import Float

from glr_jax import storage
from glr_jax.errors import ClipError

# libsndfile opens aiff and caf too, and 'raw' would take any file at all for audio.
AUDIO_SUFFIXES = {f'.{name.lower()}' for name in soundfile.available_formats()} - {'.raw'} | {
    *('.aif', '.aifc', '.oga', '.opus')
}


def audio_files(folder: str) -> Iterator[str]:
    """Files below a folder whose suffix libsndfile knows, sorted; hidden ones are left out."""
    for path in storage.files_below(folder):
        if os.path.splitext(path)[1].lower() in AUDIO_SUFFIXES:
            yield path


def load_audio(path: str, sample_rate: int) -> Float[np.ndarray, ' samples']:
    """Reads a file of any format, channel count and rate that libsndfile knows, as mono.

    Args:
      path: wav, flac, ogg, mp3, au, aiff, ...
      sample_rate: the rate to resample to, in Hz.

    Raises:
      ClipError: the file cannot be read, is empty, or holds NaN or infinite samples.
    """
    try:
        with (
            storage.to_read(path) as local,
            open(local, 'rb') as file,
            _quiet_decoder(),
        ):
            # By a name libsndfile takes the word of a suffix: any bytes at all named .au are audio.
            # An mp3 alone needs its name, since tags and junk may come before the first frame.
            source = os.fsencode(local) if local.lower().endswith('.mp3') else file
            with soundfile.SoundFile(source) as audio:
                rate, mono = audio.samplerate, _read_mono(audio)
    except (soundfile.LibsndfileError, TypeError):  # TypeError: headerless .raw
        raise ClipError('cannot be decoded as audio') from None
    except OSError as error:
        raise ClipError(f'cannot be read: {error.strerror}') from None
    if not len(mono):
        raise ClipError('has no samples')
    if not np.isfinite(mono).all():
        raise ClipError('has NaN or infinite samples')
    if rate != sample_rate:
        mono = librosa.resample(mono, orig_sr=rate, target_sr=sample_rate)
    return mono


@contextlib.contextmanager
def _quiet_decoder() -> Iterator[None]:
    """Drops what libmpg123 prints of a damaged mp3: the clip's own fate says it better."""
    stderr = os.dup(2)
    try:
        with open(os.devnull, 'w') as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _read_mono(audio: soundfile.SoundFile) -> Float[np.ndarray, ' samples']:
    """The mean of the channels, read piece by piece: an hour of eight channels is large.

    A product with a vector, since NumPy's mean over so short an axis takes as long as decoding.
    """
    share = np.full(audio.channels, 1 / audio.channels, np.float32)
    pieces = [np.zeros(0, np.float32)]
    while len(piece := audio.read(1 << 20, dtype='float32', always_2d=True)):
        pieces.append(piece @ share)
    return np.concatenate(pieces)
