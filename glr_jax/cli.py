"""Command lines: a frozen dataclass becomes absl flags, flags become the dataclass again.

A nested dataclass is a section: field `norm` of section `model` is the flag `--model.norm`.
Flagfiles are absl's (`--flagfile=experiments/demo.flags`), and a flag after one overrides it.
"""

import dataclasses
import operator
import os
import sys
import textwrap
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from absl import flags, logging

ConfigT = TypeVar('ConfigT')


class UserError(Exception):
    """A failure that the user can mend; the message is the one line that they see."""

    exit_code = 1


class UsageError(UserError):
    """A command line that cannot be understood."""

    exit_code = 2


def option(default: Any, help: str, minimum: float | None = None) -> Any:
    """Declares a dataclass field that is a flag, with its help text and least value."""
    metadata = {'help': help, 'minimum': minimum}
    return dataclasses.field(default=default, metadata=metadata)


def section(config_class: type, prefix: str | None = None) -> Any:
    """Declares a dataclass field that is a section of flags, named `field.` or by `prefix`."""
    return dataclasses.field(default_factory=config_class, metadata={'prefix': prefix})


def parse(config_class: type[ConfigT], argv: Sequence[str], usage: str) -> ConfigT:
    """Reads a command line of flags alone: `parse_with_arguments`, which are refused."""
    config, arguments = parse_with_arguments(config_class, argv, usage)
    if arguments:
        raise UsageError(f'unexpected argument {arguments[0]!r}: values are given by --flag=value')
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
      UsageError: an unknown flag, a value out of range, a flagfile that is not there.
    """
    if any(arg in ('--help', '-h') for arg in argv[1:]):
        print(_help(config_class, usage))
        raise SystemExit(0)
    values = flags.FlagValues()
    flags.DEFINE_string('flagfile', '', 'reads flags from a file', flag_values=values)
    for name, field, kind in _leaves(config_class):
        _define(name, field, kind, values)
    try:
        positional = values(list(argv))[1:]
        return _build(config_class, '', values), positional
    except flags.CantOpenFlagFileError as error:
        raise UsageError(f'cannot open the flagfile: {error.__context__}') from None
    except UnicodeDecodeError as error:
        raise UsageError(f'a flagfile is not text: {error}') from None
    except flags.Error as error:
        raise UsageError(f'{error} (--help lists the flags)') from None


def need(config: Any, *names: str) -> None:
    """Raises `UsageError` for flags that have to be given and are not: 'out', 'data.dir'."""
    for name in names:
        if not operator.attrgetter(name)(config):
            raise UsageError(f'--{name} is needed (--help says what it is)')


def refuse(config: Any, taken: dict[str, str]) -> None:
    """Makes sure that flags which a study sets itself are not given as well.

    Args:
      config: a section-holding dataclass, from `parse`.
      taken: the flag to give instead, by the flag that is taken: {'data.split': '--protocol'}.

    Raises:
      UsageError: a taken flag differs from its default.
    """
    for name, instead in taken.items():
        section, _, field = name.partition('.')
        given = getattr(config, section)
        if getattr(given, field) != getattr(type(given)(), field):
            raise UsageError(f'--{name} is set by this study itself; give {instead}')


def run(main: Callable[[list[str]], None]) -> None:
    """Calls `main(sys.argv)` and ends the program: 0, or one line on stderr and 1 or 2."""
    logging.set_verbosity(logging.ERROR)  # what libraries say to developers
    name = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    package = os.path.basename(os.path.dirname(sys.argv[0]))
    label = package if name == '__main__' else f'{package}.{name}'
    try:
        main(sys.argv)
    except UserError as error:
        print(f'{label}: {error}', file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print(f'{label}: interrupted; the same command goes on from here', file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a full disk, a folder that may not be written
        print(f'{label}: {error.filename or "input/output"}: {error.strerror}', file=sys.stderr)
        sys.exit(1)


def status(message: str) -> None:
    """Says what goes on, on stderr: stdout is for results."""
    print(message, file=sys.stderr, flush=True)


def to_dict(config: Any) -> dict[str, Any]:
    """The config as plain JSON values, section by section."""
    return dataclasses.asdict(config)


def from_dict(config_class: type[ConfigT], values: dict[str, Any]) -> ConfigT:
    """The config that `to_dict` wrote, after a way through JSON."""
    kinds, known = typing.get_type_hints(config_class), {}
    for field in dataclasses.fields(config_class):  # type: ignore[arg-type]
        if field.name in values:
            value, kind = values[field.name], kinds[field.name]
            if dataclasses.is_dataclass(kind):
                value = from_dict(kind, value)  # type: ignore[arg-type]
            elif typing.get_origin(kind) is tuple:
                value = tuple(value)
            known[field.name] = value
    return config_class(**known)


def _leaves(config_class: type, prefix: str = '') -> Iterator[tuple[str, dataclasses.Field, Any]]:
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
    help, minimum = field.metadata['help'], field.metadata['minimum']
    if typing.get_origin(kind) is typing.Literal:
        choices = list(typing.get_args(kind))
        flags.DEFINE_enum(name, default, choices, help, flag_values=values)
    elif typing.get_origin(kind) is tuple:
        parser = _TupleParser(typing.get_args(kind)[0], minimum)
        flags.DEFINE(parser, name, default, help, values, _TupleSerializer())
    elif kind is bool:
        flags.DEFINE_bool(name, default, help, flag_values=values)
    elif kind is int:
        flags.DEFINE_integer(name, default, help, lower_bound=minimum, flag_values=values)
    elif kind is float:
        flags.DEFINE_float(name, default, help, lower_bound=minimum, flag_values=values)
    else:
        flags.DEFINE_string(name, default, help, flag_values=values)


class _TupleParser(flags.ArgumentParser):
    """Comma-separated values of one type."""

    def __init__(self, kind: Callable[[str], Any], minimum: float | None):
        self.kind, self.minimum = kind, minimum

    def parse(self, argument: Any) -> tuple:
        if isinstance(argument, tuple):
            return argument
        items = tuple(self.kind(item) for item in argument.split(','))
        if self.minimum is not None and min(items) < self.minimum:
            raise ValueError(f'every value must be at least {self.minimum}')
        return items

    def flag_type(self) -> str:
        return 'comma-separated values'


class _TupleSerializer(flags.ArgumentSerializer):
    def serialize(self, value: tuple) -> str:
        return ','.join(map(str, value))


def _build(config_class: type, prefix: str, values: flags.FlagValues) -> Any:
    kinds = typing.get_type_hints(config_class)
    return config_class(
        **{
            field.name: _build(kinds[field.name], _section_prefix(prefix, field), values)
            if dataclasses.is_dataclass(kinds[field.name])
            else values[prefix + field.name].value
            for field in dataclasses.fields(config_class)
        }
    )


def _help(config_class: type, usage: str) -> str:
    lines = [textwrap.dedent(usage).strip(), '', 'flags:']
    section_of_last = ''
    for name, field, kind in _leaves(config_class):
        if name.rpartition('.')[0] != section_of_last:
            section_of_last = name.rpartition('.')[0]
            lines.append('')
        value = field.default
        if isinstance(value, tuple):
            value = ','.join(map(str, value))
        text = field.metadata['help']
        if typing.get_origin(kind) is typing.Literal:
            text = f'{"|".join(typing.get_args(kind))}: {text}'
        if value not in ('', None):
            text += f' [{value}]'
        head = f'  --{name}'.ljust(28)
        if len(head) > 28:
            lines.append(head)
            head = ' ' * 28
        lines += textwrap.wrap(text, 96, initial_indent=head, subsequent_indent=' ' * 28)
    lines += ['', '  --flagfile=FILE           reads flags from a file; flags after it override it']
    return '\n'.join(lines)
