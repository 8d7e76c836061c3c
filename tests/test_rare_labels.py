"""Labels with few clips can be left out, also if that shows only once the clips are read."""

from collections import Counter
from pathlib import Path

import pytest

from glr_jax.data.dataset import open_dataset
from glr_jax.data.tables import read_table
from glr_jax.errors import UserError
from tests.conftest import run, write_music
from tests.test_runners import hashes


@pytest.fixture
def uneven(tmp_path: Path) -> Path:
    """Eight clips of hiss and hum, four of rain."""
    music = write_music(tmp_path / 'music')
    for k in range(4, 8):
        (music / f'rain/{k}.wav').unlink()
    return music


def reasons(out: Path) -> dict[str, str]:
    return {row['id']: row['reason'] for row in read_table(str(out / 'skipped.csv')).rows}


def test_rare_labels_are_left_out_and_counted(
    uneven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run(uneven, tmp_path / 'out', '--min_clips_per_label=5')
    data = open_dataset(str(out))
    assert data.labels == ('hiss', 'hum')
    assert Counter(data.targets.tolist()) == {0: 8, 1: 8}
    expected = "its label 'rain' has only 4 clips, fewer than --min_clips_per_label=5"
    assert reasons(out) == {f'rain/{k}.wav': expected for k in range(4)}
    *labels, rare, total = capsys.readouterr().out.splitlines()
    assert labels[-1].split(maxsplit=1) == [
        'rain',
        '0  (of 4: too few for --min_clips_per_label=5)',
    ]
    assert '16 clips in' in total
    assert rare == '4 clips left out of 1 label with fewer than 5 clips'


def test_enough_clips_change_nothing(uneven: Path, tmp_path: Path) -> None:
    out = run(uneven, tmp_path / 'out', '--min_clips_per_label=4')
    assert hashes(out) == hashes(run(uneven, tmp_path / 'plain'))


def test_a_label_that_becomes_rare_as_clips_are_skipped_is_left_out(
    uneven: Path,
    tmp_path: Path,
    decoded: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    for k in range(4):
        (uneven / f'rain/{k}.wav').write_bytes(b'no audio')
    flags = ['--min_clips_per_label=3', '--max_skipped=0.5']
    out = run(uneven, tmp_path / 'out', *flags)
    said = capsys.readouterr()
    assert len(decoded) == 16 + 4  # the 16 that remain are decoded once
    assert 'kept from before' not in said.err  # this command has computed them
    assert '0  (of 4: too few for --min_clips_per_label=3)' in said.out
    assert open_dataset(str(out)).labels == ('hiss', 'hum')
    assert reasons(out).keys() == {f'rain/{k}.wav' for k in range(4)}
    assert not any('min_clips' in reason for reason in reasons(out).values())
    before = hashes(out)
    run(uneven, out, *flags)  # the same command again changes nothing and refuses nothing
    assert hashes(out) == before
    assert '16 spectrograms kept from before, 0 computed' in capsys.readouterr().err


def test_one_of_several_labels_that_becomes_rare_is_removed_from_its_clips(
    uneven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f'{label}/{k}.wav' for label in ('hiss', 'hum') for k in range(8)]
    rows = [f'{name},{name.split("/")[0]}' for name in names]
    rows += [f'rain/{k}.wav,hum;rain' for k in range(4)]
    (uneven / 'metadata.csv').write_text('\n'.join(['path,labels', *rows]))
    for k in range(2):
        (uneven / f'rain/{k}.wav').write_bytes(b'no audio')
    flags = ['--min_clips_per_label=3', '--max_skipped=0.5', '--label_separator=;']
    out = run(uneven, tmp_path / 'out', *flags)
    assert open_dataset(str(out)).labels == ('hiss', 'hum')
    labels = {row['id']: row['labels'] for row in read_table(str(out / 'splits.csv')).rows}
    assert labels['rain/2.wav'] == labels['hum/2.wav'] == 'hum'
    assert reasons(out).keys() == {'rain/0.wav', 'rain/1.wav'}


def test_an_empty_label_is_named_if_too_many_clips_are_skipped(
    uneven: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for k in range(4):
        (uneven / f'rain/{k}.wav').write_bytes(b'no audio')
    with pytest.raises(UserError, match='4 of 20 clips were skipped'):
        run(uneven, tmp_path / 'out')
    assert "no clip is left of 'rain'\n" in capsys.readouterr().err


def test_a_rare_label_without_the_flag_names_the_flag(uneven: Path, tmp_path: Path) -> None:
    for k in range(2, 4):
        (uneven / f'rain/{k}.wav').unlink()
    with pytest.raises(UserError, match=r"label 'rain' has 2 clips.*--min_clips_per_label=3"):
        run(uneven, tmp_path / 'out')


def test_too_few_labels_remain(uneven: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r'=9 leaves fewer than two of the 3 labels: .* 8, 8 clips;'
    ):
        run(uneven, tmp_path / 'out', '--min_clips_per_label=9')
