import json
from pathlib import Path

import pytest

from experiments import preparation


def test_it_prints_the_rates_that_it_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ['--clips=6', '--seconds=0.3', '--rounds=1', '--num_workers=2']
    preparation.main(['preparation', *flags, f'--out={tmp_path / "rates.json"}'])
    written = json.loads((tmp_path / 'rates.json').read_text())
    rates, stages = written['clips_per_second'], written['milliseconds']
    printed = capsys.readouterr().out
    for name in ('plain loop', 'decoding', 'data_prep'):
        assert f'{name:12} {rates[name]:8.1f} clips/s' in printed
    assert f'{rates["data_prep"] / rates["plain loop"]:5.2f}' in printed
    for name in ('decode', 'resample', 'STFT', 'mel', 'decibels', 'write'):
        assert f'{name:12} {stages[name]:8.2f} ms per clip' in printed
    assert '6 clips of 0.3 s, 2 workers' in printed
