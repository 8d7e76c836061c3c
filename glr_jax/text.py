"""Labels and file names as text that a terminal, a table or a message can show."""

import re
import unicodedata
from collections.abc import Iterable

# They reorder the text around them, so a name could pose as another one.
_BIDI_CONTROLS = frozenset(
    '\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069'
)
_ESCAPED = ('Cc', 'Cs', 'Zl', 'Zp')  # control characters, lone surrogates, line separators


def printable(text: str) -> str:
    r"""The text with everything escaped that could move the cursor, as `\n` or `\x1b`.

    So are bytes of a file name that are not UTF-8, which Python keeps as lone surrogates: `\xff`.
    """
    if text.isascii() and text.isprintable():
        return text
    return ''.join(_escape(character) for character in text)


def _escape(character: str) -> str:
    if '\udc80' <= character <= '\udcff':
        return f'\\x{ord(character) - 0xDC00:02x}'
    if unicodedata.category(character) in _ESCAPED or character in _BIDI_CONTROLS:
        return character.encode('unicode_escape').decode('ascii')
    return character


def columns(text: str) -> int:
    """How many columns of a terminal a text takes: East Asian characters and emoji take two."""
    return len(text) if text.isascii() else sum(map(_columns_of, text))


def _columns_of(character: str) -> int:
    if unicodedata.category(character) in ('Mn', 'Me', 'Cf'):  # accents, joiners
        return 0
    return 2 if unicodedata.east_asian_width(character) in 'WF' else 1


def shorten(text: str, at_most: int) -> str:
    """The text, or its beginning and an ellipsis if it takes more than `at_most` columns."""
    if columns(text) <= at_most:
        return text
    kept, taken = '', 1
    for character in text:
        taken += _columns_of(character)
        if taken > at_most:
            break
        kept += character
    return kept + '…'


def cell(text: str, width: int, at_most: int = 0) -> str:
    """A text as a cell of a table in a terminal: printable, padded and shortened.

    Args:
      text: any text.
      width: the columns to fill with spaces.
      at_most: the most columns that a longer text may take; 0 = `width`.
    """
    shown = shorten(printable(text), at_most or width)
    return shown + ' ' * (width - columns(shown))


def in_ranges(names: Iterable[str]) -> str:
    """Names in one line; a row of numbered ones as its ends: `random-1 to random-10, official`."""
    rows: list[list[str]] = []
    for name in names:
        stem, dash, number = name.rpartition('-')
        numbered = dash and re.fullmatch('[1-9][0-9]{0,8}', number)
        if numbered and rows and rows[-1][-1] == f'{stem}-{int(number) - 1}':
            rows[-1].append(name)
        else:
            rows.append([name])
    return ', '.join(f'{row[0]} to {row[-1]}' if len(row) > 2 else ', '.join(row) for row in rows)


def counted(count: int, noun: str, form: str = '') -> str:
    """A number with its noun: `1 device`, `2 devices`; `form` as in a format string, e.g. `,`."""
    return f'{count:{form}} {noun}{"" if count == 1 else "s"}'
