"""The normalisations that are compared, each in the form that a block is given.

glr         statistics over the features at each position (default)
glr_layer   statistics over all units of the layer: positions and features
batch       batch normalisation, the statistics those of each device's own share
batch_sync  batch normalisation, the statistics shared by all devices
group       group normalisation, groups of features over all positions
none        a bias alone
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

# (summed inputs, gain, bias) -> what the non-linearity is given
NormFunction = Callable[[Array, Array, Array], Array]


@dataclasses.dataclass(frozen=True)
class Norm:
    """A normalisation as blocks take it.

    Attributes:
      layer: makes the module that follows a convolution, given the number of features.
      step: normalises the summed inputs [batch, hidden] of one recurrent step; None where the
        norm cannot go inside a recurrence, and `layer` is put on its inputs instead.
    """

    layer: Callable[[int], nnx.Module]
    step: NormFunction | None


def make_norm(name: NormName, *, axis_name: str | None = None) -> Norm:
    """The norm of a name; `axis_name` is the device axis that `batch_sync` shares over."""
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
    """A pure norm with its gain and bias, one of each a feature."""

    def __init__(self, function: NormFunction, features: int):
        self.function = function
        self.gain = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))

    def __call__(self, a: Array) -> Array:
        """Summed inputs to what the non-linearity is given."""
        return self.function(a, self.gain[...], self.bias[...])


def batch_norm(features: int, axis_name: str | None = None) -> nnx.BatchNorm:
    """Batch normalisation over every axis but the last, with running statistics for evaluation."""
    return nnx.BatchNorm(
        features, momentum=0.9, epsilon=1e-5, axis_name=axis_name, rngs=nnx.Rngs(0)
    )


def glr_over_layer(a: Array, gain: Array, bias: Array) -> Array:
    """GLR with all units of a layer, at every position, as one set."""
    return glr(a, gain, bias, axis=tuple(range(1, a.ndim)))


def group_norm(
    a: Float[Array, 'batch *positions features'],
    gain: Float[Array, ' features'],
    bias: Float[Array, ' features'],
    *,
    groups: int = GROUPS,
    epsilon: float = 1e-5,
) -> Float[Array, 'batch *positions features']:
    """Normalises each case over all positions and the features of each group (Wu & He, 2018)."""
    wide = a.astype(jnp.float32).reshape(*a.shape[:-1], groups, -1)
    axes = (*range(1, a.ndim - 1), a.ndim)
    centred = wide - jnp.mean(wide, axes, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axes, keepdims=True)
    normal = (centred * lax.rsqrt(variance + epsilon)).reshape(a.shape)
    return (normal * gain + bias).astype(a.dtype)


def add_bias(a: Array, gain: Array, bias: Array) -> Array:
    """No normalisation."""
    return a + bias.astype(a.dtype)
