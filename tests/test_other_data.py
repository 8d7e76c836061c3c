"""Scoring a run on data that it has not seen: all of it, with the labels that both have."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import data_prep.__main__ as data_prep
from glr_jax import evaluate, trained
from glr_jax.data import other_data
from glr_jax.data.mel import FrontEnd
from glr_jax.errors import UsageError, UserError
from tests.conftest import PITCHES, write_tone


@pytest.fixture
def run_folder(tones_run: Path, tmp_path: Path) -> Path:
    ignore = shutil.ignore_patterns('random-*')  # reports that other tests have left
    return Path(shutil.copytree(tones_run, tmp_path / 'run', ignore=ignore))


def write_other(folder: Path, labels: dict[str, str], clips: int = 3) -> Path:
    """Tones that the run has not heard: {name of the sub-folder: label of the run}."""
    for name, label in labels.items():
        (folder / name).mkdir(parents=True)
        for k in range(clips):
            write_tone(folder / name / f'{k}.wav', PITCHES[label] * (1.01 + 0.02 * k), 0.8)
    return folder


def scored(run: Path, data: Path, *flags: str) -> dict:
    evaluate.main(['evaluate', f'--workdir={run}', f'--data.dir={data}', *flags])
    return reported(run)


def reported(run: Path) -> dict:
    found = next(p for p in (run / 'report').iterdir() if p.is_dir())
    return json.loads((found / 'metrics.json').read_text())


def test_all_clips_of_a_folder_of_audio_are_scored(
    run_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = write_other(tmp_path / 'other', {'low': 'low', 'HIGH': 'high'})
    (other / 'low' / 'bad.wav').write_text('no audio')
    before = (run_folder / 'report' / 'metrics.json').read_text()
    with pytest.raises(UserError, match='1 of 7 files could not be read') as error:
        scored(run_folder, other)
    assert error.value.exit_code == 1
    scores = reported(run_folder)
    out, err = capfd.readouterr()
    assert scores['num_clips'] == 6
    bad = str(other / 'low' / 'bad.wav')
    assert list(scores['unreadable']) == [bad]
    assert scores['unreadable'][bad].startswith('cannot be decoded as audio')
    assert scores['accuracy'] == 1
    assert scores['per_class']['middle']['support'] == 0
    assert f'on 6 of 7 clips of {other} (1 unreadable, named in metrics.json);' in ' '.join(
        out.split()
    )
    assert 'bad.wav: cannot be decoded as audio' in err
    words = r'\d of the 6 clips (has|have) the name of a clip .*, but another spectrogram'
    assert re.search(words, err), err
    assert scores['trained_on'] == 0
    assert (run_folder / 'report' / 'metrics.json').read_text() == before


def test_a_dataset_with_some_other_labels(
    run_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = write_other(tmp_path / 'x', {'low': 'low', 'a drone': 'middle', 'high': 'high'}, 10)
    data = tmp_path / 'data'
    data_prep.main(['data_prep', f'--input={other}', f'--out={data}', '--num_workers=1'])
    scores = scored(run_folder, data)
    assert scores['num_clips'] == 20
    assert scores['unknown_labels'] == {'a drone': 10}
    assert scores['labels'] == ['high', 'low', 'middle']
    assert scores['accuracy'] == 1
    assert "10 clips left out: the run does not know their label 'a drone'" in (
        capfd.readouterr().err
    )
    assert np.sum(scores['confusion']) == 20
    shutil.rmtree(next(p for p in (run_folder / 'report').iterdir() if p.is_dir()))
    assert scored(run_folder, data, '--data.split=random-1')['num_clips'] == 2


def test_a_copy_of_the_runs_own_dataset_is_scored_on_its_test_clips(
    run_folder: Path, tones_dataset: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(tones_dataset, tmp_path / 'copy'))
    scores = scored(run_folder, copy)
    assert (scores['split'], scores['num_clips'], scores['trained_on']) == ('random-1', 3, 0)


def test_a_folder_without_faults_is_scored_in_full(
    run_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = write_other(tmp_path / 'other', {'low': 'low'}, 2)
    assert 'unreadable' not in scored(run_folder, other)
    assert f'on all 2 clips of {other};' in ' '.join(capfd.readouterr().out.split())


def test_a_folder_is_read_by_several_processes_bit_by_bit_as_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_other(tmp_path / 'other', {'low': 'low', 'high': 'high'})
    (other / 'low' / 'bad.wav').write_text('no audio')
    monkeypatch.setattr(other_data, 'usable_cores', lambda: 2)
    found = []
    for few in (100, 1):
        monkeypatch.setattr(other_data, 'FEW', few)
        found.append(other_data.read_folder(str(other), ('high', 'low'), FrontEnd()))
    one, several = found
    assert (one.ids, one.skipped) == (several.ids, several.skipped)
    assert len(one.skipped) == 1
    np.testing.assert_array_equal(one.targets, several.targets)
    for clip in range(6):
        np.testing.assert_array_equal(one.mel(clip), several.mel(clip))


def test_a_run_that_names_no_dataset_needs_data_dir(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (best,) = trained.restore(str(run_folder))
    config = best.meta.config
    nowhere = dataclasses.replace(config, data=dataclasses.replace(config.data, dir=''))
    exported = best._replace(meta=dataclasses.replace(best.meta, config=nowhere))
    monkeypatch.setattr(trained, 'restore', lambda workdir: [exported])
    with pytest.raises(UsageError, match='was exported and does not name its dataset; give --data'):
        evaluate.main(['evaluate', f'--workdir={run_folder}'])


def test_a_folder_of_audio_has_no_splits(run_folder: Path, tmp_path: Path) -> None:
    other = write_other(tmp_path / 'other', {'low': 'low'}, clips=1)
    with pytest.raises(UserError, match=r'split=random-1: .*other has no splits, .*leave out --'):
        scored(run_folder, other, '--data.split=random-1')
    assert scored(run_folder, other, '--data.split=all')['num_clips'] == 1


@pytest.mark.parametrize(
    ('labels', 'words'),
    [
        ({}, 'has no audio in sub-folders'),
        ({'a': 'low', 'b': 'high'}, 'no clip in .* has a label that the run knows: it has a, b'),
    ],
)
def test_data_that_cannot_be_scored_is_refused(
    labels: dict[str, str], words: str, run_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / 'other').mkdir()
    other = write_other(tmp_path / 'other', labels)
    with pytest.raises(UserError, match=words):
        scored(run_folder, other)


# ------------------------------------------------------------------ several labels per clip
def prepare_chords(chords: Path, folder: Path, rename: dict[str, str], *flags: str) -> Path:
    """The chords in another folder, with some of their labels renamed ('' = removed)."""
    shutil.copytree(chords, folder / 'audio')
    table = folder / 'audio/metadata.csv'
    lines = table.read_text().splitlines()
    for k, line in enumerate(lines[1:], 1):
        name, labels = line.split(',')
        renamed = [rename.get(label, label) for label in labels.split('|')]
        lines[k] = f'{name},{"|".join(filter(None, renamed))}'
    table.write_text('\n'.join(lines))
    flags = (f'--out={folder / "data"}', '--num_workers=1', '--keep_unlabelled', *flags)
    data_prep.main(['data_prep', f'--input={folder / "audio"}', *flags])
    return folder / 'data'


@pytest.fixture
def tagging_run(tagged_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tagged_run, tmp_path / 'run'))


def test_labels_of_another_dataset_are_matched_and_those_that_it_lacks_are_not_scored(
    tagging_run: Path, chords: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = prepare_chords(chords, tmp_path, {'high': 'shrill'})
    scores = scored(tagging_run, data, '--data.split=all')
    assert scores['num_clips'] == 40
    assert scores['labels'] == list(scores['per_class']) == ['low', 'middle']
    assert scores['unknown_labels'] == {'shrill': 20}
    assert scores['absent_labels'] == ['high']
    said = capfd.readouterr().err
    assert "the run does not know the label 'shrill' of 20 clips" in said
    assert f"{data} does not have 1 label of the run, left out of the scores: 'high'" in said
    page = next((tagging_run / 'report').glob('*/index.html')).read_text()
    assert 'which the network does not know; only the label is left out' in page
    # The same clips, had they the label: the other labels have the same scores.
    full = scored_in_full(tagging_run, prepare_chords(chords, tmp_path / 'full', {}))
    assert {label: full['per_class'][label] for label in ('low', 'middle')} == scores['per_class']
    areas = [row['roc_auc'] for row in scores['per_class'].values()]
    assert scores['macro_roc_auc'] == pytest.approx(np.mean(areas))


def scored_in_full(run: Path, data: Path) -> dict:
    shutil.rmtree(next(p for p in (run / 'report').iterdir() if p.is_dir()))
    return scored(run, data, '--data.split=all')


def test_a_dataset_with_one_label_per_clip_is_refused_by_a_run_with_several_and_the_reverse(
    tagging_run: Path, tones_run: Path, tones_dataset: Path, tagged_dataset: Path
) -> None:
    words = 'decides any number of labels per clip, but .* has exactly one label per clip'
    with pytest.raises(UserError, match=words):
        scored(tagging_run, tones_dataset)
    words = 'decides exactly one label per clip, but .* has any number of labels per clip'
    with pytest.raises(UserError, match=words):
        scored(tones_run, tagged_dataset)


def test_a_dataset_without_any_label_of_the_run_is_refused(
    tagging_run: Path, chords: Path, tmp_path: Path
) -> None:
    data = prepare_chords(chords, tmp_path, {'high': 'a', 'low': 'b', 'middle': 'c'})
    with pytest.raises(UserError, match='none of the labels that the run knows: it has a, b, c'):
        scored(tagging_run, data)


def test_audio_has_to_be_prepared_for_a_run_with_several_labels(
    tagging_run: Path, chords: Path
) -> None:
    words = r'is not a dataset; .* prepare the folder first, .* metadata\.csv .*--input='
    with pytest.raises(UserError, match=words):
        scored(tagging_run, chords)
