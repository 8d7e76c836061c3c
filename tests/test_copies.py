import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from glr_jax.errors import UserError
from tests.conftest import IDS, RANDOM, run, write_music


@pytest.fixture
def doubled(tmp_path: Path) -> Path:
    """Music with two duplicates of one clip: one under the same label, one under another."""
    music = write_music(tmp_path / 'music')
    shutil.copy(music / 'hum/3.wav', music / 'hum/copy.wav')
    shutil.copy(music / 'hum/3.wav', music / 'rain/copy.wav')
    return music


def table(path: Path) -> list[dict[str, str]]:
    with open(path) as file:
        return list(csv.DictReader(file))


def test_a_duplicate_is_stored_and_named_but_in_no_split(
    doubled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run(doubled, tmp_path / 'out')
    sides = {row['id']: [row[name] for name in RANDOM] for row in table(out / 'splits.csv')}
    assert sides.keys() == {*IDS, 'hum/copy.wav', 'rain/copy.wav'}
    assert all(all(sides[id]) for id in IDS)
    assert sides['hum/copy.wav'] == sides['rain/copy.wav'] == [''] * len(RANDOM)
    named = {row['id']: row['reason'] for row in table(out / 'skipped.csv')}
    assert named.keys() == {'hum/copy.wav', 'rain/copy.wav'}
    assert all('hum/3.wav' in reason for reason in named.values())
    printed = capsys.readouterr().out
    assert '26 clips in' in printed
    assert '\n2 duplicates left out of random and group splits, which have 24 clips\n' in printed
    assert ', 0 skipped, ' in printed
    assert 'hum                            9  (of 9: 1 duplicate)' in printed


def test_duplicates_do_not_change_the_sides_of_the_other_clips(
    doubled: Path, prepared: Path, tmp_path: Path
) -> None:
    with_copies = table(run(doubled, tmp_path / 'out') / 'splits.csv')
    assert [row for row in with_copies if row['random-1']] == table(prepared / 'splits.csv')


@pytest.mark.parametrize(
    ('label', 'has'),
    [('hum', 'only 1 clip that is not a duplicate'), ('rain', 'no clip that is not a duplicate')],
)
def test_a_label_that_consists_of_duplicates_is_refused(
    tmp_path: Path, label: str, has: str
) -> None:
    music = write_music(tmp_path / 'music')
    content = (music / 'hum/0.wav').read_bytes()
    for k in range(8):
        (music / f'{label}/{k}.wav').write_bytes(content)
    words = rf"label '{label}' has {has} \(of 8\); it needs at least 3: add clips or give --keep_c"
    with pytest.raises(UserError, match=words):
        run(music, tmp_path / 'out')


def test_duplicates_can_be_kept(doubled: Path, tmp_path: Path) -> None:
    out = run(doubled, tmp_path / 'out', '--keep_copies')
    assert all(row['random-1'] for row in table(out / 'splits.csv'))
    assert table(out / 'skipped.csv') == []


def test_constant_arrays_are_skipped_and_are_no_duplicates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mel = np.random.default_rng(0).integers(0, 256, (40, 9, 20), np.uint8)
    mel[3], mel[5], mel[6] = 0, 0, 7
    decibels = mel.astype(np.float32) / 255 * 80 - 80
    decibels[8] = np.nan
    label, id = np.array(['a', 'b'] * 20), np.array([f'{k:02}' for k in range(40)])
    for mels, ids in ((mel, ['03', '05', '06']), (decibels, ['03', '05', '06', '08'])):
        np.savez(tmp_path / 'x.npz', mel=mels, label=label, id=id)
        flags = ['--source=arrays', '--max_skipped=0.2', '--overwrite']
        out = run(tmp_path / 'x.npz', tmp_path / 'out', *flags)
        found = {row['id']: row['reason'] for row in table(out / 'skipped.csv')}
        assert list(found) == ids
        assert found['03'].startswith('has the same value everywhere')
        printed = capsys.readouterr().out
        assert f'{40 - len(ids)} clips in {out}, {len(ids)} skipped, ' in printed
        assert 'duplicates' not in printed
    assert found['08'] == 'has NaN or infinite values'
