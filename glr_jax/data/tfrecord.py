"""The TFRecord file format without TensorFlow: framed records with checksums.

A record is: length (uint64), masked CRC-32C of the length (uint32), data, masked CRC-32C of the
data (uint32), little-endian. https://www.tensorflow.org/tutorials/load_data/tfrecord
"""

import os
import stat
import struct
import threading
from collections.abc import Iterable

import google_crc32c
import numpy as np
from jaxtyping import Int64, UInt32

from glr_jax import storage

_HEADER = struct.Struct('<QI')
_FOOTER = struct.Struct('<I')
MAX_BYTES = 2**31 - 1  # of a record: protocol buffers cannot be larger
# A pipe is refused without waiting for its writer.
_FLAGS = os.O_RDONLY | getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_BINARY', 0)


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
            self._descriptor = os.open(local, _FLAGS)
        self._lock = threading.Lock()
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
        length = end - start - _HEADER.size - _FOOTER.size
        # Two reads, since cutting the data out of the whole frame would copy it.
        data = self._read(length, start + _HEADER.size)
        footer = self._read(_FOOTER.size, end - _FOOTER.size)
        if footer != _FOOTER.pack(masked_crc(data)):
            raise CorruptRecordError(f'{self.path}: corrupt record {index} at offset {start}')
        return data

    def read_part(self, index: int | np.integer, begin: int, out: np.ndarray) -> None:
        """Fills an array with a part of a record's data, whose checksum is not verified.

        Args:
          index: of the record.
          begin: where the part begins in the data.
          out: a contiguous array.

        Raises:
          CorruptRecordError: the file has become shorter.
        """
        start = int(self.offsets[index])
        if self._read_into(out, start + _HEADER.size + begin) != out.nbytes:
            raise CorruptRecordError(f'{self.path}: truncated at offset {start}')

    def checksums(self) -> UInt32[np.ndarray, ' records']:
        """The checksum stored with each record; reads nothing else of them."""
        stored = [self._read(_FOOTER.size, int(end) - _FOOTER.size) for end in self.offsets[1:]]
        return np.frombuffer(b''.join(stored), '<u4').astype(np.uint32)

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)

    def _read(self, length: int, offset: int) -> bytes:
        """Up to `length` bytes at an offset, fewer at the end of the file."""
        if hasattr(os, 'pread'):
            return os.pread(self._descriptor, length, offset)
        with self._lock:  # Windows has no pread
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            return os.read(self._descriptor, length)

    def _read_into(self, out: np.ndarray, offset: int) -> int:
        """Fills an array from an offset on; returns how many bytes there were."""
        if hasattr(os, 'preadv'):
            return os.preadv(self._descriptor, [out.data], offset)
        data = self._read(out.nbytes, offset)  # Windows has no preadv
        out.data.cast('B')[: len(data)] = data
        return len(data)

    def _scan(self) -> Int64[np.ndarray, ' offsets']:
        """Where each record begins, and the end of the last one; reads only the headers."""
        info = os.fstat(self._descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise CorruptRecordError(f'{self.path} is not a regular file')
        size, offset, offsets = info.st_size, 0, [0]
        while offset < size:
            header = self._read(_HEADER.size, offset)
            if len(header) < _HEADER.size:
                raise CorruptRecordError(f'{self.path}: truncated at offset {offset}')
            length, crc = _HEADER.unpack(header)
            if crc != masked_crc(header[:8]):
                raise CorruptRecordError(f'{self.path}: corrupt length at offset {offset}')
            if length > MAX_BYTES:
                raise CorruptRecordError(
                    f'{self.path}: a record of more than 2 GiB at offset {offset}'
                )
            offset += _HEADER.size + length + _FOOTER.size
            if offset > size:
                raise CorruptRecordError(f'{self.path}: truncated at offset {offsets[-1]}')
            offsets.append(offset)
        return np.asarray(offsets, np.int64)
