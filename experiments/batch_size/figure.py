"""The figure of `experiments.batch_size`: accuracy against clips per device."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.batch_size.report import NAMES, REFERENCE, accuracies, is_own
from experiments.tables import BASELINE_LINES, BASELINES
from glr_jax.figures import Label, label_ends
from glr_jax.text import counted

LOOKS = {  # Okabe and Ito's colours, which colour-blind people can tell apart; markers for print
    'glr': ('#0072b2', 'o'),
    'glr_layer': ('#56b4e9', 'p'),
    'glr_step': ('#e69f00', 'h'),
    'batch': ('#d55e00', 's'),
    'batch_sync': ('#cc79a7', 'D'),
    'group': ('#009e73', '^'),
    'none': ('#666666', 'v'),
}
BASELINE_INK = '#555555'
APART = 5.0  # points; values that are further below the reference are written beside the line


def draw(results: dict[str, Any]) -> Figure:
    """Accuracy against clips per device; every line has its label and its value at its end.

    Norms whose gradient does not depend on the number of devices are level lines on top of each
    other, so they share a band. Only the reference has a line of its own in it.
    """
    drawn = Figure(figsize=(7.6, 4.4))
    axes = drawn.add_axes((0.075, 0.12, 0.61, 0.77))
    sizes, norms = results['settings']['per_device'], results['settings']['norms']
    labels: list[Label] = []
    steady = [n for n in norms if n in results['independent'] and _shown(results, n).any()]
    if len(steady) > 1:
        means = np.asarray([_means(results, norm)[0] for norm in steady])
        axes.fill_between(
            sizes, np.nanmin(means, 0), np.nanmax(means, 0), color='#999999', alpha=0.3, linewidth=0
        )
    for norm in norms:
        mean = _means(results, norm)[0]
        at = np.flatnonzero(_shown(results, norm))
        if not len(at):
            continue
        color = LOOKS[norm][0]
        last = max(at, key=lambda k: sizes[k])
        end = float(sizes[last]), float(mean[last])
        labels.append(Label(f'{NAMES[norm]} {end[1]:.1f}', end, color))
        if norm not in steady or norm == REFERENCE:
            _line(axes, results, norm, is_level=norm in steady, has_band=len(steady) == 1)
    for name, style in (BASELINE_LINES | {'majority': '-.'}).items():
        level = 100 * float(np.mean([s['accuracy'] for s in results['baselines'][name]]))
        axes.axhline(level, color=BASELINE_INK, linestyle=style, linewidth=0.8, zorder=1)
        labels.append(Label(f'{BASELINES[name]} {level:.1f}', (max(sizes), level), BASELINE_INK))
    axes.set_xscale('log', base=2)
    axes.set_xticks(sizes, map(str, sizes))
    axes.minorticks_off()
    axes.set_ylim(0, None)
    batch = results['settings']['train']['batch_size']
    axes.set_xlabel(f'clips per device ({batch} per step over all devices)')
    axes.set_title('test accuracy, %', loc='left', fontsize=9, color='#444')
    axes.grid(axis='y', color='#eee')
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    label_ends(axes, labels)
    drawn.text(0.01, 0.98, _message(results), fontsize=11, weight='bold', va='top')
    return drawn


def _line(
    axes: Axes, results: dict[str, Any], norm: str, *, is_level: bool, has_band: bool
) -> None:
    """The line of a norm with its spread: a band if it is level, else a bar at each size."""
    sizes = np.asarray(results['settings']['per_device'])
    mean, error = _means(results, norm)
    color, marker = LOOKS[norm]
    own = np.asarray([is_own(results, norm, size) for size in results['settings']['per_device']])
    shown = _shown(results, norm)
    style = '-' if own[shown].all() else '--'
    above = 4 if norm == REFERENCE else 3
    axes.plot(sizes[shown], mean[shown], style, color=color, linewidth=1.8, zorder=above)
    if is_level:
        low, high = (mean - error)[shown], (mean + error)[shown]
        if has_band:
            axes.fill_between(sizes[shown], low, high, color=color, alpha=0.15, linewidth=0)
        axes.plot(sizes[own], mean[own], marker, color=color, markersize=5, zorder=above)
        return
    bars: dict[str, Any] = {'fmt': marker, 'markersize': 5, 'elinewidth': 1, 'capsize': 2}
    axes.errorbar(sizes[own], mean[own], error[own], color=color, zorder=above, **bars)
    reference = _means(results, REFERENCE)[0] if REFERENCE in results['settings']['norms'] else mean
    for size, value in zip(sizes[own], mean[own], strict=True):
        if not value < reference[list(sizes).index(size)] - APART:
            continue
        axes.annotate(
            f'{value:.0f}',
            (size, value),
            (7, -4),
            textcoords='offset points',
            color=color,
            fontsize=9,
            va='top',
            bbox={'facecolor': 'white', 'edgecolor': 'none', 'pad': 0.5},
        )


def _message(results: dict[str, Any]) -> str:
    """What the figure shows, in one line: the norms at the fewest clips per device."""
    size = min(results['settings']['per_device'])
    chosen = [
        n for n in results['settings']['norms'] if n == REFERENCE or n not in results['independent']
    ]
    values = {norm: list(accuracies(results, norm, size).values()) for norm in chosen}
    parts = [f'{NAMES[n]} {100 * np.mean(some):.1f} %' for n, some in values.items() if some]
    return f'With {counted(size, "clip")} per device: {", ".join(parts)}' if parts else ''


def _means(
    results: dict[str, Any], norm: str
) -> tuple[Float[np.ndarray, ' sizes'], Float[np.ndarray, ' sizes']]:
    """Mean and standard deviation of the accuracies at each size, in per cent; NaN without any."""
    values = [
        100 * np.asarray(list(accuracies(results, norm, size).values()))
        for size in results['settings']['per_device']
    ]
    mean = np.asarray([v.mean() if len(v) else np.nan for v in values])
    return mean, np.asarray([v.std(ddof=1) if len(v) > 1 else 0.0 for v in values])


def _shown(results: dict[str, Any], norm: str) -> Bool[np.ndarray, ' sizes']:
    """At which sizes a norm has anything to show."""
    return ~np.isnan(_means(results, norm)[0])
