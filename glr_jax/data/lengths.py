"""The real length of audio files whose header is silent or wrong about it.

libsndfile reads as many samples as the header of a file states. Programs that write to a pipe do
not know the number, an mp3 without a Xing header states none, and files that were appended to one
another state the length of the first.
"""

import contextlib
import io
import math
import os
import struct
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from glr_jax.data.front_end import FrontEnd

Stream = io.BufferedIOBase
Span = tuple[int, int]  # bytes of a file, from the first to before the last
MAX_CHUNKS = 10_000  # of a WAV file; real ones have a few
MAX_STREAMS = 256  # of an Ogg or FLAC file; each takes memory
PLACEHOLDER = 0x7FFFF000  # a WAV file that states more bytes was written to a pipe
TOLERANCE = 0.2  # seconds; encoders add some hundredths
_UNKNOWN = b'\xff\xff\xff\xff'


def differing(stated: float, frames: int, front_end: FrontEnd) -> tuple[float, float] | None:
    """The stated length of a file and the one that was read, in seconds; None if they agree.

    Args:
      stated: in seconds; NaN if the file states none.
      frames: of its spectrogram.
      front_end: that computed the spectrogram.
    """
    step = front_end.hop_length / front_end.sample_rate
    read = frames * step
    if math.isnan(stated) or abs(stated - read) <= TOLERANCE + step:
        return None
    return stated, read


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


def wav_sizes(file: Stream) -> tuple[int, int, int] | None:
    """Where a WAV file states the size of its samples, that size, and the bytes that follow."""
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(4) not in (b'RIFF', b'RF64'):
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
    """A WAV, RF64 or AU file that states 0 samples, or an unknown number, with its real size.

    None if the file really has no samples, or is of another kind.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(36)
    if head[:4] == b'.snd' and head[8:12] != _UNKNOWN:
        return Overlay(file, (0, end), 8, _UNKNOWN)
    sizes = wav_sizes(file)
    if sizes is None or not sizes[2] or _only_chunks(file, sizes[0] + 4, end):
        return None
    if head[:4] == b'RF64':  # the size is in its first chunk
        silent = head[12:16] == b'ds64' and not any(head[28:36])
        return Overlay(file, (0, end), 28, struct.pack('<Q', sizes[2])) if silent else None
    if sizes[1]:
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


def ogg_head_is_cut(file: Stream) -> bool:
    """Whether an Ogg file ends before its first page of audio; leaves the file at its start."""
    end = file.seek(0, os.SEEK_END)
    place = position = 0
    while place + 27 <= end and not position:
        file.seek(place)
        head = file.read(27 + 255)
        if head[:4] != b'OggS':
            break
        position = int.from_bytes(head[6:14], 'little')  # in samples; 0 in the pages of headers
        place += 27 + head[26] + sum(head[27 : 27 + head[26]])
    file.seek(0)
    return not position and place >= end


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
