"""Labels, groups, sides and names change without decoding audio again."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from data_prep import reuse
from glr_jax.data.mel import FrontEnd
from glr_jax.errors import UserError
from tests.conftest import IDS, run, write_music
from tests.test_runners import hashes


@pytest.fixture
def copied(music: Path, prepared: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Music of our own, and its finished dataset."""
    own = Path(shutil.copytree(music, tmp_path / 'music'))
    return own, Path(shutil.copytree(prepared, tmp_path / 'out'))


def move(music: Path) -> None:
    (music / 'hum/0.wav').rename(music / 'rain/moved.wav')


def relabel(music: Path) -> None:
    rows = [f'{id},{"rain" if id == "hum/0.wav" else id.split("/")[0]},x' for id in IDS]
    (music / 'metadata.csv').write_text('\n'.join(['path,label,group', *rows]))


def set_sides(music: Path) -> None:
    sides = ['train', 'validation', 'test', *['train'] * 5]
    rows = [f'{id},{sides[k % 8]}' for k, id in enumerate(IDS)]
    (music / 'metadata.csv').write_text('\n'.join(['path,split', *rows]))


def touch(music: Path) -> None:
    for path in music.glob('*/*.wav'):
        path.touch()


def duplicate(music: Path) -> None:
    shutil.copy(music / 'hum/0.wav', music / 'hum/again.wav')


@pytest.mark.parametrize('change', [move, relabel, set_sides, touch, duplicate])
def test_no_audio_is_decoded_again_and_the_bytes_are_those_of_a_fresh_dataset(
    copied: tuple[Path, Path],
    tmp_path: Path,
    decoded: list[str],
    change: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    music, out = copied
    change(music)
    run(music, out, '--overwrite')
    assert decoded == []
    count = 24 + (change is duplicate)
    assert f'{count} spectrograms kept from before, 0 computed' in capsys.readouterr().err
    fresh = run(music, tmp_path / 'fresh')
    assert len(decoded) == count
    assert hashes(out) == hashes(fresh)


def test_a_file_with_other_content_of_the_same_size_and_time_is_decoded(
    copied: tuple[Path, Path], tmp_path: Path, decoded: list[str]
) -> None:
    music, out = copied
    path = music / 'hum/3.wav'
    samples, rate = soundfile.read(path)
    stamp = path.stat()
    soundfile.write(path, samples[::-1], rate)
    assert path.stat().st_size == stamp.st_size
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    run(music, out, '--overwrite')
    assert decoded == ['3.wav']
    assert hashes(out) == hashes(run(music, tmp_path / 'fresh'))


def test_another_front_end_decodes_everything(
    copied: tuple[Path, Path], decoded: list[str]
) -> None:
    run(*copied, '--overwrite', '--top_db=60')
    assert len(decoded) == 24


def test_a_damaged_record_is_computed_again(
    copied: tuple[Path, Path], prepared: Path, decoded: list[str]
) -> None:
    music, out = copied
    shard = out / 'music-clips.tfrecord-00002-of-00005'
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    run(music, out)
    assert len(decoded) == 1
    assert hashes(out) == hashes(prepared)


def test_a_table_of_sources_that_was_changed_does_no_harm(
    copied: tuple[Path, Path], prepared: Path, decoded: list[str]
) -> None:
    music, out = copied
    header, first, second, *rest = (out / 'sources.csv').read_text().splitlines()
    swapped = [
        ','.join([a.split(',')[0], *b.split(',')[1:]])
        for a, b in ((first, second), (second, first))
    ]
    (out / 'sources.csv').write_text('\n'.join([header, *swapped, *rest]))
    run(music, out, '--overwrite')
    assert len(decoded) == 2  # their checksums do not fit the records in these rows
    (out / 'sources.csv').write_text('nonsense')
    run(music, out, '--overwrite')
    assert len(decoded) == 2 + 24
    assert hashes(out) == hashes(prepared)


def test_an_interrupted_dataset_keeps_its_spectrograms_when_clips_change(
    tmp_path: Path, decoded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    music = write_music(tmp_path / 'music')
    for k in range(6):
        (music / f'rain/{k}.wav').write_bytes(b'broken')
    with pytest.raises(UserError, match='skipped'):
        run(music, tmp_path / 'out')
    shutil.rmtree(music / 'rain')
    decoded.clear()
    run(music, tmp_path / 'out')
    assert decoded == []
    assert '16 spectrograms kept from before, 0 computed' in capsys.readouterr().err
    assert hashes(tmp_path / 'out') == hashes(run(music, tmp_path / 'fresh'))


@pytest.mark.parametrize('remedy', ['remove', 'raise the limit', 'repair'])
def test_after_too_many_skipped_clips_the_next_command_decodes_only_what_is_missing(
    tmp_path: Path, decoded: list[str], capsys: pytest.CaptureFixture[str], remedy: str
) -> None:
    music = write_music(tmp_path / 'music')
    whole = {k: (music / f'rain/{k}.wav').read_bytes() for k in (2, 5)}
    for k in whole:
        (music / f'rain/{k}.wav').write_bytes(b'broken')
    with pytest.raises(UserError, match='2 of 24 clips were skipped'):
        run(music, tmp_path / 'out')
    decoded.clear()
    for k, content in whole.items():
        if remedy == 'remove':
            (music / f'rain/{k}.wav').unlink()
        if remedy == 'repair':
            (music / f'rain/{k}.wav').write_bytes(content)
    flags = ['--max_skipped=0.5'] if remedy == 'raise the limit' else []
    run(music, tmp_path / 'out', *flags)
    missing = ['2.wav', '5.wav'] if remedy == 'repair' else []
    assert decoded == missing
    said = capsys.readouterr().err
    assert f'22 spectrograms kept from before, {len(missing)} computed' in said
    assert hashes(tmp_path / 'out') == hashes(run(music, tmp_path / 'fresh', *flags))


def test_files_at_an_address_are_kept_too(
    prepared: Path, music: Path, tmp_path: Path, decoded: list[str]
) -> None:
    fsspec = pytest.importorskip('fsspec')
    place = f'memory://{tmp_path.name}'
    fsspec.filesystem('memory').put(str(music), f'{place}/music', recursive=True)
    run(f'{place}/music', f'{place}/out')
    assert len(decoded) == 24
    run(f'{place}/music', f'{place}/out', '--overwrite')
    assert len(decoded) == 24
    fsspec.filesystem('memory').get(f'{place}/out', str(tmp_path / 'out'), recursive=True)
    assert hashes(tmp_path / 'out') == hashes(prepared)


def test_the_content_is_of_local_regular_files_only(tmp_path: Path) -> None:
    file = tmp_path / 'a.wav'
    file.write_bytes(b'x')
    front_end = FrontEnd()
    content = reuse.content_of(str(file), front_end)
    assert len(content) == 32
    assert content != reuse.content_of(str(file), FrontEnd(n_mels=64))
    for path in ('', 'gs://bucket/a.wav', str(tmp_path), str(tmp_path / 'missing.wav')):
        assert reuse.content_of(path, front_end) == ''
