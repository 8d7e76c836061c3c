"""Sources of clips: each is a function from its input to a list of clips."""

import csv
import dataclasses
import functools
import os
import zlib
from collections.abc import Callable, Mapping
from zipfile import BadZipFile, is_zipfile

import numpy as np
from jaxtyping import Num

from data_prep import demo
from glr_jax import storage
from glr_jax.data.files import audio_files
from glr_jax.data.mel import FrontEnd, decode, encode, mel_of_file, mel_of_samples
from glr_jax.data.records import SIDES
from glr_jax.errors import ClipError, UserError

GTZAN_GENRES = (
    *('blues', 'classical', 'country', 'disco', 'hiphop'),
    *('jazz', 'metal', 'pop', 'reggae', 'rock'),
)
DEMO_CLIPS_PER_STYLE = 30


@dataclasses.dataclass(frozen=True)
class Clip:
    """A piece of music.

    Attributes:
      id: unique in the dataset.
      label: the class name.
      mel: computes the spectrogram as it is stored, or raises `ClipError`.
      path: where the clip came from, to be shown to people.
      group: the artist, or ''; a group split keeps a group on one side.
      stamp: a text that changes when the file changes.
      n_mels: mel bands of a ready-made spectrogram; 0 = the clip is audio.
      splits: {split: side} for splits that the source defines.
    """

    id: str
    label: str
    mel: Callable[[FrontEnd], Num[np.ndarray, 'frames mels']]
    path: str = ''
    group: str = ''
    stamp: str = ''
    n_mels: int = 0
    splits: Mapping[str, str] = dataclasses.field(default_factory=dict)


def demo_clips() -> list[Clip]:
    """Synthesised music in several styles, the same on every machine; downloads nothing."""
    return [
        Clip(
            id=f'{style}.{seed:03d}',
            label=style,
            mel=functools.partial(_mel_of_demo, style, seed),
            path=f'demo:{style}.{seed:03d}',
        )
        for style in demo.STYLES
        for seed in range(DEMO_CLIPS_PER_STYLE)
    ]


def folder_clips(folder: str) -> list[Clip]:
    """The audio files below `folder/LABEL/`, at any depth; the sub-folder's name is the label.

    If the folder has a `metadata.csv`, only the files in it count. It has a column `path` and,
    optionally, `label`, `group` (or `artist`) and `split`.

    Raises:
      UserError: the folder was not found, has no sub-folders, or has no audio files in them.
    """
    check_folder(folder)
    if storage.exists(os.path.join(folder, 'metadata.csv')):
        return _listed_clips(folder, os.path.join(folder, 'metadata.csv'))
    entries = storage.entries(folder).items()
    labels = sorted(name for name, is_folder in entries if is_folder and name[0] != '.')
    if not labels:
        raise UserError(f'{folder} has no sub-folders; put the audio files of each label in one')
    clips = []
    for label in labels:
        for path in audio_files(os.path.join(folder, label)):
            name = os.path.relpath(path, folder).replace(os.sep, '/')
            clips.append(audio_clip(name, label, path))
    if not clips:
        raise UserError(f'{folder} has no audio files in its {len(labels)} sub-folders')
    return clips


