"""Classical classifiers on statistics of whole clips: what a network has to beat.

    svm_statistics  SVM on six groups of statistics, with the mean of one RBF kernel per group
    svm             RBF SVM on the level of each mel band
    linear          logistic regression on the mean of each mel band
    majority        the most frequent label of the training clips

Where clips may have several labels, there is one classifier per label:

    linear_statistics  logistic regression on the same statistics as `svm_statistics`
    linear             logistic regression on the mean of each mel band
    majority           each label's share of the training clips, as its probability for every clip

All but `majority` choose their regularisation strength on the validation clips, which also choose
the thresholds of several labels. scikit-learn is imported only when a classifier is trained, since
it would delay the start of every command.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from glr_jax import linear_tags, metrics, statistics_svm, tag_metrics
from glr_jax.clip_statistics import (
    GroupsOf,
    all_groups,
    all_statistics,
    groups_of,
    groups_on_demand,
)
from glr_jax.data.dataset import Dataset
from glr_jax.data.split_table import empty_sides
from glr_jax.errors import UserError
from glr_jax.run.labels import untrained_labels
from glr_jax.statistics_svm import StatisticsSvm

ClassifierName = Literal['linear', 'svm']
STRENGTHS: dict[ClassifierName, tuple[float, ...]] = {
    'linear': (0.001, 0.01, 0.1, 1.0),
    'svm': (0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
}
Clips = Int[np.ndarray, ' _']
MAX_CLIPS = 10_000  # training clips of a classifier; memory grows with the square (1.2 GB here)
MAX_PAIRS = 1_000_000  # of clip and label that are fitted; the time grows with both


def scores_on(dataset: Dataset, splits: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Scores of the baselines on the held-out clips of each split.

    Args:
      dataset: the clips.
      splits: names of splits; one that occurs twice is scored once.

    Returns:
      {'svm_statistics', 'svm', 'majority': scores in the order of the splits}; where clips may have
      several labels, {'linear_statistics', 'linear', 'majority'}.
    """
    for split in splits:
        _sides(dataset, split)  # a wrong name is found before anything is read
    groups, features = groups_of(all_groups(dataset)), all_statistics(dataset)
    weak: ClassifierName = 'linear' if dataset.multi_label else 'svm'
    scores_of: dict[str, Callable[[str], dict[str, Any]]] = {
        strong_name(dataset): lambda split: statistics_score(dataset, split, groups),
        weak: lambda split: score(weak, dataset, split, features),
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
      {'svm_statistics', 'majority': scores on the held-out clips}; where clips may have several
      labels, {'linear_statistics', 'majority'}.
    """
    return {
        strong_name(dataset): statistics_score(dataset, split, groups_on_demand(dataset)),
        'majority': majority_score(dataset, split),
    }


def strong_name(dataset: Dataset) -> str:
    """The key of the classifier on statistics, which a network has to beat."""
    return 'linear_statistics' if dataset.multi_label else 'svm_statistics'


def majority_score(dataset: Dataset, split: str) -> dict[str, Any]:
    """Scores of always deciding for the most frequent label of the training clips.

    Where clips may have several labels, the probability of each is its share of these clips.
    """
    train, _, test = _sides(dataset, split)
    if dataset.multi_label:
        shares = dataset.has_label()[train].mean(0)
        return _tag_scores(dataset, split, lambda clips: np.tile(shares, (len(clips), 1)))
    decision = np.argmax(np.bincount(dataset.targets[train]))
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
    assert name == 'linear' or not dataset.multi_label
    if name == 'linear':
        features = features[:, : dataset.n_mels]
    if dataset.multi_label:
        return _linear_score(dataset, split, lambda clips: features[clips])
    train, validation = fitted_on(dataset, split)
    *_, test = _sides(dataset, split)
    if len(np.unique(dataset.targets[train])) == 1:
        return majority_score(dataset, split)
    fits = [_fit(name, strength, features, dataset, train) for strength in STRENGTHS[name]]
    chosen = max(fits, key=lambda fit: fit.score(features[validation], dataset.targets[validation]))
    return _scores(dataset, split, chosen.predict(features[test]))


def statistics_score(dataset: Dataset, split: str, groups: GroupsOf) -> dict[str, Any]:
    """Scores of the classifier on statistics on the test clips of a split, or else on validation.

    It is the SVM or, where clips may have several labels, logistic regression.

    Args:
      dataset: the clips.
      split: which of them are for training, validation and test.
      groups: statistics of some clips, from `groups_of` or `groups_on_demand`.
    """
    if dataset.multi_label:
        return _linear_score(dataset, split, lambda clips: np.hstack([*groups(clips).values()]))
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
    more than `MAX_CLIPS` or, where clips may have several labels, more than `MAX_PAIRS` of clip
    and label.
    """
    train, validation, _ = _sides(dataset, split)
    if dataset.multi_label:
        has = dataset.has_label()
        at_most = min(MAX_CLIPS, max(1, MAX_PAIRS // len(dataset.labels)))
        return sample_tagged(has, train, at_most), sample_tagged(has, validation, at_most)
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


def sample_tagged(
    has: Bool[np.ndarray, 'all labels'], clips: Int[np.ndarray, ' clips'], at_most: int
) -> Int[np.ndarray, ' sample']:
    """A random sample of clips that may have several labels; all of them if they are few enough.

    Args:
      has: which labels each clip of a dataset has.
      clips: which of them to draw from.
      at_most: size of the sample; each label has at least one clip even if that exceeds it.
    """
    if len(clips) <= at_most:
        return clips
    order = np.random.default_rng(0).permutation(clips)
    drawn = has[order[:at_most]].any(0)
    first = order[has[order].argmax(0)]  # the first clip with each label
    missing = first[~drawn & has[clips].any(0)]
    return np.unique(np.concatenate([order[:at_most], missing]))


def _sides(dataset: Dataset, split: str) -> tuple[Int[np.ndarray, ' _'], ...]:
    """The clips for training, for choosing and for the scores.

    Raises:
      UserError: there is no such split, or it lacks training or validation clips.
    """
    sides = ('train', 'validation', dataset.held_out(split))
    train, validation, test = (dataset.members(split, side) for side in sides)
    if not len(train) or not len(validation):
        empty = ' or '.join(empty_sides(dataset.splits[split]))
        raise UserError(f'--data.split={split} has no {empty} clips')
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


def _linear_score(
    dataset: Dataset, split: str, features: Callable[[Clips], Float[np.ndarray, '_ features']]
) -> dict[str, Any]:
    """Scores of logistic regression for each label."""
    train, validation = fitted_on(dataset, split)
    has = dataset.has_label()
    model = linear_tags.fit(features(train), has[train], features(validation), has[validation])
    found = _tag_scores(
        dataset, split, lambda clips: linear_tags.probabilities(model, features(clips))
    )
    sides = {'fitted_on': len(train), 'train_clips': len(_sides(dataset, split)[0])}
    return found | sides


def _tag_scores(
    dataset: Dataset,
    split: str,
    probabilities: Callable[[Clips], Float[np.ndarray, '_ labels']],
) -> dict[str, Any]:
    """Scores of several labels per clip; the thresholds are chosen on validation clips."""
    _, validation = fitted_on(dataset, split)
    *_, test = _sides(dataset, split)
    has = dataset.has_label()
    thresholds = tag_metrics.best_thresholds(has[validation], probabilities(validation))
    untrained = untrained_labels(dataset, split)
    return tag_metrics.scores(has[test], probabilities(test), dataset.labels, thresholds, untrained)


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
