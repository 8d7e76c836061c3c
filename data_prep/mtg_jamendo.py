"""MTG-Jamendo as published: `data/splits/split-0/*.tsv`, audio in `00/` to `99/`.

Bogdanov, Won, Tovstogan, Porter & Serra, "The MTG-Jamendo Dataset for Automatic Music Tagging",
ICML 2019 workshop on machine learning for music discovery. The layout is that of the repository
MTG/mtg-jamendo-dataset: its folder `data`, and what its download script unpacks.
"""

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from data_prep.clips import Clip, audio_clip, check_folder, folder_with
from data_prep.download import Archive
from glr_jax import storage
from glr_jax.cli import status
from glr_jax.data.records import SIDES
from glr_jax.errors import UserError
from glr_jax.text import counted, shorten

SUBSETS = ('top50tags', 'genre', 'instrument', 'moodtheme')
NUM_SPLITS = 5
COLUMNS = ('TRACK_ID', 'ARTIST_ID', 'ALBUM_ID', 'PATH', 'DURATION', 'TAGS')
REPOSITORY = 'https://github.com/MTG/mtg-jamendo-dataset'
_ROOT = 'mtg-jamendo-dataset'  # of the repository, if it is inside
_CATEGORIES = {'genre': 'genre', 'instrument': 'instrument', 'moodtheme': 'mood/theme'}
_AUDIO = ('', 'audio', 'audio-low', 'raw_30s/audio', 'raw_30s/audio-low')
_SUFFIXES = ('.mp3', '.low.mp3')
ADDRESS = 'https://cdn.freesound.org/mtg-jamendo/raw_30s/audio-low'
_CHECKSUM = r'([0-9a-f]{64}) (raw_30s_audio-low-(\d\d)\.tar)'
_CHECKSUMS = 'data/download/raw_30s_audio-low_sha256_tars.txt'


class _Track(NamedTuple):
    path: str  # without its suffix, as 48/948
    artist: str
    labels: tuple[str, ...]


def archives(folder: str) -> list[Archive]:
    """The 100 archives of the low-quality audio, with the checksums in the repository's copy.

    Args:
      folder: holds the repository, as for `mtg_jamendo_clips`.

    Raises:
      UserError: the list of checksums was not found or is damaged.
    """
    places = [os.path.join(folder, name) for name in (_CHECKSUMS, f'{_ROOT}/{_CHECKSUMS}')]
    path = next(filter(os.path.isfile, places), places[0])
    try:
        with open(path, encoding='utf-8', errors='replace') as file:
            lines = file.read(1 << 20).splitlines()
    except FileNotFoundError:
        raise UserError(f'{path} was not found; first: git clone {REPOSITORY} {folder}') from None
    found = [re.fullmatch(_CHECKSUM, line) for line in lines]
    if not found or not all(found):
        raise UserError(f'{path} is no list of checksums; get it again from {REPOSITORY}')
    return [Archive(f'{ADDRESS}/{m[2]}', 'sha256', m[1], m[3]) for m in found if m]


