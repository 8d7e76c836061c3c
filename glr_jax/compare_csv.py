"""The result of `glr_jax.compare` as CSV."""

import csv
import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from glr_jax import compare_runs
from glr_jax.compare_pairs import Difference
from glr_jax.compare_runs import Group
from glr_jax.compare_tables import HEADERS, Differences


def as_csv(groups: Sequence[Group], differences: Differences) -> str:
    """One row per group; scores are fractions."""
    flags = compare_runs.differing(groups)
    rows: list[dict[str, Any]] = []
    for k, group in enumerate(groups):
        row: dict[str, Any] = {
            'group': group.name,
            'runs': len(group.runs),
            'splits': ' '.join(dict.fromkeys(run.split for run in group.runs)),
            'seeds': ' '.join(dict.fromkeys(str(run.seed) for run in group.runs)),
            **{flag: values[k] for flag, values in flags.items()},
        }
        main = group.runs[0].main
        for score in compare_runs.SCORES[main]:
            row |= _statistics(score, compare_runs.values(group, score))
        low, high = compare_runs.interval(group) or ('', '')
        row |= {f'{main}_low': low, f'{main}_high': high}
        strong = [run.strong for run in group.runs if run.strong is not None]
        row |= _statistics(f'{"svm" if main == "accuracy" else "linear"}_{main}', strong)
        majority = compare_runs.of_baseline(group, 'majority')
        for score in HEADERS[main]:
            known = [of[score] for of in majority if of.get(score) is not None]
            row |= _statistics(f'majority_{score}', known)
        found = differences.get(group.name)
        row |= dict.fromkeys(('difference', 'difference_low', 'difference_high'), '')
        row |= dict.fromkeys(('pairs', 'clips', 'p', 'method'), '')
        if isinstance(found, Difference):
            low, high = found.interval or ('', '')
            row |= {'difference': found.mean, 'difference_low': low, 'difference_high': high}
            row |= {'pairs': len(found.pairs), 'clips': found.clips, 'p': found.p}
            row |= {'method': found.method}
        rows.append(row | {'workdirs': os.pathsep.join(run.workdir for run in group.runs)})
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _statistics(name: str, values: Sequence[float]) -> dict[str, Any]:
    if not values:
        return {name: '', f'{name}_std': ''}
    std = float(np.std(values, ddof=1)) if len(values) > 1 else ''
    return {name: float(np.mean(values)), f'{name}_std': std}
