import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from experiments import baselines as command
from glr_jax import (
    baselines,
    clip_statistics,
    linear_tags,
    metrics,
    report,
    statistics_svm,
    tag_metrics,
)
from glr_jax.data.dataset import Dataset, open_dataset
from glr_jax.data.mel import FrontEnd
from glr_jax.errors import UserError
from glr_jax.nn.statistics import GROUPS, statistics
from tests.conftest import make_dataset

SIDES = ['train', 'train', 'train', 'validation', 'test']


def noise(frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, 32), np.uint8)


def dataset_of(mels: list[np.ndarray], targets: list[int] | None = None) -> Dataset:
    targets = targets or [k % 2 for k in range(len(mels))]
    return make_dataset(['odd', 'even'], targets, mels)


@pytest.fixture(scope='module')
def together_or_apart() -> Dataset:
    """Two labels whose bands are alike, one by one: they move together, or every second against."""
    mels = []
    for clip in range(40):
        wave = np.random.default_rng(clip).choice([-90, 90], (70, 1)) * np.ones(32, int)
        if clip % 2:
            wave[:, ::2] *= -1
        mels.append((128 + wave).astype(np.uint8))
    made = dataset_of(mels)
    made.splits['some'] = np.repeat(SIDES, 2).tolist() * 4
    return made


