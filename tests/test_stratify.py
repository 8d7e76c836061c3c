"""Iterative stratification of clips with several labels, and of whole groups of them."""

import numpy as np
import pytest

from data_prep.stratify import missing, stratify


def tags(seed: int, clips: int = 1000, labels: int = 20) -> np.ndarray:
    """Labels from frequent to rare, which often occur together."""
    rng = np.random.default_rng(seed)
    mood = rng.random((clips, 1))
    return (rng.random((clips, labels)) < mood * np.geomspace(0.9, 0.01, labels)).astype(int)


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


def test_clips_without_labels_are_spread_too():
    counts = np.zeros((100, 2), int)
    counts[:50, 0] = 1
    sides = stratify(counts, np.ones(100, int), 1)
    assert np.bincount(sides[50:], minlength=3) == pytest.approx([40, 5, 5], abs=1)
