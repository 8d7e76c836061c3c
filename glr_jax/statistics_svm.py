"""An SVM on the statistics of whole clips; its kernel is the mean of one RBF kernel per group.

scikit-learn is imported only when an SVM is trained or used.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from glr_jax.clip_statistics import Groups, GroupsOf
from glr_jax.data.segments import chunks

STRENGTHS = (1.0, 3.0, 10.0, 30.0)
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


def fit(
    groups: GroupsOf,
    targets: Int[np.ndarray, ' all'],
    num_labels: int,
    train: Int[np.ndarray, ' train'],
    validation: Int[np.ndarray, ' validation'],
) -> StatisticsSvm:
    """Trains the SVM with each strength, and keeps the one that is right most often.

    Args:
      groups: statistics of some clips, from `clip_statistics`.
      targets: label numbers of all clips.
      num_labels: number of labels in the dataset.
      train: the clips to train on.
      validation: the clips that choose the strength.
    """
    from sklearn.svm import SVC

    train_groups = groups(train)
    svm = StatisticsSvm(
        svc=None,
        seen=np.unique(targets[train]),
        num_labels=num_labels,
        kernels={name: _fit_kernel(values) for name, values in train_groups.items()},
    )
    if len(svm.seen) == 1:
        return svm
    kernel = _mean_kernel(svm, train_groups)
    fits = [
        svm._replace(svc=SVC(C=strength, kernel='precomputed').fit(kernel, targets[train]))
        for strength in STRENGTHS
    ]
    kernel = _mean_kernel(svm, groups(validation))
    right = lambda fit: np.mean(_decide(fit, kernel).argmax(1) == targets[validation])
    return max(fits, key=right)


def decision_values(
    svm: StatisticsSvm, groups: GroupsOf, clips: Int[np.ndarray, ' clips']
) -> Float[np.ndarray, 'clips labels']:
    """How strongly the SVM decides for each label; the largest value is its decision.

    With more than two labels, the values are scikit-learn's one-versus-rest values: the number of
    labels that a label wins against, and a fraction for how clearly. With two, they are the
    distance from the boundary and its negative. A label without training clips has the lowest
    value.

    Args:
      svm: from `fit`.
      groups: as in `fit`.
      clips: any clips.
    """
    parts = [
        _decide(svm, _mean_kernel(svm, groups(np.asarray(some))))
        for some in chunks(clips, CLIPS_AT_A_TIME)
    ]
    return np.concatenate([np.zeros((0, svm.num_labels)), *parts])


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
