"""Commands get huge pages; programs that import the package stay as they are."""

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

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
SAY = 'import os, sys; print(os.environ.get("GLIBC_TUNABLES"), os.getpid(), *sys.argv[1:])'


def start(folder: Path, *arguments: str, **environment: str) -> str:
    """What Python says, started with these arguments in the folder."""
    kept = {k: v for k, v in os.environ.items() if k != 'GLIBC_TUNABLES'}
    root = str(Path(__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env=kept | {'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': root} | environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    return said.replace(str(process.pid), 'PID').strip()


def command(folder: Path, program: str) -> None:
    """Makes a package `command`, for `python -m command`."""
    (folder / 'command').mkdir()
    (folder / 'command' / '__init__.py').write_text('import glr_jax')
    (folder / 'command' / '__main__.py').write_text(program)


@pytest.mark.skipif(sys.platform != 'linux', reason='huge pages are asked for on Linux')
def test_a_command_gets_them_as_the_same_process_with_the_same_arguments(tmp_path: Path) -> None:
    command(tmp_path, SAY)
    wanted = 'glibc.malloc.hugetlb=1 PID --a=b c d'
    assert start(tmp_path, '-X', 'utf8', '-m', 'command', '--a=b', 'c d') == wanted


def test_what_is_set_is_left_as_it_is(tmp_path: Path) -> None:
    command(tmp_path, SAY)
    assert start(tmp_path, '-m', 'command', GLIBC_TUNABLES='') == 'PID'


def test_a_program_that_imports_the_package_is_left_as_it_is(tmp_path: Path) -> None:
    assert start(tmp_path, '-c', f'import glr_jax; {SAY}') == 'None PID'


def has_huge_pages() -> bool:
    """Whether Linux gives huge pages to those who ask, and glibc asks."""
    path = Path('/sys/kernel/mm/transparent_hugepage/enabled')
    name, version = platform.libc_ver()
    known = name == 'glibc' and tuple(map(int, re.findall(r'\d+', version))) >= (2, 35)
    return known and path.exists() and '[madvise]' in path.read_text()


@pytest.mark.skipif(not has_huge_pages(), reason='Linux and glibc decide otherwise')
def test_a_step_touches_few_pages(tmp_path: Path) -> None:
    command(tmp_path, STEPS)
    few, many = start(tmp_path, '-m', 'command'), start(tmp_path, '-c', STEPS)
    assert 20 * int(few) < int(many)
