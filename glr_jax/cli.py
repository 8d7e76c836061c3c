"""Command lines: a config dataclass becomes absl flags, and flags become the dataclass again.

A nested dataclass is a section: field `norm` of section `model` is the flag `--model.norm`.
`--flagfile=FILE` reads flags from a file, one per line; flags after it override the file's.
"""

import dataclasses
import gc
import io
import operator
import os
import sys
import typing
from collections.abc import Callable, Mapping, Sequence
from logging import CRITICAL, getLogger
from typing import Any, TypeVar

from absl import flags, logging

from glr_jax import flagfiles, signals
from glr_jax.errors import AGAIN, FieldError, UsageError, UserError
from glr_jax.fields import check_fields, leaves, prefix_of, text_of
from glr_jax.flag_help import flag_help
from glr_jax.text import printable

ConfigT = TypeVar('ConfigT')


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
    if _asks_for_help(argv):
        print(flag_help(config_class, usage))
        raise SystemExit(0)
    values = flags.FlagValues()
    values.set_gnu_getopt(True)  # flags may follow arguments
    for name, field, kind, default in leaves(config_class):
        _define(name, field.metadata, kind, default, values)
    try:
        given = _without_replaced(config_class, flagfiles.expand(argv[1:]))
        arguments = values([argv[0], *given])[1:]
    except flags.Error as error:
        raise UsageError(f'{error} (--help lists the flags)') from None
    return _build(config_class, '', values), arguments


def _without_replaced(config_class: type, arguments: list[str]) -> list[str]:
    """Of two flags of which one replaces the other, the command line's overrides a flagfile's.

    Raises:
      UsageError: both are on the command line, or both in flagfiles.
    """
    for name, field, *_ in leaves(config_class):
        if not (other := field.metadata['instead_of']):
            continue
        pair = name, name[: name.rfind('.') + 1] + other
        in_file = [{_in_flagfile(a) for a in arguments if _name(a) == each} for each in pair]
        if in_file[0] & in_file[1]:
            raise UsageError(f'--{pair[1]} and --{pair[0]} exclude each other; give one of them')
        if all(in_file):
            arguments = [a for a in arguments if not (_name(a) in pair and _in_flagfile(a))]
    return arguments


def _name(argument: str) -> str:
    """The name of a flag; '' if it is none."""
    return argument.partition('=')[0].lstrip('-') if argument.startswith('-') else ''


def _in_flagfile(argument: str) -> bool:
    return isinstance(argument, flagfiles.Line)


def check_command_line(config_class: type, usage: str) -> None:
    """Answers `--help` and refuses bad flags; for a command to call before it imports JAX.

    During those imports, Ctrl-C is one line, and Python does not search their objects, nearly all
    of which stay, for garbage: that would take a tenth of a start. Flagfiles are expanded in
    `sys.argv`: one that is a pipe can be read only once.
    """

    def check(argv: list[str]) -> None:
        if not _asks_for_help(argv):
            argv[1:] = flagfiles.expand(argv[1:])
        parse_with_arguments(config_class, argv, usage)

    execute(check, at_once=True)
    gc.disable()  # until `execute` calls the command
    signals.unblock()


def _asks_for_help(argv: Sequence[str]) -> bool:
    return any(argument in ('--help', '-h') for argument in argv[1:])


def need(config: Any, *names: str) -> None:
    """Raises `UsageError` for required flags that were not given: 'out', 'data.dir'."""
    for name in names:
        if not operator.attrgetter(name)(config):
            raise UsageError(f'--{name} is required (see --help)')


def refuse(argv: Sequence[str], taken: dict[str, str]) -> None:
    """Makes sure that flags which a study sets itself were not given as well.

    A flagfile may have them, since it describes a single run; the study then replaces its values.

    Args:
      argv: the program's name and its arguments; flagfiles may be expanded in it.
      taken: {flag that the study sets: flag to give instead}, as {'data.split': '--protocol'}.

    Raises:
      UsageError: such a flag is on the command line.
    """
    for argument in argv[1:]:
        name = _name(argument)
        if name in taken and not _in_flagfile(argument):
            raise UsageError(f'--{name} is set by the study itself; use {taken[name]} instead')


def execute(
    main: Callable[[list[str]], None], *, at_once: bool = False, resumes: bool = False
) -> None:
    """Calls `main(sys.argv)`; a failure that a user can mend is one line on stderr.

    The exit code is 1, 2 if the command line is wrong, or 75 if a signal stopped the command; the
    same command resumes it or starts over.

    Args:
      main: the command.
      at_once: whether signals end it at once, except while it saves; if not, Ctrl-C raises
        KeyboardInterrupt, so that it can clean up.
      resumes: whether it goes on where it was stopped.
    """
    _hide_messages_of_libraries()
    _write_any_text()
    gc.freeze()  # what was imported
    gc.enable()
    name, again = _command(), signals.RESUME_HINT if resumes else signals.AGAIN_HINT
    signals.leaves(lambda: again)
    if at_once:
        signals.leave_at_once(name)
    else:
        signals.raise_interrupts()
    try:
        main(sys.argv)
    except UserError as error:
        _print_line(f'{name}: {error}')
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print(f'{name}: interrupted; {again}', file=sys.stderr)
        sys.exit(AGAIN)
    except BrokenPipeError:  # the reader of the output has closed it, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        _print_line(line)
        sys.exit(1)


