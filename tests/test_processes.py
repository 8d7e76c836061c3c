"""Several processes as one run of the real command."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest

from glr_jax import train_step
from glr_jax.data import batches
from glr_jax.devices import parallel, processes
from glr_jax.nn.model import make_classifier
from glr_jax.optimizer import learning_rate
from glr_jax.run import checkpoint
from glr_jax.run.workdir import read_config
from tests.conftest import PAPER

SMALL = [
    *PAPER,
    *('--data.frames=8', '--train.batch_size=8', '--train.epochs=8'),
    *('--model.kernels=8', '--model.hidden=8', '--train.learning_rate=0.01'),
]
STEPS = 18  # 8 epochs of 18 clips


class Run:
    """A run by one or several processes that have been started."""

    def __init__(
        self, workdir: Path, data: Path, count: int, devices: int, *flags: str, code: str = ''
    ):
        self.workdir = workdir
        program = ['-c', code] if code else ['-m', 'glr_jax.train']
        command = [sys.executable, *program, f'--workdir={workdir}', *SMALL]
        command += [f'--data.dir={data}', f'--parallel.cpu_devices={devices}']
        if count > 1:
            command += [f'--parallel.coordinator=127.0.0.1:{free_port()}']
            command += [f'--parallel.num_processes={count}', '--parallel.timeout=60']
        command += flags  # after the timeout above, which they may change
        own = [[f'--parallel.process_id={k}'] if count > 1 else [] for k in range(count)]
        self.processes = [
            subprocess.Popen(
                [*command, *own[k]],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for k in range(count)
        ]

    def terminate_one(self, epochs: int = 1) -> None:
        """SIGTERM to the last process, after some epochs."""
        self.wait(epochs)
        self.processes[-1].send_signal(signal.SIGTERM)

    def wait(self, epochs: int = 1) -> None:
        """Waits until the log has as many epochs."""
        log = self.workdir / 'metrics.jsonl'
        deadline = time.monotonic() + 120
        while not (log.exists() and log.read_bytes().count(b'\n') >= epochs):
            for process in self.processes:  # a failure is seen at once
                assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, 'no epoch ended in two minutes'
            time.sleep(0.02)

    def finish(self) -> tuple[list[int], list[str], list[str]]:
        """Exit codes, outputs and errors."""
        try:
            texts = [process.communicate(timeout=600) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()
        outputs, errors = map(list, zip(*texts, strict=True))
        return [process.returncode for process in self.processes], outputs, errors


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


def rows(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]


def assert_same_run(workdir: Path, other: Path) -> None:
    """The same losses, final parameters and report, up to the rounding of sums."""
    for mine, theirs in zip(rows(workdir), rows(other), strict=True):
        for key in ('step', 'loss', 'accuracy', 'validation_loss', 'validation_accuracy'):
            assert mine[key] == pytest.approx(theirs[key], rel=1e-5), key
    assert rows(workdir)[-1]['step'] == STEPS
    one, two = (jax.tree.leaves(last_state(folder)) for folder in (workdir, other))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)
    reports = [json.loads((w / 'report' / 'metrics.json').read_text()) for w in (workdir, other)]
    losses = [report.pop('loss') for report in reports]
    checksums = [report.pop('checksum') for report in reports]  # of the losses too
    assert all(checksums)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert reports[0] == reports[1]


def last_state(workdir: Path) -> Any:
    """Parameters and moments of the newest checkpoint."""
    config, mesh = read_config(str(workdir)), parallel.make_mesh(jax.devices()[:1])
    classifier = make_classifier(config.model, n_mels=128, num_labels=3, seed=1)
    optimizer = optax.adam(learning_rate(config.train, STEPS))
    with checkpoint.open_manager(str(workdir), read_only=True) as manager:
        state = train_step.init_state(classifier, optimizer)
        state = checkpoint.restore_latest(manager, state, mesh)
    return jax.device_get((state.params, state.optimizer))


def stored(workdir: Path) -> int:
    """Bytes of the checkpoints."""
    files = (workdir / 'checkpoints').rglob('*')
    return sum(file.stat().st_size for file in files if file.is_file())


@pytest.fixture(scope='module')
def alone(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process with one device, without interruption."""
    workdir = tmp_path_factory.mktemp('runs') / 'alone'
    codes, _, errors = Run(workdir, prepared, 1, 1).finish()
    assert codes == [0], errors
    return workdir


TWO_STEPS, STREAMED = '--train.steps_per_dispatch=2', '--data.resident=off'


