"""The page of `glr_jax.compare`: its tables and the learning curves, nothing loaded elsewhere."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from glr_jax import compare_runs, figures, metrics
from glr_jax.compare_runs import Group
from glr_jax.compare_tables import Table, is_number
from glr_jax.figures import Label
from glr_jax.page.markup import Cell, document, plain, table
from glr_jax.text import columns, printable

STYLE = """
.group { white-space: nowrap; margin-right: .7em; }
.group span { display: inline-block; width: 1.6em; margin-right: .4em; vertical-align: middle;
  border-top: 3px solid; }
h2::first-letter { text-transform: uppercase; }
"""
INK = '#000000'  # in the SVG; the page has its own colour for it
MANY = 6  # groups; flags are then listed by value
MOST_LABELS = 10  # beside lines, for there is room
LONGEST = 18  # columns of such a label
FAINT = 0.3  # opacity of single runs
STEEP = 20.0  # a loss that falls by more than this factor gets a logarithmic axis
BORDERS = {'-': 'solid', '--': 'dashed', ':': 'dotted', '-.': 'dashed'}


def page(groups: Sequence[Group], tables: Sequence[Table]) -> str:
    """The page, as HTML.

    Args:
      groups: of runs.
      tables: of the comparison.
    """
    keys = {group.name: _key(group.name, number) for number, group in enumerate(groups)}
    first, *others = (_table(_by_value(found, keys), keys) for found in tables)
    title = ' and '.join(group.runs[0].workdir for group in groups[:2])
    more = f' and {len(groups) - 2} more' if len(groups) > 2 else ''
    curves = f'<h2>learning curves</h2>\n{_curves(groups)}'
    body = [f'<style>{STYLE}</style>', '<h1>Comparison of runs</h1>', first, curves, *others]
    return document(f'Comparison: {title}{more}', '\n'.join(body))


def _key(name: str, number: int) -> str:
    """The name of a group, behind its line."""
    look = figures.look(number)
    style = f'border-color: {look["color"]}; border-top-style: {BORDERS[look["linestyle"]]}'
    return f'<span class="group"><span style="{style}"></span>{name}</span>'


def _by_value(table: Table, keys: dict[str, str]) -> Table:
    """A table with a column for each of many groups, as one with a row per value instead."""
    if len(table.header) <= MANY + 1 or not all(name in keys for name in table.header[1:]):
        return table
    rows = []
    for name, *cells in table.rows:
        groups: dict[str, list[str]] = {}
        for group, value in zip(table.header[1:], cells, strict=True):
            groups.setdefault(value, []).append(group)
        for number, (value, names) in enumerate(groups.items()):
            rows.append(['' if number else name, value, ' '.join(names)])
    return table._replace(header=['', 'value', 'groups'], rows=rows)


def _table(found: Table, keys: dict[str, str]) -> str:
    def shown(text: str) -> str:
        words = text.split(' ')
        return ''.join(keys[w] for w in words) if set(words) <= keys.keys() else plain(text)

    # The other tables have a flag in each row.
    of_groups = any(row[0] in keys for row in found.rows)
    numeric = [
        of_groups and all(map(is_number, column)) for column in zip(*found.rows, strict=True)
    ]
    rows = [
        [
            Cell(shown(text), _number(text) if n else None)
            for text, n in zip(row, numeric, strict=True)
        ]
        for row in found.rows
    ]
    notes = ''.join(f'<p class="muted">{plain(note)}</p>' for note in found.notes if note)
    drawn = table([shown(text) for text in found.header], rows, sortable=of_groups)
    return f'<h2>{plain(found.title)}</h2>\n{drawn}{notes}\n'


def _number(text: str) -> float | None:
    """The first number of a cell."""
    found = re.match(r'[+-]?[\d.]+(e-\d+)?', text)
    return float(found[0]) if found else None


def _curves(groups: Sequence[Group]) -> str:
    """The main validation score and loss over the epochs, one line per group."""
    if not any(run.epochs for group in groups for run in group.runs):
        return '<p>no epochs logged</p>'
    drawn, names = [], _names(groups)
    main = groups[0].runs[0].main
    titles = {main: f'validation {metrics.NAMES[main]}, %', 'loss': 'validation loss'}
    for name, title in titles.items():
        figure = Figure(figsize=(4.9, 3.7))
        # The margin at the right is for the labels: 0.016 of the width per column.
        axes = figure.add_axes((0.1, 0.13, 0.84 - 0.016 * max(map(columns, names)), 0.78))
        _draw(axes, groups, name, names if len(groups) <= MOST_LABELS else [])
        axes.set_title(title, loc='left', fontsize=11)
        drawn.append(figures.svg(figure).replace(INK, 'currentColor'))
    several = any(len(group.runs) > 1 for group in groups)
    note = 'Thick lines are means over the runs of a group, thin ones single runs.'
    curves = f'<div class="charts">{"".join(drawn)}</div>'
    return curves + (f'<p class="muted">{note}</p>' if several else '')


def _names(groups: Sequence[Group]) -> list[str]:
    """The groups' names, with the flags that differ if these are short."""
    flags = zip(*compare_runs.differing(groups).values(), strict=True)
    values = [', '.join(filter(None, map(printable, some))) for some in flags]
    letters = [group.name for group in groups]
    full = [f'{letter} {value}' for letter, value in zip(letters, values or letters, strict=True)]
    return full if values and max(map(columns, full)) <= LONGEST else letters


def _draw(axes: Axes, groups: Sequence[Group], name: str, names: Sequence[str]) -> None:
    """Draws the curves of a score; without names, its lines have no labels."""
    scale = 1 if name == 'loss' else 100
    labels, least, most = [], np.inf, 0.0
    for number, group in enumerate(groups):
        look = figures.look(number)
        runs = [run for run in group.runs if run.epochs]
        lines = [scale * _values(run.epochs, f'validation_{name}') for run in runs]
        if not any(np.isfinite(line).any() for line in lines):
            continue
        for run, line in zip(runs, lines, strict=True):
            if len(lines) > 1:
                at = [row['epoch'] for row in run.epochs]
                axes.plot(at, line, linewidth=0.8, alpha=FAINT, **look)
        mean = _mean(lines)
        at = [row['epoch'] for row in runs[0].epochs][: len(mean)]
        marker = 'o' if len(at) == 1 else ''
        axes.plot(at, mean, linewidth=1.8, marker=marker, **look)
        if np.isfinite(mean[-1]):
            text = names[number] if names else ''
            labels.append(Label(text, (at[-1], float(mean[-1])), look['color']))
        least, most = min(least, float(np.nanmin(mean))), max(most, float(np.nanmax(mean)))
    if name == 'loss' and 0 < least * STEEP < most:
        axes.set_yscale('log')
    axes.set_xlabel('epoch')
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.02)
    axes.grid(axis='y', color='#888', alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)
    if names:
        figures.label_ends(axes, labels)


def _values(epochs: Sequence[dict[str, Any]], name: str) -> Float[np.ndarray, ' epochs']:
    """A score of each epoch, NaN where it is not defined."""
    found = [row.get(name) for row in epochs]
    return np.asarray([np.nan if value is None else value for value in found], np.float64)


def _mean(lines: Sequence[Float[np.ndarray, ' _']]) -> Float[np.ndarray, ' epochs']:
    """The mean of curves, up to the end of the shortest."""
    epochs = min(map(len, lines))
    return np.mean([line[:epochs] for line in lines], axis=0)
