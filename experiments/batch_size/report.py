"""The report of `experiments.batch_size`: tables, sentences, and the figure."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments.tables import baseline_table, markdown
from glr_jax.text import counted
from glr_jax.uncertainty import spread

REFERENCE = 'glr'
NAMES = {
    'glr': 'GLR',
    'glr_layer': 'GLR over the whole layer',
    'glr_step': 'GLR over each time step',
    'batch': 'per-device batch norm',
    'batch_sync': 'synchronised batch norm',
    'group': 'group norm',
    'none': 'no norm',
}


def document(results: dict[str, Any], figure_file: str) -> str:
    """The whole report."""
    title = f'# Clips per device: {results["dataset"]}'
    caption = 'Test accuracy against clips per device'
    return f'{title}\n\n{tables(results)}\n\n![{caption}]({figure_file})\n'


def tables(results: dict[str, Any]) -> str:
    """The report without its title and figure."""
    settings, batch = results['settings'], results['settings']['train']['batch_size']
    devices = [str(batch // size) for size in _sizes(results)]
    parts = [
        f'{counted(batch, "clip")} per step, shared by {", ".join(devices)} '
        f'device{"" if devices == ["1"] else "s"}; '
        f'{counted(settings["train"]["epochs"], "epoch")}, '
        f'segments of {settings["data"]["frames"]} frames, {results["clips"]} clips; '
        f'{results["hardware"]}.',
        '## Test accuracy in per cent, by clips per device',
        accuracy(results),
        f'Mean ± standard deviation over iterations (split and seed). {_stand_ins(results)}'
        f'{_changes(results)}Without a network, on the same clips:',
        baseline_table(results['baselines']),
        f'## Accuracy minus that of {NAMES[REFERENCE]}, in points, paired by iteration',
        differences(results),
        verdict(results),
        '## Deviation of the gradient from the gradient on one device',
        _step_table(results, lambda step: f'{step["deviation"]:.1g}'),
        '|g − g₁| / |g₁| of the whole batch, at the first step, with the same weights, clips and '
        'dropout.',
        '## Milliseconds per step',
        _step_table(results, lambda step: f'{1e3 * step["seconds"]:.0f}'),
        'Medians; at each size, the norms were timed in turns. If the devices are simulated, '
        'compare only values in the same column, since simulated devices share the CPU cores.',
        '## Exchanges per device and step',
        exchange(results),
    ]
    return '\n\n'.join(part for part in parts if part)


def accuracy(results: dict[str, Any]) -> str:
    """One row per norm, one column per size; values that stand in for another size in brackets."""
    rows = []
    for norm in _norms(results):
        cells = []
        for size in _sizes(results):
            cell = _cell(results, accuracies(results, norm, size))
            cells.append(cell if is_own(results, norm, size) or not cell else f'({cell})')
        rows.append([NAMES[norm], *cells])
    return markdown(['', *map(str, _sizes(results))], rows)


def differences(results: dict[str, Any]) -> str:
    """Accuracy of each norm minus GLR's, paired by iteration."""
    rows = []
    for norm in _norms(results):
        if norm != REFERENCE:
            paired = [_differences(results, norm, size) for size in _sizes(results)]
            cells = [_cell(results, values, '+') for values in paired]
            rows.append([NAMES[norm], *cells])
    return markdown(['', *map(str, _sizes(results))], rows)


def verdict(results: dict[str, Any]) -> str:
    """Says at which sizes batch norm is better than GLR, and at which it is not."""
    sentences = []
    for norm in ('batch', 'batch_sync'):
        trained = [size for size in _sizes(results) if is_own(results, norm, size)]
        every = norm in results['independent'] and len(trained) == 1
        places: dict[str, list[str]] = {'ahead of': [], 'behind': [], 'level with': []}
        for size in trained:
            points = list(_differences(results, norm, size).values())
            if len(points) > 1:
                clear = abs(np.mean(points)) > np.std(points, ddof=1)
                where = ('behind', 'ahead of')[int(np.mean(points) > 0)] if clear else 'level with'
                at = 'any size' if every else size
                places[where].append(f'{at} ({spread(points, sign="+")})')
        found = [
            f'{where} {NAMES[REFERENCE]} at {", ".join(sizes)}'
            for where, sizes in places.items()
            if sizes
        ]
        if found:
            unit = '' if every else ' clips per device'
            sentences.append(f'{NAMES[norm].capitalize()} is {"; ".join(found)}{unit}.')
    if not sentences:
        return ''
    count = len(results['settings']['iterations'])
    return ' '.join(sentences) + (
        ' "Level" means that the mean difference is smaller than its standard deviation '
        f'(n = {count}).'
    )


