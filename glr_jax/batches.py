"""Which crop of which clip is trained on at which step: a pure function of seed and step.

Training reads one endless sequence: the clips in a new random order each epoch, one epoch after
the other without a seam. Step `s` takes places `s * batch_size` and on. So no clip is dropped,
a run resumes anywhere with nothing but its step, and the sequence is the same on any number of
processes, each of which takes its own slice of every batch.
"""

import collections
import concurrent.futures
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float, Int, Num

from glr_jax.dataset import Dataset

Item = TypeVar('Item')


class Plan(NamedTuple):
    """A batch before anything is read: a crop of each clip, and what is mixed into it.

    Attributes:
      place: where in the endless sequence each case is; names the case's random numbers.
      clip: which clip.
      start: where its crop begins, as a fraction of what the clip allows.
      share: of the clip in the mixture, 1/2 to 1; 1 is the clip alone.
      other: the clip that the rest of the mixture is from.
      other_start: as `start`.
    """

    place: Int[np.ndarray, ' batch']
    clip: Int[np.ndarray, ' batch']
    start: Float[np.ndarray, ' batch']
    share: Float[np.ndarray, ' batch']
    other: Int[np.ndarray, ' batch']
    other_start: Float[np.ndarray, ' batch']


class Batch(NamedTuple):
    """What a train step is given; `place` as in `Plan`, `mel` as it is stored.

    `target` is how much of each label a case has: a mixture has two.
    """

    mel: Num[np.ndarray, 'batch frames mels']
    target: Float[np.ndarray, 'batch labels']
    place: Int[np.ndarray, ' batch']


class _Epoch(NamedTuple):
    order: np.ndarray
    start: np.ndarray
    share: np.ndarray
    other: np.ndarray
    other_start: np.ndarray


@functools.lru_cache(maxsize=4)
def _epoch(seed: int, epoch: int, count: int, mixup: float) -> _Epoch:
    rng = np.random.default_rng([seed, epoch])
    order, start = rng.permutation(count), rng.random(count)
    other, other_start = rng.permutation(count), rng.random(count)
    share = rng.beta(mixup, mixup, count) if mixup else np.ones(count)
    return _Epoch(order, start, np.maximum(share, 1 - share), other, other_start)


def plan(
    step: int,
    batch_size: int,
    clips: Int[np.ndarray, ' clips'],
    seed: int,
    part: slice,
    mixup: float = 0.0,
) -> Plan:
    """The batch of a step.

    Args:
      step: from 0.
      batch_size: cases of the whole batch.
      clips: the training clips.
      seed: of orders, crops and mixtures.
      part: which cases of the batch are wanted, as `slice(0, batch_size)`.
      mixup: the shares of mixtures are drawn from Beta(mixup, mixup) (Zhang et al., 2018); 0: none
        are mixed. The larger share is the case's own clip, so each clip leads once an epoch; the
        other one is any training clip, not a batch mate, so devices do not matter.
    """
    place = (step * batch_size + np.arange(batch_size))[part]
    epochs, ranks = np.divmod(place, len(clips))
    cases = [np.empty(len(place), column.dtype) for column in _epoch(seed, 0, len(clips), mixup)]
    for epoch in np.unique(epochs):
        here = epochs == epoch
        for column, drawn in zip(cases, _epoch(seed, int(epoch), len(clips), mixup), strict=True):
            column[here] = drawn[ranks[here]]
    order, start, share, other, other_start = cases
    return Plan(place.astype(np.int32), clips[order], start, share, clips[other], other_start)


def read(dataset: Dataset, plan: Plan, frames: int) -> Batch:
    """Reads, crops and mixes the clips of a plan."""
    one_hot = np.eye(len(dataset.labels), dtype=np.float32)
    target_of = lambda clip: one_hot[dataset.targets[clip]]
    mels, targets = [], []
    for clip, start, share, other, other_start in zip(*plan[1:], strict=True):
        mel, target = crop(dataset.mel(clip), frames, start), target_of(clip)
        if share < 1:
            mel = mix(mel, crop(dataset.mel(other), frames, other_start), share)
            target = share * target + (1 - share) * target_of(other)
        mels.append(mel)
        targets.append(target)
    return Batch(np.stack(mels), np.stack(targets).astype(np.float32), plan.place)


def mix(
    mel: Num[np.ndarray, 'frames mels'], other: Num[np.ndarray, 'frames mels'], share: float
) -> Num[np.ndarray, 'frames mels']:
    """A share of one spectrogram and the rest of another, rounded where they are whole numbers."""
    mixed = np.float32(share) * mel + np.float32(1 - share) * other
    return (np.rint(mixed) if mel.dtype == np.uint8 else mixed).astype(mel.dtype)


def crop(
    mel: Num[np.ndarray, 'length mels'], frames: int, start: float
) -> Num[np.ndarray, 'frames mels']:
    """`frames` frames from a fraction of the way on; a shorter clip is repeated to fill them."""
    mel = lengthen(mel, frames)
    first = int(start * (len(mel) - frames + 1))
    return mel[first : first + frames]


def segments(
    mel: Num[np.ndarray, 'length mels'], frames: int
) -> Num[np.ndarray, 'segments frames mels']:
    """The segments that a clip's decision is the mean of: as many as fit, evenly spread.

    30 s are 1292 frames, two segments of the paper's 640; ends are covered, so that segments
    overlap or leave gaps by a little.
    """
    mel = lengthen(mel, frames)
    count = max(1, round(len(mel) / frames))
    starts = np.linspace(0, len(mel) - frames, count).round().astype(int)
    return np.stack([mel[start : start + frames] for start in starts])


def lengthen(
    mel: Num[np.ndarray, 'length mels'], frames: int
) -> Num[np.ndarray, 'at_least_frames mels']:
    """The clip, over again until it has `frames` frames."""
    if len(mel) >= frames:
        return mel
    return np.pad(mel, ((0, frames - len(mel)), (0, 0)), mode='wrap')


def prefetch(
    make: Callable[[int], Item], steps: range, ahead: int = 4, threads: int = 2
) -> Iterator[Item]:
    """`make(step)` of each step in order, made in threads a few steps ahead of their use."""
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        waiting: collections.deque[concurrent.futures.Future[Item]] = collections.deque()
        todo = iter(steps)
        try:
            for step in itertools.islice(todo, ahead):
                waiting.append(pool.submit(make, step))
            while waiting:
                item = waiting.popleft().result()
                for step in itertools.islice(todo, 1):
                    waiting.append(pool.submit(make, step))
                yield item
        finally:
            for future in waiting:
                future.cancel()
