"""The tables of `glr_jax.compare`, as text."""

import os
import re
import textwrap
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from glr_jax import compare_runs, metrics
from glr_jax.compare_pairs import Difference
from glr_jax.compare_runs import FEWEST, Group, Run
from glr_jax.text import columns, counted, printable, shorten
from glr_jax.uncertainty import spread

WIDTH = 80  # columns of a terminal
NONE = '-'  # an empty cell
DIFFERS = 'what differs'
METHODS = {
    'mcnemar': "Two runs: p of McNemar's exact test, Newcombe's interval.",
    'areas': 'Two runs: bootstrap over clips.',
    'bootstrap': 'Several runs: bootstrap over clips, which does not cover other seeds.',
    't': "A run has no predictions.csv: Student's t over the pairs.",
    'none': f'Without predictions.csv, an interval needs {FEWEST} pairs.',
}
TITLES = {
    'accuracy': 'test scores; accuracy and macro-F1 in per cent',
    'macro_roc_auc': 'test scores: macro ROC-AUC, macro average precision, macro-F1; in per cent',
}
HEADERS = {
    'accuracy': {'accuracy': 'accuracy', 'macro_f1': 'macro-F1'},
    'macro_roc_auc': {
        'macro_roc_auc': 'ROC-AUC',
        'macro_average_precision': 'avg. precision',
        'macro_f1': 'macro-F1',
    },
}
BASELINES = {
    'accuracy': {'svm_statistics': 'SVM', 'majority': 'majority'},
    'macro_roc_auc': {'linear_statistics': 'linear', 'majority': 'frequencies'},
}
BASELINE_NOTES = {
    'accuracy': 'SVM: on statistics of the same clips. majority: always the most frequent label.',
    'macro_roc_auc': 'linear: on statistics of the same clips. frequencies: of the labels.',
}
INTERVALS = {
    'accuracy': "Interval of one run: Wilson's, over its clips.",
    'macro_roc_auc': 'Interval of one run: bootstrap over its clips.',
}
Differences = Mapping[str, Difference | str]  # of each group but the first; or why there is none


class Table(NamedTuple):
    """A table with its title and notes; the first cell of each row says what the row is about."""

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]


def tables(groups: Sequence[Group], differences: Differences) -> list[Table]:
    """The tables of a comparison."""
    found = [_members(groups)]
    flags = compare_runs.differing(groups)
    if flags:
        rows = [[name, *(value or NONE for value in values)] for name, values in flags.items()]
        found.append(Table(DIFFERS, ['', *(group.name for group in groups)], rows, []))
    found.append(_scores(groups))
    if differences:
        found.append(_differences(groups[0], differences))
    return found


def _without_empty(table: Table) -> Table:
    """The table without the columns in which no row has a value."""
    kept = [k for k in range(len(table.header)) if any(row[k] != NONE for row in table.rows)]
    rows = [[row[k] for k in kept] for row in table.rows]
    return table._replace(header=[table.header[k] for k in kept], rows=rows)


def _members(groups: Sequence[Group]) -> Table:
    runs = sum(len(group.runs) for group in groups)
    parents = [_parent(group.runs) for group in groups]
    rows, notes = [], []
    for group, parent in zip(groups, parents, strict=True):
        first = group.runs[0].workdir
        where = parent if parents.count(parent) == 1 else f'{first}, ...'
        splits = _few([run.split for run in group.runs])
        seeds = _few([str(run.seed) for run in group.runs])
        count = len(group.runs)
        rows.append([group.name, str(count), splits, seeds, first if count == 1 else where])
        repeated = len(group.runs) - len({(run.split, run.seed) for run in group.runs})
        if repeated:
            notes.append(
                f'{group.name}: {counted(repeated, "run")} with the split and seed of another one; '
                'they say nothing about the spread.'
            )
    title = f'{counted(runs, "finished run")} in {counted(len(groups), "group")}'
    return Table(title, ['', 'runs', 'splits', 'seeds', 'folder'], rows, notes)


