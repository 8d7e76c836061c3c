"""The clips with the most wrong decisions where clips may have several labels."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from glr_jax import tag_metrics
from glr_jax.page.evidence import Evidence
from glr_jax.page.markup import name
from glr_jax.page.wrong_clips import SHOWN, Wrong, cards

NAMED = 4  # labels of a kind that are named per clip
_KEYS = ('the first label decided wrongly', 'the first label missed')


def section(evidence: Evidence, thresholds: Sequence[float], folder: str) -> str:
    """The clips with the most wrong decisions; of equally many, those with the highest loss first.

    Args:
      evidence: the clips that were scored.
      thresholds: of each label.
      folder: of the page, for links to audio.
    """
    has, probabilities = evidence.has_label, evidence.probabilities
    mistakes = (tag_metrics.decided(probabilities, thresholds) != has).sum(1)
    wrong = int((mistakes > 0).sum())
    if not wrong:
        return f'<p>None: every label of all {len(has):,} clips was decided correctly.</p>'
    loss = -np.log(np.maximum(np.where(has, probabilities, 1 - probabilities), 1e-12)).sum(1)
    order = np.lexsort((-loss, -mistakes))[: min(wrong, SHOWN)]
    most = f'; shown are {SHOWN} of them' if wrong > SHOWN else ''
    summary = f"""<p>{wrong:,} of {len(has):,} clips have a label that was decided wrongly or
missed{most}. Those with the most such labels come first. Numbers are
probabilities; the thresholds are in the table of labels. All clips are in
<a href="predictions.csv">predictions.csv</a>.</p>"""
    found = [_wrong(evidence, int(row), thresholds) for row in order]
    return summary + cards(evidence, found, _KEYS, folder)


def _wrong(evidence: Evidence, row: int, thresholds: Sequence[float]) -> Wrong:
    """What was decided for a clip, the surest mistakes first."""
    has, values = evidence.has_label[row], evidence.probabilities[row]
    decided = tag_metrics.decided(values[None], thresholds)[0]
    order = np.argsort(-values, kind='stable')
    surest = order[decided[order] & ~has[order]]
    missed = order[::-1][~decided[order[::-1]] & has[order[::-1]]]
    right = order[decided[order] & has[order]]
    kinds = (('decided wrongly', surest), ('missed', missed), ('right', right))
    caption = '<br>'.join(
        _names(evidence.dataset.labels, text, numbers, values)
        for text, numbers in kinds
        if len(numbers)
    )
    lines = [('one', int(label)) for label in missed[:1]]
    lines += [('two', int(label)) for label in surest[:1]]
    true = evidence.dataset.labels_of(evidence.clips[row])
    return Wrong(row, caption, lines, true[0] if true else '')


def _names(
    labels: Sequence[str],
    text: str,
    numbers: Int[np.ndarray, ' some'],
    values: Float[np.ndarray, ' labels'],
) -> str:
    shown = ', '.join(
        f'<strong>{name(labels[k])}</strong> {values[k]:.2f}' for k in numbers[:NAMED]
    )
    more = f' and {len(numbers) - NAMED} more' if len(numbers) > NAMED else ''
    return f'{text}: {shown}{more}'
