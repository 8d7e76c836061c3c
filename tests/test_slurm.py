"""`launch/slurm.sbatch` on a real Slurm with this machine as its only node.

Needs root and Debian's packages slurm-wlm and munge; skipped otherwise.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.test_launch import LAUNCH, SMALL
from tests.test_processes import free_port, rows

PROGRAMS = ['munged', 'slurmctld', 'slurmd', 'sbatch']
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
# A requeued job waits until the credential of its last start has expired.
AuthInfo=socket={folder}/munge,cred_expire=2
KillWait=120
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeAddr=127.0.0.1 CPUs=2
PartitionName=usual Nodes=ALL Default=YES PriorityTier=1
PartitionName=urgent Nodes=ALL PriorityTier=2
"""


# The states of a job that neither runs nor will run again.
ENDED = ('COMPLETED', 'CANCELLED', 'FAILED', 'TIMEOUT', 'NODE_FAIL', 'OUT_OF_MEMORY')


def output_of(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def wait_until(true: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.2)
    return true()


def wait_for_job(true: Callable[[], bool], job: str, log: Path, seconds: float = 600) -> None:
    """Waits for a condition; fails with the job's log as soon as the job has ended without it."""
    ended = lambda: any(f'JobState={state}' in state_of(job) for state in ENDED)
    wait_until(lambda: true() or ended(), seconds)
    assert true(), f'{state_of(job)}\n{log.read_text() if log.exists() else "no log"}'


def state_of(job: str) -> str:
    return output_of('scontrol', 'show', 'job', job)


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if os.getuid() or not all(map(shutil.which, PROGRAMS)):
        pytest.skip('needs root and: apt-get install slurm-wlm munge')
    folder, host = tmp_path / 'slurm', socket.gethostname().partition('.')[0]
    for name in ('state', 'spool'):
        (folder / name).mkdir(parents=True)
    (folder / 'key').write_bytes(os.urandom(128))
    (folder / 'key').chmod(0o600)
    ports = {'controller_port': free_port(), 'node_port': free_port()}
    (folder / 'slurm.conf').write_text(CONF.format(host=host, folder=folder, **ports))
    monkeypatch.setenv('SLURM_CONF', str(folder / 'slurm.conf'))
    monkeypatch.setenv('PYTHON', sys.executable)
    files = {'socket': 'munge', 'key-file': 'key', 'pid-file': 'pid', 'log-file': 'munge.log'}
    files['seed-file'] = 'seed'
    munge = [f'--{flag}={folder / name}' for flag, name in files.items()]
    services = [
        ['munged', '--foreground', '--force', *munge],
        ['slurmctld', '-D'],
        ['slurmd', '-D'],
    ]
    with open(folder / 'log', 'w') as log:
        started = [subprocess.Popen(service, stdout=log, stderr=log) for service in services]
    try:
        idle = lambda: output_of('sinfo', '--noheader', '--format=%T') == 'idle'
        if not wait_until(idle, 30):
            pytest.skip(f'Slurm does not start here: {(folder / "log").read_text()[-500:]}')
        yield
    finally:
        subprocess.run(['scancel', '--user=root', '--full', '--signal=KILL'])
        subprocess.run(['scancel', '--user=root'])
        wait_until(lambda: not output_of('squeue', '--noheader'), 60)
        for process in reversed(started):
            process.terminate()
            process.wait(timeout=60)


@pytest.mark.slow
def test_a_job_resumes_after_its_time_limit_and_after_preemption(
    slurm: None, prepared: Path, tmp_path: Path
) -> None:
    log, workdir = tmp_path / 'log', tmp_path / 'run'
    resumed = lambda: log.read_text().count('resuming at step')
    epochs = lambda: log.read_text().count('epoch ')
    options = ['--nodes=1', '--gpus-per-node=0', '--ntasks-per-node=2', f'--output={log}']
    flags = [*SMALL, '--train.epochs=60', f'--data.dir={prepared}', f'--workdir={workdir}']
    job = output_of('sbatch', '--parsable', *options, str(LAUNCH / 'slurm.sbatch'), *flags)
    wait_for_job(lambda: log.exists() and epochs() >= 1, job, log)
    subprocess.run(['scancel', '--batch', '--signal=USR1', job], check=True)  # as --signal does
    wait_for_job(lambda: resumed() == 1, job, log)
    before = epochs()
    wait_for_job(lambda: epochs() > before, job, log)
    output_of('sbatch', '--partition=urgent', f'--output={tmp_path / "urgent"}', '--wrap=date')
    wait_for_job(lambda: resumed() == 2, job, log)
    assert (tmp_path / 'urgent').read_text()
    wait_for_job(lambda: 'JobState=COMPLETED' in state_of(job), job, log)
    assert 'Restarts=2' in state_of(job)
    assert 'DUE TO PREEMPTION' in log.read_text()
    # Each of two processes says so, at each of two stops.
    assert log.read_text().count('run the same command again to resume') == 2 * 2
    assert [row['epoch'] for row in rows(workdir)] == list(range(1, 61))
    assert (workdir / 'report' / 'metrics.json').exists()
