import functools

import jax
import pytest

from experiments import recurrence
from experiments.timing import time_in_turns
from glr_jax.errors import UsageError, UserError
from glr_jax.nn import fused_rnn

SMALL = ['recurrence', '--batches=2', '--steps=2', '--hidden=8', '--repeats=1']


@pytest.mark.slow
def test_it_checks_and_then_prints_a_row_for_each_type_and_pass(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recurrence, 'SIZES', [(1, 1, 8)])
    short = functools.partial(time_in_turns, turn=0.001)
    monkeypatch.setattr(recurrence, 'time_in_turns', short)
    recurrence.main(SMALL)
    out, err = capsys.readouterr()
    assert err.count('of the largest value') == 4
    rows = [line.split('|')[1:-1] for line in out.splitlines()[3:]]
    assert [row[0].strip() for row in rows] == 2 * ['float32'] + 2 * ['bfloat16']
    assert all(float(cell.replace(',', '')) > 0 for row in rows for cell in row[3:])


def test_a_kernel_that_differs_from_the_scan_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = recurrence.scan
    monkeypatch.setattr(fused_rnn, 'recur', lambda x, *weights: scan(x, *weights) + 1e-3)
    with pytest.raises(UserError, match='2 x 3 x 8, float32: off by 1'):
        recurrence.check(2, 3, 8, 'float32')
    monkeypatch.setattr(fused_rnn, 'recur', lambda x, *weights: scan(x, *weights) * jax.numpy.nan)
    with pytest.raises(UserError, match='not equal to the scan'):
        recurrence.check(2, 3, 8, 'float32')


def test_more_units_than_the_kernel_allows_are_refused() -> None:
    with pytest.raises(UsageError, match=r'--hidden=200.* 128'):
        recurrence.main([*SMALL, '--hidden=200'])
