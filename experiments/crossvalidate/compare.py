"""Two cross-validations, compared on the splits and seeds that both have."""

import os
from collections.abc import Mapping
from typing import Any

from glr_jax import json_files, uncertainty
from glr_jax.compare_runs import read_right
from glr_jax.errors import UserError

Runs = dict[tuple[str, int], float]  # {(split, seed): accuracy}


def read(folder: str) -> dict[str, Any]:
    """The `results.json` of a cross-validation.

    Raises:
      UserError: there is none.
    """
    path = os.path.join(folder, 'results.json')
    try:
        results = json_files.read_object(path, 'run that cross-validation again')
        accuracies(results)
    except FileNotFoundError:
        raise UserError(f'--against={folder} has no finished cross-validation') from None
    except (UserError, KeyError, TypeError, AttributeError):
        raise UserError(
            f'--against={folder}: {path} was not written by experiments.crossvalidate'
        ) from None
    return results


def paired(
    folder: str, results: Mapping[str, Any], other_folder: str, other: Mapping[str, Any]
) -> dict[str, Any]:
    """The difference in accuracy over the runs with the same split and seed.

    Args:
      folder: of the study.
      results: of the study.
      other_folder: of the study to compare with.
      other: its results.

    Returns:
      The folder compared with; the difference of each pair; the mean over clips with its 95 %
      bootstrap interval; how often only this study, and how often only the other, is right.

    Raises:
      UserError: the two share no pair of split and seed, or their test clips differ.
    """
    mine, theirs = accuracies(results), accuracies(other)
    common = [pair for pair in mine if pair in theirs]
    if not common:
        raise UserError(
            f'--against={other_folder} has no run with the split and seed of a run here'
        )
    tests = []
    for split, seed in common:
        a, b = (right_of(where, split, seed) for where in (folder, other_folder))
        if a.keys() != b.keys():
            raise UserError(f'--against={other_folder} has other test clips in {split}')
        tests.append((a, b))
    found = uncertainty.over_clips(tests)
    return {
        'folder': other_folder,
        'pairs': [
            {'split': split, 'seed': seed, 'difference': mine[split, seed] - theirs[split, seed]}
            for split, seed in common
        ],
        'mean': found.mean,
        'interval': list(found.interval),
        'clips': found.clips,
        'only_here_right': found.only_first,
        'only_there_right': found.only_second,
    }


def accuracies(results: Mapping[str, Any]) -> Runs:
    """The accuracy of each run."""
    return {(run['split'], run['seed']): run['scores']['accuracy'] for run in results['runs']}


def right_of(folder: str, split: str, seed: int) -> dict[tuple[str, str], int]:
    """Whether a run classified each test clip, (id, label), correctly."""
    workdir = os.path.join(folder, split, f'seed-{seed}')
    found = read_right(workdir)
    if not found:
        path = os.path.join(workdir, 'report', 'predictions.csv')
        raise UserError(f'{path} was not found; run the cross-validation again')
    return found
