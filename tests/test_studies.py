"""What the studies share: turns, hardware, choices, tables; and the gaps in a trace."""

import dataclasses
from pathlib import Path

import pytest

from experiments import common, gaps
from experiments.tables import markdown, spread
from experiments.timing import time_in_turns
from glr_jax import cli
from glr_jax.config import NormName
from glr_jax.errors import UsageError, UserError
from glr_jax.fields import option


def test_workloads_take_turns() -> None:
    calls: list[str] = []
    workloads = {name: (lambda name=name: calls.append(name)) for name in 'ab'}
    seconds = time_in_turns(workloads, repeats=2, turn=0)
    assert calls == ['a', 'b', 'a', 'b']
    assert set(seconds) == {'a', 'b'}
    assert all(0 <= median < 1 for median in seconds.values())


def test_a_turn_begins_with_a_call_of_its_own_and_lasts_as_long_as_asked() -> None:
    calls: list[str] = []
    workloads = {name: (lambda name=name: calls.append(name)) for name in 'ab'}
    time_in_turns(workloads, repeats=1, turn=0.001)
    assert calls[:2] == ['a', 'b']  # compile
    assert calls.count('a') >= 3
    assert calls == sorted(calls[:2]) + sorted(calls[2:])


def test_hardware_in_words() -> None:
    machine = {'device': 'cpu', 'devices': 32, 'cores': 2, 'jax': '0.10.2', 'python': '3.11.7'}
    words = '32 simulated CPU devices, 2 CPU cores, jax 0.10.2, Python 3.11.7'
    assert common.in_words(machine) == words
    assert common.in_words(machine | {'devices': 1}).startswith('1 CPU device, 2 CPU cores, ')
    gpu = machine | {'device': 'NVIDIA H100', 'devices': 8, 'cores': 1}
    assert common.in_words(gpu).startswith('8 NVIDIA H100 devices, 1 CPU core, ')
    assert common.in_words(common.hardware())


def test_values_outside_the_choices_are_named() -> None:
    made = dataclasses.make_dataclass(
        'Made', [('norms', tuple[NormName, ...], option(('glr',), ''))]
    )
    assert cli.parse(made, ['x', '--norms=glr,batch'], '').norms == ('glr', 'batch')
    with pytest.raises(UsageError, match=r'--norms=glrr is not one of glr, glr_layer'):
        cli.parse(made, ['x', '--norms=glr,glrr'], '')


def test_a_table_is_aligned_and_a_spread_is_in_per_cent() -> None:
    assert markdown(['', 'n'], [['mean', '10']]).splitlines() == [
        '|      | n  |',
        '| ---- | -- |',
        '| mean | 10 |',
    ]
    assert spread([0.5, 0.6]) == '55.0 ± 7.1'
    assert spread([0.01], sign='+') == '+1.0'


def test_a_folder_without_a_trace_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f'{tmp_path} holds no trace; .* --profile=20'):
        gaps.main(['gaps', str(tmp_path)])
    with pytest.raises(UsageError, match='WORKDIR/profile'):
        gaps.main(['gaps'])