def explain(error: Exception) -> str | None:
    """A failure of the machine in one line; None if the program itself is wrong."""
    if isinstance(error, OSError):  # a full disk, a folder without write permission
        reason = error.strerror or str(error)
        return f'{_command()}: {error.filename or "input/output"}: {reason}'
    # From NumPy, or from JAX: a device has too little memory.
    if not isinstance(error, MemoryError) and 'RESOURCE_EXHAUSTED' not in str(error):
        return None
    reason = (str(error) or 'not enough memory').splitlines()[0][:200]
    remedy = 'a larger --train.accumulate, a smaller batch or --data.resident=off needs less'
    return f'{_command()}: out of memory: {reason}; {remedy}'


def _hide_messages_of_libraries() -> None:
    """Hides what libraries tell developers about failures that are reported in one line."""
    logging.set_verbosity(logging.FATAL)
    getLogger('asyncio').setLevel(CRITICAL)
    usual = sys.unraisablehook

    def show(unraisable: Any) -> None:
        # When one array of a checkpoint is damaged, the reads of the others are abandoned.
        if str(unraisable.exc_value) != 'Event loop is closed':
            usual(unraisable)

    sys.unraisablehook = show


def _command() -> str:
    """The name of the running command: `glr_jax.train`."""
    spec = sys.modules['__main__'].__spec__
    return spec.name.removesuffix('.__main__') if spec else os.path.basename(sys.argv[0])


def status(message: str) -> None:
    """Prints a line of progress on stderr; stdout is for results."""
    _print_line(message)


def _print_line(message: str) -> None:
    print(printable(message), file=sys.stderr, flush=True)


def _write_any_text() -> None:
    """Lets names that the locale's encoding lacks, or that are not UTF-8, be printed as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors='backslashreplace')


def _define(
    name: str, metadata: Mapping[str, Any], kind: Any, default: Any, values: flags.FlagValues
) -> None:
    help = metadata['help']
    if kind is bool:
        flag = flags.BooleanFlag(name, default, help)
        flag.parser = _BooleanParser(name)
        flags.DEFINE_flag(flag, values)
    else:
        parser = _Parser(name, kind, metadata['is_path'])
        flags.DEFINE(parser, name, default, help, values, _Serializer())


class _Parser(flags.ArgumentParser):
    """A value of a field's type, or several with commas; says in plain words what is wrong."""

    def __init__(self, name: str, kind: Any, is_path: bool):
        self.name, self.is_path = name, is_path
        self.several = typing.get_origin(kind) is tuple
        self.kind = typing.get_args(kind)[0] if self.several else kind
        self.choices = typing.get_args(self.kind)

    def parse(self, argument: Any) -> Any:
        if not isinstance(argument, str):
            return argument
        if self.several:
            return tuple(map(self.one, argument.split(',') if argument else ()))
        return self.one(argument)

    def one(self, text: str) -> Any:
        if self.choices:
            if text not in self.choices:
                raise FieldError(self.name, text, f'is not one of {", ".join(self.choices)}')
            return text
        if self.is_path:
            return flagfiles.expand_path(text, self.name)
        try:
            return self.kind(text)
        except ValueError:
            number = 'a whole number' if self.kind is int else 'a number'
            raise FieldError(self.name, text, f'must be {number}') from None

    def flag_type(self) -> str:
        return 'value'


class _BooleanParser(flags.BooleanParser):
    def __init__(self, name: str):
        self.name = name

    def parse(self, argument: Any) -> bool:
        try:
            return super().parse(argument)
        except (TypeError, ValueError):
            raise FieldError(self.name, argument, 'must be true or false') from None


class _Serializer(flags.ArgumentSerializer):
    def serialize(self, value: Any) -> str:
        return text_of(value)


def _build(config_class: type, prefix: str, values: flags.FlagValues) -> Any:
    kinds, given = typing.get_type_hints(config_class), {}
    for field in dataclasses.fields(config_class):
        if dataclasses.is_dataclass(kinds[field.name]):
            inner = prefix_of(prefix, field)
            given[field.name] = _build(kinds[field.name], inner, values)
        else:
            given[field.name] = values[prefix + field.name].value
    try:
        config = config_class(**given)
        check_fields(config)
    except FieldError as error:
        raise error.inside(prefix) from None
    return config
