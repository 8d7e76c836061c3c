"""The first section: the main scores, beside those of classical classifiers.

These may be known only after the page was written, so the section can be replaced in it.
"""

from typing import Any

from glr_jax.metrics import wilson_interval
from glr_jax.page.markup import percent, plain

_BEGIN, _END = '<!-- scores -->', '<!-- end of scores -->'  # all other text is escaped
_FLOOR = {'svm_statistics': 'SVM on statistics', 'majority': 'majority class'}


def section(scores: dict[str, Any], sentence: str, floor: dict[str, Any]) -> str:
    """The section.

    Args:
      scores: as in `metrics.json`.
      sentence: the main scores in words.
      floor: scores of the classical classifiers; {} if they were not computed.
    """
    low, high = scores['accuracy_interval']
    tiles = [
        (percent(scores['accuracy']), f'accuracy; 95 % interval {_range(low, high)}'),
        (f'{scores["macro_f1"]:.3f}', 'macro-F1: mean over the labels'),
        (f'{scores["num_clips"]:,}', f'{plain(scores["side"])} clips'),
    ]
    shown = ''.join(f'<div><b>{value}</b>{what}</div>' for value, what in tiles)
    return (
        f'{_BEGIN}<div class="tiles">{shown}</div>\n{_bars(scores, floor)}\n'
        f'<p class="muted">{plain(sentence)}</p>{_END}'
    )


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
    parts = []
    for text, accuracy, kind in bars:
        low, high = wilson_interval(round(accuracy * clips), clips)
        parts.append(
            f'<span>{text}</span><span class="value">{percent(accuracy)}</span><div class="bar">'
            f'<span class="{kind}" style="width:{100 * accuracy:.2f}%"></span>'
            f'<i style="left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%"></i></div>'
        )
    return (
        f'<div class="bars">{"".join(parts)}</div>\n'
        f'<p class="muted">Accuracy on the same clips; the lines are 95 % intervals (Wilson).</p>'
    )


def _range(low: float, high: float) -> str:
    return f'{100 * low:.1f} to {100 * high:.1f} %'
