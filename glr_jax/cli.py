"""Command lines: a config dataclass becomes absl flags, and flags become the dataclass again.

A nested dataclass is a section: field `norm` of section `model` is the flag `--model.norm`.
`--flagfile=FILE` reads flags from a file, one per line; flags after it override the file's.
"""

import dataclasses
import operator
import os
import shutil
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from absl import flags, logging

from glr_jax.errors import FieldError, UsageError, UserError
from glr_jax.fields import check_fields, text_of

ConfigT = TypeVar('ConfigT')
_HELP_COLUMN = 28


def parse(config_class: type[ConfigT], argv: Sequence[str], usage: str) -> ConfigT:
    """Reads a command line of flags alone: `parse_with_arguments`, but arguments are refused."""
    config, arguments = parse_with_arguments(config_class, argv, usage)
    if arguments:
        raise UsageError(f'unexpected argument {arguments[0]!r}: give values as --flag=value')
    return config


def parse_with_arguments(
    config_class: type[ConfigT], argv: Sequence[str], usage: str
) -> tuple[ConfigT, list[str]]:
    """Reads a command line.

    Args:
      config_class: a frozen dataclass whose fields are made by `option` and `section`.
      argv: the program's name and its arguments, as in `sys.argv`.
      usage: printed above the flags by `--help`, which ends the program.

    Returns:
      The config, and the arguments that are not flags.

    Raises:
      UsageError: a flag is unknown, a value is out of range, or a flagfile cannot be read.
    """
    if any(arg in ('--help', '-h') for arg in argv[1:]):
        print(_help(config_class, usage))
        raise SystemExit(0)
    values = flags.FlagValues()
    values.set_gnu_getopt(True)  # flags may follow arguments
    for name, field, kind in _leaves(config_class):
        _define(name, field, kind, values)
    try:
        arguments = values([argv[0], *_expand_flagfiles(argv[1:])])[1:]
    except flags.Error as error:
        raise UsageError(f'{error} (--help lists the flags)') from None
    return _build(config_class, '', values), arguments


def check_command_line(config_class: type, usage: str) -> None:
    """Answers `--help` and refuses bad flags; for a command to call before it imports JAX."""
    execute(lambda argv: parse_with_arguments(config_class, argv, usage) and None)


def need(config: Any, *names: str) -> None:
    """Raises `UsageError` for required flags that were not given: 'out', 'data.dir'."""
    for name in names:
        if not operator.attrgetter(name)(config):
            raise UsageError(f'--{name} is required (see --help)')


def refuse(config: Any, taken: dict[str, str]) -> None:
    """Makes sure that flags which a study sets itself were not given as well.

    Args:
      config: a dataclass with sections, from `parse`.
      taken: {flag that the study sets: flag to give instead}, as {'data.split': '--protocol'}.

    Raises:
      UsageError: such a flag differs from its default.
    """
    for name, instead in taken.items():
        section, _, field = name.partition('.')
        given = getattr(config, section)
        if getattr(given, field) != getattr(type(given)(), field):
            raise UsageError(f'--{name} is set by the study itself; use {instead} instead')


