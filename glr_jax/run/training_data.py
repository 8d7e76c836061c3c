"""The clips that a run was trained on, in `data.json`, so that a change is noticed and named.

A clip is its id, its label, its side of the run's split, and a checksum of its record. Each
checkpoint has a digest of all clips. A checksum of each spectrogram is noted too: by it, a clip is
recognised in another dataset that has other labels, groups or names.
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
from glr_jax.data.example import spectrogram_digest
from glr_jax.data.metadata import SEPARATOR, SOURCES
from glr_jax.data.tables import read_table
from glr_jax.errors import UserError
from glr_jax.storage import same_folder

FILE = 'data.json'
_DIGITS = 16  # of that checksum, in hexadecimal
_MOST_READ = 1 << 30  # bytes of spectrograms that are read where there is no such file
_LOST = ', so clips that the weights saw under other data or in another run are not known'


class Clips(NamedTuple):
    """All clips of a dataset as a run sees them, in order: [id, label, side, checksum]."""

    rows: list[list[Any]]
    digest: str


class Record(NamedTuple):
    """What `data.json` says.

    Attributes:
      clips: the data of the run now.
      before: as `trained`, of clips that it was trained on although they are no training clips
        now: before the data changed, or in the run that it started from.
      changes: what changed in the data since the run began, one text per change that was allowed.
      spectrograms: a checksum of the spectrogram of each of `clips`, '' where it is not known;
        empty in runs of older versions.
    """

    clips: Clips
    before: list[list[Any]]
    changes: list[str]
    spectrograms: list[str]

    def trained(self) -> list[list[Any]]:
        """[id, checksum, checksum of the spectrogram or ''] of every clip that was trained on."""
        digests = self.spectrograms or [''] * len(self.clips.rows)
        now = [
            [id, checksum, digest]
            for (id, _, side, checksum), digest in zip(self.clips.rows, digests, strict=True)
            if side == 'train'
        ]
        return now + [[id, checksum, *(digest or [''])] for id, checksum, *digest in self.before]


class Seen(NamedTuple):
    """Which of some clips a run was trained on.

    Attributes:
      trained: those that it was trained on, as far as can be known.
      by_name: those of them of which only the name is known: the spectrograms were not compared.
      namesakes: clips with the name of a training clip, but another spectrogram; not `trained`.
    """

    trained: Bool[np.ndarray, ' clips']
    by_name: Bool[np.ndarray, ' clips']
    namesakes: Bool[np.ndarray, ' clips']


def clips_of(dataset: Dataset, split: str) -> Clips:
    """The clips of a dataset with their sides of a split; reads a few bytes per clip."""
    sides, checksums = dataset.splits[split], dataset.checksums()
    rows = [
        [id, SEPARATOR.join(dataset.labels_of(clip)), side, int(checksum)]
        for clip, (id, side, checksum) in enumerate(zip(dataset.ids, sides, checksums, strict=True))
    ]
    return Clips(rows, hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:32])


def spectrograms_of(dataset: Dataset, clips: Int[np.ndarray, ' clips']) -> list[str]:
    """A checksum of the spectrogram of each of some clips, '' where it is not known.

    The dataset has a table of them. Without it, the spectrograms are read, unless they are many.
    """
    try:
        table = read_table(os.path.join(dataset.folder, SOURCES), required=('id', 'spectrogram'))
        if [row['id'].strip() for row in table.rows] == [id.strip() for id in dataset.ids]:
            return [table.rows[clip]['spectrogram'][:_DIGITS] for clip in clips]
    except (UserError, OSError):  # an older version wrote the dataset, or it was not made of files
        pass
    if dataset.stored_bytes(clips).sum() > _MOST_READ:
        return [''] * len(clips)
    return [_spectrogram(dataset, clip) for clip in clips]


def _spectrogram(dataset: Dataset, clip: int | np.integer) -> str:
    """The checksum that data_prep writes; '' if the record is damaged, as its reader says."""
    try:
        return spectrogram_digest(dataset.mel(clip))[:_DIGITS]
    except UserError:
        return ''


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
    spectrograms = lambda: spectrograms_of(dataset, np.arange(len(dataset)))
    if known is None and saved is not None and is_damaged(workdir):
        status(f'{os.path.join(workdir, FILE)} is damaged{_LOST}; it is written anew')
    if saved is None:
        theirs = read(source) if source else None
        _write(workdir, Record(clips, theirs.trained() if theirs else [], [], spectrograms()))
        return []
    if known is not None and known.clips.digest == clips.digest:
        if not known.spectrograms:
            _write(workdir, known._replace(spectrograms=spectrograms()))
        return known.changes
    if saved == clips.digest or (not saved and known is None):  # `data.json` is lost or stale
        then = (known.trained(), known.changes) if known else ([], [])
        record = Record(clips, *then, spectrograms())
        _write(workdir, record)
        return record.changes
    what = changes(known.clips if known else None, clips)
    if not allow:
        raise UserError(
            f'{dataset.folder} changed since {workdir} was trained on it: {what}; prepare it as '
            'before, choose another --workdir, or resume with --allow_changed_data'
        )
    before = known.trained() if known else []
    record = Record(clips, before, [*(known.changes if known else []), what], spectrograms())
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
    clips, spectrograms = Clips(values['clips'], values['digest']), values.get('spectrograms', [])
    return Record(clips, values['before'], values['changes'], spectrograms)


def is_damaged(workdir: str) -> bool:
    """Whether there is a `data.json` that cannot be used."""
    return os.path.exists(os.path.join(workdir, FILE)) and read(workdir) is None


def warn_if_damaged(workdir: str) -> None:
    """Says so in one line, for commands that do not write it."""
    if is_damaged(workdir):
        path = os.path.join(workdir, FILE)
        status(f'{path} is damaged{_LOST}; the same train command writes it anew')


def seen(
    dataset: Dataset, clips: Int[np.ndarray, ' clips'], trained: Sequence[Sequence[Any]], own: bool
) -> Seen:
    """Which clips are among some that a run was trained on.

    Args:
      dataset: where the clips are.
      clips: their numbers.
      trained: [id, checksum, checksum of the spectrogram or ''] each, as `Record.trained`.
      own: whether it is the folder that the run was trained on, so that ids tell. In any other, a
        clip is one with the same record, or else with the same spectrogram. If spectrograms
        cannot be compared, the same id counts, so that no clip is taken for new by mistake.
    """
    found = np.isin(dataset.checksums()[clips], [row[1] for row in trained if row[1]])
    by_name, namesakes = np.zeros((2, len(clips)), bool)
    spectrograms: dict[str, set[str]] = {}
    for id, _, digest in trained:
        spectrograms.setdefault(id, set()).add(digest)
    if own:
        found |= np.asarray([dataset.ids[clip] in spectrograms for clip in clips], bool)
        return Seen(found, by_name, namesakes)
    known = set().union(*spectrograms.values()) - {''}
    rest = np.flatnonzero(~found)
    digests = spectrograms_of(dataset, clips[rest]) if known else [''] * len(rest)
    for k, mine in zip(rest, digests, strict=True):
        theirs = spectrograms.get(dataset.ids[clips[k]], set())
        by_name[k] = bool(theirs) and mine not in known and (not mine or '' in theirs)
        namesakes[k] = bool(theirs) and mine not in known and not by_name[k]
        found[k] = mine in known or by_name[k]
    return Seen(found, by_name, namesakes)


def seen_by_any(
    dataset: Dataset, clips: Int[np.ndarray, ' clips'], configs: Iterable[Config]
) -> Seen:
    """Which of these clips any run was trained on.

    Clips are compared by content and id, whatever folder they are in. Runs of older versions did
    not note their clips: theirs are known only in the dataset folder that they name.
    """
    found = Seen(*np.zeros((3, len(clips)), bool))
    sure = np.zeros(len(clips), bool)  # not by name alone
    for config in configs:
        own = same_folder(dataset.folder, config.data.dir)
        known = read(config.workdir) if config.workdir else None
        if known is not None:
            its = seen(dataset, clips, known.trained(), own)
            found = Seen(*(a | b for a, b in zip(found, its, strict=True)))
            sure |= its.trained & ~its.by_name
        elif own and config.data.split in dataset.splits:
            sure |= np.isin(clips, dataset.members(config.data.split, 'train'))
    trained = found.trained | sure
    return Seen(trained, found.by_name & ~sure, found.namesakes & ~trained)


def trained_on(
    dataset: Dataset, clips: Int[np.ndarray, ' clips'], configs: Iterable[Config]
) -> int:
    """How many of these clips any run was trained on, as `seen_by_any`."""
    return int(seen_by_any(dataset, clips, configs).trained.sum())


def _write(workdir: str, record: Record) -> None:
    values = {
        'digest': record.clips.digest,
        'changes': record.changes,
        'before': record.before,
        'clips': record.clips.rows,
        'spectrograms': record.spectrograms,
    }
    path = os.path.join(workdir, FILE)
    with storage.to_write(path) as partial, open(partial, 'w', encoding='utf-8') as file:
        json.dump(json_files.sealed(values), file)
