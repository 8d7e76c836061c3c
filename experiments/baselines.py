"""What a network has to clear: classifiers without time, on statistics of each mel band.

`python -m experiments.floor --data.dir=data/demo`
"""

import concurrent.futures
import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from glr_jax import cli, metrics
from glr_jax.cli import status
from glr_jax.data.dataset import Dataset, open_dataset
from glr_jax.fields import option, section

USAGE = """
usage: python -m experiments.floor --data.dir=FOLDER [--data.split=PROTOCOL,...] [--out=FILE]

Accuracy of two classifiers that know nothing of time, on the same splits as the networks:
  linear  logistic regression on the mean of each mel band
  svm     RBF SVM on mean, deviation, mean |difference|, 10th and 90th percentile of each band
The strength of regularisation is chosen on the validation clips.
"""
STRENGTHS = {
    'linear': (0.001, 0.01, 0.1, 1.0),
    'svm': (0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
}


@dataclasses.dataclass(frozen=True)
class FloorData:
    """Which clips."""

    dir: str = option('', 'dataset folder that data_prep wrote')
    split: tuple[str, ...] = option(('random-1', 'random-2', 'random-3'), 'protocols')


@dataclasses.dataclass(frozen=True)
class Floor:
    """What the command line says."""

    out: str = option('', 'a JSON file for the scores')
    data: FloorData = section(FloorData)


def main(argv: list[str]) -> None:
    """Runs the command line."""
    choice = cli.parse(Floor, argv, USAGE)
    cli.need(choice, 'data.dir')
    dataset = open_dataset(choice.data.dir)
    features = all_statistics(dataset)
    results = {}
    print(f'{"":8}' + ''.join(f'{name:>16}' for name in choice.data.split) + f'{"mean":>10}')
    for name in ('linear', 'svm'):
        scores = {split: score(name, dataset, split, features) for split in choice.data.split}
        accuracies = [row['accuracy'] for row in scores.values()]
        cells = ''.join(f'{accuracy:16.3f}' for accuracy in accuracies)
        print(f'{name:8}{cells}{np.mean(accuracies):10.3f}', flush=True)
        results[name] = scores
    if choice.out:
        os.makedirs(os.path.dirname(os.path.abspath(choice.out)), exist_ok=True)
        with open(choice.out, 'w') as file:
            json.dump(results, file, indent=2)
        status(f'written: {choice.out}')


def band_statistics(mel: Num[np.ndarray, 'frames mels']) -> Float[np.ndarray, ' five_mels']:
    """Mean, deviation, mean |difference|, 10th and 90th percentile of each band."""
    x = mel.astype(np.float32)
    change = np.abs(np.diff(x, axis=0)).mean(0) if len(x) > 1 else np.zeros(x.shape[1])
    return np.concatenate([x.mean(0), x.std(0), change, *np.percentile(x, (10, 90), axis=0)])


def all_statistics(dataset: Dataset) -> Float[np.ndarray, 'clips five_mels']:
    """`band_statistics` of every clip."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        rows = pool.map(lambda clip: band_statistics(dataset.mel(clip)), range(len(dataset)))
        return np.stack(list(rows))


def score(
    name: str, dataset: Dataset, split: str, features: Float[np.ndarray, 'clips five_mels']
) -> dict[str, Any]:
    """Scores of a classifier on the held-out side of a protocol."""
    if name == 'linear':
        features = features[:, : dataset.n_mels]
    train, validation = dataset.members(split, 'train'), dataset.members(split, 'validation')
    test = dataset.members(split, dataset.held_out(split))
    fits = [_fit(name, strength, features, dataset, train) for strength in STRENGTHS[name]]
    chosen = max(fits, key=lambda fit: fit.score(features[validation], dataset.targets[validation]))
    return metrics.scores(dataset.targets[test], chosen.predict(features[test]), dataset.labels)


def svm_scores(dataset: Dataset, splits: Sequence[str]) -> list[dict[str, Any]]:
    """Scores of the SVM on each split; one that comes again is not scored again."""
    statistics = all_statistics(dataset)
    scores = {split: score('svm', dataset, split, statistics) for split in set(splits)}
    return [scores[split] for split in splits]


def _fit(
    name: str,
    strength: float,
    features: np.ndarray,
    dataset: Dataset,
    train: Int[np.ndarray, ' clips'],
) -> Any:
    model: Any = (
        LogisticRegression(C=strength, max_iter=2000) if name == 'linear' else SVC(C=strength)
    )
    return make_pipeline(StandardScaler(), model).fit(features[train], dataset.targets[train])


if __name__ == '__main__':
    cli.execute(main)