def _parent(runs: Sequence[Run]) -> str:
    """The folder that runs are in."""
    folders = [run.workdir for run in runs]
    common = os.path.commonpath(list(map(os.path.abspath, folders)))
    return common if os.path.isabs(folders[0]) else os.path.relpath(common)


def _few(names: Sequence[str]) -> str:
    """Different names in their natural order; of many, the first and the last."""
    natural = lambda name: [int(x) if x.isdecimal() else x for x in re.split(r'(\d+)', name)]
    found = sorted(set(names), key=natural)
    listed = ', '.join(found)
    return listed if len(listed) <= 24 else f'{found[0]} ... {found[-1]} ({len(found)})'


def _scores(groups: Sequence[Group]) -> Table:
    main = groups[0].runs[0].main
    headers, baselines = HEADERS[main], BASELINES[main]
    _, *others = headers
    strong = next(iter(baselines.values()))
    # A macro ROC-AUC says more about probabilities than the loss, and the table is 80 columns wide.
    loss = ['loss'] if main == 'accuracy' else []
    header = ['', headers[main], '95 % interval', *(headers[key] for key in others), *loss]
    rows = []
    for group in groups:
        bounds, gains = compare_runs.interval(group), compare_runs.gains(group)
        rows.append(
            [
                group.name,
                _spread(compare_runs.values(group, main)),
                _range(bounds, '') if bounds else NONE,
                *(_spread(compare_runs.values(group, key)) for key in others),
                *(_nats(compare_runs.values(group, key)) for key in loss),
                spread(gains, '+') if gains else NONE,
            ]
        )
    counts, notes = [len(group.runs) for group in groups], []
    if any(
        len(group.runs) == 1 and row[2] != NONE for group, row in zip(groups, rows, strict=True)
    ):
        notes.append(INTERVALS[main])
    if max(counts) > 1:
        notes.append('±: standard deviation over runs.')
    if max(counts) >= FEWEST:
        notes.append(f"Interval of {FEWEST} or more runs: Student's t, over runs.")
    of_baselines = [
        [name, scores[main], NONE, *(scores[key] for key in others), *(NONE for _ in loss), NONE]
        for name, scores in _of_baselines(groups, headers, baselines)
    ]
    if of_baselines:
        notes.append(BASELINE_NOTES[main])
    rows += of_baselines
    on_validation = [
        group.name for group in groups if any(r.scores['side'] != 'test' for r in group.runs)
    ]
    if on_validation:
        notes.append(
            f'{", ".join(on_validation)}: on validation clips, which chose the best epoch, so the '
            'scores are optimistic.'
        )
    header.append(f'minus {strong}')
    return _without_empty(Table(TITLES[main], header, rows, [' '.join(notes)]))


def _of_baselines(
    groups: Sequence[Group], keys: Collection[str], baselines: Mapping[str, str]
) -> list[tuple[str, dict[str, str]]]:
    """The name and the scores of each classical classifier, over the splits of each group.

    Groups with the same scores, usually since they have the same splits, share a row.
    """
    rows = []
    for name, title in baselines.items():
        found: dict[tuple[str, ...], list[str]] = {}
        for group in groups:
            of_splits = compare_runs.of_baseline(group, name)
            if of_splits:
                values = [[of.get(key) for of in of_splits] for key in keys]
                cells = tuple(_spread([v for v in some if v is not None]) for some in values)
                found.setdefault(cells, []).append(group.name)
        for cells, names in found.items():
            of = f' of {", ".join(names)}' if len(found) > 1 else ''
            rows.append((title + of, dict(zip(keys, cells, strict=True))))
    return rows


def _spread(values: Sequence[float]) -> str:
    return spread(values) if values else NONE


