"""A finished dataset is replaced only by a finished one.

The successor is built in the folder `.next` inside of it. If it has other clips, labels or
features, it takes the place of the old one only if the user says so.
"""

import json
import os
import shutil
from collections.abc import Sequence

from data_prep import splits
from data_prep.clips import Clip
from glr_jax import json_files, storage
from glr_jax.cli import status
from glr_jax.data.mel import FrontEnd
from glr_jax.data.metadata import NOTES, SUCCESSOR, labels_file, read_metadata
from glr_jax.data.tables import Table, read_table
from glr_jax.data.tfrecord import CorruptRecordError, RecordFile
from glr_jax.errors import UserError
from glr_jax.fields import text_of, to_dict
from glr_jax.text import counted

WRITTEN_LAST = ('splits.csv', 'dataset_info.json', 'front_end.json')
SHARDS = 'music-clips.tfrecord-'  # how their names begin
DAMAGED = '.damaged'  # the ending of a copy of a table that cannot be read
_OPTIONAL = (
    'lengths.csv',
    'sources.csv',
    *map(labels_file, (False, True)),
)  # a dataset may lack them
_BUILT = 'complete.json'  # in `.next`: the names of the files that take the place of the old ones
_COLUMNS = {  # that data_prep writes into splits.csv; all others are the user's
    *('id', 'label', 'labels', 'group', 'fault_filtered', 'official'),
    *(f'random-{k}' for k in splits.RANDOM_ITERATIONS),
    *(f'group-{k}' for k in splits.GROUP_ITERATIONS),
}


def beside(out: str) -> str:
    """The folder in which the successor of a dataset is built."""
    return os.path.join(out, SUCCESSOR)


def is_finished(out: str) -> bool:
    """Whether a folder holds a finished dataset."""
    return all(storage.exists(os.path.join(out, name)) for name in WRITTEN_LAST)


def other_request(out: str, clips: Sequence[Clip], front_end: FrontEnd, num_shards: int) -> str:
    """How a finished dataset differs from what is asked for, in a few words; '' if it does not.

    Args:
      out: the folder of the dataset.
      clips: those that were asked for.
      front_end: that was asked for.
      num_shards: the number of shards that they make; 0 = not known yet.
    """
    try:
        metadata = read_metadata(out)
        column = 'labels' if metadata.multi_label else 'label'
        table = read_table(os.path.join(out, 'splits.csv'), required=('id', column))
        skipped = {row['id'] for row in read_table(os.path.join(out, 'skipped.csv')).rows}
    except (UserError, OSError, KeyError) as error:
        return f'a damaged dataset ({error})'
    asked, held = to_dict(front_end), to_dict(metadata.front_end)
    flags = [
        f'--{name}={text_of(held[name])} instead of {text_of(value)}'
        for name, value in asked.items()
        if held[name] != value
    ]
    if flags:
        return f'a dataset with {", ".join(flags)}'
    if metadata.from_audio == bool(clips[0].n_mels):
        return 'a dataset of another --source'
    if metadata.multi_label != clips[0].multi_label:
        return (
            f'a dataset with {"several labels" if metadata.multi_label else "one label"} per clip'
        )
    old = {row['id']: (row[column], row.get('group', '')) for row in table.rows}
    new = {clip.id.strip(): (clip.label_cell.strip(), clip.group.strip()) for clip in clips}
    gone = [id for id in old if id not in new]
    added = [id for id in new if id not in old and id not in skipped]
    moved = [id for id in old if id in new and old[id] != new[id]]
    changes = [
        (gone, 'is gone', 'are gone'),
        (added, 'is new', 'are new'),
        (moved, 'has another label or group', 'have another label or group'),
    ]
    for found, one, several in changes:
        if found:
            words = one if len(found) == 1 else several
            return f'a dataset of other clips ({len(found)} {words}, the first: {found[0]})'
    if num_shards and len(metadata.shards) != num_shards:
        held_shards = counted(len(metadata.shards), 'shard')
        return f'a dataset with {held_shards} instead of {num_shards} (--clips_per_shard)'
    return ''


