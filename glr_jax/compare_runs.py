"""Finished runs as `glr_jax.compare` reads them: grouped over seeds and splits, and paired."""

import glob
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from glr_jax import report, storage, uncertainty
from glr_jax.config import WITHOUT_EFFECT, Config
from glr_jax.data.tables import read_table
from glr_jax.errors import UserError
from glr_jax.fields import flags_of, text_of
from glr_jax.metrics import wilson_interval
from glr_jax.run.workdir import find_runs, normalised_together, read_config, read_log
from glr_jax.text import counted

STRONG = 'svm_statistics'  # the classical classifier that a network should beat
TOGETHER = 'clips per batch norm'  # depends on the devices too, so no flag has it
# Runs that differ only in these are repetitions of one experiment.
REPEATED = ('seed', 'profile', 'baselines', 'allow_changed_data', 'workdir', 'train.time_limit')
SCORES = ('accuracy', 'macro_f1', 'loss')
FEWEST = 3  # values, for an interval by Student's t
Key = tuple[str, int | None]  # split and seed; None: all seeds


class Run(NamedTuple):
    """A finished run.

    Attributes:
      workdir: its folder.
      split: of its clips.
      seed: of its weights and batches.
      flags: values of all flags that make a difference, as text.
      scores: as in `metrics.json`.
      floor: accuracy of the SVM on statistics on the same clips; None if it was not scored.
      right: whether each test clip, (id, label), was classified correctly; empty if
        `predictions.csv` is missing.
      epochs: rows of `metrics.jsonl`.
    """

    workdir: str
    split: str
    seed: int
    flags: dict[str, str]
    scores: dict[str, Any]
    floor: float | None
    right: dict[tuple[str, str], int]
    epochs: list[dict[str, Any]]


class Group(NamedTuple):
    """Runs whose flags are the same, except for the seed and the split."""

    name: str
    runs: list[Run]


