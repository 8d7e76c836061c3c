"""Scores a run's best checkpoint: `python -m glr_jax.evaluate --workdir=runs/demo`."""

import dataclasses
import os
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from glr_jax import checkpoint, cli, compiled, inference, metrics, parallel, report
from glr_jax.cli import UserError, option
from glr_jax.config import Config
from glr_jax.dataset import Dataset, open_dataset
from glr_jax.log import status

USAGE = """
usage: python -m glr_jax.evaluate --workdir=DIR [--data.split=PROTOCOL] [--data.dir=FOLDER]

Scores the best checkpoint on the test split, exactly: every clip once. Prints a table, and
writes report/metrics.json, predictions.csv and index.html into the workdir; those of another
protocol than the run's own go to report/PROTOCOL/.
"""


@dataclasses.dataclass(frozen=True)
class DataChoice:
    """Data other than the run's own."""

    dir: str = option('', "another dataset folder than the run's own")
    split: str = option('', "another protocol than the run's own")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What the command line says."""

    workdir: str = option('', 'folder of the run')
    data: DataChoice = cli.section(DataChoice)


def main(argv: list[str]) -> None:
    """Runs the command line."""
    choice = cli.parse(Evaluation, argv, USAGE)
    cli.need(choice, 'workdir')
    compiled.keep()
    *_, meta, _ = checkpoint.restore_best(choice.workdir, parallel.make_mesh(jax.local_devices()))
    dataset = open_dataset(choice.data.dir or meta.config.data.dir)
    split = choice.data.split or meta.config.data.split
    print(report.table(report_best(choice.workdir, dataset, split)))


def report_best(workdir: str, dataset: Dataset, split: str) -> dict[str, Any]:
    """Scores the best checkpoint on the held-out side of a protocol, and writes the report.

    Raises:
      UserError: the dataset has other labels or another front end than the run was trained on.
    """
    mesh = parallel.make_mesh(jax.local_devices())
    classifier, state, meta, step = checkpoint.restore_best(workdir, mesh)
    checkpoint.check_dataset(dataset, meta, workdir)
    side = dataset.held_out(split)
    if side != 'test':
        status(f'{split} has no test clips; the report is on validation, and so too kind')
    members = dataset.members(split, side)
    if not len(members):
        raise UserError(f'--data.split={split} has no test and no validation clips')
    leaked = trained_on(dataset, members, meta.config)
    if leaked:
        status(
            f'{leaked} of these {len(members)} clips were trained on under '
            f'{meta.config.data.split}: the scores are too kind'
        )
    apply = inference.on_local_devices(classifier)(state)
    probabilities, segment_accuracy = inference.decide_members(
        apply,
        dataset,
        members,
        frames=meta.config.data.frames,
        batch_size=meta.config.train.batch_size,
    )
    scores = _scores(dataset, members, probabilities) | {
        'segment_accuracy': segment_accuracy,
        'split': split,
        'side': side,
        'trained_on': leaked,
        'step': step,
        'dataset': dataset.folder,
    }
    if jax.process_index() == 0:
        own = (dataset.folder, split) == (meta.config.data.dir, meta.config.data.split)
        folder = os.path.join(workdir, 'report', '' if own else split)
        report.write(folder, scores, meta.config, log=os.path.join(workdir, 'metrics.jsonl'))
        report.write_predictions(folder, dataset, members, probabilities)
        status(f'report: {os.path.join(folder, "index.html")}')
    return scores


def trained_on(dataset: Dataset, members: Int[np.ndarray, ' clips'], run: Config) -> int:
    """How many of these clips a run was trained on, as far as its split is known here."""
    if dataset.folder != run.data.dir or run.data.split not in dataset.protocols:
        return 0
    return len(np.intersect1d(members, dataset.members(run.data.split, 'train')))


def score(
    apply: inference.Apply, dataset: Dataset, members: Int[np.ndarray, ' clips'], run: Config
) -> dict[str, Any]:
    """Scores of some clips under the weights of `apply`."""
    probabilities, _ = inference.decide_members(
        apply, dataset, members, frames=run.data.frames, batch_size=run.train.batch_size
    )
    return _scores(dataset, members, probabilities)


def _scores(
    dataset: Dataset,
    members: Int[np.ndarray, ' clips'],
    probabilities: Float[np.ndarray, 'clips labels'],
) -> dict[str, Any]:
    targets = dataset.targets[members]
    scores = metrics.scores(targets, probabilities.argmax(1), dataset.labels)
    return scores | {'loss': metrics.cross_entropy(targets, probabilities)}


if __name__ == '__main__':
    cli.run(main)
