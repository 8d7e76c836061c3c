"""A checksum of the audio in a file: of its bytes without the tags."""

import hashlib
import os
from collections.abc import Iterator
from typing import BinaryIO

Span = tuple[int, int]  # first byte and the one after the last

_OGG_HEADERS = {b'\x01vorbis': 3, b'OpusHead': 2}  # packets before the audio


def checksum(path: str) -> str:
    """The checksum of the audio of an mp3, FLAC, Ogg Vorbis, Opus, MP4, WAV or AIFF file.

    Raises:
      ValueError: the file has another format, or is damaged.
    """
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        for block in _audio(file):
            digest.update(block)
    return digest.hexdigest()


def _audio(file: BinaryIO) -> Iterator[bytes]:
    size = os.fstat(file.fileno()).st_size
    start = _after_id3(file)
    file.seek(start)
    head = file.read(12)
    if head[:4] == b'OggS':
        return _ogg_packets(file)
    if head[:4] == b'fLaC':
        return _blocks(file, [(_after_flac_metadata(file, start), size)])
    if head[4:8] == b'ftyp':
        return _blocks(file, list(_mp4_data(file)))
    if head[:4] == b'RIFF':
        return _blocks(file, list(_chunks(file, size, 'little', b'data')))
    if head[:4] == b'FORM':
        return _blocks(file, list(_chunks(file, size, 'big', b'SSND')))
    if size < start + 128:
        raise ValueError('has no audio')
    file.seek(size - 128)
    return _blocks(file, [(start, size - 128 if file.read(3) == b'TAG' else size)])


def _blocks(file: BinaryIO, spans: list[Span]) -> Iterator[bytes]:
    if not spans:
        raise ValueError('has no audio')
    for start, end in spans:
        file.seek(start)
        while start < end and (block := file.read(min(1 << 20, end - start))):
            start += len(block)
            yield block


def _after_id3(file: BinaryIO) -> int:
    """The first byte after an ID3v2 tag at the start of a file; 0 if there is none."""
    file.seek(0)
    head = file.read(10)
    if head[:3] != b'ID3' or len(head) < 10:
        return 0
    size = 0
    for byte in head[6:10]:
        size = size << 7 | byte & 0x7F
    return 10 + size + (10 if head[5] & 0x10 else 0)  # with a footer


def _after_flac_metadata(file: BinaryIO, start: int) -> int:
    file.seek(start + 4)
    while True:
        head = file.read(4)
        if len(head) < 4:
            raise ValueError('has no audio')
        file.seek(int.from_bytes(head[1:], 'big'), os.SEEK_CUR)
        if head[0] & 0x80:
            return file.tell()


def _mp4_data(file: BinaryIO) -> Iterator[Span]:
    from mutagen.mp4 import Atoms

    file.seek(0)
    for atom in Atoms(file).atoms:
        if atom.name == b'mdat':
            yield atom._dataoffset, atom.offset + atom.length


def _chunks(file: BinaryIO, size: int, order: str, wanted: bytes) -> Iterator[Span]:
    place = 12
    while place + 8 <= size:
        file.seek(place)
        head = file.read(8)
        length = int.from_bytes(head[4:], order)  # type: ignore[arg-type]
        if head[:4] == wanted:
            yield place + 8, min(place + 8 + length, size)
        place += 8 + length + length % 2


def _ogg_packets(file: BinaryIO) -> Iterator[bytes]:
    """The packets of all streams, without the headers of the first one, which hold the tags."""
    from mutagen.ogg import OggPage

    file.seek(0)
    first = OggPage(file)
    headers = next((n for name, n in _OGG_HEADERS.items() if first.packets[0].startswith(name)), 0)
    if not headers:
        raise ValueError('is an Ogg file without Vorbis or Opus')
    file.seek(0)
    whole = 0
    while True:
        try:
            page = OggPage(file)
        except EOFError:
            return
        for number, packet in enumerate(page.packets):
            if page.serial != first.serial or whole >= headers:
                yield packet
            ends = page.complete or number < len(page.packets) - 1
            whole += page.serial == first.serial and ends
