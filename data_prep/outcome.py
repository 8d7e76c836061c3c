"""What became of the clips: which were used, which are duplicates, and the tables that say so."""

import dataclasses
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from data_prep import reuse, splits
from data_prep.clips import Clip
from data_prep.shards import Shard
from glr_jax import storage
from glr_jax.cli import status
from glr_jax.data import records, split_table
from glr_jax.data.metadata import SOURCES
from glr_jax.data.tables import names_of
from glr_jax.errors import UserError
from glr_jax.text import counted

LENGTHS = 'lengths.csv'
MOST_REASONS = 5  # for skipping that are printed


class Summary(NamedTuple):
    """What was prepared; counters have the number of clips per label.

    A clip with several labels counts for each of them, so clips are also counted by themselves.

    Attributes:
      found: what the source has, without rare labels.
      written: what could be used.
      originals: what is in random and group splits: no duplicates, unless these are kept.
      clips_found: the number of clips in `found`.
      clips_written: in `written`.
      clips_original: in `originals`.
      rare: the labels that were left out because they have few clips.
      reused: how many spectrograms were kept from an earlier command.
      computed: how many this command computed.
      default_split: the split that is used by default, and why.
      missing: {label: the sides of the default split on which no clip has it}.
      multi_label: whether clips may have several labels.
      other_lengths: how many clips are longer or shorter than their files state.
    """

    found: Counter[str]
    written: Counter[str]
    originals: Counter[str]
    clips_found: int
    clips_written: int
    clips_original: int
    rare: Counter[str] = Counter()  # noqa: RUF012 (it is not changed)
    reused: int = 0
    computed: int = 0
    default_split: tuple[str, str] = ('', '')
    missing: Mapping[str, Sequence[str]] = {}
    multi_label: bool = False
    other_lengths: int = 0

    @property
    def skipped(self) -> int:
        """Number of clips that could not be used."""
        return self.clips_found - self.clips_written

    @property
    def copies(self) -> int:
        """How many of the written clips are left out of splits as exact duplicates."""
        return self.clips_written - self.clips_original


def summarise(clips: Sequence[Clip], kept: Sequence[Clip], copies: Collection[str]) -> Summary:
    """Counts clips, those that were written, and those that are no duplicates."""
    originals = [clip for clip in kept if clip.id not in copies]
    counts = count(clips), count(kept), count(originals)
    return Summary(*counts, len(clips), len(kept), len(originals), multi_label=clips[0].multi_label)


def count(clips: Sequence[Clip]) -> Counter[str]:
    """The number of clips of each label."""
    return Counter(label for clip in clips for label in clip.labels)


def without_rare(
    clips: Sequence[Clip], counts: Mapping[str, int], at_least: int, noun: str = 'clip'
) -> tuple[list[Clip], list[tuple[Clip, str]]]:
    """The clips of labels that have enough, and each other clip with the reason.

    A clip that may have several labels loses those that have too few clips, and is left out if it
    loses all.

    Args:
      clips: in any order.
      counts: the number of clips of each label.
      at_least: how many a label needs.
      noun: what is counted, in the singular, for the reason.

    Raises:
      UserError: fewer than two labels remain.
    """
    reason = 'its label {} has {}, fewer than --min_clips_per_label={}'
    kept, rare = [], []
    for clip in clips:
        labels = tuple(label for label in clip.labels if counts.get(label, 0) >= at_least)
        if labels == clip.labels:
            kept.append(clip)
        elif labels:
            kept.append(dataclasses.replace(clip, label=labels))
        else:
            most = max(counts.get(label, 0) for label in clip.labels)
            name = ', '.join(map(repr, clip.labels))
            has = f'only {counted(most, noun)}' if most else f'no {noun}'
            rare.append((clip, reason.format(name, has, at_least)))
    if rare and len(count(kept)) < 2:
        largest = ', '.join(str(count) for _, count in Counter(counts).most_common(2))
        raise UserError(
            f'--min_clips_per_label={at_least} leaves fewer than two of the {len(counts)} labels: '
            f'the largest have {largest} {noun}s; give a smaller number'
        )
    return kept, rare


def copies_among(shards: Sequence[Shard]) -> dict[str, str]:
    """{id of a clip: id of the first clip with the same spectrogram}, exact duplicates only."""
    first: dict[str, str] = {}
    copies = {}
    for shard in shards:
        for id, digest in zip(shard.ids, shard.digests, strict=True):
            if first.setdefault(digest, id) != id:
                copies[id] = first[digest]
    return copies


