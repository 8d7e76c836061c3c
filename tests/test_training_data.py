"""Data that changed after a run began is noticed, named, and used only when told to."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from glr_jax import evaluate, json_files, train
from glr_jax.config import Config, DataConfig
from glr_jax.data.dataset import open_dataset
from glr_jax.errors import UserError
from glr_jax.run import training_data
from tests.conftest import PAPER, run, write_music

SMALL = [
    *PAPER,
    *('--data.frames=8', '--train.batch_size=8', '--train.epochs=2', '--baselines=false'),
    *('--model.kind=cnn', '--model.kernels=8', '--train.schedule=constant'),
]


def command(workdir: Path, data: Path | str, *flags: str) -> list[str]:
    return ['train', f'--workdir={workdir}', f'--data.dir={data}', *SMALL, *flags]


@pytest.fixture(scope='module')
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `music`, the dataset `data` and a finished `run` on it; to be read only."""
    folder = tmp_path_factory.mktemp('changed') / 'work'
    write_music(folder / 'music')
    run(folder / 'music', folder / 'data')
    train.main(command(folder / 'run', folder / 'data'))
    shutil.rmtree(folder / 'run' / 'report')
    return folder.rename(folder.parent / 'original')


@pytest.fixture
def folder(original: Path) -> Iterator[Path]:
    """A copy at the path where it was made; its run has lost its report."""
    yield Path(shutil.copytree(original, original.parent / 'work'))
    shutil.rmtree(original.parent / 'work')


def prepare_again(folder: Path) -> None:
    shutil.rmtree(folder / 'data')
    run(folder / 'music', folder / 'data')


def remove_clips(folder: Path) -> None:
    for name in ('hum/0.wav', 'rain/1.wav'):
        (folder / 'music' / name).unlink()
    prepare_again(folder)


def add_a_clip(folder: Path) -> None:
    shutil.copy(folder / 'music/hum/0.wav', folder / 'music/hum/0 copy.wav')
    noise = np.random.default_rng(9).standard_normal(4000)
    soundfile.write(folder / 'music/hum/0 copy.wav', 0.1 * noise, 22050)
    prepare_again(folder)


def replace_a_clip(folder: Path) -> None:
    noise = np.random.default_rng(9).standard_normal(4000)
    soundfile.write(folder / 'music/hum/0.wav', 0.1 * noise, 22050)
    prepare_again(folder)


def move_a_clip(folder: Path) -> None:
    path = folder / 'data' / 'splits.csv'
    lines = path.read_text().splitlines()
    column = lines[0].split(',').index('random-1')
    row = next(k for k, line in enumerate(lines) if line.split(',')[column] == 'test')
    cells = lines[row].split(',')
    cells[column] = 'train'
    lines[row] = ','.join(cells)
    path.write_text('\n'.join(lines) + '\n')


CHANGES = [
    (remove_clips, r'2 clips removed'),
    (add_a_clip, r'1 clip added'),
    (replace_a_clip, r'1 clip with other content'),
    (move_a_clip, r'1 clip moved to another side'),
]


@pytest.mark.parametrize(('change', 'words'), CHANGES)
def test_a_run_stops_on_changed_data_and_says_what_changed(
    change: Callable[[Path], None], words: str, folder: Path
) -> None:
    change(folder)
    with pytest.raises(UserError, match=f'changed since .*{words}.*--allow_changed_data'):
        train.main(command(folder / 'run', folder / 'data'))
    with pytest.raises(UserError, match=f'changed since .*{words}.*--allow_changed_data'):
        evaluate.main(['evaluate', f'--workdir={folder / "run"}', f'--data.dir={folder}/data'])


