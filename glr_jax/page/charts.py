"""Axes and curves as SVG; colours and fonts come from the page's style."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.ticker import MaxNLocator

from glr_jax.figures import apart
from glr_jax.page.markup import percent

WIDTH, HEIGHT = 428, 250
LEFT, RIGHT, TOP, BOTTOM = 50, 408, 12, 208
STEEP = 20.0  # a loss that falls by more than this factor gets a logarithmic axis
_NAMES = 110  # of the width, for the names of lines at their ends
_SCORES = {
    'macro_roc_auc': 'ROC-AUC',
    'macro_average_precision': 'average precision',
    'macro_f1': 'F1',
}
_LARGEST = 1e30  # of the values drawn


class Axis(NamedTuple):
    """How values become positions.

    Attributes:
      low: the value at `start`.
      high: the value at `stop`.
      start: a position in the SVG.
      stop: another.
      log: whether the axis is logarithmic.
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def at(self, value: float) -> float:
        """The position of a value."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (value - low) / (high - low) * (self.stop - self.start)

    def ticks(self, count: int = 5, integer: bool = False) -> list[float]:
        """Round values between the ends."""
        if self.log:
            powers = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            steps = [f * 10.0**p for p in (powers.start - 1, *powers) for f in (1, 2, 5)]
            return [tick for tick in steps if self.low <= tick <= self.high]
        return round_ticks(self.low, self.high, count, integer)


def round_ticks(low: float, high: float, count: int = 5, integer: bool = False) -> list[float]:
    """At most about `count` round values from `low` to `high`."""
    found = MaxNLocator(count, integer=integer, steps=[1, 2, 5, 10]).tick_values(low, high)
    slack = 1e-9 * (high - low)
    return [float(tick) for tick in found if low - slack <= tick <= high + slack]


def frame(
    x: Axis,
    y: Axis,
    x_title: str,
    *,
    integer: bool = False,
    shares: bool = False,
    right: float = RIGHT,
) -> str:
    """Grid lines, ticks and their labels.

    Args:
      x: the horizontal axis.
      y: the vertical axis.
      x_title: what the horizontal axis shows.
      integer: whether only whole numbers are labelled on it.
      shares: whether the values are fractions, to be shown in per cent.
      right: where the grid ends.
    """
    parts = []
    for tick in y.ticks():
        at = y.at(tick)
        label = percent(tick, 0) if shares else f'{tick:g}'
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(
            f'<text class="faint" x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{label}</text>'
        )
    for tick in x.ticks(6, integer):
        label = percent(tick, 0) if shares and x.high <= 1 else f'{tick:g}'
        parts.append(
            f'<text class="faint" x="{x.at(tick):.1f}" y="{y.start + 17:.1f}" '
            f'text-anchor="middle">{label}</text>'
        )
    parts.append(f'<path class="axis" d="M{LEFT} {y.start}H{right}"/>')
    parts.append(
        f'<text class="faint" x="{(LEFT + right) / 2}" y="{y.start + 35:.1f}" '
        f'text-anchor="middle">{x_title}</text>'
    )
    return ''.join(parts)


def svg(content: str, label: str, height: int = HEIGHT) -> str:
    """An `<svg>` of the usual width."""
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{content}</svg>'


def curves(epochs: Sequence[dict[str, Any]], step: Any) -> str:
    """Accuracy and loss of each epoch, training and validation, with the best epoch marked.

    Where clips may have several labels, the validation scores replace the accuracy.

    Args:
      epochs: rows of `metrics.jsonl`.
      step: of the best checkpoint.
    """
    best = next((k for k, row in enumerate(epochs) if row['step'] == step), None)
    mark = '' if best is None else f'<span>│ best checkpoint: epoch {epochs[best]["epoch"]}</span>'
    lines = (
        '<span><i class="key one"></i>train</span><span><i class="key two"></i>validation</span>'
    )
    if all('validation_macro_roc_auc' in row for row in epochs):
        # Their colours are not those of training and validation.
        drawn = [
            ('scores of the validation clips', _score_curves(epochs, best)),
            (f'loss &ensp;<span class="keys muted">{lines}</span>', _curve(epochs, 'loss', best)),
        ]
        keys = f'<p class="keys muted">{mark}</p>' if mark else ''
    else:
        drawn = [(name, _curve(epochs, name, best)) for name in ('accuracy', 'loss')]
        keys = f'<p class="keys muted">{lines}{mark}</p>'
    figures = (f'<figure><figcaption>{k}</figcaption>{shown}</figure>' for k, shown in drawn)
    return f'{keys}<div class="charts">{"".join(figures)}</div>'


def _score_curves(epochs: Sequence[dict[str, Any]], best: int | None) -> str:
    """The validation scores of each epoch where clips may have several labels."""
    at = _values(epochs, 'epoch')
    x, y = _epoch_axis(at, RIGHT - _NAMES), Axis(0, 1, BOTTOM, TOP)
    parts = [frame(x, y, 'epoch', integer=True, right=RIGHT - _NAMES + 6)]
    if best is not None:
        parts.append(f'<path class="mark" d="M{x.at(float(at[best])):.1f} {BOTTOM}V{TOP}"/>')
    ends = []
    for field, kind in zip(_SCORES, ('two', 'one', 'three'), strict=True):
        # A score may be undefined in an epoch, or somebody may have edited the log.
        values = [_share(row.get(f'validation_{field}')) for row in epochs]
        known = [k for k, value in enumerate(values) if value is not None]
        points = [(x.at(float(at[k])), y.at(values[k] or 0.0)) for k in known]
        if not points:
            continue
        line = ' '.join(f'{a:.1f},{b:.1f}' for a, b in points)
        parts.append(f'<polyline class="{kind}" stroke-width="2" points="{line}"/>')
        dots = [points[k] for k in range(len(points)) if known[k] == best or len(points) == 1]
        for a, b in dots:
            parts.append(f'<circle class="fill-{kind}" r="4" cx="{a:.1f}" cy="{b:.1f}"/>')
        ends.append((_SCORES[field], kind, points[-1][1]))
    heights = apart([height for *_, height in ends], 15)
    for (name, kind, _), height in zip(ends, heights, strict=True):
        place = f'x="{RIGHT - _NAMES + 10}" y="{height + 4:.1f}"'
        parts.append(f'<text class="ink-{kind}" {place}>{name}</text>')
    return svg(''.join(parts), 'scores of the validation clips in each epoch')


def _share(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and 0 <= value <= 1 else None


def _epoch_axis(at: Float[np.ndarray, ' epochs'], stop: float) -> Axis:
    x = Axis(float(at.min()), float(at.max()), LEFT + 6, stop)
    if x.low == x.high:  # a single epoch has its place in the middle
        half = max(1.0, abs(x.low) / 2)
        x = x._replace(low=x.low - half, high=x.high + half)
    return x


def _curve(epochs: Sequence[dict[str, Any]], name: str, best: int | None) -> str:
    at = _values(epochs, 'epoch')
    train, validation = _values(epochs, name), _values(epochs, f'validation_{name}')
    both = np.concatenate([train, validation])
    low, high, log = 0.0, 1.0, False
    if name == 'loss':
        log = bool(0 < both.min() * STEEP < both.max())
        low = float(both.min()) if log else min(0.0, float(both.min()))
        high = max(float(both.max()) * (1 if log else 1.04), low + 1e-6)
    x = _epoch_axis(at, RIGHT - 6)
    y = Axis(low, high, BOTTOM, TOP, log)
    parts = [frame(x, y, 'epoch', integer=True, shares=name == 'accuracy')]
    if best is not None:
        place = x.at(float(at[best]))
        parts.append(f'<path class="mark" d="M{place:.1f} {BOTTOM}V{TOP}"/>')
    for values, kind in ((train, 'one'), (validation, 'two')):
        points = [(x.at(a), y.at(min(max(v, low), high))) for a, v in zip(at, values, strict=True)]
        line = ' '.join(f'{a:.1f},{b:.1f}' for a, b in points)
        dashes = ' stroke-dasharray="6 3"' if kind == 'one' else ''
        parts.append(f'<polyline class="{kind}" stroke-width="2"{dashes} points="{line}"/>')
        dots = [points[0]] if len(points) == 1 else []
        if kind == 'two' and best is not None:
            dots.append(points[best])
        parts += [f'<circle class="fill-{kind}" r="4" cx="{a:.1f}" cy="{b:.1f}"/>' for a, b in dots]
    return svg(''.join(parts), f'{name} of training and validation in each epoch')


def _values(epochs: Sequence[dict[str, Any]], name: str) -> Float[np.ndarray, ' epochs']:
    """Values of a log, which people may have edited, as numbers that can be drawn."""
    bounded = [max(-_LARGEST, min(_LARGEST, row[name])) for row in epochs]
    return np.asarray(bounded, np.float64)
