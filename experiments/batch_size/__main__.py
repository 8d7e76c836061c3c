"""What becomes of each norm as the clips of a device get fewer and the batch stays as it is.

`python -m experiments.batch_size --data.dir=data/gtzan --out=runs/batch_size`
"""

import dataclasses
import json
import os
from collections.abc import Collection, Sequence
from typing import Any

import jax

from experiments import baselines
from experiments.batch_size import report, scaling
from experiments.batch_size.scaling import Step
from experiments.common import split_of
from glr_jax import cli, fields, storage, train
from glr_jax import report as run_report
from glr_jax.cli import status
from glr_jax.config import Config, DataConfig, ModelConfig, TrainConfig
from glr_jax.data.dataset import Dataset, open_dataset
from glr_jax.devices import parallel, startup
from glr_jax.errors import UsageError, UserError
from glr_jax.fields import option, section

USAGE = """
usage: python -m experiments.batch_size --data.dir=FOLDER --out=DIR [--flag=value ...]

Trains with each norm at each number of clips a device, --train.batch_size being the same: on many
devices with few clips each, and on few devices with many. Before that, it takes one step of each,
for the deviation of its gradient from one device's, its time, and what devices exchange in it.
Writes DIR/report.md, DIR/results.json and DIR/accuracy.png after every run; the same command again
goes on where it stopped.

What must be trained comes first: every norm on one device, and those whose gradient depends on the
number of devices at every size. The rest confirms what is known by then; wherever it is cut short,
the runs on one device stand for it, and are marked so.

An iteration is a split and a seed: random-2 with seed 2.
"""
TAKEN = {
    'data.split': '--protocol',
    'model.norm': '--norms',
    'train.accumulate': '--per_device',
}
INDEPENDENT = 1e-4  # deviation of a gradient that is float rounding


