"""Versions of packages: every one has limits, and the tests run with the stated ones."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import versions

PROJECT = tomllib.loads((versions.ROOT / 'pyproject.toml').read_text())
EXTRAS = PROJECT['project']['optional-dependencies']
NEEDED = [*PROJECT['build-system']['requires'], *PROJECT['project']['dependencies']]
PINS = [Requirement(line) for line in versions.CONSTRAINTS.read_text().splitlines()[1:]]


ALL = {*NEEDED, *(text for extra in EXTRAS.values() for text in extra)}
OTHERS = sorted(text for text in ALL if not text.startswith('glr-jax['))  # extras of extras


@pytest.mark.parametrize('text', OTHERS)
def test_every_requirement_has_a_lowest_and_a_highest_version(text: str) -> None:
    operators = {specifier.operator for specifier in Requirement(text).specifier}
    assert operators == {'>=', '<'}


@pytest.mark.parametrize('version', versions.VERSIONS)
@pytest.mark.parametrize('text', [*PROJECT['project']['dependencies'], *EXTRAS['test']])
def test_the_constraints_have_every_package_within_its_limits(text: str, version: str) -> None:
    wanted = Requirement(text)
    environment = {**default_environment(), 'python_version': version}
    (pin,) = [
        pin
        for pin in PINS
        if canonicalize_name(pin.name) == canonicalize_name(wanted.name)
        and pin.marker
        and pin.marker.evaluate(environment)
    ]
    assert wanted.specifier.contains(str(pin.specifier).removeprefix('=='))


def test_constraints_of_several_versions_are_merged() -> None:
    pins = {
        '3.11': {'one': '1', 'two': '1', 'three': '1'},
        '3.12': {'one': '1', 'two': '2'},
        '3.13': {'one': '1', 'two': '2', 'three': '1', 'four': '4'},
    }
    assert versions.merged(pins) == [
        "four==4; python_version >= '3.13' and python_version < '3.14'",
        "one==1; python_version >= '3.11' and python_version < '3.14'",
        "three==1; python_version >= '3.11' and python_version < '3.12'",
        "three==1; python_version >= '3.13' and python_version < '3.14'",
        "two==1; python_version >= '3.11' and python_version < '3.12'",
        "two==2; python_version >= '3.12' and python_version < '3.14'",
    ]


def test_the_running_python_is_found_among_the_interpreters() -> None:
    version = '{}.{}'.format(*sys.version_info)
    found = versions.interpreter(version)
    if found is None:
        pytest.skip(f'neither PATH nor pyenv has python{version}')
    code = 'import sys; print("{}.{}".format(*sys.version_info))'
    said = subprocess.run([found, '-c', code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == version
    assert versions.interpreter('3.99') is None


@pytest.mark.parametrize(
    'category', ['DeprecationWarning', 'PendingDeprecationWarning', 'FutureWarning']
)
@pytest.mark.parametrize('module', ['glr_jax.nn.glr', 'data_prep.pool', 'experiments.paper'])
def test_deprecations_of_our_own_code_fail_a_test(
    category: str, module: str, tmp_path: Path
) -> None:
    """A test whose module has the name of ours, and one of a library's."""
    code = 'import warnings\ndef {}(): exec("warnings.warn(\'old\', {})", {{**globals(), **{}}})\n'
    for name, test in ((module, 'test_ours'), ('librosa', 'test_of_a_library')):
        variables = {'__name__': name}
        (tmp_path / f'{test}.py').write_text(code.format(test, category, variables))
    config = versions.ROOT / 'pyproject.toml'
    command = [sys.executable, '-m', 'pytest', '-c', config, f'--rootdir={tmp_path}', tmp_path]
    done = subprocess.run(
        [*command, '-p', 'no:cacheprovider'], cwd=tmp_path, capture_output=True, text=True
    )
    assert '1 failed, 1 passed' in done.stdout
    assert 'test_ours' in done.stdout.rpartition('short test summary')[2]
