"""Statistics of log-mel windows: levels, covariances of cepstra, modulation, contrast.

What a network with a mean over time does not see: how bands vary together and how fast. All are
fixed, differentiable functions of the window; learned layers come after them.

    levels      per band: mean, deviation, mean |difference|, maximum and minimum over time
    cepstra     means and covariances of 24 cepstra (Mandel & Ellis, 2005)
    delta       covariances of the cepstra's differences in time
    modulation  spectrum over time of 32 bands, in 12 rates (McDermott & Simoncelli, 2011)
    texture     2-D spectrum over time and frequency of patches: 8 rates, 16 scales, 3 registers
    contrast    spectral contrast of 16 regions: mean and deviation (Jiang et al., 2002)
"""

import itertools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float

from glr_jax.nn.config import WINDOW

GROUPS = ('levels', 'cepstra', 'delta', 'modulation', 'texture', 'contrast')
_BANDS, _CEPSTRA = 32, 24
_RATES = (0, 1, 2, 3, 4, 6, 8, 10, 13, 16, 20, 24, 32)
_PATCH = 32  # frames and bands of a patch
_PATCH_RATES = (0, 1, 2, 3, 4, 6, 8, 12, 17)
_PATCH_SCALES = (0, 1, 2, 3, 4, 6, 8, 11, 16, 21, 24, 26, 28, 29, 30, 31, 32)


def statistics(
    decibels: Float[Array, 'batch frames mels'],
) -> dict[str, Float[Array, 'batch _']]:
    """The six groups of statistics of each window.

    Args:
      decibels: log-mel on any scale near decibels, at least `WINDOW` frames; any number of bands.

    Returns:
      {group: values}.
    """
    return {
        'levels': levels(decibels),
        **_of_cepstra(_bands(decibels, _BANDS)),
        'modulation': modulation(_bands(decibels, _BANDS)),
        'texture': texture(_bands(decibels, 2 * _PATCH)),
        'contrast': contrast(_bands(decibels, 128)),
    }


def levels(x: Float[Array, 'batch frames mels']) -> Float[Array, 'batch five_mels']:
    """Mean, deviation, mean |difference|, maximum and minimum of each band over time.

    The extremes serve as well as percentiles, for which sorting would take ten times as long as
    all other statistics.
    """
    change = jnp.abs(jnp.diff(x, axis=1)).mean(1)
    return jnp.concatenate([x.mean(1), _deviation(x), change, x.max(1), x.min(1)], 1)


def _of_cepstra(x: Float[Array, 'batch frames bands']) -> dict[str, Array]:
    cepstra = x @ _dct(_BANDS, _CEPSTRA)
    return {
        'cepstra': jnp.concatenate([cepstra.mean(1), covariance(cepstra)], 1),
        'delta': covariance(jnp.diff(cepstra, axis=1)),
    }


def covariance(x: Float[Array, 'batch frames features']) -> Float[Array, 'batch pairs']:
    """The upper triangle of the covariance over time, each with its signed square root."""
    x = x - x.mean(1, keepdims=True)
    full = jnp.einsum('bti,btj->bij', x, x) / (x.shape[1] - 1)
    upper = full[:, *np.triu_indices(x.shape[2])]
    # The small term keeps the gradient finite where a covariance is zero.
    return jnp.sign(upper) * (jnp.sqrt(jnp.abs(upper) + 1e-6) - 1e-3)


