"""Where clips come from: every source is a function from its input to a list of clips."""

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
from glr_jax.data.audio import audio_files
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
    """One piece of music; `mel` makes its stored spectrogram or raises `ClipError`.

    Attributes:
      path: where it is, for people.
      group: its artist, or ''.
      stamp: changes when the file does.
      n_mels: bands of a ready-made spectrogram; 0: the clip is audio.
      splits: sides that the source itself defines, by protocol.
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
    """Synthesised music in several styles: the same on every machine, nothing downloaded."""
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
    """Every audio file below `folder/LABEL/`, whatever its depth; the label is the sub-folder.

    A `metadata.csv` in the folder says instead which files there are: `path` and, as far as it has
    those columns, `label`, `group` (or `artist`) and `split`.

    Raises:
      UserError: the folder is not there, has no sub-folders, or no audio files in them.
    """
    check_folder(folder)
    if storage.exists(os.path.join(folder, 'metadata.csv')):
        return _listed_clips(folder, os.path.join(folder, 'metadata.csv'))
    entries = storage.entries(folder).items()
    labels = sorted(name for name, is_folder in entries if is_folder and name[0] != '.')
    if not labels:
        raise UserError(f'{folder} has no sub-folders; each label is a sub-folder of audio files')
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
        raise UserError(
            f'{table} is no table of comma-separated values in UTF-8: {error}'
        ) from None
    if not rows or 'path' not in rows[0]:
        raise UserError(f'{table} has no rows, or no column named path')
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
    """GTZAN's own layout, `genres/GENRE/GENRE.00000.wav` (or au, flac, mp3); id `GENRE.00000`.

    Raises:
      UserError: the ten genre folders are not there.
    """
    check_folder(folder)
    candidates = [os.path.join(folder, name) for name in ('', 'genres', 'genres_original')]
    roots = [root for root in candidates if storage.is_folder(os.path.join(root, GTZAN_GENRES[0]))]
    if not roots:
        raise UserError(f'{folder} is not GTZAN: it has no folder {GTZAN_GENRES[0]}, ...')
    missing = [g for g in GTZAN_GENRES if not storage.is_folder(os.path.join(roots[0], g))]
    if missing:
        raise UserError(f'{roots[0]} is not GTZAN: missing the folder(s) {", ".join(missing)}')
    return [
        audio_clip(os.path.splitext(os.path.basename(path))[0], genre, path)
        for genre in GTZAN_GENRES
        for path in audio_files(os.path.join(roots[0], genre))
    ]


def arrays_clips(path: str) -> list[Clip]:
    """Ready-made spectrograms: an .npz with `mel`, `label`, `id`, optional `group`, `split`.

    `mel` is [clips, frames, bands], uint8 (0..255 spans -80..0 dB) or float (dB below the peak,
    -80..0). `group` may be called `artist`. `split` holds train, validation or test and becomes
    the protocol `official`.

    Raises:
      UserError: not an .npz, or an array is missing or of the wrong length or content.
    """
    with storage.to_read(path) as local:
        if not os.path.isfile(local) or not is_zipfile(local):
            raise UserError(
                f'{path} is not an .npz file, which --source=arrays reads (--input=FILE.npz)'
            )
        try:
            with np.load(local, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except (ValueError, OSError, EOFError, BadZipFile, zlib.error) as error:
            raise UserError(f'{path} cannot be read as .npz: {error}') from None
    missing = [name for name in ('mel', 'label', 'id') if name not in arrays]
    if missing:
        raise UserError(f'{path} has no array(s) {", ".join(missing)}')
    mel = arrays['mel']
    number = mel.dtype == np.uint8 or np.issubdtype(mel.dtype, np.floating)
    if mel.ndim != 3 or 0 in mel.shape or not number:
        raise UserError(f'{path}: mel is {mel.dtype} {mel.shape}, not [clips, frames, bands]')
    if 'artist' in arrays:
        arrays.setdefault('group', arrays['artist'])
    count, text, stamp = len(mel), {}, storage.stamp(path)
    for name in sorted({'id', 'label', 'group', 'split'} & set(arrays)):
        column = arrays[name]
        if column.shape != (count,):
            raise UserError(f'{path}: {name} has shape {column.shape}, mel has {count} rows')
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
    """Raises `UserError` unless the folder is there."""
    if not folder:
        raise UserError('--input=FOLDER is needed: the folder of audio files')
    if not storage.is_folder(folder):
        raise UserError(f'{folder} is not a folder (--input)')


def audio_clip(id: str, label: str, path: str, *, group: str = '', side: str = '') -> Clip:
    """A clip of an audio file, whether it can be read or not; `side` of the source's own split."""
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
