"""Clips to a dataset folder: first the missing shards, then tables and metadata."""

import dataclasses
import itertools
import os
from collections.abc import Sequence

from data_prep import outcome, replace, reuse, splits
from data_prep.clips import Clip
from data_prep.outcome import Summary
from data_prep.runners import Runner, serially
from data_prep.shards import Shard, ShardJob, finished_shards, set_aside
from glr_jax import storage
from glr_jax.data import records
from glr_jax.data.mel import FrontEnd
from glr_jax.data.metadata import NOTES, labels_file
from glr_jax.errors import UserError
from glr_jax.progress import Progress
from glr_jax.text import counted

_METADATA = (
    'features.json',
    'dataset_info.json',
    'splits.csv',
    'front_end.json',
)


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
    min_clips_per_label: int = 0,
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
      overwrite: whether a finished dataset may be replaced by another one; it keeps the
        spectrograms of files whose content is the same.
      min_clips_per_label: leave out labels with fewer clips that are usable and no duplicates.
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
    counts, multi_label = outcome.count(clips), clips[0].multi_label
    clips, rare = outcome.without_rare(clips, counts, min_clips_per_label)
    if multi_label:
        splits.check_several(outcome.count(clips), len(clips))
    else:
        splits.check_labels([label for clip in clips for label in clip.labels])
    n_mels = clips[0].n_mels or front_end.n_mels
    replace.resume_swap(out)
    finished = replace.is_finished(out)
    place = replace.beside(out) if finished else out
    jobs = _jobs(clips, place, front_end, n_mels, clips_per_shard)
    if shard_range is not None and shard_range.stop > len(jobs):
        raise UserError(
            f'--shard_range={shard_range.start}:{shard_range.stop} is too large: there '
            f'{"is" if len(jobs) == 1 else "are"} only {counted(len(jobs), "shard")}'
        )
    if finished and not overwrite:
        # Labels that turn out to be rare only once their clips are read change the shards.
        count = 0 if min_clips_per_label else len(jobs)
        _refuse(out, replace.other_request(out, clips, front_end, count))
    _claim(place, ours=finished)
    earlier = list(reuse.of_dataset(out)) if finished else []
    if shard_range is not None:
        _run(jobs[shard_range.start : shard_range.stop], runner, earlier)
        return None
    work: list[tuple[int, int]] = []  # spectrograms of each round, and how many were reused
    rows = [*map(list, left_out)]
    while True:
        shards = _run(jobs, runner, [*earlier, *_set_aside(place, jobs)])
        work.append((sum(len(s.ids) for s in shards), sum(s.reused for s in shards)))
        copies = {} if keep_copies else outcome.copies_among(shards)
        others = [*rows, *([clip.id, clip.path, reason] for clip, reason in rare)]
        skipped = outcome.write_skipped(place, clips, shards, copies, others)
        written = {id for shard in shards for id in shard.ids}
        kept = [clip for clip in clips if clip.id in written]
        summary = outcome.summarise(clips, kept, copies)
        outcome.check_skipped(summary, skipped, max_skipped, os.path.join(place, 'skipped.csv'))
        # Labels may turn out to be rare only once their clips are read.
        before = clips
        clips, more = outcome.without_rare(
            clips, summary.originals, min_clips_per_label, 'usable clip'
        )
        if clips == before:  # none was left out, and none lost one of several labels
            break
        failed = {row[0]: row for row in skipped}
        rows += [failed[clip.id] for clip, _ in more if clip.id in failed]
        rare += [(clip, reason) for clip, reason in more if clip.id not in failed]
        jobs = _jobs(clips, place, front_end, n_mels, clips_per_shard)
    if not multi_label:
        outcome.check_counts(summary, clips, skipped)
    added = replace.own_columns(out) if finished else {}
    columns, table = outcome.make_table(kept, copies, added)
    records.write_table(os.path.join(place, 'splits.csv'), columns, table)
    names = ['skipped.csv', *outcome.write_tables(place, shards)]
    records.write_metadata(
        place,
        labels=jobs[0].labels,
        n_mels=n_mels,
        front_end=front_end,
        from_audio=not clips[0].n_mels,
        shard_lengths=[len(shard.ids) for shard in shards],
        num_bytes=sum(shard.num_bytes for shard in shards),
        multi_label=multi_label,
    )
    reuse.close()
    if finished:
        shard_names = [os.path.basename(job.path) for job in jobs]
        if not overwrite:
            _refuse(out, replace.other_content(out, shard_names))
        replace.swap(out, [*shard_names, *names, labels_file(multi_label), *_METADATA])
    storage.remove(_notes(out))
    return summary._replace(
        rare=counts - outcome.count(clips),
        reused=work[0][1],  # later rounds reuse what this command has computed
        computed=sum(total - reused for total, reused in work),
        default_split=outcome.default_split(columns, table),
        missing=outcome.missing_labels(jobs[0].labels, kept, columns, table),
        other_lengths=sum(len(shard.lengths) for shard in shards),
    )


def _refuse(out: str, held: str) -> None:
    if held:
        raise UserError(
            f'{out} holds {held}; give --overwrite to replace it, or choose another --out'
        )


def _jobs(
    clips: Sequence[Clip], out: str, front_end: FrontEnd, n_mels: int, clips_per_shard: int
) -> list[ShardJob]:
    labels = tuple(sorted({label for clip in clips for label in clip.labels}))
    count = -(-len(clips) // clips_per_shard)
    jobs = []
    for k in range(count):
        path = records.shard_path(out, k, count)
        note = os.path.join(_notes(out), os.path.basename(path) + '.json')
        members = clips[k * clips_per_shard : (k + 1) * clips_per_shard]
        jobs.append(ShardJob(path, note, members, labels, n_mels, front_end))
    return jobs


def _set_aside(place: str, jobs: Sequence[ShardJob]) -> list[reuse.Kept]:
    """Removes what killed commands began, and keeps spectrograms of other clips or other flags."""
    kept = set_aside(_notes(place), jobs)
    wanted = {job.path for job in jobs}
    for name in storage.entries(place):
        path = os.path.join(place, name)
        if storage.is_partial(name) or (name.startswith(replace.SHARDS) and path not in wanted):
            storage.remove(path)
    return kept


def _run(jobs: Sequence[ShardJob], runner: Runner, earlier: Sequence[reuse.Kept]) -> list[Shard]:
    """Writes the shards that are not finished, with the spectrograms that are kept."""
    done = {
        path: dataclasses.replace(shard, reused=len(shard.ids))
        for path, shard in finished_shards(jobs).items()
    }
    pending = [job for job in jobs if job.path not in done]
    total = sum(len(job.clips) for job in jobs)
    before = total - sum(len(job.clips) for job in pending)
    if pending:
        path = os.path.join(os.path.dirname(pending[0].note), reuse.INDEX)
        index = reuse.write_index(path, earlier)
        pending = [dataclasses.replace(job, kept=index) for job in pending]
        with Progress(total, 'mel', 'clip', before) as progress:
            for job, shard in zip(pending, runner(pending, progress.advance), strict=True):
                done[job.path] = shard
    return [done[job.path] for job in jobs]


def _notes(out: str) -> str:
    return os.path.join(out, NOTES)


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
