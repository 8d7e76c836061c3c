"""Markdown tables for the reports of the studies."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from glr_jax import metrics
from glr_jax.text import columns, printable
from glr_jax.uncertainty import spread

# What a network has to beat: keys of `glr_jax.baselines.scores_on`, and names in tables.
BASELINES = {
    'svm_statistics': 'SVM on statistics',
    'svm': 'SVM on levels',
    'majority': 'majority class',
}
TAG_BASELINES = {  # where clips may have several labels
    'linear_statistics': 'linear on statistics',
    'linear': 'linear on levels',
    'majority': 'label frequencies',
}
# The scores that tables show, by the one that compares runs.
SCORES = {
    'accuracy': {'accuracy': 'accuracy', 'macro_f1': 'macro-F1'},
    'macro_roc_auc': {
        'macro_roc_auc': 'macro ROC-AUC',
        'macro_average_precision': 'average precision',
        'macro_f1': 'macro-F1',
    },
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


def spread_of(values: Iterable[float | None], sign: str = '') -> str:
    """Mean ± standard deviation in per cent of the values that are defined, a dash if none is.

    Args:
      values: fractions; None: not defined.
      sign: as in `uncertainty.spread`.
    """
    defined = [value for value in values if value is not None]
    return spread(defined, sign) if defined else '-'


def baseline_table(scores: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    """Accuracy and macro-F1 of the baselines, or the scores of several labels per clip.

    Args:
      scores: {baseline: its scores on each split}.
    """
    (first, *_), *_ = scores.values()
    shown = SCORES[metrics.main_score(first)]
    names = TAG_BASELINES if first.get('multi_label') else BASELINES
    rows = [
        [names[name], *(spread_of(of[key] for of in splits) for key in shown)]
        for name, splits in scores.items()
    ]
    first_title, *titles = shown.values()
    return markdown(['', f'test {first_title}, %', *(f'{title}, %' for title in titles)], rows)