@pytest.mark.parametrize(
    ('count', 'devices', 'flags'),
    [
        pytest.param(2, 2, [STREAMED], marks=pytest.mark.slow),
        pytest.param(2, 1, ['--parallel.mapper=pmap', TWO_STEPS], marks=pytest.mark.slow),
    ],
)
def test_processes_and_devices_do_not_change_results(
    count: int, devices: int, flags: list[str], alone: Path, prepared: Path, tmp_path: Path
) -> None:
    run = Run(tmp_path / 'run', prepared, count, devices, *flags)
    codes, outputs, errors = run.finish()
    assert codes == [0, 0], errors
    assert_same_run(tmp_path / 'run', alone)
    assert 'accuracy' in outputs[0]
    assert 'Gloo' not in outputs[0]  # stdout is for results
    assert outputs[1] == ''
    assert 'epoch' in errors[0]
    assert 'epoch' not in errors[1]
    floors = [
        (folder / 'report/baselines.json').read_text() for folder in (alone, tmp_path / 'run')
    ]
    assert floors[0] == floors[1]
    assert 'majority class' in outputs[0]  # process 0 alone computes it
    assert 'majority class' not in errors[1]
    events = list((tmp_path / 'run' / 'tensorboard').glob('*/*'))
    assert len(events) == 3  # train, validation, test: from one process
    assert stored(tmp_path / 'run') < 1.3 * stored(alone)  # once: each process writes a part of it


@pytest.mark.slow
def test_nor_do_they_with_several_labels_per_clip_and_balanced_draws(
    tagged_dataset: Path, tmp_path: Path
) -> None:
    flags = ['--train.sampler=balanced', '--train.class_weights=balanced', '--train.epochs=3']
    reports = []
    for name, count, devices in (('one', 1, 1), ('several', 2, 2)):
        where = ['--data.resident=on' if name == 'one' else STREAMED]
        run = Run(tmp_path / name, tagged_dataset, count, devices, *flags, *where)
        codes, _, errors = run.finish()
        assert codes == [0] * count, errors
        report = json.loads((tmp_path / name / 'report' / 'metrics.json').read_text())
        reports.append(report)
    names = ['step', 'loss']
    names += [f'validation_{name}' for name in ('loss', 'macro_roc_auc', 'macro_f1')]
    for one, several in zip(*map(rows, (tmp_path / 'one', tmp_path / 'several')), strict=True):
        for name in names:
            assert several[name] == pytest.approx(one[name], rel=1e-5), name
    one, several = reports
    for name in ('loss', 'macro_roc_auc', 'macro_average_precision', 'micro_roc_auc', 'macro_f1'):
        assert several[name] == pytest.approx(one[name], rel=1e-5), name
    for label, row in one['per_class'].items():
        assert several['per_class'][label] == pytest.approx(row, rel=1e-4), label


@pytest.mark.slow
def test_one_process_with_four_devices(alone: Path, prepared: Path, tmp_path: Path) -> None:
    codes, _, errors = Run(tmp_path / 'run', prepared, 1, 4).finish()
    assert codes == [0], errors
    assert_same_run(tmp_path / 'run', alone)


@pytest.mark.slow
@pytest.mark.parametrize(
    ('before', 'after'),
    [
        ((2, 2, TWO_STEPS), (1, 1, STREAMED)),
        ((1, 4), (2, 1, TWO_STEPS)),
    ],
)
def test_a_sigterm_to_one_stops_all_and_others_may_resume(
    before: tuple, after: tuple, alone: Path, prepared: Path, tmp_path: Path
) -> None:
    run = Run(tmp_path / 'run', prepared, *before)
    run.terminate_one()
    codes, _, errors = run.finish()
    assert codes == [75] * before[0], errors
    assert all('run the same command again to resume' in error for error in errors)
    steps = [int(name) for name in os.listdir(tmp_path / 'run' / 'checkpoints') if name.isdigit()]
    assert 0 < max(steps) < STEPS
    codes, _, errors = Run(tmp_path / 'run', prepared, *after).finish()
    assert codes == [0] * after[0], errors
    assert f'resuming at step {max(steps)}' in errors[0]
    assert_same_run(tmp_path / 'run', alone)


ENDLESS = ['--train.epochs=100000', '--train.schedule=constant', '--train.warmup=0']


@pytest.mark.slow
@pytest.mark.parametrize(
    ('victim', 'number', 'of', 'rerun'),
    [
        (1, signal.SIGKILL, 2, True),
        (1, signal.SIGSTOP, 3, True),
        (0, signal.SIGSTOP, 2, False),
        (0, signal.SIGKILL, 2, False),
    ],
)
def test_if_a_process_is_lost_the_others_end_and_a_rerun_resumes(
    victim: int, number: int, of: int, rerun: bool, prepared: Path, tmp_path: Path
) -> None:
    flags = [*ENDLESS, '--train.batch_size=6']
    run = Run(tmp_path / 'run', prepared, of, 1, *flags, '--parallel.timeout=10')
    others = [process for k, process in enumerate(run.processes) if k != victim]
    try:
        run.wait(3)  # the first ones are saved
        begin = time.monotonic()
        run.processes[victim].send_signal(number)
        errors = [process.communicate(timeout=120)[1] for process in others]
        seconds = time.monotonic() - begin
    finally:
        for process in run.processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in others] == [1] * (of - 1)
    assert seconds < 25  # the timeout, the time to tell the others, and a busy machine
    ids = [k for k in range(of) if k != victim]
    for id, error in zip(ids, errors, strict=True):
        last = error.splitlines()[-1]
        assert last.startswith(f'glr_jax.train: process {id} '), error
        assert f'process {victim} ' in last
        assert 'run the same command again to resume' in last
        assert 'Traceback' not in error
    if rerun:
        epochs = len(rows(tmp_path / 'run'))
        again = Run(tmp_path / 'run', prepared, 2, 1, *flags)
        again.terminate_one(epochs + 1)
        codes, _, messages = again.finish()
        assert codes == [75, 75], messages
        assert 'resuming at step' in messages[0]


