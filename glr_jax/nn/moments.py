"""Means, deviations, covariances, changes and extremes of windows over time.

Windows are put together from blocks of frames, so that each frame is read once however many windows
share it. So do the windows of a segment and the whole of it, if one program computes both: XLA
computes equal operations once.
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Num

from glr_jax.nn.config import WINDOW

Values = Float[Array, 'batch windows features']
Matrices = Float[Array, 'batch windows features features']


class Cut(NamedTuple):
    """How spectrograms are cut into blocks, and windows are made of them.

    Attributes:
      size: frames per block.
      step: frames from one block to the next.
      per_window: blocks per window.
      hop: blocks from one window to the next.
    """

    size: int
    step: int
    per_window: int
    hop: int

    def blocks(self, x: Num[Array, 'batch frames *features']) -> Array:
        """The frames of each block: [batch, blocks, size, ...]."""
        return windows(x, self.size, self.step)

    def inside(self, x: Float[Array, 'batch blocks *features']) -> Array:
        """The values of the blocks in each window: [batch, windows, per_window, ...]."""
        return windows(x, self.per_window, self.hop)

    def between(self, x: Float[Array, 'batch gaps *features']) -> Array:
        """What lies between the blocks of each window: [batch, windows, per_window - 1, ...]."""
        return windows(x, self.per_window - 1, self.hop)

    @property
    def window(self) -> int:
        """Frames per window."""
        return self.size * self.per_window


def shared_blocks(window: int, hop: int) -> Cut:
    """The longest blocks that no window cuts.

    Args:
      window: frames per window.
      hop: frames from one window to the next.
    """
    size = math.gcd(window, hop)
    if size < WINDOW // 2:  # so many blocks would take longer than what they save
        return Cut(window, hop, 1, 1)
    return Cut(size, size, window // size, hop // size)


def windows(x: Num[Array, 'batch frames *rest'], size: int, hop: int) -> Array:
    """[batch, windows, size, ...], as many as fit."""
    starts = range(0, x.shape[1] - size + 1, hop)
    if hop == size:  # without a copy
        return x[:, : len(starts) * size].reshape(-1, len(starts), size, *x.shape[2:])
    return jnp.stack([x[:, start : start + size] for start in starts], 1)


# The barriers below keep XLA from computing what belongs to a window from all of its frames.


def mean_and_deviation(x: Float[Array, 'batch frames features'], cut: Cut) -> tuple[Values, Values]:
    """Mean and standard deviation, with a finite gradient for a constant."""
    blocks = cut.blocks(x)
    means = blocks.mean(2)
    squares = jnp.square(blocks - means[:, :, None]).sum(2)
    means, squares = lax.optimization_barrier((means, squares))
    mean, apart = _apart(means, cut)
    total = cut.inside(squares).sum(2) + cut.size * jnp.square(apart).sum(2)
    return mean, jnp.sqrt(total / (cut.window - 1) + 1e-6)


def mean_and_covariance(
    x: Float[Array, 'batch frames features'], cut: Cut
) -> tuple[Values, Matrices]:
    """Mean and covariance matrix."""
    blocks = cut.blocks(x)
    means = blocks.mean(2)
    products = _products(blocks - means[:, :, None])
    means, products = lax.optimization_barrier((means, products))
    mean, apart = _apart(means, cut)
    total = cut.inside(products).sum(2) + cut.size * _products(apart)
    return mean, total / (cut.window - 1)


def covariance_of_changes(x: Float[Array, 'batch frames features'], cut: Cut) -> Matrices:
    """Covariance matrix of the differences from frame to frame."""
    blocks = cut.blocks(x)
    first, last = blocks[:, :, 0], blocks[:, :, -1]
    arrays = first, last, _products(jnp.diff(blocks, axis=2))
    first, last, products = lax.optimization_barrier(arrays)
    # The mean difference is so small that taking it away at the end loses no precision.
    mean = (cut.inside(last)[:, :, -1] - cut.inside(first)[:, :, 0]) / (cut.window - 1)
    total = cut.inside(products).sum(2)
    if cut.per_window > 1:
        total += _products(cut.between(first[:, 1:] - last[:, :-1]))
    total -= (cut.window - 1) * mean[..., None] * mean[..., None, :]
    return total / (cut.window - 2)


def mean_change(x: Num[Array, 'batch frames features'], cut: Cut) -> Values:
    """Mean absolute difference from frame to frame; bytes stay bytes, which take less time."""
    x = x if x.dtype == jnp.uint8 else x.astype(jnp.float32)
    after = jnp.concatenate([x[:, 1:], x[:, -1:]], 1)  # a difference of slices takes twice as long
    changes = cut.blocks(jnp.maximum(after, x) - jnp.minimum(after, x))
    arrays = changes.sum(2, dtype=jnp.float32), changes[:, :, -1].astype(jnp.float32)
    total, to_next = lax.optimization_barrier(arrays)
    return (cut.inside(total).sum(2) - cut.inside(to_next)[:, :, -1]) / (cut.window - 1)


def extremes(x: Num[Array, 'batch frames features'], cut: Cut) -> tuple[Values, Values]:
    """Maximum and minimum; bytes stay bytes.

    As statistics they serve as well as percentiles, for which sorting would take ten times as long
    as all other statistics.
    """
    blocks = cut.blocks(x)
    of_blocks = [blocks.max(2).astype(jnp.float32), blocks.min(2).astype(jnp.float32)]
    high, low = lax.optimization_barrier(of_blocks)
    return cut.inside(high).max(2), cut.inside(low).min(2)


def covariance(x: Float[Array, 'batch frames features']) -> Float[Array, 'batch pairs']:
    """The upper triangle of the covariance over time, each with its signed square root."""
    centred = x - x.mean(1, keepdims=True)
    return upper_roots(jnp.einsum('bti,btj->bij', centred, centred) / (x.shape[1] - 1))


def upper_roots(matrix: Float[Array, '*batch size size']) -> Float[Array, '*batch pairs']:
    """The upper triangle of each matrix, each value with its signed square root."""
    upper = matrix[(..., *np.triu_indices(matrix.shape[-1]))]
    # The small term keeps the gradient finite where a covariance is zero.
    return jnp.sign(upper) * (jnp.sqrt(jnp.abs(upper) + 1e-6) - 1e-3)


def _apart(
    means: Float[Array, 'batch blocks features'], cut: Cut
) -> tuple[Values, Float[Array, 'batch windows per_window features']]:
    """The mean of each window, and how far those of its blocks are from it."""
    inside = cut.inside(means)
    mean = inside.mean(2)
    return mean, inside - mean[:, :, None]


def _products(x: Float[Array, 'batch parts frames features']) -> Array:
    """The products of each two features, summed over time."""
    return jnp.einsum('bpti,bptj->bpij', x, x)
