"""Classical classifiers on statistics of each clip: what a network must beat.

`python -m experiments.baselines --data.dir=data/demo`
"""

import dataclasses

from experiments import common
from glr_jax import cli
from glr_jax.fields import check_fields, option, section

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
changes over more than one frame, and how bands vary together. If a split has more than 10,000
training clips, all but the first are trained on a random sample of 10,000. The last column is the
mean macro-F1.
"""
PRINTED = {'svm': 'svm, levels', 'svm_statistics': 'svm, statistics'}


@dataclasses.dataclass(frozen=True)
class BaselineData:
    """The clips."""

    dir: str = option('', 'dataset folder that data_prep wrote', is_path=True)
    split: tuple[str, ...] = option(
        ('random-1', 'random-2', 'random-3'), 'which splits: columns of splits.csv'
    )

    def __post_init__(self) -> None:
        check_fields(self)
        common.check_distinct(self, 'split')


@dataclasses.dataclass(frozen=True)
class Baselines:
    """The flags."""

    out: str = option('', 'JSON file to write all scores to', is_path=True)
    data: BaselineData = section(BaselineData)


if __name__ == '__main__':  # before the imports that take seconds
    cli.check_command_line(Baselines, USAGE)

import numpy as np

from glr_jax import baselines, clip_statistics, json_files
from glr_jax.cli import status
from glr_jax.data.dataset import open_dataset


def main(argv: list[str]) -> None:
    """Runs the command line."""
    study = cli.parse(Baselines, argv, USAGE)
    cli.need(study, 'data.dir')
    common.make_folder_of(study.out)
    dataset = open_dataset(study.data.dir)
    splits = study.data.split
    for split in splits:
        train, _ = baselines.fitted_on(dataset, split)  # finds a wrong name before reading clips
        count = len(dataset.members(split, 'train'))
        if len(train) < count:
            status(f'{split}: trained on {len(train):,} of {count:,} training clips')
    features = clip_statistics.all_statistics(dataset)
    groups = clip_statistics.groups_of(clip_statistics.all_groups(dataset))
    results = {}
    heads = ''.join(f'{split:>16}' for split in splits)
    print(f'{"":16}{heads}{"mean":>10}{"macro-F1":>10}')
    for name, score_split in {
        'majority': lambda split: baselines.majority_score(dataset, split),
        'linear': lambda split: baselines.score('linear', dataset, split, features),
        'svm': lambda split: baselines.score('svm', dataset, split, features),
        'svm_statistics': lambda split: baselines.statistics_score(dataset, split, groups),
    }.items():
        scores = {split: score_split(split) for split in splits}
        accuracies = [row['accuracy'] for row in scores.values()]
        cells = ''.join(f'{accuracy:16.3f}' for accuracy in accuracies)
        means = np.mean(accuracies), np.mean([row['macro_f1'] for row in scores.values()])
        print(f'{PRINTED.get(name, name):16}{cells}{means[0]:10.3f}{means[1]:10.3f}', flush=True)
        results[name] = scores
    if study.out:
        json_files.write(study.out, results)
        status(f'wrote {study.out}')


if __name__ == '__main__':
    cli.execute(main)
