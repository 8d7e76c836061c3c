"""The fixed matrices of the statistics of windows, in NumPy: waves, cosines, means."""

import itertools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

BANDS, CEPSTRA = 32, 24  # of the cepstra and of the modulation spectrum
RATES = (0, 1, 2, 3, 4, 6, 8, 10, 13, 16, 20, 24, 32)
PATCH = 32  # frames and bands of a patch
REGISTERS = 3  # each half a patch above the one below
PATCH_RATES = (0, 1, 2, 3, 4, 6, 8, 12, 17)
PATCH_SCALES = (0, 1, 2, 3, 4, 6, 8, 11, 16, 21, 24, 26, 28, 29, 30, 31, 32)


def waves(size: int) -> Float[np.ndarray, '2 size waves']:
    """Cosines and sines of 0 to size / 2 periods, tapered by a Hann window."""
    angle = 2 * np.pi / size * np.outer(np.arange(size), np.arange(size // 2 + 1))
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    return hann[:, None] * np.stack([np.cos(angle), np.sin(angle)])


def patch_waves() -> Float[np.ndarray, 'bands columns']:
    """Cosines, then sines, over the bands of each register."""
    cos_sin = waves(PATCH).transpose(1, 0, 2)
    matrix = np.zeros((PATCH * (REGISTERS + 1) // 2, 2, REGISTERS, PATCH // 2 + 1), np.float32)
    for k in range(REGISTERS):
        start = k * PATCH // 2
        matrix[start : start + PATCH, :, k] = cos_sin
    return matrix.reshape(len(matrix), -1)


def scale_means() -> Float[np.ndarray, '2 waves groups']:
    """The means over PATCH_SCALES of each register: of scales from 0 up, and of 0 down."""
    scales = means(PATCH_SCALES)
    rising, falling = scales[: PATCH // 2 + 1], np.zeros((PATCH // 2 + 1, scales.shape[1]))
    falling[1:-1] = scales[: PATCH // 2 : -1]  # 0 and the highest have no direction
    each = [np.kron(np.eye(REGISTERS), one) for one in (rising, falling)]
    return np.stack(each).astype(np.float32)


def means(edges: Sequence[int]) -> Float[np.ndarray, 'values groups']:
    """A matrix that averages the values between each two edges."""
    matrix = np.zeros((edges[-1], len(edges) - 1), np.float32)
    for k, (low, high) in enumerate(itertools.pairwise(edges)):
        matrix[low:high, k] = 1 / (high - low)
    return matrix


def part_means(frames: int, size: int, window: int, hop: int) -> Float[np.ndarray, 'parts windows']:
    """A matrix that averages the parts in each window; each part starts half a part later."""
    step = size // 2
    starts = range(0, frames - window + 1, hop)
    matrix = np.zeros((frames // step - 1, len(starts)), np.float32)
    for k, start in enumerate(starts):
        inside = slice(start // step, (start + window) // step - 1)
        matrix[inside, k] = 1 / (inside.stop - inside.start)
    return matrix


def dct(size: int, count: int) -> Float[np.ndarray, 'size count']:
    """The first columns of the orthonormal DCT-II."""
    n, k = np.arange(size)[:, None], np.arange(count)
    matrix = np.cos(np.pi / size * (n + 0.5) * k) * np.sqrt(2 / size)
    matrix[:, 0] /= np.sqrt(2)
    return matrix.astype(np.float32)


def band_means(mels: int, count: int) -> Float[np.ndarray, 'mels bands']:
    """A matrix that resamples bands to so many, each the mean of the part that it covers."""
    edges = np.linspace(0, mels, count + 1)
    overlap = np.minimum(edges[1:], np.arange(1, mels + 1)[:, None])
    overlap = overlap - np.maximum(edges[:-1], np.arange(mels)[:, None])
    return (np.maximum(overlap, 0) * count / mels).astype(np.float32)
