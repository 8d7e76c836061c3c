"""The mel front end in JAX: samples to spectrograms as they are stored.

Only matrix products and elementwise functions, so that every format can hold it. The Fourier
transform is two small matrix products per frame (Cooley & Tukey, 1965).
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from glr_jax.data.front_end import FrontEnd
from glr_jax.data.mel import FLOOR, hann
from glr_jax.data.mel_filters import mel_filters


def count_frames(samples: int, front_end: FrontEnd) -> int:
    """How many frames the spectrogram of a clip has."""
    padded = samples + 2 * (front_end.n_fft // 2)
    return 1 + (padded - front_end.n_fft) // front_end.hop_length


def stored_mel(
    samples: Float[Array, 'batch samples'], front_end: FrontEnd
) -> Float[Array, 'batch frames mels']:
    """Spectrograms as `data.mel` stores them: 0..255 for uint8, else decibels.

    Values equal those of `data.mel` up to rounding, so a byte may differ by 1. A silent clip, which
    `data.mel` refuses, gives a constant.

    Args:
      samples: mono clips at `front_end.sample_rate`, at least one window long.
      front_end: how samples become a spectrogram.
    """
    window = hann(front_end.n_fft).astype(np.float32)
    real, imaginary = real_dft(_frames(samples, front_end) * window)
    power = _times(jnp.square(real) + jnp.square(imaginary), mel_filters(front_end).T)
    peak = jnp.max(power, (1, 2), keepdims=True)
    ref = jnp.float32(front_end.ref) if front_end.ref else jnp.maximum(peak, FLOOR)
    decibels = 10 * (jnp.log10(jnp.maximum(power, FLOOR)) - jnp.log10(ref))
    decibels = jnp.maximum(decibels, -front_end.top_db)
    if front_end.mel_dtype == 'float32':
        return decibels
    scaled = (decibels + front_end.top_db) * (255 / front_end.top_db)
    return jnp.clip(jnp.round(scaled), 0, 255)


def _frames(
    samples: Float[Array, 'batch samples'], front_end: FrontEnd
) -> Float[Array, 'batch frames n_fft']:
    """Overlapping frames, with half a window of zeros at both ends of the clip."""
    n_fft, hop = front_end.n_fft, front_end.hop_length
    frames = count_frames(samples.shape[1], front_end)
    per_frame = -(-n_fft // hop)
    length = (frames - 1 + per_frame) * hop
    after = max(0, length - n_fft // 2 - samples.shape[1])
    padded = jnp.pad(samples, ((0, 0), (n_fft // 2, after)))[:, :length]
    blocks = padded.reshape(samples.shape[0], -1, hop)
    shifted = [blocks[:, first : first + frames] for first in range(per_frame)]
    return jnp.concatenate(shifted, -1)[..., :n_fft]


def real_dft(
    x: Float[Array, '*batch size'],
) -> tuple[Float[Array, '*batch bins'], Float[Array, '*batch bins']]:
    """The discrete Fourier transform of real values: its first `size // 2 + 1` bins.

    With size = a * b, n = b * n1 + n2 and k = k1 + a * k2: sums over n1, then over n2.

    Returns:
      Real and imaginary part.
    """
    size = x.shape[-1]
    a = max(n for n in range(1, math.isqrt(size) + 1) if size % n == 0)
    b, bins = size // a, size // 2 + 1
    columns = -(-bins // a)  # values of k2 that are needed
    cos_a, sin_a = _waves(np.outer(np.arange(a), np.arange(a)) / a)
    twiddle_cos, twiddle_sin = _waves(np.outer(np.arange(a), np.arange(b)) / size)
    cos_b, sin_b = _waves(np.outer(np.arange(b), np.arange(columns)) / b)
    folded = jnp.swapaxes(x.reshape(*x.shape[:-1], a, b), -1, -2)  # [..., n2, n1]
    real, imaginary = (jnp.swapaxes(_times(folded, w), -1, -2) for w in (cos_a, -sin_a))
    real, imaginary = (
        real * twiddle_cos + imaginary * twiddle_sin,
        imaginary * twiddle_cos - real * twiddle_sin,
    )
    real, imaginary = (
        _times(real, cos_b) + _times(imaginary, sin_b),
        _times(imaginary, cos_b) - _times(real, sin_b),
    )
    flat = lambda y: jnp.swapaxes(y, -1, -2).reshape(*x.shape[:-1], -1)[..., :bins]
    return flat(real), flat(imaginary)


def _waves(turns: Float[np.ndarray, 'rows columns']) -> tuple[np.ndarray, np.ndarray]:
    angle = 2 * np.pi * turns
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)


def _times(x: Array, matrix: np.ndarray) -> Array:
    """A matrix product in full float32, also where a GPU or TPU would round its inputs."""
    return jnp.matmul(x, jax.numpy.asarray(matrix), precision=lax.Precision.HIGHEST)
