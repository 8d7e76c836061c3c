"""Classical classifiers on statistics of whole clips: what a network has to beat.

    svm_statistics  SVM on six groups of statistics, with the mean of one RBF kernel per group
    svm             RBF SVM on the level of each mel band
    linear          logistic regression on the mean of each mel band
    majority        the most frequent label of the training clips

The first three choose their regularisation strength on the validation clips. scikit-learn is
imported only when one of them is trained, since it would delay the start of every command.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from glr_jax import metrics
from glr_jax.clip_statistics import (
    Groups,
    GroupsOf,
    all_groups,
    all_statistics,
    groups_of,
    groups_on_demand,
)
from glr_jax.data.dataset import Dataset
from glr_jax.data.segments import chunks
from glr_jax.errors import UserError

ClassifierName = Literal['linear', 'svm']
STRENGTHS: dict[ClassifierName, tuple[float, ...]] = {
    'linear': (0.001, 0.01, 0.1, 1.0),
    'svm': (0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
}
STATISTICS_STRENGTHS = (1.0, 3.0, 10.0, 30.0)
MAX_CLIPS = 10_000  # training clips of a classifier; memory grows with the square (1.2 GB here)
CLIPS_AT_A_TIME = 1024  # whose kernel rows are computed together
LARGEST = 6.0  # deviations; rarer values say little and dominate the distance


class GroupKernel(NamedTuple):
    """The RBF kernel of one group of statistics.

    Attributes:
      scaler: a StandardScaler, fitted to the training clips.
      gamma: the kernel's gamma, chosen like scikit-learn's gamma='scale'.
      train: the scaled statistics of the training clips.
    """

    scaler: Any
    gamma: float
    train: Float[np.ndarray, 'train features']


class StatisticsSvm(NamedTuple):
    """A trained SVM on statistics.

    Attributes:
      svc: scikit-learn's SVC; None if all training clips have the same label.
      seen: the numbers of the labels that the training clips have, ascending.
      num_labels: number of labels in the dataset.
      kernels: one per group.
    """

    svc: Any
    seen: Int[np.ndarray, ' seen']
    num_labels: int
    kernels: dict[str, GroupKernel]


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
    svm = statistics_svm(dataset, split, groups)
    *_, test = _sides(dataset, split)
    return _scores(dataset, split, decision_values(svm, groups, test).argmax(1))


def statistics_svm(dataset: Dataset, split: str, groups: GroupsOf) -> StatisticsSvm:
    """Trains the SVM on statistics: its kernel is the mean of one RBF kernel per group.

    Args:
      dataset: the clips.
      split: which of them are for training and validation.
      groups: as in `statistics_score`.
    """
    from sklearn.svm import SVC

    train, validation = fitted_on(dataset, split)
    train_groups = groups(train)
    svm = StatisticsSvm(
        svc=None,
        seen=np.unique(dataset.targets[train]),
        num_labels=len(dataset.labels),
        kernels={name: _fit_kernel(values) for name, values in train_groups.items()},
    )
    if len(svm.seen) == 1:
        return svm
    kernel = _mean_kernel(svm, train_groups)
    fits = [
        svm._replace(svc=SVC(C=strength, kernel='precomputed').fit(kernel, dataset.targets[train]))
        for strength in STATISTICS_STRENGTHS
    ]
    kernel, targets = _mean_kernel(svm, groups(validation)), dataset.targets[validation]
    return max(fits, key=lambda fit: np.mean(_decide(fit, kernel).argmax(1) == targets))


def decision_values(
    svm: StatisticsSvm, groups: GroupsOf, clips: Int[np.ndarray, ' clips']
) -> Float[np.ndarray, 'clips labels']:
    """How strongly the SVM decides for each label; the largest value is its decision.

    With more than two labels, the values are scikit-learn's one-versus-rest values: the number of
    labels that a label wins against, and a fraction for how clearly. With two, they are the
    distance from the boundary and its negative. A label without training clips has the lowest
    value.

    Args:
      svm: from `statistics_svm`.
      groups: as in `statistics_score`.
      clips: any clips.
    """
    parts = [
        _decide(svm, _mean_kernel(svm, groups(np.asarray(some))))
        for some in chunks(clips, CLIPS_AT_A_TIME)
    ]
    return np.concatenate([np.zeros((0, svm.num_labels)), *parts])


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


def _fit_kernel(values: Float[np.ndarray, 'train features']) -> GroupKernel:
    """The RBF kernel of a group, scaled by its training clips as scikit-learn's gamma='scale'."""
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(values)
    train = scaler.transform(values).clip(-LARGEST, LARGEST)
    variance = train.var() or 1.0  # all clips are alike
    return GroupKernel(scaler, 1 / (values.shape[1] * variance), train)


def _kernel(
    kernel: GroupKernel, values: Float[np.ndarray, 'clips features']
) -> Float[np.ndarray, 'clips train']:
    """The kernel of some clips with the training clips, in the type of the values."""
    from sklearn.metrics.pairwise import rbf_kernel

    scaled = kernel.scaler.transform(values).clip(-LARGEST, LARGEST)
    return rbf_kernel(scaled, kernel.train, gamma=kernel.gamma)


def _mean_kernel(svm: StatisticsSvm, groups: Groups) -> Float[np.ndarray, 'clips train']:
    """The mean over the groups, added up one by one to save memory."""
    (first, *others) = groups
    total = _kernel(svm.kernels[first], groups[first])
    for name in others:
        total += _kernel(svm.kernels[name], groups[name])
    return total / np.asarray(len(groups), total.dtype)


def _decide(
    svm: StatisticsSvm, kernel: Float[np.ndarray, 'clips train']
) -> Float[np.ndarray, 'clips labels']:
    """`decision_values` of clips with this kernel."""
    seen = np.ones((len(kernel), 1))
    if svm.svc is not None:
        seen = svm.svc.decision_function(kernel)
    if seen.ndim == 1:
        seen = np.stack([-seen, seen], 1)
    values = np.repeat(seen.min(1, keepdims=True) - 1, svm.num_labels, 1)
    values[:, svm.seen] = seen
    return values


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
