from collections import Counter

import numpy as np
import pytest

from data_prep import splits
from glr_jax.errors import UserError

ITERATIONS = (1, 2, 3)
RANDOM = [f'random-{k}' for k in range(1, 14)]
GROUP = [f'group-{k}' for k in ITERATIONS]
IDS = [f'{k:03}' for k in range(100)]
CLIP_LABELS = ['rock'] * 50 + ['jazz'] * 50
GROUPS = [f'artist {k // 2}' for k in range(100)]


def count(sides: list[str], clip_labels: list[str]) -> dict[str, dict[str, int]]:
    """{label: {side: clips}}."""
    return {
        label: Counter(side for side, its in zip(sides, clip_labels, strict=True) if its == label)
        for label in set(clip_labels)
    }


def shuffled(seed: int, *columns: list[str]) -> list[list[str]]:
    order = np.random.default_rng(seed).permutation(len(columns[0]))
    return [[column[k] for k in order] for column in columns]


@pytest.mark.parametrize('iteration', ITERATIONS)
def test_random_sides_are_8_1_1_within_every_label(iteration: int) -> None:
    sides = splits.random_split(IDS, CLIP_LABELS, iteration)
    expected = {'train': 40, 'validation': 5, 'test': 5}
    assert count(sides, CLIP_LABELS) == {'rock': expected, 'jazz': expected}


def test_random_sides_are_8_1_1_in_labels_of_different_size() -> None:
    clip_labels = ['rock'] * 70 + ['jazz'] * 30
    assert count(splits.random_split(IDS, clip_labels, 1), clip_labels) == {
        'rock': {'train': 56, 'validation': 7, 'test': 7},
        'jazz': {'train': 24, 'validation': 3, 'test': 3},
    }


def test_every_clip_is_on_one_side_of_every_split() -> None:
    table = splits.make_splits(IDS, CLIP_LABELS, GROUPS)
    assert list(table) == [*RANDOM, *GROUP]
    for sides in table.values():
        assert len(sides) == len(IDS)
        assert set(sides) == {'train', 'validation', 'test'}


@pytest.mark.parametrize('names', [RANDOM, GROUP])
def test_the_iterations_differ(names: list[str]) -> None:
    table = splits.make_splits(IDS, CLIP_LABELS, GROUPS)
    assert len({tuple(table[name]) for name in names}) == len(names)


@pytest.mark.parametrize(
    ('split', 'test', 'validation'),
    [
        (
            'random-1',
            '008 024 029 036 045 065 073 075 080 087',
            '005 017 032 037 047 053 056 077 078 099',
        ),
        (
            'random-2',
            '010 014 025 031 047 056 057 083 088 090',
            '001 016 022 043 046 055 078 084 095 096',
        ),
        (
            'random-3',
            '001 008 022 034 045 052 061 067 078 082',
            '012 013 023 040 042 073 075 080 089 091',
        ),
    ],
)
def test_the_papers_three_splits_stay_as_they_are(split: str, test: str, validation: str) -> None:
    sides = splits.make_splits(IDS, CLIP_LABELS, [''] * 100)[split]
    assert [id for id, side in zip(IDS, sides, strict=True) if side == 'test'] == test.split()
    assert [
        id for id, side in zip(IDS, sides, strict=True) if side == 'validation'
    ] == validation.split()


def test_the_sides_do_not_follow_the_order_of_ids() -> None:
    sides = splits.random_split(IDS, CLIP_LABELS, 1)
    held_out = [id for id, side in zip(IDS, sides, strict=True) if side != 'train']
    assert held_out[:10] != IDS[:10]
    assert np.ptp([int(id) for id in held_out[:10]]) > 10


@pytest.mark.parametrize('seed', [1, 2])
def test_the_sides_do_not_depend_on_the_order_of_the_clips(seed: int) -> None:
    table = splits.make_splits(IDS, CLIP_LABELS, GROUPS)
    ids, clip_labels, groups = shuffled(seed, IDS, CLIP_LABELS, GROUPS)
    again = splits.make_splits(ids, clip_labels, groups)
    assert table.keys() == again.keys()
    for split in table:
        expected = dict(zip(IDS, table[split], strict=True))
        assert dict(zip(ids, again[split], strict=True)) == expected, split


@pytest.mark.parametrize('iteration', ITERATIONS)
@pytest.mark.parametrize('size', [3, 4, 5, 14])
def test_a_small_label_has_one_validation_and_one_test_clip(size: int, iteration: int) -> None:
    clip_labels = ['jazz'] * size + ['rock'] * (100 - size)
    sides = count(splits.random_split(IDS, clip_labels, iteration), clip_labels)
    assert sides['jazz'] == {'train': size - 2, 'validation': 1, 'test': 1}


@pytest.mark.parametrize('size', [1, 2])
def test_a_label_with_fewer_than_three_clips_is_named(size: int) -> None:
    clip_labels = ['rare'] * size + ['rock'] * (100 - size)
    with pytest.raises(UserError, match=rf"'rare' has {size} clips?;"):
        splits.make_splits(IDS, clip_labels, [''] * 100)


