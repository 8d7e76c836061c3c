"""The fields of config dataclasses: declared with help and limits, checked, to JSON and back."""

import dataclasses
import operator
import sys
import typing
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from glr_jax.errors import FieldError

ConfigT = TypeVar('ConfigT')
LARGEST_INT = 2**31 - 1  # JAX computes with 32 bits: a larger number would fail late


def option(
    default: Any,
    help: str,
    minimum: float | None = None,
    *,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    before: Any = None,
    is_path: bool = False,
    instead_of: str = '',
) -> Any:
    """Declares a dataclass field that is a flag.

    Args:
      default: of the field.
      help: one line for `--help`; '' hides the flag there.
      minimum: the smallest value allowed; of a tuple, for each of its values.
      maximum: the largest value allowed.
      above: a bound that the value must exceed.
      below: a bound that the value must stay under.
      before: the value that older runs, without this field, get instead of the default.
      is_path: whether `~` and `$VAR` in a flag's value are expanded.
      instead_of: the field of the same section that this one replaces; a command line cannot give
        both.
    """
    limits = {'minimum': minimum, 'maximum': maximum, 'above': above, 'below': below}
    about = {'help': help, 'before': before, 'is_path': is_path, 'instead_of': instead_of}
    return dataclasses.field(default=default, metadata=about | limits)


def section(config_class: type, prefix: str | None = None, default: Any = None) -> Any:
    """Declares a dataclass field that is a section; its flags begin with `field.` or `prefix`.

    Args:
      config_class: of the section.
      prefix: of its flags; None: the field's name and a dot.
      default: the section if no flag is given; None: the defaults of `config_class`.
    """
    factory = config_class if default is None else lambda: default
    return dataclasses.field(default_factory=factory, metadata={'prefix': prefix})


def check_fields(config: Any) -> None:
    """Checks the type and the limits of every field; meant as a dataclass's `__post_init__`.

    Raises:
      FieldError: a value has the wrong type, is NaN or infinite, or exceeds a limit.
    """
    kinds = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value, kind = getattr(config, field.name), kinds[field.name]
        is_tuple = typing.get_origin(kind) is tuple and isinstance(value, tuple)
        if is_tuple and not value:
            raise FieldError(field.name, '', 'needs at least one value')
        for item in value if is_tuple else (value,):
            reason = _fault(item, typing.get_args(kind)[0] if is_tuple else kind, field.metadata)
            if reason:
                raise FieldError(field.name, text_of(value), reason)


def text_of(value: Any) -> str:
    """A value as it is written in a flag."""
    return ','.join(map(str, value)) if isinstance(value, tuple) else str(value)


def to_dict(config: Any) -> dict[str, Any]:
    """The config as plain JSON values, section by section."""
    return dataclasses.asdict(config)


def flags_of(config: Any) -> dict[str, Any]:
    """The config as {flag: value}, in order: {'model.norm': 'glr', ...}."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value, prefix = getattr(config, field.name), field.metadata.get('prefix')
        if dataclasses.is_dataclass(value):
            prefix = f'{field.name}.' if prefix is None else prefix
            found |= {prefix + name: inner for name, inner in flags_of(value).items()}
        else:
            found[field.name] = value
    return found


def leaves(
    config_class: type, prefix: str = '', defaults: Any = None
) -> Iterator[tuple[str, dataclasses.Field, Any, Any]]:
    """(flag, field, type, default) of every field that is not a section, in sections too.

    Args:
      config_class: a dataclass whose fields are made by `option` and `section`.
      prefix: of the flags.
      defaults: an instance that has the defaults; None: those of the fields.
    """
    kinds = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):
        kind, own = kinds[field.name], getattr(defaults, field.name, field.default)
        if dataclasses.is_dataclass(kind):
            made = field.default_factory() if defaults is None else own  # type: ignore[operator]
            yield from leaves(typing.cast(type, kind), prefix_of(prefix, field), made)
        else:
            yield prefix + field.name, field, kind, own


def prefix_of(prefix: str, field: dataclasses.Field) -> str:
    """What the flags of a section begin with; `prefix` is that of the section around it."""
    own = field.metadata['prefix']
    return prefix + (f'{field.name}.' if own is None else own)


def from_dict(config_class: type[ConfigT], values: Any) -> ConfigT:
    """The config that `to_dict` wrote, also after a round trip through JSON.

    Another version may have written it, so unknown fields are ignored, and missing ones get the
    value that matches how runs behaved before the field existed.

    Raises:
      TypeError: the values are not an object.
      FieldError: a value has the wrong type or exceeds a limit.
    """
    if not isinstance(values, dict):
        raise TypeError(f'expected an object, not {values!r}')
    kinds, known = typing.get_type_hints(config_class), {}
    for field in dataclasses.fields(config_class):  # type: ignore[arg-type]
        if field.name in values:
            value, kind = values[field.name], kinds[field.name]
            if dataclasses.is_dataclass(kind):
                try:
                    value = from_dict(kind, value)  # type: ignore[arg-type]
                except FieldError as error:
                    raise error.inside(f'{field.name}.') from None
            elif typing.get_origin(kind) is tuple:
                value = tuple(value)
            known[field.name] = value
        elif field.metadata.get('before') is not None:
            known[field.name] = field.metadata['before']
    return config_class(**known)


def _fault(value: Any, kind: Any, metadata: Any) -> str:
    """Why a value does not fit its field; '' if it does."""
    if typing.get_origin(kind) is typing.Literal:
        choices = typing.get_args(kind)
        return '' if value in choices else f'is not one of {", ".join(choices)}'
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not abs(value) <= sys.float_info.max:  # NaN compares as false
            return 'must be a finite number'
    elif not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        return f'must be of type {kind.__name__}'
    elif kind is str and '\0' in value:
        return 'must have no NUL character'
    limits: dict[str, tuple[Callable, str]] = {
        'minimum': (operator.ge, 'at least'),
        'maximum': (operator.le, 'at most'),
        'above': (operator.gt, 'greater than'),
        'below': (operator.lt, 'less than'),
    }
    given = {name: metadata.get(name) for name in limits}
    if kind is int and value > LARGEST_INT and given['maximum'] is given['below'] is None:
        given['maximum'] = LARGEST_INT
    if all(b is None or limits[name][0](value, b) for name, b in given.items()):
        return ''
    return 'must be ' + ' and '.join(
        f'{limits[name][1]} {bound}' for name, bound in given.items() if bound is not None
    )