@pytest.mark.slow
@pytest.mark.parametrize('victim', [0, 1])
@pytest.mark.parametrize(
    ('raised', 'message'),
    [
        ("MemoryError('no room')", 'failed: out of memory: no room; a larger --train.accumulate'),
        ("KeyError('seven')", "failed: KeyError: 'seven'"),
    ],
)
def test_if_a_process_fails_the_others_say_why(
    victim: int, raised: str, message: str, prepared: Path, tmp_path: Path
) -> None:
    port = free_port()
    shared = [*ENDLESS, f'--parallel.coordinator=127.0.0.1:{port}', '--parallel.num_processes=2']
    shared += ['--parallel.timeout=10']
    code = f"""
from glr_jax import cli, scoring, train
def fail(*args, **kwargs):
    raise {raised}
scoring.score = fail
cli.execute(train.main)
"""
    healthy = Run(tmp_path / 'run', prepared, 1, 1, *shared, f'--parallel.process_id={1 - victim}')
    failing = Run(
        tmp_path / 'run', prepared, 1, 1, *shared, f'--parallel.process_id={victim}', code=code
    )
    for run in (failing, healthy):
        codes, _, errors = run.finish()
        assert codes == [1], errors
    last = errors[0].splitlines()[-1]
    assert f'process {1 - victim} ends because process {victim} {message}' in last
    assert 'run the same command again to resume' in last
    assert 'Traceback' not in errors[0]


@pytest.mark.slow
def test_an_error_on_process_0_stops_all(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / 'thesis.tex').write_text('precious')
    codes, _, errors = Run(tmp_path, prepared, 2, 1).finish()
    assert codes == [1, 1]
    assert all('not empty' in error for error in errors), errors
    assert 'process 0: ' in errors[1]
    assert os.listdir(tmp_path) == ['thesis.tex']


@pytest.mark.slow
def test_processes_with_different_flags_are_refused(prepared: Path, tmp_path: Path) -> None:
    port = free_port()
    shared = [f'--parallel.coordinator=127.0.0.1:{port}', '--parallel.num_processes=2']
    first = Run(tmp_path / 'a', prepared, 1, 1, *shared)
    second = Run(tmp_path / 'a', prepared, 1, 1, *shared, '--parallel.process_id=1', '--seed=3')
    for run in (first, second):
        codes, _, errors = run.finish()
        assert codes == [1]
        assert 'process 0 has --seed=0 (not 3)' in errors[0]
    assert not (tmp_path / 'a').exists()


@pytest.mark.parametrize('process', [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_process_does_not_wait_forever_for_the_others(
    process: int, prepared: Path, tmp_path: Path
) -> None:
    flags = [f'--parallel.coordinator=127.0.0.1:{free_port()}', '--parallel.num_processes=2']
    flags += ['--parallel.timeout=2', f'--parallel.process_id={process}']
    run = Run(tmp_path / 'run', prepared, 1, 1, *flags)
    codes, _, errors = run.finish()
    assert codes == [1]
    assert len(errors[0].splitlines()) == 1
    assert 'not all processes connected within --parallel.timeout=2 s' in errors[0]


def test_auto_outside_a_cluster_says_so(prepared: Path, tmp_path: Path) -> None:
    codes, _, errors = Run(tmp_path / 'run', prepared, 1, 0, '--parallel.coordinator=auto').finish()
    assert codes == [2]
    assert 'Outside Slurm' in errors[0]


def test_each_clip_is_used_once_per_epoch_over_all_processes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clips, used = np.arange(100, 148), []
    monkeypatch.setattr(jax, 'process_count', lambda: 2)
    for process in range(2):
        monkeypatch.setattr(jax, 'process_index', lambda process=process: process)
        part = parallel.process_slice(16, parallel.make_mesh())
        used += [batches.plan_batch(step, 16, clips, 0, part).clip for step in range(3)]
    assert sorted(np.concatenate(used)) == clips.tolist()


def test_a_sigterm_after_the_last_step_has_its_usual_effect() -> None:
    heard: list[str] = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append('usual'))
    try:
        with processes.stopping() as stops_here:
            signal.raise_signal(signal.SIGTERM)
            assert stops_here()
        assert heard == []
        with processes.stopping() as stops_here:
            assert not stops_here()
            signal.raise_signal(signal.SIGTERM)
        assert heard == ['usual']
    finally:
        signal.signal(signal.SIGTERM, before)
