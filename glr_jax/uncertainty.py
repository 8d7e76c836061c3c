"""How sure scores are: their spread over runs, intervals, and paired differences."""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Num

from glr_jax import tag_interval
from glr_jax.metrics import wilson_interval

ClipT = TypeVar('ClipT', bound=Hashable)
RESAMPLES = 10_000


class PairedClips(NamedTuple):
    """What tests of the same clips by two classifiers say.

    Attributes:
      clips: how many different clips were tested.
      mean: accuracy of the first minus that of the second.
      interval: 95 % bootstrap interval of `mean`.
      only_first: how often only the first is right.
      only_second: how often only the second is right.
    """

    clips: int
    mean: float
    interval: tuple[float, float]
    only_first: int
    only_second: int


class Tagged(NamedTuple):
    """A test of clips that may have several labels.

    Attributes:
      ids: of the clips, each once and in the same order in all tests of the same clips.
      has: which labels they have.
      probabilities: of each label.
    """

    ids: tuple[str, ...]
    has: Bool[np.ndarray, 'clips labels']
    probabilities: Float[np.ndarray, 'clips labels']


def spread(values: Iterable[float], sign: str = '') -> str:
    """Mean ± sample standard deviation, in per cent; a single value stands alone.

    Args:
      values: fractions, at least one.
      sign: '+' shows the sign of a positive mean as well.
    """
    x = 100 * np.asarray(list(values))
    return f'{x.mean():{sign}.1f} ± {x.std(ddof=1):.1f}' if len(x) > 1 else f'{x[0]:{sign}.1f}'


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of at least two values, by Student's t."""
    from scipy import stats

    x = np.asarray(values)
    half = stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return float(x.mean() - half), float(x.mean() + half)


def over_clips(
    pairs: Sequence[tuple[Mapping[ClipT, float], Mapping[ClipT, float]]],
) -> PairedClips:
    """The difference between two classifiers over pairs of tests.

    Clips are the units of the bootstrap: a clip that is tested in several pairs is drawn with all
    of them, so repeated tests of one clip do not count as independent.

    Args:
      pairs: tests by the first and by the second, {clip: 1 if it is classified correctly, else 0};
        both of a pair have the same clips.
    """
    sums: dict[ClipT, list[float]] = {}  # of each clip: pairs, gain, only first, only second
    for first, second in pairs:
        for clip, right in first.items():
            gain = right - second[clip]
            of_clip = sums.setdefault(clip, [0, 0, 0, 0])
            for k, value in enumerate((1, gain, gain > 0, gain < 0)):
                of_clip[k] += value
    counts = np.asarray(list(sums.values()))
    return PairedClips(
        len(counts),
        float(counts[:, 1].sum() / counts[:, 0].sum()),
        bootstrap(counts[:, 1], counts[:, 0]),
        int(counts[:, 2].sum()),
        int(counts[:, 3].sum()),
    )


def bootstrap(
    gains: Num[np.ndarray, ' clips'], counts: Num[np.ndarray, ' clips']
) -> tuple[float, float]:
    """95 % interval of sum(gains) / sum(counts) when clips are drawn with replacement."""
    rng, means = np.random.default_rng(0), []
    for size in np.diff(np.linspace(0, RESAMPLES, 101).astype(int)):  # in parts, to save memory
        drawn = rng.multinomial(len(gains), np.full(len(gains), 1 / len(gains)), size)
        means.append((drawn @ gains) / (drawn @ counts))
    found: Float[np.ndarray, ' 2'] = np.percentile(np.concatenate(means), (2.5, 97.5))
    return float(found[0]), float(found[1])


def area_interval(
    pairs: Sequence[tuple[Sequence[Tagged], Sequence[Tagged]]],
) -> tuple[float, float] | None:
    """95 % bootstrap interval of the mean difference in macro ROC-AUC over pairs of tests.

    Clips are drawn as in `over_clips`. A label without a ROC curve in a resample is left out of
    that resample's means, and so is a pair in which no label has one.

    Args:
      pairs: tests by the first and by the second classifier, each of one or more runs of which the
        mean is taken; all of a pair have the same clips and labels.

    Returns:
      The ends of the interval; None if no label has a curve.
    """
    ids = list(dict.fromkeys(id for first, _ in pairs for id in first[0].ids))
    places = {id: place for place, id in enumerate(ids)}
    clips_of = [np.asarray([places[id] for id in first[0].ids]) for first, _ in pairs]
    curves_of = [
        [[tag_interval.curves(test.has, test.probabilities) for test in tests] for tests in pair]
        for pair in pairs
    ]
    count = tag_interval.resamples(
        sum(t.has.size for pair in pairs for tests in pair for t in tests)
    )
    rng, means = np.random.default_rng(0), []
    for start in range(0, count, tag_interval.TOGETHER):
        size = min(tag_interval.TOGETHER, count - start)
        drawn = rng.multinomial(len(ids), np.full(len(ids), 1 / len(ids)), size)
        gains = []
        for clips, pair in zip(clips_of, curves_of, strict=True):
            times = np.ascontiguousarray(drawn[:, clips].T, np.float32)
            first, second = (
                np.mean([tag_interval.macro_areas(curves, times) for curves in tests], 0)
                for tests in pair
            )
            gains.append(first - second)
        table = np.stack(gains)
        means.append(table[:, ~np.isnan(table).all(0)])
    found = [np.nanmean(table, 0) for table in means if table.size]
    if not found:
        return None
    low, high = np.percentile(np.concatenate(found), (2.5, 97.5))
    return float(low), float(high)


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided p of McNemar's exact test: is either classifier right more often than the other?

    Args:
      only_first: clips that only the first classifies correctly.
      only_second: clips that only the second classifies correctly.
    """
    count = only_first + only_second
    tail = sum(math.comb(count, k) for k in range(min(only_first, only_second) + 1))
    return min(1.0, 2 * tail / 2**count)


def paired_interval(
    both: int, only_first: int, only_second: int, neither: int
) -> tuple[float, float]:
    """95 % interval of the difference between two accuracies on the same clips.

    Newcombe (1998), Statistics in Medicine 17, pages 2635 to 2650, method 10.

    Args:
      both: clips that both classify correctly.
      only_first: clips that only the first classifies correctly.
      only_second: clips that only the second classifies correctly.
      neither: the other clips.
    """
    clips = both + only_first + only_second + neither
    right = both + only_first, both + only_second
    p, q = right[0] / clips, right[1] / clips
    (p_low, p_high), (q_low, q_high) = (wilson_interval(count, clips) for count in right)
    product = math.prod(right) * (clips - right[0]) * (clips - right[1])
    excess = float(both * neither - only_first * only_second)
    if excess > 0:
        excess = max(excess - clips / 2, 0.0)
    correlation = excess / math.sqrt(product) if product else 0.0
    below = _distance(p - p_low, q_high - q, correlation)
    above = _distance(p_high - p, q - q_low, correlation)
    return p - q - below, p - q + above


def _distance(one: float, other: float, correlation: float) -> float:
    return math.sqrt(max(one**2 - 2 * correlation * one * other + other**2, 0))
