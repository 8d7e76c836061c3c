"""A short form of `python -m tests.torture`: a few attempts of each kind, all of which survive."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SHORT = [
    *('--kills=8', '--write_failures=10', '--flips=40', '--fuzz=150', '--soak_predictions=320'),
]


def test_a_little_torture_is_survived() -> None:
    command = [sys.executable, '-m', 'tests.torture', *SHORT]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    total = done.stdout.splitlines()[-1].split()
    assert total[0] == 'all'
    assert int(total[1].replace(',', '')) >= 500
    assert total[4:] == ['0', '0', '0']
