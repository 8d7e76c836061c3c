"""The paper's experiment: its baselines with batch norm and the proposed model with GLR.

`python -m experiments.reproduce --data.dir=data/gtzan --out=runs/gtzan`
"""

import dataclasses

from experiments import common, paper
from glr_jax import cli
from glr_jax.config import AugmentConfig, DataConfig, LocalConfig, TrainConfig
from glr_jax.fields import check_fields, option, section
from glr_jax.nn.config import ModelConfig

USAGE = """
usage: python -m experiments.reproduce --data.dir=FOLDER --out=DIR [--flag=value ...]

Trains each model in each iteration and writes DIR/report.md, DIR/results.json and DIR/figures:
Tables 4 to 9 and Figures 4 to 9 of the paper, with the paper's values beside the measured ones.
If it was interrupted, the same command resumes it.

A model is cnn, rnn or cnn-rnn (the paper's baselines, with batch norm), proposed (cnn-rnn with
GLR), or KIND+NORM with any --model.kind and --model.norm, e.g. crnn+group. An iteration is a split
and a seed: iteration 2 has split random-2 and seed 2. With a protocol that has a single split
(official, fault_filtered), iterations differ in the seed only.

The settings are the paper's unless flags change them, whatever the defaults of glr_jax.train are.
So a flagfile that builds on those defaults, such as gtzan.flags, does not bring its network along;
experiments.crossvalidate does that. The flagfile of a run can be given; its workdir, seed, split,
kind, norm and epochs are replaced by the study's.
"""
# Table 1 and Table 2 of the paper.
MODELS = {
    'cnn': 'cnn+batch',
    'rnn': 'rnn+batch',
    'cnn-rnn': 'crnn+batch',
    'proposed': 'crnn+glr',
}
TAKEN = {
    'workdir': '--out',
    'seed': '--iterations',
    'data.split': '--protocol',
    'model.kind': '--models',
    'model.norm': '--models',
    'train.epochs': '--epochs',
}


@dataclasses.dataclass(frozen=True)
class Reproduction:
    """The flags."""

    out: str = option('', 'folder for the runs and the report', is_path=True)
    models: tuple[str, ...] = option(tuple(MODELS), 'models to train, see above')
    iterations: tuple[int, ...] = option(
        (1, 2, 3), 'iterations to run, see above', minimum=1, maximum=2**31 - 1
    )
    protocol: str = option(
        'random', 'random, group, official, fault_filtered, or any column of splits.csv'
    )
    epochs: int = option(50, 'epochs per run', minimum=1)
    workdir: str = common.ignored('')
    seed: int = common.ignored(0)
    data: DataConfig = section(DataConfig, default=paper.DATA)
    model: ModelConfig = section(ModelConfig, default=paper.MODEL)
    train: TrainConfig = section(TrainConfig, default=paper.TRAIN)
    augment: AugmentConfig = section(AugmentConfig, default=paper.AUGMENT)
    parallel: LocalConfig = section(LocalConfig)

    def __post_init__(self) -> None:
        check_fields(self)
        common.check_distinct(self, 'models', 'iterations')


if __name__ == '__main__':  # before the imports that take seconds
    cli.check_command_line(Reproduction, USAGE)

import os
import typing
from collections.abc import Sequence
from typing import Any

from experiments import trials
from experiments.reproduce import figures, report
from experiments.trials import Trial, split_of
from glr_jax import baselines, fields, json_files, storage
from glr_jax.cli import status
from glr_jax.config import Config, ParallelConfig
from glr_jax.data.dataset import Dataset
from glr_jax.errors import FieldError
from glr_jax.nn.config import Kind, NormName


def main(argv: list[str]) -> None:
    """Runs the command line."""
    study = cli.parse(Reproduction, argv, USAGE)
    dataset = trials.start(study, argv, TAKEN, study.parallel.cpu_devices)
    all_trials = trials_of(study, dataset)
    trials.check(all_trials, dataset)
    finished = list(trials.train_each(all_trials, dataset))
    results = collect(study, dataset, finished)
    json_files.write(os.path.join(study.out, 'results.json'), results)
    text = report.document(results, figures.write(study.out, results))
    storage.write_text(os.path.join(study.out, 'report.md'), text)
    print(text[: text.index('## Figures')])
    status(f'wrote {os.path.join(study.out, "report.md")}')


def trials_of(study: Reproduction, dataset: Dataset) -> list[Trial]:
    """All trials, iteration by iteration, so that an interrupted study has whole iterations.

    Raises:
      UsageError: an unknown model, or flags that do not go together.
      UserError: the dataset has no such protocol.
    """
    all_trials = []
    for iteration in study.iterations:
        split = split_of(study.protocol, iteration, dataset)
        for model in study.models:
            config = Config(
                workdir=os.path.join(study.out, f'{model}-{iteration}'),
                seed=iteration,
                data=dataclasses.replace(study.data, split=split),
                model=architecture(study.model, model),
                train=dataclasses.replace(study.train, epochs=study.epochs),
                augment=study.augment,
                parallel=ParallelConfig(study.parallel.mapper, study.parallel.cpu_devices),
            )
            varied = {
                'model': model,
                'kind': config.model.kind,
                'norm': config.model.norm,
                'iteration': iteration,
            }
            all_trials.append(Trial(f'{model}, iteration {iteration}', config, varied))
    return all_trials


def architecture(network: ModelConfig, model: str) -> ModelConfig:
    """The network with the kind and the norm of a model that `--models` names.

    Raises:
      FieldError: there is no such model.
    """
    kind, _, norm = MODELS.get(model, model).partition('+')
    kinds, norms = typing.get_args(Kind), typing.get_args(NormName)
    if kind not in kinds or norm not in norms:
        raise FieldError(
            'models',
            model,
            f'is not one of {", ".join(MODELS)}, and not KIND+NORM with a kind of '
            f'{", ".join(kinds)} and a norm of {", ".join(norms)}',
        )
    of_kind = dataclasses.replace(network, kind=typing.cast(Kind, kind))
    return trials.with_norm(of_kind, typing.cast(NormName, norm))


def collect(study: Reproduction, dataset: Dataset, finished: Sequence[Trial]) -> dict[str, Any]:
    """Scores and learning curves of all trials, and the baselines' scores on the same splits."""
    rows = [
        trial.varied | {'scores': trial.scores(), 'epochs': trial.epochs()} for trial in finished
    ]
    seconds = {f'{row["model"]}-{row["iteration"]}': row['epochs'][-1]['seconds'] for row in rows}
    splits = [split_of(study.protocol, iteration, dataset) for iteration in study.iterations]
    for name, scores_of_splits in baselines.scores_on(dataset, splits).items():
        for iteration, scores in zip(study.iterations, scores_of_splits, strict=True):
            rows.append({'model': name, 'iteration': iteration, 'scores': scores})
    return {
        'labels': list(dataset.labels),
        'dataset': dataset.folder,
        'clips': len(dataset),
        'protocol': study.protocol,
        'epochs': study.epochs,
        'hardware': common.in_words(common.hardware()),
        'seconds': seconds,
        'settings': fields.to_dict(study),
        'runs': rows,
    }


if __name__ == '__main__':
    cli.execute(main, resumes=True)
