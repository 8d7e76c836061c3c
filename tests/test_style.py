"""The project's own rules: formatting, lint, types."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize('tool', ['ruff check', 'ruff format --check', 'mypy'])
def test_no_complaints_of(tool: str) -> None:
    done = subprocess.run(
        [sys.executable, '-m', *tool.split()], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
