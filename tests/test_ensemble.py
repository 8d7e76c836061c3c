"""Several runs as one classifier: a folder of runs in every command, and with the SVM."""

import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from data_prep import __main__ as data_prep
from glr_jax import checkpoint, evaluate, predict, train
from glr_jax.config import Config, DataConfig
from glr_jax.errors import UsageError, UserError
from tests.conftest import make_dataset

# Another architecture, other segments, and too few steps for a sure decision.
OTHER_RUN = [
    *('--seed=1', '--model.kind=cnn', '--model.kernels=8', '--data.frames=24'),
    *('--train.batch_size=8', '--train.epochs=2', '--data.test_crops=2', '--baselines=false'),
]


@pytest.fixture(scope='module')
def other_run(tones_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('runs') / 'other'
    train.main(['train', f'--workdir={folder}', f'--data.dir={tones_dataset}', *OTHER_RUN])
    return folder


@pytest.fixture
def folder(tones_run: Path, other_run: Path, tmp_path: Path) -> Path:
    """A folder with two runs at two levels, and one that has not saved a checkpoint."""
    shutil.copytree(tones_run, tmp_path / 'runs' / 'deep' / 'one')
    (tmp_path / 'runs' / 'two').symlink_to(other_run)
    (tmp_path / 'runs' / 'begun').mkdir()
    shutil.copy(tones_run / 'config.json', tmp_path / 'runs' / 'begun')
    (tmp_path / 'runs' / 'notes').mkdir()
    return tmp_path / 'runs'


def scores_of(workdir: Path, part: str = '') -> dict:
    return json.loads((workdir / 'report' / part / 'metrics.json').read_text())


def probabilities_of(workdir: Path) -> np.ndarray:
    with open(workdir / 'report' / 'predictions.csv', newline='') as file:
        return np.array([[float(p) for p in row[3:]] for row in list(csv.reader(file))[1:]])


def test_a_folder_of_runs_is_scored_by_the_mean_of_their_probabilities(
    folder: Path, tones_run: Path, other_run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    evaluate.main(['evaluate', f'--workdir={folder}'])
    out, err = capfd.readouterr()
    expected = (probabilities_of(tones_run) + probabilities_of(other_run)) / 2
    assert np.abs(probabilities_of(tones_run) - expected).max() > 0.01
    np.testing.assert_allclose(probabilities_of(folder), expected, atol=1.1e-4)
    found, one, two = map(scores_of, (folder, tones_run, other_run))
    assert set(found) - {'runs'} == set(one)
    assert found['runs'] == [
        {'workdir': 'deep/one', 'accuracy': one['accuracy']},
        {'workdir': 'two', 'accuracy': two['accuracy']},
    ]
    right = -np.log(expected[np.arange(3), [0, 1, 2]])
    assert found['loss'] == pytest.approx(right.mean(), abs=1e-3)
    assert f'{folder}/begun has no finished checkpoint and is left out' in err
    assert f'accuracy {found["accuracy"]:.3f}' in out
    assert (folder / 'report' / 'index.html').exists()


def test_a_folder_of_runs_predicts_the_mean_of_their_probabilities(
    folder: Path, tones_run: Path, other_run: Path, tones: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = []
    for workdir in (folder, tones_run, other_run):
        flags = ['--format=json', '--batch_size=3', str(tones / 'low')]
        predict.main(['predict', f'--workdir={workdir}', *flags])
        found = json.loads(capfd.readouterr().out)
        assert len(found) == 10
        rows.append(np.array([list(row['probabilities'].values()) for row in found]))
    assert np.abs(rows[1] - rows[2]).max() > 0.01
    np.testing.assert_allclose(rows[0], (rows[1] + rows[2]) / 2, atol=1e-6)


def test_runs_of_several_splits_need_a_split(
    folder: Path, tones_dataset: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = [f'--workdir={folder / "two-2"}', f'--data.dir={tones_dataset}', *OTHER_RUN]
    train.main(['train', *flags, '--data.split=random-2', '--train.epochs=1'])
    with pytest.raises(UsageError, match=r'--data\.split: random-1, random-2; choose one'):
        evaluate.main(['evaluate', f'--workdir={folder}'])
    capfd.readouterr()
    evaluate.main(['evaluate', f'--workdir={folder}', '--data.split=random-2'])
    scores = scores_of(folder, 'random-2')
    assert len(scores['runs']) == 3
    assert scores['trained_on'] > 0
    assert 'trained on under random-1, random-2' in capfd.readouterr().err


def test_clips_that_any_run_was_trained_on_are_counted_once() -> None:
    made = make_dataset('ab', [0, 1] * 3)
    made.splits['x'] = ['train', 'train', 'test', '', '', '']
    made.splits['y'] = ['test', 'train', 'train', '', '', '']
    configs = [
        Config(data=DataConfig(dir=d, split=s))
        for d, s in zip(('made', 'made', 'made', 'elsewhere'), 'xyxx', strict=True)
    ]
    clips = np.array([0, 1, 2, 5])
    assert evaluate.trained_on(made, clips, configs) == 3
    assert evaluate.trained_on(made, clips, configs[:1]) == 2
    assert evaluate.trained_on(made, clips, configs[3:]) == 0


def test_runs_with_other_labels_or_front_ends_are_not_averaged(
    folder: Path, tones: Path, tones_run: Path, tmp_path: Path
) -> None:
    data = tmp_path / 'data'
    data_prep.main(['data_prep', f'--input={tones}', f'--out={data}', '--htk', '--num_workers=1'])
    flags = [f'--data.dir={data}', *OTHER_RUN, '--train.epochs=1']
    train.main(['train', f'--workdir={folder / "zoo"}', *flags])
    words = f'{folder}/deep/one and {folder}/zoo cannot be averaged.* --htk=False and --htk=True$'
    for main in (evaluate.main, predict.main):
        with pytest.raises(UserError, match=words):
            main(['x', f'--workdir={folder}', *([str(tones)] if main is predict.main else [])])
    one, two = evaluate.restore(str(tones_run)) * 2
    meta = dataclasses.replace(two.meta, labels=('high', 'low', 'mean'))
    with pytest.raises(UserError, match=r'their labels differ$'):
        checkpoint.check_alike([one, two._replace(meta=meta)])


def test_a_folder_whose_runs_have_no_checkpoint_is_refused(folder: Path) -> None:
    shutil.rmtree(folder / 'deep')
    (folder / 'two').unlink()
    with pytest.raises(UserError, match=f'no run below {re.escape(str(folder))} has a finished'):
        evaluate.main(['evaluate', f'--workdir={folder}'])
    shutil.rmtree(folder / 'begun')
    with pytest.raises(UserError, match='holds no checkpoints; train first'):
        evaluate.main(['evaluate', f'--workdir={folder}'])


def test_other_test_crops_have_their_own_report_and_change_predictions(
    other_run: Path, tones: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = scores_of(other_run)
    evaluate.main(['evaluate', f'--workdir={other_run}', '--data.test_crops=4'])
    assert scores_of(other_run) == before
    found = scores_of(other_run, 'random-1')
    assert found['test_crops'] == 4
    assert found['loss'] != before['loss']
    evaluate.main(['evaluate', f'--workdir={other_run}', '--data.test_crops=2'])  # as trained
    assert scores_of(other_run)['loss'] == before['loss']
    capfd.readouterr()
    texts = []
    for flags in ([], ['--data.test_crops=2'], ['--data.test_crops=4']):
        clip = str(tones / 'low' / '9.wav')
        predict.main(['predict', f'--workdir={other_run}', '--format=csv', *flags, clip])
        texts.append(capfd.readouterr().out)
    assert texts[0] == texts[1] != texts[2]


def test_a_run_does_not_resume_with_other_test_crops(other_run: Path, tones_dataset: Path) -> None:
    flags = [f'--workdir={other_run}', f'--data.dir={tones_dataset}', *OTHER_RUN]
    with pytest.raises(UserError, match=r'--data.test_crops=2 \(not 1\)'):
        train.main(['train', *flags, '--data.test_crops=1'])
