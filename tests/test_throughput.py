import contextlib
import dataclasses
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments import paper
from experiments.throughput import __main__ as throughput
from experiments.throughput import peer
from experiments.throughput.shapes import Job, Variant, inner_shapes
from experiments.throughput.workloads import gflops
from experiments.timing import Turn, rounds_in_turns, take_turn
from glr_jax.errors import UsageError, UserError
from glr_jax.nn import cost, spectra
from glr_jax.nn.config import ModelConfig
from glr_jax.nn.model import make_classifier
from glr_jax.nn.statistics import GROUPS

SMALL = [
    'throughput',
    '--default.batch_size=0',
    '--model.kernels=4,6',
    '--model.hidden=5',
    '--n_mels=12',
    '--repeats=1',
]


def test_the_arithmetic_of_each_workload_equals_a_count_by_hand() -> None:
    config = dataclasses.replace(paper.MODEL, conv='2d', kernels=(4, 6), hidden=5, cell='gru')
    work = gflops(config, batch_size=3, frames=40, n_mels=12)
    conv, recurrence = 20 * 6 * 25 * 4 * 6, 10 * (3 * 6 + 5) * 3 * 5
    assert work['convolution'] * 1e9 == pytest.approx(3 * 3 * 2 * conv)
    assert work['recurrence'] * 1e9 == pytest.approx(3 * 3 * 2 * recurrence)
    assert work['inference'] * 1e9 == pytest.approx(3 * cost.flops(config, 12, 10, 40))
    assert work['train step'] == pytest.approx(3 * work['inference'])


def test_the_arithmetic_of_statistics_equals_a_count_by_hand() -> None:
    work = gflops(ModelConfig(), batch_size=2, frames=100, n_mels=128)
    bands, parts, patches = 100 * 64 * 102, 2 * 64 * 32 * 32, 5 * 32 * 17 * 102
    assert spectra.products(100) == bands + parts + patches
    assert work['statistics'] * 1e9 == 2 * 2 * (bands + parts + patches)
    learned = 2 * cost.flops(ModelConfig(), 128, 10, 100) / 1e9
    assert work['inference'] == pytest.approx(work['statistics'] + learned)
    assert work['train step'] == pytest.approx(work['statistics'] + 3 * learned)


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
    short = functools.partial(rounds_in_turns, turn=0.001)
    monkeypatch.setattr(throughput, 'rounds_in_turns', short)
    out = tmp_path / 'measured.json'
    flags = ['--1d.batch_size=2', '--1d.frames=16', '--2d.batch_size=0', '--model.kernels=4']
    flags += ['--all', f'--data.dir={prepared}', '--data.frames=8', f'--out={out}']
    throughput.main([*SMALL, *flags])
    measured = json.loads(out.read_text())
    names = ['train step', 'inference', 'convolution', 'recurrence']
    inputs = ['input, streamed', 'input, resident']
    assert [row['name'] for row in measured['rows']] == names + inputs
    assert all(row['seconds'] > 0 and row['limit'] > 0 for row in measured['rows'])
    assert min(measured['rates']['1d'].values()) > 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in names + inputs)


def job(compiled: bool) -> Job:
    return Job(paper.MODEL, 2, 16, 12, 'train step', Variant(compiled, 1))


def compiles_for_ever(task: tuple[Job, float], tell: Callable[[Any], None]) -> float:
    """Stands for torch.compile: starts a compiler, names its process in a file and waits."""
    peer.lead_group()
    compiler = subprocess.Popen(['sleep', '600'])
    Path(os.environ['COMPILER_PID']).write_text(str(compiler.pid))
    return compiler.wait()


def fails(task: tuple[Job, float], tell: Callable[[Any], None]) -> float:
    raise RuntimeError('InvalidCxxCompiler: no C++ compiler')


def sleeps(task: tuple[Job, float], tell: Callable[[Any], None]) -> float:
    return take_turn(lambda: time.sleep(0.01), task[1])


def ends(task: tuple[Job, float], tell: Callable[[Any], None]) -> float:
    os._exit(1)


