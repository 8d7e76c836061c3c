"""The tests under each Python version: `python3 -m tests.versions lock` or `test`.

  lock             installs the newest packages that pyproject.toml allows, under each version, and
                   writes them to tests/constraints.txt, which the README's commands give to pip
  test [FLAG ...]  installs those of tests/constraints.txt and runs pytest with these flags

The virtual environments are in $VENVS, or in glr_jax-venvs in the folder of temporary files.
VERSIONS selects some versions for `test`, e.g. VERSIONS='3.12 3.13'.
"""

import itertools
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / 'tests' / 'constraints.txt'
VERSIONS = ('3.11', '3.12', '3.13')
HEAD = '# Written by `python3 -m tests.versions lock`: the versions that the tests run with.\n'
Pins = dict[str, str]  # {package: version}


def interpreter(version: str) -> str | None:
    """A Python of this version, from PATH or pyenv; None if there is none."""
    pyenv = Path(os.environ.get('PYENV_ROOT', Path.home() / '.pyenv')) / 'versions'
    for program in (f'python{version}', *sorted(map(str, pyenv.glob(f'{version}.*/bin/python3')))):
        code = 'import ensurepip, sys; print(sys.executable)'
        try:
            found = subprocess.run([program, '-c', code], capture_output=True, text=True)
        except OSError:
            continue
        if not found.returncode:  # pyenv has a program for each version, also for unusable ones
            return found.stdout.strip()
    return None


def environment(version: str, *, locked: bool) -> str:
    """Makes or updates the virtual environment of a version; returns its Python."""
    program = interpreter(version)
    if program is None:
        sys.exit(f'tests.versions: Python {version} was not found; install it, or set VERSIONS')
    venvs = Path(os.environ.get('VENVS', os.path.join(tempfile.gettempdir(), 'glr_jax-venvs')))
    folder = venvs / version
    python = str(folder / 'bin' / 'python')
    subprocess.run([program, '-m', 'venv', *([] if locked else ['--clear']), folder], check=True)
    pip = [python, '-m', 'pip', 'install', '-q', '--disable-pip-version-check']
    pip += ['-e', '.[test,slow]']
    subprocess.run([*pip, *(['-c', CONSTRAINTS] if locked else [])], cwd=ROOT, check=True)
    return python


def installed(python: str) -> Pins:
    """The packages of an environment, without this project itself."""
    freeze = [python, '-m', 'pip', 'freeze', '--exclude-editable', '--disable-pip-version-check']
    text = subprocess.run(freeze, capture_output=True, text=True, check=True).stdout
    return dict(re.findall(r'^([\w.-]+)==(\S+)$', text, re.M))


def merged(pins: Mapping[str, Pins]) -> list[str]:
    """Lines of one constraints file for all versions.

    Args:
      pins: the packages under each Python version, the oldest first.
    """
    lines, versions = [], list(pins)
    for name in sorted({name for found in pins.values() for name in found}, key=str.lower):
        for pin, group in itertools.groupby(versions, key=lambda version: pins[version].get(name)):
            under = list(group)
            if pin is None:
                continue
            major, minor = under[-1].split('.')
            # Without a lower limit, pip under an older Python would not say that this is why.
            newer = f'{major}.{int(minor) + 1}'
            marker = f"python_version >= '{under[0]}' and python_version < '{newer}'"
            lines.append(f'{name}=={pin}; {marker}')
    return lines


def test(versions: Sequence[str], flags: Sequence[str]) -> int:
    """Runs the tests under each version; returns how many versions failed."""
    failed = []
    for version in versions:
        python = environment(version, locked=True)
        print(f'Python {version}, jax {installed(python)["jax"]}:', flush=True)
        if subprocess.run([python, '-m', 'pytest', *flags], cwd=ROOT).returncode:
            failed.append(version)
    print(f'failed under Python {", ".join(failed)}' if failed else 'passed under all versions')
    return len(failed)


def main() -> int:
    """Runs the command line."""
    match sys.argv[1:]:
        case ['lock']:
            pins = {version: installed(environment(version, locked=False)) for version in VERSIONS}
            CONSTRAINTS.write_text(HEAD + '\n'.join(merged(pins)) + '\n')
            return 0
        case ['test', *flags]:
            return test(os.environ.get('VERSIONS', ' '.join(VERSIONS)).split(), flags)
        case _:
            print(__doc__, file=sys.stderr)
            return 2


if __name__ == '__main__':
    sys.exit(main())
