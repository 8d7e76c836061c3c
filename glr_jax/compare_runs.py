"""Finished runs as `glr_jax.compare` reads them, grouped over seeds and splits."""

import glob
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from glr_jax import json_files, metrics, report, storage, tag_metrics, uncertainty
from glr_jax.config import WITHOUT_EFFECT, Config
from glr_jax.data.metadata import SEPARATOR
from glr_jax.data.tables import probability_columns, read_table
from glr_jax.errors import UserError
from glr_jax.fields import flags_of, text_of
from glr_jax.metrics import wilson_interval
from glr_jax.run.workdir import find_runs, normalised_together, read_config, read_log
from glr_jax.text import counted
from glr_jax.uncertainty import Tagged

# The classical classifier that a network should beat, by the score that compares runs.
STRONG = {'accuracy': 'svm_statistics', 'macro_roc_auc': 'linear_statistics'}
TOGETHER = 'clips per batch norm'  # depends on the devices too, so no flag has it
# Runs that differ only in these are repetitions of one experiment.
REPEATED = ('seed', 'profile', 'baselines', 'allow_changed_data', 'workdir', 'train.time_limit')
SCORES = {
    'accuracy': ('accuracy', 'macro_f1', 'loss'),
    'macro_roc_auc': ('macro_roc_auc', 'macro_average_precision', 'macro_f1', 'loss'),
}
FEWEST = 3  # values, for an interval by Student's t


class Run(NamedTuple):
    """A finished run.

    Attributes:
      workdir: its folder.
      split: of its clips.
      seed: of its weights and batches.
      flags: values of all flags that make a difference, as text.
      scores: as in `metrics.json`.
      floor: scores of the classical classifiers on the same clips; empty if there are none.
      right: whether each test clip, (id, label), was classified correctly; empty if
        `predictions.csv` is missing or clips may have several labels.
      tagged: the test clips with their probabilities if they may have several labels; None if not,
        or if `predictions.csv` is missing.
      epochs: rows of `metrics.jsonl`.
    """

    workdir: str
    split: str
    seed: int
    flags: dict[str, str]
    scores: dict[str, Any]
    floor: dict[str, Any]
    right: dict[tuple[str, str], int]
    tagged: Tagged | None
    epochs: list[dict[str, Any]]

    @property
    def main(self) -> str:
        """The name of the score that compares runs."""
        return metrics.main_score(self.scores)

    @property
    def score(self) -> float | None:
        """That score; None if it is not defined for the test clips."""
        return self.scores[self.main]

    @property
    def strong(self) -> float | None:
        """That score of the classifier on statistics of the same clips; None if not known."""
        found: float | None = self.floor[STRONG[self.main]][self.main] if self.floor else None
        return found


class Group(NamedTuple):
    """Runs whose flags are the same, except for the seed and the split."""

    name: str
    runs: list[Run]


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
    several = bool(scores.get('multi_label'))
    return Run(
        workdir,
        scores['split'],
        config.seed,
        _flags(config, normalised_together(workdir)),
        scores,
        report.read_floor(workdir, scores) or _floor_of_study(workdir, scores),
        {} if several else read_right(workdir),
        read_tagged(workdir, scores['labels'], scores.get('untrained_labels', ()))
        if several
        else None,
        read_log(workdir)[0],
    )


def _floor_of_study(workdir: str, scores: dict[str, Any]) -> dict[str, Any]:
    """The scores of the classifiers in the cross-validation of a run, STUDY/SPLIT/seed-N.

    They are empty if the run belongs to none, or as in `report.read_floor`.
    """
    study = os.path.dirname(os.path.dirname(os.path.abspath(workdir)))
    try:
        found = json_files.read_object(os.path.join(study, 'baselines.json'), '')
        of_split: dict[str, Any] = found['scores'][scores['split']]
        same = storage.same_folder(found['dataset'], scores['dataset'])
        of_run = of_split['majority']['num_clips'] == scores['num_clips']
    except (OSError, UserError, KeyError, TypeError, AttributeError):
        return {}
    return of_split if same and of_run and report.is_floor(of_split, scores) else {}


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


def read_tagged(
    workdir: str, labels: Sequence[str], untrained: Sequence[str] = ()
) -> Tagged | None:
    """The test clips of a run, sorted by id, that may have several labels.

    Args:
      workdir: of the run.
      labels: of its scores.
      untrained: those that are not in its macro scores; left out.

    Returns:
      The clips; None if the run has no `predictions.csv`.

    Raises:
      UserError: the file is damaged.
    """
    path = os.path.join(workdir, 'report', 'predictions.csv')
    if not os.path.exists(path):
        return None
    table = read_table(path, required=('id', 'labels', 'decision'))
    fault = UserError(f'{path} is damaged; remove it, and glr_jax.evaluate writes it again')
    names = {label.strip(): k for k, label in enumerate(labels)}
    columns = probability_columns(list(names), report.COLUMNS)
    if table.columns[3:] != columns:
        raise fault
    rows = sorted(table.rows, key=lambda row: row['id'])
    has = np.zeros((len(rows), len(labels)), bool)
    try:
        for row, of_clip in zip(rows, has, strict=True):
            of_clip[[names[name.strip()] for name in row['labels'].split(SEPARATOR) if name]] = True
        probabilities = np.asarray([[float(row[name]) for name in columns] for row in rows])
    except (KeyError, ValueError):
        raise fault from None
    ids = tuple(row['id'] for row in rows)
    if not ids or len(set(ids)) < len(ids) or not np.isfinite(probabilities).all():
        raise fault
    learned = tag_metrics.learned_labels(labels, untrained)
    return Tagged(ids, has[:, learned], probabilities[:, learned])


def check_one_task(runs: Sequence[Run]) -> None:
    """Raises `UserError` if runs with one and with several labels per clip are among them."""
    one, several = (
        [r.workdir for r in runs if (r.main == 'accuracy') == is_one] for is_one in (1, 0)
    )
    if one and several:
        raise UserError(
            f'{one[0]} has one label per clip, {several[0]} several; compare them separately'
        )


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
    """A score of each run of a group that has it; older runs have no loss."""
    return [run.scores[score] for run in group.runs if run.scores.get(score) is not None]


def interval(group: Group) -> tuple[float, float] | None:
    """95 % interval of the main score: of one run over its clips, else of the mean over runs."""
    main = group.runs[0].main
    found = values(group, main)
    if len(group.runs) == 1:
        scores = group.runs[0].scores
        if main == 'accuracy':
            return wilson_interval(round(found[0] * scores['num_clips']), scores['num_clips'])
        bounds = scores.get('macro_roc_auc_interval')
        return (bounds[0], bounds[1]) if bounds else None
    if len(found) < FEWEST:
        return None
    low, high = uncertainty.t_interval(found)
    return max(low, 0.0), min(high, 1.0)


def gains(group: Group) -> list[float]:
    """Main score of each run minus that of the classifier on statistics, where both are known."""
    pairs = [(run.score, run.strong) for run in group.runs]
    return [mine - theirs for mine, theirs in pairs if mine is not None and theirs is not None]


def of_baseline(group: Group, name: str) -> list[dict[str, Any]]:
    """The scores of a classical classifier on each split of a group on which it is known.

    Args:
      group: of runs.
      name: as in `glr_jax.baselines.floor`.
    """
    by_split = {(run.scores['dataset'], run.split): run.floor for run in group.runs if run.floor}
    return [floor[name] for floor in by_split.values()]
