"""Clips to a dataset folder: first the missing shards, then tables and metadata."""

import itertools
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from tqdm import tqdm

from data_prep import replace, splits
from data_prep.clips import Clip
from data_prep.runners import Runner, serially
from data_prep.shards import Shard, ShardJob
from glr_jax import storage
from glr_jax.data import records
from glr_jax.data.mel import FrontEnd
from glr_jax.errors import UserError

LENGTHS = 'lengths.csv'
_METADATA = (
    'label.labels.txt',
    'features.json',
    'dataset_info.json',
    'splits.csv',
    'front_end.json',
)


class Summary(NamedTuple):
    """What was prepared, each as the number of clips per label.

    Attributes:
      found: what the source has.
      written: what could be used.
      originals: what is in random and group splits: no duplicates, unless these are kept.
    """

    found: Counter[str]
    written: Counter[str]
    originals: Counter[str]

    @property
    def skipped(self) -> int:
        """Number of clips that could not be used."""
        return self.found.total() - self.written.total()

    @property
    def copies(self) -> int:
        """How many of the written clips are left out of splits as exact duplicates."""
        return self.written.total() - self.originals.total()


def prepare(
    clips: Sequence[Clip],
    out: str,
    front_end: FrontEnd,
    *,
    runner: Runner = serially,
    clips_per_shard: int = 32,
    max_skipped: float = 0.05,
    keep_copies: bool = False,
    shard_range: range | None = None,
    overwrite: bool = False,
    left_out: Sequence[Sequence[str]] = (),
) -> Summary | None:
    """Writes a dataset folder, or some of its shards.

    Args:
      clips: in any order; they are stored sorted by id.
      out: the folder to write; if it is unfinished, only its missing shards are written. If it is
        finished, it stays as it is until its successor is, and so do the columns that a user has
        added to its `splits.csv`.
      front_end: how spectrograms are computed and stored.
      runner: runs the shard jobs.
      clips_per_shard: clips per TFRecord file.
      max_skipped: fail if more than this fraction of the clips is skipped.
      keep_copies: whether to keep exact duplicates in random and group splits, where they may be
        on different sides.
      shard_range: write only these shards; None = write all that are missing and finish the
        dataset.
      overwrite: whether a finished dataset may be replaced by another one.
      left_out: `[id, path, reason]` of files that are not clips, for `skipped.csv`.

    Returns:
      The summary of a finished dataset; None if `shard_range` is given.

    Raises:
      UserError: two clips have one id, a label has fewer than three clips, too many clips are
        skipped, `shard_range` ends after the last shard, or `out` holds other files or another
        finished dataset.
    """
    clips = sorted(clips, key=lambda clip: clip.id)
    for one, two in itertools.pairwise(clips):
        if one.id == two.id:
            raise UserError(f'two clips have the id {one.id!r}: {one.path} and {two.path}')
    splits.check_labels([clip.label for clip in clips])
    n_mels = clips[0].n_mels or front_end.n_mels
    replace.resume_swap(out)
    finished = replace.is_finished(out)
    place = replace.beside(out) if finished else out
    jobs = _jobs(clips, place, front_end, n_mels, clips_per_shard)
    if shard_range is not None and shard_range.stop > len(jobs):
        raise UserError(
            f'--shard_range={shard_range.start}:{shard_range.stop} is too large: there are only '
            f'{len(jobs)} shards'
        )
    if finished and not overwrite:
        _refuse(out, replace.other_request(out, clips, front_end, len(jobs)))
    _claim(place, ours=finished)
    if shard_range is not None:
        _run(jobs[shard_range.start : shard_range.stop], runner)
        return None
    _remove_strays(place, jobs)
    shards = _run(jobs, runner)

    copies = {} if keep_copies else _copies(shards)
    skipped = _write_skipped(place, clips, shards, copies, left_out)
    written = {id for shard in shards for id in shard.ids}
    kept = [clip for clip in clips if clip.id in written]
    summary = _summary(clips, kept, copies)
    if len(skipped) > max_skipped * len(clips):
        raise UserError(
            f'{len(skipped)} of {len(clips)} clips were skipped, more than --max_skipped='
            f'{max_skipped:g}; the first: {": ".join(skipped[0][1:])} '
            f'(all are in {os.path.join(place, "skipped.csv")})'
        )
    _check_counts(summary, clips, skipped)
    added = replace.own_columns(out) if finished else {}
    table = _split_table(kept, copies, added)
    records.write_table(os.path.join(place, 'splits.csv'), *table)
    names = _write_lengths(place, shards)
    records.write_metadata(
        place,
        labels=jobs[0].labels,
        n_mels=n_mels,
        front_end=front_end,
        from_audio=not clips[0].n_mels,
        shard_lengths=[len(shard.ids) for shard in shards],
        num_bytes=sum(shard.num_bytes for shard in shards),
    )
    if finished:
        shard_names = [os.path.basename(job.path) for job in jobs]
        if not overwrite:
            _refuse(out, replace.other_content(out, shard_names))
        replace.swap(out, [*shard_names, *names, *_METADATA])
    storage.remove(_notes(out))
    return summary


def _refuse(out: str, held: str) -> None:
    if held:
        raise UserError(
            f'{out} holds {held}; give --overwrite to replace it, or choose another --out'
        )


def _summary(clips: Sequence[Clip], kept: Sequence[Clip], copies: Collection[str]) -> Summary:
    return Summary(
        Counter(clip.label for clip in clips),
        Counter(clip.label for clip in kept),
        Counter(clip.label for clip in kept if clip.id not in copies),
    )


