"""Scores of several labels per clip are those of scikit-learn."""

import json

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies
from sklearn import metrics as sklearn

from glr_jax import tag_interval, tag_metrics

LABELS = ['rock', 'sad', 'guitar', 'rare', 'never', 'always']


def example(seed: int, clips: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Clips with labels of all frequencies, and probabilities with many equal values."""
    rng = np.random.default_rng(seed)
    has = rng.random((clips, len(LABELS))) < [0.5, 0.3, 0.1, 0.02, 0, 1]
    probabilities = np.round(np.clip(rng.random(has.shape) * 0.7 + 0.3 * has, 0, 1), 2)
    return has, probabilities


@pytest.mark.parametrize('seed', range(5))
def test_areas_are_those_of_scikit_learn(seed):
    has, probabilities = example(seed)
    found = tag_metrics.scores(has, probabilities, LABELS)
    known = [k for k in range(len(LABELS)) if 0 < has[:, k].sum() < len(has)]
    truth, values = has[:, known], probabilities[:, known]
    expected = {
        'macro_roc_auc': sklearn.roc_auc_score(truth, values, average='macro'),
        'macro_average_precision': sklearn.average_precision_score(truth, values, average='macro'),
        'micro_roc_auc': sklearn.roc_auc_score(has.ravel(), probabilities.ravel()),
        'micro_average_precision': sklearn.average_precision_score(
            has.ravel(), probabilities.ravel()
        ),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)
    for k in known:
        row = found['per_class'][LABELS[k]]
        assert row['roc_auc'] == pytest.approx(
            sklearn.roc_auc_score(has[:, k], probabilities[:, k]), abs=1e-9
        )
        assert row['average_precision'] == pytest.approx(
            sklearn.average_precision_score(has[:, k], probabilities[:, k]), abs=1e-9
        )
    for name in ('never', 'always'):
        assert found['per_class'][name]['roc_auc'] is None


@pytest.mark.parametrize('seed', range(5))
def test_f1_is_that_of_scikit_learn_at_any_threshold(seed):
    has, probabilities = example(seed)
    limits = tag_metrics.best_thresholds(has, probabilities)
    found = tag_metrics.scores(has, probabilities, LABELS, limits)
    present = has.any(0)
    for name, decided in (
        ('macro_f1', probabilities >= limits),
        ('macro_f1_at_half', probabilities >= 0.5),
    ):
        expected = sklearn.f1_score(
            has[:, present], decided[:, present], average='macro', zero_division=0
        )
        assert found[name] == pytest.approx(expected, abs=1e-9)
    decided = probabilities >= limits
    assert found['micro_f1'] == pytest.approx(
        sklearn.f1_score(has[:, present], decided[:, present], average='micro')
        if not decided[:, ~present].any()
        else sklearn.f1_score(has, decided, average='micro', zero_division=0),
        abs=1e-9,
    )


@pytest.mark.parametrize(
    'seed', [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))]
)
def test_no_other_threshold_has_a_higher_f1(seed):
    has, probabilities = example(seed)
    limits = tag_metrics.best_thresholds(has, probabilities)
    for k, limit in enumerate(limits):
        f1 = lambda at, k=k: sklearn.f1_score(has[:, k], probabilities[:, k] >= at, zero_division=0)
        if has[:, k].any():
            assert f1(limit) == max(map(f1, np.linspace(0, 1.01, 203)))
        else:
            assert limit == 0.5


def test_the_cross_entropy_is_that_of_scikit_learn():
    has, probabilities = example(1)
    each = [
        sklearn.log_loss(has[:, k], np.clip(probabilities[:, k], 1e-12, 1 - 1e-12), labels=[0, 1])
        for k in range(len(LABELS))
    ]
    found = tag_metrics.binary_cross_entropy(has, np.clip(probabilities, 1e-12, 1 - 1e-12))
    assert found == pytest.approx(np.mean(each), abs=1e-9)


@hypothesis.given(
    strategies.lists(
        strategies.tuples(strategies.booleans(), strategies.floats(0, 1)), min_size=2, max_size=30
    )
)
def test_areas_of_any_values(pairs):
    has, values = (np.asarray(column) for column in zip(*pairs, strict=True))
    if has.all() or not has.any():
        assert tag_metrics.roc_auc(has, values) is None
        assert tag_metrics.average_precision(has, values) is None
        return
    assert tag_metrics.roc_auc(has, values) == pytest.approx(
        sklearn.roc_auc_score(has, values), abs=1e-9
    )
    assert tag_metrics.average_precision(has, values) == pytest.approx(
        sklearn.average_precision_score(has, values), abs=1e-9
    )


def test_scores_from_a_file_are_checked():
    has, probabilities = example(2)
    limits = tag_metrics.best_thresholds(has, probabilities)
    values = json.loads(json.dumps(tag_metrics.scores(has, probabilities, LABELS, limits)))
    assert tag_metrics.fault(values) == ''
    for name in ('macro_roc_auc', 'macro_average_precision', 'macro_f1', 'micro_f1', 'precision'):
        assert name in tag_metrics.fault(values | {name: 0.123})
    assert 'counts' in tag_metrics.fault(
        values | {'per_class': values['per_class'] | {'sad': {'support': -1}}}
    )
    assert 'match' in tag_metrics.fault(values | {'labels': ['a']})


def test_labels_without_training_clips_are_in_no_macro_score():
    has, probabilities = example(2)
    limits = tag_metrics.best_thresholds(has, probabilities)
    untrained, kept = ['sad', 'rare'], [0, 2, 4, 5]
    found = tag_metrics.scores(has, probabilities, LABELS, limits, untrained)
    rest = tag_metrics.scores(
        *(has[:, kept], probabilities[:, kept]),
        *([LABELS[k] for k in kept], [limits[k] for k in kept]),
    )
    whole = tag_metrics.scores(has, probabilities, LABELS, limits)
    assert 'untrained_labels' not in whole
    assert found['untrained_labels'] == untrained
    macro = ('macro_roc_auc', 'macro_average_precision', 'macro_f1', 'macro_f1_at_half')
    for name in (*macro, 'precision', 'recall'):
        assert found[name] == pytest.approx(rest[name], abs=1e-12)
        assert found[name] != whole[name]
    assert found['per_class'] == whole['per_class']
    assert found['micro_f1'] == whole['micro_f1']
    values = json.loads(json.dumps(found))
    assert tag_metrics.fault(values) == ''
    assert 'macro_f1' in tag_metrics.fault(values | {'untrained_labels': []})
    for wrong in ('sad', ['x'], [['sad']], [1], None):
        assert 'untrained' in tag_metrics.fault(values | {'untrained_labels': wrong})


def test_the_interval_of_the_mean_area_is_that_of_a_plain_bootstrap(monkeypatch):
    has, probabilities = example(3, clips=60)
    monkeypatch.setattr(tag_interval, '_RESAMPLES', (120, 120))
    low, high = tag_interval.macro_roc_auc_interval(has, probabilities)
    rng, means = np.random.default_rng(0), []
    for size in (100, 20):
        for times in rng.multinomial(60, np.full(60, 1 / 60), size):
            drawn = np.repeat(np.arange(60), times)
            means.append(
                tag_metrics.scores(has[drawn], probabilities[drawn], LABELS)['macro_roc_auc']
            )
    assert (low, high) == pytest.approx(tuple(np.percentile(means, (2.5, 97.5))), abs=1e-9)
    assert low < tag_metrics.scores(has, probabilities, LABELS)['macro_roc_auc'] < high


def test_the_interval_is_the_same_each_time_and_its_cost_is_bounded(monkeypatch):
    has, probabilities = example(4)
    found = tag_interval.macro_roc_auc_interval(has, probabilities)
    assert found == tag_interval.macro_roc_auc_interval(has, probabilities)
    assert tag_interval.macro_roc_auc_interval(has[:, 4:], probabilities[:, 4:]) is None
    assert tag_interval.macro_roc_auc_interval(has[:, :0], probabilities[:, :0]) is None
    one = np.zeros((1, 2), bool)
    assert tag_interval.macro_roc_auc_interval(one, np.zeros((1, 2))) is None
    assert tag_interval._WORK / (200 * 4000) == 500  # resamples of 200 labels and 4,000 clips


def test_an_interval_from_a_file_is_checked():
    has, probabilities = example(2)
    values = tag_metrics.scores(has, probabilities, LABELS)
    good = list(tag_interval.macro_roc_auc_interval(has, probabilities))
    assert tag_metrics.fault(values | {'macro_roc_auc_interval': good}) == ''
    for wrong in ([0.5], 'x', [0.9, 0.1], [0, 2], [0, '1']):
        assert 'interval' in tag_metrics.fault(values | {'macro_roc_auc_interval': wrong})
