"""How much averaging the probabilities of several runs, and of an SVM, improves the accuracy.

`python -m experiments.ensemble --runs=runs/gtzan --baselines`
"""

import dataclasses

from experiments import common
from glr_jax import cli
from glr_jax.fields import check_fields, option

USAGE = """
usage: python -m experiments.ensemble --runs=FOLDER[,FOLDER...] [--baselines] [--out=FILE.json]

Finds all finished runs below the folders. For each dataset and split, prints the mean accuracy of
its single runs and the accuracy of their ensemble: the mean of their probabilities, with equal
weights. With --baselines, an SVM on statistics of whole clips is scored too, alone and as a part
of the ensemble. Its decision values become probabilities by a softmax. The validation clips choose
the temperature of the softmax and the SVM's share in the mean; the test clips are only scored.
"""


@dataclasses.dataclass(frozen=True)
class Study:
    """The flags."""

    runs: tuple[str, ...] = option(('runs',), 'folders with finished runs at any depth')
    baselines: bool = option(False, 'score an SVM on statistics too, and add it to the ensemble')
    out: str = option('', 'JSON file to write all scores to', is_path=True)

    def __post_init__(self) -> None:
        check_fields(self)
        common.check_distinct(self, 'runs')


if __name__ == '__main__':  # before the imports that take seconds
    cli.check_command_line(Study, USAGE)

import os
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from experiments import tables
from glr_jax import baselines, inference, json_files, metrics, report, statistics_svm, trained
from glr_jax.cli import status
from glr_jax.clip_statistics import GroupsOf, all_groups, groups_of
from glr_jax.data.dataset import Dataset, open_dataset
from glr_jax.devices import startup
from glr_jax.errors import UserError
from glr_jax.run import provenance
from glr_jax.run.workdir import find_runs, read_config
from glr_jax.uncertainty import spread

TEMPERATURES = tuple(2.0 ** np.arange(-5, 4))
SHARES = (0.0, 0.25, 0.5, 0.75)


class Predicted(NamedTuple):
    """What is predicted for some clips.

    Attributes:
      targets: true label numbers.
      ensemble: mean probabilities over the runs.
      svm: decision values of the SVM.
    """

    targets: Int[np.ndarray, ' clips']
    ensemble: Float[np.ndarray, 'clips labels']
    svm: Float[np.ndarray, 'clips labels']


def main(argv: list[str]) -> None:
    """Runs the command line."""
    study = cli.parse(Study, argv, USAGE)
    common.make_folder_of(study.out)
    startup.enable_compilation_cache()
    startup.check_devices()
    rows = []
    runs_of = by_dataset(finished_runs(study.runs))
    datasets = {folder: open_dataset(folder) for folder in runs_of}
    for folder, dataset in datasets.items():
        if dataset.multi_label:
            raise UserError(
                f'{folder} may have several labels per clip, this study needs one; '
                'glr_jax.evaluate averages runs'
            )
    for folder, splits in runs_of.items():
        dataset = datasets[folder]
        groups = groups_of(all_groups(dataset)) if study.baselines else None
        scored = [score_split(dataset, split, runs, groups) for split, runs in splits.items()]
        rows += scored
        for protocol in dict.fromkeys(protocol_of(row['split']) for row in scored):
            of_protocol = [row for row in scored if protocol_of(row['split']) == protocol]
            print(table(of_protocol), flush=True)
    if study.out:
        json_files.write(study.out, {'splits': rows})
        status(f'wrote {study.out}')


def finished_runs(folders: Sequence[str]) -> list[str]:
    """The workdirs of the finished runs at or below some folders, each once.

    Raises:
      UserError: there are none.
    """
    found = {os.path.realpath(run): run for folder in folders for run in find_runs(folder)}
    finished = [run for run in found.values() if report.read(run)]
    for run in found.values():
        if run not in finished:
            status(f'{run} is not finished and is left out')
    if not finished:
        raise UserError(f'--runs={",".join(folders)}: there are no finished runs')
    return finished


