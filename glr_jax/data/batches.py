"""Which crops of which clips a training step uses: a pure function of the seed and the step.

Training follows one endless sequence: the clips in a new random order each epoch, one epoch after
the other. Step `s` takes `batch_size` places from place `s * batch_size` on, so a batch may span
two epochs. Thus no clip is dropped, a run can resume at any step, and the sequence is the same on
any number of processes; each process takes its own slice of every batch.

With the balanced sampler, an epoch has as many cases as there are training clips, but each label is
due equally often. So a clip with a rare label may be due several times, and one with a frequent
label not at all.
"""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jaxtyping import Bool, Float, Int, Num, UInt8, UInt16

from glr_jax.data.dataset import Dataset

Mel = TypeVar('Mel', np.ndarray, jax.Array)


class BatchPlan(NamedTuple):
    """The draw of a batch, before anything is read: one crop per case, and one to mix into it.

    Attributes:
      place: the place of each case in the endless sequence; it seeds the case's dropout
        and augmentation.
      clip: the clip that is due at that place.
      start: where its crop begins, from 0 to 1, as in `segments.crop`.
      weight: the clip's mixup weight in 256ths: 128 to 256; 256 = not mixed.
      other: the clip that is mixed into it.
      other_start: where the crop of `other` begins.
    """

    place: Int[np.ndarray, ' batch']
    clip: Int[np.ndarray, ' batch']
    start: Float[np.ndarray, ' batch']
    weight: UInt16[np.ndarray, ' batch']
    other: Int[np.ndarray, ' batch']
    other_start: Float[np.ndarray, ' batch']


class Batch(NamedTuple):
    """The input of a train step.

    Attributes:
      mel: segments, in the type that they are stored in.
      target: the weight of each label; a mixed case has two labels.
      place: as in `BatchPlan`.
    """

    mel: Num[np.ndarray | jax.Array, 'batch frames mels']
    target: Float[np.ndarray | jax.Array, 'batch labels']
    place: Int[np.ndarray | jax.Array, ' batch']


class Balance(NamedTuple):
    """What the balanced sampler draws from: every pair of a label and one of its training clips.

    Attributes:
      clip: of each pair; the pairs of one label follow each other.
      until: the chance of this pair and all those before it; that of a label is shared out evenly
        to its clips.
    """

    clip: Int[np.ndarray, ' pairs']
    until: Float[np.ndarray, ' pairs']


class _Epoch(NamedTuple):
    order: Int[np.ndarray, ' clips']
    start: Float[np.ndarray, ' clips']
    weight: UInt16[np.ndarray, ' clips']
    other: Int[np.ndarray, ' clips']
    other_start: Float[np.ndarray, ' clips']
    jitter: Float[np.ndarray, ' clips']
    other_jitter: Float[np.ndarray, ' clips']


@functools.lru_cache(maxsize=4)
def _epoch(seed: int, epoch: int, count: int, mixup: float) -> _Epoch:
    rng = np.random.default_rng([seed, epoch])
    order, start = rng.permutation(count), rng.random(count)
    other, other_start = rng.permutation(count), rng.random(count)
    weight = rng.beta(mixup, mixup, count) if mixup else np.ones(count)
    weight = np.rint(256 * np.maximum(weight, 1 - weight)).astype(np.uint16)
    # Drawn last, so that they change nothing before them.
    jitter, other_jitter = rng.random(count), rng.random(count)
    return _Epoch(order, start, weight, other, other_start, jitter, other_jitter)


def plan_batch(
    step: int,
    batch_size: int,
    clips: Int[np.ndarray, ' clips'],
    seed: int,
    part: slice,
    mixup: float = 0.0,
    balance: Balance | None = None,
) -> BatchPlan:
    """Draws the batch of a step.

    Args:
      step: from 0.
      batch_size: cases in the whole batch.
      clips: the training clips.
      seed: of the clip order, the crops and the mixup weights.
      part: the cases of the batch to return; `slice(0, batch_size)` returns all.
      mixup: weights are drawn from Beta(mixup, mixup) (Zhang et al., 2018); 0 = no mixup. The
        clip that is due has the larger weight, so each clip leads once per epoch. The other clip
        may be any training clip, not only one of the batch, so devices make no difference.
      balance: draw from these pairs, with one draw from each of as many equal ranges of chance as
        there are clips, in a random order; the clips that are mixed in are drawn alike. None: all
        clips in a random order.
    """
    place = (step * batch_size + np.arange(batch_size))[part]
    epochs, ranks = np.divmod(place, len(clips))
    cases = [np.empty(len(place), column.dtype) for column in _epoch(seed, 0, len(clips), mixup)]
    for epoch in np.unique(epochs):
        here = epochs == epoch
        for column, drawn in zip(cases, _epoch(seed, int(epoch), len(clips), mixup), strict=True):
            column[here] = drawn[ranks[here]]
    order, start, weight, other, other_start, jitter, other_jitter = cases
    if balance is None:
        clip, mixed = clips[order], clips[other]
    else:
        clip = _draw(balance, (order + jitter) / len(clips))
        mixed = _draw(balance, (other + other_jitter) / len(clips))
    return BatchPlan(place.astype(np.int32), clip, start, weight, mixed, other_start)


def make_balance(
    clips: Int[np.ndarray, ' clips'], has_label: Bool[np.ndarray, 'clips labels']
) -> Balance:
    """What the balanced sampler draws from: a label, then one of the clips that have it.

    Clips without any label count as one more label. Labels without clips are never due.

    Args:
      clips: the training clips.
      has_label: which labels each of them has.
    """
    columns = np.column_stack([has_label, ~has_label.any(1)]).T
    columns = columns[columns.any(1)]
    label, row = np.nonzero(columns)
    chances = 1 / (len(columns) * columns.sum(1))
    return Balance(clips[row], np.cumsum(chances[label]))


