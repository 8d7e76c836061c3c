"""Flagfiles: `--flagfile=FILE` stands for the flags in a file, one per line."""

import os
from collections.abc import Sequence

from glr_jax.errors import UsageError


def expand(arguments: Sequence[str], folder: str = '', inside: tuple[str, ...] = ()) -> list[str]:
    """The arguments with the lines of each flagfile in place of its `--flagfile=FILE`.

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
        if name not in ('--flagfile', '-flagfile'):
            expanded.append(argument)
            continue
        if not equals:
            value = todo.pop(0) if todo else ''
        if not value:
            raise UsageError('--flagfile needs a file: --flagfile=FILE')
        beside = os.path.join(folder, value)
        path = os.path.abspath(beside if os.path.exists(beside) else value)
        if path in inside:
            raise UsageError(f'--flagfile={value} includes itself')
        try:
            with open(path, encoding='utf-8-sig') as file:
                lines = [line.strip() for line in file]
        except OSError as error:
            raise UsageError(f'--flagfile={value} cannot be opened: {error.strerror}') from None
        except UnicodeDecodeError as error:
            raise UsageError(f'--flagfile={value} is not text: {error}') from None
        lines = [line for line in lines if line and not line.startswith(('#', '//'))]
        for line in lines:
            if not line.startswith('-'):
                raise UsageError(f'--flagfile={value} has a line that is not a flag: {line!r}')
            flag, space, rest = line.partition(' ')
            if space and '=' not in flag:
                raise UsageError(f'--flagfile={value}: write {flag}={rest.strip()}, not {line!r}')
        expanded += expand(lines, os.path.dirname(path), (*inside, path))
    return expanded