def modulation(x: Float[Array, 'batch frames bands']) -> Float[Array, 'batch rates_bands']:
    """The magnitude spectrum over time of each band, averaged over windows, as log(1 + a)."""
    parts = windows(x, WINDOW, WINDOW // 2)
    parts = parts - parts.mean(2, keepdims=True)
    spectrum = jnp.fft.rfft(parts * _hann(WINDOW)[:, None], axis=2)[:, :, 1:]
    power = jnp.log1p(_magnitude(spectrum.real, spectrum.imag)).mean(1)
    return jnp.einsum('brf,rk->bfk', power, _means(WINDOW // 2, _RATES)).reshape(x.shape[0], -1)


def texture(x: Float[Array, 'batch frames bands']) -> Float[Array, 'batch _']:
    """The 2-D magnitude spectrum of patches in three registers, averaged over time."""
    parts = windows(x, _PATCH, _PATCH // 2)
    registers = [parts[..., low : low + _PATCH] for low in (0, _PATCH // 2, _PATCH)]
    patches = jnp.stack(registers, 2)
    patches = patches - patches.mean((3, 4), keepdims=True)
    power = jnp.log1p(_spectrum(patches)).mean(1)
    rates, scales = _means(_PATCH // 2 + 1, _PATCH_RATES), _means(_PATCH, _PATCH_SCALES)
    return jnp.einsum('bqrf,ra,fs->bqas', power, rates, scales).reshape(x.shape[0], -1)


def contrast(x: Float[Array, 'batch frames bands']) -> Float[Array, 'batch two_regions']:
    """Loudest minus quietest of each region of eight bands: mean and deviation over time."""
    regions = x.reshape(*x.shape[:2], 16, 8)
    spread = regions.max(3) - regions.min(3)
    return jnp.concatenate([spread.mean(1), _deviation(spread)], 1)


def _deviation(x: Float[Array, 'batch frames features']) -> Float[Array, 'batch features']:
    """Standard deviation over time, with a finite gradient for a constant."""
    return jnp.sqrt(x.var(1, ddof=1) + 1e-6)


def _spectrum(patches: Float[Array, '*batch frames bands']) -> Float[Array, '*batch rates scales']:
    """Magnitude of the 2-D spectrum of tapered patches; rates from 0 up, all scales.

    As products with matrices, which take a third of the time of so many small FFTs.
    """
    size = patches.shape[-1]
    angle = 2 * np.pi / size * np.outer(np.arange(size), np.arange(size))
    taper = _hann(size)[:, None]
    cos, sin = (jnp.asarray(taper * wave(angle), jnp.float32) for wave in (np.cos, np.sin))
    rates = slice(size // 2 + 1)
    along = lambda waves: jnp.einsum('...tf,tr->...rf', patches, waves[:, rates])
    real, imaginary = along(cos), along(sin)
    return _magnitude(real @ cos - imaginary @ sin, real @ sin + imaginary @ cos)


def _magnitude(real: Float[Array, '*shape'], imaginary: Float[Array, '*shape']) -> Array:
    """|real + i imaginary|, with a finite gradient at zero."""
    return jnp.sqrt(jnp.square(real) + jnp.square(imaginary) + 1e-8)


def windows(x: Float[Array, 'batch frames *rest'], size: int, hop: int) -> Array:
    """[batch, windows, size, ...], as many as fit."""
    starts = range(0, x.shape[1] - size + 1, hop)
    return jnp.stack([x[:, start : start + size] for start in starts], 1)


def _bands(x: Float[Array, 'batch frames mels'], count: int) -> Float[Array, 'batch frames bands']:
    """Resamples the bands to so many, each the mean of the part of the axis that it covers."""
    if x.shape[2] == count:
        return x
    mels = x.shape[2]
    edges = np.linspace(0, mels, count + 1)
    overlap = np.minimum(edges[1:], np.arange(1, mels + 1)[:, None])
    overlap = overlap - np.maximum(edges[:-1], np.arange(mels)[:, None])
    return x @ jnp.asarray(np.maximum(overlap, 0) * count / mels, jnp.float32)


def _means(size: int, edges: Sequence[int]) -> Array:
    """A matrix that averages the values between each two edges."""
    means = np.zeros((size, len(edges) - 1), np.float32)
    for k, (low, high) in enumerate(itertools.pairwise(edges)):
        means[low:high, k] = 1 / (high - low)
    return jnp.asarray(means)


def _dct(size: int, count: int) -> Array:
    """The first columns of the orthonormal DCT-II."""
    n, k = np.arange(size)[:, None], np.arange(count)
    matrix = np.cos(np.pi / size * (n + 0.5) * k) * np.sqrt(2 / size)
    matrix[:, 0] /= np.sqrt(2)
    return jnp.asarray(matrix, jnp.float32)


def _hann(size: int) -> Float[np.ndarray, ' size']:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)
