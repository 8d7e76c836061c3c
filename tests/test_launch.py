"""The launch scripts: run where this machine can, otherwise checked against what they talk to."""

import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from glr_jax import cli, config

LAUNCH = Path(__file__).parent.parent / 'launch'
SCRIPTS = ['local.sh', 'slurm.sbatch', 'tpu_pod.sh']
SMALL = [
    *('--data.frames=8', '--train.batch_size=8', '--train.epochs=4'),
    *('--model.kernels=8', '--model.hidden=8', '--parallel.cpu_devices=1'),
]


def start(*arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=LAUNCH.parent
    )


def wait_for(path: Path, seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline, f'{path} did not come'
        time.sleep(0.05)


def check_flags(arguments: list[str]) -> config.Config:
    """The config of a train command; fails if train would not take it."""
    run = cli.parse(config.Config, ['train', *arguments], '')
    config.check(run)
    return run


@pytest.mark.parametrize('name', SCRIPTS)
def test_scripts_are_bash_without_complaints(name: str) -> None:
    subprocess.run(['bash', '-n', LAUNCH / name], check=True)
    if shutil.which('shellcheck'):
        subprocess.run(['shellcheck', LAUNCH / name], check=True)


def test_local_passes_sigterm_on_and_the_same_command_goes_on(
    prepared: Path, tmp_path: Path
) -> None:
    command = [str(LAUNCH / 'local.sh'), '2', *SMALL, '--train.epochs=40']
    command += [f'--data.dir={prepared}', f'--workdir={tmp_path / "run"}']
    process = start(*command)
    wait_for(tmp_path / 'run' / 'metrics.jsonl')
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    assert errors.count('the same command goes on from here') == 2
    process = start(*command)
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert 'going on at step' in errors
    assert '2 cpu device(s)' in errors
    assert 'accuracy' in output
    assert json.loads((tmp_path / 'run' / 'report' / 'metrics.json').read_text())['num_clips'] == 3


def test_local_stops_all_when_one_fails(prepared: Path, tmp_path: Path) -> None:
    flags = [*SMALL, f'--data.dir={prepared}', f'--workdir={tmp_path / "run"}']
    process = start(str(LAUNCH / 'local.sh'), '2', *flags, '--train.epochs=4000')
    wait_for(tmp_path / 'run' / 'metrics.jsonl')
    listed = subprocess.run(
        ['pgrep', '-P', str(process.pid), '-f', 'process_id=1'], capture_output=True, text=True
    )
    os.kill(int(listed.stdout), signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    assert subprocess.run(['pgrep', '-f', f'workdir={tmp_path}']).returncode == 1  # none is left


@pytest.mark.parametrize('arguments', [[], ['two', '--workdir=w'], ['0']])
def test_local_says_how_it_is_used(arguments: list[str]) -> None:
    process = start(str(LAUNCH / 'local.sh'), *arguments)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 2
    assert errors.startswith('usage: launch/local.sh N')


def test_tpu_pod_prints_what_it_would_do() -> None:
    flags = ['--data.dir=/mnt/share/data/mine', '--workdir=/mnt/share/runs/my run']
    names = ['my-run', 'us-west4-a', 'v5litepod-16', '10.0.0.2:/share']
    process = start(str(LAUNCH / 'tpu_pod.sh'), '--dry-run', *names, *flags)
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    create, copy, install, train, delete = map(shlex.split, output.splitlines())
    tpus = ['gcloud', 'compute', 'tpus']
    assert create[:6] == [*tpus, 'queued-resources', 'create', 'my-run']
    options = {'--node-id=my-run', '--accelerator-type=v5litepod-16', '--zone=us-west4-a', '--spot'}
    assert options <= set(create)
    assert copy[:6] == [*tpus, 'tpu-vm', 'scp', '--recurse']
    for command in (copy, install, train):
        assert '--worker=all' in command
    assert all((LAUNCH.parent / name).exists() for name in copy[6:-3])
    assert 'mount 10.0.0.2:/share /mnt/share' in install[-1]
    assert delete[:6] == [*tpus, 'queued-resources', 'delete', 'my-run']
    python, dash_m, module, *arguments = shlex.split(train[-1].removeprefix('--command='))
    assert (python, dash_m, module) == ('venv/bin/python', '-m', 'glr_jax.train')
    run = check_flags(arguments)
    assert run.workdir == '/mnt/share/runs/my run'
    assert run.parallel.coordinator == 'auto'


def test_the_jobset_is_what_its_api_takes() -> None:
    models = pytest.importorskip('kubeflow_trainer_api.models')
    jobset = yaml.safe_load((LAUNCH / 'gke_jobset.yaml').read_text())
    # Pydantic refuses values of another type, and leaves out fields that there are not.
    assert models.JobsetV1alpha2JobSet.from_dict(jobset).to_dict() == jobset


def test_the_jobset_asks_for_the_chips_of_its_slice_and_trains() -> None:
    jobset = yaml.safe_load((LAUNCH / 'gke_jobset.yaml').read_text())
    assert (jobset['apiVersion'], jobset['kind']) == ('jobset.x-k8s.io/v1alpha2', 'JobSet')
    assert jobset['spec']['failurePolicy']['maxRestarts'] > 0
    (workers,) = jobset['spec']['replicatedJobs']
    job = workers['template']['spec']
    assert job['parallelism'] == job['completions']  # all hosts or none
    pod = job['template']['spec']
    chips = [
        int(side) for side in pod['nodeSelector']['cloud.google.com/gke-tpu-topology'].split('x')
    ]
    (container,) = pod['containers']
    tpus = container['resources']
    assert tpus['limits'] == tpus['requests']
    assert chips[0] * chips[1] == job['parallelism'] * tpus['limits']['google.com/tpu']
    mounts = {mount['name'] for mount in container['volumeMounts']}
    assert mounts == {volume['name'] for volume in pod['volumes']}
    module, *arguments = container['args']
    assert module == 'glr_jax.train'
    assert check_flags(arguments).train.batch_size % (chips[0] * chips[1]) == 0


@pytest.mark.skipif(not importlib.util.find_spec('sky'), reason='no skypilot[kubernetes] here')
def test_skypilot_takes_its_task(tmp_path: Path) -> None:
    code = "import sky; print(sky.Task.from_yaml('launch/skypilot.yaml').num_nodes)"
    done = subprocess.run(
        [sys.executable, '-c', code],
        env=os.environ | {'HOME': str(tmp_path)},  # where SkyPilot keeps a database
        cwd=LAUNCH.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ['2']


def test_the_skypilot_task_trains_on_every_node(tmp_path: Path) -> None:
    task = yaml.safe_load((LAUNCH / 'skypilot.yaml').read_text())
    # What `run` comes to on the second node.
    (tmp_path / 'python').write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / 'python').chmod(0o755)
    environment = os.environ | {
        'PATH': f'{tmp_path}:{os.environ["PATH"]}',
        'SKYPILOT_NODE_IPS': '10.0.0.5\n10.0.0.6',
        'SKYPILOT_NUM_NODES': '2',
        'SKYPILOT_NODE_RANK': '1',
    }
    ran = subprocess.run(
        ['bash', '-c', task['run']], env=environment, capture_output=True, text=True, check=True
    )
    run = check_flags(ran.stdout.splitlines()[2:])
    assert run.parallel.coordinator == '10.0.0.5:8476'
    assert (run.parallel.num_processes, run.parallel.process_id) == (2, 1)


@pytest.mark.skipif(not shutil.which('hadolint'), reason='no hadolint here')
def test_the_dockerfile_is_without_complaints() -> None:
    subprocess.run(['hadolint', LAUNCH / 'Dockerfile'], check=True)


def test_the_dockerfile_copies_what_there_is_and_installs_an_extra_that_there_is() -> None:
    text = (LAUNCH / 'Dockerfile').read_text()
    instructions = re.findall(r'^([A-Z]+) (.*)$', text, re.MULTILINE)
    assert instructions[0][0] == 'FROM'
    sources = [
        source for name, rest in instructions if name == 'COPY' for source in rest.split()[:-1]
    ]
    assert {'pyproject.toml', 'glr_jax', 'data_prep', 'experiments'} <= set(sources)
    assert all((LAUNCH.parent / source).exists() for source in sources)
    extra = dict(instructions)['ARG'].partition('=')[2]
    assert f'\n{extra} = [' in (LAUNCH.parent / 'pyproject.toml').read_text()
