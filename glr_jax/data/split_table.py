"""`splits.csv`: a row per clip in the order of the records, and a column per split.

Where a clip may have several labels, the column `labels` has them separated by `|`.
People edit this table, so it is read as `tables` describes, and every fault is named with its line.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from glr_jax.cli import status
from glr_jax.data import tables
from glr_jax.data.metadata import SEPARATOR, labels_file
from glr_jax.data.tables import Table
from glr_jax.errors import UserError
from glr_jax.text import printable, shorten

ALLOWED = 'train, validation (or val, valid, dev), test (or eval), or nothing'
NO_SPLITS = ('id', 'label', 'labels', 'group')  # the columns that are none


class SplitTable(NamedTuple):
    """The content of `splits.csv`.

    Attributes:
      ids: one per clip.
      targets: the number of each clip's label; where a clip may have several, 1 for each label
        that it has and 0 for the others.
      groups: the group of each clip, '' if it has none.
      splits: {split: side of each clip, '' if it is on none}.
    """

    ids: list[str]
    targets: Int[np.ndarray, ' clips'] | UInt8[np.ndarray, 'clips labels']
    groups: list[str]
    splits: dict[str, Sequence[str]]


def read_split_table(path: str, labels: Sequence[str], multi_label: bool = False) -> SplitTable:
    """Reads `splits.csv`; a column in which few values are sides is named and ignored.

    Args:
      path: of the table.
      labels: of the dataset.
      multi_label: whether a clip may have several.

    Raises:
      UserError: the file is no table, an id is missing or stands twice, a label is unknown, or a
        value in the column of a split is no side.
    """
    required = ('id', 'labels' if multi_label else 'label')
    table = tables.read_table(path, required=required, aliases={'group': 'group'})
    splits: dict[str, Sequence[str]] = {}
    ignored = []
    for name in table.unknown(NO_SPLITS):
        sides = _sides(table, name)
        if sides is None:
            ignored.append(name)
        else:
            splits[name] = sides
    if ignored:
        names = ', '.join(shorten(printable(name), 40) for name in ignored)
        status(f'{path}: no splits, so ignored: {names}; the values of a split are {ALLOWED}')
    return SplitTable(
        ids=_ids(table),
        targets=_several(table, labels) if multi_label else _targets(table, labels),
        groups=[row.get('group', '') for row in table.rows],
        splits=splits,
    )


def default_split(splits: Mapping[str, Sequence[str]], groups: Sequence[str]) -> tuple[str, str]:
    """The split to use if none is given, and why: official, else group-1, else random-1.

    Where a source defines several splits, official-0 is the first of them.

    Args:
      splits: {split: side of each clip}.
      groups: the group of each clip, '' if it has none.
    """
    usable = [name for name, sides in splits.items() if {'train', 'validation'} <= set(sides)]
    unusable = ''
    for name in ('official', 'official-0'):
        if name in usable:
            return name, 'the source defines it'
        if any(splits.get(name, ())):
            empty = ' or '.join(empty_sides(splits[name]))
            unusable = f'the split {name} has no {empty} clips, and '
    if any(groups):
        if 'group-1' in usable:
            why = 'no group is in more than one of train, validation and test'
            return 'group-1', unusable + why
        why = 'there are too few groups to keep each in one of train and test'
        return 'random-1', unusable + why
    return 'random-1', f'{unusable}the clips have no groups'


def empty_sides(sides: Sequence[str]) -> list[str]:
    """Which of 'training' and 'validation', which a run needs, have no clip."""
    words = {'train': 'training', 'validation': 'validation'}
    return [word for side, word in words.items() if side not in sides]


def _sides(table: Table, column: str) -> list[str] | None:
    """The side of each clip; None if the column is no split."""
    sides = [tables.side_of(row[column]) for row in table.rows]
    wrong = [row for row, side in enumerate(sides) if side is None]
    if 2 * len(wrong) > sum(side != '' for side in sides):
        return None
    if wrong:
        raise table.fault(wrong[0], column, ALLOWED)
    return [side or '' for side in sides]


def _ids(table: Table) -> list[str]:
    line_of: dict[str, int] = {}
    for row, line in zip(table.rows, table.lines, strict=True):
        if not row['id']:
            raise UserError(f'{table.path}, line {line}: the id is missing')
        if row['id'] in line_of:
            raise UserError(
                f'{table.path}, line {line}: the id {shorten(row["id"], 100)!r} is on line '
                f'{line_of[row["id"]]} too; keep one row per clip'
            )
        line_of[row['id']] = line
    return list(line_of)


def _targets(table: Table, labels: Sequence[str]) -> Int[np.ndarray, ' clips']:
    number = {label: k for k, label in enumerate(labels)}
    targets = np.zeros(len(table.rows), np.int32)
    for k, row in enumerate(table.rows):
        if row['label'] not in number:
            raise table.fault(k, 'label', f'one of {tables.names_of(labels)}')
        targets[k] = number[row['label']]
    return targets


def _several(table: Table, labels: Sequence[str]) -> UInt8[np.ndarray, 'clips labels']:
    number = {label: k for k, label in enumerate(labels)}
    targets = np.zeros((len(table.rows), len(labels)), np.uint8)
    for k, row in enumerate(table.rows):
        for label in filter(None, map(str.strip, row['labels'].split(SEPARATOR))):
            if label not in number:
                raise UserError(
                    f'{table.path}, line {table.lines[k]}: there is no label '
                    f'{shorten(label, 40)!r}; see {labels_file(True)}; {SEPARATOR} separates labels'
                )
            targets[k, number[label]] = 1
    return targets
