"""The paper's experiment: baselines with BN and the proposed model with GLR, three iterations.

`python -m experiments.reproduce --data.dir=data/gtzan --out=runs/gtzan`
"""

import dataclasses
import json
import os
from typing import Any

from experiments import baselines
from experiments.common import hardware_in_words, split_of
from experiments.reproduce import figures, tables
from glr_jax import cli, fields, train
from glr_jax.cli import status
from glr_jax.config import Config, DataConfig, ModelConfig, ParallelConfig, TrainConfig
from glr_jax.data.dataset import Dataset, open_dataset
from glr_jax.devices import startup
from glr_jax.devices.parallel import set_cpu_devices
from glr_jax.errors import UsageError
from glr_jax.fields import option, section

USAGE = """
usage: python -m experiments.reproduce --data.dir=FOLDER --out=DIR [--flag=value ...]

Trains each model in each iteration and writes DIR/report.md, DIR/results.json and figures:
Tables 4 to 9 and Figures 4 to 9 of the paper, each measured figure beside the paper's.
The same command again goes on where it stopped.

A model is cnn, rnn or cnn-rnn (baselines, batch normalisation), proposed (cnn-rnn with GLR), or
any kind with any norm, as crnn+group. An iteration is a split and a seed: random-2 with seed 2;
a protocol with one split alone (official, fault_filtered) differs in the seed.
"""
# Table 1 and Table 2 of the paper.
MODELS = {
    'cnn': {'kind': 'cnn', 'norm': 'batch'},
    'rnn': {'kind': 'rnn', 'norm': 'batch'},
    'cnn-rnn': {'kind': 'crnn', 'norm': 'batch'},
    'proposed': {'kind': 'crnn', 'norm': 'glr'},
}
TAKEN = {
    'data.split': '--protocol',
    'model.kind': '--models',
    'model.norm': '--models',
    'train.epochs': '--epochs',
}


@dataclasses.dataclass(frozen=True)
class Reproduction:
    """What the command line says."""

    out: str = option('', 'folder of runs and report')
    models: tuple[str, ...] = option(tuple(MODELS), 'which to train')
    iterations: tuple[int, ...] = option((1, 2, 3), 'which to run', minimum=1)
    protocol: str = option('random', 'random, group, official, fault_filtered, or a column')
    epochs: int = option(50, 'of each run', minimum=1)
    data: DataConfig = section(DataConfig)
    model: ModelConfig = section(ModelConfig)
    train: TrainConfig = section(TrainConfig)
    parallel: ParallelConfig = section(ParallelConfig)


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run of the study."""

    model: str
    iteration: int
    config: Config


def main(argv: list[str]) -> None:
    """Runs the command line."""
    study = cli.parse(Reproduction, argv, USAGE)
    cli.need(study, 'data.dir', 'out')
    cli.refuse(study, TAKEN)
    set_cpu_devices(study.parallel.cpu_devices)
    startup.enable_compilation_cache()
    dataset = open_dataset(study.data.dir)
    runs = plan(study, dataset)
    for number, run in enumerate(runs, 1):
        status(f'[{number}/{len(runs)}] {run.model}, iteration {run.iteration}')
        train.train_and_evaluate(run.config, dataset)
    results = collect(study, dataset, runs)
    with open(os.path.join(study.out, 'results.json'), 'w') as file:
        json.dump(results, file, indent=2)
    text = tables.document(results, figures.write(study.out, results))
    with open(os.path.join(study.out, 'report.md'), 'w', encoding='utf-8') as file:
        file.write(text)
    print(text[: text.index('## Figures')])
    status(f'written: {os.path.join(study.out, "report.md")}')


def plan(study: Reproduction, dataset: Dataset) -> list[Run]:
    """The runs, iteration by iteration, so that a study cut short has whole iterations.

    Raises:
      UsageError: an unknown model or protocol.
    """
    runs = []
    for iteration in study.iterations:
        split = split_of(study.protocol, iteration, dataset)
        for name in study.models:
            config = Config(
                workdir=os.path.join(study.out, f'{name}-{iteration}'),
                seed=iteration,
                data=dataclasses.replace(study.data, split=split),
                model=dataclasses.replace(study.model, **architecture(name)),
                train=dataclasses.replace(study.train, epochs=study.epochs),
                parallel=study.parallel,
            )
            runs.append(Run(name, iteration, config))
    return runs


def architecture(name: str) -> dict[str, Any]:
    """Kind and norm of a model's name."""
    if name in MODELS:
        return MODELS[name]
    kind, _, norm = name.partition('+')
    kinds = ModelConfig.__annotations__['kind'].__args__
    norms = ModelConfig.__annotations__['norm'].__args__
    if kind not in kinds or norm not in norms:
        raise UsageError(
            f'--models: {name!r} is none of {", ".join(MODELS)}, nor KIND+NORM of '
            f'{"|".join(kinds)} and {"|".join(norms)}'
        )
    return {'kind': kind, 'norm': norm}


def collect(study: Reproduction, dataset: Dataset, runs: list[Run]) -> dict[str, Any]:
    """The scores and curves of all runs, and the floor on the same splits."""
    rows = []
    for run in runs:
        with open(os.path.join(run.config.workdir, 'report', 'metrics.json')) as file:
            scores = json.load(file)
        with open(os.path.join(run.config.workdir, 'metrics.jsonl')) as file:
            epochs = [json.loads(line) for line in file]
        rows.append(
            {
                'model': run.model,
                'kind': run.config.model.kind,
                'norm': run.config.model.norm,
                'iteration': run.iteration,
                'scores': scores,
                'epochs': epochs,
            }
        )
    seconds = {f'{row["model"]}-{row["iteration"]}': row['epochs'][-1]['seconds'] for row in rows}
    splits = [split_of(study.protocol, iteration, dataset) for iteration in study.iterations]
    for iteration, scores in zip(
        study.iterations, baselines.svm_scores(dataset, splits), strict=True
    ):
        rows.append({'model': 'svm', 'iteration': iteration, 'scores': scores})
    return {
        'labels': list(dataset.labels),
        'dataset': dataset.folder,
        'clips': len(dataset),
        'protocol': study.protocol,
        'epochs': study.epochs,
        'hardware': hardware_in_words(),
        'seconds': seconds,
        'settings': fields.to_dict(study),
        'runs': rows,
    }


if __name__ == '__main__':
    cli.execute(main)
