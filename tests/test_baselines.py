import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from experiments import baselines
from glr_jax.data.dataset import Dataset
from glr_jax.data.mel import FrontEnd
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
    baselines.main(['baselines', f'--data.dir={prepared}', '--data.split=random-1', f'--out={out}'])
    scores = json.loads(out.read_text())
    assert list(scores) == ['majority', 'linear', 'svm', 'svm_statistics']
    assert {scores[name]['random-1']['num_clips'] for name in scores} == {3}
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ['random-1', 'mean']
    assert [row[:16].strip() for row in rows] == [
        *('majority', 'linear', 'svm, levels', 'svm, statistics'),
    ]


def test_the_majority_is_that_of_the_training_clips() -> None:
    made = dataset_of([], [0, 1, 1, 0, 0, 0, 0, 1])
    made.splits['some'] = [*['train'] * 3, 'validation', *['test'] * 4]
    scores = baselines.majority_score(made, 'some')
    assert (scores['accuracy'], scores['num_clips']) == (0.25, 4)


def test_only_the_svm_on_statistics_sees_how_bands_vary_together(
    together_or_apart: Dataset,
) -> None:
    (weak,) = baselines.svm_scores(together_or_apart, ['some'])
    (strong,) = baselines.strong_svm_scores(together_or_apart, ['some'])
    assert strong['accuracy'] == 1.0
    assert weak['accuracy'] < 0.9


def test_groups_of_clips_of_one_length_are_those_of_each_whole_clip() -> None:
    mels = [noise(70, seed) for seed in range(35)]  # two batches of 32
    found = baselines.all_groups(dataset_of(mels))
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
    found, expected = (baselines.all_groups(dataset_of(clips)) for clips in (mels, same))
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
    baselines.all_groups(dataset_of([noise(frames)] * 3))
    assert shapes == [(32, used, 32)]


def test_stored_levels_become_decibels_above_the_floor() -> None:
    made = dataset_of([np.array([[0, 51], [102, 255]], np.uint8)])
    np.testing.assert_allclose(baselines.decibels(made, 0), [[0, 16], [32, 80]], atol=1e-5)
    wide = dataclasses.replace(made, front_end=FrontEnd(top_db=100.0))
    object.__setattr__(wide, 'mels', [made.mel(0)])
    np.testing.assert_allclose(baselines.decibels(wide, 0), [[0, 20], [40, 100]], atol=1e-5)


def test_float32_spectrograms_are_used_as_they_are() -> None:
    mel = np.array([[-80, -3.5]], np.float32)
    made = dataclasses.replace(dataset_of([]), front_end=FrontEnd(mel_dtype='float32'))
    object.__setattr__(made, 'mels', [mel])
    np.testing.assert_array_equal(baselines.decibels(made, 0), mel)


def test_the_kernel_of_one_group_is_that_of_sklearn() -> None:
    rng = np.random.default_rng(0)
    values, targets = rng.standard_normal((60, 7)), np.arange(60) % 3
    train = np.arange(0, 60, 2)
    kernel = baselines._kernel(values, train)
    scaled = StandardScaler().fit(values[train]).transform(values)
    theirs = SVC(C=3.0).fit(scaled[train], targets[train])
    mine = SVC(C=3.0, kernel='precomputed').fit(kernel[train], targets[train])
    np.testing.assert_allclose(
        mine.decision_function(kernel), theirs.decision_function(scaled), atol=1e-6
    )


def test_a_group_that_does_not_vary_leaves_the_kernel_finite() -> None:
    kernel = baselines._kernel(np.ones((6, 4)), np.arange(3))
    np.testing.assert_array_equal(kernel, np.ones((6, 3)))
