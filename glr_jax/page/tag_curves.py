"""ROC and precision-recall curves of several labels per clip."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from glr_jax.metrics import shown
from glr_jax.page.charts import BOTTOM, LEFT, RIGHT, TOP, Axis, frame, svg
from glr_jax.page.evidence import Evidence
from glr_jax.page.markup import name, percent, plain
from glr_jax.tag_text import by_support
from glr_jax.text import counted, printable, shorten

MOST_LINES = 200  # labels in one chart
POINTS = 101  # of a line; longer ones are drawn on half the grid
PANELS = 8  # labels with a chart of their own
LONGEST = 40  # columns of their names
_GRID = np.linspace(0, 1, 101)
_COARSE = slice(None, None, 2)  # enough points for the thin lines
_WIDTH, _HEIGHT, _LEFT = 190, 140, 34  # of a panel


def section(scores: dict[str, Any], evidence: Evidence) -> str:
    """Both curves of all labels and their means, and a chart of each frequent label.

    Args:
      scores: as in `metrics.json`.
      evidence: the clips that were scored.
    """
    has, probabilities = evidence.has_label, evidence.probabilities
    numbers = {label: k for k, label in enumerate(scores['labels'])}
    rows = [pair for pair in by_support(scores) if pair[1]['roc_auc'] is not None]
    if not rows:
        return '<p>No label has curves: each has all of these clips or none.</p>'
    chosen = [label for label, _ in rows]
    curves, hits, precisions = [], [], []
    for label in chosen:
        false_alarms, found, precision = points(
            has[:, numbers[label]], probabilities[:, numbers[label]]
        )
        curves.append((false_alarms, found))
        hits.append(np.interp(_GRID, false_alarms, found))
        # At recall 0, the first clip that is found counts.
        reached = np.searchsorted(found[1:], np.maximum(_GRID - 1e-9, 1e-9))
        precisions.append(precision[reached])
    titles = [
        f'{label}: ROC-AUC {shown(row["roc_auc"])}, '
        f'average precision {shown(row["average_precision"])}'
        for label, row in rows
    ]
    chance = f'<path class="axis" stroke-dasharray="4 4" d="M{LEFT} {BOTTOM}L{RIGHT} {TOP}"/>'
    steps = [(_GRID, values) for values in precisions]
    drawn = [
        ('ROC: recall over false-positive rate', 'false-positive rate', curves, hits, chance),
        ('Precision over recall', 'recall', steps, precisions, ''),
    ]
    charts = ''.join(
        f'<figure><figcaption>{title}</figcaption>'
        f'{_chart(title, x_title, list(zip(lines, titles, strict=True)), mean, more)}</figure>'
        for title, x_title, lines, values, more in drawn
        for mean in [np.mean(values, 0)]
    )
    panels = ''.join(
        _panel(label, row, np.asarray(precision), evidence)
        for (label, row), precision in zip(rows[:PANELS], precisions, strict=False)
    )
    frequent = 'Each label' if len(rows) <= PANELS else f'The {PANELS} most frequent labels'
    return f"""<p class="muted keys"><span><i class="key two"></i>mean over
{counted(len(rows), 'label')}</span><span><i class="key thin"></i>single
labels{_most(len(rows))}; point at a line to see its label</span></p>
<div class="charts">{charts}</div>
<h3>{frequent}: precision over recall</h3>
<p class="muted keys"><span><i class="dot"></i>at the label's threshold</span><span><i
class="key chance"></i>precision of chance</span></p>
<div class="panels">{panels}</div>"""


def points(
    has: Bool[np.ndarray, ' clips'], values: Float[np.ndarray, ' clips']
) -> tuple[
    Float[np.ndarray, ' points'], Float[np.ndarray, ' points'], Float[np.ndarray, ' decided']
]:
    """The curves of a label at each threshold, from the highest.

    Args:
      has: which clips have the label; some, not all.
      values: its probability.

    Returns:
      False alarms (share of the clips without the label that are decided) and recall, both
      from 0, where no clip is decided, to 1; and the precision at each point but the first.
    """
    order = np.argsort(-values, kind='stable')
    ends = np.flatnonzero(np.diff(values[order], append=-np.inf))  # the last of equal values
    found = np.cumsum(has[order])[ends]
    false = ends + 1 - found
    start = np.zeros(1)
    return (
        np.concatenate([start, false / false[-1]]),
        np.concatenate([start, found / found[-1]]),
        found / (ends + 1),
    )


def _most(labels: int) -> str:
    return f' (the {MOST_LINES} most frequent)' if labels > MOST_LINES else ''


def _chart(
    name: str,
    x_title: str,
    lines: Sequence[tuple[tuple[np.ndarray, np.ndarray], str]],
    mean: Float[np.ndarray, ' grid'],
    more: str,
) -> str:
    """The line of each label with its title, and their mean on the grid."""
    x, y = Axis(0, 1, LEFT, RIGHT), Axis(0, 1, BOTTOM, TOP)
    few = ' few' * (len(lines) <= PANELS)
    parts = [frame(x, y, x_title), more, f'<g class="lines{few}">']
    for (across, up), title in lines[:MOST_LINES]:
        if len(across) > POINTS:
            across, up = _GRID[_COARSE], np.interp(_GRID[_COARSE], across, up)
        line = _line(x, y, across, up)
        parts.append(f'<polyline class="each" points="{line}"><title>{plain(title)}</title>')
        parts.append('</polyline>')
    line = _line(x, y, _GRID, mean)
    parts.append(f'</g><polyline class="two" stroke-width="3" points="{line}"/>')
    return svg(''.join(parts), name)


def _line(
    x: Axis, y: Axis, across: Float[np.ndarray, ' points'], up: Float[np.ndarray, ' points']
) -> str:
    return ' '.join(f'{x.at(a):.1f},{y.at(b):.1f}' for a, b in zip(across, up, strict=True))


def _panel(
    label: str, row: dict[str, Any], precision: Float[np.ndarray, ' points'], evidence: Evidence
) -> str:
    """The precision of a label over its recall, with the point of its threshold."""
    x, y = Axis(0, 1, _LEFT, _WIDTH - 6), Axis(0, 1, _HEIGHT - 20, 8)
    parts = []
    for tick in (0.0, 0.5, 1.0):
        a, b = x.at(tick), y.at(tick)
        anchor = {0.0: 'start', 0.5: 'middle', 1.0: 'end'}[tick]
        parts.append(
            f'<path class="grid" d="M{_LEFT} {b:.1f}H{x.stop}"/>'
            f'<text class="faint" x="{_LEFT - 4}" y="{b + 4:.1f}" text-anchor="end">{tick:g}</text>'
            f'<text class="faint" x="{a:.1f}" y="{_HEIGHT - 4}" text-anchor="{anchor}">{tick:g}'
            '</text>'
        )
    chance = y.at(row['support'] / len(evidence.clips))
    parts.append(f'<path class="axis" stroke-dasharray="4 4" d="M{_LEFT} {chance:.1f}H{x.stop}"/>')
    line = _line(x, y, _GRID, precision)
    parts.append(f'<polyline class="one" stroke-width="2" points="{line}"/>')
    if row['decided']:
        a, b = x.at(row['recall']), y.at(row['precision'])
        parts.append(f'<circle class="fill-two" r="4.5" cx="{a:.1f}" cy="{b:.1f}"/>')
    drawing = (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="precision over recall of '
        f'{plain(label)}">{"".join(parts)}</svg>'
    )
    return (
        f'<figure><figcaption>{name(shorten(printable(label), LONGEST))}<br><span class="muted">'
        f'average precision {shown(row["average_precision"])}, '
        f'{percent(row["support"] / len(evidence.clips), 0)} of clips</span></figcaption>'
        f'{drawing}</figure>'
    )
