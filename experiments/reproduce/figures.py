"""The paper's Figures 4 to 9: bars of accuracies, and curves of training."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments import paper
from experiments.reproduce.tables import FLOOR

COLORS = ('#33608c', '#d1603d', '#5a9a68', '#8c6bb1', '#c9a227', '#6e6e6e')
ON_LINE = {'facecolor': 'white', 'edgecolor': 'none', 'pad': 0.5}  # under a label on a line


def write(folder: str, results: dict[str, Any]) -> list[tuple[str, str]]:
    """Writes the figures as PNG; returns the caption and the relative file of each."""
    os.makedirs(os.path.join(folder, 'figures'), exist_ok=True)
    name = paper.dataset_of(results['labels'])
    networks = [run for run in results['runs'] if run['model'] != FLOOR]
    models = list(dict.fromkeys(run['model'] for run in networks))
    proposed = 'proposed' if 'proposed' in models else models[-1]
    baselines = [model for model in models if model != proposed]
    floor = float(
        np.mean([r['scores']['accuracy'] for r in results['runs'] if r['model'] == FLOOR])
    )
    drawn: list[tuple[str, str, Figure]] = []
    if baselines:
        caption = 'Accuracy of the baselines (Figures 4 and 5)'
        drawn.append((caption, 'baselines', _by_iteration(networks, baselines, floor)))
    caption = 'Accuracy of the proposed model (Figure 6)'
    drawn.append((caption, 'proposed', _by_iteration(networks, [proposed], floor)))
    if name:
        caption = 'Proposed model and literature (Figure 7)'
        drawn.append((caption, 'literature', _literature(networks, proposed, name, floor)))
    runs = [run for run in networks if run['model'] == proposed]
    caption = (
        f'Training and validation accuracy of {proposed} (Figures 8 and 9){_of_mixtures(results)}'
    )
    drawn.append((caption, 'curves', _curves(runs)))
    files = []
    for caption, stem, figure in drawn:
        file = os.path.join('figures', f'{stem}.png')
        figure.savefig(os.path.join(folder, file), dpi=150)
        files.append((caption, file))
    return files


def _of_mixtures(results: dict[str, Any]) -> str:
    mixed = results['settings']['train']['mixup'] > 0
    return '; that of training is on mixtures of two clips' if mixed else ''


def _by_iteration(runs: Sequence[dict], models: Sequence[str], floor: float) -> Figure:
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
    _floor(axes, floor)
    axes.set_xticks(range(len(iterations)), [f'Iteration {i}' for i in iterations])
    _tidy(axes)
    return figure


def _literature(runs: Sequence[dict], proposed: str, name: str, floor: float) -> Figure:
    mine = [100 * run['scores']['accuracy'] for run in runs if run['model'] == proposed]
    bars = {who: 100 * value for who, value in paper.LITERATURE[name].items()}
    bars |= {"the paper's own": 100 * paper.MEAN_OF_PROPOSED[name]}
    figure = Figure(figsize=(7, 3.4), layout='constrained')
    axes = figure.subplots()
    names, values = [*bars, 'measured here'], [*bars.values(), float(np.mean(mine))]
    colors = ['#b9c4cf'] * len(bars) + [COLORS[1]]
    drawn = axes.barh(names[::-1], values[::-1], color=colors[::-1])
    axes.bar_label(drawn, fmt='%.1f', fontsize=8, padding=3, bbox=ON_LINE)
    axes.axvline(100 * floor, color='#666', linestyle=':', zorder=0, label='SVM floor')
    axes.legend(frameon=False, loc='upper center', bbox_to_anchor=(0.5, 1.12), fontsize=8)
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
            ('accuracy', COLORS[0], 'train'),
            ('validation_accuracy', COLORS[1], 'validation'),
        ):
            axes.plot(at, [100 * row[key] for row in run['epochs']], color=color, label=label)
        axes.set_xlim(0, at[-1] + 1)
        axes.set_title(f'({"abcdefghij"[k]}) Iteration {run["iteration"]}', loc='left', fontsize=10)
        axes.set_xlabel('epoch')
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _tidy(axes, label='accuracy, %' if k == 0 else '')
        axes.legend(frameon=False, loc='lower right', fontsize=8)
    return figure


def _floor(axes: Axes, floor: float) -> None:
    axes.axhline(100 * floor, color='#666', linestyle=':', zorder=0, label='SVM floor')


def _tidy(axes: Axes, label: str = 'accuracy, %') -> None:
    axes.set_ylim(0, 105)
    axes.set_ylabel(label)
    axes.grid(axis='y', color='#eee')
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(frameon=False, ncols=7, loc='upper center', bbox_to_anchor=(0.5, 1.14), fontsize=8)
