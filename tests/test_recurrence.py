"""Scans of the recurrence, and the command that compares them with its kernels."""

import functools
from collections.abc import Callable

import jax
import numpy as np
import pytest

from experiments import recurrence
from experiments.timing import time_in_turns
from glr_jax.errors import UsageError, UserError
from glr_jax.nn import norms, rnn
from glr_jax.nn.config import CellName

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
    assert err.count('of the largest value') == 4 * 3
    heads, _, *rows = [line.split('|')[1:-1] for line in out.splitlines()[1:]]
    names = [head.strip() for head in heads[3:]]
    assert names == ['scan, µs', 'recomputing scan, µs', 'kernel, µs']
    assert [row[0].strip() for row in rows] == 2 * ['float32'] + 2 * ['bfloat16']
    assert all(float(cell.split()[0].replace(',', '')) > 0 for row in rows for cell in row[3:])


@pytest.mark.slow
def test_the_train_step_is_timed_with_scan_and_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recurrence, 'time_in_turns', functools.partial(time_in_turns, turn=0))
    study = recurrence.Study(repeats=1)
    dtype, scan, auto, ratio = recurrence.train_step(study, 'float32')
    assert dtype == 'float32'
    assert float(scan) / float(auto) == pytest.approx(float(ratio), rel=0.05)


@pytest.mark.parametrize(('wrong', 'words'), [(1e-3, 'off by 1'), (float('nan'), 'off by nan')])
def test_a_kernel_that_differs_from_the_scan_is_an_error(wrong: float, words: str) -> None:
    kernel = lambda *arguments: recurrence.scan(*arguments) + wrong
    with pytest.raises(UserError, match=f'not equal to the scan: mine, 2 x 3 x 8, .*: {words}'):
        recurrence.check('mine', kernel, 2, 3, 8, 'float32')


@functools.partial(
    jax.jit, static_argnums=(0, 1), compiler_options={'xla_backend_optimization_level': '0'}
)
def with_gradients(recur: Callable, sizes: tuple[int, ...], seed: int) -> tuple[jax.Array, ...]:
    gates, parameters, hidden = sizes
    shapes = (2, 5, gates, hidden), (hidden, gates, hidden), *parameters * [(gates, hidden)]
    keys = jax.random.split(jax.random.key(seed), len(shapes))
    arguments = [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]
    return recurrence.with_gradients(recur, *arguments)


@pytest.mark.parametrize(
    ('cell', 'norm', 'parameters'), [('gru', norms.glr_over_position, 2), ('lstm', None, 0)]
)
def test_a_scan_that_recomputes_its_steps_gives_the_same_gradients(
    cell: CellName, norm: norms.NormFunction | None, parameters: int
) -> None:
    sizes = rnn.GATES[cell], parameters, 8
    ways = (
        functools.partial(rnn.scan, cell, norm=norm),
        functools.partial(rnn.recomputing_scan, cell, norm=norm, unroll=2),  # and a step more
    )
    expected, found = (with_gradients(way, sizes, 0) for way in ways)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5 * float(abs(a).max()))


def test_more_units_than_the_kernel_allows_are_refused() -> None:
    with pytest.raises(UsageError, match=r'--hidden=200.* 128'):
        recurrence.main([*SMALL, '--hidden=200'])
