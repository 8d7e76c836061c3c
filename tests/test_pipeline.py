import dataclasses
import hashlib
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tensorflow_datasets as tfds

from data_prep import sources
from data_prep.__main__ import Preparation, main
from data_prep.arrays import arrays_clips
from data_prep.pipeline import prepare
from glr_jax.data.dataset import Dataset, open_dataset
from glr_jax.data.mel import FrontEnd, mel_of_file
from glr_jax.data.tables import read_table
from glr_jax.data.tfrecord import RecordFile
from glr_jax.errors import UsageError, UserError
from tests.conftest import IDS, LABELS, RANDOM, run, write_music


def hashes(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob('*')) if path.is_file()]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def check_mels(dataset: Dataset, music: Path, **options: object) -> None:
    for clip, id in enumerate(dataset.ids):
        expected = mel_of_file(str(music / id), FrontEnd(**options))  # type: ignore[arg-type]
        np.testing.assert_array_equal(dataset.mel(clip), expected)


# ---------------------------------------------------------------- the dataset folder
def test_tfds_opens_the_folder_and_decodes_every_record(music: Path, prepared: Path) -> None:
    info = tfds.builder_from_directory(str(prepared)).info
    assert info.splits['clips'].shard_lengths == [5, 5, 5, 5, 4]
    assert info.splits['all'].num_examples == 24  # TFDS could not find a split of that name
    files = [RecordFile(os.fspath(path)) for path in info.splits['clips'].filepaths]
    for id, data in zip(IDS, itertools.chain(*files), strict=True):
        example = info.features.deserialize_example_np(data)
        mel = mel_of_file(str(music / id), FrontEnd())
        assert example['id'].decode() == id
        assert info.features['label'].int2str(example['label']) == id.split('/')[0]
        assert example['group'] == b''
        np.testing.assert_array_equal(example['mel'], mel)
        assert mel.tobytes() in data  # raw bytes: varints are decoded far more slowly


def test_splits_csv_has_a_row_per_record_and_a_column_per_split(prepared: Path) -> None:
    rows = read_table(str(prepared / 'splits.csv')).rows
    assert list(rows[0]) == ['id', 'label', 'group', *RANDOM]
    assert [row['id'] for row in rows] == IDS
    assert [row['label'] for row in rows] == [id.split('/')[0] for id in IDS]
    for name in RANDOM:
        assert {row[name] for row in rows} == {'train', 'validation', 'test'}


def test_nothing_but_the_dataset_is_left_in_the_folder(prepared: Path) -> None:
    shards = {f'music-clips.tfrecord-{k:05}-of-00005' for k in range(5)}
    tables = {'splits.csv', 'skipped.csv', 'sources.csv', 'front_end.json'}
    metadata = {'dataset_info.json', 'features.json', 'label.labels.txt'}
    assert set(os.listdir(prepared)) == shards | tables | metadata


