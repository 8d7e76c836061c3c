"""The frames of an mp3 file: a header that states their number is often missing or wrong."""

import functools
import os
from typing import NamedTuple

from glr_jax.data.lengths import Span, Stream

_BITRATES = {  # kbit/s of layer III: MPEG 1, and MPEG 2 and 2.5
    True: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


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


def mp3_frames(file: Stream) -> Mp3 | None:
    """Counts the frames of an mp3 file; None if the file does not look like one."""
    end = file.seek(0, os.SEEK_END)
    spans: list[Span] = []
    frames, stated, kind, place = 0, None, None, 0
    while place + 4 <= end:
        file.seek(place)
        head = file.read(64)
        frame = _layer3(head[:4])
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


@functools.lru_cache(maxsize=256)  # all frames of most files have one of two headers
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
