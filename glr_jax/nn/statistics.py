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

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, Num

from glr_jax.nn import fixed_matrices as fixed
from glr_jax.nn import moments
from glr_jax.nn.config import WINDOW
from glr_jax.nn.spectra import modulation, texture

GROUPS = ('levels', 'cepstra', 'delta', 'modulation', 'texture', 'contrast')


def statistics(
    stored: Num[Array, 'batch frames mels'], scale: Float[Array, ''] | float = 1.0
) -> dict[str, Float[Array, 'batch _']]:
    """The six groups of statistics of each spectrogram as a whole.

    Args:
      stored: log-mel spectrograms, at least `WINDOW` frames; any number of bands.
      scale: brings them to a scale near decibels.

    Returns:
      {group: values}.
    """
    found = statistics_of_windows(stored, stored.shape[1], WINDOW, scale)
    return {name: x[:, 0] for name, x in found.items()}


def statistics_of_windows(
    stored: Num[Array, 'batch frames mels'],
    window: int,
    hop: int,
    scale: Float[Array, ''] | float = 1.0,
) -> dict[str, Float[Array, 'batch windows _']]:
    """The six groups of statistics of each window of each spectrogram.

    Args:
      stored: as in `statistics`.
      window: frames per window, at least `WINDOW`.
      hop: frames from one window to the next.
      scale: as in `statistics`.

    Returns:
      {group: values} of as many windows as fit.
    """
    if hop % (WINDOW // 2):  # the windows do not share their parts
        parts = moments.windows(stored, window, hop)
        found = statistics(parts.reshape(-1, *parts.shape[2:]), scale)
        return {name: x.reshape(-1, parts.shape[1], x.shape[1]) for name, x in found.items()}
    decibels = stored.astype(jnp.float32) * scale
    cut = moments.shared_blocks(window, hop)
    # The barriers keep XLA from computing these anew for each use.
    bands = lax.optimization_barrier(_bands(decibels, fixed.BANDS))
    cepstra = lax.optimization_barrier(bands @ fixed.dct(fixed.BANDS, fixed.CEPSTRA))
    # The spectra do not depend on the level, but at 0, silence has no rounding errors.
    floor = lax.optimization_barrier(bands.min((1, 2), keepdims=True))
    mean, of_cepstra = moments.mean_and_covariance(cepstra, cut)
    levels = (
        *moments.mean_and_deviation(decibels, cut),
        scale * moments.mean_change(stored, cut),
        *(scale * extreme for extreme in moments.extremes(stored, cut)),
    )
    contrast = moments.mean_and_deviation(_spread(_bands(decibels, 128)), cut)
    return {
        'levels': jnp.concatenate(levels, 2),
        'cepstra': jnp.concatenate([mean, moments.upper_roots(of_cepstra)], 2),
        'delta': moments.upper_roots(moments.covariance_of_changes(cepstra, cut)),
        'modulation': modulation(bands - floor, window, hop),
        'texture': texture(_bands(decibels, 2 * fixed.PATCH) - floor, window, hop),
        'contrast': jnp.concatenate(contrast, 2),
    }


def _spread(x: Float[Array, 'batch frames bands']) -> Float[Array, 'batch frames regions']:
    """Loudest minus quietest of each region of eight bands."""
    # Value by value: a reduction over so few neighbours takes several times as long on a CPU.
    regions = x.reshape(*x.shape[:2], -1, 8)
    values = [regions[..., k] for k in range(8)]
    return functools.reduce(jnp.maximum, values) - functools.reduce(jnp.minimum, values)


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
