"""Splits clips with several labels each, so that every side has its share of every label.

Iterative stratification (Sechidis, Tsoumakas and Vlahavas, 2011, Algorithm 1): the label with the
fewest clips left goes first, and each of its clips joins the side that needs this label most. Whole
groups of clips are placed in the same way, the largest first. Beyond the paper, a label with at
least three clips is wanted at least once on each side; if it is missing on one although three
groups have it, one of them moves there.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

SHARES = (0.8, 0.1, 0.1)  # train, validation, test
TIE = 1e-9  # sides whose needs differ by less are equal


def stratify(
    counts: Int[np.ndarray, 'items labels'], sizes: Int[np.ndarray, ' items'], seed: int
) -> Int[np.ndarray, ' items']:
    """The side of each item (0 = train, 1 = validation, 2 = test), about 8:1:1.

    Args:
      counts: how many clips of each item, a clip or a group of clips, have each label.
      sizes: clips per item.
      seed: decides between equals.
    """
    rng = np.random.default_rng(seed)
    wanted = _wanted(counts.sum(0))  # sides x labels
    room = [share * int(sizes.sum()) for share in SHARES]
    sides = np.full(len(counts), -1)
    # Equals are taken in a random order; larger items first, while there is room for them.
    order = rng.permutation(len(counts))
    order = order[np.argsort(-sizes[order], kind='stable')]
    left = counts.sum(0)

    def choose(need: Sequence[float]) -> int:
        # Lists: NumPy takes ten times as long for three numbers.
        top = max(need) - TIE
        best = [side for side, value in enumerate(need) if value >= top]
        top = max(room[side] for side in best) - TIE
        best = [side for side in best if room[side] >= top]
        return best[0] if len(best) == 1 else int(rng.choice(best))

    while left.any():
        label = int(np.argmin(np.where(left > 0, left, np.iinfo(np.int64).max)))
        items = order[(sides[order] < 0) & (counts[order, label] > 0)]
        need = wanted[:, label].tolist()
        columns = items.tolist(), counts[items, label].tolist(), sizes[items].tolist()
        for item, count, size in zip(*columns, strict=True):
            sides[item] = side = choose(need)
            need[side] -= count
            room[side] -= size
        for side in range(len(SHARES)):
            wanted[side] -= counts[items[sides[items] == side]].sum(0)
        left -= counts[items].sum(0)
    for item in order[sides[order] < 0]:  # without labels
        sides[item] = side = choose(room)
        room[side] -= int(sizes[item])
    _fill_gaps(counts > 0, sizes, sides)
    return sides


def _fill_gaps(
    has: Bool[np.ndarray, 'items labels'],
    sizes: Int[np.ndarray, ' items'],
    sides: Int[np.ndarray, ' items'],
) -> None:
    """Changes `sides` so that more labels are on every side, the rarest labels first.

    The smallest item with the label moves, unless it is the last one of any label on its side.
    """
    on = np.stack([has[sides == side].sum(0) for side in range(len(SHARES))])
    enough = has.sum(0) >= len(SHARES)
    moved = True
    while moved:  # a move may free an item that was the last one of another label
        moved = False
        gaps = np.argwhere((on == 0) & enough)
        for side, label in gaps[np.argsort(has.sum(0)[gaps[:, 1]], kind='stable')]:
            items = np.flatnonzero(has[:, label])
            items = items[~(has[items] & (on[sides[items]] == 1)).any(1)]
            if len(items) and not on[side, label]:
                item = items[sizes[items].argmin()]
                on[sides[item]] -= has[item]
                on[side] += has[item]
                sides[item] = side
                moved = True


def _wanted(totals: Int[np.ndarray, ' labels']) -> np.ndarray:
    """How many clips of each label are wanted on each side."""
    held_out = np.where(
        totals >= len(SHARES), np.maximum(1, totals * SHARES[1]), totals * SHARES[1]
    )
    return np.stack([totals - 2 * held_out, held_out, held_out])
