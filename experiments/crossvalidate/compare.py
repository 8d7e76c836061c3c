"""Two cross-validations, compared on the splits and seeds that both have."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from glr_jax import json_files
from glr_jax.data.tables import read_table
from glr_jax.errors import UserError

Runs = dict[tuple[str, int], float]  # {(split, seed): accuracy}
RESAMPLES = 10_000


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

    Clips are the units of the bootstrap: a clip that is tested in several runs is drawn with all of
    them, so repeated tests of one clip do not count as independent.

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
    sums: dict[str, list[int]] = {}  # of each clip: pairs, net gain, only mine right, only theirs
    for split, seed in common:
        a, b = (right_of(where, split, seed) for where in (folder, other_folder))
        if a.keys() != b.keys():
            raise UserError(f'--against={other_folder} has other test clips in {split}')
        for clip, right in a.items():
            gain = right - b[clip]
            of_clip = sums.setdefault(clip, [0, 0, 0, 0])
            for k, value in enumerate((1, gain, gain > 0, gain < 0)):
                of_clip[k] += value
    counts = np.asarray(list(sums.values()))
    low, high = bootstrap(counts[:, 1], counts[:, 0])
    return {
        'folder': other_folder,
        'pairs': [
            {'split': split, 'seed': seed, 'difference': mine[split, seed] - theirs[split, seed]}
            for split, seed in common
        ],
        'mean': float(counts[:, 1].sum() / counts[:, 0].sum()),
        'interval': [low, high],
        'clips': len(counts),
        'only_here_right': int(counts[:, 2].sum()),
        'only_there_right': int(counts[:, 3].sum()),
    }


def accuracies(results: Mapping[str, Any]) -> Runs:
    """The accuracy of each run."""
    return {(run['split'], run['seed']): run['scores']['accuracy'] for run in results['runs']}


def right_of(folder: str, split: str, seed: int) -> dict[str, int]:
    """Whether a run classified each test clip correctly: {id: 1 or 0}."""
    path = os.path.join(folder, split, f'seed-{seed}', 'report', 'predictions.csv')
    if not os.path.exists(path):
        raise UserError(f'{path} was not found; run the cross-validation again')
    rows = read_table(path, required=('id', 'label', 'decision')).rows
    return {row['id']: int(row['label'] == row['decision']) for row in rows}


def bootstrap(
    gains: Int[np.ndarray, ' clips'], counts: Int[np.ndarray, ' clips']
) -> tuple[float, float]:
    """95 % interval of sum(gains) / sum(counts) when clips are drawn with replacement."""
    rng, means = np.random.default_rng(0), []
    for size in np.diff(np.linspace(0, RESAMPLES, 101).astype(int)):  # in parts, to save memory
        drawn = rng.multinomial(len(gains), np.full(len(gains), 1 / len(gains)), size)
        means.append((drawn @ gains) / (drawn @ counts))
    found: Float[np.ndarray, ' 2'] = np.percentile(np.concatenate(means), (2.5, 97.5))
    return float(found[0]), float(found[1])
