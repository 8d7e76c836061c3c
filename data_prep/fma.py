"""FMA as published: `fma_small/000/000002.mp3` and `fma_metadata/tracks.csv`."""

import csv
import os

from data_prep.clips import Clip, audio_clip, check_folder
from glr_jax import storage
from glr_jax.cli import status
from glr_jax.errors import UserError
from glr_jax.text import counted

SUBSETS = ('small', 'medium', 'large', 'full')  # each contains those before it
COLUMNS = {
    'artist': ('artist', 'id'),
    'side': ('set', 'split'),
    'subset': ('set', 'subset'),
    'genre': ('track', 'genre_top'),
}


def fma_clips(folder: str, subset: str = 'small') -> list[Clip]:
    """The tracks of a subset of FMA.

    The label is `genre_top`, the group is `artist.id`, and FMA's split becomes `official`. Tracks
    without a top genre, which are most of `large` and `full`, are left out. A missing file still
    becomes a clip, which will be skipped and named.

    Args:
      folder: holds `fma_SUBSET/` and `fma_metadata/`, as unpacked from the archives.
      subset: the value of `set.subset` in `tracks.csv`.

    Raises:
      UserError: the folder, its audio or its `tracks.csv` was not found or is not FMA's.
    """
    check_folder(folder)
    audio = _first_found([os.path.join(folder, f'fma_{subset}')], f'unpack fma_{subset}.zip there')
    table = _first_found(
        [os.path.join(folder, name) for name in ('fma_metadata/tracks.csv', 'tracks.csv')],
        'unpack fma_metadata.zip there',
    )
    wanted = SUBSETS[: SUBSETS.index(subset) + 1]
    tracks = [track for track in _read_tracks(table) if track['subset'] in wanted]
    named = [track for track in tracks if track['genre']]
    if not named:
        raise UserError(f'{table} has no tracks with a genre_top in the subset {subset}')
    if len(named) < len(tracks):
        all_tracks = counted(len(tracks), 'track')
        status(f'{len(tracks) - len(named)} of {all_tracks} left out: no genre_top')
    return [
        audio_clip(
            track['id'],
            track['genre'],
            os.path.join(audio, track['id'][:3], f'{track["id"]}.mp3'),
            group=track['artist'],
            side=track['side'],
        )
        for track in named
    ]


def _read_tracks(path: str) -> list[dict[str, str]]:
    """The rows below the three header rows; ids get six digits, as in the names of the files."""
    try:
        with storage.to_read(path) as local, open(local, newline='', encoding='utf-8') as file:
            rows = csv.reader(file)
            names = list(zip(next(rows), next(rows), strict=True))
            next(rows)
            at = {name: names.index(column) for name, column in COLUMNS.items()}
            return [
                {'id': f'{int(row[0]):06}'} | {name: row[k] for name, k in at.items()}
                for row in rows
            ]
    except (ValueError, IndexError, StopIteration, csv.Error) as error:
        raise UserError(
            f"{path} is not FMA's tracks.csv, which has three header rows: {error}"
        ) from None


def _first_found(paths: list[str], remedy: str) -> str:
    for path in paths:
        if storage.exists(path):
            return path
    raise UserError(f'{paths[0]} was not found; {remedy}')
