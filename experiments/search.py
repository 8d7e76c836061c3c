"""Search over the candidates of the paper's Table 3.

`python -m experiments.search --data.dir=data/gtzan --out=runs/search --budget=16`
"""

import dataclasses
from typing import Any, Literal

from experiments import common, paper
from glr_jax import cli
from glr_jax.config import AugmentConfig, DataConfig, LocalConfig, TrainConfig
from glr_jax.fields import option, section
from glr_jax.nn.config import ModelConfig

USAGE = """
usage: python -m experiments.search --data.dir=FOLDER --out=DIR [--flag=value ...]

Trains one model per setting and writes DIR/results.md and DIR/results.json, ranked by validation
accuracy. The default candidates are those of the paper's Table 3; the paper's optimum is always the
first trial. The other settings are the paper's unless flags change them, whatever the defaults of
glr_jax.train are. If the search was interrupted, the same command resumes it; a larger --budget
adds trials to the finished ones.

The methods:
  random  settings drawn from the grid without repetition, in an order that --seed decides
  grid    all combinations in order, the last parameter varying fastest
  each    one parameter at a time, the others at the paper's optimum
"""
TAKEN = {
    'workdir': '--out',
    'model.kernels': '--kernels and --layers',
    'model.kernel_size': '--kernel_size',
    'model.hidden': '--hidden',
    'train.epochs': '--epochs',
    'train.learning_rate': '--learning_rate',
}
Floor = dict[str, dict[str, Any]]
Setting = dict[str, Any]  # {layers, kernel_size, kernels, hidden, epochs, learning_rate}


@dataclasses.dataclass(frozen=True)
class Search:
    """The flags."""

    out: str = option('', 'folder for the runs and the results', is_path=True)
    method: Literal['random', 'grid', 'each'] = option('random', 'which settings to try, see above')
    budget: int = option(16, 'maximum number of trials', minimum=1)
    seed: int = option(0, 'seed of the random order and of every run', minimum=0, maximum=2**31 - 1)
    layers: tuple[int, ...] = option(
        paper.CANDIDATES['layers'], 'candidates: convolutional layers', minimum=1
    )
    kernel_size: tuple[int, ...] = option(
        paper.CANDIDATES['kernel_size'], 'candidates: kernel size along each axis', minimum=1
    )
    kernels: tuple[int, ...] = option(
        paper.CANDIDATES['kernels'], 'candidates: kernels in each convolution', minimum=1
    )
    hidden: tuple[int, ...] = option(
        paper.CANDIDATES['hidden'], 'candidates: units in the recurrent layer', minimum=1
    )
    epochs: tuple[int, ...] = option(paper.CANDIDATES['epochs'], 'candidates: epochs', minimum=1)
    learning_rate: tuple[float, ...] = option(
        paper.CANDIDATES['learning_rate'], 'candidates: learning rate of Adam', minimum=0
    )
    workdir: str = common.ignored('')
    data: DataConfig = section(DataConfig, default=paper.DATA)
    model: ModelConfig = section(ModelConfig, default=paper.MODEL)
    train: TrainConfig = section(TrainConfig, default=paper.TRAIN)
    augment: AugmentConfig = section(AugmentConfig, default=paper.AUGMENT)
    parallel: LocalConfig = section(LocalConfig)


if __name__ == '__main__':  # before the imports that take seconds
    cli.check_command_line(Search, USAGE)

import itertools
import os
from collections.abc import Sequence

import numpy as np

from experiments import trials
from experiments.tables import baseline_table, markdown
from experiments.trials import Trial
from glr_jax import baselines, fields, json_files, storage
from glr_jax.cli import status
from glr_jax.config import Config, ParallelConfig
from glr_jax.data.dataset import Dataset
from glr_jax.errors import UsageError
from glr_jax.nn import cost


def main(argv: list[str]) -> None:
    """Runs the command line."""
    search = cli.parse(Search, argv, USAGE)
    dataset = trials.start(search, argv, TAKEN, search.parallel.cpu_devices)
    all_trials = trials_of(search)
    trials.check(all_trials, dataset)
    floor = {
        name: scores
        for name, (scores,) in baselines.scores_on(dataset, [search.data.split]).items()
    }
    rows: list[dict[str, Any]] = []
    for trial in trials.train_each(all_trials, dataset, past_divergence=True):
        rows.append(row_of(trial, dataset))
        write(search, rows, floor)
    print(document(search, rows, floor))
    status(f'wrote {os.path.join(search.out, "results.md")}')


def trials_of(search: Search) -> list[Trial]:
    """One trial per setting, in order."""
    return [trial_of(search, setting) for setting in settings(search)]


