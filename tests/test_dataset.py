import itertools
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from glr_jax.data import example, records, tables
from glr_jax.data.dataset import Dataset, open_dataset
from glr_jax.data.mel import FrontEnd, mel_of_file
from glr_jax.data.segments import crop
from glr_jax.errors import UserError
from tests.conftest import IDS, LABELS, run


@pytest.fixture
def mine(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the dataset, to be damaged."""
    return Path(shutil.copytree(prepared, tmp_path / 'mine'))


def edit(folder: Path, change: Callable[[list], list]) -> Dataset:
    """Changes the rows of splits.csv and opens the dataset."""
    path = str(folder / 'splits.csv')
    rows = change(tables.read_table(path).rows)
    tables.write_table(path, list(rows[0]), [list(row.values()) for row in rows])
    return open_dataset(str(folder))


def test_clips_are_read_as_prepared_in_any_order(music: Path, prepared: Path) -> None:
    dataset = open_dataset(str(prepared))
    assert (dataset.ids, dataset.labels) == (IDS, LABELS)
    assert dataset.targets.tolist() == np.repeat([0, 1, 2], 8).tolist()
    for k in np.random.default_rng(0).permutation(24):
        np.testing.assert_array_equal(dataset.mel(k), mel_of_file(f'{music}/{IDS[k]}', FrontEnd()))


@pytest.mark.parametrize('mel_dtype', ['uint8', 'float32'])
def test_an_example_is_read_as_tfds_reads_it(mel_dtype: str) -> None:
    features = records.features(('a', 'b'), 4, mel_dtype)
    mel = np.random.default_rng(0).integers(0, 256, (7, 4)).astype(mel_dtype)
    data = records.serialize(features, {'id': 'ä/1', 'label': 'b', 'group': '', 'mel': mel})
    theirs = features.deserialize_example_np(data)
    found = example.parse(data, 4, np.dtype(mel_dtype))
    assert found.id == theirs['id'].decode()
    assert found.labels == (theirs['label'],)
    assert found.mel.dtype == theirs['mel'].dtype
    np.testing.assert_array_equal(found.mel, theirs['mel'])


def test_every_clip_is_on_one_side_of_a_split(prepared: Path) -> None:
    dataset = open_dataset(str(prepared))
    sides = [dataset.members('random-2', side) for side in ('train', 'validation', 'test')]
    assert [len(side) for side in sides] == [18, 3, 3]
    assert sorted(np.concatenate(sides)) == list(range(24))
    assert dataset.held_out('random-2') == 'test'


def test_an_unknown_split_is_answered_with_the_known_ones(prepared: Path) -> None:
    with pytest.raises(UserError, match=r'random-99.* random-1 to random-13'):
        open_dataset(str(prepared)).members('random-99', 'train')


def test_a_missing_dataset_is_answered_with_the_command_that_creates_it() -> None:
    with pytest.raises(
        UserError, match=r'no/such was not found; python -m data_prep makes datasets'
    ):
        open_dataset('no/such')


def test_swapped_rows_are_refused(mine: Path) -> None:
    dataset = edit(mine, lambda rows: [rows[1], rows[0], *rows[2:]])
    with pytest.raises(UserError, match=r'splits\.csv does not match .*hiss/1\.wav.*hiss/0\.wav'):
        dataset.mel(0)


def test_a_missing_row_is_refused(mine: Path) -> None:
    with pytest.raises(UserError, match='24 records, but 23 rows'):
        edit(mine, lambda rows: rows[:-1])


def test_a_corrupt_record_is_reported_with_its_file(mine: Path) -> None:
    shard = sorted(mine.glob('music-*'))[1]
    content = bytearray(shard.read_bytes())
    content[100] ^= 4
    shard.write_bytes(content)
    dataset = open_dataset(str(mine))
    assert dataset.mel(4).shape[1] == 128
    with pytest.raises(UserError, match=re.escape(str(shard))):
        dataset.mel(5)


def test_a_damaged_record_is_found_before_any_of_its_crops_is_used(mine: Path) -> None:
    out = np.empty((2, 128), np.uint8)
    shard = sorted(mine.glob('music-*'))[0]
    content = bytearray(shard.read_bytes())
    size = int(open_dataset(str(mine)).stored_bytes(np.array([0]))[0])
    content[size - 5] ^= 4  # in the last frame, which is not in the crop
    shard.write_bytes(content)
    dataset = open_dataset(str(mine))
    with pytest.raises(UserError, match=f'{re.escape(str(shard))}: corrupt record 0'):
        dataset.read_crop(0, 0.0, out)
    dataset.read_crop(1, 0.0, out)
    np.testing.assert_array_equal(out, dataset.mel(1)[:2])


@pytest.mark.parametrize('mel_dtype', ['uint8', 'float32'])
def test_a_crop_is_a_part_of_the_spectrogram(
    mel_dtype: str, music: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(run(music, tmp_path / 'set', f'--mel_dtype={mel_dtype}'))
    whole = open_dataset(folder)  # clips have 6 to 13 frames
    for system in ('with preadv', 'Windows'):
        if system == 'Windows':
            monkeypatch.delattr(os, 'preadv', raising=False)
        dataset = open_dataset(folder)
        for frames, start in itertools.product([1, 3, 9, 40], [0.0, 0.3, 0.99]):
            out = np.empty((frames, 128), mel_dtype)
            for clip in (0, 1, 1):
                dataset.read_crop(clip, start, out)
                np.testing.assert_array_equal(out, crop(whole.mel(clip), frames, start))


def test_a_shard_that_shrinks_in_use_is_reported_with_its_file(mine: Path) -> None:
    dataset, out = open_dataset(str(mine)), np.empty((2, 128), np.uint8)
    dataset.read_crop(0, 0.0, out)
    shard = sorted(mine.glob('music-*'))[0]
    os.truncate(shard, 99)
    with pytest.raises(UserError, match=f'{re.escape(str(shard))}: truncated at offset 0'):
        dataset.read_crop(0, 0.9, out)


@pytest.mark.parametrize('damage', [os.remove, lambda path: os.truncate(path, 99)])
def test_a_missing_or_truncated_shard_is_reported_with_its_file(
    mine: Path, damage: Callable[[Path], None]
) -> None:
    shard = sorted(mine.glob('music-*'))[1]
    damage(shard)
    with pytest.raises(UserError, match=re.escape(str(shard))):
        open_dataset(str(mine))
