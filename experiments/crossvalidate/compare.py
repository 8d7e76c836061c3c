"""Two cross-validations, compared on the splits and seeds that both have."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from glr_jax import json_files, metrics, uncertainty
from glr_jax.compare_runs import read_right, read_tagged
from glr_jax.errors import UserError
from glr_jax.uncertainty import Tagged

Pair = tuple[str, int]  # split and seed
Runs = dict[Pair, float]  # the score that compares runs


def read(folder: str, multi_label: bool = False) -> dict[str, Any]:
    """The `results.json` of a cross-validation.

    Args:
      folder: of the study.
      multi_label: whether clips may have several labels in the study to compare with.

    Raises:
      UserError: there is none, or it has the other number of labels per clip.
    """
    path = os.path.join(folder, 'results.json')
    try:
        results = json_files.read_object(path, 'run that cross-validation again')
        scores_of(results)
        several = main_score(results) != 'accuracy'
    except FileNotFoundError:
        raise UserError(f'--against={folder} has no finished cross-validation') from None
    except (UserError, KeyError, TypeError, AttributeError):
        raise UserError(
            f'--against={folder}: {path} was not written by experiments.crossvalidate'
        ) from None
    if several != multi_label:
        mine, theirs = ('one label', 'several labels')[:: -1 if multi_label else 1]
        raise UserError(
            f'--against={folder} has {theirs} per clip, and this study has {mine}, so no score '
            'compares them'
        )
    return results


def paired(
    folder: str, results: Mapping[str, Any], other_folder: str, other: Mapping[str, Any]
) -> dict[str, Any]:
    """The difference in the main score over the runs with the same split and seed.

    Args:
      folder: of the study.
      results: of the study.
      other_folder: of the study to compare with.
      other: its results.

    Returns:
      The folder compared with; the difference of each pair; the mean over clips with its 95 %
      bootstrap interval; how often only this study, and how often only the other, is right (not
      where clips may have several labels).

    Raises:
      UserError: the two share no pair of split and seed, or their test clips differ.
    """
    mine, theirs = scores_of(results), scores_of(other)
    common = [pair for pair in mine if pair in theirs]
    if not common:
        raise UserError(
            f'--against={other_folder} has no run with the split and seed of a run here'
        )
    differences = [mine[pair] - theirs[pair] for pair in common]
    found: dict[str, Any] = {
        'folder': other_folder,
        'pairs': [
            {'split': split, 'seed': seed, 'difference': difference}
            for (split, seed), difference in zip(common, differences, strict=True)
        ],
    }
    folders = folder, other_folder
    if main_score(results) == 'accuracy':
        return found | _over_clips(folders, common)
    mean = sum(differences) / len(differences)
    untrained = {
        (run['split'], run['seed']): run['scores'].get('untrained_labels', ())
        for run in results['runs']
    }
    areas = _over_areas(folders, common, results['labels'], untrained)
    return found | {'mean': mean} | areas


def _over_clips(folders: tuple[str, str], common: Sequence[Pair]) -> dict[str, Any]:
    tests = []
    for split, seed in common:
        here, there = (right_of(folder, split, seed) for folder in folders)
        if here.keys() != there.keys():
            raise _other_clips(folders, split)
        tests.append((here, there))
    over = uncertainty.over_clips(tests)
    return {
        'mean': over.mean,
        'interval': list(over.interval),
        'clips': over.clips,
        'only_here_right': over.only_first,
        'only_there_right': over.only_second,
    }


def _over_areas(
    folders: tuple[str, str],
    common: Sequence[Pair],
    labels: Sequence[str],
    untrained: Mapping[Pair, Sequence[str]],
) -> dict[str, Any]:
    pairs = []
    for split, seed in common:
        left_out = untrained[split, seed]  # both learned from the clips of this split
        here, there = (tagged_of(folder, split, seed, labels, left_out) for folder in folders)
        if here.ids != there.ids or not np.array_equal(here.has, there.has):
            raise _other_clips(folders, split)
        pairs.append(([here], [there]))
    return {
        'interval': list(uncertainty.area_interval(pairs) or ()),
        'clips': len({id for (test,), _ in pairs for id in test.ids}),
    }


def _other_clips(folders: tuple[str, str], split: str) -> UserError:
    return UserError(f'--against={folders[1]} has other test clips in {split}')


def main_score(results: Mapping[str, Any]) -> str:
    """The name of the score that compares the runs of a study."""
    return metrics.main_score(results['runs'][0]['scores'])


def scores_of(results: Mapping[str, Any]) -> Runs:
    """That score of each run on whose test clips it is defined."""
    found = {
        (run['split'], run['seed']): run['scores'][main_score(results)] for run in results['runs']
    }
    return {pair: score for pair, score in found.items() if score is not None}


def right_of(folder: str, split: str, seed: int) -> dict[tuple[str, str], int]:
    """Whether a run classified each test clip, (id, label), correctly."""
    found = read_right(_workdir(folder, split, seed))
    if not found:
        raise _not_found(folder, split, seed)
    return found


def tagged_of(
    folder: str, split: str, seed: int, labels: Sequence[str], untrained: Sequence[str] = ()
) -> Tagged:
    """The labels and probabilities of a run's test clips, without labels that it never saw."""
    found = read_tagged(_workdir(folder, split, seed), labels, untrained)
    if not found:
        raise _not_found(folder, split, seed)
    return found


def _workdir(folder: str, split: str, seed: int) -> str:
    return os.path.join(folder, split, f'seed-{seed}')


def _not_found(folder: str, split: str, seed: int) -> UserError:
    path = os.path.join(_workdir(folder, split, seed), 'report', 'predictions.csv')
    return UserError(f'{path} was not found; run the cross-validation again')
