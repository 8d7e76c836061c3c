"""MagnaTagATune as published: `annotations_final.csv`, audio in `0/` to `f/`.

Law, West, Mandel, Bay & Downie, "Evaluation of algorithms using games: the case of music tagging",
ISMIR 2009.
"""

import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence

from data_prep.clips import Clip, audio_clip, check_folder, folder_with
from glr_jax import storage
from glr_jax.cli import status
from glr_jax.data.files import UNLABELLED, LeftOut
from glr_jax.errors import UserError
from glr_jax.text import shorten

ANNOTATIONS, CLIPS = 'annotations_final.csv', 'clip_info_final.csv'
HOME = 'https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset'
FOLDERS = '0123456789abcdef'
_AUDIO = ('', 'mp3', 'audio')
# {tag: tags that mean the same}, from https://github.com/keunwoochoi/magnatagatune-list
SYNONYMS = {
    'beat': 'beats',
    'chant': 'chanting',
    'choir': 'choral',
    'classical': 'clasical, classic',
    'drum': 'drums',
    'electronic': 'electric, electro, electronica',
    'fast': 'fast beat, quick',
    'female': 'female singer, female singing, female vocal, female vocals, female voice, woman, '
    'woman singing, women',
    'flute': 'flutes',
    'guitar': 'guitars',
    'hard': 'hard rock',
    'harpsichord': 'harpsicord',
    'heavy': 'heavy metal, metal',
    'horn': 'horns',
    'indian': 'india',
    'jazz': 'jazzy',
    'male': 'male singer, male vocal, male vocals, male voice, man, man singing, men',
    'no beat': 'no drums',
    'no vocal': 'instrumental, no singer, no singing, no vocals, no voice, no voices',
    'opera': 'operatic',
    'orchestra': 'orchestral',
    'quiet': 'silence',
    'singer': 'singing',
    'space': 'spacey',
    'string': 'strings',
    'synth': 'synthesizer',
    'violin': 'violins',
    'vocal': 'vocals, voice, voices',
    'weird': 'strange',
}


def mtat_clips(
    folder: str,
    *,
    top_labels: int = 50,
    merge_synonyms: bool = False,
    keep_unlabelled: bool = False,
    left_out: Callable[[LeftOut], None] = lambda file: None,
) -> list[Clip]:
    """The clips of MagnaTagATune, with several labels per clip.

    The customary 12:1:3 split of its folders (Dieleman & Schrauwen, ICASSP 2014) becomes the split
    `official`: 0 to b are for training, c for validation, d to f for testing. Ids are paths
    without `.mp3`. The artists in `clip_info_final.csv`, if it is there, are the groups. A missing
    or empty audio file still becomes a clip, which will be skipped and named.

    Args:
      folder: holds `annotations_final.csv`, and the folders `0` to `f`, itself or in `mp3/`.
      top_labels: keep the most frequent labels, this many; 0 = all.
      merge_synonyms: first merge the tags in `SYNONYMS`.
      keep_unlabelled: keep clips without any of the labels, as examples of none.
      left_out: called with those clips otherwise.

    Raises:
      UserError: the annotations or the audio were not found, or a row cannot be used.
    """
    check_folder(folder)
    tags_of = _read_annotations(os.path.join(folder, ANNOTATIONS))
    if merge_synonyms:
        merged = {other: tag for tag, others in SYNONYMS.items() for other in others.split(', ')}
        tags_of = {
            path: tuple(dict.fromkeys(merged.get(tag, tag) for tag in tags))
            for path, tags in tags_of.items()
        }
    counts = Counter(tag for tags in tags_of.values() for tag in tags)
    ordered = sorted(counts, key=lambda tag: (-counts[tag], tag))
    labels = set(ordered[: top_labels or None])
    artists = _read_artists(os.path.join(folder, CLIPS))
    audio = folder_with(folder, _AUDIO, FOLDERS, f'unpack the mp3 archive of {HOME} there')
    clips = []
    for path, tags in tags_of.items():
        file, kept = os.path.join(audio, path), tuple(tag for tag in tags if tag in labels)
        if kept or keep_unlabelled:
            group, side = artists.get(path, ''), side_of_folder(path[0])
            id = path.removesuffix('.mp3')
            clips.append(audio_clip(id, kept, file, group=group, side=side))
        else:
            reason = 'has no tags'
            if tags:
                reason = f'has none of the {len(labels)} most frequent tags (--top_labels)'
            left_out(LeftOut(file, UNLABELLED, reason))
    return clips


def side_of_folder(name: str) -> str:
    """The side of the clips in the folder 0 to f."""
    if name < 'c':
        return 'train'
    return 'validation' if name == 'c' else 'test'


def _read_annotations(path: str) -> dict[str, tuple[str, ...]]:
    """{path of a clip: its tags, sorted}; the table has a column per tag, with 0 or 1."""
    header, rows = _read(path, ('clip_id', 'mp3_path'))
    at = header.index('mp3_path')
    columns = [k for k, name in enumerate(header) if name not in ('clip_id', 'mp3_path')]
    columns.sort(key=lambda k: header[k])
    tags_of: dict[str, tuple[str, ...]] = {}
    for line, cells in rows:
        place = f'{path}, line {line}'
        clip = cells[at]
        if not re.fullmatch(r'[0-9a-f]/[^/\0]+\.mp3', clip):
            raise UserError(f'{place}: the mp3_path {shorten(clip, 200)!r} is not like f/song.mp3')
        wrong = next((k for k in columns if cells[k] not in ('0', '1')), None)
        if wrong is not None:
            value = shorten(cells[wrong], 40)
            raise UserError(f'{place}: {header[wrong]} is {value!r}, not 0 or 1')
        if clip in tags_of:
            raise UserError(
                f'{place}: {shorten(clip, 200)!r} is on an earlier line too; remove one'
            )
        tags_of[clip] = tuple(header[k] for k in columns if cells[k] == '1')
    return tags_of


def _read_artists(path: str) -> dict[str, str]:
    """{path of a clip: its artist}; {} if there is no table."""
    if not storage.exists(path):
        status(f'{path} was not found, so the artists are not known: no group splits')
        return {}
    header, rows = _read(path, ('artist', 'mp3_path'))
    artist, at = header.index('artist'), header.index('mp3_path')
    return {cells[at]: cells[artist].strip() for _, cells in rows}


def _read(path: str, columns: Sequence[str]) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header of a table with tabs between quoted cells, and its rows with their lines."""
    try:
        with storage.to_read(path) as local, open(local, newline='', encoding='utf-8') as file:
            reader = csv.reader(file, delimiter='\t')
            rows = [(reader.line_num, cells) for cells in reader if any(cells)]
    except FileNotFoundError:
        raise UserError(f'{path} was not found; download it from {HOME}') from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f'{path} is not a table of MagnaTagATune: {error}') from None
    header = rows.pop(0)[1] if rows else []
    missing = [name for name in columns if name not in header]
    if missing:
        raise UserError(
            f'{path} is not a table of MagnaTagATune: it has no column {missing[0]} (tabs separate '
            'the columns)'
        )
    for line, cells in rows:
        if len(cells) != len(header):
            raise UserError(
                f'{path}, line {line}: the row has {len(cells)} cells, but the header has '
                f'{len(header)}; download the file again from {HOME}'
            )
    return header, rows
