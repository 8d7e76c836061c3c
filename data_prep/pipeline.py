"""Clips to a dataset folder: first the missing shards, then tables and metadata."""

import itertools
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from tqdm import tqdm

from data_prep import splits
from data_prep.runners import Runner, serially
from data_prep.shards import Shard, ShardJob
from data_prep.sources import Clip
from glr_jax import storage
from glr_jax.data import records
from glr_jax.data.mel import FrontEnd
from glr_jax.errors import UserError

_LAST_WRITTEN = ('splits.csv', 'dataset_info.json', 'front_end.json')


class Summary(NamedTuple):
    """What was prepared.

    Attributes:
      written: number of clips per label.
      skipped: number of clips that could not be used.
      copies: how many of the written clips are left out of splits as exact duplicates.
    """

    written: Counter[str]
    skipped: int
    copies: int


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
) -> Summary | None:
    """Writes a dataset folder, or some of its shards.

    Args:
      clips: in any order; they are stored sorted by id.
      out: the folder to write; if it is unfinished, only its missing shards are written.
      front_end: how spectrograms are computed and stored.
      runner: runs the shard jobs.
      clips_per_shard: clips per TFRecord file.
      max_skipped: fail if more than this fraction of the clips is skipped.
      keep_copies: whether to keep exact duplicates in random and group splits, where they may be
        on different sides.
      shard_range: write only these shards; None = write all that are missing and finish the
        dataset.

    Returns:
      The summary of a finished dataset; None if `shard_range` is given.

    Raises:
      UserError: two clips have one id, a label has fewer than three clips, too many clips are
        skipped, `shard_range` ends after the last shard, or `out` holds other files.
    """
    clips = sorted(clips, key=lambda clip: clip.id)
    for one, two in itertools.pairwise(clips):
        if one.id == two.id:
            raise UserError(f'two clips have the id {one.id!r}: {one.path} and {two.path}')
    splits.check_labels([clip.label for clip in clips])
    n_mels = clips[0].n_mels or front_end.n_mels
    jobs = _jobs(clips, out, front_end, n_mels, clips_per_shard)
    if shard_range is not None and shard_range.stop > len(jobs):
        raise UserError(
            f'--shard_range={shard_range.start}:{shard_range.stop} is too large: there are only '
            f'{len(jobs)} shards'
        )
    _claim(out)
    if shard_range is not None:
        _run(jobs[shard_range.start : shard_range.stop], runner)
        return None
    _remove_strays(out, jobs)
    shards = _run(jobs, runner)

    copies = {} if keep_copies else _copies(shards)
    skipped = _write_skipped(out, clips, shards, copies)
    if len(skipped) > max_skipped * len(clips):
        raise UserError(
            f'{len(skipped)} of {len(clips)} clips were skipped, more than --max_skipped='
            f'{max_skipped:g}; the first: {": ".join(skipped[0][1:])} '
            f'(all are in {os.path.join(out, "skipped.csv")})'
        )
    written = {id for shard in shards for id in shard.ids}
    kept = [clip for clip in clips if clip.id in written]
    splits.check_labels([clip.label for clip in kept], labels=jobs[0].labels)
    _check_originals(kept, copies)
    records.write_table(os.path.join(out, 'splits.csv'), *_split_table(kept, copies))
    records.write_metadata(
        out,
        labels=jobs[0].labels,
        n_mels=n_mels,
        front_end=front_end,
        from_audio=not clips[0].n_mels,
        shard_lengths=[len(shard.ids) for shard in shards],
        num_bytes=sum(shard.num_bytes for shard in shards),
    )
    storage.remove(_notes(out))
    return Summary(Counter(clip.label for clip in kept), len(skipped), len(copies))


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
    """Removes partial shards, and shards that other flags or other clips left behind."""
    wanted = {job.path for job in jobs}
    for name in storage.entries(out):
        path = os.path.join(out, name)
        if name.startswith('music-clips.tfrecord-') and path not in wanted:
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


def _check_originals(clips: Sequence[Clip], copies: Collection[str]) -> None:
    """Raises `UserError` if a label has too few clips for three sides without its duplicates."""
    counts = Counter(clip.label for clip in clips)
    originals = Counter(clip.label for clip in clips if clip.id not in copies)
    for label, count in sorted(counts.items()):
        found, least = originals[label], len(records.SIDES)
        if found < least:
            raise UserError(
                f'label {label!r} has only {found} clip{"s" * (found != 1)} that '
                f'{"is not a duplicate" if found == 1 else "are not duplicates"} (of {count}); it '
                f'needs at least {least}: add clips or give --keep_copies'
            )


def _write_skipped(
    out: str, clips: Sequence[Clip], shards: Sequence[Shard], copies: Mapping[str, str]
) -> list[list[str]]:
    """Writes `skipped.csv`: clips that failed, and duplicates; returns those that failed."""
    skipped = sorted(row for shard in shards for row in shard.skipped)
    reason = 'duplicate of {}; left out of random and group splits'
    left_out = [
        [clip.id, clip.path, reason.format(copies[clip.id])] for clip in clips if clip.id in copies
    ]
    header = ('id', 'path', 'reason')
    records.write_table(os.path.join(out, 'skipped.csv'), header, sorted(skipped + left_out))
    return skipped


def _split_table(
    clips: Sequence[Clip], copies: Collection[str]
) -> tuple[list[str], list[list[str]]]:
    ids, clip_labels, groups = ([getattr(c, f) for c in clips] for f in ('id', 'label', 'group'))
    columns = splits.make_splits(ids, clip_labels, groups, left_out=copies)
    for name in sorted({name for clip in clips for name in clip.splits}):
        columns[name] = [clip.splits.get(name, '') for clip in clips]
    rows = zip(ids, clip_labels, groups, *columns.values(), strict=True)
    return ['id', 'label', 'group', *columns], [list(row) for row in rows]


def _notes(out: str) -> str:
    return os.path.join(out, '.unfinished')


def _claim(out: str) -> None:
    """Creates the folder, or takes over one that data_prep began or finished."""
    finished = all(storage.exists(os.path.join(out, name)) for name in _LAST_WRITTEN)
    ours = finished or storage.is_folder(_notes(out))
    if storage.exists(out) and not ours and (not storage.is_folder(out) or storage.entries(out)):
        raise UserError(f'{out} exists and was not created by data_prep; choose another --out')
    storage.make_folder(_notes(out))
    with storage.to_write(os.path.join(_notes(out), 'begun')) as local, open(local, 'w'):
        pass  # object stores have no empty folders
    for name in _LAST_WRITTEN:  # without these files, the folder counts as unfinished
        storage.remove(os.path.join(out, name))