def _jobs(
    clips: Sequence[Clip], out: str, front_end: FrontEnd, n_mels: int, clips_per_shard: int
) -> list[ShardJob]:
    labels = tuple(sorted({clip.label for clip in clips}))
    count = -(-len(clips) // clips_per_shard)
    jobs = []
    for k in range(count):
        path = records.shard_path(out, k, count)
        note = os.path.join(_notes(out), os.path.basename(path) + '.json')
        members = clips[k * clips_per_shard : (k + 1) * clips_per_shard]
        jobs.append(ShardJob(path, note, members, labels, n_mels, front_end))
    return jobs


def _remove_strays(out: str, jobs: Sequence[ShardJob]) -> None:
    """Removes files that a killed command began, and shards of other flags or other clips."""
    wanted = {job.path for job in jobs}
    for name in storage.entries(out):
        path = os.path.join(out, name)
        if storage.is_partial(name) or (name.startswith(replace.SHARDS) and path not in wanted):
            storage.remove(path)


def _run(jobs: Sequence[ShardJob], runner: Runner) -> list[Shard]:
    total = sum(len(job.clips) for job in jobs)
    with tqdm(total=total, unit='clip', desc='mel', dynamic_ncols=True) as bar:
        shards = []
        for job, shard in zip(jobs, runner(jobs), strict=True):
            shards.append(shard)
            bar.update(len(job.clips))
        return shards


def _copies(shards: Sequence[Shard]) -> dict[str, str]:
    """{id of a clip: id of the first clip with the same spectrogram}, exact duplicates only."""
    first: dict[str, str] = {}
    copies = {}
    for shard in shards:
        for id, digest in zip(shard.ids, shard.digests, strict=True):
            if first.setdefault(digest, id) != id:
                copies[id] = first[digest]
    return copies


def _check_counts(
    summary: Summary, clips: Sequence[Clip], skipped: Sequence[Sequence[str]]
) -> None:
    """Raises `UserError` if a label has too few clips for three sides."""
    least, label_of = len(records.SIDES), {clip.id: clip.label for clip in clips}
    for label, found in sorted(summary.found.items()):
        count, originals = summary.written[label], summary.originals[label]
        if count < least:
            first = next(row for row in skipped if label_of[row[0]] == label)
            raise UserError(
                f'label {label!r} has {count} clip{"s" * (count != 1)} (of {found}; the others '
                f'are in skipped.csv); it needs at least {least}; the first that was skipped: '
                f'{": ".join(first[1:])}'
            )
        if originals < least:
            raise UserError(
                f'label {label!r} has only {originals} clip{"s" * (originals != 1)} that '
                f'{"is not a duplicate" if originals == 1 else "are not duplicates"} (of {count}); '
                f'it needs at least {least}: add clips or give --keep_copies'
            )


def _write_lengths(out: str, shards: Sequence[Shard]) -> list[str]:
    """Writes `lengths.csv` if a clip is longer or shorter than its file states; returns its name.

    Returns:
      The names of the tables in the folder.
    """
    rows = [row for shard in shards for row in shard.lengths]
    path = os.path.join(out, LENGTHS)
    if not rows:
        storage.remove(path)
        return ['skipped.csv']
    records.write_table(path, ('id', 'stated', 'read'), rows)
    return ['skipped.csv', LENGTHS]


def _write_skipped(
    out: str,
    clips: Sequence[Clip],
    shards: Sequence[Shard],
    copies: Mapping[str, str],
    left_out: Sequence[Sequence[str]],
) -> list[list[str]]:
    """Writes `skipped.csv`: clips that failed, duplicates, and files that are not clips.

    Returns:
      The rows of those that failed.
    """
    skipped = sorted(row for shard in shards for row in shard.skipped)
    reason = 'duplicate of {}; left out of random and group splits'
    duplicates = [
        [clip.id, clip.path, reason.format(copies[clip.id])] for clip in clips if clip.id in copies
    ]
    header = ('id', 'path', 'reason')
    rows = sorted([*skipped, *duplicates, *map(list, left_out)])
    records.write_table(os.path.join(out, 'skipped.csv'), header, rows)
    return skipped


def _split_table(
    clips: Sequence[Clip], copies: Collection[str], added: Mapping[str, Mapping[str, str]]
) -> tuple[list[str], list[list[str]]]:
    """The columns and rows of `splits.csv`; `added` are columns of the user's own."""
    ids, clip_labels, groups = ([getattr(c, f) for c in clips] for f in ('id', 'label', 'group'))
    columns = splits.make_splits(ids, clip_labels, groups, left_out=copies)
    for name in sorted({name for clip in clips for name in clip.splits}):
        columns[name] = [clip.splits.get(name, '') for clip in clips]
    for name, values in added.items():
        columns[name] = [values.get(id, '') for id in ids]
    rows = zip(ids, clip_labels, groups, *columns.values(), strict=True)
    return ['id', 'label', 'group', *columns], [list(row) for row in rows]


def _notes(out: str) -> str:
    return os.path.join(out, '.unfinished')


def _claim(place: str, ours: bool) -> None:
    """Creates the folder, or takes over one that data_prep began.

    Raises:
      UserError: it has other content, unless it is known to be ours.
    """
    ours = ours or storage.is_folder(_notes(place))
    if (
        storage.exists(place)
        and not ours
        and (not storage.is_folder(place) or storage.entries(place))
    ):
        raise UserError(f'{place} exists and was not created by data_prep; choose another --out')
    storage.make_folder(_notes(place))
    begun = os.path.join(_notes(place), 'begun')  # object stores have no empty folders
    with storage.to_write(begun) as local, open(local, 'w'):
        pass
    for name in replace.WRITTEN_LAST:  # without these files, the folder counts as unfinished
        storage.remove(os.path.join(place, name))
