"""What the command says at its end: clips per label, what was left out, the default split."""

import os
import textwrap
from collections.abc import Iterator, Sequence

from data_prep.clips import readable
from data_prep.outcome import LENGTHS, Summary
from glr_jax.data.files import EMPTY, HIDDEN, LeftOut, describe
from glr_jax.data.records import SIDES
from glr_jax.data.tables import names_of
from glr_jax.text import cell, counted

WIDTH = 80  # of a terminal


def lines(
    summary: Summary,
    left_out: Sequence[LeftOut],
    *,
    out: str,
    min_clips_per_label: int,
    seconds: float,
) -> Iterator[str]:
    """The lines to print.

    Args:
      summary: what was prepared.
      left_out: files that are not clips.
      out: the dataset folder.
      min_clips_per_label: how many clips a label needs.
      seconds: that the command took.
    """
    yield from _label_lines(summary, left_out, min_clips_per_label)
    if left_out:
        files = f'{counted(len(left_out), "other file")} left out ({describe(left_out)})'
        yield from textwrap.wrap(files, WIDTH, break_long_words=False, break_on_hyphens=False)
    if summary.rare:
        rare = counted(summary.rare.total(), 'clip')
        labels = counted(len(summary.rare), 'label')
        if summary.multi_label:  # most of its clips have other labels, and stay
            yield f'{labels} with fewer than {min_clips_per_label} clips left out'
        else:
            yield f'{rare} left out of {labels} with fewer than {min_clips_per_label} clips'
    if summary.copies:
        copies = counted(summary.copies, 'duplicate')
        originals = counted(summary.clips_original, 'clip')
        yield f'{copies} left out of random and group splits, which have {originals}'
    if summary.other_lengths:
        its = 'clip is' if summary.other_lengths == 1 else 'clips are'
        path = os.path.join(out, LENGTHS)
        yield f'{summary.other_lengths} {its} longer or shorter than stated in the file; see {path}'
    clips = counted(summary.clips_written, 'clip')
    yield f'{clips} in {out}, {summary.skipped} skipped, {seconds:.0f} s'


def notes(summary: Summary) -> Iterator[str]:
    """What is of interest besides: spectrograms that were kept, and the default split."""
    if summary.reused:
        kept = counted(summary.reused, 'spectrogram')
        yield f'{kept} kept from before, {summary.computed} computed'
    yield 'default split: {}, because {}'.format(*summary.default_split)
    for side in SIDES:
        names = [label for label, sides in summary.missing.items() if side in sides]
        if names:
            count = 'a label has' if len(names) == 1 else f'{len(names)} labels have'
            noun = f'{"training" if side == "train" else side} clip'
            yield f'{count} no {noun} in this split: {names_of(names)}'


def _label_lines(
    summary: Summary, left_out: Sequence[LeftOut], min_clips_per_label: int
) -> Iterator[str]:
    """The number of clips of each label, with those that were skipped or are duplicates."""
    found = {}
    for label, total in summary.found.items():
        count, originals = summary.written[label], summary.originals[label]
        notes = [f'{total - count} skipped'] if total > count else []
        copies = count - originals
        notes += [counted(copies, 'duplicate')] if copies else []
        of_all = f'  (of {total}: {", ".join(notes)})' if notes else ''
        found[label] = f'{cell(label, 24)} {count:7}{of_all}'
    for label, total in summary.rare.items():
        note = f'of {total}: too few for --min_clips_per_label={min_clips_per_label}'
        found[label] = f'{cell(label, 24)} {0:7}  ({note})'
    for file in left_out:
        if file.kind == EMPTY:
            label = os.path.basename(readable(file.path))
            found.setdefault(label, f'{cell(label, 24)} {0:7}  (no audio files)')
    yield from (found[label] for label in sorted(found))


def rows(left_out: Sequence[LeftOut], folder: str) -> list[list[str]]:
    """Rows of skipped.csv for files that are not clips; hidden ones are only counted."""
    return [
        [
            readable(os.path.relpath(file.path, folder).replace(os.sep, '/')),
            readable(file.path),
            file.reason,
        ]
        for file in left_out
        if file.kind != HIDDEN
    ]
