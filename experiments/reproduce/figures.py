"""The paper's Figures 4 to 9: bar charts of accuracies, and learning curves."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments import paper
from experiments.tables import BASELINE_LINES, BASELINES
from glr_jax import figures

COLORS = ('#33608c', '#d1603d', '#5a9a68', '#8c6bb1', '#c9a227', '#6e6e6e')
ON_LINE = {'facecolor': 'white', 'edgecolor': 'none', 'pad': 0.5}  # under a number on a line


def write(folder: str, results: dict[str, Any]) -> list[tuple[str, str]]:
    """Writes the figures as PNG.

    Args:
      folder: of the study; the files go to `figures` in it.
      results: of `experiments.reproduce`.

    Returns:
      The caption of each figure, and its file relative to `folder`.
    """
    os.makedirs(os.path.join(folder, 'figures'), exist_ok=True)
    name = paper.dataset_of(results['labels'])
    networks = [run for run in results['runs'] if run['model'] not in BASELINES]
    models = list(dict.fromkeys(run['model'] for run in networks))
    proposed = 'proposed' if 'proposed' in models else models[-1]
    baselines = [model for model in models if model != proposed]
    levels = {
        name: 100
        * np.mean([r['scores']['accuracy'] for r in results['runs'] if r['model'] == name])
        for name in BASELINE_LINES
    }
    drawn: list[tuple[str, str, Figure]] = []
    if baselines:
        caption = "Accuracy of the paper's baselines (Figures 4 and 5)"
        drawn.append((caption, 'baselines', _by_iteration(networks, baselines, levels)))
    caption = 'Accuracy of the proposed model (Figure 6)'
    drawn.append((caption, 'proposed', _by_iteration(networks, [proposed], levels)))
    if name:
        caption = 'Proposed model and literature (Figure 7)'
        drawn.append((caption, 'literature', _literature(networks, proposed, name, levels)))
    runs = [run for run in networks if run['model'] == proposed]
    caption = f'Training and validation accuracy of {proposed} (Figures 8 and 9)'
    if results['settings']['train']['mixup'] > 0:
        caption += '; training accuracy is on mixtures of two clips'
    drawn.append((caption, 'curves', _curves(runs)))
    files = []
    for caption, stem, figure in drawn:
        file = os.path.join('figures', f'{stem}.png')
        figures.save(figure, os.path.join(folder, file), dpi=150)
        files.append((caption, file))
    return files


def _by_iteration(
    runs: Sequence[dict], models: Sequence[str], levels: Mapping[str, float]
) -> Figure:
    iterations = sorted({run['iteration'] for run in runs})
    figure = Figure(figsize=(max(7.0, 1.4 + 0.45 * len(models) * len(iterations)), 3.4))
    figure.set_layout_engine('constrained')
    axes, width = figure.subplots(), 0.8 / len(models)
    for k, model in enumerate(models):
        accuracies = [
            100 * run['scores']['accuracy']
            for i in iterations
            for run in runs
            if (run['model'], run['iteration']) == (model, i)
        ]
        at = np.arange(len(iterations)) + (k - (len(models) - 1) / 2) * width
        bars = axes.bar(at, accuracies, 0.92 * width, color=COLORS[k % len(COLORS)], label=model)
        axes.bar_label(bars, fmt='%.1f', fontsize=8, padding=2, bbox=ON_LINE)
    for baseline, level in levels.items():
        axes.axhline(level, **_line(baseline))
    axes.set_xticks(range(len(iterations)), [f'Iteration {i}' for i in iterations])
    _tidy(axes)
    return figure


def _literature(
    runs: Sequence[dict], proposed: str, name: str, levels: Mapping[str, float]
) -> Figure:
    mine = [100 * run['scores']['accuracy'] for run in runs if run['model'] == proposed]
    bars = {who: 100 * value for who, value in paper.LITERATURE[name].items()}
    bars |= {'proposed, in the paper': 100 * paper.MEAN_OF_PROPOSED[name]}
    figure = Figure(figsize=(7, 3.4), layout='constrained')
    axes = figure.subplots()
    names = [*bars, f'{proposed}, measured here']
    values = [*bars.values(), float(np.mean(mine))]
    colors = ['#b9c4cf'] * len(bars) + [COLORS[1]]
    drawn = axes.barh(names[::-1], values[::-1], color=colors[::-1])
    axes.bar_label(drawn, fmt='%.1f', fontsize=8, padding=3, bbox=ON_LINE)
    for baseline, level in levels.items():
        axes.axvline(level, **_line(baseline))
    axes.legend(frameon=False, ncols=2, loc='upper center', bbox_to_anchor=(0.5, 1.12), fontsize=8)
    axes.set_xlim(0, 100)
    axes.set_xlabel('accuracy, %')
    axes.spines[['top', 'right']].set_visible(False)
    return figure


def _curves(runs: Sequence[dict]) -> Figure:
    figure = Figure(figsize=(3.4 * len(runs), 3.2), layout='constrained')
    for k, (axes, run) in enumerate(
        zip(figure.subplots(1, len(runs), sharey=True, squeeze=False)[0], runs, strict=True)
    ):
        at = [row['epoch'] for row in run['epochs']]
        for key, color, label in (
            ('accuracy', COLORS[0], 'training'),
            ('validation_accuracy', COLORS[1], 'validation'),
        ):
            axes.plot(at, [100 * row[key] for row in run['epochs']], color=color, label=label)
        axes.set_xlim(0, at[-1] + 1)
        axes.set_title(
            f'({chr(ord("a") + k)}) Iteration {run["iteration"]}', loc='left', fontsize=10
        )
        axes.set_xlabel('epoch')
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _tidy(axes, label='accuracy, %' if k == 0 else '')
        axes.legend(frameon=False, loc='lower right', fontsize=8)
    return figure


def _line(baseline: str) -> dict[str, Any]:
    """The looks of a baseline's line."""
    style = BASELINE_LINES[baseline]
    return {'color': '#666', 'linestyle': style, 'zorder': 0, 'label': BASELINES[baseline]}


def _tidy(axes: Axes, label: str = 'accuracy, %') -> None:
    axes.set_ylim(0, 105)
    axes.set_ylabel(label)
    axes.grid(axis='y', color='#eee')
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(frameon=False, ncols=7, loc='upper center', bbox_to_anchor=(0.5, 1.14), fontsize=8)
