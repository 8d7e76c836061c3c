"""Scores of a classifier whose clips may have several labels, in NumPy.

Two curves that need no threshold: the area under the ROC curve is the chance that a clip with the
label has a higher probability than one without; the average precision is the area under the curve
of precision over recall. Macro scores are means over the labels, micro scores take every pair of
clip and label as a decision of its own. A label that all clips have, or none, has no curve. A label
that no training clip has is not in the macro scores.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from glr_jax.json_files import is_close, is_count, is_share

Has = Bool[np.ndarray, 'clips labels']
Probabilities = Float[np.ndarray, 'clips labels']
DEFAULT_THRESHOLD = 0.5


def scores(
    has: Has,
    probabilities: Probabilities,
    labels: Sequence[str],
    thresholds: Sequence[float] = (),
    untrained: Sequence[str] = (),
) -> dict[str, Any]:
    """The scores that a report shows for a set of clips; fractions in 0..1.

    `macro_f1` is the mean over the labels that clips have, decided at the thresholds, and
    `macro_f1_at_half` the same at 0.5. Areas that are not defined are None.

    Args:
      has: which labels each clip has.
      probabilities: of each label.
      labels: class names.
      thresholds: the probability from which each label is decided; () = 0.5 for all.
      untrained: labels that no training clip has; left out of the macro scores, and named.
    """
    left_out = [label for label in labels if label in untrained]
    learned = learned_labels(labels, left_out)
    limits = list(thresholds) or [DEFAULT_THRESHOLD] * len(labels)
    roc = [roc_auc(has[:, k], probabilities[:, k]) for k in range(len(labels))]
    precision_area = [average_precision(has[:, k], probabilities[:, k]) for k in range(len(labels))]
    counts = _counts(has, decided(probabilities, limits))
    halves = _counts(has, probabilities >= DEFAULT_THRESHOLD)
    return {
        'macro_roc_auc': _mean([roc[k] for k in learned]),
        'macro_average_precision': _mean([precision_area[k] for k in learned]),
        'micro_roc_auc': roc_auc(has.ravel(), probabilities.ravel()),
        'micro_average_precision': average_precision(has.ravel(), probabilities.ravel()),
        **_of_counts(counts, halves, len(has), learned),
        'per_class': {
            label: {
                'roc_auc': roc[k],
                'average_precision': precision_area[k],
                'precision': _ratio(*counts[k, :2]),
                'recall': _ratio(counts[k, 0], counts[k, 2]),
                'f1': _f1(counts[k]),
                'threshold': float(limits[k]),
                'support': int(counts[k, 2]),
                'decided': int(counts[k, 1]),
                'correct': int(counts[k, 0]),
                'correct_at_half': int(halves[k, 0]),
                'decided_at_half': int(halves[k, 1]),
            }
            for k, label in enumerate(labels)
        },
        'labels': list(labels),
        'num_clips': len(has),
        'multi_label': True,
        **({'untrained_labels': left_out} if left_out else {}),
    }


def learned_labels(labels: Sequence[str], untrained: Sequence[str]) -> list[int]:
    """The labels that some training clip has, by number: those in the macro scores."""
    return [k for k, label in enumerate(labels) if label not in untrained]


def thresholds_in(scores: dict[str, Any]) -> tuple[float, ...]:
    """The thresholds that scores were computed with; () where each clip has one label."""
    return tuple(row['threshold'] for row in scores['per_class'].values() if 'threshold' in row)


def decided(probabilities: Probabilities, thresholds: Sequence[float] = ()) -> Has:
    """Which labels are decided: those at or above their threshold; () = 0.5 for all."""
    return probabilities >= np.asarray(thresholds or DEFAULT_THRESHOLD)


def roc_auc(has: Bool[np.ndarray, ' clips'], values: Float[np.ndarray, ' clips']) -> float | None:
    """The area under the ROC curve, equal values counting half; None if it is not defined."""
    from scipy.stats import rankdata  # takes half a second of every start

    present = int(has.sum())
    absent = len(has) - present
    if not present or not absent:
        return None
    ranks = rankdata(values)[has].sum()
    return float((ranks - present * (present + 1) / 2) / (present * absent))


def macro_roc_auc(has: Has, probabilities: Probabilities) -> float | None:
    """The mean area over the labels that have a curve; None if no label has one."""
    return _mean([roc_auc(*columns) for columns in zip(has.T, probabilities.T, strict=True)])


def average_precision(
    has: Bool[np.ndarray, ' clips'], values: Float[np.ndarray, ' clips']
) -> float | None:
    """The mean precision at each recall, as scikit-learn's; None if it is not defined."""
    if not has.any() or has.all():
        return None
    _, ends, found = _downwards(has, values)
    gained = np.diff(found, prepend=0)
    return float((gained * found / (ends + 1)).sum() / found[-1])


def best_thresholds(has: Has, probabilities: Probabilities) -> tuple[float, ...]:
    """The threshold of each label with the highest F1 on some clips, usually the validation clips.

    It lies in the middle between two probabilities. A label that no clip has gets 0.5.
    """
    return tuple(
        _best_threshold(has[:, k], probabilities[:, k]) if has[:, k].any() else DEFAULT_THRESHOLD
        for k in range(has.shape[1])
    )


