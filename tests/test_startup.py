"""A command restarts itself for huge pages, and compiles its programs once per machine."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from glr_jax.devices import compile_cache, startup
from glr_jax.errors import UserError

ROOT = Path(__file__).parents[1]
SAY = 'import os, sys; print(os.environ.get("GLIBC_TUNABLES"), os.getpid(), *sys.argv[1:])'
COMMAND = f"""
from glr_jax.devices import startup

if __name__ == '__main__':
    startup.restart_with_huge_pages()
{SAY}
"""
TRAP = """
import os

def execv(path, arguments):
    print("restarted", *arguments[1:], flush=True)
    os._exit(0)

os.execv = execv
"""
REFUSED = """
import os, signal

def execv(path, arguments):
    raise PermissionError(13, 'Permission denied')

os.execv = execv
from glr_jax.devices import startup

if __name__ == '__main__':
    startup.restart_with_huge_pages()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    print(os.environ.get('GLIBC_TUNABLES'), blocked)
"""
STEPS = """
import resource

import jax
import jax.numpy as jnp

x = jnp.ones((64, 1 << 20))  # 256 MB
step = jax.jit(lambda x: jnp.sqrt(x) + jnp.flip(x))
faults = []
for _ in range(3):
    step(x).block_until_ready()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[-1] - faults[-2])
"""
TRAIN_STEP = """
import numpy as np
import optax
from glr_jax import train_step
from glr_jax.nn.config import ModelConfig
from glr_jax.data.batches import Batch
from glr_jax.devices import parallel, startup
from glr_jax.nn.model import make_classifier

startup.enable_compilation_cache()
mesh = parallel.make_mesh()
config = ModelConfig(front='conv', kernels=(64, 64), hidden=8)
classifier = make_classifier(config, n_mels=6, num_labels=3, seed=0)
program = train_step.make_train_step(classifier, optax.adam(0.1), seed=0)
step = parallel.on_every_device(program, mesh, result='replicated')
state = parallel.replicate(train_step.init_state(classifier, optax.adam(0.1)), mesh)
mel = np.arange(2 * 64 * 6, dtype=np.uint8).reshape(2, 64, 6)
batch = Batch(mel, np.eye(3, dtype=np.float32)[:2], np.arange(2, dtype=np.int32))
print(float(step(state, parallel.shard_batch(batch, mesh)).totals.loss))
"""
SMALL = """
import jax
from glr_jax.devices import startup

