"""Two texts of ID3 tags, genre and artist: read in one pass, whatever else the tag has.

mutagen parses every frame, copies the rest of the tag for each, and unpacks compressed ones of any
size: a made-up tag of a few MB would take hours or all memory. https://id3.org/id3v2.4.0-structure
"""

import os
import re
import struct
from collections.abc import Iterator
from typing import BinaryIO

LARGEST_TAG = 1 << 25  # bytes that are read of a tag
LARGEST_TEXT = 1 << 16  # bytes of a frame
_CODECS = ('latin-1', 'utf-16', 'utf-16-be', 'utf-8')
_NAMES = {b'TCON': 'TCON', b'TCO': 'TCON', b'TPE1': 'TPE1', b'TP1': 'TPE1'}
_CHUNKED = {b'RIFF': '<4sI', b'FORM': '>4sI'}  # wav and aiff: the headers of their chunks


def read_id3(file: BinaryIO) -> dict[str, list[str]]:
    """The texts of the genre frame, `TCON`, and of the artist frame, `TPE1`, if there are any.

    Args:
      file: an audio file with a tag at its start or its end, or in a chunk of a wav or aiff file.
    """
    found: dict[str, list[str]] = {}
    for name, content in _frames(*_tag(file)):
        texts = [text for text in _decode(content) if text.strip()] if name in _NAMES else []
        if texts:
            found.setdefault(_NAMES[name], texts)
        if len(found) == 2:
            break
    if 'TCON' not in found:
        found = _version_1(file) | found
    return found


def _tag(file: BinaryIO) -> tuple[int, bytes]:
    """The version of the tag and the bytes of its frames; 0 and none if there is no tag."""
    _seek_chunk(file)
    header = file.read(10)
    if len(header) < 10 or header[:3] != b'ID3' or header[3] not in (2, 3, 4):
        return 0, b''
    version, flags = header[3], header[5]
    data = file.read(min(_syncsafe(header[6:]), LARGEST_TAG))
    if flags & 0x80 and version < 4:
        data = data.replace(b'\xff\0', b'\xff')
    if flags & 0x40 and version > 2 and len(data) >= 4:  # an extended header
        size = _syncsafe(data[:4]) if version == 4 else 4 + int.from_bytes(data[:4], 'big')
        data = data[size:]
    return version, data


def _seek_chunk(file: BinaryIO) -> None:
    """Moves to the start of a file or, in a wav or aiff file, to that of its ID3 chunk."""
    file.seek(0)
    header = _CHUNKED.get(file.read(12)[:4])
    while header:
        start = file.read(8)
        if len(start) < 8:
            break
        name, size = struct.unpack(header, start)
        if name.upper() == b'ID3 ':
            return
        file.seek(size + size % 2, os.SEEK_CUR)
    file.seek(0)


def _frames(version: int, data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, content) of the frames that are neither compressed nor encrypted nor huge."""
    length, name_size = (6, 3) if version == 2 else (10, 4)
    at = 0
    while at + length <= len(data):
        name, digits = data[at : at + name_size], data[at + name_size : at + 2 * name_size]
        if not re.fullmatch(rb'[A-Z0-9]+\0?', name):
            return
        size = int.from_bytes(digits, 'big')
        if version == 4:
            syncsafe = _syncsafe(digits)  # unless by iTunes, which wrote plain numbers
            ends, plain_ends = at + 10 + syncsafe, at + 10 + size
            if _begins_frame(data, ends) or not _begins_frame(data, plain_ends):
                size = syncsafe
        flags = data[at + 9] if version > 2 else 0
        content = data[at + length : at + length + min(size, LARGEST_TEXT)]
        at += length + size
        if version == 4:
            if flags & 0x0C or size > LARGEST_TEXT:
                continue
            content = content[4:] if flags & 1 else content
            content = content.replace(b'\xff\0', b'\xff') if flags & 2 else content
        elif flags & 0xC0 or size > LARGEST_TEXT:
            continue
        yield name.rstrip(b'\0'), content


def _begins_frame(data: bytes, at: int) -> bool:
    """Whether a frame, the padding or the end of the tag is at an offset."""
    return at == len(data) or re.match(rb'[A-Z0-9]{4}|\0', data[at : at + 4]) is not None


def _decode(content: bytes) -> list[str]:
    """The texts of a frame: a byte that gives the encoding, then texts that end with NUL."""
    if not content or content[0] >= len(_CODECS):
        return []
    try:
        return content[1:].decode(_CODECS[content[0]]).split('\0')
    except UnicodeDecodeError:
        return []


def _version_1(file: BinaryIO) -> dict[str, list[str]]:
    """The texts of a tag of version 1, in the last 128 bytes."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 128))
    tag = file.read(128)
    if len(tag) < 128 or tag[:3] != b'TAG':
        return {}
    artist = tag[33:63].split(b'\0')[0].decode('latin-1').strip()
    genre = {'TCON': [str(tag[127])]} if tag[127] != 255 else {}
    return genre | ({'TPE1': [artist]} if artist else {})


def _syncsafe(digits: bytes) -> int:
    """A number in digits of 7 bits."""
    value = 0
    for digit in digits:
        value = value << 7 | digit & 0x7F
    return value
