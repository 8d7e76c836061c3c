"""Markdown tables for the reports of the studies."""

from collections.abc import Mapping, Sequence
from typing import Any

from glr_jax.text import columns, printable
from glr_jax.uncertainty import spread

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