def test_every_baseline_is_scored_on_the_same_test_clips(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'baselines.json'
    command.main(['baselines', f'--data.dir={prepared}', '--data.split=random-1', f'--out={out}'])
    scores = json.loads(out.read_text())
    assert list(scores) == ['majority', 'linear', 'svm', 'svm_statistics']
    assert {scores[name]['random-1']['num_clips'] for name in scores} == {3}
    title, header, *rows = capsys.readouterr().out.splitlines()
    assert title == 'test accuracy from 0 to 1'
    assert header.split() == ['random-1', 'mean', 'macro-F1']
    assert [row[:16].strip() for row in rows] == [
        *('majority', 'linear', 'svm, levels', 'svm, statistics'),
    ]
    for row, name in zip(rows, scores, strict=True):
        found = scores[name]['random-1']
        expected = [f'{found[key]:.3f}' for key in ('accuracy', 'accuracy', 'macro_f1')]
        assert row[16:].split() == expected


def test_the_majority_is_that_of_the_training_clips() -> None:
    made = dataset_of([], [0, 1, 1, 0, 0, 0, 0, 1])
    made.splits['some'] = [*['train'] * 3, 'validation', *['test'] * 4]
    scores = baselines.majority_score(made, 'some')
    assert (scores['accuracy'], scores['num_clips']) == (0.25, 4)


def test_only_the_svm_on_statistics_sees_how_bands_vary_together(
    together_or_apart: Dataset,
) -> None:
    found = baselines.scores_on(together_or_apart, ['some'])
    (weak,), (strong,) = found['svm'], found['svm_statistics']
    assert strong['accuracy'] == 1.0
    assert weak['accuracy'] < 0.9


def test_groups_of_clips_of_one_length_are_those_of_each_whole_clip() -> None:
    mels = [noise(70, seed) for seed in range(35)]  # two batches of 32
    found = clip_statistics.all_groups(dataset_of(mels))
    assert set(found) == set(GROUPS)
    x = np.stack([mels[0]] * 31 + [mels[34]]).astype(np.float32) * np.float32(80 / 255)
    for name, expected in jax.device_get(jax.jit(statistics)(x)).items():
        assert len(found[name]) == 35
        np.testing.assert_allclose(
            found[name][[0, 34]], expected[[0, 31]], 1e-3, 5e-3, err_msg=name
        )


def test_longer_clips_are_cut_to_their_middle_and_shorter_ones_repeated() -> None:
    mels = [noise(70, 1), noise(70, 2), noise(35, 3), noise(90, 4)]
    same = [*mels[:2], np.concatenate([mels[2], mels[2]]), mels[3][10:80]]
    found, expected = (clip_statistics.all_groups(dataset_of(clips)) for clips in (mels, same))
    for name in GROUPS:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


@pytest.mark.parametrize(('frames', 'used'), [(9, 64), (64, 64), (1292, 1292), (5000, 1292)])
def test_the_length_is_at_least_a_window_and_at_most_half_a_minute(
    frames: int, used: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []

    def record(x: np.ndarray) -> dict[str, np.ndarray]:
        shapes.append(x.shape)
        return {'levels': x.mean(1)}

    monkeypatch.setattr(jax, 'jit', lambda function: record)
    clip_statistics.all_groups(dataset_of([noise(frames)] * 3))
    assert shapes == [(32, used, 32)]


def test_stored_levels_become_decibels_above_the_floor() -> None:
    made = dataset_of([np.array([[0, 51], [102, 255]], np.uint8)])
    np.testing.assert_allclose(clip_statistics.decibels(made, 0), [[0, 16], [32, 80]], atol=1e-5)
    wide = dataclasses.replace(made, front_end=FrontEnd(top_db=100.0))
    object.__setattr__(wide, 'mels', [made.mel(0)])
    np.testing.assert_allclose(clip_statistics.decibels(wide, 0), [[0, 20], [40, 100]], atol=1e-5)


def test_float32_spectrograms_are_used_as_they_are() -> None:
    mel = np.array([[-80, -3.5]], np.float32)
    made = dataclasses.replace(dataset_of([]), front_end=FrontEnd(mel_dtype='float32'))
    object.__setattr__(made, 'mels', [mel])
    np.testing.assert_array_equal(clip_statistics.decibels(made, 0), mel)


def test_the_kernel_of_one_group_is_that_of_sklearn() -> None:
    rng = np.random.default_rng(0)
    values, targets = rng.standard_normal((60, 7)), np.arange(60) % 3
    train = np.arange(0, 60, 2)
    kernel = statistics_svm._kernel(statistics_svm._fit_kernel(values[train]), values)
    scaled = StandardScaler().fit(values[train]).transform(values)
    theirs = SVC(C=3.0).fit(scaled[train], targets[train])
    mine = SVC(C=3.0, kernel='precomputed').fit(kernel[train], targets[train])
    np.testing.assert_allclose(
        mine.decision_function(kernel), theirs.decision_function(scaled), atol=1e-6
    )


def test_a_group_that_does_not_vary_leaves_the_kernel_finite() -> None:
    values = np.ones((6, 4))
    kernel = statistics_svm._kernel(statistics_svm._fit_kernel(values[:3]), values)
    np.testing.assert_array_equal(kernel, np.ones((6, 3)))


def grouped(targets: list[int], seed: int = 0) -> tuple[Dataset, clip_statistics.GroupsOf]:
    """Clips with made statistics that tell their label, and every fifth clip for validation."""
    made = make_dataset(['a', 'b', 'c'], targets)
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((2, len(targets), 4)).astype(np.float32)
    groups = {name: x + np.eye(4)[targets] for name, x in zip('xy', noise, strict=True)}
    groups = {name: values.astype(np.float32) for name, values in groups.items()}
    sides = ['validation' if k % 5 == 3 else 'train' for k in range(len(targets))]
    made.splits['some'] = ['test' if k % 5 == 4 else side for k, side in enumerate(sides)]
    return made, clip_statistics.groups_of(groups)


@pytest.mark.parametrize('labels', [[0, 1, 2], [0, 1], [0, 2], [2]])
def test_decision_values_have_a_column_per_label_and_decide(labels: list[int]) -> None:
    targets = [labels[(k + k // 5) % len(labels)] for k in range(60)]
    made, groups = grouped(targets)
    svm = baselines.fit_statistics_svm(made, 'some', groups)
    clips = np.array([7, 4, 59, 4])
    values = statistics_svm.decision_values(svm, groups, clips)
    assert values.shape == (4, 3)
    assert np.isfinite(values).all()
    np.testing.assert_array_equal(values[1], values[3])
    assert set(values.argmax(1)) <= set(labels)
    if svm.svc is not None:
        kernel = statistics_svm._mean_kernel(svm, groups(clips))
        np.testing.assert_array_equal(values.argmax(1), svm.svc.predict(kernel))
    test = made.members('some', 'test')
    decisions = statistics_svm.decision_values(svm, groups, test).argmax(1)
    expected = metrics.scores(made.targets[test], decisions, made.labels)
    found = baselines.statistics_score(made, 'some', groups)
    assert found == expected | {'fitted_on': 36, 'train_clips': 36}


def test_many_clips_are_decided_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    made, groups = grouped([k % 3 for k in range(60)])
    svm = baselines.fit_statistics_svm(made, 'some', groups)
    whole = statistics_svm.decision_values(svm, groups, np.arange(60))
    monkeypatch.setattr(statistics_svm, 'CLIPS_AT_A_TIME', 7)
    parts = statistics_svm.decision_values(svm, groups, np.arange(60))
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    assert statistics_svm.decision_values(svm, groups, np.arange(0)).shape == (0, 3)


def test_a_split_with_too_many_clips_is_sampled_by_label(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = np.array([0] * 600 + [1] * 300 + [2])
    clips = np.random.default_rng(0).permutation(901)
    assert (baselines.sample(targets, clips, at_most=901) == clips).all()
    some = baselines.sample(targets, clips, at_most=90)
    assert np.bincount(targets[some]).tolist() == [59, 29, 1]
    assert len(np.unique(some)) == len(some)
    np.testing.assert_array_equal(some, baselines.sample(targets, clips, at_most=90))

    made, groups = grouped([k % 3 for k in range(60)])
    monkeypatch.setattr(baselines, 'MAX_CLIPS', 12)
    svm = baselines.fit_statistics_svm(made, 'some', groups)
    assert [len(kernel.train) for kernel in svm.kernels.values()] == [12, 12]
    found = baselines.statistics_score(made, 'some', groups)
    assert (found['fitted_on'], found['train_clips'], found['num_clips']) == (12, 36, 12)
    floor = {'svm_statistics': found, 'majority': baselines.majority_score(made, 'some')}
    assert 'SVM on statistics (trained on 12 of 36 clips) ' in report.compared(floor)


def test_kernels_of_float32_statistics_are_float32() -> None:
    made, groups = grouped([k % 3 for k in range(60)])
    svm = baselines.fit_statistics_svm(made, 'some', groups)
    assert statistics_svm._mean_kernel(svm, groups(np.arange(5))).dtype == np.float32


def test_groups_on_demand_are_those_of_all_clips() -> None:
    made = dataset_of([noise(70 + seed, seed) for seed in range(35)])
    clips = np.array([33, 2, 2])
    some, whole = clip_statistics.groups_on_demand(made)(clips), clip_statistics.all_groups(made)
    for name in GROUPS:
        np.testing.assert_allclose(some[name], whole[name][clips], 1e-5, 1e-5, err_msg=name)


def test_the_floor_is_the_row_of_the_command(together_or_apart: Dataset) -> None:
    found = baselines.floor(together_or_apart, 'some')
    rows = baselines.scores_on(together_or_apart, ['some', 'some'])
    for name in ('svm_statistics', 'majority'):
        assert rows[name] == [found[name]] * 2


def test_a_split_without_validation_clips_is_named() -> None:
    made, _ = grouped([0, 1, 2])
    made.splits['some'] = ['train', 'train', 'test']
    with pytest.raises(UserError, match=r'--data\.split=some has no validation clips'):
        baselines.majority_score(made, 'some')


def test_starting_a_command_does_not_import_sklearn() -> None:
    code = 'import sys, glr_jax.train; print("sklearn" in sys.modules)'
    assert subprocess.check_output([sys.executable, '-c', code], text=True).strip() == 'False'


def tagged(clips: int, seed: int = 0) -> tuple[Dataset, clip_statistics.GroupsOf]:
    """Clips with statistics that tell two of their labels; others that all or no clips have."""
    rng = np.random.default_rng(seed)
    has = (rng.random((clips, 4)) < [0.5, 0.3, 0, 1]).astype(np.uint8)
    made = dataclasses.replace(
        make_dataset(['a', 'b', 'never', 'always'], [0] * clips), targets=has
    )
    noise = rng.standard_normal((2, clips, 4)).astype(np.float32)
    groups = clip_statistics.groups_of(
        {name: x + 2 * has for name, x in zip('xy', noise, strict=True)}
    )
    sides = ['validation' if k % 5 == 3 else 'train' for k in range(clips)]
    made.splits['some'] = ['test' if k % 5 == 4 else side for k, side in enumerate(sides)]
    return made, groups


def test_several_labels_are_told_by_scikit_learns_logistic_regression() -> None:
    made, groups = tagged(200)
    found = baselines.statistics_score(made, 'some', groups)
    train, validation, test = (
        made.members('some', side) for side in ('train', 'validation', 'test')
    )
    x, has = np.hstack([*groups(np.arange(200)).values()]), made.has_label()
    scaler = StandardScaler().fit(x[train])

    def predicted(strength: float, clips: np.ndarray) -> np.ndarray:
        model = LogisticRegression(C=strength, tol=1e-6)
        fit = lambda k: model.fit(scaler.transform(x[train]), has[train, k])
        columns = [fit(k).predict_proba(scaler.transform(x[clips]))[:, 1] for k in (0, 1)]
        return np.stack(columns, 1)

    area = lambda c: roc_auc_score(has[validation, :2], predicted(c, validation))
    chosen = max(linear_tags.STRENGTHS, key=area)
    expected = roc_auc_score(has[test, :2], predicted(chosen, test))
    assert found['macro_roc_auc'] == pytest.approx(expected, abs=2e-3)
    assert found['macro_roc_auc'] > 0.8
    assert found['per_class']['never']['roc_auc'] is None
    assert (found['fitted_on'], found['train_clips'], found['num_clips']) == (120, 120, 40)
    limits = [found['per_class'][label]['threshold'] for label in 'ab']
    right = tag_metrics.best_thresholds(has[validation, :2], predicted(chosen, validation))
    assert limits == pytest.approx(right, abs=0.02)


def test_a_label_that_all_training_clips_have_or_none_has_a_constant_probability() -> None:
    made, groups = tagged(60)
    x, has = np.hstack([*groups(np.arange(60)).values()]), made.has_label()
    model = linear_tags.fit(x[:30], has[:30], x[30:], has[30:])
    found = linear_tags.probabilities(model, x)
    np.testing.assert_array_equal(found[:, 2:], np.tile([0.0, 1.0], (60, 1)))
    assert np.isfinite(found).all()
    nothing = np.zeros((30, 2), bool)
    model = linear_tags.fit(x[:30], nothing, x[30:], nothing)
    np.testing.assert_array_equal(linear_tags.probabilities(model, x), np.zeros((60, 2)))


def test_the_majority_of_several_labels_is_the_share_of_each() -> None:
    made, _ = tagged(200)
    found = baselines.majority_score(made, 'some')
    has = made.has_label()[made.members('some', 'test')]
    assert found['macro_roc_auc'] == 0.5
    for k, label in enumerate('ab'):
        row = found['per_class'][label]
        assert row['average_precision'] == pytest.approx(has[:, k].mean())
        assert row['recall'] == 1.0  # a threshold below the share is better than deciding none
    assert found['per_class']['never']['decided'] == 0


def test_the_floor_of_several_labels_is_the_row_of_the_command(
    tagged_dataset: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    dataset, out = open_dataset(str(tagged_dataset)), tmp_path / 'baselines.json'
    found = baselines.floor(dataset, 'random-1')
    command.main(
        ['baselines', f'--data.dir={tagged_dataset}', '--data.split=random-1', f'--out={out}']
    )
    scores = json.loads(out.read_text())
    assert list(scores) == ['majority', 'linear', 'linear_statistics']
    for name in ('majority', 'linear_statistics'):
        mine, theirs = found[name], scores[name]['random-1']
        assert mine['macro_roc_auc'] == pytest.approx(theirs['macro_roc_auc'], abs=0.01)
        assert tag_metrics.fault(theirs) == ''
    title, header, *rows = capsys.readouterr().out.splitlines()
    assert title == 'test macro ROC-AUC from 0 to 1'
    assert header.split('  ')[-3:] == ['mean', 'avg. precision', 'macro-F1']
    names = ['label frequencies', 'linear, levels', 'linear, statistics']
    assert [row[:20].strip() for row in rows] == names
    for row, of_split in zip(rows, scores.values(), strict=True):
        keys = ('macro_roc_auc', 'macro_roc_auc', 'macro_average_precision', 'macro_f1')
        assert row[20:].split() == [metrics.shown(of_split['random-1'][key]) for key in keys]
    everything = baselines.scores_on(dataset, ['random-1'])
    assert list(everything) == ['linear_statistics', 'linear', 'majority']


def test_many_clips_with_several_labels_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    has = np.random.default_rng(0).random((900, 3)) < [0.5, 0.1, 0]
    has[7] = [False, False, True]
    clips = np.arange(0, 900)
    assert (baselines.sample_tagged(has, clips, at_most=900) == clips).all()
    some = baselines.sample_tagged(has, clips, at_most=90)
    assert 7 in some
    assert len(some) in (90, 91)
    np.testing.assert_array_equal(some, baselines.sample_tagged(has, clips, at_most=90))

    made, groups = tagged(100)
    monkeypatch.setattr(baselines, 'MAX_PAIRS', 4 * 20)
    found = baselines.statistics_score(made, 'some', groups)
    assert (found['fitted_on'], found['train_clips'], found['num_clips']) == (20, 60, 20)
