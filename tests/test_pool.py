"""Workers that are killed, and workers whose parent is."""

import functools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_prep.pipeline import prepare
from data_prep.runners import Runner, on_pool, serially
from glr_jax.data.dataset import open_dataset
from glr_jax.data.mel import FrontEnd
from glr_jax.errors import UserError
from tests.conftest import IDS, write_music
from tests.deadly_clips import clips_with, fail, kill, kill_once, no_memory, no_room


def skipped(out: Path) -> str:
    return (out / 'skipped.csv').read_text()


@pytest.mark.slow
def test_a_clip_that_kills_its_worker_is_skipped_and_the_rest_is_finished(
    music: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = clips_with(music, hum_3=functools.partial(kill, 'x'))
    out = tmp_path / 'out'
    summary = prepare(clips, str(out), FrontEnd(), runner=on_pool(2), clips_per_shard=5)
    assert summary is not None
    assert summary.skipped == 1
    assert set(open_dataset(str(out)).ids) == set(IDS) - {'hum/3.wav'}
    assert re.search(r'^hum/3\.wav,.*killed the process that read it', skipped(out), re.MULTILINE)
    assert 'a worker was killed while it read hum/3.wav' in capsys.readouterr().err


@pytest.mark.slow
def test_a_clip_that_was_only_beside_a_killer_is_kept(music: Path, tmp_path: Path) -> None:
    once = functools.partial(kill_once, str(tmp_path / 'mark'), str(music / 'hum/3.wav'))
    out = tmp_path / 'out'
    prepare(clips_with(music, hum_3=once), str(out), FrontEnd(), runner=on_pool(2))
    assert open_dataset(str(out)).ids == IDS


@pytest.mark.slow
def test_a_process_that_was_killed_does_not_die_the_same_way_again(
    music: Path, tmp_path: Path
) -> None:
    """Without a pool, the kill takes the command itself; the next one takes care."""
    code = (
        'import functools, sys; from data_prep.pipeline import prepare\n'
        'from glr_jax.data.mel import FrontEnd; from pathlib import Path\n'
        'from tests.deadly_clips import clips_with, kill\n'
        'clips = clips_with(Path(sys.argv[1]), hum_3=functools.partial(kill, "x"))\n'
        'prepare(clips, sys.argv[2], FrontEnd(), clips_per_shard=5)'
    )
    command = [sys.executable, '-c', code, str(music), str(tmp_path / 'out')]
    first = subprocess.run(command, capture_output=True, cwd=Path(__file__).parents[1], timeout=200)
    assert first.returncode == -signal.SIGKILL
    clips = clips_with(music, hum_3=functools.partial(kill, 'x'))
    prepare(clips, str(tmp_path / 'out'), FrontEnd(), clips_per_shard=5)
    assert 'hum/3.wav' in skipped(tmp_path / 'out')
    assert len(open_dataset(str(tmp_path / 'out'))) == 23


@pytest.mark.parametrize('runner', [serially, on_pool(2)])
def test_a_clip_that_does_not_fit_into_memory_is_skipped(
    music: Path, tmp_path: Path, runner: Runner
) -> None:
    out = tmp_path / 'out'
    prepare(clips_with(music, hum_3=no_memory), str(out), FrontEnd(), runner=runner)
    assert re.search(r'^hum/3\.wav,.*,does not fit into memory', skipped(out), re.MULTILINE)


def test_an_error_in_a_worker_is_raised_with_its_traceback(music: Path, tmp_path: Path) -> None:
    clips = clips_with(music, hum_3=fail)
    with pytest.raises(ZeroDivisionError, match='a bug') as failure:
        prepare(clips, str(tmp_path / 'out'), FrontEnd(), runner=on_pool(2))
    assert 'in fail' in ''.join(failure.value.__notes__)


def test_an_error_of_the_disk_in_a_worker_is_raised(music: Path, tmp_path: Path) -> None:
    clips = clips_with(music, hum_3=no_room)
    with pytest.raises(UserError, match='no room'):
        prepare(clips, str(tmp_path / 'out'), FrontEnd(), runner=on_pool(2))


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_command(tmp_path: Path, number: signal.Signals) -> None:
    music = write_music(tmp_path / 'music')
    code = (
        'import functools, sys; from data_prep.pipeline import prepare\n'
        'from data_prep.runners import on_pool; from pathlib import Path\n'
        'from glr_jax.data.mel import FrontEnd; from tests.deadly_clips import clips_with, sleep\n'
        'slow = functools.partial(sleep, sys.argv[3])\n'
        'if __name__ == "__main__":\n'
        '  clips = clips_with(Path(sys.argv[1]), hiss_0=slow, hum_0=slow)\n'
        '  prepare(clips, sys.argv[2], FrontEnd(), runner=on_pool(2), clips_per_shard=8)'
    )
    command = [sys.executable, '-c', code, str(music), str(tmp_path / 'out'), f'{tmp_path}/at']
    process = subprocess.Popen(
        command, cwd=Path(__file__).parents[1], stderr=subprocess.DEVNULL, start_new_session=True
    )
    workers = lambda: [int(path.name.split('-')[1]) for path in tmp_path.glob('at-*')]
    wait_until(lambda: len(workers()) == 2, 120)
    process.send_signal(number)
    process.wait(20)
    wait_until(lambda: not any(os.path.exists(f'/proc/{pid}') for pid in workers()), 10)


def wait_until(condition: object, seconds: float) -> None:
    start = time.monotonic()
    while not condition():  # type: ignore[operator]
        assert time.monotonic() - start < seconds
        time.sleep(0.1)
