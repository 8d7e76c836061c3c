"""Logistic regression for each label, where clips may have several.

scikit-learn is imported only when a model is fitted.
"""

import concurrent.futures
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from glr_jax import tag_metrics
from glr_jax.statistics_svm import LARGEST
from glr_jax.workers import usable_cores

# Every label is fitted by itself, to many features: much regularisation is needed.
STRENGTHS = (0.0001, 0.001, 0.01, 0.1)
TOLERANCE = 1e-3  # of the gradient; smaller values cost time and change no ranking
MAX_STEPS = 200


class LinearTags(NamedTuple):
    """One logistic regression per label.

    Attributes:
      scaler: a StandardScaler, fitted to the training clips.
      weights: of the scaled features.
      offsets: of each label; infinite if all training clips have the label, or none has.
    """

    scaler: Any
    weights: Float[np.ndarray, 'features labels']
    offsets: Float[np.ndarray, ' labels']


def fit(
    train: Float[np.ndarray, 'train features'],
    has_train: Bool[np.ndarray, 'train labels'],
    validation: Float[np.ndarray, 'validation features'],
    has_validation: Bool[np.ndarray, 'validation labels'],
) -> LinearTags:
    """Fits each strength, and keeps the one with the highest macro ROC-AUC on validation clips.

    All labels have the same strength. A label that all training clips have, or none, gets the
    constant probability 1 or 0.

    Args:
      train: features of the training clips.
      has_train: which labels they have.
      validation: features of the validation clips.
      has_validation: which labels they have.
    """
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(train)
    weights, offsets = _fit_labels(_scaled(scaler, train), has_train)
    fits = [LinearTags(scaler, w, b) for w, b in zip(weights, offsets, strict=True)]
    found = [probabilities(each, validation) for each in fits]
    areas = [tag_metrics.macro_roc_auc(has_validation, each) or 0.0 for each in found]
    return fits[int(np.argmax(areas))]


def probabilities(
    model: LinearTags, features: Float[np.ndarray, 'clips features']
) -> Float[np.ndarray, 'clips labels']:
    """The probability of each label for some clips.

    Args:
      model: from `fit`.
      features: of the clips, as in `fit`.
    """
    from scipy.special import expit  # slow to import, and few commands need it

    return expit(_scaled(model.scaler, features) @ model.weights + model.offsets)


def _fit_labels(
    x: Float[np.ndarray, 'train features'], has: Bool[np.ndarray, 'train labels']
) -> tuple[Float[np.ndarray, 'strengths features labels'], Float[np.ndarray, 'strengths labels']]:
    from threadpoolctl import threadpool_limits

    weights = np.zeros((len(STRENGTHS), x.shape[1], has.shape[1]))
    offsets = np.zeros((len(STRENGTHS), has.shape[1]))
    # One thread per label is several times as fast as two threads within each product.
    with threadpool_limits(1), concurrent.futures.ThreadPoolExecutor(usable_cores()) as pool:
        found = pool.map(lambda mine: _fit_label(x, mine), has.T)
        for label, (of_label, offsets_of_label) in enumerate(found):
            weights[:, :, label], offsets[:, label] = of_label, offsets_of_label
    return weights, offsets


def _fit_label(
    x: Float[np.ndarray, 'train features'], mine: Bool[np.ndarray, ' train']
) -> tuple[Float[np.ndarray, 'strengths features'], Float[np.ndarray, ' strengths']]:
    """The weights and the offset of a label, for each strength."""
    from sklearn.linear_model import LogisticRegression

    weights = np.zeros((len(STRENGTHS), x.shape[1]))
    if mine.all() or not mine.any():
        return weights, np.full(len(STRENGTHS), np.inf if mine.any() else -np.inf)
    offsets = np.zeros(len(STRENGTHS))
    # From weak to strong, so that each fit is a good start for the next.
    model = LogisticRegression(warm_start=True, tol=TOLERANCE, max_iter=MAX_STEPS)
    for k, strength in enumerate(STRENGTHS):
        model.set_params(C=strength).fit(x, mine)
        weights[k], offsets[k] = model.coef_[0], model.intercept_[0]
    return weights, offsets


def _scaled(
    scaler: Any, features: Float[np.ndarray, 'clips features']
) -> Float[np.ndarray, 'clips features']:
    scaled: Float[np.ndarray, 'clips features'] = scaler.transform(features).clip(-LARGEST, LARGEST)
    return scaled