class Difference(NamedTuple):
    """A group's accuracy minus that of the first group, paired.

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


def find(arguments: Sequence[str]) -> list[str]:
    """The workdirs that the arguments stand for, each once and in their order.

    Args:
      arguments: workdirs, folders with runs at any depth, and patterns like `runs/*-batch`.

    Raises:
      UserError: an argument was not found or has no runs.
    """
    found: dict[str, str] = {}
    for argument in arguments:
        folders = [argument] if os.path.exists(argument) else sorted(glob.glob(argument))
        if not folders:
            raise UserError(f'{argument} was not found')
        runs = [run for folder in folders for run in find_runs(folder)]
        if not runs:
            raise UserError(f'{argument} has no runs')
        for run in runs:
            found.setdefault(os.path.realpath(run), run)
    return list(found.values())


def read(workdirs: Sequence[str], left_out: Callable[[str], None]) -> list[Run]:
    """The finished runs of some workdirs.

    Args:
      workdirs: to read.
      left_out: called with one line for each run that is not finished or damaged.
    """
    runs = []
    for workdir in workdirs:
        try:
            run = _read(workdir)
        except UserError as error:
            left_out(f'{workdir} is left out: {error}')
            continue
        if run is None:
            done = len(read_log(workdir)[0])
            epochs = counted(done, 'epoch')
            left_out(f'{workdir} is left out: it is not finished ({epochs} so far)')
        else:
            runs.append(run)
    return runs


def _read(workdir: str) -> Run | None:
    """A run; None if it is not finished."""
    config, scores = read_config(workdir), report.read(workdir)
    if not scores:
        return None
    floor = report.read_floor(workdir, scores)
    return Run(
        workdir,
        scores['split'],
        config.seed,
        _flags(config, normalised_together(workdir)),
        scores,
        floor[STRONG]['accuracy'] if floor else None,
        read_right(workdir),
        read_log(workdir)[0],
    )


def _flags(config: Config, together: int | None) -> dict[str, str]:
    """The flags of a run that make a difference: all but those of repetitions and devices.

    A split stands for its family: `random-1` and `random-2` for `random-*`.
    """
    found = {
        flag: text_of(value)
        for flag, value in flags_of(config).items()
        if flag not in REPEATED
        and not flag.startswith('parallel.')
        and flag.rpartition('.')[2] not in WITHOUT_EFFECT
    }
    found['data.split'] = re.sub(r'-\d+$', '-*', config.data.split)
    found['data.dir'] = _folder(config.data.dir)
    found['init_from'] = _folder(config.init_from)
    if together:
        found[TOGETHER] = str(together)
    return found


def _folder(path: str) -> str:
    """A folder, spelled in one way."""
    if not path or storage.is_remote(path):
        return path.rstrip('/')
    full = os.path.realpath(path)
    short = os.path.relpath(full)
    return full if short.startswith('..') else short


def read_right(workdir: str) -> dict[tuple[str, str], int]:
    """Whether a run classified each test clip correctly: {(id, label): 1 or 0}.

    It is empty if the run has no `predictions.csv`.
    """
    path = os.path.join(workdir, 'report', 'predictions.csv')
    if not os.path.exists(path):
        return {}
    rows = read_table(path, required=('id', 'label', 'decision')).rows
    return {(row['id'], row['label']): int(row['label'] == row['decision']) for row in rows}


def grouped(runs: Sequence[Run]) -> list[Group]:
    """Runs grouped over seeds and splits, in the order of their first members: A, B, C, ..."""
    members: dict[tuple[tuple[str, str], ...], list[Run]] = {}
    for run in runs:
        members.setdefault(tuple(sorted(run.flags.items())), []).append(run)
    return [Group(_letters(number), some) for number, some in enumerate(members.values())]


def _letters(number: int) -> str:
    """0, 1, ..., 25, 26, ... as A, B, ..., Z, AA, ..."""
    first, last = divmod(number, 26)
    return (_letters(first - 1) if first else '') + chr(ord('A') + last)


def differing(groups: Sequence[Group]) -> dict[str, list[str]]:
    """The value in each group of every flag that differs between them; '' where it has none."""
    flags = [group.runs[0].flags for group in groups]
    names = dict.fromkeys(name for of_group in flags for name in of_group)
    values = {name: [of_group.get(name, '') for of_group in flags] for name in names}
    return {name: some for name, some in values.items() if len(set(some)) > 1}


def values(group: Group, score: str) -> list[float]:
    """A score of each run of a group; older runs have no loss."""
    return [run.scores[score] for run in group.runs if score in run.scores]


def interval(group: Group) -> tuple[float, float] | None:
    """95 % interval of the accuracy: of one run over its clips, else of the mean over runs."""
    accuracies = values(group, 'accuracy')
    if len(accuracies) == 1:
        scores = group.runs[0].scores
        return wilson_interval(round(accuracies[0] * scores['num_clips']), scores['num_clips'])
    if len(accuracies) < FEWEST:
        return None
    low, high = uncertainty.t_interval(accuracies)
    return max(low, 0.0), min(high, 1.0)


def gains(group: Group) -> list[float]:
    """Accuracy of each run minus that of the SVM on the same clips, if the SVM was scored."""
    return [run.scores['accuracy'] - run.floor for run in group.runs if run.floor is not None]


def difference(group: Group, first: Group, other_clips: Callable[[str], None]) -> Difference | str:
    """A group's accuracy minus that of the first group.

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
    accuracy = lambda runs: float(np.mean([run.scores['accuracy'] for run in runs]))
    points = [accuracy(mine) - accuracy(theirs) for mine, theirs in found]
    mean = float(np.mean(points))
    if not all(run.right for pair in found for runs in pair for run in runs):
        enough = len(points) >= FEWEST
        bounds = uncertainty.t_interval(points) if enough else None
        return Difference(points, None, mean, bounds, None, 't' if enough else 'none')
    rights = [(_mean_right(mine), _mean_right(theirs)) for mine, theirs in found]
    clips = uncertainty.over_clips(rights)
    if len(found) == len(found[0][0]) == len(found[0][1]) == 1:
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
    return all(some == supports[0] for some in supports) and all(ids == known[0] for ids in known)


def _mean_right(runs: Sequence[Run]) -> dict[tuple[str, str], float]:
    """How often each clip was classified correctly, as a fraction of the runs."""
    return {clip: sum(run.right[clip] for run in runs) / len(runs) for clip in runs[0].right}
