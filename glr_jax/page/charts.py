"""Axes and curves as SVG; colours and fonts come from the page's style."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.ticker import MaxNLocator

from glr_jax.page.markup import percent

WIDTH, HEIGHT = 428, 250
LEFT, RIGHT, TOP, BOTTOM = 50, 408, 12, 208
STEEP = 20.0  # a loss that falls by more than this factor gets a logarithmic axis
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


def frame(x: Axis, y: Axis, x_title: str, *, integer: bool = False, shares: bool = False) -> str:
    """Grid lines, ticks and their labels.

    Args:
      x: the horizontal axis.
      y: the vertical axis.
      x_title: what the horizontal axis shows.
      integer: whether only whole numbers are labelled on it.
      shares: whether the values are fractions, to be shown in per cent.
    """
    parts = []
    for tick in y.ticks():
        at = y.at(tick)
        label = percent(tick, 0) if shares else f'{tick:g}'
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(
            f'<text class="faint" x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{label}</text>'
        )
    for tick in x.ticks(6, integer):
        label = percent(tick, 0) if shares and x.high <= 1 else f'{tick:g}'
        parts.append(
            f'<text class="faint" x="{x.at(tick):.1f}" y="{y.start + 17:.1f}" '
            f'text-anchor="middle">{label}</text>'
        )
    parts.append(f'<path class="axis" d="M{LEFT} {y.start}H{RIGHT}"/>')
    parts.append(
        f'<text class="faint" x="{(LEFT + RIGHT) / 2}" y="{y.start + 35:.1f}" '
        f'text-anchor="middle">{x_title}</text>'
    )
    return ''.join(parts)


def svg(content: str, label: str, height: int = HEIGHT) -> str:
    """An `<svg>` of the usual width."""
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{content}</svg>'


def curves(epochs: Sequence[dict[str, Any]], step: Any) -> str:
    """Accuracy and loss of each epoch, training and validation, with the best epoch marked.

    Args:
      epochs: rows of `metrics.jsonl`.
      step: of the best checkpoint.
    """
    best = next((k for k, row in enumerate(epochs) if row['step'] == step), None)
    mark = '' if best is None else f'<span>│ best checkpoint: epoch {epochs[best]["epoch"]}</span>'
    keys = (
        '<p class="keys muted"><span><i class="key one"></i>train</span>'
        f'<span><i class="key two"></i>validation</span>{mark}</p>'
    )
    drawn = ''.join(
        f'<figure><figcaption>{name}</figcaption>{_curve(epochs, name, best)}</figure>'
        for name in ('accuracy', 'loss')
    )
    return f'{keys}<div class="charts">{drawn}</div>'


def _curve(epochs: Sequence[dict[str, Any]], name: str, best: int | None) -> str:
    at = _values(epochs, 'epoch')
    train, validation = _values(epochs, name), _values(epochs, f'validation_{name}')
    both = np.concatenate([train, validation])
    low, high, log = 0.0, 1.0, False
    if name == 'loss':
        log = bool(0 < both.min() * STEEP < both.max())
        low = float(both.min()) if log else min(0.0, float(both.min()))
        high = max(float(both.max()) * (1 if log else 1.04), low + 1e-6)
    # A single epoch has its place in the middle.
    x = Axis(float(at.min()), float(at.max()), LEFT + 6, RIGHT - 6)
    if x.low == x.high:
        half = max(1.0, abs(x.low) / 2)
        x = x._replace(low=x.low - half, high=x.high + half)
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
