"""Who is train, validation and test, under each protocol.

random-1..3  8:1:1, stratified by label, shuffled by iteration (the paper, section III-A)
group-1..3   8:1:1, no group (artist) on two sides; only where the clips have groups
others       what the source itself defines: official (FMA), fault_filtered (GTZAN)
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from glr_jax.cli import UserError

SIDES = ('train', 'validation', 'test')
ITERATIONS = (1, 2, 3)


def protocols(
    ids: Sequence[str], labels: Sequence[str], groups: Sequence[str]
) -> dict[str, list[str]]:
    """The sides of every clip under every protocol that its labels and groups allow.

    A clip's side depends on the ids, labels and groups alone, not on their order.

    Args:
      ids: one a clip, all different.
      labels: one a clip.
      groups: one a clip; '' is a group of its own.

    Returns:
      {protocol: [side of each clip, in the order given]}.
    """
    table = {f'random-{k}': random_split(ids, labels, k) for k in ITERATIONS}
    if any(groups):
        table |= {f'group-{k}': group_split(ids, labels, groups, k) for k in ITERATIONS}
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
    """8:1:1 as nearly as whole groups allow, stratified by label as nearly as they allow."""
    order = sorted(range(len(ids)), key=lambda i: ids[i])
    group_of = [groups[i] or f'\0{ids[i]}' for i in order]
    folds = StratifiedGroupKFold(n_splits=10, shuffle=True, random_state=iteration)
    sides = ['train'] * len(ids)
    split = folds.split(order, [labels[i] for i in order], group_of)
    for side, (_, members) in zip(('test', 'validation'), split, strict=False):
        for member in members:
            sides[order[member]] = side
    return sides


def check_labels(labels: Sequence[str]) -> None:
    """Raises `UserError` unless there are two labels and each has a clip for every side."""
    counts = Counter(labels)
    if len(counts) < 2:
        raise UserError(f'found {len(counts)} label ({", ".join(counts)}); need at least two')
    for label, count in sorted(counts.items()):
        if count < len(SIDES):
            raise UserError(
                f'label {label!r} has {count} clip{"s" * (count > 1)}; it needs at least 3 (one '
                'each for train, validation and test): add clips or leave the label out'
            )
