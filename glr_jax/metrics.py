"""Scores of a classifier, in NumPy."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int


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
    confusion = confusion_matrix(targets, decisions, len(labels))
    correct, support, chosen = np.diag(confusion), confusion.sum(1), confusion.sum(0)
    precision = correct / np.maximum(chosen, 1)
    recall = correct / np.maximum(support, 1)
    f1 = 2 * correct / np.maximum(support + chosen, 1)
    present = support > 0
    return {
        'accuracy': float(correct.sum() / len(targets)),
        'accuracy_interval': wilson_interval(int(correct.sum()), len(targets)),
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
        'num_clips': len(targets),
    }


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
