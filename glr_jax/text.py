"""Labels and file names as text that a terminal, a table or a message can show."""

import unicodedata

# They reorder the text around them, so a name could pose as another one.
_BIDI_CONTROLS = frozenset(
    '\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069'
)
_ESCAPED = ('Cc', 'Cs', 'Zl', 'Zp')  # control characters, lone surrogates, line separators


def printable(text: str) -> str:
    r"""The text with everything escaped that could move the cursor, as `\n` or `\x1b`.

    Bytes of a file name that are not UTF-8, which Python keeps as lone surrogates, become `\udcXX`.
    """
    if text.isascii() and text.isprintable():
        return text
    return ''.join(_escape(character) for character in text)


def _escape(character: str) -> str:
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


def counted(count: int, noun: str) -> str:
    """A number with its noun: `1 device`, `2 devices`."""
    return f'{count} {noun}{"" if count == 1 else "s"}'
