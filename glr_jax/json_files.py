"""JSON files that may be damaged: each fault is one line with the file and the remedy."""

import hashlib
import json
import math
import os
import stat
from typing import Any

from glr_jax import storage
from glr_jax.errors import UserError
from glr_jax.text import printable

MAX_BYTES = 64 << 20  # of a whole file
CHECKSUM = 'checksum'


def read_bytes(path: str, at_most: int = MAX_BYTES) -> bytes:
    """The content of a small file.

    Args:
      path: of a regular file; a pipe or a device would block or never end.
      at_most: the largest size allowed, in bytes.

    Raises:
      UserError: the file is not a regular one, or is too large.
      OSError: it cannot be read.
    """
    with storage.to_read(path) as local:
        # Without waiting for a writer, if the path is a pipe.
        descriptor = os.open(
            local, os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_BINARY', 0)
        )
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode) or info.st_size > at_most:
            os.close(descriptor)
            if stat.S_ISREG(info.st_mode):
                raise UserError(f'{path} is larger than {at_most >> 20} MiB, the most allowed')
            raise UserError(f'{path} is not a regular file')
        with open(descriptor, 'rb') as file:
            return file.read(at_most)


def read_object(path: str, remedy: str) -> dict[str, Any]:
    """The JSON object in a file.

    Args:
      path: of the file.
      remedy: what to do if it is damaged, as `prepare the dataset again`.

    Raises:
      UserError: the file is damaged.
      OSError: it cannot be read.
    """
    return parse_object(read_bytes(path), path, remedy)


def parse_object(content: bytes, name: str, remedy: str) -> dict[str, Any]:
    """A JSON object; `name` and `remedy` are for the error, as in `read_object`."""
    reason = ''
    try:
        values = json.loads(content.decode('utf-8'), parse_constant=_refuse)
        if not isinstance(values, dict):
            reason = f'a {type(values).__name__} instead of an object'
        elif not _finite(values):
            reason = 'a number is too large'
    except UnicodeDecodeError as error:
        reason = f'byte {error.start} is not UTF-8'
    except RecursionError:
        reason = 'its values are nested too deeply'
    except ValueError as error:  # JSONDecodeError is one, and so are numbers of 5,000 digits
        reason = str(error) if content.strip() else 'it is empty'
    if reason:
        raise UserError(f'{name} is damaged: {printable(reason)}; {remedy}')
    return values


def write(path: str, values: Any) -> None:
    """Writes values as JSON; if that fails, `path` stays as it was."""
    with storage.to_write(path) as partial, open(partial, 'w') as file:
        json.dump(values, file, indent=2)


def sealed(values: dict[str, Any], *context: Any) -> dict[str, Any]:
    """The values and a checksum of them.

    Args:
      values: to be written as JSON.
      context: further JSON values that the checksum covers, stored elsewhere.
    """
    return values | {CHECKSUM: _checksum(values, context)}


def is_intact(values: dict[str, Any], *context: Any) -> bool:
    """Whether values have the checksum that `sealed` gave them; older files have none."""
    if CHECKSUM not in values:
        return True
    plain = {name: value for name, value in values.items() if name != CHECKSUM}
    return values[CHECKSUM] == _checksum(plain, context)


def _checksum(values: dict[str, Any], context: tuple[Any, ...]) -> str:
    content = json.dumps([values, *context], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _refuse(constant: str) -> Any:
    raise ValueError(f'{constant} is not a finite number')


def _finite(value: Any) -> bool:
    """Whether no number became infinite, as 1e999 does."""
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    if isinstance(value, list):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def is_count(value: Any) -> bool:
    """Whether a value is a number of things."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40


def is_share(value: Any) -> bool:
    """Whether a value is a number from 0 to 1."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def is_close(found: Any, expected: Any) -> bool:
    """Whether a value is what is expected, numbers up to rounding."""
    if expected is None:
        return found is None
    if isinstance(expected, dict):
        same = isinstance(found, dict) and list(found) == list(expected)
        return same and all(is_close(found[name], expected[name]) for name in expected)
    if isinstance(expected, list | tuple):
        same = isinstance(found, list) and len(found) == len(expected)
        return same and all(map(is_close, found, expected))
    if isinstance(expected, str):
        return bool(found == expected)
    number = isinstance(found, int | float) and not isinstance(found, bool)
    return number and expected - 1e-9 < found < expected + 1e-9
