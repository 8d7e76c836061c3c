"""The study of how fast files are tagged."""

import json
import sys
from pathlib import Path

import pytest

from experiments import prediction
from glr_jax.errors import UserError


@pytest.mark.slow
def test_it_prints_what_it_writes(
    tmp_path: Path, tones_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'rates.json'
    flags = ['--clips=3', '--seconds=2', '--rounds=1', f'--workdir={tones_run}', f'--out={out}']
    prediction.main(['prediction', *flags])
    found = json.loads(out.read_text())
    printed = capsys.readouterr().out
    for name, key in {
        'whole command': 'clips/s',
        'after first row': 'clips/s after first row',
    }.items():
        assert f'{name:16} {found[key]:8.1f} clips/s' in printed
    start = "Python's start"
    assert f'cold start       {found["cold start"]:8.3f} s: {start} ' in printed
    assert f'warm             {found["warm"]:8.3f} s: reading ' in printed
    assert f'reading alone    {found["reading"]:8.1f} clips/s' in printed
    assert 0 < sum(found['parts']['cold'].values()) < 2 * found['cold start']
    assert found['parts']['cold'].keys() == {start, 'imports', 'loading', 'first file'}
    assert '3 clips of 2 s, ' in printed
    assert 0 < found['warm'] < found['cold start']
    assert 0 < found['first row'] <= 3 / found['clips/s']
    if sys.platform == 'linux':
        assert 50 < found['memory'] < 10_000


def test_a_command_that_fails_is_named_with_its_own_words() -> None:
    command = [sys.executable, '-c', 'import sys; sys.exit("no audio was found")']
    with pytest.raises(UserError, match=r'^predict failed: no audio was found$'):
        prediction.cold_start(command, 1)
    with pytest.raises(UserError, match=r'^predict failed: no audio was found$'):
        prediction.tag_folder(command, 'tags.csv')