def is_running(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return ') Z ' not in Path(f'/proc/{pid}/stat').read_text()
    return False


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='reads /proc')
def test_a_compilation_is_given_up_and_its_compiler_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = tmp_path / 'pid'
    monkeypatch.setattr(peer, '_PRELOAD', ())
    # The process that forks may have started without this variable.
    monkeypatch.setattr(peer.workers, 'start_method', lambda: 'spawn')
    monkeypatch.setenv('COMPILER_PID', str(pid))
    with (
        pytest.raises(peer.GaveUp, match=r'given up after 4 s \(--compile_limit\)'),
        peer.running(job(compiled=True), 4.0, compiles_for_ever),
    ):
        raise AssertionError('it was not given up')
    compiler, deadline = int(pid.read_text()), time.monotonic() + 10
    while is_running(compiler) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(compiler)


def test_a_process_of_pytorch_times_its_own_turns() -> None:
    with peer.running(job(compiled=False), 1e-9, sleeps) as turn:  # nothing to compile: no limit
        assert 0.01 <= turn(0.02) < 1
        assert 0.01 <= turn(0.0) < 1


def test_a_failed_compilation_is_given_up_with_its_reason() -> None:
    with (
        pytest.raises(peer.GaveUp, match=r'failed: InvalidCxxCompiler: no C\+\+ compiler'),
        peer.running(job(compiled=True), 60.0, fails),
    ):
        raise AssertionError('it did not fail')


def test_a_process_of_pytorch_that_ends_is_one_line() -> None:
    with (
        pytest.raises(UserError, match='the process that runs PyTorch ended'),
        peer.running(job(compiled=False), 60.0, ends),
    ):
        raise AssertionError('it did not end')


@pytest.mark.slow
def test_rows_name_what_was_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextlib.contextmanager
    def running(job: Job, limit: float) -> Iterator[Turn]:
        assert limit == 7
        if job.variant.compiled and job.name == 'train step':
            raise peer.GaveUp('given up after 7 s (--compile_limit)')
        yield lambda turn: 2.0 if job.variant.compiled else 4.0

    monkeypatch.setattr(peer, 'check_installed', lambda: None)
    monkeypatch.setattr(peer, 'running', running)
    monkeypatch.setattr(
        throughput, 'rounds_in_turns', functools.partial(rounds_in_turns, turn=0.001)
    )
    monkeypatch.setattr(throughput.common, 'hardware', lambda: {'cores': 1})
    out = tmp_path / 'measured.json'
    flags = ['--1d.batch_size=2', '--1d.frames=16', '--2d.batch_size=0', '--model.kernels=4']
    throughput.main([*SMALL, *flags, '--peer=torch', '--compile_limit=7', f'--out={out}'])
    step, inference = json.loads(out.read_text())['rows']
    assert step['peers'] == {'eager, 1 threads': 4.0}
    assert step['given_up'] == ['compiled, 1 threads']
    assert inference['peers'] == {'eager, 1 threads': 4.0, 'compiled, 1 threads': 2.0}
    assert inference['given_up'] == []
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[1].endswith('  eager, 1 threads; given up: compiled, 1 threads')
    assert lines[2].endswith('  compiled, 1 threads')
    assert '1d train step: torch.compile, 1 threads: given up after 7 s' in printed.err
    assert '1d inference: timing: 1 of 1 round' in printed.err


def test_a_missing_pytorch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'torch', None)
    with pytest.raises(UserError, match='pip install torch'):
        throughput.main([*SMALL, '--peer=torch'])


@pytest.mark.parametrize(
    'flag',
    ['--model.cell=gru', '--model.norm=batch', '--model.readout=last', '--model.dtype=bfloat16'],
)
def test_an_architecture_that_the_peer_lacks_is_refused(flag: str) -> None:
    with pytest.raises(UsageError, match='only simple cells, GLR'):
        throughput.main([*SMALL, '--peer=torch', flag])


