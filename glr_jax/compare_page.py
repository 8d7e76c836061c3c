"""The page of `glr_jax.compare`: its tables and the learning curves, nothing loaded elsewhere."""

import html
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from glr_jax import figures
from glr_jax.compare_runs import Group
from glr_jax.compare_tables import Table, is_number
from glr_jax.figures import Label
from glr_jax.text import printable

STYLE = """
:root { color-scheme: light dark; --ink: #222; --muted: #666; --line: #e0e0e0; --paper: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --muted: #a5a5a5; --line: #3c3c3c; --paper: #191919; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
       max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .4rem; }
h2::first-letter { text-transform: uppercase; }
p { margin: .4rem 0; } .muted { color: var(--muted); font-size: .92em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem 1.1rem .2rem 0; text-align: left; border-bottom: 1px solid var(--line);
         vertical-align: top; max-width: 26rem; overflow-wrap: anywhere; }
th { color: var(--muted); font-weight: 500; }
.number { text-align: right; white-space: nowrap; }
.key { display: inline-block; width: 1.6em; margin-right: .5em; vertical-align: middle;
       border-top: 3px solid; }
svg { max-width: 100%; height: auto; }
@media print { body { margin: 0; max-width: none; } }
"""
INK = '#000000'  # in the SVG; the page has its own colour for it
FAINT = 0.3  # opacity of single runs
CURVES = {'accuracy': 'validation accuracy, %', 'loss': 'validation loss'}
STEEP = 20.0  # a loss that falls by more than this factor gets a logarithmic axis
BORDERS = {'-': 'solid', '--': 'dashed', ':': 'dotted', '-.': 'dashed'}


def page(groups: Sequence[Group], tables: Sequence[Table]) -> str:
    """The page, as HTML.

    Args:
      groups: of runs.
      tables: of the comparison.
    """
    keys = {group.name: _key(number) for number, group in enumerate(groups)}
    parts = [_table(table, keys) for table in tables]
    title = ' and '.join(_plain(group.runs[0].workdir) for group in groups[:2])
    more = f' and {len(groups) - 2} more' if len(groups) > 2 else ''
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Comparison: {title}{more}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{STYLE}</style></head><body>
<h1>Comparison of runs</h1>
{parts[0]}
<h2>learning curves</h2>
{_curves(groups)}
{''.join(parts[1:])}
</body></html>
"""


def _plain(text: str) -> str:
    """A text as HTML that shows it and nothing else."""
    return html.escape(printable(text))


def _key(number: int) -> str:
    """The line of a group, to stand before its name."""
    look = figures.look(number)
    style = f'border-color: {look["color"]}; border-top-style: {BORDERS[look["linestyle"]]}'
    return f'<span class="key" style="{style}"></span>'


def _table(table: Table, keys: dict[str, str]) -> str:
    columns = list(zip(*table.rows, strict=True))
    kinds = [' class="number"' if all(map(is_number, column)) else '' for column in columns]
    cell = lambda text: keys.get(text, '') + _plain(text)
    head = ''.join(f'<th{k}>{cell(x)}</th>' for k, x in zip(kinds, table.header, strict=True))
    rows = ''.join(
        '<tr>'
        + ''.join(f'<td{k}>{cell(x)}</td>' for k, x in zip(kinds, row, strict=True))
        + '</tr>'
        for row in table.rows
    )
    notes = ''.join(f'<p class="muted">{_plain(note)}</p>' for note in table.notes if note)
    return (
        f'<h2>{_plain(table.title)}</h2>\n<div class="wide"><table><thead><tr>{head}</tr></thead>'
        f'<tbody>{rows}</tbody></table></div>{notes}\n'
    )


def _curves(groups: Sequence[Group]) -> str:
    """Validation accuracy and loss over the epochs, one line per group."""
    if not any(run.epochs for group in groups for run in group.runs):
        return '<p>no epochs logged</p>'
    figure = Figure(figsize=(9.6, 3.8))
    figure.subplots_adjust(left=0.06, right=0.95, wspace=0.24, top=0.9, bottom=0.14)
    for axes, (name, title) in zip(figure.subplots(1, 2), CURVES.items(), strict=True):
        _draw(axes, groups, name)
        axes.set_title(title, loc='left', fontsize=11)
    several = any(len(group.runs) > 1 for group in groups)
    note = 'Thick lines are means over the runs of a group, thin ones single runs.'
    drawn = figures.svg(figure).replace(INK, 'currentColor')
    return drawn + (f'<p class="muted">{note}</p>' if several else '')


def _draw(axes: Axes, groups: Sequence[Group], name: str) -> None:
    scale = 100 if name == 'accuracy' else 1
    labels, least, most = [], np.inf, 0.0
    for number, group in enumerate(groups):
        look = figures.look(number)
        runs = [run for run in group.runs if run.epochs]
        lines = [scale * np.asarray([e[f'validation_{name}'] for e in r.epochs]) for r in runs]
        if not lines:
            continue
        for run, line in zip(runs, lines, strict=True):
            if len(lines) > 1:
                at = [row['epoch'] for row in run.epochs]
                axes.plot(at, line, linewidth=0.8, alpha=FAINT, **look)
        mean = _mean(lines)
        at = [row['epoch'] for row in runs[0].epochs][: len(mean)]
        dot = {'marker': 'o', 'markersize': 4} if len(at) == 1 else {}
        axes.plot(at, mean, linewidth=1.8, **look, **dot)
        labels.append(Label(group.name, float(mean[-1]), look['color']))
        least, most = min(least, float(mean.min())), max(most, float(mean.max()))
    if name == 'loss' and 0 < least * STEEP < most:
        axes.set_yscale('log')
    axes.set_xlabel('epoch')
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.02)
    axes.grid(axis='y', color='#888', alpha=0.25)
    axes.spines[['top', 'right']].set_visible(False)
    if len(labels) <= 2 * len(figures.COLORS):  # more do not fit
        figures.label_ends(axes, labels)


def _mean(lines: Sequence[Float[np.ndarray, ' _']]) -> Float[np.ndarray, ' epochs']:
    """The mean of curves, up to the end of the shortest."""
    epochs = min(map(len, lines))
    return np.mean([line[:epochs] for line in lines], axis=0)
