"""Iterative stratification of clips with several labels, and of whole groups of them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep import splits
from data_prep.stratify import SHARES, stratify
from glr_jax.data.records import SIDES


def tags(seed: int, clips: int = 1000, labels: int = 20) -> np.ndarray:
    """Labels from frequent to rare, which often occur together."""
    rng = np.random.default_rng(seed)
    mood = rng.random((clips, 1))
    return (rng.random((clips, labels)) < mood * np.geomspace(0.9, 0.01, labels)).astype(int)


def missing(counts: np.ndarray, sides: np.ndarray, labels: list[str]) -> dict[str, list[int]]:
    """{label: the sides that none of its clips is on}, of the labels where there are any."""
    found = {}
    for k, label in enumerate(labels):
        empty = [side for side in range(len(SHARES)) if not counts[sides == side, k].any()]
        if empty:
            found[label] = empty
    return found


@pytest.mark.parametrize('seed', range(3))
def test_every_side_has_its_share_of_every_label(seed):
    counts = tags(seed)
    sides = stratify(counts, np.ones(len(counts), int), seed)
    sizes = np.bincount(sides, minlength=3)
    assert sizes == pytest.approx([800, 100, 100], abs=20)
    for label in counts.T:
        held_out = max(1, label.sum() / 10)
        for side in (1, 2):
            assert label[sides == side].sum() == pytest.approx(held_out, abs=max(1.5, held_out / 3))
    assert missing(counts, sides, [str(k) for k in range(20)]) == {}


def test_it_is_more_even_than_chance():
    counts = tags(7, clips=300)
    ones = np.ones(len(counts), int)
    uneven = lambda sides: np.abs(counts[sides == 2].sum(0) - counts.sum(0) / 10).mean()
    drawn = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [240, 30, 30]))
    assert uneven(stratify(counts, ones, 1)) < uneven(drawn) / 2


def test_the_seed_decides_alone():
    counts = tags(1)
    ones = np.ones(len(counts), int)
    assert (stratify(counts, ones, 1) == stratify(counts, ones, 1)).all()
    assert (stratify(counts, ones, 1) != stratify(counts, ones, 2)).any()


def test_groups_are_placed_whole_with_even_labels():
    rng = np.random.default_rng(3)
    counts = tags(3, clips=2000)
    groups = np.minimum(rng.zipf(1.6, 2000), 150)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    members = [part for m in members for part in np.array_split(m, -(-len(m) // 60))]
    of_groups = np.stack([counts[m].sum(0) for m in members])
    sizes = np.array([len(m) for m in members])
    sides = stratify(of_groups, sizes, 1)
    assert sides.shape == (len(members),)
    clips = np.array([sizes[sides == side].sum() for side in range(3)])
    assert clips == pytest.approx([1600, 200, 200], abs=120)


def test_a_rare_label_is_on_every_side_and_a_rarer_one_is_named():
    counts = np.zeros((100, 3), int)
    counts[:, 0] = 1
    counts[:3, 1] = 1
    counts[3:5, 2] = 1
    sides = stratify(counts, np.ones(100, int), 1)
    assert sorted(sides[:3]) == [0, 1, 2]
    found = missing(counts, sides, ['all', 'three', 'two'])
    assert list(found) == ['two']


def test_a_label_moves_to_a_side_on_which_large_groups_left_it_out():
    # The groups with the label 1 are the largest, and there is no room for them beside train.
    counts = np.array([[13, 1]] * 15 + [[4, 0]] * 30)
    sides = stratify(counts, counts[:, 0], 3)
    assert missing(counts, sides, ['all', 'one']) == {}


def test_no_label_is_missing_where_a_group_could_move():
    for seed in range(200):
        rng = np.random.default_rng(seed)
        items, labels = rng.integers(3, 25), rng.integers(1, 12)
        counts = rng.poisson(rng.choice([0.1, 0.5, 3]), (items, labels))
        sizes = counts.sum(1) + rng.integers(1, 40, items)
        sides = stratify(counts, sizes, seed)
        on = np.stack([(counts[sides == side] > 0).sum(0) for side in range(3)])
        for label in np.flatnonzero(((counts > 0).sum(0) >= 3) & ~on.all(0)):
            for item in np.flatnonzero(counts[:, label]):
                assert (on[sides[item], counts[item] > 0] == 1).any()


def test_clips_without_labels_are_spread_too():
    counts = np.zeros((100, 2), int)
    counts[:50, 0] = 1
    sides = stratify(counts, np.ones(100, int), 1)
    assert np.bincount(sides[50:], minlength=3) == pytest.approx([40, 5, 5], abs=1)


# ---------------------------------------------------------------- whatever the labels
@st.composite
def collections(draw: st.DrawFn) -> tuple[list[str], list[tuple[str, ...]], list[str]]:
    """Ids, labels and groups of clips; labels from rare to common, often together."""
    count, labels = draw(st.integers(3, 120)), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    often = draw(st.sampled_from([0.03, 0.3, 0.9]))
    has = rng.random((count, labels)) < often * rng.random(labels) ** draw(st.integers(0, 3))
    ids = [f'{k:03}' for k in rng.permutation(count)]
    groups = [f'g{k}' if k else '' for k in rng.integers(0, draw(st.integers(1, count)), count)]
    return ids, [tuple(f'l{k}' for k in np.flatnonzero(row)) for row in has], groups


@settings(max_examples=60, deadline=None, derandomize=True)
@given(collections(), st.integers(1, 20))
def test_every_clip_is_placed_about_8_1_1(made, iteration):
    ids, clip_labels, _ = made
    sides = splits.stratified_split(ids, clip_labels, iteration)
    assert set(sides) <= set(SIDES)
    sizes = [sides.count(side) for side in SIDES]
    assert sum(sizes) == len(ids)
    # Each label is to be 8:1:1 too, and a rare one on every side, which moves the sizes a little.
    spare = 2 + len({label for its in clip_labels for label in its}) / 2
    for size, share in zip(sizes, SHARES, strict=True):
        assert abs(size - share * len(ids)) <= spare


@settings(max_examples=60, deadline=None, derandomize=True)
@given(collections(), st.integers(1, 20))
def test_a_label_with_three_clips_of_its_own_is_on_every_side(made, iteration):
    ids, clip_labels, _ = made
    single = [its[:1] for its in clip_labels]
    sides = splits.stratified_split(ids, single, iteration)
    for label in {label for its in single for label in its}:
        on = [side for side, its in zip(sides, single, strict=True) if label in its]
        assert len(on) < 3 or set(on) == set(SIDES)
        assert abs(on.count('test') - max(1, len(on) / 10)) <= 1


@settings(max_examples=60, deadline=None, derandomize=True)
@given(collections(), st.integers(1, 20))
def test_groups_stay_whole(made, iteration):
    ids, clip_labels, groups = made
    sides = splits.stratified_group_split(ids, clip_labels, groups, iteration)
    assert len(sides) == len(ids)
    named = {pair for pair in zip(groups, sides, strict=True) if pair[0]}
    assert len(named) == len({group for group in groups if group})


@settings(max_examples=10, deadline=None, derandomize=True)
@given(collections(), st.randoms(use_true_random=False))
def test_splits_depend_neither_on_the_order_of_clips_nor_of_their_labels(made, random):
    ids, clip_labels, groups = made
    table = splits.make_splits(ids, clip_labels, groups)
    order = random.sample(range(len(ids)), len(ids))
    mixed = [tuple(random.sample(clip_labels[k], len(clip_labels[k]))) for k in order]
    again = splits.make_splits([ids[k] for k in order], mixed, [groups[k] for k in order])
    assert table.keys() == again.keys()
    for name, sides in table.items():
        assert [sides[k] for k in order] == again[name], name


def test_duplicates_are_on_no_side_and_do_not_count():
    ids, cells = [f'{k:02}' for k in range(40)], [('a',), ('a', 'b')] * 20
    table = splits.make_splits(ids, cells, [''] * 40, left_out=ids[30:])
    assert set(table['random-1'][30:]) == {''}
    assert table['random-1'][:30] == splits.stratified_split(ids[:30], cells[:30], 1)