def test_a_single_label_is_refused() -> None:
    with pytest.raises(UserError, match=r'1 label \(rock\)'):
        splits.make_splits(IDS, ['rock'] * 100, [''] * 100)


def test_columns_of_unequal_length_are_an_error() -> None:
    with pytest.raises(ValueError, match='argument'):
        splits.random_split(IDS, CLIP_LABELS[:-1], 1)


def test_group_splits_exist_only_if_there_are_groups() -> None:
    assert list(splits.make_splits(IDS, CLIP_LABELS, [''] * 100)) == RANDOM
    assert set(GROUP) < splits.make_splits(IDS, CLIP_LABELS, GROUPS).keys()


@pytest.mark.parametrize('iteration', ITERATIONS)
@pytest.mark.parametrize('size', [1, 2, 5, 7])
def test_no_group_is_on_two_sides(size: int, iteration: int) -> None:
    groups = [f'artist {k // size}' for k in range(100)]
    sides = splits.group_split(IDS, CLIP_LABELS, groups, iteration)
    assert len(set(zip(groups, sides, strict=True))) == len(set(groups))
    assert set(sides) == {'train', 'validation', 'test'}


@pytest.mark.parametrize('iteration', ITERATIONS)
def test_group_sides_are_nearly_8_1_1_within_every_label(iteration: int) -> None:
    for sides in count(
        splits.group_split(IDS, CLIP_LABELS, GROUPS, iteration), CLIP_LABELS
    ).values():
        assert 36 <= sides['train'] <= 44
        assert 3 <= sides['validation'] <= 7
        assert 3 <= sides['test'] <= 7


def test_an_artist_with_two_labels_stays_on_one_side() -> None:
    groups = [f'artist {k % 25}' for k in range(100)]  # each has clips of both labels
    sides = splits.group_split(IDS, CLIP_LABELS, groups, 1)
    assert len(set(zip(groups, sides, strict=True))) == 25


def test_a_clip_without_a_group_is_a_group_of_its_own() -> None:
    groups = ['', *GROUPS[1:51], *[''] * 49]
    sides = splits.group_split(IDS, CLIP_LABELS, groups, 1)
    ungrouped = {side for side, group in zip(sides, groups, strict=True) if not group}
    assert ungrouped == {'train', 'validation', 'test'}


@pytest.mark.parametrize('label', ['', 'rock ', ' rock', 'hip\nhop'])
def test_a_label_with_invisible_spaces_is_refused(label: str) -> None:
    with pytest.raises(UserError, match='name it'):
        splits.check_labels(['jazz'] * 5 + [label] * 5)


def test_a_label_of_200_characters_is_allowed_and_a_longer_one_is_refused() -> None:
    splits.check_labels(['jazz'] * 5 + ['x' * 200] * 5)
    with pytest.raises(UserError, match='has 5,000 characters; at most 200') as error:
        splits.check_labels(['jazz'] * 5 + ['x' * 5000] * 5)
    assert len(str(error.value)) < 110


def test_a_large_group_goes_to_train_and_every_side_has_clips() -> None:
    ids = [f'{k:03}' for k in range(100)]
    groups = ['prolific' if k < 60 else f'artist {k // 4}' for k in range(100)]
    sides = splits.group_split(ids, ['a', 'b'] * 50, groups, 1)
    assert set(sides[:60]) == {'train'}
    assert 5 <= sides.count('test') <= 15
    assert 5 <= sides.count('validation') <= 15


def test_a_group_split_has_clips_on_three_sides_or_does_not_exist() -> None:
    ids, clip_labels = [f'{k:02}' for k in range(12)], ['a', 'b'] * 6
    six = splits.make_splits(ids, clip_labels, [f'artist {k // 2}' for k in range(12)])
    assert {'train', 'validation', 'test'} == set(six['group-1'])
    two = splits.make_splits(ids, clip_labels, [f'artist {k // 6}' for k in range(12)])
    assert 'group-1' not in two


def test_fault_filtered_sides_are_as_published_for_ids_of_either_form() -> None:
    genres = 'blues classical country disco hiphop jazz metal pop reggae rock'.split()
    ids = [f'{genre}.{k:05}' for genre in genres for k in range(100)]
    sides = splits.fault_filtered(ids)
    assert Counter(sides) == {'train': 443, 'validation': 197, 'test': 290, '': 70}
    assert dict(zip(ids, sides, strict=True))['blues.00012'] == 'test'
    assert splits.fault_filtered([f'{id[:-6]}/{id}.wav' for id in ids]) == sides
    clip_labels = [id[:-6] for id in ids]
    assert splits.make_splits(ids, clip_labels, [''] * 1000)['fault_filtered'] == sides


def test_music_other_than_gtzan_has_no_fault_filtered_split() -> None:
    assert 'fault_filtered' not in splits.make_splits(IDS, CLIP_LABELS, GROUPS)