def _best_threshold(has: Bool[np.ndarray, ' clips'], values: Float[np.ndarray, ' clips']) -> float:
    descending, ends, found = _downwards(has, values)
    best = ends[np.argmax(2 * found / (ends + 1 + has.sum()))]
    below = descending[best + 1] if best + 1 < len(descending) else 0.0
    return float((descending[best] + below) / 2)


def _downwards(
    has: Bool[np.ndarray, ' clips'], values: Float[np.ndarray, ' clips']
) -> tuple[Float[np.ndarray, ' clips'], Int[np.ndarray, ' distinct'], Int[np.ndarray, ' distinct']]:
    """The values from high to low, the last place of equal ones, how many have the label so far."""
    order = np.argsort(-values, kind='stable')
    descending = values[order].astype(np.float64)
    ends = np.flatnonzero(np.diff(descending, append=-np.inf))
    return descending, ends, np.cumsum(has[order])[ends]


def binary_cross_entropy(has: Has, probabilities: Probabilities) -> float:
    """Mean over clips and labels of -log p(right), in nats."""
    right = np.where(has, probabilities, 1 - probabilities).astype(np.float64)
    return float(-np.log(np.maximum(right, 1e-12)).mean())


def fault(values: dict[str, Any]) -> str:
    """Why values from a file are no scores that `scores` computed; '' if they are."""
    labels, rows = values.get('labels'), values.get('per_class')
    if not isinstance(rows, dict) or list(rows) != labels:
        return 'its rows per label do not match its labels'
    clips = values.get('num_clips')
    if not is_count(clips) or not clips:
        return 'num_clips is no number of clips'
    untrained = values.get('untrained_labels', [])
    if not isinstance(untrained, list) or not all(label in labels for label in untrained):
        return 'untrained_labels are not among its labels'
    names = ('correct', 'decided', 'support', 'correct_at_half', 'decided_at_half')
    for label, row in rows.items():
        if not isinstance(row, dict) or not all(is_count(row.get(name)) for name in names):
            return f'the counts of {label!r} are no numbers of clips'
        if not is_share(row.get('threshold')):
            return f'the threshold of {label!r} is no number from 0 to 1'
        areas = (row.get(name, '') for name in ('roc_auc', 'average_precision'))
        if not all(map(_is_area, areas)):
            return f'the areas of {label!r} are no numbers from 0 to 1'
    table = np.asarray([[row[name] for name in names] for row in rows.values()])
    counts, halves = table[:, :3], table[:, [3, 4, 2]]
    learned = learned_labels(list(rows), untrained)
    expected = _of_counts(counts, halves, clips, learned)
    in_means = [row for label, row in rows.items() if label not in untrained]
    expected |= {
        'macro_roc_auc': _mean([row['roc_auc'] for row in in_means]),
        'macro_average_precision': _mean([row['average_precision'] for row in in_means]),
    }
    for name, value in expected.items():
        if name not in values or not is_close(values[name], value):
            return f'{name} does not follow from its rows per label'
    for name in ('micro_roc_auc', 'micro_average_precision'):
        if not _is_area(values.get(name, '')):
            return f'{name} is no number from 0 to 1'
    if not _is_interval(values.get('macro_roc_auc_interval')):
        return 'macro_roc_auc_interval is no interval from 0 to 1'
    for row in rows.values():
        own = np.asarray([row[name] for name in names[:3]])
        right = {
            'precision': _ratio(own[0], own[1]),
            'recall': _ratio(own[0], own[2]),
            'f1': _f1(own),
        }
        if not all(is_close(row.get(name), value) for name, value in right.items()):
            return 'precision, recall or f1 of a label does not follow from its counts'
    return ''


def _counts(has: Has, decided: Has) -> np.ndarray:
    """Per label: clips that were decided and have it, that were decided, that have it."""
    return np.stack([(has & decided).sum(0), decided.sum(0), has.sum(0)], 1)


def _of_counts(
    counts: np.ndarray, halves: np.ndarray, clips: int, learned: Sequence[int]
) -> dict[str, Any]:
    """The scores that follow from the counts; the means are over the learned labels."""
    present = (counts[:, 2] > 0) & np.isin(np.arange(len(counts)), learned)
    f1 = lambda rows: _mean([_f1(row) for row in rows[present]])
    return {
        'macro_f1': f1(counts),
        'macro_f1_at_half': f1(halves),
        'micro_f1': _f1(counts.sum(0)),
        'precision': _mean([_ratio(row[0], row[1]) for row in counts[present]]),
        'recall': _mean([_ratio(row[0], row[2]) for row in counts[present]]),
        'labels_per_clip': float(counts[:, 2].sum() / clips),
    }


def _f1(counts: np.ndarray) -> float:
    return _ratio(2 * counts[0], counts[1] + counts[2])


def _ratio(part: Any, whole: Any) -> float:
    return float(part / max(whole, 1))


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _is_area(value: Any) -> bool:
    return value is None or is_share(value)


def _is_interval(value: Any) -> bool:
    if value is None:  # not computed, as for validation clips, or not defined
        return True
    pair = isinstance(value, list | tuple) and len(value) == 2
    return pair and all(map(is_share, value)) and value[0] <= value[1]
