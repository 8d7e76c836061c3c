"""Whether probabilities mean what they say: reliability diagram and calibration error."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from glr_jax.metrics import wilson_interval
from glr_jax.page.charts import BOTTOM, LEFT, RIGHT, TOP, Axis, frame, svg
from glr_jax.page.markup import percent

BINS = 15  # as Guo et al. (2017)
_HEIGHT, _FLOOR = 318, 308  # of the drawing, and where the bars of counts stand


class Calibration(NamedTuple):
    """Clips in bins of equal width by the probability of their decision.

    Attributes:
      counts: clips per bin.
      confidence: mean probability of the decisions, NaN in an empty bin.
      accuracy: how many of them are right, NaN in an empty bin.
      error: expected calibration error: the mean of |accuracy - confidence| over the clips.
    """

    counts: Int[np.ndarray, ' bins']
    confidence: Float[np.ndarray, ' bins']
    accuracy: Float[np.ndarray, ' bins']
    error: float


def calibration(
    confidence: Float[np.ndarray, ' clips'], right: Bool[np.ndarray, ' clips']
) -> Calibration:
    """Compares the probability of decisions with how often they are right.

    Guo, Pleiss, Sun and Weinberger (2017), On calibration of modern neural networks, Eq. 3 and 5.

    Args:
      confidence: the probability of each decision.
      right: whether it is right.
    """
    # A probability on the border of two bins belongs to the lower one.
    number = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    counts = np.bincount(number, minlength=BINS)
    sums = [np.bincount(number, values, BINS) for values in (confidence, right)]
    with np.errstate(invalid='ignore'):
        means, shares = (total / counts for total in sums)
    gaps = np.abs(sums[1] - sums[0]).sum()
    return Calibration(counts, means, shares, float(gaps / len(confidence)))


def labels_section(
    probabilities: Float[np.ndarray, 'clips labels'], has: Bool[np.ndarray, 'clips labels']
) -> str:
    """The same where clips may have several labels: each pair of clip and label counts once."""
    found = calibration(probabilities.ravel(), has.ravel())
    diagram = _diagram(found, 'probability of a label', 'pairs')
    mean, share = float(probabilities.mean()), float(has.mean())
    tendency = 'about right on average'
    if abs(mean - share) > 0.1 * share:
        tendency = 'too high on average' if mean > share else 'too low on average'
    return f"""<p>Expected calibration error: <strong>{percent(found.error)}</strong>
({BINS} bins, <a href="https://arxiv.org/abs/1706.04599">Guo et al. 2017</a>) over all pairs of a
clip and a label. The mean probability is {percent(mean)}, and in {percent(share)} of the pairs the
clip has the label: the probabilities are {tendency}.</p>
<div class="charts"><figure>{diagram}<figcaption class="muted">How
often clips have a label by its probability, with 95 % intervals; on the diagonal, probabilities are
what they say. Below: pairs of clip and label per bin.</figcaption></figure></div>"""


def section(confidence: Float[np.ndarray, ' clips'], right: Bool[np.ndarray, ' clips']) -> str:
    """The diagram with its counts, and what it says in words."""
    found = calibration(confidence, right)
    diagram = _diagram(found, 'probability of the decision', 'clips')
    mean, accuracy = float(confidence.mean()), float(right.mean())
    tendency = 'about as sure as they are right'
    if abs(mean - accuracy) > 0.02:
        tendency = 'too sure' if mean > accuracy else 'not sure enough'
    return f"""<p>Expected calibration error: <strong>{percent(found.error)}</strong>
({BINS} bins, <a href="https://arxiv.org/abs/1706.04599">Guo et al. 2017</a>). The mean probability
of the decisions is {percent(mean)} and {percent(accuracy)} of them are right: they are
{tendency}.</p>
<div class="charts"><figure>{diagram}<figcaption class="muted">How often decisions are right
by their probability, with 95 % intervals; on the diagonal, probabilities are what they say. Below:
clips per bin.</figcaption></figure></div>"""


def _diagram(found: Calibration, x_title: str, unit: str) -> str:
    x, y = Axis(0, 1, LEFT, RIGHT), Axis(0, 1, BOTTOM, TOP)
    parts = [frame(x, y, x_title, shares=True)]
    parts.append(f'<path class="axis" stroke-dasharray="4 4" d="M{LEFT} {BOTTOM}L{RIGHT} {TOP}"/>')
    most = max(int(found.counts.max()), 1)
    for k in map(int, np.flatnonzero(found.counts)):
        count, share = int(found.counts[k]), float(found.accuracy[k])
        a, b = x.at(float(found.confidence[k])), y.at(share)
        low, high = map(y.at, wilson_interval(round(share * count), count))
        parts.append(f'<path class="mark" opacity=".6" d="M{a:.1f} {low:.1f}V{high:.1f}"/>')
        left, right = x.at(k / BINS) + 1, x.at((k + 1) / BINS) - 1
        height = 40 * count / most
        parts.append(
            f'<rect class="fill-one" opacity=".55" x="{left:.1f}" y="{_FLOOR - height:.1f}" '
            f'width="{right - left:.1f}" height="{height:.1f}"/>'
            f'<text class="faint" style="font-size:10px" x="{(left + right) / 2:.1f}" '
            f'y="{_FLOOR - height - 3:.1f}" text-anchor="middle">{_short(count)}</text>'
        )
        parts.append(f'<circle class="fill-one" r="5" cx="{a:.1f}" cy="{b:.1f}"/>')
    parts.append(f'<path class="axis" d="M{LEFT} {_FLOOR}H{RIGHT}"/>')
    parts.append(f'<text class="faint" x="{LEFT - 6}" y="{_FLOOR}" text-anchor="end">{unit}</text>')
    return svg(''.join(parts), 'reliability diagram', _HEIGHT)


def _short(count: int) -> str:
    if count >= 10_000:
        return f'{count / 1000:.0f}k'
    return f'{count / 1000:.1f}k' if count >= 1000 else str(count)
