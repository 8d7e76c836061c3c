"""Audio files: which files are audio, and how their samples are read."""

import contextlib
import os
from collections.abc import Iterator

import librosa
import numpy as np
import soundfile
from jaxtyping import Float

from glr_jax import storage
from glr_jax.errors import ClipError

# 'raw' is left out: libsndfile would read any file as raw audio. The others have several suffixes.
AUDIO_SUFFIXES = {f'.{name.lower()}' for name in soundfile.available_formats()} - {'.raw'} | {
    *('.aif', '.aifc', '.oga', '.opus')
}


def audio_files(folder: str) -> Iterator[str]:
    """All files below a folder with a suffix that libsndfile reads, sorted; skips hidden ones."""
    for path in storage.files_below(folder):
        if os.path.splitext(path)[1].lower() in AUDIO_SUFFIXES:
            yield path


def load_audio(path: str, sample_rate: int) -> Float[np.ndarray, ' samples']:
    """Reads an audio file as mono at a given sample rate.

    Args:
      path: any format that libsndfile reads (wav, flac, ogg, mp3, au, aiff, ...), with any number
        of channels and any sample rate.
      sample_rate: the rate to resample to, in Hz.

    Returns:
      float32, the mean of the channels.

    Raises:
      ClipError: the file cannot be read, is empty, or holds NaN or infinite samples.
    """
    try:
        with (
            storage.to_read(path) as local,
            open(local, 'rb') as file,
            _quiet_decoder(),
        ):
            # Given a path, libsndfile trusts the suffix: any bytes in a file named .au are audio.
            # Only an mp3 needs its path, since tags and junk may precede the first frame.
            source = os.fsencode(local) if local.lower().endswith('.mp3') else file
            with soundfile.SoundFile(source) as audio:
                rate, mono = audio.samplerate, _read_mono(audio)
    except (soundfile.LibsndfileError, TypeError):  # TypeError: .raw, which has no header
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
    """Hides what libmpg123 prints about a damaged mp3; the clip's error says it better."""
    stderr = os.dup(2)
    try:
        with open(os.devnull, 'w') as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _read_mono(audio: soundfile.SoundFile) -> Float[np.ndarray, ' samples']:
    """The mean of the channels, read in pieces: an hour of eight channels would fill the memory.

    Uses a matrix product, since NumPy's mean over so short an axis takes as long as decoding.
    """
    average = np.full(audio.channels, 1 / audio.channels, np.float32)
    pieces = [np.zeros(0, np.float32)]
    while len(piece := audio.read(1 << 20, dtype='float32', always_2d=True)):
        pieces.append(piece @ average)
    return np.concatenate(pieces)
