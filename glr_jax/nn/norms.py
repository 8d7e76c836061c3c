"""The normalisations being compared, each in the form that a block takes.

glr         statistics over the features at each position (default)
glr_layer   statistics over all units of the layer: positions and features
batch       batch normalisation; each device uses the statistics of its own share
batch_sync  batch normalisation; all devices share their statistics
group       group normalisation: groups of features, over all positions
none        no normalisation, only a bias
"""

import dataclasses
import functools
from collections.abc import Callable

import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jaxtyping import Float

from glr_jax.config import GROUPS, NormName
from glr_jax.nn.glr import glr

Summed = Float[Array, 'batch *positions features']
PerFeature = Float[Array, ' features']
# (summed inputs, gain, bias) -> inputs of the non-linearity
NormFunction = Callable[[Summed, PerFeature, PerFeature], Summed]


@dataclasses.dataclass(frozen=True)
class Norm:
    """A normalisation as blocks take it.

    Attributes:
      layer: makes the module that follows a convolution, from the number of features.
      step: normalises the summed inputs [batch, hidden] of one recurrent step. None: the norm
        cannot go inside a recurrence, so `layer` normalises the recurrence's inputs instead.
    """

    layer: Callable[[int], nnx.Module]
    step: NormFunction | None


def make_norm(name: NormName, *, axis_name: str | None = None) -> Norm:
    """The norm with this name; `batch_sync` shares statistics over the device axis `axis_name`."""
    match name:
        case 'glr':
            return Norm(functools.partial(Normalization, glr), glr)
        case 'glr_layer':
            return Norm(functools.partial(Normalization, glr_over_layer), glr)
        case 'batch':
            return Norm(batch_norm, None)
        case 'batch_sync':
            return Norm(functools.partial(batch_norm, axis_name=axis_name), None)
        case 'group':
            return Norm(functools.partial(Normalization, group_norm), group_norm)
        case 'none':
            return Norm(functools.partial(Normalization, add_bias), add_bias)


class Normalization(nnx.Module):
    """A pure norm with its parameters: one gain and one bias per feature."""

    def __init__(self, function: NormFunction, features: int):
        self.function = function
        self.gain = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))

    def __call__(self, a: Summed) -> Summed:
        """Normalises the summed inputs of a layer."""
        return self.function(a, self.gain[...], self.bias[...])


def batch_norm(features: int, axis_name: str | None = None) -> nnx.BatchNorm:
    """Batch normalisation over every axis but the last, with running statistics for evaluation.

    Args:
      features: size of the last axis.
      axis_name: device axis over which the statistics are shared; None: each device uses its own.
    """
    return nnx.BatchNorm(
        features, momentum=0.9, epsilon=1e-5, axis_name=axis_name, rngs=nnx.Rngs(0)
    )


def glr_over_layer(a: Summed, gain: PerFeature, bias: PerFeature) -> Summed:
    """GLR with one mean and deviation per case, over all positions and features of the layer."""
    return glr(a, gain, bias, axis=tuple(range(1, a.ndim)))


def group_norm(
    a: Summed,
    gain: PerFeature,
    bias: PerFeature,
    *,
    groups: int = GROUPS,
    epsilon: float = 1e-5,
) -> Summed:
    """Normalises each case over all positions and the features of each group (Wu & He, 2018)."""
    wide = a.astype(jnp.float32).reshape(*a.shape[:-1], groups, -1)
    axes = (*range(1, a.ndim - 1), a.ndim)
    centred = wide - jnp.mean(wide, axes, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axes, keepdims=True)
    normal = (centred * lax.rsqrt(variance + epsilon)).reshape(a.shape)
    return (normal * gain + bias).astype(a.dtype)


def add_bias(a: Summed, gain: PerFeature, bias: PerFeature) -> Summed:
    """Adds the bias without normalising; the gain is unused."""
    return a + bias.astype(a.dtype)
