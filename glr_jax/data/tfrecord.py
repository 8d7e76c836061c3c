"""The TFRecord file format without TensorFlow: framed records with checksums.

A record is: length (uint64), masked CRC-32C of the length (uint32), data, masked CRC-32C of the
data (uint32), little-endian. https://www.tensorflow.org/tutorials/load_data/tfrecord
"""

import os
import struct
from collections.abc import Iterable

import google_crc32c
import numpy as np
from jaxtyping import Int64

from glr_jax import storage

_HEADER = struct.Struct('<QI')
_FOOTER = struct.Struct('<I')


class CorruptRecordError(Exception):
    """A record has a wrong checksum or ends early; the message names the file and the offset."""


def masked_crc(data: bytes) -> int:
    """CRC-32C, rotated and offset as TFRecord requires."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def write_records(path: str, records: Iterable[bytes]) -> None:
    """Writes a TFRecord file; if anything fails, `path` stays as it was."""
    with storage.to_write(path) as local, open(local, 'wb') as file:
        for data in records:
            length = struct.pack('<Q', len(data))
            file.write(length + _FOOTER.pack(masked_crc(length)))
            file.write(data + _FOOTER.pack(masked_crc(data)))


class RecordFile:
    """Random access to the records of a file; several threads may read at once.

    Args:
      path: an uncompressed TFRecord file.

    Raises:
      CorruptRecordError: a header is wrong, or the file ends within a record.
    """

    def __init__(self, path: str):
        self.path = path
        with storage.to_read(path) as local:  # an open copy can still be read once it is deleted
            self._descriptor = os.open(local, os.O_RDONLY)
        try:
            self.offsets = self._scan()
        except CorruptRecordError:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int | np.integer) -> bytes:
        """The data of a record, after its checksum is verified."""
        start, end = int(self.offsets[index]), int(self.offsets[index + 1])
        frame = os.pread(self._descriptor, end - start, start)
        data = frame[_HEADER.size : -_FOOTER.size]
        if len(frame) < end - start or _FOOTER.unpack(frame[-4:])[0] != masked_crc(data):
            raise CorruptRecordError(f'{self.path}: corrupt record {index} at offset {start}')
        return data

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)

    def _scan(self) -> Int64[np.ndarray, ' offsets']:
        """Where each record begins, and the end of the last one; reads only the headers."""
        size, offset, offsets = os.fstat(self._descriptor).st_size, 0, [0]
        while offset < size:
            header = os.pread(self._descriptor, _HEADER.size, offset)
            if len(header) < _HEADER.size:
                raise CorruptRecordError(f'{self.path}: truncated at offset {offset}')
            length, crc = _HEADER.unpack(header)
            if crc != masked_crc(header[:8]):
                raise CorruptRecordError(f'{self.path}: corrupt length at offset {offset}')
            offset += _HEADER.size + length + _FOOTER.size
            if offset > size:
                raise CorruptRecordError(f'{self.path}: truncated at offset {offsets[-1]}')
            offsets.append(offset)
        return np.asarray(offsets, np.int64)
