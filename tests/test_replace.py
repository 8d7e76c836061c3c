"""A finished dataset is replaced only by a finished one, and only if the user says so."""

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep import replace
from glr_jax.data.dataset import open_dataset
from glr_jax.errors import UserError
from tests.conftest import IDS, run, write_music
from tests.test_runners import hashes


@pytest.fixture
def copied(music: Path, prepared: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Music of our own, and its finished dataset."""
    own = Path(shutil.copytree(music, tmp_path / 'music'))
    return own, Path(shutil.copytree(prepared, tmp_path / 'out'))


def table(out: Path) -> list[dict[str, str]]:
    with open(out / 'splits.csv', newline='') as file:
        return list(csv.DictReader(file))


def add_column(out: Path, name: str, values: dict[str, str]) -> None:
    rows = [row | {name: values.get(row['id'], '')} for row in table(out)]
    with open(out / 'splits.csv', 'w', newline='') as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def add_clip(music: Path) -> None:
    shutil.copy(music / 'hum/0.wav', music / 'hum/new.wav')


def remove_clip(music: Path) -> None:
    (music / 'hum/0.wav').unlink()


def change_clip(music: Path) -> None:
    soundfile.write(music / 'hum/0.wav', np.sin(np.arange(9000)), 22050)


def move_clip(music: Path) -> None:
    rows = [f'{id},{"rain" if id == "hum/0.wav" else id.split("/")[0]}' for id in IDS]
    (music / 'metadata.csv').write_text('\n'.join(['path,label', *rows]))


@pytest.mark.parametrize(
    ('change', 'flags', 'words'),
    [
        (add_clip, [], r'1 is new, the first: hum/new\.wav'),
        (remove_clip, [], r'1 is gone, the first: hum/0\.wav'),
        (move_clip, [], r'1 has another label or group, the first: hum/0\.wav'),
        (change_clip, [], 'files that have changed since'),
        (None, ['--n_mels=40'], '--n_mels=128 instead of 40'),
        (None, ['--htk'], '--htk=False instead of True'),
        (None, ['--clips_per_shard=12'], '5 shards instead of 2'),
        (None, ['--source=demo', '--input='], 'other clips'),
    ],
)
def test_another_dataset_is_replaced_only_if_told_to(
    copied: tuple[Path, Path],
    change: Callable[[Path], None] | None,
    flags: list[str],
    words: str,
) -> None:
    music, out = copied
    before = hashes(out)
    if change:
        change(music)
    with pytest.raises(UserError, match=f'{words}.*; give --overwrite to replace it') as failure:
        run(music, out, *flags)
    assert '\n' not in str(failure.value)
    assert before.items() <= hashes(out).items()
    if '--source=demo' in flags:  # takes long
        return
    run(music, out, *flags, '--overwrite')
    fresh = run(music, out.parent / 'fresh', *flags)
    assert hashes(out) == hashes(fresh)
    assert not (out / '.next').exists()


@pytest.mark.parametrize('flags', [[], ['--overwrite']])
def test_the_same_command_again_changes_nothing(
    copied: tuple[Path, Path], prepared: Path, flags: list[str]
) -> None:
    music, out = copied
    assert hashes(run(music, out, *flags)) == hashes(prepared)


def test_columns_of_the_users_own_are_kept(copied: tuple[Path, Path]) -> None:
    music, out = copied
    mine = {id: 'train' if k % 2 else 'test' for k, id in enumerate(IDS)}
    add_column(out, 'random-20', mine)
    add_column(out, 'mine', mine)
    run(music, out)
    assert {row['id']: row['random-20'] for row in table(out)} == mine
    assert {row['id']: row['mine'] for row in table(out)} == mine
    add_clip(music)
    remove_clip(music)
    run(music, out, '--overwrite', '--keep_copies')
    kept = {row['id']: row['mine'] for row in table(out)}
    del mine['hum/0.wav']
    assert kept == mine | {'hum/new.wav': ''}
    assert list(open_dataset(str(out)).splits)[-1] == 'mine'


def test_a_table_that_cannot_be_read_is_kept_beside_its_replacement(
    copied: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    music, out = copied
    add_column(out, 'mine', dict.fromkeys(IDS, 'train'))
    damaged = (out / 'splits.csv').read_text().replace('hum/3.wav,', 'hum/3.wav,"x"y,')
    (out / 'splits.csv').write_text(damaged)
    with pytest.raises(UserError, match=r'a damaged dataset .*splits\.csv, line'):
        run(music, out)
    run(music, out, '--overwrite')
    assert 'mine' not in table(out)[0]
    assert (out / 'splits.csv.damaged').read_text() == damaged
    assert 'splits.csv.damaged' in capsys.readouterr().err


def test_a_split_that_was_edited_is_not_lost(copied: tuple[Path, Path]) -> None:
    music, out = copied
    rows = table(out)
    rows[0]['random-1'] = {'train': 'test'}.get(rows[0]['random-1'], 'train')
    add_column(out, 'random-1', {row['id']: row['random-1'] for row in rows})
    with pytest.raises(UserError, match='another column random-1'):
        run(music, out)
    assert table(out) == rows


def test_a_failed_preparation_leaves_what_was_there(
    copied: tuple[Path, Path], prepared: Path
) -> None:
    music, out = copied
    for k in range(2):
        (music / f'hum/{k}.wav').write_text('no music')
    with pytest.raises(UserError, match='2 of 24 clips were skipped'):
        run(music, out, '--overwrite')
    assert hashes(prepared).items() <= hashes(out).items()
    assert len(open_dataset(str(out))) == 24


def test_a_damaged_shard_is_replaced_without_asking(
    copied: tuple[Path, Path], prepared: Path
) -> None:
    music, out = copied
    shard = out / 'music-clips.tfrecord-00002-of-00005'
    shard.write_bytes(shard.read_bytes()[:-5])
    assert hashes(run(music, out)) == hashes(prepared)


@pytest.mark.parametrize('name', ['features.json', 'splits.csv', 'skipped.csv'])
def test_a_dataset_with_a_damaged_table_is_replaced_if_told_to(
    copied: tuple[Path, Path], prepared: Path, name: str
) -> None:
    music, out = copied
    (out / name).write_bytes(b'\xff\x00')
    with pytest.raises(UserError, match=r'a damaged dataset .*--overwrite'):
        run(music, out)
    run(music, out, '--overwrite')
    if name == 'splits.csv':  # people edit it, so it is not lost
        copy = out / 'splits.csv.damaged'
        assert copy.read_bytes() == b'\xff\x00'
        copy.unlink()
    assert hashes(out) == hashes(prepared)


def test_other_files_in_the_folder_are_kept(copied: tuple[Path, Path]) -> None:
    music, out = copied
    (out / 'notes.txt').write_text('mine')
    run(music, out, '--htk', '--overwrite')
    assert (out / 'notes.txt').read_text() == 'mine'


class Killed(Exception):
    pass


def swap_until(out: Path, operations: int) -> bool:
    """Begins a swap, and fails before an operation; whether it came so far."""
    done = 0

    def counted(usual: Callable) -> Callable:
        def operation(*arguments: str) -> None:
            nonlocal done
            if done == operations:
                raise Killed
            done += 1
            usual(*arguments)

        return operation

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replace.os, 'replace', counted(os.replace))
        patch.setattr(replace.storage, 'remove', counted(replace.storage.remove))
        try:
            replace.resume_swap(str(out))
        except Killed:
            return True
    return False


def test_a_swap_that_was_killed_is_ended_by_the_next_command(
    copied: tuple[Path, Path], tmp_path: Path
) -> None:
    music, old = copied
    new = run(music, tmp_path / 'fresh', '--htk', '--clips_per_shard=12')
    names = sorted(os.listdir(new), key=lambda name: name == 'front_end.json')
    operations = 0
    while True:
        out = Path(shutil.copytree(old, tmp_path / f'out-{operations}'))
        shutil.copytree(new, out / '.next')
        (out / '.next/complete.json').write_text(json.dumps(names))
        killed = swap_until(out, operations)
        replace.resume_swap(str(out))
        assert hashes(out) == hashes(new)
        if not killed:
            break
        operations += 1
    assert operations > 10


@pytest.mark.parametrize('begun', [False, True])
@pytest.mark.parametrize(
    'damage',
    [
        lambda text: text[:-20],
        lambda text: text.replace('splits.csv', 'splits.csw'),
        lambda text: '["../music"]',
        lambda text: '7',
    ],
)
def test_a_swap_whose_list_of_files_is_damaged_is_made_again(
    copied: tuple[Path, Path],
    tmp_path: Path,
    damage: Callable[[str], str],
    begun: bool,
    capfd: pytest.CaptureFixture[str],
) -> None:
    music, out = copied
    new = run(music, tmp_path / 'new', '--htk')
    shutil.copytree(new, out / '.next')
    names = sorted(os.listdir(new), key=lambda name: name == 'front_end.json')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replace, 'resume_swap', lambda out: None)
        replace.swap(str(out), names)
    if begun:
        (out / 'front_end.json').unlink()
        os.replace(out / '.next' / 'splits.csv', out / 'splits.csv')
    path = out / '.next' / 'complete.json'
    path.write_text(damage(path.read_text()))
    run(music, out, '--htk', '--overwrite')
    assert hashes(out) == hashes(new)
    assert capfd.readouterr().err.count('complete.json is damaged: ') == 1


def test_the_interrupted_successor_is_resumed(copied: tuple[Path, Path]) -> None:
    music, out = copied
    run(music, out, '--htk', '--overwrite', '--shard_range=0:3')
    assert len(open_dataset(str(out))) == 24
    written = {path: path.stat().st_mtime_ns for path in (out / '.next').glob('music-*')}
    assert len(written) == 3
    run(music, out, '--htk', '--overwrite')
    times = [path.stat().st_mtime_ns for path in sorted(out.glob('music-*'))]
    assert times[:3] == sorted(written.values())
    assert open_dataset(str(out)).front_end.htk


def test_a_dataset_of_arrays_is_compared_too(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def save(bands: int) -> None:
        mel = rng.integers(0, 256, (12, 9, bands), np.uint8)
        label, id = np.array(['a', 'b'] * 6), np.array([f'{k:02}' for k in range(12)])
        np.savez(tmp_path / 'x.npz', mel=mel, label=label, id=id)

    for bands in (20, 30):
        save(bands)
        flags = ['--source=arrays'] + ['--overwrite'] * (bands == 30)
        run(tmp_path / 'x.npz', tmp_path / 'out', *flags)
        assert open_dataset(str(tmp_path / 'out')).n_mels == bands
    save(30)
    with pytest.raises(UserError, match='files that have changed since'):
        run(tmp_path / 'x.npz', tmp_path / 'out', '--source=arrays')
    with pytest.raises(UserError, match='another --source'):
        run(write_music(tmp_path / 'music'), tmp_path / 'out')
