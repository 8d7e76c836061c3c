"""Classical classifiers on statistics of whole clips: what a network has to beat.

    svm_statistics  SVM on six groups of statistics, with the mean of one RBF kernel per group
    svm             RBF SVM on the level of each mel band
    linear          logistic regression on the mean of each mel band
    majority        the most frequent label of the training clips

The first three choose their regularisation strength on the validation clips. scikit-learn is
imported only when one of them is trained, since it would delay the start of every command.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from glr_jax import metrics, statistics_svm
from glr_jax.clip_statistics import (
    GroupsOf,
    all_groups,
    all_statistics,
    groups_of,
    groups_on_demand,
)
from glr_jax.data.dataset import Dataset
from glr_jax.errors import UserError
from glr_jax.statistics_svm import StatisticsSvm

ClassifierName = Literal['linear', 'svm']
STRENGTHS: dict[ClassifierName, tuple[float, ...]] = {
    'linear': (0.001, 0.01, 0.1, 1.0),
    'svm': (0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
}
MAX_CLIPS = 10_000  # training clips of a classifier; memory grows with the square (1.2 GB here)


def scores_on(dataset: Dataset, splits: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Scores of both SVMs and of the majority class on the held-out clips of each split.

    Args:
      dataset: the clips.
      splits: names of splits; one that occurs twice is scored once.

    Returns:
      {'svm_statistics', 'svm', 'majority': scores in the order of the splits}.
    """
    for split in splits:
        _sides(dataset, split)  # a wrong name is found before anything is read
    groups, features = groups_of(all_groups(dataset)), all_statistics(dataset)
    scores_of: dict[str, Callable[[str], dict[str, Any]]] = {
        'svm_statistics': lambda split: statistics_score(dataset, split, groups),
        'svm': lambda split: score('svm', dataset, split, features),
        'majority': lambda split: majority_score(dataset, split),
    }
    found = {
        name: {split: of_split(split) for split in dict.fromkeys(splits)}
        for name, of_split in scores_of.items()
    }
    return {name: [by_split[split] for split in splits] for name, by_split in found.items()}


def floor(dataset: Dataset, split: str) -> dict[str, Any]:
    """What a network has to beat on a split; reads only the clips that are needed.

    Args:
      dataset: the clips.
      split: one of its splits.

    Returns:
      {'svm_statistics', 'majority': scores on the held-out clips}.
    """
    return {
        'svm_statistics': statistics_score(dataset, split, groups_on_demand(dataset)),
        'majority': majority_score(dataset, split),
    }


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
    train, validation = fitted_on(dataset, split)
    *_, test = _sides(dataset, split)
    if len(np.unique(dataset.targets[train])) == 1:
        return majority_score(dataset, split)
    fits = [_fit(name, strength, features, dataset, train) for strength in STRENGTHS[name]]
    chosen = max(fits, key=lambda fit: fit.score(features[validation], dataset.targets[validation]))
    return _scores(dataset, split, chosen.predict(features[test]))


def statistics_score(dataset: Dataset, split: str, groups: GroupsOf) -> dict[str, Any]:
    """Scores of the SVM on statistics on the test clips of a split, or else on validation clips.

    Args:
      dataset: the clips.
      split: which of them are for training, validation and test.
      groups: statistics of some clips, from `groups_of` or `groups_on_demand`.
    """
    svm = fit_statistics_svm(dataset, split, groups)
    *_, test = _sides(dataset, split)
    return _scores(dataset, split, statistics_svm.decision_values(svm, groups, test).argmax(1))


def fit_statistics_svm(dataset: Dataset, split: str, groups: GroupsOf) -> StatisticsSvm:
    """Trains the SVM on statistics; the validation clips choose its regularisation strength.

    Args:
      dataset: the clips.
      split: which of them are for training and validation.
      groups: as in `statistics_score`.
    """
    train, validation = fitted_on(dataset, split)
    return statistics_svm.fit(groups, dataset.targets, len(dataset.labels), train, validation)


def fitted_on(
    dataset: Dataset, split: str
) -> tuple[Int[np.ndarray, ' train'], Int[np.ndarray, ' validation']]:
    """The clips that a classifier is trained on, and those that choose its strength.

    They are the train and validation clips of the split, or a random sample of them if there are
    more than `MAX_CLIPS`.
    """
    train, validation, _ = _sides(dataset, split)
    train, validation = (sample(dataset.targets, c, MAX_CLIPS) for c in (train, validation))
    return train, validation


def sample(
    targets: Int[np.ndarray, ' all'], clips: Int[np.ndarray, ' clips'], at_most: int
) -> Int[np.ndarray, ' sample']:
    """A random sample of clips with labels in proportion; all of them if they are few enough.

    Args:
      targets: label numbers of all clips of a dataset.
      clips: which of them to draw from.
      at_most: size of the sample; each label has at least one clip even if that exceeds it.
    """
    if len(clips) <= at_most:
        return clips
    order, rng = [], np.random.default_rng(0)
    for label in np.unique(targets[clips]):
        mine = clips[targets[clips] == label]
        count = max(1, len(mine) * at_most // len(clips))
        order.append(rng.permutation(mine)[:count])
    return np.sort(np.concatenate(order))


def _sides(dataset: Dataset, split: str) -> tuple[Int[np.ndarray, ' _'], ...]:
    """The clips for training, for choosing and for the scores.

    Raises:
      UserError: there is no such split, or it lacks training or validation clips.
    """
    sides = ('train', 'validation', dataset.held_out(split))
    train, validation, test = (dataset.members(split, side) for side in sides)
    if not len(train) or not len(validation):
        raise UserError(f'--data.split={split} has no train or no validation clips')
    return train, validation, test


def _scores(
    dataset: Dataset, split: str, decisions: Int[np.ndarray, ' held_out']
) -> dict[str, Any]:
    """Scores on the held-out clips, and how many of the training clips were used."""
    train, _, test = _sides(dataset, split)
    return metrics.scores(dataset.targets[test], decisions, dataset.labels) | {
        'fitted_on': len(fitted_on(dataset, split)[0]),
        'train_clips': len(train),
    }


def _fit(
    name: ClassifierName,
    strength: float,
    features: Float[np.ndarray, 'clips features'],
    dataset: Dataset,
    train: Int[np.ndarray, ' train'],
) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    model: Any = (
        LogisticRegression(C=strength, max_iter=2000) if name == 'linear' else SVC(C=strength)
    )
    return make_pipeline(StandardScaler(), model).fit(features[train], dataset.targets[train])
