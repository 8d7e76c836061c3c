"""How sure the macro ROC-AUC of several labels per clip is: a bootstrap over the clips."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from glr_jax.tag_metrics import Has, Probabilities

_RESAMPLES = (200, 1000)  # of the bootstrap, at least and at most
_WORK = 4e8  # clips × labels × resamples: one or two seconds
TOGETHER = 100  # resamples in memory at a time


def macro_roc_auc_interval(has: Has, probabilities: Probabilities) -> tuple[float, float] | None:
    """95 % bootstrap interval of the macro ROC-AUC when clips are drawn with replacement.

    A label without a curve in a resample is left out of that resample's mean. The draws are the
    same each time.

    Args:
      has: which labels each clip has.
      probabilities: of each label.

    Returns:
      The ends of the interval; None if no label has a curve.
    """
    clips = len(has)
    pairs, count = curves(has, probabilities), resamples(max(has.size, 1))
    rng, means = np.random.default_rng(0), []
    for start in range(0, count if pairs else 0, TOGETHER):
        size = min(TOGETHER, count - start)
        drawn = rng.multinomial(clips, np.full(clips, 1 / clips), size)
        areas = macro_areas(pairs, np.ascontiguousarray(drawn.T, np.float32))
        means.append(areas[~np.isnan(areas)])
    if not sum(map(len, means)):
        return None
    low, high = np.percentile(np.concatenate(means), (2.5, 97.5))
    return float(low), float(high)


def resamples(size: int) -> int:
    """How many resamples are drawn of this many pairs of clip and label."""
    return int(np.clip(_WORK / size, *_RESAMPLES))


def curves(has: Has, probabilities: Probabilities) -> list['_Pairs']:
    """The clips of each label that has a ROC curve, for `macro_areas`."""
    pairs = [_Pairs.of(has[:, k], probabilities[:, k]) for k in range(has.shape[1])]
    return [each for each in pairs if len(each.present) and len(each.absent)]


def macro_areas(
    pairs: Sequence['_Pairs'], times: Float[np.ndarray, 'clips resamples']
) -> Float[np.ndarray, ' resamples']:
    """The macro ROC-AUC in each resample, NaN where no label has a curve.

    Args:
      pairs: from `curves`.
      times: how often each clip is drawn.
    """
    total, defined = np.zeros(times.shape[1]), np.zeros(times.shape[1])
    for each in pairs:
        areas = each.areas(times)
        total += np.nan_to_num(areas)
        defined += ~np.isnan(areas)
    return np.where(defined > 0, total, np.nan) / np.maximum(defined, 1)


class _Pairs(NamedTuple):
    """The clips of a label as the ROC curve compares them.

    Attributes:
      present: the clips with the label.
      absent: the others, from the lowest to the highest probability.
      below: for each clip of `present`, how many of `absent` have a lower probability.
      up_to: the same, with those of equal probability.
    """

    present: Int[np.ndarray, ' present']
    absent: Int[np.ndarray, ' absent']
    below: Int[np.ndarray, ' present']
    up_to: Int[np.ndarray, ' present']

    @staticmethod
    def of(has: Bool[np.ndarray, ' clips'], values: Float[np.ndarray, ' clips']) -> '_Pairs':
        absent = np.flatnonzero(~has)
        absent = absent[np.argsort(values[absent], kind='stable')]
        sides = (np.searchsorted(values[absent], values[has], side) for side in ('left', 'right'))
        return _Pairs(np.flatnonzero(has), absent, *sides)

    def areas(self, times: Float[np.ndarray, 'clips resamples']) -> Float[np.ndarray, ' resamples']:
        """The area in each resample, NaN where it is not defined.

        Args:
          times: how often each clip is drawn.
        """
        # Only the sums between the clips with the label are needed, not one after each clip.
        edges = np.unique(np.concatenate([[0], self.below, self.up_to]))
        parts = np.add.reduceat(
            np.take(times, self.absent, 0), edges[edges < len(self.absent)], axis=0
        )
        sums = np.cumsum(np.insert(parts, 0, 0, axis=0), 0, dtype=np.float64)
        bounds = np.unique(np.append(edges, len(self.absent)))
        lower = sums[np.searchsorted(bounds, self.below)]
        upper = sums[np.searchsorted(bounds, self.up_to)]
        weights = times[self.present].astype(np.float64)
        with np.errstate(invalid='ignore'):
            return (weights * (lower + upper) / 2).sum(0) / (weights.sum(0) * sums[-1])
