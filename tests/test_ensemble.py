"""Several runs as one classifier: a folder of runs in every command, and with the SVM."""

import csv
import dataclasses
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep import __main__ as data_prep
from experiments import ensemble
from experiments.ensemble import Predicted
from glr_jax import baselines, evaluate, metrics, predict, scoring, train, trained
from glr_jax.clip_statistics import all_groups, groups_of
from glr_jax.config import Config, DataConfig
from glr_jax.data.dataset import open_dataset
from glr_jax.errors import UsageError, UserError
from glr_jax.run import provenance, training_data
from glr_jax.run.labels import untrained_labels
from tests.conftest import PAPER, make_dataset

# Another architecture, other segments, and too few steps for a sure decision.
OTHER_RUN = [
    *PAPER,
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
    page = (folder / 'report' / 'index.html').read_text()
    assert f'mean of the probabilities of 2 runs: deep/one ({one["accuracy"]:.3f}), two (' in page


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


@pytest.mark.slow
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
    assert 'trained on under random-1: ' in capfd.readouterr().err  # random-2 is innocent


def test_clips_that_any_run_was_trained_on_are_counted_once() -> None:
    made = make_dataset('ab', [0, 1] * 3)
    made.splits['x'] = ['train', 'train', 'test', '', '', '']
    made.splits['y'] = ['test', 'train', 'train', '', '', '']
    configs = [
        Config(data=DataConfig(dir=d, split=s))
        for d, s in zip(('made', 'made', 'made', 'elsewhere'), 'xyxx', strict=True)
    ]
    clips = np.array([0, 1, 2, 5])
    assert training_data.trained_on(made, clips, configs) == 3
    assert training_data.trained_on(made, clips, configs[:1]) == 2
    assert training_data.trained_on(made, clips, configs[3:]) == 0


@pytest.mark.slow
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
    (one,) = trained.restore(str(tones_run))
    meta = dataclasses.replace(one.meta, labels=('high', 'low', 'mean'))
    with pytest.raises(UserError, match=r'their labels differ$'):
        provenance.check_alike([('one', one.meta), ('two', meta)])


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
    found = scores_of(other_run, 'random-1-4-crops')
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


def test_the_thresholds_of_a_folder_fit_the_mean_of_its_runs(
    tagged_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ('one', 'two'):
        shutil.copytree(tagged_run, tmp_path / 'runs' / name)
    runs = trained.restore(str(tmp_path / 'runs'))
    chosen = runs[0].meta.thresholds  # the mean of two equal runs is either of them
    monkeypatch.setattr(trained, 'mean_thresholds', lambda metas: (0.1, 0.2, 0.3))
    assert trained.thresholds(runs) == (0.1, 0.2, 0.3)
    evaluate.main(['evaluate', f'--workdir={tmp_path / "runs"}'])
    found = [row['threshold'] for row in scores_of(tmp_path / 'runs')['per_class'].values()]
    assert found == pytest.approx(chosen, abs=1e-6)
    assert list(trained.thresholds(runs)) == found  # prediction uses those of the report
    assert trained.thresholds(runs[:1]) == (0.1, 0.2, 0.3)  # another set of runs
    later = [run._replace(step=run.step + 1) for run in runs]
    assert trained.thresholds(later) == (0.1, 0.2, 0.3)


def test_a_label_is_left_out_if_no_run_has_training_clips_of_it(tagged_run: Path) -> None:
    made = make_dataset(('a', 'b', 'c'), [0, 1, 2])
    object.__setattr__(made, 'targets', np.array([[1, 0, 0], [0, 1, 0], [1, 1, 1]], np.uint8))
    made.splits.update(x=['train', 'test', 'test'], y=['test', 'train', 'test'])
    assert untrained_labels(made, 'x') == ('b', 'c')
    (run,) = trained.restore(str(tagged_run))
    configs = [Config(data=DataConfig(dir='made', split=split)) for split in 'xy']
    assert provenance.make_meta(configs[0], made).untrained == ('b', 'c')
    assert scoring._untrained(made, [run], configs[:1]) == ('b', 'c')  # the dataset says it
    assert scoring._untrained(made, [run, run], configs) == ('c',)
    elsewhere = [Config(data=DataConfig(dir='elsewhere', split='x'))]
    other = run._replace(meta=dataclasses.replace(run.meta, untrained=('a', 'z')))
    assert scoring._untrained(made, [other], elsewhere) == ('a',)  # the checkpoint says it


# ---------------------------------------------------------------- experiments.ensemble
def predicted(ensemble_right: float, svm_right: float, seed: int = 0) -> Predicted:
    """Sixty clips of three labels, of which each side decides a fraction rightly."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 3, 60)

    def values(right: float) -> np.ndarray:
        chosen = np.where(np.arange(60) < 60 * right, targets, (targets + 1) % 3)
        return np.eye(3)[chosen]

    return Predicted(targets, 0.1 + 0.7 * values(ensemble_right), 4 * values(svm_right))


def test_the_share_of_the_svm_is_chosen_by_the_validation_clips_alone() -> None:
    for_svm, against_svm = predicted(0.4, 0.9), predicted(0.9, 0.4, seed=1)
    assert ensemble.choose(for_svm)[1] == 0.75
    assert ensemble.choose(against_svm)[1] == 0.0  # the test clips would choose otherwise
    found = ensemble.with_svm(against_svm, for_svm)
    assert (found['temperature'], found['share']) == ensemble.choose(for_svm)
    assert found['svm']['accuracy'] == 0.4
    assert found['ensemble_and_svm']['accuracy'] == 0.4
    other_tests = against_svm._replace(targets=(against_svm.targets + 1) % 3)
    again = ensemble.with_svm(other_tests, for_svm)
    assert again['ensemble_and_svm'] != found['ensemble_and_svm']
    assert (again['temperature'], again['share']) == ensemble.choose(for_svm)


def test_without_other_clips_nothing_is_chosen() -> None:
    held_out = predicted(0.4, 0.9)
    found = ensemble.with_svm(held_out, None)
    assert (found['temperature'], found['share']) == (1.0, 0.5)
    half = (held_out.ensemble + ensemble.softmax(held_out.svm, 1.0)) / 2
    assert found['ensemble_and_svm']['loss'] == metrics.cross_entropy(held_out.targets, half)


def test_the_temperature_fits_how_often_the_svm_is_right() -> None:
    sure, unsure = (ensemble.choose(predicted(0.5, right))[0] for right in (1.0, 0.4))
    assert sure == min(ensemble.TEMPERATURES)
    assert unsure == max(ensemble.TEMPERATURES)
    values = np.array([[1.0, 2.0, 1e4]])
    np.testing.assert_allclose(ensemble.softmax(values, 0.5), [[0, 0, 1]])
    np.testing.assert_allclose(
        ensemble.softmax(np.array([[0.0, np.log(9)]]), 2.0), [[0.25, 0.75]], rtol=1e-12
    )


def test_the_study_scores_runs_their_ensemble_and_the_svm(
    folder: Path,
    tones_run: Path,
    other_run: Path,
    tones_dataset: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    flags = [f'--workdir={folder / "three"}', f'--data.dir={tones_dataset}', *OTHER_RUN]
    train.main(['train', *flags, '--data.split=random-2', '--train.epochs=1'])
    capfd.readouterr()
    out = tmp_path / 'found.json'
    runs = (
        f'--runs={folder},{tones_run.parent}/{tones_run.name}'  # `deep/one` is a copy, not a link
    )
    ensemble.main(['ensemble', runs, '--baselines', f'--out={out}'])
    text, err = capfd.readouterr()
    first, second = json.loads(out.read_text())['splits']
    assert (first['split'], second['split']) == ('random-1', 'random-2')
    assert f'{folder}/begun is not finished and is left out' in err
    assert len(first['runs']) == 3
    assert [len(second['runs']), second['single']['accuracy']] == [
        1,
        scores_of(folder / 'three')['accuracy'],
    ]
    expected = (2 * probabilities_of(tones_run) + probabilities_of(other_run)) / 3
    right = -np.log(expected[np.arange(3), [0, 1, 2]])
    assert first['ensemble']['loss'] == pytest.approx(right.mean(), abs=1e-3)
    singles = [scores_of(workdir)['accuracy'] for workdir in (tones_run, tones_run, other_run)]
    assert first['single']['accuracy'] == pytest.approx(np.mean(singles))
    dataset = open_dataset(str(tones_dataset))
    groups = groups_of(all_groups(dataset))
    for row in (first, second):
        svm = baselines.statistics_score(dataset, row['split'], groups)
        assert row['svm']['accuracy'] == svm['accuracy']
    assert '| mean ± std |' in text
    assert 'ensemble − single run: ' in text
    assert 'ensemble + SVM − SVM: ' in text


def test_the_study_agrees_with_evaluate(
    folder: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    evaluate.main(['evaluate', f'--workdir={folder}'])
    ensemble.main(['ensemble', f'--runs={folder}', f'--out={tmp_path / "found.json"}'])
    (row,) = json.loads((tmp_path / 'found.json').read_text())['splits']
    report = scores_of(folder)
    assert row['ensemble'] == {name: report[name] for name in ('accuracy', 'loss')}
    assert 'svm' not in row
    assert 'SVM' not in capfd.readouterr().out


def test_a_split_without_test_clips_is_scored_on_validation_and_says_so(
    tones_run: Path, tones_dataset: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data, workdir = tmp_path / 'data', tmp_path / 'runs' / 'one'
    shutil.copytree(tones_dataset, data)
    with open(data / 'splits.csv', newline='') as file:
        header, *rows = csv.reader(file)
    place = header.index('random-1')
    for row in rows:
        row[place] = row[place].replace('test', '')
    with open(data / 'splits.csv', 'w', newline='') as file:
        csv.writer(file).writerows([header, *rows])
    shutil.copytree(tones_run, workdir)
    config: dict[str, Any] = json.loads((workdir / 'config.json').read_text())
    config['data']['dir'] = str(data)
    (workdir / 'config.json').write_text(json.dumps(config))
    out = tmp_path / 'found.json'
    ensemble.main(['ensemble', f'--runs={tmp_path / "runs"}', '--baselines', f'--out={out}'])
    (row,) = json.loads(out.read_text())['splits']
    assert [row[key] for key in ('side', 'share', 'temperature')] == ['validation', 0.5, 1.0]
    text = capfd.readouterr().out
    assert 'random-1 has no test clips: the scores are on the validation clips' in text
    assert 'its share 1/2 and temperature 1 are not chosen by any clips' in text


@pytest.mark.parametrize(
    ('flag', 'words'),
    [
        ('--runs={empty}', 'there are no finished runs'),
        ('--runs={empty}/no', 'there are no finished runs'),
        ('--runs={empty},{empty}', 'repeats'),
    ],
)
def test_a_study_without_finished_runs_is_refused(flag: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=words):
        ensemble.main(['ensemble', flag.format(empty=tmp_path)])


def test_runs_with_several_labels_per_clip_are_refused(
    tagged_dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs_of = {str(tagged_dataset): {'random-1': ['run']}}
    monkeypatch.setattr(ensemble, 'finished_runs', lambda runs: ['run'])
    monkeypatch.setattr(ensemble, 'by_dataset', lambda runs: runs_of)
    with pytest.raises(UserError, match=f'{tagged_dataset} may have several labels per clip'):
        ensemble.main(['ensemble', '--runs=any'])


def test_splits_are_in_order_and_grouped_by_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    config_of = lambda run: Config(data=DataConfig(dir='d', split=run))
    monkeypatch.setattr(ensemble, 'read_config', config_of)
    found = ensemble.by_dataset(['random-10', 'official', 'random-2'])
    assert list(found['d']) == ['official', 'random-2', 'random-10']
    row = {'dataset': 'd', 'side': 'test', 'runs': [0], 'single': {'accuracy': 0.5}}
    rows = [row | {'split': 'x-1', 'ensemble': {'accuracy': a}} for a in (0.5, 0.7)]
    text = ensemble.table(rows)
    assert 'ensemble − single run: +10.0 ± 14.1' in text
    assert '| 50.0 ± 0.0 | 60.0 ± 14.1 |' in text
    assert ensemble.protocol_of('random-10') == 'random'
    assert ensemble.protocol_of('fault_filtered') == 'fault_filtered'