startup.enable_compilation_cache()
print(jax.jit(lambda x: 2 * x)(2.0))
"""
linux = pytest.mark.skipif(sys.platform != 'linux', reason='huge pages are requested on Linux')


def start(folder: Path, *arguments: str, **environment: str) -> str:
    """What Python prints, started with these arguments in a folder; it must not warn."""
    unset = ('JAX_', 'XDG_', 'GLIBC_TUNABLES')
    kept = {k: v for k, v in os.environ.items() if not k.startswith(unset)}
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env=kept | {'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': str(ROOT)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said, errors = process.communicate(timeout=300)
    assert (process.returncode, errors) == (0, '')
    return said.replace(str(process.pid), 'PID').strip()


def write_command(folder: Path, init: str, program: str) -> None:
    """Makes a package `command`, for `python -m command`."""
    (folder / 'command').mkdir()
    (folder / 'command' / '__init__.py').write_text(init)
    (folder / 'command' / '__main__.py').write_text(program)


@linux
def test_a_command_restarts_as_the_same_process_with_the_same_arguments(tmp_path: Path) -> None:
    write_command(tmp_path, '', COMMAND)
    wanted = 'glibc.malloc.hugetlb=1 PID --a=b c d'
    assert start(tmp_path, '-X', 'utf8', '-m', 'command', '--a=b', 'c d') == wanted


@linux
def test_a_command_that_may_not_restart_continues(tmp_path: Path) -> None:
    write_command(tmp_path, '', REFUSED)
    assert start(tmp_path, '-m', 'command') == 'None set()'


@pytest.mark.parametrize(
    ('message', 'reason'),
    [
        (
            "Unable to initialize backend 'gpuu': Backend 'gpuu' is not in the list of known "
            "backends: ['cpu', 'tpu']. (set JAX_PLATFORMS='' to automatically choose an available "
            'backend)',
            'it has no platform gpuu here, only cpu, tpu',
        ),
        (
            "Unable to initialize backend 'tpu': no libtpu.so (set JAX_PLATFORMS='' to "
            'automatically choose an available backend)\nmore',
            "Unable to initialize backend 'tpu': no libtpu.so",
        ),
        ('', 'no gpuu device, or no jaxlib for it'),
    ],
)
def test_a_platform_that_jax_lacks_is_named_with_one_remedy(
    message: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise RuntimeError(message)

    monkeypatch.setattr(jax, 'local_devices', refuse)
    monkeypatch.setenv('JAX_PLATFORMS', 'gpuu')
    with pytest.raises(UserError) as error:
        startup.check_devices()
    assert str(error.value) == (
        f'JAX_PLATFORMS=gpuu: JAX cannot start: {reason}; set JAX_PLATFORMS=cpu, or unset it to '
        'use the devices of this machine'
    )


def test_a_setting_of_the_user_is_kept(tmp_path: Path) -> None:
    write_command(tmp_path, '', COMMAND)
    assert start(tmp_path, '-m', 'command', GLIBC_TUNABLES='') == 'PID'


@pytest.mark.parametrize('package', ['glr_jax', 'experiments'])
def test_the_command_of_somebody_else_that_imports_ours_runs_once(
    package: str, tmp_path: Path
) -> None:
    init = f'import {package}; print("imported")'
    write_command(tmp_path, init, SAY)
    assert start(tmp_path, '-m', 'command') == 'imported\nNone PID'
    assert start(tmp_path, '-c', f'import {package}; {SAY}') == 'None PID'


@linux
@pytest.mark.parametrize('module', ['glr_jax.predict', 'experiments.gaps'])
def test_commands_of_ours_restart(module: str, tmp_path: Path) -> None:
    (tmp_path / 'sitecustomize.py').write_text(TRAP)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    said = start(tmp_path, '-m', module, 'x', PYTHONPATH=path)
    assert said == f'restarted -m {module} x'


def has_huge_pages() -> bool:
    """Whether Linux grants huge pages on request, and glibc can request them."""
    path = Path('/sys/kernel/mm/transparent_hugepage/enabled')
    name, version = platform.libc_ver()
    known = name == 'glibc' and tuple(map(int, re.findall(r'\d+', version))) >= (2, 35)
    return known and path.exists() and '[madvise]' in path.read_text()


@pytest.mark.skipif(not has_huge_pages(), reason='this Linux or glibc has no such pages')
def test_a_step_touches_few_pages(tmp_path: Path) -> None:
    huge = start(tmp_path, '-c', STEPS, GLIBC_TUNABLES='glibc.malloc.hugetlb=1')
    assert 20 * int(huge) < int(start(tmp_path, '-c', STEPS))


def programs_in(folder: Path) -> dict[str, int]:
    """When each entry was written."""
    return {p.name: p.stat().st_mtime_ns for p in folder.iterdir() if p.name.endswith('-cache')}


@pytest.mark.slow
def test_a_second_start_compiles_no_program(tmp_path: Path) -> None:
    first = start(tmp_path, '-c', TRAIN_STEP, JAX_COMPILATION_CACHE_DIR=str(tmp_path))
    written = programs_in(tmp_path)
    assert any('train_step' in name for name in written)
    assert start(tmp_path, '-c', TRAIN_STEP, JAX_COMPILATION_CACHE_DIR=str(tmp_path)) == first
    assert programs_in(tmp_path) == written


def test_by_default_programs_go_to_the_cache_folder_of_the_user(tmp_path: Path) -> None:
    assert start(tmp_path, '-c', SMALL, XDG_CACHE_HOME=str(tmp_path)) == '4.0'
    assert programs_in(tmp_path / 'glr_jax')


@linux
@pytest.mark.slow
def test_damaged_entries_are_replaced_without_a_word(tmp_path: Path) -> None:
    cache = {'JAX_COMPILATION_CACHE_DIR': str(tmp_path)}
    start(tmp_path, '-c', SMALL, **cache)
    entries = sorted(path for path in tmp_path.iterdir() if path.name.endswith('-cache'))
    whole = {path: path.read_bytes() for path in entries}
    assert whole
    for damage in (
        lambda data: b'',
        lambda data: data[: len(data) // 2],
        lambda data: bytes([data[0] ^ 1]) + data[1:],
    ):
        for path, data in whole.items():
            path.write_bytes(damage(data))
        assert start(tmp_path, '-c', SMALL, **cache) == '4.0'
        assert all(len(path.read_bytes()) > 100 for path in entries)
        before = {path: path.stat().st_mtime_ns for path in entries}
        assert start(tmp_path, '-c', SMALL, **cache) == '4.0'
        assert before == {path: path.stat().st_mtime_ns for path in entries}


def test_an_entry_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, 'No space left on device')

    cache = compile_cache.WholeCache(str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(os, 'replace', full)
        cache.put('key', b'value')
    assert list(tmp_path.iterdir()) == []
    assert cache.get('key') is None
    cache.put('key', b'value')
    assert cache.get('key') == b'value'
    cache.put('key', b'other')
    assert cache.get('key') == b'value'


def test_a_read_only_cache_folder_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / 'file').write_text('')
    assert start(tmp_path, '-c', SMALL, XDG_CACHE_HOME=str(tmp_path / 'file')) == '4.0'