def _differences(first: Group, differences: Differences) -> Table:
    header = ['', 'pairs', 'clips', 'difference', '95 % interval', 'p']
    rows, reasons = [], []
    for name, found in differences.items():
        if isinstance(found, str):
            rows.append([name, '0', *[NONE] * 4])
            reasons.append(f'{name}: {found}.')
            continue
        rows.append(
            [
                name,
                str(len(found.pairs)),
                NONE if found.clips is None else str(found.clips),
                spread(found.pairs, '+'),
                _range(found.interval, '+') if found.interval else NONE,
                NONE if found.p is None else f'{found.p:.2g}',
            ]
        )
    used = Counter(found.method for found in differences.values() if isinstance(found, Difference))
    notes = [text for name, text in METHODS.items() if name in used]
    if used.total() > 1:
        notes.append('The intervals are not corrected for several comparisons.')
    name = metrics.NAMES[first.runs[0].main]
    title = f'{name} minus that of {first.name}, paired, in points'
    return _without_empty(Table(title, header, rows, [*reasons, ' '.join(notes)]))


def _range(bounds: tuple[float, float], sign: str) -> str:
    low, high = bounds
    return f'{100 * low:{sign}.1f} to {100 * high:{sign}.1f}'


def _nats(values: Sequence[float]) -> str:
    if not values:
        return NONE
    mean = f'{np.mean(values):.3f}'
    return f'{mean} ± {np.std(values, ddof=1):.3f}' if len(values) > 1 else mean


def is_number(text: str) -> bool:
    """Whether a cell is flush right."""
    return text == NONE or bool(re.match(r'[+-]?\d+(\.\d+)?(e-\d+)?($| (±|to) )', text))


def as_text(found: Sequence[Table]) -> str:
    """Tables as text that fits 80 columns where possible.

    Folders are cut in their middle. A table that is still too wide becomes one block per row,
    with the columns that have the same value on one line, and without its empty cells.
    """
    return '\n\n'.join('\n'.join(_lines(table)) for table in found)


def _lines(table: Table) -> list[str]:
    lines = textwrap.wrap(table.title, WIDTH)
    rows = [[printable(cell) for cell in row] for row in (table.header, *table.rows)]
    if table.header[-1] == 'folder':
        others = _width([row[:-1] for row in rows]) + 2
        rows = [[*row[:-1], _ends(row[-1], max(WIDTH - others, 24))] for row in rows]
    lines += _aligned(rows) if _width(rows) <= WIDTH else _blocks(rows, table.title == DIFFERS)
    return lines + [line for note in table.notes for line in textwrap.wrap(note, WIDTH)]


def _ends(text: str, at_most: int) -> str:
    """The text, or its beginning and its end around an ellipsis."""
    if columns(text) <= at_most:
        return text
    beginning = shorten(text, at_most // 2)
    return beginning[:-1] + shorten(text[::-1], at_most - columns(beginning) + 1)[::-1]


def _width(rows: Sequence[Sequence[str]]) -> int:
    return sum(_widths(rows)) + 2 * (len(rows[0]) - 1)


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(columns, column)) for column in zip(*rows, strict=True)]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    right = [all(map(is_number, column[1:])) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for text, width, is_right in zip(row, _widths(rows), right, strict=True):
            space = ' ' * (width - columns(text))
            cells.append(space + text if is_right else text + space)
        lines.append('  '.join(cells).rstrip())
    return lines


def _blocks(rows: Sequence[Sequence[str]], with_empty: bool) -> list[str]:
    lines = []
    header, *others = rows
    for name, *cells in others:
        lines.append(f'  {shorten(name, WIDTH - 2)}')
        names: dict[str, list[str]] = {}
        for column, value in zip(header[1:], cells, strict=True):
            if value != NONE or with_empty:
                names.setdefault(value, []).append(column)
        width = max((columns(' '.join(some)) for some in names.values()), default=0)
        if width > WIDTH // 2:
            width = 0
        for value, some in names.items():
            shown = shorten(value, WIDTH - 6 - width)
            lines += textwrap.wrap(
                f'{" ".join(some):{width}}  {shown}',
                WIDTH,
                initial_indent='    ',
                subsequent_indent='      ',
            )
    return lines
