"""The real length of audio files whose header is silent or wrong about it.

libsndfile reads as many samples as the header of a file states. Programs that write to a pipe do
not know the number, an mp3 without a Xing header states none, and files that were appended to one
another state the length of the first.
"""

import contextlib
import io
import os
import struct
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

Stream = io.BufferedIOBase
Span = tuple[int, int]  # bytes of a file, from the first to before the last
MAX_CHUNKS = 10_000  # of a WAV file; real ones have a few
MAX_STREAMS = 256  # of an Ogg or FLAC file; each takes memory
PLACEHOLDER = 0x7FFFF000  # a WAV file that states more bytes was written to a pipe
_UNKNOWN = b'\xff\xff\xff\xff'
_BITRATES = {  # kbit/s of layer III: MPEG 1, and MPEG 2 and 2.5
    True: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


class Overlay(io.RawIOBase):
    """A part of a file with some bytes replaced; the file itself stays as it is.

    Args:
      file: the file to read.
      span: the part to show.
      at: where the new bytes begin, counted in the part.
      new: the new bytes.
    """

    def __init__(self, file: Stream, span: Span, at: int = 0, new: bytes = b''):
        self.file, self.span, self.at, self.new, self.place = file, span, at, new, 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """The position in the part."""
        return self.place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to a position in the part."""
        size = self.span[1] - self.span[0]
        self.place = max(0, offset + (0, self.place, size)[whence])
        return self.place

    def readinto(self, buffer: Any) -> int:
        """Reads into a buffer."""
        self.file.seek(self.span[0] + self.place)
        data = bytearray(self.file.read(min(len(buffer), self.span[1] - self.span[0] - self.place)))
        for k, byte in enumerate(self.new, self.at - self.place):
            if 0 <= k < len(data):
                data[k] = byte
        buffer[: len(data)] = data
        self.place += len(data)
        return len(data)


class Mp3(NamedTuple):
    """The layer III frames of a file.

    Attributes:
      spans: where they are, without tags, junk and the frames that only describe the others.
      frames: how many there are.
      stated: how many the first description states, None without one.
      frame_samples: samples of a frame.
    """

    spans: list[Span]
    frames: int
    stated: int | None
    frame_samples: int


def wav_sizes(file: Stream) -> tuple[int, int, int] | None:
    """Where a WAV file states the size of its samples, that size, and the bytes that follow."""
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(4) != b'RIFF':
        return None
    place = 12
    for _ in range(MAX_CHUNKS):
        if place + 8 > end:
            break
        file.seek(place)
        name, size = struct.unpack('<4sI', file.read(8))
        if name == b'data':
            return place + 4, size, end - place - 8
        place += 8 + size + size % 2
    return None


def without_size(file: Stream) -> Overlay | None:
    """A WAV or AU file that states 0 samples, or an unknown number, as if it stated its real size.

    None if the file really has no samples, or is of another kind.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if head[:4] == b'.snd' and head[8:12] != _UNKNOWN:
        return Overlay(file, (0, end), 8, _UNKNOWN)
    sizes = wav_sizes(file)
    if sizes is None or sizes[1] or not sizes[2] or _only_chunks(file, sizes[0] + 4, end):
        return None
    return Overlay(file, (0, end), sizes[0], struct.pack('<I', min(sizes[2], 0xFFFFFFFE)))


def _only_chunks(file: Stream, place: int, end: int) -> bool:
    """Whether the rest of a WAV file is chunks after an empty `data`: then there are no samples."""
    for _ in range(MAX_CHUNKS):
        if place + 8 > end:
            break
        file.seek(place)
        name, size = struct.unpack('<4sI', file.read(8))
        if not name.isascii() or not name.decode().isprintable():
            return False
        place += 8 + size + size % 2
    return place in (end, end + 1)


def ogg_streams(file: Stream) -> list[Span]:
    """The streams that follow each other in an Ogg file, as a recording of a radio has them."""
    end = file.seek(0, os.SEEK_END)
    starts, place, began = [0], 0, True
    while place + 27 <= end:
        file.seek(place)
        head = file.read(27 + 255)
        if head[:4] != b'OggS':
            break
        begins = bool(head[5] & 2)
        if begins and not began:
            starts.append(place)
        began = begins
        place += 27 + head[26] + sum(head[27 : 27 + head[26]])
    return list(zip(starts, [*starts[1:], end], strict=True))


def flac_streams(file: Stream, piece: int = 1 << 20) -> list[Span]:
    """The streams that follow each other in a FLAC file, each with all its headers."""
    end = file.seek(0, os.SEEK_END)
    starts, place = [], 0
    while place < end:
        file.seek(place)
        data = file.read(piece + 7)  # a head has 8 bytes
        at = data.find(b'fLaC')
        if not 0 <= at < piece:  # later, with all of its head
            place += piece
        elif _is_flac_head(data[at : at + 8]):
            starts.append(place + at)
            place = _end_of_flac_metadata(file, place + at, end)
        else:
            place += at + 1
    starts[:1] = [0]  # tags may precede the first
    return list(zip(starts, [*starts[1:], end], strict=True))


def _is_flac_head(head: bytes) -> bool:
    """Whether the first metadata block is STREAMINFO, with its 34 bytes."""
    return head[4:5] in (b'\0', b'\x80') and head[5:8] == b'\0\0\x22'


def _end_of_flac_metadata(file: Stream, place: int, end: int) -> int:
    """Where the frames of a FLAC stream begin; its metadata may hold pictures and other files."""
    place += 4
    for _ in range(MAX_CHUNKS):
        if place + 4 > end:
            break
        file.seek(place)
        head = file.read(4)
        place += 4 + int.from_bytes(head[1:], 'big')
        if head[0] & 128:
            break
    return place


def mp3_frames(file: Stream) -> Mp3 | None:
    """Counts the frames of an mp3 file; None if the file does not look like one."""
    end = file.seek(0, os.SEEK_END)
    spans: list[Span] = []
    frames, stated, kind, place = 0, None, None, 0
    while place + 4 <= end:
        file.seek(place)
        head = file.read(64)
        frame = _layer3(head)
        if frame and kind in (None, frame[1]) and (spans or _follows(file, place, frame, end)):
            length, kind, described = frame[0], frame[1], _description(head)
            if described is not None:
                stated = described if stated is None and not frames else stated
            elif spans and spans[-1][1] == place:
                spans[-1] = (spans[-1][0], place + length)
                frames += 1
            else:
                spans.append((place, place + length))
                frames += 1
            place += length
        elif head[:3] == b'ID3' and len(head) >= 10:
            size = sum(
                (byte & 127) << shift
                for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)
            )
            place += 10 + size + (10 if head[5] & 16 else 0)
        else:
            place = _next_frame(file, place + 1, kind, end)
    if kind is None or not frames:
        return None
    spans[-1] = (spans[-1][0], min(spans[-1][1], end))
    return Mp3(spans, frames, stated, 1152 if kind[0] == 3 else 576)


