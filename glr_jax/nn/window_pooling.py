"""Convolution features pooled to one row per window of the front end of statistics.

With `--model.front=both`, convolutions and statistics see the same windows. What the statistics
compute from mel bands, this computes from learned features: how they vary together, and how fast.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jaxtyping import Float

from glr_jax.nn.norms import Norm
from glr_jax.nn.readout import covariance_over_time, moments, pairs

CHANNELS = 16  # learned mixtures of features, for covariance and modulation


class WindowPooling(nnx.Module):
    """Pools features to statistics per window, and projects these.

        windows -> mean, deviation, covariance and modulation -> projection -> norm -> GELU

    Covariance and modulation are those of `CHANNELS` learned mixtures of the features.

    Args:
      features: number of convolution features per position.
      window: frames per window.
      hop: frames from one window to the next.
      pooled: frames per position, after all max-pools; at most `window`.
      projection: number of units.
      norm: normalises the summed inputs of the projection.
      rngs: source of the initial weights.
    """

    def __init__(
        self,
        features: int,
        *,
        window: int,
        hop: int,
        pooled: int,
        projection: int,
        norm: Norm,
        rngs: nnx.Rngs,
    ):
        self.window, self.hop, self.pooled = window, hop, pooled
        draw = nnx.initializers.lecun_normal()
        self.channel_kernel = nnx.Param(draw(rngs.params(), (features, CHANNELS)))
        values = size(features, window // pooled)
        self.kernel = nnx.Param(draw(rngs.params(), (values, projection)))
        self.norm = norm.layer(projection)

    def __call__(
        self, x: Float[Array, 'batch positions features'], windows: int
    ) -> Float[Array, 'batch windows projection']:
        """Positions to windows.

        Args:
          x: convolution features of a whole segment.
          windows: how many windows the segment has.
        """
        wide = x.astype(jnp.float32)
        both = jnp.concatenate([wide, wide @ self.channel_kernel[...]], -1)
        # Windows start at the position that holds their first frame; pooling allows no closer.
        starts = [k * self.hop // self.pooled for k in range(windows)]
        length = self.window // self.pooled
        parts = jnp.stack([both[:, start : start + length] for start in starts], 1)
        flat = parts.reshape(-1, *parts.shape[2:])
        plain, channels = flat[..., :-CHANNELS], flat[..., -CHANNELS:]
        found = [moments(plain), covariance_over_time(channels), modulation(channels)]
        values = jnp.concatenate(found, -1).reshape(*parts.shape[:2], -1)
        return jax.nn.gelu(self.norm(values @ self.kernel[...]))


def modulation(x: Float[Array, 'batch time channels']) -> Float[Array, 'batch rates_channels']:
    """The spectrum over time of each channel, as log(1 + magnitude), averaged in octaves.

    Octave k covers the rates 2^k to 2^(k+1) - 1, in cycles per window, up to half the positions.
    """
    time = x.shape[1]
    x = x - x.mean(1, keepdims=True)
    steps, rates = np.arange(time), np.arange(1, time // 2 + 1)
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * (steps + 0.5) / time)
    angle = 2 * np.pi / time * np.outer(rates, steps)
    real, imaginary = (
        jnp.einsum('rt,btc->brc', jnp.asarray(wave(angle) * taper, jnp.float32), x)
        for wave in (np.cos, np.sin)
    )
    # The small term keeps the gradient finite at zero.
    power = jnp.log1p(jnp.sqrt(jnp.square(real) + jnp.square(imaginary) + 1e-8))
    octaves = [power[:, low - 1 : high - 1].mean(1) for low, high in _octaves(time)]
    return jnp.concatenate([x[:, :0].reshape(x.shape[0], 0), *octaves], -1)


def size(features: int, length: int) -> int:
    """How many values a window of `length` positions has."""
    return 2 * features + pairs(CHANNELS) + len(_octaves(length)) * CHANNELS


def products(features: int, positions: int, windows: int, length: int, projection: int) -> int:
    """The multiplications of the learned weights, for one segment."""
    return positions * features * CHANNELS + windows * size(features, length) * projection


def _octaves(time: int) -> list[tuple[int, int]]:
    """The first rate of each octave, and the first one above it."""
    edges = [2**k for k in range((time // 2).bit_length())]
    return list(itertools.pairwise([*edges, time // 2 + 1])) if edges else []
