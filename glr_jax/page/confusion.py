"""Which labels are recognised and which are confused: matrix, table, pairs."""

from typing import Any

import numpy as np

from glr_jax.page.markup import Cell, name, percent, plain, table
from glr_jax.text import columns, printable, shorten

LONGEST = 22  # columns of a label in the matrix; the table has the whole label
NUMBERED = 30  # labels; in larger matrices the cells have no numbers
WHOLE = 80  # labels; a larger matrix scrolls inside its box
NARROW = 520  # pixels of a matrix that is still readable if it is scaled to a phone
RULED = 5  # labels between two lines of such a matrix
PAIRS = 10
IN_PAIRS = 36  # columns of their labels
BESIDE = 12  # labels of a matrix that leaves room beside it
_SIZES = {10: 38, 16: 30, 30: 24, 80: 14}  # of a cell, up to so many labels
_SMALLEST = 10


def section(scores: dict[str, Any]) -> str:
    """The matrix and the most frequent confusions, side by side if there is room."""
    large = ' large' if len(scores['labels']) > BESIDE else ''
    return (
        f'<div class="beside{large}"><div><p class="muted">Rows are true labels, columns '
        f'decisions. Colours are shares of a row.</p>{matrix(scores)}</div>'
        f'<div><h3>Most frequent confusions</h3>{pairs(scores)}'
        '<p class="muted">Shares are those of the true label.</p></div></div>'
    )


def matrix(scores: dict[str, Any]) -> str:
    """The confusion matrix; a row's colours are the shares of its clips."""
    counts, labels = np.asarray(scores['confusion']), scores['labels']
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    size = next((s for most, s in _SIZES.items() if len(labels) <= most), _SMALLEST)
    font = min(12, size - 1)
    shown = [shorten(printable(label), LONGEST) for label in labels]
    text = 0.6 * font * max(map(columns, shown))  # width of the longest label, about
    # Slanted names would overlap where cells are small.
    angle, slope, lean = (45, 0.7, 0.0) if size > 1.5 * font else (90, 1.0, font / 3)
    margin, side, below = round(text) + 26, size * len(labels), round(slope * text) + 32
    width, height = margin + side + 12, side + below
    parts = [f'<rect class="frame" x="{margin}" y="1" width="{side}" height="{side}"/>']
    if len(labels) > NUMBERED:  # lines that lead from a cell to its labels
        steps = range(RULED * size, side, RULED * size)
        lines = ''.join(f'M{margin} {1 + k}h{side}M{margin + k} 1v{side}' for k in steps)
        parts.append(f'<path class="grid" d="{lines}"/>')
    for row, column in np.argwhere(counts > 0):
        x, y = margin + size * column, 1 + size * row
        title = f'{labels[row]} decided as {labels[column]}: {counts[row, column]}'
        parts.append(
            f'<rect x="{x}" y="{y}" width="{size}" height="{size}" '
            f'fill-opacity="{0.15 + 0.85 * share[row, column]:.2f}"><title>{plain(title)}</title>'
            '</rect>'
        )
        if len(labels) <= NUMBERED:
            kind = _ink(float(share[row, column]))
            parts.append(
                f'<text{kind} x="{x + size / 2:g}" y="{y + size / 2 + 4:g}" '
                f'text-anchor="middle" pointer-events="none">{counts[row, column]}</text>'
            )
    for k, label in enumerate(map(plain, shown)):
        middle = size * (k + 0.5) + 1
        x, y = margin + middle + lean, side + 10
        style = f'style="font-size:{font}px" text-anchor="end"'
        parts.append(
            f'<text {style} x="{margin - 6}" y="{middle + font / 3:.1f}">{label}</text>'
            f'<text {style} transform="translate({x:.1f} {y}) rotate(-{angle})">{label}</text>'
        )
    parts.append(
        f'<text class="faint" x="{margin + side}" y="{height - 4}" text-anchor="end">decided</text>'
        f'<text class="faint" text-anchor="end" transform="translate(11 1) rotate(-90)">true</text>'
    )
    narrow = ' narrow' if width < NARROW else ''
    whole = ' whole' if len(labels) <= WHOLE else ''
    return (
        f'<div class="box{whole}" tabindex="0"><svg class="matrix{narrow}" width="{width}" '
        f'height="{height}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="confusion matrix">'
        f'{"".join(parts)}</svg></div>'
    )


def _ink(share: float) -> str:
    """The class of a number on a cell, so that it can be read on light and on dark pages."""
    if share > 0.8:
        return ' class="on"'
    return ' class="half"' if share > 0.6 else ''


def label_table(scores: dict[str, Any]) -> str:
    """Precision, recall, F1 and the number of clips of each label."""
    fields = ('precision', 'recall', 'f1')
    rows = [
        [
            Cell(name(label)),
            *(Cell(f'{row[field]:.3f}', row[field]) for field in fields[:2]),
            Cell(f'{row["f1"]:.3f}{_share(row["f1"])}', row['f1']),
            Cell(f'{row["support"]:,}', row['support']),
        ]
        for label, row in scores['per_class'].items()
    ]
    means = (scores['precision'], scores['recall'], scores['macro_f1'])
    last = [Cell('mean'), *(Cell(f'{mean:.3f}', mean) for mean in means[:2])]
    last.append(Cell(f'{means[2]:.3f}{_share(means[2])}', means[2]))
    last.append(Cell(f'{scores["num_clips"]:,}', scores['num_clips']))
    return table(['label', 'precision', 'recall', 'F1', 'clips'], rows, last)


def pairs(scores: dict[str, Any]) -> str:
    """The most frequent confusions; a sentence if there are none."""
    counts, labels = np.asarray(scores['confusion']), scores['labels']
    support = counts.sum(1)
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind='stable')[:PAIRS]
    found = [divmod(int(k), len(labels)) for k in order if wrong.flat[k]]
    if not found:
        return '<p>No clip was classified wrongly.</p>'
    rows = [
        [
            Cell(name(shorten(printable(labels[true]), IN_PAIRS))),
            Cell(name(shorten(printable(labels[decided]), IN_PAIRS))),
            Cell(f'{wrong[true, decided]:,}', int(wrong[true, decided])),
            _of(int(wrong[true, decided]), int(support[true])),
        ]
        for true, decided in found
    ]
    return table(['true label', 'decided as', 'clips', 'share'], rows)


def _of(count: int, total: int) -> Cell:
    return Cell(percent(count / total, 0) + _share(count / total), count / total)


def _share(value: float) -> str:
    return f'<span class="share"><span style="width:{100 * value:.0f}%"></span></span>'
