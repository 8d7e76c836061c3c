"""Classical classifiers that ignore time, on statistics of each mel band: what a network must beat.

`python -m experiments.baselines --data.dir=data/demo`
"""

import concurrent.futures
import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Any, Literal

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
usage: python -m experiments.baselines --data.dir=FOLDER [--data.split=SPLIT,...] [--out=FILE]

Prints the test accuracy of two classifiers that ignore time, on the same splits as the networks:
  linear  logistic regression on the mean of each mel band
  svm     RBF SVM on the mean, standard deviation, mean |difference| between frames, and 10th and
          90th percentile of each mel band
The regularisation strength is chosen on the validation clips.
"""
Classifier = Literal['linear', 'svm']
STRENGTHS: dict[Classifier, tuple[float, ...]] = {
    'linear': (0.001, 0.01, 0.1, 1.0),
    'svm': (0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
}


@dataclasses.dataclass(frozen=True)
class BaselineData:
    """The clips."""

    dir: str = option('', 'dataset folder that data_prep wrote')
    split: tuple[str, ...] = option(
        ('random-1', 'random-2', 'random-3'), 'which splits: columns of splits.csv'
    )


@dataclasses.dataclass(frozen=True)
class Baselines:
    """The flags."""

    out: str = option('', 'JSON file to write all scores to')
    data: BaselineData = section(BaselineData)


def main(argv: list[str]) -> None:
    """Runs the command line."""
    study = cli.parse(Baselines, argv, USAGE)
    cli.need(study, 'data.dir')
    dataset = open_dataset(study.data.dir)
    for split in study.data.split:
        dataset.members(split, 'train')  # a wrong name is found before anything is read
    features = all_statistics(dataset)
    results = {}
    print(f'{"":8}' + ''.join(f'{split:>16}' for split in study.data.split) + f'{"mean":>10}')
    for name in STRENGTHS:
        scores = {split: score(name, dataset, split, features) for split in study.data.split}
        accuracies = [row['accuracy'] for row in scores.values()]
        cells = ''.join(f'{accuracy:16.3f}' for accuracy in accuracies)
        print(f'{name:8}{cells}{np.mean(accuracies):10.3f}', flush=True)
        results[name] = scores
    if study.out:
        os.makedirs(os.path.dirname(os.path.abspath(study.out)), exist_ok=True)
        with open(study.out, 'w') as file:
            json.dump(results, file, indent=2)
        status(f'wrote {study.out}')


def band_statistics(mel: Num[np.ndarray, 'frames mels']) -> Float[np.ndarray, ' 5*mels']:
    """Mean, deviation, mean |difference|, 10th and 90th percentile of each band."""
    x = mel.astype(np.float32)
    change = np.abs(np.diff(x, axis=0)).mean(0) if len(x) > 1 else np.zeros(x.shape[1])
    return np.concatenate([x.mean(0), x.std(0), change, *np.percentile(x, (10, 90), axis=0)])


def all_statistics(dataset: Dataset) -> Float[np.ndarray, 'clips features']:
    """`band_statistics` of every clip."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        rows = pool.map(lambda clip: band_statistics(dataset.mel(clip)), range(len(dataset)))
        return np.stack(list(rows))


def score(
    name: Classifier, dataset: Dataset, split: str, features: Float[np.ndarray, 'clips features']
) -> dict[str, Any]:
    """Scores of a classifier on the test clips of a split, or on validation clips if it has none.

    Args:
      name: linear or svm.
      dataset: the clips.
      split: which of them are for training, validation and test.
      features: of every clip, from `all_statistics`.
    """
    if name == 'linear':
        features = features[:, : dataset.n_mels]
    train, validation = dataset.members(split, 'train'), dataset.members(split, 'validation')
    test = dataset.members(split, dataset.held_out(split))
    fits = [_fit(name, strength, features, dataset, train) for strength in STRENGTHS[name]]
    chosen = max(fits, key=lambda fit: fit.score(features[validation], dataset.targets[validation]))
    return metrics.scores(dataset.targets[test], chosen.predict(features[test]), dataset.labels)


def svm_scores(dataset: Dataset, splits: Sequence[str]) -> list[dict[str, Any]]:
    """Scores of the SVM on each split; a split that occurs twice is scored once."""
    statistics = all_statistics(dataset)
    scores = {split: score('svm', dataset, split, statistics) for split in set(splits)}
    return [scores[split] for split in splits]


def _fit(
    name: Classifier,
    strength: float,
    features: Float[np.ndarray, 'clips features'],
    dataset: Dataset,
    train: Int[np.ndarray, ' train'],
) -> Any:
    model: Any = (
        LogisticRegression(C=strength, max_iter=2000) if name == 'linear' else SVC(C=strength)
    )
    return make_pipeline(StandardScaler(), model).fit(features[train], dataset.targets[train])


if __name__ == '__main__':
    cli.execute(main)
