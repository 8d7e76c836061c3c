"""The report of `experiments.crossvalidate`, as Markdown."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.tables import BASELINES, markdown
from glr_jax.compare_runs import FEWEST
from glr_jax.text import counted, printable, shorten
from glr_jax.uncertainty import spread, t_interval

STRONG = next(iter(BASELINES))
SHORT = {'svm_statistics': 'SVM', 'svm': 'SVM on levels', 'majority': 'majority'}  # in the table
LONGEST = 20  # columns of a split's name
WIDTH = 100  # columns of a line


def document(results: Mapping[str, Any]) -> str:
    """The whole report.

    Args:
      results: of `experiments.crossvalidate`.
    """
    runs, splits = results['runs'], results['splits']
    minutes = [run['minutes'] for run in runs]
    parts = [
        f'# Cross-validation: {results["dataset"]}',
        _wrapped(
            f'{counted(len(runs), "run")} on {counted(len(splits), "split")}; '
            f'{results["clips"]} clips, {len(results["labels"])} labels; {results["hardware"]}; '
            f'{np.mean(minutes):.1f} minutes per run.'
        ),
        *_warnings(runs),
        '## Test accuracy in per cent',
        table(results, 'accuracy'),
        _wrapped(verdict(results)),
        '## Macro-F1 in per cent',
        table(results, 'macro_f1'),
    ]
    if 'against' in results:
        parts += ['## Compared with another cross-validation', against(results['against'])]
    return '\n\n'.join(parts) + '\n'


def table(results: Mapping[str, Any], key: str) -> str:
    """One row per split: mean over seeds, the baselines, the difference from the strong SVM.

    It is at most 100 columns wide.

    Args:
      results: of the study.
      key: accuracy or macro_f1.
    """
    header = ['split', 'runs', 'network', *SHORT.values(), f'network − {SHORT[STRONG]}']
    rows = []
    for split in results['splits']:
        values = _of_split(results, split, key)
        floor = results['baselines'][split]
        gains = [value - floor[STRONG][key] for value in values]
        rows.append(
            [
                shorten(printable(split), LONGEST),
                str(len(values)),
                spread(values),
                *(spread([floor[name][key]]) for name in BASELINES),
                spread(gains, '+'),
            ]
        )
    floors = [
        spread([results['baselines'][split][name][key] for split in results['splits']])
        for name in BASELINES
    ]
    every = [run['scores'][key] for run in results['runs']]
    all_gains = spread(differences(results, key), '+')
    rows.append(['mean ± std', str(len(every)), spread(every), *floors, all_gains])
    return markdown(header, rows)


def differences(results: Mapping[str, Any], key: str = 'accuracy') -> list[float]:
    """Network minus strong SVM: per split, the mean over seeds; if there is one split, per seed."""
    splits = results['splits']
    gains = {
        split: [
            value - results['baselines'][split][STRONG][key]
            for value in _of_split(results, split, key)
        ]
        for split in splits
    }
    return (
        [float(np.mean(gains[split])) for split in splits] if len(splits) > 1 else gains[splits[0]]
    )


def verdict(results: Mapping[str, Any]) -> str:
    """The paired difference from the strong SVM in one sentence, with its interval."""
    points = differences(results)
    several = len(results['splits']) > 1
    units = counted(len(points), 'split' if several else 'seed')
    text = f'Network − {BASELINES[STRONG]}: {spread(points, "+")} points (n = {units}'
    if len(points) < FEWEST:
        return text + f'; an interval needs at least {FEWEST} splits, or as many seeds of one).'
    low, high = t_interval(points)
    text += f'), 95 % interval {100 * low:+.1f} to {100 * high:+.1f} (paired t)'
    if several:
        return text + (
            '. Splits of one dataset share training clips, so this interval is too narrow.'
        )
    return text + (
        '. The split and so the score of the SVM are fixed: the interval covers the seeds, not '
        'other test clips.'
    )


def against(found: Mapping[str, Any]) -> str:
    """The paired comparison with another cross-validation.

    Args:
      found: of `compare.paired`.
    """
    gains = [pair['difference'] for pair in found['pairs']]
    low, high = (f'{100 * value:+.1f}' for value in found['interval'])
    rows = [
        [pair['split'], str(pair['seed']), spread([pair['difference']], '+')]
        for pair in found['pairs']
    ]
    text = (
        f'This − {found["folder"]}: {spread(gains, "+")} points over '
        f'{counted(len(gains), "pair")} of runs with the same split and seed. Over '
        f'{counted(found["clips"], "clip")}: {100 * found["mean"]:+.1f} points, 95 % interval '
        f'{low} to {high} (bootstrap over clips). Only this one is right '
        f'{counted(found["only_here_right"], "time")}, only the other '
        f'{counted(found["only_there_right"], "time")}.'
    )
    return f'{_wrapped(text)}\n\n{markdown(["split", "seed", "points"], rows)}'


def _of_split(results: Mapping[str, Any], split: str, key: str) -> list[float]:
    return [run['scores'][key] for run in results['runs'] if run['split'] == split]


def _warnings(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    on_validation = dict.fromkeys(r['split'] for r in runs if r['scores']['side'] == 'validation')
    if not on_validation:
        return []
    return [
        _wrapped(
            f'**No test clips in {", ".join(on_validation)}. The scores are on the validation '
            'clips, which also chose the best epoch, so they are optimistic.**'
        )
    ]


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(paragraph, WIDTH, break_long_words=False, break_on_hyphens=False)
