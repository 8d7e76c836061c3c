"""Scores a run's best checkpoint: `python -m glr_jax.evaluate --workdir=runs/demo`."""

import dataclasses

from glr_jax import cli
from glr_jax.devices import startup
from glr_jax.fields import option, section

USAGE = """
usage: python -m glr_jax.evaluate --workdir=DIR [--data.split=SPLIT] [--data.dir=FOLDER]

Scores the best checkpoint on the test clips, each of them exactly once. Prints a table and writes
report/metrics.json, predictions.csv and index.html into the workdir; with a split other than the
run's own, into report/SPLIT/.
"""


@dataclasses.dataclass(frozen=True)
class DataChoice:
    """Data other than the run's own."""

    dir: str = option('', "dataset folder, if not the run's own")
    split: str = option('', "split, if not the run's own")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The flags of this command."""

    workdir: str = option('', 'folder of the run')
    data: DataChoice = section(DataChoice)


if __name__ == '__main__':  # before JAX is imported, which takes seconds
    startup.restart_with_huge_pages()
    cli.check_command_line(Evaluation, USAGE)

import os
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from glr_jax import checkpoint, inference, metrics, report
from glr_jax.config import Config
from glr_jax.data.dataset import Dataset, open_dataset
from glr_jax.devices import parallel, processes
from glr_jax.devices.processes import announce
from glr_jax.errors import UserError


def main(argv: list[str]) -> None:
    """Runs the command line."""
    choice = cli.parse(Evaluation, argv, USAGE)
    cli.need(choice, 'workdir')
    startup.enable_compilation_cache()
    best = restore(choice.workdir)
    dataset = open_dataset(choice.data.dir or best.meta.config.data.dir)
    split = choice.data.split or best.meta.config.data.split
    print(report.table(report_best(choice.workdir, dataset, split, best)))


def restore(workdir: str) -> checkpoint.Best:
    """The best checkpoint of a workdir, on this process's devices."""
    return checkpoint.restore_best(workdir, parallel.make_mesh(jax.local_devices()))


def report_best(
    workdir: str, dataset: Dataset, split: str, best: checkpoint.Best | None = None
) -> dict[str, Any]:
    """Scores the best checkpoint on the held-out side of a split, and writes the report.

    Args:
      workdir: folder of the run.
      dataset: the clips.
      split: which of its splits.
      best: the checkpoint, if it has been restored already.

    Raises:
      UserError: the dataset has other labels or another front end than the run was trained on.
    """
    classifier, state, meta, step = best or restore(workdir)
    checkpoint.check_dataset(dataset, meta, workdir)
    side = dataset.held_out(split)
    if side != 'test':
        announce(
            f'{split} has no test clips; the report is on the validation clips, '
            'so the scores are optimistic'
        )
    members = dataset.members(split, side)
    if not len(members):
        raise UserError(f'--data.split={split} has no test and no validation clips')
    leaked = trained_on(dataset, members, meta.config)
    if leaked:
        announce(
            f'{leaked} of these {len(members)} clips were trained on under '
            f'{meta.config.data.split}: the scores are optimistic'
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
    if processes.is_first():
        own = (dataset.folder, split) == (meta.config.data.dir, meta.config.data.split)
        folder = os.path.join(workdir, 'report', '' if own else split)
        report.write(folder, scores, meta.config, log=os.path.join(workdir, 'metrics.jsonl'))
        report.write_predictions(folder, dataset, members, probabilities)
        announce(f'report: {os.path.join(folder, "index.html")}')
    return scores


def trained_on(dataset: Dataset, members: Int[np.ndarray, ' clips'], run: Config) -> int:
    """How many of these clips a run was trained on, as far as its split is known here."""
    if dataset.folder != run.data.dir or run.data.split not in dataset.splits:
        return 0
    return len(np.intersect1d(members, dataset.members(run.data.split, 'train')))


def score(
    apply: inference.Apply, dataset: Dataset, members: Int[np.ndarray, ' clips'], run: Config
) -> dict[str, Any]:
    """Scores of some clips with the weights of `apply`."""
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
    cli.execute(main)
