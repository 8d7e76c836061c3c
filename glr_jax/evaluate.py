"""Scores the best checkpoint of a run or of a folder of runs: `python -m glr_jax.evaluate`."""

import dataclasses

from glr_jax import cli
from glr_jax.devices import startup
from glr_jax.fields import option, section

USAGE = """
usage: python -m glr_jax.evaluate --workdir=DIR [--data.split=SPLIT] [--data.dir=FOLDER]

Scores the best checkpoint on the test clips, each of them exactly once. Prints a table and writes
report/metrics.json, predictions.csv and index.html into the workdir; for another split, dataset or
number of crops, into a folder below report/ that is named after them. If DIR is a folder of runs,
their probabilities are averaged.

--data.dir may be another dataset, or a folder of audio with one sub-folder per label. If the run
was trained on none of its clips, all of them are scored. Labels are matched by name; clips with
other labels are counted and left out.

A damaged checkpoint is named and the next best one is used.
"""


@dataclasses.dataclass(frozen=True)
class DataChoice:
    """Data other than the run's own."""

    dir: str = option('', "dataset or folder of audio, if not the run's own", is_path=True)
    split: str = option('', "split, if not the run's own; all = every clip of other data")
    test_crops: int = option(
        0,
        "cut this many times as many segments from each clip; 0 = the run's own setting",
        0,
        maximum=1000,
    )


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The flags of this command."""

    workdir: str = option('', 'folder of the run, or a folder of runs', is_path=True)
    allow_changed_data: bool = option(
        False, "score the run's own split although the data changed since it was trained"
    )
    data: DataChoice = section(DataChoice)


if __name__ == '__main__':  # before JAX is imported, which takes seconds
    startup.restart_with_huge_pages()
    cli.check_command_line(Evaluation, USAGE)

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from glr_jax import inference, metrics, report, scored_data, storage
from glr_jax.config import Config
from glr_jax.data.dataset import Dataset
from glr_jax.data.other_data import ALL, OtherData
from glr_jax.devices import processes
from glr_jax.devices.processes import announce
from glr_jax.errors import UserError
from glr_jax.nn import cost
from glr_jax.page.evidence import Evidence
from glr_jax.progress import Progress
from glr_jax.run import provenance, training_data
from glr_jax.run.checkpoint import Best
from glr_jax.storage import same_folder
from glr_jax.trained import predictor, restore


def main(argv: list[str]) -> None:
    """Runs the command line."""
    choice = cli.parse(Evaluation, argv, USAGE)
    cli.need(choice, 'workdir')
    startup.enable_compilation_cache()
    startup.check_devices()
    runs = restore(choice.workdir)
    single = [run.workdir for run in runs] == [choice.workdir]
    finished = not single or bool(report.read(choice.workdir))
    own = [run.meta.config.data for run in runs]
    folders = [data.dir for data in own]
    folder = choice.data.dir or scored_data.common_flag('dir', folders, choice.workdir)
    configs = [dataclasses.replace(r.meta.config, workdir=r.workdir) for r in runs]
    dataset, others = scored_data.open_data(folder, runs)
    unseen = others and not training_data.trained_on(dataset, dataset.members(ALL, 'test'), configs)
    splits = [ALL] if unseen else [data.split for data in own]
    split = choice.data.split or scored_data.common_flag('split', splits, choice.workdir)
    scores = report_best(
        choice.workdir,
        dataset,
        split,
        runs,
        choice.data.test_crops,
        finished=finished,
        allow_changed_data=choice.allow_changed_data,
    )
    print(report.table(scores))
    floor = report.read_floor(choice.workdir, scores)
    if floor:
        print(report.compared(floor))
    below = _subfolder(dataset, split, choice.data.test_crops, configs)
    page = os.path.join(choice.workdir, 'report', below, 'index.html')
    announce(f'report      {storage.link(page)}')


def report_best(
    workdir: str,
    dataset: Dataset,
    split: str,
    runs: Sequence[Best] = (),
    test_crops: int = 0,
    *,
    config: Config | None = None,
    finished: bool = True,
    allow_changed_data: bool = False,
) -> dict[str, Any]:
    """Scores the best checkpoint on the held-out side of a split, and writes the report.

    The probabilities of several runs are averaged, clip by clip. Their accuracy on single segments
    is the mean over the runs.

    Args:
      workdir: folder of the run, or of the runs.
      dataset: the clips.
      split: which of its splits.
      runs: the checkpoints, if they have been restored already.
      test_crops: as `--data.test_crops`; 0: each run's own.
      config: of the run, if it was moved since its checkpoints were saved.
      finished: whether training is done, so that the report marks the run as finished.
      allow_changed_data: as the flag.

    Raises:
      UserError: the dataset has other labels or another front end than a run was trained on, or is
        the run's own and changed since.
    """
    runs = runs or restore(workdir)
    for run in runs:
        provenance.check_dataset(dataset, run.meta, run.workdir)
        if processes.is_first():
            training_data.warn_if_damaged(run.workdir)
    configs = [dataclasses.replace(config or r.meta.config, workdir=r.workdir) for r in runs]
    changed = scored_data.changed(dataset, split, runs, configs, allow_changed_data)
    side = dataset.held_out(split)
    clips = dataset.members(split, side)
    if not len(clips):
        raise UserError(f'--data.split={split} has no test and no validation clips')
    leaked = training_data.trained_on(dataset, clips, configs)
    _announce_optimism(split, side, leaked, dataset, clips, configs)
    predictors = [predictor(run, test_crops=test_crops) for run in runs]
    with Progress(len(clips) * len(runs), 'scoring', 'clip', shown=processes.is_first()) as bar:
        decided = [inference.decide_clips(each, dataset, clips, bar.advance) for each in predictors]
    probabilities = np.mean([each for each, _ in decided], 0)
    scores = _scores(dataset, clips, probabilities) | {
        'segment_accuracy': float(np.mean([accuracy for _, accuracy in decided])),
        'split': split,
        'side': side,
        'trained_on': leaked,
        'step': runs[0].step,
        'dataset': dataset.folder,
    }
    if test_crops:
        scores['test_crops'] = test_crops
    if changed:
        scores['changed_data'] = changed
    if isinstance(dataset, OtherData) and dataset.unknown:
        scores['unknown_labels'] = dataset.unknown
    if not finished:
        scores['finished'] = False
    shown = dataclasses.replace(configs[0], workdir=workdir)
    if runs[0].workdir != workdir:  # a folder of runs
        names = [os.path.relpath(run.workdir, workdir) for run in runs]
        accuracies = [_scores(dataset, clips, each)['accuracy'] for each, _ in decided]
        scores['step'] = [run.step for run in runs]
        scores['runs'] = [
            {'workdir': name, 'accuracy': accuracy}
            for name, accuracy in zip(names, accuracies, strict=True)
        ]
        for name, accuracy in zip(names, accuracies, strict=True):
            announce(f'{name}: accuracy {accuracy:.3f}')
    if processes.is_first():
        folder = os.path.join(workdir, 'report', _subfolder(dataset, split, test_crops, configs))
        report.write_predictions(folder, dataset, clips, probabilities)
        evidence = Evidence(
            dataset,
            clips,
            probabilities,
            lambda some: _over_time(predictors, dataset, some),
            parameters=sum(cost.size(run.state[0]) for run in runs),
            trained_here=config is not None,
        )
        report.write(folder, scores, shown, evidence)  # marks the run as finished, so it is last
    return scores


def _over_time(
    predictors: Sequence[inference.Predictor], dataset: Dataset, clips: Int[np.ndarray, ' some']
) -> list[tuple[Any, Any]]:
    """The probabilities of the segments of some clips, as `inference.over_time`."""
    # A clip may be hours long, so only its length is kept.
    lengths = [len(dataset.mel(clip)) for clip in clips]
    decisions = [
        inference.decide(each, (dataset.mel(clip) for clip in clips)) for each in predictors
    ]
    return inference.over_time(predictors, decisions, lengths)


def _subfolder(dataset: Dataset, split: str, test_crops: int, configs: Sequence[Config]) -> str:
    """Where below `report/` the scores go; '' for those of the runs' own test clips."""
    other_dataset = not all(same_folder(dataset.folder, each.data.dir) for each in configs)
    other_crops = not all(test_crops in (0, each.data.test_crops) for each in configs)
    if not other_dataset and not other_crops and all(split == each.data.split for each in configs):
        return ''
    name = os.path.basename(os.path.realpath(dataset.folder))
    parts = [name] * other_dataset + [split] + [f'{test_crops}-crops'] * other_crops
    return '-'.join(parts)


