"""Who is train, validation and test, under each protocol.

random-1..3     8:1:1, stratified by label, shuffled by iteration (the paper, section III-A)
group-1..3      8:1:1, no group (artist) on two sides; only where there are groups for three sides
fault_filtered  GTZAN's 443/197/290: no artist on two sides, no faulty or doubled clips (Kereliuk,
                Sturm & Larsen, 2015; the lists are those of jongpillee/music_dataset_split)
others          what the source itself defines: official (FMA)
"""

import functools
import importlib.resources
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence

import numpy as np

from glr_jax.data.records import SIDES
from glr_jax.errors import UserError

ITERATIONS = (1, 2, 3)


def make_splits(
    ids: Sequence[str],
    labels: Sequence[str],
    groups: Sequence[str],
    left_out: Collection[str] = (),
) -> dict[str, list[str]]:
    """The sides of every clip under every protocol that its labels and groups allow.

    A clip's side depends on the ids, labels and groups alone, not on their order.

    Args:
      ids: one a clip, all different.
      labels: one a clip.
      groups: one a clip; '' is a group of its own.
      left_out: ids that get no side but a published one: copies of others.

    Returns:
      {protocol: [side of each clip, in the order given]}.

    Raises:
      UserError: a label has fewer than three clips.
    """
    dealt = [k for k, id in enumerate(ids) if id not in left_out]
    its_ids, its_labels, its_groups = ([c[k] for k in dealt] for c in (ids, labels, groups))
    table = {f'random-{k}': random_split(its_ids, its_labels, k) for k in ITERATIONS}
    if any(groups):
        grouped = {
            f'group-{k}': group_split(its_ids, its_labels, its_groups, k) for k in ITERATIONS
        }
        table |= {name: sides for name, sides in grouped.items() if set(sides) == set(SIDES)}
    for name, sides in table.items():
        side_of = dict(zip(dealt, sides, strict=True))
        table[name] = [side_of.get(k, '') for k in range(len(ids))]
    published = fault_filtered(ids)
    if set(SIDES) <= set(published):
        table['fault_filtered'] = published
    return table


def random_split(ids: Sequence[str], labels: Sequence[str], iteration: int) -> list[str]:
    """8:1:1 within each label, at least one clip a side.

    Raises:
      UserError: a label has fewer than three clips.
    """
    check_labels(labels)
    members = defaultdict(list)
    for clip, label in sorted(zip(ids, labels, strict=True)):
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
    ids: Sequence[str], labels: Sequence[str], groups: Sequence[str], iteration: int
) -> list[str]:
    """8:1:1 within each label as nearly as whole groups allow; the largest are placed first."""
    order = sorted(range(len(ids)), key=lambda i: ids[i])
    rank = {label: k for k, label in enumerate(sorted(set(labels)))}
    members: dict[str, list[int]] = defaultdict(list)
    counts: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(len(rank)))
    for i in order:
        group = groups[i] or f'\0{ids[i]}'
        members[group].append(i)
        counts[group][rank[labels[i]]] += 1
    names = sorted(members)
    shuffled = [names[k] for k in np.random.default_rng(iteration).permutation(len(names))]
    wanted = np.outer((0.8, 0.1, 0.1), sum(counts.values()))
    filled = np.zeros_like(wanted)
    sides = [''] * len(ids)
    for group in sorted(shuffled, key=lambda name: -len(members[name])):
        # How much further from what is wanted each side would be, in units of what is wanted.
        change = counts[group] * (2 * (filled - wanted) + counts[group]) / wanted
        side = int(change.sum(1).argmin())
        filled[side] += counts[group]
        for i in members[group]:
            sides[i] = SIDES[side]
    return sides


def fault_filtered(ids: Sequence[str]) -> list[str]:
    """The published side of each clip of GTZAN; '' for clips left out or otherwise named.

    Args:
      ids: as `blues.00000` or `blues/blues.00000.wav`.
    """
    sides = _published_sides()
    names = [os.path.basename(id) for id in ids]
    return [sides.get(name) or sides.get(os.path.splitext(name)[0], '') for name in names]


@functools.cache
def _published_sides() -> dict[str, str]:
    """{GENRE.00000: side} of the lists beside this file."""
    lists = importlib.resources.files('data_prep') / 'gtzan_fault_filtered'
    return {
        os.path.splitext(os.path.basename(line))[0]: side
        for side, stem in zip(SIDES, ('train', 'valid', 'test'), strict=True)
        for line in (lists / f'{stem}_filtered.txt').read_text('utf-8').split()
    }


def check_labels(labels: Sequence[str], names: Sequence[str] = ()) -> None:
    """Makes sure that labels can be split and named.

    Args:
      labels: one a clip.
      names: labels that there should be.

    Raises:
      UserError: fewer than two labels, one with too few clips for three sides, or a name that
        is empty or not as it reads.
    """
    counts = Counter(dict.fromkeys(names, 0))
    counts.update(labels)
    if len(counts) < 2:
        raise UserError(f'found {len(counts)} label ({", ".join(counts)}); need at least two')
    for label, count in sorted(counts.items()):
        if not label or label != ' '.join(label.split()):
            raise UserError(
                f'label {label!r} is empty or has spaces that cannot be seen; rename it'
            )
        if count < len(SIDES):
            raise UserError(
                f'label {label!r} has {count} clip{"s" * (count != 1)}; it needs at least 3 (one '
                'each for train, validation and test): add clips or leave the label out'
            )
