import dataclasses
import functools
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import tensorflow_datasets as tfds

from data_prep import records, sources
from data_prep.__main__ import Preparation, main
from data_prep.mel import FrontEnd, encode, log_mel, mel_of_file
from data_prep.pipeline import prepare
from data_prep.tfrecord import RecordFile
from glr_jax.cli import UserError
from glr_jax.dataset import open_dataset

ROOT = pathlib.Path(__file__).parents[1]
RANDOM = ['random-1', 'random-2', 'random-3']


def write_music(folder: pathlib.Path) -> pathlib.Path:
    """Eight clips of noise in each of three labels, every one of another length."""
    rng = np.random.default_rng(0)
    for label in ('hiss', 'hum', 'rain'):
        (folder / label).mkdir(parents=True)
        for k in range(8):
            noise = 0.1 * rng.standard_normal(3000 + 512 * rng.integers(8))
            soundfile.write(folder / label / f'{k}.wav', noise, 22050)
    return folder


def run(music: pathlib.Path, out: pathlib.Path, *flags: str) -> pathlib.Path:
    command = ['data_prep', f'--input={music}', f'--out={out}', '--clips_per_shard=5']
    main([*command, '--num_workers=1', *flags])
    return out


def shell(*args: str, **environment: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join([environment.pop('first', ''), str(ROOT)])
    environment = os.environ | environment | {'PYTHONPATH': path}
    command = [sys.executable, *args]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)


def hashes(folder: pathlib.Path) -> dict[str, str]:
    files = [path for path in folder.rglob('*') if path.is_file()]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@pytest.fixture(scope='module')