def check_counts(summary: Summary, clips: Sequence[Clip], skipped: Sequence[Sequence[str]]) -> None:
    """Raises `UserError` if a label has too few clips for three sides."""
    least, label_of = len(records.SIDES), {clip.id: clip.label_cell for clip in clips}
    for label, found in sorted(summary.found.items()):
        count, originals = summary.written[label], summary.originals[label]
        has = counted(count, 'clip') if count else 'no clip'
        if count < least:
            first = next(row for row in skipped if label_of[row[0]] == label)
            raise UserError(
                f'label {label!r} has {has} (of {found}; the others are in '
                f'skipped.csv); it needs at least {least}, or --min_clips_per_label={least} to '
                f'leave it out; e.g. {first[0]}: {first[2]}'
            )
        if originals < least:
            has = 'no clip that is not a duplicate'
            if originals:
                is_none = 'is not a duplicate' if originals == 1 else 'are not duplicates'
                has = f'only {counted(originals, "clip")} that {is_none}'
            raise UserError(
                f'label {label!r} has {has} (of {count}); it needs at least {least}: add clips '
                'or give --keep_copies'
            )


def check_skipped(
    summary: Summary, skipped: Sequence[Sequence[str]], at_most: float, path: str
) -> None:
    """Raises `UserError` if more than a fraction of the clips was skipped; prints the reasons.

    Args:
      summary: the counts.
      skipped: the rows of the skipped clips.
      at_most: the fraction.
      path: of skipped.csv.
    """
    count = summary.clips_found
    if len(skipped) <= at_most * count:
        return
    ids = defaultdict(list)
    for id, _, reason in skipped:
        ids[reason].append(id)
    for reason, its in sorted(ids.items(), key=lambda pair: -len(pair[1]))[:MOST_REASONS]:
        others = f' and {counted(len(its) - 1, "other")}' if len(its) > 1 else ''
        status(f'{its[0]}{others}: {reason}')
    empty = sorted(label for label in summary.found if not summary.written[label])
    if empty:
        status(f'no clip is left of {names_of(empty)}')
    was = 'was' if len(skipped) == 1 else 'were'
    raise UserError(
        f'{len(skipped)} of {counted(count, "clip")} {was} skipped, more than --max_skipped='
        f'{at_most:g}; see {path}'
    )


def write_tables(out: str, shards: Sequence[Shard]) -> list[str]:
    """Writes the tables about records: lengths other than stated, and what was computed from what.

    Each is written only if it has rows.

    Returns:
      The names of those that were written.
    """
    lengths = [row for shard in shards for row in shard.lengths]
    sources: list[tuple[str, str, str]] = []
    for shard in shards:
        contents = shard.contents or [''] * len(shard.ids)
        sources += zip(shard.ids, contents, shard.digests, strict=True)
    if not any(content for _, content, _ in sources):
        sources = []
    names = []
    for name, columns, rows in (
        (LENGTHS, ('id', 'stated', 'read'), lengths),
        (SOURCES, reuse.COLUMNS, sources),
    ):
        path = os.path.join(out, name)
        if rows:
            records.write_table(path, columns, rows)
            names.append(name)
        else:
            storage.remove(path)
    return names


def write_skipped(
    out: str,
    clips: Sequence[Clip],
    shards: Sequence[Shard],
    copies: Mapping[str, str],
    left_out: Sequence[Sequence[str]],
) -> list[list[str]]:
    """Writes `skipped.csv`: clips that failed, duplicates, rare labels, and files without a clip.

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


def make_table(
    clips: Sequence[Clip], copies: Collection[str], added: Mapping[str, Mapping[str, str]]
) -> tuple[list[str], list[list[str]]]:
    """The columns and rows of `splits.csv`; `added` are columns of the user's own."""
    ids, groups = ([getattr(clip, name) for clip in clips] for name in ('id', 'group'))
    clip_labels = [clip.label for clip in clips]
    columns = splits.make_splits(ids, clip_labels, groups, left_out=copies)
    for name in sorted({name for clip in clips for name in clip.splits}):
        columns[name] = [clip.splits.get(name, '') for clip in clips]
    for name, values in added.items():
        columns[name] = [values.get(id, '') for id in ids]
    cells = [clip.label_cell for clip in clips]
    rows = zip(ids, cells, groups, *columns.values(), strict=True)
    label = 'labels' if clips[0].multi_label else 'label'
    return ['id', label, 'group', *columns], [list(row) for row in rows]


def default_split(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[str, str]:
    """The split of a table that is used by default, and why."""
    table = dict(zip(columns, zip(*rows, strict=True), strict=True))
    sides = {name: v for name, v in table.items() if name not in split_table.NO_SPLITS}
    return split_table.default_split(sides, table['group'])


def missing_labels(
    labels: Sequence[str],
    clips: Sequence[Clip],
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
) -> dict[str, list[str]]:
    """{label: sides of the default split without a clip that has it}, of labels with such sides."""
    split, _ = default_split(columns, rows)
    if split not in columns:
        return {}
    on: dict[str, set[str]] = defaultdict(set)
    for clip, row in zip(clips, rows, strict=True):
        for label in clip.labels:
            on[label].add(row[columns.index(split)])
    absent = {label: [side for side in records.SIDES if side not in on[label]] for label in labels}
    return {label: sides for label, sides in absent.items() if sides}
