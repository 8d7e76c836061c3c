"""Search over the candidates of the paper's Table 3.

`python -m experiments.search --data.dir=data/gtzan --out=runs/search --budget=16`
"""

import dataclasses
import itertools
import json
import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from experiments import baselines, paper
from experiments.common import markdown
from glr_jax import cli, fields, train
from glr_jax.cli import status
from glr_jax.config import Config, DataConfig, ModelConfig, ParallelConfig, TrainConfig
from glr_jax.data.dataset import Dataset, open_dataset
from glr_jax.devices import startup
from glr_jax.devices.parallel import set_cpu_devices
from glr_jax.fields import option, section
from glr_jax.nn import cost

USAGE = """
usage: python -m experiments.search --data.dir=FOLDER --out=DIR [--flag=value ...]

Trains a model for each of some settings and writes DIR/results.md and DIR/results.json, the best
on the validation clips first. The candidates are those of the paper's Table 3; its optimum is
always the first trial. The same command again goes on where it stopped, and a larger --budget
adds trials to those that are done.
  random  settings drawn from the grid, none twice; --seed names the draw
  grid    all combinations in order, the last parameter varying fastest
  each    one parameter at a time, the others at the paper's optimum
"""
TAKEN = {
    'model.kernels': '--kernels and --layers',
    'model.kernel_size': '--kernel_size',
    'model.hidden': '--hidden',
    'train.epochs': '--epochs',
    'train.learning_rate': '--learning_rate',
}
Setting = dict[str, Any]  # {layers, kernel_size, kernels, hidden, epochs, learning_rate}


@dataclasses.dataclass(frozen=True)
class Search:
    """What the command line says."""

    out: str = option('', 'folder of runs and results')
    method: Literal['random', 'grid', 'each'] = option('random', 'which combinations are tried')
    budget: int = option(16, 'trials at most', minimum=1)
    seed: int = option(0, 'of the draw, and of every run')
    layers: tuple[int, ...] = option(paper.CANDIDATES['layers'], 'of convolution', 1)
    kernel_size: tuple[int, ...] = option(paper.CANDIDATES['kernel_size'], 'taps of a kernel', 1)
    kernels: tuple[int, ...] = option(paper.CANDIDATES['kernels'], 'of each convolution', 1)
    hidden: tuple[int, ...] = option(paper.CANDIDATES['hidden'], 'recurrent units', 1)
    epochs: tuple[int, ...] = option(paper.CANDIDATES['epochs'], 'of training', 1)
    learning_rate: tuple[float, ...] = option(paper.CANDIDATES['learning_rate'], 'of Adam', 0)
    data: DataConfig = section(DataConfig)
    model: ModelConfig = section(ModelConfig)
    train: TrainConfig = section(TrainConfig)
    parallel: ParallelConfig = section(ParallelConfig)


def main(argv: list[str]) -> None:
    """Runs the command line."""
    search = cli.parse(Search, argv, USAGE)
    cli.need(search, 'data.dir', 'out')
    cli.refuse(search, TAKEN)
    trials = [(setting, configure(search, setting)) for setting in settings(search)]
    set_cpu_devices(search.parallel.cpu_devices)
    startup.enable_compilation_cache()
    dataset = open_dataset(search.data.dir)
    os.makedirs(search.out, exist_ok=True)
    (floor_scores,) = baselines.svm_scores(dataset, [search.data.split])
    rows: list[dict[str, Any]] = []
    for number, (setting, config) in enumerate(trials, 1):
        status(f'[{number}/{len(trials)}] {os.path.basename(config.workdir)}')
        rows.append(trial(setting, config, dataset))
        write(search, rows, floor_scores['accuracy'])
    print(document(search, rows, floor_scores['accuracy']))
    status(f'written: {os.path.join(search.out, "results.md")}')


def settings(search: Search) -> list[Setting]:
    """What is tried, in order: the paper's optimum, then what the method says, to the budget."""
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


def configure(search: Search, setting: Setting) -> Config:
    """The run of a setting."""
    name = '-'.join(f'{key}={value}' for key, value in setting.items())
    return Config(
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
        parallel=search.parallel,
    )


def trial(setting: Setting, config: Config, dataset: Dataset) -> dict[str, Any]:
    """Trains a setting, or finds it done; its row of the results, without scores if it diverged."""
    row = {
        'setting': setting,
        'parameters': cost.parameters(config.model, dataset.n_mels, len(dataset.labels)),
    }
    try:
        scores = train.train_and_evaluate(config, dataset)
    except train.DivergedError as error:
        status(str(error))
        return row
    with open(os.path.join(config.workdir, 'metrics.jsonl')) as file:
        epochs = [json.loads(line) for line in file]
    (best,) = (row for row in epochs if row['step'] == scores['step'])
    return row | {
        'validation_accuracy': best['validation_accuracy'],
        'validation_loss': best['validation_loss'],
        'test_accuracy': scores['accuracy'],
        'seconds': epochs[-1]['seconds'],
    }


def write(search: Search, rows: Sequence[dict[str, Any]], floor_accuracy: float) -> None:
    """Writes what there is so far."""
    with open(os.path.join(search.out, 'results.json'), 'w') as file:
        results = {'search': fields.to_dict(search), 'trials': rows, 'floor': floor_accuracy}
        json.dump(results, file, indent=2)
    with open(os.path.join(search.out, 'results.md'), 'w', encoding='utf-8') as file:
        file.write(document(search, rows, floor_accuracy) + '\n')


def document(search: Search, rows: Sequence[dict[str, Any]], floor_accuracy: float) -> str:
    """The results as Markdown: the best on the validation clips first, the diverged last."""
    finished = [row for row in rows if 'test_accuracy' in row]
    finished.sort(key=lambda row: (-row['validation_accuracy'], row['validation_loss']))
    diverged = [row for row in rows if 'test_accuracy' not in row]
    cells = []
    for row in finished + diverged:
        scores = ['diverged', '', '', '']
        if row in finished:
            percent = [f'{100 * row[key]:.1f}' for key in ('validation_accuracy', 'test_accuracy')]
            scores = [*percent, f'{row["validation_loss"]:.3f}', f'{row["seconds"]:.0f}']
        mark = "the paper's optimum" if row['setting'] == paper.OPTIMUM else ''
        cells.append([*map(str, row['setting'].values()), f'{row["parameters"]:,}', *scores, mark])
    header = [name.replace('_', ' ') for name in paper.OPTIMUM] + ['parameters']
    header += ['validation, %', 'test, %', 'validation loss', 'seconds', '']
    return (
        f'# Search: {search.method}, {len(rows)} trials, {search.data.dir}, {search.data.split}\n\n'
        'In the order of the validation accuracy; the test clips have no part in it. '
        f'The floor, an SVM on band statistics, has {100 * floor_accuracy:.1f} on them.\n\n'
        + markdown(header, cells)
    )


if __name__ == '__main__':
    cli.execute(main)