def mtg_jamendo_clips(folder: str, subset: str = 'top50tags') -> list[Clip]:
    """The tracks of the published splits of a subset, with several labels per clip.

    The published `split-0` to `split-4` become the splits `official-0` to `official-4`, artists are
    the groups, and ids are paths without `.mp3`, as `48/948`. In a subset of one category, labels
    are the bare tags: `rock`. The subset `top50tags` mixes categories, so its labels name theirs:
    `genre: rock`, `mood/theme: happy`. A missing audio file still becomes a clip, which will be
    skipped and named.

    Args:
      folder: holds `data/` of the repository (or the repository), and the audio folders, itself or
        in `audio/`; the files are `48/948.mp3` or, of the low-quality set, `48/948.low.mp3`.
      subset: top50tags, genre, instrument or moodtheme.

    Raises:
      UserError: a file of a split or the audio was not found, or a row cannot be used.
    """
    check_folder(folder)
    places = [os.path.join(folder, name) for name in ('data/splits', f'{_ROOT}/data/splits')]
    root = next(filter(storage.is_folder, places), places[0])
    tracks: dict[str, _Track] = {}
    splits: dict[str, dict[str, str]] = {}
    other_labels = set()
    for number in range(NUM_SPLITS):
        for side in SIDES:
            name = f'split-{number}/autotagging_{subset}-{side}.tsv'
            for place, track in _read(os.path.join(root, name), subset):
                first = tracks.setdefault(track.path, track)
                if first.labels != track.labels:
                    other_labels.add(track.path)
                sides = splits.setdefault(track.path, {})
                before = sides.setdefault(f'official-{number}', side)
                if before != side:
                    raise UserError(
                        f'{place}: {track.path}.mp3 is in the {before} clips of this split too; '
                        f'get the file again from {REPOSITORY}'
                    )
    if other_labels:
        some = counted(len(other_labels), 'track')
        status(f'{some} with other tags in a later split; those of the first are used')
    remedy = f'unpack the audio archives of {REPOSITORY} there'
    audio = folder_with(folder, _AUDIO, [f'{k:02}' for k in range(100)], remedy)
    names = _names(audio, tracks)
    clips = []
    for track in tracks.values():
        suffix = next((end for end in _SUFFIXES if track.path + end in names), _SUFFIXES[0])
        file = track.path + suffix
        clip = audio_clip(
            file.removesuffix('.mp3'), track.labels, os.path.join(audio, file), group=track.artist
        )
        clips.append(dataclasses.replace(clip, splits=splits[track.path]))
    return clips


def _names(audio: str, tracks: Mapping[str, _Track]) -> set[str]:
    """The files in the folders of some tracks, as 48/948.mp3."""
    folders = storage.entries(audio)
    wanted = sorted({path.partition('/')[0] for path in tracks} & folders.keys())
    return {
        f'{name}/{file}'
        for name in wanted
        if folders[name]
        for file in storage.entries(os.path.join(audio, name))
    }


def _read(path: str, subset: str) -> Iterator[tuple[str, _Track]]:
    """The tracks of a table, each with the place of its row; rows have a cell per tag."""
    try:
        with storage.to_read(path) as local, open(local, encoding='utf-8') as file:
            lines = [line.rstrip('\n').split('\t') for line in file]
    except FileNotFoundError:
        raise UserError(f'{path} was not found; get it from {REPOSITORY}') from None
    except UnicodeDecodeError:
        raise UserError(f'{path} is not UTF-8; get it again from {REPOSITORY}') from None
    if not lines or tuple(lines[0]) != COLUMNS:
        raise UserError(
            f'{path} is not a table of MTG-Jamendo, whose columns are {", ".join(COLUMNS)}; get it '
            f'again from {REPOSITORY}'
        )
    for number, cells in enumerate(lines[1:], 2):
        if any(cells):
            place = f'{path}, line {number}'
            yield place, _track(cells, place, subset)


def _track(cells: list[str], place: str, subset: str) -> _Track:
    tags = list(filter(None, cells[len(COLUMNS) - 1 :]))
    if not tags:
        raise UserError(f'{place}: the row has no tags; get the file again from {REPOSITORY}')
    _, artist, _, path, *_ = cells
    if not re.fullmatch(r'[0-9]{2}/[0-9]+\.mp3', path):
        raise UserError(f'{place}: the path {shorten(path, 100)!r} is not like 48/948.mp3')
    labels = []
    for tag in tags:
        category, separator, name = tag.partition('---')
        if not separator or not name or category not in _CATEGORIES.values():
            raise UserError(f'{place}: the tag {shorten(tag, 100)!r} is not like genre---rock')
        if category != _CATEGORIES.get(subset, category):
            raise UserError(f'{place}: the tag {shorten(tag, 100)!r} is not of the subset {subset}')
        labels.append(name if subset in _CATEGORIES else f'{category}: {name}')
    return _Track(path.removesuffix('.mp3'), artist, tuple(sorted(set(labels))))
