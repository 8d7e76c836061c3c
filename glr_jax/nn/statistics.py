"""Statistics of log-mel windows: levels, covariances of cepstra, modulation, contrast.

What a network with a mean over time does not see: how bands vary together and how fast. All are
fixed, differentiable functions of the window; learned layers come after them.

    levels      per band: mean, deviation, mean |difference|, maximum and minimum over time
    cepstra     means and covariances of 24 cepstra (Mandel & Ellis, 2005)
    delta       covariances of the cepstra's differences in time
    modulation  spectrum over time of 32 bands, in 12 rates (McDermott & Simoncelli, 2011)
    texture     2-D spectrum over time and frequency of patches: 8 rates, 16 scales, 3 registers
    contrast    spectral contrast of 16 regions: mean and deviation (Jiang et al., 2002)

The windows of a segment share what belongs to single frames or to parts of windows. So do windows
and the whole segment, if one program computes both: XLA computes equal operations once.
"""

import functools
import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from glr_jax.nn import fixed_matrices as fixed
from glr_jax.nn.config import WINDOW
from glr_jax.nn.spectra import modulation, texture

GROUPS = ('levels', 'cepstra', 'delta', 'modulation', 'texture', 'contrast')


def statistics(
    decibels: Float[Array, 'batch frames mels'],
) -> dict[str, Float[Array, 'batch _']]:
    """The six groups of statistics of each spectrogram as a whole.

    Args:
      decibels: log-mel on any scale near decibels, at least `WINDOW` frames; any number of bands.

    Returns:
      {group: values}.
    """
    found = statistics_of_windows(decibels, decibels.shape[1], WINDOW)
    return {name: x[:, 0] for name, x in found.items()}


def statistics_of_windows(
    decibels: Float[Array, 'batch frames mels'], window: int, hop: int
) -> dict[str, Float[Array, 'batch windows _']]:
    """The six groups of statistics of each window of each spectrogram.

    Args:
      decibels: as in `statistics`.
      window: frames per window, at least `WINDOW`.
      hop: frames from one window to the next.

    Returns:
      {group: values} of as many windows as fit.
    """
    if hop % (WINDOW // 2):  # the windows do not share their parts
        cut = windows(decibels, window, hop)
        found = statistics(cut.reshape(-1, *cut.shape[2:]))
        return {name: x.reshape(-1, cut.shape[1], x.shape[1]) for name, x in found.items()}
    # The barriers keep XLA from computing these anew for each use.
    bands = lax.optimization_barrier(_bands(decibels, fixed.BANDS))
    cepstra = bands @ fixed.dct(fixed.BANDS, fixed.CEPSTRA)
    spread = _spread(_bands(decibels, 128))
    # The spectra do not depend on the level, but at 0, silence has no rounding errors.
    floor = lax.optimization_barrier(decibels.min((1, 2), keepdims=True))
    each = lambda function, x: _of_each(function, windows(x, window, hop))
    return {
        'levels': levels(decibels, window, hop),
        'cepstra': each(lambda x: jnp.concatenate([x.mean(1), covariance(x)], 1), cepstra),
        'delta': each(lambda x: covariance(jnp.diff(x, axis=1)), cepstra),
        'modulation': modulation(bands - floor, window, hop),
        'texture': texture(_bands(decibels, 2 * fixed.PATCH) - floor, window, hop),
        'contrast': each(lambda x: jnp.concatenate([x.mean(1), _deviation(x)], 1), spread),
    }


def levels(
    x: Float[Array, 'batch frames mels'], window: int, hop: int
) -> Float[Array, 'batch windows five_mels']:
    """Mean, deviation, mean |difference|, maximum and minimum of each band over time.

    Windows are put together from blocks of frames, the longest that no window cuts. The extremes
    serve as well as percentiles, for which sorting would take ten times as long as all other
    statistics.
    """
    size = math.gcd(window, hop)
    blocks = windows(x, size, size)
    inside = lambda x, fewer=0: windows(x, window // size - fewer, hop // size)
    block_means = blocks.mean(2)
    means = inside(block_means)
    mean = means.mean(2)
    squares = inside(jnp.square(blocks - block_means[:, :, None]).sum(2)).sum(2)
    squares += size * jnp.square(means - mean[:, :, None]).sum(2)
    change = inside(jnp.abs(jnp.diff(blocks, axis=2)).sum(2)).sum(2)
    change += inside(jnp.abs(blocks[:, 1:, 0] - blocks[:, :-1, -1]), 1).sum(2)
    deviation = jnp.sqrt(squares / (window - 1) + 1e-6)
    extremes = inside(blocks.max(2)).max(2), inside(blocks.min(2)).min(2)
    return jnp.concatenate([mean, deviation, change / (window - 1), *extremes], 2)


def covariance(x: Float[Array, 'batch frames features']) -> Float[Array, 'batch pairs']:
    """The upper triangle of the covariance over time, each with its signed square root."""
    x = x - x.mean(1, keepdims=True)
    full = jnp.einsum('bti,btj->bij', x, x) / (x.shape[1] - 1)
    upper = full[:, *np.triu_indices(x.shape[2])]
    # The small term keeps the gradient finite where a covariance is zero.
    return jnp.sign(upper) * (jnp.sqrt(jnp.abs(upper) + 1e-6) - 1e-3)


def _spread(x: Float[Array, 'batch frames bands']) -> Float[Array, 'batch frames regions']:
    """Loudest minus quietest of each region of eight bands."""
    # Value by value: a reduction over so few neighbours takes several times as long on a CPU.
    regions = x.reshape(*x.shape[:2], -1, 8)
    values = [regions[..., k] for k in range(8)]
    return functools.reduce(jnp.maximum, values) - functools.reduce(jnp.minimum, values)


def _deviation(x: Float[Array, 'batch frames features']) -> Float[Array, 'batch features']:
    """Standard deviation over time, with a finite gradient for a constant."""
    return jnp.sqrt(x.var(1, ddof=1) + 1e-6)


def _of_each(
    function: Callable[[Array], Array], parts: Float[Array, 'batch windows frames features']
) -> Float[Array, 'batch windows _']:
    """A function of [batch, frames, features], applied to each window."""
    found = function(parts.reshape(-1, *parts.shape[2:]))
    return found.reshape(-1, parts.shape[1], found.shape[1])


def windows(x: Float[Array, 'batch frames *rest'], size: int, hop: int) -> Array:
    """[batch, windows, size, ...], as many as fit."""
    starts = range(0, x.shape[1] - size + 1, hop)
    if hop == size:  # without a copy
        return x[:, : len(starts) * size].reshape(-1, len(starts), size, *x.shape[2:])
    return jnp.stack([x[:, start : start + size] for start in starts], 1)


def _bands(x: Float[Array, 'batch frames mels'], count: int) -> Float[Array, 'batch frames bands']:
    """Resamples the bands to so many, each the mean of the part of the axis that it covers."""
    mels = x.shape[2]
    if mels == count:
        return x
    if mels % count:
        return x @ fixed.band_means(mels, count)
    # Value by value, as in `_spread`.
    groups = x.reshape(*x.shape[:2], count, -1)
    total = functools.reduce(jnp.add, [groups[..., k] for k in range(mels // count)])
    return total * (count / mels)
