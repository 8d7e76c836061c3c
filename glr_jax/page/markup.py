"""HTML that shows any text as it is and loads nothing from elsewhere."""

import base64
import functools
import hashlib
import html
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

from glr_jax.text import printable


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
      shown: HTML.
      number: the value to sort by; None: the text itself.
    """

    shown: str
    number: float | None = None


def plain(text: str) -> str:
    """A text as HTML that shows it and nothing else."""
    return html.escape(printable(text))


def name(text: str) -> str:
    """A label or an id within a sentence, whatever direction its script has."""
    return f'<bdi>{plain(text)}</bdi>'


def percent(share: float, digits: int = 1) -> str:
    """A fraction in per cent."""
    return f'{100 * share:.{digits}f} %'


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    last: Sequence[Cell] = (),
    *,
    sortable: bool = True,
) -> str:
    """A table that scrolls inside its own box.

    Args:
      header: of each column, as HTML.
      rows: of cells; the first is the row's name.
      last: a row that stays at the bottom.
      sortable: whether readers can sort it by any column.
    """
    numbers = [any(row[k].number is not None for row in rows) for k in range(len(header))]
    kinds = [' class="number"' * number for number in numbers]
    heads = ''.join(
        f'<th scope="col"{kind}>{text}</th>' for kind, text in zip(kinds, header, strict=True)
    )
    body = '\n'.join(_row(row, kinds) for row in rows)
    kind = ' class="sortable"' if sortable else ''
    foot = f'<tfoot>{_row(last, kinds)}</tfoot>' if last else ''
    return (
        f'<div class="box" tabindex="0"><table{kind}><thead><tr>{heads}</tr></thead>\n'
        f'<tbody>{body}</tbody>{foot}</table></div>'
    )


def _row(cells: Sequence[Cell], kinds: Sequence[str]) -> str:
    parts = []
    for k, (cell, kind) in enumerate(zip(cells, kinds, strict=True)):
        value = '' if cell.number is None else f' data-value="{cell.number:.9g}"'
        tag, scope = ('td', '') if k else ('th', ' scope="row"')
        parts.append(f'<{tag}{scope}{kind}{value}>{cell.shown}</{tag}>')
    return f'<tr>{"".join(parts)}</tr>'


def definitions(pairs: Sequence[tuple[str, str]]) -> str:
    """A list of terms, each with HTML beside it."""
    return '<dl>' + ''.join(f'<dt>{term}</dt><dd>{shown}</dd>' for term, shown in pairs) + '</dl>'


def document(title: str, body: str) -> str:
    """A whole page. Its policy forbids browsers to load or run anything that is not in it.

    Args:
      title: any text.
      body: HTML.
    """
    script = _file('sort.js')
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; media-src 'self' file:; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{plain(title)}</title>
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{_file('style.css')}</style></head><body>
{body}
<script>{script}</script>
</body></html>
"""


@functools.cache
def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding='utf-8')