def exchange(results: dict[str, Any]) -> str:
    """All-reduces per step and their size, on the most devices; fewer devices exchange the same."""
    smallest = min(_sizes(results))
    rows = [
        [NAMES[step['norm']], str(step['all_reduces']), f'{step["bytes"] / 1024:.1f}']
        for step in results['steps']
        if step['per_device'] == smallest
    ]
    return markdown(['', 'all-reduces', 'KiB'], rows)


def _trained(results: dict[str, Any], norm: str, size: int) -> dict[int, float]:
    """Accuracy of each iteration that was trained at this size."""
    return {
        run['iteration']: run['scores']['accuracy']
        for run in results['runs']
        if (run['norm'], run['per_device']) == (norm, size)
    }


def is_own(results: dict[str, Any], norm: str, size: int) -> bool:
    """Whether a size is shown with its own runs; the largest size stands in for incomplete ones."""
    count = len(_trained(results, norm, size))
    has_stand_in = norm in results['independent'] and size != max(_sizes(results))
    return count == len(results['settings']['iterations']) or (count > 0 and not has_stand_in)


def accuracies(results: dict[str, Any], norm: str, size: int) -> dict[int, float]:
    """Accuracies to show at a size: its own, or those of the largest size as a stand-in."""
    if is_own(results, norm, size) or norm not in results['independent']:
        return _trained(results, norm, size)
    return _trained(results, norm, max(_sizes(results)))


def _differences(results: dict[str, Any], norm: str, size: int) -> dict[int, float]:
    mine, other = (accuracies(results, name, size) for name in (norm, REFERENCE))
    return {k: mine[k] - other[k] for k in mine if k in other}


def _stand_ins(results: dict[str, Any]) -> str:
    cells = [(n, s) for n in _norms(results) for s in _sizes(results)]
    if all(is_own(results, *c) or not accuracies(results, *c) for c in cells):
        return ''
    return (
        'In brackets (dashed lines in the figure): not trained at this size. The gradient is the '
        f'same up to float rounding, so the runs at {max(_sizes(results))} are shown instead. '
    )


def _changes(results: dict[str, Any]) -> str:
    """How much accuracy changes between sizes where the gradient does not depend on them."""
    most = {}
    for norm in results['independent']:
        sizes = [s for s in _sizes(results) if is_own(results, norm, s)]
        at = [_trained(results, norm, size) for size in sizes]
        if len(sizes) > 1:
            runs = zip(*(accuracies.values() for accuracies in at), strict=True)
            most[norm] = 100 * max(max(values) - min(values) for values in runs)
    if not most:
        return ''
    parts = ', '.join(f'{NAMES[norm]} {points:.1f}' for norm, points in most.items())
    return (
        'Even where the gradient does not depend on the size, the accuracy of an iteration can '
        'differ between sizes, since training amplifies float rounding. The largest differences '
        f'in points: {parts}. '
    )


def _step_table(results: dict[str, Any], show: Callable[[dict[str, Any]], str]) -> str:
    cells = {(step['norm'], step['per_device']): show(step) for step in results['steps']}
    sizes = _sizes(results)
    rows = [[NAMES[norm], *(cells[norm, size] for size in sizes)] for norm in _norms(results)]
    return markdown(['', *map(str, sizes)], rows)


def _cell(results: dict[str, Any], values: dict[int, float], sign: str = '') -> str:
    if not values:
        return ''
    short = len(values) < len(results['settings']['iterations'])
    return spread(values.values(), sign) + (f', n = {len(values)}' if short else '')


def _norms(results: dict[str, Any]) -> Sequence[str]:
    return results['settings']['norms']


def _sizes(results: dict[str, Any]) -> Sequence[int]:
    return results['settings']['per_device']
