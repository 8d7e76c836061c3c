"""Segments: the pieces of a clip that the model sees, each `frames` frames long.

Training takes one random crop per clip; evaluation takes evenly spaced segments that cover it.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from jaxtyping import Int, Num


def crop(
    mel: Num[np.ndarray, 'length mels'], frames: int, start: float
) -> Num[np.ndarray, 'frames mels']:
    """One segment of a clip; a clip that is too short is repeated.

    Args:
      mel: a spectrogram of any length.
      frames: frames per segment.
      start: where the segment begins, from 0 (first possible frame) to just under 1 (last).
    """
    mel = lengthen(mel, frames)
    first = int(first_frame(start, len(mel), frames))
    return mel[first : first + frames]


def first_frame(start: Any, length: Any, frames: int) -> Any:
    """The first frame of a crop, or of several; clips must have at least `frames` frames.

    Computed on the host in float64: float32 could not reach every frame of a long clip.
    """
    return np.asarray(start * (length - frames + 1)).astype(np.int64)


def segments(
    mel: Num[np.ndarray, 'length mels'], frames: int, test_crops: int = 1
) -> Num[np.ndarray, 'segments frames mels']:
    """Evenly spaced segments that cover a clip; the clip's decision is the mean over them.

    A clip of 30 s has 1292 frames, which is two of the paper's segments of 640. The first segment
    begins and the last one ends with the clip, so segments may overlap or leave small gaps.

    Args:
      mel: a spectrogram of any length; a clip that is too short is repeated.
      frames: per segment.
      test_crops: how many times as many segments to cut.
    """
    mel = lengthen(mel, frames)
    starts = segment_starts(len(mel), frames, test_crops)
    return np.stack([mel[start : start + frames] for start in starts])


def segment_starts(length: int, frames: int, test_crops: int = 1) -> Int[np.ndarray, ' segments']:
    """The first frame of each segment of a clip, no frame twice.

    A clip no longer than a segment has one segment, whatever `test_crops` is.
    """
    length = max(length, frames)
    last = length - frames
    count = min(test_crops * max(1, round(length / frames)), last + 1)
    return np.linspace(0, last, count).round().astype(int)


def lengthen(
    mel: Num[np.ndarray, 'length mels'], frames: int
) -> Num[np.ndarray, 'at_least_frames mels']:
    """The clip, repeated until it has `frames` frames if it has fewer."""
    if len(mel) >= frames:
        return mel
    return np.pad(mel, ((0, frames - len(mel)), (0, 0)), mode='wrap')


def chunks(items: Iterable, size: int) -> Iterator[list]:
    """The items in lists of `size`; the last list may be shorter."""
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, size)):
        yield chunk
