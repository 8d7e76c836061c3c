"""The difference between two groups of runs, paired by split and seed, and by clips."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from glr_jax import metrics, uncertainty
from glr_jax.compare_runs import FEWEST, Group, Run
from glr_jax.uncertainty import Tagged

Key = tuple[str, int | None]  # split and seed; None: all seeds


class Difference(NamedTuple):
    """A group's main score minus that of the first group, paired.

    Attributes:
      pairs: the difference of each pair of runs.
      clips: how many different clips were tested; None if it is not known.
      mean: the difference.
      interval: at 95 %; None if there is too little for one.
      p: of McNemar's exact test, for two single runs.
      method: how the interval was computed: a key of `compare_tables.METHODS`.
    """

    pairs: list[float]
    clips: int | None
    mean: float
    interval: tuple[float, float] | None
    p: float | None
    method: str


def difference(group: Group, first: Group, other_clips: Callable[[str], None]) -> Difference | str:
    """A group's main score minus that of the first group.

    Runs with the same split and seed are pairs. If there are none, the means over the seeds of each
    split are.

    Args:
      group: a group.
      first: the group to compare with.
      other_clips: called with one line per pair that is left out, since its clips differ.

    Returns:
      The difference, or why there is none.
    """
    found: list[tuple[list[Run], list[Run]]] = []
    for mine, theirs, where in _pairs(group, first):
        if not _have_same_clips([*mine, *theirs]):
            other_clips(f'{where}: {group.name} and {first.name} have other test clips there')
        else:
            found.append((mine, theirs))
    if not found:
        return f'no run on the same test clips as in {first.name}'
    found = [pair for pair in found if all(run.score is not None for run in (*pair[0], *pair[1]))]
    if not found:
        return f'{metrics.NAMES[first.runs[0].main]} is not defined for the test clips'
    score = lambda runs: float(np.mean([run.score for run in runs]))
    points = [score(mine) - score(theirs) for mine, theirs in found]
    mean = float(np.mean(points))
    alone = len(found) == len(found[0][0]) == len(found[0][1]) == 1
    if not all(run.right or run.tagged for pair in found for runs in pair for run in runs):
        enough = len(points) >= FEWEST
        bounds = uncertainty.t_interval(points) if enough else None
        return Difference(points, None, mean, bounds, None, 't' if enough else 'none')
    if first.runs[0].tagged:
        tests = [(_tests(mine), _tests(theirs)) for mine, theirs in found]
        count = len({id for mine, _ in tests for id in mine[0].ids})
        bounds, method = uncertainty.area_interval(tests), 'areas' if alone else 'bootstrap'
        return Difference(points, count, mean, bounds, None, method)
    rights = [(_mean_right(mine), _mean_right(theirs)) for mine, theirs in found]
    clips = uncertainty.over_clips(rights)
    if alone:
        counts = clips.only_first, clips.only_second
        both = sum(1 for clip, right in rights[0][0].items() if right and rights[0][1][clip])
        neither = clips.clips - both - sum(counts)
        bounds = uncertainty.paired_interval(both, *counts, neither)
        p = uncertainty.mcnemar(*counts)
        return Difference(points, clips.clips, mean, bounds, p, 'mcnemar')
    return Difference(points, clips.clips, mean, clips.interval, None, 'bootstrap')


def _pairs(group: Group, first: Group) -> Iterator[tuple[list[Run], list[Run], str]]:
    """Runs of both groups with the same split and seed, or else with the same split."""
    by_seed: Callable[[Run], Key] = lambda run: (run.split, run.seed)
    by_split: Callable[[Run], Key] = lambda run: (run.split, None)
    mine, theirs = _by(by_seed, group), _by(by_seed, first)
    if not mine.keys() & theirs.keys():
        mine, theirs = _by(by_split, group), _by(by_split, first)
    for split, seed in mine:
        if (split, seed) in theirs:
            where = split if seed is None else f'{split}, seed {seed}'
            yield mine[split, seed], theirs[split, seed], where


def _by(key: Callable[[Run], Key], group: Group) -> Mapping[Key, list[Run]]:
    found: dict[Key, list[Run]] = {}
    for run in group.runs:
        found.setdefault(key(run), []).append(run)
    return found


def _have_same_clips(runs: Sequence[Run]) -> bool:
    """Whether the test clips of runs have the same ids and labels, as far as that is known."""
    supports = [
        {label: row['support'] for label, row in run.scores['per_class'].items()} for run in runs
    ]
    known = [run.right.keys() for run in runs if run.right]
    tested = [(run.tagged.ids, run.tagged.has.tobytes()) for run in runs if run.tagged]
    return (
        all(some == supports[0] for some in supports)
        and all(ids == known[0] for ids in known)
        and all(clips == tested[0] for clips in tested)
    )


def _tests(runs: Sequence[Run]) -> list[Tagged]:
    return [run.tagged for run in runs if run.tagged]


def _mean_right(runs: Sequence[Run]) -> dict[tuple[str, str], float]:
    """How often each clip was classified correctly, as a fraction of the runs."""
    return {clip: sum(run.right[clip] for run in runs) / len(runs) for clip in runs[0].right}
