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
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jaxtyping import Float, Int, Num, UInt16

from glr_jax.data.dataset import Dataset

Item = TypeVar('Item')
Task = TypeVar('Task')
Tree = TypeVar('Tree')
Mel = TypeVar('Mel', np.ndarray, jax.Array)


class BatchPlan(NamedTuple):
    """A batch before anything is read: a crop of each clip, and what is mixed into it.

    Attributes:
      place: where in the endless sequence each case is; names the case's random numbers.
      clip: which clip.
      start: where its crop begins, as a fraction of what the clip allows.
      weight: of the clip in the mixture, in 256ths: 128 to 256, which is the clip alone.
      other: the clip that the rest of the mixture is from.
      other_start: as `start`.
    """

    place: Int[np.ndarray, ' batch']
    clip: Int[np.ndarray, ' batch']
    start: Float[np.ndarray, ' batch']
    weight: UInt16[np.ndarray, ' batch']
    other: Int[np.ndarray, ' batch']
    other_start: Float[np.ndarray, ' batch']


class Batch(NamedTuple):
    """What a train step is given; `place` as in `BatchPlan`, `mel` as it is stored.

    `target` is how much of each label a case has: a mixture has two.
    """

    mel: Num[np.ndarray | jax.Array, 'batch frames mels']
    target: Float[np.ndarray | jax.Array, 'batch labels']
    place: Int[np.ndarray | jax.Array, ' batch']


class _Epoch(NamedTuple):
    order: np.ndarray
    start: np.ndarray
    weight: np.ndarray
    other: np.ndarray
    other_start: np.ndarray


@functools.lru_cache(maxsize=4)
def _epoch(seed: int, epoch: int, count: int, mixup: float) -> _Epoch:
    rng = np.random.default_rng([seed, epoch])
    order, start = rng.permutation(count), rng.random(count)
    other, other_start = rng.permutation(count), rng.random(count)
    weight = rng.beta(mixup, mixup, count) if mixup else np.ones(count)
    weight = np.rint(256 * np.maximum(weight, 1 - weight)).astype(np.uint16)
    return _Epoch(order, start, weight, other, other_start)


def plan_batch(
    step: int,
    batch_size: int,
    clips: Int[np.ndarray, ' clips'],
    seed: int,
    part: slice,
    mixup: float = 0.0,
) -> BatchPlan:
    """The batch of a step.

    Args:
      step: from 0.
      batch_size: cases of the whole batch.
      clips: the training clips.
      seed: of orders, crops and mixtures.
      part: which cases of the batch are wanted, as `slice(0, batch_size)`.
      mixup: the shares of mixtures are drawn from Beta(mixup, mixup) (Zhang et al., 2018); 0: none
        are mixed. The larger weight is the case's own clip, so each clip leads once an epoch; the
        other one is any training clip, not a batch mate, so devices do not matter.
    """
    place = (step * batch_size + np.arange(batch_size))[part]
    epochs, ranks = np.divmod(place, len(clips))
    cases = [np.empty(len(place), column.dtype) for column in _epoch(seed, 0, len(clips), mixup)]
    for epoch in np.unique(epochs):
        here = epochs == epoch
        for column, drawn in zip(cases, _epoch(seed, int(epoch), len(clips), mixup), strict=True):
            column[here] = drawn[ranks[here]]
    order, start, weight, other, other_start = cases
    return BatchPlan(place.astype(np.int32), clips[order], start, weight, clips[other], other_start)


def read(dataset: Dataset, plan: BatchPlan, frames: int) -> Batch:
    """Reads, crops and mixes the clips of a plan."""

    def case(clip: int, start: float, weight: np.uint16, other: int, other_start: float) -> Any:
        mel = crop(dataset.mel(clip), frames, start)
        if weight == 256:
            return mel
        return mix(mel, crop(dataset.mel(other), frames, other_start), weight)

    mels = [case(*drawn) for drawn in zip(*plan[1:], strict=True)]
    return Batch(np.stack(mels), targets(dataset, plan), plan.place)


def targets(dataset: Dataset, plan: BatchPlan) -> Float[np.ndarray, 'batch labels']:
    """How much of each label the cases of a plan have."""
    one_hot = np.eye(len(dataset.labels), dtype=np.float32)
    weight = plan.weight[:, None].astype(np.float32) / 256
    own, others = (one_hot[dataset.targets[clips]] for clips in (plan.clip, plan.other))
    return weight * own + (1 - weight) * others


