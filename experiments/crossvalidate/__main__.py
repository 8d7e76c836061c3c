"""Trains a network on several splits and seeds, and compares it with the baselines.

`python -m experiments.crossvalidate --flagfile=experiments/gtzan.flags --out=runs/gtzan-cv`
"""

import dataclasses

from experiments import common
from glr_jax import cli
from glr_jax.config import Config, DataConfig, DataFlags
from glr_jax.errors import UsageError
from glr_jax.fields import option, section

USAGE = """
usage: python -m experiments.crossvalidate --data.dir=FOLDER --out=DIR
[--splits=random-1,random-2] [--seeds=5] [--flag=value ...]

Trains the network on each split with each seed, on any dataset that data_prep made. Prints test
accuracy and macro-F1 per split, the baselines beside them, and the paired difference between the
network and the SVM on statistics, and writes them to DIR/report.md and DIR/results.json. Each run
has its own workdir, DIR/SPLIT/seed-N, so DIR/SPLIT is a folder of runs that glr_jax.evaluate and
glr_jax.predict can average. If it was interrupted, the same command resumes it; more splits or
seeds add runs to the finished ones.

All flags of glr_jax.train are allowed, except those of several processes, and so is the flagfile of
a run. --workdir is replaced. Without --splits there is one split: that of the flagfile, or else the
one that glr_jax.train would choose.
The seeds of each split are --seed, --seed + 1, and so on: the split random-3 with --seed=1 and
--seeds=2 is trained with the seeds 1 and 2.

If clips may have several labels, it prints the macro ROC-AUC, the average precision and macro-F1,
beside logistic regression for each label and the frequencies of the labels.

--against=FOLDER compares the runs with those of another DIR that have the same split and seed;
python -m glr_jax.compare compares any runs.
"""
TAKEN = {'workdir': '--out', 'data.split': '--splits'}


@dataclasses.dataclass(frozen=True)
class CrossValidation(Config):
    """The flags: those of a run, and which runs there are."""

    workdir: str = option('', '', is_path=True)  # only of a flagfile, and not used
    out: str = option('', 'folder for the runs and the report', is_path=True)
    splits: tuple[str, ...] = option(('',), 'splits to train on: columns of splits.csv; see above')
    seeds: int = option(1, 'runs per split, with consecutive seeds from --seed', minimum=1)
    data: DataFlags = section(DataFlags, default=DataFlags(split=''))
    against: str = option('', 'the --out of another cross-validation to compare with', is_path=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        common.check_distinct(self, 'splits')
        if self.parallel.coordinator:
            raise UsageError('--parallel.coordinator is not for a study: it runs in one process')
        if not self.baselines:
            raise UsageError('--baselines=false is not for this study: it always scores them')


if __name__ == '__main__':  # before the imports that take seconds
    cli.check_command_line(CrossValidation, USAGE)

import os
import shlex
from collections.abc import Sequence
from typing import Any

from experiments import trials
from experiments.crossvalidate import compare, report
from experiments.trials import Trial
from glr_jax import baselines, fields, json_files, storage
from glr_jax.cli import status
from glr_jax.data.dataset import Dataset
from glr_jax.data.split_table import default_split
from glr_jax.run.segment import choose_frames


def main(argv: list[str]) -> None:
    """Runs the command line."""
    study = cli.parse(CrossValidation, argv, USAGE)
    cpu_devices = study.parallel.cpu_devices
    dataset = trials.start(study, argv, TAKEN, cpu_devices, multi_label=True)
    study = choose_frames(with_split(study, dataset), dataset, study.data.seconds)
    all_trials = trials_of(study)
    trials.check(all_trials, dataset)
    other = compare.read(study.against, dataset.multi_label) if study.against else {}
    finished = list(trials.train_each(all_trials, dataset))
    results = collect(study, dataset, finished)
    if study.against:
        results['against'] = compare.paired(study.out, results, study.against, other)
    text = report.document(results)
    json_files.write(os.path.join(study.out, 'results.json'), results)
    storage.write_text(os.path.join(study.out, 'report.md'), text)
    print(text)
    status(f'wrote {os.path.join(study.out, "report.md")}')
    status(f'to compare with other runs: python -m glr_jax.compare {shlex.quote(study.out)} OTHER')


def with_split(study: CrossValidation, dataset: Dataset) -> CrossValidation:
    """The study with a split that suits the dataset, if it names none."""
    if any(study.splits) or study.data.split:
        return study
    split, why = default_split(dataset.splits, dataset.groups)
    status(f'--splits={split}: {why}')
    return dataclasses.replace(study, splits=(split,))


def trials_of(study: CrossValidation) -> list[Trial]:
    """One trial per split and seed, split by split.

    Raises:
      UsageError: the seeds become too large.
    """
    own = {field.name: getattr(study, field.name) for field in dataclasses.fields(Config)}
    splits = study.splits if any(study.splits) else (study.data.split,)
    data = fields.from_dict(DataConfig, fields.to_dict(study.data))
    all_trials = []
    for split in splits:
        for seed in range(study.seed, study.seed + study.seeds):
            changes = {
                'workdir': os.path.join(study.out, split, f'seed-{seed}'),
                'seed': seed,
                'data': dataclasses.replace(data, split=split),
            }
            varied = {'split': split, 'seed': seed}
            all_trials.append(Trial(f'{split}, seed {seed}', Config(**own | changes), varied))
    return all_trials


def collect(study: CrossValidation, dataset: Dataset, finished: Sequence[Trial]) -> dict[str, Any]:
    """Scores and minutes of all trials, and the baselines' scores on the same splits."""
    splits = list(dict.fromkeys(trial.varied['split'] for trial in finished))
    rows = [
        trial.varied | {'scores': trial.scores(), 'minutes': trial.epochs()[-1]['seconds'] / 60}
        for trial in finished
    ]
    return {
        'dataset': dataset.folder,
        'clips': len(dataset),
        'labels': list(dataset.labels),
        'hardware': common.in_words(common.hardware()),
        'settings': fields.to_dict(study),
        'splits': splits,
        'baselines': baseline_scores(study.out, dataset, splits),
        'runs': rows,
    }


def baseline_scores(
    out: str, dataset: Dataset, splits: Sequence[str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Scores of each baseline on each split; computed once and kept in `baselines.json`."""
    path = os.path.join(out, 'baselines.json')
    kept: dict[str, Any] = {'dataset': dataset.folder, 'scores': {}}
    if os.path.exists(path):
        found = json_files.read_object(path, 'remove it, and it is computed again')
        same = found.get('dataset') == dataset.folder and isinstance(found.get('scores'), dict)
        kept = found if same else kept
    missing = [split for split in splits if split not in kept['scores']]
    if missing:
        status(f'scoring the baselines on {", ".join(missing)}')
        for name, scores in baselines.scores_on(dataset, missing).items():
            for split, of_split in zip(missing, scores, strict=True):
                kept['scores'].setdefault(split, {})[name] = of_split
        json_files.write(path, kept)
    return {split: kept['scores'][split] for split in splits}


if __name__ == '__main__':
    cli.execute(main, resumes=True)