@dataclasses.dataclass(frozen=True)
class BatchSize:
    """What the command line says."""

    out: str = option('', 'folder of runs and report')
    norms: tuple[str, ...] = option(
        ('glr', 'batch', 'batch_sync', 'group', 'none'), 'which to train with'
    )
    per_device: tuple[int, ...] = option((1, 2, 4, 8, 16, 32), 'clips of a device in a step', 1)
    iterations: tuple[int, ...] = option((1, 2, 3), 'which to run', minimum=1)
    protocol: str = option('random', 'random, group, official, fault_filtered, or a column')
    repeats: int = option(15, 'times that a step is timed', minimum=1)
    cpu_devices: int = option(
        32, 'simulate so many devices on the CPU; 0: take those that there are', minimum=0
    )
    data: DataConfig = section(DataConfig)
    model: ModelConfig = section(ModelConfig)
    train: TrainConfig = section(TrainConfig)


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run of the study."""

    norm: str
    per_device: int
    iteration: int
    config: Config


def main(argv: list[str]) -> None:
    """Runs the command line."""
    study = cli.parse(BatchSize, argv, USAGE)
    cli.need(study, 'data.dir', 'out')
    cli.refuse(study, TAKEN)
    check_sizes(study)
    parallel.set_cpu_devices(study.cpu_devices)
    startup.enable_compilation_cache()
    needed = study.train.batch_size // min(study.per_device)
    if len(jax.devices()) < needed:
        raise UserError(
            f'--per_device={min(study.per_device)} takes {needed} devices, and there are '
            f'{len(jax.devices())}; give --cpu_devices={needed} to simulate them'
        )
    dataset = open_dataset(study.data.dir)
    runs = plan(study, dataset)
    measured = measure_steps(study, dataset, runs)
    dependent = {step.norm for step in measured if step.deviation > INDEPENDENT}
    results: dict[str, Any] = {
        'dataset': dataset.folder,
        'clips': len(dataset),
        'hardware': f'{os.cpu_count()} CPU cores, {len(jax.devices())} {jax.devices()[0].platform}'
        f' devices{" simulated on them" if study.cpu_devices else ""}',
        'settings': fields.to_dict(study),
        'independent': [norm for norm in study.norms if norm not in dependent],
        'floor': floor_of_each(study, dataset),
        'steps': [step._asdict() for step in measured],
    }
    for number, run in enumerate(in_order(study, runs, dependent), 1):
        status(
            f'[{number}/{len(runs)}] {run.norm}, {run.per_device} clips a device, '
            f'iteration {run.iteration}'
        )
        devices = jax.devices()[: study.train.batch_size // run.per_device]
        is_new = not scores_of(run)
        train.train_and_evaluate(run.config, dataset, parallel.make_mesh(devices))
        if is_new:
            write(study.out, results | {'runs': finished(runs)})
    results['runs'] = finished(runs)
    write(study.out, results)
    print(report.tables(results))
    status(f'written: {os.path.join(study.out, "report.md")}')


def check_sizes(study: BatchSize) -> None:
    """Raises `UsageError` for norms and sizes that cannot be run."""
    known = ModelConfig.__annotations__['norm'].__args__
    for norm in study.norms:
        if norm not in known:
            raise UsageError(f'--norms: {norm!r} is none of {", ".join(known)}')
    for size in study.per_device:
        if study.train.batch_size % size:
            raise UsageError(
                f'--per_device={size} does not divide --train.batch_size={study.train.batch_size}'
            )


def plan(study: BatchSize, dataset: Dataset) -> list[Run]:
    """Every norm at every size in every iteration."""
    runs = []
    for iteration in study.iterations:
        split = split_of(study.protocol, iteration, dataset)
        for norm in study.norms:
            for size in study.per_device:
                config = Config(
                    workdir=os.path.join(study.out, f'{norm}-{size}-{iteration}'),
                    seed=iteration,
                    data=dataclasses.replace(study.data, split=split),
                    model=dataclasses.replace(study.model, norm=norm),  # type: ignore[arg-type]
                    train=study.train,
                )
                runs.append(Run(norm, size, iteration, config))
    return runs


def in_order(study: BatchSize, runs: Sequence[Run], dependent: Collection[str]) -> list[Run]:
    """What must be trained first, iteration by iteration; then the rest, norm by norm."""
    largest = max(study.per_device)
    first = [run for run in runs if run.norm in dependent or run.per_device == largest]
    rest = [run for run in runs if run not in first]
    place = lambda run: (study.norms.index(run.norm), study.per_device.index(run.per_device))
    return first + sorted(rest, key=place)


def measure_steps(study: BatchSize, dataset: Dataset, runs: Sequence[Run]) -> list[Step]:
    """The first step of every norm at every size; measured once, and kept in `scaling.json`."""
    path = os.path.join(study.out, 'steps.json')
    if os.path.exists(path):
        with open(path) as file:
            kept = [Step(**step) for step in json.load(file)]
        if {(step.norm, step.per_device) for step in kept} == {
            (r.norm, r.per_device) for r in runs
        }:
            return kept
    chosen = (study.iterations[0], study.per_device[0])
    configs = [run.config for run in runs if (run.iteration, run.per_device) == chosen]
    measured = scaling.measure(configs, dataset, study.per_device, study.repeats)
    os.makedirs(study.out, exist_ok=True)
    with storage.to_write(path) as partial, open(partial, 'w') as file:
        json.dump([step._asdict() for step in measured], file, indent=2)
    return measured


def scores_of(run: Run) -> dict[str, Any]:
    """The test scores of a run; empty where it is not finished."""
    return run_report.read(run.config.workdir)


def finished(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The runs that there are so far, as they go into the results."""
    return [
        {'norm': run.norm, 'per_device': run.per_device, 'iteration': run.iteration}
        | {'scores': scores}
        for run in runs
        if (scores := scores_of(run))
    ]


def floor_of_each(study: BatchSize, dataset: Dataset) -> list[float]:
    """Accuracy of the SVM in each iteration."""
    splits = [split_of(study.protocol, iteration, dataset) for iteration in study.iterations]
    return [scores['accuracy'] for scores in baselines.svm_scores(dataset, splits)]


def write(folder: str, results: dict[str, Any]) -> None:
    """Writes what there is so far."""
    with open(os.path.join(folder, 'results.json'), 'w') as file:
        json.dump(results, file, indent=2)
    with open(os.path.join(folder, 'report.md'), 'w', encoding='utf-8') as file:
        file.write(report.document(results, 'accuracy.png'))
    report.figure(results).savefig(os.path.join(folder, 'accuracy.png'), dpi=150)


if __name__ == '__main__':
    cli.execute(main)