def other_content(out: str, names: Sequence[str]) -> str:
    """How the shards and splits of a dataset differ from its successor's; '' if they do not.

    Damaged shards do not count: to replace them is what a second preparation is for.

    Args:
      out: the folder of the dataset.
      names: of the shards.
    """
    for name in names:
        old, new = os.path.join(out, name), os.path.join(beside(out), name)
        if storage.exists(old) and not _equal(old, new) and _is_intact(old):
            return f'a dataset of files that have changed since (first in {name})'
    old_table, new_table = (
        read_table(os.path.join(folder, 'splits.csv')) for folder in (out, beside(out))
    )
    for column in old_table.columns:
        if column in _COLUMNS:
            pairs = zip(old_table.rows, new_table.rows, strict=False)
            if any(row[column] != other.get(column, '') for row, other in pairs):
                return f'a dataset with another column {column} in splits.csv'
    return ''


def own_columns(out: str) -> dict[str, dict[str, str]]:
    """The columns that a user has added to `splits.csv`: {name: {id: value}}.

    It is {} if the table is damaged; a copy of the table then stays in the folder.
    """
    path = os.path.join(out, 'splits.csv')
    try:
        table: Table = read_table(path, required=('id',))
    except UserError as error:
        with storage.to_read(path) as old, storage.to_write(path + DAMAGED) as copy:
            shutil.copyfile(old, copy)
        status(f'columns of your own cannot be kept: {error}')
        status(f'the table that was there is now {path}{DAMAGED}')
        return {}
    return {
        name: {row['id']: row[name] for row in table.rows}
        for name in table.columns
        if name not in _COLUMNS
    }


def swap(out: str, names: Sequence[str]) -> None:
    """Replaces a dataset by its finished successor; `resume_swap` completes it after a kill.

    Args:
      out: the folder of the dataset.
      names: of the successor's files, `front_end.json` last.
    """
    path = os.path.join(beside(out), _BUILT)
    with storage.to_write(path) as local, open(local, 'w') as file:
        json.dump(json_files.sealed({'names': list(names)}), file)
    resume_swap(out)


def resume_swap(out: str) -> None:
    """Completes an interrupted swap; does nothing if there is none."""
    path = os.path.join(beside(out), _BUILT)
    if not storage.exists(path):
        return
    names = _names_in(path)
    if names is None:  # what cannot be moved safely is made again
        status(f'{path} is damaged: the dataset is prepared again')
        storage.remove(beside(out))
        if not is_finished(out):  # as a preparation that has only begun
            storage.make_folder(os.path.join(out, NOTES))
            storage.write_text(os.path.join(out, NOTES, 'begun'), '')
        return
    new_front_end = os.path.join(beside(out), 'front_end.json')
    if storage.exists(new_front_end):  # without this file, the folder counts as unfinished
        storage.remove(os.path.join(out, 'front_end.json'))
    for name in storage.entries(out):
        if name not in names and (name.startswith(SHARDS) or name in _OPTIONAL):
            storage.remove(os.path.join(out, name))
    for name in names:
        if storage.exists(os.path.join(beside(out), name)):
            _move(os.path.join(beside(out), name), os.path.join(out, name))
    storage.remove(beside(out))


def _names_in(path: str) -> list[str] | None:
    """The list of files that `swap` wrote; None if it is damaged."""
    try:
        values = json.loads(json_files.read_bytes(path))
        if isinstance(values, list):  # of an older version
            values = {'names': values}
        names = values['names'] if json_files.is_intact(values) else None
    except (ValueError, TypeError, KeyError, RecursionError, UserError):
        return None
    if not isinstance(names, list):
        return None
    plain = all(isinstance(x, str) and x == os.path.basename(x) != '..' for x in names)
    return names if plain else None


def _move(old: str, new: str) -> None:
    if not storage.is_remote(new):
        os.replace(old, new)
        return
    with storage.to_read(old) as source, storage.to_write(new) as target:
        shutil.copyfile(source, target)
    storage.remove(old)


def _equal(one: str, other: str) -> bool:
    with storage.to_read(one) as first, storage.to_read(other) as second:
        if os.path.getsize(first) != os.path.getsize(second):
            return False
        with open(first, 'rb') as file, open(second, 'rb') as against:
            while data := file.read(1 << 20):
                if data != against.read(1 << 20):
                    return False
    return True


def _is_intact(path: str) -> bool:
    try:
        file = RecordFile(path)
    except (CorruptRecordError, OSError):
        return False
    try:
        for index in range(len(file)):
            file[index]
    except CorruptRecordError:
        return False
    finally:
        file.close()
    return True