def settings(search: Search) -> list[Setting]:
    """The settings to try, in order: the paper's optimum, then the method's, up to the budget."""
    candidates = {name: getattr(search, name) for name in paper.CANDIDATES}
    grid = [
        dict(zip(candidates, values, strict=True))
        for values in itertools.product(*candidates.values())
    ]
    match search.method:
        case 'random':
            order = np.random.default_rng(search.seed).permutation(len(grid))
            chosen = [grid[k] for k in order]
        case 'grid':
            chosen = grid
        case 'each':
            chosen = [
                paper.OPTIMUM | {name: value} for name in candidates for value in candidates[name]
            ]
    unique: list[Setting] = []
    for setting in [paper.OPTIMUM, *chosen]:
        if setting not in unique and len(unique) < search.budget:
            unique.append(setting)
    return unique


def trial_of(search: Search, setting: Setting) -> Trial:
    """The trial of a setting.

    Raises:
      UsageError: the setting does not suit the other flags.
    """
    name = '-'.join(f'{key}={value}' for key, value in setting.items())
    try:
        config = Config(
            workdir=os.path.join(search.out, name),
            seed=search.seed,
            data=search.data,
            model=dataclasses.replace(
                search.model,
                kernels=(setting['kernels'],) * setting['layers'],
                kernel_size=setting['kernel_size'],
                hidden=setting['hidden'],
            ),
            train=dataclasses.replace(
                search.train, epochs=setting['epochs'], learning_rate=setting['learning_rate']
            ),
            augment=search.augment,
            parallel=ParallelConfig(search.parallel.mapper, search.parallel.cpu_devices),
        )
    except UsageError as error:  # names the run's own flags
        message = str(error)
        for flag, instead in TAKEN.items():
            message = message.replace(f'--{flag}', instead)
        raise UsageError(message) from None
    return Trial(name, config, {'setting': setting})


def row_of(trial: Trial, dataset: Dataset) -> dict[str, Any]:
    """A trained trial's row of the results, without scores if it diverged."""
    model, scores = trial.config.model, trial.scores()
    row = trial.varied | {'parameters': cost.parameters(model, dataset.n_mels, len(dataset.labels))}
    if not scores:
        return row
    epochs = trial.epochs()
    (best,) = (epoch for epoch in epochs if epoch['step'] == scores['step'])
    return row | {
        'validation_accuracy': best['validation_accuracy'],
        'validation_loss': best['validation_loss'],
        'test_accuracy': scores['accuracy'],
        'test_macro_f1': scores['macro_f1'],
        'seconds': epochs[-1]['seconds'],
    }


def write(search: Search, rows: Sequence[dict[str, Any]], floor: Floor) -> None:
    """Writes the results so far."""
    os.makedirs(search.out, exist_ok=True)
    results = {'search': fields.to_dict(search), 'trials': rows}
    results |= {'floor': floor['svm']['accuracy'], 'baselines': floor}
    json_files.write(os.path.join(search.out, 'results.json'), results)
    text = document(search, rows, floor) + '\n'
    storage.write_text(os.path.join(search.out, 'results.md'), text)


def document(search: Search, rows: Sequence[dict[str, Any]], floor: Floor) -> str:
    """The results as Markdown, ranked by validation accuracy; diverged trials come last.

    Args:
      search: the flags.
      rows: of the trials, from `row_of`.
      floor: {baseline: its scores}.
    """
    finished = [row for row in rows if 'test_accuracy' in row]
    finished.sort(key=lambda row: (-row['validation_accuracy'], row['validation_loss']))
    diverged = [row for row in rows if 'test_accuracy' not in row]
    cells = []
    for row in finished + diverged:
        scores = ['diverged', '', '', '', '']
        if row in finished:
            keys = 'validation_accuracy', 'test_accuracy', 'test_macro_f1'
            percent = [f'{100 * row[key]:.1f}' for key in keys]
            scores = [*percent, f'{row["validation_loss"]:.3f}', f'{row["seconds"]:.0f}']
        mark = "the paper's optimum" if row['setting'] == paper.OPTIMUM else ''
        cells.append([*map(str, row['setting'].values()), f'{row["parameters"]:,}', *scores, mark])
    header = [name.replace('_', ' ') for name in paper.OPTIMUM] + ['parameters']
    header += ['validation, %', 'test, %', 'macro-F1, %', 'validation loss', 'seconds', '']
    return (
        f'# Search: {search.method}, {len(rows)} trials, {search.data.dir}, {search.data.split}\n\n'
        'Ranked by validation accuracy; the test clips play no part in the ranking.\n\n'
        f'{markdown(header, cells)}\n\nWithout a network, on the same test clips:\n\n'
        + baseline_table({name: [scores] for name, scores in floor.items()})
    )


if __name__ == '__main__':
    cli.execute(main, resumes=True)
