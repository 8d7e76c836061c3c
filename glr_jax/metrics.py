"""Scores of a classifier, in NumPy."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from glr_jax import tag_metrics
from glr_jax.json_files import is_close, is_count, is_share

NAMES = {'accuracy': 'accuracy', 'macro_roc_auc': 'macro ROC-AUC'}


def main_score(scores: dict[str, Any]) -> str:
    """The name of the score that compares runs: macro ROC-AUC where clips have several labels."""
    return 'macro_roc_auc' if scores.get('multi_label') else 'accuracy'


def shown(score: float | None) -> str:
    """A score with three decimals; a dash where it is not defined."""
    return '-' if score is None else f'{score:.3f}'


def confusion_matrix(
    targets: Int[np.ndarray, ' clips'], decisions: Int[np.ndarray, ' clips'], num_labels: int
) -> Int[np.ndarray, 'labels labels']:
    """Counts; rows are the true labels, columns the decisions."""
    return np.bincount(targets * num_labels + decisions, minlength=num_labels**2).reshape(
        num_labels, num_labels
    )


def scores(
    targets: Int[np.ndarray, ' clips'],
    decisions: Int[np.ndarray, ' clips'],
    labels: Sequence[str],
) -> dict[str, Any]:
    """The scores that a report shows for a set of clips; fractions in 0..1.

    `precision`, `recall` and `macro_f1` are means over the labels that have clips; a label that
    was never decided has precision 0. `accuracy_interval` is Wilson's interval at 95 %.

    Args:
      targets: true label numbers.
      decisions: decided label numbers.
      labels: class names.
    """
    return _of_confusion(confusion_matrix(targets, decisions, len(labels)), labels)


def _of_confusion(
    confusion: Int[np.ndarray, 'labels labels'], labels: Sequence[str]
) -> dict[str, Any]:
    clips = int(confusion.sum())
    correct, support, chosen = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    precision = correct / np.maximum(chosen, 1)
    recall = correct / np.maximum(support, 1)
    f1 = 2 * correct / np.maximum(support + chosen, 1)
    present = support > 0
    return {
        'accuracy': float(correct.sum() / clips),
        'accuracy_interval': wilson_interval(int(correct.sum()), clips),
        'macro_f1': float(f1[present].mean()),
        'precision': float(precision[present].mean()),
        'recall': float(recall[present].mean()),
        'per_class': {
            label: {
                'precision': float(precision[k]),
                'recall': float(recall[k]),
                'f1': float(f1[k]),
                'support': int(support[k]),
            }
            for k, label in enumerate(labels)
        },
        'confusion': confusion.tolist(),
        'labels': list(labels),
        'num_clips': clips,
    }


def fault(values: dict[str, Any]) -> str:
    """Why values from a file are no scores that a report wrote; '' if they are.

    Everything that follows from the confusion matrix is computed again and compared.

    Args:
      values: from a `metrics.json`.
    """
    labels = values.get('labels')
    if not isinstance(labels, list) or not labels or len(set(map(str, labels))) < len(labels):
        return 'its labels are no list of names'
    if not all(isinstance(label, str) for label in labels):
        return 'a label is no text'
    found = tag_metrics.fault(values) if values.get('multi_label') else _confusion_fault(values)
    if found:
        return found
    if not is_share(values.get('segment_accuracy')):
        return 'segment_accuracy is no number from 0 to 1'
    for name in ('dataset', 'split', 'side'):
        if not isinstance(values.get(name), str):
            return f'{name} is no text'
    steps = values.get('step')
    if not all(is_count(step) for step in (steps if isinstance(steps, list) else [steps])):
        return 'step is no number of steps'
    runs = values.get('runs', [])
    if not isinstance(runs, list) or not all(map(_is_run, runs)):
        return 'its runs are no list of folders with their accuracy'
    changed = values.get('changed_data', [])
    if not isinstance(changed, list) or not all(isinstance(text, str) for text in changed):
        return 'changed_data is no list of texts'
    return ''


def _confusion_fault(values: dict[str, Any]) -> str:
    labels, rows = values['labels'], values.get('confusion')
    if (
        not isinstance(rows, list)
        or len(rows) != len(labels)
        or not all(_is_row(row, len(labels)) for row in rows)
    ):
        return 'its confusion matrix is no table of counts'
    confusion = np.asarray(rows, np.int64)
    if not confusion.any():
        return 'its confusion matrix is empty'
    for name, expected in _of_confusion(confusion, labels).items():
        if not is_close(values.get(name), expected):
            return f'{name} does not follow from its confusion matrix'
    return ''


def _is_row(value: Any, length: int) -> bool:
    return isinstance(value, list) and len(value) == length and all(map(is_count, value))


def _is_run(value: Any) -> bool:
    whole = isinstance(value, dict) and isinstance(value.get('workdir'), str)
    return whole and any(is_share(value.get(name)) for name in NAMES)


def cross_entropy(
    targets: Int[np.ndarray, ' clips'], probabilities: Float[np.ndarray, 'clips labels']
) -> float:
    """Mean of -log p(true label), in nats."""
    chosen = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    return float(-np.log(np.maximum(chosen, 1e-12)).mean())


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson, 1927)."""
    z = 1.959964
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    spread = z / (1 + z * z / trials)
    half = spread * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2))
    return max(0.0, centre - half), min(1.0, centre + half)
