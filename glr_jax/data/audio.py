"""How the samples of an audio file are read: block by block, within limits."""

import contextlib
import math
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from typing import Any

import numpy as np
import soundfile

from glr_jax import storage
from glr_jax.data import ffmpeg, lengths
from glr_jax.data.limits import MAX_BLOCK, MAX_SECONDS
from glr_jax.data.mp3 import Mp3, mp3_frames
from glr_jax.data.waveform import Audio, Mono, average, check_channels, resample, too_long
from glr_jax.errors import ClipError, UnreadableError

# 'raw' is left out: libsndfile would read any file as raw audio. The others have several suffixes.
AUDIO_SUFFIXES = {f'.{name.lower()}' for name in soundfile.available_formats()} - {'.raw'} | {
    *('.aif', '.aifc', '.oga', '.opus')
}
_UNKNOWN_FRAMES = 1 << 62  # libsndfile's number for a length that is not stated is larger


def load_audio(path: str, sample_rate: int) -> Mono:
    """Reads an audio file as mono at a given sample rate, whole: `stream_audio` in one piece."""
    with stream_audio(path, sample_rate) as blocks:
        return np.concatenate(list(blocks))


@contextlib.contextmanager
def stream_audio(path: str, sample_rate: int) -> Iterator[Iterator[Mono]]:
    """Opens an audio file and gives its samples as mono at a given sample rate, block by block.

    Args:
      path: any format that libsndfile reads (wav, flac, ogg, mp3, au, aiff, ...), or ffmpeg if it
        is installed, with any sample rate and up to 64 channels.
      sample_rate: the rate to resample to, in Hz.

    Returns:
      float32 blocks, the mean of the channels; together at least one sample.

    Raises:
      ClipError: the file cannot be read, is empty, holds NaN or infinite samples, or exceeds a
        limit; some of that is found only as the blocks are read.
    """
    with open_audio(path) as audio:
        yield resample(audio, sample_rate)


def stated_seconds(path: str) -> float:
    """The length that the header of a local audio file states, in seconds.

    NaN if it states none, cannot be read, is read by ffmpeg, or is at an address: it would have to
    be fetched again.
    """
    if storage.is_remote(path) or _suffix(path) in ffmpeg.FFMPEG_SUFFIXES:
        return math.nan
    try:
        with open_audio(path, only_header=True) as audio:
            return audio.stated_seconds
    except ClipError:
        return math.nan


@contextlib.contextmanager
def open_audio(path: str, *, only_header: bool = False) -> Iterator[Audio]:
    """Opens an audio file; reads no samples yet.

    Args:
      path: the file.
      only_header: whether only its header matters: its real end is not looked for.

    Raises:
      ClipError: the file cannot be read or decoded, or has too many channels.
    """
    with contextlib.ExitStack() as stack:
        try:
            local = stack.enter_context(storage.to_read(path))
            file = stack.enter_context(_open_regular(local))
            if not os.fstat(file.fileno()).st_size:
                raise ClipError('is empty (0 bytes)')
            stack.enter_context(_quiet_decoder())
            try:
                opened = stack.enter_context(_open_sound(local, file, only_header))
            except (soundfile.LibsndfileError, TypeError):  # TypeError: .raw has no header
                opened = stack.enter_context(_open_with_ffmpeg(local))
            yield opened
        except soundfile.LibsndfileError:
            raise ClipError('cannot be decoded as audio') from None
        except OSError as error:
            raise UnreadableError(f'cannot be read: {error.strerror}') from None