def test_the_peer_of_the_default_network_gives_the_same_logits() -> None:
    torch = pytest.importorskip('torch')
    from experiments.throughput import peer_default

    config = ModelConfig(projection=8, segment_projection=16, hidden=8)
    model = make_classifier(config, 128, 10, seed=0)
    model.deviation[...] = jnp.linspace(20.0, 60.0, 128)
    peer = peer_default.Classifier(config, 160, 128, 10).eval()
    assert sum(p.numel() for p in peer.parameters()) == cost.parameters(config, 128, 10)
    state = jax.tree.map(torch.tensor, jax.device_get(nnx.to_pure_dict(nnx.state(model))))
    with torch.inference_mode():
        peer.deviation.copy_(state['deviation'])
        for name in ('front', 'segment_front'):
            front, own = getattr(peer, name), state[name]
            for group, kernel, norm in zip(GROUPS, front.kernels, front.norms, strict=True):
                kernel.weight.copy_(own['kernels'][group].T)
                norm.weight.copy_(own['norms'][group]['gain'])
        for way, name in enumerate(('recurrent', 'backward')):
            peer.recurrent.inputs[way] = state[name]['input_kernel']
            peer.recurrent.hidden[way] = state[name]['hidden_kernel'].flatten(1)
        for name in ('output', 'segment_output'):
            getattr(peer, name).weight.copy_(state[name]['kernel'].T)
            getattr(peer, name).bias.copy_(state[name]['bias'])
        mel = np.random.default_rng(0).integers(0, 256, (2, 160, 128), np.uint8)
        found = peer(torch.from_numpy(mel)).numpy()
    np.testing.assert_allclose(found, jax.jit(lambda mel: model.outputs(mel))(mel), atol=1e-4)


@pytest.mark.parametrize('name', throughput.USUAL + throughput.INNER_OF_DEFAULT)
def test_the_peer_of_the_default_network_has_each_workload(name: str) -> None:
    pytest.importorskip('torch')
    from experiments.throughput import peer_torch

    workload = peer_torch.workload(Job(ModelConfig(), 2, 64, 128, name, Variant(False, 1)))
    assert take_turn(workload, 0.0) > 0


@pytest.mark.parametrize('conv', ['1d', '2d'])
def test_the_peer_has_as_many_parameters(conv: str) -> None:
    pytest.importorskip('torch')
    from experiments.throughput import peer_torch

    config = dataclasses.replace(paper.MODEL, conv=conv, kernels=(4, 6), hidden=5)
    model = peer_torch.Classifier(config, n_mels=12, num_labels=10)
    assert sum(p.numel() for p in model.parameters()) == cost.parameters(config, 12, 10)


@pytest.mark.parametrize('conv', ['1d', '2d'])
@pytest.mark.parametrize('name', throughput.USUAL + throughput.INNER)
def test_the_peer_has_each_workload(conv: str, name: str) -> None:
    pytest.importorskip('torch')
    from experiments.throughput import peer_torch

    config = dataclasses.replace(paper.MODEL, conv=conv, kernels=(4, 6), hidden=5)
    workload = peer_torch.workload(Job(config, 2, 16, 12, name, Variant(False, 1)))
    assert take_turn(workload, 0.0) > 0


@pytest.mark.parametrize(
    ('flag', 'words'),
    [
        ('--1d.frames=8', '--1d.frames=8 is too short'),
        ('--2d.frames=9', '--2d.frames=9 is too short'),
        ('--n_mels=8', '--model.pool reduces the mel bands 16-fold'),
        ('--model.kind=cnn', '--model.kind'),
        ('--model.front=both', '--model.front must be conv'),
        ('--model.conv=2d', '--1d.batch_size=0'),
        ('--default.frames=63', '--default.frames=63 must be at least 64'),
    ],
)
def test_flags_that_leave_nothing_to_time_are_named(flag: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        throughput.main([*SMALL, '--n_mels=16', '--model.pool=4', flag])


def test_a_wrong_split_is_found_before_anything_is_timed(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throughput, 'rounds_in_turns', None)
    with pytest.raises(UserError, match='random-1'):
        throughput.main([*SMALL, f'--data.dir={prepared}', '--data.split=x'])
    with pytest.raises(UserError, match='nowhere'):
        throughput.main([*SMALL, '--data.dir=nowhere'])
