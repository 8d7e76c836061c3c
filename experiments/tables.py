"""Markdown tables, and means with their spread, for the reports of the studies."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from glr_jax.text import columns, printable

# What a network has to beat: keys of `glr_jax.baselines.scores_on`, and names in tables.
BASELINES = {
    'svm_statistics': 'SVM on statistics',
    'svm': 'SVM on levels',
    'majority': 'majority class',
}
BASELINE_LINES = {'svm_statistics': '--', 'svm': ':'}  # in figures


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded so that its columns also line up as plain text."""
    lines = [[printable(cell).replace('|', r'\|') for cell in row] for row in (header, *rows)]
    widths = [max(columns(row[k]) for row in lines) for k in range(len(header))]
    line = lambda row: (
        '| '
        + ' | '.join(c + ' ' * (w - columns(c)) for c, w in zip(row, widths, strict=True))
        + ' |'
    )
    first, *others = map(line, lines)
    return '\n'.join([first, line(['-' * w for w in widths]), *others])


def spread(values: Iterable[float], sign: str = '') -> str:
    """Mean ± sample standard deviation, in per cent; a single value stands alone.

    Args:
      values: fractions, at least one.
      sign: '+' shows the sign of a positive mean as well.
    """
    x = 100 * np.asarray(list(values))
    return f'{x.mean():{sign}.1f} ± {x.std(ddof=1):.1f}' if len(x) > 1 else f'{x[0]:{sign}.1f}'


def counted(count: int, noun: str) -> str:
    """A number with its noun: `1 device`, `2 devices`."""
    return f'{count} {noun}{"" if count == 1 else "s"}'


def baseline_table(scores: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Accuracy and macro-F1 of the baselines.

    Args:
      scores: {baseline: its scores on each split}.
    """
    rows = [
        [BASELINES[name], *(spread(s[key] for s in of) for key in ('accuracy', 'macro_f1'))]
        for name, of in scores.items()
    ]
    return markdown(['', 'test accuracy, %', 'macro-F1, %'], rows)