def _listed_clips(folder: str, table: str) -> list[Clip]:
    try:
        with (
            storage.to_read(table) as local,
            open(local, newline='', encoding='utf-8-sig') as file,
        ):
            rows = list(csv.DictReader(file, restval='', strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f'{table} is not a CSV file in UTF-8: {error}') from None
    if not rows or 'path' not in rows[0]:
        raise UserError(f'{table} has no rows or no column named path')
    clips = []
    for number, row in enumerate(rows, 2):
        name = os.path.normpath(row['path'])
        if os.path.isabs(name) or name.split(os.sep)[0] in ('..', '.'):
            raise UserError(f'{table}, line {number}: path {row["path"]!r} is not below {folder}')
        parts = name.split(os.sep)
        clips.append(
            audio_clip(
                '/'.join(parts),
                row.get('label') or (parts[0] if len(parts) > 1 else ''),
                os.path.join(folder, name),
                group=row.get('group') or row.get('artist') or '',
                side=row.get('split', ''),
            )
        )
    return clips


def gtzan_clips(folder: str) -> list[Clip]:
    """GTZAN as published: `genres/GENRE/GENRE.00000.wav` (or au, flac, mp3); id `GENRE.00000`.

    Raises:
      UserError: one of the ten genre folders was not found.
    """
    check_folder(folder)
    candidates = [os.path.join(folder, name) for name in ('', 'genres', 'genres_original')]
    roots = [root for root in candidates if storage.is_folder(os.path.join(root, GTZAN_GENRES[0]))]
    if not roots:
        raise UserError(f'{folder} is not GTZAN: the folder {GTZAN_GENRES[0]} was not found')
    missing = [g for g in GTZAN_GENRES if not storage.is_folder(os.path.join(roots[0], g))]
    if missing:
        raise UserError(f'{roots[0]} is not GTZAN: missing folders: {", ".join(missing)}')
    return [
        audio_clip(os.path.splitext(os.path.basename(path))[0], genre, path)
        for genre in GTZAN_GENRES
        for path in audio_files(os.path.join(roots[0], genre))
    ]


def arrays_clips(path: str) -> list[Clip]:
    """Ready-made spectrograms: an .npz with `mel`, `label`, `id`; optional `group` and `split`.

    `mel` is [clips, frames, bands]: uint8 with 0..255 for -80..0 dB, or float with -80..0 dB
    below the peak. `group` may be called `artist`. `split` holds train, validation or test and
    becomes the split `official`.

    Raises:
      UserError: the file is not an .npz, or an array is missing or has the wrong shape or type.
    """
    with storage.to_read(path) as local:
        if not os.path.isfile(local) or not is_zipfile(local):
            raise UserError(f'{path} is not an .npz file; --source=arrays needs --input=FILE.npz')
        try:
            with np.load(local, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except (ValueError, OSError, EOFError, BadZipFile, zlib.error) as error:
            raise UserError(f'{path} cannot be read as .npz: {error}') from None
    missing = [name for name in ('mel', 'label', 'id') if name not in arrays]
    if missing:
        raise UserError(f'{path} lacks arrays: {", ".join(missing)}')
    mel = arrays['mel']
    numeric = mel.dtype == np.uint8 or np.issubdtype(mel.dtype, np.floating)
    if mel.ndim != 3 or 0 in mel.shape or not numeric:
        raise UserError(
            f'{path}: mel is {mel.dtype} {mel.shape}, not uint8 or float [clips, frames, bands]'
        )
    if 'artist' in arrays:
        arrays.setdefault('group', arrays['artist'])
    count, text, stamp = len(mel), {}, storage.stamp(path)
    for name in sorted({'id', 'label', 'group', 'split'} & set(arrays)):
        column = arrays[name]
        if column.shape != (count,):
            raise UserError(f'{path}: {name} has shape {column.shape}, but mel has {count} clips')
        text[name] = list(map(str, column.astype(np.str_)))
    splits = [_own_split(side, path) for side in text.get('split', [''] * count)]
    return [
        Clip(
            id=text['id'][i],
            label=text['label'][i],
            mel=functools.partial(_stored_mel, mel[i]),
            path=f'{path}[{i}]',
            group=text['group'][i] if 'group' in text else '',
            stamp=stamp,
            n_mels=mel.shape[2],
            splits=splits[i],
        )
        for i in range(count)
    ]


def check_folder(folder: str) -> None:
    """Raises `UserError` unless the folder exists."""
    if not folder:
        raise UserError('--input is required: the folder of audio files')
    if not storage.is_folder(folder):
        raise UserError(f'{folder} is not a folder (--input)')


def audio_clip(id: str, label: str, path: str, *, group: str = '', side: str = '') -> Clip:
    """A clip for an audio file; if the file is missing or damaged, it will be skipped and named.

    Args:
      id: unique in the dataset.
      label: the class name.
      path: the audio file.
      group: the artist, or ''.
      side: the side in the split that the source defines; '' = none.

    Raises:
      UserError: the side is unknown.
    """
    readable = lambda text: os.fsencode(text).decode('utf-8', 'backslashreplace')
    return Clip(
        id=readable(id),
        label=readable(label),
        mel=functools.partial(mel_of_file, path),
        path=readable(path),
        group=group,
        stamp=storage.stamp(path),
        splits=_own_split(side, path),
    )


def _own_split(side: str, path: str) -> dict[str, str]:
    side = {'training': 'train', 'valid': 'validation'}.get(side, side)
    if side and side not in SIDES:
        raise UserError(f'{path}: split {side!r} is not one of {", ".join(SIDES)}')
    return {'official': side} if side else {}


def _mel_of_demo(style: str, seed: int, front_end: FrontEnd) -> Num[np.ndarray, 'frames mels']:
    return mel_of_samples(demo.synthesise(style, seed, front_end.sample_rate), front_end)


def _stored_mel(
    mel: Num[np.ndarray, 'frames mels'], front_end: FrontEnd
) -> Num[np.ndarray, 'frames mels']:
    if mel.dtype == np.uint8:
        return mel if front_end.mel_dtype == 'uint8' else decode(mel, FrontEnd())
    if not np.isfinite(mel).all():
        raise ClipError('has NaN or infinite values')
    return encode(mel, front_end)