def execute(main: Callable[[list[str]], None]) -> None:
    """Calls `main(sys.argv)`; a `UserError` becomes one line on stderr and exit code 1 or 2."""
    logging.set_verbosity(logging.ERROR)  # hide messages that libraries mean for developers
    spec = sys.modules['__main__'].__spec__
    name = spec.name.removesuffix('.__main__') if spec else os.path.basename(sys.argv[0])
    try:
        main(sys.argv)
    except UserError as error:
        print(f'{name}: {error}', file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print(f'{name}: interrupted; run the same command again to resume', file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of the output has closed it, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a full disk, a folder without write permission
        print(f'{name}: {error.filename or "input/output"}: {error.strerror}', file=sys.stderr)
        sys.exit(1)


def status(message: str) -> None:
    """Prints a line of progress on stderr; stdout is for results."""
    print(message, file=sys.stderr, flush=True)


def _leaves(config_class: type, prefix: str = '') -> Iterator[tuple[str, dataclasses.Field, Any]]:
    """(flag, field, type) of every field that is not a section."""
    kinds = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        kind = kinds[field.name]
        if dataclasses.is_dataclass(kind):
            yield from _leaves(typing.cast(type, kind), _section_prefix(prefix, field))
        else:
            yield prefix + field.name, field, kind


def _section_prefix(prefix: str, field: dataclasses.Field) -> str:
    own = field.metadata['prefix']
    return prefix + (f'{field.name}.' if own is None else own)


def _define(name: str, field: dataclasses.Field, kind: Any, values: flags.FlagValues) -> None:
    default: Any = field.default
    help = field.metadata['help']
    if typing.get_origin(kind) is typing.Literal:
        choices = list(typing.get_args(kind))
        flags.DEFINE_enum(name, default, choices, help, flag_values=values)
    elif typing.get_origin(kind) is tuple:
        parser = _TupleParser(typing.get_args(kind)[0])
        flags.DEFINE(parser, name, default, help, values, _TupleSerializer())
    elif kind is bool:
        flags.DEFINE_bool(name, default, help, flag_values=values)
    elif kind is int:
        flags.DEFINE_integer(name, default, help, flag_values=values)
    elif kind is float:
        flags.DEFINE_float(name, default, help, flag_values=values)
    else:
        flags.DEFINE_string(name, default, help, flag_values=values)


class _TupleParser(flags.ArgumentParser):
    """Comma-separated values of one type or of a `Literal`."""

    def __init__(self, kind: Any):
        self.kind, self.choices = kind, typing.get_args(kind)

    def parse(self, argument: Any) -> tuple:
        if isinstance(argument, tuple):
            return argument
        items = argument.split(',')
        for item in items:
            if self.choices and item not in self.choices:
                raise ValueError(f'{item} is not one of {", ".join(self.choices)}')
        return tuple(items) if self.choices else tuple(map(self.kind, items))

    def flag_type(self) -> str:
        return 'comma-separated values'


class _TupleSerializer(flags.ArgumentSerializer):
    def serialize(self, value: tuple) -> str:
        return text_of(value)


def _expand_flagfiles(
    arguments: Sequence[str], folder: str = '', inside: tuple[str, ...] = ()
) -> list[str]:
    """The arguments with the lines of each flagfile in place of its `--flagfile=FILE`.

    Args:
      arguments: of a command line, or the lines of a flagfile.
      folder: of that flagfile. A file that it names is looked for there first, then in the
        current folder.
      inside: the flagfiles that are being read.
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
        if not equals and todo:
            value = todo.pop(0)
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
        expanded += _expand_flagfiles(lines, os.path.dirname(path), (*inside, path))
    return expanded


def _build(config_class: type, prefix: str, values: flags.FlagValues) -> Any:
    kinds, given = typing.get_type_hints(config_class), {}
    for field in dataclasses.fields(config_class):
        if dataclasses.is_dataclass(kinds[field.name]):
            inner = _section_prefix(prefix, field)
            given[field.name] = _build(kinds[field.name], inner, values)
        else:
            given[field.name] = values[prefix + field.name].value
    try:
        config = config_class(**given)
        check_fields(config)
    except FieldError as error:
        raise error.inside(prefix) from None
    return config


def _help(config_class: type, usage: str) -> str:
    width = max(60, min(100, shutil.get_terminal_size().columns))
    lines = [textwrap.dedent(usage).strip(), '', 'flags:']
    section_of_last = ''
    for name, field, kind in _leaves(config_class):
        if name.rpartition('.')[0] != section_of_last:
            section_of_last = name.rpartition('.')[0]
            lines.append('')
        text = field.metadata['help']
        if typing.get_origin(kind) is typing.Literal:
            text = f'{"|".join(typing.get_args(kind))}: {text}'
        if field.default not in ('', None):
            text += f' [{text_of(field.default)}]'
        lines += _flag_lines(name, text, width)
    text = 'read flags from a file, one per line; flags after it override the file'
    return '\n'.join([*lines, '', *_flag_lines('flagfile=FILE', text, width)])


def _flag_lines(name: str, text: str, width: int) -> list[str]:
    """A flag and its help in two columns; a long flag has a line to itself."""
    head, indent = f'  --{name}', ' ' * _HELP_COLUMN
    if len(head) > _HELP_COLUMN - 2:
        body = textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)
        return [head, *body]
    return textwrap.wrap(
        text, width, initial_indent=head.ljust(_HELP_COLUMN), subsequent_indent=indent
    )
