"""Formats of predictions that are written whole: Parquet tables, and npz files of embeddings.

Rows come from a JSONL file some thousand at a time, so that the memory does not grow with it.
"""

import itertools
import json
import os
import zipfile
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib import format as npy

from glr_jax import storage
from glr_jax.errors import UserError
from glr_jax.predictions import Row, cells

CHUNK = 5000  # rows


def stored(path: str) -> set[str]:
    """The paths of audio files in a finished file; none if there is no such file.

    Raises:
      UserError: it is damaged.
    """
    if not os.path.exists(path):
        return set()
    try:
        if path.endswith('.npz'):
            with np.load(path, allow_pickle=False) as arrays:
                return set(arrays['path'].tolist())
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(path) as file:
            return {
                name
                for batch in file.iter_batches(CHUNK, columns=['path'])
                for name in batch.column('path').to_pylist()
            }
    except (ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:  # ArrowInvalid is one
        raise UserError(f'{path} is damaged: {error}; remove it or choose another name') from None


def convert(log: str, path: str, columns: Sequence[str]) -> None:
    """Writes a file from what it has and the rows of a JSONL file that it lacks."""
    new = _rows(log, stored(path))
    with storage.to_write(path) as partial:
        if path.endswith('.npz'):
            _write_npz(partial, path, new)
        else:
            _write_parquet(partial, path, new, columns)


def _rows(log: str, without: Collection[str]) -> Iterator[Row]:
    with open(log, encoding='utf-8') as file:
        for line in file:
            row = json.loads(line)
            if row['path'] not in without:
                yield row


def _write_parquet(partial: str, old: str, rows: Iterator[Row], columns: Sequence[str]) -> None:
    import pyarrow
    from pyarrow import parquet

    kinds = {'path': pyarrow.string(), 'decision': pyarrow.string()}
    kinds['embedding'] = pyarrow.list_(pyarrow.float32())
    schema = pyarrow.schema([(name, kinds.get(name, pyarrow.float64())) for name in columns])
    with parquet.ParquetWriter(partial, schema) as writer:
        if os.path.exists(old):
            with parquet.ParquetFile(old) as file:
                for batch in file.iter_batches(CHUNK):
                    writer.write_batch(batch)
        while chunk := list(itertools.islice(rows, CHUNK)):
            by_column = zip(*map(cells, chunk), strict=True)
            arrays = [
                pyarrow.array(values, kind)
                for values, kind in zip(by_column, schema.types, strict=True)
            ]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))


def _write_npz(partial: str, old: str, rows: Iterator[Row]) -> None:
    """Arrays `path` and `embedding`, float32, in the same order."""
    paths: list[str] = []
    width = 0
    matrix = f'{partial}.rows'
    try:
        with open(matrix, 'wb') as file:
            for path, values in itertools.chain(_old_embeddings(old), _embeddings(rows)):
                paths.append(path)
                width = len(values)
                file.write(np.asarray(values, '<f4').tobytes())
        header = {'descr': '<f4', 'fortran_order': False, 'shape': (len(paths), width)}
        with zipfile.ZipFile(partial, 'w') as archive:
            with archive.open('path.npy', 'w', force_zip64=True) as entry:
                npy.write_array(entry, np.array(paths, dtype=np.str_), allow_pickle=False)
            with archive.open('embedding.npy', 'w', force_zip64=True) as entry:
                npy.write_array_header_1_0(entry, header)
                with open(matrix, 'rb') as file:
                    while block := file.read(1 << 20):
                        entry.write(block)
    finally:
        storage.remove(matrix)


def _embeddings(rows: Iterator[Row]) -> Iterator[tuple[str, Any]]:
    for row in rows:
        yield row['path'], row['embedding']


def _old_embeddings(path: str) -> Iterator[tuple[str, Any]]:
    if os.path.exists(path):
        with np.load(path, allow_pickle=False) as arrays:
            yield from zip(arrays['path'].tolist(), arrays['embedding'], strict=True)
