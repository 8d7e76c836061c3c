"""One command at a time writes a folder, and a killed command leaves no lock."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glr_jax import locks
from glr_jax.errors import UserError
from tests.conftest import run

HOLD = """
import sys, time
from glr_jax import locks
with locks.hold(sys.argv[1], 'there', '--out', shared='shared' in sys.argv):
    print('held', flush=True)
    time.sleep(60)
"""
Hold = Callable[..., subprocess.Popen]


@pytest.fixture
def hold() -> Iterator[Hold]:
    """Starts a process that holds the lock of a folder."""
    started = []

    def start(folder: Path, *words: str) -> subprocess.Popen:
        command = [sys.executable, '-c', HOLD, locks.beside(str(folder)), *words]
        root = Path(__file__).parents[1]
        process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == 'held\n'
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_a_second_data_prep_is_told_who_writes_the_folder(
    music: Path, tmp_path: Path, hold: Hold
) -> None:
    holder = hold(tmp_path / 'set')
    one_line = rf'^\S+/set is in use by process {holder.pid} on .*; .* choose another --out$'
    with pytest.raises(UserError, match=one_line):
        run(music, tmp_path / 'set')
    (tmp_path / 'link').symlink_to(tmp_path)
    with pytest.raises(UserError, match='in use by process'):
        run(music, f'{tmp_path}/link/./set/')
    assert not (tmp_path / 'set').exists()
    holder.kill()  # its file remains, but no lock
    holder.wait()
    assert (tmp_path / '.set.lock').exists()
    run(music, tmp_path / 'set')
    assert sorted(os.listdir(tmp_path)) == ['.set.audio.json', 'link', 'set']


def test_commands_with_a_shard_range_write_one_folder_together(
    music: Path, tmp_path: Path, hold: Hold
) -> None:
    hold(tmp_path / 'set', 'shared')
    run(music, tmp_path / 'set', '--shard_range=0:2')
    with pytest.raises(UserError, match='in use by process'):
        run(music, tmp_path / 'set')


def test_a_failed_preparation_leaves_no_lock(tmp_path: Path) -> None:
    (tmp_path / 'music').mkdir()
    with pytest.raises(UserError):
        run(tmp_path / 'music', tmp_path / 'set')
    assert os.listdir(tmp_path) == ['music']


def test_a_lock_whose_file_is_removed_meanwhile_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, opened = tmp_path / 'lock', []

    def open_late(*arguments: object) -> int:
        opened.append(real(*arguments))  # type: ignore[arg-type]
        if len(opened) == 1:
            path.unlink()  # as its last holder does
        return opened[-1]

    real = os.open
    monkeypatch.setattr(os, 'open', open_late)
    with locks.hold(str(path), 'there', '--out'):
        assert len(opened) == 2
        assert path.read_text().startswith(f'{os.getpid()} ')
    assert not path.exists()


def test_systems_and_folders_without_locks_are_no_obstacle(
    music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, 'fcntl', None)  # Windows
    with locks.hold(str(tmp_path / 'lock'), 'there', '--out'):
        assert not (tmp_path / 'lock').exists()
    run(music, tmp_path / 'set')
    assert sorted(os.listdir(tmp_path)) == ['.set.audio.json', 'set']