def by_dataset(runs: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """Workdirs by what they were trained on: {dataset folder: {split: workdirs}}."""
    found: dict[str, dict[str, list[str]]] = {}
    for run in runs:
        data = read_config(run).data
        found.setdefault(data.dir, {}).setdefault(data.split, []).append(run)
    in_order = lambda item: (protocol_of(item[0]), len(item[0]), item[0])  # random-10 comes last
    return {folder: dict(sorted(splits.items(), key=in_order)) for folder, splits in found.items()}


def score_split(
    dataset: Dataset, split: str, runs: Sequence[str], groups: GroupsOf | None
) -> dict[str, Any]:
    """Scores of single runs, of their ensemble and, with `groups`, of the SVM and of all together.

    Args:
      dataset: the clips.
      split: that the runs were trained on.
      runs: their workdirs.
      groups: statistics of clips, for the SVM; None: no SVM.
    """
    side = dataset.held_out(split)
    sides = [side] if side == 'validation' or not groups else [side, 'validation']
    clips = [dataset.members(split, each) for each in sides]
    each_run = []
    for number, run in enumerate(runs, 1):
        status(f'{split}: run {number} of {len(runs)}: {run}')
        each_run.append(_probabilities(run, dataset, clips))
    targets = dataset.targets[clips[0]]
    ensembles = [np.mean(of_runs, 0) for of_runs in zip(*each_run, strict=True)]
    accuracies = [_scores(held_out, targets)['accuracy'] for held_out, *_ in each_run]
    row = {
        'dataset': dataset.folder,
        'split': split,
        'side': side,
        'num_clips': len(targets),
        'runs': [
            {'workdir': run, 'accuracy': accuracy}
            for run, accuracy in zip(runs, accuracies, strict=True)
        ],
        'single': {'accuracy': float(np.mean(accuracies))},
        'ensemble': _scores(ensembles[0], targets),
    }
    if groups is None:
        return row
    status(f'{split}: SVM')
    svm = baselines.fit_statistics_svm(dataset, split, groups)
    predicted = [
        Predicted(
            dataset.targets[some], ensemble, statistics_svm.decision_values(svm, groups, some)
        )
        for some, ensemble in zip(clips, ensembles, strict=True)
    ]
    return row | with_svm(predicted[0], predicted[1] if len(predicted) > 1 else None)


def with_svm(held_out: Predicted, validation: Predicted | None) -> dict[str, Any]:
    """Scores of the SVM, and of the ensemble with it.

    Args:
      held_out: the clips to score.
      validation: the clips to choose by; None if the held-out clips are the validation clips, so
        that nothing is chosen: the temperature is 1 and the SVM's share is 1/2.
    """
    temperature, share = (1.0, 0.5) if validation is None else choose(validation)
    svm = softmax(held_out.svm, temperature)
    return {
        'svm': _scores(svm, held_out.targets),
        'ensemble_and_svm': _scores(mixed(held_out.ensemble, svm, share), held_out.targets),
        'temperature': temperature,
        'share': share,
    }


def choose(validation: Predicted) -> tuple[float, float]:
    """The temperature and the SVM's share with the least cross-entropy on these clips."""
    targets, ensemble, values = validation
    of_svm = lambda temperature: metrics.cross_entropy(targets, softmax(values, temperature))
    temperature = min(TEMPERATURES, key=of_svm)
    svm = softmax(values, temperature)
    share = min(SHARES, key=lambda s: metrics.cross_entropy(targets, mixed(ensemble, svm, s)))
    return float(temperature), share


def softmax(
    values: Float[np.ndarray, 'clips labels'], temperature: float
) -> Float[np.ndarray, 'clips labels']:
    """Probabilities; the higher the temperature, the less they differ."""
    powers = np.exp((values - values.max(1, keepdims=True)) / temperature)
    return powers / powers.sum(1, keepdims=True)


def mixed(
    ensemble: Float[np.ndarray, 'clips labels'],
    svm: Float[np.ndarray, 'clips labels'],
    share: float,
) -> Float[np.ndarray, 'clips labels']:
    """The mean of probabilities in which the SVM has this share."""
    return (1 - share) * ensemble + share * svm


def protocol_of(split: str) -> str:
    """The family of a split: `random` of `random-2`."""
    return re.sub(r'-\d+$', '', split)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The accuracies on the splits of one protocol, their means and paired differences.

    Args:
      rows: from `score_split`, of one dataset.
    """
    columns, chosen = {'single run': 'single', 'ensemble': 'ensemble'}, {}
    if 'svm' in rows[0]:
        columns |= {'SVM': 'svm', 'ensemble + SVM': 'ensemble_and_svm'}
        chosen = {"SVM's share": 'share', 'temperature': 'temperature'}
    accuracy = lambda row, name: row[columns[name]]['accuracy']
    line = lambda some: [spread(accuracy(row, name) for row in some) for name in columns]
    cells = [
        [
            row['split'],
            str(len(row['runs'])),
            *line([row]),
            *(f'{row[key]:g}' for key in chosen.values()),
        ]
        for row in rows
    ]
    if len(rows) > 1:
        cells.append(['mean ± std', '', *line(rows), *[''] * len(chosen)])
    pairs = [('ensemble', 'single run'), ('ensemble', 'SVM'), ('ensemble + SVM', 'SVM')]
    differences = [
        f'{one} − {other}: '
        + spread((accuracy(row, one) - accuracy(row, other) for row in rows), '+')
        for one, other in pairs
        if other in columns
    ]
    title = f'{rows[0]["dataset"]}: accuracy in per cent'
    text = tables.markdown(['split', 'runs', *columns, *chosen], cells)
    return '\n'.join([title, '', text, '', *differences, *filter(None, map(_note, rows)), ''])


def _note(row: dict[str, Any]) -> str:
    """What makes the scores of a split optimistic, and what could not be chosen."""
    if row['side'] == 'test':
        return ''
    text = f'{row["split"]} has no test clips: the scores are on the validation clips'
    if 'svm' not in row:
        return f'{text}, which also chose the checkpoints'
    return (
        f'{text}, which also chose the checkpoints and the SVM; its share 1/2 and temperature 1 '
        'are not chosen by any clips'
    )


def _probabilities(
    run: str, dataset: Dataset, clips: Sequence[Int[np.ndarray, ' _']]
) -> list[Float[np.ndarray, '_ labels']]:
    """A run's probabilities for several sets of clips, as `evaluate` computes them."""
    (best,) = trained.restore(run)
    provenance.check_dataset(dataset, best.meta, run)
    predictor = trained.predictor(best)
    return [inference.decide_clips(predictor, dataset, some)[0] for some in clips]


def _scores(
    probabilities: Float[np.ndarray, 'clips labels'], targets: Int[np.ndarray, ' clips']
) -> dict[str, float]:
    return {
        'accuracy': float(np.mean(probabilities.argmax(1) == targets)),
        'loss': metrics.cross_entropy(targets, probabilities),
    }


if __name__ == '__main__':
    cli.execute(main)
