"""How each norm fares with fewer and fewer clips per device, at the same batch size.

`python -m experiments.batch_size --data.dir=data/gtzan --out=runs/batch_size`
"""

import dataclasses

from experiments import common
from glr_jax import cli
from glr_jax.config import AugmentConfig, DataConfig, TrainConfig
from glr_jax.errors import UsageError
from glr_jax.fields import check_fields, option, section
from glr_jax.nn.config import ModelConfig, NormName

USAGE = """
usage: python -m experiments.batch_size --data.dir=FOLDER --out=DIR [--flag=value ...]

Trains with each norm at each number of clips per device. --train.batch_size stays the same, so
there are either many devices with few clips each, or few devices with many. Before that, it
measures the first step of each: how far its gradient deviates from the gradient on one device, how
long it takes, and what the devices exchange. Writes DIR/report.md, DIR/results.json and
DIR/accuracy.png after every run. If it was interrupted, the same command resumes it.

The necessary runs come first: every norm on one device, then, at every size, the norms whose
gradient depends on the number of devices. The remaining runs only confirm that the other norms do
not depend on it. If the study stops before them, the report uses the runs on one device in their
place, and marks them.

An iteration is a split and a seed: iteration 2 has split random-2 and seed 2. The flagfile of a run
gives the network and how it is trained; its workdir, seed, split and norm are replaced by the
study's.
"""
TAKEN = {
    'workdir': '--out',
    'seed': '--iterations',
    'data.split': '--protocol',
    'model.norm': '--norms',
    'train.accumulate': '--per_device',
}
INDEPENDENT = 1e-4  # a smaller deviation of the gradient is float rounding


@dataclasses.dataclass(frozen=True)
class BatchSize:
    """The flags."""

    out: str = option('', 'folder for the runs and the report', is_path=True)
    norms: tuple[NormName, ...] = option(
        ('glr', 'batch', 'batch_sync', 'group', 'none'), 'norms to train with, see --model.norm'
    )
    per_device: tuple[int, ...] = option(
        (1, 2, 4, 8, 16, 32), 'clips per device and step', minimum=1
    )
    iterations: tuple[int, ...] = option(
        (1, 2, 3), 'iterations to run, see above', minimum=1, maximum=2**31 - 1
    )
    protocol: str = option(
        'random', 'random, group, official, fault_filtered, or any column of splits.csv'
    )
    repeats: int = option(15, 'timed steps per norm and number of clips per device', minimum=1)
    cpu_devices: int = option(
        32, 'simulate this many devices on the CPU; 0 = use the real devices', minimum=0
    )
    workdir: str = common.ignored('')
    seed: int = common.ignored(0)
    data: DataConfig = section(DataConfig)
    model: ModelConfig = section(ModelConfig)
    train: TrainConfig = section(TrainConfig)
    augment: AugmentConfig = section(AugmentConfig)

    def __post_init__(self) -> None:
        check_fields(self)
        common.check_distinct(self, 'norms', 'per_device', 'iterations')
        for size in self.per_device:
            if self.train.batch_size % size:
                raise UsageError(
                    f'--per_device={size} does not divide '
                    f'--train.batch_size={self.train.batch_size}'
                )


if __name__ == '__main__':  # before the imports that take seconds
    cli.check_command_line(BatchSize, USAGE)

import json
import os
from collections.abc import Collection, Sequence
from typing import Any

import jax

from experiments import trials
from experiments.batch_size import figure, report, scaling
from experiments.batch_size.scaling import Step
from experiments.trials import Trial, split_of
from glr_jax import baselines, fields, figures, json_files, storage
from glr_jax.cli import status
from glr_jax.config import Config
from glr_jax.data.dataset import Dataset
from glr_jax.errors import UserError
from glr_jax.text import counted


def main(argv: list[str]) -> None:
    """Runs the command line."""
    study = cli.parse(BatchSize, argv, USAGE)
    dataset = trials.start(study, argv, TAKEN, study.cpu_devices)
    check_devices(study)
    all_trials = trials_of(study, dataset)
    trials.check(all_trials, dataset)
    measured = measure_steps(study, dataset, all_trials)
    dependent = {step.norm for step in measured if step.deviation > INDEPENDENT}
    results: dict[str, Any] = {
        'dataset': dataset.folder,
        'clips': len(dataset),
        'hardware': common.in_words(common.hardware()),
        'settings': fields.to_dict(study),
        'independent': [norm for norm in study.norms if norm not in dependent],
        'baselines': baseline_scores(study, dataset),
        'steps': [step._asdict() for step in measured],
    }
    unfinished = [trial for trial in all_trials if not trial.scores()]
    for trial in trials.train_each(in_order(study, all_trials, dependent), dataset):
        if trial in unfinished:
            write(study.out, results | {'runs': finished(all_trials)})
    results['runs'] = finished(all_trials)
    write(study.out, results)
    print(report.tables(results))
    status(f'wrote {os.path.join(study.out, "report.md")}')


