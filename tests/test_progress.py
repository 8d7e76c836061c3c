"""Progress: plain lines in a log, a bar on a terminal, and a time left that can be believed."""

import sys
from pathlib import Path

import pytest

from data_prep import clips
from data_prep.runners import on_pool, serially
from data_prep.shards import ShardJob
from glr_jax import progress
from glr_jax.data.mel import FrontEnd
from glr_jax.progress import Progress
from tests.conftest import IDS


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, 'time', made)
    return made


def test_a_log_has_a_line_at_once_then_after_two_seconds_then_every_ten(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(1000, 'mel', 'clip') as bar:
        assert capsys.readouterr().err == 'mel: 0 of 1,000 clips\n'
        for second in range(1, 101):
            clock.now = second
            bar.advance(10)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == 'mel: 20 of 1,000 clips, 10 clips/s, 1:38 left'
    assert lines[1] == 'mel: 120 of 1,000 clips, 10 clips/s, 1:28 left'
    assert lines[-1] == 'mel: 1,000 of 1,000 clips in 1:40'
    assert len(lines) == 11
    assert max(map(len, lines)) < 80


def test_neither_the_start_nor_earlier_work_counts_in_the_rate(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(1000, 'mel', 'clip', 800) as bar:
        clock.now = 30  # the workers start
        bar.advance(1)
        clock.now = 41
        bar.advance(11)
    assert capsys.readouterr().err.splitlines()[-1] == (
        'mel: 812 of 1,000 clips, 1 clips/s, 3:08 left'
    )


def test_the_rate_is_that_of_the_last_minute(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress(100_000, 'mel', 'clip') as bar:
        for second in range(1, 300):
            clock.now = second
            bar.advance(1000 if second < 30 else 1)  # the first come from an earlier command
    assert ', 1 clips/s, ' in capsys.readouterr().err.splitlines()[-1]


def test_a_terminal_gets_one_bar_of_at_most_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True, raising=False)
    monkeypatch.setenv('COLUMNS', '200')
    with Progress(50, 'mel', 'clip') as bar:
        for _ in range(50):
            bar.advance(1)
    states = capsys.readouterr().err.strip('\n').split('\r')
    assert '50/50' in states[-1]
    assert max(map(len, states)) <= 80


@pytest.mark.parametrize('runner', [serially, on_pool(2)], ids=['serial', 'pool'])
def test_every_runner_tells_of_each_clip(music: Path, tmp_path: Path, runner: object) -> None:
    (tmp_path / 'notes').mkdir()
    jobs = [
        ShardJob(
            str(tmp_path / f'shard-{k}'),
            str(tmp_path / 'notes' / f'shard-{k}.json'),
            [clips.audio_clip(id, 'x', str(music / id)) for id in IDS[8 * k : 8 * k + 8]],
            ('x',),
            128,
            FrontEnd(),
        )
        for k in range(3)
    ]
    told: list[int] = []
    assert len(list(runner(jobs, told.append))) == 3  # type: ignore[operator]
    assert sum(told) == 24
    assert max(told) == 1
