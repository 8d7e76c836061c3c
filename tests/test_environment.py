"""Machines and locales other than a developer's: no home folder, no such device, any encoding."""

import atexit
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest

from glr_jax import caches, train
from glr_jax.train_step import EXPLODED, Totals, has_exploded
from tests.conftest import SMALL_RUN

ROOT = Path(__file__).parents[1]
NOWHERE = f'{__file__}/home'  # below a file: not even root can create it


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def at_exit(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], Any]]:
    """What would run at the end of the process."""
    todo: list[Callable[[], Any]] = []
    register = lambda do, *arguments: todo.append(lambda: do(*arguments))
    monkeypatch.setattr(atexit, 'register', register)
    for name in ('NUMBA_CACHE_DIR', 'MPLCONFIGDIR', 'XDG_CACHE_HOME', 'XDG_CONFIG_HOME'):
        monkeypatch.setenv(name, '')  # restored after the test, also where it was not set
        monkeypatch.delenv(name)
    return todo


def test_without_a_home_folder_caches_are_temporary(
    monkeypatch: pytest.MonkeyPatch, at_exit: list[Callable[[], Any]]
) -> None:
    monkeypatch.setenv('HOME', NOWHERE)
    monkeypatch.setattr(caches, '_beside', lambda package: f'{NOWHERE}/{package}')
    caches.use_writable()
    folder = os.environ['NUMBA_CACHE_DIR']
    assert os.environ['MPLCONFIGDIR'] == folder
    assert os.listdir(folder) == []
    caches.use_writable()  # a worker inherits it
    assert os.environ['NUMBA_CACHE_DIR'] == folder
    for do in at_exit:
        do()
    assert not os.path.exists(folder)


@pytest.mark.parametrize('home', ['', '~'])
def test_a_user_without_a_home_has_a_temporary_cache_folder(
    monkeypatch: pytest.MonkeyPatch, home: str, at_exit: list[Callable[[], Any]]
) -> None:
    monkeypatch.setattr(os.path, 'expanduser', lambda path: home)
    assert caches.user_folder('XDG_CACHE_HOME', '.cache') == ''
    caches.use_writable()
    assert os.path.isdir(os.environ['XDG_CACHE_HOME'])
    for do in at_exit:
        do()


def test_with_a_home_folder_libraries_keep_their_caches_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, at_exit: list[Callable[[], Any]]
) -> None:
    monkeypatch.setenv('HOME', str(tmp_path / 'not' / 'yet'))
    caches.use_writable()
    assert 'NUMBA_CACHE_DIR' not in os.environ
    assert 'MPLCONFIGDIR' not in os.environ
    assert not at_exit


@pytest.mark.parametrize('platform', ['cuda', 'no_such'])
def test_a_platform_without_devices_is_one_line(platform: str) -> None:
    done = command('-m', 'glr_jax.predict', '--workdir=x', 'y', JAX_PLATFORMS=platform)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f'glr_jax.predict: JAX_PLATFORMS={platform}: JAX cannot start: ')
    assert 'set JAX_PLATFORMS=cpu' in line


def test_numbers_have_32_bits_whatever_the_environment_says() -> None:
    code = (
        'from glr_jax.devices import startup; startup.check_devices(); import jax.numpy as jnp;'
        'print(jnp.zeros(1).dtype, jnp.arange(2).dtype)'
    )
    assert command('-c', code, JAX_ENABLE_X64='1').stdout == 'float32 int32\n'


@pytest.mark.slow
@pytest.mark.parametrize('encoding', ['utf-8:strict', 'ascii:strict'])
def test_a_name_that_cannot_be_printed_loses_no_other_file(
    tmp_path: Path, tones: Path, tones_run: Path, encoding: str
) -> None:
    names = [b'caf\xe9.wav', b'new\nline\x1b[2J.wav', '界😀.wav'.encode(), b'plain.wav']
    for name in names:
        shutil.copy(tones / 'low' / '0.wav', os.fsencode(tmp_path) + b'/' + name)
    done = command(
        *('-m', 'glr_jax.predict', f'--workdir={tones_run}', str(tmp_path)),
        PYTHONIOENCODING=encoding,
        PYTHONUTF8='0',
    )
    assert (done.returncode, 'Traceback' in done.stderr) == (0, False)
    lines = done.stdout.splitlines()
    assert len(lines) == len(names)
    for text in (r'caf\xe9.wav', r'new\nline\x1b[2J.wav', 'plain.wav'):
        assert any(line.endswith(text) for line in lines)


@pytest.mark.parametrize(
    ('mean', 'exploded'),
    [(0.0, False), (2.3, False), (EXPLODED, False), (2e3, True), ('inf', True), ('nan', True)],
)
def test_an_absurd_loss_counts_as_exploded(mean: Any, exploded: bool) -> None:
    totals = Totals(jnp.float32(mean) * 8, jnp.float32(1), jnp.float32(8))
    assert has_exploded(totals) == exploded


def test_a_loss_that_explodes_ends_the_run_with_advice(tones_dataset: Path, tmp_path: Path) -> None:
    flags = ['--train.learning_rate=1e6', '--train.schedule=constant', f'--workdir={tmp_path}/run']
    with pytest.raises(train.DivergedError, match=r'the loss exploded .* by step \d+; .*lower'):
        train.main(['train', *SMALL_RUN, *flags, f'--data.dir={tones_dataset}'])
