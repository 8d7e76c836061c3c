"""Classical classifiers on statistics of each clip: what a network must beat.

`python -m experiments.baselines --data.dir=data/demo`
"""

import dataclasses

from experiments import common
from glr_jax import cli
from glr_jax.fields import check_fields, option, section

USAGE = """
usage: python -m experiments.baselines --data.dir=FOLDER [--data.split=SPLIT,...] [--out=FILE]

Prints the test accuracy (0 to 1) of classical classifiers, on the same splits as the networks:
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

If clips may have several labels, it prints the macro ROC-AUC instead, with the mean average
precision beside the mean macro-F1:
  label frequencies   each label's share of the training clips, as its probability for every clip
  linear, levels      logistic regression for each label, on the mean of each mel band
  linear, statistics  the same on the six groups of statistics
They are trained on at most 1,000,000 pairs of clip and label.
"""
PRINTED = {'svm': 'svm, levels', 'svm_statistics': 'svm, statistics'}
PRINTED_TAGS = {
    'majority': 'label frequencies',
    'linear': 'linear, levels',
    'linear_statistics': 'linear, statistics',
}


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

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from glr_jax import baselines, clip_statistics, json_files, metrics
from glr_jax.cli import status
from glr_jax.data.dataset import open_dataset


class Layout(NamedTuple):
    """What the table shows, and how wide its columns are.

    Attributes:
      main: the score of each split and of the first mean, which the title names.
      means: {another score: its header}.
      names: {baseline: its name, unless it is the same}.
      widths: of the names and of each split.
    """

    main: str
    means: dict[str, str]
    names: dict[str, str]
    widths: tuple[int, int]

    def header(self, splits: Sequence[str]) -> str:
        """The title and the header."""
        first, width = self.widths
        title = f'test {metrics.NAMES[self.main]} from 0 to 1'
        means = ''.join(f'{name:>{self._width(name)}}' for name in self.means.values())
        columns = ''.join(f'{name:>{width}}' for name in splits)
        return f'{title}\n{"":{first}}{columns}{"mean":>10}{means}'

    def row(self, name: str, scores: Sequence[dict[str, Any]]) -> str:
        """The row of a baseline, with its scores on each split."""
        first, width = self.widths
        cells = ''.join(f'{metrics.shown(of[self.main]):>{width}}' for of in scores)
        means = f'{_mean(scores, self.main):>10}' + ''.join(
            f'{_mean(scores, key):>{self._width(text)}}' for key, text in self.means.items()
        )
        return f'{self.names.get(name, name):{first}}{cells}{means}'

    def _width(self, name: str) -> int:
        return max(10, len(name) + 2)


SINGLE = Layout('accuracy', {'macro_f1': 'macro-F1'}, PRINTED, (16, 16))
TAGS = Layout(
    'macro_roc_auc',
    {'macro_average_precision': 'avg. precision', 'macro_f1': 'macro-F1'},
    PRINTED_TAGS,
    (20, 14),
)


def _mean(scores: Sequence[dict[str, Any]], key: str) -> str:
    defined = [of[key] for of in scores if of[key] is not None]
    return metrics.shown(float(np.mean(defined)) if defined else None)


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
    of_split: dict[str, Callable[[str], dict[str, Any]]] = {
        'majority': lambda split: baselines.majority_score(dataset, split),
        'linear': lambda split: baselines.score('linear', dataset, split, features),
    }
    if not dataset.multi_label:
        of_split['svm'] = lambda split: baselines.score('svm', dataset, split, features)
    of_split[baselines.strong_name(dataset)] = lambda split: baselines.statistics_score(
        dataset, split, groups
    )
    layout = TAGS if dataset.multi_label else SINGLE
    print(layout.header(splits))
    results = {}
    for name, score_split in of_split.items():
        results[name] = {split: score_split(split) for split in splits}
        print(layout.row(name, list(results[name].values())), flush=True)
    if study.out:
        json_files.write(study.out, results)
        status(f'wrote {study.out}')


if __name__ == '__main__':
    cli.execute(main)
