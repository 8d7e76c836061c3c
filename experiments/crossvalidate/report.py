"""The report of `experiments.crossvalidate`, as Markdown."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.crossvalidate.compare import main_score
from experiments.tables import BASELINES, SCORES, TAG_BASELINES, markdown, spread_of
from glr_jax.compare_runs import FEWEST
from glr_jax.text import counted, printable, shorten
from glr_jax.uncertainty import spread, t_interval

# Names in the table; the first is the baseline that a network should beat.
SHORT = {
    'accuracy': {'svm_statistics': 'SVM', 'svm': 'SVM on levels', 'majority': 'majority'},
    'macro_roc_auc': {
        'linear_statistics': 'linear',
        'linear': 'levels',
        'majority': 'frequencies',
    },
}
LONGEST = 17  # columns of a split's name
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
    ]
    main = main_score(results)
    for key, title in SCORES[main].items():
        title = f'Test {title}' if key == main else title[0].upper() + title[1:]
        parts += [f'## {title} in per cent', table(results, key)]
        if key == main:
            parts.append(_wrapped(verdict(results)))
    if 'against' in results:
        parts += ['## Compared with another cross-validation', against(results['against'])]
    return '\n\n'.join(parts) + '\n'


def table(results: Mapping[str, Any], key: str) -> str:
    """One row per split: mean over seeds, the baselines, the difference from the strongest.

    It is at most 100 columns wide.

    Args:
      results: of the study.
      key: of `SCORES`, as accuracy or macro_f1.
    """
    short = SHORT[main_score(results)]
    strong = next(iter(short))
    header = ['split', 'runs', 'network', *short.values(), f'network − {short[strong]}']
    rows = []
    for split in results['splits']:
        values = _of_split(results, split, key)
        floor = results['baselines'][split]
        rows.append(
            [
                shorten(printable(split), LONGEST),
                str(sum(run['split'] == split for run in results['runs'])),
                spread_of(values),
                *(spread_of([floor[name][key]]) for name in short),
                spread_of(_gains(results, split, key), '+'),
            ]
        )
    floors = [
        spread_of(results['baselines'][split][name][key] for split in results['splits'])
        for name in short
    ]
    every = [run['scores'][key] for run in results['runs']]
    all_gains = spread_of(differences(results, key), '+')
    rows.append(['mean ± std', str(len(every)), spread_of(every), *floors, all_gains])
    return markdown(header, rows)


def differences(results: Mapping[str, Any], key: str = '') -> list[float]:
    """Network minus strong baseline: per split, the mean over seeds; of one split, per seed.

    Args:
      results: of the study.
      key: of the score; '': the one that compares runs.
    """
    splits = results['splits']
    gains = [_gains(results, split, key or main_score(results)) for split in splits]
    return [float(np.mean(some)) for some in gains if some] if len(splits) > 1 else gains[0]


def _gains(results: Mapping[str, Any], split: str, key: str) -> list[float]:
    """Network minus strong baseline of each run on a split, where both are defined."""
    floor = results['baselines'][split][next(iter(SHORT[main_score(results)]))][key]
    return [] if floor is None else [value - floor for value in _of_split(results, split, key)]


def verdict(results: Mapping[str, Any]) -> str:
    """The paired difference from the strong baseline in one sentence, with its interval."""
    points, main = differences(results), main_score(results)
    strong = next(iter(SHORT[main]))
    if not points:
        return f'The {SCORES[main][main]} is not defined for the test clips.'
    several = len(results['splits']) > 1
    units = counted(len(points), 'split' if several else 'seed')
    name = (BASELINES | TAG_BASELINES)[strong]
    text = f'Network − {name}: {spread(points, "+")} points (n = {units}'
    if len(points) < FEWEST:
        return text + f'; an interval needs at least {FEWEST} splits, or as many seeds of one).'
    low, high = t_interval(points)
    text += f'), 95 % interval {100 * low:+.1f} to {100 * high:+.1f} (paired t)'
    if several:
        return text + (
            '. Splits of one dataset share training clips, so this interval is too narrow.'
        )
    return text + (
        f'. The split and so the score of the {SHORT[main][strong]} are fixed: the interval covers '
        'the seeds, not other test clips.'
    )


def against(found: Mapping[str, Any]) -> str:
    """The paired comparison with another cross-validation.

    Args:
      found: of `compare.paired`.
    """
    gains = [pair['difference'] for pair in found['pairs']]
    rows = [
        [pair['split'], str(pair['seed']), spread([pair['difference']], '+')]
        for pair in found['pairs']
    ]
    text = (
        f'This − {found["folder"]}: {spread(gains, "+")} points over '
        f'{counted(len(gains), "pair")} of runs with the same split and seed. Over '
        f'{counted(found["clips"], "clip")}: {100 * found["mean"]:+.1f} points'
    )
    if found['interval']:
        low, high = (f'{100 * value:+.1f}' for value in found['interval'])
        text += f', 95 % interval {low} to {high} (bootstrap over clips)'
    text += '.'
    if 'only_here_right' in found:
        text += (
            f' Only this one is right {counted(found["only_here_right"], "time")}, only the other '
            f'{counted(found["only_there_right"], "time")}.'
        )
    return f'{_wrapped(text)}\n\n{markdown(["split", "seed", "points"], rows)}'


def _of_split(results: Mapping[str, Any], split: str, key: str) -> list[float]:
    found = [run['scores'][key] for run in results['runs'] if run['split'] == split]
    return [value for value in found if value is not None]


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