def music(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return write_music(tmp_path_factory.mktemp('music'))


@pytest.fixture(scope='module')
def prepared(music: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Made once, to be read only."""
    return run(music, tmp_path_factory.mktemp('data') / 'set')


@pytest.fixture
def mine(prepared: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """A copy to damage."""
    return pathlib.Path(shutil.copytree(prepared, tmp_path / 'mine'))


# ---------------------------------------------------------------- the dataset folder
def test_tfds_opens_the_folder_and_its_features_decode_every_record(
    music: pathlib.Path, prepared: pathlib.Path
) -> None:
    info = tfds.builder_from_directory(str(prepared)).info
    assert info.splits['all'].num_examples == 24
    assert info.splits['all'].shard_lengths == [5, 5, 5, 5, 4]
    files = [RecordFile(os.fspath(path)) for path in info.splits['all'].filepaths]
    examples = [info.features.deserialize_example_np(data) for file in files for data in file]
    ids = [f'{label}/{k}.wav' for label in ('hiss', 'hum', 'rain') for k in range(8)]
    assert [example['id'].decode() for example in examples] == ids
    for id, example in zip(ids, examples, strict=True):
        assert info.features['label'].int2str(example['label']) == id.split('/')[0]
        assert example['group'] == b''
        np.testing.assert_array_equal(example['mel'], mel_of_file(str(music / id), FrontEnd()))


def test_neither_writing_nor_reading_imports_tensorflow(
    music: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / 'tensorflow.py').write_text('raise SystemExit("tensorflow was imported")')
    program = (
        'import data_prep.__main__ as prep, glr_jax.dataset\n'
        f'prep.main(["", "--input={music}", "--out={tmp_path}/out", "--num_workers=1"])\n'
        f'print(glr_jax.dataset.open_dataset("{tmp_path}/out").mel(0).shape[1], "bands")\n'
    )
    assert 'was imported' in shell('-c', 'import tensorflow', first=str(tmp_path)).stderr
    done = shell('-c', program, first=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith('128 bands\n')


def test_splits_csv_has_a_row_a_record_and_a_column_a_protocol(prepared: pathlib.Path) -> None:
    rows = records.read_table(str(prepared / 'splits.csv'))
    assert list(rows[0]) == ['id', 'label', 'group', *RANDOM]
    assert [row['id'] for row in rows] == list(open_dataset(str(prepared)).ids)
    assert [row['label'] for row in rows] == [row['id'].split('/')[0] for row in rows]
    assert all(row[name] in ('train', 'validation', 'test') for row in rows for name in RANDOM)


def test_nothing_but_the_dataset_is_left_in_the_folder(prepared: pathlib.Path) -> None:
    shards = {f'clips-all.tfrecord-{k:05}-of-00005' for k in range(5)}
    tables = {'splits.csv', 'skipped.csv', 'front_end.json'}
    metadata = {'dataset_info.json', 'features.json', 'label.labels.txt'}
    assert set(os.listdir(prepared)) == shards | tables | metadata


def test_the_command_prints_the_clips_of_every_label(
    music: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture
) -> None:
    run(music, tmp_path / 'out')
    *labels, total = capsys.readouterr().out.splitlines()
    assert [line.split() for line in labels] == [['hiss', '8'], ['hum', '8'], ['rain', '8']]
    assert total.startswith(f'24 clips in {tmp_path}/out, 0 skipped')


def test_flags_of_the_front_end_reach_the_mels_and_stay_with_them(
    music: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    run(music, tmp_path / 'out', '--htk', '--n_mels=40', '--mel_dtype=float32', '--n_fft=1024')
    front_end = FrontEnd(htk=True, n_mels=40, mel_dtype='float32', n_fft=1024)
    dataset = open_dataset(str(tmp_path / 'out'))
    assert (dataset.front_end, dataset.from_audio, dataset.n_mels) == (front_end, True, 40)
    np.testing.assert_array_equal(dataset.mel(9), mel_of_file(f'{music}/hum/1.wav', front_end))


def test_arrays_keep_their_bands_groups_and_official_split(tmp_path: pathlib.Path) -> None:
    mel = np.random.default_rng(0).integers(0, 256, (60, 9, 20), np.uint8)
    label, group = np.array(['a', 'b'] * 30), np.array([f'artist {k // 3}' for k in range(60)])
    split = np.array((['training'] * 4 + ['validation']) * 12)
    id = np.array([f'{k:02}' for k in range(60)])
    np.savez(tmp_path / 'x.npz', mel=mel, label=label, id=id, group=group, split=split)
    out = run(tmp_path / 'x.npz', tmp_path / 'out', '--source=arrays')
    dataset = open_dataset(str(out))
    assert list(dataset.protocols) == [*RANDOM, 'group-1', 'group-2', 'group-3', 'official']
    assert (dataset.from_audio, dataset.n_mels) == (False, 20)
    assert dataset.members('official', 'validation').tolist() == list(range(4, 60, 5))
    np.testing.assert_array_equal([dataset.mel(k) for k in range(60)], mel)


def test_one_worker_and_two_write_the_same_bytes(
    music: pathlib.Path, prepared: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    assert hashes(run(music, tmp_path / 'out', '--num_workers=2')) == hashes(prepared)


def test_the_order_of_the_clips_does_not_matter(
    music: pathlib.Path, prepared: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    clips = sources.folder_clips(str(music))[::-1]
    prepare(clips, str(tmp_path / 'out'), FrontEnd(), n_mels=128, clips_per_shard=5)
    assert hashes(tmp_path / 'out') == hashes(prepared)


# ---------------------------------------------------------------- clips that fail
def test_a_corrupt_clip_is_skipped_with_its_reason_and_the_rest_is_complete(
    tmp_path: pathlib.Path,
) -> None:
    broken = write_music(tmp_path / 'music') / 'hum' / 'broken.wav'
    broken.write_text('no music')
    out = str(run(tmp_path / 'music', tmp_path / 'out'))
    (row,) = records.read_table(f'{out}/skipped.csv')
    assert (row['id'], row['path']) == ('hum/broken.wav', str(broken))
    assert 'cannot be read' in row['reason']
    dataset = open_dataset(out)
    assert len(dataset) == 24
    assert 'hum/broken.wav' not in dataset.ids
    assert [dataset.mel(k).shape[1] for k in range(24)] == [128] * 24


def test_a_shard_whose_only_clip_is_skipped_leaves_the_others_in_place(
    tmp_path: pathlib.Path,
) -> None:
    music = write_music(tmp_path / 'music')
    (music / 'hum' / '00.wav').write_text('no music')
    out = run(music, tmp_path / 'out', '--clips_per_shard=1')
    dataset = open_dataset(str(out))
    for k in range(24):
        expected = mel_of_file(str(music / dataset.ids[k]), FrontEnd())
        np.testing.assert_array_equal(dataset.mel(k), expected)


def test_too_many_skipped_clips_fail_the_run(tmp_path: pathlib.Path) -> None:
    music = write_music(tmp_path / 'music')
    for k in range(2):
        (music / 'hum' / f'{k}.wav').write_text('no music')
    with pytest.raises(UserError, match=r'2 of 24 .* --max_skipped=0\.05.*0\.wav.*cannot be read'):
        run(music, tmp_path / 'out')
    assert len(records.read_table(str(tmp_path / 'out/skipped.csv'))) == 2
    with pytest.raises(UserError, match='not a finished dataset'):
        open_dataset(str(tmp_path / 'out'))
    run(music, tmp_path / 'out', '--max_skipped=0.1')
    assert len(open_dataset(str(tmp_path / 'out'))) == 22


# ---------------------------------------------------------------- interruptions
def interrupt(music: pathlib.Path, out: pathlib.Path) -> dict[str, int]:
    """Breaks off in the third shard of five; returns when the finished ones were written."""

    def fail(front_end: FrontEnd) -> np.ndarray:
        raise RuntimeError('out of power')

    clips = sources.folder_clips(str(music))
    clips[12] = dataclasses.replace(clips[12], mel=fail)
    with pytest.raises(RuntimeError, match='out of power'):
        prepare(clips, str(out), FrontEnd(), n_mels=128, clips_per_shard=5)
    return {path.name: path.stat().st_mtime_ns for path in out.glob('clips-*')}


def test_an_interrupted_run_is_finished_without_redoing_its_shards(
    music: pathlib.Path, prepared: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    finished = interrupt(music, tmp_path / 'out')
    assert len(finished) == 2
    with pytest.raises(UserError, match='not a finished dataset'):
        open_dataset(str(tmp_path / 'out'))
    run(music, tmp_path / 'out')
    for name, time in finished.items():
        assert (tmp_path / 'out' / name).stat().st_mtime_ns == time
    assert hashes(tmp_path / 'out') == hashes(prepared)


def test_a_shard_that_went_missing_is_written_again(
    music: pathlib.Path, prepared: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    finished = interrupt(music, tmp_path / 'out')
    (tmp_path / 'out' / min(finished)).unlink()
    run(music, tmp_path / 'out')
    assert hashes(tmp_path / 'out') == hashes(prepared)


def test_a_clip_that_changed_since_the_interruption_is_read_again(tmp_path: pathlib.Path) -> None:
    music = write_music(tmp_path / 'music')
    interrupt(music, tmp_path / 'out')
    soundfile.write(music / 'hiss/0.wav', np.sin(np.arange(9000)), 22050)
    dataset = open_dataset(str(run(music, tmp_path / 'out')))
    expected = mel_of_file(str(music / 'hiss/0.wav'), FrontEnd())
    np.testing.assert_array_equal(dataset.mel(0), expected)


def test_other_flags_after_an_interruption_make_another_dataset(
    music: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    interrupt(music, tmp_path / 'out')
    dataset = open_dataset(str(run(music, tmp_path / 'out', '--htk')))
    expected = mel_of_file(str(music / 'hiss/0.wav'), FrontEnd(htk=True))
    np.testing.assert_array_equal(dataset.mel(0), expected)


def test_a_second_run_replaces_the_first(music: pathlib.Path, mine: pathlib.Path) -> None:
    run(music, mine, '--clips_per_shard=12')
    assert len(list(mine.glob('clips-*'))) == 2
    assert len(open_dataset(str(mine))) == 24


# ---------------------------------------------------------------- refusals
def test_two_clips_of_one_id_are_refused(tmp_path: pathlib.Path) -> None:
    mel = functools.partial(np.zeros, (4, 128))
    clips = [sources.Clip('same', 'rock', mel, path) for path in ('one.wav', 'two.wav')]
    with pytest.raises(UserError, match=r"'same'.*one\.wav.*two\.wav"):
        prepare(clips, str(tmp_path / 'out'), FrontEnd(), n_mels=128)


def test_a_folder_that_holds_something_else_is_refused_untouched(
    music: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / 'letter.txt').write_text('dear')
    with pytest.raises(UserError, match=re.escape(f'{tmp_path} is there')):
        run(music, tmp_path)
    assert os.listdir(tmp_path) == ['letter.txt']


def test_an_empty_folder_is_written_into(music: pathlib.Path, tmp_path: pathlib.Path) -> None:
    assert len(open_dataset(str(run(music, tmp_path)))) == 24


@pytest.mark.parametrize(
    ('args', 'exit_code', 'words'),
    [
        (['--out=x', '--sorce=folder'], 2, 'sorce'),
        (['--input=.'], 2, '--out'),
        (['--out=x', '--input=missing'], 1, 'missing is not a folder'),
        (['--out=x', '--input=EMPTY'], 1, 'no sub-folders'),
    ],
)
def test_a_mistake_is_one_line_on_stderr(
    tmp_path: pathlib.Path, args: list[str], exit_code: int, words: str
) -> None:
    args = [arg.replace('EMPTY', str(tmp_path)) for arg in args]
    done = shell('-m', 'data_prep', *args)
    assert (done.returncode, done.stdout) == (exit_code, '')
    (line,) = done.stderr.splitlines()
    assert line.startswith('data_prep: ')
    assert words in line


@pytest.mark.parametrize(
    ('flag', 'words'),
    [
        ('--source=cd', 'folder'),
        ('--num_workers=-1', 'num_workers'),
        ('--clips_per_shard=0', 'clips_per_shard'),
        ('--hop_length=ten', 'hop_length'),
        ('--flagfile=missing.flags', r'missing\.flags'),
        ('music', '--input'),
    ],
)
def test_a_flag_out_of_range_is_a_mistake_of_usage(flag: str, words: str) -> None:
    with pytest.raises(UserError, match=words) as failure:
        main(['data_prep', '--out=x', flag])
    assert failure.value.exit_code == 2


def test_help_prints_every_flag(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as end:
        main(['data_prep', '--help'])
    assert not end.value.code
    fields = [*dataclasses.fields(Preparation), *dataclasses.fields(FrontEnd)]
    names = {field.name for field in fields} - {'front_end'}
    assert set(re.findall(r'^  --(\w+)', capsys.readouterr().out, re.M)) == names | {'flagfile'}


# ---------------------------------------------------------------- glr_jax.dataset
def test_a_clip_is_what_was_prepared_in_any_order(
    music: pathlib.Path, prepared: pathlib.Path
) -> None:
    dataset = open_dataset(str(prepared))
    assert dataset.labels == ('hiss', 'hum', 'rain')
    assert dataset.targets.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    for k in np.random.default_rng(0).permutation(24):
        expected = mel_of_file(str(music / dataset.ids[k]), FrontEnd())
        np.testing.assert_array_equal(dataset.mel(k), expected)


def test_the_sides_of_a_protocol_share_out_the_clips(prepared: pathlib.Path) -> None:
    dataset = open_dataset(str(prepared))
    sides = [dataset.members('random-2', side) for side in ('train', 'validation', 'test')]
    assert [len(side) for side in sides] == [18, 3, 3]
    assert sorted(np.concatenate(sides)) == list(range(24))
    assert sorted(dataset.targets[sides[2]]) == [0, 1, 2]
    assert dataset.held_out('random-2') == 'test'


def edit(folder: pathlib.Path, change) -> str:
    """Rewrites splits.csv."""
    path = str(folder / 'splits.csv')
    rows = change(records.read_table(path))
    records.write_table(path, list(rows[0]), [list(row.values()) for row in rows])
    return str(folder)


def test_validation_is_held_out_where_there_is_no_test(mine: pathlib.Path) -> None:
    sides = ['train', 'validation', ''] * 8
    edit(mine, lambda rows: [r | {'own': s} for r, s in zip(rows, sides, strict=True)])
    dataset = open_dataset(str(mine))
    assert dataset.held_out('own') == 'validation'
    assert dataset.members('own', 'validation').tolist() == list(range(1, 24, 3))


def test_an_unknown_protocol_is_answered_by_those_there_are(prepared: pathlib.Path) -> None:
    with pytest.raises(UserError, match='random-9.* random-1, random-2, random-3'):
        open_dataset(str(prepared)).members('random-9', 'train')


def test_a_missing_dataset_is_answered_by_the_command_that_makes_it() -> None:
    with pytest.raises(UserError, match='no/where is not there.*data_prep --out=no/where'):
        open_dataset('no/where')


def test_swapped_rows_are_refused(mine: pathlib.Path) -> None:
    dataset = open_dataset(edit(mine, lambda rows: [rows[1], rows[0], *rows[2:]]))
    with pytest.raises(UserError, match=r'splits\.csv does not match .*hiss/1\.wav.*hiss/0\.wav'):
        dataset.mel(0)


def test_a_missing_row_is_refused(mine: pathlib.Path) -> None:
    with pytest.raises(UserError, match='24 records, but 23 rows'):
        open_dataset(edit(mine, lambda rows: rows[:-1]))


def test_a_corrupt_record_is_refused_by_its_file(mine: pathlib.Path) -> None:
    shard = sorted(mine.glob('clips-*'))[1]
    content = bytearray(shard.read_bytes())
    content[100] ^= 4
    shard.write_bytes(content)
    dataset = open_dataset(str(mine))
    assert dataset.mel(4).shape[1] == 128
    with pytest.raises(UserError, match=re.escape(str(shard))):
        dataset.mel(5)


@pytest.mark.parametrize('damage', [lambda p: p.unlink(), lambda p: os.truncate(p, 99)])
def test_a_missing_or_truncated_shard_is_refused_by_its_file(mine: pathlib.Path, damage) -> None:
    shard = sorted(mine.glob('clips-*'))[1]
    damage(shard)
    with pytest.raises(UserError, match=re.escape(str(shard))):
        open_dataset(str(mine))
