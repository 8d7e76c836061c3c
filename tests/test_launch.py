"""The launch scripts: run where this machine can, otherwise checked against their APIs."""

import contextlib
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
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from glr_jax import cli, config
from tests.conftest import PAPER

LAUNCH = Path(__file__).parent.parent / 'launch'
SCRIPTS = ['local.sh', 'slurm.sbatch', 'tpu_pod.sh']
# pip installs shellcheck and hadolint beside python, which PATH need not include.
TOOLS = os.pathsep.join([os.path.dirname(sys.executable), os.environ['PATH']])
SMALL = [
    *PAPER,
    *('--data.frames=8', '--train.batch_size=8', '--parallel.cpu_devices=1'),
    *('--model.kind=cnn', '--model.kernels=8'),
]
Start = Callable[..., subprocess.Popen]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a command in the repository with this Python; kills what still runs at the end."""
    processes = []

    def start(*command: str | Path, **environment: str) -> subprocess.Popen:
        process = subprocess.Popen(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=LAUNCH.parent,
            env=os.environ | {'PYTHON': sys.executable} | environment,
            start_new_session=True,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(process: subprocess.Popen, path: Path, seconds: float = 300) -> None:
    """Waits until a process has written a file; fails at once if the process ends without it."""
    deadline = time.monotonic() + seconds
    while not (path.exists() and path.read_text()):
        if process.poll() is not None:
            _, errors = process.communicate(timeout=30)
            pytest.fail(f'exit code {process.returncode} without {path}: {errors}')
        assert time.monotonic() < deadline, f'no {path} after {seconds} s'
        time.sleep(0.02)


def check_flags(arguments: list[str]) -> config.Config:
    """The config of a train command; fails if train would not accept it."""
    return cli.parse(config.Config, ['train', *arguments], '')


def script(path: Path, *lines: str) -> Path:
    """An executable shell script."""
    path.parent.mkdir(exist_ok=True)
    path.write_text('\n'.join(['#!/bin/sh', *lines, '']))
    path.chmod(0o755)
    return path


@pytest.mark.parametrize('name', SCRIPTS)
def test_scripts_pass_bash_and_shellcheck(name: str) -> None:
    subprocess.run(['bash', '-n', LAUNCH / name], check=True)
    shellcheck = shutil.which('shellcheck', path=TOOLS)
    if shellcheck:
        subprocess.run([shellcheck, LAUNCH / name], check=True)


def test_waiting_for_a_file_fails_when_the_process_has_ended(start: Start, tmp_path: Path) -> None:
    process = start('sh', '-c', 'echo no such flag >&2; exit 3')
    with pytest.raises(pytest.fail.Exception, match=r'exit code 3 without .*no such flag'):
        wait_for(process, tmp_path / 'metrics.jsonl')


@pytest.mark.slow
def test_local_passes_sigterm_on_and_the_same_command_resumes(
    start: Start, prepared: Path, tmp_path: Path
) -> None:
    # JAX notices SIGTERM within a second, which must not be the last one of the run.
    command = [LAUNCH / 'local.sh', '2', *SMALL, '--train.epochs=16']
    command += [f'--data.dir={prepared}', f'--workdir={tmp_path / "run"}']
    process = start(*command)
    wait_for(process, tmp_path / 'run' / 'metrics.jsonl')
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 75, errors
    assert errors.count('run the same command again to resume') == 2
    process = start(*command)
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    assert 'resuming at step' in errors
    assert '2 cpu devices' in errors
    assert 'accuracy' in output
    assert json.loads((tmp_path / 'run' / 'report' / 'metrics.json').read_text())['num_clips'] == 3


@pytest.mark.slow
def test_local_stops_a_real_run_when_one_process_is_killed(
    start: Start, prepared: Path, tmp_path: Path
) -> None:
    flags = [*SMALL, f'--data.dir={prepared}', f'--workdir={tmp_path / "run"}']
    process = start(LAUNCH / 'local.sh', '2', *flags, '--train.epochs=4000')
    wait_for(process, tmp_path / 'run' / 'metrics.jsonl')
    listed = subprocess.run(
        ['pgrep', '-P', str(process.pid), '-f', 'process_id=1'], capture_output=True, text=True
    )
    os.kill(int(listed.stdout), signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    assert subprocess.run(['pgrep', '-f', f'workdir={tmp_path}']).returncode == 1  # none is left


@pytest.mark.slow
def test_local_kills_processes_that_wait_for_a_failed_one(start: Start, tmp_path: Path) -> None:
    # Process 1 fails; process 0 waits for it for ever and takes no notice of SIGTERM.
    python = script(
        tmp_path / 'python',
        'case "$*" in',
        '  *process_id=0) trap "" TERM; while :; do sleep 0.1; done ;;',
        '  *process_id=1) exit 5 ;;',
        '  *) echo 12345 ;;',
        'esac',
    )
    process = start(LAUNCH / 'local.sh', '2', f'--workdir={tmp_path}', PYTHON=str(python))
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 5
    assert 'a process ended with code 5; stopping the others' in errors
    assert subprocess.run(['pgrep', '-f', f'workdir={tmp_path}']).returncode == 1  # none is left


@pytest.mark.parametrize(
    ('installed', 'environment', 'used'),
    [
        (['python', 'python3'], {'PYTHON': ''}, 'bin/python'),
        (['python3'], {'PYTHON': ''}, 'bin/python3'),
        (['python', 'python3'], {'PYTHON': '{tmp}/mine/python'}, 'mine/python'),
    ],
)
def test_local_finds_python(
    installed: list[str], environment: dict[str, str], used: str, start: Start, tmp_path: Path
) -> None:
    for name in ['mine/python', *(f'bin/{name}' for name in installed)]:
        script(tmp_path / name, f'[ "$1" = -c ] && echo 12345 || echo "{name} $*"')
    for name in ['bash', 'sleep']:
        os.symlink(str(shutil.which(name)), tmp_path / 'bin' / name)
    environment = {key: value.format(tmp=tmp_path) for key, value in environment.items()}
    process = start(LAUNCH / 'local.sh', '1', PATH=str(tmp_path / 'bin'), **environment)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert output.startswith(f'{used} -m glr_jax.train --parallel.coordinator=127.0.0.1:12345')


def test_local_says_that_there_is_no_python(start: Start, tmp_path: Path) -> None:
    os.symlink(str(shutil.which('bash')), tmp_path / 'bash')
    process = start(LAUNCH / 'local.sh', '1', PATH=str(tmp_path), PYTHON='')
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert errors == 'launch/local.sh: no python found; set PYTHON=/path/to/python\n'


@pytest.mark.parametrize('arguments', [[], ['two', '--workdir=w'], ['0']])
def test_local_prints_its_usage(arguments: list[str], start: Start) -> None:
    process = start(LAUNCH / 'local.sh', *arguments)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 2
    assert errors.startswith('usage: launch/local.sh N')


def test_tpu_pod_prints_its_commands(start: Start) -> None:
    flags = ['--data.dir=/mnt/share/data/mine', '--workdir=/mnt/share/runs/my run']
    names = ['my-run', 'us-west4-a', 'v5litepod-16', '10.0.0.2:/share']
    process = start(LAUNCH / 'tpu_pod.sh', '--dry-run', *names, *flags)
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


def test_the_jobset_fits_its_api() -> None:
    models = pytest.importorskip('kubeflow_trainer_api.models')
    jobset = yaml.safe_load((LAUNCH / 'gke_jobset.yaml').read_text())
    # Pydantic refuses values of a wrong type, and drops unknown fields.
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


@pytest.mark.skipif(not importlib.util.find_spec('sky'), reason='skypilot[kubernetes] is missing')
def test_skypilot_reads_its_task(tmp_path: Path) -> None:
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
    # `run` on the second node, with a `python` that only prints its arguments.
    script(tmp_path / 'python', 'printf "%s\\n" "$@"')
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


@pytest.mark.skipif(not shutil.which('hadolint', path=TOOLS), reason='hadolint is missing')
def test_the_dockerfile_passes_hadolint() -> None:
    hadolint = str(shutil.which('hadolint', path=TOOLS))
    subprocess.run([hadolint, LAUNCH / 'Dockerfile'], check=True)


def test_the_dockerfile_copies_existing_files_and_installs_an_existing_extra() -> None:
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
