"""`metadata.csv` in a folder of music: which files are clips, with labels, groups and sides."""

import dataclasses
import os
from collections.abc import Callable

from data_prep.clips import Clip, audio_clip, official_split, readable
from glr_jax.cli import status
from glr_jax.data.files import UNLISTED, LeftOut, audio_files
from glr_jax.data.tables import read_table
from glr_jax.errors import UserError

NAME = 'metadata.csv'
COLUMNS = ('path', 'label', 'group', 'artist', 'split')


def listed_clips(folder: str, left_out: Callable[[LeftOut], None]) -> list[Clip]:
    """The clips that the `metadata.csv` of a folder lists.

    It has a column `path` (or `file_name`) and, optionally, `label`, `group` (or `artist`) and
    `split`; without a label, the first folder of the path is the label.

    Args:
      folder: the paths are relative to it.
      left_out: called with each audio file that is not listed.

    Raises:
      UserError: the table cannot be read, has no rows, or a path or side in it cannot be used.
    """
    names = {name: name for name in COLUMNS} | {'file_name': 'path'}
    table = read_table(os.path.join(folder, NAME), required=('path',), aliases=names)
    if not table.rows:
        raise UserError(f'{table.path} has no rows below its header')
    unknown = table.unknown(COLUMNS)
    if unknown:
        status(
            f'{table.path}: ignored columns: {", ".join(unknown)}; those with a meaning are '
            f'{", ".join(COLUMNS)}'
        )
    clips = []
    for row, line in zip(table.rows, table.lines, strict=True):
        place, name = f'{table.path}, line {line}', os.path.normpath(row['path'])
        parts = name.split(os.sep)
        if os.path.isabs(name) or parts[0] in ('..', '.'):
            raise UserError(f'{place}: path {row["path"]!r} is not below {folder}')
        label = row.get('label') or (parts[0] if len(parts) > 1 else '')
        if not label:
            raise UserError(
                f'{place}: {row["path"]!r} has no label; give one in the column label, or put the '
                'file in a folder with the name of its label'
            )
        clip = audio_clip(
            '/'.join(parts),
            label,
            os.path.join(folder, name),
            group=row.get('group') or row.get('artist') or '',
        )
        clips.append(dataclasses.replace(clip, splits=official_split(row.get('split', ''), place)))
    listed = {clip.path for clip in clips}
    for path in audio_files(folder):
        if readable(path) not in listed:
            left_out(LeftOut(path, UNLISTED))
    return clips
