"""The report of a run as one HTML page: scores and figures, nothing loaded from elsewhere."""

import html
import io
import os
import warnings
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from glr_jax.config import Config
from glr_jax.text import printable, shorten

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin-top: 2rem; }
p { margin: .4rem 0; } .muted { color: #666; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .9rem .2rem 0; text-align: right; border-bottom: 1px solid #e4e4e4; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; }
thead th { color: #666; font-weight: 500; }
svg { max-width: 100%; height: auto; } code { font-size: .92em; }
"""
INK, ACCENT = '#33608c', '#d1603d'
LONGEST = 30  # columns of a label in a figure; the table has the whole label


def page(
    scores: dict[str, Any], headline: str, config: Config, epochs: list[dict[str, Any]]
) -> str:
    """The page, as HTML.

    Args:
      scores: as in `metrics.json`.
      headline: the main scores in one sentence.
      config: of the run; of a folder of runs, that of the first.
      epochs: rows of its `metrics.jsonl`.
    """
    rows = ''.join(
        f'<tr><td>{_plain(label)}</td><td>{row["precision"]:.3f}</td>'
        f'<td>{row["recall"]:.3f}</td><td>{row["f1"]:.3f}</td><td>{row["support"]}</td></tr>'
        for label, row in scores['per_class'].items()
    )
    title = _plain(os.path.basename(os.path.normpath(config.workdir)))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}: report</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{STYLE}</style></head><body>
<h1>{title}</h1>
<p class="muted">{_origin(scores, config, epochs)};
data: <code>{_plain(scores['dataset'])}</code></p>
<p><strong>{_plain(headline)}</strong></p>
<h2>Labels</h2>
<table><thead><tr><th></th><th>precision</th><th>recall</th><th>F1</th><th>clips</th></tr></thead>
<tbody>{rows}<tr><td><em>mean</em></td><td>{scores['precision']:.3f}</td>
<td>{scores['recall']:.3f}</td><td>{scores['macro_f1']:.3f}</td><td>{scores['num_clips']}</td></tr>
</tbody></table>
<h2>Confusion</h2>
{_confusion(scores)}
<h2>Training</h2>
{_curves(epochs) if epochs else '<p>no epochs logged</p>'}
</body></html>
"""


def _plain(text: str) -> str:
    """A text as HTML that shows it and nothing else."""
    return html.escape(printable(text))


def _origin(scores: dict[str, Any], config: Config, epochs: list[dict[str, Any]]) -> str:
    """The network and its training in one sentence, or the runs that are averaged."""
    if 'runs' in scores:
        names = (_plain(f'{run["workdir"]} ({run["accuracy"]:.3f})') for run in scores['runs'])
        return f'mean of the probabilities of {len(scores["runs"])} runs: {", ".join(names)}'
    model, train = config.model, config.train
    front = f'{model.conv} convolution' if model.front == 'conv' else f'front end {model.front}'
    # Patience, a time limit or a minimum of steps may have changed the number.
    count = epochs[-1]['epoch'] if epochs else train.epochs
    return f"""{html.escape(model.kind)} with {html.escape(model.norm)}, {front},
{model.cell} cell; {count} epochs at batch {train.batch_size}; best checkpoint: step
{scores['step']}"""


def _confusion(scores: dict[str, Any]) -> str:
    counts, labels = np.asarray(scores['confusion']), scores['labels']
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    size = 2.2 + 0.42 * len(labels)
    names = [shorten(printable(label), LONGEST) for label in labels]
    figure = Figure(figsize=(size + 0.6, size), layout='constrained')
    axes = figure.subplots()
    axes.imshow(share, cmap='Blues', vmin=0, vmax=1)
    turned = {'rotation': 45, 'ha': 'right', 'rotation_mode': 'anchor'}
    axes.set_xticks(range(len(labels)), names, **turned, parse_math=False)  # type: ignore[arg-type]
    axes.set_yticks(range(len(labels)), names, parse_math=False)
    axes.set_xlabel('decided')
    axes.set_ylabel('true')
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(length=0)
    if len(labels) <= 30:
        for row, column in np.argwhere(counts > 0):
            ink = 'white' if share[row, column] > 0.55 else '#333'
            axes.text(column, row, counts[row, column], ha='center', va='center', color=ink)
    return _svg(figure)


def _curves(epochs: list[dict[str, Any]]) -> str:
    figure = Figure(figsize=(9, 3.2), layout='constrained')
    at = [row['epoch'] for row in epochs]
    for axes, name in zip(figure.subplots(1, 2), ('accuracy', 'loss'), strict=True):
        axes.plot(at, [row[name] for row in epochs], color=INK, label='train')
        axes.plot(
            at, [row[f'validation_{name}'] for row in epochs], color=ACCENT, label='validation'
        )
        axes.set_xlabel('epoch')
        axes.set_title(name, loc='left', fontsize=11)
        axes.set_ylim(*((0, 1.02) if name == 'accuracy' else (0, None)))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis='y', color='#eee')
        axes.spines[['top', 'right']].set_visible(False)
        axes.legend(frameon=False)
    return _svg(figure)


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    options: Any = {'svg.fonttype': 'none', 'svg.hashsalt': 'report', 'text.usetex': False}
    with matplotlib.rc_context(options), warnings.catch_warnings():
        # The reader's browser has other fonts.
        warnings.filterwarnings('ignore', message='Glyph .* missing from font')
        figure.savefig(buffer, format='svg', metadata={'Date': None})
    return buffer.getvalue()[buffer.getvalue().index('<svg') :]