def test_a_run_on_changed_data_says_so_in_its_report_and_counts_what_it_saw(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    seen = {row[0] for row in training_data.read(str(folder / 'run')).trained()}  # type: ignore[union-attr]
    remove_clips(folder)
    flags = command(folder / 'run', folder / 'data', '--allow_changed_data')
    train.main(flags)
    scores = json.loads((folder / 'run/report/metrics.json').read_text())
    assert len(scores['changed_data']) == 1
    assert '2 clips removed' in scores['changed_data'][0]
    assert '2 clips removed' in (folder / 'run/report/index.html').read_text()
    data = open_dataset(str(folder / 'data'))
    test = [data.ids[clip] for clip in data.members('random-1', 'test')]
    assert scores['trained_on'] == len(seen.intersection(test))
    capfd.readouterr()
    evaluate.main(['evaluate', f'--workdir={folder / "run"}', f'--data.dir={folder}/data'])
    assert '2 clips removed' in capfd.readouterr().out


def test_unchanged_data_prepared_again_is_the_same_data(folder: Path) -> None:
    prepare_again(folder)
    train.main(command(folder / 'run', folder / 'data'))
    assert 'changed_data' not in json.loads((folder / 'run/report/metrics.json').read_text())


def test_a_lost_or_damaged_data_file_is_written_again(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = folder / 'run' / 'data.json'
    before = path.read_text()
    for damage in (path.unlink, lambda: path.write_text(''), lambda: path.write_text('{"a": 1}')):
        damage()
        lost = not path.exists()
        capfd.readouterr()
        train.main(command(folder / 'run', folder / 'data'))
        assert capfd.readouterr().err.count('data.json is damaged, so clips') == (not lost)
        assert path.read_text() == before
        shutil.rmtree(folder / 'run' / 'report')
    path.unlink()
    remove_clips(folder)
    with pytest.raises(UserError, match='clips, labels, sides or contents differ'):
        train.main(command(folder / 'run', folder / 'data'))


@pytest.mark.parametrize('spelling', ['{}/', '{}/../data', '{}/.', 'relative'])
def test_a_folder_may_be_spelled_in_any_way(
    spelling: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    data = './data' if spelling == 'relative' else spelling.format(folder / 'data')
    train.main(command(folder / 'run', data))
    evaluate.main(['evaluate', f'--workdir={folder / "run"}', f'--data.dir={data}'])
    assert os.listdir(folder / 'run' / 'report')
    assert not (folder / 'run' / 'report' / 'random-1').exists()


def test_clips_are_recognised_in_another_folder(folder: Path) -> None:
    (folder / 'data').rename(folder / 'moved')
    dataset = open_dataset(str(folder / 'moved'))
    config = Config(workdir=str(folder / 'run'), data=DataConfig(dir=str(folder / 'data')))
    train_clips = dataset.members('random-1', 'train')
    test_clips = dataset.members('random-1', 'test')
    assert training_data.trained_on(dataset, train_clips, [config]) == len(train_clips)
    assert training_data.trained_on(dataset, test_clips, [config]) == 0


def test_clips_are_recognised_in_a_dataset_with_other_labels_and_names(folder: Path) -> None:
    before = open_dataset(str(folder / 'data'))
    trained = {before.ids[clip] for clip in before.members('random-1', 'train')}
    config = Config(workdir=str(folder / 'run'), data=DataConfig(dir=str(folder / 'data')))
    (folder / 'music/hum').rename(folder / 'music/drone')  # all labels have other numbers
    replaced = next(id for id in sorted(trained) if id.startswith('rain'))
    noise = np.random.default_rng(9).standard_normal(4000)
    soundfile.write(folder / 'music' / replaced, 0.1 * noise, 22050)
    dataset = open_dataset(str(run(folder / 'music', folder / 'other')))
    clips = np.arange(len(dataset))

    def ids(which: np.ndarray) -> set[str]:
        return {dataset.ids[clip].replace('drone', 'hum') for clip in clips[which]}

    assert trained < ids(clips >= 0)
    # The table of the dataset and the spectrograms themselves say the same.
    for _ in range(2):
        seen = training_data.seen_by_any(dataset, clips, [config])
        assert ids(seen.trained) == trained - {replaced}
        assert ids(seen.namesakes) == {replaced}
        assert not seen.by_name.any()
        (folder / 'other/sources.csv').unlink(missing_ok=True)

    # An older version did not note spectrograms, so the same name counts.
    path = folder / 'run/data.json'
    values = json.loads(path.read_text())
    del values['spectrograms'], values[json_files.CHECKSUM]
    path.write_text(json.dumps(json_files.sealed(values)))
    seen = training_data.seen_by_any(dataset, clips, [config])
    assert ids(seen.trained) == {id for id in trained if not id.startswith('hum')}
    assert replaced in ids(seen.by_name)
    assert not seen.namesakes.any()
    data = training_data.clips_of(before, 'random-1')
    training_data.check(str(folder / 'run'), before, data, data.digest)  # as a resume does
    noted = training_data.read(str(folder / 'run'))
    assert noted is not None
    assert len(noted.spectrograms) == len(before)
    assert all(noted.spectrograms)


def test_changes_are_counted_by_kind() -> None:
    old = training_data.Clips([['a', 'x', 'train', 1], ['b', 'x', 'test', 2]], 'old')
    new = training_data.Clips([['b', 'y', 'train', 3], ['c', 'x', 'test', 1]], 'new')
    assert training_data.changes(old, new) == (
        '1 clip added, 1 clip removed, 1 clip with another label, 1 clip moved to another side, '
        '1 clip with other content'
    )
    reordered = training_data.Clips(old.rows[::-1], 'other')
    assert training_data.changes(old, reordered) == 'the clips are in another order'
    assert training_data.changes(old, old) == ''
