"""The first section: the main scores, beside those of classical classifiers.

These may be known only after the page was written, so the section can be replaced in it.
"""

from typing import Any

from glr_jax import tag_text
from glr_jax.metrics import shown, wilson_interval
from glr_jax.page.markup import percent, plain

_BEGIN, _END = '<!-- scores -->', '<!-- end of scores -->'  # all other text is escaped
_FLOOR = {'svm_statistics': 'SVM on statistics', 'majority': 'majority class'}
_TAG_FLOOR = {'linear_statistics': 'linear on statistics', 'majority': tag_text.MAJORITY}


def section(scores: dict[str, Any], sentence: str, floor: dict[str, Any]) -> str:
    """The section.

    Args:
      scores: as in `metrics.json`.
      sentence: the main scores in words.
      floor: scores of the classical classifiers; {} if they were not computed.
    """
    if scores.get('multi_label'):
        tiles, bars = _tag_tiles(scores), _tag_bars(scores, floor)
    else:
        tiles, bars = _tiles(scores), _bars(scores, floor)
    drawn = ''.join(f'<div><b>{value}</b>{what}</div>' for value, what in tiles)
    return (
        f'{_BEGIN}<div class="tiles">{drawn}</div>\n{bars}\n'
        f'<p class="muted">{plain(sentence)}</p>{_END}'
    )


def _tiles(scores: dict[str, Any]) -> list[tuple[str, str]]:
    low, high = scores['accuracy_interval']
    return [
        (percent(scores['accuracy']), f'accuracy; 95 % interval {_range(low, high)}'),
        (f'{scores["macro_f1"]:.3f}', 'macro-F1: mean over the labels'),
        (f'{scores["num_clips"]:,}', f'{plain(scores["side"])} clips'),
    ]


def _tag_tiles(scores: dict[str, Any]) -> list[tuple[str, str]]:
    interval, at_half = '', shown(scores['macro_f1_at_half'])
    if found := scores.get('macro_roc_auc_interval'):
        interval = f'; 95 % interval {found[0]:.3f} to {found[1]:.3f}'
    return [
        (shown(scores['macro_roc_auc']), f'macro ROC-AUC{interval}'),
        (shown(scores['macro_average_precision']), 'average precision: mean over the labels'),
        (shown(scores['macro_f1']), f'macro-F1; {at_half} if every threshold is 0.5'),
        (f'{scores["num_clips"]:,}', f'{plain(scores["side"])} clips'),
    ]


def replace(page: str, section: str) -> str:
    """The page with another such section; '' if it has none, as that of an older version."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    return before + section + after if begin and end else ''


def _bars(scores: dict[str, Any], floor: dict[str, Any]) -> str:
    """The accuracies as bars, each with its 95 % interval."""
    clips = scores['num_clips']
    bars = [('this network', scores['accuracy'], 'own')]
    bars += [(text, floor[key]['accuracy'], '') for key, text in _FLOOR.items() if key in floor]
    if len(bars) == 1:
        return ''
    parts = [
        _bar(
            *(text, percent(accuracy), kind, accuracy),
            wilson_interval(round(accuracy * clips), clips),
        )
        for text, accuracy, kind in bars
    ]
    return (
        f'<div class="bars">{"".join(parts)}</div>\n'
        f'<p class="muted">Accuracy on the same clips; the lines are 95 % intervals (Wilson).</p>'
    )


def _tag_bars(scores: dict[str, Any], floor: dict[str, Any]) -> str:
    """The macro ROC-AUCs as bars, with the 95 % intervals that are known."""
    rows = [('this network', scores, 'own')]
    rows += [(text, floor[key], '') for key, text in _TAG_FLOOR.items() if key in floor]
    if len(rows) == 1:
        return ''
    parts = []
    for text, its, kind in rows:
        area = its['macro_roc_auc']
        parts.append(_bar(text, shown(area), kind, area or 0.0, its.get('macro_roc_auc_interval')))
    return (
        f'<div class="bars">{"".join(parts)}</div>\n'
        '<p class="muted">Macro ROC-AUC on the same clips; 0.5 is chance. The line is a 95 % '
        'interval (bootstrap over the clips).</p>'
    )


def _bar(text: str, value: str, kind: str, share: float, interval: Any) -> str:
    mark = ''
    if interval:
        low, high = interval
        mark = f'<i style="left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%"></i>'
    return (
        f'<span>{text}</span><span class="value">{value}</span><div class="bar">'
        f'<span class="{kind}" style="width:{100 * share:.2f}%"></span>{mark}</div>'
    )


def _range(low: float, high: float) -> str:
    return f'{100 * low:.1f} to {100 * high:.1f} %'
