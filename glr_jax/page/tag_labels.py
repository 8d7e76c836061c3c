"""The scores of each label where clips may have several, and which are decided wrongly."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from glr_jax import tag_metrics
from glr_jax.metrics import shown
from glr_jax.page.evidence import Evidence
from glr_jax.page.markup import Cell, name, percent, table
from glr_jax.tag_text import by_support, left_out
from glr_jax.text import counted, printable, shorten

PAIRS = 15
IN_PAIRS = 36  # columns of their labels
_FIELDS = ('roc_auc', 'average_precision', 'precision', 'recall')
_HEADER = ('label', 'clips', 'ROC-AUC', 'avg precision', 'precision', 'recall', 'F1', 'threshold')
_UNTRAINED = ' <span class="muted">(no training clips)</span>'
_DASH = Cell('–', -1.0)  # sorted below all numbers


def label_table(scores: dict[str, Any]) -> str:
    """The scores of each label, the most frequent first, and their means."""
    rows, untrained = [], scores.get('untrained_labels', ())
    for label, row in by_support(scores):
        present = row['support'] > 0
        values = [row[field] if present else None for field in _FIELDS]
        rows.append(
            [
                Cell(name(label) + _UNTRAINED * (label in untrained)),
                Cell(f'{row["support"]:,}', row['support']),
                *map(_cell, values),
                _f1(row['f1'] if present else None),
                _cell(row['threshold']),
            ]
        )
    means = (scores[f'macro_{field}'] for field in _FIELDS[:2])
    last = [
        *(Cell('mean'), Cell(f'{scores["num_clips"]:,}', scores['num_clips'])),
        *map(_cell, means),
        *(_cell(scores['precision']), _cell(scores['recall']), _f1(scores['macro_f1']), Cell('')),
    ]
    return f"""<p class="muted">Precision, recall and F1 are at each label's threshold: the
probability with the highest F1 on the validation clips. Means are over the labels that have
clips.{_undefined(scores)}{_left_out(scores)} Over all pairs of a clip and a label together
(micro): ROC-AUC {shown(scores['micro_roc_auc'])}, average precision
{shown(scores['micro_average_precision'])}, F1 {shown(scores['micro_f1'])}.</p>
{table(_HEADER, rows, last)}"""


def _undefined(scores: dict[str, Any]) -> str:
    count = sum(row['roc_auc'] is None for row in scores['per_class'].values())
    verb = 'has' if count == 1 else 'have'
    return f' {counted(count, "label")} that all clips {verb}, or none, {verb} no curve.' * (
        count > 0
    )


def _left_out(scores: dict[str, Any]) -> str:
    text = left_out(scores)
    return f' {text[0].upper()}{text[1:]} of the means.' if text else ''


def _cell(value: float | None) -> Cell:
    return _DASH if value is None else Cell(f'{value:.3f}', value)


def _f1(value: float | None) -> Cell:
    if value is None:
        return _DASH
    bar = f'<span class="share"><span style="width:{100 * value:.0f}%"></span></span>'
    return Cell(f'{value:.3f}{bar}', value)


def wrong_together(evidence: Evidence, thresholds: Sequence[float]) -> str:
    """The labels that clips have on which another is decided wrongly.

    The pairs that occur most often beyond chance come first: beyond how often any clip has the
    label.

    Args:
      evidence: the clips that were scored.
      thresholds: of each label.
    """
    has, labels = evidence.has_label, evidence.dataset.labels
    wrong = tag_metrics.decided(evidence.probabilities, thresholds) & ~has
    together = wrong.T.astype(np.float32) @ has.astype(np.float32)  # [decided, true], exact
    total, usual = wrong.sum(0), has.mean(0)
    beyond = together - total[:, None] * usual
    order = np.argsort(-beyond, axis=None, kind='stable')[:PAIRS]
    found = [divmod(int(k), len(labels)) for k in order if beyond.flat[k] > 0]
    if not wrong.any():
        return '<p>No label was decided wrongly.</p>'
    if not found:
        return '<p>Labels are decided wrongly on clips of all kinds alike.</p>'
    rows = []
    for decided, true in found:
        count, share = int(together[decided, true]), together[decided, true] / total[decided]
        rows.append(
            [
                Cell(name(shorten(printable(labels[decided]), IN_PAIRS))),
                Cell(name(shorten(printable(labels[true]), IN_PAIRS))),
                Cell(f'{count:,} of {total[decided]:,}', count),
                Cell(percent(float(share), 0), float(share)),
                Cell(percent(float(usual[true]), 0), float(usual[true])),
            ]
        )
    return table(
        ['decided wrongly', 'on clips with', 'wrong decisions', 'share', 'of all clips'], rows
    ) + (
        '<p class="muted">Share: how many of the clips on which the first label was decided '
        'wrongly have the second. Of all clips: how many of all scored clips have it. Pairs that '
        'are most above chance come first.</p>'
    )
