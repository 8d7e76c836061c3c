"""Ready-made spectrograms, in an .npz file."""

import functools
import os
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from zipfile import BadZipFile, is_zipfile

import numpy as np
from jaxtyping import Num

from data_prep.clips import Clip, official_split
from data_prep.listed import labels_in
from glr_jax import storage
from glr_jax.cli import status
from glr_jax.data.files import UNLABELLED, LeftOut
from glr_jax.data.mel import FrontEnd, decode, encode
from glr_jax.data.metadata import SEPARATOR
from glr_jax.data.tables import names_of
from glr_jax.errors import ClipError, UserError
from glr_jax.text import counted

ARRAYS = ('mel', 'label', 'labels', 'label_names', 'id', 'group', 'artist', 'split')
LEAST_RANGE = 10  # dB; the loudest and the softest value of real music differ by far more
RANGE_TOLERANCE = 0.05  # dB, above the rounding of float16


def arrays_clips(
    path: str,
    *,
    top_db: float = 80.0,
    separator: str = SEPARATOR,
    keep_unlabelled: bool = False,
    left_out: Callable[[LeftOut], None] = lambda file: None,
) -> list[Clip]:
    """Ready-made spectrograms: an .npz with `mel`, `label`, `id`; optional `group` and `split`.

    `mel` is [clips, frames, bands]: uint8 with 0..255 for -80..0 dB, or float with -top_db..0 dB
    below the peak. `group` may be called `artist`. `split` holds train, validation or test and
    becomes the split `official`.

    With `labels` instead of `label`, clips may have several: a text per clip with a separator
    between the labels, or 0 and 1 [clips, labels] with the names in `label_names`.

    Args:
      path: the .npz file.
      top_db: of the front end.
      separator: between the labels in a text.
      keep_unlabelled: keep clips without labels; they are examples of no label.
      left_out: called with each clip that is left out because it has no labels.

    Raises:
      UserError: the file is not an .npz, or an array is missing or has the wrong shape, type or
        range of values.
    """
    with storage.to_read(path) as local:
        if not os.path.isfile(local) or not is_zipfile(local):
            raise UserError(f'{path} is not an .npz file; --source=arrays needs --input=FILE.npz')
        name = ''
        try:
            with np.load(local, allow_pickle=False) as archive:
                arrays = {}
                for name in archive.files:
                    arrays[name] = archive[name]
        except (ValueError, OSError, EOFError, BadZipFile, zlib.error) as error:
            if name and 'allow_pickle' in str(error):
                raise UserError(
                    f'{path}: array {name} has Python objects; save it as text or numbers, e.g. '
                    f'np.array({name}, str)'
                ) from None
            raise UserError(f'{path} cannot be read as .npz: {error}') from None
    several = 'labels' in arrays
    if several and 'label' in arrays:
        status(f'{path}: the array label is ignored, because there is one of several labels')
        del arrays['label']
    if keep_unlabelled and not several:
        raise UserError(
            f'--keep_unlabelled needs several labels per clip; {path} has no array labels'
        )
    needed = ('mel', 'labels' if several else 'label', 'id')
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise UserError(f'{path} lacks arrays: {", ".join(missing)}')
    ignored = sorted(arrays.keys() - ARRAYS)
    if ignored:
        status(f'{path}: ignored arrays: {names_of(ignored)}; known are {", ".join(ARRAYS)}')
    mel = arrays['mel']
    numeric = mel.dtype == np.uint8 or np.issubdtype(mel.dtype, np.floating)
    if mel.ndim != 3 or 0 in mel.shape or not numeric:
        raise UserError(
            f'{path}: mel is {mel.dtype} {mel.shape}, not uint8 or float [clips, frames, bands]'
        )
    _check_range(path, mel, top_db)
    if 'artist' in arrays:
        arrays.setdefault('group', arrays['artist'])
    count, text, stamp = len(mel), {}, storage.stamp(path)
    for name in sorted({'id', 'label', 'group', 'split'} & set(arrays)):
        column = arrays[name]
        if column.shape != (count,):
            raise UserError(
                f'{path}: {name} has shape {column.shape}, but mel has {counted(count, "clip")}'
            )
        text[name] = list(map(str, column.astype(np.str_)))
    splits = [official_split(side, path) for side in text.get('split', [''] * count)]
    label = _several_labels(path, arrays, count, separator) if several else text['label']
    chosen = list(range(count))
    if several and not keep_unlabelled:
        chosen = [i for i in chosen if label[i]]
        for i in range(count):
            if not label[i]:
                left_out(LeftOut(os.path.join(path, text['id'][i]), UNLABELLED, 'has no labels'))
        if not chosen:
            raise UserError(f'{path}: no clip has a label')
    return [
        Clip(
            id=text['id'][i],
            label=label[i],
            mel=functools.partial(_stored_mel, mel[i]),
            path=f'{path}[{i}]',
            group=text['group'][i] if 'group' in text else '',
            stamp=stamp,
            n_mels=mel.shape[2],
            splits=splits[i],
        )
        for i in chosen
    ]


