"""`launch/slurm.sbatch` on a real Slurm, of this machine alone, where Debian's slurm-wlm is."""

import os
import shutil
import socket
import subprocess
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
# A job that was queued again waits until the credential of its last start has expired.
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


def said_by(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def wait_until(true: Callable[[], bool], seconds: float = 600) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.2)
    return true()


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if os.getuid() or not all(map(shutil.which, PROGRAMS)):
        pytest.skip('needs root, and: apt-get install slurm-wlm munge')
    folder, host = tmp_path / 'slurm', socket.gethostname().partition('.')[0]
    for name in ('state', 'spool'):
        (folder / name).mkdir(parents=True)
    (folder / 'key').write_bytes(os.urandom(128))
    (folder / 'key').chmod(0o600)
    ports = {'controller_port': free_port(), 'node_port': free_port()}
    (folder / 'slurm.conf').write_text(CONF.format(host=host, folder=folder, **ports))
    monkeypatch.setenv('SLURM_CONF', str(folder / 'slurm.conf'))
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
        idle = lambda: said_by('sinfo', '--noheader', '--format=%T') == 'idle'
        if not wait_until(idle, 30):
            pytest.skip(f'Slurm does not start here: {(folder / "log").read_text()[-500:]}')
        yield
    finally:
        subprocess.run(['scancel', '--user=root', '--full', '--signal=KILL'])
        subprocess.run(['scancel', '--user=root'])
        wait_until(lambda: not said_by('squeue', '--noheader'), 60)
        for process in reversed(started):
            process.terminate()
            process.wait(timeout=60)


def test_it_goes_on_when_time_was_up_and_when_it_was_preempted(
    slurm: None, prepared: Path, tmp_path: Path
) -> None:
    log, workdir = tmp_path / 'log', tmp_path / 'run'
    going_on = lambda: log.read_text().count('going on at step')
    epochs = lambda: log.read_text().count('epoch ')
    options = ['--nodes=1', '--gpus-per-node=0', '--ntasks-per-node=2', f'--output={log}']
    flags = [*SMALL, '--train.epochs=60', f'--data.dir={prepared}', f'--workdir={workdir}']
    job = said_by('sbatch', '--parsable', *options, str(LAUNCH / 'slurm.sbatch'), *flags)
    assert wait_until(lambda: log.exists() and epochs() >= 1)
    subprocess.run(['scancel', '--batch', '--signal=USR1', job], check=True)  # as --signal does
    assert wait_until(lambda: going_on() == 1), log.read_text()
    before = epochs()
    assert wait_until(lambda: epochs() > before), log.read_text()
    said_by('sbatch', '--partition=urgent', f'--output={tmp_path / "urgent"}', '--wrap=date')
    assert wait_until(lambda: going_on() == 2), log.read_text()
    assert (tmp_path / 'urgent').read_text()
    state = lambda: said_by('scontrol', 'show', 'job', job)
    assert wait_until(lambda: 'JobState=COMPLETED' in state()), state()
    assert 'Restarts=2' in state()
    assert 'DUE TO PREEMPTION' in log.read_text()
    assert log.read_text().count('the same command goes on from here') == 2 * 2  # by each process
    assert [row['epoch'] for row in rows(workdir)] == list(range(1, 61))
    assert (workdir / 'report' / 'metrics.json').exists()
