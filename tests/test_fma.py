import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep import fma
from data_prep.__main__ import main
from glr_jax.errors import UserError

HEADER = [
    ['', 'album', 'artist', 'artist', 'set', 'set', 'track', 'track'],
    ['', 'title', 'id', 'name', 'split', 'subset', 'genre_top', 'title'],
    ['track_id', '', '', '', '', '', '', ''],
]


def track(number: int, genre: str, side: str = 'training', subset: str = 'small') -> list[str]:
    return [str(number), 'An, "album"', str(number % 7), 'Who', side, subset, genre, 'Two\nlines']


TRACKS = [
    *(track(k, 'Hip-Hop' if k % 2 else 'Rock') for k in range(100, 110)),
    *(track(k, 'Hip-Hop' if k % 2 else 'Rock', 'validation') for k in range(2000, 2004)),
    *(track(k, 'Hip-Hop' if k % 2 else 'Rock', 'test') for k in range(30000, 30004)),
    track(50, 'Jazz', subset='medium'),
    track(51, '', subset='large'),
]


def layout(folder: Path, rows: list[list[str]], subset: str = 'small') -> str:
    """FMA as unpacked from its archives, with noise for music."""
    (folder / 'fma_metadata').mkdir(parents=True)
    with open(folder / 'fma_metadata' / 'tracks.csv', 'w', newline='') as file:
        csv.writer(file).writerows(HEADER + rows)
    rng = np.random.default_rng(0)
    for row in rows:
        path = folder / f'fma_{subset}' / f'{int(row[0]):06}'[:3] / f'{int(row[0]):06}.mp3'
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(8000), 44100)
    return str(folder)


def test_tracks_become_clips(tmp_path: Path) -> None:
    clips = fma.fma_clips(layout(tmp_path, TRACKS))
    assert [clip.id for clip in clips] == [f'{int(row[0]):06}' for row in TRACKS[:18]]
    assert [clip.label for clip in clips[:3]] == ['Rock', 'Hip-Hop', 'Rock']
    assert [clip.group for clip in clips] == [row[2] for row in TRACKS[:18]]
    sides = [clip.splits['official'] for clip in clips]
    assert sides == ['train'] * 10 + ['validation'] * 4 + ['test'] * 4
    assert all(Path(clip.path).exists() for clip in clips)


def test_a_subset_contains_the_smaller_ones_and_no_track_without_a_genre(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert len(fma.fma_clips(layout(tmp_path / 'm', TRACKS, 'medium'), 'medium')) == 19
    assert len(fma.fma_clips(layout(tmp_path / 'l', TRACKS, 'large'), 'large')) == 19
    assert '1 of 20 tracks left out: no genre_top' in capfd.readouterr().err


def test_the_command_prepares_fma_and_names_a_missing_track(tmp_path: Path) -> None:
    folder = layout(tmp_path / 'FMA', TRACKS)
    (tmp_path / 'FMA/fma_small/000/000105.mp3').unlink()
    out = tmp_path / 'out'
    command = ['data_prep', '--source=fma', f'--input={folder}', f'--out={out}']
    main([*command, '--num_workers=1', '--max_skipped=0.1'])
    with open(out / 'splits.csv') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 17
    assert {row['official'] for row in rows} == {'train', 'validation', 'test'}
    with open(out / 'skipped.csv') as file:
        assert [row['id'] for row in csv.DictReader(file)] == ['000105']


@pytest.mark.parametrize('missing', ['fma_small', 'fma_metadata'])
def test_a_missing_archive_is_named(tmp_path: Path, missing: str) -> None:
    layout(tmp_path, TRACKS)
    (tmp_path / missing).rename(tmp_path / 'elsewhere')
    with pytest.raises(UserError, match=f'{missing}.* was not found; unpack {missing}.zip'):
        fma.fma_clips(str(tmp_path))


@pytest.mark.parametrize('text', ['', 'id,genre\n1,Rock\n', 'a\nb\nc\nd\n'])
def test_another_table_is_refused(tmp_path: Path, text: str) -> None:
    layout(tmp_path, TRACKS)
    (tmp_path / 'fma_metadata' / 'tracks.csv').write_text(text)
    with pytest.raises(UserError, match='three header rows'):
        fma.fma_clips(str(tmp_path))