def _several_labels(
    path: str, arrays: Mapping[str, np.ndarray], count: int, separator: str
) -> list[tuple[str, ...]]:
    """The labels of each clip, from texts or from 0 and 1 for each of some names."""
    labels = arrays['labels']
    if len(labels.shape) not in (1, 2) or len(labels) != count:
        raise UserError(
            f'{path}: labels has shape {labels.shape}, but mel has {counted(count, "clip")}'
        )
    if labels.ndim == 1:
        return [labels_in(text, separator) for text in map(str, labels.astype(np.str_))]
    if 'label_names' not in arrays:
        raise UserError(f'{path}: labels is a matrix, so it needs an array label_names')
    names = arrays['label_names']
    if names.shape != labels.shape[1:]:
        raise UserError(
            f'{path}: labels has {counted(labels.shape[1], "column")}, but label_names has shape '
            f'{names.shape}'
        )
    texts = [' '.join(str(name).split()) for name in names.astype(np.str_)]
    repeated = [name for name, times in Counter(texts).items() if times > 1 or not name]
    if repeated:
        raise UserError(
            f'{path}: label_names has {repeated[0]!r} more than once'
            if repeated[0]
            else f'{path}: label_names has an empty name'
        )
    if not np.isin(labels, (0, 1)).all():
        raise UserError(f'{path}: a matrix of labels must have no other values than 0 and 1')
    return [tuple(texts[k] for k in np.flatnonzero(row)) for row in labels]


def _check_range(path: str, mel: Num[np.ndarray, 'clips frames mels'], top_db: float) -> None:
    """Raises `UserError` if decibels are outside of -top_db..0; NaN and infinity do not count."""
    if mel.dtype == np.uint8:
        return
    lowest, highest = np.inf, -np.inf
    for clip in mel:  # one at a time: a selection from all would double the memory
        finite = clip[np.isfinite(clip)]
        if finite.size:
            lowest, highest = min(lowest, float(finite.min())), max(highest, float(finite.max()))
    if lowest < -top_db - RANGE_TOLERANCE or highest > RANGE_TOLERANCE:
        raise UserError(
            f'{path}: mel has values from {lowest:g} to {highest:g}, but must be in decibels below '
            f"the peak, from -{top_db:g} (--top_db) to 0: subtract each clip's maximum, "
            f'mel -= mel.max((1, 2), keepdims=True), and give --top_db=N or raise the values '
            f'below, np.maximum(mel, -{top_db:g})'
        )
    if 0 <= highest - lowest < LEAST_RANGE:
        status(f'{path}: mel has values from {lowest:g} to {highest:g} only; are they decibels?')


def _stored_mel(
    mel: Num[np.ndarray, 'frames mels'], front_end: FrontEnd
) -> Num[np.ndarray, 'frames mels']:
    if mel.dtype == np.uint8:
        return mel if front_end.mel_dtype == 'uint8' else decode(mel, FrontEnd())
    if not np.isfinite(mel).all():
        raise ClipError('has NaN or infinite values')
    return encode(mel, front_end)
