"""Flagfiles: `--flagfile=FILE` stands for the flags in a file, one per line.

A line is used as it is written, except that ` # ...` begins a comment and that quotes around a
value, or around the whole flag, are removed. `~` and `$VAR` are expanded in paths alone.
"""

import os
import re
from collections.abc import Sequence

from glr_jax.errors import UsageError
from glr_jax.text import shorten

MAX_CHARACTERS = 1 << 20
LONGEST = 100  # characters of a flag's name
# A flag, with its value perhaps in quotes, and perhaps a comment.
_QUOTED = re.compile(
    r"""(?P<flag>--?[^\s=]+=)(?P<quote>["'])(?P<value>.*?)(?P=quote)\s*(?:\s#.*)?"""
)
_WHOLE = re.compile(r"""(?P<quote>["'])(?P<line>-.*?)(?P=quote)\s*(?:\s#.*)?""")


class Line(str):
    """A flag that stands in a flagfile, not on the command line itself."""


def expand(arguments: Sequence[str], folder: str = '', inside: tuple[str, ...] = ()) -> list[str]:
    """The arguments with the lines of each flagfile in place of its `--flagfile=FILE`.

    These lines are of type `Line`.

    Args:
      arguments: of a command line, or the lines of a flagfile.
      folder: of that flagfile. A file that it names is looked for there first, then in the
        current folder.
      inside: the flagfiles that are being read.

    Raises:
      UsageError: a flagfile cannot be read, includes itself, or has a line that is not a flag.
    """
    expanded: list[str] = []
    todo = list(arguments)
    while todo:
        argument = todo.pop(0)
        if argument == '--':
            return [*expanded, argument, *todo]
        name, equals, value = argument.partition('=')
        if name.startswith('-') and len(name) > LONGEST:  # absl would look for similar ones
            raise UsageError(f'{shorten(name, 60)} is no flag (--help lists the flags)')
        if name not in ('--flagfile', '-flagfile'):
            expanded.append(argument)
            continue
        if not equals:
            value = todo.pop(0) if todo else ''
        if not value:
            raise UsageError('--flagfile needs a file: --flagfile=FILE')
        value = expand_path(value, 'flagfile')
        beside = os.path.join(folder, value)
        path = os.path.abspath(beside if os.path.exists(beside) else value)
        if path in inside:
            raise UsageError(f'--flagfile={value} includes itself')
        lines = _read(path, value)
        expanded += expand(lines, os.path.dirname(path), (*inside, path))
    return expanded


def expand_path(path: str, flag: str) -> str:
    """A path with `~` at its start and `$VAR` or `${VAR}` replaced, unless it exists as written.

    Args:
      path: the value of a flag.
      flag: its name, for the error.

    Raises:
      UsageError: a variable is not set, or there is no such home folder.
    """
    if ('$' not in path and not path.startswith('~')) or os.path.exists(path):
        return path
    expanded = os.path.expanduser(path)
    if expanded.startswith('~'):
        raise UsageError(
            f'--{flag}={path}: there is no home folder {expanded.split("/")[0]}; write the path in '
            'full'
        )
    for match in re.finditer(r'\$(\w+|\{[^}]*\})', expanded):
        variable = match[1].strip('{}')
        if variable not in os.environ:
            raise UsageError(f'--{flag}={path}: {variable} is not set; write the path in full')
    return os.path.expandvars(expanded)


def _read(path: str, name: str) -> list[str]:
    """The flags in a flagfile."""
    try:
        with open(path, encoding='utf-8-sig') as file:
            text = file.read(MAX_CHARACTERS + 1)
    except OSError as error:
        raise UsageError(f'--flagfile={name} cannot be opened: {error.strerror}') from None
    except UnicodeDecodeError as error:
        raise UsageError(f'--flagfile={name} is not text in UTF-8: {error}') from None
    if len(text) > MAX_CHARACTERS:
        raise UsageError(f'--flagfile={name} is longer than a MiB, so it is no flagfile')
    lines = [line.strip() for line in text.split('\n')]
    return [Line(_flag(line, name)) for line in lines if line and not line.startswith(('#', '//'))]


def _flag(line: str, name: str) -> str:
    """The flag of a line, without quotes and comment."""
    shown = repr(shorten(line, 200))
    if not line.replace('\t', ' ').isprintable():
        raise UsageError(f'--flagfile={name} has a line with a control character: {shown}')
    if whole := _WHOLE.fullmatch(line):
        return whole['line']
    if quoted := _QUOTED.fullmatch(line):
        return quoted['flag'] + quoted['value']
    plain = re.split(r'\s#', line, maxsplit=1)[0].rstrip()
    if not plain.startswith('-'):
        raise UsageError(f'--flagfile={name} has a line that is not a flag: {shown}')
    flag, space, rest = plain.partition(' ')
    if space and '=' not in flag:
        shown, flag, rest = repr(shorten(plain, 200)), shorten(flag, 80), shorten(rest.strip(), 80)
        raise UsageError(f'--flagfile={name}: write {flag}={rest}, not {shown}')
    if re.match(r"""[^=]*=["']""", plain):
        raise UsageError(f'--flagfile={name} has a quote that is not closed: {shown}')
    return plain