def _draw(balance: Balance, values: Float[np.ndarray, ' batch']) -> Int[np.ndarray, ' batch']:
    """The clips at some values from 0 to 1 of the summed chances."""
    found = np.searchsorted(balance.until, values, side='right')
    return balance.clip[np.minimum(found, len(balance.clip) - 1)]  # the sum may round below 1


def read(dataset: Dataset, plan: BatchPlan, frames: int) -> Batch:
    """Reads the crops of a plan into a batch and mixes them there."""
    mels = np.empty((len(plan.clip), frames, dataset.n_mels), dataset.mel_dtype)
    # The same memory for every case, so that it stays in the cache.
    mixed_in = np.empty(mels.shape[1:], mels.dtype)
    scratch = np.empty((2, *mels.shape[1:]), np.uint16)
    for mel, clip, start, weight, other, other_start in zip(mels, *plan[1:], strict=True):
        dataset.read_crop(clip, start, mel)
        if weight < 256:
            dataset.read_crop(other, other_start, mixed_in)
            mix_in_place(mel, mixed_in, weight, scratch)
    return Batch(mels, targets(dataset, plan), plan.place)


def targets(dataset: Dataset, plan: BatchPlan) -> Float[np.ndarray, 'batch labels']:
    """The weight of each label in each case of a plan."""
    own, others = (dataset.targets[clips] for clips in (plan.clip, plan.other))
    if not dataset.multi_label:
        own, others = (each[:, None] == np.arange(len(dataset.labels)) for each in (own, others))
    weight = plan.weight[:, None].astype(np.float32) / 256
    return weight * own.astype(np.float32) + (1 - weight) * others.astype(np.float32)


def balanced_weights(
    targets: Int[np.ndarray, ' clips'] | UInt8[np.ndarray, 'clips labels'], num_labels: int
) -> Float[np.ndarray, ' labels'] | Float[np.ndarray, '2 labels']:
    """A weight per label, inverse to its number of clips; the mean over these clips is 1.

    A label without clips has weight 0. Where a clip may have several labels, each label has two
    weights, of its absence and of its presence, so that both count equally in the loss: n / 2m for
    what m of n clips have. If all clips have a label, or none does, that counts one half.

    Args:
      targets: of the training clips, as in `Dataset`.
      num_labels: how many there are.
    """
    if targets.ndim == 2:
        present = targets.mean(0)
        shares = np.stack([1 - present, present])
        return np.where(shares > 0, 0.5 / np.maximum(shares, 1e-9), 0).astype(np.float32)
    counts = np.bincount(targets, minlength=num_labels)
    weights = len(targets) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return np.where(counts, weights, 0).astype(np.float32)


def mix(mel: Mel, other: Mel, weight: Any) -> Mel:
    """The weighted sum of two spectrograms.

    uint8 is mixed in whole numbers and rounded, so that NumPy and every device agree to the bit.

    Args:
      mel: a stored spectrogram, or several, as a NumPy or a JAX array.
      other: one of the same shape.
      weight: the weight of `mel` in 256ths, uint16, of a shape that broadcasts with `mel`.
    """
    if mel.dtype == np.uint8:
        sum_of_256 = weight * mel.astype(np.uint16) + (256 - weight) * other.astype(np.uint16)
        return ((sum_of_256 + 128) >> 8).astype(np.uint8)
    weight = weight.astype(np.float32) / 256
    return (weight * mel + (1 - weight) * other).astype(mel.dtype)


def mix_in_place(
    mel: Num[np.ndarray, 'frames mels'],
    other: Num[np.ndarray, 'frames mels'],
    weight: np.uint16,
    scratch: UInt16[np.ndarray, '2 frames mels'],
) -> None:
    """Overwrites a stored spectrogram with `mix`, to the bit; allocates nothing.

    Args:
      mel: becomes the weighted sum.
      other: may be overwritten.
      weight: as in `mix`.
      scratch: memory for the sums.
    """
    if mel.dtype == np.uint8:
        sum_of_256, others = scratch
        sum_of_256[...], others[...] = mel, other
        sum_of_256 *= weight
        others *= 256 - weight
        sum_of_256 += others
        sum_of_256 += 128
        sum_of_256 >>= 8
        mel[...] = sum_of_256
    else:
        share = weight.astype(np.float32) / 256
        mel *= share
        other *= 1 - share
        mel += other


def ends_epoch(step: int, batch_size: int, clips: int) -> bool:
    """Whether a step, counted from 1, completes an epoch."""
    return step * batch_size % clips < batch_size


def dispatches(done: int, steps: int, batch_size: int, clips: int, at_most: int) -> Iterator[range]:
    """The remaining steps in groups, each sent to the devices as one dispatch.

    A group has `at_most` steps, or one step where fewer are left in the epoch or in the run: with
    only two lengths, only two programs are compiled. No group extends past the end of an epoch, so
    `at_most` is reduced to the steps of an epoch if it exceeds them.

    Args:
      done: steps that are done already.
      steps: steps in the whole run.
      batch_size: cases per step.
      clips: number of training clips.
      at_most: the longest group.

    Yields:
      Steps, counted from 0.
    """
    at_most = max(1, min(at_most, clips // batch_size))
    while done < steps:
        within = range(done + 1, done + at_most)
        whole = done + at_most <= steps
        whole &= not any(ends_epoch(step, batch_size, clips) for step in within)
        yield range(done, done := done + (at_most if whole else 1))
