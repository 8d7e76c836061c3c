"""Splits: which clips are in train, validation and test, under several protocols.

random-1..13    8:1:1 within each label, shuffled by iteration (paper, section III-A):
                the paper has three, 1 to 3; 4 to 6 are for choosing settings; for reporting ten
                splits, use 1 to 3 and 7 to 13
group-1..3      8:1:1, no group (artist) on two sides; needs enough groups for three sides
fault_filtered  443/197/290 clips of GTZAN: no artist on two sides, no faulty or duplicate clips
                (Kereliuk, Sturm & Larsen, 2015; lists from jongpillee/music_dataset_split)
official        the split that the source defines, e.g. FMA's

Where clips may have several labels, random and group splits are made by `stratify`.
"""

import functools
import importlib.resources
import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from data_prep.stratify import stratify
from glr_jax.data import metadata
from glr_jax.data.records import SIDES
from glr_jax.errors import UserError
from glr_jax.text import counted, printable, shorten

RANDOM_ITERATIONS = range(1, 14)
GROUP_ITERATIONS = (1, 2, 3)


def make_splits(
    ids: Sequence[str],
    clip_labels: Sequence[str | tuple[str, ...]],
    groups: Sequence[str],
    left_out: Collection[str] = (),
) -> dict[str, list[str]]:
    """Makes every split that the labels and groups allow.

    The side of a clip does not depend on the order in which the clips are given.

    Args:
      ids: one per clip, all different.
      clip_labels: one per clip, or a tuple of any number of them.
      groups: one per clip; a clip without a group ('') is a group of its own.
      left_out: ids of clips to leave out of random and group splits.

    Returns:
      {split: [side of each clip, '' if it is on none]}, the clips in the given order.

    Raises:
      UserError: a label has fewer than three clips.
    """
    kept = [k for k, id in enumerate(ids) if id not in left_out]
    kept_ids, kept_groups = ([column[k] for k in kept] for column in (ids, groups))
    kept_labels: list[Any] = [clip_labels[k] for k in kept]
    several = isinstance(clip_labels[0], tuple)
    alone = stratified_split if several else random_split
    whole = stratified_group_split if several else group_split
    table = {f'random-{k}': alone(kept_ids, kept_labels, k) for k in RANDOM_ITERATIONS}
    if any(groups):
        grouped = {
            f'group-{k}': whole(kept_ids, kept_labels, kept_groups, k) for k in GROUP_ITERATIONS
        }
        table |= {name: sides for name, sides in grouped.items() if set(sides) == set(SIDES)}
    for name, sides in table.items():
        side_of = dict(zip(kept, sides, strict=True))
        table[name] = [side_of.get(k, '') for k in range(len(ids))]
    published = fault_filtered(ids)
    if set(SIDES) <= set(published):
        table['fault_filtered'] = published
    return table


