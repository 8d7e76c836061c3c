"""What became of each attempt, counted and printed as one table."""

import dataclasses
import re
import sys

from glr_jax.text import printable

TRACEBACK = 'Traceback (most recent call last)'
HEADER = ('kind', 'tried', 'survived', 'edited', 'lost', 'silent', 'tracebacks')
LONGEST = 1500  # characters of a message
WIDTH = 400  # characters of a message that are shown


@dataclasses.dataclass
class Row:
    """The attempts of one kind.

    Attributes:
      kind: as the table shows it.
      tried: how many there were.
      edited: text files that people edit were read as another valid value.
      lost: work or data was lost, or the same command could not finish.
      silent: the result differed, and no line said so.
      tracebacks: a failure was not one line.
    """

    kind: str
    tried: int = 0
    edited: int = 0
    lost: int = 0
    silent: int = 0
    tracebacks: int = 0

    @property
    def survived(self) -> int:
        """Attempts with the same result in the end, or with one line that says what is wrong."""
        return self.tried - self.edited - self.failed

    @property
    def failed(self) -> int:
        """Attempts that the program did not survive."""
        return self.lost + self.silent + self.tracebacks

    def fails(self, how: str, what: str) -> None:
        """Counts and shows a failure: `lost`, `silent` or `tracebacks`."""
        setattr(self, how, getattr(self, how) + 1)
        what = what.strip()
        shown = what if len(what) < 2 * WIDTH else f'{what[:WIDTH]} ... {what[-WIDTH:]}'
        print(f'{self.kind}: {how}: {shown}', file=sys.stderr, flush=True)


def table(rows: list[Row]) -> str:
    """The rows as text, with their sum below."""
    fields = [field.name for field in dataclasses.fields(Row)][1:]
    total = Row('all', *(sum(getattr(row, name) for row in rows) for name in fields))
    width = max(len(row.kind) for row in [*rows, total]) + 2
    lines = [f'{HEADER[0]:{width}}' + ''.join(f'{name:>11}' for name in HEADER[1:])]
    for row in [*rows, total]:
        cells = (getattr(row, name) for name in HEADER[1:])
        lines.append(f'{row.kind:{width}}' + ''.join(f'{cell:11,}' for cell in cells))
    return '\n'.join(lines)


def is_one_line(message: str) -> bool:
    """Whether an error, as commands print it, is one line that a person can read."""
    shown = printable(message)
    return 0 < len(shown.strip()) < LONGEST and not re.search(r'[\x00-\x08\x0a-\x1f\x7f]', shown)
