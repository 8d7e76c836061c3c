"""Samples before the mel front end: the mean of their channels, checked, at the rate it wants."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import soxr
from jaxtyping import Float

from glr_jax.data.limits import MAX_BLOCK, MAX_CHANNELS, MAX_RATIO, MAX_SECONDS
from glr_jax.errors import ClipError

Mono = Float[np.ndarray, ' samples']


class Audio(NamedTuple):
    """An open audio file.

    Attributes:
      rate: its sample rate in Hz.
      stated_seconds: its length according to its header; NaN if it states none.
      blocks: the means of its channels, float32, one block after the other.
    """

    rate: int
    stated_seconds: float
    blocks: Iterator[Mono]


def resample(audio: Audio, sample_rate: int) -> Iterator[Mono]:
    """The blocks of open audio at another sample rate, checked.

    Raises:
      ClipError: as in `stream_audio`.
    """
    if not sample_rate / MAX_RATIO <= audio.rate <= sample_rate * MAX_RATIO:
        raise ClipError(
            f'has a sample rate of {audio.rate} Hz; that of a clip must be between 1/'
            f'{MAX_RATIO} of --sample_rate={sample_rate} and {MAX_RATIO} times as much'
        )
    return _resampled(_checked(audio), audio.rate, sample_rate)


def waveform(samples: np.ndarray, rate: int) -> Audio:
    """Samples in memory as open audio.

    Args:
      samples: mono, or with up to 64 channels on the shorter axis; floats in -1..1, or integers,
        which are scaled to that.
      rate: sample rate in Hz.

    Raises:
      ClipError: they are not numbers, or have several axes or too many channels.
    """
    if samples.ndim not in (1, 2) or samples.dtype.kind not in 'iuf':
        raise ClipError(
            f'samples must be numbers on one axis, or two with the channels, not '
            f'{samples.dtype} of shape {samples.shape}'
        )
    if not isinstance(rate, int | np.integer) or rate < 1:
        raise ClipError(f'the sample rate must be a whole number of Hz, not {rate!r}')
    if samples.ndim == 1:
        samples = samples[:, None]
    elif samples.shape[0] < samples.shape[1]:
        samples = samples.T
    check_channels(samples.shape[1])
    if samples.dtype.kind == 'f':
        floats = samples.astype(np.float32)
    else:
        bits = 8 * samples.dtype.itemsize
        zero = 0 if samples.dtype.kind == 'i' else 2 ** (bits - 1)
        floats = ((samples.astype(np.float64) - zero) / 2 ** (bits - 1)).astype(np.float32)
    return Audio(int(rate), len(floats) / rate, iter([floats @ average(floats.shape[1])]))


def check_channels(channels: int) -> None:
    """Raises `ClipError` if there are too many channels, or none."""
    if not 0 < channels <= MAX_CHANNELS:
        raise ClipError(f'has {channels} channels; at most {MAX_CHANNELS} are read')


def too_long() -> str:
    """Why a clip is refused, as the end of a sentence."""
    return (
        f'is longer than {MAX_SECONDS // 3600} hours if its header is right; '
        'split it, or repair the sample rate in its header'
    )


def _checked(audio: Audio) -> Iterator[Mono]:
    """The blocks as they are.

    Raises:
      ClipError: there are no samples, too many, or some that are not finite.
    """
    count = 0
    for block in audio.blocks:
        count += len(block)
        if count > MAX_SECONDS * audio.rate:
            raise ClipError(too_long())
        if not np.isfinite(block).all():
            raise ClipError('has NaN or infinite samples')
        yield block
    if not count:
        raise ClipError('has no samples')


def _resampled(blocks: Iterator[Mono], rate: int, new_rate: int) -> Iterator[Mono]:
    """The blocks at another rate, the same samples as from `librosa.resample` of the whole."""
    if rate == new_rate:
        yield from blocks
        return
    resampler = soxr.ResampleStream(rate, new_rate, 1, dtype='float32', quality='HQ')
    # A block grows with the rate, and stays in the cache.
    size = min(1 << 16, MAX_BLOCK * rate // (4 * new_rate))
    taken = given = 0
    for block in blocks:
        taken += len(block)
        for start in range(0, len(block), size):
            out = resampler.resample_chunk(block[start : start + size])
            given += len(out)
            yield out
    rest = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
    missing = max(0, math.ceil(taken * (new_rate / rate)) - given)
    yield np.pad(rest[:missing], (0, max(0, missing - len(rest))))


def average(channels: int) -> Float[np.ndarray, ' channels']:
    """Equal weights, whose product with samples is the mean of their channels."""
    return np.full(channels, 1 / channels, np.float32)
