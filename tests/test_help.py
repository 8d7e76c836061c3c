"""What `--help` prints above the flags."""

import importlib
import re
import textwrap
from pathlib import Path

import pytest

from glr_jax import flag_help

ROOT = Path(__file__).parents[1]
COMMANDS = [
    path
    for folder in ('glr_jax', 'data_prep', 'experiments')
    for path in sorted((ROOT / folder).rglob('*.py'))
    if re.search('^USAGE = ', path.read_text(), re.MULTILINE)
]
USAGE = """
usage: x

Prints
the mean:
  one      what it is, in a row
           that goes on
  one two  another
Then the text goes on
here.

  python -m x
  python -m y
Done.
"""
WRAPPED = """
usage: x

Prints the mean:
  one      what it is, in a row that goes on
  one two  another
Then the text goes on here.

  python -m x
  python -m y
Done.
"""


def wrapped(usage: str, width: int) -> list[str]:
    return flag_help._wrap_usage(textwrap.dedent(usage).strip(), width).splitlines()


def test_rows_and_paragraphs_stay_apart_and_their_lines_are_joined() -> None:
    assert wrapped(USAGE, 80) == WRAPPED.strip().splitlines()
    narrow = wrapped(USAGE, 30)
    at = narrow.index('  one      what it is, in a')
    assert narrow[at + 1] == '           row that goes on'


@pytest.mark.parametrize('path', COMMANDS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_usage_keeps_its_rows_and_paragraphs_at_100_columns(path: Path) -> None:
    name = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
    usage = importlib.import_module(name).USAGE
    shown = wrapped(usage, 100)
    assert max(map(len, shown)) <= 100
    assert rows(shown) == rows(usage.splitlines())


def rows(lines: list[str]) -> int:
    """How many lines are the first of a row, below those that begin with `usage`."""
    below = lines[lines.index('', 1) :]
    return sum(re.match(r' {1,4}\S', line) is not None for line in below)
