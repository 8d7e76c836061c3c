"""Spectrograms that an earlier preparation computed, found by the content of the audio file.

So changing labels, groups, sides or names decodes no audio again. A finished dataset has
`sources.csv`, an unfinished one the notes of its shards: both say what each spectrogram was
computed from. The index made of them is a sorted array that all workers share.
"""

import bisect
import functools
import hashlib
import importlib.metadata
import json
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Num

from glr_jax import storage
from glr_jax.data import example
from glr_jax.data.example import ExampleError, spectrogram_digest
from glr_jax.data.mel import FrontEnd
from glr_jax.data.metadata import SOURCES, read_metadata
from glr_jax.data.tables import read_table
from glr_jax.data.tfrecord import CorruptRecordError, RecordFile
from glr_jax.errors import UserError
from glr_jax.fields import to_dict

COLUMNS = ('id', 'content', 'spectrogram')
INDEX = 'kept.npy'
_ALGORITHM = 2  # raise it if `mel_of_file` gives another spectrogram of some file
_LIBRARIES = ('librosa', 'numpy', 'scipy', 'soundfile', 'soxr')
_LARGEST = 1 << 32  # bytes: no larger file is worth reading twice
_ROW = np.dtype([('content', 'S32'), ('digest', 'S64'), ('file', '<u4'), ('record', '<u4')])


class Kept(NamedTuple):
    """An earlier spectrogram: what it was computed from, its checksum, and where it is."""

    content: str
    digest: str
    path: str
    record: int


def content_of(path: str, front_end: FrontEnd) -> str:
    """A checksum of all that a spectrogram depends on: the bytes of the file and the front end.

    Also of the libraries' versions, as another decoder may give other samples. It is '' for clips
    that are not files, for huge files, and for files that cannot be read.
    """
    if not path or storage.is_remote(path):
        return ''
    checksum = hashlib.sha256(_settings(front_end))  # processors have instructions for it
    checksum.update(os.path.splitext(path)[1].lower().encode(errors='surrogateescape'))
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode) or info.st_size > _LARGEST:
            return ''
        with open(path, 'rb') as file:
            while block := file.read(1 << 20):
                checksum.update(block)
    except OSError:  # reading the clip says why
        return ''
    return checksum.hexdigest()[:32]


@functools.lru_cache(maxsize=1)
def _settings(front_end: FrontEnd) -> bytes:
    versions = [importlib.metadata.version(name) for name in _LIBRARIES]
    return json.dumps([_ALGORITHM, versions, to_dict(front_end)]).encode()


def of_dataset(folder: str) -> Iterator[Kept]:
    """The spectrograms of a finished dataset; none if it is damaged or of an older version."""
    try:
        table = read_table(os.path.join(folder, SOURCES), required=COLUMNS)
        metadata = read_metadata(folder)
    except (UserError, OSError):
        return
    lengths = metadata.shard_lengths
    places = [
        (path, record)
        for path, length in zip(metadata.shards, lengths, strict=True)
        for record in range(length)
    ]
    if len(places) == len(table.rows):
        for row, place in zip(table.rows, places, strict=True):
            yield Kept(row['content'], row['spectrogram'], *place)


def write_index(path: str, kept: Iterable[Kept]) -> str:
    """Writes the index for `find`.

    Args:
      path: of the index; the names of the shards go into a file beside it.
      kept: earlier spectrograms.

    Returns:
      The path, or '' if there is nothing to find.
    """
    files: dict[str, int] = {}
    rows = [
        (one.content, one.digest, files.setdefault(one.path, len(files)), one.record)
        for one in kept
        if one.content
    ]
    if not rows:
        return ''
    index = np.sort(np.asarray(rows, _ROW), order='content', kind='stable')
    storage.write_text(_names(path), json.dumps(list(files)))
    with storage.to_write(path) as local, open(local, 'wb') as file:
        np.save(file, index, allow_pickle=False)
    return path


def find(
    path: str, content: str, n_mels: int, mel_dtype: str
) -> Num[np.ndarray, 'frames mels'] | None:
    """An earlier spectrogram of the same content; None if there is none that is intact.

    Args:
      path: of the index.
      content: what the spectrogram is computed from.
      n_mels: its mel bands.
      mel_dtype: its type.
    """
    index, files = _load(path, storage.stamp(path))
    at = bisect.bisect_left(index['content'], content.encode())
    if at == len(index) or index['content'][at] != content.encode():
        return None
    row = index[at]
    try:
        data = _records(files[row['file']])[int(row['record'])]
        mel = example.parse(data, n_mels, np.dtype(mel_dtype)).mel
    except (CorruptRecordError, ExampleError, OSError, IndexError):
        return None
    return mel if spectrogram_digest(mel).encode() == row['digest'] else None


@functools.lru_cache(maxsize=1)
def _load(path: str, stamp: str) -> tuple[np.ndarray, Sequence[str]]:
    with storage.to_read(_names(path)) as local, open(local, encoding='utf-8') as file:
        files = json.load(file)
    with storage.to_read(path) as local:  # mapped into memory, so that the workers share it
        if storage.is_remote(path):
            return np.load(local, allow_pickle=False), files
        return np.load(local, mmap_mode='r', allow_pickle=False), files


def _names(path: str) -> str:
    return f'{path}.json'


_latest: dict[tuple[str, str], RecordFile] = {}  # the next clip often comes from the same shard


def _records(path: str) -> RecordFile:
    key = path, storage.stamp(path)
    if key not in _latest:
        close()
        _latest[key] = RecordFile(path)
    return _latest[key]


def close() -> None:
    """Closes the shard that was read last; called before shards are replaced."""
    for file in _latest.values():
        file.close()
    _latest.clear()
