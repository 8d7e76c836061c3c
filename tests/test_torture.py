"""A short form of `python -m tests.torture`: a few attempts of each kind, all of which survive."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def torture(*flags: str) -> list[str]:
    """The last row of the table."""
    given = {flag.split('=')[0] for flag in flags}
    parts = ('--kills', '--write_failures', '--flips', '--fuzz', '--soak_predictions')
    none = [f'{part}=0' for part in parts if part not in given]
    command = [sys.executable, '-m', 'tests.torture', *flags, *none]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1].replace(',', '').split()


@pytest.mark.slow
def test_a_little_torture_is_survived() -> None:
    short = ('--kills=6', '--write_failures=6', '--flips=40', '--fuzz=120')
    kind, tried, *_, lost, silent, tracebacks = torture(*short, '--commands=data_prep')
    assert kind == 'all'
    assert int(tried) >= 150
    assert (lost, silent, tracebacks) == ('0', '0', '0')


@pytest.mark.slow
def test_training_and_evaluation_survive_kills_and_full_disks_and_predictions_do_not_leak() -> None:
    short = ('--kills=20', '--write_failures=20', '--soak_predictions=1000')
    _, tried, *_, lost, silent, tracebacks = torture(*short, '--commands=train,evaluate')
    assert int(tried) >= 1000
    assert (lost, silent, tracebacks) == ('0', '0', '0')