def mix(mel: Mel, other: Mel, weight: Any) -> Mel:
    """256ths of one spectrogram and the rest of another, rounded where they are whole numbers.

    Those are mixed in whole numbers, so that NumPy and any device agree to the bit.

    Args:
      mel: as it is stored, of NumPy or of JAX.
      other: of the same shape.
      weight: uint16, of a shape that broadcasts with theirs.
    """
    if mel.dtype == np.uint8:
        sum_of_256 = weight * mel.astype(np.uint16) + (256 - weight) * other.astype(np.uint16)
        return ((sum_of_256 + 128) >> 8).astype(np.uint8)
    weight = weight.astype(np.float32) / 256
    return (weight * mel + (1 - weight) * other).astype(mel.dtype)


def crop(
    mel: Num[np.ndarray, 'length mels'], frames: int, start: float
) -> Num[np.ndarray, 'frames mels']:
    """`frames` frames from a fraction of the way on; a shorter clip is repeated to fill them."""
    mel = lengthen(mel, frames)
    first = first_frame(start, len(mel), frames)
    return mel[first : first + frames]


def first_frame(start: Any, length: Any, frames: int) -> Any:
    """Where crops begin, a fraction of the way on; of one clip or of many, not shorter than a crop.

    Counted on the host, in float64: float32 would not reach every frame of a long clip.
    """
    return np.asarray(start * (length - frames + 1)).astype(np.int64)


def segments(
    mel: Num[np.ndarray, 'length mels'], frames: int
) -> Num[np.ndarray, 'segments frames mels']:
    """The segments that a clip's decision is the mean of: as many as fit, evenly spread.

    30 s are 1292 frames, two segments of the paper's 640; ends are covered, so that segments
    overlap or leave gaps by a little.
    """
    mel = lengthen(mel, frames)
    return np.stack([mel[start : start + frames] for start in segment_starts(len(mel), frames)])


def segment_starts(length: int, frames: int) -> Int[np.ndarray, ' segments']:
    """The first frame of each segment of a clip; a clip shorter than a segment has one."""
    length = max(length, frames)
    count = max(1, round(length / frames))
    return np.linspace(0, length - frames, count).round().astype(int)


def lengthen(
    mel: Num[np.ndarray, 'length mels'], frames: int
) -> Num[np.ndarray, 'at_least_frames mels']:
    """The clip, over again until it has `frames` frames."""
    if len(mel) >= frames:
        return mel
    return np.pad(mel, ((0, frames - len(mel)), (0, 0)), mode='wrap')


def ends_epoch(step: int, batch_size: int, clips: int) -> bool:
    """Whether the `step`-th step, from 1, has the last case of an epoch."""
    return step * batch_size % clips < batch_size


def dispatches(done: int, steps: int, batch_size: int, clips: int, at_most: int) -> Iterator[range]:
    """Steps that one dispatch does: `at_most` of them, or a single one where fewer are left.

    Two lengths alone, so that two programs are compiled, whatever is left of an epoch. No run goes
    past the end of an epoch, or is made longer than an epoch.
    """
    at_most = max(1, min(at_most, clips // batch_size))
    while done < steps:
        within = range(done + 1, done + at_most)
        whole = done + at_most <= steps
        whole &= not any(ends_epoch(step, batch_size, clips) for step in within)
        yield range(done, done := done + (at_most if whole else 1))


def stack(items: Sequence[Tree]) -> Tree:
    """The steps of a run as one: [batch, ...] of each to [batch, steps, ...]."""
    return jax.tree.map(lambda *arrays: np.stack(arrays, 1), *items)


def prefetch(make: Callable[[Task], Item], tasks: Iterable[Task], ahead: int = 4) -> Iterator[Item]:
    """`make(task)` of each task in order, made in a thread a few tasks ahead of their use.

    In one thread: two take Python's lock from each other at every read, and are half as fast.
    """
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting: collections.deque[concurrent.futures.Future[Item]] = collections.deque()
        todo = iter(tasks)
        try:
            for task in itertools.islice(todo, ahead):
                waiting.append(pool.submit(make, task))
            while waiting:
                item = waiting.popleft().result()
                for task in itertools.islice(todo, 1):
                    waiting.append(pool.submit(make, task))
                yield item
        finally:
            for future in waiting:
                future.cancel()
