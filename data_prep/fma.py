"""FMA in its own layout: `fma_small/000/000002.mp3` and `fma_metadata/tracks.csv`."""

import csv
import os
from typing import Literal

from data_prep.sources import Clip, audio_clip, check_folder
from glr_jax import storage
from glr_jax.cli import status
from glr_jax.errors import UserError

SUBSETS = ('small', 'medium', 'large', 'full')  # each is part of the next
Subset = Literal['small', 'medium', 'large', 'full']
COLUMNS = {
    'artist': ('artist', 'id'),
    'side': ('set', 'split'),
    'subset': ('set', 'subset'),
    'genre': ('track', 'genre_top'),
}


def fma_clips(folder: str, subset: Subset = 'small') -> list[Clip]:
    """The tracks of a subset; label `genre_top`, group `artist.id`, FMA's split as `official`.

    Tracks without a top genre, most of those in `large` and `full`, are left out. A file that is
    not there becomes a clip all the same, which will be skipped and named.

    Args:
      folder: holds `fma_SUBSET/` and `fma_metadata/` as the archives unpack.
      subset: of `set.subset`.

    Raises:
      UserError: the folder, its audio or its `tracks.csv` is not there or is not FMA's.
    """
    check_folder(folder)
    audio = _first_there([os.path.join(folder, f'fma_{subset}')], f'unpack fma_{subset}.zip there')
    table = _first_there(
        [os.path.join(folder, name) for name in ('fma_metadata/tracks.csv', 'tracks.csv')],
        'unpack fma_metadata.zip there',
    )
    wanted = SUBSETS[: SUBSETS.index(subset) + 1]
    tracks = [track for track in _read_tracks(table) if track['subset'] in wanted]
    named = [track for track in tracks if track['genre']]
    if not named:
        raise UserError(f'{table} has no tracks of the subset {subset} with a genre_top')
    if len(named) < len(tracks):
        status(f'{len(tracks) - len(named)} of {len(tracks)} tracks have no genre_top: left out')
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
    """Rows below the three header rows; the id as the files have it, of six digits."""
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
            f"{path} is not FMA's tracks.csv with its three header rows: {error}"
        ) from None


def _first_there(paths: list[str], remedy: str) -> str:
    for path in paths:
        if storage.exists(path):
            return path
    raise UserError(f'{paths[0]} is not there; {remedy}')
