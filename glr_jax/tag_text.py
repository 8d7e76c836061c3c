"""The scores of several labels per clip as text for a terminal."""

from typing import Any

from glr_jax.metrics import shown
from glr_jax.text import cell, columns, counted

MOST = 20  # labels in the table
MAJORITY = 'label frequencies'  # the name of the classifier that knows nothing else
LONGEST = 60  # columns of a label
FLOOR_SCORES = ('macro_roc_auc', 'macro_average_precision', 'macro_f1')  # of `compared`
_FIELDS = ('roc_auc', 'average_precision', 'precision', 'recall', 'f1', 'threshold')
_HEADER = 'ROC-AUC  avg prec  precision  recall      f1  threshold  clips'
_WIDTHS = (7, 8, 9, 6, 6, 9)


def by_support(scores: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The labels with their rows, those with the most clips first."""
    return sorted(scores['per_class'].items(), key=lambda pair: -pair[1]['support'])


def table(scores: dict[str, Any]) -> str:
    """The scores of the most frequent labels, one line each, and the means."""
    rows, untrained = by_support(scores), scores.get('untrained_labels', ())
    chosen = rows[:MOST]
    width = max(12, *(columns(cell(label, 0, LONGEST)) for label, _ in chosen))
    lines = [f'{"":{width}}  {_HEADER}']
    for label, row in chosen:
        values = [row[field] for field in _FIELDS]
        if not row['support']:  # not in the means either
            values[2:5] = [None] * 3
        mark = '  no training clips' if label in untrained else ''
        lines.append(_line(cell(label, width), values, row['support']) + mark)
    if left := len(rows) - len(chosen):
        lines.append(f'{counted(left, "less frequent label")}: see the page or metrics.json')
    means = (
        *(scores['macro_roc_auc'], scores['macro_average_precision']),
        *(scores['precision'], scores['recall'], scores['macro_f1'], None),
    )
    lines.append(_line(f'{"mean":{width}}', means, scores['num_clips']))
    return '\n'.join(lines)


def _line(name: str, values: Any, clips: int) -> str:
    pairs = zip(values, _WIDTHS, strict=True)
    numbers = '  '.join(f'{shown(value):>{width}}' for value, width in pairs)
    return f'{name}  {numbers}  {clips:5}'


def main_scores(scores: dict[str, Any]) -> str:
    """The main scores, to be followed by the clips that they are of."""
    interval = ''
    if found := scores.get('macro_roc_auc_interval'):
        low, high = found
        interval = f' (95 % interval {low:.3f} to {high:.3f})'
    return (
        f'macro ROC-AUC {shown(scores["macro_roc_auc"])}{interval}, '
        f'average precision {shown(scores["macro_average_precision"])}, '
        f'F1 {shown(scores["macro_f1"])} ({shown(scores["macro_f1_at_half"])} at 0.5)'
    )


def left_out(scores: dict[str, Any]) -> str:
    """How many labels are not in the macro scores, as they could not be learned; '' if none."""
    count = len(scores.get('untrained_labels', ()))
    return f'{counted(count, "label")} without training clips left out' if count else ''


def compared(floor: dict[str, Any]) -> str:
    """The scores of the classical classifiers on the same clips, in one sentence."""
    linear, majority = floor['linear_statistics'], floor['majority']
    return (
        f'on the same clips: linear classifier on statistics{sample(linear)} {_short(linear)}; '
        f'{MAJORITY} {_short(majority)}'
    )


def sample(scores: dict[str, Any]) -> str:
    """On how many clips a classifier was trained, if not on all; else ''."""
    if scores['fitted_on'] >= scores['train_clips']:
        return ''
    return f' (trained on {scores["fitted_on"]:,} of {scores["train_clips"]:,} clips)'


def _short(scores: dict[str, Any]) -> str:
    area, precision, f1 = (shown(scores[name]) for name in FLOOR_SCORES)
    return f'macro ROC-AUC {area}, average precision {precision}, F1 {f1}'