def _announce_optimism(
    split: str,
    side: str,
    leaked: int,
    dataset: Dataset,
    clips: Int[np.ndarray, ' clips'],
    configs: Sequence[Config],
) -> None:
    if side != 'test':
        announce(
            f'{split} has no test clips; the report is on the validation clips, '
            'so the scores are optimistic'
        )
    if leaked:
        leaking = [
            config for config in configs if training_data.trained_on(dataset, clips, [config])
        ]
        names = ', '.join(dict.fromkeys(config.data.split for config in leaking))
        announce(
            f'{leaked} of these {len(clips)} clips were trained on under {names}: '
            'the scores are optimistic'
        )


def score(
    apply: inference.Apply, dataset: Dataset, clips: Int[np.ndarray, ' clips'], run: Config
) -> dict[str, Any]:
    """Scores of some clips with the weights of `apply`."""
    cut = run.data.frames, run.train.batch_size, run.data.test_crops
    probabilities, _ = inference.decide_clips(inference.Predictor(apply, *cut), dataset, clips)
    return _scores(dataset, clips, probabilities)


def _scores(
    dataset: Dataset,
    clips: Int[np.ndarray, ' clips'],
    probabilities: Float[np.ndarray, 'clips labels'],
) -> dict[str, Any]:
    targets = dataset.targets[clips]
    scores = metrics.scores(targets, probabilities.argmax(1), dataset.labels)
    return scores | {'loss': metrics.cross_entropy(targets, probabilities)}


if __name__ == '__main__':
    cli.execute(main, at_once=True)