def test_the_command_prints_the_number_of_clips_per_label(
    music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(music, tmp_path / 'out')
    *labels, total = capsys.readouterr().out.splitlines()
    assert [line.split() for line in labels] == [[label, '8'] for label in LABELS]
    assert total.startswith(f'24 clips in {tmp_path}/out, 0 skipped')


def test_front_end_flags_are_applied_and_stored(music: Path, tmp_path: Path) -> None:
    run(music, tmp_path / 'out', '--htk', '--n_mels=40', '--mel_dtype=float32')
    dataset = open_dataset(str(tmp_path / 'out'))
    assert dataset.front_end == FrontEnd(htk=True, n_mels=40, mel_dtype='float32')
    assert (dataset.from_audio, dataset.n_mels) == (True, 40)
    check_mels(dataset, music, htk=True, n_mels=40, mel_dtype='float32')


def test_arrays_keep_their_bands_groups_and_official_split(tmp_path: Path) -> None:
    arrays = {
        'mel': np.random.default_rng(0).integers(0, 256, (60, 9, 20), np.uint8),
        'label': np.array(['a', 'b'] * 30),
        'id': np.array([f'{k:02}' for k in range(60)]),
        'group': np.array([f'artist {k // 3}' for k in range(60)]),
        'split': np.array((['training'] * 4 + ['validation']) * 12),
    }
    np.savez(tmp_path / 'x.npz', **arrays)  # type: ignore[arg-type]
    dataset = open_dataset(str(run(tmp_path / 'x.npz', tmp_path / 'out', '--source=arrays')))
    assert list(dataset.splits) == [*RANDOM, 'group-1', 'group-2', 'group-3', 'official']
    assert (dataset.from_audio, dataset.n_mels) == (False, 20)
    assert dataset.members('official', 'validation').tolist() == list(range(4, 60, 5))
    assert dataset.held_out('official') == 'validation'
    np.testing.assert_array_equal([dataset.mel(k) for k in range(60)], arrays['mel'])


def test_one_worker_and_two_write_the_same_bytes(
    music: Path, prepared: Path, tmp_path: Path
) -> None:
    assert hashes(run(music, tmp_path / 'out', '--num_workers=2')) == hashes(prepared)


def test_the_order_of_the_clips_does_not_matter(
    music: Path, prepared: Path, tmp_path: Path
) -> None:
    clips = sources.folder_clips(str(music))[::-1]
    prepare(clips, str(tmp_path / 'out'), FrontEnd(), clips_per_shard=5)
    assert hashes(tmp_path / 'out') == hashes(prepared)


# ---------------------------------------------------------------- clips that fail
@pytest.mark.parametrize('clips_per_shard', [5, 1])
def test_a_corrupt_clip_is_skipped_with_a_reason_and_the_others_are_kept(
    tmp_path: Path, clips_per_shard: int
) -> None:
    music = write_music(tmp_path / 'music')
    (music / 'hum/broken.wav').write_text('no music')
    out = run(music, tmp_path / 'out', f'--clips_per_shard={clips_per_shard}')
    (row,) = read_table(str(out / 'skipped.csv')).rows
    assert (row['id'], row['path']) == ('hum/broken.wav', str(music / 'hum/broken.wav'))
    assert 'cannot be decoded' in row['reason']
    dataset = open_dataset(str(out))
    assert dataset.ids == IDS
    check_mels(dataset, music)


def test_too_many_skipped_clips_fail_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    music = write_music(tmp_path / 'music')
    for k in range(2):
        (music / f'hum/{k}.wav').write_text('no music')
    with pytest.raises(
        UserError, match=r'2 of 24 clips .* --max_skipped=0\.05; see .*skipped\.csv'
    ):
        run(music, tmp_path / 'out')
    assert 'hum/0.wav and 1 other: cannot be decoded as audio' in capsys.readouterr().err
    assert len(read_table(str(tmp_path / 'out/skipped.csv')).rows) == 2
    with pytest.raises(UserError, match='not a finished dataset'):
        open_dataset(str(tmp_path / 'out'))
    assert len(open_dataset(str(run(music, tmp_path / 'out', '--max_skipped=0.1')))) == 22


# ---------------------------------------------------------------- interruptions
def interrupt(music: Path, out: Path) -> dict[Path, int]:
    """Fails in the third of five shards; returns when each finished one was written."""

    def fail(front_end: FrontEnd) -> np.ndarray:
        raise RuntimeError('power cut')

    clips = sources.folder_clips(str(music))
    clips[12] = dataclasses.replace(clips[12], mel=fail)
    with pytest.raises(RuntimeError, match='power cut'):
        prepare(clips, str(out), FrontEnd(), clips_per_shard=5)
    return {path: path.stat().st_mtime_ns for path in sorted(out.glob('music-*'))}


def test_an_interrupted_dataset_cannot_be_opened(music: Path, tmp_path: Path) -> None:
    interrupt(music, tmp_path / 'out')
    words = 'not a finished dataset; run its data_prep command again to finish it$'
    with pytest.raises(UserError, match=words):
        open_dataset(str(tmp_path / 'out'))


def test_an_interrupted_dataset_is_finished_without_rewriting_its_shards(
    music: Path, prepared: Path, tmp_path: Path
) -> None:
    finished = interrupt(music, tmp_path / 'out')
    assert len(finished) == 2
    run(music, tmp_path / 'out')
    assert {path: path.stat().st_mtime_ns for path in finished} == finished
    assert hashes(tmp_path / 'out') == hashes(prepared)


def test_a_missing_shard_is_written_again(music: Path, prepared: Path, tmp_path: Path) -> None:
    min(interrupt(music, tmp_path / 'out')).unlink()
    assert hashes(run(music, tmp_path / 'out')) == hashes(prepared)


def test_leftovers_of_a_kill_are_removed(music: Path, prepared: Path, tmp_path: Path) -> None:
    interrupt(music, tmp_path / 'out')
    for name in ('splits.csv', 'front_end.json', 'music-clips.tfrecord-00002-of-00005'):
        (tmp_path / 'out' / f'{name}.partial-99').write_text('half')
    assert hashes(run(music, tmp_path / 'out')) == hashes(prepared)


def test_a_clip_that_changed_since_the_interruption_is_read_again(tmp_path: Path) -> None:
    music = write_music(tmp_path / 'music')
    interrupt(music, tmp_path / 'out')
    soundfile.write(music / 'hiss/0.wav', np.sin(np.arange(9000)), 22050)
    check_mels(open_dataset(str(run(music, tmp_path / 'out'))), music)


def test_other_flags_after_an_interruption_make_another_dataset(
    music: Path, tmp_path: Path
) -> None:
    interrupt(music, tmp_path / 'out')
    check_mels(open_dataset(str(run(music, tmp_path / 'out', '--htk'))), music, htk=True)


def test_the_same_command_with_other_flags_replaces_the_dataset_if_told_to(
    music: Path, tmp_path: Path
) -> None:
    run(music, tmp_path / 'out')
    run(music, tmp_path / 'out', '--clips_per_shard=12', '--overwrite')
    assert len(list((tmp_path / 'out').glob('music-*'))) == 2
    check_mels(open_dataset(str(tmp_path / 'out')), music)


# ---------------------------------------------------------------- errors
def test_two_clips_with_one_id_are_refused(tmp_path: Path) -> None:
    clips = [sources.Clip('same', 'rock', np.zeros, path) for path in ('one.wav', 'two.wav')]
    with pytest.raises(UserError, match=r"'same'.*one\.wav.*two\.wav"):
        prepare(clips, str(tmp_path / 'out'), FrontEnd())


def test_a_folder_with_other_files_is_left_alone(music: Path, tmp_path: Path) -> None:
    (tmp_path / 'letter.txt').write_text('dear')
    with pytest.raises(
        UserError, match=re.escape(f'{tmp_path} exists and was not created by data_prep')
    ):
        run(music, tmp_path)
    assert os.listdir(tmp_path) == ['letter.txt']


@pytest.mark.parametrize(
    ('arguments', 'code', 'words'),
    [(['--sorce=folder'], 2, 'sorce'), (['--input=no/such'], 1, 'no/such is not a folder')],
)
def test_an_error_is_one_line_and_an_exit_code(
    tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    done = subprocess.run(
        [sys.executable, '-m', 'data_prep', f'--out={tmp_path}/out', *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (code, ''), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith('data_prep: ')
    assert words in line


@pytest.mark.parametrize(
    ('arguments', 'code', 'words'),
    [(['--input=.'], 2, '--out'), (['--out=x', '--input={tmp}'], 1, 'no sub-folders')],
)
def test_an_error_has_an_exit_code(
    tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    with pytest.raises(UserError, match=words) as failure:
        main(['data_prep', *(argument.format(tmp=tmp_path) for argument in arguments)])
    assert failure.value.exit_code == code
    assert '\n' not in str(failure.value)


@pytest.mark.parametrize(
    'flag',
    [
        *('--source=cd', '--num_workers=-1', '--hop_length=ten', 'music', '--ref=-1'),
        *('--max_skipped=nan', '--max_skipped=1.1', '--max_skipped=-0.1', '--clips_per_shard=0'),
        *('--sample_rate=0', '--sample_rate=800000', '--top_db=0', '--top_db=500', '--n_fft=1'),
    ],
)
def test_a_bad_flag_is_a_usage_error(flag: str) -> None:
    with pytest.raises(UserError, match=flag) as failure:
        main(['data_prep', '--out=x', flag])
    assert failure.value.exit_code == 2


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (['--source=gtzan', '--input=x', '--subset=full'], '--subset=full needs --source=fma'),
        (['--source=demo', '--input=x'], '--source=demo reads nothing; leave out --input'),
        (['--input=x', '--beam_options=--a'], '--beam_options needs --runner=beam'),
        (['--input=x', '--runner=beam', '--num_workers=2'], '--num_workers is for --runner=pool'),
        *(
            ([f'--source={source}'], '--input is required')
            for source in ('folder', 'gtzan', 'fma', 'mtg_jamendo', 'mtat', 'arrays')
        ),
    ],
)
def test_flags_that_do_not_go_together_are_a_usage_error(
    tmp_path: Path, flags: list[str], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        main(['data_prep', f'--out={tmp_path / "out"}', *flags])
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('command', ['data_prep', 'data_prep.inspect'])
def test_help_does_not_wait_for_heavy_imports(command: str) -> None:
    code = (
        'import runpy, sys; sys.argv = ["x", "--help"]\n'
        f'try: runpy.run_module("{command}", run_name="__main__")\n'
        'finally: print({"jax", "scipy", "matplotlib", "tensorflow_datasets"} & set(sys.modules))'
    )
    said = subprocess.check_output([sys.executable, '-c', code], text=True)
    assert said.startswith('usage:')
    assert said.endswith('set()\n')


def test_preparation_never_imports_jax() -> None:
    code = (
        'import sys, data_prep.__main__, data_prep.inspect; from data_prep import demo_clips;'
        'from glr_jax.data.mel import FrontEnd; demo_clips.demo_clips()[0].mel(FrontEnd());'
        'print("jax" in sys.modules)'
    )
    assert subprocess.check_output([sys.executable, '-c', code], text=True) == 'False\n'


def test_help_prints_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(['data_prep', '--help'])
    assert not end.value.code
    fields = [*dataclasses.fields(Preparation), *dataclasses.fields(FrontEnd)]
    names = {field.name for field in fields} - {'front_end'} | {'flagfile'}
    assert set(re.findall(r'^  --(\w+)', capsys.readouterr().out, re.MULTILINE)) == names


def test_a_folder_with_its_own_splits_csv_is_left_alone(music: Path, tmp_path: Path) -> None:
    for name in ('splits.csv', 'clips-backup.zip'):
        (tmp_path / name).write_text('precious')
    with pytest.raises(UserError, match='was not created by data_prep'):
        run(music, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ['clips-backup.zip', 'splits.csv']


def test_a_label_whose_clips_were_all_skipped_is_named(tmp_path: Path) -> None:
    music = write_music(tmp_path / 'music')
    for k in range(8):
        (music / f'hum/{k}.wav').write_text('no music')
    with pytest.raises(UserError, match="label 'hum' has no clip"):
        run(music, tmp_path / 'out', '--max_skipped=1')


def test_an_npz_that_changed_since_the_interruption_is_read_again(tmp_path: Path) -> None:
    def save(seed: int) -> np.ndarray:
        mel = np.random.default_rng(seed).integers(0, 256, (12, 9, 20), np.uint8)
        label, id = np.array(['a', 'b'] * 6), np.array([f'{k:02}' for k in range(12)])
        np.savez(tmp_path / 'x.npz', mel=mel, label=label, id=id)
        return mel

    save(0)
    clips = arrays_clips(str(tmp_path / 'x.npz'))
    clips[11] = dataclasses.replace(clips[11], mel=lambda front_end: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        prepare(clips, str(tmp_path / 'out'), FrontEnd(), clips_per_shard=5)
    mel = save(1)
    dataset = open_dataset(str(run(tmp_path / 'x.npz', tmp_path / 'out', '--source=arrays')))
    np.testing.assert_array_equal([dataset.mel(k) for k in range(12)], mel)


def test_a_file_name_that_is_not_unicode_is_stored_in_readable_form(tmp_path: Path) -> None:
    music = write_music(tmp_path / 'music')
    os.rename(music / 'hum/0.wav', os.fsencode(music) + b'/hum/\xe9.wav')
    dataset = open_dataset(str(run(music, tmp_path / 'out')))
    assert 'hum/\\xe9.wav' in dataset.ids
    assert len(dataset) == 24
