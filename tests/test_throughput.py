import dataclasses
import functools
import json
import sys
from pathlib import Path

import pytest

from experiments import paper
from experiments.throughput import __main__ as throughput
from experiments.throughput.workloads import gflops, inner_shapes
from experiments.timing import time_in_turns
from glr_jax.errors import UsageError, UserError
from glr_jax.nn import cost

SMALL = ['throughput', '--model.kernels=4,6', '--model.hidden=5', '--n_mels=12', '--repeats=1']


def test_the_arithmetic_of_each_workload_equals_a_count_by_hand() -> None:
    config = dataclasses.replace(paper.MODEL, conv='2d', kernels=(4, 6), hidden=5, cell='gru')
    work = gflops(config, batch_size=3, frames=40, n_mels=12)
    conv, recurrence = 20 * 6 * 25 * 4 * 6, 10 * (3 * 6 + 5) * 3 * 5
    assert work['convolution'] * 1e9 == pytest.approx(3 * 3 * 2 * conv)
    assert work['recurrence'] * 1e9 == pytest.approx(3 * 3 * 2 * recurrence)
    assert work['inference'] * 1e9 == pytest.approx(3 * cost.flops(config, 12, 10, 40))
    assert work['train step'] == pytest.approx(3 * work['inference'])


@pytest.mark.parametrize('changes', [{}, {'conv': '2d'}, {'kernels': (8,)}])
def test_the_parts_add_up_to_the_forward_pass(changes: dict) -> None:
    config = dataclasses.replace(paper.MODEL, **changes)
    work = gflops(config, batch_size=1, frames=64, n_mels=16)
    parts = (work['convolution'] + work['recurrence']) / 3 + 2 * config.hidden * 10 / 1e9
    if len(config.kernels) == 2:
        first = 64 * 5 * 128 * (16 * 5 if config.conv == '2d' else 16)
        parts += 2 * first / 1e9
    assert parts == pytest.approx(work['inference'])


def test_the_inner_layers_receive_what_pooling_leaves() -> None:
    config = dataclasses.replace(paper.MODEL, kernels=(4, 6), pool=(2, 3), conv='2d')
    assert inner_shapes(config, frames=25, n_mels=13) == ([12, 6], 4, 6, 4, 2 * 6)


@pytest.mark.slow
def test_a_small_model_and_its_input_are_measured(
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    short = functools.partial(time_in_turns, turn=0.001)
    monkeypatch.setattr(throughput, 'time_in_turns', short)
    out = tmp_path / 'measured.json'
    flags = ['--1d.batch_size=2', '--1d.frames=16', '--2d.batch_size=0', '--model.kernels=4']
    flags += [f'--data.dir={prepared}', '--data.frames=8', f'--out={out}']
    throughput.main([*SMALL, *flags])
    measured = json.loads(out.read_text())
    names = ['train step', 'inference', 'convolution', 'recurrence']
    inputs = ['input, streamed', 'input, resident']
    assert [row['name'] for row in measured['rows']] == names + inputs
    assert all(row['seconds'] > 0 and row['limit'] > 0 for row in measured['rows'])
    assert min(measured['rates']['1d'].values()) > 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in names + inputs)


def test_a_missing_pytorch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'torch', None)
    monkeypatch.delitem(sys.modules, 'experiments.throughput.peer_torch', raising=False)
    with pytest.raises(UserError, match='pip install torch'):
        throughput.main([*SMALL, '--peer=torch'])


@pytest.mark.parametrize(
    'flag',
    ['--model.cell=gru', '--model.norm=batch', '--model.readout=last', '--model.dtype=bfloat16'],
)
def test_an_architecture_that_the_peer_lacks_is_refused(flag: str) -> None:
    with pytest.raises(UsageError, match='only simple cells, GLR'):
        throughput.main([*SMALL, '--peer=torch', flag])


@pytest.mark.parametrize('conv', ['1d', '2d'])
def test_the_peer_has_as_many_parameters(conv: str) -> None:
    pytest.importorskip('torch')
    from experiments.throughput import peer_torch

    config = dataclasses.replace(paper.MODEL, conv=conv, kernels=(4, 6), hidden=5)
    model = peer_torch.Classifier(config, n_mels=12, num_labels=10)
    assert sum(p.numel() for p in model.parameters()) == cost.parameters(config, 12, 10)


@pytest.mark.parametrize(
    ('flag', 'words'),
    [
        ('--1d.frames=8', '--1d.frames=8 is too short'),
        ('--2d.frames=9', '--2d.frames=9 is too short'),
        ('--n_mels=8', '--model.pool reduces the mel bands 16-fold'),
        ('--model.kind=cnn', '--model.kind'),
        ('--model.front=both', '--model.front must be conv'),
        ('--model.conv=2d', '--1d.batch_size=0'),
    ],
)
def test_flags_that_leave_nothing_to_time_are_named(flag: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        throughput.main([*SMALL, '--n_mels=16', '--model.pool=4', flag])


def test_a_wrong_split_is_found_before_anything_is_timed(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throughput, 'time_in_turns', None)
    with pytest.raises(UserError, match='random-1'):
        throughput.main([*SMALL, f'--data.dir={prepared}', '--data.split=x'])
    with pytest.raises(UserError, match='nowhere'):
        throughput.main([*SMALL, '--data.dir=nowhere'])
