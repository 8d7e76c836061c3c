"""The normalisations being compared, each in the form that a block takes.

glr         statistics over the features at each position (default)
glr_layer   statistics over all units of the layer: positions and features
glr_step    statistics over all units at each time step: frequencies and features
batch       batch normalisation; each device uses the statistics of its own share
batch_sync  batch normalisation; all devices share their statistics
group       group normalisation: groups of features, over all positions
none        no normalisation, only a bias

Each reading of GLR can pass the level that it removes on to the units (`glr_with_level`).
"""

import dataclasses
import functools
from collections.abc import Callable

import jax.numpy as jnp
from flax import nnx
from jax import Array, lax
from jaxtyping import Float

from glr_jax.nn.config import GROUPS, NormName
from glr_jax.nn.glr import glr, glr_with_level

Summed = Float[Array, 'batch *positions features']
PerFeature = Float[Array, ' features']
# (summed inputs, gain, bias) -> inputs of the non-linearity; a norm that passes the level on also
# takes the weights of mean and deviation
NormFunction = Callable[..., Summed]


@dataclasses.dataclass(frozen=True)
class Norm:
    """A normalisation as blocks take it.

    Attributes:
      layer: makes the module that follows a convolution, from the number of features.
      step: normalises the summed inputs [batch, hidden] of one recurrent step. None: the norm
        cannot go inside a recurrence, so `layer` normalises the recurrence's inputs instead.
      passes_level: whether `step` also takes the weights of mean and deviation.
    """

    layer: Callable[[int], nnx.Module]
    step: NormFunction | None
    passes_level: bool = False


def make_norm(name: NormName, *, axis_name: str | None = None, pass_level: bool = False) -> Norm:
    """The norm with this name.

    Args:
      name: of the norm.
      axis_name: device axis over which `batch_sync` shares its statistics.
      pass_level: give the units the mean and deviation that GLR removes.

    Raises:
      ValueError: `pass_level` is set, but the norm is not a reading of GLR.
    """
    if pass_level:
        if name not in LAYERS:
            raise ValueError(f'norm {name} has no level to pass on; use one of {", ".join(LAYERS)}')
        layer = functools.partial(Normalization, LAYERS[name], passes_level=True)
        return Norm(layer, glr_with_level, passes_level=True)
    match name:
        case 'glr' | 'glr_layer' | 'glr_step':
            return Norm(functools.partial(Normalization, LAYERS[name]), glr)
        case 'batch':
            return Norm(batch_norm, None)
        case 'batch_sync':
            return Norm(functools.partial(batch_norm, axis_name=axis_name), None)
        case 'group':
            return Norm(functools.partial(Normalization, group_norm), group_norm)
        case 'none':
            return Norm(functools.partial(Normalization, add_bias), add_bias)


class Normalization(nnx.Module):
    """A pure norm with its parameters: one gain and one bias per feature.

    A norm that passes the level on also has one weight of the mean and one of the deviation.
    """

    def __init__(self, function: NormFunction, features: int, *, passes_level: bool = False):
        self.function, self.passes_level = function, passes_level
        self.gain = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        if passes_level:
            self.mean_weight = nnx.Param(jnp.zeros(features))
            self.deviation_weight = nnx.Param(jnp.zeros(features))

    def __call__(self, a: Summed) -> Summed:
        """Normalises the summed inputs of a layer."""
        level = (self.mean_weight[...], self.deviation_weight[...]) if self.passes_level else ()
        return self.function(a, self.gain[...], self.bias[...], *level)


def batch_norm(features: int, axis_name: str | None = None) -> nnx.BatchNorm:
    """Batch normalisation over every axis but the last, with running statistics for evaluation.

    Args:
      features: size of the last axis.
      axis_name: device axis over which the statistics are shared; None: each device uses its own.
    """
    return nnx.BatchNorm(
        features, momentum=0.9, epsilon=1e-5, axis_name=axis_name, rngs=nnx.Rngs(0)
    )


def glr_over_position(a: Summed, *parameters: PerFeature) -> Summed:
    """GLR with one mean and deviation per position, over its features."""
    return _glr(a, parameters, (a.ndim - 1,))


def glr_over_layer(a: Summed, *parameters: PerFeature) -> Summed:
    """GLR with one mean and deviation per case, over all positions and features of the layer."""
    return _glr(a, parameters, tuple(range(1, a.ndim)))


def glr_over_step(a: Summed, *parameters: PerFeature) -> Summed:
    """GLR with one mean and deviation per time step, over its frequencies and features.

    Where a step has no frequencies, as in 1-D convolutions, this is `glr_over_position`.
    """
    return _glr(a, parameters, tuple(range(min(2, a.ndim - 1), a.ndim)))


LAYERS: dict[str, NormFunction] = {
    'glr': glr_over_position,
    'glr_layer': glr_over_layer,
    'glr_step': glr_over_step,
}


def _glr(a: Summed, parameters: tuple[PerFeature, ...], axis: tuple[int, ...]) -> Summed:
    """GLR with a gain and a bias, or with these and the weights of mean and deviation."""
    function = glr if len(parameters) == 2 else glr_with_level
    return function(a, *parameters, axis=axis)


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
