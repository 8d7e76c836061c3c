"""Spectrograms as small PNG images inside the page, all with the same scales."""

import base64
import functools
import math
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import colormaps

from glr_jax.data.front_end import FrontEnd

COLORS = 64
BANDS = 64  # rows at most
COLUMNS = 560  # of a picture as long as the time scale


def decibel_range(
    mels: Sequence[Float[np.ndarray, '_ mels']], front_end: FrontEnd
) -> tuple[float, float]:
    """The values of the darkest and the lightest colour for some spectrograms in decibels."""
    if front_end.mel_dtype == 'uint8':
        return -front_end.top_db, 0.0
    values = np.concatenate([mel[np.isfinite(mel)] for mel in mels] or [np.zeros(1)])
    low, high = (float(values.min()), float(values.max())) if len(values) else (-80.0, 0.0)
    low, high = 10.0 * math.floor(low / 10), 10.0 * math.ceil(high / 10)
    return low, max(high, low + 10 + abs(low) / 1000)


def picture(
    mel: Float[np.ndarray, 'frames mels'], columns: int, limits: tuple[float, float]
) -> str:
    """A spectrogram as the address of an image, low frequencies at the bottom.

    Args:
      mel: in decibels.
      columns: of the image, at most.
      limits: as of `decibel_range`.
    """
    small = _pooled(_pooled(mel, columns).T, BANDS)
    low, high = limits
    with np.errstate(invalid='ignore', over='ignore'):
        share = np.nan_to_num((small - low) / (high - low), nan=0.0)
    levels = (np.clip(share, 0, 1) * (COLORS - 1)).round().astype(np.uint8)
    return 'data:image/png;base64,' + base64.b64encode(_png(levels[::-1])).decode()


def gradient() -> str:
    """The colours from the lowest to the highest value, as a CSS background."""
    stops = _palette()[:: (COLORS - 1) // 9]
    return f'linear-gradient(90deg,{",".join("#%02x%02x%02x" % tuple(rgb) for rgb in stops)})'  # noqa: UP031


def _pooled(values: Float[np.ndarray, 'length _'], at_most: int) -> Float[np.ndarray, 'shorter _']:
    """Means of neighbouring rows, so that at most so many are left."""
    if len(values) <= at_most:
        return values
    starts = np.linspace(0, len(values), at_most, endpoint=False).astype(int)
    sums = np.add.reduceat(values.astype(np.float64), starts, axis=0)
    return sums / np.diff([*starts, len(values)])[:, None]


@functools.cache
def _palette() -> UInt8[np.ndarray, 'colors 3']:
    return (colormaps['magma'](np.linspace(0, 1, COLORS))[:, :3] * 255).round().astype(np.uint8)


def _png(levels: UInt8[np.ndarray, 'height width']) -> bytes:
    """An image with one byte per pixel and a palette (Portable Network Graphics, W3C, 2003)."""
    height, width = levels.shape
    rows = b''.join(b'\0' + row.tobytes() for row in levels)
    header = struct.pack('>IIBBBBB', width, height, 8, 3, 0, 0, 0)
    chunks = {
        b'IHDR': header,
        b'PLTE': _palette().tobytes(),
        b'IDAT': zlib.compress(rows, 9),
        b'IEND': b'',
    }
    return b'\x89PNG\r\n\x1a\n' + b''.join(
        struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))
        for kind, data in chunks.items()
    )