def _layer3(head: bytes) -> tuple[int, tuple[int, int]] | None:
    """The length in bytes of the frame with this header, and its (version, sample rate)."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, bits, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or bits in (0, 15) or rate == 3:
        return None
    hertz = _RATES[version][rate]
    factor = 144 if version == 3 else 72
    length = factor * 1000 * _BITRATES[version == 3][bits - 1] // hertz + (head[2] >> 1 & 1)
    return length, (version, hertz)


def _follows(file: Stream, place: int, frame: tuple[int, tuple[int, int]], end: int) -> bool:
    """Whether a frame is followed by another of its kind, or by the end of the file."""
    if place + frame[0] >= end:
        return place + frame[0] == end
    file.seek(place + frame[0])
    after = _layer3(file.read(4))
    return after is not None and after[1] == frame[1]


def _description(head: bytes) -> int | None:
    """The number of frames that a Xing header states, 0 if it states none; None: not a header."""
    mono, first = head[3] >> 6 == 3, head[1] >> 3 & 3 == 3
    at = 4 + ((17 if mono else 32) if first else (9 if mono else 17)) + (0 if head[1] & 1 else 2)
    if head[at : at + 4] not in (b'Xing', b'Info') or len(head) < at + 8:
        return None
    return int.from_bytes(head[at + 8 : at + 12], 'big') if head[at + 7] & 1 else 0


def _next_frame(
    file: Stream,
    place: int,
    kind: tuple[int, int] | None,
    end: int,
    piece: int = 1 << 16,
) -> int:
    """The next place with two frames of a kind in a row, or `end`."""
    while place < end:
        file.seek(place)
        data = file.read(piece)
        at = data.find(b'\xff')
        while at >= 0:
            frame = _layer3(data[at : at + 4]) or (len(data) - at < 4 and _header(file, place + at))
            if frame and kind in (None, frame[1]) and _follows(file, place + at, frame, end):
                return place + at
            at = data.find(b'\xff', at + 1)
        place += max(len(data), 1)
    return end


def _header(file: Stream, place: int) -> tuple[int, tuple[int, int]] | None:
    file.seek(place)
    return _layer3(file.read(4))


@contextlib.contextmanager
def piped(path: str, spans: Sequence[Span]) -> Iterator[int]:
    """The reading end of a pipe through which parts of a file come; the reader closes it.

    libsndfile reads a pipe to its end, whatever the length that it guesses.
    """
    reader, writer = os.pipe()

    def feed() -> None:
        with (
            contextlib.suppress(OSError),  # the reader has seen enough
            os.fdopen(writer, 'wb') as pipe,
            open(path, 'rb') as file,
        ):
            for start, end in spans:
                file.seek(start)
                while start < end and (data := file.read(min(1 << 16, end - start))):
                    pipe.write(data)
                    start += len(data)

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    try:
        yield reader
    finally:
        with contextlib.suppress(OSError):
            os.close(reader)
        thread.join()
