import concurrent.futures
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from glr_jax.data.tfrecord import CorruptRecordError, RecordFile, masked_crc, write_records

FIRST, SECOND = b'first', b'123456789'
OFFSET = 12 + len(FIRST) + 4  # where the second record begins


def crc32c(data: bytes) -> int:
    """The Castagnoli checksum, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


def mask(crc: int) -> int:
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32


def checksum(data: bytes) -> bytes:
    return struct.pack('<I', mask(crc32c(data)))


def frame(data: bytes) -> bytes:
    length = len(data).to_bytes(8, 'little')
    return length + checksum(length) + data + checksum(data)


def read_all(path: Path) -> list[bytes]:
    return list(RecordFile(str(path)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of two records."""
    write_records(str(tmp_path / 'two'), [FIRST, SECOND])
    return tmp_path / 'two'


def test_the_check_string_has_the_published_checksum() -> None:
    assert crc32c(b'123456789') == 0xE3069283
    assert masked_crc(b'123456789') == mask(0xE3069283)


@pytest.mark.parametrize('size', [0, 1, 7, 8, 9, 300])
def test_masked_crc_equals_a_bitwise_implementation(size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    assert masked_crc(data) == mask(crc32c(data))


def test_a_file_consists_of_framed_records(path: Path) -> None:
    assert path.read_bytes() == frame(FIRST) + frame(SECOND)


def test_a_known_record_has_known_bytes(tmp_path: Path) -> None:
    write_records(str(tmp_path / 'one'), [b'123456789'])
    content = (tmp_path / 'one').read_bytes()
    assert content[:8] == b'\x09\0\0\0\0\0\0\0'
    assert content[12:21] == b'123456789'
    # 0xe3069283 rotated right by 15 bits is 0x2507c60d; plus 0xa282ead8
    assert content[21:] == bytes.fromhex('e5b08ac7')
    assert len(content) == 25


@pytest.mark.parametrize('sizes', [[], [0], [0, 0, 3], [1, 100_000, 0, 17], range(40)])
def test_records_of_any_size_are_read_back(tmp_path: Path, sizes: list[int]) -> None:
    records = [np.random.default_rng(size).bytes(size) for size in sizes]
    write_records(str(tmp_path / 'file'), records)
    file = RecordFile(str(tmp_path / 'file'))
    assert len(file) == len(records)
    assert [file[k] for k in range(len(file))] == records


def test_records_can_be_read_in_any_order(path: Path) -> None:
    file = RecordFile(str(path))
    assert [file[1], file[0], file[1]] == [SECOND, FIRST, SECOND]


def test_many_threads_can_read_at_once(tmp_path: Path) -> None:
    records = [bytes([k]) * 1000 * k for k in range(50)]
    write_records(str(tmp_path / 'file'), records)
    file = RecordFile(str(tmp_path / 'file'))
    order = np.random.default_rng(0).integers(50, size=1000)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(file.__getitem__, order)) == [records[k] for k in order]


@pytest.mark.parametrize('place', range(12 + len(SECOND) + 4))
def test_a_flipped_bit_is_reported_with_file_and_offset(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[OFFSET + place] ^= 1 << place % 8
    path.write_bytes(content)
    with pytest.raises(CorruptRecordError, match=rf'{re.escape(str(path))}.* offset {OFFSET}$'):
        read_all(path)


def test_a_corrupt_record_leaves_the_others_readable(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[OFFSET + 12] ^= 1
    path.write_bytes(content)
    assert RecordFile(str(path))[0] == FIRST


@pytest.mark.parametrize('place', range(1, 12 + len(SECOND) + 4))
def test_a_truncated_file_is_reported_with_file_and_offset(path: Path, place: int) -> None:
    path.write_bytes(path.read_bytes()[: OFFSET + place])
    pattern = rf'{re.escape(str(path))}: truncated at offset {OFFSET}$'
    with pytest.raises(CorruptRecordError, match=pattern):
        RecordFile(str(path))


def test_a_file_that_shrinks_after_it_was_opened_is_reported(path: Path) -> None:
    file = RecordFile(str(path))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptRecordError, match=f'offset {OFFSET}$'):
        file[1]


def test_a_file_appears_only_once_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / 'file'
    seen = []

    def records() -> Iterator[bytes]:
        for k in range(3):
            seen.append(path.exists())
            yield bytes(10_000 * k)

    write_records(str(path), records())
    assert seen == [False] * 3
    assert list(tmp_path.iterdir()) == [path]


def broken_records() -> Iterator[bytes]:
    yield bytes(100_000)
    raise RuntimeError('broken')


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match='broken'):
        write_records(str(tmp_path / 'file'), broken_records())
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_earlier_file_unchanged(path: Path) -> None:
    with pytest.raises(RuntimeError, match='broken'):
        write_records(str(path), broken_records())
    assert read_all(path) == [FIRST, SECOND]
