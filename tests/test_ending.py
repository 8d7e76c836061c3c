"""When a run ends: after all its steps, or earlier by --train.patience or --train.time_limit."""

import contextlib
import itertools
import json
import shutil
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from glr_jax import train
from glr_jax.config import TrainConfig
from glr_jax.errors import UsageError, UserError
from glr_jax.train import ending
from tests.conftest import PAPER

SMALL = [
    *PAPER,
    *('--data.frames=8', '--train.batch_size=8', '--train.epochs=9'),
    *('--model.kind=cnn', '--model.kernels=8'),
]


class Runs:
    """Runs on one dataset, whose clock advances 10 s per dispatch."""

    def __init__(self, data: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
        self.data, self.folder, self.monkeypatch = data, folder, monkeypatch
        self.clock = itertools.count(1000, 10)

    def train(self, name: str, *flags: str, stop_after: int = 0) -> dict[str, Any]:
        """The scores of a run; SIGTERM comes after some dispatches, 0: never."""
        answers = itertools.count(1)
        stop = lambda: contextlib.nullcontext(lambda: next(answers) == stop_after)
        clock = types.SimpleNamespace(monotonic=lambda: float(next(self.clock)))
        self.monkeypatch.setattr(train.processes, 'stopping', stop)
        self.monkeypatch.setattr(train, 'time', clock)
        workdir = f'--workdir={self.folder / name}'
        train.main(['train', workdir, f'--data.dir={self.data}', *SMALL, *flags])
        return json.loads((self.folder / name / 'report' / 'metrics.json').read_text())

    def rows(self, name: str) -> list[dict[str, Any]]:
        lines = (self.folder / name / 'metrics.jsonl').read_text().splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture
def runs(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(prepared, tmp_path, monkeypatch)


def curves(rows: Sequence[dict[str, Any]]) -> list[tuple[int, int, float]]:
    return [(row['epoch'], row['step'], row['validation_loss']) for row in rows]


@pytest.mark.slow
def test_a_run_ends_when_the_validation_loss_stops_improving_also_after_a_resume(
    runs: Runs, capfd: pytest.CaptureFixture[str]
) -> None:
    # At a learning rate of 0 no epoch is better than the first one.
    flags = ['--train.patience=2', '--train.learning_rate=0']
    scores = runs.train('whole', *flags)
    assert [row['epoch'] for row in runs.rows('whole')] == [1, 2, 3]
    words = 'not improved since epoch 1 (--train.patience=2)'
    assert f'ended at step 7 of 21: the validation loss has {words}' in capfd.readouterr().err
    for stop_after in (2, 4):  # dispatches of one step; epochs end after steps 3, 5, 7
        with pytest.raises(UserError, match='to resume'):
            runs.train(f'stopped-{stop_after}', *flags, stop_after=stop_after)
        again = runs.train(f'stopped-{stop_after}', *flags)
        assert curves(runs.rows(f'stopped-{stop_after}')) == curves(runs.rows('whole'))
        assert again['confusion'] == scores['confusion']
    # A run that was killed before its report trains no more steps.
    shutil.rmtree(runs.folder / 'whole' / 'report')
    assert runs.train('whole', *flags) == scores
    assert len(runs.rows('whole')) == 3
    capfd.readouterr()
    runs.train('whole', *flags)
    assert 'is finished' in capfd.readouterr().err


def test_the_best_epoch_before_the_end_is_the_one_that_is_reported(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    score, losses = train.scoring.score, iter([0.9, 0.5, 0.6, 0.7])
    worse = lambda *args: score(*args) | {'loss': next(losses)}
    monkeypatch.setattr(train.scoring, 'score', worse)
    with pytest.raises(UserError, match='to resume'):
        runs.train('run', '--train.patience=2', stop_after=6)
    assert runs.train('run', '--train.patience=2')['step'] == 5
    assert [row['validation_loss'] for row in runs.rows('run')] == [0.9, 0.5, 0.6, 0.7]


def test_a_time_limit_counts_over_resumes_and_ends_with_a_validated_checkpoint(
    runs: Runs, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = ['--train.time_limit=1']  # 6 dispatches of 10 s
    scores = runs.train('whole', *flags)
    assert [row['step'] for row in runs.rows('whole')] == [3, 5, 6]
    assert [row['epoch'] for row in runs.rows('whole')] == [1, 2, 3]
    words = 'ended at step 6 of 21: the time is up (--train.time_limit=1 minutes)'
    assert words in capfd.readouterr().err
    with pytest.raises(UserError, match='to resume'):
        runs.train('stopped', *flags, stop_after=4)
    assert runs.train('stopped', *flags)['step'] == scores['step']
    assert curves(runs.rows('stopped')) == curves(runs.rows('whole'))
    shutil.rmtree(runs.folder / 'whole' / 'report')
    assert runs.train('whole', *flags) == scores
    assert len(runs.rows('whole')) == 3


def test_small_datasets_get_more_epochs(runs: Runs, capfd: pytest.CaptureFixture[str]) -> None:
    runs.train('more', '--train.epochs=1', '--train.min_steps=5', '--train.average=0.9')
    assert '\n3 epochs, 7 steps, ' in capfd.readouterr().err
    assert [row['epoch'] for row in runs.rows('more')] == [1, 2, 3]
    assert TrainConfig(epochs=50).all_epochs(100) == 50
    config = TrainConfig(epochs=50, min_steps=1000)
    assert [config.all_epochs(clips) for clips in (100, 500, 640, 650, 10**5)] == [
        *(320, 64, 50, 50, 50),
    ]
    assert config.all_epochs(100) * 100 >= 1000 * config.batch_size


@pytest.mark.slow
def test_a_step_that_covers_several_epochs_is_announced(
    runs: Runs, capfd: pytest.CaptureFixture[str]
) -> None:
    clips = 18  # of 24
    runs.train('long', '--train.batch_size=40', '--train.epochs=7')
    err = capfd.readouterr().err
    assert f'\na step of 40 clips covers more than one epoch of {clips}: ' in err
    assert [row['epoch'] for row in runs.rows('long')] == [2, 4, 6, 7]
    runs.train('one', '--train.batch_size=40', '--train.epochs=1')
    err = capfd.readouterr().err
    assert '\n1 epoch, 1 step, ' in err
    assert 'covers more than' not in err


def test_more_steps_than_can_be_counted_are_refused(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, 'LARGEST_INT', 100)
    with pytest.raises(UsageError, match=r'--train.epochs=45 must be at most 44: .* 100 steps'):
        runs.train('long', '--train.epochs=45')
    assert not (runs.folder / 'long').exists()


@pytest.mark.parametrize(
    ('losses', 'patience', 'ends'),
    [
        ([], 1, False),
        ([1.0], 1, False),
        ([1.0, 0.9], 1, False),
        ([1.0, 1.0], 1, True),
        ([0.5, 0.9, 0.8, 0.7], 4, False),
        ([0.5, 0.9, 0.8, 0.7], 3, True),
        ([0.9, 0.5, 0.8, 0.7], 3, False),
        ([0.5, 0.9, 0.8, 0.7], 0, False),
    ],
)
def test_patience_counts_the_epochs_since_the_best_one(
    losses: list[float], patience: int, ends: bool
) -> None:
    assert bool(ending(TrainConfig(patience=patience), losses, 0.0)) == ends


def test_the_time_limit_is_in_minutes() -> None:
    config = TrainConfig(time_limit=0.5)
    assert not ending(config, [], 29.9)
    assert '--train.time_limit=0.5 minutes' in ending(config, [], 30.0)
    assert not ending(TrainConfig(), [], 1e9)