def check_devices(study: BatchSize) -> None:
    """Raises `UserError` if there are too few devices for the fewest clips per device."""
    smallest = min(study.per_device)
    needed = study.train.batch_size // smallest
    if len(jax.devices()) < needed:
        raise UserError(
            f'--per_device={smallest} takes {needed} devices, more than the '
            f'{len(jax.devices())} here; give --cpu_devices={needed} to simulate them'
        )


def trials_of(study: BatchSize, dataset: Dataset) -> list[Trial]:
    """Every norm at every number of clips per device, in every iteration."""
    all_trials = []
    for iteration in study.iterations:
        split = split_of(study.protocol, iteration, dataset)
        for norm in study.norms:
            for size in study.per_device:
                config = Config(
                    workdir=os.path.join(study.out, f'{norm}-{size}-{iteration}'),
                    seed=iteration,
                    data=dataclasses.replace(study.data, split=split),
                    model=trials.with_norm(study.model, norm),
                    train=dataclasses.replace(study.train, accumulate=1),
                    augment=study.augment,
                )
                name = f'{norm}, {counted(size, "clip")} per device, iteration {iteration}'
                varied = {'norm': norm, 'per_device': size, 'iteration': iteration}
                all_trials.append(Trial(name, config, varied, study.train.batch_size // size))
    return all_trials


def in_order(
    study: BatchSize, all_trials: Sequence[Trial], dependent: Collection[str]
) -> list[Trial]:
    """The necessary trials, iteration by iteration; then the others, norm by norm.

    Args:
      study: the flags.
      all_trials: the study's trials, iteration by iteration.
      dependent: norms whose gradient depends on the number of devices.
    """
    largest = max(study.per_device)
    necessary = lambda t: t.varied['norm'] in dependent or t.varied['per_device'] == largest
    place = lambda trial: (
        study.norms.index(trial.varied['norm']),
        study.per_device.index(trial.varied['per_device']),
    )
    others = [trial for trial in all_trials if not necessary(trial)]
    return [trial for trial in all_trials if necessary(trial)] + sorted(others, key=place)


def measure_steps(study: BatchSize, dataset: Dataset, all_trials: Sequence[Trial]) -> list[Step]:
    """The first step of every norm at every size; measured once and kept in `steps.json`."""
    path = os.path.join(study.out, 'steps.json')
    if os.path.exists(path):
        kept = _kept_steps(path)
        if {(step.norm, step.per_device) for step in kept} == {
            (trial.varied['norm'], trial.varied['per_device']) for trial in all_trials
        }:
            return kept
    configs = [
        trial.config
        for trial in all_trials
        if trial.varied['iteration'] == study.iterations[0]
        and trial.varied['per_device'] == study.per_device[0]
    ]
    measured = scaling.measure(configs, dataset, study.per_device, study.repeats)
    os.makedirs(study.out, exist_ok=True)
    json_files.write(path, [step._asdict() for step in measured])
    return measured


def _kept_steps(path: str) -> list[Step]:
    """The steps in a `steps.json`; none if it is damaged, so that they are measured again."""
    try:
        return [Step(**step) for step in json.loads(json_files.read_bytes(path))]
    except (ValueError, TypeError, RecursionError):
        return []


def finished(all_trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """The rows of the trials that are finished so far."""
    return [trial.varied | {'scores': scores} for trial in all_trials if (scores := trial.scores())]


def baseline_scores(study: BatchSize, dataset: Dataset) -> dict[str, list[dict[str, Any]]]:
    """Scores of each baseline in each iteration."""
    splits = [split_of(study.protocol, iteration, dataset) for iteration in study.iterations]
    return baselines.scores_on(dataset, splits)


def write(folder: str, results: dict[str, Any]) -> None:
    """Writes the results so far: JSON, report and figure."""
    json_files.write(os.path.join(folder, 'results.json'), results)
    text = report.document(results, 'accuracy.png')
    storage.write_text(os.path.join(folder, 'report.md'), text)
    figures.save(figure.draw(results), os.path.join(folder, 'accuracy.png'), dpi=150)


if __name__ == '__main__':
    cli.execute(main, resumes=True)
