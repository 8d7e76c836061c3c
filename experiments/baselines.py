"""Classical classifiers on statistics of each clip: what a network must beat.

`python -m experiments.baselines --data.dir=data/demo`
"""

import concurrent.futures
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Float, Int, Num
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from experiments import common
from glr_jax import cli, metrics
from glr_jax.cli import status
from glr_jax.data.dataset import Dataset, open_dataset
from glr_jax.data.mel import decode
from glr_jax.fields import check_fields, option, section
from glr_jax.nn.statistics import WINDOW, statistics

USAGE = """
usage: python -m experiments.baselines --data.dir=FOLDER [--data.split=SPLIT,...] [--out=FILE]

Prints the test accuracy of classical classifiers, on the same splits as the networks:
  majority         the most frequent label of the training clips
  linear           logistic regression on the mean of each mel band
  svm, levels      RBF SVM on the mean, standard deviation, mean |difference| between frames, and
                   10th and 90th percentile of each mel band
  svm, statistics  SVM on six groups of statistics of the clip (levels, covariances of cepstra and
                   of their differences, modulation, texture, contrast), with the mean of one RBF
                   kernel per group
The regularisation strength is chosen on the validation clips. Only the last one sees how the music
changes over more than one frame, and how bands vary together.
"""
ClassifierName = Literal['linear', 'svm']
STRENGTHS: dict[ClassifierName, tuple[float, ...]] = {
    'linear': (0.001, 0.01, 0.1, 1.0),
    'svm': (0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
}
STATISTICS_STRENGTHS = (1.0, 3.0, 10.0, 30.0)
PRINTED = {'svm': 'svm, levels', 'svm_statistics': 'svm, statistics'}
MOST_FRAMES = 1292  # of a clip for `statistics`: 30 s at the default front end
CLIPS_AT_A_TIME = 32
LARGEST = 6.0  # deviations; rarer values say little and dominate the distance

Groups = dict[str, Float[np.ndarray, 'clips _']]


@dataclasses.dataclass(frozen=True)
class BaselineData:
    """The clips."""

    dir: str = option('', 'dataset folder that data_prep wrote')
    split: tuple[str, ...] = option(
        ('random-1', 'random-2', 'random-3'), 'which splits: columns of splits.csv'
    )

    def __post_init__(self) -> None:
        check_fields(self)
        common.check_distinct(self, 'split')


@dataclasses.dataclass(frozen=True)
class Baselines:
    """The flags."""

    out: str = option('', 'JSON file to write all scores to')
    data: BaselineData = section(BaselineData)


def main(argv: list[str]) -> None:
    """Runs the command line."""
    study = cli.parse(Baselines, argv, USAGE)
    cli.need(study, 'data.dir')
    common.make_folder_of(study.out)
    dataset = open_dataset(study.data.dir)
    splits = study.data.split
    for split in splits:
        dataset.members(split, 'train')  # a wrong name is found before anything is read
    features, groups = all_statistics(dataset), all_groups(dataset)
    results = {}
    print(f'{"":16}' + ''.join(f'{split:>16}' for split in splits) + f'{"mean":>10}')
    for name, score_split in {
        'majority': lambda split: majority_score(dataset, split),
        'linear': lambda split: score('linear', dataset, split, features),
        'svm': lambda split: score('svm', dataset, split, features),
        'svm_statistics': lambda split: statistics_score(dataset, split, groups),
    }.items():
        scores = {split: score_split(split) for split in splits}
        accuracies = [row['accuracy'] for row in scores.values()]
        cells = ''.join(f'{accuracy:16.3f}' for accuracy in accuracies)
        print(f'{PRINTED.get(name, name):16}{cells}{np.mean(accuracies):10.3f}', flush=True)
        results[name] = scores
    if study.out:
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


def all_groups(dataset: Dataset) -> Groups:
    """The six groups of `glr_jax.nn.statistics` of every clip.

    All clips get one length, so that one program is compiled: the median, but at least `WINDOW`
    and at most `MOST_FRAMES` frames. Longer clips are cut to their middle, shorter ones are
    repeated.
    """
    with concurrent.futures.ThreadPoolExecutor() as pool:
        lengths = list(pool.map(lambda clip: len(dataset.mel(clip)), range(len(dataset))))
        frames = int(np.clip(np.median(lengths), WINDOW, MOST_FRAMES))
        compute, parts = jax.jit(statistics), []
        for start in range(0, len(dataset), CLIPS_AT_A_TIME):
            # The last batch is filled up with its last clip, for the same reason.
            clips = np.minimum(np.arange(start, start + CLIPS_AT_A_TIME), len(dataset) - 1)
            mels = pool.map(lambda clip: of_length(decibels(dataset, clip), frames), clips)
            parts.append(jax.device_get(compute(np.stack(list(mels)))))
    return {
        name: np.concatenate([part[name] for part in parts])[: len(dataset)] for name in parts[0]
    }


def decibels(dataset: Dataset, clip: int | np.integer) -> Float[np.ndarray, 'frames mels']:
    """A clip in dB above the floor if it is stored in 256 levels, else as it is stored."""
    mel, front_end = dataset.mel(clip), dataset.front_end
    if front_end.mel_dtype == 'float32':
        return mel
    return decode(mel, front_end) + np.float32(front_end.top_db)


def of_length(
    mel: Float[np.ndarray, 'frames mels'], frames: int
) -> Float[np.ndarray, '{frames} mels']:
    """The middle of a longer clip; a shorter clip repeated."""
    start = max(len(mel) - frames, 0) // 2
    return np.resize(mel[start : start + frames], (frames, mel.shape[1]))


def majority_score(dataset: Dataset, split: str) -> dict[str, Any]:
    """Scores of always deciding for the most frequent label of the training clips."""
    train, _, test = _sides(dataset, split)
    decision = np.bincount(dataset.targets[train]).argmax()
    targets = dataset.targets[test]
    return metrics.scores(targets, np.full_like(targets, decision), dataset.labels)


def score(
    name: ClassifierName,
    dataset: Dataset,
    split: str,
    features: Float[np.ndarray, 'clips features'],
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
    train, validation, test = _sides(dataset, split)
    fits = [_fit(name, strength, features, dataset, train) for strength in STRENGTHS[name]]
    chosen = max(fits, key=lambda fit: fit.score(features[validation], dataset.targets[validation]))
    return metrics.scores(dataset.targets[test], chosen.predict(features[test]), dataset.labels)


def statistics_score(
    dataset: Dataset, split: str, groups: Mapping[str, Float[np.ndarray, 'clips _']]
) -> dict[str, Any]:
    """Scores of an SVM with the mean of one RBF kernel per group of statistics.

    Args:
      dataset: the clips.
      split: which of them are for training, validation and test.
      groups: of every clip, from `all_groups`.
    """
    train, validation, test = _sides(dataset, split)
    kernel = np.mean([_kernel(values, train) for values in groups.values()], 0)
    fits = [
        SVC(C=strength, kernel='precomputed').fit(kernel[train], dataset.targets[train])
        for strength in STATISTICS_STRENGTHS
    ]
    chosen = max(fits, key=lambda fit: fit.score(kernel[validation], dataset.targets[validation]))
    return metrics.scores(dataset.targets[test], chosen.predict(kernel[test]), dataset.labels)


def svm_scores(dataset: Dataset, splits: Sequence[str]) -> list[dict[str, Any]]:
    """Scores of the SVM on levels on each split; a split that occurs twice is scored once."""
    features = all_statistics(dataset)
    scores = {split: score('svm', dataset, split, features) for split in set(splits)}
    return [scores[split] for split in splits]


def strong_svm_scores(dataset: Dataset, splits: Sequence[str]) -> list[dict[str, Any]]:
    """Scores of the SVM on all statistics on each split; as `svm_scores`."""
    groups = all_groups(dataset)
    scores = {split: statistics_score(dataset, split, groups) for split in set(splits)}
    return [scores[split] for split in splits]


def _sides(dataset: Dataset, split: str) -> tuple[Int[np.ndarray, ' _'], ...]:
    """The clips for training, for choosing and for the scores."""
    sides = ('train', 'validation', dataset.held_out(split))
    return tuple(dataset.members(split, side) for side in sides)


def _kernel(
    values: Float[np.ndarray, 'clips features'], train: Int[np.ndarray, ' train']
) -> Float[np.ndarray, 'clips train']:
    """RBF kernel of every clip with the training clips, scaled as sklearn's gamma='scale'."""
    scaled = StandardScaler().fit(values[train]).transform(values).clip(-LARGEST, LARGEST)
    variance = scaled[train].var() or 1.0  # all clips are alike
    return rbf_kernel(scaled, scaled[train], gamma=1 / (values.shape[1] * variance))


def _fit(
    name: ClassifierName,
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
