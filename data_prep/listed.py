"""A table of clips: which files of a folder are clips, with labels, groups and sides.

It is the `metadata.csv` of the folder, or a table from elsewhere whose columns have other names.
"""

import dataclasses
import os
from collections.abc import Callable
from typing import NamedTuple

from data_prep.clips import Clip, audio_clip, official_split, readable
from glr_jax import storage
from glr_jax.cli import status
from glr_jax.data.files import UNLABELLED, LeftOut, audio_files
from glr_jax.data.metadata import SEPARATOR
from glr_jax.data.tables import Table, names_of, read_table
from glr_jax.errors import UserError
from glr_jax.text import shorten

NAME = 'metadata.csv'
COLUMNS = ('path', 'label', 'labels', 'group', 'artist', 'split')
SEPARATORS = ('|', ';', ',', '/')


class Columns(NamedTuple):
    """The columns to read.

    '' = `path` or `file_name`, `label`, `labels`, `group` or `artist`, `split`.
    """

    path: str = ''
    label: str = ''
    labels: str = ''
    group: str = ''
    split: str = ''


def listed_clips(
    folder: str,
    left_out: Callable[[LeftOut], None],
    *,
    path: str = '',
    columns: Columns = Columns(),  # noqa: B008 (it cannot be changed)
    separator: str = SEPARATOR,
    keep_unlabelled: bool = False,
) -> list[Clip]:
    """The clips that a table lists.

    Without a column `label`, or if its cell is empty, the first folder of the path is the label;
    rows without a folder are left out. If `columns` names the column of the labels, all rows with
    an empty cell are left out.

    With a column `labels`, clips may have several labels; those without any are left out.

    Args:
      folder: the paths in the table are relative to it.
      left_out: called with each audio file that is not listed, and each row without a label.
      path: of the table; '' = the `metadata.csv` in the folder.
      columns: the names of its columns.
      separator: between the labels in a cell of `labels`.
      keep_unlabelled: keep the clips without any; they are examples of no label.

    Raises:
      UserError: the table cannot be read, has no rows, or lacks a column that `columns` names; or
        a path or side in it cannot be used.
    """
    path = path or os.path.join(folder, NAME)
    table = _read(path, columns)
    label_column, side_column = columns.label or 'label', columns.split or 'split'
    several = _several(table, columns)
    if several:
        _check_separator(table, several, separator)
    if keep_unlabelled and not several:
        raise UserError(
            f'--keep_unlabelled needs several labels per clip; {table.path} has no column labels'
        )
    group_columns = (columns.group,) if columns.group else ('group', 'artist')
    clips, listed = [], set()
    line_of: dict[str, int] = {}
    for row, line in zip(table.rows, table.lines, strict=True):
        place, name = f'{table.path}, line {line}', row[columns.path or 'path']
        parts = os.path.normpath(name).split(os.sep)
        if os.path.isabs(name) or parts[0] in ('..', '.'):
            raise UserError(f'{place}: path {shorten(name, 200)!r} is not below {folder}')
        file = os.path.join(folder, *parts)
        if '\\' in name and '/' not in name and not storage.exists(file):
            raise UserError(f'{place}: path {shorten(name, 200)!r} was not found; write / for \\')
        listed.add(readable(file))
        text = row.get(several or label_column, '')
        its = labels_in(text, separator)
        empty = not its if several else not text
        if empty and (several or columns.label) and not keep_unlabelled:
            reason = f'has an empty cell in column {several or columns.label!r}'
            if text:
                reason = f'has only separators in column {several!r}'
            left_out(LeftOut(file, UNLABELLED, reason))
            continue
        label = its if several else text or (parts[0] if len(parts) > 1 else '')
        if not label and not several:
            where = 'is in no sub-folder that names its label'
            if 'label' in table.columns:
                where = f"has an empty cell in column 'label', and {where}"
            left_out(LeftOut(file, UNLABELLED, where))
            continue
        before = line_of.setdefault('/'.join(parts), line)
        if before != line:
            raise UserError(f'{place}: {shorten(name, 200)!r} is on line {before} too; remove one')
        groups = (row.get(column, '') for column in group_columns)
        clip = audio_clip('/'.join(parts), label, file, group=next(filter(None, groups), ''))
        side = official_split(row.get(side_column, ''), place)
        clips.append(dataclasses.replace(clip, splits=side))
    if not clips and table.rows:
        column = several or label_column
        raise UserError(
            f'{table.path}: no row has a label in column {column!r}'
            if column in table.columns
            else f'{table.path}: no row has a label: there is no column label, and no path has a '
            'folder; --label_column names the column with the labels'
        )
    table_name = os.path.basename(path)
    for found in audio_files(folder):
        if readable(found) not in listed:
            words = f'not in {table_name}', f'is not listed in {table_name}'
            left_out(LeftOut(found, *words))
    return clips


def labels_in(cell: str, separator: str) -> tuple[str, ...]:
    """The labels in a cell, each once, in order; spaces around them do not count."""
    return tuple(dict.fromkeys(filter(None, (part.strip() for part in cell.split(separator)))))


def _several(table: Table, columns: Columns) -> str:
    """The column in which clips may have several labels; '' if each has one."""
    if columns.label and columns.labels:
        raise UserError('--label_column and --labels_column do not go together; leave out one')
    if columns.labels or columns.label:
        return columns.labels
    if {'label', 'labels'} <= set(table.columns):
        raise UserError(
            f'{table.path} has the columns label and labels; choose one of --label_column=label '
            'and --labels_column=labels'
        )
    return 'labels' if 'labels' in table.columns else ''


def _check_separator(table: Table, column: str, separator: str) -> None:
    """Names another separator that most cells have, if none has the one that was given."""
    cells = [cell for row in table.rows if (cell := row[column])]
    if any(separator in cell for cell in cells):
        return
    counts = {other: sum(other in cell for cell in cells) for other in SEPARATORS}
    other, count = max(counts.items(), key=lambda pair: pair[1])
    if 2 * count > len(cells):
        status(
            f'{table.path}: no cell in column {column!r} has the separator {separator!r}, but '
            f'{count} of {len(cells)} have {other!r}; did you mean --label_separator={other!r}?'
        )


def _read(path: str, columns: Columns) -> Table:
    """Reads the table, and makes sure that it has rows and the columns that were asked for."""
    aliases = {name: name for name in COLUMNS}
    if not columns.path:
        aliases['file_name'] = 'path'
    aliases |= {name.lower(): name for name in columns if name}
    try:
        table = read_table(path, aliases=aliases)
    except FileNotFoundError:
        raise UserError(f'--metadata={path} was not found') from None
    if not table.columns:
        raise UserError(f'{path} is empty; it needs the column {columns.path or "path"}')
    if not columns.path and 'path' not in table.columns:
        raise UserError(
            f'{path} has no column path (or file_name); its header has: '
            f'{names_of(table.columns)}; --path_column names the one with the paths'
        )
    for kind, name in columns._asdict().items():
        if name:
            table.check_column(name, f'--{kind}_column')
    if not table.rows:
        raise UserError(f'{table.path} has no rows below its header')
    unknown = table.unknown(COLUMNS)
    if unknown and not any(columns):
        status(
            f'{table.path}: ignored columns: '
            f'{", ".join(shorten(name, 60) for name in unknown)}; those with a meaning are '
            f'{", ".join(COLUMNS)}'
        )
    if not {'label', 'labels'} & set(table.columns) and not columns.label and not columns.labels:
        status(f'{table.path}: no column label, so folders are the labels (see --label_column)')
    return table