def _open_regular(path: str) -> BufferedReader:
    """Opens a file, but no pipe or device, which could block or never end."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a folder has its own error
        raise ClipError('is not a regular file')
    return open(path, 'rb')


@contextlib.contextmanager
def _open_sound(path: str, file: BufferedReader, only_header: bool) -> Iterator[Audio]:
    """Opens a file with libsndfile, several times if it holds several streams.

    Raises:
      soundfile.LibsndfileError: libsndfile does not know the format.
    """
    with contextlib.ExitStack() as stack:
        # Given a path, libsndfile trusts the suffix: any bytes in a file named .au are audio.
        # Only an mp3 needs its path, since tags and junk may precede the first frame.
        if file.peek(4)[:4] == b'OggS' and lengths.ogg_head_is_cut(file):
            # libsndfile 1.2.2 refuses such a file too, but never frees some kB of it.
            raise ClipError('is cut off before its first sample')
        source: Any = os.fsencode(path) if path.lower().endswith('.mp3') else file
        sound = stack.enter_context(_Sound(source))
        check_channels(sound.channels)
        rate, frames, sounds = sound.samplerate, sound.frames, [sound]
        seconds = frames / rate if 0 < frames < _UNKNOWN_FRAMES else math.nan
        beside = stack.enter_context(open(path, 'rb'))  # libsndfile keeps its place in the other
        match sound.format:
            case 'MP3' if not only_header:
                found = mp3_frames(beside)
                if found and _states_too_few(found, frames):
                    pipe = stack.enter_context(lengths.piped(path, found.spans))
                    sounds = [stack.enter_context(_Sound(pipe, closefd=False))]
            case 'OGG' | 'FLAC' if not only_header:
                of_format = {'OGG': lengths.ogg_streams, 'FLAC': lengths.flac_streams}
                spans = of_format[sound.format](beside)
                if len(spans) > lengths.MAX_STREAMS:
                    raise ClipError(
                        f'has {len(spans)} streams; at most {lengths.MAX_STREAMS} are read'
                    )
                if len(spans) > 1:
                    parts = [lengths.Overlay(beside, span) for span in spans]
                    sounds = [stack.enter_context(_Sound(part)) for part in parts]
            case 'WAV' | 'WAVEX' | 'RF64' | 'AU' if not frames:
                mended = lengths.without_size(beside)
                if mended:
                    sounds, seconds = [stack.enter_context(_Sound(mended))], math.nan
            case 'WAV' | 'WAVEX':
                sizes = lengths.wav_sizes(beside)
                if sizes and sizes[2] < sizes[1] < lengths.PLACEHOLDER:
                    seconds *= sizes[1] / sizes[2]
        if any((s.samplerate, s.channels) != (rate, sound.channels) for s in sounds):
            raise ClipError('changes its sample rate or its channels')
        if sound.format != 'MP3' and seconds > MAX_SECONDS:  # an mp3 may state anything
            raise ClipError(too_long())
        yield Audio(rate, seconds, (block for each in sounds for block in _read_mono(each)))


class _Sound(soundfile.SoundFile):
    """A file of unknown length is only read forwards: libsndfile fails to seek in it."""

    def seekable(self) -> bool:
        return super().seekable() and self.frames < _UNKNOWN_FRAMES


def _states_too_few(found: Mp3, frames: int) -> bool:
    """Whether an mp3 has more frames than it states, or than libsndfile guesses."""
    if found.stated:
        return found.frames > found.stated + 2
    return found.frames * found.frame_samples > frames + 2 * found.frame_samples


@contextlib.contextmanager
def _open_with_ffmpeg(path: str) -> Iterator[Audio]:
    program = ffmpeg.find()
    if program is None and _suffix(path) not in ffmpeg.FFMPEG_SUFFIXES:
        raise ClipError('cannot be decoded as audio')
    if program is None:
        raise UnreadableError(f'cannot be decoded without ffmpeg; {ffmpeg.INSTALL}')
    with ffmpeg.decode(program, path) as decoded:
        check_channels(decoded.channels)
        yield Audio(decoded.rate, math.nan, _read_pcm(decoded))


def _read_pcm(decoded: ffmpeg.Decoded) -> Iterator[Mono]:
    weights, size = average(decoded.channels), 4 * decoded.channels
    while len(data := decoded.samples.read(size * _block_frames(decoded.channels))) >= size:
        values = np.frombuffer(data[: len(data) // size * size], '>f4').astype(np.float32)
        yield values.reshape(-1, decoded.channels) @ weights
    decoded.finish()


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


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


def _read_mono(sound: soundfile.SoundFile) -> Iterator[Mono]:
    """The mean of the channels, in blocks: an hour of eight channels would fill the memory.

    Uses a matrix product, since NumPy's mean over so short an axis takes as long as decoding.
    """
    weights, frames = average(sound.channels), _block_frames(sound.channels)
    while True:
        try:
            block = sound.read(frames, dtype='float32', always_2d=True)
        except ValueError:  # a damaged file: it has been read beyond its stated end
            raise ClipError('cannot be decoded as audio') from None
        if not len(block):
            return
        yield block @ weights


def _block_frames(channels: int) -> int:
    return min(1 << 20, MAX_BLOCK // channels)
