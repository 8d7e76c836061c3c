"""The clips that a run was trained on, in `data.json`, so that a change is noticed and named.

A clip is its id, its label, its side of the run's split, and a checksum of its record. Each
checkpoint has a digest of all clips.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from glr_jax import json_files, storage
from glr_jax.cli import status
from glr_jax.config import Config
from glr_jax.data.dataset import Dataset
from glr_jax.data.metadata import SEPARATOR
from glr_jax.errors import UserError
from glr_jax.storage import same_folder

FILE = 'data.json'
_LOST = ', so clips that the weights saw under other data or in another run are not known'


class Clips(NamedTuple):
    """All clips of a dataset as a run sees them, in order: [id, label, side, checksum]."""

    rows: list[list[Any]]
    digest: str


class Record(NamedTuple):
    """What `data.json` says.

    Attributes:
      clips: the data of the run now.
      before: [id, checksum] of clips that it was trained on although they are no training clips
        now: before the data changed, or in the run that it started from.
      changes: what changed in the data since the run began, one text per change that was allowed.
    """

    clips: Clips
    before: list[list[Any]]
    changes: list[str]

    def trained(self) -> list[list[Any]]:
        """[id, checksum] of every clip that the weights have seen."""
        now = [[id, checksum] for id, _, side, checksum in self.clips.rows if side == 'train']
        return now + self.before


def clips_of(dataset: Dataset, split: str) -> Clips:
    """The clips of a dataset with their sides of a split; reads a few bytes per clip."""
    sides, checksums = dataset.splits[split], dataset.checksums()
    rows = [
        [id, SEPARATOR.join(dataset.labels_of(clip)), side, int(checksum)]
        for clip, (id, side, checksum) in enumerate(zip(dataset.ids, sides, checksums, strict=True))
    ]
    return Clips(rows, hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:32])


def check(
    workdir: str,
    dataset: Dataset,
    clips: Clips,
    saved: str | None,
    *,
    allow: bool = False,
    source: str = '',
) -> list[str]:
    """Compares the data with what a run was trained on so far, and notes it in the workdir.

    Args:
      workdir: of the run.
      dataset: for the message.
      clips: its clips.
      saved: digest in the newest checkpoint; '' if an older version saved it, None if there is no
        checkpoint.
      allow: whether the data may have changed.
      source: workdir of the run whose weights this one starts from; '' if there is none.

    Returns:
      What changed since the run began, all times together.

    Raises:
      UserError: the data changed, and it may not.
    """
    known = read(workdir)
    if known is None and saved is not None and is_damaged(workdir):
        status(f'{os.path.join(workdir, FILE)} is damaged{_LOST}; it is written anew')
    if saved is None:
        theirs = read(source) if source else None
        _write(workdir, Record(clips, theirs.trained() if theirs else [], []))
        return []
    if known is not None and known.clips.digest == clips.digest:
        return known.changes
    if saved == clips.digest or (not saved and known is None):  # `data.json` is lost or stale
        record = Record(clips, known.trained() if known else [], known.changes if known else [])
        _write(workdir, record)
        return record.changes
    what = changes(known.clips if known else None, clips)
    if not allow:
        raise UserError(
            f'{dataset.folder} changed since {workdir} was trained on it: {what}; prepare it as '
            'before, choose another --workdir, or resume with --allow_changed_data'
        )
    before = known.trained() if known else []
    record = Record(clips, before, [*(known.changes if known else []), what])
    _write(workdir, record)
    return record.changes


def changes(old: Clips | None, new: Clips) -> str:
    """What differs, in words; '' if nothing does.

    Args:
      old: the clips as they were; None if that is not known.
      new: the clips as they are.
    """
    if old is None:
        return 'clips, labels, sides or contents differ'
    before = {row[0]: row[1:] for row in old.rows}
    after = {row[0]: row[1:] for row in new.rows}
    both = [id for id in after if id in before]
    counts = Counter(
        {
            'added': len(after) - len(both),
            'removed': len(before) - len(both),
            'with another label': sum(before[id][0] != after[id][0] for id in both),
            'moved to another side': sum(before[id][1] != after[id][1] for id in both),
            'with other content': sum(before[id][2] != after[id][2] for id in both),
        }
    )
    found = [
        f'{count} clip{"s" if count > 1 else ""} {what}' for what, count in counts.items() if count
    ]
    if not found and old.digest != new.digest:
        return 'the clips are in another order'
    return ', '.join(found)


def read(workdir: str) -> Record | None:
    """What a run was trained on; None if an older version trained it or the file is damaged."""
    path = os.path.join(workdir, FILE)
    try:
        content = json_files.read_bytes(path, at_most=1 << 30)
        values = json_files.parse_object(content, path, 'it is written anew')
    except (OSError, UserError):
        return None
    if json_files.CHECKSUM not in values or not json_files.is_intact(values):
        return None
    return Record(Clips(values['clips'], values['digest']), values['before'], values['changes'])


def is_damaged(workdir: str) -> bool:
    """Whether there is a `data.json` that cannot be used."""
    return os.path.exists(os.path.join(workdir, FILE)) and read(workdir) is None


def warn_if_damaged(workdir: str) -> None:
    """Says so in one line, for commands that do not write it."""
    if is_damaged(workdir):
        path = os.path.join(workdir, FILE)
        status(f'{path} is damaged{_LOST}; the same train command writes it anew')


def trained_ids(workdir: str) -> set[str]:
    """The ids of the clips that a run was trained on, as far as it is known."""
    known = read(workdir)
    return {id for id, _ in known.trained()} if known else set()


def seen(
    dataset: Dataset, clips: Int[np.ndarray, ' clips'], trained: Sequence[Sequence[Any]], own: bool
) -> Bool[np.ndarray, ' clips']:
    """Which clips are among some that a run was trained on.

    Args:
      dataset: where the clips are.
      clips: their numbers.
      trained: [id, checksum] each; a clip in another folder has the checksum if it was prepared
        alike, and nothing else would have it.
      own: whether it is the folder that the run was trained on, so that ids tell as well.
    """
    found = np.isin(dataset.checksums()[clips], [checksum for _, checksum in trained if checksum])
    if own:
        ids = {id for id, _ in trained}
        found |= np.asarray([dataset.ids[clip] in ids for clip in clips], bool)
    return found


def trained_on(
    dataset: Dataset, clips: Int[np.ndarray, ' clips'], configs: Iterable[Config]
) -> int:
    """How many of these clips any run was trained on.

    Clips are compared by id and content, whatever folder they are in. Runs of older versions did
    not note their clips: theirs are known only in the dataset folder that they name.
    """
    found = np.zeros(len(clips), bool)
    for config in configs:
        own = same_folder(dataset.folder, config.data.dir)
        known = read(config.workdir) if config.workdir else None
        if known is not None:
            found |= seen(dataset, clips, known.trained(), own)
        elif own and config.data.split in dataset.splits:
            found |= np.isin(clips, dataset.members(config.data.split, 'train'))
    return int(found.sum())


def _write(workdir: str, record: Record) -> None:
    values = {
        'digest': record.clips.digest,
        'changes': record.changes,
        'before': record.before,
        'clips': record.clips.rows,
    }
    path = os.path.join(workdir, FILE)
    with storage.to_write(path) as partial, open(partial, 'w', encoding='utf-8') as file:
        json.dump(json_files.sealed(values), file)
