"""Magnitude spectra of log-mel windows: over time (`modulation`), over time and bands (`texture`).

Both are products with fixed matrices, which take less time than so many small FFTs. They are
computed once per part of a segment and averaged over the parts of each window.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float

from glr_jax.nn import fixed_matrices as fixed
from glr_jax.nn.config import WINDOW


def modulation(
    x: Float[Array, 'batch frames bands'], window: int, hop: int
) -> Float[Array, 'batch windows bands_rates']:
    """The spectrum over time of each band, averaged over parts, as log(1 + a).

    Args:
      x: a level near 0 loses least to rounding.
      window: frames per window.
      hop: frames from one window to the next, a multiple of half a part.
    """
    cos, sin, sums = _folded_waves(WINDOW)
    even, odd = _folded(x, WINDOW)
    even = jnp.concatenate([even, _means(x, WINDOW)[None]])
    # Without the rate 0.
    real = _along_time(np.concatenate([cos, -sums[None]])[:, 1:], even)
    power = _log_magnitude(real, _along_time(sin[:, 1:], odd))
    power = _along_time(fixed.means(fixed.RATES), power)
    power = _averages(power, x.shape[1], WINDOW, window, hop)
    return jnp.transpose(power, (2, 1, 3, 0)).reshape(x.shape[0], power.shape[1], -1)


def texture(
    x: Float[Array, 'batch frames bands'], window: int, hop: int
) -> Float[Array, 'batch windows registers_rates_scales']:
    """The 2-D spectrum of patches in three registers, averaged over patches, as log(1 + a).

    The arguments are as for `modulation`. First over the bands of each frame, then over time. Real
    waves over both give the scales in both directions, rising and falling with time.
    """
    frames = x.shape[1]
    cos, sin, sums = _folded_waves(fixed.PATCH)
    over_bands = x @ fixed.patch_waves()
    half = over_bands.shape[2] // 2
    (even_cos, odd_cos), (even_sin, odd_sin) = (
        _folded(lax.slice_in_dim(over_bands, k * half, (k + 1) * half, axis=2), fixed.PATCH)
        for k in (0, 1)
    )
    mean = _register_means(_means(x, fixed.PATCH))[..., None] * jnp.asarray(sums, jnp.float32)
    even_cos = jnp.concatenate([even_cos, mean.reshape(1, *even_cos.shape[1:])])
    cos_cos = _along_time(np.concatenate([cos, -sums[None]]), even_cos)
    cos_sin = _along_time(cos, even_sin)
    sin_cos, sin_sin = _along_time(sin, odd_cos), _along_time(sin, odd_sin)
    rising = _log_magnitude(cos_cos - sin_sin, sin_cos + cos_sin)
    falling = _log_magnitude(cos_cos + sin_sin, sin_cos - cos_sin)
    rates = fixed.means(fixed.PATCH_RATES)
    # The windows before the scales: there are fewer windows than parts.
    of_windows = lambda x: _averages(_along_time(rates, x), frames, fixed.PATCH, window, hop)
    up, down = fixed.scale_means()
    power = of_windows(rising) @ up + of_windows(falling) @ down
    power = power.reshape(*power.shape[:3], fixed.REGISTERS, -1)
    return jnp.transpose(power, (2, 1, 3, 0, 4)).reshape(x.shape[0], power.shape[1], -1)


def products(frames: int) -> int:
    """The multiplications of both, for a segment of so many frames."""
    total = frames * fixed.patch_waves().size
    patch_waves = fixed.patch_waves().shape[1]
    for size, features, lowest in ((WINDOW, fixed.BANDS, 1), (fixed.PATCH, patch_waves, 0)):
        half = size // 2
        total += (frames // half - 1) * 2 * half * (half + 1 - lowest) * features
    return total


def _folded(
    x: Float[Array, 'batch frames features'], size: int
) -> tuple[Float[Array, 'half parts batch features'], Float[Array, 'half parts batch features']]:
    """Sums and differences of the frames on either side of the middle of each part.

    Parts have `size` frames; each starts half a part after the one before. Cosines over a part
    multiply nothing but the sums, sines the differences. The middle frame comes last. The first
    frame is left out, since the taper is 0 there. Frames are the first axis, so that a transform
    over time is one product of two matrices.
    """
    half = size // 2
    count = x.shape[1] // half
    halves = x[:, : count * half].reshape(-1, count, half, x.shape[2])
    halves = jnp.transpose(halves, (2, 1, 0, 3))
    # Not by indexing, which becomes a gather where the batch has no fixed size, as in exports.
    first, second = (lax.slice_in_dim(halves, k, k + count - 1, axis=1) for k in (0, 1))
    before, after = (lax.slice_in_dim(part, 1, half) for part in (first, second))
    after, middle = jnp.flip(after, 0), lax.slice_in_dim(second, 0, 1)
    return jnp.concatenate([before + after, middle]), jnp.concatenate([before - after, middle])


def _folded_waves(
    size: int,
) -> tuple[
    Float[np.ndarray, 'half waves'], Float[np.ndarray, 'half waves'], Float[np.ndarray, ' waves']
]:
    """The cosines and sines for `_folded`, and the sum of each cosine over its part.

    The mean of a part adds to each product with a cosine the mean times the cosine's sum. As one
    more frame, multiplied by minus that sum, it is taken away again.
    """
    cos, sin = fixed.waves(size)
    half = slice(1, size // 2 + 1)
    return cos[half], sin[half], cos.sum(0)


def _means(x: Float[Array, 'batch frames bands'], size: int) -> Float[Array, 'parts batch bands']:
    """The mean over time of each part, from those of its halves."""
    half = size // 2
    count = x.shape[1] // half
    halves = x[:, : count * half].reshape(-1, count, half, x.shape[2]).mean(2)
    return jnp.swapaxes(halves[:, :-1] + halves[:, 1:], 0, 1) / 2


def _register_means(
    x: Float[Array, 'parts batch bands'],
) -> Float[Array, 'parts batch registers']:
    """The mean of each patch, from the means of its bands."""
    halves = x.reshape(*x.shape[:2], fixed.REGISTERS + 1, -1).mean(3)
    first, second = (lax.slice_in_dim(halves, k, k + fixed.REGISTERS, axis=2) for k in (0, 1))
    return (first + second) / 2


def _along_time(
    matrix: Float[np.ndarray, 'frames rates'], x: Float[Array, 'frames parts batch features']
) -> Float[Array, 'rates parts batch features']:
    """The product with a matrix over the first axis."""
    return jnp.einsum('tr,tpbf->rpbf', jnp.asarray(matrix, jnp.float32), x)


def _averages(
    x: Float[Array, 'rates parts batch features'], frames: int, size: int, window: int, hop: int
) -> Float[Array, 'rates windows batch features']:
    """The means over the parts that lie in each window."""
    means = fixed.part_means(frames, size, window, hop).T
    # One product per rate, because a single product would need the parts as its last axis.
    found = jnp.broadcast_to(means, (len(x), *means.shape)) @ x.reshape(*x.shape[:2], -1)
    return found.reshape(*found.shape[:2], *x.shape[2:])


def _log_magnitude(real: Float[Array, '*shape'], imaginary: Float[Array, '*shape']) -> Array:
    """log(1 + |real + i imaginary|), with a finite gradient at zero."""
    return jnp.log(1 + jnp.sqrt(jnp.square(real) + jnp.square(imaginary) + 1e-8))
