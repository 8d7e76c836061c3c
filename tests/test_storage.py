"""Datasets at an address: in fsspec's memory file system, and on a local S3 server."""

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep import inspect
from glr_jax import config, predict, storage
from glr_jax.data.dataset import open_dataset
from glr_jax.errors import UsageError, UserError
from tests.conftest import IDS, run
from tests.test_runners import hashes

fsspec = pytest.importorskip('fsspec')


def send(folder: Path, address: str) -> None:
    for path in folder.rglob('*'):
        if path.is_file():
            with storage.to_write(f'{address}/{path.relative_to(folder)}') as local:
                Path(local).write_bytes(path.read_bytes())


def fetch(address: str, folder: Path) -> Path:
    folder.mkdir()
    for path in storage.files_below(address):
        with storage.to_read(path) as local:
            (folder / Path(path).name).write_bytes(Path(local).read_bytes())
    return folder


@pytest.fixture
def memory(music: Path) -> Iterator[str]:
    """The address of a folder in memory; /music in it holds the test music."""
    send(music, 'memory://bucket/music')
    yield 'memory://bucket'
    storage.remove('memory://bucket')


@pytest.fixture(scope='module')
def s3(music: Path) -> Iterator[str]:
    """The same on a local S3 server."""
    pytest.importorskip('s3fs')
    server = pytest.importorskip('moto.server').ThreadedMotoServer('127.0.0.1', 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    own = {
        'AWS_ENDPOINT_URL': f'http://{host}:{port}',
        'AWS_ACCESS_KEY_ID': 'test',
        'AWS_SECRET_ACCESS_KEY': 'test',
        'AWS_DEFAULT_REGION': 'us-east-1',
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in own.items():
            patch.setenv(name, value)
        fsspec.filesystem('s3').mkdir('bucket')
        send(music, 's3://bucket/music')
        yield 's3://bucket'
    server.stop()


def check_dataset(out: str, prepared: Path, tmp_path: Path) -> None:
    """The dataset can be opened at its address, and equals a local one to the byte."""
    there, here = open_dataset(out), open_dataset(str(prepared))
    assert list(there.ids) == IDS
    for clip in range(len(here)):
        np.testing.assert_array_equal(there.mel(clip), here.mel(clip))
    assert hashes(fetch(out, tmp_path / 'fetched')) == hashes(prepared)


def test_a_dataset_is_prepared_from_memory_to_memory(
    memory: str, prepared: Path, tmp_path: Path
) -> None:
    run(f'{memory}/music', f'{memory}/set')
    check_dataset(f'{memory}/set', prepared, tmp_path)


def test_only_missing_shards_are_written(memory: str, prepared: Path, tmp_path: Path) -> None:
    out = f'{memory}/set'
    system = fsspec.filesystem('memory')
    shards = lambda: {name: system.created(name) for name in system.glob(f'{out}/*.tfrecord-*')}
    run(f'{memory}/music', out, '--shard_range=0:2')
    before = shards()
    assert len(before) == 2
    with pytest.raises(UserError, match='is not a finished dataset'):
        open_dataset(out)
    run(f'{memory}/music', out)
    assert before.items() <= shards().items()
    check_dataset(out, prepared, tmp_path)


def test_a_replaced_clip_is_prepared_again(memory: str) -> None:
    run(f'{memory}/music', f'{memory}/set', '--shard_range=0:1')
    with storage.to_write(f'{memory}/music/{IDS[0]}') as local:
        soundfile.write(local, np.sin(np.arange(9000)), 22050, format='WAV')
    run(f'{memory}/music', f'{memory}/set')
    assert len(open_dataset(f'{memory}/set').mel(0)) == 1 + 9000 // 512


def test_a_broken_clip_is_skipped_with_its_address(memory: str) -> None:
    with storage.to_write(f'{memory}/music/hum/text.wav') as local:
        Path(local).write_text('This is no music.')
    run(f'{memory}/music', f'{memory}/set')
    with storage.to_read(f'{memory}/set/skipped.csv') as local:
        assert f'hum/text.wav,{memory}/music/hum/text.wav,' in Path(local).read_text()


def test_inspect_and_predict_find_files_at_an_address(
    memory: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(f'{memory}/music', f'{memory}/set')
    inspect.main(['inspect', f'{memory}/set'])
    assert '24 clips' in capsys.readouterr().out
    assert list(predict.find([f'{memory}/music/hum'])) == [
        f'{memory}/music/{id}' for id in IDS if id.startswith('hum/')
    ]


def test_a_flipped_bit_is_reported_with_its_address(
    memory: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(f'{memory}/music', f'{memory}/set')
    shard = f'{memory}/set/music-clips.tfrecord-00001-of-00005'
    with storage.to_read(shard) as local:
        data = bytearray(Path(local).read_bytes())
    data[100] ^= 1
    with storage.to_write(shard) as local:
        Path(local).write_bytes(data)
    assert inspect.find_faults(f'{memory}/set') == [f'{shard}: corrupt record 0 at offset 0']


def test_a_pool_prepares_from_s3_to_s3(s3: str, prepared: Path, tmp_path: Path) -> None:
    run(f'{s3}/music', f'{s3}/set', '--num_workers=2')
    check_dataset(f'{s3}/set', prepared, tmp_path)


def test_a_missing_bucket_is_a_one_line_error(s3: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match='s3://no-such-bucket/music is not a folder'):
        run('s3://no-such-bucket/music', str(tmp_path / 'out'))


def test_an_unknown_kind_of_address_is_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match='Protocol not known: nowhere') as caught:
        run('nowhere://music', str(tmp_path / 'out'))
    assert caught.value.filename == 'nowhere://music'


def test_a_server_that_does_not_answer_is_a_one_line_error(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('AWS_ENDPOINT_URL', 'http://127.0.0.1:1')
    monkeypatch.setenv('AWS_MAX_ATTEMPTS', '1')
    fsspec.filesystem('s3').clear_instance_cache()
    with pytest.raises(OSError, match='Could not connect') as caught:
        run(f'{s3}/music', str(tmp_path / 'out'))
    assert caught.value.filename == f'{s3}/music'
    fsspec.filesystem('s3').clear_instance_cache()


def test_an_address_without_fsspec_is_a_one_line_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, 'fsspec', None)
    with pytest.raises(UserError, match=r'gs://bucket/music: .*\[gs\]'):
        run('gs://bucket/music', str(tmp_path / 'out'))


def test_an_address_is_refused_where_a_local_folder_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r'--workdir=gs://bucket/run: .* local folder'):
        config.Config(workdir='gs://bucket/run')
    with pytest.raises(UsageError, match=r'--input=gs://bucket: .* local folder'):
        run('gs://bucket', str(tmp_path / 'out'), '--source=gtzan', '--download')


def fail_in_writing(path: str) -> None:
    with storage.to_write(path) as local:
        Path(local).write_text('new')
        raise RuntimeError


def test_a_file_is_written_completely_or_not_at_all(tmp_path: Path, memory: str) -> None:
    for path in (str(tmp_path / 'file'), f'{memory}/file'):
        with storage.to_write(path) as local:
            Path(local).write_text('old')
        with pytest.raises(RuntimeError):
            fail_in_writing(path)
        with storage.to_read(path) as local:
            assert Path(local).read_text() == 'old'
    assert os.listdir(tmp_path) == ['file']


def test_a_dataset_at_an_address_is_replaced_only_if_told_to(memory: str, tmp_path: Path) -> None:
    out = f'{memory}/set'
    run(f'{memory}/music', out)
    run(f'{memory}/music', out)
    with pytest.raises(UserError, match='--htk=False instead of True; give --overwrite'):
        run(f'{memory}/music', out, '--htk')
    run(f'{memory}/music', out, '--htk', '--overwrite', '--clips_per_shard=12')
    assert open_dataset(out).front_end.htk
    fresh = run(f'{memory}/music', tmp_path / 'fresh', '--htk', '--clips_per_shard=12')
    assert hashes(fetch(out, tmp_path / 'fetched')) == hashes(fresh)


def test_a_full_disk_is_reported_with_the_name_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / 'file'
    path.write_text('old')
    monkeypatch.setattr(os, 'fsync', full)
    with (
        pytest.raises(OSError, match='No space left') as failure,
        storage.to_write(str(path)) as new,
    ):
        Path(new).write_text('new')
    assert failure.value.filename == str(path)
    assert path.read_text() == 'old'
    assert os.listdir(tmp_path) == ['file']


def test_leftovers_of_killed_commands_are_removed_but_not_files_in_use(tmp_path: Path) -> None:
    for name in ('old.partial-12', 'new.partial-34', 'x.partial', 'partial-56.csv'):
        (tmp_path / name).touch()
    os.utime(tmp_path / 'old.partial-12', (0, 0))
    storage.remove_partial(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ['new.partial-34', 'partial-56.csv', 'x.partial']
    storage.remove_partial(str(tmp_path / 'no such folder'))


def test_a_copy_that_fills_the_disk_names_its_target(tmp_path: Path) -> None:
    path = str(tmp_path / 'target')
    with pytest.raises(OSError, match='No space') as failure, storage.to_write(path) as partial:
        # As shutil.copyfile does.
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), 'source', None, partial)
    assert (failure.value.filename, failure.value.filename2) == (path, None)