def random_split(ids: Sequence[str], clip_labels: Sequence[str], iteration: int) -> list[str]:
    """8:1:1 within each label, with at least one clip on each side.

    Args:
      ids: one per clip, all different.
      clip_labels: one per clip.
      iteration: seed of the shuffle.

    Returns:
      The side of each clip.

    Raises:
      UserError: a label has fewer than three clips.
    """
    check_labels(clip_labels)
    members = defaultdict(list)
    for clip, label in sorted(zip(ids, clip_labels, strict=True)):
        members[label].append(clip)
    rng = np.random.default_rng(iteration)
    side_of = {}
    for label in sorted(members):
        clips = [members[label][i] for i in rng.permutation(len(members[label]))]
        held_out = max(1, round(len(clips) / 10))
        for rank, clip in enumerate(clips):
            side_of[clip] = ('test', 'validation', 'train')[min(rank // held_out, 2)]
    return [side_of[clip] for clip in ids]


def group_split(
    ids: Sequence[str], clip_labels: Sequence[str], groups: Sequence[str], iteration: int
) -> list[str]:
    """8:1:1 within each label, as nearly as whole groups allow; the largest are placed first.

    Args:
      ids: one per clip, all different.
      clip_labels: one per clip.
      groups: one per clip; a clip without a group ('') is a group of its own.
      iteration: seed of the shuffle.

    Returns:
      The side of each clip; with few groups, a side may be empty.
    """
    order = sorted(range(len(ids)), key=lambda i: ids[i])
    rank = {label: k for k, label in enumerate(sorted(set(clip_labels)))}
    members: dict[str, list[int]] = defaultdict(list)
    counts: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(len(rank)))
    for i in order:
        group = groups[i] or f'\0{ids[i]}'
        members[group].append(i)
        counts[group][rank[clip_labels[i]]] += 1
    names = sorted(members)
    shuffled = [names[k] for k in np.random.default_rng(iteration).permutation(len(names))]
    wanted = np.outer((0.8, 0.1, 0.1), sum(counts.values()))
    filled = np.zeros_like(wanted)
    sides = [''] * len(ids)
    for group in sorted(shuffled, key=lambda name: -len(members[name])):
        # For each side: how the squared distance from the wanted counts, relative to these counts,
        # changes if the group joins it.
        change = counts[group] * (2 * (filled - wanted) + counts[group]) / wanted
        side = int(change.sum(1).argmin())
        filled[side] += counts[group]
        for i in members[group]:
            sides[i] = SIDES[side]
    return sides


def stratified_split(
    ids: Sequence[str], clip_labels: Sequence[tuple[str, ...]], iteration: int
) -> list[str]:
    """8:1:1 of every label of clips that may have several; arguments as `random_split`."""
    return stratified_group_split(ids, clip_labels, [''] * len(ids), iteration)


def stratified_group_split(
    ids: Sequence[str],
    clip_labels: Sequence[tuple[str, ...]],
    groups: Sequence[str],
    iteration: int,
) -> list[str]:
    """The same with whole groups; arguments as `group_split`."""
    labels = sorted({label for its in clip_labels for label in its})
    rank = {label: k for k, label in enumerate(labels)}
    members: dict[str, list[int]] = defaultdict(list)
    for i in sorted(range(len(ids)), key=lambda i: ids[i]):
        members[groups[i] or f'\0{ids[i]}'].append(i)
    names = sorted(members)
    counts = np.zeros((len(names), len(rank)), np.int32)
    cells = [
        (row, rank[label])
        for row, name in enumerate(names)
        for i in members[name]
        for label in clip_labels[i]
    ]
    if cells:
        np.add.at(counts, tuple(np.transpose(cells)), 1)
    placed = stratify(counts, np.asarray([len(members[name]) for name in names]), iteration)
    sides = [''] * len(ids)
    for name, side in zip(names, placed, strict=True):
        for i in members[name]:
            sides[i] = SIDES[side]
    return sides


def fault_filtered(ids: Sequence[str]) -> list[str]:
    """The published side of each GTZAN clip; '' for clips that are left out or not of GTZAN.

    Args:
      ids: such as `blues.00000` or `blues/blues.00000.wav`.
    """
    sides = _published_sides()
    names = [os.path.basename(id) for id in ids]
    return [sides.get(name) or sides.get(os.path.splitext(name)[0], '') for name in names]


@functools.cache
def _published_sides() -> dict[str, str]:
    """{GENRE.00000: side}, from the lists in this folder."""
    lists = importlib.resources.files('data_prep') / 'gtzan_fault_filtered'
    return {
        os.path.splitext(os.path.basename(line))[0]: side
        for side, stem in zip(SIDES, ('train', 'valid', 'test'), strict=True)
        for line in (lists / f'{stem}_filtered.txt').read_text('utf-8').split()
    }


def check_several(counts: Mapping[str, int], clips: int) -> None:
    """Makes sure that labels of clips that may have several can be told apart.

    Args:
      counts: the number of clips of each label.
      clips: the number of all clips.

    Raises:
      UserError: no clip has a label, all have the same ones, a label is too long or has invisible
        characters or a separator in it, or there are too many.
    """
    if not counts or all(count == clips for count in counts.values()):
        raise UserError(
            f'every clip has the same labels ({_some(counts) or "none"}); add clips with others, '
            'or without any (--keep_unlabelled)'
        )
    for label in sorted(counts):
        _check_name(label)
    metadata.check_labels(sorted(counts), multi_label=True)


def check_labels(clip_labels: Sequence[str], labels: Sequence[str] = ()) -> None:
    """Makes sure that labels can be split and printed.

    Args:
      clip_labels: one per clip.
      labels: labels that must have clips, besides those of `clip_labels`.

    Raises:
      UserError: there are fewer than two labels, a label has too few clips for three sides, or
        it is empty or too long or has invisible characters.
    """
    counts = Counter(dict.fromkeys(labels, 0))
    counts.update(clip_labels)
    if len(counts) < 2:
        names = f' ({", ".join(counts)})' if counts else ''
        raise UserError(f'found only {counted(len(counts), "label")}{names}; need at least two')
    for label, count in sorted(counts.items()):
        _check_name(label)
        if count < len(SIDES):
            raise UserError(
                f'label {label!r} has {counted(count, "clip")}; it needs at least 3, one each for '
                'train, validation and test: add clips, or leave such labels out with '
                '--min_clips_per_label=3'
            )
    metadata.check_labels(sorted(counts))


def _some(labels: Collection[str]) -> str:
    """The first labels, for a message."""
    names = [shorten(printable(label), 20) for label in sorted(labels)[:3]]
    return ', '.join([*names, '...'] if len(labels) > len(names) else names)


def _check_name(label: str) -> None:
    """Raises `UserError` if a label could not be read in a table or a report."""
    if not label:
        raise UserError('a label is empty; name it')
    if len(label) > metadata.MAX_LABEL:
        raise UserError(
            f'label {shorten(label, 40)!r} has {len(label):,} characters; at most '
            f'{metadata.MAX_LABEL} are possible; rename it'
        )
    if label != ' '.join(label.split()):
        has = 'invisible spaces'
        if any(unicodedata.category(character) == 'Cc' for character in label):
            has = 'a control character'
        if '\t' in label:
            has = 'a tab'
        if '\n' in label or '\r' in label:
            has = 'a line break'
        raise UserError(f'label {shorten(label, 60)!r} has {has}; rename it')
