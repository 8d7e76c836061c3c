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
    """A batch before anything is read.

    Attributes:
      place: where in the endless sequence each case is; names the case's random numbers.
      clip: which clip.
      start: where its crop begins, as a fraction of what the clip allows.
    """

    place: Int[np.ndarray, ' batch']
    clip: Int[np.ndarray, ' batch']
    start: Float[np.ndarray, ' batch']


class Batch(NamedTuple):
    """What a train step is given; `place` as in `Plan`, `mel` as it is stored."""

    mel: Num[np.ndarray, 'batch frames mels']
    target: Int[np.ndarray, ' batch']
    place: Int[np.ndarray, ' batch']


@functools.lru_cache(maxsize=4)
def _epoch(seed: int, epoch: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed, epoch])
    return rng.permutation(count), rng.random(count)


def plan(
    step: int, batch_size: int, clips: Int[np.ndarray, ' clips'], seed: int, part: slice
) -> Plan:
    """The batch of a step.

    Args:
      step: from 0.
      batch_size: cases of the whole batch.
      clips: the training clips.
      seed: of orders and crops.
      part: which cases of the batch are wanted, as `slice(0, batch_size)`.
    """
    place = (step * batch_size + np.arange(batch_size))[part]
    epochs, ranks = np.divmod(place, len(clips))
    clip, start = np.empty_like(place), np.empty(len(place))
    for epoch in np.unique(epochs):
        order, starts = _epoch(seed, int(epoch), len(clips))
        here = epochs == epoch
        clip[here] = clips[order[ranks[here]]]
        start[here] = starts[ranks[here]]
    return Plan(place.astype(np.int32), clip, start)


def read(dataset: Dataset, plan: Plan, frames: int) -> Batch:
    """Reads and crops the clips of a plan."""
    mel = np.stack(
        [
            crop(dataset.mel(clip), frames, start)
            for clip, start in zip(plan.clip, plan.start, strict=True)
        ]
    )
    return Batch(mel, dataset.targets[plan.clip], plan.place)


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
