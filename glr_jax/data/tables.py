"""CSV tables with a header row, as people edit them: by hand or in a spreadsheet.

UTF-8 with or without a byte order mark; the separator is a comma, a semicolon or a tab. Blank rows
and spaces around names and values do not matter, nor does the case of the expected column names.
"""

import csv
import difflib
import io
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from glr_jax import storage
from glr_jax.errors import UserError
from glr_jax.json_files import read_bytes
from glr_jax.text import counted, shorten

MAX_BYTES = 1 << 30  # a row per clip: 1 GiB are some ten million clips
# What other tools call the sides, in lower case. `eval` is the test side beside `dev`, as in DCASE
# and FSD50K: were it validation, the test clips of such a table would choose the checkpoint.
SIDE_NAMES = {
    **dict.fromkeys(('train', 'training'), 'train'),
    **dict.fromkeys(('validation', 'validate', 'val', 'valid', 'dev'), 'validation'),
    **dict.fromkeys(('test', 'testing', 'eval', 'evaluation'), 'test'),
}
_SEPARATORS = ',;\t'


class Table(NamedTuple):
    """The content of a CSV file.

    Attributes:
      path: of the file.
      columns: the names in the header, in order, with the expected names in their own spelling.
      rows: one dict per row that is not blank.
      lines: the line of the file on which each row begins, from 1.
    """

    path: str
    columns: list[str]
    rows: list[dict[str, str]]
    lines: list[int]

    def unknown(self, known: Collection[str]) -> list[str]:
        """The columns that are not among the known ones."""
        return [name for name in self.columns if name not in known]

    def check_column(self, name: str, flag: str) -> None:
        """Makes sure that there is a column that a flag names.

        Args:
          name: of the column, in the spelling of `columns`.
          flag: as `--label_column`.

        Raises:
          UserError: there is no such column; the error lists those there are.
        """
        if name in self.columns:
            return
        spelling = {column.lower(): column for column in self.columns}
        near = difflib.get_close_matches(name.lower(), spelling, 1)
        hint = f'; did you mean {spelling[near[0]]!r}?' if near else ''
        raise UserError(
            f'{flag}={name} is not a column of {self.path}, which has: '
            f'{names_of(self.columns)}{hint}'
        )

    def fault(self, row: int, column: str, allowed: str) -> UserError:
        """The error for a value that cannot be used.

        Args:
          row: index into `rows`.
          column: of the value.
          allowed: what may stand there instead, as `train, validation, test or nothing`.
        """
        value = shorten(self.rows[row][column], 100)
        return UserError(
            f'{self.path}, line {self.lines[row]}: {column} is {value!r}; use {allowed}'
        )


def read_table(
    path: str, required: Collection[str] = (), aliases: Mapping[str, str] | None = None
) -> Table:
    """Reads a CSV file with a header row.

    Args:
      path: of the file.
      required: columns that must be there; their case does not matter.
      aliases: {other name of a column: the name that it gets}, in lower case.

    Raises:
      UserError: the file is not UTF-8 or not CSV, a required column is missing, a name stands
        twice in the header, or a row has another number of cells than the header.
      OSError: the file cannot be read.
    """
    text = _text(path)
    spelling = {name.lower(): name for name in required} | dict(aliases or {})
    header_line, separator = _separator(text, spelling)
    reader = csv.reader(io.StringIO(text, newline=''), delimiter=separator, strict=True)
    rows: list[dict[str, str]] = []
    lines: list[int] = []
    columns: list[str] = []
    line = 1
    try:
        for cells in reader:
            begins, line = line, reader.line_num + 1
            if begins < header_line:
                continue
            cells = [cell.strip() for cell in cells]
            while cells and not cells[-1] and len(cells) > len(columns):
                cells.pop()  # a separator at the end of a row
            if not columns:
                columns = [spelling.get(name.lower(), name) for name in cells]
                _check_header(path, columns, required)
            elif any(cells):
                if len(cells) != len(columns):
                    raise UserError(
                        f'{path}, line {begins}: the row has {counted(len(cells), "cell")}, but '
                        f'the header has {len(columns)}; give every row as many cells as the header'
                    )
                rows.append(dict(zip(columns, cells, strict=True)))
                lines.append(begins)
    except csv.Error as error:
        raise UserError(
            f'{path}, line {line}: not a CSV table ({error}); a cell with quotes or separators '
            'must be quoted: "a ""b"", c"'
        ) from None
    if not columns:
        _check_header(path, columns, required)
    return Table(path, columns, rows, lines)


def names_of(names: Sequence[str]) -> str:
    """The first of some names, of columns or labels, as a message lists them."""
    some = ', '.join(repr(shorten(name, 40)) for name in names[:20])
    return some + (', ...' if len(names) > 20 else '')


def side_of(value: str) -> str | None:
    """The side that a value names, '' for an empty value, None if it is no side.

    Other common names are understood, in any case: training; val, valid, dev; testing, eval.
    """
    return SIDE_NAMES.get(value.strip().lower()) if value.strip() else ''


def write_table(path: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    r"""Writes a CSV file with a header row; bytes that are not UTF-8 are written as `\udcXX`."""
    with (
        storage.to_write(path) as local,
        open(local, 'w', newline='', encoding='utf-8', errors='backslashreplace') as file,
    ):
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def _text(path: str) -> str:
    content = read_bytes(path, MAX_BYTES)
    if content.startswith((b'\xff\xfe', b'\xfe\xff')):
        raise UserError(f'{path} is in UTF-16; save it as CSV in UTF-8')
    try:
        text = content.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        line = content.count(b'\n', 0, error.start) + 1
        raise UserError(
            f'{path}, line {line}: byte 0x{content[error.start]:02x} is not UTF-8 (the file may '
            'be in Latin-1 or Windows-1252); save it as UTF-8'
        ) from None
    if '\0' in text:
        line = text.count('\n', 0, text.index('\0')) + 1
        raise UserError(f'{path}, line {line}: a NUL character; the file is damaged or no text')
    return text


def _separator(text: str, expected: Mapping[str, str]) -> tuple[int, str]:
    """The line of the header, and the separator that finds most expected columns in it."""
    for number, line in enumerate(io.StringIO(text, newline=''), 1):
        if declared := re.fullmatch(r'sep=([,;\t])\s*', line):  # a hint that Excel understands
            return number + 1, declared[1]
        if line.strip(' \r\n' + _SEPARATORS):
            found = {}
            for separator in _SEPARATORS:
                try:
                    cells = next(csv.reader([line], delimiter=separator))
                except csv.Error:
                    cells = []
                names = [cell.strip().lower() for cell in cells]
                found[separator] = (sum(name in expected for name in names), len(names))
            return number, max(_SEPARATORS, key=lambda separator: found[separator])
    return 1, ','


def _check_header(path: str, columns: Sequence[str], required: Collection[str]) -> None:
    missing = [name for name in required if name not in columns]
    if missing and not columns:
        raise UserError(f'{path} is empty; it needs the columns {", ".join(required)}')
    if missing:
        raise UserError(
            f'{path} has no column {" and no column ".join(missing)}; its header has: '
            f'{names_of(columns)}'
        )
    for place, name in enumerate(columns):
        if not name:
            raise UserError(f'{path}: column {place + 1} has no name in the header; name it')
        if name in columns[:place]:
            raise UserError(f'{path}: two columns are named {shorten(name, 60)!r}; rename one')


def probability_columns(labels: Sequence[str], others: Collection[str]) -> list[str]:
    """Columns for the probabilities of labels; `probability of NAME` if another one is NAME."""
    return [f'probability of {name}' if name in others else name for name in labels]
