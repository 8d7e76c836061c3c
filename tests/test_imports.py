"""The structure: imports point in one direction, and importing has no side effects."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import glr_jax
from tests.conftest import SMALL_RUN

ROOT = Path(__file__).parents[1]
PACKAGES = ('glr_jax', 'data_prep', 'experiments')  # each may import those before it
# What a run on a prepared dataset needs later, if at all; some take half a second to import.
LATER = {
    *('orbax', 'tensorstore', 'scipy.stats', 'scipy.special', 'sklearn', 'matplotlib'),
    *('tensorflow', 'tensorflow_datasets', 'librosa', 'soundfile', 'soxr', 'numba'),
}
MOST_PROGRAMS = 12  # compiled before the first step; to load each takes some 10 ms
# Within glr_jax: (folder or module, what it may not import).
NOT_ALLOWED = [
    ('glr_jax.nn', ('glr_jax.data', 'glr_jax.devices', 'glr_jax.cli', 'glr_jax.storage')),
    ('glr_jax.devices', ('glr_jax.nn', 'glr_jax.data')),
    ('glr_jax.data', ('glr_jax.nn',)),
    *(
        (ground, ('glr_jax.nn', 'glr_jax.data', 'glr_jax.devices'))
        for ground in ('glr_jax.errors', 'glr_jax.fields', 'glr_jax.cli', 'glr_jax.storage')
    ),
]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix('').parts
    return '.'.join(part for part in parts if part != '__init__')


MODULES = {module_name(path): path for name in PACKAGES for path in (ROOT / name).rglob('*.py')}


def imported(path: Path) -> Iterator[str]:
    """Our own modules that a file imports anywhere in it, lazily too."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import(names=names):
                found = [name.name for name in names]
            case ast.ImportFrom(module=str(module), names=names, level=0):
                inner = [f'{module}.{name.name}' for name in names]
                found = [name if name in MODULES else module for name in inner]
            case ast.ImportFrom():
                raise AssertionError(f'{path} has a relative import')
            case _:
                continue
        yield from (name for name in found if name.split('.')[0] in PACKAGES)


GRAPH = {name: set(imported(path)) - {name} for name, path in MODULES.items()}
STUDIES = [  # the commands of experiments/
    name
    for name, path in MODULES.items()
    if name.startswith('experiments.') and 'cli.execute(main)' in path.read_text()
]


@pytest.mark.parametrize('name', MODULES)
def test_imports_point_in_one_direction(name: str) -> None:
    rank = PACKAGES.index(name.split('.')[0])
    upwards = {other for other in GRAPH[name] if PACKAGES.index(other.split('.')[0]) > rank}
    assert not upwards


def test_no_modules_import_each_other_in_a_circle() -> None:
    TopologicalSorter(GRAPH).prepare()  # raises CycleError


@pytest.mark.parametrize(('part', 'forbidden'), NOT_ALLOWED)
def test_layers_of_glr_jax(part: str, forbidden: tuple[str, ...]) -> None:
    for name in MODULES:
        if f'{name}.'.startswith(f'{part}.'):
            wrong = [
                m for m in GRAPH[name] if f'{m}.'.startswith(tuple(f'{f}.' for f in forbidden))
            ]
            assert not wrong, f'{name} imports {wrong}'


def python(code: str) -> str:
    return subprocess.check_output([sys.executable, '-c', code], text=True, cwd=ROOT)


def test_importing_glr_jax_imports_nothing_else() -> None:
    code = (
        'import importlib, sys, typing; before = set(sys.modules); import glr_jax; '
        'print(sorted(set(sys.modules) - before))'
    )
    assert python(code).strip() == "['glr_jax']"


def test_public_names_are_found_when_used() -> None:
    for name in glr_jax.__all__:
        assert getattr(glr_jax, name).__name__ == ('Classifier' if name == 'CRNN' else name)
    assert set(glr_jax.__all__) == set(dir(glr_jax))
    with pytest.raises(AttributeError, match='no attribute'):
        _ = glr_jax.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    'command',
    [
        *('glr_jax.train', 'glr_jax.evaluate', 'glr_jax.predict', 'glr_jax.compare'),
        *('glr_jax.export', 'glr_jax.serve'),
        *('data_prep', 'data_prep.inspect'),
        *sorted(name.removesuffix('.__main__') for name in STUDIES),
    ],
)
def test_help_does_not_wait_for_jax(command: str) -> None:
    code = (
        f'import runpy, sys; sys.argv = ["x", "--help"]\n'
        f'try: runpy.run_module("{command}", run_name="__main__")\n'
        'finally: print(sorted({"jax", "numpy", "librosa", "sklearn"} & set(sys.modules)))'
    )
    done = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.startswith('usage:')
    assert done.stdout.endswith('\n[]\n')


@pytest.mark.slow
def test_a_new_run_imports_and_compiles_little_before_its_first_step(
    prepared: Path, tmp_path: Path
) -> None:
    code = f"""
import os, sys
from jax import monitoring
from glr_jax import train
from glr_jax.run.log import Log

compiled = []
def listen(event, *_, **__):
    if event == '/jax/core/compile/backend_compile_duration':
        compiled.append(event)
monitoring.register_event_duration_secs_listener(listen)
def step(*_):
    print(len(compiled), *sorted({LATER} & set(sys.modules)), flush=True)
    os._exit(0)
Log.step = step
train.main(sys.argv)
"""
    flags = [*SMALL_RUN, f'--data.dir={prepared}', f'--workdir={tmp_path / "run"}']
    command = [sys.executable, '-c', code, *flags]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    programs, *names = done.stdout.split()
    assert names == []
    assert 1 <= int(programs) <= MOST_PROGRAMS
