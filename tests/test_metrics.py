import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from glr_jax.metrics import cross_entropy, scores, wilson_interval

LABELS = ['a', 'b', 'c', 'd']


def draw(clips: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 4, clips)
    logits = rng.standard_normal((clips, 4)) + 1.5 * np.eye(4)[targets]
    return targets, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def test_scores_equal_those_of_scikit_learn() -> None:
    targets, probabilities = draw()
    decisions = probabilities.argmax(1)
    found = scores(targets, decisions, LABELS)
    expected = sklearn_metrics.precision_recall_fscore_support(targets, decisions, average='macro')
    assert found['accuracy'] == pytest.approx(np.mean(targets == decisions))
    assert [found[k] for k in ('precision', 'recall', 'macro_f1')] == pytest.approx(expected[:3])
    assert found['confusion'] == sklearn_metrics.confusion_matrix(targets, decisions).tolist()
    rows = sklearn_metrics.precision_recall_fscore_support(targets, decisions)
    for label, *expected_row in zip(LABELS, *rows, strict=True):
        assert list(found['per_class'][label].values()) == pytest.approx(expected_row)


def test_cross_entropy_equals_scikit_learn() -> None:
    targets, probabilities = draw()
    expected = sklearn_metrics.log_loss(targets, probabilities)
    assert cross_entropy(targets, probabilities) == pytest.approx(expected)


def test_rows_of_the_confusion_are_the_true_labels() -> None:
    confusion = scores(np.array([1, 1]), np.array([2, 2]), LABELS)['confusion']
    assert confusion[1][2] == 2


def test_a_label_without_clips_or_decisions_gives_no_nan() -> None:
    found = scores(np.array([0, 0, 1]), np.array([0, 1, 1]), LABELS)
    assert found['recall'] == pytest.approx(0.75)
    assert found['per_class']['d'] == {'precision': 0, 'recall': 0, 'f1': 0, 'support': 0}


def test_wilson_interval() -> None:
    assert wilson_interval(8, 10) == pytest.approx((0.4901, 0.9433), abs=2e-4)
    assert wilson_interval(10, 10)[1] == pytest.approx(1)
    assert wilson_interval(0, 10)[0] == 0
